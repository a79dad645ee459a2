"""The tool calls that a message makes, wherever in it they are written down.

What makes a call in a content block alone is not in order: some providers' formatters leave such blocks out, and then
its result is one of no call. With the same call among the calls of the message all of them have it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolCall, ToolMessage

from langgraph_durable.context.blocks import type_of


def calls_of(message: BaseMessage) -> list[ToolCall]:
    """Every call that wants a result in a message that is in order, also of what could not be parsed."""
    if not isinstance(message, AIMessage):
        return []
    invalid = [
        ToolCall(name=str(call.get("name") or ""), args={}, id=call.get("id"), type="tool_call")
        for call in message.invalid_tool_calls
    ]
    return [*message.tool_calls, *invalid]


def called(message: BaseMessage) -> list[str | None]:
    """The ids of the calls that a message makes, or of the one that it answers."""
    return [message.tool_call_id] if isinstance(message, ToolMessage) else [call["id"] for call in calls_of(message)]


def call_ids(message: BaseMessage) -> frozenset[str] | None:
    """The ids of the calls in a message; None where it has calls or results that have to be put in order first."""
    if not isinstance(message, AIMessage):
        return None if results_in(message) else frozenset()
    written = [call["id"] for call in message.tool_calls]
    written += [call.get("id") for call in message.invalid_tool_calls]
    if not all(written) or len(set(written)) != len(written):
        return None
    if not isinstance(message.content, str) and not {*map(block_call_id, message.content)} <= {None, *written}:
        return None
    return frozenset(call_id for call_id in written if call_id)


def results_in(message: BaseMessage) -> list[Mapping[str, Any]]:
    """The blocks in which a user's message has results of calls, as Anthropic writes them."""
    if isinstance(message.content, str) or not isinstance(message, HumanMessage):
        return []
    return [block for block in message.content if isinstance(block, Mapping) and type_of(block) == "tool_result"]


def block_call_id(block: Any) -> str | None:
    """The id of the call that a content block makes: "" where that has none, None where it is no call."""
    kind = type_of(block)
    if kind in ("tool_use", "tool_call"):
        return str(block.get("id") or "")
    if kind == "function_call":
        return str(block.get("call_id") or block.get("id") or "")
    return None


def block_call(block: Mapping[str, Any]) -> ToolCall:
    """The call that a content block makes, as the calls of a message are written."""
    args = block.get("input", block.get("args", block.get("arguments")))
    if isinstance(args, str):
        try:
            args = json.loads(args)
        except ValueError:
            args = {"arguments": args}
    given = args if isinstance(args, dict) else {}
    return ToolCall(name=str(block.get("name") or ""), args=given, id=block_call_id(block), type="tool_call")
