"""Compression as a node of a graph, before the one that calls a model: what it decides is in the state when it ends."""

from __future__ import annotations

import logging
import operator
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypeAlias

from langchain_core.messages import BaseMessage
from langchain_core.runnables import Runnable, RunnableConfig
from langgraph.channels import LastValue
from langgraph.types import Command

from langgraph_durable.channels import channels_here
from langgraph_durable.context.asks import Asking, adrive, drive
from langgraph_durable.context.compress import Options, compressing
from langgraph_durable.context.draft import Pin
from langgraph_durable.context.remembering import Paid
from langgraph_durable.context.repair import converted
from langgraph_durable.context.results import Compressed
from langgraph_durable.context.sizes import Size, limits, window_of
from langgraph_durable.context.stages import Stage
from langgraph_durable.context.tokens import TokenCounter, count_tokens
from langgraph_durable.context.updates import updates_to
from langgraph_durable.errors import InvalidRequestError

log = logging.getLogger("langgraph_durable")

Persist: TypeAlias = Literal["replace", "view"]

STATE, SENT = "context_state", "llm_input_messages"
"""The fields of a state: what a compression has to know of the last one, and what to send where messages stay."""


def latest(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """The reducer of the private state: of each field that has messages the last compression counts."""
    return {**old, **new}


ContextState: TypeAlias = Annotated[dict[str, Any], latest]
"""The type of the field `context_state` of a state, plain data that only compressions read: what each has to know of
the last one, by the field that has the messages.
"""


class ContextNode(Runnable[Any, Any]):
    """A node that keeps the messages of a state inside a budget, and a `pre_model_hook` of `create_react_agent`.

    The arguments are those of `compress_messages`. What it does to the messages is kept in one of two ways:

    - `persist="replace"`: the messages of the state are replaced, by their ids. The next node reads `messages` as ever.
      The originals are in older checkpoints: `full_history` has them.
    - `persist="view"`: the messages stay, and the next node reads `llm_input_messages`, a field that the state needs.

    The state should have a field `context_state: ContextState`, and for "view" has to: there is what the last
    compression left out, and how the provider's tokens relate to the estimate. A summary that was paid for is stored
    with the thread before the node goes on, so that a node that is run again does not pay for it again.

    It goes between two supersteps that write messages, and not beside a node that removes some: `add_messages` refuses
    to remove a message twice. Messages that are sent to it alone (`Send`) are not written into the state.
    """

    def __init__(
        self,
        *,
        budget: Size,
        target: Size | float = 0.5,
        stages: Sequence[Stage] | None = None,
        pin: Pin = (),
        token_counter: TokenCounter = count_tokens,
        model: Any = None,
        persist: Persist = "replace",
        messages_key: str = "messages",
    ) -> None:
        self._options = Options.checked(
            budget=budget, target=target, stages=stages, pin=pin, token_counter=token_counter
        )
        self._limits = limits(self._options.budget, self._options.target, window_of(model))
        self._persist = checked_persist(persist)
        self._key = messages_key
        self._paid = Paid()

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """The update of the state."""
        given = self._messages(input)
        made = drive(self._compressing(given, input, config), self._paid.of(config), config)
        return self._output(given, made, config)

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """The update of the state, in a coroutine."""
        given = self._messages(input)
        made = await adrive(self._compressing(given, input, config), self._paid.of(config), config)
        return self._output(given, made, config)

    def _compressing(
        self, messages: Sequence[BaseMessage], state: Any, config: RunnableConfig | None
    ) -> Asking[Compressed]:
        channels = self._channels(config)
        needed = (STATE, SENT) if self._persist == "view" else ()
        missing = [name for name in needed if channels and name not in channels]
        if missing:
            raise InvalidRequestError(
                f"persist='view' keeps what was left out in the state, which has no {' and no '.join(missing)}: add "
                f"`{STATE}: ContextState` and `{SENT}: list[AnyMessage]` to it"
            )
        for name, channel in channels.items():
            if (name == STATE) is not (getattr(channel, "operator", None) is latest):
                what = "is of another type" if name == STATE else "is a ContextState, and would not be found"
                raise InvalidRequestError(f"the field {name} of the state {what}: it is `{STATE}: ContextState`")
        if self._persist == "replace" and getattr(channels.get(self._key), "operator", None) in _CONCATENATING:
            raise InvalidRequestError(
                f"the field {self._key} of the state appends whatever is written to it, and nothing can be replaced: "
                "give it the reducer add_messages, or use persist='view'"
            )
        kept = kept_for(self._key, _field(state, STATE), self._persist)
        return compressing(messages, self._options, self._limits, kept)

    def _channels(self, config: RunnableConfig | None) -> Mapping[str, Any]:
        return channels_here(config, lambda part: self._key in part) or {}

    def _messages(self, state: Any) -> list[BaseMessage]:
        found = _field(state, self._key)
        if found is None:
            raise InvalidRequestError(f"the state has no {self._key}: say where its messages are by messages_key=")
        return list(converted(found))

    def _output(self, given: Sequence[BaseMessage], made: Compressed, config: RunnableConfig | None) -> Any:
        told(made)
        kept = {STATE: {self._key: kept_in(made.state, self._persist)}}
        if self._persist == "view":
            check_kept(made)
            return {SENT: made.messages, **kept}
        if not made.report.changed:
            return kept
        channel = self._channels(config).get(self._key)
        now = converted(channel.get()) if channel is not None and channel.is_available() else given
        if isinstance(channel, LastValue):
            if list(now) != list(given):
                raise InvalidRequestError(
                    f"the messages that were sent to this node are not those in the field {self._key} of the state, "
                    "which it would overwrite: call compress_messages where they are made"
                )
            return {self._key: made.messages, **kept}
        parts = updates_to(given, made.messages)
        # A message that the state does not have, as one that was sent to this node alone, is not replaced in it, and
        # what a repair has put in beside such is none of the state's.
        known, there = {message.id for message in given}, {message.id for message in now}
        own = known <= there
        parts = [[one for one in part if one.id in there or (own and one.id not in known)] for part in parts]
        first, *rest = [part for part in parts if part] or [[]]
        update = {**kept, self._key: first} if first else kept
        return [Command(update=update), *(Command(update={self._key: part}) for part in rest)] if rest else update


_CONCATENATING = (operator.add, operator.concat, operator.iadd)


def checked_persist(persist: Any) -> Persist:
    """How a compression is kept."""
    if persist not in ("replace", "view"):
        raise InvalidRequestError(f'persist is "replace" or "view", and it was {persist!r}')
    return "replace" if persist == "replace" else "view"


def kept_in(state: Any, persist: Persist) -> dict[str, Any]:
    """The private state, without what says what was left out where that is gone from the messages themselves."""
    if not isinstance(state, Mapping):
        return {}
    return {key: value for key, value in state.items() if key != "view" or persist == "view"}


def kept_for(key: str, field: Any, persist: Persist) -> dict[str, Any]:
    """`kept_in` of what the private field of a state has for the messages under a key."""
    return kept_in(field.get(key) if isinstance(field, Mapping) else None, persist)


def told(made: Compressed) -> None:
    """Log what was done, where it was more than nothing."""
    if made.report.changed:
        log.info("%s", made.report)


def check_kept(made: Compressed) -> None:
    """InvalidRequestError where what was left out cannot be said: it would be decided, and paid for, at each call."""
    if made.report.compressed and "view" not in made.state:
        raise InvalidRequestError(
            "what is left out of the messages is kept by their ids, and these have none: give the field of the state "
            "the reducer add_messages, which names them"
        )


def _field(state: Any, name: str) -> Any:
    return state.get(name) if isinstance(state, Mapping) else getattr(state, name, None)
