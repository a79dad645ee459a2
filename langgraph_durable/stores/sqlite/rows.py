"""How the rows of batches get into the tables: one by one, each key looked up, or all in one statement.

Each statement costs a thread the interpreter twice, which takes longer than what most of them do. `AtOnce` collects
rows whose keys follow from what the process remembers and inserts them through a view; triggers put each into its
table. Nothing is looked up, so everything is checked by how it fails: a key that somebody else has taken, a value that
is there already and an epoch that has passed all abort the statement, and `Singly` does the work again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from langgraph_durable.core.records import Standing
from langgraph_durable.stores.sqlite.keys import Keys, OutdatedError, Place, last_key
from langgraph_durable.stores.sqlite.standings import values_of

MOST = 64
"""Rows in one statement. Each number of rows is a statement of its own to prepare, and SQLite has a limit."""

VIEW = """
CREATE TEMP VIEW durable_rows AS
    SELECT 0 AS target, 0 AS a, 0 AS b, 0 AS c, 0 AS d, 0 AS e, 0 AS f, 0 AS g, 0 AS h, 0 AS i, 0 AS j, 0 AS k;
CREATE TEMP TRIGGER durable_row_epoch INSTEAD OF INSERT ON durable_rows WHEN NEW.target = 0 BEGIN
    SELECT RAISE(ABORT, 'another epoch')
    WHERE NOT EXISTS (SELECT 1 FROM durable_threads WHERE key = NEW.a AND epoch = NEW.b);
    SELECT RAISE(ABORT, 'another lease')
    WHERE NEW.d IS NOT (SELECT token * (1 - stop) FROM durable_leases WHERE thread = NEW.c);
END;
CREATE TEMP TRIGGER durable_row_chunk INSTEAD OF INSERT ON durable_rows WHEN NEW.target = 1 BEGIN
    INSERT INTO durable_chunks (key, thread, digest, kind, data) VALUES (NEW.a, NEW.b, NEW.c, NEW.d, NEW.e);
END;
CREATE TEMP TRIGGER durable_row_list INSTEAD OF INSERT ON durable_rows WHEN NEW.target = 2 BEGIN
    INSERT INTO durable_lists (key, thread) VALUES (NEW.a, NEW.b);
END;
CREATE TEMP TRIGGER durable_row_element INSTEAD OF INSERT ON durable_rows WHEN NEW.target = 3 BEGIN
    INSERT INTO durable_elements (list, position, count, chunk) VALUES (NEW.a, NEW.b, NEW.c, NEW.d);
END;
CREATE TEMP TRIGGER durable_row_write INSTEAD OF INSERT ON durable_rows WHEN NEW.target = 4 BEGIN
    INSERT INTO durable_writes (namespace, checkpoint, position, task_id, task_path, replaces, entries)
    SELECT NEW.a, NEW.b, coalesce(max(position), 0) + 1, NEW.c, NEW.d, NEW.e, NEW.f
    FROM durable_writes WHERE namespace = NEW.a AND checkpoint = NEW.b;
END;
CREATE TEMP TRIGGER durable_row_checkpoint INSTEAD OF INSERT ON durable_rows WHEN NEW.target = 5 BEGIN
    SELECT RAISE(ABORT, 'others were stored since') WHERE NEW.a <= (SELECT max(key) FROM durable_checkpoints);
    INSERT INTO durable_checkpoints
        (key, namespace, id, parent, run, metadata, exact_kind, exact, head_kind, head, parts)
    VALUES (NEW.a, NEW.b, NEW.c, NEW.d, NEW.e, NEW.f, NEW.g, NEW.h, NEW.i, NEW.j, NEW.k);
END;
CREATE TEMP TRIGGER durable_row_standing INSTEAD OF INSERT ON durable_rows WHEN NEW.target = 6 BEGIN
    SELECT RAISE(ABORT, 'another standing')
    WHERE NOT EXISTS (SELECT 1 FROM durable_standings WHERE namespace = NEW.a AND serial = NEW.b);
    UPDATE durable_standings SET serial = NEW.b + 1, status = NEW.c, created = NEW.d, updated = NEW.e,
        checkpoints = NEW.f, bytes = NEW.g, newest = NEW.h, about = NEW.i WHERE namespace = NEW.a;
