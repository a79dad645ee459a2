"""A thread costs what is new in it: an element is stored once, in whatever checkpoints, forks and namespaces it is.

The table of chunks is looked into directly: that it grows with what is new, and with nothing else, is the promise.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from itertools import pairwise
from typing import Any

import pytest
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.graph import END, START, MessagesState, StateGraph

from tests.conftest import Face, checkpoint, thread
from tests.graphs import Running
from tests.shapes import form

Opener = Callable[..., Face]
SERIALIZERS: dict[str, Callable[[], Any]] = {
    "the usual": lambda: None,
    "one's own": JsonPlusSerializer,
    "encrypting": lambda: EncryptedSerializer.from_pycryptodome_aes(key=b"0123456789abcdef"),
}


@pytest.fixture(params=SERIALIZERS)
def face(request: pytest.FixtureRequest, path: str, open_face: Opener) -> Face:
    """A saver over a file, with and without a serializer of the user's: all of this holds for each."""
    return open_face(path, serde=SERIALIZERS[request.param]())


def count(path: str, table: str = "durable_chunks") -> int:
    with closing(sqlite3.connect(path)) as connection:
        found: int = connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
        return found


def size(path: str) -> int:
    """The bytes of all that is stored of checkpoints and their values."""
    columns = {
        "durable_checkpoints": "coalesce(length(head), 0) + coalesce(length(parts), 0) + length(metadata)",
        "durable_writes": "length(entries)",
        "durable_chunks": "length(data)",
        "durable_elements": "16",
    }
    with closing(sqlite3.connect(path)) as connection:
        return sum(
            connection.execute(f"SELECT coalesce(sum({length}), 0) FROM {table}").fetchone()[0]
            for table, length in columns.items()
        )


def said(number: int, name: str = "m") -> list[Any]:
    """Messages that are large enough to be stored by themselves, of three kinds."""
    text = "x" * 100
    kinds: list[Callable[[str], Any]] = [
        lambda key: HumanMessage(f"{key} {text}", id=key),
        lambda key: AIMessage(f"{key} {text}", id=key, response_metadata={"model": {"name": key}}),
        lambda key: ToolMessage(f"{key} {text}", id=key, tool_call_id=f"call {key}", artifact={"rows": [key]}),
    ]
    return [kinds[place % 3](f"{name}{place}") for place in range(number)]


def test_an_element_is_stored_once(path: str, face: Face) -> None:
    """A conversation of sixty messages in sixty checkpoints, with its writes, is sixty chunks."""
    config = thread()
    messages: list[Any] = []
    for message in said(60):
        face.put_writes(face.put(config, checkpoint(messages=messages)), [("messages", [message])], "task")
        messages.append(message)
        config = face.put(config, checkpoint(messages=messages))
        assert count(path) == len(messages)
    assert [message.id for message in face.messages(thread())] == [f"m{place}" for place in range(60)]


def test_a_longer_conversation_costs_no_more_by_the_turn(path: str, face: Face) -> None:
    """The third fifty turns take the bytes of the first fifty, give or take a tenth."""
    config = thread()
    messages: list[Any] = []
    sizes = [size(path)]
    for place, message in enumerate(said(150), 1):
        if place > 1:
            face.put_writes(config, [("messages", [message])], "task")
        messages.append(message)
        config = face.put(config, checkpoint(messages=messages))
        if place % 50 == 0:
            sizes.append(size(path))
    first, _, third = (later - earlier for earlier, later in pairwise(sizes))
    assert third < first * 1.1


