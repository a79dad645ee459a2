"""A saver that a forked child inherits works in the child and in the parent, whatever the parent's threads were doing.

The forks are made in a process of their own, so that a deadlock costs a child and not the tests.
"""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import signal
import sqlite3
import threading
import time
import traceback
import warnings
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import HumanMessage

from langgraph_durable import SqliteSaver
from langgraph_durable.errors import OpenError
from langgraph_durable.stores.sqlite import connections
from tests.conftest import checkpoint, thread
from tests.processes import Pipe, child, forks

pytestmark = forks

PATIENCE = 30.0
"""Seconds that a forked child gets for a few milliseconds of work."""


def use(saver: SqliteSaver, name: str, form: str = "both") -> None:
    """Put, write and read in a thread of its own, and go on with one that is shared."""
    messages = [HumanMessage(f"{name} {step} " * 10, id=str(step)) for step in range(5)]
    if form != "async":
        saved = saver.put(thread(name), checkpoint("1", messages=messages), {}, {})
        saver.put_writes(saved, [("messages", [f"{name} " * 30])], "task")
        check(saver, name)
    if form != "sync":
        asyncio.run(ause(saver, f"{name} async", messages))


async def ause(saver: SqliteSaver, name: str, messages: list[HumanMessage]) -> None:
    saved = await saver.aput(thread(name), checkpoint("1", messages=messages), {}, {})
    await saver.aput_writes(saved, [("messages", [f"{name} " * 30])], "task")
    assert await saver.aget_tuple(saved) is not None


def check(saver: SqliteSaver, name: str) -> None:
    """What `use` put is there."""
    found = saver.get_tuple(thread(name))
    assert found is not None, name
    assert [one.id for one in found.checkpoint["channel_values"]["messages"]] == ["0", "1", "2", "3", "4"]
    assert found.pending_writes == [("task", "messages", [f"{name} " * 30])]


def forked(work: Callable[[], None]) -> int:
    """A child of this process that does `work` and ends."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of every fork beside a thread
        pid = os.fork()
    if pid == 0:
        signal.alarm(int(2 * PATIENCE))  # it goes even when whoever would kill it is gone
        status = 1
        try:
            work()
            status = 0
        except BaseException:  # noqa: BLE001  it ends here, with a word on it for whoever looks at a failed test
            traceback.print_exc()
        finally:
            os._exit(status)
    return pid


def ended(pid: int) -> bool:
    """Whether the child did its work; killed when it does not end."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return status == 0
        time.sleep(0.002)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return False


