"""Long sessions of real clients with a server that refuses what OpenAI refuses: compressed, they are never refused.

A `Session` is what is asked, answered and looked up; `Script` is the server's part of it. An app compresses in a node
of its own graph, in a `pre_model_hook`, or in the middleware of `create_agent`.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeAlias

import openai
import pytest
from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
    convert_to_openai_messages,
)
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langchain_core.tools import BaseTool, InjectedToolCallId, tool
from langchain_core.utils.function_calling import convert_to_openai_tool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.managed import RemainingSteps
from langgraph.prebuilt import ToolNode, create_react_agent, tools_condition

from langgraph_durable import durable
from langgraph_durable.context import (
    ClearToolResults,
    ContextNode,
    ContextState,
    DropMedia,
    DropOldest,
    Shrink,
    Summarize,
    TruncateToolArguments,
    UsageLedger,
    UsageReport,
    afull_history,
    full_history,
    thread_usage,
)
from langgraph_durable.saver import DurableSaver
from tests.conftest import saver_at, thread
from tests.durables import until
from tests.openai_server import Answer, Call, Exchange, Fault, OpenAIServer, chat_model, count
from tests.processes import PATIENCE, Child, Pipe, child, forks

BUDGET = 2500
"""What compressed prompts stay within, in the server's tokens."""

ESTIMATED = 1.02
"""What may come out where the tokens of the newest messages were estimated."""

LENGTH = 2750
"""What the server takes in: how many tokens the newest messages are is an estimate, which may be a tenth too low."""

Persist: TypeAlias = Literal["replace", "view"]

MAIN, SMALL = "gpt-4o", "gpt-4o-mini"
"""The model that is talked to, and the one that sums up."""

PRICES = {MAIN: {"input": 2.5, "cached": 1.25, "output": 10.0}, SMALL: {"input": 0.15, "cached": 0.075, "output": 0.6}}
"""What a million tokens cost."""

SUMMARY = "SUMMEDUP: the customer asked for several things, and each was looked up and told."

# -- sessions --------------------------------------------------------------------------------------------------------


class Turn(NamedTuple):
    """What is asked, and the model's answers up to the one that calls no tool."""

    request: str
    answers: tuple[Answer, ...]


class Session(NamedTuple):
    """A conversation that is still to be held; `results` are those of the tool calls, by their ids."""

    system: str
    turns: tuple[Turn, ...]
    results: dict[str, str]

    def answers(self) -> list[Answer]:
        """The answers of all turns."""
        return [answer for turn in self.turns for answer in turn.answers]

    def said(self) -> list[tuple[str, str]]:
        """The whole conversation: who says what, calls and results with their ids."""
        told = [("system", self.system)]
        for turn in self.turns:
            told.append(("human", turn.request))
            for answer in turn.answers:
                told.append(("ai", answer.text + "".join(f"({call.id}: {_json(call.args)})" for call in answer.calls)))
                told.extend(("tool", f"({call.id}) {self.results[call.id]}") for call in answer.calls)
        return told


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def retold(messages: Sequence[BaseMessage]) -> list[tuple[str, str]]:
    """Messages in the form of `Session.said`."""
    told = []
    for message in messages:
        text = str(message.content)
        if isinstance(message, AIMessage):
            text += "".join(f"({call['id']}: {_json(call['args'])})" for call in message.tool_calls)
        if isinstance(message, ToolMessage):
            text = f"({message.tool_call_id}) {text}"
        told.append((message.type, text))
    return told


WORDS = ("flight", "seat", "fare", "gate", "bag", "crew", "delay", "ticket", "voucher", "airport", "booking", "refund")


def generated(calls: int, *, each: int = 6, seed: int = 0) -> Session:
    """A session of so many model calls, `each` of them to a turn; sizes, parallel calls and texts are random."""
    dice = random.Random(seed)
    results: dict[str, str] = {}

    def text(length: int) -> str:
        return " ".join(dice.choice(WORDS) for _ in range(length))

    def record(length: int) -> str:
        return _json([{"id": dice.randrange(10**6), "note": text(6), "price": dice.random()} for _ in range(length)])

    turns: list[Turn] = []
    while calls > 0:
        answers: list[Answer] = []
        for step in range(min(each, calls) - 1):
            made = []
            for _ in range(dice.choice((1, 1, 1, 2, 3))):
                call = Call(
                    "look_up", {"what": text(2), "about": text(dice.choice((3, 3, 60)))}, f"call_{len(results)}"
                )
                results[call.id] = f"FOUND {call.id} " + record(dice.choice((1, 4, 10)))
                made.append(call)
            answers.append(Answer(text(8) if step % 3 == 0 else "", tuple(made)))
        answers.append(Answer(f"DONE {len(turns)} {text(30)}"))
        turns.append(Turn(f"ASKED {len(turns)} {text(20)}", tuple(answers)))
        calls -= len(answers)
    return Session(f"You help customers of an airline. {text(150)}", tuple(turns), results)


