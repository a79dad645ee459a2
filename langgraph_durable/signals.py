"""Why a run is being stopped: while runs go on, Ctrl-C and SIGTERM are noted before they do what they would do.

SIGTERM, which would end the process on the spot, raises SystemExit instead, as Ctrl-C raises KeyboardInterrupt, so that
writes that have begun come to their end. Raised in an event loop either would end the loop under the runs that are its
tasks: those are cancelled first, and it is raised where the last of them has ended. A handler of the app's own is left
to do its own. Handlers belong to the main thread: a run in any other is not stopped by a signal, and notes nothing.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from types import FrameType
from typing import Any, Literal, NoReturn

Reason = Literal["ctrl-c", "sigterm"]

_REASONS: dict[int, Reason] = {signal.SIGINT: "ctrl-c", signal.SIGTERM: "sigterm"}


class Signals:
    """Which signals came during a run: `with` it. `task` is the one that runs it, for a coroutine."""

    # What all runs of the process share.
    _runs: list[Signals] = []  # noqa: RUF012
    _before: dict[int, Any] = {}  # noqa: RUF012
    _noted: Reason | None = None
    _due: int | None = None
    _lock = threading.Lock()

    def __init__(self, task: asyncio.Task[Any] | None = None) -> None:
        self._task = task

    def __enter__(self) -> Signals:
        kind = Signals
        self._main = threading.current_thread() is threading.main_thread()
        if self._main:
            with kind._lock:
                if not kind._runs:
                    kind._noted = kind._due = None
                    for number in _REASONS:
                        before = signal.getsignal(number)
                        # None is a handler that was not made in Python, which cannot be called from here.
                        if before not in (None, signal.SIG_IGN, _note):
                            kind._before[number] = before
                            signal.signal(number, _note)
                elif kind._due is not None:
                    _raise(kind._due)
                kind._runs.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        kind = Signals
        if not self._main:
            return
        with kind._lock:
            kind._runs.remove(self)
            if kind._runs:
                return
            due, kind._due = kind._due, None
            # A stream may be closed in another thread than it was opened in; the next run here finds the handlers.
            if threading.current_thread() is threading.main_thread():
                for number, before in kind._before.items():
                    if signal.getsignal(number) is _note:  # else somebody has put his own in its place meanwhile
                        signal.signal(number, before)
                kind._before.clear()
        if due is not None:
            _raise(due)

    @property
    def reason(self) -> Reason | None:
        """The signal that came while any of these runs went on."""
        return Signals._noted if self._main else None


def _note(number: int, frame: FrameType | None) -> None:
    Signals._noted = _REASONS[number]
    before = Signals._before.get(number)
    if callable(before) and before is not signal.default_int_handler:
        before(number, frame)
    elif Signals._runs and Signals._due is None and all(map(_can_be_cancelled, Signals._runs)):
        Signals._due = number
        for run in Signals._runs:
            assert run._task is not None
            run._task.get_loop().call_soon_threadsafe(run._task.cancel)
    else:
        _raise(number)


def _can_be_cancelled(run: Signals) -> bool:
    return run._task is not None and not run._task.done() and run._task.get_loop().is_running()


def _raise(number: int) -> NoReturn:
    if number == signal.SIGTERM:
        raise SystemExit(128 + number)
    raise KeyboardInterrupt
