"""Graphs that a seed decides: 5 to 30 nodes that branch, loop, fan out, send, join, nest, ask and fail.

`draw` says what a graph is, `build` makes it. A node appends to the state what follows from the state alone, so that
two runs end alike, and tells a `World` that it began and finished. It is known there by its *turn*: its place in the
graph, the packet that it was sent, and how much it saw in the log. The log grows in every superstep, so that no two
executions of a graph have one turn, unless one of them is a repetition.

Left out is what LangGraph itself does not carry through a crash, whatever the checkpointer:
- an answer without the id of its interrupt where another node may ask at the same checkpoint, or in a subgraph: it is
  kept there, and a later question takes it for its own (https://github.com/langchain-ai/langgraph/issues/8837);
- joins, where checkpoints are not waited for (`durability="async"`): what a join has seen is stored as it is later on,
  so that a run that goes on from there takes it for complete (https://github.com/langchain-ai/langgraph/issues/8748);
- a channel that is written once a superstep (`LastValue`), by two nodes at once: that is an error.
"""

from __future__ import annotations

import asyncio
import random
import time
import zlib
from collections.abc import Callable, Sequence
from itertools import count
from operator import add, or_
from typing import Annotated, Any, NamedTuple, Protocol

from langchain_core.messages import AIMessage, AnyMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.errors import GraphRecursionError
from langgraph.graph import END, START, StateGraph, add_messages
from langgraph.pregel import Pregel
from langgraph.types import Command, Send, interrupt
from typing_extensions import TypedDict

SMALLEST, LARGEST = 5, 30
MOST = 120
"""Executions of nodes that a graph may take."""

DEEPEST = 2
"""Levels of subgraphs."""


class Unlucky(Exception):
    """What a node raises in its first execution."""


class World(Protocol):
    """What is around a graph that runs."""

    def began(self, task: str, turn: str) -> None:
        """A task begins."""

    def finished(self, task: str, turn: str) -> None:
        """A task comes to its end; what it has put out is not stored yet."""

    def unlucky(self, turn: str) -> bool:
        """Whether a node that fails at first is to fail now."""


# -- what a graph is -----------------------------------------------------------------------------------------------


class Node(NamedTuple):
    """A node. `kind` is how it goes on to `targets`.

    "edges": to all. "branch": to some of them. "loop": to the first while it has run less than `bound` times, else to
    the others. "spread": `bound` packets to the first, and to the others. "command": as "branch", by what it returns.
    "packets": as "spread", by what it returns. With an `inner` graph it is that graph (`called`: by a function).
    """

    name: str
    kind: str
    targets: tuple[str, ...] = ()
    bound: int = 0
    inner: Drawn | None = None
    called: bool = False
    deferred: bool = False
    silent: bool = False
    asks: bool = False
    fails: bool = False


class Drawn(NamedTuple):
    """A graph: its nodes, those that it starts with, and what waits for several."""

    nodes: tuple[Node, ...]
    starts: tuple[str, ...]
    joins: tuple[tuple[tuple[str, ...], str], ...]

    def every(self) -> list[Node]:
        """The nodes, with those of subgraphs."""
        return [each for node in self.nodes for each in (node, *(node.inner.every() if node.inner else ()))]

    def lone(self) -> bool:
        """Whether never more than one question is asked at a checkpoint, so that answers need no ids."""
        sent = {node.targets[0] for node in self.nodes if node.kind in ("spread", "packets")}
        asking = [node for node in self.every() if node.asks]
        return len(asking) == 1 and asking[0] in self.nodes and asking[0].name not in sent


def draw(seed: int | str, *, asks: bool = False, fails: bool = False, joins: bool = True) -> Drawn:
    """The graph of a seed; in one that `asks` or `fails` some nodes do, and one may have no `joins`."""
    dice = random.Random(f"graph {seed} {asks} {fails}")
    drawn = _draw(dice, dice.randint(SMALLEST, LARGEST), "n", 0, asks=asks, fails=fails)
    return drawn if joins else _apart(drawn)