def recorded(paths: Sequence[Path], calls: int) -> Session:
    """A session of so many model calls or a few more: recorded conversations, one behind the other."""
    system, results, turns = "", {}, list[Turn]()
    lines = (line for path in paths for line in path.read_text("utf-8").splitlines())
    for line in lines:
        asked, answers, ids = "", list[Answer](), dict[str, str]()
        for message in json.loads(line)["messages"]:
            if message["role"] == "system":
                system = system or message["content"]
            elif message["role"] == "user":
                asked, answers = f"{message['content']} ({len(turns)})", []
            elif message["role"] == "tool":
                results[ids[message["tool_call_id"]]] = message["content"]
            else:
                made = list[Call]()
                for call in message.get("tool_calls") or ():
                    ids[call["id"]] = f"call_{len(turns)}_{len(answers)}_{len(made)}"
                    given = {"what": call["function"]["name"], "about": call["function"]["arguments"]}
                    made.append(Call("look_up", given, ids[call["id"]]))
                answers.append(Answer(message.get("content") or "", tuple(made)))
                if not made:
                    turns.append(Turn(asked, tuple(answers)))
        if sum(len(turn.answers) for turn in turns) >= calls:
            return Session(system, tuple(turns), results)
    raise AssertionError("too few conversations")


class Script:
    """The server's part: the next answer of the session, and a summary to whoever sums up.

    `sums_up` says what the small model answers; `before` is called before each answer of the main model.
    """

    def __init__(
        self,
        session: Session,
        sums_up: Callable[[Exchange], Answer | Fault] = lambda request: Answer(SUMMARY),
        before: Callable[[Exchange], Fault | None] = lambda request: None,
    ) -> None:
        self._answers = session.answers()
        self._sums_up = sums_up
        self._before = before
        self._place = 0

    def __call__(self, request: Exchange) -> Answer | Fault:
        if request.model == SMALL:
            return self._sums_up(request)
        fault = self._before(request)
        if fault is not None:
            return fault
        self._place += 1
        return self._answers[self._place - 1]


# -- apps ------------------------------------------------------------------------------------------------------------


class NodeState(MessagesState):
    """The state of a hand-written graph."""

    llm_input_messages: list[BaseMessage]
    context_state: ContextState


class HookState(MessagesState):
    """The state of `create_react_agent`, with what compression keeps."""

    remaining_steps: RemainingSteps
    context_state: ContextState


def tools_of(session: Session) -> list[BaseTool]:
    """The tool that knows all results of a session."""

    @tool
    def look_up(what: str, about: str, call_id: Annotated[str, InjectedToolCallId]) -> str:
        """Look something up."""
        return session.results[call_id]

    return [look_up]


def app_of(
    client: str,
    session: Session,
    url: str,
    saver: Any,
    persist: Persist = "replace",
    *,
    budget: int = BUDGET,
    compress: bool = True,
    window: int | None = None,
    timeout: float = 30,
    **options: Any,
) -> Any:
    """An app that holds the session with the server at `url`; `client` is how it compresses: node, hook or agent.

    `window` and `timeout` are those of the model that sums up.
    """
    model = chat_model(url, MAIN)
    sums_up = Summarize(chat_model(url, SMALL, timeout=timeout), window=window)
    stages = [ClearToolResults(), TruncateToolArguments(), DropMedia(), sums_up, DropOldest(), Shrink()]
    given = {"budget": ("tokens", budget), "stages": stages, **options} if compress else {}
    tools = tools_of(session)
    if client == "agent":
        pytest.importorskip("langchain")
        from langchain.agents import create_agent

        from langgraph_durable.context import ContextMiddleware

        middleware = [ContextMiddleware(persist=persist, **given)] if compress else []
        return create_agent(model, tools, system_prompt=session.system, middleware=middleware, checkpointer=saver)
    if client == "hook":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it has moved to `create_agent`, and is used all the same
            return create_react_agent(
                model,
                tools,
                prompt=session.system,
                pre_model_hook=ContextNode(persist=persist, **given) if compress else None,
                state_schema=HookState,
                checkpointer=saver,
            )
    return _hand_written(model, tools, saver, ContextNode(persist=persist, **given) if compress else None)


