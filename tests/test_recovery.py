"""`recover` finishes what crashed, once, whoever else recovers meanwhile, and gives up on what crashes every time."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.types import interrupt

from langgraph_durable import durable
from langgraph_durable.core import running
from langgraph_durable.recovering import Recovered
from langgraph_durable.runs import DurableGraph
from langgraph_durable.saver import DurableSaver
from tests.conftest import saver_at, thread
from tests.durables import Notes, Stands, called, compiled, form_of, made, stands
from tests.processes import PATIENCE, Pipe, child, forks

ALL = ["a", "b", "c"]
DONE = Stands("idle", "", (), None)
GAVE_UP = Stands("error", "gave up", ("b",), None)


def begins(pipe: Pipe, place: str, names: list[str]) -> None:
    """Run several threads at once; each comes to a node that says so and does not end."""

    def waits(state: Any) -> None:
        pipe.send("in b")
        threading.Event().wait(PATIENCE)

    app = made(saver_at(place), {"b": waits})
    app.batch([{"log": []} for _ in names], [thread(name) for name in names])


def crash(place: str, names: list[str]) -> None:
    """Threads whose process was killed in their second node."""
    with saver_at(place), child(begins, place, names) as victim:
        assert [victim.receive() for _ in names] == ["in b"] * len(names)
        victim.kill()
        victim.rest()


def notes_of(place: str) -> Notes:
    return Notes(Path(place).parent / "notes")


def noting(place: str) -> dict[str, Callable[[Any], None]]:
    """Nodes that note that they ran."""
    notes = notes_of(place)

    def node(name: str) -> Callable[[Any], None]:
        return lambda state: notes.add(name)

    return {name: node(name) for name in ALL}


def recovers(pipe: Pipe, place: str, form: str) -> None:
    """Recover when told to, and say what became of it."""
    loop = asyncio.new_event_loop() if form == "async" else None
    app = made(saver_at(place), noting(place), form)
    pipe.send("ready")
    pipe.recv()
    pipe.send(called(loop, app, "recover"))


def shared_recovery(place: str, form: str, rounds: int) -> None:
    with saver_at(place) as saver:
        for number in range(rounds):
            names = [f"thread {number}.{one}" for one in range(6)]
            crash(place, names)
            assert [one.thread_id for one in saver.list_threads(status="crashed", order="id")] == names
            with ExitStack() as stack:
                those = [stack.enter_context(child(recovers, place, form)) for _ in range(2)]
                assert [one.receive() for one in those] == ["ready", "ready"]
                for one in those:
                    one.send("go")
                shares: list[list[Recovered]] = [one.receive() for one in those]
            done = sorted(one for share in shares for one in share)
            assert done == [Recovered(name, "idle", 1, None) for name in names]
            assert {stands(saver, name) for name in names} == {DONE}
            assert Counter(notes_of(place).lines()) == {"b": 6 * (number + 1), "c": 6 * (number + 1)}


@forks
@pytest.mark.parametrize("form", ["sync", "async"])
def test_two_processes_share_a_recovery(kept: str, form: str) -> None:
    """Each crashed thread is finished by one of them, tells only of those, and nothing runs twice."""
    shared_recovery(kept, form, 3)


@forks
@pytest.mark.soak
@pytest.mark.parametrize("form", ["sync", "async"])
def test_two_processes_share_fifty_recoveries(kept: str, form: str) -> None:
    """The same, 50 times."""
    shared_recovery(kept, form, 50)


@forks
def test_a_thread_that_another_has_recovered_meanwhile(kept: str, loop: asyncio.AbstractEventLoop | None) -> None:
    """A crashed thread that fails where somebody else runs it on is not run again, if errors are not asked for."""

    def fails(state: Any) -> None:
        notes_of(kept).add("b")
        raise ValueError("not now")

    names = ["one", "two"]
    crash(kept, names)
    with saver_at(kept) as saver:
        failing, working = made(saver, {"b": fails}), made(saver, noting(kept), form_of(loop))
        others: list[Recovered] = []

        def meanwhile(name: str) -> RunnableConfig:
            if not others:
                others.extend(failing.recover(config=lambda name: {"tags": [name]}))
            return {"tags": [name]}

        assert called(loop, working, "recover", config=meanwhile) == []
        assert [one[:3] for one in others] == [(name, "error", 1) for name in names]
        assert notes_of(kept).lines() == ["b", "b"]
        assert [one[:3] for one in called(loop, working, "recover", errors=True)] == [
            (name, "idle", 1) for name in names
        ]
        assert notes_of(kept).lines() == ["b", "b", "b", "c", "b", "c"]


# -- giving up -----------------------------------------------------------------------------------------------------


def dies(pipe: Pipe, place: str, form: str, order: str, deadly: str, most: int) -> None:
    """Run or recover a thread, and die in each of the nodes of these names, unless it died there before."""
    notes = notes_of(place)

    def node(name: str) -> Callable[[Any], None]:
        def run(state: Any) -> None:
            before = notes.lines().count(name)
            notes.add(name)
            if name in deadly.lower() and (name.upper() in deadly or not before):
                os.kill(os.getpid(), signal.SIGKILL)

        return run

    loop = asyncio.new_event_loop() if form == "async" else None
    app = made(saver_at(place), {name: node(name) for name in ALL}, form, max_recoveries=most)
    if order == "begin":
        pipe.send(called(loop, app, "invoke", {"log": []}, thread()))
    else:
        pipe.send(called(loop, app, "recover", backoff_seconds=0))


def end_of(place: str, form: str, order: str, deadly: str, most: int = 3) -> Any:
    """What a process said at its end; None if it was killed."""
    with child(dies, place, form, order, deadly, most) as one:
        said = one.rest()
        return said[0] if said else None


@forks
@pytest.mark.parametrize("form", ["sync", "async"])
def test_a_node_that_kills_its_process_every_time(kept: str, form: str) -> None:
    """After `max_recoveries` attempts the thread is an error that is left alone, until somebody resumes it himself."""
    with saver_at(kept) as saver:
        for order in ("begin", *["recover"] * 3):
            assert end_of(kept, form, order, "B") is None
            assert stands(saver) == Stands("crashed", "owner gone", ("b",), None)
        assert end_of(kept, form, "recover", "B") == [Recovered("thread", "error", 3, None)]
        assert stands(saver) == GAVE_UP
        assert end_of(kept, form, "recover", "B") == []
        assert stands(saver) == GAVE_UP
        assert Counter(notes_of(kept).lines()) == {"a": 1, "b": 4}
        assert made(saver).recover(errors=True) == []
        assert made(saver).resume("thread")["log"] == ALL
        assert stands(saver) == DONE


@forks
@pytest.mark.parametrize("form", ["sync", "async"])
def test_progress_begins_the_count_anew(kept: str, form: str) -> None:
    """A thread that crashes once in each of its nodes comes to its end with one recovery allowed."""
    assert [end_of(kept, form, order, "abc", 1) for order in ("begin", "recover", "recover")] == [None] * 3
    assert end_of(kept, form, "recover", "abc", 1) == [Recovered("thread", "idle", 1, None)]
    assert Counter(notes_of(kept).lines()) == {"a": 2, "b": 2, "c": 2}


# -- errors --------------------------------------------------------------------------------------------------------


def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that are made from now on, which take no time."""
    made_so_far: list[float] = []

    async def asleep(seconds: float) -> None:
        made_so_far.append(seconds)

    monkeypatch.setattr("langgraph_durable.engine.time.sleep", made_so_far.append)
    monkeypatch.setattr("langgraph_durable.engine.asyncio.sleep", asleep)
    return made_so_far


