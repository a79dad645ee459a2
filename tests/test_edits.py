"""What is changed in place is stored at the next put, at any depth and to the last type; what was stored before stays.

Each edit is made to a value that the saver has put or read before, and may remember. `form` tells 1 from True from 1.0,
and one order of keys from another, so that what is compared is what is stored, not what Python calls equal.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from langgraph_durable import SqliteSaver
from langgraph_durable.core.codec import Codec
from tests.conftest import Face, checkpoint, thread
from tests.samples import Point
from tests.shapes import form


def ai(**fields: Any) -> AIMessage:
    return AIMessage("said", id="ai", **fields)


def tool(**fields: Any) -> ToolMessage:
    return ToolMessage("result", id="tool", tool_call_id="c", **fields)


def human(content: Any = "asked", **fields: Any) -> HumanMessage:
    return HumanMessage(content, id="human", **fields)


def call(**args: Any) -> dict[str, Any]:
    return {"name": "find", "args": args, "id": "c", "type": "tool_call"}


def usage(**more: Any) -> Any:
    return {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3, **more}


def swapped(found: dict[str, Any]) -> None:
    """The same entries in another order."""
    for key in list(found)[:-1]:
        found[key] = found.pop(key)


Edit = tuple[Callable[[], Any], Callable[[Any], Any]]
EDITS: dict[str, Edit] = {
    "order of text arguments": (
        lambda: ai(tool_calls=[call(a="1", b="2")]),
        lambda m: swapped(m.tool_calls[0]["args"]),
    ),
    "order of text beside": (
        lambda: human(additional_kwargs={"a": "1", "b": "2"}),
        lambda m: swapped(m.additional_kwargs),
    ),
    "order of a text block": (lambda: human([{"type": "text", "text": "t"}]), lambda m: swapped(m.content[0])),
    "content": (human, lambda m: setattr(m, "content", "changed")),
    "content, same length": (human, lambda m: setattr(m, "content", "taken")),
    "content to empty": (human, lambda m: setattr(m, "content", "")),
    "content to a list": (human, lambda m: setattr(m, "content", ["asked"])),
    "content list grows": (lambda: human([]), lambda m: m.content.append("more")),
    "content text in a list": (lambda: human(["one", "two"]), lambda m: m.content.__setitem__(1, "changed")),
    "content block": (
        lambda: human([{"type": "text", "text": "t"}]),
        lambda m: m.content[0].__setitem__("text", "changed"),
    ),
    "content block, deep": (
        lambda: human([{"type": "image", "source": {"data": ["x"]}}]),
        lambda m: m.content[0]["source"]["data"].append("y"),
    ),
    "content block of an answer": (
        lambda: AIMessage([{"type": "text", "text": "t"}], id="ai"),
        lambda m: m.content[0].__setitem__("text", "changed"),
    ),
    "content list of a tool": (
        lambda: ToolMessage(["a"], id="tool", tool_call_id="c"),
        lambda m: m.content.append("b"),
    ),
    "kwargs new key": (human, lambda m: m.additional_kwargs.__setitem__("new", 1)),
    "kwargs key gone": (lambda: human(additional_kwargs={"a": 1}), lambda m: m.additional_kwargs.clear()),
    "kwargs nested": (
        lambda: human(additional_kwargs={"a": {"b": [{"c": 1}]}}),
        lambda m: m.additional_kwargs["a"]["b"][0].__setitem__("c", 2),
    ),
    "kwargs order": (lambda: human(additional_kwargs={"a": 1, "b": 2}), lambda m: swapped(m.additional_kwargs)),
    "kwargs to True": (lambda: human(additional_kwargs={"a": 1}), lambda m: m.additional_kwargs.update(a=True)),
    "kwargs to 1.0": (lambda: human(additional_kwargs={"a": True}), lambda m: m.additional_kwargs.update(a=1.0)),
    "kwargs to 1": (lambda: human(additional_kwargs={"a": 1.0}), lambda m: m.additional_kwargs.update(a=1)),
    "kwargs to minus zero": (lambda: human(additional_kwargs={"a": 0.0}), lambda m: m.additional_kwargs.update(a=-0.0)),
    "kwargs to False": (lambda: human(additional_kwargs={"a": 0}), lambda m: m.additional_kwargs.update(a=False)),
    "kwargs to bytes": (lambda: human(additional_kwargs={"a": "b"}), lambda m: m.additional_kwargs.update(a=b"b")),
    "kwargs empty of another kind": (
        lambda: human(additional_kwargs={"a": []}),
        lambda m: m.additional_kwargs.update(a={}),
    ),
    "kwargs None to missing": (lambda: human(additional_kwargs={"a": None}), lambda m: m.additional_kwargs.pop("a")),
    "kwargs set": (lambda: human(additional_kwargs={"a": {1}}), lambda m: m.additional_kwargs["a"].add(2)),
    "response metadata": (ai, lambda m: m.response_metadata.__setitem__("model", "m")),
    "response metadata nested": (
        lambda: ai(response_metadata={"logprobs": [[0.5]]}),
        lambda m: m.response_metadata["logprobs"][0].append(0.25),
    ),
    "tool call added": (ai, lambda m: m.tool_calls.append(call(x=1))),
    "tool call args": (lambda: ai(tool_calls=[call(x=1)]), lambda m: m.tool_calls[0]["args"].__setitem__("x", 2)),
    "tool call args type": (
        lambda: ai(tool_calls=[call(x=1)]),
        lambda m: m.tool_calls[0]["args"].__setitem__("x", True),
    ),
    "tool call args deep": (
        lambda: ai(tool_calls=[call(x={"y": [1, {"z": None}]})]),
        lambda m: m.tool_calls[0]["args"]["x"]["y"][1].__setitem__("z", 0),
    ),
    "tool call args order": (
        lambda: ai(tool_calls=[call(x=1, y=2)]),
        lambda m: swapped(m.tool_calls[0]["args"]),
    ),
    "tool call renamed": (lambda: ai(tool_calls=[call()]), lambda m: m.tool_calls[0].__setitem__("name", "other")),
    "tool call removed": (lambda: ai(tool_calls=[call()]), lambda m: m.tool_calls.clear()),
    "tool calls reordered": (
        lambda: ai(tool_calls=[call(x=1), call(x=2)]),
        lambda m: m.tool_calls.reverse(),
    ),
    "invalid tool call": (
        ai,
        lambda m: m.invalid_tool_calls.append(
            {"name": "n", "args": "{", "id": "i", "error": "e", "type": "invalid_tool_call"}
        ),
    ),
    "usage": (lambda: ai(usage_metadata=usage()), lambda m: m.usage_metadata.__setitem__("input_tokens", 9)),
    "usage set": (ai, lambda m: setattr(m, "usage_metadata", usage())),
    "usage details": (
        lambda: ai(usage_metadata=usage(input_token_details={"cache_read": 1})),
        lambda m: m.usage_metadata["input_token_details"].__setitem__("cache_read", 2),
    ),
    "artifact": (lambda: tool(artifact={"rows": [1]}), lambda m: m.artifact["rows"].append(2)),
    "artifact list": (lambda: tool(artifact=[]), lambda m: m.artifact.append(1)),
    "artifact type": (lambda: tool(artifact=1), lambda m: setattr(m, "artifact", True)),
    "artifact text": (lambda: tool(artifact="a"), lambda m: setattr(m, "artifact", "b")),
    "artifact set": (lambda: tool(artifact={"a": {1}}), lambda m: m.artifact["a"].add(2)),
    "status": (tool, lambda m: setattr(m, "status", "error")),
    "tool call id": (tool, lambda m: setattr(m, "tool_call_id", "d")),
    "name": (human, lambda m: setattr(m, "name", "n")),
    "name gone": (lambda: human(name="n"), lambda m: setattr(m, "name", None)),
    "id": (human, lambda m: setattr(m, "id", "other")),
    "an extra field": (human, lambda m: setattr(m, "mood", "calm")),
    "an extra field, nested": (lambda: human(mood={"a": [1]}), lambda m: m.mood["a"].append(2)),
    "dict": (lambda: {"a": {"b": [1]}}, lambda d: d["a"]["b"].append(2)),
    "dict type": (lambda: {"a": 1}, lambda d: d.update(a=True)),
    "dict order": (lambda: {"a": 1, "b": 2}, swapped),
    "list": (lambda: [[1, [2]]], lambda v: v[0][1].append(3)),
    "set": (lambda: {1, 2}, lambda s: s.add(3)),
    "dataclass": (lambda: Point([1], {"y": human()}), lambda p: setattr(p.y["y"], "content", "changed")),
    "message in a dict": (lambda: {"m": human()}, lambda d: setattr(d["m"], "content", "changed")),
    "message in a list in a list": (lambda: [human()], lambda v: setattr(v[0], "content", "changed")),
}

AROUND = 33
"""Messages on either side of one that is edited: what a saver remembers of a long list may come in pieces."""

PLACES: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "alone in a list": (lambda value: [value], lambda held: held[0]),
    "among many": (lambda value: [*many("before"), value, *many("after")], lambda held: held[AROUND]),
    "a channel": (lambda value: value, lambda held: held),
    "in a dict": (lambda value: {"in": [value]}, lambda held: held["in"][0]),
}
"""How a channel holds a value, and where the value is in it."""


def many(name: str) -> list[Any]:
    kinds = (HumanMessage, AIMessage)
    return [kinds[number % 2](f"{name} {number}", id=f"{name} {number}") for number in range(AROUND)]


def official_form(values: Any) -> Any:
    """The form of what LangGraph's serializer gives back for `values`."""
    serde = JsonPlusSerializer()
    return form(serde.loads_typed(serde.dumps_typed(values)))


