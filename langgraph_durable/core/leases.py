"""Who runs a thread, for how long, and what is said to whoever comes second.

A lease is a token and a holder. The token is compared in the transaction of every write, so that a run that has slept
through its lease cannot write; the time in the holder only says when somebody else may take it. Whether that is so is
found out before the lease is taken, and whether it was still so while it is: `TakeLease` names the one it replaces.
"""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import NamedTuple

from langgraph_durable.core.records import Lease
from langgraph_durable.errors import LeaseLostError, ThreadBusyError


class Holder(NamedTuple):
    """Who has a lease: `by` is the process, `owner` what it calls itself; times are in seconds since 1970.

    `recoveries` is how often in a row a run went on from a crash or a failure at the checkpoint with that id.
    """

    by: str
    owner: str
    since: float
    expires: float
    recoveries: int = 0
    checkpoint_id: str = ""

    def said(self) -> str:
        """As JSON."""
        return json.dumps(self._asdict())


def held_by(lease: Lease) -> Holder:
    """Who has a lease."""
    return Holder(**json.loads(lease.holder))


def busy(thread_id: str, holder: Holder) -> ThreadBusyError:
    """The error for who finds a thread in use."""
    return ThreadBusyError(
        f"thread {thread_id!r} is run by {holder.owner} since {_clock(holder.since)}; wait for it "
        '(on_busy="wait"), ask it to end (saver.request_cancel), or use another thread',
        thread_id=thread_id,
        owner=holder.owner,
        since=holder.since,
    )


def lost(thread_id: str, lease: Lease | None) -> LeaseLostError:
    """The error for who has run on without the lease."""
    who = f"{held_by(lease).owner} has it since {_clock(held_by(lease).since)}" if lease is not None else "it was ended"
    return LeaseLostError(
        f"this run has lost the lease of thread {thread_id!r}: {who}. Nothing of this write was stored, and this run "
        "cannot write any more; what it stored before is where the thread goes on"
    )


def forked(thread_id: str) -> LeaseLostError:
    """The error for who was forked from a run."""
    return LeaseLostError(
        f"this process was forked in the middle of a run of thread {thread_id!r}, which goes on in the process that it "
        "was forked from. Nothing of this write was stored"
    )


def _clock(time: float) -> str:
    return datetime.fromtimestamp(time, timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
