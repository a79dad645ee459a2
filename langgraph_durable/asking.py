"""What may be asked for to go on with a thread: a call of the graph, a flow of the saver, an attempt; and its doing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias, TypeVar, cast

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver, Checkpoint, CheckpointMetadata, CheckpointTuple
from langgraph.pregel import Pregel
from langgraph.types import PregelTask

from langgraph_durable.core.driving import adriven, driven
from langgraph_durable.core.requests import Flow
from langgraph_durable.core.running import OnBusy, Taken
from langgraph_durable.environment.policy import OnChange
from langgraph_durable.saver import DurableSaver

T = TypeVar("T")


class Settings(NamedTuple):
    """What `durable` was given."""

    owner: str | None
    on_busy: OnBusy
    on_crash: str
    max_recoveries: int
    lease_seconds: float
    heartbeat_seconds: float
    nodes: frozenset[str]
    interrupt_before: str | Sequence[str]
    interrupt_after: str | Sequence[str]
    tools: Any
    model: Any
    extra: Mapping[str, Any] | None
    on_change: OnChange
    renames: Mapping[str, str]
    channels: tuple[str, ...]
    joins: tuple[str, ...]
    root: str


class Setting(NamedTuple):
    """The run in which something is asked; `fingerprint` is what it runs with, {} where nothing runs."""

    thread_id: str
    taken: Taken
    settings: Settings
    fingerprint: Mapping[str, Any]


class Call(NamedTuple):
    """Call a method of the graph, or its twin for coroutines. Answer: what it returns."""

    method: str
    args: tuple[Any, ...]


class Do(NamedTuple):
    """Do a flow of the saver. Answer: what it ends with."""

    flow: Callable[..., Flow[Any]]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any] = {}


class Get(NamedTuple):
    """Get the checkpoint that a config leads to. Answer: LangGraph's tuple, or None."""

    config: RunnableConfig


class Foresee(NamedTuple):
    """Find out which tasks the graph would run at a checkpoint that is not stored. Answer: a sequence of PregelTask."""

    checkpoint: Checkpoint
    metadata: CheckpointMetadata


class Look(NamedTuple):
    """Call a function that reads files. Answer: what it returns."""

    function: Callable[..., Any]
    args: tuple[Any, ...]


class Attempt(NamedTuple):
    """Try to go on with a thread that still has a status, or a reason, in `wanted`. Answer: an `Attempted`.

    It was `tried` that often at the checkpoint.
    """

    thread_id: str
    wanted: tuple[str, ...]
    tried: int
    checkpoint_id: str
    backoff: float


class Attempted(NamedTuple):
    """What became of an attempt, and where it began: the status of the thread, "" when another run has or had it."""

    status: str
    recoveries: int
    checkpoint_id: str
    error: Exception | None


NOT_TRIED = Attempted("", 0, "", None)

Asked: TypeAlias = "Call | Do | Get | Foresee | Look | Attempt"
Asking: TypeAlias = Generator[Asked, Any, T]


def drive(
    graph: Pregel[Any, Any, Any, Any] | None,
    saver: BaseCheckpointSaver[Any],
    asking: Asking[T],
    attempt: Callable[[Attempt], Attempted] | None = None,
) -> T:
    """What a generator ends with, everything it asks for having been done; one that only looks needs no graph."""

    def answer(asked: Asked) -> Any:
        if isinstance(asked, Do):
            assert isinstance(saver, DurableSaver)
            return saver._do(asked.flow, *asked.args, **asked.kwargs)
        if isinstance(asked, Get):
            return saver.get_tuple(asked.config)
        if isinstance(asked, Foresee):
            assert graph is not None
            return _tasks_at(graph, asked)
        if isinstance(asked, Look):
            return asked.function(*asked.args)
        if isinstance(asked, Call):
            return getattr(graph, asked.method)(*asked.args)
        assert attempt is not None
        return attempt(asked)

    return driven(asking, answer)


async def adrive(
    graph: Pregel[Any, Any, Any, Any] | None,
    saver: BaseCheckpointSaver[Any],
    asking: Asking[T],
    attempt: Callable[[Attempt], Awaitable[Attempted]] | None = None,
) -> T:
    """`drive` for a coroutine."""

    async def answer(asked: Asked) -> Any:
        if isinstance(asked, Do):
            assert isinstance(saver, DurableSaver)
            return await saver._ado(asked.flow, *asked.args, **asked.kwargs)
        if isinstance(asked, Get):
            return await saver.aget_tuple(asked.config)
        if isinstance(asked, Foresee):
            assert graph is not None
            return _tasks_at(graph, asked)
        if isinstance(asked, Look):
            return await asyncio.get_running_loop().run_in_executor(None, asked.function, *asked.args)
        if isinstance(asked, Call):
            return await getattr(graph, "a" + asked.method)(*asked.args)
        assert attempt is not None
        return await attempt(asked)

    return await adriven(asking, answer)


def _tasks_at(graph: Pregel[Any, Any, Any, Any], asked: Foresee) -> Sequence[PregelTask]:
    made = graph.copy({"checkpointer": _One(asked)})
    return made.get_state({"configurable": {"thread_id": "", "checkpoint_ns": ""}}).tasks


class _One(BaseCheckpointSaver[str]):
    """A saver that has one checkpoint, and keeps nothing."""

    def __init__(self, asked: Foresee) -> None:
        super().__init__()
        self._asked = asked

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        where = {"configurable": {**config["configurable"], "checkpoint_id": self._asked.checkpoint["id"]}}
        return CheckpointTuple(cast(RunnableConfig, where), self._asked.checkpoint, self._asked.metadata, None, [])
