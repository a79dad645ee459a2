"""What a model is told of one tool, in one form: what Python versions and hash seeds change about it is left aside.

`convert_to_openai_tool` says what that is, and a dict of a provider's what else it holds; the quick way gives the same.
"""

from __future__ import annotations

import math
import os
import re
import threading
import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

from langchain_core.tools import BaseTool, StructuredTool
from langchain_core.utils.function_calling import convert_to_openai_tool

from langgraph_durable.environment.canonical import canonical
from langgraph_durable.environment.schemas import quick_parameters
from langgraph_durable.errors import InvalidRequestError

_READ = {"name", "description", "parameters", "input_schema"}
"""What the conversion reads of a provider's dict with a name."""
_UNSEEN = {"cache_control"}
"""What tells the provider how to bill, and the model nothing."""
_NAMED = {"name", "title", "function", "toolSpec", "properties"}
"""What a dict has one of that the conversion takes; another with a `type` is a tool of the provider's own."""
_SCHEMAS = {"parameters", "input_schema"}
_SECRET = re.compile(r"authorization|api.?key|secret|passw|credential|cookie|headers?$|url$|token$", re.IGNORECASE)
"""How tools of a provider's own call what lets it in elsewhere. It is no part of what the model sees."""

_MAPS = {"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"}
_INNER = {
    *("items", "prefixItems", "additionalItems", "unevaluatedItems", "contains", "additionalProperties"),
    *("unevaluatedProperties", "propertyNames", "anyOf", "oneOf", "allOf", "not", "if", "then", "else"),
}
"""Keywords of JSON schema with schemas by name, and with a schema or a list of them."""


class Seen(NamedTuple):
    """A tool as the model sees it; `other` is what there is besides, such as `strict` or a built-in tool's type."""

    name: str
    description: str
    parameters: dict[str, Any]
    other: dict[str, Any]


class _Quiet:
    """Describing a tool warns nobody: of a default that is no JSON the model sees nothing.

    One at a time, since Python's list of what to ignore is one for all threads.
    """

    def __init__(self) -> None:
        self.forked()

    def forked(self) -> None:
        """Start anew, in the child of a fork: whoever had the lock is not there."""
        self._lock = threading.RLock()

    def converted(self, tool: Any) -> dict[str, Any]:
        """What LangChain makes of a tool."""
        with self._lock, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return convert_to_openai_tool(tool)


_quiet = _Quiet()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_quiet.forked)


def seen(tool: Any) -> Seen:
    """What a model is told of a tool. Raises whatever LangChain does for what is none."""
    if isinstance(tool, BaseTool) and (parameters := quick_parameters(tool)) is not None:
        return Seen(tool.name, dedented(tool.description), normal(parameters), {})
    if isinstance(tool, dict):
        if tool.get("type") not in (None, "function") and tool.keys().isdisjoint(_NAMED):
            return Seen(tool["type"], "", {}, _open(tool))
        if isinstance(tool.get("inputSchema"), Mapping):
            tool = _of_mcp(tool)
    elif isinstance(getattr(tool, "inputSchema", None), Mapping):
        tool = _of_mcp({key: getattr(tool, key, None) for key in ("name", "description", "inputSchema")})
    converted = _quiet.converted(tool)
    function, other = converted, _unread(tool) if isinstance(tool, dict) else {}
    if isinstance(converted.get("function"), Mapping):
        function = converted["function"]
        if converted is tool:
            other |= {key: value for key, value in converted.items() if key != "function"}
    other |= {key: value for key, value in function.items() if key not in ("name", "description", "parameters")}
    if other.get("type") == "function":
        del other["type"]
    if not (isinstance(function.get("name"), str) and function["name"]):
        raise InvalidRequestError("it has no name")
    return Seen(
        function["name"],
        dedented(function.get("description") or ""),
        normal(function.get("parameters") or {}),
        _open({key: value for key, value in other.items() if key not in _UNSEEN}),
    )


def _of_mcp(tool: Mapping[str, Any]) -> StructuredTool:
    """A tool of an MCP server as langchain-mcp-adapters makes it."""
    return StructuredTool(
        name=tool["name"], description=tool.get("description") or "", args_schema=dict(tool["inputSchema"])
    )


def _unread(tool: dict[str, Any]) -> dict[str, Any]:
    """What the conversion leaves out of a provider's dict, and its provider reads."""
    spec = tool.get("toolSpec")
    if isinstance(spec, dict):
        return {key: value for key, value in spec.items() if key not in ("name", "description", "inputSchema")}
    return {key: value for key, value in tool.items() if key not in _READ} if "name" in tool else {}


def _open(value: Any) -> Any:
    """A value without what is nobody's business; the schemas of arguments are the model's."""
    if isinstance(value, dict):
        return {
            key: normal(inner) if key in _SCHEMAS else _open(inner)
            for key, inner in value.items()
            if not (isinstance(key, str) and _SECRET.search(key))
        }
    return [_open(inner) for inner in value] if isinstance(value, (list, tuple)) else value


# -- one form ----------------------------------------------------------------------------------------------------------


def normal(schema: Any) -> Any:
    """A JSON schema with sets in order (`required`, defaults of unique items) and descriptions without indentation."""
    if isinstance(schema, list):
        return [normal(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    made = {}
    for key, value in schema.items():
        if key in _MAPS and isinstance(value, dict):
            value = {name: normal(inner) for name, inner in value.items()}
        elif key in _INNER:
            value = normal(value)
        elif key == "description" and isinstance(value, str):
            value = dedented(value)
        elif key == "required" and isinstance(value, list) and all(isinstance(one, str) for one in value):
            value = sorted(value)
        elif key == "default":
            value = _ordered(value, schema)
        made[key] = value
    return made


def _ordered(value: Any, schema: Any) -> Any:
    """A default with the sets in it in order: Python has them in that of the hash seed.

    Infinity is told as text: a tool that LangChain takes is not refused for it, and JSON has no such number.
    """
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if not isinstance(schema, dict) or not isinstance(value, (list, dict)):
        return value
    inner = [one for key in ("anyOf", "oneOf", "allOf") for one in schema.get(key) or ()]
    for one in inner:
        value = _ordered(value, one)
    if isinstance(value, dict):
        properties, others = schema.get("properties") or {}, schema.get("additionalProperties")
        return {key: _ordered(one, properties.get(key, others)) for key, one in value.items()}
    value = [_ordered(one, schema.get("items")) for one in value]
    return sorted(value, key=canonical) if schema.get("uniqueItems") is True else value


def dedented(text: str) -> str:
    """A text as `inspect.cleandoc` leaves it that has been there before, however often; only spaces are indentation.

    From Python 3.13 on the compiler cleans docstrings too, and that function is not the same as before.
    """
    if "\n" not in text and "\t" not in text:
        return text.lstrip(" ")
    lines = [line if line.strip(" ") else "" for line in text.expandtabs().split("\n")]
    first, *rest = "\n".join(lines).strip("\n").split("\n")
    margin = min((len(line) - len(line.lstrip(" ")) for line in rest if line), default=0)
    return "\n".join([first.lstrip(" "), *(line[margin:] for line in rest)])
