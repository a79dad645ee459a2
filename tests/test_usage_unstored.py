"""What cannot be stored where a call is made stays in memory, is told of, and is stored as soon as it can be."""

from __future__ import annotations

import asyncio
import logging
import threading
from pathlib import Path
from typing import Any

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph

from langgraph_durable import UsageLimitError
from langgraph_durable.context import UsageLedger, UsageReport, athread_usage
from langgraph_durable.context.usage.records import NAMESPACE
from tests.paid_models import INPUT, TOO_OLD, PaidModel, asking, running, saver_of, sums, usage

Loop = asyncio.AbstractEventLoop | None


def test_without_a_checkpointer_records_are_in_memory(loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    """In a graph without a saver, and outside of graphs, `records` has them, and nothing is wrong with that."""
    ledger, model = UsageLedger(), PaidModel()
    running(asking(model, None, loop), ledger, loop).invoke(INPUT)
    model.invoke("main", {"callbacks": [ledger]})
    assert [(record["thread_id"], record["node"]) for record in ledger.records] == [("thread", "ask"), ("", None)]
    assert sums(UsageReport(ledger.records)) == (2, 20, 10)
    ledger.records[0]["input"] = 0
    assert ledger.records[0]["input"] == 10
    assert caplog.records == []


def test_a_call_whose_task_cannot_be_found_is_not_lost(caplog: pytest.LogCaptureFixture) -> None:
    """What is called in a thread of one's own stays in memory, and is logged once, until the next call is stored."""
    model, saver, ledger = PaidModel(), InMemorySaver(), UsageLedger()

    def ask(state: MessagesState, config: RunnableConfig) -> Any:
        def elsewhere() -> None:
            for _ in range(2):
                model.invoke("main", config)

        other = threading.Thread(target=elsewhere)
        other.start()
        other.join()
        return {}

    builder = StateGraph(MessagesState).add_node("ask", ask).add_edge(START, "ask")
    run = running(builder.compile(checkpointer=saver), ledger)
    run.invoke(INPUT)
    assert (len(ledger.records), usage(saver).calls) == (2, 0)
    assert {record["thread_id"] for record in ledger.records} == {"thread"}
    assert ["only" in record.getMessage() for record in caplog.records] == [True]
    running(asking(model, saver), ledger).invoke(INPUT)
    assert (len(ledger.records), usage(saver).calls) == (0, 3)


async def test_a_coroutine_that_passes_its_config_on(caplog: pytest.LogCaptureFixture) -> None:
    """A call with the config of its task is recorded; before Python 3.11 in memory, where its thread is known."""
    model, saver, ledger = PaidModel(), InMemorySaver(), UsageLedger(max_tokens=30)

    async def ask(state: MessagesState, config: RunnableConfig) -> Any:
        return {"messages": [await model.ainvoke("main", config)]}

    builder = StateGraph(MessagesState).add_node("ask", ask).add_edge(START, "ask")
    graph = builder.compile(checkpointer=saver)
    config: RunnableConfig = {"configurable": {"thread_id": "thread"}, "callbacks": [ledger]}
    for _ in range(2):
        await graph.ainvoke(INPUT, config)
    with pytest.raises(UsageLimitError):
        await graph.ainvoke(INPUT, config)
    stored = await athread_usage(saver, "thread")
    assert (stored.calls, len(ledger.records)) == ((0, 2) if TOO_OLD else (2, 0))
    assert {record["thread_id"] for record in (*stored.records, *ledger.records)} == {"thread"}
    assert sum("only" in one.getMessage() for one in caplog.records) == TOO_OLD


class Refusing(InMemorySaver):
    """A saver that refuses records as long as it is told to."""

    refuses = True

    def put_writes(self, config: Any, *args: Any, **kwargs: Any) -> None:
        if self.refuses and config["configurable"]["checkpoint_ns"] == NAMESPACE:
            raise OSError("disk full")
        super().put_writes(config, *args, **kwargs)


def test_an_answer_is_not_lost_because_its_record_is(loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    """Where a record cannot be stored the call is good all the same, and the record is stored with the next."""
    saver, ledger = Refusing(), UsageLedger()
    run = running(asking(PaidModel(), saver, loop), ledger, loop)
    run.invoke(INPUT)
    run.invoke(INPUT)
    assert (len(ledger.records), usage(saver, loop).calls) == (2, 0)
    assert ["disk full" in record.getMessage() for record in caplog.records] == [True]
    saver.refuses = False
    run.invoke(INPUT)
    assert (len(ledger.records), sums(usage(saver, loop))) == (0, (3, 30, 15))


def test_a_coroutine_that_blocks_does_not_wait_for_ever(tmp_path: Path) -> None:
    """A model that a coroutine calls without awaiting is recorded, though the saver is one for coroutines only."""
    loop = asyncio.new_event_loop()
    model, ledger = PaidModel(), UsageLedger()

    async def blocks(state: MessagesState) -> Any:
        return {"messages": [model.invoke("main")]}

    try:
        with saver_of("official", tmp_path, loop) as saver:
            builder = StateGraph(MessagesState).add_node("ask", blocks).add_edge(START, "ask")
            running(builder.compile(checkpointer=saver), ledger, loop).invoke(INPUT)
            assert sums(usage(saver, loop)) == (1, 10, 5)
            assert ledger.records == []
    finally:
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


@pytest.fixture(autouse=True)
def _warnings_only(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
