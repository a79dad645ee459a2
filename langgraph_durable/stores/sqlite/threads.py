"""What happens to whole threads: taken away, thinned out, copied. No value is decoded for it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence

from langgraph_durable.core.records import CopyThread, Ref, Stored
from langgraph_durable.core.status import copied
from langgraph_durable.errors import InvalidRequestError
from langgraph_durable.stores.base import Outcome
from langgraph_durable.stores.sqlite.keys import checkpoint_ids, last_key, namespace_key, new_epoch, new_thread
from langgraph_durable.stores.sqlite.official import OfficialTables
from langgraph_durable.stores.sqlite.refs import packed, unpacked
from langgraph_durable.stores.sqlite.standings import keep, standing_of, unwritten
from langgraph_durable.stores.sqlite.tombstones import bury, exhume


def delete_thread(
    cursor: sqlite3.Cursor, official: OfficialTables | None, thread_id: str, thread: tuple[int, int] | None
) -> Outcome:
    """Take everything of a thread away, in both sets of tables; `thread` is its key and epoch in ours."""
    cursor.execute("DELETE FROM durable_leases WHERE thread = ?", (thread_id,))
    if official:
        bury(cursor, thread_id, official.ids(cursor, thread_id))
        official.delete_thread(cursor, thread_id)
    if thread is None:
        return Stored(0, ())
    key = thread[0]
    bury(cursor, thread_id, checkpoint_ids(cursor, key))
    namespaces = "SELECT key FROM durable_namespaces WHERE thread = ?"
    for statement in (
        f"DELETE FROM durable_writes WHERE namespace IN ({namespaces})",  # noqa: S608
        f"DELETE FROM durable_checkpoints WHERE namespace IN ({namespaces})",  # noqa: S608
        f"DELETE FROM durable_standings WHERE namespace IN ({namespaces})",  # noqa: S608
        f"DELETE FROM durable_next WHERE namespace IN ({namespaces})",  # noqa: S608
        f"DELETE FROM durable_tags WHERE namespace IN ({namespaces})",  # noqa: S608
        "DELETE FROM durable_elements WHERE list IN (SELECT key FROM durable_lists WHERE thread = ?)",
        "DELETE FROM durable_lists WHERE thread = ?",
        "DELETE FROM durable_chunks WHERE thread = ?",
        "DELETE FROM durable_namespaces WHERE thread = ?",
        "DELETE FROM durable_threads WHERE key = ?",
    ):
        cursor.execute(statement, (key,))
    return Stored(0, ())


def delete_checkpoints(
    cursor: sqlite3.Cursor,
    official: OfficialTables | None,
    thread_id: str,
    checkpoints: Sequence[tuple[str, str]],
    thread: tuple[int, int] | None,
) -> Outcome:
    """Take some checkpoints away, and what nothing names without them."""
    bury(cursor, thread_id, checkpoints)
    if official:
        official.delete(cursor, thread_id, checkpoints)
    if thread is None:
        return Stored(0, ())
    key = thread[0]
    keys = cursor.execute("SELECT ns, key FROM durable_namespaces WHERE thread = ?", (key,)).fetchall()
    namespaces: dict[str, int] = dict(keys)
    for ns, checkpoint_id in checkpoints:
        row = (namespaces.get(ns), checkpoint_id)
        cursor.execute("DELETE FROM durable_writes WHERE namespace = ? AND checkpoint = ?", row)
        cursor.execute("DELETE FROM durable_checkpoints WHERE namespace = ? AND id = ?", row)
        cursor.execute("DELETE FROM durable_tags WHERE namespace = ? AND checkpoint = ?", row)
    if not checkpoint_ids(cursor, key):
        return delete_thread(cursor, None, thread_id, thread)
    _collect(cursor, key)
    for namespace in namespaces.values():
        _settle_standing(cursor, namespace)
    epoch = new_epoch()
    cursor.execute("UPDATE durable_threads SET epoch = ? WHERE key = ?", (epoch, key))
    return Stored(epoch, ())


def _settle_standing(cursor: sqlite3.Cursor, namespace: int) -> None:
    """Count anew what is left; a namespace whose newest checkpoint went stands unknown."""
    cursor.execute(
        "DELETE FROM durable_next WHERE namespace = ? AND checkpoint NOT IN (SELECT key FROM durable_checkpoints)",
        (namespace,),
    )
    known = standing_of(cursor, namespace)
    if known is None:
        return
    serial, standing = known
    row = cursor.execute(
        "SELECT 1 FROM durable_checkpoints WHERE namespace = ? AND id = ?", (namespace, standing.checkpoint_id)
    ).fetchone()
    if row is None and standing.checkpoint_id:
        cursor.execute("DELETE FROM durable_standings WHERE namespace = ?", (namespace,))
        return
    checkpoints, size = unwritten(cursor, namespace)
    keep(cursor, namespace, serial + 1, standing._replace(checkpoints=checkpoints, bytes=size))


def _copy_standings(cursor: sqlite3.Cursor, old: int, new: int) -> None:
    """Copy how a namespace stands; nobody runs the copy."""
    cursor.execute(
        """INSERT INTO durable_next (namespace, node, checkpoint)
        SELECT ?, x.node, n.key FROM durable_next x JOIN durable_checkpoints o ON o.key = x.checkpoint
        JOIN durable_checkpoints n ON n.namespace = ? AND n.id = o.id WHERE x.namespace = ?""",
        (new, new, old),
    )
    cursor.execute(
        """INSERT INTO durable_tags (namespace, checkpoint, status)
        SELECT ?, checkpoint, status FROM durable_tags WHERE namespace = ?""",
        (new, old),
    )
    known = standing_of(cursor, old)
    if known is not None:
        keep(cursor, new, 1, copied(known[1]))


def _collect(cursor: sqlite3.Cursor, thread: int) -> None:
    """Take away the thread's chunks and elements that no checkpoint and no write names any more."""
    chunks: set[int] = set()
    runs: dict[int, list[tuple[int, int]]] = {}
    try:
        named = list(_refs(cursor, thread))
    except (ValueError, TypeError):
        return  # a damaged row of the thread hides what it names: nothing can be said to be named no more
    for ref in named:
        if isinstance(ref, int):
            chunks.add(ref)
        elif ref and isinstance(ref[0], tuple):
            for key, start, stop in ref:
                runs.setdefault(key, []).append((start, stop))
        elif ref and isinstance(ref[0], int):
            chunks.update(ref[0::2])
    for (key,) in cursor.execute("SELECT key FROM durable_lists WHERE thread = ?", (thread,)).fetchall():
        end = 0
        for start, stop in sorted(runs.get(key, ())):
            if start > end:
                _drop_elements(cursor, key, end, start)
            end = max(end, stop)
        _drop_elements(cursor, key, end, None)
        if key not in runs:
            cursor.execute("DELETE FROM durable_lists WHERE key = ?", (key,))
    cursor.execute("CREATE TEMP TABLE IF NOT EXISTS durable_named (key INTEGER PRIMARY KEY)")
    cursor.execute("DELETE FROM durable_named")
    cursor.executemany("INSERT INTO durable_named (key) VALUES (?)", [(chunk,) for chunk in chunks])
    cursor.execute(
        """DELETE FROM durable_chunks WHERE thread = :thread AND key NOT IN (SELECT key FROM durable_named)
            AND key NOT IN (SELECT e.chunk FROM durable_lists l JOIN durable_elements e ON e.list = l.key
                            WHERE l.thread = :thread)""",
        {"thread": thread},
    )


