"""What is done about a difference: told as a warning, refused, let pass, or decided by the app."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Mapping
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


def checked(on_change: OnChange) -> OnChange:
    """The same, if it can be used; else InvalidRequestError."""
    decisions = on_change if isinstance(on_change, Mapping) else {"tools": on_change}
    for kind, decision in decisions.items():
        if kind not in KINDS:
            raise InvalidRequestError(f"on_change knows the kinds {', '.join(KINDS)}, and not {kind!r}")
        if not callable(decision) and decision not in get_args(Word):
            raise InvalidRequestError(
                f"on_change must be 'warn', 'raise', 'ignore' or a function, for all or by kind, and not {decision!r}"
            )
    return on_change


def settle(report: EnvironmentReport, on_change: OnChange) -> None:
    """Return when the thread may go on; EnvironmentChangedError when it may not.

    One decision is for all kinds but `pending`, which is refused unless it has one of its own. A function is given the
    report of what it decides about, once; what it returns is done, and nothing for None.
    """
    words: dict[str, Word] = {}
    asked: dict[int, tuple[Callable[[EnvironmentReport], Word | None], list[str]]] = {}
    for kind in sorted(report.kinds):
        decision = _decision(kind, on_change)
        if callable(decision):
            asked.setdefault(id(decision), (decision, []))[1].append(kind)
        else:
            words[kind] = decision
    for function, kinds in asked.values():
        word = function(report.only(kinds))
        if word is not None and word not in get_args(Word):
            raise InvalidRequestError(f"on_change returned {word!r}; it is to be 'warn', 'raise', 'ignore' or None")
        words.update(dict.fromkeys(kinds, word or "ignore"))
    refused = report.only([kind for kind, word in words.items() if word == "raise"])
    if refused:
        raise EnvironmentChangedError(f"{refused}\n{_advice(refused)}", report=report)
    told = report.only([kind for kind, word in words.items() if word == "warn"])
    if told:
        log.warning("%s", told)
        warnings.warn(EnvironmentChangedWarning(str(told), report=told), stacklevel=3)


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
    advice.append('let it pass with on_change={"KIND": "warn"}')
    return f"Nothing was run. To go on: {'; '.join(advice)}."
