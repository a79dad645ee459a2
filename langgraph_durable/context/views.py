"""What was left out and edited, as plain data that a state can hold: the messages stay, and less of them is sent.

It is anchored by the ids of messages, never by their places, and it is bounded by what is sent: all from `first` to
`upto` is left out but what is in `kept`, and `edits` has the changed fields of messages that are sent, or what stands
in their place. The app may have changed its messages since: what it has put before the others is new, the request is
the one that is there now, and a summary stays without the message whose id it has.
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.messages import BaseMessage, SystemMessage, message_to_dict, messages_from_dict

from langgraph_durable.context.calls import called
from langgraph_durable.context.draft import is_request, is_summary
from langgraph_durable.context.marks import mark
from langgraph_durable.context.updates import same
from langgraph_durable.core.messages import altered

View = dict[str, Any]

FIRST = 8
"""How many of the first that are left out are known by their ids: some of them may be gone by then."""


def checked_view(kept: Any) -> View:
    """What was kept in a state; nothing where that is no view."""
    if not isinstance(kept, Mapping):
        return {}
    edits, lists = kept.get("edits") or {}, [kept.get(name) or () for name in ("first", "kept")]
    valid = isinstance(edits, Mapping) and all(isinstance(edit, Mapping) for edit in edits.values())
    return dict(kept) if valid and all(isinstance(one, (list, tuple)) for one in lists) else {}


def viewed(messages: Sequence[BaseMessage], view: Mapping[str, Any]) -> list[BaseMessage]:
    """The messages that are sent, with those that stand for others, and without the edits of fields.

    Where `upto` is not among them nothing is left out: they are of another history.
    """
    edits: Mapping[str | None, Any] = view.get("edits") or {}
    upto = view.get("upto")
    start = 0
    if upto is not None:
        start = next((place + 1 for place in range(len(messages) - 1, -1, -1) if messages[place].id == upto), 0)
        if not start and view.get("next") is not None:
            start = next((place for place, one in enumerate(messages) if one.id == view["next"]), 0)
    shown = [*_shown_before(messages, start, view), *messages[start:]]
    others = {message_id: edit["message"] for message_id, edit in edits.items() if "message" in edit}
    if not others:
        return shown
    there = set()
    for place, one in enumerate(shown):
        if one.id in others:
            there.add(one.id)
            other = messages_from_dict([others[one.id]])[0]
            # A summary stands for many, whatever has become of the one that has its id.
            if edits[one.id].get("mark") == mark(one) or (start and is_summary(other)):
                shown[place] = other
    summaries = [other for message_id, other in others.items() if start and message_id not in there]
    if summaries:
        place = next((place for place, one in enumerate(shown) if not isinstance(one, SystemMessage)), len(shown))
        shown[place:place] = filter(is_summary, messages_from_dict(summaries))
    return shown


def _shown_before(messages: Sequence[BaseMessage], start: int, view: Mapping[str, Any]) -> list[BaseMessage]:
    """What is shown of the messages before a place."""
    if not start:
        return []
    first, stay = frozenset(view.get("first") or ()), {*(view.get("kept") or ()), *(view.get("edits") or ())}
    begin = next((place for place in range(start) if messages[place].id in first), 0)
    begin = max(begin, next((place for place in range(start) if not isinstance(messages[place], SystemMessage)), start))
    request = next((place for place in range(len(messages) - 1, -1, -1) if is_request(messages[place])), None)
    # What has no id could not be said to be left out.
    return [
        one
        for place, one in enumerate(messages[:start])
        if one.id in stay or place < begin or place == request or one.id is None
    ]


def edited(messages: list[BaseMessage], view: Mapping[str, Any]) -> dict[int, BaseMessage]:
    """The messages whose fields were edited, by their places: those of the app, and those that a repair has put in."""
    edits: Mapping[str | None, Any] = view.get("edits") or {}
    if not edits:
        return {}
    return {place: _edited(one, edits[one.id]) for place, one in enumerate(messages) if one.id in edits}


def view_of(messages: Sequence[BaseMessage], sent: Sequence[BaseMessage], valid: Sequence[BaseMessage]) -> View:
    """What leads from the messages to those that are sent, as far as these are among them by their ids.

    `valid` are those that `viewed` gives when they are in order, which the edits are made to.
    """
    by_id = {message.id: message for message in sent if message.id is not None}
    gone = [place for place, message in enumerate(messages) if message.id is not None and message.id not in by_id]
    before = {message.id: message for message in messages}
    if len(valid) != len(messages) or not all(map(operator.is_, valid, messages)):
        for one in valid:
            was = before.get(one.id)
            if one is not was and (was is None or type(one) is type(was)) and not is_summary(one):
                before[one.id] = one
    edits: dict[str, dict[str, Any]] = {}
    for message_id, now in by_id.items():
        message = before.get(message_id)
        if message is None and is_summary(now):
            edits[message_id] = {"message": message_to_dict(now)}
        elif message is not None and message is not now:
            edit = _edit(message, now)
            if edit is not None:
                edits[message_id] = edit
    view: View = {}
    if gone:
        last = gone[-1]
        view["first"] = [messages[place].id for place in gone[:FIRST]]
        view["upto"] = messages[last].id
        following = next((one.id for one in messages[last + 1 :]), None)
        # A repair may have moved some: those stand before what follows in one order or the other.
        before_it = [one.id for one in itertools.takewhile(lambda one: one.id != following, sent)]
        there = [one.id for one in messages[:last] if one.id in by_id]
        view["next"] = following
        view["kept"] = [one for one in dict.fromkeys([*there, *before_it]) if one is not None and one not in edits]
    if edits:
        view["edits"] = edits
    return view


def _edit(message: BaseMessage, now: BaseMessage) -> dict[str, Any] | None:
    """The fields that differ, or the whole message where it is another: a summary, or one that makes or answers other
    calls. None where nothing differs.

    Of a list that is as long as it was, only what differs in it: an image beside a text that was cut is not repeated.
    """
    if type(message) is not type(now) or is_summary(now) is not is_summary(message) or called(message) != called(now):
        return {"message": message_to_dict(now), "mark": mark(message)}
    before = vars(message)
    fields: dict[str, Any] = {}
    parts: dict[str, Any] = {}
    for name, value in vars(now).items():
        was = before.get(name)
        if was is value or same(was, value):
            continue
        if isinstance(was, list) and isinstance(value, list) and len(was) == len(value):
            pairs = enumerate(zip(was, value, strict=True))
            parts[name] = {"of": len(value), "are": {str(place): new for place, (old, new) in pairs if old != new}}
        else:
            fields[name] = value
    edit = {"fields": fields, "parts": parts}
    told = {key: part for key, part in edit.items() if part}
    return {**told, "mark": mark(message)} if told else None


def _edited(message: BaseMessage, edit: Mapping[str, Any]) -> BaseMessage:
    """The message with its edit; one that the app has changed since is sent as it is, and edited if it has to be."""
    if "message" in edit or edit.get("mark") != mark(message):
        return message
    changes: dict[str, Any] = dict(edit.get("fields") or {})
    for name, part in (edit.get("parts") or {}).items():
        value = getattr(message, name, None)
        if not isinstance(value, list) or len(value) != part["of"]:
            return message
        changes[name] = [part["are"].get(str(place), old) for place, old in enumerate(value)]
    return altered(message, changes)
