"""How namespaces stand: a row each, changed with every batch, that tells of a thread without reading anything else."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import Any

import ormsgpack

from langgraph_durable.core.records import Event, Inline, Mark, Standing, Stood, ThreadQuery
from langgraph_durable.stores.sqlite.leases import lease_of
from langgraph_durable.stores.sqlite.official import OfficialTables

NOWHERE = ""
"""The node that is next where none is."""

_COLUMNS = "s.status, s.created, s.updated, s.checkpoints, s.bytes, s.newest, s.about"
_ORDERS = {"updated": "s.updated DESC, t.id", "created": "s.created DESC, t.id", "id": "t.id"}
_BEHIND = {
    "updated": "(s.updated < :value OR (s.updated = :value AND t.id > :id))",
    "created": """(s.created < :value OR (s.created IS :value AND t.id > :id)
        OR (s.created IS NULL AND :value IS NOT NULL))""",
    "id": "t.id > :id",
}


def standing_of(cursor: sqlite3.Cursor, namespace: int) -> tuple[int, Standing] | None:
    """The serial and the standing of a namespace."""
    row = cursor.execute(
        f"SELECT s.serial, {_COLUMNS} FROM durable_standings s WHERE s.namespace = ?",  # noqa: S608
        (namespace,),
    ).fetchone()
    standing = None if row is None else _standing(row[1:])
    return None if standing is None else (row[0], standing)


def values_of(standing: Standing) -> tuple[Any, ...]:
    """The columns of a standing from `status` on."""
    ahead = None if standing.ahead is None else [standing.ahead[0], _plain(standing.ahead[1])]
    about = ormsgpack.packb(
        [
            standing.reason,
            standing.nodes,
            None if standing.error is None else tuple(standing.error),
            standing.step,
            standing.run_id,
            standing.by,
            standing.messages,
            ahead,
        ]
    )
    return (
        standing.status,
        standing.created,
        standing.updated,
        standing.checkpoints,
        standing.bytes,
        standing.checkpoint_id,
        about,
    )


def keep(cursor: sqlite3.Cursor, namespace: int, serial: int, standing: Standing) -> None:
    """Keep the standing of a namespace."""
    cursor.execute(
        """INSERT OR REPLACE INTO durable_standings
            (namespace, serial, status, created, updated, checkpoints, bytes, newest, about)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)""",
        (namespace, serial, *values_of(standing)),
    )


def unwritten(cursor: sqlite3.Cursor, namespace: int) -> tuple[int, int]:
    """(checkpoints, bytes) of a namespace whose standing nobody has written down, and which may have some."""
    (count,) = cursor.execute("SELECT count(*) FROM durable_checkpoints WHERE namespace = ?", (namespace,)).fetchone()
    return count, bytes_of(cursor, namespace)


def bytes_of(cursor: sqlite3.Cursor, namespace: int) -> int:
    """The bytes of what a namespace has for itself, and, for the one without a name, of the thread's values."""
    (own,) = cursor.execute(
        """SELECT coalesce(sum(length(metadata) + length(head) + length(parts)), 0) FROM durable_checkpoints
        WHERE namespace = ?""",
        (namespace,),
    ).fetchone()
    (values,) = cursor.execute(
        """SELECT coalesce(sum(length(data)), 0) FROM durable_chunks
        WHERE thread = (SELECT thread FROM durable_namespaces WHERE key = ? AND ns = '')""",
        (namespace,),
    ).fetchone()
    return int(own) + int(values)


def next_rows(made: Mark | None) -> Sequence[str]:
    """The nodes of the rows that say what is next after a checkpoint."""
    return () if made is None else tuple(dict.fromkeys(made.next)) or (NOWHERE,)


def keep_next(cursor: sqlite3.Cursor, namespace: int, checkpoint: int, made: Mark | None) -> None:
    """Write down what is next after a checkpoint, by its key."""
    cursor.executemany(
        "INSERT OR IGNORE INTO durable_next (namespace, node, checkpoint) VALUES (?, ?, ?)",
        [(namespace, node, checkpoint) for node in next_rows(made)],
    )


def keep_tag(cursor: sqlite3.Cursor, namespace: int, checkpoint_id: str, status: str) -> None:
    """Tag a checkpoint; that something failed there stays told, whatever else happened."""
    if status:
        cursor.execute(
            """INSERT INTO durable_tags (namespace, checkpoint, status) VALUES (?, ?, ?)
            ON CONFLICT DO UPDATE SET status = excluded.status WHERE status != 'error'""",
            (namespace, checkpoint_id, status),
        )


