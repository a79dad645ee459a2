"""The records of a thread stay with it whatever becomes of its checkpoints, go with it, and touch nothing else."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite import SqliteSaver as OfficialSaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command, interrupt

from langgraph_durable import FileSaver, InvalidRequestError, RunCancelledError, SqliteSaver, copy, durable
from langgraph_durable.context import UsageLedger, thread_usage
from langgraph_durable.saver import DurableSaver
from tests.conftest import KEPT, Face
from tests.paid_models import INPUT, Answer, Outage, PaidModel, asking, in_coroutines, running, saver_of, sums, usage

Loop = asyncio.AbstractEventLoop | None


@pytest.fixture(params=KEPT)
def saver(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[DurableSaver]:
    """A saver of this package."""
    with saver_of(request.param, tmp_path) as made:
        assert isinstance(made, DurableSaver)
        yield made


def test_pruning_keeps_what_was_used(saver: DurableSaver) -> None:
    """Records stay when only the newest checkpoints do, and are recorded further."""
    run = running(asking(PaidModel(), saver), UsageLedger())
    for _ in range(2):
        run.invoke(INPUT)
    saver.prune(["thread"], strategy="keep_latest")
    assert sums(usage(saver)) == (2, 20, 10)
    run.invoke(INPUT)
    assert sums(usage(saver)) == (3, 30, 15)
    assert saver.check().damage == ()


@pytest.mark.parametrize("name", ["usage", "summaries", "durable"])
def test_a_subgraph_has_its_own_namespace(saver: DurableSaver, name: str, loop: Loop) -> None:
    """A subgraph that is kept and the records of its thread are apart, whatever the name of its node is."""
    inner = StateGraph(MessagesState).add_node("wait", lambda state: {"messages": [("ai", interrupt("go on?"))]})
    kept = inner.add_edge(START, "wait").compile(checkpointer=True)
    first = asking(PaidModel(), saver, loop).builder  # type: ignore[attr-defined]  # it is a compiled StateGraph
    builder = StateGraph(MessagesState).add_node("ask", first.nodes["ask"].runnable).add_node(name, kept)
    graph = builder.add_edge(START, "ask").add_edge("ask", name).compile(checkpointer=saver)
    run = running(graph, UsageLedger(), loop)
    for turn in (1, 2):
        run.invoke(INPUT)
        saver.prune(["thread"], strategy="keep_latest")
        ended = run.invoke(Command(resume="yes"))
        saver.prune(["thread"], strategy="keep_latest")
        assert ended["messages"][-1].text == "yes"
        assert sums(usage(saver, loop)) == (turn, 10 * turn, 5 * turn)
    inside = run.state({"configurable": {"thread_id": "thread", "checkpoint_ns": name}})
    assert inside.values["messages"][-1].text == "yes"
    assert saver.check().damage == ()


def test_what_was_deleted_was_not_used(saver: DurableSaver, loop: Loop) -> None:
    """A thread that was deleted has no records; one of that name that begins anew counts from nothing."""
    ledger = UsageLedger()
    run = running(asking(PaidModel(), saver, loop), ledger, loop)
    run.invoke(INPUT)
    Face(saver, loop).call("delete_thread", "thread")
    assert (usage(saver, loop).calls, saver.get_thread("thread")) == (0, None)
    run.invoke(INPUT)
    assert (sums(usage(saver, loop)), ledger.records) == ((1, 10, 5), [])


def test_a_thread_that_is_deleted_under_a_call(saver: DurableSaver, loop: Loop) -> None:
    """What is paid for a thread that was deleted meanwhile stays in memory: it does not bring the thread back."""
    ledger, model = UsageLedger(), PaidModel()

    def deleted_under_the_second() -> Answer:
        if model.account:
            saver.delete_thread("thread")
        return Answer()

    model.decide = deleted_under_the_second
    run = running(asking(model, saver, loop, calls=2), ledger, loop)
    with pytest.raises(Exception, match="was deleted"):
        run.invoke(INPUT, durability="sync")
    assert (len(ledger.records), usage(saver, loop).calls, saver.get_thread("thread")) == (1, 0, None)
    model.decide = None
    run.invoke(INPUT)
    assert (len(ledger.records), usage(saver, loop).calls) == (1, 2)


@pytest.mark.parametrize("how", ["ours", "official", "memory"])
def test_a_copy_of_a_saver_has_the_records(saver: DurableSaver, how: str, tmp_path: Path) -> None:
    """Records go along to another saver, and what is recorded later goes along with the next copy."""
    run = running(asking(PaidModel(), saver, calls=2), UsageLedger())
    connection = sqlite3.connect(tmp_path / "target.db", check_same_thread=False)
    other = FileSaver(tmp_path / "copied") if isinstance(saver, SqliteSaver) else SqliteSaver(":memory:")
    target = {"ours": other, "official": OfficialSaver(connection), "memory": InMemorySaver()}[how]
    for turn in (1, 2):
        run.invoke(INPUT)
        copy(saver, target)
        assert sums(usage(target)) == sums(usage(saver)) == (2 * turn, 20 * turn, 10 * turn)
    assert other.check().damage == ()
    other.close()
    connection.close()


def test_a_copy_of_a_thread_has_paid_for_nothing(saver: DurableSaver) -> None:
    """What was paid for in a thread counts there, and neither in its copy nor in its fork, which pay for their own."""
    run = running(asking(PaidModel(), saver), UsageLedger())
    run.invoke(INPUT)
    saver.copy_thread("thread", "copy")
    app = durable(asking(PaidModel(), saver))
    for name in ("copy", "fork"):
        if name == "fork":
            app.fork("thread", to=name)
        assert usage(saver, None, name).calls == 0
        running(app, UsageLedger(max_tokens=15), None, name).invoke(INPUT)
        assert sums(usage(saver, None, name)) == (1, 10, 5)
    assert sums(usage(saver)) == (1, 10, 5)
    assert sums(usage(saver, None, ["thread", "copy", "fork", "thread"])) == (3, 30, 15)


def test_rewinding_does_not_take_back_what_was_paid(saver: DurableSaver) -> None:
    """What a branch used that is no longer the thread's counts as well as what the next one uses."""
    app = durable(asking(PaidModel(), saver))
    run = running(app, UsageLedger())
    run.invoke(INPUT)
    run.invoke(INPUT)
    app.rewind("thread")
    run.invoke(INPUT)
    assert len(run.state().values["messages"]) == 4
    assert sums(usage(saver)) == (3, 30, 15)