@pytest.fixture
def place() -> str:
    """Memory is enough: nothing of what is remembered depends on where the database is."""
    return ":memory:"


@pytest.mark.sampled(8)
@pytest.mark.parametrize(("versioned", "read_first"), [(True, False), (False, False), (False, True)])
@pytest.mark.parametrize("name", EDITS)
def test_an_edit_in_place(face: Face, name: str, versioned: bool, read_first: bool) -> None:
    """An edit of a value that was put, or read, is stored by the next put, with a new version of its channel or not."""
    make, edit = EDITS[name]
    values = {where: hold(make()) for where, (hold, _) in PLACES.items()}
    old = official_form(values)
    first = face.put(face.put(thread(), checkpoint(**values)), checkpoint(**values))
    if read_first:
        values = face.values(thread())
    for where, (_, held_in) in PLACES.items():
        edit(held_in(values[where]))
    new = official_form(values)
    assert all(now != before for now, before in zip(new[1], old[1], strict=True))
    second = face.put(first, checkpoint(**values), None, None if versioned else {})
    assert form(face.values(second)) == new
    assert form(face.values(first)) == old
    assert [form(found.checkpoint["channel_values"]) for found in face.list(thread())] == [new, old, old]


@pytest.mark.parametrize("name", ["content", "kwargs to True", "tool call args deep", "content block", "dict order"])
def test_an_edit_of_a_pending_write(face: Face, name: str) -> None:
    """A value that was stored as a write, and changed in place before it is put, is stored as it is then."""
    make, edit = EDITS[name]
    target = make()
    first = face.put(thread(), checkpoint(channel=[]))
    face.put_writes(first, [("channel", [target]), ("single", target)], "task")
    old = official_form({"channel": [target]})
    edit(target)
    second = face.put(first, checkpoint(channel=[target], single=target))
    assert form(face.values(second)) == official_form({"channel": [target], "single": target}) != old
    found = face.get_tuple(first)
    assert found is not None
    assert found.pending_writes is not None
    assert form({"channel": found.pending_writes[0][2]}) == old


