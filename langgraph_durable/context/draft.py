"""A conversation while it is being compressed: units that stay whole, what each costs, and how much is still too much.

A unit is a message of a model together with the results of all its tool calls, or any other single message. The leading
system messages and what is pinned are never touched; the request that is being worked on and the newest unit stay, and
only the last resort shortens them. Messages are never changed: an edit is noted beside its message, and a copy is made
for what is left in the end.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from functools import lru_cache
from typing import Any, Literal, TypeAlias

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage

from langgraph_durable.context.calls import called
from langgraph_durable.context.marks import mark_of
from langgraph_durable.core.messages import altered
from langgraph_durable.errors import InvalidRequestError

SOURCE, SUMMARY = "lc_source", "summarization"
"""How LangChain marks a message that is a summary, in its `additional_kwargs`."""

EDITED = "context_editing"
"""Where LangChain notes, in the `response_metadata` of a message, that it is not as it was said."""

_PAIRED = frozenset({"tool_calls", "invalid_tool_calls", "tool_call_id"})
"""The fields by which calls and their results know each other."""

Kind: TypeAlias = Literal["system", "human", "ai", "summary", "other"]
Pin: TypeAlias = "Callable[[BaseMessage], bool] | Collection[str]"


def is_summary(message: BaseMessage) -> bool:
    """Whether a message stands for others that it summarises, ours or LangChain's."""
    return message.additional_kwargs.get(SOURCE) == SUMMARY


def is_request(message: BaseMessage) -> bool:
    """Whether a message is one of the user."""
    return isinstance(message, HumanMessage) and not is_summary(message)


class Entry:
    """One message in a draft: `said` as it was given, `message` as it is to be sent, `cost` of that.

    What is `pinned` is never edited.
    """

    __slots__ = ("_made", "changes", "cost", "labels", "pinned", "said")

    def __init__(self, said: BaseMessage, cost: int) -> None:
        self.said = said
        self.cost = cost
        self.pinned = False
        self.changes: dict[str, Any] = {}
        self.labels: tuple[str, ...] = ()
        self._made: BaseMessage | None = said

    @property
    def message(self) -> BaseMessage:
        """The message with the edits that were made so far."""
        if self._made is None:
            fields = {**vars(self.said), **self.changes}
            how = {"cleared": True, "strategy": self.labels[-1], "mark": mark_of(fields)}
            metadata = {**fields["response_metadata"], EDITED: how}
            self._made = altered(self.said, {**self.changes, "response_metadata": metadata})
        return self._made

    @property
    def content(self) -> Any:
        """The content of `message`, for which no copy has to be made."""
        return self.changes.get("content", self.said.content)

    def edit(self, changes: dict[str, Any], label: str) -> None:
        """Note an edit. It is the draft that counts it."""
        self.changes = {**self.changes, **changes}
        self.labels = (*self.labels, label) if label not in self.labels else self.labels
        self._made = None


class Unit:
    """What stays or goes as a whole: all that is `fixed` or `kept` stays, and what is kept the last resort may edit."""

    __slots__ = ("entries", "fixed", "gone", "kept", "kind")

    def __init__(self, kind: Kind, entries: list[Entry]) -> None:
        self.kind = kind
        self.entries = entries
        self.fixed = False
        self.kept = False
        self.gone = False

    @property
    def cost(self) -> int:
        """What it takes of the budget."""
        total = 0
        for entry in self.entries:
            total += entry.cost
        return total


