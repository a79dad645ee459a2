"""What a graph is made of, as plain data: what is told follows from the graph alone, and is the same in every process.

Nodes are told by their names: what a node does is not looked into. Those of a subgraph are paths, "outer/inner".
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from enum import Enum
from typing import Any

from langchain_core.runnables import Runnable, RunnableConfig, RunnableParallel, RunnableWithFallbacks
from langchain_core.runnables.base import RunnableBindingBase
from langchain_core.runnables.config import DEFAULT_RECURSION_LIMIT
from langgraph.channels.base import BaseChannel
from langgraph.constants import END, START
from langgraph.graph.state import CompiledStateGraph
from langgraph.pregel import Pregel

from langgraph_durable.environment.typenames import callable_name, type_name
from langgraph_durable.errors import InvalidRequestError

GOTO = "Command"
"""The name of the branch that a node is whose Command tells where to go on."""


def described_graph(graph: Any) -> dict[str, Any]:
    """What a compiled graph is made of, as JSON has it.

    `nodes` are sorted names, and `deferred` those of them that run last. `edges` are sorted: ["a", "b"], and
    [["a", "b"], "c"] for one that waits for all of its starts. `branches` are the routers of a node, with what they
    lead to where that is declared; where a node may go by Command is told as a router named "Command". `channels` are
    those of the state: class, type and reducer. A graph that is not a StateGraph has an edge from each node to those
    that are triggered by a channel it writes to. InvalidRequestError for what is not a compiled graph.

    Nothing is kept from one call to the next: a breakpoint that was set since is told.
    """
    nodes: list[str] = []
    deferred: list[str] = []
    edges: list[list[Any]] = []
    branches: dict[str, list[dict[str, Any]]] = {}
    channels: dict[str, str] = {}
    before: list[str] = []
    after: list[str] = []
    for prefix, one in _nested(_compiled(graph)):
        nodes += [prefix + name for name in one.nodes if name != START]
        before += _breakpoints(prefix, one.interrupt_before_nodes)
        after += _breakpoints(prefix, one.interrupt_after_nodes)
        if isinstance(one, CompiledStateGraph):
            deferred += [prefix + name for name, node in one.builder.nodes.items() if node.defer and name in one.nodes]
            edges += _edges(prefix, one)
            branches |= _branches(prefix, one)
        else:
            edges += _subscriptions(prefix, one)
        channels |= {prefix + name: _channel(one.channels[name]) for name in _state(one)}
    return {
        "nodes": sorted(nodes),
        "deferred": sorted(deferred),
        "edges": sorted(edges, key=_place),
        "branches": dict(sorted(branches.items())),
        "channels": dict(sorted(channels.items())),
        "breakpoints": {"before": sorted(before), "after": sorted(after)},
    }


def limits_of(graph: Any, config: RunnableConfig | None = None) -> dict[str, Any]:
    """The limits that were given for a run, in `config` or else in the graph's own: nothing for a default.

    LangChain fills its own default in for each run of a batch, which cannot be told from one that was given.
    """
    one = _compiled(graph)
    given: dict[str, Any] = {}
    for source in (one.config, config):
        limit = (source or {}).get("recursion_limit")
        # LangGraph's own default is of a class of its own.
        if type(limit) is int and limit != DEFAULT_RECURSION_LIMIT:
            given["recursion_limit"] = limit
    if one.step_timeout is not None:
        given["step_timeout"] = one.step_timeout
    return given


def tools_in(graph: Any) -> list[Any]:
    """The tools of every ToolNode that is a node, each once: those of the graph, then those of its subgraphs."""
    # To import LangGraph's prebuilt agents takes long, and whoever has a ToolNode has done so.
    known: Any = getattr(sys.modules.get("langgraph.prebuilt.tool_node"), "ToolNode", ())
    found: dict[int, Any] = {}
    for _, one in _nested(_compiled(graph)):
        for node in one.nodes.values():
            for part in _parts(node.bound):
                if isinstance(part, known):
                    found |= {id(tool): tool for tool in part.tools_by_name.values()}
    return list(found.values())


def _compiled(graph: Any) -> Pregel[Any, Any, Any, Any]:
    if not isinstance(graph, Pregel):
        raise InvalidRequestError(
            f"a {type(graph).__name__} is not a compiled graph; hand over what `compile()` answers, or an @entrypoint"
        )
    return graph


def _nested(
    graph: Pregel[Any, Any, Any, Any], prefix: str = "", above: Sequence[object] = ()
) -> Iterator[tuple[str, Pregel[Any, Any, Any, Any]]]:
    """A graph and its subgraphs, each with what comes before the names in it. One that calls itself is not entered."""
    yield prefix, graph
    around = (*above, graph)
    called = dict(graph.get_subgraphs())
    for name, node in graph.nodes.items():
        # LangGraph leaves out a subgraph that stores nothing, and one that is wrapped.
        inner = called.get(name) or next((part for part in _parts(node.bound) if isinstance(part, Pregel)), None)
        if isinstance(inner, Pregel) and all(inner is not one for one in around):
            yield from _nested(inner, f"{prefix}{name}/", around)


def _parts(runnable: Any) -> Iterator[Runnable[Any, Any]]:
    """A runnable, and those that it wraps."""
    if not isinstance(runnable, Runnable):
        return
    yield runnable
    inside: Sequence[Any] = ()
    if isinstance(runnable, RunnableBindingBase):
        inside = (runnable.bound,)
    elif isinstance(runnable, RunnableWithFallbacks):
        inside = tuple(runnable.runnables)
    elif isinstance(runnable, RunnableParallel):
        inside = tuple(runnable.steps__.values())
    elif isinstance(steps := getattr(runnable, "steps", None), (list, tuple)):
        inside = steps  # sequences: langchain-core and LangGraph have one each
    for part in inside:
        yield from _parts(part)


def _state(graph: Pregel[Any, Any, Any, Any]) -> list[str]:
    """The channels that are not LangGraph's own."""
    if isinstance(graph, CompiledStateGraph):
        # The graph has its copy of what its builder had; somebody may have added to that since.
        return [name for name in (*graph.builder.channels, *graph.builder.managed) if name in graph.channels]
    return [name for name in graph.channels if name not in (START, END, "__pregel_tasks")]


