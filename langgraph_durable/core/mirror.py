"""A list of messages is compared and copied without packing it: in a third of a microsecond, and one, a message.

A mirror keeps the fields of each message in a dict of its own, without the containers among them: those are made anew
for every copy, from their bytes when there is anything in them. A message that is made of text and None alone, with no
dict in it whose keys could change their order, is *even*: it is compared with a second copy of its fields, where a
field that still holds the same object is found unchanged at once. Any other is *odd*, and is compared through its
bytes, where 1 and True differ.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import ormsgpack
from langchain_core.messages import BaseMessage

from langgraph_durable.core.codec import Codec, pack, packed, uncollected
from langgraph_durable.core.messages import CLASSES, are_current, extra_of, messages_of

_DICTS = ("additional_kwargs", "response_metadata")
_LISTS = ("tool_calls", "invalid_tool_calls")
"""The fields that hold an empty container in most messages."""

_CALLERS = frozenset(code for code, kind in CLASSES.items() if "tool_calls" in kind.model_fields)
_TEXT = frozenset({str, type(None)})
_CONTAINERS = frozenset({dict, list})


class Mirror(NamedTuple):
    """Messages by their place: `fields` without containers of all, and the packed containers of those at `filled`.

    `even_fields` are the whole fields of those at `even`, `odd_streams` the streams of those at `odd`.
    """

    kinds: list[type[BaseMessage]]
    codes: list[int]
    fields: list[dict[str, Any]]
    callers: list[int]
    filled: list[int]
    containers: list[bytes]
    even: list[int]
    even_fields: list[dict[str, Any]]
    odd: list[int]
    odd_streams: list[bytes]


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
        return extended(known, codes, fields, new) if are_current(codes, fields) else None


def extended(known: Mirror, codes: Sequence[int], fields: Sequence[dict[str, Any]], streams: Sequence[bytes]) -> Mirror:
    """`known` with more messages at its end, by their codes, streams, and fields, unpacked for this alone."""
    mirror = cut(known, len(known.kinds))
    place = len(known.kinds)
    for code, given, stream in zip(codes, fields, streams, strict=True):
        kept = dict(given)
        parts = {name: value for name, value in given.items() if type(value) in _CONTAINERS}
        kept.update(dict.fromkeys(parts))
        filled = {name: value for name, value in parts.items() if value or not (name in _DICTS or name in _LISTS)}
        if filled:
            mirror.filled.append(place)
            mirror.containers.append(pack(filled))
        # Compared by value from now on: nothing may be in it that is equal to something of another type or order.
        if all(map(_is_text, given.values())):
            mirror.even.append(place)
            mirror.even_fields.append(given)
        else:
            mirror.odd.append(place)
            mirror.odd_streams.append(stream)
        mirror.kinds.append(CLASSES[code])
        mirror.codes.append(code)
        mirror.fields.append(kept)
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
        if not mirror.odd:
            return fields == mirror.even_fields
        if list(map(fields.__getitem__, mirror.even)) != mirror.even_fields:
            return False
        flat: list[Any] = [None] * (2 * len(mirror.odd))
        flat[0::2] = map(mirror.codes.__getitem__, mirror.odd)
        flat[1::2] = map(fields.__getitem__, mirror.odd)
        # The same values in another order of keys have other bytes: a difference found for nothing.
        return packed(flat) == b"".join(mirror.odd_streams)
    except Exception:  # noqa: BLE001  what cannot be packed or compared is not what was stored
        return False


def cut(mirror: Mirror, count: int) -> Mirror:
    """The mirror of the first `count` messages, with lists of its own."""
    even, odd = bisect_left(mirror.even, count), bisect_left(mirror.odd, count)
    filled = bisect_left(mirror.filled, count)
    return Mirror(
        mirror.kinds[:count],
        mirror.codes[:count],
        mirror.fields[:count],
        mirror.callers[: bisect_left(mirror.callers, count)],
        mirror.filled[:filled],
        mirror.containers[:filled],
        mirror.even[:even],
        mirror.even_fields[:even],
        mirror.odd[:odd],
        mirror.odd_streams[:odd],
    )


def copies(mirror: Mirror, places: Sequence[int] | None = None) -> list[BaseMessage]:
    """New messages, equal to those mirrored: to all of them, or to those at `places`, in that order."""
    with uncollected(len(mirror.kinds) if places is None else len(places)):
        filled: Iterable[tuple[int, bytes]] = zip(mirror.filled, mirror.containers, strict=True)
        if places is None:
            codes, callers = mirror.codes, mirror.callers
            fields = list(map(dict.copy, mirror.fields))
        else:
            codes = list(map(mirror.codes.__getitem__, places))
            callers = [index for index, code in enumerate(codes) if code in _CALLERS]
            fields = list(map(dict.copy, map(mirror.fields.__getitem__, places)))
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
