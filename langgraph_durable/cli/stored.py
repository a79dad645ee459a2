"""What is said about a database is read back or measured: nothing here is estimated, or taken from who wrote it."""

from __future__ import annotations

import os
from importlib.util import find_spec
from itertools import groupby, zip_longest
from pathlib import Path
from typing import Any, NamedTuple

from langchain_core.messages import AnyMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import WRITES_IDX_MAP, CheckpointTuple

from langgraph_durable import SqliteSaver

OFFICIAL = "langgraph-checkpoint-sqlite"


class Stored(NamedTuple):
    """One thread as its database gives it back; `history` is oldest first."""

    history: list[CheckpointTuple]
    size: int

    @property
    def steps(self) -> list[int]:
        """The number of every step that left a checkpoint, in the order of the checkpoints."""
        found = (entry.metadata for entry in self.history)
        return [metadata["step"] for metadata in found if metadata["source"] == "loop" and metadata["step"] > 0]

    @property
    def messages(self) -> list[AnyMessage]:
        """The conversation as the newest checkpoint has it; empty when there is none."""
        messages: list[AnyMessage] = []
        if self.history:
            messages = self.history[-1].checkpoint["channel_values"].get("messages", [])
        return messages


def read_back(database: Path, thread_id: str) -> Stored:
    """What is stored for the thread, read by a connection of its own, and the bytes that the database takes on disk."""
    with SqliteSaver.from_conn_string(str(database)) as saver:
        history = list(saver.list({"configurable": {"thread_id": thread_id}}))
    return Stored(history[::-1], _size(database))


def size_in_official(history: list[CheckpointTuple], folder: Path) -> int | None:
    """The bytes on disk of langgraph-checkpoint-sqlite after the same calls; None if it is not installed.

    Its database is written into `folder`. The calls are those that led to `history`, in the same order.
    """
    if find_spec("langgraph.checkpoint.sqlite") is None:
        return None
    from langgraph.checkpoint.sqlite import SqliteSaver as OfficialSaver

    database = folder / "official.db"
    with OfficialSaver.from_conn_string(str(database)) as saver:
        for entry, after in zip_longest(history, history[1:]):
            own = entry.config["configurable"]
            # The first checkpoint of all is put under no other.
            root: RunnableConfig = {
                "configurable": {"thread_id": own["thread_id"], "checkpoint_ns": own["checkpoint_ns"]}
            }
            versions = entry.checkpoint["channel_versions"]
            saver.put(entry.parent_config or root, entry.checkpoint, entry.metadata, versions)
            path = _task_path(entry, after)
            for (task_id, _), writes in groupby(entry.pending_writes or [], _call):
                saver.put_writes(entry.config, [(channel, value) for _, channel, value in writes], task_id, path)
    return _size(database)


def report(stored: Stored, official: int | None) -> str:
    """The lines that say what is stored; `official` is what `size_in_official` gave for the same history."""
    text = sum(len(str(message.content).encode()) for message in stored.messages)
    rows = [
        ("steps", f"{len(stored.steps):,}", f"in {len(stored.history):,} checkpoints, the question's included"),
        ("messages", f"{len(stored.messages):,}", f"with {text:,} bytes of text"),
        ("bytes on disk", f"{stored.size:,}", "langgraph-durable"),
    ]
    if official is not None:
        ratio = official / stored.size
        rows.append(("", f"{official:,}", f"{OFFICIAL}, the same run: {ratio:.1f} times as much"))
    table = "\n".join("  {:<14}{:>11}  {}".format(*row) for row in rows)
    if official is None:
        table += f"\n  To compare with what {OFFICIAL} writes for the same run: pip install {OFFICIAL}"
    return table


def _call(write: tuple[str, str, Any]) -> tuple[str, bool]:
    """What the writes of one `put_writes` have in common: LangGraph gives special channels a call of their own."""
    task_id, channel, _ = write
    return task_id, channel in WRITES_IDX_MAP


def _task_path(entry: CheckpointTuple, after: CheckpointTuple | None) -> str:
    """The path that LangGraph gave `put_writes` for the one node that ran after `entry`: stored, but never given back.

    The node that ran between two checkpoints is the one that has seen something new. Left out, it would cost the
    comparison up to a sixth of a small file.
    """
    seen = entry.checkpoint["versions_seen"]
    later = after.checkpoint["versions_seen"] if after is not None else {}
    ran = [node for node, versions in later.items() if versions != seen.get(node)]
    return f"~__pregel_pull, {ran[0]}" if len(ran) == 1 else ""


def _size(database: Path) -> int:
    files = (database, Path(f"{database}-wal"), Path(f"{database}-shm"))
    return sum(os.path.getsize(file) for file in files if file.exists())
