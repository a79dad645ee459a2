"""What a conversation is shortened by, cheapest first: stages that each take the oldest first and stop at the target.

The texts of old tool results are what it can lose at the least cost; see Lindenbauer et al., "The Complexity Trap"
(2025), which finds that hiding them halves the cost of an agent at no loss of solved tasks. Whole turns go after them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, Protocol

from langchain_core.messages import AIMessage, BaseMessage, ToolMessage

from langgraph_durable.context.asks import Asking
from langgraph_durable.context.blocks import is_media, type_of
from langgraph_durable.context.calls import calls_of
from langgraph_durable.context.draft import Draft, Entry
from langgraph_durable.errors import InvalidRequestError


class Stage(Protocol):
    """A way to shorten a conversation; anything with such a method is one.

    It is called when the conversation is above its budget, and edits, drops or folds what `draft.open()` gives until
    `draft.excess` is 0 or less. One that has to ask a model is a generator that yields `Ask(model, messages)`.
    """

    def apply(self, draft: Draft) -> Asking[None] | None:
        """Shorten the draft."""
        ...


class ClearToolResults:
    """Clears the content of old tool results, but of the last `keep` and of the tools in `exclude` (their names).

    The message stays, with `placeholder` for its content and no artifact. An agent that may need it again can call the
    tool again; `full_history` has what it was.
    """

    def __init__(
        self, *, keep: int = 3, exclude: Collection[str] = (), placeholder: str = "[This tool result was cleared.]"
    ) -> None:
        self.keep = _whole(keep, "keep", 0)
        self.exclude = _names(exclude)
        if not isinstance(placeholder, str):
            raise InvalidRequestError(f"placeholder is a text, and it was {placeholder!r}")
        self.placeholder = placeholder

    def apply(self, draft: Draft) -> None:
        """Clear the oldest results until the target is reached."""
        results = [entry for unit in draft.units for entry in unit.entries if isinstance(entry.said, ToolMessage)]
        stay = set(map(id, results[max(0, len(results) - self.keep) :]))
        if self.exclude:
            stay |= self._excluded(draft)
        cleared = {"content": self.placeholder, "artifact": None}
        _edit_oldest(draft, ToolMessage, "cleared", lambda entry: {} if id(entry) in stay else cleared)

    def _excluded(self, draft: Draft) -> set[int]:
        found: set[int] = set()
        for unit in draft.units:
            called = {call["id"]: call["name"] for call in calls_of(unit.entries[0].said)}
            for entry in unit.entries:
                said = entry.said
                if isinstance(said, ToolMessage) and (said.name or called.get(said.tool_call_id, "")) in self.exclude:
                    found.add(id(entry))
        return found


class TruncateToolArguments:
    """Shortens long texts in the arguments of old tool calls to `most` characters: files written, code run."""

    def __init__(self, *, most: int = 200, exclude: Collection[str] = ()) -> None:
        self.most = _whole(most, "most", 0)
        self.exclude = _names(exclude)

    def apply(self, draft: Draft) -> None:
        """Shorten the oldest arguments until the target is reached."""

        def cut(args: Any) -> Any:
            return cut_texts(args, self.most)

        _edit_oldest(draft, AIMessage, "shortened", lambda entry: shorter_arguments(entry.message, cut, self.exclude))


class DropMedia:
    """Leaves old images, sounds and files out; a text in their place says so."""

    def apply(self, draft: Draft) -> None:
        """Drop the oldest media until the target is reached."""
        _edit_oldest(draft, BaseMessage, "media", lambda entry: without_blocks(entry.content, is_media))


class DropOldest:
    """Drops whole units, the oldest first; a summary only where the budget is not kept with it.

    It never leaves a conversation that begins in the middle of a turn: what answered a request that is gone goes too.
    """

    def apply(self, draft: Draft) -> None:
        """Drop the oldest units until the target is reached."""
        before = draft.tokens
        for unit in draft.open():
            if draft.excess <= 0:
                break
            if unit.kind != "summary":
                draft.drop(unit)
        for unit in draft.open():
            if draft.over > 0 and unit.kind == "summary" and not draft.shrinks:
                draft.drop(unit)
        if draft.tokens < before:
            draft.align()


def _edit_oldest(
    draft: Draft, kind: type[BaseMessage], label: str, changes_of: Callable[[Entry], dict[str, Any]]
) -> None:
    """Edit the messages of a kind, the oldest first, until the target is reached."""
    if draft.excess <= 0:
        return
    for entry in draft.editable(kind):
        changes = changes_of(entry)
        if changes and draft.edit(entry, label, **changes) and draft.excess <= 0:
            return


def shorter_arguments(
    message: BaseMessage, shorten: Callable[[Any], Any], exclude: Collection[str] = ()
) -> dict[str, Any]:
    """The fields of a message with the arguments of its calls shortened, wherever those are written down.

    Arguments that could not be parsed are a text. Nothing where `shorten` gives back what it was given.
    """
    if not isinstance(message, AIMessage) or not (message.tool_calls or message.invalid_tool_calls):
        return {}
    shorter: dict[str | None, Any] = {}
    changes: dict[str, Any] = {}
    for field in ("tool_calls", "invalid_tool_calls"):
        calls = getattr(message, field)
        known = len(shorter)
        for call in calls:
            if call.get("name") not in exclude:
                args = shorten(call.get("args"))
                if args is not call.get("args"):
                    shorter[call.get("id")] = args
        if len(shorter) > known:
            changes[field] = [
                {**call, "args": shorter[call.get("id")]} if call.get("id") in shorter else call for call in calls
            ]
    if not shorter:
        return {}
    if not isinstance(message.content, str):
        changes["content"] = [_with_arguments(block, shorter) for block in message.content]
    if "tool_calls" in message.additional_kwargs:
        # The provider's own form of the same calls, which nobody reads where the others are.
        rest = {key: value for key, value in message.additional_kwargs.items() if key != "tool_calls"}
        changes["additional_kwargs"] = rest
    return changes


def without_blocks(content: Any, gone: Callable[[Any], bool]) -> dict[str, Any]:
    """The content of a message, as a change of it, with a text in the place of some blocks; nothing without such."""
    if isinstance(content, str) or not any(map(gone, content)):
        return {}
    return {"content": [_told(block) if gone(block) else block for block in content]}


def cut_end(text: str, most: int) -> str:
    """The beginning of a text, with what was cut off told, if that is shorter."""
    if len(text) <= most:
        return text
    whole, gone = _before_it_was_cut(text)
    mark = f" [... {gone + len(whole) - most} characters cut ...]"
    return whole[:most] + mark if most + len(mark) < len(text) else text


def cut_middle(text: str, most: int) -> str:
    """The beginning and the end of a text, `most` characters in all, with what was cut told between them."""
    if len(text) <= most:
        return text
    whole, gone = _before_it_was_cut(text)
    room = most - len(_MARK.format(gone + len(whole)))
    if room <= 0:
        return whole[:most]
    tail = room // 3
    return whole[: room - tail] + _MARK.format(gone + len(whole) - room) + whole[len(whole) - tail :]


_MARK = "\n[... {} characters cut ...]\n"
_MARKED = re.compile(r"\s?\[\.\.\. (\d{1,12}) characters cut \.\.\.\]\n?")


def _before_it_was_cut(text: str) -> tuple[str, int]:
    """What is left of a text that was cut before, and how many characters are gone from it."""
    found = _MARKED.search(text)
    return (text[: found.start()] + text[found.end() :], int(found[1])) if found is not None else (text, 0)


def texts_in(value: Any) -> Iterator[str]:
    """Every text in a plain value, but for the keys of dicts."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from texts_in(part)
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from texts_in(part)


