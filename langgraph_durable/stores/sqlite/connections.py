"""One connection writes and a few read; every one of them is opened here, with what durability asks for set and read.

Readers see a snapshot of the write-ahead log and hold no lock that the writer needs. A database in memory cannot be
shared that way: there the one connection does everything, in turns as short as one page.

A fork finds the files closed (see `forks`): parent and child open them again when they need them.

https://www.sqlite.org/wal.html, https://www.sqlite.org/pragma.html#pragma_synchronous
"""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from types import TracebackType

from langgraph_durable.errors import (
    BusyError,
    ClosedError,
    DurableError,
    NotADatabaseError,
    OpenError,
    ReadOnlyError,
    StoreError,
)
from langgraph_durable.stores.sqlite import forks
from langgraph_durable.stores.sqlite.rows import view_statements

SPARE_READERS = 4
FULL = 2

FORK_SECONDS = 5.0
"""How much longer than `busy_timeout` a fork waits for a thread that is inside SQLite."""

_abandoned: list[sqlite3.Connection] = []
"""Connections that a forked child inherited: SQLite forbids to use or close them, so they must not be collected."""


class Connections:
    """The connections to one database: a file by its path, or memory (path None), for which `given` may be used."""

    def __init__(self, path: str | None, busy_timeout: float, given: sqlite3.Connection | None = None) -> None:
        self.path = path
        self.busy_timeout = busy_timeout
        self.read_only = False
        self._given = given
        self._closed = False
        self._writer: sqlite3.Connection | None = None
        self._readers: list[sqlite3.Connection] = []
        # The directory that a process works in may change, and connections are opened at any time.
        self._file = None if path is None else os.path.abspath(path)
        self._stuck = False
        self._renew_locks()
        forks.watch(self)

    @property
    def own(self) -> bool:
        """Whether the connections were opened here, and not given."""
        return self._given is None

    def _renew_locks(self) -> None:
        # Locks by themselves, and not inside of what `writer` and `reader` answer: Ctrl-C comes in when a function of
        # Python's begins, and an `__exit__` that was interrupted there would keep its lock for ever.
        self.turn = threading.RLock()
        self.look: AbstractContextManager[object] = self.turn if self.path is None else nullcontext()
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._users: list[int] = []
        self._held = False

    def writer(self) -> _Turn:
        """`with connections.turn, connections.writer() as cursor`: the connection that writes."""
        return _Turn(self)

    def reader(self) -> _Turn | _Look:
        """`with connections.look, connections.reader() as cursor`: a connection that only reads."""
        return _Turn(self) if self.path is None else _Look(self)

    def poison(self) -> None:
        """Drop the writer after a commit that failed: what SQLite or the kernel cached of it cannot be trusted."""
        with self.turn:
            writer, self._writer = self._writer, None
            if writer is not None:
                with suppress(sqlite3.Error):
                    writer.rollback()
                if writer is self._given or self.path is None:
                    self._writer = writer
                    return
                # The next one first: if nobody had the file open for a moment, its log would be read anew, and what
                # was refused may be in it to the last byte.
                with suppress(sqlite3.Error, DurableError):
                    self._writer = self._connect_writer()
                    self._writer.execute("SELECT 1 FROM sqlite_master").fetchall()
                with suppress(sqlite3.Error):
                    writer.close()

    def close(self) -> None:
        """Close every connection that was opened here; the last one folds the write-ahead log into the file."""
        with self.turn:
            self._enter()
            try:
                with self._lock:
                    self._closed = True
                    self._close_readers()
                    writer, self._writer = self._writer, None
                    if writer is not None and writer is not self._given:
                        # A reader that is still busy keeps the log; the next one to close folds it.
                        with suppress(sqlite3.Error):
                            writer.close()
            finally:
                self._leave()

    def hold(self) -> None:
        """Called before a fork: let nobody in any more."""
        with self._lock:
            self._held = self._stuck = True

    def empty(self) -> None:
        """Called before a fork, after `hold`: wait for who is inside, and close the file."""
        with self._lock:
            if threading.get_ident() in self._users or not self._changed.wait_for(
                lambda: not self._users, self.busy_timeout + FORK_SECONDS
            ):
                return
            if self.path is not None:
                self._close_readers()
                writer, self._writer = self._writer, None
                if writer is not None:
                    writer.close()
            self._stuck = False

    def release(self) -> None:
        """Called after a fork, in the parent."""
        with self._lock:
            self._held = self._stuck = False
            self._changed.notify_all()

    def forked(self) -> None:
        """Called in the child of a fork."""
        if self._stuck:
            _abandoned.extend(self._readers)
            if self._writer is not None:
                _abandoned.append(self._writer)
            self._readers, self._writer = [], None
            forks.lost.add(self._file or self)
            self._stuck = False
        # Whoever forked, perhaps out of a signal handler, goes on inside.
        inside = [user for user in self._users if user == threading.get_ident()]
        self._renew_locks()
        self._users = inside

    def _enter(self) -> None:
        """Wait for the end of a fork that goes on, and let the next one wait."""
        me = threading.get_ident()
        with self._lock:
            while self._held and me not in self._users:
                self._changed.wait()
            self._users.append(me)

    def _leave(self) -> None:
        with self._lock:
            self._users.remove(threading.get_ident())
            if self._held:
                self._changed.notify_all()

    def _close_readers(self) -> None:
        readers, self._readers = self._readers, []
        for connection in readers:
            connection.close()

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError("this saver was closed; open the database again with a new one")
        if forks.lost and (self._file or self) in forks.lost:
            raise OpenError(
                f"this process was forked while a thread of its parent was in the midst of using {self.path!r}, and "
                "can never use it safely; fork when no such call is under way, or start processes with 'spawn'"
            )

    def _connect(self) -> sqlite3.Connection:
        if self.path is None:
            return sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
        if not self.read_only:
            _prepare(self._file or self.path, self.path)
        connection = self._opened("mode=ro" if self.read_only else "mode=rw")
        if self.read_only and not _readable(connection):
            # Without a log and without the right to make one: nobody can be writing, so the file stands still.
            connection.close()
            connection = self._opened("mode=ro&immutable=1")
        try:
            connection.execute("PRAGMA synchronous = FULL")
            found = connection.execute("PRAGMA synchronous").fetchone()[0]
            if found < FULL:
                raise OpenError(f"SQLite did not accept synchronous=FULL for {self.path!r} (it is {found})")
            # What is deleted is overwritten, not only unlinked.
            connection.execute("PRAGMA secure_delete = 1")
        except BaseException:
            connection.close()
            raise
        return connection

    def _connect_writer(self) -> sqlite3.Connection:
        connection = self._connect()
        try:
            if not self.read_only:
                for statement in view_statements():
                    connection.execute(statement)
        except BaseException:
            # With some of its triggers the view would swallow rows.
            connection.close()
            raise
        return connection

    def _opened(self, mode: str) -> sqlite3.Connection:
        assert self._file is not None
        return sqlite3.connect(
            f"{Path(self._file).as_uri()}?{mode}",
            uri=True,
            check_same_thread=False,
            isolation_level=None,
            timeout=self.busy_timeout,
        )


