"""Nothing the demo prints is assumed: the steps come from their own journal, the rest is read back from the databases.

One run of a real agent, in two processes: the first is killed inside a step, the second goes on with what is stored.
The work folder is the demo's own; the folder that the agent looks at is only read. The key of a live model stays in the
environment of the processes that use it.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import IO
from urllib.parse import urlsplit

from langgraph_durable.cli.journal import Check, Event, Journal, Run, checks, from_line
from langgraph_durable.cli.stored import Stored, read_back, report, size_in_official
from langgraph_durable.errors import DurableError, InvalidRequestError

SUMMARY = "Kill an agent in the middle of a step, resume it in a new process, and see what ran and what is stored."
DEFAULT_MODEL = "gpt-4o-mini"
# The step in which process 1 is killed. The scripted model reads its first file there; a live one may need fewer steps.
SCRIPTED_PAUSE, LIVE_PAUSE = 8, 4
PATIENCE_S = 2.0  # after this long without anything to show, a line says that the demo still waits
KILL = "SIGKILL" if os.name == "posix" else "TerminateProcess"
KILLED = -9 if os.name == "posix" else 1
# Not `-m`, which would import from the current folder first: that is the user's, and may well hold an openai.py.
# Ctrl-C reaches the agent's process and this one, which answers by ending that one.
BOOTSTRAP = """
import sys
sys.path[:] = {path!r}
import signal
signal.signal(signal.SIGINT, signal.SIG_IGN)
from langgraph_durable.cli.agent import main
sys.exit(main(sys.argv[1]))
"""
ROW = "{:>5}  {:<46}  {:<15}  {:>8}  {}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `langgraph-durable demo` takes."""
    parser.add_argument("folder", metavar="FOLDER", nargs="?", type=Path, default=Path(), help="read it (default: .)")
    parser.add_argument(
        "--live",
        action="store_true",
        help="ask a real model instead of the scripted, offline one: needs OPENAI_API_KEY, and OPENAI_BASE_URL for a "
        "compatible provider; what the tools read is sent there",
    )
    parser.add_argument("--model", metavar="NAME", help=f"the model that --live asks (default: {DEFAULT_MODEL})")
    parser.add_argument("--database", metavar="PATH", type=Path, help="a new file to store the run in, and to keep")
    parser.add_argument("--keep", action="store_true", help="keep the work folder: the database and the journal")


def run(arguments: argparse.Namespace) -> int:
    """0 when no finished step ran again and everything is stored; 1 when a check failed. Raises DurableError."""
    _require_packages(live=arguments.live)
    model = _model_name(arguments)
    folder = _existing_folder(arguments.folder)
    asked_for = _new_database(arguments.database) if arguments.database is not None else None
    with _work_folder(keep=arguments.keep) as work:
        database = asked_for or work / "agent.db"
        first = Run(
            folder=str(folder),
            database=str(database),
            journal=str(work / "journal.jsonl"),
            thread_id="demo",
            process=1,
            pause_at=LIVE_PAUSE if model else SCRIPTED_PAUSE,
            model=model,
        )
        print(_heading(first))
        found = _run_killed_and_resumed(first)
        stored = read_back(database, first.thread_id)
        found.append(_check_stored(stored, Journal(Path(first.journal)).events()))
        print("\nChecked")
        for check in found:
            print(f"  {'ok    ' if check.holds else 'FAILED'}  {check.claim}")
        print("\nThe answer, as it is stored")
        for line in _answer(stored).split("\n"):
            print(f"  {line}")
        print("\nWhat is stored")
        print(report(stored, size_in_official(database, work)))
        if asked_for is not None:
            print(f"\nThe database is {_shown(str(asked_for))}")
    return 0 if all(check.holds for check in found) else 1


def _run_killed_and_resumed(first: Run) -> list[Check]:
    """Run the agent in two processes, showing each step as it ends; what the journal and the exit status prove."""
    began = time.monotonic()
    print(ROW.format("step", "what", "process", "started", "outcome"))
    status = _run_process(first, began)
    if status not in (0, KILLED):
        raise DurableError(f"the agent's process ended with status {status}; what it said about that is above")
    print(ROW.format("", f"-- {KILL} to process 1; process 2 is told:", "", "", "").rstrip())
    print(ROW.format("", '   graph.invoke(None, config, durability="sync")', "", "", "").rstrip())
    resumed = _run_process(first._replace(process=2, pause_at=None), began)
    return [
        Check(status == KILLED, f"process 1 was ended by {KILL}"),
        Check(resumed == 0, "process 2 went on from what was stored, and came to the end"),
        *checks(Journal(Path(first.journal)).events()),
    ]


