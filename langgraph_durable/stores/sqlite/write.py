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

from langgraph_durable.core.records import (
    Batch,
    DeleteCheckpoints,
    DeleteThread,
    PutCheckpoint,
    PutWrites,
    Ref,
    Stale,
    Stored,
)
from langgraph_durable.stores.base import Outcome
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
from langgraph_durable.stores.sqlite.official import OfficialTables
from langgraph_durable.stores.sqlite.refs import packed
from langgraph_durable.stores.sqlite.rows import AtOnce, Singly
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
    parts = Parts(rows, place, batch)
    if isinstance(work, PutCheckpoint):
        refs, values = _checkpoint_row(parts, work)
        rows.checkpoint(place, work.id, values)
    else:
        refs, values = _write_row(parts, work)
        rows.write(place, work.checkpoint_id, values)
    return Stored(place.epoch, refs, parts.chunks)


def apply(cursor: sqlite3.Cursor, keys: Keys, official: OfficialTables | None, batch: Batch) -> Outcome:
    """Write one batch, looking everything up, or answer why not."""
    work = batch.work
    if isinstance(work, PutCheckpoint):
        return _put_checkpoint(cursor, keys, official, batch, work)
    if isinstance(work, PutWrites):
        outcome = _put_writes(cursor, keys, batch, work)
        if isinstance(outcome, Stale) and batch.whole is not None:
            return apply(cursor, keys, official, batch.whole())
        return outcome
    keys.clear()
    thread = cursor.execute("SELECT key, epoch FROM durable_threads WHERE id = ?", (batch.thread_id,)).fetchone()
    if isinstance(work, DeleteThread):
        return delete_thread(cursor, official, batch.thread_id, thread)
    if isinstance(work, DeleteCheckpoints):
        return delete_checkpoints(cursor, official, batch.thread_id, work.checkpoints, thread)
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
    concerned = [work.id, work.parent] if work.parent else [work.id]
    place = _place(cursor, keys, batch, work.ns, concerned, refused=None if work.copied else work.parent)
    if not isinstance(place, Place):
        return place
    parts = Parts(Singly(cursor, keys), place, batch)
    refs, values = _checkpoint_row(parts, work)
    cursor.execute(
        """INSERT INTO durable_checkpoints
            (namespace, id, parent, run, metadata, exact_kind, exact, head_kind, head, parts)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING""",
        (place.namespace, work.id, *values),
    )
    if cursor.rowcount == 1:
        keys.next_checkpoint = last_key(cursor) + 1
    else:
        # It was put before, and its place in the order stays.
        cursor.execute(
            """UPDATE durable_checkpoints SET parent = ?, run = ?, metadata = ?, exact_kind = ?, exact = ?,
                head_kind = ?, head = ?, parts = ? WHERE namespace = ? AND id = ?""",
            (*values, place.namespace, work.id),
        )
    return Stored(place.epoch, refs, parts.chunks)


def _put_writes(cursor: sqlite3.Cursor, keys: Keys, batch: Batch, work: PutWrites) -> Outcome:
    place = _place(cursor, keys, batch, work.ns, [work.checkpoint_id], refused=work.checkpoint_id)
    if not isinstance(place, Place):
        return place
    parts = Parts(Singly(cursor, keys), place, batch)
    refs, values = _write_row(parts, work)
    cursor.execute(
        """INSERT INTO durable_writes (namespace, checkpoint, position, task_id, task_path, replaces, entries)
        SELECT ?, ?, coalesce(max(position), 0) + 1, ?, ?, ?, ?
        FROM durable_writes WHERE namespace = ? AND checkpoint = ?""",
        (place.namespace, work.checkpoint_id, *values, place.namespace, work.checkpoint_id),
    )
    return Stored(place.epoch, refs, parts.chunks)


def _place(
    cursor: sqlite3.Cursor, keys: Keys, batch: Batch, ns: str, concerned: Sequence[str], *, refused: str | None
) -> Place | Outcome:
    """Where the batch goes, made if need be; or the refusal, when the checkpoint `refused` was deleted.

    Any other of the `concerned` checkpoints that was deleted is on its way to being stored again.
    """
    thread, epoch, namespace, tombstones = look_up(cursor, batch.thread_id, ns)
    if batch.epoch is not None and epoch != batch.epoch:
        return Stale()
    if tombstones:
        gone = buried(cursor, batch.thread_id, ns, concerned)
        if refused in gone:
            return refusal(batch.thread_id, refused or "")
        exhume(cursor, batch.thread_id, [(ns, checkpoint_id) for checkpoint_id in gone if checkpoint_id])
    if thread is None or epoch is None:
        thread, epoch = new_thread(cursor, batch.thread_id)
    if namespace is None:
        namespace = namespace_key(cursor, thread, ns)
    place = Place(thread, epoch, namespace, tombstones)
    keys.learn_place(batch.thread_id, ns, place)
    return place
