"""A thread that has used what it may makes no more calls, and goes on where it stopped once it may use more."""

from __future__ import annotations

import asyncio
import logging
import math
import pickle
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver

from langgraph_durable import InvalidRequestError, UsageLimitError, durable
from langgraph_durable.context import Price, UsageLedger, thread_usage
from langgraph_durable.saver import DurableSaver
from tests.conftest import KEPT
from tests.paid_models import INPUT, SAVERS, Answer, PaidModel, asking, running, saver_of, sums, usage

Loop = asyncio.AbstractEventLoop | None

ONE = {"paid-1": Price(1_000_000 / 15, 1_000_000 / 15)}
"""Prices at which a call of 10 and 5 tokens costs 1."""


@pytest.mark.parametrize(("kind", "unit"), list(zip(SAVERS, ["tokens", "cost"] * 2, strict=True)))
def test_a_limit_stops_the_call_and_not_the_thread(kind: str, unit: str, tmp_path: Path, loop: Loop) -> None:
    """The call after the limit is not made; with a higher one the thread goes on, and nothing used is forgotten."""
    model = PaidModel()
    limits: list[Any] = (
        [{"max_tokens": 30}, {"max_tokens": 60}] if unit == "tokens" else [{"max_cost": 2}, {"max_cost": 4}]
    )
    with saver_of(kind, tmp_path, loop) as saver:
        graph = asking(model, saver, loop, calls=2)
        run = running(graph, UsageLedger(prices=ONE, **limits[0]), loop)
        run.invoke(INPUT)
        with pytest.raises(UsageLimitError, match=f"max_{unit}") as raised:
            run.invoke(INPUT)
        error = raised.value
        assert (error.thread_id, error.unit, error.limit) == ("thread", unit, limits[0][f"max_{unit}"])
        assert error.spent == pytest.approx(30 if unit == "tokens" else 2)
        assert len(model.account) == 2
        ended = running(graph, UsageLedger(prices=ONE, **limits[1]), loop).invoke(None)
        assert [message.type for message in ended["messages"]] == ["human", "ai", "ai", "human", "ai", "ai"]
        assert sums(usage(saver, loop)) == (4, 40, 20)
        assert usage(saver, loop).failed == 0


@pytest.mark.parametrize("kind", KEPT)
def test_a_durable_run_goes_on_after_a_limit(kind: str, tmp_path: Path, loop: Loop) -> None:
    """`resume` of a durable graph goes on where the limit stopped it; until then the thread stands as failed."""
    with saver_of(kind, tmp_path, loop) as saver:
        assert isinstance(saver, DurableSaver)
        graph = asking(PaidModel(), saver, loop)
        run = running(durable(graph), UsageLedger(max_tokens=15), loop)
        run.invoke(INPUT)
        with pytest.raises(UsageLimitError):
            run.invoke(INPUT)
        stands = saver.get_thread("thread")
        assert stands is not None
        assert stands.error is not None
        assert (stands.status, stands.error.type) == ("error", "langgraph_durable.errors.UsageLimitError")
        app = durable(graph).with_config(callbacks=[UsageLedger(max_tokens=30)])
        ended = app.resume("thread") if loop is None else loop.run_until_complete(app.aresume("thread"))
        assert len(ended["messages"]) == 4


def test_a_limit_is_of_a_thread(loop: Loop) -> None:
    """What one thread has used does not count in another, and no limit at all is no limit."""
    saver, ledger = InMemorySaver(), UsageLedger(max_tokens=15)
    graph = asking(PaidModel(), saver, loop)
    for name in ("one", "two"):
        running(graph, ledger, loop, name).invoke(INPUT)
        with pytest.raises(UsageLimitError):
            running(graph, ledger, loop, name).invoke(INPUT)
    running(graph, UsageLedger(), loop, "one").invoke(None)


def test_a_limit_is_raised(loop: Loop) -> None:
    """The limit of a ledger can be set anew, and the thread goes on with the same graph; the error says so."""
    saver, ledger = InMemorySaver(), UsageLedger(max_tokens=15)
    run = running(asking(PaidModel(), saver, loop), ledger, loop)
    run.invoke(INPUT)
    with pytest.raises(UsageLimitError, match=r"ledger\.max_tokens = .*invoke\(None"):
        run.invoke(INPUT)
    ledger.max_tokens = 100
    run.invoke(None)
    assert thread_usage(saver, {"configurable": {"thread_id": "thread"}}).calls == 2


