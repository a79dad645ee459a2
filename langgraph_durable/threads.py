"""How threads stand, for people and programs: plain values, and tables where somebody looks at them."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from typing import Any, SupportsIndex, overload

from langgraph_durable.core.standings import Thread
from langgraph_durable.core.status import Status
from langgraph_durable.core.steps import Step
from langgraph_durable.processes import described


@dataclass(frozen=True)
class ThreadError:
    """What a thread failed with: type, message and traceback of the exception, the nodes that raised, and when."""

    type: str
    message: str
    traceback: str = field(repr=False)
    nodes: tuple[str, ...]
    time: datetime


@dataclass(frozen=True)
class ThreadInfo:
    """How a thread stands.

    `status` is idle, busy, interrupted, error or crashed. `reason` says of `interrupted` whether a node asked
    ("node"), or it was a "breakpoint", "ctrl-c", "sigterm", "cancelled", an "update" of the state or a "copy"; of
    `error` whether it was an "exception", one of a "router", or the thread "gave up"; of `crashed` "owner gone" or
    "lease expired". `nodes` are those that are next, wait or failed, `step` and `checkpoint_id` of the newest
    checkpoint, which run `run_id` made. `owner` is who runs it, or did until he was gone, `since` since when.
    `checkpoints` are counted in all namespaces, `messages` in the newest state; `bytes` are those of its values and
    metadata. Times are UTC; `created` is None for a thread that is older than its records.
    """

    thread_id: str
    status: Status
    reason: str
    nodes: tuple[str, ...]
    error: ThreadError | None
    step: int | None
    checkpoint_id: str | None
    run_id: str | None
    owner: str | None
    since: datetime | None
    created: datetime | None
    updated: datetime | None
    checkpoints: int
    messages: int
    bytes: int

    def as_dict(self) -> dict[str, Any]:
        """The fields as JSON has them: times as ISO 8601 text."""
        return {name: plain(value) for name, value in asdict(self).items()}

    def _repr_html_(self) -> str:
        rows = [(name, told(value)) for name, value in vars(self).items() if value not in (None, "", ())]
        return table(("", self.thread_id), [row for row in rows if row[0] != "thread_id"])


class ThreadList(Sequence[ThreadInfo]):
    """Threads in order. `cursor` is where to go on: `list_threads(cursor=...)`; None when those were all."""

    def __init__(self, threads: Iterable[ThreadInfo], cursor: str | None) -> None:
        self._threads = tuple(threads)
        self.cursor = cursor

    @overload
    def __getitem__(self, index: SupportsIndex) -> ThreadInfo: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[ThreadInfo, ...]: ...
    def __getitem__(self, index: SupportsIndex | slice) -> ThreadInfo | tuple[ThreadInfo, ...]:
        return self._threads[index]

    def __len__(self) -> int:
        return len(self._threads)

    def __repr__(self) -> str:
        return f"<{len(self)} threads{', and more' if self.cursor else ''}>"

    def _repr_html_(self) -> str:
        return table(COLUMNS, map(row, self._threads))


@dataclass(frozen=True)
class ThreadStep:
    """A step of a thread: the checkpoint that was put, and what happened after it.

    `source` is LangGraph's: input, loop, update or fork. `time` is when the checkpoint was made, None where its id does
    not tell. `ran` are the nodes that ran after it and came to their end, `failed` those that raised or were cancelled,
    `asked` those that asked somebody; a node of these may have run since. `status` is what happened at it: error,
    interrupted or nothing, and of the newest checkpoint the status of the thread.
    """

    checkpoint_id: str
    parent: str | None
    step: int | None
    source: str
    time: datetime | None
    ran: tuple[str, ...]
    failed: tuple[str, ...]
    asked: tuple[str, ...]
    status: str

    def as_dict(self) -> dict[str, Any]:
        """The fields as JSON has them: times as ISO 8601 text."""
        return {name: plain(value) for name, value in asdict(self).items()}

    @property
    def nodes(self) -> dict[str, str]:
        """What each node did: "ran", "failed", "asked", or "failed, then ran" and "asked, then ran"."""
        did = dict.fromkeys(self.asked, "asked") | dict.fromkeys(self.failed, "failed")
        return did | {node: f"{did[node]}, then ran" if node in did else "ran" for node in self.ran}


COLUMNS = ("thread", "status", "nodes", "step", "messages", "checkpoints", "bytes", "updated", "owner")
"""What a table of threads has, as `row` gives it."""


def row(info: ThreadInfo) -> tuple[str, ...]:
    """A thread as a row of a table."""
    status = f"{info.status} ({info.reason})" if info.reason else info.status
    return (
        info.thread_id,
        status,
        ", ".join(info.nodes),
        "" if info.step is None else str(info.step),
        str(info.messages),
        str(info.checkpoints),
        f"{info.bytes:,}",
        told(info.updated),
        info.owner or "",
    )


def info_of(thread: Thread) -> ThreadInfo:
    """What there is to tell of a thread."""
    standing, holder, failure = thread.standing, thread.holder, thread.failure
    error = None
    if failure is not None and standing is not None:
        error = ThreadError(failure.type, failure.message, failure.traceback, standing.nodes, _utc(standing.updated))
    owner = since = None
    if holder is not None:
        owner, since = holder.owner, _utc(holder.since)
    elif standing is not None and standing.by and thread.seen.status in ("busy", "crashed"):
        owner = described(standing.by)
    return ThreadInfo(
        thread_id=thread.stood.thread_id,
        status=thread.seen.status,
        reason=thread.seen.reason,
        nodes=standing.nodes if standing is not None else (),
        error=error,
        step=standing.step if standing is not None else None,
        checkpoint_id=standing.checkpoint_id if standing is not None else None,
        run_id=standing.run_id if standing is not None else None,
        owner=owner,
        since=since,
        created=_utc(standing.created) if standing is not None and standing.created is not None else None,
        updated=_utc(standing.updated) if standing is not None else None,
        checkpoints=thread.stood.checkpoints,
        messages=standing.messages if standing is not None else 0,
        bytes=thread.stood.bytes,
    )


def step_of(step: Step) -> ThreadStep:
    """What there is to tell of a step."""
    time = None if step.time is None else _utc(step.time)
    ran, failed, asked = step.ran, step.failed, step.asked
    return ThreadStep(step.checkpoint_id, step.parent, step.step, step.source, time, ran, failed, asked, step.status)


def _utc(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, timezone.utc)


def plain(value: Any) -> Any:
    """A value of a field as JSON has it."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, dict):
        return {name: plain(one) for name, one in value.items()}
    return list(value) if isinstance(value, tuple) else value


def told(value: Any) -> str:
    """A value of a field for people."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, ThreadError):
        return f"{value.type}: {value.message}"
    return ", ".join(value) if isinstance(value, tuple) else str(value)


def table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table as HTML."""
    head = "".join(f"<th>{html.escape(one)}</th>" for one in heads)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(one)}</td>" for one in cells) + "</tr>" for cells in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