class _Turn:
    """The connection that writes; a plain class, since every call of a saver passes here."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def __enter__(self) -> sqlite3.Cursor:
        connections = self._connections
        connections._enter()
        try:
            with translated(connections.path):
                connections._check_open()
                if connections._writer is None:
                    connections._writer = connections._given or connections._connect_writer()
                self._cursor = _cursor(connections._writer)
                return self._cursor
        except BaseException:
            connections._leave()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            _done(self._cursor)
        finally:
            self._connections._leave()
        if isinstance(error, sqlite3.Error):
            raise _translated(error, self._connections.path or ":memory:") from error


class _Look:
    """A connection that reads, for as long as it is needed; a plain class like `_Turn`."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def __enter__(self) -> sqlite3.Cursor:
        connections = self._connections
        connections._enter()
        try:
            with translated(connections.path):
                connections._check_open()
                with connections._lock:
                    connection = connections._readers.pop() if connections._readers else None
                if connection is None:
                    connection = connections._connect()
                    connection.execute("PRAGMA query_only = 1")
                self._connection = connection
                self._cursor = _cursor(connection)
                return self._cursor
        except BaseException:
            connections._leave()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        connections = self._connections
        try:
            _done(self._cursor)
            with connections._lock:
                spare = error is None and not connections._closed and len(connections._readers) < SPARE_READERS
                if spare:
                    connections._readers.append(self._connection)
            if not spare:
                self._connection.close()
        finally:
            connections._leave()
        if isinstance(error, sqlite3.Error):
            raise _translated(error, connections.path or ":memory:") from error


