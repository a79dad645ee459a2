"""A graph whose runs hold their thread, end as something that can be told, and go on where they ended.

Everything that runs it goes through `stream` or `astream`, which take the lease of the thread, run the graph with a
saver that carries the lease's token, and write down how the run ended. What is decided on the way is in `resuming`,
once for both forms.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from typing import Any, cast

from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import ensure_config, merge_configs, var_child_runnable_config
from langgraph.pregel import Pregel
from langgraph.types import StateUpdate

from langgraph_durable.asking import Asking, Attempt, Attempted, Settings, adrive, drive
from langgraph_durable.comparing import Now, comparing, now_of
from langgraph_durable.core.plan import address
from langgraph_durable.core.steps import Rerun
from langgraph_durable.environment.fingerprints import Fingerprint, fingerprint
from langgraph_durable.environment.policy import log
from langgraph_durable.environment.report import EnvironmentReport
from langgraph_durable.errors import InvalidRequestError
from langgraph_durable.holding import Run
from langgraph_durable.progress import bar
from langgraph_durable.recovering import Recovered, attempting, recovering
from langgraph_durable.resuming import (
    MISSING,
    forking,
    going_on,
    phases,
    preview,
    ready,
    rewinding,
    skipped,
    updating,
)
from langgraph_durable.saver import DurableSaver

_TASK = "__pregel_task_id"
_DURABILITY = "__pregel_durability"
_COORDINATES = ("thread_id", "checkpoint_id", "checkpoint_ns", "checkpoint_map")


class DurableGraph(Pregel[Any, Any, Any, Any]):
    """A compiled graph whose runs are durable; `durable` makes one."""

    _settings: Settings
    _kind: type[Pregel[Any, Any, Any, Any]]

    # -- the graph's own methods -------------------------------------------------------------------------------------

    def stream(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Iterator[Any]:
        """`stream` of the graph, in a run that holds the thread. ThreadBusyError when another one does."""
        if _nested(config):
            yield from super().stream(input, config, **kwargs)
            return
        with self._run(config) as run:
            for phase in drive(run.graph, run.saver, phases(run.setting, input, config)):
                made = drive(run.graph, run.saver, ready(run.setting, phase))
                run.began = True
                yield from run.graph.stream(made.input, made.config, **_durably(config, kwargs))

    async def astream(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> AsyncIterator[Any]:
        """`stream` for a coroutine."""
        if _nested(config):
            async with _closing(super().astream(input, config, **kwargs)) as nested:
                async for chunk in nested:
                    yield chunk
            return
        async with self._run(config) as run:
            for phase in await adrive(run.graph, run.saver, phases(run.setting, input, config)):
                made = await adrive(run.graph, run.saver, ready(run.setting, phase))
                run.began = True
                # Closed here and now: what runs in a stream that nobody reads any more ends before its run does.
                async with _closing(run.graph.astream(made.input, made.config, **_durably(config, kwargs))) as chunks:
                    async for chunk in chunks:
                        yield chunk

    def bulk_update_state(self, config: RunnableConfig, supersteps: Sequence[Sequence[StateUpdate]]) -> RunnableConfig:
        """`bulk_update_state` of the graph, while nobody runs the thread."""
        if _nested(config):
            return super().bulk_update_state(config, supersteps)
        with self._run(config, how="updated") as run:
            drive(run.graph, run.saver, updating(run.thread_id, config))
            return run.graph.bulk_update_state(config, supersteps)

    async def abulk_update_state(
        self, config: RunnableConfig, supersteps: Sequence[Sequence[StateUpdate]]
    ) -> RunnableConfig:
        """`bulk_update_state` for a coroutine."""
        if _nested(config):
            return await super().abulk_update_state(config, supersteps)
        async with self._run(config, how="updated") as run:
            await adrive(run.graph, run.saver, updating(run.thread_id, config))
            return await run.graph.abulk_update_state(config, supersteps)

    # -- going on ----------------------------------------------------------------------------------------------------

    def resume(
        self,
        thread_id: str,
        *,
        resume: Any = MISSING,
        from_node: str | None = None,
        occurrence: int = -1,
        config: RunnableConfig | None = None,
        dry_run: bool = False,
        **kwargs: Any,
    ) -> Any:
        """What the graph gives when a thread goes on from where its last run ended.

        After an error or a crash only what had not finished runs. A node that asked somebody gets `resume` as its
        answer, or `{interrupt_id: answer, ...}`. `from_node` goes back to the checkpoint before that node was next
        for the `occurrence`-th time (0 is the first, -1 the last) and runs on from there, on a branch of its own. What
        will run again is logged before it does; `dry_run` only gives it, as a `Rerun`. `config` and `kwargs` are the
        graph's.

        NothingToResumeError when nothing is left to do, or an answer comes for what was answered already.
        InvalidRequestError when an answer is needed and there is none, or the node was never next.
        """
        given = _config_of(config, thread_id)
        if dry_run:
            asking = preview(given, self._now(), self._settings.on_change, resume, from_node, occurrence)
            return drive(self._graph(), self._saver, asking)
        with self._run(given) as run:
            found = drive(run.graph, run.saver, going_on(run.setting, given, resume, from_node, occurrence))
            log.info("%s", found.rerun)
            run.began = True
            return run.graph.invoke(found.input, found.config, **_durably(config, kwargs))

    async def aresume(
        self,
        thread_id: str,
        *,
        resume: Any = MISSING,
        from_node: str | None = None,
        occurrence: int = -1,
        config: RunnableConfig | None = None,
        dry_run: bool = False,
        **kwargs: Any,
    ) -> Any:
        """`resume` for a coroutine."""
        given = _config_of(config, thread_id)
        if dry_run:
            asking = preview(given, self._now(), self._settings.on_change, resume, from_node, occurrence)
            return await adrive(self._graph(), self._saver, asking)
        async with self._run(given) as run:
            going = going_on(run.setting, given, resume, from_node, occurrence)
            found = await adrive(run.graph, run.saver, going)
            log.info("%s", found.rerun)
            run.began = True
            return await run.graph.ainvoke(found.input, found.config, **_durably(config, kwargs))

    def fork(
        self,
        thread_id: str,
        *,
        from_node: str | None = None,
        occurrence: int = -1,
        step: int | None = None,
        checkpoint_id: str | None = None,
        to: str | None = None,
        values: Any = None,
        as_node: str | None = None,
        dry_run: bool = False,
    ) -> RunnableConfig | Rerun:
        """The config of a branch that begins at an earlier checkpoint: `app.invoke(None, config)` runs it.

        The checkpoint is the one before a node was next, or of a step, or the one of that id; the newest, if none is
        named. The branch is in the same thread, whose newest checkpoint it becomes, or in the new thread `to`, which
        has the history that led there and nothing else. `values` are written to it as by `update_state`. Its metadata
        say where it comes from, as `forked_from` (a checkpoint id) and `forked_from_thread`.

        InvalidRequestError when there is no such checkpoint, or `to` is a thread already.
        """
        asking = forking(thread_id, from_node, occurrence, step, checkpoint_id, to, values, as_node, dry_run=dry_run)
        return self._branched(thread_id, to, asking, dry_run)

    async def afork(
        self,
        thread_id: str,
        *,
        from_node: str | None = None,
        occurrence: int = -1,
        step: int | None = None,
        checkpoint_id: str | None = None,
        to: str | None = None,
        values: Any = None,
        as_node: str | None = None,
        dry_run: bool = False,
    ) -> RunnableConfig | Rerun:
        """`fork` for a coroutine."""
        asking = forking(thread_id, from_node, occurrence, step, checkpoint_id, to, values, as_node, dry_run=dry_run)
        return await self._abranched(thread_id, to, asking, dry_run)

    def rewind(self, thread_id: str, turns: int = 1, *, dry_run: bool = False) -> RunnableConfig | Rerun:
        """The config of the thread as it was before its last `turns` inputs; nothing is deleted.

        InvalidRequestError when there were not as many, or nothing was before them.
        """
        return self._branched(thread_id, None, rewinding(thread_id, turns, dry_run=dry_run), dry_run)

    async def arewind(self, thread_id: str, turns: int = 1, *, dry_run: bool = False) -> RunnableConfig | Rerun:
        """`rewind` for a coroutine."""
        return await self._abranched(thread_id, None, rewinding(thread_id, turns, dry_run=dry_run), dry_run)

    # -- what it runs with -------------------------------------------------------------------------------------------

    def fingerprint(self, config: RunnableConfig | None = None) -> Fingerprint:
        """What a run with this config runs with, as `fingerprint` has it."""
        settings = self._settings
        return fingerprint(
            tools=settings.tools,
            model=settings.model,
            graph=self,
            extra=settings.extra,
            config=config,
        )

    def environment(self, thread_id: str) -> EnvironmentReport:
        """What differs between what a thread ran with and what it would go on with; nothing is run or raised."""
        return drive(self._graph(), self._saver, comparing(_config_of(None, thread_id), self._now()))

    async def aenvironment(self, thread_id: str) -> EnvironmentReport:
        """`environment` for a coroutine."""
        return await adrive(self._graph(), self._saver, comparing(_config_of(None, thread_id), self._now()))

    # -- those that crashed ------------------------------------------------------------------------------------------

    def recover(
        self,
        *,
        errors: bool = False,
        metadata: Mapping[str, Any] | None = None,
        config: RunnableConfig | Callable[[str], RunnableConfig] | None = None,
        backoff_seconds: float = 1.0,
        progress: bool | None = None,
        **kwargs: Any,
    ) -> list[Recovered]:
        """What became of every crashed thread, and (`errors`) of every one whose last run failed: each is run on.

        Those that SIGTERM stopped count as crashed. Threads of other graphs are left alone, as far as nodes that this
        graph does not have tell them; `metadata` says which are meant. One that has come to a breakpoint waits there.
        `config` is for each run, or a function that makes it of the thread's id, `kwargs` are the graph's.

        A thread that makes no progress is tried `max_recoveries` times, with a pause of `backoff_seconds` before the
        second that doubles each time; then it stays `error` with the reason `gave up`. Who recovers at the same time
        takes others.
        """
        asking = recovering(self._settings.max_recoveries, errors=errors, metadata=metadata, backoff=backoff_seconds)
        with bar("recovering", None, "threads", progress) as shown:
            return drive(
                self._graph(), self._saver, asking, lambda one: shown.update() or self._attempt(one, config, kwargs)
            )

    async def arecover(
        self,
        *,
        errors: bool = False,
        metadata: Mapping[str, Any] | None = None,
        config: RunnableConfig | Callable[[str], RunnableConfig] | None = None,
        backoff_seconds: float = 1.0,
        progress: bool | None = None,
        **kwargs: Any,
    ) -> list[Recovered]:
        """`recover` for a coroutine."""
        asking = recovering(self._settings.max_recoveries, errors=errors, metadata=metadata, backoff=backoff_seconds)
        with bar("recovering", None, "threads", progress) as shown:
            return await adrive(
                self._graph(), self._saver, asking, lambda one: shown.update() or self._aattempt(one, config, kwargs)
            )

    # -- what these are made of --------------------------------------------------------------------------------------

    @property
    def _saver(self) -> DurableSaver:
        return cast(DurableSaver, self.checkpointer)

    def _graph(self, saver: DurableSaver | None = None) -> Pregel[Any, Any, Any, Any]:
        """The graph as it was before it was made durable, with that saver."""
        return self._kind(**{**attributes(self), "checkpointer": saver or self._saver})

    def _run(self, config: RunnableConfig | None, *, how: str = "returned", **kwargs: Any) -> Run:
        merged = merge_configs(self.config, config) if self.config else config
        thread_id = address(ensure_config(merged)).thread_id
        # Who updates a state runs nothing.
        told = self.fingerprint(config) if how == "returned" else None
        return Run(self._saver, self._graph, self._settings, thread_id, how=how, fingerprint=told, **kwargs)

    def _now(self) -> Now:
        return now_of(self._settings, self.fingerprint())

    def _branched(
        self, thread_id: str, to: str | None, asking: Asking[RunnableConfig | Rerun], dry_run: bool
    ) -> RunnableConfig | Rerun:
        if dry_run:
            return drive(self._graph(), self._saver, asking)
        with self._run(_config_of(None, to or thread_id), how="updated") as run:
            return drive(run.graph, run.saver, asking)

    async def _abranched(
        self, thread_id: str, to: str | None, asking: Asking[RunnableConfig | Rerun], dry_run: bool
    ) -> RunnableConfig | Rerun:
        if dry_run:
            return await adrive(self._graph(), self._saver, asking)
        async with self._run(_config_of(None, to or thread_id), how="updated") as run:
            return await adrive(run.graph, run.saver, asking)

    def _attempt(self, one: Attempt, config: Any, kwargs: dict[str, Any]) -> Attempted:
        try:
            given = _config_of(config(one.thread_id) if callable(config) else config, one.thread_id)
        except Exception as error:  # noqa: BLE001  other threads can be recovered
            return Attempted("crashed", 1, "", error)
        run = self._run(given, on_busy="raise", tried=(one.tried, one.checkpoint_id))
        try:
            with run:
                run.how = drive(run.graph, run.saver, attempting(run.setting, one))
                if run.how == "returned":
                    run.began = True
                    where = drive(run.graph, run.saver, skipped(one.thread_id, given))
                    run.graph.invoke(None, where, **_durably(given, kwargs))
        except Exception as error:  # noqa: BLE001  what a graph raises is what there is to tell of its thread
            return run.attempted(error)
        return run.attempted(None)

    async def _aattempt(self, one: Attempt, config: Any, kwargs: dict[str, Any]) -> Attempted:
        try:
            given = _config_of(config(one.thread_id) if callable(config) else config, one.thread_id)
        except Exception as error:  # noqa: BLE001  other threads can be recovered
            return Attempted("crashed", 1, "", error)
        run = self._run(given, on_busy="raise", tried=(one.tried, one.checkpoint_id))
        try:
            async with run:
                run.how = await adrive(run.graph, run.saver, attempting(run.setting, one))
                if run.how == "returned":
                    run.began = True
                    where = await adrive(run.graph, run.saver, skipped(one.thread_id, given))
                    await run.graph.ainvoke(None, where, **_durably(given, kwargs))
        except Exception as error:  # noqa: BLE001  as above
            return run.attempted(error)
        return run.attempted(None)


def attributes(graph: Pregel[Any, Any, Any, Any]) -> dict[str, Any]:
    """What a graph of the same kind is made of, as `Pregel.copy` has it."""
    return {name: value for name, value in vars(graph).items() if name != "__orig_class__"}


def _closing(stream: AsyncIterator[Any]) -> aclosing[AsyncGenerator[Any, None]]:
    return aclosing(cast("AsyncGenerator[Any, None]", stream))


def _nested(config: RunnableConfig | None) -> bool:
    """Whether this runs inside of a node of another run, under the same thread and the same lease."""
    given = (config or {}).get("configurable") or {}
    if any(given.get(name) for name in _COORDINATES):
        return _TASK in given
    around = var_child_runnable_config.get() or {}
    return _TASK in given or _TASK in (around.get("configurable") or {})


def _durably(config: RunnableConfig | None, kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a run, with the durability that it has unless another was given."""
    given = _DURABILITY in ((config or {}).get("configurable") or {}) or "checkpoint_during" in kwargs
    if given or kwargs.get("durability") is not None:
        return kwargs
    return {**kwargs, "durability": "sync"}


def _config_of(config: RunnableConfig | None, thread_id: str) -> RunnableConfig:
    if isinstance(thread_id, Mapping):
        raise InvalidRequestError(f"this takes the id of a thread, and not a config: {thread_id!r}")
    given = config or {}
    return cast(
        RunnableConfig, {**given, "configurable": {**(given.get("configurable") or {}), "thread_id": str(thread_id)}}
    )
