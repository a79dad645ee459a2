"""A list is what it was before, minus what went, plus what came; finding that out never trusts identity alone.

`Held` is what a process remembers of a list that it stored or read: the stream of each chunk, and the store's ref.
`changed` compares a new value with it, every element at every call, so that one that was edited in place cannot
hide, and answers the pieces to store. `assembled` is the way back.

A chunk is one element, or a run of small ones: a message is a chunk of its own, a thousand integers are one.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any, NamedTuple

from langgraph_durable.core.codec import Codec
from langgraph_durable.core.messages import CODES
from langgraph_durable.core.mirror import NOTHING, Mirror, copies, cut, mirrored, same
from langgraph_durable.core.records import Ref, Span

SMALL = 64
"""Bytes of a stream below which neighbouring new elements share a chunk."""

RUN = 4096
"""Bytes at which such a chunk ends: small enough to be read for one element's sake."""


class Held(NamedTuple):
    """A stored list: the stream of each chunk, and how many elements there are up to the end of each.

    `mirror` is there when every element is a message that can be mirrored. `size` is in bytes, of the streams.
    """

    streams: list[bytes]
    counts: list[int]
    ref: Ref | None = None
    mirror: Mirror | None = None
    size: int = 0

    @property
    def length(self) -> int:
        """The number of elements."""
        return self.counts[-1] if self.counts else 0


EMPTY = Held([], [])


class Change(NamedTuple):
    """How to store a list: runs of `base` and new chunks (stream, element count) in order, and the next `Held`.

    `pieces` is None when the list is what it was.
    """

    base: Ref | None
    pieces: list[Span | tuple[bytes, int]] | None
    held: Held


def changed(codec: Codec, value: list[Any], held: Held | None, channel: str) -> Change:
    """What of `value` is new against `held`. Cost: looking at all of it once, and work only for what differs."""
    old = held or EMPTY
    if old.mirror is not None and len(value) >= old.length and same(old.mirror, value):
        kept = tail = len(old.counts)
        fresh = codec.streams(value[old.length :], channel, old.length)
    else:
        kept, tail, fresh = _difference(codec, value, old, channel)
    unchanged = held is not None and kept == tail == len(old.counts) and not fresh
    if unchanged and (old.mirror is not None or not value):
        return Change(None, None, old)
    change = Change(None, None, old) if unchanged else _change(old, kept, tail, fresh)
    held = change.held
    if codec.native and 0 < len(value) == len(held.streams) and type(value[0]) in CODES:
        known = old.mirror if old.mirror is not None and kept else NOTHING
        if kept < len(old.counts) and known is not NOTHING:
            known = cut(known, old.counts[kept - 1])
        mirror = mirrored(codec, held.streams, known)
        return Change(change.base, change.pieces, Held(held.streams, held.counts, held.ref, mirror, held.size))
    return change


def assembled(codec: Codec, held: Held) -> list[Any]:
    """The list that `held` remembers, every element new. ValueError when it cannot be decoded."""
    if held.mirror is not None:
        return list(copies(held.mirror))
    return codec.values(b"".join(held.streams), held.length)


def remembered(streams: list[bytes], counts: Sequence[int], ref: Ref) -> Held:
    """A list that was read, to be compared with and assembled again: its chunks, and their element counts."""
    return Held(streams, list(accumulate(counts)), ref, size=sum(map(len, streams)))


def bunched(each: Sequence[bytes]) -> list[tuple[bytes, int]]:
    """Streams of single elements as chunks of (stream, element count): small neighbours together."""
    made: list[tuple[bytes, int]] = []
    run: list[bytes] = []
    size = 0
    for stream in each:
        if run and (len(stream) >= SMALL or size >= RUN):
            made.append((b"".join(run), len(run)))
            run, size = [], 0
        if len(stream) >= SMALL:
            made.append((stream, 1))
        else:
            run.append(stream)
            size += len(stream)
    if run:
        made.append((b"".join(run), len(run)))
    return made


def _difference(codec: Codec, value: list[Any], old: Held, channel: str) -> tuple[int, int, list[bytes]]:
    """How many leading chunks stay, where those that stay at the end begin, and the streams of what is between."""
    whole = codec.fast_stream(value)
    kept = _kept(old, whole) if whole is not None else 0
    start = old.counts[kept - 1] if kept else 0
    each = codec.streams(value[start:], channel, start)
    place = 0
    while kept < len(old.counts):
        count = old.counts[kept] - (old.counts[kept - 1] if kept else 0)
        if b"".join(each[place : place + count]) != old.streams[kept] or place + count > len(each):
            break
        kept += 1
        place += count
    tail, left = len(old.counts), len(each)
    while tail > kept:
        count = old.counts[tail - 1] - (old.counts[tail - 2] if tail > 1 else 0)
        if count > left - place or b"".join(each[left - count : left]) != old.streams[tail - 1]:
            break
        tail -= 1
        left -= count
    return kept, tail, each[place:left]


def _kept(old: Held, whole: bytes) -> int:
    """How many leading chunks the new stream begins with: bytes that are equal from the start decode equally."""
    before = b"".join(old.streams)
    if whole.startswith(before):
        return len(old.streams)
    ends = list(accumulate(map(len, old.streams)))
    low, high = 0, len(ends)
    while low < high:
        middle = (low + high + 1) // 2
        if whole.startswith(before[: ends[middle - 1]]):
            low = middle
        else:
            high = middle - 1
    return low


def _change(old: Held, kept: int, tail: int, fresh: Sequence[bytes]) -> Change:
    pieces: list[Span | tuple[bytes, int]] = []
    counts, streams = old.counts[:kept], old.streams[:kept]
    count = counts[-1] if kept else 0
    if kept:
        pieces.append(Span(0, count))
    size = old.size if kept == len(old.streams) else sum(map(len, streams))
    for stream, more in bunched(fresh):
        size += len(stream)
        pieces.append((stream, more))
        count += more
        counts.append(count)
        streams.append(stream)
    if tail < len(old.counts):
        gone = old.counts[tail - 1] if tail else 0
        pieces.append(Span(gone, old.length))
        counts.extend([number - gone + count for number in old.counts[tail:]])
        streams += old.streams[tail:]
        size += sum(map(len, old.streams[tail:]))
    return Change(old.ref if kept or tail < len(old.counts) else None, pieces, Held(streams, counts, size=size))
