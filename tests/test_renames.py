"""A thread that waits at a node goes on at the same node under another name; without being told so it is refused."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from operator import add
from typing import Annotated, Any, TypedDict

import pytest
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, Send, interrupt

from langgraph_durable import EnvironmentChangedError, EnvironmentChangedWarning, InvalidRequestError, durable
from langgraph_durable.runs import DurableGraph
from tests.conftest import Face, thread
from tests.durables import Stands, called, stands

Ran = list[str]


class State(TypedDict, total=False):
    """`log` is what every node adds its name to."""

    log: Annotated[list[str], add]


def node(name: str, ran: Ran, before: Callable[[State], Any] | None = None) -> Any:
    """A node that says that it ran, and adds its name and what `before` answers."""

    def run(state: State) -> Any:
        ran.append(name)
        said = None if before is None else before(state)
        return {"log": [name if said is None else f"{name}: {said}"]}

    return run


def asks(question: str) -> Callable[[State], Any]:
    """What a node does that asks somebody."""
    return lambda state: interrupt(question)


def fails(times: list[int]) -> Callable[[State], Any]:
    """What a node does that fails as often as that."""

    def run(state: State) -> Any:
        if times[0] > 0:
            times[0] -= 1
            raise ValueError("not now")

    return run


def app(face: Face, build: Callable[[StateGraph[Any]], None], **options: Any) -> DurableGraph:
    """A durable graph."""
    builder = StateGraph(State)
    build(builder)
    return durable(builder.compile(checkpointer=face.saver), **options)


def chain(ran: Ran, *names: str, **before: Callable[[State], Any]) -> Callable[[StateGraph[Any]], None]:
    """Nodes one after the other."""

    def build(builder: StateGraph[Any]) -> None:
        last = START
        for name in names:
            builder.add_node(name, node(name, ran, before.get(name)))
            builder.add_edge(last, name)
            last = name
        builder.add_edge(last, END)

    return build


def do(face: Face, graph: DurableGraph, name: str, *args: Any, **kwargs: Any) -> Any:
    return called(face.loop, graph, name, *args, **kwargs)


def log(face: Face, graph: DurableGraph) -> list[str]:
    """What the nodes have added."""
    return list(do(face, graph, "get_state", thread()).values.get("log", []))


CALLS: dict[str, Callable[[Face, DurableGraph, Any], Any]] = {
    "resume": lambda face, graph, answer: do(face, graph, "resume", "thread", resume=answer),
    "invoke": lambda face, graph, answer: do(face, graph, "invoke", Command(resume=answer), thread()),
    "goes on": lambda face, graph, answer: do(face, graph, "invoke", None, thread()),
}


@pytest.mark.parametrize("call", ["resume", "invoke"])
@pytest.mark.parametrize("named", [False, True])
def test_a_node_that_asks(face: Face, call: str, named: bool) -> None:
    """The answer reaches the node under its new name, also by the id that the question had before."""
    ran: Ran = []
    old = app(face, chain(ran, "a", "review", "c", review=asks("approve?")))
    do(face, old, "invoke", {"log": []}, thread())
    (question,) = do(face, old, "get_state", thread()).interrupts
    new = app(face, chain(ran, "a", "approve", "c", approve=asks("approve?")), renames={"review": "approve"})
    answer = {question.id: "yes"} if named else "yes"
    with pytest.warns(EnvironmentChangedWarning, match="renamed"):
        CALLS[call](face, new, answer)
    assert log(face, new) == ["a", "approve: yes", "c"]
    assert ran == ["a", "review", "approve", "c"]
    assert stands(face.saver) == Stands("idle", "", (), None)


@pytest.mark.parametrize("call", CALLS)
def test_a_node_that_is_gone(face: Face, call: str) -> None:
    """Going on at a node that is not there any more raises, instead of doing nothing, and changes nothing."""
    ran: Ran = []
    old = app(face, chain(ran, "a", "review", "c", review=asks("approve?")))
    do(face, old, "invoke", {"log": []}, thread())
    before = face.list(None)
    new = app(face, chain(ran, "a", "approve", "c", approve=asks("approve?")))
    with pytest.raises(EnvironmentChangedError, match=r"renames=\{") as raised:
        CALLS[call](face, new, "yes")
    (change,) = raised.value.report.of("pending")  # type: ignore[attr-defined]  # errors do not import reports
    assert (change.subject, change.name, change.change) == ("node", "review", "removed")
    assert face.list(None) == before
    assert do(face, old, "resume", "thread", resume="yes")["log"] == ["a", "review: yes", "c"]


def test_new_input_for_a_node_that_is_gone(face: Face) -> None:
    """New input throws away what waits, as it always did: there is nothing to refuse."""
    ran: Ran = []
    do(face, app(face, chain(ran, "a", "review", review=asks("approve?"))), "invoke", {"log": []}, thread())
    new = app(face, chain(ran, "a", "approve"), on_change="ignore")
    assert do(face, new, "invoke", {"log": ["more"]}, thread())["log"] == ["a", "more", "a", "approve"]


@pytest.mark.parametrize("new_input", [False, True])
def test_a_node_that_failed(face: Face, new_input: bool) -> None:
    """What had failed is tried again under its new name, before new input too; what had finished is not."""
    ran: Ran = []
    old = app(face, chain(ran, "a", "work", "c", work=fails([1])))
    with pytest.raises(ValueError, match="not now"):
        do(face, old, "invoke", {"log": []}, thread())
    new = app(face, chain(ran, "a", "job", "c"), renames={"work": "job"}, on_change="ignore")
    if new_input:
        do(face, new, "invoke", {"log": ["more"]}, thread())
        assert log(face, new) == ["a", "job", "c", "more", "a", "job", "c"]
    else:
        do(face, new, "resume", "thread")
        assert log(face, new) == ["a", "job", "c"]
    assert ran[:4] == ["a", "work", "job", "c"]


def test_what_is_recovered(face: Face) -> None:
    """`recover` takes a thread over whose node has a new name, and leaves it alone where that is not said."""
    ran: Ran = []
    with pytest.raises(ValueError, match="not now"):
        do(face, app(face, chain(ran, "a", "work", work=fails([1]))), "invoke", {"log": []}, thread())
    assert do(face, app(face, chain(ran, "a", "job"), on_change="ignore"), "recover", errors=True) == []
    new = app(face, chain(ran, "a", "job"), renames={"work": "job"}, on_change="ignore")
    (recovered,) = do(face, new, "recover", errors=True)
    assert recovered.status == "idle"
    assert log(face, new) == ["a", "job"]


def fan(ran: Ran, *names: str, end: str = "end", **before: Callable[[State], Any]) -> Callable[[StateGraph[Any]], None]:
    """Nodes beside each other, and one that waits for all of them."""

    def build(builder: StateGraph[Any]) -> None:
        for name in names:
            builder.add_node(name, node(name, ran, before.get(name)))
            builder.add_edge(START, name)
        builder.add_node(end, node(end, ran))
        builder.add_edge(list(names), end)

    return build


def test_neighbours_that_had_finished(face: Face) -> None:
    """What ran beside a node that asks is not run again, whether it or the node that asks has a new name."""
    ran: Ran = []
    old = app(face, fan(ran, "left", "right", right=asks("?")))
    do(face, old, "invoke", {"log": []}, thread())
    new = app(
        face,
        fan(ran, "links", "rechts", end="ende", rechts=asks("?")),
        renames={"left": "links", "right": "rechts", "end": "ende"},
        on_change="ignore",
    )
    ended = do(face, new, "resume", "thread", resume="yes")
    assert sorted(ended["log"]) == ["ende", "left", "rechts: yes"]
    assert sorted(ran) == ["ende", "left", "rechts", "right"]


def test_a_join_that_is_half_done(face: Face) -> None:
    """Who came to a join under an old name has come, and the join's node runs when the others have."""
    ran: Ran = []

    def build(quick: str, slow: str, end: str) -> Callable[[StateGraph[Any]], None]:
        def made(builder: StateGraph[Any]) -> None:
            builder.add_node(quick, node(quick, ran))
            builder.add_node("first", node("first", ran))
            builder.add_node(slow, node(slow, ran, asks("?")))
            builder.add_node(end, node(end, ran))
            builder.add_edge(START, quick)
            builder.add_edge(START, "first")
            builder.add_edge("first", slow)
            builder.add_edge([quick, slow], end)

        return made

    do(face, app(face, build("quick", "slow", "end")), "invoke", {"log": []}, thread())
    new = app(
        face,
        build("fast", "slow", "finish"),
        renames={"quick": "fast", "end": "finish"},
        on_change="ignore",
    )
    assert do(face, new, "resume", "thread", resume="yes")["log"][-1] == "finish"
    assert ran == [*sorted(ran[:2]), "slow", "slow", "finish"]


