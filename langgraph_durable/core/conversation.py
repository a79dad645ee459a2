"""Tool calls without a result, which no model provider accepts, and what to say instead of one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from langchain_core.messages import AIMessage, ToolCall, ToolMessage

UNKNOWN = (
    "This tool call was interrupted before its result was stored. Whether it had any effect is not known: check before "
    "calling it again."
)
"""What a model is told of a call that may or may not have been made."""


def unanswered(values: Any) -> dict[str, list[ToolCall]]:
    """The calls at the end of each list of messages of a state that have no result, by channel."""
    found = {
        channel: _last_calls(value)
        for channel, value in (values.items() if isinstance(values, Mapping) else ())
        if isinstance(value, list)
    }
    return {channel: calls for channel, calls in found.items() if calls}


def closed(call: ToolCall) -> ToolMessage:
    """A result for a call that says that its effects are unknown."""
    return ToolMessage(content=UNKNOWN, name=call["name"], tool_call_id=call["id"] or "", status="error")


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


def called(result: Any) -> Iterator[ToolCall]:
    """Every tool call of a model in what is written to a state."""
    if isinstance(result, AIMessage):
        yield from result.tool_calls
    elif isinstance(result, Mapping):
        for value in result.values():
            yield from called(value)
    elif isinstance(result, (list, tuple)):
        for value in result:
            yield from called(value)


def tool_messages(result: Any) -> Iterator[ToolMessage]:
    """Every result of a tool in a state, or in what is written to one."""
    if isinstance(result, ToolMessage):
        yield result
    elif isinstance(result, Mapping):
        for value in result.values():
            yield from tool_messages(value)
    elif isinstance(result, (list, tuple)):
        for value in result:
            yield from tool_messages(value)
