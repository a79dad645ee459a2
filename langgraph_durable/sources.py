"""What a store is opened from: a path, a connection; nothing is opened before it is known which store that means.

An `aiosqlite` connection can only be asked which database it is to in its event loop, so its store is opened at the
first call instead of at once.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import aiosqlite

from langgraph_durable.errors import InvalidRequestError, OpenError
from langgraph_durable.stores.base import Store
from langgraph_durable.stores.sqlite import SqliteStore
from langgraph_durable.stores.sqlite.connections import translated


class Later:
    """The store of an `aiosqlite` connection, once its event loop can be asked."""

    def __init__(self, connection: aiosqlite.Connection, busy_timeout: float) -> None:
        self._connection = connection
        self._busy_timeout = busy_timeout
        self._loop = _running_loop()

    def ask(self) -> Callable[[], Store]:
        """How to open the store, asked from outside the loop. OpenError inside of it, or when it does not run."""
        loop = self._loop
        if loop is None or not loop.is_running() or loop is _running_loop():
            raise OpenError(
                "an aiosqlite connection can only be asked which database it is in its own event loop, and this is "
                "the first call: `await saver.setup()` there once, or pass the path instead of the connection"
            )
        return asyncio.run_coroutine_threadsafe(self.aask(), loop).result()

    async def aask(self) -> Callable[[], Store]:
        """How to open the store, asked inside the loop."""
        return _sqlite(await _target_of(self._connection), self._busy_timeout)


Source: TypeAlias = "Callable[[], Store] | Later"


def sqlite_source(
    database: str | os.PathLike[str] | sqlite3.Connection | aiosqlite.Connection, busy_timeout: float
) -> Source:
    """The store over an SQLite database. InvalidRequestError for what is none."""
    if isinstance(database, aiosqlite.Connection):
        return Later(database, busy_timeout)
    return _sqlite(_target(database), busy_timeout)


def files_source(path: str | os.PathLike[str], busy_timeout: float, *, shareable: bool) -> Source:
    """The store over a folder. InvalidRequestError for what is no path."""
    # Who keeps to SQLite does not import what locks files.
    from langgraph_durable.stores.files import FileStore

    folder = os.fspath(path) if isinstance(path, (str, os.PathLike)) else path
    if not isinstance(folder, str) or not folder or "\0" in folder:
        raise InvalidRequestError(f"give the path of a folder, such as 'checkpoints/', and not {path!r}")
    return partial(FileStore, folder, busy_timeout=busy_timeout, shareable=shareable)


class _Target(NamedTuple):
    """A database: the file at `path`, or memory (None), in the connection `given` if there is one."""

    path: str | None
    given: sqlite3.Connection | None = None


def _sqlite(target: _Target, busy_timeout: float) -> Callable[[], Store]:
    return partial(SqliteStore, target.path, busy_timeout=busy_timeout, given=target.given)


def _target(database: Any) -> _Target:
    if isinstance(database, sqlite3.Connection):
        with translated("the connection given"):
            path = _main(database.execute("PRAGMA database_list").fetchall())
        return _Target(path) if path else _Target(None, database)
    if isinstance(database, (str, os.PathLike)):
        path = os.fspath(database)
        if not isinstance(path, str) or "\0" in path:
            raise InvalidRequestError(f"the path of the database must be text, and it is {path!r}")
        # An empty path is SQLite's own name for a database that vanishes when it is closed.
        return _Target(None) if path in (":memory:", "") else _Target(path)
    raise InvalidRequestError(
        f"cannot open {database!r}: give the path of a database, ':memory:', an sqlite3 connection or an aiosqlite "
        "connection"
    )


async def _target_of(connection: aiosqlite.Connection) -> _Target:
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
    return _Target(path)


def _main(rows: Any) -> str | None:
    return next((row[2] for row in rows if row[1] == "main" and row[2]), None)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