def _hand_written(model: Any, tools: list[BaseTool], saver: Any, context: Any) -> Any:
    bound = model.bind_tools(tools)

    def seen(state: Any) -> Any:
        return state.get("llm_input_messages") or state["messages"]

    def think(state: NodeState, config: RunnableConfig) -> Any:
        return {"messages": [bound.invoke(seen(state), config)], "llm_input_messages": []}

    async def athink(state: NodeState, config: RunnableConfig) -> Any:
        return {"messages": [await bound.ainvoke(seen(state), config)], "llm_input_messages": []}

    builder = StateGraph(NodeState)
    builder.add_node("think", RunnableLambda(think, athink))
    builder.add_node("tools", ToolNode(tools))
    if context is None:
        builder.add_edge(START, "think")
        builder.add_edge("tools", "think")
    else:
        builder.add_node("context", context)
        builder.add_edge(START, "context")
        builder.add_edge("context", "think")
        builder.add_edge("tools", "context")
    builder.add_conditional_edges("think", tools_condition)
    return builder.compile(checkpointer=saver)


# -- holding a session -----------------------------------------------------------------------------------------------


def given(client: str, session: Session, number: int) -> dict[str, Any]:
    """The input of a turn; who gives the system message as a message does so at the beginning."""
    messages: list[BaseMessage] = [HumanMessage(session.turns[number].request)]
    if client == "node" and number == 0:
        messages.insert(0, SystemMessage(session.system))
    return {"messages": messages}


def long_run(thread_id: str = "thread") -> RunnableConfig:
    """The config of a run that may take as many steps as it needs."""
    return {**thread(thread_id), "recursion_limit": 1000}


def hold(
    app: Any,
    client: str,
    session: Session,
    form: str = "invoke",
    *,
    first: int = 0,
    last: int | None = None,
    thread_id: str = "thread",
) -> Any:
    """Hold the turns of a session from `first` to before `last`; what a stream of messages gave."""
    turns = range(first, len(session.turns) if last is None else last)
    config = long_run(thread_id)

    def run() -> list[Any]:
        chunks: list[Any] = []
        for number in turns:
            if form == "invoke":
                app.invoke(given(client, session, number), config)
            else:
                chunks.extend(app.stream(given(client, session, number), config, stream_mode="messages"))
        return chunks

    async def arun() -> list[Any]:
        chunks: list[Any] = []
        for number in turns:
            if form == "ainvoke":
                await app.ainvoke(given(client, session, number), config)
            else:
                stream = app.astream(given(client, session, number), config, stream_mode="messages")
                chunks.extend([chunk async for chunk in stream])
        return chunks

    return asyncio.run(arun()) if form.startswith("a") else run()


def go_on(app: Any, form: str) -> None:
    """Go on with a turn that failed."""
    if form.startswith("a"):
        asyncio.run(app.ainvoke(None, long_run()))
    else:
        app.invoke(None, long_run())


def check(server: OpenAIServer, session: Session, budget: int = BUDGET) -> None:
    """Nothing was refused; each prompt to the main model was in the budget and had what is never to be lost.

    That is the system message, the request and what the model has just called, with all its results.
    """
    assert server.refused() == []
    asked = [exchange for exchange in server.sent_to(MAIN) if exchange.status == 200]
    expected = [(turn, place) for turn in session.turns for place in range(len(turn.answers))]
    for exchange, (turn, place) in zip(asked, expected, strict=True):
        where = f"request {exchange.number}"
        assert exchange.input <= ESTIMATED * budget, f"{where}: {exchange.input} tokens"
        assert exchange.messages[0]["role"] == "system", where
        assert text_of(exchange.messages[0]) == session.system, where
        assert turn.request in [text_of(each) for each in exchange.messages if each["role"] == "user"], where
        if place == 0:
            assert text_of(exchange.messages[-1]) == turn.request, where
            continue
        calls = turn.answers[place - 1].calls
        newest = exchange.messages[-1 - len(calls) :]
        assert [call["id"] for call in newest[0]["tool_calls"]] == [call.id for call in calls], where
        assert {each["tool_call_id"]: text_of(each) for each in newest[1:]} == {
            call.id: session.results[call.id] for call in calls
        }, where


def text_of(message: dict[str, Any]) -> str:
    """The text of a message that was sent."""
    content = message.get("content") or ""
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


# -- each way, once --------------------------------------------------------------------------------------------------


class Way(NamedTuple):
    """A client, how it keeps what it did, in which form it runs, and where its saver is."""

    client: str
    persist: Persist
    form: str
    place: str


WAYS = [
    Way("node", "replace", "stream", "agent.db"),
    Way("node", "view", "ainvoke", "checkpoints"),
    Way("hook", "replace", "astream", "agent.db"),
    Way("hook", "view", "invoke", "checkpoints"),
    Way("agent", "replace", "astream", "checkpoints"),
    Way("agent", "view", "stream", "agent.db"),
]
"""Every client with both ways to keep, in each form and place at least once. The others are for the long run."""


