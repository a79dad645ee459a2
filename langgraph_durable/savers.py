"""The savers that users open, each over storage of its kind; what they do is `saver.DurableSaver`."""

from __future__ import annotations

import os
import sqlite3

import aiosqlite
from langgraph.checkpoint.serde.base import SerializerProtocol
from typing_extensions import Self

from langgraph_durable.engine import Engine
from langgraph_durable.saver import DurableSaver
from langgraph_durable.sources import files_source, sqlite_source


class SqliteSaver(DurableSaver):
    """A checkpointer over an SQLite database, for sync and async code alike.

    `database` is a path, `":memory:"`, an `sqlite3` or an `aiosqlite` connection. Of a connection to a file only the
    path is used, and connections of this saver's own are opened; an `sqlite3` connection to memory is used itself.
    A file that does not exist is made, readable by its owner only; one of langgraph-checkpoint-sqlite is continued.
    `busy_timeout` is how many seconds to wait for another process that writes. With a `serde` of one's own every
    value passes through it.

    Raises OpenError, or one of its kinds, when that is not a database that can be used.
    """

    def __init__(
        self,
        database: str | os.PathLike[str] | sqlite3.Connection | aiosqlite.Connection,
        *,
        serde: SerializerProtocol | None = None,
        busy_timeout: float = 30.0,
    ) -> None:
        super().__init__(serde=serde)
        self._native = serde is None
        self._engine = Engine(sqlite_source(database, busy_timeout))

    @classmethod
    def from_conn_string(
        cls, conn_string: str, *, serde: SerializerProtocol | None = None, busy_timeout: float = 30.0
    ) -> Self:
        """A saver over the database at a path, to be used as `with ... as saver` or `async with ... as saver`."""
        return cls(conn_string, serde=serde, busy_timeout=busy_timeout)


AsyncSqliteSaver = SqliteSaver


class FileSaver(DurableSaver):
    """A checkpointer over a folder of plain files that a person can read, for sync and async code alike.

    `path` is the folder; one that does not exist is made, readable by its owner only, with a README.md that says what
    is in it. It keeps itself out of git unless it is made `shareable`. `busy_timeout` is how many seconds to wait for
    somebody else who writes to the same thread. With a `serde` of one's own every value passes through it.

    Raises OpenError, or one of its kinds, when that is not a folder that can be used.
    """

    _readable = True

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        serde: SerializerProtocol | None = None,
        busy_timeout: float = 30.0,
        shareable: bool = False,
    ) -> None:
        super().__init__(serde=serde)
        self._native = serde is None
        self._engine = Engine(files_source(path, busy_timeout, shareable=shareable))

    @classmethod
    def from_conn_string(
        cls,
        conn_string: str,
        *,
        serde: SerializerProtocol | None = None,
        busy_timeout: float = 30.0,
        shareable: bool = False,
    ) -> Self:
        """A saver over the folder at a path, to be used as `with ... as saver` or `async with ... as saver`."""
        return cls(conn_string, serde=serde, busy_timeout=busy_timeout, shareable=shareable)
