"""A store in a folder of plain files, a folder a thread, that other processes may use at the same time.

    README.md               what the lines mean, for people
    format.json             the version of the format
    order                   grows by a byte a record: its length orders the records of all threads
    threads/<name>/         see `thread`
    secrets/<name>          what has to be the same for all who use the folder

A record is in the journal of its thread, and on the disk, before it is acknowledged. Writers of one thread take turns
by a lock of the file system; writers of different threads do not meet.
"""

from __future__ import annotations

import os
import secrets
import threading
import time
import weakref
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from io import FileIO
from typing import TypeVar

from langgraph_durable.core.records import (
    Batch,
    CopyThread,
    DeleteCheckpoints,
    DeleteThread,
    Page,
    PutCheckpoint,
    PutWrites,
    Query,
    Stored,
)
from langgraph_durable.errors import (
    ClosedError,
    DurableError,
    InvalidRequestError,
    ReadOnlyError,
    StoreError,
)
from langgraph_durable.stores.base import Outcome
from langgraph_durable.stores.files import disk
from langgraph_durable.stores.files.contents import Plan, buried
from langgraph_durable.stores.files.folder import THREADS, opened
from langgraph_durable.stores.files.journal import Head
from langgraph_durable.stores.files.names import folder_name
from langgraph_durable.stores.files.read import read
from langgraph_durable.stores.files.thread import ThreadFolder
from langgraph_durable.stores.files.threads import Threads, translated

T = TypeVar("T")


