"""The tables of langgraph-checkpoint-sqlite, when the file has them: read where they are, changed only by deletions.

Its `checkpoints` hold a whole state each, so nothing is taken over when the file is opened, and nothing but the one
checkpoint that somebody asks for is read. Order is that of the checkpoint ids there. Whatever a thread gets from
this package is newer than anything in these tables.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any

from langgraph_durable.core.records import Found, Inline, Query, Tag

_COLUMNS = {"thread_id", "checkpoint_ns", "checkpoint_id", "parent_checkpoint_id", "type", "checkpoint", "metadata"}

# A checkpoint that was put again since is found in this package's tables; it counts once.
_NOT_HERE = """NOT EXISTS (
    SELECT 1 FROM durable_threads t
    JOIN durable_namespaces n ON n.thread = t.key AND n.ns = c.checkpoint_ns
    JOIN durable_checkpoints d ON d.namespace = n.key AND d.id = c.checkpoint_id
    WHERE t.id = c.thread_id)"""


class OfficialTables:
    """What can be done with those tables over a cursor."""

    def __init__(self, has_task_path: bool) -> None:
        self._task_path = "task_path" if has_task_path else "''"

    @classmethod
    def of(cls, cursor: sqlite3.Cursor) -> OfficialTables | None:
        """The tables, if the file has them."""
        checkpoints = {row[1] for row in cursor.execute("PRAGMA table_info(checkpoints)")}
        writes = {row[1] for row in cursor.execute("PRAGMA table_info(writes)")}
        if not checkpoints >= _COLUMNS or not writes >= {"thread_id", "task_id", "idx", "channel", "value"}:
            return None
        return cls("task_path" in writes)

    def page(
        self, cursor: sqlite3.Cursor, query: Query, after: tuple[str, str, str] | None, limit: int
    ) -> tuple[list[Found], tuple[str, str, str] | None]:
        """Up to `limit` checkpoints that `query` asks for, newest first, and where to go on."""
        tests, bound = [_NOT_HERE], []
        for column, value in (
            ("thread_id", query.thread_id),
            ("checkpoint_ns", query.ns),
            ("checkpoint_id", query.checkpoint_id),
        ):
            if value is not None:
                tests.append(f"c.{column} = ?")
                bound.append(value)
        if query.before is not None:
            tests.append("c.checkpoint_id < ?")
            bound.append(query.before)
        if after is not None:
            tests.append("(c.checkpoint_id, c.thread_id, c.checkpoint_ns) < (?, ?, ?)")
            bound.extend(after)
        # The columns in front first: the blobs of rows that `where` refuses are never read.
        keys = f"""SELECT c.thread_id, c.checkpoint_ns, c.checkpoint_id, c.metadata FROM checkpoints c
            WHERE {" AND ".join(tests)} ORDER BY c.checkpoint_id DESC, c.thread_id DESC, c.checkpoint_ns DESC"""  # noqa: S608
        wanted: list[tuple[str, str, str]] = []
        for thread_id, ns, checkpoint_id, metadata in cursor.execute(keys, bound):
            tags = [Tag(thread_id, ns, checkpoint_id, "")] if query.tagged else []
            if query.where is None or query.where(_text(metadata), *tags):
                wanted.append((thread_id, ns, checkpoint_id))
                if len(wanted) == limit:
                    break
        found = [self._found(cursor, *key, query.contents != "none" or query.lineage) for key in wanted]
        more = (wanted[-1][2], wanted[-1][0], wanted[-1][1]) if len(wanted) == limit else None
        return found, more

    def one(self, cursor: sqlite3.Cursor, thread_id: str, ns: str, checkpoint_id: str | None) -> Found | None:
        """One checkpoint, the newest if no id is given."""
        if checkpoint_id is None:
            row = cursor.execute(
                "SELECT checkpoint_id FROM checkpoints WHERE thread_id = ? AND checkpoint_ns = ? "
                "ORDER BY checkpoint_id DESC LIMIT 1",
                (thread_id, ns),
            ).fetchone()
            if row is None:
                return None
            checkpoint_id = row[0]
        elif not self.has(cursor, thread_id, ns, checkpoint_id):
            return None
        assert checkpoint_id is not None
        return self._found(cursor, thread_id, ns, checkpoint_id, True)

    def has(self, cursor: sqlite3.Cursor, thread_id: str, ns: str, checkpoint_id: str) -> bool:
        """Whether the checkpoint is there."""
        return (
            cursor.execute(
                "SELECT 1 FROM checkpoints WHERE thread_id = ? AND checkpoint_ns = ? AND checkpoint_id = ?",
                (thread_id, ns, checkpoint_id),
            ).fetchone()
            is not None
        )

    def has_thread(self, cursor: sqlite3.Cursor, thread_id: str) -> bool:
        """Whether any checkpoint of the thread is there."""
        row = cursor.execute("SELECT 1 FROM checkpoints WHERE thread_id = ? LIMIT 1", (thread_id,)).fetchone()
        return row is not None

    def threads(self, cursor: sqlite3.Cursor) -> set[str]:
        """The ids of the threads that have a checkpoint."""
        return {row[0] for row in cursor.execute("SELECT DISTINCT thread_id FROM checkpoints")}

    def count(self, cursor: sqlite3.Cursor, thread_id: str, ns: str | None = None) -> int:
        """How many checkpoints a namespace has, or all of them."""
        row = cursor.execute(
            "SELECT count(*) FROM checkpoints WHERE thread_id = :thread AND (:ns IS NULL OR checkpoint_ns = :ns)",
            {"thread": thread_id, "ns": ns},
        ).fetchone()
        return int(row[0])

    def newest_metadata(self, cursor: sqlite3.Cursor, thread_id: str, ns: str) -> str | None:
        """The metadata of the newest checkpoint of a namespace, as text."""
        row = cursor.execute(
            """SELECT metadata FROM checkpoints WHERE thread_id = ? AND checkpoint_ns = ?
            ORDER BY checkpoint_id DESC LIMIT 1""",
            (thread_id, ns),
        ).fetchone()
        return None if row is None else _text(row[0])

    def ids(self, cursor: sqlite3.Cursor, thread_id: str) -> list[tuple[str, str]]:
        """(namespace, id) of every checkpoint of a thread."""
        return cursor.execute(
            "SELECT checkpoint_ns, checkpoint_id FROM checkpoints WHERE thread_id = ?", (thread_id,)
        ).fetchall()

    def runs(self, cursor: sqlite3.Cursor, run_ids: Sequence[str]) -> list[tuple[str, str, str]]:
        """Every checkpoint whose metadata names one of the runs. It reads the metadata of all of them."""
        return cursor.execute(
            """SELECT thread_id, checkpoint_ns, checkpoint_id FROM checkpoints
            WHERE json_valid(CAST(metadata AS TEXT))
              AND json_extract(CAST(metadata AS TEXT), '$.run_id') IN (SELECT value FROM json_each(?))""",
            (json.dumps(list(run_ids)),),
        ).fetchall()

    def delete_thread(self, cursor: sqlite3.Cursor, thread_id: str) -> None:
        """Take everything of the thread away."""
        cursor.execute("DELETE FROM checkpoints WHERE thread_id = ?", (thread_id,))
        cursor.execute("DELETE FROM writes WHERE thread_id = ?", (thread_id,))

    def delete(self, cursor: sqlite3.Cursor, thread_id: str, checkpoints: Iterable[tuple[str, str]]) -> None:
        """Take some checkpoints away, with their writes."""
        keys = [(thread_id, ns, checkpoint_id) for ns, checkpoint_id in checkpoints]
        for table in ("checkpoints", "writes"):
            cursor.executemany(
                f"DELETE FROM {table} WHERE thread_id = ? AND checkpoint_ns = ? AND checkpoint_id = ?",  # noqa: S608
                keys,
            )

    def copy(self, cursor: sqlite3.Cursor, source: str, target: str) -> None:
        """Copy everything of a thread, row by row and unread."""
        for table, key in (("checkpoints", "thread_id"), ("writes", "thread_id")):
            columns = [row[1] for row in cursor.execute(f"PRAGMA table_info({table})") if row[1] != key]
            names = ", ".join(f'"{column}"' for column in columns)
            cursor.execute(
                f"INSERT INTO {table} ({key}, {names}) SELECT ?, {names} FROM {table} WHERE {key} = ?",  # noqa: S608
                (target, source),
            )

    def _found(self, cursor: sqlite3.Cursor, thread_id: str, ns: str, checkpoint_id: str, whole: bool) -> Found:
        key = (thread_id, ns, checkpoint_id)
        blob = "type, checkpoint" if whole else "'null', x''"
        parent, metadata, kind, data = cursor.execute(
            f"SELECT parent_checkpoint_id, metadata, {blob} FROM checkpoints "  # noqa: S608
            "WHERE thread_id = ? AND checkpoint_ns = ? AND checkpoint_id = ?",
            key,
        ).fetchone()
        writes: list[Any] = []
        if whole:
            writes = cursor.execute(
                f"SELECT task_id, {self._task_path}, idx, channel, type, value FROM writes "  # noqa: S608
                "WHERE thread_id = ? AND checkpoint_ns = ? AND checkpoint_id = ?",
                key,
            ).fetchall()
        return Found(
            thread_id, ns, checkpoint_id, parent, _text(metadata), None, Inline("", b""), (), (), 0,
            (kind, data), tuple(writes),
        )  # fmt: skip


def _text(metadata: Any) -> str:
    if metadata is None:
        return "{}"
    return metadata.decode() if isinstance(metadata, bytes) else str(metadata)
