"""What keeping a conversation inside a budget costs and saves, beside what LangChain offers for the same.

    python -m benchmarks.context                       everything, about a minute
    python -m benchmarks.context session --markdown    one part of it, as it stands in a README

`times` is how long a look and a compression take, and that ten times as many messages take ten times as long;
`session` what 150 calls of a model take with and without compression; `peers` whether what is sent keeps its budget,
is valid, and has what was asked. No model is called and nothing is sent anywhere; the seconds of one machine are not
those of another, all else is the same everywhere.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import random
import re
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain, cycle, islice
from pathlib import Path
from typing import Any, NamedTuple

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AnyMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.messages.utils import count_tokens_approximately, trim_messages
from langchain_core.outputs import ChatGeneration, ChatResult
from langgraph.graph.message import add_messages
from pydantic import Field

from benchmarks.conversations import add_transcripts_option, conversations
from benchmarks.environment import commit_seconds, environment
from benchmarks.report import Table
from langgraph_durable.context import (
    ClearToolResults,
    DropMedia,
    DropOldest,
    Shrink,
    Stage,
    Summarize,
    TruncateToolArguments,
    compress_messages,
    count_tokens,
)

Messages = list[AnyMessage]
Section = tuple[Table, str]
"""A table, and what has to be known to read it."""

BUDGETS = 4_000, 6_000, 8_000


RECORDED = 100
"""Conversations that a long thread is made of, again and again if need be."""


def long_thread(length: int, transcripts: Path | None) -> Messages:
    """Conversations one behind the other under one system message, of so many messages or a few less.

    Each has an id of its own, and the last is a request.
    """
    said = [message for one in conversations(RECORDED, transcripts) for message in one]
    rest = cycle(message for message in said if not isinstance(message, SystemMessage))
    first = said[:1] if isinstance(said[0], SystemMessage) else []
    places = enumerate(islice(chain(first, rest), length))
    made = [message.model_copy(update={"id": f"message {place}"}) for place, message in places]
    last = max(place for place, message in enumerate(made) if isinstance(message, HumanMessage))
    return made[: last + 1]


class Sums(BaseChatModel):
    """A model that sums up in as many words as it is asked for, and keeps what it was asked."""

    asked: list[int] = Field(default_factory=list)
    said: list[int] = Field(default_factory=list)

    @property
    def _llm_type(self) -> str:
        return "sums up"

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        words = re.search(r"at most (\d+) words", str(messages[-1].content))
        answer = AIMessage("asked, " * int(words[1] if words else 300))
        self.asked.append(count_tokens(messages))
        self.said.append(count_tokens([answer]))
        return ChatResult(generations=[ChatGeneration(message=answer)])


def stages(model: BaseChatModel | None) -> list[Stage]:
    """All stages, with a model that sums up where there is one."""
    cheap: list[Stage] = [ClearToolResults(), TruncateToolArguments(), DropMedia()]
    return [*cheap, *([Summarize(model)] if model is not None else []), DropOldest(), Shrink()]


# -- how long it takes -----------------------------------------------------------------------------------------------

PASSES = 100, 30
"""How often each is done with 1,000 and with 10,000 messages, in turns, so that a busy machine is so for all alike."""


class Timed(NamedTuple):
    """A compression; the bars are milliseconds for 1,000 and for 10,000 messages, where there are any."""

    name: str
    budget: Callable[[Messages], int]
    bars: tuple[float, float] | None = None
    fresh: bool = False


def _all(messages: Messages) -> int:
    return count_tokens(messages)


def _less(messages: Messages) -> int:
    return count_tokens(messages) - 1


def _little(messages: Messages) -> int:
    return BUDGETS[0]


TIMED = (
    Timed("nothing to do", _all, (1, 10)),
    Timed("compressed to half", _less, (12, 150)),
    Timed(f"compressed to {BUDGETS[0]:,} tokens", _little, (12, 150)),
    Timed("the same, of messages that are seen for the first time", _little, fresh=True),
)


def times(transcripts: Path | None, factor: float) -> Section:
    """The best and the median time of each, and how much longer it takes with ten times as many messages."""
    sizes = 1_000, 10_000
    threads = [long_thread(size, transcripts) for size in sizes]
    passes = [max(3, int(number * factor)) for number in PASSES]
    order = sorted((number / passes[size], size) for size in (0, 1) for number in range(passes[size]))
    rows = []
    for timed in TIMED:
        found: tuple[list[float], list[float]] = ([], [])
        budgets = [timed.budget(messages) for messages in threads]
        for _, size in order:
            messages = threads[size]
            if timed.fresh:
                messages = [message.model_copy() for message in messages]
            begin = time.thread_time()
            compress_messages(messages, budget=("tokens", budgets[size]))
            found[size].append(1e3 * (time.thread_time() - begin))
        best, middle = [min(one) for one in found], [statistics.median(one) for one in found]
        for size in (0, 1):
            name = timed.name if size == 0 else ""
            bar = f"{timed.bars[size]:g} ms" if timed.bars else ""
            rows.append([name, f"{sizes[size]:,}", f"{best[size]:.2f} ms", f"{middle[size]:.2f} ms", bar])
        ratios = [f"{one[1] / one[0]:.1f} times" for one in (best, middle)]
        rows.append(["", "10,000 / 1,000", *ratios, "10 times"])
    note = f"Processor time, best and median of {passes[0]} and {passes[1]} passes."
    return Table(["", "messages", "best", "median", "bar"], rows, frozenset({1, 2, 3, 4})), note


# -- what it saves ---------------------------------------------------------------------------------------------------

CALLS = 150
TOKENS, COST = 0.30, 0.48
LEAST_CACHED = 1_024
"""Providers keep no beginning of a prompt that is shorter."""


class Price(NamedTuple):
    """What a million tokens cost: new ones, those read from the cache, and those of the answer."""

    new: float
    cached: float
    output: float


PRICES = {
    "cached 50 %": (Price(2.50, 1.25, 10.0), Price(0.15, 0.075, 0.60)),
    "cached 25 %": (Price(2.00, 0.50, 8.00), Price(0.40, 0.10, 1.60)),
    # All that is not read from the cache is written to it, at 125 % of 3.
    "cached 10 %, written 125 %": (Price(3.75, 0.30, 15.0), Price(1.00, 0.10, 5.00)),
}
"""The prices of a model, and of the one that sums up."""


class Spent(NamedTuple):
    """The tokens of a session, and how often it was compressed and a summary was asked for."""

    sent: int
    cached: int
    output: int
    told: int = 0
    summed: int = 0
    compressed: int = 0
    summaries: int = 0

    def cost(self, prices: tuple[Price, Price]) -> float:
        """The cost, with that of the summaries, in millionths."""
        main, sums = prices
        read = (self.sent - self.cached) * main.new + self.cached * main.cached
        return read + self.output * main.output + self.told * sums.new + self.summed * sums.output


def held(script: Sequence[AnyMessage], budget: int | None, model: Sums | None = None) -> Spent:
    """Hold a session of `CALLS` calls, with messages kept in a state and compressed before each; None is without."""
    state: Any = []
    add: Any = add_messages
    sent: Sequence[AnyMessage] = ()
    kept: Any = None
    total = cached = output = compressed = calls = 0
    chosen = stages(model)
    for message in script:
        if isinstance(message, AIMessage):
            if budget is not None:
                done = compress_messages(state, budget=("tokens", budget), stages=chosen, state=kept)
                state, kept = add(state, done.update), done.state
                compressed += done.report.compressed
            size, answer = count_tokens(state), count_tokens([message])
            total, output, calls = total + size, output + answer, calls + 1
            cached += _shared(sent, state)
            sent = state
            if calls == CALLS:
                break
            # As the provider says it: the estimate is taken for its count here.
            told = {"input_tokens": size, "output_tokens": answer, "total_tokens": size + answer}
            message = message.model_copy(update={"usage_metadata": told})
        state = add(state, [message])
    if model is None:
        return Spent(total, cached, output, compressed=compressed)
    return Spent(total, cached, output, sum(model.asked), sum(model.said), compressed, len(model.asked))


def _shared(before: Sequence[BaseMessage], after: Sequence[BaseMessage]) -> int:
    """The tokens that two prompts begin with alike."""
    length = 0
    for one, other in zip(before, after, strict=False):
        if one is not other and one != other:
            break
        length += count_tokens([other])
    return length if length >= LEAST_CACHED else 0


def session(transcripts: Path | None, factor: float) -> Section:
    """What is left of the input, and of the cost, at each budget and kind of price."""
    script = long_thread(4 * CALLS, transcripts)
    plain = held(script, None)
    rows = []
    for budget in BUDGETS:
        for model in (None, Sums()):
            less = held(script, budget, model)
            costs = [f"{less.cost(prices) / plain.cost(prices):.2f}" for prices in PRICES.values()]
            times = f"{less.compressed} ({less.summaries})" if model else str(less.compressed)
            name = f"{budget:,} tokens, {'summed up' if model else 'dropped'}"
            rows.append([name, f"{(less.sent + less.told) / plain.sent:.2f}", *costs, times])
    rows.append(["bar, at the first budget", f"{TOKENS:.2f}", *[f"{COST:.2f}"] * len(PRICES), ""])
    headings = ["budget", "input", *(f"cost, {name}" for name in PRICES), "compressions"]
    note = (
        f"{CALLS} calls, {plain.sent:,} tokens of input without compression, {plain.cached / plain.sent:.0%} of them "
        "from the provider's cache.\nShares of that, with what the summaries take; in brackets how many were paid for."
    )
    return Table(headings, rows, frozenset(range(1, len(headings)))), note


# -- beside others ---------------------------------------------------------------------------------------------------

Sent = Sequence[BaseMessage]
Peer = Callable[[SystemMessage, Messages], Sent]
"""What a model is sent of a conversation."""

HISTORY = 20_000
"""About how many tokens a history has."""


class Hears(BaseChatModel):
    """A model that keeps what it was sent."""

    heard: list[BaseMessage] = Field(default_factory=list)

    @property
    def _llm_type(self) -> str:
        return "hears"

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        return self

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        self.heard = messages
        return ChatResult(generations=[ChatGeneration(message=AIMessage("Done."))])


def histories(number: int, transcripts: Path | None) -> Iterator[tuple[SystemMessage, Messages]]:
    """Random histories that end where a model is called; in half of them it has worked long on the last request."""
    system, *rest = long_thread(2_500, transcripts)
    assert isinstance(system, SystemMessage)
    requests = [place for place, one in enumerate(rest) if isinstance(one, HumanMessage)]
    for seed in range(number):
        dice = random.Random(f"history {seed}")
        start = dice.choice(requests[: len(requests) // 2])
        made: Messages = []
        size = 0
        for message in rest[start:]:
            # The model is asked after a request and after the results of tools.
            if size > HISTORY and isinstance(message, AIMessage) and made[-1].type != "ai":
                break
            made.append(message)
            size += count_tokens([message])
        if dice.random() < 0.5:
            last = max(place for place, one in enumerate(made) if isinstance(one, HumanMessage))
            uses = list(_uses(made[:last]))[: dice.randint(5, 60)]
            again = [one.model_copy(update={"id": f"again {one.id}"}) for use in uses for one in use]
            made = [*made[: last + 1], *again]
        yield system, made


def _uses(messages: Sequence[AnyMessage]) -> Iterator[Messages]:
    """Messages that call tools, with the results."""
    for place, message in enumerate(messages):
        if isinstance(message, AIMessage) and message.tool_calls:
            end = place + 1 + len(message.tool_calls)
            if all(isinstance(one, ToolMessage) for one in messages[place + 1 : end]) and end <= len(messages):
                yield list(messages[place:end])


def _agent(middleware: Callable[[], Any]) -> Peer:
    """What the model of an agent is sent that has a middleware."""

    def send(system: SystemMessage, messages: Messages) -> Sent:
        from langchain.agents import create_agent

        model = Hears()
        agent: Any = create_agent(model, [], system_prompt=system, middleware=[middleware()])
        agent.invoke({"messages": messages})
        return model.heard

    return send


def _peers(budget: int) -> Mapping[str, Peer]:
    """The ways to keep a budget, each given the same counter of tokens."""

    def trimmed(**options: Any) -> Peer:
        return lambda system, messages: trim_messages(
            [system, *messages], max_tokens=budget, token_counter=count_tokens_approximately, **options
        )

    peers: dict[str, Peer] = {
        'trim_messages(strategy="last")': trimmed(strategy="last"),
        "trim_messages, as documented": trimmed(
            strategy="last", start_on="human", end_on=("human", "tool"), include_system=True
        ),
    }
    if importlib.util.find_spec("langchain") is not None:
        from langchain.agents.middleware import ClearToolUsesEdit, ContextEditingMiddleware, SummarizationMiddleware

        from langgraph_durable.context import ContextMiddleware

        counter = count_tokens_approximately
        peers["SummarizationMiddleware"] = _agent(
            lambda: SummarizationMiddleware(Sums(), trigger=("tokens", budget), token_counter=counter)
        )
        peers["ContextEditingMiddleware"] = _agent(
            lambda: ContextEditingMiddleware(edits=[ClearToolUsesEdit(trigger=budget)], token_counter=counter)
        )
        peers["ContextMiddleware"] = _agent(
            lambda: ContextMiddleware(budget=("tokens", budget), stages=stages(Sums()), token_counter=counter)
        )
    peers["compress_messages"] = lambda system, messages: (
        compress_messages(
            [system, *messages], budget=("tokens", budget), token_counter=count_tokens_approximately
        ).messages
    )
    return peers


def peers(transcripts: Path | None, factor: float) -> Section:
    """How often each sends what is too long, what providers refuse, or what lacks the request."""
    number, budget = max(1, int(200 * factor)), BUDGETS[0]
    given = list(histories(number, transcripts))
    rows = []
    for name, peer in _peers(budget).items():
        over = torn = lost = gone = 0
        begin = time.thread_time()
        for system, messages in given:
            sent = peer(system, messages)
            over += count_tokens_approximately(sent) > budget
            torn += not _paired(sent)
            asked = [message for message in messages if isinstance(message, HumanMessage)][-1]
            lost += all(message.content != asked.content for message in sent)
            gone += all(message.content != system.content for message in sent)
        seconds = (time.thread_time() - begin) / number
        rows.append([name, str(over), str(torn), str(lost), str(gone), f"{seconds * 1e3:.1f} ms"])
    headings = [f"of {number} histories", "over budget", "broken pairs", "request lost", "system lost", "each took"]
    tokens = statistics.median(count_tokens_approximately([system, *messages]) for system, messages in given)
    note = (
        f"Valid histories of some {tokens:,.0f} tokens, at a budget of {budget:,}, all with count_tokens_approximately."
    )
    return Table(headings, rows, frozenset(range(1, len(headings)))), note


def _paired(messages: Sent) -> bool:
    """Whether each call of a tool has its result right behind it, and each result its call."""
    waiting: set[str | None] = set()
    for message in messages:
        if isinstance(message, ToolMessage):
            if message.tool_call_id not in waiting:
                return False
            waiting.remove(message.tool_call_id)
            continue
        if waiting:
            return False
        waiting = {call["id"] for call in message.tool_calls} if isinstance(message, AIMessage) else set()
    return not waiting


# -- the command -----------------------------------------------------------------------------------------------------

PARTS: Mapping[str, Callable[[Path | None, float], Section]] = {"times": times, "session": session, "peers": peers}


BESIDE = Path(__file__).resolve().parents[2] / "shared" / "transcripts"
"""Where recorded conversations are taken from, as by the tests, when no others are named."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.context", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; default: all of them")
    parser.add_argument(
        "--factor", type=float, default=1.0, help="so many times as many passes and histories; default: %(default)s"
    )
    add_transcripts_option(parser)
    parser.add_argument("--markdown", action="store_true", help="print the tables as markdown")
    args = parser.parse_args(arguments)
    unknown = set(args.parts) - set(PARTS)
    if unknown:
        parser.error(f"{', '.join(unknown)}: choose from {', '.join(PARTS)}")
    # A tracer that the user's shell turns on would be timed as well, and would send the messages out.
    os.environ.update(LANGSMITH_TRACING="false", LANGCHAIN_TRACING_V2="false")
    before = commit_seconds()
    transcripts = args.transcripts or (BESIDE if any(BESIDE.glob("*.jsonl")) else None)
    for name in args.parts or PARTS:
        table, note = PARTS[name](transcripts, args.factor)
        print(table.markdown() if args.markdown else table.text(), note, sep="\n\n", end="\n\n")
    print(
        "Recorded conversations." if transcripts else "Made-up conversations.", environment([before, commit_seconds()])
    )


if __name__ == "__main__":
    main()
