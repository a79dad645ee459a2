"""A call that is refused leaves a thread as it stood: it is the caller who has to know of it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from langgraph.errors import InvalidUpdateError
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import interrupt

from langgraph_durable import InvalidRequestError, SqliteSaver, ThreadInfo, durable
from langgraph_durable.runs import DurableGraph
from tests.conftest import Face, thread

REFUSED: dict[str, tuple[str, dict[str, Any]]] = {
    "nothing to resume, or nothing to say": ("resume", {}),
    "a node that there is not": ("resume", {"from_node": "nowhere"}),
    "a branch from nowhere": ("fork", {"step": 99}),
    "too many turns": ("rewind", {"turns": 9}),
}


def ask(state: MessagesState) -> dict[str, Any]:
    """A node that asks when it is told to."""
    return {"messages": [("ai", str(interrupt("sure?") if "ask" in str(state["messages"][-1].content) else "said"))]}


@pytest.fixture
def app(path: str) -> Iterator[DurableGraph]:
    """A durable graph of one node."""
    with SqliteSaver(path) as saver:
        yield durable(StateGraph(MessagesState).add_node("ask", ask).add_edge(START, "ask").compile(checkpointer=saver))


def call(app: DurableGraph, loop: asyncio.AbstractEventLoop | None, name: str, *args: Any, **kwargs: Any) -> Any:
    """What a method of the graph gives, in this test's form."""
    if loop is None:
        return getattr(app, name)(*args, **kwargs)
    return loop.run_until_complete(getattr(app, f"a{name}")(*args, **kwargs))


def stands(app: DurableGraph, loop: asyncio.AbstractEventLoop | None) -> ThreadInfo:
    """How the thread stands."""
    assert isinstance(app.checkpointer, SqliteSaver)
    found = Face(app.checkpointer, loop).call("get_thread", "thread")
    assert isinstance(found, ThreadInfo)
    return found


@pytest.mark.parametrize("said", ["ask", "say"])
@pytest.mark.parametrize("name", REFUSED)
def test_a_refused_call(app: DurableGraph, loop: asyncio.AbstractEventLoop | None, said: str, name: str) -> None:
    """A thread that is idle, or waits for an answer, is so after a call that cannot be, and can be gone on with."""
    call(app, loop, "invoke", {"messages": [("user", said)]}, thread())
    before = stands(app, loop)
    assert before.status == ("interrupted" if said == "ask" else "idle")
    method, kwargs = REFUSED[name]
    with pytest.raises(InvalidRequestError):
        call(app, loop, method, "thread", **kwargs)
    assert stands(app, loop) == before
    if said == "ask":
        assert call(app, loop, "resume", "thread", resume="yes")["messages"][-1].content == "yes"


def test_a_refused_update(app: DurableGraph, loop: asyncio.AbstractEventLoop | None) -> None:
    """So is one whose state was to be updated as by a node that there is not."""
    call(app, loop, "invoke", {"messages": [("user", "say")]}, thread())
    before = stands(app, loop)
    with pytest.raises(InvalidUpdateError):
        call(app, loop, "update_state", thread(), {"messages": []}, as_node="nowhere")
    assert stands(app, loop) == before


def test_an_error_of_a_node_is_none_of_these(path: str, loop: asyncio.AbstractEventLoop | None) -> None:
    """A node that raises what a refused call raises has failed."""

    def node(state: MessagesState) -> dict[str, Any]:
        raise InvalidRequestError("of the node")

    with SqliteSaver(path) as saver:
        made = StateGraph(MessagesState).add_node("node", node).add_edge(START, "node").compile(checkpointer=saver)
        with pytest.raises(InvalidRequestError, match="of the node"):
            call(durable(made), loop, "invoke", {"messages": []}, thread())
        found = saver.get_thread("thread")
        assert found is not None
        assert (found.status, found.reason, found.nodes) == ("error", "exception", ("node",))


def test_none_is_an_answer(app: DurableGraph, loop: asyncio.AbstractEventLoop | None) -> None:
    """None answers what was asked, as any other value does."""
    call(app, loop, "invoke", {"messages": [("user", "ask")]}, thread())
    assert call(app, loop, "resume", "thread", resume=None)["messages"][-1].content == "None"
    assert stands(app, loop).status == "idle"
