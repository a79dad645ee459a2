"""SQLite connections that fail when a test says so, and what the tables of a database hold."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import closing, suppress
from typing import Any

import pytest

BEGINS = ("BEGIN", "INSERT INTO DURABLE_ROWS")
COMMITS = ("COMMIT", "INSERT INTO DURABLE_ROWS")
"""The statements that begin a transaction, and those that commit one: a single one can do both."""

EIO = sqlite3.OperationalError("disk I/O error")
"""What `sqlite3` says of a write that the disk refused."""


class Faults:
    """From `install` on, each connection that is opened obeys this: `arm` it, and statements fail."""

    def __init__(self) -> None:
        self.opened: list[sqlite3.Connection] = []
        self.failed: list[sqlite3.Connection] = []
        self.pragmas: list[str] = []
        self._words: str | tuple[str, ...] = ""
        self._countdown = 0
        self._done_first = False
        self._error: BaseException = EIO
        self._once = False
        self.armed = False

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        original = sqlite3.connect

        def connect(database: str, *args: Any, **kwargs: Any) -> sqlite3.Connection:
            made = original(database, *args, factory=self._factory(), **kwargs)
            self.opened.append(made)
            for pragma in self.pragmas:
                made.execute(pragma)
            return made

        monkeypatch.setattr(sqlite3, "connect", connect)

    def arm(
        self,
        words: str | tuple[str, ...] = "",
        *,
        nth: int = 1,
        done_first: bool = False,
        once: bool = False,
        error: BaseException = EIO,
    ) -> None:
        """Let the `nth` statement that begins with one of `words` fail, and, unless `once`, all until `disarm`.

        `done_first`: it is carried out, and then reported as failed.
        """
        self._words, self._countdown, self._done_first, self._once = words, nth, done_first, once
        self._error, self.armed = error, True
        self.failed.clear()

    def disarm(self) -> bool:
        """Statements work again; whether one has failed."""
        self.armed = False
        return bool(self.failed)

    def pragma(self, statement: str) -> None:
        """Run it on each connection that is open, and on those to come."""
        self.pragmas.append(statement)
        for connection in self.opened:
            with suppress(sqlite3.ProgrammingError):  # it was closed
                connection.execute(statement)

    def _strikes(self, connection: sqlite3.Connection, sql: str) -> bool:
        if not self.armed or not sql.lstrip().upper().startswith(self._words):
            return False
        self._countdown -= 1
        if self._countdown > 0:
            return False
        self.failed.append(connection)
        self.armed = not self._once
        return True

    def _factory(self) -> type[sqlite3.Connection]:
        faults = self

        class Cursor(sqlite3.Cursor):
            def execute(self, sql: str, parameters: Any = (), /) -> Any:
                strikes = faults._strikes(self.connection, sql)
                if strikes and not faults._done_first:
                    raise faults._error
                made = super().execute(sql, parameters)
                if strikes:
                    raise faults._error
                return made

            def executemany(self, sql: str, parameters: Iterable[Any], /) -> Any:
                if faults._strikes(self.connection, sql):
                    raise faults._error
                return super().executemany(sql, parameters)

        class Connection(sqlite3.Connection):
            def cursor(self, factory: Any = Cursor) -> Any:
                return super().cursor(factory)

            def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
                made: sqlite3.Cursor = self.cursor().execute(sql, parameters)
                return made

        return Connection


def dump(path: str, *tables: str) -> dict[str, list[tuple[Any, ...]]]:
    """The rows of these tables, of all if none is named."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        names = tables or [
            name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
        ]
        return {name: connection.execute(f"SELECT * FROM {name}").fetchall() for name in names}


def is_closed(connection: sqlite3.Connection) -> bool:
    """Whether somebody closed the connection."""
    try:
        connection.execute("SELECT 1")
    except sqlite3.ProgrammingError:
        return True
    return False
