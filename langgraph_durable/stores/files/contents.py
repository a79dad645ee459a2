"""What a journal says, in memory: records are applied to it, and batches become the records that go on from it.

Nothing here reads or writes a file. Whoever looks at contents while they grow finds every value as it was or as it is:
what is there is never changed, and a journal that takes the place of another has contents of its own.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
from operator import attrgetter, itemgetter
from typing import Any, TypeAlias

import ormsgpack

from langgraph_durable.core.records import (
    Batch,
    Chunk,
    Found,
    FoundWrites,
    Inline,
    PutCheckpoint,
    PutWrites,
    Ref,
    Stale,
    Stored,
)
from langgraph_durable.errors import ThreadDeletedError
from langgraph_durable.stores.base import Outcome
from langgraph_durable.stores.files.journal import Buried, Head, New, Outside, Put, Record, Wrote
from langgraph_durable.stores.parts import Parts
from langgraph_durable.stores.refs import ListRows

KEPT_DAYS = 30
"""How late a write to what was deleted can be and still be told."""


class Contents:
    """The checkpoints, writes and chunks of a thread; `head` is None where there is no journal."""

    def __init__(self, head: Head | None = None) -> None:
        self.head = head
        self.chunks: dict[int, Outside | tuple[bytes, str, bytes]] = {}
        self.lists: dict[int, tuple[list[int], list[int], list[int]]] = {}
        self.puts: dict[tuple[str, str], _Plain] = {}
        self.writes: dict[tuple[str, str], tuple[_Plain, ...]] = {}
        self.buried: dict[str, int] = {}
        self.size = 0
        self.last = 0
        self._in_order: list[_Plain] = []
        self._keys: dict[bytes, int] = {}
        self._ends: dict[int, int] = {}
        self.next_chunk = 1
        self.next_list = 1

    @property
    def epoch(self) -> int | None:
        """The epoch of a thread that is there: a journal that only tells what was deleted is of no thread."""
        return self.head.epoch if self.head is not None and (self.puts or self.writes) else None

    @property
    def base(self) -> int:
        """What refs have on top of the journal's numbers."""
        return self.head.base if self.head is not None else 0

    def newest_first(self) -> Iterator[Put]:
        """Every checkpoint, the one stored last first."""
        return map(_put, self._in_order[::-1])

    def put(self, ns: str, checkpoint_id: str) -> Put | None:
        """A checkpoint."""
        plain = self.puts.get((ns, checkpoint_id))
        return None if plain is None else _put(plain)

    def wrote(self, ns: str, checkpoint_id: str) -> list[Wrote]:
        """The writes of a checkpoint, in the order in which they were stored."""
        return list(map(_wrote, self.writes.get((ns, checkpoint_id), ())))

    def chunk(self, number: int) -> Chunk | Outside | None:
        """A chunk, or the file that it is in."""
        plain = self.chunks.get(number)
        return plain if plain is None or isinstance(plain, Outside) else Chunk(*plain)

    def found(self, put: Put) -> Found:
        """A checkpoint with its writes, as of now."""
        wrote = self.wrote(put.found.ns, put.found.id)
        return put.found._replace(writes=tuple(one.call for one in wrote)) if wrote else put.found

    def key(self, digest: bytes) -> int | None:
        """The number of a chunk."""
        return self._keys.get(digest)

    def end(self, number: int) -> int:
        """How many elements a list has, or had: those of a line that is lost are named by others."""
        return self._ends.get(number, 0)

    def rows(self, key: int) -> ListRows:
        """The elements of the list that refs know by `key`."""
        positions, keys, counts = self.lists.get(key - self.base, ([], [], []))
        # Another thread may be adding a row: all three, as far as the shortest of them is.
        size = min(len(positions), len(keys), len(counts))
        return ListRows(positions[:size], [key + self.base for key in keys[:size]], counts[:size])

    def run(self, key: int, start: int, stop: int) -> list[tuple[int, int, int]]:
        """Elements `start` to `stop` of the list that refs know by `key`: (position, chunk, count) each."""
        positions, keys, counts = self.rows(key)
        low, high = bisect_left(positions, start), bisect_left(positions, stop)
        return list(zip(positions[low:high], keys[low:high], counts[low:high], strict=True))

    def whole(self, found: Found) -> bool:
        """Whether everything is there that a checkpoint names; files of chunks are not looked for."""
        for ref in found.refs:
            keys: list[int] = []
            if isinstance(ref, int):
                keys.append(ref)
            elif ref and isinstance(ref[0], tuple):
                for key, start, stop in ref:
                    there = self.run(key, start, stop)
                    if sum(count for _, _, count in there) != stop - start:
                        return False
                    keys += [chunk for _, chunk, _ in there]
            elif ref and isinstance(ref[0], int):
                keys += ref[0::2]
            if any(key - self.base not in self.chunks for key in keys):
                return False
        return True

    def apply(self, record: Record) -> None:
        """Take a record in."""
        if isinstance(record, Buried):
            self.buried.update(record.names)
            return
        assert not isinstance(record, Head)
        for number, chunk in record.new.chunks:
            self.chunks[number] = chunk if isinstance(chunk, Outside) else (chunk.digest, chunk.kind, chunk.data)
            self._keys[chunk.digest] = number
            self.size += len(chunk.data) if isinstance(chunk, Chunk) else 64
        for number, position, count, chunk_number in record.new.elements:
            positions, keys, counts = self.lists.setdefault(number, ([], [], []))
            if positions and position < positions[-1]:
                # A journal that was rewritten: what was stored first may name later elements of a list.
                rows = sorted([*zip(positions, keys, counts, strict=True), (position, chunk_number, count)])
                self.lists[number] = ([row[0] for row in rows], [row[1] for row in rows], [row[2] for row in rows])
                continue
            positions.append(position)
            keys.append(chunk_number)
            counts.append(count)
        # What it brought is known now by its numbers, and need not be kept twice.
        new, record = record.new, record._replace(new=New())
        if isinstance(record, Put):
            where = (record.found.ns, record.found.id)
            old = self.puts.get(where)
            plain = self.puts[where] = _plain_put(record)
            if old is not None:
                # A list of its own: somebody may be walking through the one that is there.
                self._in_order = [plain if one is old else one for one in self._in_order]
            elif self._in_order and record.order < self._in_order[-1][0]:
                self._in_order = self._in_order.copy()
                insort(self._in_order, plain, key=itemgetter(0))
            else:
                self._in_order.append(plain)
            self.buried.pop(_name(*where), None)
        else:
            where = (record.ns, record.checkpoint_id)
            self.writes[where] = (*self.writes.get(where, ()), _plain_wrote(record))
        self.size += 512
        self.last = max(self.last, record.order)
        self._pass(new, record.refs)

    def records(self, puts: Iterable[Put], wrote: Iterable[Wrote], head: Head) -> Iterator[Put | Wrote]:
        """These records for a journal that begins with `head`: each brings what none before it did."""
        chunks: set[int] = set()
        rows: set[tuple[int, int]] = set()
        every: list[Put | Wrote] = [*puts, *wrote]
        for record in sorted(every, key=attrgetter("order")):
            new_chunks: list[tuple[int, Chunk | Outside]] = []
            new_rows: list[tuple[int, int, int, int]] = []

            def bring(key: int, brought: list[tuple[int, Chunk | Outside]] = new_chunks) -> None:
                number = key - self.base
                if number in chunks:
                    return
                chunk = self.chunk(number)
                if chunk is not None:
                    chunks.add(number)
                    brought.append((number, chunk))

            for ref in record.refs:
                if isinstance(ref, int):
                    bring(ref)
                elif ref and isinstance(ref[0], int):
                    for key in ref[0::2]:
                        bring(key)
                elif ref and isinstance(ref[0], tuple):
                    for key, start, stop in ref:
                        for position, chunk, count in self.run(key, start, stop):
                            if (key, position) not in rows:
                                rows.add((key, position))
                                bring(chunk)
                                new_rows.append((key - self.base, position, count, chunk - self.base))
            yield _moved(record, New(new_chunks, new_rows), head, head.base - self.base)

    def _pass(self, new: New, refs: Sequence[Ref]) -> None:
        """Give no number and no place again that anything names, though its record may be lost."""
        base, ends = self.base, self._ends
        for number, _ in new.chunks:
            self.next_chunk = max(self.next_chunk, number + 1)
        for number, position, count, chunk in new.elements:
            ends[number] = max(ends.get(number, 0), position + count)
            self.next_list = max(self.next_list, number + 1)
            self.next_chunk = max(self.next_chunk, chunk + 1)
        for ref in refs:
            if isinstance(ref, int):
                self.next_chunk = max(self.next_chunk, ref - base + 1)
            elif ref and isinstance(ref[0], int):
                self.next_chunk = max(self.next_chunk, max(ref[0::2]) - base + 1)
            elif ref and isinstance(ref[0], tuple):
                for key, _, stop in ref:
                    ends[key - base] = max(ends.get(key - base, 0), stop)
                    self.next_list = max(self.next_list, key - base + 1)