@pytest.mark.parametrize("most", [0, 1, 4])
def test_a_node_that_fails_every_time(
    kept: str, loop: asyncio.AbstractEventLoop | None, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`errors=True` tries it as often as allowed, after longer and longer pauses, and gives up with what it raised."""
    tried: list[int] = []

    def fails(state: Any) -> None:
        tried.append(len(tried))
        raise ValueError(f"attempt {len(tried)}")

    with saver_at(kept) as saver:
        app = made(saver, {"b": fails}, form_of(loop), max_recoveries=most)
        with pytest.raises(ValueError, match="attempt 1"):
            called(loop, app, "invoke", {"log": []}, thread())
        assert called(loop, app, "recover") == []
        made_pauses = pauses(monkeypatch)
        (recovered,) = called(loop, app, "recover", errors=True, backoff_seconds=3.0)
        assert recovered[:3] == ("thread", "error", most)
        assert str(recovered.error) == (f"attempt {most + 1}" if most else "None")
        assert made_pauses == [3.0 * 2**number for number in range(most - 1)]
        assert len(tried) == 1 + most
        found = stands(saver)
        assert found is not None
        assert found[:3] == GAVE_UP[:3]
        assert called(loop, app, "recover", errors=True) == []


def test_a_node_that_heals(kept: str, loop: asyncio.AbstractEventLoop | None) -> None:
    """A thread whose node fails twice and then does not is finished, and said to have been tried as often."""
    tried: list[int] = []

    def unsteady(state: Any) -> None:
        tried.append(len(tried))
        if len(tried) < 4:
            raise ValueError(f"attempt {len(tried)}")

    with saver_at(kept) as saver:
        app = made(saver, {"b": unsteady}, form_of(loop))
        with pytest.raises(ValueError, match="attempt 1"):
            called(loop, app, "invoke", {"log": []}, thread())
        (recovered,) = called(loop, app, "recover", errors=True, backoff_seconds=0.0)
        assert recovered[:3] == ("thread", "idle", 3)
        assert str(recovered.error) == "attempt 3"
        assert stands(saver) == DONE


def dies_at_the_end(pipe: Pipe, place: str, form: str) -> None:
    """A run to a breakpoint whose process is killed when all is stored, but for how it has ended."""

    def killed(*args: Any) -> Any:
        os.kill(os.getpid(), signal.SIGKILL)

    running.leave = killed  # type: ignore[assignment]
    loop = asyncio.new_event_loop() if form == "async" else None
    called(loop, before_b(saver_at(place), form), "invoke", {"log": []}, thread())


def before_b(saver: DurableSaver, form: str) -> DurableGraph:
    graph = compiled(saver, form=form)
    graph.interrupt_before_nodes = ["b"]
    return durable(graph)


@forks
def test_a_crash_at_a_breakpoint(kept: str, loop: asyncio.AbstractEventLoop | None) -> None:
    """Nothing was left to do for that run: the thread waits where it stands, and goes on when it is told to."""
    form = form_of(loop)
    with saver_at(kept) as saver:
        with child(dies_at_the_end, kept, form) as victim:
            victim.rest()
        assert saver.list_threads(status="crashed")
        app = before_b(saver, form)
        called(loop, app, "recover")
        assert stands(saver) == Stands("interrupted", "breakpoint", ("b",), None)
        assert called(loop, app, "resume", "thread")["log"] == ALL


@forks
def test_what_is_not_recovered(kept: str, loop: asyncio.AbstractEventLoop | None) -> None:
    """Threads that ended, wait, stopped at a breakpoint or are run by another process are left as they are."""
    with saver_at(kept) as saver, child(begins, kept, ["running"]) as other:
        form = form_of(loop)
        called(loop, made(saver, {}, form), "invoke", {"log": []}, thread("done"))
        asking = made(saver, {"b": lambda state: interrupt("?")}, form)
        called(loop, asking, "invoke", {"log": []}, thread("asks"))
        called(loop, made(saver, {}, form), "invoke", {"log": []}, thread("stopped"), interrupt_before=["c"])
        assert other.receive() == "in b"
        before = {one.thread_id: one for one in saver.list_threads()}
        assert called(loop, made(saver, {}, form), "recover", errors=True) == []
        assert {one.thread_id: one for one in saver.list_threads()} == before
