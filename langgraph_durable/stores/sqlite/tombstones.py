"""Which checkpoints were deleted, so that a write that comes late does not bring a thread back.

A tombstone is two hashes and a date: nothing of what was deleted can be told from it. It stays for a month.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Sequence
from hashlib import blake2b

import ormsgpack

from langgraph_durable.errors import ThreadDeletedError

KEPT_SECONDS = 30 * 86_400
"""How late a late write can be and still be told."""


def thread_hash(thread_id: str) -> int:
    """What stands for a thread that is gone."""
    return _hash(thread_id)


def buried(cursor: sqlite3.Cursor, thread_id: str, ns: str, checkpoint_ids: Sequence[str]) -> set[str | None]:
    """Which of these checkpoints were deleted."""
    names = {_hash(ns, checkpoint_id): checkpoint_id for checkpoint_id in checkpoint_ids}
    marks = ", ".join("?" * len(names))
    rows = cursor.execute(
        f"SELECT name FROM durable_tombstones WHERE thread = ? AND name IN ({marks})",  # noqa: S608
        (thread_hash(thread_id), *names),
    )
    return {names[name] for (name,) in rows}


def bury(cursor: sqlite3.Cursor, thread_id: str, checkpoints: Iterable[tuple[str, str]]) -> None:
    """Remember that these checkpoints, (namespace, id), are deleted; forget what is long past."""
    now = int(time.time())
    cursor.execute("DELETE FROM durable_tombstones WHERE buried < ?", (now - KEPT_SECONDS,))
    cursor.executemany(
        "INSERT OR REPLACE INTO durable_tombstones (thread, name, buried) VALUES (?, ?, ?)",
        [(thread_hash(thread_id), _hash(ns, checkpoint_id), now) for ns, checkpoint_id in checkpoints],
    )


def exhume(cursor: sqlite3.Cursor, thread_id: str, checkpoints: Iterable[tuple[str, str]]) -> None:
    """Forget that these checkpoints were deleted: they are stored again, on purpose."""
    cursor.executemany(
        "DELETE FROM durable_tombstones WHERE thread = ? AND name = ?",
        [(thread_hash(thread_id), _hash(ns, checkpoint_id)) for ns, checkpoint_id in checkpoints],
    )


def refusal(thread_id: str, checkpoint_id: str) -> ThreadDeletedError:
    """The error for a write that comes after the deletion."""
    return ThreadDeletedError(
        f"thread {thread_id!r} was deleted, with its checkpoint {checkpoint_id!r}, while a run was writing to it. What "
        "that run wrote since was not stored; start a new run without a checkpoint_id to use the thread again"
    )


def _hash(*names: str) -> int:
    return int.from_bytes(blake2b(ormsgpack.packb(names), digest_size=8).digest(), "big", signed=True)
