"""Processes that use one database at once: each finds what it and the others were told is stored."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import threading
from collections.abc import Callable
from contextlib import ExitStack, closing
from typing import Any

import pytest
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from langchain_core.runnables import RunnableConfig

from langgraph_durable import BusyError, DurableError, ThreadDeletedError
from tests.conftest import Face, checkpoint, saver_at, thread
from tests.processes import PATIENCE, Pipe, child, forks


def messages(name: str, number: int, start: int = 0) -> list[AnyMessage]:
    """Messages that nobody else has."""
    return [HumanMessage(f"{name} says {step}", id=f"{name}-{step}") for step in range(start, start + number)]


def whole(face: Face, thread_id: str, stored: dict[str, dict[str, Any]]) -> None:
    """Exactly these checkpoints are stored, one by one and in the listing."""
    listed = {found.checkpoint["id"]: found.checkpoint["channel_values"] for found in face.list(thread(thread_id))}
    assert listed == stored
    for checkpoint_id, values in stored.items():
        assert face.values(thread(thread_id, checkpoint_id=checkpoint_id)) == values


def sound(path: str) -> None:
    """All that is stored can be read, and nothing leads nowhere."""
    with saver_at(path) as saver:
        assert saver.check().damage == ()


def obeys(pipe: Pipe, path: str, form: str) -> None:
    """A saver in a process of its own that does what it is told: (method, args, kwargs), or ("forget",)."""
    face = Face(saver_at(path, busy_timeout=20), asyncio.new_event_loop() if form == "async" else None)
    while True:
        name, args, kwargs = pipe.recv()
        method = face.list if name == "list" else face.put if name == "put" else face.get_tuple
        try:
            if name in ("list", "put", "get_tuple"):
                pipe.send(method(*args, **kwargs))
            else:
                pipe.send(face.call(name, *args, **kwargs))
        except DurableError as error:
            pipe.send(error)


class Remote:
    """A saver in another process."""

    def __init__(self, ask: Callable[[Any], Any]) -> None:
        self._ask = ask

    def __call__(self, name: str, *args: Any, **kwargs: Any) -> Any:
        answer = self._ask((name, args, kwargs))
        if isinstance(answer, DurableError):
            raise answer
        return answer


@forks
def test_two_processes_on_one_thread(shared: str, open_face: Callable[..., Face]) -> None:
    """Processes that put onto each other's checkpoints, with lists that grow and change, read what either was told."""
    dice = random.Random(7)
    with child(obeys, shared, "async") as other:
        remote = Remote(other.ask)
        face = open_face(shared)
        puts: list[Callable[..., RunnableConfig]] = [face.put, lambda *args: remote("put", *args)]
        stored: dict[str, dict[str, Any]] = {}
        tips: list[RunnableConfig] = [thread()]
        for number in range(60):
            # Onto the newest most of the time, now and then onto an older one.
            base = tips[-1] if dice.random() < 0.8 else dice.choice(tips)
            before = stored.get(base["configurable"].get("checkpoint_id", ""), {})
            conversation = list(before.get("messages", []))
            change = dice.randrange(4)
            if change == 0 and len(conversation) > 2:
                del conversation[dice.randrange(len(conversation))]
            elif change == 1 and conversation:
                place = dice.randrange(len(conversation))
                conversation[place] = AIMessage(f"edited in {number}", id=conversation[place].id)
            conversation += messages(f"checkpoint {number}", dice.randrange(1, 4))
            values = {"messages": conversation, "numbers": list(range(number % 7)), "text": "shared " * 40}
            saved = puts[number % 2](base, checkpoint(f"{number:03}", **values))
            stored[f"{number:03}"] = values
            tips.append(saved)
            if number % 10 == 9:
                newest = face.get_tuple(thread())
                assert newest == remote("get_tuple", thread())
                assert newest is not None
                assert newest.checkpoint["channel_values"] == values
        whole(face, "thread", stored)
        assert remote("list", thread()) == face.list(thread())
    sound(shared)


