"""What a journal says, in memory: records are applied to it one after the other.

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

from langgraph_durable.core.records import Chunk, Event, Found, FoundWrites, Inline, Mark, Ref
from langgraph_durable.stores.files.journal import Buried, Ended, Head, New, Outside, Put, Record, Stands, Wrote
from langgraph_durable.stores.files.stands import Standings, size_of
from langgraph_durable.stores.refs import ListRows

KEPT_DAYS = 30
"""How late a write to what was deleted can be and still be told."""

_NEXT = Mark._fields.index("next")


class Contents:
    """The checkpoints, writes and chunks of a thread; `head` is None where there is no journal."""

    def __init__(self, head: Head | None = None) -> None:
        self.head = head
        self.chunks: dict[int, Outside | tuple[bytes, str, bytes]] = {}
        self.lists: dict[int, tuple[list[int], list[int], list[int]]] = {}
        self.puts: dict[tuple[str, str], _Plain] = {}
        self.writes: dict[tuple[str, str], tuple[_Plain, ...]] = {}
        self.ends: dict[tuple[str, str], tuple[_Plain, ...]] = {}
        self.buried: dict[str, int] = {}
        self.standings = Standings()
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

    def ended(self, ns: str, checkpoint_id: str) -> list[Ended]:
        """The ends of runs that had come as far as a checkpoint."""
        return list(map(_ended, self.ends.get((ns, checkpoint_id), ())))

    def before(self, ns: str, node: str) -> list[str]:
        """The ids of the checkpoints after which a node is next, in the order in which they were stored."""
        # Without making a `Put` of each.
        return [
            plain[3][2]
            for plain in self._in_order
            if plain[3][1] == ns and plain[4] is not None and node in plain[4][_NEXT]
        ]

    def tag(self, put: Put) -> str:
        """The status that a checkpoint is found by."""
        finished = put.mark is not None and not put.mark.next
        return self.standings.tag(put.found.ns, put.found.id, finished=finished)

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
        if isinstance(record, Stands):
            self.standings.stands(record)
            return
        if isinstance(record, Ended):
            self.standings.ended(record)
            where = (record.ns, record.checkpoint_id)
            self.ends[where] = (*self.ends.get(where, ()), _plain_ended(record))
            self.size += 512
            self.last = max(self.last, record.order)
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
            self.standings.put(record, size_of(new), again=old is not None)
            plain = self.puts[where] = _plain_put(record)
            if old is not None:
                # A list of its own: somebody may be walking through the one that is there.
                self._in_order = [plain if one is old else one for one in self._in_order]
            elif self._in_order and record.order < self._in_order[-1][0]:
                self._in_order = self._in_order.copy()
                insort(self._in_order, plain, key=itemgetter(0))
            else:
                self._in_order.append(plain)
            self.buried.pop(buried_name(*where), None)
        else:
            where = (record.ns, record.checkpoint_id)
            self.standings.wrote(record, size_of(new))
            self.writes[where] = (*self.writes.get(where, ()), _plain_wrote(record))
        self.size += 512
        self.last = max(self.last, record.order)
        self._pass(new, record.refs)

    def records(
        self, puts: Iterable[Put], others: Iterable[Wrote | Ended], head: Head
    ) -> Iterator[Put | Wrote | Ended]:
        """These records for a journal that begins with `head`: each brings what none before it did."""
        chunks: set[int] = set()
        rows: set[tuple[int, int]] = set()
        every: list[Put | Wrote | Ended] = [*puts, *others]
        for record in sorted(every, key=attrgetter("order")):
            if isinstance(record, Ended):
                yield record
                continue
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
    return (put.order, put.run_id, found.epoch, plain, None if put.mark is None else tuple(put.mark))


def _put(plain: _Plain) -> Put:
    order, run_id, epoch, (thread_id, ns, checkpoint_id, parent, metadata, exact, head, refs), made = plain
    exact = None if exact is None else Inline(*exact)
    found = Found(thread_id, ns, checkpoint_id, parent, metadata, exact, Inline(*head), refs, (), epoch)
    return Put(order, found, run_id, New(), None if made is None else Mark(*made))


def _plain_wrote(wrote: Wrote) -> _Plain:
    event = None if wrote.event is None else _plain_event(wrote.event)
    return (wrote.order, wrote.ns, wrote.checkpoint_id, tuple(wrote.call), event)


def _wrote(plain: _Plain) -> Wrote:
    order, ns, checkpoint_id, call, event = plain
    return Wrote(order, ns, checkpoint_id, FoundWrites(*call), New(), None if event is None else _event(event))


def _plain_ended(ended: Ended) -> _Plain:
    return (ended.order, ended.ns, ended.checkpoint_id, _plain_event(ended.event))


def _ended(plain: _Plain) -> Ended:
    order, ns, checkpoint_id, event = plain
    return Ended(order, ns, checkpoint_id, _event(event))


def _plain_event(event: Event) -> _Plain:
    time, move, nodes, error, by = event
    return (time, move, nodes, None if error is None else tuple(error), by)


def _event(plain: _Plain) -> Event:
    time, move, nodes, error, by = plain
    return Event(time, move, nodes, None if error is None else Inline(*error), by)


def buried(
    contents: Contents, today: int, *, gone: Iterable[tuple[str, str]] = (), back: Iterable[tuple[str, str]] = ()
) -> Buried:
    """What is to be remembered as deleted of a thread, when these checkpoints go and those come back."""
    names = {name: day for name, day in contents.buried.items() if today - day <= KEPT_DAYS}
    names |= {buried_name(ns, checkpoint_id): today for ns, checkpoint_id in gone}
    for ns, checkpoint_id in back:
        names.pop(buried_name(ns, checkpoint_id), None)
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


def buried_name(ns: str, checkpoint_id: str) -> str:
    """A hash, from which nothing of what was deleted can be told."""
    return blake2b(ormsgpack.packb([ns, checkpoint_id]), digest_size=8).hexdigest()
