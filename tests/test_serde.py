"""Serializers of the user's, and copies of a saver with another one: nothing is stored or read but through them."""

from __future__ import annotations

import copy
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, message_to_dict, messages_from_dict
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Interrupt, Overwrite, Send

import langgraph_durable
from langgraph_durable import CorruptDataError, OpenError
from tests.conftest import Face, checkpoint, saver_at, thread
from tests.graphs import Running
from tests.samples import Opaque, Point, messages, values
from tests.scenarios import SCENARIOS
from tests.shapes import form, tuple_form

Opener = Callable[..., Face]
KEY = b"0123456789abcdef"
SECRET = "the combination is 4 8 15 16 23 42"


def encrypting(key: bytes = KEY) -> EncryptedSerializer:
    return EncryptedSerializer.from_pycryptodome_aes(key=key)


class Json(SerializerProtocol):
    """A serializer that writes JSON, as somebody might who wants to read the database."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
        text = json.dumps(obj, default=self._default)
        self.seen.append(text)
        return "mine", text.encode()

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        assert data[0] == "mine"
        return json.loads(data[1], object_hook=self._object)

    def _default(self, obj: Any) -> Any:
        if isinstance(obj, BaseMessage):
            return {"$message": message_to_dict(obj)}
        if isinstance(obj, Send):
            return {"$send": [obj.node, obj.arg]}
        if isinstance(obj, Interrupt):
            return {"$interrupt": [obj.value, obj.id]}
        if isinstance(obj, Overwrite):
            return {"$overwrite": obj.value}
        raise TypeError(type(obj).__name__)

    def _object(self, found: dict[str, Any]) -> Any:
        if "$message" in found:
            return messages_from_dict([found["$message"]])[0]
        if "$send" in found:
            return Send(*found["$send"])
        if "$interrupt" in found:
            return Interrupt(found["$interrupt"][0], id=found["$interrupt"][1])
        return Overwrite(found["$overwrite"]) if "$overwrite" in found else found


SERIALIZERS: dict[str, Callable[[], Any]] = {
    "encrypting": encrypting,
    "json": Json,
    "pickle": lambda: JsonPlusSerializer(pickle_fallback=True),
}


@pytest.mark.sampled(4)
@pytest.mark.parametrize("serializer", SERIALIZERS)
@pytest.mark.parametrize("name", ["conversation", "fan_out", "parallel_interrupts", "time_travel", "removals"])
def test_a_graph_with_a_serializer(shared: str, open_face: Opener, name: str, serializer: str) -> None:
    """A graph gives the answers that it gives without one, and a saver that opens the file finds the same history."""
    face = open_face(shared, serde=SERIALIZERS[serializer]())
    graph, act = SCENARIOS[name](face.saver)
    told = act(Running(graph, face.loop, "sync"))
    plain = open_face(":memory:")
    expected = act_of(name, plain)
    assert json.dumps(told, default=str) == json.dumps(expected, default=str)
    again = open_face(shared, serde=SERIALIZERS[serializer]())
    assert [tuple_form(found) for found in again.list(None)] == [tuple_form(found) for found in face.list(None)]
    assert form(again.values(thread())) == form(face.values(thread()))
    assert form(again.values(thread()).get("messages")) == form(plain.values(thread()).get("messages"))


def act_of(name: str, face: Face) -> Any:
    graph, act = SCENARIOS[name](face.saver)
    return act(Running(graph, face.loop, "sync"))


def test_everything_passes_through_a_serializer(place: str, loop: Any) -> None:
    """With a serializer of one's own, whatever is stored of values, writes and heads was seen by it first."""
    serde = Json()
    with saver_at(place, serde=serde) as saver:
        face = Face(saver, loop)
        config = face.put(thread(), checkpoint(messages=messages()[:1], text="a text", numbers=[1, 2], few=[SECRET]))
        writes: list[Any] = [("text", "another"), ("numbers", [3]), ("nothing", None)]
        face.put_writes(config, writes, "task")
        seen = "\n".join(serde.seen)
        for part in ("Answer in one line.", "a text", "1", SECRET, "another", "3", "null", '"ts"'):
            assert part in seen
        found = face.get_tuple(config)
        assert found is not None
        assert found.checkpoint["channel_values"]["numbers"] == [1, 2]
        assert found.pending_writes == [("task", *write) for write in writes]


def test_objects_by_pickle(shared: str, open_face: Opener) -> None:
    """Objects that only pickle can say come back with `pickle_fallback`, alone, in lists and in writes."""
    serde = JsonPlusSerializer(pickle_fallback=True)
    face = open_face(shared, serde=serde)
    config = face.put(thread(), checkpoint(one=Opaque(), some=[Opaque(), 1, Opaque()], inside={"a": [Opaque()]}))
    face.put_writes(config, [("one", Opaque()), ("some", [Opaque()])], "task")
    for other in (face, open_face(shared, serde=JsonPlusSerializer(pickle_fallback=True))):
        found = other.get_tuple(config)
        assert found is not None
        given = found.checkpoint["channel_values"]
        assert type(given["one"]) is type(given["some"][2]) is type(given["inside"]["a"][0]) is Opaque
        assert [type(write[2]) for write in found.pending_writes or ()] == [Opaque, list]
    with pytest.raises(CorruptDataError, match="one"):
        open_face(shared).get_tuple(config)


