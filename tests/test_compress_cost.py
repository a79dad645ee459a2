"""What compression costs and what it saves, as ratios: of calls of functions, of tokens, and of money; never seconds.

A profiler counts the calls of functions, Python's and C's, which are the same on every machine and at every load. What
one call of C does to a whole list counts as one: `benchmarks.context` has the time of that.
"""

from __future__ import annotations

import cProfile
import gc
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage

from langgraph_durable.context import (
    ClearToolResults,
    DropMedia,
    DropOldest,
    Shrink,
    Stage,
    Summarize,
    TruncateToolArguments,
    compress_messages,
    count_tokens,
    repair_messages,
)
from tests.compressed import Messages, calls_of_a_model, merged
from tests.histories import long_thread
from tests.talks import Scripted, calling, result, says, turns

SUMMARY = "They asked about flights, which were looked up and told. " * 33
"""What a model that sums up says: 330 words, as many as it is asked for, which are some 470 tokens."""

# -- linear ----------------------------------------------------------------------------------------------------------

SIZES = 1_000, 10_000
MOST = 11
"""What ten times as many messages may cost."""


def calls_in(work: Callable[[], object]) -> int:
    """How many functions are called while something is done."""
    profile = cProfile.Profile()
    # A collection calls what somebody else has registered with it.
    gc.disable()
    try:
        profile.runcall(work)
    finally:
        gc.enable()
    return sum(entry.callcount for entry in profile.getstats())


