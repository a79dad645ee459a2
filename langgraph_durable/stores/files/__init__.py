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

import errno
import json
import os
import secrets
import threading
import time
import warnings
import weakref
from base64 import b64decode, b64encode
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from io import FileIO
from types import TracebackType
from typing import NamedTuple, TypeVar

from langgraph_durable.core.records import (
    Batch,
    Chunk,
    CopyThread,
    DeleteCheckpoints,
    DeleteThread,
    Found,
    Page,
    PutCheckpoint,
    PutWrites,
    Query,
    Stored,
)
from langgraph_durable.errors import (
    ClosedError,
    CorruptDataWarning,
    DurableError,
    InvalidRequestError,
    NotADatabaseError,
    ReadOnlyError,
    SchemaVersionError,
    StoreError,
)
from langgraph_durable.stores.base import Outcome
from langgraph_durable.stores.files import disk
from langgraph_durable.stores.files.contents import Contents, Plan, buried
from langgraph_durable.stores.files.journal import VERSION, Head
from langgraph_durable.stores.files.names import folder_name
from langgraph_durable.stores.files.thread import ThreadFolder
from langgraph_durable.stores.refs import cut, named

T = TypeVar("T")

PAGE = 64
"""Checkpoints read at once."""

ATTEMPTS = 8
"""How often something is read anew when it is deleted meanwhile."""

REMEMBERED = 64 * 2**20
"""Bytes of threads that are kept in memory; the one that is in use always is."""

_README = """# Checkpoints

This folder is written by [langgraph-durable](https://pypi.org/project/langgraph-durable/): it holds what a LangGraph
agent remembers. Read whatever you like; change nothing while something runs, and nothing by hand if it is to be read
again: every line carries its own checksum.

Each folder in `threads/` is a thread (a conversation). Its `journal.jsonl` has a JSON object a line, oldest first:

- `thread` says whose journal it is.
- `checkpoint` is a state of the graph after a step. `metadata` says which step, `new` is what the step added: messages
  with their `role` and `content`, or any other value. `values` names what the state consists of, by the numbers of
  what was added so far: `[list, from, to]` are elements of a list, as `elements` put them there.
- `writes` is what one task of a step returned.
- `deleted` keeps deleted checkpoints from coming back, as hashes.

`sum` and `size` at the start of a line are its checksum and length. What is larger than 64 KB is in `values/`.
"""