class Held(NamedTuple):
    """A session that was held, and what is left of it."""

    way: Way
    session: Session
    server: OpenAIServer
    saver: DurableSaver
    app: Any
    chunks: list[Any]


@contextmanager
def holding(way: Way, session: Session, folder: Path, *, budget: int = BUDGET, length: int = LENGTH) -> Iterator[Held]:
    """Hold a session with a ledger."""
    with (
        OpenAIServer(Script(session), context_length=length) as server,
        saver_at(str(folder / way.place)) as saver,
    ):
        app = app_of(way.client, session, server.url, saver, way.persist, budget=budget)
        app = app.with_config(callbacks=[UsageLedger(prices=PRICES)])
        yield Held(way, session, server, saver, app, hold(app, way.client, session, way.form))


@pytest.fixture(scope="module", params=WAYS, ids="-".join)
def held(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Held]:
    """A session of 24 calls that was held in a way, each once for all tests that look at what is left."""
    with holding(request.param, generated(24, seed=2), tmp_path_factory.mktemp("held")) as found:
        yield found


def test_long_sessions(held: Held) -> None:
    """A session that is several times too long is never refused, and its prompts keep what matters."""
    check(held.server, held.session)
    assert held.server.sent_to(SMALL), "nothing was summed up"
    assert SUMMARY in str(held.server.sent_to(MAIN)[-1].messages)


def test_what_is_streamed(held: Held) -> None:
    """A stream of messages has what the model and the tools say, once and in order, and nothing of a summary."""
    if "stream" not in held.way.form:
        assert held.chunks == []
        return
    assert held.server.sent_to(SMALL), "nothing was summed up"
    streamed: dict[str, tuple[str, str]] = {}
    for message, _ in held.chunks:
        kind, text = streamed.get(message.id, (message.type.removesuffix("MessageChunk").lower(), ""))
        streamed[message.id] = kind, text + str(message.content)
    assert retold_in_any_order(list(streamed.values())) == retold_in_any_order(
        [
            said
            for answer in held.session.answers()
            for said in (("ai", answer.text), *(("tool", held.session.results[call.id]) for call in answer.calls))
        ]
    )
    assert "SUMMEDUP" not in str([message.content for message, _ in held.chunks])


def retold_in_any_order(said: Sequence[tuple[str, str]]) -> list[list[tuple[str, str]]]:
    """What was said, with the results of calls that were made together in the order of their texts."""
    return [sorted(group) for _, group in itertools.groupby(said, lambda each: each[0])]


def test_usage(held: Held) -> None:
    """The ledger has what the server has: calls, tokens by model and purpose, cached ones, and the price."""
    check_usage(thread_usage(held.saver, "thread"), held.server)


def test_full_history(held: Held) -> None:
    """All that was said is still there as it was said, by the graph as by the saver, in one form as in the other."""
    history = full_history(held.app, thread())
    assert retold(history) == said_of(held.session, held.way.client)
    assert asyncio.run(afull_history(held.saver, thread())) == history
    ids = [message.id for message in history]
    assert None not in ids
    assert len(set(ids)) == len(ids)


def said_of(session: Session, client: str, turns: int | None = None) -> list[tuple[str, str]]:
    """What a state holds of some turns of a session: the system message only where it is one of the messages."""
    said = Session(session.system, session.turns[:turns], session.results).said()
    return said if client == "node" else said[1:]


@pytest.mark.parametrize("client", ["node", "hook", "agent"])
def test_the_same_without_compression(client: str, path: str) -> None:
    """Without compression the same session is refused, for its length and nothing else."""
    session = generated(30, seed=2)
    with OpenAIServer(Script(session), context_length=LENGTH) as server, saver_at(path) as saver:
        app = app_of(client, session, server.url, saver, compress=False)
        with pytest.raises(openai.BadRequestError, match="maximum context length") as caught:
            hold(app, client, session)
    assert caught.value.code == "context_length_exceeded"
    assert len(server.exchanges) < 15


def test_recorded_sessions(path: str, tmp_path: Path, transcripts: list[Path]) -> None:
    """Recorded conversations are not refused either."""
    with holding(
        Way("agent", "replace", "invoke", "agent.db"), recorded(transcripts, 24), tmp_path, budget=5000, length=5500
    ) as done:
        check(done.server, done.session, 5000)
        assert done.server.sent_to(SMALL), "nothing was summed up"


