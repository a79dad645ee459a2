"""A definition is found out once, and again when anything about the tool has changed, however that was done."""

from __future__ import annotations

import gc
import json
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from langchain_core.tools import BaseTool, StructuredTool
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import create_model

from langgraph_durable.environment import tools as subject
from langgraph_durable.environment.seen import seen as really_seen
from langgraph_durable.environment.tools import Definition, definitions
from tests.made_tools import KINDS, SPEC, Arg, Spec, function


def only(thing: Any) -> Definition:
    """The definition of the only tool in something."""
    (found,) = definitions([thing]).values()
    return found


def described(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every tool that is described from now on."""
    asked: list[Any] = []

    def seen(thing: Any) -> Any:
        asked.append(thing)
        return really_seen(thing)

    monkeypatch.setattr(subject, "seen", seen)
    return asked


@pytest.mark.parametrize("kind", ["decorated", "structured", "base tool", "function", "mcp", "openai", "anthropic"])
def test_what_has_not_changed_is_not_described_again(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The definition of a tool is kept, and one and the same the next time."""
    made = KINDS[kind](SPEC._replace(description=f"{kind}, for the first time"))
    asked = described(monkeypatch)
    first = only(made)
    assert asked == [made]
    assert only(made) is first
    assert len(asked) == 1


def test_what_is_gone_is_forgotten() -> None:
    """Nothing that was described is kept alive by that."""
    gc.collect()
    before = len(subject._kept)
    made = [KINDS[kind](SPEC) for kind in ("decorated", "structured", "base tool", "function", "mcp")]
    definitions([*made, *(KINDS[kind](SPEC) for kind in ("pydantic", "pydantic 1", "typed dict"))])
    assert len(subject._kept) == before + len(made)
    made.clear()
    gc.collect()
    assert len(subject._kept) == before


def set_to(name: str, value: Any) -> Callable[[Any], None]:
    """A change that sets an attribute."""
    return lambda made: setattr(made, name, value)


def rebuilt(made: Any) -> None:
    """Change a pydantic class in place, as pydantic wants it."""
    made.model_fields["query"].description = "changed"
    made.model_rebuild(force=True)


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        *((kind, set_to("name", "changed")) for kind in ("decorated", "structured", "base tool", "mcp")),
        *((kind, set_to("description", "changed")) for kind in ("decorated", "structured", "base tool", "mcp")),
        *((kind, set_to("args_schema", create_model("changed"))) for kind in ("decorated", "structured", "base tool")),
        ("mcp", set_to("args_schema", {"type": "object"})),
        ("mcp", lambda made: made.args_schema["properties"]["query"].update(default=1)),
        ("mcp", lambda made: made.args_schema["properties"].pop("query")),
        ("openai", lambda made: made["function"]["parameters"]["properties"]["query"].update(default=1)),
        ("anthropic", lambda made: made["input_schema"].update(required=[])),
        ("raw mcp", lambda made: made.inputSchema["properties"].pop("query")),
        ("function", set_to("__doc__", "changed")),
        ("function", set_to("__name__", "changed")),
        ("function", set_to("__defaults__", ("changed",))),
        ("function", lambda made: made.__annotations__.update(query=bool)),
        ("function with a list", lambda made: made.__defaults__[0].append("changed")),
        ("pydantic", set_to("__doc__", "changed")),
        ("pydantic", rebuilt),
    ],
)
def test_a_change_in_place_is_seen(kind: str, change: Callable[[Any], None]) -> None:
    """What was described and then changed is described as it is now."""
    if kind == "function with a list":
        made = function(Spec("listed", "Take a list.", (Arg("query", list[str], ["a"]),)))
    else:
        made = KINDS[kind](SPEC)
    before = only(made)
    change(made)
    after = only(made)
    assert after.hash != before.hash
    told = (
        made
        if not kind.startswith("raw mcp")
        else StructuredTool(name=made.name, description=made.description, args_schema=made.inputSchema)
    )
    assert after.hash == only([json.loads(json.dumps(convert_to_openai_tool(told)))]).hash


def test_a_class_that_a_name_now_means_is_seen() -> None:
    """A function whose annotations are text is described with what the text means now, as in a notebook."""
    namespace: dict[str, Any] = {"Unit": create_model("Unit", a=(int, ...))}
    exec("def measure(unit: 'Unit') -> str:\n    '''Measure.'''", namespace)
    before = only([namespace["measure"]])
    assert only([namespace["measure"]]) is before
    namespace["Unit"] = create_model("Unit", b=(int, ...))
    assert only([namespace["measure"]]).hash != before.hash


def test_threads_find_the_same() -> None:
    """Many threads that describe the same tools at once get the same definitions, and nobody's warnings change."""
    specs = [(kind, SPEC._replace(name=f"{kind}_{n}")) for kind in ("decorated", "pydantic", "mcp") for n in range(20)]
    expected = definitions([KINDS[kind](spec) for kind, spec in specs])
    made = [KINDS[kind](spec) for kind, spec in specs]
    filters = list(warnings.filters)
    with ThreadPoolExecutor(8) as pool:
        assert all(found == expected for found in pool.map(lambda _: definitions(made), range(24)))
    assert list(warnings.filters) == filters


def test_what_a_tool_has_kept_is_what_the_model_sees() -> None:
    """A class that is changed behind a tool's back is told as the tool tells it."""
    args = create_model("Args", a=(int, ...))
    made = StructuredTool(name="one", description="d", args_schema=args)
    before = convert_to_openai_tool(made)
    args.model_fields["a"].description = "changed"
    args.model_rebuild(force=True)
    (found,) = definitions([made]).values()
    assert found.parameters == convert_to_openai_tool(made)["function"]["parameters"]
    assert before["function"]["name"] == found.name


def test_a_tool_that_tells_of_itself_is_asked_each_time() -> None:
    """A class whose schema is made up when it is asked for is told as it is now."""

    class Moody(BaseTool):
        name: str = "moody"
        description: str = "d"

        @property
        def tool_call_schema(self) -> Any:
            return {"type": "object", "properties": {now[0]: {"type": "string"}}}

        def _run(self) -> str:
            return ""

    now, made = ["a"], Moody()
    assert list(definitions([made])["moody"].parameters["properties"]) == ["a"]
    now[0] = "b"
    assert list(definitions([made])["moody"].parameters["properties"]) == ["b"]
