"""Values to store: some of everything, made anew at every call."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langgraph.types import Send


@dataclass
class Point:
    x: Any
    y: Any = None


class Opaque:
    """What no serializer has a form for."""

    __slots__ = ()


def messages() -> list[Any]:
    """A message of each kind that is stored by its fields, with something nested in every field that can have it."""
    return [
        SystemMessage("Answer in one line.", id="m0"),
        HumanMessage(
            [{"type": "text", "text": "Which?"}, "or not"], id="m1", additional_kwargs={"deep": {"er": [1, {}]}}
        ),
        AIMessage(
            "",
            id="m2",
            tool_calls=[{"name": "find", "args": {"where": ["a", {"b": None}]}, "id": "c1", "type": "tool_call"}],
            usage_metadata={"input_tokens": 3, "output_tokens": 4, "total_tokens": 7},
            response_metadata={"model": "m", "logprobs": [[0.5, -0.0]]},
        ),
        ToolMessage("found", id="m3", tool_call_id="c1", artifact={"rows": [1, 2]}, status="error"),
    ]


def values() -> dict[str, Any]:
    """Channel values of every type that a state is made of, by odd and by usual names."""
    return {
        "messages": messages(),
        "text": "über\x00 \U0001f600",
        "number": 2**63 - 1,
        "float": -0.0,
        "nothing": None,
        "flag": True,
        "empty list": [],
        "empty dict": {},
        "bytes": b"\x00\xff",
        "nested": {"a": [1, {"b": [None, True, 1.0]}], "": {}},
        "numbers": list(range(300)),
        "mixed": [1, True, 1.0, "1", None, [], {}, b"1", Point(1, [2])],
        "keys": {1: "int", "1": "text", None: "none", 1.5: "float"},
        "point": Point({"x": [1]}, HumanMessage("inside", id="i")),
        "set": {3, 1, 2},
        "when": datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=timezone.utc),
        "uuid": UUID(int=7),
        "decimal": Decimal("1.10"),
        "queue": deque([1, 2]),
        "long": "x" * 100_000,
        "__pregel_tasks": [Send("node", {"a": [1]}), Send("node", messages()[0])],
        'odd "name" ; DROP TABLE durable_chunks; --': 1,
    }
