"""What is wrong with a database as a whole: its pages, and rows that lead to rows which are not there."""

from __future__ import annotations

import sqlite3

from langgraph_durable.core.records import Damage

_LOST = {
    "checkpoints": "durable_checkpoints c WHERE c.namespace NOT IN (SELECT key FROM durable_namespaces)",
    "writes": "durable_writes w WHERE w.namespace NOT IN (SELECT key FROM durable_namespaces)",
    "namespaces": "durable_namespaces n WHERE n.thread NOT IN (SELECT key FROM durable_threads)",
    "chunks": "durable_chunks c WHERE c.thread NOT IN (SELECT key FROM durable_threads)",
    "lists": "durable_lists l WHERE l.thread NOT IN (SELECT key FROM durable_threads)",
    "elements": "durable_elements e WHERE e.list NOT IN (SELECT key FROM durable_lists)",
    "elements of lists of other threads": """durable_elements e JOIN durable_lists l ON l.key = e.list
        JOIN durable_chunks c ON c.key = e.chunk WHERE c.thread != l.thread""",
}
"""Rows that belong to nothing, by what they are."""


def damaged(cursor: sqlite3.Cursor) -> list[Damage]:
    """What there is to say; it reads every page."""
    found: list[Damage] = []
    try:
        # https://www.sqlite.org/pragma.html#pragma_integrity_check
        said = [str(row[0]) for row in cursor.execute("PRAGMA integrity_check").fetchall()]
        found += [Damage(None, f"SQLite: {one}") for one in said if one != "ok"]
        for what, rows in _LOST.items():
            (count,) = cursor.execute(f"SELECT count(*) FROM {rows}").fetchone()  # noqa: S608
            if count:
                found.append(Damage(None, f"{count} {what} belong to nothing that is there"))
    except sqlite3.DatabaseError as error:
        if type(error) is not sqlite3.DatabaseError:
            raise  # that it is locked or cannot be read says nothing about what is in it
        found.append(Damage(None, f"SQLite: {error}"))
    return found
