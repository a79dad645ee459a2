"""The calls of models that have not ended: by their ids, and by the runs that make them.

LangChain does not tell when a call is cancelled: the run that made it ends, and then it was left. It may go on by
itself, so a few of those that were left are still known.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any, NamedTuple
from uuid import UUID

from langgraph_durable.context.usage.places import Place, Where
from langgraph_durable.context.usage.records import Call

_CALLS = 16_384
"""How many calls are remembered that have not ended."""

_LEFT = 64
"""How many of them, when nobody waits for them any more."""

_REFUSED = 4096
"""How many calls that were refused."""


class _Open(NamedTuple):
    """A call, and its place, which does not keep the saver."""

    call: Call
    place: Place


class Calls:
    """The calls that have not ended, of one ledger."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: OrderedDict[UUID, _Open] = OrderedDict()
        self._left: OrderedDict[UUID, _Open] = OrderedDict()
        self._of_runs: dict[UUID, dict[UUID, None]] = {}

    def __contains__(self, call_id: object) -> bool:
        with self._lock:
            return call_id in self._open

    def begin(self, call: Call, where: Where) -> None:
        """A call begins."""
        with self._lock:
            self._open[call.id] = _Open(call, Place.of(where))
            if call.parent is not None:
                self._of_runs.setdefault(call.parent, {})[call.id] = None
            while len(self._open) > _CALLS:
                self._take(next(iter(self._open)))

    def streams(self, call_id: UUID) -> None:
        """A part of the answer to a call is there."""
        with self._lock:
            found = self._open.get(call_id)
            if found is not None and not found.call.streams:
                self._open[call_id] = found._replace(call=found.call._replace(streams=True))

    def end(self, call_id: UUID) -> tuple[Call, Where] | None:
        """A call ends: it, and where its record belongs, if it is known."""
        with self._lock:
            found = self._take(call_id) or self._left.pop(call_id, None)
        return None if found is None else (found.call, found.place.where())

    def leave(self, run_id: UUID) -> list[tuple[Call, Where]]:
        """A run ends: the calls that it has made, and that have not."""
        with self._lock:
            return self._leave(self._of_runs.get(run_id, ()))

    def leave_these(self, call_ids: Iterable[UUID]) -> list[tuple[Call, Where]]:
        """Those of some calls that have not ended, as `leave` does it."""
        with self._lock:
            return self._leave(call_ids)

    def _leave(self, call_ids: Iterable[UUID]) -> list[tuple[Call, Where]]:
        taken = [found for one in list(call_ids) if (found := self._take(one)) is not None]
        made = [found for found in taken if found.call.id not in refused]
        for found in made:
            remember(self._left, found.call.id, found._replace(call=found.call._replace(parent=None)), _LEFT)
        return [(found.call, found.place.where()) for found in made]

    def _take(self, call_id: UUID) -> _Open | None:
        found = self._open.pop(call_id, None)
        if found is not None and found.call.parent is not None:
            siblings = self._of_runs.get(found.call.parent, {})
            siblings.pop(call_id, None)
            if not siblings:
                self._of_runs.pop(found.call.parent, None)
        return found


class _Refused:
    """The calls that a ledger of this process has refused: another one may have been told before it that they begin."""

    def __init__(self) -> None:
        self.forked()

    def forked(self) -> None:
        """Start anew, also in the child of a fork: whoever had the lock is not there."""
        self._lock = threading.Lock()
        self._calls: OrderedDict[UUID, None] = OrderedDict()

    def add(self, call_id: UUID) -> None:
        with self._lock:
            remember(self._calls, call_id, None, _REFUSED)

    def __contains__(self, call_id: object) -> bool:
        with self._lock:
            return call_id in self._calls


refused = _Refused()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=refused.forked)


def remember(known: OrderedDict[Any, Any], key: Any, value: Any, most: int) -> None:
    """Keep a value as the newest of the `most` that are kept."""
    known[key] = value
    known.move_to_end(key)
    while len(known) > most:
        known.popitem(last=False)
