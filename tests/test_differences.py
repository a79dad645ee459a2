"""What differs between two environments is told by its name, all of it, in one order, and nothing else is told."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langgraph_durable.environment.changes import Change, How
from langgraph_durable.environment.differences import differences
from langgraph_durable.environment.graphs import described_graph
from langgraph_durable.environment.report import EnvironmentReport
from tests.test_graph_descriptions import everything, row_of

NASTY = "a <b>&\"'\x1b[31m\x00\ud800\nname"

YEAR = {"type": "integer", "minimum": 1900}
FILTER = {"type": "object", "properties": {"year": YEAR, "tags": {"type": "array", "items": {"type": "string"}}}}
PARAMETERS = {
    "type": "object",
    "$defs": {"Filter": FILTER},
    "properties": {
        "query": {"type": "string", "description": "What to look for."},
        "limit": {"type": "integer", "default": 5},
        "order": {"enum": ["new", "old"], "type": "string", "default": "new"},
        "filter": {"anyOf": [{"$ref": "#/$defs/Filter"}, {"type": "null"}], "default": None},
    },
    "required": ["query"],
}
RECORD: dict[str, Any] = {
    "version": 1,
    "tools": {
        "search": {
            "hash": "1",
            "description": "Searches.",
            "parameters": PARAMETERS,
            "other": {"return_direct": False},
        },
        "fetch": {"hash": "2", "description": "Fetches.", "parameters": {"properties": {}}, "other": {}},
    },
    "model": {
        "provider": "openai",
        "name": "gpt-4o",
        "parameters": {"temperature": 0, "model_kwargs": {"seed": 1}},
        "fallbacks": [{"provider": "anthropic", "name": "claude", "parameters": {"top_p": 1}}],
    },
    "graph": {
        "nodes": ["a", "b", "outer", "outer/a", "outer/in"],
        "deferred": ["b"],
        "edges": [["__start__", "a"], ["a", "b"], [["a", "outer"], "b"], ["outer/__start__", "outer/in"]],
        "branches": {
            "a": [{"name": "route", "ends": {"b": "b", "stop": "__end__"}}, {"name": "free", "ends": None}],
            "outer/in": [{"name": "route", "ends": {"a": "outer/a"}}],
        },
        "channels": {"a": "LastValue(int)", "outer/log": "LastValue(str)"},
        "breakpoints": {"before": ["b"], "after": ["outer/in"]},
    },
    "limits": {"recursion_limit": 25},
    "extra": {"release": "1", "on": True},
    "libraries": {"langgraph": "1.0"},
}


def edited(path: str, value: Any = None, **more: Any) -> dict[str, Any]:
    """The record with another value at a path of keys, or without one where that is None."""
    record = copy.deepcopy(RECORD)
    for place, what in {path: value, **more}.items():
        *above, last = place.split(" ")
        part: Any = record
        for key in above:
            part = part[int(key) if isinstance(part, list) else key]
        if isinstance(part, list):
            part[int(last) : int(last) + 1] = [] if what is None else [what]
        elif what is None:
            del part[last]
        else:
            part[last] = what
    if path.startswith("tools search "):
        record["tools"]["search"]["hash"] = "another"
    return record


def tool(change: str, name: str, aspect: str, old: Any, new: Any, subject: str = "tool") -> Change:
    """A change of a tool."""
    return Change("tools", subject, name, change, aspect, old, new)  # type: ignore[arg-type]  # the table's own words


def argument(name: str, aspect: str, old: Any, new: Any) -> Change:
    """A change of an argument."""
    return tool("changed", name, aspect, old, new, "argument")


ARGUMENTS = "tools search parameters properties"
WITHIN = "tools search parameters $defs Filter properties"


@pytest.mark.parametrize(
    ("new", "expected", "line"),
    [
        # tools
        (
            edited("tools fetch"),
            [tool("removed", "fetch", "", RECORD["tools"]["fetch"], None)],
            "tools: 'fetch' removed",
        ),
        (edited("tools new", {"hash": "3"}), [tool("added", "new", "", None, {"hash": "3"})], "tools: 'new' added"),
        (
            edited("tools search description", "Looks."),
            [tool("changed", "search", "", "Searches.", "Looks.", "description")],
            'tools: description of \'search\': "Searches." -> "Looks."',
        ),
        (
            edited("tools search other return_direct", True),
            [tool("changed", "search", "return_direct", False, True)],
            "tools: 'search': return_direct false -> true",
        ),
        (
            edited("tools search other new", [1]),
            [tool("changed", "search", "new", None, [1])],
            "tools: 'search': new none -> [1]",
        ),
        (
            edited(f"{ARGUMENTS} limit"),
            [tool("removed", "search.limit", "", {"type": "integer", "default": 5}, None, "argument")],
            "tools: argument search.limit removed",
        ),
        (
            edited(f"{ARGUMENTS} new", {"type": "string"}),
            [tool("added", "search.new", "", None, {"type": "string"}, "argument")],
            "tools: argument search.new added",
        ),
        (
            edited(f"{ARGUMENTS} limit default", 10),
            [argument("search.limit", "default", 5, 10)],
            "tools: argument search.limit: default 5 -> 10",
        ),
        (
            edited(f"{ARGUMENTS} limit default"),
            [argument("search.limit", "default", 5, None)],
            "tools: argument search.limit: default 5 -> none",
        ),
        (
            edited(f"{ARGUMENTS} limit type", "string"),
            [argument("search.limit", "type", "integer", "string")],
            "tools: argument search.limit: type integer -> string",
        ),
        (
            edited(f"{ARGUMENTS} limit", {"anyOf": [{"type": "null"}, {"type": "integer"}], "default": 5}),
            [argument("search.limit", "type", "integer", "integer | null")],
            "tools: argument search.limit: type integer -> integer | null",
        ),
        (
            edited(f"{ARGUMENTS} limit", {"anyOf": [{"type": "string"}, {"type": "integer"}], "default": 5}),
            [argument("search.limit", "type", "integer", "integer | string")],
            "tools: argument search.limit: type integer -> integer | string",
        ),
        (
            edited(f"{ARGUMENTS} order enum", ["new"]),
            [argument("search.order", "enum", ["new", "old"], ["new"])],
            'tools: argument search.order: enum ["new", "old"] -> ["new"]',
        ),
        (
            edited(f"{ARGUMENTS} query description", "Words."),
            [argument("search.query", "description", "What to look for.", "Words.")],
            'tools: argument search.query: description "What to look for." -> "Words."',
        ),
        (
            edited("tools search parameters required", ["query", "limit"]),
            [argument("search.limit", "required", False, True)],
            "tools: argument search.limit: required false -> true",
        ),
        (
            edited(f"{WITHIN} year minimum", 1800),
            [argument("search.filter.year", "minimum", 1900, 1800)],
            "tools: argument search.filter.year: minimum 1900 -> 1800",
        ),
        (
            edited(f"{WITHIN} tags items type", "integer"),
            [argument("search.filter.tags", "type", "array of string", "array of integer")],
            "tools: argument search.filter.tags: type array of string -> array of integer",
        ),
        (
            edited(f"{WITHIN} tags items pattern", "x+"),
            [argument("search.filter.tags[]", "pattern", None, "x+")],
            'tools: argument search.filter.tags[]: pattern none -> "x+"',
        ),
        (
            edited("tools search parameters additionalProperties", True),
            [tool("changed", "search", "additionalProperties", None, True)],
            "tools: 'search': additionalProperties none -> true",
        ),
        (
            edited("tools fetch hash", "3"),
            [
                tool(
                    "changed",
                    "fetch",
                    "definition",
                    RECORD["tools"]["fetch"],
                    {**RECORD["tools"]["fetch"], "hash": "3"},
                )
            ],
            "tools: 'fetch': definition "
            '{"hash": "2", "description": "Fetches.", "parameters": {"pr… -> '
            '{"hash": "3", "description": "Fetches.", "parameters": {"pr…',
        ),
        # the model
        (
            edited("model name", "gpt-4o-mini"),
            [Change("model", "model", "model", "changed", "", "openai:gpt-4o", "openai:gpt-4o-mini")],
            "model: openai:gpt-4o -> openai:gpt-4o-mini",
        ),
        (
            edited("model provider"),
            [Change("model", "model", "model", "changed", "", "openai:gpt-4o", "gpt-4o")],
            "model: openai:gpt-4o -> gpt-4o",
        ),
        (
            edited("model parameters temperature", 1),
            [Change("model", "parameter", "temperature", "changed", "", 0, 1)],
            "model: parameter temperature 0 -> 1",
        ),
        (
            edited("model parameters stop", ["x"]),
            [Change("model", "parameter", "stop", "added", "", None, ["x"])],
            'model: parameter stop added: ["x"]',
        ),
        (
            edited("model parameters model_kwargs seed"),
            [Change("model", "parameter", "model_kwargs.seed", "removed", "", 1, None)],
            "model: parameter model_kwargs.seed removed: 1",
        ),
        (
            edited("model fallbacks 0"),
            [Change("model", "model", "fallbacks[0]", "removed", "", "anthropic:claude", None)],
            "model: fallbacks[0] removed: anthropic:claude",
        ),
        (
            edited("model fallbacks 1", {"name": "x"}),
            [Change("model", "model", "fallbacks[1]", "added", "", None, "x")],
            "model: fallbacks[1] added: x",
        ),
        (
            edited("model fallbacks 0 name", "other"),
            [Change("model", "model", "fallbacks[0]", "changed", "", "anthropic:claude", "anthropic:other")],
            "model: fallbacks[0] anthropic:claude -> anthropic:other",
        ),
        (
            edited("model fallbacks 0 parameters top_p", 0.5),
            [Change("model", "parameter", "fallbacks[0].top_p", "changed", "", 1, 0.5)],
            "model: parameter fallbacks[0].top_p 1 -> 0.5",
        ),
        (
            edited("model fallbacks 0", "other"),
            [
                Change("model", "model", "fallbacks[0]", "changed", "", "anthropic:claude", "other"),
                Change("model", "parameter", "fallbacks[0].top_p", "removed", "", 1, None),
            ],
            "model: fallbacks[0] anthropic:claude -> other",
        ),
        (
            edited("model base_url", "http://x"),
            [Change("model", "model", "model", "changed", "base_url", None, "http://x")],
            'model: model: base_url none -> "http://x"',
        ),
        # the graph
        (
            edited("graph nodes 1"),
            [Change("graph", "node", "b", "removed", "", "b", None)],
            "graph: node 'b' removed",
        ),
        (
            edited("graph nodes 5", "outer/new"),
            [Change("graph", "node", "outer/new", "added", "", None, "outer/new")],
            "graph: node 'outer/new' added",
        ),
        (
            edited("graph deferred", ["a", "b"]),
            [Change("graph", "node", "a", "changed", "defer", False, True)],
            "graph: node 'a': defer false -> true",
        ),
        (
            edited("graph edges 1"),
            [Change("graph", "edge", "a -> b", "removed", "", ["a", "b"], None)],
            "graph: edge a -> b removed",
        ),
        (
            edited("graph edges 4", [["b"], "a"]),
            [Change("graph", "edge", "[b] -> a", "added", "", None, [["b"], "a"])],
            "graph: edge [b] -> a added",
        ),
        (
            edited("graph edges 2 0", ["outer", "a"]),
            [
                Change("graph", "edge", "[a + outer] -> b", "removed", "", [["a", "outer"], "b"], None),
                Change("graph", "edge", "[outer + a] -> b", "added", "", None, [["outer", "a"], "b"]),
            ],
            "graph: edge [a + outer] -> b removed",
        ),
        (
            edited("graph branches outer/in"),
            [Change("graph", "branch", "outer/in.route", "removed", "", {"a": "outer/a"}, None)],
            "graph: branch outer/in.route removed",
        ),
        (
            edited("graph branches b", [{"name": "route", "ends": None}]),
            [Change("graph", "branch", "b.route", "added", "", None, None)],
            "graph: branch b.route added",
        ),
        (
            edited("graph branches a 1 ends", {"b": "b"}),
            [Change("graph", "branch", "a.free", "changed", "ends", None, {"b": "b"})],
            'graph: branch a.free: ends none -> {"b": "b"}',
        ),
        (
            edited("graph channels a", "LastValue(str)"),
            [Change("graph", "channel", "a", "changed", "type", "LastValue(int)", "LastValue(str)")],
            "graph: channel 'a': type LastValue(int) -> LastValue(str)",
        ),
        (
            edited("graph channels outer/log"),
            [Change("graph", "channel", "outer/log", "removed", "", "LastValue(str)", None)],
            "graph: channel 'outer/log' removed",
        ),
        (
            edited("graph breakpoints before", ["*", "b"]),
            [Change("graph", "breakpoint", "*", "added", "before", None, None)],
            "graph: breakpoint before '*' added",
        ),
        (
            edited("graph breakpoints after 0"),
            [Change("graph", "breakpoint", "outer/in", "removed", "after", None, None)],
            "graph: breakpoint after 'outer/in' removed",
        ),
        # the rest
        (
            edited("limits recursion_limit", 50),
            [Change("limits", "limit", "recursion_limit", "changed", "", 25, 50)],
            "limits: recursion_limit 25 -> 50",
        ),
        (
            edited("extra release", "2"),
            [Change("extra", "value", "release", "changed", "", "1", "2")],
            'extra: release "1" -> "2"',
        ),
        (
            edited("extra on", 1),
            [Change("extra", "value", "on", "changed", "", True, 1)],
            "extra: on true -> 1",
        ),
        (
            edited("extra on"),
            [Change("extra", "value", "on", "removed", "", True, None)],
            "extra: on removed: true",
        ),
    ],
)
def test_a_change_is_told(new: dict[str, Any], expected: list[Change], line: str) -> None:
    """A change is told once, by its name, with what was there and what is there, and in a line for people."""
    assert list(differences(RECORD, new)) == expected
    assert str(expected[0]) == line


@pytest.mark.parametrize(
    "new",
    [
        edited("tools fetch description", "The hash is what counts."),
        edited("libraries langgraph", "2.0"),
        edited("limits step_timeout", 1.5),
        edited("limits recursion_limit"),
        edited("version", 2),
        edited("model parameters temperature", 0.0),
        *(edited(part) for part in ("tools", "model", "graph", "limits", "extra")),
        *({**RECORD, part: None} for part in ("tools", "model", "graph", "limits", "extra")),
        *(edited(f"graph {part}") for part in RECORD["graph"]),
    ],
)
def test_what_is_not_compared(new: dict[str, Any]) -> None:
    """What nobody said is not compared, nor are libraries; a number is the same however it is written."""
    assert differences(RECORD, new) == ()
    assert differences(new, RECORD) == ()


def test_all_changes_in_one_order() -> None:
    """Changes come part by part, and in a tool the description before the arguments, by name."""
    new = copy.deepcopy(RECORD)
    new["tools"]["search"] |= {"hash": "x", "description": "Looks."}
    new["tools"]["search"]["parameters"]["properties"] |= {"limit": {"type": "string"}, "all": {}}
    new["tools"]["archive"] = {"hash": "y"}
    new["model"]["name"] = "other"
    new["graph"]["nodes"].remove("b")
    new["extra"]["release"] = "2"
    assert [str(change) for change in differences(RECORD, new)] == [
        "tools: 'archive' added",
        'tools: description of \'search\': "Searches." -> "Looks."',
        "tools: argument search.all added",
        "tools: argument search.limit: type integer -> string",
        "tools: argument search.limit: default 5 -> none",
        "model: openai:gpt-4o -> openai:other",
        "graph: node 'b' removed",
        'extra: release "1" -> "2"',
    ]


def test_the_order_is_the_same_in_every_process() -> None:
    """The order in which sets are walked does not matter."""
    code = (
        "import json, tests.test_differences as t; "
        "print(json.dumps([str(one) for one in t.differences(t.RECORD, t.OTHER, t.RENAMES)]))"
    )
    told = [str(change) for change in differences(RECORD, OTHER, RENAMES)]
    assert len(told) > 20
    for seed in ("1", "2", "3"):
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONHASHSEED": seed},
            cwd=Path(__file__).parents[1],
            capture_output=True,
            text=True,
            check=True,
        )
        assert json.loads(done.stdout) == told


OTHER: dict[str, Any] = {
    "tools": {"search": {"hash": "9", "parameters": {"properties": {"x": {}, "query": {"type": "integer"}}}}},
    "model": {"name": "x", "parameters": {"p": 1, "q": 2}, "other": 1, "another": 2},
    "graph": {
        "nodes": ["c", "d", "e", "b"],
        "deferred": ["c"],
        "edges": [["c", "d"], ["d", "e"], ["e", "b"]],
        "branches": {"c": [{"name": "x", "ends": {"d": "d"}}]},
        "channels": {"a": "X", "z": "Z"},
        "breakpoints": {"before": ["c", "d", "e"], "after": []},
    },
    "limits": {"recursion_limit": 1},
    "extra": {"x": 1, "y": 2},
}
RENAMES = {"a": "e"}


# -- schemas ---------------------------------------------------------------------------------------------------------


def compared(old: Any, new: Any) -> list[str]:
    """What is told of a tool with an argument that has one schema and then another; definitions are in "$defs"."""
    tools: list[dict[str, Any]] = []
    for place, schema in enumerate((old, new)):
        definitions = schema.pop("$defs", {}) if isinstance(schema, dict) else {}
        parameters = {"properties": {"x": schema}, "$defs": definitions}
        tools.append({"tools": {"t": {"hash": str(place), "parameters": parameters}}})
    return [str(change).removeprefix("tools: ") for change in differences(tools[0], tools[1])]


NODE = {"type": "object", "properties": {"next": {"$ref": "#/$defs/N"}, "v": {"type": "integer"}}}
OTHER_NODE = {"type": "object", "properties": {"next": {"$ref": "#/$defs/N"}, "v": {"type": "string"}}}
CHOICE = {"oneOf": [{"$ref": "#/$defs/N"}, {"type": "integer"}]}
LOOP = {"anyOf": [{"type": "array", "items": {"$ref": "#/$defs/L"}}, {"type": "string"}]}


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ({"type": ["integer", "null"]}, {"type": "integer"}, ["argument t.x: type integer | null -> integer"]),
        ({}, {"type": "integer"}, ["argument t.x: type any -> integer"]),
        (True, {"type": "integer"}, ["argument t.x: type any -> integer"]),
        (
            {"type": "array", "items": {"type": ["integer", "string"]}},
            {"type": "array"},
            ["argument t.x: type array of (integer | string) -> array"],
        ),
        (
            {"type": "array", "items": False},
            {"type": "array", "items": True},
            ["argument t.x: items false -> true"],
        ),
        (
            {"allOf": [{"$ref": "#/$defs/N"}], "$defs": {"N": NODE}},
            {"$ref": "#/$defs/N", "$defs": {"N": OTHER_NODE}},
            ["argument t.x.v: type integer -> string"],
        ),
        (
            {**CHOICE, "$defs": {"N": NODE}},
            {**CHOICE, "$defs": {"N": OTHER_NODE}},
            [
                'argument t.x: oneOf [{"$ref": "#/$defs/N"}, {"type": "integer"}] -> '
                '[{"$ref": "#/$defs/N"}, {"type": "integer"}]'
            ],
        ),
        (
            {"$ref": "#/$defs/L", "$defs": {"L": LOOP}},
            {"$ref": "#/$defs/L", "$defs": {"L": {"anyOf": [*LOOP["anyOf"], {"type": "null"}]}}},
            ["argument t.x: type array of … | string -> array of … | string | null"],
        ),
        ({"$ref": "http://x/y"}, {"$ref": "http://x/z"}, ['argument t.x: $ref "http://x/y" -> "http://x/z"']),
        (
            {"type": "object", "properties": {"y": {"type": "integer"}}},
            {"type": "object", "properties": {"y": {"type": "integer"}}, "required": ["y"]},
            ["argument t.x.y: required false -> true"],
        ),
        (
            {"type": "object", "additionalProperties": {"$ref": "#/$defs/N"}, "$defs": {"N": {"type": "string"}}},
            {"type": "object", "additionalProperties": {"type": "string"}, "title": "T"},
            ['argument t.x: title none -> "T"'],
        ),
    ],
)
def test_schemas(old: Any, new: Any, told: list[str]) -> None:
    """References, choices, lists and objects within objects are compared by what they mean."""
    assert compared(copy.deepcopy(old), copy.deepcopy(new)) == [*told]


def test_a_schema_that_only_says_it_otherwise() -> None:
    """Where nothing differs but the way to say it, the tool is told as a whole, since its hash differs."""
    old = {"anyOf": [{"$ref": "#/$defs/N"}, {"type": "null"}], "$defs": {"N": NODE}}
    new = {"type": ["object", "null"], "properties": NODE["properties"], "$defs": {"N": NODE}}
    (line,) = compared(old, new)
    assert line.startswith("'t': definition {")


# -- renames ---------------------------------------------------------------------------------------------------------


def renamed(record: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """The record with other names for nodes, wherever they are."""
    text = json.dumps(record["graph"])
    for old, new in names.items():
        text = text.replace(f'"{old}"', f'"{new}"').replace(f'"{old}/', f'"{new}/')
    graph = json.loads(text)
    graph["nodes"].sort()
    return {**record, "graph": graph}


@pytest.mark.parametrize(
    ("names", "renames"),
    [
        ({"b": "check"}, {"b": "check"}),
        ({"outer": "around"}, {"outer": "around"}),
        ({"outer/in": "outer/within"}, {"outer/in": "outer/within"}),
        ({"outer/in": "outer/within"}, {"in": "within"}),
        ({"outer/in": "outer/within", "outer": "around"}, {"in": "within", "outer": "around"}),
        ({"outer/in": "outer/within", "outer": "around"}, {"outer/in": "outer/within", "outer": "around"}),
        ({"outer/in": "outer/within", "outer": "around"}, {"outer/in": "around/within", "outer": "around"}),
        ({"b": "?", "outer": "b", "?": "outer"}, {"b": "outer", "outer": "b"}),
    ],
)
def test_a_rename_is_all_that_is_told(names: dict[str, str], renames: dict[str, str]) -> None:
    """A node with another name is told as renamed, once; its edges, branches and channels are as before."""
    new = renamed(RECORD, names)
    told = differences(RECORD, new, renames)
    assert [change.change for change in told] == ["renamed"] * len(renames)
    assert {(change.kind, change.subject) for change in told} == {("graph", "node")}
    assert {change.old for change in told} <= set(RECORD["graph"]["nodes"])
    assert {change.new for change in told} <= set(new["graph"]["nodes"])
    assert all(change.name == change.old for change in told)
    assert len(differences(RECORD, new)) > len(told)


def test_the_line_of_a_rename() -> None:
    """A rename tells both names."""
    told = differences(RECORD, renamed(RECORD, {"b": "check"}), {"b": "check"})
    assert [str(change) for change in told] == ["graph: node 'b' renamed to 'check'"]


def test_a_channel_is_no_node() -> None:
    """A channel with the name of a node that was renamed keeps its own."""
    new = copy.deepcopy(RECORD)
    new["graph"] = json.loads(json.dumps(RECORD["graph"]).replace('"a"', '"z"'))
    new["graph"]["channels"] = RECORD["graph"]["channels"]
    new["graph"]["branches"]["outer/in"] = RECORD["graph"]["branches"]["outer/in"]
    assert [change.change for change in differences(RECORD, new, {"a": "z"})] == ["renamed"]


def test_graphs_that_are_told() -> None:
    """Of two graphs that differ in the name of a node and in a breakpoint, this is told, whatever is within them."""
    old = row_of("a", "b", "c")
    new = row_of("a", "check", "c", interrupt_before=["check"])
    records = [{"graph": described_graph(graph)} for graph in (old, new)]
    assert [str(change) for change in differences(records[0], records[1], {"b": "check"})] == [
        "graph: node 'b' renamed to 'check'",
        "graph: breakpoint before 'check' added",
    ]
    assert [str(change) for change in differences(records[0], records[1])] == [
        "graph: node 'b' removed",
        "graph: node 'check' added",
        "graph: edge a -> b removed",
        "graph: edge a -> check added",
        "graph: edge b -> c removed",
        "graph: edge check -> c added",
        "graph: breakpoint before 'check' added",
    ]
    everywhere = {"graph": described_graph(everything())}
    assert differences(everywhere, {"graph": described_graph(everything())}) == ()


@pytest.mark.parametrize("renames", [{"b": "nowhere"}, {"nobody": "a"}, {"b": "a"}, {"b": "b"}, {"a": "c", "b": "c"}])
def test_a_rename_that_does_not_fit(renames: dict[str, str]) -> None:
    """A rename to or from a node that is not there, or onto another node, changes nothing of what is told."""
    new = edited("graph nodes 5", "c")
    assert differences(RECORD, new, renames) == differences(RECORD, new)
    assert differences(RECORD, RECORD, renames) == ()


# -- whatever is compared --------------------------------------------------------------------------------------------

names = st.sampled_from(["a", "b", "c", "a/b", "x.y"])
scalars = st.none() | st.booleans() | st.integers(0, 2) | st.sampled_from(["", "t", 0.5, float("nan")])
plain = st.recursive(scalars, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(names, inner, max_size=2))
schemas = st.recursive(
    st.fixed_dictionaries({}, optional={"type": st.sampled_from(["integer", "null", ["array"]]), "default": scalars}),
    lambda inner: st.fixed_dictionaries(
        {},
        optional={
            "type": st.sampled_from(["object", "array", 1]),
            "properties": st.dictionaries(names, inner, max_size=2),
            "required": st.lists(names, max_size=2),
            "items": inner | st.booleans(),
            "anyOf": st.lists(inner, max_size=2),
            "$ref": st.sampled_from(["#/$defs/a", "#/$defs/b", "#", "#/properties/a", "x"]),
            "$defs": st.dictionaries(names, inner, max_size=2) | scalars,
            "enum": plain,
        },
    ),
    max_leaves=12,
)
tools = st.fixed_dictionaries(
    {
        "hash": st.sampled_from(["1", "2", "3"]),
        "description": st.text(max_size=2),
        "parameters": schemas,
        "other": st.dictionaries(names, scalars, max_size=2),
    }
)
models = st.fixed_dictionaries(
    {"provider": names, "name": names, "parameters": st.dictionaries(names, plain, max_size=2)}
)
nodes = st.lists(names, max_size=3, unique=True).map(sorted)
edges = st.lists(
    (names | st.lists(names, min_size=1, max_size=2)).flatmap(lambda start: names.map(lambda end: [start, end])),
    max_size=3,
    unique_by=repr,
)
routers = st.lists(
    st.fixed_dictionaries({"name": names, "ends": st.none() | st.dictionaries(names, names, max_size=2)}),
    min_size=1,
    max_size=2,
)
graphs = st.fixed_dictionaries(
    {
        "nodes": nodes,
        "edges": edges,
        "branches": st.dictionaries(st.sampled_from("abc"), routers, max_size=2),
        "channels": st.dictionaries(names, names, max_size=2),
        "breakpoints": st.fixed_dictionaries({"before": nodes, "after": nodes}),
    }
)
records = st.fixed_dictionaries(
    {
        "tools": st.none() | st.dictionaries(names, tools, max_size=2),
        "model": st.none()
        | models.flatmap(lambda model: st.lists(models, max_size=2).map(lambda more: {**model, "fallbacks": more})),
        "graph": st.none() | graphs,
        "limits": st.none() | st.dictionaries(names, scalars, max_size=2),
        "extra": st.none() | st.dictionaries(names, scalars, max_size=2),
    }
)
many = settings(deadline=None, max_examples=300)


def canonical(record: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """What is compared of a record, as text: no more of a tool than its hash."""
    parts = {name: part for name, part in record.items() if part is not None and other[name] is not None}
    if "tools" in parts:
        parts["tools"] = {name: tool["hash"] for name, tool in parts["tools"].items()}
    if "graph" in parts:
        parts["graph"] = {**parts["graph"], "edges": sorted(parts["graph"]["edges"], key=repr)}
    if "limits" in parts:
        parts["limits"] = {name: limit for name, limit in parts["limits"].items() if name in other["limits"]}
    return json.dumps(parts, sort_keys=True)


@many
@given(records)
def test_a_record_is_like_itself(record: dict[str, Any]) -> None:
    """Nothing differs between a record and a copy of it that went through JSON."""
    assert differences(record, json.loads(json.dumps(record))) == ()


@many
@given(records, records)
def test_what_differs_is_told_and_nothing_else(old: dict[str, Any], new: dict[str, Any]) -> None:
    """There is a change exactly where what is compared differs, and changes are JSON, each told once and in a line."""
    told = differences(old, new)
    assert bool(told) == (canonical(old, new) != canonical(new, old))
    assert len({repr(change) for change in told}) == len(told)
    json.dumps(told)
    assert all("\n" not in str(change) and len(str(change)) < 300 for change in told)
    kinds = {change.kind for change in told}
    assert kinds <= {name for name in old if old[name] is not None and new[name] is not None}


@many
@given(records, records)
def test_back_is_the_mirror_of_there(old: dict[str, Any], new: dict[str, Any]) -> None:
    """What is added in one direction is removed in the other, and old and new change places."""
    mirrored: dict[How, How] = {"added": "removed", "removed": "added", "changed": "changed"}
    there = [Change(*one[:3], mirrored[one.change], one.aspect, one.new, one.old) for one in differences(old, new)]
    assert [repr(change) for change in there] == [repr(change) for change in differences(new, old)]


# -- the report ------------------------------------------------------------------------------------------------------


def report(*changes: Change, **fields: Any) -> EnvironmentReport:
    """A report of a thread."""
    return EnvironmentReport("thread", "c1", changes, **fields)


REMOVED = Change("graph", "node", "b", "removed", "", "b")


@pytest.mark.parametrize(
    ("told", "text"),
    [
        (report(), "thread 'thread' at checkpoint 'c1': no changes of what it runs with"),
        (report(known=False), "thread 'thread' at checkpoint 'c1': what it ran with was not recorded"),
        (
            report(REMOVED),
            "thread 'thread' at checkpoint 'c1': 1 change of what it runs with\n  graph: node 'b' removed",
        ),
    ],
)
def test_a_report_as_text(told: EnvironmentReport, text: str) -> None:
    """A report is true where there are changes, and says what there is in a line each."""
    assert str(told) == text
    assert bool(told) == bool(told.changes)


def test_a_report_for_programs() -> None:
    """Changes can be asked for by kind, and are JSON with the names of their fields."""
    changes = differences(RECORD, OTHER)
    told = report(*changes)
    assert told.kinds == {"tools", "model", "graph", "limits", "extra"}
    assert [change for kind in ("tools", "model", "graph", "limits", "extra") for change in told.of(kind)] == [*changes]
    assert told.of("files") == ()
    read = json.loads(json.dumps(told.as_dict()))
    assert (read["thread_id"], read["checkpoint_id"], read["known"]) == ("thread", "c1", True)
    assert [Change(**change) for change in read["changes"]] == [*changes]


def test_changes_of_other_kinds() -> None:
    """What is told of files and of pending calls reads like the rest."""
    assert str(Change("files", "file", "a.csv", "changed", "", "12", "34")) == "files: file 'a.csv' 12 -> 34"
    assert str(Change("files", "file", "a.csv", "changed")) == "files: file 'a.csv' changed"
    assert str(Change("pending", "call", "search", "removed")) == "pending: call 'search' removed"


def test_a_long_report() -> None:
    """Many changes are told as far as a screen goes, and the rest counted; long values are cut, in the text alone."""
    changes = [Change("extra", "value", f"n{n}", "changed", "", "x" * 999, "y" * 999) for n in range(100)]
    lines = str(report(*changes)).splitlines()
    assert len(lines) == 42
    assert lines[-1] == "  and 60 more"
    assert max(map(len, lines)) < 200
    assert report(*changes).as_dict()["changes"][0]["old"] == "x" * 999


def test_long_values_that_begin_alike() -> None:
    """Of long texts that begin alike the line tells where they differ."""
    change = Change("tools", "description", "search", "changed", "", "Finds. " * 99 + "One.", "Finds. " * 99 + "Two.")
    assert "One." in str(change)
    assert "Two." in str(change)
    assert len(str(change)) < 200


def test_a_report_as_a_table() -> None:
    """A notebook shows a row for each change; where a value is cut the whole of it is there to be pointed at."""
    told = report(REMOVED, Change("tools", "description", "search", "changed", "", "short", "long " * 50))
    cells = [[cell.text or "" for cell in row] for row in ElementTree.fromstring(told._repr_html_()).iter("tr")]
    assert cells[1] == ["graph", "node 'b'", "removed", '"b"', ""]
    assert cells[2][:4] == ["tools", "description of 'search'", "changed", '"short"']
    assert cells[2][4].endswith("…")
    titles = [cell.get("title") for cell in ElementTree.fromstring(told._repr_html_()).iter("td") if cell.get("title")]
    assert titles == [json.dumps("long " * 50)]
    assert "not recorded" in report(known=False)._repr_html_()


@pytest.mark.parametrize("field", ["name", "subject", "aspect", "old", "new"])
def test_whatever_it_is_called(field: str) -> None:
    """Names and values are text, in a line and in a table, whatever is in them."""
    fields: dict[str, Any] = {"kind": "tools", "subject": "tool", "name": "x", "change": "changed", field: NASTY}
    change = Change(**fields)
    told = EnvironmentReport(NASTY, NASTY, (change,))
    table = ElementTree.fromstring(told._repr_html_())
    assert {one.tag for one in table.iter()} == {"table", "caption", "thead", "tbody", "tr", "th", "td"}
    assert all(line.isprintable() for line in str(told).split("\n"))
    assert len(str(told).split("\n")) == 2
    str(told).encode()
    told._repr_html_().encode()
