"""The checker of what providers refuse sees whatever is wrong, and conversations to test with are what they seem."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage, messages_to_dict

from tests.histories import DAMAGES, FACT, by_hand, damaged, facts, long_thread, told, valid
from tests.validity import FORMATTERS, formatted, missing, problems, unpaired

SEEDS = range(30)
BY_HAND = by_hand()


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """Without the thousand warnings about what Gemini is not told."""
    caplog.set_level(logging.ERROR)


def calling(*call_ids: Any, content: Any = "", **more: Any) -> AIMessage:
    made: Any = [{"name": "search", "args": {"q": 1}, "id": call_id, "type": "tool_call"} for call_id in call_ids]
    return AIMessage(content, tool_calls=made, **more)


def result(call_id: str, **more: Any) -> ToolMessage:
    return ToolMessage("found", tool_call_id=call_id, **more)


ASKED = HumanMessage("please")
UNREADABLE: Any = {"name": "search", "args": "{", "id": "a", "error": None, "type": "invalid_tool_call"}
TOOL_USE = {"type": "tool_use", "id": "a", "name": "search", "input": {}}
FUNCTION_CALL = {"type": "function_call", "call_id": "a", "name": "search", "arguments": "{}"}

FINE: dict[str, Sequence[BaseMessage]] = {
    "nothing": [],
    "instructions alone": [SystemMessage("be brief")],
    "a request": [SystemMessage("be brief"), SystemMessage("and kind"), ASKED],
    "a step": [ASKED, calling("a"), result("a"), AIMessage("done")],
    "results in another order": [ASKED, calling("a", "b"), result("b"), result("a")],
    "an id again in a later turn": [ASKED, calling("a"), result("a"), calling("a"), result("a")],
    "an unreadable call with a result": [ASKED, AIMessage("", invalid_tool_calls=[UNREADABLE]), result("a")],
    "a call told twice": [ASKED, calling("a", content=[TOOL_USE]), result("a")],
    "a call told by OpenAI's block": [ASKED, AIMessage([FUNCTION_CALL]), result("a")],
    "an answer first": [AIMessage("hello"), ASKED],
}

REFUSED: dict[str, Sequence[BaseMessage]] = {
    "a call without a result at the end": [ASKED, calling("a")],
    "one of two calls without a result": [ASKED, calling("a", "b"), result("a")],
    "a call without a result, then a request": [ASKED, calling("a"), HumanMessage("and?")],
    "a call without a result, then an answer": [ASKED, calling("a"), AIMessage("done")],
    "a result of nothing": [ASKED, result("a")],
    "a result of another call": [ASKED, calling("a"), result("b")],
    "a result first": [result("a"), ASKED],
    "a result first behind instructions": [SystemMessage("be brief"), result("a")],
    "a second result": [ASKED, calling("a"), result("a"), result("a")],
    "a second result instead of another": [ASKED, calling("a", "b"), result("a"), result("a")],
    "a result behind a request": [ASKED, calling("a"), HumanMessage("wait"), result("a")],
    "a result before its call": [ASKED, result("a"), calling("a")],
    "a result in a later turn": [ASKED, calling("a"), result("a"), HumanMessage("and?"), result("a")],
    "an unreadable call without a result": [ASKED, AIMessage("", invalid_tool_calls=[UNREADABLE])],
    "a call in Anthropic's block alone": [ASKED, AIMessage([TOOL_USE])],
    "a call in OpenAI's block alone": [ASKED, AIMessage([FUNCTION_CALL]), HumanMessage("and?")],
    "a block of another call": [ASKED, calling("b", content=[TOOL_USE]), result("b")],
    "a call as OpenAI sent it": [
        ASKED,
        AIMessage("").model_copy(update={"additional_kwargs": {"tool_calls": [{"id": "a"}]}}),
    ],
    "a call with an empty id": [ASKED, calling(""), result("")],
    "a call without an id": [ASKED, calling(None)],
    "two calls of one id": [ASKED, calling("a", "a"), result("a"), result("a")],
    "instructions in the middle": [ASKED, SystemMessage("be brief")],
    "two messages of one id": [HumanMessage("please", id="1"), AIMessage("done", id="1")],
}


@pytest.mark.parametrize("name", FINE)
def test_what_is_fine(name: str) -> None:
    """A conversation that providers take is found without fault, in the request that is made of it too."""
    assert problems(FINE[name]) == []


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name: str) -> None:
    """Each thing that providers refuse is found."""
    assert problems(REFUSED[name])


@pytest.mark.parametrize(
    "name", ["a step", "results in another order", "an id again in a later turn", "an answer first"]
)
def test_a_request_that_is_fine(name: str) -> None:
    """Nothing is found in the requests that the providers' packages make of a conversation that they take."""
    assert unpaired(formatted(FINE[name])) == []


