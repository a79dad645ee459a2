"""What is done about a difference: told as a warning, refused, let pass, or decided by the app."""

from __future__ import annotations

import inspect
import logging
import sys
import warnings
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Literal, TypeAlias, get_args

from langgraph_durable.environment.changes import Kind
from langgraph_durable.environment.report import EnvironmentReport
from langgraph_durable.errors import EnvironmentChangedError, EnvironmentChangedWarning, InvalidRequestError

log = logging.getLogger("langgraph_durable")
# Where an app has set up no logging, the warning is enough.
log.addHandler(logging.NullHandler())

Word: TypeAlias = Literal["warn", "raise", "ignore"]
Decision: TypeAlias = "Word | Callable[[EnvironmentReport], Word | None]"
OnChange: TypeAlias = "Decision | Mapping[str, Decision]"

KINDS = get_args(Kind)

_INSIDE = frozenset({"langgraph_durable", "langgraph", "langchain_core", "asyncio", "concurrent", "threading"})


def checked(on_change: OnChange) -> OnChange:
    """The same, if it can be used; else InvalidRequestError."""
    decisions = on_change if isinstance(on_change, Mapping) else {"tools": on_change}
    for kind, decision in decisions.items():
        if kind not in KINDS:
            raise InvalidRequestError(f"on_change knows the kinds {', '.join(KINDS)}, and not {kind!r}")
        if inspect.iscoroutinefunction(decision):
            raise InvalidRequestError("on_change must be a plain function: a coroutine cannot be waited for there")
        if not callable(decision) and decision not in get_args(Word):
            raise InvalidRequestError(
                f"on_change must be 'warn', 'raise', 'ignore' or a function, for all or by kind, and not {decision!r}"
            )
    return on_change


def settle(report: EnvironmentReport, on_change: OnChange) -> None:
    """Return when the thread may go on; EnvironmentChangedError when it may not.

    A new name of a node that was declared is told in the report, and nothing is to be decided about it. One decision is
    for all kinds but `pending`, which is refused unless it has one of its own. A function is given the report of what
    it decides about, once; what it returns is done, and nothing for None.
    """
    words: dict[str, Word] = {}
    asked: dict[int, tuple[Callable[[EnvironmentReport], Word | None], list[str]]] = {}
    open_ = _to_decide(report)
    for kind in sorted(open_.kinds):
        decision = _decision(kind, on_change)
        if callable(decision):
            asked.setdefault(id(decision), (decision, []))[1].append(kind)
        else:
            words[kind] = decision
    for function, kinds in asked.values():
        word = function(open_.only(kinds))
        if word is not None and word not in get_args(Word):
            raise InvalidRequestError(f"on_change returned {word!r}; it is to be 'warn', 'raise', 'ignore' or None")
        words.update(dict.fromkeys(kinds, word or "ignore"))
    _refuse(report, open_, [kind for kind, word in words.items() if word == "raise"])
    told = open_.only([kind for kind, word in words.items() if word == "warn"])
    if told:
        log.warning("%s", told)
        warnings.warn(EnvironmentChangedWarning(str(told), report=told), stacklevel=_outside())


def refuse(report: EnvironmentReport, on_change: OnChange) -> None:
    """`settle`, as far as that refuses by itself: no function is asked, and nobody is warned."""
    open_ = _to_decide(report)
    _refuse(report, open_, [kind for kind in open_.kinds if _decision(kind, on_change) == "raise"])


def _refuse(report: EnvironmentReport, open_: EnvironmentReport, kinds: Collection[str]) -> None:
    refused = open_.only(kinds)
    if refused:
        # Of a call that waits it is to be read what is another about its tool, whatever is done about that else.
        calls = {one.name for one in refused.of("pending") if one.subject == "call"}
        why = [one for one in open_.of("tools") if one.name.partition(".")[0] in calls and one not in refused.changes]
        told = replace(refused, changes=(*refused.changes, *why))
        raise EnvironmentChangedError(f"{told}\n{_advice(refused)}", report=report)


def _to_decide(report: EnvironmentReport) -> EnvironmentReport:
    return replace(report, changes=tuple(one for one in report.changes if one.change != "renamed"))


def _decision(kind: str, on_change: OnChange) -> Decision:
    if isinstance(on_change, Mapping):
        return on_change.get(kind, "raise" if kind == "pending" else "warn")
    return "raise" if kind == "pending" else on_change


def _advice(refused: EnvironmentReport) -> str:
    advice = []
    if any(change.subject == "node" for change in refused.of("pending")):
        advice.append('tell what a node is called now with renames={"old": "new"}')
    if any(change.subject == "call" for change in refused.of("pending")):
        advice.append("give the tool back as it was, or go back before the call (rewind, fork)")
    others = sorted({change.kind for change in refused.changes if (change.kind, change.subject) != ("pending", "node")})
    if others:
        words = ", ".join(f'"{kind}": "warn"' for kind in others)
        advice.append(f"let it pass with on_change={{{words}}}")
    return f"Nothing was run. To go on: {'; '.join(advice)}."


def _outside() -> int:
    """How many calls up the app is, for `warnings.warn`."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _INSIDE:
        frame, level = frame.f_back, level + 1
    return level
