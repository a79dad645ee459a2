"""A difference between two environments is plain data with stable names, and a line for people that is always short."""

from __future__ import annotations

import json
from typing import Any, Literal, NamedTuple, TypeAlias

Kind: TypeAlias = Literal["tools", "model", "graph", "limits", "extra", "files", "pending"]
How: TypeAlias = Literal["added", "removed", "changed", "renamed"]

SHORT = 60
"""How long a value may be in a line; the rest of it is left out there."""


class Change(NamedTuple):
    """One difference. `old` and `new` are whole values, as JSON has them; None where there is none.

    `subject` is what differs: in tools a "tool", its "description" or an "argument"; "model" or "parameter"; of a graph
    a "node", "edge", "branch", "channel" or "breakpoint"; a "limit", a "value" of `extra`, a "file"; a "node" or a
    "call" that is pending. `name` says which: "search", "search.limit", "search.filter.year", "search.tags[]" for the
    elements of a list; "outer/inner" for a node of a subgraph, "a -> b" for an edge, "[a + b] -> c" for one that waits,
    "node.router" for a branch; "model" or "fallbacks[0]". `aspect` is what about it: of an argument "type", "required",
    "default", "enum", "description" or a word of JSON Schema; of a tool "definition" when no more can be told; of a
    branch "ends", of a channel "type", of a breakpoint "before" or "after", of a node "defer"; "hash" where nothing
    else was kept; "refused" of a file that could not be looked at, and `new` says why.
    """

    kind: Kind
    subject: str
    name: str
    change: How
    aspect: str = ""
    old: Any = None
    new: Any = None

    def __str__(self) -> str:
        if self.aspect == "hash":
            return f"{self.kind}: something differs; what it was is not kept by this checkpointer, but for a hash"
        # The line begins with what the model is called in a record: "model".
        what = "" if self.what == self.kind else f"{self.what}{':' if self.subject == 'description' else ''} "
        return f"{printable(self.kind)}: {what}{self.how}"

    @property
    def what(self) -> str:
        """What differs, for people."""
        name = _NAMED.get(self.subject, "{name!r}").format(name=self.name, aspect=self.aspect)
        label = name if self.subject in _OBVIOUS else f"{self.subject} {name}"
        return short(label if self.change != "changed" or not self.aspect else f"{label}: {self.aspect}", 2 * SHORT)

    @property
    def how(self) -> str:
        """In what it differs, for people."""
        old, new = self.shown
        if self.change == "renamed":
            return short(f"renamed to {self.new!r}", SHORT)
        if self.change != "changed":
            value = new if self.change == "added" else old
            return f"{self.change}: {value}" if value and self.subject in _VALUES else self.change
        return f"{old or 'none'} -> {new or 'none'}" if old or new else "changed"

    @property
    def shown(self) -> tuple[str, str]:
        """Both values for people, short; of long ones that begin alike, from where they differ."""
        old, new = self.told(self.old), self.told(self.new)
        pairs = enumerate(zip(old, new, strict=False))
        alike = next((place for place, (one, other) in pairs if one != other), min(len(old), len(new)))
        start = alike - SHORT // 4 if alike > SHORT // 2 and max(len(old), len(new)) > SHORT else 0
        return short(f"…{old[start:]}" if start else old, SHORT), short(f"…{new[start:]}" if start else new, SHORT)

    def told(self, value: Any) -> str:
        """A value for people, whole, in one line; nothing for None."""
        if value is None:
            return ""
        if self.subject == "file" and isinstance(value, str):
            return printable(value)
        if self.subject == "file" and isinstance(value, dict):
            there = value.get("digest") is not None
            return printable(f"{value.get('size')} bytes, {value['digest'][:12]}") if there else "not there"
        if self.subject == "call" and isinstance(value, dict):
            return printable(f"tool {value['hash'][:12]}")
        in_words = (self.subject == "model" and not self.aspect) or self.aspect == "type"
        in_words = in_words and isinstance(value, str)
        return printable(value if in_words else json.dumps(value, ensure_ascii=False, default=str))


_NAMED = {
    "argument": "{name}",
    "parameter": "{name}",
    "model": "{name}",
    "edge": "{name}",
    "branch": "{name}",
    "limit": "{name}",
    "value": "{name}",
    "description": "of {name!r}",
    "breakpoint": "{aspect} {name!r}",
}
_OBVIOUS = frozenset({"tool", "model", "limit", "value"})
_VALUES = frozenset({"model", "parameter", "limit", "value"})


def short(text: str, length: int) -> str:
    """A text in one line of at most `length` characters."""
    text = printable(text[: length + 1])
    return text if len(text) <= length else f"{text[: length - 1]}…"


def printable(text: str) -> str:
    """A text without what a terminal would obey, and what cannot be encoded."""
    return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text)


def same(one: Any, other: Any) -> bool:
    """Whether two values of JSON are the same: 1 and 1.0 are, 1 and true are not."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(value, other[name]) for name, value in one.items())
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    # What is not a number is not even equal to itself.
    return bool(one == other) or (one != one and other != other)
