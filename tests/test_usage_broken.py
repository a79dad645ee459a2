"""An answer that is broken off is paid for: what it told to have used counts, and what it did not tell is unknown."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from langchain_core.outputs import ChatGenerationChunk
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.pregel import Pregel

from langgraph_durable import UsageLimitError
from langgraph_durable.context import Price, UsageLedger
from tests.paid_models import INPUT, Answer, Outage, PaidModel, StreamingModel, asking, running, sums, usage

Loop = asyncio.AbstractEventLoop | None

PRICES = {"paid-1": Price(1, 1)}


class Breaking(StreamingModel):
    """A model that fails after its first word, or after its last."""

    words: int = 1

    def _chunks(self, answer: Answer) -> Iterator[ChatGenerationChunk]:
        for number, chunk in enumerate(super()._chunks(answer), 1):
            yield chunk
            if number == self.words:
                raise Outage("the connection is gone")


def reading(model: PaidModel, loop: Loop, words: int | None = None) -> Pregel[Any, Any, Any, Any]:
    """A graph in memory that reads as many words of an answer, or all."""

    def read(state: MessagesState) -> Any:
        stream = model.stream("main")
        for number, _ in enumerate(stream, 1):
            if number == words:
                break
        stream.close()  # type: ignore[attr-defined]  # it is a generator
        return {}

    async def aread(state: MessagesState) -> Any:
        stream = model.astream("main")
        number = 0
        async for _ in stream:
            number += 1
            if number == words:
                break
        await stream.aclose()  # type: ignore[attr-defined]  # it is a generator
        return {}

    node: Any = read if loop is None else aread
    return StateGraph(MessagesState).add_node("read", node).add_edge(START, "read").compile(InMemorySaver())


def test_what_was_told_before_the_end_counts(loop: Loop) -> None:
    """A stream that is left once it has told what it used counts in sums, costs and limits."""
    graph = reading(StreamingModel(), loop, words=4)
    run = running(graph, UsageLedger(prices=PRICES, max_tokens=30), loop)
    run.invoke(INPUT)
    run.invoke(INPUT)
    report = usage(graph, loop)
    assert (*sums(report), report.failed, report.unknown) == (2, 20, 10, 2, 0)
    assert report.cost == pytest.approx(30 / 1e6)
    assert report.records[0]["model"] == "paid-1"
    with pytest.raises(UsageLimitError):
        run.invoke(INPUT)


@pytest.mark.parametrize("how", ["left", "failed"])
def test_what_was_not_told_is_unknown(how: str, loop: Loop) -> None:
    """An answer that was begun costs something, whoever broke it off."""
    graph = reading(StreamingModel(), loop, words=1) if how == "left" else reading(Breaking(), loop)
    run = running(graph, UsageLedger(prices=PRICES), loop)
    if how == "left":
        run.invoke(INPUT)
    else:
        with pytest.raises(Outage):
            run.invoke(INPUT)
    report = usage(graph, loop)
    assert (report.calls, report.failed, report.unknown, report.tokens) == (1, 1, 1, 0)
    assert (report.cost, report.known_cost) == (None, 0.0)
    assert usage(graph, loop, prices=lambda record: 0.5).cost is None


def test_a_call_that_is_streamed_for_somebody_else(loop: Loop) -> None:
    """An answer that breaks off is known to have begun also where LangGraph streams what the node does not."""
    graph = asking(Breaking(), InMemorySaver(), loop)
    streamed = running(graph, UsageLedger(prices=PRICES), loop).graph
    config: Any = {"configurable": {"thread_id": "thread"}}

    def read() -> list[Any]:
        return list(streamed.stream(INPUT, config, stream_mode="messages"))

    async def aread() -> list[Any]:
        return [part async for part in streamed.astream(INPUT, config, stream_mode="messages")]

    with pytest.raises(Outage):
        read() if loop is None else loop.run_until_complete(aread())
    report = usage(graph, loop)
    assert (report.failed, report.unknown, report.cost) == (1, 1, None)


def test_a_call_that_was_refused_costs_nothing(loop: Loop) -> None:
    """A provider that answers with an error, and with nothing else, takes nothing for it."""
    graph = reading(StreamingModel(answers=[Answer(fails=True)]), loop)
    with pytest.raises(Outage):
        running(graph, UsageLedger(prices=PRICES), loop).invoke(INPUT)
    report = usage(graph, loop)
    assert (report.failed, report.unknown, report.cost) == (1, 0, 0.0)
