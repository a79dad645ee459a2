"""A coroutine that calls a model without awaiting it, over a saver for coroutines: all is stored when its node ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest
from langchain_core.runnables import RunnableLambda
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.pregel import Pregel

from langgraph_durable.context import UsageLedger
from langgraph_durable.context.journal import Journal
from langgraph_durable.context.usage.places import Where
from langgraph_durable.context.usage.records import NAMESPACE
from langgraph_durable.context.usage.shelf import Shelf
from tests.graphs import DURABILITIES, Durability, official
from tests.paid_models import INPUT, Outage, PaidModel, in_coroutines, record, running, sums, usage

pytestmark = in_coroutines


@pytest.fixture
def awaiting() -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop, which runs only as long as something is awaited in a test."""
    loop = asyncio.new_event_loop()
    try:
        yield loop
    finally:
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


@pytest.fixture
def saver(awaiting: asyncio.AbstractEventLoop) -> Iterator[BaseCheckpointSaver[Any]]:
    """LangGraph's saver for coroutines: its blocking methods are of no use where its loop runs."""
    with official(awaiting) as made:
        yield made


def blocking(saver: BaseCheckpointSaver[Any], call: Callable[[], Any], *, fails: bool) -> Pregel[Any, Any, Any, Any]:
    """A graph with a coroutine that makes five calls without awaiting them."""

    async def ask(state: MessagesState) -> Any:
        for _ in range(5):
            call()
        if fails:
            raise Outage("after the calls")
        return {}

    return StateGraph(MessagesState).add_node("ask", ask).add_edge(START, "ask").compile(checkpointer=saver)


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("inside", ["node", "chain"])
@pytest.mark.parametrize("durability", DURABILITIES)
def test_all_is_stored_when_the_run_ends(
    saver: BaseCheckpointSaver[Any],
    awaiting: asyncio.AbstractEventLoop,
    durability: Durability,
    inside: str,
    fails: bool,
) -> None:
    """Nothing is left to the loop when the run returns, though the node failed, or called a chain that did not wait."""
    model, ledger = PaidModel(), UsageLedger()
    chain: RunnableLambda[str, Any] = RunnableLambda(lambda said: model.invoke(said))
    call = {"node": lambda: model.invoke("main"), "chain": lambda: chain.invoke("main")}[inside]
    run = running(blocking(saver, call, fails=fails), ledger, awaiting)
    if fails:
        with pytest.raises(Outage):
            run.invoke(INPUT, durability=durability)
    else:
        run.invoke(INPUT, durability=durability)
    assert ledger.records == []
    assert sums(usage(saver, awaiting)) == (5, 50, 25)


def test_what_was_late_is_stored_with_the_next(
    saver: BaseCheckpointSaver[Any], awaiting: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record that the saver refused is stored with the next of its thread on this way as well."""
    put_writes, refuses = saver.aput_writes, [True]

    async def flaky(config: Any, *args: Any, **kwargs: Any) -> None:
        if config["configurable"]["checkpoint_ns"] == NAMESPACE and refuses[0]:
            raise OSError("disk full")
        await put_writes(config, *args, **kwargs)

    monkeypatch.setattr(saver, "aput_writes", flaky)
    model, ledger = PaidModel(), UsageLedger()
    run = running(blocking(saver, lambda: model.invoke("main"), fails=False), ledger, awaiting)
    run.invoke(INPUT)
    assert (len(ledger.records), usage(saver, awaiting).calls) == (5, 0)
    refuses[0] = False
    run.invoke(INPUT)
    assert ledger.records == []
    assert usage(saver, awaiting).calls == 10


def test_nobody_waits_for_a_loop_that_has_stopped(
    saver: BaseCheckpointSaver[Any], awaiting: asyncio.AbstractEventLoop
) -> None:
    """A record that a loop did not get to is kept, and the end of its run returns; it is stored if the loop goes on."""
    shelf, run_id = Shelf(), uuid4()

    async def put() -> None:
        shelf.put(Where("thread", Journal(saver, "thread", NAMESPACE, "root"), True), record(), run_id)

    awaiting.run_until_complete(put())
    shelf.settle(run_id, None)
    assert [one["id"] for one in shelf.records()] == ["1"]
    while shelf.records():
        awaiting.run_until_complete(asyncio.sleep(0))
    assert usage(saver, awaiting).calls == 1
