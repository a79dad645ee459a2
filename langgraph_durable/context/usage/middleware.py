"""A ledger in an agent of `langchain.agents`: it sees every model call that is made while the agent's model is called.

This module needs langchain.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from langchain.agents.middleware import AgentMiddleware, AgentState
from langchain.agents.middleware.types import ModelCallResult, ModelRequest, ModelResponse
from langchain_core.tracers.context import register_configure_hook

from langgraph_durable.context.usage.ledger import UsageLedger
from langgraph_durable.errors import InvalidRequestError

_ledger: ContextVar[UsageLedger | None] = ContextVar("langgraph_durable_usage_ledger", default=None)
# LangChain asks this variable for a handler whenever it sets up the callbacks of a call.
register_configure_hook(_ledger, inheritable=True)


class UsageMiddleware(AgentMiddleware[AgentState[Any], Any, Any]):
    """Record the agent's model calls in `ledger`, and those of the middleware that comes after this one in the list.

    What is called elsewhere, in tools or before the model, is seen by a ledger in the callbacks only. In both it counts
    once.
    """

    def __init__(self, ledger: UsageLedger) -> None:
        super().__init__()
        if not isinstance(ledger, UsageLedger):
            raise InvalidRequestError(f"UsageMiddleware takes a UsageLedger, and not {ledger!r}")
        self.ledger = ledger

    def wrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], ModelResponse[Any]]
    ) -> ModelCallResult[Any]:
        """Call the model under the eyes of the ledger."""
        with self._watching():
            return handler(request)

    async def awrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]]
    ) -> ModelCallResult[Any]:
        """`wrap_model_call` for a coroutine."""
        with self._watching():
            return await handler(request)

    @contextmanager
    def _watching(self) -> Iterator[None]:
        token = _ledger.set(self.ledger)
        try:
            yield
        finally:
            _ledger.reset(token)
