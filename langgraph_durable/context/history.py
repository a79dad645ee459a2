"""A conversation as it was said: what compressions took out of a state is still in its older checkpoints."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, cast

from langchain_core.messages import BaseMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import CheckpointTuple

from langgraph_durable.context.draft import EDITED, is_summary
from langgraph_durable.context.journal import saver_of
from langgraph_durable.context.marks import mark
from langgraph_durable.context.repair import converted
from langgraph_durable.context.updates import same
from langgraph_durable.errors import InvalidRequestError


def full_history(graph_or_saver: Any, config: RunnableConfig, *, messages_key: str = "messages") -> list[BaseMessage]:
    """All messages that were said up to a checkpoint, in their order, as they were before any compression.

    `config` names the thread, and perhaps the checkpoint; the newest counts otherwise. It follows the way that led
    there, across forks: what was said on other branches is not in it. A message that the app itself has edited is as it
    was last; one that it has removed is there. Checkpoints that were pruned cannot tell what they held: a summary of
    what only they had is there instead. So it is with what a run compressed away under `durability="exit"`, which
    stores only the end of it. A thread that is not there has said nothing.

    It takes the time of reading the states on the way. InvalidRequestError where there is no checkpointer, no thread is
    named, or the checkpoint is not there, where a saver cannot put a state together without its graph (DeltaChannel),
    and where messages without ids were left out or edited.
    """
    saver, given = saver_of(graph_or_saver), _checked(config)
    if _has_deltas(graph_or_saver, messages_key):
        states = (_of_snapshot(one, messages_key) for one in graph_or_saver.get_state_history(_all(given)))
    else:
        states = (_of_tuple(one, messages_key) for one in saver.list(_all(given)))
    return _said(_lineage(states, given))


async def afull_history(
    graph_or_saver: Any, config: RunnableConfig, *, messages_key: str = "messages"
) -> list[BaseMessage]:
    """`full_history` for a coroutine."""
    saver, given = saver_of(graph_or_saver), _checked(config)
    if _has_deltas(graph_or_saver, messages_key):
        states = [_of_snapshot(one, messages_key) async for one in graph_or_saver.aget_state_history(_all(given))]
    else:
        states = [_of_tuple(one, messages_key) async for one in saver.alist(_all(given))]
    return _said(_lineage(states, given))


class _State(NamedTuple):
    """The messages at a checkpoint; `parent` is the id of the one before."""

    id: str
    parent: str | None
    messages: Sequence[BaseMessage]


def _of_tuple(found: CheckpointTuple, key: str) -> _State:
    value = found.checkpoint["channel_values"].get(key)
    if not isinstance(value, list) and (value is not None or key in found.checkpoint["channel_versions"]):
        raise InvalidRequestError(
            f"{key!r} is no list in checkpoint {found.checkpoint['id']}: give the graph and not its saver where it is "
            "a DeltaChannel, which its graph puts together, or say which field has the messages by messages_key="
        )
    return _State(found.checkpoint["id"], _id(found.parent_config), converted(value or ()))


def _of_snapshot(found: Any, key: str) -> _State:
    values = found.values if isinstance(found.values, Mapping) else vars(found.values)
    return _State(_id(found.config) or "", _id(found.parent_config), converted(values.get(key) or ()))


def _id(config: RunnableConfig | None) -> str | None:
    found = ((config or {}).get("configurable") or {}).get("checkpoint_id")
    return None if found is None else str(found)


def _has_deltas(graph: Any, key: str) -> bool:
    """Whether the messages are in a channel that only the graph can put together."""
    return type((getattr(graph, "channels", None) or {}).get(key)).__name__ == "DeltaChannel"


def _checked(config: Any) -> dict[str, Any]:
    given = config.get("configurable") or {} if isinstance(config, Mapping) else {}
    thread_id = given.get("thread_id")
    if thread_id is None or thread_id == "":
        raise InvalidRequestError('the config names no thread: {"configurable": {"thread_id": ...}}')
    # As LangGraph does before it asks its checkpointer.
    return {**given, "thread_id": str(thread_id) if thread_id else thread_id}


def _all(given: Mapping[str, Any]) -> RunnableConfig:
    where = {"thread_id": given["thread_id"], "checkpoint_ns": given.get("checkpoint_ns", "")}
    return cast(RunnableConfig, {"configurable": where})


def _lineage(states: Iterable[_State], given: Mapping[str, Any]) -> Iterator[_State]:
    """The checkpoint that is meant and its ancestors, out of all of a thread; both newest first."""
    asked = given.get("checkpoint_id")
    wanted: str | None = asked
    begun = False
    for state in states:
        if state.id != wanted and (begun or asked):
            continue
        begun = True
        yield state
        if state.parent is None:
            return
        wanted = state.parent
    if asked and not begun:
        raise InvalidRequestError(f"thread {given['thread_id']!r} has no checkpoint {asked!r}")


def _said(lineage: Iterable[_State]) -> list[BaseMessage]:
    """Every message of the states, newest first, by id: its newest version that is no compression's."""
    best: dict[str, BaseMessage] = {}
    orders: list[list[str]] = []
    for state in lineage:
        names = []
        for place, message in enumerate(state.messages):
            name = message.id or f"message {place}"
            names.append(name)
            if name not in best or (_is_ours(best[name]) and not _is_ours(message)):
                best[name] = message
            elif not (message.id or _is_ours(message) or same(best[name], message)):
                raise InvalidRequestError(
                    f"the messages of checkpoint {state.id} have no ids, and later ones have others in their places: "
                    "what was said cannot be told from what came after. Give the field of the state the reducer "
                    "add_messages, which names messages"
                )
        if not orders or names != orders[-1]:
            orders.append(names)
    order: dict[str, None] = {}
    for names in reversed(orders):
        order = _merged(order, names)
    return [best[name] for name in order]


def _merged(order: dict[str, None], names: Sequence[str]) -> dict[str, None]:
    """The order with what is new in a later state, each behind what it stands behind there."""
    behind: dict[str | None, list[str]] = {}
    last: str | None = None
    for name in names:
        if name in order:
            last = name
        else:
            behind.setdefault(last, []).append(name)
    if behind.keys() <= {next(reversed(order), None)}:
        return {**order, **dict.fromkeys(name for new in behind.values() for name in new)} if behind else order
    merged = dict.fromkeys(behind.get(None, ()))
    for name in order:
        merged[name] = None
        merged.update(dict.fromkeys(behind.get(name, ())))
    return merged


def _is_ours(message: BaseMessage) -> bool:
    """Whether a compression made it what it is: ours, or LangChain's."""
    edit = message.response_metadata.get(EDITED)
    if edit is None:
        return is_summary(message)
    # What was edited again after that is the app's.
    return not isinstance(edit, Mapping) or "mark" not in edit or edit["mark"] == mark(message)
