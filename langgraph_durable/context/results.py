"""What a compression gives: messages to send, what to tell the state, and a report of what was done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from langchain_core.messages import BaseMessage

from langgraph_durable.context.updates import update_to


@dataclass(frozen=True)
class CompressionReport:
    """What was done. Sizes are in tokens, or in messages where the budget is; messages are told by their ids.

    `edits` has the messages that were edited by what was done: "cleared", "shortened", "media", "shrunk", and what
    stages of the user's say. `repaired` and `failures` are sentences; `summary_calls` counts calls of a model. `unit`
    is what sizes are in.
    """

    tokens_before: int
    tokens_after: int
    edits: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    dropped: tuple[str, ...] = ()
    summarized: tuple[str, ...] = ()
    repaired: tuple[str, ...] = ()
    failures: tuple[str, ...] = ()
    summary_calls: int = 0
    unit: str = "tokens"

    @property
    def cleared(self) -> tuple[str, ...]:
        """The tool results whose content was cleared."""
        return self.edits.get("cleared", ())

    @property
    def shortened(self) -> tuple[str, ...]:
        """The messages in whose tool calls arguments were shortened."""
        return self.edits.get("shortened", ())

    @property
    def media(self) -> tuple[str, ...]:
        """The messages that lost images, sounds or files."""
        return self.edits.get("media", ())

    @property
    def shrunk(self) -> tuple[str, ...]:
        """The messages that had to stay and lost a part of their text."""
        return self.edits.get("shrunk", ())

    @property
    def compressed(self) -> bool:
        """Whether anything was left out or edited: the conversation was above its budget."""
        return bool(self.edits or self.dropped or self.summarized)

    @property
    def changed(self) -> bool:
        """Whether anything was done at all, repairs included."""
        return self.compressed or bool(self.repaired)

    def __str__(self) -> str:
        done = [f"{len(ids)} {label}" for label, ids in self.edits.items()]
        done += [f"{len(self.summarized)} summarised"] if self.summarized else []
        done += [f"{len(self.dropped)} dropped"] if self.dropped else []
        done += [f"{len(self.repaired)} repairs"] if self.repaired else []
        told = ", ".join(done) or "nothing done"
        failed = "".join(f"\n  failed: {reason}" for reason in self.failures)
        return f"{self.tokens_before:,} -> {self.tokens_after:,} {self.unit}: {told}{failed}"


@dataclass(frozen=True)
class Compressed:
    """A conversation within its budget.

    `messages` are what to send. `state` is plain data: given with the next call, it says what was left out this time,
    and how the provider's count relates to the estimate. `report` is what was done.
    """

    messages: list[BaseMessage]
    state: dict[str, Any]
    report: CompressionReport
    _given: Sequence[BaseMessage] = field(repr=False, default=())

    @property
    def update(self) -> list[BaseMessage]:
        """What to return from a node as its `messages` to keep the compression, by ids: edited messages, the summary,
        and a `RemoveMessage` for each that is gone.

        With `add_messages` the state is then what `messages` is. Only where results of tools had to be moved or put in
        between others, the state has them at its end, and it is repaired again by the next compression.
        InvalidRequestError when a message has no id.
        """
        return update_to(self._given, self.messages)