def test_packets_to_a_node(face: Face) -> None:
    """Packets that wait go to the node under its new name, those that were worked on do not."""
    ran: Ran = []

    def build(name: str, times: list[int]) -> Callable[[StateGraph[Any]], None]:
        def work(state: Any) -> Any:
            ran.append(f"{name} {state['n']}")
            if state["n"] == 1 and times[0]:
                times[0] -= 1
                raise ValueError("not now")
            return {"log": [f"{name} {state['n']}"]}

        def made(builder: StateGraph[Any]) -> None:
            builder.add_node("split", lambda state: {"log": ["split"]})
            builder.add_node(name, work)
            builder.add_edge(START, "split")
            builder.add_conditional_edges("split", lambda state: [Send(name, {"n": n}) for n in range(3)], [name])

        return made

    with pytest.raises(ValueError, match="not now"):
        do(face, app(face, build("work", [1])), "invoke", {"log": []}, thread())
    new = app(face, build("job", [0]), renames={"work": "job"}, on_change="ignore")
    ended = do(face, new, "resume", "thread")["log"]
    assert ended[0] == "split"
    assert [one.split()[1] for one in ended[1:]] == ["0", "1", "2"]
    assert "job 1" in ended
    assert [one for one in ran if one.startswith("job")] == [one for one in ended if one.startswith("job")]


