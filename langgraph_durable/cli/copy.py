"""`langgraph-durable copy`: threads from one place to another, of whatever kind the two are."""

from __future__ import annotations

import argparse

from langgraph_durable import copy, open_saver

SUMMARY = "Copy threads from one place to another, with their history."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    parser.add_argument("source", metavar="FROM", help="where they are, such as sqlite:///agent.db")
    parser.add_argument("target", metavar="TO", help="where they are to be as well, such as file:///checkpoints")
    parser.add_argument("--thread", action="append", metavar="ID", help="copy this thread only; may be repeated")


def run(arguments: argparse.Namespace) -> int:
    """Print what was copied."""
    with open_saver(arguments.source, must_exist=True) as source, open_saver(arguments.target) as target:
        copied = copy(source, target, thread_ids=arguments.thread)
    print(f"copied {copied.checkpoints:,} checkpoints of {copied.threads:,} threads, and {copied.writes:,} writes")
    return 0
