"""What is put comes back: checkpoints and their pending writes, in both forms, over a file and over memory."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base.id import uuid6
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Interrupt, Send

from langgraph_durable import SqliteSaver
from tests.conftest import Face, checkpoint, thread
from tests.graphs import official
from tests.samples import messages, values
from tests.shapes import form

# -- round trips -------------------------------------------------------------------------------------------------


def test_checkpoint_comes_back(face: Face) -> None:
    """Every part of a checkpoint, of every type and under every name, is what LangGraph's own saver gives back."""
    made = checkpoint(**values())
    made["versions_seen"] = {"__input__": {}, "node": {"messages": "1.5", "text": "1"}}
    made["updated_channels"] = ["messages", "text"]
    saved = face.put(thread(), made)
    assert saved == thread(checkpoint_id=made["id"])
    reference = InMemorySaver()
    reference.put(thread(), made, {"source": "loop", "step": 0, "parents": {}}, made["channel_versions"])
    expected = reference.get_tuple(thread())
    assert expected is not None
    for found in (face.get_tuple(saved), face.get_tuple(thread()), *face.list(thread())):
        assert found is not None
        assert form(found.checkpoint["channel_values"]) == form(expected.checkpoint["channel_values"])
        assert {**found.checkpoint, "channel_values": None} == {**made, "channel_values": None}
        assert found.config == saved
        assert found.parent_config is None
        assert found.pending_writes == []
        assert found.metadata == {"source": "loop", "step": 0, "parents": {}}
    assert len(face.list(thread())) == 1


def test_channels_keep_their_order(face: Face) -> None:
    """The channels of a checkpoint come back in the order in which they were put."""
    names = ["zebra", "ant", "messages", "0", "Ü", ""]
    face.put(thread(), checkpoint(**{name: [name] for name in names}))
    assert list(face.values(thread())) == names


def test_parts_of_a_checkpoint_that_nobody_knows_yet(face: Face) -> None:
    """Keys that a later LangGraph may add to a checkpoint are kept, and so are those of an earlier one."""
    made: Any = {**checkpoint(a=1), "pending_sends": [Send("node", 1)], "added later": {"x": [1]}}
    face.put(thread(), made)
    found = face.get_tuple(thread())
    assert found is not None
    assert found.checkpoint == made


def test_nothing_is_found_where_nothing_was_put(face: Face) -> None:
    """A thread, a namespace and a checkpoint that are not there are None, and list nothing."""
    face.put(thread(), checkpoint(a=1))
    for config in (thread("other"), thread(ns="inner"), thread(checkpoint_id=str(uuid6()))):
        assert face.get_tuple(config) is None
        assert face.call("get", config) is None
        assert face.list(config) == []


def test_get_is_the_checkpoint_alone(face: Face) -> None:
    """`get` answers the checkpoint of the tuple that `get_tuple` answers."""
    face.put(thread(), checkpoint(a=[1]))
    found = face.get_tuple(thread())
    assert found is not None
    assert face.call("get", thread()) == found.checkpoint


def test_parents(face: Face) -> None:
    """The checkpoint that the config of a put named is the parent of what was put."""
    first = face.put(thread(), checkpoint(a=1))
    second = face.put(first, checkpoint(a=2))
    fork = face.put(first, checkpoint(a=3))
    found = {str(each.config): each.parent_config for each in face.list(thread())}
    assert found == {str(first): None, str(second): first, str(fork): first}


def test_thread_ids_that_are_not_text(face: Face) -> None:
    """A thread id that is a number or a UUID is the same thread as its text."""
    for given_id in (7, UUID(int=7)):
        face.put({"configurable": {"thread_id": given_id, "checkpoint_ns": ""}}, checkpoint(a=str(given_id)))
        assert face.values(thread(str(given_id))) == {"a": str(given_id)}
        assert face.values({"configurable": {"thread_id": given_id}}) == {"a": str(given_id)}


def test_thread_ids_of_any_text(face: Face) -> None:
    """Threads whose ids only differ by case, space, quotes, zero bytes or composition are different threads."""
    ids = ["a", "A", "a ", "", "a'; --", "a%", "a_", 'a"', "a\0", "a\0b", "\u00e9", "e\u0301", "\U0001f600", "x" * 5000]
    for number, thread_id in enumerate(ids):
        face.put(thread(thread_id), checkpoint(number=number))
    assert [face.values(thread(thread_id))["number"] for thread_id in ids] == list(range(len(ids)))
    assert sorted(each.config["configurable"]["thread_id"] for each in face.list(None)) == sorted(ids)


