"""A conversation within its budget: always valid for model providers, never changed in place, decided once.

`compressing` is a generator that decides everything, and never waits; the functions below it, and the node and the
middleware, drive it in one form or the other. Below the budget it looks at each message once and does nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Generator, Iterable, Mapping, Sequence
from inspect import iscoroutinefunction
from typing import Any, NamedTuple

from langchain_core.messages import AIMessage, BaseMessage, MessageLikeRepresentation

from langgraph_durable.context.asks import Asking, adrive, drive
from langgraph_durable.context.calibration import Calibration
from langgraph_durable.context.draft import Draft, Pin
from langgraph_durable.context.repair import converted, repaired
from langgraph_durable.context.results import Compressed, CompressionReport
from langgraph_durable.context.ruler import Ruler
from langgraph_durable.context.shrink import Shrink
from langgraph_durable.context.sizes import Limits, Size, checked_size, checked_target, limits, window_of
from langgraph_durable.context.stages import ClearToolResults, DropMedia, DropOldest, Stage, TruncateToolArguments
from langgraph_durable.context.summarizing import Summarize
from langgraph_durable.context.survey import survey
from langgraph_durable.context.tokens import TokenCounter, count_tokens, tokens_of
from langgraph_durable.context.views import checked_view, edited, view_of, viewed
from langgraph_durable.core.collector import uncollected
from langgraph_durable.errors import InvalidRequestError

log = logging.getLogger("langgraph_durable")

VERSION = 1
"""The version of the private state."""

TRIES = 4
"""How often what a counter of the user's finds too long is shortened further."""


class Options(NamedTuple):
    """What a conversation is compressed by, checked."""

    budget: Size
    target: Size | float
    stages: Sequence[Stage]
    pin: Pin
    counter: TokenCounter

    @classmethod
    def checked(
        cls,
        *,
        budget: Size,
        target: Size | float = 0.5,
        stages: Sequence[Stage] | None = None,
        pin: Pin = (),
        token_counter: TokenCounter = count_tokens,
    ) -> Options:
        """The options, or InvalidRequestError."""
        if not callable(token_counter):
            raise InvalidRequestError("token_counter is a function of a list of messages, that returns a number")
        ids = isinstance(pin, Collection) and not isinstance(pin, str) and all(isinstance(one, str) for one in pin)
        if not (callable(pin) or ids):
            raise InvalidRequestError(f"pin is a function of a message or a collection of ids, and it was {pin!r}")
        if stages is not None and not isinstance(stages, Iterable):
            raise InvalidRequestError(f"stages is a list of stages, and it was {stages!r}")
        chosen = DEFAULT_STAGES if stages is None else tuple(stages)
        for stage in chosen:
            if isinstance(stage, type) or not callable(getattr(stage, "apply", None)):
                raise InvalidRequestError(f"a stage is an object with a method apply(draft), and {stage!r} is none")
            if iscoroutinefunction(stage.apply):
                raise InvalidRequestError(
                    f"apply of {stage!r} is a coroutine: a stage that asks a model is a generator that yields "
                    "Ask(model, messages)"
                )
        kinds = list(map(type, chosen))
        if DropOldest in kinds and Summarize in kinds[kinds.index(DropOldest) :]:
            raise InvalidRequestError(
                "Summarize() stands behind DropOldest(), which leaves it nothing to sum up: put it before"
            )
        checked = checked_size(budget, "budget")
        kept = pin if callable(pin) else frozenset(pin)
        return cls(checked, checked_target(target, checked), chosen, kept, token_counter)


DEFAULT_STAGES: tuple[Stage, ...] = (
    ClearToolResults(),
    TruncateToolArguments(),
    DropMedia(),
    DropOldest(),
    Shrink(),
)


def compress_messages(
    messages: Sequence[MessageLikeRepresentation],
    *,
    budget: Size,
    target: Size | float = 0.5,
    stages: Sequence[Stage] | None = None,
    pin: Pin = (),
    token_counter: TokenCounter = count_tokens,
    state: Mapping[str, Any] | None = None,
    model: Any = None,
) -> Compressed:
    """A conversation that keeps its budget, and that model providers accept; what is given is not changed.

    Within the `budget` it is repaired at most (see `repair_messages`). Above it `stages` shorten it one after the
    other, each the oldest first, until it has reached the `target`: a share of the budget, or a size. So it is not done
    again at every call, which would cost the provider's cache of the prompt. By default old tool results are cleared,
    long arguments of old tool calls cut, old media removed, the oldest turns dropped, and, where it has to be, the
    newest messages shortened. With `Summarize(model)` before `DropOldest()` a model writes down what is dropped.

    Always there, and whole: the system messages at the beginning, the current request (the last message of the user)
    and the newest message with the results of its calls; also what is pinned, by `pin(message)` or by its id. An AI
    message and its results stay or go together. ContextBudgetError when that is above the budget and no stage is left,
    or none can help.

    `token_counter` counts a list of messages; `count_tokens`, the default, estimates. `state` is the `state` of the
    last result for this conversation: with it the estimate is corrected by what the provider counted
    (`usage_metadata`), and what was left out then stays left out. `model` is asked for nothing but its `profile`, where
    a size is a fraction.

    InvalidRequestError for a budget, target or stage that is none. Time is linear in the number of messages.
    """
    options = Options.checked(budget=budget, target=target, stages=stages, pin=pin, token_counter=token_counter)
    found = limits(options.budget, options.target, window_of(model))
    return drive(compressing(converted(messages), options, found, state), None)


