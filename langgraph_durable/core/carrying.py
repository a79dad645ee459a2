"""A checkpoint on its way from one saver to another, with all that belongs to it and is not in LangGraph's tuple."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import WRITES_IDX_MAP, CheckpointTuple

from langgraph_durable.core.checking import check_store
from langgraph_durable.core.flows import put_at, write_at
from langgraph_durable.core.plan import Address, address
from langgraph_durable.core.reading import Reading
from langgraph_durable.core.records import Damage, Page, Query
from langgraph_durable.core.requests import Flow, LookForDamage, Session


class Header(NamedTuple):
    """A checkpoint that there is, the config that leads to it, and (task, channel) of each of its writes."""

    thread_id: str
    ns: str
    id: str
    config: RunnableConfig
    writes: tuple[tuple[str, str], ...]


class Carried(NamedTuple):
    """A checkpoint with its writes, on its way to another saver; `task_paths` by task, as far as they are known.

    `record` is what its run ran with, where that is stored.
    """

    found: CheckpointTuple
    task_paths: Mapping[str, str]
    record: str | None = None

    def calls(self) -> Iterator[tuple[str, list[tuple[str, Any]]]]:
        """(task, writes) as `put_writes` was called: special channels have a call of their own."""
        calls: dict[tuple[str, bool], list[tuple[str, Any]]] = {}
        for task_id, channel, value in self.found.pending_writes or ():
            calls.setdefault((task_id, channel in WRITES_IDX_MAP), []).append((channel, value))
        for (task_id, _), writes in calls.items():
            yield task_id, writes


def headers(session: Session, query: Query) -> Flow[tuple[list[Header], Query | None]]:
    """What there is of a query, newest first, and the query for what comes next; no state is read."""
    page: Page = yield query._replace(contents="writes")
    reading = Reading(session.codec, page)
    found = [
        Header(
            one.thread_id,
            one.ns,
            one.id,
            Address(one.thread_id, one.ns, None).config(one.id),
            tuple((task, channel) for task, _, channel in reading.written(one)),
        )
        for one in page.found
    ]
    return found, query._replace(after=page.cursor) if page.cursor is not None else None


def damage(session: Session, thread_ids: Sequence[str] | None) -> Flow[list[Damage]]:
    """What is wrong with the bytes of these threads, or of all and what is around them."""
    found: list[Damage] = []
    if thread_ids is None:
        around, thread_ids = yield from check_store(session)
        found += around
    for thread_id in thread_ids:
        found += yield LookForDamage(thread_id)
    return found


def moves(session: Session) -> Flow[bool]:
    """Whether what was carried `unread` from here, or from elsewhere to here, can be read there."""
    yield from ()
    return session.codec.moves


def carry(session: Session, header: Header, *, unread: bool) -> Flow[Carried | None]:
    """A checkpoint with all that it has; None when it is gone. Nothing of it is remembered.

    `unread` leaves what the serializer made as it is, for who stores it in the same way.
    """
    page: Page = yield Query(header.thread_id, header.ns, header.id, limit=1)
    if not page.found:
        return None
    reading = Reading(session.codec, page, value_codec=session.codec.moving(whole=not unread))
    paths: dict[str, str] = {}
    for task_id, path, _ in reading.written(page.found[0]):
        paths.setdefault(task_id, path)
    record = Reading(session.codec, page).record(page.found[0])
    return Carried(reading.checkpoint_tuple(page.found[0]), paths, record)


def restore(session: Session, carried: Carried, *, writes_only: bool = False) -> Flow[None]:
    """Store what was carried from elsewhere. No write of a superstep is waited for: they come with the checkpoint."""
    found = carried.found
    if not writes_only:
        config = parent(found)
        yield from put_at(
            session, address(config), config, found.checkpoint, found.metadata, copied=True, record=carried.record
        )
    at = address(found.config)
    for task_id, writes in carried.calls():
        yield from write_at(session, at, writes, task_id, carried.task_paths.get(task_id, ""))


def parent(found: CheckpointTuple) -> RunnableConfig:
    """The config under which a checkpoint was put."""
    if found.parent_config is not None:
        return found.parent_config
    at = address(found.config)
    return {"configurable": {"thread_id": at.thread_id, "checkpoint_ns": at.ns}}
