"""A thread's folder: its journal, which is only appended to or put in place whole, and its large values.

    journal.jsonl     see `journal`
    values/           chunks too large for a line, see `values`
    lease.json        who runs the thread, while somebody does, see `leases`
    lock              held by the process that writes

A line that breaks off at the end of the journal is of a write that never came to its own, and the next one takes its
place. Any other line that cannot be read stays where it is: it is reported, and what it said is missing.
"""

from __future__ import annotations

import os
import threading
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from io import FileIO
from typing import NamedTuple

from langgraph_durable.core.collector import uncollected
from langgraph_durable.core.records import Chunk, Standing
from langgraph_durable.errors import CorruptDataWarning, StoreError
from langgraph_durable.stores.files import disk
from langgraph_durable.stores.files.contents import Contents
from langgraph_durable.stores.files.journal import (
    PREFIX,
    Buried,
    Ended,
    Head,
    Line,
    Outside,
    Put,
    Record,
    Wrote,
    by_whom,
    encoded,
    read_lines,
)
from langgraph_durable.stores.files.leases import LeaseFile
from langgraph_durable.stores.files.locks import FileLock
from langgraph_durable.stores.files.values import VALUES, drop, load, outside

JOURNAL = "journal.jsonl"
LOCK = "lock"

NEVER = "?"
"""A stamp that no file has."""


class _State(NamedTuple):
    """The journal as it was read: the file's identity, its first line, and how far it was read.

    `last` is where the last line begins and how, which tells whether it is still there; `by` is as in `Line`.
    """

    stamp: tuple[int, int, int, int]
    first: bytes
    end: int
    lines: int
    ended: bool
    last: tuple[int, bytes]
    by: str


