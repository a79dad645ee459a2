"""A database of langgraph-checkpoint-sqlite goes on with this package, and is as it was until something is deleted."""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import CheckpointTuple
from langgraph.types import Command

from langgraph_durable import SqliteSaver, ThreadDeletedError
from langgraph_durable.core.leases import Holder
from langgraph_durable.processes import here
from tests import official
from tests.conftest import Face, checkpoint, thread
from tests.faults import dump
from tests.official import BROKEN, RAN, TABLES, OfficialSaver, graph_over, official_list, said
from tests.processes import Pipe, child, forks
from tests.store_contract_standings import taken

THREADS = ("chat", "asks", "fails", "raw")


@pytest.fixture(scope="module", params=official.KINDS)
def template(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database of each kind."""
    made = tmp_path_factory.mktemp("official") / "official.db"
    official.make(str(made), request.param)
    return made


@pytest.fixture
def old(template: Path, path: str) -> str:
    """A database of each kind that the test may change."""
    shutil.copy(template, path)
    RAN.clear()
    return path


@pytest.fixture
def expected(template: Path, tmp_path: Path) -> list[CheckpointTuple]:
    """What the official saver finds in such a database."""
    shutil.copy(template, tmp_path / "expected.db")
    return official_list(str(tmp_path / "expected.db"))


@pytest.fixture
def face(old: str, open_face: Callable[..., Face]) -> Face:
    """A saver of this package over the old database."""
    return open_face(old)


def run(face: Face, value: Any, config: RunnableConfig) -> Any:
    """Run the graph in the face's form."""
    graph = graph_over(face.saver)
    if face.loop is None:
        return graph.invoke(value, config)
    return face.run(graph.ainvoke(value, config))


def texts(state: Any) -> list[str]:
    return [message.text for message in state["messages"]]


def of(found: list[CheckpointTuple], thread_id: str, ns: str | None = None) -> list[CheckpointTuple]:
    """Those of one thread, and perhaps one namespace."""
    return [
        one
        for one in found
        if one.config["configurable"]["thread_id"] == thread_id
        and ns in (None, one.config["configurable"]["checkpoint_ns"])
    ]


CHAT = ["hello", "answer to hello", "how are you", "answer to how are you", "goodbye", "answer to goodbye"]


# -- reading -------------------------------------------------------------------------------------------------------


def test_every_checkpoint_is_read(face: Face, expected: list[CheckpointTuple]) -> None:
    """Each thread and each checkpoint, with its metadata and its pending writes, is what the official saver reads."""
    assert len(expected) >= 20
    assert {one.config["configurable"]["thread_id"] for one in expected} == set(THREADS)
    assert sum(len(one.pending_writes or ()) for one in expected) > 20
    assert face.list(None) == expected
    for one in expected:
        assert face.get_tuple(one.config) == one
    for name in THREADS:
        assert face.list(thread(name)) == of(expected, name, "")
        assert face.get_tuple(thread(name)) == of(expected, name, "")[0]
    assert face.get_tuple(thread("raw", "inner|x:1")) == of(expected, "raw", "inner|x:1")[0]
    assert face.get_tuple(thread("nobody")) is None


FILTERS: list[dict[str, Any]] = [
    {"source": "loop"},
    {"source": "loop", "step": 1},
    {"step": -1},
    {"run_id": "run b"},
    {"flag": True},
    {"flag": False},
    {"score": 1.5},
    {"score": 2.0},
    {"user": "ü"},
    {"user": "o'brien"},
    {"user": None},
    {"nested.deep.er": "x"},
    {"nested.deep": 7},
    {"nested": {"deep": 7}},
    {"list": [1, "a"]},
    {"step": "1"},
    {"nothing": "there"},
    {},
]


@pytest.mark.parametrize("metadata", FILTERS, ids=str)
def test_filters(metadata: dict[str, Any], face: Face, template: Path, tmp_path: Path) -> None:
    """Metadata filters, limits and `before` find in the old tables what the official saver finds."""
    shutil.copy(template, tmp_path / "other.db")
    other = str(tmp_path / "other.db")
    middle = "1ef00000-0000-6000-8000-000000000002"
    for kwargs in (
        {"filter": metadata},
        {"filter": metadata, "limit": 2},
        {"filter": metadata, "before": thread("raw", checkpoint_id=middle)},
    ):
        assert face.list(None, **kwargs) == official_list(other, **kwargs)
        assert face.list(thread("raw"), **kwargs) == official_list(other, config=thread("raw"), **kwargs)


def test_long_threads_come_in_pages(old: str, open_face: Callable[..., Face], tmp_path: Path) -> None:
    """A listing of more checkpoints than fit a page is complete and in order, whatever the limit."""
    with closing(sqlite3.connect(old)) as connection:
        for number in range(200):
            connection.execute(
                """INSERT INTO checkpoints SELECT thread_id, checkpoint_ns, ?, parent_checkpoint_id, type, checkpoint,
                metadata FROM checkpoints WHERE thread_id = 'raw' AND checkpoint_ns = 'inner|x:1' LIMIT 1""",
                (f"0000{number % 50:03}-{number}",),
            )
        connection.commit()
    shutil.copy(old, tmp_path / "other.db")
    whole = [one.config for one in official_list(str(tmp_path / "other.db"))]
    assert len(whole) >= 220
    face = open_face(old)
    assert [one.config for one in face.list(None)] == whole
    for limit in (1, 63, 64, 65, 128, 200):
        assert [one.config for one in face.list(None, limit=limit)] == whole[:limit]


# -- going on ------------------------------------------------------------------------------------------------------


def test_a_conversation_goes_on(face: Face, old: str, expected: list[CheckpointTuple]) -> None:
    """A thread is continued where it was, in front of its old checkpoints, which stay."""
    result = run(face, said("one more", 3), thread("chat"))
    assert texts(result) == [*CHAT, "one more", "answer to one more"]
    assert RAN == ["agent"]
    history = face.list(thread("chat"))
    before = of(expected, "chat")
    assert history[-len(before) :] == before
    new = history[: -len(before)]
    assert len(new) == 3
    assert new[-1].parent_config == before[0].config
    assert [one.metadata["step"] for one in history] == list(range(len(history) - 2, -2, -1))
    assert face.get_tuple(thread("chat")) == new[0]
    again = run(face, said("and another", 4), thread("chat"))
    assert texts(again)[-2:] == ["and another", "answer to and another"]
    assert len(again["messages"]) == 10


def test_a_fork_from_the_middle(face: Face, expected: list[CheckpointTuple]) -> None:
    """An old checkpoint can be gone on from, beside what came after it."""
    middle = next(one for one in of(expected, "chat") if len(one.checkpoint["channel_values"].get("messages", [])) == 4)
    result = run(face, said("something else", 9), middle.config)
    assert texts(result) == [*CHAT[:4], "something else", "answer to something else"]
    fork = face.list(thread("chat"))[: -len(of(expected, "chat"))]
    assert fork[-1].parent_config == middle.config
    assert texts(face.values(thread("chat"))) == texts(result)
    newest = face.get_tuple(of(expected, "chat")[0].config)
    assert newest == of(expected, "chat")[0]


def test_an_open_question_is_answered(face: Face, expected: list[CheckpointTuple]) -> None:
    """A thread that waits for an answer gets it; the node beside the question, which had finished, does not run."""
    result = run(face, Command(resume="yes"), thread("asks"))
    assert RAN == ["ask"]
    assert texts(result) == ["ask", "answer to ask", "you said yes", "went well"]
    assert "__interrupt__" not in result


def test_a_failed_step_is_finished(face: Face) -> None:
    """A thread whose step failed in one node finishes it with that node only."""
    BROKEN.discard("bad")
    try:
        result = run(face, None, thread("fails"))
    finally:
        BROKEN.add("bad")
    assert RAN == ["bad"]
    assert texts(result) == ["both", "answer to both", "went well after all", "went well"]


def test_writes_onto_an_old_checkpoint(face: Face, expected: list[CheckpointTuple]) -> None:
    """Writes to an old checkpoint come beside its own: the first at a place stays, special channels are replaced."""
    newest = of(expected, "raw", "")[0]
    number = 3
    face.put_writes(newest.config, [("messages", "too late"), ("n", "too late"), ("more", "new")], f"task {number}")
    face.put_writes(newest.config, [("__error__", "replaced")], f"task {number}")
    face.put_writes(newest.config, [("messages", "of another")], "task zzz")
    found = face.get_tuple(newest.config)
    assert found is not None
    assert found.pending_writes is not None
    assert sorted(found.pending_writes, key=str) == sorted(
        [
            (f"task {number}", "messages", [f"write {number}"]),
            (f"task {number}", "n", number),
            (f"task {number}", "more", "new"),
            (f"task {number}", "__error__", "replaced"),
            ("task zzz", "messages", "of another"),
        ],
        key=str,
    )
    assert face.list(thread("raw"))[0] == found
    assert found.checkpoint == newest.checkpoint


def test_an_old_checkpoint_is_put_again(face: Face, expected: list[CheckpointTuple]) -> None:
    """A checkpoint of the old tables that is put again is there once, with the new contents."""
    raw = of(expected, "raw", "")
    one = raw[0]
    assert one.parent_config is not None
    changed = {**one.checkpoint, "channel_values": {"n": "changed"}}
    face.call("put", one.parent_config, changed, {"source": "update", "step": 9}, {})
    found = face.list(thread("raw"))
    assert [each.config for each in found] == [each.config for each in raw]
    assert found[0].checkpoint["channel_values"] == {"n": "changed"}
    assert found[0].metadata["step"] == 9
    assert found[1:] == raw[1:]


# -- the old tables ------------------------------------------------------------------------------------------------


def schema(path: str) -> list[tuple[str, str]]:
    """How the old tables are defined."""
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(
            "SELECT name, sql FROM sqlite_master WHERE tbl_name IN ('checkpoints', 'writes') ORDER BY name"
        ).fetchall()


def test_the_old_tables_stay(old: str, open_face: Callable[..., Face], expected: list[CheckpointTuple]) -> None:
    """Opening, reading, listing and storing change nothing in the old tables; the official saver finds all again."""
    rows, definition = dump(old, *TABLES), schema(old)
    face = open_face(old)
    face.list(None)
    face.list(None, filter={"source": "loop"})
    for name in THREADS:
        face.get_tuple(thread(name))
    run(face, said("one more", 3), thread("chat"))
    run(face, Command(resume="yes"), thread("asks"))
    saved = face.put(of(expected, "raw", "")[0].config, checkpoint(messages=["new"]))
    face.put_writes(saved, [("messages", "new")], "task")
    face.put(thread("new"), checkpoint(messages=["new"]))
    face.call("delete_thread", "new")
    face.call("prune", ["nobody"])
    face.call("delete_for_runs", ["nobody"])
    assert dump(old, *TABLES) == rows
    assert schema(old) == definition
    face.saver.close()
    assert official_list(old) == expected


def test_threads_that_are_held_are_listed_once(face: Face, old: str) -> None:
    """A thread of theirs that a run holds has a row of its own, and is on one page all the same."""
    for name in ("chat", "raw"):
        taken(face.saver._engine.store, name, Holder(here(), "somebody", time.time(), time.time() + 60).said())
    for status, names in ((None, sorted(THREADS)), ("busy", ["chat", "raw"])):
        seen: list[str] = []
        cursor = None
        while cursor is not None or not seen:
            page = face.call("list_threads", status=status, order="id", limit=1, cursor=cursor)
            seen += [one.thread_id for one in page]
            cursor = page.cursor
        assert sorted(seen) == names


def test_both_savers_take_turns(old: str, open_face: Callable[..., Face]) -> None:
    """The official saver can go on in the same file after this package has, and this one finds its own again."""
    face = open_face(old)
    ours = run(face, said("ours", 3), thread("ours"))
    with OfficialSaver.from_conn_string(old) as saver:
        theirs = graph_over(saver).invoke(said("theirs", 3), thread("theirs"))
    assert texts(face.values(thread("theirs"))) == texts(theirs)
    assert texts(face.values(thread("ours"))) == texts(ours)
    assert texts(run(face, said("more", 4), thread("theirs")))[:2] == texts(theirs)


def test_a_thread_is_deleted(face: Face, old: str, expected: list[CheckpointTuple]) -> None:
    """A deleted thread is gone from the old tables, late writes to it are refused, and the others are untouched."""
    run(face, said("one more", 3), thread("chat"))
    face.call("delete_thread", "chat")
    assert face.list(thread("chat")) == []
    late = of(expected, "chat")[0].config
    with pytest.raises(ThreadDeletedError):
        face.put(late, checkpoint(messages=["late"]))
    with pytest.raises(ThreadDeletedError):
        face.put_writes(late, [("messages", ["late"])], "task")
    left = dump(old, *TABLES)
    assert all(row[0] != "chat" for rows in left.values() for row in rows)
    assert face.list(None) == [one for one in expected if one.config["configurable"]["thread_id"] != "chat"]
    face.saver.close()
    assert official_list(old) == [one for one in expected if one.config["configurable"]["thread_id"] != "chat"]


@pytest.mark.parametrize("more", [False, True], ids=["old only", "with new ones"])
def test_a_thread_is_pruned(more: bool, face: Face, old: str, expected: list[CheckpointTuple]) -> None:
    """Of a pruned thread the newest checkpoint of each namespace stays, wherever it is, and can be gone on from."""
    before = CHAT
    if more:
        before = texts(run(face, said("one more", 3), thread("chat")))
    newest = face.get_tuple(thread("chat"))
    face.call("prune", ["chat", "raw", "asks"])
    assert face.list(thread("chat")) == [newest]
    assert face.list(thread("raw", "inner|x:1")) == of(expected, "raw", "inner|x:1")
    assert face.list(thread("raw")) == of(expected, "raw", "")[:1]
    assert len([row for row in dump(old, "checkpoints")["checkpoints"] if row[0] == "chat"]) == (0 if more else 1)
    assert {row[0] for row in dump(old, "writes")["writes"]} <= {"asks", "fails", "raw", "chat"}
    assert face.list(thread("fails")) == of(expected, "fails")
    assert texts(run(face, said("go on", 4), thread("chat"))) == [*before, "go on", "answer to go on"]
    # The open question keeps what the nodes beside it had finished.
    RAN.clear()
    assert texts(run(face, Command(resume="yes"), thread("asks")))[2:] == ["you said yes", "went well"]
    assert RAN == ["ask"]


def test_pruning_everything(face: Face, old: str) -> None:
    """With `strategy="delete"` nothing of a thread stays."""
    face.call("prune", ["chat"], strategy="delete")
    assert face.list(thread("chat")) == []
    assert all(row[0] != "chat" for rows in dump(old, *TABLES).values() for row in rows)


def test_runs_are_deleted(face: Face, old: str, expected: list[CheckpointTuple]) -> None:
    """The checkpoints of a run go from the old tables and the new, with their writes, and nothing else does."""
    saved = face.put(of(expected, "raw", "")[0].config, checkpoint("zz", n=1), {"run_id": "run a", "step": 8})
    face.put(saved, checkpoint("zzz", n=2), {"run_id": "run c", "step": 9})
    face.call("delete_for_runs", ["run a", "nobody"])
    assert [one.metadata.get("run_id") for one in face.list(thread("raw"))] == ["run c", "run b", "run b"]
    assert [row[3] for row in dump(old, "writes")["writes"] if row[0] == "raw"] == ["task 2"] * 3 + ["task 3"] * 3
    assert face.list(thread("chat")) == of(expected, "chat")
    counted = {one.thread_id: one.checkpoints for one in face.call("list_threads")}
    assert counted == Counter(one.config["configurable"]["thread_id"] for one in face.list(None))


@pytest.mark.parametrize("more", [False, True], ids=["old only", "with new ones"])
def test_a_thread_is_copied(more: bool, face: Face, old: str) -> None:
    """A copy has all checkpoints and writes of its source, and both go on by themselves."""
    if more:
        run(face, said("one more", 3), thread("chat"))
        face.put_writes(face.list(thread("raw"))[0].config, [("n", "new")], "task zzz")

    def as_thread(found: list[CheckpointTuple], name: str) -> list[CheckpointTuple]:
        def renamed(config: RunnableConfig | None) -> Any:
            return config and {"configurable": {**config["configurable"], "thread_id": name}}

        return [one._replace(config=renamed(one.config), parent_config=renamed(one.parent_config)) for one in found]

    for name in THREADS:
        face.call("copy_thread", name, f"copy of {name}")
        source = face.list({"configurable": {"thread_id": name}})
        copy = face.list({"configurable": {"thread_id": f"copy of {name}"}})
        assert copy == as_thread(source, f"copy of {name}")
        assert source
    before = face.list(thread("chat"))
    result = run(face, said("only here", 7), thread("copy of chat"))
    assert texts(result)[-2:] == ["only here", "answer to only here"]
    assert face.list(thread("chat")) == before
    face.call("delete_thread", "chat")
    assert texts(face.values(thread("copy of chat"))) == texts(result)
    RAN.clear()
    run(face, Command(resume="yes"), thread("copy of asks"))
    assert RAN == ["ask"]
    assert [message for message in face.values(thread("asks"))["messages"] if isinstance(message, AIMessage)]


# -- what is not read ----------------------------------------------------------------------------------------------


def reads(pipe: Pipe, path: str) -> None:
    """Say how many bytes were read from disk at each stage of using a database."""

    def total() -> int:
        fields = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
        return int(fields["rchar"])

    start = total()
    saver = SqliteSaver(path)
    opened = total() - start
    found = saver.get_tuple(thread("small"))
    assert found is not None
    saver.put(found.config, checkpoint("zz", n=2), {}, {})
    assert saver.get_tuple(thread("small")) is not None
    pipe.send((opened, total() - start))


@forks
@pytest.mark.skipif(not os.path.exists("/proc/self/io"), reason="the system does not say what a process reads")
def test_large_states_are_not_read(path: str) -> None:
    """Opening a database of large states, and working on a thread beside them, reads next to nothing of the file."""
    with OfficialSaver.from_conn_string(path) as saver:
        saver.put(thread("small"), checkpoint("1", n=1), {}, {})
        for number in range(24):
            large = checkpoint(f"{number:02}", data=os.urandom(1_000_000))
            saved = saver.put(thread(f"large {number % 3}"), large, {"step": number}, {})
            saver.put_writes(saved, [("data", os.urandom(200_000))], "task")
    size = os.path.getsize(path)
    assert size > 24_000_000
    with child(reads, path) as reader:
        opened, used = reader.receive()
    assert opened < size / 100
    assert used < size / 50


# -- tables of somebody else's -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "tables",
    [
        "CREATE TABLE checkpoints (id INTEGER PRIMARY KEY, name TEXT); CREATE TABLE writes (id INTEGER);",
        "CREATE TABLE checkpoints (thread_id TEXT, checkpoint_id TEXT);",
        "CREATE TABLE writes (thread_id TEXT, value BLOB);",
        "CREATE TABLE theirs (x TEXT);",
    ],
)
def test_tables_of_somebody_else(tables: str, path: str, open_face: Callable[..., Face]) -> None:
    """Tables of the same names that are not the official saver's are not read, and not changed by anything."""
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(tables)
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for name in names:
            connection.execute(f"INSERT INTO {name} DEFAULT VALUES")
        connection.commit()
    before = dump(path, *names)
    face = open_face(path)
    saved = face.put(thread(), checkpoint("1", a=1))
    assert face.values(saved) == {"a": 1}
    assert len(face.list(None)) == 1
    face.call("copy_thread", "thread", "copy")
    face.call("prune", ["thread"])
    face.call("delete_thread", "thread")
    assert dump(path, *names) == before
