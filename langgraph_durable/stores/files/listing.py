"""How threads stand, in order: what was found of those whose files have not changed since is not read again.

What was found is in memory, and in a file of the store's folder for other processes. That file is a cache and no more:
it is believed of a thread only while the journal and the lease are the files that it was made of, nothing is written
because of it, and it may be missing, damaged, of another release or as old as it likes.
"""

from __future__ import annotations

import heapq
import os
import threading
import warnings
import zlib
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, NamedTuple, TypeAlias

import orjson

from langgraph_durable.core.collector import MANY, uncollected
from langgraph_durable.core.records import Lease, Stood, ThreadQuery
from langgraph_durable.errors import CorruptDataWarning, DurableError
from langgraph_durable.stores.files import disk
from langgraph_durable.stores.files.contents import Contents
from langgraph_durable.stores.files.leases import LEASE, Held
from langgraph_durable.stores.files.marks import said_standing, standing_of
from langgraph_durable.stores.files.thread import JOURNAL, ThreadFolder
from langgraph_durable.stores.files.threads import Threads

CACHE = "standings.json"

VERSION = 1
"""What the file has to say of itself to be read: other releases may mean something else by the same values."""

WORTH = 16
"""The file is written when what was read for want of it is more than one so manieth of it."""

_ONLY_LEASED, _STANDS, _UNKNOWN = range(3)


class Row(NamedTuple):
    """How a namespace of a thread stands, with the stamps of the journal and the lease that say so.

    `rank` is None where the namespace has no checkpoints, `token` where there is no lease. What is not looked at to
    find a thread stays the text that it is in the file.
    """

    journal: str
    leased: str
    token: int | None
    holder: str
    stop: bool
    thread_id: str
    ns: str
    rank: int | None
    status: str
    updated: float
    created: float | None
    metadata: str
    standing: str
    checkpoints: int
    bytes: int


_Plain: TypeAlias = "tuple[Any, ...]"
"""A `Row` as it is kept: see `contents` for what the garbage collector has to do with that."""

_Key: TypeAlias = tuple[int, bool, float, str]


class Listing:
    """The threads of a store, and what was found of them; `read_only` keeps it from being written to the folder."""

    def __init__(self, threads: Threads, folder: str, read_only: bool) -> None:
        self._threads = threads
        self._file = os.path.join(folder, CACHE)
        self._read_only = read_only
        self._lock = threading.Lock()
        self._rows: dict[str, _Plain] | None = None
        self._size = 0
        self._unsaved = 0
        self._forgotten = 0

    def stood(self, query: ThreadQuery) -> list[Stood]:
        """How threads stand, in the order asked for."""
        if query.thread_id is not None:
            return _chosen(_of(self._threads.folder(query.thread_id), query), query)
        if query.ns != "":
            return _chosen((row for folder in self._threads.all() for row in _seen(folder, query)), query)
        with self._lock, uncollected(MANY):
            try:
                return _chosen(self._verified(), query)
            except (ValueError, KeyError, TypeError, IndexError):
                # Somebody made a file that says that it is whole. What `where` raises is raised once more.
                self._rows = {}
                return _chosen(self._verified(), query)

    def forget(self, name: str) -> None:
        """See to it that nothing of a thread is kept of which something was deleted."""
        self._forgotten += 1  # nobody is to save what he has found before this
        if self._rows is None:
            self._rows = self._loaded()
        self._rows.pop(name, None)
        if os.path.exists(self._file):
            disk.remove(self._file)
            self._unsaved += self._size + 1

    def save(self) -> None:
        """Give other processes what was found, if that is worth it."""
        rows = self._rows
        if self._read_only or rows is None or self._unsaved * WORTH <= self._size:
            return
        forgotten = self._forgotten
        # A column after the other: that many short lists would take twice as long to be read.
        body = orjson.dumps([list(rows), *zip(*rows.values(), strict=True)])
        data = _head(body) + body
        if forgotten == self._forgotten:
            with suppress(OSError):
                disk.replace(self._file, data, safe=False)
                self._size, self._unsaved = len(data), 0

    def _loaded(self) -> dict[str, _Plain]:
        """What the file says."""
        try:
            data = disk.read(self._file)
        except OSError:
            return {}
        body = data[data.find(b"\n") + 1 :]
        if not data.startswith(_head(body)):
            return {}
        try:
            names, *columns = orjson.loads(body)
            rows = dict(zip(names, zip(*columns, strict=True), strict=True))
        except (ValueError, TypeError):
            return {}
        if len(columns) != len(Row._fields):
            return {}
        self._size = len(data)
        return rows

    def _verified(self) -> list[_Plain]:
        """What is so of every thread now."""
        old = self._rows
        if old is None:
            old = self._loaded()
        rows = {}
        for name in self._threads.names():
            known = old.get(name)
            path = self._threads.path(name)
            # In this order: whoever ends a run writes that down before the lease goes. Most threads have none, and
            # an exception would take as long as the look itself.
            lease = f"{path}{os.sep}{LEASE}"
            leased = disk.stamp(lease) if os.access(lease, os.F_OK) else disk.NO_FILE
            journal = disk.stamp(f"{path}{os.sep}{JOURNAL}")
            if known is None or known[0] != journal or known[1] != leased:
                if leased == journal == disk.NO_FILE:
                    continue  # nothing was stored there
                known = self._read(name, known, journal)
                if known is None:
                    continue
            rows[name] = known
        if old.keys() - rows.keys():
            self._unsaved += self._size + 1  # what is gone is to be gone
        self._rows = rows
        self.save()
        return list(rows.values())

    def _read(self, name: str, known: _Plain | None, journal: str) -> _Plain | None:
        """What a thread's own files say; None, after a warning, where they cannot be read."""
        # Who was listed before and has changed since is at work, and goes on from here the next time.
        folder = self._threads.named(name, remember=known is not None)
        try:
            held = folder.lease.held()
            if known is not None and known[0] == journal:
                self._unsaved += 1
                return tuple(_leased(Row(*known), folder.lease.stamp, held))
            with folder.reading() as contents:
                thread_id = folder.thread_id or (held.thread_id if held is not None else "")
                row = _leased(_row(contents, thread_id, "")._replace(journal=folder.stamp), folder.lease.stamp, held)
                self._unsaved += contents.size + 1
            if known is not None and row.checkpoints < Row(*known).checkpoints:
                self._unsaved += self._size + 1  # the same of what was deleted
            folder.report()
        except (DurableError, OSError) as error:
            warnings.warn(str(error), CorruptDataWarning, stacklevel=2)
            return None
        return tuple(row)


