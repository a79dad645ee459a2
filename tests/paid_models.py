"""Models that say what they have used, and keep their own account of it, and graphs that call them."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, cast

import pytest
from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.ai import InputTokenDetails, OutputTokenDetails, UsageMetadata
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.pregel import Pregel
from pydantic import Field, PrivateAttr

from langgraph_durable import FileSaver, SqliteSaver
from langgraph_durable.context import UsageReport, athread_usage, thread_usage
from langgraph_durable.context.usage.records import UsageRecord
from tests.graphs import Running, official

TOO_OLD = sys.version_info < (3, 11)
in_coroutines = pytest.mark.skipif(TOO_OLD, reason="before Python 3.11 a model in a coroutine has no callbacks")

SAVERS = ("file", "folder", "memory", "official")


class Outage(Exception):
    """What a model raises that does not answer."""


class Answer(NamedTuple):
    """What a model says to have used; `input` None: it says nothing, `fails`: it does not even answer."""

    input: int | None = 10
    output: int = 5
    cached: int = 0
    written: int = 0
    reasoning: int = 0
    fails: bool = False

    @property
    def usage(self) -> UsageMetadata | None:
        """The usage in LangChain's form."""
        if self.input is None:
            return None
        return UsageMetadata(
            input_tokens=self.input,
            output_tokens=self.output,
            total_tokens=self.input + self.output,
            input_token_details=InputTokenDetails(cache_read=self.cached, cache_creation=self.written),
            output_token_details=OutputTokenDetails(reasoning=self.reasoning),
        )


class Paid(NamedTuple):
    """An entry of a model's own account: the last thing it was asked, and what it answered."""

    model: str
    asked: str
    answer: Answer


class PaidModel(BaseChatModel):
    """A model that uses what it is told to, call by call, and the last of that from then on.

    In its `account` is every call that it answered, or refused to. In a coroutine it waits for `wait` first.
    """

    model_name: str = "paid-1"
    answers: Sequence[Answer] = ()
    decide: Callable[[], Answer] | None = None
    generations: int = 1
    wait: Any = None
    account: list[Paid] = Field(default_factory=list)

    _left: list[Answer] = PrivateAttr()
    _lock: Any = PrivateAttr()

    def model_post_init(self, context: Any, /) -> None:
        super().model_post_init(context)
        self._left = list(self.answers) or [Answer()]
        self._lock = threading.Lock()

    @property
    def _llm_type(self) -> str:
        return "paid"

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> Any:
        return {**super()._get_ls_params(stop=stop, **kwargs), "ls_provider": "tests"}

    def _next(self) -> Answer:
        if self.decide is not None:
            return self.decide()
        with self._lock:
            return self._left.pop(0) if len(self._left) > 1 else self._left[0]

    def _book(self, messages: Sequence[BaseMessage], answer: Answer) -> None:
        self.account.append(Paid(self.model_name, messages[-1].text, answer))
        if answer.fails:
            raise Outage("no answer")

    def _result(self, answer: Answer) -> ChatResult:
        said = {"model_name": self.model_name}
        return ChatResult(
            generations=[
                ChatGeneration(message=AIMessage("secret", usage_metadata=answer.usage, response_metadata=said))
                for _ in range(self.generations)
            ]
        )

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        answer = self._next()
        self._book(messages, answer)
        return self._result(answer)

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        answer = self._next()
        if self.wait is not None:
            await self.wait.wait()
        await asyncio.sleep(0)
        self._book(messages, answer)
        return self._result(answer)


class StreamingModel(PaidModel):
    """The same, word by word; what was used comes with the last."""

    def _chunks(self, answer: Answer) -> Iterator[ChatGenerationChunk]:
        for word in ("se", "cr", "et"):
            yield ChatGenerationChunk(message=AIMessageChunk(content=word))
        said = {"model_name": self.model_name}
        yield ChatGenerationChunk(
            message=AIMessageChunk(
                content="", usage_metadata=answer.usage, response_metadata=said, chunk_position="last"
            )
        )

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        answer = self._next()
        self._book(messages, answer)
        yield from self._chunks(answer)

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        answer = self._next()
        self._book(messages, answer)
        for chunk in self._chunks(answer):
            yield chunk


@contextmanager
def saver_of(
    kind: str, folder: Path, loop: asyncio.AbstractEventLoop | None = None
) -> Iterator[BaseCheckpointSaver[Any]]:
    """A saver of a kind: of this package over a file or a folder, LangGraph's in memory, or its one for SQLite."""
    if kind == "official":
        with official(loop) as made:
            yield made
    elif kind == "memory":
        yield InMemorySaver()
    else:
        with SqliteSaver(folder / "agent.db") if kind == "file" else FileSaver(folder / "checkpoints") as saver:
            yield saver


def asking(
    model: Any,
    saver: BaseCheckpointSaver[Any] | None,
    loop: asyncio.AbstractEventLoop | None = None,
    *,
    calls: int = 1,
    **options: Any,
) -> Pregel[Any, Any, Any, Any]:
    """A graph with a node "ask" that asks a model, in the form that `loop` says. `options` are the node's."""

    def ask(state: MessagesState) -> Any:
        return {"messages": [model.invoke("main") for _ in range(calls)]}

    async def aask(state: MessagesState) -> Any:
        return {"messages": [await model.ainvoke("main") for _ in range(calls)]}

    node: Any = ask if loop is None else aask
    return StateGraph(MessagesState).add_node("ask", node, **options).add_edge(START, "ask").compile(checkpointer=saver)


def running(
    graph: Pregel[Any, Any, Any, Any],
    ledger: Any,
    loop: asyncio.AbstractEventLoop | None = None,
    thread_id: str = "thread",
) -> Running:
    """The graph with a ledger in its callbacks, in the form that `loop` says."""
    if loop is not None and TOO_OLD:
        pytest.skip("before Python 3.11 a model in a coroutine has no callbacks")
    return Running(graph.with_config(callbacks=[ledger]), loop, thread_id=thread_id)


def usage(
    saver: Any, loop: asyncio.AbstractEventLoop | None = None, thread_id: Any = "thread", **options: Any
) -> UsageReport:
    """What `thread_usage` or `athread_usage` says."""
    if loop is None:
        return thread_usage(saver, thread_id, **options)
    return loop.run_until_complete(athread_usage(saver, thread_id, **options))


def used(answers: Sequence[Answer]) -> tuple[int, int, int]:
    """The calls, and the tokens in and out, of answers."""
    good = [answer for answer in answers if not answer.fails]
    return (
        len(answers),
        sum(answer.input or 0 for answer in good),
        sum(answer.output for answer in good if answer.input is not None),
    )


def sums(report: UsageReport) -> tuple[int, int, int]:
    """The calls, and the tokens in and out, of a report."""
    return report.calls, report.input, report.output


def record(**fields: Any) -> UsageRecord:
    """A record of a call that was answered."""
    made: dict[str, Any] = {
        "id": "1",
        "thread_id": "thread",
        "time": 1.75e9,
        "seconds": 1.0,
        "node": "ask",
        "path": "ask",
        "model": "gpt-4o",
        "asked": None,
        "provider": "openai",
        "tier": None,
        "purpose": "main",
        "input": 1000,
        "output": 100,
        "cached": None,
        "written": None,
        "written_1h": None,
        "reasoning": None,
        "input_audio": None,
        "output_audio": None,
        "cost": None,
        "failed": None,
        "broken": False,
    }
    return cast(UsageRecord, {**made, **fields})


INPUT: Any = {"messages": [("user", "secret question")]}
