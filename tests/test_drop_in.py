"""Code written for langgraph-checkpoint-sqlite gives the same with this package's class instead of the official one."""

from __future__ import annotations

import asyncio
import re
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from typing import Any, TypeAlias

import aiosqlite
import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver, CheckpointTuple
from langgraph.checkpoint.sqlite import SqliteSaver as OfficialSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver as OfficialAsyncSaver
from langgraph.types import Command

from langgraph_durable import AsyncSqliteSaver, SqliteSaver
from tests.conftest import checkpoint, thread
from tests.official import BROKEN, RAN, graph_over, said

Saver: TypeAlias = "BaseCheckpointSaver[Any]"
Open: TypeAlias = "Callable[[Any, str], Any]"

IDS = re.compile(
    r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}|[0-9a-f]{32}|(?<=\d{32})\.[\d.e+-]+|\d{4}-\d\d-\d\dT[\d:.+]+"
)


def plain(value: Any) -> str:
    """Anything as text, with numbers in the place of ids, times and chance, in the order in which they come."""
    seen: dict[str, str] = {}
    return IDS.sub(lambda found: seen.setdefault(found[0], f"<{len(seen)}>"), repr(value))


def canonical(found: list[CheckpointTuple]) -> list[Any]:
    """Checkpoints as something to compare: the official saver leaves the order of keys to chance, this one does not."""
    return [
        (
            one.config,
            one.parent_config,
            dict(sorted(one.metadata.items())),
            {key: one.checkpoint[key] for key in sorted(one.checkpoint)},  # type: ignore[literal-required]
            one.pending_writes,
        )
        for one in found
    ]


# -- ways to open one, as they are written for the official classes -----------------------------------------------


@contextmanager
def conn_string(cls: Any, path: str) -> Iterator[Saver]:
    with cls.from_conn_string(path) as saver:
        yield saver


@contextmanager
def conn_string_memory(cls: Any, path: str) -> Iterator[Saver]:
    with cls.from_conn_string(":memory:") as saver:
        yield saver


@contextmanager
def connection(cls: Any, path: str) -> Iterator[Saver]:
    with closing(sqlite3.connect(path, check_same_thread=False)) as given:
        saver = cls(given)
        saver.setup()
        yield saver


@contextmanager
def connection_memory(cls: Any, path: str) -> Iterator[Saver]:
    with closing(sqlite3.connect(":memory:", check_same_thread=False)) as given:
        yield cls(given)


@contextmanager
def connection_with_serde(cls: Any, path: str) -> Iterator[Saver]:
    from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

    with closing(sqlite3.connect(path, check_same_thread=False)) as given:
        yield cls(given, serde=JsonPlusSerializer(pickle_fallback=True))


WAYS: list[Open] = [conn_string, conn_string_memory, connection, connection_memory, connection_with_serde]


@asynccontextmanager
async def aconn_string(cls: Any, path: str) -> AsyncIterator[Saver]:
    async with cls.from_conn_string(path) as saver:
        yield saver


@asynccontextmanager
async def aconn_string_memory(cls: Any, path: str) -> AsyncIterator[Saver]:
    async with cls.from_conn_string(":memory:") as saver:
        yield saver


@asynccontextmanager
async def aconnection(cls: Any, path: str) -> AsyncIterator[Saver]:
    async with aiosqlite.connect(path) as given:
        saver = cls(given)
        await saver.setup()
        yield saver


@asynccontextmanager
async def aconnection_not_awaited(cls: Any, path: str) -> AsyncIterator[Saver]:
    given = aiosqlite.connect(path)
    yield cls(given)
    await given.close()


@asynccontextmanager
async def aconnection_with_serde(cls: Any, path: str) -> AsyncIterator[Saver]:
    from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

    async with aiosqlite.connect(path) as given:
        yield cls(given, serde=JsonPlusSerializer(pickle_fallback=True))


AWAYS: list[Open] = [
    aconn_string, aconn_string_memory, aconnection, aconnection_not_awaited, aconnection_with_serde,
]  # fmt: skip


# -- programs ------------------------------------------------------------------------------------------------------


def runs_graphs(saver: Saver) -> Any:
    """A conversation, a question that is answered, and a step that fails and is finished."""
    RAN.clear()
    graph = graph_over(saver)
    said_back = [graph.invoke(said(text, n), thread("chat")) for n, text in enumerate(["hello", "ask", "no"])]
    answered = graph.invoke(Command(resume="yes"), thread("chat"))
    with pytest.raises(RuntimeError):
        graph.invoke(said("both", 7), thread("fails"))
    state = graph.get_state(thread("fails"))
    BROKEN.discard("bad")
    try:
        finished = graph.invoke(None, thread("fails"))
    finally:
        BROKEN.add("bad")
    history = list(graph.get_state_history(thread("chat")))
    forked = graph.invoke(said("instead", 8), history[-3].config)
    graph.update_state(thread("chat"), said("from outside", 9))
    found = [one for name in ("chat", "fails") for one in saver.list(thread(name))]
    return said_back, answered, state, finished, history, forked, canonical(found), sorted(RAN)


