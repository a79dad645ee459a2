"""Tool calls without a result, which no model provider accepts, and what to say instead of one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from langchain_core.messages import AIMessage, ToolCall, ToolMessage

UNKNOWN = (
    "This tool call was interrupted before its result was stored. Whether it had any effect is not known: check before "
    "calling it again."
)
"""What a model is told of a call that may or may not have been made."""


def unanswered(values: Any, results: Iterable[Any] = ()) -> dict[str, list[ToolCall]]:
    """The calls at the end of each list of messages that have no result, by channel.

    `values` is a state, `results` what finished tasks will add to it.
    """
    found: dict[str, list[ToolCall]] = {}
    answered = {message.tool_call_id for result in results for message in _tool_messages(result)}
    for channel, value in values.items() if isinstance(values, Mapping) else ():
        calls = _last_calls(value) if isinstance(value, list) else []
        open_calls = [call for call in calls if call["id"] not in answered]
        if open_calls:
            found[channel] = open_calls
    return found


def closed(calls: Iterable[ToolCall]) -> list[ToolMessage]:
    """A result for each call, that says that its effects are unknown."""
    return [
        ToolMessage(content=UNKNOWN, name=call["name"], tool_call_id=call["id"] or "", status="error") for call in calls
    ]


def _last_calls(messages: list[Any]) -> list[ToolCall]:
    """The calls of the last message of a model that nothing but results follows, as far as those are missing."""
    answered: set[str] = set()
    for message in reversed(messages):
        if isinstance(message, ToolMessage):
            answered.add(message.tool_call_id)
        elif isinstance(message, AIMessage):
            return [call for call in message.tool_calls if call["id"] not in answered]
        else:
            break
    return []


def _tool_messages(result: Any) -> Iterator[ToolMessage]:
    if isinstance(result, ToolMessage):
        yield result
    elif isinstance(result, Mapping):
        for value in result.values():
            yield from _tool_messages(value)
    elif isinstance(result, (list, tuple)):
        for value in result:
            yield from _tool_messages(value)
