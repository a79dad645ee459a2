"""`list` and "latest" follow the order of insertion, whatever ids and clocks say, in a fixed number of statements."""

from __future__ import annotations

import sqlite3
from collections import Counter
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import CheckpointTuple
from langgraph.checkpoint.base.id import uuid6
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from langgraph_durable import SqliteSaver
from tests.conftest import Face, checkpoint, thread
from tests.shapes import form, tuple_form


def ids(found: list[CheckpointTuple]) -> list[str]:
    return [each.checkpoint["id"] for each in found]


def ahead(seconds: float) -> str:
    """The id that a machine whose clock is that much ahead makes now."""
    ticks = int(seconds * 1e7)  # of 100 ns; the highest 48 bits of an id count 4,096 of them
    return str(UUID(int=uuid6().int + ((ticks >> 12) << 80)))


def chain(face: Face, names: list[str], config: RunnableConfig | None = None) -> list[RunnableConfig]:
    """A line of checkpoints with these ids."""
    made = []
    config = config or thread()
    for step, name in enumerate(names):
        config = face.put(config, checkpoint(name, step=step), {"step": step})
        made.append(config)
    return made


def test_order_is_insertion_order(face: Face) -> None:
    """Checkpoints are listed by when they were put, the last one first, whatever the order of their ids."""
    names = ["5", "1", "9", "3", "7"]
    chain(face, names)
    assert ids(face.list(thread())) == names[::-1]
    assert ids(face.list(None)) == names[::-1]
    assert ids(face.list({"configurable": {"thread_id": "thread"}})) == names[::-1]
    assert face.values(thread()) == {"step": 4}


def test_a_writer_whose_clock_is_ahead(face: Face) -> None:
    """After a put by a machine two minutes ahead, what others put is the latest, and nothing of it vanishes."""
    first = face.put(thread(), checkpoint(said="before"))
    theirs = face.put(first, checkpoint(ahead(120), said="ahead"))
    ours = face.put(theirs, checkpoint(said="after"))
    assert ours["configurable"]["checkpoint_id"] < theirs["configurable"]["checkpoint_id"]
    assert face.values(thread()) == {"said": "after"}
    assert [each.config for each in face.list(thread())] == [ours, theirs, first]
    assert [each.config for each in face.list(thread(), limit=1)] == [ours]
    assert [each.config for each in face.list(thread(), before=ours)] == [theirs, first]
    assert [each.config for each in face.list(thread(), before=theirs)] == [first]
    history = face.call("get_delta_channel_history", config=thread(), channels=["said"])
    assert history == {"said": {"writes": [], "seed": "ahead"}}


def test_before(face: Face) -> None:
    """`before` leaves out a checkpoint and what was put after it, also where their ids are older."""
    names = ["5", "1", "9", "3", "7"]
    configs = chain(face, names)
    for place, config in enumerate(configs):
        assert ids(face.list(thread(), before=config)) == names[:place][::-1]
        assert ids(face.list(None, before=config)) == names[:place][::-1]
        assert ids(face.list(thread(), before=config, limit=2)) == names[:place][::-1][:2]
    assert ids(face.list(thread(), before=configs[4], filter={"step": 1})) == ["1"]
    assert ids(face.list(configs[1], before=configs[2])) == ["1"]
    assert ids(face.list(configs[2], before=configs[2])) == []


def test_before_what_is_not_there(face: Face) -> None:
    """Before a checkpoint that was taken away, or never was, is what has an older id; before nothing is everything."""
    configs = chain(face, ["a", "c", "e"])
    assert ids(face.list(thread(), before=thread(checkpoint_id="d"))) == ["c", "a"]
    assert ids(face.list(thread(), before=thread())) == ["e", "c", "a"]
    face.put(configs[2], checkpoint("g"), {"run_id": "r"})
    face.call("delete_for_runs", ["r"])
    assert ids(face.list(thread(), before=thread(checkpoint_id="g"))) == ["e", "c", "a"]


def test_before_is_of_the_thread_that_is_listed(face: Face) -> None:
    """When ids are the same in two threads, each has its own order."""
    chain(face, ["a", "b", "c"], thread("t"))
    chain(face, ["c", "b", "a"], thread("u"))
    before = thread(checkpoint_id="b")
    assert ids(face.list(thread("t"), before=before)) == ["a"]
    assert ids(face.list(thread("u"), before=before)) == ["c"]


def test_limit(face: Face) -> None:
    """As many are listed as were asked for, or all; none for 0."""
    names = [f"{number:03}" for number in range(150)]
    chain(face, names)
    limits = (0, 1, 3, 63, 64, 65, 128, 129, 150, 151, None)
    expected = {limit: names[::-1][:limit] for limit in limits}
    assert {limit: ids(face.list(thread(), limit=limit)) for limit in limits} == expected
    assert {limit: ids(face.list(None, limit=limit)) for limit in limits} == expected


def test_a_listing_that_is_broken_off(face: Face) -> None:
    """A listing that nobody finishes holds nobody up: others put, list and delete meanwhile."""
    chain(face, [f"{number:03}" for number in range(100)])
    listing: Any = face.saver.list(thread())
    first = next(listing)
    assert first.checkpoint["id"] == "099"
    face.put(first.config, checkpoint("new"))
    assert face.values(thread()) == {}
    assert [found.checkpoint["id"] for found in listing] == [f"{number:03}" for number in range(98, -1, -1)]
    again: Any = face.saver.list(thread())
    assert next(again).checkpoint["id"] == "new"
    face.call("delete_thread", "thread")
    assert len(list(again)) < 100
    assert face.list(thread()) == []


