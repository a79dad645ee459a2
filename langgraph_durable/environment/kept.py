"""What was found out about something is kept as long as that lives, and is given out only while it is as it was.

Tools and functions are told apart by identity, and not held. Dicts are told apart by what is in them. About the rest,
such as classes, whatever is asked is found out anew.
"""

from __future__ import annotations

import re
import weakref
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from types import FunctionType
from typing import Any, Generic, TypeVar

import orjson
from langchain_core.tools import BaseTool

from langgraph_durable.environment.schemas import is_as_usual

T = TypeVar("T")

_MOST = 4096
_STRICT = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_SUBCLASS
_WORD = re.compile(r"[^\W\d]\w*")


@dataclass(frozen=True)
class _Entry(Generic[T]):
    ref: weakref.ref[Any]
    mark: Any
    found: T


class Kept(Generic[T]):
    """What was found out about tools. Any number of threads may use it: at worst, two find out the same thing."""

    def __init__(self) -> None:
        self._by_id: dict[int, _Entry[T]] = {}
        self._by_content: dict[bytes, T] = {}

    def find(self, thing: Any) -> T | None:
        """What is known of something, None when nothing is or it has changed since."""
        if type(thing) is dict:
            content = _content(thing)
            return None if content is None else self._by_content.get(content)
        entry = self._by_id.get(id(thing))
        return entry.found if entry is not None and entry.ref() is thing and entry.mark == _mark(thing) else None

    def keep(self, thing: Any, find_out: Callable[[], T]) -> T:
        """Find something out, and keep it where a change could be noticed."""
        # Before: what changes meanwhile is found out anew.
        mark = _content(thing) if type(thing) is dict else _mark(thing)
        found = find_out()
        if type(thing) is dict and mark is not None:
            if len(self._by_content) >= _MOST:
                self._by_content.clear()
            self._by_content[mark] = found
        elif mark is not None:
            key, entries = id(thing), self._by_id

            def gone(ref: weakref.ref[Any]) -> None:
                entry = entries.get(key)
                if entry is not None and entry.ref is ref:
                    entries.pop(key, None)

            with suppress(TypeError):  # Of a class with slots, and none for references.
                entries[key] = _Entry(weakref.ref(thing, gone), mark, found)
        return found

    def __len__(self) -> int:
        return len(self._by_id) + len(self._by_content)


# -- what would have to change for the definition to change ------------------------------------------------------------


class _Same:
    """An object that is equal to nothing but itself: types may be equal and mean something else."""

    __slots__ = ("_it",)

    def __init__(self, it: object) -> None:
        self._it = it

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other._it is self._it

    __hash__ = None  # type: ignore[assignment]  # Compared, and never looked up.


def _mark(thing: Any) -> Any:
    """What is compared; None for what could change without being noticed."""
    try:
        if isinstance(thing, BaseTool):
            return _mark_of_tool(thing) if is_as_usual(thing) else None
        # What would have to be compared of a class holds the class, which would never be let go.
        return _mark_of_function(thing) if isinstance(thing, FunctionType) else None
    except Exception:  # noqa: BLE001  # Annotations and properties may raise anything; describing the tool tells of it.
        return None


def _mark_of_tool(tool: BaseTool) -> Any:
    schema = tool.args_schema
    if isinstance(schema, dict):
        content = _content(schema)
        return None if content is None else (tool.name, tool.description, content)
    inner = _mark_of_function(type(tool)._run) if schema is None else _mark_of_class(schema)
    return None if inner is None else (tool.name, tool.description, inner)


def _mark_of_class(model: type[Any]) -> Any:
    # A class that is rebuilt has another validator.
    return (model, model.__name__, model.__doc__, getattr(model, "__pydantic_validator__", None))


def _mark_of_function(function: Any) -> Any:
    if not isinstance(function, FunctionType) or not function.__dict__.keys().isdisjoint(_INSTEAD):
        return None
    defaults = [_mark_of_value(one) for one in function.__defaults__ or ()]
    by_name = {name: _mark_of_value(one) for name, one in (function.__kwdefaults__ or {}).items()}
    if None in defaults or None in by_name.values():
        return None
    annotations = [
        (name, one, [_Same(function.__globals__.get(word)) for word in _WORD.findall(one)])
        if isinstance(one, str)
        else (name, _Same(one))
        for name, one in function.__annotations__.items()
    ]
    named = (function.__name__, function.__qualname__, function.__doc__)
    return (named, function.__code__, defaults, by_name, annotations)


_INSTEAD = {"__signature__", "__wrapped__"}
"""What stands for a function where it is asked for its arguments."""


def _mark_of_value(value: Any) -> Any:
    if value is None or isinstance(value, (str, int, float)):
        return (type(value), value)
    return _content(value)


def _content(value: Any) -> bytes | None:
    """A value as JSON, None where it is none; 1, 1.0 and True are not the same."""
    try:
        return orjson.dumps(value, option=_STRICT)
    except (TypeError, ValueError, RecursionError):
        return None
