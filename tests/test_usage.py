"""Each model call is one record in its thread, whoever makes it, in whatever kind of node, over any checkpointer."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import ormsgpack
import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models import FakeListLLM
from langchain_core.messages import AIMessage
from langchain_core.outputs import Generation, LLMResult
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda
from langchain_core.tools import BaseTool, StructuredTool
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.func import entrypoint, task
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode

from langgraph_durable import AsyncSqliteSaver, UsageLimitError
from langgraph_durable.context import UsageLedger, UsageReport, athread_usage, thread_usage
from tests.conftest import saver_at
from tests.graphs import DURABILITIES, Durability
from tests.paid_models import (
    INPUT,
    SAVERS,
    Answer,
    Outage,
    PaidModel,
    StreamingModel,
    asking,
    in_coroutines,
    running,
    saver_of,
    sums,
    usage,
    used,
)

Loop = asyncio.AbstractEventLoop | None


@pytest.fixture(params=SAVERS)
def saver(request: pytest.FixtureRequest, tmp_path: Path, loop: Loop) -> Iterator[BaseCheckpointSaver[Any]]:
    """A saver of each kind."""
    with saver_of(request.param, tmp_path, loop) as made:
        yield made


@pytest.fixture
def quick(tmp_path: Path, loop: Loop) -> Iterator[BaseCheckpointSaver[Any]]:
    """A saver in memory, in the awaiting form the one whose blocking methods are for other threads only."""
    with saver_of("memory" if loop is None else "official", tmp_path, loop) as made:
        yield made


@pytest.fixture
def kept_in(tmp_path: Path) -> Iterator[BaseCheckpointSaver[Any]]:
    """A saver of this package."""
    with saver_of("file", tmp_path) as made:
        yield made


def test_a_record_says_what_a_call_used(saver: BaseCheckpointSaver[Any], loop: Loop) -> None:
    """A record has the place of the call, the model, its tokens by kind and nothing of what was said."""
    model = PaidModel(answers=[Answer(100, 20, cached=60, written=30, reasoning=7)])
    ledger = UsageLedger(prices={"paid-1": {"input": 1, "output": 2, "cached": 0.1, "written": 1.25}})
    running(asking(model, saver, loop), ledger, loop).invoke(INPUT)
    (record,) = usage(saver, loop).records
    told = {key: value for key, value in record.items() if key not in ("id", "time", "seconds", "cost")}
    assert told == {
        "thread_id": "thread",
        "node": "ask",
        "path": "ask",
        "model": "paid-1",
        "asked": None,
        "provider": "tests",
        "tier": None,
        "purpose": "main",
        "input": 100,
        "output": 20,
        "cached": 60,
        "written": 30,
        "written_1h": None,
        "reasoning": 7,
        "input_audio": None,
        "output_audio": None,
        "failed": None,
        "broken": False,
    }
    assert record["cost"] == pytest.approx((10 * 1 + 60 * 0.1 + 30 * 1.25 + 20 * 2) / 1e6)
    assert record["time"] > 1.7e9
    assert 0 <= record["seconds"] < 60
    assert "secret" not in repr(record)
    assert ledger.records == []


def test_a_record_is_small(kept_in: BaseCheckpointSaver[Any]) -> None:
    """A record takes some 270 bytes, and never many more, however long the names in it are."""
    for name, most in (("paid-1", 330), ("p" * 10_000, 900)):
        model = PaidModel(model_name=name)
        running(asking(model, kept_in), UsageLedger(prices=lambda _: 0.1), thread_id=name[:6]).invoke(INPUT)
        (record,) = usage(kept_in, thread_id=name[:6]).records
        assert len(ormsgpack.packb(dict(record))) <= most


@pytest.mark.parametrize("durability", DURABILITIES)
def test_every_durability(place: str, loop: Loop, durability: Durability) -> None:
    """Calls of several turns are recorded however checkpoints are stored."""
    model = PaidModel(answers=[Answer(number) for number in range(1, 5)])
    with saver_at(place) as saver:
        run = running(asking(model, saver, loop, calls=2), UsageLedger(), loop)
        for _ in range(2):
            run.invoke(INPUT, durability=durability)
        assert sums(usage(saver, loop)) == used([paid.answer for paid in model.account]) == (4, 10, 20)


@pytest.mark.parametrize(
    "kind", ["prompt", "bare", "bound", "router", "subgraph", "stateful", "called", "task", "tool"]
)
def test_every_kind_of_node(quick: BaseCheckpointSaver[Any], loop: Loop, kind: str) -> None:
    """A call is recorded with its path, also in the later parts of a sequence, which get no config of LangGraph."""
    model = PaidModel()
    wrap: Runnable[Any, Any] = RunnableLambda(lambda message: {"messages": [message]})
    prompt = ChatPromptTemplate.from_messages([("placeholder", "{messages}")])
    inner = asking(model, True if kind == "stateful" else None, loop)  # type: ignore[arg-type]  # LangGraph takes True

    async def acall(state: Any) -> Any:
        return await inner.ainvoke(state)

    async def aroute(state: Any) -> str:
        await model.ainvoke("main")
        return END

    def route(state: Any) -> str:
        model.invoke("main")
        return END

    builder = StateGraph(MessagesState)
    if kind == "task":
        graph: Any = _functional(model, quick, loop)
    else:
        nodes: dict[str, Any] = {
            "prompt": prompt | model | wrap,
            "bare": RunnableLambda(lambda state: state["messages"]) | model.with_retry() | wrap,
            "bound": prompt | model.bind(stop=["x"]).with_config(tags=["a"]) | wrap,
            "router": lambda state: {},
            "tool": ToolNode([tool_of(model, loop)]),
            "subgraph": inner,
            "stateful": inner,
            "called": (lambda state: inner.invoke(state)) if loop is None else acall,
        }
        builder.add_node("node", nodes[kind]).add_edge(START, "node")
        if kind == "router":
            builder.add_conditional_edges("node", route if loop is None else aroute, [END])
        graph = builder.compile(checkpointer=quick)
    ledger = UsageLedger()
    run = running(graph, ledger, loop)
    for _ in range(2):
        run.invoke({"messages": [CALL]} if kind == "tool" else INPUT)
    report = usage(quick, loop)
    assert sums(report) == (2, 20, 10)
    assert ledger.records == []
    path = {"subgraph": "node|ask", "stateful": "node|ask", "called": "node|ask", "task": "flow|ask"}.get(kind, "node")
    assert {record["path"] for record in report.records} == {path}


CALL = AIMessage("", tool_calls=[{"name": "look", "args": {}, "id": "call"}])


def tool_of(model: PaidModel, loop: Loop) -> BaseTool:
    """A tool "look" that asks a model."""

    def look() -> str:
        """Look."""
        return model.invoke("main").text

    async def alook() -> str:
        return (await model.ainvoke("main")).text

    return StructuredTool.from_function(look, coroutine=alook if loop is not None else None)


def _functional(model: PaidModel, saver: BaseCheckpointSaver[Any], loop: Loop) -> Any:
    async def aask() -> Any:
        return await model.ainvoke("main")

    does: Any = (lambda: model.invoke("main")) if loop is None else aask
    ask: Any = task(name="ask")(does)

    def flow(given: Any) -> Any:
        return ask().result()

    if loop is None:
        return entrypoint(checkpointer=saver)(flow)

    async def aflow(given: Any) -> Any:
        return await ask()

    aflow.__name__ = "flow"
    return entrypoint(checkpointer=saver)(aflow)


@pytest.mark.parametrize("mode", ["values", "messages"])
def test_a_streamed_call_is_one_record(quick: BaseCheckpointSaver[Any], loop: Loop, mode: Any) -> None:
    """A call that comes word by word counts once, with what its last word says."""
    graph = running(asking(StreamingModel(), quick, loop), UsageLedger(), loop).graph
    config: Any = {"configurable": {"thread_id": "thread"}}
    if loop is None:
        assert list(graph.stream(INPUT, config, stream_mode=mode))
    else:

        async def read() -> list[Any]:
            return [part async for part in graph.astream(INPUT, config, stream_mode=mode)]

        assert loop.run_until_complete(read())
    assert sums(usage(quick, loop)) == (1, 10, 5)


def test_a_stream_that_nobody_reads_to_its_end() -> None:
    """A streamed call that is broken off is recorded as failed, without tokens."""
    model, saver = StreamingModel(), InMemorySaver()

    def look(state: MessagesState) -> Any:
        words = model.stream("main")
        next(words)
        words.close()  # type: ignore[attr-defined]  # it is a generator
        return {}

    graph = StateGraph(MessagesState).add_node("look", look).add_edge(START, "look").compile(checkpointer=saver)
    running(graph, UsageLedger()).invoke(INPUT)
    (record,) = usage(saver).records
    assert (record["failed"], record["input"]) == ("GeneratorExit", None)


def test_several_answers_of_a_call_count_once() -> None:
    """With each of several answers a provider says what all of them used."""
    saver = InMemorySaver()
    running(asking(PaidModel(generations=3), saver), UsageLedger()).invoke(INPUT)
    assert sums(usage(saver)) == (1, 10, 5)


def test_no_usage_is_unknown_and_not_nothing(loop: Loop) -> None:
    """A call without a count of tokens is counted apart, and then nobody knows what all of them cost."""
    saver = InMemorySaver()
    ledger = UsageLedger(prices={"paid-1": {"input": 1, "output": 1}})
    model = PaidModel(answers=[Answer(None), Answer(3, 2)])
    running(asking(model, saver, loop, calls=2), ledger, loop).invoke(INPUT)
    report = usage(saver, loop)
    assert (report.calls, report.unknown, report.failed, report.tokens) == (2, 1, 0, 5)
    assert report.records[0]["input"] is None
    assert report.cost is None
    assert report.known_cost == pytest.approx(5e-6)


def test_a_failed_call_is_counted_as_failed(quick: BaseCheckpointSaver[Any], loop: Loop) -> None:
    """A call that failed is recorded with the type of the error and without tokens, and costs nothing."""
    model = PaidModel(answers=[Answer(fails=True), Answer(7, 1)])
    run = running(asking(model, quick, loop), UsageLedger(prices=lambda record: 0.5), loop)
    with pytest.raises(Outage):
        run.invoke(INPUT)
    run.invoke(None)
    report = usage(quick, loop)
    assert (report.calls, report.failed, report.unknown, report.tokens, report.cost) == (2, 1, 0, 8, 0.5)
    assert [(record["failed"], record["input"], record["cost"]) for record in report.records] == [
        ("Outage", None, None),
        (None, 7, 0.5),
    ]


def test_a_plain_language_model() -> None:
    """A model that is no chat model is recorded; how many tokens it uses it seldom says."""
    model, saver = FakeListLLM(responses=["secret"]), InMemorySaver()

    def ask(state: MessagesState) -> Any:
        model.invoke("question")
        return {}

    graph = StateGraph(MessagesState).add_node("ask", ask).add_edge(START, "ask").compile(checkpointer=saver)
    running(graph, UsageLedger()).invoke(INPUT)
    report = usage(saver)
    assert (report.calls, report.unknown, report.cost) == (1, 1, None)


class Counting(FakeListLLM):
    """A plain model that says what all prompts of a call used, in the way of OpenAI's."""

    silent: bool = False

    def _generate(self, prompts: list[str], *args: Any, **kwargs: Any) -> LLMResult:
        told = {"prompt_tokens": 4 * len(prompts), "completion_tokens": len(prompts)}
        return LLMResult(
            generations=[[Generation(text="secret")] for _ in prompts],
            llm_output={"token_usage": {} if self.silent else told, "model_name": "plain-1"},
        )


