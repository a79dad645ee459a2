"""The steps of a thread as a picture: SVG that is written by hand, and stands for itself wherever it is shown.

Time goes to the right, and a pause that is much longer than the others is cut. On top are the checkpoints, with a row
for each branch; below them is a lane for each node, with a bar from the checkpoint before it ran to the one after it.
"""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from statistics import median
from typing import NamedTuple

from langgraph_durable.threads import ThreadStep

WIDTH = 680
"""Pixels of the time axis; more where there are more steps than that has room for."""

CLOSEST, CUT = 16.0, 8.0
"""Pixels between two steps at least, and how many times the usual pause is the longest that is drawn to scale."""

LEFT, LABEL, LANE, ROW, RIGHT = 16, 22, 26, 30, 96

COLORS = {
    "back": ("#ffffff", "#16191d"),
    "edge": ("#d0d7de", "#3d444d"),
    "text": ("#1f2328", "#e6edf3"),
    "faint": ("#59636e", "#9aa4af"),
    "lane": ("#f3f5f7", "#21262c"),
    "ran": ("#3f75b0", "#6ea8dc"),
    "failed": ("#c2281d", "#ff8078"),
    "asked": ("#a86500", "#e3b341"),
}
"""What is drawn, in a light and in a dark surrounding; the background is part of the picture."""

STATUS_COLORS = {"error": "failed", "crashed": "failed", "interrupted": "asked"}
DID = {"failed": "\N{MULTIPLICATION SIGN}", "asked": "?"}


class Timeline:
    """A picture of the steps of a thread; `svg` is its text, and a notebook shows it."""

    def __init__(self, thread_id: str, svg: str) -> None:
        self._thread_id = thread_id
        self.svg = svg

    def __repr__(self) -> str:
        return f"<timeline of thread {self._thread_id!r}>"

    def _repr_svg_(self) -> str:
        return self.svg


def timeline(thread_id: str, steps: Sequence[ThreadStep], total: int) -> Timeline:
    """The picture of some steps, oldest first; `total` is how many the thread has."""
    return Timeline(thread_id, "".join(_drawn(thread_id, steps, total)))


class _Places(NamedTuple):
    """Where things are: the x of each step, which pauses were cut, the row of each step, the y of each lane."""

    x: list[float]
    cut: list[int]
    rows: list[int]
    lanes: Mapping[str, float]
    top: float

    def y(self, place: int) -> float:
        """The y of a step's checkpoint."""
        return self.top + self.rows[place] * ROW


def _drawn(thread_id: str, steps: Sequence[ThreadStep], total: int) -> Iterator[str]:
    names = list(dict.fromkeys(node for step in steps for node in step.nodes))
    left = LEFT + min(max([len(_cut(name, LABEL)) for name in names] + [len("checkpoints")]) * 6.6, 160) + 14
    x, cut = _spread(steps, left)
    rows = _rows(steps)
    top = 62.0
    bottom = top + (max(rows, default=0) + 1) * ROW - 8
    at = _Places(x, cut, rows, {name: bottom + number * LANE for number, name in enumerate(names)}, top)
    axis = bottom + len(names) * LANE + 4
    width, height = max([*x, left + WIDTH]) + RIGHT, axis + 66
    shown = f"{total:,} steps" if len(steps) == total else f"the newest {len(steps):,} of {total:,} steps"
    status = f", {steps[-1].status}" if steps and steps[-1].status else ""
    title = f"Timeline of thread {thread_id}: {shown}{status}"
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
        f'height="{height:.0f}" role="img" aria-label="{_xml(title)}" font-family="system-ui, sans-serif" '
        f'font-size="12"><title>{_xml(title)}</title>{_style()}'
        f'<rect x="0.5" y="0.5" width="{width - 1:.0f}" height="{height - 1:.0f}" rx="6" class="lgd-back" '
        f'fill="{COLORS["back"][0]}" stroke="{COLORS["edge"][0]}"/>'
    )
    yield _text(LEFT, 24, _cut(title, int((width - 2 * LEFT) / 6.8)), weight="600")
    yield _text(LEFT, top + 4, "checkpoints", "faint")
    for name, y in at.lanes.items():
        yield f'<rect x="{left:.1f}" y="{y + 2:.1f}" width="{width - left - LEFT:.1f}" height="{LANE - 4}" rx="3"'
        yield f' class="lgd-lane" fill="{COLORS["lane"][0]}"/>'
        yield f"<g><title>{_xml(name)}</title>{_text(LEFT, y + LANE / 2 + 4, _cut(name, LABEL))}</g>"
    yield from _axis(steps, at, axis, left, width)
    yield from _links(steps, at)
    for place, step in enumerate(steps):
        yield from _bars(steps, place, at)
        yield from _checkpoint(step, place, at, newest=place == len(steps) - 1)
    yield from _legend(steps, axis + 52)
    yield "</svg>"


# -- where things are ------------------------------------------------------------------------------------------------


