"""A fingerprint is what an agent runs with, in a few strings that fit beside every checkpoint.

    env_hash            of all that follows; it brings along, for savers of this package, the record that it is of
    tool_schema_hash    of the definitions of all tools
    graph_hash          of nodes, edges, branches, channels and breakpoints
    model               provider and name

The record has all of it in full, as JSON: each tool's definition and hash, the model's parameters, the graph, limits,
and the versions of libraries, which are there for information and in no hash. Hashes are SHA-256 over canonical JSON,
shortened in the fingerprint, and in full for each tool.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Mapping
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any
from weakref import WeakKeyDictionary

from langchain_core.runnables import RunnableConfig
from langgraph.pregel import Pregel

from langgraph_durable.core.environments import FINGERPRINT, GRAPH, MODEL, RECORD_HASH, TOOLS, HashOf
from langgraph_durable.environment.canonical import canonical, digest
from langgraph_durable.environment.graphs import described_graph, limits_of, tools_in
from langgraph_durable.environment.models import described_model, model_name
from langgraph_durable.environment.tools import Definition, definitions
from langgraph_durable.errors import InvalidRequestError

VERSION = 1
"""The version of the record."""

ENOUGH = 32
"""Digits of the hash that decides whether anything differs: 128 bits."""

FEW = 16
"""Digits of the hashes that are only looked for."""

KNOWN = 64
"""How many fingerprints are kept so as not to be made again."""

Fingerprint = dict[str, str | int | float | bool]

_NOT_FREE = frozenset({*FINGERPRINT, "source", "step", "parents", "run_id", "thread_id", "status"})
_LIBRARIES = ("langgraph", "langgraph-checkpoint", "langchain-core", "langchain", "langgraph-durable")


def fingerprint(
    *,
    tools: Any = None,
    model: Any = None,
    graph: Any = None,
    extra: Mapping[str, str | int | float | bool] | None = None,
    config: RunnableConfig | None = None,
) -> Fingerprint:
    """What an agent runs with, for `graph.with_config(metadata=fingerprint(...))`: a flat dict of some 180 bytes.

    `tools` is a list of whatever `bind_tools` takes, or a ToolNode; those of the graph's ToolNodes when there are none
    given. `model` is a chat model, bound or not, or its name; nothing of keys, headers and addresses is looked at.
    `graph` is a compiled graph. `extra` is anything else that matters, a few short values such as the version of a
    prompt. `config` has limits that are not the graph's own. What is None is not compared later.

    Tools are told by their definitions, as a model sees them, whatever their order. Of nodes the names count, and not
    their code. In any checkpointer the dict can be filtered on (`list(filter={"model": "openai:gpt-4o"})`); savers of
    this package store the full definitions as well, once in a thread. They come along in the value of `env_hash`, which
    has to stay the object that it is.

    InvalidRequestError for what is no tool, model or graph, and for a key of `extra` that means something already.
    """
    if tools is not None:
        known: Mapping[str, Definition] | None = definitions(tools)
    else:
        known = None if graph is None else _found(tools_in(graph))
    rest = {
        "model": None if model is None else described_model(model),
        "graph": None if graph is None else _described(graph),
        "limits": {} if graph is None and config is None else limits_of(graph, config),
        "extra": None if extra is None else _checked(extra),
    }
    return dict(_made(None if known is None else tuple(known.items()), canonical(rest)))


@lru_cache(maxsize=KNOWN)
def _made(known: tuple[tuple[str, Definition], ...] | None, described: str) -> Fingerprint:
    rest = json.loads(described)
    hashes = None if known is None else {name: one.hash for name, one in known}
    tools = None if known is None else {name: _told(one) for name, one in known}
    record = canonical({"version": VERSION, "tools": tools, **rest, "libraries": _libraries()})
    made: Fingerprint = {RECORD_HASH: HashOf(digest({"tools": hashes, **rest})[:ENOUGH], record)}
    if hashes is not None:
        made[TOOLS] = digest(hashes)[:FEW]
    if rest["graph"] is not None:
        made[GRAPH] = digest(rest["graph"])[:FEW]
    if rest["model"] is not None:
        made[MODEL] = model_name(rest["model"])
    made.update(rest["extra"] or {})
    return made


def _told(tool: Definition) -> dict[str, Any]:
    return {
        "hash": tool.hash,
        "description": tool.description,
        "parameters": tool.parameters,
        "other": tool.other,
    }


def _described(graph: Any) -> dict[str, Any]:
    """The description of a graph, made once for each: nodes are not added to one that is compiled."""
    if not isinstance(graph, Pregel):
        return described_graph(graph)  # it says what is wrong
    key = tuple(map(_frozen, (graph.nodes, graph.interrupt_before_nodes, graph.interrupt_after_nodes)))
    with _lock:
        known = _graphs.get(graph)
    if known is None or known[0] != key:
        known = key, described_graph(graph)
        with _lock:
            _graphs[graph] = known
    return known[1]


def _frozen(names: Any) -> Any:
    return names if isinstance(names, str) else tuple(names)


_lock = threading.Lock()
_graphs: WeakKeyDictionary[Any, tuple[Any, dict[str, Any]]] = WeakKeyDictionary()


def _found(tools: list[Any]) -> Mapping[str, Definition]:
    """The definitions of tools that nobody gave; one that no model could be told of is left out."""
    try:
        return definitions(tools)
    except InvalidRequestError:
        return definitions([tool for tool in tools if _can_be_told(tool)])


def _can_be_told(tool: Any) -> bool:
    try:
        definitions([tool])
    except InvalidRequestError:
        return False
    return True


def _checked(extra: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(extra, Mapping):
        raise InvalidRequestError(f"extra must be a dict of short values, and it is {extra!r}")
    for key, value in extra.items():
        if not isinstance(key, str) or key in _NOT_FREE or key.startswith("__"):
            raise InvalidRequestError(f"extra has the key {key!r}, which means something else in metadata: rename it")
        if not isinstance(value, (str, int, float, bool)):
            raise InvalidRequestError(
                f"extra[{key!r}] is a {type(value).__name__}, and metadata keep text, numbers and booleans: pass a "
                "hash or a version of it"
            )
    return dict(extra)


@lru_cache(maxsize=1)
def _libraries() -> dict[str, str]:
    found = {"python": ".".join(map(str, sys.version_info[:3]))}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
