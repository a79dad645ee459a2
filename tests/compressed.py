"""What has to hold for a compressed conversation, whatever it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pytest
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.messages.utils import count_tokens_approximately
from langgraph.channels.delta import DeltaChannel
from langgraph.graph.message import _messages_delta_reducer, add_messages

from langgraph_durable.context import Compressed, compress_messages, count_tokens, repair_messages
from langgraph_durable.errors import ContextBudgetError
from tests.validity import call_ids, formatted, unpaired

Messages = list[BaseMessage]
Size = tuple[Any, int]

BUDGETS = (1_500, 4_000, 8_000, 16_000)
SEEDS, ALL_SEEDS, CHUNK = 25, 1_000, 25
"""Conversations that every run looks at; those of the long test; those in memory at once."""

CHUNKS = [
    pytest.param(range(start, start + CHUNK), id=f"seeds {start}-", marks=() if start < SEEDS else pytest.mark.soak)
    for start in range(0, ALL_SEEDS, CHUNK)
]


def with_ids(messages: Messages) -> Messages:
    """The messages, each under an id."""
    for place, message in enumerate(messages):
        message.id = message.id or f"m{place}"
    return messages


# -- what has to stay ------------------------------------------------------------------------------------------------


def text_of(message: BaseMessage) -> str:
    """The text of a message, without media."""
    if isinstance(message.content, str):
        return message.content
    parts = [block if isinstance(block, str) else block.get("text") for block in message.content]
    return "".join(part for part in parts if isinstance(part, str))


def is_summary(message: BaseMessage) -> bool:
    return message.additional_kwargs.get("lc_source") == "summarization"


def instructions(messages: Sequence[BaseMessage]) -> Messages:
    """The system messages at the head."""
    found: Messages = []
    for message in messages:
        if not isinstance(message, SystemMessage):
            break
        found.append(message)
    return found


def request(messages: Sequence[BaseMessage]) -> BaseMessage | None:
    """The last message of the user."""
    asked = [message for message in messages if isinstance(message, HumanMessage) and not is_summary(message)]
    return asked[-1] if asked else None


def newest(messages: Sequence[BaseMessage]) -> Messages:
    """The last message, or the last one of the model with the results of its calls."""
    unit: Messages = []
    for message in reversed(messages):
        if isinstance(message, SystemMessage):
            break
        unit.insert(0, message)
        if not isinstance(message, ToolMessage):
            break
    return unit


def kept(messages: Sequence[BaseMessage]) -> Messages:
    """All that has to stay of a conversation that is in order."""
    asked, unit = request(messages), newest(messages)
    middle = [asked] if asked is not None and all(asked is not message for message in unit) else []
    return [*instructions(messages), *middle, *unit]


def shortest(message: BaseMessage) -> BaseMessage:
    """A message of which every text is down to a beginning: what no way of shortening texts gets below."""
    if isinstance(message, SystemMessage):
        return message
    short = message.model_copy(update={"content": _cut(message.content, 200)})
    if isinstance(short, AIMessage):
        short.tool_calls = [{**call, "args": _cut(call["args"], 100)} for call in short.tool_calls]
    return short


def _cut(value: Any, length: int) -> Any:
    if isinstance(value, str):
        return value[:length]
    if isinstance(value, list):
        return [_cut(each, length) for each in value]
    if isinstance(value, dict):
        media = ("image_url", "base64", "source", "data")
        return {key: each if key in media else _cut(each, length) for key, each in value.items()}
    return value


# -- what a graph makes of it -----------------------------------------------------------------------------------------


def merged(state: Sequence[BaseMessage], update: Sequence[BaseMessage]) -> Messages:
    """The state after an update, by the reducer of `MessagesState`."""
    made: Any = add_messages(list(state), list(update))  # type: ignore[arg-type]  # its lists are of a union of messages
    return list(made)


def replayed(state: Sequence[BaseMessage], update: Sequence[BaseMessage]) -> Messages:
    """The state after an update, in a channel that keeps updates and reduces them all when it is read."""
    reducer: Any = _messages_delta_reducer
    channel: Any = DeltaChannel(reducer, list).from_checkpoint(None)
    channel.replay_writes([("task", "messages", list(state)), ("task", "messages", list(update))])
    live: Any = DeltaChannel(reducer, list).from_checkpoint(None)
    live.update([list(state)])
    live.update([list(update)])
    assert channel.get() == live.get()
    return list(live.get())


def calls_of_a_model(messages: Messages) -> Iterator[tuple[int, int]]:
    """A conversation as a graph's state grows: what is there when the model is called, after the call before."""
    last = 0
    for place, message in enumerate(messages):
        if isinstance(message, AIMessage) and place > last:
            yield last, place
            last = place


# -- what is looked at -----------------------------------------------------------------------------------------------