class FileStore:
    """The `Store` over a folder; see `stores.base` for what its verbs promise.

    OpenError and its kinds say why the folder cannot be used; one that can only be read is opened for reading.
    """

    def __init__(self, path: str, *, busy_timeout: float, shareable: bool = False) -> None:
        self._path = os.path.abspath(path)
        self._name = path
        self._threads = os.path.join(self._path, "threads")
        self._busy_timeout = busy_timeout
        self._read_only = False
        self._closed = False
        self._lock = threading.Lock()
        self._order: FileIO | None = None
        self._folders: OrderedDict[str, ThreadFolder] = OrderedDict()
        with _translated(path):
            self._set_up(shareable)

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
        with _translated(self._name):
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
        with _translated(self._name):
            for _ in range(ATTEMPTS):
                try:
                    return self._lineage(query) if query.lineage else self._page(self._matching(query), query)
                except _GoneError:
                    continue
        raise StoreError(f"{self._name!r} was rewritten {ATTEMPTS} times while it was being read; read it again")

    def runs(self, run_ids: Sequence[str]) -> list[tuple[str, str, str]]:
        """(thread, namespace, checkpoint id) of every checkpoint that those runs made."""
        self._check_open()
        wanted = set(run_ids)
        with _translated(self._name):
            return [
                (put.found.thread_id, put.found.ns, put.found.id)
                for folder in (self._all() if wanted else ())
                for put in folder.refresh().newest_first()
                if put.run_id in wanted
            ]

    def secret(self, name: str, make: bytes) -> bytes:
        """The bytes kept under `name`; `make`, stored now, when there were none."""
        self._check_open()
        folder = os.path.join(self._path, "secrets")
        path = os.path.join(folder, folder_name(name))
        with _translated(self._name):
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
            self._folders.clear()
            if self._order is not None:
                self._order = None

    def forked(self) -> None:
        """Called in the child of a fork: whoever shares an open file shares the locks on it, and its offset."""
        self._lock = threading.Lock()
        self._order = None
        self._folders = OrderedDict()

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
            with _translated(self._name):
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
        source = self._folder(source_id).refresh()
        with self._locked(target_id) as folder:
            contents = folder.refresh()
            if contents.epoch is not None or source_id == target_id:
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
            load = partial(self._folder(source_id).load, source)
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

    # -- reading ---------------------------------------------------------------------------------------------------

    def _matching(self, query: Query) -> list[_Hit]:
        """What the query finds, newest first; that of each thread as of one moment."""
        anywhere = query.where is None and query.before is None and query.after is None
        one = query.limit == 1 and query.ns is not None and anywhere
        hits: list[_Hit] = []
        for folder in self._all() if query.thread_id is None else [self._folder(query.thread_id)]:
            with folder.reading() as contents:
                if one and query.thread_id is not None:
                    return self._newest(folder, contents, query)
                hits += [_Hit(put.order, folder, contents, contents.found(put)) for put in contents.newest_first()]
            folder.report()
        hits.sort(key=lambda hit: hit.order, reverse=True)
        if query.after is not None:
            hits = [hit for hit in hits if hit.order < query.after]
        if query.ns is not None:
            hits = [hit for hit in hits if hit.found.ns == query.ns]
        if query.before is not None:
            places = [hit.order for hit in hits if hit.found.id == query.before]
            # A checkpoint that is not here (any more) has no place in the order; its id has one, by its maker's clock.
            hits = [hit for hit in hits if (hit.order < max(places) if places else hit.found.id < query.before)]
        if query.checkpoint_id is not None:
            hits = [hit for hit in hits if hit.found.id == query.checkpoint_id]
        return hits

    def _newest(self, folder: ThreadFolder, contents: Contents, query: Query) -> list[_Hit]:
        """The checkpoint named, or the newest; of a thread that was damaged the newest that is whole."""
        assert query.ns is not None
        folder.report()
        if query.checkpoint_id is not None:
            put = contents.puts.get((query.ns, query.checkpoint_id))
            return [_Hit(put.order, folder, contents, contents.found(put))] if put is not None else []
        first = None
        for put in contents.newest_first():
            if put.found.ns == query.ns:
                hit = _Hit(put.order, folder, contents, contents.found(put))
                if not folder.damage or contents.whole(put.found):
                    return [hit]
                first = first or hit
        return [first] if first is not None else []

    def _page(self, hits: Sequence[_Hit], query: Query) -> Page:
        size = PAGE if query.limit is None else min(query.limit, PAGE)
        chosen: list[_Hit] = []
        for hit in hits:
            if query.where is None or query.where(hit.found.metadata):
                chosen.append(hit)
                if len(chosen) == size:
                    break
        return self._filled(chosen, query, chosen[-1].order if len(chosen) == size else None)

    def _lineage(self, query: Query) -> Page:
        """A checkpoint and its ancestors, nearest first."""
        assert query.thread_id is not None
        assert query.ns is not None
        folder = self._folder(query.thread_id)
        hits: list[_Hit] = []
        following = query.checkpoint_id
        with folder.reading() as contents:
            while following is not None and len(hits) < PAGE:
                put = contents.puts.get((query.ns, following))
                if put is None:
                    break
                hits.append(_Hit(put.order, folder, contents, contents.found(put)))
                following = put.found.parent
        folder.report()
        return self._filled(hits, query, following if len(hits) >= PAGE else None)

    def _filled(self, hits: Sequence[_Hit], query: Query, cursor: object) -> Page:
        """The page with the contents of what its checkpoints name."""
        found = [hit.found for hit in hits]
        contents, lists, single = named(found, query)
        by_base = {hit.contents.base: hit for hit in hits}
        for ref in lists:
            of = by_base[ref[0][0] >> 32 << 32].contents
            contents[ref] = cut({key: of.rows(key) for key, _, _ in ref}, ref)
            single.update(contents[ref].keys)  # type: ignore[union-attr]  # what `cut` gives are elements
        chunks: dict[int, Chunk] = {}
        for key in single:
            hit = by_base.get(key >> 32 << 32)
            if hit is None:
                continue
            chunk = hit.folder.load(hit.contents, key & 0xFFFFFFFF)
            if chunk is not None:
                chunks[key] = chunk
            elif hit.folder.refresh().head != hit.contents.head:
                raise _GoneError  # its file went with the journal that named it
        return Page(tuple(found), contents, chunks, cursor)

    # -- threads ---------------------------------------------------------------------------------------------------

    def _folder(self, thread_id: str) -> ThreadFolder:
        return self._known(folder_name(thread_id), thread_id)

    def _known(self, name: str, thread_id: str | None) -> ThreadFolder:
        with self._lock:
            folder = self._folders.get(name)
            if folder is None:
                folder = self._folders[name] = ThreadFolder(os.path.join(self._threads, name), thread_id)
                self._forget_old()
            self._folders.move_to_end(name)
            return folder

    def _forget_old(self) -> None:
        used = sum(folder.contents.size + 4096 for folder in self._folders.values())
        while used > REMEMBERED and len(self._folders) > 1:
            _, folder = self._folders.popitem(last=False)
            used -= folder.contents.size + 4096

    def _all(self) -> Iterator[ThreadFolder]:
        """The folders of all threads; of one that cannot be read at all there is a warning."""
        try:
            names = sorted(os.listdir(self._threads))
        except FileNotFoundError:
            return
        for name in names:
            folder = self._known(name, None)
            try:
                folder.refresh()
            except DurableError as error:
                warnings.warn(str(error), CorruptDataWarning, stacklevel=2)
                continue
            yield folder

    @contextmanager
    def _locked(self, thread_id: str) -> Iterator[ThreadFolder]:
        """The folder of a thread, with the right to write there."""
        folder = self._folder(thread_id)
        folder.lock(self._busy_timeout)
        try:
            yield folder
        finally:
            folder.unlock()

    # -- opening ---------------------------------------------------------------------------------------------------

    def _set_up(self, shareable: bool) -> None:
        if os.path.exists(self._path) and not os.path.isdir(self._path):
            raise NotADatabaseError(f"{self._name!r} is a file; give the path of a folder, such as 'checkpoints/'")
        form = os.path.join(self._path, "format.json")
        try:
            version = json.loads(disk.read(form))["version"]
        except FileNotFoundError:
            version = None
        except (ValueError, KeyError, TypeError) as error:
            raise NotADatabaseError(
                f"{form!r} does not say what this folder is ({error}); it was not touched"
            ) from error
        if version is not None and version != VERSION:
            raise SchemaVersionError(
                f"the folder {self._name!r} has format version {version!r}, and this release knows {VERSION}: a newer "
                "langgraph-durable wrote it, upgrade with `pip install -U langgraph-durable`"
            )
        if version is not None:
            self._read_only = not os.access(self._path, os.W_OK)
            return
        if os.path.isdir(self._path) and not self._is_in_the_making():
            raise NotADatabaseError(
                f"the folder {self._name!r} has files in it, and is no folder of checkpoints; it was not touched. Give "
                "the path of an empty folder, or of one that does not exist"
            )
        disk.make_folder(self._threads)
        disk.make(os.path.join(self._path, "README.md"), _README.encode())
        if not shareable:
            disk.make(os.path.join(self._path, ".gitignore"), b"# Checkpoints hold whatever the agent was told.\n*\n")
        disk.make(form, json.dumps({"version": VERSION, "written by": "langgraph-durable"}).encode() + b"\n")

    def _is_in_the_making(self) -> bool:
        """Whether the folder is empty, or has what somebody puts there who makes it at this moment or died doing so."""
        names = os.listdir(self._path)
        ours = {"threads", "README.md", ".gitignore", "format.json"}
        return not names or ("threads" in names and all(name in ours or name.endswith(".tmp") for name in names))

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError("this saver was closed; open the folder again with a new one")


class _Hit(NamedTuple):
    """A checkpoint that was found, with its writes as they were then, and where its contents are."""

    order: int
    folder: ThreadFolder
    contents: Contents
    found: Found


_UNFIT = (ValueError, TypeError, KeyError, OverflowError, RecursionError)
"""What a batch can be to blame for."""


class _GoneError(Exception):
    """What is being read was deleted meanwhile."""


class _RefusedError(StoreError):
    """What a batch is made of is to blame, not the file system."""


class _translated:
    """`with` it: errors of the file system as this package's, with what to do about them."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not isinstance(error, OSError) or isinstance(error, DurableError):
            return
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise ReadOnlyError(
                f"{error.filename or self._path!r} cannot be written or read ({error.strerror}); nothing was stored. "
                "Check the owner and mode of the folder"
            ) from error
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StoreError(f"no room left for {self._path!r}; nothing was stored ({error.strerror})") from error
        raise StoreError(f"the file system failed on {self._path!r}; nothing was stored ({error})") from error


def _new_epoch() -> int:
    return secrets.randbits(62) + 1


def _today() -> int:
    return int(time.time()) // 86_400