def sound(path: Path | str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def forks_and_goes_on(pipe: Pipe, path: str) -> None:
    """Use a saver, fork ten children that use it at the same time as the parent, and a child of a child."""
    saver = SqliteSaver(path)
    use(saver, "before")
    pids = [forked(lambda n=n: use(saver, f"child {n}")) for n in range(10)]  # type: ignore[misc]
    for n in range(10):
        use(saver, f"beside {n}")
    assert [ended(pid) for pid in pids] == [True] * 10

    def again() -> None:
        use(saver, "child")
        assert ended(forked(lambda: use(saver, "grandchild")))
        use(saver, "child after")

    assert ended(forked(again))
    use(saver, "after")
    names = ["before", "child", "grandchild", "child after", "after"]
    names += [f"{who} {n}" for who in ("child", "beside") for n in range(10)]
    for name in names:
        check(saver, name)
        assert saver.get_tuple(thread(f"{name} async")) is not None
    pipe.send(names)


def told(job: Callable[[Pipe, str], None], path: str) -> list[str]:
    """The names that the parent says to have used in a job."""
    with child(job, path) as parent:
        names: list[str] = parent.receive(10 * PATIENCE)
    return names


def all_there(path: str, names: list[str]) -> None:
    """A process that has nothing to do with the others finds all of it."""
    sound(path)
    assert names
    with SqliteSaver(path) as saver:
        for name in names:
            check(saver, name)


def test_parent_and_children(path: str) -> None:
    """Children of a fork, their children, and the parent beside them put and get with the one saver they have."""
    all_there(path, told(forks_and_goes_on, path))


def forks_with_multiprocessing(pipe: Pipe, path: str) -> None:
    """The same with `multiprocessing`, from a parent with an idle worker thread and open readers."""
    saver = SqliteSaver(path)
    use(saver, "before")
    listing = saver.list(None)
    next(listing)
    context: Any = multiprocessing.get_context("fork")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        those = [context.Process(target=use, args=(saver, f"child {n}")) for n in range(4)]
        for one in those:
            one.start()
    use(saver, "beside")
    for one in those:
        one.join(PATIENCE)
        assert one.exitcode == 0
    assert [found.config["configurable"]["thread_id"] for found in listing] == ["before"]
    use(saver, "after")
    pipe.send(["before", "beside", "after", *(f"child {n}" for n in range(4))])


def test_multiprocessing(path: str) -> None:
    """A process of `multiprocessing` that was forked uses the saver of its parent."""
    all_there(path, told(forks_with_multiprocessing, path))


def forks_during_commits(pipe: Pipe, path: str) -> None:
    """Fork again and again while four threads and a loop use the saver, and let every child use it too."""
    saver = SqliteSaver(path)
    use(saver, "before")
    stop = threading.Event()
    names: list[str] = []

    def busy(name: str, form: str) -> None:
        number = 0
        while not stop.is_set():
            use(saver, f"{name} {number}", form)
            if form == "sync":
                names.append(f"{name} {number}")
            number += 1

    threads = [threading.Thread(target=busy, args=(f"thread {n}", "sync")) for n in range(3)]
    threads.append(threading.Thread(target=busy, args=("loop", "async")))
    for one in threads:
        one.start()
    hung = 0
    for n in range(40):
        if ended(forked(lambda n=n: use(saver, f"child {n}"))):  # type: ignore[misc]
            names.append(f"child {n}")
        else:
            hung += 1
            if hung == 2:
                break
    stop.set()
    for one in threads:
        one.join()
    use(saver, "after")
    pipe.send(hung)
    pipe.send([*names, "after"])


def test_a_fork_during_a_commit(path: str) -> None:
    """A child that was forked while threads of the parent were reading and committing is not held up by them."""
    with child(forks_during_commits, path) as parent:
        hung = parent.receive(10 * PATIENCE)
        names = parent.receive()
    all_there(path, names)
    assert hung == 0


def forks_a_memory(pipe: Pipe, path: str) -> None:
    """Fork while a thread uses a saver over memory; the child's copy and the parent's go their own ways."""
    saver = SqliteSaver(":memory:")
    use(saver, "before")
    stop = threading.Event()

    def busy() -> None:
        number = 0
        while not stop.is_set():
            use(saver, f"thread {number % 10}", "sync")
            saver.delete_thread(f"thread {number % 10}")
            number += 1

    def work() -> None:
        check(saver, "before")
        use(saver, "child")

    assert ended(forked(work))
    assert saver.get_tuple(thread("child")) is None
    busy_thread = threading.Thread(target=busy)
    busy_thread.start()
    hung = sum(not ended(forked(work)) for _ in range(3))
    stop.set()
    busy_thread.join()
    use(saver, "after")
    assert saver.get_tuple(thread("child")) is None
    pipe.send(hung)


def test_memory(path: str) -> None:
    """A child has its own copy of a database in memory, as of the fork, even if a thread was using it just then."""
    with child(forks_a_memory, path) as parent:
        assert parent.receive(10 * PATIENCE) == 0


def forks_and_closes(pipe: Pipe, path: str) -> None:
    """Let children close the saver, drop it, and delete threads, while the parent goes on."""
    saver = SqliteSaver(path)
    use(saver, "before")
    use(saver, "to be deleted")
    assert ended(forked(saver.close))
    use(saver, "second")

    def deletes() -> None:
        saver.delete_thread("to be deleted")
        saver.prune(["before"])
        saver.close()

    assert ended(forked(deletes))
    assert saver.get_tuple(thread("to be deleted")) is None
    use(saver, "third")
    # What this process remembers of a thread that the child has pruned does not lead it astray.
    check(saver, "before")
    saver.close()
    pipe.send(["before", "second", "third"])


def test_a_child_that_closes_the_saver(path: str) -> None:
    """A child may close the saver it inherited, or delete with it; the parent's goes on working and sees that."""
    all_there(path, told(forks_and_closes, path))


def outlives_its_parents_saver(pipe: Pipe, path: str) -> None:
    """Let a child use the saver before and after the parent has closed its own."""
    saver = SqliteSaver(path)
    use(saver, "before")
    ready, go_on = multiprocessing.Pipe()

    def work() -> None:
        use(saver, "child", "sync")
        go_on.send("ready")
        assert go_on.poll(PATIENCE)
        use(saver, "child after", "sync")

    pid = forked(work)
    assert ready.poll(PATIENCE), "the child said nothing"
    saver.close()
    ready.send("closed")
    assert ended(pid)
    pipe.send(["before", "child", "child after"])


def test_a_child_that_outlives_its_parents_saver(path: str) -> None:
    """What a child stores after the parent has closed the saver is there for the next process."""
    all_there(path, told(outlives_its_parents_saver, path))


def reads_beside_its_parent(pipe: Pipe, path: str) -> None:
    """Fork while a thread is reading; let the child read again and again while the parent writes and settles."""
    saver = SqliteSaver(path)
    names = [f"stable {n}" for n in range(5)]
    for name in names:
        use(saver, name, "sync")
    stop = threading.Event()

    def reads() -> None:
        while not stop.is_set():
            assert len(list(saver.list(thread("stable 1")))) == 1

    reader = threading.Thread(target=reads)
    reader.start()

    def work() -> None:
        for _ in range(100):
            for name in names:
                check(saver, name)

    for n in range(6):
        pid = forked(work)
        for number in range(20):
            use(saver, f"parent {n} {number}", "sync")
            # The log is cut: whoever reads from it has to hold its place in it.
            saver.delete_thread(f"parent {n} {number}")
        assert ended(pid)
    stop.set()
    reader.join()
    pipe.send(names)


def test_a_child_that_reads_while_the_parent_writes(path: str) -> None:
    """A child that was forked during a read reads rightly while the parent writes, deletes and cuts the log."""
    all_there(path, told(reads_beside_its_parent, path))


def forks_with_a_queue(pipe: Pipe, path: str) -> None:
    """Fork in a loop while batches are waiting; only the parent stores them."""
    saver = SqliteSaver(path)
    use(saver, "before")

    async def main() -> None:
        waiting = [
            asyncio.ensure_future(saver.aput(thread(f"waiting {n}"), checkpoint("1", n=n), {}, {})) for n in range(20)
        ]
        await asyncio.sleep(0)
        pid = forked(lambda: use(saver, "child", "sync"))
        assert ended(pid)
        await asyncio.gather(*waiting)

    asyncio.run(main())
    assert all(saver.get_tuple(thread(f"waiting {n}")) is not None for n in range(20))
    assert len(list(saver.list(thread("waiting 1")))) == 1
    use(saver, "after")
    pipe.send(["before", "child", "after"])


def test_a_fork_with_batches_waiting(path: str) -> None:
    """What was waiting to be stored at the moment of a fork is stored by the parent, and does not stop the child."""
    all_there(path, told(forks_with_a_queue, path))


def inherited(path: str) -> list[str]:
    """The files of a database that this process has open, where the system can tell."""
    found = []
    for link in Path("/proc/self/fd").glob("*"):
        with suppress(OSError):
            found.append(os.readlink(link))
    return [one for one in found if one.startswith(path)]


def forks_beside_a_transaction(pipe: Pipe, path: str) -> None:
    """Fork while a thread holds the write lock, another is reading, and a third waits for its turn."""
    saver = SqliteSaver(path)
    use(saver, "before")
    held = saver._engine.store._connections  # type: ignore[attr-defined]
    inside = threading.Barrier(3)

    def writes() -> None:
        with held.turn, held.writer() as cursor:
            cursor.execute("BEGIN IMMEDIATE")
            inside.wait()
            time.sleep(0.2)
            cursor.execute("ROLLBACK")

    def reads() -> None:
        with held.reader() as cursor:
            cursor.execute("BEGIN")
            cursor.execute("SELECT * FROM durable_checkpoints").fetchone()
            inside.wait()
            time.sleep(0.2)
            cursor.execute("ROLLBACK")

    def work() -> None:
        assert inherited(path) == []
        use(saver, "child")

    threads = [threading.Thread(target=one) for one in (writes, reads, lambda: use(saver, "beside", "sync"))]
    for one in threads[:2]:
        one.start()
    inside.wait()
    threads[2].start()
    assert ended(forked(work))
    for one in threads:
        one.join()
    use(saver, "after")
    pipe.send(["before", "beside", "child", "after"])


def test_a_fork_waits_for_whoever_is_inside(path: str) -> None:
    """A child inherits no transaction and no open file: SQLite would take the parent's locks for the child's."""
    all_there(path, told(forks_beside_a_transaction, path))


def forks_beside_one_who_stays(pipe: Pipe, path: str) -> None:
    """Fork while a thread stays inside SQLite, and out of a transaction of one's own."""
    connections.FORK_SECONDS = 0.1
    saver = SqliteSaver(path, busy_timeout=0.1)
    other = SqliteSaver(":memory:")
    use(saver, "before")
    held = saver._engine.store._connections  # type: ignore[attr-defined]
    inside, stop = threading.Event(), threading.Event()

    def stays() -> None:
        with held.turn, held.writer():
            inside.set()
            stop.wait(PATIENCE)

    def refused() -> None:
        for use_it in (lambda: check(saver, "before"), lambda: use(saver, "child"), lambda: SqliteSaver(path)):
            with pytest.raises(OpenError, match="forked"):
                use_it()
        use(other, "child")
        assert ended(forked(grandchild))

    def grandchild() -> None:
        with pytest.raises(OpenError, match="forked"):
            check(saver, "before")

    thread = threading.Thread(target=stays)
    thread.start()
    inside.wait()
    assert ended(forked(refused))
    stop.set()
    thread.join()
    with held.turn, held.writer():
        pid = forked(refused)
    assert ended(pid)
    assert ended(forked(lambda: use(saver, "child")))
    use(saver, "after")
    pipe.send(["before", "child", "after"])


def test_a_fork_beside_one_who_stays(path: str) -> None:
    """When a thread does not come out in time the child is told so, instead of being left to hang or lose data."""
    all_there(path, told(forks_beside_one_who_stays, path))


def becomes_a_daemon(pipe: Pipe, path: str) -> None:
    """Fork, and work in another directory, with a saver whose path is relative."""
    os.chdir(Path(path).parent)
    saver = SqliteSaver(Path(path).name)
    use(saver, "before")
    elsewhere = Path(path).parent / "elsewhere"
    elsewhere.mkdir()

    def work() -> None:
        os.chdir(elsewhere)
        check(saver, "before")
        use(saver, "child")
        assert list(elsewhere.iterdir()) == []

    assert ended(forked(work))
    pipe.send(["before", "child"])


def test_a_child_in_another_directory(path: str) -> None:
    """A relative path means the file that it meant when the saver was made."""
    all_there(path, told(becomes_a_daemon, path))


def forks_without_collecting(pipe: Pipe, path: str) -> None:
    """Fork with a saver that only the garbage collector can find, while it is asked to look at every object."""
    lost: list[Any] = [SqliteSaver(path)]
    use(lost[0], "before")
    lost.append(lost)
    del lost
    gc.set_threshold(1)
    assert ended(forked(lambda: use(SqliteSaver(path), "child")))
    assert gc.isenabled()
    gc.set_threshold(700)
    use(SqliteSaver(path), "after")
    pipe.send(["before", "child", "after"])


def test_a_fork_that_the_garbage_collector_meets(path: str) -> None:
    """A saver that nobody uses any more, found while the process forks, stops neither parent nor child."""
    all_there(path, told(forks_without_collecting, path))
