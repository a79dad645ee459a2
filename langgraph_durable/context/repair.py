"""A conversation that model providers accept: each call of a tool is followed at once by exactly one result.

Providers refuse a conversation as a whole when a call was left without its result, or a result without its call, and
that is what an interruption leaves behind. What is in order stays as it is, the same objects in the same order.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias, cast

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    MessageLikeRepresentation,
    ToolCall,
    ToolMessage,
    convert_to_messages,
)

from langgraph_durable.context.calls import block_call, block_call_id, calls_of, results_in
from langgraph_durable.context.survey import survey
from langgraph_durable.core.conversation import UNKNOWN, closed
from langgraph_durable.core.messages import altered
from langgraph_durable.errors import InvalidRequestError

NOT_MADE = "This tool call was not made: its arguments could not be read."
"""What a model is told of a call that nobody could have made."""


class Repaired(NamedTuple):
    """A conversation in order, and what that took, in words."""

    messages: list[BaseMessage]
    notes: tuple[str, ...]


def repair_messages(messages: Sequence[MessageLikeRepresentation]) -> list[BaseMessage]:
    """The conversation as model providers accept it; nothing that is given is changed, and what is in order stays.

    - A result whose call is not there goes; one that is not right behind its call moves there; of several results of
      one call the first stays, or the real one where another only says that nothing is known.
    - Results in content blocks of a user's message (`tool_result`) become messages of their own.
    - A call without a result gets a `ToolMessage` with status `error` that says that its effects are unknown. Calls
      that could not be parsed (`invalid_tool_calls`) and calls in content blocks (`tool_use`, `function_call`) count.
    - Of two calls with one id in one message the first stays; a call without an id gets one.
    - Of two messages with one id the later one stands, at the place of the first, as in `add_messages`.

    The results that are added have the same ids whenever the same conversation is repaired.
    """
    given = converted(messages)
    return repaired(given, in_order=survey(given).in_order).messages


def converted(messages: Sequence[MessageLikeRepresentation]) -> Sequence[BaseMessage]:
    """Messages in whatever form LangChain takes them. InvalidRequestError for what is no list of them."""
    if isinstance(messages, str) or not isinstance(messages, Sequence):
        what = "a whole state" if isinstance(messages, Mapping) else f"a {type(messages).__name__}"
        raise InvalidRequestError(f"messages is a list of messages, and it was {what}")
    if all(issubclass(kind, BaseMessage) for kind in set(map(type, messages))):
        return cast("Sequence[BaseMessage]", messages)
    try:
        return convert_to_messages(messages)
    except (ValueError, TypeError, KeyError, AttributeError, NotImplementedError) as error:
        raise InvalidRequestError(f"messages has something in it that is no message: {error}") from error


def closings(messages: Sequence[Any], results: Mapping[str, ToolMessage]) -> list[ToolMessage]:
    """The results that are missing at the end of a conversation, those in `results` (by call) where they are known.

    There is none where something else follows the last message of a model.
    """
    start = next(
        (place for place in range(len(messages) - 1, -1, -1) if not isinstance(messages[place], ToolMessage)), 0
    )
    tail = messages[start:]
    if not tail or not isinstance(tail[0], AIMessage):
        return []
    answered = {result.tool_call_id for result in tail[1:]}
    calls = [call["id"] or "" for call in calls_of(tail[0]) if call["id"] not in answered]
    known = [results[call_id] for call_id in calls if call_id in results]
    there = set(map(id, tail))
    made = repair_messages([*tail, *known])
    # The message that calls stays as it is: of a call that providers are not told the result would be one of none.
    told = {call["id"] for call in calls_of(tail[0])}
    return [one for one in made if isinstance(one, ToolMessage) and id(one) not in there and one.tool_call_id in told]


def repaired(messages: Sequence[BaseMessage], *, in_order: bool = False) -> Repaired:
    """`repair_messages`, with what was done; a conversation that was found `in_order` is not looked at again."""
    if in_order:
        return Repaired(list(messages), ())
    notes: list[str] = []
    apart = (part for message in _each_once(messages, notes) for part in _apart(message, notes))
    given = [_with_calls(message, number, notes) for number, message in enumerate(apart)]
    results = _owned(given, notes)
    out: list[BaseMessage] = []
    for number, message in enumerate(given):
        if isinstance(message, ToolMessage):
            continue
        out.append(message)
        found = results.get(number, {})
        out += [result for _, result in sorted(found.values(), key=lambda one: one[0])]
        for call in calls_of(message):
            if call["id"] not in found:
                notes.append(f"a call of {call['name']} had no result")
                out.append(_closing(message, call))
    return Repaired(out, tuple(notes))


def _each_once(messages: Sequence[BaseMessage], notes: list[str]) -> Iterator[BaseMessage]:
    latest = {message.id: message for message in messages if message.id}
    seen: set[str] = set()
    for message in messages:
        if not message.id:
            yield message
        elif message.id not in seen:
            seen.add(message.id)
            yield latest[message.id]
        else:
            notes.append(f"message {message.id} was there twice")


def _apart(message: BaseMessage, notes: list[str]) -> list[BaseMessage]:
    """The results that stand in the blocks of a message, and what else it says."""
    results = results_in(message)
    if not results:
        return [message]
    notes.append(f"{len(results)} results were in content blocks")
    rest = [block for block in message.content if not any(block is result for result in results)]
    made: list[BaseMessage] = []
    for block in results:
        call_id, content = str(block.get("tool_use_id") or ""), block.get("content")
        name = message.id if not rest and not made else None if message.id is None else _name(message.id, call_id)
        status: Any = "error" if block.get("is_error") else "success"
        made.append(ToolMessage("" if content is None else content, tool_call_id=call_id, status=status, id=name))
    return [*made, altered(message, {"content": rest})] if rest else made


def _with_calls(message: BaseMessage, number: int, notes: list[str]) -> BaseMessage:
    """The message with calls that can be told apart."""
    if not isinstance(message, AIMessage):
        return message
    changes: dict[str, Any] = {}
    ids: set[str] = set()
    for field in ("tool_calls", "invalid_tool_calls"):
        kept: list[Any] = []
        for place, call in enumerate(getattr(message, field)):
            if not call.get("id"):
                notes.append(f"a call of {call.get('name')} had no id")
                where = (number,) if message.id is None else (message.id,)
                call = {**call, "id": f"call_{_name(*where, field, place)}"}
                changes[field] = kept
            if call["id"] in ids:
                notes.append(f"call {call['id']} was there twice")
                changes[field] = kept
                continue
            ids.add(call["id"])
            kept.append(call)
    if isinstance(message.content, str):
        return altered(message, changes) if changes else message
    if any(block_call_id(block) == "" for block in message.content):
        notes.append("a call in a content block had no id")
        changes["content"] = [block for block in message.content if block_call_id(block) != ""]
    for block in message.content:
        call_id = block_call_id(block)
        if call_id and isinstance(block, Mapping) and call_id not in ids:
            ids.add(call_id)
            notes.append(f"call {call_id} was in a content block alone")
            changes["tool_calls"] = [*changes.get("tool_calls", message.tool_calls), block_call(block)]
    return altered(message, changes) if changes else message


_Results: TypeAlias = "dict[str | None, tuple[int, BaseMessage]]"
"""The results of the calls of one message, each with where it stood."""


def _owned(messages: Sequence[BaseMessage], notes: list[str]) -> dict[int, _Results]:
    """The results of the calls of each message, by its place.

    The ids of calls come again in later turns, so a result belongs to the last message before it that made such a
    call; one that stands before any belongs to the first that has none.
    """
    callers: dict[str | None, list[int]] = {}
    results: dict[int, _Results] = {}
    early: list[tuple[int, ToolMessage]] = []
    behind = -1
    for number, message in enumerate(messages):
        if not isinstance(message, ToolMessage):
            behind = number
            for call in calls_of(message):
                callers.setdefault(call["id"], []).append(number)
            continue
        call_id = message.tool_call_id
        if call_id not in callers:
            early.append((number, message))
            continue
        caller = callers[call_id][-1]
        found = results.setdefault(caller, {})
        if call_id not in found:
            found[call_id] = (number, message)
            if caller != behind:
                notes.append(f"the result of call {call_id} was not behind its call")
            continue
        notes.append(f"call {call_id} had several results")
        if found[call_id][1].content == UNKNOWN and message.content != UNKNOWN:
            found[call_id] = (number, message)
    for number, message in early:
        call_id = message.tool_call_id
        place = next((one for one in callers.get(call_id, ()) if call_id not in results.get(one, {})), None)
        if place is None:
            notes.append(f"a result had no call {call_id}")
        else:
            notes.append(f"the result of call {call_id} was before its call")
            results.setdefault(place, {})[call_id] = (number, message)
    return results


def _closing(message: BaseMessage, call: ToolCall) -> ToolMessage:
    """The result for a call that has none."""
    made = closed(call)
    changes: dict[str, Any] = {} if message.id is None else {"id": _name(message.id, call["id"])}
    if isinstance(message, AIMessage) and any(one.get("id") == call["id"] for one in message.invalid_tool_calls):
        changes["content"] = NOT_MADE
    return altered(made, changes)


def _name(*parts: object) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, "langgraph-durable:" + "/".join(map(str, parts))))