class FileStore:
    """The `Store` over a folder; see `stores.base` for what its verbs promise.

    OpenError and its kinds say why the folder cannot be used; one that can only be read is opened for reading.
    """

    def __init__(self, path: str, *, busy_timeout: float, shareable: bool = False) -> None:
        self._path = os.path.abspath(path)
        self._name = path
        self._threads = Threads(os.path.join(self._path, THREADS))
        self._busy_timeout = busy_timeout
        self._closed = False
        self._lock = threading.Lock()
        self._order: FileIO | None = None
        with translated(path):
            self._read_only = not opened(self._path, path, shareable)

    def commit(self, batches: Sequence[Batch]) -> list[Outcome]:
        """Store the batches, those of one thread in one write; a refused one does not take its neighbours with it."""
        if not batches:
            return []
        self._check_open()
        if self._read_only:
            raise ReadOnlyError(
                f"{self._name!r} can only be read; nothing was stored. Check the owner and mode of the folder"
            )
        outcomes: dict[int, Outcome] = {}
        with translated(self._name):
            orders = self._next_orders(len(batches))
        waiting: dict[str, list[int]] = {}
        for place, batch in enumerate(batches):
            if isinstance(batch.work, (PutCheckpoint, PutWrites)):
                waiting.setdefault(batch.thread_id, []).append(place)
                continue
            self._put(batches, waiting, orders, outcomes)
            waiting = {}
            outcomes[place] = self._outcome(partial(self._change, batch))
        self._put(batches, waiting, orders, outcomes)
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

    def secret(self, name: str, make: bytes) -> bytes:
        """The bytes kept under `name`; `make`, stored now, when there were none."""
        self._check_open()
        folder = os.path.join(self._path, "secrets")
        path = os.path.join(folder, folder_name(name))
        with translated(self._name):
            with suppress(FileNotFoundError):
                return b64decode(disk.read(path))
            if self._read_only:
                raise ReadOnlyError(f"{self._name!r} can only be read, and has no {name!r} yet")
            disk.make_folder(folder)
            disk.make(path, b64encode(make))
            return b64decode(disk.read(path))

    def settle(self) -> None:
        """Nothing is left to give back: what was deleted went with the journal that it was in."""

    def close(self) -> None:
        """Let go of everything."""
        self._closed = True
        with self._lock:
            self._order = None
            self._threads = Threads(os.path.join(self._path, THREADS))

    def forked(self) -> None:
        """Called in the child of a fork: whoever shares an open file shares the locks on it, and its offset."""
        self._lock = threading.Lock()
        self._order = None
        self._threads = Threads(os.path.join(self._path, THREADS))

    # -- writing ---------------------------------------------------------------------------------------------------

    def _put(
        self,
        batches: Sequence[Batch],
        waiting: dict[str, list[int]],
        orders: range,
        outcomes: dict[int, Outcome],
    ) -> None:
        """Store checkpoints and writes, the batches at these places, thread by thread."""
        for thread_id, places in waiting.items():
            together = self._outcome(
                partial(self._put_in, thread_id, [(batches[place], orders[place]) for place in places])
            )
            if isinstance(together, list):
                outcomes.update(zip(places, together, strict=True))
            elif len(places) == 1 or not isinstance(together, _RefusedError):
                outcomes.update(dict.fromkeys(places, together))
            else:
                for place in places:  # which of them it was can be seen when each is alone
                    self._put(batches, {thread_id: [place]}, orders, outcomes)

    def _put_in(self, thread_id: str, batches: Sequence[tuple[Batch, int]]) -> list[Outcome]:
        with self._locked(thread_id) as folder:
            contents = folder.refresh()
            head = contents.head or Head(thread_id, _new_epoch())
            plan = Plan(contents, head)
            # A thread's order is that of its journal, also when the file that orders all of them was lost.
            outcomes = [
                plan.add(batch, max(order, contents.last + number)) for number, (batch, order) in enumerate(batches, 1)
            ]
            if plan.records and contents.head is None:
                folder.rewrite(head, plan.records, buried(contents, _today()))
            elif plan.records:
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
        """Take something of a thread away, or copy it."""
        thread_id, work = batch.thread_id, batch.work
        if isinstance(work, CopyThread):
            return self._copy(thread_id, work.target)
        with self._locked(thread_id) as folder:
            contents = folder.refresh()
            ids = {*contents.puts, *contents.writes}
            assert isinstance(work, (DeleteThread, DeleteCheckpoints))
            gone = ids if isinstance(work, DeleteThread) else set(work.checkpoints)
            if contents.head is None and isinstance(work, DeleteThread):
                return Stored(0, ())
            head = Head(thread_id, _new_epoch())
            kept = contents.records(
                [put for where, put in contents.puts.items() if where not in gone],
                [one for where, wrote in contents.writes.items() if where not in gone for one in wrote],
                head,
            )
            everything = not ids - gone
            folder.rewrite(head, kept, buried(contents, _today(), gone=gone), keep_damaged=not everything)
            return Stored(0 if everything else head.epoch, ())

    def _copy(self, source_id: str, target_id: str) -> Outcome:
        source = self._threads.folder(source_id).refresh()
        with self._locked(target_id) as folder:
            contents = folder.refresh()
            if contents.epoch is not None:
                return InvalidRequestError(
                    f"cannot copy thread {source_id!r} to {target_id!r}: that thread has checkpoints already. "
                    "Choose another id, or delete it first"
                )
            if source.epoch is None:
                return Stored(0, ())
            head = Head(target_id, _new_epoch())
            wrote = [one for each in source.writes.values() for one in each]
            records = list(source.records(source.newest_first(), wrote, head))
            orders = self._next_orders(len(records))
            load = partial(self._threads.folder(source_id).load, source)
            copies = []
            for order, record in zip(orders, records, strict=True):
                # Files of large values are the source's own.
                chunks = [(number, load(number) or chunk) for number, chunk in record.new.chunks]
                copies.append(record._replace(order=order, new=record.new._replace(chunks=chunks)))
            back = {*source.puts, *source.writes}
            folder.rewrite(head, copies, buried(contents, _today(), back=back))
            return Stored(head.epoch, ())

    def _next_orders(self, count: int) -> range:
        """As many numbers, greater than all that anybody has: where bytes are appended is told to one caller only."""
        with self._lock:
            if self._order is None:
                path = os.path.join(self._path, "order")
                fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, disk.FILE_MODE)
                self._order = FileIO(fd, "a", closefd=False)
                weakref.finalize(self._order, os.close, fd)
            os.write(self._order.fileno(), b"." * count)
            end = os.lseek(self._order.fileno(), 0, os.SEEK_CUR)
        return range(end - count + 1, end + 1)

    @contextmanager
    def _locked(self, thread_id: str) -> Iterator[ThreadFolder]:
        """The folder of a thread, with the right to write there."""
        folder = self._threads.folder(thread_id)
        folder.lock(self._busy_timeout)
        try:
            yield folder
        finally:
            folder.unlock()

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError("this saver was closed; open the folder again with a new one")


_UNFIT = (ValueError, TypeError, KeyError, OverflowError, RecursionError)
"""What a batch can be to blame for."""


class _RefusedError(StoreError):
    """What a batch is made of is to blame, not the file system."""


def _new_epoch() -> int:
    return secrets.randbits(62) + 1


def _today() -> int:
    return int(time.time()) // 86_400
