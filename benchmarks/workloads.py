"""A workload runs one saver over one empty database and gives figures only after the state read back proved right.

Read back means by new savers over the closed database, message by message; a saver that keeps nothing on disk has
nothing to prove. Times are of whole runs of LangGraph, so what a saver costs is what it takes beyond the floor.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from langchain_core.messages import AnyMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.types import StateSnapshot

from benchmarks.agents import CHECKPOINTS_A_TURN, HEARD, question, scripted_agent, tool_agent
from benchmarks.conversations import conversations
from benchmarks.savers import Role, Subject

READS = 5
"""How often each kind of read is timed; its figure is the median."""

HISTORY = 50
"""How many checkpoints a read of the history asks for."""

SHORT_TURNS = 10
ENCRYPTED_TURNS = 100


@dataclass(frozen=True)
class Sizes:
    """How much work; `transcripts` is a folder of recorded conversations, None to make them up."""

    turns: int = 400
    threads: int = 64
    conversations: int = 100
    transcripts: str | None = None


@dataclass(frozen=True)
class Figures:
    """What one run measured: seconds and bytes, None where the workload or the saver has no such figure.

    `payload_bytes` is the JSON of the messages in the newest state of every thread, `disk_bytes` what the database
    takes after it was closed.
    """

    seconds: float
    payload_bytes: int
    disk_bytes: int | None = None
    first_half_seconds: float | None = None
    state_seconds: float | None = None
    history_seconds: float | None = None
    own_history_seconds: float | None = None


@dataclass(frozen=True)
class Workload:
    """`title` takes the fields of `Sizes`; `repeats` is how many runs count as a round of a short, noisy workload."""

    title: str
    run: Callable[[Subject, Path, Sizes], Figures]
    roles: Sequence[Role] = ("floor", "memory", "official", "ours")
    encrypted: bool = False
    repeats: int = 1


class StateDiffersError(Exception):
    """A saver did not give back what was put; its figures mean nothing."""


def growth(subject: Subject, path: Path, turns: int) -> Figures:
    """One thread that grows by `turns` turns, and then reads of its state and its history."""
    config = _config("growth")
    halfway = 0.0
    with subject.opened(path) as saver:
        graph = subject.compiled(tool_agent(), saver)
        begin = time.perf_counter()
        for turn in range(turns):
            if turn == turns // 2:
                halfway = time.perf_counter() - begin
            result = graph.invoke({"messages": [question("growth", turn)]}, config)
        seconds = time.perf_counter() - begin
        put: list[AnyMessage] = result["messages"]
        figures = Figures(seconds, _payload(put), first_half_seconds=halfway)
        if not subject.on_disk:
            return figures
        own_history = statistics.median(_history_seconds(saver, config, put, turns) for _ in range(READS))

    if subject.encrypted:
        _check_unreadable(path, put)
    disk_bytes = _disk_bytes(path)
    state_times, history_times = [], []
    for _ in range(READS):
        # A new saver for each read: none of them may profit from what the one before it has read.
        with subject.opened(path) as saver:
            state_times.append(_state_seconds(saver, config, put))
        with subject.opened(path) as saver:
            history_times.append(_history_seconds(saver, config, put, turns))
    return replace(
        figures,
        disk_bytes=disk_bytes,
        state_seconds=statistics.median(state_times),
        history_seconds=statistics.median(history_times),
        own_history_seconds=own_history,
    )


def short(subject: Subject, path: Path) -> Figures:
    """One thread of `SHORT_TURNS` turns in a process that has done nothing before: opening the database counts."""
    config = _config("short")
    begin = time.perf_counter()
    with subject.opened(path) as saver:
        graph = tool_agent().compile(checkpointer=saver)
        for turn in range(SHORT_TURNS):
            result = graph.invoke({"messages": [question("short", turn)]}, config)
        seconds = time.perf_counter() - begin
    return _figures(subject, path, seconds, [(config, result["messages"])])


def concurrency(subject: Subject, path: Path, threads: int) -> Figures:
    """`threads` threads of `SHORT_TURNS` turns each, all at once in one event loop."""
    put: list[tuple[RunnableConfig, list[AnyMessage]]] = []

    async def run() -> float:
        async with subject.aopened(path) as saver:
            graph = tool_agent().compile(checkpointer=saver)

            async def converse(thread: str) -> None:
                for turn in range(SHORT_TURNS):
                    result = await graph.ainvoke({"messages": [question(thread, turn)]}, _config(thread))
                put.append((_config(thread), result["messages"]))

            begin = time.perf_counter()
            await asyncio.gather(*(converse(f"thread-{number}") for number in range(threads)))
            return time.perf_counter() - begin

    return _figures(subject, path, asyncio.run(run()), put)


def replay(subject: Subject, path: Path, limit: int, transcripts: Path | None) -> Figures:
    """`limit` conversations, one after the other, each message the same as when it was recorded."""
    scripts = conversations(limit, transcripts)
    put: list[tuple[RunnableConfig, list[AnyMessage]]] = []
    seconds = 0.0
    with subject.opened(path) as saver:
        for number, script in enumerate(scripts):
            config = _config(f"conversation-{number}")
            graph = scripted_agent(script).compile(checkpointer=saver)
            begin = time.perf_counter()
            said = 0
            while said < len(script):
                heard = said
                while heard < len(script) and script[heard].type in HEARD:
                    heard += 1
                reached = len(graph.invoke({"messages": script[said:heard]}, config)["messages"])
                if reached <= said:
                    # The script would be said for ever.
                    raise StateDiffersError("a message was lost between two turns")
                said = reached
            seconds += time.perf_counter() - begin
            put.append((config, script))
    return _figures(subject, path, seconds, put)


WORKLOADS = {
    "growth": Workload(
        "growth: one thread of {turns} turns",
        lambda subject, path, sizes: growth(subject, path, sizes.turns),
    ),
    "short": Workload(
        f"short: one thread of {SHORT_TURNS} turns",
        lambda subject, path, _: short(subject, path),
        repeats=5,
    ),
    "concurrency": Workload(
        f"concurrency: {{threads}} threads of {SHORT_TURNS} turns in one event loop",
        lambda subject, path, sizes: concurrency(subject, path, sizes.threads),
    ),
    "replay": Workload(
        "replay: {conversations} conversations",
        lambda subject, path, sizes: replay(
            subject, path, sizes.conversations, Path(sizes.transcripts) if sizes.transcripts else None
        ),
    ),
    "durable": Workload(
        "durable: the turns of growth in runs that hold their thread",
        lambda subject, path, sizes: growth(subject, path, sizes.turns),
        roles=("floor", "ours", "durable"),
    ),
    "encrypted": Workload(
        f"encrypted: one thread of {ENCRYPTED_TURNS} turns with EncryptedSerializer",
        lambda subject, path, _: growth(subject, path, ENCRYPTED_TURNS),
        roles=("floor", "official", "ours"),
        encrypted=True,
    ),
}


def _config(thread: str) -> RunnableConfig:
    # A conversation's longest chain of tool calls is nobody's mistake here.
    return {"configurable": {"thread_id": thread}, "recursion_limit": 200}


def _figures(
    subject: Subject, path: Path, seconds: float, put: Sequence[tuple[RunnableConfig, list[AnyMessage]]]
) -> Figures:
    """The figures of a run that left `put` in its threads, once a new saver gave exactly that back."""
    figures = Figures(seconds, sum(_payload(messages) for _, messages in put))
    if not subject.on_disk:
        return figures
    disk_bytes = _disk_bytes(path)
    with subject.opened(path) as saver:
        for config, messages in put:
            _state_seconds(saver, config, messages)
    return replace(figures, disk_bytes=disk_bytes)


def _state_seconds(saver: BaseCheckpointSaver[Any], config: RunnableConfig, put: Sequence[AnyMessage]) -> float:
    """How long the newest state takes to read."""
    graph = tool_agent().compile(checkpointer=saver)
    begin = time.perf_counter()
    snapshot = graph.get_state(config)
    seconds = time.perf_counter() - begin
    if not _same(_messages(snapshot), put):
        raise StateDiffersError("the state read back is not the state that was put")
    return seconds


def _history_seconds(
    saver: BaseCheckpointSaver[Any], config: RunnableConfig, put: Sequence[AnyMessage], turns: int
) -> float:
    """How long the newest `HISTORY` checkpoints take to read."""
    graph = tool_agent().compile(checkpointer=saver)
    seconds, count, later = 0.0, 0, len(put)
    begin = time.perf_counter()
    for snapshot in graph.get_state_history(config, limit=HISTORY):
        # Compared with the clock stopped, and not kept: a heap full of messages would slow down what follows.
        seconds += time.perf_counter() - begin
        messages = _messages(snapshot)
        # The thread only ever grew, so that each of its states is the beginning of the last one.
        if len(messages) > later or not _same(messages, put[: len(messages)]):
            raise StateDiffersError("a state of the history is not one that was put")
        count, later = count + 1, len(messages)
        begin = time.perf_counter()
    seconds += time.perf_counter() - begin
    if count != min(HISTORY, turns * CHECKPOINTS_A_TURN):
        raise StateDiffersError(f"the history gave {count} checkpoints")
    return seconds


def _messages(snapshot: StateSnapshot) -> Sequence[AnyMessage]:
    messages: Sequence[AnyMessage] = snapshot.values.get("messages", ())
    return messages


def _same(found: Sequence[AnyMessage], put: Sequence[AnyMessage]) -> bool:
    return len(found) == len(put) and all(
        type(one) is type(other) and vars(one) == vars(other) and one.model_extra == other.model_extra
        for one, other in zip(found, put, strict=True)
    )


def _check_unreadable(path: Path, put: Sequence[AnyMessage]) -> None:
    """A saver that leaves its serializer aside would win the comparison in clear text."""
    stored = b"".join(file.read_bytes() for file in _files(path))
    if any(str(message.content).encode() in stored for message in (put[0], put[-1])):
        raise StateDiffersError("a message can be read in a database that should be encrypted")


def _payload(messages: Sequence[AnyMessage]) -> int:
    return sum(len(message.model_dump_json().encode()) for message in messages)


def _disk_bytes(path: Path) -> int:
    return sum(file.stat().st_size for file in _files(path))


def _files(path: Path) -> list[Path]:
    """The database file and whatever its saver put beside it, in a folder that is theirs alone."""
    return [file for file in path.parent.rglob("*") if file.is_file()]
