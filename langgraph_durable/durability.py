"""`durable(graph)` is the same graph, of a class of its own, that is used wherever the graph was."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any, Literal, cast

from langgraph.pregel import Pregel

from langgraph_durable.asking import Settings
from langgraph_durable.core.superstep import JOIN
from langgraph_durable.environment.fingerprints import fingerprint
from langgraph_durable.environment.graphs import tools_in
from langgraph_durable.environment.policy import OnChange, checked
from langgraph_durable.errors import InvalidRequestError
from langgraph_durable.files import file_channels, root_of
from langgraph_durable.files.places import rooted
from langgraph_durable.runs import DurableGraph, attributes
from langgraph_durable.saver import DurableSaver


def durable(
    graph: Pregel[Any, Any, Any, Any],
    *,
    owner: str | None = None,
    on_busy: Literal["raise", "wait", "interrupt"] = "raise",
    on_crash: Literal["resume", "fail"] = "resume",
    max_recoveries: int = 3,
    lease_seconds: float = 30.0,
    heartbeat_seconds: float = 5.0,
    tools: Any = None,
    model: Any = None,
    extra: Mapping[str, str | int | float | bool] | None = None,
    on_change: OnChange = "warn",
    renames: Mapping[str, str] | None = None,
    root: str | os.PathLike[str] | None = None,
) -> DurableGraph:
    """The graph, with one runner a thread, an exact end of every run, and `resume`, `fork`, `rewind` and `recover`.

    It is used wherever the compiled graph was. `owner` is what others are told of who runs a thread. A run that finds
    its thread in use raises ThreadBusyError, waits, or asks that run to end and waits (`on_busy`). New input for a
    thread whose last run failed, crashed or was stopped by SIGTERM: that run is finished first, or
    (`on_crash="fail"`) InvalidRequestError. A run whose process cannot be asked after, since it is on another
    machine, counts as gone `lease_seconds` after its last sign of life, which it gives every `heartbeat_seconds`.
    Checkpoints are stored with `durability="sync"` unless another is given.

    What a run runs with is recorded (`fingerprint` of the graph, of `tools` or those of its ToolNodes, of `model` and
    `extra`) and compared with what the thread ran with before. `on_change` says what is done about a difference:
    "warn" (the default), "raise", "ignore", a function of the report, or one of these by kind; see
    `check_environment`. What is pending and cannot run as it was raises: a node that is gone, unless `renames` has its
    new name by the old one, and a tool call whose tool is gone or another. Files that nodes tracked (`track_file`)
    below `root` and that changed since are in the report as well; `root` is that of the graph's `file_tools`, or the
    working directory, when it is not given.

    InvalidRequestError for a graph that was not compiled with a saver of this package.
    """
    if not isinstance(graph, Pregel) or not isinstance(graph.checkpointer, DurableSaver):
        raise InvalidRequestError(
            "durable takes a graph that was compiled with a saver of this package: "
            'durable(builder.compile(checkpointer=SqliteSaver("agent.db")))'
        )
    if isinstance(graph, DurableGraph):
        graph = graph._graph()
    for name, value, allowed in (
        ("on_busy", on_busy, ("raise", "wait", "interrupt")),
        ("on_crash", on_crash, ("resume", "fail")),
    ):
        if value not in allowed:
            raise InvalidRequestError(f"{name} must be one of {', '.join(allowed)}, and it is {value!r}")
    if not 0 < heartbeat_seconds < lease_seconds:
        raise InvalidRequestError(
            f"heartbeat_seconds ({heartbeat_seconds}) must be more than 0 and less than lease_seconds ({lease_seconds})"
        )
    kind = type(graph)
    channels = tuple(file_channels(graph))
    settings = Settings(
        owner=owner,
        on_busy=on_busy,
        on_crash=on_crash,
        max_recoveries=max_recoveries,
        lease_seconds=lease_seconds,
        heartbeat_seconds=heartbeat_seconds,
        nodes=frozenset(graph.nodes),
        interrupt_before=graph.interrupt_before_nodes,
        interrupt_after=graph.interrupt_after_nodes,
        tools=list(tools) if isinstance(tools, Iterator) else tools,
        model=model,
        extra=extra,
        on_change=checked(on_change),
        renames=_renames(graph, renames or {}),
        channels=channels,
        joins=tuple(name for name in graph.channels if name.startswith(JOIN)),
        root=rooted(root or root_of(tools_in(graph)) or ".") if channels or root is not None else ".",
    )
    # What cannot be told is refused here and now.
    fingerprint(tools=settings.tools, model=model, graph=graph, extra=extra)
    # A class and no attributes: LangGraph makes copies of a graph from all the attributes that it has.
    made = type(
        f"Durable{kind.__name__}", (DurableGraph, kind), {"_settings": settings, "_kind": kind, "__module__": __name__}
    )
    return cast(DurableGraph, made(**attributes(graph)))


def _renames(graph: Pregel[Any, Any, Any, Any], renames: Mapping[str, str]) -> Mapping[str, str]:
    if not isinstance(renames, Mapping):
        raise InvalidRequestError(f"renames is a dict of new names by the old ones, and not {renames!r}")
    for old, new in renames.items():
        if new not in graph.nodes or old in graph.nodes:
            trouble = f"there is no {new!r}" if new not in graph.nodes else f"there still is a {old!r}"
            raise InvalidRequestError(
                f"renames says that the node {old!r} is called {new!r} now, and {trouble} in the graph"
            )
    return renames
