"""A batch becomes rows, inside a transaction that somebody else begins and commits.

What a batch rests on is checked before its first row is written, so that a refused batch needs no undoing. An error
of SQLite in the middle does: the transaction has to be rolled back, and the other batches in it applied again.
There are two ways to the same rows: `apply_at_once` for what goes on from what this process stored before, which is
nearly everything, and `apply`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from langgraph_durable.core import status
from langgraph_durable.core.records import (
    Batch,
    DeleteCheckpoints,
    DeleteThread,
    EndLease,
    Event,
    Fenced,
    KeepLease,
    Leased,
    PutCheckpoint,
    PutWrites,
    Ref,
    Stale,
    Standing,
    StopLease,
    Stored,
    TakeLease,
)
from langgraph_durable.stores.base import Outcome, fences
from langgraph_durable.stores.parts import Parts
from langgraph_durable.stores.sqlite.keys import (
    Keys,
    OutdatedError,
    Place,
    last_key,
    look_up,
    namespace_key,
    new_thread,
)
from langgraph_durable.stores.sqlite.leases import change, find
from langgraph_durable.stores.sqlite.official import OfficialTables
from langgraph_durable.stores.sqlite.refs import packed
from langgraph_durable.stores.sqlite.rows import AtOnce, Singly
from langgraph_durable.stores.sqlite.standings import (
    keep,
    keep_next,
    keep_tag,
    next_rows,
    standing_of,
    unwritten,
)
from langgraph_durable.stores.sqlite.threads import copy_thread, delete_checkpoints, delete_thread
from langgraph_durable.stores.sqlite.tombstones import buried, exhume, refusal


def apply_at_once(rows: AtOnce, keys: Keys, batch: Batch) -> Outcome:
    """Collect the rows of one batch. OutdatedError when something would have to be looked up for it."""
    work = batch.work
    if not isinstance(work, (PutCheckpoint, PutWrites)):
        raise OutdatedError
    place = keys.place(batch.thread_id, work.ns, batch.epoch)
    if place is None or place.tombstones:
        raise OutdatedError
    standing = rows.standing(place)
    rows.check(place, batch.thread_id, batch.token)
    parts = Parts(rows, place, batch)
    if isinstance(work, PutCheckpoint):
        if work.mark is None:
            raise OutdatedError
        refs, values = _checkpoint_row(parts, work)
        rows.checkpoint(place, work.id, values, next_rows(work.mark))
        size = _size(batch, work)
        rows.stands(place, status.put(standing, work.mark, work.id, work.parent, work.run_id, size, again=False))
    else:
        if work.event is not None:
            raise OutdatedError
        refs, values = _write_row(parts, work)
        rows.write(place, work.checkpoint_id, values)
        rows.stands(place, standing._replace(bytes=standing.bytes + _size(batch, work)))
    return Stored(place.epoch, refs, parts.chunks)


def apply(cursor: sqlite3.Cursor, keys: Keys, official: OfficialTables | None, batch: Batch) -> Outcome:
    """Write one batch, looking everything up, or answer why not."""
    work = batch.work
    if isinstance(work, PutCheckpoint):
        return _put_checkpoint(cursor, keys, official, batch, work)
    if isinstance(work, PutWrites):
        outcome = _put_writes(cursor, keys, official, batch, work)
        if isinstance(outcome, Stale) and batch.whole is not None:
            return apply(cursor, keys, official, batch.whole()._replace(token=batch.token))
        return outcome
    if isinstance(work, (TakeLease, KeepLease, StopLease, EndLease)):
        changed = change(cursor, batch.thread_id, work)
        if isinstance(work, EndLease) and work.event is not None and isinstance(changed, Leased):
            _end(cursor, keys, batch.thread_id, work.ns, work.event)
        return changed
    keys.clear()
    thread = cursor.execute("SELECT key, epoch FROM durable_threads WHERE id = ?", (batch.thread_id,)).fetchone()
    if isinstance(work, DeleteThread):
        return delete_thread(cursor, official, batch.thread_id, thread)
    if isinstance(work, DeleteCheckpoints):
        return delete_checkpoints(cursor, official, batch.thread_id, work.checkpoints, thread)
    lease = find(cursor, work.target)
    if fences(lease, batch.token):
        return Fenced(lease)
    return copy_thread(cursor, official, batch.thread_id, work, thread)


def _checkpoint_row(parts: Parts[Place], work: PutCheckpoint) -> tuple[tuple[Ref, ...], tuple[Any, ...]]:
    """The refs of a checkpoint, and its columns from `parent` on."""
    refs = tuple(parts.ref(part, versioned=True) for part in work.parts)
    exact = work.exact_metadata or (None, None)
    return refs, (work.parent, work.run_id, work.metadata, *exact, *work.head, packed(refs))


def _write_row(parts: Parts[Place], work: PutWrites) -> tuple[tuple[Ref, ...], tuple[Any, ...]]:
    """The refs of a task's writes, and their columns from `task_id` on."""
    entries = [(index, channel, parts.ref(part, versioned=False)) for index, channel, part in work.entries]
    refs = tuple(ref for _, _, ref in entries)
    return refs, (work.task_id, work.task_path, int(work.replaces), packed(entries))


