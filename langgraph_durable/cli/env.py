"""`langgraph-durable env`: what a thread ran with, what of it changed on the way, what differs from the code now."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from itertools import pairwise
from typing import Any

from langgraph_durable import EnvironmentReport, open_saver
from langgraph_durable.cli.graphs import graph_of
from langgraph_durable.cli.text import aligned, shortened, shown
from langgraph_durable.core.environments import GRAPH, MODEL, RECORD_HASH, TOOLS
from langgraph_durable.core.recordings import Recorded
from langgraph_durable.environment.report import differences
from langgraph_durable.errors import InvalidRequestError
from langgraph_durable.threads import told

SUMMARY = "Show what a thread ran with: tools, model, graph; with --against, what differs from the code as it is now."
TEXT = 100


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    parser.add_argument("url", metavar="URL", help="where it is stored, such as sqlite:///agent.db")
    parser.add_argument("thread", metavar="THREAD", help="its id, as `langgraph-durable threads` lists it")
    parser.add_argument(
        "--against",
        metavar="MODULE:ATTRIBUTE",
        help="a compiled graph, or a function that makes one given a checkpointer, to compare with: 1 is the exit "
        "status when something differs, or nothing was recorded",
    )
    parser.add_argument("--full", action="store_true", help="shorten nothing")
    parser.add_argument("--json", action="store_true", help="a JSON object, for programs; nothing is shortened")


def run(arguments: argparse.Namespace) -> int:
    """Print what the thread ran with; 1 when that is not what it is compared with."""
    report: EnvironmentReport | None = None
    with open_saver(arguments.url, must_exist=True) as saver:
        if saver.get_thread(arguments.thread) is None:
            raise InvalidRequestError(
                f"there is no thread {arguments.thread!r} at {arguments.url!r}: `langgraph-durable threads` lists "
                "those that are there"
            )
        found = saver.environments(arguments.thread)
        if arguments.against:
            report = graph_of(arguments.against, saver, "--against").environment(arguments.thread)
    if arguments.json:
        print(json.dumps(_as_dict(arguments.thread, found, report), indent=2, default=repr))
    else:
        for line in _lines(arguments.thread, found, report, full=arguments.full):
            print(line)
    if report is None:
        return 0
    return 0 if report.known and all(change.change == "renamed" for change in report.changes) else 1


def _as_dict(thread_id: str, found: Sequence[Recorded], report: EnvironmentReport | None) -> dict[str, Any]:
    return {
        "thread_id": thread_id,
        "history": [
            {
                "checkpoint_id": one.checkpoint_id,
                "step": one.step,
                "time": one.time,
                "fingerprint": _hashes(one),
                "record": one.record,
            }
            for one in found
        ],
        "against": None if report is None else report.as_dict(),
    }


def _hashes(one: Recorded) -> dict[str, Any]:
    return {key: one.metadata[key] for key in (RECORD_HASH, TOOLS, GRAPH, MODEL) if key in one.metadata}


def _lines(thread_id: str, found: Sequence[Recorded], report: EnvironmentReport | None, *, full: bool) -> Iterator[str]:
    if not found:
        yield f"thread {shown(thread_id)} recorded nothing of what it ran with"
    else:
        yield from aligned(
            ("since", "step", "env", "tools", "graph", "model"),
            [
                (
                    told(one.time and datetime.fromtimestamp(one.time, timezone.utc)),
                    "" if one.step is None else str(one.step),
                    *(str(one.metadata.get(key, "")) for key in (RECORD_HASH, TOOLS, GRAPH, MODEL)),
                )
                for one in found
            ],
        )
        for before, after in pairwise(found):
            if before.record is not None and after.record is not None:
                yield ""
                yield f"changed at step {after.step}:"
                yield from (f"  {shown(str(change))}" for change in differences(before.record, after.record))
        yield from _about(found[-1].record, full=full)
    if report is not None:
        yield ""
        yield from (shown(line) for line in str(report).splitlines())


def _about(record: Mapping[str, Any] | None, *, full: bool) -> Iterator[str]:
    if record is None:
        return
    most = None if full else TEXT
    model, graph = record["model"], record["graph"]
    if model is not None:
        yield ""
        yield f"model       {shown(':'.join(part for part in (model['provider'], model['name']) if part))}"
        for name, value in model["parameters"].items():
            yield f"  {shown(name)}: {shortened(json.dumps(value), most)}"
    for name, tool in (record["tools"] or {}).items():
        yield ""
        yield f"tool        {shown(name)}  {tool['hash'][:16]}"
        if tool.get("description"):
            yield f"  {shortened(tool['description'], most)}"
        for argument, schema in ((tool.get("parameters") or {}).get("properties") or {}).items():
            yield f"  {shown(argument)}: {shortened(json.dumps(schema, ensure_ascii=False), most)}"
    if graph is not None:
        yield ""
        yield f"nodes       {shown(', '.join(graph['nodes']))}"
        for name, channel in graph["channels"].items():
            yield f"channel     {shown(name)}: {shortened(channel, most)}"
    for kind in ("limits", "extra", "libraries"):
        values = record.get(kind) or {}
        if values:
            yield ""
            yield f"{kind:<11} {shown(', '.join(f'{name} {value}' for name, value in values.items()))}"
