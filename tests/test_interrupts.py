"""Ctrl-C at the beginning of any function of this package: what was asked for may fail, and nobody is kept waiting."""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import langgraph_durable
from langgraph_durable.core.records import CopyThread, DeleteCheckpoints, DeleteThread, One, Work
from langgraph_durable.saver import DurableSaver
from langgraph_durable.stores.files import FileStore
from tests.conftest import checkpoint, saver_at, thread
from tests.stores import chunk, done, new, of, writes

PACKAGE = str(Path(langgraph_durable.__file__).parent)
PATIENCE = 10.0


def interrupted(nth: int, call: Callable[[], object]) -> bool:
    """Whether `call` was interrupted when the `nth` function of the package was about to begin in it."""
    seen = 0

    def profile(frame: FrameType, event: str, arg: Any) -> None:
        nonlocal seen
        if event == "call" and frame.f_code.co_filename.startswith(PACKAGE):
            seen += 1
            if seen == nth:
                raise KeyboardInterrupt

    sys.setprofile(profile)
    try:
        call()
    except KeyboardInterrupt:
        pass
    finally:
        sys.setprofile(None)
    return seen >= nth


def put(saver: DurableSaver, name: str) -> None:
    saved = saver.put(thread(name), checkpoint(name, messages=[name] * 150), {}, {})
    saver.put_writes(saved, [("messages", [name * 200])], "task")


def get(saver: DurableSaver, name: str) -> None:
    found = saver.get_tuple(thread(name))
    assert found is not None
    assert found.checkpoint["channel_values"] == {"messages": [name] * 150}
    assert found.pending_writes == [("task", "messages", [name * 200])]


def delete(saver: DurableSaver, name: str) -> None:
    saver.delete_thread(name)


# What is raised in a generator that is thrown away goes nowhere, by Python's rules.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("call", [put, get, delete])
@pytest.mark.parametrize("every", [4, pytest.param(1, marks=pytest.mark.soak)])
def test_nobody_waits_for_who_was_interrupted(
    call: Callable[[DurableSaver, str], None], place: str, every: int
) -> None:
    """Wherever Ctrl-C strikes, other threads, and the same one, go on storing and reading, and see all they stored."""
    with saver_at(place) as saver:
        for nth in range(1, 2000, every):
            if call is not put:
                put(saver, f"given {nth}")
            name = f"{'new' if call is put else 'given'} {nth}"
            if not interrupted(nth, lambda name=name: call(saver, name)):  # type: ignore[misc]  # bound now
                break
            assert gc.isenabled(), f"at call {nth}"
            worked: list[bool] = []

            def works(name: str = f"other {nth}", worked: list[bool] = worked) -> None:
                put(saver, name)
                get(saver, name)
                worked.append(True)

            other = threading.Thread(target=works, daemon=True)
            other.start()
            other.join(PATIENCE)
            assert worked, f"at call {nth}"
            put(saver, "same")
            get(saver, "same")
            if place != ":memory:":
                # Another saver of the same place is another process, as far as locks are concerned.
                with saver_at(place, busy_timeout=0.05) as neighbour:
                    put(neighbour, name)
        else:
            raise AssertionError("the call never got through")
        assert nth > 10


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    ("work", "written"),
    [
        (new("1", One(chunk("c").digest)), "new"),
        (new("2", One(chunk("c").digest)), "given"),
        (writes("1", One(chunk("c").digest)), "given"),
        (DeleteCheckpoints((("", "1"),)), "given"),
        (DeleteThread(), "given"),
        (CopyThread("new {}"), "new"),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else value,
)
def test_no_lock_is_kept_by_who_was_interrupted(work: Work, written: str, tmp_path: Path) -> None:
    """Wherever Ctrl-C strikes a commit to files, others can write to that thread at once, without its help."""
    store = FileStore(str(tmp_path / "checkpoints"), busy_timeout=30)
    neighbour = FileStore(str(tmp_path / "checkpoints"), busy_timeout=0.05)
    for nth in range(1, 2000):
        if written == "given" or isinstance(work, CopyThread):
            done(store, of(f"given {nth}", new("1"), "c"), of(f"given {nth}", new("kept")))
        doing = CopyThread(work.target.format(nth)) if isinstance(work, CopyThread) else work
        name = f"given {nth}" if isinstance(work, CopyThread) else f"{written} {nth}"
        batch = of(name, doing, "c")
        if not interrupted(nth, lambda batch=batch: store.commit([batch])):  # type: ignore[misc]  # bound now
            break
        done(neighbour, of(f"{written} {nth}", new("of the neighbour")))
    else:
        raise AssertionError("the commit never got through")
    assert nth > 10
    store.close()
    neighbour.close()
