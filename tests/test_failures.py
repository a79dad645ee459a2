"""A call that fails says so in this package's words, stores nothing, and leaves a saver that works."""

from __future__ import annotations

import asyncio
import pickle
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import aiosqlite
import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from langgraph_durable import (
    BusyError,
    ClosedError,
    CorruptDataError,
    DurableError,
    OpenError,
    SqliteSaver,
    StoreError,
    UnserializableError,
)
from tests.conftest import Face, checkpoint, thread
from tests.faults import BEGINS, COMMITS, EIO, Faults, dump, is_closed


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> Faults:
    """Faults for every connection that is opened in the test."""
    made = Faults()
    made.install(monkeypatch)
    return made


def ids(face: Face, thread_id: str = "thread") -> list[str]:
    """The checkpoints of a thread, newest first."""
    return [found.checkpoint["id"] for found in face.list(thread(thread_id))]


def works(face: Face) -> None:
    """Put and read back something new."""
    saved = face.put(thread("another"), checkpoint(messages=[HumanMessage("still here")]))
    face.put_writes(saved, [("messages", [AIMessage("so am I")])], "task")
    found = face.get_tuple(saved)
    assert found is not None
    assert found.checkpoint["channel_values"] == {"messages": [HumanMessage("still here")]}
    assert found.pending_writes == [("task", "messages", [AIMessage("so am I")])]


CALLS: dict[str, Callable[[Face, RunnableConfig], Any]] = {
    "put": lambda face, saved: face.put(saved, checkpoint("2", messages=["one", "two" * 100], count=7)),
    "put_writes": lambda face, saved: face.put_writes(saved, [("messages", ["x" * 100, "y" * 200])], "later"),
    "delete_thread": lambda face, saved: face.call("delete_thread", "thread"),
    "copy_thread": lambda face, saved: face.call("copy_thread", "thread", "copy"),
    "prune": lambda face, saved: face.call("prune", ["thread"], strategy="delete"),
    "delete_for_runs": lambda face, saved: face.call("delete_for_runs", ["run"]),
}
"""Everything that writes."""


def prepared(face: Face) -> RunnableConfig:
    """A thread with one checkpoint and one write."""
    saved = face.put(thread(), checkpoint("1", messages=["one" * 40]), {"source": "loop", "step": 1, "run_id": "run"})
    face.put_writes(saved, [("messages", ["a write" * 20])], "earlier")
    return saved


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("word", [BEGINS, COMMITS], ids=["begin", "commit"])
def test_a_failed_commit_stores_nothing(
    name: str, word: tuple[str, ...], database: str, faults: Faults, open_face: Callable[..., Face]
) -> None:
    """Each call that writes raises StoreError from SQLite's error when its commit fails, and changes nothing."""
    face = open_face(database)
    saved = prepared(face)
    before = face.list(None)
    faults.arm(word)
    with pytest.raises(StoreError, match="disk I/O error") as caught:
        CALLS[name](face, saved)
    assert faults.disarm()
    assert isinstance(caught.value.__cause__, sqlite3.OperationalError)
    assert face.list(None) == before
    works(face)
    CALLS[name](face, saved)
    assert face.list(thread()) != before or name == "copy_thread"


@pytest.mark.parametrize("name", CALLS)
def test_any_statement_may_fail(name: str, path: str, faults: Faults, open_face: Callable[..., Face]) -> None:
    """Whichever statement of a call the disk refuses, the call is stored whole when it returns, and not at all else."""
    face = open_face(path)
    saved = prepared(face)
    before = dump(path)
    for nth in range(1, 200):
        faults.arm(nth=nth)
        try:
            CALLS[name](face, saved)
        except StoreError:
            assert faults.disarm()
            assert dump(path) == before
        else:
            # What fails after the commit is what gives room back, and that may be left for another time.
            faults.disarm()
            assert dump(path) != before
            break
    else:
        raise AssertionError("the call never got through")
    assert nth > 2
    works(face)