def node_before(cursor: sqlite3.Cursor, thread_id: str, ns: str, node: str, occurrence: int) -> str | None:
    """The checkpoint before which a node was next for the `occurrence`-th time."""
    order, skip = ("DESC", -occurrence - 1) if occurrence < 0 else ("ASC", occurrence)
    row = cursor.execute(
        f"""SELECT c.id FROM durable_threads t JOIN durable_namespaces n ON n.thread = t.key AND n.ns = ?
        JOIN durable_next x ON x.namespace = n.key AND x.node = ?
        JOIN durable_checkpoints c ON c.key = x.checkpoint
        WHERE t.id = ? ORDER BY x.checkpoint {order} LIMIT 1 OFFSET ?""",  # noqa: S608
        (ns, node, thread_id, skip),
    ).fetchone()
    return None if row is None else str(row[0])


def stood(cursor: sqlite3.Cursor, official: OfficialTables | None, query: ThreadQuery) -> list[Stood]:
    """How threads stand: those that only have a lease, those with a standing, and those of whom it is not known.

    What an official saver stored of a thread is in no standing, and counted here.
    """
    found = _in_order(cursor, official, query)
    if official is None:
        return found
    return [one._replace(checkpoints=one.checkpoints + official.count(cursor, one.thread_id)) for one in found]


def _in_order(cursor: sqlite3.Cursor, official: OfficialTables | None, query: ThreadQuery) -> list[Stood]:
    rank, value, after = query.after or (0, None, None)
    found: list[Stood] = []
    if query.thread_id is not None and query.after is None:
        known = _with_standings(cursor, official, query, None, query.limit)
        if known:
            return known
    parts: tuple[Callable[..., list[Stood]], ...] = (_only_leased, _with_standings, _unknown)
    for part, read in enumerate(parts):
        if part < rank:
            continue
        left = None if query.limit is None else query.limit - len(found)
        if left == 0:
            break
        behind = (value, after) if part == rank and query.after else None
        found += read(cursor, official, query, behind, left)
    return found


def _only_leased(
    cursor: sqlite3.Cursor, official: OfficialTables | None, query: ThreadQuery, behind: Any, limit: int | None
) -> list[Stood]:
    if query.ns != "":
        return []
    rows = cursor.execute(
        """SELECT l.thread, l.token, l.holder, l.stop FROM durable_leases l
        WHERE (:thread IS NULL OR l.thread = :thread) AND (:after IS NULL OR l.thread > :after)
          AND NOT EXISTS (SELECT 1 FROM durable_threads t JOIN durable_namespaces n ON n.thread = t.key
                          JOIN durable_checkpoints c ON c.namespace = n.key WHERE t.id = l.thread AND n.ns = '')
        ORDER BY l.thread""",
        {"thread": query.thread_id, "after": behind[1] if behind else None},
    ).fetchall()
    found = [
        Stood(row[0], "", None, lease_of(row[1:]), 0, 0, (0, None, row[0]))
        for row in rows
        if official is None or not official.has_thread(cursor, row[0])
    ]
    return found[:limit]


def _with_standings(
    cursor: sqlite3.Cursor, official: OfficialTables | None, query: ThreadQuery, behind: Any, limit: int | None
) -> list[Stood]:
    tests: list[str] = []
    bound: dict[str, Any] = {}
    if query.ns is not None:
        tests.append("n.ns = :ns")
        bound["ns"] = query.ns
    if query.thread_id is not None:
        tests.append("t.id = :thread")
        bound["thread"] = query.thread_id
    if query.status is not None:
        names = ", ".join(f":status{place}" for place in range(len(query.status)))
        bound |= {f"status{place}": status for place, status in enumerate(query.status)}
        # Two lookups in indexes, and not a scan with both tests.
        tests.append(
            f"""n.key IN (SELECT namespace FROM durable_standings WHERE status IN ({names})
            UNION SELECT k.key FROM durable_leases l JOIN durable_threads o ON o.id = l.thread
            JOIN durable_namespaces k ON k.thread = o.key)"""  # noqa: S608
        )
    if behind is not None:
        tests.append(_BEHIND[query.order])
        bound |= {"value": behind[0], "id": behind[1]}
    metadata = "NULL"
    if query.where is not None:
        metadata = "(SELECT c.metadata FROM durable_checkpoints c WHERE c.namespace = n.key AND c.id = s.newest)"
    sums = "SELECT {} FROM durable_namespaces m JOIN durable_standings r ON r.namespace = m.key WHERE m.thread = t.key"
    found: list[Stood] = []
    for row in cursor.execute(
        f"""SELECT t.id, n.ns, {metadata}, l.token, l.holder, l.stop,
            ({sums.format("sum(r.checkpoints)")}), ({sums.format("sum(r.bytes)")}), {_COLUMNS}
        FROM durable_standings s JOIN durable_namespaces n ON n.key = s.namespace
        JOIN durable_threads t ON t.key = n.thread LEFT JOIN durable_leases l ON l.thread = t.id
        WHERE {" AND ".join(["s.newest != ''", *tests])} ORDER BY {_ORDERS[query.order]}""",  # noqa: S608
        bound,
    ):
        if query.where is not None and not query.where(row[2] or "{}"):
            continue
        standing = _standing(row[8:])
        value = {"created": row[9], "updated": row[10], "id": None}[query.order]
        lease = None if row[3] is None else lease_of(row[3:6])
        found.append(Stood(row[0], row[1], standing, lease, row[6] or 0, row[7] or 0, (1, value, row[0])))
        if len(found) == limit:
            break
    return found


