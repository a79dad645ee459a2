"""What is wrong with a database as a whole: its pages, and rows that lead to rows which are not there."""

from __future__ import annotations

import sqlite3

from langgraph_durable.core.records import Damage

_LOST = {
    "checkpoints belong to no namespace that is there": """durable_checkpoints
        WHERE namespace NOT IN (SELECT key FROM durable_namespaces)""",
    "writes belong to no namespace that is there": """durable_writes
        WHERE namespace NOT IN (SELECT key FROM durable_namespaces)""",
    "namespaces belong to no thread that is there": """durable_namespaces
        WHERE thread NOT IN (SELECT key FROM durable_threads)""",
    "chunks belong to no thread that is there": """durable_chunks
        WHERE thread NOT IN (SELECT key FROM durable_threads)""",
    "lists belong to no thread that is there": """durable_lists
        WHERE thread NOT IN (SELECT key FROM durable_threads)""",
    "elements belong to no list that is there": """durable_elements
        WHERE list NOT IN (SELECT key FROM durable_lists)""",
    "elements of lists are chunks of other threads, and would go with those": """durable_elements e
        JOIN durable_lists l ON l.key = e.list JOIN durable_chunks c ON c.key = e.chunk WHERE c.thread != l.thread""",
}
"""Rows that lead nowhere, or to where they should not, by what there is to say of them behind their number."""


def damaged(cursor: sqlite3.Cursor) -> list[Damage]:
    """What there is to say; it reads every page."""
    found: list[Damage] = []
    try:
        # https://www.sqlite.org/pragma.html#pragma_integrity_check
        said = [str(row[0]) for row in cursor.execute("PRAGMA integrity_check").fetchall()]
        found += [Damage(None, f"SQLite: {one}") for one in said if one != "ok"]
        for told, rows in _LOST.items():
            (count,) = cursor.execute(f"SELECT count(*) FROM {rows}").fetchone()  # noqa: S608
            if count:
                found.append(Damage(None, f"{count} {told}"))
    except sqlite3.DatabaseError as error:
        if type(error) is not sqlite3.DatabaseError:
            raise  # that it is locked or cannot be read says nothing about what is in it
        found.append(Damage(None, f"SQLite: {error}"))
    return found
