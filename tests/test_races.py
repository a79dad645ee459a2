"""Of processes that want one thread one has it at a time: who comes second is told, and who slept is too late."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from langgraph.types import Command, interrupt

from langgraph_durable import BusyError, DurableError, ThreadBusyError
from langgraph_durable.core.records import Batch, Fenced, KeepLease
from langgraph_durable.core.running import NOBODYS
from tests.conftest import Face, saver_at, thread
from tests.durables import Notes, Stands, called, compiled, made, one_chain, stands, until
from tests.graphs import DURABILITIES, Durability
from tests.processes import Child, Pipe, child, forks

pytestmark = forks

ALL = ["a", "b", "c"]
DONE = Stands("idle", "", (), None)


@pytest.fixture
def face(kept: str) -> Iterator[Face]:
    """This process's own look at what the others do."""
    with saver_at(kept) as saver:
        yield Face(saver, None)


def obeys(pipe: Pipe, place: str, form: str, shape: str, options: dict[str, Any]) -> None:
    """A durable graph that is called as it is told, (method, args, kwargs), and says what that gave or raised."""
    loop = asyncio.new_event_loop() if form == "async" else None
    app = made(saver_at(place), SHAPES[shape](Path(place).parent), form, **options)
    while True:
        name, args, kwargs = pipe.recv()
        try:
            pipe.send(called(loop, app, name, *args, **kwargs))
        except DurableError as error:
            pipe.send(type(error).__name__)


def alone(folder: Path) -> dict[str, Callable[[Any], Any]]:
    """Nodes of which no two may run at once."""
    taken = folder / "taken"

    def runs(state: Any) -> None:
        os.close(os.open(taken, os.O_CREAT | os.O_EXCL))
        taken.unlink()

    return dict.fromkeys("abc", runs)


def asking(folder: Path) -> dict[str, Callable[[Any], Any]]:
    """A node that asks, and notes that it was answered."""
    answers = Notes(folder / "answers")

    def asks(state: Any) -> dict[str, Any]:
        answer = interrupt("who?")
        answers.add(answer)
        return {"log": [answer]}

    return {"b": asks}


SHAPES = {"alone": alone, "asking": asking}


@contextmanager
def two(place: str, form: str, shape: str, **options: Any) -> Iterator[list[Child]]:
    """Two processes over the same place, ready to be told what to do."""
    with saver_at(place), ExitStack() as stack:
        yield [stack.enter_context(child(obeys, place, form, shape, options)) for _ in range(2)]


def at_once(those: list[Child], *orders: Any) -> list[Any]:
    """What two processes say that are told to do something at the same time; which is told first changes."""
    for one, order in random.sample([*zip(those, orders, strict=True)], 2):
        one.send(order)
    return [one.receive() for one in those]


# -- two on one thread ---------------------------------------------------------------------------------------------


def race(place: str, form: str, on_busy: str, rounds: int, face: Face) -> Counter[Any]:
    seen: Counter[Any] = Counter()
    with two(place, form, "alone", on_busy=on_busy) as those:
        for number in range(rounds):
            name = f"race {number}"
            order: Any = ("invoke", ({"log": []}, thread(name)), {})
            said = at_once(those, order, order)
            kinds = [one if isinstance(one, str) else "finished" for one in said]
            logs = [one["log"] for one in said if not isinstance(one, str)]
            # Who came after the other had finished began anew.
            assert all(log in (ALL, ALL + ALL) or on_busy == "interrupt" for log in logs), said
            assert stands(face.saver, name) == DONE
            assert one_chain(face, name)[-1] == max(logs, key=len)
            assert (Path(place).parent / "taken").exists() is False
            seen.update([tuple(sorted(kinds))])
    return seen


RACES = {
    "raise": {("finished", "finished"), ("ThreadBusyError", "finished")},
    "wait": {("finished", "finished")},
    "interrupt": {("finished", "finished"), ("RunCancelledError", "finished")},
}
"""How a race may end for both; nobody was there at the same time, or else their nodes had failed."""