def _apart(drawn: Drawn) -> Drawn:
    """The graph without what waits for several."""
    nodes = tuple(node._replace(inner=_apart(node.inner)) if node.inner else node for node in drawn.nodes)
    return drawn._replace(nodes=nodes, joins=())


def _draw(dice: random.Random, size: int, prefix: str, depth: int, *, asks: bool, fails: bool) -> Drawn:
    """A graph of `size` nodes, those of its subgraphs included."""
    inner: list[Drawn] = []
    while (
        depth < DEEPEST
        and size - sum(len(one.every()) for one in inner) > 8 - 6 * depth
        and dice.random() < 0.55 - 0.2 * depth
    ):
        name = f"{prefix}{len(inner)}"
        inner.append(
            _draw(dice, dice.randint(2, max(2, min(8, size - 2))), f"{name}s", depth + 1, asks=asks, fails=fails)
        )
    number = max(2, len(inner), size - sum(len(one.every()) for one in inner))
    names = [f"{prefix}{place}" for place in range(number)]
    # Workers get packets and nothing else.
    workers = set(dice.sample(names[2:], min(len(names[2:]), dice.choice((0, 1, 1, 2))))) if number > 4 else set()
    placed = dict(zip(dice.sample(names, len(inner)), inner, strict=True))
    nodes = []
    for place, name in enumerate(names):
        later = [one for one in names[place + 1 : place + 6] if one not in workers]
        near = [one for one in names[place + 1 : place + 9] if one in workers]
        graph = placed.get(name)
        kinds = ["edges"] * 4 + ["branch", "loop"] + ([] if name in workers or graph else ["command"])
        kinds += ["spread"] * 3 * bool(near) + ["packets"] * bool(near and not graph)
        kind = dice.choice(kinds) if later else "edges"
        targets = dice.sample(later, min(len(later), dice.choice((1, 1, 2, 3)))) if later else []
        bound = 0
        if kind == "loop":
            back = [one for one in names[max(0, place - 5) : place + 1] if one not in workers]
            if back:
                targets, bound = [dice.choice(back), *targets], dice.randint(2, 3)
            else:
                kind = "edges"
        elif kind in ("spread", "packets"):
            targets, bound = [dice.choice(near), *targets[: dice.randint(0, 2)]], dice.randint(2, 4)
        plain = graph is None
        nodes.append(
            Node(
                name,
                kind,
                tuple(targets),
                bound,
                graph,
                called=not plain and dice.random() < 0.4,
                deferred=name not in workers and place > 0 and dice.random() < 0.08,
                silent=plain and not targets and dice.random() < 0.3,
                asks=plain and asks and dice.random() < 0.25,
                fails=plain and fails and dice.random() < 0.25,
            )
        )
    joins = []
    for place, name in enumerate(names):
        if place >= 2 and name not in workers and dice.random() < 0.25:
            joins.append((tuple(sorted(dice.sample(names[max(0, place - 6) : place], 2))), name))
    free = [one for one in names[:4] if one not in workers]
    starts = dice.sample(free, min(len(free), dice.choice((1, 1, 2, 3))))
    return Drawn(tuple(nodes), tuple(starts), tuple(joins))


# -- what it is made of --------------------------------------------------------------------------------------------


def gather(left: list[str], right: list[str]) -> list[str]:
    """What is in either, in order: a subgraph gives back what it was given."""
    known = set(left)
    return left + [one for one in right if one not in known]


class Given(TypedDict, total=False):
    """What a subgraph or a worker is given."""

    log: Annotated[list[str], gather]
    packet: str


class Inner(Given, total=False):
    """The state of a subgraph; `sum` tells what ran twice."""

    sum: Annotated[int, add]


class Output(TypedDict, total=False):
    """What a subgraph gives back."""

    log: Annotated[list[str], gather]
    sum: Annotated[int, add]


class State(Inner, total=False):
    """The state of a graph."""

    messages: Annotated[list[AnyMessage], add_messages]
    table: Annotated[dict[str, int], or_]


