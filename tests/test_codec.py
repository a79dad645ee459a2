"""What is stored of a value is what LangGraph's own serializer would have given back, or is refused.

The oracle is `JsonPlusSerializer` itself: a stream has to decode to what its round trip makes of the same value, of the
same type at every depth. `form` is what is compared: a value taken apart into plain tuples, with its types in them.
"""

from __future__ import annotations

import copy
import dataclasses
import gc
import os
import random
import re
import threading
import weakref
import zlib
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta, timezone
from enum import Enum, IntEnum
from ipaddress import IPv4Address
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import ormsgpack
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    HumanMessageChunk,
    RemoveMessage,
    SystemMessage,
    ToolMessage,
)
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.types import Send
from pydantic import BaseModel, PrivateAttr

from langgraph_durable import OpenError, SqliteSaver, UnserializableError
from langgraph_durable.core.codec import COMPRESS_FROM, Codec
from langgraph_durable.core.collector import MANY
from langgraph_durable.core.messages import CLASSES, CODES
from langgraph_durable.core.records import Inline
from tests.conftest import checkpoint, thread

# Pydantic says aloud what it thinks of a field that was set to something odd, LangGraph's serializer does not.
pytestmark = pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")

many = settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
some = settings(many, max_examples=100)

KEY, OTHER_KEY = b"0123456789abcdef", b"fedcba9876543210"


# -- what may be found in a state --------------------------------------------------------------------------------


class Color(Enum):
    RED = "red"
    BLUE = 2


class Word(str, Enum):
    YES = "yes"
    NO = "no"


class Level(IntEnum):
    LOW = 1
    HIGH = 9


class Text(str):
    """Text of a class of its own, as template engines make it."""


@dataclasses.dataclass
class Point:
    x: Any
    y: Any = None


@dataclasses.dataclass(frozen=True)
class Frozen:
    name: Any


@dataclasses.dataclass
class Slotted:
    __slots__ = ("value",)
    value: Any


class Pair(NamedTuple):
    left: Any
    right: Any


class Inner(BaseModel):
    number: int = 0
    when: datetime | None = None


class Model(BaseModel):
    name: str
    inner: Inner = Inner()
    anything: Any = None
    _hidden: int = PrivateAttr(default=7)


class Custom(HumanMessage):
    """A message class of an application's own."""

    mood: str = "calm"


def form(value: Any) -> Any:
    """`value` in plain tuples, with every type in them: values are the same if and only if their forms are equal."""
    kind = type(value)
    if isinstance(value, BaseModel):
        fields = tuple((name, form(part)) for name, part in value.__dict__.items())
        private = form(value.__pydantic_private__)
        return kind, fields, tuple(sorted(value.__pydantic_fields_set__)), form(value.__pydantic_extra__), private
    if isinstance(value, Enum):
        return kind, value.name
    if isinstance(value, Mapping):
        return kind, tuple((form(key), form(part)) for key, part in value.items())
    if isinstance(value, (list, tuple, deque)):
        return kind, tuple(form(part) for part in value)
    if isinstance(value, (set, frozenset)):
        return kind, tuple(sorted((form(part) for part in value), key=repr))
    if isinstance(value, Send):
        return kind, value.node, form(value.arg)
    if dataclasses.is_dataclass(value):
        return kind, tuple((field.name, form(getattr(value, field.name))) for field in dataclasses.fields(value))
    if isinstance(value, float):
        return kind, value.hex()
    return kind, repr(value)


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(),
    st.text(max_size=20),
    st.binary(max_size=20),
)

extremes = st.sampled_from(
    [
        *(0, 127, 128, -32, -33, 255, 256, 65535, 65536, 2**31, 2**32, 2**63 - 1, 2**63, 2**64 - 1, -(2**63)),
        *(2**64, -(2**63) - 1, 10**40),
        *(float("nan"), float("inf"), float("-inf"), -0.0, 5e-324, 1e308),
        *("", "x" * 31, "x" * 32, "\0", "ü€😀", "\ud800", "a\udfffb"),
        *(b"", b"\0", b"x" * 32, memoryview(b"abc")),
    ]
) | st.sampled_from([bytearray(b"abc"), list(range(15)), list(range(16)), dict.fromkeys(map(str, range(16)))]).map(
    copy.deepcopy
)

clocks = st.one_of(
    st.datetimes(timezones=st.sampled_from([None, timezone.utc, timezone(timedelta(hours=-3, minutes=-30))])),
    st.dates(),
    st.times(),
    st.timedeltas(),
)

