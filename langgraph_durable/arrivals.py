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

from langgraph_durable.core.memory import BEFORES
from langgraph_durable.core.plan import Address
from langgraph_durable.core.superstep import PUSH, Ran, is_send

SECONDS = 0.25
"""The longest wait. When it is needed at all, a fraction of a millisecond is what it takes."""

STEPS = 2 * BEFORES
"""Checkpoints whose arrivals are remembered. What ran after a checkpoint is known of fewer, and waited for."""


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
        self._steps: OrderedDict[Address, set[str]] = OrderedDict()
        self._waiting: list[_Wait] = []
        self._silent: set[str] = set()

    def arrived(self, where: Address, task_paths: tuple[str, ...]) -> None:
        """The writes of these tasks are stored, or have failed for good."""
        ready = []
        with self._lock:
            self._step(where).update(task_paths)
            if self._silent:
                for path in task_paths:
                    self._silent.discard(PUSH if is_send(path) else path)
            for wait in self._waiting[:]:
                if wait.where == where and self._complete(where, wait.ran):
                    self._waiting.remove(wait)
                    ready.append(wait.future)
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
            if self._complete(where, ran):
                return None
            wait = _Wait(concurrent.futures.Future(), where, ran)
            self._waiting.append(wait)
            return wait

    def _give_up(self, wait: _Wait) -> None:
        with self._lock:
            self._waiting = [other for other in self._waiting if other.future is not wait.future]
            step = self._step(wait.where)
            self._silent |= wait.ran.tasks - step
            if sum(map(is_send, step)) < wait.ran.sends:
                self._silent.add(PUSH)

    def _complete(self, where: Address, ran: Ran) -> bool:
        step = self._step(where)
        if not ran.tasks <= step and not ran.tasks <= step | self._silent:
            return False
        return not ran.sends or PUSH in self._silent or sum(map(is_send, step)) >= ran.sends

    def _step(self, where: Address) -> set[str]:
        step = self._steps.get(where)
        if step is None:
            step = self._steps[where] = set()
            while len(self._steps) > STEPS:
                self._steps.popitem(last=False)
        return step