class translated:
    """`with` it: SQLite's errors as this package's, with what to do about them."""

    def __init__(self, path: str | None) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, sqlite3.Error):
            raise _translated(error, self._path or ":memory:") from error


def _translated(error: sqlite3.Error, path: str) -> DurableError:
    text = str(error)
    if "database is locked" in text or "table is locked" in text:
        return BusyError(
            f"another process has held the write lock of {path!r} for too long; nothing was stored. Find out who "
            "writes for that long, or raise `busy_timeout`"
        )
    if "readonly" in text:
        return ReadOnlyError(
            f"{path!r} can only be read; nothing was stored. Check the owner and mode of file and folder"
        )
    if "not a database" in text:
        return NotADatabaseError(f"{path!r} is not an SQLite database; it was not touched")
    if "same thread" in text:
        return OpenError(
            "the sqlite3 connection given belongs to another thread: pass the path of the database instead, or a "
            "connection made with check_same_thread=False"
        )
    if "closed database" in text:
        return ClosedError(f"the connection to {path!r} was closed")
    if "unable to open" in text:
        return OpenError(f"cannot open {path!r}: {text}. Does its folder exist, and may you write there?")
    if "malformed" in text or "corrupt" in text:
        return StoreError(
            f"the database {path!r} is damaged ({text}); nothing was stored. Restore a backup, or save what can "
            "be saved with `sqlite3 FILE .recover`"
        )
    if "full" in text:
        return StoreError(f"no room left for {path!r}; nothing was stored ({text})")
    return StoreError(f"SQLite failed on {path!r}; nothing was stored ({text})")


def _readable(connection: sqlite3.Connection) -> bool:
    try:
        connection.execute("SELECT 1 FROM sqlite_master").fetchall()
    except sqlite3.OperationalError as error:
        return not any(text in str(error) for text in ("unable to open", "readonly"))
    return True


def _cursor(connection: sqlite3.Connection) -> sqlite3.Cursor:
    cursor = connection.cursor()
    cursor.row_factory = None  # a connection that was given may make its rows into something else
    return cursor


def _done(cursor: sqlite3.Cursor) -> None:
    """Take the statement from a cursor that its user may still hold: it would keep a closed connection's file open."""
    try:  # noqa: SIM105  `suppress` takes longer than all the rest
        cursor.close()
    except sqlite3.Error:
        pass  # the connection was closed meanwhile


def _prepare(file: str, path: str) -> None:
    """Make a database file that nobody else may read, unless there is a file already."""
    try:
        mode = os.stat(file).st_mode
    except FileNotFoundError:
        pass
    except OSError as error:
        raise OpenError(f"cannot open {path!r}: {error}") from error
    else:
        if not stat.S_ISREG(mode):
            raise NotADatabaseError(f"{path!r} is not a file; give the path of a database file, such as 'agent.db'")
        return
    try:
        os.close(os.open(file, os.O_CREAT | os.O_RDWR, 0o600))
    except OSError as error:
        raise OpenError(f"cannot create {path!r}: {error}. Does its folder exist, and may you write there?") from error
