"""Threads from one saver to another: every checkpoint with its writes, in the order in which they were stored.

The savers may be any that LangGraph has. Nothing is put behind what is newer: a copy that was interrupted, or that the
source went on from, is continued when it is made again, and a thread that went its own way in the target is refused
before anything is stored.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeAlias, TypeVar

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import WRITES_IDX_MAP, BaseCheckpointSaver, CheckpointTuple

from langgraph_durable.core.carrying import Carried, Header, carry, damage, headers, moves, parent, restore
from langgraph_durable.core.driving import adriven, driven
from langgraph_durable.core.plan import address, check_ids
from langgraph_durable.core.records import Damage, Query
from langgraph_durable.core.requests import Flow, Session
from langgraph_durable.errors import InvalidRequestError, StoreError, ThreadDeletedError
from langgraph_durable.progress import bar
from langgraph_durable.saver import DurableSaver

T = TypeVar("T")

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

    `source` and `target` may have different serializers. Between savers of this package that have LangGraph's own,
    encrypted or not, what it made is moved unread, and the app's classes need not be there; any other value is decoded
    and encoded again. Call it again after an interruption, or to take along what came since. `progress` shows a bar or
    not; by itself it does on a terminal and in a notebook, if it takes more than two seconds.

    Before anything is stored, InvalidRequestError names a thread that is not in the source, that has checkpoints in the
    target which the source does not have there, or whose order a target that goes by ids (any of another package)
    would not keep; StoreError says that a source of this package is damaged. Later, what was copied so far stays:
    CorruptDataError names what cannot be read, ThreadDeletedError what was deleted while it was copied.
    """
    return driven(_copying(source, target, thread_ids, progress), _answer)


async def acopy(
    source: Saver, target: Saver, *, thread_ids: Sequence[str] | None = None, progress: bool | None = None
) -> Copied:
    """`copy` for a coroutine, and for savers that are only used in one."""
    return await adriven(_copying(source, target, thread_ids, progress), _aanswer)


class _Flow(NamedTuple):
    """Drive a flow of a saver of this package, which knows more than LangGraph's protocol tells. Answer: the flow's."""

    saver: DurableSaver
    flow: Callable[[Session], Flow[Any]]


class _List(NamedTuple):
    """List what another saver has. Answer: a header of each; no state is kept."""

    saver: Saver
    config: RunnableConfig | None


class _Call(NamedTuple):
    """Call a method of another saver; the one for coroutines has an `a` before its name. Answer: the method's."""

    saver: Saver
    method: str
    args: tuple[Any, ...]


_Asked: TypeAlias = "_Flow | _List | _Call"
_Asking: TypeAlias = Generator[_Asked, Any, T]


class _Step(NamedTuple):
    """A checkpoint to copy, or one that is there and may lack writes."""

    header: Header
    writes_only: bool
    new_writes: int


def _copying(source: Saver, target: Saver, thread_ids: Sequence[str] | None, progress: bool | None) -> _Asking[Copied]:
    for saver in (source, target):
        if not isinstance(saver, BaseCheckpointSaver):
            raise InvalidRequestError(f"copy takes two savers, and not {saver!r}; open_saver opens the one of a URL")
    if thread_ids is not None:
        check_ids("thread", thread_ids)
    ids = None if thread_ids is None else list(dict.fromkeys(thread_ids))
    with bar("looking", None, "checkpoints", progress) as shown:
        if isinstance(source, DurableSaver):
            chosen = None if ids is None else [str(one) for one in ids]
            damaged: list[Damage] = yield _Flow(source, partial(damage, thread_ids=chosen))
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
    unread = (yield from _moves(source)) and (yield from _moves(target))
    steps = _planned(there, here)
    checkpoints = writes = 0
    with bar("copying", len(steps), "checkpoints", progress) as shown:
        for step in steps:
            header = step.header
            carried = yield from _fetch(source, header, unread)
            if carried is None:
                raise ThreadDeletedError(
                    f"checkpoint {header.id!r} of thread {header.thread_id!r} was deleted while it was copied; copy "
                    "again to continue with what is left"
                )
            yield from _store(target, carried, step.writes_only)
            checkpoints += not step.writes_only
            writes += step.new_writes
            shown.update()
    threads = {step.header.thread_id for step in steps if not step.writes_only or step.new_writes}
    return Copied(len(threads), checkpoints, writes)


