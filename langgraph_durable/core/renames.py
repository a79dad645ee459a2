"""A checkpoint at which a node waits goes on under the name that the node has now.

The old checkpoint stays as it is. The one with the new names stands beside it, behind the same parent, and has all that
was written by tasks that had finished, or that waited for an answer. What is kept under the ids of tasks, and would be
lost with them, is not moved: that is refused.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple, cast

from langgraph.checkpoint.base import WRITES_IDX_MAP, Checkpoint, CheckpointMetadata

from langgraph_durable.core.flows import put_at, write_at
from langgraph_durable.core.leads import leads_to, parts
from langgraph_durable.core.marks import due, without_failed_output
from langgraph_durable.core.plan import Address
from langgraph_durable.core.reading import Reading
from langgraph_durable.core.recordings import inside
from langgraph_durable.core.records import Page, Query
from langgraph_durable.core.requests import Flow, Session
from langgraph_durable.core.superstep import BRANCH, JOIN, PULL, START, TASKS, is_send
from langgraph_durable.errors import InvalidRequestError

_SOURCE = "__error_source_node__"


class Call(NamedTuple):
    """What a task wrote, and the path that it had."""

    task_id: str
    path: str
    writes: tuple[tuple[str, Any], ...]


def under_new_names(
    checkpoint: Mapping[str, Any], renames: Mapping[str, str], joins: Collection[str]
) -> dict[str, Any]:
    """The checkpoint with the nodes' new names; `joins` are the names of such channels in the graph as it is now."""
    values = checkpoint["channel_values"]
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


class Moving(NamedTuple):
    """A checkpoint under the nodes' new names, to be put behind `parent`, and what tasks had written at the old one."""

    parent: str | None
    checkpoint: Checkpoint
    metadata: CheckpointMetadata
    record: str | None
    calls: list[Call]


def moving(
    session: Session,
    thread_id: str,
    checkpoint_id: str | None,
    new_id: str,
    renames: Mapping[str, str],
    joins: Collection[str],
) -> Flow[Moving | None]:
    """What a checkpoint is under the nodes' new names, as `new_id`; None when nothing waits for a node that has one.

    InvalidRequestError for what cannot be moved. Nothing is stored.
    """
    page: Page = yield Query(thread_id, "", checkpoint_id, limit=1)
    if not page.found:
        return None
    # What a task had put out before its router raised is not its output: it runs again.
    found = page.found[0]
    found = found._replace(writes=tuple(map(without_failed_output, found.writes)))
    reading = Reading(session.codec, page)
    read = reading.checkpoint_tuple(found)
    tasks = reading.written(found)
    waiting = {*leads_to(cast("dict[str, Any]", read.checkpoint), read.pending_writes or ())}
    waiting.update(path[len(PULL) :] for _, path, _ in tasks if path.startswith(PULL))
    moved = sorted(waiting & renames.keys())
    if not moved:
        return None
    if len({renames[name] for name in moved}) < len(moved):
        raise InvalidRequestError(
            f"nodes {', '.join(map(repr, moved))} of thread {thread_id!r} all wait, and renames has one name for some "
            "of them, of which only one would run: give them their old names again for this thread"
        )
    if START in due(read.checkpoint) and any(path == PULL + name for _, path, _ in tasks for name in moved):
        raise _under_way(moved[0], thread_id)  # a graph of functions, which has no channels that name its nodes
    yield from _check_parts(session, thread_id, found.id, tasks, moved[0])
    changed = under_new_names(cast("dict[str, Any]", read.checkpoint), renames, joins)
    old = cast("dict[str, Any]", read.metadata)
    metadata = {**old, "source": "fork", "renamed": dict(renames)}
    paths = {task_id: path for task_id, path, _ in tasks}
    calls: dict[tuple[str, bool], list[tuple[str, Any]]] = {}
    for task_id, channel, value in read.pending_writes or ():
        written = _channel(channel, renames, joins), _written(channel, value, renames)
        calls.setdefault((task_id, channel in WRITES_IDX_MAP), []).append(written)
    return Moving(
        found.parent,
        cast(Checkpoint, {**changed, "id": new_id}),
        cast(CheckpointMetadata, metadata),
        reading.record(found),
        [Call(task_id, paths[task_id], tuple(writes)) for (task_id, _), writes in calls.items()],
    )


def move(session: Session, thread_id: str, moving: Moving) -> Flow[None]:
    """Store it: the writes before their checkpoint, so that it is never there without them."""
    for call in moving.calls:
        here = Address(thread_id, "", moving.checkpoint["id"])
        yield from write_at(session, here, call.writes, call.task_id, call.path)
    at = Address(thread_id, "", moving.parent)
    config = at.newest() if moving.parent is None else at.config(moving.parent)
    yield from put_at(session, at, config, moving.checkpoint, moving.metadata, record=moving.record)
    if session.fence is not None:
        # It was told again, and happened in another run.
        session.fence.said.pop(("", moving.checkpoint["id"]), None)


def _check_parts(
    session: Session, thread_id: str, checkpoint_id: str, tasks: Sequence[tuple[str, str, str]], name: str
) -> Flow[None]:
    """InvalidRequestError where a task that has not finished has stored more than its own writes.

    Each task of the superstep gets another id with the move, whatever its node is called.
    """
    finished = {task_id for task_id, _, channel in tasks if channel not in WRITES_IDX_MAP}
    for ns in (yield from inside(session, thread_id, checkpoint_id)):
        node, _, task_id = ns.partition("|")[0].partition(":")
        if task_id not in finished:
            raise _under_way(node, thread_id)
    if any(path and not path.startswith(PULL) and not is_send(path) for _, path, _ in tasks):
        raise _under_way(name, thread_id)
    if any(channel == _SOURCE for _, _, channel in tasks):
        raise _under_way(name, thread_id)


def _under_way(name: str, thread_id: str) -> InvalidRequestError:
    return InvalidRequestError(
        f"node {name!r} of thread {thread_id!r} is, or runs beside, a graph or a function of its own, or a handler of "
        "errors, that has not finished, and what that did is kept under ids that a new name would change: give nodes "
        "their old names again for this thread, or go back before it with rewind or fork"
    )


def _channel(name: str, renames: Mapping[str, str], joins: Collection[str]) -> str:
    if name.startswith(BRANCH):
        node = name[len(BRANCH) :]
        return BRANCH + renames.get(node, node)
    if not name.startswith(JOIN) or ":" not in name[len(JOIN) :]:
        return name
    *starts, end = [renames.get(node, node) for node in parts(name)]
    for join in joins:
        *others, last = parts(join)
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
