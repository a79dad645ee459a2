"""Databases as langgraph-checkpoint-sqlite leaves them: a conversation, an open question, a failed step, and more."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from contextlib import closing, suppress
from typing import Annotated, Any

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver, CheckpointTuple
from langgraph.checkpoint.sqlite import SqliteSaver as OfficialSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver as OfficialAsyncSaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.pregel import Pregel
from langgraph.types import interrupt
from typing_extensions import TypedDict

from tests.conftest import checkpoint, thread

KINDS = ("sync", "async", "older")
"""By the blocking saver, by the awaiting one, and from before `writes` had a column for the path of a task."""

TABLES = ("checkpoints", "writes")

__all__ = ["OfficialAsyncSaver", "OfficialSaver"]


class State(TypedDict):
    """What the graph works on."""

    messages: Annotated[list[AnyMessage], add_messages]


RAN: list[str] = []
"""The nodes that have run, in order; tests clear it."""

BROKEN = {"bad"}
"""Nodes that raise; tests clear it for the time of a repair."""


def graph_over(saver: BaseCheckpointSaver[Any]) -> Pregel[Any, Any, Any, Any]:
    """An agent that answers, asks back when it hears "ask", and does two things at once when it hears "both"."""

    def agent(state: State) -> dict[str, Any]:
        RAN.append("agent")
        number = len(state["messages"])
        return {"messages": [AIMessage(f"answer to {state['messages'][-1].text}", id=f"agent {number}")]}

    def ask(state: State) -> dict[str, Any]:
        RAN.append("ask")
        return {"messages": [AIMessage(f"you said {interrupt('really?')}", id=f"ask {len(state['messages'])}")]}

    def ok(state: State) -> dict[str, Any]:
        RAN.append("ok")
        return {"messages": [AIMessage("went well", id=f"ok {len(state['messages'])}")]}

    def bad(state: State) -> dict[str, Any]:
        RAN.append("bad")
        if "bad" in BROKEN:
            # LangGraph cancels what runs beside a node that failed, and whether it is done by then is chance.
            while "ok" not in RAN:
                time.sleep(0.001)
            time.sleep(0.05)
            raise RuntimeError("the node failed")
        return {"messages": [AIMessage("went well after all", id=f"bad {len(state['messages'])}")]}

    def route(state: State) -> list[str]:
        heard = state["messages"][-1].text
        return ["ask", "ok"] if "ask" in heard else ["ok", "bad"] if "both" in heard else [END]

    builder = StateGraph(State)
    for node in (agent, ask, ok, bad):
        builder.add_node(node.__name__, node)
    builder.add_edge(START, "agent")
    builder.add_conditional_edges("agent", route, ["ask", "ok", "bad", END])
    return builder.compile(checkpointer=saver)


def said(text: str, number: int) -> dict[str, Any]:
    """What a user says."""
    return {"messages": [HumanMessage(text, id=f"user {number}")]}


RAW_METADATA: list[dict[str, Any]] = [
    {"source": "input", "step": -1, "run_id": "run a", "user": "ü", "parents": {}},
    {"source": "loop", "step": 0, "run_id": "run a", "flag": True, "score": 1.5, "nested": {"deep": {"er": "x"}}},
    {"source": "loop", "step": 1, "run_id": "run b", "flag": False, "score": 2, "user": None, "list": [1, "a"]},
    {"source": "update", "step": 2, "run_id": "run b", "user": "o'brien", "nested": {"deep": 7}},
]


def make(path: str, kind: str) -> None:
    """A database of that kind, with the threads `chat`, `asks`, `fails` and `raw`."""
    if kind == "async":
        asyncio.run(_amake(path))
    else:
        with OfficialSaver.from_conn_string(path) as saver:
            graph = graph_over(saver)
            for number, text in enumerate(["hello", "how are you", "goodbye"]):
                graph.invoke(said(text, number), thread("chat"))
            graph.invoke(said("ask", 0), thread("asks"))
            with suppress(RuntimeError):
                graph.invoke(said("both", 0), thread("fails"))
            saved: RunnableConfig = thread("raw")
            for number, metadata in enumerate(RAW_METADATA):
                saved = saver.put(saved, _raw(number), metadata, {})  # type: ignore[arg-type]
                saver.put_writes(saved, _writes(number), f"task {number}", "a path")
            saver.put(thread("raw", "inner|x:1"), _raw(9), {"source": "loop", "step": 0}, {})
    if kind == "older":
        with closing(sqlite3.connect(path)) as connection:
            connection.executescript(
                """
                CREATE TABLE old_writes (
                    thread_id TEXT NOT NULL,
                    checkpoint_ns TEXT NOT NULL DEFAULT '',
                    checkpoint_id TEXT NOT NULL,
                    task_id TEXT NOT NULL,
                    idx INTEGER NOT NULL,
                    channel TEXT NOT NULL,
                    type TEXT,
                    value BLOB,
                    PRIMARY KEY (thread_id, checkpoint_ns, checkpoint_id, task_id, idx)
                );
                INSERT INTO old_writes
                SELECT thread_id, checkpoint_ns, checkpoint_id, task_id, idx, channel, type, value FROM writes;
                DROP TABLE writes;
                ALTER TABLE old_writes RENAME TO writes;
                """
            )
    RAN.clear()


async def _amake(path: str) -> None:
    async with OfficialAsyncSaver.from_conn_string(path) as saver:
        graph = graph_over(saver)
        for number, text in enumerate(["hello", "how are you", "goodbye"]):
            await graph.ainvoke(said(text, number), thread("chat"))
        await graph.ainvoke(said("ask", 0), thread("asks"))
        with suppress(RuntimeError):
            await graph.ainvoke(said("both", 0), thread("fails"))
        saved: RunnableConfig = thread("raw")
        for number, metadata in enumerate(RAW_METADATA):
            saved = await saver.aput(saved, _raw(number), metadata, {})  # type: ignore[arg-type]
            await saver.aput_writes(saved, _writes(number), f"task {number}", "a path")
        await saver.aput(thread("raw", "inner|x:1"), _raw(9), {"source": "loop", "step": 0}, {})


def _raw(number: int) -> Any:
    return checkpoint(f"1ef00000-0000-6000-8000-00000000000{number}", messages=[f"raw {number}"] * 3, n=number)


def _writes(number: int) -> list[tuple[str, Any]]:
    return [("messages", [f"write {number}"]), ("n", number), ("__error__", f"error {number}")]


def official_list(path: str, **kwargs: Any) -> list[CheckpointTuple]:
    """What the blocking official saver finds in the file."""
    config = kwargs.pop("config", None)
    with OfficialSaver.from_conn_string(path) as saver:
        return list(saver.list(config, **kwargs))
