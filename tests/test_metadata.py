"""Metadata comes back as it was put, and `list` finds checkpoints by it."""

from __future__ import annotations

import json
import math
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver

from langgraph_durable import SqliteSaver
from tests.conftest import Face, checkpoint, thread
from tests.graphs import official
from tests.samples import Point, messages
from tests.shapes import form

# -- metadata ----------------------------------------------------------------------------------------------------


METADATA: dict[str, Any] = {
    "plain": {"source": "loop", "step": 3, "parents": {"": "x"}, "flag": False, "none": None, "real": 1.0},
    "nan": {"score": math.nan, "list": [math.nan]},
    "infinities": {"low": -math.inf, "high": [math.inf]},
    "minus zero": {"zero": -0.0},
    "tuples": {"counters_since_delta_snapshot": {"log": (1, 2)}, "deep": [(1, (2,))]},
    "keys": {"by": {1: "a", "1": "b", None: "c", 2.5: "e"}},
    "unicode": {"größe": "日本語 \U0001f600 \x7f 'quoted' \"twice\" \\ \n", "": ""},
    "zero byte inside": {"list": ["a\0b"]},
    "surrogate": {"text": "a\ud800b", "list": ["\udfff"]},
    "odd objects": {"set": {1, 2}, "when": datetime(2026, 1, 1), "money": Decimal("1.0"), "bytes": b"\xff"},
    "messages": {"writes": {"agent": {"messages": [messages()[2]]}}, "point": Point(1, [2])},
    "deep": {"deep": [[[[[[[[{"a": [1]}]]]]]]]]},
    "nothing": {},
}


@pytest.mark.parametrize("name", METADATA)
def test_metadata_comes_back(face: Face, name: str) -> None:
    """Metadata is what LangGraph's in-memory saver gives back, or more exact, from `get_tuple` and from `list`."""
    given = METADATA[name]
    face.put(thread(), checkpoint("a"), given)
    reference = InMemorySaver()
    reference.put(thread(), checkpoint("a"), given, {})
    expected = reference.get_tuple(thread())
    found = face.get_tuple(thread())
    assert found is not None
    assert expected is not None
    # The in-memory saver puts a question mark for half a surrogate pair.
    assert form(found.metadata) == form(given if name == "surrogate" else expected.metadata)
    assert [form(each.metadata) for each in face.list(thread())] == [form(found.metadata)]


@pytest.mark.parametrize("beside", [1, (1, 2), math.nan, {1: 2}], ids=["number", "tuple", "nan", "keys"])
def test_metadata_with_numbers_beyond_64_bits(face: Face, beside: Any) -> None:
    """An integer that JSON can say and msgpack cannot comes back from metadata, as from langgraph-checkpoint-sqlite."""
    given: Any = {"seed": 2**70, "list": [-(2**65)], "beside": beside}
    face.put(thread(), checkpoint("a"), given)
    found = face.get_tuple(thread())
    with official(None) as reference:
        reference.put(thread(), checkpoint("a"), given, {})
        expected = reference.get_tuple(thread())
    assert found is not None
    assert expected is not None
    assert form(found.metadata) == form(expected.metadata)


@pytest.mark.parametrize("given", [{"a\ud800b": 1}, {"deep": {"\udfff": 1}}, {"run_id": "a\ud800b"}])
def test_metadata_with_text_that_is_none(face: Face, given: dict[str, Any]) -> None:
    """A lone surrogate in a key or a run id does not fail the put, as it does not in langgraph-checkpoint-sqlite."""
    face.put(thread(), checkpoint("a", value=1), {**given, "step": 1})
    found = face.get_tuple(thread())
    assert found is not None
    assert len(found.metadata) == 2
    assert found.metadata["step"] == 1


def test_metadata_of_the_config(face: Face) -> None:
    """What LangGraph merges into metadata is merged: plain entries of the config's `metadata` and `configurable`."""
    config: RunnableConfig = {
        "configurable": {**thread()["configurable"], "user": "u", "__private": 1, "weight": 0.5, "object": Point(1)},
        "metadata": {"run_id": "r", "flag": True, "list": [1], "step": 99},
    }
    face.put(config, checkpoint("a"), {"step": 1})
    found = face.get_tuple(thread())
    assert found is not None
    assert found.metadata == {"step": 1, "run_id": "r", "flag": True, "user": "u", "weight": 0.5}


# -- filters -----------------------------------------------------------------------------------------------------