@forks
def test_caches_notice_a_deletion(shared: str, open_face: Callable[..., Face]) -> None:
    """After another process has deleted a thread, a saver that remembers it reads nothing, and cannot bring it back."""
    with child(obeys, shared, "sync") as other:
        remote = Remote(other.ask)
        face = open_face(shared)
        saved = face.put(thread(), checkpoint("1", messages=messages("one", 5)))
        saved = face.put(saved, checkpoint("2", messages=messages("one", 6)))
        remote("delete_thread", "thread")
        assert face.get_tuple(thread()) is None
        with pytest.raises(ThreadDeletedError):
            face.put(saved, checkpoint("3", messages=messages("one", 7)))
        with pytest.raises(ThreadDeletedError):
            face.put_writes(saved, [("messages", messages("one", 1))], "task")
        assert face.list(None) == []
        # A new run may use the id again, with the same contents.
        again = face.put(thread(), checkpoint("4", messages=messages("one", 6)))
        assert remote("get_tuple", thread()) == face.get_tuple(again)
        whole(face, "thread", {"4": {"messages": messages("one", 6)}})


def reads(pipe: Pipe, path: str) -> None:
    """Read a thread again and again until it is told to stop; then say how often it was there, and how often not."""
    there = gone = 0
    with saver_at(path) as saver:
        pipe.send("ready")
        while not pipe.poll():
            found = saver.get_tuple(thread())
            listed = list(saver.list(thread()))
            for one in [*listed, *([found] if found is not None else [])]:
                name = one.checkpoint["id"]
                assert one.checkpoint["channel_values"] == {
                    "text": name * 100,
                    "large": name * 40_000,
                    "list": [name] * 9,
                }
                assert one.pending_writes in ([], [("task", "large", name * 41_000)])
            there += found is not None
            gone += found is None
    pipe.send((there, gone))


@forks
def test_a_thread_that_is_deleted_while_it_is_read(shared: str) -> None:
    """Whoever reads meanwhile gets it as it was at one moment, large values and all, or nothing; and no error."""
    with saver_at(shared) as saver, child(reads, shared) as reader:
        assert reader.receive() == "ready"
        for turn in range(60):
            saved = thread()
            for number in range(3):
                name = f"{turn}.{number}"
                values = {"text": name * 100, "large": name * 40_000, "list": [name] * 9}
                saved = saver.put(saved, checkpoint(name, **values), {}, {})
                saver.put_writes(saved, [("large", name * 41_000)], "task")
            saver.delete_thread("thread")
        there, gone = reader.ask("stop")
        assert there > 3
        assert gone > 0
    sound(shared)


@forks
@pytest.mark.parametrize("how", ["prune", "delete_for_runs"])
def test_caches_notice_a_pruning(how: str, shared: str, open_face: Callable[..., Face]) -> None:
    """After another process has taken checkpoints and chunks away, this one stores what it took for being there."""
    with child(obeys, shared, "sync") as other:
        remote = Remote(other.ask)
        face = open_face(shared)
        long = [HumanMessage("gone " * 50, id="gone"), HumanMessage("stays " * 50, id="stays")]
        first = face.put(thread(), checkpoint("1", messages=long, text="gone " * 50), {"run_id": "old", "step": 0})
        second = face.put(first, checkpoint("2", messages=long[1:]), {"run_id": "new", "step": 1})
        face.put_writes(second, [("text", "gone " * 50), ("text", "a write " * 50)], "task")
        remote(how, *([["thread"]] if how == "prune" else [["old"]]))
        saved = face.put(second, checkpoint("3", messages=long, text="gone " * 50, more="a write " * 50))
        face.put_writes(saved, [("messages", long), ("text", "gone " * 50)], "task")
        found = face.get_tuple(saved)
        assert found is not None
        assert found.checkpoint["channel_values"] == {"messages": long, "text": "gone " * 50, "more": "a write " * 50}
        assert found.pending_writes == [("task", "messages", long), ("task", "text", "gone " * 50)]
        assert remote("get_tuple", saved) == found
        assert [one.checkpoint["id"] for one in face.list(thread())] == ["3", "2"]


