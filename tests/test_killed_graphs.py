"""Whatever a graph is made of, and wherever it is killed, it ends as if it had not been; what is done stays done."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import signal
import sys
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import pytest
from langchain_core.runnables import RunnableConfig

from langgraph_durable import FileSaver, InvalidRequestError, NothingToResumeError, SqliteSaver, ThreadInfo, durable
from langgraph_durable.runs import DurableGraph
from langgraph_durable.saver import DurableSaver
from langgraph_durable.stores.files import FileStore
from langgraph_durable.stores.sqlite import SqliteStore
from tests.conftest import saver_at, thread
from tests.graphs import Durability
from tests.processes import PATIENCE, Pipe, child, forks
from tests.random_graphs import GIVEN, MOST, Drawn, Reference, Unlucky, answer, build, draw, reference

pytestmark = forks

# -- a process that dies on time -----------------------------------------------------------------------------------

MOMENTS = ("inside", "between", "stored", "put", "after", "commit", "committed")
"""When a process dies: inside a node, between its end and its `put_writes`, after that, at the beginning or the end of
`put`, before or after a transaction."""


class Death(NamedTuple):
    """A process dies when it comes to a moment for the `number`-th time, counted from 0."""

    moment: str
    number: int


class Life:
    """The world of a graph in a process that may have to die: it tells a file what happens, by the task and its turn.

    The lines of the file outlive the process, so that a line is a fact: "stored" comes after `put_writes` returned.
    """

    def __init__(self, folder: str, death: Death | None) -> None:
        self._folder = folder
        self._file = os.open(os.path.join(folder, "journal"), os.O_CREAT | os.O_APPEND | os.O_WRONLY)
        self._death = death
        self._countdown = itertools.count()

    def tell(self, what: str, task: str, turn: str = "") -> None:
        os.write(self._file, f"{what} {task} {turn}\n".encode())

    def at(self, moment: str) -> None:
        """Die, if this is the moment."""
        if self._death is not None and self._death.moment == moment and next(self._countdown) == self._death.number:
            self.tell("died", moment)
            os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(PATIENCE)  # another thread may not go on while this process ends

    def began(self, task: str, turn: str) -> None:
        self.tell("began", task, turn)
        self.at("inside")

    def finished(self, task: str, turn: str) -> None:
        self.tell("finished", task, turn)

    def unlucky(self, turn: str) -> bool:
        mark = os.path.join(self._folder, f"unlucky-{zlib.crc32(turn.encode())}")
        try:
            os.close(os.open(mark, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        except FileExistsError:
            return False
        self.tell("raised", "-", turn)
        return True


def _acknowledged(writes: Sequence[tuple[str, Any]]) -> bool:
    """Whether these are the writes of a task that has finished."""
    channels = {channel for channel, _ in writes}
    return "__error__" not in channels and not channels <= {"__interrupt__", "__resume__"}


class Mortal(DurableSaver):
    """A saver in a life."""

    life: Life

    def put(self, *args: Any, **kwargs: Any) -> RunnableConfig:
        self.life.at("put")
        config = super().put(*args, **kwargs)
        self.life.at("after")
        return config

    async def aput(self, *args: Any, **kwargs: Any) -> RunnableConfig:
        self.life.at("put")
        config = await super().aput(*args, **kwargs)
        self.life.at("after")
        return config

    def put_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        self.life.at("between")
        super().put_writes(config, writes, task_id, task_path)
        if _acknowledged(writes):
            self.life.tell("stored", task_id)
        self.life.at("stored")

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        self.life.at("between")
        await super().aput_writes(config, writes, task_id, task_path)
        if _acknowledged(writes):
            self.life.tell("stored", task_id)
        self.life.at("stored")


class MortalSqliteSaver(Mortal, SqliteSaver):
    """A saver over a database, in a life."""


class MortalFileSaver(Mortal, FileSaver):
    """A saver over a folder, in a life."""


class Kind(NamedTuple):
    """A saver: how it is opened, and the class of its store."""

    opened: Callable[[str], Mortal]
    store: Any


KINDS: dict[str, Kind] = {
    "agent.db": Kind(MortalSqliteSaver, SqliteStore),
    "checkpoints": Kind(MortalFileSaver, FileStore),
}
"""By what the place of a saver is called."""


def mortal(folder: str, name: str, life: Life) -> Mortal:
    """The saver of a process that may have to die."""
    opened, store = KINDS[name]
    commit = store.commit

    def watched(*args: Any) -> Any:
        life.at("commit")
        outcomes = commit(*args)
        life.at("committed")
        return outcomes

    patch.object(store, "commit", watched).start()
    saver = opened(os.path.join(folder, name))
    saver.life = life
    return saver


# -- one run after the other -----------------------------------------------------------------------------------------


class Way(NamedTuple):
    """How a graph is run."""

    name: str
    form: str
    durability: Durability


def goes_on(pipe: Pipe, folder: str, way: Way, drawn: Drawn, verb: str, death: Death | None) -> None:
    """Run a graph on as the verb says, and say what it gave or raised."""
    life = Life(folder, death)
    saver = mortal(folder, way.name, life)
    app = durable(build(drawn, life, way.form, saver))
    try:
        pipe.send(asyncio.run(_goes_on(app, verb, way)) if way.form == "async" else _goes_on_blocking(app, verb, way))
    except (Unlucky, NothingToResumeError) as error:
        pipe.send(error)
    saver.close()


def _options(way: Way) -> RunnableConfig:
    return {**thread(), "recursion_limit": MOST, "configurable": {"thread_id": "thread"}}


def _answers(state: Any, verb: str) -> Any:
    """The answers to all questions, or (`one`) to the first; without its id, if there is no other."""
    found = {asked.id: answer(asked.value) for asked in state.interrupts}
    if verb == "answer bare" and len(found) == 1:
        return next(iter(found.values()))
    return dict(list(found.items())[: 1 if verb == "answer one" else None])


def _goes_on_blocking(app: DurableGraph, verb: str, way: Way) -> Any:
    config = _options(way)
    if verb == "start":
        return app.invoke(GIVEN, config, durability=way.durability)
    if verb == "recover":
        return app.recover(errors=True, config=config, backoff_seconds=0)
    if verb == "resume":
        try:
            return app.resume("thread", config=config, durability=way.durability)
        except NothingToResumeError:
            raise
        except InvalidRequestError:
            verb = "answer"
    return app.resume(
        "thread", resume=_answers(app.get_state(thread()), verb), config=config, durability=way.durability
    )


async def _goes_on(app: DurableGraph, verb: str, way: Way) -> Any:
    config = _options(way)
    if verb == "start":
        return await app.ainvoke(GIVEN, config, durability=way.durability)
    if verb == "recover":
        return await app.arecover(errors=True, config=config, backoff_seconds=0)
    if verb == "resume":
        try:
            return await app.aresume("thread", config=config, durability=way.durability)
        except NothingToResumeError:
            raise
        except InvalidRequestError:
            verb = "answer"
    answers = _answers(await app.aget_state(thread()), verb)
    return await app.aresume("thread", resume=answers, config=config, durability=way.durability)


class Line(NamedTuple):
    """A line of the journal."""

    what: str
    task: str
    turn: str


def journal(folder: Path) -> list[Line]:
    """All that processes told."""
    if not (folder / "journal").exists():
        return []
    return [Line(*line.split(" ", 2)) for line in (folder / "journal").read_text().splitlines()]


def repeated(lines: Sequence[Line]) -> list[str]:
    """The turns that began after their writes had been acknowledged."""
    turns: dict[str, str] = {}
    stored: set[str] = set()
    again = []
    for line in lines:
        if line.what == "began":
            turns[line.task] = line.turn
            if line.turn in stored:
                again.append(line.turn)
        elif line.what == "stored" and line.task in turns:
            stored.add(turns[line.task])
    return again


def standing(path: str) -> ThreadInfo | None:
    """How the thread stands; who was killed is waited for, since the kernel takes its time."""
    with saver_at(path) as saver:
        until = time.monotonic() + PATIENCE
        while True:
            info = saver.get_thread("thread")
            if info is None or info.status != "busy":
                return info
            assert time.monotonic() < until, "a thread stays busy though nobody runs it"
            time.sleep(0.001)


def values_at(path: str, drawn: Drawn) -> dict[str, Any]:
    """The final state that is stored."""
    with saver_at(path) as saver:
        values: dict[str, Any] = (
            build(drawn, Life(os.path.dirname(path), None), "sync", saver).get_state(thread()).values
        )
        return values


def run_with_kills(folder: Path, way: Way, wanted: Reference, dice: random.Random) -> Counter[str]:
    """Run a graph to its end, killing it up to three times; check how it stands after each, and what it leaves."""
    folder.mkdir()
    path = str(folder / way.name)
    left, runs = dice.randint(1, 3), 0
    moments: Counter[str] = Counter()
    verb = "start"
    latest: list[Line] = []
    while True:
        runs += 1
        assert runs < 2 * MOST, "it comes to no end"
        before = journal(folder)
        death = _death(dice, wanted, before) if left else None
        with child(goes_on, str(folder), way, wanted.drawn, verb, death) as process:
            try:
                said = process.receive()
                process.rest()
                died = False
            except EOFError:
                said, died = None, True
        info = standing(path)
        lines = journal(folder)[len(before) :]
        if any(line.what == "began" for line in lines):
            latest = lines
        if isinstance(said, Unlucky):
            assert info is not None
            assert info.status == "error", info
        if isinstance(said, NothingToResumeError):
            assert info is not None
            assert info.status == "idle", info  # it died when all was done, and before it could say so
        if died:
            assert death is not None, "it died without being killed"
            assert any(line.what == "died" for line in lines), "something else killed it"
            left -= 1
            moments[death.moment] += 1
            # Transactions take and give back the thread as well; of a run that raised LangGraph leaves calls behind.
            aside = death.moment in ("commit", "committed") or way != Way(way.name, "sync", "sync")
            if aside and info is not None and info.owner is None:
                died = False  # before it had the thread, or when it had given it back
        verb = _following(dice, info, died, latest, lone=wanted.drawn.lone())
        if not verb:
            break
    total = journal(folder)
    final = values_at(path, wanted.drawn)
    assert final == wanted.values
    assert {line.turn for line in total if line.what == "finished"} == wanted.turns
    if way.durability == "sync":
        assert repeated(total) == []
    with saver_at(path) as saver:
        assert saver.check().damage == ()
    return moments


def _death(dice: random.Random, wanted: Reference, before: Sequence[Line]) -> Death:
    """A moment that comes, probably, in what is left of a run."""
    moment = dice.choice(MOMENTS)
    done = len({line.turn for line in before if line.what == "finished"}) / len(wanted.turns)
    all_of = {
        "inside": len(wanted.turns),
        "between": wanted.calls["put_writes"],
        "stored": wanted.calls["put_writes"],
        "put": wanted.calls["put"],
        "after": wanted.calls["put"],
    }.get(moment, wanted.calls["put"] + wanted.calls["put_writes"] // 2)
    return Death(moment, dice.randrange(max(1, int(all_of * (1 - done)))))


def _following(dice: random.Random, info: ThreadInfo | None, died: bool, lines: Sequence[Line], *, lone: bool) -> str:
    """What to do next, having checked that the thread stands as it has to; "" when there is nothing to do."""
    if died:
        if info is None:
            return "start"  # nothing was stored
        assert info.status == "crashed", info
        if info.checkpoint_id is None:
            return "start"
        return dice.choice(("resume", "recover"))
    assert info is not None
    if info.reason == "gave up":
        return "resume"  # it was killed, and failed, too often where it still is
    if info.status == "error":
        assert info.error is not None, info
        assert info.error.type == "tests.random_graphs.Unlucky", info.error
        raised = {_outermost(line.turn) for line in lines if line.what == "raised"}
        assert info.nodes, info
        assert set(info.nodes) <= raised, (info.nodes, raised)
        return dice.choice(("resume", "recover"))
    if info.status == "interrupted":
        assert info.reason == "node", info
        return dice.choice(("answer", "answer one", "answer bare" if lone else "answer"))
    assert info.status == "idle", info
    return ""


def _outermost(turn: str) -> str:
    """The node of the outermost graph in which this turn was."""
    return turn.split("@")[0].split("/")[0].split(".")[0]


# -- tests -----------------------------------------------------------------------------------------------------------


def killed(way: Way, seeds: Iterable[int], folder: Path, *, troubled: bool) -> Counter[str]:
    """Kill the graphs of these seeds, each once at least, of `troubled` ones nodes ask and fail; when they died."""
    asks = troubled and (way.form == "sync" or sys.version_info >= (3, 11))  # as LangGraph's interrupt() does
    moments: Counter[str] = Counter()
    for seed in seeds:
        wanted = reference(seed, asks=asks, fails=troubled, joins=way.durability == "sync")
        died: Counter[str] = Counter()
        for attempt in itertools.count():
            name = f"graph {seed}, {way}, attempt {attempt}"
            try:
                died = run_with_kills(folder / f"{seed}-{attempt}", way, wanted, random.Random(name))
            except AssertionError as error:
                raise AssertionError(f"{name}: {error}") from error
            if died:
                break
        moments += died
    return moments


@pytest.mark.parametrize("troubled", [False, True], ids=["plain", "troubled"])
@pytest.mark.parametrize("form", ["sync", "async"])
@pytest.mark.parametrize("name", list(KINDS))
def test_a_few_graphs(name: str, form: str, troubled: bool, tmp_path: Path) -> None:
    """Random graphs that are killed one to three times end as if they had not been, and no finished node runs again."""
    moments = killed(Way(name, form, "sync"), range(3), tmp_path, troubled=troubled)
    assert moments.total() >= 3


@pytest.mark.parametrize("troubled", [False, True], ids=["plain", "troubled"])
@pytest.mark.parametrize("name", list(KINDS))
def test_graphs_that_do_not_wait_for_their_checkpoints(name: str, troubled: bool, tmp_path: Path) -> None:
    """With `durability="async"` they end the same way, though what was not stored runs again."""
    assert killed(Way(name, "sync", "async"), range(100, 102), tmp_path, troubled=troubled).total() >= 2


@pytest.mark.soak
@pytest.mark.parametrize("durability", ["sync", "async"])
@pytest.mark.parametrize("troubled", [False, True], ids=["plain", "troubled"])
@pytest.mark.parametrize("form", ["sync", "async"])
@pytest.mark.parametrize("name", list(KINDS))
def test_five_hundred_graphs(name: str, form: str, troubled: bool, durability: Durability, tmp_path: Path) -> None:
    """The same for 500 graphs of each kind, which die at every moment there is."""
    moments = killed(Way(name, form, durability), range(500), tmp_path, troubled=troubled)
    assert moments.keys() == set(MOMENTS)
    assert moments.total() >= 500


def test_what_random_graphs_are_made_of() -> None:
    """A hundred drawings have nodes of every kind, in 5 to 30 nodes each, and a seed draws the same graph again."""
    drawings = [draw(seed, asks=True, fails=True) for seed in range(100)]
    assert drawings == [draw(seed, asks=True, fails=True) for seed in range(100)]
    nodes = [node for drawn in drawings for node in drawn.every()]
    assert {node.kind for node in nodes} == {"edges", "branch", "loop", "spread", "command", "packets"}
    for what in ("inner", "called", "deferred", "silent", "asks", "fails"):
        assert any(getattr(node, what) for node in nodes), what
    assert any(node.inner and any(deep.inner for deep in node.inner.nodes) for node in nodes)
    assert any(drawn.joins for drawn in drawings)
