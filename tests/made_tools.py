"""Tools of every kind, made from one description of them, and what can be changed about it."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Annotated, Any, Literal, NamedTuple

from langchain_core.tools import BaseTool, StructuredTool, tool
from pydantic import BaseModel, Field, create_model
from pydantic.v1 import BaseModel as BaseModelV1
from pydantic.v1 import Field as FieldV1
from pydantic.v1 import create_model as create_model_v1
from typing_extensions import TypedDict

NONE = object()
"""No default."""


class Arg(NamedTuple):
    """An argument of a tool. `inner` are the fields of a model that is its type, by name."""

    name: str
    type: Any
    default: Any = NONE
    description: str = ""
    inner: tuple[tuple[str, Any], ...] = ()

    def annotation(self, v1: bool = False) -> Any:
        """Its type."""
        if not self.inner:
            return self.type
        fields: dict[str, Any] = {name: (inner, ...) for name, inner in self.inner}
        return create_model_v1("Inner", **fields) if v1 else create_model("Inner", **fields)


class Spec(NamedTuple):
    """What is told of a tool."""

    name: str
    description: str
    args: tuple[Arg, ...] = ()


SPEC = Spec(
    "search",
    "Search — “everything”, 検索.",
    (
        Arg("query", str, NONE, "What to look for: Größe"),
        Arg("mode", Literal["exact", "fuzzy"], "exact"),
        Arg("limit", int, 10, "How many"),
        Arg("place", None, NONE, "", (("street", str), ("floor", int))),
    ),
)


def _changed(index: int, **fields: Any) -> Callable[[Spec], Spec]:
    def change(spec: Spec) -> Spec:
        args = list(spec.args)
        args[index] = args[index]._replace(**fields)
        return spec._replace(args=tuple(args))

    return change


CHANGES: dict[str, Callable[[Spec], Spec]] = {
    "argument added": lambda spec: spec._replace(args=(*spec.args, Arg("more", bool, False))),
    "argument removed": lambda spec: spec._replace(args=spec.args[1:]),
    "argument renamed": _changed(0, name="question"),
    "type": _changed(0, type=int),
    "default": _changed(2, default=11),
    "default of another type": _changed(2, default=10.0, type=float),
    "no default": _changed(2, default=NONE),
    "enum": _changed(1, type=Literal["exact", "fuzzy", "regex"]),
    "nested field": _changed(3, inner=(("street", str), ("floor", int), ("door", int))),
    "type of a nested field": _changed(3, inner=(("street", str), ("floor", float))),
    "description of an argument": _changed(0, description="What to look for: Grösse"),
    "description": lambda spec: spec._replace(description="Search — “everything”, 探索."),
    "renamed": lambda spec: spec._replace(name="find"),
}


def function(spec: Spec) -> Any:
    """A function with these arguments, whose annotations are types."""
    namespace: dict[str, Any] = {}
    told = []
    for arg in sorted(spec.args, key=lambda arg: arg.default is not NONE):
        annotation = arg.annotation()
        namespace[f"_t_{arg.name}"] = Annotated[annotation, arg.description] if arg.description else annotation
        namespace[f"_d_{arg.name}"] = arg.default
        told.append(f"{arg.name}: _t_{arg.name}" + (f" = _d_{arg.name}" if arg.default is not NONE else ""))
    exec(f"def {spec.name}({', '.join(told)}) -> str:\n    return ''", namespace)
    namespace[spec.name].__doc__ = spec.description
    return namespace[spec.name]


def model(spec: Spec) -> type[BaseModel]:
    """A pydantic class with these arguments."""
    fields: dict[str, Any] = {}
    for arg in spec.args:
        given = {"default": arg.default} if arg.default is not NONE else {}
        fields[arg.name] = (arg.annotation(), Field(description=arg.description or None, **given))
    return create_model(spec.name, __doc__=spec.description, **fields)


def model_v1(spec: Spec) -> type[BaseModelV1]:
    """The same, of pydantic 1."""
    fields: dict[str, Any] = {
        arg.name: (
            arg.annotation(v1=True),
            FieldV1(default=... if arg.default is NONE else arg.default, description=arg.description or None),
        )
        for arg in spec.args
    }
    made: type[BaseModelV1] = create_model_v1(spec.name, **fields)
    made.__doc__ = spec.description
    return made


def typed_dict(spec: Spec) -> Any:
    """A TypedDict with these arguments."""
    made_by_name: Any = TypedDict
    fields: dict[str, Any] = {}
    for arg in spec.args:
        inner = made_by_name("Inner", dict(arg.inner)) if arg.inner else arg.type
        default = ... if arg.default is NONE else arg.default
        fields[arg.name] = Annotated[inner, default, arg.description or None]
    made = made_by_name(spec.name, fields)
    made.__doc__ = spec.description
    return made


def base_tool(spec: Spec) -> BaseTool:
    """A tool of a class of its own."""

    class Own(BaseTool):
        name: str = spec.name
        description: str = spec.description
        args_schema: Any = model(spec)

        def _run(self, **given: Any) -> str:
            return ""

    return Own()


def parameters(spec: Spec) -> dict[str, Any]:
    """The arguments as JSON schema."""
    schema: dict[str, Any] = json.loads(json.dumps(model(spec).model_json_schema()))
    schema.pop("description", None)
    schema.pop("title", None)
    return schema


def structured(spec: Spec) -> StructuredTool:
    """A tool with a class for its arguments."""
    return StructuredTool(name=spec.name, description=spec.description, args_schema=model(spec))


def _dict(spec: Spec, schema: str = "parameters") -> dict[str, Any]:
    return {"name": spec.name, "description": spec.description, schema: parameters(spec)}


KINDS: dict[str, Callable[[Spec], Any]] = {
    "decorated": lambda spec: tool(function(spec)),
    "structured": structured,
    "base tool": base_tool,
    "pydantic": model,
    "pydantic 1": model_v1,
    "typed dict": typed_dict,
    "function": function,
    "mcp": lambda spec: StructuredTool(name=spec.name, description=spec.description, args_schema=parameters(spec)),
    "raw mcp": lambda spec: SimpleNamespace(**_dict(spec, "inputSchema")),
    "raw mcp as a dict": lambda spec: _dict(spec, "inputSchema"),
    "openai": lambda spec: {"type": "function", "function": _dict(spec)},
    "openai, flat": lambda spec: {"type": "function", **_dict(spec)},
    "openai, a function": _dict,
    "anthropic": lambda spec: _dict(spec, "input_schema"),
    "bedrock": lambda spec: {
        "toolSpec": {
            "name": spec.name,
            "description": spec.description,
            "inputSchema": {"json": parameters(spec)},
        }
    },
    "json schema": lambda spec: {"title": spec.name, "description": spec.description, **parameters(spec)},
}
"""What makes a tool of a description, by its kind."""
