"""What the content blocks of a message are, by the types that providers and LangChain give them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TEXT_TYPES = frozenset({"text", "input_text", "output_text", "text-plain"})
MEDIA_TYPES = frozenset(
    {"image", "image_url", "input_image", "audio", "input_audio", "video", "file", "input_file", "document", "media"}
)
CALL_TYPES = frozenset({"tool_use", "function_call", "tool_call", "tool_call_chunk", "invalid_tool_call"})
THOUGHT_TYPES = frozenset({"thinking", "redacted_thinking", "reasoning"})


def type_of(block: Any) -> str | None:
    """The type of a block; None where it has none, as a text has."""
    found = block.get("type") if isinstance(block, Mapping) else None
    return found if isinstance(found, str) else None


def is_text(block: Any) -> bool:
    """Whether a block is a text that can be read and cut."""
    return type_of(block) in TEXT_TYPES and isinstance(block.get("text"), str)


def is_media(block: Any) -> bool:
    """Whether a block is an image, a sound or a file: a document that is a text is none."""
    if type_of(block) not in MEDIA_TYPES:
        return False
    return type_of(block.get("source")) not in ("text", "content")