def test_several_prompts_of_a_plain_model() -> None:
    """Of several prompts in one call the first has the tokens of all, which count once."""
    ledger = UsageLedger()
    callbacks: list[BaseCallbackHandler] = [ledger]
    Counting(responses=["x"]).generate(["one", "two", "three"], callbacks=callbacks)
    Counting(responses=["x"], silent=True).generate(["one"], callbacks=callbacks)
    report = UsageReport(ledger.records)
    assert (*sums(report), report.unknown) == (4, 12, 3, 1)
    assert list(report.by_model) == ["plain-1"]


def test_a_call_that_is_cancelled() -> None:
    """A call that nobody waits for any more has failed; if it goes on by itself and ends, that is what it was."""
    loop = asyncio.new_event_loop()
    going: list[asyncio.Task[Any]] = []
    slow, saver = PaidModel(model_name="slow"), InMemorySaver()
    slow.wait = asyncio.Event()

    async def hurried(state: MessagesState) -> Any:
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(slow.ainvoke("main"), 0.01)
        going.append(asyncio.create_task(slow.ainvoke("main")))
        await asyncio.sleep(0.01)
        return {}

    graph = StateGraph(MessagesState).add_node("ask", hurried).add_edge(START, "ask").compile(checkpointer=saver)
    try:
        running(graph, UsageLedger(), loop).invoke(INPUT)
        assert [one["failed"] for one in usage(saver, loop).records] == ["CancelledError", "CancelledError"]
        slow.wait.set()
        loop.run_until_complete(going[0])
        report = usage(saver, loop)
        assert (*sums(report), report.failed) == (2, 10, 5, 1)
    finally:
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