class Draft:
    """The conversation in units, oldest first, and the way to shorten it; stages work on nothing else.

    Sizes are in tokens, or in messages where the budget is one of messages: `unit` says which. `shrinks` is whether
    what has to stay will be shortened where there is no other way, `beside` what is sent and is no message.
    """

    def __init__(
        self,
        messages: Sequence[BaseMessage],
        costs: Sequence[int],
        *,
        budget: int,
        target: int,
        pin: Pin,
        cost_of: Callable[[BaseMessage], int],
        beside: int = 0,
        unit: Literal["tokens", "messages"] = "tokens",
        shrinks: bool = False,
    ) -> None:
        self.unit = unit
        self.shrinks = shrinks
        self.budget = budget
        self.target = target
        self.cost_of = cost_of
        self.beside = beside
        self.tokens = sum(costs) + beside
        self.calls: int = 0
        self.failures: list[str] = []
        self.summarized: list[str] = []
        self.dropped: list[str] = []
        self._units = _united(messages, costs)
        self._greeted = next((unit.kind == "ai" for unit in self._units if unit.kind != "system"), False)
        self._keep(pin)

    @property
    def excess(self) -> int:
        """How many tokens there are above the target, which is where stages stop."""
        return self.tokens - self.target

    @property
    def over(self) -> int:
        """How many tokens there are above the budget, which nothing may be in the end."""
        return self.tokens - self.budget

    @property
    def units(self) -> list[Unit]:
        """Every unit that is still there, oldest first."""
        return [unit for unit in self._units if not unit.gone]

    def open(self) -> Iterator[Unit]:
        """The units that a stage may drop or fold, oldest first."""
        return (unit for unit in self._units if not (unit.gone or unit.fixed or unit.kept))

    def editable(self, kind: type[BaseMessage] = BaseMessage) -> Iterator[Entry]:
        """The messages of a kind that a stage may edit, oldest first: also those beside a pinned one in its unit."""
        for unit in self._units:
            if not (unit.gone or unit.kept):
                for entry in unit.entries:
                    if not entry.pinned and _is_a(type(entry.said), kind):
                        yield entry

    def kept(self) -> list[Entry]:
        """The messages of units that stay: of the request, of the newest unit, and what stands beside a pinned one."""
        staying = [unit for unit in self._units if unit.kept or unit.fixed]
        return [entry for unit in staying for entry in unit.entries if not entry.pinned]

    def edit(self, entry: Entry, label: str, **changes: Any) -> bool:
        """Change fields of a message, if that makes it cost less; whether it did.

        `label` is what the report calls it.
        """
        unknown = changes.keys() - type(entry.said).model_fields.keys()
        if unknown:
            raise InvalidRequestError(
                f"a stage edits {', '.join(sorted(unknown))}, which a {entry.said.type} message has not"
            )
        if entry.pinned:
            raise InvalidRequestError("a stage edits a message that is pinned: take messages from draft.editable()")
        made = altered(entry.said, {**entry.changes, **changes})
        if not _PAIRED.isdisjoint(changes) and called(made) != called(entry.said):
            raise InvalidRequestError(
                f"a stage edits which tool calls a {made.type} message makes or answers: their results would have no "
                "call, or calls no result; shorten the arguments of calls, or drop the unit"
            )
        cost = self.cost_of(made)
        if cost >= entry.cost:
            return False
        entry.edit(changes, label)
        self.tokens += cost - entry.cost
        entry.cost = cost
        return True

    def drop(self, unit: Unit) -> None:
        """Leave a unit out."""
        self._check(unit)
        unit.gone = True
        for entry in unit.entries:
            self.tokens -= entry.cost
            self.dropped.append(entry.said.id or "")

    def fold(self, units: Sequence[Unit], summary: BaseMessage) -> None:
        """Put one message in the place of units: a summary, under the id of the first message that it stands for."""
        if not units:
            raise InvalidRequestError("a stage folds no units into a message, which has no place then")
        for unit in units:
            self._check(unit)
        place = self._units.index(units[0])
        for unit in units:
            unit.gone = True
            self.tokens -= unit.cost
            self.summarized += [entry.said.id or "" for entry in unit.entries]
        marks = {**summary.additional_kwargs, SOURCE: SUMMARY}
        summary = altered(summary, {"id": units[0].entries[0].said.id, "additional_kwargs": marks})
        made = Entry(summary, self.cost_of(summary))
        self.tokens += made.cost
        self._units.insert(place, Unit("summary", [made]))

    def align(self) -> None:
        """Drop what answers a request that is no longer there: a conversation that begins in the middle of a turn."""
        for unit in self._units:
            if unit.gone or unit.kind == "system":
                continue
            if unit.kind != "ai" or unit.fixed or unit.kept or self._greeted:
                return
            self.drop(unit)

    def messages(self) -> list[BaseMessage]:
        """The conversation as it is now."""
        return [entry.message for unit in self._units if not unit.gone for entry in unit.entries]

    def edits(self) -> dict[str, tuple[str, ...]]:
        """The ids of the messages that are there and were edited, by what was done."""
        found: dict[str, list[str]] = {}
        for unit in self._units:
            if not unit.gone:
                for entry in unit.entries:
                    for label in entry.labels:
                        found.setdefault(label, []).append(entry.said.id or "")
        return {label: tuple(ids) for label, ids in found.items()}

    def _check(self, unit: Unit) -> None:
        if unit.fixed or unit.kept or unit.gone:
            why = "was left out before" if unit.gone else "has to stay"
            raise InvalidRequestError(f"a stage leaves a unit out that {why}: take units from draft.open()")

    def _keep(self, pin: Pin) -> None:
        for unit in self._units:
            for entry in unit.entries:
                if (
                    unit.kind == "system"
                    or (callable(pin) and pin(entry.said))
                    or (not callable(pin) and entry.said.id in pin)
                ):
                    entry.pinned = unit.fixed = True
        if self._units:
            self._units[-1].kept = True
        place = next(
            (place for place in range(len(self._units) - 1, -1, -1) if self._units[place].kind == "human"), None
        )
        if place is None:
            return
        # A request may come in several messages; many messages in a row are no request.
        self._units[place].kept = True
        staying = self.beside + sum(unit.cost for unit in self._units if unit.fixed or unit.kept)
        room = min(self.target // 4 - self._units[place].cost, self.budget - staying)
        while place > 0 and self._units[place - 1].kind == "human" and self._units[place - 1].cost <= room:
            place -= 1
            self._units[place].kept = True
            room -= self._units[place].cost


def _united(messages: Sequence[BaseMessage], costs: Sequence[int]) -> list[Unit]:
    units: list[Unit] = []
    calling: list[Entry] | None = None
    leading = True
    for message, cost in zip(messages, costs, strict=True):
        entry = Entry(message, cost)
        form = type(message)
        if calling is not None and _is_a(form, ToolMessage):
            calling.append(entry)
            continue
        leading = leading and _is_a(form, SystemMessage)
        unit = Unit("system" if leading else _kind(message, form), [entry])
        units.append(unit)
        calling = unit.entries if unit.kind == "ai" else None
    return units


def _kind(message: BaseMessage, form: type[BaseMessage]) -> Kind:
    if _is_a(form, AIMessage):
        return "ai"
    if is_summary(message):
        return "summary"
    return "human" if _is_a(form, HumanMessage) else "other"


_is_a = lru_cache(issubclass)
"""`issubclass`, which asks the classes of messages at length whenever the answer is no."""
