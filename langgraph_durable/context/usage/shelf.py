"""Records that were made: each is stored in the journal of its thread at once, or kept in memory and told of.

What cannot be stored now is stored with the next record of its thread. Nothing that goes wrong here is the caller's:
the call that a record is of was paid for, and its answer is good.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import threading
import weakref
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, NamedTuple, cast
from uuid import UUID

from langgraph.checkpoint.base import BaseCheckpointSaver

from langgraph_durable.context.journal import Journal
from langgraph_durable.context.usage.calls import remember
from langgraph_durable.context.usage.places import Where
from langgraph_durable.context.usage.records import UsageRecord, of_thread, settled
from langgraph_durable.context.usage.seen import seen, stored
from langgraph_durable.errors import InvalidRequestError, ThreadDeletedError

log = logging.getLogger("langgraph_durable")

_ONLY_HERE = "what model calls use is recorded in this process only"

_RUNS = 1024
"""Of how many runs it is remembered what is being stored."""

_PATIENCE = 0.1
"""Seconds after which it is looked whether an event loop still runs, when one is waited for."""


class _Writing(NamedTuple):
    """Records that are being stored by an event loop."""

    future: concurrent.futures.Future[None]
    loop: asyncio.AbstractEventLoop


class Shelf:
    """The records of a process that are in no journal, and the way there."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[str, UsageRecord] = {}
        # The ids of those that are kept, by thread: late for the saver, of a thread without one, and of whose saver
        # nobody knows.
        self._late: weakref.WeakKeyDictionary[BaseCheckpointSaver[Any], dict[str, list[str]]] = (
            weakref.WeakKeyDictionary()
        )
        self._unsaved: dict[str, list[str]] = {}
        self._lost: dict[str, list[str]] = {}
        self._saver: weakref.ref[BaseCheckpointSaver[Any]] | None = None
        self._several = False
        self._writing: OrderedDict[UUID, list[_Writing]] = OrderedDict()
        self._said: set[str] = set()

    def records(self) -> list[UsageRecord]:
        """Copies of what is kept here."""
        with self._lock:
            return [cast(UsageRecord, dict(record)) for record in settled(self._kept).values()]

    def put(self, where: Where, record: UsageRecord, run_id: UUID | None = None) -> None:
        """Store a record, or keep it; `run_id` is the run at whose end it has to be stored, if it cannot be at once."""
        if where.journal is None:
            if not where.known:
                self.say(
                    "nowhere",
                    f"{_ONLY_HERE}: in thread {where.thread_id!r} a task has no config where its model is called, "
                    "as in a coroutine before Python 3.11 and in a thread of one's own",
                )
            self._keep(record, self._unsaved if where.known else self._lost)
            return
        loop = _loop_of(where.journal)
        if loop is None:
            self._store(where.journal, record)
            return
        self._keep_late(where.journal, record)
        writing = _Writing(asyncio.run_coroutine_threadsafe(self._astore(where.journal), loop), loop)
        if run_id is not None:
            with self._lock:
                self._wait_for(run_id, [writing])

    def settle(self, run_id: UUID, parent: UUID | None) -> None:
        """Wait for what is being stored of a run that has ended. Where a loop runs, leave that to the run around it."""
        with self._lock:
            writing = self._writing.pop(run_id, None)
            if writing is None:
                return
            if _running_loop() is not None:
                self._wait_for(parent or run_id, writing)
                return
        left = [one for one in writing if not one.future.done()]
        while left and any(one.loop.is_running() for one in left):
            concurrent.futures.wait([one.future for one in left], timeout=_PATIENCE)
            left = [one for one in left if not one.future.done()]

    def of_thread(self, where: Where) -> list[UsageRecord]:
        """Every record of a thread, those in its journal and those here."""
        found: Mapping[str, UsageRecord] = {}
        if where.journal is not None:
            if _loop_of(where.journal) is not None:
                raise InvalidRequestError(
                    "a limit cannot be checked where a coroutine calls a model without awaiting it, and the saver is "
                    "one for coroutines: use `await model.ainvoke(...)`"
                )
            found = seen(where.journal)
        with self._lock:
            here = {key: self._kept[key] for key in self._ids(where) if key in self._kept}
        return list(of_thread(where.thread_id, {**here, **found}).values())

    def say(self, what: str, text: str) -> None:
        """Log a warning, the first time that it is about `what`."""
        with self._lock:
            if what in self._said:
                return
            self._said.add(what)
        log.warning("%s", text)

    def _wait_for(self, run_id: UUID, writing: list[_Writing]) -> None:
        known = [*self._writing.get(run_id, ()), *writing]
        remember(self._writing, run_id, [one for one in known if not one.future.done()], _RUNS)

    def _store(self, journal: Journal, record: UsageRecord) -> None:
        waiting = [*self._take(journal), record]
        while waiting:
            try:
                journal.add(waiting[0]["id"], dict(waiting[0]))
            except BaseException as error:  # noqa: BLE001  what ends a process is raised again
                self._not_stored(journal, waiting, error)
            else:
                self._stored(journal, waiting.pop(0))

    async def _astore(self, journal: Journal) -> None:
        waiting = self._take(journal)
        while waiting:
            try:
                await journal.aadd(waiting[0]["id"], dict(waiting[0]))
            except BaseException as error:  # noqa: BLE001  what ends a process is raised again
                self._not_stored(journal, waiting, error)
            else:
                self._stored(journal, waiting.pop(0))

    def _stored(self, journal: Journal, record: UsageRecord) -> None:
        stored(journal, record)
        with self._lock:
            self._kept.pop(record["id"], None)

    def _not_stored(self, journal: Journal, waiting: list[UsageRecord], error: BaseException) -> None:
        """Keep what could not be stored, and take it out of what is waiting. No saver's error is worth an answer."""
        if isinstance(error, ThreadDeletedError):
            self.say("deleted", f"{_ONLY_HERE}: {error}")
            deleted = waiting.pop(0)
            with self._lock:
                self._kept[deleted["id"]] = deleted
            return
        self.say("not stored", f"{_ONLY_HERE}, for now: {error!r}")
        for one in waiting:
            self._keep_late(journal, one)
        waiting.clear()
        if not isinstance(error, Exception):
            raise error

    def _take(self, journal: Journal) -> list[UsageRecord]:
        """The records that are late for a thread; whoever takes them stores them, or keeps them again."""
        with self._lock:
            late = self._late.get(journal.saver, {}).pop(journal.thread_id, [])
            lost = self._lost.pop(journal.thread_id, []) if self._is_only(journal.saver) else []
            return [self._kept[key] for key in (*late, *lost) if key in self._kept]

    def _ids(self, where: Where) -> list[str]:
        if where.journal is None:
            return [*self._unsaved.get(where.thread_id, ()), *self._lost.get(where.thread_id, ())]
        late = self._late.get(where.journal.saver, {}).get(where.thread_id, ())
        return [*late, *(self._lost.get(where.thread_id, ()) if self._is_only(where.journal.saver) else ())]

    def _is_only(self, saver: BaseCheckpointSaver[Any]) -> bool:
        """Whether no other saver was ever seen, so that what belongs to any belongs to this one."""
        if self._saver is None:
            self._saver = weakref.ref(saver)
        self._several = self._several or self._saver() is not saver
        return not self._several

    def _keep_late(self, journal: Journal, record: UsageRecord) -> None:
        with self._lock:
            late = self._late.setdefault(journal.saver, {})
        self._keep(record, late)

    def _keep(self, record: UsageRecord, ids: dict[str, list[str]]) -> None:
        with self._lock:
            self._kept[record["id"]] = record
            ids.setdefault(record["thread_id"], []).append(record["id"])


def _loop_of(journal: Journal) -> asyncio.AbstractEventLoop | None:
    """The event loop that runs here, if the saver needs it: to wait for such a saver would be to wait for ever."""
    running = _running_loop()
    return running if running is not None and getattr(journal.saver, "loop", None) is running else None


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