hashables = st.one_of(
    st.booleans(),
    st.integers(-5, 300),
    st.text(max_size=5),
    st.none(),
    st.floats(allow_nan=False),
    st.sampled_from([*Color, *Word, *Level, Text("text")]),
    st.tuples(st.integers(0, 3), st.text(max_size=2)),
)

leaves = st.one_of(
    scalars,
    extremes,
    clocks,
    st.uuids(),
    st.decimals(),
    st.sampled_from(
        [*Color, *Word, *Level, Text("text"), PurePosixPath("a/b"), Path("c"), re.compile("x+", re.I), IPv4Address(1)]
    ),
    st.sampled_from([Ellipsis, object, len, 1j, range(3), ValueError("no")]),
    st.sets(hashables, max_size=4),
    st.frozensets(hashables, max_size=4),
)

plain = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=10,
)
"""What msgpack itself can say."""


def _containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(
        st.lists(inner, max_size=4),
        st.tuples(inner, inner),
        st.dictionaries(st.text(max_size=5), inner, max_size=4),
        st.dictionaries(hashables, inner, max_size=3),
        st.tuples(inner, inner).map(lambda made: Point(*made)),
        inner.map(Frozen),
        inner.map(Slotted),
        st.tuples(inner, inner).map(lambda made: Pair(*made)),
        st.tuples(inner, st.none() | st.datetimes()).map(
            lambda made: Model(name="model", anything=made[0], inner=Inner(when=made[1]))
        ),
        st.lists(inner, max_size=3).map(deque),
        st.dictionaries(st.text(max_size=3), inner, max_size=2).map(OrderedDict),
        st.dictionaries(st.text(max_size=3), inner, max_size=2).map(lambda made: defaultdict(list, made)),
        inner.map(lambda made: Send("node", made)),
    )


values = st.recursive(leaves, _containers, max_leaves=12)
"""What may be found in a state, and some of what no serializer takes."""

names = st.none() | st.text(max_size=8)
text_blocks = st.fixed_dictionaries({"type": st.just("text"), "text": st.text(max_size=10)})
contents = st.text(max_size=40) | st.lists(
    st.text(max_size=5)
    | text_blocks
    | st.dictionaries(st.text(max_size=5), plain, max_size=3)
    | st.just({"type": "tool_call", "id": "call_1", "name": "look", "args": {"q": 1}}).map(copy.deepcopy),
    max_size=3,
)
kwargs = st.dictionaries(st.text(max_size=5), plain, max_size=3)
tool_calls: st.SearchStrategy[Any] = st.builds(
    lambda name, args, call_id: {"name": name, "args": args, "id": call_id, "type": "tool_call"},
    st.text(max_size=8),
    kwargs,
    names,
)
bad_calls = st.builds(
    lambda name, args, error: {"name": name, "args": args, "id": "x", "error": error, "type": "invalid_tool_call"},
    names,
    names,
    names,
)
raw_calls = st.lists(
    st.builds(
        lambda arguments: {"id": "r", "type": "function", "function": {"name": "look", "arguments": arguments}},
        st.sampled_from(["{}", '{"q": 1}', "{", "null", ""]),
    ),
    max_size=2,
)
counts = st.integers(0, 10**6)
usages = st.none() | st.fixed_dictionaries(
    {"input_tokens": counts, "output_tokens": counts, "total_tokens": counts},
    optional={
        "output_token_details": st.dictionaries(st.sampled_from(["reasoning", "audio"]), counts),
        "input_token_details": st.dictionaries(
            st.sampled_from(["cache_read", "cache_creation", "audio", "flex", "priority_cache_read"]), counts
        ),
        "unknown": counts,
    },
)
common = {
    "content": contents,
    "name": names,
    "id": names,
    "additional_kwargs": kwargs,
    "response_metadata": kwargs | st.just({"output_version": "v1", "model_provider": "openai"}).map(dict),
}


def message_of(kind: Callable[..., BaseMessage], **own: st.SearchStrategy[Any]) -> st.SearchStrategy[BaseMessage]:
    """Messages of one class with these fields of its own, and any of the common ones left to their defaults."""
    needed = {"content": contents, **own}
    optional = {name: field for name, field in common.items() if name not in needed}
    return st.fixed_dictionaries(needed, optional=optional).map(lambda fields: kind(**fields))


common_messages = st.one_of(
    message_of(HumanMessage),
    message_of(SystemMessage),
    message_of(AIMessage),
    message_of(AIMessage, tool_calls=st.lists(tool_calls, max_size=3), usage_metadata=usages),
    message_of(
        ToolMessage,
        tool_call_id=st.text(max_size=8),
        artifact=plain,
        status=st.sampled_from(["success", "error"]),
    ),
)
"""The four classes as models and tools make them."""

