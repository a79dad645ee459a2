"""A checkpoint does not overtake the writes of the superstep that it ends, and never waits for ever.

LangGraph hands `put_writes` and the next `put` to a pool of threads. When the process dies after a `put` that came
first, a finished node runs again (https://github.com/langchain-ai/langgraph/issues/8039). How long a `put` waits at
most is set here, so that nothing depends on how fast the machine is: for ever where it has to wait, and hardly at all
where what it waits for never comes.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import Checkpoint, CheckpointTuple
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.graph import START, StateGraph
from langgraph.types import Send

from langgraph_durable import SqliteSaver, UnserializableError
from tests.conftest import Face, checkpoint, saver_at, thread
from tests.graphs import Running
from tests.samples import Opaque
from tests.scenarios import State

LONG = 60.0
"""Seconds that nobody comes near: a test that takes this long has failed."""

GLANCE = 0.1
"""Seconds for which something is seen not to happen."""


def pull(node: str) -> str:
    return f"~__pregel_pull, {node}"


def push(number: int) -> str:
    return f"~__pregel_push, {number:010}"


def set_bound(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """How long a `put` waits at most."""
    monkeypatch.setattr("langgraph_durable.arrivals.SECONDS", seconds)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    set_bound(monkeypatch, LONG)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    set_bound(monkeypatch, 0.01)


class Background:
    """A call in a thread of its own, in a loop of its own where the face has one."""

    def __init__(self, face: Face, act: Callable[[Face], Any]) -> None:
        self._face = face
        self._act = act
        self._answer: Any = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        loop = None if self._face.loop is None else asyncio.new_event_loop()
        try:
            self._answer = self._act(Face(self._face.saver, loop))
        except BaseException as error:  # noqa: BLE001  it is raised again where the answer is asked for
            self._error = error
        finally:
            if loop is not None:
                loop.run_until_complete(loop.shutdown_default_executor())
                loop.close()

    def waits(self) -> bool:
        """Whether it has not come back after a glance."""
        self._thread.join(GLANCE)
        return self._thread.is_alive()

    def answer(self) -> Any:
        """What it came back with."""
        self._thread.join(LONG / 2)
        assert not self._thread.is_alive(), "it still waits"
        if self._error is not None:
            raise self._error
        return self._answer


def begin(
    face: Face, *, sends: int = 0, seen: dict[str, Any] | None = None, thread_id: str = "thread"
) -> RunnableConfig:
    """A checkpoint after which a superstep runs, with packets waiting."""
    values: dict[str, Any] = {"log": ["begun"]}
    if sends:
        values["__pregel_tasks"] = [Send("work", number) for number in range(sends)]
    made = checkpoint(**values)
    made["versions_seen"] = seen or {"__input__": {}}
    return face.put(thread(thread_id), made, {"source": "input", "step": -1, "parents": {}})


def ending(*nodes: str, seen: dict[str, Any] | None = None) -> Checkpoint:
    """The checkpoint at the end of a superstep in which these nodes ran."""
    made = checkpoint(log=["ended"])
    made["versions_seen"] = {"__input__": {}, **(seen or {}), **{node: {f"branch:to:{node}": "2"} for node in nodes}}
    return made


def end(config: RunnableConfig, made: Checkpoint, step: int = 0, source: str = "loop") -> Callable[[Face], Any]:
    """A call that puts the checkpoint, and answers whose writes were there by then."""

    def act(face: Face) -> Any:
        face.put(config, made, {"source": source, "step": step, "parents": {}})
        found = face.get_tuple(config)
        assert found is not None
        return sorted(task for task, _, _ in found.pending_writes or ())

    return act


# -- waiting -----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("patient")
def test_a_put_waits_for_the_writes_of_a_node(face: Face) -> None:
    """A checkpoint that ends a superstep is stored after the writes of the node that ran in it."""
    config = begin(face)
    put = Background(face, end(config, ending("a")))
    assert put.waits()
    assert [found.config for found in face.list(thread())] == [config]
    face.put_writes(config, [("log", ["by a"])], "task a", pull("a"))
    assert put.answer() == ["task a"]


@pytest.mark.usefixtures("patient")
def test_a_put_waits_for_every_node(face: Face) -> None:
    """When several nodes ran, the writes of some of them, or of others, are not enough."""
    config = begin(face)
    put = Background(face, end(config, ending("a", "b", "c")))
    for name in ("b", "another", "a"):
        face.put_writes(config, [("log", [name])], f"task {name}", pull(name))
    assert put.waits()
    face.put_writes(config, [("log", ["c"])], "task c", pull("c"))
    assert put.answer() == ["task a", "task another", "task b", "task c"]


@pytest.mark.usefixtures("patient")
def test_a_put_waits_for_packets(face: Face) -> None:
    """Tasks that were sent are counted: as many have to have written as were waiting, each counted once."""
    config = begin(face, sends=3)
    put = Background(face, end(config, ending("work")))
    face.put_writes(config, [("log", ["work"])], "task", pull("work"))
    for number in (0, 2, 2, 0):
        face.put_writes(config, [("log", [number])], f"task {number}", push(number))
    assert put.waits()
    face.put_writes(config, [("log", [1])], "task 1", push(1))
    assert put.answer() == ["task", "task 0", "task 1", "task 2"]


@pytest.mark.usefixtures("patient")
def test_a_put_waits_for_nodes_and_packets_alike(face: Face) -> None:
    """When packets and nodes ran in one superstep, both are waited for."""
    config = begin(face, sends=1)
    put = Background(face, end(config, ending("a")))
    face.put_writes(config, [("log", [0])], "task 0", push(0))
    assert put.waits()
    face.put_writes(config, [("log", ["a"])], "task a", pull("a"))
    assert put.answer() == ["task 0", "task a"]


@pytest.mark.usefixtures("patient")
def test_a_node_that_answered_nothing(face: Face) -> None:
    """A node without output says so in a write, and that is one to wait for."""
    config = begin(face)
    put = Background(face, end(config, ending("quiet")))
    assert put.waits()
    face.put_writes(config, [("__no_writes__", None)], "task", pull("quiet"))
    assert put.answer() == ["task"]


@pytest.mark.usefixtures("patient")
def test_a_node_that_asked_has_not_finished(face: Face) -> None:
    """An interrupt or an error is not the end of a node: the checkpoint waits for what it writes when it is resumed."""
    config = begin(face)
    face.put_writes(config, [("__interrupt__", ("well?",))], "task", pull("a"))
    face.put_writes(config, [("__error__", "no")], "task", pull("a"))
    face.put_writes(config, [("__resume__", ["yes"])], "task", pull("a"))
    put = Background(face, end(config, ending("a")))
    assert put.waits()
    face.put_writes(config, [("log", ["yes"])], "task", pull("a"))
    assert len(put.answer()) == 4


@pytest.mark.usefixtures("patient")
def test_writes_of_elsewhere_do_not_count(face: Face) -> None:
    """Writes of the same node to another thread, namespace or checkpoint are not those that a put waits for."""
    config = begin(face)
    other = begin(face, thread_id="other")
    inner = thread("thread", "inner", config["configurable"]["checkpoint_id"])
    later = thread("thread", "", "later")
    put = Background(face, end(config, ending("a")))
    for place in (other, inner, later):
        face.put_writes(place, [("log", ["elsewhere"])], "task", pull("a"))
    assert put.waits()
    face.put_writes(config, [("log", ["here"])], "task", pull("a"))
    assert put.answer() == ["task"]


@pytest.mark.usefixtures("patient")
def test_many_puts_wait_each_for_their_own(face: Face) -> None:
    """Puts of several threads that wait at once are each let go by their own writes, in any order."""
    names = [f"thread {number}" for number in range(4)]
    configs = {name: begin(face, thread_id=name) for name in names}
    puts = {name: Background(face, end(config, ending("a"))) for name, config in configs.items()}
    for name in reversed(names):
        assert puts[name].waits()
        face.put_writes(configs[name], [("log", [name])], name, pull("a"))
        assert puts[name].answer() == [name]


class Hesitating(JsonPlusSerializer):
    """Lets whoever serializes `text` for the second time do something else before."""

    def __init__(self, text: str, before: Callable[[], Any]) -> None:
        super().__init__()
        self._text = text
        self._before = before
        self._times = 0

    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
        if obj == self._text:
            self._times += 1
            if self._times == 2:
                self._before()
        return super().dumps_typed(obj)


@pytest.mark.usefixtures("patient")
def test_a_put_waits_for_writes_that_have_to_be_planned_again(shared: str, open_face: Callable[..., Face]) -> None:
    """When another process pruned the thread, and writes and checkpoint need a second try, their order stays."""
    text = "written " * 30
    puts: list[Background] = []
    ours = open_face(shared, serde=Hesitating(text, lambda: puts[0].waits()))
    first = ours.put(thread(), checkpoint(log=["first " * 30]), {"source": "input", "step": -2})
    made = checkpoint(log=["begun " * 30])
    made["versions_seen"] = {"__input__": {}}
    config = ours.put(first, made, {"source": "input", "step": -1})
    open_face(shared).call("prune", ["thread"])
    puts.append(Background(ours, end(config, ending("a"))))
    assert puts[0].waits()
    ours.put_writes(config, [("log", [text])], "task", pull("a"))
    assert puts[0].answer() == ["task"]


@pytest.mark.usefixtures("patient")
def test_tasks_of_one_loop(place: str) -> None:
    """In one event loop a put that waits lets the writes it waits for be stored."""

    async def together() -> list[str]:
        async with saver_at(place) as saver:
            made = checkpoint(log=[])
            config = await saver.aput(thread(), made, {"source": "input", "step": -1}, {})
            put = asyncio.create_task(saver.aput(config, ending("a", "b"), {"source": "loop", "step": 0}, {}))
            await asyncio.sleep(GLANCE)
            assert not put.done()
            await asyncio.gather(
                *(saver.aput_writes(config, [("log", [name])], name, pull(name)) for name in ("a", "b"))
            )
            await asyncio.wait_for(put, LONG / 2)
            found = await saver.aget_tuple(config)
            assert found is not None
            return sorted(task for task, _, _ in found.pending_writes or ())

    assert asyncio.run(together()) == ["a", "b"]


@pytest.mark.usefixtures("patient")
def test_a_put_that_is_cancelled_while_it_waits(place: str) -> None:
    """A cancelled put stores nothing and leaves nothing behind that a later one would stumble over."""

    async def cancelled() -> None:
        async with saver_at(place) as saver:
            config = await saver.aput(thread(), checkpoint(log=[]), {"source": "input", "step": -1}, {})
            put = asyncio.create_task(saver.aput(config, ending("a"), {"source": "loop", "step": 0}, {}))
            await asyncio.sleep(GLANCE)
            put.cancel()
            with pytest.raises(asyncio.CancelledError):
                await put
            await saver.aput_writes(config, [("log", [1])], "task", pull("a"))
            assert [found.config async for found in saver.alist(None)] == [config]
            again = saver.aput(config, ending("a"), {"source": "loop", "step": 0}, {})
            await asyncio.wait_for(again, LONG / 2)
            assert len([found async for found in saver.alist(None)]) == 2

    asyncio.run(cancelled())


# -- not waiting -------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("patient")
def test_a_put_after_the_writes_does_not_wait(face: Face) -> None:
    """When the writes were stored first, the checkpoint is stored at once, superstep after superstep."""
    config = begin(face, sends=2)
    for number in range(2):
        face.put_writes(config, [("log", [number])], f"task {number}", push(number))
    face.put_writes(config, [("log", ["a"])], "task a", pull("a"))
    assert Background(face, end(config, ending("a"))).answer() == ["task 0", "task 1", "task a"]


CALM: dict[str, tuple[Checkpoint, int, str]] = {
    "an update": (ending("a"), 0, "update"),
    "a fork": (ending("a"), 0, "fork"),
    "an input": (ending("a"), 0, "input"),
    "the last step alone": (ending("a"), 5, "loop"),
    "nothing ran": (ending(), 0, "loop"),
    "only the machinery": (ending("__input__", "__interrupt__"), 0, "loop"),
}


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("name", CALM)
def test_a_put_that_ends_no_superstep_does_not_wait(face: Face, name: str) -> None:
    """What no superstep made, or the last of several that were not stored, has nothing to wait for."""
    made, step, source = CALM[name]
    assert Background(face, end(begin(face), made, step, source)).answer() == []


@pytest.mark.usefixtures("patient")
def test_a_node_that_ran_before_is_not_waited_for(face: Face) -> None:
    """A node whose versions did not move did not run, though it has run once."""
    seen = {"old": {"branch:to:old": "1"}}
    config = begin(face, seen={"__input__": {}, **seen})
    put = Background(face, end(config, ending("new", seen=seen)))
    assert put.waits()
    face.put_writes(config, [("log", ["new"])], "task", pull("new"))
    assert put.answer() == ["task"]


@pytest.mark.usefixtures("patient")
def test_a_put_whose_parent_is_unknown_does_not_wait(face: Face) -> None:
    """The first checkpoint of a thread, and one whose parent is not there, are stored at once."""
    assert Background(face, lambda own: own.put(thread(), ending("a"))).answer()
    config = thread("other", checkpoint_id="not there")
    assert Background(face, lambda own: own.put(config, ending("a"))).answer()


@pytest.mark.usefixtures("patient")
def test_writes_that_fail_let_the_put_go(face: Face) -> None:
    """When the writes of a node cannot be stored, the checkpoint does not wait for what will never come."""
    config = begin(face)
    put = Background(face, end(config, ending("a")))
    assert put.waits()
    with pytest.raises(UnserializableError):
        face.put_writes(config, [("log", Opaque())], "task", pull("a"))
    assert put.answer() == []


@pytest.mark.usefixtures("patient")
def test_writes_that_another_process_stored(shared: str, open_face: Callable[..., Face]) -> None:
    """A saver that resumes a run knows from what it reads which nodes have written, and waits for the others alone."""
    first = open_face(shared)
    config = begin(first, sends=1)
    first.put_writes(config, [("log", ["a"])], "task a", pull("a"))
    first.put_writes(config, [("log", [0])], "task 0", push(0))
    second = open_face(shared)
    assert second.get_tuple(thread()) is not None
    put = Background(second, end(config, ending("a", "b")))
    assert put.waits()
    second.put_writes(config, [("log", ["b"])], "task b", pull("b"))
    assert put.answer() == ["task 0", "task a", "task b"]
    third = open_face(shared)
    assert third.get_tuple(config) is not None
    assert Background(third, end(config, ending("a", "b"))).answer() == ["task 0", "task a", "task b"]


# -- giving up ---------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("impatient")
def test_a_put_whose_writes_never_come_returns(face: Face) -> None:
    """A checkpoint is stored though the writes of its nodes and packets never come."""
    config = begin(face, sends=2)
    assert Background(face, end(config, ending("a"))).answer() == []
    assert len(face.list(thread())) == 2


def test_it_is_not_waited_for_twice(face: Face, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node, or packets, whose writes never came do not hold up a second checkpoint; others still do."""
    set_bound(monkeypatch, 0.01)
    Background(face, end(begin(face, sends=2), ending("cached"))).answer()
    set_bound(monkeypatch, LONG)
    config = begin(face, sends=2, thread_id="second")
    assert Background(face, end(config, ending("cached"))).answer() == []
    config = begin(face, sends=2, thread_id="third")
    put = Background(face, end(config, ending("cached", "b")))
    assert put.waits()
    face.put_writes(config, [("log", ["b"])], "task", pull("b"))
    assert put.answer() == ["task"]