def test_names_that_cannot_be(face: Face) -> None:
    """A new name that the graph does not have is refused, and so is an old one that it still has."""
    with pytest.raises(InvalidRequestError, match="there is no 'x'"):
        app(face, chain([], "a"), renames={"b": "x"})
    with pytest.raises(InvalidRequestError, match="there still is a 'a'"):
        app(face, chain([], "a", "b"), renames={"a": "b"})


def test_a_graph_in_a_node_that_was_under_way(face: Face) -> None:
    """A node that is a graph and had not finished cannot be given another name, and says so."""
    inner = StateGraph(State)
    chain([], "x", "y", y=asks("?"))(inner)

    def build(name: str) -> Callable[[StateGraph[Any]], None]:
        def made(builder: StateGraph[Any]) -> None:
            builder.add_node(name, inner.compile())
            builder.add_edge(START, name)

        return made

    do(face, app(face, build("sub")), "invoke", {"log": []}, thread())
    new = app(face, build("part"), renames={"sub": "part"}, on_change="ignore")
    with pytest.raises(InvalidRequestError, match="is a graph of its own"):
        do(face, new, "resume", "thread", resume="yes")


def test_an_earlier_checkpoint(face: Face) -> None:
    """Who goes on from an earlier checkpoint, by its id, finds the node under its new name there."""
    ran: Ran = []
    old = app(face, chain(ran, "a", "review", "c"))
    do(face, old, "invoke", {"log": []}, thread())
    where = face.call("checkpoint_before", "thread", "review")
    new = app(face, chain(ran, "a", "approve", "c"), renames={"review": "approve"}, on_change="ignore")
    assert do(face, new, "invoke", None, where)["log"] == ["a", "approve", "c"]
    assert do(face, new, "resume", "thread", from_node="review")["log"] == ["a", "approve", "c"]


def test_many_at_once(face: Face) -> None:
    """Threads that wait at once are each given their own answer."""
    ran: Ran = []
    names = [f"{number}" for number in range(4)]
    old = app(face, chain(ran, "a", "review", review=asks("?")))
    for name in names:
        do(face, old, "invoke", {"log": []}, thread(name))
    new = app(face, chain(ran, "a", "approve", approve=asks("?")), renames={"review": "approve"}, on_change="ignore")

    async def together() -> list[Any]:
        return await asyncio.gather(*(new.aresume(name, resume=name) for name in names))

    ended = asyncio.run(together()) if face.loop is None else face.loop.run_until_complete(together())
    assert [one["log"] for one in ended] == [["a", f"approve: {name}"] for name in names]