# -- encryption --------------------------------------------------------------------------------------------------


def stored_bytes(path: str) -> bytes:
    """The database with its write-ahead log."""
    parts = [*Path(path).parent.glob(Path(path).name + "*"), *Path(path).rglob("*")]
    return b"".join(part.read_bytes() for part in sorted(parts) if part.is_file())


def digests(path: str) -> list[bytes]:
    with closing(sqlite3.connect(path)) as connection:
        return [bytes(row[0]) for row in connection.execute("SELECT digest FROM durable_chunks ORDER BY key")]


def secretly(face: Face) -> None:
    """A thread that has a secret in every kind of place that a value can be in."""
    config = face.put(
        thread(),
        checkpoint(
            messages=[HumanMessage(SECRET, id="1"), AIMessage(SECRET * 100, id="2")],
            text=SECRET,
            long=SECRET * 100,
            small=[SECRET, 1],
            nested={"deep": [SECRET]},
        ),
    )
    face.put_writes(config, [("messages", HumanMessage(SECRET, id="3")), ("text", SECRET), ("small", [SECRET])], "task")
    face.put(config, checkpoint(messages=[HumanMessage(f"again: {SECRET}", id="1")], text=SECRET))


def test_nothing_in_plain(shared: str, tmp_path: Path, open_face: Opener) -> None:
    """With an encrypting serializer no value is in the file in plain, and without one it is."""
    face = open_face(shared, serde=encrypting())
    secretly(face)
    assert SECRET.encode() not in stored_bytes(shared)
    face.saver.close()
    assert SECRET.encode() not in stored_bytes(shared)
    plain = str(tmp_path / "plain.db")
    secretly(open_face(plain))
    assert SECRET.encode() in stored_bytes(plain)


def test_digests_tell_nothing(path: str, tmp_path: Path, open_face: Opener) -> None:
    """Who holds the file cannot try out contents: names of values are not their hashes, nor those of another file."""
    inner = JsonPlusSerializer()
    open_ones, others = str(tmp_path / "open.db"), str(tmp_path / "others.db")
    secretly(open_face(open_ones, serde=inner))
    for name in (path, others):
        secretly(open_face(name, serde=EncryptedSerializer.from_pycryptodome_aes(inner, key=KEY)))
    known = digests(open_ones)
    assert len(known) == len(digests(path)) == len(digests(others)) > 5
    assert not set(known) & set(digests(path))
    assert not set(digests(others)) & set(digests(path))
    everything = stored_bytes(path)
    assert not [digest for digest in known if digest in everything]


def test_another_key(shared: str, open_face: Opener) -> None:
    """A database cannot be read or written with another key, or without one; with its own it is as it was."""
    face = open_face(shared, serde=encrypting())
    config = face.put(thread(), checkpoint(**values()))
    other = open_face(shared, serde=encrypting(b"fedcba9876543210"))
    with pytest.raises(OpenError, match="key"):
        other.get_tuple(thread())
    with pytest.raises(OpenError, match="key"):
        other.put(config, checkpoint(a=1))
    with pytest.raises(CorruptDataError, match="encrypted"):
        open_face(shared).get_tuple(thread())
    assert form(open_face(shared, serde=encrypting()).values(thread())) == form(face.values(thread()))


def test_a_database_becomes_encrypted(shared: str, open_face: Opener) -> None:
    """A thread that was stored in plain goes on with encryption: the old can be read, the new is not in plain."""
    config = open_face(shared).put(thread(), checkpoint(messages=[HumanMessage("in plain " * 10, id="1")]))
    face = open_face(shared, serde=encrypting())
    said = face.messages(thread())
    face.put(config, checkpoint(messages=[*said, HumanMessage(SECRET, id="2")]))
    assert [message.content for message in face.messages(thread())] == ["in plain " * 10, SECRET]
    assert SECRET.encode() not in stored_bytes(shared)


# -- copies of a saver -------------------------------------------------------------------------------------------


def test_a_shallow_copy_is_the_same_saver(face: Face) -> None:
    """`copy.copy(saver)` stores to the same database, in both directions, and closes with it."""
    other = face.other(copy.copy(face.saver))
    config = face.put(thread(), checkpoint(messages=messages()))
    assert form(other.messages(thread())) == form(messages())
    other.put_writes(config, [("messages", [])], "task")
    second = other.put(config, checkpoint(messages=messages()[:2]))
    assert [found.config for found in face.list(None)] == [second, config]
    assert face.list(None)[1].pending_writes == [("task", "messages", [])]
    other.call("delete_thread", "thread")
    assert face.list(None) == []


