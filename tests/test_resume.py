"""Runs go on where they stopped: after an error, an interrupt, a prune, in another process, from another form."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command, interrupt

from langgraph_durable import ThreadDeletedError
from tests.conftest import Face, saver_at, thread
from tests.graphs import DURABILITIES, Durability, Running, nameless, official
from tests.scenarios import State, failure
from tests.shapes import form


def asking(saver: Any, ran: list[str]) -> Any:
    """A node that is done at once beside one that asks, and one after both."""

    def done(state: State) -> dict[str, Any]:
        ran.append("done")
        return {"log": ["done", "x" * 200]}

    def ask(state: State) -> dict[str, Any]:
        ran.append("ask")
        return {"log": [f"answer {interrupt('well?')}"]}

    def after(state: State) -> dict[str, Any]:
        ran.append("after")
        return {"last": len(state["log"])}

    builder = StateGraph(State)
    for node in (done, ask, after):
        builder.add_node(node)
    builder.add_edge(START, "done")
    builder.add_edge(START, "ask")
    builder.add_edge(["done", "ask"], "after")
    return builder.compile(checkpointer=saver)


DONE = {"log": ["in", "answer yes", "done", "x" * 200], "last": 4, "total": 0}


@pytest.mark.parametrize("durability", DURABILITIES)
def test_who_finished_is_not_run_again_after_an_error(face: Face, durability: Durability) -> None:
    """When one of several fails, the others' results are kept, and only the one that failed is run at the next try."""
    graph, act = failure(face.saver)
    told = act(Running(graph, face.loop, durability))
    first = ["packet 1", "packet 2", "steady", "unsteady"]
    assert told[1] == (("unsteady",), first)
    assert told[3] == (("unsteady",), [*first, "unsteady"])
    assert told[5] == ((), [*first, "unsteady", "unsteady"])
    assert told[4]["last"] == ["input", "steady", "unsteady", 1, 2]


@pytest.mark.parametrize("durability", DURABILITIES)
def test_an_error_can_be_seen_in_the_state(face: Face, durability: Durability) -> None:
    """The state of a run that failed says which node it was and with which error, until it went on."""
    graph, act = failure(face.saver)
    running = Running(graph, face.loop, durability)
    with pytest.raises(ValueError, match="not now"):
        running.invoke({"log": []}, {**running.config, "max_concurrency": 1})
    failed = [(task.name, str(task.error)) for task in running.state().tasks if task.error]
    assert failed == [("unsteady", "ValueError('not now')")]
    act(running)
    assert [task.error for task in running.state().tasks] == []


@pytest.mark.parametrize("durability", DURABILITIES)
def test_who_finished_is_not_run_again_after_an_interrupt(face: Face, durability: Durability) -> None:
    """A resumed run asks again, and does not run again what was done beside the question."""
    ran: list[str] = []
    running = Running(asking(face.saver, ran), face.loop, durability)
    running.invoke({"log": ["in"]})
    assert running.state().next == ("ask",)
    assert running.invoke(Command(resume="yes")) == DONE
    assert sorted(ran) == ["after", "ask", "ask", "done"]


@pytest.mark.parametrize("durability", DURABILITIES)
def test_prune_keeps_what_an_interrupt_needs(face: Face, durability: Durability) -> None:
    """A run that waits is pruned to its latest checkpoint, resumes, and does not run again what was done."""
    ran: list[str] = []
    running = Running(asking(face.saver, ran), face.loop, durability)
    running.invoke({"log": ["in"]})
    running.invoke(Command(resume="yes"))
    running.invoke({"log": ["in"]})
    before = form(running.state())
    ran.clear()
    face.call("prune", ["thread"])
    assert len(running.history()) == 1
    assert nameless(form(running.state().values)) == nameless(before[1][0])
    running.invoke(Command(resume="again"))
    assert sorted(ran) == ["after", "ask"]


def test_a_copy_of_a_run_that_waits(face: Face) -> None:
    """A thread that waits can be copied, and each copy be answered by itself."""
    running = Running(asking(face.saver, []), face.loop, "sync")
    running.invoke({"log": ["in"]})
    face.call("copy_thread", "thread", "copy")
    copy = Running(running.graph, face.loop, "sync", "copy")
    assert copy.invoke(Command(resume="other"))["log"][1] == "answer other"
    assert running.state().next == ("ask",)
    assert running.invoke(Command(resume="yes")) == DONE