def _put_checkpoint(
    cursor: sqlite3.Cursor, keys: Keys, official: OfficialTables | None, batch: Batch, work: PutCheckpoint
) -> Outcome:
    concerned = [work.id, work.parent] if work.parent and not work.copied else [work.id]
    place = _place(cursor, keys, batch, work.ns, concerned, refused=None if work.copied else work.parent)
    if not isinstance(place, Place):
        return place
    serial, standing = _standing(cursor, place.namespace)
    parts = Parts(Singly(cursor, keys), place, batch)
    refs, values = _checkpoint_row(parts, work)
    cursor.execute(
        """INSERT INTO durable_checkpoints
            (namespace, id, parent, run, metadata, exact_kind, exact, head_kind, head, parts)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING""",
        (place.namespace, work.id, *values),
    )
    again = cursor.rowcount != 1
    if again:
        # It was put before, and its place in the order stays.
        cursor.execute(
            """UPDATE durable_checkpoints SET parent = ?, run = ?, metadata = ?, exact_kind = ?, exact = ?,
                head_kind = ?, head = ?, parts = ? WHERE namespace = ? AND id = ?""",
            (*values, place.namespace, work.id),
        )
        (key,) = cursor.execute(
            "SELECT key FROM durable_checkpoints WHERE namespace = ? AND id = ?", (place.namespace, work.id)
        ).fetchone()
        cursor.execute("DELETE FROM durable_next WHERE namespace = ? AND checkpoint = ?", (place.namespace, key))
    else:
        key = last_key(cursor)
        keys.next_checkpoint = key + 1
    if work.mark is not None:
        keep_next(cursor, place.namespace, key, work.mark)
    # Of one that is put again, where nobody wrote down how the namespace stands, it is not known whether it is newest.
    if work.mark is not None and (standing is not None or not again):
        if standing is None:
            standing = _unwritten(cursor, official, batch.thread_id, place, work)
        size = _size(batch, work)
        stands = status.put(standing, work.mark, work.id, work.parent, work.run_id, size, again=again)
        keep(cursor, place.namespace, serial + 1, stands)
        keys.learn_standing(place, serial + 1, stands)
    elif standing is not None and not again:
        cursor.execute("DELETE FROM durable_standings WHERE namespace = ?", (place.namespace,))
    return _stored(cursor, batch, place, refs, parts)


def _put_writes(
    cursor: sqlite3.Cursor, keys: Keys, official: OfficialTables | None, batch: Batch, work: PutWrites
) -> Outcome:
    place = _place(cursor, keys, batch, work.ns, [work.checkpoint_id], refused=work.checkpoint_id)
    if not isinstance(place, Place):
        return place
    serial, standing = _standing(cursor, place.namespace)
    parts = Parts(Singly(cursor, keys), place, batch)
    refs, values = _write_row(parts, work)
    cursor.execute(
        """INSERT INTO durable_writes (namespace, checkpoint, position, task_id, task_path, replaces, entries)
        SELECT ?, ?, coalesce(max(position), 0) + 1, ?, ?, ?, ?
        FROM durable_writes WHERE namespace = ? AND checkpoint = ?""",
        (place.namespace, work.checkpoint_id, *values, place.namespace, work.checkpoint_id),
    )
    stands = None
    if standing is not None or not _has_checkpoints(cursor, official, batch.thread_id, place, work):
        stands = status.wrote(standing, work.event, work.checkpoint_id, _size(batch, work))
    if stands is not None:
        keep(cursor, place.namespace, serial + 1, stands)
        keys.learn_standing(place, serial + 1, stands)
    if work.event is not None:
        keep_tag(cursor, place.namespace, work.checkpoint_id, status.tag_of(work.event))
    return _stored(cursor, batch, place, refs, parts)