rare_messages = st.one_of(
    message_of(AIMessage, invalid_tool_calls=st.lists(bad_calls, max_size=2)),
    message_of(AIMessage, additional_kwargs=st.fixed_dictionaries({"tool_calls": raw_calls})),
    message_of(AIMessage, usage_metadata=usages, tool_calls=st.lists(tool_calls, max_size=1), custom=values),
    message_of(HumanMessage, custom=values),
    message_of(ToolMessage, tool_call_id=st.text(max_size=8), artifact=values),
    message_of(ToolMessage, tool_call_id=st.uuids() | st.integers()),
    message_of(HumanMessage, content=contents, additional_kwargs=st.dictionaries(hashables, values, max_size=2)),
    st.text(max_size=5).map(lambda text: HumanMessage(content=Text(text), name=Text("name"), id=Text("id"))),
    st.lists(tool_calls, min_size=1, max_size=2).map(lambda calls: AIMessage(content_blocks=calls)),
    message_of(ChatMessage, role=st.text(min_size=1, max_size=5)),
    st.text(max_size=5).map(lambda text: RemoveMessage(id=text)),
    st.text(max_size=5).map(lambda text: FunctionMessage(content=text, name=text)),
    message_of(Custom, mood=st.text(max_size=5)),
    message_of(HumanMessageChunk),
    message_of(
        AIMessageChunk,
        tool_call_chunks=st.just([{"name": "look", "args": '{"q"', "id": "x", "index": 0}]).map(copy.deepcopy),
    ),
    st.text(max_size=5).map(lambda text: AIMessage.model_construct(content=text)),
    st.text(max_size=5).map(lambda text: HumanMessage.model_construct(content=text, extra=1)),
)

odd = st.one_of(
    leaves,
    hashables,
    plain,
    st.sampled_from(["human", "ai", "tool", "success", "tool_call", "3", Text("human"), Text("success"), 1, 2.5, True]),
    st.sampled_from(
        [(), ("a", {"type": "text"}), [("a", 1)], [None], [1], [[]], {}, OrderedDict(a=1), {1: 2}, {"a"}]
    ).map(copy.deepcopy),
    st.lists(tool_calls, max_size=2).map(tuple),
    st.lists(tool_calls | bad_calls | kwargs, max_size=2),
    usages,
    st.lists(st.text(max_size=5).map(HumanMessage), max_size=2),
)
"""What nobody should, and somebody will, set a part of a message to."""


def places(container: Any, depth: int = 0) -> list[tuple[Any, Any]]:
    """Every (container, key) inside of a value at which something can be set."""
    found: list[tuple[Any, Any]] = []
    if depth < 6 and isinstance(container, (dict, list)):
        for key, part in list(container.items() if isinstance(container, dict) else enumerate(container)):
            found.append((container, key))
            found += places(part, depth + 1)
    return found


@st.composite
def edited_messages(draw: st.DrawFn) -> BaseMessage:
    """A message that was changed in place after it was made, anywhere in it and without validation."""
    message = draw(common_messages | rare_messages)
    for _ in range(draw(st.integers(1, 3))):
        container, key = draw(st.sampled_from(places(message.__dict__)))
        how = draw(st.sampled_from(["set", "set", "set", "drop", "move", "attribute", "subclass"]))
        if how == "set":
            container[key] = draw(odd)
        elif how == "drop":
            del container[key]
        elif how == "move":
            # LangChain orders the keys of a tool call or a usage, and here they stay as they are: both are equal.
            fields = message.__dict__
            free = (fields, fields.get("additional_kwargs"), fields.get("artifact"))
            if isinstance(container, dict) and any(container is one for one in free):
                container[key] = container.pop(key)
        elif how == "attribute":
            setattr(message, draw(st.sampled_from(["mood", "content", "tool_calls", "status"])), draw(odd))
        elif how == "subclass":
            part = container[key]
            kinds: dict[type, Callable[[Any], Any]] = {str: Text, dict: OrderedDict, list: tuple}
            container[key] = kinds.get(type(part), lambda same: same)(part)
        if not places(message.__dict__):
            break
    return message


messages = common_messages | rare_messages | edited_messages()
"""Any message, in whatever state."""

SERDE = JsonPlusSerializer()
REFUSED = "refused"


