"""What cannot be stored or asked for is refused with an error that says so, and leaves everything as it was."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from langchain_core.runnables import RunnableConfig

from langgraph_durable import DurableError, InvalidRequestError, SqliteSaver, UnserializableError
from tests.conftest import Face, checkpoint, thread
from tests.samples import Opaque


def test_metadata_that_cannot_be_stored(face: Face) -> None:
    """Metadata that no serializer takes is an error that says where, and nothing of the checkpoint is stored."""
    with pytest.raises(UnserializableError, match="metadata") as caught:
        face.put(thread(), checkpoint("a", value=1), {"step": 1, "deep": {"er": [Opaque()]}})
    assert caught.value.path == "['deep']['er'][0]"
    assert caught.value.type_name.endswith("Opaque")
    assert face.get_tuple(thread()) is None


def test_value_that_cannot_be_stored(face: Face) -> None:
    """A value that no serializer takes is an error that names its channel and place; the thread stays as it was."""
    saved = face.put(thread(), checkpoint("a", value=[1]))
    with pytest.raises(UnserializableError) as caught:
        face.put(saved, checkpoint("b", good="x" * 200, value=[1, {"lock": Opaque()}]))
    assert (caught.value.channel, caught.value.path) == ("value", "[1]['lock']")
    with pytest.raises(UnserializableError) as caught:
        face.put_writes(saved, [("good", "x" * 200), ("value", Opaque())], "task")
    assert caught.value.channel == "value"
    assert [(each.config, each.pending_writes) for each in face.list(thread())] == [(saved, [])]
    assert face.values(face.put(saved, checkpoint("b", value=[1, 2]))) == {"value": [1, 2]}


# -- calls that cannot mean anything -----------------------------------------------------------------------------


THREADLESS: list[RunnableConfig] = [
    {},
    {"configurable": {}},
    {"configurable": {"checkpoint_ns": "", "thread_id": None}},
]
CALLS_WITH_A_CONFIG: dict[str, Callable[[Face, RunnableConfig], Any]] = {
    "put": lambda face, config: face.put(config, checkpoint(a=1)),
    "put_writes": lambda face, config: face.put_writes(config, [("a", 1)], "task"),
    "get_tuple": lambda face, config: face.get_tuple(config),
    "list": lambda face, config: face.list(config),
    "history": lambda face, config: face.call("get_delta_channel_history", config=config, channels=["a"]),
}


@pytest.mark.parametrize("config", THREADLESS)
@pytest.mark.parametrize("name", CALLS_WITH_A_CONFIG)
def test_config_without_a_thread(face: Face, name: str, config: RunnableConfig) -> None:
    """A config without a thread is refused, by name of what is missing, as a ValueError too."""
    with pytest.raises(InvalidRequestError, match="thread_id") as caught:
        CALLS_WITH_A_CONFIG[name](face, config)
    assert isinstance(caught.value, ValueError)


def test_writes_without_a_checkpoint(face: Face) -> None:
    """Writes whose config names no checkpoint are refused."""
    face.put(thread(), checkpoint(a=1))
    with pytest.raises(InvalidRequestError, match="checkpoint"):
        face.put_writes(thread(), [("a", 1)], "task")


BAD = "a\ud800b"

PUTS_OF_NO_TEXT: dict[str, Callable[[Face, RunnableConfig], Any]] = {
    "thread": lambda face, saved: face.put(thread(BAD), checkpoint("a")),
    "namespace": lambda face, saved: face.put(thread(ns=BAD), checkpoint("a")),
    "checkpoint": lambda face, saved: face.put(saved, checkpoint(BAD)),
    "task": lambda face, saved: face.put_writes(saved, [("value", 2)], BAD),
    "task path": lambda face, saved: face.put_writes(saved, [("value", 2)], "task", BAD),
    "channel": lambda face, saved: face.put_writes(saved, [("value", 2), (BAD, 3)], "task"),
}


@pytest.mark.parametrize("name", PUTS_OF_NO_TEXT)
def test_names_that_are_no_text(face: Face, name: str) -> None:
    """A lone surrogate in a name is an error of this package's, and nothing of the call is stored."""
    saved = face.put(thread(), checkpoint("good", value=1))
    with pytest.raises(DurableError):
        PUTS_OF_NO_TEXT[name](face, saved)
    assert [(each.config, each.pending_writes) for each in face.list(None)] == [(saved, [])]


