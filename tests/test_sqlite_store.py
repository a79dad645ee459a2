"""The contract of a store, kept by SQLite in a file and in memory, and what only SQLite promises."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from langgraph_durable import SqliteSaver
from langgraph_durable.core.records import DeleteThread, Inline, Many, One, Query, Stored
from langgraph_durable.errors import StoreError
from langgraph_durable.stores.base import Store
from langgraph_durable.stores.sqlite import SqliteStore
from tests.conftest import Face, checkpoint, thread
from tests.faults import COMMITS, Faults
from tests.store_contract import StoreContract
from tests.stores import chunk, done, fresh, get, ids, new, of, writes, written

CHUNKS = "SELECT t.id, c.digest FROM durable_chunks c LEFT JOIN durable_threads t ON t.key = c.thread"
ORPHANS = {
    "lists": "SELECT key FROM durable_lists WHERE thread NOT IN (SELECT key FROM durable_threads)",
    "elements": "SELECT list FROM durable_elements WHERE list NOT IN (SELECT key FROM durable_lists)",
    "chunks of elements": "SELECT chunk FROM durable_elements WHERE chunk NOT IN (SELECT key FROM durable_chunks)",
    "namespaces": "SELECT key FROM durable_namespaces WHERE thread NOT IN (SELECT key FROM durable_threads)",
    "checkpoints": "SELECT key FROM durable_checkpoints WHERE namespace NOT IN (SELECT key FROM durable_namespaces)",
    "writes": "SELECT checkpoint FROM durable_writes WHERE namespace NOT IN (SELECT key FROM durable_namespaces)",
}


def stored_digests(connection: sqlite3.Connection) -> dict[str, list[bytes]]:
    """The digests of all chunks by thread; every row belongs to another one."""
    for name, query in ORPHANS.items():
        assert connection.execute(query).fetchall() == [], name
    found: dict[str, list[bytes]] = {}
    for thread_id, digest in connection.execute(CHUNKS):
        found.setdefault(thread_id, []).append(digest)
    return found


class TestFile(StoreContract):
    """SQLite in a file."""

    _path: Path

    def make(self, folder: Path) -> Store:
        self._path = folder / "store.db"
        return SqliteStore(str(self._path), busy_timeout=30)

    def digests(self, store: Store) -> dict[str, list[bytes]] | None:
        with closing(sqlite3.connect(self._path)) as connection:
            return stored_digests(connection)


class TestMemory(StoreContract):
    """SQLite in memory, in a connection of the store's own."""

    shared = False

    def make(self, folder: Path) -> Store:
        return SqliteStore(None, busy_timeout=30)

    def digests(self, store: Store) -> dict[str, list[bytes]] | None:
        assert isinstance(store, SqliteStore)
        with store._connections.turn, store._connections.writer() as cursor:
            return stored_digests(cursor.connection)


class TestGivenMemory(StoreContract):
    """SQLite in memory, in a connection of somebody else's that has its own ways with transactions and rows."""

    shared = False
    _connection: sqlite3.Connection

    def make(self, folder: Path) -> Store:
        return SqliteStore(None, busy_timeout=30, given=self._connection)

    def digests(self, store: Store) -> dict[str, list[bytes]] | None:
        assert not self._connection.in_transaction
        return stored_digests(self._connection)

    @pytest.fixture(autouse=True)
    def owner(self) -> Iterator[None]:
        self._connection = sqlite3.connect(":memory:", check_same_thread=False)
        self._connection.row_factory = sqlite3.Row
        yield
        self._connection.close()


# -- a statement that fails ----------------------------------------------------------------------------------------


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> Faults:
    """The connections that are opened in the test."""
    made = Faults()
    made.install(monkeypatch)
    return made


@pytest.fixture(params=["file", "memory"])
def store(request: pytest.FixtureRequest, faults: Faults, tmp_path: Path) -> Iterator[SqliteStore]:
    """A store whose connections the test can get at."""
    made = SqliteStore(str(tmp_path / "store.db") if request.param == "file" else None, busy_timeout=1)
    yield made
    made.close()


