"""The conversation as it was said can be had back, whatever a compression, the app or a fork has made of the state."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.messages import AIMessage, AnyMessage, BaseMessage, HumanMessage, RemoveMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph

from langgraph_durable import InvalidRequestError, durable
from langgraph_durable.context import (
    ClearToolResults,
    ContextNode,
    DropOldest,
    Shrink,
    Stage,
    Summarize,
    afull_history,
    full_history,
)
from langgraph_durable.context.node import Persist
from tests.conftest import Face, thread
from tests.talks import ids, says, turns
from tests.test_context_node import State, deltas, graph_of

Loop = asyncio.AbstractEventLoop | None


def history(loop: Loop, graph_or_saver: Any, config: RunnableConfig, **options: Any) -> list[BaseMessage]:
    """`full_history`, in one form or the other."""
    if loop is None:
        return full_history(graph_or_saver, config, **options)
    return loop.run_until_complete(afull_history(graph_or_saver, config, **options))


def talk(saver: Any, persist: Persist = "replace", state: Any = State) -> Any:
    """A graph that compresses by every stage, and answers."""
    stages: list[Stage] = [Summarize(says("S.")), DropOldest(), Shrink()]
    node = ContextNode(budget=("tokens", 500), stages=stages, persist=persist)
    return graph_of(node, state, saver, says("Fine."))


def said(count: int, first: int = 0) -> list[BaseMessage]:
    """Requests, each with an id of its own."""
    return [
        HumanMessage(f"Question {number} ".ljust(300, "x"), id=f"q{number}") for number in range(first, first + count)
    ]


@pytest.mark.parametrize("persist", ["replace", "view"])
def test_across_compressions(face: Face, persist: Persist) -> None:
    """All requests and answers come back in their order, of the graph and of its saver; a summary is none of them."""
    graph = talk(face.saver, persist)
    for one in said(20):
        graph.invoke({"messages": [one]}, thread())
    for source in (graph, face.saver):
        found = history(face.loop, source, thread())
        assert [message for message in found if message.type == "human"] == said(20)
        assert [message.content for message in found if message.type == "ai"] == ["Fine."] * 20
        assert [message.type for message in found] == ["human", "ai"] * 20


def test_what_was_edited_by_a_compression(face: Face) -> None:
    """A result that was cleared is there with its content."""
    graph = graph_of(ContextNode(budget=("tokens", 600)), State, face.saver)
    given = turns(6)
    for turn in range(1, len(given), 4):
        graph.invoke({"messages": given[turn - 1 if turn == 1 else turn : turn + 4]}, thread())
    assert graph.get_state(thread()).values["messages"] != given
    assert history(face.loop, graph, thread()) == given


def test_what_the_app_edited(face: Face) -> None:
    """The app's own edit counts, and what it has removed was said all the same."""
    graph = talk(face.saver)
    graph.invoke({"messages": said(1)}, thread())
    better = HumanMessage("Better", id="q0")
    graph.update_state(thread(), {"messages": [better]})
    graph.invoke({"messages": said(1, 1)}, thread())
    graph.update_state(thread(), {"messages": [RemoveMessage(id="q1")]})
    for one in said(10, 2):
        graph.invoke({"messages": [one]}, thread())
    found = history(face.loop, graph, thread())
    assert found[0] == better
    assert [one for one in ids(found) if str(one).startswith("q")] == [f"q{number}" for number in range(12)]


def test_what_the_app_took_out_of_an_edited_message(face: Face) -> None:
    """A message that the app has changed after a compression edited it is as the app left it."""
    node = ContextNode(budget=("tokens", 600), target=1.0, stages=[ClearToolResults(keep=1)])
    graph = graph_of(node, State, face.saver)
    graph.invoke({"messages": turns(6)}, thread())
    cleared = graph.get_state(thread()).values["messages"][3]
    assert "cleared" in str(cleared.content)
    redacted = cleared.model_copy(update={"content": "[redacted]"})
    graph.update_state(thread(), {"messages": [redacted]})
    assert history(face.loop, graph, thread())[3] == redacted


def test_across_forks(face: Face) -> None:
    """It follows the way that led to a checkpoint: other branches are not in it, and a copy has its past."""
    graph = talk(face.saver)
    for one in said(12):
        graph.invoke({"messages": [one]}, thread())
    middle = next(one for one in face.list(thread()) if one.metadata["source"] == "input" and one.metadata["step"] < 20)
    before = history(face.loop, graph, middle.config)
    kept = [one for one in ids(before) if str(one).startswith("q")]
    assert 0 < len(kept) < 12
    graph.invoke({"messages": said(1, 99)}, middle.config)
    branch = [one for one in ids(history(face.loop, graph, thread())) if str(one).startswith("q")]
    assert branch == [*kept, "q99"]
    app = durable(graph)
    app.fork("thread", to="copy")
    copied = history(face.loop, app, thread("copy"))
    assert [one for one in ids(copied) if str(one).startswith("q")] == branch
    assert all("x" * 100 in str(message.content) for message in copied if message.type == "human")