@pytest.mark.parametrize("error", [EIO, KeyboardInterrupt()], ids=lambda error: type(error).__name__)
def test_one_statement_that_fails_once(
    error: BaseException, database: str, faults: Faults, open_face: Callable[..., Face]
) -> None:
    """A disk error or Ctrl-C at any one statement, those that open a connection included, does nobody else any harm."""
    face = open_face(database)
    if face.loop is not None and isinstance(error, KeyboardInterrupt):
        pytest.skip("Python interrupts the main thread only, and there it does not strike a statement")
    passed = 0
    for nth in range(1, 300):
        root = face.put(thread(f"{nth}"), checkpoint("root", messages=["m" * 100]))
        if database != ":memory:":
            faults.arm(COMMITS)
            with pytest.raises(StoreError):
                face.put(thread("never"), checkpoint("never"))
            # From here on there is no connection.
        faults.arm(nth=nth, once=True, error=error)
        try:
            face.put_writes(root, [("messages", ["w" * 100])], "first")
            face.put(root, checkpoint("next", messages=["m" * 100, "n" * 100]))
        except (StoreError, KeyboardInterrupt):
            faults.disarm()
        else:
            passed += not faults.disarm()
        saved, messages = root, ["m" * 100]
        for number in range(3):
            face.put_writes(saved, [("messages", [f"{number} written " * 10])], "after")
            found = face.get_tuple(saved)
            assert found is not None, f"at statement {nth}"
            written = ("after", "messages", [f"{number} written " * 10])
            assert written in (found.pending_writes or []), f"at statement {nth}"
            messages = [*messages, f"{number} put " * 20]
            saved = face.put(saved, checkpoint(f"after {number}", messages=messages))
            assert face.values(saved) == {"messages": messages}, f"at statement {nth}"
        assert face.list(thread("never")) == []
        if passed:
            break
    assert passed
    assert nth > 2