def test_namespaces(face: Face) -> None:
    """Each namespace has checkpoints of its own, also under the same ids; a config without one means the outermost."""
    names = ["", "inner", "inner:1", "inner:1|deep:2", "INNER", "inner|"]
    made = [checkpoint("same", ns=ns) for ns in names]
    for ns, each in zip(names, made, strict=True):
        assert face.put(thread(ns=ns), each) == thread(ns=ns, checkpoint_id="same")
    for ns in names:
        assert face.values(thread(ns=ns)) == face.values(thread(ns=ns, checkpoint_id="same")) == {"ns": ns}
        assert [each.config for each in face.list(thread(ns=ns))] == [thread(ns=ns, checkpoint_id="same")]
    assert face.values({"configurable": {"thread_id": "thread"}}) == {"ns": ""}
    everywhere = face.list({"configurable": {"thread_id": "thread"}})
    assert [each.config["configurable"]["checkpoint_ns"] for each in everywhere] == names[::-1]


def test_put_twice(face: Face) -> None:
    """A checkpoint that is put again has its new contents, its old writes, and its old place in the order."""
    first = face.put(thread(), checkpoint("b", messages=messages()[:1], gone=1), {"step": 1})
    face.put_writes(first, [("messages", messages()[1])], "task")
    second = face.put(first, checkpoint("a", messages=messages()[:2]), {"step": 2})
    assert face.put(thread(), checkpoint("b", messages=messages()[2:]), {"step": 3}) == first
    found = face.list(thread())
    assert [each.config for each in found] == [second, first]
    assert [each.metadata for each in found] == [{"step": 2}, {"step": 3}]
    assert form(found[1].checkpoint["channel_values"]) == form({"messages": messages()[2:]})
    assert form(found[1].pending_writes) == form([("task", "messages", messages()[1])])
    assert form(face.messages(thread())) == form(messages()[:2])


def test_versions_are_those_of_the_official_saver(face: Face) -> None:
    """`get_next_version` counts as langgraph-checkpoint-sqlite does, from nothing, a number, or a version of either."""
    saver = face.saver
    first = saver.get_next_version(None, None)
    second = saver.get_next_version(first, None)
    assert [int(version.split(".")[0]) for version in (first, second)] == [1, 2]
    assert first < second
    assert saver.get_next_version(7, None).startswith(f"{8:032}.")  # type: ignore[arg-type]
    with official(None) as reference:
        theirs = reference.get_next_version(second, None)
        assert theirs.split(".")[0] == saver.get_next_version(second, None).split(".")[0]
        assert saver.get_next_version(theirs, None) > theirs


# -- pending writes ----------------------------------------------------------------------------------------------


def writes_of(face: Face, config: RunnableConfig) -> list[tuple[str, str, Any]]:
    found = face.get_tuple(config)
    assert found is not None
    assert found.pending_writes is not None
    return found.pending_writes


def test_writes_come_back(face: Face) -> None:
    """Writes of every type come back as they were put, with their task, from `get_tuple` and from `list`."""
    saved = face.put(thread(), checkpoint(a=1))
    every = values()
    face.put_writes(saved, list(every.items()), "task", "~__pregel_pull, node")
    face.put_writes(saved, [], "idle", "~__pregel_pull, idle")
    found = writes_of(face, saved)
    expected = [("task", name, value) for name, value in every.items()]
    assert form(found) == form(expected)
    assert form(face.list(thread())[0].pending_writes) == form(expected)


def test_the_first_write_stays(face: Face) -> None:
    """A task's write at an index stays when the task writes there again, and later indexes are added."""
    saved = face.put(thread(), checkpoint(a=1))
    face.put_writes(saved, [("a", "first"), ("b", "first")], "task")
    face.put_writes(saved, [("b", "second"), ("a", "second"), ("c", "second")], "task")
    face.put_writes(saved, [("a", "another's")], "other")
    assert writes_of(face, saved) == [
        ("other", "a", "another's"),
        ("task", "a", "first"),
        ("task", "b", "first"),
        ("task", "c", "second"),
    ]


