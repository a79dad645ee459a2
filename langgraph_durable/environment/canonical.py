"""Equal JSON has one text and one digest, in every process, on every platform and under every Python."""

from __future__ import annotations

import json
import math
from hashlib import sha256
from typing import Any

from langgraph_durable.errors import InvalidRequestError


def canonical(value: Any) -> str:
    """A value as JSON: keys sorted, no spaces, ASCII alone.

    1 and 1.0 are not the same text. InvalidRequestError for what is no JSON (NaN, a set, a key that is no string).
    """
    try:
        wrong = _wrong(value)
        if not wrong:
            return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    except RecursionError:
        raise InvalidRequestError("the value cannot be written as JSON: it is nested too deep, or in itself") from None
    except ValueError as error:
        raise InvalidRequestError(f"the value cannot be written as JSON: {error}") from error
    raise InvalidRequestError(f"the value cannot be written as JSON: value{wrong}")


def digest(value: Any) -> str:
    """The SHA-256 of a value's canonical JSON, in 64 hexadecimal digits."""
    return sha256_of(canonical(value))


def sha256_of(text: str) -> str:
    """The SHA-256 of canonical JSON that is there already."""
    return sha256(text.encode("ascii")).hexdigest()


def _wrong(value: Any) -> str:
    """Where in a value there is what JSON does not have, and what; empty where there is nothing."""
    if value is None or isinstance(value, (str, int)):
        return ""
    if isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, str):
                return f" has the key {key!r}, which is no string"
            if wrong := _wrong(inner):
                return f"[{key!r}]{wrong}"
        return ""
    if isinstance(value, (list, tuple)):
        for index, inner in enumerate(value):
            if wrong := _wrong(inner):
                return f"[{index}]{wrong}"
        return ""
    if isinstance(value, float):
        return "" if math.isfinite(value) else f" is {value}"
    return f" is of type {type(value).__name__}"
