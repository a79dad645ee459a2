"""How a thread stands, from what LangGraph stores alone: nobody told the saver anything else."""

from __future__ import annotations

import asyncio
import os
import re
import sys
import time
from typing import Any, TypeAlias

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import Command, RetryPolicy, Send, interrupt

from langgraph_durable import (
    InvalidRequestError,
    LeaseLostError,
    RunCancelledError,
    SqliteSaver,
    ThreadDeletedError,
    ThreadInfo,
    processes,
)
from langgraph_durable.core import status
from langgraph_durable.core.marks import due, failure, happened
from langgraph_durable.core.records import Event, Mark, Standing
from langgraph_durable.core.superstep import Before
from langgraph_durable.processes import _started, alive, described, here
from langgraph_durable.saver import DurableSaver
from tests.conftest import Face, checkpoint, saver_at, thread
from tests.graphs import DURABILITIES, Running
from tests.processes import PATIENCE, Pipe, child
from tests.scenarios import SCENARIOS

Node: TypeAlias = Any


def say(text: str) -> Node:
    """A node that says something."""
    return lambda state: {"messages": [AIMessage(text)]}


def chain(saver: DurableSaver | None, *nodes: tuple[str, Node], **compiled: Any) -> Any:
    """A graph of nodes one after the other."""
    builder = StateGraph(MessagesState)
    before = START
    for name, node in nodes:
        builder.add_node(name, node)
        builder.add_edge(before, name)
        before = name
    return builder.compile(checkpointer=saver, **compiled)


def fails(state: Any) -> Any:
    """A node that raises."""
    raise ZeroDivisionError("nothing to divide by")


def asks(state: Any) -> Any:
    """A node that asks somebody."""
    return {"messages": [AIMessage(str(interrupt("go on?")))]}


def found(face: Face, thread_id: str = "thread") -> ThreadInfo:
    """How a thread stands that has to be there."""
    info = face.call("get_thread", thread_id)
    assert isinstance(info, ThreadInfo)
    return info


def run(face: Face, graph: Any, value: Any = "hi", thread_id: str = "thread", **kwargs: Any) -> Any:
    """What a graph answers to a message, or to anything else."""
    running = Running(graph, face.loop, thread_id=thread_id)
    return running.invoke({"messages": [HumanMessage(value)]} if isinstance(value, str) else value, **kwargs)


# -- what follows from a checkpoint ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SCENARIOS)
@pytest.mark.parametrize("durability", DURABILITIES)
def test_what_is_next(name: str, durability: Any) -> None:
    """The nodes that are next after a checkpoint are those that LangGraph finds, whatever the graph has."""
    with SqliteSaver(":memory:") as saver:
        graph, act = SCENARIOS[name](saver)
        running = Running(graph, None, durability)
        act(running)
        for stored in running.stored():
            first = stored.metadata["source"] == "input" and name == "functional" and stored.metadata["step"] == -1
            expected = {task.name for task in running.graph.get_state(stored.config).tasks}
            assert set(due(stored.checkpoint)) == ({START} if first else expected)


def test_nodes_that_wait_for_all() -> None:
    """A node behind a join is next when all of the others have been, and a deferred one when nothing else is."""
    with SqliteSaver(":memory:") as saver:
        builder = StateGraph(MessagesState)
        for name in ("a", "b+c", "slow", "joined"):
            builder.add_node(name, say(name))
        builder.add_node("last", say("last"), defer=True)
        builder.add_edge(START, "a")
        builder.add_edge(START, "b+c")
        builder.add_edge("b+c", "slow")
        builder.add_edge(["a", "slow"], "joined")
        builder.add_edge("joined", "last")
        builder.add_edge("a", "last")
        graph = builder.compile(checkpointer=saver)
        running = Running(graph, None)
        # LangGraph goes on writing to a join that is on its way to the saver, unless it waits for that.
        running.invoke({"messages": []}, durability="sync")
        nexts = []
        for stored in running.stored()[::-1]:
            expected = {task.name for task in graph.get_state(stored.config).tasks}
            assert set(due(stored.checkpoint)) == expected
            nexts.append(expected)
        assert nexts == [{START}, {"a", "b+c"}, {"slow"}, {"joined"}, {"last"}, set()]


