"""Stored bytes as JSON that a person can read, and exactly the same bytes back from it.

What JSON can say is said in JSON, the rest is in base64; nothing is said that would come back as other bytes:

    {"role": "ai", "content": "...", ...}        a message, with its fields
    {"value": ...}                               text, numbers, booleans, null, and lists and dicts of them
    {"type": "...", "base64": "..."}             what the serializer made of anything else
    {"values": [...]}                            several of these in one chunk
    {"kind": "...", "base64": "..."}             bytes of any other kind: compressed, encrypted

The bytes are the element streams of `codec`.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import orjson
import ormsgpack

ROLES = {2: "human", 3: "ai", 4: "system", 5: "tool"}
"""The codes of messages in a stream, by what they are called in the text."""

SMALL = 64
"""Bytes of what is said again and again: nothing, a node's name, a number."""

_MARK = 0xDEADBEEF
_MARK_BYTES = b"\xce\xde\xad\xbe\xef"
_CODES = {role: code for code, role in ROLES.items()}


def to_text(value: Any) -> str:
    """A value as JSON in one line. TypeError where JSON cannot say it, `null` for what is no number."""
    return orjson.dumps(value).decode()


def from_bytes(kind: str, data: bytes) -> str:
    """Bytes of a kind as the text of a JSON object, in one line."""
    return _of_small(kind, data) if len(data) <= SMALL else _from_bytes(kind, data)


def _from_bytes(kind: str, data: bytes) -> str:
    if kind == "":
        try:
            values = _values(data)
            text = orjson.dumps(values[0] if len(values) == 1 else {"values": values})
            # The proof that nothing was lost on the way: what is no JSON comes back as something else, or not at all.
            if to_bytes(orjson.loads(text)) == (kind, data):
                return text.decode()
        except (ValueError, TypeError, KeyError, AttributeError):
            pass
    return to_text({"kind": kind, "base64": _base64(data)})


_of_small = lru_cache(maxsize=1024)(_from_bytes)


def to_bytes(said: Mapping[str, Any]) -> tuple[str, bytes]:
    """What `from_bytes` was given, from the object. ValueError, KeyError or TypeError for what it does not make."""
    if "kind" in said:
        return str(said["kind"]), b64decode(said["base64"], validate=True)
    if "values" in said and len(said) == 1:
        return "", b"".join(map(_stream, said["values"]))
    return "", _stream(said)


def _values(data: bytes) -> list[dict[str, Any]]:
    """The values of a stream, as they are to be said."""
    flat = _items(data)
    return [_said(code, payload) for code, payload in zip(flat[0::2], flat[1::2], strict=True)]


def _items(data: bytes) -> list[Any]:
    """Codes and payloads in turns. ValueError when that is not what the bytes are."""
    # A stream does not say how many there are, and msgpack does not say where it stopped: too few of them end before
    # the mark, too many fail.
    low, high = 1, 2
    while True:
        flat = _unpacked(data, low)
        if flat is None:
            break
        if flat.pop() == _MARK:
            return flat
        low, high = high, 2 * high
    low, high = low // 2 + 1, low - 1
    while low <= high:
        middle = (low + high) // 2
        flat = _unpacked(data, middle)
        if flat is None:
            high = middle - 1
        elif flat.pop() == _MARK:
            return flat
        else:
            low = middle + 1
    raise ValueError("these are no values")


def _unpacked(data: bytes, count: int) -> list[Any] | None:
    try:
        unpacked: list[Any] = ormsgpack.unpackb(
            b"\xdd" + (2 * count + 1).to_bytes(4, "big") + data + _MARK_BYTES, option=ormsgpack.OPT_NON_STR_KEYS
        )
    except ValueError:
        return None
    return unpacked


def _said(code: Any, payload: Any) -> dict[str, Any]:
    if code == 1:
        return {"value": payload}
    if code == 0:
        kind, data = payload
        return {"type": kind, "base64": _base64(data)}
    return {"role": ROLES[code], **payload}


def _stream(said: Mapping[str, Any]) -> bytes:
    if "role" in said:
        fields = dict(said)
        return bytes((_CODES[fields.pop("role")],)) + ormsgpack.packb(fields)
    if "base64" in said:
        return b"\x00" + ormsgpack.packb([said["type"], b64decode(said["base64"], validate=True)])
    return b"\x01" + ormsgpack.packb(said["value"])


def _base64(data: bytes) -> str:
    return b64encode(data).decode("ascii")
