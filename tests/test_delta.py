"""Whatever became of a list, the pieces that are stored of it give it back, and little is stored twice."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.types import Send
from pydantic import BaseModel

from langgraph_durable import UnserializableError
from langgraph_durable.core.codec import Codec
from langgraph_durable.core.delta import RUN, SMALL, Change, Held, assembled, bunched, changed, remembered
from langgraph_durable.core.records import Span
from tests.test_codec import (
    CODEC,
    KEY,
    REFUSED,
    Model,
    Point,
    common_messages,
    edited_messages,
    form,
    odd,
    places,
    plain,
    rare_messages,
    round_trip,
    values,
)

pytestmark = pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")

edits = settings(
    deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


LONG = 100
"""Messages in a list that is long enough to be remembered in every way there is."""


class Stored(NamedTuple):
    """A version of a list as a store would have it: its chunks, as (stream, number of elements)."""

    chunks: list[tuple[bytes, int]]

    @property
    def borders(self) -> list[int]:
        """The numbers of elements at which a chunk begins or ends."""
        found = [0]
        for _, count in self.chunks:
            found.append(found[-1] + count)
        return found

    def values(self, codec: Codec) -> list[Any]:
        """The list, from its chunks."""
        return [value for stream, count in self.chunks for value in codec.values(stream, count)]


NOTHING = Stored([])


def apply(change: Change, base: Stored, ref: object) -> Stored:
    """What is stored after `change`, which may only name chunks of `base` as a whole; `ref` is the name of `base`."""
    if change.pieces is None:
        return base
    assert change.base == (ref if any(isinstance(piece, Span) for piece in change.pieces) else None)
    chunks: list[tuple[bytes, int]] = []
    for piece in change.pieces:
        if not isinstance(piece, Span):
            chunks.append(piece)
            continue
        assert piece.start < piece.stop
        assert {piece.start, piece.stop} <= set(base.borders), "a span that cuts a chunk"
        chunks += base.chunks[base.borders.index(piece.start) : base.borders.index(piece.stop)]
    return Stored(chunks)


def sent(change: Change) -> int:
    """The number of elements that are stored anew."""
    return sum(piece[1] for piece in change.pieces or () if not isinstance(piece, Span))


def step(
    value: list[Any],
    held: Held | None,
    base: Stored,
    ref: object,
    codec: Codec = CODEC,
    expected: list[Any] | None = None,
) -> tuple[Change, Stored]:
    """Change a stored list into `value`, and see that this (or `expected`) is what is stored and remembered then."""
    expected = expected or [round_trip(element) for element in value]
    change = changed(codec, value, held, "messages")
    stored = apply(change, base, ref)
    assert [form(element) for element in stored.values(codec)] == expected
    for _ in range(2):
        # What is handed out is the reader's own: changing it changes nothing for the next one.
        read = assembled(codec, change.held)
        assert [form(element) for element in read] == expected
        spoil(read)
    return change, stored


def spoil(value: Any) -> None:
    """Change everything in `value` that can be changed in place, the innermost first."""
    if isinstance(value, (tuple, deque)):
        for part in value:
            spoil(part)
    if isinstance(value, Send):
        spoil(value.arg)
    if isinstance(value, (set, bytearray, deque)):
        value.clear()
    fields = value.__dict__ if isinstance(value, (BaseModel, Point)) else value
    if isinstance(fields, (dict, list)):
        for key, part in list(fields.items() if isinstance(fields, dict) else enumerate(fields)):
            spoil(part)
            fields[key] = "spoilt"


def recalled(codec: Codec, stored: Stored, ref: object) -> Held:
    """What another process knows of a stored list once it has read it."""
    streams, counts = [stream for stream, _ in stored.chunks], [count for _, count in stored.chunks]
    return remembered(streams, counts, ref)


def name(held: Held, number: int) -> Held:
    """`held` under the ref that a store would have given it."""
    return held._replace(ref=(number, "ref"))


# -- messages with something inside ----------------------------------------------------------------------------------


def human(text: str, **fields: Any) -> HumanMessage:
    return HumanMessage(text, **fields)


def ai(text: str, **fields: Any) -> AIMessage:
    return AIMessage(text, **fields)


def tool(text: str, **fields: Any) -> ToolMessage:
    return ToolMessage(text, tool_call_id=text, **fields)


def calling(text: str) -> AIMessage:
    return AIMessage(
        text, tool_calls=[{"name": "look", "args": {"deep": [{"q": text}]}, "id": text, "type": "tool_call"}]
    )


def with_usage(text: str) -> AIMessage:
    details: Any = {"cache_read": 1}
    usage: Any = {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3, "input_token_details": details}
    return AIMessage(text, usage_metadata=usage)


def with_blocks(text: str) -> HumanMessage:
    return HumanMessage([{"type": "text", "text": text}, {"type": "image", "source": {"data": text}}])


def with_failed_call(text: str) -> AIMessage:
    return AIMessage(
        text,
        invalid_tool_calls=[{"name": "look", "args": "{", "id": text, "error": "cut", "type": "invalid_tool_call"}],
    )


def with_rows(text: str) -> ToolMessage:
    return ToolMessage(text, tool_call_id=text, artifact={"rows": [[1]]})


# -- any edits -------------------------------------------------------------------------------------------------------

tiny = st.integers(0, 3) | st.none() | st.booleans() | st.sampled_from(["", "a"])
elements = st.one_of(
    common_messages,
    common_messages,
    rare_messages,
    edited_messages(),
    plain,
    tiny,
    tiny,
    values,
).filter(lambda value: round_trip(value) != REFUSED)
sizes = st.sampled_from([3, 33, LONG])
lists_of_one_kind = st.one_of(
    st.lists(common_messages, max_size=6),
    st.lists(tiny, max_size=40),
    st.lists(elements, max_size=6),
    # As long as a conversation gets, where lists are remembered in blocks.
    sizes.map(lambda size: [HumanMessage(f"message {index}", id=str(index)) for index in range(size)]),
    sizes.map(lambda size: [with_blocks(f"message {index}") for index in range(size)]),
    sizes.map(lambda size: [(with_usage, with_rows)[index % 2](str(index)) for index in range(size)]),
)
more = st.lists(elements, max_size=3) | st.lists(common_messages, max_size=3) | st.lists(tiny, max_size=10)


def deeply(value: list[Any]) -> list[Any]:
    """A copy, of the elements as well where that can be: nobody can copy a view of memory that an edit has put in."""
    try:
        return copy.deepcopy(value)
    except TypeError:
        return list(value)


def edited(data: st.DataObject, value: list[Any]) -> list[Any]:
    """`value` after one edit: in place, as a new list with the same elements, or with copies of them."""
    how = data.draw(st.sampled_from([*["mutate"] * 6, *["append"] * 3, "insert", "delete", "replace", "move", "same"]))
    if how != "mutate":
        copied: Callable[[list[Any]], list[Any]] = data.draw(st.sampled_from([list, deeply, lambda same: same]))
        value = copied(value)
    start = data.draw(st.integers(0, len(value)))
    stop = data.draw(st.integers(start, min(len(value), start + 3)))
    if how == "append":
        value += data.draw(more)
    elif how == "insert":
        value[start:start] = data.draw(more)
    elif how == "delete":
        del value[start:stop]
    elif how == "replace":
        value[start:stop] = data.draw(more)
    elif how == "move":
        part = value[start:stop]
        del value[start:stop]
        place = data.draw(st.integers(0, len(value)))
        value[place:place] = part
    elif how == "mutate":
        for element in data.draw(st.lists(st.sampled_from(value), min_size=1, max_size=2)) if value else ():
            inside = places(getattr(element, "__dict__", element))
            if inside:
                container, key = data.draw(st.sampled_from(inside))
                container[key] = data.draw(plain | odd)
    return value


@edits
@given(st.data())
def test_a_list_is_rebuilt_after_any_edits(data: st.DataObject) -> None:
    """Whatever is done to a list, in place or not, what is stored of it gives it back, from any remembered version."""
    value = data.draw(lists_of_one_kind)
    change, stored = step(value, None, NOTHING, None)
    versions: list[tuple[Held, Stored]] = [(name(change.held, 0), stored)]
    for number in range(1, data.draw(st.integers(2, 7))):
        value = edited(data, value)
        refused = [index for index, element in enumerate(value) if round_trip(element) == REFUSED]
        memory = data.draw(st.sampled_from(["warm", "warm", "warm", "cold", "none", "older"]))
        held, base = versions[-1] if memory != "older" else data.draw(st.sampled_from(versions))
        if memory == "cold":
            held = recalled(CODEC, base, held.ref)
        start: Held | None = held if memory != "none" else None
        if refused:
            with pytest.raises(UnserializableError) as caught:
                changed(CODEC, value, start, "messages")
            assert caught.value.path.startswith(f"[{refused[0]}]")
            value = [element for index, element in enumerate(value) if index not in refused]
        change, stored = step(value, start, base if start else NOTHING, start.ref if start else None)
        if change.pieces is None:
            assert stored.chunks == base.chunks
            versions.append((change.held, stored))
        else:
            versions.append((name(change.held, number), stored))


def own_serde() -> list[SerializerProtocol]:
    """Serializers under which nothing takes the short way, and one under which everything is encrypted."""

    class Own(JsonPlusSerializer):
        pass

    return [Own(), EncryptedSerializer.from_pycryptodome_aes(key=KEY)]


@settings(edits, max_examples=25)
@given(st.data())
def test_a_list_is_rebuilt_with_a_serializer_of_the_users(data: st.DataObject) -> None:
    """The same holds under a serializer of the user's, through which every element passes."""
    for serde in own_serde():
        codec = Codec(serde, native=False)
        value = data.draw(lists_of_one_kind)
        change, stored = step(value, None, NOTHING, None, codec)
        for number in range(3):
            value = [element for element in edited(data, value) if round_trip(element) != REFUSED]
            held = name(change.held, number)
            if data.draw(st.booleans()):
                held = recalled(codec, stored, held.ref)
            change, stored = step(value, held, stored, held.ref, codec)


