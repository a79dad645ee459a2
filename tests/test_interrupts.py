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
from langgraph_durable.saver import DurableSaver
from tests.conftest import checkpoint, saver_at, thread

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
def test_nobody_waits_for_who_was_interrupted(call: Callable[[DurableSaver, str], None], place: str) -> None:
    """Wherever Ctrl-C strikes, other threads, and the same one, go on storing and reading, and see all they stored."""
    with saver_at(place) as saver:
        for nth in range(1, 2000):
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
