"""`langgraph-durable threads`: how the threads of a store stand, as a table or as JSON."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterable
from typing import Any

from langgraph_durable import open_saver
from langgraph_durable.cli.text import aligned
from langgraph_durable.errors import InvalidRequestError
from langgraph_durable.threads import COLUMNS, ThreadList, row

SUMMARY = "List threads, and how they stand. Times are UTC."
LIMIT = 50


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    parser.add_argument(
        "url", metavar="URL", help="where they are stored, such as sqlite:///agent.db or file:///checkpoints"
    )
    parser.add_argument(
        "--status",
        action="append",
        metavar="STATUS",
        help="only those that are idle, busy, interrupted, error or crashed; may be repeated",
    )
    parser.add_argument(
        "--metadata",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="only those whose newest metadata have this value, which is JSON or else text; may be repeated",
    )
    parser.add_argument(
        "--order", choices=("updated", "created", "id"), default="updated", help="what decides the order (%(default)s)"
    )
    parser.add_argument("--limit", type=int, default=LIMIT, metavar="N", help="how many at most (%(default)s)")
    parser.add_argument("--json", action="store_true", help="a JSON array, for programs")


def run(arguments: argparse.Namespace) -> int:
    """Print the threads; 0, also when there are none."""
    if arguments.limit < 1:
        raise InvalidRequestError(f"--limit must be 1 or more, and it is {arguments.limit}")
    metadata = dict(map(_pair, arguments.metadata)) or None
    with open_saver(arguments.url, must_exist=True) as saver:
        found = saver.list_threads(
            status=arguments.status, metadata=metadata, order=arguments.order, limit=arguments.limit
        )
    if arguments.json:
        print(json.dumps([one.as_dict() for one in found], indent=2))
        if found.cursor is not None:
            print(f"these are the first {len(found):,}, and there are more: --limit", file=sys.stderr)
        return 0
    if found:
        for line in aligned(COLUMNS, map(row, found)):
            print(line)
    print(_counted(found))
    return 0


def from_text(text: str) -> Any:
    """What a value on a command line means: what it is as JSON, and where it is none the text itself."""
    try:
        return json.loads(text, parse_constant=_refused)
    except ValueError:
        return text


def _refused(name: str) -> None:
    raise ValueError(name)


def _pair(text: str) -> tuple[str, Any]:
    key, separator, value = text.partition("=")
    if not separator or not key:
        raise InvalidRequestError(f"--metadata takes KEY=VALUE, such as user=anna or tries=3, and it is {text!r}")
    return key, from_text(value)


def _counted(found: ThreadList) -> str:
    if not found:
        return "no threads"
    counts: Iterable[tuple[str, int]] = Counter(one.status for one in found).most_common()
    told = ", ".join(f"{count:,} {status}" for status, count in counts)
    more = "; there are more: --limit" if found.cursor is not None else ""
    return f"{len(found):,} thread{'' if len(found) == 1 else 's'}: {told}{more}"
