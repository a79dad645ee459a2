"""What others wrote, such that a terminal shows it and does not obey it; and columns that are aligned."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Sequence


def shown(text: str) -> str:
    """The text in one line, with every character that is not there to be seen written as Python writes it."""
    return "".join(
        " " if unicodedata.category(one) == "Zs" else one if one.isprintable() else repr(one)[1:-1] for one in text
    )


def shortened(text: str, most: int | None) -> str:
    """The beginning of the text in one line, and how many characters are left out; all of it where `most` is None."""
    if most is None or len(text) <= most:
        return shown(" ".join(text.split()))
    return f"{shown(' '.join(text[:most].split()))}... ({len(text) - most:,} more characters)"


def aligned(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """The lines of a table; columns of numbers end together, columns in which nothing stands are left out."""
    cells = [[shown(cell) for cell in row] for row in rows]
    columns = [column for column in range(len(heads)) if any(row[column] for row in cells)]
    widths = {column: max(_width(row[column]) for row in [list(heads), *cells]) for column in columns}
    numbers = {column for column in columns if all(_is_number(row[column]) for row in cells)}
    for row in [list(heads), *cells]:
        line = []
        for column in columns:
            room = " " * (widths[column] - _width(row[column]))
            line.append(room + row[column] if column in numbers else row[column] + room)
        yield "  ".join(line).rstrip()


def _is_number(text: str) -> bool:
    return text == "" or text.replace(",", "").removeprefix("-").isdigit()


def _width(text: str) -> int:
    """How many columns of a terminal the text takes: letters of some scripts are two wide, accents take none."""
    wide = sum(unicodedata.east_asian_width(one) in "WF" for one in text)
    return len(text) + wide - sum(unicodedata.combining(one) != 0 for one in text)
