"""What this process knows to be stored, so that it need not be stored or read again; forgetting any of it is safe.

Nothing here is trusted beyond the epoch it was learnt under: the store compares epochs inside the transaction that
uses a ref, and a reader compares them before it uses what is remembered instead of what is stored.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from langgraph_durable.core.delta import Held
from langgraph_durable.core.records import Ref
from langgraph_durable.core.superstep import Before

DIGESTS = 2048
"""How many chunk names are remembered for a thread: enough for the writes of one superstep and the next checkpoint."""


BEFORES = 1024
"""How many checkpoints are remembered with the superstep that follows them."""


class Space(NamedTuple):
    """The newest state known of one namespace of one thread; `record` is that of `core.environments`, by its hash."""

    epoch: int
    before: Before
    lists: dict[str, Held]
    singles: dict[str, tuple[bytes, Ref]]
    record: tuple[str, Ref] | None = None


class Memory:
    """Spaces and chunk names by thread, the longest unused going first when they exceed `limit` bytes."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._used = 0
        self._lock = threading.Lock()
        self._spaces: OrderedDict[tuple[str, str], tuple[Space, int]] = OrderedDict()
        self._digests: OrderedDict[str, tuple[int, OrderedDict[bytes, Ref]]] = OrderedDict()
        self._befores: OrderedDict[tuple[str, str, str], Before] = OrderedDict()

    def space(self, thread_id: str, ns: str) -> Space | None:
        """What is known of a namespace, under the epoch that it carries."""
        key = (thread_id, ns)
        with self._lock:
            sized = self._spaces.get(key)
            if sized is None:
                return None
            self._spaces.move_to_end(key)
            return sized[0]

    def keep(self, thread_id: str, ns: str, space: Space) -> None:
        """Remember `space` instead of what was known, and note its checkpoint."""
        key = (thread_id, ns)
        size = _size(space)
        with self._lock:
            old = self._spaces.pop(key, None)
            if old is not None:
                self._used -= old[1]
            self._spaces[key] = (space, size)
            self._used += size
            while self._used > self._limit and self._spaces:
                _, (_, oldest) = self._spaces.popitem(last=False)
                self._used -= oldest
        self.note(thread_id, ns, space.before)

    def note(self, thread_id: str, ns: str, before: Before) -> None:
        """Remember a checkpoint, as the one before those that may follow."""
        with self._lock:
            self._befores[thread_id, ns, before.checkpoint_id] = before
            while len(self._befores) > BEFORES:
                self._befores.popitem(last=False)

    def before(self, thread_id: str, ns: str, checkpoint_id: str) -> Before | None:
        """What was noted of a checkpoint."""
        with self._lock:
            return self._befores.get((thread_id, ns, checkpoint_id))

    def learn(self, thread_id: str, epoch: int, chunks: Mapping[bytes, Ref]) -> None:
        """Remember under which refs these chunks are stored."""
        with self._lock:
            known = self._digests.get(thread_id)
            if known is None or known[0] != epoch:
                known = (epoch, OrderedDict())
            self._digests[thread_id] = known
            self._digests.move_to_end(thread_id)
            known[1].update(chunks)
            while len(known[1]) > DIGESTS:
                known[1].popitem(last=False)
            while len(self._digests) > DIGESTS:
                self._digests.popitem(last=False)

    def chunks(self, thread_id: str) -> tuple[int | None, Mapping[bytes, Ref]]:
        """The refs of the chunks that are known to be stored, and the epoch (None: none are) that they are good for.

        They may become more, or fewer, while they are looked at.
        """
        with self._lock:
            return self._digests.get(thread_id, _NO_CHUNKS)

    def forget(self, thread_id: str) -> None:
        """Know nothing of a thread any more."""
        with self._lock:
            self._digests.pop(thread_id, None)
            for key in [key for key in self._spaces if key[0] == thread_id]:
                self._used -= self._spaces.pop(key)[1]

    def clear(self) -> None:
        """Know nothing any more, with a new lock: a process that was forked may have inherited a locked one."""
        self._lock = threading.Lock()
        self._spaces.clear()
        self._digests.clear()
        self._befores.clear()
        self._used = 0


_NO_CHUNKS: tuple[None, Mapping[bytes, Ref]] = (None, MappingProxyType({}))


def _size(space: Space) -> int:
    """Bytes, near enough."""
    size = 512
    for held in space.lists.values():
        size += held.size + (256 if held.mirror else 64) * len(held.streams)
    return size