def test_a_tuple_is_the_same_however_it_is_found(face: Face) -> None:
    """`get_tuple` and `list` answer the same of a checkpoint, through the saver that put it and through a new one."""
    config = thread()
    messages = []
    for number in range(66):
        messages.append(HumanMessage(f"message {number}", id=str(number), additional_kwargs={"n": [number]}))
        config = face.put(config, checkpoint(messages=messages, numbers=list(range(number)), step=number))
        face.put_writes(config, [("messages", [messages[-1]]), ("step", number)], "task", "~__pregel_pull, n")
    listed = face.list(thread())
    assert [tuple_form(each) for each in listed] == [tuple_form(face.get_tuple(each.config)) for each in listed]
    assert tuple_form(listed[0]) == tuple_form(face.get_tuple(thread()))
    assert form(listed[65].checkpoint["channel_values"]) == form({"messages": messages[:1], "numbers": [], "step": 0})


ORDERS = st.lists(st.tuples(st.integers(0, 12), st.sampled_from(["", "inner"]), st.sampled_from("tu")), max_size=14)


@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(puts=ORDERS, data=st.data())
def test_any_order_of_puts(puts: list[tuple[int, str, str]], data: st.DataObject, loop: Any) -> None:
    """After any puts, repeated ids included, `list` has the first puts of each id in reverse, cut as asked."""
    model: dict[tuple[str, str, str], int] = {}
    with SqliteSaver(":memory:") as saver:
        face = Face(saver, loop)
        for number, (name, ns, thread_id) in enumerate(puts):
            face.put(thread(thread_id, ns), checkpoint(str(name), number=number), {"even": number % 2 == 0})
            model[thread_id, ns, str(name)] = number
        newest_first = list(model.items())[::-1]
        config = data.draw(
            st.sampled_from([None, {"configurable": {"thread_id": "t"}}, thread("t"), thread("u", "inner")])
        )
        limit = data.draw(st.one_of(st.none(), st.integers(0, 5)))
        even = data.draw(st.sampled_from([None, True, False]))
        wanted = (config or {}).get("configurable", {})
        expected = [
            (key, number)
            for key, number in newest_first
            if key[0] == wanted.get("thread_id", key[0])
            and key[1] == wanted.get("checkpoint_ns", key[1])
            and even in (None, number % 2 == 0)
        ][:limit]
        found = face.list(config, limit=limit, filter=None if even is None else {"even": even})
        assert [
            (
                tuple(each.config["configurable"][part] for part in ("thread_id", "checkpoint_ns", "checkpoint_id")),
                each.checkpoint["channel_values"]["number"],
            )
            for each in found
        ] == expected


# -- what a listing costs ----------------------------------------------------------------------------------------


def growing(face: Face, number: int, thread_id: str = "thread") -> None:
    """A thread whose list of messages grows by one with each checkpoint, and whose checkpoints have writes."""
    config = thread(thread_id)
    messages = []
    for place in range(number):
        messages.append(HumanMessage(f"message {place}: " + "x" * 100, id=str(place)))
        config = face.put(config, checkpoint(messages=messages, same="y" * 500, place=f"{place}" * 100))
        face.put_writes(config, [("messages", messages[-1:])], "task")


@pytest.mark.parametrize("config", [None, thread(), thread(ns="", checkpoint_id=None)])
def test_a_listing_makes_as_many_statements_for_fifty_as_for_five(loop: Any, config: RunnableConfig | None) -> None:
    """The number of SQL statements of `list` does not depend on the number of checkpoints that it answers."""
    connection = sqlite3.connect(":memory:", check_same_thread=False)
    try:
        with SqliteSaver(connection) as saver:
            face = Face(saver, loop)
            growing(face, 60)
            statements: list[str] = []
            connection.set_trace_callback(statements.append)
            counts = []
            for limit in (5, 50):
                assert len(face.list(config, limit=limit)) == limit
                counts.append(len(statements))
                statements.clear()
            connection.set_trace_callback(None)
        assert counts[0] == counts[1]
        assert 0 < counts[1] <= 10
    finally:
        connection.close()


class Counting(JsonPlusSerializer):
    """Counts how often each sequence of bytes is decoded, and how many are made."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: Counter[bytes] = Counter()
        self.dumped = 0

    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
        self.dumped += 1
        return super().dumps_typed(obj)

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        self.loaded[data[1]] += 1
        return super().loads_typed(data)


def test_a_listing_decodes_what_is_shared_once(place: str, loop: Any) -> None:
    """An element that fifty checkpoints and their writes have in common is decoded once for all of them."""
    serde = Counting()
    with SqliteSaver(place, serde=serde) as saver:
        face = Face(saver, loop)
        growing(face, 50)
        serde.loaded.clear()
        found = face.list(thread(), limit=50)
        assert [len(each.checkpoint["channel_values"]["messages"]) for each in found] == list(range(50, 0, -1))
        assert all(each.checkpoint["channel_values"]["same"] == "y" * 500 for each in found)
        decoded = {data: count for data, count in serde.loaded.items() if b"message " in data or b"yyyy" in data}
        assert len(decoded) == 51
        assert set(decoded.values()) == {1}
        # Each checkpoint has a head and a value of its own besides.
        assert serde.loaded.total() <= 51 + 50 * 2
