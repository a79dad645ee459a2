"""The four common messages become their fields and come back from them, or are refused; nothing in between.

LangChain's messages are pydantic models: dumping and validating one costs 18 us, packing its fields 0.6 us and
putting them back 1 us. The short way is only taken where it gives what the long way would give: exactly these
classes, exactly these fields, and values that validation would let pass untouched. `fields_of` says whether that
is so for one message; everything else goes to the serializer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import repeat
from operator import attrgetter
from typing import Any, TypeVar, cast

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.messages.ai import InputTokenDetails, OutputTokenDetails, UsageMetadata
from pydantic import BaseModel

CLASSES: dict[int, type[BaseMessage]] = {2: HumanMessage, 3: AIMessage, 4: SystemMessage, 5: ToolMessage}
"""The number that stands for a class in stored bytes. Numbers are for ever: a new class takes the next one."""

CODES: dict[type[BaseMessage], int] = {kind: code for code, kind in CLASSES.items()}

_TYPES: dict[type[BaseMessage], str] = {
    HumanMessage: "human",
    AIMessage: "ai",
    SystemMessage: "system",
    ToolMessage: "tool",
}
_FIELDS = {kind: tuple(kind.model_fields) for kind in _TYPES}
_TOOL_CALL = {"name", "args", "id", "type"}
_USAGE = tuple(UsageMetadata.__annotations__)
_DETAILS = {
    "input_token_details": tuple(InputTokenDetails.__annotations__),
    "output_token_details": tuple(OutputTokenDetails.__annotations__),
}
_COUNTED = set(_USAGE) - _DETAILS.keys()

M = TypeVar("M", bound=BaseMessage)

extra_of = attrgetter("__pydantic_extra__")
"""What a model was given beyond its fields: it is kept outside `__dict__`."""


def fields_of(message: BaseMessage) -> dict[str, Any] | None:
    """The fields of a message of `CLASSES`, its own dict; None where validation might change them on the way back."""
    kind = type(message)
    fields = message.__dict__
    expected = _FIELDS.get(kind)
    if expected is None or tuple(fields) != expected or message.__pydantic_extra__:
        return None
    if (
        fields["type"] != _TYPES[kind]
        or not _is_content(fields["content"])
        or type(fields["additional_kwargs"]) is not dict
        or type(fields["response_metadata"]) is not dict
        or type(fields["name"]) not in _TEXT_OR_NONE
        or type(fields["id"]) not in _TEXT_OR_NONE
    ):
        return None
    if kind is AIMessage and not _is_ai(fields):
        return None
    if kind is ToolMessage and (
        type(fields["tool_call_id"]) is not str or fields["status"] not in ("success", "error")
    ):
        return None
    return fields


def message_of(code: int, fields: dict[str, Any]) -> BaseMessage:
    """The message that `fields` were taken from, which becomes the owner of `fields`."""
    return messages_of([code], [fields])[0]


def messages_of(codes: Sequence[int], fields: Sequence[dict[str, Any]]) -> list[BaseMessage]:
    """One message per pair, as the validating constructor would have made it, and the owner of its dict."""
    if not are_current(codes, fields):
        # A release of langchain-core that has other fields: only its validation knows the defaults.
        return [CLASSES[code](**own) for code, own in zip(codes, fields, strict=True)]
    made = list(map(_new, map(CLASSES.__getitem__, codes)))
    _all(map(_set_fields, made, fields))
    _all(map(_set_names, made, map(set.copy, map(_NAMES.__getitem__, codes))))
    _all(map(_set_extra, made, [{} for _ in made]))
    _all(map(_set_private, made, repeat(None)))
    return made


def altered(message: M, changes: Mapping[str, Any]) -> M:
    """A copy of any message with other values in some fields: `model_copy`, at a quarter of its time."""
    made = cast("M", _new(type(message)))
    _set_fields(made, {**message.__dict__, **changes})
    _set_names(made, message.__pydantic_fields_set__ | changes.keys())
    _set_extra(made, None if message.__pydantic_extra__ is None else dict(message.__pydantic_extra__))
    _set_private(made, None if message.__pydantic_private__ is None else dict(message.__pydantic_private__))
    return made


def are_current(codes: Sequence[int], fields: Sequence[dict[str, Any]]) -> bool:
    """Whether these are the fields that the messages have in the langchain-core that is installed."""
    return list(map(len, fields)) == list(map(_COUNTS.__getitem__, codes))


_TEXT_OR_NONE = (str, type(None))
_NAMES = {code: set(_FIELDS[kind]) for code, kind in CLASSES.items()}
_COUNTS = {code: len(_FIELDS[kind]) for code, kind in CLASSES.items()}
_new: Callable[[type[BaseMessage]], BaseMessage] = object.__new__
# The slots' own setters: `object.__setattr__` would look each of them up again for every message.
_set_fields: Callable[[BaseModel, Any], None] = BaseModel.__dict__["__dict__"].__set__
_set_names: Callable[[BaseModel, Any], None] = BaseModel.__dict__["__pydantic_fields_set__"].__set__
_set_extra: Callable[[BaseModel, Any], None] = BaseModel.__dict__["__pydantic_extra__"].__set__
_set_private: Callable[[BaseModel, Any], None] = BaseModel.__dict__["__pydantic_private__"].__set__
_all: Callable[[Iterator[None]], None] = deque[None](maxlen=0).extend  # runs an iterator to its end, in C


def _is_content(content: object) -> bool:
    if type(content) is str:
        return True
    return type(content) is list and all(type(block) in (str, dict) for block in content)


def _is_ai(fields: dict[str, Any]) -> bool:
    calls = fields["tool_calls"]
    if type(calls) is not list or fields["invalid_tool_calls"] != []:
        return False
    for call in calls:
        if (
            type(call) is not dict
            or call.keys() != _TOOL_CALL
            or type(call["name"]) is not str
            or type(call["args"]) is not dict
            or type(call["id"]) not in _TEXT_OR_NONE
            or call["type"] != "tool_call"
        ):
            return False
    # Without calls of its own a message takes them from what the provider sent beside it.
    if not calls and "tool_calls" in fields["additional_kwargs"]:
        return False
    usage = fields["usage_metadata"]
    return usage is None or _is_usage(usage)


def _is_usage(usage: object) -> bool:
    if type(usage) is not dict or not usage.keys() >= _COUNTED or not _in_order(usage, _USAGE):
        return False
    if any(type(usage[name]) is not int for name in _COUNTED):
        return False
    for name, known in _DETAILS.items():
        details = usage.get(name, {})
        if type(details) is not dict or not _in_order(details, known):
            return False
        if any(type(details[key]) is not int for key in known if key in details):
            return False
    return True


def _in_order(given: dict[str, Any], known: Sequence[str]) -> bool:
    """Whether the known keys come first and in their order, where validation would put them; others may follow."""
    expected = [key for key in known if key in given]
    return list(given)[: len(expected)] == expected