def test_after_pruning(face: Face) -> None:
    """What only pruned checkpoints had is gone, and its summary is there instead."""
    graph = talk(face.saver)
    for one in said(12):
        graph.invoke({"messages": [one]}, thread())
    face.call("prune", ["thread"])
    found = history(face.loop, graph, thread())
    assert found == graph.get_state(thread()).values["messages"]
    assert "S." in str(found[0].content)


def test_deltas(loop: Loop) -> None:
    """Messages in a DeltaChannel are put together by the graph; a saver alone says that it cannot."""
    saver = InMemorySaver()
    graph = talk(saver, state=deltas())
    for one in said(12):
        graph.invoke({"messages": [one]}, thread())
    found = history(loop, graph, thread())
    assert [one for one in found if one.type == "human"] == said(12)
    with pytest.raises(InvalidRequestError, match="give the graph"):
        history(loop, saver, thread())


class Listed(TypedDict):
    """A state whose messages no reducer gives ids."""

    messages: list[Any]


@pytest.mark.parametrize("form", ["messages", "tuples"])
def test_messages_without_ids(loop: Loop, form: str) -> None:
    """They come back as long as nothing was left out, and then it is said that nobody can tell them apart."""
    builder = StateGraph(Listed)
    builder.add_node("context", ContextNode(budget=("tokens", 500)))
    builder.add_node("answer", lambda state: {"messages": [*state["messages"], AIMessage("Fine.")]})
    builder.add_edge(START, "context").add_edge("context", "answer")
    graph: Any = builder.compile(checkpointer=InMemorySaver())
    asked: list[Any] = [(message.type, message.text) for message in said(12)]
    if form == "messages":
        asked = [message.model_copy(update={"id": None}) for message in said(12)]
    graph.invoke({"messages": asked[:3]}, thread("short"))
    assert [message.text for message in history(loop, graph, thread("short"))] == [
        *(message.text for message in said(3)),
        "Fine.",
    ]
    graph.invoke({"messages": asked}, thread("long"))
    with pytest.raises(InvalidRequestError, match="no ids"):
        history(loop, graph, thread("long"))


@pytest.mark.parametrize("thread_id", [5, 0])
def test_a_thread_that_is_a_number(loop: Loop, thread_id: int) -> None:
    """LangGraph takes numbers for threads as well."""
    graph = talk(InMemorySaver())
    graph.invoke({"messages": said(2)}, {"configurable": {"thread_id": thread_id}})
    assert len(history(loop, graph, {"configurable": {"thread_id": thread_id}})) == 3


def test_other_fields_and_namespaces(loop: Loop) -> None:
    """The messages of a field of another name, and of a subgraph by its namespace."""

    class Talk(TypedDict):
        talk: Annotated[list[AnyMessage], lambda old, new: [*old, *new]]

    def inner_node(state: Any) -> Any:
        return {"talk": [AIMessage("Inner.", id="inner")]}

    inner = StateGraph(Talk)
    inner.add_node("say", inner_node)
    inner.add_edge(START, "say")
    outer = StateGraph(Talk)
    outer.add_node("sub", inner.compile())
    outer.add_edge(START, "sub")
    saver = InMemorySaver()
    graph = outer.compile(checkpointer=saver)
    graph.invoke({"talk": [HumanMessage("Outer.", id="outer")]}, thread())
    nested = next(one.config for one in saver.list(None) if one.config["configurable"]["checkpoint_ns"])
    nested["configurable"].pop("checkpoint_id")
    assert ids(history(loop, saver, nested, messages_key="talk")) == ["outer", "inner"]
    assert ids(history(loop, graph, thread(), messages_key="talk"))[0] == "outer"


def test_what_cannot_be_asked_for(loop: Loop) -> None:
    """No saver, no thread, a checkpoint that is not there: each is said. A thread that is not there said nothing."""
    graph = graph_of(ContextNode(budget=("tokens", 600)))
    for source in (graph, "agent.db", None):
        with pytest.raises(InvalidRequestError, match="checkpointer"):
            history(loop, source, thread())
    saver = InMemorySaver()
    with pytest.raises(InvalidRequestError, match="names no thread"):
        history(loop, saver, {"configurable": {}})
    with pytest.raises(InvalidRequestError, match="names no thread"):
        full_history(saver, "thread")  # type: ignore[arg-type]  # what is checked
    assert history(loop, saver, thread()) == []
    with pytest.raises(InvalidRequestError, match="has no checkpoint"):
        history(loop, saver, thread(checkpoint_id="1ef"))
