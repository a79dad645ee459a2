"""What model providers refuse of a conversation, without asking one: by rules, and by the formatters of their packages.

The formatters are those of `langchain_openai` (both of its APIs), `langchain_anthropic` and `langchain_google_genai`.
They open no connection. A provider whose package is missing is left out, see `missing`.
"""

from __future__ import annotations

import importlib.util
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from importlib import import_module
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage

# -- by rules --------------------------------------------------------------------------------------------------------


def call_ids(message: BaseMessage) -> list[Any]:
    """The ids of the calls of a message, each as often as it has a call of its own; None or "" where it has none.

    A call may be told in several ways, and a provider's package looks at any of them: one in the content of the message
    that is among its `tool_calls` too is the same call.
    """
    if not isinstance(message, AIMessage):
        return []
    found: list[Any] = [call["id"] for call in (*message.tool_calls, *message.invalid_tool_calls)]
    if not found:
        found = [call.get("id") for call in message.additional_kwargs.get("tool_calls") or ()]
    for block in message.content if isinstance(message.content, list) else ():
        if isinstance(block, dict) and block.get("type") in ("tool_use", "function_call", "tool_call"):
            call_id = block.get("call_id") if block["type"] == "function_call" else block.get("id")
            if call_id not in found:
                found.append(call_id)
    return found


def problems(messages: Sequence[BaseMessage]) -> list[str]:
    """What a provider would refuse; nothing if it would take the messages."""
    found: list[str] = []
    begun = False
    results: Counter[Any] = Counter()
    """Of the calls of the last message of the model, those without a result."""
    for place, message in enumerate(messages):
        at = f"{place} ({message.type})"
        if isinstance(message, ToolMessage):
            if not begun:
                found.append(f"{at}: the first message is a result")
            if results[message.tool_call_id] > 0:
                results[message.tool_call_id] -= 1
            else:
                found.append(f"{at}: a result of no open call, {message.tool_call_id!r}")
            begun = True
            continue
        found += [f"{at}: comes before the result of {call_id!r}" for call_id in results.elements()]
        ids = call_ids(message)
        results = Counter(ids)
        found += [f"{at}: a call without an id" for call_id in ids if not call_id]
        found += [f"{at}: {number} calls of one id, {call_id!r}" for call_id, number in results.items() if number > 1]
        if isinstance(message, SystemMessage):
            if begun:
                found.append(f"{at}: a system message behind others")
        else:
            begun = True
    found += [f"the end: no result of {call_id!r}" for call_id in results.elements()]
    named = Counter(message.id for message in messages if message.id is not None)
    found += [f"{number} messages of one id, {name!r}" for name, number in named.items() if number > 1]
    return found


# -- by formatters -----------------------------------------------------------------------------------------------------


def _with_blocks(message: BaseMessage, accepted: Callable[[Any], bool]) -> BaseMessage:
    """The message with a text in the place of each block of its content that is not accepted."""
    if not isinstance(message.content, list) or all(map(accepted, message.content)):
        return message
    blocks = [block if accepted(block) else {"type": "text", "text": _worded(block)} for block in message.content]
    return message.model_copy(update={"content": blocks})


def _worded(block: Any) -> str:
    return block if isinstance(block, str) else f"({block.get('type')})"


def _kind(block: Any) -> Any:
    return block.get("type") if isinstance(block, dict) else None


def _openai_chat(messages: Sequence[BaseMessage]) -> Any:
    return _client("langchain_openai", "ChatOpenAI", use_responses_api=False)._get_request_payload(list(messages))


def _openai_responses(messages: Sequence[BaseMessage]) -> Any:
    # It asks each block of a request or of instructions for its type, so a bare string raises a TypeError.
    given = [
        _with_blocks(message, lambda block: isinstance(block, dict))
        if isinstance(message, (HumanMessage, SystemMessage))
        else message
        for message in messages
    ]
    return _client("langchain_openai", "ChatOpenAI", use_responses_api=True)._get_request_payload(given)


def _anthropic(messages: Sequence[BaseMessage]) -> Any:
    # There is no audio in its API: a ValueError.
    given = [_with_blocks(message, lambda block: _kind(block) != "audio") for message in messages]
    return _client("langchain_anthropic", "ChatAnthropic")._get_request_payload(given)


