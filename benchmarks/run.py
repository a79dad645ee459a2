"""Measure langgraph-durable beside LangGraph's own savers and print the ratios.

    python -m benchmarks.run                      every workload
    python -m benchmarks.run growth --turns 100   one of them, smaller
    python -m benchmarks.run --markdown           the tables as they stand in a README

A run of everything takes some minutes a round. Ratios carry over from one machine to another, seconds do not. A saver
that does not give back what was put ends the run with an error.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks import report
from benchmarks.conversations import add_transcripts_option
from benchmarks.environment import commit_seconds, environment
from benchmarks.rounds import RunFailedError, measure
from benchmarks.savers import OURS
from benchmarks.workloads import WORKLOADS, Sizes


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what the command line asks for; the tables go to standard output, everything else to standard error."""
    args = _parser().parse_args(arguments)
    sizes = Sizes(
        turns=args.turns,
        threads=args.threads,
        conversations=args.conversations,
        transcripts=str(args.transcripts) if args.transcripts else None,
    )
    chosen = list(dict.fromkeys(args.workloads)) or list(WORKLOADS)
    if "encrypted" in chosen and importlib.util.find_spec("Crypto") is None:
        chosen.remove("encrypted")
        print("encrypted is left out: it needs pycryptodome", file=sys.stderr)

    commit_before = commit_seconds()
    try:
        measured = measure(chosen, args.rounds, sizes, args.ours, _progress)
    except RunFailedError as error:
        sys.exit(f"\n{error}")
    finally:
        _progress("")
    # Both: another program that wakes up beside the benchmark shows in the disk first.
    where = environment([commit_before, commit_seconds()])
    tables = [report.ratios(measured), report.seconds(measured, sizes)]
    if args.markdown:
        print("\n\n".join([*(table.markdown() for table in tables), *report.NOTES, where]))
    else:
        print("\n\n".join([*(table.text() for table in tables), "\n".join(report.NOTES), where]))
    if args.json:
        args.json.write_text(json.dumps(report.as_json(measured, sizes, where), indent=2) + "\n", "utf-8")


def _parser() -> argparse.ArgumentParser:
    default = Sizes()
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.run", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "workloads", nargs="*", type=_workload, metavar="WORKLOAD", help=f"{', '.join(WORKLOADS)}; default: all of them"
    )
    parser.add_argument("--rounds", type=_positive, default=3, help="default: %(default)s; figures are their medians")
    parser.add_argument("--turns", type=_positive, default=default.turns, help="of growth; default: %(default)s")
    parser.add_argument(
        "--threads", type=_positive, default=default.threads, help="of concurrency; default: %(default)s"
    )
    parser.add_argument(
        "--conversations", type=_positive, default=default.conversations, help="of replay; default: %(default)s"
    )
    add_transcripts_option(parser)
    parser.add_argument("--ours", metavar="MODULE:CLASS", default=OURS, help="measure this class; default: %(default)s")
    parser.add_argument("--markdown", action="store_true", help="print the tables as markdown")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure of every round to FILE as well")
    return parser


def _workload(text: str) -> str:
    # Not `choices`: before Python 3.12 it refuses an empty list.
    if text not in WORKLOADS:
        raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(WORKLOADS)}")
    return text


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def _progress(text: str) -> None:
    """Show `text` on standard error: in one place where that is a terminal, a line each where it is a file."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
    elif text:
        print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
