"""A run holds its thread while it is entered, and has written down how it ended when it is left, whatever ended it."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Mapping
from typing import Any

import langgraph.errors
from langgraph.pregel import Pregel

from langgraph_durable.asking import NOT_TRIED, Attempted, Setting, Settings
from langgraph_durable.core import running
from langgraph_durable.core.environments import RECORD_HASH
from langgraph_durable.core.leases import held_by, lost
from langgraph_durable.core.records import Fenced
from langgraph_durable.core.requests import Fence
from langgraph_durable.core.running import OnBusy
from langgraph_durable.errors import (
    DurableError,
    LeaseLostError,
    RunCancelledError,
    ThreadBusyError,
    ThreadDeletedError,
)
from langgraph_durable.heartbeat import Beat, heartbeat
from langgraph_durable.processes import described, here
from langgraph_durable.saver import DurableSaver
from langgraph_durable.signals import Signals


class Run:
    """One run of a thread: `with` it, or `async with` it, the thread is held, and its end is written down.

    `graph` and `saver` are those of the run: what they store carries the token of its lease.
    `how` is how it ends unless it raises: then the thread is left as it was, unless the graph `began` to run. `tried`
    makes it an attempt to recover, and how many there were, and where. What it runs with, its `fingerprint`, is said in
    the metadata of each checkpoint.
    """

    def __init__(
        self,
        saver: DurableSaver,
        graph_with: Callable[[DurableSaver], Pregel[Any, Any, Any, Any]],
        settings: Settings,
        thread_id: str,
        *,
        how: str = "returned",
        fingerprint: Mapping[str, Any] | None = None,
        on_busy: OnBusy | None = None,
        tried: tuple[int, str] | None = None,
    ) -> None:
        self.thread_id = thread_id
        self.how = how
        self.began = False
        self._unfenced = saver
        self._graph_with = graph_with
        self._settings = settings
        self._on_busy = on_busy or settings.on_busy
        self._tried = tried
        self._fingerprint = fingerprint or {}
        self._held = False
        self._ended = ""

    def __enter__(self) -> Run:
        self._signals = Signals().__enter__()
        try:
            self._begin(self._unfenced._do(running.take, self.thread_id, **self._wanted()))
        except BaseException as error:
            if self._held:
                self.__exit__(type(error), error, None)
            else:
                self._signals.__exit__()
            raise
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        try:
            how = self._stopped(error)
            if how is not None:
                self._ended = self._unfenced._do(running.leave, *self._leaving(how, error))
        except DurableError:
            # The lease ends by itself. What was raised before is what there is to tell.
            if error is None:
                raise
        finally:
            self._signals.__exit__()

    async def __aenter__(self) -> Run:
        self._signals = Signals(asyncio.current_task()).__enter__()
        try:
            self._begin(await self._unfenced._ado(running.take, self.thread_id, **self._wanted()))
        except BaseException as error:
            if self._held:
                await self.__aexit__(type(error), error, None)
            else:
                self._signals.__exit__()
            raise
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        try:
            how = self._stopped(error)
            if how is not None:
                leaving = self._unfenced._ado(running.leave, *self._leaving(how, error))
                # A second cancellation does not keep the end from being written down.
                self._ended = await asyncio.shield(leaving)
        except DurableError:
            if error is None:
                raise
        finally:
            self._signals.__exit__()

    def attempted(self, error: Exception | None) -> Attempted:
        """What became of an attempt to recover; a thread that another run has was not tried."""
        if self.how == "nothing" or (isinstance(error, ThreadBusyError) and not self.began):
            return NOT_TRIED
        # Left as it was, a thread whose process is gone is crashed, whatever that process had last said.
        status = "crashed" if self._ended == "busy" else self._ended
        return Attempted(status, self._taken.recoveries, held_by(self._taken.lease).checkpoint_id, error)

    def _leaving(self, how: str, error: BaseException | None) -> tuple[Any, ...]:
        return self.thread_id, self._taken.lease, how, error, self._fence.said

    def _wanted(self) -> dict[str, Any]:
        settings = self._settings
        return {
            "owner": settings.owner or described(here()),
            "seconds": settings.lease_seconds,
            "on_busy": self._on_busy,
            "tried": self._tried,
        }

    def _begin(self, taken: running.Taken) -> None:
        self._taken = taken
        self._fence = Fence(taken.lease.token, here())
        self._held = True
        self.saver = copy.copy(self._unfenced)
        self.saver._fence = self._fence
        self.saver._coding = None
        self.graph = self._graph_with(self.saver)
        if self._fingerprint:
            config = self.graph.config or {}
            # What the app calls `model`, or anything else, stays its own. The hash is of all that is compared: nobody
            # has another, and a thread of its own that a node runs has not this one.
            told = {key: value for key, value in self._fingerprint.items() if key != RECORD_HASH}
            self.graph.config = {**config, "metadata": {**told, **(config.get("metadata") or {})}}
            self._fence.metadata = {RECORD_HASH: self._fingerprint[RECORD_HASH]}
        self.setting = Setting(self.thread_id, taken, self._settings, self._fingerprint)
        heartbeat.start(self, Beat(self._settings.heartbeat_seconds, self._beat))

    def _beat(self) -> bool:
        try:
            renewed = self.saver._do(running.renew, self.thread_id, self._taken.lease, self._settings.lease_seconds)
        except DurableError:
            return True  # the next beat tries again, and a write tells whether the lease is still there
        if isinstance(renewed, Fenced):
            self._fence.lost = lost(self.thread_id, renewed.lease)
            return False
        if renewed.lease is not None and renewed.lease.stop:
            self._fence.stopped = True
        return True

    def _stopped(self, error: BaseException | None) -> str | None:
        """How the run ends; None when that is not for it to say, since the thread is another's by now."""
        heartbeat.stop(self)
        if self._fence.by != here():
            return None
        if error is None:
            return self.how
        if self._fence.lost is not None or isinstance(error, (LeaseLostError, ThreadDeletedError)):
            return None
        if not self.began:
            return "nothing"
        if isinstance(error, KeyboardInterrupt):
            return "ctrl-c"
        if isinstance(error, SystemExit):
            return "sigterm" if self._signals.reason == "sigterm" else "failed"
        # The end of an event loop closes generators in no order, and one that is closing cannot be closed again.
        closing = isinstance(error, RuntimeError) and isinstance(error.__context__, GeneratorExit)
        if closing or isinstance(error, (asyncio.CancelledError, GeneratorExit)):
            return self._signals.reason or "cancelled"
        if isinstance(error, (RunCancelledError, _DRAINED)):
            return "cancelled"
        return "failed"


_DRAINED = getattr(langgraph.errors, "GraphDrained", RunCancelledError)
"""What a graph raises that was asked to end by its `RunControl`, where LangGraph has that."""