STORED: dict[str, dict[str, Any]] = {
    "number": {"x": 1},
    "real": {"x": 1.5},
    "text": {"x": "1"},
    "true": {"x": True},
    "false": {"x": False},
    "none": {"x": None},
    "absent": {"y": 1},
    "list": {"x": [1, "a"]},
    "nested": {"x": {"y": {"z": "deep"}}},
    "dotted": {"x.y": "flat", "x": {"y": "nested"}},
    "quoted": {"it's": "o'clock", 'say "x"': "1"},
    "unicode": {"größe": "日本", "\U0001f600": 1},
    "empty": {"": "", "x": ""},
    "odd": {"x": Decimal("1.5"), "s": {1, 2}, "keys": {"1": "text", 1: "number"}},
}


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({}, set(STORED)),
        ({"x": 1}, {"number", "true"}),
        ({"x": 1.0}, {"number", "true"}),
        ({"x": True}, {"number", "true"}),
        ({"x": False}, {"false"}),
        ({"x": 0}, {"false"}),
        ({"x": 1.5}, {"real"}),
        ({"x": "1"}, {"text"}),
        ({"x": "true"}, set()),
        ({"x": None}, {"none", "absent", "quoted", "unicode"}),
        ({"x": [1, "a"]}, {"list"}),
        ({"x": [1]}, set()),
        ({"x": {"y": {"z": "deep"}}}, {"nested"}),
        ({"x.y.z": "deep"}, {"nested"}),
        ({"x.y": "flat"}, {"dotted"}),
        ({"x.y": "nested"}, set()),
        ({"x.y.z.more": None, "x.y.z": "deep"}, {"nested"}),
        ({"it's": "o'clock"}, {"quoted"}),
        ({'say "x"': "1"}, {"quoted"}),
        ({"größe": "日本"}, {"unicode"}),
        ({"\U0001f600": 1}, {"unicode"}),
        ({"": ""}, {"empty"}),
        ({"x": "", "": ""}, {"empty"}),
        ({"x": "", "": "other"}, set()),
        ({"y": 1, "x": None}, {"absent"}),
        ({"x') OR 1=1 --": 1}, set()),
        ({"x": "1' OR '1'='1"}, set()),
        ({"x' IS NULL OR json_extract(metadata, '$.x": 1}, set()),
        ({'"; DROP TABLE durable_checkpoints; --': 1}, set()),
        ({"$": 1}, set()),
        ({"%": 1}, set()),
        ({"x": object()}, set()),
    ],
    ids=lambda part: " ".join(sorted(part)) if isinstance(part, set) else json.dumps(part, default=lambda _: "object"),
)
def test_filters(face: Face, wanted: dict[str, Any], expected: set[str]) -> None:
    """A filter finds the checkpoints whose metadata has an equal value at each of its keys, whatever the keys are."""
    for name, metadata in STORED.items():
        face.put(thread(), checkpoint(name), metadata)
    assert {each.checkpoint["id"] for each in face.list(thread(), filter=wanted)} == expected
    assert {each.checkpoint["id"] for each in face.list(None, filter=wanted)} == expected
    assert len(face.list(None)) == len(STORED)


def test_a_filter_over_threads_and_namespaces(face: Face) -> None:
    """A filter goes together with everything else that `list` is asked for."""
    for number in range(12):
        config = thread(f"t{number % 2}", "inner" if number % 3 == 0 else "")
        face.put(config, checkpoint(str(number)), {"third": number % 3, "even": number % 2 == 0})

    def ids(config: RunnableConfig | None, **kwargs: Any) -> list[int]:
        return [int(each.checkpoint["id"]) for each in face.list(config, **kwargs)]

    assert ids(None, filter={"even": True}) == [10, 8, 6, 4, 2, 0]
    assert ids(None, filter={"even": True, "third": 1}) == [10, 4]
    assert ids(None, filter={"even": True}, limit=2) == [10, 8]
    assert ids(thread("t0", "inner"), filter={"third": 0}) == [6, 0]
    assert ids(thread("t0", "inner"), filter={"third": 1}) == []
    assert ids({"configurable": {"thread_id": "t0"}}, filter={"third": 0}) == [6, 0]
    assert ids(thread("t0"), filter={"even": True}, before=thread("t0", checkpoint_id="8"), limit=1) == [4]
    assert ids(thread("t0", checkpoint_id="4"), filter={"third": 1}) == [4]
    assert ids(thread("t0", checkpoint_id="4"), filter={"third": 2}) == []


def test_a_filter_looks_further_than_a_page(face: Face) -> None:
    """Matches that lie hundreds of checkpoints apart are all found, in order, and `limit` counts matches."""
    config = thread()
    for number in range(300):
        config = face.put(config, checkpoint(f"{number:03}"), {"step": number, "rare": number % 100 == 7})
    assert [each.metadata["step"] for each in face.list(thread(), filter={"rare": True})] == [207, 107, 7]
    assert [each.metadata["step"] for each in face.list(thread(), filter={"rare": True}, limit=2)] == [207, 107]
    assert [each.metadata["step"] for each in face.list(thread())] == list(range(299, -1, -1))
    assert [each.metadata["step"] for each in face.list(thread(), limit=150)] == list(range(299, 149, -1))


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**40), 2**40), st.floats(allow_nan=False, allow_infinity=False), TEXT
)
TREES = st.recursive(
    LEAVES, lambda parts: st.one_of(st.lists(parts, max_size=3), st.dictionaries(TEXT, parts, max_size=3)), max_leaves=5
)


@settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(metadata=st.dictionaries(TEXT, TREES, min_size=1, max_size=4), other=TREES, data=st.data())
def test_any_metadata_is_found_by_what_is_in_it(loop: Any, metadata: Any, other: Any, data: st.DataObject) -> None:
    """Whatever JSON metadata a checkpoint has, each of its keys with its value finds it, and another value does not."""
    key = data.draw(st.sampled_from(sorted(metadata)))
    assume(other != metadata[key])
    with SqliteSaver(":memory:") as saver:
        face = Face(saver, loop)
        face.put(thread(), checkpoint("a"), metadata)
        face.put(thread(), checkpoint("b"), {})
        found = {each.checkpoint["id"]: each.metadata for each in face.list(thread(), filter=metadata)}
        assert form(found.pop("a")) == form(metadata)
        assert found.keys() <= ({"b"} if list(metadata.values()) == [None] * len(metadata) else set())
        assert "a" in [each.checkpoint["id"] for each in face.list(None, filter={key: metadata[key]})]
        assert "a" not in [each.checkpoint["id"] for each in face.list(thread(), filter={key: other})]
