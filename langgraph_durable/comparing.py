"""What a thread ran with is compared with what it would go on with, before anything of it runs.

Decided once for both forms, like `resuming`, and for savers of other packages as well, which keep no more than the
hashes in the metadata.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple, cast

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver, CheckpointTuple

from langgraph_durable.asking import Asking, Do, Get, Look, Setting
from langgraph_durable.core.driving import adriven, driven
from langgraph_durable.core.environments import RECORD_HASH, record_in
from langgraph_durable.core.marks import due
from langgraph_durable.core.plan import Address, address
from langgraph_durable.core.recordings import Recorded, recorded
from langgraph_durable.environment.changes import How, Kind
from langgraph_durable.environment.fingerprints import GRAPH, MODEL, TOOLS
from langgraph_durable.environment.pending import changed_calls, missing_nodes
from langgraph_durable.environment.policy import OnChange, checked, log, settle
from langgraph_durable.environment.report import Change, EnvironmentReport, differences
from langgraph_durable.errors import InvalidRequestError
from langgraph_durable.files import changed_files
from langgraph_durable.renaming import renaming
from langgraph_durable.saver import DurableSaver

_HASHES: tuple[tuple[str, Kind, str], ...] = (
    (TOOLS, "tools", "tool"),
    (GRAPH, "graph", "node"),
    (MODEL, "model", "model"),
)


class Now(NamedTuple):
    """What a thread would go on with: a fingerprint, and the graph's nodes (None: unknown), with their old names.

    `channels` are those of tracked files, relative to `root`.
    """

    fingerprint: Mapping[str, Any]
    nodes: Collection[str] | None = None
    renames: Mapping[str, str] = {}
    channels: Sequence[str] = ()
    root: str = "."


def comparing(
    config: RunnableConfig, now: Now, *, pending: bool = True, waiting: Sequence[str] | None = None
) -> Asking[EnvironmentReport]:
    """What differs for a thread, or one checkpoint of it. `pending` is whether what is next there will run.

    That is `waiting`, where it is known. A state is read when something differs, and for tracked files.
    """
    at = address(config)
    last: Recorded | None = yield Do(recorded, (at.thread_id, at.checkpoint_id, now.fingerprint.get(RECORD_HASH)))
    changed = last is not None and last.metadata.get(RECORD_HASH) != now.fingerprint.get(RECORD_HASH)
    there = waiting is not None and now.nodes is not None and not missing_nodes(waiting, now.nodes, now.renames)
    if not changed and not now.channels and (there or not pending):
        return EnvironmentReport(at.thread_id, at.checkpoint_id or "", (), known=last is not None)
    found: CheckpointTuple | None = yield Get(config)
    if found is None:
        return EnvironmentReport(at.thread_id, "", (), known=False)
    metadata = {} if last is None else last.metadata
    files = yield from _files(found, now)
    changes = told(found, metadata, last and last.record, now, pending=pending)
    return EnvironmentReport(at.thread_id, found.checkpoint["id"], (*changes, *files), known=last is not None)


class Going(NamedTuple):
    """How a run goes on: from where, and the new ids of interrupts by their old ones, where nodes have new names."""

    config: RunnableConfig
    ids: Mapping[str, str] = {}


def compared(setting: Setting, config: RunnableConfig | None, *, pending: bool = True) -> Asking[Going]:
    """How a run may go on; EnvironmentChangedError when it may not. `pending` is whether what is next will run."""
    given = config or {}
    if setting.taken.seen is None or not setting.fingerprint:
        return Going(given)
    settings = setting.settings
    checkpoint_id = (given.get("configurable") or {}).get("checkpoint_id") or None
    here = Address(setting.thread_id, "", None).config(checkpoint_id or setting.taken.checkpoint_id)
    waiting = None if checkpoint_id else setting.taken.nodes
    now = Now(setting.fingerprint, settings.nodes, settings.renames, settings.channels, settings.root)
    settle((yield from comparing(here, now, pending=pending, waiting=waiting)), settings.on_change)
    if not pending or not settings.renames:
        return Going(given)
    moved = yield from renaming(setting.thread_id, checkpoint_id, settings.renames, settings.joins)
    if moved is None:
        return Going(given)
    new_id, ids = moved
    log.info("thread %r goes on at checkpoint %s, with the new names of nodes", setting.thread_id, new_id)
    if checkpoint_id is None:
        return Going(given, ids)
    where = {**(given.get("configurable") or {}), "checkpoint_id": new_id}
    return Going(cast(RunnableConfig, {**given, "configurable": where}), ids)


def told(
    found: CheckpointTuple, metadata: Mapping[str, Any], record: Mapping[str, Any] | None, now: Now, *, pending: bool
) -> tuple[Change, ...]:
    """What differs at a checkpoint from what was recorded for it, but for files."""
    current = record_in({"metadata": dict(now.fingerprint)})
    old = record
    new = None if current is None else json.loads(current)
    if old is not None and new is not None:
        changes = differences(old, new, now.renames)
    else:
        changes = tuple(
            Change(kind, subject, "", "changed", "", metadata[key], now.fingerprint[key])
            for key, kind, subject in _HASHES
            if key in metadata and key in now.fingerprint and metadata[key] != now.fingerprint[key]
        )
    if not pending:
        return changes
    nodes = now.nodes
    if nodes is None and new is not None and new["graph"] is not None:
        nodes = new["graph"]["nodes"]
    waiting: tuple[Change, ...] = ()
    if nodes is not None:
        waiting = missing_nodes([one for one in due(found.checkpoint) if one != "__start__"], nodes, now.renames)
    if old is not None and new is not None:
        waiting += changed_calls(found, old["tools"], new["tools"])
    return (*changes, *waiting)


def _files(found: CheckpointTuple, now: Now) -> Asking[tuple[Change, ...]]:
    """What differs of the files that a state says were looked at."""
    changes: list[Change] = []
    words: dict[str, How] = {"changed": "changed", "refused": "changed", "deleted": "removed", "new": "added"}
    for channel in now.channels:
        stamps = found.checkpoint["channel_values"].get(channel) or {}
        for one in (yield Look(changed_files, (stamps, now.root))):
            now_there = one.current or one.reason or None
            changes.append(Change("files", "file", one.path, words[one.change], "", one.known, now_there))
    return tuple(changes)


def check_environment(
    saver: BaseCheckpointSaver[Any],
    config: RunnableConfig,
    current: Mapping[str, Any],
    *,
    on_change: OnChange = "warn",
) -> EnvironmentReport:
    """What differs between what a thread ran with and `current`, the `fingerprint` of what it would go on with.

    `config` names the thread, and maybe a checkpoint, as for `graph.invoke`. With a saver of this package each
    difference is told; with another one, which keeps the hashes alone, which of tools, graph and model differ.
    `on_change` says what is done about it: "warn" (an EnvironmentChangedWarning and a log record), "raise"
    (EnvironmentChangedError), "ignore", a function that is given the report and may return one of these, or one of
    these for each kind: tools, model, graph, limits, extra, files, pending. What cannot run as it was, a node that is
    next and is gone or a tool call whose tool is gone or another, is `pending`, and raises unless `on_change` has that
    very key.
    """
    now = _now(saver, current, on_change)
    report = driven(_report(saver, config, now), lambda asked: _answer(saver, asked))
    settle(report, on_change)
    return report


async def acheck_environment(
    saver: BaseCheckpointSaver[Any],
    config: RunnableConfig,
    current: Mapping[str, Any],
    *,
    on_change: OnChange = "warn",
) -> EnvironmentReport:
    """`check_environment` for a coroutine."""
    now = _now(saver, current, on_change)
    report = await adriven(_report(saver, config, now), lambda asked: _aanswer(saver, asked))
    settle(report, on_change)
    return report


def _now(saver: Any, current: Any, on_change: OnChange) -> Now:
    checked(on_change)
    if not isinstance(saver, BaseCheckpointSaver):
        raise InvalidRequestError(f"check_environment takes a saver, and not {saver!r}; open_saver opens that of a URL")
    if not isinstance(current, Mapping) or not isinstance(current.get(RECORD_HASH), str):
        raise InvalidRequestError(
            "current must be what fingerprint(tools=..., model=..., graph=...) gives for what the thread would go on "
            f"with, and it has no {RECORD_HASH!r}"
        )
    return Now(current)


def _report(saver: BaseCheckpointSaver[Any], config: RunnableConfig, now: Now) -> Asking[EnvironmentReport]:
    at = address(config)
    if isinstance(saver, DurableSaver):
        return (yield from comparing(config, now))
    found: CheckpointTuple | None = yield Get(config)
    if found is None:
        return EnvironmentReport(at.thread_id, "", (), known=False)
    before: CheckpointTuple | None = found
    while before is not None and RECORD_HASH not in before.metadata:
        before = (yield Get(before.parent_config)) if before.parent_config else None
    metadata = {} if before is None else dict(before.metadata)
    return EnvironmentReport(
        at.thread_id,
        found.checkpoint["id"],
        told(found, metadata, None, now, pending=True),
        known=before is not None,
    )


def _answer(saver: BaseCheckpointSaver[Any], asked: Any) -> Any:
    if isinstance(asked, Get):
        return saver.get_tuple(asked.config)
    assert isinstance(saver, DurableSaver)
    return saver._do(asked.flow, *asked.args)


async def _aanswer(saver: BaseCheckpointSaver[Any], asked: Any) -> Any:
    if isinstance(asked, Get):
        return await saver.aget_tuple(asked.config)
    assert isinstance(saver, DurableSaver)
    return await saver._ado(asked.flow, *asked.args)
