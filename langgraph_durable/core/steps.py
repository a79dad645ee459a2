"""The steps of a thread, one a checkpoint: where it came from, what ran after it, what is next, what happened there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple
from uuid import UUID

from langgraph.checkpoint.base import WRITES_IDX_MAP

from langgraph_durable.core.marks import node_of
from langgraph_durable.core.metadata import loaded
from langgraph_durable.core.reading import Reading
from langgraph_durable.core.records import Found, Page, Query, Tag
from langgraph_durable.core.requests import Flow, Session
from langgraph_durable.core.standings import Thread, find_thread
from langgraph_durable.core.superstep import START, Before, is_send
from langgraph_durable.errors import InvalidRequestError

_SINCE_1582 = 12_219_292_800
_FAILED, _ASKED = "__error__", "__interrupt__"


class Step(NamedTuple):
    """A checkpoint of a thread. `ran` are the nodes whose writes are stored with it: they ran after it.

    `status` is what happened at it, `time` in seconds since 1970 as its id tells (None where an id does not). `failed`
    and `asked` are nodes that raised, or were cancelled, and that asked somebody after it; they may have run since.
    """

    checkpoint_id: str
    parent: str | None
    step: int | None
    source: str
    time: float | None
    ran: tuple[str, ...]
    status: str
    failed: tuple[str, ...] = ()
    asked: tuple[str, ...] = ()


def steps(session: Session, thread_id: str, ns: str = "") -> Flow[list[Step]]:
    """The steps of a thread, the one put last first; no state is read. The newest has the status of the thread."""
    thread = yield from find_thread(session, thread_id, ns)
    read: list[_Read] = []
    tags: dict[str, str] = {}

    def look(metadata: str, tag: Tag) -> bool:
        tags[tag.id] = tag.status
        return True

    query: Query | None = Query(thread_id, ns, contents="writes", where=look, tagged=True)
    while query is not None:
        page: Page = yield query
        reading = Reading(session.codec, page)
        read += [_read(reading, one) for one in page.found]
        query = query._replace(after=page.cursor) if page.cursor is not None else None
    if thread is not None and thread.standing is not None:
        tags[thread.standing.checkpoint_id] = thread.seen.status
    return _steps(read, tags)


def lineage(session: Session, thread_id: str, checkpoint_id: str, ns: str = "") -> Flow[list[Step]]:
    """A checkpoint and its ancestors, nearest first."""
    read: dict[str, _Read] = {}
    following: str | None = checkpoint_id
    while following is not None:
        page: Page = yield Query(thread_id, ns, following, lineage=True, contents="writes")
        reading = Reading(session.codec, page)
        for one in page.found:
            if one.id in read:
                return _steps(list(read.values()), {})
            read[one.id] = _read(reading, one)
        following = page.cursor
    return _steps(list(read.values()), {})


class Rerun(NamedTuple):
    """What runs when a thread goes on from a checkpoint.

    `next` are the nodes that run first (empty where the checkpoint does not tell), `again` the steps, oldest first,
    that were made behind it and are left behind: their nodes run again, as far as the graph comes to them.
    """

    thread_id: str
    checkpoint_id: str
    step: int | None
    next: tuple[str, ...]
    again: tuple[Step, ...]

    def __str__(self) -> str:
        nodes = ", ".join(self.next) or "what is next"
        where = f"thread {self.thread_id!r} goes on from checkpoint {self.checkpoint_id} (step {self.step}): {nodes}"
        ran = [node for step in self.again for node in step.ran]
        return f"{where} runs{'; had run after it: ' + ', '.join(ran) if ran else ''}"


def rerun(session: Session, thread_id: str, checkpoint_id: str, following: Sequence[str] = ()) -> Flow[Rerun]:
    """What going on from a checkpoint of a thread means. InvalidRequestError when it is not there."""
    thread = yield from _there(session, thread_id)
    head = thread.standing.checkpoint_id if thread.standing is not None else checkpoint_id
    path = yield from lineage(session, thread_id, head)
    here = next((step for step in path if step.checkpoint_id == checkpoint_id), None)
    if here is None:
        own = yield from lineage(session, thread_id, checkpoint_id)
        if not own:
            raise InvalidRequestError(f"thread {thread_id!r} has no checkpoint {checkpoint_id!r}")
        return Rerun(thread_id, checkpoint_id, own[0].step, tuple(following) or own[0].ran, ())
    behind = path[: path.index(here) + 1][::-1]
    if not following and head == checkpoint_id and thread.standing is not None:
        following = thread.standing.nodes
    return Rerun(
        thread_id, checkpoint_id, here.step, tuple(following) or here.ran, tuple(one for one in behind if one.ran)
    )


def at_step(session: Session, thread_id: str, step: int) -> Flow[str]:
    """The id of the checkpoint of a step, of those that led to the newest one."""
    thread = yield from _there(session, thread_id)
    path = yield from lineage(session, thread_id, thread.standing.checkpoint_id if thread.standing is not None else "")
    for one in path:
        if one.step == step:
            return one.checkpoint_id
    known = [one.step for one in path if one.step is not None]
    raise InvalidRequestError(
        f"thread {thread_id!r} has no step {step}; it has {min(known, default=None)} to {max(known, default=None)}"
    )


def before_turn(session: Session, thread_id: str, turns: int) -> Flow[str]:
    """The id of the checkpoint before the last `turns` inputs, of those that led to the newest one."""
    if turns < 1:
        raise InvalidRequestError(f"turns must be 1 or more, and it is {turns}")
    thread = yield from _there(session, thread_id)
    path = yield from lineage(session, thread_id, thread.standing.checkpoint_id if thread.standing is not None else "")
    inputs = [one for one in path if one.source == "input"]
    if len(inputs) < turns or inputs[turns - 1].parent is None:
        raise InvalidRequestError(
            f"thread {thread_id!r} has {len(inputs)} turns, and cannot go back {turns}: before the first there is "
            "nothing. Delete the thread, or take another, to begin anew"
        )
    return str(inputs[turns - 1].parent)


def off_the_path(session: Session, thread_id: str, checkpoint_id: str) -> Flow[list[tuple[str, str]]]:
    """(namespace, id) of the checkpoints of a thread that did not lead to one of them."""
    kept = {step.checkpoint_id for step in (yield from lineage(session, thread_id, checkpoint_id))}
    gone: list[tuple[str, str]] = []
    query: Query | None = Query(thread_id, contents="none")
    while query is not None:
        page: Page = yield query
        for one in page.found:
            root = one.id if one.ns == "" else ((loaded(one.metadata) or {}).get("parents") or {}).get("")
            # What a subgraph stored belongs to the checkpoint at which its node ran, and goes with what came of it.
            if root not in kept or (one.ns != "" and root == checkpoint_id):
                gone.append((one.ns, one.id))
        query = query._replace(after=page.cursor) if page.cursor is not None else None
    return gone


def _there(session: Session, thread_id: str) -> Flow[Thread]:
    thread = yield from find_thread(session, thread_id)
    if thread is None or thread.standing is None:
        raise InvalidRequestError(f"there is no thread {thread_id!r} with checkpoints")
    return thread


class _Read(NamedTuple):
    """What is read of a checkpoint: (task, task path, channel) of its writes, and the nodes of what they sent."""

    found: Found
    number: int | None
    source: str
    written: list[tuple[str, str, str]]
    sent: tuple[str, ...]


def _read(reading: Reading, found: Found) -> _Read:
    metadata = loaded(found.metadata) or {}
    step, source = metadata.get("step"), metadata.get("source")
    number = step if type(step) is int else None
    return _Read(found, number, str(source or ""), reading.written(found), reading.sent(found))


def _steps(read: Sequence[_Read], tags: Mapping[str, str]) -> list[Step]:
    by_id = {one.found.id: one for one in read}
    return [_step(one, _waiting(one, by_id), tags.get(one.found.id, "")) for one in read]


def _waiting(one: _Read, by_id: Mapping[str, _Read]) -> Before:
    """What was sent to nodes and is next after a checkpoint: its parent's writes tell."""
    parent = by_id.get(one.found.parent or "")
    passed = {one.found.id}
    # A run that begins at an earlier checkpoint makes a copy of it, whose parent it is; any other copy has its parent.
    while parent is not None and one.source == "fork" and one.number == (parent.number or 0) + 1:
        if parent.found.id in passed:
            break
        passed.add(parent.found.id)
        one, parent = parent, by_id.get(parent.found.parent or "")
    return Before(one.found.id, one.number, {}, parent.sent if parent is not None else ())


def _step(read: _Read, before: Before, tag: str) -> Step:
    found = read.found
    nodes: dict[str, dict[str, None]] = {"ran": {}, _FAILED: {}, _ASKED: {}}
    for _, path, channel in read.written:
        if path and (channel not in WRITES_IDX_MAP or channel in nodes):
            name = node_of(path, before) or ("(send)" if is_send(path) else "(call)")
            nodes[channel if channel in nodes else "ran"][name] = None
    ran, failed, asked = (tuple(name for name in names if name != START) for names in nodes.values())
    return Step(found.id, found.parent, read.number, read.source, time_of(found.id), ran, tag, failed, asked)


def time_of(checkpoint_id: str) -> float | None:
    """When an id was made, in seconds since 1970; LangGraph's are of version 6: https://www.rfc-editor.org/rfc/rfc9562"""
    try:
        number = UUID(checkpoint_id)
    except ValueError:
        return None
    if number.version != 6:
        return None
    bits = number.int
    ticks = (bits >> 96 << 28) | ((bits >> 80 & 0xFFFF) << 12) | (bits >> 64 & 0xFFF)
    return ticks / 1e7 - _SINCE_1582
