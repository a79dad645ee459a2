"""`copy` takes threads from any saver to any other: what the target then has is what the source has, in its order."""

from __future__ import annotations

import asyncio
import itertools
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import aiosqlite
import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver, CheckpointTuple
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import Command, interrupt

from langgraph_durable import (
    CorruptDataError,
    FileSaver,
    InvalidRequestError,
    SqliteSaver,
    StoreError,
    ThreadDeletedError,
    acopy,
    copy,
    open_saver,
    progress,
)
from langgraph_durable.cli import main
from langgraph_durable.copying import Copied
from langgraph_durable.saver import DurableSaver
from tests.conftest import checkpoint, thread
from tests.test_transcripts import recorded, replaying

Saver = BaseCheckpointSaver[Any]


def opened(kind: str, folder: Path, loop: asyncio.AbstractEventLoop | None) -> Saver:
    """A saver of a kind, with what it stores in a folder."""
    if kind == "official":
        from langgraph.checkpoint.sqlite import SqliteSaver as Official

        official = Official(sqlite3.connect(folder / "official.db", check_same_thread=False))
        official.setup()
        return official
    if kind == "official async":
        from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver as AsyncOfficial

        assert loop is not None

        async def make() -> Saver:
            made = AsyncOfficial(await aiosqlite.connect(folder / "official.db"))
            await made.setup()
            return made

        return loop.run_until_complete(make())
    made: dict[str, Callable[[], Saver]] = {
        "in memory": InMemorySaver,
        "file": lambda: SqliteSaver(folder / "agent.db"),
        "memory": lambda: SqliteSaver(":memory:"),
        "folder": lambda: FileSaver(folder / "checkpoints"),
    }
    return made[kind]()


@pytest.fixture
def open_saver_of(tmp_path: Path, loop: asyncio.AbstractEventLoop | None) -> Iterator[Callable[[str, str], Saver]]:
    """A function that makes a saver of a kind, under a name; all are closed at the end."""
    savers: list[Saver] = []

    def make(kind: str, name: str) -> Saver:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        savers.append(opened(kind, folder, loop))
        return savers[-1]

    yield make
    for saver in savers:
        connection = getattr(saver, "conn", None)
        if isinstance(saver, (SqliteSaver, FileSaver)):
            saver.close()
        elif isinstance(connection, sqlite3.Connection):
            connection.close()
        elif connection is not None:
            assert loop is not None
            loop.run_until_complete(connection.close())


KINDS = ["file", "folder", "memory", "in memory", "official"]


def copied(
    loop: asyncio.AbstractEventLoop | None, source: Saver, target: Saver, thread_ids: Sequence[str] | None = None
) -> Copied:
    """The copy, in either form."""
    if loop is None:
        return copy(source, target, thread_ids=thread_ids)
    return loop.run_until_complete(acopy(source, target, thread_ids=thread_ids))


def listed(
    saver: Saver, config: RunnableConfig | None, loop: asyncio.AbstractEventLoop | None = None
) -> list[CheckpointTuple]:
    """What a saver has."""
    if loop is None:
        found = list(saver.list(config))
    else:

        async def collected() -> list[CheckpointTuple]:
            return [one async for one in saver.alist(config)]

        found = loop.run_until_complete(collected())
    return found


def in_order(found: list[CheckpointTuple], own: bool = False) -> list[CheckpointTuple]:
    """In the order of their ids, as other savers list what they have; this package's own keep that of the calls."""
    return found if own else sorted(found, key=lambda one: sorted(one.config["configurable"].items()))


def agent(saver: Saver) -> Any:
    """A graph with two branches, a subgraph that asks, and a list that is added to."""

    def asks(state: MessagesState) -> dict[str, Any]:
        return {"messages": [AIMessage(f"you said {interrupt('what?')}", id=f"a{len(state['messages'])}")]}

    def says(state: MessagesState) -> dict[str, Any]:
        return {"messages": [AIMessage("said " * 30, id=f"s{len(state['messages'])}")]}

    inner = StateGraph(MessagesState).add_node("asks", asks).add_edge(START, "asks").add_edge("asks", END)
    return (
        StateGraph(MessagesState)
        .add_node("says", says)
        .add_node("inner", inner.compile())
        .add_edge(START, "says")
        .add_edge(START, "inner")
        .add_edge("says", END)
        .add_edge("inner", END)
        .compile(checkpointer=saver)
    )


