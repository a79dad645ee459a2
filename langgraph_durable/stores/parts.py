"""The parts of a batch become rows, and refs to them.

A version of a list is runs of lists that only grow at their end. Two writers that go on from the same version do not
meet: the second finds the end taken and puts what it adds into a list of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Generic, Protocol, TypeVar

from langgraph_durable.core.records import Batch, Fresh, Inline, Known, Many, One, Part, Ref, Span

Where = TypeVar("Where", contravariant=True)

MOST_RUNS = 64
"""Runs that a version of a list may consist of before its elements are listed anew: reading stays one short walk."""


class Rows(Protocol[Where]):
    """Where the rows of a batch go. The answers are keys; `place` is whatever the engine knows of the thread."""

    def chunk(self, place: Where, digest: bytes, kind: str, data: bytes) -> int:
        """A chunk, or the one that its thread has by that name."""

    def new_list(self, place: Where) -> int:
        """A list without elements."""

    def end(self, place: Where, list_key: int) -> int:
        """How many elements a list has."""

    def elements(self, place: Where, rows: Sequence[tuple[int, int, int, int]]) -> None:
        """Elements at the end of one list: (list, position, count, chunk)."""

    def relisted(self, place: Where, runs: Sequence[tuple[int, int, int]]) -> int:
        """A new list of the elements of some runs."""


class Parts(Generic[Where]):
    """The parts of one batch, on their way to being refs."""

    def __init__(self, rows: Rows[Where], place: Where, batch: Batch) -> None:
        self._rows = rows
        self._place = place
        self._keys: dict[bytes, int] = {}
        for digest, kind, data in batch.chunks:
            if digest not in self._keys:
                self._keys[digest] = rows.chunk(place, digest, kind, data)

    @property
    def chunks(self) -> dict[bytes, Ref]:
        """The refs of the batch's chunks, by their digests."""
        return self._keys

    def ref(self, part: Part, versioned: bool) -> Ref:
        """The ref of a part; the lists of a checkpoint (`versioned`) are runs that the next one can go on with."""
        if isinstance(part, Known):
            return part.ref
        if isinstance(part, Inline):
            return (part.kind, part.data)
        if isinstance(part, One):
            return self._key(part)
        if versioned:
            return self._version(part)
        return tuple(
            number for piece in part.pieces if isinstance(piece, Fresh) for number in (self._key(piece), piece.elements)
        )

    def _version(self, part: Many) -> Ref:
        runs: list[tuple[int, int, int]] = []
        for kind, pieces in groupby(part.pieces, type):
            if kind is Span:
                for piece in pieces:
                    assert isinstance(piece, Span)
                    for run in _cut(part.base, piece):
                        _join(runs, run)
            else:
                self._grow(runs, [piece for piece in pieces if isinstance(piece, Fresh)])
        if len(runs) > MOST_RUNS:
            runs = [(self._rows.relisted(self._place, runs), 0, sum(stop - start for _, start, stop in runs))]
        return tuple(runs)

    def _grow(self, runs: list[tuple[int, int, int]], pieces: Sequence[Fresh]) -> None:
        """Put new elements at the end of the last run's list, if the run ends there, else into a list of their own."""
        key, end = (runs[-1][0], runs[-1][2]) if runs else (0, 0)
        if not runs or self._rows.end(self._place, key) != end:
            key, end = self._rows.new_list(self._place), 0
        rows = []
        start = end
        for piece in pieces:
            rows.append((key, end, piece.elements, self._key(piece)))
            end += piece.elements
        self._rows.elements(self._place, rows)
        _join(runs, (key, start, end))

    def _key(self, piece: Fresh | One) -> int:
        if piece.ref is not None:
            return int(piece.ref)
        key = self._keys.get(piece.digest)
        assert key is not None, "a chunk without a ref has to come with the batch"
        return key


def _cut(base: Ref, span: Span) -> Iterable[tuple[int, int, int]]:
    """The runs that elements `span` of the version `base` consist of."""
    passed = 0
    for key, start, stop in base:
        low, high = max(span.start - passed, 0), min(span.stop - passed, stop - start)
        if low < high:
            yield (key, start + low, start + high)
        passed += stop - start


def _join(runs: list[tuple[int, int, int]], run: tuple[int, int, int]) -> None:
    if runs and runs[-1][0] == run[0] and runs[-1][2] == run[1]:
        runs[-1] = (run[0], runs[-1][1], run[2])
    else:
        runs.append(run)
