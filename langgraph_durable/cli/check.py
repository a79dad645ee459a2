"""`langgraph-durable check`: everything that is stored is read, and what is damaged is told thread by thread."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import groupby

from langgraph_durable import open_saver
from langgraph_durable.core.records import Checked, Damage

SUMMARY = "Read everything that is stored, and say what of it is damaged."
SHOWN = 3
"""Checkpoints that are named of those that one damage affects."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    parser.add_argument(
        "url", metavar="URL", help="where it is stored, such as sqlite:///agent.db or file:///checkpoints"
    )
    parser.add_argument("--thread", action="append", metavar="ID", help="look at this thread only; may be repeated")


def run(arguments: argparse.Namespace) -> int:
    """Print what is damaged; 1 if anything is."""
    with open_saver(arguments.url, must_exist=True) as saver:
        checked = saver.check(arguments.thread)
    for line in _report(checked):
        print(line)
    return 0 if checked.sound else 1


def _report(checked: Checked) -> Iterator[str]:
    for thread_id, damage in groupby(checked.damage, key=lambda one: one.thread_id):
        yield f"thread {thread_id!r}:" if thread_id is not None else "around the threads:"
        for one in damage:
            yield f"  {one.trouble}"
            if one.checkpoints:
                yield f"    in {_named(one)}"
    looked_at = f"{checked.threads:,} threads with {checked.checkpoints:,} checkpoints"
    if checked.sound:
        yield f"{looked_at}: all of it can be read"
        return
    hurt = len({one.thread_id for one in checked.damage if one.thread_id is not None})
    yield f"{looked_at}: {len(checked.damage):,} things are damaged, in {hurt:,} threads"


def _named(damage: Damage) -> str:
    ids = [f"{one} ({ns})" if ns else one for ns, one in damage.checkpoints]
    more = f" and {len(ids) - SHOWN:,} more" if len(ids) > SHOWN else ""
    return f"{len(ids):,} checkpoints: {', '.join(ids[:SHOWN])}{more}" if len(ids) > 1 else f"checkpoint {ids[0]}"
