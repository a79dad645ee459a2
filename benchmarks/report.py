"""What is printed is a ratio first, then the two figures it is made of; nothing here measures anything."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.rounds import Round, median
from benchmarks.savers import NAMES, Role
from benchmarks.workloads import HISTORY, READS, WORKLOADS, Figures, Sizes


@dataclass(frozen=True)
class Table:
    """Rows of cells under headings; the columns named in `numbers` (by index) are set to the right."""

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers: frozenset[int]

    def text(self) -> str:
        """The table with its columns aligned."""
        widths = [max(map(len, column)) for column in zip(self.headings, *self.rows, strict=True)]
        lines = [self.headings, ["-" * width for width in widths], *self.rows]
        return "\n".join(
            "  ".join(
                cell.rjust(width) if index in self.numbers else cell.ljust(width)
                for index, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in lines
        )

    def markdown(self) -> str:
        """The table as GitHub draws it."""
        rule = ["--:" if index in self.numbers else "---" for index in range(len(self.headings))]
        return "\n".join(f"| {' | '.join(line)} |" for line in (self.headings, rule, *self.rows))


@dataclass(frozen=True)
class Comparison:
    """One ratio: `ours` divided by `other`, where a round has both."""

    what: str
    ours: Callable[[Round], float | None]
    other: Callable[[Round], float | None]
    unit: Callable[[float], str]

    def ratio(self, of_round: Round) -> float | None:
        """None where a figure is missing, or nothing is left to divide by."""
        ours, other = self.ours(of_round), self.other(of_round)
        return None if ours is None or other is None or other <= 0 else ours / other


def ratios(measured: Mapping[str, Sequence[Round]]) -> Table:
    """Every ratio of the medians, with the lowest and the highest of the single rounds where there are several."""
    several = any(len(rounds) > 1 for rounds in measured.values())
    headings = ["", "ratio", *(["of the rounds"] if several else []), "langgraph-durable", "compared with"]
    rows: list[list[str]] = []
    for name, rounds in measured.items():
        middle = median(rounds)
        for comparison in COMPARISONS:
            ratio = comparison.ratio(middle)
            ours, other = comparison.ours(middle), comparison.other(middle)
            if ratio is None or ours is None or other is None:
                continue
            spread = [_spread([comparison.ratio(one) for one in rounds])] if several else []
            row = [f"{name}: {comparison.what}", _ratio(ratio), *spread, comparison.unit(ours), comparison.unit(other)]
            rows.append(row)
    return Table(headings, rows, frozenset(range(1, len(headings))))


def seconds(measured: Mapping[str, Sequence[Round]], sizes: Sizes) -> Table:
    """The medians of the whole time of each saver's runs."""
    roles: tuple[Role, ...] = ("floor", "memory", "official", "ours", "durable")
    rows = []
    for name, rounds in measured.items():
        middle = median(rounds)
        times = [_seconds(middle[role].seconds) if role in middle else "" for role in roles]
        rows.append([WORKLOADS[name].title.format_map(asdict(sizes)), *times])
    return Table(["whole time", *(NAMES[role] for role in roles)], rows, frozenset(range(1, len(roles) + 1)))


def as_json(measured: Mapping[str, Sequence[Round]], sizes: Sizes, environment: str) -> dict[str, Any]:
    """Everything measured, every round by itself, with the ratios of the medians."""
    return {
        "environment": environment,
        "sizes": {**asdict(sizes), "transcripts": sizes.transcripts is not None},
        "ratios": {
            name: {comparison.what: comparison.ratio(median(rounds)) for comparison in COMPARISONS}
            for name, rounds in measured.items()
        },
        "rounds": {
            name: [{role: asdict(figures) for role, figures in one.items()} for one in rounds]
            for name, rounds in measured.items()
        },
    }


NOTES = (
    "ratio: of the medians, which need not lie between the lowest and the highest ratio of the single rounds.",
    "overhead: the time above the floor, a saver that keeps each thread's newest checkpoint by reference and no more.",
    "SqliteSaver: that of langgraph-checkpoint-sqlite; in an event loop its AsyncSqliteSaver.",
    "disk: the closed database; payload: the JSON of the messages in the newest state of every thread.",
    f"reads: after the last turn, the median of {READS} in one process; a new saver for each unless it says otherwise.",
)


def _overhead(role: Role) -> Callable[[Round], float | None]:
    return lambda one: one[role].seconds - one["floor"].seconds if role in one else None


def _first_half(one: Round) -> float | None:
    ours, floor = one["ours"].first_half_seconds, one["floor"].first_half_seconds
    return None if ours is None or floor is None else ours - floor


def _second_half(one: Round) -> float | None:
    whole, first = _overhead("ours")(one), _first_half(one)
    return None if whole is None or first is None else whole - first


def _figure(role: Role, of: Callable[[Figures], float | None]) -> Callable[[Round], float | None]:
    return lambda one: of(one[role]) if role in one else None


def _spread(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{_ratio(min(known))} to {_ratio(max(known))}" if len(known) > 1 else ""


def _ratio(value: float) -> str:
    return f"{value:.2f}" if abs(value) >= 0.1 else f"{value:.2g}"


def _seconds(value: float) -> str:
    return f"{value:.2f} s" if value >= 1 else f"{value * 1e3:.1f} ms"


def _bytes(value: float) -> str:
    return f"{value / 1e6:.2f} MB"


COMPARISONS = (
    Comparison(
        "whole time / without durable(graph)",
        _figure("durable", lambda figures: figures.seconds),
        lambda one: one["ours"].seconds if "durable" in one else None,
        _seconds,
    ),
    Comparison("overhead / SqliteSaver's", _overhead("ours"), _overhead("official"), _seconds),
    Comparison("overhead / InMemorySaver's", _overhead("ours"), _overhead("memory"), _seconds),
    Comparison("overhead, second half / first half", _second_half, _first_half, _seconds),
    Comparison(
        "disk / payload",
        _figure("ours", lambda figures: figures.disk_bytes),
        _figure("ours", lambda figures: figures.payload_bytes),
        _bytes,
    ),
    Comparison(
        "disk / SqliteSaver's",
        _figure("ours", lambda figures: figures.disk_bytes),
        _figure("official", lambda figures: figures.disk_bytes),
        _bytes,
    ),
    Comparison(
        "state read / SqliteSaver's",
        _figure("ours", lambda figures: figures.state_seconds),
        _figure("official", lambda figures: figures.state_seconds),
        _seconds,
    ),
    Comparison(
        f"{HISTORY} of history / SqliteSaver's",
        _figure("ours", lambda figures: figures.history_seconds),
        _figure("official", lambda figures: figures.history_seconds),
        _seconds,
    ),
    Comparison(
        f"{HISTORY} of history, by the saver that put them / SqliteSaver's",
        _figure("ours", lambda figures: figures.own_history_seconds),
        _figure("official", lambda figures: figures.own_history_seconds),
        _seconds,
    ),
)