BAD = "(SELECT key FROM durable_threads WHERE id = 'bad')"
OF_BAD = {
    "threads": "NEW.id = 'bad'",
    "namespaces": f"NEW.thread = {BAD}",
    "chunks": f"NEW.thread = {BAD}",
    "lists": f"NEW.thread = {BAD}",
    "elements": f"NEW.list IN (SELECT key FROM durable_lists WHERE thread = {BAD})",
    "checkpoints": f"NEW.namespace IN (SELECT key FROM durable_namespaces WHERE thread = {BAD})",
    "writes": f"NEW.namespace IN (SELECT key FROM durable_namespaces WHERE thread = {BAD})",
}
"""For each table, which new rows are of the thread `bad`."""


@pytest.mark.parametrize("table", OF_BAD)
def test_a_statement_that_is_refused_in_the_middle(table: str, store: SqliteStore, faults: Faults) -> None:
    """A batch of which SQLite refuses a statement leaves nothing behind, and the others of its commit are stored."""
    done(store, of("before", new("1", One(chunk("b").digest)), "b"))
    connection = faults.opened[0]
    connection.execute(
        f"""CREATE TEMP TRIGGER refuse BEFORE INSERT ON main.durable_{table} WHEN {OF_BAD[table]}
        BEGIN SELECT RAISE(ABORT, 'not this one'); END"""
    )
    good = [of("good", new("1", Many(None, fresh("g"))), "g"), of("good", writes("1", One(chunk("w").digest)), "w")]
    bad = [
        of("bad", new("1", Inline("", b"i"), One(chunk("x").digest), Many(None, fresh("y", "z"))), "x", "y", "z"),
        of("bad", writes("1", One(chunk("v").digest)), "v"),
    ]
    outcomes = store.commit([good[0], *bad, good[1]])
    # The put is what makes lists and elements; for all the others there is a row of each batch.
    refused = {"lists": [0], "elements": [0], "checkpoints": [0], "writes": [1]}.get(table, [0, 1])
    for number in (0, 1):
        outcome = outcomes[1 + number]
        if number in refused:
            assert isinstance(outcome, StoreError)
            assert "not this one" in str(outcome)
            assert isinstance(outcome.__cause__, sqlite3.IntegrityError)
        else:
            assert isinstance(outcome, Stored)
    assert isinstance(outcomes[0], Stored)
    assert isinstance(outcomes[3], Stored)
    connection.execute("DROP TRIGGER refuse")
    assert get(store, "good")[1] == [[("g", 1)]]
    assert written(store, "good", "1") == [("task", ["w"])]
    texts = [text for number, those in enumerate(["xyz", "v"]) for text in those if number not in refused]
    assert sorted(stored_digests(connection).get("bad", [])) == sorted(chunk(text).digest for text in texts)
    done(store, *(bad[number] for number in refused))
    assert get(store, "bad")[1] == [Inline("", b"i"), "x", [("y", 1), ("z", 1)]]
    assert written(store, "bad", "1") == [("task", ["v"])]
    assert get(store, "before")[1] == ["b"]


@pytest.mark.parametrize("odd", [2**70, object(), "\ud800"], ids=["integer", "object", "surrogate"])
def test_a_value_that_cannot_be_bound(odd: object, store: SqliteStore) -> None:
    """A batch with something in it that SQLite has no type for is refused alone."""
    bad = of("bad", new("1", One(chunk("x").digest))._replace(run_id=odd), "x")  # type: ignore[arg-type]
    outcomes = store.commit([of("good", new("1")), bad, of("good", new("2", parent="1"))])
    assert [isinstance(outcome, Stored) for outcome in outcomes] == [True, False, True]
    assert isinstance(outcomes[1], StoreError)
    assert ids(store, Query(None)) == ["2", "1"]


