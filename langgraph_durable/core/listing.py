"""Checkpoints one after the other, a page at a time, decoded as they are asked for."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import CheckpointTuple

from langgraph_durable.core.collector import MANY, uncollected
from langgraph_durable.core.metadata import where
from langgraph_durable.core.plan import address
from langgraph_durable.core.reading import Reading
from langgraph_durable.core.records import Found, Page, Query
from langgraph_durable.core.requests import Flow, Session
from langgraph_durable.core.standings import currently
from langgraph_durable.errors import CorruptDataError, InvalidRequestError

AHEAD = 16
"""Checkpoints of a listing that are decoded at once, at most."""


class Listed(NamedTuple):
    """One page of a listing, decoded as it is walked through, and the query for the next (None at the end)."""

    reading: Reading
    found: tuple[Found, ...]
    following: Query | None

    def tuples(self, ahead: int = AHEAD) -> Iterator[CheckpointTuple]:
        """The checkpoints, up to `ahead` of them decoded at once."""
        # Who goes on asking gets more decoded at once: with a pause of the garbage collector after each of many long
        # states it would walk those before it again and again. Who wants one does not pay for others.
        start, size = 0, 1
        while start < len(self.found):
            made: deque[CheckpointTuple] = deque()
            with uncollected(MANY):
                for found in self.found[start : start + size]:
                    try:
                        made.append(self.reading.checkpoint_tuple(found))
                    except CorruptDataError:
                        if not made:
                            raise
                        break
            start, size = start + len(made), min(2 * size, ahead)
            while made:
                yield made.popleft()


def listing(
    config: RunnableConfig | None,
    filter: Mapping[str, Any] | None,
    before: RunnableConfig | None,
    limit: int | None,
) -> Query | None:
    """The query that a call of `list` means; None when it can find nothing."""
    if limit is not None and limit < 0:
        raise InvalidRequestError(f"limit must not be negative, and it is {limit}; None means no limit")
    if limit == 0:
        return None
    thread_id = ns = checkpoint_id = None
    if config is not None:
        at = address(config)
        thread_id, checkpoint_id = at.thread_id, at.checkpoint_id
        ns = (config.get("configurable") or {}).get("checkpoint_ns")
    cut = ((before or {}).get("configurable") or {}).get("checkpoint_id")
    tagged = "status" in (filter or {})
    return Query(thread_id, ns, checkpoint_id, before=cut or None, where=where(filter), limit=limit, tagged=tagged)


def list_page(session: Session, query: Query) -> Flow[Listed]:
    """The next checkpoints of a listing."""
    asked = query
    if query.tagged and query.where is not None:
        current = yield from currently(session, query.thread_id, query.ns)
        asked = query._replace(where=partial(query.where, current=current))
    page: Page = yield asked
    left = None if query.limit is None else query.limit - len(page.found)
    more = page.cursor is not None and left != 0
    following = query._replace(after=page.cursor, limit=left) if more else None
    return Listed(Reading(session.codec, page, several=True), page.found, following)