@forks
def test_a_prune_between_every_two_puts(shared: str, open_face: Callable[..., Face]) -> None:
    """A run goes on while another process prunes its thread after each of its checkpoints."""
    with child(obeys, shared, "async") as other:
        remote = Remote(other.ask)
        face = open_face(shared)
        saved = thread()
        for number in range(15):
            values = {"messages": messages("run", number + 1)[number // 3 :], "text": f"{number // 2} " * 50}
            saved = face.put(saved, checkpoint(f"{number:02}", **values))
            face.put_writes(saved, [("messages", messages("run", 1, number + 1))], "task")
            remote("prune", ["thread"])
            whole(face, "thread", {f"{number:02}": values})


def hammers(pipe: Pipe, shared: str, name: str) -> None:
    """Put onto a shared thread, prune, copy and delete threads of its own, until told to stop; say what is stored."""
    saver = saver_at(shared)
    saved: RunnableConfig = thread("shared")
    stored: dict[str, int] = {}
    number = 0
    while not pipe.poll():
        saved = saver.put(saved, checkpoint(f"{name}-{number}", messages=messages(name, number + 1)), {}, {})
        saver.put_writes(saved, [("messages", messages(name, 1, number + 1))], "task")
        stored[f"{name}-{number}"] = number
        own = saver.put(thread(f"{name} own"), checkpoint(messages=messages(name, 3)), {}, {})
        if number % 3 == 0:
            saver.copy_thread(f"{name} own", f"{name} copy {number}")
            saver.prune([f"{name} own"])
        if number % 5 == 4:
            saver.delete_thread(f"{name} copy {number // 3 * 3}")
            saver.delete_thread(f"{name} own")
        else:
            assert saver.get_tuple(own) is not None
        number += 1
    pipe.recv()
    pipe.send((name, stored))


@forks
def test_processes_that_do_everything_at_once(shared: str, open_face: Callable[..., Face]) -> None:
    """Four processes that put, prune, copy and delete lose nothing of what each was told on the thread they share."""
    saver_at(shared).close()
    expected: dict[str, tuple[str, int]] = {}
    with ExitStack() as stack:
        those = [stack.enter_context(child(hammers, shared, name)) for name in "abcd"]
        face = open_face(shared)
        reads = 0
        while reads < 25:
            for found in face.list(thread("shared"), limit=20):
                name, number = found.checkpoint["id"].split("-")
                assert found.checkpoint["channel_values"] == {"messages": messages(name, int(number) + 1)}
            reads += 1
        for one in those:
            one.send("stop")
        for one in those:
            name, stored = one.receive()
            expected |= {checkpoint_id: (name, count) for checkpoint_id, count in stored.items()}
    found_all = {found.checkpoint["id"]: found for found in face.list(thread("shared"))}
    assert found_all.keys() == expected.keys()
    for checkpoint_id, (name, count) in expected.items():
        found = found_all[checkpoint_id]
        assert found.checkpoint["channel_values"] == {"messages": messages(name, count + 1)}
        assert found.pending_writes == [("task", "messages", messages(name, 1, count + 1))]
    sound(shared)


# -- the write lock ------------------------------------------------------------------------------------------------


def test_a_lock_that_is_held_too_long(path: str, open_face: Callable[..., Face]) -> None:
    """While another holds the write lock for longer than `busy_timeout`, writing is BusyError and reading goes on."""
    face = open_face(path, busy_timeout=0.05)
    saved = face.put(thread(), checkpoint("1", messages=messages("one", 3)))
    before = face.list(None)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(BusyError, match="busy_timeout"):
            face.put(saved, checkpoint("2", messages=messages("one", 4)))
        with pytest.raises(BusyError):
            face.put_writes(saved, [("messages", messages("one", 1))], "task")
        with pytest.raises(BusyError):
            face.call("delete_thread", "thread")
        assert face.list(None) == before
        other.execute("ROLLBACK")
    assert face.list(None) == before
    saved = face.put(saved, checkpoint("2", messages=messages("one", 4)))
    whole(face, "thread", {"1": {"messages": messages("one", 3)}, "2": {"messages": messages("one", 4)}})


def test_a_lock_that_is_given_back(path: str, open_face: Callable[..., Face]) -> None:
    """A writer that finds the lock taken waits for it."""
    face = open_face(path, busy_timeout=PATIENCE)
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        release = threading.Timer(0.2, other.execute, ["ROLLBACK"])
        release.start()
        saved = face.put(thread(), checkpoint("1", a=1))
        assert face.values(saved) == {"a": 1}
        release.join()