def loop(count: int) -> Messages:
    """One request, and an agent that calls tools with long arguments until there are so many messages."""
    made: Messages = [SystemMessage("Be brief.", id="system"), HumanMessage("Go on.", id="human")]
    for place in range(count // 2):
        made += [calling(f"call {place}", {"code": "x" * 500}), result(f"call {place}", "y" * 400)]
    return made


def chat(count: int) -> Messages:
    """Requests and answers without tools."""
    made: Messages = []
    for place in range(count // 2):
        made += [HumanMessage("q" * 200, id=f"human {place}"), AIMessage("a" * 200, id=f"ai {place}")]
    return [*made, HumanMessage("And now?", id="human")]


def torn(count: int) -> Messages:
    """Turns of which every third result is missing, and some are there again at the end."""
    whole = turns(count // 4)
    results = [message for message in whole if message.type == "tool"]
    lost = set(map(id, results[::3]))
    return [*(message for message in whole if id(message) not in lost), *results[1 :: max(1, count // 60)]]


TALKS: dict[str, Callable[[int], Messages]] = {
    "turns": lambda count: turns(count // 4),
    "a loop": loop,
    "a chat": chat,
    "torn": torn,
}


def small(messages: Messages, **options: Any) -> Any:
    """Compress to a budget that does not grow with the conversation."""
    return compress_messages(messages, budget=("tokens", 4_000), **options)


def all_stages(keep: int = 3) -> list[Stage]:
    """Every stage there is, with a model that sums up."""
    cheap: list[Stage] = [ClearToolResults(keep=keep), TruncateToolArguments(), DropMedia()]
    return [*cheap, Summarize(says(SUMMARY)), DropOldest(), Shrink()]


WAYS: dict[str, Callable[[Messages], object]] = {
    "within the budget": lambda messages: compress_messages(messages, budget=("tokens", 10**8)),
    "with all stages": lambda messages: small(messages, stages=all_stages()),
    "with its update": lambda messages: small(messages).update,
    "again, by its state": lambda messages: small(messages, state=small(messages).state),
    "to half": lambda messages: compress_messages(messages, budget=("tokens", count_tokens(messages) - 1)),
    "by shrinking": lambda messages: compress_messages(
        messages, budget=("tokens", 30 * len(messages)), stages=[Shrink(), DropOldest()]
    ),
    "in messages": lambda messages: compress_messages(messages, budget=("messages", 50)),
    "by a counter of one's own": lambda messages: small(messages, token_counter=lambda some: count_tokens(some)),
    "repaired": repair_messages,
}


@pytest.mark.parametrize(
    ("talk", "way"),
    [
        # Every conversation in one way, and every second way of one of them; the others where there is time.
        pytest.param(talk, way, marks=() if (talk == "turns" and number % 2) or number == 1 else pytest.mark.soak)
        for talk in TALKS
        for number, way in enumerate(list(WAYS) if talk == "turns" else list(WAYS)[:3])
    ],
)
def test_ten_times_as_many_messages_cost_ten_times_as_much(talk: str, way: str) -> None:
    """Whatever the conversation and whatever is done to it, time is linear in the number of messages."""
    counts = []
    for size in SIZES:
        messages = TALKS[talk](size)
        assert 0.9 * size < len(messages) < 1.1 * size
        WAYS["within the budget"](messages)  # what is looked at once in the life of a message is not counted
        counts.append(calls_in(lambda given=messages: WAYS[way](given)))  # type: ignore[misc]  # it is called at once
    fewer, more = counts
    assert fewer > SIZES[0]
    assert more <= MOST * fewer, f"{fewer:,} and {more:,} calls, {more / fewer:.1f} times as many"


# -- what it saves ---------------------------------------------------------------------------------------------------

CALLS, BUDGET = 150, 4_000
TOKENS, COST = 0.30, 0.48
"""The shares that are left of a session: of the tokens that are sent, and of what it costs."""

LEAST_CACHED = 1_024
"""Providers keep no beginning of a prompt that is shorter."""


class Prices(NamedTuple):
    """What a million tokens cost: of the model, and of the one that sums up."""

    fresh: float
    cached: float
    output: float
    told: float
    summary: float


PRICES = {
    "cached at 50 %": Prices(2.50, 1.25, 10.0, 0.15, 0.60),
    "cached at 25 %": Prices(2.00, 0.50, 8.00, 0.40, 1.60),
    # What is written to the cache costs a quarter more, and that is all that is not read from it.
    "cached at 10 %, written at 125 %": Prices(3.75, 0.30, 15.0, 1.00, 5.00),
}


class Spent(NamedTuple):
    """The tokens of a session: sent, read from the cache of these, answered; told to the one that sums up, and said."""

    sent: int
    cached: int
    output: int
    told: int
    summary: int

    def cost(self, prices: Prices) -> float:
        """In millionths."""
        fresh = self.sent - self.cached
        return sum(tokens * price for tokens, price in zip((fresh, *self[1:]), prices, strict=True))


def shared(before: Sequence[BaseMessage], after: Sequence[BaseMessage]) -> int:
    """The tokens that two prompts begin with alike, where a provider keeps as many."""
    same = next((place for place, pair in enumerate(zip(before, after, strict=False)) if pair[0] != pair[1]), None)
    length = count_tokens(after[: min(len(before), len(after)) if same is None else same])
    return length if length >= LEAST_CACHED else 0


def held(script: Messages, stages: Sequence[Stage] | None = None, *, compress: bool = True) -> Spent:
    """Hold the first `CALLS` calls of a session."""
    state: Messages = []
    sent: Messages = []
    kept: Any = None
    total = cached = output = 0
    for start, stop in list(calls_of_a_model(script))[:CALLS]:
        state = merged(state, script[start:stop])
        if compress:
            done = compress_messages(state, budget=("tokens", BUDGET), stages=stages, state=kept)
            state, kept = merged(state, done.update), done.state
        total += count_tokens(state)
        cached += shared(sent, state)
        output += count_tokens([script[stop]])
        sent = state
    models = [stage.model for stage in stages or () if isinstance(stage, Summarize)]
    asked = [prompt for model in models if isinstance(model, Scripted) for prompt in model.told]
    return Spent(total, cached, output, sum(map(count_tokens, asked)), len(asked) * count_tokens([AIMessage(SUMMARY)]))


def made_up(seed: int) -> Messages:
    """A session with a long system prompt, and results of a few words up to a page."""
    dice = random.Random(f"session {seed}")
    made: Messages = [SystemMessage("Follow the policy. " * 240, id="system")]
    for turn in range(CALLS):
        made.append(HumanMessage("Please. " * dice.randint(2, 30), id=f"human {turn}"))
        for step in range(dice.choice((0, 1, 1, 2, 4))):
            call = f"call {turn} {step}"
            arguments = {"query": "q" * dice.choice((20, 20, 200, 1_500))}
            made += [calling(call, arguments), result(call, "r" * dice.choice((80, 600, 2_500)))]
        made.append(AIMessage("It is so. " * dice.randint(2, 40), id=f"ai {turn}"))
    return made


@pytest.mark.parametrize("summaries", [False, True], ids=["dropped", "summed up"])
@pytest.mark.parametrize("seed", range(3))
def test_a_session_takes_less(seed: int, summaries: bool) -> None:
    """150 calls take at most 30 % of the input and 48 % of the cost, at any usual price of what is cached.

    What a summarizer is told, and what it writes, counts.
    """
    sent, costs = shares(made_up(seed), summaries=summaries)
    assert sent <= TOKENS
    assert max(costs.values()) <= COST, costs


@pytest.mark.parametrize("summaries", [False, True], ids=["dropped", "summed up"])
def test_a_recorded_session_takes_less(summaries: bool, transcripts: list[Path]) -> None:
    """So do 150 calls of recorded conversations, one behind the other."""
    sent, costs = shares(long_thread(transcripts, 4 * CALLS), summaries=summaries)
    assert sent <= TOKENS
    assert max(costs.values()) <= COST, costs


def shares(script: Messages, *, summaries: bool) -> tuple[float, dict[str, float]]:
    """The shares that are left of a session: of its tokens, and of its cost by the kind of prices."""
    plain, less = held(script, compress=False), held(script, all_stages() if summaries else None)
    assert (less.output, bool(less.told)) == (plain.output, summaries)
    costs = {name: less.cost(prices) / plain.cost(prices) for name, prices in PRICES.items()}
    return (less.sent + less.told) / plain.sent, costs
