"""A ledger in an agent of `langchain.agents`: it sees every model call that is made while the agent's model is called.

This module needs langchain.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from langchain.agents.middleware import AgentMiddleware, AgentState
from langchain.agents.middleware.types import ModelCallResult, ModelRequest, ModelResponse
from langchain_core.tracers.context import register_configure_hook

from langgraph_durable.context.usage.ledger import UsageLedger, Watch, watches
from langgraph_durable.errors import InvalidRequestError

_ledger: ContextVar[UsageLedger | None] = ContextVar("langgraph_durable_usage_ledger", default=None)
# LangChain asks this variable for a handler whenever it sets up the callbacks of a call.
register_configure_hook(_ledger, inheritable=True)


class UsageMiddleware(AgentMiddleware[AgentState[Any], Any, Any]):
    """Record the agent's model calls in `ledger`, and those of the middleware that comes after this one in the list.

    It is the first of the list. Then a limit ends the run although middleware after it, which tries again or asks
    another model, catches the error. What is called elsewhere, in tools or before the model, is seen by a ledger in the
    callbacks only. In both it counts once.
    """

    def __init__(self, ledger: UsageLedger) -> None:
        super().__init__()
        if not isinstance(ledger, UsageLedger):
            raise InvalidRequestError(f"UsageMiddleware takes a UsageLedger, and not {ledger!r}")
        self.ledger = ledger

    def wrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], ModelResponse[Any]]
    ) -> ModelCallResult[Any]:
        """Call the model under the eyes of the ledger. UsageLimitError when it refused a call, whoever caught that."""
        with self._watching() as watch:
            try:
                answer = handler(request)
            except BaseException as error:
                watch.end(error)
                raise
            watch.end(asyncio.CancelledError())
        return _allowed(answer, watch)

    async def awrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]]
    ) -> ModelCallResult[Any]:
        """`wrap_model_call` for a coroutine."""
        with self._watching() as watch:
            try:
                answer = await handler(request)
            except GeneratorExit:
                raise  # nothing can be awaited any more
            except BaseException as error:
                await _elsewhere(watch.end, error)
                raise
            await _elsewhere(watch.end, asyncio.CancelledError())
        return _allowed(answer, watch)

    @contextmanager
    def _watching(self) -> Iterator[Watch]:
        watch = Watch(self.ledger)
        tokens = _ledger.set(self.ledger), watches.set(watch)
        try:
            yield watch
        finally:
            _ledger.reset(tokens[0])
            watches.reset(tokens[1])


def _allowed(answer: ModelResponse[Any], watch: Watch) -> ModelResponse[Any]:
    # What is retried or replaced by another model after a refusal would be refused again: it means that the run stops.
    if watch.refusal is not None:
        raise watch.refusal
    return answer


async def _elsewhere(does: Callable[[BaseException], None], error: BaseException) -> None:
    """Call what stores records in a thread, as LangChain does: it waits, and a saver may need the loop for it."""
    await asyncio.shield(asyncio.to_thread(does, error))