def weight(text: str) -> int:
    """A number that follows from a text."""
    return zlib.crc32(text.encode()) % 1000


def answer(question: str) -> str:
    """What a question is answered with."""
    return f"answer {weight(question)}"


class _Turn(NamedTuple):
    """An execution of a node."""

    node: Node
    outer: bool
    task: str
    name: str
    packet: str
    log: list[str]

    def update(self, said: str) -> dict[str, Any]:
        if self.node.silent:
            return {}
        entry = f"{self.name} {said}".strip()
        update: dict[str, Any] = {"log": [entry], "sum": weight(entry)}
        if self.outer:
            update["messages"] = [AIMessage(f"{entry}, " * 4, id=entry)]
            update["table"] = {self.node.name: len(self.log)}
        return update


def _turn(node: Node, state: Any, config: RunnableConfig) -> _Turn:
    levels = [level.split(":") for level in config["metadata"]["langgraph_checkpoint_ns"].split("|")]
    path = ".".join(level[0] for level in levels)
    packet, log = state.get("packet", ""), state.get("log", [])
    return _Turn(node, len(levels) == 1, levels[-1][-1], f"{path}{packet}@{len(log)}", packet, log)


def _goes(node: Node, state: Any, entry: str = "") -> list[Any]:
    """Where a node goes on to; `entry` is what it adds to the log meanwhile."""
    log = [*state.get("log", ()), *([entry] if entry else ())]
    if node.kind in ("branch", "command"):
        chosen = [one for one in node.targets if weight(f"{node.name} {one} {len(log)}") % 2]
        return chosen or [node.targets[weight(f"{node.name} {len(log)}") % len(node.targets)]]
    if node.kind == "loop":
        runs = sum(f"{node.name}{part}" in one for one in log for part in "@/.")
        return list(node.targets[:1] if runs < node.bound else node.targets[1:]) or [END]
    worker, *others = node.targets
    packets = range(node.bound)
    sent = [Send(worker, {"log": log, "packet": f"{state.get('packet', '')}/{number}"}) for number in packets]
    return [*sent, *others]


def _function(node: Node, world: World, form: str, inner: Any) -> Callable[..., Any]:
    """What a node does."""

    def begin(state: Any, config: RunnableConfig) -> tuple[_Turn, str]:
        turn = _turn(node, state, config)
        world.began(turn.task, turn.name)
        if node.fails and world.unlucky(turn.name):
            raise Unlucky(turn.name)
        return turn, str(interrupt(f"{turn.name}?")) if node.asks else ""

    def end(turn: _Turn, state: Any, update: dict[str, Any]) -> Any:
        world.finished(turn.task, turn.name)
        if node.kind not in ("command", "packets") or not node.targets:
            return update
        return Command(update=update, goto=_goes(node, state, *update.get("log", ())[-1:]))

    def given(turn: _Turn) -> dict[str, Any]:
        return {"log": turn.log, "packet": turn.packet}

    def work(state: Any, config: RunnableConfig) -> Any:
        turn, said = begin(state, config)
        if inner is not None:
            return end(turn, state, {**turn.update(said), **_kept(turn, inner.invoke(given(turn), config))})
        time.sleep(weight(turn.name) % 3 / 2000)
        return end(turn, state, turn.update(said))

    async def awork(state: Any, config: RunnableConfig) -> Any:
        turn, said = begin(state, config)
        if inner is not None:
            return end(turn, state, {**turn.update(said), **_kept(turn, await inner.ainvoke(given(turn), config))})
        await asyncio.sleep(weight(turn.name) % 3 / 2000)
        return end(turn, state, turn.update(said))

    return awork if form == "async" else work


def _kept(turn: _Turn, output: Any) -> dict[str, Any]:
    """What a function makes of what a graph has given it."""
    return {"log": [f"{turn.name} called", *output["log"]], "sum": output["sum"]}