def _headers(saver: Saver, thread_id: Any, shown: Any) -> _Asking[list[Header]]:
    """Every checkpoint of a thread, or of all, oldest first."""
    found: list[Header]
    if not isinstance(saver, DurableSaver):
        found = yield _List(saver, None if thread_id is None else {"configurable": {"thread_id": thread_id}})
        shown.update(len(found))
        # They know no order but that of the ids, and some list one namespace after the other.
        return sorted(found, key=lambda header: header.id)
    found = []
    query: Query | None = Query(None if thread_id is None else str(thread_id))
    while query is not None:
        page, query = yield _Flow(saver, partial(headers, query=query))
        found += page
        shown.update(len(page))
    return found[::-1]


def _moves(saver: Saver) -> _Asking[bool]:
    """Whether what the saver's serializer made can be moved as it is, from it or to it."""
    # Asked of the saver, and not looked up: one that is not open yet opens now, which takes its time.
    return isinstance(saver, DurableSaver) and bool((yield _Flow(saver, moves)))


def _fetch(saver: Saver, header: Header, unread: bool) -> _Asking[Carried | None]:
    """A checkpoint; None when it is gone."""
    if isinstance(saver, DurableSaver):
        carried: Carried | None = yield _Flow(saver, partial(carry, header=header, unread=unread))
        return carried
    found: CheckpointTuple | None = yield _Call(saver, "get_tuple", (header.config,))
    if found is None:
        return None
    # Which paths the tasks had is not told, but in what order they were: paths are what orders writes.
    tasks = dict.fromkeys(task_id for task_id, _, _ in found.pending_writes or ())
    return Carried(found, {task_id: f"~copied, {place:06}" for place, task_id in enumerate(tasks)})


def _store(saver: Saver, carried: Carried, writes_only: bool) -> _Asking[None]:
    """Store a checkpoint, or only its writes."""
    if isinstance(saver, DurableSaver):
        yield _Flow(saver, partial(restore, carried=carried, writes_only=writes_only))
        return
    found, paths = carried.found, carried.task_paths
    if not writes_only:
        yield _Call(saver, "put", (parent(found), found.checkpoint, found.metadata, _versions(found)))
    for task_id, writes in carried.calls():
        yield _Call(saver, "put_writes", (found.config, writes, task_id, paths.get(task_id, "")))


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
    if isinstance(asked, _Flow):
        return asked.saver._do(asked.flow)
    loop = getattr(asked.saver, "loop", None)
    if isinstance(loop, asyncio.AbstractEventLoop) and not loop.is_running():
        name = type(asked.saver).__name__
        raise InvalidRequestError(f"{name} is used in its event loop only: `await acopy(...)` there")
    if isinstance(asked, _List):
        return [_header(found) for found in asked.saver.list(asked.config)]
    return getattr(asked.saver, asked.method)(*asked.args)


async def _aanswer(asked: _Asked) -> Any:
    if isinstance(asked, _Flow):
        return await asked.saver._ado(asked.flow)
    try:
        if isinstance(asked, _List):
            return [_header(found) async for found in asked.saver.alist(asked.config)]
        return await getattr(asked.saver, f"a{asked.method}")(*asked.args)
    except NotImplementedError:
        # The official saver for synchronous code has these methods, and says in each that it has not.
        return await asyncio.get_running_loop().run_in_executor(None, _answer, asked)


def _header(found: CheckpointTuple) -> Header:
    at = address(found.config)
    writes = tuple((task_id, channel) for task_id, channel, _ in found.pending_writes or ())
    return Header(at.thread_id, at.ns, found.checkpoint["id"], found.config, writes)


def _versions(found: CheckpointTuple) -> dict[str, Any]:
    """The versions of what the checkpoint has: savers that keep values by version store those, and no others."""
    values = found.checkpoint["channel_values"]
    return {name: version for name, version in found.checkpoint["channel_versions"].items() if name in values}