@pytest.mark.soak
@pytest.mark.parametrize("place", ["agent.db", "checkpoints"])
@pytest.mark.parametrize("form", ["invoke", "ainvoke", "stream", "astream"])
@pytest.mark.parametrize("persist", ["replace", "view"])
@pytest.mark.parametrize("client", ["node", "hook", "agent"])
def test_every_way(
    client: str, persist: Persist, form: str, place: str, tmp_path: Path, transcripts: list[Path]
) -> None:
    """So it is in every way, with 150 calls that are generated, and with 150 of recorded conversations."""
    way = Way(client, persist, form, place)
    made = ("made", generated(150, seed=10), 4000, 4400)
    for name, session, budget, length in (made, ("recorded", recorded(transcripts, 150), 8000, 8800)):
        folder = tmp_path / name
        folder.mkdir()
        with holding(way, session, folder, budget=budget, length=length) as done:
            check(done.server, session, budget)
            test_what_is_streamed(done)
            test_usage(done)
            test_full_history(done)


# -- budgets ---------------------------------------------------------------------------------------------------------


def test_a_counter_that_is_exact(path: str) -> None:
    """With a counter that counts as the server does no prompt is above the budget, by not one token."""
    session = generated(24, seed=1)
    with OpenAIServer(Script(session), context_length=LENGTH) as server, saver_at(path) as saver:
        app = app_of("node", session, server.url, saver, token_counter=exact)
        hold(app, "node", session)
    check(server, session)
    sizes = [count(exchange.messages) for exchange in server.sent_to(MAIN)]
    assert max(sizes) <= BUDGET
    assert max(sizes) > 0.8 * BUDGET, "it is compressed before it has to be"


def exact(messages: Sequence[BaseMessage]) -> int:
    """What the server counts."""
    return count(convert_to_openai_messages(messages)) if messages else 0


@pytest.mark.parametrize("form", ["invoke", "astream"])
def test_prompts_that_are_refused(form: str, path: str) -> None:
    """A middleware whose budget is more than the model takes in compresses what is refused, and goes on."""
    session = generated(15, seed=2)
    with OpenAIServer(Script(session), context_length=1800) as server, saver_at(path) as saver:
        app = app_of("agent", session, server.url, saver, budget=4000)
        hold(app, "agent", session, form)
    assert {exchange.status for exchange in server.exchanges} == {200, 400}
    assert "SUMMEDUP" in str(server.sent_to(MAIN)[-1].messages)
    for refused, following in itertools.pairwise(server.exchanges):
        assert refused.status == 200 or following.status == 200, "it was refused twice"


# -- new processes ---------------------------------------------------------------------------------------------------

ALONE = [
    Way("node", "replace", "invoke", "agent.db"),
    Way("hook", "view", "ainvoke", "checkpoints"),
    Way("agent", "replace", "invoke", "checkpoints"),
    Way("agent", "replace", "ainvoke", "agent.db"),
    Way("agent", "view", "ainvoke", "checkpoints"),
]
"""The ways in which processes end and others go on."""


def alone(*always: int) -> list[Any]:
    """Those ways as parameters: these always, the others in the long run."""
    return [
        pytest.param(way, id="-".join(way), marks=() if number in always else pytest.mark.soak)
        for number, way in enumerate(ALONE)
    ]


def holds(pipe: Pipe, way: Way, session: Session, url: str, folder: str, first: int, last: int) -> None:
    """Hold some turns of a session in a process of its own, with a ledger."""
    with saver_at(f"{folder}/{way.place}") as saver:
        app = durable(app_of(way.client, session, url, saver, way.persist))
        hold(app.with_config(callbacks=[UsageLedger()]), way.client, session, way.form, first=first, last=last)
    pipe.send("held")


def goes_on(pipe: Pipe, way: Way, session: Session, url: str, folder: str, window: int | None = None) -> None:
    """Go on with the turn that another process was in."""
    with saver_at(f"{folder}/{way.place}") as saver:
        app = durable(app_of(way.client, session, url, saver, way.persist, window=window))
        if way.form == "invoke":
            app.resume("thread", config=long_run())
        else:
            asyncio.run(app.aresume("thread", config=long_run()))
    pipe.send("went on")


def starts(pipe: Pipe, way: Way, session: Session, url: str, folder: str, window: int) -> None:
    """Hold a session in a process of its own, in which little is summed up at once."""
    with saver_at(f"{folder}/{way.place}") as saver:
        app = durable(app_of(way.client, session, url, saver, way.persist, window=window))
        hold(app, way.client, session, way.form)
    pipe.send("held")


