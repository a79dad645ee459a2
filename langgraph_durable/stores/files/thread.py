"""A thread's folder: its journal, which is only appended to or put in place whole, and its large values.

    journal.jsonl     see `journal`
    values/           chunks too large for a line, each in a file that never changes
    lock              held by the process that writes

What is known of the journal is the bytes up to the last whole line. Bytes behind that are of a write that never ended,
and the next one takes their place. A line that is damaged with whole lines behind it stays where it is: it is reported,
and what it said is missing.
"""

from __future__ import annotations

import json
import os
import threading
import time
import warnings
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import NamedTuple

from langgraph_durable.core.readable import from_bytes, to_bytes
from langgraph_durable.core.records import Chunk
from langgraph_durable.errors import CorruptDataWarning, StoreError
from langgraph_durable.stores.files import disk
from langgraph_durable.stores.files.contents import Contents
from langgraph_durable.stores.files.journal import (
    Buried,
    Head,
    Line,
    New,
    Outside,
    Put,
    Wrote,
    encoded,
    read_lines,
)
from langgraph_durable.stores.files.locks import FileLock

JOURNAL = "journal.jsonl"
VALUES = "values"
LOCK = "lock"

LARGE = 64 * 1024
"""Bytes of a chunk from which on it has a file of its own."""


class _State(NamedTuple):
    """The journal as it was read: the file's identity, its first line, and how far its lines are whole."""

    stamp: tuple[int, int, int]
    first: bytes
    end: int
    lines: int
    size: int
    ended: bool = True


