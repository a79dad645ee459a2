"""What a user chooses holds, and what holds for one call of a model holds for a session of them."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from langchain_core.messages import AIMessage, ToolMessage

from langgraph_durable.context import (
    ClearToolResults,
    DropMedia,
    DropOldest,
    Shrink,
    Stage,
    TruncateToolArguments,
    acompress_messages,
    compress_messages,
    count_tokens,
)
from langgraph_durable.errors import ContextBudgetError
from tests.compressed import (
    BUDGETS,
    CHUNKS,
    Case,
    Messages,
    calls_of_a_model,
    check_budget,
    check_instructions,
    check_newest,
    check_request,
    kept,
    merged,
    shortest,
    with_ids,
)
from tests.histories import damaged, valid
from tests.validity import problems

# -- what can be chosen ----------------------------------------------------------------------------------------------


def units(messages: Messages) -> Iterator[Messages]:
    """Messages of the model with the results of their calls, and all others one by one."""
    unit: Messages = []
    for message in messages:
        if unit and not isinstance(message, ToolMessage):
            yield unit
            unit = []
        unit.append(message)
    if unit:
        yield unit


@pytest.mark.parametrize("by_id", [True, False])
@pytest.mark.parametrize("seeds", CHUNKS)
def test_what_is_pinned_stays(seeds: range, by_id: bool) -> None:
    """Pinned messages stay as they are and where they are, and everything else holds; calls stay with their results."""
    worked = 0
    for seed in seeds:
        messages = with_ids(valid(seed))
        small = [message for message in messages if count_tokens([message]) < 150]
        chosen = small[seed % 7 :: max(len(small) // 3, 1)]
        names = {message.id for message in chosen}
        pin: Any = list(names) if by_id else lambda message: message.id in names  # noqa: B023  # called in this round only
        whole = [message for unit in units(messages) if any(each.id in names for each in unit) for message in unit]
        there = {message.id for message in (*whole, *kept(messages))}
        for budget in BUDGETS[1:3]:
            at = f"pinned {seed}, {budget}"
            case = Case(at, messages, messages, ("tokens", budget), {"token_counter": count_tokens}, None, None, True)
            case.kept = [message for message in messages if message.id in there]
            try:
                case.done = compress_messages(messages, budget=case.budget, pin=pin)
            except ContextBudgetError:
                short = [message if message.id in names else shortest(message) for message in case.kept]
                assert count_tokens(short) > budget, at
                continue
            worked += 1
            check_budget(case)
            check_instructions(case)
            check_request(case)
            check_newest(case)
            assert problems(case.result.messages) == [], at
            assert [message for message in case.result.messages if message.id in names] == chosen, at
            again = compress_messages(case.result.messages, budget=case.budget, pin=pin, state=case.result.state)
            assert again.messages == case.result.messages, at
            assert merged(messages, case.result.update) == case.result.messages, at
    assert worked > len(seeds)


@pytest.mark.parametrize("seeds", CHUNKS)
def test_without_shrinking_nothing_newest_is_touched(seeds: range) -> None:
    """Without `Shrink` it fails exactly where what has to stay is above the budget, and says how large that is."""
    stages = (ClearToolResults(), TruncateToolArguments(), DropMedia(), DropOldest())
    failed = 0
    for seed in seeds:
        messages = valid(seed)
        least = count_tokens(kept(messages))
        for budget in BUDGETS[:3]:
            try:
                done = compress_messages(messages, budget=("tokens", budget), stages=stages)
            except ContextBudgetError as error:
                refused = (error.tokens, error.budget)
                failed += 1
                assert least > budget, (seed, budget, least)
                assert refused == (least, budget), seed
            else:
                assert least <= budget, (seed, budget, least)
                assert count_tokens(done.messages) <= budget
                assert all(any(left == message for left in done.messages) for message in kept(messages)), (seed, budget)
    assert failed


STAGES: dict[str, tuple[Stage, ...]] = {
    "none": (),
    "clearing": (ClearToolResults(keep=0),),
    "cutting": (TruncateToolArguments(),),
    "media": (DropMedia(),),
    "dropping": (DropOldest(),),
    "shrinking": (Shrink(),),
    "backwards": (Shrink(), DropOldest(), DropMedia(), TruncateToolArguments(), ClearToolResults()),
}


@pytest.mark.parametrize("name", STAGES)
def test_any_stages_make_valid_conversations(name: str) -> None:
    """Whatever stages there are and whatever their order, what comes out is valid and in the budget."""
    worked = 0
    for seed in range(20):
        for messages in (valid(seed, 4_000), damaged(seed, tokens=4_000).messages, valid(seed, 8_000)):
            try:
                done = compress_messages(messages, budget=("tokens", 6_000), stages=STAGES[name])
            except ContextBudgetError:
                continue
            worked += 1
            assert count_tokens(done.messages) <= 6_000, seed
            assert problems(done.messages) == [], seed
            again = compress_messages(done.messages, budget=("tokens", 6_000), stages=STAGES[name])
            assert again.messages == done.messages, seed
    assert worked


async def test_a_coroutine_does_the_same() -> None:
    """`acompress_messages` gives what `compress_messages` gives."""
    for seed in range(15):
        for messages in (valid(seed), damaged(seed).messages):
            ours = compress_messages(messages, budget=("tokens", 4_000))
            theirs = await acompress_messages(messages, budget=("tokens", 4_000))
            assert (ours.messages, ours.report, ours.state) == (theirs.messages, theirs.report, theirs.state), seed


# -- as it goes on -----------------------------------------------------------------------------------------------------


def conversation(seed: int) -> Messages:
    """A long conversation with ids, without what a provider counted: that has nothing to do with what is sent here."""
    script = with_ids(valid(f"session {seed}", 30_000))
    for message in script:
        if isinstance(message, AIMessage):
            message.usage_metadata = None
    return script


@pytest.mark.parametrize("budget", BUDGETS[1:3])
@pytest.mark.parametrize("seed", [pytest.param(seed, marks=pytest.mark.soak if seed > 3 else ()) for seed in range(40)])
def test_a_session(seed: int, budget: int) -> None:
    """Call by call, kept in the state or as a view of it, the prompt keeps the budget and has what has to stay.

    Between two edits it only grows, for as long as half of the budget lasts, so that the provider's cache is of use.
    """
    script = conversation(seed)
    state: Messages = []
    kept_state, view_state = None, None
    sent: Messages = []
    calls, edits, full = 0, 0, 0
    shrunk: set[str] = set()
    for start, stop in calls_of_a_model(script):
        state = merged(state, copy.deepcopy(script[start:stop]))
        try:
            stored = compress_messages(state, budget=("tokens", budget), state=kept_state)
        except ContextBudgetError:
            assert count_tokens([shortest(message) for message in kept(script[:stop])]) > budget, stop
            return
        seen = compress_messages(script[:stop], budget=("tokens", budget), state=view_state)
        assert [message.id for message in stored.messages] == [message.id for message in seen.messages], stop
        assert stored.messages == seen.messages, stop
        for done in (stored, seen):
            assert count_tokens(done.messages) <= budget, stop
            assert problems(done.messages) == [], stop
        case = Case(
            f"session {seed}",
            state,
            script[:stop],
            ("tokens", budget),
            {"token_counter": count_tokens},
            seen,
            None,
            False,
        )
        case.kept, case.shrunk = kept(script[:stop]), shrunk
        # Results may have more tokens than is estimated, so of what no provider has counted yet a share is left free.
        case.spare = 0.15 * count_tokens(script[start:stop])
        check_instructions(case)
        check_request(case)
        check_newest(case)
        shrunk |= {*seen.report.edits.get("shrunk", ())}
        calls += 1
        full += count_tokens(case.kept) + case.spare > budget / 2
        edits += stored.messages[: len(sent)] != sent
        sent = stored.messages
        kept_state, view_state = json.loads(json.dumps(stored.state)), json.loads(json.dumps(seen.state))
        state = merged(state, stored.update)
        assert state == stored.messages, stop
    assert calls > 5
    # Where what has to stay takes more than half, the next message may be one too many.
    assert edits <= 1 + 2 * full + count_tokens(script) / (budget / 2), (edits, calls, full)


@pytest.mark.parametrize("factor", [0.6, 1.0, 1.7])
@pytest.mark.parametrize("persist", ["replace", "view"])
def test_the_providers_count_is_what_counts(persist: str, factor: float) -> None:
    """A provider that counts otherwise, and tools too, finds its budget kept once it has said so."""
    tools, budget = 700, 8_000
    spare = budget
    for seed in range(4):
        script = conversation(seed)
        state: Messages = []
        notes: Any = None
        calls = 0
        for start, stop in calls_of_a_model(script):
            state = merged(state, script[start:stop]) if persist == "replace" else script[:stop]
            if count_tokens(kept(state)) * factor + tools > budget * 0.8:
                # Shrinking has tests of its own.
                continue
            done = compress_messages(state, budget=("tokens", budget), state=notes)
            counted = int(count_tokens(done.messages) * factor) + tools
            calls += 1
            if calls > 3:
                assert counted <= budget * 1.05, (seed, stop, calls)
                spare = min(spare, budget - counted)
            answer = script[stop]
            assert isinstance(answer, AIMessage)
            answer.usage_metadata = {"input_tokens": counted, "output_tokens": 50, "total_tokens": counted + 50}
            notes = json.loads(json.dumps(done.state))
            if persist == "replace":
                state = merged(state, done.update)
        assert calls > 5, seed
    # The room that there is gets used.
    assert spare < budget * 0.2
