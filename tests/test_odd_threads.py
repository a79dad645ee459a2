"""Threads that are damaged, sealed with another key or odd in other ways do not get in the way of others."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.func import entrypoint, task
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import interrupt

from langgraph_durable import InvalidRequestError, SqliteSaver, ThreadBusyError, durable
from tests.conftest import Face, checkpoint, saver_at, thread
from tests.graphs import Running
from tests.store_contract_standings import taken


class Unspeakable(Exception):
    """It cannot be told what it says."""

    def __str__(self) -> str:
        raise ValueError("no")


def parallel(saver: Any, **nodes: Any) -> Any:
    """A graph of nodes beside each other."""
    builder = StateGraph(MessagesState)
    for name, node in nodes.items():
        builder.add_node(name, node)
        builder.add_edge(START, name)
    return builder.compile(checkpointer=saver)


def fails(error: BaseException) -> Any:
    def node(state: MessagesState) -> Any:
        raise error

    return node


def test_a_failure_that_was_sealed_with_another_key(face: Face, place: str) -> None:
    """It is listed among the others without what it was; what it was stands nowhere in clear text."""
    if place == ":memory:":
        pytest.skip("memory is not opened twice")
    pytest.importorskip("Crypto")
    serde = EncryptedSerializer.from_pycryptodome_aes(key=b"0123456789abcdef")
    with saver_at(place, serde=serde) as sealed:
        with pytest.raises(ValueError, match="secret word"):
            parallel(sealed, a=fails(ValueError("a secret word"))).invoke({"messages": []}, thread("sealed"))
        info = sealed.get_thread("sealed")
        assert info is not None
        assert info.error is not None
        assert info.error.message == "a secret word"
    stored = [file for one in Path(place).parent.rglob("*") if one.is_file() for file in [one.read_bytes()]]
    assert b"sealed" in b"".join(stored)
    assert not any(b"secret word" in file for file in stored)
    Running(parallel(face.saver, a=lambda state: {}), face.loop, thread_id="plain").invoke({"messages": []})
    listed = {one.thread_id: one for one in face.call("list_threads")}
    assert listed.keys() == {"sealed", "plain"}
    assert listed["sealed"].status == "error"
    assert listed["sealed"].error is not None
    assert "cannot be read" in listed["sealed"].error.message


def test_a_row_that_sums_up_and_is_damaged(path: str) -> None:
    """It is read instead, written anew with the next step, and in nobody's way."""
    with SqliteSaver(path) as saver:
        graph = parallel(saver, a=lambda state: {"messages": [("ai", "a")]})
        graph.invoke({"messages": []}, thread("a"))
        graph.invoke({"messages": []}, thread("b"))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE durable_standings SET about = x'00'")
    with SqliteSaver(path) as saver:
        assert {one.status for one in saver.list_threads()} == {"idle"}
        graph = parallel(saver, a=lambda state: {"messages": [("ai", "a")]})
        assert len(graph.invoke({"messages": []}, thread("a"))["messages"]) == 2
        info = saver.get_thread("a")
        assert info is not None
        assert (info.status, info.messages) == ("idle", 2)


def test_an_official_checkpoint_that_cannot_be_read(path: str) -> None:
    """A thread that nothing is written down of and that cannot be read is told as such, beside the others."""
    official = pytest.importorskip("langgraph.checkpoint.sqlite")
    with official.SqliteSaver.from_conn_string(path) as theirs:
        for name in ("good", "bad"):
            parallel(theirs, a=lambda state: {}).invoke({"messages": []}, thread(name))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE checkpoints SET checkpoint = x'c1' WHERE thread_id = 'bad'")
    with SqliteSaver(path) as saver:
        assert {one.thread_id: (one.status, one.reason) for one in saver.list_threads()} == {
            "good": ("idle", ""),
            "bad": ("error", "unreadable"),
        }


def test_an_exception_that_cannot_be_told(face: Face) -> None:
    """That a node raised it is stored all the same, and so is its status."""
    running = Running(parallel(face.saver, a=fails(Unspeakable())), face.loop)
    with pytest.raises(Unspeakable):
        running.invoke({"messages": []})
    found = face.get_tuple(thread())
    assert found is not None
    assert [channel for _, channel, _ in found.pending_writes or ()] == ["__error__"]
    assert face.call("get_thread", "thread").status == "error"


