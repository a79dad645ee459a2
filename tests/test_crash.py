"""A process that is killed with SIGKILL loses nothing that was acknowledged and leaves nothing half done.

A kill is not a power cut: what the process gave to the kernel still gets to the disk. What these tests find are calls
that answer too early, and transactions that are in two parts.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import signal
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from operator import add
from pathlib import Path
from typing import Annotated, Any, NamedTuple
from unittest.mock import patch

import pytest
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.config import get_config
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Send
from typing_extensions import TypedDict

from langgraph_durable import SqliteSaver
from langgraph_durable.core.records import Batch, PutCheckpoint, PutWrites
from langgraph_durable.stores.base import Outcome
from langgraph_durable.stores.sqlite import SqliteStore
from tests.conftest import checkpoint, saver_at, thread
from tests.processes import Child, Pipe, child, forks

pytestmark = forks

# -- savers --------------------------------------------------------------------------------------------------------


class Said(NamedTuple):
    """An acknowledged call."""

    writer: str
    what: str
    number: int


def history(writer: str, number: int) -> list[BaseMessage]:
    """The messages of a writer's checkpoint: one more in each."""
    kinds: Sequence[type[BaseMessage]] = (HumanMessage, AIMessage)
    return [kinds[step % 2](f"{writer} says {step}, " * 8, id=str(step)) for step in range(number + 1)]


def writes(writer: str, number: int) -> list[tuple[str, Any]]:
    """What is written to a writer's checkpoint."""
    return [("messages", history(writer, number + 1)[-1:]), ("count", number), ("blob", f"{writer} {number} " * 60)]


def values(writer: str, number: int) -> dict[str, Any]:
    """The channels of a writer's checkpoint."""
    return {"messages": history(writer, number), "count": number, "blob": f"{writer} {number} " * 40}


def writes_until_killed(pipe: Pipe, path: str, name: str) -> None:
    """Three threads and three tasks put checkpoints and writes for ever, one of each prunes, and say what is stored."""
    saver = saver_at(path)
    lock = threading.Lock()

    def say(writer: str, what: str, number: int) -> None:
        with lock:
            pipe.send(Said(writer, what, number))

    def blocking(writer: str) -> None:
        saved = thread(writer)
        for number in itertools.count():
            metadata: Any = {"step": number, "run_id": writer}
            saved = saver.put(saved, checkpoint(f"{number:04}", **values(writer, number)), metadata, {})
            say(writer, "put", number)
            saver.put_writes(saved, writes(writer, number), "task")
            say(writer, "writes", number)
            if number % 4 == 3 and "pruned" in writer:
                saver.prune([writer])

    async def awaiting(writer: str) -> None:
        saved = thread(writer)
        for number in itertools.count():
            metadata: Any = {"step": number, "run_id": writer}
            saved = await saver.aput(saved, checkpoint(f"{number:04}", **values(writer, number)), metadata, {})
            say(writer, "put", number)
            await saver.aput_writes(saved, writes(writer, number), "task")
            say(writer, "writes", number)
            if number % 4 == 3 and "pruned" in writer:
                await saver.aprune([writer])

    async def all_awaiting() -> None:
        await asyncio.gather(*(awaiting(f"{name} task {kind}") for kind in ("one", "two", "pruned")))

    threads = [threading.Thread(target=blocking, args=(f"{name} thread {kind}",)) for kind in ("one", "two", "pruned")]
    threads.append(threading.Thread(target=asyncio.run, args=(all_awaiting(),)))
    for each in threads:
        each.start()
    for each in threads:
        each.join()


def killed(victim: Child, after: int) -> list[Said]:
    """What the victim said up to its end, which comes soon after it has said `after` things."""
    said = [victim.receive() for _ in range(after)]
    victim.kill()
    return said + victim.rest()


