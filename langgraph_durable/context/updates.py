"""What a state has to be told so that its messages become those that are sent: by id, for any reducer that knows ids.

LangGraph's own reducers put a message that has the id of another in its place, take away what a `RemoveMessage` names,
and append the rest. So what has to stand elsewhere is taken away first and appended in a second update.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.messages import BaseMessage, RemoveMessage

from langgraph_durable.errors import InvalidRequestError


def changes_to(
    messages: Sequence[BaseMessage], sent: Sequence[BaseMessage], state: Sequence[BaseMessage]
) -> list[BaseMessage]:
    """What was edited and what is gone of the messages that are in a state; the others are somebody else's affair."""
    have, want = _by_id(messages), _by_id(sent)
    changed: list[BaseMessage] = []
    for message_id in _by_id(state):
        if message_id in have and message_id not in want:
            changed.append(RemoveMessage(id=message_id))
        elif message_id in have and not same(want[message_id], have[message_id]):
            changed.append(want[message_id])
    return changed


def update_to(messages: Sequence[BaseMessage], sent: Sequence[BaseMessage]) -> list[BaseMessage]:
    """One update: what was edited and what is gone, in their places, and what is new behind all others.

    InvalidRequestError when a message is gone or was edited that has no id.
    """
    have, there = _by_id(messages), set(map(id, sent))
    for place, message in enumerate(messages):
        if message.id is None and id(message) not in there:
            raise InvalidRequestError(
                f"message {place} ({message.type}) has no id, and what is to become of it can be told by its id only: "
                "give messages ids, as add_messages does"
            )
    known = set(map(id, messages))
    return changes_to(messages, sent, messages) + [
        one for one in sent if (id(one) not in known if one.id is None else one.id not in have)
    ]


def updates_to(messages: Sequence[BaseMessage], sent: Sequence[BaseMessage]) -> list[list[BaseMessage]]:
    """Updates to be applied one after the other, which lead to exactly what is sent; one is enough but for repairs."""
    only = update_to(messages, sent)
    have, wanted = list(_by_id(messages)), list(_by_id(sent))
    before, after = set(have), set(wanted)
    order = [one for one in have if one in after] + [one for one in wanted if one not in before]
    same = next((place for place, (one, other) in enumerate(zip(order, wanted, strict=True)) if one != other), None)
    if same is None:
        return [only] if only else []
    # From the first message that stands elsewhere on, all are taken away and come again.
    moved = set(wanted[same:])
    first = [one for one in only if one.id not in moved]
    first += [RemoveMessage(id=message_id) for message_id in have if message_id in moved]
    return [first, [message for message in sent if message.id in moved]]


def same(one: Any, other: Any) -> bool:
    """Whether two values are equal; what cannot say so, as arrays cannot, is not."""
    if one is other:
        return True
    try:
        return bool(one == other)
    except Exception:  # noqa: BLE001  any class of the app's may be in an artifact
        return False


def _by_id(messages: Sequence[BaseMessage]) -> dict[str, BaseMessage]:
    return {message.id: message for message in messages if message.id is not None}
