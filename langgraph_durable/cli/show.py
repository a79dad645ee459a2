"""`langgraph-durable show`: one thread, with how it stands, its steps, who it waits for, and its messages."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langgraph.checkpoint.base import WRITES_IDX_MAP, CheckpointTuple

from langgraph_durable import ThreadInfo, open_saver
from langgraph_durable.cli.text import aligned, shortened, shown
from langgraph_durable.errors import InvalidRequestError
from langgraph_durable.history import COLUMNS, ThreadHistory
from langgraph_durable.saver import DurableSaver
from langgraph_durable.threads import told

SUMMARY = "Show one thread: how it stands, its steps, what it asks, and its messages. Times are UTC."
TEXT, ROWS = 100, 20
"""Characters of a text, and rows of steps and messages, that are shown unless all are asked for."""

_CALLS = ("tool_use", "tool_call", "function_call", "server_tool_call")
"""Parts of a message that only repeat its tool calls."""


class Asked(NamedTuple):
    """Something that a node asked and that nobody answered yet."""

    id: str
    value: Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    parser.add_argument("url", metavar="URL", help="where it is stored, such as sqlite:///agent.db")
    parser.add_argument("thread", metavar="THREAD", help="its id, as `langgraph-durable threads` lists it")
    parser.add_argument("--full", action="store_true", help="shorten nothing, and show all steps and messages")
    parser.add_argument("--json", action="store_true", help="a JSON object, for programs; nothing is shortened")


def run(arguments: argparse.Namespace) -> int:
    """Print the thread; 0. InvalidRequestError when it is not there."""
    with open_saver(arguments.url, must_exist=True) as saver:
        info = saver.get_thread(arguments.thread)
        if info is None:
            raise InvalidRequestError(
                f"there is no thread {arguments.thread!r} at {arguments.url!r}: `langgraph-durable threads` lists "
                "those that are there"
            )
        history = saver.history(arguments.thread)
        if arguments.json:
            found = newest(saver, arguments.thread)
            print(json.dumps(_as_dict(info, history, found), indent=2, default=repr))
            return 0
        # What can be told without the state is told first: a state may be damaged.
        for line in (*standing(info, full=arguments.full), *_steps(history, full=arguments.full)):
            print(line)
        found = newest(saver, arguments.thread)
    for line in (*asking(asked(info, found), full=arguments.full), *_messages(found, full=arguments.full)):
        print(line)
    return 0


def newest(saver: DurableSaver, thread_id: str) -> CheckpointTuple | None:
    """The newest checkpoint of a thread, with its state."""
    return saver.get_tuple({"configurable": {"thread_id": thread_id, "checkpoint_ns": ""}})


def standing(info: ThreadInfo, *, full: bool = False, traceback: bool = True) -> Iterator[str]:
    """The lines that say how a thread stands."""
    status = f"{info.status} ({info.reason})" if info.reason else info.status
    facts = {
        "status": status,
        "nodes": ", ".join(info.nodes),
        "owner": info.owner and f"{info.owner}{f', since {told(info.since)}' if info.since else ''}",
        "created": told(info.created),
        "updated": told(info.updated),
        "run": info.run_id,
        "newest": info.checkpoint_id and f"step {info.step}, checkpoint {info.checkpoint_id}",
        "stored": ", ".join(
            f"{count:,} {what}{'' if count == 1 else 's'}"
            for count, what in ((info.checkpoints, "checkpoint"), (info.messages, "message"), (info.bytes, "byte"))
        ),
    }
    yield f"thread {info.thread_id!r}"
    yield from (f"  {name:<8} {shown(fact)}" for name, fact in facts.items() if fact)
    if info.error is not None:
        yield ""
        yield f"error: {shown(info.error.type)}: {shortened(info.error.message, None if full else 5 * TEXT)}"
        yield from (f"  {shown(line)}" for line in info.error.traceback.splitlines() if traceback)


def asked(info: ThreadInfo, found: CheckpointTuple | None) -> list[Asked]:
    """What was asked at a checkpoint and not answered."""
    tasks: dict[str, dict[str, Any]] = {}
    for task_id, channel, value in (found.pending_writes or []) if found is not None else []:
        tasks.setdefault(task_id, {})[channel] = value
    waiting: list[Asked] = []
    for writes in tasks.values():
        finished = any(channel not in WRITES_IDX_MAP for channel in writes)
        # Where a node asks more than once, the answers so far are there as well.
        if "__interrupt__" in writes and not finished and (info.status == "interrupted" or "__resume__" not in writes):
            some = writes["__interrupt__"]
            for one in some if isinstance(some, (list, tuple)) else [some]:
                waiting.append(Asked(str(getattr(one, "id", "")), getattr(one, "value", one)))
    return waiting


def asking(waiting: list[Asked], *, full: bool = False) -> Iterator[str]:
    """The lines that say what is asked."""
    if waiting:
        yield ""
        yield "waits for an answer"
    for one in waiting:
        yield f"  {shown(one.id)}  {shortened(_plainly(one.value), None if full else 3 * TEXT)}"


def _steps(history: ThreadHistory, *, full: bool) -> Iterator[str]:
    rows = history.rows()
    some = rows if full else rows[:ROWS]
    yield ""
    yield "steps, the newest first"
    yield from (f"  {line}" for line in aligned(COLUMNS, some))
    if len(rows) > len(some):
        yield f"  ... {len(rows) - len(some):,} earlier: --full"


def _messages(found: CheckpointTuple | None, *, full: bool) -> Iterator[str]:
    for channel, messages in _lists(found).items():
        some = messages if full else messages[-ROWS:]
        yield ""
        yield shown(channel)
        if len(messages) > len(some):
            yield f"  ... {len(messages) - len(some):,} earlier: --full"
        for one in some:
            text = _text_of(one)
            lines = text.splitlines() if full else [shortened(text, TEXT)]
            if isinstance(one, AIMessage) and one.tool_calls:
                lines.append("calls " + ", ".join(_called(call, full=full) for call in one.tool_calls))
            who = _role(one)
            for line in [line for line in lines if line] or [""]:
                yield f"  {who:<8} {shown(line)}".rstrip()
                who = ""


def _lists(found: CheckpointTuple | None) -> dict[str, list[BaseMessage]]:
    """The channels of the newest state that hold messages."""
    values = found.checkpoint["channel_values"] if found is not None else {}
    return {
        name: [one for one in value if isinstance(one, BaseMessage)]
        for name, value in values.items()
        if isinstance(value, list) and value and isinstance(value[-1], BaseMessage)
    }


def _role(message: BaseMessage) -> str:
    """Who said it; of a tool its name as well."""
    return shown(
        f"{message.type} {message.name}" if isinstance(message, ToolMessage) and message.name else message.type
    )


def _text_of(message: BaseMessage) -> str:
    """What a message says; of what is not text only what it is."""
    parts = [message.content] if isinstance(message.content, str) else message.content
    said = []
    for part in parts:
        if isinstance(part, str):
            said.append(part)
        elif part.get("type") == "text":
            said.append(str(part.get("text", "")))
        elif part.get("type") not in _CALLS:
            said.append(f"[{part.get('type', '?')}]")
    return " ".join(said)


def _called(call: Mapping[str, Any], *, full: bool) -> str:
    return f"{call['name']}({_plainly(call['args'])})" if full else str(call["name"])


def _plainly(value: Any) -> str:
    """A value as JSON, and what is none as Python shows it."""
    try:
        return json.dumps(value, ensure_ascii=False, default=repr)
    except (TypeError, ValueError):
        return repr(value)


def _as_dict(info: ThreadInfo, history: ThreadHistory, found: CheckpointTuple | None) -> dict[str, Any]:
    return {
        "thread": info.as_dict(),
        "steps": [step.as_dict() for step in history],
        "interrupts": [{"id": one.id, "value": _jsonable(one.value)} for one in asked(info, found)],
        "messages": {
            channel: [
                {
                    "role": one.type,
                    "name": one.name,
                    "text": _text_of(one),
                    "tool_calls": [dict(call) for call in one.tool_calls] if isinstance(one, AIMessage) else [],
                }
                for one in messages
            ]
            for channel, messages in _lists(found).items()
        },
    }


def _jsonable(value: Any) -> Any:
    """The value, or its `repr` where it has no form in JSON (a key that is no text, a circle)."""
    try:
        json.dumps(value, default=repr, allow_nan=False)
    except (TypeError, ValueError):
        return repr(value)
    return value
