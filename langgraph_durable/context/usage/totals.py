"""What the model calls of threads have used and cost, summed from their records: for people, programs and estimates.

What is unknown is counted apart, and never taken for nothing.
"""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any, NamedTuple, cast
from uuid import UUID

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.pregel import Pregel

from langgraph_durable.context.journal import Journal, saver_of
from langgraph_durable.context.usage.prices import Prices, checked, cost_of, pricing
from langgraph_durable.context.usage.records import (
    NAMELESS,
    NAMESPACE,
    UsageRecord,
    is_unknown,
    may_cost,
    of_thread,
)
from langgraph_durable.errors import InvalidRequestError

_DAYS = {"day": 1.0, "month": 365.25 / 12, "year": 365.25}


def thread_usage(
    graph_or_saver: Pregel[Any, Any, Any, Any] | BaseCheckpointSaver[Any],
    thread_id: str | Sequence[str] | RunnableConfig,
    *,
    prices: Prices = None,
) -> UsageReport:
    """What the model calls of a thread, or of several together, have used: those that ran with a `UsageLedger`.

    `thread_id` is an id, several of them, or a config that names a thread.

    Costs are as they were recorded, or, with `prices` (as for the ledger), what the calls cost at these. A thread that
    has no records, or is not there, has used nothing. InvalidRequestError for a graph that has no saver, and for what
    names no thread.
    """
    saver, ids = saver_of(graph_or_saver), _ids(thread_id)
    return _report({one: Journal(saver, one, NAMESPACE).entries() for one in ids}, prices)


async def athread_usage(
    graph_or_saver: Pregel[Any, Any, Any, Any] | BaseCheckpointSaver[Any],
    thread_id: str | Sequence[str] | RunnableConfig,
    *,
    prices: Prices = None,
) -> UsageReport:
    """`thread_usage` for a coroutine."""
    saver, ids = saver_of(graph_or_saver), _ids(thread_id)
    return _report({one: await Journal(saver, one, NAMESPACE).aentries() for one in ids}, prices)


class Sums(NamedTuple):
    """What some calls have used. `failed` and `unknown` (answered without a count of tokens) are among the `calls`.

    `cost` is None where that of an answered call is not known; `known_cost` is what the others cost. A call whose
    answer was broken off is a failed one, and for tokens and costs as one that was answered.
    """

    calls: int
    failed: int
    unknown: int
    input: int
    output: int
    cached: int
    written: int
    reasoning: int
    cost: float | None
    known_cost: float

    @property
    def tokens(self) -> int:
        """Input and output."""
        return self.input + self.output


class Amount(NamedTuple):
    """What is used in some time; `cost` is None where it is not known."""

    tokens: float
    cost: float | None


@dataclass(frozen=True, repr=False)
class UsageReport:
    """What model calls have used: what `thread_usage` gives, or `UsageReport(ledger.records)`.

    `records` are in the order in which the calls began; `thread_ids` are the threads that were asked for.
    """

    records: Sequence[UsageRecord]
    thread_ids: tuple[str, ...] = ()

    @cached_property
    def sums(self) -> Sums:
        """The sums of all calls."""
        return _sums(self.records)

    @cached_property
    def by_model(self) -> Mapping[str, Sums]:
        """The sums of the calls of each model, the one that used most tokens first."""
        return _grouped(self.records, lambda record: record["model"] or NAMELESS)

    @cached_property
    def by_purpose(self) -> Mapping[str, Sums]:
        """The sums of "main", "summary", "retry" and "cached" calls, as far as there are any."""
        return _grouped(self.records, lambda record: record["purpose"])

    @property
    def calls(self) -> int:
        """How many calls there were, also those that failed."""
        return self.sums.calls

    @property
    def failed(self) -> int:
        """How many calls failed."""
        return self.sums.failed

    @property
    def unknown(self) -> int:
        """How many calls were answered, or broken off, without a count of tokens."""
        return self.sums.unknown

    @property
    def input(self) -> int:
        """Tokens that were sent, those of the provider's cache included."""
        return self.sums.input

    @property
    def output(self) -> int:
        """Tokens that came back."""
        return self.sums.output

    @property
    def cached(self) -> int:
        """Tokens of the input that the provider had in its cache."""
        return self.sums.cached

    @property
    def tokens(self) -> int:
        """Input and output."""
        return self.sums.tokens

    @property
    def cost(self) -> float | None:
        """What the calls cost, in the currency of the prices; None where that of one is not known.

        A call that failed before it was answered costs nothing.
        """
        return self.sums.cost

    @property
    def known_cost(self) -> float:
        """What the calls cost of which that is known."""
        return self.sums.known_cost

    def at(self, threads_per_day: float) -> UsageEstimate:
        """What as many threads a day use that are, on average, like these."""
        number = checked(threads_per_day, "threads_per_day")
        threads = len(self.thread_ids) or len({record["thread_id"] for record in self.records}) or 1
        share = number / threads
        cost = None if self.cost is None else self.cost * share
        return UsageEstimate(number, Amount(self.tokens * share, cost))

    def __repr__(self) -> str:
        return str(self)

    def __str__(self) -> str:
        return "\n".join([self._head(), *_aligned(_COLUMNS, self._rows())])

    def _repr_html_(self) -> str:
        return _table(self._head(), _COLUMNS, self._rows())

    def _head(self) -> str:
        ids = self.thread_ids
        where = f"thread {ids[0]!r}: " if len(ids) == 1 else f"{len(ids)} threads: " if ids else ""
        count = f"{self.calls} model {'call' if self.calls == 1 else 'calls'}"
        failed = f", {self.failed} failed" if self.failed else ""
        return f"{where}{count}{failed}{f', {self.unknown} without a count of tokens' if self.unknown else ''}"

    def _rows(self) -> list[list[str]]:
        rows = [_row(name, sums) for name, sums in self.by_model.items()]
        if len(self.by_purpose) > 1:
            rows += [_row(f"({name})", sums) for name, sums in self.by_purpose.items()]
        return [*rows, _row("all", self.sums)]