async def aruns_graphs(saver: Saver) -> Any:
    """The same for the awaiting class."""
    RAN.clear()
    graph = graph_over(saver)
    said_back = [await graph.ainvoke(said(text, n), thread("chat")) for n, text in enumerate(["hello", "ask", "no"])]
    answered = await graph.ainvoke(Command(resume="yes"), thread("chat"))
    with pytest.raises(RuntimeError):
        await graph.ainvoke(said("both", 7), thread("fails"))
    state = await graph.aget_state(thread("fails"))
    BROKEN.discard("bad")
    try:
        finished = await graph.ainvoke(None, thread("fails"))
    finally:
        BROKEN.add("bad")
    history = [one async for one in graph.aget_state_history(thread("chat"))]
    forked = await graph.ainvoke(said("instead", 8), history[-3].config)
    await graph.aupdate_state(thread("chat"), said("from outside", 9))
    found = [one async for one in saver.alist(thread("chat"))] + [one async for one in saver.alist(thread("fails"))]
    return said_back, answered, state, finished, history, forked, canonical(found), sorted(RAN)


METADATA: list[dict[str, Any]] = [
    {},
    {"source": "input", "step": -1, "parents": {}},
    {"source": "loop", "step": 1, "n": 1, "f": 1.0, "flag": True, "none": None, "text": "a"},
    {"source": "loop", "step": 2, "n": 0, "f": 0.5, "flag": False, "text": "ü 'quoted' \"twice\" \n", "écrit": "oui"},
    {"source": "loop", "step": 3, "nested": {"a": {"b": [1, {"c": None}]}}, "list": [], "dict": {}, "dash-key": 1},
    {"source": "update", "step": 4, "large": 2**53, "small": -1e-300, "long": "x" * 5000, "run_id": "r", "tags": ["x"]},
]
FILTERS: list[dict[str, Any]] = [
    *({key: value} for metadata in METADATA for key, value in metadata.items() if key.isascii()),
    {"source": "loop", "flag": True},
    {"source": "loop", "n": 7},
    {"nested.a.b": [1, {"c": None}]},
    {"nested.a": {"b": [1, {"c": None}]}},
    {"flag": 1},
    {"flag": 0},
    {"n": True},
    {"n": "1"},
    {"f": 1},
    {"text": None},
    {"missing.at.all": None},
]


LISTED: list[RunnableConfig | None] = [
    None,
    thread(),
    thread(ns="inner|x"),
    thread("with more"),
    thread("nobody"),
    thread(checkpoint_id="3"),
    {"configurable": {"thread_id": "thread"}},
]
WANTED: list[RunnableConfig] = [
    thread(),
    thread(ns="inner|x"),
    {"configurable": {"thread_id": "thread", "checkpoint_id": "2"}},
]


def puts_and_lists(saver: Saver) -> Any:
    """Raw checkpoints with all kinds of metadata, written to, listed and looked up in every way."""
    answers: list[Any] = []
    saved = thread()
    for number, metadata in enumerate(METADATA):
        made = checkpoint(f"{number}", messages=["a", number], other={"n": number})
        saved = saver.put(saved, made, metadata, {})  # type: ignore[arg-type]
        answers.append(saved)
        saver.put_writes(saved, [("messages", number), ("__error__", "x")], "task b", "path b")
        saver.put_writes(saved, [("messages", "again"), ("more", number), ("third", 3)], "task b", "path b")
        saver.put_writes(saved, [("__error__", "replaced")], "task b", "path b")
        saver.put_writes(saved, [("messages", "other")], "task a", "path z")
        saver.put_writes(saved, [("messages", "without a path")], "task c")
    saver.put(thread(ns="inner|x"), checkpoint("6", a=1), {"step": 7}, {})
    with_more = thread("with more")
    with_more["configurable"] |= {"user": "me", "__hidden": 1, "number": 3}
    with_more["metadata"] = {"origin": "here", "step": 99}
    answers.append(saver.put(with_more, checkpoint("7", a=1), {"source": "input"}, {}))
    for given in LISTED:
        answers.append(canonical(list(saver.list(given))))
        answers.append(canonical(list(saver.list(given, limit=2))))
        answers.append(canonical(list(saver.list(given, before=thread(checkpoint_id="4")))))
        answers.append(canonical(list(saver.list(given, filter={"source": "loop"}, before=thread(checkpoint_id="4")))))
    for metadata in FILTERS:
        answers.append((metadata, [one.config for one in saver.list(None, filter=metadata)]))
    for wanted in WANTED:
        found = saver.get_tuple(wanted)
        assert found is not None
        answers.append(canonical([found._replace(config={})]))
        checkpoint_found = saver.get(wanted)
        assert checkpoint_found == found.checkpoint
    answers.append([saver.get_tuple(wanted) for wanted in (thread("nobody"), thread(checkpoint_id="nothing"))])
    saver.put(saved, checkpoint("2", messages=["put again"]), {"step": 50}, {})
    answers.append(canonical(list(saver.list(thread()))))
    saver.delete_thread("thread")
    saver.delete_thread("nobody")
    answers.append(canonical(list(saver.list(None))))
    return answers