# -- edits in place --------------------------------------------------------------------------------------------------


def at(*path: Any) -> Callable[[Any], None]:
    """An edit: from a message follow `path` but for its last two, and set the part named by the first to the last."""

    def edit(element: Any) -> None:
        attribute, *way, key, new = ("__dict__", *path) if len(path) == 2 else path
        part = getattr(element, attribute)
        for where in way:
            part = part[where]
        part[key] = new

    return edit


A_CALL = {"name": "look", "args": {}, "id": "more", "type": "tool_call"}

IN_PLACE: dict[str, tuple[Callable[[str], Any], Callable[[Any], None]]] = {
    "content": (human, at("content", "another")),
    "content of a tool": (tool, at("content", "another")),
    "name": (human, at("name", "somebody")),
    "id": (lambda text: human(text, id=text), at("id", None)),
    "content becomes blocks": (human, at("content", [{"type": "text", "text": "x"}])),
    "text of a block": (with_blocks, at("content", 0, "text", "another")),
    "deep in a block": (with_blocks, at("content", 1, "source", "data", "another")),
    "one more block": (with_blocks, lambda message: message.content.append({"type": "text", "text": "more"})),
    "blocks go": (with_blocks, lambda message: message.content.clear()),
    "first of the kwargs": (human, at("additional_kwargs", "key", 1)),
    "first of the metadata": (ai, at("response_metadata", "key", 1)),
    "deep in the kwargs": (
        lambda text: human(text, additional_kwargs={"a": [{"b": 1}]}),
        at("additional_kwargs", "a", 0, "b", 2),
    ),
    "number by its type": (lambda text: ai(text, response_metadata={"a": 1}), at("response_metadata", "a", True)),
    "zero by its sign": (lambda text: tool(text, artifact={"a": 0.0}), at("artifact", "a", -0.0)),
    "an attribute of its own": (human, lambda message: setattr(message, "mood", "calm")),
    "in an attribute of its own": (
        lambda text: human(text, mood=["calm"]),
        lambda message: message.mood.append("merry"),
    ),
    "argument of a call": (calling, at("tool_calls", 0, "args", "deep", 0, "q", "another")),
    "first call": (ai, lambda message: message.tool_calls.append(A_CALL)),
    "one more call": (calling, lambda message: message.tool_calls.append(A_CALL)),
    "calls go": (calling, lambda message: message.tool_calls.clear()),
    "first failed call": (ai, lambda message: message.invalid_tool_calls.append({"name": "x", "args": "{", "id": "i"})),
    "failed call": (with_failed_call, at("invalid_tool_calls", 0, "error", "another")),
    "usage": (with_usage, at("usage_metadata", "input_tokens", 7)),
    "details of the usage": (with_usage, at("usage_metadata", "input_token_details", "cache_read", 7)),
    "usage goes": (with_usage, at("usage_metadata", None)),
    "usage comes": (ai, at("usage_metadata", {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3})),
    "artifact": (with_rows, at("artifact", "rows", 0, 0, "another")),
    "artifact that is a list": (lambda text: tool(text, artifact=[1]), lambda message: message.artifact.append(2)),
    "artifact that holds a set": (
        lambda text: tool(text, artifact={"rows": {1}}),
        lambda message: message.artifact["rows"].add(2),
    ),
    "artifact comes": (tool, at("artifact", b"bytes")),
    "status": (tool, at("status", "error")),
    "call id": (tool, at("tool_call_id", "another")),
    "system's": (SystemMessage, at("content", "another")),
}


