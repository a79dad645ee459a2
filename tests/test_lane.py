"""The lane alone, in front of a commit that the test controls."""

from __future__ import annotations

import asyncio
import gc
import linecache
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import FrameType
from typing import Any, TypeAlias

import pytest

from langgraph_durable.stores import lane as module
from langgraph_durable.stores.lane import Lane
from tests.processes import PATIENCE

Strings: TypeAlias = "Lane[str, str]"


class Store:
    """What a lane commits to: it notes each group, and can be held up or made to fail."""

    def __init__(self) -> None:
        self.groups: list[list[str]] = []
        self.threads: list[threading.Thread] = []
        self.entered = threading.Semaphore(0)
        self.gate = threading.Event()
        self.gate.set()
        self.fail: Callable[[list[str]], BaseException | None] = lambda group: None
        self._busy = threading.Lock()

    def commit(self, batches: Sequence[str]) -> list[str]:
        assert self._busy.acquire(blocking=False), "two commits at once"
        try:
            group = list(batches)
            self.entered.release()
            assert self.gate.wait(PATIENCE)
            error = self.fail(group)
            if error is not None:
                raise error
            self.groups.append(group)
            self.threads.append(threading.current_thread())
            return [f"outcome of {batch}" for batch in group]
        finally:
            self._busy.release()

    @property
    def stored(self) -> list[str]:
        """Every batch, in the order in which they were stored."""
        return [batch for group in self.groups for batch in group]


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def lane(store: Store) -> Strings:
    return Lane(store.commit, len)


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    """Threads to call the lane from."""
    with ThreadPoolExecutor(32) as pool:
        yield pool


def until(condition: Callable[[], bool]) -> None:
    """Return when the condition holds."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it never came to this"
        time.sleep(0.001)


def queued(lane: Strings, *batches: str) -> None:
    """Return when these batches wait, whatever else does."""
    until(lambda: set(batches) <= {ticket.batch for ticket in lane._queue})


def held(store: Store, lane: Strings, threads: ThreadPoolExecutor, batch: str = "first") -> Future[str]:
    """A commit that is under way until the store's gate is opened."""
    store.gate.clear()
    first = threads.submit(lane.commit, batch)
    assert store.entered.acquire(timeout=PATIENCE)
    return first


# -- groups and their order ----------------------------------------------------------------------------------------


def test_one_caller_commits_by_itself(lane: Strings, store: Store) -> None:
    """A blocking caller that nobody is in the way of commits in its own thread."""
    assert lane.commit("one") == "outcome of one"
    assert lane.commit("two") == "outcome of two"
    assert store.groups == [["one"], ["two"]]
    assert set(store.threads) == {threading.current_thread()}


def test_what_waits_is_committed_together(lane: Strings, store: Store, threads: ThreadPoolExecutor) -> None:
    """Batches that come during a commit go into the next one together, in the order in which they came."""
    first = held(store, lane, threads)
    waiting = []
    for number in range(20):
        waiting.append(threads.submit(lane.commit, f"{number}"))
        queued(lane, f"{number}")
    store.gate.set()
    assert [one.result(PATIENCE) for one in waiting] == [f"outcome of {number}" for number in range(20)]
    assert first.result(PATIENCE) == "outcome of first"
    assert store.groups == [["first"], [f"{number}" for number in range(20)]]


def test_coroutines_are_committed_together(lane: Strings, store: Store) -> None:
    """Coroutines that wait share a commit, in the order in which they came, and the loop goes on meanwhile."""

    async def main() -> list[str]:
        store.gate.clear()
        first = asyncio.ensure_future(lane.acommit("first"))
        await asyncio.to_thread(store.entered.acquire, timeout=PATIENCE)
        rest = [asyncio.ensure_future(lane.acommit(f"{number}")) for number in range(50)]
        ticks = 0
        for _ in range(20):
            await asyncio.sleep(0)
            ticks += 1
        assert ticks == 20
        assert not any(one.done() for one in [first, *rest])
        store.gate.set()
        return await asyncio.gather(first, *rest)

    outcomes = asyncio.run(main())
    assert outcomes == [f"outcome of {batch}" for batch in ["first", *map(str, range(50))]]
    assert store.groups == [["first"], [f"{number}" for number in range(50)]]
    assert threading.current_thread() not in store.threads


