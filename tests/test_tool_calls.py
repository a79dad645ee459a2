"""Tool calls that were left without a result are closed before a model sees them, with what is known of them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.types import Command, Send, interrupt

from langgraph_durable import InvalidRequestError, durable
from langgraph_durable.core.conversation import UNKNOWN
from tests.conftest import Face, thread
from tests.durables import called


class Picky(GenericFakeChatModel):
    """A model that refuses what providers refuse: a call without exactly one result right behind it."""

    def _generate(self, messages: Sequence[AnyMessage], *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]  # it takes what that takes
        open_calls: list[str | None] = []
        for message in messages:
            if isinstance(message, ToolMessage):
                assert message.tool_call_id in open_calls, "a result of no call"
                open_calls.remove(message.tool_call_id)
                continue
            assert not open_calls, f"calls without a result: {open_calls}"
            if isinstance(message, AIMessage):
                open_calls = [call["id"] for call in message.tool_calls]
        assert not open_calls
        return super()._generate(list(messages), *args, **kwargs)


@tool
def fast() -> str:
    """It answers at once."""
    return "fast result"


@tool
def ask() -> str:
    """It asks somebody."""
    return str(interrupt("May I?"))


def calls(*names: str) -> AIMessage:
    made: Any = [{"name": name, "args": {}, "id": f"call {name}", "type": "tool_call"} for name in names]
    return AIMessage("", tool_calls=made)


def agent(saver: Any, *said: AIMessage, split: bool, **compiled: Any) -> Any:
    """An agent that says this; `split` gives each call a task of its own."""
    script: Iterator[AIMessage] = iter(said)
    model = Picky(messages=script)

    def think(state: MessagesState) -> Any:
        return {"messages": [model.invoke(state["messages"])]}

    def route(state: MessagesState) -> Any:
        last = state["messages"][-1]
        assert isinstance(last, AIMessage), "the router was asked about a result"
        if not last.tool_calls:
            return END
        return [Send("tools", [call]) for call in last.tool_calls] if split else "tools"

    builder = StateGraph(MessagesState)
    builder.add_node("think", think)
    builder.add_node("tools", ToolNode([fast, ask]))
    builder.add_edge(START, "think")
    builder.add_conditional_edges("think", route, ["tools", END])
    builder.add_edge("tools", "think")
    return durable(builder.compile(checkpointer=saver, **compiled))


def told(state: Any) -> list[str]:
    """The messages, in short."""
    return [
        f"{message.tool_call_id}: {'unknown' if message.content == UNKNOWN else message.content}"
        if isinstance(message, ToolMessage)
        else str(message.content or "calls")
        for message in state["messages"]
    ]


@pytest.mark.parametrize("split", [True, False])
def test_new_input_instead_of_an_answer(face: Face, split: bool) -> None:
    """What finished keeps its result, what asked gets one that says that nothing is known, and the model goes on."""
    app = agent(face.saver, calls("fast", "ask"), AIMessage("done"), split=split)
    called(face.loop, app, "invoke", {"messages": [HumanMessage("hi")]}, thread())
    ended = called(face.loop, app, "invoke", {"messages": [HumanMessage("never mind")]}, thread())
    # A node of several tools is one task: none of them has finished before all have.
    first = "call fast: fast result" if split else "call fast: unknown"
    assert told(ended) == ["hi", "calls", first, "call ask: unknown", "never mind", "done"]
    assert ended["messages"][3].status == "error"
    assert face.call("get_thread", "thread").status == "idle"


def test_new_input_that_is_one_message(face: Face) -> None:
    """Whatever form the new message has, the results come before it."""
    app = agent(face.saver, calls("ask"), AIMessage("done"), split=True)
    called(face.loop, app, "invoke", {"messages": "hi"}, thread())
    ended = called(face.loop, app, "invoke", {"messages": ("user", "never mind")}, thread())
    assert told(ended) == ["hi", "calls", "call ask: unknown", "never mind", "done"]


def test_new_input_that_brings_results(face: Face) -> None:
    """A call whose result comes with the input is closed by that alone."""
    app = agent(face.saver, calls("fast", "ask"), AIMessage("done"), split=False, interrupt_before=["tools"])
    called(face.loop, app, "invoke", {"messages": "hi"}, thread())
    mine = ToolMessage("by hand", tool_call_id="call ask")
    ended = called(face.loop, app, "invoke", {"messages": [mine]}, thread())
    assert told(ended) == ["hi", "calls", "call fast: unknown", "call ask: by hand", "done"]


def test_a_gate_that_looks_at_the_last_message(face: Face) -> None:
    """No router of the app's is asked about the results that close calls."""

    def approve(state: MessagesState) -> Any:
        interrupt("ok?")
        return {"messages": []}

    script = iter([calls("fast"), AIMessage("done")])
    model = Picky(messages=script)
    builder = StateGraph(MessagesState)
    builder.add_node("think", lambda state: {"messages": [model.invoke(state["messages"])]})
    builder.add_node("approve", approve)
    builder.add_node("tools", ToolNode([fast]))
    builder.add_edge(START, "think")
    builder.add_conditional_edges(
        "think", lambda state: "approve" if state["messages"][-1].tool_calls else END, ["approve", END]
    )
    builder.add_conditional_edges(
        "approve", lambda state: "tools" if state["messages"][-1].tool_calls else END, ["tools", END]
    )
    builder.add_edge("tools", "think")
    app = durable(builder.compile(checkpointer=face.saver))
    app.invoke({"messages": "hi"}, thread())
    assert told(app.invoke({"messages": "never mind"}, thread())) == [
        *("hi", "calls", "call fast: unknown", "never mind", "done")
    ]


