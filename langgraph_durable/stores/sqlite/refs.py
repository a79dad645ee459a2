"""One msgpack list holds the refs of a row."""

from __future__ import annotations

from typing import Any

import ormsgpack


def packed(refs: Any) -> bytes:
    """Refs, or writes with a ref at the end of each, as the bytes of a column."""
    return ormsgpack.packb(refs)


def unpacked(data: bytes) -> Any:
    """What was packed, lists as tuples again, since refs are compared and looked up."""
    return _tuples(ormsgpack.unpackb(data))


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
