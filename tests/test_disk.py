"""A disk that is full, or refuses, at any moment: what was acknowledged stays, what was not is not half there."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from langgraph_durable import BusyError, SqliteSaver, StoreError
from tests.conftest import Face, checkpoint, thread
from tests.faults import Faults
from tests.processes import Child, Pipe, child, forks


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> Faults:
    """Faults for every connection that is opened in the test."""
    made = Faults()
    made.install(monkeypatch)
    return made


@functools.cache
def blob(number: int, size: int = 3000) -> str:
    """Text that does not compress away, another one for each number."""
    return "".join(f"{(number * 7919 + place) ** 3 % 1000003:x}" for place in range(size // 5))


def filled(face: Face, most: int = 2000) -> list[str]:
    """Checkpoints put onto each other until there is no room; the ids of those that were acknowledged."""
    saved = thread()
    acknowledged: list[str] = []
    history: list[str] = []
    for number in range(most):
        history.append(blob(number))
        try:
            saved = face.put(saved, checkpoint(f"{number:04}", history=history, last=blob(number)))
        except StoreError as error:
            refusal = str(error)
            break
        acknowledged.append(f"{number:04}")
    else:
        raise AssertionError("the disk never filled up")
    assert "no room" in refusal
    return acknowledged


def intact(face: Face, acknowledged: list[str]) -> None:
    """Exactly what was acknowledged is stored, to the last element."""
    found = face.list(thread())
    assert [one.checkpoint["id"] for one in found] == acknowledged[::-1]
    for one in found:
        number = int(one.checkpoint["id"])
        assert one.checkpoint["channel_values"] == {
            "history": [blob(before) for before in range(number + 1)],
            "last": blob(number),
        }


def sound(path: str | Path) -> None:
    """SQLite finds nothing wrong with the file."""
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_no_room_for_another_page(database: str, faults: Faults, open_face: Callable[..., Face]) -> None:
    """A database that may not grow says so with StoreError, keeps what it has, and goes on when it may grow again."""
    face = open_face(database)
    face.put(thread("first"), checkpoint())
    pages = faults.opened[0].execute("PRAGMA page_count").fetchone()[0]
    faults.pragma(f"PRAGMA max_page_count = {pages + 50}")
    acknowledged = filled(face)
    assert acknowledged
    intact(face, acknowledged)
    with pytest.raises(StoreError, match="no room"):
        face.put_writes(thread(checkpoint_id=acknowledged[-1]), [("a", blob(1, 300_000))], "task")
    intact(face, acknowledged)
    faults.pragma("PRAGMA max_page_count = 1000000")
    more = face.put(thread("later"), checkpoint(last=blob(5, 400_000)))
    assert face.values(more) == {"last": blob(5, 400_000)}
    intact(face, acknowledged)


def test_deleting_makes_room(database: str, faults: Faults, open_face: Callable[..., Face]) -> None:
    """A thread can be deleted while nothing else fits, and what it gives back can be used."""
    face = open_face(database)
    face.put(thread("first"), checkpoint())
    pages = faults.opened[0].execute("PRAGMA page_count").fetchone()[0]
    faults.pragma(f"PRAGMA max_page_count = {pages + 80}")
    saved = face.put(thread("large"), checkpoint(data=blob(1, 150_000)))
    acknowledged = filled(face)
    face.call("delete_thread", "large")
    assert face.get_tuple(saved) is None
    intact(face, acknowledged)
    again = face.put(thread("after"), checkpoint(data=blob(2, 100_000)))
    assert face.values(again) == {"data": blob(2, 100_000)}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of two megabytes."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = shutil.which("mount")
    command = [mount or "mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if mount is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("a file system cannot be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk(small_disk: Path, loop: Any) -> None:
    """On a disk that fills up acknowledged checkpoints stay intact, and work goes on when there is room again."""
    ballast = small_disk / "ballast"
    with SqliteSaver(small_disk / "agent.db") as saver:
        face = Face(saver, loop)
        face.put(thread("first"), checkpoint())
        ballast.write_bytes(bytes(1_000_000))
        acknowledged = filled(face)
        assert acknowledged
        intact(face, acknowledged)
        ballast.unlink()
        saved = thread(checkpoint_id=acknowledged[-1])
        history = [blob(number) for number in range(len(acknowledged) + 1)]
        face.put(saved, checkpoint(f"{len(acknowledged):04}", history=history, last=blob(len(acknowledged))))
        intact(face, [*acknowledged, f"{len(acknowledged):04}"])
        face.call("delete_thread", "first")
    sound(small_disk / "agent.db")


def test_a_disk_that_was_full_at_the_end(small_disk: Path, loop: Any) -> None:
    """A saver that is closed while the disk is full leaves everything acknowledged to the next one."""
    with SqliteSaver(small_disk / "agent.db") as saver:
        acknowledged = filled(Face(saver, loop))
    with SqliteSaver(small_disk / "agent.db") as saver:
        intact(Face(saver, loop), acknowledged)
    sound(small_disk / "agent.db")


# -- system calls that fail ----------------------------------------------------------------------------------------


def puts_through_errors(pipe: Pipe, path: str, form: str) -> None:
    """Put checkpoints and their writes, saying which were acknowledged and which refused."""
    assert pipe.recv() == "go"
    loop = asyncio.new_event_loop() if form == "async" else None
    face = None
    while face is None:
        try:
            face = Face(SqliteSaver(path), loop)
        except StoreError:
            pipe.send(("refused", "opening"))
    saved = thread()
    history: list[str] = []
    for number in range(12):
        try:
            saved = face.put(saved, checkpoint(f"{number:04}", history=[*history, blob(number)], last=blob(number)))
        except StoreError:
            pipe.send(("refused", number))
            with contextlib.suppress(StoreError):
                assert face.get_tuple(thread(checkpoint_id=f"{number:04}")) is None
            continue
        history.append(blob(number))
        pipe.send(("put", number, len(history)))
        try:
            face.put_writes(saved, [("a", blob(number)), ("b", [blob(number + 1), blob(number + 2)])], "task")
        except StoreError:
            pipe.send(("refused", f"writes {number}"))
        else:
            pipe.send(("writes", number))
    pipe.send("all")
    assert pipe.recv() == "end"


@contextlib.contextmanager
def traced(victim: Child, syscall: str, error: str, when: str, log: Path) -> Iterator[None]:
    """Every thread of `victim` with strace attached to it; skips where that cannot be."""
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not installed")
    inject = f"inject={syscall}:error={error}:when={when}"
    command = [strace, "-f", "-y", "-qq", "-e", f"trace={syscall}", "-e", inject, "-o", str(log), "-p", str(victim.pid)]
    status = Path(f"/proc/{victim.pid}/status")
    with subprocess.Popen(command, stderr=subprocess.PIPE) as tracer:
        assert tracer.stderr is not None
        while "TracerPid:\t0\n" in status.read_text():
            if tracer.poll() is not None:
                pytest.skip(f"strace cannot be used here: {tracer.stderr.read().decode()}")
            time.sleep(0.005)
        try:
            yield
        finally:
            tracer.terminate()


FAULTS = [
    (syscall, error, when)
    for syscall, error in [("fdatasync", "EIO"), ("pwrite64", "EIO"), ("pwrite64", "ENOSPC"), ("ftruncate", "EIO")]
    for when in ["1", "2", "3", "5", "8", "13", "13..16", "21", "22", "34", "40+"]
    if syscall == "pwrite64" or int(when.split(".")[0].rstrip("+")) < 20
]


@pytest.mark.sampled(2)
@forks
@pytest.mark.skipif(sys.platform != "linux", reason="strace is Linux's")
@pytest.mark.parametrize(("syscall", "error", "when"), FAULTS)
def test_a_system_call_that_fails(syscall: str, error: str, when: str, tmp_path: Path) -> None:
    """Whichever write or sync the disk refuses, what was acknowledged is whole and what was refused is not there."""
    path = str(tmp_path / "agent.db")
    with SqliteSaver(path) as saver:
        saver.put(thread("before"), checkpoint("before"), {}, {})
    form = "async" if len(when) % 2 else "sync"
    said: list[Any] = []
    with child(puts_through_errors, path, form) as victim:
        with traced(victim, syscall, error, when, tmp_path / "trace"):
            victim.send("go")
            while not said or said[-1] != "all":
                said.append(victim.receive())
        victim.kill()
    puts = {one[1]: one[2] for one in said if one[0] == "put"}
    writes = {one[1] for one in said if one[0] == "writes"}
    refused = [one for one in said if one[0] == "refused"]
    injected = [line for line in (tmp_path / "trace").read_text().splitlines() if "(INJECTED)" in line]
    # SQLite does not look at what the sync of a directory says, and can do without shortening a file.
    assert refused or syscall == "ftruncate" or not any("agent.db" in line for line in injected)
    with SqliteSaver(path) as saver:
        assert saver.get_tuple(thread("before")) is not None
        found = {int(one.checkpoint["id"]): one for one in saver.list(thread())}
    assert found.keys() >= puts.keys()
    for number, one in found.items():
        values = one.checkpoint["channel_values"]
        assert values["last"] == blob(number) == values["history"][-1]
        assert len(values["history"]) == puts.get(number, len(values["history"]))
        whole = [("task", "a", blob(number)), ("task", "b", [blob(number + 1), blob(number + 2)])]
        assert one.pending_writes == whole or (number not in writes and one.pending_writes == [])
    sound(path)


# -- a lock that is held -------------------------------------------------------------------------------------------


def test_a_database_that_is_locked_when_it_is_made(path: str) -> None:
    """Opening a new database that somebody else holds the lock of is BusyError, and leaves nothing behind."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("CREATE TABLE theirs (x)")
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(BusyError):
            SqliteSaver(path, busy_timeout=0.05)
        other.execute("ROLLBACK")
        assert other.execute("SELECT name FROM sqlite_master").fetchall() == [("theirs",)]
    with SqliteSaver(path) as saver:
        saver.put(thread(), checkpoint(), {}, {})
    assert os.path.exists(path)