class ThreadFolder:
    """The folder of one thread. `contents` are as `refresh` found them; writing needs the lock."""

    def __init__(self, path: str, thread_id: str | None) -> None:
        self.path = path
        self.thread_id = thread_id
        self.contents = Contents()
        self.damage: list[Line] = []
        self._journal = os.path.join(path, JOURNAL)
        self._lock = FileLock(os.path.join(path, LOCK))
        self._mutex = threading.RLock()
        self._state: _State | None = None
        self._reported = True
        self._busy = False

    def lock(self, seconds: float) -> None:
        """Be the only one who writes, of all threads and processes. BusyError after `seconds`."""
        self._lock.acquire(seconds)

    def unlock(self) -> None:
        """Let others write."""
        self._lock.release()

    def refresh(self) -> Contents:
        """The contents, with what others wrote taken in."""
        with self._mutex:
            if not self._busy:
                self._refresh()
            return self.contents

    def _refresh(self) -> None:
        try:
            found = os.stat(self._journal)
        except (FileNotFoundError, NotADirectoryError):
            if self._state is not None or self.contents.head is not None:
                self._forget()
            return
        state = self._state
        if state is not None and _stamp(found) == state.stamp:
            return
        start, number, head, contents = 0, 1, None, Contents()
        data = b""
        if state is not None and found.st_size >= state.end:
            with open(self._journal, "rb") as file:
                found = os.fstat(file.fileno())
                if file.read(len(state.first)) == state.first:
                    file.seek(state.end)
                    data = file.read()
                    start, number, head, contents = state.end, state.lines + 1, self.contents.head, self.contents
        if head is None:
            with open(self._journal, "rb") as file:
                found = os.fstat(file.fileno())
                data = file.read()
            self.damage = []
        self._take(data, start, number, head, contents, found)

    def append(self, records: Sequence[Put | Wrote]) -> None:
        """Store records behind what is there, with the lock held and after `refresh`."""
        head = self.contents.head
        assert head is not None
        assert self._state is not None
        records = [self._outside(record) for record in records]
        lines = b"".join(encoded(record, head) for record in records)
        if not self._state.ended:
            lines = b"\n" + lines
        with self._writing():
            self._keep_tail()
            disk.append(self._journal, self._state.end, lines)
            with self._mutex:
                for record in records:
                    self.contents.apply(record)
                end = self._state.end + len(lines)
                stamp = _stamp(os.stat(self._journal))
                self._state = _State(stamp, self._state.first, end, self._state.lines + len(records), end)

    def rewrite(self, head: Head, records: Iterable[Put | Wrote], gone: Buried, *, keep_damaged: bool = True) -> None:
        """Put another journal in the place of this one, with the lock held."""
        contents = Contents(head)
        first = encoded(head, head)
        lines = [first]
        if gone.names:
            contents.apply(gone)
            lines.append(encoded(gone, head))
        for record in records:
            kept = self._outside(record)
            lines.append(encoded(kept, head))
            contents.apply(kept)
        if self.damage and keep_damaged:
            # What could not be read was not taken over: it stays, for whoever wants to look.
            with suppress(OSError):
                os.link(self._journal, os.path.join(self.path, f"damaged-{time.time_ns()}.jsonl"))
        data = b"".join(lines)
        with self._writing():
            if self._state is not None:
                self._keep_tail()
            disk.replace(self._journal, data)
            with self._mutex:
                self.contents = contents
                self.damage = []
                self._state = _State(_stamp(os.stat(self._journal)), first, len(data), len(lines), len(data))
        self._drop_files()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Nobody in this process reads the journal meanwhile: what is in it may not be on the disk yet."""
        with self._mutex:
            self._busy = True
        try:
            yield
        except BaseException:
            self._state = None  # whatever is there now has to be read again
            raise
        finally:
            self._busy = False

    @contextmanager
    def reading(self) -> Iterator[Contents]:
        """The contents, which nobody in this process adds to meanwhile: look and go."""
        with self._mutex:
            yield self.refresh()

    def load(self, contents: Contents, number: int) -> Chunk | None:
        """A chunk of `contents`, from its file if it has one; None when it is missing or damaged."""
        chunk = contents.chunks.get(number)
        if not isinstance(chunk, Outside):
            return chunk
        try:
            data = disk.read(os.path.join(self.path, VALUES, os.path.basename(chunk.file)))
        except OSError:
            return None
        if len(data) != chunk.size or zlib.crc32(data) != chunk.sum:
            return None
        return Chunk(chunk.digest, *_said(data))

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

    def _take(
        self,
        data: bytes,
        start: int,
        number: int,
        head: Head | None,
        contents: Contents,
        found: os.stat_result,
    ) -> None:
        end, lines, ended = start, number - 1, self._state is None or start == 0 or self._state.ended
        pending: list[Line] = []
        first = self._state.first if head is not None and self._state is not None else b""
        for line in read_lines(data, head, number, start):
            if line.record is None:
                pending.append(line)
                continue
            # Whole lines behind it: that is no write that never ended.
            if pending:
                self.damage += pending
                self._reported = False
            pending = []
            if isinstance(line.record, Head):
                head = line.record
                first = data[: line.end]
                contents = Contents(head)
                if self.thread_id is None:
                    self.thread_id = head.thread_id
                elif self.thread_id != head.thread_id:
                    raise StoreError(
                        f"{self._journal!r} is of thread {head.thread_id!r}, and the folder's name says that it is of "
                        f"{self.thread_id!r}: it was put there by hand; move it back"
                    )
            else:
                contents.apply(line.record)
            end, lines, ended = line.end, line.number, line.ended
        if head is None and pending:
            self._forget()
            self.damage = pending
            raise StoreError(
                f"the first line of {self._journal!r} cannot be read: {pending[0].trouble}. It says whose checkpoints "
                "these are; restore the file from a backup"
            )
        self.contents = contents
        self._state = _State(_stamp(found), first, end, lines, start + len(data), ended)

    def _keep_tail(self) -> None:
        """Put aside the bytes behind the last whole line if they end like a line: it may have been one once."""
        assert self._state is not None
        if self._state.size == self._state.end:
            return
        tail = disk.read(self._journal, self._state.end)
        if tail.endswith(b"\n"):
            aside = os.path.join(self.path, f"damaged-{time.time_ns()}.jsonl")
            disk.replace(aside, tail)
            warnings.warn(
                f"the last line of {self._journal!r} (thread {self.thread_id!r}) is damaged: it was put aside as "
                f"{aside!r}, and what is stored now follows the last one that is whole",
                CorruptDataWarning,
                stacklevel=2,
            )

    def _outside(self, record: Put | Wrote) -> Put | Wrote:
        """The record with its large chunks in files."""
        chunks: list[tuple[int, Chunk | Outside]] = []
        for number, chunk in record.new.chunks:
            if isinstance(chunk, Outside) or len(chunk.data) < LARGE:
                chunks.append((number, chunk))
                continue
            data = from_bytes(chunk.kind, chunk.data).encode()
            name = f"{chunk.digest.hex()}.json"
            folder = os.path.join(self.path, VALUES)
            disk.make_folder(folder)
            disk.replace(os.path.join(folder, name), data)
            chunks.append((number, Outside(chunk.digest, f"{VALUES}/{name}", len(data), zlib.crc32(data))))
        return record._replace(new=New(chunks, record.new.elements))

    def _drop_files(self) -> None:
        """Take away the files of chunks that nothing names any more."""
        kept = {os.path.basename(chunk.file) for chunk in self.contents.chunks.values() if isinstance(chunk, Outside)}
        with suppress(FileNotFoundError):
            for name in os.listdir(os.path.join(self.path, VALUES)):
                if name not in kept:
                    disk.remove(os.path.join(self.path, VALUES, name))

    def _forget(self) -> None:
        self.contents = Contents()
        self._state = None
        self.damage = []


def _said(data: bytes) -> tuple[str, bytes]:
    return to_bytes(json.loads(data))


def _stamp(found: os.stat_result) -> tuple[int, int, int]:
    return (found.st_ino, found.st_size, found.st_mtime_ns)
