"""What has changed around a thread since it ran last, for people and programs."""

from __future__ import annotations

import html
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

from langgraph_durable.environment.changes import Change, Kind, printable
from langgraph_durable.environment.differences import differences

__all__ = ["Change", "EnvironmentReport", "differences"]

LINES = 40
"""How many changes a report tells as text; the rest are counted."""


@dataclass(frozen=True, repr=False)
class EnvironmentReport:
    """The changes since the checkpoint of a thread; true where there are any.

    `known` is False where nothing was recorded to compare with: then nobody knows whether anything changed.
    """

    thread_id: str
    checkpoint_id: str
    changes: tuple[Change, ...] = ()
    known: bool = True

    def __bool__(self) -> bool:
        return bool(self.changes)

    @property
    def kinds(self) -> frozenset[Kind]:
        """The kinds of change that there are."""
        return frozenset(change.kind for change in self.changes)

    def of(self, kind: Kind) -> tuple[Change, ...]:
        """The changes of a kind."""
        return tuple(change for change in self.changes if change.kind == kind)

    def only(self, kinds: Collection[str]) -> EnvironmentReport:
        """The report of some kinds of change."""
        return replace(self, changes=tuple(change for change in self.changes if change.kind in kinds))

    def as_dict(self) -> dict[str, Any]:
        """The fields as JSON has them."""
        return {
            "thread_id": self.thread_id,
            "checkpoint_id": self.checkpoint_id,
            "known": self.known,
            "changes": [change._asdict() for change in self.changes],
        }

    def __repr__(self) -> str:
        return str(self)

    def __str__(self) -> str:
        lines = [self._head(), *(f"  {change}" for change in self.changes[:LINES])]
        if len(self.changes) > LINES:
            lines.append(f"  and {len(self.changes) - LINES} more")
        return "\n".join(lines)

    def _head(self) -> str:
        where = f"thread {self.thread_id!r} at checkpoint {self.checkpoint_id!r}"
        if not self.known and not self.changes:
            return printable(f"{where}: what it ran with was not recorded")
        count = len(self.changes)
        return printable(f"{where}: {count or 'no'} {'change' if count == 1 else 'changes'} of what it runs with")

    def _repr_html_(self) -> str:
        if not self.changes:
            return f"<p>{html.escape(self._head())}</p>"
        head = "".join(f"<th>{name}</th>" for name in ("part", "what", "change", "before", "now"))
        body = "".join(f"<tr>{''.join(_cells(change))}</tr>" for change in self.changes)
        return (
            f"<table><caption>{html.escape(self._head())}</caption>"
            f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        )


def _cells(change: Change) -> list[str]:
    cells = [f"<td>{html.escape(printable(text))}</td>" for text in (change.kind, change.what, change.change)]
    for value, shown in zip((change.old, change.new), change.shown, strict=True):
        whole = change.told(value)
        title = f' title="{html.escape(whole)}"' if whole != shown else ""
        cells.append(f"<td{title}>{html.escape(shown)}</td>")
    return cells