def _head(body: bytes) -> bytes:
    return b'{"sum":"%08x","version":%d}\n' % (zlib.crc32(body), VERSION)


def _of(folder: ThreadFolder, query: ThreadQuery) -> list[_Plain]:
    """The namespaces that a query asks for of one thread."""
    held = folder.lease.held()
    with folder.reading() as contents:
        thread_id = folder.thread_id or (held.thread_id if held is not None else "")
        names = [query.ns] if query.ns is not None else {"": None, **contents.standings.counts}
        rows = [_row(contents, thread_id, ns) for ns in names if _may_be(contents, ns, query, held is not None)]
    folder.report()
    return [_leased(row, disk.NO_FILE, held) for row in rows]


def _seen(folder: ThreadFolder, query: ThreadQuery) -> list[_Plain]:
    """The same; of a thread whose lease cannot be read there is a warning."""
    try:
        return _of(folder, query)
    except DurableError as error:
        warnings.warn(str(error), CorruptDataWarning, stacklevel=2)
        return []


def _leased(row: Row, stamp: str, held: Held | None) -> Row:
    """The row with a lease."""
    token, holder, stop = (None, "", False) if held is None else held.lease
    return row._replace(leased=stamp if held is not None else disk.NO_FILE, token=token, holder=holder, stop=stop)


def _may_be(contents: Contents, ns: str, query: ThreadQuery, leased: bool) -> bool:
    """Whether a namespace may stand as a query asks: of most it is not worth making a row."""
    standing = contents.standings.of.get(ns)
    return standing is None or query.status is None or leased or standing.status in query.status


def _row(contents: Contents, thread_id: str, ns: str) -> Row:
    """How a namespace stands."""
    nothing = Row("", "", None, "", False, thread_id, ns, None, "", 0.0, None, "{}", "null", 0, 0)
    standings = contents.standings
    standing = standings.of.get(ns)
    if standing is not None and standing.checkpoint_id:
        put = contents.put(ns, standing.checkpoint_id)
        return nothing._replace(
            rank=_STANDS,
            status=standing.status,
            updated=standing.updated,
            created=standing.created,
            metadata=put.found.metadata if put is not None else "{}",
            standing=said_standing(standing),
            checkpoints=sum(one.checkpoints for one in standings.of.values()),
            bytes=sum(one.bytes for one in standings.of.values()),
        )
    newest = next((put for put in contents.newest_first() if put.found.ns == ns), None)
    if newest is None:
        return nothing
    return nothing._replace(
        rank=_UNKNOWN,
        metadata=newest.found.metadata,
        checkpoints=sum(standings.counts.values()),
        bytes=sum(standings.bytes.values()),
    )


def _chosen(rows: Iterable[_Plain], query: ThreadQuery) -> list[Stood]:
    """What a query asks for of these rows."""
    behind = None
    if query.after is not None:
        rank, value, thread_id = query.after
        behind = _key(rank, value, thread_id)
    waiting: list[tuple[_Key, str, int, Row]] = []
    for number, row in enumerate(map(Row._make, rows)):
        rank = row.rank
        if rank is None:
            if row.token is None or query.ns != "":
                continue
            rank = _ONLY_LEASED
        elif rank == _UNKNOWN:
            if row.ns != (query.ns or ""):
                continue
        elif query.status is not None and row.token is None and row.status not in query.status:
            continue
        key = _key(rank, _value(rank, row, query.order), row.thread_id)
        if behind is None or key > behind:
            waiting.append((key, row.ns, number, row))
    heapq.heapify(waiting)
    found: list[Stood] = []
    while waiting and (query.limit is None or len(found) < query.limit):
        (rank, *_), _, _, row = heapq.heappop(waiting)
        if query.where is not None and rank != _ONLY_LEASED and not query.where(row.metadata):
            continue
        said = orjson.loads(row.standing)
        found.append(
            Stood(
                row.thread_id,
                row.ns,
                None if said is None else standing_of(said),
                None if row.token is None else Lease(row.token, row.holder, row.stop),
                row.checkpoints,
                row.bytes,
                (rank, _value(rank, row, query.order), row.thread_id),
            )
        )
    return found


def _value(rank: int, row: Row, order: str) -> float | None:
    """What a place in the order says besides the thread."""
    if rank != _STANDS or order == "id":
        return None
    return row.updated if order == "updated" else row.created


def _key(rank: int, value: float | None, thread_id: str) -> _Key:
    """What the order goes by: the last first, and those of whom no time is known behind them."""
    return (rank, value is None, 0.0 if value is None else -value, thread_id)
