"""A query becomes a page; what it finds of a thread is of one moment, and is not changed by what comes later."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from langgraph_durable.core.records import Chunk, Found, Page, Query, Tag
from langgraph_durable.errors import StoreError
from langgraph_durable.stores.files.contents import Contents
from langgraph_durable.stores.files.thread import ThreadFolder
from langgraph_durable.stores.files.threads import Threads
from langgraph_durable.stores.refs import cut, named

PAGE = 64
"""Checkpoints read at once."""

LONG_PAGE = 1024
"""The same where no states come with them: finding where to go on means looking at every thread."""

ATTEMPTS = 8
"""How often something is read anew when it is deleted meanwhile."""


def read(threads: Threads, query: Query) -> Page:
    """One page. StoreError when the thread is rewritten again and again while it is read."""
    for _ in range(ATTEMPTS):
        try:
            return _lineage(threads, query) if query.lineage else _page(_matching(threads, query), query)
        except _GoneError:
            continue
    raise StoreError(f"what {query.thread_id!r} has was rewritten {ATTEMPTS} times while it was read; read it again")


class _Hit(NamedTuple):
    """A checkpoint that was found, with its writes as they were then, and where its contents are."""

    order: int
    folder: ThreadFolder
    contents: Contents
    found: Found
    tag: str = ""


class _GoneError(Exception):
    """What is being read was deleted meanwhile."""


def _matching(threads: Threads, query: Query) -> list[_Hit]:
    """What the query finds, newest first; that of each thread as of one moment."""
    anywhere = query.where is None and query.before is None and query.after is None
    one = query.limit == 1 and query.ns is not None and anywhere
    hits: list[_Hit] = []
    for folder in threads.all() if query.thread_id is None else [threads.folder(query.thread_id)]:
        with folder.reading() as contents:
            if one and query.thread_id is not None:
                hits = _newest(folder, contents, query)
            else:
                for put in contents.newest_first():
                    tag = contents.tag(put) if query.tagged else ""
                    hits.append(_Hit(put.order, folder, contents, contents.found(put), tag))
        folder.report()
    if one and query.thread_id is not None:
        return hits
    hits.sort(key=_place, reverse=True)
    if query.ns is not None:
        hits = [hit for hit in hits if hit.found.ns == query.ns]
    if query.before is not None:
        places = [_place(hit) for hit in hits if hit.found.id == query.before]
        # A checkpoint that is not here (any more) has no place in the order; its id has one, by its maker's clock.
        hits = [hit for hit in hits if (_place(hit) < max(places) if places else hit.found.id < query.before)]
    if query.checkpoint_id is not None:
        hits = [hit for hit in hits if hit.found.id == query.checkpoint_id]
    if query.after is not None:
        # Last: what is named by `before` may be on a page that was read already.
        hits = [hit for hit in hits if _place(hit) < query.after]
    return hits


def _newest(folder: ThreadFolder, contents: Contents, query: Query) -> list[_Hit]:
    """The checkpoint named, or the newest; of a thread that was damaged the newest that is whole."""
    assert query.ns is not None
    if query.checkpoint_id is not None:
        put = contents.put(query.ns, query.checkpoint_id)
        return [_Hit(put.order, folder, contents, contents.found(put))] if put is not None else []
    first = None
    for put in contents.newest_first():
        if put.found.ns == query.ns:
            hit = _Hit(put.order, folder, contents, contents.found(put))
            if not folder.damage or contents.whole(put.found):
                return [hit]
            first = first or hit
    return [first] if first is not None else []


def _page(hits: Sequence[_Hit], query: Query) -> Page:
    page = PAGE if query.contents == "all" else LONG_PAGE
    size = page if query.limit is None else min(query.limit, page)
    chosen: list[_Hit] = []
    for hit in hits:
        if query.where is None or _wanted(query.where, hit, tagged=query.tagged):
            chosen.append(hit)
            if len(chosen) == size:
                break
    return _filled(chosen, query, _place(chosen[-1]) if len(chosen) == size else None)


def _wanted(where: Callable[..., bool], hit: _Hit, *, tagged: bool) -> bool:
    found = hit.found
    if not tagged:
        return where(found.metadata)
    return where(found.metadata, Tag(found.thread_id, found.ns, found.id, hit.tag))


def _lineage(threads: Threads, query: Query) -> Page:
    """A checkpoint and its ancestors, nearest first."""
    assert query.thread_id is not None
    assert query.ns is not None
    folder = threads.folder(query.thread_id)
    hits: list[_Hit] = []
    following = query.checkpoint_id
    with folder.reading() as contents:
        while following is not None and len(hits) < PAGE:
            put = contents.put(query.ns, following)
            if put is None:
                break
            hits.append(_Hit(put.order, folder, contents, contents.found(put)))
            following = put.found.parent
    folder.report()
    return _filled(hits, query, following if len(hits) >= PAGE else None)


def _filled(hits: Sequence[_Hit], query: Query, cursor: object) -> Page:
    """The page with the contents of what its checkpoints name."""
    found = [hit.found for hit in hits]
    contents, lists, single = named(found, query)
    by_base = {hit.contents.base: hit for hit in hits}
    for ref in lists:
        of = by_base[ref[0][0] >> 32 << 32].contents
        contents[ref] = cut({key: of.rows(key) for key, _, _ in ref}, ref)
        single.update(contents[ref].keys)  # type: ignore[union-attr]  # what `cut` gives are elements
    chunks: dict[int, Chunk] = {}
    for key in single:
        hit = by_base.get(key >> 32 << 32)
        if hit is None:
            continue
        chunk = hit.folder.load(hit.contents, key & 0xFFFFFFFF)
        if chunk is not None:
            chunks[key] = chunk
        elif hit.folder.refresh().head != hit.contents.head:
            raise _GoneError  # its file went with the journal that named it
    return Page(tuple(found), contents, chunks, cursor)


def _place(hit: _Hit) -> tuple[int, str, str]:
    """Where it is in a listing. Orders of different threads can be the same."""
    return hit.order, hit.found.thread_id, hit.found.ns
