"""What a thread ran with is stored once, told with every checkpoint, and never among the values of a state."""

from __future__ import annotations

import copy as copying
import json
import pickle
import random
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.graph import START, MessagesState, StateGraph

from langgraph_durable import CorruptDataError, FileSaver, InvalidRequestError, SqliteSaver, copy
from langgraph_durable.core.environments import RECORD, RECORD_HASH, HashOf
from langgraph_durable.core.recordings import Recorded, recorded
from langgraph_durable.saver import DurableSaver
from tests.conftest import Face, checkpoint, saver_at, thread
from tests.graphs import Running

FIRST = HashOf("a" * 32, json.dumps({"tools": "first " * 500 + random.Random(7).randbytes(20_000).hex()}))
SECOND = HashOf("b" * 32, json.dumps({"tools": "second " * 500}))


def of(hashed: HashOf) -> Any:
    """What a hash is of."""
    return json.loads(hashed.record)


def graph(saver: Any, **metadata: Any) -> Any:
    """A graph of two nodes that runs with these metadata."""
    builder = StateGraph(MessagesState)
    builder.add_node("a", lambda state: {"messages": [AIMessage("a")]})
    builder.add_node("b", lambda state: {"messages": [AIMessage("b")]})
    builder.add_edge(START, "a")
    builder.add_edge("a", "b")
    return builder.compile(checkpointer=saver).with_config(metadata=metadata)


def ran(face: Face, *hashes: str | None, thread_id: str = "thread") -> None:
    """A run for each hash."""
    for one in hashes:
        given = {} if one is None else {RECORD_HASH: one}
        Running(graph(face.saver, **given), face.loop, thread_id=thread_id).invoke({"messages": [("user", "hi")]})


def told(saver: DurableSaver, thread_id: str = "thread", checkpoint_id: str | None = None) -> Recorded | None:
    """What was recorded last."""
    return saver._do(recorded, thread_id, checkpoint_id)


def changes(saver: DurableSaver, thread_id: str = "thread") -> list[tuple[str, Any]]:
    """The hashes and records of a thread, whenever they changed."""
    return [(one.metadata[RECORD_HASH], one.record) for one in saver.environments(thread_id)]


def test_a_record_comes_back(face: Face) -> None:
    """A record is found by its thread, the state and the metadata have nothing of it but the hash."""
    ran(face, FIRST)
    found = told(face.saver)
    assert found is not None
    assert found.record == of(FIRST)
    assert found.step == 2
    assert found.time is not None
    for one in face.list(thread()):
        assert RECORD not in one.checkpoint["channel_values"]
        (said,) = [value for key, value in one.metadata.items() if key == RECORD_HASH]
        assert (said, type(said)) == (str(FIRST), str)
    assert face.saver.check().damage == ()


def test_every_change_is_told(face: Face, place: str) -> None:
    """A thread that ran with one thing, another and the first again has three entries, and each record once."""
    ran(face, None, FIRST, SECOND, SECOND, FIRST)
    assert changes(face.saver) == [(one, of(one)) for one in (FIRST, SECOND, FIRST)]
    if place != ":memory:":
        stored = b"".join(one.read_bytes() for one in Path(place).parent.rglob("*") if one.is_file())
        if Path(place).is_dir():
            assert stored.count(b"second second second") == len(b"second " * 500) // 21


def test_what_was_recorded_before_counts(face: Face) -> None:
    """Where a run did not say what it ran with, what the one before it said is what is known."""
    ran(face, FIRST, None)
    found = told(face.saver)
    assert found is not None
    assert found.record == of(FIRST)
    assert told(face.saver, "nobody") is None
    ran(face, None, thread_id="other")
    assert told(face.saver, "other") is None
    assert changes(face.saver, "other") == []


def test_a_hash_alone(face: Face) -> None:
    """A hash whose record nobody brought is told without one, and one that is known already with it."""
    ran(face, FIRST, str(FIRST), str(SECOND))
    assert changes(face.saver) == [(FIRST, of(FIRST)), (SECOND, None)]


def test_a_new_process_goes_on(place: str, open_face: Callable[..., Face]) -> None:
    """A record that another saver stored is named by what is put after it, and not stored again."""
    if place == ":memory:":
        pytest.skip("memory is not opened twice")
    for _ in range(4):
        face = open_face(place)
        ran(face, HashOf(str(FIRST), FIRST.record))
    assert changes(open_face(place).saver) == [(FIRST, of(FIRST))]
    before = stored_bytes(place)
    ran(open_face(place), HashOf(str(FIRST), FIRST.record))
    assert 0 < stored_bytes(place) - before < 10_000  # half of what the record takes where it is compressed