def build(
    drawn: Drawn, world: World, form: str = "sync", saver: BaseCheckpointSaver[Any] | None = None
) -> Pregel[Any, Any, Any, Any]:
    """The graph of that drawing, with nodes that are coroutines if `form` is "async"."""
    return _build(drawn, world, form, True).compile(checkpointer=saver)


def _build(drawn: Drawn, world: World, form: str, outer: bool) -> StateGraph[Any, Any, Any, Any]:
    builder: StateGraph[Any, Any, Any, Any] = (
        StateGraph(State) if outer else StateGraph(Inner, input_schema=Given, output_schema=Output)
    )
    for node in drawn.nodes:
        inner = _build(node.inner, world, form, False).compile() if node.inner else None
        does: Any = inner if inner is not None and not node.called else _function(node, world, form, inner)
        commands = node.kind in ("command", "packets") and bool(node.targets)
        builder.add_node(node.name, does, defer=node.deferred, destinations=node.targets if commands else None)
        if commands or not node.targets:
            continue
        if node.kind == "edges":
            for target in node.targets:
                builder.add_edge(node.name, target)
        else:
            builder.add_conditional_edges(node.name, _router(node), [*node.targets, END])
    for start in drawn.starts:
        builder.add_edge(START, start)
    for sources, target in drawn.joins:
        builder.add_edge(list(sources), target)
    return builder


def _router(node: Node) -> Callable[[Any], Sequence[Any]]:
    return lambda state: _goes(node, state)


# -- what has to come out ------------------------------------------------------------------------------------------


class Reference(NamedTuple):
    """A graph, and how it ends when nothing happens to it: its state, each execution, and the saver's calls."""

    drawn: Drawn
    values: dict[str, Any]
    turns: frozenset[str]
    calls: dict[str, int]


class _Quiet:
    """A world in which nothing goes wrong."""

    def __init__(self) -> None:
        self.turns: list[str] = []

    def began(self, task: str, turn: str) -> None:
        pass

    def finished(self, task: str, turn: str) -> None:
        self.turns.append(turn)

    def unlucky(self, turn: str) -> bool:
        return False


class _Counting(InMemorySaver):
    """LangGraph's own saver, which counts what it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = {"put": 0, "put_writes": 0}

    def put(self, *args: Any, **kwargs: Any) -> RunnableConfig:
        self.calls["put"] += 1
        return super().put(*args, **kwargs)

    def put_writes(self, *args: Any, **kwargs: Any) -> None:
        self.calls["put_writes"] += 1
        super().put_writes(*args, **kwargs)


GIVEN: dict[str, Any] = {"log": ["in"]}
"""What every graph begins with."""


def reference(seed: int | str, *, asks: bool = False, fails: bool = False, joins: bool = True) -> Reference:
    """The first graph of a seed that comes to an end soon, having run half of its nodes, each turn once."""
    for attempt in count():
        drawn = draw(f"{seed} {attempt}", asks=asks, fails=fails, joins=joins)
        found = _ended(drawn)
        named = {turn.split("@")[0].split("/")[0].split(".")[-1] for turn in found.turns} if found else set()
        functions = [node for node in drawn.every() if node.inner is None or node.called]
        fits = SMALLEST <= len(drawn.every()) <= LARGEST
        if found and fits and len(named) >= 4 and 2 * len(named) >= len(functions):
            return found
    raise AssertionError


def _ended(drawn: Drawn) -> Reference | None:
    world, saver = _Quiet(), _Counting()
    graph = build(drawn, world, saver=saver)
    config: RunnableConfig = {"configurable": {"thread_id": "reference"}, "recursion_limit": MOST}
    given: Any = GIVEN
    while True:
        try:
            values = graph.invoke(given, config)
        except GraphRecursionError:
            return None
        asked = graph.get_state(config).interrupts
        if not asked:
            break
        given = Command(resume={one.id: answer(one.value) for one in asked})
    turns = frozenset(world.turns)
    return Reference(drawn, values, turns, saver.calls) if len(turns) == len(world.turns) <= MOST else None
