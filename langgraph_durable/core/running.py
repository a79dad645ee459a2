"""A run holds its thread from beginning to end: the lease is taken, renewed and left, and the end is written down."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Literal, NamedTuple, TypeAlias

from langgraph_durable.core import status
from langgraph_durable.core.leases import Holder, busy, held_by
from langgraph_durable.core.marks import node_of, sealed_failure
from langgraph_durable.core.plan import check_text
from langgraph_durable.core.records import (
    Batch,
    EndLease,
    Event,
    Fenced,
    KeepLease,
    Lease,
    Leased,
    Stood,
    StopLease,
    TakeLease,
    ThreadQuery,
)
from langgraph_durable.core.requests import Flow, LookAfter, Pause, Session
from langgraph_durable.core.superstep import Before
from langgraph_durable.errors import DurableError

OnBusy: TypeAlias = Literal["raise", "wait", "interrupt"]

NOTHING_SAID: Mapping[tuple[str, str], tuple[tuple[str, str], ...]] = {}

NOBODYS = -1
"""A token that was never given: who names it is told who has the lease, after all that was queued before."""

FIRST_PAUSE, LONGEST_PAUSE = 0.01, 0.5
"""Seconds between two looks at a lease that is waited for: the first, twice as long each time, and the longest."""


class Taken(NamedTuple):
    """A lease, and how the thread stood when it was taken: `seen` and `nodes` are empty where it has no checkpoints.

    `checkpoint_id` is the newest one's, `held` who had the lease and is gone.
    """

    lease: Lease
    seen: status.Seen | None
    nodes: tuple[str, ...]
    recoveries: int
    checkpoint_id: str
    held: Holder | None


def take(
    session: Session,
    thread_id: str,
    owner: str,
    *,
    seconds: float,
    on_busy: OnBusy = "raise",
    tried: tuple[int, str] | None = None,
) -> Flow[Taken]:
    """The lease of a thread, once nobody else has it. ThreadBusyError when it is not waited for.

    A run that is an attempt to recover says how many were `tried` before, and at which checkpoint. They count while
    the thread still is there, as do those that crashed.
    """
    check_text("the call", thread_id)
    pause = FIRST_PAUSE
    asked: int | None = None
    while True:
        page: list[Stood] = yield ThreadQuery(thread_id)
        stood = page[0] if page else None
        lease = None if stood is None else stood.lease
        holder = None if lease is None else held_by(lease)
        standing = None if stood is None else stood.standing
        by = holder.by if holder is not None else standing.by if standing is not None else ""
        alive = (yield LookAfter((by,)))[by] if by else None
        now = session.here.clock()
        seen = status.seen(standing, expires=holder and holder.expires, alive=alive, now=now)
        if lease is None or seen.status == "crashed":
            checkpoint_id = standing.checkpoint_id if standing is not None else ""
            recoveries = 0
            if tried is not None:
                before = tried[0] if tried[1] == checkpoint_id else 0
                recoveries = max(before, _recoveries(holder, checkpoint_id)) + 1
            mine = Holder(session.here.by, owner, now, now + seconds, recoveries, checkpoint_id)
            try:
                outcome: Leased | Fenced = yield Batch(
                    thread_id, None, (), TakeLease(mine.said(), lease.token if lease is not None else None)
                )
            except (GeneratorExit, DurableError):
                raise
            except BaseException:
                # Cancelled, or interrupted: it may have been stored all the same.
                with suppress(DurableError):
                    yield from _give_back(thread_id, mine)
                raise
            if isinstance(outcome, Leased):
                assert outcome.lease is not None
                known = stood is not None and stood.place[0] != 0
                nodes = standing.nodes if standing is not None else ()
                return Taken(outcome.lease, seen if known else None, nodes, recoveries, checkpoint_id, holder)
            continue
        assert holder is not None
        if on_busy == "raise":
            raise busy(thread_id, holder)
        if on_busy == "interrupt" and asked != lease.token:
            yield Batch(thread_id, None, (), StopLease())
            asked = lease.token
        yield Pause(pause)
        pause = min(2 * pause, LONGEST_PAUSE)


def renew(session: Session, thread_id: str, lease: Lease, seconds: float) -> Flow[Leased | Fenced]:
    """The lease for that much longer; Fenced when another has it."""
    holder = held_by(lease)._replace(expires=session.here.clock() + seconds)
    outcome: Leased | Fenced = yield Batch(thread_id, None, (), KeepLease(lease.token, holder.said()))
    return outcome


def leave(
    session: Session,
    thread_id: str,
    lease: Lease,
    how: str,
    error: BaseException | None = None,
    said: Mapping[tuple[str, str], tuple[tuple[str, str], ...]] = NOTHING_SAID,
) -> Flow[str]:
    """The status that a run leaves its thread in, with its lease ended; "" when the lease was another's already.

    `how` is "returned", one of the moves that end a run, or "nothing" when it has not begun. What tasks said of
    themselves in this run stays; that is `said`, (move, path) by namespace and checkpoint, since of several tasks, and
    of several runs at one checkpoint, a standing tells one.
    """
    page: list[Stood] = yield ThreadQuery(thread_id)
    standing = page[0].standing if page else None
    event = None
    if standing is not None:
        now = standing.updated >= held_by(lease).since
        move = _end(how, standing.status, bool(standing.nodes), now)
        before = session.memory.before(thread_id, "", standing.checkpoint_id)
        told = said.get(("", standing.checkpoint_id), ())
        failed = _nodes([path for one, path in told if one in ("raised", "router")], before)
        asked = _nodes([path for one, path in told if one == "asked"], before)
        if move is None and standing.status == "error" and failed and {*failed} != {*standing.nodes}:
            # Those of an earlier run at this checkpoint are told as well, and may have finished in this one. Which node
            # a packet was for, nobody knew who failed before the checkpoint was stored.
            move = "router" if standing.reason == "router" else "failed"
        elif move is None and how == "returned" and asked and standing.status in ("error", "interrupted"):
            # What had failed or asked before has finished in this run: each task that has not asks again.
            move = "asked" if (standing.status, standing.nodes) != ("interrupted", asked) else None
        if move is not None:
            sealed = sealed_failure(session.codec, error) if error is not None and move in _FAILED else None
            nodes = {"failed": failed, "router": failed, "asked": asked}.get(move, ())
            event = Event(session.here.clock(), move, nodes, sealed, session.here.by)
    outcome: Leased | Fenced = yield Batch(thread_id, None, (), EndLease(lease.token, event))
    if isinstance(outcome, Fenced) or standing is None:
        return ""
    return status.MOVES[event.move].status if event is not None else standing.status


def stop(session: Session, thread_id: str) -> Flow[bool]:
    """Ask the run of a thread to end; whether there is one."""
    check_text("the call", thread_id)
    outcome: Leased | Fenced = yield Batch(thread_id, None, (), StopLease())
    return outcome.lease is not None


_FAILED = ("failed", "router", "gave up")


def _end(how: str, standing: str, following: bool, now: bool) -> str | None:
    """The move that a run ends with; None where what was stored in it says all. `now`: it was stored in this run."""
    if how in ("returned", "updated"):
        if standing != "busy":
            return None
        return ("breakpoint" if how == "returned" else how) if following else "finished"
    if how == "nothing" and standing == "busy" and following and now:
        return "cancelled"  # it was moved to the new name of a node, and not run
    if how == "nothing" or (how == "failed" and not now and standing != "busy"):
        return None  # nothing came of it: the thread stands as it did
    if standing == "idle" and now and how != "gave up":
        return None  # it had come to its end
    if how == "failed" and standing == "error" and now:
        return None  # a task has told of it, with its node
    return how


def _nodes(paths: Iterable[str], before: Before | None) -> tuple[str, ...]:
    return tuple({node: None for path in paths if (node := node_of(path, before))})


def _give_back(thread_id: str, holder: Holder) -> Flow[None]:
    """End a lease, if it was taken."""
    found: Leased | Fenced = yield Batch(thread_id, None, (), KeepLease(NOBODYS, ""))
    if found.lease is not None and found.lease.holder == holder.said():
        yield Batch(thread_id, None, (), EndLease(found.lease.token, None))


def _recoveries(holder: Holder | None, checkpoint_id: str) -> int:
    if holder is None or holder.checkpoint_id != checkpoint_id:
        return 0
    return holder.recoveries