class Pause:
    """An answer that does not come: the process that waits for it can be killed, and the next one is answered."""

    def __init__(self, when: Callable[[Exchange], bool]) -> None:
        self._when = when
        self._here, self._over = threading.Event(), threading.Event()

    def __call__(self, request: Exchange) -> Fault | None:
        """The answer to a request that comes in the pause, which nobody waits for any more."""
        if self._over.is_set() or not self._when(request):
            return None
        self._here.set()
        assert self._over.wait(PATIENCE)
        return Fault(500)

    def kill(self, process: Child) -> None:
        """Kill the process when it waits."""
        until(lambda: self._here.is_set() or process.pipe.poll())
        assert self._here.is_set(), process.receive()
        process.kill()
        assert process.rest() == []
        self._over.set()


def has_summary(request: Exchange) -> bool:
    """Whether something in a prompt was summed up."""
    return "SUMMEDUP" in str(request.messages)


@forks
@pytest.mark.parametrize("way", alone(0, 4))
def test_cold_resume(way: Way, tmp_path: Path) -> None:
    """A new process asks the model at once, and not too much: what was summed up is not summed up again."""
    session = generated(27, each=3, seed=3)
    run = (way, session)
    with OpenAIServer(Script(session), context_length=LENGTH) as server:
        # As many turns as end, with a summary, and with room for the next request.
        last = 4
        with child(holds, *run, server.url, str(tmp_path), 0, last) as process:
            assert process.receive() == "held"
        while not (server.sent_to(SMALL) and server.sent_to(MAIN)[-1].input < 0.8 * BUDGET):
            with child(holds, *run, server.url, str(tmp_path), last, last + 1) as process:
                assert process.receive() == "held"
            last += 1
        before = len(server.exchanges)
        with child(holds, *run, server.url, str(tmp_path), last, last + 1) as process:
            assert process.receive() == "held"
    assert server.exchanges[before].model == MAIN, "it began with a summary"
    assert has_summary(server.exchanges[before])
    check(server, Session(session.system, session.turns[: last + 1], session.results))


@forks
@pytest.mark.parametrize("way", alone(0, 1, 3))
def test_killed_behind_a_summary(way: Way, tmp_path: Path) -> None:
    """A process that dies with a summary paid and no answer leaves the summary to the next one."""
    session = generated(20, each=10, seed=4)
    pause = Pause(has_summary)
    with OpenAIServer(Script(session, before=pause), context_length=LENGTH) as server:
        with child(holds, way, session, server.url, str(tmp_path), 0, 2) as process:
            pause.kill(process)
        paid = len(server.exchanges)
        with child(goes_on, way, session, server.url, str(tmp_path)) as process:
            assert process.receive() == "went on"
    following = server.exchanges[paid:]
    assert following[0].model == MAIN, "the summary was paid for again"
    assert has_summary(following[0])
    assert not repeated(server.sent_to(SMALL)), "a summary was paid for twice"
    assert {exchange.status for exchange in following} == {200}


def repeated(exchanges: Sequence[Exchange]) -> list[int]:
    """The numbers of requests that had been sent and answered before."""
    sent: set[str] = set()
    again = []
    for exchange in exchanges:
        if str(exchange.messages) in sent:
            again.append(exchange.number)
        if exchange.status == 200:
            sent.add(str(exchange.messages))
    return again


@forks
@pytest.mark.parametrize("way", alone(0, 2))
def test_killed_between_windows(way: Way, tmp_path: Path) -> None:
    """Of a summary that takes several calls those that were answered are not paid for again."""
    session = generated(20, each=10, seed=4)
    asked: list[int] = []

    def third(request: Exchange) -> bool:
        asked.append(request.number)
        return len(asked) == 3

    pause = Pause(third)
    script = Script(session, lambda request: pause(request) or Answer(f"{SUMMARY} {request.number}"))
    with OpenAIServer(script, context_length=LENGTH) as server:
        with child(starts, way, session, server.url, str(tmp_path), 600) as process:
            pause.kill(process)
        paid = len(server.exchanges)
        with child(goes_on, way, session, server.url, str(tmp_path), 600) as process:
            assert process.receive() == "went on"
    assert server.exchanges[paid].messages == server.exchanges[paid - 1].messages, "it goes on where it was"
    assert not repeated(server.sent_to(SMALL))


@forks
@pytest.mark.parametrize("way", alone(3))
def test_usage_of_processes_that_die(way: Way, tmp_path: Path) -> None:
    """Of a killed process the call in flight is missing in what was used, and no other."""
    session = generated(20, each=10, seed=4)
    pause = Pause(lambda request: request.number >= 12)
    with (
        OpenAIServer(Script(session, before=pause), context_length=LENGTH) as server,
        child(holds, way, session, server.url, str(tmp_path), 0, 2) as process,
    ):
        pause.kill(process)
    with saver_at(f"{tmp_path}/{way.place}") as saver:
        report = thread_usage(saver, "thread")
    assert (report.calls, report.input, report.output, report.cached) == server.totals()
    assert report.calls >= 12