def whole(path: str, said: Sequence[Said]) -> int:
    """Check that all that was said is there, and nothing half; the number of checkpoints there are."""
    if path.endswith(".db"):
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    count = 0
    with saver_at(path) as saver:
        for writer in sorted({one.writer for one in said}):
            puts = {one.number for one in said if one.writer == writer and one.what == "put"}
            written = {one.number for one in said if one.writer == writer and one.what == "writes"}
            found = {int(one.checkpoint["id"]): one for one in saver.list(thread(writer))}
            count += len(found)
            newest = max(found)
            first = min(found) if "pruned" in writer else 0
            assert found.keys() == set(range(first, newest + 1)), writer
            assert newest >= max(puts), writer
            assert first <= max(puts), writer
            latest = saver.get_tuple(thread(writer))
            assert latest is not None
            assert int(latest.checkpoint["id"]) == newest
            for number, one in found.items():
                assert one.checkpoint["channel_values"] == values(writer, number), writer
                assert one.metadata["step"] == number
                assert one.metadata["run_id"] == writer
                assert (one.parent_config is None) == (number == 0)
                all_written = [("task", *write) for write in writes(writer, number)]
                assert one.pending_writes == all_written or (number not in written and one.pending_writes == []), writer
    return count


def crashes(folder: Path, kills: int, each: int, name: str) -> None:
    """Kill writers `kills` times, `each` times per database; `name` is what a database is called."""
    dice = random.Random(kills)
    acknowledged = 0
    for database in range(kills // each):
        (folder / str(database)).mkdir()
        path = str(folder / str(database) / name)
        said: list[Said] = []
        for number in range(each):
            with child(writes_until_killed, path, f"round {number}") as victim:
                last = killed(victim, dice.randrange(1, 40))
            whole(path, last)
            said += last
        # What an earlier process stored is not touched by the death of a later one.
        assert whole(path, said) >= len({(one.writer, one.number) for one in said if "pruned" not in one.writer})
        acknowledged += len(said)
    assert acknowledged > 5 * kills


@pytest.mark.parametrize("name", ["agent.db", "checkpoints"])
def test_two_hundred_kills(name: str, tmp_path: Path) -> None:
    """After each of 200 kills at random moments all that was acknowledged to six writers is there, and nothing half."""
    crashes(tmp_path, 200, 10, name)


@pytest.mark.soak
@pytest.mark.parametrize("name", ["agent.db", "checkpoints"])
def test_ten_thousand_kills(name: str, tmp_path: Path) -> None:
    """The same, 10,000 times."""
    crashes(tmp_path, 10_000, 50, name)


# -- graphs --------------------------------------------------------------------------------------------------------

TURNS = 3
SENDS = 3


class State(TypedDict):
    """What the graph works on; `log` is what every node adds its name to."""

    log: Annotated[list[str], add]
    turn: int


class Journal:
    """A file that says which tasks began and whose writes were acknowledged, whatever happens to the process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY)

    def add(self, what: str, task: str) -> None:
        os.write(self._file, f"{what} {task}\n".encode())

    def close(self) -> None:
        os.close(self._file)


class Recording(SqliteSaver):
    """A saver that notes in a journal which tasks' writes it has acknowledged, and can be late with all writes."""

    journal: Journal
    late = 0.0

    def put_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        time.sleep(self.late)
        super().put_writes(config, writes, task_id, task_path)
        self.journal.add("stored", task_id)

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        await asyncio.sleep(self.late)
        await super().aput_writes(config, writes, task_id, task_path)
        self.journal.add("stored", task_id)


def graph_over(saver: Recording, asynchronous: bool) -> CompiledStateGraph[State, None, State, State]:
    """Turns of a node, then three nodes and three `Send`s at once, then a node that decides."""
    builder = StateGraph(State)

    def node(name: str, result: dict[str, Any]) -> None:
        def begin(state: dict[str, Any]) -> dict[str, Any]:
            task = get_config()["metadata"]["langgraph_checkpoint_ns"].rsplit(":", 1)[1]
            saver.journal.add("began", task)
            label = f"{name}{state.get('packet', '')} {state['turn']}"
            changes = {"turn": state["turn"] + 1} if name == "decide" else {}
            return {**result, **changes, "log": [label]}

        async def abegin(state: dict[str, Any]) -> dict[str, Any]:
            return begin(state)

        node: Any = abegin if asynchronous else begin
        builder.add_node(name, node)

    def spread(state: State) -> list[Any]:
        return ["a", "b", "c", *(Send("worker", {"packet": n, "turn": state["turn"]}) for n in range(SENDS))]

    for name in ("plan", "a", "b", "c", "worker", "decide"):
        node(name, {})
    builder.add_edge(START, "plan")
    builder.add_conditional_edges("plan", spread, ["a", "b", "c", "worker"])
    builder.add_edge(["a", "b", "c"], "decide")
    builder.add_conditional_edges("decide", lambda state: END if state["turn"] == TURNS else "plan", ["plan", END])
    return builder.compile(checkpointer=saver)


EXPECTED = Counter(
    f"{name} {turn}"
    for turn in range(TURNS)
    for name in ["plan", "a", "b", "c", *(f"worker{packet}" for packet in range(SENDS)), "decide"]
)


def dies_at_put(journal: Journal, number: int) -> None:
    """Let this process die when the checkpoint of that number is to be stored, with all that goes with it."""
    countdown = itertools.count()
    commit = SqliteStore.commit

    def dying(self: SqliteStore, batches: Sequence[Batch]) -> list[Outcome]:
        tasks = [batch.work.task_id for batch in batches if isinstance(batch.work, PutWrites)]
        for batch in batches:
            if isinstance(batch.work, PutCheckpoint) and next(countdown) == number:
                for task in tasks:
                    journal.add("beside", task)
                journal.add("died", "here")
                os.kill(os.getpid(), signal.SIGKILL)
        outcomes = commit(self, batches)
        for task in tasks:
            journal.add("stored", task)
        return outcomes

    patch.object(SqliteStore, "commit", dying).start()


def runs_graph(pipe: Pipe, folder: str, form: str, dies: int | None) -> None:
    """Start or resume the graph, and say how it ended."""
    journal = Journal(Path(folder) / "journal")
    if dies is not None:
        dies_at_put(journal, dies)
    saver = Recording(os.path.join(folder, "agent.db"))
    saver.journal = journal
    # LangGraph hands writes and checkpoints to different threads: let the checkpoint be there first.
    saver.late = 0.0 if dies is None else 0.004
    graph = graph_over(saver, form == "async")
    given: Any = {"turn": 0} if saver.get_tuple(thread()) is None else None
    pipe.send("ready")
    if form == "async":
        ended = asyncio.run(graph.ainvoke(given, thread(), durability="sync"))
    else:
        ended = graph.invoke(given, thread(), durability="sync")
    pipe.send(ended)


def run_with_kills(
    folder: Path, form: str, delays: Sequence[float], dies: int | None = None
) -> tuple[Counter[str], int]:
    """What the log of the graph is when it has ended, and how many times it was killed on the way."""
    folder.mkdir()
    kills = 0
    while True:
        with child(runs_graph, str(folder), form, dies if kills == 0 else None) as victim:
            try:
                assert victim.receive() == "ready"
                if kills < len(delays) and not victim.pipe.poll(delays[kills]):
                    victim.kill()
                return Counter(victim.receive()["log"]), kills
            except EOFError:
                kills += 1


def journal_of(folder: Path) -> list[tuple[str, str]]:
    """(what, task) in order."""
    lines = (folder / "journal").read_text().splitlines()
    return [(what, task) for what, task in (line.split(" ") for line in lines)]


def nothing_twice(journal: Sequence[tuple[str, str]]) -> None:
    """No task began after its writes were stored."""
    stored: set[str] = set()
    for what, task in journal:
        assert what != "began" or task not in stored, "a task ran although its writes were stored"
        if what == "stored":
            stored.add(task)


@pytest.mark.parametrize("form", ["sync", "async"])
def test_graphs_killed_at_random(form: str, tmp_path: Path) -> None:
    """A run that is killed time and again ends with every node's work once, and no stored task runs a second time."""
    dice = random.Random(form)
    total = 0
    for number in range(8):
        folder = tmp_path / str(number)
        log, kills = run_with_kills(folder, form, [dice.uniform(0.002, 0.03) for _ in range(4)])
        assert log == EXPECTED
        total += kills
        nothing_twice(journal_of(folder))
    assert total > 8


@pytest.mark.parametrize("form", ["sync", "async"])
def test_graphs_killed_between_step_and_checkpoint(form: str, tmp_path: Path) -> None:
    """Whichever checkpoint a process dies at, the writes of what ran before are stored, or in the same transaction."""
    for number in range(TURNS * 3 + 3):
        folder = tmp_path / str(number)
        log, kills = run_with_kills(folder, form, [], number)
        assert log == EXPECTED
        assert kills == (number <= TURNS * 3 + 1)
        journal = journal_of(folder)
        nothing_twice(journal)
        if kills:
            until_death = journal[: journal.index(("died", "here"))]
            began = {task for what, task in until_death if what == "began"}
            known = {task for what, task in until_death if what in ("stored", "beside")}
            assert began <= known, f"checkpoint {number} went before the writes of its step"