def _channel(channel: Any) -> str:
    if not isinstance(channel, BaseChannel):
        return f"ManagedValue({type_name(channel)})"
    said = [type_name(getattr(channel, "typ", Any))]
    reducer = getattr(channel, "operator", None) or getattr(channel, "reducer", None)
    if reducer is not None:
        said.append(callable_name(reducer))
    if getattr(channel, "accumulate", False) is True:
        said.append("accumulate")
    return f"{type_name(type(channel))}({', '.join(said)})"


def _edges(prefix: str, graph: CompiledStateGraph[Any, Any, Any, Any]) -> Iterator[list[Any]]:
    there = {*graph.nodes, START, END}
    for start, end in graph.builder.edges:
        if start in there and end in there:
            yield [prefix + start, prefix + end]
    for starts, end in graph.builder.waiting_edges:
        if there.issuperset(starts) and end in there:
            yield [[prefix + start for start in starts], prefix + end]


def _subscriptions(prefix: str, graph: Pregel[Any, Any, Any, Any]) -> Iterator[list[Any]]:
    """An edge for each channel through which a node, or the input, triggers a node, or makes the output."""
    readers: dict[str, list[str]] = {}
    for name, node in graph.nodes.items():
        for channel in node.triggers:
            readers.setdefault(channel, []).append(name)
    for channel in _names(graph.output_channels):
        readers.setdefault(channel, []).append(END)
    written = {name: _written(node.writers) for name, node in graph.nodes.items()}
    written[START] = set(_names(graph.input_channels))
    for start in written:
        ends = {end for channel in written[start] for end in readers.get(channel, ())}
        if start == START:
            ends.discard(END)
        for end in ends:
            yield [prefix + start, prefix + end]


def _written(writers: Sequence[Any]) -> set[str]:
    entries = (entry for writer in writers for entry in getattr(writer, "writes", ()))
    return {entry.channel for entry in entries if isinstance(getattr(entry, "channel", None), str)}


def _names(channels: str | Sequence[str]) -> Sequence[str]:
    return (channels,) if isinstance(channels, str) else channels


def _branches(prefix: str, graph: CompiledStateGraph[Any, Any, Any, Any]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for name, node in graph.builder.nodes.items():
        if node.ends and name in graph.nodes:
            # Of a dict the values are what a picture says at the edges.
            found[prefix + name] = [{"name": GOTO, "ends": {end: prefix + end for end in sorted(node.ends)}}]
    for name, routers in graph.builder.branches.items():
        if routers and name in graph.nodes:
            told = [
                {"name": router, "ends": None if branch.ends is None else _labelled(prefix, branch.ends)}
                for router, branch in sorted(routers.items())
            ]
            found[prefix + name] = found.get(prefix + name, []) + told
    return found


def _labelled(prefix: str, ends: dict[Any, str]) -> dict[str, str]:
    """What a router answers, and where that leads; answers that read the same are one."""
    told: dict[str, str] = {}
    for label, end in sorted((_label(answer), prefix + end) for answer, end in ends.items()):
        told[label] = f"{told[label]}, {end}" if label in told else end
    return told


def _label(answer: Any) -> str:
    if isinstance(answer, Enum):
        return f"{type_name(type(answer))}.{answer.name}"
    if isinstance(answer, tuple):
        return f"({', '.join(map(_label, answer))})"
    # Anything else may tell where it is in memory.
    return str(answer) if answer is None or isinstance(answer, (str, int, float)) else type_name(type(answer))


def _breakpoints(prefix: str, nodes: Any) -> list[str]:
    return [prefix + "*"] if nodes == "*" else [prefix + node for node in nodes]


def _place(edge: list[Any]) -> tuple[list[str], str, bool]:
    """Where an edge comes among the others."""
    waits = isinstance(edge[0], list)
    return (edge[0] if waits else [edge[0]], edge[1], waits)