def run(saver: Saver, *names: str) -> None:
    """Threads whose steps took turns, that wait for an answer now."""
    graph = agent(saver)
    for turn in range(3):
        for name in names:
            config: RunnableConfig = {"configurable": {"thread_id": name}}
            graph.invoke({"messages": [HumanMessage(f"turn {turn} of {name} " * 9, id=f"h{turn}")]}, config)
            if turn < 2:
                graph.invoke(Command(resume=f"{turn}"), config)


@pytest.mark.sampled(4)
@pytest.mark.parametrize("target_kind", KINDS)
@pytest.mark.parametrize("source_kind", KINDS)
def test_a_copy_is_the_same(
    source_kind: str,
    target_kind: str,
    open_saver_of: Callable[[str, str], Saver],
    loop: asyncio.AbstractEventLoop | None,
) -> None:
    """Whatever the savers: checkpoints, metadata, parents, versions, writes and their order, in every namespace."""
    source, target = open_saver_of(source_kind, "source"), open_saver_of(target_kind, "target")
    run(source, "one", "two")
    there = listed(source, None)
    done = copied(loop, source, target)
    assert done.threads == 2
    assert done.checkpoints == len(there) > 20
    assert done.writes == sum(len(one.pending_writes or ()) for one in there) > 0
    ours = {"file", "folder", "memory"}
    assert in_order(listed(target, None), {source_kind, target_kind} <= ours) == in_order(
        there, {source_kind, target_kind} <= ours
    )
    for name in ("one", "two"):
        for ns in {one.config["configurable"]["checkpoint_ns"] for one in there}:
            assert listed(target, thread(name, ns)) == listed(source, thread(name, ns))
        assert target.get_tuple({"configurable": {"thread_id": name}}) is not None
    assert copied(loop, source, target) == (0, 0, 0)
    # And it goes on where it was.
    ends = [
        agent(saver).invoke(Command(resume="the end"), {"configurable": {"thread_id": "one"}})["messages"][-1].content
        for saver in (source, target)
    ]
    assert ends[0] == ends[1]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_the_official_saver_for_coroutines(
    kind: str, open_saver_of: Callable[[str, str], Saver], loop: asyncio.AbstractEventLoop | None
) -> None:
    """`acopy` takes and fills the official saver that can only be used in a coroutine."""
    if loop is None:
        pytest.skip("that saver has no synchronous form in its own loop")
    first, official, last = (
        open_saver_of(kind, "first"),
        open_saver_of("official async", "between"),
        open_saver_of(kind, "last"),
    )
    run(first, "one")
    assert copied(loop, first, official).checkpoints == copied(loop, official, last).checkpoints > 10
    assert in_order(listed(official, None, loop)) == in_order(listed(first, None)) == in_order(listed(last, None))


def test_what_the_protocol_does_not_tell(
    open_saver_of: Callable[[str, str], Saver], loop: asyncio.AbstractEventLoop | None
) -> None:
    """Between savers of this package the paths of tasks come along, which order the writes."""
    source, target = open_saver_of("file", "source"), open_saver_of("folder", "target")
    saved = source.put(thread(), checkpoint("1"), {}, {})
    for task, path in (("a", "~3"), ("b", "~1"), ("c", "~2")):
        source.put_writes(saved, [("messages", task), ("messages", task * 2)], task, path)
        source.put_writes(saved, [("__resume__", [task])], task, path)
    copied(loop, source, target)
    found, expected = target.get_tuple(saved), source.get_tuple(saved)
    assert found is not None
    assert expected is not None
    assert found.pending_writes == expected.pending_writes
    assert [write[0] for write in found.pending_writes or ()] == ["b"] * 3 + ["c"] * 3 + ["a"] * 3