def _spread(steps: Sequence[ThreadStep], left: float) -> tuple[list[float], list[int]]:
    """The x of each step, and which pauses are longer than they are drawn."""
    pauses = [_seconds(one, two) for one, two in pairwise(steps)]
    longest = CUT * median([pause for pause in pauses if pause > 0] or [1.0])
    shares = [min(pause, longest) for pause in pauses]
    room = max(WIDTH - CLOSEST * len(pauses), 0.0)
    whole = sum(shares) or 1.0
    x = [left + 12]
    for share in shares:
        x.append(x[-1] + CLOSEST + room * share / whole)
    return x[: len(steps)], [place for place, pause in enumerate(pauses) if pause > longest]


def _seconds(one: ThreadStep, two: ThreadStep) -> float:
    if one.time is None or two.time is None:
        return 0.0
    return max((two.time - one.time).total_seconds(), 0.0)


def _rows(steps: Sequence[ThreadStep]) -> list[int]:
    """The row of each step: that of its parent if it is the parent's first child, else one that is free."""
    by_id = {step.checkpoint_id: place for place, step in enumerate(steps)}
    parents = [by_id.get(step.parent or "", -1) for step in steps]
    branch: list[int] = []
    ends: list[int] = []
    continued: set[int] = set()
    for place, parent in enumerate(parents):
        if 0 <= parent < place and parent not in continued:
            continued.add(parent)
            branch.append(branch[parent])
            ends[branch[parent]] = place
        else:
            branch.append(len(ends))
            ends.append(place)
    rows: list[int] = []
    busy_until: list[int] = []
    for number, end in enumerate(ends):
        start = branch.index(number)
        start = min(start, parents[start]) if parents[start] >= 0 else start
        row = next((row for row, until in enumerate(busy_until) if until < start), len(busy_until))
        busy_until[row : row + 1] = [end]
        rows.append(row)
    return [rows[one] for one in branch]


# -- what is drawn ---------------------------------------------------------------------------------------------------


def _links(steps: Sequence[ThreadStep], at: _Places) -> Iterator[str]:
    """A line from each checkpoint to its parent, curved where a branch begins."""
    by_id = {step.checkpoint_id: place for place, step in enumerate(steps)}
    for place, step in enumerate(steps):
        x, y = at.x[place], at.y(place)
        parent = by_id.get(step.parent or "")
        if parent is None and step.parent is None:
            continue
        dash = ' stroke-dasharray="3 3"' if parent is None else ""
        px, py = (x - 12, y) if parent is None else (at.x[parent], at.y(parent))
        bend = min(abs(x - px), 24.0)
        curve = f"H{x:.1f}" if py == y else f"C{px:.1f} {y:.1f} {px:.1f} {y:.1f} {px + bend:.1f} {y:.1f} H{x:.1f}"
        yield f'<path d="M{px:.1f} {py:.1f} {curve}" fill="none" class="lgd-line"'
        yield f' stroke="{COLORS["faint"][0]}" stroke-width="1.5"{dash}/>'


def _checkpoint(step: ThreadStep, place: int, at: _Places, *, newest: bool) -> Iterator[str]:
    x, y = at.x[place], at.y(place)
    color = STATUS_COLORS.get(step.status, "faint")
    paint = f'class="lgd-{color}" fill="{COLORS[color][0]}"'
    yield f"<g><title>{_xml(_said(step))}</title>"
    if newest:
        yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="9" fill="none" class="lgd-line" stroke="{COLORS["faint"][0]}"/>'
    yield _shape(step.source, x, y, paint)
    if step.step is not None:
        yield _text(x, y - (13 if newest else 9), str(step.step), "faint", size=9, anchor="middle")
    yield "</g>"
    if newest and step.status:
        yield _text(x + 14, y + 4, step.status, color)


def _shape(source: str, x: float, y: float, paint: str) -> str:
    if source == "input":
        return f'<rect x="{x - 5:.1f}" y="{y - 5:.1f}" width="10" height="10" {paint}/>'
    if source == "update":
        return f'<path d="M{x:.1f} {y - 6.5:.1f}l6.5 6.5l-6.5 6.5l-6.5 -6.5z" {paint}/>'
    if source == "fork":
        return f'<path d="M{x - 5:.1f} {y - 6:.1f}l11 6l-11 6z" {paint}/>'
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" {paint}/>'


def _bars(steps: Sequence[ThreadStep], place: int, at: _Places) -> Iterator[str]:
    """The nodes of a step, each from its checkpoint to the next one of the same branch."""
    step = steps[place]
    children = (one for one in range(place + 1, len(steps)) if steps[one].parent == step.checkpoint_id)
    end = at.x[next((one for one in children if steps[one].source == "loop"), place)]
    for node, did in step.nodes.items():
        x, y = at.x[place], at.lanes[node]
        first, _, then = did.partition(", ")
        color = "ran" if then else first
        width = max(end - x - 2, CLOSEST - 4) if node in step.ran else CLOSEST - 2
        yield f"<g><title>{_xml(f'{node}: {did}. {_said(step)}')}</title>"
        yield f'<rect x="{x:.1f}" y="{y + 6:.1f}" width="{width:.1f}" height="{LANE - 12}" rx="3"'
        yield f' class="lgd-{color}" fill="{COLORS[color][0]}"/>'
        if first in DID:
            yield f'<circle cx="{x + 6:.1f}" cy="{y + LANE / 2:.1f}" r="8" class="lgd-{first} lgd-ring"'
            yield f' fill="{COLORS[first][0]}" stroke="{COLORS["back"][0]}" stroke-width="1.5"/>'
            yield _text(x + 6, y + LANE / 2 + 4.2, DID[first], "back", weight="700", anchor="middle")
        yield "</g>"