def cut_texts(value: Any, most: int) -> Any:
    """A plain value with the ends of its texts cut; the same object where none is that long."""
    if not _is_longer(value, most):
        return value
    if isinstance(value, str):
        return cut_end(value, most)
    if isinstance(value, dict):
        return {key: cut_texts(part, most) for key, part in value.items()}
    return [cut_texts(part, most) for part in value]


def _is_longer(value: Any, most: int) -> bool:
    """Whether there is a text in a plain value that is longer."""
    if isinstance(value, str):
        return len(value) > most
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, (list, tuple)):
        return False
    for part in value:  # noqa: SIM110  for every argument of a conversation: a generator takes twice the time
        if len(part) > most if part.__class__ is str else _is_longer(part, most):
            return True
    return False


def _with_arguments(block: Any, shorter: Mapping[str | None, Any]) -> Any:
    if not isinstance(block, Mapping):
        return block
    kind = type_of(block)
    if kind == "tool_use" and block.get("id") in shorter:
        return {**block, "input": shorter[block["id"]]}
    if kind == "tool_call" and block.get("id") in shorter:
        return {**block, "args": shorter[block["id"]]}
    if kind == "function_call" and block.get("call_id") in shorter:
        args = shorter[block["call_id"]]
        return {**block, "arguments": args if isinstance(args, str) else json.dumps(args, ensure_ascii=False)}
    return block


def _told(block: Any) -> dict[str, str]:
    kind = (type_of(block) or "part").removeprefix("input_").removesuffix("_url")
    return {"type": "text", "text": f"[This {kind} was removed.]"}


def _whole(number: Any, name: str, least: int) -> int:
    if not isinstance(number, int) or isinstance(number, bool) or number < least:
        raise InvalidRequestError(f"{name} is a whole number, {least} or more, and it was {number!r}")
    return number


def _names(names: Collection[str]) -> frozenset[str]:
    if isinstance(names, str) or not isinstance(names, Collection):
        raise InvalidRequestError(f"exclude is a collection of names of tools, and it was {names!r}")
    return frozenset(names)