@pytest.mark.parametrize(
    "kinds",
    [("file", "folder"), ("folder", "file"), ("official", "file"), ("file", "in memory"), ("in memory", "folder")],
)
def test_going_on_with_a_copy(
    kinds: tuple[str, str], open_saver_of: Callable[[str, str], Saver], loop: asyncio.AbstractEventLoop | None
) -> None:
    """A copy that was interrupted, wherever it was, and one that the source went on from, is continued."""
    source, target = open_saver_of(kinds[0], "source"), open_saver_of(kinds[1], "target")
    run(source, "one", "two")
    there = listed(source, None)
    left = 0

    class StopError(Exception):
        pass

    # Between the batches of one checkpoint as well, where this package stores them.
    storing: Any = target._engine.lane if isinstance(target, DurableSaver) else target
    names = [
        name for name in ("put", "aput", "put_writes", "aput_writes", "commit", "acommit") if hasattr(storing, name)
    ]
    real = {name: getattr(storing, name) for name in names}

    def failing(name: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                raise StopError
            return real[name](*args, **kwargs)

        return call

    stopped = 0
    with pytest.MonkeyPatch.context() as patch:
        for name in names:
            patch.setattr(storing, name, failing(name))
        while True:
            left = 4 + 3 * stopped
            try:
                copied(loop, source, target)
            except StopError:
                stopped += 1
                partial = {
                    (one.config["configurable"]["thread_id"], one.checkpoint["id"]) for one in listed(target, None)
                }
                whole = [(one.config["configurable"]["thread_id"], one.checkpoint["id"]) for one in there[::-1]]
                if kinds[0] in ("file", "folder"):
                    assert partial == set(whole[: len(partial)])
            else:
                break
    assert stopped > 3
    assert in_order(listed(target, None)) == in_order(there)
    # What came since, to checkpoints that were there and as new ones.
    late = there[3].config
    source.put_writes(late, [("late", "a write")], "a task that came late", "")
    agent(source).invoke({"messages": [HumanMessage("more", id="more")]}, {"configurable": {"thread_id": "two"}})
    done = copied(loop, source, target)
    assert done.checkpoints == len(listed(source, None)) - len(there)
    found, expected = in_order(listed(target, None)), in_order(listed(source, None))
    if kinds[0] not in ("file", "folder"):
        # Where a task that came late belongs is not told by savers that tell no paths.
        for one in (*found, *expected):
            (one.pending_writes or []).sort(key=lambda write: write[:2])
    assert found == expected


def test_chosen_threads(open_saver_of: Callable[[str, str], Saver], loop: asyncio.AbstractEventLoop | None) -> None:
    """Only the threads that were asked for are copied; one that is not there is an error before any is."""
    source, target = open_saver_of("file", "source"), open_saver_of("folder", "target")
    run(source, "one", "two", "three")
    for wrong in (["one", "none"], "one", [1]):
        with pytest.raises(InvalidRequestError, match=r"none|list|thread 1"):
            copied(loop, source, target, wrong)  # type: ignore[arg-type]  # that is the point
    assert listed(target, None) == []
    assert copied(loop, source, target, ["three", "one"]).threads == 2
    for name in ("one", "three"):
        assert listed(target, thread(name)) == listed(source, thread(name))
    assert listed(target, thread("two")) == []


def test_a_thread_that_went_its_own_way(
    open_saver_of: Callable[[str, str], Saver], loop: asyncio.AbstractEventLoop | None
) -> None:
    """What the target has and the source has not is never mixed up with what is copied: nothing at all is stored."""
    source, target = open_saver_of("file", "source"), open_saver_of("folder", "target")
    saved = source.put(thread("a"), checkpoint("1"), {}, {})
    run(source, "new")
    copied(loop, source, target, ["a"])
    other = target.put(saved, checkpoint("2 of the target"), {}, {})
    source.put(saved, checkpoint("2"), {}, {})
    before = listed(target, None)
    with pytest.raises(InvalidRequestError, match=r"'2 of the target'.*nothing was copied"):
        copied(loop, source, target)
    assert listed(target, None) == before
    # One that lacks what lies before what it has would get it behind that.
    source.put(thread("b"), checkpoint("1"), {}, {})
    source.put(thread("b"), checkpoint("2"), {}, {})
    target.put(thread("b"), checkpoint("2"), {}, {})
    with pytest.raises(InvalidRequestError, match="wrong order"):
        copied(loop, source, target, ["b"])
    assert other is not None
    assert [one.checkpoint["id"] for one in listed(target, thread("b"))] == ["2"]


def test_to_where_it_was_deleted(
    open_saver_of: Callable[[str, str], Saver], loop: asyncio.AbstractEventLoop | None
) -> None:
    """A thread that was deleted in the target is not a late write when it is copied there: it is there again."""
    for kind in ("file", "folder"):
        source, target = open_saver_of("memory", f"source {kind}"), open_saver_of(kind, f"target {kind}")
        run(source, "one")
        for _ in range(2):
            copied(loop, source, target)
            assert listed(target, None) == listed(source, None)
            target.delete_thread("one")
            assert listed(target, None) == []


def test_what_was_replaced_since(
    open_saver_of: Callable[[str, str], Saver], loop: asyncio.AbstractEventLoop | None
) -> None:
    """An answer that was given anew at an older checkpoint is taken along when the copy is made again."""
    source, target = open_saver_of("file", "source"), open_saver_of("folder", "target")
    first = source.put(thread(), checkpoint("1"), {}, {})
    source.put_writes(first, [("__resume__", "the first answer")], "task")
    source.put(first, checkpoint("2"), {}, {})
    copied(loop, source, target)
    source.put_writes(first, [("__resume__", "the second answer")], "task")
    copied(loop, source, target)
    assert listed(target, None) == listed(source, None)


def test_a_pruned_thread_to_where_it_was_deleted(
    open_saver_of: Callable[[str, str], Saver], loop: asyncio.AbstractEventLoop | None
) -> None:
    """That a parent which the source has no more was deleted in the target keeps nothing out."""
    for kind in ("file", "folder"):
        source, target = open_saver_of("memory", f"source {kind}"), open_saver_of(kind, f"target {kind}")
        run(source, "one")
        copied(loop, source, target)
        target.delete_thread("one")
        source.prune(["one"])
        copied(loop, source, target)
        assert listed(target, None) == listed(source, None)


def test_ids_that_are_no_text(
    open_saver_of: Callable[[str, str], Saver], loop: asyncio.AbstractEventLoop | None
) -> None:
    """Threads that were given numbers for ids are found by those, and are text where ids are text."""
    source, target = open_saver_of("in memory", "source"), open_saver_of("file", "target")
    for number in (1, 2):
        config: Any = {"configurable": {"thread_id": number, "checkpoint_ns": ""}}
        source.put(config, checkpoint("1", a=number), {}, {"a": f"{1:032}.0.5"})
    assert copied(loop, source, target, [1]) == (1, 1, 0)  # type: ignore[list-item]  # that is the point
    assert copied(loop, source, target) == (1, 1, 0)
    for number in (1, 2):
        found = target.get_tuple(thread(str(number)))
        assert found is not None
        assert found.checkpoint["channel_values"] == {"a": number}


def test_a_task_with_two_paths(
    open_saver_of: Callable[[str, str], Saver], loop: asyncio.AbstractEventLoop | None
) -> None:
    """No write is lost, whatever a task called its path."""
    source, target = open_saver_of("file", "source"), open_saver_of("folder", "target")
    saved = source.put(thread(), checkpoint("1"), {}, {})
    source.put_writes(saved, [("a", 1), ("b", 2)], "task", "~2")
    source.put_writes(saved, [("x", 0), ("x", 0), ("c", 3)], "task", "~1")
    expected = source.get_tuple(saved)
    assert expected is not None
    assert copied(loop, source, target).writes == len(expected.pending_writes or ()) == 3
    found = target.get_tuple(saved)
    assert found is not None
    assert sorted(found.pending_writes or ()) == sorted(expected.pending_writes or ())


def test_an_order_that_others_do_not_have(
    open_saver_of: Callable[[str, str], Saver], loop: asyncio.AbstractEventLoop | None
) -> None:
    """Where the newest has not the greatest id, a saver that goes by ids is not given the thread."""
    source, ours, theirs = (
        open_saver_of("file", "source"),
        open_saver_of("folder", "ours"),
        open_saver_of("in memory", "theirs"),
    )
    for number in (2, 3, 1):
        source.put(thread(), checkpoint(f"{number}"), {}, {})
    with pytest.raises(InvalidRequestError, match="goes by ids"):
        copied(loop, source, theirs)
    assert listed(theirs, None, loop) == []
    copied(loop, source, ours)
    assert listed(ours, None) == listed(source, None)


APP = """
import sys
from dataclasses import dataclass
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph_durable import open_saver
from tests.conftest import checkpoint, thread

@dataclass
class Order:
    item: str
    count: int

Order.__module__ = "an_app_that_is_not_installed"
module = type(sys)("an_app_that_is_not_installed")
module.Order = Order
sys.modules["an_app_that_is_not_installed"] = module
with open_saver(sys.argv[1]) as saver:
    if sys.argv[2] == "put":
        saved = saver.put(thread(), checkpoint("1", order=Order("tea", 3), orders=[Order("tea", 1), "x"]), {}, {})
        saver.put_writes(saved, [("order", Order("coffee", 2))], "task")
    found = saver.get_tuple(thread())
    assert found.checkpoint["channel_values"] == {"order": Order("tea", 3), "orders": [Order("tea", 1), "x"]}
    assert found.pending_writes == [("task", "order", Order("coffee", 2))]
"""


@pytest.mark.filterwarnings("ignore:Deserializing unregistered type")
def test_classes_that_are_not_here(tmp_path: Path) -> None:
    """Values of classes that this process cannot import are moved as they are, or are an error; they are never less."""
    root = str(Path(__file__).resolve().parents[1])

    def app(url: str, what: str) -> None:
        done = subprocess.run(
            [sys.executable, "-c", APP, url, what],
            env={**os.environ, "PYTHONPATH": root},
            capture_output=True,
            encoding="utf-8",
            check=False,
        )
        assert done.returncode == 0, done.stderr

    urls = [f"sqlite:///{tmp_path}/a.db", f"file:///{tmp_path}/files", f"sqlite:///{tmp_path}/b.db"]
    app(urls[0], "put")
    for source, target in itertools.pairwise(urls):
        assert main(["copy", source, target]) == 0
        app(target, "get")
    with open_saver(urls[0]) as saver, pytest.raises(CorruptDataError, match="cannot be imported"):
        copy(saver, InMemorySaver())


@pytest.mark.filterwarnings("ignore::langgraph_durable.CorruptDataWarning")
def test_a_folder_that_is_damaged(tmp_path: Path, loop: asyncio.AbstractEventLoop | None) -> None:
    """A source of which a line or a thread is lost is refused, and threads that are whole can be taken by name."""
    for number, damage in enumerate((0, 2)):
        path = tmp_path / f"source {number}"
        with FileSaver(path) as source:
            run(source, "bad", "good")
        (journal,) = path.glob("threads/bad-*/journal.jsonl")
        lines = journal.read_bytes().splitlines(keepends=True)
        lines[damage] = lines[damage].replace(b'"type"', b'"tyqe"')
        journal.write_bytes(b"".join(lines))
        with FileSaver(path) as source, SqliteSaver(":memory:") as target:
            with pytest.raises(StoreError, match=r"damaged.*Nothing was copied"):
                copied(loop, source, target)
            assert listed(target, None) == []
            assert copied(loop, source, target, ["good"]).threads == 1
            assert listed(target, None) == listed(source, {"configurable": {"thread_id": "good"}})


def test_between_serializers(tmp_path: Path, loop: asyncio.AbstractEventLoop | None) -> None:
    """What one has in the clear the other may encrypt, and the way back."""
    pytest.importorskip("Crypto")
    serde = EncryptedSerializer.from_pycryptodome_aes(key=b"0123456789abcdef")
    with (
        FileSaver(tmp_path / "clear") as clear,
        SqliteSaver(tmp_path / "secret.db", serde=serde) as secret,
        FileSaver(tmp_path / "back") as back,
    ):
        run(clear, "one")
        copied(loop, clear, secret)
        copied(loop, secret, back)
        assert listed(clear, None) == listed(secret, None) == listed(back, None)
    for file in tmp_path.glob("secret.db*"):
        assert b"turn 1 of one" not in file.read_bytes()


def test_a_target_that_is_not_open_yet(tmp_path: Path) -> None:
    """A target that opens at the first call is opened in its event loop, whatever there is to copy."""
    pytest.importorskip("Crypto")
    serde = EncryptedSerializer.from_pycryptodome_aes(key=b"0123456789abcdef")

    async def both() -> None:
        with SqliteSaver(":memory:") as source:
            for number in range(2):
                async with (
                    aiosqlite.connect(tmp_path / f"{number}.db") as connection,
                    SqliteSaver(connection, serde=serde) as target,
                ):
                    assert await acopy(source, target) == (number, number, 0)
                source.put(thread(), checkpoint("1", text="x"), {}, {})

    asyncio.run(both())


def test_a_damaged_source(tmp_path: Path, loop: asyncio.AbstractEventLoop | None) -> None:
    """What cannot be read is an error that names it; what lies before it is there, and other threads can be copied."""
    with SqliteSaver(tmp_path / "source.db") as source:
        saved = thread("bad")
        for number in range(4):
            saved = source.put(saved, checkpoint(str(number), text=f"{number} " * 99), {}, {})
        run(source, "good")
    with closing(sqlite3.connect(tmp_path / "source.db")) as connection:
        connection.execute("DELETE FROM durable_chunks WHERE instr(data, '2 2 2')")
        connection.commit()
    with SqliteSaver(tmp_path / "source.db") as source, FileSaver(tmp_path / "target") as target:
        with pytest.raises(CorruptDataError, match="channel 'text' of checkpoint '2'"):
            copied(loop, source, target)
        assert [one.checkpoint["id"] for one in listed(target, thread("bad"))] == ["1", "0"]
        assert copied(loop, source, target, ["good"]).threads == 1


def test_a_source_that_is_deleted_meanwhile(tmp_path: Path) -> None:
    """A checkpoint that is gone when its turn comes ends the copy with an error that says so."""
    with SqliteSaver(tmp_path / "source.db") as source:
        run(source, "one")

        class Deleting(InMemorySaver):
            def put(self, *args: Any, **kwargs: Any) -> RunnableConfig:
                source.delete_thread("one")
                return super().put(*args, **kwargs)

        with pytest.raises(ThreadDeletedError, match="was deleted while it was copied"):
            copy(source, Deleting())


def test_what_is_no_saver(tmp_path: Path) -> None:
    """A path is not a saver; the error says what makes one of it."""
    with SqliteSaver(":memory:") as saver, pytest.raises(InvalidRequestError, match="open_saver"):
        copy(saver, str(tmp_path))  # type: ignore[arg-type]  # that is the point


def test_recorded_conversations(tmp_path: Path, transcripts: list[Path]) -> None:
    """Recorded conversations come through files and the official saver as they were, tool calls and all."""
    from langgraph.checkpoint.sqlite import SqliteSaver as Official

    every = recorded(transcripts)
    conversations = {name: every[name] for name in list(every)[::5]}
    assert conversations
    with SqliteSaver(tmp_path / "source.db") as source, FileSaver(tmp_path / "files") as files:
        graph = replaying(source, conversations)
        for name, script in conversations.items():
            said = 0
            while said < len(script):
                stop = next(place for place in range(said, len(script)) if script[place].type == "human") + 1
                said = len(graph.invoke({"messages": script[said:stop]}, thread(name))["messages"])
        there = listed(source, None)
        assert copy(source, files).checkpoints == len(there) > 10 * len(conversations)
        assert listed(files, None) == there
        assert files.check().sound
        with Official.from_conn_string(str(tmp_path / "official.db")) as official:
            copy(files, official)
            assert listed(official, None) == sorted(there, key=lambda one: one.checkpoint["id"], reverse=True)


# -- how it is shown -------------------------------------------------------------------------------------------------


def test_a_bar_where_somebody_looks(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    """A copy that takes its time shows how far it is, if that is wanted."""
    monkeypatch.setattr(progress, "PATIENCE_SECONDS", 0.0)
    with SqliteSaver(":memory:") as source, FileSaver(tmp_path / "target") as target:
        run(source, "one")
        copy(source, target, progress=True)
        assert "copying" in capsys.readouterr().err


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command copies between URLs, says how much it was, and makes no source that is not there."""
    with SqliteSaver(tmp_path / "a.db") as source:
        run(source, "one", "two")
        there = listed(source, None)
    target = f"file:///{tmp_path}/checkpoints"
    assert main(["copy", f"sqlite:///{tmp_path}/a.db", target, "--thread", "two"]) == 0
    assert main(["copy", f"sqlite:///{tmp_path}/a.db", target]) == 0
    assert main(["copy", f"sqlite:///{tmp_path}/a.db", target]) == 0
    out, err = capsys.readouterr()
    said = out.splitlines()
    assert said[0].startswith(f"copied {len(there) // 2} checkpoints of 1 threads, and ")
    assert said[1].startswith(f"copied {len(there) // 2} checkpoints of 1 threads, and ")
    assert said[2] == "copied 0 checkpoints of 0 threads, and 0 writes"
    assert err == ""
    with FileSaver(tmp_path / "checkpoints") as copy_of:
        assert sorted(map(repr, listed(copy_of, None))) == sorted(map(repr, there))
    assert main(["copy", f"sqlite:///{tmp_path}/none.db", f"file:///{tmp_path}/new"]) == 2
    assert "there is nothing at" in capsys.readouterr().err
    assert sorted(os.listdir(tmp_path)) == ["a.db", "checkpoints"]
