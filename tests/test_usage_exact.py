"""What threads have used is what their models say: over random sessions in which all goes wrong that can.

A session is a random graph, with branches, packets and subgraphs, nodes that fail after they have asked a model, and
nodes that ask somebody. It is run, resumed, rewound, forked and given new input, and now and then goes on with a new
saver and a new ledger, as in another process. Its models keep an account of their own, by what they were called for.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from operator import add
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypedDict

import pytest
from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.pregel import Pregel
from langgraph.types import Command, RetryPolicy, Send, interrupt

from langgraph_durable import FileSaver, SqliteSaver, durable
from langgraph_durable.context import UsageLedger, UsageReport, thread_usage
from langgraph_durable.runs import DurableGraph
from langgraph_durable.saver import DurableSaver
from tests.paid_models import TOO_OLD, Answer, Outage, PaidModel

PRICES: dict[str, Any] = {
    "model-0": {"input": 3, "output": 15, "cached": 0.3},
    "model-1": {"input": 1, "output": 5},
    "sure": {"input": 0.5, "output": 2},
}
SUMMARY: RunnableConfig = {"metadata": {"lc_source": "summarization"}}
AGAIN = RetryPolicy(initial_interval=0.0, jitter=False, max_attempts=3, retry_on=(Outage, OSError))

RUNS = 12
"""Runs after which a session ends, however its threads stand."""

EXTRAS = 2
"""How often a session forks, rewinds, or says something new."""


class State(TypedDict, total=False):
    """What the nodes work on."""

    log: Annotated[list[str], add]


class Node(NamedTuple):
    """What a node does: it makes `calls`, may then fail, or ask somebody; `kind` is what it is made of.

    One that is `alone` has no other beside it.
    """

    name: str
    kind: str
    calls: int
    fails: float
    asks: bool
    again: bool
    alone: bool
    inner: tuple[Node, ...] = ()


NESTED = ("sub", "stateful", "called")


def draw(dice: random.Random, prefix: str = "n", depth: int = 0, alone: bool = True) -> tuple[Node, ...]:
    """The nodes of a random graph: one after the other, but every third beside the one before it."""
    made: list[Node] = []
    number = dice.randint(2, 4 - depth)
    kinds: list[str] = []
    for place in range(number):
        packets = ["packets"] * (place + 1 < number and kinds[-1:] != ["packets"] and place % 3 == 0)
        kinds.append(dice.choice(["plain", "plain", "sequence", *packets, *NESTED * (depth == 0)]))
    for place, kind in enumerate(kinds):
        sent = place > 0 and kinds[place - 1] == "packets"
        if sent and kind == "stateful":
            kind = "sub"  # it is one thread of its own, which cannot run three times at once
        lone = alone and not sent and not (number >= 3 and place % 3)
        made.append(
            Node(
                f"{prefix}{place}",
                kind,
                calls=dice.randint(0, 2),
                fails=dice.choice([0, 0, 0.3]),
                asks=kind == "plain" and depth == 0 and dice.random() < 0.3,
                again=dice.random() < 0.4,
                alone=lone,
                inner=draw(dice, f"{prefix}{place}i", depth + 1, lone) if kind in NESTED else (),
            )
        )
    return tuple(made)


class World:
    """What is around a graph: its models, and the chance that decides what they and the nodes do."""

    def __init__(self, seed: str) -> None:
        self._dice = random.Random(f"world {seed}")
        self.lock = threading.Lock()
        self.models = [PaidModel(model_name=f"model-{number}", decide=self._answer) for number in range(2)]
        self.sure = PaidModel(model_name="sure", decide=lambda: self._answer()._replace(fails=False))
        self.failed: Counter[Any] = Counter()
        self.processes = 0

    def chance(self, share: float) -> bool:
        with self.lock:
            return self._dice.random() < share

    def _answer(self) -> Answer:
        with self.lock:
            dice = self._dice
            into = dice.randint(0, 10_000)
            told = Answer(into, dice.randint(0, 2_000), dice.randint(0, into), 0, dice.randint(0, 100))
            return told._replace(fails=dice.random() < 0.12, input=None if dice.random() < 0.05 else into)

    def accounts(self) -> Counter[tuple[str, str]]:
        """The sums of what the models say, of all, by model and by what they were asked for."""
        sums: Counter[tuple[str, str]] = Counter()
        for paid in (paid for model in (*self.models, self.sure) for paid in model.account):
            answer = paid.answer
            told = answer if answer.input is not None and not answer.fails else None
            for group in ("all", paid.model, paid.asked):
                sums[group, "calls"] += 1
                sums[group, "failed"] += answer.fails
                sums[group, "unknown"] += answer.input is None and not answer.fails
                for name in ("input", "output", "cached", "reasoning"):
                    sums[group, name] += getattr(told, name) if told is not None else 0
        return +sums

    def cost(self) -> float:
        """What it all costs."""
        total = 0.0
        for paid in (paid for model in (*self.models, self.sure) for paid in model.account):
            answer, price = paid.answer, PRICES[paid.model]
            if answer.input is not None and not answer.fails:
                cached = answer.cached * price.get("cached", price["input"])
                total += (answer.input - answer.cached) * price["input"] + cached + answer.output * price["output"]
        return total / 1e6


def accounts(report: UsageReport) -> Counter[tuple[str, str]]:
    """The sums of a report, as those of a world."""
    sums: Counter[tuple[str, str]] = Counter()
    for group, found in {"all": report.sums, **report.by_model, **report.by_purpose}.items():
        for name in ("calls", "failed", "unknown", "input", "output", "cached", "reasoning"):
            sums[group, name] += getattr(found, name)
    return +sums


class Execution:
    """One execution of a node, which knows by itself what its calls are for."""

    def __init__(self, world: World, node: Node, config: RunnableConfig, *, gentle: bool) -> None:
        self.world, self.node, self.gentle = world, node, gentle
        told = config["configurable"]
        self.task = (world.processes, told["thread_id"], config["metadata"]["langgraph_checkpoint_ns"])
        self.again = told["__pregel_runtime"].execution_info.node_attempt > 1

    def purpose(self) -> str:
        with self.world.lock:
            failed = self.world.failed[self.task] > 0
            self.world.failed[self.task] -= failed
        return "retry" if failed or self.again else "main"

    def next(self) -> tuple[PaidModel, str, RunnableConfig | None]:
        """A model, what to say to it, and how to call it."""
        model = self.world.models[self.world.chance(0.5)]
        if self.world.chance(0.15):
            return model, "summary", SUMMARY
        return model, self.purpose(), None

    def no_answer(self, asked: str) -> None:
        """A call failed: the node goes on to the next, or fails as well."""
        if asked != "summary":
            with self.world.lock:
                self.world.failed[self.task] += 1
        if not self.gentle and self.world.chance(0.5):
            raise Outage("no answer")

    def end(self) -> State:
        if not self.gentle and self.world.chance(self.node.fails):
            raise OSError("after the calls")
        if self.node.asks:
            interrupt(self.node.name)
        return {"log": [self.node.name]}


def build(world: World, nodes: Sequence[Node], asynchronous: bool) -> StateGraph[Any, Any, Any, Any]:
    """The graph of these nodes."""
    builder: StateGraph[Any, Any, Any, Any] = StateGraph(State)
    for place, node in enumerate(nodes):
        builder.add_node(node.name, function(world, node, asynchronous), retry_policy=AGAIN if node.again else None)
        before = nodes[place - 1] if place else None
        if before is None:
            builder.add_edge(START, node.name)
        elif before.kind == "packets":
            builder.add_conditional_edges(before.name, sender(node.name), [node.name])
        else:
            beside = place % 3 == 2 and nodes[place - 2].kind != "packets"
            builder.add_edge(nodes[place - 2].name if beside else before.name, node.name)
    return builder


def sender(target: str) -> Any:
    """A router that sends a node three packets."""
    return lambda state: [Send(target, {"log": []}) for _ in range(3)]


def function(world: World, node: Node, asynchronous: bool) -> Any:
    """What a node is."""
    inner = build(world, node.inner, asynchronous) if node.inner else None
    if inner is not None and node.kind != "called":
        return inner.compile(checkpointer=True if node.kind == "stateful" else None)
    called = inner.compile() if inner is not None else None

    def begin(config: RunnableConfig) -> Execution:
        # Where a coroutine fails, LangGraph cancels those beside it, and what a cancelled call used nobody knows.
        return Execution(world, node, config, gentle=asynchronous and not node.alone)

    def work(state: State, config: RunnableConfig) -> State:
        execution = begin(config)
        for _ in range(node.calls):
            model, asked, how = execution.next()
            try:
                model.invoke(asked, how)
            except Outage:
                execution.no_answer(asked)
        if called is not None:
            called.invoke({"log": []})
        return execution.end()

    async def awork(state: State, config: RunnableConfig) -> State:
        execution = begin(config)
        for _ in range(node.calls):
            model, asked, how = execution.next()
            try:
                await model.ainvoke(asked, how)
            except Outage:
                execution.no_answer(asked)
        if called is not None:
            await called.ainvoke({"log": []})
        return execution.end()

    def first(state: State, config: RunnableConfig) -> list[HumanMessage]:
        return [HumanMessage(begin(config).purpose())]

    def last(message: Any, config: RunnableConfig) -> State:
        return begin(config).end()

    if node.kind == "sequence":
        return RunnableLambda(first) | world.sure | RunnableLambda(last)
    return awork if asynchronous else work


class Session:
    """A graph in its world, and what is done with it."""

    def __init__(self, seed: str, folder: Path, place: str, loop: asyncio.AbstractEventLoop | None) -> None:
        self.dice = random.Random(f"session {seed}")
        self.world, self.nodes = World(seed), draw(self.dice)
        self.folder, self.place, self.loop = folder, place, loop
        self.durable = place != "memory" and self.dice.random() < 0.5
        self.threads: list[str] = ["thread"]
        self.seen: Counter[str] = Counter()
        self.saver: BaseCheckpointSaver[Any] = InMemorySaver()
        self.app: Any = None
        self.begin()

    def begin(self) -> None:
        """A saver and a ledger that know nothing of what was before, as in another process."""
        if isinstance(self.saver, DurableSaver):
            self.saver.close()
        if self.place != "memory":
            made = SqliteSaver if self.place == "file" else FileSaver
            self.saver = made(self.folder / f"{self.place} of the session")
        self.world.processes += 1
        graph: Pregel[Any, Any, Any, Any] = build(self.world, self.nodes, self.loop is not None).compile(
            checkpointer=self.saver
        )
        app = durable(graph) if self.durable else graph
        self.app = app.with_config(callbacks=[UsageLedger(prices=PRICES)])

    def play(self) -> None:
        """Run and go on until nothing is left to do."""
        given: Any = {"log": ["in"]}
        config: RunnableConfig = {"configurable": {"thread_id": "thread"}}
        extras = self.dice.randint(0, EXTRAS)
        for _ in range(RUNS):
            self.run(given, config)
            if self.dice.random() < 0.3:
                self.seen["begun anew"] += 1
                self.begin()
            given, config = None, {"configurable": {"thread_id": config["configurable"]["thread_id"]}}
            state = self.app.get_state(config)
            if state.interrupts:
                self.seen["answered"] += 1
                given = Command(resume={one.id: "yes" for one in state.interrupts})
            elif state.next:
                self.seen["resumed"] += 1
            elif extras:
                extras -= 1
                given, config = self.extra()
            else:
                return

    def extra(self) -> tuple[Any, RunnableConfig]:
        """A new input, a branch from an earlier checkpoint, or a fork to a new thread."""
        thread_id = self.dice.choice(self.threads)
        config: RunnableConfig = {"configurable": {"thread_id": thread_id}}
        earlier = [state for state in self.app.get_state_history(config) if state.next and not state.interrupts]
        what = self.dice.choice(["input", "branch", "fork", "fork"] if earlier else ["input"])
        if what == "fork" and isinstance(self.saver, DurableSaver):
            self.threads.append(f"fork {len(self.threads)}")
            app = self.app if isinstance(self.app, DurableGraph) else durable(self.app)
            chosen = self.dice.choice(earlier).config["configurable"]["checkpoint_id"]
            app.fork(thread_id, checkpoint_id=chosen, to=self.threads[-1])
            self.seen["forked"] += 1
            return None, {"configurable": {"thread_id": self.threads[-1]}}
        if what == "branch":
            self.seen["branched"] += 1
            return None, self.dice.choice(earlier).config
        self.seen["new input"] += 1
        return {"log": ["again"]}, config

    def run(self, given: Any, config: RunnableConfig) -> None:
        with suppress(Outage, OSError):
            if self.loop is None:
                self.app.invoke(given, config)
            else:
                self.loop.run_until_complete(self.app.ainvoke(given, config))

    def check(self) -> None:
        """The ledgers of all threads together say what the models say."""
        report = thread_usage(self.saver, self.threads)
        assert accounts(report) == self.world.accounts()
        assert report.known_cost == pytest.approx(self.world.cost())
        assert (report.cost is None) == bool(report.unknown)
        assert len({record["id"] for record in report.records}) == report.calls
        if isinstance(self.saver, DurableSaver):
            assert self.saver.check().damage == ()
            self.saver.close()


def play(seeds: Sequence[int], folder: Path, place: str, loop: asyncio.AbstractEventLoop | None) -> Counter[str]:
    """Play the sessions of these seeds, and check each; how often what happened."""
    if loop is not None and TOO_OLD:
        pytest.skip("before Python 3.11 a model in a coroutine has no callbacks")
    seen: Counter[str] = Counter()
    for seed in seeds:
        where = folder / str(seed)
        where.mkdir()
        session = Session(f"{seed} {place}", where, place, loop)
        session.play()
        session.check()
        seen += session.seen
        seen += Counter({group: count for (group, name), count in session.world.accounts().items() if name == "calls"})
    return seen


SESSIONS = {"file": 3, "folder": 3, "memory": 24}
"""How many sessions there are of each form, of those that are played on every run."""


@pytest.mark.parametrize("place", SESSIONS)
def test_sixty_sessions(place: str, tmp_path: Path, loop: asyncio.AbstractEventLoop | None) -> None:
    """The sums by model and by purpose over all threads of a session are those of its models."""
    seen = play(range(SESSIONS[place]), tmp_path, place, loop)
    assert {"main", "retry", "summary", "begun anew"} <= set(seen)
    assert ({"resumed", "answered", "branched", "new input"} if place == "memory" else {"forked"}) <= set(seen)


@pytest.mark.soak
@pytest.mark.parametrize("place", SESSIONS)
def test_five_hundred_sessions(place: str, tmp_path: Path, loop: asyncio.AbstractEventLoop | None) -> None:
    """The same in 510 sessions of other seeds."""
    play(range(1000, 1085), tmp_path, place, loop)
