"""What a thread tells of runs that failed, that were refused, and that `recover` gave up on."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from operator import add
from typing import Annotated, Any, TypeAlias

import pytest
from langgraph.graph import START, StateGraph
from langgraph.types import Send, interrupt
from typing_extensions import TypedDict

from langgraph_durable import InvalidRequestError, NothingToResumeError, SqliteSaver, ThreadInfo, durable
from langgraph_durable.runs import DurableGraph
from tests.conftest import thread
from tests.processes import PATIENCE

Loop: TypeAlias = asyncio.AbstractEventLoop | None


class State(TypedDict, total=False):
    """What the nodes say."""

    log: Annotated[list[str], add]


class Told:
    """A durable graph over a saver in memory, called in the form of `loop`."""

    def __init__(self, saver: SqliteSaver, loop: Loop) -> None:
        self.saver = saver
        self.loop = loop

    def graph(self, *supersteps: dict[str, Callable[[Any], Any]]) -> DurableGraph:
        """Supersteps one after the other, each of nodes by name."""
        builder: StateGraph[Any, Any, Any, Any] = StateGraph(State)
        before = [START]
        for nodes in supersteps:
            for name, node in nodes.items():
                builder.add_node(name, self.form(node))
                builder.add_edge(before if len(before) > 1 else before[0], name)
            before = list(nodes)
        return durable(builder.compile(checkpointer=self.saver))

    def call(self, app: DurableGraph, method: str, *args: Any, **kwargs: Any) -> Any:
        """What a method of the graph returns, or its twin for coroutines."""
        if self.loop is None:
            return getattr(app, method)(*args, **kwargs)
        return self.loop.run_until_complete(getattr(app, f"a{method}")(*args, **kwargs))

    def info(self) -> ThreadInfo:
        """How the thread stands."""
        info = self.saver.get_thread("thread")
        assert info is not None
        return info

    def form(self, node: Callable[[Any], Any]) -> Any:
        async def awaited(state: State) -> Any:
            return node(state)

        return node if self.loop is None else awaited


@pytest.fixture
def told(loop: Loop) -> Iterator[Told]:
    """Threads in memory, in both forms."""
    with SqliteSaver(":memory:") as saver:
        yield Told(saver, loop)


def says(text: str) -> Callable[[Any], Any]:
    """A node that says something."""
    return lambda state: {"log": [text]}


def fails(times: int = 1) -> Callable[[Any], Any]:
    """A node that raises, so many times."""
    left = [times]

    def node(state: State) -> Any:
        left[0] -= 1
        if left[0] >= 0:
            raise ZeroDivisionError(f"{left[0]} left")
        return {"log": ["done"]}

    return node


def asks(state: State) -> Any:
    """A node that asks."""
    return {"log": [interrupt("well?")]}


@pytest.mark.parametrize("name", ["a", "z"])
def test_a_neighbour_that_asks_hides_no_failure(name: str, told: Told) -> None:
    """Where one node failed and another one asked, in either order, the node that failed is told, with its error."""
    app = told.graph({name: fails(), "m": asks})
    with pytest.raises(ZeroDivisionError):
        told.call(app, "invoke", {"log": []}, thread())
    info = told.info()
    assert (info.status, info.reason, info.nodes) == ("error", "exception", (name,))
    assert info.error is not None
    assert (info.error.type, info.error.nodes) == ("ZeroDivisionError", (name,))
    told.call(app, "resume", "thread")
    assert (told.info().status, told.info().nodes) == ("interrupted", ("m",))


def test_who_was_answered_is_not_told(told: Told) -> None:
    """Of two nodes that asked, the one that was answered does not wait any more."""
    app = told.graph({"a": asks, "b": asks})
    answers = told.call(app, "invoke", {"log": []}, thread())["__interrupt__"]
    assert set(told.info().nodes) == {"a", "b"}
    told.call(app, "resume", "thread", resume={answers[0].id: "yes"})
    (left,) = told.info().nodes
    assert (told.info().status, told.info().reason) == ("interrupted", "node")
    assert {task.name for task in app.get_state(thread()).tasks if task.interrupts} == {left}


def test_who_failed_earlier_is_not_told(told: Told) -> None:
    """A run names the nodes that failed in it, and not those that failed before and have finished since."""
    second = [False]

    def late(state: State) -> Any:
        if second[0]:
            raise ValueError("late")
        return {"log": [interrupt("well?")]}

    app = told.graph({"a": fails(), "b": late})
    with pytest.raises(ZeroDivisionError):
        told.call(app, "invoke", {"log": []}, thread(), max_concurrency=1)
    second[0] = True
    with pytest.raises(ValueError, match="late"):
        told.call(app, "resume", "thread")
    error = told.info().error
    assert error is not None
    assert (error.type, error.nodes) == ("ValueError", ("b",))


def test_a_refused_call_changes_nothing(told: Told) -> None:
    """A thread that has nothing to resume, or needs an answer, stands as before when it was asked to resume."""
    app = told.graph({"a": says("a")}, {"b": asks})
    told.call(app, "invoke", {"log": []}, thread())
    before = told.info()
    with pytest.raises(InvalidRequestError, match="waits for an answer"):
        told.call(app, "resume", "thread")
    assert told.info() == before
    told.call(app, "resume", "thread", resume="fine")
    before = told.info()
    assert before.status == "idle"
    for answer in ({}, {"resume": "again"}):
        with pytest.raises(NothingToResumeError):
            told.call(app, "resume", "thread", **answer)
        assert told.info() == before


def test_a_refused_input_does_not_hide_the_failure(told: Told) -> None:
    """New input that `on_crash="fail"` refuses leaves the error that the thread has."""
    app = told.graph({"a": fails()})
    with pytest.raises(ZeroDivisionError):
        told.call(app, "invoke", {"log": []}, thread())
    before = told.info()
    with pytest.raises(InvalidRequestError, match="not finished"):
        told.call(durable(app, on_crash="fail"), "invoke", {"log": ["more"]}, thread())
    assert told.info() == before


def test_who_gives_up_tells_why(told: Told) -> None:
    """A thread that fails at one place time and again is given up, and keeps the error that it failed with."""
    app = durable(told.graph({"a": fails(9)}), max_recoveries=2)
    with pytest.raises(ZeroDivisionError):
        told.call(app, "invoke", {"log": []}, thread())
    (recovered,) = told.call(app, "recover", errors=True, backoff_seconds=0)
    assert (recovered.status, recovered.attempts) == ("error", 2)
    info = told.info()
    assert (info.status, info.reason, info.nodes) == ("error", "gave up", ("a",))
    assert info.error is not None
    assert (info.error.type, info.error.message) == ("ZeroDivisionError", "6 left")


def test_progress_is_not_given_up(told: Told) -> None:
    """A thread that fails at one place after the other is run on, and not given up as long as it gets further."""
    app = durable(told.graph(*({f"n{number}": fails()} for number in range(6))), max_recoveries=2)
    with pytest.raises(ZeroDivisionError):
        told.call(app, "invoke", {"log": []}, thread())
    statuses = []
    while told.info().status != "idle":
        (recovered,) = told.call(app, "recover", errors=True, backoff_seconds=0)
        statuses.append((recovered.status, told.info().reason))
    assert statuses == [("error", "exception"), ("idle", "")]


class Late(SqliteSaver):
    """A saver whose checkpoint of step 0 comes after the failure of a task of it."""

    failed: threading.Event

    def put(self, config: Any, checkpoint: Any, metadata: Any, new_versions: Any) -> Any:
        if metadata["step"] == 0:
            assert self.failed.wait(PATIENCE)
        return super().put(config, checkpoint, metadata, new_versions)

    async def aput(self, config: Any, checkpoint: Any, metadata: Any, new_versions: Any) -> Any:
        if metadata["step"] == 0:
            assert await asyncio.to_thread(self.failed.wait, PATIENCE)
        return await super().aput(config, checkpoint, metadata, new_versions)

    def put_writes(self, config: Any, writes: Any, task_id: str, task_path: str = "") -> None:
        super().put_writes(config, writes, task_id, task_path)
        self._look(writes)

    async def aput_writes(self, config: Any, writes: Any, task_id: str, task_path: str = "") -> None:
        await super().aput_writes(config, writes, task_id, task_path)
        self._look(writes)

    def _look(self, writes: Any) -> None:
        if any(channel == "__error__" for channel, _ in writes):
            self.failed.set()


def test_a_packet_that_fails_before_its_checkpoint_is_stored(loop: Loop) -> None:
    """With `durability="async"` the node of a packet is told, though the failure came before what says whose it was."""
    with Late(":memory:") as saver:
        saver.failed = threading.Event()
        told = Told(saver, loop)
        builder: StateGraph[Any, Any, Any, Any] = StateGraph(State)
        for name, node in (("packet", fails()), ("other", says("other"))):
            builder.add_node(name, told.form(node))
        builder.add_conditional_edges(START, lambda state: [Send("packet", state), "other"], ["packet", "other"])
        app = durable(builder.compile(checkpointer=saver))
        with pytest.raises(ZeroDivisionError):
            told.call(app, "invoke", {"log": []}, thread(), durability="async")
        info = told.info()
        assert (info.status, info.nodes) == ("error", ("packet",))