@dataclass
class Case:
    """A conversation that was compressed, or could not be."""

    name: str
    given: Messages
    ready: Messages
    """The same, repaired."""
    budget: Size
    options: dict[str, Any]
    done: Compressed | None
    error: ContextBudgetError | None
    rich: bool
    """Whether this one is looked at in costly ways too."""
    kept: Messages = field(default_factory=list)
    shrunk: set[str] = field(default_factory=set)
    """Ids of messages that were shortened at an earlier call."""
    spare: float = 0
    """What of the budget may be left free."""

    def size(self, messages: Sequence[BaseMessage]) -> int:
        """How large messages are, in the unit of the budget."""
        return len(messages) if self.budget[0] == "messages" else self.options["token_counter"](list(messages))

    @property
    def result(self) -> Compressed:
        assert self.done is not None
        return self.done

    @property
    def tight(self) -> bool:
        """Whether what has to stay is above the budget by itself."""
        return self.size(self.kept) + self.spare > self.budget[1]


def examined(name: str, given: Messages, *, rich: int | None, plain: bool = False) -> Iterator[Case]:
    """A conversation at every budget; `rich` is the place of the one that is looked at in costly ways, None is all."""
    ready = repair_messages(given)
    must_stay = kept(ready)
    asked: list[tuple[Size, dict[str, Any]]] = [(("tokens", size), {"token_counter": count_tokens}) for size in BUDGETS]
    if not plain:
        place = len(given) % len(BUDGETS)
        asked.append((("tokens", BUDGETS[place]), {"token_counter": count_tokens_approximately}))
        asked.append((("messages", (3, 8, 20, 60)[place]), {"token_counter": count_tokens}))
    for number, (budget, options) in enumerate(asked):
        done, error = None, None
        try:
            done = compress_messages(given, budget=budget, **options)
        except ContextBudgetError as raised:
            error = raised
        looked = rich is None or number == rich
        label = f"{name}, {budget}, {options['token_counter'].__name__}"
        yield Case(label, given, ready, budget, options, done, error, looked, must_stay)


class Chunk(NamedTuple):
    """Some conversations at every budget, and what they were before."""

    cases: list[Case]
    before: dict[str, tuple[Messages, Messages]]
    """By name: a conversation, and one like it that was not compressed."""

    def done(self) -> Iterator[Case]:
        """Those that could be compressed."""
        found = [case for case in self.cases if case.done is not None]
        assert len(found) > len(self.cases) / 2
        return iter(found)

    def named(self) -> Iterator[Case]:
        """Those of them whose messages all have an id."""
        return (case for case in self.done() if all(message.id for message in case.ready))


def chunk(make: Callable[[], dict[str, Messages]], *, all_rich: bool, plain: bool = False) -> Chunk:
    """What `make` makes, at every budget; it is called twice, since what it made first is not to be changed."""
    conversations, again = make(), make()
    looks = len(BUDGETS) + (0 if plain else 2)
    cases = [
        case
        for number, (name, messages) in enumerate(conversations.items())
        for case in examined(name, messages, rich=None if all_rich else number % looks, plain=plain)
    ]
    return Chunk(cases, {name: (messages, again[name]) for name, messages in conversations.items()})


def check_budget(case: Case) -> None:
    """The size is within the budget, and is what the report says."""
    assert case.size(case.result.messages) <= case.budget[1], case.name
    assert case.result.report.tokens_after == case.size(case.result.messages), case.name


def check_requests(case: Case) -> None:
    """Every provider's package makes a request of it, and calls and results are paired there."""
    if not case.rich:
        return
    try:
        requests = formatted(case.result.messages)
    except Exception as error:
        raise AssertionError(f"{case.name}: {error!r}") from error
    assert unpaired(requests) == [], case.name


def check_instructions(case: Case) -> None:
    """The system messages are at the head, as they were."""
    before = instructions(case.ready)
    assert instructions(case.result.messages) == before, case.name


def check_kept(case: Case, before: BaseMessage, after: BaseMessage) -> None:
    """A message is there, whole, or with its beginning where what has to stay is above the budget."""
    at = f"{case.name}\n{before!r:.600}\n{after!r:.600}"
    if not case.tight and before.id not in case.shrunk:
        assert after == before, f"was edited: {at}"
    assert (after.type, after.id, call_ids(after)) == (before.type, before.id, call_ids(before)), at
    assert getattr(after, "tool_call_id", None) == getattr(before, "tool_call_id", None), at
    assert text_of(before)[:16] in text_of(after), at


def check_newest(case: Case) -> None:
    """The newest unit is at the end, with all its results."""
    unit = newest(case.ready)
    for before, after in zip(unit, case.result.messages[-len(unit) :] if unit else (), strict=True):
        check_kept(case, before, after)


def check_request(case: Case) -> None:
    """The current request is there."""
    asked = request(case.ready)
    if asked is not None:
        left = request(case.result.messages)
        assert left is not None, case.name
        check_kept(case, asked, left)
