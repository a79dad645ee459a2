"""The head of a checkpoint comes back as it was, in few bytes when it is one of LangGraph's."""

from __future__ import annotations

from typing import Any

import ormsgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st
from langgraph.checkpoint.base import empty_checkpoint

from langgraph_durable import SqliteSaver
from langgraph_durable.core.head import KNOWN, restored, shortened

own = st.builds(
    lambda counter, chance: f"{counter:032}.{chance:016}",
    st.integers(0, 2**70),
    st.floats(0, 1, exclude_max=True),
)
versions = own | st.text(max_size=60) | st.sampled_from(["1", "2.0", f"{1:032}.nan", f"{1:032}.0.50", "\u0661.5"])
names = st.sampled_from(KNOWN) | st.text(max_size=8)
channels = st.dictionaries(names, versions, max_size=5)
rests = st.fixed_dictionaries(
    {
        "v": st.integers(1, 4),
        "ts": st.text(max_size=33),
        "channel_versions": channels,
        "versions_seen": st.dictionaries(names, channels, max_size=4),
    },
    optional={
        "updated_channels": st.none() | st.lists(names, max_size=4),
        "pending_sends": st.lists(st.integers(-9, 9), max_size=2),
    },
)
odd_rests = st.dictionaries(
    st.sampled_from(["channel_versions", "versions_seen", "updated_channels", "v"]),
    st.recursive(
        st.none() | st.booleans() | st.integers(-5, 5) | st.floats(allow_nan=False) | st.text(max_size=3),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
        max_leaves=8,
    ),
)


def packed(names: list[str], rest: dict[str, Any]) -> bytes:
    """The head as it is stored."""
    return ormsgpack.packb(shortened(names, rest))


def told(value: Any) -> str:
    """A value with the types in it, whatever the order of the keys of its outermost dict."""
    return repr(sorted(value.items()) if isinstance(value, dict) else value)


@given(st.lists(names, max_size=5), rests | odd_rests)
def test_a_head_comes_back(having: list[str], rest: dict[str, Any]) -> None:
    """Names, versions and whatever else are what they were, types and the order of channels included."""
    before = told(rest)
    back_names, back = restored(ormsgpack.unpackb(packed(having, rest)))
    assert back_names == having
    assert told(back) == before == told(rest)


def test_a_head_is_short() -> None:
    """The head of an agent with two nodes takes a quarter of a kilobyte, where it would be three times that."""
    saver = SqliteSaver(":memory:")
    made: list[str] = []
    for _ in range(6):
        made.append(saver.get_next_version(made[-1] if made else None, None))
    rest: dict[str, Any] = {
        key: part for key, part in empty_checkpoint().items() if key not in ("id", "channel_values")
    }
    rest["channel_versions"] = dict(zip(KNOWN, made, strict=False))
    rest["versions_seen"] = {
        node: {"branch:to:agent": made[3], "__start__": made[1]} for node in ("agent", "tools", "x")
    }
    assert len(packed(["messages"], rest)) < 256
    assert len(ormsgpack.packb(rest)) > 700
    saver.close()


@pytest.mark.parametrize("damaged", [[], [2, [], {}], [1], [1, [99], [], [], {}, [], [], None], [0, []]])
def test_a_damaged_head(damaged: list[Any]) -> None:
    """What is no head is refused, not read as an empty one."""
    with pytest.raises((ValueError, IndexError)):
        restored(damaged)
