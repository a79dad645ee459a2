"""Threads that nobody runs any more are gone on with, each as often as it may be: what `recover` decides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any, NamedTuple

from langgraph_durable.asking import Asking, Attempt, Attempted, Do, Setting
from langgraph_durable.comparing import compared
from langgraph_durable.core import standings
from langgraph_durable.core.requests import Flow, Pause, Session
from langgraph_durable.core.status import Seen
from langgraph_durable.errors import EnvironmentChangedError
from langgraph_durable.resuming import at_breakpoint

LONGEST_BACKOFF = 60.0


class Recovered(NamedTuple):
    """A thread that `recover` went on with: how it stands now, how often that was tried, and what it last raised."""

    thread_id: str
    status: str
    attempts: int
    error: Exception | None


def recovering(
    most: int, *, errors: bool, metadata: Mapping[str, Any] | None, backoff: float
) -> Asking[list[Recovered]]:
    """Every thread that is to be gone on with, tried as often as it may be."""
    wanted = ("crashed", "sigterm", "error") if errors else ("crashed", "sigterm")
    statuses = ("crashed", "interrupted", "error") if errors else ("crashed", "interrupted")
    threads: list[standings.Thread]
    threads, _ = yield Do(
        standings.find_threads,
        (),
        {"wanted": statuses, "metadata": metadata, "order": "id", "limit": None, "after": None},
    )
    done: list[Recovered] = []
    for thread in threads:
        if not _is_wanted(thread.seen, wanted):
            continue
        tried, checkpoint_id, error = 0, "", None
        for times in count(1):
            attempted: Attempted = yield Attempt(thread.stood.thread_id, wanted, tried, checkpoint_id, backoff)
            # Who makes progress is not given up, and yet has to come to an end: a loop of a graph may have none.
            # What was refused was not tried, and would be refused again.
            refused = isinstance(attempted.error, EnvironmentChangedError)
            failed = attempted.error is not None and attempted.status == "error" and not refused
            again = errors and failed and times <= most
            if not again:
                break
            tried, checkpoint_id, error = attempted.recoveries, attempted.checkpoint_id, attempted.error
        if attempted.recoveries:
            done.append(
                Recovered(
                    thread.stood.thread_id,
                    attempted.status,
                    min(max(attempted.recoveries, times), most),
                    attempted.error or error,
                )
            )
    return done


def _is_wanted(seen: Seen, wanted: Sequence[str]) -> bool:
    return (seen.status in wanted or seen.reason in wanted) and seen.reason != "gave up"


def attempting(setting: Setting, one: Attempt) -> Asking[str]:
    """How an attempt to recover goes on: "returned" to run the thread, else how it ends without that."""
    taken = setting.taken
    if taken.seen is None or not _is_wanted(taken.seen, one.wanted):
        return "nothing"
    renames = setting.settings.renames
    if not setting.settings.nodes.issuperset(renames.get(node, node) for node in taken.nodes):
        return "nothing"  # it is another graph's
    if (yield from at_breakpoint(setting)):
        return "breakpoint"
    if taken.recoveries > setting.settings.max_recoveries:
        return "gave up"
    if taken.recoveries > 1:
        yield Do(_pause, (min(one.backoff * 2 ** (taken.recoveries - 2), LONGEST_BACKOFF),))
    yield from compared(setting, None)
    return "returned"


def _pause(session: Session, seconds: float) -> Flow[None]:
    yield Pause(seconds)