END;
CREATE TEMP TRIGGER durable_row_next INSTEAD OF INSERT ON durable_rows WHEN NEW.target = 7 BEGIN
    INSERT INTO durable_next (namespace, node, checkpoint) VALUES (NEW.a, NEW.b, NEW.c);
END
"""
"""One statement a `;` and an END apart: see `view_statements`."""

_EPOCH, _CHUNK, _LIST, _ELEMENT, _WRITE, _CHECKPOINT, _STANDING, _NEXT = range(8)
_WIDTH = 12
_STEP = MOST * _WIDTH
_PADDING = [(None,) * (_WIDTH - 1 - count) for count in range(_WIDTH)]
_INSERT = [
    f"INSERT INTO durable_rows VALUES {', '.join(['(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)'] * count)}"  # noqa: S608
    for count in range(MOST + 1)
]


class Singly:
    """Rows inserted one by one, each key looked up or given by SQLite."""

    def __init__(self, cursor: sqlite3.Cursor, keys: Keys) -> None:
        self._cursor = cursor
        self._keys = keys

    def chunk(self, place: Place, digest: bytes, kind: str, data: bytes) -> int:
        self._cursor.execute(
            "INSERT INTO durable_chunks (thread, digest, kind, data) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (place.thread, digest, kind, data),
        )
        if self._cursor.rowcount == 1:
            key = last_key(self._cursor)
            self._keys.next_chunk = key + 1
            self._keys.learn_chunk(place, digest, key)
            return key
        row = self._cursor.execute(
            "SELECT key FROM durable_chunks WHERE thread = ? AND digest = ?", (place.thread, digest)
        ).fetchone()
        return int(row[0])

    def new_list(self, place: Place) -> int:
        self._cursor.execute("INSERT INTO durable_lists (thread) VALUES (?)", (place.thread,))
        self._keys.next_list = last_key(self._cursor) + 1
        return last_key(self._cursor)

    def end(self, place: Place, list_key: int) -> int:
        row = self._cursor.execute(
            "SELECT position + count FROM durable_elements WHERE list = ? ORDER BY position DESC LIMIT 1", (list_key,)
        ).fetchone()
        return int(row[0]) if row else 0

    def elements(self, place: Place, rows: Sequence[tuple[int, int, int, int]]) -> None:
        self._cursor.executemany(
            "INSERT INTO durable_elements (list, position, count, chunk) VALUES (?, ?, ?, ?)", rows
        )
        self._keys.learn_end(place, rows[-1][0], rows[-1][1] + rows[-1][2])

    def relisted(self, place: Place, runs: Sequence[tuple[int, int, int]]) -> int:
        key = self.new_list(place)
        end = 0
        for source, start, stop in runs:
            self._cursor.execute(
                """INSERT INTO durable_elements (list, position, count, chunk)
                SELECT ?, position - ? + ?, count, chunk FROM durable_elements
                WHERE list = ? AND position >= ? AND position < ?""",
                (key, start, end, source, start, stop),
            )
            end += stop - start
        self._keys.learn_end(place, key, end)
        return key


class AtOnce:
    """Rows of several batches for one statement. OutdatedError where a key would have to be looked up."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self._values: list[Any] = []
        self._checked: set[tuple[int, int | None]] = set()
        self._standings: dict[Place, tuple[int, Standing]] = {}
        self._ends: dict[tuple[Place, int], int] = {}
        self._chunks: dict[tuple[Place, bytes], int] = {}
        self._next_chunk = keys.next_chunk
        self._next_list = keys.next_list
        self._next_checkpoint = keys.next_checkpoint

    def chunk(self, place: Place, digest: bytes, kind: str, data: bytes) -> int:
        name = (place, digest)
        key = self._chunks.get(name) or self._keys.chunk(place, digest)
        if key is None:
            key = self._next_chunk
            if key is None:
                raise OutdatedError
            self._next_chunk = key + 1
            self._chunks[name] = key
            self._add(_CHUNK, key, place.thread, digest, kind, data)
        return key

    def new_list(self, place: Place) -> int:
        key = self._next_list = _following(self._next_list)
        self._add(_LIST, key - 1, place.thread)
        return key - 1

    def end(self, place: Place, list_key: int) -> int:
        end = self._ends.get((place, list_key))
        if end is None:
            end = self._keys.end(place, list_key)
        if end is None:
            raise OutdatedError
        return end

    def elements(self, place: Place, rows: Sequence[tuple[int, int, int, int]]) -> None:
        for row in rows:
            self._values += (_ELEMENT, *row, *_PADDING[4])
        self._ends[place, rows[-1][0]] = rows[-1][1] + rows[-1][2]

    def relisted(self, place: Place, runs: Sequence[tuple[int, int, int]]) -> int:
        raise OutdatedError

    def checkpoint(self, place: Place, checkpoint_id: str, values: Sequence[Any], following: Sequence[str]) -> None:
        """A checkpoint, and the nodes that are next after it."""
        key = self._next_checkpoint = _following(self._next_checkpoint)
        self._add(_CHECKPOINT, key - 1, place.namespace, checkpoint_id, *values)
        for node in following:
            self._add(_NEXT, place.namespace, node, key - 1)

    def write(self, place: Place, checkpoint_id: str, values: Sequence[Any]) -> None:
        """The writes of a task."""
        self._add(_WRITE, place.namespace, checkpoint_id, *values)

    def standing(self, place: Place) -> Standing:
        """How the namespace stands, with what was added here."""
        known = self._standings.get(place) or self._keys.standing(place)
        if known is None:
            raise OutdatedError
        return known[1]

    def stands(self, place: Place, standing: Standing) -> None:
        """How the namespace stands from now on."""
        known = self._standings.get(place) or self._keys.standing(place)
        assert known is not None
        self._standings[place] = (known[0], standing)

    @property
    def statements(self) -> int:
        """How many statements `insert` takes: a transaction around them is needed unless it is one."""
        return -(-(len(self._values) + _WIDTH * len(self._standings)) // _STEP)

    def insert(self, cursor: sqlite3.Cursor) -> None:
        """Insert what was collected; sqlite3.IntegrityError when something remembered does not hold any more."""
        for place, (serial, standing) in self._standings.items():
            self._add(_STANDING, place.namespace, serial, *values_of(standing))
        values = self._values
        if len(values) <= _STEP:
            cursor.execute(_INSERT[len(values) // _WIDTH], values)
            return
        for start in range(0, len(values), _STEP):
            part = values[start : start + _STEP]
            cursor.execute(_INSERT[len(part) // _WIDTH], part)

    def learned(self) -> None:
        """Remember what is true now that the transaction is committed."""
        for place, (serial, standing) in self._standings.items():
            self._keys.learn_standing(place, serial + 1, standing)
        for (place, list_key), end in self._ends.items():
            self._keys.learn_end(place, list_key, end)
        for (place, digest), key in self._chunks.items():
            self._keys.learn_chunk(place, digest, key)
        self._keys.next_chunk = self._next_chunk
        self._keys.next_list = self._next_list
        self._keys.next_checkpoint = self._next_checkpoint

    def check(self, place: Place, thread_id: str, token: int | None) -> None:
        """The thread has to have the epoch of `place`, and the lease with this token, or (None) none."""
        if (place.thread, token) not in self._checked:
            self._checked.add((place.thread, token))
            self._add(_EPOCH, place.thread, place.epoch, thread_id, token)

    def _add(self, target: int, *values: Any) -> None:
        self._values += (target, *values, *_PADDING[len(values)])


def view_statements() -> list[str]:
    """The statements of `VIEW`, one by one."""
    view, _, triggers = VIEW.partition(";\n")
    return [view, *(f"{trigger.lstrip(';')}END" for trigger in triggers.split("END") if trigger.strip(" ;\n"))]


def _following(key: int | None) -> int:
    if key is None:
        raise OutdatedError
    return key + 1