def test_both_kinds_of_callers_share(lane: Strings, store: Store, threads: ThreadPoolExecutor) -> None:
    """Blocking callers and coroutines that wait at the same time are in one group, in order."""

    async def main() -> list[str]:
        first = await asyncio.to_thread(held, store, lane, threads)
        waiting: list[Any] = []
        for number in range(10):
            if number % 2:
                waiting.append(asyncio.ensure_future(lane.acommit(f"{number}")))
                await asyncio.sleep(0)
            else:
                waiting.append(asyncio.wrap_future(threads.submit(lane.commit, f"{number}")))
            await asyncio.to_thread(queued, lane, f"{number}")
        store.gate.set()
        assert first.result(PATIENCE) == "outcome of first"
        outcomes: list[str] = await asyncio.gather(*waiting)
        return outcomes

    assert asyncio.run(main()) == [f"outcome of {number}" for number in range(10)]
    assert store.groups == [["first"], [f"{number}" for number in range(10)]]


def test_a_group_is_bounded(
    lane: Strings, store: Store, threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A group takes no more bytes than it may, but at least one batch, and what is left goes into the next ones."""
    monkeypatch.setattr(module, "GROUP_BYTES", 10)
    first = held(store, lane, threads)
    batches = ["aaaa", "bbbb", "cc", "d", "e" * 25, "f", "g" * 10, "hhhhh", "iiiii"]
    waiting = []
    for batch in batches:
        waiting.append(threads.submit(lane.commit, batch))
        queued(lane, batch)
    store.gate.set()
    assert [one.result(PATIENCE) for one in waiting] == [f"outcome of {batch}" for batch in batches]
    assert first.result(PATIENCE) == "outcome of first"
    assert store.groups[1:] == [["aaaa", "bbbb", "cc"], ["d"], ["e" * 25], ["f"], ["g" * 10], ["hhhhh", "iiiii"]]


def test_many_callers(lane: Strings, store: Store, threads: ThreadPoolExecutor) -> None:
    """Whoever calls, from threads and from loops, gets the outcome of its own batches, in its own order."""

    def blocking(name: str) -> None:
        for number in range(100):
            assert lane.commit(f"{name} {number}") == f"outcome of {name} {number}"

    async def task(name: str) -> None:
        for number in range(50):
            assert await lane.acommit(f"{name} {number}") == f"outcome of {name} {number}"

    async def tasks(name: str) -> None:
        await asyncio.gather(*(task(f"{name}.{number}") for number in range(8)))

    callers = [threads.submit(blocking, f"thread {number}") for number in range(6)]
    callers += [threads.submit(asyncio.run, tasks(f"loop {number}")) for number in range(4)]
    for caller in callers:
        caller.result(PATIENCE)
    assert len(store.stored) == len(set(store.stored)) == 6 * 100 + 4 * 8 * 50
    for name in {batch.rsplit(" ", 1)[0] for batch in store.stored}:
        own = [int(batch.rsplit(" ", 1)[1]) for batch in store.stored if batch.rsplit(" ", 1)[0] == name]
        assert own == sorted(own)


def test_flushing(lane: Strings, store: Store) -> None:
    """`flush` stores what nobody has waited for to the end, and is nothing when nothing waits."""
    lane.flush()
    assert store.groups == []

    async def main() -> None:
        store.gate.clear()
        left = [asyncio.ensure_future(lane.acommit(f"{number}")) for number in range(5)]
        await asyncio.sleep(0)
        for one in left:
            one.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        store.gate.set()

    asyncio.run(main())
    lane.flush()
    until(lambda: len(store.stored) == 5)
    assert sorted(store.stored) == ["0", "1", "2", "3", "4"]


# -- patience, and a place in the order ----------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["sync", "async"])
def test_a_place_in_the_order(form: str, lane: Strings, store: Store, threads: ThreadPoolExecutor) -> None:
    """When `queued` is called nothing is stored yet, and whatever is committed from then on comes later."""
    later: list[Future[str]] = []

    def placed() -> None:
        assert store.stored == []
        later.append(threads.submit(lane.commit, "later"))

    if form == "sync":
        assert lane.commit("first", queued=placed) == "outcome of first"
    else:
        assert asyncio.run(lane.acommit("first", queued=placed)) == "outcome of first"
    assert later[0].result(PATIENCE) == "outcome of later"
    assert store.stored == ["first", "later"]


@pytest.mark.parametrize("form", ["sync", "async"])
def test_a_patient_batch_finds_company(
    form: str, lane: Strings, store: Store, threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A patient batch goes with the one that comes next, and as soon as that comes."""
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 10 * PATIENCE)
    placed = threading.Event()

    async def patient() -> str:
        return await lane.acommit("patient", patient=True, queued=placed.set)

    if form == "sync":
        first = threads.submit(lambda: lane.commit("patient", patient=True, queued=placed.set))
    else:
        first = threads.submit(asyncio.run, patient())
    assert placed.wait(PATIENCE)
    assert lane.commit("next") == "outcome of next"
    assert first.result(PATIENCE) == "outcome of patient"
    assert store.groups == [["patient", "next"]]


