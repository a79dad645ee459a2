"""What is said about a database is read back or measured: nothing here is estimated, or taken from who wrote it."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from langchain_core.messages import AnyMessage
from langgraph.checkpoint.base import CheckpointTuple

from langgraph_durable import SqliteSaver, copy

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


def size_in_official(database: Path, folder: Path) -> int | None:
    """The bytes on disk of langgraph-checkpoint-sqlite with all that is in `database`; None if it is not installed.

    Its database is written into `folder`.
    """
    if find_spec("langgraph.checkpoint.sqlite") is None:
        return None
    from langgraph.checkpoint.sqlite import SqliteSaver as OfficialSaver

    official = folder / "official.db"
    with (
        SqliteSaver.from_conn_string(str(database)) as saver,
        OfficialSaver.from_conn_string(str(official)) as theirs,
    ):
        copy(saver, theirs)
    return _size(official)


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


def _size(database: Path) -> int:
    files = (database, Path(f"{database}-wal"), Path(f"{database}-shm"))
    return sum(os.path.getsize(file) for file in files if file.exists())