@pytest.mark.sampled(6)
@pytest.mark.parametrize("case", IN_PLACE)
@pytest.mark.parametrize(("cold", "twice"), [(False, False), (True, False), (False, True)], ids=["warm", "cold", "hot"])
@pytest.mark.parametrize("beside", ["alike", "plain", "failed"])
def test_an_edit_in_place_is_seen(case: str, cold: bool, twice: bool, beside: str) -> None:
    """A message that was changed in place, wherever in it and in the list, is stored again, and nothing else is."""
    make, edit = IN_PLACE[case]
    others = {"alike": make, "plain": human, "failed": with_failed_call}[beside]
    edited_places = (0, 31, 32, LONG - 1)
    value = [(make if index in edited_places else others)(f"message {index}") for index in range(LONG)]
    expected = [round_trip(message) for message in value]
    change, stored = step(value, None, NOTHING, None, CODEC, expected)
    if twice:
        # What a process remembers of a list may be more when it has compared it once.
        change, stored = step(value, name(change.held, -1), stored, (-1, "ref"), CODEC, expected)
        assert change.pieces is None
    for number, index in enumerate(edited_places):
        held = name(change.held, number)
        if cold:
            held = recalled(CODEC, stored, held.ref)
        edit(value[index])
        before, expected[index] = expected[index], round_trip(value[index])
        assert expected[index] != before
        change, stored = step(value, held, stored, held.ref, CODEC, expected)
        assert sent(change) == 1