def test_how_a_thread_stands_is_not_touched(saver: DurableSaver) -> None:
    """A thread with records stands, lists and reads as one without: idle, interrupted or failed."""
    model = PaidModel(answers=[Answer(), Answer(), Answer(fails=True), Answer()])

    def node(state: MessagesState) -> Any:
        interrupt("go on?")
        return {}

    builder = StateGraph(MessagesState).add_node("node", node)
    first = asking(model, saver).builder  # type: ignore[attr-defined]  # it is a compiled StateGraph
    for inner in (first.nodes["ask"].runnable,):
        builder.add_node("ask", inner)
    graph = builder.add_edge(START, "ask").add_edge("ask", "node").compile(checkpointer=saver)
    seen = []
    for callbacks in ([UsageLedger()], []):
        thread_id = f"{len(callbacks)} ledgers"
        config: Any = {"configurable": {"thread_id": thread_id}, "callbacks": callbacks}
        run = running(graph, UsageLedger(), None, thread_id)
        run.graph = graph
        run.invoke(INPUT, config)
        stood = saver.get_thread(thread_id)
        assert stood is not None
        seen.append((stood.status, stood.reason, stood.nodes, run.state().next, len(saver.history(thread_id))))
        assert stood.status == "interrupted"
    assert seen[0] == seen[1]
    with pytest.raises(Outage):
        running(asking(model, saver), UsageLedger(), None, "failed").invoke(INPUT)
    running(asking(model, saver), UsageLedger(), None, "idle").invoke(INPUT)
    stands = {one.thread_id: one.status for one in saver.list_threads()}
    assert stands == {
        "1 ledgers": "interrupted",
        "0 ledgers": "interrupted",
        "failed": "error",
        "idle": "idle",
    }
    assert usage(saver, None, list(stands)).calls == 3
    assert saver.check().damage == ()


