"""Stored bytes become a line of JSON, and that line the same bytes again."""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from langgraph_durable.core.codec import Codec
from langgraph_durable.core.messages import CLASSES
from langgraph_durable.core.readable import ROLES, from_bytes, to_bytes

CODEC = Codec(JsonPlusSerializer(), native=True)

text = st.text(st.characters(codec="utf-8"))
scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | text | st.binary()
plain = st.recursive(
    scalars, lambda inner: st.lists(inner) | st.dictionaries(text | st.integers(0, 9), inner), max_leaves=20
)
messages = (
    st.builds(HumanMessage, text, id=text)
    | st.builds(SystemMessage, text)
    | st.builds(ToolMessage, text, tool_call_id=text)
    | st.builds(AIMessage, text, additional_kwargs=st.dictionaries(text, plain, max_size=3))
)


def again(kind: str, data: bytes) -> dict[str, Any]:
    """What is said of some bytes, which have to come back from it."""
    line = from_bytes(kind, data)
    assert "\n" not in line
    said: dict[str, Any] = json.loads(line)
    assert to_bytes(said) == (kind, data)
    return said


@given(st.lists(plain | messages | st.tuples(scalars), min_size=1, max_size=5))
def test_values_come_back(values: list[Any]) -> None:
    """One value or several, of any kind: the bytes are the same."""
    again("", b"".join(CODEC.streams(values, "channel")))


@given(st.sampled_from(["", "z", "+aes", "z+aes"]), st.binary(max_size=200))
def test_any_bytes_come_back(kind: str, data: bytes) -> None:
    """Also what is no stream at all."""
    again(kind, data)


@given(st.lists(messages, min_size=1, max_size=3), st.integers(0, 10_000), st.integers(1, 255))
def test_damaged_bytes_come_back(values: list[Any], place: int, flip: int) -> None:
    """A stream with a wrong byte in it stays that."""
    data = bytearray(b"".join(CODEC.streams(values, "messages")))
    data[place % len(data)] ^= flip
    again("", bytes(data))


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("hello", {"value": "hello"}),
        ({"a": [1, None]}, {"value": {"a": [1, None]}}),
        ((1, 2), {"type": "msgpack"}),
    ],
)
def test_what_is_said(value: Any, said: dict[str, Any]) -> None:
    """What JSON can say is said in JSON, and what it cannot is named by its type."""
    assert said.items() <= again("", CODEC.stream(value, "channel")).items()


def test_messages_have_roles() -> None:
    """Every class of messages that is stored by its fields has a role to be read by."""
    assert ROLES.keys() == CLASSES.keys()
    said = again("", CODEC.stream(ToolMessage("found", tool_call_id="1"), "messages"))
    assert (said["role"], said["content"], said["tool_call_id"]) == ("tool", "found", "1")


def test_what_nests_deeply_can_be_read_from_anywhere() -> None:
    """Reading takes no call for each level: whoever reads may be deep in calls himself."""

    def from_below(calls: int, call: Callable[[], Any]) -> Any:
        return call() if calls == 0 else from_below(calls - 1, call)

    used = len(inspect.stack())
    for depth in (10, 100, 200, 250):
        deep: Any = 1
        for _ in range(depth):
            deep = [deep]
        data = CODEC.stream(deep, "channel")
        line = from_bytes("", data)
        assert depth > 200 or "value" in orjson.loads(line)
        found = from_below(sys.getrecursionlimit() - used - 30, lambda line=line: to_bytes(orjson.loads(line)))  # type: ignore[misc]  # bound now
        assert found == ("", data)