def _drop_elements(cursor: sqlite3.Cursor, key: int, start: int, stop: int | None) -> None:
    cursor.execute(
        "DELETE FROM durable_elements WHERE list = ? AND position >= ? AND position < coalesce(?, position + 1)",
        (key, start, stop),
    )


def copy_thread(
    cursor: sqlite3.Cursor,
    official: OfficialTables | None,
    source_id: str,
    work: CopyThread,
    source: tuple[int, int] | None,
) -> Outcome:
    """Copy everything of a thread, refs translated to the keys of the copies."""
    target_id = work.target
    taken = cursor.execute("SELECT key FROM durable_threads WHERE id = ?", (target_id,)).fetchone()
    if taken is not None or (official and official.has_thread(cursor, target_id)):
        return InvalidRequestError(
            f"cannot copy thread {source_id!r} to {target_id!r}: that thread has checkpoints already. "
            "Choose another id, or delete it first"
        )
    if official:
        exhume(cursor, target_id, official.ids(cursor, source_id))
        official.copy(cursor, source_id, target_id)
    if source is None:
        return Stored(0, ())
    old = source[0]
    exhume(cursor, target_id, checkpoint_ids(cursor, old))
    new, epoch = new_thread(cursor, target_id)
    cursor.execute(
        """INSERT INTO durable_chunks (thread, digest, kind, data)
        SELECT ?, digest, kind, data FROM durable_chunks WHERE thread = ? ORDER BY key""",
        (new, old),
    )
    pairs = cursor.execute(
        """SELECT o.key, n.key FROM durable_chunks o JOIN durable_chunks n ON n.thread = ? AND n.digest = o.digest
        WHERE o.thread = ?""",
        (new, old),
    ).fetchall()
    chunks: dict[int, int] = dict(pairs)
    lists: dict[int, int] = {}
    for (key,) in cursor.execute("SELECT key FROM durable_lists WHERE thread = ?", (old,)).fetchall():
        cursor.execute("INSERT INTO durable_lists (thread) VALUES (?)", (new,))
        lists[key] = last_key(cursor)
        rows = cursor.execute("SELECT position, count, chunk FROM durable_elements WHERE list = ?", (key,)).fetchall()
        cursor.executemany(
            "INSERT INTO durable_elements (list, position, count, chunk) VALUES (?, ?, ?, ?)",
            [(lists[key], position, count, chunks[chunk]) for position, count, chunk in rows],
        )
    namespaces: dict[int, int] = {}
    for key, ns in cursor.execute("SELECT key, ns FROM durable_namespaces WHERE thread = ?", (old,)).fetchall():
        namespaces[key] = namespace_key(cursor, new, ns)
    for row in cursor.execute(
        """SELECT key, namespace, id, parent, run, metadata, exact_kind, exact, head_kind, head, parts
        FROM durable_checkpoints WHERE namespace IN (SELECT key FROM durable_namespaces WHERE thread = ?)
        ORDER BY key""",
        (old,),
    ).fetchall():
        parts = packed([_moved(ref, chunks, lists) for ref in unpacked(row[10])])
        cursor.execute(
            """INSERT INTO durable_checkpoints
                (namespace, id, parent, run, metadata, exact_kind, exact, head_kind, head, parts)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)""",
            (namespaces[row[1]], *row[2:10], parts),
        )
    for old_namespace, new_namespace in namespaces.items():
        _copy_standings(cursor, old_namespace, new_namespace)
    for namespace, checkpoint_id, position, task_id, task_path, replaces, entries in cursor.execute(
        """SELECT namespace, checkpoint, position, task_id, task_path, replaces, entries FROM durable_writes
        WHERE namespace IN (SELECT key FROM durable_namespaces WHERE thread = ?)""",
        (old,),
    ).fetchall():
        moved = [(index, channel, _moved(ref, chunks, lists)) for index, channel, ref in unpacked(entries)]
        cursor.execute(
            """INSERT INTO durable_writes (namespace, checkpoint, position, task_id, task_path, replaces, entries)
            VALUES (?, ?, ?, ?, ?, ?, ?)""",
            (namespaces[namespace], checkpoint_id, position, task_id, task_path, replaces, packed(moved)),
        )
    return Stored(epoch, ())


def _moved(ref: Ref, chunks: dict[int, int], lists: dict[int, int]) -> Ref:
    """The same ref in the copy."""
    if isinstance(ref, int):
        return chunks[ref]
    if ref and isinstance(ref[0], tuple):
        return tuple((lists[key], start, stop) for key, start, stop in ref)
    if ref and isinstance(ref[0], int):
        return tuple(number if place % 2 else chunks[number] for place, number in enumerate(ref))
    return ref


def _refs(cursor: sqlite3.Cursor, thread: int) -> Iterable[Ref]:
    mine = "SELECT key FROM durable_namespaces WHERE thread = ?"
    for (parts,) in cursor.execute(
        f"SELECT parts FROM durable_checkpoints WHERE namespace IN ({mine})",  # noqa: S608
        (thread,),
    ).fetchall():
        yield from unpacked(parts)
    for (entries,) in cursor.execute(
        f"SELECT entries FROM durable_writes WHERE namespace IN ({mine})",  # noqa: S608
        (thread,),
    ).fetchall():
        for _, _, ref in unpacked(entries):
            yield ref
