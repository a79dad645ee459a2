"""What waits and cannot run as it was is found wherever it waits; what nobody is about to run is not taken for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.types import Command, interrupt

from langgraph_durable import EnvironmentChangedError, check_environment, durable, fingerprint
from langgraph_durable.core.environments import RECORD_HASH
from tests.conftest import Face, thread
from tests.graphs import Running
from tests.test_environment import agent, app, call, do, hello, search, send, wider

Build = Callable[..., Any]


def asks(state: Any) -> Any:
    """A node that waits for an answer."""
    interrupt("?")
    return {}


def refused(face: Face, graph: Any, match: str, **kwargs: Any) -> None:
    """The graph refuses to go on, though nothing else is decided about."""
    with pytest.raises(EnvironmentChangedError, match=match):
        do(face, graph, "resume", "thread", **kwargs)


def quiet(face: Face, *tools: Any, **options: Any) -> Any:
    """The agent that is asked about, with which only what is pending counts."""
    return app(face, *tools, review=True, on_change="ignore", **options)


def test_a_node_inside_of_a_subgraph(face: Face) -> None:
    """A node of a subgraph that waits and is gone is missed, where LangGraph would skip it."""

    def made(name: str) -> Any:
        inner = StateGraph(MessagesState)
        inner.add_node(name, asks)
        inner.add_edge(START, name)
        builder = StateGraph(MessagesState)
        builder.add_node("crew", inner.compile())
        builder.add_edge(START, "crew")
        return durable(builder.compile(checkpointer=face.saver), on_change="ignore")

    hello(face, made("review"))
    refused(face, made("approve"), "node 'crew/review' removed", resume="yes")
    do(face, made("review"), "resume", "thread", resume="yes")


def test_a_call_that_a_finished_neighbour_made(face: Face) -> None:
    """A call that is among the writes of a superstep that waits is one that is about to be made."""

    def made(*tools: Any) -> Any:
        builder = StateGraph(MessagesState)
        builder.add_node("model", lambda state: {"messages": [call()]})
        builder.add_node("ok", asks)
        builder.add_node("tools", ToolNode(list(tools)))
        builder.add_edge(START, "model")
        builder.add_edge(START, "ok")
        builder.add_edge(["model", "ok"], "tools")
        return durable(builder.compile(checkpointer=face.saver), on_change="ignore")

    hello(face, made(search))
    refused(face, made(wider), "call 'search'", resume="yes")
    refused(face, made(send), "call 'search'", resume="yes")
    ended = do(face, made(search), "resume", "thread", resume="yes")
    assert ended["messages"][-1].content == "found x"


def test_calls_that_have_their_results(face: Face) -> None:
    """Of parallel calls only those without a result wait; a tool of one that has may change."""

    def both(state: Any) -> AIMessage:
        calls = [
            {"name": "search", "args": {"query": "x"}, "id": "1"},
            {"name": "send", "args": {"to": "y"}, "id": "2"},
        ]
        return AIMessage("", tool_calls=calls)

    def made(*tools: Any) -> Any:
        builder = StateGraph(MessagesState)
        builder.add_node("model", lambda state: {"messages": [both(state)]})
        builder.add_node("first", lambda state: {"messages": [ToolMessage("found", tool_call_id="1")]})
        builder.add_node("review", asks)
        builder.add_node("tools", ToolNode(list(tools)))
        builder.add_edge(START, "model")
        builder.add_edge("model", "first")
        builder.add_edge("first", "review")
        return durable(builder.compile(checkpointer=face.saver), on_change="ignore")

    hello(face, made(search, send))
    refused(face, made(search), "call 'send' removed", resume="yes")
    do(face, made(wider, send), "resume", "thread", resume="yes")


def test_a_call_of_what_is_no_tool(face: Face) -> None:
    """A call that no tool answers, such as a structured answer, may wait while tools change."""

    def made(*tools: Any) -> Any:
        builder = StateGraph(MessagesState)
        builder.add_node("model", lambda state: {"messages": [call("Answer", text="x")]})
        builder.add_node("review", asks)
        builder.add_node("tools", ToolNode(list(tools)))
        builder.add_edge(START, "model")
        builder.add_edge("model", "review")
        return durable(builder.compile(checkpointer=face.saver), on_change="ignore")

    hello(face, made(search))
    do(face, made(wider), "resume", "thread", resume="yes")


def test_a_graph_that_has_no_tools_any_more(face: Face) -> None:
    """A graph without tools is one from which all have been removed."""
    hello(face, app(face, search, review=True))
    refused(face, quiet(face), "call 'search' removed", resume="yes")


def test_a_call_that_nobody_is_about_to_make(face: Face) -> None:
    """A thread that has come to its end with an open call makes it no more: its tool may change."""
    builder = StateGraph(MessagesState)
    builder.add_node("model", lambda state: {"messages": [call()]})
    builder.add_node("tools", ToolNode([search]))
    builder.add_edge(START, "model")
    hello(face, durable(builder.compile(checkpointer=face.saver)))
    changed = StateGraph(MessagesState)
    changed.add_node("model", lambda state: {"messages": [AIMessage("done")]})
    changed.add_node("tools", ToolNode([wider]))
    changed.add_edge(START, "model")
    graph = durable(changed.compile(checkpointer=face.saver), on_change="ignore")
    answer = Command(update={"messages": [ToolMessage("found", tool_call_id="call")]}, goto="model")
    assert do(face, graph, "invoke", answer, thread())["messages"][-1].content == "done"


@pytest.mark.parametrize("how", ["fork", "update_state"])
def test_what_is_left_after_pruning(face: Face, how: str) -> None:
    """A branch or an update says what had run before it, also when that is pruned away."""
    old = app(face, search, review=True)
    hello(face, old)
    if how == "fork":
        do(face, old, "fork", "thread")
    else:
        do(face, old, "update_state", thread(), {"messages": []}, "agent")
    face.call("prune", ["thread"])
    assert len(face.list(thread())) == 1
    refused(face, quiet(face, wider), "call 'search'")


def test_a_fork_of_what_ran_last(face: Face) -> None:
    """A branch begins with what its checkpoint was made with, and not with what the one before it was."""
    old = app(face, search, review=True)
    do(face, old, "invoke", {"messages": [("user", "hi")]}, thread(), interrupt_before=["agent"])
    new = quiet(face, wider)
    do(face, new, "invoke", None, thread())
    do(face, new, "fork", "thread")
    refused(face, quiet(face, search), "call 'search'")
    do(face, new, "invoke", None, thread())
    ended = do(face, new, "resume", "thread", resume="yes")
    assert ended["messages"][-2].content == "found more of x"


def test_a_hash_that_the_app_gives(face: Face) -> None:
    """What an app says under the name of the hash does not take the place of the hash."""
    config: Any = {**thread(), "metadata": {RECORD_HASH: "mine"}}
    do(face, app(face, search, review=True), "invoke", {"messages": [("user", "hi")]}, config)
    assert all(one.metadata.get(RECORD_HASH) != "mine" for one in face.list(thread()))
    refused(face, quiet(face, wider), "call 'search'", resume="yes")


def test_what_was_refused_is_not_given_up(face: Face) -> None:
    """`recover` by code that cannot go on leaves threads as they were, for code that can."""
    tries = [1]

    @tool("search")
    def flaky(query: str, limit: int = 5) -> str:
        """Search the web."""
        if tries[0]:
            tries[0] -= 1
            raise ConnectionError("not now")
        return "found"

    def made(one: Any, **options: Any) -> Any:
        builder = agent()
        builder.nodes.pop("tools")
        builder.add_node("tools", ToolNode([one], handle_tool_errors=False))
        return durable(builder.compile(checkpointer=face.saver), **options)

    with pytest.raises(ConnectionError):
        hello(face, made(flaky))
    for _ in range(4):
        (refusal,) = do(face, made(wider, on_change="ignore"), "recover", errors=True, backoff_seconds=0.0)
        assert isinstance(refusal.error, EnvironmentChangedError)
        assert (refusal.status, refusal.attempts) == ("error", 1)
    (recovered,) = do(face, made(flaky), "recover", errors=True)
    assert recovered.status == "idle"


def test_a_tool_that_no_model_can_be_told_of(face: Face) -> None:
    """A tool that is found in a graph, and cannot be described, does not keep the graph from being durable."""

    @tool
    def odd(work: Callable[[int], int]) -> str:
        """Work."""
        return ""

    hello(face, app(face, search, odd))
    (recorded,) = face.call("environments", "thread")
    assert sorted(recorded.record["tools"]) == ["search"]


def test_the_config_of_a_subgraph(face: Face) -> None:
    """Whoever asks with the config of a subgraph asks about its thread."""
    builder = StateGraph(MessagesState)
    builder.add_node("crew", agent(search, review=True).compile())
    builder.add_edge(START, "crew")
    graph = builder.compile(checkpointer=face.saver)
    made = fingerprint(graph=graph)
    Running(graph.with_config(metadata=made), face.loop).invoke({"messages": [("user", "hi")]})
    (inner,) = {one.config["configurable"]["checkpoint_ns"] for one in face.list(None)} - {""}
    config = {"configurable": {"thread_id": "thread", "checkpoint_ns": inner}}
    assert not check_environment(face.saver, config, made)  # type: ignore[arg-type]  # a plain dict


def test_a_thread_of_its_own_that_a_node_runs(face: Face) -> None:
    """A graph that a node runs under another thread does not record what the outer graph runs with."""
    other = agent(send).compile(checkpointer=face.saver)

    def runs(state: Any) -> Any:
        other.invoke({"messages": [("user", "hi")]}, thread("own"))
        return {}

    async def aruns(state: Any) -> Any:
        await other.ainvoke({"messages": [("user", "hi")]}, thread("own"))
        return {}

    builder = StateGraph(MessagesState)
    builder.add_node("outer", runs if face.loop is None else aruns)
    builder.add_edge(START, "outer")
    hello(face, durable(builder.compile(checkpointer=face.saver), model="openai:gpt-4o"))
    assert len(face.call("environments", "thread")) == 1
    assert face.call("environments", "own") == []