@dataclass(frozen=True, repr=False)
class UsageEstimate:
    """What `threads_per_day` threads use in a day, in a month (a twelfth of a year) and in a year (365.25 days)."""

    threads_per_day: float
    day: Amount

    @property
    def month(self) -> Amount:
        """What is used in a month."""
        return self._in(_DAYS["month"])

    @property
    def year(self) -> Amount:
        """What is used in a year."""
        return self._in(_DAYS["year"])

    def _in(self, days: float) -> Amount:
        return Amount(self.day.tokens * days, None if self.day.cost is None else self.day.cost * days)

    def __repr__(self) -> str:
        return str(self)

    def __str__(self) -> str:
        return "\n".join([self._head(), *_aligned(_PER, self._rows())])

    def _repr_html_(self) -> str:
        return _table(self._head(), _PER, self._rows())

    def _head(self) -> str:
        return f"at {self.threads_per_day:,.12g} threads a day"

    def _rows(self) -> list[list[str]]:
        amounts = [self._in(days) for days in _DAYS.values()]
        return [
            [f"a {name}", f"{amount.tokens:,.0f}", _money(amount.cost)]
            for name, amount in zip(_DAYS, amounts, strict=True)
        ]


# -- summing -----------------------------------------------------------------------------------------------------------


def _report(entries: Mapping[str, Mapping[str, Any]], prices: Prices) -> UsageReport:
    price = pricing(prices)
    records = [record for one, found in entries.items() for record in of_thread(one, found).values()]
    if price is not None:
        records = [cast(UsageRecord, {**record, "cost": cost_of(price, record)}) for record in records]
    return UsageReport(tuple(sorted(records, key=lambda record: (record["time"], record["id"]))), tuple(entries))


def _sums(records: Iterable[UsageRecord]) -> Sums:
    of = list(records)
    costs = [record["cost"] for record in of if may_cost(record)]
    known = math.fsum(cost for cost in costs if cost is not None)
    return Sums(
        calls=len(of),
        failed=sum(record["failed"] is not None for record in of),
        unknown=sum(map(is_unknown, of)),
        input=sum(record["input"] or 0 for record in of),
        output=sum(record["output"] or 0 for record in of),
        cached=sum(record["cached"] or 0 for record in of),
        written=sum(record["written"] or 0 for record in of),
        reasoning=sum(record["reasoning"] or 0 for record in of),
        cost=None if None in costs else known,
        known_cost=known,
    )


def _grouped(records: Iterable[UsageRecord], name: Callable[[UsageRecord], str]) -> Mapping[str, Sums]:
    groups: dict[str, list[UsageRecord]] = {}
    for record in records:
        groups.setdefault(name(record), []).append(record)
    sums = {key: _sums(group) for key, group in groups.items()}
    return MappingProxyType(dict(sorted(sums.items(), key=lambda one: (-one[1].tokens, one[0]))))


def _ids(thread_id: Any) -> tuple[str, ...]:
    if isinstance(thread_id, Sequence) and not isinstance(thread_id, (str, bytes)):
        return tuple(dict.fromkeys(_id(one) for one in thread_id))
    if isinstance(thread_id, Mapping):
        thread_id = (thread_id.get("configurable") or {}).get("thread_id")
    return (_id(thread_id),)


def _id(given: Any) -> str:
    # LangGraph takes numbers and UUIDs as well, and makes texts of them.
    if not isinstance(given, (str, int, UUID)):
        raise InvalidRequestError(
            "usage is that of threads, which are named by a thread_id, several of them in a list, or one config, "
            f"and not by {given!r}"
        )
    return str(given)


# -- for people --------------------------------------------------------------------------------------------------------

_COLUMNS = ("", "calls", "input", "cached", "output", "cost")
_PER = ("", "tokens", "cost")


def _row(name: str, sums: Sums) -> list[str]:
    cost = _money(sums.cost)
    if sums.cost is None and sums.known_cost:
        cost = f"{_money(sums.known_cost)} + {cost}"
    counts = [f"{count:,}" for count in (sums.calls, sums.input, sums.cached, sums.output)]
    return [repr(name)[1:-1], *counts, cost]


def _money(cost: float | None) -> str:
    if cost is None:
        return "unknown"
    return f"{cost:,.4f}" if cost == 0 or cost >= 0.01 else f"{cost:.3g}"


def _aligned(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    table = [columns, *rows]
    widths = [max(len(row[place]) for row in table) for place in range(len(columns))]
    lines = []
    for name, *numbers in table:
        cells = [name.ljust(widths[0]), *map(str.rjust, numbers, widths[1:])]
        lines.append("  ".join(["", *cells]).rstrip())
    return lines


def _table(caption: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{name}</th>" for name in columns)
    body = "".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return (
        f"<table><caption>{html.escape(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    )