@pytest.mark.parametrize("form", ["sync", "async"])
@pytest.mark.parametrize("on_busy", RACES)
def test_two_processes_race_for_a_thread(kept: str, face: Face, form: str, on_busy: str) -> None:
    """Never do two run a thread at once: each finishes, or is told that it may not."""
    seen = race(kept, form, on_busy, 12, face)
    assert seen.keys() <= RACES[on_busy]


@pytest.mark.soak
@pytest.mark.parametrize("form", ["sync", "async"])
@pytest.mark.parametrize("on_busy", RACES)
def test_two_hundred_races(kept: str, face: Face, form: str, on_busy: str) -> None:
    """The same, 200 times."""
    seen = race(kept, form, on_busy, 200, face)
    assert seen.keys() <= RACES[on_busy]


# -- who slept through its lease -----------------------------------------------------------------------------------

SHORT: dict[str, Any] = {"lease_seconds": 0.6, "heartbeat_seconds": 0.2}


def sleeps(pipe: Pipe, place: str, form: str, durability: Durability) -> None:
    """Run threads, one by one, with a node that says that it has begun and ends when it is told to."""

    def waits(state: Any) -> None:
        pipe.send("in b")
        pipe.recv()

    async def awaits(state: Any) -> None:
        await asyncio.get_running_loop().run_in_executor(None, waits, state)

    loop = asyncio.new_event_loop() if form == "async" else None
    app = made(saver_at(place), {"b": awaits if form == "async" else waits}, form, **SHORT)
    while True:
        name = pipe.recv()
        try:
            pipe.send(called(loop, app, "invoke", {"log": []}, thread(name), durability=durability))
        except DurableError as error:
            pipe.send(type(error).__name__)


def put_to_sleep(sleeper: Child, place: str, name: str) -> None:
    """Stop a process, but not while it has the lock of the database or of its thread, which would stop everybody."""
    harmless = Batch(name, None, (), KeepLease(NOBODYS, ""))
    with saver_at(place, busy_timeout=0.1) as saver:
        while True:
            os.kill(sleeper.pid, signal.SIGSTOP)
            until(lambda: asleep(sleeper.pid))
            with suppress(BusyError):
                (outcome,) = saver._engine.store.commit([harmless])
                if isinstance(outcome, Fenced):
                    return
            os.kill(sleeper.pid, signal.SIGCONT)


def asleep(pid: int) -> bool:
    """Whether all threads of a process have stopped, which takes a moment, as far as that can be seen."""
    try:
        states = [one.read_bytes().rpartition(b")")[2].split()[0] for one in Path(f"/proc/{pid}/task").glob("*/stat")]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return all(state == b"T" for state in states)


def oversleep(place: str, form: str, durability: Durability, rounds: int, face: Face) -> None:
    with child(sleeps, place, form, durability) as sleeper:
        for number in range(rounds):
            name = f"asleep {number}"
            sleeper.send(name)
            assert sleeper.receive() == "in b"
            put_to_sleep(sleeper, place, name)
            app = made(face.saver, on_busy="wait", **SHORT)
            # Nothing is stored before the end of a run in "exit", and maybe not yet in "async": it is begun anew then.
            ended = app.resume(name) if face.list(thread(name)) else app.invoke({"log": []}, thread(name))
            assert ended["log"] == ALL
            history = one_chain(face, name)
            os.kill(sleeper.pid, signal.SIGCONT)
            sleeper.send("end")
            assert sleeper.receive() == "LeaseLostError"
            assert one_chain(face, name) == history
            assert stands(face.saver, name) == DONE


@pytest.mark.sampled(3)
@pytest.mark.parametrize("form", ["sync", "async"])
@pytest.mark.parametrize("durability", DURABILITIES)
def test_a_run_that_was_stopped_past_its_lease(kept: str, face: Face, form: str, durability: Durability) -> None:
    """Another one takes over, though the process is there, and finishes; the first cannot write any more."""
    oversleep(kept, form, durability, 2, face)


