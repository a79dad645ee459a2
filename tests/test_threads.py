"""Threads are deleted, copied and thinned out as a whole, and what was deleted stays deleted."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableConfig

from langgraph_durable import InvalidRequestError, ThreadDeletedError
from tests.conftest import Face, checkpoint, thread
from tests.samples import messages, values
from tests.shapes import form, tuple_form


def conversation(face: Face, thread_id: str = "thread", turns: int = 3, ns: str = "") -> list[RunnableConfig]:
    """A thread whose messages grow by one with each checkpoint, with a write beside each, in runs of their own."""
    config = thread(thread_id, ns)
    said: list[Any] = []
    made = []
    for turn in range(turns):
        said.append(HumanMessage(f"{thread_id} said {turn} " + "x" * 80, id=f"{turn}"))
        config = face.put(config, checkpoint(messages=said, turn=turn), {"step": turn, "run_id": f"run-{turn}"})
        face.put_writes(config, [("messages", said[-1]), ("note", "y" * 100)], f"task-{turn}", "~__pregel_pull, node")
        made.append(config)
    return made


def everything(face: Face, thread_id: str = "thread") -> Any:
    return [tuple_form(found) for found in face.list({"configurable": {"thread_id": thread_id}})]


def tables(path: str) -> dict[str, int]:
    """How many rows the tables of threads have; what is kept of the deleted is not counted."""
    with closing(sqlite3.connect(path)) as connection:
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {
            name: connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0]
            for name in names
            if name.startswith("durable_") and name not in ("durable_meta", "durable_tombstones")
        }


def stored_bytes(path: str) -> bytes:
    """The database with its write-ahead log."""
    return b"".join(part.read_bytes() for part in sorted(Path(path).parent.glob(Path(path).name + "*")))


# -- delete_thread -----------------------------------------------------------------------------------------------


def test_a_deleted_thread_is_gone(face: Face) -> None:
    """Nothing of a deleted thread is found, in any namespace, and other threads are as they were."""
    conversation(face)
    conversation(face, ns="inner")
    conversation(face, "other")
    before = everything(face, "other")
    face.call("delete_thread", "thread")
    assert everything(face) == []
    assert face.get_tuple(thread()) is face.get_tuple(thread(ns="inner")) is None
    assert everything(face, "other") == before
    face.call("delete_thread", "thread")
    face.call("delete_thread", "never there")
    assert everything(face, "other") == before


LATE: dict[str, Callable[[Face, list[RunnableConfig]], Any]] = {
    "put": lambda face, configs: face.put(configs[-1], checkpoint(messages=messages())),
    "put from the middle": lambda face, configs: face.put(configs[0], checkpoint(messages=messages())),
    "put again": lambda face, configs: face.put(
        configs[-2], checkpoint(configs[-1]["configurable"]["checkpoint_id"], messages=messages())
    ),
    "put_writes": lambda face, configs: face.put_writes(configs[-1], [("messages", messages()[0])], "late"),
    "put_writes to the middle": lambda face, configs: face.put_writes(configs[0], [("__error__", "late")], "late"),
}


@pytest.mark.parametrize("name", LATE)
def test_a_late_write_is_refused(face: Face, name: str) -> None:
    """What a run stores after its thread was deleted is ThreadDeletedError, every time, and the thread stays gone."""
    configs = conversation(face)
    face.call("delete_thread", "thread")
    for _ in range(2):
        with pytest.raises(ThreadDeletedError, match="'thread'"):
            LATE[name](face, configs)
    assert everything(face) == []
    assert face.list(None) == []


@pytest.mark.parametrize("name", LATE)
def test_a_late_write_of_another_saver_is_refused(path: str, open_face: Callable[..., Face], name: str) -> None:
    """A saver that knew the thread before another one deleted it does not bring it back either."""
    ours, theirs = open_face(path), open_face(path)
    configs = conversation(ours)
    assert len(theirs.list(thread())) == 3
    theirs.call("delete_thread", "thread")
    with pytest.raises(ThreadDeletedError):
        LATE[name](ours, configs)
    assert ours.list(None) == theirs.list(None) == []
    assert set(tables(path).values()) == {0}


@pytest.mark.parametrize("name", LATE)
def test_a_late_write_after_the_thread_was_used_again(face: Face, name: str) -> None:
    """A new run may use the id of a deleted thread at once, and a write of the old run is still refused."""
    old = conversation(face)
    face.call("delete_thread", "thread")
    new = conversation(face, turns=2)
    before = everything(face)
    assert [found.config for found in face.list(thread())] == new[::-1]
    with pytest.raises(ThreadDeletedError):
        LATE[name](face, old)
    assert everything(face) == before
    face.put(new[-1], checkpoint(messages=messages()))
    assert form(face.messages(thread())) == form(messages())


def test_the_bytes_of_a_deleted_thread_leave_the_file(path: str, open_face: Callable[..., Face]) -> None:
    """After `delete_thread` no table has a row of it, and no byte of its texts is in the file or its log."""
    face = open_face(path)
    secret = "a secret that must go"
    config = face.put(thread(), checkpoint(messages=[HumanMessage(secret * 30)], one=secret * 3, few=secret))
    face.put_writes(config, [("messages", [HumanMessage(secret)]), ("few", secret)], "task")
    face.put(config, checkpoint(messages=[HumanMessage(secret), HumanMessage("more")]), {"note": secret})
    assert secret.encode() in stored_bytes(path)
    face.call("delete_thread", "thread")
    assert set(tables(path).values()) == {0}
    assert secret.encode() not in stored_bytes(path)


# -- copy_thread -------------------------------------------------------------------------------------------------


def test_a_copy_has_everything(face: Face) -> None:
    """A copy has the checkpoints, the parents, the metadata, the writes and the order of its source."""
    configs = conversation(face)
    face.put(configs[0], checkpoint("0 older", **values()), {"step": 9, "odd": {1, 2}})
    conversation(face, ns="inner:1")
    source = face.list({"configurable": {"thread_id": "thread"}})
    face.call("copy_thread", "thread", "copy")
    copied = face.list({"configurable": {"thread_id": "copy"}})
    assert len(copied) == len(source) == 7

    for config in [each.config for each in source] + [each.parent_config for each in source if each.parent_config]:
        config["configurable"]["thread_id"] = "copy"
    assert [tuple_form(each) for each in copied] == [tuple_form(each) for each in source]
    assert face.values(thread("copy")) == face.values(thread())


def test_a_copy_is_independent(face: Face) -> None:
    """What happens to a thread or to its copy happens to that one alone."""
    configs = conversation(face)
    face.call("copy_thread", "thread", "copy")
    source, copied = everything(face), everything(face, "copy")
    newest = thread("copy", checkpoint_id=configs[-1]["configurable"]["checkpoint_id"])
    face.put_writes(newest, [("messages", "only here")], "task-9")
    face.put(newest, checkpoint(messages=messages()))
    assert everything(face) == source
    face.call("prune", ["copy"])
    assert everything(face) == source
    assert form(face.messages(thread("copy"))) == form(messages())
    face.call("copy_thread", "thread", "second")
    face.call("delete_thread", "thread")
    assert form(face.messages(thread("copy"))) == form(messages())
    assert len(everything(face, "second")) == len(copied)
    face.call("delete_thread", "copy")
    assert len(everything(face, "second")) == len(copied)


def test_a_copy_goes_on(face: Face) -> None:
    """A copy can be continued at once, in its own thread, with what the source remembers in this process."""
    configs = conversation(face)
    said = face.messages(thread())
    face.call("copy_thread", "thread", "copy")
    newest = thread("copy", checkpoint_id=configs[-1]["configurable"]["checkpoint_id"])
    face.put(newest, checkpoint(messages=[*said, HumanMessage("in the copy", id="c")]))
    assert [message.id for message in face.messages(thread("copy"))] == ["0", "1", "2", "c"]
    assert [message.id for message in face.messages(thread())] == ["0", "1", "2"]


@pytest.mark.parametrize("target", ["other", "thread"])
def test_a_copy_does_not_overwrite(face: Face, target: str) -> None:
    """Copying to a thread that has checkpoints is refused, and changes neither."""
    conversation(face)
    conversation(face, "other", turns=1)
    before = everything(face), everything(face, "other")
    with pytest.raises(InvalidRequestError, match=f"'{target}'"):
        face.call("copy_thread", "thread", target)
    assert (everything(face), everything(face, "other")) == before


def test_a_copy_of_nothing(face: Face) -> None:
    """The copy of a thread that is not there is not there either."""
    face.call("copy_thread", "nothing", "copy")
    assert face.list(None) == []
    conversation(face, "copy", turns=1)
    assert len(everything(face, "copy")) == 1


def test_a_copy_to_a_deleted_thread(face: Face) -> None:
    """A thread that was deleted can be the target of a copy of what it once was copied from, and goes on."""
    configs = conversation(face)
    face.call("copy_thread", "thread", "copy")
    face.call("delete_thread", "copy")
    assert everything(face, "copy") == []
    face.call("copy_thread", "thread", "copy")
    newest = thread("copy", checkpoint_id=configs[-1]["configurable"]["checkpoint_id"])
    face.put_writes(newest, [("note", 1)], "task")
    face.put(newest, checkpoint(messages=messages()))
    assert len(everything(face, "copy")) == 4


# -- delete_for_runs and prune -----------------------------------------------------------------------------------


def test_delete_for_runs(face: Face) -> None:
    """The checkpoints of the named runs are gone in every thread and namespace, and the others can all be read."""
    conversation(face)
    conversation(face, ns="inner")
    conversation(face, "other")
    kept = [found for found in everything(face) if (str, "run-1") not in flat(found)]
    face.call("delete_for_runs", ["run-1", "no such run"])
    assert everything(face) == kept
    assert [found.metadata["step"] for found in face.list(None)] == [2, 0] * 3
    assert [message.id for message in face.messages(thread())] == ["0", "1", "2"]
    face.call("delete_for_runs", ["run-0", "run-2"])
    assert face.list(None) == []


def flat(part: Any) -> list[Any]:
    """Every tuple inside a form."""
    return [part, *(deeper for inner in part if isinstance(inner, tuple) for deeper in flat(inner))]


def test_delete_for_no_runs(face: Face) -> None:
    """Without run ids, or with unknown ones, nothing is deleted."""
    conversation(face)
    before = everything(face)
    face.call("delete_for_runs", [])
    face.call("delete_for_runs", ["", "run", "run-", "run_1", "%"])
    assert everything(face) == before


def test_a_run_that_was_deleted_cannot_go_on(face: Face) -> None:
    """Writes to a checkpoint that `delete_for_runs` took away are refused; its thread goes on from what is left."""
    configs = conversation(face)
    face.call("delete_for_runs", ["run-2"])
    with pytest.raises(ThreadDeletedError):
        face.put_writes(configs[2], [("messages", 1)], "late")
    with pytest.raises(ThreadDeletedError):
        face.put(configs[2], checkpoint(messages=[]))
    face.put_writes(configs[1], [("note", "on time")], "task-9")
    face.put(configs[1], checkpoint(messages=messages()), {"run_id": "run-3"})
    assert [found.metadata["run_id"] for found in face.list(thread())] == ["run-3", "run-1", "run-0"]
    assert form(face.messages(thread())) == form(messages())


def test_prune_keeps_the_latest_of_each_namespace(face: Face) -> None:
    """`keep_latest` leaves of each namespace the checkpoint put last, with its writes, and other threads alone."""
    conversation(face)
    conversation(face, ns="inner:1|deep:2")
    conversation(face, "other")
    face.put(thread(), checkpoint("0 older than all", messages=messages()))
    expected = [tuple_form(face.get_tuple(thread(ns=ns))) for ns in ("", "inner:1|deep:2")]
    other = everything(face, "other")
    face.call("prune", ["thread", "no such thread"], strategy="keep_latest")
    assert everything(face) == expected
    assert everything(face, "other") == other
    face.call("prune", ["thread"])
    assert everything(face) == expected


def test_prune_can_delete(face: Face) -> None:
    """The strategy `delete` deletes the threads named, and no others."""
    for name in ("a", "b", "c"):
        conversation(face, name)
    face.call("prune", [], strategy="delete")
    face.call("prune", ["a", "c", "no such thread"], strategy="delete")
    assert {found.config["configurable"]["thread_id"] for found in face.list(None)} == {"b"}


def test_a_pruned_thread_goes_on(face: Face) -> None:
    """After `keep_latest` a run goes on where it was, and everything it stores can be read."""
    configs = conversation(face, turns=70)
    said = face.messages(thread())
    face.call("prune", ["thread"])
    face.put_writes(configs[-1], [("note", "after")], "task-99", "~~")
    said[3].content = "changed"
    config = face.put(configs[-1], checkpoint(messages=[*said[:50], HumanMessage("after", id="after")]))
    assert [message.id for message in face.messages(config)] == [*map(str, range(50)), "after"]
    assert face.messages(config)[3].content == "changed"
    found = face.get_tuple(configs[-1])
    assert found is not None
    assert [message.id for message in found.checkpoint["channel_values"]["messages"]] == [*map(str, range(70))]
    assert [task for task, _, _ in found.pending_writes or ()] == ["task-69", "task-69", "task-99"]
    assert found.parent_config is not None
    assert face.get_tuple(found.parent_config) is None


def test_prune_takes_unnamed_chunks_away(path: str, open_face: Callable[..., Face]) -> None:
    """What only pruned checkpoints named leaves the file, what the latest names stays."""
    face = open_face(path)
    first = face.put(thread(), checkpoint(messages=[HumanMessage("gone " * 50), HumanMessage("stays " * 50)]))
    face.put_writes(first, [("messages", [HumanMessage("also gone " * 50)])], "task")
    face.put(first, checkpoint(messages=[HumanMessage("stays " * 50)]))
    assert tables(path)["durable_chunks"] == 3
    face.call("prune", ["thread"])
    assert tables(path)["durable_chunks"] == 1
    assert b"gone gone" not in stored_bytes(path)
    assert b"stays stays" in stored_bytes(path)
    assert [message.content for message in face.messages(thread())] == ["stays " * 50]


def test_prune_while_another_saver_writes(shared: str, open_face: Callable[..., Face]) -> None:
    """A saver whose thread another one pruned stores its next checkpoint in full, from what is stored now."""
    ours, theirs = open_face(shared), open_face(shared)
    configs = conversation(ours, turns=5)
    said = ours.messages(thread())
    theirs.call("prune", ["thread"])
    config = ours.put(configs[-1], checkpoint(messages=[*said, HumanMessage("after", id="after")]))
    ours.put_writes(config, [("messages", said[0])], "task")
    for face in (ours, theirs):
        found = face.get_tuple(thread())
        assert found is not None
        assert [message.id for message in found.checkpoint["channel_values"]["messages"]] == [*"01234", "after"]
        assert form(found.pending_writes) == form([("task", "messages", said[0])])


def test_keys_that_go_to_others(shared: str, open_face: Callable[..., Face]) -> None:
    """What a saver knows of a thread that another one deleted is of no use for the thread that gets its place."""
    first, second = open_face(shared), open_face(shared)
    common, kept = {"k": "the same everywhere " * 5}, first.put(thread("keep"), checkpoint(a={"k": "0" * 100}))
    gone = first.put(thread("gone"), checkpoint(a={"k": "1" * 100}))
    first.put(gone, checkpoint(a=common))
    second.call("delete_thread", "gone")
    for secret in ("q" * 100, "secret " * 20):
        kept = second.put(kept, checkpoint(a={"secret": secret}))
    new = first.put(thread("new"), checkpoint(a={"k": "n" * 100}))
    new = first.put(new, checkpoint(a=common))
    assert open_face(shared).values(new) == {"a": common}
    assert open_face(shared).values(kept) == {"a": {"secret": "secret " * 20}}
