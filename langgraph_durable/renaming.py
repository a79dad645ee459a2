"""A thread that waits at a node goes on at the node of another name, with all that was done, asked and answered."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from typing import Any, cast

from langgraph.checkpoint.base import CheckpointMetadata
from langgraph.checkpoint.base.id import uuid6
from langgraph.types import Interrupt

from langgraph_durable import asking
from langgraph_durable.core import renames as moving
from langgraph_durable.core.superstep import PULL, PUSH, is_send

INTERRUPT_IDS = "interrupt_ids"
"""The key of metadata with the new ids of interrupts by their old ones."""

_ASKED = "__interrupt__"
_DROPPED = frozenset({"__error__", "__scheduled__"})


def renaming(
    thread_id: str,
    checkpoint_id: str | None,
    renames: Mapping[str, str],
    joins: Collection[str],
    *,
    answered: bool,
) -> asking.Asking[tuple[str, dict[str, str]] | None]:
    """The id of a checkpoint with the new names, and interrupts' new ids by their old ones; None if nothing waits.

    Nothing is moved for an answer (`answered`) where nobody has asked: it will be refused.
    """
    new_id = str(uuid6())
    found: moving.Moving | None = yield asking.Do(moving.moving, (thread_id, checkpoint_id, new_id, renames, joins))
    if found is None:
        return None
    if answered and not any(channel == _ASKED for call in found.calls for channel, _ in call.writes):
        return None
    known = yield asking.Foresee(found.checkpoint, found.metadata)
    tasks = {_place(task.path, task.name): task for task in known}
    ids: dict[str, str] = {}
    made: list[moving.Call] = []
    for call in found.calls:
        if not call.path:
            made.append(call)  # an answer that is for whoever asks
            continue
        place = _place_of(call.path, renames)
        task = None if place is None else tasks.get(place)
        writes = tuple(one for one in call.writes if one[0] not in _DROPPED)
        if task is None or not writes:
            continue
        path = PULL + task.name if call.path.startswith(PULL) else call.path
        writes = tuple((channel, _asked(value, task, ids) if channel == _ASKED else value) for channel, value in writes)
        made.append(moving.Call(task.id, path, writes))
    # Who was shown a question answers it by the id that it had then, in this run or in a later one.
    before = cast("dict[str, Any]", found.metadata).get(INTERRUPT_IDS) or {}
    metadata = {**found.metadata, INTERRUPT_IDS: {**{old: ids.get(new, new) for old, new in before.items()}, **ids}}
    yield asking.Do(moving.move, (thread_id, found._replace(calls=made, metadata=cast(CheckpointMetadata, metadata))))
    return new_id, ids


def _place(path: tuple[Any, ...], name: str) -> tuple[str, Any]:
    """What tells a task from the others of its superstep: its node, or the number of its packet."""
    return ("push", path[1]) if path[0] == "__pregel_push" else ("pull", name)


def _place_of(path: str, renames: Mapping[str, str]) -> tuple[str, Any] | None:
    if path.startswith(PULL):
        node = path[len(PULL) :]
        return "pull", renames.get(node, node)
    return ("push", int(path[len(PUSH) :].partition(",")[0])) if is_send(path) else None


def _asked(value: Any, task: Any, ids: dict[str, str]) -> Any:
    """The same questions, as the task asks them under its new name."""
    made = []
    for one in value if isinstance(value, (list, tuple)) else (value,):
        if isinstance(one, Interrupt):
            new = copy.copy(one)
            new.id = Interrupt.from_ns(None, f"{task.name}:{task.id}").id
            ids[one.id] = new.id
            made.append(new)
        else:
            made.append(one)
    return tuple(made)
