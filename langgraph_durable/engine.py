"""What a saver and its copies share: one store, one lane to it, one memory; closed once, and at exit if nobody did.

It also says which database a path or a connection means. An `aiosqlite` connection can only be asked that in its
event loop, so its store is opened at the first call instead of at once.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
import weakref
from typing import Any, NamedTuple

import aiosqlite
import ormsgpack
from langgraph.checkpoint.serde.base import SerializerProtocol

from langgraph_durable.arrivals import Arrivals
from langgraph_durable.core.memory import Memory
from langgraph_durable.core.records import Batch
from langgraph_durable.errors import ClosedError, InvalidRequestError, OpenError
from langgraph_durable.stores.base import Outcome, Store
from langgraph_durable.stores.lane import Lane
from langgraph_durable.stores.sqlite import SqliteStore
from langgraph_durable.stores.sqlite.connections import translated

MEMORY_BYTES = 64 * 2**20
"""What this process remembers of what it stored and read, over all threads."""


class Target(NamedTuple):
    """A database: the file at `path`, or memory (None), in the connection `given` if there is one."""

    path: str | None
    given: sqlite3.Connection | None = None


class Engine:
    """The store of a saver, opened now (a path, an `sqlite3` connection) or at the first call (an `aiosqlite` one)."""

    def __init__(
        self, database: str | os.PathLike[str] | sqlite3.Connection | aiosqlite.Connection, busy_timeout: float
    ):
        self.memory = Memory(MEMORY_BYTES)
        self.arrivals = Arrivals()
        self._busy_timeout = busy_timeout
        self._lock = threading.Lock()
        self._opened: tuple[Store, Lane[Batch, Outcome]] | None = None
        self._closed = False
        self._pending: aiosqlite.Connection | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        if isinstance(database, aiosqlite.Connection):
            self._pending = database
            self._loop = _running_loop()
        else:
            self._open(_target(database))
        _engines.add(self)

    @property
    def store(self) -> Store:
        """The store, opened if it has to be."""
        return self._ready()[0]

    @property
    def lane(self) -> Lane[Batch, Outcome]:
        """The lane to the store."""
        return self._ready()[1]

    async def aready(self) -> None:
        """See to it that the store is open, without blocking the loop of an `aiosqlite` connection."""
        if self._opened is None and self._pending is not None and not self._closed:
            self._open(await _target_of(self._pending))

    def digest_key(self, serde: SerializerProtocol) -> bytes:
        """The key of this database's digests, which only who can decrypt its values can read."""
        kind, data = serde.dumps_typed(os.urandom(32))
        kept = ormsgpack.unpackb(self.store.secret("digest_key", ormsgpack.packb([kind, data])))
        try:
            key = serde.loads_typed((kept[0], kept[1]))
        except Exception as error:  # whatever a cipher raises when the key is not the one
            raise OpenError(
                f"the database was written with another encryption key or serializer than the one given ({error})"
            ) from error
        assert isinstance(key, bytes)
        return key

    def close(self) -> None:
        """Store what is waiting and close the connections that were opened here."""
        self._closed = True
        if self._opened is not None:
            self._closer()

    def forked(self) -> None:
        """Called in the child of a fork."""
        self._lock = threading.Lock()
        self.memory.clear()
        self.arrivals.forked()
        if self._opened is not None:
            store, lane = self._opened
            store.forked()
            lane.forked()

    def _ready(self) -> tuple[Store, Lane[Batch, Outcome]]:
        if self._opened is None:
            if self._closed:
                raise ClosedError("this saver was closed; make a new one")
            assert self._pending is not None
            self._open(self._ask(self._pending))
        assert self._opened is not None
        return self._opened

    def _ask(self, connection: aiosqlite.Connection) -> Target:
        """Which database the connection is to, asked from outside its loop."""
        loop = self._loop
        if loop is None or not loop.is_running() or loop is _running_loop():
            raise OpenError(
                "an aiosqlite connection can only be asked which database it is in its own event loop, and this is "
                "the first call: `await saver.setup()` there once, or pass the path instead of the connection"
            )
        return asyncio.run_coroutine_threadsafe(_target_of(connection), loop).result()

    def _open(self, target: Target) -> None:
        with self._lock:
            if self._opened is not None:
                return
            store = SqliteStore(target.path, busy_timeout=self._busy_timeout, given=target.given)
            lane: Lane[Batch, Outcome] = Lane(store.commit, _size)
            # It runs when the engine is collected, and at exit: an unclosed saver loses nothing and holds nobody up.
            self._closer = weakref.finalize(self, _close, store, lane)
            self._opened = (store, lane)


def _close(store: Store, lane: Lane[Batch, Outcome]) -> None:
    lane.flush()
    store.close()


def _size(batch: Batch) -> int:
    return sum(len(chunk.data) for chunk in batch.chunks) + 512


def _target(database: Any) -> Target:
    if isinstance(database, sqlite3.Connection):
        with translated("the connection given"):
            path = _main(database.execute("PRAGMA database_list").fetchall())
        return Target(path) if path else Target(None, database)
    if isinstance(database, (str, os.PathLike)):
        path = os.fspath(database)
        if not isinstance(path, str) or "\0" in path:
            raise InvalidRequestError(f"the path of the database must be text, and it is {path!r}")
        # An empty path is SQLite's own name for a database that vanishes when it is closed.
        return Target(None) if path in (":memory:", "") else Target(path)
    raise InvalidRequestError(
        f"cannot open {database!r}: give the path of a database, ':memory:', an sqlite3 connection or an aiosqlite "
        "connection"
    )


async def _target_of(connection: aiosqlite.Connection) -> Target:
    with translated("the connection given"):
        try:
            rows = await connection.execute_fetchall("PRAGMA database_list")
        except ValueError:
            # Not connected yet, as `aiosqlite.connect(...)` gives it without an `await`.
            await connection
            rows = await connection.execute_fetchall("PRAGMA database_list")
    path = _main(rows)
    if path is None:
        raise OpenError(
            "an aiosqlite connection to memory belongs to its own thread and cannot be shared: pass ':memory:', or "
            "the path of a file"
        )
    return Target(path)


def _main(rows: Any) -> str | None:
    return next((row[2] for row in rows if row[1] == "main" and row[2]), None)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


_engines: weakref.WeakSet[Engine] = weakref.WeakSet()


def _forked() -> None:
    for engine in list(_engines):
        engine.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