# What is kept is tuples of tuples and no named ones: those the garbage collector forgets when it has seen that nothing
# in them can be part of a circle, the others it walks through again and again.

_Plain: TypeAlias = "tuple[Any, ...]"


def _plain_put(put: Put) -> _Plain:
    found = put.found
    exact = None if found.exact_metadata is None else tuple(found.exact_metadata)
    plain = (found.thread_id, found.ns, found.id, found.parent, found.metadata, exact, tuple(found.head), found.refs)
    return (put.order, put.run_id, found.epoch, plain)


def _put(plain: _Plain) -> Put:
    order, run_id, epoch, (thread_id, ns, checkpoint_id, parent, metadata, exact, head, refs) = plain
    exact = None if exact is None else Inline(*exact)
    found = Found(thread_id, ns, checkpoint_id, parent, metadata, exact, Inline(*head), refs, (), epoch)
    return Put(order, found, run_id, New())


def _plain_wrote(wrote: Wrote) -> _Plain:
    return (wrote.order, wrote.ns, wrote.checkpoint_id, tuple(wrote.call))


def _wrote(plain: _Plain) -> Wrote:
    order, ns, checkpoint_id, call = plain
    return Wrote(order, ns, checkpoint_id, FoundWrites(*call), New())


class Plan:
    """The records of several batches that go on from `contents`, which are not touched.

    `head` is the journal's, or the one that it will begin with.
    """

    def __init__(self, contents: Contents, head: Head) -> None:
        self.records: list[Put | Wrote] = []
        self._contents = contents
        self._head = head
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
                return self.add(batch.whole(), order)
            return Stale()
        refused = work.checkpoint_id if isinstance(work, PutWrites) else None if work.copied else work.parent
        if refused and self._is_buried(work.ns, refused):
            return ThreadDeletedError(
                f"thread {batch.thread_id!r} was deleted, with its checkpoint {refused!r}, while a run was writing to "
                "it. What that run wrote since was not stored; start a new run without a checkpoint_id to use the "
                "thread again"
            )
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
            record = Put(place, found, work.run_id, rows.new)
            self._orders[work.ns, work.id] = place
            self._exhumed.add(_name(work.ns, work.id))
        else:
            entries = tuple((index, channel, parts.ref(part, versioned=False)) for index, channel, part in work.entries)
            refs = tuple(ref for _, _, ref in entries)
            call = FoundWrites(work.task_id, work.task_path, work.replaces, entries)
            record = Wrote(order, work.ns, work.checkpoint_id, call, rows.new)
        self._keys.update(rows.keys)
        self._ends.update(rows.ends)
        self._next_chunk, self._next_list = rows.next_chunk, rows.next_list
        self._is_there = True
        self.records.append(record)
        return Stored(self._head.epoch, refs, parts.chunks)

    def _is_buried(self, ns: str, checkpoint_id: str) -> bool:
        if not self._contents.buried:
            return False
        name = _name(ns, checkpoint_id)
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


