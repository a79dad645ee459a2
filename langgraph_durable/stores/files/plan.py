"""Batches become the records that go on from the contents of a thread; what is refused leaves none."""

from __future__ import annotations

from collections.abc import Sequence

from langgraph_durable.core.records import (
    Batch,
    Chunk,
    Fenced,
    Found,
    FoundWrites,
    Lease,
    PutCheckpoint,
    PutWrites,
    Stale,
    Stored,
)
from langgraph_durable.errors import ThreadDeletedError
from langgraph_durable.stores.base import Outcome, fences
from langgraph_durable.stores.files.contents import Contents, buried_name
from langgraph_durable.stores.files.journal import Head, New, Outside, Put, Wrote
from langgraph_durable.stores.files.marks import kept, kept_event
from langgraph_durable.stores.parts import Parts


class Plan:
    """The records of several batches that go on from `contents`, which are not touched.

    `head` is the journal's, or the one that it will begin with, `lease` the thread's.
    """

    def __init__(self, contents: Contents, head: Head, lease: Lease | None) -> None:
        self.records: list[Put | Wrote] = []
        self._contents = contents
        self._head = head
        self._lease = lease
        self._is_there = contents.epoch is not None
        self._exhumed: set[str] = set()
        self._keys: dict[bytes, int] = {}
        self._ends: dict[int, int] = {}
        self._orders: dict[tuple[str, str], int] = {}
        self._next_chunk = contents.next_chunk
        self._next_list = contents.next_list

    def add(self, batch: Batch, order: int) -> Outcome:
        """What becomes of a batch when the records are stored; one that is refused leaves none."""
        work = batch.work
        assert isinstance(work, (PutCheckpoint, PutWrites))
        if batch.epoch is not None and (not self._is_there or batch.epoch != self._head.epoch):
            if isinstance(work, PutWrites) and batch.whole is not None:
                return self.add(batch.whole()._replace(token=batch.token), order)
            return Stale()
        refused = work.checkpoint_id if isinstance(work, PutWrites) else None if work.copied else work.parent
        if refused and self._is_buried(work.ns, refused):
            return ThreadDeletedError(
                f"thread {batch.thread_id!r} was deleted, with its checkpoint {refused!r}, while a run was writing to "
                "it. What that run wrote since was not stored; start a new run without a checkpoint_id to use the "
                "thread again"
            )
        if fences(self._lease, batch.token):
            return Fenced(self._lease)
        rows = _Rows(self)
        parts = Parts(rows, None, batch)
        record: Put | Wrote
        if isinstance(work, PutCheckpoint):
            refs = tuple(parts.ref(part, versioned=True) for part in work.parts)
            old = self._contents.put(work.ns, work.id)
            place = self._orders.get((work.ns, work.id), order if old is None else old.order)
            found = Found(
                batch.thread_id,
                work.ns,
                work.id,
                work.parent,
                work.metadata,
                work.exact_metadata,
                work.head,
                refs,
                (),
                self._head.epoch,
            )
            record = Put(place, found, work.run_id, rows.new, None if work.mark is None else kept(work.mark))
            self._orders[work.ns, work.id] = place
            self._exhumed.add(buried_name(work.ns, work.id))
        else:
            entries = tuple((index, channel, parts.ref(part, versioned=False)) for index, channel, part in work.entries)
            refs = tuple(ref for _, _, ref in entries)
            call = FoundWrites(work.task_id, work.task_path, work.replaces, entries)
            event = None if work.event is None else kept_event(work.event)
            record = Wrote(order, work.ns, work.checkpoint_id, call, rows.new, event)
        self._keys.update(rows.keys)
        self._ends.update(rows.ends)
        self._next_chunk, self._next_list = rows.next_chunk, rows.next_list
        self._is_there = True
        self.records.append(record)
        stop = batch.token is not None and self._lease is not None and self._lease.stop
        return Stored(self._head.epoch, refs, parts.chunks, stop=stop)

    def _is_buried(self, ns: str, checkpoint_id: str) -> bool:
        if not self._contents.buried:
            return False
        name = buried_name(ns, checkpoint_id)
        return name in self._contents.buried and name not in self._exhumed


class _Rows:
    """What one batch adds to a plan, in the keys of refs."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._contents = plan._contents
        self._base = plan._head.base
        self._chunks: list[tuple[int, Chunk | Outside]] = []
        self._elements: list[tuple[int, int, int, int]] = []
        self.keys: dict[bytes, int] = {}
        self.ends: dict[int, int] = {}
        self.next_chunk = plan._next_chunk
        self.next_list = plan._next_list

    @property
    def new(self) -> New:
        return New(self._chunks, self._elements)

    def chunk(self, place: None, digest: bytes, kind: str, data: bytes) -> int:
        known = self._contents.key(digest) or self._plan._keys.get(digest)
        if known is None:
            known = self.keys[digest] = self.next_chunk
            self.next_chunk += 1
            self._chunks.append((known, Chunk(digest, kind, data)))
        return known + self._base

    def new_list(self, place: None) -> int:
        self.next_list += 1
        self.ends[self.next_list - 1] = 0
        return self.next_list - 1 + self._base

    def end(self, place: None, list_key: int) -> int:
        number = list_key - self._base
        for known in (self.ends, self._plan._ends):
            if number in known:
                return known[number]
        return self._contents.end(number)

    def elements(self, place: None, rows: Sequence[tuple[int, int, int, int]]) -> None:
        for key, position, count, chunk in rows:
            self._elements.append((key - self._base, position, count, chunk - self._base))
            self.ends[key - self._base] = position + count

    def relisted(self, place: None, runs: Sequence[tuple[int, int, int]]) -> int:
        added: dict[int, list[tuple[int, int, int]]] = {}
        for new in (*(record.new for record in self._plan.records), self.new):
            for number, position, count, chunk in new.elements:
                added.setdefault(number, []).append((position, chunk + self._base, count))
        key = self.new_list(place)
        end = 0
        rows = []
        for source, start, stop in runs:
            there = self._contents.run(source, start, stop) + added.get(source - self._base, [])
            for position, chunk, count in there:
                if start <= position < stop:
                    rows.append((key, end + position - start, count, chunk))
            end += stop - start
        self.elements(place, rows)
        return key
