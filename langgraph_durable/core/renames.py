"""A checkpoint at which a node waits goes on under the name that the node has now.

LangGraph tells by names what is next: `branch:to:NODE` channels, `join:A+B:NODE` channels with the names of those that
came, packets to a node, and what each node has seen. The old checkpoint stays as it is; the one with the new names is
its child, and has all that was written by tasks that had finished, or that waited for an answer.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple, cast

from langgraph.checkpoint.base import WRITES_IDX_MAP, Checkpoint, CheckpointMetadata

from langgraph_durable.core.flows import put_at, write_at
from langgraph_durable.core.marks import due
from langgraph_durable.core.plan import Address
from langgraph_durable.core.reading import Reading
from langgraph_durable.core.records import Page, Query
from langgraph_durable.core.requests import Flow, Session
from langgraph_durable.core.superstep import TASKS
from langgraph_durable.errors import InvalidRequestError

BRANCH = "branch:to:"
JOIN = "join:"


class Call(NamedTuple):
    """What a task wrote, and the path that it had."""

    task_id: str
    path: str
    writes: tuple[tuple[str, Any], ...]


def under_new_names(
    checkpoint: Mapping[str, Any], renames: Mapping[str, str], joins: Collection[str]
) -> dict[str, Any] | None:
    """The checkpoint with the nodes' new names; None when nothing in it waits for, or at, a node that has one.

    `joins` are the names of such channels in the graph as it is now.
    """
    values = checkpoint["channel_values"]
    joined = [name for name in values if name.startswith(JOIN) and _arrived(values[name])]
    half = any(not renames.keys().isdisjoint(_parts(name)) for name in joined)
    if renames.keys().isdisjoint(due(checkpoint)) and not half:
        return None
    names = {name: _channel(name, renames, joins) for name in {*values, *checkpoint["channel_versions"]}}
    made = {names[name]: _value(name, value, renames) for name, value in values.items()}
    seen = {
        renames.get(node, node): {
            names.get(name, _channel(name, renames, joins)): version for name, version in of.items()
        }
        for node, of in checkpoint["versions_seen"].items()
    }
    changed: dict[str, Any] = {
        **checkpoint,
        "channel_values": made,
        "channel_versions": {names[name]: version for name, version in checkpoint["channel_versions"].items()},
        "versions_seen": seen,
    }
    if checkpoint.get("updated_channels") is not None:
        changed["updated_channels"] = [_channel(name, renames, joins) for name in checkpoint["updated_channels"]]
    return changed


def move(
    session: Session,
    thread_id: str,
    checkpoint_id: str | None,
    new_id: str,
    renames: Mapping[str, str],
    joins: Collection[str],
) -> Flow[list[Call] | None]:
    """Store a checkpoint under the nodes' new names as `new_id`; what tasks had written at the old one.

    None when nothing waits for a node with a new name: nothing was stored.
    """
    page: Page = yield Query(thread_id, "", checkpoint_id, limit=1)
    if not page.found:
        return None
    found = page.found[0]
    reading = Reading(session.codec, page)
    read = reading.checkpoint_tuple(found)
    changed = under_new_names(cast("dict[str, Any]", read.checkpoint), renames, joins)
    if changed is None:
        return None
    yield from _check_subgraphs(session, thread_id, found.id, renames)
    old = cast("dict[str, Any]", read.metadata)
    step = old.get("step")
    metadata = {**old, "source": "fork", "step": step + 1 if type(step) is int else step, "renamed": dict(renames)}
    at = Address(thread_id, "", found.id)
    checkpoint = cast(Checkpoint, {**changed, "id": new_id})
    record = reading.record(found)
    yield from put_at(session, at, at.config(found.id), checkpoint, cast(CheckpointMetadata, metadata), record=record)
    paths = {task_id: path for task_id, path, _ in reading.written(found)}
    calls: dict[tuple[str, bool], list[tuple[str, Any]]] = {}
    for task_id, channel, value in read.pending_writes or ():
        written = _channel(channel, renames, joins), _written(channel, value, renames)
        calls.setdefault((task_id, channel in WRITES_IDX_MAP), []).append(written)
    return [Call(task_id, paths[task_id], tuple(writes)) for (task_id, _), writes in calls.items()]


def write(session: Session, thread_id: str, checkpoint_id: str, calls: list[Call]) -> Flow[None]:
    """Store what tasks had written with another checkpoint."""
    for call in calls:
        yield from write_at(session, Address(thread_id, "", checkpoint_id), call.writes, call.task_id, call.path)


def _check_subgraphs(session: Session, thread_id: str, checkpoint_id: str, renames: Mapping[str, str]) -> Flow[None]:
    """InvalidRequestError where a node with a new name is a graph that has come some way."""

    def inside(metadata: str) -> bool:
        return checkpoint_id in metadata and json.loads(metadata).get("parents", {}).get("") == checkpoint_id

    query: Query | None = Query(thread_id, contents="none", where=inside)
    while query is not None:
        page: Page = yield query
        for one in page.found:
            name = one.ns.partition(":")[0]
            if one.ns and name in renames:
                raise InvalidRequestError(
                    f"node {name!r} of thread {thread_id!r} is a graph of its own that has not finished, and what it "
                    f"did is kept under its old name: give the node that name again for this thread, or go back before "
                    f"it with rewind or fork"
                )
        query = query._replace(after=page.cursor) if page.cursor is not None else None


def _parts(name: str) -> list[str]:
    starts, _, end = name[len(JOIN) :].rpartition(":")
    return [*starts.split("+"), end]


def _channel(name: str, renames: Mapping[str, str], joins: Collection[str]) -> str:
    if name.startswith(BRANCH):
        node = name[len(BRANCH) :]
        return BRANCH + renames.get(node, node)
    if not name.startswith(JOIN) or ":" not in name[len(JOIN) :]:
        return name
    *starts, end = [renames.get(node, node) for node in _parts(name)]
    for join in joins:
        *others, last = _parts(join)
        if last == end and sorted(others) == sorted(starts):
            return join
    return f"{JOIN}{'+'.join(starts)}:{end}"


def _value(name: str, value: Any, renames: Mapping[str, str]) -> Any:
    if name == TASKS and isinstance(value, (list, tuple)):
        return [_sent(packet, renames) for packet in value]
    if name.startswith(JOIN):
        if isinstance(value, (set, frozenset)):
            return {renames.get(one, one) for one in value}
        if isinstance(value, (list, tuple)):
            # The names of those that came, and whether the graph has finished, where the node is deferred.
            return type(value)(
                _value(name, one, renames) if isinstance(one, (set, frozenset)) else one for one in value
            )
    return value


def _written(name: str, value: Any, renames: Mapping[str, str]) -> Any:
    if name.startswith(JOIN) and isinstance(value, str):
        return renames.get(value, value)
    return _sent(value, renames) if name == TASKS else value


def _sent(packet: Any, renames: Mapping[str, str]) -> Any:
    if getattr(packet, "node", None) not in renames:
        return packet
    made = copy.copy(packet)
    made.node = renames[packet.node]
    return made


def _arrived(value: Any) -> bool:
    if isinstance(value, (list, tuple)) and value:
        return bool(value[0])
    return bool(value)
