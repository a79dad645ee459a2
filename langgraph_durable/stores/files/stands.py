"""How the namespaces of a thread stand follows from its records, taken in one after the other, by `core.status`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from langgraph_durable.core import status
from langgraph_durable.core.records import Chunk, Standing
from langgraph_durable.stores.files.journal import Ended, New, Put, Stands, Wrote


class Standings:
    """How each namespace stands (`of`), and what is left of what happened at its checkpoints (`tags`)."""

    def __init__(self) -> None:
        self.of: dict[str, Standing] = {}
        self.tags: dict[tuple[str, str], str] = {}
        self.counts: dict[str, int] = {}
        self.bytes: dict[str, int] = {}

    def put(self, record: Put, new: int, *, again: bool) -> None:
        """Take in a checkpoint that brings `new` bytes of values; `again` when one of that id had been put before."""
        found, made = record.found, record.mark
        ns = found.ns
        size = new + len(found.metadata) + len(found.head.data)
        count = self.counts[ns] = self.counts.get(ns, 0) + (not again)
        before = self.bytes.get(ns, 0)
        self.bytes[ns] = before + size
        if made is None:
            self.of.pop(ns, None)  # an earlier release put it, which says nothing of how the thread stands
            return
        old = self.of.get(ns)
        if old is None and count > 1:
            old = status.unknown(made.time, count - 1, before)
        self.of[ns] = status.put(old, made, found.id, found.parent, record.run_id, size, again=again)

    def wrote(self, record: Wrote, size: int) -> None:
        """Take in the writes of a task, which bring `size` bytes of values."""
        ns, event = record.ns, record.event
        self.bytes[ns] = self.bytes.get(ns, 0) + size
        old = self.of.get(ns)
        if old is not None or not self.counts.get(ns):
            stands = status.wrote(old, event, record.checkpoint_id, size)
            if stands is not None:
                self.of[ns] = stands
        if event is not None:
            self._tag(ns, record.checkpoint_id, status.tag_of(event))

    def ended(self, record: Ended) -> None:
        """Take in the end of a run."""
        old = self.of.get(record.ns)
        if old is not None and old.checkpoint_id == record.checkpoint_id:
            self.of[record.ns] = status.ended(old, record.event)
        self._tag(record.ns, record.checkpoint_id, status.tag_of(record.event))

    def stands(self, record: Stands) -> None:
        """Take in what was found out when the journal was made anew."""
        if record.standing is None:
            self.of.pop(record.ns, None)
        else:
            self.of[record.ns] = record.standing

    def settled(self, was: Mapping[str, Standing], there: Callable[[str, str], bool]) -> Iterator[Stands]:
        """What the records that are left do not say of how the namespaces stand that stood so before.

        Counts are of what is left (`there`); of a namespace whose newest checkpoint went nobody knows how it stands.
        """
        for ns in {**was, **self.of}:
            old = was.get(ns)
            if old is not None and not old.checkpoint_id and not self.counts.get(ns):
                continue  # an event of a checkpoint that is not stored yet, and has been taken in
            new = None
            if old is not None and there(ns, old.checkpoint_id):
                new = old._replace(checkpoints=self.counts[ns], bytes=self.bytes[ns])
            if new != self.of.get(ns):
                yield Stands(ns, new)

    def tag(self, ns: str, checkpoint_id: str, *, finished: bool) -> str:
        """The status that a checkpoint is found by; `finished` when nothing was next after it."""
        newest = self.of.get(ns)
        if newest is not None and newest.checkpoint_id == checkpoint_id:
            return newest.status
        return self.tags.get((ns, checkpoint_id)) or ("idle" if finished else "")

    def _tag(self, ns: str, checkpoint_id: str, tag: str) -> None:
        # That something failed there stays told, whatever else happened.
        if tag and self.tags.get((ns, checkpoint_id)) != "error":
            self.tags[ns, checkpoint_id] = tag


def size_of(new: New) -> int:
    """The bytes of the values that a record brings."""
    return sum(len(chunk.data) if isinstance(chunk, Chunk) else chunk.size for _, chunk in new.chunks)
