"""LangGraph's own test kit has nothing to fail or skip, and a `DeltaChannel` has the history that it would find itself.

The kit only calls the async methods. The history of a delta channel is compared with `BaseCheckpointSaver`'s own walk,
which reads one checkpoint after the other through `get_tuple`, over graphs that really use such channels.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.channels.delta import DeltaChannel
from langgraph.checkpoint.base import BaseCheckpointSaver, DeltaChannelHistory
from langgraph.checkpoint.conformance import validate
from langgraph.checkpoint.conformance.initializer import RegisteredCheckpointer
from langgraph.graph import END, START, StateGraph
from langgraph.types import Overwrite

from tests.conftest import Face, saver_at, thread
from tests.graphs import Durability, Running
from tests.shapes import form

CAPABILITIES = (
    "put",
    "put_writes",
    "get_tuple",
    "list",
    "delete_thread",
    "delete_for_runs",
    "copy_thread",
    "prune",
)


@pytest.mark.parametrize("where", ["{}.db", ":memory:", "{} checkpoints"], ids=["file", "memory", "folder"])
async def test_every_capability_of_the_kit(where: str, tmp_path: Path) -> None:
    """Each of the eight capabilities is found, and every test of it passes."""
    numbers = itertools.count()

    async def savers() -> AsyncGenerator[BaseCheckpointSaver[str], None]:
        place = where.format(next(numbers))
        async with saver_at(place if place == ":memory:" else str(tmp_path / place)) as saver:
            yield saver

    report = await validate(RegisteredCheckpointer("saver", savers))
    found = {
        name: (result.detected, result.passed, result.tests_failed, result.tests_skipped, result.failures)
        for name, result in report.results.items()
    }
    assert found == dict.fromkeys(CAPABILITIES, (True, True, 0, 0, []))
    assert all(result.tests_passed > 0 for result in report.results.values())
    assert report.conformance_level() == "FULL"


# -- delta channels ----------------------------------------------------------------------------------------------


def extend(state: list[Any], writes: Sequence[list[Any]]) -> list[Any]:
    """A reducer for lists that does not mind in how many calls the writes come."""
    return [*state, *itertools.chain.from_iterable(writes)]


def merge(state: dict[str, Any], writes: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The same for dictionaries."""
    return dict(itertools.chain(state.items(), *(write.items() for write in writes)))


class State(TypedDict):
    log: Annotated[list[Any], DeltaChannel(extend, snapshot_frequency=3)]
    notes: Annotated[dict[str, Any], DeltaChannel(merge, snapshot_frequency=5)]
    rare: Annotated[list[Any], DeltaChannel(extend, snapshot_frequency=100)]
    plain: int


CHANNELS = ("log", "notes", "rare")


def compiled(saver: BaseCheckpointSaver[Any]) -> Any:
    """A graph of three supersteps, two of them in parallel, that write three delta channels at different rates."""

    def ask(state: State) -> dict[str, Any]:
        turn = state.get("plain", 0) + 1
        return {"log": [HumanMessage(f"question {turn}", id=f"q{turn}")], "plain": turn}

    def left(state: State) -> dict[str, Any]:
        return {"log": [{"left": state["plain"]}], "notes": {f"left {state['plain'] % 4}": state["plain"]}}

    def right(state: State) -> dict[str, Any]:
        if state["plain"] == 4:
            return {"log": [("right", 4)], "notes": Overwrite({"anew": 4})}
        rare = [state["plain"]] if state["plain"] % 3 == 0 else []
        return {"log": [f"right {state['plain']}"], "rare": rare}

    def answer(state: State) -> dict[str, Any]:
        return {"log": [AIMessage(f"{len(state['log'])} so far", id=f"a{state['plain']}")]}

    builder = StateGraph(State)
    for node in (ask, left, right, answer):
        builder.add_node(node)
    builder.add_edge(START, "ask")
    builder.add_edge("ask", "left")
    builder.add_edge("ask", "right")
    builder.add_edge(["left", "right"], "answer")
    builder.add_edge("answer", END)
    return builder.compile(checkpointer=saver)


def walked(face: Face, config: RunnableConfig) -> Mapping[str, DeltaChannelHistory]:
    """What LangGraph's own walk over `get_tuple` answers."""
    if face.loop is None:
        return BaseCheckpointSaver.get_delta_channel_history(face.saver, config=config, channels=CHANNELS)
    return face.run(BaseCheckpointSaver.aget_delta_channel_history(face.saver, config=config, channels=CHANNELS))


def agrees_everywhere(face: Face, thread_id: str = "thread") -> int:
    """Compare both histories at every checkpoint of the thread, and at its end; how many writes they told of."""
    found = face.list(thread(thread_id))
    configs = [found.config for found in found] + [thread(thread_id)]
    told = 0
    for config in configs:
        ours: Mapping[str, DeltaChannelHistory] = face.call(
            "get_delta_channel_history", config=config, channels=CHANNELS
        )
        assert form(ours) == form(walked(face, config)), config
        told += sum(len(history["writes"]) for history in ours.values())
    return told


def turns(running: Running, number: int, config: RunnableConfig | None = None) -> None:
    for _ in range(number):
        running.invoke({"notes": {"input": True}}, config)
        config = None