@pytest.mark.parametrize("way", alone(1, 2))
def test_the_model_fails_behind_a_summary(way: Way, tmp_path: Path) -> None:
    """When the model has failed and is asked again, the summary is there already."""
    session = generated(20, each=10, seed=4)
    failed: list[int] = []

    def before(request: Exchange) -> Fault | None:
        if failed or not has_summary(request):
            return None
        failed.append(request.number)
        return Fault(500)

    with (
        OpenAIServer(Script(session, before=before), context_length=LENGTH) as server,
        saver_at(str(tmp_path / way.place)) as saver,
    ):
        app = app_of(way.client, session, server.url, saver, way.persist)
        with pytest.raises(openai.InternalServerError):
            hold(app, way.client, session, way.form)
        # As another process has it, which has nothing in its memory.
        go_on(app_of(way.client, session, server.url, saver, way.persist), way.form)
    assert server.exchanges[failed[0] + 1].model == MAIN, "the summary was paid for again"
    assert not repeated(server.sent_to(SMALL))


# -- summarizers that fail -------------------------------------------------------------------------------------------

TROUBLES: dict[str, Callable[[Exchange], Answer | Fault]] = {
    "fails": lambda request: Fault(500),
    "is limited": lambda request: Fault(429),
    "is late": lambda request: Fault(500, after=60),
    "says nothing": lambda request: Answer(""),
    "says blanks": lambda request: Answer(" \n "),
    "calls a tool": lambda request: Answer("ONE MOMENT", (Call("look_up", {"what": "a", "about": "b"}, "call_sum"),)),
}


@pytest.mark.parametrize(("trouble", "way"), list(zip(TROUBLES, (WAYS[0], WAYS[4], WAYS[5]) * 2, strict=True)))
def test_summarizers_that_fail(trouble: str, way: Way, tmp_path: Path) -> None:
    """The session goes on without a summary, and nothing of the trouble is in a prompt, the state or the stream."""
    session = generated(18, seed=2)
    with (
        OpenAIServer(Script(session, TROUBLES[trouble]), context_length=LENGTH) as server,
        saver_at(str(tmp_path / way.place)) as saver,
    ):
        app = app_of(way.client, session, server.url, saver, way.persist, timeout=0.1 if trouble == "is late" else 30)
        chunks = hold(app, way.client, session, way.form)
        messages = app.get_state(thread()).values["messages"]
    assert server.sent_to(SMALL), "nobody was asked to sum up"
    server.exchanges = server.sent_to(MAIN)
    check(server, session)
    told = str([exchange.messages for exchange in server.exchanges])
    told += str(messages) + str([(message.content, message.additional_kwargs) for message, _ in chunks])
    for words in ("had an error", "Rate limit", "timed out", "call_sum", "ONE MOMENT", "summarization", "Summary"):
        assert words not in told


def test_a_summarizer_that_recovers(path: str) -> None:
    """One that failed is asked again later."""
    session = generated(24, seed=2)
    down = [True]
    script = Script(session, lambda request: Fault(500) if down else Answer(SUMMARY))
    with OpenAIServer(script, context_length=LENGTH) as server, saver_at(path) as saver:
        app = app_of("node", session, server.url, saver)
        hold(app, "node", session, last=3)
        assert server.sent_to(SMALL)
        down.clear()
        hold(app, "node", session, first=3)
    assert has_summary(server.sent_to(MAIN)[-1])


# -- what it costs ---------------------------------------------------------------------------------------------------


def spent(server: OpenAIServer) -> float:
    """What a session cost by the server's own count."""
    return sum(server.totals(model).cost(**price) for model, price in PRICES.items())


def check_usage(report: UsageReport, server: OpenAIServer, failed: int = 0) -> None:
    """A report says what the server says."""
    assert (report.calls - report.failed, report.input, report.output, report.cached) == server.totals()
    assert report.failed == len([exchange for exchange in server.exchanges if exchange.status != 200]) == failed
    assert report.unknown == 0
    assert report.cost == pytest.approx(spent(server))
    for model in (MAIN, SMALL):
        sums = report.by_model[model]
        assert (sums.input, sums.output, sums.cached) == server.totals(model)[1:]
        assert sums.cost == pytest.approx(server.totals(model).cost(**PRICES[model]))
    summaries = report.by_purpose["summary"]
    assert (summaries.calls, summaries.input, summaries.output) == server.totals(SMALL)[:3]


