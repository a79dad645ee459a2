"""Threads, tasks, loops and open listings that share one saver: each works as if it were alone."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import pytest
from langchain_core.messages import AnyMessage, HumanMessage
from langchain_core.runnables import RunnableConfig

from langgraph_durable import SqliteSaver
from tests.conftest import Face, checkpoint, thread
from tests.processes import PATIENCE


def messages(name: str, number: int, start: int = 0) -> list[AnyMessage]:
    """Messages that nobody else has."""
    return [HumanMessage(f"{name} says {step}", id=f"{name}-{step}") for step in range(start, start + number)]


def whole(face: Face, thread_id: str, stored: dict[str, dict[str, Any]]) -> None:
    """Exactly these checkpoints are stored, one by one and in the listing."""
    listed = {found.checkpoint["id"]: found.checkpoint["channel_values"] for found in face.list(thread(thread_id))}
    assert listed == stored
    for checkpoint_id, values in stored.items():
        assert face.values(thread(thread_id, checkpoint_id=checkpoint_id)) == values


# -- open listings -----------------------------------------------------------------------------------------------------


def test_no_lock_while_a_listing_is_open(place: str, open_face: Callable[..., Face]) -> None:
    """Half way through a listing the same thread puts, deletes and lists, and others get the write lock."""
    face = open_face(place, busy_timeout=0.5)
    saved = thread()
    for number in range(150):
        saved = face.put(saved, checkpoint(f"{number:03}", n=number))

    def meanwhile() -> None:
        face.put(saved, checkpoint("new", n=-1))
        face.put_writes(saved, [("n", 1)], "task")
        face.put(thread("other"), checkpoint("other"))
        assert len(face.list(thread(), limit=3)) == 3
        face.call("delete_thread", "other")
        if place.endswith(".db"):
            with closing(sqlite3.connect(place, timeout=0, isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")
                other.execute("ROLLBACK")
                # A reader that keeps its snapshot would keep the log from being cut.
                assert other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone() == (0, 0, 0)

    if face.loop is None:
        listing = face.saver.list(thread())
        seen = [next(listing).checkpoint["id"]]
        meanwhile()
        seen += [found.checkpoint["id"] for found in listing]
    else:
        alisting = face.saver.alist(thread())
        seen = [face.run(_next(alisting))]
        meanwhile()
        seen += face.run(_rest(alisting))
    assert seen == [f"{number:03}" for number in range(149, -1, -1)]


async def _next(listing: Any) -> str:
    return str((await anext(listing)).checkpoint["id"])


async def _rest(listing: Any) -> list[str]:
    return [found.checkpoint["id"] async for found in listing]


def test_a_listing_that_is_given_up(place: str, open_face: Callable[..., Face]) -> None:
    """A listing that nobody walks to its end holds nothing up, and can be closed."""
    face = open_face(place)
    for number in range(100):
        face.put(thread(f"{number}"), checkpoint(f"{number:03}"))
    if face.loop is None:
        listing: Any = face.saver.list(None)
        next(listing)
        listing.close()
    else:
        listing = face.saver.alist(None)
        face.run(_next(listing))
        face.run(listing.aclose())
    face.call("delete_thread", "5")
    assert len(face.list(None)) == 99


def test_a_listing_while_its_thread_is_deleted(place: str, open_face: Callable[..., Face]) -> None:
    """A listing whose thread is deleted half way ends after the page it has, and what it gives is whole."""
    face = open_face(place)
    saved = thread()
    for number in range(200):
        saved = face.put(saved, checkpoint(f"{number:03}", messages=messages("one", 1, number)))
    listing: Any = face.saver.list(thread()) if face.loop is None else face.saver.alist(thread())
    first = next(listing) if face.loop is None else face.run(anext(listing))
    face.call("delete_thread", "thread")
    rest = list(listing) if face.loop is None else face.run(_all(listing))
    assert len(rest) < 199
    for found in [first, *rest]:
        number = int(found.checkpoint["id"])
        assert found.checkpoint["channel_values"] == {"messages": messages("one", 1, number)}


async def _all(listing: Any) -> list[Any]:
    return [found async for found in listing]


# -- threads -------------------------------------------------------------------------------------------------------


def in_threads(*works: Callable[[], Any]) -> list[Any]:
    """What each of these gives, all run at once; raises what the first of them raised."""
    barrier = threading.Barrier(len(works))

    def run(work: Callable[[], Any]) -> Any:
        barrier.wait(PATIENCE)
        return work()

    with ThreadPoolExecutor(len(works)) as pool:
        return [future.result(PATIENCE) for future in [pool.submit(run, work) for work in works]]


def chain(saver: SqliteSaver, thread_id: str, number: int) -> dict[str, dict[str, Any]]:
    """Put checkpoints onto each other with the blocking form, reading each back; what is stored."""
    saved = thread(thread_id)
    stored = {}
    for step in range(number):
        values = {"messages": messages(thread_id, step + 1), "text": f"{step // 2} " * 60}
        saved = saver.put(saved, checkpoint(f"{step:03}", **values), {}, {})
        saver.put_writes(saved, [("messages", messages(thread_id, 1, step + 1))], "task")
        stored[f"{step:03}"] = values
        found = saver.get_tuple(thread(thread_id))
        assert found is not None
        assert found.checkpoint["channel_values"] == values
    return stored


async def achain(saver: SqliteSaver, thread_id: str, number: int) -> dict[str, dict[str, Any]]:
    """The same with the awaiting form."""
    saved = thread(thread_id)
    stored = {}
    for step in range(number):
        values = {"messages": messages(thread_id, step + 1), "text": f"{step // 2} " * 60}
        saved = await saver.aput(saved, checkpoint(f"{step:03}", **values), {}, {})
        await saver.aput_writes(saved, [("messages", messages(thread_id, 1, step + 1))], "task")
        stored[f"{step:03}"] = values
        found = await saver.aget_tuple(thread(thread_id))
        assert found is not None
        assert found.checkpoint["channel_values"] == values
    return stored


def test_eight_threads(place: str) -> None:
    """Eight threads with one saver and a thread id each store and read as if each were alone."""
    with SqliteSaver(place) as saver:
        stored = in_threads(*(lambda n=n: chain(saver, f"thread {n}", 20) for n in range(8)))
        for number, one in enumerate(stored):
            whole(Face(saver, None), f"thread {number}", one)


def test_threads_on_one_thread_id(place: str) -> None:
    """Eight threads that put forks onto one checkpoint of one thread id all get what they put."""
    with SqliteSaver(place) as saver:
        root = saver.put(thread(), checkpoint("root", messages=messages("root", 10)), {}, {})

        def forks_of(name: str) -> dict[str, dict[str, Any]]:
            stored = {}
            for number in range(12):
                values = {"messages": messages("root", 10)[number % 3 :] + messages(name, number + 1)}
                saver.put(root, checkpoint(f"{name}-{number}", **values), {}, {})
                stored[f"{name}-{number}"] = values
            return stored

        stored: dict[str, dict[str, Any]] = {"root": {"messages": messages("root", 10)}}
        for one in in_threads(*(lambda n=n: forks_of(f"writer {n}") for n in range(8))):
            stored |= one
        whole(Face(saver, None), "thread", stored)


def test_sync_and_async_at_once(place: str) -> None:
    """Threads that block and loops that await share one saver."""
    with SqliteSaver(place) as saver:

        async def tasks(name: str) -> list[dict[str, dict[str, Any]]]:
            return await asyncio.gather(*(achain(saver, f"{name} {n}", 12) for n in range(3)))

        results = in_threads(
            lambda: [chain(saver, "blocking 0", 12)],
            lambda: [chain(saver, "other 0", 12)],
            lambda: asyncio.run(tasks("loop")),
            lambda: asyncio.run(tasks("another")),
        )
        for name, stored in zip(("blocking", "other", "loop", "another"), results, strict=True):
            for number, one in enumerate(stored):
                whole(Face(saver, None), f"{name} {number}", one)


# -- loops and tasks -----------------------------------------------------------------------------------------------


def test_many_tasks(place: str) -> None:
    """Forty tasks of one loop store and read as if each were alone."""
    with SqliteSaver(place) as saver:

        async def main() -> list[dict[str, dict[str, Any]]]:
            return await asyncio.gather(*(achain(saver, f"task {n}", 5) for n in range(40)))

        for number, one in enumerate(asyncio.run(main())):
            whole(Face(saver, None), f"task {number}", one)


def test_loops_one_after_another(place: str) -> None:
    """A saver goes from one event loop to the next, and remembers nothing of those that were closed."""
    with SqliteSaver(place) as saver:
        for number in range(5):
            stored = asyncio.run(achain(saver, f"loop {number}", 4))
            whole(Face(saver, None), f"loop {number}", stored)


def test_blocking_calls_inside_a_loop(place: str) -> None:
    """Blocking calls made inside a running loop return, also while coroutines of that loop are waiting to be stored."""
    with SqliteSaver(place) as saver:

        async def main() -> None:
            waiting = [asyncio.ensure_future(achain(saver, f"task {n}", 5)) for n in range(5)]
            for number in range(5):
                await asyncio.sleep(0)
                chain(saver, f"blocking {number}", 3)
                saver.delete_thread(f"blocking {number}")
                assert list(saver.list(thread(f"blocking {number}"))) == []
            for one in asyncio.as_completed(waiting):
                assert len(await one) == 5

        asyncio.run(asyncio.wait_for(main(), PATIENCE))


async def called(saver: SqliteSaver, call: str, root: RunnableConfig) -> Any:
    """Something that is put onto `root`, read there, or done to its thread."""
    if call == "aput":
        return await saver.aput(root, checkpoint("next", **NEXT), {}, {})
    if call == "aput_writes":
        return await saver.aput_writes(root, WRITES, "task")
    if call == "aget_tuple":
        return await saver.aget_tuple(root)
    return await saver.adelete_thread(root["configurable"]["thread_id"])


TURNS = 24
NEXT: dict[str, Any] = {"messages": messages("next", 4), "text": "t" * 500}
WRITES: list[tuple[str, Any]] = [("messages", messages("written", 3)), ("text", "w" * 500), ("n", 1)]


@pytest.mark.parametrize("call", ["aput", "aput_writes", "aget_tuple", "adelete_thread"])
def test_cancelled_at_any_moment(call: str, place: str) -> None:
    """A call that is cancelled at any turn of its loop is done whole or not at all, and the saver works on."""
    with SqliteSaver(place) as saver:

        async def attempt(turns: int) -> bool:
            """Whether a call was cancelled after so many turns, rather than done."""
            root = await saver.aput(thread(f"{turns}"), checkpoint("root", messages=messages("root", 2)), {}, {})
            task = asyncio.ensure_future(called(saver, call, root))
            for _ in range(turns):
                await asyncio.sleep(0 if turns < 12 else 0.0003)
            if turns == TURNS - 1:
                await asyncio.wait([task])
            task.cancel()
            result: Any = (await asyncio.gather(task, return_exceptions=True))[0]
            assert not isinstance(result, Exception), result
            done = not isinstance(result, BaseException)
            # Whatever was on its way is through when something that came later is.
            await saver.aput(thread("later"), checkpoint(f"{turns}"), {}, {})
            found = {one.checkpoint["id"]: one async for one in saver.alist(thread(f"{turns}"))}
            if call == "adelete_thread":
                assert found.keys() in ({"root"}, set())
                assert not (done and found)
                return not done
            assert found["root"].checkpoint["channel_values"] == {"messages": messages("root", 2)}
            if call == "aput" and (done or "next" in found):
                assert found["next"].checkpoint["channel_values"] == NEXT
            if call == "aput_writes" and (done or found["root"].pending_writes):
                assert found["root"].pending_writes == [("task", *write) for write in WRITES]
            # And the same call again does what it says.
            await called(saver, call, root)
            newest = await saver.aget_tuple(thread(f"{turns}"))
            assert newest is not None
            assert newest.checkpoint["id"] == ("next" if call == "aput" else "root")
            return not done

        async def main() -> set[bool]:
            return {await attempt(turns) for turns in range(TURNS)}

        assert asyncio.run(asyncio.wait_for(main(), PATIENCE)) == {True, False}


def test_a_loop_that_ends_before_its_tasks(place: str) -> None:
    """Batches of a loop that was closed under them are stored or not, and hold nobody else up."""
    with SqliteSaver(place) as saver:
        for turns in range(6):
            loop = asyncio.new_event_loop()
            task = loop.create_task(saver.aput(thread(f"{turns}"), checkpoint("1", text="t" * 500), {}, {}))
            for _ in range(turns):
                loop.run_until_complete(asyncio.sleep(0))
            task._log_destroy_pending = False  # type: ignore[attr-defined]  # that is what this is about
            loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()
            saved = saver.put(thread("other"), checkpoint(f"{turns}"), {}, {})
            assert saver.get_tuple(saved) is not None
            found = saver.get_tuple(thread(f"{turns}"))
            assert found is None or found.checkpoint["channel_values"] == {"text": "t" * 500}
            del task