def _gemini(messages: Sequence[BaseMessage]) -> Any:
    # Blocks that are not Gemini's, in a request: a ValueError. Those are unknown ones and Anthropic's form of an image.
    given = [
        _with_blocks(
            message, lambda block: _kind(block) != "widget" and not (_kind(block) == "image" and "source" in block)
        )
        if isinstance(message, HumanMessage)
        else message
        for message in messages
    ]
    parser = import_module("langchain_google_genai.chat_models")._parse_chat_history
    return parser(given, model="gemini-2.5-flash")


@cache
def _client(package: str, name: str, **options: Any) -> Any:
    """A model of a provider, with a key that opens nothing."""
    return getattr(import_module(package), name)(model="some-model", api_key="none", **options)


FORMATTERS: dict[str, tuple[str, Callable[[Sequence[BaseMessage]], Any]]] = {
    "openai": ("langchain_openai", _openai_chat),
    "openai responses": ("langchain_openai", _openai_responses),
    "anthropic": ("langchain_anthropic", _anthropic),
    "gemini": ("langchain_google_genai", _gemini),
}
"""By the name of an API: the package that speaks it, and what makes a request of messages."""


def missing() -> list[str]:
    """The APIs whose package is not installed."""
    return [name for name, (package, _) in FORMATTERS.items() if importlib.util.find_spec(package) is None]


def formatted(messages: Sequence[BaseMessage]) -> dict[str, Any]:
    """What each API would be sent, by its name."""
    left_out = missing()
    return {name: make(messages) for name, (_, make) in FORMATTERS.items() if name not in left_out}


# -- by what the formatters made ---------------------------------------------------------------------------------------


def unpaired(requests: Mapping[str, Any]) -> list[str]:
    """Calls without a result, and results without a call, in what APIs would be sent."""
    checks = {
        "openai": _unpaired_openai,
        "openai responses": _unpaired_responses,
        "anthropic": _unpaired_anthropic,
        "gemini": _unpaired_gemini,
    }
    return [f"{name}: {problem}" for name, request in requests.items() for problem in checks[name](request)]


def _unpaired_openai(request: Any) -> Iterator[str]:
    open_calls: list[Any] = []
    for place, message in enumerate(request["messages"]):
        if message["role"] == "tool":
            if message["tool_call_id"] in open_calls:
                open_calls.remove(message["tool_call_id"])
            else:
                yield f"{place}: a result of no open call, {message['tool_call_id']!r}"
            continue
        if open_calls:
            yield f"{place}: comes before the results of {open_calls}"
        open_calls = [call["id"] for call in message.get("tool_calls") or ()]
    if open_calls:
        yield f"the end: no results of {open_calls}"


def _unpaired_responses(request: Any) -> Iterator[str]:
    # It leaves a call out whose id an earlier one had, so only whether there is one of an id can be asked.
    items = request["input"]
    calls = {item["call_id"] for item in items if item["type"] == "function_call"}
    results = {item["call_id"] for item in items if item["type"] == "function_call_output"}
    if calls != results:
        yield f"calls {sorted(calls - results)} without a result, results {sorted(results - calls)} without a call"


def _unpaired_anthropic(request: Any) -> Iterator[str]:
    open_calls: list[Any] = []
    for place, message in enumerate(request["messages"]):
        blocks = message["content"] if isinstance(message["content"], list) else []
        results = [block["tool_use_id"] for block in blocks if block.get("type") == "tool_result"]
        if sorted(results) != sorted(open_calls):
            yield f"{place}: results of {results} behind calls {open_calls}"
        open_calls = [block["id"] for block in blocks if block.get("type") == "tool_use"]
    if open_calls:
        yield f"the end: no results of {open_calls}"


def _unpaired_gemini(request: Any) -> Iterator[str]:
    calls = 0
    for place, content in enumerate(request[1]):
        results = sum(part.function_response is not None for part in content.parts or ())
        if results != calls:
            yield f"{place}: {results} results behind {calls} calls"
        calls = sum(part.function_call is not None for part in content.parts or ())
    if calls:
        yield f"the end: no results of {calls} calls"
