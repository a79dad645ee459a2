"""What a thread was about to do, as far as that is not what it would do now."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from langgraph.checkpoint.base import CheckpointTuple

from langgraph_durable.core.conversation import tool_messages, unanswered
from langgraph_durable.environment.report import Change


def missing_nodes(pending: Sequence[str], nodes: Collection[str], renames: Mapping[str, str]) -> tuple[Change, ...]:
    """The nodes that are next, and are not in the graph under that name or the one that they have now.

    LangGraph would take such a thread for one that has nothing left to do.
    """
    gone = [one for one in dict.fromkeys(pending) if one not in nodes and renames.get(one) not in nodes]
    return tuple(Change("pending", "node", one, "removed", "", one, renames.get(one)) for one in gone)


def changed_calls(
    found: CheckpointTuple, old: Mapping[str, Any] | None, new: Mapping[str, Any] | None
) -> tuple[Change, ...]:
    """The calls without a result of tools that are not what they were when they were called, or approved.

    `old` and `new` are the tools of two records. A call of what was no tool is somebody else's affair.
    """
    if old is None or new is None:
        return ()
    done = {one.tool_call_id for one in tool_messages([value for _, _, value in found.pending_writes or ()])}
    changes: dict[str, Change] = {}
    for calls in unanswered(found.checkpoint["channel_values"]).values():
        for call in calls:
            name = call["name"]
            if call["id"] in done or name not in old:
                continue
            if name not in new:
                changes[name] = Change("pending", "call", name, "removed", "", old[name], None)
            elif new[name]["hash"] != old[name]["hash"]:
                changes[name] = Change("pending", "call", name, "changed", "", old[name], new[name])
    return tuple(changes.values())