def test_a_disk_that_fails_while_batches_are_tried_one_by_one(store: SqliteStore, faults: Faults) -> None:
    """When a refused batch has been found and the disk fails after that, no batch is stored that is not said to be."""
    pages = faults.opened[0].execute("PRAGMA page_count").fetchone()[0]
    done(store, of("before", new("1")))
    faults.pragma(f"PRAGMA max_page_count = {pages + 12}")
    bad = of("bad", new("1")._replace(run_id=2**70))  # type: ignore[arg-type]
    large = of("large", new("1", One(chunk("x" * 300_000).digest)), "x" * 300_000)
    try:
        outcomes = store.commit([of("good", new("1")), bad, large])
    except StoreError:
        assert ids(store, Query(None)) == ["1"]
        assert ids(store, Query("before")) == ["1"]
    else:
        said = [isinstance(outcome, Stored) for outcome in outcomes]
        assert said == [True, False, False]
        assert ids(store, Query("good")) == ["1"]
    assert ids(store, Query("large")) == ids(store, Query("bad")) == []


# -- the file ------------------------------------------------------------------------------------------------------


def test_every_connection_syncs(path: str, faults: Faults, open_face: Callable[..., Face]) -> None:
    """Each connection, also one that is opened after an error, waits for the disk at every commit of its log."""
    face = open_face(path)
    saved = face.put(thread(), checkpoint("1"))
    face.list(None)
    faults.arm(COMMITS)
    with pytest.raises(StoreError):
        face.put(saved, checkpoint("2"))
    faults.disarm()
    face.put(saved, checkpoint("2"))
    face.get_tuple(saved)
    modes = []
    for connection in faults.opened:
        with suppress(sqlite3.ProgrammingError):  # the one that failed was closed
            modes.append(
                [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("synchronous", "journal_mode")]
            )
    assert len(modes) >= 2
    assert modes == [[2, "wal"]] * len(modes)


def test_files_are_private(path: str, open_face: Callable[..., Face]) -> None:
    """The database, its log and its index can be read and written by their owner only, whatever the umask."""
    before = os.umask(0)
    try:
        face = open_face(path)
        face.put(thread(), checkpoint("1"))
        modes = {name: stat.S_IMODE(os.stat(path + name).st_mode) for name in ("", "-wal", "-shm")}
    finally:
        os.umask(before)
    assert modes == {"": 0o600, "-wal": 0o600, "-shm": 0o600}


def test_a_file_that_is_there_keeps_its_mode(path: str, open_face: Callable[..., Face]) -> None:
    """A database that somebody has opened to others stays open to them."""
    open_face(path).saver.close()
    os.chmod(path, 0o640)
    face = open_face(path)
    face.put(thread(), checkpoint("1"))
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o640


SECRET = "the secret of this test"


def in_files(path: str, text: str) -> list[str]:
    """The files of a database in which these bytes are."""
    files = [path + suffix for suffix in ("", "-wal") if os.path.exists(path + suffix)]
    # In a process of its own: whoever closes a file gives up the locks that SQLite has on it.
    return [name for name in files if text.encode() in subprocess.run(["cat", name], capture_output=True).stdout]


@pytest.mark.parametrize("how", ["delete_thread", "prune", "delete_for_runs"])
@pytest.mark.parametrize("size", [1, 400], ids=["small", "large"])
def test_what_is_deleted_leaves_the_files(how: str, size: int, path: str, open_face: Callable[..., Face]) -> None:
    """Bytes of what was deleted are in neither the file nor its log, while the saver is open and after."""
    face = open_face(path)
    face.put(thread("stays"), checkpoint("1", a=["something else"] * size))
    # Not compressible, so that the bytes can be looked for.
    text = [f"{SECRET} {os.urandom(30).hex()}" for _ in range(size)]
    saved = face.put(thread(), checkpoint("1", a=text, b=f"{SECRET} alone"), {"run_id": "run", "note": SECRET})
    face.put_writes(saved, [("a", text), ("b", f"{SECRET} written")], "task", "a path")
    if how != "delete_thread":
        saved = face.put(saved, checkpoint("2", c="nothing"), {"run_id": "other"})
    assert in_files(path, SECRET)
    arguments: dict[str, object] = {"delete_thread": "thread", "prune": ["thread"], "delete_for_runs": ["run"]}
    face.call(how, arguments[how])
    assert in_files(path, SECRET) == []
    assert len(face.list(thread())) == (how != "delete_thread")
    face.put(thread("later"), checkpoint("1", a="x"))
    assert in_files(path, SECRET) == []
    face.saver.close()
    assert in_files(path, SECRET) == []


