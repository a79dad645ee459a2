"""A store in one SQLite file (or in memory) that other processes may use at the same time.

Every transaction is one statement or begins with `BEGIN IMMEDIATE`, so that it has the write lock from its first moment
or has done nothing; `busy_timeout` seconds are waited for it. Nothing that is read outside the transaction decides what
is written in it, except through the epoch, which is compared inside.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from langgraph_durable.core.records import Batch, Damage, Page, Query, Stood, Stored, ThreadQuery
from langgraph_durable.errors import DurableError, OpenError, ReadOnlyError, SchemaVersionError, StoreError
from langgraph_durable.stores.base import Outcome
from langgraph_durable.stores.sqlite.check import damaged
from langgraph_durable.stores.sqlite.connections import Connections, translated
from langgraph_durable.stores.sqlite.keys import Keys, OutdatedError
from langgraph_durable.stores.sqlite.official import OfficialTables
from langgraph_durable.stores.sqlite.read import read, read_at_once
from langgraph_durable.stores.sqlite.rows import AtOnce
from langgraph_durable.stores.sqlite.schema import CREATE, VERSION
from langgraph_durable.stores.sqlite.standings import node_before, stood
from langgraph_durable.stores.sqlite.write import apply, apply_at_once

VACUUM_PAGES = 2000
"""Pages that `settle` returns to the file system at most: some ten milliseconds."""


class SqliteStore:
    """The `Store` over SQLite; see `stores.base` for what its verbs promise.

    `path` None is memory, in a connection of its own or the one `given`. OpenError and its kinds say why a database
    cannot be used; one that can only be read is opened for reading.
    """

    def __init__(self, path: str | None, *, busy_timeout: float, given: sqlite3.Connection | None = None) -> None:
        self._connections = Connections(path, busy_timeout, given)
        self._official: OfficialTables | None = None
        self._keys = Keys()
        try:
            self._set_up()
        except BaseException:
            self._connections.close()
            raise

    def commit(self, batches: Sequence[Batch]) -> list[Outcome]:
        """Store the batches in one transaction; one that SQLite refuses does not take its neighbours with it."""
        if not batches:
            return []
        self._check_writable()
        with self._connections.turn, self._connections.writer() as cursor:
            if self._connections.own and cursor.connection.in_transaction:
                cursor.execute("ROLLBACK")  # an interrupt left it; what goes into it would never be committed
                self._keys.clear()
            try:
                return self._at_once(cursor, batches) or self._transaction(cursor, batches)
            except _Refused as refused:
                if len(batches) == 1:
                    return [_wrapped(refused.error)]
        # Which of them it was can be seen when each has a transaction of its own.
        return [self._alone(batch) for batch in batches]

    def _alone(self, batch: Batch) -> Outcome:
        """What becomes of one batch, whatever becomes of those beside it."""
        try:
            return self.commit([batch])[0]
        except DurableError as error:
            return error

    def read(self, query: Query) -> Page:
        """The checkpoints that `query` asks for, as of one moment."""
        with self._connections.look, self._connections.reader() as cursor:
            page = read_at_once(cursor, self._official, query)
            if page is not None:
                return page
            with _snapshot(cursor):
                return read(cursor, self._official, query)

    def runs(self, run_ids: Sequence[str]) -> list[tuple[str, str, str]]:
        """(thread, namespace, checkpoint id) of every checkpoint that those runs made."""
        found: list[tuple[str, str, str]] = []
        with self._connections.look, self._connections.reader() as cursor:
            for run_id in run_ids:
                found += cursor.execute(
                    """SELECT t.id, n.ns, c.id FROM durable_checkpoints c
                    JOIN durable_namespaces n ON n.key = c.namespace JOIN durable_threads t ON t.key = n.thread
                    WHERE c.run = ?""",
                    (run_id,),
                ).fetchall()
            if self._official is not None and run_ids:
                found += self._official.runs(cursor, run_ids)
        return found

    def stood(self, query: ThreadQuery) -> list[Stood]:
        """How threads stand, as of one moment."""
        with self._connections.look, self._connections.reader() as cursor, _snapshot(cursor):
            return stood(cursor, self._official, query)

    def node(self, thread_id: str, ns: str, node: str, occurrence: int) -> str | None:
        """The id of the checkpoint before which a node was next."""
        with self._connections.look, self._connections.reader() as cursor:
            return node_before(cursor, thread_id, ns, node, occurrence)

    def threads(self) -> list[str]:
        """The ids of all threads, in the order in which they came."""
        with self._connections.look, self._connections.reader() as cursor:
            found = [row[0] for row in cursor.execute("SELECT id FROM durable_threads ORDER BY key")]
            if self._official is not None:
                found += sorted(self._official.threads(cursor).difference(found))
        return found

    def check(self, thread_id: str | None) -> list[Damage]:
        """What SQLite says of the file, and what leads nowhere in it; of a thread whatever reading it tells."""
        with self._connections.look, self._connections.reader() as cursor:
            return damaged(cursor) if thread_id is None else []

    def secret(self, name: str, make: bytes) -> bytes:
        """The bytes kept under `name`; `make`, stored now, when there were none."""
        with self._connections.look, self._connections.reader() as cursor:
            row = cursor.execute("SELECT value FROM durable_meta WHERE name = ?", (name,)).fetchone()
        if row is not None:
            return bytes(row[0])
        self._check_writable()
        with self._connections.turn, self._connections.writer() as cursor:
            cursor.execute("INSERT OR IGNORE INTO durable_meta (name, value) VALUES (?, ?)", (name, make))
            if cursor.connection.isolation_level is not None and not self._connections.path:
                cursor.connection.commit()
            found = cursor.execute("SELECT value FROM durable_meta WHERE name = ?", (name,)).fetchone()
        return bytes(found[0])

    def settle(self) -> None:
        """Give back what deletions freed: bytes leave the log, and pages the file, unless a reader is busy."""
        if self._connections.path is None or self._connections.read_only:
            return
        with suppress(DurableError), self._connections.turn, self._connections.writer() as cursor:
            try:
                cursor.execute("PRAGMA busy_timeout = 0")
                # It gives back a page per step, and `execute` takes one step of what has no columns.
                cursor.executescript(f"PRAGMA incremental_vacuum({VACUUM_PAGES})")
                cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            finally:
                cursor.execute(f"PRAGMA busy_timeout = {int(self._connections.busy_timeout * 1000)}")

    def close(self) -> None:
        """Close every connection that was opened here."""
        self._connections.close()

    def forked(self) -> None:
        """Know nothing; the connections look after themselves."""
        self._keys.clear()

    def _at_once(self, cursor: sqlite3.Cursor, batches: Sequence[Batch]) -> list[Outcome] | None:
        """The batches in one statement; None when that is not possible, and nothing was stored."""
        if not self._connections.own:
            return None  # views and triggers have no place in a connection that is somebody else's
        rows = AtOnce(self._keys)
        try:
            outcomes = [apply_at_once(rows, self._keys, batch) for batch in batches]
            if rows.statements == 1:
                self._autocommitted(cursor, rows)
            else:
                with self._committed(cursor):
                    rows.insert(cursor)
        except (OutdatedError, *_UNFIT):
            return None  # something is not known, or not true any more, or one of the batches cannot be stored
        rows.learned()
        return outcomes

    def _transaction(self, cursor: sqlite3.Cursor, batches: Sequence[Batch]) -> list[Outcome]:
        try:
            owners = cursor.connection.in_transaction
            with self._committed(cursor):
                outcomes = [apply(cursor, self._keys, self._official, batch) for batch in batches]
            if owners:
                # It may still be rolled back: what was stored must not be remembered, and no thread has epoch 0.
                return [one._replace(epoch=0, chunks={}) if isinstance(one, Stored) else one for one in outcomes]
            return outcomes
        except _UNFIT as error:
            raise _Refused(error) from error
        except sqlite3.ProgrammingError as error:
            if "binding" not in str(error):
                raise
            raise _Refused(error) from error

    def _autocommitted(self, cursor: sqlite3.Cursor, rows: AtOnce) -> None:
        """One statement is a transaction of its own: it takes the write lock when it begins and commits when it ends.

        BEGIN and COMMIT around it would hand the interpreter to another thread twice more.
        """
        try:
            rows.insert(cursor)
        except BaseException as error:
            self._keys.clear()
            if not isinstance(error, _UNFIT):
                # It may have been the commit that failed; see `_committed`.
                self._connections.poison()
            raise

    @contextmanager
    def _committed(self, cursor: sqlite3.Cursor) -> Iterator[None]:
        """A transaction around the block: committed after it, or rolled back and nothing remembered."""
        # A connection that was given may be inside a transaction of its owner's, which is his to commit.
        begin, commit, undo = (
            ("SAVEPOINT durable", "RELEASE durable", "ROLLBACK TO durable")
            if cursor.connection.in_transaction
            else ("BEGIN IMMEDIATE", "COMMIT", "ROLLBACK")
        )
        try:
            # Inside, since Ctrl-C while it waits for another process is raised after it has begun.
            cursor.execute(begin)
            yield
        except BaseException as error:
            self._keys.clear()
            with suppress(sqlite3.Error):
                cursor.execute(undo)
            trouble = isinstance(error, (sqlite3.OperationalError, sqlite3.InternalError)) or type(error) in (
                sqlite3.DatabaseError,
                sqlite3.Error,
            )
            if trouble or (undo == "ROLLBACK" and cursor.connection.in_transaction):
                self._connections.poison()
            raise
        try:
            cursor.execute(commit)
        except BaseException:
            self._keys.clear()
            # Whether it reached the disk is not known, and asking again could be told "yes" from a cache:
            # https://wiki.postgresql.org/wiki/Fsync_Errors
            self._connections.poison()
            raise

    def _set_up(self) -> None:
        connections = self._connections
        if connections.path is not None:
            connections.read_only = not _writable(connections.path)
        try:
            self._begin()
        except (ReadOnlyError, OpenError) as error:
            # A file may be writable in a folder that is not, where SQLite cannot keep its log.
            unable = isinstance(error, ReadOnlyError) or isinstance(error.__cause__, sqlite3.OperationalError)
            if connections.read_only or not unable or connections.path is None or not os.path.exists(connections.path):
                raise
            connections.poison()
            connections.read_only = True
            self._begin()

    def _begin(self) -> None:
        with self._connections.turn, self._connections.writer() as cursor:
            version = _version(cursor)
            if version != VERSION and not self._connections.read_only:
                self._create(cursor)
            self._official = OfficialTables.of(cursor)
            if version != VERSION and self._connections.read_only:
                raise OpenError(
                    f"{self._connections.path!r} can only be read, and this release has not stored anything in it. "
                    "Open it once where it can be written to"
                )

    def _create(self, cursor: sqlite3.Cursor) -> None:
        if self._connections.path is not None:
            # Only a file without tables takes this; there pages can be given back without rewriting the file.
            cursor.execute("PRAGMA auto_vacuum = INCREMENTAL")
            mode = self._logged(cursor)
            if mode != "wal":
                raise OpenError(
                    f"SQLite cannot keep a write-ahead log for {self._connections.path!r} (it says {mode!r}); a "
                    "database on a network share cannot have one, put it on a local disk"
                )
        nested = cursor.connection.in_transaction
        cursor.execute("SAVEPOINT durable" if nested else "BEGIN IMMEDIATE")
        try:
            for statement in CREATE.split(";"):
                if statement.strip():
                    cursor.execute(statement)
            cursor.execute(
                "INSERT OR REPLACE INTO durable_meta (name, value) VALUES ('schema', ?)", (str(VERSION).encode(),)
            )
            cursor.execute("RELEASE durable" if nested else "COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                cursor.execute("ROLLBACK TO durable" if nested else "ROLLBACK")
            raise

    def _logged(self, cursor: sqlite3.Cursor) -> str:
        """The journal mode once a log was asked for: SQLite does not wait for others who ask at the same moment."""
        end = time.monotonic() + self._connections.busy_timeout
        while True:
            try:
                return str(cursor.execute("PRAGMA journal_mode = WAL").fetchone()[0])
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > end:
                    raise
                time.sleep(0.005)

    def _check_writable(self) -> None:
        if self._connections.read_only:
            raise ReadOnlyError(
                f"{self._connections.path!r} can only be read; nothing was stored. Check the owner and mode of file "
                "and folder"
            )


_UNFIT = (
    sqlite3.DataError,
    sqlite3.IntegrityError,
    sqlite3.InterfaceError,
    OverflowError,
    ValueError,
    TypeError,
    KeyError,
)
"""What the parameters of a statement, or damaged rows that a copy is made of, can be to blame for."""


class _Refused(Exception):
    """A statement of one batch was refused; what the batch is made of is to blame, not the database."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(str(error))
        self.error = error


