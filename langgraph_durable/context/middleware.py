"""Compression as a middleware of `create_agent`: decided around the call of the model, kept by what that call returns.

A node of its own before the model would cost a checkpoint at each call, also when there is nothing to do.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any, cast

from langchain.agents.middleware import AgentMiddleware, AgentState
from langchain.agents.middleware.types import ExtendedModelResponse, ModelRequest, ModelResponse, PrivateStateAttr
from langchain_core.exceptions import ContextOverflowError
from langchain_core.messages import AnyMessage
from langgraph.types import Command
from typing_extensions import NotRequired

from langgraph_durable.channels import config_here
from langgraph_durable.context.asks import Asking, adrive, drive
from langgraph_durable.context.compress import Options, compressing
from langgraph_durable.context.draft import Pin
from langgraph_durable.context.node import STATE, Persist, check_kept, checked_persist, kept_for, kept_in, latest, told
from langgraph_durable.context.remembering import Paid
from langgraph_durable.context.results import Compressed
from langgraph_durable.context.sizes import Size, limits, window_of
from langgraph_durable.context.stages import Stage
from langgraph_durable.context.tokens import BYTES, TokenCounter, count_tokens, tokens_of
from langgraph_durable.context.updates import changes_to
from langgraph_durable.environment.tools import definitions

KEY = "messages"
"""The field that has the messages of an agent."""


class ContextAgentState(AgentState[Any]):
    """The state of an agent, with what a compression has to know of the last one."""

    context_state: Annotated[NotRequired[dict[str, Any]], PrivateStateAttr, latest]


class ContextMiddleware(AgentMiddleware[ContextAgentState, Any, Any]):
    """Keeps the messages of an agent inside a budget; the system prompt and the tools count.

    The arguments are those of `compress_messages`; a fraction is one of what the agent's model takes in. With
    `persist="replace"` the messages of the state are replaced by their ids together with the model's answer, and
    `full_history` has the originals; with "view" they stay, and less of them is sent. A prompt that the provider
    refuses as too long is compressed to half and tried once more.
    """

    state_schema = ContextAgentState

    def __init__(
        self,
        *,
        budget: Size,
        target: Size | float = 0.5,
        stages: Sequence[Stage] | None = None,
        pin: Pin = (),
        token_counter: TokenCounter = count_tokens,
        persist: Persist = "replace",
    ) -> None:
        super().__init__()
        self._options = Options.checked(
            budget=budget, target=target, stages=stages, pin=pin, token_counter=token_counter
        )
        self._persist = checked_persist(persist)
        self._paid = Paid()

    def wrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], ModelResponse[Any]]
    ) -> ExtendedModelResponse[Any]:
        """Send what fits, and keep what that took."""
        config = config_here()
        made = self._checked(drive(self._compressing(request), self._paid.of(config), config))
        try:
            response = handler(_with(request, made))
        except Exception as error:
            if not _is_overflow(error):
                raise
            made = drive(self._compressing(request, made), self._paid.of(config), config)
            response = handler(_with(request, made))
        return self._kept(response, made, request)

    async def awrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]]
    ) -> ExtendedModelResponse[Any]:
        """`wrap_model_call` for a coroutine."""
        config = config_here()
        made = self._checked(await adrive(self._compressing(request), self._paid.of(config), config))
        try:
            response = await handler(_with(request, made))
        except Exception as error:
            if not _is_overflow(error):
                raise
            made = await adrive(self._compressing(request, made), self._paid.of(config), config)
            response = await handler(_with(request, made))
        return self._kept(response, made, request)

    def _compressing(self, request: ModelRequest[Any], refused: Compressed | None = None) -> Asking[Compressed]:
        sizes = limits(self._options.budget, self._options.target, window_of(request.model))
        if refused is not None:
            half = (refused.report.tokens_after + 1) // 2
            sizes = sizes._replace(budget=min(sizes.budget, half), target=min(sizes.target, half))
        state: Any = request.state
        return compressing(
            request.messages,
            self._options,
            sizes,
            kept_for(KEY, state.get(STATE), self._persist),
            beside=_beside(request),
        )

    def _checked(self, made: Compressed) -> Compressed:
        """Before the model is paid for it."""
        told(made)
        if self._persist == "view":
            check_kept(made)
        return made

    def _kept(
        self, response: ModelResponse[Any], made: Compressed, request: ModelRequest[Any]
    ) -> ExtendedModelResponse[Any]:
        update: dict[str, Any] = {STATE: {KEY: kept_in(made.state, self._persist)}}
        # Of what the state has: other middleware may have put in messages for this call only. What a repair has put in
        # is not stored either, behind the model's answer, and put in again.
        changed = changes_to(request.messages, made.messages, request.state["messages"])
        if self._persist == "replace" and changed:
            update["messages"] = changed
        return ExtendedModelResponse(model_response=response, command=Command(update=update))


def _with(request: ModelRequest[Any], made: Compressed) -> ModelRequest[Any]:
    return request.override(messages=cast("list[AnyMessage]", made.messages))


def _beside(request: ModelRequest[Any]) -> int:
    """The tokens of what is sent beside the messages."""
    system = tokens_of(request.system_message) if request.system_message is not None else 0
    told = definitions(request.tools) if request.tools else {}
    return system + sum(len(one.told) // BYTES for one in told.values())


def _is_overflow(error: Exception) -> bool:
    """Whether a provider has refused a prompt as too long: LangChain's error for it, or OpenAI's, whose text varies."""
    return isinstance(error, ContextOverflowError) or getattr(error, "code", None) == "context_length_exceeded"