async def acompress_messages(
    messages: Sequence[MessageLikeRepresentation],
    *,
    budget: Size,
    target: Size | float = 0.5,
    stages: Sequence[Stage] | None = None,
    pin: Pin = (),
    token_counter: TokenCounter = count_tokens,
    state: Mapping[str, Any] | None = None,
    model: Any = None,
) -> Compressed:
    """`compress_messages` for a coroutine: a model that summarises is awaited."""
    options = Options.checked(budget=budget, target=target, stages=stages, pin=pin, token_counter=token_counter)
    found = limits(options.budget, options.target, window_of(model))
    return await adrive(compressing(converted(messages), options, found, state), None)


def compressing(
    messages: Sequence[BaseMessage],
    options: Options,
    sizes: Limits,
    state: Mapping[str, Any] | None = None,
    *,
    beside: int = 0,
) -> Asking[Compressed]:
    """`compress_messages`, decided; `beside` is how many tokens are sent beside the messages, such as tools."""
    kept = state if isinstance(state, Mapping) and state.get("version") == VERSION else {}
    learned, uncounted = _learned(messages, kept)
    view = checked_view(kept.get("view"))
    shown = viewed(messages, view)
    estimating = sizes.unit == "tokens" and options.counter is count_tokens
    calibration = learned if estimating else Calibration()
    beside = beside if sizes.unit == "tokens" else 0
    with uncollected(len(shown)):
        seen = survey(shown)
    valid = repaired(shown, in_order=seen.in_order)
    now, costs = valid.messages, seen.costs
    for place, message in edited(valid.messages, view).items():
        now = list(now) if now is valid.messages else now
        now[place] = message
        costs[place : place + 1] = [tokens_of(message)]
    ruler = Ruler(options.counter, sizes, calibration, beside, uncounted if estimating else 0)
    known = costs if seen.in_order and estimating else None
    before = ruler.whole(now, known)
    if before <= ruler.begin:
        made, after, draft = now, before, None
    else:
        shrinks = any(isinstance(stage, Shrink) for stage in options.stages)
        with uncollected(len(now)):
            draft = ruler.draft(now, known, before, options.pin, shrinks=shrinks)
        made, after = yield from _shortened(draft, options.stages, ruler)
    failures = draft.failures if draft is not None else []
    overrun = ruler.overrun(after)
    if overrun is not None:
        log.warning("%s", overrun)
        failures = [*failures, overrun]
    report = CompressionReport(
        ruler.told(before),
        ruler.told(after),
        draft.edits() if draft is not None else {},
        tuple(draft.dropped) if draft is not None else (),
        tuple(draft.summarized) if draft is not None else (),
        valid.notes,
        tuple(failures),
        draft.calls if draft is not None else 0,
        sizes.unit,
    )
    # Nearly every call changes nothing, and what was left out stays what it was.
    if draft is not None or not seen.in_order:
        with uncollected(len(messages)):
            view = view_of(messages, made, valid.messages)
    return Compressed(made, _state(made, view, learned, after if estimating else None), report, messages)


def _shortened(draft: Draft, stages: Sequence[Stage], ruler: Ruler) -> Asking[tuple[list[BaseMessage], int]]:
    asked: set[int] = set()
    size = len(draft.units)
    for _ in range(TRIES):
        for place, stage in enumerate(stages):
            if draft.excess <= 0:
                break
            if place in asked:
                continue
            with uncollected(size):
                asking = stage.apply(draft)
            if isinstance(asking, Generator):
                asked.add(place)
                yield from asking
            elif asking is not None:
                raise InvalidRequestError(
                    f"apply of {stage!r} returned a {type(asking).__name__}: it edits the draft and returns nothing, "
                    "or is a generator that yields Ask(model, messages)"
                )
        made = draft.messages()
        after = ruler.after(made, draft)
        if after <= ruler.most:
            return made, after
        if draft.over > 0 or after <= draft.tokens:
            break
        # A counter of the user's finds the whole longer than its parts: what it is longer by is taken off the budget.
        draft.budget -= after - draft.tokens
        draft.target = min(draft.target, draft.budget)
    raise ruler.refusal(after)


def _learned(messages: Sequence[BaseMessage], kept: Mapping[str, Any]) -> tuple[Calibration, int]:
    """What the provider's count of the last call tells, if that call is among the messages by now.

    And the estimate of what came after the last answer of a model, which no provider has counted.
    """
    calibration = Calibration.read(kept.get("calibration"))
    sent = kept.get("sent")
    if not isinstance(sent, Mapping):
        return calibration, 0
    answer: AIMessage | None = None
    uncounted = 0
    answered = False
    for message in reversed(messages):
        if message.id == sent.get("after"):
            usage = answer.usage_metadata if answer is not None else None
            if usage:
                calibration = calibration.learned(int(sent.get("estimate", 0)), usage["input_tokens"])
            return calibration, uncounted
        answer = message if isinstance(message, AIMessage) else None
        answered = answered or answer is not None
        uncounted += 0 if answered else tokens_of(message)
    return calibration, 0


def _state(
    sent: Sequence[BaseMessage], view: Mapping[str, Any] | None, calibration: Calibration, estimate: int | None
) -> dict[str, Any]:
    state: dict[str, Any] = {"version": VERSION}
    if calibration.tokens:
        state["calibration"] = list(calibration)
    if estimate is not None and sent and sent[-1].id is not None:
        state["sent"] = {"after": sent[-1].id, "estimate": estimate}
    if view:
        state["view"] = dict(view)
    return state