@pytest.mark.parametrize("channel", ["__error__", "__scheduled__", "__interrupt__", "__resume__"])
def test_special_channels_replace(face: Face, channel: str) -> None:
    """A write to a special channel takes the place of the one before it, and leaves other writes alone."""
    saved = face.put(thread(), checkpoint(a=1))
    face.put_writes(saved, [("a", 1)], "task")
    face.put_writes(saved, [(channel, ["old", "x" * 200])], "task")
    face.put_writes(saved, [(channel, ["new", "x" * 200])], "task")
    assert sorted(writes_of(face, saved)) == [("task", channel, ["new", "x" * 200]), ("task", "a", 1)]


def test_writes_are_in_the_order_in_which_they_are_applied(face: Face) -> None:
    """Pending writes are ordered by task path, task id and index, whatever the order in which they arrived."""
    saved = face.put(thread(), checkpoint(a=1))
    calls = [
        ("task-3", "~__pregel_pull, b"),
        ("task-1", "~__pregel_push, 0000000001"),
        ("task-9", "~__pregel_pull, a"),
        ("task-2", "~__pregel_push, 0000000000"),
        ("task-4", "~__pregel_pull, b"),
        ("input", ""),
    ]
    for task_id, task_path in calls:
        face.put_writes(
            saved, [("x", task_id), ("__interrupt__", (Interrupt(task_id, id="i"),)), ("y", 1)], task_id, task_path
        )
    ordered = [call[0] for call in sorted(calls, key=lambda call: (call[1], call[0]))]
    assert [(task, channel) for task, channel, _ in writes_of(face, saved)] == [
        (task_id, channel) for task_id in ordered for channel in ("__interrupt__", "x", "y")
    ]


def test_writes_before_their_checkpoint(face: Face) -> None:
    """Writes may come before their checkpoint: they do not make it exist, and are there when it does."""
    early = checkpoint("early", a=1)
    face.put_writes(thread(checkpoint_id="early"), [("a", "waiting")], "task")
    assert face.get_tuple(thread(checkpoint_id="early")) is None
    assert face.get_tuple(thread()) is None
    assert face.list(thread()) == []
    first = face.put(thread(), checkpoint("first", a=0))
    saved = face.put(first, early)
    assert writes_of(face, saved) == [("task", "a", "waiting")]
    assert [each.config for each in face.list(thread())] == [saved, first]
    assert face.values(thread()) == {"a": 1}


def test_writes_of_one_namespace_are_not_those_of_another(face: Face) -> None:
    """Writes belong to the checkpoint of their own thread and namespace, though ids are the same."""
    places = [thread("t", "a"), thread("t", "b"), thread("u", "a")]
    for number, place in enumerate(places):
        saved = face.put(place, checkpoint("same"))
        face.put_writes(saved, [("x", number)], "task")
    assert [writes_of(face, place) for place in places] == [[("task", "x", number)] for number in range(3)]


CALLS = st.lists(
    st.tuples(
        st.sampled_from(["t1", "t2"]),
        st.sampled_from(["", "~__pregel_pull, n", "~__pregel_push, 0"]),
        st.lists(
            st.tuples(
                st.sampled_from(["a", "b", "__error__", "__interrupt__", "__resume__"]),
                st.one_of(st.integers(0, 9), st.just("long" * 50), st.just(["listed", "x" * 80])),
            ),
            max_size=3,
        ),
    ),
    max_size=6,
)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(calls=CALLS)
def test_any_writes_are_what_the_official_saver_has(
    calls: list[tuple[str, str, list[tuple[str, Any]]]], loop: Any
) -> None:
    """After any sequence of `put_writes` the pending writes are those of langgraph-checkpoint-sqlite."""
    saved = thread(checkpoint_id="a")
    with SqliteSaver(":memory:") as saver, official(None) as reference:
        face = Face(saver, loop)
        face.put(thread(), checkpoint("a"))
        reference.put(thread(), checkpoint("a"), {}, {})
        for task_id, task_path, writes in calls:
            face.put_writes(saved, writes, task_id, task_path)
            reference.put_writes(saved, writes, task_id, task_path)
        expected = reference.get_tuple(saved)
        assert expected is not None
        assert writes_of(face, saved) == expected.pending_writes
