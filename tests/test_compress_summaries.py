"""A summarizer is told what goes, is asked no more often than that takes, and when it fails nothing else does."""

from __future__ import annotations

import asyncio
import copy
import json
import logging
import math
from collections.abc import Sequence
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from pydantic import Field

from langgraph_durable.context import (
    ClearToolResults,
    DropMedia,
    DropOldest,
    Shrink,
    Stage,
    Summarize,
    TruncateToolArguments,
    acompress_messages,
    compress_messages,
    count_tokens,
)
from langgraph_durable.errors import ContextBudgetError
from tests.compressed import (
    CHUNKS,
    Case,
    Messages,
    calls_of_a_model,
    check_instructions,
    check_newest,
    check_request,
    instructions,
    is_summary,
    kept,
    merged,
    replayed,
    text_of,
    with_ids,
)
from tests.histories import facts, told, valid
from tests.validity import problems


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """Without the thousand warnings about what Gemini is not told, and about summarizers that fail."""
    caplog.set_level(logging.CRITICAL)


class Scribe(BaseChatModel):
    """A model that keeps what it is told, and answers what it was made to."""

    answer: Any = "They looked at the logs and found a retry."
    fails: str = ""
    told: list[str] = Field(default_factory=list)

    @property
    def _llm_type(self) -> str:
        return "scribe"

    def _generate(self, messages: Sequence[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        self.told.append(" ".join(map(told, messages)))
        if self.fails:
            raise RuntimeError(self.fails)
        answer = self.answer if isinstance(self.answer, AIMessage) else AIMessage(self.answer)
        return ChatResult(generations=[ChatGeneration(message=answer.model_copy())])


COUNTING = {"token_counter": count_tokens}
CHEAP = (ClearToolResults(), TruncateToolArguments(), DropMedia())


def with_summary(scribe: Scribe, window: int, *, clear: bool) -> tuple[Stage, ...]:
    """The stages of a conversation that is summarised, with or without cheaper ones before."""
    return (*(CHEAP if clear else ()), Summarize(scribe, window=window), DropOldest(), Shrink())


def cheaper(messages: Messages) -> Messages:
    """The messages after all that can be done without leaving one out."""
    budget = count_tokens(messages) - 1
    try:
        return compress_messages(messages, budget=("tokens", budget), target=("tokens", 1), stages=CHEAP).messages
    except ContextBudgetError:
        return messages


def aloud(message: BaseMessage) -> BaseMessage:
    """A message without its thoughts, which nobody is told."""
    if isinstance(message.content, str):
        return message
    blocks = [block for block in message.content if isinstance(block, str) or block.get("type") != "thinking"]
    return message.model_copy(update={"content": blocks})


def gone(before: Sequence[BaseMessage], after: Sequence[BaseMessage]) -> Messages:
    """The messages that are there no more; the summary that has the id of one is not that one."""
    left = {message.id for message in after if message in before or not is_summary(message)}
    return [message for message in before if message.id not in left]


@pytest.mark.parametrize("clear", [True, False])
@pytest.mark.parametrize("seeds", CHUNKS)
def test_the_summarizer_is_told_what_is_dropped(seeds: range, clear: bool) -> None:
    """At least 95 % of the facts of what is dropped are told, in no more calls than that needs."""
    shown, lost = 0, 0
    for seed in seeds:
        messages = with_ids(valid(seed))
        budget, window = ((4_000, 6_000), (8_000, 3_000))[seed % 2]
        scribe = Scribe(told=[])
        done = compress_messages(messages, budget=("tokens", budget), stages=with_summary(scribe, window, clear=clear))
        name = (seed, budget)
        assert problems(done.messages) == [], name
        assert count_tokens(done.messages) <= budget, name
        dropped = gone(messages, done.messages)
        facts_of_it, heard = facts(map(aloud, dropped)), facts([HumanMessage(" ".join(scribe.told))])
        assert len(scribe.told) == done.report.summary_calls, name
        assert len(scribe.told) <= math.ceil(count_tokens(dropped) / window) + 1, name
        assert done.report.failures == (), name
        if not scribe.told and clear:
            # What cheaper stages left of it has to be worth a call: that much is lost by design.
            ids = {message.id for message in dropped}
            if count_tokens([each for each in cheaper(messages) if each.id in ids]) < count_tokens(messages) / 10:
                continue
        shown, lost = shown + len(facts_of_it & heard), lost + len(facts_of_it - heard)
        if scribe.told:
            assert len(facts_of_it & heard) >= 0.95 * len(facts_of_it), (name, sorted(facts_of_it - heard))
        again = compress_messages(
            done.messages,
            budget=("tokens", budget),
            state=done.state,
            stages=with_summary(scribe, window, clear=clear),
        )
        assert again.messages == done.messages, name
        assert again.report.summary_calls == 0, name
    assert shown >= 0.95 * (shown + lost) > 0, (shown, lost)


@pytest.mark.parametrize("seeds", CHUNKS)
def test_a_summary_takes_a_place(seeds: range) -> None:
    """The summary is a message of the user's, marked, in the place and with the id of the first message it replaces."""
    summaries = 0
    for seed in seeds:
        messages = with_ids(valid(seed))
        scribe = Scribe(told=[])
        done = compress_messages(messages, budget=("tokens", 6_000), stages=with_summary(scribe, 8_000, clear=True))
        made = [message for message in done.messages if is_summary(message)]
        assert len(made) == bool(scribe.told), seed
        assert merged(messages, done.update) == done.messages, seed
        assert replayed(messages, done.update) == done.messages, seed
        again = compress_messages(
            messages, budget=("tokens", 6_000), state=done.state, stages=with_summary(scribe, 8_000, clear=True)
        )
        assert again.messages == done.messages, seed
        assert again.report.summary_calls == 0, seed
        case = Case(
            f"summary {seed}", messages, messages, ("tokens", 6_000), COUNTING, done, None, True, kept(messages)
        )
        check_request(case)
        check_newest(case)
        check_instructions(case)
        for summary in made:
            summaries += 1
            assert isinstance(summary, HumanMessage), seed
            assert scribe.answer in text_of(summary), seed
            assert summary.id == gone(messages, done.messages)[0].id == done.report.summarized[0], seed
            assert done.messages[: len(instructions(messages))] == instructions(messages), seed
            dropped = {message.id for message in gone(messages, done.messages)}
            assert dropped == {*done.report.summarized, *done.report.dropped}, seed
    assert summaries > len(seeds) / 4


USELESS: dict[str, dict[str, Any]] = {
    "it raises": {"fails": "SECRET refused: context_length_exceeded"},
    "it says nothing": {"answer": ""},
    "it says spaces": {"answer": " \n "},
    "it has no blocks": {"answer": AIMessage([])},
    "it calls a tool": {"answer": AIMessage("", tool_calls=[{"name": "SECRET", "args": {}, "id": "SECRET"}])},
    "it thinks only": {"answer": AIMessage([{"type": "thinking", "thinking": "SECRET"}])},
}


@pytest.mark.parametrize("name", USELESS)
@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_summarizer_that_fails(name: str, asynchronous: bool) -> None:
    """The conversation is compressed without it, the report says so, and what it said or raised is in no message."""
    asked = 0
    for seed in range(8):
        messages = with_ids(valid(seed))
        before = copy.deepcopy(messages)
        scribe = Scribe(told=[], **USELESS[name])
        options: dict[str, Any] = {"budget": ("tokens", 4_000), "stages": with_summary(scribe, 8_000, clear=True)}
        if asynchronous:
            done = asyncio.run(acompress_messages(messages, **options))
        else:
            done = compress_messages(messages, **options)
        asked += len(scribe.told)
        assert bool(done.report.failures) == bool(scribe.told), seed
        assert problems(done.messages) == [], seed
        assert count_tokens(done.messages) <= 4_000, seed
        assert not any(map(is_summary, done.messages)), seed
        assert "SECRET" not in str(done.messages), seed
        assert "SECRET" not in json.dumps(done.state), seed
        plain = compress_messages(messages, budget=("tokens", 4_000))
        assert done.messages == plain.messages, seed
        assert messages == before, seed
    assert asked > 2


def test_a_summary_that_is_too_long() -> None:
    """A summarizer that does not keep to what it was asked leaves a conversation within its budget all the same."""
    for seed in range(15):
        for length in (3_000, 40_000):
            messages = with_ids(valid(seed))
            scribe = Scribe(told=[], answer="FACT999999 " + "so it goes " * (length // 11))
            done = compress_messages(messages, budget=("tokens", 4_000), stages=with_summary(scribe, 8_000, clear=True))
            assert count_tokens(done.messages) <= 4_000, (seed, length)
            assert problems(done.messages) == [], (seed, length)


def test_a_session_with_summaries() -> None:
    """Over a long session every summary goes on from the one before, there is one at a time, and calls are few."""
    for seed in range(4):
        script = valid(f"long {seed}", 60_000)
        for place, message in enumerate(script):
            message.id = f"s{place}"
            if isinstance(message, AIMessage):
                message.usage_metadata = None
        scribe = Scribe(told=[])
        stages = with_summary(scribe, 16_000, clear=True)
        state: Messages = []
        notes = None
        calls, dropped = 0, 0
        for start, stop in calls_of_a_model(script):
            state = merged(state, copy.deepcopy(script[start:stop]))
            before = len(scribe.told)
            done = compress_messages(state, budget=("tokens", 8_000), stages=stages, state=notes)
            assert count_tokens(done.messages) <= 8_000, (seed, stop)
            assert problems(done.messages) == [], (seed, stop)
            summaries = [message for message in done.messages if is_summary(message)]
            assert len(summaries) <= 1, (seed, stop)
            if len(scribe.told) > before and any(map(is_summary, state)):
                assert all(scribe.answer in said for said in scribe.told[before : before + 1]), (seed, stop)
            calls += 1
            dropped += count_tokens(gone(state, done.messages))
            notes = json.loads(json.dumps(done.state))
            state = merged(state, done.update)
            assert state == done.messages, (seed, stop)
        assert 0 < len(scribe.told) < calls / 2, seed
        # Each time about half of the budget goes.
        assert len(scribe.told) <= dropped / 1_500, (seed, len(scribe.told), dropped)
