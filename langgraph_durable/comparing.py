"""What a thread ran with is compared with what it would go on with, before anything of it runs.

Decided once for both forms, like `resuming`, and for savers of other packages as well, which keep no more than the
hashes in the metadata.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, cast

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver, CheckpointTuple

from langgraph_durable.asking import Asking, Do, Get, Look, Setting, Settings, adrive, drive
from langgraph_durable.core.environments import GRAPH, MODEL, RECORD_HASH, TOOLS, record_in
from langgraph_durable.core.leads import leads_to
from langgraph_durable.core.plan import Address, address
from langgraph_durable.core.recordings import Recorded, inside, recorded
from langgraph_durable.environment.changes import How, Kind
from langgraph_durable.environment.pending import changed_calls, missing_inside, missing_nodes, open_calls
from langgraph_durable.environment.policy import OnChange, checked, log, settle
from langgraph_durable.environment.report import Change, EnvironmentReport, differences
from langgraph_durable.errors import InvalidRequestError
from langgraph_durable.files import changed_files
from langgraph_durable.renaming import renaming
from langgraph_durable.saver import DurableSaver

_PARTS: dict[str, tuple[Kind, str]] = {
    TOOLS: ("tools", "tool"),
    GRAPH: ("graph", "node"),
    MODEL: ("model", "model"),
}
_WORDS: dict[str, How] = {"changed": "changed", "refused": "changed", "deleted": "removed", "new": "added"}
_STAMP = frozenset({"path", "size", "mtime_ns", "digest"})


class Now(NamedTuple):
    """What a thread would go on with: a fingerprint, and the graph's nodes (None: unknown), with their old names.

    `root` is where tracked files are (None: they are not looked at), and `channels` have their stamps (None: those
    whose values look like it).
    """

    fingerprint: Mapping[str, Any]
    nodes: Collection[str] | None = None
    renames: Mapping[str, str] = {}
    channels: Sequence[str] | None = None
    root: str | None = None


def now_of(settings: Settings, fingerprint: Mapping[str, Any]) -> Now:
    """What a durable graph would go on with."""
    return Now(fingerprint, settings.nodes, settings.renames, settings.channels, settings.root)


def comparing(
    config: RunnableConfig, now: Now, *, pending: bool = True, waiting: Sequence[str] | None = None
) -> Asking[EnvironmentReport]:
    """What differs for a thread, or one checkpoint of it. `pending` is whether what is next there will run.

    `waiting` are the nodes that are known to be next; None where the state has to tell, which is read then, when
    something differs, and for tracked files.
    """
    at = address(config)
    hashed = now.fingerprint.get(RECORD_HASH)
    known: Recorded | None = yield Do(recorded, (at.thread_id, at.checkpoint_id, hashed))
    changed = known is not None and known.metadata.get(RECORD_HASH) != hashed
    tracks = now.root is not None and now.channels != ()
    if pending and not changed and known is not None and waiting is not None and now.nodes is not None:
        # The graph is the one that ran last, and has its nodes unless some other graph was asked for the thread.
        pending = bool(missing_nodes(waiting, now.nodes, now.renames))
    if not (changed or tracks or pending):
        return EnvironmentReport(at.thread_id, at.checkpoint_id or "", (), known=known is not None)
    found: CheckpointTuple | None = yield Get(config)
    if found is None:
        return EnvironmentReport(at.thread_id, "", (), known=False)
    inner: list[str] = []
    if changed and pending:
        inner = yield Do(inside, (at.thread_id, found.checkpoint["id"]))
    return (yield from _reported(found, known, now, pending=pending, waiting=waiting or (), inner=inner))


class Going(NamedTuple):
    """How a run goes on: from where, and the new ids of interrupts by their old ones, where nodes have new names."""

    config: RunnableConfig
    ids: Mapping[str, str] = {}


def compared(
    setting: Setting, config: RunnableConfig | None, *, pending: bool = True, answered: bool = False
) -> Asking[Going]:
    """How a run may go on; EnvironmentChangedError when it may not. `pending` is whether what is next will run.

    `answered` is that it goes on with an answer.
    """
    given = config or {}
    if setting.taken.seen is None or not setting.fingerprint:
        return Going(given)
    settings = setting.settings
    checkpoint_id = (given.get("configurable") or {}).get("checkpoint_id") or None
    here = Address(setting.thread_id, "", None).config(checkpoint_id or setting.taken.checkpoint_id)
    waiting = None if checkpoint_id else setting.taken.nodes
    report = yield from comparing(here, now_of(settings, setting.fingerprint), pending=pending, waiting=waiting)
    settle(report, settings.on_change)
    if not pending or not settings.renames:
        return Going(given)
    moved = yield from renaming(setting.thread_id, checkpoint_id, settings.renames, settings.joins, answered=answered)
    if moved is None:
        return Going(given)
    new_id, ids = moved
    log.info("thread %r goes on at checkpoint %s, with the new names of nodes", setting.thread_id, new_id)
    if checkpoint_id is None:
        return Going(given, ids)
    where = {**(given.get("configurable") or {}), "checkpoint_id": new_id}
    return Going(cast(RunnableConfig, {**given, "configurable": where}), ids)


def _reported(
    found: CheckpointTuple,
    known: Recorded | None,
    now: Now,
    *,
    pending: bool,
    waiting: Sequence[str] = (),
    inner: Sequence[str] = (),
) -> Asking[EnvironmentReport]:
    """What differs at a checkpoint; `inner` are the namespaces of subgraphs that have begun there."""
    at = address(found.config)
    current = record_in(now.fingerprint)
    old = None if known is None else known.record
    new = None if current is None else json.loads(current)
    changes: list[Change] = []
    if known is not None:
        changes += differences(old, new, now.renames) if old is not None and new is not None else _hashes(known, now)
    tools = [one for one in changes if one.kind == "tools"]
    changes += yield from _files(found, now)
    if pending:
        graph = None if new is None else new["graph"]
        # Those of the record have the nodes of subgraphs among them.
        nodes = now.nodes if graph is None else {*(now.nodes or ()), *graph["nodes"]}
        leads = leads_to(cast("dict[str, Any]", found.checkpoint), found.pending_writes or ())
        following = [one for one in (*waiting, *leads) if one != "__start__"]
        if nodes is not None:
            changes += missing_nodes(following, nodes, now.renames)
        names = open_calls(found) if tools and following else []
        for ns in inner:
            one: CheckpointTuple | None = yield Get(Address(at.thread_id, ns, None).newest())
            if one is None:
                continue
            names += open_calls(one) if tools else []
            if nodes is not None:
                changes += missing_inside(ns, leads_to(cast("dict[str, Any]", one.checkpoint), ()), nodes)
        known_tools = None if old is None or new is None else old["tools"]
        changes += changed_calls(list(dict.fromkeys(names)), known_tools, new and new["tools"])
    return EnvironmentReport(at.thread_id, found.checkpoint["id"], tuple(changes), known=known is not None)


def _hashes(known: Recorded, now: Now) -> Iterator[Change]:
    """What differs where the hashes are all that was kept."""
    was, then = known.metadata, now.fingerprint
    found = False
    for key in then:
        if key == RECORD_HASH or was.get(key, then[key]) == then[key]:
            continue
        found = True
        kind, subject = _PARTS.get(key, ("extra", "value"))
        hashed = key in (TOOLS, GRAPH)
        yield Change(kind, subject, key, "changed", "hash" if hashed else "", was[key], then[key])
    if not found and was.get(RECORD_HASH) != then.get(RECORD_HASH):
        yield Change("extra", "value", RECORD_HASH, "changed", "hash", was.get(RECORD_HASH), then.get(RECORD_HASH))


def _files(found: CheckpointTuple, now: Now) -> Asking[list[Change]]:
    """What differs of the files that a state says were looked at."""
    values = found.checkpoint["channel_values"]
    channels = now.channels
    if channels is None:
        channels = [name for name, value in values.items() if _is_stamps(value)]
    changes: list[Change] = []
    for channel in channels if now.root is not None else ():
        for one in (yield Look(changed_files, (values.get(channel) or {}, now.root))):
            aspect = "refused" if one.change == "refused" else ""
            change = Change("files", "file", one.path, _WORDS[one.change], aspect, one.known, one.current or one.reason)
            changes.append(change)
    return changes


def _is_stamps(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(one, dict) and one.keys() >= _STAMP for one in value.values())


def check_environment(
    saver: BaseCheckpointSaver[Any],
    config: RunnableConfig,
    current: Mapping[str, Any],
    *,
    on_change: OnChange = "warn",
    root: str | os.PathLike[str] | None = None,
) -> EnvironmentReport:
    """What differs between what a thread ran with and `current`, the `fingerprint` of what it would go on with.

    `config` names the thread, and maybe a checkpoint, as for `graph.invoke`. With a saver of this package each
    difference is told; with another one, which keeps the hashes alone, which of tools, graph and model differ. Tracked
    files below `root` are compared when it is given.
    `on_change` says what is done about it: "warn" (an EnvironmentChangedWarning and a log record), "raise"
    (EnvironmentChangedError), "ignore", a function that is given the report and may return one of these, or one of
    these for each kind: tools, model, graph, limits, extra, files, pending. What cannot run as it was, a node that is
    next and is gone or a tool call whose tool is gone or another, is `pending`, and raises unless `on_change` has that
    very key. Where a call waits and nobody knows which tool has changed, it is taken for that one.
    """
    now = _now(saver, current, on_change, root)
    report = drive(None, saver, _report(saver, config, now))
    settle(report, on_change)
    return report


async def acheck_environment(
    saver: BaseCheckpointSaver[Any],
    config: RunnableConfig,
    current: Mapping[str, Any],
    *,
    on_change: OnChange = "warn",
    root: str | os.PathLike[str] | None = None,
) -> EnvironmentReport:
    """`check_environment` for a coroutine."""
    now = _now(saver, current, on_change, root)
    report = await adrive(None, saver, _report(saver, config, now))
    settle(report, on_change)
    return report


def _now(saver: Any, current: Any, on_change: OnChange, root: Any) -> Now:
    checked(on_change)
    if not isinstance(saver, BaseCheckpointSaver):
        raise InvalidRequestError(f"check_environment takes a saver, and not {saver!r}; open_saver opens that of a URL")
    if not isinstance(current, Mapping) or not isinstance(current.get(RECORD_HASH), str):
        raise InvalidRequestError(
            "current must be what fingerprint(tools=..., model=..., graph=...) gives for what the thread would go on "
            f"with, and it has no {RECORD_HASH!r}"
        )
    return Now(current, root=None if root is None else os.fspath(root))


def _report(saver: BaseCheckpointSaver[Any], config: RunnableConfig, now: Now) -> Asking[EnvironmentReport]:
    at = address(config)
    if at.ns:
        config = Address(at.thread_id, "", None).newest()  # a subgraph runs with what its thread runs with
    if isinstance(saver, DurableSaver):
        return (yield from comparing(config, now))
    found: CheckpointTuple | None = yield Get(config)
    if found is None:
        return EnvironmentReport(at.thread_id, "", (), known=False)
    before: CheckpointTuple | None = found
    while before is not None and RECORD_HASH not in before.metadata:
        before = (yield Get(before.parent_config)) if before.parent_config else None
    known = None if before is None else Recorded(before.checkpoint["id"], None, None, dict(before.metadata), None)
    return (yield from _reported(found, known, now, pending=True))
