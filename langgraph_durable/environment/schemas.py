"""The JSON schema of simple arguments is put together without a class being made for it, and is the very same one.

What a type is as JSON pydantic itself is asked, once for each; here only the frame around it is built. Whatever is not
known to be no more than that (constraints, aliases, injected arguments, models in models) is left to the slow way.
"""

from __future__ import annotations

import math
import types
from keyword import iskeyword
from typing import Any, Literal, Union, get_args, get_origin

from langchain_core.tools import BaseTool, StructuredTool, Tool
from pydantic import BaseModel, TypeAdapter
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

_NONE = type(None)
_PLAIN = frozenset({str, int, float, bool, _NONE, list, dict})
_UNIONS = (Union, types.UnionType)
_RESERVED = frozenset(dir(BaseModel))
"""Fields of these names are in the way of pydantic's own."""
_MOST = 4096

_types: dict[Any, dict[str, Any]] = {}


def quick_parameters(tool: BaseTool) -> dict[str, Any] | None:
    """The JSON schema of a tool's arguments as the model sees it, None where only the slow way can tell.

    A schema that LangChain has kept in the tool is what the model sees, also when the class has changed since.
    """
    model = tool.args_schema
    if not is_as_usual(tool) or getattr(tool, "_tool_call_schema_memo", None) is not None:
        return None
    # A class that builds itself in another way has another signature than its fields, which LangChain goes by.
    if not (isinstance(model, type) and issubclass(model, BaseModel)) or model.__init__ is not BaseModel.__init__:
        return None
    if not (model.__pydantic_complete__ and tool.name and tool.description):
        return None
    properties: dict[str, Any] = {}
    required: list[str] = []
    for name, field in model.model_fields.items():
        schema = _property(name, field)
        if schema is None:
            return None
        properties[name] = schema
        if field.default is PydanticUndefined:
            required.append(name)
    return {"properties": properties, **({"required": required} if required else {}), "type": "object"}


def is_as_usual(tool: BaseTool) -> bool:
    """Whether a tool's name, description and `args_schema` are all that the model is told of."""
    kind = type(tool)
    if kind is StructuredTool:
        return True
    if kind.tool_call_schema is not BaseTool.tool_call_schema or kind.get_input_schema is not BaseTool.get_input_schema:
        return False
    # A custom tool of OpenAI's is told with what is in there.
    return not (isinstance(tool, Tool) and tool.metadata)


def _property(name: str, field: FieldInfo) -> dict[str, Any] | None:
    if not name.isidentifier() or iskeyword(name) or name.startswith(("_", "model_")) or name in _RESERVED:
        return None
    # Text beside a type is for people, and pydantic passes over it.
    if not all(type(one) is str for one in field.metadata):
        return None
    if field.default_factory is not None or field.alias is not None or field.validation_alias is not None:
        return None
    key = _key(field.annotation)
    if key is None or not (field.default is PydanticUndefined or _is_json(field.default)):
        return None
    schema = dict(_type(key, field.annotation))
    if field.description is not None:
        if type(field.description) is not str:
            return None
        schema["description"] = field.description
    if field.default is not PydanticUndefined:
        schema["default"] = field.default
    return schema


def _type(key: Any, annotation: Any) -> dict[str, Any]:
    known = _types.get(key)
    if known is None:
        if len(_types) >= _MOST:
            _types.clear()
        known = _types[key] = TypeAdapter(annotation).json_schema()
    return known


def _key(annotation: Any) -> Any:
    """What tells a type from all others, None for one that is not simple.

    Types are no such keys themselves: `int | str == str | int`, and their schemas differ.
    """
    if annotation is None:
        return _NONE
    if annotation is Any or (isinstance(annotation, type) and annotation in _PLAIN):
        return annotation
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return ("literal", *args) if all(type(one) is str for one in args) else None
    kind = "union" if origin in _UNIONS else origin if origin is list or origin is dict else None
    # The keys of JSON are text: what pydantic says of other keys it may say in more than one way.
    if kind is None or not args or (kind is dict and args[0] is not str):
        return None
    keys = tuple(_key(one) for one in args)
    return None if None in keys else (kind, *keys)


def _is_json(default: object) -> bool:
    """Whether a default is in the schema as it is."""
    if type(default) is str:
        return default.isascii() or not any("\ud800" <= one <= "\udfff" for one in default)
    if type(default) is int:
        return -(2**63) <= default < 2**63
    return default is None or type(default) is bool or (type(default) is float and math.isfinite(default))
