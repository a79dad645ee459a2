"""How a thread stands follows from what was stored in it, by one table: nothing else decides it.

A checkpoint says which nodes are next, the writes of a task that it failed or asks somebody, the end of a run why it
ended. Each is a *move*; `MOVES` says what status it leads to. What happened at a checkpoint stays told of it, whatever
is put after it, and what comes before its checkpoint is kept until that is there.

The words are those of LangGraph's platform (`idle`, `busy`, `interrupted`, `error`) and `crashed`: busy, and nobody is
there any more who runs it. That is never stored, since whoever crashed cannot say so: `seen` finds it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple, TypeAlias

from langgraph_durable.core.records import Event, Mark, Standing

Status: TypeAlias = Literal["idle", "busy", "interrupted", "error", "crashed"]

STATUSES: tuple[Status, ...] = ("idle", "busy", "interrupted", "error", "crashed")


class Move(NamedTuple):
    """What a move leads to."""

    status: Status
    reason: str = ""


MOVES: Mapping[str, Move] = {
    # A checkpoint was put, and something is next.
    "ran": Move("busy"),
    "updated": Move("interrupted", "update"),
    "copied": Move("interrupted", "copy"),
    # A checkpoint was put, and nothing is next.
    "finished": Move("idle"),
    "completed": Move("idle"),
    # A task of the newest checkpoint wrote.
    "raised": Move("error", "exception"),
    "router": Move("error", "router"),
    "asked": Move("interrupted", "node"),
    "answered": Move("busy"),
    # A run ended.
    "breakpoint": Move("interrupted", "breakpoint"),
    "ctrl-c": Move("interrupted", "ctrl-c"),
    "sigterm": Move("interrupted", "sigterm"),
    "cancelled": Move("interrupted", "cancelled"),
    "failed": Move("error", "exception"),
    "gave up": Move("error", "gave up"),
}
"""What leads to what. A router raised when the output of its node was there already: LangGraph takes that for done.

A run that holds the thread does not, so what it "completed" has nothing skipped.
"""

_RANK = ("answered", "asked", "cancelled", "raised", "router")
"""Of what several tasks of a superstep say, which counts: the last."""


def put(
    old: Standing | None,
    made: Mark,
    checkpoint_id: str,
    parent: str | None,
    run_id: str | None,
    size: int,
    *,
    again: bool,
) -> Standing:
    """The standing after a checkpoint of `size` bytes; `again` when one of that id had been put before."""
    if old is None:
        old = _nothing(made.time, made.time)
    elif again and old.checkpoint_id != checkpoint_id:
        return old._replace(bytes=old.bytes + size)
    move = MOVES[made.move]
    status: str = move.status
    reason, nodes, error = move.reason, made.next, None
    if old.reason == "router" and parent == old.checkpoint_id and made.move == "finished":
        # What should have come after the router was skipped, which LangGraph does not tell anybody.
        status, reason, nodes, error = old.status, old.reason, old.nodes, old.error
    new = Standing(
        status,
        reason,
        nodes,
        error,
        checkpoint_id,
        made.step,
        old.created,
        made.time,
        run_id,
        made.by,
        old.checkpoints + (not again),
        made.messages,
        old.bytes + size,
        old.ahead,
    )
    if new.ahead is not None and new.ahead[0] == checkpoint_id:
        new = _after(new, new.ahead[1])._replace(ahead=None)
    return new


def unknown(now: float, checkpoints: int, size: int) -> Standing:
    """The standing of a namespace that has checkpoints, of which nobody wrote it down; what is put next says more."""
    return _nothing(None, now)._replace(checkpoints=checkpoints, bytes=size)


def wrote(old: Standing | None, event: Event | None, checkpoint_id: str, size: int) -> Standing | None:
    """The standing after the writes of a task, `size` bytes; they may come before their checkpoint."""
    if old is None:
        if event is None:
            return None
        old = _nothing(event.time, event.time)
    new = old._replace(bytes=old.bytes + size) if size else old
    if event is None:
        return new
    if new.checkpoint_id == checkpoint_id:
        return _after(new, event)
    if new.ahead is not None and new.ahead[0] == checkpoint_id and _rank(new.ahead[1]) > _rank(event):
        return new
    return new._replace(ahead=(checkpoint_id, event))


def copied(old: Standing) -> Standing:
    """The standing of a copy, which nobody runs."""
    if old.status != "busy":
        return old
    move = MOVES["copied"]
    return old._replace(status=move.status, reason=move.reason)


def ended(old: Standing, event: Event) -> Standing:
    """The standing after a run ended, for a reason that no task has told."""
    move = MOVES[event.move]
    nodes = event.nodes or (old.nodes if move.status != "idle" else ())
    # Who gives up has no failure of his own to tell: the last one is why.
    error = old.error if event.move == "gave up" and event.error is None else event.error
    return old._replace(
        status=move.status, reason=move.reason, nodes=nodes, error=error, updated=event.time, by=event.by
    )


def tag_of(event: Event) -> str:
    """The tag that stays with a checkpoint because of what happened at it; "" for none."""
    status = MOVES[event.move].status
    return status if status in ("interrupted", "error") else ""


class Seen(NamedTuple):
    """How a thread stands, seen now: a lease and its owner's death are part of it."""

    status: Status
    reason: str


def seen(standing: Standing | None, *, expires: float | None, alive: bool | None, now: float) -> Seen:
    """How a thread stands now. `expires` is when its lease does; None when nobody has one.

    `alive` is whether who holds the lease, or has put the newest checkpoint, still is. It is None for a process that
    cannot be asked after; such a one is dead when its lease has expired.
    """
    if expires is not None:
        if alive is False:
            return Seen("crashed", "owner gone")
        return Seen("crashed", "lease expired") if now >= expires else Seen("busy", "")
    if standing is None:
        return Seen("idle", "")
    if standing.status == "busy" and alive is False:
        return Seen("crashed", "owner gone")
    return Seen(standing.status, standing.reason)  # type: ignore[arg-type]  # a store keeps what `MOVES` gave it


def _after(standing: Standing, event: Event) -> Standing:
    """The standing after an event of its newest checkpoint."""
    move = MOVES[event.move]
    again = bool(event.nodes) and {*event.nodes} <= {*standing.nodes}
    if standing.status == "error" and (event.move == "cancelled" or (event.move == "asked" and not again)):
        return standing  # the neighbours of a task that failed are cancelled, or ask in vain
    nodes = event.nodes or standing.nodes
    if move == (standing.status, standing.reason):
        nodes = (*standing.nodes, *(node for node in event.nodes if node not in standing.nodes))
    return standing._replace(
        status=move.status, reason=move.reason, nodes=nodes, error=event.error, updated=event.time, by=event.by
    )


def _nothing(created: float | None, updated: float) -> Standing:
    return Standing("busy", "", (), None, "", None, created, updated, None, "", 0, 0, 0)


def _rank(event: Event) -> int:
    return _RANK.index(event.move) if event.move in _RANK else len(_RANK)
