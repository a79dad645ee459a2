"""Stored bytes that were changed or lost behind this package's back: an error says where, the rest is untouched."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from typing import Any, NamedTuple

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import CheckpointTuple

from langgraph_durable import CorruptDataError, DurableError, SqliteSaver
from tests.conftest import Face, checkpoint, thread

VICTIM = "2"
"""The checkpoint of `stored` that is damaged."""


def words(name: str) -> str:
    """Some text that is found again in the stored bytes."""
    return f"these are the words of {name}, " * 5


def stored(path: str) -> None:
    """Three checkpoints on each other with what only they have, and writes."""
    with SqliteSaver(path) as saver:
        for name in ("thread", "neighbour"):
            saved = thread(name)
            for number in ("1", "2", "3"):
                values = {
                    "messages": [HumanMessage(words("all"), id="0"), AIMessage(words(f"list {number}"), id=number)],
                    "single": words(f"single {number}"),
                    "numbers": [int(number), 2, 3],
                }
                # What JSON would not give back is stored beside the metadata's JSON.
                metadata: Any = {"source": "loop", "step": int(number), "parents": {}, "pair": (1, float("inf"))}
                saved = saver.put(saved, checkpoint(number, **values), metadata, {})
                saver.put_writes(saved, [("messages", [words(f"write {number}")])], "task")


def config(checkpoint_id: str, thread_id: str = "thread") -> RunnableConfig:
    return thread(thread_id, checkpoint_id=checkpoint_id)


THREAD = "(SELECT key FROM durable_threads WHERE id = 'thread')"
ROW = f"""id = '{VICTIM}' AND namespace IN (SELECT key FROM durable_namespaces WHERE thread = {THREAD})"""
WRITES = f"checkpoint {ROW.removeprefix('id ')}"


class Damage(NamedTuple):
    """What is done to the tables, and the channel that the error is to name (None: the checkpoint itself)."""

    sql: str
    channel: str | None


def chunk(what: str) -> str:
    """The chunks of the thread in which these words are."""
    return f"thread = {THREAD} AND instr(data, CAST('{words(what)}' AS BLOB))"


DAMAGES = {
    "byte of a message": Damage(
        f"""UPDATE durable_chunks SET data = CAST(substr(data, 1, 40) || x'00' || substr(data, 42) AS BLOB)
        WHERE {chunk("list 2")}""",
        "messages",
    ),
    "message cut": Damage(f"UPDATE durable_chunks SET data = substr(data, 1, 30) WHERE {chunk('list 2')}", "messages"),
    "message gone": Damage(f"DELETE FROM durable_chunks WHERE {chunk('list 2')}", "messages"),
    "message of another kind": Damage(f"UPDATE durable_chunks SET kind = '?' WHERE {chunk('list 2')}", "messages"),
    "message of a wrong kind": Damage(f"UPDATE durable_chunks SET kind = 'z' WHERE {chunk('list 2')}", "messages"),
    "message exchanged": Damage(
        f"""UPDATE durable_chunks SET data = (SELECT data FROM durable_chunks WHERE {chunk("list 3")})
        WHERE {chunk("list 2")}""",
        "messages",
    ),
    "element gone": Damage(
        f"DELETE FROM durable_elements WHERE chunk IN (SELECT key FROM durable_chunks WHERE {chunk('list 2')})",
        "messages",
    ),
    "single cut": Damage(f"UPDATE durable_chunks SET data = x'' WHERE {chunk('single 2')}", "single"),
    "single gone": Damage(f"DELETE FROM durable_chunks WHERE {chunk('single 2')}", "single"),
    "head cut": Damage(f"UPDATE durable_checkpoints SET head = substr(head, 1, 20) WHERE {ROW}", None),
    "head garbage": Damage(f"UPDATE durable_checkpoints SET head = x'c1c1c1c1' WHERE {ROW}", None),
    "head of another kind": Damage(f"UPDATE durable_checkpoints SET head_kind = 'what' WHERE {ROW}", None),
    "parts cut": Damage(f"UPDATE durable_checkpoints SET parts = substr(parts, 1, 5) WHERE {ROW}", None),
    "parts garbage": Damage(f"UPDATE durable_checkpoints SET parts = x'c1c1' WHERE {ROW}", None),
    "parts gone": Damage(f"UPDATE durable_checkpoints SET parts = x'' WHERE {ROW}", None),
    "fewer parts": Damage(f"UPDATE durable_checkpoints SET parts = x'90' WHERE {ROW}", None),
    "metadata cut": Damage(
        f"UPDATE durable_checkpoints SET metadata = '{{\"source\":', exact_kind = NULL, exact = NULL WHERE {ROW}", None
    ),
    "exact metadata cut": Damage(f"UPDATE durable_checkpoints SET exact = substr(exact, 1, 9) WHERE {ROW}", None),
    "write gone": Damage(f"DELETE FROM durable_chunks WHERE {chunk('write 2')}", "messages"),
    "write cut": Damage(f"UPDATE durable_chunks SET data = substr(data, 1, 9) WHERE {chunk('write 2')}", "messages"),
    "writes garbage": Damage(f"UPDATE durable_writes SET entries = x'93c1' WHERE {WRITES}", None),
}


@pytest.fixture(params=DAMAGES)
def damage(request: pytest.FixtureRequest, path: str) -> Damage:
    """A database in which the checkpoint `VICTIM` of one thread is damaged."""
    stored(path)
    found = DAMAGES[request.param]
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute(found.sql).rowcount == 1
        connection.commit()
    return found


def tells(error: CorruptDataError, damage: Damage) -> None:
    """The error says where the damage is, and what to do."""
    assert (error.thread_id, error.checkpoint_id) == ("thread", VICTIM)
    if damage.channel is not None:
        assert error.channel is not None
        assert error.channel.split(" ")[0] == damage.channel
        assert repr(damage.channel)[:-1] in str(error)
    assert "backup" in str(error)
    assert repr(VICTIM) in str(error)


def test_a_damaged_checkpoint(damage: Damage, path: str, open_face: Callable[..., Face]) -> None:
    """Reading what is damaged is CorruptDataError with thread, checkpoint and channel; all else reads as before."""
    face = open_face(path)
    with pytest.raises(CorruptDataError) as caught:
        face.get_tuple(config(VICTIM))
    tells(caught.value, damage)
    for name, number in [("thread", "1"), ("thread", "3"), ("neighbour", "1"), ("neighbour", "2"), ("neighbour", "3")]:
        found = face.get_tuple(config(number, name))
        assert found is not None
        assert found.checkpoint["channel_values"]["messages"][1].content == words(f"list {number}")
        assert found.checkpoint["channel_values"]["single"] == words(f"single {number}")
        assert found.pending_writes == [("task", "messages", [words(f"write {number}")])]
        assert found.metadata["step"] == int(number)


def walked(face: Face, given: RunnableConfig | None, **kwargs: Any) -> Iterator[CheckpointTuple]:
    """A listing, one checkpoint at a time, in the face's form."""
    if face.loop is None:
        yield from face.saver.list(given, **kwargs)
        return
    listing = face.saver.alist(given, **kwargs)

    async def following() -> CheckpointTuple | None:
        return await anext(listing, None)

    while (found := face.run(following())) is not None:
        yield found