def buried(
    contents: Contents, today: int, *, gone: Iterable[tuple[str, str]] = (), back: Iterable[tuple[str, str]] = ()
) -> Buried:
    """What is to be remembered as deleted of a thread, when these checkpoints go and those come back."""
    names = {name: day for name, day in contents.buried.items() if today - day <= KEPT_DAYS}
    names |= {_name(ns, checkpoint_id): today for ns, checkpoint_id in gone}
    for ns, checkpoint_id in back:
        names.pop(_name(ns, checkpoint_id), None)
    return Buried(names)


def _moved(record: Put | Wrote, new: New, head: Head, by: int) -> Put | Wrote:
    """A record in another journal, where its refs are `by` more."""
    if isinstance(record, Put):
        refs = tuple(_moved_ref(ref, by) for ref in record.found.refs)
        found = record.found._replace(thread_id=head.thread_id, refs=refs, epoch=head.epoch)
        return record._replace(found=found, new=new)
    entries = tuple((index, channel, _moved_ref(ref, by)) for index, channel, ref in record.call.entries)
    return record._replace(call=record.call._replace(entries=entries), new=new)


def _moved_ref(ref: Ref, by: int) -> Ref:
    if isinstance(ref, int):
        return ref + by
    if ref and isinstance(ref[0], int):
        return tuple(number if place % 2 else number + by for place, number in enumerate(ref))
    if ref and isinstance(ref[0], tuple):
        return tuple((key + by, start, stop) for key, start, stop in ref)
    return ref


def _name(ns: str, checkpoint_id: str) -> str:
    """A hash, from which nothing of what was deleted can be told."""
    return blake2b(ormsgpack.packb([ns, checkpoint_id]), digest_size=8).hexdigest()