def test_it_is_waited_for_again_once_it_writes(face: Face, monkeypatch: pytest.MonkeyPatch) -> None:
    """When a write of a node that was given up is seen, later checkpoints wait for it again."""
    set_bound(monkeypatch, 0.01)
    config = begin(face)
    Background(face, end(config, ending("late"))).answer()
    face.put_writes(config, [("log", ["late"])], "task", pull("late"))
    set_bound(monkeypatch, LONG)
    config = begin(face, thread_id="second")
    put = Background(face, end(config, ending("late")))
    assert put.waits()
    face.put_writes(config, [("log", ["late"])], "task", pull("late"))
    assert put.answer() == ["task"]


# -- a real graph ------------------------------------------------------------------------------------------------


def tasks_of(found: CheckpointTuple) -> int:
    """How many tasks have written."""
    return len({task for task, _, _ in found.pending_writes or ()})


class Overtaking(SqliteSaver):
    """Lets each superstep's `put` come first: `put_writes` goes on when the put that ends its superstep has begun.

    `there` says how many tasks' writes were stored at a checkpoint when the put after it came back.
    """

    def __init__(self, place: str) -> None:
        super().__init__(place)
        self.held: list[str] = []
        self.there: dict[str, int] = {}
        self._begun: dict[str, threading.Event] = {}
        self._guard = threading.Lock()

    def _event(self, config: RunnableConfig) -> threading.Event:
        with self._guard:
            return self._begun.setdefault(config["configurable"].get("checkpoint_id") or "", threading.Event())

    def _hold(self, config: RunnableConfig, task_path: str) -> None:
        if task_path and self._event(config).wait(LONG / 2):
            self.held.append(task_path)

    def _look(self, config: RunnableConfig) -> None:
        if config["configurable"].get("checkpoint_id"):
            found = self.get_tuple(config)
            assert found is not None
            self.there[found.checkpoint["id"]] = tasks_of(found)

    def put(self, config: RunnableConfig, checkpoint: Any, metadata: Any, new_versions: Any) -> RunnableConfig:
        self._event(config).set()
        saved = super().put(config, checkpoint, metadata, new_versions)
        self._look(config)
        return saved

    async def aput(self, config: RunnableConfig, checkpoint: Any, metadata: Any, new_versions: Any) -> RunnableConfig:
        self._event(config).set()
        saved = await super().aput(config, checkpoint, metadata, new_versions)
        self._look(config)
        return saved

    def put_writes(self, config: RunnableConfig, writes: Any, task_id: str, task_path: str = "") -> None:
        self._hold(config, task_path)
        super().put_writes(config, writes, task_id, task_path)

    async def aput_writes(self, config: RunnableConfig, writes: Any, task_id: str, task_path: str = "") -> None:
        await asyncio.to_thread(self._hold, config, task_path)
        await super().aput_writes(config, writes, task_id, task_path)


@pytest.mark.usefixtures("patient")
def test_a_graph_whose_puts_come_first(place: str, loop: Any) -> None:
    """However often LangGraph calls `put` before the writes of the superstep, they are stored when it returns."""
    with Overtaking(place) as saver:
        builder = StateGraph(State)
        builder.add_node("spread", lambda state: {"log": ["spread"]})
        builder.add_node("beside", lambda state: {"log": ["beside"]})
        builder.add_node("work", lambda state: {"log": [state["last"]]})
        builder.add_node("end", lambda state: None, defer=True)
        builder.add_edge(START, "spread")
        builder.add_conditional_edges("spread", lambda state: [Send("work", {"last": n}) for n in range(3)], ["work"])
        builder.add_edge("spread", "beside")
        builder.add_edge("work", "end")
        builder.add_edge("beside", "end")
        running = Running(builder.compile(checkpointer=saver), loop, "sync")
        for _ in range(2):
            running.invoke({"log": []})
        stored = running.stored()
        assert [tasks_of(found) for found in stored] == [0, 1, 4, 1, 1] * 2
        assert len(saver.held) == 2 * 7
        assert saver.there == {found.checkpoint["id"]: tasks_of(found) for found in stored[1:]}
