"""Other processes for tests: one that has imported everything forks the rest, so that a child costs milliseconds.

A job is a function of a test module; it is called in a child of its own with a `Pipe` to the test and its arguments.
The test talks to it through `Child`, which also says when the child has gone. What is sent is sent in one system call,
so a killed child leaves no half message.
"""

from __future__ import annotations

import atexit
import functools
import os
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path
from types import TracebackType
from typing import Any, Concatenate, NamedTuple, ParamSpec, TypeAlias

import pytest

P = ParamSpec("P")
Pipe: TypeAlias = "Connection[Any, Any]"

PATIENCE = 60.0
"""Seconds after which something that should have happened long ago is taken for a deadlock."""

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="it needs processes that fork")


class Failed(NamedTuple):
    """What a job raised."""

    trace: str


class Child:
    """A process that runs a job; killed at the end of its `with` if it is still there."""

    def __init__(self, pid: int, pipe: Pipe) -> None:
        self.pid = pid
        self.pipe = pipe
        self.gone = False

    def send(self, message: Any) -> None:
        self.pipe.send(message)

    def receive(self, patience: float = PATIENCE) -> Any:
        """What the job says next. EOFError: it has ended; AssertionError: it raised, or says nothing."""
        if not self.pipe.poll(patience):
            self.kill()
            raise AssertionError(f"the child said nothing for {patience} seconds")
        try:
            message = self.pipe.recv()
        except (EOFError, ConnectionResetError) as error:
            self.gone = True
            raise EOFError from error
        if isinstance(message, Failed):
            raise AssertionError(f"the child failed:\n{message.trace}")
        return message

    def ask(self, message: Any) -> Any:
        self.send(message)
        return self.receive()

    def rest(self) -> list[Any]:
        """All that the job still says, up to its end."""
        said = []
        with suppress(EOFError):
            while True:
                said.append(self.receive())
        return said

    def kill(self) -> None:
        """End it with SIGKILL; what it said before can still be received."""
        if not self.gone:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        self.pipe.close()


def child(job: Callable[Concatenate[Pipe, P], None], *args: P.args, **kwargs: P.kwargs) -> Child:
    """A new process that runs `job(pipe, ...)`."""
    return _nursery().bear((job, args, kwargs))


@contextmanager
def children(
    number: int, job: Callable[Concatenate[Pipe, P], None], *args: P.args, **kwargs: P.kwargs
) -> Iterator[list[Child]]:
    """Several processes that run the same."""
    made: list[Child] = []
    try:
        made.extend(child(job, *args, **kwargs) for _ in range(number))
        yield made
    finally:
        for one in made:
            one.kill()
            one.pipe.close()


class _Nursery:
    """The process that forks the others, and the way to tell it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._folder = tempfile.TemporaryDirectory()
        self._listener = Listener(os.path.join(self._folder.name, "nursery"), "AF_UNIX")
        root = str(Path(__file__).resolve().parents[1])
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.processes", str(self._listener.address)],
            cwd=root,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))},
        )
        self._orders = self._listener.accept()
        atexit.register(self._end, os.getpid())

    def bear(self, order: Any) -> Child:
        with self._lock:
            self._orders.send(order)
            assert self._orders.poll(PATIENCE), "the process that forks the others says nothing"
            answer = self._orders.recv()
            assert not isinstance(answer, Failed), answer.trace
            pipe = self._listener.accept()
            return Child(pipe.recv(), pipe)

    def _end(self, owner: int) -> None:
        if os.getpid() == owner:
            self._orders.close()
            self._process.wait()
            self._listener.close()
            self._folder.cleanup()


@functools.cache
def _nursery() -> _Nursery:
    return _Nursery()


def _serve(address: str) -> None:
    orders = Client(address)
    while True:
        try:
            job, args, kwargs = orders.recv()
        except (EOFError, ConnectionResetError):
            return
        except Exception:  # noqa: BLE001  the test is told
            orders.send(Failed(traceback.format_exc()))
            continue
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        if os.fork() == 0:
            _live(orders, address, job, args, kwargs)
        orders.send(None)


def _live(orders: Pipe, address: str, job: Callable[..., None], args: Any, kwargs: Any) -> None:
    status = 1
    try:
        orders.close()
        pipe = Client(address)
        pipe.send(os.getpid())
        try:
            job(pipe, *args, **kwargs)
            status = 0
        except (EOFError, ConnectionError):
            pass  # the test has what it wanted
        except BaseException:  # noqa: BLE001  the test is told
            with suppress(OSError):
                pipe.send(Failed(traceback.format_exc()))
    finally:
        os._exit(status)


if __name__ == "__main__":
    # Under its own name, so that what it sends has a class that the test knows.
    from tests import processes

    processes._serve(sys.argv[1])