def test_what_had_not_finished_asks(face: Face) -> None:
    """New input is not taken for an answer, nor does it throw a question away that only now came up."""
    failing = [True]

    def first(state: MessagesState) -> Any:
        if failing.pop() if failing else False:
            raise ValueError("not now")
        return {"messages": [AIMessage("first")]}

    builder = StateGraph(MessagesState)
    builder.add_node("first", first)
    builder.add_node("pay", lambda state: {"messages": [AIMessage(str(interrupt("Pay?")))]})
    builder.add_edge(START, "first")
    builder.add_edge("first", "pay")
    app = durable(builder.compile(checkpointer=face.saver))
    with pytest.raises(ValueError, match="not now"):
        app.invoke({"messages": "order 1"}, thread())
    with pytest.raises(InvalidRequestError, match="was not used"):
        app.invoke({"messages": "order 2"}, thread())
    assert face.call("get_thread", "thread").nodes == ("pay",)
    assert told(app.resume("thread", resume="yes")) == ["order 1", "first", "yes"]
    with pytest.raises(InvalidRequestError):
        app.invoke(Command(resume="yes"), thread())


def test_threads_of_another_graph_are_not_recovered(face: Face) -> None:
    """A graph leaves alone what it has no node for, goes on with what SIGTERM stopped, and passes on its arguments."""

    def chain(*names: str) -> Any:
        builder = StateGraph(MessagesState)
        before = START
        for name in names:
            builder.add_node(name, lambda state, name=name: {"messages": [AIMessage(name)]})
            builder.add_edge(before, name)
            before = name
        return durable(builder.compile(checkpointer=face.saver))

    one, other = chain("a", "b"), chain("c", "d")
    for app, name, stop in ((one, "one", "b"), (other, "other", "d")):
        app.invoke({"messages": "hi"}, thread(name), interrupt_before=[stop])
        with app._run(thread(name)) as run:
            run.how = "sigterm"
    assert [info.reason for info in face.call("list_threads", order="id")] == ["sigterm", "sigterm"]

    def config(thread_id: str) -> Any:
        assert thread_id != "other", "not ours"
        return {"tags": ["recovered"]}

    done = called(face.loop, one, "recover", config=config, durability="async")
    assert [(each.thread_id, each.status, type(each.error)) for each in done] == [
        ("one", "idle", type(None)),
        ("other", "crashed", AssertionError),
    ]
    assert called(face.loop, one, "recover") == []
    assert face.call("get_thread", "other").nodes == ("d",)
    assert [each.status for each in called(face.loop, other, "recover")] == ["idle"]


def test_streams_that_are_left_open(face: Face) -> None:
    """A stream that is open when its event loop ends was cancelled; it did not fail."""
    builder = StateGraph(MessagesState)
    builder.add_node("a", lambda state: {"messages": [AIMessage("a")]})
    builder.add_node("b", lambda state: {"messages": [AIMessage("b")]})
    builder.add_edge(START, "a")
    builder.add_edge("a", "b")
    app = durable(builder.compile(checkpointer=face.saver))

    async def leave() -> list[Any]:
        streams = [app.astream({"messages": "hi"}, thread(f"{number}")) for number in range(3)]
        for stream in streams:
            await anext(stream)
        return streams

    kept = asyncio.run(leave())
    assert {face.call("get_thread", f"{number}").status for number in range(len(kept))} <= {"interrupted", "idle"}
