"""A thread that waits at a node goes on at the same node under another name; without being told so it is refused."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from operator import add
from typing import Annotated, Any, TypedDict

import pytest
from langgraph.func import entrypoint, task
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, Send, interrupt

from langgraph_durable import EnvironmentChangedError, InvalidRequestError, StoreError, durable, resuming
from langgraph_durable.context import UsageLedger, thread_usage
from langgraph_durable.core import renames
from langgraph_durable.runs import DurableGraph
from tests.conftest import Face, thread
from tests.durables import Stands, called, stands
from tests.talks import says

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


def test_a_node_that_failed_behind_a_model_call(face: Face) -> None:
    """What its calls have used is kept beside the checkpoints, and is no graph that was under way."""
    ran: Ran = []
    fails_once, ledger = fails([1]), UsageLedger()

    def work(state: State) -> Any:
        says("Fine.").invoke("How?", {"callbacks": [ledger]})
        return fails_once(state)

    old = app(face, chain(ran, "a", "work", work=work))
    with pytest.raises(ValueError, match="not now"):
        do(face, old, "invoke", {"log": []}, thread())
    assert thread_usage(face.saver, "thread").calls == 1
    new = app(face, chain(ran, "a", "job"), renames={"work": "job"}, on_change="ignore")
    do(face, new, "resume", "thread")
    assert log(face, new) == ["a", "job"]
    assert thread_usage(face.saver, "thread").calls == 1


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
    assert "work 0" in ended
    assert sorted(one for one in ran if one.startswith("job")) == [one for one in ended if one.startswith("job")]


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
    with pytest.raises(InvalidRequestError, match="a graph or a function of its own"):
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


def test_a_function_that_was_under_way(face: Face) -> None:
    """A graph of functions that waits cannot be given another name; without being told so it is refused as well."""

    def made(name: str, **options: Any) -> DurableGraph:
        def work(n: int) -> str:
            return f"{n} {interrupt('?')}"

        async def awork(n: int) -> str:
            return f"{n} {interrupt('?')}"

        function = work if face.loop is None else awork
        function.__name__ = name
        return durable(entrypoint(checkpointer=face.saver)(function), **options)

    do(face, made("old"), "invoke", 1, thread())
    with pytest.raises(EnvironmentChangedError, match="node 'old' removed"):
        do(face, made("new"), "resume", "thread", resume="yes")
    with pytest.raises(InvalidRequestError, match="a graph or a function of its own"):
        do(face, made("new", renames={"old": "new"}), "resume", "thread", resume="yes")
    assert do(face, made("old"), "resume", "thread", resume="yes") == "1 yes"


def test_what_would_run(face: Face) -> None:
    """A dry run tells the new name, and stores nothing; where the run would be refused it is."""
    ran: Ran = []
    do(face, app(face, chain(ran, "a", "review", review=asks("?"))), "invoke", {"log": []}, thread())
    before = face.list(None)
    new = app(face, chain(ran, "a", "approve", approve=asks("?")), renames={"review": "approve"})
    assert do(face, new, "resume", "thread", dry_run=True, resume="yes").next == ("approve",)
    with pytest.raises(EnvironmentChangedError, match="node 'review' removed"):
        do(face, app(face, chain(ran, "a", "approve")), "resume", "thread", dry_run=True)
    assert face.list(None) == before


@pytest.mark.parametrize("at", range(4))
def test_a_store_that_fails_on_the_way(face: Face, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    """Wherever a move is cut off, the thread waits where it did, and moves the next time; nothing runs twice."""
    ran: Ran = []
    do(face, app(face, fan(ran, "left", "right", right=asks("?"))), "invoke", {"log": []}, thread())
    new = app(face, fan(ran, "left", "rechts", rechts=asks("?")), renames={"right": "rechts"}, on_change="raise")
    puts = [0]

    def failing(flow: Any) -> Any:
        def cut(*args: Any, **kwargs: Any) -> Any:
            puts[0] += 1
            if puts[0] == at + 1:
                raise StoreError("no more")
            return flow(*args, **kwargs)

        return cut

    with monkeypatch.context() as patch:
        for name in ("write_at", "put_at"):
            patch.setattr(renames, name, failing(getattr(renames, name)))
        with suppress(StoreError):
            do(face, new, "resume", "thread", resume="yes")
    info = face.call("get_thread", "thread")
    if at < 3:
        assert (info.status, info.reason, info.nodes) == ("interrupted", "node", ("right",))
        do(face, new, "resume", "thread", resume="yes")
    assert sorted(log(face, new)) == ["end", "left", "rechts: yes"]
    assert sorted(ran) == ["end", "left", "rechts", "right"]


@pytest.mark.parametrize("how", ["edge", "packet"])
def test_where_a_finished_neighbour_leads_to(face: Face, how: str) -> None:
    """A node that is to run after one that had finished, beside one that asks, is found under its new name."""
    ran: Ran = []

    def build(name: str) -> Callable[[StateGraph[Any]], None]:
        def made(builder: StateGraph[Any]) -> None:
            builder.add_node("a", node("a", ran, asks("?")))
            builder.add_node("b", node("b", ran))
            builder.add_node(name, node(name, ran))
            builder.add_edge(START, "a")
            builder.add_edge(START, "b")
            if how == "edge":
                builder.add_edge("b", name)
            else:
                builder.add_conditional_edges("b", lambda state: [Send(name, {})], [name])

        return made

    do(face, app(face, build("old")), "invoke", {"log": []}, thread())
    with pytest.raises(EnvironmentChangedError, match="node 'old' removed"):
        do(face, app(face, build("new")), "resume", "thread", resume="yes")
    new = app(face, build("new"), renames={"old": "new"}, on_change="raise")
    assert do(face, new, "resume", "thread", resume="yes")["log"] == ["a: yes", "b", "new"]
    assert ran.count("b") == 1


def test_a_deferred_node(face: Face) -> None:
    """A node that waits until all others have run is found under its new name, and missed where it is not told."""
    ran: Ran = []

    def build(name: str) -> Callable[[StateGraph[Any]], None]:
        def made(builder: StateGraph[Any]) -> None:
            builder.add_node("a", node("a", ran))
            builder.add_node("b", node("b", ran))
            builder.add_node("c", node("c", ran, asks("?")))
            builder.add_node(name, node(name, ran), defer=True)
            builder.add_edge(START, "a")
            builder.add_edge(START, "b")
            builder.add_edge("b", "c")
            builder.add_edge("a", name)
            builder.add_edge("c", name)

        return made

    do(face, app(face, build("end")), "invoke", {"log": []}, thread())
    with pytest.raises(EnvironmentChangedError, match="node 'end' removed"):
        do(face, app(face, build("fin")), "resume", "thread", resume="yes")
    new = app(face, build("fin"), renames={"end": "fin"}, on_change="raise")
    assert do(face, new, "resume", "thread", resume="yes")["log"] == ["a", "b", "c: yes", "fin"]


def test_a_router_that_raised(face: Face) -> None:
    """The node whose router raised runs again under its new name, and what it leads to is not skipped."""
    ran: Ran = []
    times = [1]

    def build(name: str) -> Callable[[StateGraph[Any]], None]:
        def route(state: State) -> str:
            fails(times)(state)
            return "c"

        def made(builder: StateGraph[Any]) -> None:
            builder.add_node(name, node(name, ran))
            builder.add_node("c", node("c", ran))
            builder.add_edge(START, name)
            builder.add_conditional_edges(name, route, ["c"])

        return made

    with pytest.raises(ValueError, match="not now"):
        do(face, app(face, build("work")), "invoke", {"log": []}, thread())
    new = app(face, build("job"), renames={"work": "job"}, on_change="ignore")
    assert do(face, new, "invoke", None, thread())["log"] == ["job", "c"]
    assert ran == ["work", "job", "c"]


def joined(old: list[str], new: Any) -> list[str]:
    """What a channel of changes has after those of a superstep."""
    return [*old, *(part for one in new for part in one)]


def test_a_channel_of_changes(face: Face) -> None:
    """A `DeltaChannel` is rebuilt from what was written once, though it was written again beside a moved checkpoint."""
    delta = pytest.importorskip("langgraph.channels.delta")
    ran: Ran = []

    changes: Any = TypedDict("changes", {"log": Annotated[list[str], delta.DeltaChannel(joined)]}, total=False)

    def build(name: str) -> DurableGraph:
        builder = StateGraph(changes)
        # Without annotations: those of `node` are of another state.
        builder.add_node("pre", lambda state: node("pre", ran)(state))
        builder.add_node("pay", lambda state: node("pay", ran)(state))
        builder.add_node(name, lambda state: node(name, ran, asks("?"))(state))
        builder.add_edge(START, "pre")
        builder.add_edge("pre", "pay")
        builder.add_edge("pre", name)
        renames = {} if name == "review" else {"review": name}
        return durable(builder.compile(checkpointer=face.saver), renames=renames)

    do(face, build("review"), "invoke", {"log": ["in"]}, thread())
    ended = do(face, build("approve"), "resume", "thread", resume="yes")["log"]
    assert sorted(ended) == ["approve: yes", "in", "pay", "pre"]


@pytest.mark.parametrize("beside", ["graph", "task"])
def test_what_would_be_lost(face: Face, beside: str) -> None:
    """What a graph or a task inside of a node has done is kept by ids that a move would change: it is refused."""
    ran: Ran = []
    inner = StateGraph(State)
    chain(ran, "x", "y", y=asks("inner?"))(inner)

    @task
    def charge() -> str:
        ran.append("charge")
        return "paid"

    @task
    async def acharge() -> str:
        ran.append("charge")
        return "paid"

    async def acharges(state: State) -> Any:
        return {"log": [f"{await acharge()} {interrupt('?')}"]}

    def build(name: str) -> Callable[[StateGraph[Any]], None]:
        def made(builder: StateGraph[Any]) -> None:
            if beside == "graph":
                builder.add_node(name, node(name, ran, asks("?")))
                builder.add_node("sub", inner.compile())
                builder.add_edge(START, "sub")
            elif face.loop is None:
                builder.add_node(name, lambda state: {"log": [f"{charge().result()} {interrupt('?')}"]})
            else:
                builder.add_node(name, acharges)
            builder.add_edge(START, name)

        return made

    do(face, app(face, build("review")), "invoke", {"log": []}, thread())
    before = list(ran)
    with pytest.raises(InvalidRequestError, match="is, or runs beside, a graph or a function"):
        do(face, app(face, build("approve"), renames={"review": "approve"}), "invoke", None, thread())
    assert ran == before


def test_two_names_for_one(face: Face) -> None:
    """Names of several generations may all have become one; two nodes that wait at once cannot."""
    ran: Ran = []
    do(face, app(face, fan(ran, "a", "b", a=asks("?"), b=asks("?"))), "invoke", {"log": []}, thread())
    new = app(face, chain(ran, "x", x=asks("?")), renames={"a": "x", "b": "x"}, on_change="ignore")
    with pytest.raises(InvalidRequestError, match="all wait"):
        do(face, new, "invoke", None, thread())
    assert sorted(face.call("get_thread", "thread").nodes) == ["a", "b"]
    do(face, app(face, chain(ran, "a", a=asks("?"))), "invoke", {"log": []}, thread("other"))
    assert do(face, new, "resume", "other", resume="yes")["log"] == ["x: yes"]
    with pytest.raises(InvalidRequestError, match="a dict of new names"):
        app(face, chain(ran, "x"), renames=["x"])


def test_answers_one_after_the_other(face: Face) -> None:
    """Questions are answered by the ids that they had before, in the run that moves them and in later ones."""
    ran: Ran = []
    do(face, app(face, fan(ran, "left", "right", left=asks("l?"), right=asks("r?"))), "invoke", {"log": []}, thread())
    old = app(face, fan(ran, "left", "right"))
    ids = {one.value: one.id for one in do(face, old, "get_state", thread()).interrupts}
    new = app(face, fan(ran, "links", "right", links=asks("l?"), right=asks("r?")), renames={"left": "links"})
    do(face, new, "resume", "thread", resume={ids["l?"]: "L"})
    assert stands(face.saver) == Stands("interrupted", "node", ("right",), None)
    assert sorted(do(face, new, "resume", "thread", resume={ids["r?"]: "R"})["log"]) == ["end", "links: L", "right: R"]
    with pytest.raises(InvalidRequestError, match="no such answer"):
        do(face, new, "resume", "thread", resume={ids["r?"]: "R"})


@pytest.mark.parametrize("call", ["resume", "invoke"])
def test_an_answer_for_nobody(face: Face, call: str) -> None:
    """An answer that nobody has asked for is refused, and the thread stands as it did, with its failure."""
    ran: Ran = []
    with pytest.raises(ValueError, match="not now"):
        do(face, app(face, chain(ran, "a", "work", work=fails([1]))), "invoke", {"log": []}, thread())
    before = face.list(None), face.call("get_thread", "thread")
    new = app(face, chain(ran, "a", "job"), renames={"work": "job"})
    with pytest.raises(InvalidRequestError, match="no such answer"):
        CALLS[call](face, new, "yes")
    assert (face.list(None), face.call("get_thread", "thread")) == before
    assert do(face, new, "resume", "thread")["log"] == ["a", "job"]


def test_new_input_that_is_refused(face: Face) -> None:
    """New input that an unfinished thread refuses does not move it either."""
    ran: Ran = []
    with pytest.raises(ValueError, match="not now"):
        do(face, app(face, chain(ran, "a", "work", work=fails([1]))), "invoke", {"log": []}, thread())
    before = face.list(None), face.call("get_thread", "thread")
    new = app(face, chain(ran, "a", "job"), renames={"work": "job"}, on_crash="fail")
    with pytest.raises(InvalidRequestError, match="not finished"):
        do(face, new, "invoke", {"log": ["more"]}, thread())
    assert (face.list(None), face.call("get_thread", "thread")) == before


def test_a_run_that_ends_between_the_move_and_its_begin(face: Face, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that was moved and not run is not busy for ever: it waits to be gone on with at the new name."""
    ran: Ran = []
    with pytest.raises(ValueError, match="not now"):
        do(face, app(face, chain(ran, "a", "work", work=fails([1]))), "invoke", {"log": []}, thread())
    new = app(face, chain(ran, "a", "job"), renames={"work": "job"})

    def refuses(*args: Any) -> Any:
        raise StoreError("no more")

    with monkeypatch.context() as patch:
        patch.setattr(resuming, "skipped", refuses)
        with pytest.raises(StoreError):
            do(face, new, "invoke", None, thread())
    assert stands(face.saver) == Stands("interrupted", "cancelled", ("job",), None)
    assert do(face, new, "resume", "thread")["log"] == ["a", "job"]
    assert ran == ["a", "work", "job"]