def round_trip(value: Any) -> Any:
    """The form of what LangGraph's serializer gives back for `value`; REFUSED when it does not take it."""
    try:
        typed = SERDE.dumps_typed(value)
    except Exception:  # noqa: BLE001  pydantic and ormsgpack have many ways to say no
        return REFUSED
    return form(SERDE.loads_typed(typed))


def through(codec: Codec, value: Any) -> Any:
    """The form of what the codec gives back for `value`; REFUSED when it does not take it."""
    try:
        stream = codec.stream(value, "channel")
    except UnserializableError:
        return REFUSED
    (made,) = codec.values(stream, 1)
    return form(made)


def make_codec(serde: SerializerProtocol = SERDE, *, native: bool = True, key: bytes = b"") -> Codec:
    return Codec(serde, native=native, key=key)


CODEC = make_codec()


# -- one value ------------------------------------------------------------------------------------------------------


@many
@given(values)
def test_a_value_comes_back_as_from_langgraphs_serializer(value: Any) -> None:
    """Any value decodes to what LangGraph's serializer gives back, of the same type at every depth, or is refused."""
    assert through(CODEC, value) == round_trip(value)


@many
@given(common_messages | rare_messages)
def test_a_message_comes_back_as_from_langgraphs_serializer(message: BaseMessage) -> None:
    """A message comes back with the fields, their order, the extras and the private parts of LangGraph's round trip."""
    assert through(CODEC, message) == round_trip(message)


@settings(many, max_examples=200)
@given(edited_messages())
def test_an_edited_message_comes_back_as_from_langgraphs_serializer(message: BaseMessage) -> None:
    """A message whose parts were set to something odd in place comes back as LangGraph's serializer gives it back."""
    assert through(CODEC, message) == round_trip(message)


