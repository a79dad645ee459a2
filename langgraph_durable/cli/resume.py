"""`langgraph-durable resume`: a thread goes on where it ended, run by the app's own graph."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from langgraph_durable import ThreadInfo, open_saver
from langgraph_durable.cli.graphs import graph_of, tell_exception
from langgraph_durable.cli.show import asked, asking, newest, standing
from langgraph_durable.cli.text import shown
from langgraph_durable.cli.threads import from_text
from langgraph_durable.errors import DurableError, EnvironmentChangedWarning, InvalidRequestError
from langgraph_durable.runs import DurableGraph

SUMMARY = "Go on with a thread where it ended, or from one of its nodes, with the app's graph."
WANTED = (
    "resume runs the app's graph: pass --graph module:attribute, a compiled graph or a function that makes one given "
    "a checkpointer, as in --graph my_app.agent:graph"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    parser.add_argument("url", metavar="URL", help="where the thread is stored, such as sqlite:///agent.db")
    parser.add_argument("thread", metavar="THREAD", help="its id, as `langgraph-durable threads` lists it")
    parser.add_argument(
        "--graph",
        metavar="MODULE:ATTRIBUTE",
        help="the app's compiled graph, or a function that makes one given a checkpointer; it is imported from the "
        "working directory or from what is installed, and runs on the saver of URL",
    )
    parser.add_argument(
        "--answer",
        metavar="VALUE",
        help="the answer to what the thread asks: JSON, such as {interrupt id: answer}, or else text",
    )
    parser.add_argument("--from-node", metavar="NODE", help="go back to before this node, and run on from there")
    parser.add_argument(
        "--occurrence",
        type=int,
        default=-1,
        metavar="N",
        help="which time of --from-node is meant: 0 is the first, -1 the last (%(default)s)",
    )
    parser.add_argument("--dry-run", action="store_true", help="only say what would run")
    parser.add_argument(
        "--async",
        action="store_true",
        dest="awaited",
        help="run the graph in an event loop; needless where it has nodes that are coroutines, needed where only its "
        "tools or its conditional edges are",
    )


def run(arguments: argparse.Namespace) -> int:
    """Go on with the thread, and print how it stands then; 1 when it ended in an error."""
    if not arguments.graph:
        raise InvalidRequestError(WANTED)
    options: dict[str, Any] = {"from_node": arguments.from_node, "occurrence": arguments.occurrence}
    if arguments.answer is not None:
        options["resume"] = from_text(arguments.answer)
    with open_saver(arguments.url, must_exist=True) as saver:
        app = graph_of(arguments.graph, saver, "--graph")
        _require_answer(saver.get_thread(arguments.thread), arguments)
        if arguments.dry_run:
            print(shown(str(app.resume(arguments.thread, **options, dry_run=True))))
            return 0
        raised = _raised(app, arguments.thread, options, awaited=arguments.awaited)
        info = saver.get_thread(arguments.thread)
        if info is None:
            raise InvalidRequestError(f"thread {arguments.thread!r} was deleted meanwhile")
        waiting = asked(info, newest(saver, arguments.thread))
    for line in (*standing(info, traceback=not raised), *asking(waiting)):
        print(line)
    return 1 if raised or info.status == "error" else 0


def _raised(app: DurableGraph, thread_id: str, options: dict[str, Any], *, awaited: bool) -> bool:
    """Whether the run ended in an error, which is told on stderr; those of the package are raised."""
    try:
        with _telling(), warnings.catch_warnings():
            warnings.simplefilter("ignore", EnvironmentChangedWarning)  # the log tells the same
            if awaited or _has_coroutines(app):
                asyncio.run(app.aresume(thread_id, **options))
            else:
                app.resume(thread_id, **options)
    except DurableError:
        raise
    except Exception:  # noqa: BLE001  whatever a node raises is told in full, and then how the thread stands
        tell_exception()
        return True
    return False


def _require_answer(info: ThreadInfo | None, arguments: argparse.Namespace) -> None:
    asks = info is not None and (info.status, info.reason) == ("interrupted", "node")
    if asks and arguments.answer is None and arguments.from_node is None:
        raise InvalidRequestError(
            f"thread {arguments.thread!r} waits for an answer: pass --answer, or --from-node to go back; "
            "`langgraph-durable show` has what it asks"
        )


def _has_coroutines(app: DurableGraph) -> bool:
    """Whether a node of the graph can only be awaited."""
    bound = [part for node in app.nodes.values() for part in getattr(node.bound, "steps", [node.bound])]
    return any(getattr(part, "afunc", None) is not None and getattr(part, "func", None) is None for part in bound)


@contextmanager
def _telling() -> Iterator[None]:
    """What the package logs, such as what will run again, goes to stderr."""
    log, handler = logging.getLogger("langgraph_durable"), logging.StreamHandler(sys.stderr)
    before = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(before)
