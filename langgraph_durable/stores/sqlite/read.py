"""A query becomes a page, in a fixed number of statements however many checkpoints are on it.

This package's own tables come first: whatever is in them is newer than what an official saver left in the file.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from itertools import repeat
from typing import Any, NamedTuple

from langgraph_durable.core.records import Chunk, Found, FoundWrites, Inline, Page, Query, Ref, Tag
from langgraph_durable.stores.refs import DAMAGED, ListRows, cut, named
from langgraph_durable.stores.sqlite.official import OfficialTables
from langgraph_durable.stores.sqlite.refs import unpacked

PAGE = 64
"""Checkpoints read at once: their lists share chunks, so a page costs little more than its newest checkpoint."""

_COLUMNS = """c.key, t.id AS thread_id, n.ns, c.id, c.parent, c.metadata, c.exact_kind, c.exact, c.head_kind, c.head,
    c.parts, t.epoch, n.key AS place"""
_JOINED = """FROM durable_checkpoints c
    JOIN durable_namespaces n ON n.key = c.namespace
    JOIN durable_threads t ON t.key = n.thread"""
_ONE = f"""SELECT {_COLUMNS} FROM durable_threads t
    JOIN durable_namespaces n ON n.thread = t.key
    JOIN durable_checkpoints c ON c.namespace = n.key
    WHERE t.id = ? AND n.ns = ?"""  # noqa: S608
_TAG = """(SELECT t.id FROM durable_threads t JOIN durable_namespaces n ON n.thread = t.key WHERE n.key = c.namespace),
    (SELECT n.ns FROM durable_namespaces n WHERE n.key = c.namespace), c.id,
    coalesce((SELECT s.status FROM durable_standings s WHERE s.namespace = c.namespace AND s.newest = c.id),
        (SELECT g.status FROM durable_tags g WHERE g.namespace = c.namespace AND g.checkpoint = c.id),
        (SELECT 'idle' FROM durable_next x WHERE x.namespace = c.namespace AND x.node = '' AND x.checkpoint = c.key),
        '')
    """
_NEWEST = f"{_ONE} ORDER BY c.key DESC LIMIT 1"
_NAMED = f"{_ONE} AND c.id = ? LIMIT 1"


class _After(NamedTuple):
    """Where a page ended: after a key of ours, or (`official`) after an official checkpoint."""

    key: int | None
    official: tuple[str, str, str] | None


def read_at_once(cursor: sqlite3.Cursor, official: OfficialTables | None, query: Query) -> Page | None:
    """A page that a single statement gives, outside any transaction; None where it takes more.

    It is enough for who goes on from what he knows already: a checkpoint, its writes, and no contents.
    """
    if query.has is None or not _is_for_one(query):
        return None
    rows = cursor.execute(
        f"""SELECT c.*, w.task_id, w.task_path, w.replaces, w.entries
        FROM ({_one_statement(query)}) c
        LEFT JOIN durable_writes w ON w.namespace = c.place AND w.checkpoint = c.id
        ORDER BY w.position""",  # noqa: S608
        _one_bound(query),
    ).fetchall()
    if not rows:
        return None if official is not None else Page((), {}, {}, None)
    width = len(rows[0]) - 4
    calls = [_call(*row[width:]) for row in rows if row[width] is not None]
    found = [_checkpoint(rows[0], calls)]
    names = named(found, query)
    return None if names.lists or names.single else Page(tuple(found), names.contents, {}, None)


def read(cursor: sqlite3.Cursor, official: OfficialTables | None, query: Query) -> Page:
    """One page; the caller has begun a transaction, so that every statement sees the same moment."""
    if query.lineage:
        return _lineage(cursor, official, query)
    if _is_for_one(query):
        return _one(cursor, official, query)
    size = PAGE if query.limit is None else min(query.limit, PAGE)
    after = query.after or _After(None, None)
    found: list[Found] = []
    keys: list[int] = []
    more: _After | None = after
    if after.official is None:
        keys = list(_matching(cursor, query, after.key, size))
        found = _load(cursor, keys, query)
        more = _After(keys[-1], None) if len(keys) == size else None
    if len(found) < size and official is not None:
        theirs, last = official.page(cursor, query, after.official, size - len(found))
        found += [_with_writes(cursor, one) for one in theirs]
        more = _After(None, last) if last is not None else None
    return _page(cursor, found, query, more)


def _one(cursor: sqlite3.Cursor, official: OfficialTables | None, query: Query) -> Page:
    """The checkpoint named, or the newest, of one namespace."""
    row = cursor.execute(_one_statement(query), _one_bound(query)).fetchone()
    if row is not None:
        return _page(cursor, _found(cursor, [row], query), query, None)
    assert query.thread_id is not None
    assert query.ns is not None
    theirs = official.one(cursor, query.thread_id, query.ns, query.checkpoint_id) if official else None
    return _page(cursor, [_with_writes(cursor, theirs)] if theirs else [], query, None)


def _is_for_one(query: Query) -> bool:
    anywhere = query.before is None and query.where is None and query.after is None
    return query.limit == 1 and anywhere and query.thread_id is not None and query.ns is not None and not query.lineage


def _one_statement(query: Query) -> str:
    return _NEWEST if query.checkpoint_id is None else _NAMED


def _one_bound(query: Query) -> tuple[Any, ...]:
    return (query.thread_id, query.ns, query.checkpoint_id)[: 2 if query.checkpoint_id is None else 3]


def _lineage(cursor: sqlite3.Cursor, official: OfficialTables | None, query: Query) -> Page:
    """A checkpoint and its ancestors, nearest first, across both sets of tables."""
    assert query.thread_id is not None
    assert query.ns is not None
    keys = [
        key
        for (key,) in cursor.execute(
            """WITH RECURSIVE line (key, parent, namespace, depth) AS (
                SELECT c.key, c.parent, c.namespace, 0 FROM durable_threads t
                JOIN durable_namespaces n ON n.thread = t.key
                JOIN durable_checkpoints c ON c.namespace = n.key
                WHERE t.id = ? AND n.ns = ? AND c.id = ?
                UNION
                SELECT c.key, c.parent, c.namespace, line.depth + 1 FROM line
                JOIN durable_checkpoints c ON c.namespace = line.namespace AND c.id = line.parent
                WHERE line.depth < ?
            ) SELECT key FROM line ORDER BY depth""",
            (query.thread_id, query.ns, query.checkpoint_id, PAGE - 1),
        )
    ]
    found = _load(cursor, keys, query)
    next_id = found[-1].parent if found else query.checkpoint_id
    while official is not None and next_id is not None and len(found) < PAGE:
        theirs = official.one(cursor, query.thread_id, query.ns, next_id)
        if theirs is None:
            break
        found.append(_with_writes(cursor, theirs))
        next_id = theirs.parent
    return _page(cursor, found, query, next_id if len(found) >= PAGE else None)


def _matching(cursor: sqlite3.Cursor, query: Query, after: int | None, size: int) -> Iterator[int]:
    """Keys of the next `size` checkpoints that the query asks for; only their metadata is looked at."""
    tests = ["1"]
    bound: list[Any] = []
    if query.thread_id is not None:
        mine = "SELECT n.key FROM durable_namespaces n JOIN durable_threads t ON t.key = n.thread WHERE t.id = ?"
        bound.append(query.thread_id)
        if query.ns is not None:
            mine += " AND n.ns = ?"
            bound.append(query.ns)
        tests.append(f"c.namespace {'=' if query.ns is not None else 'IN'} ({mine})")
    elif query.ns is not None:
        tests.append("c.namespace IN (SELECT key FROM durable_namespaces WHERE ns = ?)")
        bound.append(query.ns)
    if query.checkpoint_id is not None:
        tests.append("c.id = ?")
        bound.append(query.checkpoint_id)
    if query.before is not None:
        place = _place(cursor, query, query.before)
        # A checkpoint that is not here (any more) has no place in the order; its id has one, by its maker's clock.
        tests.append("c.id < ?" if place is None else "c.key < ?")
        bound.append(query.before if place is None else place)
    if after is not None:
        tests.append("c.key < ?")
        bound.append(after)
    found = 0
    tag = f", {_TAG}" if query.tagged else ""
    for key, metadata, *tagged in cursor.execute(
        f"SELECT c.key, c.metadata{tag} FROM durable_checkpoints c WHERE {' AND '.join(tests)} ORDER BY c.key DESC",  # noqa: S608
        bound,
    ):
        if query.where is None or query.where(metadata, *([Tag(*tagged)] if tagged else [])):
            yield key
            found += 1
            if found == size:
                return


def _place(cursor: sqlite3.Cursor, query: Query, checkpoint_id: str) -> int | None:
    tests, bound = ["c.id = ?"], [checkpoint_id]
    for column, value in (("t.id", query.thread_id), ("n.ns", query.ns)):
        if value is not None:
            tests.append(f"{column} = ?")
            bound.append(value)
    row = cursor.execute(f"SELECT max(c.key) {_JOINED} WHERE {' AND '.join(tests)}", bound).fetchone()
    return None if row[0] is None else int(row[0])


def _load(cursor: sqlite3.Cursor, keys: Sequence[int], query: Query) -> list[Found]:
    """The checkpoints with those keys, in that order."""
    rows = cursor.execute(
        f"SELECT {_COLUMNS} {_JOINED} WHERE c.key IN (SELECT value FROM json_each(?))",  # noqa: S608
        (json.dumps(keys),),
    ).fetchall()
    by_key = {row[0]: row for row in rows}
    return _found(cursor, [by_key[key] for key in keys], query)


def _found(cursor: sqlite3.Cursor, rows: Sequence[tuple[Any, ...]], query: Query) -> list[Found]:
    writes = {} if query.contents == "none" else _writes(cursor, [(row[12], row[3]) for row in rows])
    return [_checkpoint(row, writes.get((row[12], row[3]), ())) for row in rows]


def _checkpoint(row: Sequence[Any], writes: Sequence[FoundWrites]) -> Found:
    return Found(
        thread_id=row[1],
        ns=row[2],
        id=row[3],
        parent=row[4],
        metadata=row[5],
        exact_metadata=None if row[6] is None else Inline(row[6], row[7]),
        head=Inline(row[8], row[9]),
        refs=_decoded(row[10], (DAMAGED,)),
        writes=tuple(writes),
        epoch=row[11],
    )


def _call(task_id: str, task_path: str, replaces: int, entries: bytes) -> FoundWrites:
    damaged = ((0, "?", DAMAGED),)
    found = _decoded(entries, damaged)
    if not all(type(one) is tuple and len(one) == 3 and type(one[0]) is int and type(one[1]) is str for one in found):
        found = damaged
    return FoundWrites(task_id, task_path, bool(replaces), found)


def _writes(cursor: sqlite3.Cursor, checkpoints: Sequence[tuple[int, str]]) -> dict[tuple[int, str], list[FoundWrites]]:
    """The writes of checkpoints, by (key of the namespace, id)."""
    made: dict[tuple[int, str], list[FoundWrites]] = {}
    for namespace, checkpoint_id, *call in cursor.execute(
        """SELECT w.namespace, w.checkpoint, w.task_id, w.task_path, w.replaces, w.entries
        FROM json_each(?) s CROSS JOIN durable_writes w
        WHERE w.namespace = json_extract(s.value, '$[0]') AND w.checkpoint = json_extract(s.value, '$[1]')
        ORDER BY s.key, w.position""",
        (json.dumps(checkpoints),),
    ):
        made.setdefault((namespace, checkpoint_id), []).append(_call(*call))
    return made


def _decoded(data: bytes, damaged: Any) -> Any:
    """The refs of a column; `damaged` for what is none, so that who wants the contents finds them missing."""
    try:
        refs = unpacked(data)
        return refs if isinstance(refs, tuple) else damaged
    except (ValueError, TypeError):
        return damaged


def _with_writes(cursor: sqlite3.Cursor, found: Found) -> Found:
    """An official checkpoint with the writes that this package stored for it."""
    row = cursor.execute(
        """SELECT n.key, t.epoch FROM durable_threads t JOIN durable_namespaces n ON n.thread = t.key
        WHERE t.id = ? AND n.ns = ?""",
        (found.thread_id, found.ns),
    ).fetchone()
    if row is None:
        return found
    writes = _writes(cursor, [(row[0], found.id)])
    return found._replace(writes=tuple(writes.get((row[0], found.id), ())), epoch=row[1])


def _page(cursor: sqlite3.Cursor, found: Sequence[Found], query: Query, more: Any) -> Page:
    """The checkpoints with the contents of all that they name, each chunk once."""
    contents, lists, single = named(found, query)
    chunks: dict[int, Chunk] = {}
    if lists:
        rows = _elements(cursor, lists, chunks)
        for ref in lists:
            contents[ref] = cut(rows, ref)
    missing = [key for key in single if key not in chunks]
    if missing:
        for key, *chunk in cursor.execute(
            """SELECT key, digest, kind, data FROM durable_chunks
            WHERE key IN (SELECT value FROM json_each(?))""",
            (json.dumps(missing),),
        ):
            chunks[key] = Chunk(*chunk)
    return Page(tuple(found), contents, chunks, more)


def _elements(cursor: sqlite3.Cursor, lists: Sequence[Ref], chunks: dict[int, Chunk]) -> dict[int, ListRows]:
    """What the page needs of each list, read in one sweep of each; their chunks go into `chunks`."""
    spans: dict[int, tuple[int, int]] = {}
    for ref in lists:
        for key, start, stop in ref:
            low, high = spans.get(key, (start, stop))
            spans[key] = (min(low, start), max(high, stop))
    rows = {}
    for key, (start, stop) in spans.items():
        found = cursor.execute(
            """SELECT e.position, e.chunk, e.count, k.digest, k.kind, k.data
            FROM durable_elements e LEFT JOIN durable_chunks k ON k.key = e.chunk
            WHERE e.list = ? AND e.position >= ? AND e.position < ? ORDER BY e.position""",
            (key, start, stop),
        ).fetchall()
        if not found:
            rows[key] = ListRows((), (), ())
            continue
        positions, keys, counts, *columns = zip(*found, strict=True)
        # As `Chunk(...)`, of which the interpreter would make a call of its own for each.
        chunks.update(zip(keys, map(tuple.__new__, repeat(Chunk), zip(*columns, strict=True)), strict=False))
        if None in columns[0]:
            for chunk in [chunk for chunk, digest in zip(keys, columns[0], strict=True) if digest is None]:
                del chunks[chunk]
        rows[key] = ListRows(positions, keys, counts)
    return rows
