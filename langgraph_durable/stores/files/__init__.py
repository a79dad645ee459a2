"""A store in a folder of plain files, a folder a thread, that other processes may use at the same time.

    README.md               what the lines mean, for people
    format.json             the version of the format
    threads/<name>/         see `thread`
    standings.json          how threads stood when they were listed last, see `listing`
    secrets/<name>          what has to be the same for all who use the folder

A record is in the journal of its thread, and on the disk, before it is acknowledged. Writers of one thread take turns
by a lock of the file system; writers of different threads do not meet.
"""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import TypeVar

from langgraph_durable.core.records import (
    Batch,
    CopyThread,
    Damage,
    DeleteCheckpoints,
    DeleteThread,
    EndLease,
    KeepLease,
    LeaseWork,
    Page,
    PutCheckpoint,
    PutWrites,
    Query,
    Stood,
    StopLease,
    Stored,
    TakeLease,
    ThreadQuery,
)
from langgraph_durable.errors import (
    ClosedError,
    DurableError,
    OpenError,
    ReadOnlyError,
    StoreError,
)
from langgraph_durable.stores.base import Outcome
from langgraph_durable.stores.files import disk
from langgraph_durable.stores.files.contents import buried
from langgraph_durable.stores.files.folder import THREADS, opened
from langgraph_durable.stores.files.journal import Ended, Head
from langgraph_durable.stores.files.kept import Kept
from langgraph_durable.stores.files.leases import change, nobody
from langgraph_durable.stores.files.listing import Listing
from langgraph_durable.stores.files.marks import kept_event
from langgraph_durable.stores.files.plan import Plan
from langgraph_durable.stores.files.read import read
from langgraph_durable.stores.files.rewriting import delete, fill, new_epoch, steady, today
from langgraph_durable.stores.files.thread import ThreadFolder
from langgraph_durable.stores.files.threads import Threads, translated

T = TypeVar("T")

KEPT_OPEN = 0 if os.name == "nt" else 16
"""Threads whose files stay open for the next write; on Windows nobody could put another in the place of an open one."""