EDITS: dict[str, tuple[Callable[[list[Any]], Any], int]] = {
    "nothing": (lambda messages: None, 0),
    "append": (lambda messages: messages.append(said(1, "new")[0]), 1),
    "append three": (lambda messages: messages.extend(said(3, "new")), 3),
    "insert": (lambda messages: messages.insert(5, said(1, "new")[0]), 1),
    "edit the first": (lambda messages: setattr(messages[0], "content", "changed " * 20), 1),
    "edit one in the middle": (lambda messages: setattr(messages[10], "content", "changed " * 20), 1),
    "replace one in the middle": (lambda messages: messages.__setitem__(10, said(1, "new")[0]), 1),
    "replace two": (lambda messages: messages.__setitem__(slice(3, 17, 13), said(2, "new")), 2),
    "remove the first": (lambda messages: messages.pop(0), 0),
    "remove one in the middle": (lambda messages: messages.pop(10), 0),
    "remove the last": (lambda messages: messages.pop(), 0),
    "reverse": (lambda messages: messages.reverse(), 0),
    "rotate": (lambda messages: messages.append(messages.pop(0)), 0),
    "repeat": (lambda messages: messages.extend(messages[:5]), 0),
    "empty": (lambda messages: messages.clear(), 0),
    "summarize": (lambda messages: messages.__setitem__(slice(0, 15), said(1, "summary")), 1),
}


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_costs_what_is_new(path: str, face: Face, name: str) -> None:
    """After an edit of a list of twenty only new elements are stored, and going back to an older list stores none."""
    edit, new = EDITS[name]
    messages = said(20)
    first = face.put(thread(), checkpoint(messages=messages))
    before = form(messages)
    assert count(path) == 20
    edit(messages)
    second = face.put(first, checkpoint(messages=messages))
    assert count(path) == 20 + new
    face.put(second, checkpoint(messages=said(20)))
    assert count(path) == 20 + new
    assert form(face.messages(thread())) == before
    assert form(face.messages(second)) == form(messages)


def test_forks_share(path: str, face: Face) -> None:
    """A fork costs what it adds, also by a saver that has never seen the thread."""
    messages = said(20)
    configs = [face.put(thread(), checkpoint(messages=messages[:10]))]
    for stop in range(11, 21):
        configs.append(face.put(configs[-1], checkpoint(messages=messages[:stop])))
    for place, config in enumerate(configs):
        face.put(config, checkpoint(messages=[*messages[: 10 + place], said(1, f"fork {place} ")[0]]))
    assert count(path) == 20 + len(configs)
    face.put(configs[3], checkpoint(messages=messages[:14]))
    assert count(path) == 20 + len(configs)


def test_a_saver_that_has_forgotten_shares(path: str, open_face: Opener) -> None:
    """A process that opens the database continues and forks a thread without storing again what is there."""
    messages = said(20)
    first = open_face(path).put(thread(), checkpoint(messages=messages))
    second = open_face(path).put(first, checkpoint(messages=[*messages, *said(1, "a")]))
    open_face(path).put(first, checkpoint(messages=[*messages, *said(1, "b")]))
    later = open_face(path)
    read = later.messages(second)
    later.put(second, checkpoint(messages=[*read, *said(1, "c")]))
    later.put_writes(second, [("messages", read[:3]), ("other", read)], "task")
    assert count(path) == 23


def test_namespaces_and_channels_share(path: str, face: Face) -> None:
    """The same messages in another namespace or another channel of the thread are not stored again."""
    messages = said(20)
    face.put(thread(), checkpoint(messages=messages))
    face.put(thread(ns="inner:1"), checkpoint(messages=messages, seen=messages[::-1]))
    face.put(thread(ns="inner:2|deep:3"), checkpoint(history=messages[:7], last=messages[-1]))
    assert count(path) == 20
    assert form(face.values(thread(ns="inner:1"))["seen"]) == form(messages[::-1])
    assert form(face.values(thread(ns="inner:2|deep:3"))["last"]) == form(messages[-1])


def test_threads_do_not_share(path: str, face: Face) -> None:
    """Each thread has all of its own: one can go without a look at the others."""
    messages = said(5)
    for name in ("t", "u"):
        face.put(thread(name), checkpoint(messages=messages))
    assert count(path) == 10
    face.call("copy_thread", "t", "v")
    assert count(path) == 15
    face.call("delete_thread", "t")
    assert count(path) == 10
    assert form(face.messages(thread("v"))) == form(face.messages(thread("u"))) == form(messages)


