"""What LangGraph's calls tell of how a thread stands: which nodes are next, that one failed or asks somebody."""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from langchain_core.messages import BaseMessage

from langgraph_durable.core.codec import Codec
from langgraph_durable.core.records import FoundWrites, Inline, Mark
from langgraph_durable.core.superstep import BRANCH, JOIN, PULL, PUSH, START, TASKS, Before, is_send

MESSAGE = 2000
TRACEBACK = 16_000
"""Characters that are kept of an exception's message and of its traceback, which is cut in its middle."""

_ERROR, _INTERRUPT, _RESUME, _HANDLED = "__error__", "__interrupt__", "__resume__", "__error_source_node__"
_CONTROL = frozenset((_ERROR, _INTERRUPT, _RESUME, _HANDLED))


def due(checkpoint: Mapping[str, Any]) -> tuple[str, ...]:
    """The nodes that are next after a checkpoint, as far as it tells: those whose triggers are newer than they saw.

    Of nodes that never ran only the triggers of a `StateGraph` are known, by their names.
    """
    values = checkpoint.get("channel_values") or {}
    versions, seen = checkpoint.get("channel_versions") or {}, checkpoint.get("versions_seen") or {}
    nodes: dict[str, None] = {}
    for channel, value in values.items():
        if channel.startswith(BRANCH):
            node = channel[len(BRANCH) :]
        elif channel.startswith(JOIN) and ":" in channel[len(JOIN) :]:
            node = channel.rsplit(":", 1)[1]
        elif channel == START:
            # Of a graph made of functions it triggers its only node, whose name is known once it has run.
            node = next((name for name in seen if START in seen[name] and not name.startswith("__")), START)
        else:
            if channel == TASKS:
                nodes.update((packet.node, None) for packet in value or () if hasattr(packet, "node"))
            continue
        if _newer(versions.get(channel), seen.get(node, {}).get(channel)) and _available(channel, value):
            nodes[node] = None
    for node, triggers in seen.items():
        if node not in nodes and not (node.startswith("__") and node != START):
            for channel, version in triggers.items():
                if (
                    channel in values
                    and _newer(versions.get(channel), version)
                    and _available(channel, values[channel])
                ):
                    nodes[node] = None
    return tuple(nodes)


def mark(
    checkpoint: Mapping[str, Any],
    metadata: Mapping[str, Any],
    *,
    time: float,
    by: str,
    copied: bool,
    leased: bool = False,
) -> Mark:
    """How its thread stands with a checkpoint; `leased` is whether it was put by a run that holds the thread."""
    following = due(checkpoint)
    source = metadata.get("source")
    if not following:
        # A run that holds its thread, and who updates a state, skips nothing; see `MOVES` on routers.
        move = "completed" if leased or source != "loop" else "finished"
    elif copied:
        move = "copied"
    else:
        move = "updated" if source == "update" else "ran"
    step = metadata.get("step")
    return Mark(time, move, following, step if type(step) is int else None, _messages(checkpoint), by)


class Failure(NamedTuple):
    """An exception, told in text: its type, its message and its traceback, each of them shortened."""

    type: str
    message: str
    traceback: str


def sealed_failure(codec: Codec, error: object) -> Inline:
    """What there is to tell of an exception, as the serializer keeps it: a message may hold anything."""
    return codec.seal(codec.stream(dict(failure(error)._asdict()), "(an error)"))


def opened_failure(codec: Codec, sealed: Inline) -> Failure:
    """What was sealed."""
    found = codec.values(codec.open(sealed), 1)[0]
    return Failure(str(found["type"]), str(found["message"]), str(found["traceback"]))


def failure(error: object) -> Failure:
    """What there is to tell of an exception; an official saver kept no more of it than its `repr`."""
    if not isinstance(error, BaseException):
        text = _text(error)
        return Failure(text.partition("(")[0], text[:MESSAGE], "")
    told = _text("".join(traceback.format_exception(error)))
    if len(told) > TRACEBACK:
        told = f"{told[: TRACEBACK // 4]}\n[...]\n{told[-3 * TRACEBACK // 4 :]}"
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return Failure(name, _text(error)[:MESSAGE], told)


class Happened(NamedTuple):
    """What the writes of a task say: a move, the node, and the exception if there was one."""

    move: str
    node: str
    error: object = None


def happened(writes: Iterable[tuple[str, Any]], task_path: str, before: Before | None) -> Happened | None:
    """What the writes of one task say of how its thread stands; None for nothing new. `before` is their checkpoint."""
    found = dict(writes)
    if _CONTROL.isdisjoint(found):
        return None
    node = node_of(task_path, before)
    if _ERROR in found:
        if _HANDLED in found:
            return None  # the node has an error handler, which is next
        error = found[_ERROR]
        if task_path.startswith(PUSH) and not is_send(task_path):
            return None  # a task of a function, which may catch it: what gets out is told by the function itself
        # An official saver keeps the `repr` of an exception.
        if type(error).__name__ == "CancelledError" or (isinstance(error, str) and error.startswith("CancelledError(")):
            return Happened("cancelled", node)
        return Happened("raised" if _CONTROL.issuperset(found) else "router", node, error)
    if _INTERRUPT in found:
        return Happened("asked", node)
    return Happened("answered", node) if _CONTROL.issuperset(found) else None


def without_failed_output(call: FoundWrites) -> FoundWrites:
    """The writes of a task, without what it had put out before it failed."""
    channels = {channel for _, channel, _ in call.entries}
    if _ERROR not in channels or _HANDLED in channels:
        return call
    return call._replace(entries=tuple(entry for entry in call.entries if entry[1] in _CONTROL))


def node_of(task_path: str, before: Before | None) -> str:
    """The node of a task, "" where that is not known: the path of a `Send` has a number instead."""
    if task_path.startswith(PULL):
        return task_path[len(PULL) :].partition(", ")[0]
    if is_send(task_path) and before is not None:
        place = int(task_path[len(PUSH) :].partition(",")[0])
        return before.sent[place] if place < len(before.sent) else ""
    return ""


def _newer(version: Any, than: Any) -> bool:
    if version is None:
        return False
    return than is None or bool(version > than)


def _available(channel: str, value: Any) -> bool:
    """Whether a trigger that has a value can trigger: one that waits for several nodes does when all have been."""
    # One that was read comes as a list.
    if isinstance(value, (tuple, list)) and len(value) == 2 and type(value[1]) is bool:
        value, finished = value
        if not finished:
            return False
    if channel.startswith(JOIN) and isinstance(value, (set, frozenset, list)):
        names = channel[len(JOIN) :].rpartition(":")[0]
        return sum(map(len, map(str, value))) + max(len(value) - 1, 0) == len(names)
    return True


def _text(error: object) -> str:
    try:
        return str(error).encode(errors="replace").decode()
    except Exception:  # noqa: BLE001  an exception whose `__str__` raises must not hide that it was raised
        return type(error).__name__


def _messages(checkpoint: Mapping[str, Any]) -> int:
    count = 0
    for value in (checkpoint.get("channel_values") or {}).values():
        if type(value) is list and value and isinstance(value[-1], BaseMessage):
            count += len(value)
    return count
