"""Two tools have one hash exactly when the model is told the same of them, whatever they are made of.

What was found out about a tool is kept as long as the tool is, and found out anew when anything about it has changed. A
class of arguments that is changed in place is seen to have when it is rebuilt (`model_rebuild`), as pydantic wants it.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from langchain_core.tools import BaseTool, BaseToolkit
from pydantic import BaseModel

from langgraph_durable.environment.canonical import canonical, sha256_of
from langgraph_durable.environment.kept import Kept
from langgraph_durable.environment.seen import seen
from langgraph_durable.errors import InvalidRequestError


class Definition(NamedTuple):
    """What a model is told of a tool: `told` is canonical JSON, and `hash` the SHA-256 of it, in 64 digits.

    Arguments that are injected are not in it, nor is what gives access to anything.
    """

    name: str
    hash: str
    told: str

    @property
    def description(self) -> str:
        """What the model is told that the tool does, without indentation."""
        return str(json.loads(self.told)["description"])

    @property
    def parameters(self) -> dict[str, Any]:
        """The JSON schema of the arguments; a new one each time."""
        return dict(json.loads(self.told)["parameters"])

    @property
    def other(self) -> dict[str, Any]:
        """What else there is to it: `strict`, the type of a tool of the provider's own and how it is set."""
        return dict(json.loads(self.told)["other"])


def definitions(tools: Any) -> dict[str, Definition]:
    """The definitions of tools by name, sorted by name; whatever `bind_tools` takes, in any order and nesting.

    Of several tools of one name the second is `name (2)`, in the order of their hashes. A `ToolNode`, a toolkit, a
    mapping of tools and raw MCP tools will do as well. InvalidRequestError for what is no tool.
    """
    by_name: defaultdict[str, list[Definition]] = defaultdict(list)
    for definition in _each(tools, "tools", ()):
        by_name[definition.name].append(definition)
    # The first of each has its own name, also where another tool is really called `name (2)`.
    named = {name: min(found, key=_hash) for name, found in by_name.items()}
    for name in sorted(name for name, found in by_name.items() if len(found) > 1):
        number = 2
        for definition in sorted(by_name[name], key=_hash)[1:]:
            while f"{name} ({number})" in named:
                number += 1
            named[f"{name} ({number})"] = definition
    return dict(sorted(named.items()))


def _hash(definition: Definition) -> str:
    return definition.hash


_kept: Kept[Definition] = Kept()


def _each(thing: Any, place: str, within: tuple[int, ...]) -> Iterator[Definition]:
    """The definition of a tool, or those of what holds tools; `within` are the ids of what that is in."""
    known = _kept.find(thing)
    if known is not None:
        yield known
    elif _is_one(thing):
        yield _kept.keep(thing, lambda: _definition(thing, place))
    elif id(thing) in within:
        raise InvalidRequestError(f"{place} is of type {type(thing).__name__}, and holds itself")
    else:
        for where, part in _parts(thing, place):
            yield from _each(part, where, (*within, id(thing)))


def _is_one(thing: Any) -> bool:
    if isinstance(thing, Mapping):
        return any(isinstance(thing.get(key), str) for key in ("name", "title", "type")) or any(
            isinstance(thing.get(key), Mapping) and inner in thing[key]
            for key, inner in (("toolSpec", "inputSchema"), ("function", "parameters"))
        )
    if isinstance(thing, (BaseTool, type)):
        return True
    if isinstance(getattr(thing, "inputSchema", None), Mapping):
        return isinstance(getattr(thing, "name", None), str)
    return callable(thing) and not isinstance(getattr(thing, "tools_by_name", None), Mapping)


def _parts(thing: Any, place: str) -> Iterator[tuple[str, Any]]:
    """What something holds, and where it is."""
    held = thing if isinstance(thing, Mapping) else getattr(thing, "tools_by_name", None)
    if isinstance(held, Mapping):
        for key, part in held.items():
            # Google's own tools are called by the only key, as in {"google_search": {}}.
            yield f"{place}[{key!r}]", {"type": key} if isinstance(part, Mapping) and not part else part
        return
    if isinstance(thing, BaseToolkit):
        thing = thing.get_tools()
    if not isinstance(thing, Iterable) or isinstance(thing, (str, bytes, bytearray, BaseModel)):
        raise InvalidRequestError(
            f"{place} is of type {type(thing).__name__}, and no tool: give what a chat model's bind_tools takes, "
            "a ToolNode, or a list of these"
        )
    for index, part in enumerate(thing):
        yield f"{place}[{index}]", part


def _definition(tool: Any, place: str) -> Definition:
    try:
        one = seen(dict(tool) if isinstance(tool, Mapping) else tool)
        told = canonical(one._asdict())
    except Exception as error:
        raise InvalidRequestError(
            f"{place} is of type {type(tool).__name__}, and cannot be described as a tool: {error}"
        ) from error
    return Definition(one.name, sha256_of(told), told)