def test_copies_with_serializers_of_their_own(place: str, loop: Any) -> None:
    """Two copies of one saver may have different serializers, each knows what it can read, and nobody mixes them up."""
    with saver_at(place) as saver:
        plain = Face(saver, loop)
        lenient = copy.copy(saver)
        lenient.serde = JsonPlusSerializer(allowed_msgpack_modules=[("tests.samples", "Point")])
        strict = copy.copy(saver)
        strict.serde = JsonPlusSerializer(allowed_msgpack_modules=None)
        config = plain.put(thread(), checkpoint(point=Point(1, [2]), many=[Point(3), 4]))
        for _ in range(2):
            assert plain.other(lenient).values(config) == {"point": Point(1, [2]), "many": [Point(3), 4]}
            assert plain.other(strict).values(config) == {
                "point": {"x": 1, "y": [2]},
                "many": [{"x": 3, "y": None}, 4],
            }


def test_an_allowlist(place: str, loop: Any) -> None:
    """`with_allowlist` gives a saver that makes objects of the classes named, over the same database."""
    with saver_at(place, serde=JsonPlusSerializer(allowed_msgpack_modules=None)) as saver:
        face = Face(saver, loop)
        config = face.put(thread(), checkpoint(point=Point(1), many=[Point(2)], messages=messages()))
        face.put_writes(config, [("point", Point(3))], "task")
        allowing = saver.with_allowlist([("tests.samples", "Point")])
        assert type(allowing) is type(saver)
        assert allowing is not saver
        found = face.other(allowing).get_tuple(config)
        blocked = face.get_tuple(config)
        assert found is not None
        assert blocked is not None
        assert found.checkpoint["channel_values"]["point"] == Point(1)
        assert found.checkpoint["channel_values"]["many"] == [Point(2)]
        assert found.pending_writes == [("task", "point", Point(3))]
        assert blocked.checkpoint["channel_values"]["point"] == {"x": 1, "y": None}
        assert form(blocked.checkpoint["channel_values"]["messages"]) == form(messages())
        second = face.other(allowing).put(config, checkpoint(point=Point(4)))
        assert face.list(None)[0].config == second


STRICT = """
import dataclasses, json, logging, sqlite3, sys, warnings
warnings.simplefilter("ignore")
logging.basicConfig(stream=sys.stdout, format="%(name)s %(levelname)s %(message)s")
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langgraph.checkpoint.sqlite import SqliteSaver as Official
from langgraph.graph import START, MessagesState, StateGraph
from langgraph_durable import SqliteSaver
from tests.samples import Point, messages

class State(MessagesState):
    point: Point

def say(state):
    return {"messages": [AIMessage("b", id="2", tool_calls=[{"name": "n", "args": {"a": 1}, "id": "c"}])]}

ours = sys.argv[1] == "ours"
saver = SqliteSaver(":memory:") if ours else Official(sqlite3.connect(":memory:", check_same_thread=False))
graph = StateGraph(State).add_node("say", say).add_edge(START, "say").compile(checkpointer=saver)
config = {"configurable": {"thread_id": "t", "checkpoint_ns": ""}}
graph.invoke({"messages": [HumanMessage("a", id="1"), *messages()], "point": Point(1, [2])}, config)
print(graph.get_state(config).values)
print([state.values for state in graph.get_state_history(config)])
# Another class, of which no schema speaks, through the saver itself.
place = saver.put(config, {**saver.get_tuple(config).checkpoint, "id": "x", "channel_values": {
    "point": Point(3), "points": [Point(4), Point(5)], "messages": messages()}}, {"source": "update", "step": 9}, {})
saver.put_writes(place, [("point", Point(6))], "task")
found = saver.get_tuple(place)
print(found.checkpoint["channel_values"], found.pending_writes)
print([each.checkpoint["channel_values"] for each in saver.list(config, limit=1)])
"""


def strictly(whose: str) -> list[str]:
    """What the script above prints with LANGGRAPH_STRICT_MSGPACK set."""
    root = str(Path(langgraph_durable.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", STRICT, whose],
        capture_output=True,
        encoding="utf-8",
        check=False,
        cwd=root,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": root, "LANGGRAPH_STRICT_MSGPACK": "true"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_strict_msgpack() -> None:
    """In a process with LANGGRAPH_STRICT_MSGPACK, values and warnings are those of the official saver."""
    ours = strictly("ours")
    assert ours == strictly("official")
    assert [line for line in ours if "WARNING Blocked deserialization of tests.samples.Point" in line]
    assert "point': Point(x=1, y=[2])" in ours[0]


def test_a_graph_takes_an_allowlist(place: str, loop: Any) -> None:
    """A graph whose saver was given an allowlist runs, is interrupted and resumed on it."""
    with saver_at(place, serde=JsonPlusSerializer(allowed_msgpack_modules=None)) as saver:

        class Pointed(MessagesState):
            point: Point

        def move(state: Pointed) -> dict[str, Any]:
            return {"point": Point(state["point"].x + 1)}

        builder = StateGraph(Pointed).add_node(move).add_edge(START, "move")
        graph = builder.compile(
            checkpointer=saver.with_allowlist([("tests.samples", "Point")]), interrupt_before=["move"]
        )
        running = Running(graph, loop, "sync")
        running.invoke({"messages": [], "point": Point(1)})
        assert running.state().values["point"] == Point(1)
        assert running.invoke(None)["point"] == Point(2)