class ThreadFolder:
    """The folder of one thread. `contents` are as `refresh` found them; writing needs the lock.

    `damage` are the lines that cannot be read. A journal that is `shaken` has to be rewritten, under another epoch,
    before anything is appended to it.
    """

    def __init__(self, path: str, thread_id: str | None) -> None:
        self.path = path
        self.thread_id = thread_id
        self.contents = Contents()
        self.damage: list[Line] = []
        self.lease = LeaseFile(path)
        self._journal = os.path.join(path, JOURNAL)
        self._lock = FileLock(os.path.join(path, LOCK))
        self._mutex = threading.RLock()
        self._state: _State | None = None
        self._reported = True
        self._file: FileIO | None = None
        self._file_is = (0, 0)
        self._storing = threading.Lock()
        self.shaken = False

    def lock(self, seconds: float) -> None:
        """Be the only one who writes, of all threads and processes. BusyError after `seconds`."""
        self._lock.acquire(seconds)

    def unlock(self) -> None:
        """Let others write. Files stay open, for who comes back soon."""
        self._lock.release()

    def let_go(self) -> None:
        """Have no file open, and no lock."""
        self._lock.close()
        self._close_file()

    def _close_file(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def refresh(self) -> Contents:
        """The contents, with what others wrote taken in."""
        with self._mutex:
            if not self._storing.locked():
                self._refresh()
            return self.contents

    def _refresh(self) -> None:
        try:
            found = os.stat(self._journal)
            state = self._state
            if state is not None and _stamp(found) == state.stamp:
                return
            with open(self._journal, "rb") as file:
                found = os.fstat(file.fileno())
                first = state is not None and file.read(len(state.first)) == state.first
                if state is not None and first:
                    start, prefix = state.last
                    file.seek(start)
                    if found.st_size >= state.end and file.read(len(prefix)) == prefix:
                        file.seek(state.end)
                        self._take(file.read(), state, found)
                        return
                    # What was read is gone again: a write that failed, of somebody who was seen at it. Numbers that
                    # refs were made of may mean something else now.
                    self.shaken = True
                file.seek(0)
                self._take(file.read(), None, found)
        except (FileNotFoundError, NotADirectoryError):
            self._forget()

    def append(self, records: Sequence[Put | Wrote | Ended]) -> None:
        """Store records behind what is there, with the lock held and after `refresh`."""
        head = self.contents.head
        if head is None:
            raise self._gone()
        kept = [self._outside(record) for record in records]
        # Nobody in this process reads the journal meanwhile: what is in it may not be on the disk yet.
        with self._storing:
            with self._mutex:
                state = self._state
                if state is None:
                    raise self._gone()
            made, by = _lines(kept, head, state.by)
            with self._mutex:
                self._unsure()
            lines = b"".join(made) if state.ended else b"\n" + b"".join(made)
            end = state.end + len(lines)
            file = self._opened(state)
            disk.append(file, state.stamp[2], state.end, lines)
            with self._mutex:
                for record in kept:
                    self.contents.apply(record)
                stamp = _stamp(os.fstat(file.fileno()))
                if stamp[2] == end:
                    last = (end - len(made[-1]), made[-1][:PREFIX])
                    self._state = _State(stamp, state.first, end, state.lines + len(records), True, last, by)
                    self.shaken = False

    def _gone(self) -> StoreError:
        return StoreError(f"{self._journal!r} was deleted while it was being written to; nothing was stored")

    def rewrite(
        self,
        head: Head,
        records: Iterable[Put | Wrote | Ended],
        gone: Buried,
        was: Mapping[str, Standing] | None = None,
        *,
        forget: bool = False,
    ) -> None:
        """Put another journal in the place of this one, with the lock held; `forget` leaves nothing of the old one.

        `was` is how its namespaces stood; None where the records say that.
        """
        contents = Contents(head)
        every: list[Record] = [head, *([gone] if gone.names else []), *map(self._outside, records)]
        for record in every[1:]:
            contents.apply(record)
        if was is not None:
            for stands in list(contents.standings.settled(was, lambda *where: where in contents.puts)):
                every.append(stands)
                contents.apply(stands)
        made, by = _lines(every, head, "")
        if self.damage and not forget:
            # What could not be read was not taken over: it stays, for whoever wants to look.
            disk.make(os.path.join(self.path, f"damaged-{time.time_ns()}.jsonl"), disk.read(self._journal))
        data = b"".join(made)
        new = not os.path.exists(self._journal)
        with self._storing:
            with self._mutex:
                self._unsure()
            try:
                disk.replace(self._journal, data)
                if new:
                    # The name of the folder itself: all that is in it is on the disk already.
                    disk.sync_folder(os.path.dirname(self.path))
            except BaseException:
                if new:
                    with suppress(OSError):
                        os.unlink(self._journal)
                raise
            with self._mutex:
                self.contents = contents
                self.damage = []
                self.shaken = False
                last = (len(data) - len(made[-1]), made[-1][:PREFIX])
                self._state = _State(_stamp(os.stat(self._journal)), made[0], len(data), len(made), True, last, by)
        # What was deleted is to be gone, and the old journal is there as long as somebody has it open.
        self._close_file()
        self._drop_files(forget)

    def _opened(self, state: _State) -> FileIO:
        """The journal that was read, open; nobody puts another in its place while the lock is held."""
        if self._file is None or self._file_is != state.stamp[:2]:
            self._close_file()
            self._file = disk.opened(self._journal)
            self._file_is = state.stamp[:2]
        return self._file

    def _unsure(self) -> None:
        """Until it is known to have gone well: what is there is to be read again, and somebody may have seen it."""
        self._state = None
        self.shaken = True

    @contextmanager
    def reading(self) -> Iterator[Contents]:
        """The contents, which nobody in this process adds to meanwhile: look and go."""
        with self._mutex:
            yield self.refresh()

    def is_there(self) -> bool:
        """Whether there is a journal."""
        return os.path.exists(self._journal)

    @property
    def stamp(self) -> str:
        """The stamp of the journal that the contents are of, and all of; else one that no journal has."""
        state = self._state
        if state is None:
            return disk.NO_FILE if self.contents.head is None else NEVER
        return NEVER if self.damage else disk.stamped(*state.stamp[1:])

    def load(self, contents: Contents, number: int) -> Chunk | None:
        """A chunk of `contents`, from its file if it has one; None when it is missing or damaged."""
        chunk = contents.chunk(number)
        return load(self.path, chunk) if isinstance(chunk, Outside) else chunk

    def troubles(self) -> list[str]:
        """What is damaged of what is on the disk now; nobody needs to be warned of it any more."""
        afresh = ThreadFolder(self.path, self.thread_id)
        leased = []
        try:
            afresh.lease.find()
        except (StoreError, OSError) as error:
            leased.append(str(error))
        while True:
            try:
                contents = afresh.refresh()
            except (StoreError, OSError) as error:
                return [str(error), *leased]
            found = [f"line {line.number} of {self._journal!r}: {line.trouble}" for line in afresh.damage]
            for number, chunk in contents.chunks.items():
                if isinstance(chunk, Outside) and afresh.load(contents, number) is None:
                    found.append(f"{os.path.join(self.path, chunk.file)!r}: it is missing or damaged")
            if not found or afresh.refresh().head == contents.head:
                break  # else its files went with the journal that named them
        with self._mutex:
            if afresh.damage and not self._storing.locked():
                if self._state is not None and len(self.damage) < len(afresh.damage):
                    # It was whole when it was read, and refs may be in use that the journal does not know any more.
                    self.shaken = True
                    self._state = None
                self._refresh()
                self._reported = True
        return found + leased

    def report(self) -> None:
        """Warn of damaged lines, once for each time that they were found."""
        if self._reported:
            return
        self._reported = True
        for line in self.damage:
            warnings.warn(
                f"line {line.number} of {self._journal!r} (thread {self.thread_id!r}) is damaged: {line.trouble}. What "
                "it said is missing; the newest checkpoint that is whole is used instead. Restore the file from a "
                "backup, or go on without it",
                CorruptDataWarning,
                stacklevel=2,
            )

    def _take(self, data: bytes, state: _State | None, found: os.stat_result) -> None:
        """Take in what is behind `state`, or (None) all of a journal."""
        with uncollected(data.count(b"\n")):
            self._take_lines(data, state, found)

    def _take_lines(self, data: bytes, state: _State | None, found: os.stat_result) -> None:
        start, number, head = (state.end, state.lines + 1, self.contents.head) if state else (0, 1, None)
        if state is not None and not state.ended and data.startswith(b"\n"):
            data, start = data[1:], start + 1
        by = state.by if state else ""
        lines = list(read_lines(data, head, number, start, by))
        if lines and lines[-1].torn:
            lines.pop()  # a write that never came to its end, or has not yet
        whole = [line for line in lines if line.record is not None]
        contents, first, last = self.contents, b"", (0, b"")
        if state is not None:
            first, last = state.first, state.last
        elif whole and isinstance(whole[0].record, Head):
            head = whole[0].record
            contents, first = Contents(head), data[: whole[0].end]
        else:
            self._forget()
            raise _headless(self._journal, lines)
        assert head is not None
        if self.thread_id not in (None, head.thread_id):
            raise StoreError(
                f"{self._journal!r} is of thread {head.thread_id!r}, and the folder's name says that it is of "
                f"{self.thread_id!r}: it was put there by hand; move it back"
            )
        self.thread_id = head.thread_id
        try:
            for line in whole:
                if line.record is not None and not isinstance(line.record, Head):
                    contents.apply(line.record)
        except BaseException:
            self._forget()  # some of it may have been taken in
            raise
        damage = [line for line in lines if line.record is None]
        self.damage = [*(self.damage if state is not None else ()), *damage]
        self._reported = self._reported and not damage
        self.contents = contents
        by = lines[-1].by if lines else by
        if whole:
            last = (whole[-1].start, whole[-1].prefix)
        end, count, ended = (lines[-1].end, lines[-1].number, lines[-1].ended) if lines else (start, number - 1, True)
        self._state = _State(_stamp(found), first, end, count, ended, last, by)

    def _outside(self, record: Record) -> Record:
        """The record with its large chunks in files."""
        if isinstance(record, (Put, Wrote)):
            return record._replace(new=outside(self.path, record.new))
        return record

    def _drop_files(self, forget: bool) -> None:
        """Take away the files of chunks that nothing names any more; to `forget`, all that is left of the thread."""
        drop(self.path, [chunk for chunk in self.contents.chunks.values() if isinstance(chunk, Outside)])
        if forget:
            for name in os.listdir(self.path):
                if name not in (JOURNAL, LOCK, VALUES):
                    disk.remove(os.path.join(self.path, name))
            disk.sync_folder(self.path)

    def _forget(self) -> None:
        self.contents = Contents()
        self._state = None
        self.damage = []


def _lines(records: Sequence[Record], head: Head, by: str) -> tuple[list[bytes], str]:
    """The records as lines behind one of `by`, and whose the last one is."""
    made = []
    for record in records:
        made.append(encoded(record, head, by))
        by = by_whom(record, by)
    return made, by


def whose(path: str) -> str:
    """The id of the thread whose folder is at `path`. StoreError when its journal does not say, OSError without one."""
    journal = os.path.join(path, JOURNAL)
    with open(journal, "rb") as file:
        lines = list(read_lines(file.readline(), None))
    if not lines or not isinstance(lines[0].record, Head):
        raise _headless(journal, lines)
    return lines[0].record.thread_id


def _headless(journal: str, lines: Sequence[Line]) -> StoreError:
    trouble = lines[0].trouble if lines else "it is not there"
    return StoreError(
        f"the first line of {journal!r} cannot be read: {trouble}. It says whose checkpoints these are; restore the "
        "file from a backup, or delete the thread"
    )


def _stamp(found: os.stat_result) -> tuple[int, int, int, int]:
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
