"""What a saver by itself, without `durable`, tells of how runs ended, and what `resume` makes of it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from langgraph.graph import END
from langgraph.types import interrupt

from langgraph_durable import durable
from tests.conftest import Face, saver_at, thread
from tests.durables import Stands, called, compiled, form_of, one_chain, ran, stands
from tests.graphs import DURABILITIES, Durability
from tests.processes import Pipe, child, forks

ALL = ["a", "b", "c"]
DONE = Stands("idle", "", (), None)
BUSY = Stands("busy", "", ("b",), None)
CRASHED = Stands("crashed", "owner gone", ("b",), None)
ASKED = Stands("interrupted", "node", ("b",), None)
FAILED = Stands("error", "exception", ("b",), "ValueError")


def fails(state: Any) -> None:
    raise ValueError("not now")


def asks(state: Any) -> Any:
    return {"log": [interrupt("go on?")]}


# What it is while the process lives that ran it, and afterwards.
ENDINGS: dict[str, tuple[Stands, Stands]] = {
    "done": (DONE, DONE),
    "error": (FAILED, FAILED),
    "interrupt": (ASKED, ASKED),
    "breakpoint": (BUSY, CRASHED),
    "ctrl-c": (BUSY, CRASHED),
    "kill": (BUSY, CRASHED),
}


def runs_plainly(pipe: Pipe, place: str, form: str, durability: Durability, ending: str) -> None:
    """Run a graph to such an end, say so, and end when told to."""

    def waits(state: Any) -> None:
        pipe.send("in b")
        pipe.recv()

    async def awaits(state: Any) -> None:
        pipe.send("in b")
        await asyncio.Event().wait()

    nodes = {"error": fails, "interrupt": asks}.get(ending, awaits if form == "async" else waits)
    arguments: Any = {"interrupt_before": ["b"]} if ending == "breakpoint" else {}
    graph = compiled(saver_at(place), {} if ending == "done" else {"b": nodes}, form=form)
    with suppress(ValueError, KeyboardInterrupt):
        ran(form, graph, "invoke", {"log": []}, thread(), durability=durability, **arguments)
    pipe.send("ended")
    pipe.recv()


@pytest.mark.sampled(3)
@forks
@pytest.mark.parametrize("form", ["sync", "async"])
@pytest.mark.parametrize("durability", ["sync", "exit"])
@pytest.mark.parametrize("ending", ENDINGS)
def test_endings_of_a_plain_graph(kept: str, form: str, durability: Durability, ending: str) -> None:
    """What nodes did is told; a breakpoint and Ctrl-C look like a run that goes on, and then like one that crashed."""
    there, gone = ENDINGS[ending]
    with saver_at(kept) as saver:
        with child(runs_plainly, kept, form, durability, ending) as running:
            if ending in ("ctrl-c", "kill"):
                assert running.receive() == "in b"
            if ending == "ctrl-c":
                os.kill(running.pid, signal.SIGINT)
            if ending != "kill":
                assert running.receive() == "ended"
            if ending == "kill" and durability == "exit":
                assert stands(saver) is None
                return
            assert stands(saver) == there
            running.kill()
            running.rest()
        assert stands(saver) == gone
        if ending != "done":
            answer: Any = {"resume": "b"} if ending == "interrupt" else {}
            app = durable(compiled(saver, {"b": asks} if ending == "interrupt" else {}))
            assert app.resume("thread", **answer)["log"] == ALL
        assert stands(saver) == DONE


@forks
@pytest.mark.parametrize("compiled_with", [{"interrupt_before_nodes": ["b"]}, {"interrupt_after_nodes": "*"}])
def test_a_breakpoint_that_a_plain_graph_came_to(
    kept: str, loop: asyncio.AbstractEventLoop | None, compiled_with: dict[str, Any]
) -> None:
    """It looks like a crash, and nobody goes past it who was not told to: neither recover nor new input."""
    with child(runs_plainly, kept, "sync", "sync", "breakpoint") as running:
        assert running.receive() == "ended"
        running.kill()
        running.rest()
    with saver_at(kept) as saver:
        app = durable(compiled(saver, form=form_of(loop)).copy(compiled_with))
        assert stands(saver) == CRASHED
        (done,) = called(loop, app, "recover")
        assert (done.thread_id, done.status, done.error) == ("thread", "interrupted", None)
        assert stands(saver) == Stands("interrupted", "breakpoint", ("b",), None)
        plain = durable(compiled(saver, form=form_of(loop)))
        assert called(loop, plain, "resume", "thread")["log"] == ALL


# -- routers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["durable", "plain", "plain twice"])
@pytest.mark.parametrize("durability", DURABILITIES)
def test_a_router_that_raises(
    kept: str,
    open_face: Callable[..., Face],
    loop: asyncio.AbstractEventLoop | None,
    durability: Durability,
    how: str,
) -> None:
    """The thread is an error even where LangGraph takes it for done; `resume` runs the node and the router again."""
    times: list[str] = []
    form = form_of(loop)

    def router(state: Any) -> str:
        times.append("router")
        if len(times) == 1:
            raise ValueError("which way?")
        return "c"

    def node(state: Any) -> None:
        times.append("b")

    with saver_at(kept) as saver:
        graph = compiled(saver, {"b": lambda state: None}, form=form, routers={"b": router})
        app = graph if how != "durable" else durable(graph)
        with pytest.raises(ValueError, match="which way"):
            called(loop, app, "invoke", {"log": []}, thread(), durability=durability)
        expected = Stands("error", "router", ("b",), "ValueError")
        assert stands(saver) == expected
        if how == "plain twice":
            assert called(loop, graph, "invoke", None, thread(), durability=durability)["log"] == ["a", "b"]
            assert stands(saver) == expected
        again = compiled(saver, {"b": node}, form=form, routers={"b": router})
        assert called(loop, durable(again), "resume", "thread", durability=durability)["log"] == ALL
        assert times == ["router", "b", "router"]
        assert stands(saver) == DONE
        if how != "plain twice":
            assert one_chain(open_face(kept))[-1] == ALL


@pytest.mark.parametrize("skipped", [False, True])
@pytest.mark.parametrize("how", ["new input", "no input", "recover"])
def test_going_on_after_a_router_that_raised(
    kept: str, loop: asyncio.AbstractEventLoop | None, how: str, skipped: bool
) -> None:
    """A durable graph finishes what the router left undone, also where a plain one has gone past it."""
    times: list[str] = []

    def router(state: Any) -> str:
        times.append("router")
        if len(times) == 1:
            raise ValueError("which way?")
        return "c"

    with saver_at(kept) as saver:
        graph = compiled(saver, form=form_of(loop), routers={"b": router})
        with pytest.raises(ValueError, match="which way"):
            called(loop, graph, "invoke", {"log": []}, thread())
        if skipped:
            assert called(loop, graph, "invoke", None, thread())["log"] == ["a", "b"]
        if how == "recover":
            (recovered,) = called(loop, durable(graph), "recover", errors=True)
            assert recovered == ("thread", "idle", 1, None)
        elif how == "no input":
            assert called(loop, durable(graph), "invoke", None, thread())["log"] == ALL
        else:
            assert called(loop, durable(graph), "invoke", {"log": ["new"]}, thread())["log"] == [*ALL, "new", *ALL]
        assert stands(saver) == DONE


def test_a_router_that_raises_before_the_end(kept: str, loop: asyncio.AbstractEventLoop | None) -> None:
    """When it says, at its second attempt, that nothing comes after its node, the thread is at its end."""
    times: list[str] = []

    def router(state: Any) -> str:
        times.append("router")
        if len(times) == 1:
            raise ValueError("which way?")
        return END

    with saver_at(kept) as saver:
        app = durable(compiled(saver, form=form_of(loop), routers={"b": router}))
        with pytest.raises(ValueError, match="which way"):
            called(loop, app, "invoke", {"log": []}, thread())
        assert called(loop, app, "resume", "thread")["log"] == ["a", "b"]
        assert stands(saver) == DONE
