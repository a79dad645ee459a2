"""Results of calls in the content blocks of a user's message, as Anthropic's own API writes them."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage

from langgraph_durable.context import compress_messages, repair_messages
from langgraph_durable.core.conversation import UNKNOWN
from tests.validity import formatted, problems, unpaired


def asked(*call_ids: str) -> AIMessage:
    """A message of a model with calls, written in blocks as well."""
    blocks: list[Any] = [{"type": "tool_use", "id": call_id, "name": "look", "input": {}} for call_id in call_ids]
    calls: Any = [{"name": "look", "args": {}, "id": call_id, "type": "tool_call"} for call_id in call_ids]
    return AIMessage(blocks, tool_calls=calls, id="asked")


def found(call_id: str, content: Any = "found", **more: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": call_id, "content": content, **more}


REQUEST = HumanMessage("Look.", id="request")
WORDS = {"type": "text", "text": "And be quick."}


def test_results_alone() -> None:
    """They become messages of their own, the first under the id of the message that they were in."""
    given = [REQUEST, asked("a", "b"), HumanMessage([found("a"), found("b", "no", is_error=True)], id="found")]
    made = repair_messages(given)
    assert made[:2] == given[:2]
    results: Any = made[2:]
    assert [(one.tool_call_id, one.content, one.status) for one in results] == [
        ("a", "found", "success"),
        ("b", "no", "error"),
    ]
    assert made[2].id == "found"
    assert repair_messages(made) == made
    assert repair_messages(given) == made


def test_what_else_the_user_said() -> None:
    """It stays, behind the results, and is the request."""
    given = [REQUEST, asked("a"), HumanMessage([found("a", None), WORDS], id="found")]
    made = repair_messages(given)
    assert [one.type for one in made] == ["human", "ai", "tool", "human"]
    assert (made[3].id, made[3].content) == ("found", [WORDS])
    assert made[2].content == ""
    shrunk = compress_messages([*given, asked("c"), ToolMessage("x" * 9000, tool_call_id="c")], budget=("tokens", 500))
    assert made[3] in shrunk.messages


@pytest.mark.parametrize(
    ("given", "unknown"),
    [
        ([REQUEST, asked("a"), HumanMessage([found("a")])], 0),
        ([REQUEST, asked("a", "b"), HumanMessage([found("b"), WORDS])], 1),
        ([REQUEST, HumanMessage([found("a"), WORDS])], 0),
        ([REQUEST, asked("a"), ToolMessage("found", tool_call_id="a"), HumanMessage([found("a", "again")])], 0),
    ],
    ids=["one", "one of two", "of no call", "twice"],
)
def test_every_provider_accepts_it(given: list[BaseMessage], unknown: int) -> None:
    """Each call has one result, of which no formatter makes two."""
    made = repair_messages(given)
    assert problems(made) == []
    assert unpaired(formatted(made)) == []
    assert sum(one.content == UNKNOWN for one in made) == unknown
    assert not any(isinstance(one.content, list) and found("a") in one.content for one in made)