def test_a_listing_with_a_damaged_checkpoint(damage: Damage, path: str, open_face: Callable[..., Face]) -> None:
    """A listing gives what is newer than the damage, says where it is, and can be gone on with behind it."""
    face = open_face(path)
    seen = []
    with pytest.raises(CorruptDataError) as caught:  # noqa: PT012  what comes before the error counts
        for found in walked(face, thread()):
            seen.append(found.checkpoint["id"])
    tells(caught.value, damage)
    assert seen == ["3"]
    behind = [found.checkpoint["id"] for found in face.list(thread(), before=config(caught.value.checkpoint_id))]
    assert behind == ["1"]
    assert [found.checkpoint["id"] for found in face.list(thread("neighbour"))] == ["3", "2", "1"]


def test_going_on_beside_the_damage(damage: Damage, path: str, open_face: Callable[..., Face]) -> None:
    """A thread with a damaged checkpoint can be continued from another one."""
    face = open_face(path)
    for number in ("1", "3"):
        values = face.values(config(number))
        values["messages"].append(HumanMessage(words("new"), id="new"))
        saved = face.put(config(number), checkpoint(f"{number} new", **values))
        face.put_writes(saved, [("messages", [words("new write")])], "task")
        assert face.values(saved) == values


def test_getting_rid_of_the_damage(damage: Damage, path: str, open_face: Callable[..., Face]) -> None:
    """A damaged thread can be deleted; copying and pruning it work, or raise an error of this package."""
    face = open_face(path)
    with suppress(DurableError):
        face.call("copy_thread", "thread", "copy")
    with suppress(DurableError):
        face.call("prune", ["thread"])
    face.call("delete_thread", "thread")
    assert face.list(thread()) == []
    for number in ("1", "2", "3"):
        assert face.values(config(number, "neighbour"))["single"] == words(f"single {number}")


def test_a_filter_that_meets_the_damage(damage: Damage, path: str, open_face: Callable[..., Face]) -> None:
    """A listing by metadata finds what it asks for, or says where the damage is."""
    face = open_face(path)
    try:
        found = [one.checkpoint["id"] for one in face.list(thread(), filter={"step": 1})]
    except CorruptDataError as error:
        tells(error, damage)
    else:
        assert found == ["1"]


def test_chunks_that_vanish_meanwhile(path: str, open_face: Callable[..., Face]) -> None:
    """When chunks that a saver has stored are gone, what it puts next is refused as a whole, or stored as a whole."""
    stored(path)
    face = open_face(path)
    saved = config("3")
    value = [words("write 3"), words("brand new")]
    face.put_writes(saved, [("messages", value), ("single", words("brand new too"))], "another task")
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("DELETE FROM durable_chunks WHERE instr(data, 'brand new')").rowcount == 2
        connection.commit()
    try:
        saved = face.put(saved, checkpoint("4", messages=value, single=words("brand new too")))
    except DurableError:
        assert face.get_tuple(config("4")) is None
    else:
        assert face.values(saved) == {"messages": value, "single": words("brand new too")}
    assert face.values(face.put(config("1"), checkpoint("5", a=words("5")))) == {"a": words("5")}


def test_damage_that_a_saver_has_read_before(path: str, open_face: Callable[..., Face]) -> None:
    """A saver that remembers a damaged checkpoint gives what was stored, or says that it is damaged; nothing else."""
    for name, (sql, _) in DAMAGES.items():
        where = f"{path}.{name.replace(' ', '_')}"
        stored(where)
        face = open_face(where)
        before = {number: face.get_tuple(config(number)) for number in ("1", "3", VICTIM)}
        with closing(sqlite3.connect(where)) as connection:
            connection.execute(sql)
            connection.commit()
        for number in ("1", "3"):
            assert face.get_tuple(config(number)) == before[number]
        with suppress(CorruptDataError):
            assert face.get_tuple(config(VICTIM)) == before[VICTIM], name
        face.saver.close()
