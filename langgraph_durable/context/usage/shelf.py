"""Records that were made: each is stored in the journal of its thread at once, or kept in memory and told of.

What cannot be stored now is stored with the next record of its thread. Nothing that goes wrong here is the caller's:
the call that a record is of was paid for, and its answer is good.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from functools import partial
from typing import cast

from langgraph_durable.context.journal import Journal
from langgraph_durable.context.usage.places import Where
from langgraph_durable.context.usage.records import UsageRecord, of_thread, settled
from langgraph_durable.errors import InvalidRequestError, ThreadDeletedError

log = logging.getLogger("langgraph_durable")

_ONLY_HERE = "what model calls use is recorded in this process only"


class Shelf:
    """The records of a process that are in no journal, and the way there."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[str, UsageRecord] = {}
        self._late: dict[str, list[str]] = {}
        self._writing: set[asyncio.Task[None]] = set()
        self._said: set[str] = set()

    def records(self) -> list[UsageRecord]:
        """Copies of what is kept here."""
        with self._lock:
            return [cast(UsageRecord, dict(record)) for record in settled(self._kept).values()]

    def put(self, where: Where, record: UsageRecord) -> None:
        """Store a record, or keep it."""
        if where.journal is None:
            if not where.known:
                self.say(
                    "nowhere",
                    f"{_ONLY_HERE}: in thread {where.thread_id!r} a task has no config where its model is called, "
                    "as in a coroutine before Python 3.11 and in a thread of one's own",
                )
            self._keep(record, late=not where.known)
            return
        loop = _loop_of(where.journal)
        if loop is not None:
            self._keep(record, late=True)
            writing = loop.create_task(where.journal.aadd(record["id"], dict(record)))
            self._writing.add(writing)
            writing.add_done_callback(partial(self._written, record))
            return
        self._store(where.journal, record)

    def of_thread(self, where: Where) -> list[UsageRecord]:
        """Every record of a thread, those in its journal and those here."""
        found: dict[str, UsageRecord] = {}
        if where.journal is not None:
            if _loop_of(where.journal) is not None:
                raise InvalidRequestError(
                    "a limit cannot be checked where a coroutine calls a model without awaiting it, and the saver is "
                    "one for coroutines: use `await model.ainvoke(...)`"
                )
            found = of_thread(where.thread_id, where.journal.entries())
        with self._lock:
            return list({**of_thread(where.thread_id, self._kept), **found}.values())

    def say(self, what: str, text: str) -> None:
        """Log a warning, the first time that it is about `what`."""
        with self._lock:
            if what in self._said:
                return
            self._said.add(what)
        log.warning("%s", text)

    def _store(self, journal: Journal, record: UsageRecord) -> None:
        with self._lock:
            late = [self._kept[key] for key in self._late.pop(journal.thread_id, ()) if key in self._kept]
        waiting = [*late, record]
        while waiting:
            try:
                journal.add(waiting[0]["id"], dict(waiting[0]))
            except ThreadDeletedError as error:
                self.say("deleted", f"{_ONLY_HERE}: {error}")
                self._keep(waiting.pop(0), late=False)
            except Exception as error:  # noqa: BLE001  of any saver, and none is worth the answer of the call
                self.say("not stored", f"{_ONLY_HERE}, for now: {error!r}")
                for one in waiting:
                    self._keep(one, late=True)
                return
            else:
                with self._lock:
                    self._kept.pop(waiting.pop(0)["id"], None)

    def _written(self, record: UsageRecord, writing: asyncio.Task[None]) -> None:
        self._writing.discard(writing)
        error = None if writing.cancelled() else writing.exception()
        if writing.cancelled() or error is not None:
            self.say("not stored", f"{_ONLY_HERE}, for now: {error!r}")
            return
        with self._lock:
            self._kept.pop(record["id"], None)
            late = self._late.get(record["thread_id"], [])
            if record["id"] in late:
                late.remove(record["id"])

    def _keep(self, record: UsageRecord, *, late: bool) -> None:
        """Keep a record; one that is `late` is stored with the next of its thread."""
        with self._lock:
            self._kept[record["id"]] = record
            if late:
                self._late.setdefault(record["thread_id"], []).append(record["id"])


def _loop_of(journal: Journal) -> asyncio.AbstractEventLoop | None:
    """The event loop that runs here, if the saver needs it: to wait for such a saver would be to wait for ever."""
    try:
        running = asyncio.get_running_loop()
    except RuntimeError:
        return None
    return running if getattr(journal.saver, "loop", None) is running else None
