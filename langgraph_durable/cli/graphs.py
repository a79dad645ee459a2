"""The app's graph, by the name of the module that has it."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from typing import Any

from langgraph.pregel import Pregel

from langgraph_durable import durable
from langgraph_durable.cli.text import shown
from langgraph_durable.errors import InvalidRequestError
from langgraph_durable.runs import DurableGraph
from langgraph_durable.saver import DurableSaver


def graph_of(name: str, saver: DurableSaver, option: str) -> DurableGraph:
    """The graph that a name, given as an option, means, over the saver. InvalidRequestError when there is none."""
    module_name, separator, path = name.partition(":")
    if not module_name or not separator or not path:
        raise InvalidRequestError(f"{option} must be module:attribute, as in my_app.agent:graph, and it is {name!r}")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    found: Any = _imported(module_name, option)
    for part in path.split("."):
        try:
            found = getattr(found, part)
        except AttributeError as error:
            raise InvalidRequestError(f"module {module_name!r} has no {path!r}, which {option} names") from error
    if callable(found) and not isinstance(found, Pregel):
        try:
            found = found(saver)
        except Exception as error:
            tell_exception()
            raise InvalidRequestError(
                f"{option} {name} raised {type(error).__name__} when it was called with a checkpointer"
            ) from error
    if not isinstance(found, Pregel):
        raise InvalidRequestError(
            f"{option} {name} is of type {type(found).__name__}, and must be a compiled graph, or a function that "
            "makes one given a checkpointer (no coroutine)"
        )
    # What LangGraph lets a serializer make of bytes, where it is told to be strict, is the compiled graph's to say.
    allowed = getattr(found, "_serde_allowlist", None)
    over = found.copy({"checkpointer": saver if allowed is None else saver.with_allowlist(allowed)})
    return over if isinstance(over, DurableGraph) else durable(over)


def _imported(name: str, option: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise InvalidRequestError(
                f"there is no module {error.name!r}, which {option} names: it is looked for in the working directory, "
                "and among what is installed"
            ) from error
        tell_exception()
        raise InvalidRequestError(f"module {name!r}, which {option} names, could not be imported: {error}") from error
    except Exception as error:
        tell_exception()
        raise InvalidRequestError(
            f"module {name!r}, which {option} names, raised {type(error).__name__} when it was imported"
        ) from error


def tell_exception() -> None:
    """The exception that is handled, with its traceback, on stderr."""
    for line in traceback.format_exc().splitlines():
        print(shown(line), file=sys.stderr)