def test_an_interrupt_while_another_process_writes(path: str, faults: Faults) -> None:
    """Ctrl-C that is raised once a transaction has begun ends it; what is put afterwards is there for others."""
    with SqliteSaver(path) as saver:
        faults.arm("BEGIN", done_first=True, once=True, error=KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            saver.put(thread("new"), checkpoint("1"), {}, {})
        assert faults.disarm()
        for name in ("new", "other"):
            saver.put(thread(name), checkpoint("2"), {}, {})
        with closing(sqlite3.connect(path, timeout=0)) as other:
            other.execute("BEGIN IMMEDIATE")
            found = other.execute("SELECT id FROM durable_checkpoints WHERE id = '2'").fetchall()
            assert found == [("2",), ("2",)]


def test_a_failed_commit_is_not_asked_again(path: str, faults: Faults, open_face: Callable[..., Face]) -> None:
    """The connection whose commit failed is closed, and the next call has another."""
    face = open_face(path)
    saved = prepared(face)
    faults.arm(COMMITS)
    with pytest.raises(StoreError):
        face.put(saved, checkpoint("2"))
    assert faults.disarm()
    assert [is_closed(connection) for connection in faults.failed] == [True]
    opened = len(faults.opened)
    face.put(saved, checkpoint("3"))
    assert len(faults.opened) > opened
    assert ids(face) == ["3", "1"]


def test_a_commit_that_may_have_happened(path: str, faults: Faults, open_face: Callable[..., Face]) -> None:
    """After a commit that reached the disk and was reported as failed all reads well, and the call can be repeated."""
    face = open_face(path)
    saved = prepared(face)
    second = checkpoint("2", messages=["one" * 40, "two"])
    faults.arm(COMMITS, done_first=True)
    with pytest.raises(StoreError):
        face.put(saved, second)
    assert faults.disarm()
    again = face.put(saved, second)
    face.put(again, checkpoint("3", messages=["one" * 40, "two", "three"]))
    assert ids(face) == ["3", "2", "1"]
    assert [found.checkpoint["channel_values"]["messages"][1:] for found in face.list(thread())] == [
        ["two", "three"],
        ["two"],
        [],
    ]


def test_no_memory_of_what_was_not_stored(database: str, faults: Faults, open_face: Callable[..., Face]) -> None:
    """What a failed call would have stored is stored by the next one, nothing is taken for being there already."""
    face = open_face(database)
    saved = face.put(thread(), checkpoint(messages=[HumanMessage("one" * 50)]))
    more = [HumanMessage("one" * 50), AIMessage("two" * 50)]
    faults.arm(COMMITS)
    with pytest.raises(StoreError):
        face.put_writes(saved, [("messages", more), ("blob", "b" * 500)], "task")
    with pytest.raises(StoreError):
        face.put(saved, checkpoint(messages=more, blob="b" * 500))
    faults.disarm()
    saved = face.put(saved, checkpoint(messages=more, blob="b" * 500))
    face.saver._engine.memory.clear()
    assert face.values(saved) == {"messages": more, "blob": "b" * 500}


# -- values that cannot be stored ----------------------------------------------------------------------------------


@dataclass
class Holder:
    """Somebody's class."""

    inner: Any


class Opaque:
    """A class that no serializer knows, with slots."""

    __slots__ = ("lock",)

    def __init__(self) -> None:
        self.lock = threading.Lock()


LOCK = threading.Lock()
MISTAKES: dict[str, tuple[Any, str, str]] = {
    "message": (
        [HumanMessage("hi"), AIMessage("", additional_kwargs={"deep": {"er": [1, {"lock": LOCK}]}})],
        "[1].additional_kwargs['deep']['er'][1]['lock']",
        "_thread.lock",
    ),
    "artifact": (
        [ToolMessage("hi", tool_call_id="1"), ToolMessage("hi", tool_call_id="2", artifact=LOCK)],
        "[1].artifact",
        "_thread.lock",
    ),
    "dataclass": (Holder({"here": LOCK}), ".inner['here']", "_thread.lock"),
    "dict": ({"a": {"b": [0, (LOCK,)]}}, "['a']['b'][1][0]", "_thread.lock"),
    "element": ([1, 2, {3: LOCK}], "[2][3]", "_thread.lock"),
    "itself": (LOCK, "", "_thread.lock"),
    "slots": ({"x": Opaque()}, "['x'].lock", "_thread.lock"),
}
"""A value, the way to what is wrong with it, and the type of that."""


@pytest.mark.parametrize("own_serde", [False, True], ids=["", "serde"])
@pytest.mark.parametrize("call", ["put", "put_writes"])
@pytest.mark.parametrize("name", MISTAKES)
def test_an_unserialisable_value(
    name: str, call: str, own_serde: bool, path: str, open_face: Callable[..., Face]
) -> None:
    """UnserializableError names channel, way and type of what cannot be stored, and nothing beside it is stored."""
    face = open_face(path, serde=JsonPlusSerializer() if own_serde else None)
    saved = prepared(face)
    before = dump(path)
    value, way, type_name = MISTAKES[name]
    values = {"first": ["good" * 50], "bad": value, "last": "good" * 50}
    calls: dict[str, Callable[[], Any]] = {
        "put": lambda: face.put(saved, checkpoint("2", **values)),
        "put_writes": lambda: face.put_writes(saved, list(values.items()), "task"),
    }
    with pytest.raises(UnserializableError) as caught:
        calls[call]()
    error = caught.value
    assert (error.channel, error.path, error.type_name) == ("bad", way, type_name)
    assert "'bad'" in str(error)
    assert way in str(error)
    assert type_name in str(error)
    assert isinstance(error, TypeError)
    assert dump(path) == before
    works(face)


def test_unserialisable_metadata(face: Face) -> None:
    """Metadata that cannot be stored is refused as a value is."""
    with pytest.raises(UnserializableError) as caught:
        face.put(thread(), checkpoint(), {"source": "loop", "step": 1, "parents": {}, "odd": {"lock": LOCK}})
    assert (caught.value.path, caught.value.type_name) == ("['odd']['lock']", "_thread.lock")
    assert face.list(None) == []


@pytest.mark.parametrize(
    "error",
    [
        UnserializableError("no", channel="messages", path="[1].x", type_name="_thread.lock"),
        CorruptDataError("no", thread_id="t", checkpoint_id="c", channel=None),
        BusyError("no"),
        StoreError("no"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_pickled_error(error: DurableError) -> None:
    """An error that crosses to another process keeps its kind, its message and its fields."""
    error.__notes__ = ["a note"]
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == "no"
    assert vars(again) == vars(error)


# -- closed, and connections that were given -----------------------------------------------------------------------

USES: dict[str, Callable[[Face], Any]] = {
    "put": lambda face: face.put(thread(), checkpoint()),
    "put_writes": lambda face: face.put_writes(thread(checkpoint_id="1"), [("a", 1)], "task"),
    "get_tuple": lambda face: face.get_tuple(thread()),
    "list": lambda face: face.list(thread()),
    "delete_thread": lambda face: face.call("delete_thread", "thread"),
    "delete_for_runs": lambda face: face.call("delete_for_runs", ["run"]),
    "copy_thread": lambda face: face.call("copy_thread", "thread", "copy"),
    "prune": lambda face: face.call("prune", ["thread"]),
    "get_delta_channel_history": lambda face: face.call(
        "get_delta_channel_history", config=thread(), channels=["messages"]
    ),
}
"""Everything that can be asked of a saver."""


@pytest.mark.parametrize("name", USES)
def test_a_closed_saver(name: str, face: Face) -> None:
    """ClosedError is what every call of a closed saver raises, and closing it again is harmless."""
    face.put(thread(), checkpoint())
    face.call("close") if face.loop else face.saver.close()
    with pytest.raises(ClosedError):
        USES[name](face)
    face.saver.close()


def test_closed_before_its_first_call(path: str) -> None:
    """A saver over an aiosqlite connection that is closed before it was used stays closed."""

    async def main() -> None:
        async with aiosqlite.connect(path) as connection:
            saver = SqliteSaver(connection)
            await saver.aclose()
            with pytest.raises(ClosedError):
                await saver.aget_tuple(thread())

    asyncio.run(main())


def test_a_given_connection_that_was_closed(loop: asyncio.AbstractEventLoop | None) -> None:
    """A memory connection that its owner closed is ClosedError, at the opening and later."""
    connection = sqlite3.connect(":memory:", check_same_thread=False)
    face = Face(SqliteSaver(connection), loop)
    face.put(thread(), checkpoint())
    connection.close()
    with pytest.raises(ClosedError):
        face.get_tuple(thread())
    with pytest.raises(ClosedError):
        face.put(thread(), checkpoint())
    with pytest.raises(ClosedError):
        SqliteSaver(connection)


def test_a_memory_connection_of_another_thread(loop: asyncio.AbstractEventLoop | None) -> None:
    """A memory connection bound to its thread is OpenError in any other, which says what to pass instead."""
    with closing(sqlite3.connect(":memory:")) as connection, ThreadPoolExecutor(1) as elsewhere:
        with pytest.raises(OpenError, match="check_same_thread=False"):
            elsewhere.submit(SqliteSaver, connection).result()
        saver = SqliteSaver(connection)
        saver.put(thread(), checkpoint("1"), {}, {})
        with pytest.raises(OpenError, match="check_same_thread=False"):
            elsewhere.submit(saver.get_tuple, thread()).result()
        with pytest.raises(OpenError, match="check_same_thread=False"):
            elsewhere.submit(saver.put, thread(), checkpoint("2"), {}, {}).result()
        if loop is not None:
            # The awaiting form does its work in threads of its own.
            with pytest.raises(OpenError, match="check_same_thread=False"):
                loop.run_until_complete(saver.aput(thread(), checkpoint("2"), {}, {}))
        assert [found.checkpoint["id"] for found in saver.list(None)] == ["1"]


def test_a_file_connection_of_another_thread(path: str, loop: asyncio.AbstractEventLoop | None) -> None:
    """Of a connection to a file only the path is used, so its thread does not matter and it stays its owner's."""
    with closing(sqlite3.connect(path)) as connection, ThreadPoolExecutor(1) as elsewhere:
        with SqliteSaver(connection) as saver:
            elsewhere.submit(saver.put, thread(), checkpoint("1"), {}, {}).result()
            works(Face(saver, loop))
        assert connection.execute("SELECT count(*) FROM durable_checkpoints").fetchone() == (2,)


def test_aiosqlite_in_memory() -> None:
    """An aiosqlite connection to memory is refused at the first call, with what to pass instead."""

    async def main() -> None:
        async with aiosqlite.connect(":memory:") as connection:
            saver = SqliteSaver(connection)
            with pytest.raises(OpenError, match="':memory:'"):
                await saver.setup()
            with pytest.raises(OpenError, match="':memory:'"):
                await saver.aput(thread(), checkpoint(), {}, {})

    asyncio.run(main())


def test_aiosqlite_not_yet_awaited(path: str) -> None:
    """An aiosqlite connection that nobody awaited yet is connected by the first call."""

    async def main() -> None:
        connection = aiosqlite.connect(path)
        async with SqliteSaver(connection) as saver:
            await saver.aput(thread(), checkpoint("1"), {}, {})
        await connection.close()

    asyncio.run(main())
    with SqliteSaver(path) as saver:
        assert [found.checkpoint["id"] for found in saver.list(None)] == ["1"]


def test_aiosqlite_and_a_blocking_first_call(path: str) -> None:
    """A blocking first call in the connection's own loop is OpenError that names `setup`; after that it works."""

    async def main() -> None:
        async with aiosqlite.connect(path) as connection:
            saver = SqliteSaver(connection)
            with pytest.raises(OpenError, match=r"await saver\.setup\(\)"):
                saver.put(thread(), checkpoint(), {}, {})
            await saver.setup()
            works(Face(saver, None))
            await saver.aclose()

    asyncio.run(main())


def test_aiosqlite_from_another_thread(path: str) -> None:
    """A blocking first call outside the connection's loop asks in that loop while it runs, and is OpenError after."""

    async def main() -> tuple[SqliteSaver, aiosqlite.Connection]:
        connection = await aiosqlite.connect(path)
        early, late = SqliteSaver(connection), SqliteSaver(connection)
        await asyncio.to_thread(works, Face(early, None))
        await early.aclose()
        await connection.close()
        return late, connection

    late, _ = asyncio.run(main())
    with pytest.raises(OpenError, match=r"await saver\.setup\(\)"):
        late.get_tuple(thread())


@pytest.mark.parametrize(
    "given", [None, 7, b"agent.db", "agent\0.db", object()], ids=lambda given: type(given).__name__
)
def test_something_that_is_no_database(given: Any) -> None:
    """What is neither a path nor a connection is refused as a mistake of the caller's."""
    with pytest.raises(ValueError, match="path"):
        SqliteSaver(given)