def test_a_send_says_where_it_goes() -> None:
    """Packets that are waiting name their nodes, and one that fails is told by its node."""
    with SqliteSaver(":memory:") as saver:
        builder = StateGraph(MessagesState)
        builder.add_node("split", say("split"))
        builder.add_node("fine", say("fine"))
        builder.add_node("bad", fails)
        builder.add_edge(START, "split")
        builder.add_conditional_edges("split", lambda state: [Send("fine", state), Send("bad", state)], ["fine", "bad"])
        running = Running(builder.compile(checkpointer=saver), None)
        with pytest.raises(ZeroDivisionError):
            running.invoke({"messages": []}, durability="sync")
        info = saver.get_thread("thread")
        assert info is not None
        assert (info.status, info.nodes) == ("error", ("bad",))
        assert set(due(running.stored()[0].checkpoint)) == {"fine", "bad"}


# -- the table -------------------------------------------------------------------------------------------------------


def test_the_table_has_every_move() -> None:
    """What a checkpoint, writes and the end of a run can be is in the table, and nothing else is."""
    made = {"ran", "updated", "copied", "finished", "completed"}
    said = {"raised", "router", "asked", "answered", "cancelled"}
    ends = {"breakpoint", "ctrl-c", "sigterm", "failed", "gave up"}
    assert set(status.MOVES) == made | said | ends
    assert {move.status for move in status.MOVES.values()} == set(status.STATUSES) - {"crashed"}


@pytest.mark.parametrize(
    ("writes", "expected"),
    [
        ([("messages", 1)], None),
        ([("__no_writes__", None)], None),
        ([("__error__", ValueError("x"))], "raised"),
        ([("__error__", "ValueError('x')")], "raised"),
        ([("messages", 1), ("__error__", ValueError("x"))], "router"),
        ([("__error__", ValueError("x")), ("__error_source_node__", "n")], None),
        ([("__error__", asyncio.CancelledError())], "cancelled"),
        ([("__error__", "CancelledError()")], "cancelled"),
        ([("__error__", RuntimeError("CancelledError(x)"))], "raised"),
        ([("__interrupt__", [1])], "asked"),
        ([("__interrupt__", [1]), ("__resume__", [2])], "asked"),
        ([("__resume__", 1)], "answered"),
        ([("messages", 1), ("__resume__", [1])], None),
    ],
)
def test_what_writes_tell(writes: Any, expected: str | None) -> None:
    """The writes of a task say that it failed, asks or was answered; most say nothing."""
    said = happened(writes, "~__pregel_pull, tools", None)
    assert (said and said.move, said and said.node) == (expected, expected and "tools")


def test_the_node_of_a_packet() -> None:
    """A packet's task has a number, and what was before it names the nodes."""
    before = Before("1", 0, {}, ("a", "b"))
    said = happened([("__error__", ValueError())], "~__pregel_push, 0000000001", before)
    assert said is not None
    assert said.node == "b"
    # A function may catch what its task raised; what gets out is told by the function itself.
    assert happened([("__error__", ValueError())], "~__pregel_push, ~__pregel_pull, flow, 1", before) is None
    for unknown in ("~__pregel_push, 0000000007", ""):
        said = happened([("__error__", ValueError())], unknown, before)
        assert said is not None
        assert said.node == ""


def put(old: Standing | None, checkpoint_id: str, *following: str, **more: Any) -> Standing:
    """The standing after a checkpoint."""
    move = "ran" if following else "finished"
    made = Mark(more.pop("time", 1.0), move, following, 0, 0, "me")
    return status.put(old, made, checkpoint_id, more.pop("parent", None), None, 10, again=more.pop("again", False))


def event(move: str, *nodes: str, time: float = 2.0) -> Event:
    """Something that happened."""
    return Event(time, move, nodes, None, "me")


def test_of_several_tasks_the_failure_counts() -> None:
    """When a task fails, its neighbours are cancelled, which does not hide why."""
    standing = put(None, "1", "a", "b")
    failed = status.wrote(standing, event("raised", "a"), "1", 0)
    cancelled = status.wrote(failed, event("cancelled", "b"), "1", 0)
    assert cancelled is not None
    assert (cancelled.status, cancelled.nodes) == ("error", ("a",))
    both = status.wrote(failed, event("raised", "b"), "1", 0)
    assert both is not None
    assert both.nodes == ("a", "b")


