"""What a thread went through, for people and programs: its steps, as a table and as a picture."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, SupportsIndex, overload

from langgraph_durable.threads import ThreadStep, table, told
from langgraph_durable.timeline import Timeline, timeline


class ThreadHistory(Sequence[ThreadStep]):
    """The steps of a thread, the one put last first."""

    def __init__(self, thread_id: str, steps: Iterable[ThreadStep]) -> None:
        self.thread_id = thread_id
        self._steps = tuple(steps)

    @overload
    def __getitem__(self, index: SupportsIndex) -> ThreadStep: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[ThreadStep, ...]: ...
    def __getitem__(self, index: SupportsIndex | slice) -> ThreadStep | tuple[ThreadStep, ...]:
        return self._steps[index]

    def __len__(self) -> int:
        return len(self._steps)

    def __repr__(self) -> str:
        return f"<{len(self)} steps of thread {self.thread_id!r}>"

    def as_dicts(self) -> list[dict[str, Any]]:
        """The steps as JSON has them."""
        return [step.as_dict() for step in self]

    def rows(self) -> list[tuple[str, ...]]:
        """The steps as rows of a table with `COLUMNS`."""
        below = [step.checkpoint_id for step in self._steps[1:]]
        return [_row(step, parent) for step, parent in zip(self._steps, [*below, None], strict=True)]

    def timeline(self, steps: int | None = 50) -> Timeline:
        """The newest `steps` (None: all of them) as a picture, which a notebook shows; its text is `svg`."""
        chosen = self._steps if steps is None else self._steps[: max(steps, 0)]
        return timeline(self.thread_id, chosen[::-1], len(self))

    def _repr_html_(self) -> str:
        return table(COLUMNS, self.rows())


COLUMNS = ("step", "time", "source", "nodes", "status", "checkpoint", "branches off")
"""What a table of steps has. The last is the parent, where that is not the step in the row below."""


def _row(step: ThreadStep, below: str | None) -> tuple[str, ...]:
    nodes = (node if did == "ran" else f"{node} ({did})" for node, did in step.nodes.items())
    return (
        "" if step.step is None else str(step.step),
        told(step.time),
        step.source,
        ", ".join(nodes),
        step.status,
        step.checkpoint_id,
        step.parent if step.parent is not None and step.parent != below else "",
    )