@pytest.fixture
def place() -> str:
    """Memory is enough: where the database is makes no difference to a walk."""
    return ":memory:"


@pytest.fixture(params=["async", "exit"])
def running(request: pytest.FixtureRequest, face: Face) -> Running:
    """The graph under the durability that stores every step, and the one that stores the last."""
    return Running(compiled(face.saver), face.loop, request.param)


def test_history_of_a_linear_thread(face: Face, running: Running) -> None:
    """At every checkpoint of a thread of seven turns the writes, their order and the seed are those of the walk."""
    turns(running, 7)
    assert agrees_everywhere(face) > 0
    state = running.state().values
    assert [part for part in state["log"] if isinstance(part, str)] == [f"right {turn}" for turn in (1, 2, 3, 5, 6, 7)]
    assert state["notes"] == {"anew": 4, "left 1": 5, "left 2": 6, "left 3": 7, "input": True}
    assert state["rare"] == [3, 6]


def test_history_of_a_forked_thread(face: Face, running: Running) -> None:
    """Forks by `update_state` and by an older checkpoint's id tell of their own ancestors only."""
    turns(running, 4)
    history = running.history()
    middle = history[len(history) // 2].config
    before = running.state(middle).values["log"]
    forked = running.update({"log": ["edited"]}, middle, as_node="ask")
    assert running.state(forked).values["log"] == [*before, "edited"]
    running.invoke(None, forked)
    turns(running, 2)
    running.invoke({"log": ["from the past"]}, history[1].config)
    assert agrees_everywhere(face) > 0
    log = running.state().values["log"]
    assert "from the past" in log
    assert "edited" not in log


@pytest.mark.parametrize("number", [1, 2, 4])
def test_prune_keeps_the_state(face: Face, running: Running, number: int) -> None:
    """The state after `keep_latest` is the one before it, what is left is told alike, and the thread goes on."""
    turns(running, number)
    before, stored = form(running.state().values), len(face.list(thread()))
    face.call("prune", ["thread"], strategy="keep_latest")
    assert form(running.state().values) == before
    assert len(face.list(thread())) <= stored
    agrees_everywhere(face)
    turns(running, 2)
    log = running.state().values["log"]
    assert [part.id for part in log if isinstance(part, AIMessage)] == [f"a{turn}" for turn in range(1, number + 3)]


def test_prune_of_a_fork_keeps_its_own_ancestors(face: Face, running: Running) -> None:
    """When the latest checkpoint is a fork, what stays is what it is rebuilt from, not what was put around it."""
    turns(running, 4)
    middle = running.history()[-2].config
    turns(running, 2)
    forked = running.update({"log": ["fork"], "rare": [1]}, middle, as_node="ask")
    before = form(running.state(forked).values)
    face.call("prune", ["thread"], strategy="keep_latest")
    assert form(running.state().values) == before
    agrees_everywhere(face)


def test_history_after_runs_were_deleted(face: Face, running: Running) -> None:
    """Where `delete_for_runs` took ancestors away, the history ends where the walk ends."""
    for number in range(6):
        running.invoke({"notes": {"run": number}}, {**running.config, "metadata": {"run_id": f"run-{number}"}})
    ids = {found.metadata.get("run_id") for found in face.list(thread())}
    assert ids >= {"run-1", "run-2"}
    stored = len(face.list(thread()))
    face.call("delete_for_runs", ["run-1", "run-2"])
    assert len(face.list(thread())) < stored
    assert agrees_everywhere(face) > 0


def test_history_of_a_copy(face: Face, running: Running) -> None:
    """A copied thread has the state and the histories of its source, and goes on by itself."""
    turns(running, 5)
    source = running.state().values
    face.call("copy_thread", "thread", "copy")
    copy = Running(running.graph, face.loop, running.durability, "copy")
    assert form(copy.state().values) == form(source)
    assert agrees_everywhere(face, "copy") > 0
    turns(copy, 2)
    assert agrees_everywhere(face, "copy") > agrees_everywhere(face)
    assert form(running.state().values) == form(source)


def test_history_of_what_is_not_there(face: Face) -> None:
    """No channels have no histories, and a thread or checkpoint that is not there has empty ones."""
    turns(Running(compiled(face.saver), face.loop), 1)
    assert face.call("get_delta_channel_history", config=thread(), channels=[]) == {}
    nothing: dict[str, Any] = {channel: {"writes": []} for channel in CHANNELS}
    for config in (thread("other"), thread(checkpoint_id="no such checkpoint"), thread(ns="no such namespace")):
        found = face.call("get_delta_channel_history", config=config, channels=CHANNELS)
        assert found == nothing == walked(face, config)


def updated(running: Running) -> None:
    turns(running, 3)
    running.update({"log": ["updated"]}, as_node="answer")


def from_the_past(running: Running) -> None:
    turns(running, 3)
    turns(running, 2, running.history()[0].config)


@pytest.mark.parametrize("act", [lambda running: turns(running, 6), updated, from_the_past])
def test_a_durability_changes_no_state(face: Face, act: Callable[[Running], None]) -> None:
    """The state of a delta graph is the same under `sync`, `async` and `exit`."""

    def state(durability: Durability) -> Any:
        running = Running(compiled(face.saver), face.loop, durability, durability)
        act(running)
        return form(running.state().values)

    assert state("sync") == state("async") == state("exit")
