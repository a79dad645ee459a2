"""A small number that tells whether a message still says what it said: made of its texts and the arguments of its
calls.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from zlib import crc32

from langchain_core.messages import BaseMessage


def mark(message: BaseMessage) -> int:
    """The CRC-32 of what a message says. Of images, sounds and files only how many parts there are counts."""
    return mark_of(vars(message))


def mark_of(fields: Mapping[str, Any]) -> int:
    """`mark` of a message with these fields."""
    content = fields["content"]
    number = _of(content, 0) if isinstance(content, str) else len(content)
    if not isinstance(content, str):
        for block in content:
            number = _of(block.get("text") if isinstance(block, Mapping) else block, number)
    if fields.get("tool_calls"):
        number = _of(repr([(call["name"], call["args"]) for call in fields["tool_calls"]]), number)
    return number


def _of(text: Any, number: int) -> int:
    return crc32(text.encode("utf-8", "surrogatepass"), number) if isinstance(text, str) else crc32(b"-", number)
