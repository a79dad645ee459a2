"""One thread renews the leases of all runs of this process, and none when there are none.

It is a daemon: a process that ends does not wait for it, and one that was stopped finds out at the first beat, or at
the first write, what became of its leases meanwhile.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

log = logging.getLogger("langgraph_durable")


class Beat(NamedTuple):
    """What to do every so many `seconds`; it answers whether there is more to do."""

    seconds: float
    renew: Callable[[], bool]


class Heartbeat:
    """The beats of this process."""

    def __init__(self) -> None:
        self.forked()

    def forked(self) -> None:
        """Start anew, in the child of a fork: no run of the parent's goes on here."""
        self._changed = threading.Condition()
        self._beats: dict[object, tuple[float, Beat]] = {}
        self._thread: threading.Thread | None = None

    def start(self, name: object, beat: Beat) -> None:
        """Begin, until `stop`."""
        with self._changed:
            self._beats[name] = (time.monotonic() + beat.seconds, beat)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="langgraph-durable leases", daemon=True)
                self._thread.start()
            elif self._earliest() == self._beats[name][0]:
                self._changed.notify()

    def stop(self, name: object) -> None:
        """No more beats of this name, but for one that has begun."""
        with self._changed:
            self._beats.pop(name, None)

    def _earliest(self) -> float:
        return min((due for due, _ in self._beats.values()), default=0.0)

    def _run(self) -> None:
        while True:
            with self._changed:
                if not self._beats:
                    # For a while, since the next run often follows at once.
                    self._changed.wait(IDLE_SECONDS)
                    if not self._beats:
                        self._thread = None
                        return
                wait = self._earliest() - time.monotonic()
                if wait > 0:
                    self._changed.wait(wait)
                now = time.monotonic()
                ready = [(name, beat) for name, (due, beat) in self._beats.items() if due <= now]
            for name, beat in ready:
                try:
                    more = beat.renew()
                except Exception:  # the leases of other runs are renewed here as well
                    log.exception("a lease could not be renewed; the next beat tries again")
                    more = True
                with self._changed:
                    if not more:
                        self._beats.pop(name, None)
                    elif name in self._beats:
                        self._beats[name] = (time.monotonic() + beat.seconds, beat)


IDLE_SECONDS = 5.0

heartbeat = Heartbeat()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=heartbeat.forked)