def _axis(steps: Sequence[ThreadStep], at: _Places, y: float, left: float, width: float) -> Iterator[str]:
    yield f'<path d="M{left:.1f} {y:.1f}H{width - LEFT:.1f}" class="lgd-line" stroke="{COLORS["edge"][0]}"/>'
    times = [step.time for step in steps if step.time is not None]
    if not times:
        return
    form = _form(min(times), max(times))
    yield _text(LEFT, y + 16, f"{times[0]:%Y-%m-%d}", "faint", size=10)
    yield _text(LEFT, y + 28, "UTC", "faint", size=10)
    free = left
    for place, step in enumerate(steps):
        if step.time is None or at.x[place] < free:
            continue
        told = step.time.strftime(form)[: -3 if form.endswith("%f") else None]
        yield f'<path d="M{at.x[place]:.1f} {y:.1f}v4" class="lgd-line" stroke="{COLORS["faint"][0]}"/>'
        yield _text(at.x[place], y + 16, told, "faint", size=10)
        free = at.x[place] + len(told) * 5.8 + 12
    for place in at.cut:
        middle = (at.x[place] + at.x[place + 1]) / 2
        yield f'<path d="M{middle - 5:.1f} {y + 4:.1f}l4 -8m2 8l4 -8" class="lgd-line" stroke="{COLORS["text"][0]}"/>'
        pause = f"{_told(_seconds(steps[place], steps[place + 1]))} later"
        yield _text(middle, y + 28, pause, "faint", size=10, anchor="middle")


def _legend(steps: Sequence[ThreadStep], y: float) -> Iterator[str]:
    """What the marks mean, as far as there are any."""
    x = float(LEFT)
    for source, label in (("input", "input"), ("loop", "step"), ("update", "update"), ("fork", "fork")):
        if any(step.source == source for step in steps):
            yield _shape(source, x + 5, y - 4, f'class="lgd-faint" fill="{COLORS["faint"][0]}"')
            yield _text(x + 16, y, label, "faint", size=11)
            x += 28 + 6.4 * len(label)
    did = {how for step in steps for told in step.nodes.values() for how in told.removesuffix(", then ran").split()}
    for how, label in (("ran", "a node ran"), ("failed", "failed"), ("asked", "asked somebody")):
        if how in did or (how == "ran" and any(step.ran for step in steps)):
            yield f'<rect x="{x:.1f}" y="{y - 10:.1f}" width="14" height="12" rx="3" class="lgd-{how}"'
            yield f' fill="{COLORS[how][0]}"/>{_text(x + 7, y, DID.get(how, ""), "back", size=10, anchor="middle")}'
            yield _text(x + 20, y, label, "faint", size=11)
            x += 34 + 6.4 * len(label)


def _said(step: ThreadStep) -> str:
    """A step in a line, for who points at it."""
    nodes = ", ".join(f"{node} {did}" for node, did in step.nodes.items())
    parts = (f"step {step.step}", step.source, step.time and f"{step.time:%Y-%m-%d %H:%M:%S}", nodes, step.status)
    return "; ".join([str(part) for part in parts if part] + [f"checkpoint {step.checkpoint_id}"])


def _form(first: datetime, last: datetime) -> str:
    if last - first < timedelta(seconds=60):
        return "%H:%M:%S.%f"
    return "%H:%M:%S" if first.date() == last.date() else "%m-%d %H:%M"


def _told(seconds: float) -> str:
    for unit, size in (("d", 86_400.0), ("h", 3600.0), ("min", 60.0), ("s", 1.0)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1000:.3g} ms"


def _text(
    x: float, y: float, text: str, color: str = "text", *, size: int = 12, weight: str = "", anchor: str = ""
) -> str:
    more = (f' font-weight="{weight}"' if weight else "") + (f' text-anchor="{anchor}"' if anchor else "")
    font = f' font-size="{size}"' if size != 12 else ""
    fill = f'class="lgd-{color}" fill="{COLORS[color][0]}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {fill}{font}{more}>{_xml(text)}</text>' if text else ""


def _style() -> str:
    dark = "".join(f".lgd-{name}{{fill:{colors[1]}}}" for name, colors in COLORS.items())
    lines = f".lgd-back{{stroke:{COLORS['edge'][1]}}}.lgd-line{{stroke:{COLORS['faint'][1]}}}"
    ring = f".lgd-ring{{stroke:{COLORS['back'][1]}}}text{{stroke:none}}"
    return f"<style>@media (prefers-color-scheme: dark){{{dark}{lines}{ring}}}</style>"


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _xml(text: str) -> str:
    """The text as XML has it; what XML 1.0 cannot have, such as an escape character, is replaced."""
    return html.escape("".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text))