def test_a_neighbour_that_asks_after_a_failure(face: Face) -> None:
    """The failure of one node is not hidden by another that asks later, neither now nor in the history."""

    def asks(state: MessagesState) -> Any:
        time.sleep(0.1)
        interrupt("?")

    running = Running(parallel(face.saver, a=asks, b=fails(ValueError("boom"))), None)
    with pytest.raises(ValueError, match="boom"):
        running.invoke({"messages": []})
    info = face.call("get_thread", "thread")
    assert (info.status, info.nodes) == ("error", ("b",))
    assert info.error.message == "boom"
    assert len(face.list(None, filter={"status": "error"})) == 1


def test_a_task_whose_failure_was_caught(face: Face) -> None:
    """A function that catches what its task raised has not failed."""

    @task
    def risky() -> None:
        raise ValueError("caught")

    @entrypoint(checkpointer=face.saver)
    def flow(number: int) -> str:
        with suppress(ValueError):
            risky().result()
        info = face.saver.get_thread("thread")
        return info.status if info is not None else "none"

    # Its first checkpoint may still be on its way.
    assert flow.invoke(1, thread()) in ("busy", "none")
    assert face.call("get_thread", "thread").status == "idle"
    assert face.list(None, filter={"status": "error"}) == []


def test_a_checkpoint_that_lacks_what_others_have(face: Face) -> None:
    """It is stored as it is, though nothing follows from it."""
    sparse: Any = {key: value for key, value in checkpoint().items() if key not in ("channel_versions",)}
    sparse["versions_seen"] = None
    face.put(thread(), sparse, new_versions={})
    assert face.get_tuple(thread()) is not None
    assert face.call("get_thread", "thread").status == "idle"


def test_a_copy_to_a_thread_that_is_held(face: Face) -> None:
    """Who holds a thread that is still empty is not surprised by a copy in it."""
    face.put(thread("source"), checkpoint())
    holder = '{"by": "elsewhere/1/1/1/1", "owner": "somebody", "since": 1.0, "expires": 4e9}'
    taken(face.saver._engine.store, "target", holder)
    with pytest.raises(ThreadBusyError, match="somebody"):
        face.call("copy_thread", "source", "target")
    assert face.get_tuple(thread("target")) is None


def test_numbers_that_nothing_can_be_done_with(face: Face) -> None:
    """They are refused with a word about them."""
    for name, arguments in (
        ("list_threads", {"limit": 2**70}),
        ("list_threads", {"cursor": 123}),
        ("list_threads", {"cursor": "WyJ4IiwgMSwgMV0="}),
        ("checkpoint_before", {"thread_id": "t", "node": "n", "occurrence": 2**70}),
    ):
        with pytest.raises(InvalidRequestError):
            face.call(name, **arguments)


def test_a_state_that_was_repaired_by_hand(face: Face) -> None:
    """After a router raised, an update of the state after which nothing is next leaves the thread idle."""

    def lost(state: MessagesState) -> str:
        raise ValueError("where to?")

    builder = StateGraph(MessagesState)
    builder.add_node("a", lambda state: {"messages": [("ai", "a")]})
    builder.add_node("b", lambda state: {"messages": [("ai", "b")]})
    builder.add_edge(START, "a")
    builder.add_conditional_edges("a", lost, ["b"])
    running = Running(builder.compile(checkpointer=face.saver), face.loop)
    with pytest.raises(ValueError, match="where"):
        running.invoke({"messages": []})
    assert face.call("get_thread", "thread").reason == "router"
    running.update({"messages": [("ai", "instead")]}, as_node="b")
    assert face.call("get_thread", "thread").status == "idle"


def test_a_durable_graph_of_functions(face: Face) -> None:
    """A graph that is made of functions can be durable as well."""

    @entrypoint(checkpointer=face.saver)
    def flow(number: int) -> int:
        return number + int(interrupt("how much?"))

    app = durable(flow)
    app.invoke(1, thread())
    assert face.saver.get_thread("thread").status == "interrupted"  # type: ignore[union-attr]  # it is there
    assert app.resume("thread", resume=2) == 3