def _unknown(
    cursor: sqlite3.Cursor, official: OfficialTables | None, query: ThreadQuery, behind: Any, limit: int | None
) -> list[Stood]:
    """Threads that were stored before standings were, or by an official saver."""
    ns = query.ns or ""
    one = "" if query.thread_id is None else "AND t.id = :thread"
    rows = cursor.execute(
        f"""SELECT t.id, n.key FROM durable_threads t JOIN durable_namespaces n ON n.thread = t.key AND n.ns = :ns
        WHERE NOT EXISTS (SELECT 1 FROM durable_standings s WHERE s.namespace = n.key AND s.newest != '')
          AND EXISTS (SELECT 1 FROM durable_checkpoints c WHERE c.namespace = n.key) {one}""",  # noqa: S608
        {"ns": ns, "thread": query.thread_id},
    ).fetchall()
    namespaces: dict[str, int | None] = dict(rows)
    if official is not None and ns == "":
        for thread_id in _official_threads(cursor, official, query.thread_id):
            namespaces.setdefault(thread_id, None)
    found: list[Stood] = []
    for thread_id, namespace in sorted(namespaces.items()):
        if behind is not None and thread_id <= behind[1]:
            continue
        if limit is not None and len(found) == limit:
            break
        count, size, metadata = 0, 0, None
        if namespace is not None:
            count, size = unwritten(cursor, namespace)
            (metadata,) = cursor.execute(
                "SELECT metadata FROM durable_checkpoints WHERE namespace = ? ORDER BY key DESC LIMIT 1", (namespace,)
            ).fetchone()
        if official is not None:
            metadata = metadata or official.newest_metadata(cursor, thread_id, ns)
        if query.where is not None and not query.where(metadata or "{}"):
            continue
        row = cursor.execute("SELECT token, holder, stop FROM durable_leases WHERE thread = ?", (thread_id,)).fetchone()
        found.append(Stood(thread_id, ns, None, row and lease_of(row), count, size, (2, None, thread_id)))
    return found


def _official_threads(cursor: sqlite3.Cursor, official: OfficialTables, thread_id: str | None) -> set[str]:
    """The threads of an official saver to which nothing was added since."""
    if thread_id is not None:
        theirs = {thread_id} if official.has_thread(cursor, thread_id) else set()
    else:
        theirs = official.threads(cursor)
    if not theirs:
        return theirs
    one = "" if thread_id is None else "AND t.id = :thread"
    known = cursor.execute(
        f"""SELECT t.id FROM durable_standings s JOIN durable_namespaces n ON n.key = s.namespace AND n.ns = ''
        JOIN durable_threads t ON t.key = n.thread WHERE s.newest != '' {one}""",  # noqa: S608
        {"thread": thread_id},
    )
    return theirs.difference(row[0] for row in known)


def _standing(row: Sequence[Any]) -> Standing | None:
    """A standing; None for a damaged row, which only sums up others: they are read instead."""
    try:
        return _read(row)
    except (ValueError, TypeError):
        return None


def _read(row: Sequence[Any]) -> Standing:
    status, created, updated, checkpoints, size, newest, about = row
    reason, nodes, error, step, run_id, by, messages, ahead = ormsgpack.unpackb(about)
    return Standing(
        status,
        reason,
        tuple(nodes),
        None if error is None else Inline(*error),
        newest,
        step,
        created,
        updated,
        run_id,
        by,
        checkpoints,
        messages,
        size,
        None if ahead is None else (ahead[0], _event(ahead[1])),
    )


def _plain(event: Event) -> list[Any]:
    return [event.time, event.move, event.nodes, None if event.error is None else tuple(event.error), event.by]


def _event(said: Sequence[Any]) -> Event:
    time, move, nodes, error, by = said
    return Event(time, move, tuple(nodes), None if error is None else Inline(*error), by)