class FileStore:
    """The `Store` over a folder; see `stores.base` for what its verbs promise.

    OpenError and its kinds say why the folder cannot be used; one that can only be read is opened for reading.
    """

    def __init__(self, path: str, *, busy_timeout: float, shareable: bool = False) -> None:
        self._path = os.path.abspath(path)
        self._name = path
        self._threads = Threads(os.path.join(self._path, THREADS))
        self._kept = Kept(os.path.join(self._path, "secrets"))
        self._busy_timeout = busy_timeout
        self._closed = False
        self._order = 0
        self._turn = threading.Lock()
        self._open: OrderedDict[ThreadFolder, None] = OrderedDict()
        with translated(path, OpenError):
            self._read_only = not opened(self._path, path, shareable)
        self._listing = Listing(self._threads, self._path, self._read_only)

    def commit(self, batches: Sequence[Batch]) -> list[Outcome]:
        """Store the batches, those of one thread in one write; a refused one does not take its neighbours with it."""
        if not batches:
            return []
        self._check_open()
        if self._read_only:
            raise ReadOnlyError(
                f"{self._name!r} can only be read; nothing was stored. Check the owner and mode of the folder"
            )
        with self._turn:
            self._check_open()
            return self._commit(batches)

    def _commit(self, batches: Sequence[Batch]) -> list[Outcome]:
        outcomes: dict[int, Outcome] = {}
        waiting: list[int] = []
        for place, batch in enumerate(batches):
            if isinstance(batch.work, (PutCheckpoint, PutWrites)):
                waiting.append(place)
                continue
            self._put(batches, waiting, outcomes)
            waiting = []
            outcomes[place] = self._outcome(partial(self._change, batch))
        self._put(batches, waiting, outcomes)
        return [outcomes[place] for place in range(len(batches))]

    def read(self, query: Query) -> Page:
        """The checkpoints that `query` asks for, as of one moment."""
        self._check_open()
        with translated(self._name):
            return read(self._threads, query)

    def runs(self, run_ids: Sequence[str]) -> list[tuple[str, str, str]]:
        """(thread, namespace, checkpoint id) of every checkpoint that those runs made."""
        self._check_open()
        wanted = set(run_ids)
        with translated(self._name):
            return [
                (put.found.thread_id, put.found.ns, put.found.id)
                for folder in (self._threads.all() if wanted else ())
                for put in folder.refresh().newest_first()
                if put.run_id in wanted
            ]

    def stood(self, query: ThreadQuery) -> list[Stood]:
        """How threads stand, each as of one moment."""
        self._check_open()
        with translated(self._name):
            return self._listing.stood(query)

    def node(self, thread_id: str, ns: str, node: str, occurrence: int) -> str | None:
        """The id of the checkpoint before which a node was next."""
        self._check_open()
        with translated(self._name):
            folder = self._threads.folder(thread_id)
            with folder.reading() as contents:
                found = contents.before(ns, node)
            folder.report()
        return found[occurrence] if -len(found) <= occurrence < len(found) else None

    def threads(self) -> list[str]:
        """The ids of all threads whose journals say which they are."""
        self._check_open()
        with translated(self._name):
            return list(self._threads.ids())

    def check(self, thread_id: str | None) -> list[Damage]:
        """The lines of a journal and the files of large values that are damaged, with their names and places."""
        self._check_open()
        with translated(self._name):
            if thread_id is not None:
                return [Damage(thread_id, trouble) for trouble in self._threads.folder(thread_id).troubles()]
            return [Damage(None, trouble) for trouble in (*self._threads.troubles(), *self._kept.troubles())]

    def secret(self, name: str, make: bytes) -> bytes:
        """The bytes kept under `name`; `make`, stored now, when there were none."""
        self._check_open()
        with translated(self._name):
            if self._read_only:
                found = self._kept.find(name)
                if found is None:
                    raise ReadOnlyError(f"{self._name!r} can only be read, and has no {name!r} yet")
                return found
            return self._kept.make(name, make)

    def settle(self) -> None:
        """Nothing is left to give back: what was deleted went with the journal that it was in."""

    def close(self) -> None:
        """Let go of everything."""
        with self._turn:
            if not self._closed:
                self._listing.save()
            self._closed = True
            self._start_anew()

    def forked(self) -> None:
        """Called in the child of a fork: it has locks of its own."""
        self._turn = threading.Lock()
        self._start_anew()

    # -- writing ---------------------------------------------------------------------------------------------------

    def _put(self, batches: Sequence[Batch], places: Sequence[int], outcomes: dict[int, Outcome]) -> None:
        """Store checkpoints and writes, the batches at these places, thread by thread."""
        threads: dict[str, list[tuple[int, int]]] = {}
        for place, order in zip(places, self._next_orders(len(places)), strict=True):
            threads.setdefault(batches[place].thread_id, []).append((place, order))
        for thread_id, mine in threads.items():
            work = partial(self._put_in, [(batches[place], order) for place, order in mine])
            together = self._outcome(partial(self._locked, thread_id, work))
            if isinstance(together, list):
                outcomes.update(zip([place for place, _ in mine], together, strict=True))
            elif len(mine) == 1 or not isinstance(together, _RefusedError):
                outcomes.update({place: together for place, _ in mine})
            else:
                for place, _ in mine:  # which of them it was can be seen when each is alone
                    self._put(batches, [place], outcomes)

    def _put_in(self, batches: Sequence[tuple[Batch, int]], folder: ThreadFolder) -> list[Outcome]:
        contents = steady(folder)
        head = contents.head or Head(batches[0][0].thread_id, new_epoch())
        plan = Plan(contents, head, folder.lease.find())
        orders: Sequence[int] = [order for _, order in batches]
        if orders[0] <= contents.last:
            orders = self._next_orders(len(batches), above=contents.last)
        outcomes = [plan.add(batch, order) for (batch, _), order in zip(batches, orders, strict=True)]
        if plan.records:
            if contents.head is None:
                folder.rewrite(head, plan.records, buried(contents, today()))
            else:
                folder.append(plan.records)
        return outcomes

    def _outcome(self, work: Callable[[], T]) -> T | DurableError:
        """What `work` answers, or the error that it ends with."""
        try:
            with translated(self._name):
                return work()
        except DurableError as error:
            return error
        except _UNFIT as error:
            refused = _RefusedError(f"this cannot be stored, and nothing of it was ({type(error).__name__}: {error})")
            refused.__cause__ = error
            return refused

    def _change(self, batch: Batch) -> Outcome:
        """Take something of a thread away, copy it, or change its lease."""
        thread_id, work = batch.thread_id, batch.work
        there = os.path.isdir(self._threads.folder(thread_id).path)
        if isinstance(work, CopyThread):
            return self._copy(thread_id, work.target, batch.token)
        if isinstance(work, (TakeLease, KeepLease, StopLease, EndLease)):
            answer = None if there else nobody(work)
            return answer or self._locked(thread_id, partial(self._lease, thread_id, work))
        assert isinstance(work, (DeleteThread, DeleteCheckpoints))
        if isinstance(work, DeleteThread) and not there:
            return Stored(0, ())
        return self._locked(thread_id, partial(self._delete, thread_id, work))

    def _lease(self, thread_id: str, work: LeaseWork, folder: ThreadFolder) -> Outcome:

        def end(work: EndLease) -> None:
            if work.event is None:
                return
            contents = steady(folder)
            standing = contents.standings.of.get(work.ns)
            if standing is not None and standing.checkpoint_id:  # else it was deleted, or nothing was stored of it
                (order,) = self._next_orders(1, above=contents.last)
                folder.append([Ended(order, work.ns, standing.checkpoint_id, kept_event(work.event))])

        if isinstance(work, TakeLease) and not folder.is_there():
            disk.sync_folder(os.path.dirname(folder.path))  # the name of the folder itself
        return change(folder.lease, thread_id, work, end)

    def _delete(self, thread_id: str, work: DeleteThread | DeleteCheckpoints, folder: ThreadFolder) -> Outcome:
        name = os.path.basename(folder.path)
        self._listing.forget(name)
        try:
            return delete(folder, thread_id, work)
        finally:
            with suppress(OSError):
                self._listing.forget(name)  # somebody may have listed it meanwhile

    def _copy(self, source_id: str, target_id: str, token: int | None) -> Outcome:
        source = self._threads.folder(source_id)
        if source.refresh().epoch is None and not os.path.isdir(self._threads.folder(target_id).path):
            return Stored(0, ())
        orders = self._next_orders
        return self._locked(target_id, lambda folder: fill(folder, target_id, source, source_id, token, orders))

    def _next_orders(self, count: int, above: int = 0) -> range:
        """As many places in the order, behind all that this process gave out and behind `above`.

        Inside of a thread that is the order of its journal. Of different threads of different processes the clock
        decides: to ask anything that they share would take as long as storing.
        """
        first = max(time.time_ns(), self._order + 1, above + 1)
        self._order = first + count - 1
        return range(first, first + count)

    def _locked(self, thread_id: str, work: Callable[[ThreadFolder], T]) -> T:
        """What `work` answers, done with the right to write to a thread."""
        folder = self._threads.folder(thread_id)
        # No context manager of Python's own: Ctrl-C when its end is about to begin would keep the lock.
        try:
            self._open[folder] = None
            self._open.move_to_end(folder)
            folder.lock(self._busy_timeout)
            return work(folder)
        finally:
            try:
                folder.unlock()
            except BaseException:
                folder.unlock()
                raise
            while len(self._open) > KEPT_OPEN:
                self._open.popitem(last=False)[0].let_go()

    def _start_anew(self) -> None:
        self._let_go()
        self._threads = Threads(os.path.join(self._path, THREADS))
        self._listing = Listing(self._threads, self._path, self._read_only)

    def _let_go(self) -> None:
        while self._open:
            self._open.popitem()[0].let_go()

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError("this saver was closed; open the folder again with a new one")


_UNFIT = (ValueError, TypeError, KeyError, OverflowError, RecursionError)
"""What a batch can be to blame for."""


class _RefusedError(StoreError):
    """What a batch is made of is to blame, not the file system."""
