"""However a run ends, its thread says how afterwards, and goes on from there without doing anything twice."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any
from unittest.mock import patch

import pytest
from langgraph.graph import START, StateGraph
from langgraph.types import interrupt

from langgraph_durable import RunCancelledError, durable
from langgraph_durable.runs import DurableGraph
from langgraph_durable.saver import DurableSaver
from tests.conftest import Face, saver_at, thread
from tests.durables import Stands, State, called, form_of, made, one_chain, ran, stands
from tests.graphs import DURABILITIES, Durability
from tests.processes import PATIENCE, Pipe, child, forks

ALL = ["a", "b", "c"]

# -- in this process -----------------------------------------------------------------------------------------------


def fails(state: Any) -> None:
    raise ValueError("not now")


def asks(state: Any) -> Any:
    return {"log": [interrupt("go on?")]}


ENDINGS: dict[str, tuple[dict[str, Any], dict[str, Any], Stands]] = {
    "done": ({}, {}, Stands("idle", "", (), None)),
    "error": ({"b": fails}, {}, Stands("error", "exception", ("b",), "ValueError")),
    "interrupt": ({"b": asks}, {}, Stands("interrupted", "node", ("b",), None)),
    "breakpoint before": ({}, {"interrupt_before": ["b"]}, Stands("interrupted", "breakpoint", ("b",), None)),
    "breakpoint after": ({}, {"interrupt_after": ["a"]}, Stands("interrupted", "breakpoint", ("b",), None)),
}


def ends_here(
    place: str, loop: asyncio.AbstractEventLoop | None, durability: Durability, ending: str, rounds: int
) -> None:
    nodes, arguments, expected = ENDINGS[ending]
    form = form_of(loop)
    with saver_at(place) as saver:
        for number in range(rounds):
            name = f"{ending} {number}"
            app = made(saver, nodes, form)
            try:
                called(loop, app, "invoke", {"log": []}, thread(name), durability=durability, **arguments)
            except ValueError:
                assert ending == "error"
            assert stands(saver, name) == expected
            if ending == "done":
                continue
            answer = {"resume": "b"} if ending == "interrupt" else {}
            went_on = made(saver, {"b": asks} if ending == "interrupt" else {}, form)
            assert called(loop, went_on, "resume", name, durability=durability, **answer)["log"] == ALL
            assert stands(saver, name) == ENDINGS["done"][2]
        assert len(saver.list_threads(status=("busy", "crashed"))) == 0


@pytest.mark.sampled(3)
@pytest.mark.parametrize("durability", DURABILITIES)
@pytest.mark.parametrize("ending", ENDINGS)
def test_runs_that_come_to_an_end(
    kept: str, loop: asyncio.AbstractEventLoop | None, durability: Durability, ending: str
) -> None:
    """The status, its reason, the nodes and the error are those of the ending, and `resume` does what was left."""
    ends_here(kept, loop, durability, ending, 3)


@pytest.mark.soak
@pytest.mark.parametrize("durability", DURABILITIES)
@pytest.mark.parametrize("ending", ENDINGS)
def test_fifty_runs_that_come_to_an_end(
    kept: str, loop: asyncio.AbstractEventLoop | None, durability: Durability, ending: str
) -> None:
    """The same, 50 times."""
    ends_here(kept, loop, durability, ending, 50)


@pytest.mark.parametrize("durability", DURABILITIES)
def test_a_task_that_is_cancelled(kept: str, durability: Durability) -> None:
    """A coroutine that is cancelled in the middle of a node leaves its thread `interrupted`, and it can be resumed."""

    async def cancelled(app: Any, began: asyncio.Event) -> None:
        running = asyncio.create_task(app.ainvoke({"log": []}, thread(), durability=durability))
        await began.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    async def both() -> None:
        with saver_at(kept) as saver:
            began = asyncio.Event()

            async def waits(state: Any) -> None:
                began.set()
                await asyncio.Event().wait()

            await cancelled(made(saver, {"b": waits}, "async"), began)
            assert stands(saver) == Stands("interrupted", "cancelled", ("b",), None)
            assert (await made(saver, {}, "async").aresume("thread"))["log"] == ALL
            assert stands(saver) == Stands("idle", "", (), None)

    asyncio.run(both())


@pytest.mark.parametrize("durability", DURABILITIES)
def test_a_stream_that_is_closed_early(
    kept: str, loop: asyncio.AbstractEventLoop | None, durability: Durability
) -> None:
    """Whoever stops reading a stream leaves its thread `interrupted` after what was read, and nothing of it runs on."""
    with saver_at(kept) as saver:
        app = made(saver, {}, form_of(loop))
        arguments: Any = {"stream_mode": "updates", "durability": durability}
        if loop is None:
            stream: Iterator[Any] = app.stream({"log": []}, thread(), **arguments)
            assert next(stream) == {"a": {"log": ["a"]}}
            stream.close()  # type: ignore[attr-defined]
        else:
            astream: AsyncIterator[Any] = app.astream({"log": []}, thread(), **arguments)
            assert loop.run_until_complete(anext(astream)) == {"a": {"log": ["a"]}}
            loop.run_until_complete(astream.aclose())  # type: ignore[attr-defined]
        found = stands(saver)
        assert found is not None
        assert found[:2] == ("interrupted", "cancelled")
        assert called(loop, app, "resume", "thread", durability=durability)["log"] == ALL
        assert stands(saver) == Stands("idle", "", (), None)


def test_nothing_runs_on_after_a_closed_stream(kept: str) -> None:
    """When `aclose` of a stream has returned, the nodes that ran beside the one that was read have ended."""
    ended: list[str] = []

    async def lingers(state: Any) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(stands_now())

    async def closed() -> None:

        app = beside(saver, {"stays": lingers})
        stream = app.astream({"log": []}, thread(), stream_mode="updates")
        assert await anext(stream) == {"quick": {"log": ["quick"]}}
        await stream.aclose()  # type: ignore[attr-defined]
        assert ended == ["busy"]
        assert stands(saver) == Stands("interrupted", "cancelled", ("stays",), None)

    with saver_at(kept) as saver:

        def stands_now() -> str:
            found = stands(saver)
            return found.status if found is not None else ""

        asyncio.run(closed())


# -- asked to end --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("durability", DURABILITIES)
@pytest.mark.parametrize("node", ["a", "c"])
def test_a_run_that_is_asked_to_end(
    kept: str, open_face: Callable[..., Face], loop: asyncio.AbstractEventLoop | None, durability: Durability, node: str
) -> None:
    """A run that another saver asks to end raises RunCancelledError at its next checkpoint, if that is not its last."""
    other = saver_at(kept)

    def asked(state: Any) -> None:
        assert other.request_cancel("thread")

    with other, saver_at(kept) as saver:
        assert not other.request_cancel("thread")
        app = made(saver, {node: asked}, form_of(loop))
        try:
            assert called(loop, app, "invoke", {"log": []}, thread(), durability=durability)["log"] == ALL
            cancelled = False
        except RunCancelledError:
            cancelled = True
            found = stands(saver)
            assert found is not None
            assert found == Stands("interrupted", "cancelled", ("b",) if durability == "sync" else found.nodes, None)
            assert called(loop, made(saver, {}, form_of(loop)), "resume", "thread")["log"] == ALL
        # In "exit" the last checkpoint is the only one; in "async" that of an earlier step may still be due.
        assert cancelled == (node == "a" and durability != "exit") or (node == "c" and durability == "async")
        assert stands(saver) == Stands("idle", "", (), None)
        assert not other.request_cancel("thread")
        assert one_chain(open_face(kept))[-1] == ALL


# -- in a process of its own ---------------------------------------------------------------------------------------


def runs_into(pipe: Pipe, place: str, form: str, durability: Durability, name: str) -> None:
    """Run a graph whose second node says that it began and does not end, and say what ended it."""

    def waits(state: Any) -> None:
        pipe.send("in b")
        # Python notices a signal that comes just before a call that blocks when that call is over.
        while not pipe.poll(0.05):
            pass

    async def awaits(state: Any) -> None:
        pipe.send("in b")
        await asyncio.Event().wait()

    app = made(saver_at(place), {"b": awaits if form == "async" else waits}, form)
    try:
        ran(form, app, "invoke", {"log": []}, thread(name), durability=durability)
    except BaseException as error:  # noqa: BLE001  it is what is asked for
        pipe.send(type(error).__name__)


SIGNALS: dict[str, tuple[int, str, Stands]] = {
    "ctrl-c": (signal.SIGINT, "KeyboardInterrupt", Stands("interrupted", "ctrl-c", ("b",), None)),
    "sigterm": (signal.SIGTERM, "SystemExit", Stands("interrupted", "sigterm", ("b",), None)),
    "kill": (signal.SIGKILL, "", Stands("crashed", "owner gone", ("b",), None)),
}


def ends_elsewhere(place: str, form: str, durability: Durability, ending: str, rounds: int) -> None:
    number, raised, expected = SIGNALS[ending]
    with saver_at(place) as saver:
        for turn in range(rounds):
            name = f"{ending} {turn}"
            with child(runs_into, place, form, durability, name) as running:
                assert running.receive() == "in b"
                assert saver.list_threads(status="busy")[0].thread_id == name
                os.kill(running.pid, number)
                if ending != "kill":
                    assert running.receive() == raised
                assert running.rest() == []
            found = stands(saver, name)
            assert found is not None
            # Unless each step waits for its checkpoint, kill -9 may leave that of an earlier step, or none at all.
            late = ending == "kill" and durability != "sync"
            assert found == (expected._replace(nodes=found.nodes) if late else expected)
            app = made(saver)
            assert (app.resume(name) if found.nodes else app.invoke({"log": []}, thread(name)))["log"] == ALL
            assert stands(saver, name) == Stands("idle", "", (), None)


@pytest.mark.sampled(5)
@forks
@pytest.mark.parametrize("form", ["sync", "async"])
@pytest.mark.parametrize("durability", DURABILITIES)
@pytest.mark.parametrize("ending", SIGNALS)
def test_runs_that_are_stopped(kept: str, form: str, durability: Durability, ending: str) -> None:
    """Ctrl-C, SIGTERM and kill -9 are told apart at once, and the thread goes on in another process."""
    ends_elsewhere(kept, form, durability, ending, 2)


@forks
@pytest.mark.soak
@pytest.mark.parametrize("form", ["sync", "async"])
@pytest.mark.parametrize("durability", DURABILITIES)
@pytest.mark.parametrize("ending", SIGNALS)
def test_fifty_runs_that_are_stopped(kept: str, form: str, durability: Durability, ending: str) -> None:
    """The same, 50 times."""
    ends_elsewhere(kept, form, durability, ending, 50)


def runs_two_into(pipe: Pipe, place: str, form: str) -> None:
    """Run a graph with two nodes at once; while the writes of one are being stored, the other waits to be stopped."""
    writing, ended, aended = threading.Event(), threading.Event(), asyncio.Event()
    put_writes, aput_writes = DurableSaver.put_writes, DurableSaver.aput_writes

    def late(self: DurableSaver, config: Any, writes: Any, *args: Any) -> None:
        if ("log", ["quick"]) in writes:
            writing.set()
            assert ended.wait(PATIENCE)
        put_writes(self, config, writes, *args)

    async def alate(self: DurableSaver, config: Any, writes: Any, *args: Any) -> None:
        if ("log", ["quick"]) in writes:
            writing.set()
            await aended.wait()
        await aput_writes(self, config, writes, *args)

    def stays(state: Any) -> Any:
        assert writing.wait(PATIENCE)
        pipe.send("writing")
        pipe.recv()
        ended.set()
        return {"log": ["stays"]}

    async def astays(state: Any) -> None:
        try:
            await asyncio.get_running_loop().run_in_executor(None, writing.wait)
            pipe.send("writing")
            await asyncio.Event().wait()
        finally:
            aended.set()

    patch.object(DurableSaver, "put_writes", late).start()
    patch.object(DurableSaver, "aput_writes", alate).start()
    app = beside(saver_at(place), {"stays": astays if form == "async" else stays})
    try:
        ran(form, app, "invoke", {"log": []}, thread())
    except BaseException as error:  # noqa: BLE001  as above
        pipe.send(type(error).__name__)


def beside(saver: DurableSaver, nodes: dict[str, Any]) -> DurableGraph:
    """Two nodes at once, and one after them."""
    builder = StateGraph(State)
    for name in ("quick", "stays"):
        builder.add_node(name, nodes.get(name, lambda state, name=name: {"log": [name]}))
        builder.add_edge(START, name)
    builder.add_node("after", lambda state: {"log": ["after"]})
    builder.add_edge(["quick", "stays"], "after")
    return durable(builder.compile(checkpointer=saver))


@forks
@pytest.mark.parametrize("form", ["sync", "async"])
@pytest.mark.parametrize("ending", ["ctrl-c", "sigterm"])
def test_nodes_that_run_while_the_process_is_stopped(kept: str, form: str, ending: str) -> None:
    """Writes that have begun are stored; a node in a thread comes to its end, and one in a coroutine is cancelled."""
    number, raised, expected = SIGNALS[ending]
    with saver_at(kept) as saver:
        with child(runs_two_into, kept, form) as running:
            assert running.receive() == "writing"
            os.kill(running.pid, number)
            if form == "sync":
                running.send("end")
            assert running.receive() == raised
        found = stands(saver)
        assert found is not None
        assert found[:2] == expected[:2]
        again: list[str] = []

        def node(name: str) -> Any:
            def run(state: Any) -> Any:
                again.append(name)
                return {"log": [name]}

            return run

        app = beside(saver, {name: node(name) for name in ("quick", "stays")})
        assert app.resume("thread")["log"] == ["quick", "stays", "after"]
        assert again == ([] if form == "sync" else ["stays"])
