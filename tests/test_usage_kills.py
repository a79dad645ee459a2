"""A process that is killed has lost the record of the call in flight, at most."""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import suppress
from typing import Any, TypedDict

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.graph import START, StateGraph

from langgraph_durable import durable
from langgraph_durable.context import UsageLedger, thread_usage
from tests.conftest import saver_at
from tests.paid_models import Answer, PaidModel, in_coroutines
from tests.processes import Pipe, child, forks

CALLS = 2_000
"""More calls than a process makes before it is killed."""


class State(TypedDict, total=False):
    """What the node works on, and leaves alone."""

    log: list[str]


def calls_until_killed(pipe: Pipe, place: str, form: str) -> None:
    """Make call after call in one node, and tell each one that has returned."""
    model = PaidModel(answers=[Answer(number) for number in range(1, CALLS + 1)])

    def ask(state: Any) -> Any:
        for number in range(1, CALLS + 1):
            model.invoke("main")
            pipe.send(number)
        return {}

    async def aask(state: Any) -> Any:
        for number in range(1, CALLS + 1):
            await model.ainvoke("main")
            pipe.send(number)
        return {}

    builder: StateGraph[Any, Any, Any, Any] = StateGraph(State)
    node: Any = ask if form == "sync" else aask
    with saver_at(place) as saver:
        graph = durable(builder.add_node("ask", node).add_edge(START, "ask").compile(checkpointer=saver))
        config: RunnableConfig = {"configurable": {"thread_id": "thread"}, "callbacks": [UsageLedger()]}
        if form == "sync":
            graph.invoke({"log": []}, config)
        else:
            asyncio.run(graph.ainvoke({"log": []}, config))


def killed_after(seconds: float, place: str, form: str) -> tuple[int, list[int | None]]:
    """The last call that a process told of before it was killed, and the input of each call that is recorded."""
    with child(calls_until_killed, place, form) as victim:
        told = victim.receive()
        end = time.monotonic() + seconds
        while victim.pipe.poll(max(0.0, end - time.monotonic())) and time.monotonic() < end:
            told = victim.receive()
        victim.kill()
        with suppress(EOFError):
            while True:
                told = victim.receive()
    with saver_at(place) as saver:
        return told, [record["input"] for record in thread_usage(saver, "thread").records]


@forks
@pytest.mark.parametrize("form", ["sync", pytest.param("async", marks=in_coroutines)])
def test_a_kill_loses_the_call_in_flight_at_most(kept: str, form: str) -> None:
    """Whenever a process is killed, every call that had returned is recorded, and at most one more."""
    dice = random.Random(form)
    for number in range(3):
        place = kept.replace("agent", f"agent{number}").replace("checkpoints", f"{number}checkpoints")
        told, recorded = killed_after(dice.uniform(0.0, 0.15), place, form)
        assert 1 <= told < CALLS
        assert recorded in (list(range(1, told + 1)), list(range(1, told + 2)))
