"""Compiled graphs that are run through either form, and what they leave behind, with numbers in the place of ids."""

from __future__ import annotations

import asyncio
import re
import sqlite3
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal, TypeAlias, TypeVar

import aiosqlite
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver, CheckpointTuple
from langgraph.checkpoint.sqlite import SqliteSaver as OfficialSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver as OfficialAsyncSaver
from langgraph.pregel import Pregel
from langgraph.types import StateSnapshot

from tests.shapes import form

T = TypeVar("T")
Durability: TypeAlias = Literal["sync", "async", "exit"]
Compiler: TypeAlias = Callable[[BaseCheckpointSaver[Any]], Pregel[Any, Any, Any, Any]]

DURABILITIES: tuple[Durability, ...] = ("sync", "async", "exit")
IDS = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}|[0-9a-f]{32}")


class Running:
    """A graph over a saver, in the form that `loop` says (None: the blocking one)."""

    def __init__(
        self,
        graph: Pregel[Any, Any, Any, Any],
        loop: asyncio.AbstractEventLoop | None,
        durability: Durability | None = None,
        thread_id: str = "thread",
    ) -> None:
        self.graph = graph
        self.loop = loop
        self.durability = durability
        self.config: RunnableConfig = {"configurable": {"thread_id": thread_id}}

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        assert self.loop is not None
        return self.loop.run_until_complete(coroutine)

    def invoke(self, value: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """`graph.invoke(value, ...)`, or `await graph.ainvoke(value, ...)`."""
        kwargs.setdefault("durability", self.durability)
        if self.loop is None:
            return self.graph.invoke(value, config or self.config, **kwargs)
        return self._run(self.graph.ainvoke(value, config or self.config, **kwargs))

    def state(self, config: RunnableConfig | None = None, *, subgraphs: bool = False) -> StateSnapshot:
        """The state at `config`, else the latest."""
        if self.loop is None:
            return self.graph.get_state(config or self.config, subgraphs=subgraphs)
        return self._run(self.graph.aget_state(config or self.config, subgraphs=subgraphs))

    def history(self, config: RunnableConfig | None = None) -> list[StateSnapshot]:
        """The states of the thread, newest first."""
        if self.loop is None:
            return list(self.graph.get_state_history(config or self.config))

        async def collected() -> list[StateSnapshot]:
            return [state async for state in self.graph.aget_state_history(config or self.config)]

        return self._run(collected())

    def update(
        self, values: Mapping[str, Any] | None, config: RunnableConfig | None = None, as_node: str | None = None
    ) -> RunnableConfig:
        """What `update_state` answers."""
        if self.loop is None:
            return self.graph.update_state(config or self.config, values, as_node=as_node)
        return self._run(self.graph.aupdate_state(config or self.config, values, as_node=as_node))

    def stored(self) -> list[CheckpointTuple]:
        """The checkpoints that the saver lists of the thread's own namespace."""
        saver = self.graph.checkpointer
        assert isinstance(saver, BaseCheckpointSaver)
        config: RunnableConfig = {"configurable": {**self.config["configurable"], "checkpoint_ns": ""}}
        if self.loop is None:
            return list(saver.list(config))

        async def collected() -> list[CheckpointTuple]:
            return [found async for found in saver.alist(config)]

        return self._run(collected())

    def report(self) -> dict[str, Any]:
        """All of the thread that two savers have to agree on: states, their history, what is stored, without ids."""
        stored = [
            (found.metadata, found.checkpoint["channel_values"], found.pending_writes, found.parent_config is None)
            for found in self.stored()
        ]
        return {
            "state": nameless(told(self.state(subgraphs=True))),
            "history": nameless([told(state) for state in self.history()]),
            "stored": nameless(stored),
        }


def told(state: StateSnapshot) -> Any:
    """What a state says, but for the time and for channel versions."""
    tasks = [
        (
            task.id,
            task.name,
            task.path,
            repr(task.error),
            [(interrupt.id, interrupt.value) for interrupt in task.interrupts],
            told(task.state) if isinstance(task.state, StateSnapshot) else task.state,
            task.result,
        )
        for task in state.tasks
    ]
    interrupts = [(interrupt.id, interrupt.value) for interrupt in state.interrupts]
    return state.values, state.next, state.config, state.parent_config, state.metadata, tasks, interrupts


def nameless(value: Any) -> Any:
    """The form of `value`, with each id in its text replaced by the order in which it appeared."""
    numbers: dict[str, str] = {}

    def number(match: re.Match[str]) -> str:
        return numbers.setdefault(match[0], f"<{len(numbers)}>")

    def walk(part: Any) -> Any:
        if isinstance(part, str):
            return IDS.sub(number, part)
        if isinstance(part, tuple):
            if part[:1] == (dict,):
                # In the order of keys, not of insertion: two savers may be handed channels in a different one.
                return dict, tuple((walk(key), walk(held)) for key, held in sorted(part[1], key=repr))
            return tuple(walk(item) for item in part)
        return part

    return walk(form(value))


@contextmanager
def official(loop: asyncio.AbstractEventLoop | None) -> Iterator[BaseCheckpointSaver[Any]]:
    """The SQLite saver of langgraph-checkpoint-sqlite that is made for that form."""
    if loop is None:
        connection = sqlite3.connect(":memory:", check_same_thread=False)
        try:
            yield OfficialSaver(connection)
        finally:
            connection.close()
        return

    async def opened() -> tuple[aiosqlite.Connection, OfficialAsyncSaver]:
        made = await aiosqlite.connect(":memory:")
        return made, OfficialAsyncSaver(made)

    own, saver = loop.run_until_complete(opened())
    try:
        yield saver
    finally:
        loop.run_until_complete(own.close())