def _run_process(run: Run, began: float) -> int:
    """The exit status of a process that did `run`: it is killed when it pauses, and is never there after this."""
    command = [sys.executable, "-c", BOOTSTRAP.format(path=sys.path), json.dumps(run._asdict())]
    environment = dict(os.environ)
    if run.model is None:
        # Offline is offline, also for somebody who sends traces of every LangChain run to a server.
        environment |= {"LANGSMITH_TRACING": "false", "LANGCHAIN_TRACING_V2": "false"}
    with subprocess.Popen(  # noqa: S603 - this interpreter, running this package
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8"
    ) as process:
        started = began
        try:
            for event in _events(process, run.process):
                if event.kind == "start":
                    started = event.at
                elif event.kind == "end":
                    outcome = "finished" if run.process == 1 else "finished after resume"
                    print(_row(event, started - began, outcome), flush=True)
                elif event.kind == "pause":
                    process.kill()
                    print(_row(event, started - began, "KILLED in the middle"), flush=True)
                else:
                    raise DurableError(f"the agent in process {run.process} failed: {_shown(event.what)}")
            return process.wait()
        finally:
            process.kill()


def _events(process: subprocess.Popen[str], number: int) -> Iterator[Event]:
    """What the process tells, until it ends. While it tells nothing for a while, a line on stderr says so."""
    assert process.stdout is not None  # it was given a pipe
    lines: SimpleQueue[str | None] = SimpleQueue()
    Thread(target=_pump, args=(process.stdout, lines), daemon=True).start()
    waited = 0.0
    while True:
        try:
            line = lines.get(timeout=PATIENCE_S)
        except Empty:
            waited += PATIENCE_S
            print(f"       ... {waited:.0f} s: process {number} is at work", file=sys.stderr, flush=True)
            continue
        if line is None:
            return
        waited = 0.0
        yield from_line(line)


def _pump(stream: IO[str], lines: SimpleQueue[str | None]) -> None:
    for line in stream:
        lines.put(line)
    lines.put(None)


def _check_stored(stored: Stored, events: Sequence[Event]) -> Check:
    finished = sorted({event.step for event in events if event.kind == "end"})
    return Check(stored.steps == finished, f"the database has one checkpoint for each of the {len(finished)} steps")


def _answer(stored: Stored) -> str:
    last = stored.messages[-1] if stored.messages else None
    return _shown(str(last.text)) if last is not None and last.type == "ai" else "(there is none)"


def _heading(run: Run) -> str:
    if run.model is None:
        model = "scripted and offline: no network, no key. What the tools find is real. (--live asks a real model.)"
    else:
        address = os.environ.get("OPENAI_API_BASE") or os.environ.get("OPENAI_BASE_URL") or "https://api.openai.com"
        model = f"{run.model} at {urlsplit(address).hostname}, which is sent what the tools read"
    return (
        f"Agent  a LangGraph ReAct agent over {_shown(run.folder)}\n"
        f"Tools  list_folder, read_file, search, count: read-only, nothing outside of that folder\n"
        f"Model  {model}\n"
        f"State  checkpointed by langgraph_durable.SqliteSaver\n"
    )


def _row(event: Event, started: float, outcome: str) -> str:
    what = _shown(f"{event.node}: {event.what}").replace("\n", " ")
    what = what if len(what) <= 46 else f"{what[:43]}..."
    return ROW.format(event.step, what, f"{event.process} (pid {event.pid})", f"{started:+.2f} s", outcome)


def _shown(text: str) -> str:
    """The text without control characters: it comes from files and models, and a terminal would obey them."""
    return "".join(character if character.isprintable() or character == "\n" else "?" for character in text)


def _require_packages(*, live: bool) -> None:
    for module, needed in (("langgraph.graph", True), ("langgraph.prebuilt", True), ("langchain_openai", live)):
        if needed and find_spec(module) is None:
            package = module.split(".")[0].replace("_", "-")
            raise InvalidRequestError(f"the demo needs {package}: pip install 'langgraph-durable[demo]'")


def _model_name(arguments: argparse.Namespace) -> str | None:
    """The live model to ask; None for the scripted one."""
    if not arguments.live:
        if arguments.model is not None:
            raise InvalidRequestError("--model names the model that --live asks: add --live")
        return None
    if not os.environ.get("OPENAI_API_KEY", "").strip():
        raise InvalidRequestError(
            "--live needs OPENAI_API_KEY in the environment, and OPENAI_BASE_URL for a compatible provider; "
            "without --live the demo needs neither"
        )
    name: str | None = arguments.model
    return name or DEFAULT_MODEL


def _existing_folder(folder: Path) -> Path:
    if not folder.is_dir():
        raise InvalidRequestError(f"{folder} is not a folder; give one that the agent may look into")
    return folder.resolve()


def _new_database(path: Path) -> Path:
    """The absolute path. Only a new file will do: the demo measures it, and stays out of somebody's own database."""
    if path.exists():
        raise InvalidRequestError(f"{path} exists; --database takes a new file, so that only this run is in it")
    if not path.parent.is_dir():
        raise InvalidRequestError(f"{path.parent} is not a folder; --database takes a new file in one that exists")
    return path.resolve()


@contextmanager
def _work_folder(*, keep: bool) -> Iterator[Path]:
    """A folder of the demo's own, gone afterwards unless it is to be kept."""
    work = Path(tempfile.mkdtemp(prefix="langgraph-durable-demo-"))
    try:
        yield work
    finally:
        if keep:
            print(f"\nKept in {work}: {', '.join(sorted(file.name for file in work.iterdir()))}")
        else:
            # What cannot be removed is in the system's own temporary folder, and no reason to fail.
            shutil.rmtree(work, ignore_errors=True)
