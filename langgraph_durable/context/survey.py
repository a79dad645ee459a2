"""One look at a whole conversation, before every call of a model: what each message costs, and whether all is in order.

It has to be fast, since nearly always there is nothing to do: a text is counted by its length, and what takes longer,
long texts, calls of tools and lists of blocks, is remembered with a copy of what was counted. An edit in place differs
from the copy.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any, NamedTuple

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage

from langgraph_durable.context.calls import call_ids
from langgraph_durable.context.tokens import BYTES, EACH, LONG, tokens_of


class Survey(NamedTuple):
    """The tokens of each message, and whether model providers accept the conversation as it is."""

    costs: list[int]
    in_order: bool


class _Known(NamedTuple):
    message: weakref.ref[BaseMessage]
    content: Any
    calls: tuple[Any, Any] | None
    cost: int
    ids: frozenset[str] | None


_known: dict[int, _Known] = {}
"""What was counted of messages that are still there, by `id()`."""

_PLAIN = frozenset({HumanMessage, SystemMessage, ToolMessage})
"""What calls no tool."""

_NOBODY: frozenset[str] = frozenset()


def survey(messages: Sequence[BaseMessage]) -> Survey:
    """What the messages cost by `tokens_of`, and whether each call of a tool has its result right behind it."""
    costs: list[int] = []
    add = costs.append
    waiting = _NOBODY
    in_order = True
    for message in messages:
        kind = type(message)
        content = message.content
        if kind not in _PLAIN or content.__class__ is not str or len(content) >= LONG:
            found = _known.get(id(message))
            if (
                found is None
                or found.message() is not message
                or found.content != content
                or (found.calls is not None and found.calls != _calls(message))
            ):
                found = _count(message)
            add(found.cost)
            ids = found.ids
        else:
            size = len(content) if content.isascii() else len(content.encode("utf-8", "surrogatepass"))
            add(EACH + (size + BYTES - 1) // BYTES)
            ids = _NOBODY
        if kind is ToolMessage or isinstance(message, ToolMessage):
            call_id = message.tool_call_id  # type: ignore[attr-defined]  # mypy does not know a class by `is`
            if call_id not in waiting:
                in_order = False
            elif len(waiting) == 1:
                waiting = _NOBODY
            else:
                waiting = waiting - {call_id}
        elif waiting or ids is None:
            in_order = False
            waiting = _NOBODY
        else:
            waiting = ids
    named = [message.id for message in messages]
    if len(set(named)) < len(named):
        named = [name for name in named if name]
        in_order = in_order and len(set(named)) == len(named)
    return Survey(costs, in_order and not waiting)


def _count(message: BaseMessage) -> _Known:
    place = id(message)

    def forget(gone: weakref.ref[BaseMessage]) -> None:
        found = _known.get(place)
        if found is not None and found.message is gone:
            _known.pop(place, None)

    made = _Known(
        weakref.ref(message, forget),
        _copied(message.content),
        _copied(_calls(message)) if isinstance(message, AIMessage) else None,
        tokens_of(message),
        call_ids(message),
    )
    _known[place] = made
    return made


def _calls(message: Any) -> tuple[Any, Any]:
    return message.tool_calls, message.invalid_tool_calls


def _copied(value: Any) -> Any:
    """A copy in which an edit of the original does not show; texts are shared, as nobody can edit them."""
    if value.__class__ is dict:
        return {key: _copied(part) for key, part in value.items()}
    if value.__class__ is list:
        return [_copied(part) for part in value]
    return tuple(map(_copied, value)) if value.__class__ is tuple else value
