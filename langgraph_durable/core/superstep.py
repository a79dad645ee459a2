"""Which tasks ran in the superstep that ends with a checkpoint: those whose writes have to be stored before it.

LangGraph hands `put_writes` and the next `put` to a pool of threads, where `put` can overtake. A process that dies
right then has a checkpoint whose predecessor lacks the writes of a finished node, and a later resume from there runs
the node again. A checkpoint tells which nodes ran (their `versions_seen` moved) and its predecessor how many `Send`
packets were waiting; a write tells by its `task_path` whose it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

PULL = "~__pregel_pull, "
PUSH = "~__pregel_push, "
TASKS = "__pregel_tasks"
BRANCH = "branch:to:"
JOIN = "join:"
START = "__start__"


class Ran(NamedTuple):
    """What ran in one superstep: the paths of the tasks that channels triggered, and the number of `Send` packets."""

    tasks: frozenset[str]
    sends: int


NOTHING = Ran(frozenset(), 0)


class Before(NamedTuple):
    """What a checkpoint says about the superstep that follows it; `sent` are the nodes of waiting `Send` packets."""

    checkpoint_id: str
    step: int | None
    seen: Mapping[str, Mapping[str, Any]]
    sent: tuple[str, ...]


def before(checkpoint: Mapping[str, Any], metadata: Mapping[str, Any]) -> Before:
    """`Before` of a checkpoint that was put or read."""
    waiting = checkpoint["channel_values"].get(TASKS)
    return Before(
        checkpoint["id"],
        metadata.get("step"),
        {name: dict(seen) for name, seen in (checkpoint.get("versions_seen") or {}).items()},
        tuple([getattr(packet, "node", "") for packet in waiting]) if isinstance(waiting, (list, tuple)) else (),
    )


def ran(parent: Before | None, checkpoint: Mapping[str, Any], metadata: Mapping[str, Any]) -> Ran:
    """What ran between `parent` and `checkpoint`; nothing where that cannot be told.

    It cannot when the parent is not the checkpoint of the step before (`durability="exit"` stores only the last one)
    or when no superstep made the checkpoint (an input, a fork, an `update_state`).
    """
    if parent is None or metadata.get("source") != "loop" or parent.step is None:
        return NOTHING
    if metadata.get("step") != parent.step + 1:
        return NOTHING
    tasks = frozenset(
        PULL + name
        for name, seen in checkpoint["versions_seen"].items()
        if seen and seen != parent.seen.get(name) and (name == START or not name.startswith("__"))
    )
    return Ran(tasks, len(parent.sent))


def is_send(task_path: str) -> bool:
    """Whether it is the path of a `Send` task, which carries no name."""
    return task_path.startswith(PUSH) and task_path[len(PUSH) : len(PUSH) + 1].isdigit()
