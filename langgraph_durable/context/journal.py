"""What a thread keeps beside its checkpoints: entries that are stored one by one, each at once, by any checkpointer.

They are pending writes of one checkpoint in a namespace of their own. So a superstep that fails does not take them
away, a branch does not hide them, and pruning to the latest checkpoint keeps them; deleting the thread deletes them. A
fork into another thread leaves them where they are: what was paid for there is not paid for here.
"""

from __future__ import annotations

import uuid
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NamedTuple, cast
from weakref import WeakKeyDictionary

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver, Checkpoint, CheckpointMetadata, CheckpointTuple

from langgraph_durable.channels import config_here
from langgraph_durable.errors import InvalidRequestError, RunCancelledError

FIXED = "00000000-0000-6000-8000-000000000000"
"""The id of the checkpoint that the entries belong to: there is one in a namespace, whoever makes it."""

CHANNEL = "entry"

_begun: WeakKeyDictionary[BaseCheckpointSaver[Any], OrderedDict[tuple[str, str, str], None]] = WeakKeyDictionary()
"""The journals whose checkpoint this process has stored, by thread, namespace and the checkpoint that a run is at.

It is stored again in every superstep, which keeps the entries: a thread that was deleted meanwhile has it as well, and
to look for it would mean reading the entries.
"""

_KNOWN = 1024


class Journal(NamedTuple):
    """The entries of one kind of a thread; `root` is the id of the checkpoint that the running superstep began from."""

    saver: BaseCheckpointSaver[Any]
    thread_id: str
    namespace: str
    root: str = ""

    def entries(self) -> dict[str, Any]:
        """Every entry, by its key."""
        return self._found(self.saver.get_tuple(self._config(FIXED)))

    async def aentries(self) -> dict[str, Any]:
        """`entries` for a coroutine."""
        return self._found(await self.saver.aget_tuple(self._config(FIXED)))

    def add(self, key: str, value: Any) -> None:
        """Store an entry; it is there when this returns, as safe as anything of that checkpointer. A key stays as it
        is.
        """
        if not self._has_begun():
            # A run that is asked to end hears of it with the first checkpoint that it stores, and this is stored.
            with suppress(RunCancelledError):
                self.saver.put(*self._first())
            self._begin()
        self.saver.put_writes(self._config(FIXED), [(CHANNEL, (key, value))], _task(key))

    async def aadd(self, key: str, value: Any) -> None:
        """`add` for a coroutine."""
        if not self._has_begun():
            with suppress(RunCancelledError):
                await self.saver.aput(*self._first())
            self._begin()
        await self.saver.aput_writes(self._config(FIXED), [(CHANNEL, (key, value))], _task(key))

    def _found(self, found: CheckpointTuple | None) -> dict[str, Any]:
        if found is None:
            return {}
        return dict(value for _, channel, value in found.pending_writes or () if channel == CHANNEL)

    def _config(self, checkpoint_id: str | None = None) -> RunnableConfig:
        where = {"thread_id": self.thread_id, "checkpoint_ns": self.namespace}
        return {"configurable": where if checkpoint_id is None else {**where, "checkpoint_id": checkpoint_id}}

    def _first(self) -> tuple[RunnableConfig, Checkpoint, CheckpointMetadata, dict[str, Any]]:
        made = Checkpoint(
            v=4,
            id=FIXED,
            ts="1970-01-01T00:00:00+00:00",
            channel_values={},
            channel_versions={},
            versions_seen={},
            updated_channels=None,
        )
        metadata = {"source": "update", "step": -1, "parents": {"": self.root} if self.root else {}}
        return self._config(), made, cast(CheckpointMetadata, metadata), {}

    def _has_begun(self) -> bool:
        return bool(self.root) and self._key() in _begun.get(self.saver, ())

    def _begin(self) -> None:
        known = _begun.setdefault(self.saver, OrderedDict())
        known[self._key()] = None
        while len(known) > _KNOWN:
            known.popitem(last=False)

    def _key(self) -> tuple[str, str, str]:
        return self.thread_id, self.namespace, self.root


def journal_here(namespace: str, config: RunnableConfig | None = None) -> Journal | None:
    """The journal of the thread that the running task belongs to; None outside of one, and where nothing is stored."""
    config = config or config_here()
    if config is None:
        return None
    given: Mapping[str, Any] = config.get("configurable") or {}
    saver, thread_id = given.get("__pregel_checkpointer"), given.get("thread_id")
    if not isinstance(saver, BaseCheckpointSaver) or thread_id is None:
        return None
    root = (given.get("checkpoint_map") or {}).get("") or ""
    return Journal(saver, str(thread_id), namespace, str(root))


def _task(key: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"langgraph-durable:{key}"))


def saver_of(graph_or_saver: Any) -> BaseCheckpointSaver[Any]:
    """The saver, or that of a graph. InvalidRequestError where there is none."""
    found = getattr(graph_or_saver, "checkpointer", graph_or_saver)
    if not isinstance(found, BaseCheckpointSaver):
        raise InvalidRequestError(
            "a checkpointer, or a graph that was compiled with one, is needed, and this is "
            f"{type(graph_or_saver).__name__}"
        )
    return found