def test_what_overtakes_its_checkpoint_keeps_the_worst() -> None:
    """Of two events that come before their checkpoint, the failure is kept."""
    standing = put(None, "1", "a")
    for moves in (("raised", "asked"), ("asked", "raised")):
        early: Standing | None = standing
        for move in moves:
            early = status.wrote(early, event(move, "b"), "2", 0)
        assert early is not None
        assert early.status == "busy"
        assert put(early, "2", "b").status == "error"


def test_who_is_gone() -> None:
    """Busy is crashed when who made it so is gone; a lease that has expired is over, whoever holds it."""
    busy, idle = put(None, "1", "a"), put(None, "1")
    assert status.seen(busy, expires=None, alive=True, now=10.0).status == "busy"
    assert status.seen(busy, expires=None, alive=None, now=10.0).status == "busy"
    assert status.seen(busy, expires=None, alive=False, now=10.0) == ("crashed", "owner gone")
    assert status.seen(idle, expires=None, alive=False, now=10.0).status == "idle"
    assert status.seen(idle, expires=20.0, alive=True, now=10.0).status == "busy"
    assert status.seen(idle, expires=20.0, alive=False, now=10.0).status == "crashed"
    for living in (True, None):
        assert status.seen(busy, expires=20.0, alive=living, now=20.0) == ("crashed", "lease expired")


# -- processes -------------------------------------------------------------------------------------------------------


def until_gone(process: str) -> None:
    """Return once a process that has closed its pipe has come to its end."""
    end = time.monotonic() + PATIENCE
    while alive(process) and time.monotonic() < end:
        time.sleep(0.001)


def names_itself(pipe: Pipe) -> None:
    """A process that says which one it is."""
    pipe.send(here())


def test_a_process_is_known_by_more_than_its_number() -> None:
    """This process is alive; one that has ended is not, nor one of its number that started at another time."""
    assert alive(here())
    with child(names_itself) as runner:
        (ended,) = runner.rest()
        until_gone(ended)
    assert ended.rsplit("/", 2)[0] == here().rsplit("/", 2)[0]
    assert alive(ended) is False
    assert alive(here()[:-1]) is False
    assert re.fullmatch(r"process \d+ on .+", described(here()))


def test_a_process_of_another_machine_cannot_be_asked_after() -> None:
    """Whether it is alive is not known of a process that is elsewhere, or of what names none."""
    for unknown in ("elsewhere/boot/1/1/1", "x" + here(), "", "nonsense", "a/b"):
        assert alive(unknown) is None


