"""Threads from one saver to another: every checkpoint with its writes, in the order in which they were stored.

The savers may be any that LangGraph has. Nothing is put behind what is newer: a copy that was interrupted, or that the
source went on from, is continued when it is made again, and a thread that went its own way in the target is refused
before anything is stored.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Generator, Sequence
from typing import Any, NamedTuple, TypeAlias

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import WRITES_IDX_MAP, BaseCheckpointSaver, CheckpointTuple

from langgraph_durable.core.carrying import Carried, Header, carry, damage, headers, parent, restore
from langgraph_durable.core.flows import Flow, Session
from langgraph_durable.core.plan import address, check_ids
from langgraph_durable.core.records import Query
from langgraph_durable.errors import InvalidRequestError, StoreError, ThreadDeletedError
from langgraph_durable.progress import bar
from langgraph_durable.saver import DurableSaver

Saver: TypeAlias = "BaseCheckpointSaver[Any]"


class Copied(NamedTuple):
    """What was stored in the target: checkpoints, the writes with them, and of how many threads."""

    threads: int
    checkpoints: int
    writes: int


def copy(
    source: Saver, target: Saver, *, thread_ids: Sequence[str] | None = None, progress: bool | None = None
) -> Copied:
    """Copy all threads, or these, with their history, pending writes and order; what is there already is left alone.

    Everything is decoded and encoded again: `source` and `target` may have different serializers. Call it again after
    an interruption, or to take along what came since. `progress` shows a bar or not; by itself it does on a terminal
    and in a notebook, if it takes more than two seconds.

    InvalidRequestError, before anything is stored, names a thread that is not in the source, or that has checkpoints
    in the target which the source does not have there. CorruptDataError names what cannot be read.
    """
    asking = _copying(source, target, thread_ids, progress)
    try:
        asked = next(asking)
        while True:
            asked = asking.send(_answer(asked))
    except StopIteration as end:
        return _copied(end)
    finally:
        asking.close()


async def acopy(
    source: Saver, target: Saver, *, thread_ids: Sequence[str] | None = None, progress: bool | None = None
) -> Copied:
    """`copy` for a coroutine, and for savers that are only used in one."""
    asking = _copying(source, target, thread_ids, progress)
    try:
        asked = next(asking)
        while True:
            asked = asking.send(await _aanswer(asked))
    except StopIteration as end:
        return _copied(end)
    finally:
        asking.close()


class _Look(NamedTuple):
    """What checkpoints are there? Answer: headers, newest first, and how to ask for more (None: that was all)."""

    saver: Saver
    thread_id: Any
    query: Query


class _Examine(NamedTuple):
    """Is what is stored of these threads, or of all, damaged? Answer: a list of what is."""

    saver: Saver
    thread_ids: Sequence[str] | None


class _Fetch(NamedTuple):
    """Read a checkpoint. Answer: it, or None."""

    saver: Saver
    header: Header
    unread: bool


class _Store(NamedTuple):
    """Store a checkpoint, or only its writes. Answer: None."""

    saver: Saver
    carried: Carried
    writes_only: bool


_Asked: TypeAlias = "_Look | _Examine | _Fetch | _Store"
_Asking: TypeAlias = Generator[_Asked, Any, Copied]


class _Step(NamedTuple):
    """A checkpoint to copy, or one that is there and may lack writes."""

    header: Header
    writes_only: bool
    new_writes: int


def _copying(source: Saver, target: Saver, thread_ids: Sequence[str] | None, progress: bool | None) -> _Asking:
    for saver in (source, target):
        if not isinstance(saver, BaseCheckpointSaver):
            raise InvalidRequestError(f"copy takes two savers, and not {saver!r}; open_saver opens the one of a URL")
    if thread_ids is not None:
        check_ids("thread", thread_ids)
    ids = None if thread_ids is None else list(dict.fromkeys(thread_ids))
    with bar("looking", None, "checkpoints", progress) as shown:
        if isinstance(source, DurableSaver):
            damaged = yield _Examine(source, None if ids is None else [str(one) for one in ids])
            if damaged:
                raise StoreError(
                    f"the source is damaged, and a copy would lack what is missing: {damaged[0].trouble}. Nothing was "
                    "copied; `check` tells everything, and `thread_ids` takes threads that are whole"
                )
        there: list[Header] = []
        for thread_id in [None] if ids is None else ids:
            found = yield from _headers(source, thread_id, shown)
            if thread_id is not None and not found:
                raise InvalidRequestError(f"the source has no thread {thread_id!r}; nothing was copied")
            there += found
        here: list[Header] = []
        for thread_id in dict.fromkeys(header.config["configurable"]["thread_id"] for header in there):
            here += yield from _headers(target, thread_id, shown)
    if not isinstance(target, DurableSaver):
        _check_order(there)
    unread = all(isinstance(saver, DurableSaver) and saver._session().codec.moves for saver in (source, target))
    steps = _planned(there, here)
    checkpoints = writes = 0
    with bar("copying", len(steps), "checkpoints", progress) as shown:
        for step in steps:
            header = step.header
            carried: Carried | None = yield _Fetch(source, header, unread)
            if carried is None:
                raise ThreadDeletedError(
                    f"checkpoint {header.id!r} of thread {header.thread_id!r} was deleted while it was copied; copy "
                    "again to continue with what is left"
                )
            yield _Store(target, carried, step.writes_only)
            checkpoints += not step.writes_only
            writes += step.new_writes
            shown.update()
    threads = {step.header.thread_id for step in steps if not step.writes_only or step.new_writes}
    return Copied(len(threads), checkpoints, writes)


def _headers(saver: Saver, thread_id: Any, shown: Any) -> Generator[_Asked, Any, list[Header]]:
    """Every checkpoint of a thread, or of all, oldest first."""
    found: list[Header] = []
    query: Query | None = Query(None if thread_id is None else str(thread_id))
    while query is not None:
        page, query = yield _Look(saver, thread_id, query)
        found += page
        shown.update(len(page))
    # Other savers know no order but that of the ids, and some list one namespace after the other.
    return found[::-1] if isinstance(saver, DurableSaver) else sorted(found, key=lambda header: header.id)


def _planned(there: Sequence[Header], here: Sequence[Header]) -> list[_Step]:
    """What is missing `here` of what is `there`, oldest first. InvalidRequestError where it cannot be put in order."""
    have: dict[str, dict[tuple[str, str], Header]] = {}
    for header in here:
        have.setdefault(header.thread_id, {})[header.ns, header.id] = header
    steps: list[_Step] = []
    behind: set[tuple[str, str]] = set()
    for header in there:
        known = have.get(header.thread_id, {}).pop((header.ns, header.id), None)
        if known is None:
            behind.add((header.thread_id, header.ns))
            steps.append(_Step(header, False, len(header.writes)))
            continue
        if (header.thread_id, header.ns) in behind:
            raise InvalidRequestError(
                f"the target has checkpoint {header.id!r} of thread {header.thread_id!r}, but not all of those before "
                "it: a copy would put them in the wrong order. Delete the thread in the target, or leave it out; "
                "nothing was copied"
            )
        missing = Counter(header.writes) - Counter(known.writes)
        # Special writes may have been replaced, which does not show in their names.
        if missing or any(channel in WRITES_IDX_MAP for _, channel in header.writes):
            steps.append(_Step(header, True, sum(missing.values())))
    for thread_id, rest in have.items():
        if rest:
            raise InvalidRequestError(
                f"thread {thread_id!r} is in the target already, with {len(rest)} checkpoints that the source does not "
                f"have ({next(iter(rest))[1]!r}): they are different threads of the same name, or the source was "
                "pruned. Delete it in the target, or leave it out; nothing was copied"
            )
    return steps


def _check_order(there: Sequence[Header]) -> None:
    """InvalidRequestError where savers that go by the ids of checkpoints would take another one for the newest."""
    newest: dict[tuple[str, str], str] = {}
    for header in there:
        if header.id < newest.get((header.thread_id, header.ns), ""):
            raise InvalidRequestError(
                f"checkpoint {header.id!r} of thread {header.thread_id!r} was put after one with a greater id, and the "
                "target goes by ids: it would take another one for the newest. Copy to a saver of this package, or "
                "leave the thread out; nothing was copied"
            )
        newest[header.thread_id, header.ns] = header.id


def _answer(asked: _Asked) -> Any:
    saver = asked.saver
    if isinstance(saver, DurableSaver):
        return saver._do(_flow, asked)
    loop = getattr(saver, "loop", None)
    if isinstance(loop, asyncio.AbstractEventLoop) and not loop.is_running():
        raise InvalidRequestError(f"{type(saver).__name__} is used in its event loop only: `await acopy(...)` there")
    if isinstance(asked, _Look):
        return [_header(found) for found in saver.list(_config(asked.thread_id))], None
    if isinstance(asked, _Fetch):
        return _carried(saver.get_tuple(asked.header.config))
    assert isinstance(asked, _Store)
    found, paths = asked.carried
    if not asked.writes_only:
        saver.put(parent(found), found.checkpoint, found.metadata, _versions(found))
    for task_id, writes in asked.carried.calls():
        saver.put_writes(found.config, writes, task_id, paths.get(task_id, ""))
    return None


async def _aanswer(asked: _Asked) -> Any:
    saver = asked.saver
    if isinstance(saver, DurableSaver):
        return await saver._ado(_flow, asked)
    try:
        return await _aasked(saver, asked)
    except NotImplementedError:
        # The official saver for synchronous code has these methods, and says in each that it has not.
        return await asyncio.get_running_loop().run_in_executor(None, _answer, asked)


async def _aasked(saver: Saver, asked: _Asked) -> Any:
    if isinstance(asked, _Look):
        return [_header(found) async for found in saver.alist(_config(asked.thread_id))], None
    if isinstance(asked, _Fetch):
        return _carried(await saver.aget_tuple(asked.header.config))
    assert isinstance(asked, _Store)
    found, paths = asked.carried
    if not asked.writes_only:
        await saver.aput(parent(found), found.checkpoint, found.metadata, _versions(found))
    for task_id, writes in asked.carried.calls():
        await saver.aput_writes(found.config, writes, task_id, paths.get(task_id, ""))
    return None


def _flow(session: Session, asked: _Asked) -> Flow[Any]:
    """What a saver of this package is asked: it knows more than LangGraph's protocol tells."""
    if isinstance(asked, _Look):
        return headers(session, asked.query)
    if isinstance(asked, _Examine):
        return damage(session, asked.thread_ids)
    if isinstance(asked, _Fetch):
        return carry(session, asked.header, unread=asked.unread)
    return restore(session, asked.carried, writes_only=asked.writes_only)


def _config(thread_id: Any) -> RunnableConfig | None:
    return None if thread_id is None else {"configurable": {"thread_id": thread_id}}


def _header(found: CheckpointTuple) -> Header:
    at = address(found.config)
    writes = tuple((task_id, channel) for task_id, channel, _ in found.pending_writes or ())
    return Header(at.thread_id, at.ns, found.checkpoint["id"], found.config, writes)


def _carried(found: CheckpointTuple | None) -> Carried | None:
    if found is None:
        return None
    # Which paths the tasks had is not told, but in what order they were: paths are what orders writes.
    tasks = dict.fromkeys(task_id for task_id, _, _ in found.pending_writes or ())
    return Carried(found, {task_id: f"~copied, {place:06}" for place, task_id in enumerate(tasks)})


def _versions(found: CheckpointTuple) -> dict[str, Any]:
    """The versions of what the checkpoint has: savers that keep values by version store those, and no others."""
    values = found.checkpoint["channel_values"]
    return {name: version for name, version in found.checkpoint["channel_versions"].items() if name in values}


def _copied(end: StopIteration) -> Copied:
    assert isinstance(end.value, Copied)
    return end.value
