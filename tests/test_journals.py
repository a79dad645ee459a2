"""What becomes of journals that are cut short, damaged, deleted, or on a disk that refuses: never a wrong answer."""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer

from langgraph_durable import (
    BusyError,
    CorruptDataError,
    CorruptDataWarning,
    DurableError,
    FileSaver,
    NotADatabaseError,
    ReadOnlyError,
    SchemaVersionError,
    StoreError,
)
from langgraph_durable.stores.files import KEPT_OPEN, disk
from langgraph_durable.stores.files.names import folder_name
from tests.conftest import checkpoint, thread

GIVEN = {"source": "loop", "step": 0, "parents": {}}

CONVERSATION: list[Any] = [
    HumanMessage("What is ünder the bridge?", id="1"),
    AIMessage("", id="2", tool_calls=[{"name": "look", "args": {"where": "bridge", "n": 1}, "id": "call"}]),
    ToolMessage("a troll", id="3", tool_call_id="call"),
    AIMessage("A troll.", id="4", usage_metadata={"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}),
]


def states() -> list[dict[str, Any]]:
    """The channels of one checkpoint after the other."""
    return [
        {"messages": CONVERSATION[: n + 1], "count": n, "blob": bytes([n]) * 100, "text": f"text {n} " * 20}
        for n in range(len(CONVERSATION))
    ]


def filled(path: Path) -> dict[str, Any]:
    """A folder with a thread of four checkpoints, each with writes; the values of each."""
    stored: dict[str, Any] = {}
    with FileSaver(path) as saver:
        saved = thread()
        for number, values in enumerate(states()):
            saved = saver.put(saved, checkpoint(f"{number}", **values), {**GIVEN, "step": number}, {})  # type: ignore[typeddict-item]  # a test's own
            saver.put_writes(saved, [("messages", CONVERSATION[-1:]), ("count", number)], f"task {number}")
            stored[f"{number}"] = values
    return stored


def journal(path: Path) -> Path:
    """The one journal in a folder."""
    (found,) = path.glob("threads/*/journal.jsonl")
    return found


def read(path: Path) -> dict[str, Any]:
    """What a new saver finds in a folder, each checkpoint by itself; None for one that it says is damaged."""
    found: dict[str, Any] = {}
    with FileSaver(path) as saver:
        for number in range(len(CONVERSATION) + 1):
            try:
                one = saver.get_tuple(thread(checkpoint_id=f"{number}"))
            except CorruptDataError:
                found[f"{number}"] = None
                continue
            if one is not None:
                assert one.pending_writes is not None
                assert one.pending_writes in (
                    [],
                    [(f"task {number}", "messages", CONVERSATION[-1:]), (f"task {number}", "count", number)],
                )
                found[f"{number}"] = one.checkpoint["channel_values"]
    return found


# -- for people ------------------------------------------------------------------------------------------------------


def test_a_person_can_read_it(tmp_path: Path) -> None:
    """Every line is a JSON object; what was said is in it with role and content, and the ids are as they were."""
    path = tmp_path / "checkpoints"
    filled(path)
    lines = [json.loads(line) for line in journal(path).read_text(encoding="utf-8").splitlines()]
    assert lines[0]["type"] == "thread"
    assert lines[0]["id"] == "thread"
    puts = [line for line in lines if line["type"] == "checkpoint"]
    said = [new["is"] for line in puts for new in line.get("new", ()) if "role" in new["is"]]
    roles = [(one["role"], one["content"]) for one in said]
    assert roles[:1] == [("human", "What is ünder the bridge?")]
    assert {role for role, _ in roles} <= {"human", "ai", "tool"}
    assert puts[1]["metadata"]["step"] == 1
    assert puts[3]["parent"] == "2"
    assert "journal.jsonl" in (path / "README.md").read_text()


def test_what_is_kept_private(tmp_path: Path) -> None:
    """Files are for their owner alone, and stay out of git unless the folder is made to be shared."""
    path = tmp_path / "a" / "checkpoints"
    filled(path)
    for one in [path, *path.rglob("*")]:
        assert stat.S_IMODE(one.stat().st_mode) == (0o700 if one.is_dir() else 0o600), one
    assert (path / ".gitignore").read_text().splitlines()[-1] == "*"
    FileSaver(tmp_path / "shared", shareable=True).close()
    assert not (tmp_path / "shared" / ".gitignore").exists()


NASTY = ["../x", "a/b", "a\\b", "a:b", "", ".", "..", "CON", "con", "Con", "nul.txt", "🙂", "x" * 300, "x" * 301]
NASTY += ["a", "A", "a ", " a", "a.", "ß", "SS", "é", "e\u0301", "a\0b", "~", "-", '*?<>|"', "\n", "thread"]


def test_names_of_threads(tmp_path: Path) -> None:
    """Any ids have folders of their own, with names that every system takes, and are listed as they are."""
    names = [folder_name(name) for name in NASTY]
    assert len({name.lower() for name in names}) == len(NASTY)
    for name in names:
        assert len(name) < 80
        assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789_-")
    with FileSaver(tmp_path / "checkpoints") as saver:
        for number, name in enumerate(NASTY):
            saver.put(thread(name), checkpoint("1", number=number), {}, {})
        for number, name in enumerate(NASTY):
            assert saver.get_tuple(thread(name)).checkpoint["channel_values"] == {"number": number}  # type: ignore[union-attr]  # it is there
    with FileSaver(tmp_path / "checkpoints") as saver:
        assert [found.config["configurable"]["thread_id"] for found in saver.list(None)] == NASTY[::-1]
    assert len(os.listdir(tmp_path)) == 1


# -- a large value ---------------------------------------------------------------------------------------------------


def test_a_large_value_has_a_file(tmp_path: Path) -> None:
    """What is large is in a file of its own, comes back from it, is in a copy as well, and goes with its thread."""
    path = tmp_path / "checkpoints"
    large = {"blob": os.urandom(200_000), "text": "long " * 40_000}
    with FileSaver(path) as saver:
        saver.put(thread(), checkpoint("1", **large, n=1), {}, {})
        saver.copy_thread("thread", "copy")
    files = sorted(path.glob("threads/*/values/*"))
    assert len(files) == 4
    assert all(one.stat().st_size < 2000 for one in path.glob("threads/*/journal.jsonl"))
    with FileSaver(path) as saver:
        for name in ("thread", "copy"):
            found = saver.get_tuple(thread(name))
            assert found is not None
            assert found.checkpoint["channel_values"] == {**large, "n": 1}
        saver.delete_thread("thread")
        assert len(list(path.glob("threads/*/values/*"))) == 2
        assert saver.get_tuple(thread("copy")) is not None
    for one in path.glob("threads/*/values/*"):
        data = bytearray(one.read_bytes())
        data[len(data) // 2] ^= 1
        one.write_bytes(data)
    with FileSaver(path) as saver, pytest.raises(CorruptDataError):
        saver.get_tuple(thread("copy"))


# -- what a crash leaves ---------------------------------------------------------------------------------------------


def test_a_journal_cut_at_any_byte(tmp_path: Path) -> None:
    """Wherever a journal ends, what its whole lines say is there, nothing else is, and it can be gone on from."""
    path, cut = tmp_path / "checkpoints", tmp_path / "cut"
    stored = filled(path)
    whole = journal(path).read_bytes()
    starts = [place + 1 for place, byte in enumerate(whole) if byte == ord("\n")]
    shutil.copytree(path, cut)
    for size in range(starts[-4], len(whole) + 1):
        journal(cut).write_bytes(whole[:size])
        lines = sum(start <= size for start in starts) + (whole[size : size + 1] == b"\n")
        expected = {name: stored[name] for name in list(stored)[: lines // 2]}
        assert read(cut) == expected, size
    for size in (starts[-2] + 10, starts[-1] - 1):
        journal(cut).write_bytes(whole[:size])
        with FileSaver(cut) as saver:
            newest = saver.get_tuple(thread())
            assert newest is not None
            saver.put(newest.config, checkpoint("new", count=9), {}, {})
        with FileSaver(cut) as saver:
            assert saver.get_tuple(thread()).checkpoint["id"] == "new"  # type: ignore[union-attr]  # it is there
            assert {found.checkpoint["id"] for found in saver.list(thread())} == {"new", *read(cut)}


def test_a_bit_that_flips(tmp_path: Path) -> None:
    """Whichever byte of a journal changes, a checkpoint comes back as it was put, or is missing, and that is told."""
    path, bad = tmp_path / "checkpoints", tmp_path / "bad"
    stored = filled(path)
    whole = journal(path).read_bytes()
    shutil.copytree(path, bad)
    told = 0
    for place in range(0, len(whole), 7):
        data = bytearray(whole)
        data[place] ^= 1 << place % 8
        journal(bad).write_bytes(data)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                found = read(bad)
            except DurableError:
                told += 1
                continue
        assert all(found[name] in (None, stored[name]) for name in found), place
        damaged = found != stored
        if damaged:
            assert caught, place
            assert {one.category for one in caught} == {CorruptDataWarning}
            assert str(journal(bad)) in str(caught[0].message)
        told += damaged
        assert journal(bad).read_bytes() == data, "reading changed it"
    assert told > 100


@pytest.mark.filterwarnings("ignore::langgraph_durable.CorruptDataWarning")
def test_a_damaged_line_is_kept(tmp_path: Path) -> None:
    """The newest whole checkpoint is served, the thread goes on from it, and the damaged line stays to be looked at."""
    path = tmp_path / "checkpoints"
    filled(path)
    lines = journal(path).read_bytes().splitlines(keepends=True)
    lines[-2] = lines[-2].replace(b"text 3", b"text 4", 1)  # the newest checkpoint; its writes follow it
    journal(path).write_bytes(b"".join(lines))
    with FileSaver(path) as saver:
        newest = saver.get_tuple(thread())
        assert newest is not None
        assert newest.checkpoint["channel_values"] == states()[2]
        saved = saver.put(newest.config, checkpoint("again", messages=CONVERSATION, count=7), {}, {})
    assert lines[-2] in journal(path).read_bytes()
    with FileSaver(path) as saver:
        assert saver.get_tuple(thread()).checkpoint["channel_values"] == {"messages": CONVERSATION, "count": 7}  # type: ignore[union-attr]  # it is there
        saver.copy_thread("thread", "copy")
        assert [found.checkpoint["id"] for found in saver.list(thread("copy"))] == ["again", "2", "1", "0"]
        saver.delete_thread("thread")
        assert saver.get_tuple(thread()) is None
        assert saver.get_tuple(thread("copy", checkpoint_id=saved["configurable"]["checkpoint_id"])) is not None
    assert not any(lines[-2] in one.read_bytes() for one in path.rglob("*") if one.is_file())


@pytest.mark.filterwarnings("ignore::langgraph_durable.CorruptDataWarning")
def test_a_damaged_thread_is_not_thinned_out(tmp_path: Path) -> None:
    """Pruning could take the only checkpoint that can be read: it is refused, and says what to do."""
    path = tmp_path / "checkpoints"
    filled(path)
    whole = journal(path).read_bytes()
    journal(path).write_bytes(whole.replace(b"text 2", b"text 9", 1))
    damaged = journal(path).read_bytes()
    with FileSaver(path) as saver:
        with pytest.raises(StoreError, match="nothing was deleted"):
            saver.prune(["thread"])
        assert journal(path).read_bytes() == damaged
        assert saver.get_tuple(thread()) is not None


def test_a_last_line_that_may_have_been_whole_is_kept(tmp_path: Path) -> None:
    """A damaged last line is told of and not overwritten: it may have been acknowledged once."""
    path = tmp_path / "checkpoints"
    stored = filled(path)
    lines = journal(path).read_bytes().splitlines(keepends=True)
    for bad in (
        lines[-1].replace(b"task 3", b"task 4", 1),
        lines[-1][:-5] + bytes(5),
        b"what" + lines[-1][4:-1] + b"?",
        b"what\n",
    ):
        journal(path).write_bytes(b"".join([*lines[:-1], bad]))
        with FileSaver(path) as saver:
            with pytest.warns(CorruptDataWarning, match=f"line {len(lines)} "):
                assert saver.get_tuple(thread()) is not None
            saver.put(thread(checkpoint_id="3"), checkpoint("new", count=1), {}, {})
        assert bad in journal(path).read_bytes()
        with warnings.catch_warnings(), FileSaver(path) as saver:
            warnings.simplefilter("ignore", CorruptDataWarning)
            assert [found.checkpoint["id"] for found in saver.list(thread())] == ["new", *list(stored)[::-1]]


def test_places_that_a_lost_line_had(tmp_path: Path) -> None:
    """What a lost line put into a list is missing for whoever names it, also after others put something there."""
    path = tmp_path / "checkpoints"
    first, second = ([f"{name} {n} " + "x" * 100 for n in range(2)] for name in ("base", "lost"))
    with FileSaver(path) as saver:
        saved = saver.put(thread(), checkpoint("1", m=first), {}, {})
        saved = saver.put(saved, checkpoint("2", m=first + second), {}, {})
        saver.put(saved, checkpoint("3", m=first + second, more=1), {}, {})
    journal(path).write_bytes(journal(path).read_bytes().replace(b"lost 0", b"l0st 0", 1))
    with warnings.catch_warnings(), FileSaver(path) as saver:
        warnings.simplefilter("ignore", CorruptDataWarning)
        saver.put(thread(checkpoint_id="1"), checkpoint("4", m=[*first, *(one.upper() for one in second)]), {}, {})
        with pytest.raises(CorruptDataError):
            saver.get_tuple(thread(checkpoint_id="3"))
        assert len(saver.get_tuple(thread()).checkpoint["channel_values"]["m"]) == 4  # type: ignore[union-attr]  # it is there


def test_who_saw_a_write_that_failed(tmp_path: Path, trouble: Trouble) -> None:
    """Another process that read a record whose sync failed afterwards neither loses nor confuses anything by it."""
    path = tmp_path / "checkpoints"
    for length in (30, 900):
        shutil.rmtree(path, ignore_errors=True)
        one, two = FileSaver(path), FileSaver(path)
        one.put(thread(), checkpoint("1", v="one" * 50), {}, {})
        two.get_tuple(thread())
        real = disk._full_sync

        def failing(fd: int, other: FileSaver = two, real: Any = real) -> None:
            trouble._patch.setattr(disk, "_full_sync", real)
            assert other.get_tuple(thread()).checkpoint["id"] == "phantom"  # type: ignore[union-attr]  # it is seen
            raise OSError(errno.EIO, "failed")

        trouble._patch.setattr(disk, "_full_sync", failing)
        with pytest.raises(StoreError):
            one.put(thread(checkpoint_id="1"), checkpoint("phantom", v="phantom" * 50), {}, {})
        one.put(thread(checkpoint_id="1"), checkpoint("2", v="other" * length, w="w" * length), {}, {})
        two.put(thread(checkpoint_id="2"), checkpoint("3", v="phantom" * 50), {}, {})
        for saver in (one, two, FileSaver(path)):
            found = {each.checkpoint["id"]: each.checkpoint["channel_values"] for each in saver.list(thread())}
            assert found == {
                "1": {"v": "one" * 50},
                "2": {"v": "other" * length, "w": "w" * length},
                "3": {"v": "phantom" * 50},
            }


def test_a_line_whose_end_comes_later(tmp_path: Path) -> None:
    """A reader that sees a line before its end does not take it for damaged."""
    path = tmp_path / "checkpoints"
    stored = filled(path)
    os.truncate(journal(path), journal(path).stat().st_size - 1)
    with FileSaver(path) as reader, FileSaver(path) as writer:
        assert reader.get_tuple(thread()) is not None
        writer.put(thread(checkpoint_id="3"), checkpoint("new"), {}, {})
        assert [found.checkpoint["id"] for found in reader.list(thread())] == ["new", *list(stored)[::-1]]


def test_a_clock_that_goes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was put last is the newest of its thread, and of all that one process put, whatever the clock says."""
    path = tmp_path / "checkpoints"
    now = time.time_ns()
    for first in (0, 100):  # the second time by a process that has not seen a clock that was ahead
        with FileSaver(path) as saver:
            for number in range(first, first + 100):
                monkeypatch.setattr(time, "time_ns", lambda number=number: now - number * 10**9)
                saver.put(thread("ab"[number % 2]), checkpoint(f"{number:03}"), {}, {})
            if first == 0:
                assert [found.checkpoint["id"] for found in saver.list(None)] == [f"{n:03}" for n in range(99, -1, -1)]
        with FileSaver(path) as saver:
            for place, name in enumerate("ab"):
                listed = [found.checkpoint["id"] for found in saver.list(thread(name))]
                assert listed == [f"{number:03}" for number in range(first + 98 + place, -1, -2)]


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("how", ["deleted", "moved", "deleted beside a copy of it"])
def test_a_lock_file_that_is_taken_away(how: str, first: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever became of the file that was locked before, who begins to write keeps the other out."""
    path = tmp_path / "checkpoints"
    inside, go_on = threading.Event(), threading.Event()
    sync = disk._full_sync

    def waits(fd: int) -> None:
        if not inside.is_set():
            inside.set()
            assert go_on.wait(30)
        sync(fd)

    with FileSaver(path, busy_timeout=0.1) as one, FileSaver(path, busy_timeout=0.1) as two:
        saved = one.put(thread(), checkpoint("1"), {}, {})
        lock = journal(path).with_name("lock")
        if how == "moved":
            lock.rename(lock.with_name("moved"))
        else:
            if how == "deleted beside a copy of it":
                os.link(lock, tmp_path / "backup")
            lock.unlink()
        # One still has that file open, the other has never seen it: either may be the first to write now.
        writer, other = (one, two) if first == 0 else (two, one)
        monkeypatch.setattr(disk, "_full_sync", waits)
        with ThreadPoolExecutor(1) as beside:
            putting = beside.submit(writer.put, saved, checkpoint("2"), {}, {})
            try:
                assert inside.wait(30)
                with pytest.raises(BusyError):
                    other.put(saved, checkpoint("too early"), {}, {})
            finally:
                go_on.set()
            saved = putting.result(30)
        saved = other.put(saved, checkpoint("3"), {}, {})
        writer.put(saved, checkpoint("4"), {}, {})
    with FileSaver(path) as saver:
        assert [found.checkpoint["id"] for found in saver.list(thread())] == ["4", "3", "2", "1"]


def test_who_reads_while_another_thread_writes(tmp_path: Path) -> None:
    """Readers of the same saver see what is stored once, and never before it is, however they take turns."""
    interval = sys.getswitchinterval()
    with FileSaver(tmp_path / "checkpoints") as saver:
        ended = threading.Event()
        wrong: list[object] = []

        def look() -> None:
            while not ended.is_set():
                try:
                    for found in [saver.get_tuple(thread()), *saver.list(thread(), limit=3)]:
                        name = int(found.checkpoint["id"]) if found is not None else 0
                        if found is not None and (
                            len(found.checkpoint["channel_values"]["list"]) != name + 1 or len(found.pending_writes) > 1  # type: ignore[arg-type]  # it is a list
                        ):
                            wrong.append(found)
                except DurableError as error:
                    wrong.append(error)

        readers = [threading.Thread(target=look) for _ in range(3)]
        sys.setswitchinterval(1e-5)
        try:
            for reader in readers:
                reader.start()
            saved = thread()
            for number in range(150):
                values = [f"{n} " * 40 for n in range(number + 1)]
                saved = saver.put(saved, checkpoint(f"{number}", list=values), {}, {})
                saver.put_writes(saved, [("list", [f"written {number} " * 30])], "task")
        finally:
            ended.set()
            sys.setswitchinterval(interval)
            for reader in readers:
                reader.join()
        assert wrong == []
        assert saver.check().damage == ()


def test_orders_that_are_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpoints of different threads whose clocks said the same are all listed, once, also page by page."""
    path = tmp_path / "checkpoints"
    monkeypatch.setattr(time, "time_ns", lambda: 7)
    for name in "abc":
        with FileSaver(path) as saver:
            saver.put(thread(name), checkpoint(f"of {name}"), {}, {})
    with FileSaver(path) as saver:
        listed = [found.config for found in saver.list(None)]
        assert len(listed) == 3
        for place, config in enumerate(listed):
            assert [found.config for found in saver.list(None, before=config)] == listed[place + 1 :]


def test_many_threads_need_few_open_files(tmp_path: Path) -> None:
    """However many threads a process writes to, it has the files of few of them open, and none after it is done."""

    def opened() -> int:
        return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0

    before = opened()
    with FileSaver(tmp_path / "checkpoints") as saver:
        for number in range(50):
            saver.put(thread(f"{number}"), checkpoint(), {}, {})
        assert opened() <= before + 2 * KEPT_OPEN
    assert opened() == before


def test_what_nests_deeply(tmp_path: Path) -> None:
    """Values and metadata of many levels come back; metadata, which take a call for each, are said as text."""

    def nested(depth: int, inside: Any) -> Any:
        return inside if depth == 0 else [nested(depth - 1, inside)]

    path = tmp_path / "checkpoints"
    values = {"small": nested(100, 1), "large": nested(100, "x" * 70_000)}
    metadata: Any = {**GIVEN, "x": nested(100, 1)}
    with FileSaver(path) as saver:
        saved = saver.put(thread(), checkpoint("1", **values), metadata, {})
        saver.put_writes(saved, [("small", values["small"])], "task")
    said = [json.loads(line) for line in journal(path).read_text(encoding="utf-8").splitlines()]
    assert json.loads(said[1]["metadata_text"]) == metadata
    assert [one["is"] for one in said[1]["new"] if "is" in one] == [{"value": values["small"][0]}]
    with FileSaver(path) as saver:
        found = saver.get_tuple(thread())
        assert found is not None
        assert found.checkpoint["channel_values"] == values
        assert found.metadata == metadata
        assert found.pending_writes == [("task", "small", values["small"])]


# -- a disk that refuses ---------------------------------------------------------------------------------------------


class Trouble:
    """Makes the next call of a function of `os` that `disk` uses fail."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._patch = patch

    def arm(self, name: str, code: int, after: int = 0, only: int | None = None) -> None:
        """The call after `after` others raises OSError; a write of it gets `only` so many bytes done before."""
        real: Callable[..., Any] = getattr(disk if hasattr(disk, name) else os, name)
        left = [after]

        def failing(*args: Any, **kwargs: Any) -> Any:
            left[0] -= 1
            if left[0] >= 0:
                return real(*args, **kwargs)
            self._patch.undo()
            if only is not None:
                real(args[0], args[1][:only], *args[2:])
            raise OSError(code, os.strerror(code))

        self._patch.setattr(disk if hasattr(disk, name) else os, name, failing)


@pytest.fixture
def trouble() -> Iterator[Trouble]:
    """A disk that can be made to fail."""
    with pytest.MonkeyPatch.context() as patch:
        yield Trouble(patch)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EROFS])
@pytest.mark.parametrize(
    ("name", "after", "new"),
    [
        *[(name, 0, False) for name in ("pwrite", "_full_sync")],
        *[(name, 0, True) for name in ("pwrite", "_full_sync", "replace", "mkdir", "sync_folder")],
        # The folder of the journal, and the one that it is in.
        ("sync_folder", 1, True),
    ],
)
def test_a_write_that_fails_stores_nothing(
    name: str, after: int, code: int, new: bool, trouble: Trouble, tmp_path: Path
) -> None:
    """A call whose write, sync or rename fails raises, leaves what was there, and the next one succeeds."""
    path = tmp_path / "checkpoints"
    stored = filled(path)
    saver = FileSaver(path)
    where = thread("new") if new else thread(checkpoint_id="3")
    saver.put(thread("warm"), checkpoint(), {}, {})
    trouble.arm(name, code, after, only=20 if name == "pwrite" else None)
    with pytest.raises(StoreError) as caught:
        saver.put(where, checkpoint("4", count=4), {}, {})
    assert isinstance(caught.value.__cause__, OSError)
    assert isinstance(caught.value, ReadOnlyError) == (code == errno.EROFS)
    assert read(path) == stored
    assert FileSaver(path).get_tuple(thread("new")) is None
    saver.put(where, checkpoint("4", count=4), {}, {})
    assert saver.get_tuple(where if new else thread()).checkpoint["id"] == "4"  # type: ignore[union-attr]  # it is there
    if not new:
        assert read(path) == {**stored, "4": {"count": 4}}


def test_a_file_system_without_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a file cannot have two names a folder can be made all the same, and kept by several."""

    def link(*args: Any) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    path = tmp_path / "checkpoints"
    serde = EncryptedSerializer.from_pycryptodome_aes(key=b"0123456789abcdef")
    with FileSaver(path, serde=serde) as saver, FileSaver(path, serde=serde) as other:
        saver.put(thread(), checkpoint("1", text="x" * 100), {}, {})
        assert other.get_tuple(thread()).checkpoint["channel_values"] == {"text": "x" * 100}  # type: ignore[union-attr]  # it is there
    assert sorted(os.listdir(path)) == [".gitignore", "README.md", "format.json", "secrets", "threads"]


def test_files_that_are_deleted_under_a_saver(tmp_path: Path) -> None:
    """A thread whose files somebody deletes is gone, and can be begun anew by the same saver."""
    path = tmp_path / "checkpoints"
    filled(path)
    with FileSaver(path) as saver:
        assert saver.get_tuple(thread()) is not None
        shutil.rmtree(path / "threads")
        assert saver.get_tuple(thread()) is None
        assert list(saver.list(None)) == []
        saver.put(thread(), checkpoint("new", count=1), {}, {})
        assert [found.checkpoint["id"] for found in saver.list(None)] == ["new"]
    assert read(path) == {}
    with FileSaver(path) as saver:
        assert [found.checkpoint["id"] for found in saver.list(None)] == ["new"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="it needs processes that fork")
def test_a_fork(tmp_path: Path) -> None:
    """Parent and child of a fork go on with the same saver, each with locks of its own, and lose nothing."""
    path = tmp_path / "checkpoints"
    saver = FileSaver(path)
    saver.put(thread(), checkpoint("before"), {}, {})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking with threads, from Python 3.12 on
        pid = os.fork()
    if pid == 0:
        try:
            for number in range(30):
                saver.put(thread(), checkpoint(f"child {number}"), {}, {})
            os._exit(0)
        finally:
            os._exit(1)
    for number in range(30):
        saver.put(thread(), checkpoint(f"parent {number}"), {}, {})
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    listed = [found.checkpoint["id"] for found in saver.list(thread())][::-1]
    assert [name for name in listed if name.startswith("parent")] == [f"parent {number}" for number in range(30)]
    assert [name for name in listed if name.startswith("child")] == [f"child {number}" for number in range(30)]
    assert [found.checkpoint["id"] for found in FileSaver(path).list(thread())][::-1] == listed


@pytest.mark.filterwarnings("ignore::langgraph_durable.CorruptDataWarning")
def test_nothing_of_a_deleted_thread_is_left(tmp_path: Path) -> None:
    """Not in what a crash left behind, in what was put aside, or in a journal that cannot be read any more."""
    path = tmp_path / "checkpoints"
    for damage in ("last", "first", "none"):
        filled(path)
        lines = journal(path).read_bytes().splitlines(keepends=True)
        folder = journal(path).parent
        (folder / ".journal.jsonl.tmp").write_bytes(b"".join(lines))
        (folder / "damaged-1.jsonl").write_bytes(b"".join(lines))
        if damage != "none":
            place = 0 if damage == "first" else -1
            lines[place] = lines[place].replace(b'"type"', b'"tyqe"', 1)
            journal(path).write_bytes(b"".join(lines))
        with FileSaver(path) as saver:
            saver.delete_thread("thread")
            assert saver.get_tuple(thread()) is None
            assert list(saver.list(None)) == []
        assert sorted(os.listdir(folder)) == ["journal.jsonl", "lock"]
        assert b"bridge" not in journal(path).read_bytes()
        shutil.rmtree(path)


def test_a_thread_that_never_was_leaves_no_folder(tmp_path: Path) -> None:
    """Deleting, copying and reading what is not there makes nothing."""
    path = tmp_path / "checkpoints"
    with FileSaver(path) as saver:
        saver.delete_thread("nobody")
        saver.copy_thread("nobody", "nothing")
        assert saver.get_tuple(thread("nobody")) is None
    assert os.listdir(path / "threads") == []


# -- folders of others -----------------------------------------------------------------------------------------------


def test_what_is_no_folder_of_checkpoints(tmp_path: Path) -> None:
    """A file, a folder with other things in it, and one of a newer release are refused and not touched."""
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(NotADatabaseError, match="is a file"):
        FileSaver(file)
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "README.md").write_text("mine")
    with pytest.raises(NotADatabaseError, match="has files in it"):
        FileSaver(folder)
    assert os.listdir(folder) == ["README.md"]
    newer = tmp_path / "newer"
    FileSaver(newer).close()
    (newer / "format.json").write_text('{"version": 99}')
    with pytest.raises(SchemaVersionError, match="upgrade"):
        FileSaver(newer)
    (newer / "format.json").write_text("what")
    with pytest.raises(NotADatabaseError, match="does not say"):
        FileSaver(newer)


def test_a_folder_whose_making_was_cut_short(tmp_path: Path) -> None:
    """A folder that somebody died making is made to its end."""
    path = tmp_path / "checkpoints"
    (path / "threads").mkdir(parents=True)
    (path / ".README.md.1.2.tmp").write_text("half")
    filled(path)
    assert (path / "format.json").exists()
    assert len(read(path)) == 4


def test_a_thread_put_in_the_place_of_another(tmp_path: Path) -> None:
    """A journal that was copied by hand to another thread's folder is not taken for that thread's."""
    path = tmp_path / "checkpoints"
    filled(path)
    with FileSaver(path) as saver:
        saver.put(thread("other"), checkpoint(), {}, {})
    source = path / "threads" / folder_name("thread") / "journal.jsonl"
    shutil.copy(source, path / "threads" / folder_name("other") / "journal.jsonl")
    with FileSaver(path) as saver, pytest.raises(StoreError, match="put there by hand"):
        saver.get_tuple(thread("other"))
