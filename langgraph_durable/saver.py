"""LangGraph's checkpointer protocol: every method in both forms on one class, three lines each.

What a call means is in `core.flows`, how it gets to the database in `engine`. The methods here come in pairs that
drive the same flow, one blocking and one awaiting, so neither can do what the other does not. Any of them may be
called from any thread and inside any event loop; none holds a lock while it yields.
"""

from __future__ import annotations

import asyncio
import os
import random
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Generator, Iterator, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar, cast

import aiosqlite
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
)
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from typing_extensions import Self

from langgraph_durable.core import flows
from langgraph_durable.core.codec import Codec
from langgraph_durable.core.flows import (
    AwaitWrites,
    CommitWrites,
    FindRuns,
    Flow,
    Request,
    Session,
    Settle,
    WritesArrived,
)
from langgraph_durable.core.records import Batch, Query
from langgraph_durable.engine import Engine
from langgraph_durable.errors import DurableError
from langgraph_durable.sources import files_source, sqlite_source

if TYPE_CHECKING:
    from langgraph.checkpoint.base import DeltaChannelHistory

T = TypeVar("T")


class DurableSaver(BaseCheckpointSaver[str]):
    """A checkpointer over an engine; `SqliteSaver` says how to open one.

    What `put` and `put_writes` acknowledged survives kill -9 and power loss; a call that raised stored nothing. What
    is read is the reader's own: changing it changes nothing stored. Errors are those of `langgraph_durable.errors`.
    """

    _engine: Engine
    _native: bool
    _readable = False
    _coding: tuple[SerializerProtocol, Session] | None = None

    # -- LangGraph's protocol ------------------------------------------------------------------------------------

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """The config of the checkpoint, once it is durable.

        `new_versions` is not relied on: a value that changed without a new version is stored as well. A checkpoint
        that ends a superstep waits (0.25 seconds at most) for the writes of that superstep. UnserializableError
        names the channel; ThreadDeletedError says that the thread was deleted under this run.
        """
        return self._run(flows.put(self._session(), config, checkpoint, metadata))

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """`put` for a coroutine. When it is cancelled the checkpoint is stored or not, but never in part."""
        return await self._arun(flows.put(await self._asession(), config, checkpoint, metadata))

    def put_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Return once the writes of a task are durable.

        The first write at a (task, index) stays, except that special channels (`__error__`, `__interrupt__`, ...)
        replace what was there.
        """
        self._run(flows.put_writes(self._session(), config, writes, task_id, task_path))

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """`put_writes` for a coroutine."""
        await self._arun(flows.put_writes(await self._asession(), config, writes, task_id, task_path))

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """The checkpoint that the config names, or the one put last in its namespace; None when there is none.

        CorruptDataError when it is there and cannot be read.
        """
        return self._run(flows.get_tuple(self._session(), config))

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """`get_tuple` for a coroutine."""
        return await self._arun(flows.get_tuple(await self._asession(), config))

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        """Checkpoints, the one put last first; of every namespace, or thread, that the config does not name.

        `filter` compares keys of the metadata (`a.b` also means the way into nested metadata); `before` leaves out a
        checkpoint and what was put after it. Pages are read as they are asked for, nothing is held between them.
        """
        query = flows.listing(config, filter, before, limit)
        while query is not None:
            page = self._run(flows.list_page(self._session(), query))
            yield from page.tuples()
            query = page.following

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """`list` for a coroutine."""
        query = flows.listing(config, filter, before, limit)
        while query is not None:
            page = await self._arun(flows.list_page(await self._asession(), query))
            for found in page.tuples(ahead=1):  # the event loop has its turn after each
                yield found
            query = page.following

    def delete_thread(self, thread_id: str) -> None:
        """Take away everything of a thread; a write that comes late is refused, it does not bring the thread back."""
        self._run(flows.delete_thread(self._session(), thread_id))

    async def adelete_thread(self, thread_id: str) -> None:
        """`delete_thread` for a coroutine."""
        await self._arun(flows.delete_thread(await self._asession(), thread_id))

    def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Take away the checkpoints whose metadata names one of the runs, with their writes."""
        self._run(flows.delete_for_runs(self._session(), run_ids))

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        """`delete_for_runs` for a coroutine."""
        await self._arun(flows.delete_for_runs(await self._asession(), run_ids))

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Copy checkpoints and writes, in order and undecoded, to a thread that has none (else InvalidRequestError)."""
        self._run(flows.copy_thread(self._session(), source_thread_id, target_thread_id))

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """`copy_thread` for a coroutine."""
        await self._arun(flows.copy_thread(await self._asession(), source_thread_id, target_thread_id))

    def prune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Keep the newest checkpoint of each namespace, or none (`strategy="delete"`).

        With the newest stay those of its ancestors that a `DeltaChannel` of it is rebuilt from.
        """
        self._run(flows.prune(self._session(), thread_ids, strategy))

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """`prune` for a coroutine."""
        await self._arun(flows.prune(await self._asession(), thread_ids, strategy))

    def get_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """For each channel the writes of the ancestors, oldest first, since the value in `seed` (if there is one)."""
        found = self._run(flows.delta_history(self._session(), config, channels))
        return cast("Mapping[str, DeltaChannelHistory]", found)

    async def aget_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """`get_delta_channel_history` for a coroutine."""
        found = await self._arun(flows.delta_history(await self._asession(), config, channels))
        return cast("Mapping[str, DeltaChannelHistory]", found)

    def get_next_version(self, current: str | None, channel: None) -> str:
        """A version greater than `current`, in the form of langgraph-checkpoint-sqlite: a counter and a random part."""
        counter = 0 if current is None else int(str(current).split(".")[0])
        return f"{counter + 1:032}.{random.random():016}"  # noqa: S311  it keeps branches apart, nothing secret

    # -- opening and closing -------------------------------------------------------------------------------------

    def setup(self) -> Awaitable[None]:
        """Nothing that needs to be called: the tables are there. It may be called, and awaited."""
        return _Setup(self._engine)

    def close(self) -> None:
        """Store what is waiting and close what this saver opened; a connection that was given stays open."""
        self._engine.close()

    async def aclose(self) -> None:
        """`close` for a coroutine."""
        await asyncio.get_running_loop().run_in_executor(None, self._engine.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    # -- the two ways to drive a flow ----------------------------------------------------------------------------

    def _session(self) -> Session:
        # LangGraph makes shallow copies of a saver and gives them another serializer (`with_allowlist`).
        coding = self._coding
        if coding is None or coding[0] is not self.serde:
            key = self._engine.digest_key(self.serde) if isinstance(self.serde, EncryptedSerializer) else b""
            codec = Codec(self.serde, native=self._native, key=key, readable=self._readable)
            coding = self._coding = (self.serde, Session(codec, self._engine.memory))
        return coding[1]

    async def _asession(self) -> Session:
        await self._engine.aready()
        return self._session()

    def _run(self, flow: Flow[T]) -> T:
        try:
            request = next(flow)
            while True:
                try:
                    answer = self._perform(request)
                except BaseException as error:  # noqa: BLE001  the flow decides: it raises it again, or goes on
                    request = flow.throw(error)
                else:
                    request = flow.send(answer)
        except StopIteration as end:
            return cast(T, end.value)

    async def _arun(self, flow: Flow[T]) -> T:
        try:
            request = next(flow)
            while True:
                try:
                    answer = await self._aperform(request)
                except BaseException as error:  # noqa: BLE001  the flow decides: it raises it again, or goes on
                    request = flow.throw(error)
                else:
                    request = flow.send(answer)
        except StopIteration as end:
            return cast(T, end.value)

    def _perform(self, request: Request) -> Any:
        engine = self._engine
        if isinstance(request, Batch):
            return _accepted(engine.lane.commit(request))
        if isinstance(request, CommitWrites):
            queued = partial(engine.arrivals.arrived, *request.arrived)
            return _accepted(engine.lane.commit(request.batch, patient=True, queued=queued))
        if isinstance(request, WritesArrived):
            return engine.arrivals.arrived(request.where, request.task_paths)
        if isinstance(request, AwaitWrites):
            return engine.arrivals.wait(request.where, request.ran)
        return self._read(request)

    async def _aperform(self, request: Request) -> Any:
        engine = self._engine
        if isinstance(request, Batch):
            return _accepted(await engine.lane.acommit(request))
        if isinstance(request, CommitWrites):
            queued = partial(engine.arrivals.arrived, *request.arrived)
            return _accepted(await engine.lane.acommit(request.batch, patient=True, queued=queued))
        if isinstance(request, WritesArrived):
            return engine.arrivals.arrived(request.where, request.task_paths)
        if isinstance(request, AwaitWrites):
            return await engine.arrivals.await_(request.where, request.ran)
        return await asyncio.get_running_loop().run_in_executor(None, self._read, request)

    def _read(self, request: Query | FindRuns | Settle) -> Any:
        store = self._engine.store
        if isinstance(request, Query):
            return store.read(request)
        if isinstance(request, FindRuns):
            return store.runs(request.run_ids)
        return store.settle()


class SqliteSaver(DurableSaver):
    """A checkpointer over an SQLite database, for sync and async code alike.

    `database` is a path, `":memory:"`, an `sqlite3` or an `aiosqlite` connection. Of a connection to a file only the
    path is used, and connections of this saver's own are opened; an `sqlite3` connection to memory is used itself.
    A file that does not exist is made, readable by its owner only; one of langgraph-checkpoint-sqlite is continued.
    `busy_timeout` is how many seconds to wait for another process that writes. With a `serde` of one's own every
    value passes through it.

    Raises OpenError, or one of its kinds, when that is not a database that can be used.
    """

    def __init__(
        self,
        database: str | os.PathLike[str] | sqlite3.Connection | aiosqlite.Connection,
        *,
        serde: SerializerProtocol | None = None,
        busy_timeout: float = 30.0,
    ) -> None:
        super().__init__(serde=serde)
        self._native = serde is None
        self._engine = Engine(sqlite_source(database, busy_timeout))

    @classmethod
    def from_conn_string(
        cls, conn_string: str, *, serde: SerializerProtocol | None = None, busy_timeout: float = 30.0
    ) -> Self:
        """A saver over the database at a path, to be used as `with ... as saver` or `async with ... as saver`."""
        return cls(conn_string, serde=serde, busy_timeout=busy_timeout)


AsyncSqliteSaver = SqliteSaver


class FileSaver(DurableSaver):
    """A checkpointer over a folder of plain files that a person can read, for sync and async code alike.

    `path` is the folder; one that does not exist is made, readable by its owner only, with a README.md that says what
    is in it. It keeps itself out of git unless it is made `shareable`. `busy_timeout` is how many seconds to wait for
    somebody else who writes to the same thread. With a `serde` of one's own every value passes through it.

    Raises OpenError, or one of its kinds, when that is not a folder that can be used.
    """

    _readable = True

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        serde: SerializerProtocol | None = None,
        busy_timeout: float = 30.0,
        shareable: bool = False,
    ) -> None:
        super().__init__(serde=serde)
        self._native = serde is None
        self._engine = Engine(files_source(path, busy_timeout, shareable=shareable))

    @classmethod
    def from_conn_string(
        cls,
        conn_string: str,
        *,
        serde: SerializerProtocol | None = None,
        busy_timeout: float = 30.0,
        shareable: bool = False,
    ) -> Self:
        """A saver over the folder at a path, to be used as `with ... as saver` or `async with ... as saver`."""
        return cls(conn_string, serde=serde, busy_timeout=busy_timeout, shareable=shareable)


class _Setup:
    """What `setup()` answers: done already, and for who awaits it as well."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def __await__(self) -> Generator[Any, None, None]:
        return self._engine.aready().__await__()


def _accepted(outcome: Any) -> Any:
    if isinstance(outcome, DurableError):
        raise outcome
    return outcome
