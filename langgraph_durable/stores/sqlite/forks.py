"""A process forks while no thread of it is inside SQLite, and its files are closed at that moment.

What a child would inherit otherwise are SQLite's own mutexes, locked for ever by threads that it has not, and its books
about locks on the file, which say that this process holds what only the parent does: the child would wait for itself,
or read and write without a lock and lose what it stored when the parent closes.

https://www.sqlite.org/howtocorrupt.html, 2.6
"""

from __future__ import annotations

import gc
import os
import sqlite3
import threading
import weakref
from collections.abc import Hashable
from contextlib import suppress
from typing import Protocol


class Held(Hashable, Protocol):
    """What has to be out of SQLite during a fork."""

    def hold(self) -> None:
        """Let nobody in any more."""

    def empty(self) -> None:
        """Wait, for a bounded time, for who is inside, and close the file."""

    def release(self) -> None:
        """Let everybody in again; in the parent."""

    def forked(self) -> None:
        """Start anew, in the child."""


lost: set[Hashable] = set()
"""What this process must not use, because it was forked while a thread of its parent was using it."""

_all: weakref.WeakSet[Held] = weakref.WeakSet()
_held: list[Held] = []
_lock = threading.RLock()
"""Held during a fork, so that nothing is added and no other thread forks."""
_collecting = False
"""Whether the garbage collector has to be switched on again after the fork that goes on."""


def watch(held: Held) -> None:
    """See to `held` at every fork, for as long as anybody uses it."""
    with _lock:
        _all.add(held)


def _before() -> None:
    global _collecting
    _lock.acquire()
    # A saver that the collector finds unused is closed, and would wait here for the end of this fork.
    _collecting = gc.isenabled()
    gc.disable()
    _held.extend(_all)
    for held in _held:
        held.hold()
    for held in _held:
        with suppress(sqlite3.Error):
            held.empty()


def _in_parent() -> None:
    for held in _held:
        held.release()
    _end()
    _lock.release()


def _in_child() -> None:
    global _lock
    _lock = threading.RLock()
    for held in _held:
        held.forked()
    _end()


def _end() -> None:
    _held.clear()
    if _collecting:
        gc.enable()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