async def aputs_and_lists(saver: Saver) -> Any:
    """A part of the same for the awaiting class, the blocking methods called from a thread as it asks for."""
    return await asyncio.to_thread(puts_and_lists, saver)


def versions(saver: Saver) -> Any:
    """The versions that a saver makes up."""
    made: list[Any] = [saver.get_next_version(None, None)]
    for _ in range(12):
        made.append(saver.get_next_version(made[-1], None))
    made += [saver.get_next_version(7, None), saver.get_next_version("00041.5", None)]
    assert sorted(made[:13]) == made[:13]
    return [(re.fullmatch(r"\d{32}\.\d+\.\d+(e-\d+)?", one) is not None, one.split(".")[0]) for one in made]


async def aversions(saver: Saver) -> Any:
    return versions(saver)


# -- the same with both --------------------------------------------------------------------------------------------

PROGRAMS: list[Callable[[Saver], Any]] = [runs_graphs, puts_and_lists, versions]
APROGRAMS: list[Callable[[Saver], Awaitable[Any]]] = [aruns_graphs, aputs_and_lists, aversions]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_blocking_programs(program: Callable[[Saver], Any], way: Open, path: str) -> None:
    """A program for the official `SqliteSaver` gives the same with this one, however it opens it."""
    results = []
    for name, cls in (("theirs", OfficialSaver), ("ours", SqliteSaver)):
        with way(cls, f"{path}.{name}") as saver:
            assert isinstance(saver, cls)
            results.append(plain(program(saver)))
    assert results[1] == results[0]


@pytest.mark.parametrize("program", APROGRAMS, ids=lambda program: program.__name__)
@pytest.mark.parametrize("way", AWAYS, ids=lambda way: way.__name__)
def test_awaiting_programs(program: Callable[[Saver], Awaitable[Any]], way: Open, path: str) -> None:
    """A program for the official `AsyncSqliteSaver` gives the same with this one, however it opens it."""

    async def result(cls: Any, name: str) -> str:
        async with way(cls, f"{path}.{name}") as saver:
            assert isinstance(saver, cls)
            return plain(await program(saver))

    theirs = asyncio.run(result(OfficialAsyncSaver, "theirs"))
    assert asyncio.run(result(AsyncSqliteSaver, "ours")) == theirs


@pytest.mark.parametrize("way", [conn_string, connection], ids=lambda way: way.__name__)
def test_what_a_program_left(way: Open, path: str) -> None:
    """What was stored through one saver is there for the next one, as with the official class."""
    results = []
    for name, cls in (("theirs", OfficialSaver), ("ours", SqliteSaver)):
        with way(cls, f"{path}.{name}") as saver:
            graph_over(saver).invoke(said("hello", 0), thread())
        with way(cls, f"{path}.{name}") as saver:
            graph_over(saver).invoke(said("again", 1), thread())
            results.append(plain(canonical(list(saver.list(thread())))))
    assert results[1] == results[0]


def test_the_connection_stays_the_callers(path: str) -> None:
    """A connection that was given can be used beside the saver, and after it was closed."""
    for cls in (OfficialSaver, SqliteSaver):
        with closing(sqlite3.connect(f"{path}.{cls.__module__}", check_same_thread=False)) as given:
            given.execute("CREATE TABLE theirs (x)")
            given.commit()
            saver: Any = cls(given)
            saver.put(thread(), checkpoint("1", a=1), {}, {})
            with given:
                given.execute("INSERT INTO theirs VALUES (1)")
            saver.put(thread(), checkpoint("2", a=1), {}, {})
            if cls is SqliteSaver:
                saver.close()
            assert given.execute("SELECT x FROM theirs").fetchall() == [(1,)]


def test_one_class_for_both(path: str) -> None:
    """The blocking and the awaiting name are one class, and what one form stored the other reads."""
    assert AsyncSqliteSaver is SqliteSaver

    async def main() -> None:
        async with AsyncSqliteSaver.from_conn_string(path) as saver:
            config = await saver.aput(thread(), checkpoint("1", a=1), {}, {})
            found = saver.get_tuple(config)
            assert found is not None
            assert found == await saver.aget_tuple(config)
            assert [one async for one in saver.alist(None)] == list(saver.list(None)) == [found]

    asyncio.run(main())