@pytest.mark.parametrize("form", ["sync", "async"])
def test_a_patient_batch_without_company(form: str, lane: Strings, store: Store) -> None:
    """A patient batch that nobody joins is stored all the same, and several never wait for one another."""
    if form == "sync":
        assert lane.commit("patient", patient=True) == "outcome of patient"
        return

    async def main() -> list[str]:
        return list(await asyncio.gather(*(lane.acommit(f"{number}", patient=True) for number in range(3))))

    assert asyncio.run(asyncio.wait_for(main(), PATIENCE)) == [f"outcome of {number}" for number in range(3)]
    assert store.stored == ["0", "1", "2"]


def test_a_patient_caller_that_is_cancelled(lane: Strings, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A patient batch is not kept waiting when its caller is cancelled."""
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 10 * PATIENCE)

    async def main() -> None:
        task = asyncio.ensure_future(lane.acommit("patient", patient=True))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.to_thread(until, lambda: store.stored == ["patient"])

    asyncio.run(main())


# -- errors --------------------------------------------------------------------------------------------------------


def test_an_error_goes_to_all(lane: Strings, store: Store, threads: ThreadPoolExecutor) -> None:
    """When a commit fails everyone whose batch was in it is told, nobody else, and the next commit is as any other."""
    store.fail = lambda group: ValueError("no") if "bad" in group else None

    async def main() -> list[Any]:
        first = await asyncio.to_thread(held, store, lane, threads)
        waiting: list[Any] = [asyncio.wrap_future(threads.submit(lane.commit, "one"))]
        await asyncio.to_thread(queued, lane, "one")
        waiting += [asyncio.ensure_future(lane.acommit(batch)) for batch in ("bad", "two")]
        await asyncio.sleep(0)
        store.gate.set()
        assert first.result(PATIENCE) == "outcome of first"
        return await asyncio.gather(*waiting, return_exceptions=True)

    outcomes = asyncio.run(main())
    assert [str(outcome) for outcome in outcomes] == ["no", "no", "no"]
    assert {type(outcome) for outcome in outcomes} == {ValueError}
    assert lane.commit("after") == "outcome of after"
    assert asyncio.run(lane.acommit("after that")) == "outcome of after that"
    assert store.groups == [["first"], ["after"], ["after that"]]


def test_a_commit_that_answers_too_little(store: Store, threads: ThreadPoolExecutor) -> None:
    """A commit that does not answer for every batch is an error, not somebody else's outcome."""
    lane: Strings = Lane(lambda batches: store.commit(batches)[: len(store.groups)], len)
    first = held(store, lane, threads)
    waiting = []
    for number in range(3):
        waiting.append(threads.submit(lane.commit, f"{number}"))
        queued(lane, f"{number}")
    store.gate.set()
    assert first.result(PATIENCE) == "outcome of first"
    for one in waiting:
        with pytest.raises(ValueError, match="shorter"):
            one.result(PATIENCE)


# -- cancellation and Ctrl-C ---------------------------------------------------------------------------------------


def test_a_cancelled_caller(lane: Strings, store: Store, threads: ThreadPoolExecutor) -> None:
    """A coroutine that is cancelled while its batch waits is gone at once; the batch is stored, like all the others."""

    async def main() -> None:
        first = await asyncio.to_thread(held, store, lane, threads)
        tasks = [asyncio.ensure_future(lane.acommit(f"{number}")) for number in range(5)]
        await asyncio.sleep(0)
        tasks[1].cancel()
        tasks[3].cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert [task.done() for task in tasks] == [False, True, False, True, False]
        store.gate.set()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert [isinstance(outcome, asyncio.CancelledError) for outcome in outcomes] == [n in (1, 3) for n in range(5)]
        assert first.result(PATIENCE) == "outcome of first"

    asyncio.run(main())
    assert store.groups == [["first"], ["0", "1", "2", "3", "4"]]


def test_ctrl_c_in_whoever_commits(lane: Strings, store: Store, threads: ThreadPoolExecutor) -> None:
    """A KeyboardInterrupt in a commit goes to the one who made it; the others' batches are stored by somebody else."""
    interrupts = [KeyboardInterrupt()]

    def strikes(group: list[str]) -> BaseException | None:
        # Python interrupts the main thread only, which is never the worker.
        in_worker = threading.current_thread().daemon
        return interrupts.pop() if interrupts and "first" not in group and not in_worker else None

    store.fail = strikes

    async def main() -> list[Any]:
        first = await asyncio.to_thread(held, store, lane, threads)
        waiting: list[Any] = []
        for number in range(4):
            waiting.append(asyncio.wrap_future(threads.submit(lane.commit, f"{number}")))
            await asyncio.to_thread(queued, lane, f"{number}")
        tasks = [asyncio.ensure_future(lane.acommit(f"task {number}")) for number in range(3)]
        await asyncio.sleep(0)
        store.gate.set()
        assert first.result(PATIENCE) == "outcome of first"
        done, missing = await asyncio.wait([*map(asyncio.ensure_future, waiting), *tasks], timeout=PATIENCE)
        assert not missing
        return [one.exception() or one.result() for one in done]

    outcomes = asyncio.run(main())
    struck = [outcome for outcome in outcomes if isinstance(outcome, KeyboardInterrupt)]
    assert len(struck) == 1 - len(interrupts)
    assert set(outcomes) >= {f"outcome of task {number}" for number in range(3)}
    assert sum(outcome == f"outcome of {number}" for number in range(4) for outcome in outcomes) == 4 - len(struck)
    assert set(store.stored) >= {batch.removeprefix("outcome of ") for batch in outcomes if isinstance(batch, str)}


class Interrupting:
    """A trace function that raises KeyboardInterrupt at the n-th line that the lane executes in this thread."""

    def __init__(self, nth: int, functions: frozenset[str]) -> None:
        self.left = nth
        self.functions = functions
        self.struck = False

    def __call__(self, frame: FrameType, event: str, argument: Any) -> Any:
        code = frame.f_code
        if code.co_filename != module.__file__ or code.co_name not in self.functions:
            return None
        # Python looks for signals after calls and jumps, and so never between the end of a `with` block and its exit.
        if event == "line" and not linecache.getline(code.co_filename, frame.f_lineno).lstrip().startswith("with "):
            self.left -= 1
            if self.left == 0:
                self.struck = True
                sys.settrace(None)
                raise KeyboardInterrupt
        return self


@pytest.mark.skipif(sys.gettrace() is not None, reason="somebody else traces this run")
def test_ctrl_c_at_any_line(store: Store, threads: ThreadPoolExecutor) -> None:
    """Wherever in the lane a KeyboardInterrupt strikes the one who commits, nobody else waits for ever or in vain."""
    for nth in range(1, 200):
        lane: Strings = Lane(store.commit, len)
        trace = Interrupting(nth, frozenset({"commit", "_take_turn"}))

        async def main(lane: Strings = lane, trace: Interrupting = trace) -> list[str]:
            # The worker does not know of these: only whoever has the turn can take them along.
            waiting = [asyncio.ensure_future(lane.acommit(f"task {number}")) for number in range(3)]
            wake, lane._call_worker = lane._call_worker, lambda: None  # type: ignore[method-assign]
            await asyncio.sleep(0)
            lane._call_worker = wake  # type: ignore[method-assign]

            def interrupted() -> None:
                sys.settrace(trace)
                try:
                    lane.commit("mine")
                except KeyboardInterrupt:
                    pass
                finally:
                    sys.settrace(None)

            await asyncio.to_thread(interrupted)
            # Somebody who comes later must not be needed, but is what makes the next commit if the worker does not.
            later = asyncio.ensure_future(lane.acommit("later"))
            return await asyncio.wait_for(asyncio.gather(*waiting, later), PATIENCE / 2)

        store.groups.clear()
        try:
            outcomes = asyncio.run(main())
        except asyncio.TimeoutError:
            raise AssertionError(f"a batch was lost by an interrupt at line {nth} of the lane") from None
        assert outcomes == [f"outcome of {batch}" for batch in ("task 0", "task 1", "task 2", "later")]
        assert set(store.stored) >= {"task 0", "task 1", "task 2", "later"}
        if not trace.struck:
            assert nth > 20
            return
    raise AssertionError("the commit never got through")


# -- loops and the worker ------------------------------------------------------------------------------------------


def test_loops_one_after_another(lane: Strings, store: Store) -> None:
    """The lane serves one loop after the other, with the same worker."""
    for number in range(10):
        assert asyncio.run(lane.acommit(f"{number}")) == f"outcome of {number}"
    assert store.stored == [f"{number}" for number in range(10)]
    assert len(set(store.threads)) == 1


def test_a_loop_that_was_closed(lane: Strings, store: Store) -> None:
    """A loop that is closed while its batches wait takes nobody with it."""
    store.gate.clear()
    loop = asyncio.new_event_loop()
    left = loop.create_task(lane.acommit("left"))
    left._log_destroy_pending = False  # type: ignore[attr-defined]  # it is what this is about
    loop.run_until_complete(asyncio.sleep(0))
    assert store.entered.acquire(timeout=PATIENCE)
    loop.close()

    async def main() -> str:
        waiting = asyncio.ensure_future(lane.acommit("other"))
        await asyncio.sleep(0)
        store.gate.set()
        return await asyncio.wait_for(waiting, PATIENCE)

    assert asyncio.run(main()) == "outcome of other"
    assert store.stored == ["left", "other"]


def test_blocking_inside_a_running_loop(lane: Strings, store: Store) -> None:
    """A blocking call inside a running loop returns, also when coroutines of that loop wait before it."""

    async def main() -> None:
        store.gate.clear()
        waiting = [asyncio.ensure_future(lane.acommit(f"{number}")) for number in range(3)]
        await asyncio.sleep(0)
        threading.Timer(0.05, store.gate.set).start()
        assert lane.commit("blocking") == "outcome of blocking"
        assert lane.commit("once more") == "outcome of once more"
        await asyncio.wait_for(asyncio.gather(*waiting), PATIENCE)

    asyncio.run(main())
    assert sorted(store.stored) == ["0", "1", "2", "blocking", "once more"]


def test_the_worker_ends_and_comes_back(lane: Strings, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that has nothing to do ends, and the next coroutine gets another one; it never keeps a process alive."""
    monkeypatch.setattr(module, "IDLE_SECONDS", 0.01)
    seen = set()
    for number in range(5):
        assert asyncio.run(lane.acommit(f"{number}")) == f"outcome of {number}"
        worker = store.threads[-1]
        assert worker.daemon
        seen.add(worker)
        until(lambda worker=worker: not worker.is_alive())  # type: ignore[misc]
    assert len(seen) == 5


def test_a_worker_that_is_called_as_it_ends(lane: Strings, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """No batch is forgotten between a worker that ends and the one that comes after it."""
    monkeypatch.setattr(module, "IDLE_SECONDS", 0.0005)

    async def main() -> None:
        for number in range(300):
            assert await asyncio.wait_for(lane.acommit(f"{number}"), PATIENCE) == f"outcome of {number}"
            if number % 3:
                await asyncio.sleep(0.0004 + (number % 7) * 0.0001)

    asyncio.run(main())
    assert store.stored == [f"{number}" for number in range(300)]


def test_a_lane_that_nobody_uses_is_collected(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """An idle worker does not keep the lane it worked for."""
    monkeypatch.setattr(module, "IDLE_SECONDS", 0.01)
    lane: Strings = Lane(store.commit, len)
    asyncio.run(lane.acommit("one"))
    gone = weakref.ref(lane)
    worker = store.threads[-1]
    del lane
    gc.collect()
    until(lambda: gone() is None)
    until(lambda: not worker.is_alive())


def test_forked(lane: Strings, store: Store, threads: ThreadPoolExecutor) -> None:
    """In the child of a fork the lane is free and empty, whatever it was doing in the parent."""
    first = held(store, lane, threads)
    waiting = threads.submit(lane.commit, "waiting")
    queued(lane, "waiting")
    child: Strings = Lane(store.commit, len)
    child.__dict__.update(lane.__dict__)
    child._queue = lane._queue.copy()
    others = Store()
    child._commit = others.commit
    child.forked()
    assert child.commit("mine") == "outcome of mine"
    assert asyncio.run(child.acommit("mine too")) == "outcome of mine too"
    assert others.groups == [["mine"], ["mine too"]]
    store.gate.set()
    assert first.result(PATIENCE) == "outcome of first"
    assert waiting.result(PATIENCE) == "outcome of waiting"


def test_ctrl_c_while_the_worker_is_started(lane: Strings, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was queued when a signal raised in the start of the worker is stored by that worker, at once."""
    monkeypatch.setattr(module, "IDLE_SECONDS", 10 * PATIENCE)
    start = threading.Thread.start

    def interrupted(self: threading.Thread) -> None:
        start(self)
        if self.name == "langgraph-durable":
            raise KeyboardInterrupt

    async def main() -> None:
        with pytest.raises(KeyboardInterrupt):
            await lane.acommit("queued")

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    asyncio.run(main())
    until(lambda: store.stored == ["queued"])
