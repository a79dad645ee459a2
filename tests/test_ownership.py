"""What is read is the reader's own, and what was put is the writer's: changing either changes nothing stored.

Everything that can be changed is changed here, at every depth, and what is read next is compared to its last type.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import combinations
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import Checkpoint, CheckpointTuple
from langgraph.types import Interrupt

from tests.conftest import Face, checkpoint, saver_at, thread
from tests.samples import Point, messages, values
from tests.shapes import changeable, form, tuple_form, wreck

METADATA: dict[str, Any] = {"step": 1, "parents": {"": "x"}, "deep": [{"er": [1]}], "odd": {"set": {1}, 1: [2]}}


def rich(**more: Any) -> Checkpoint:
    """A checkpoint with some of everything, long lists of messages among it."""
    many = [message for number in range(40) for message in pair(number)]
    made = checkpoint(**values(), plain=[HumanMessage("one", id="p")], alike=[[], [], {}, {}], many=many, **more)
    made["versions_seen"] = {"__input__": {}, "node": {"messages": "1"}}
    made["updated_channels"] = ["messages"]
    return made


def pair(number: int) -> list[Any]:
    """A message without anything in it that can be changed, and one with it."""
    return [
        HumanMessage(f"q{number}", id=f"q{number}"),
        AIMessage(f"a{number}", id=f"a{number}", response_metadata={"n": {"number": [number]}}),
    ]


def filled(face: Face) -> list[RunnableConfig]:
    """Two checkpoints that share most of their values, with writes that share them too."""
    first = face.put(thread(), rich(), METADATA)
    second = face.put(first, rich(more=[1]), {**METADATA, "step": 2})
    for config in (first, second):
        face.put_writes(config, [*values().items(), ("messages", messages()[1])], "task", "~__pregel_pull, node")
        face.put_writes(config, [("__interrupt__", (Interrupt({"ask": [1]}, id="i"),))], "task")
    return [first, second]


Reader = Callable[[Face, list[RunnableConfig]], list[Any]]
READERS: dict[str, Reader] = {
    "get_tuple of the latest": lambda face, configs: [face.get_tuple(thread())],
    "get_tuple by its id": lambda face, configs: [face.get_tuple(configs[0])],
    "get": lambda face, configs: [face.call("get", thread())],
    "list": lambda face, configs: list(face.list(thread())),
    "list of all": lambda face, configs: list(face.list(None, limit=2)),
    "history": lambda face, configs: [
        face.call("get_delta_channel_history", config=configs[1], channels=["messages", "plain", "absent"])
    ],
}


def plainly(part: Any) -> Any:
    return tuple_form(part) if isinstance(part, CheckpointTuple) else form(part)


@pytest.mark.sampled(5)
@pytest.mark.parametrize("name", READERS)
def test_what_a_reader_does_to_it(face: Face, name: str) -> None:
    """Whatever a reader changes in what it got, everybody who reads later finds what was stored."""
    configs = filled(face)
    expected = {other: [plainly(part) for part in read(face, configs)] for other, read in READERS.items()}
    for _ in range(2):
        got = READERS[name](face, configs)
        assert wreck(got) > 20
        assert [plainly(part) for part in got] != expected[name]
        for other, read in READERS.items():
            assert [plainly(part) for part in read(face, configs)] == expected[other]


@pytest.mark.parametrize("name", READERS)
def test_what_a_reader_does_to_it_after_reopening(shared: str, open_face: Callable[..., Face], name: str) -> None:
    """The same holds for a saver that has stored nothing itself and only knows what it read."""
    configs = filled(open_face(shared))
    face = open_face(shared)
    expected = [plainly(part) for part in READERS[name](open_face(shared), configs)]
    for _ in range(3):
        got = READERS[name](face, configs)
        assert [plainly(part) for part in got] == expected
        wreck(got)


def test_what_a_writer_does_to_it_later(face: Face) -> None:
    """Whatever a writer changes in what it has put, the stored checkpoint, its metadata and its writes stay."""
    made, metadata = rich(), dict(METADATA, own=[[1]])
    config = face.put(thread(), made, metadata, {"messages": "2"})
    writes = [*values().items(), ("messages", messages()[1])]
    face.put_writes(config, writes, "task")
    expected = tuple_form(face.get_tuple(thread(checkpoint_id=made["id"])))
    wreck([config, made["channel_values"], made["versions_seen"], metadata["own"], writes])
    assert tuple_form(face.get_tuple(thread())) == expected
    assert [tuple_form(found) for found in face.list(thread())] == [expected]


def test_nobody_gets_what_the_writer_holds(face: Face) -> None:
    """No object that can be changed in what is read is one that the writer put."""
    made, metadata = rich(), dict(METADATA)
    mine = changeable([made, metadata])
    config = face.put(thread(), made, metadata)
    face.put_writes(config, list(made["channel_values"].items()), "task")
    for got in (face.get_tuple(thread()), face.get_tuple(config), face.list(thread())):
        assert len(changeable(got)) > 20
        assert not mine.keys() & changeable(got).keys()


def test_readers_share_nothing(face: Face) -> None:
    """Two tuples, of one `list` or of two calls, have no object in common that can be changed."""
    configs = filled(face)
    got = [*face.list(thread()), *face.list(thread()), face.get_tuple(thread()), face.get_tuple(configs[1])]
    parts = [changeable(each) for each in got]
    assert min(map(len, parts)) > 100
    for one, other in combinations(parts, 2):
        assert not one.keys() & other.keys()


def test_a_tuple_shares_nothing_with_itself(face: Face) -> None:
    """Values that were one object when they were put are stored values: changing one channel changes no other."""
    same: Any = {"x": [1]}
    message = HumanMessage("same", id="s", additional_kwargs={"x": [1]})
    point = Point([1], {"y": 2})
    config = face.put(
        thread(), checkpoint(a=[same, same], b=same, c=[message, message], d=message, e=[point, point], f=point)
    )
    face.put_writes(config, [("a", [same]), ("b", same), ("c", [message]), ("d", message), ("e", [point])], "task")
    for found in (face.get_tuple(config), *face.list(thread())):
        assert found is not None
        got = [*found.checkpoint["channel_values"].values(), *(value for _, _, value in found.pending_writes or ())]
        elements = [element for value in got for element in (value if isinstance(value, list) else [value])]
        for one, other in combinations(elements, 2):
            assert not changeable(one).keys() & changeable(other).keys()


def test_what_was_read_can_be_put_again(face: Face) -> None:
    """A reader may change what it got and put it: that is stored, and the checkpoint it came from stays."""
    configs = filled(face)
    before = tuple_form(face.get_tuple(configs[1]))
    got = face.get_tuple(configs[1])
    assert got is not None
    mine = got.checkpoint
    mine["id"] = "mine"
    mine["channel_values"]["messages"][1].additional_kwargs["deep"]["er"].append("mine")
    mine["channel_values"]["many"][79].response_metadata["n"]["number"].append("mine")
    mine["channel_values"]["many"][2].content = "mine"
    expected = form(mine["channel_values"])
    config = face.put(configs[1], mine, METADATA)
    assert form(face.values(config)) == expected
    assert tuple_form(face.get_tuple(configs[1])) == before


def test_copies_of_a_saver_hand_out_nothing_shared(place: str) -> None:
    """Two faces of one saver, a blocking one and one in a loop, hand out different objects too."""
    loop = asyncio.new_event_loop()
    try:
        with saver_at(place) as saver:
            blocking, awaiting = Face(saver, None), Face(saver, loop)
            filled(blocking)
            expected = tuple_form(blocking.get_tuple(thread()))
            wreck(awaiting.get_tuple(thread()))
            assert tuple_form(blocking.get_tuple(thread())) == expected
            wreck(blocking.get_tuple(thread()))
            assert tuple_form(awaiting.get_tuple(thread())) == expected
    finally:
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
