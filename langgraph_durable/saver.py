"""LangGraph's checkpointer protocol: every method in both forms on one class, three lines each.

What a call means is in `core.flows`, how it gets to the database in `engine`. The methods here come in pairs that
drive the same flow, one blocking and one awaiting, so neither can do what the other does not. Any of them may be
called from any thread and inside any event loop; none holds a lock while it yields.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, Literal, ParamSpec, TypeVar, cast

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

from langgraph_durable.core import flows, recordings
from langgraph_durable.core.checking import check_store, check_thread, chosen, together
from langgraph_durable.core.codec import Codec
from langgraph_durable.core.listing import list_page, listing
from langgraph_durable.core.plan import Address
from langgraph_durable.core.recordings import Recorded
from langgraph_durable.core.records import Checked
from langgraph_durable.core.requests import Fence, Flow, Here, Session
from langgraph_durable.core.running import stop
from langgraph_durable.core.standings import Thread, before_node, find_thread, find_threads
from langgraph_durable.core.status import Status
from langgraph_durable.core.steps import steps
from langgraph_durable.engine import Engine
from langgraph_durable.history import ThreadHistory
from langgraph_durable.processes import here
from langgraph_durable.progress import bar
from langgraph_durable.threads import ThreadInfo, ThreadList, info_of, step_of

if TYPE_CHECKING:
    from langgraph.checkpoint.base import DeltaChannelHistory

P = ParamSpec("P")
T = TypeVar("T")


class DurableSaver(BaseCheckpointSaver[str]):
    """A checkpointer over an engine, which the savers of `savers` open.

    What `put` and `put_writes` acknowledged survives kill -9 and power loss; a call that raised stored nothing. What
    is read is the reader's own: changing it changes nothing stored. Errors are those of `langgraph_durable.errors`.
    """

    _engine: Engine
    _native: bool
    _readable = False
    _coding: tuple[SerializerProtocol, Session] | None = None
    _fence: Fence | None = None

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
        return self._do(flows.put, config, checkpoint, metadata)

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """`put` for a coroutine. When it is cancelled the checkpoint is stored or not, but never in part."""
        return await self._ado(flows.put, config, checkpoint, metadata)

    def put_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Return once the writes of a task are durable.

        The first write at a (task, index) stays, except that special channels (`__error__`, `__interrupt__`, ...)
        replace what was there.
        """
        self._do(flows.put_writes, config, writes, task_id, task_path)

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """`put_writes` for a coroutine."""
        await self._ado(flows.put_writes, config, writes, task_id, task_path)

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """The checkpoint that the config names, or the one put last in its namespace; None when there is none.

        CorruptDataError when it is there and cannot be read.
        """
        return self._do(flows.get_tuple, config)

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """`get_tuple` for a coroutine."""
        return await self._ado(flows.get_tuple, config)

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
        query = listing(config, filter, before, limit)
        while query is not None:
            page = self._do(list_page, query)
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
        query = listing(config, filter, before, limit)
        while query is not None:
            page = await self._ado(list_page, query)
            for found in page.tuples(ahead=1):  # the event loop has its turn after each
                yield found
            query = page.following

    def delete_thread(self, thread_id: str) -> None:
        """Take away everything of a thread; a write that comes late is refused, it does not bring the thread back."""
        self._do(flows.delete_thread, thread_id)

    async def adelete_thread(self, thread_id: str) -> None:
        """`delete_thread` for a coroutine."""
        await self._ado(flows.delete_thread, thread_id)

    def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Take away the checkpoints whose metadata names one of the runs, with their writes."""
        self._do(flows.delete_for_runs, run_ids)

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        """`delete_for_runs` for a coroutine."""
        await self._ado(flows.delete_for_runs, run_ids)

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Copy checkpoints and writes, in order and undecoded, to a thread that has none (else InvalidRequestError)."""
        self._do(flows.copy_thread, source_thread_id, target_thread_id)

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """`copy_thread` for a coroutine."""
        await self._ado(flows.copy_thread, source_thread_id, target_thread_id)

    def prune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Keep the newest checkpoint of each namespace, or none (`strategy="delete"`).

        With the newest stay those of its ancestors that a `DeltaChannel` of it is rebuilt from.
        """
        self._do(flows.prune, thread_ids, strategy)

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """`prune` for a coroutine."""
        await self._ado(flows.prune, thread_ids, strategy)

    def get_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """For each channel the writes of the ancestors, oldest first, since the value in `seed` (if there is one)."""
        found = self._do(flows.delta_history, config, channels)
        return cast("Mapping[str, DeltaChannelHistory]", found)

    async def aget_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """`get_delta_channel_history` for a coroutine."""
        found = await self._ado(flows.delta_history, config, channels)
        return cast("Mapping[str, DeltaChannelHistory]", found)

    def get_next_version(self, current: str | None, channel: None) -> str:
        """A version greater than `current`, in the form of langgraph-checkpoint-sqlite: a counter and a random part."""
        counter = 0 if current is None else int(str(current).split(".")[0])
        return f"{counter + 1:032}.{random.random():016}"  # noqa: S311  it keeps branches apart, nothing secret

    # -- beyond the protocol -------------------------------------------------------------------------------------

    def list_threads(
        self,
        *,
        status: Status | Sequence[Status] | None = None,
        metadata: Mapping[str, Any] | None = None,
        order: Literal["updated", "created", "id"] = "updated",
        limit: int | None = None,
        cursor: str | None = None,
    ) -> ThreadList:
        """How threads stand: all of them, or those of a status, or whose newest metadata have these values.

        The one that was updated, or created, last comes first. No state is read for it, but of threads that a saver
        of another package stored. `cursor` is that of the page before.
        """
        return _listed(self._do(find_threads, **_wanted(status, metadata, order, limit, cursor)))

    async def alist_threads(
        self,
        *,
        status: Status | Sequence[Status] | None = None,
        metadata: Mapping[str, Any] | None = None,
        order: Literal["updated", "created", "id"] = "updated",
        limit: int | None = None,
        cursor: str | None = None,
    ) -> ThreadList:
        """`list_threads` for a coroutine."""
        return _listed(await self._ado(find_threads, **_wanted(status, metadata, order, limit, cursor)))

    def get_thread(self, thread_id: str) -> ThreadInfo | None:
        """How a thread stands; None where there is none."""
        thread = self._do(find_thread, str(thread_id))
        return None if thread is None else info_of(thread)

    async def aget_thread(self, thread_id: str) -> ThreadInfo | None:
        """`get_thread` for a coroutine."""
        thread = await self._ado(find_thread, str(thread_id))
        return None if thread is None else info_of(thread)

    def checkpoint_before(self, thread_id: str, node: str, occurrence: int = -1) -> RunnableConfig:
        """The config of the checkpoint before which `node` was next, for `graph.invoke(None, config)`.

        0 is the first `occurrence`, -1 the last. InvalidRequestError when there were not as many.
        """
        found = self._do(before_node, str(thread_id), node, occurrence)
        return Address(str(thread_id), "", None).config(found)

    async def acheckpoint_before(self, thread_id: str, node: str, occurrence: int = -1) -> RunnableConfig:
        """`checkpoint_before` for a coroutine."""
        found = await self._ado(before_node, str(thread_id), node, occurrence)
        return Address(str(thread_id), "", None).config(found)

    def history(self, thread_id: str) -> ThreadHistory:
        """What a thread went through, step by step; empty where there is none. No state is read.

        Subgraphs have steps of their own, which are not among these.
        """
        return ThreadHistory(str(thread_id), map(step_of, self._do(steps, str(thread_id))))

    async def ahistory(self, thread_id: str) -> ThreadHistory:
        """`history` for a coroutine."""
        return ThreadHistory(str(thread_id), map(step_of, await self._ado(steps, str(thread_id))))

    def environments(self, thread_id: str) -> Sequence[Recorded]:
        """What a thread ran with, whenever that changed, the oldest first; [] where no run recorded it.

        `fingerprint` makes what is recorded, and `durable(graph)` has it recorded. No state is read.
        """
        return self._do(recordings.history, str(thread_id))

    async def aenvironments(self, thread_id: str) -> Sequence[Recorded]:
        """`environments` for a coroutine."""
        return await self._ado(recordings.history, str(thread_id))

    def request_cancel(self, thread_id: str) -> bool:
        """Ask the run of a thread to end at its next write, which is stored; whether there is one to ask.

        It is a run of `durable(graph)` that can be asked: it raises RunCancelledError, if anything was left to do.
        """
        return self._do(stop, str(thread_id))

    async def arequest_cancel(self, thread_id: str) -> bool:
        """`request_cancel` for a coroutine."""
        return await self._ado(stop, str(thread_id))

    def check(self, thread_ids: Sequence[str] | None = None, *, progress: bool | None = None) -> Checked:
        """What is damaged of these threads, or of all and what is around them, after every byte has been read.

        Every checksum is verified, every name followed, every value decoded; nothing is changed. `progress` shows a
        bar or not; by itself it does on a terminal and in a notebook, if it takes more than two seconds.

        InvalidRequestError names a thread that is not there; OpenError says that what is stored is encrypted, and
        this saver has no key.
        """
        damage, found = self._do(check_store) if thread_ids is None else ([], chosen(thread_ids))
        checked = [Checked(0, 0, tuple(damage))]
        with bar("checking", len(found), "threads", progress) as shown:
            for thread_id in found:
                checked.append(self._do(check_thread, thread_id, wanted=thread_ids is not None))
                shown.update()
        return together(checked)

    async def acheck(self, thread_ids: Sequence[str] | None = None, *, progress: bool | None = None) -> Checked:
        """`check` for a coroutine."""
        damage, found = await self._ado(check_store) if thread_ids is None else ([], chosen(thread_ids))
        checked = [Checked(0, 0, tuple(damage))]
        with bar("checking", len(found), "threads", progress) as shown:
            for thread_id in found:
                checked.append(await self._ado(check_thread, thread_id, wanted=thread_ids is not None))
                shown.update()
        return together(checked)

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

    # -- what the rest of the package calls ------------------------------------------------------------------------

    def _do(self, flow: Callable[Concatenate[Session, P], Flow[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """What a flow answers for this saver."""
        return self._engine.run(flow(self._session(), *args, **kwargs))

    async def _ado(self, flow: Callable[Concatenate[Session, P], Flow[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """`_do` for a coroutine."""
        await self._engine.aready()
        return await self._engine.arun(flow(self._session(), *args, **kwargs))

    def _session(self) -> Session:
        # LangGraph makes shallow copies of a saver and gives them another serializer (`with_allowlist`).
        coding = self._coding
        if coding is None or coding[0] is not self.serde or coding[1].here.by != here():
            key = self._engine.digest_key(self.serde) if isinstance(self.serde, EncryptedSerializer) else b""
            codec = Codec(self.serde, native=self._native, key=key, readable=self._readable)
            session = Session(codec, self._engine.memory, Here(here(), time.time), self._fence)
            coding = self._coding = (self.serde, session)
        return coding[1]


def _wanted(
    status: str | Sequence[str] | None, metadata: Mapping[str, Any] | None, order: str, limit: int | None, cursor: Any
) -> dict[str, Any]:
    wanted = None if status is None else (status,) if isinstance(status, str) else tuple(status)
    return {"wanted": wanted, "metadata": metadata, "order": order, "limit": limit, "after": cursor}


def _listed(found: tuple[list[Thread], str | None]) -> ThreadList:
    return ThreadList(map(info_of, found[0]), found[1])


class _Setup:
    """What `setup()` answers: done already, and for who awaits it as well."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def __await__(self) -> Generator[Any, None, None]:
        return self._engine.aready().__await__()
