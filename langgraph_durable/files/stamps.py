"""What a thread knows of a file is a stamp of plain data, and a channel of its state holds one for each path.

Stamps that are recorded while a superstep runs are held back by the channel until the superstep is complete. To write
them at once, among the writes of the task, is no way: a task that fails after that has written something, which
LangGraph takes for done, and does not run again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Protocol, TypeAlias

from langgraph.channels import BinaryOperatorAggregate
from typing_extensions import TypedDict


class Stamp(TypedDict):
    """A file at the moment when a thread saw it: `path` is relative to the root, with `/` on every system.

    `size` (bytes), `mtime_ns` and `digest` (SHA-256 of the content, in hex) are None where no file was. `digest` alone
    decides whether a file has changed. `previous` is the digest of what was there before the thread last wrote to the
    file. `seen` counts the stamps of the path in this thread: where branches of a thread meet, the higher one is newer.
    """

    path: str
    size: int | None
    mtime_ns: int | None
    digest: str | None
    previous: str | None
    seen: int


def merged(known: Mapping[str, Stamp], new: Mapping[str, Stamp | None]) -> dict[str, Stamp]:
    """Both together: a later stamp of a path replaces an earlier one, and None takes the path away."""
    both = dict(known)
    for path, stamp in new.items():
        if stamp is None:
            both.pop(path, None)
        elif path not in both or stamp.get("seen", 0) >= both[path].get("seen", 0):
            both[path] = stamp
    return both


class FilesChannel(BinaryOperatorAggregate[dict[str, Stamp]]):
    """The channel of `TrackedFiles`: it adds, at the end of a superstep, what the tasks of that have recorded."""

    __slots__ = ("_recorded", "_turn")

    def __init__(self, typ: Any, operator: Callable[[Any, Any], Any] = merged) -> None:
        super().__init__(typ, operator)
        self._recorded: dict[str, dict[str, Stamp]] = {}
        self._turn = threading.Lock()

    def known(self, task: str, path: str) -> Stamp | None:
        """The stamp of a path: what this task recorded, or what the state had when the superstep began."""
        with self._turn:
            return self._recorded.get(task, {}).get(path) or self.value.get(path)

    def record(self, task: str, stamp: Stamp) -> None:
        """Hold a stamp: this task knows it from now on, all others from the next superstep on."""
        with self._turn:
            self._recorded.setdefault(task, {})[stamp["path"]] = stamp

    def update(self, values: Sequence[Any]) -> bool:
        """Add what was written and what was recorded. LangGraph calls this on every channel after each superstep."""
        with self._turn:
            recorded, self._recorded = self._recorded, {}
        changed = super().update(values)
        # In the order of tasks, not in that of time: a superstep has the same result whenever it runs.
        for task in sorted(recorded):
            self.value = merged(self.value, recorded[task])
        return changed or bool(recorded)


TrackedFiles: TypeAlias = Annotated[dict[str, Stamp], FilesChannel]
"""The type of the field of a state that holds the stamps: `class State(MessagesState): files: TrackedFiles`.

One field a state, and one root a field: stamps of the same relative path in two roots would replace each other.
"""


class Compiled(Protocol):
    """What is needed of a compiled graph, such as a `CompiledStateGraph`: its channels."""

    @property
    def channels(self) -> Any: ...


def file_channels(graph: Compiled) -> list[str]:
    """The names of the channels of a compiled graph that hold stamps of files, sorted."""
    return channels_in(graph.channels)


def channels_in(channels: Mapping[str, Any]) -> list[str]:
    """The names of the channels of stamps among these."""
    return sorted(name for name, channel in channels.items() if isinstance(channel, FilesChannel))


def told(size: int | None, digest: str | None) -> str:
    """A file in a few words, for a message."""
    return "no file" if digest is None else f"{size} bytes, sha256 {digest[:12]}"
