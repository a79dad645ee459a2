"""Small conversations to compress, and models that say what a test wants."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from pydantic import Field

Answer = Callable[[Sequence[BaseMessage]], AIMessage]


class Scripted(BaseChatModel):
    """A chat model that answers by a function, and keeps what it was told."""

    answer: Any
    told: list[list[BaseMessage]] = Field(default_factory=list)

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        return self

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        self.told.append(messages)
        return ChatResult(generations=[ChatGeneration(message=self.answer(messages))])


def says(text: str) -> Scripted:
    """A model that says the same whatever it is told."""
    return Scripted(answer=lambda messages: AIMessage(text))


def raising(error: Exception) -> Scripted:
    """A model that fails."""

    def fail(messages: Sequence[BaseMessage]) -> AIMessage:
        raise error

    return Scripted(answer=fail)


def calling(call_id: str, args: dict[str, Any] | None = None, name: str = "look", text: str = "") -> AIMessage:
    """A message of a model that calls one tool."""
    made: Any = {"name": name, "args": args or {"q": call_id}, "id": call_id, "type": "tool_call"}
    return AIMessage(text, id=f"ai {call_id}", tool_calls=[made])


def result(call_id: str, content: Any = "found", name: str = "look") -> ToolMessage:
    """The result of a call."""
    return ToolMessage(content, tool_call_id=call_id, id=f"result {call_id}", name=name)


def turns(count: int, size: int = 400, system: str | None = "Be brief.") -> list[BaseMessage]:
    """A conversation of turns: a request, a call of a tool, its result of so many characters, an answer."""

    def each() -> Iterator[BaseMessage]:
        if system is not None:
            yield SystemMessage(system, id="system")
        for turn in range(count):
            yield HumanMessage(f"Question {turn}?", id=f"human {turn}")
            yield calling(f"call {turn}")
            yield result(f"call {turn}", f"Result {turn} ".ljust(size, "x"))
            yield AIMessage(f"Answer {turn}.", id=f"answer {turn}")

    return list(each())


def ids(messages: Sequence[BaseMessage]) -> list[str | None]:
    """The ids, in their order."""
    return [message.id for message in messages]
