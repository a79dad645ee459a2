"""Ledgers, savers and threads that meet in one process: what belongs to one is not taken for another's."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from typing import Any
from uuid import uuid4

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph

from langgraph_durable import UsageLimitError
from langgraph_durable.context import UsageLedger, athread_usage
from langgraph_durable.context.journal import Journal
from langgraph_durable.context.usage.calls import Calls
from langgraph_durable.context.usage.places import Where
from langgraph_durable.context.usage.records import NAMESPACE, Call
from langgraph_durable.context.usage.seen import seen, stored
from tests.paid_models import INPUT, PaidModel, asking, in_coroutines, record, running, usage

Loop = asyncio.AbstractEventLoop | None


class Saver(InMemorySaver):
    """A saver in memory that counts how often it is asked for records, and refuses them when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0
        self.refuses = False

    def get_tuple(self, config: RunnableConfig) -> Any:
        self.reads += config["configurable"].get("checkpoint_ns") == NAMESPACE
        return super().get_tuple(config)

    def put_writes(self, config: Any, *args: Any, **kwargs: Any) -> None:
        if self.refuses and config["configurable"]["checkpoint_ns"] == NAMESPACE:
            raise OSError("disk full")
        super().put_writes(config, *args, **kwargs)


def models(saver: Any, loop: Loop) -> dict[str, int]:
    """The calls of the thread, by model."""
    return {name: found.calls for name, found in usage(saver, loop).by_model.items()}


# -- one ledger, two savers --------------------------------------------------------------------------------------------


def test_a_late_record_goes_to_its_own_saver(loop: Loop) -> None:
    """What one saver refused is not stored in a thread of that name that another saver has, and counts not there."""
    one, other, ledger = Saver(), Saver(), UsageLedger(max_tokens=30)
    first = running(asking(PaidModel(model_name="first"), one, loop), ledger, loop)
    second = running(asking(PaidModel(model_name="second"), other, loop), ledger, loop)
    one.refuses = True
    first.invoke(INPUT)
    second.invoke(INPUT)
    second.invoke(INPUT)
    assert (models(one, loop), models(other, loop)) == ({}, {"second": 2})
    one.refuses = False
    first.invoke(INPUT)
    assert (models(one, loop), ledger.records) == ({"first": 2}, [])
    for run in (first, second):
        with pytest.raises(UsageLimitError):
            run.invoke(INPUT)


def test_a_record_of_which_the_saver_is_not_known(loop: Loop) -> None:
    """What is called in a thread of one's own stays here where it could belong to either of two savers."""
    model, ledger = PaidModel(model_name="lost"), UsageLedger()

    def ask(state: MessagesState, config: RunnableConfig) -> Any:
        other = threading.Thread(target=model.invoke, args=("main", config))
        other.start()
        other.join()
        return {}

    builder = StateGraph(MessagesState).add_node("ask", ask).add_edge(START, "ask")
    one, other = Saver(), Saver()
    for saver in (one, other):
        running(asking(PaidModel(), saver, loop), ledger, loop).invoke(INPUT)
    running(builder.compile(checkpointer=one), ledger, loop).invoke(INPUT)
    running(asking(PaidModel(), other, loop), ledger, loop).invoke(INPUT)
    assert (models(one, loop), models(other, loop)) == ({"paid-1": 1}, {"paid-1": 2})
    assert [one["model"] for one in ledger.records] == ["lost"]


def test_what_no_checkpointer_keeps_counts_by_itself(loop: Loop) -> None:
    """A limit counts the calls of a graph without a saver apart from those of a thread of that name."""
    ledger = UsageLedger(max_tokens=30)
    unsaved = running(asking(PaidModel(), None, loop), ledger, loop)
    saved = running(asking(PaidModel(), Saver(), loop), ledger, loop)
    for run in (unsaved, saved):
        run.invoke(INPUT)
        run.invoke(INPUT)
    with pytest.raises(UsageLimitError, match=r"'thread' .*call again"):
        unsaved.invoke(INPUT)
    with pytest.raises(UsageLimitError, match=r"invoke\(None"):
        saved.invoke(INPUT)


# -- two ledgers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", ["recording", "limiting"])
def test_a_call_that_another_ledger_refuses_was_not_made(first: str, loop: Loop) -> None:
    """Of a call that one ledger refuses the other records nothing, whichever is told of it first."""
    saver, model = InMemorySaver(), PaidModel()
    ledgers = [UsageLedger(), UsageLedger(max_tokens=15)]
    graph = asking(model, saver, loop).with_config(callbacks=ledgers if first == "recording" else ledgers[::-1])
    run = running(graph, ledgers[0], loop)
    run.invoke(INPUT)
    for _ in range(2):
        with pytest.raises(UsageLimitError):
            run.invoke(INPUT)
    report = usage(saver, loop)
    assert (len(model.account), report.calls, report.failed) == (1, 1, 0)