@pytest.mark.parametrize("api", FORMATTERS)
@pytest.mark.parametrize(
    "name", ["a call without a result at the end", "one of two calls without a result", "a result of another call"]
)
def test_a_request_that_is_refused(name: str, api: str) -> None:
    """A call without a result is found in the request of every API."""
    requests = formatted(REFUSED[name])
    if api not in requests:
        pytest.skip(f"the package of {api} is not installed")
    assert unpaired({api: requests[api]})


@pytest.mark.parametrize("api", FORMATTERS)
def test_every_api_is_asked(api: str) -> None:
    """An API is left out where its package is missing, and not in silence."""
    if api in missing():
        pytest.skip(f"the package of {api} is not installed")
    assert api in formatted([ASKED])


@pytest.mark.parametrize("start", range(0, len(SEEDS), 10))
def test_valid_conversations(start: int) -> None:
    """A valid conversation has no fault, every provider's package takes it as it is, and its length is about right."""
    for seed in SEEDS[start : start + 10]:
        messages = valid(seed)
        assert problems(messages) == [], seed
        assert unpaired(formatted(messages)) == [], seed
        assert 60_000 < len("".join(map(told, messages)).encode()) < 1_000_000, seed


@pytest.mark.parametrize("name", BY_HAND)
def test_conversations_by_hand(name: str) -> None:
    """Those made by hand are valid too."""
    messages = BY_HAND[name]
    assert bool(messages) == (name != "empty")
    assert problems(messages) == []
    assert unpaired(formatted(messages)) == []


@pytest.mark.parametrize("kind", DAMAGES)
def test_each_damage_is_seen(kind: str) -> None:
    """Whatever is done to a valid conversation, the checker sees it, in every conversation."""
    seen = 0
    for seed in SEEDS:
        messages, done = damaged(seed, [kind], tokens=3_000)
        assert problems(messages), (seed, done)
        seen += done == [kind]
    assert seen > len(SEEDS) / 2


def test_several_damages_are_seen() -> None:
    """A conversation that several things were done to is never taken for a valid one, and facts stay its own."""
    for seed in SEEDS:
        messages, done = damaged(seed)
        assert problems(messages), (seed, done)
        if "a message twice" not in done:
            given = [fact for message in messages for fact in set(FACT.findall(told(message)))]
            assert len(given) == len(set(given)), seed


def test_a_seed_decides() -> None:
    """One seed gives one conversation, another seed another one, and the breadth of what there can be is met."""
    assert messages_to_dict(valid(3)) == messages_to_dict(valid(3)) != messages_to_dict(valid(4))
    assert messages_to_dict(damaged(3).messages) == messages_to_dict(damaged(3).messages)
    met: set[str] = set()
    for seed in SEEDS:
        messages = valid(seed, 6_000)
        first = next(message for message in messages if not isinstance(message, SystemMessage))
        met |= {f"ends {messages[-1].type}", f"begins {messages[0].type}", f"begins {first.type}"}
        met.add(f"ids {first.id is not None}")
        for before, message in pairwise(messages):
            if before.type == message.type == "human":
                met.add("requests in a row")
            if isinstance(message, AIMessage):
                met |= {f"{len(message.tool_calls)} calls", f"usage {message.usage_metadata is not None}"}
            if message.content == "":
                met.add(f"empty {message.type}")
            for block in message.content if isinstance(message.content, list) else ():
                met.add(f"{message.type} {block['type'] if isinstance(block, dict) else 'string'}")
    assert met >= {
        *("ends human", "ends ai", "ends tool", "begins system", "begins human", "begins ai"),
        *("ids True", "ids False", "requests in a row", "usage True", "usage False", "empty ai", "empty tool"),
        *("0 calls", "1 calls", "2 calls", "3 calls", "4 calls"),
        *("human image_url", "human image", "human audio", "human file", "human widget", "human string", "human text"),
        *("tool image_url", "tool image", "tool audio", "tool file", "tool widget", "tool string", "tool text"),
        *("ai text", "ai string", "ai tool_use", "ai function_call", "ai tool_call", "ai thinking"),
    }


def test_each_message_has_facts_of_its_own() -> None:
    """No fact is told by two messages, and a long text has one every few hundred characters."""
    for seed in SEEDS:
        messages = valid(seed)
        given = [fact for message in messages for fact in set(FACT.findall(told(message)))]
        assert len(given) == len(set(given)) > 50, seed
        assert facts(messages) == set(given)


def test_recordings_become_one_thread(transcripts: list[Path]) -> None:
    """A thread of any length is made of recorded conversations: one system message, valid, every id its own."""
    messages = long_thread(transcripts, 6_000)
    assert 6_000 <= len(messages) < 6_100
    assert [message.type for message in messages].count("system") == 1
    assert problems(messages) == []
    called = [call["id"] for message in messages if isinstance(message, AIMessage) for call in message.tool_calls]
    assert len(called) == len(set(called)) > 1_000