def _end(cursor: sqlite3.Cursor, keys: Keys, thread_id: str, ns: str, event: Event) -> None:
    """Write down how a run ended."""
    row = cursor.execute(
        """SELECT n.key FROM durable_threads t JOIN durable_namespaces n ON n.thread = t.key AND n.ns = ?
        WHERE t.id = ?""",
        (ns, thread_id),
    ).fetchone()
    known = None if row is None else standing_of(cursor, row[0])
    if known is None:
        return  # the thread was deleted, or nothing was stored of it
    serial, standing = known
    keep(cursor, row[0], serial + 1, status.ended(standing, event))
    keep_tag(cursor, row[0], standing.checkpoint_id, status.tag_of(event))


def _standing(cursor: sqlite3.Cursor, namespace: int) -> tuple[int, Standing | None]:
    return standing_of(cursor, namespace) or (0, None)


def _unwritten(
    cursor: sqlite3.Cursor, official: OfficialTables | None, thread_id: str, place: Place, work: PutCheckpoint
) -> Standing | None:
    """How a namespace stood that may be older than standings; None for one that is new."""
    assert work.mark is not None
    count, size = unwritten(cursor, place.namespace)
    older = count > 1 or (official is not None and official.count(cursor, thread_id, work.ns))
    return status.unknown(work.mark.time, count - 1, size) if older else None


def _has_checkpoints(
    cursor: sqlite3.Cursor, official: OfficialTables | None, thread_id: str, place: Place, work: PutWrites
) -> bool:
    if work.event is None:
        return True  # nothing to write down
    if official is not None and official.count(cursor, thread_id, work.ns):
        return True
    row = cursor.execute("SELECT 1 FROM durable_checkpoints WHERE namespace = ? LIMIT 1", (place.namespace,))
    return row.fetchone() is not None


def _stored(cursor: sqlite3.Cursor, batch: Batch, place: Place, refs: tuple[Ref, ...], parts: Parts[Place]) -> Stored:
    lease = find(cursor, batch.thread_id) if batch.token is not None else None
    return Stored(place.epoch, refs, parts.chunks, stop=lease is not None and lease.stop)


def _size(batch: Batch, work: PutCheckpoint | PutWrites) -> int:
    """Bytes that a batch brings."""
    size = sum(len(chunk.data) for chunk in batch.chunks)
    if isinstance(work, PutCheckpoint):
        size += len(work.metadata) + len(work.head.data)
    return size


def _place(
    cursor: sqlite3.Cursor, keys: Keys, batch: Batch, ns: str, concerned: Sequence[str], *, refused: str | None
) -> Place | Outcome:
    """Where the batch goes, made if need be; or the refusal, when the checkpoint `refused` was deleted.

    Any other of the `concerned` checkpoints that was deleted is on its way to being stored again.
    """
    thread, epoch, namespace, tombstones = look_up(cursor, batch.thread_id, ns)
    if batch.epoch is not None and epoch != batch.epoch:
        return Stale()
    gone = buried(cursor, batch.thread_id, ns, concerned) if tombstones else set()
    if refused in gone:
        return refusal(batch.thread_id, refused or "")
    lease = find(cursor, batch.thread_id)
    if fences(lease, batch.token):
        return Fenced(lease)
    if gone:
        exhume(cursor, batch.thread_id, [(ns, checkpoint_id) for checkpoint_id in gone if checkpoint_id])
    if thread is None or epoch is None:
        thread, epoch = new_thread(cursor, batch.thread_id)
    if namespace is None:
        namespace = namespace_key(cursor, thread, ns)
    place = Place(thread, epoch, namespace, tombstones)
    keys.learn_place(batch.thread_id, ns, place)
    return place