@in_coroutines
async def test_a_call_that_is_under_way_beside_one_that_is_refused() -> None:
    """The call that was made is recorded as left when its node fails, and the one that was not made is not."""
    limiting, model, begun = UsageLedger(), PaidModel(), asyncio.Event()
    under_way = []

    class Unwilling:
        """What the first call waits for; from then on no other is allowed."""

        async def wait(self) -> None:
            limiting.max_tokens = 0
            begun.set()
            await asyncio.Event().wait()

    async def ask(state: MessagesState) -> Any:
        under_way.append(asyncio.ensure_future(model.ainvoke("main")))
        await begun.wait()
        await model.ainvoke("main")

    model.wait = Unwilling()
    saver = InMemorySaver()
    graph = StateGraph(MessagesState).add_node("ask", ask).add_edge(START, "ask").compile(checkpointer=saver)
    config: Any = {"configurable": {"thread_id": "thread"}, "callbacks": [UsageLedger(), limiting]}
    with pytest.raises(UsageLimitError):
        await graph.ainvoke(INPUT, config)
    under_way[0].cancel()
    await asyncio.gather(*under_way, return_exceptions=True)
    report = await athread_usage(saver, "thread")
    assert (report.calls, report.failed, report.unknown) == (1, 1, 1)


# -- calls that are left -----------------------------------------------------------------------------------------------


@in_coroutines
def test_a_call_that_is_left_does_not_keep_its_saver() -> None:
    """A saver is let go of when all that is left of it is calls that were cancelled."""
    ledger = UsageLedger()

    async def cancelled() -> weakref.ref[Any]:
        model, saver, begun = PaidModel(), InMemorySaver(), asyncio.Event()

        class Unwilling:
            """What the calls wait for."""

            async def wait(self) -> None:
                begun.set()
                await asyncio.Event().wait()

        model.wait = Unwilling()
        graph = asking(model, saver, asyncio.get_running_loop()).with_config(callbacks=[ledger])
        task = asyncio.ensure_future(graph.ainvoke(INPUT, {"configurable": {"thread_id": "thread"}}))
        await begun.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert (await athread_usage(saver, "thread")).failed == 1
        return weakref.ref(saver)

    reference = asyncio.run(cancelled())
    gc.collect()
    assert reference() is None


def test_of_calls_that_are_left_a_few_are_known() -> None:
    """A call that ends after its run is known, if it is one of the last; those of other runs are not touched."""
    calls, where, run = Calls(), Where("thread", None, True), uuid4()
    made = [Call(uuid4(), "thread", 0.0, 0.0, "main", {}, 1, run) for _ in range(500)]
    beside = made[0]._replace(id=uuid4(), parent=uuid4())
    for call in (*made, beside):
        calls.begin(call, where)
    assert [call.id for call, _ in calls.leave(run)] == [call.id for call in made]
    assert calls.leave(run) == []
    assert calls.end(made[0].id) is None
    assert calls.end(made[-1].id) is not None
    assert calls.end(beside.id) == (beside, where)


# -- what a limit reads ------------------------------------------------------------------------------------------------


def test_a_limit_reads_a_thread_once_in_a_superstep(loop: Loop) -> None:
    """Calls of one superstep do not make the saver read again, and count for each other; the next superstep reads."""
    saver, model, ledger = Saver(), PaidModel(), UsageLedger(max_tokens=150)
    run = running(asking(model, saver, loop, calls=6), ledger, loop)
    run.invoke(INPUT)
    assert saver.reads == 1
    with pytest.raises(UsageLimitError) as raised:
        run.invoke(INPUT)
    assert (saver.reads, raised.value.spent, len(model.account)) == (2, 150, 10)


def test_a_limit_counts_what_others_record() -> None:
    """What another ledger of the process records counts at once, what another process does from the next superstep."""
    saver, model, asked = Saver(), PaidModel(), UsageLedger()
    other = PaidModel(callbacks=[asked])

    def elsewhere() -> None:
        Journal(saver, "thread", NAMESPACE, "0").add("elsewhere", record(id="elsewhere", input=1000))

    def ask(state: MessagesState) -> Any:
        model.invoke("main")
        other.invoke("main", {"callbacks": []})
        elsewhere()
        model.invoke("main")
        return {}

    graph = StateGraph(MessagesState).add_node("ask", ask).add_edge(START, "ask").compile(checkpointer=saver)
    run = running(graph, UsageLedger(max_tokens=31))
    run.invoke(INPUT)
    assert len(model.account) == 2
    with pytest.raises(UsageLimitError) as raised:
        run.invoke(INPUT)
    assert raised.value.spent == 1145


def test_what_is_stored_while_a_thread_is_read_is_not_missed() -> None:
    """A record that is stored after the saver has read, and before that is known, counts as well."""
    saver = InMemorySaver()
    journal = Journal(saver, "thread", NAMESPACE, "root")
    journal.add("before", record(id="before"))

    class Slow(InMemorySaver):
        """A saver that has answered when another thread stores something."""

        def get_tuple(self, config: RunnableConfig) -> Any:
            found = saver.get_tuple(config)
            stored(slow, record(id="meanwhile"))
            return found

    slow = journal._replace(saver=Slow())
    assert set(seen(slow)) == {"before", "meanwhile"}
