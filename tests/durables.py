"""Graphs that are made durable, run in this process or in others, and how their threads stand afterwards."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from operator import add
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypedDict

from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph

from langgraph_durable import durable
from langgraph_durable.runs import DurableGraph
from langgraph_durable.saver import DurableSaver
from tests.conftest import Face
from tests.processes import PATIENCE

Node = Callable[["State"], Any]


class State(TypedDict, total=False):
    """`log` is what every node adds its name to."""

    log: Annotated[list[str], add]


class Stands(NamedTuple):
    """How a thread stands, as far as a run decides it."""

    status: str
    reason: str
    nodes: tuple[str, ...]
    error: str | None


def stands(saver: DurableSaver, thread_id: str = "thread") -> Stands | None:
    """How a thread stands now; None where there is none."""
    found = saver.get_thread(thread_id)
    if found is None:
        return None
    return Stands(found.status, found.reason, found.nodes, found.error.type if found.error is not None else None)


def compiled(
    saver: DurableSaver,
    nodes: Mapping[str, Node] | None = None,
    *,
    form: str = "sync",
    routers: Mapping[str, Callable[[State], str]] | None = None,
) -> CompiledStateGraph[State, None, State, State]:
    """Three nodes in a row, "a", "b" and "c", that add their names; what `nodes` says is done first.

    What such a function answers is the node's output, if it is not None. In the form "async" it may be a coroutine.
    """
    builder = StateGraph(State)

    def node(name: str) -> None:
        before = (nodes or {}).get(name)

        def run(state: State) -> Any:
            said = before(state) if before is not None else None
            return {"log": [name]} if said is None else said

        async def arun(state: State) -> Any:
            said = before(state) if before is not None else None
            if asyncio.iscoroutine(said):
                said = await said
            return {"log": [name]} if said is None else said

        builder.add_node(name, arun if form == "async" else run)

    for name in "abc":
        node(name)
    builder.add_edge(START, "a")
    for name, following in ("ab", "bc"):
        if name in (routers or {}):
            builder.add_conditional_edges(name, (routers or {})[name], [following, END])
        else:
            builder.add_edge(name, following)
    return builder.compile(checkpointer=saver)


def made(
    saver: DurableSaver, nodes: Mapping[str, Node] | None = None, form: str = "sync", **options: Any
) -> DurableGraph:
    """`compiled`, made durable."""
    return durable(compiled(saver, nodes, form=form), **options)


def form_of(loop: asyncio.AbstractEventLoop | None) -> str:
    """The form of a graph, as `compiled` has it, that is run through a loop, or blocking."""
    return "sync" if loop is None else "async"


def called(loop: asyncio.AbstractEventLoop | None, app: Any, name: str, *args: Any, **kwargs: Any) -> Any:
    """`app.NAME(...)`, or `await app.aNAME(...)`."""
    if loop is None:
        return getattr(app, name)(*args, **kwargs)
    return loop.run_until_complete(getattr(app, "a" + name)(*args, **kwargs))


def ran(form: str, app: Any, name: str, *args: Any, **kwargs: Any) -> Any:
    """The same in a process of its own, whose main thread it is: Ctrl-C does what it does there."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if form == "sync":
        return getattr(app, name)(*args, **kwargs)
    return asyncio.run(getattr(app, "a" + name)(*args, **kwargs))


def one_chain(face: Face, thread_id: str = "thread") -> Sequence[list[str]]:
    """The logs of a thread's checkpoints, oldest first, each of which has the one before as its parent."""
    found = face.list({"configurable": {"thread_id": thread_id, "checkpoint_ns": ""}})[::-1]
    parents = [one.parent_config and one.parent_config["configurable"]["checkpoint_id"] for one in found]
    assert parents == [None, *(one.checkpoint["id"] for one in found[:-1])]
    steps = [one.metadata["step"] for one in found]
    assert steps == sorted(set(steps))
    return [one.checkpoint["channel_values"].get("log", []) for one in found]


class Notes:
    """A file that several processes add lines to, each in one system call."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def add(self, line: str) -> None:
        with self.path.open("a") as file:
            file.write(line + "\n")

    def lines(self) -> list[str]:
        return self.path.read_text().splitlines() if self.path.exists() else []


def until(condition: Callable[[], bool]) -> None:
    """Return when the condition holds, which nothing but looking can tell."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it never came to this"
        time.sleep(0.005)
