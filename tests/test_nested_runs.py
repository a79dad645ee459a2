"""A durable graph inside of another: as a node, called by a node, and where it must not be."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from langgraph.graph import START, StateGraph

from langgraph_durable import ThreadBusyError, durable
from langgraph_durable.saver import DurableSaver
from tests.conftest import saver_at, thread
from tests.durables import Stands, State, called, form_of, made, stands

ALL = ["a", "b", "c"]
DONE = Stands("idle", "", (), None)


@pytest.fixture
def saver(kept: str) -> Iterator[DurableSaver]:
    with saver_at(kept) as opened:
        yield opened


def outer(saver: DurableSaver, node: Any, **options: Any) -> Any:
    """A durable graph of one node."""
    builder = StateGraph(State)
    builder.add_node("inner", node)
    builder.add_edge(START, "inner")
    return durable(builder.compile(checkpointer=saver), **options)


def test_a_durable_graph_as_a_node(saver: DurableSaver, loop: asyncio.AbstractEventLoop | None) -> None:
    """It runs under the lease of the graph around it, and goes on in its own middle."""
    failing = [True]

    def fails(state: Any) -> None:
        ran.append("b")
        if failing.pop() if failing else False:
            raise ValueError("not now")

    ran: list[str] = []
    inner = made(saver, {"a": lambda state: ran.append("a"), "b": fails}, form_of(loop))
    app = outer(saver, inner)
    with pytest.raises(ValueError, match="not now"):
        called(loop, app, "invoke", {"log": []}, thread())
    assert stands(saver) == Stands("error", "exception", ("inner",), "ValueError")
    assert called(loop, app, "resume", "thread")["log"] == ALL
    assert ran == ["a", "b", "b"]
    assert stands(saver) == DONE


@pytest.mark.parametrize("where", ["same thread", "own thread"])
def test_a_durable_graph_that_a_node_calls(
    saver: DurableSaver, loop: asyncio.AbstractEventLoop | None, where: str
) -> None:
    """Called without a thread of its own it is part of the run; with one it holds that one besides."""
    seen: list[Any] = []

    def looks(state: Any) -> None:
        seen.append({one.thread_id: one.status for one in saver.list_threads()})

    inner = made(saver, {"b": looks}, form_of(loop))
    config: Any = thread("own") if where == "own thread" else None

    async def acalls(state: Any) -> Any:
        return {"log": (await inner.ainvoke({"log": []}, config))["log"]}

    app = outer(saver, acalls if loop is not None else lambda state: {"log": inner.invoke({"log": []}, config)["log"]})
    assert called(loop, app, "invoke", {"log": []}, thread())["log"] == ALL
    assert seen == [{"thread": "busy", "own": "busy"} if where == "own thread" else {"thread": "busy"}]
    assert {one.thread_id: one.status for one in saver.list_threads()} == dict.fromkeys(seen[0], "idle")


def test_a_node_that_wants_its_own_thread(saver: DurableSaver, loop: asyncio.AbstractEventLoop | None) -> None:
    """A node that begins another run of the thread that it runs in is told that it is busy, and does not hang."""
    app: Any = None

    async def acalls(state: Any) -> Any:
        return await app.ainvoke({"log": []}, {"configurable": {"thread_id": "thread", "checkpoint_ns": ""}})

    def calls(state: Any) -> Any:
        return app.invoke({"log": []}, {"configurable": {"thread_id": "thread", "checkpoint_ns": ""}})

    app = outer(saver, calls if loop is None else acalls)
    with pytest.raises(ThreadBusyError):
        called(loop, app, "invoke", {"log": []}, thread())
    assert stands(saver) == Stands("error", "exception", ("inner",), "langgraph_durable.errors.ThreadBusyError")
