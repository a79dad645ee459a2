"""The last resort: what has to stay is above the budget by itself, so its texts lose their middles.

The results of tools lose first, then all other texts, then what is long in the arguments of calls and no text, and
blocks that are no text last. A text is cut only as far as it has to be, and the longest first: there is one length that
no text exceeds, the greatest that fits.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from langchain_core.messages import AIMessage, BaseMessage, ToolMessage

from langgraph_durable.context.blocks import CALL_TYPES, TEXT_TYPES, THOUGHT_TYPES, is_text, type_of
from langgraph_durable.context.draft import Draft, Entry
from langgraph_durable.context.stages import cut_end, cut_middle, cut_texts, shorter_arguments, texts_in, without_blocks
from langgraph_durable.core.messages import altered

SHORT, SHORTEST = 400, 100
"""How many characters of a text are kept while there is another way, and in any case."""

LABEL = "shrunk"

_KEPT_TYPES = CALL_TYPES | TEXT_TYPES | THOUGHT_TYPES
"""Blocks that a message of a model is not accepted without, and texts, which are cut."""


class _Round(NamedTuple):
    """Which texts are cut, and not below how many characters."""

    results: bool
    others: bool
    least: int


_ROUNDS = (_Round(True, False, SHORT), _Round(True, True, SHORT), _Round(True, True, SHORTEST))


class Shrink:
    """Cuts the middle out of long texts of the current request and of the newest unit, until the budget is kept.

    It does nothing unless those, with the system messages and what is pinned, are above the budget by themselves. What
    was cut is told in the text. Leave it out of `stages` to get a ContextBudgetError instead.
    """

    def apply(self, draft: Draft) -> None:
        """Cut as little as possible."""
        entries = draft.kept()
        for each in _ROUNDS:
            if draft.over > 0:
                _cut_down(
                    draft, [entry for entry in entries if each.others or isinstance(entry.said, ToolMessage)], each
                )
        for left_out in _LAST:
            for entry in entries:
                changes = left_out(entry.message) if draft.over > 0 else {}
                if changes:
                    draft.edit(entry, LABEL, **changes)
        for unit in draft.open():
            if draft.over > 0 and unit.kind == "summary":
                draft.drop(unit)


def least(draft: Draft) -> int:
    """The size that what has to stay can be cut down to."""
    whole = sum(one.cost for unit in draft.units if unit.fixed or unit.kept for one in unit.entries)
    for entry in draft.kept():
        cut = altered(entry.message, _shorter(entry.said, SHORTEST, _ROUNDS[-1]))
        for left_out in _LAST:
            cut = altered(cut, left_out(cut))
        whole -= entry.cost - min(entry.cost, draft.cost_of(cut))
    return whole


def _cut_down(draft: Draft, entries: list[Entry], each: _Round) -> None:
    """Cut to the greatest length that fits, found by halving; to the least one where none does."""
    least = each.least
    most = max((len(text) for entry in entries for text in _texts(entry.said, each)), default=0)
    if most <= least:
        return
    others = draft.tokens - sum(entry.cost for entry in entries)
    while least < most - 1:
        middle = (least + most) // 2
        if others + sum(_cost(draft, entry, middle, each) for entry in entries) <= draft.budget:
            least = middle
        else:
            most = middle
    for entry in entries:
        changes = _shorter(entry.said, least, each)
        if changes:
            draft.edit(entry, LABEL, **changes)


def _cost(draft: Draft, entry: Entry, most: int, each: _Round) -> int:
    # Cut from what was said, not from what an earlier round has left of it: what is cut is told once.
    changes = _shorter(entry.said, most, each)
    return min(entry.cost, draft.cost_of(altered(entry.message, changes))) if changes else entry.cost


def _shorter(message: BaseMessage, most: int, each: _Round) -> dict[str, Any]:
    """The fields of a message in which no text is longer; nothing where none was."""
    changes = shorter_arguments(message, lambda args: cut_texts(args, most)) if each.others else {}
    content = changes.get("content", message.content)
    cut = _cut_content(content, lambda text: cut_middle(text, most))
    return {**changes, "content": cut} if cut != content else changes


def _without_arguments(message: BaseMessage) -> dict[str, Any]:
    """The fields of a message without arguments that are long though no text in them is: numbers, keys, lists."""
    return shorter_arguments(message, _told_only)


def _told_only(args: Any) -> Any:
    if isinstance(args, str):
        return cut_end(args, SHORTEST)
    length = len(json.dumps(args, ensure_ascii=False, default=str))
    return {"arguments": f"[... {length} characters cut ...]"} if length > SHORT else args


def _without_media(message: BaseMessage) -> dict[str, Any]:
    return without_blocks(message.content, _is_no_text)


_LAST = (_without_arguments, _without_media)
"""What else is left out where no text can be cut any more, in this order."""


def _cut_content(content: Any, cut: Callable[[str], str]) -> Any:
    if isinstance(content, str):
        return cut(content)
    return [
        {**block, "text": cut(block["text"])} if is_text(block) else cut(block) if isinstance(block, str) else block
        for block in content
    ]


def _texts(message: BaseMessage, each: _Round) -> Iterator[str]:
    """The texts of a message that may be cut."""
    if isinstance(message.content, str):
        yield message.content
    else:
        for block in message.content:
            if isinstance(block, str):
                yield block
            elif is_text(block):
                yield block["text"]
    if each.others and isinstance(message, AIMessage):
        for call in (*message.tool_calls, *message.invalid_tool_calls):
            yield from texts_in(call.get("args"))


def _is_no_text(block: Any) -> bool:
    return isinstance(block, Mapping) and type_of(block) not in _KEPT_TYPES