@pytest.mark.parametrize("name", ["get_tuple", "list", "delete_thread", "copy_thread", "prune"])
def test_asking_for_names_that_are_no_text(face: Face, name: str) -> None:
    """A thread whose name no database can hold is not there, or refused; never an error of the driver's."""
    calls: dict[str, Callable[[], Any]] = {
        "get_tuple": lambda: face.get_tuple(thread(BAD)),
        "list": lambda: face.list(thread(BAD)),
        "delete_thread": lambda: face.call("delete_thread", BAD),
        "copy_thread": lambda: face.call("copy_thread", BAD, "copy"),
        "prune": lambda: face.call("prune", [BAD]),
    }
    with suppress(DurableError):
        assert not calls[name]()


def test_a_refused_call_leaves_its_neighbours_alone(place: str) -> None:
    """Of calls that are stored together, one whose name is no text fails alone."""
    with SqliteSaver(place) as saver:

        async def together() -> list[Any]:
            names = [f"thread {number}" for number in range(20)] + [BAD]
            puts = [saver.aput(thread(name), checkpoint("a", value=name), {}, {}) for name in names]
            return list(await asyncio.gather(*puts, return_exceptions=True))

        outcomes: list[Any] = asyncio.run(together())
        assert [type(outcome) for outcome in outcomes[:-1]] == [dict] * 20
        assert isinstance(outcomes[-1], DurableError)
        assert len(list(saver.list(None))) == 20


@pytest.mark.parametrize("in_metadata", [False, True])
def test_what_is_nested_too_deeply(face: Face, in_metadata: bool) -> None:
    """A value that is nested deeper than can be stored is an error of this package's, in a channel and in metadata."""
    deep: list[Any] = []
    for _ in range(5000):
        deep = [deep]
    values, metadata = ({}, {"deep": deep}) if in_metadata else ({"deep": deep}, {})
    with pytest.raises(UnserializableError):
        face.put(thread(), checkpoint("a", **values), metadata)
    assert face.get_tuple(thread()) is None


@pytest.mark.parametrize("strategy", ["", "keep_all", "DELETE", None])
def test_unknown_way_to_prune(face: Face, strategy: Any) -> None:
    """`prune` refuses a strategy that it does not know, and says which there are."""
    face.put(face.put(thread(), checkpoint("a")), checkpoint("b"))
    with pytest.raises(InvalidRequestError, match=r"keep_latest.*delete"):
        face.call("prune", ["thread"], strategy=strategy)
    assert len(face.list(thread())) == 2


def test_text_in_the_place_of_thread_ids(face: Face) -> None:
    """`prune` refuses one id where it needs a list of them, instead of pruning a thread for each letter."""
    for thread_id in ("t", "h", "th"):
        face.put(thread(thread_id), checkpoint("a"))
    with pytest.raises(InvalidRequestError, match=r"\['th'\]"):
        face.call("prune", "th", strategy="delete")
    assert len(face.list(None)) == 3


def test_text_in_the_place_of_run_ids(face: Face) -> None:
    """`delete_for_runs` refuses one id where it needs a list of them."""
    face.put(thread(), checkpoint("a"), {"run_id": "r"})
    with pytest.raises(InvalidRequestError):
        face.call("delete_for_runs", "r")
    assert len(face.list(None)) == 1


@pytest.mark.parametrize("limit", [-1, -100])
def test_negative_limit(face: Face, limit: int) -> None:
    """`list` refuses a negative limit."""
    face.put(thread(), checkpoint("a"))
    with pytest.raises(InvalidRequestError, match="limit"):
        face.list(thread(), limit=limit)