@pytest.mark.parametrize("as_list", [True, False])
def test_a_write_shares_with_the_channel_that_takes_it(path: str, face: Face, as_list: bool) -> None:
    """A message that comes as a pending write is not stored again in the channel, nor is one written by two tasks."""
    messages = said(3)
    first = face.put(thread(), checkpoint(messages=messages))
    new = said(2, "new")
    writes: Sequence[tuple[str, Any]] = [("messages", new)] if as_list else [("messages", message) for message in new]
    face.put_writes(first, writes, "task")
    face.put_writes(first, writes, "same from another")
    assert count(path) == 5
    face.put(first, checkpoint(messages=[*messages, *new]))
    assert count(path) == 5
    found = face.get_tuple(first)
    assert found is not None
    assert form([(channel, value) for _, channel, value in found.pending_writes or ()]) == form([*writes, *writes])
    assert form(face.messages(thread())) == form([*messages, *new])


def test_values_that_do_not_change_are_stored_once(path: str, face: Face) -> None:
    """A value that is no list is stored again only when it differs, and once more when it returns."""
    config = thread()
    for text in ("a" * 500, "a" * 500, "b" * 500, "a" * 500, "b" * 500):
        config = face.put(config, checkpoint(text=text, settings={"limit": 3, "words": ["w" * 50] * 4}))
    assert count(path) == 3


def test_small_elements_share_a_chunk(path: str, face: Face) -> None:
    """A thousand numbers are a few chunks, and growing by one number at a time does not store them all again."""
    numbers = list(range(1000))
    config = face.put(thread(), checkpoint(numbers=numbers))
    assert count(path) < 20
    before = size(path)
    for number in range(50):
        numbers.append(number)
        config = face.put(config, checkpoint(numbers=numbers))
    assert size(path) - before < 50 * 500
    assert face.values(thread())["numbers"] == numbers


def agent(saver: Any) -> Any:
    """A graph of two nodes whose messages grow by three a turn."""

    def think(state: MessagesState) -> dict[str, list[AnyMessage]]:
        number = len(state["messages"])
        return {"messages": [AIMessage("thinking " * 20, id=f"{number}")]}

    def act(state: MessagesState) -> dict[str, list[AnyMessage]]:
        number = len(state["messages"])
        return {"messages": [ToolMessage("acting " * 20, id=f"{number}", tool_call_id="c")]}

    builder = StateGraph(MessagesState)
    builder.add_node(think)
    builder.add_node(act)
    builder.add_edge(START, "think")
    builder.add_edge("think", "act")
    builder.add_edge("act", END)
    return builder.compile(checkpointer=saver)


def test_a_graph_stores_its_messages_once(path: str, face: Face) -> None:
    """A real graph of many turns stores a chunk for each message, and the input of each turn once besides."""
    running = Running(agent(face.saver), face.loop, "sync")
    turns = 20
    for turn in range(turns):
        running.invoke({"messages": [HumanMessage(f"turn {turn} " + "x" * 100, id=f"turn {turn}")]})
    assert len(running.state().values["messages"]) == 3 * turns
    # All of the input is a value of the channel `__start__` as well.
    assert count(path) == 4 * turns
    assert count(path, "durable_checkpoints") == 4 * turns


def test_what_a_reader_takes_along_is_not_stored(path: str, face: Face) -> None:
    """Reading, listing, looking for histories and putting the same again stores no value."""
    config: RunnableConfig = thread()
    for stop in range(5):
        config = face.put(config, checkpoint(messages=said(stop)))
    before = count(path), count(path, "durable_checkpoints"), count(path, "durable_elements")
    face.get_tuple(thread())
    face.list(None)
    face.call("get_delta_channel_history", config=thread(), channels=["messages"])
    assert (count(path), count(path, "durable_checkpoints"), count(path, "durable_elements")) == before
    face.put(config, checkpoint(messages=face.messages(thread())))
    assert (count(path), count(path, "durable_elements")) == (before[0], before[2])
