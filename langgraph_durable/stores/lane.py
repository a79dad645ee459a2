"""One writer at a time, and whoever writes takes everything that is waiting into the same transaction.

A synchronous caller that finds the store free commits in its own thread; one that has to wait finds, when its turn
comes, that somebody has taken its batch along. Coroutines hand their batches to one worker thread, which never needs
an event loop to make progress: calling the synchronous side from inside a running loop cannot deadlock. The worker
is a daemon that ends when it has had nothing to do for a while.

A *patient* batch waits a little for another one to share a transaction with. The writes of a superstep and the
checkpoint that follows them a fraction of a millisecond later cost one fsync together.

A batch whose caller was cancelled or interrupted after it was queued is stored or not, but never half.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

In = TypeVar("In")
Out = TypeVar("Out")

GROUP_BYTES = 16 * 2**20
"""How much is taken into one transaction, once it holds anything at all."""

IDLE_SECONDS = 5.0

PATIENCE_SECONDS = 0.01
"""How long a patient batch waits for company: only the first in the queue does, so they never wait for one another."""


class Ticket(Generic[In, Out]):
    """A batch in the queue, and what became of it."""

    __slots__ = ("batch", "done", "error", "notify", "outcome", "ready")

    def __init__(self, batch: In) -> None:
        self.batch = batch
        self.done = False
        self.outcome: Out | None = None
        self.error: BaseException | None = None
        self.notify: tuple[asyncio.AbstractEventLoop, asyncio.Future[None]] | None = None
        self.ready: threading.Lock | None = None

    def result(self) -> Out:
        """The outcome; raises what the transaction raised."""
        if self.error is not None:
            raise self.error
        assert self.outcome is not None
        return self.outcome


class Lane(Generic[In, Out]):
    """A queue in front of `commit(batches) -> outcomes`, which is never called twice at once.

    `size(batch)` is in bytes. `commit` raises when none of the batches was stored.
    """

    def __init__(self, commit: Callable[[Sequence[In]], list[Out]], size: Callable[[In], int]) -> None:
        self._commit = commit
        self._size = size
        self._queue: deque[Ticket[In, Out]] = deque()
        self._reset()

    def _reset(self) -> None:
        self._turn = threading.Lock()
        self._worker_lock = threading.Lock()
        self._wake = threading.Semaphore(0)
        self._worker: threading.Thread | None = None

    def commit(self, batch: In, *, patient: bool = False, queued: Callable[[], None] | None = None) -> Out:
        """The outcome of `batch`, once it is durable.

        `queued` is called when the batch has its place in the order: what is committed from then on comes later.
        """
        ticket: Ticket[In, Out] = Ticket(batch)
        if patient:
            # A lock is the cheapest thing to wait for: held until the batch is done.
            ticket.ready = threading.Lock()
            ticket.ready.acquire()
        self._queue.append(ticket)
        if queued is not None:
            queued()
        if ticket.ready is not None:
            ticket.ready.acquire(timeout=PATIENCE_SECONDS)
        try:
            while not ticket.done:
                with self._turn:
                    if not ticket.done:
                        self._take_turn()
        except BaseException:
            self._call_worker()
            raise
        return ticket.result()

    async def acommit(self, batch: In, *, patient: bool = False, queued: Callable[[], None] | None = None) -> Out:
        """The same for a coroutine; the event loop goes on meanwhile."""
        loop = asyncio.get_running_loop()
        ticket: Ticket[In, Out] = Ticket(batch)
        future: asyncio.Future[None] = loop.create_future()
        ticket.notify = (loop, future)
        self._queue.append(ticket)
        if queued is not None:
            queued()
        if not patient:
            self._call_worker()
            await future
            return ticket.result()
        alarm = loop.call_later(PATIENCE_SECONDS, self._call_worker)
        try:
            await future
        except asyncio.CancelledError:
            self._call_worker()
            raise
        finally:
            alarm.cancel()
        return ticket.result()

    def flush(self) -> None:
        """Commit everything that is waiting."""
        while self._queue:
            with self._turn:
                if self._queue:
                    self._take_turn()

    def forked(self) -> None:
        """Called in the child of a fork: what was queued is the parent's, and its threads are not here."""
        self._queue.clear()
        self._reset()

    def _take_turn(self) -> None:
        """Commit what is waiting, oldest first; the caller has the turn.

        A ticket stays in the queue until it is done, and is done only after whoever waits for it was told: Ctrl-C in
        whoever happens to have the turn, at any place, leaves the others' batches to the worker. A batch can then be
        committed twice, which stores the same again.
        """
        tickets = [ticket for ticket in self._queue.copy() if not ticket.done]
        size = 0
        for place, ticket in enumerate(tickets if len(tickets) > 1 else ()):
            size += self._size(ticket.batch)
            if place and size > GROUP_BYTES:
                del tickets[place:]
                break
        try:
            outcomes = list(zip(tickets, self._commit([ticket.batch for ticket in tickets]), strict=True))
        except Exception as error:  # noqa: BLE001  it is raised again, in every caller whose batch this was
            for ticket in tickets:
                ticket.error = error
        else:
            for ticket, outcome in outcomes:
                ticket.outcome = outcome
        waiting: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}
        for ticket in tickets:
            if ticket.notify is not None:
                waiting.setdefault(ticket.notify[0], []).append(ticket.notify[1])
        for loop, futures in waiting.items():
            try:
                loop.call_soon_threadsafe(_resolve, futures)
            except RuntimeError:  # the loop was closed: nobody waits there any more
                continue
        for ticket in tickets:
            ticket.done = True
            if ticket.ready is not None and ticket.ready.locked():
                ticket.ready.release()
        while self._queue and self._queue[0].done:
            self._queue.popleft()

    def _call_worker(self) -> None:
        # First: a signal may raise in here, and does so most often while a thread is being started.
        self._wake.release()
        with self._worker_lock:
            if self._worker is None:
                # A weak reference: a lane that nobody uses any more must not be kept by its own idle thread.
                self._worker = threading.Thread(
                    target=_work, args=(weakref.ref(self), self._wake), name="langgraph-durable", daemon=True
                )
                self._worker.start()

    def _retire(self) -> bool:
        """Whether the worker may end: it says so under the lock that `_call_worker` starts a new one under."""
        with self._worker_lock:
            if self._queue:
                return False
            self._worker = None
            return True


def _resolve(futures: list[asyncio.Future[None]]) -> None:
    for future in futures:
        if not future.done():
            future.set_result(None)


def _work(lane: weakref.ref[Lane[In, Out]], wake: threading.Semaphore) -> None:
    while True:
        called = wake.acquire(timeout=IDLE_SECONDS)
        this = lane()
        if this is None or (not called and this._retire()):
            return
        while wake.acquire(blocking=False):
            pass  # one flush answers every call that came before it
        this.flush()
        del this
