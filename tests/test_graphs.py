"""A graph gives the same states and leaves the same history behind with this saver as with LangGraph's own two."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver

from langgraph_durable import SqliteSaver
from tests.graphs import DURABILITIES, Durability, Running, nameless, official
from tests.scenarios import SCENARIOS


def happened(saver: Any, loop: Any, name: str, durability: Durability) -> Any:
    """What a scenario answered, and all that it left behind."""
    graph, act = SCENARIOS[name](saver)
    running = Running(graph, loop, durability)
    told = act(running)
    return {"answers": nameless(told), **running.report()}


@pytest.fixture(params=DURABILITIES)
def durability(request: pytest.FixtureRequest) -> Durability:
    found: Durability = request.param
    return found


@pytest.fixture
def place(durability: Durability, tmp_path: Path) -> str:
    """A file, or memory where it does not matter when something is stored."""
    return ":memory:" if durability == "async" else str(tmp_path / "agent.db")


@pytest.mark.sampled(4)
@pytest.mark.parametrize("name", SCENARIOS)
def test_a_graph_does_what_it_does_elsewhere(place: str, loop: Any, name: str, durability: Durability) -> None:
    """Answers, states, histories and stored checkpoints are those of the official savers, in SQLite and in memory."""
    with SqliteSaver(place) as own:
        ours = happened(own, loop, name, durability)
    with official(loop) as saver:
        theirs = happened(saver, loop, name, durability)
    memorized = happened(InMemorySaver(), loop, name, durability)
    for part, expected in theirs.items():
        assert ours[part] == expected, part
        # LangGraph's two may disagree: the one in memory keeps values by version and does not see some that changed.
        assert memorized[part] != expected or ours[part] == memorized[part], part
    assert ours["state"] == memorized["state"]
    assert ours["answers"] == memorized["answers"]
