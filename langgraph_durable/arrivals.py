"""Which tasks' writes are stored already, for the checkpoint that must not overtake them.

The wait is bounded: a task whose writes never come (LangGraph answers a node from its cache without a word to the
saver) holds a checkpoint up once, and is not waited for again until a write of its node is seen.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections import OrderedDict
from typing import NamedTuple

from langgraph_durable.core.plan import Address
from langgraph_durable.core.superstep import PUSH, Ran, task_of

SECONDS = 0.25
"""The longest wait. When it is needed at all, a fraction of a millisecond is what it takes."""

STEPS = 4096
"""Checkpoints whose arrivals are remembered."""


class _Step:
    __slots__ = ("nodes", "sends", "waiting")

    def __init__(self) -> None:
        self.nodes: set[str] = set()
        self.sends: set[str] = set()
        self.waiting: list[tuple[Ran, concurrent.futures.Future[None]]] = []


class _Wait(NamedTuple):
    future: concurrent.futures.Future[None]
    where: Address
    ran: Ran


class Arrivals:
    """The tasks whose writes have arrived, by the checkpoint that they belong to."""

    def __init__(self) -> None:
        self.forked()

    def forked(self) -> None:
        """Start anew: nobody of the parent's waits here."""
        self._lock = threading.Lock()
        self._steps: OrderedDict[Address, _Step] = OrderedDict()
        self._silent: set[str] = set()

    def arrived(self, where: Address, task_paths: tuple[str, ...]) -> None:
        """The writes of these tasks are stored, or have failed for good."""
        ready = []
        with self._lock:
            step = self._step(where)
            for path in task_paths:
                node, send = task_of(path)
                if node is not None:
                    step.nodes.add(node)
                    self._silent.discard(node)
                elif send is not None:
                    step.sends.add(send)
                    self._silent.discard(PUSH)
            for wait in step.waiting[:]:
                if self._complete(step, wait[0]):
                    step.waiting.remove(wait)
                    ready.append(wait[1])
        for future in ready:
            if future.set_running_or_notify_cancel():
                future.set_result(None)

    def wait(self, where: Address, ran: Ran) -> None:
        """Return when the writes of all that ran have arrived, or after `SECONDS`."""
        pending = self._pending(where, ran)
        if pending is None:
            return
        try:
            pending.future.result(SECONDS)
        except concurrent.futures.TimeoutError:
            self._give_up(pending)

    async def await_(self, where: Address, ran: Ran) -> None:
        """The same for a coroutine."""
        pending = self._pending(where, ran)
        if pending is None:
            return
        try:
            await asyncio.wait_for(asyncio.wrap_future(pending.future), SECONDS)
        except asyncio.TimeoutError:
            self._give_up(pending)

    def _pending(self, where: Address, ran: Ran) -> _Wait | None:
        with self._lock:
            step = self._step(where)
            if self._complete(step, ran):
                return None
            future: concurrent.futures.Future[None] = concurrent.futures.Future()
            step.waiting.append((ran, future))
            return _Wait(future, where, ran)

    def _give_up(self, wait: _Wait) -> None:
        with self._lock:
            step = self._step(wait.where)
            step.waiting = [other for other in step.waiting if other[1] is not wait.future]
            self._silent |= wait.ran.nodes - step.nodes
            if len(step.sends) < wait.ran.sends:
                self._silent.add(PUSH)

    def _complete(self, step: _Step, ran: Ran) -> bool:
        return ran.nodes <= step.nodes | self._silent and (len(step.sends) >= ran.sends or PUSH in self._silent)

    def _step(self, where: Address) -> _Step:
        step = self._steps.get(where)
        if step is None:
            step = self._steps[where] = _Step()
            while len(self._steps) > STEPS:
                self._steps.popitem(last=False)
        return step