def test_what_is_deleted_leaves_the_log_later(path: str, open_face: Callable[..., Face]) -> None:
    """When a reader is in the way, a deletion is done at once and its bytes leave the files with the next one."""
    face = open_face(path, busy_timeout=1)
    face.put(thread(), checkpoint("1", a=SECRET * 5))
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM durable_chunks").fetchone()
        face.call("delete_thread", "thread")
        assert face.list(None) == []
        reader.execute("ROLLBACK")
    face.put(thread("other"), checkpoint("1"))
    face.call("delete_thread", "other")
    assert in_files(path, SECRET) == []


def test_room_is_given_back(path: str, open_face: Callable[..., Face]) -> None:
    """Deleting a large thread makes the file small again."""
    face = open_face(path)
    face.put(thread("stays"), checkpoint("1", a=1))
    small = os.path.getsize(path) + os.path.getsize(path + "-wal")
    face.put(thread(), checkpoint("1", a=os.urandom(2_000_000)))
    assert os.path.getsize(path) + os.path.getsize(path + "-wal") > 10 * small
    face.call("delete_thread", "thread")
    assert os.path.getsize(path) + os.path.getsize(path + "-wal") < 2 * small


# -- a connection that was given -----------------------------------------------------------------------------------


def test_a_transaction_of_the_owners() -> None:
    """In a memory connection inside a transaction of its owner's, what is put is the owner's to commit or roll back."""
    with closing(sqlite3.connect(":memory:", check_same_thread=False)) as connection:
        saver = SqliteSaver(connection)
        messages = [f"message {n} " * 20 for n in range(4)]
        first = saver.put(thread(), checkpoint("1", messages=messages[:1]), {}, {})
        connection.execute("BEGIN")
        second = saver.put(first, checkpoint("2", messages=messages[:2]), {}, {})
        saver.put_writes(second, [("messages", messages[2:3])], "task")
        assert connection.in_transaction
        assert [found.checkpoint["id"] for found in saver.list(None)] == ["2", "1"]
        connection.rollback()
        assert [found.checkpoint["id"] for found in saver.list(None)] == ["1"]
        # What was rolled back is not taken for being there.
        third = saver.put(first, checkpoint("3", messages=messages[:3]), {}, {})
        saver.put_writes(third, [("messages", messages[2:3])], "task")
        found = saver.get_tuple(third)
        assert found is not None
        assert found.checkpoint["channel_values"] == {"messages": messages[:3]}
        assert found.pending_writes == [("task", "messages", messages[2:3])]
        connection.execute("BEGIN")
        saver.put(third, checkpoint("4", messages=messages), {}, {})
        connection.commit()
        assert saver.get_tuple(thread()).checkpoint["channel_values"] == {"messages": messages}  # type: ignore[union-attr]


def test_a_refusal_in_a_transaction_of_the_owners(tmp_path: Path) -> None:
    """A batch that is refused leaves what its owner has done in the open transaction alone."""
    with closing(sqlite3.connect(":memory:", check_same_thread=False)) as connection:
        store = SqliteStore(None, busy_timeout=1, given=connection)
        done(store, of("gone", new("1")), of("gone", DeleteThread()))
        connection.execute("CREATE TABLE theirs (x)")
        connection.execute("BEGIN")
        connection.execute("INSERT INTO theirs VALUES (1)")
        bad = of("bad", new("1", One(chunk("x").digest))._replace(run_id=2**70), "x")  # type: ignore[arg-type]
        outcomes = store.commit([of("good", new("1")), bad, of("gone", writes("1"))])
        assert [isinstance(outcome, Stored) for outcome in outcomes] == [True, False, False]
        assert connection.in_transaction
        connection.commit()
        assert connection.execute("SELECT x FROM theirs").fetchall() == [(1,)]
        assert ids(store, Query(None)) == ["1"]
        store.close()
        assert connection.execute("SELECT 1").fetchone() == (1,)
