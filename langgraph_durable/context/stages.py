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
from langgraph_durable.context.calls import calls_of
from langgraph_durable.context.draft import Draft
from langgraph_durable.context.tokens import is_media
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
        self.placeholder = placeholder

    def apply(self, draft: Draft) -> None:
        """Clear the oldest results until the target is reached."""
        names: dict[int, str] = {}
        for unit in draft.units:
            called = {call["id"]: call["name"] for call in calls_of(unit.entries[0].said)}
            for one in unit.entries:
                if isinstance(one.said, ToolMessage):
                    names[id(one)] = one.said.name or called.get(one.said.tool_call_id, "")
        late = set(list(names)[max(0, len(names) - self.keep) :])
        for entry in draft.editable():
            if draft.excess <= 0:
                return
            if id(entry) in names and id(entry) not in late and names[id(entry)] not in self.exclude:
                draft.edit(entry, "cleared", content=self.placeholder, artifact=None)


class TruncateToolArguments:
    """Shortens long texts in the arguments of old tool calls to `most` characters: files written, code run."""

    def __init__(self, *, most: int = 200, exclude: Collection[str] = ()) -> None:
        self.most = _whole(most, "most", 0)
        self.exclude = _names(exclude)

    def apply(self, draft: Draft) -> None:
        """Shorten the oldest arguments until the target is reached."""
        for entry in draft.editable():
            if draft.excess <= 0:
                return
            changes = shorter_arguments(entry.message, lambda text: cut_end(text, self.most), self.exclude)
            if changes:
                draft.edit(entry, "shortened", **changes)


class DropMedia:
    """Leaves old images, sounds and files out; a text in their place says so."""

    def apply(self, draft: Draft) -> None:
        """Drop the oldest media until the target is reached."""
        for entry in draft.editable():
            if draft.excess <= 0:
                return
            changes = without_blocks(entry.message, is_media)
            if changes:
                draft.edit(entry, "media", **changes)


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


def shorter_arguments(message: BaseMessage, cut: Callable[[str], str], exclude: Collection[str] = ()) -> dict[str, Any]:
    """The fields of a message with every text cut in the arguments of its calls, wherever those are written down.

    Nothing where no text is cut.
    """
    if not isinstance(message, AIMessage):
        return {}
    shorter: dict[str | None, Any] = {}
    for call in message.tool_calls:
        if call["name"] not in exclude and any(cut(text) is not text for text in texts_in(call["args"])):
            shorter[call["id"]] = _cut(call["args"], cut)
    if not shorter:
        return {}
    calls = [{**call, "args": shorter[call["id"]]} if call["id"] in shorter else call for call in message.tool_calls]
    changes: dict[str, Any] = {"tool_calls": calls}
    if not isinstance(message.content, str):
        changes["content"] = [_with_arguments(block, shorter) for block in message.content]
    if "tool_calls" in message.additional_kwargs:
        # The provider's own form of the same calls, which nobody reads where the others are.
        rest = {key: value for key, value in message.additional_kwargs.items() if key != "tool_calls"}
        changes["additional_kwargs"] = rest
    return changes


def without_blocks(message: BaseMessage, gone: Callable[[Any], bool]) -> dict[str, Any]:
    """The content of a message with a text in the place of some blocks; nothing where there are none."""
    content = message.content
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


def _cut(value: Any, cut: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return cut(value)
    if isinstance(value, Mapping):
        return {key: _cut(part, cut) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_cut(part, cut) for part in value]
    return value


def _with_arguments(block: Any, shorter: Mapping[str | None, Any]) -> Any:
    if not isinstance(block, Mapping):
        return block
    kind = block.get("type")
    if kind == "tool_use" and block.get("id") in shorter:
        return {**block, "input": shorter[block["id"]]}
    if kind == "tool_call" and block.get("id") in shorter:
        return {**block, "args": shorter[block["id"]]}
    if kind == "function_call" and block.get("call_id") in shorter:
        return {**block, "arguments": json.dumps(shorter[block["call_id"]], ensure_ascii=False)}
    return block


def _told(block: Any) -> dict[str, str]:
    kind = str(block.get("type", "part")).removeprefix("input_").removesuffix("_url")
    return {"type": "text", "text": f"[This {kind} was removed.]"}


def _whole(number: Any, name: str, least: int) -> int:
    if not isinstance(number, int) or isinstance(number, bool) or number < least:
        raise InvalidRequestError(f"{name} is a whole number, {least} or more, and it was {number!r}")
    return number


def _names(names: Collection[str]) -> frozenset[str]:
    if isinstance(names, str):
        raise InvalidRequestError(f"exclude is a collection of names of tools, and it was the text {names!r}")
    return frozenset(names)
