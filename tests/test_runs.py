"""A run holds its thread from beginning to end, and no longer: not in a fork, not after an error, not by mistake."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest
from langgraph.errors import InvalidUpdateError

from langgraph_durable import (
    InvalidRequestError,
    LeaseLostError,
    NothingToResumeError,
    StoreError,
    ThreadBusyError,
)
from langgraph_durable.core.records import Batch, KeepLease, PutCheckpoint, TakeLease
from langgraph_durable.heartbeat import Beat, heartbeat
from langgraph_durable.saver import DurableSaver
from langgraph_durable.signals import Signals
from tests.conftest import checkpoint, saver_at, thread
from tests.durables import Stands, called, compiled, form_of, made, stands, until
from tests.processes import PATIENCE, Pipe, child, forks

ALL = ["a", "b", "c"]
DONE = Stands("idle", "", (), None)


@pytest.fixture
def saver(kept: str) -> Iterator[DurableSaver]:
    with saver_at(kept) as opened:
        yield opened


def committing(monkeypatch: pytest.MonkeyPatch, saver: DurableSaver, before: Callable[[list[Any]], None]) -> None:
    """Call something with what each transaction is to do; nothing of it is stored when that raises."""
    lane = saver._engine.lane
    commit = lane._commit

    def committed(batches: Sequence[Batch]) -> Any:
        before([batch.work for batch in batches])
        return commit(batches)

    monkeypatch.setattr(lane, "_commit", committed)


# -- what is refused -----------------------------------------------------------------------------------------------

REFUSED: dict[str, tuple[type[Exception], Callable[[Any, Any], Any]]] = {
    "resume": (NothingToResumeError, lambda loop, app: called(loop, app, "resume", "thread")),
    "answer": (NothingToResumeError, lambda loop, app: called(loop, app, "resume", "thread", resume="?")),
    "from_node": (InvalidRequestError, lambda loop, app: called(loop, app, "resume", "thread", from_node="z")),
    "fork": (InvalidRequestError, lambda loop, app: called(loop, app, "fork", "thread", step=99)),
    "rewind": (InvalidRequestError, lambda loop, app: called(loop, app, "rewind", "thread", 2)),
    "update_state": (
        InvalidUpdateError,
        lambda loop, app: called(loop, app, "update_state", thread(), {"log": ["?"]}, as_node="z"),
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_refused_leaves_the_thread_as_it_was(
    saver: DurableSaver, loop: asyncio.AbstractEventLoop | None, what: str
) -> None:
    """A call that cannot mean anything is no run that failed: the thread stays idle, and nobody has it."""
    app = made(saver, {}, form_of(loop))
    called(loop, app, "invoke", {"log": []}, thread())
    before = saver.get_thread("thread")
    error, call = REFUSED[what]
    with pytest.raises(error):
        call(loop, app)
    assert saver.get_thread("thread") == before
    assert stands(saver) == DONE


def test_new_input_that_is_refused(saver: DurableSaver, loop: asyncio.AbstractEventLoop | None) -> None:
    """With `on_crash="fail"` new input for a failed thread is InvalidRequestError, and its error is the same."""

    def fails(state: Any) -> None:
        raise ValueError("not now")

    app = made(saver, {"b": fails}, form_of(loop), on_crash="fail")
    with pytest.raises(ValueError, match="not now"):
        called(loop, app, "invoke", {"log": []}, thread())
    before = saver.get_thread("thread")
    with pytest.raises(InvalidRequestError, match="b not finished"):
        called(loop, app, "invoke", {"log": ["new"]}, thread())
    assert saver.get_thread("thread") == before


# -- forks ---------------------------------------------------------------------------------------------------------


def forks_in_a_run(pipe: Pipe, place: str, how: str) -> None:
    """Fork while a run goes on; the child tries to write, and leaves the run; then the parent does the same."""
    saver = saver_at(place)
    app = made(saver, lease_seconds=0.6, heartbeat_seconds=0.2)
    with suppress(SystemExit), app._run(thread()) as run:
        saved = run.saver.put(thread(), checkpoint("1", log=["parent"]), {"step": 0}, {})
        number = os.fork()
        if number:
            assert os.waitpid(number, 0)[1] == 0
            found = saver.get_thread("thread")
            assert found is not None
            run.saver.put(saved, checkpoint("2", log=["parent"]), {"step": 1}, {})
            pipe.send(found.status)
        else:
            try:
                run.saver.put(saved, checkpoint("3", log=["child"]), {"step": 1}, {})
            except LeaseLostError:
                if how == "raises":
                    raise SystemExit(0) from None
            else:
                os._exit(2)
    if not number:
        os._exit(0)


@forks
@pytest.mark.parametrize("how", ["returns", "raises"])
def test_a_fork_in_a_run(kept: str, saver: DurableSaver, how: str) -> None:
    """The child of a fork has no lease: it cannot write, and when it leaves the run the parent still has the thread."""
    with child(forks_in_a_run, kept, how) as running:
        assert running.receive() == "busy"
        assert running.rest() == []
    assert [one.checkpoint["id"] for one in saver.list(thread())] == ["2", "1"]


# -- errors of the store -------------------------------------------------------------------------------------------


def test_a_checkpoint_that_cannot_be_stored(
    saver: DurableSaver, loop: asyncio.AbstractEventLoop | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run ends with the store's error, the thread says so, and it goes on when the store does."""
    full = False

    def before(works: list[Any]) -> None:
        if full and any(isinstance(work, PutCheckpoint) for work in works):
            raise StoreError("the disk is full")

    def fills(state: Any) -> None:
        nonlocal full
        full = True

    committing(monkeypatch, saver, before)
    app = made(saver, {"b": fills}, form_of(loop))
    with pytest.raises(StoreError, match="full"):
        called(loop, app, "invoke", {"log": []}, thread())
    assert stands(saver) == Stands("error", "exception", ("b",), "langgraph_durable.errors.StoreError")
    full = False
    assert called(loop, made(saver, {}, form_of(loop)), "resume", "thread")["log"] == ALL
    assert stands(saver) == DONE


