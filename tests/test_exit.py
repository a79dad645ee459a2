"""A process that never closes its saver ends when its program ends, and leaves behind all that was acknowledged."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from langgraph_durable import SqliteSaver
from tests.conftest import thread
from tests.processes import PATIENCE, forks

PRELUDE = """
import asyncio, os, signal, sys, threading, time
from langgraph_durable import AsyncSqliteSaver, DurableError, SqliteSaver
from langgraph_durable.stores import lane
from tests.conftest import checkpoint, thread

lane.IDLE_SECONDS = 3600.0  # whoever waits for an idle thread waits until the test gives up
PATH = sys.argv[1]
lock = threading.Lock()
said = []

def acknowledged(name):
    with lock:
        os.write(1, f"{name}\\n".encode())
        said.append(name)

def put(saver, name):
    saved = saver.put(thread(name), checkpoint(name, text=name * 100), {}, {})
    saver.put_writes(saved, [("text", name * 200)], "task")
    acknowledged(name)
    assert saver.get_tuple(saved) is not None

async def aput(saver, name):
    saved = await saver.aput(thread(name), checkpoint(name, text=name * 100), {}, {})
    await saver.aput_writes(saved, [("text", name * 200)], "task")
    acknowledged(name)
    assert await saver.aget_tuple(saved) is not None
"""

PROGRAMS: dict[str, tuple[str, int]] = {
    "function": (
        """
def main():
    saver = SqliteSaver(PATH)
    put(saver, "one")
    put(saver, "two")
main()
""",
        0,
    ),
    "module": (
        """
saver = SqliteSaver(PATH)
put(saver, "one")
listing = saver.list(None)
next(listing)
""",
        0,
    ),
    "cycle": (
        """
saver = SqliteSaver(PATH)
saver.myself = saver
put(saver, "one")
del saver
""",
        0,
    ),
    "asyncio.run": (
        """
async def main():
    saver = AsyncSqliteSaver.from_conn_string(PATH)
    await asyncio.gather(*(aput(saver, f"name {n}") for n in range(10)))
asyncio.run(main())
""",
        0,
    ),
    "asyncio.run with the saver of the module": (
        """
saver = AsyncSqliteSaver.from_conn_string(PATH)
asyncio.run(aput(saver, "one"))
asyncio.run(aput(saver, "two"))
put(saver, "three")
""",
        0,
    ),
    "tasks that are left": (
        """
saver = SqliteSaver(PATH)
async def forever(name):
    number = 0
    while True:
        await aput(saver, f"{name} {number}")
        number += 1
async def main():
    left = [asyncio.create_task(forever(f"task {n}")) for n in range(5)]
    while len(said) < 20:
        await asyncio.sleep(0.001)
asyncio.run(main())
""",
        0,
    ),
    "a loop that is left open": (
        """
saver = SqliteSaver(PATH)
loop = asyncio.new_event_loop()
loop.run_until_complete(aput(saver, "one"))
left = loop.create_task(aput(saver, "two"))
for _ in range(3):
    loop.run_until_complete(asyncio.sleep(0))
""",
        0,
    ),
    "exception": (
        """
saver = SqliteSaver(PATH)
put(saver, "one")
raise ValueError("the program failed")
""",
        1,
    ),
    "sys.exit in a thread": (
        """
saver = SqliteSaver(PATH)
def run():
    put(saver, "one")
    sys.exit(7)
    put(saver, "two")
thread_ = threading.Thread(target=run)
thread_.start()
thread_.join()
put(saver, "three")
""",
        0,
    ),
    "sys.exit beside threads that write": (
        """
saver = SqliteSaver(PATH)
def run(name):
    try:
        for number in range(100_000):
            put(saver, f"{name} {number}")
    except DurableError:
        pass  # closed under it, at the end of the program
def arun(name):
    async def main():
        for number in range(100_000):
            await aput(saver, f"{name} {number}")
    try:
        asyncio.run(main())
    except (DurableError, RuntimeError):
        pass  # the same, or the interpreter takes no more work
for n in range(2):
    threading.Thread(target=run, args=(f"thread {n}",), daemon=True).start()
    threading.Thread(target=arun, args=(f"loop {n}",), daemon=True).start()
while len(said) < 40:
    time.sleep(0.001)
sys.exit(3)
""",
        3,
    ),
    "threads that outlive the main one": (
        """
saver = SqliteSaver(PATH)
def run():
    for number in range(30):
        put(saver, f"late {number}")
threading.Thread(target=run).start()
""",
        0,
    ),
    "os._exit": (
        """
saver = SqliteSaver(PATH)
put(saver, "one")
asyncio.run(aput(saver, "two"))
os._exit(5)
""",
        5,
    ),
    "Ctrl-C": (
        """
saver = SqliteSaver(PATH)
put(saver, "first")
signal.signal(signal.SIGINT, signal.default_int_handler)  # who starts a process in the background ignores it
signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT))
signal.setitimer(signal.ITIMER_REAL, 0.1)
number = 0
while True:
    put(saver, f"name {number}")
    number += 1
""",
        -2,
    ),
    "a fork that ends as a program does": (
        """
import warnings
warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of every fork beside a thread
saver = SqliteSaver(PATH)
put(saver, "parent 1")
asyncio.run(aput(saver, "parent 2"))
for n in range(3):
    pid = os.fork()
    if pid == 0:
        put(saver, f"child {n}")
        asyncio.run(aput(saver, f"child too {n}"))
        sys.exit(0)
    put(saver, f"beside {n}")
    assert os.waitpid(pid, 0)[1] == 0
    put(saver, f"after {n}")
    asyncio.run(aput(saver, f"after too {n}"))
""",
        0,
    ),
}
NOISY = {"exception", "Ctrl-C", "a loop that is left open"}
"""Programs of which Python has something to say at the end; the others end without a word."""


@forks
@pytest.mark.parametrize("name", PROGRAMS)
def test_the_end_of_a_program(name: str, path: str) -> None:
    """However a program ends that did not close its saver, it does end, and all that was acknowledged is there."""
    source, status = PROGRAMS[name]
    root = str(Path(__file__).resolve().parents[1])
    ended = subprocess.run(
        [sys.executable, "-c", PRELUDE + source, path],
        env={**os.environ, "PYTHONPATH": root},
        capture_output=True,
        encoding="utf-8",
        timeout=PATIENCE,
        check=False,
    )
    assert ended.returncode == status, ended.stderr
    if name not in NOISY:
        assert ended.stderr == ""
    said = ended.stdout.splitlines()
    assert said
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    with SqliteSaver(path) as saver:
        for one in said:
            found = saver.get_tuple(thread(one))
            assert found is not None, one
            assert found.checkpoint["channel_values"] == {"text": one * 100}
            assert found.pending_writes == [("task", "text", one * 200)]
