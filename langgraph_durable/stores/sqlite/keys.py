"""The integers that stand for threads, namespaces and lists, and those that this process knows already.

What is known is only used in ways that fail when it no longer holds: on condition that the thread still has its
epoch, or by inserting a row where another process would have put one. SQLite gives keys of deleted rows to others, and
an epoch to nobody twice: what belongs to a thread is remembered by its epoch.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections import OrderedDict
from typing import Any, NamedTuple

from langgraph_durable.core.records import Standing
from langgraph_durable.stores.sqlite.tombstones import thread_hash

MOST = 4096
"""Keys of one kind that are remembered."""


class OutdatedError(Exception):
    """A key that is needed is not known, or no longer holds: look everything up."""


class Place(NamedTuple):
    """Where a batch goes. `tombstones` says whether checkpoints of this thread were ever deleted."""

    thread: int
    epoch: int
    namespace: int
    tombstones: bool


class Keys:
    """What the writing connection knows. Whoever rolls a transaction back calls `clear`."""

    def __init__(self) -> None:
        self._places: OrderedDict[tuple[str, str], Place] = OrderedDict()
        self._ends: OrderedDict[tuple[int, int], int] = OrderedDict()
        self._chunks: OrderedDict[tuple[int, bytes], int] = OrderedDict()
        self._standings: OrderedDict[tuple[int, int], tuple[int, Standing]] = OrderedDict()
        self.next_chunk: int | None = None
        self.next_list: int | None = None
        self.next_checkpoint: int | None = None

    def clear(self) -> None:
        """Know nothing."""
        self.next_chunk = self.next_list = self.next_checkpoint = None
        self._places.clear()
        self._ends.clear()
        self._chunks.clear()
        self._standings.clear()

    def place(self, thread_id: str, ns: str, epoch: int | None) -> Place | None:
        """A place where a batch that rests on `epoch` (None: on nothing) can go without looking."""
        place = self._places.get((thread_id, ns))
        return place if place is not None and epoch in (None, place.epoch) else None

    def learn_place(self, thread_id: str, ns: str, place: Place) -> None:
        """Remember a place that was looked up."""
        _remember(self._places, (thread_id, ns), place)

    def chunk(self, place: Place, digest: bytes) -> int | None:
        """The key of a chunk of the thread of `place`."""
        return self._chunks.get((place.epoch, digest))

    def learn_chunk(self, place: Place, digest: bytes, key: int) -> None:
        """Remember a chunk."""
        _remember(self._chunks, (place.epoch, digest), key)

    def standing(self, place: Place) -> tuple[int, Standing] | None:
        """The serial and the standing of a namespace, as they were when this process last wrote there."""
        return self._standings.get((place.epoch, place.namespace))

    def learn_standing(self, place: Place, serial: int, standing: Standing) -> None:
        """Remember how a namespace stands."""
        _remember(self._standings, (place.epoch, place.namespace), (serial, standing))

    def end(self, place: Place, list_key: int) -> int | None:
        """Where a list of the thread of `place` ended when this process last wrote to it."""
        return self._ends.get((place.epoch, list_key))

    def learn_end(self, place: Place, list_key: int, end: int) -> None:
        """Remember the end of a list."""
        _remember(self._ends, (place.epoch, list_key), end)


def look_up(cursor: sqlite3.Cursor, thread_id: str, ns: str) -> tuple[int | None, int | None, int | None, bool]:
    """Key and epoch of the thread, key of the namespace (None where there is none), and whether it has tombstones."""
    row: tuple[int | None, int | None, int | None, int] = cursor.execute(
        """SELECT t.key, t.epoch, n.key, g.found
        FROM (SELECT EXISTS (SELECT 1 FROM durable_tombstones WHERE thread = ?) AS found) g
        LEFT JOIN durable_threads t ON t.id = ?
        LEFT JOIN durable_namespaces n ON n.thread = t.key AND n.ns = ?""",
        (thread_hash(thread_id), thread_id, ns),
    ).fetchone()
    return (*row[:3], bool(row[3]))


def new_thread(cursor: sqlite3.Cursor, thread_id: str) -> tuple[int, int]:
    """Key and epoch of a thread that is not there yet."""
    epoch = new_epoch()
    cursor.execute("INSERT INTO durable_threads (id, epoch) VALUES (?, ?)", (thread_id, epoch))
    return last_key(cursor), epoch


def new_epoch() -> int:
    """A number that no reader can have met: a counter would begin again after the thread was deleted."""
    return secrets.randbits(62) + 1


def namespace_key(cursor: sqlite3.Cursor, thread: int, ns: str) -> int:
    """The key of a namespace, made if need be."""
    row = cursor.execute("SELECT key FROM durable_namespaces WHERE thread = ? AND ns = ?", (thread, ns)).fetchone()
    if row is not None:
        return int(row[0])
    cursor.execute("INSERT INTO durable_namespaces (thread, ns) VALUES (?, ?)", (thread, ns))
    return last_key(cursor)


def last_key(cursor: sqlite3.Cursor) -> int:
    """The key of the row that was inserted last."""
    assert cursor.lastrowid is not None
    return cursor.lastrowid


def checkpoint_ids(cursor: sqlite3.Cursor, thread: int) -> list[tuple[str, str]]:
    """(namespace, id) of every checkpoint of a thread, those of which only writes are there included."""
    return cursor.execute(
        """SELECT n.ns, c.id FROM durable_namespaces n JOIN durable_checkpoints c ON c.namespace = n.key
        WHERE n.thread = :thread
        UNION
        SELECT n.ns, w.checkpoint FROM durable_namespaces n JOIN durable_writes w ON w.namespace = n.key
        WHERE n.thread = :thread""",
        {"thread": thread},
    ).fetchall()


def _remember(known: OrderedDict[Any, Any], key: Any, value: Any) -> None:
    known[key] = value
    if len(known) > MOST:
        known.popitem(last=False)