def test_a_thread_id_in_the_metadata_is_not_the_threads(quick: BaseCheckpointSaver[Any], loop: Loop) -> None:
    """What an app calls `thread_id` in its metadata, as for LangSmith, decides nothing."""
    ledger = UsageLedger()
    graph = asking(PaidModel(), quick, loop).with_config(metadata={"thread_id": "of the app"})
    running(graph, ledger, loop).invoke(INPUT)
    assert (usage(quick, loop).calls, ledger.records) == (1, [])


@in_coroutines
async def test_the_saver_for_coroutines(tmp_path: Path) -> None:
    """In an application that only awaits, calls are recorded and summed, also where a coroutine does not await one."""
    model, ledger = PaidModel(), UsageLedger(max_tokens=30)

    async def ask(state: MessagesState) -> Any:
        return {"messages": [await model.ainvoke("main"), model.invoke("main")]}

    async with AsyncSqliteSaver.from_conn_string(str(tmp_path / "agent.db")) as saver:
        builder = StateGraph(MessagesState).add_node("ask", ask).add_edge(START, "ask")
        graph = builder.compile(checkpointer=saver).with_config(callbacks=[ledger])
        config: RunnableConfig = {"configurable": {"thread_id": "thread"}}
        await graph.ainvoke(INPUT, config)
        with pytest.raises(UsageLimitError):
            await graph.ainvoke(INPUT, config)
        assert sums(await athread_usage(graph, "thread")) == (2, 20, 10)
        assert ledger.records == []


def test_nothing_opens_a_socket(kept_in: BaseCheckpointSaver[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither records nor prices come over the network."""
    pytest.importorskip("genai_prices")

    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("a socket")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    ledger = UsageLedger(prices="genai-prices", max_cost=1)
    running(asking(PaidModel(model_name="gpt-4o"), kept_in), ledger).invoke(INPUT)
    assert thread_usage(kept_in, "thread", prices="genai-prices").calls == 1
