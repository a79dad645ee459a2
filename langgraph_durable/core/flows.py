"""Each call of a saver, written once: a generator that asks for what it needs and never waits for it itself.

What is yielded is a request, what comes back is its answer, and an error of the store is raised at the yield. Two
loops, one that blocks and one that awaits, drive the same generator, so that `put` and `aput` cannot disagree.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, cast

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    PendingWrite,
)

from langgraph_durable.core import status
from langgraph_durable.core.environments import record_in
from langgraph_durable.core.leases import busy, forked, held_by, lost
from langgraph_durable.core.marks import due, happened, mark, sealed_failure, without_failed_output
from langgraph_durable.core.metadata import loaded
from langgraph_durable.core.plan import (
    Address,
    address,
    check_ids,
    check_text,
    keep_latest,
    plan_put,
    plan_writes,
)
from langgraph_durable.core.reading import Reading
from langgraph_durable.core.records import (
    Batch,
    CopyThread,
    DeleteCheckpoints,
    DeleteThread,
    EndLease,
    Event,
    Fenced,
    Found,
    Lease,
    Mark,
    Page,
    Query,
    Ref,
    Stale,
    Stored,
)
from langgraph_durable.core.requests import (
    AwaitWrites,
    CommitWrites,
    FindRuns,
    Flow,
    LookAfter,
    Session,
    Settle,
    WritesArrived,
)
from langgraph_durable.core.superstep import ran
from langgraph_durable.errors import (
    InvalidRequestError,
    RunCancelledError,
    StoreError,
)

T = TypeVar("T")

ATTEMPTS = 8
"""How often a call is planned anew when another process keeps taking away what the plan rests on."""


def put(
    session: Session, config: RunnableConfig, checkpoint: Checkpoint, metadata: CheckpointMetadata
) -> Flow[RunnableConfig]:
    """Store a checkpoint; the config that leads to it."""
    memory = session.memory
    at = address(config)
    if session.fence is not None:
        if session.fence.lost is not None:
            raise session.fence.lost
        if session.fence.metadata:
            metadata = cast(CheckpointMetadata, {**metadata, **session.fence.metadata})
    if at.checkpoint_id is not None:
        finished = ran(memory.before(at.thread_id, at.ns, at.checkpoint_id), checkpoint, metadata)
        if finished.tasks or finished.sends:
            yield AwaitWrites(at, finished)
    stored = yield from put_at(session, at, config, checkpoint, metadata)
    if session.fence is not None and session.fence.stopped and (at.ns or due(checkpoint)):
        # After it was stored, and unless it is the last: who asked the run to end did not ask for the loss of what it
        # has done.
        raise RunCancelledError(
            f"the run of thread {at.thread_id!r} was asked to end (request_cancel); what it did so far is stored, and "
            "resume goes on from there"
        )
    return stored


def put_at(
    session: Session,
    at: Address,
    config: RunnableConfig,
    checkpoint: Checkpoint,
    metadata: CheckpointMetadata,
    *,
    copied: bool = False,
    record: str | None = None,
) -> Flow[RunnableConfig]:
    """`put` without waiting for anything; `at` is what `config` says. `copied` is as in `PutCheckpoint`.

    `record` is what the hash in the metadata is of, where the config does not bring it.
    """
    memory = session.memory
    made = _mark(session, checkpoint, metadata, copied=copied)
    record = record or record_in(cast("dict[str, Any]", metadata)) or record_in(config.get("metadata"))
    for _ in range(ATTEMPTS):
        space = memory.space(at.thread_id, at.ns)
        if space is None and at.checkpoint_id is not None:
            # Forgotten, or another saver's: without its lists to compare with, all of their names would be stored anew.
            page = yield Query(at.thread_id, at.ns, at.checkpoint_id, limit=1)
            if page.found:
                reading = Reading(session.codec, page)
                space = reading.space(page.found[0], reading.checkpoint_tuple(page.found[0]))
        epoch, chunks = memory.chunks(at.thread_id)
        if space is not None and space.epoch != epoch:
            epoch, chunks = space.epoch, {}
        plan = plan_put(
            session.codec,
            space,
            epoch,
            chunks,
            at,
            config,
            checkpoint,
            metadata,
            made=made,
            copied=copied,
            record=record,
        )
        stored = yield from commit(session, plan.batch)
        if stored is not None:
            memory.keep(at.thread_id, at.ns, plan.space(stored))
            return at.config(checkpoint["id"])
    raise _contended(at.thread_id)


def put_writes(
    session: Session, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str
) -> Flow[None]:
    """Store the writes of one task."""
    at = address(config)
    # An interrupted or failed node has not finished: the checkpoint that waits for it is a later run's.
    finished = task_path and any(channel not in WRITES_IDX_MAP for channel, _ in writes)
    arrived = WritesArrived(at, (task_path,)) if finished else None
    try:
        yield from write_at(session, at, writes, task_id, task_path, arrived)
    except GeneratorExit:
        raise
    except BaseException:
        if arrived is not None:
            yield arrived  # nobody is to wait for them
        raise


def write_at(
    session: Session,
    at: Address,
    writes: Sequence[tuple[str, Any]],
    task_id: str,
    task_path: str,
    arrived: WritesArrived | None = None,
) -> Flow[None]:
    """`put_writes` at what `config` says; `arrived`, if anybody may wait for the writes, is said when it is so."""
    epoch, chunks = session.memory.chunks(at.thread_id)
    event = _event(session, at, writes, task_path)
    batch = plan_writes(session.codec, epoch, chunks, at, writes, task_id, task_path, event)
    stored = yield from commit(session, batch, arrived)
    assert stored is not None  # writes are never stale


def get_tuple(session: Session, config: RunnableConfig) -> Flow[CheckpointTuple | None]:
    """The checkpoint that `config` names, or the newest of its namespace."""
    memory = session.memory
    at = address(config)
    space = memory.space(at.thread_id, at.ns)
    lists = {held.ref: held for held in space.lists.values()} if space else {}

    def has(thread_id: str, ns: str, epoch: int, ref: Ref) -> bool:
        return space is not None and epoch == space.epoch and ref in lists

    page: Page = yield Query(at.thread_id, at.ns, at.checkpoint_id, limit=1, has=has if space is not None else None)
    if not page.found:
        return None
    found = page.found[0]
    if session.fence is not None:
        # LangGraph takes a task for finished that has written anything but its error: what should have come after a
        # router that raised would be skipped.
        found = found._replace(writes=tuple(map(without_failed_output, found.writes)))
    known = lists if space is not None and found.epoch == space.epoch else {}
    reading = Reading(session.codec, page, known)
    read = reading.checkpoint_tuple(found)
    fresh = reading.space(found, read)
    if fresh is not None:
        if at.checkpoint_id is None or space is None:
            memory.keep(at.thread_id, at.ns, fresh)
        else:
            memory.note(at.thread_id, at.ns, fresh.before)
        paths = tuple(
            call.task_path
            for call in found.writes
            if call.task_path and any(channel not in WRITES_IDX_MAP for _, channel, _ in call.entries)
        )
        if paths:
            yield WritesArrived(Address(at.thread_id, at.ns, found.id), paths)
    return read


def delete_thread(session: Session, thread_id: str) -> Flow[None]:
    """Take everything of a thread away."""
    check_text("the call", str(thread_id))
    yield from _delete(session, Batch(str(thread_id), None, (), DeleteThread()))
    yield Settle()


def delete_for_runs(session: Session, run_ids: Sequence[str]) -> Flow[None]:
    """Take the checkpoints of some runs away."""
    check_ids("run", run_ids)
    check_text("the call", *map(str, run_ids))
    found: list[tuple[str, str, str]] = yield FindRuns(tuple(map(str, run_ids)))
    by_thread: dict[str, list[tuple[str, str]]] = {}
    for thread_id, ns, checkpoint_id in found:
        by_thread.setdefault(thread_id, []).append((ns, checkpoint_id))
    for thread_id, checkpoints in by_thread.items():
        yield from _delete(session, Batch(thread_id, None, (), DeleteCheckpoints(tuple(checkpoints))))
    if found:
        yield Settle()


def copy_thread(session: Session, source: str, target: str) -> Flow[None]:
    """Copy everything of a thread to one that has nothing yet."""
    check_text("the call", str(source), str(target))
    fence = session.fence
    batch = Batch(str(source), None, (), CopyThread(str(target)), token=fence.token if fence is not None else None)
    while isinstance(outcome := (yield batch), Fenced):
        if fence is not None or outcome.lease is None:
            raise lost(str(target), outcome.lease)
        yield from free(session, str(target), outcome.lease)
    session.memory.forget(str(target))


def prune(session: Session, thread_ids: Sequence[str], strategy: str) -> Flow[None]:
    """Thin threads out: `keep_latest` of each namespace, or `delete`."""
    if strategy not in ("keep_latest", "delete"):
        raise InvalidRequestError(f"strategy must be 'keep_latest' or 'delete', and it is {strategy!r}")
    check_ids("thread", thread_ids)
    check_text("the call", *map(str, thread_ids))
    for thread_id in map(str, thread_ids):
        if strategy == "delete":
            yield from _delete(session, Batch(thread_id, None, (), DeleteThread()))
            continue
        gone = yield from _superfluous(session, thread_id)
        if gone:
            yield from _delete(session, Batch(thread_id, None, (), DeleteCheckpoints(tuple(gone))))
    if thread_ids:
        yield Settle()


def delta_history(session: Session, config: RunnableConfig, channels: Sequence[str]) -> Flow[dict[str, dict[str, Any]]]:
    """For each channel the writes of the ancestors, oldest first, back to the value that they start from (`seed`)."""
    at = address(config)
    collected: dict[str, list[PendingWrite]] = {channel: [] for channel in channels}
    seeds: dict[str, Any] = {}
    remaining = set(channels)
    start = at.checkpoint_id
    if channels and start is None:
        newest: Page = yield Query(at.thread_id, at.ns, limit=1, contents="none")
        start = newest.found[0].id if newest.found else None
    following = start
    passed: set[str] = set()
    while following is not None and remaining:
        page: Page = yield Query(at.thread_id, at.ns, following, lineage=True, contents="writes")
        reading = Reading(session.codec, page)
        following = page.cursor
        for found in page.found:
            if found.id in passed or not remaining:
                following = None
                break
            passed.add(found.id)
            if found.id == start:
                continue
            for write in reversed(reading.writes(found)):
                if write[1] in remaining:
                    collected[write[1]].append(write)
            stored = remaining.intersection(reading.names(found))
            if stored:
                whole: Page = yield Query(at.thread_id, at.ns, found.id, limit=1)
                values = Reading(session.codec, whole).checkpoint_tuple(whole.found[0]).checkpoint["channel_values"]
                seeds.update({channel: values[channel] for channel in stored})
                remaining -= stored
    return {
        channel: {"writes": writes[::-1], **({"seed": seeds[channel]} if channel in seeds else {})}
        for channel, writes in collected.items()
    }


def commit(session: Session, batch: Batch, arrived: WritesArrived | None = None) -> Flow[Stored | None]:
    """The outcome of a batch; None when what it rests on is gone, and has been forgotten.

    LeaseLostError: the session writes under a lease, and it is another's now. ThreadBusyError: somebody has one.
    """
    fence = session.fence
    if fence is not None:
        if fence.by != session.here.by:
            raise forked(batch.thread_id)
        batch = batch._replace(token=fence.token)
    while True:
        try:
            outcome: Stored | Stale | Fenced = yield (CommitWrites(batch, arrived) if arrived is not None else batch)
        except BaseException:
            session.memory.forget(batch.thread_id)
            raise
        if not isinstance(outcome, Fenced):
            break
        session.memory.forget(batch.thread_id)
        if fence is not None:
            fence.lost = lost(batch.thread_id, outcome.lease)
            raise fence.lost
        if outcome.lease is not None:
            yield from free(session, batch.thread_id, outcome.lease)
    if isinstance(outcome, Stored):
        session.memory.learn(batch.thread_id, outcome.epoch, outcome.chunks)
        if outcome.stop and fence is not None:
            fence.stopped = True
        return outcome
    session.memory.forget(batch.thread_id)
    return None


def free(session: Session, thread_id: str, lease: Lease) -> Flow[None]:
    """End a lease whose owner is gone, or that has expired; else ThreadBusyError."""
    holder = held_by(lease)
    alive: Mapping[str, bool | None] = yield LookAfter((holder.by,))
    seen = status.seen(None, expires=holder.expires, alive=alive[holder.by], now=session.here.clock())
    if seen.status == "busy":
        raise busy(thread_id, holder)
    yield Batch(thread_id, None, (), EndLease(lease.token, None))


def _delete(session: Session, batch: Batch) -> Flow[None]:
    try:
        yield batch
    finally:
        session.memory.forget(batch.thread_id)


def _superfluous(session: Session, thread_id: str) -> Flow[list[tuple[str, str]]]:
    """What `keep_latest` takes away. What is put meanwhile is newer, and not on the list."""
    headers: list[Found] = []
    stored: dict[tuple[str, str], frozenset[str]] = {}
    query: Query | None = Query(thread_id, contents="none")
    while query is not None:
        page: Page = yield query
        for found in page.found:
            headers.append(found)
            if not (loaded(found.metadata) or {}).get("counters_since_delta_snapshot"):
                continue
            whole: Page = page if found.whole is None else (yield Query(thread_id, found.ns, found.id, limit=1))
            full = found if found.whole is None else whole.found[0]
            stored[found.ns, found.id] = frozenset(Reading(session.codec, whole).names(full))
        query = query._replace(after=page.cursor) if page.cursor is not None else None
    return keep_latest(headers, stored)


def _mark(session: Session, checkpoint: Checkpoint, metadata: CheckpointMetadata, *, copied: bool) -> Mark | None:
    """What a checkpoint says of how its thread stands; None for one that says nothing that can be understood."""
    here, leased = session.here, session.fence is not None
    try:
        return mark(checkpoint, metadata, time=here.clock(), by=here.by, copied=copied, leased=leased)
    except Exception:  # noqa: BLE001  a checkpoint may hold anything, and what is told of it is not worth losing it for
        return None


def _event(session: Session, at: Address, writes: Sequence[tuple[str, Any]], task_path: str) -> Event | None:
    """What these writes say of how the thread stands."""
    if not any(channel in WRITES_IDX_MAP for channel, _ in writes):
        return None
    try:
        return _said(session, at, writes, task_path)
    except Exception:  # noqa: BLE001  as above
        return None


def _said(session: Session, at: Address, writes: Sequence[tuple[str, Any]], task_path: str) -> Event | None:
    before = session.memory.before(at.thread_id, at.ns, at.checkpoint_id or "")
    said = happened(writes, task_path, before)
    if said is None:
        return None
    if session.fence is not None:
        where = at.ns, at.checkpoint_id or ""
        session.fence.said[where] = (*session.fence.said.get(where, ()), (said.move, task_path))
    error = sealed_failure(session.codec, said.error) if said.error is not None else None
    return Event(session.here.clock(), said.move, (said.node,) if said.node else (), error, session.here.by)


def _contended(thread_id: str) -> StoreError:
    return StoreError(
        f"thread {thread_id!r} was pruned or deleted by others {ATTEMPTS} times while this was being stored; "
        "nothing of it was"
    )