def test_a_limit_without_a_checkpointer(loop: Loop) -> None:
    """Where nothing is stored the calls of this ledger count."""
    model, ledger = PaidModel(), UsageLedger(max_tokens=30)
    run = running(asking(model, None, loop), ledger, loop)
    run.invoke(INPUT)
    run.invoke(INPUT)
    with pytest.raises(UsageLimitError):
        run.invoke(INPUT)
    for _ in range(2):
        model.invoke("main", {"callbacks": [ledger]})
    with pytest.raises(UsageLimitError, match=r"outside of threads.*call again"):
        model.invoke("main", {"callbacks": [ledger]})


def test_nothing_may_be_used(loop: Loop) -> None:
    """With a limit of 0 no call is made."""
    model = PaidModel()
    with pytest.raises(UsageLimitError):
        running(asking(model, InMemorySaver(), loop), UsageLedger(max_tokens=0), loop).invoke(INPUT)
    assert model.account == []


def test_what_has_no_price_is_logged_and_not_counted(loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    """Against `max_cost` counts what is known, and one warning a model says that something is not."""
    ledger = UsageLedger(prices={"other": Price(1, 1)}, max_cost=0.000_001)
    graph = asking(PaidModel(), InMemorySaver(), loop)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            running(graph, ledger, loop).invoke(INPUT)
    assert [record.getMessage() for record in caplog.records] == [
        "calls of model 'paid-1' have no price: max_cost does not count them"
    ]
    assert usage(graph, loop).cost is None


def test_what_others_recorded_without_a_price_is_priced(loop: Loop) -> None:
    """A call that was recorded by a ledger without prices counts at the prices of the one that has a limit."""
    graph = asking(PaidModel(), InMemorySaver(), loop)
    running(graph, UsageLedger(), loop).invoke(INPUT)
    with pytest.raises(UsageLimitError):
        running(graph, UsageLedger(prices=ONE, max_cost=1), loop).invoke(INPUT)


def test_failed_and_unknown_calls_count_nothing(loop: Loop) -> None:
    """A limit counts what was told."""
    model = PaidModel(answers=[Answer(None), Answer(20, 20), Answer()])
    run = running(asking(model, InMemorySaver(), loop), UsageLedger(max_tokens=30), loop)
    run.invoke(INPUT)
    run.invoke(INPUT)
    with pytest.raises(UsageLimitError):
        run.invoke(INPUT)


def test_the_error_can_be_pickled() -> None:
    """Another process gets the error with all that it says."""
    error = UsageLimitError("too much", thread_id="t", spent=2.5, limit=2, unit="cost")
    copied = pickle.loads(pickle.dumps(error))
    assert (str(copied), vars(copied)) == ("too much", vars(error))
    assert isinstance(copied, RuntimeError)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"max_tokens": "many"}, "max_tokens"),
        ({"max_cost": math.nan, "prices": ONE}, "max_cost"),
        ({"max_cost": math.inf, "prices": ONE}, "max_cost"),
        ({"max_cost": 1}, "needs prices"),
    ],
)
def test_limits_that_mean_nothing(options: Any, said: str) -> None:
    """A limit that cannot be one is refused when the ledger is made."""
    with pytest.raises(InvalidRequestError, match=said):
        UsageLedger(**options)


def test_a_limit_that_cannot_be_checked_is_not_passed_over(tmp_path: Path) -> None:
    """A call is refused where the journal cannot be read: a coroutine that blocks, over a saver for coroutines."""
    from langgraph.graph import START, MessagesState, StateGraph

    loop, model = asyncio.new_event_loop(), PaidModel()

    async def blocks(state: MessagesState) -> Any:
        return {"messages": [model.invoke("main")]}

    try:
        with saver_of("official", tmp_path, loop) as saver:
            graph = StateGraph(MessagesState).add_node("ask", blocks).add_edge(START, "ask").compile(checkpointer=saver)
            with pytest.raises(InvalidRequestError, match="await"):
                running(graph, UsageLedger(max_tokens=10), loop).invoke(INPUT)
            assert model.account == []
    finally:
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