@pytest.mark.parametrize(
    "value",
    [
        *("x" * 255, "x" * 256, "x" * 70_000, "€" * 70_000, b"x" * 256, b"x" * 70_000),
        *([None] * 65_535, [None] * 65_536, dict.fromkeys(map(str, range(65_536)))),
        *(
            HumanMessage("x" * 70_000),
            HumanMessage(["x"] * 65_536),
            ToolMessage("x", tool_call_id="1", artifact=b"x" * 70_000),
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_large_values_come_back(value: Any) -> None:
    """A value at the sizes where msgpack changes its form comes back the same, alone and in a list."""
    assert through(CODEC, value) == round_trip(value)
    fast = CODEC.fast_stream([value, value])
    assert fast == CODEC.stream(value, "channel") * 2
    assert [form(made) for made in CODEC.values(fast, 2)] == [round_trip(value)] * 2


@some
@given(messages)
def test_encoding_leaves_the_value_alone(message: BaseMessage) -> None:
    """Making a stream changes nothing in the message."""
    before = form(message)
    through(CODEC, message)
    CODEC.fast_stream([message])
    assert form(message) == before


@some
@given(common_messages)
def test_the_short_way_is_taken(message: BaseMessage) -> None:
    """A message as models and tools make it is stored by its fields, not by LangGraph's serializer."""
    assume("tool_calls" not in message.additional_kwargs)
    assume(not isinstance(message, AIMessage) or usual_usage(message.usage_metadata))
    assert CODEC.stream(message, "messages")[0] == CODES[type(message)]


def usual_usage(usage: Any) -> bool:
    """Whether a usage has no more than what LangChain gives names to."""
    details = {**usage.get("input_token_details", {}), **usage.get("output_token_details", {})} if usage else {}
    return "unknown" not in (usage or {}) and details.keys() <= {"cache_read", "cache_creation", "audio", "reasoning"}


@pytest.mark.parametrize(
    ("given_details", "taken_details"),
    [
        ({"cache_read": 1, "audio": 0}, {"reasoning": 1, "audio": 0}),
        ({"priority_cache_read": 0, "priority": 5}, {"priority_reasoning": 0, "priority": 5}),
        ({"cache_read": 0, "cache_creation": 9, "ephemeral_5m_input_tokens": 9, "ephemeral_1h_input_tokens": 0}, {}),
        ({"cache_read": 0}, {"reasoning": 7}),
    ],
    ids=["openai", "openai with a service tier", "anthropic", "google"],
)
def test_the_usage_of_a_provider_is_no_detour(given_details: Any, taken_details: Any) -> None:
    """A message with the token counts that a provider's package puts into it is stored by its fields."""
    usage: Any = {"input_tokens": 10, "output_tokens": 20, "total_tokens": 30, "input_token_details": given_details}
    message = AIMessage("hi", usage_metadata={**usage, "output_token_details": taken_details})
    assert through(CODEC, message) == round_trip(message)
    assert CODEC.stream(message, "messages")[0] == CODES[AIMessage]


@some
@given(plain)
def test_plain_values_are_stored_as_they_are(value: Any) -> None:
    """What msgpack can say is stored in msgpack, not by LangGraph's serializer."""
    assert CODEC.stream(value, "channel")[0] == 1


@some
@given(st.lists(common_messages | plain, min_size=1, max_size=3))
def test_what_is_decoded_is_nobody_elses(given_values: list[Any]) -> None:
    """Decoding a stream twice gives values that share nothing that can be changed, with each other or the original."""
    stream = b"".join(CODEC.streams(given_values, "channel"))
    first, second = CODEC.values(stream, len(given_values)), CODEC.values(stream, len(given_values))

    def mutable(value: Any) -> set[int]:
        parts = value.__dict__ if isinstance(value, BaseMessage) else value
        own = {id(value)} if isinstance(value, (dict, list, BaseMessage)) else set()
        inside = parts.values() if isinstance(parts, dict) else parts if isinstance(parts, list) else ()
        return own.union(*map(mutable, inside))

    groups = [mutable(first), mutable(second), mutable(given_values)]
    assert sum(map(len, groups)) == len(set().union(*groups))


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize(
    "value",
    [None, "text", {"a": [1]}, HumanMessage("hi"), Point(1), 2**64 - 1, b"bytes"],
    ids=["none", "text", "dict", "message", "dataclass", "number", "bytes"],
)
def test_only_langgraphs_own_serializer_is_bypassed(value: Any, native: bool) -> None:
    """With a serializer of the user's every value goes through it, also where it is derived from LangGraph's."""

    class Own(JsonPlusSerializer):
        seen = 0

        def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
            self.seen += 1
            return super().dumps_typed(obj)

    serde = Own()
    codec = make_codec(serde, native=native)
    stream = codec.stream(value, "channel")
    assert (stream[0], serde.seen) == (0, 1)
    assert make_codec(native=False).stream(value, "channel")[0] == 0
    assert codec.fast_stream([value]) is None
    assert [form(made) for made in codec.values(stream, 1)] == [round_trip(value)]


@pytest.mark.parametrize("depth", [1, 100, 254, 255, 256, 257, 2000, 100_000])
@pytest.mark.parametrize("kind", [list, dict])
def test_what_can_be_stored_can_be_read_however_deep(depth: int, kind: type) -> None:
    """A nested value is refused when it is put or comes back: none is stored that is too deep to be read."""
    value: Any = 1
    for _ in range(depth):
        value = [value] if kind is list else {"a": value}
    try:
        stream = CODEC.stream(value, "channel")
    except UnserializableError:
        assert depth > 255
    else:
        (made,) = CODEC.values(stream, 1)
        for _ in range(depth):
            made = made[0] if kind is list else made["a"]
        assert made == 1


@pytest.mark.parametrize("make", [list, dict, lambda: HumanMessage("hi")], ids=["list", "dict", "message"])
def test_a_value_that_holds_itself_is_refused(make: Callable[[], Any]) -> None:
    """A list, a dict or a message that contains itself is refused with the channel's name."""
    value = make()
    if isinstance(value, list):
        value.append(value)
    else:
        (value if isinstance(value, dict) else value.additional_kwargs)["self"] = value
    with pytest.raises(UnserializableError) as caught:
        CODEC.stream(value, "channel")
    assert caught.value.channel == "channel"


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (threading.Lock(), ""),
        ({"a": [1, (2, threading.Lock())]}, "['a'][1][1]"),
        (HumanMessage("hi", additional_kwargs={"lock": threading.Lock()}), ".additional_kwargs['lock']"),
        (Point(1, {"deep": threading.Lock()}), ".y['deep']"),
        (Slotted([threading.Lock()]), ".value[0]"),
    ],
    ids=["bare", "containers", "message", "dataclass", "slots"],
)
def test_a_refusal_names_the_place(value: Any, path: str) -> None:
    """A value that cannot be stored is refused with the channel, the way to the culprit, and its type."""
    with pytest.raises(UnserializableError) as caught:
        CODEC.streams(["fine", value], "channel", 5)
    error = caught.value
    assert (error.channel, error.path, error.type_name) == ("channel", "[6]" + path, "_thread.lock")
    assert f"channel 'channel' at [6]{path}: _thread.lock" in str(error)


# -- streams ------------------------------------------------------------------------------------------------------


@some
@given(st.lists(common_messages | rare_messages | values, max_size=6), st.data())
def test_streams_join_and_cut_at_their_borders(given_values: list[Any], data: st.DataObject) -> None:
    """Streams put after each other, and such a stream cut between two values, decode to those values."""
    assume(REFUSED not in map(round_trip, given_values))
    each = CODEC.streams(given_values, "channel")
    cut = data.draw(st.integers(0, len(each)))
    made = CODEC.values(b"".join(each[:cut]), cut) + CODEC.values(b"".join(each[cut:]), len(each) - cut)
    whole = CODEC.values(b"".join(each), len(each))
    expected = [round_trip(value) for value in given_values]
    assert [form(value) for value in whole] == expected
    assert [form(value) for value in made] == expected


@pytest.mark.parametrize("count", [0, 1, 7, 8, MANY - 1, MANY, 32_767, 32_768])
@pytest.mark.parametrize("mixed", [False, True])
def test_streams_of_any_length_decode(count: int, mixed: bool) -> None:
    """A stream decodes whatever the number of its values, and the garbage collector is left as it was."""
    given_values: list[Any] = [index if index % 2 or not mixed else HumanMessage("x") for index in range(count)]
    stream = b"".join(CODEC.streams(given_values, "channel"))
    for enabled in (False, True):
        (gc.enable if enabled else gc.disable)()
        try:
            assert CODEC.values(stream, count) == given_values
            with pytest.raises(ValueError, match=r"."):
                CODEC.values(stream, count + 1)
            assert gc.isenabled() == enabled
        finally:
            gc.enable()


@many
@given(
    st.one_of(
        st.lists(common_messages, max_size=6), st.lists(plain, max_size=6), st.lists(messages | plain, max_size=4)
    )
)
def test_the_fast_stream_is_the_joined_streams(given_values: list[Any]) -> None:
    """The stream of a list made at once is that of its values after each other, where none needs the serializer."""
    fast = CODEC.fast_stream(given_values)
    try:
        each = CODEC.streams(given_values, "channel")
    except UnserializableError:
        return
    if all(stream[0] for stream in each):
        kinds = {type(value) in CODES for value in given_values}
        assert fast == b"".join(each) or (fast is None and len(kinds) == 2)


@settings(many, max_examples=200)
@given(messages)
def test_the_fast_stream_misses_no_difference(message: BaseMessage) -> None:
    """A message whose fast stream equals the stored stream of another one comes back as that other one would."""
    fast = CODEC.fast_stream([message])
    assume(fast is not None)
    assert fast is not None
    (other,) = decoded(CODEC, fast, 1) or [None]
    if through(CODEC, other) != REFUSED and CODEC.stream(other, "messages") == fast:
        assert form(other) == round_trip(message)


@some
@given(common_messages, st.data())
def test_any_edit_changes_the_stream(message: BaseMessage, data: st.DataObject) -> None:
    """A message that is another one after an edit has another stream, made one by one or at once."""
    before = round_trip(message), CODEC.stream(message, "messages"), CODEC.fast_stream([message])
    container, key = data.draw(st.sampled_from(places(message.__dict__)))
    container[key] = data.draw(odd)
    after = round_trip(message)
    assume(after not in (before[0], REFUSED))
    assert CODEC.stream(message, "messages") != before[1]
    fast = CODEC.fast_stream([message])
    assert fast is None or fast != before[2]


def test_a_codec_goes_when_nobody_has_it() -> None:
    """A codec, and one for values that are moved, is gone with the last who has it: no collector is needed for that."""
    gc.disable()
    try:
        codec = Codec(JsonPlusSerializer(), native=True)
        there = [weakref.ref(codec)]
        for whole in (True, False):
            there.append(weakref.ref(codec.moving(whole=whole)))
        del codec
        assert [one() for one in there] == [None] * 3
    finally:
        gc.enable()


# -- damage --------------------------------------------------------------------------------------------------------


def decoded(codec: Codec, stream: bytes, count: int) -> list[Any] | None:
    """The values of a damaged stream, for which nothing but ValueError may be raised; None when it was."""
    try:
        return codec.values(stream, count)
    except ValueError:
        return None


@some
@given(st.lists(common_messages | rare_messages | values, min_size=1, max_size=3), st.data())
def test_a_stream_cut_short_is_refused(given_values: list[Any], data: st.DataObject) -> None:
    """A stream that ends early, goes on too long, or is taken for another number of values is a ValueError."""
    assume(REFUSED not in map(round_trip, given_values))
    stream = b"".join(CODEC.streams(given_values, "channel"))
    count = len(given_values)
    assert decoded(CODEC, stream[: data.draw(st.integers(0, len(stream) - 1))], count) is None
    assert decoded(CODEC, stream + data.draw(st.binary(min_size=1, max_size=3)), count) is None
    assert decoded(CODEC, stream, count + 1) is None
    assert decoded(CODEC, stream, count - 1) is None


@settings(many, max_examples=200)
@given(st.lists(common_messages | plain, min_size=1, max_size=3), st.data())
def test_a_damaged_stream_is_refused_or_decodes(given_values: list[Any], data: st.DataObject) -> None:
    """Whatever byte of a stream is damaged, what comes of it is as many values or a ValueError, and no other error."""
    stream = bytearray(b"".join(CODEC.streams(given_values, "channel")))
    for _ in range(data.draw(st.integers(1, 3))):
        stream[data.draw(st.integers(0, len(stream) - 1))] = data.draw(st.integers(0, 255))
    made = decoded(CODEC, bytes(stream), len(given_values))
    assert made is None or len(made) == len(given_values)


@pytest.mark.parametrize(
    "pair",
    [
        (6, {}),
        (99, "text"),
        (-1, "text"),
        ("text", "text"),
        ([], "text"),
        (None, None),
        (0, "text"),
        (0, []),
        (0, None),
        (0, ["unknown", b""]),
        (0, ["msgpack", b"\xc1"]),
        (0, ["msgpack", 5]),
        (2, "text"),
        (2, 5),
        (2, None),
        (3, []),
        (3, {}),
        (4, {"content": 5}),
        (5, {"content": "no tool_call_id"}),
        (2, {1: 2}),
    ],
    ids=repr,
)
@pytest.mark.parametrize(
    "beside", [None, (1, "plain"), (2, HumanMessage("message").__dict__)], ids=["alone", "plain", "message"]
)
def test_what_no_release_wrote_is_refused(pair: tuple[Any, Any], beside: tuple[Any, Any] | None) -> None:
    """A code that is not known, or a payload that its code cannot have, is a ValueError, alone and beside others."""
    pairs = [pair, *([beside] if beside else [])]
    stream = b"".join(ormsgpack.packb(part, option=ormsgpack.OPT_NON_STR_KEYS) for pair_ in pairs for part in pair_)
    with pytest.raises(ValueError, match=r"."):
        CODEC.values(stream, len(pairs))


def test_fields_of_another_release_go_through_validation() -> None:
    """A message that was stored with other fields than this release's comes back validated, with the defaults."""
    for code, kind in CLASSES.items():
        fields: dict[str, Any] = {"content": "hi", "id": "1", "type": kind.model_fields["type"].default, "mood": "calm"}
        if kind is ToolMessage:
            fields["tool_call_id"] = "call_1"
        stream = bytes((code,)) + ormsgpack.packb(fields)
        (made,) = CODEC.values(stream, 1)
        assert form(made) == form(kind(**fields))


# -- sealing --------------------------------------------------------------------------------------------------------


def sealed_values() -> st.SearchStrategy[bytes]:
    """Streams of many sizes, some of which compress well."""
    repeated = st.builds(lambda part, times: part * times, st.binary(min_size=1, max_size=50), st.integers(1, 300))
    noise = st.integers(0, 5000).map(lambda size: random.Random(size).randbytes(size))
    return repeated | noise


@some
@given(sealed_values(), st.booleans())
def test_what_was_sealed_opens(stream: bytes, encrypted: bool) -> None:
    """A sealed stream opens to the same bytes, encrypted and not."""
    codec = make_codec(EncryptedSerializer.from_pycryptodome_aes(key=KEY)) if encrypted else CODEC
    sealed = codec.seal(stream)
    assert codec.open(sealed) == stream
    assert sealed.kind in (("+aes", "z+aes") if encrypted else ("", "z"))


def test_compression_pays_or_is_not_done() -> None:
    """Long text is stored in less than half of its bytes; short or incompressible bytes are stored as they are."""
    conversation = [HumanMessage(f"What is the height of the tide at {hour} o'clock?") for hour in range(50)]
    stream = b"".join(CODEC.streams(conversation, "messages"))
    assert len(CODEC.seal(stream).data) < len(stream) / 2
    noise = os.urandom(10 * COMPRESS_FROM)
    assert CODEC.seal(noise) == Inline("", noise)
    short = b"x" * (COMPRESS_FROM - 1)
    assert CODEC.seal(short) == Inline("", short)
    assert len(CODEC.seal(b"x" * COMPRESS_FROM).data) < COMPRESS_FROM / 10


@some
@given(st.binary(min_size=20, max_size=40), st.data())
def test_damaged_compressed_bytes_are_refused(part: bytes, data: st.DataObject) -> None:
    """Compressed bytes of which one was changed, or the end is missing, are a ValueError, unless nothing is lost."""
    sealed = CODEC.seal(part * 100)
    assert sealed.kind == "z"
    place = data.draw(st.integers(0, len(sealed.data) - 1))
    damaged = bytearray(sealed.data)
    damaged[place] ^= data.draw(st.integers(1, 255))
    try:
        opened: bytes | None = CODEC.open(sealed._replace(data=bytes(damaged)))
    except ValueError:
        opened = None
    # Bits between the last of the compressed ones and the checksum mean nothing.
    assert opened in (None, part * 100)
    with pytest.raises(ValueError, match="compressed bytes are"):
        CODEC.open(sealed._replace(data=sealed.data[:place]))


@pytest.mark.parametrize("kind", ["y", "zz", "lz4", " "])
def test_a_kind_of_a_later_release_is_refused(kind: str) -> None:
    """Bytes that were stored in a way that is not known are a ValueError that says so."""
    with pytest.raises(ValueError, match="does not know"):
        CODEC.open(Inline(kind, zlib.compress(b"x")))


# -- encryption ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 5, 200])
def test_encrypted_bytes_show_nothing(size: int) -> None:
    """No part of a value is in what an encrypting serializer stores of it, and the same value never looks the same."""
    codec = make_codec(EncryptedSerializer.from_pycryptodome_aes(key=KEY), key=b"digest key")
    secret = "the-secret-" * size
    for value in (secret, {"a": secret}, HumanMessage(secret), Point(secret)):
        stream = codec.stream(value, "channel")
        first, second = codec.chunk(stream, codec.digest(stream)), codec.chunk(stream, codec.digest(stream))
        for stored in (first.data, first.kind.encode(), first.digest):
            assert b"secret" not in stored
        assert first.data != second.data
        (made,) = codec.values(codec.open(Inline(first.kind, first.data)), 1)
        assert form(made) == round_trip(value)


def test_a_keyed_digest_cannot_be_guessed_from_the_contents() -> None:
    """The name of a stream under a key is another than without it, or under another key, and the same every time."""
    unkeyed, keyed, other = make_codec(), make_codec(key=b"one"), make_codec(key=b"two")
    digests = {codec.digest(b"stream") for codec in (unkeyed, keyed, other)}
    assert len(digests) == 3
    assert keyed.digest(b"stream") == keyed.digest(b"stream")
    assert keyed.names(keyed.digest(b"stream"), b"stream")
    assert keyed.names(unkeyed.digest(b"stream"), b"stream")
    assert not keyed.names(other.digest(b"stream"), b"stream")
    assert not unkeyed.names(keyed.digest(b"stream"), b"stream")
    assert not keyed.names(keyed.digest(b"stream"), b"another")


def test_another_key_opens_nothing() -> None:
    """What was encrypted is a ValueError for who has another key, or none."""
    sealed = make_codec(EncryptedSerializer.from_pycryptodome_aes(key=KEY)).seal(b"the secret" * 500)
    with pytest.raises(ValueError, match=r"."):
        make_codec(EncryptedSerializer.from_pycryptodome_aes(key=OTHER_KEY)).open(sealed)
    with pytest.raises(ValueError, match="encrypted with 'aes'"):
        CODEC.open(sealed)


def test_a_database_does_not_open_with_another_key(path: str) -> None:
    """A saver that is given another key than the database was written with says so instead of reading or writing."""
    with SqliteSaver(path, serde=EncryptedSerializer.from_pycryptodome_aes(key=KEY)) as saver:
        saved = saver.put(thread(), checkpoint(messages=[HumanMessage("the-secret")], note="the-secret" * 20), {}, {})
        saver.put_writes(saved, [("messages", HumanMessage("the-secret"))], "task")
    for file in Path(path).parent.iterdir():
        assert b"the-secret" not in file.read_bytes()
    with SqliteSaver(path, serde=EncryptedSerializer.from_pycryptodome_aes(key=OTHER_KEY)) as saver:
        with pytest.raises(OpenError, match="another encryption key"):
            saver.get_tuple(thread())
        with pytest.raises(OpenError, match="another encryption key"):
            saver.put(thread(), checkpoint(messages=[]), {}, {})
    with SqliteSaver(path, serde=EncryptedSerializer.from_pycryptodome_aes(key=KEY)) as saver:
        found = saver.get_tuple(thread())
        assert found is not None
        assert found.checkpoint["channel_values"]["messages"] == [HumanMessage("the-secret")]
