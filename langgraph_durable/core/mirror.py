"""A list of messages is compared and copied without packing it: in half a microsecond, and one, a message.

A mirror keeps the fields of each message twice. One dict has all of them and is what a message is compared with: a
field that still holds the same object is found unchanged at once. Equal values can differ, as 1 and True do, or two
dicts in the order of their keys: a field with anything but text and None in it, or with a dict of several keys, is
*odd*, and has to have the same bytes as well. The other dict lacks the containers, and is what a copy begins as: those
are made anew for every copy, from their bytes when there is anything in them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import ormsgpack
from langchain_core.messages import BaseMessage

from langgraph_durable.core.codec import Codec, pack, packed
from langgraph_durable.core.collector import uncollected
from langgraph_durable.core.messages import CLASSES, are_current, extra_of, messages_of

_DICTS = ("additional_kwargs", "response_metadata")
_LISTS = ("tool_calls", "invalid_tool_calls")
"""The fields that hold an empty container in most messages."""

_CALLERS = frozenset(code for code, kind in CLASSES.items() if "tool_calls" in kind.model_fields)
_TEXT = frozenset({str, type(None)})
_CONTAINERS = frozenset({dict, list})


class Mirror(NamedTuple):
    """Messages by their place: `whole` fields, `bare` ones without containers, packed containers of those at `filled`.

    The field `odd_names[i]` of the message at `odd[i]` has the bytes `odd_values[i]`.
    """

    kinds: list[type[BaseMessage]]
    codes: list[int]
    whole: list[dict[str, Any]]
    bare: list[dict[str, Any]]
    callers: list[int]
    filled: list[int]
    containers: list[bytes]
    odd: list[int]
    odd_names: list[str]
    odd_values: list[bytes]


NOTHING = Mirror([], [], [], [], [], [], [], [], [], [])


def mirrored(codec: Codec, streams: Sequence[bytes], known: Mirror = NOTHING) -> Mirror | None:
    """The mirror of the list with these streams; None unless each is the stream of a message.

    `known` mirrors a list that begins it: only what follows is looked at. It is the streams that are mirrored, and not
    the messages that they were made of: somebody may be changing those at this moment.
    """
    new = streams[len(known.kinds) :]
    if not all(stream[0] in CLASSES for stream in new):
        return None
    with uncollected(len(new)):
        codes, fields = codec.payloads(b"".join(new), len(new))
        return extended(known, codes, fields) if are_current(codes, fields) else None


def extended(known: Mirror, codes: Sequence[int], fields: Sequence[dict[str, Any]]) -> Mirror:
    """`known` with more messages at its end, by their codes and fields, unpacked for this alone."""
    mirror = cut(known, len(known.kinds))
    place = len(known.kinds)
    for code, given in zip(codes, fields, strict=True):
        bare = dict(given)
        filled = {}
        for name, value in given.items():
            kind = type(value)
            if kind in _CONTAINERS:
                bare[name] = None
                if value or not (name in _DICTS or name in _LISTS):
                    filled[name] = value
            if kind not in _TEXT and not _is_text(value):
                mirror.odd.append(place)
                mirror.odd_names.append(name)
                mirror.odd_values.append(pack(value))
        if filled:
            mirror.filled.append(place)
            mirror.containers.append(pack(filled))
        mirror.kinds.append(CLASSES[code])
        mirror.codes.append(code)
        mirror.whole.append(given)
        mirror.bare.append(bare)
        if code in _CALLERS:
            mirror.callers.append(place)
        place += 1
    return mirror


def same(mirror: Mirror, messages: Sequence[Any]) -> bool:
    """Whether `messages` begins with exactly what is mirrored."""
    count = len(mirror.kinds)
    if len(messages) != count:
        messages = messages[:count]
    if list(map(type, messages)) != mirror.kinds or any(map(extra_of, messages)):
        return False
    fields = [message.__dict__ for message in messages]
    try:
        if fields != mirror.whole:
            return False
        odd = [fields[place][name] for place, name in zip(mirror.odd, mirror.odd_names, strict=True)]
        return packed(odd) == b"".join(mirror.odd_values)
    except Exception:  # noqa: BLE001  what cannot be packed or compared is not what was stored
        return False


def cut(mirror: Mirror, count: int) -> Mirror:
    """The mirror of the first `count` messages, with lists of its own."""
    odd, filled = bisect_left(mirror.odd, count), bisect_left(mirror.filled, count)
    return Mirror(
        mirror.kinds[:count],
        mirror.codes[:count],
        mirror.whole[:count],
        mirror.bare[:count],
        mirror.callers[: bisect_left(mirror.callers, count)],
        mirror.filled[:filled],
        mirror.containers[:filled],
        mirror.odd[:odd],
        mirror.odd_names[:odd],
        mirror.odd_values[:odd],
    )


def copies(mirror: Mirror, places: Sequence[int] | None = None) -> list[BaseMessage]:
    """New messages, equal to those mirrored: to all of them, or to those at `places`, in that order."""
    with uncollected(len(mirror.kinds) if places is None else len(places)):
        filled: Iterable[tuple[int, bytes]] = zip(mirror.filled, mirror.containers, strict=True)
        if places is None:
            codes, callers = mirror.codes, mirror.callers
            fields = list(map(dict.copy, mirror.bare))
        else:
            codes = list(map(mirror.codes.__getitem__, places))
            callers = [index for index, code in enumerate(codes) if code in _CALLERS]
            fields = list(map(dict.copy, map(mirror.bare.__getitem__, places)))
            containers = dict(filled)
            filled = [(index, containers[place]) for index, place in enumerate(places) if place in containers]
        for own in fields:
            own["additional_kwargs"] = {}
            own["response_metadata"] = {}
        for index in callers:
            own = fields[index]
            own["tool_calls"] = []
            own["invalid_tool_calls"] = []
        for index, data in filled:
            fields[index].update(ormsgpack.unpackb(data))
        return messages_of(codes, fields)


def _is_text(value: Any) -> bool:
    """Whether there is nothing but text and None in it, and no order of keys."""
    kind = type(value)
    if kind is dict:
        return len(value) < 2 and all(map(_is_text, value.values()))
    return all(map(_is_text, value)) if kind is list else kind in _TEXT