def test_an_edit_and_back(face: Face) -> None:
    """A value that is edited and edited back is, at each checkpoint, what it was then."""
    message = human(additional_kwargs={"a": 1})
    config = thread()
    said = [*many("before"), message]
    configs = []
    for value in (1, True, 1, 1.0, 1, 2, 1):
        message.additional_kwargs["a"] = value
        config = face.put(config, checkpoint(messages=said))
        configs.append((config, value))
    for config, value in configs:
        assert form(face.messages(config)[-1].additional_kwargs["a"]) == form(value)


def test_an_edit_by_another_thread_of_the_same_objects(face: Face) -> None:
    """Objects that two conversations have in common are stored in each as they were when it was put."""
    message = human()
    first = face.put(thread("t"), checkpoint(messages=[message]))
    message.content = "changed"
    other = face.put(thread("u"), checkpoint(messages=[message]))
    again = face.put(first, checkpoint(messages=[message]))
    assert [face.messages(config)[0].content for config in (first, other, again)] == ["asked", "changed", "changed"]


# -- whole lists -------------------------------------------------------------------------------------------------


def texts(number: int) -> list[Any]:
    return [HumanMessage(f"message {index}", id=str(index)) for index in range(number)]


LIST_EDITS: dict[str, Callable[[list[Any]], Any]] = {
    "append": lambda said: said.append(human()),
    "append many": lambda said: said.extend(texts(100)),
    "insert first": lambda said: said.insert(0, human()),
    "insert in the middle": lambda said: said.insert(len(said) // 2, human()),
    "remove first": lambda said: said.pop(0),
    "remove last": lambda said: said.pop(),
    "remove in the middle": lambda said: said.pop(len(said) // 2),
    "remove many": lambda said: said.__delitem__(slice(1, -1)),
    "keep the end": lambda said: said.__delitem__(slice(0, -2)),
    "replace first": lambda said: said.__setitem__(0, human()),
    "replace in the middle": lambda said: said.__setitem__(len(said) // 2, human()),
    "replace all": lambda said: said.__setitem__(slice(None), texts(3)[::-1]),
    "replace with other types": lambda said: said.__setitem__(slice(None), [1, "1", None, human()]),
    "reverse": lambda said: said.reverse(),
    "swap": lambda said: said.__setitem__(slice(0, 2), said[1::-1]),
    "rotate": lambda said: said.append(said.pop(0)),
    "repeat": lambda said: said.extend(said[:3]),
    "double the last": lambda said: said.append(said[-1]),
    "empty": lambda said: said.clear(),
    "nothing": lambda said: None,
    "summary": lambda said: said.__setitem__(slice(0, -1), [human("summary")]),
}


@pytest.mark.parametrize("length", [3, 70])
@pytest.mark.parametrize("name", LIST_EDITS)
def test_an_edit_of_a_list(face: Face, name: str, length: int) -> None:
    """A list that was edited comes back as it is, the one before as it was, and it goes on from there."""
    for kind, said in {"messages": texts(length), "numbers": list(range(length)), "mixed": mixed(length)}.items():
        first = face.put(face.put(thread(kind), checkpoint(said=said)), checkpoint(said=said))
        old = form(said)
        LIST_EDITS[name](said)
        second = face.put(first, checkpoint(said=said))
        new = form(said)
        said.append(human("one more"))
        third = face.put(second, checkpoint(said=said))
        fork = face.put(first, checkpoint(said=said[-1:]))
        assert [form(face.values(config)["said"]) for config in (first, second, third)] == [old, new, form(said)]
        assert form(face.values(fork)["said"]) == form(said[-1:])


def mixed(number: int) -> list[Any]:
    """Elements of which some are too small to be stored by themselves, and some are not."""
    kinds: list[Callable[[int], Any]] = [
        lambda index: index,
        lambda index: HumanMessage(f"message {index}", id=str(index)),
        lambda index: "x" * index,
        lambda index: {"index": [index]},
        lambda index: None,
        lambda index: Point(index),
    ]
    return [kinds[index % len(kinds)](index) for index in range(number)]


ELEMENTS = st.one_of(
    st.integers(0, 3),
    st.booleans(),
    st.sampled_from([0.0, -0.0, 1.0, None, "", "a", "b" * 70, b"a"]),
    st.builds(lambda text: HumanMessage(text, id="h"), st.sampled_from(["", "a", "b" * 70])),
    st.builds(lambda text, x: ai(tool_calls=[call(x=x)], name=text), st.sampled_from([None, "n"]), st.integers(0, 2)),
    st.builds(lambda x: human([{"type": "text", "text": x}]), st.sampled_from(["a", "b"])),
    st.builds(lambda x: tool(artifact=x), st.sampled_from([None, 1, True, "a"])),
    st.builds(lambda x: [x], st.integers(0, 1)),
    st.builds(lambda x: {"k": x}, st.booleans()),
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("splice"), st.integers(0, 9), st.integers(0, 9), st.lists(ELEMENTS, max_size=4)),
        st.tuples(st.just("touch"), st.integers(0, 9), st.integers(0, 9), st.just(None)),
        st.tuples(st.just("read"), st.integers(0, 9), st.integers(0, 9), st.just(None)),
        st.tuples(st.just("fork"), st.integers(0, 9), st.integers(0, 9), st.just(None)),
    ),
    min_size=1,
    max_size=12,
)


def touch(value: Any, number: int) -> None:
    """Change something inside a value, if it has an inside."""
    if isinstance(value, HumanMessage) and isinstance(value.content, list):
        value.content.append(str(number))
    elif isinstance(value, AIMessage) and value.tool_calls:
        value.tool_calls[0]["args"]["x"] = [number, True, 1.0, None][number % 4]
    elif isinstance(value, AIMessage):
        value.additional_kwargs["touched"] = [number]
    elif isinstance(value, ToolMessage):
        value.artifact = [number]
    elif isinstance(value, HumanMessage):
        value.content = str(value.content) + str(number)
    elif isinstance(value, list):
        value.append(number)
    elif isinstance(value, dict):
        value["k"] = number


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(long=st.booleans(), start=st.lists(ELEMENTS, max_size=8), steps=STEPS)
def test_any_edits_of_a_list(loop: Any, long: bool, start: list[Any], steps: list[tuple[str, int, int, Any]]) -> None:
    """After any edits, in place and of the list, of what was put or read, each checkpoint has the list that was put."""
    with SqliteSaver(":memory:") as saver:
        face = Face(saver, loop)
        said = [*start, *(many("before") + many("after") if long else [])]
        configs = [face.put(thread(), checkpoint(said=said))]
        expected = [form(said)]
        for action, first, second, elements in steps:
            if action == "splice":
                low, high = sorted((first % (len(said) + 1), second % (len(said) + 1)))
                said[low:high] = elements
            elif action == "touch" and said:
                touch(said[first % len(said)], second)
            elif action == "read":
                said = face.values(configs[first % len(configs)])["said"]
            parent = configs[first % len(configs)] if action == "fork" else configs[-1]
            configs.append(face.put(parent, checkpoint(said=said)))
            expected.append(form(said))
        assert [form(face.values(config)["said"]) for config in configs] == expected
        listed = [form(found.checkpoint["channel_values"]["said"]) for found in face.list(thread())]
        assert listed == expected[::-1]


@pytest.mark.parametrize(
    "artifact", [([1, 2],), {"rows": [1, 2]}, bytearray(b"12")], ids=["tuple", "dict", "bytearray"]
)
def test_an_artifact_is_the_readers_own(artifact: Any, face: Face) -> None:
    """Whatever a tool left beside its result, a reader who changes it changes nobody else's, nor the putter's."""
    config = face.put(thread(), checkpoint(messages=[tool(artifact=artifact)]))
    before = repr(artifact)
    first, second = (face.values(config)["messages"][0].artifact for _ in range(2))
    inner = first["rows"] if isinstance(first, dict) else first[0] if isinstance(first, (tuple, list)) else None
    if isinstance(inner, list):
        inner.append(3)
    assert form(face.values(config)["messages"][0].artifact) == form(second)
    assert repr(artifact) == before


def test_an_edit_while_it_is_being_put(face: Face, monkeypatch: pytest.MonkeyPatch) -> None:
    """A message that is changed between the moment it is packed and the end of the put is stored by the next one."""
    message = human()
    original = Codec.streams

    def streams(self: Codec, *args: Any) -> list[bytes]:
        made = original(self, *args)
        message.content = "edited"
        return made

    monkeypatch.setattr(Codec, "streams", streams)
    config = face.put(thread(), checkpoint(messages=[message]))
    monkeypatch.undo()
    assert face.values(config)["messages"][0].content == "asked"
    config = face.put(config, checkpoint(messages=[message]))
    assert face.values(config)["messages"][0].content == "edited"
