"""Values taken apart: `form` is compared, `changeable` is what two readers must not share, `wreck` what one may do.

Two values have equal forms if and only if they are the same to their last type, with their keys in the same order.
"""

from __future__ import annotations

import dataclasses
import types
from collections import deque
from collections.abc import Iterator
from enum import Enum
from typing import Any

from langgraph.checkpoint.base import CheckpointTuple
from langgraph.types import Send
from pydantic import BaseModel

_SEQUENCES = (list, tuple, deque)
_SETS = (set, frozenset)
_PLAIN = {str, int, bool, bytes, type(None)}
_FIXED = (type, Enum, types.FunctionType, types.ModuleType, str, int, float, bytes, type(None))


def form(value: Any) -> Any:
    """`value` in plain tuples that hold the type of every part."""
    kind = type(value)
    if kind in _PLAIN:
        return kind, value
    if isinstance(value, BaseModel):
        return kind, form(value.__dict__), form(value.__pydantic_extra__ or {}), form(value.__pydantic_private__)
    if isinstance(value, dict):
        return kind, tuple((form(key), form(part)) for key, part in value.items())
    if isinstance(value, _SEQUENCES):
        return kind, tuple(form(part) for part in value)
    if isinstance(value, _SETS):
        return kind, tuple(sorted((form(part) for part in value), key=repr))
    if isinstance(value, Send):
        return kind, value.node, form(value.arg)
    if isinstance(value, float):
        return kind, repr(value)  # a NaN equals itself here, and -0.0 is not 0.0
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return kind, tuple((field.name, form(getattr(value, field.name))) for field in dataclasses.fields(value))
    return kind, value


def tuple_form(found: CheckpointTuple | None) -> Any:
    """All of a checkpoint tuple."""
    assert found is not None
    return form(tuple(found))


def _inside(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        yield from value.keys()
        yield from value.values()
    elif isinstance(value, (*_SEQUENCES, *_SETS)):
        yield from value
    elif isinstance(value, Send):
        yield value.arg
    elif isinstance(value, BaseModel):
        yield value.__dict__
        yield value.__pydantic_fields_set__
        yield value.__pydantic_extra__
        yield value.__pydantic_private__
    elif hasattr(value, "__dict__") and not isinstance(value, _FIXED):
        yield vars(value)


def changeable(value: Any) -> dict[int, Any]:
    """Every object in `value`, however deep, that could be changed in place, by its id."""
    met: dict[int, Any] = {}
    passed: set[int] = set()
    waiting = [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, _FIXED) or id(part) in passed:
            continue
        passed.add(id(part))
        if isinstance(part, (list, deque, dict, set, bytearray)) or hasattr(part, "__dict__"):
            met[id(part)] = part
        waiting.extend(_inside(part))
    return met


def wreck(value: Any) -> int:
    """Change everything in `value` that can be changed in place; how many objects that were."""
    parts = list(changeable(value).values())
    for part in parts:
        if isinstance(part, (list, deque)):
            part.clear()
            part.append("wrecked")
        elif isinstance(part, dict):
            for key in part:
                part[key] = "wrecked"
            part["wrecked"] = True
        elif isinstance(part, set):
            part.clear()
            part.add("wrecked")
        elif isinstance(part, bytearray):
            part[:] = b"wrecked"
    return len(parts)
