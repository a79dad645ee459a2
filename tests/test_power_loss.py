"""Whatever a power cut leaves on the disk, everything that was acknowledged is there.

A short run is recorded as what it asks of the system. A cut may come after any of that. What was not synced by then may
have reached the disk, or not, or half: of the bytes of a file all that was written since its last sync, none, or all
but the end; of the names in a folder the changes since its last sync up to any of them. Every such disk is made, and
opened. This is what a file system may do by POSIX; a real one keeps more.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from langchain_core.messages import HumanMessage

from langgraph_durable import DurableError, FileSaver
from langgraph_durable.stores.files import disk
from tests.conftest import checkpoint, thread

pytestmark = pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="it asks Linux which file a number means")


class Event(NamedTuple):
    """What was asked of the system, or answered to the caller (`acknowledged`), or asked by him (`given up`)."""

    what: str
    path: str
    other: str = ""
    data: bytes = b""
    place: int = 0


@contextmanager
def recorded(events: list[Event], without: str = "") -> Iterator[None]:
    """What this package does to files meanwhile; all but the function `without` of its `disk`."""

    def name(fd: int) -> str:
        return os.readlink(f"/proc/self/fd/{fd}")

    real: dict[str, Callable[..., Any]] = {
        one: getattr(os, one) for one in ("open", "pwrite", "ftruncate", "replace", "link", "unlink", "mkdir")
    }

    def opened(path: Any, flags: int, mode: int = 0o777) -> int:
        new = bool(flags & os.O_CREAT) and not os.path.exists(path)
        fd: int = real["open"](path, flags, mode)
        if new:
            events.append(Event("create", os.path.abspath(path)))
        elif flags & os.O_TRUNC:
            events.append(Event("truncate", os.path.abspath(path)))
        return fd

    def written(fd: int, data: Any, place: int) -> int:
        count: int = real["pwrite"](fd, data, place)
        events.append(Event("write", name(fd), data=bytes(data[:count]), place=place))
        return count

    def truncated(fd: int, size: int) -> None:
        real["ftruncate"](fd, size)
        events.append(Event("truncate", name(fd), place=size))

    def two(what: str) -> Callable[[str, str], None]:
        def done(source: str, target: str) -> None:
            real[what](source, target)
            events.append(Event(what, target, source))

        return done

    def one(what: str) -> Callable[..., None]:
        def done(path: str, *mode: int) -> None:
            real[what](path, *mode)
            events.append(Event(what, path))

        return done

    full_sync, sync_folder = disk._full_sync, disk.sync_folder

    def synced(fd: int) -> None:
        if without == "_full_sync":
            return
        full_sync(fd)
        events.append(Event("sync", name(fd)))

    def folder_synced(path: str) -> None:
        if without == "sync_folder":
            return
        sync_folder(path)
        events.append(Event("sync folder", os.path.abspath(path or ".")))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "open", opened)
        patch.setattr(os, "pwrite", written)
        patch.setattr(os, "ftruncate", truncated)
        patch.setattr(os, "replace", two("replace"))
        patch.setattr(os, "link", two("link"))
        patch.setattr(os, "unlink", one("unlink"))
        patch.setattr(os, "mkdir", one("mkdir"))
        patch.setattr(disk, "_full_sync", synced)
        patch.setattr(disk, "sync_folder", folder_synced)
        yield


class File:
    """Bytes, apart from any name: those that are on the disk, and those that were written."""

    def __init__(self) -> None:
        self.safe = b""
        self.now = b""

    def left(self, how: str) -> bytes:
        """What may be found of it."""
        if how == "none" or self.now == self.safe:
            return self.safe
        if how == "all":
            return self.now
        common = next((n for n, pair in enumerate(zip(self.safe, self.now, strict=False)) if len(set(pair)) > 1), 0)
        common = common or min(len(self.safe), len(self.now))
        return self.now[: common + (len(self.now) - common) // 2]


def disks(events: list[Event]) -> Iterator[dict[str, bytes | None]]:
    """What may be on the disk when the power goes after these events: files by their paths, None for a folder."""
    safe: dict[str, File | None] = {}
    now: dict[str, File | None] = {}
    pending: list[tuple[str, Callable[[dict[str, File | None]], None]]] = []

    def change(path: str, how: Callable[[dict[str, File | None]], None]) -> None:
        how(now)
        pending.append((os.path.dirname(path), how))

    def put(path: str, file: File | None) -> Callable[[dict[str, File | None]], None]:
        return lambda names: names.update({path: file})

    def take(path: str) -> Callable[[dict[str, File | None]], None]:
        def done(names: dict[str, File | None]) -> None:
            names.pop(path, None)

        return done

    for event in events:
        if event.what == "create":
            change(event.path, put(event.path, File()))
        elif event.what == "mkdir":
            change(event.path, put(event.path, None))
        elif event.what == "unlink":
            change(event.path, take(event.path))
        elif event.what in ("replace", "link"):
            change(event.path, put(event.path, now[event.other]))
            if event.what == "replace":
                change(event.other, take(event.other))
        elif event.what == "sync folder":
            for folder, how in pending:
                if folder == event.path:
                    how(safe)
            pending[:] = [one for one in pending if one[0] != event.path]
        elif event.what in ("write", "truncate", "sync"):
            file = now.get(event.path)
            if file is None:
                continue
            if event.what == "sync":
                file.safe = file.now
            elif event.what == "truncate":
                file.now = file.now[: event.place]
            else:
                file.now = file.now[: event.place] + event.data + file.now[event.place + len(event.data) :]
    for count in range(len(pending) + 1):
        names = dict(safe)
        for _, how in pending[:count]:
            how(names)
        for left in ("none", "half", "all"):
            yield {path: file if file is None else file.left(left) for path, file in names.items()}


def made(found: dict[str, bytes | None], root: str, path: Path) -> None:
    """Put at `path` what a power cut left at `root`."""
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir()
    for name in sorted(found):
        if not name.startswith(root + "/"):
            continue
        target = path / os.path.relpath(name, root)
        if not target.parent.is_dir():
            continue  # its folder was not on the disk
        data = found[name]
        if data is None:
            target.mkdir(exist_ok=True)
        else:
            target.write_bytes(data)


def run(root: Path, events: list[Event]) -> dict[str, dict[str, Any]]:
    """Everything that touches the disk, once; the values of each checkpoint that was put."""
    values: dict[str, dict[str, Any]] = {}
    with FileSaver(root / "checkpoints") as saver:

        def put(thread_id: str, number: int, **more: Any) -> None:
            name = f"{number}"
            values[f"{thread_id}/{name}"] = {
                "messages": [HumanMessage(f"{n}", id=f"{n}") for n in range(number)],
                **more,
            }
            config = thread(thread_id, checkpoint_id=f"{number - 1}" if number else None)
            saver.put(config, checkpoint(name, **values[f"{thread_id}/{name}"]), {}, {})
            events.append(Event("acknowledged", f"{thread_id}/{name}"))

        put("a", 0)
        put("a", 1)
        put("b", 0, large="x" * 70_000)
        put("a", 2, large="y" * 70_000)
        events.extend(Event("given up", name) for name in ("a/0", "a/1"))
        saver.prune(["a"])
        put("a", 3)
        saver.copy_thread("a", "c")
        for name in ("2", "3"):
            values[f"c/{name}"] = values[f"a/{name}"]
            events.append(Event("acknowledged", f"c/{name}"))
        put("c", 4)
    return values


def what_is_there(path: Path) -> dict[str, Any]:
    """The values of every checkpoint, as a new saver finds them; it can be gone on from that."""
    with FileSaver(path) as saver:
        there = {
            f"{one.config['configurable']['thread_id']}/{one.checkpoint['id']}": one.checkpoint["channel_values"]
            for one in saver.list(None)
        }
        saver.put(thread("new"), checkpoint("0"), {}, {})
        assert saver.get_tuple(thread("new")) is not None
    return there


def losses(
    root: Path, scratch: Path, events: list[Event], values: dict[str, dict[str, Any]], enough: int = 10**9
) -> tuple[int, int]:
    """How many disks a power cut could leave, and on how many (`enough` will do) something acknowledged is lacking."""
    count = bad = 0
    for end in range(1, len(events) + 1):
        if bad >= enough:
            break
        past = events[:end]
        expected = {event.path for event in past if event.what == "acknowledged"}
        expected -= {event.path for event in past if event.what == "given up"}
        seen: set[tuple[tuple[str, bytes | None], ...]] = set()
        for found in disks(past):
            key = tuple(sorted(found.items()))
            if key in seen:
                continue
            seen.add(key)
            count += 1
            made(found, str(root), scratch)
            try:
                there = what_is_there(scratch / "checkpoints")
            except DurableError:
                bad += 1
                continue
            for name, is_there in there.items():
                assert is_there == values[name], (end, name)
            bad += not expected <= there.keys()
    return count, bad


def test_a_power_cut_at_any_moment(tmp_path: Path) -> None:
    """On every disk that a power cut can leave, all that was acknowledged is there as it was put, and nothing else."""
    events: list[Event] = []
    with recorded(events):
        values = run(tmp_path / "run", events)
    count, bad = losses(tmp_path / "run", tmp_path / "cut", events, values)
    assert count > 200
    assert bad == 0


@pytest.mark.parametrize("what", ["sync_folder", "_full_sync"])
def test_it_is_the_syncs_that_keep_it(what: str, tmp_path: Path) -> None:
    """Without the syncs of folders, or of files, there are disks that lack something: the test above would see it."""
    events: list[Event] = []
    with recorded(events, without=what):
        values = run(tmp_path / "run", events)
    assert losses(tmp_path / "run", tmp_path / "cut", events, values, enough=1)[1] > 0
