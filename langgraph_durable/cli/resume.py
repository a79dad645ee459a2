"""`langgraph-durable resume`: a thread goes on where it ended, run by the app's own graph."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import logging
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from langgraph.pregel import Pregel

from langgraph_durable import ThreadInfo, durable, open_saver
from langgraph_durable.cli.show import asked, asking, newest, standing
from langgraph_durable.cli.text import shown
from langgraph_durable.cli.threads import from_text
from langgraph_durable.errors import DurableError, InvalidRequestError
from langgraph_durable.runs import DurableGraph
from langgraph_durable.saver import DurableSaver

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
        app = graph_of(arguments.graph, saver)
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


def graph_of(name: str, saver: DurableSaver) -> DurableGraph:
    """The graph that a name means, over the saver. InvalidRequestError when there is none."""
    module_name, separator, path = name.partition(":")
    if not module_name or not separator or not path:
        raise InvalidRequestError(f"--graph must be module:attribute, as in my_app.agent:graph, and it is {name!r}")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    found: Any = _imported(module_name)
    for part in path.split("."):
        try:
            found = getattr(found, part)
        except AttributeError as error:
            raise InvalidRequestError(f"module {module_name!r} has no {path!r}, which --graph names") from error
    if callable(found) and not isinstance(found, Pregel):
        try:
            found = found(saver)
        except Exception as error:
            _tell_exception()
            raise InvalidRequestError(
                f"--graph {name} raised {type(error).__name__} when it was called with a checkpointer"
            ) from error
    if not isinstance(found, Pregel):
        raise InvalidRequestError(
            f"--graph {name} is of type {type(found).__name__}, and must be a compiled graph, or a function that "
            "makes one given a checkpointer (no coroutine)"
        )
    # What LangGraph lets a serializer make of bytes, where it is told to be strict, is the compiled graph's to say.
    allowed = getattr(found, "_serde_allowlist", None)
    over = found.copy({"checkpointer": saver if allowed is None else saver.with_allowlist(allowed)})
    return over if isinstance(over, DurableGraph) else durable(over)


def _raised(app: DurableGraph, thread_id: str, options: dict[str, Any], *, awaited: bool) -> bool:
    """Whether the run ended in an error, which is told on stderr; those of the package are raised."""
    try:
        with _telling():
            if awaited or _has_coroutines(app):
                asyncio.run(app.aresume(thread_id, **options))
            else:
                app.resume(thread_id, **options)
    except DurableError:
        raise
    except Exception:  # noqa: BLE001  whatever a node raises is told in full, and then how the thread stands
        _tell_exception()
        return True
    return False


def _require_answer(info: ThreadInfo | None, arguments: argparse.Namespace) -> None:
    asks = info is not None and (info.status, info.reason) == ("interrupted", "node")
    if asks and arguments.answer is None and arguments.from_node is None:
        raise InvalidRequestError(
            f"thread {arguments.thread!r} waits for an answer: pass --answer, or --from-node to go back; "
            "`langgraph-durable show` has what it asks"
        )


def _imported(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise InvalidRequestError(
                f"there is no module {error.name!r}, which --graph names: it is looked for in the working directory, "
                "and among what is installed"
            ) from error
        _tell_exception()
        raise InvalidRequestError(f"module {name!r}, which --graph names, could not be imported: {error}") from error
    except Exception as error:
        _tell_exception()
        raise InvalidRequestError(
            f"module {name!r}, which --graph names, raised {type(error).__name__} when it was imported"
        ) from error


def _has_coroutines(app: DurableGraph) -> bool:
    """Whether a node of the graph can only be awaited."""
    bound = [part for node in app.nodes.values() for part in getattr(node.bound, "steps", [node.bound])]
    return any(getattr(part, "afunc", None) is not None and getattr(part, "func", None) is None for part in bound)


def _tell_exception() -> None:
    for line in traceback.format_exc().splitlines():
        print(shown(line), file=sys.stderr)


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
