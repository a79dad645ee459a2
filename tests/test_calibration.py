"""The estimate follows what a provider counts, within a tenth on nearly every call; odd counts do not mislead it."""

from __future__ import annotations

from pathlib import Path

import pytest
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, convert_to_openai_messages

from langgraph_durable.context import compress_messages, count_tokens
from langgraph_durable.context.calibration import LEAST, MOST, Calibration
from tests.openai_server import count
from tests.talks import turns
from tests.test_transcripts import recorded

TOOLS = 900
"""Tokens of what is sent beside the messages."""


def counted(messages: list[BaseMessage]) -> int:
    """What a provider counts: by words and signs, and with what is beside the messages."""
    return count([dict(one) for one in convert_to_openai_messages(messages)]) + TOOLS


def errors(conversation: list[BaseMessage]) -> list[float]:
    """How far the count of each call but the first was off, as a share of it."""
    calibration = Calibration()
    found: list[float] = []
    for place, message in enumerate(conversation):
        if not isinstance(message, AIMessage):
            continue
        prompt = conversation[:place]
        estimate, true = count_tokens(prompt), counted(prompt)
        if calibration.tokens:
            found.append(abs(calibration.counted(estimate) - true) / true)
        calibration = calibration.learned(estimate, true)
    return found


def test_recorded_conversations(transcripts: list[Path]) -> None:
    """At least 94 % of the calls of recorded conversations are counted within a tenth; without it not half are."""
    conversations = list(recorded(transcripts).values())[:60]
    found = [error for conversation in conversations for error in errors(conversation)]
    assert sum(error <= 0.1 for error in found) >= 0.94 * len(found)
    plain = [
        abs(count_tokens(one[:place]) - counted(one[:place])) / counted(one[:place])
        for one in conversations
        for place, message in enumerate(one)
        if isinstance(message, AIMessage)
    ]
    assert sum(error <= 0.1 for error in plain) < 0.5 * len(plain)


def test_a_line_through_two_calls() -> None:
    """What is beside the messages and how the tokenizer differs are told apart by two calls that differ in length."""
    calibration = Calibration().learned(1000, 1000 * 3 // 2 + 400).learned(3000, 3000 * 3 // 2 + 400)
    assert calibration.ratio == pytest.approx(1.5)
    assert calibration.overhead == pytest.approx(400)
    assert calibration.counted(5000) == pytest.approx(7900, abs=1)
    assert calibration.counted(calibration.within(4000)) <= 4000 < calibration.counted(calibration.within(4000) + 2)


@pytest.mark.parametrize("counts", [(10**6, 10**6), (1, 1), (0, 0), (5000, 100), (100, 10**6)])
def test_odd_counts(counts: tuple[int, int]) -> None:
    """A count that cannot be one of these messages moves the estimate so far and no further."""
    calibration = Calibration()
    for estimate, tokens in zip((1000, 2000), counts, strict=True):
        calibration = calibration.learned(estimate, tokens)
    assert LEAST <= calibration.ratio <= MOST
    assert calibration.within(4000) >= 400 / MOST
    given = turns(30)
    state = {"version": 1, "calibration": list(calibration)}
    made = compress_messages([*given, HumanMessage("Now?", id="now")], budget=("tokens", 4000), state=state)
    assert made.messages[-1].id == "now"


@pytest.mark.parametrize("kept", [None, 3, "abcd", [1, 2], [9.0, 0.0, 1, 1], [1.0, -4.0, 1, 1], [1.0, "x", 1, 1]])
def test_what_was_kept_by_something_else(kept: object) -> None:
    """What is no calibration is none."""
    assert Calibration.read(kept) == Calibration()


def test_an_answer_to_another_prompt() -> None:
    """A count that is too small to be of what was sent, as that of a classifier's own prompt, is not taken."""
    calibration = Calibration().learned(4000, 5000)
    assert calibration.learned(4500, 60) == calibration
    assert Calibration().learned(4000, 60) == Calibration()


def test_it_survives_a_state() -> None:
    """It is kept as plain numbers."""
    calibration = Calibration().learned(1000, 1900).learned(3000, 4900)
    assert Calibration.read(list(calibration)) == calibration
