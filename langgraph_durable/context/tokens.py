"""How many tokens a model will count, estimated from the bytes of a text: no tokenizer, no network, linear in time.

A token is about four bytes of UTF-8, in English as in JSON, and less where there are many digits; a script that takes
three bytes a character takes more tokens a character as well. What the provider counted for the last call corrects the
estimate of the next, see `calibration`. Media are counted flat: what an image costs does not depend on how it is
encoded.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from langchain_core.messages import AIMessage, BaseMessage

from langgraph_durable.context.blocks import CALL_TYPES, is_media, type_of

TokenCounter: TypeAlias = Callable[[Sequence[BaseMessage]], int]

BYTES = 4
"""Bytes a token."""

LONG = 256
"""Characters from which on the digits of a text are counted: two or three of them make a token, and there may be many.
"""

EACH = 4
"""Tokens that go with a message whatever it says: its role, and what sets it apart."""

CALL = 8
"""Tokens that go with a tool call: its id, and the words around its name and arguments."""

MEDIA = 1000
"""Tokens of an image, a sound or a file: providers count some 85 to 1,600 for an image."""

ENCODED = 1000
"""Characters of a text without a space from which on it is encoded data."""

_DATA = re.compile(r"(?:data:[a-z0-9.+/;=-]+,)?[A-Za-z0-9+/=_-]+")


def count_tokens(messages: Sequence[BaseMessage]) -> int:
    """About how many tokens the messages are, without the tools and whatever else is sent with them."""
    return sum(map(tokens_of, messages))


def tokens_of(message: BaseMessage) -> int:
    """About how many tokens one message is: an image, a sound or a file count 1,000 each."""
    content = message.content
    size = _bytes(content) if isinstance(content, str) else sum(_block(block, message) for block in content)
    if isinstance(message, AIMessage):
        for call in (*message.tool_calls, *message.invalid_tool_calls):
            size += BYTES * CALL + _length(call.get("name")) + _length(call.get("args"))
    return EACH + (size + BYTES - 1) // BYTES


def is_data(text: str) -> bool:
    """Whether a text is encoded data, such as an image in base64, which nobody reads."""
    return len(text) >= ENCODED and _DATA.fullmatch(text, 0, ENCODED) is not None


def without_data(value: Any, instead: str) -> Any:
    """A plain value with another text in the place of each that is encoded data."""
    if isinstance(value, str):
        return instead if is_data(value) else value
    if isinstance(value, Mapping):
        return {key: without_data(part, instead) for key, part in value.items()}
    return [without_data(part, instead) for part in value] if isinstance(value, (list, tuple)) else value


def _block(block: Any, message: BaseMessage) -> int:
    if isinstance(block, str):
        return _bytes(block)
    kind = type_of(block)
    if kind == "text":
        return _length(block.get("text"))
    if is_media(block):
        return BYTES * MEDIA
    if kind in CALL_TYPES and isinstance(message, AIMessage) and message.tool_calls:
        return 0  # the same call is among the calls
    return _length(without_data(block, "x" * (BYTES * MEDIA)))


def _bytes(text: str) -> int:
    size = len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
    return size if len(text) < LONG else size + sum(map(text.count, "0123456789")) * 3 // 5


def _length(value: Any) -> int:
    if value.__class__ is str:
        return _bytes(value)
    if isinstance(value, dict):
        size = 2
        for key, part in value.items():
            size += len(str(key)) + 6 + _length(part)
        return size
    if isinstance(value, (list, tuple)):
        size = 2
        for part in value:
            size += 2 + _length(part)
        return size
    if isinstance(value, str):
        return _bytes(value)
    return 4 if value is None or isinstance(value, bool) else len(str(value))
