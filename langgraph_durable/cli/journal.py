"""What a process did is in the journal before anything else happens: an event is one whole line that outlives a kill.

The journal is the demo's witness. It is written by the steps themselves and knows nothing of the checkpointer, so it
can prove the checkpointer wrong: `checks` says which steps ran twice, whatever the database claims.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence, Set
from pathlib import Path
from typing import Literal, NamedTuple

Kind = Literal["start", "end", "pause", "failure"]


class Run(NamedTuple):
    """What one process is to do. Process 1 asks the question; any later one goes on with what is stored.

    `pause_at` is the first step in whose middle the process stops to be killed: in that of the answer at the latest.
    `model` is the live model's name, None for the scripted one.
    """

    folder: str
    database: str
    journal: str
    thread_id: str
    process: int
    pause_at: int | None
    model: str | None


class Event(NamedTuple):
    """Something that happened in a step.

    `seen` is how many messages the step was given. As the conversation only grows, that says which step it is; `step`,
    LangGraph's own number, does not: it is counted from a stored checkpoint, and that may have been the wrong one.
    `at` is in seconds of the monotonic clock, which the processes of one machine share. `process` is 1 for the process
    that is killed and 2 for the one that goes on: unlike a pid it is never given out again.
    """

    kind: Kind
    what: str
    step: int
    node: str
    seen: int
    process: int
    pid: int
    at: float


class Check(NamedTuple):
    """A claim about the run, and whether it held."""

    holds: bool
    claim: str


class Journal:
    """The events of all processes of one run, in the order in which they happened, in the file `path`."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def append(self, event: Event) -> None:
        """Add the event. When this returns, the operating system has it, and a kill takes nothing away."""
        # One write to a file opened for appending: never half a line, never over somebody else's.
        with self._path.open("ab", buffering=0) as file:
            file.write(f"{as_line(event)}\n".encode())

    def events(self) -> list[Event]:
        """Everything that happened so far."""
        return [from_line(line) for line in self._path.read_text("utf-8").splitlines()]


def as_line(event: Event) -> str:
    """The event as one line of JSON."""
    return json.dumps(event._asdict())


def from_line(line: str) -> Event:
    """The event that `as_line` wrote."""
    return Event(**json.loads(line))


def checks(events: Sequence[Event]) -> list[Check]:
    """What the journal proves about a run that was killed once: that it was cut in a step, and what ran twice."""
    started = {process: _seen(events, "start", process) for process in (1, 2)}
    ended = {process: _seen(events, "end", process) for process in (1, 2)}
    names = {event.seen: f"step {event.step} ({event.node})" for event in reversed(events)}
    cut = started[1] - ended[1]
    again = ended[1] & started[2]
    times = Counter(event.seen for event in events if event.kind == "end")
    not_once = {seen for seen in names if times[seen] != 1}

    def named(steps: Set[int]) -> str:
        return ", ".join(names[seen] for seen in sorted(steps)) or "no step"

    def but(steps: Set[int]) -> str:
        return f"; but not {named(steps)}" if steps else ""

    before = len(ended[1])
    return [
        Check(len(cut) == 1, f"process 1 was killed in the middle of {named(cut)}: started, not finished"),
        Check(not again, f"none of the {before} steps that had finished before the kill ran again{but(again)}"),
        Check(cut != set() and cut <= ended[2], f"{named(cut)} ran again from its start, since it had not finished"),
        Check(not not_once, f"each of the {len(names)} steps finished exactly once{but(not_once)}"),
    ]


def _seen(events: Sequence[Event], kind: str, process: int) -> set[int]:
    return {event.seen for event in events if event.kind == kind and event.process == process}
