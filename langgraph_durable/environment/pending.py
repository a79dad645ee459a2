"""What a thread was about to do, as far as that is not what it would do now."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from langgraph.checkpoint.base import CheckpointTuple

from langgraph_durable.core.conversation import called, tool_messages, unanswered
from langgraph_durable.environment.changes import Change


def missing_nodes(pending: Sequence[str], nodes: Collection[str], renames: Mapping[str, str]) -> tuple[Change, ...]:
    """The nodes that are next, and are not in the graph under that name or the one that they have now.

    LangGraph would take such a thread for one that has nothing left to do.
    """
    gone = [one for one in dict.fromkeys(pending) if one not in nodes and renames.get(one) not in nodes]
    return tuple(Change("pending", "node", one, "removed", "", one, renames.get(one)) for one in gone)


def missing_inside(ns: str, following: Sequence[str], nodes: Collection[str]) -> tuple[Change, ...]:
    """`missing_nodes` of a subgraph, by the namespace in which it runs; nothing where it is not known to be one."""
    path = "/".join(part.partition(":")[0] for part in ns.split("|"))
    if not any(node.startswith(f"{path}/") for node in nodes):
        return ()
    return missing_nodes([f"{path}/{node}" for node in following], nodes, {})


def open_calls(found: CheckpointTuple) -> list[str]:
    """The names of the tools that were called and have no result yet, neither in the state nor in a pending write."""
    written = [value for _, _, value in found.pending_writes or ()]
    done = {one.tool_call_id for one in tool_messages(written)}
    every = [call for calls in unanswered(found.checkpoint["channel_values"]).values() for call in calls]
    every += called(written)
    return list(dict.fromkeys(call["name"] for call in every if call["id"] not in done))


def changed_calls(
    names: Sequence[str], old: Mapping[str, Any] | None, new: Mapping[str, Any] | None
) -> tuple[Change, ...]:
    """Those of the tools called that are not what they were when they were called, or approved.

    `old` and `new` are the tools of two records that differ. Where the old ones are not known, any may be another one
    now; where they are, a call of what was no tool is somebody else's affair.
    """
    changes: list[Change] = []
    for name in names:
        before, now = (old or {}).get(name), (new or {}).get(name)
        if old is not None and before is None:
            continue
        if new is not None and now is None:
            changes.append(Change("pending", "call", name, "removed", "", before, None))
        elif before is None or now is None or before["hash"] != now["hash"]:
            changes.append(Change("pending", "call", name, "changed", "", before, now))
    return tuple(changes)
