"""A tool's hash changes exactly when the model is told something else of it, whatever the tool is made of."""

from __future__ import annotations

import inspect
import json
import os
import random
import subprocess
import sys
import warnings
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Annotated, Any

import pytest
from langchain_core.tools import BaseTool, BaseToolkit, InjectedToolArg, InjectedToolCallId, Tool, tool
from langchain_core.utils.function_calling import convert_to_openai_tool
from langgraph.prebuilt import InjectedState, InjectedStore, ToolNode, ToolRuntime
from pydantic import BaseModel, Field

from langgraph_durable import InvalidRequestError
from langgraph_durable.environment.canonical import digest
from langgraph_durable.environment.seen import dedented
from langgraph_durable.environment.tools import Definition, definitions
from tests import tool_samples
from tests.made_tools import CHANGES, KINDS, SPEC, Arg, Spec

GOLDEN = Path(__file__).parent / "golden" / "tools.json"


def only(thing: Any) -> Definition:
    """The definition of the only tool in something."""
    (found,) = definitions(thing).values()
    return found


def hashes(thing: Any) -> dict[str, str]:
    """The hashes of tools by name."""
    return {name: found.hash for name, found in definitions(thing).items()}


@tool
def other(note: str) -> str:
    """Stay as it is — ñ."""
    return note


class Account(BaseModel):
    """An account of it is no tool, though it can be gone through."""

    name: str = "a"


class Booking(BaseModel):
    """A class in one of several types, which LangChain passes on as it is."""

    inner: Account | None = Field(default=None, description="One\n    two")


