"""What a call was for is told from around it: whether it is made again, sums up, or was answered by a cache."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

import pytest
from langchain_core.caches import BaseCache, InMemoryCache
from langchain_core.messages import AIMessage
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.pregel import Pregel
from langgraph.types import RetryPolicy

from langgraph_durable import InvalidRequestError
from langgraph_durable.context import UsageLedger
from tests.paid_models import INPUT, Answer, Outage, PaidModel, asking, running, sums, usage

Loop = asyncio.AbstractEventLoop | None

AGAIN = RetryPolicy(initial_interval=0.001, jitter=False, max_attempts=3, retry_on=Outage)
SUMMARY: RunnableConfig = {"metadata": {"lc_source": "summarization"}}


def graph_of(does: Callable[[], Any], loop: Loop, **options: Any) -> Pregel[Any, Any, Any, Any]:
    """A graph in memory with a node that does this; it is called in a thread where the graph awaits."""

    async def adoes(state: MessagesState) -> Any:
        await asyncio.to_thread(does)
        return {}

    def node(state: MessagesState) -> Any:
        does()
        return {}

    made: Any = node if loop is None else adoes
    return StateGraph(MessagesState).add_node("ask", made, **options).add_edge(START, "ask").compile(InMemorySaver())


def purposes(graph: Pregel[Any, Any, Any, Any], loop: Loop) -> list[str]:
    """The purposes of the calls of the thread, in order."""
    return [record["purpose"] for record in usage(graph, loop).records]


def test_a_task_that_is_tried_again(loop: Loop) -> None:
    """Every call of a node that LangGraph runs for the second time is a retry, also where its calls had succeeded."""
    model, tries = PaidModel(), count(1)

    def ask() -> None:
        model.invoke("main")
        if next(tries) < 3:
            raise Outage("after the call")
        model.invoke("main")

    graph = graph_of(ask, loop, retry_policy=AGAIN)
    running(graph, UsageLedger(), loop).invoke(INPUT)
    assert purposes(graph, loop) == ["main", "retry", "retry", "retry"]
    running(graph, UsageLedger(), loop).invoke(INPUT)
    assert purposes(graph, loop)[4:] == ["main", "main"]


def test_a_sequence_that_is_tried_again(loop: Loop) -> None:
    """A node that is a sequence is known to be tried again, though its model gets no config of LangGraph."""
    model, tries = PaidModel(), count(1)

    def fails_once(message: AIMessage) -> Any:
        if next(tries) < 2:
            raise Outage("after the call")
        return {"messages": [message]}

    sequence: Any = ChatPromptTemplate.from_messages([("placeholder", "{messages}")]) | model | fails_once
    builder = StateGraph(MessagesState).add_node("ask", sequence, retry_policy=AGAIN)
    graph = builder.add_edge(START, "ask").compile(InMemorySaver())
    running(graph, UsageLedger(), loop).invoke(INPUT)
    assert purposes(graph, loop) == ["main", "retry"]


def test_a_call_that_is_tried_again(loop: Loop) -> None:
    """After each call that failed one call of that task is a retry; what comes later is not."""
    model = PaidModel(answers=[Answer(fails=True), Answer(fails=True), Answer()])
    twice = model.with_retry(wait_exponential_jitter=False, exponential_jitter_params={}, stop_after_attempt=3)

    def ask() -> None:
        twice.invoke("main")
        model.invoke("main")

    graph = graph_of(ask, loop)
    running(graph, UsageLedger(), loop).invoke(INPUT)
    assert purposes(graph, loop) == ["main", "retry", "retry", "main"]


def test_a_run_that_goes_on_after_a_failed_call(loop: Loop) -> None:
    """The call that failed is made again when the run goes on, and is a retry as long as the ledger is the same."""
    for fresh, purpose in ((False, "retry"), (True, "main")):
        model = PaidModel(answers=[Answer(fails=True), Answer()])
        graph, ledger = asking(model, InMemorySaver(), loop), UsageLedger()
        with pytest.raises(Outage):
            running(graph, ledger, loop).invoke(INPUT)
        running(graph, UsageLedger() if fresh else ledger, loop).invoke(None)
        assert purposes(graph, loop) == ["main", purpose]


def test_a_summary(loop: Loop) -> None:
    """What LangChain marks as the call of a summarizer is a summary; one that failed makes no retry of what follows."""
    model = PaidModel(answers=[Answer(fails=True), Answer()])

    def ask() -> None:
        with pytest.raises(Outage):
            model.invoke("summary", SUMMARY)
        model.invoke("main")
        model.invoke("summary", SUMMARY)

    graph = graph_of(ask, loop)
    running(graph, UsageLedger(), loop).invoke(INPUT)
    assert purposes(graph, loop) == ["summary", "main", "summary"]
    assert usage(graph, loop).by_purpose["summary"].failed == 1


# -- LangChain's cache -------------------------------------------------------------------------------------------------


def test_a_hit_of_the_cache_costs_nothing(loop: Loop) -> None:
    """What LangChain's cache answers is a call of its own purpose, with no tokens and no cost."""
    model = PaidModel(cache=InMemoryCache())
    graph, ledger = asking(model, InMemorySaver(), loop, calls=3), UsageLedger(prices=lambda record: 0.5)
    running(graph, ledger, loop).invoke(INPUT)
    report = usage(graph, loop)
    assert purposes(graph, loop) == ["main", "cached", "cached"]
    assert (*sums(report), report.unknown, report.cost) == (3, 10, 5, 0, 0.5)
    assert usage(graph, loop, prices=lambda record: 2.0).cost == 2.0


