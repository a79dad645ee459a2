"""What a saver and its copies share: one store, one lane to it, one memory; closed once, and at exit if nobody did.

It does what the flows of `core.flows` ask for, blocking or awaiting.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import ormsgpack
from langgraph.checkpoint.serde.base import SerializerProtocol

from langgraph_durable.arrivals import Arrivals
from langgraph_durable.core.driving import adriven, driven
from langgraph_durable.core.memory import Memory
from langgraph_durable.core.records import Batch, Query, ThreadQuery
from langgraph_durable.core.requests import (
    AwaitWrites,
    CommitWrites,
    FindNode,
    FindRuns,
    FindThreads,
    Flow,
    LookAfter,
    LookForDamage,
    Pause,
    Question,
    Request,
    WritesArrived,
)
from langgraph_durable.errors import ClosedError, DurableError, OpenError
from langgraph_durable.processes import alive
from langgraph_durable.sources import Later, Source
from langgraph_durable.stores.base import Outcome, Store
from langgraph_durable.stores.lane import Lane

T = TypeVar("T")

MEMORY_BYTES = 64 * 2**20
"""What this process remembers of what it stored and read, over all threads."""


class Engine:
    """The store of a saver, opened now or, where that is not possible yet, at the first call."""

    def __init__(self, source: Source) -> None:
        self.memory = Memory(MEMORY_BYTES)
        self.arrivals = Arrivals()
        self._lock = threading.Lock()
        self._opened: tuple[Store, Lane[Batch, Outcome]] | None = None
        self._closed = False
        self._later = source if isinstance(source, Later) else None
        if not isinstance(source, Later):
            self._open(source)
        _engines.add(self)

    @property
    def store(self) -> Store:
        """The store, opened if it has to be."""
        return self._ready()[0]

    @property
    def lane(self) -> Lane[Batch, Outcome]:
        """The lane to the store."""
        return self._ready()[1]

    async def aready(self) -> None:
        """See to it that the store is open, without blocking the running event loop."""
        if self._opened is None and self._later is not None and not self._closed:
            self._open(await self._later.aask())

    def digest_key(self, serde: SerializerProtocol) -> bytes:
        """The key of this database's digests, which only who can decrypt its values can read."""
        kind, data = serde.dumps_typed(os.urandom(32))
        kept = ormsgpack.unpackb(self.store.secret("digest_key", ormsgpack.packb([kind, data])))
        try:
            key = serde.loads_typed((kept[0], kept[1]))
        except Exception as error:  # whatever a cipher raises when the key is not the one
            raise OpenError(
                f"the database was written with another encryption key or serializer than the one given ({error})"
            ) from error
        assert isinstance(key, bytes)
        return key

    def run(self, flow: Flow[T]) -> T:
        """What a flow ends with, having done what it asked for."""
        return driven(flow, self._perform)

    async def arun(self, flow: Flow[T]) -> T:
        """`run` for a coroutine."""
        return await adriven(flow, self._aperform)

    def close(self) -> None:
        """Store what is waiting and close the connections that were opened here."""
        self._closed = True
        if self._opened is not None:
            self._closer()

    def forked(self) -> None:
        """Called in the child of a fork."""
        self._lock = threading.Lock()
        self.memory.clear()
        self.arrivals.forked()
        if self._opened is not None:
            store, lane = self._opened
            store.forked()
            lane.forked()

    def _perform(self, request: Request) -> Any:
        if isinstance(request, Batch):
            return _accepted(self.lane.commit(request))
        if isinstance(request, CommitWrites):
            queued = partial(self.arrivals.arrived, *request.arrived)
            return _accepted(self.lane.commit(request.batch, patient=True, queued=queued))
        if isinstance(request, WritesArrived):
            return self.arrivals.arrived(request.where, request.task_paths)
        if isinstance(request, AwaitWrites):
            return self.arrivals.wait(request.where, request.ran)
        if isinstance(request, Pause):
            return time.sleep(request.seconds)
        return self._ask(request)

    async def _aperform(self, request: Request) -> Any:
        if isinstance(request, Batch):
            return _accepted(await self.lane.acommit(request))
        if isinstance(request, CommitWrites):
            queued = partial(self.arrivals.arrived, *request.arrived)
            return _accepted(await self.lane.acommit(request.batch, patient=True, queued=queued))
        if isinstance(request, WritesArrived):
            return self.arrivals.arrived(request.where, request.task_paths)
        if isinstance(request, AwaitWrites):
            return await self.arrivals.await_(request.where, request.ran)
        if isinstance(request, Pause):
            return await asyncio.sleep(request.seconds)
        return await asyncio.get_running_loop().run_in_executor(None, self._ask, request)

    def _ask(self, request: Question) -> Any:
        store = self.store
        if isinstance(request, Query):
            return store.read(request)
        if isinstance(request, FindRuns):
            return store.runs(request.run_ids)
        if isinstance(request, FindThreads):
            return store.threads()
        if isinstance(request, ThreadQuery):
            return store.stood(request)
        if isinstance(request, FindNode):
            return store.node(request.thread_id, request.ns, request.node, request.occurrence)
        if isinstance(request, LookAfter):
            return {process: alive(process) for process in request.processes}
        if isinstance(request, LookForDamage):
            return store.check(request.thread_id)
        return store.settle()

    def _ready(self) -> tuple[Store, Lane[Batch, Outcome]]:
        if self._opened is None:
            if self._closed:
                raise ClosedError("this saver was closed; make a new one")
            assert self._later is not None
            self._open(self._later.ask())
        assert self._opened is not None
        return self._opened

    def _open(self, make: Callable[[], Store]) -> None:
        with self._lock:
            if self._opened is not None:
                return
            store = make()
            lane: Lane[Batch, Outcome] = Lane(store.commit, _size)
            # It runs when the engine is collected, and at exit: an unclosed saver loses nothing and holds nobody up.
            self._closer = weakref.finalize(self, _close, store, lane)
            self._opened = (store, lane)


def _close(store: Store, lane: Lane[Batch, Outcome]) -> None:
    lane.flush()
    store.close()


def _accepted(outcome: Outcome) -> Outcome:
    if isinstance(outcome, DurableError):
        raise outcome
    return outcome


def _size(batch: Batch) -> int:
    return sum(len(chunk.data) for chunk in batch.chunks) + 512


_engines: weakref.WeakSet[Engine] = weakref.WeakSet()


def _forked() -> None:
    for engine in list(_engines):
        engine.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