@pytest.mark.soak
@pytest.mark.parametrize("form", ["sync", "async"])
@pytest.mark.parametrize("durability", DURABILITIES)
def test_fifty_runs_that_were_stopped_past_their_leases(
    kept: str, face: Face, form: str, durability: Durability
) -> None:
    """The same, 50 times."""
    oversleep(kept, form, durability, 50, face)


@pytest.mark.parametrize("form", ["sync", "async"])
def test_a_stopped_run_that_nobody_took_over(kept: str, face: Face, form: str) -> None:
    """It is seen as crashed while it sleeps, and finishes all the same."""
    with child(sleeps, kept, form, "sync") as sleeper:
        sleeper.send("thread")
        assert sleeper.receive() == "in b"
        put_to_sleep(sleeper, kept, "thread")
        until(lambda: stands(face.saver) == Stands("crashed", "lease expired", ("b",), None))
        os.kill(sleeper.pid, signal.SIGCONT)
        until(lambda: stands(face.saver) == Stands("busy", "", ("b",), None))
        sleeper.send("end")
        assert sleeper.receive()["log"] == ALL
    assert stands(face.saver) == DONE


def test_a_plain_graph_after_a_lease_that_expired(kept: str, face: Face) -> None:
    """A saver without a lease may not write while a run has one, and may when that has expired, whoever had it."""
    with child(sleeps, kept, "sync", "sync") as sleeper:
        sleeper.send("thread")
        assert sleeper.receive() == "in b"
        with pytest.raises(ThreadBusyError):
            compiled(face.saver).invoke({"log": ["plain"]}, thread())
        put_to_sleep(sleeper, kept, "thread")
        until(lambda: stands(face.saver) == Stands("crashed", "lease expired", ("b",), None))
        assert compiled(face.saver).invoke(None, thread())["log"] == ALL
        os.kill(sleeper.pid, signal.SIGCONT)
        sleeper.send("end")
        assert sleeper.receive() == "LeaseLostError"
    assert stands(face.saver) == DONE
    assert one_chain(face)[-1] == ALL


# -- two answers ---------------------------------------------------------------------------------------------------

ANSWERS: dict[str, Callable[[str, str], Any]] = {
    "resume": lambda name, answer: ("resume", (name,), {"resume": answer}),
    "invoke": lambda name, answer: ("invoke", (Command(resume=answer), thread(name)), {}),
}


def answer(place: str, form: str, how: str, rounds: int, face: Face) -> None:
    notes = Notes(Path(place).parent / "answers")
    with two(place, form, "asking") as those:
        for number in range(rounds):
            name = f"question {number}"
            made(face.saver, asking(Path(place).parent)).invoke({"log": []}, thread(name))
            assert stands(face.saver, name) == Stands("interrupted", "node", ("b",), None)
            said = at_once(those, *(ANSWERS[how](name, f"{who} {number}") for who in ("one", "two")))
            lost = [one for one in said if isinstance(one, str)]
            assert len(lost) == 1
            assert lost[0] in ("ThreadBusyError", "NothingToResumeError")
            won = ("one", "two")[isinstance(said[0], str)]
            assert notes.lines()[number:] == [f"{won} {number}"]
            assert one_chain(face, name)[-1] == ["a", f"{won} {number}", "c"]
            assert stands(face.saver, name) == DONE


@pytest.mark.parametrize("form", ["sync", "async"])
@pytest.mark.parametrize("how", ANSWERS)
def test_two_processes_answer_one_question(kept: str, face: Face, form: str, how: str) -> None:
    """One answer is used, once; the other process is told, and the thread stands as the first one left it."""
    answer(kept, form, how, 8, face)


@pytest.mark.soak
@pytest.mark.parametrize("form", ["sync", "async"])
@pytest.mark.parametrize("how", ANSWERS)
def test_two_hundred_questions(kept: str, face: Face, form: str, how: str) -> None:
    """The same, 200 times."""
    answer(kept, form, how, 200, face)