@contextmanager
def _snapshot(cursor: sqlite3.Cursor) -> Iterator[None]:
    """Every statement in the block sees the same moment; a connection that was given may be inside of one already."""
    nested = cursor.connection.in_transaction
    if not nested:
        cursor.execute("BEGIN")
    try:
        yield
    finally:
        if not nested:
            cursor.execute("ROLLBACK")


def _wrapped(error: BaseException) -> DurableError:
    wrapped = StoreError(f"this cannot be stored, and nothing of it was ({type(error).__name__}: {error})")
    wrapped.__cause__ = error
    return wrapped


def _writable(path: str) -> bool:
    return not os.path.exists(path) or os.access(path, os.W_OK)


def _version(cursor: sqlite3.Cursor) -> int | None:
    """The schema's version in the file, None without one; SchemaVersionError when it is newer than this package."""
    if cursor.execute("SELECT 1 FROM sqlite_master WHERE name = 'durable_meta'").fetchone() is None:
        return None
    row = cursor.execute("SELECT value FROM durable_meta WHERE name = 'schema'").fetchone()
    try:
        version = int(row[0])
    except (TypeError, ValueError) as error:
        raise SchemaVersionError(
            f"the database says that its schema version is {row and row[0]!r}, which is no number: it was damaged, or "
            "another program writes there; restore it from a backup"
        ) from error
    if version > VERSION:
        raise SchemaVersionError(
            f"the database has schema version {version}, and this release knows {VERSION}: a newer langgraph-durable "
            "wrote it, upgrade with `pip install -U langgraph-durable`"
        )
    return version


__all__ = ["SqliteStore", "translated"]
