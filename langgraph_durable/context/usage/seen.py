"""What limits count: the journal of a thread as it was read once in a superstep, and what was stored here since.

All ledgers of a process share it, so that each counts what the others record.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from typing import Any
from weakref import WeakKeyDictionary

from langgraph.checkpoint.base import BaseCheckpointSaver

from langgraph_durable.context.journal import Journal
from langgraph_durable.context.usage.calls import remember
from langgraph_durable.context.usage.records import UsageRecord

_THREADS = 256
"""Of how many threads of a saver it is kept."""


class _Thread:
    """The records of a thread in the superstep that began from `root`; `reading` is held by who reads them."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.reading = threading.Lock()
        self.read = False
        self.records: dict[str, UsageRecord] = {}


class _Seen:
    """The threads of all savers."""

    def __init__(self) -> None:
        self.forked()

    def forked(self) -> None:
        """Start anew, also in the child of a fork: whoever held a lock is not there."""
        self._lock = threading.Lock()
        self._of: WeakKeyDictionary[BaseCheckpointSaver[Any], OrderedDict[str, _Thread]] = WeakKeyDictionary()

    def records(self, journal: Journal) -> dict[str, UsageRecord]:
        # It is known before it is read, so that what is stored meanwhile is not missed.
        thread = self._thread(journal)
        with thread.reading:
            if not thread.read:
                entries = journal.entries()
                with self._lock:
                    thread.records = {**entries, **thread.records}
                thread.read = True
        with self._lock:
            return dict(thread.records)

    def stored(self, journal: Journal, record: UsageRecord) -> None:
        with self._lock:
            threads = self._of.get(journal.saver)
            thread = None if threads is None else threads.get(journal.thread_id)
            if thread is not None:
                thread.records[record["id"]] = record

    def _thread(self, journal: Journal) -> _Thread:
        with self._lock:
            threads = self._of.setdefault(journal.saver, OrderedDict())
            thread = threads.get(journal.thread_id)
            if thread is None or thread.root != journal.root:
                thread = _Thread(journal.root)
            remember(threads, journal.thread_id, thread, _THREADS)
            return thread


_seen = _Seen()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_seen.forked)


def seen(journal: Journal) -> dict[str, UsageRecord]:
    """The records in a journal, by their ids; what other processes have stored in this superstep may be missing."""
    return _seen.records(journal) if journal.root else journal.entries()


def stored(journal: Journal, record: UsageRecord) -> None:
    """Tell that a record is in a journal."""
    _seen.stored(journal, record)