@pytest.mark.parametrize(
    ("element", "edit"),
    [
        ({"a": {"b": [1, {"c": 2}]}}, lambda element: element["a"]["b"][1].update(c=3)),
        ({"a": 1}, lambda element: element.update(a=True)),
        ({"a": 1}, lambda element: element.update(a=1.0)),
        ({"a": 0.0}, lambda element: element.update(a=-0.0)),
        ({"a": "1"}, lambda element: element.update(a=b"1")),
        ({"a": 1, "b": 2}, lambda element: element.update(a=element.pop("a"))),
        ([1, [2]], lambda element: element[1].append(3)),
        (Point([1]), lambda element: element.x.append(2)),
        (Point(1), lambda element: setattr(element, "y", 2)),
        (Model(name="a", anything={"deep": [1]}), lambda element: element.anything["deep"].append(2)),
        ({1, 2}, lambda element: element.add(3)),
        ({"set": {1}}, lambda element: element["set"].add(2)),
        (bytearray(b"a"), lambda element: element.append(98)),
    ],
    ids=lambda case: repr(case)[:20] if not callable(case) else "",
)
@pytest.mark.parametrize(
    "beside", [[], [7], [HumanMessage("hi")], ["x" * 100, "y" * 100]], ids=["", "tiny", "message", "text"]
)
def test_an_edit_of_anything_is_seen(element: Any, edit: Callable[[Any], None], beside: list[Any]) -> None:
    """An element of any kind that was changed in place, were it only in type or order, is stored again."""
    value = [*beside, copy.deepcopy(element), *beside]
    change, stored = step(value, None, NOTHING, None)
    edit(value[len(beside)])
    held = name(change.held, 0)
    change, _ = step(value, held, stored, held.ref)
    assert sent(change) >= 1


