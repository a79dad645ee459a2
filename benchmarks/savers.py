"""A saver under measurement is always opened here, by its role, so that every workload treats all of them alike."""

from __future__ import annotations

import contextlib
import importlib
import sqlite3
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    copy_checkpoint,
)
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import StateGraph

from langgraph_durable import durable

Role = Literal["floor", "memory", "official", "ours", "durable"]

OURS = "langgraph_durable:SqliteSaver"
NAMES: dict[Role, str] = {
    "floor": "floor",
    "memory": "InMemorySaver",
    "official": "SqliteSaver",
    "ours": "langgraph-durable",
    "durable": "its durable(graph)",
}

# Any key will do: it is the cost of the cipher that counts.
_KEY = b"0123456789abcdef"


class FloorSaver(BaseCheckpointSaver[int]):
    """Holds a reference to each thread's newest checkpoint and nothing else: the time that is left is LangGraph's."""

    def __init__(self) -> None:
        super().__init__()
        self._newest: dict[tuple[str, str], CheckpointTuple] = {}

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """The newest checkpoint; older ones are gone, whatever `config` asks for."""
        newest = self._newest.get(_place(config))
        # LangGraph writes into the checkpoint it is given.
        return None if newest is None else newest._replace(checkpoint=copy_checkpoint(newest.checkpoint))

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Keep `checkpoint` in the place of the one before."""
        thread_id, checkpoint_ns = _place(config)
        stored: RunnableConfig = {
            "configurable": {
                "thread_id": thread_id,
                "checkpoint_ns": checkpoint_ns,
                "checkpoint_id": checkpoint["id"],
            }
        }
        self._newest[thread_id, checkpoint_ns] = CheckpointTuple(stored, copy_checkpoint(checkpoint), metadata, config)
        return stored

    def put_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Nothing: a run that is not interrupted never asks for its pending writes."""

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """See `get_tuple`."""
        return self.get_tuple(config)

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """See `put`."""
        return self.put(config, checkpoint, metadata, new_versions)

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """See `put_writes`."""


class Subject:
    """One saver to be measured; `ours` (`module:Class`) is the class in the role of the same name, and of "durable".

    `encrypted` gives the savers that write to disk an `EncryptedSerializer`.
    """

    def __init__(self, role: Role, ours: str = OURS, encrypted: bool = False) -> None:
        self.role = role
        self.encrypted = encrypted
        self._kind: Any = SqliteSaver
        self._async_kind: Any = AsyncSqliteSaver
        if role in ("ours", "durable"):
            # Here and not where it is opened: no workload shall count the time of an import.
            module, _, name = ours.partition(":")
            self._kind = self._async_kind = getattr(importlib.import_module(module), name)

    @property
    def on_disk(self) -> bool:
        """Whether what is put can be read back by another saver."""
        return self.role in ("official", "ours", "durable")

    def compiled(self, builder: StateGraph[Any, Any, Any, Any], saver: BaseCheckpointSaver[Any]) -> Any:
        """The graph over an opened saver, as an app would have it."""
        graph = builder.compile(checkpointer=saver)
        return durable(graph) if self.role == "durable" else graph

    @contextlib.contextmanager
    def opened(self, path: Path) -> Iterator[BaseCheckpointSaver[Any]]:
        """The saver over the database at `path`, for synchronous use; closed at the end."""
        if self.role == "floor":
            yield FloorSaver()
        elif self.role == "memory":
            yield InMemorySaver()
        elif self.encrypted and self.role == "ours":
            serde = EncryptedSerializer.from_pycryptodome_aes(key=_KEY)
            with self._kind.from_conn_string(str(path), serde=serde) as saver:
                yield saver
        elif self.encrypted:
            # The official from_conn_string takes no serializer.
            with contextlib.closing(sqlite3.connect(path, check_same_thread=False)) as connection:
                yield self._kind(connection, serde=EncryptedSerializer.from_pycryptodome_aes(key=_KEY))
        else:
            with self._kind.from_conn_string(str(path)) as saver:
                yield saver

    @contextlib.asynccontextmanager
    async def aopened(self, path: Path) -> AsyncIterator[BaseCheckpointSaver[Any]]:
        """The saver over the database at `path`, for use in the running event loop; closed at the end."""
        if self.on_disk:
            async with self._async_kind.from_conn_string(str(path)) as saver:
                yield saver
        else:
            with self.opened(path) as saver:
                yield saver


def _place(config: RunnableConfig) -> tuple[str, str]:
    configurable = config["configurable"]
    return configurable["thread_id"], configurable.get("checkpoint_ns", "")
