"""The `langgraph-durable` command: what the user asked for goes to stdout, what went wrong to stderr in one line.

Exit status 0: done. 1: done, and what was looked at is not as it should be. 2: could not be done; the line says what to
do next. 130: interrupted.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

from langgraph_durable.cli import check, copy, demo, env, resume, show, threads
from langgraph_durable.errors import DurableError

PROGRAM = "langgraph-durable"


class Command(NamedTuple):
    """One subcommand: how it is called, and what runs it and gives the exit status."""

    name: str
    summary: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]


COMMANDS = (
    Command("demo", demo.SUMMARY, demo.add_arguments, demo.run),
    Command("check", check.SUMMARY, check.add_arguments, check.run),
    Command("threads", threads.SUMMARY, threads.add_arguments, threads.run),
    Command("show", show.SUMMARY, show.add_arguments, show.run),
    Command("env", env.SUMMARY, env.add_arguments, env.run),
    Command("resume", resume.SUMMARY, resume.add_arguments, resume.run),
    Command("copy", copy.SUMMARY, copy.add_arguments, copy.run),
)


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status of the command line `argv` (by default that of this process)."""
    arguments = _parser().parse_args(argv)
    for stream in (sys.stdout, sys.stderr):
        # A file name or a model's answer may hold what this terminal cannot show; that is no reason to stop.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    run: Callable[[argparse.Namespace], int] = arguments.run
    try:
        status = run(arguments)
        sys.stdout.flush()
    except DurableError as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{PROGRAM}: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # `... | head` closed its end. Python flushes stdout once more at exit, which must not complain about it again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=PROGRAM, description="What a LangGraph agent keeps, and what of it survives a kill -9."
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in COMMANDS:
        one = commands.add_parser(command.name, help=command.summary, description=command.summary)
        command.add_arguments(one)
        one.set_defaults(run=command.run)
    return parser