def test_a_run_that_is_asked_to_end_has_its_calls_recorded(saver: DurableSaver, loop: Loop) -> None:
    """A call that is under way when somebody asks the run to end is recorded, though it is the first of its thread."""
    ledger = UsageLedger()

    def asked_to_end() -> Answer:
        saver.request_cancel("thread")
        return Answer()

    builder = StateGraph(MessagesState)
    model = PaidModel(decide=asked_to_end)

    def ask(state: MessagesState) -> Any:
        return {"messages": [model.invoke("main"), model.invoke("main")]}

    async def aask(state: MessagesState) -> Any:
        return {"messages": [await model.ainvoke("main"), await model.ainvoke("main")]}

    node: Any = ask if loop is None else aask
    builder.add_node("ask", node).add_node("then", lambda state: {}).add_edge(START, "ask").add_edge("ask", "then")
    app = durable(builder.compile(checkpointer=saver))
    with pytest.raises(RunCancelledError):
        running(app, ledger, loop).invoke(INPUT)
    assert (sums(usage(saver, loop)), ledger.records) == ((2, 20, 10), [])


@in_coroutines
def test_one_ledger_for_many_threads_at_once(saver: DurableSaver) -> None:
    """Runs at the same time, of threads and of branches, lose and mix nothing."""
    loop = asyncio.new_event_loop()
    model, ledger = PaidModel(), UsageLedger()
    graph = asking(model, saver, loop, calls=5).with_config(callbacks=[ledger])

    async def all_of_them() -> None:
        await asyncio.gather(
            *(graph.ainvoke(INPUT, {"configurable": {"thread_id": str(number)}}) for number in range(12))
        )

    try:
        loop.run_until_complete(all_of_them())
    finally:
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
    assert {sums(thread_usage(saver, str(number))) for number in range(12)} == {(5, 50, 25)}
    assert sums(thread_usage(graph, [str(number) for number in range(12)])) == (60, 600, 300)


def test_a_graph_without_a_saver_has_no_usage(loop: Loop) -> None:
    """Usage is asked of a saver, or of a graph that has one; anything else is refused."""
    for given in (asking(PaidModel(), None, loop), "agent.db", None):
        with pytest.raises(InvalidRequestError, match="checkpointer"):
            usage(given, loop)


def test_what_names_no_thread_is_refused(loop: Loop) -> None:
    """Threads are named by ids or by one config: what else is given is refused, and is not a thread without usage."""
    saver, config = InMemorySaver(), {"configurable": {"thread_id": "thread"}}
    running(asking(PaidModel(), saver, loop), UsageLedger(), loop).invoke(INPUT)
    for given in ("thread", ["thread", "other"], config):
        assert usage(saver, loop, given).calls == 1
    refused: list[Any] = [None, {"configurable": {}}, [config], ["thread", None], {"thread"}, b"thread", saver]
    for bad in refused:
        with pytest.raises(InvalidRequestError, match="thread"):
            usage(saver, loop, bad)


def test_a_thread_without_records_has_used_nothing(saver: DurableSaver) -> None:
    """A thread that is not there, or ran without a ledger, has used and cost nothing."""
    running(asking(PaidModel(), saver), UsageLedger(), None, "other").invoke(INPUT)
    for thread_id in ("nobody", "plain"):
        report = usage(saver, None, thread_id)
        assert (*sums(report), report.cost, report.known_cost, report.failed) == (0, 0, 0, 0.0, 0.0, 0)
        assert (dict(report.by_model), dict(report.by_purpose), report.records) == ({}, {}, ())
