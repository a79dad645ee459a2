"""Who runs a thread: a file in its folder while somebody does, changed by whoever holds the lock of the folder."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

import orjson

from langgraph_durable.core.records import EndLease, Fenced, KeepLease, Lease, Leased, LeaseWork, StopLease, TakeLease
from langgraph_durable.errors import StoreError
from langgraph_durable.stores.base import fences
from langgraph_durable.stores.files import disk
from langgraph_durable.stores.files.journal import framed, unframed
from langgraph_durable.stores.files.names import folder_name

LEASE = "lease.json"

SIZES = 251
"""How many lengths the file takes in turns: a prime."""


class Held(NamedTuple):
    """A lease, with the thread that it is of, and how often such a file was put in the place of another."""

    thread_id: str
    lease: Lease
    changes: int


class LeaseFile:
    """The file in the folder of a thread; every look at it is a look at the disk."""

    def __init__(self, folder: str) -> None:
        self.path = os.path.join(folder, LEASE)
        self._folder = folder
        self._known: tuple[str, Held] | None = None

    def find(self) -> Lease | None:
        """The lease. StoreError where there is one that cannot be read: nobody knows then who may write."""
        held = self.held()
        return None if held is None else held.lease

    def held(self) -> Held | None:
        """The lease and what is said with it."""
        try:
            found = os.stat(self.path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        known = self._known
        if known is not None and known[0] == disk.stamp_of(found):
            return known[1]
        try:
            with open(self.path, "rb") as file:
                found = os.fstat(file.fileno())
                held = self._read(file.read())
        except FileNotFoundError:
            return None
        self._known = (disk.stamp_of(found), held)
        return held

    @property
    def stamp(self) -> str:
        """The stamp of the file that was read last."""
        return disk.NO_FILE if self._known is None else self._known[0]

    def _read(self, data: bytes) -> Held:
        try:
            said = unframed(data)
            held = Held(said["thread"], Lease(said["token"], said["holder"], said["stop"]), said["changes"])
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(
                f"{self.path!r} cannot be read ({error}). It says who runs the thread, and nothing can be written to "
                "it by anybody before that is known. Make sure that nothing runs the thread any more and take the "
                "file away, or restore it from a backup"
            ) from error
        if folder_name(held.thread_id) != os.path.basename(self._folder):
            raise StoreError(
                f"{self.path!r} is of thread {held.thread_id!r}, which has another folder: it was put there by hand; "
                "take it away"
            )
        return held

    def keep(self, thread_id: str, lease: Lease) -> None:
        """Put a lease in the place of the one that is there; it is on the disk when this returns."""
        # That costs little beside the steps of a run, and what was answered is true after any power cut. A lease as it
        # was before would admit the token before: whoever has that is dead if it was this machine that went down, but
        # not if it was the one that has the disk.
        held = self.held()
        changes = time.time_ns() // 1000 if held is None else held.changes + 1
        said = {
            "thread": thread_id,
            "token": lease.token,
            "holder": lease.holder,
            "stop": lease.stop,
            "changes": changes,
        }
        # Two files one after the other can have the same number (inode) and the same time, which has a tick of some
        # milliseconds. They have not the same length.
        data = framed(orjson.dumps(said).decode()) + b" " * (changes % SIZES)
        try:
            disk.replace(self.path, data)
        except BaseException:
            if held is None:
                with suppress(OSError):
                    disk.remove(self.path)  # nobody was told of it
            raise

    def remove(self) -> None:
        """There is no lease any more, also after a power cut: nobody would write before one that came back expires."""
        disk.remove(self.path)
        disk.sync_folder(self._folder)


def change(file: LeaseFile, thread_id: str, work: LeaseWork, end: Callable[[EndLease], None]) -> Leased | Fenced:
    """Take, keep, stop or end the lease of a thread, with its lock held; `end` writes the end of a run down."""
    lease = file.find()
    if isinstance(work, TakeLease):
        if fences(lease, work.instead):
            return Fenced(lease)
        # No token comes twice, and a later one is greater, unless the clock goes back after the thread was left.
        new = Lease(max(time.time_ns(), (lease.token if lease is not None else 0) + 1), work.holder)
    elif isinstance(work, StopLease):
        if lease is None or lease.stop:
            return Leased(lease)
        new = lease._replace(stop=True)
    elif lease is None or fences(lease, work.token):
        return Fenced(lease)
    elif isinstance(work, KeepLease):
        new = lease._replace(holder=work.holder)
    else:
        # In this order: a run whose lease is there has not ended, whatever it wrote down, and one whose lease is gone
        # has written its end down.
        end(work)
        file.remove()
        return Leased(None)
    file.keep(thread_id, new)
    return Leased(new)


def nobody(work: LeaseWork) -> Leased | Fenced | None:
    """The answer where there is no such thread; None for a lease that can be taken."""
    if isinstance(work, TakeLease) and work.instead is None:
        return None
    return Leased(None) if isinstance(work, StopLease) else Fenced(None)
