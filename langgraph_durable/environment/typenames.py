"""Types and functions in words that are the same in every process, for every way to write the same type."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import Enum
from functools import partial
from types import NoneType, UnionType
from typing import Annotated, Any, ClassVar, Final, ForwardRef, Literal, Union, get_args, get_origin

import typing_extensions
from langchain_core.messages import AnyMessage
from langgraph.graph.message import add_messages

_AROUND = (
    *(Annotated, ClassVar, Final),
    *(typing_extensions.Required, typing_extensions.NotRequired, typing_extensions.ReadOnly),
)
_LITERALS = (Literal, typing_extensions.Literal)


def type_name(kind: Any) -> str:
    """A type as text: `list[AnyMessage]`, `int | None`. Classes are told by their name alone, without a module.

    Members of a union, and of a Literal, are sorted: `typing` keeps one object for all orders of them, and so the order
    depends on who came first. What an alias of the `type` statement stands for is not looked into.
    """
    kind = _bare(kind)
    if kind is None or kind is NoneType:
        return "None"
    if kind is Ellipsis:
        return "..."
    if isinstance(kind, str):
        return kind
    if isinstance(kind, ForwardRef):
        return kind.__forward_arg__
    if isinstance(kind, (list, tuple)):
        return f"[{_listed(kind)}]"
    origin, args = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return " | ".join(_union(kind))
    if origin in _LITERALS:
        return f"Literal[{', '.join(sorted(map(_value, args)))}]"
    generic = getattr(kind, "__pydantic_generic_metadata__", None) if isinstance(kind, type) else None
    if generic and generic.get("origin") is not None:
        origin, args = generic["origin"], generic["args"]
    if origin is None:
        return _word(kind)
    if not args or args == ((),):
        return f"{_word(origin)}{'' if getattr(kind, '__args__', None) is None else '[()]'}"
    return f"{_word(origin)}[{_listed(args)}]"


def callable_name(function: Any) -> str:
    """A function as text: its qualified name without the module; of an object that can be called, its class."""
    if function is add_messages:
        return "add_messages"  # it calls itself by the name that it has inside a decorator
    if isinstance(function, partial):
        return f"partial({callable_name(function.func)})"
    name = _word(function if isinstance(getattr(function, "__qualname__", None), str) else type(function))
    # Whether a lambda is within a class depends on how the annotations of that are evaluated.
    return "<lambda>" if name.endswith(".<lambda>") else name


def _bare(kind: Any) -> Any:
    """A type without what is only said about it."""
    while get_origin(kind) in _AROUND:
        kind = get_args(kind)[0]
    return kind


def _listed(kinds: Iterable[Any]) -> str:
    return ", ".join(map(type_name, kinds))


def _union(kind: Any) -> list[str]:
    """The names of the members of a union, sorted, None last; all kinds of messages are one."""
    names = {type_name(member) for member in _members(kind)}
    if names >= _MESSAGES:
        names = names - _MESSAGES | {"AnyMessage"}
    return sorted(names, key=lambda name: (name == "None", name))


def _members(kind: Any) -> Iterator[Any]:
    kind = _bare(kind)
    if get_origin(kind) in (Union, UnionType):
        for member in get_args(kind):
            yield from _members(member)
    else:
        yield kind


def _value(value: Any) -> str:
    return f"{_word(type(value))}.{value.name}" if isinstance(value, Enum) else repr(value)


def _word(kind: Any) -> str:
    for attribute in ("__qualname__", "__name__", "_name"):
        name = getattr(kind, attribute, None)
        if isinstance(name, str):
            return name.rpartition("<locals>.")[2]
    return _word(type(kind))


_MESSAGES = frozenset(type_name(member) for member in _members(AnyMessage))