def test_a_store_that_takes_nothing_any_more(
    saver: DurableSaver, loop: asyncio.AbstractEventLoop | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that cannot even say that it ended raises the first error, and its lease is over when it expires."""
    full = False

    def before(works: list[Any]) -> None:
        if full:
            raise StoreError("the disk is full")

    def fills(state: Any) -> None:
        nonlocal full
        full = True

    short: dict[str, Any] = {"lease_seconds": 0.6, "heartbeat_seconds": 0.2}
    committing(monkeypatch, saver, before)
    with pytest.raises(StoreError, match="full"):
        called(loop, made(saver, {"b": fills}, form_of(loop), **short), "invoke", {"log": []}, thread())
    full = False
    until(lambda: stands(saver) == Stands("crashed", "lease expired", ("b",), None))
    assert called(loop, made(saver, {}, form_of(loop)), "resume", "thread")["log"] == ALL
    assert stands(saver) == DONE


def test_a_heartbeat_that_fails_for_a_while(
    saver: DurableSaver, loop: asyncio.AbstractEventLoop | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run goes on through beats that could not be stored."""
    failed = threading.Event()
    renewed = threading.Event()

    def before(works: list[Any]) -> None:
        if [type(work) for work in works] == [KeepLease]:
            if not failed.is_set():
                failed.set()
                raise StoreError("the disk is full")
            renewed.set()

    def waits(state: Any) -> None:
        assert failed.wait(PATIENCE)
        assert renewed.wait(PATIENCE)

    committing(monkeypatch, saver, before)
    app = made(saver, {"b": waits}, form_of(loop), heartbeat_seconds=0.01)
    assert called(loop, app, "invoke", {"log": []}, thread())["log"] == ALL
    assert stands(saver) == DONE


# -- cancelled on the way in ---------------------------------------------------------------------------------------


def test_a_run_that_is_cancelled_while_it_takes_its_lease(saver: DurableSaver, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lease that it was about to get is nobody's: the next run begins at once."""
    taking, go = threading.Event(), threading.Event()

    def before(works: list[Any]) -> None:
        if isinstance(works[0], TakeLease) and not taking.is_set():
            taking.set()
            assert go.wait(PATIENCE)

    async def main() -> None:
        app = made(saver, {}, "async")
        running = asyncio.create_task(app.ainvoke({"log": []}, thread()))
        await asyncio.to_thread(taking.wait, PATIENCE)
        running.cancel()
        await asyncio.sleep(0)
        go.set()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert stands(saver) is None
        assert (await app.ainvoke({"log": []}, thread()))["log"] == ALL

    committing(monkeypatch, saver, before)
    asyncio.run(main())
    assert stands(saver) == DONE


def test_ctrl_c_while_a_run_takes_its_lease(saver: DurableSaver, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same where it is Ctrl-C, whose batch somebody else stores."""
    struck = False

    def before(works: list[Any]) -> None:
        nonlocal struck
        if isinstance(works[0], TakeLease) and not struck:
            struck = True
            raise KeyboardInterrupt

    app = made(saver)
    committing(monkeypatch, saver, before)
    with pytest.raises(KeyboardInterrupt):
        app.invoke({"log": []}, thread())
    assert stands(saver) is None
    assert app.invoke({"log": []}, thread())["log"] == ALL
    assert stands(saver) == DONE


def test_an_interruption_when_a_run_has_its_lease(
    saver: DurableSaver, loop: asyncio.AbstractEventLoop | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same where it comes after that, before the graph begins."""
    start = heartbeat.start

    def struck(name: object, beat: Beat) -> None:
        start(name, beat)
        monkeypatch.undo()
        raise ZeroDivisionError

    app = made(saver, {}, form_of(loop))
    monkeypatch.setattr(heartbeat, "start", struck)
    with pytest.raises(ZeroDivisionError):
        called(loop, app, "invoke", {"log": []}, thread())
    assert stands(saver) is None
    assert heartbeat._beats == {}
    assert called(loop, app, "invoke", {"log": []}, thread())["log"] == ALL


# -- threads -------------------------------------------------------------------------------------------------------


def test_runs_in_other_threads(saver: DurableSaver, loop: asyncio.AbstractEventLoop | None) -> None:
    """`batch` over many threads holds each of them by itself, in whatever threads of the process it runs."""
    app = made(saver, {}, form_of(loop))
    names = [f"thread {number}" for number in range(12)]
    ended = called(loop, app, "batch", [{"log": [name]} for name in names], [thread(name) for name in names])
    assert [one["log"] for one in ended] == [[name, *ALL] for name in names]
    assert {stands(saver, name) for name in names} == {DONE}


def test_a_batch_on_one_thread(saver: DurableSaver, loop: asyncio.AbstractEventLoop | None) -> None:
    """Runs of one batch that want the same thread come one after the other if they wait, in any order."""
    app = made(saver, {}, form_of(loop), on_busy="wait")
    ended = called(loop, app, "batch", [{"log": []}] * 4, [thread()] * 4)
    assert sorted(len(one["log"]) for one in ended) == [3, 6, 9, 12]
    assert stands(saver) == DONE


def test_a_stream_that_is_closed_in_another_thread(saver: DurableSaver) -> None:
    """Its run ends there, and when the next run of the main thread has, signals do what they did before."""
    handlers = _handlers()
    app = made(saver)
    stream = app.stream({"log": []}, thread(), stream_mode="updates")
    assert next(stream) == {"a": {"log": ["a"]}}
    with ThreadPoolExecutor(1) as other:
        other.submit(stream.close).result()  # type: ignore[attr-defined]
    assert stands(saver) == Stands("interrupted", "cancelled", ("b",), None)
    assert app.resume("thread")["log"] == ALL
    assert _handlers() == handlers
    assert Signals._runs == []


def _handlers() -> list[Any]:
    return [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]


# -- who only looks ------------------------------------------------------------------------------------------------


def holds(pipe: Pipe, place: str) -> None:
    """Run a graph whose second node says so, and ends when it is told to."""

    def waits(state: Any) -> None:
        pipe.send("in b")
        pipe.recv()

    pipe.send(made(saver_at(place), {"b": waits}).invoke({"log": []}, thread())["log"])


@forks
def test_looking_at_a_thread_that_another_process_runs(
    kept: str, saver: DurableSaver, loop: asyncio.AbstractEventLoop | None
) -> None:
    """State, history and listings are there without a lease; what writes is ThreadBusyError, and disturbs nobody."""
    with child(holds, kept) as running:
        assert running.receive() == "in b"
        for app in (made(saver, {}, form_of(loop)), compiled(saver, form=form_of(loop))):
            state = called(loop, app, "get_state", thread())
            assert (state.values["log"], state.next) == (["a"], ("b",))
            with pytest.raises(ThreadBusyError):
                called(loop, app, "update_state", thread(), {"log": ["?"]})
            with pytest.raises(ThreadBusyError):
                called(loop, app, "invoke", {"log": ["?"]}, thread())
        durably = made(saver, {}, form_of(loop))
        assert called(loop, durably, "resume", "thread", dry_run=True).next == ("b",)
        with pytest.raises(ThreadBusyError):
            called(loop, durably, "fork", "thread")
        assert stands(saver) == Stands("busy", "", ("b",), None)
        running.send("end")
        assert running.receive() == ALL
    assert stands(saver) == DONE
