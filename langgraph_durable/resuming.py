"""What it takes to go on with a thread, decided once for both forms of a graph: generators that ask, and never wait.

Each generator runs while its caller holds the thread, but for those that only look; `asking` says what they may yield.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, cast

from langchain_core.runnables import RunnableConfig
from langgraph.types import Command

from langgraph_durable.asking import Asking, Call, Do, Setting
from langgraph_durable.comparing import Now, compared, comparing
from langgraph_durable.context.repair import closings
from langgraph_durable.core import flows, standings
from langgraph_durable.core.conversation import tool_messages
from langgraph_durable.core.recordings import fingerprint_of, recorded
from langgraph_durable.core.records import Batch, DeleteCheckpoints
from langgraph_durable.core.requests import Flow, Session
from langgraph_durable.core.steps import Rerun, Step, at_step, before_turn, lineage, off_the_path, rerun
from langgraph_durable.environment.policy import OnChange, log, refuse
from langgraph_durable.errors import InvalidRequestError, NothingToResumeError
from langgraph_durable.renaming import INTERRUPT_IDS

MISSING: Any = type("Missing", (), {"__repr__": lambda self: "<no answer>"})()
"""No answer: None is one."""


class Resumption(NamedTuple):
    """What to run, and what that means."""

    input: Any
    config: RunnableConfig
    rerun: Rerun


class Phase(NamedTuple):
    """What a run gives the graph; `after` says that what had not finished is given to it before."""

    input: Any
    config: RunnableConfig | None
    after: bool = False


def phases(setting: Setting, input: Any, config: RunnableConfig | None) -> Asking[list[Phase]]:
    """What a run gives the graph, one after the other: what had not finished comes before new input."""
    seen = setting.taken.seen
    addressed = bool(((config or {}).get("configurable") or {}).get("checkpoint_id"))
    # A process that was told to go leaves no less unfinished than one that crashed.
    failed = seen is not None and (seen.status in ("error", "crashed") or seen.reason == "sigterm")
    unfinished = failed and bool(setting.taken.nodes)
    going = input is None or isinstance(input, Command)
    first = unfinished and not going and not addressed and not (yield from at_breakpoint(setting))
    if first and setting.settings.on_crash == "fail":
        assert seen is not None
        raise InvalidRequestError(
            f"thread {setting.thread_id!r} is in status {seen.status!r} with {', '.join(setting.taken.nodes)} not "
            "finished, and new input would throw away what had: `resume` finishes it first, `rewind` goes back before "
            "it"
        )
    answer = input.resume if isinstance(input, Command) else None
    # New input throws away what is next, unless that has to be finished first.
    config, ids = yield from compared(setting, config, pending=going or first, answered=answer is not None)
    if answer is not None and not addressed:
        answers = yield from _answer(setting.thread_id, answer)
        return [Phase(replace(input, resume=answers), config)]
    if ids and isinstance(answer, dict):
        return [Phase(replace(input, resume={ids.get(key, key): value for key, value in answer.items()}), config)]
    if first:
        return [Phase(None, (yield from skipped(setting.thread_id, config))), Phase(input, config, after=True)]
    if input is None and unfinished and not addressed:
        return [Phase(None, (yield from skipped(setting.thread_id, config)))]
    return [Phase(input, config)]


def skipped(thread_id: str, config: RunnableConfig | None) -> Asking[RunnableConfig]:
    """The config to go on with without input: that of an earlier checkpoint where a router raised, and what should have
    come after it was skipped by who went on without holding the thread.
    """
    given = config or {}
    thread: standings.Thread | None = yield Do(standings.find_thread, (thread_id,))
    standing = thread.standing if thread is not None else None
    if standing is None or standing.reason != "router" or not standing.nodes:
        return given
    state = yield Call("get_state", (_config(thread_id),))
    if state.next:
        return given
    checkpoint_id = yield Do(standings.before_node, (thread_id, standing.nodes[0], -1))
    where = {**(given.get("configurable") or {}), "thread_id": thread_id, "checkpoint_id": checkpoint_id}
    return cast(RunnableConfig, {**given, "configurable": where})


def ready(setting: Setting, phase: Phase) -> Asking[Phase]:
    """The phase with which new input meets a conversation that a model provider accepts: tool calls have results.

    InvalidRequestError when what had not finished waits for somebody now: new input would throw that away.
    """
    if phase.input is None or isinstance(phase.input, Command) or setting.taken.seen is None:
        return phase
    here = _config(setting.thread_id)
    if phase.after:
        state = yield Call("get_state", (here,))
        if state.next:
            raise InvalidRequestError(
                f"what had not finished in thread {setting.thread_id!r} was gone on with first, and now waits before "
                f"{', '.join(state.next)}; the new input was not used: resume the thread, then give it again"
            )
        return phase
    if setting.taken.seen.status == "idle" or ((phase.config or {}).get("configurable") or {}).get("checkpoint_id"):
        return phase
    state = yield Call("get_state", (here,))
    # A state that is asked for by its id is as it is stored, without what finished neighbours wrote since: new input
    # throws that away, and with it the results of their calls.
    stored = yield Call("get_state", (_config(setting.thread_id, state.config["configurable"].get("checkpoint_id")),))
    results = {one.tool_call_id: one for one in tool_messages([state.values, *(task.result for task in state.tasks)])}
    given = {one.tool_call_id for one in tool_messages(phase.input)}
    missing = {
        channel: [one for one in closings(value, results) if one.tool_call_id not in given]
        for channel, value in (stored.values.items() if isinstance(stored.values, Mapping) else ())
        if isinstance(value, list)
    }
    closing = {channel: messages for channel, messages in missing.items() if messages}
    if not closing:
        return phase
    log.info("thread %r: %s tool calls are closed", setting.thread_id, sum(map(len, closing.values())))
    if isinstance(phase.input, dict):
        # With the input itself, in front of it: no router of the app's is asked about them.
        before = {channel: [*messages, *_listed(phase.input.get(channel))] for channel, messages in closing.items()}
        return phase._replace(input={**phase.input, **before})
    yield Call("update_state", (here, closing, "__start__"))
    return phase


def _listed(messages: Any) -> list[Any]:
    if messages is None:
        return []
    return messages if isinstance(messages, list) else [messages]


def going_on(
    setting: Setting, config: RunnableConfig, answer: Any, node: str | None, occurrence: int
) -> Asking[Resumption]:
    """`resuming` in a run: first it is compared with what the thread began with, and nodes get their new names."""
    if node is None:
        config = (yield from compared(setting, config, answered=answer is not MISSING)).config
        return (yield from resuming(setting.thread_id, config, answer, None, occurrence))
    found = yield from resuming(setting.thread_id, config, answer, node, occurrence)
    return found._replace(config=(yield from compared(setting, found.config)).config)


def preview(
    config: RunnableConfig, now: Now, on_change: OnChange, answer: Any, node: str | None, occurrence: int
) -> Asking[Rerun]:
    """What would run, told without running it. EnvironmentChangedError where that would be refused."""
    thread_id = str(config["configurable"]["thread_id"])
    # An answer to a node with a new name finds its question once the thread has moved there.
    moved = MISSING if now.renames else answer
    found = yield from resuming(thread_id, config, moved, node, occurrence, asked=answer is not MISSING)
    report = yield from comparing(found.config, now)
    refuse(report, on_change)
    following = tuple(now.renames.get(one, one) for one in found.rerun.next)
    return found.rerun._replace(next=following)


def resuming(
    thread_id: str,
    config: RunnableConfig,
    answer: Any,
    node: str | None,
    occurrence: int,
    *,
    asked: bool = False,
) -> Asking[Resumption]:
    """What to give the graph for a thread to go on; `asked` is that there is an answer, though it is not given yet."""
    thread_id = str(thread_id)
    if node is not None:
        if answer is not MISSING:
            raise InvalidRequestError("an answer goes to the node that waits for it: pass `resume` or `from_node`")
        checkpoint_id = yield Do(standings.before_node, (thread_id, node, occurrence))
        plan: Rerun = yield Do(rerun, (thread_id, checkpoint_id, (node,)))
        metadata = {**(config.get("metadata") or {}), "forked_from": checkpoint_id, "forked_from_thread": thread_id}
        where = cast(
            RunnableConfig, {**config, "configurable": {**config["configurable"], "checkpoint_id": checkpoint_id}}
        )
        return Resumption(None, cast(RunnableConfig, {**where, "metadata": metadata}), plan)
    thread: standings.Thread | None = yield Do(standings.find_thread, (thread_id,))
    if thread is None or thread.standing is None:
        raise NothingToResumeError(f"there is no thread {thread_id!r} to resume: nothing was stored of it")
    plan = yield Do(rerun, (thread_id, thread.standing.checkpoint_id))
    if answer is not MISSING:
        answers = yield from _answer(thread_id, answer)
        return Resumption(Command(resume=answers), config, plan)
    pending, _ = yield from _pending(thread_id)
    standing = thread.standing
    if pending and not asked and standing.status == "interrupted" and standing.reason == "node":
        raise InvalidRequestError(
            f"thread {thread_id!r} waits for an answer: pass `resume=answer`, or {{interrupt_id: answer}}, for "
            f"{_asked(pending)}"
        )
    if standing.status == "idle":
        raise NothingToResumeError(f"thread {thread_id!r} has nothing left to do: its last run came to its end")
    return Resumption(None, (yield from skipped(thread_id, config)), plan)


def forking(
    thread_id: str,
    node: str | None,
    occurrence: int,
    step: int | None,
    checkpoint_id: str | None,
    to: str | None,
    values: Any,
    as_node: str | None,
    *,
    dry_run: bool,
) -> Asking[RunnableConfig | Rerun]:
    """A branch at a checkpoint, of the same thread or in another one."""
    thread_id = str(thread_id)
    if sum(one is not None for one in (node, step, checkpoint_id)) > 1:
        raise InvalidRequestError("a branch begins at one checkpoint: pass `from_node`, `step` or `checkpoint_id`")
    if node is not None:
        checkpoint_id = yield Do(standings.before_node, (thread_id, node, occurrence))
    elif step is not None:
        checkpoint_id = yield Do(at_step, (thread_id, step))
    elif checkpoint_id is None:
        thread: standings.Thread | None = yield Do(standings.find_thread, (thread_id,))
        if thread is None or thread.standing is None:
            raise InvalidRequestError(f"there is no thread {thread_id!r} to fork: nothing was stored of it")
        checkpoint_id = thread.standing.checkpoint_id
    plan: Rerun = yield Do(rerun, (thread_id, checkpoint_id, (node,) if node else ()))
    if dry_run:
        return plan
    log.info("%s", plan)
    if to is None:
        return (yield from _branch(thread_id, thread_id, checkpoint_id, values, as_node))
    yield Do(_copy_up_to, (thread_id, to, checkpoint_id))
    try:
        return (yield from _branch(thread_id, to, checkpoint_id, values, as_node))
    except Exception:
        yield Do(flows.delete_thread, (to,))  # what cannot be made whole is not left behind
        raise


def rewinding(thread_id: str, turns: int, *, dry_run: bool) -> Asking[RunnableConfig | Rerun]:
    """A branch before the last inputs."""
    thread_id = str(thread_id)
    checkpoint_id: str = yield Do(before_turn, (thread_id, turns))
    if dry_run:
        plan: Rerun = yield Do(rerun, (thread_id, checkpoint_id))
        return plan
    return (yield from _branch(thread_id, thread_id, checkpoint_id, None, None))


def _answer(thread_id: str, answer: Any) -> Asking[dict[str, Any]]:
    """An answer by the id of what it answers; NothingToResumeError where nobody waits for it.

    LangGraph keeps an answer that does not say what it is for, and gives it to whoever asks next, should the process
    die before the one who asked has finished.
    """
    pending, new_ids = yield from _pending(thread_id)
    ids = [interrupt.id for interrupt in pending]
    named = isinstance(answer, dict) and bool(answer) and all(is_id(key) for key in answer)
    if named:
        answer = {key if key in ids else new_ids.get(key, key): value for key, value in answer.items()}
    if not pending or (named and not {*answer} <= {*ids}):
        raise NothingToResumeError(
            f"thread {thread_id!r} waits for no such answer: it was answered already, or nobody was asked; this one "
            "was not used"
        )
    if named:
        return dict(answer)
    if len(pending) > 1:
        raise InvalidRequestError(
            f"thread {thread_id!r} waits for {len(pending)} answers: pass {{interrupt_id: answer}}, for "
            f"{_asked(pending)}"
        )
    return {ids[0]: answer}


def at_breakpoint(setting: Setting) -> Asking[bool]:
    """Whether a thread that looks crashed waits for somebody, at a breakpoint that the graph was compiled with.

    A graph that is not durable does not tell its saver that it has come to one, and a process may die before it has
    written that down. One that had begun where the thread still is had been told to go on from there.
    """
    taken, settings = setting.taken, setting.settings
    if taken.seen is None or taken.seen.status != "crashed" or not taken.nodes:
        return False
    if taken.held is not None and taken.held.checkpoint_id == taken.checkpoint_id:
        return False
    if _among(settings.interrupt_before, taken.nodes):
        return True
    if not settings.interrupt_after:
        return False
    path: list[Step] = yield Do(lineage, (setting.thread_id, taken.checkpoint_id))
    return len(path) > 1 and _among(settings.interrupt_after, path[1].ran)


def _among(breakpoints: str | Sequence[str], nodes: Sequence[str]) -> bool:
    return bool(nodes) and (breakpoints == "*" or not {*breakpoints}.isdisjoint(nodes))


def _pending(thread_id: str) -> Asking[tuple[tuple[Any, ...], Mapping[str, str]]]:
    """The interrupts that wait for an answer, and their ids by those that they had before a node had another name."""
    state = yield Call("get_state", (_config(thread_id),))
    found = tuple(interrupt for task in state.tasks for interrupt in task.interrupts)
    return found, (state.metadata or {}).get(INTERRUPT_IDS) or {}


def _asked(pending: Sequence[Any]) -> str:
    return "; ".join(f"{one.id}: {_short(one.value)}" for one in pending)


def is_id(key: object) -> bool:
    """Whether it is the id of an interrupt, as LangGraph makes them: 128 bits of xxh3 in hexadecimal digits."""
    return isinstance(key, str) and re.fullmatch(r"[0-9a-f]{32}", key) is not None


def _branch(
    source: str, thread_id: str, checkpoint_id: str, values: Any, as_node: str | None
) -> Asking[RunnableConfig]:
    where = _config(thread_id, checkpoint_id)
    yield Do(_note, (thread_id, checkpoint_id, {"forked_from": checkpoint_id, "forked_from_thread": source}))
    node = as_node if values is not None or as_node is not None else "__copy__"
    config: RunnableConfig = yield Call("update_state", (where, values, node))
    return config


def _copy_up_to(session: Session, source: str, target: str, checkpoint_id: str) -> Flow[None]:
    """Copy a thread, and of the copy keep what led to a checkpoint."""
    yield from flows.copy_thread(session, source, target)
    gone = yield from off_the_path(session, target, checkpoint_id)
    if gone:
        yield Batch(target, None, (), DeleteCheckpoints(tuple(gone)))
        session.memory.forget(target)


def updating(thread_id: str, config: RunnableConfig) -> Asking[None]:
    """What comes before a state is updated: who does that runs nothing, and its checkpoint says what had run before."""
    yield Do(_note, (thread_id, (config.get("configurable") or {}).get("checkpoint_id"), {}))


def _note(session: Session, thread_id: str, checkpoint_id: str | None, metadata: dict[str, Any]) -> Flow[None]:
    """Have every checkpoint that this run puts say so, and with what the one had run that it goes on from."""
    assert session.fence is not None
    before = yield from recorded(session, thread_id, checkpoint_id)
    session.fence.metadata = {**(fingerprint_of(before) if before is not None else {}), **metadata}


def _config(thread_id: str, checkpoint_id: str | None = None) -> RunnableConfig:
    where = {"thread_id": thread_id, "checkpoint_ns": ""}
    return {"configurable": {**where, **({"checkpoint_id": checkpoint_id} if checkpoint_id else {})}}


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
