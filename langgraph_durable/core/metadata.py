"""The metadata of a checkpoint are kept as JSON, which filters look into, and come back exactly as they were put."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from langgraph_durable.core.codec import Codec
from langgraph_durable.core.records import Inline, Tag
from langgraph_durable.errors import UnserializableError

_SCALARS = frozenset({str, int, float, bool, type(None)})
_TEXT = frozenset({str})
_JSON = json.JSONEncoder(ensure_ascii=False)


def written(codec: Codec, metadata: Mapping[str, Any]) -> tuple[str, Inline | None]:
    """The metadata as JSON, and, where JSON would not give it back, exactly as well."""
    text = None
    try:
        text = _JSON.encode(metadata)
        if not text.isascii() and not _is_unicode(text):
            text = json.dumps(metadata)  # half a surrogate pair can only be written as an escape
        if _is_json(metadata):
            return text, None
    except RecursionError:
        text = None
    except (TypeError, ValueError):
        pass
    try:
        exact = codec.seal(codec.stream(dict(metadata), "(the metadata)"))
    except UnserializableError:
        if text is None:
            raise
        return text, None  # what an official saver would give back: tuples as lists, keys as text
    return json.dumps(_plain(metadata)), exact


def where(filter: Mapping[str, Any] | None) -> Callable[..., bool] | None:
    """A test for the metadata of a checkpoint, as JSON: each key has to be there with an equal value.

    A key with dots means the key of that name or, where there is none, the way into nested metadata. None matches
    None and a key that is not there. Booleans equal 0 and 1, as in Python and in SQLite. Where the metadata have no
    "status" of their own it means the tag, or what is `current` of it, by (thread, namespace, checkpoint).
    """
    if not filter:
        return None
    wanted = list(filter.items())

    def matches(
        metadata: str, tag: Tag | None = None, *, current: Mapping[tuple[str, str, str], str] | None = None
    ) -> bool:
        found = loaded(metadata)
        if found is None:
            return True  # what cannot be read is let through, to whoever reads it and is told so
        if tag is not None and "status" not in found:
            found["status"] = (current or {}).get(tag[:3], tag.status)
        return all(_at(found, key) == value for key, value in wanted)

    return matches


def loaded(metadata: str) -> dict[str, Any] | None:
    """Metadata from its JSON; None when it is damaged."""
    try:
        found = json.loads(metadata)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_json(value: Any) -> bool:
    """Whether JSON, as Python writes it, gives back the same: `value` is acyclic, since it has been written."""
    kind = type(value)
    if kind is dict:
        if not _TEXT.issuperset(map(type, value)):
            return False
        return _SCALARS.issuperset(map(type, value.values())) or all(map(_is_json, value.values()))
    if kind is list:
        return all(map(_is_json, value))
    return kind in _SCALARS


def _plain(value: Any, depth: int = 0) -> Any:
    """What of `value` JSON can say, for filters; the rest as text."""
    if depth < 16:
        if isinstance(value, Mapping):
            return {str(key): _plain(part, depth + 1) for key, part in value.items()}
        if isinstance(value, (list, tuple)):
            return [_plain(part, depth + 1) for part in value]
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float) and value == value and value not in (float("inf"), float("-inf")):
        return value
    return str(value)


def _at(metadata: Any, key: str) -> Any:
    if key in metadata or "." not in key:
        return metadata.get(key)
    for step in key.split("."):
        if not isinstance(metadata, dict) or step not in metadata:
            return None
        metadata = metadata[step]
    return metadata
