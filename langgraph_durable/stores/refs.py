"""A ref, as every store of this package makes it, and what has to be read for the content that it stands for.

17                            a chunk, by its key
("z", b"...")                 an inline value
((list, start, stop), ...)    elements `start` to `stop` of lists, one run after the other
(17, 1, 18, 1, ...)           chunks by their keys, each with the number of its elements
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from langgraph_durable.core.records import Elements, Found, Inline, Query, Ref

DAMAGED: Any = "damaged"
"""A ref where there are bytes that do not decode; it stands for no content."""

_INTS = frozenset({int})


class Names(NamedTuple):
    """What refs stand for, the refs of lists that are to be read, and the keys of single chunks."""

    contents: dict[Ref, Inline | int | Elements]
    lists: list[Ref]
    single: set[int]


def named(found: Sequence[Found], query: Query) -> Names:
    """What has to be read for some checkpoints, and what needs no reading."""
    contents: dict[Ref, Inline | int | Elements] = {}
    lists: list[Ref] = []
    single: set[int] = set()
    for ref in _wanted(found, query):
        if not _is_ref(ref) or ref in contents:
            continue
        if isinstance(ref, int):
            contents[ref] = ref
            single.add(ref)
        elif not ref:
            contents[ref] = Elements((), ())
        elif isinstance(ref[0], str):
            contents[ref] = Inline(*ref)
        elif isinstance(ref[0], int):
            contents[ref] = Elements(ref[0::2], ref[1::2])
            single.update(ref[0::2])
        else:
            contents[ref] = Elements((), ())  # filled in later: the lists of a page are read together
            lists.append(ref)
    return Names(contents, lists, single)


def _is_ref(ref: Ref) -> bool:
    """Whether it is one: what damaged bytes decode to stands for no content."""
    kind = type(ref)
    if kind is not tuple:
        return kind is int
    first = type(ref[0]) if ref else None
    if first is tuple:
        return all(type(run) is tuple and len(run) == 3 and _INTS.issuperset(map(type, run)) for run in ref)
    if first is str:
        return len(ref) == 2 and type(ref[1]) is bytes
    return first is None or (len(ref) % 2 == 0 and _INTS.issuperset(map(type, ref)))


def _wanted(found: Sequence[Found], query: Query) -> Iterable[Ref]:
    """The refs whose contents the caller asks for."""
    if query.contents == "none":
        return
    for one in found:
        if query.contents == "all":
            for ref in one.refs:
                if query.has is None or not query.has(one.thread_id, one.ns, one.epoch, ref):
                    yield ref
        for call in one.writes:
            for _, _, ref in call.entries:
                yield ref


class ListRows(NamedTuple):
    """The elements that were read of one list: position, chunk key and count of each row."""

    positions: Sequence[int]
    keys: Sequence[int]
    counts: Sequence[int]


def cut(rows: dict[int, ListRows], ref: Ref) -> Elements:
    """The elements that the runs of `ref` consist of."""
    keys: list[int] = []
    counts: list[int] = []
    for key, start, stop in ref:
        of = rows[key]
        low, high = bisect_left(of.positions, start), bisect_left(of.positions, stop)
        keys += of.keys[low:high]
        counts += of.counts[low:high]
        if sum(of.counts[low:high]) != stop - start:
            # A list whose rows are gone must not come back short: the key of no chunk stands for what is missing.
            keys.append(0)
            counts.append(1)
    return Elements(tuple(keys), tuple(counts))
