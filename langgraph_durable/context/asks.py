"""What a compression may ask for while it runs: a model's answer, and what was paid for before; and its doing.

`compress` and its stages are generators that yield these and never wait, so that there is one of each for blocking code
and for coroutines.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias, TypeVar

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage
from langchain_core.runnables import RunnableConfig
from langgraph.constants import TAG_NOSTREAM

from langgraph_durable.context.draft import SOURCE, SUMMARY
from langgraph_durable.core.driving import adriven, driven
from langgraph_durable.errors import InvalidRequestError

T = TypeVar("T")


class Ask(NamedTuple):
    """Ask a model. Answer: its message."""

    model: BaseChatModel
    messages: Sequence[BaseMessage]


class Recall(NamedTuple):
    """Look for a text that was remembered. Answer: the text, or None."""

    key: str


class Remember(NamedTuple):
    """Remember a text, so that nobody has to pay for it again."""

    key: str
    text: str


Asked: TypeAlias = "Ask | Recall | Remember"
Asking: TypeAlias = Generator[Asked, Any, T]


class Memory(Protocol):
    """Where texts are remembered."""

    def recall(self, key: str) -> str | None: ...

    async def arecall(self, key: str) -> str | None: ...

    def remember(self, key: str, text: str) -> None: ...

    async def aremember(self, key: str, text: str) -> None: ...


def drive(asking: Asking[T], memory: Memory | None, config: RunnableConfig | None = None) -> T:
    """What a compression ends with, everything it asks for having been done. `config` is that of the running task."""

    def answer(asked: object) -> Any:
        if isinstance(asked, Ask):
            return asked.model.invoke(list(asked.messages), _quietly(config))
        if isinstance(asked, Recall):
            return memory.recall(asked.key) if memory is not None else None
        if isinstance(asked, Remember):
            return memory.remember(asked.key, asked.text) if memory is not None else None
        raise _unknown(asked)

    return driven(asking, answer)


async def adrive(asking: Asking[T], memory: Memory | None, config: RunnableConfig | None = None) -> T:
    """`drive` for a coroutine."""

    async def answer(asked: object) -> Any:
        if isinstance(asked, Ask):
            return await asked.model.ainvoke(list(asked.messages), _quietly(config))
        if isinstance(asked, Recall):
            return await memory.arecall(asked.key) if memory is not None else None
        if isinstance(asked, Remember):
            return await memory.aremember(asked.key, asked.text) if memory is not None else None
        raise _unknown(asked)

    return await adriven(asking, answer)


def _unknown(asked: object) -> InvalidRequestError:
    return InvalidRequestError(f"a stage yields Ask(model, messages), and it was {asked!r}")


def _quietly(config: RunnableConfig | None) -> RunnableConfig:
    """The config of a call that is part of a task, and none of its output: it is traced, counted, and not streamed."""
    given = config or {}
    return {
        **({"callbacks": given["callbacks"]} if "callbacks" in given else {}),
        "run_name": "summarize",
        "tags": [*(given.get("tags") or ()), TAG_NOSTREAM],
        "metadata": {**(given.get("metadata") or {}), SOURCE: SUMMARY},
    }