@pytest.mark.skipif(sys.platform != "linux", reason="proc is Linux's")
def test_a_process_that_may_not_be_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where proc hides the processes of others (`hidepid`), one that is there is not taken for one that is gone."""
    number = os.getppid()
    other = f"{here().rsplit('/', 2)[0]}/{number}/{_started(number)}"
    assert alive(other)

    def hidden(path: Any, *args: Any) -> Any:
        if str(path).startswith("/proc/"):
            raise FileNotFoundError(path)
        return open(path, *args)

    monkeypatch.setattr(processes, "open", hidden, raising=False)
    assert alive(other) is None


def test_what_ends_a_run_is_not_tried_again() -> None:
    """A retry policy takes an error of the network for one that passes; a lost lease and a cancelled run are not."""
    again = RetryPolicy().retry_on
    assert callable(again)
    for kind in (RunCancelledError, LeaseLostError, ThreadDeletedError):
        assert not again(kind("it is over"))


# -- what a plain graph leaves behind --------------------------------------------------------------------------------


@pytest.mark.parametrize("durability", DURABILITIES)
def test_a_run_that_came_to_its_end(face: Face, durability: Any) -> None:
    """A thread whose run came to its end is idle, and says how large it is and when it was used."""
    run(face, chain(face.saver, ("a", say("a")), ("b", say("b"))), durability=durability)
    info = found(face)
    assert (info.status, info.reason, info.nodes, info.error, info.owner) == ("idle", "", (), None, None)
    assert (info.step, info.messages, info.checkpoints) == (2, 3, 1 if durability == "exit" else 4)
    assert info.created is not None
    assert info.updated is not None
    assert info.created <= info.updated
    assert info.bytes > 100
    stored = face.get_tuple(thread())
    assert stored is not None
    assert info.checkpoint_id == stored.checkpoint["id"]
    assert "status" not in stored.metadata


@pytest.mark.parametrize("durability", DURABILITIES)
def test_a_node_that_raised(face: Face, durability: Any) -> None:
    """A thread in error says which node it was, what it raised and where, until a run gets past it."""
    good = chain(face.saver, ("a", say("a")), ("b", say("b")))
    bad = chain(face.saver, ("a", say("a")), ("b", fails))
    with pytest.raises(ZeroDivisionError):
        run(face, bad, durability=durability)
    info = found(face)
    assert (info.status, info.reason, info.nodes) == ("error", "exception", ("b",))
    assert info.error is not None
    assert (info.error.type, info.error.message, info.error.nodes) == (
        "ZeroDivisionError",
        "nothing to divide by",
        ("b",),
    )
    assert "in fails" in info.error.traceback or durability == "exit"
    (failed,) = face.list(None, filter={"status": "error"})
    assert failed.checkpoint["id"] == info.checkpoint_id
    run(face, good, None, durability=durability)
    assert (found(face).status, found(face).error) == ("idle", None)
    assert [one.checkpoint["id"] for one in face.list(thread(), filter={"status": "error"})] == [info.checkpoint_id]


@pytest.mark.parametrize("durability", DURABILITIES)
def test_a_node_that_asks(face: Face, durability: Any) -> None:
    """A thread whose node waits for somebody is interrupted by it, and is idle when it was answered."""
    graph = chain(face.saver, ("a", say("a")), ("b", asks))
    run(face, graph, durability=durability)
    assert (found(face).status, found(face).reason, found(face).nodes) == ("interrupted", "node", ("b",))
    run(face, graph, Command(resume="yes"), durability=durability)
    assert found(face).status == "idle"


def test_a_router_that_raised(face: Face) -> None:
    """A thread stays in error when what should have come after a router is skipped, which LangGraph does not tell."""
    builder = StateGraph(MessagesState)
    builder.add_node("a", say("a"))
    builder.add_node("b", say("b"))
    builder.add_edge(START, "a")
    builder.add_conditional_edges("a", fails, ["b", END])
    graph = builder.compile(checkpointer=face.saver)
    with pytest.raises(ZeroDivisionError):
        run(face, graph)
    assert (found(face).status, found(face).reason, found(face).nodes) == ("error", "router", ("a",))
    run(face, graph, None)
    assert Running(graph, face.loop).state().next == ()
    assert (found(face).status, found(face).nodes) == ("error", ("a",))
    assert found(face).error is not None
    with pytest.raises(ZeroDivisionError):
        run(face, graph, "another turn")
    assert found(face).status == "error"


def test_a_state_that_somebody_changed(face: Face) -> None:
    """A thread whose state was updated waits for somebody to go on with it, if anything is next."""
    graph = chain(face.saver, ("a", say("a")), ("b", asks), ("c", say("c")))
    run(face, graph)
    running = Running(graph, face.loop)
    running.update({"messages": [AIMessage("instead")]}, as_node="b")
    assert (found(face).status, found(face).reason, found(face).nodes) == ("interrupted", "update", ("c",))
    running.update({"messages": [AIMessage("instead")]}, as_node="c")
    assert found(face).status == "idle"


def dies(pipe: Pipe, place: str) -> None:
    """A process that ends without a word in the second node of a run."""

    def die(state: Any) -> Any:
        info = saver.get_thread("thread")
        pipe.send(here())
        pipe.send(info and info.status)
        os._exit(9)

    saver = saver_at(place)
    graph = chain(saver, ("a", say("a")), ("b", die))
    graph.invoke({"messages": []}, thread(), durability="sync")


def test_a_process_that_died(shared: str) -> None:
    """A thread is busy while the process that runs it is there, and crashed when it is gone."""
    with child(dies, shared) as runner:
        name, status = runner.rest()
        assert status == "busy"
        until_gone(name)
    with saver_at(shared) as saver:
        info = saver.get_thread("thread")
        assert info is not None
        assert (info.status, info.reason, info.nodes) == ("crashed", "owner gone", ("b",))
        assert info.owner is not None
        assert info.owner.startswith("process ")
        assert [one.thread_id for one in saver.list_threads(status="crashed")] == ["thread"]
        assert [one.metadata["step"] for one in saver.list(None, filter={"status": "crashed"})] == [1]
        assert list(saver.list(None, filter={"status": "busy"})) == []


# -- what was asked for ------------------------------------------------------------------------------------------------


def test_a_list_of_threads(face: Face) -> None:
    """Threads are listed by status, by metadata, in an order and page by page."""
    good = chain(face.saver, ("a", say("a")))
    bad = chain(face.saver, ("a", fails))
    for number in range(7):
        run(face, good, thread_id=f"good {number}", config=_config(f"good {number}", user=number % 2))
    with pytest.raises(ZeroDivisionError):
        run(face, bad, thread_id="bad")
    assert [one.thread_id for one in face.call("list_threads")][:2] == ["bad", "good 6"]
    assert [one.thread_id for one in face.call("list_threads", status="error")] == ["bad"]
    assert len(face.call("list_threads", status=["idle", "busy"])) == 7
    assert {one.thread_id for one in face.call("list_threads", metadata={"user": 1})} == {
        f"good {number}" for number in (1, 3, 5)
    }
    names: list[str] = []
    cursor = None
    while True:
        page = face.call("list_threads", order="id", limit=3, cursor=cursor, status="idle")
        names += [one.thread_id for one in page]
        assert len(page) <= 3
        cursor = page.cursor
        if cursor is None:
            break
    assert names == [f"good {number}" for number in range(7)]
    assert "<td>bad</td>" in face.call("list_threads")._repr_html_()


def test_threads_that_cannot_be_meant(face: Face) -> None:
    """A status, an order, a limit or a cursor that there is not is told so; a thread that is not there is None."""
    for wrong in ({"status": "done"}, {"order": "size"}, {"limit": -1}, {"cursor": "x"}):
        with pytest.raises(InvalidRequestError):
            face.call("list_threads", **wrong)
    assert face.call("get_thread", "nobody") is None
    assert face.call("request_cancel", "nobody") is False
    assert len(face.call("list_threads")) == 0


def test_the_checkpoint_before_a_node(face: Face) -> None:
    """A graph that is given the checkpoint before a node goes on from there, without anything else."""
    ran: list[str] = []
    graph = chain(face.saver, *((name, _noted(name, ran)) for name in ("a", "b", "c")))
    run(face, graph)
    run(face, graph)
    config = face.call("checkpoint_before", "thread", "b")
    ran.clear()
    assert len(Running(graph, face.loop).invoke(None, config)["messages"]) == 8
    assert ran == ["b", "c"]
    first = face.call("checkpoint_before", "thread", "b", 0)
    assert len(Running(graph, face.loop).invoke(None, first)["messages"]) == 4
    for node, occurrence in (("nowhere", -1), ("b", 9)):
        with pytest.raises(InvalidRequestError, match=node):
            face.call("checkpoint_before", "thread", node, occurrence)


def test_a_status_of_the_users_own(face: Face) -> None:
    """Metadata that have a status of their own are found by it, and come back with it."""
    face.put(thread("own"), checkpoint(), {"source": "loop", "step": 1, "status": "error"})
    face.put(thread("tagged"), checkpoint(), {"source": "loop", "step": 1})
    assert [one.metadata.get("status") for one in face.list(None, filter={"status": "error"})] == ["error"]
    assert [one.config["configurable"]["thread_id"] for one in face.list(None, filter={"status": "idle"})] == ["tagged"]


def test_what_an_exception_says_is_bounded() -> None:
    """Long messages and tracebacks are cut, and an exception that cannot be told is named."""

    class Odd(Exception):
        def __str__(self) -> str:
            raise ValueError("no")

    def deep(left: int) -> None:
        if not left:
            raise ValueError("x" * 10_000 + "\ud800")
        deep(left - 1)

    with pytest.raises(ValueError, match="x") as caught:
        deep(300)
    told = failure(caught.value)
    assert len(told.message) <= 2000
    assert len(told.traceback) <= 17_000
    assert told.type == "ValueError"
    assert failure(Odd()).message == "Odd"
    assert failure("KeyError('x')") == ("KeyError", "KeyError('x')", "")


def _noted(name: str, ran: list[str]) -> Node:
    def node(state: Any) -> Any:
        ran.append(name)
        return {"messages": [AIMessage(name)]}

    return node


def _config(thread_id: str, **metadata: Any) -> Any:
    return {"configurable": {"thread_id": thread_id}, "metadata": metadata}
