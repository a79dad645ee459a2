"""Who runs a thread: a row while somebody does, and a change of it in a transaction like any other batch."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from typing import Any

from langgraph_durable.core.records import (
    EndLease,
    Fenced,
    KeepLease,
    Lease,
    Leased,
    LeaseWork,
    StopLease,
    TakeLease,
)
from langgraph_durable.stores.base import fences


def lease_of(row: Sequence[Any]) -> Lease:
    """A row's token, holder and stop."""
    return Lease(row[0], row[1], bool(row[2]))


def find(cursor: sqlite3.Cursor, thread_id: str) -> Lease | None:
    """The lease of a thread."""
    row = cursor.execute("SELECT token, holder, stop FROM durable_leases WHERE thread = ?", (thread_id,)).fetchone()
    return None if row is None else lease_of(row)


def change(cursor: sqlite3.Cursor, thread_id: str, work: LeaseWork) -> Leased | Fenced:
    """Take, keep, stop or end the lease of a thread."""
    lease = find(cursor, thread_id)
    if isinstance(work, StopLease):
        cursor.execute("UPDATE durable_leases SET stop = 1 WHERE thread = ?", (thread_id,))
        return Leased(None if lease is None else lease._replace(stop=True))
    if isinstance(work, TakeLease):
        if fences(lease, work.instead):
            return Fenced(lease)
        # No token comes twice, and a later one is greater, unless the clock goes back after the thread was left.
        taken = Lease(max(time.time_ns(), (lease.token if lease is not None else 0) + 1), work.holder)
        cursor.execute(
            "INSERT OR REPLACE INTO durable_leases (thread, token, holder, stop) VALUES (?, ?, ?, 0)",
            (thread_id, taken.token, taken.holder),
        )
        return Leased(taken)
    if lease is None or fences(lease, work.token):
        return Fenced(lease)
    if isinstance(work, KeepLease):
        cursor.execute("UPDATE durable_leases SET holder = ? WHERE thread = ?", (work.holder, thread_id))
        return Leased(lease._replace(holder=work.holder))
    assert isinstance(work, EndLease)
    cursor.execute("DELETE FROM durable_leases WHERE thread = ?", (thread_id,))
    return Leased(None)