@pytest.mark.parametrize("durability", DURABILITIES)
def test_a_new_saver_goes_on(shared: str, open_face: Callable[..., Face], durability: Durability) -> None:
    """Each step of a run may be made by a saver that has just opened the database."""
    ran: list[str] = []

    def step(value: Any) -> Any:
        face = open_face(shared)
        answer = Running(asking(face.saver, ran), face.loop, durability).invoke(value)
        face.saver.close()
        return answer

    step({"log": ["in"]})
    assert step(Command(resume="yes")) == DONE
    assert step({"log": ["in"]})["log"][:4] == DONE["log"]
    assert len(step(Command(resume="yes"))["log"]) == 8
    assert sorted(ran) == sorted(["done", "ask", "ask", "after"] * 2)


def test_the_forms_take_turns(place: str) -> None:
    """A run that was begun in the blocking form goes on in a loop, and the other way round."""
    loop = asyncio.new_event_loop()
    try:
        with saver_at(place) as saver:
            ran: list[str] = []
            graph = asking(saver, ran)
            forms = Running(graph, None, "sync"), Running(graph, loop, "sync")
            for first, second in (forms, forms[::-1]):
                first.invoke({"log": ["in"]})
                assert second.state().next == ("ask",)
                second.invoke(Command(resume="yes"))
            assert form(forms[0].state().values) == form(forms[1].state().values)
            assert sorted(ran) == sorted(["done", "ask", "ask", "after"] * 2)
    finally:
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


def test_a_thread_that_is_deleted_under_its_run(face: Face) -> None:
    """A run whose thread is deleted meanwhile ends with ThreadDeletedError; a new run on the thread works."""

    def delete(state: State) -> dict[str, Any]:
        if "stay" not in state["log"]:
            face.saver.delete_thread("thread")
        return {"log": ["went on"]}

    builder = StateGraph(State).add_node(delete).add_node("more", lambda state: {"total": 1})
    graph = builder.add_edge(START, "delete").add_edge("delete", "more").compile(checkpointer=face.saver)
    running = Running(graph, face.loop, "sync")
    with pytest.raises(ThreadDeletedError):
        running.invoke({"log": ["go"]})
    assert face.list(None) == []
    assert running.invoke({"log": ["stay"]})["total"] == 1


def test_a_node_that_changes_its_state_in_place(face: Face) -> None:
    """What a node changed in a message of its state without returning it is in the next checkpoint, as officially."""

    def sneak(state: MessagesState) -> dict[str, Any]:
        state["messages"][0].additional_kwargs.setdefault("seen", []).append(len(state["messages"]))
        state["messages"][-1].content = f"edited {state['messages'][-1].content}"
        return {}

    def answer(state: MessagesState) -> dict[str, Any]:
        return {"messages": [AIMessage([{"type": "text", "text": "a"}], id=f"a{len(state['messages'])}")]}

    def touch(state: MessagesState) -> dict[str, Any]:
        state["messages"][-1].content[0]["text"] += " touched"  # type: ignore[index]
        return {"messages": []}

    def happened(saver: Any) -> Any:
        builder = StateGraph(MessagesState).add_node(sneak).add_node(answer).add_node(touch)
        builder.add_edge(START, "sneak").add_edge("sneak", "answer").add_edge("answer", "touch")
        running = Running(builder.compile(checkpointer=saver), face.loop, "sync")
        for turn in range(3):
            running.invoke({"messages": [HumanMessage(f"h{turn}", id=f"h{turn}")]})
        # Not the pending writes: LangGraph stores those in the background, while the next node is editing already.
        return nameless([(found.metadata, found.checkpoint["channel_values"]) for found in running.stored()])

    ours = happened(face.saver)
    with official(face.loop) as reference:
        assert ours == happened(reference)
    texts = [message.content for message in face.messages(thread())]
    assert texts == [part for turn in range(3) for part in (f"edited h{turn}", [{"type": "text", "text": "a touched"}])]