# -- what is not sent again --------------------------------------------------------------------------------------------


def unlike(kind: str, start: int, stop: int) -> list[Any]:
    """Elements that are all different: of a message each, tiny ones that share chunks, or both in turns."""
    if kind == "mixed":
        halves = unlike("messages", start, stop), unlike("tiny", start, stop)
        return [halves[index // 3 % 2][index] for index in range(stop - start)]
    if kind == "tiny":
        return list(range(start, stop))
    if kind == "objects":
        return [Point("x" * 80, index) for index in range(start, stop)]
    if kind == "failed":
        return [with_failed_call(f"message {index}") for index in range(start, stop)]
    return [HumanMessage(f"message {index}", id=str(index)) for index in range(start, stop)]


@settings(edits, max_examples=80)
@given(
    kind=st.sampled_from(["messages", "failed", "tiny", "mixed", "objects"]),
    size=st.integers(0, LONG),
    place=st.integers(0, LONG),
    gone=st.integers(0, LONG),
    come=st.integers(0, 40),
    cold=st.booleans(),
)
def test_an_edit_costs_what_it_changes(kind: str, size: int, place: int, gone: int, come: int, cold: bool) -> None:
    """An append, a removal or a replacement anywhere stores what came, and of what was there only cut chunks again."""
    value = unlike(kind, 0, size)
    change, stored = step(value, None, NOTHING, None)
    assert sent(change) == size
    held = recalled(CODEC, stored, "ref") if cold else name(change.held, 0)
    start = min(place, size)
    stop = min(start + gone, size)
    before = max(border for border in stored.borders if border <= start)
    after = min(border for border in stored.borders if border >= stop)
    value[start:stop] = unlike(kind, 1000, 1000 + come)
    change, _ = step(value, held, stored, held.ref)
    assert sent(change) <= (start - before) + come + (after - stop)
    assert (change.pieces is None) == (start == stop and not come)


@pytest.mark.parametrize("kind", ["messages", "failed", "tiny", "mixed", "objects"])
@pytest.mark.parametrize("cold", [False, True], ids=["warm", "cold"])
def test_a_growing_list_is_sent_once(kind: str, cold: bool) -> None:
    """Over a hundred appends every element is stored exactly once, and an unchanged list costs nothing."""
    total, stored, held = 0, NOTHING, None
    value: list[Any] = []
    for number in range(100):
        value = [*value, *unlike(kind, 3 * number, 3 * number + 3)]
        change = changed(CODEC, value, held, "messages")
        stored = apply(change, stored, held.ref if held else None)
        total += sent(change)
        held = name(change.held, number)
        if cold:
            held = recalled(CODEC, stored, held.ref)
        again = changed(CODEC, copy.deepcopy(value), held, "messages")
        assert again.pieces is None
    assert total == len(value) == 300
    assert stored.values(CODEC) == value


@given(st.lists(st.binary(min_size=1, max_size=2 * SMALL), max_size=200))
def test_only_small_neighbours_share_a_chunk(streams: Sequence[bytes]) -> None:
    """Chunks hold the elements in order, each alone unless it is small, and no chunk of small ones is long."""
    chunks = bunched(streams)
    left = list(streams)
    for stream, count in chunks:
        inside, left = left[:count], left[count:]
        assert b"".join(inside) == stream
        assert count == 1 or max(map(len, inside)) < SMALL
        assert len(stream) < RUN + SMALL
    assert not left


def test_neighbours_do_share_chunks() -> None:
    """A thousand small numbers are a few chunks, not a thousand."""
    assert len(bunched(CODEC.streams(list(range(10_000)), "numbers"))) < 20