class Eager(InMemoryCache):
    """A cache whose entries are read by another call before the call that made them ends."""

    def __init__(self, read: Callable[[], Any]) -> None:
        super().__init__()
        self._read: Callable[[], Any] | None = read

    def update(self, prompt: str, llm_string: str, return_val: Sequence[Any]) -> None:
        super().update(prompt, llm_string, return_val)
        read, self._read = self._read, None
        if read is not None:
            read()


def test_what_was_paid_for_is_no_hit() -> None:
    """A call is counted though another one finds its answer in the cache, and marks it, before its own end."""
    model = PaidModel()
    model.cache = Eager(lambda: model.invoke("main"))
    graph = asking(model, InMemorySaver())
    running(graph, UsageLedger()).invoke(INPUT)
    assert sums(usage(graph)) == (2, 10, 5)
    assert sorted(purposes(graph, None)) == ["cached", "main"]
    assert isinstance(model.cache, BaseCache)


# -- in agents ---------------------------------------------------------------------------------------------------------


def test_in_the_callbacks_twice_counts_once(loop: Loop) -> None:
    """A ledger that is in the callbacks twice records a call once, and as what it is."""
    model = PaidModel(answers=[Answer(fails=True), Answer(fails=True), Answer()])
    graph, ledger = asking(model, InMemorySaver(), loop), UsageLedger()
    run = running(graph.with_config(callbacks=[ledger]), ledger, loop)
    for _ in range(2):
        with pytest.raises(Outage):
            run.invoke(INPUT if not model.account else None)
    run.invoke(None)
    assert (sums(usage(graph, loop)), purposes(graph, loop)) == ((3, 10, 5), ["main", "retry", "retry"])


@pytest.mark.parametrize("also_in_callbacks", [False, True])
def test_the_middleware_sees_what_is_inside_of_it(loop: Loop, also_in_callbacks: bool) -> None:
    """It records the agent's calls, those of middleware inside of it and no others; in the callbacks too it is once."""
    agents = pytest.importorskip("langchain.agents")
    from langchain.agents.middleware import AgentMiddleware

    from langgraph_durable.context.usage.middleware import UsageMiddleware

    class Asking(AgentMiddleware[Any, Any, Any]):
        """It asks a model of its own before the agent's."""

        def __init__(self, model: PaidModel) -> None:
            super().__init__()
            self.model = model

        @property
        def name(self) -> str:
            return self.model.model_name

        def wrap_model_call(self, request: Any, handler: Any) -> Any:
            self.model.invoke("summary", SUMMARY)
            return handler(request)

        async def awrap_model_call(self, request: Any, handler: Any) -> Any:
            await self.model.ainvoke("summary", SUMMARY)
            return await handler(request)

    model = PaidModel(answers=[Answer(100, 1), Answer(1000, 1)])
    inside, outside = PaidModel(model_name="inside"), PaidModel(model_name="outside")
    ledger, saver = UsageLedger(), InMemorySaver()
    middleware = [Asking(outside), UsageMiddleware(ledger), Asking(inside)]
    agent = agents.create_agent(model, [], middleware=middleware, checkpointer=saver)
    run = running(agent, ledger, loop) if also_in_callbacks else running(agent, UsageLedger(), loop)
    if not also_in_callbacks:
        run.graph = agent
    run.invoke(INPUT)
    run.invoke(INPUT)
    seen = {name: sums_.calls for name, sums_ in usage(saver, loop).by_model.items()}
    assert seen == {"paid-1": 2, "inside": 2, **({"outside": 2} if also_in_callbacks else {})}
    assert usage(saver, loop).by_model["paid-1"].input == 1100
    assert {one["purpose"] for one in usage(saver, loop).records if one["model"] == "inside"} == {"summary"}
    assert ledger.records == []


def test_the_middleware_needs_a_ledger() -> None:
    """What is no ledger is refused when the middleware is made."""
    pytest.importorskip("langchain.agents")
    from langgraph_durable.context.usage.middleware import UsageMiddleware

    with pytest.raises(InvalidRequestError, match="UsageLedger"):
        UsageMiddleware("ledger")  # type: ignore[arg-type]  # that is the point
