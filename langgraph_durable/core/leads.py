"""Which nodes a checkpoint leads to, at once or when others have finished: LangGraph tells it by the names of channels.

`branch:to:NODE` triggers a node, `join:A+B:NODE` one that waits for others, `__pregel_tasks` has packets to nodes. All
of them may be among the values of a checkpoint, or among what a task has written that ran beside one that has not
finished.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from langgraph_durable.core.marks import due
from langgraph_durable.core.superstep import BRANCH, JOIN, START, TASKS


def leads_to(checkpoint: Mapping[str, Any], writes: Sequence[tuple[str, str, Any]]) -> tuple[str, ...]:
    """The nodes that are next, that a deferred node or a half-done join waits for, and that `writes` lead to."""
    found = dict.fromkeys(due(checkpoint))
    for name, value in checkpoint["channel_values"].items():
        if _arrived(name, value):
            found.update(dict.fromkeys(_nodes(name, value)))
    for _, channel, value in writes:
        found.update(dict.fromkeys(_nodes(channel, value)))
    found.pop(START, None)
    found.pop("__end__", None)
    return tuple(found)


def parts(join: str) -> list[str]:
    """The nodes in the name of a join: those that it waits for, and the one that it leads to."""
    starts, _, end = join[len(JOIN) :].rpartition(":")
    return [*starts.split("+"), end]


def _nodes(channel: str, value: Any) -> Iterator[str]:
    if channel.startswith(BRANCH):
        yield channel[len(BRANCH) :]
    elif channel.startswith(JOIN) and ":" in channel[len(JOIN) :]:
        yield from parts(channel)
    elif channel == TASKS:
        for packet in value if isinstance(value, (list, tuple)) else (value,):
            if hasattr(packet, "node"):
                yield packet.node


def _arrived(channel: str, value: Any) -> bool:
    """Whether a value of a checkpoint is there to trigger something one day; packets that wait are due."""
    if channel.startswith(BRANCH):
        # That of a node that is due at once goes when it has run; one that stays is of a deferred node.
        return isinstance(value, (list, tuple)) and len(value) == 2
    if not channel.startswith(JOIN):
        return False
    if isinstance(value, (list, tuple)) and len(value) == 2 and isinstance(value[1], bool):
        value = value[0]
    return bool(value)