# -- what changes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_seen_at_the_tool_that_changed(kind: str, change: str) -> None:
    """Whatever is changed about the definition of a tool of any kind, its hash is another, and no other tool's is."""
    changed = CHANGES[change](SPEC)
    before = definitions([KINDS[kind](SPEC), other])
    after = definitions([KINDS[kind](changed), other])
    assert after[changed.name].hash != before[SPEC.name].hash
    assert after["other"] == before["other"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_tool_made_again_has_the_same_hash(kind: str) -> None:
    """A tool's hash tells nothing of the object, and it is that of what the model is told, as a provider's dict."""
    made = KINDS[kind](SPEC)
    assert hashes([KINDS[kind](SPEC)]) == hashes([made])
    # The raw tools of MCP servers are no tools of LangChain's before an adapter has made them some.
    if not kind.startswith("raw mcp"):
        assert hashes([convert_to_openai_tool(made)]) == hashes([made])


def test_a_tool_tells_what_the_model_is_told() -> None:
    """Name, description, schema and what else there is can be read of a definition, and its hash is over all of it."""
    found = only(
        {"type": "function", "name": "ls", "description": " L ", "parameters": {"type": "object"}, "strict": True}
    )
    assert (found.name, found.description, found.parameters, found.other) == (
        "ls",
        "L ",
        {"type": "object"},
        {"strict": True},
    )
    assert found.hash == digest(
        {"name": "ls", "description": "L ", "parameters": {"type": "object"}, "other": {"strict": True}}
    )
    assert len(found.hash) == 64


@pytest.mark.parametrize(
    ("one", "another"),
    [
        ({"type": "web_search"}, {"type": "web_search", "search_context_size": "low"}),
        (
            {"type": "web_search_1", "name": "web", "max_uses": 1},
            {"type": "web_search_1", "name": "web", "max_uses": 2},
        ),
        ({"type": "web_search_1", "name": "web"}, {"type": "web_search_2", "name": "web"}),
        ({"google_search": {}}, {"code_execution": {}}),
        ({"name": "a", "input_schema": {}}, {"name": "a", "input_schema": {}, "strict": True}),
        ({"name": "a", "parameters": {"default": 1}}, {"name": "a", "parameters": {"default": 1.0}}),
        ({"name": "a", "parameters": {"default": 1}}, {"name": "a", "parameters": {"default": True}}),
        ({"type": "custom", "name": "a", "format": {"type": "text"}}, {"type": "custom", "name": "a"}),
        (
            Tool("a", str, "b", metadata={"type": "custom_tool", "format": {"type": "text"}}),
            Tool("a", str, "b", metadata={"type": "custom_tool"}),
        ),
    ],
)
def test_tools_of_a_providers_own_are_told_apart(one: Any, another: Any) -> None:
    """How a built-in tool is set is in its hash, and so is what LangChain's conversion leaves out."""
    assert only([one]).hash != only([another]).hash


@pytest.mark.parametrize(
    "secret",
    [
        {"headers": {"Authorization": "Bearer hidden"}},
        {"authorization": "hidden"},
        {"authorization_token": "hidden"},
        {"server_url": "https://user:hidden@hidden.example/hidden"},
        {"container": {"domain_secrets": [{"value": "hidden"}], "API-Key": "hidden"}},
        {"tools": [{"client_secret": "hidden", "access_token": "hidden"}]},
    ],
)
def test_no_definition_has_a_secret_in_it(secret: dict[str, Any]) -> None:
    """What gives access is not told and not in the hash, in a tool of the provider's own."""
    told = only([{"type": "mcp", "server_label": "wiki", **secret}]).told
    assert "wiki" in told
    assert "hidden" not in told
    argument = {"name": "a", "parameters": {"type": "object", "properties": {"url": {}, "token": {}}}}
    assert only([argument]).parameters == argument["parameters"]


# -- what does not -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_order_and_nesting_do_not_matter(seed: int) -> None:
    """Tools in any order, in lists, in a generator, a mapping, a toolkit or a ToolNode have the same definitions."""
    made = [tool_samples.plus, tool_samples.search, tool_samples.weather, other]
    expected = definitions(made)
    assert list(expected) == sorted(expected)
    random.Random(seed).shuffle(made)

    class Toolkit(BaseToolkit):
        def get_tools(self) -> list[BaseTool]:
            return made

    for given in (
        made,
        tuple(made),
        (one for one in made),
        [made[0], [made[1], (made[2], [made[3]])]],
        {one.name: one for one in made},
        MappingProxyType({str(index): [one] for index, one in enumerate(made)}),
        ToolNode(made),
        [ToolNode(made[:2]), *made[2:]],
        Toolkit(),
    ):
        assert list(definitions(given).items()) == list(expected.items())


def test_no_tools_have_no_definitions() -> None:
    """An empty list is no mistake."""
    assert definitions([]) == {}


def test_two_tools_of_one_name_both_count() -> None:
    """The second of a name has a number, by its hash and not by its place; a name that is taken is passed over."""
    made = [{"name": "a", "description": text} for text in ("x", "y", "y", "z")]
    taken = {"name": "a (2)", "description": "really"}
    expected = sorted(only([one]).hash for one in made)
    for given in ([*made, taken], [taken, *reversed(made)]):
        found = hashes(given)
        assert found.pop("a (2)") == only([taken]).hash
        assert found == dict(zip(("a", "a (3)", "a (4)", "a (5)"), expected, strict=True))


def test_injected_arguments_do_not_matter() -> None:
    """What the model does not fill in is not in the hash."""

    @tool("note")
    def bare(text: str) -> str:
        """Write a note."""
        return text

    found = hashes([bare])
    injected: list[Any] = [
        Annotated[dict[str, Any], InjectedState],
        Annotated[Any, InjectedState("messages")],
        Annotated[Any, InjectedStore()],
        Annotated[str, InjectedToolCallId],
        Annotated[str, InjectedToolArg],
        ToolRuntime,
        ToolRuntime[dict[str, Any], dict[str, Any]],
    ]
    for annotation in injected:
        assert (
            hashes([KINDS["decorated"](Spec("note", "Write a note.", (Arg("text", str), Arg("more", annotation))))])
            == found
        )

    def note(text, state, runtime):  # type: ignore[no-untyped-def]  # Given below, as they are.
        """Write a note."""

    note.__annotations__ = {"text": str, "state": injected[0], "runtime": ToolRuntime}
    assert hashes([note]) == found


@pytest.mark.parametrize(
    "text",
    [
        "One line.",
        "  One line.",
        "One.\n\n    Two.\n        Three.\n    ",
        "\n    One.\n      Two.\n\n",
        "",
        "\tOne.\n\n\tTwo.",
    ],
)
def test_indentation_of_a_docstring_does_not_matter(text: str) -> None:
    """A docstring is told as `inspect.cleandoc` has it, whether or not Python has cleaned it before."""
    assert dedented(text) == dedented(dedented(text)) == inspect.cleandoc(inspect.cleandoc(text))

    def early(a: int) -> int:
        return a

    def late(a: int) -> int:
        return a

    early.__doc__, late.__doc__ = text or None, inspect.cleandoc(text) or None
    early.__name__ = late.__name__ = "same"
    assert hashes([early]) == hashes([late])


def test_descriptions_inside_of_a_schema_are_told_alike() -> None:
    """The indentation of a description matters nowhere in a schema, and a property called so is a property."""
    assert only([Booking]).parameters["properties"]["inner"]["description"] == "One\ntwo"
    schema = {"type": "object", "properties": {"description": {"type": "string"}, "default": {"type": "string"}}}
    assert only([{"name": "a", "parameters": schema}]).parameters == schema


def test_hashes_are_those_on_record() -> None:
    """Tools of every kind have the hashes that they always had."""
    assert tool_samples.hashes() == json.loads(GOLDEN.read_text(encoding="utf-8"))


@pytest.mark.parametrize("seed", ["0", "1", "random"])
def test_hashes_do_not_depend_on_the_process(seed: str) -> None:
    """Another process with another hash seed finds the same."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.tool_samples"],
        env={**os.environ, "PYTHONHASHSEED": seed},
        cwd=GOLDEN.parents[2],
        capture_output=True,
        check=True,
        encoding="utf-8",
    )
    assert json.loads(done.stdout) == tool_samples.hashes()


# -- what is odd -------------------------------------------------------------------------------------------------------


class Odd:
    """It is no JSON."""


def test_a_default_that_is_no_json_warns_nobody() -> None:
    """The model is told of no such default, and nobody is told that there is one; infinity is told as text."""

    @tool
    def odd(a: Any = Odd(), b: float = float("inf")) -> str:  # noqa: B008  # One for all calls is what is wanted.
        """Be odd."""
        return str(a)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert only([odd]).parameters["properties"] == {"a": {}, "b": {"type": "number", "default": "inf"}}


@pytest.mark.parametrize(
    ("given", "where"),
    [
        (None, "tools is of type NoneType"),
        (5, "tools is of type int"),
        ("search", "tools is of type str"),
        ([other, "search"], r"tools\[1\] is of type str"),
        ([[other], [5]], r"tools\[1\]\[0\] is of type int"),
        ({"a": other, "b": {"c": 5}}, r"tools\['b'\]\['c'\] is of type int"),
        ([Account()], r"tools\[0\] is of type Account"),
        ([SimpleNamespace(name="a", inputSchema=None)], r"tools\[0\] is of type SimpleNamespace"),
        ([{"type": "function"}], r"tools\[0\] is of type dict"),
        ([{"name": ""}], "no name"),
        ([{"type": "object", "properties": {}}], "'title'"),
        ([{"name": "a", "parameters": {"default": {1}}}], r"\['parameters'\]\['default'\] is of type set"),
        ([{"name": "a", "parameters": {"maximum": float("nan")}}], r"\['maximum'\] is nan"),
        ([int], r"tools\[0\] is of type type"),
    ],
)
def test_what_is_no_tool_is_refused(given: Any, where: str) -> None:
    """Something that is no tool is told with its type and its place."""
    with pytest.raises(InvalidRequestError, match=where):
        definitions(given)


def test_a_list_in_itself_is_refused() -> None:
    """Going through a list that holds itself comes to an end."""
    given: list[Any] = [other]
    given.append(given)
    with pytest.raises(InvalidRequestError, match="holds itself"):
        definitions(given)
