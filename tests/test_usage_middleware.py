"""In an agent a limit ends the run, and a call that nobody waits for is recorded, also where nothing but the middleware
sees it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver

from langgraph_durable import UsageLimitError
from langgraph_durable.context import UsageLedger, athread_usage
from tests.graphs import Running
from tests.paid_models import INPUT, PaidModel, in_coroutines, running, usage

agents = pytest.importorskip("langchain.agents")

from langchain.agents.middleware import AgentMiddleware, ModelFallbackMiddleware, ModelRetryMiddleware  # noqa: E402

from langgraph_durable.context.usage.middleware import UsageMiddleware  # noqa: E402

Loop = asyncio.AbstractEventLoop | None


class Unwilling:
    """What a model waits for that is never answered; it says when the wait begins."""

    def __init__(self, model: PaidModel) -> None:
        self.begun = asyncio.Event()
        model.wait = self

    async def wait(self) -> None:
        self.begun.set()
        await asyncio.Event().wait()


class Raising(AgentMiddleware[Any, Any, Any]):
    """A middleware that raises the limit when it is told of it, and calls again."""

    def __init__(self, ledger: UsageLedger) -> None:
        super().__init__()
        self.ledger = ledger

    def wrap_model_call(self, request: Any, handler: Any) -> Any:
        try:
            return handler(request)
        except UsageLimitError:
            self.ledger.max_tokens = 1000
            return handler(request)

    async def awrap_model_call(self, request: Any, handler: Any) -> Any:
        try:
            return await handler(request)
        except UsageLimitError:
            self.ledger.max_tokens = 1000
            return await handler(request)


class Impatient(AgentMiddleware[Any, Any, Any]):
    """A middleware that gives a call up as soon as it waits, and makes another."""

    def __init__(self, model: PaidModel, unwilling: Unwilling) -> None:
        super().__init__()
        self.model = model
        self.unwilling = unwilling

    async def awrap_model_call(self, request: Any, handler: Any) -> Any:
        first = asyncio.ensure_future(handler(request))
        await self.unwilling.begun.wait()
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        self.model.wait = None
        return await handler(request)


def running_agent(agent: Any, loop: Loop) -> Running:
    """An agent, in the form that `loop` says, with nothing in its callbacks."""
    run = running(agent, UsageLedger(), loop)
    run.graph = agent
    return run


INSIDE: dict[str, Callable[[], list[Any]]] = {
    "nothing": list,
    "retry": lambda: [ModelRetryMiddleware(max_retries=1, initial_delay=0.0, jitter=False)],
    "fallback": lambda: [ModelFallbackMiddleware(PaidModel(model_name="other"))],
}


@pytest.mark.parametrize("inside", INSIDE)
def test_a_limit_ends_the_run_whoever_catches_its_error(inside: str, loop: Loop) -> None:
    """Middleware after the first makes no answer of the error, and with a higher limit the run goes on."""
    model, ledger, saver = PaidModel(), UsageLedger(max_tokens=15), InMemorySaver()
    agent = agents.create_agent(model, [], middleware=[UsageMiddleware(ledger), *INSIDE[inside]()], checkpointer=saver)
    run = running_agent(agent, loop)
    run.invoke(INPUT)
    with pytest.raises(UsageLimitError):
        run.invoke(INPUT)
    assert (len(model.account), run.state().values["messages"][-1].type) == (1, "human")
    ledger.max_tokens = 100
    assert [message.type for message in run.invoke(None)["messages"]] == ["human", "ai", "human", "ai"]


def test_a_call_that_is_allowed_after_all(loop: Loop) -> None:
    """Where the limit is raised and the call made again the refusal is past."""
    model, ledger = PaidModel(), UsageLedger(max_tokens=0)
    agent = agents.create_agent(
        model, [], middleware=[UsageMiddleware(ledger), Raising(ledger)], checkpointer=InMemorySaver()
    )
    assert running_agent(agent, loop).invoke(INPUT)["messages"][-1].text == "secret"


@in_coroutines
@pytest.mark.parametrize("also_in_callbacks", [False, True])
async def test_a_run_that_is_cancelled(also_in_callbacks: bool) -> None:
    """The call under way is recorded once, as one of which nobody knows what it used; the next is a retry."""
    model, ledger, saver = PaidModel(), UsageLedger(prices=lambda record: 0.5), InMemorySaver()
    unwilling = Unwilling(model)
    agent = agents.create_agent(model, [], middleware=[UsageMiddleware(ledger)], checkpointer=saver)
    if also_in_callbacks:
        agent = agent.with_config(callbacks=[ledger])
    config: Any = {"configurable": {"thread_id": "thread"}}
    task = asyncio.ensure_future(agent.ainvoke(INPUT, config))
    await unwilling.begun.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    report = await athread_usage(saver, "thread")
    assert (report.calls, report.failed, report.unknown, report.cost) == (1, 1, 1, None)
    model.wait = None
    await agent.ainvoke(None, config)
    report = await athread_usage(saver, "thread")
    assert [(record["purpose"], record["failed"]) for record in report.records] == [
        ("main", "CancelledError"),
        ("retry", None),
    ]


@in_coroutines
async def test_a_call_that_is_given_up_for_another() -> None:
    """A call that middleware gave up is recorded beside the one that it made instead."""
    model, ledger, saver = PaidModel(), UsageLedger(), InMemorySaver()
    middleware = [UsageMiddleware(ledger), Impatient(model, Unwilling(model))]
    agent = agents.create_agent(model, [], middleware=middleware, checkpointer=saver)
    await agent.ainvoke(INPUT, {"configurable": {"thread_id": "thread"}})
    report = usage(saver)
    assert [record["failed"] for record in report.records] == ["CancelledError", None]
    assert report.tokens == 15