@pytest.mark.parametrize("way", alone(3))
def test_usage_of_calls_that_fail(way: Way, tmp_path: Path) -> None:
    """Calls that failed are counted apart, and what came after them as what it is; another saver reads the same."""
    session = generated(18, seed=2)
    place = str(tmp_path / way.place)
    faults = {8: Fault(500), 15: Fault(429)}
    with OpenAIServer(Script(session), context_length=LENGTH, faults=faults) as server:
        with saver_at(place) as saver:
            app = app_of(way.client, session, server.url, saver, way.persist)
            app = app.with_config(callbacks=[UsageLedger(prices=PRICES)])
            for number in range(len(session.turns)):
                try:
                    hold(app, way.client, session, way.form, first=number, last=number + 1)
                except (openai.InternalServerError, openai.RateLimitError):
                    go_on(app, way.form)
            report = thread_usage(saver, "thread")
        check_usage(report, server, failed=2)
    with saver_at(place) as saver:
        assert thread_usage(saver, "thread") == report


@pytest.mark.soak
def test_what_compression_saves(path: str) -> None:
    """A session of 150 calls takes at most 30 % of the input, and 48 % of the cost, of the same without compression."""
    session = generated(150, seed=7)
    with OpenAIServer(Script(session), context_length=4400) as server, saver_at(path) as saver:
        hold(app_of("node", session, server.url, saver, budget=4000), "node", session)
    check(server, session, 4000)
    plain = uncompressed(session)
    assert plain.totals().calls == server.totals(MAIN).calls == 150
    assert server.totals().input <= 0.30 * plain.totals().input
    assert spent(server) <= 0.48 * spent(plain)


def uncompressed(session: Session) -> OpenAIServer:
    """What a server sees of a session without compression: worked out, since it is long."""
    tools = [convert_to_openai_tool(each) for each in tools_of(session)]
    messages: list[Any] = [{"role": "system", "content": session.system}]
    with OpenAIServer(Script(session), context_length=10**7) as server:
        for turn in session.turns:
            messages.append({"role": "user", "content": turn.request})
            for answer in turn.answers:
                exchange = server.log({"model": MAIN, "messages": list(messages), "tools": tools})
                server.answer(exchange)
                exchange.status = 200
                messages.append(convert_to_openai_messages(message_of(answer)))
                messages.extend(
                    {"role": "tool", "content": session.results[call.id], "tool_call_id": call.id}
                    for call in answer.calls
                )
    return server


def message_of(answer: Answer) -> AIMessage:
    """An answer as a message."""
    made: Any = [{"name": call.name, "args": call.args, "id": call.id} for call in answer.calls]
    return AIMessage(answer.text, tool_calls=made)


def test_what_is_worked_out(path: str) -> None:
    """What is worked out of a session without compression is what the server sees of it."""
    session = generated(12, seed=2)
    with OpenAIServer(Script(session)) as server, saver_at(path) as saver:
        hold(app_of("node", session, server.url, saver, compress=False), "node", session)
    assert uncompressed(session).totals() == server.totals()


# -- the whole conversation ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", alone(2))
def test_forks(way: Way, tmp_path: Path) -> None:
    """A fork goes its own way: it has what was said before it and its own end, and the thread does not notice."""
    session = generated(24, seed=2)
    with (
        OpenAIServer(Script(session), context_length=LENGTH) as server,
        saver_at(str(tmp_path / way.place)) as saver,
    ):
        app = durable(app_of(way.client, session, server.url, saver, way.persist))
        hold(app, way.client, session, way.form, last=3)
        assert server.sent_to(SMALL), "nothing was summed up"
        app.fork("thread", to="fork")
        assert retold(full_history(app, thread("fork"))) == said_of(session, way.client, 3)
        hold(app, way.client, session, way.form, first=3, thread_id="fork")
        assert retold(full_history(app, thread("fork"))) == said_of(session, way.client)
        assert retold(asyncio.run(afull_history(saver, thread("fork")))) == said_of(session, way.client)
        assert retold(full_history(app, thread())) == said_of(session, way.client, 3)
    check(server, session)


@pytest.mark.parametrize("way", alone(4))
def test_histories_of_earlier_states(way: Way, tmp_path: Path) -> None:
    """At an earlier checkpoint the history is what had been said then, though it was compressed later."""
    session = generated(18, seed=2)
    with (
        OpenAIServer(Script(session), context_length=LENGTH) as server,
        saver_at(str(tmp_path / way.place)) as saver,
    ):
        app = app_of(way.client, session, server.url, saver, way.persist)
        hold(app, way.client, session, way.form, last=1)
        assert not server.sent_to(SMALL)
        early = app.get_state(thread()).config
        hold(app, way.client, session, way.form, first=1)
        assert server.sent_to(SMALL), "nothing was summed up"
        assert retold(full_history(saver, early)) == said_of(session, way.client, 1)