def stored_bytes(place: str) -> int:
    with saver_at(place) as saver:
        found = saver.get_thread("thread")
        assert found is not None
        return found.bytes


def test_each_checkpoint_costs_little(place: str, open_face: Callable[..., Face]) -> None:
    """A checkpoint that was made under a fingerprint has less than 200 bytes more than one without."""
    metadata = {"tool_schema_hash": "0" * 16, "graph_hash": "0" * 16, "model": "anthropic:claude-sonnet-4-5-20250929"}
    sizes = []
    for name, given in (("without", {}), ("with", {RECORD_HASH: FIRST, **metadata})):
        face = open_face(place)
        config = thread(name)
        for number in range(20):
            before = face.call("get_thread", name)
            config = face.put({**config, "metadata": given}, checkpoint(n=number), {"source": "loop", "step": number})
        sizes.append(face.call("get_thread", name).bytes - before.bytes)
    assert 0 < sizes[1] - sizes[0] <= 200


def test_records_are_copied(face: Face, tmp_path: Path) -> None:
    """A copied thread has what was recorded, inside a saver, to another one, and to another engine and back."""
    ran(face, FIRST, SECOND)
    expected = changes(face.saver)
    face.call("copy_thread", "thread", "twin")
    assert changes(face.saver, "twin") == expected
    with SqliteSaver(str(tmp_path / "copy.db")) as there, FileSaver(tmp_path / "copies") as elsewhere:
        copy(face.saver, there, thread_ids=["thread"])
        assert changes(there) == expected
        copy(there, elsewhere)
        assert changes(elsewhere) == expected
        assert told(elsewhere) == told(face.saver)


def test_records_go(face: Face, place: str) -> None:
    """What was recorded stays while a checkpoint names it, and goes with the last of them."""
    ran(face, FIRST, SECOND)
    face.call("prune", ["thread"])
    assert changes(face.saver) == [(SECOND, of(SECOND))]
    face.call("delete_thread", "thread")
    assert told(face.saver) is None
    face.saver.close()
    if place != ":memory:":
        stored = b"".join(one.read_bytes() for one in Path(place).parent.rglob("*") if one.is_file())
        assert b"second second" not in stored


def test_a_record_is_sealed(tmp_path: Path, loop: Any) -> None:
    """With an encrypting serializer nothing of a record is stored in clear text."""
    pytest.importorskip("Crypto")
    serde = EncryptedSerializer.from_pycryptodome_aes(key=b"0123456789abcdef")
    with FileSaver(tmp_path / "sealed", serde=serde) as saver:
        ran(Face(saver, loop), FIRST)
        assert changes(saver) == [(FIRST, of(FIRST))]
    stored = [one.read_bytes() for one in tmp_path.rglob("*") if one.is_file()]
    assert not any(b"first first" in one for one in stored)


def test_a_record_that_is_damaged(path: str) -> None:
    """The state is read without it; `check` finds it, and who asks for it is told where it is."""
    with SqliteSaver(path) as saver:
        ran(Face(saver, None), FIRST)
    with closing(sqlite3.connect(path)) as connection, connection:
        changed = connection.execute("UPDATE durable_chunks SET kind = '', data = x'01a161' WHERE kind = 'z'").rowcount
        assert changed == 1
    with SqliteSaver(path) as saver:
        found = saver.get_tuple(thread())
        assert found is not None
        assert len(found.checkpoint["channel_values"]["messages"]) == 3
        with pytest.raises(CorruptDataError, match=re.escape(RECORD)):
            told(saver)
        assert RECORD in saver.check().damage[0].trouble


def test_a_channel_of_that_name(face: Face) -> None:
    """A channel that is called as the record is refused, and nothing of it stored."""
    made = checkpoint(n=1)
    made["channel_values"][RECORD] = "the user's"
    with pytest.raises(InvalidRequestError, match="cannot be called"):
        face.put(thread(), made)
    assert face.list(None) == []


def test_a_hash_with_its_record_is_text() -> None:
    """It is equal to the hash, and copies and pickles of it have the record."""
    for one in (copying.copy(FIRST), copying.deepcopy(FIRST), pickle.loads(pickle.dumps(FIRST))):
        assert one == "a" * 32
        assert one.record == FIRST.record
