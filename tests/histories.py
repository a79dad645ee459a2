"""Conversations that a seed decides: valid ones, broken ones, a few made by hand, and long ones made of recordings.

Every piece of text in them begins with a fact, a number that no other piece has (`FACT000123`), and long ones have more
of them. So a test sees what is left of a conversation, and what of it a summarizer was told.
"""

from __future__ import annotations

import base64
import json
import random
import re
import string
from collections.abc import Callable, Iterable, Sequence
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    HumanMessage,
    InvalidToolCall,
    SystemMessage,
    ToolCall,
    ToolMessage,
    convert_to_messages,
)

from langgraph_durable.core.conversation import UNKNOWN

FACT = re.compile(r"FACT\d{6}")
SPACING = 350
"""Characters of a text that share a fact."""

ENGLISH = (
    "the report says that nobody changed the schema after the last release, so the loader reads the old column and "
    "returns what it finds; we looked at the logs of both hosts and saw the retry at 10:42, then the timeout, and the "
    'queue kept growing until the worker was started again. {"status": "ok", "rows": [1, 2, 3]} def load(path): return '
    "open(path).read()  # see https://example.org/a?b=c&d=%20 <b>bold</b> | a | table | "
)
CHINESE = "我们检查了两台主机的日志，发现十点四十二分有一次重试，随后超时，队列一直增长，直到重新启动为止。"
SYMBOLS = "🙂🚀👩‍👩‍👧‍👦🇩🇪 naïve Ωmega ﷽ שלום مرحبا e\u0301\u0327 \u200b\u2028 \ufeff𝒳 "
VOICES = {"english": ENGLISH * 30, "chinese": CHINESE * 60, "symbols": SYMBOLS * 80}
TOOLS = ("search", "read_file", "run_sql", "edit", "weather", "查询")

PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x06\x00\x00\x00\x1f\x15\xc4\x89"
WAV = b"RIFF$\x08\x00\x00WAVEfmt "
PDF = b"%PDF-1.4\n"

ENDINGS = ("human", "answer", "results", "results", "humans")
"""How a conversation ends: each but "answer" is one that a model is asked to go on with."""


def told(message: BaseMessage) -> str:
    """All that a message says, with the arguments of its calls."""
    said = [str(message.content)]
    if isinstance(message, AIMessage):
        said += [str(call["args"]) for call in (*message.tool_calls, *message.invalid_tool_calls)]
    return " ".join(said)


def facts(messages: Iterable[BaseMessage]) -> set[str]:
    """The facts that messages carry."""
    return {fact for message in messages for fact in FACT.findall(told(message))}


def beginning(message: BaseMessage) -> str | None:
    """The first fact of a message, by which it is known whatever its id; None where it says nothing."""
    found = FACT.search(told(message))
    return found[0] if found else None


class Manner(NamedTuple):
    """What is alike in all of a conversation."""

    voices: tuple[str, ...]
    named: bool
    reused: bool
    blocks: float
    media: float
    style: str
    longest_loop: int
    huge: float


def _manner(dice: random.Random) -> Manner:
    return Manner(
        voices=dice.choice([("english",), ("english",), ("english", "chinese", "symbols"), ("chinese",)]),
        named=dice.random() < 0.85,
        reused=dice.random() < 0.25,
        blocks=dice.choice([0, 0.1, 0.6]),
        media=dice.choice([0, 0.1, 0.4]),
        style=dice.choice(["openai", "openai", "anthropic", "responses", "v1"]),
        longest_loop=dice.choice([3, 3, 6, 60]),
        huge=dice.choice([0, 0.05, 0.3]),
    )


class Writer:
    """Writes a conversation, message by message, and knows about how large it is by now."""

    def __init__(self, seed: int | str, manner: Manner | None = None) -> None:
        self.dice = random.Random(f"history {seed}")
        self.manner = manner or _manner(self.dice)
        self.messages: list[BaseMessage] = []
        self.size = 0
        """About as many tokens: a quarter of the bytes of text, and a flat number for media."""
        self._facts = count()
        self._ids = count()
        self._calls = count()

    # -- what is said ---------------------------------------------------------------------------------------------

    def fact(self) -> str:
        """A number that was never given before."""
        return f"FACT{next(self._facts):06}"

    def text(self, length: int, voice: str | None = None) -> str:
        """A text of about so many characters, with a fact at its beginning and every few hundred."""
        spoken = VOICES[voice or self.dice.choice(self.manner.voices)]
        said = []
        while length > 0:
            piece = min(length, SPACING)
            start = self.dice.randrange(len(spoken) - SPACING)
            said.append(f"{self.fact()} {spoken[start : start + max(piece - 11, 0)]}")
            length -= piece
        text = " ".join(said)
        self.size += len(text.encode()) // 4
        return text

    def data(self, head: bytes) -> str:
        """Some thousand bytes that begin like a file of a kind, in base64."""
        self.size += 400
        return base64.b64encode(head + self.dice.randbytes(self.dice.choice([30, 900, 6000]))).decode()

    def media(self) -> dict[str, Any]:
        """A block of an image, of sound or of a file, or of a kind that nobody knows."""
        match self.dice.randrange(8):
            case 0 | 1:
                return {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{self.data(PNG)}"}}
            case 2 | 3:
                return {"type": "image", "base64": self.data(PNG), "mime_type": "image/png"}
            case 4:
                return {"type": "audio", "base64": self.data(WAV), "mime_type": "audio/wav"}
            case 5:
                name = {"filename": "report.pdf"}
                return {"type": "file", "base64": self.data(PDF), "mime_type": "application/pdf", **name}
            case 6:
                source = {"type": "base64", "media_type": "image/png", "data": self.data(PNG)}
                return {"type": "image", "source": source}
            case _:
                return {"type": "widget", "payload": {"title": self.text(60), "rows": [1, None, {"値": 2.5}]}}

    def content(self, length: int, media: bool = False) -> str | list[str | dict[Any, Any]]:
        """A text, as it is or in blocks, perhaps with media in between."""
        if media and self.dice.random() < self.manner.media:
            shown: list[str | dict[Any, Any]] = [self.media() for _ in range(self.dice.choice([1, 1, 2, 5]))]
            shown.insert(self.dice.choice([0, len(shown)]), {"type": "text", "text": self.text(length)})
            return shown
        if self.dice.random() >= self.manner.blocks:
            return self.text(length)
        blocks: list[str | dict[Any, Any]] = []
        for _ in range(self.dice.choice([1, 1, 2, 3])):
            part = self.text(max(length // 2, 10))
            blocks.append(part if self.dice.random() < 0.2 else {"type": "text", "text": part})
        return blocks

    def arguments(self) -> dict[str, Any]:
        """What a tool is called with."""
        if self.dice.random() < self.manner.huge:
            return {"path": "/srv/日本/a.py", "content": self.text(self.dice.choice([3_000, 9_000, 20_000]))}
        match self.dice.randrange(5):
            case 0:
                return {}
            case 1 | 2:
                return {"query": self.text(40)}
            case 3:
                return {"q": self.text(200, "symbols"), "limit": self.dice.randrange(100), "exact": True, "near": None}
            case _:
                edits = [{"old": self.text(60), "new": self.text(self.dice.choice([20, 900]))} for _ in range(2)]
                return {"edits": edits, "ключ": {"深": [1, 2.5, None, {"é": [self.text(30)]}], "": {}}}

    # -- who says it ----------------------------------------------------------------------------------------------

    def add(self, message: BaseMessage) -> BaseMessage:
        """Say it, under an id if the messages of this conversation have any."""
        if self.manner.named and message.id is None:
            message.id = f"m{next(self._ids)}"
        self.size += 5
        self.messages.append(message)
        return message

    def system(self) -> None:
        """Instructions, at the head of a conversation."""
        self.add(SystemMessage(self.content(self.dice.choice([30, 300, 900]))))

    def human(self) -> None:
        """A request."""
        length = self.dice.choices([15, 100, 800, 4_000, 30_000], [30, 40, 20, 5, 0.5])[0]
        name = "Ann" if self.dice.random() < 0.1 else None
        empty = self.dice.random() < 0.02
        self.add(HumanMessage("" if empty else self.content(length, media=True), name=name))

    def calls(self, number: int) -> list[ToolCall]:
        """Calls that a model makes at once."""
        start = 0 if self.manner.reused else next(self._calls)
        made: list[ToolCall] = []
        for place in range(number):
            call_id = f"call_{start}_{place}" if self.manner.style != "anthropic" else f"toolu_{start:04}{place}"
            args = self.arguments()
            self.size += 15
            made.append(ToolCall(name=self.dice.choice(TOOLS), args=args, id=call_id, type="tool_call"))
        return made

    def model(self, calls: Sequence[ToolCall] = (), silent: float = 0.0) -> AIMessage:
        """What a model says, and the calls that it makes."""
        length = self.dice.choices([20, 150, 900, 3_500], [30, 50, 15, 5])[0]
        content: str | list[str | dict[Any, Any]] = "" if self.dice.random() < silent else self.content(length)
        told_by: dict[str, Any] = {}
        if self.manner.style != "openai" and self.dice.random() < 0.8:
            content, told_by = self._in_blocks(content, calls)
        usage: Any = None
        if self.dice.random() < 0.4:
            read = int(self.size * self.dice.uniform(0.6, 1.5)) + self.dice.randrange(200)
            written = self.dice.randrange(1, 500)
            usage = {"input_tokens": read, "output_tokens": written, "total_tokens": read + written}
        message = AIMessage(content, tool_calls=list(calls), usage_metadata=usage, response_metadata=told_by)
        self.add(message)
        return message

    def _in_blocks(
        self, content: str | list[str | dict[Any, Any]], calls: Sequence[ToolCall]
    ) -> tuple[list[str | dict[Any, Any]], dict[str, Any]]:
        """What a model says, in blocks that repeat its calls, as the providers' own packages make them."""
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) and content else list(content or [])
        match self.manner.style:
            case "anthropic":
                if self.dice.random() < 0.3:
                    thought = {"type": "thinking", "thinking": self.text(200), "signature": self.data(b"sig")[:60]}
                    blocks.insert(0, thought)
                made = [{"type": "tool_use", "id": c["id"], "name": c["name"], "input": c["args"]} for c in calls]
                return [*blocks, *made], {"model_provider": "anthropic", "model_name": "claude"}
            case "responses":
                made = [
                    {
                        "type": "function_call",
                        "id": f"fc_{call['id']}",
                        "call_id": call["id"],
                        "name": call["name"],
                        "arguments": json.dumps(call["args"]),
                    }
                    for call in calls
                ]
                return [*blocks, *made], {"model_provider": "openai", "model_name": "gpt"}
        # Blocks of LangChain 1.0 are never bare strings.
        blocks = [{"type": "text", "text": block} if isinstance(block, str) else block for block in blocks]
        return [*blocks, *({**call} for call in calls)], {"output_version": "v1", "model_provider": "openai"}

    def results(self, calls: Sequence[ToolCall]) -> None:
        """What the tools return, in whatever order."""
        for call in self.dice.sample(list(calls), len(calls)):
            length = self.dice.choices([10, 120, 900, 3_000, 8_000], [20, 30, 30, 15, 5])[0]
            status: Any = "error" if self.dice.random() < 0.05 else "success"
            if self.dice.random() < 0.2:
                rows = [{"id": number, "text": self.text(60)} for number in range(length // 80)]
                content: str | list[str | dict[Any, Any]] = json.dumps({"rows": rows})
            else:
                content = "" if self.dice.random() < 0.02 else self.content(length, media=True)
            made = ToolMessage(content, tool_call_id=call["id"] or "", name=call["name"], status=status)
            if self.dice.random() < 0.1:
                made.artifact = {"rows": [1, 2]}
            self.add(made)

    def step(self, number: int | None = None) -> None:
        """A model calls tools, and they return."""
        calls = self.calls(number or self.dice.choices([1, 2, 3, 4], [60, 20, 12, 8])[0])
        self.model(calls, silent=0.5)
        self.results(calls)

    def turn(self, answered: bool = True) -> None:
        """A request or several, what is done for it, and mostly an answer."""
        for _ in range(self.dice.choice([1, 1, 1, 1, 1, 1, 2, 4])):
            self.human()
        for _ in range(self.dice.choice([0, 1, 1, 2, self.dice.randint(1, self.manner.longest_loop)])):
            self.step()
        if answered and self.dice.random() < 0.93:
            self.model(silent=0.03)

    def end(self, how: str) -> None:
        """Come to an end in one of the `ENDINGS`."""
        self.turn()
        if how == "answer":
            if not isinstance(self.messages[-1], AIMessage):
                self.model()
            return
        self.human()
        if how == "humans":
            self.human()
        if how == "results":
            for _ in range(self.dice.choice([1, 1, 3])):
                self.step()


def valid(seed: int | str, tokens: int = 20_000) -> list[BaseMessage]:
    """A conversation that every provider takes, of about so many tokens."""
    writer = Writer(seed)
    for _ in range(writer.dice.choice([0, 1, 1, 1, 2])):
        writer.system()
    if writer.dice.random() < 0.1:
        # Many chat apps open with a greeting of the model.
        writer.model()
    how = writer.dice.choice(ENDINGS)
    while writer.size < tokens * 0.85:
        writer.turn()
    writer.end(how)
    return writer.messages


# -- what is wrong with some -----------------------------------------------------------------------------------------


class Damaged(NamedTuple):
    """A conversation, and what was done to it."""

    messages: list[BaseMessage]
    damages: list[str]


def _places(messages: Sequence[BaseMessage], kind: type[BaseMessage]) -> list[int]:
    return [place for place, message in enumerate(messages) if isinstance(message, kind)]


def _calling(messages: Sequence[BaseMessage]) -> list[int]:
    """Where messages with calls are."""
    return [place for place, message in enumerate(messages) if isinstance(message, AIMessage) and message.tool_calls]


def _lose_result(messages: list[BaseMessage], writer: Writer) -> None:
    del messages[writer.dice.choice(_places(messages, ToolMessage))]


def _lose_call(messages: list[BaseMessage], writer: Writer) -> None:
    del messages[writer.dice.choice(_calling(messages))]


def _double_result(messages: list[BaseMessage], writer: Writer) -> None:
    place = writer.dice.choice(_places(messages, ToolMessage))
    twin = messages[place].model_copy(update={"content": writer.text(40), "id": _other_id(messages[place], writer)})
    messages.insert(writer.dice.choice([place + 1, len(messages)]), twin)


def _double_message(messages: list[BaseMessage], writer: Writer) -> None:
    bodies = [place for place, message in enumerate(messages) if not isinstance(message, SystemMessage)]
    place = writer.dice.choice([place for place in bodies if messages[place].id is not None])
    messages.insert(writer.dice.choice([place + 1, len(messages)]), messages[place].model_copy(deep=True))


def _late_result(messages: list[BaseMessage], writer: Writer) -> None:
    result = messages.pop(writer.dice.choice(_places(messages, ToolMessage)))
    messages += [HumanMessage(writer.text(30), id=_other_id(result, writer)), result]


def _early_result(messages: list[BaseMessage], writer: Writer) -> None:
    last = _places(messages, ToolMessage)[-1]
    place = writer.dice.choice([at for at in _calling(messages) if at < last] or [0])
    # It may be of a later call: of reused ids one would find an owner at the wrong place.
    result = messages.pop(writer.dice.choice([at for at in _places(messages, ToolMessage) if at >= place]))
    messages.insert(place, result)


def _interrupted(messages: list[BaseMessage], writer: Writer) -> None:
    place = writer.dice.choice(_places(messages, ToolMessage))
    messages.insert(place, HumanMessage(writer.text(30), id=_other_id(messages[place], writer)))


def _unreadable_call(messages: list[BaseMessage], writer: Writer) -> None:
    place = writer.dice.choice(_places(messages, AIMessage))
    call = InvalidToolCall(
        name="search",
        args='{"query": "' + writer.text(30),
        id=f"bad_{writer.fact()}",
        error=None,
        type="invalid_tool_call",
    )
    message = messages[place]
    assert isinstance(message, AIMessage)
    messages[place] = message.model_copy(update={"invalid_tool_calls": [*message.invalid_tool_calls, call]})


def _nameless_call(messages: list[BaseMessage], writer: Writer) -> None:
    place = writer.dice.choice(_calling(messages))
    message = messages[place]
    assert isinstance(message, AIMessage)
    calls = [dict(call) for call in message.tool_calls]
    writer.dice.choice(calls)["id"] = writer.dice.choice(["", None])
    messages[place] = message.model_copy(update={"tool_calls": calls})


def _hidden_call(messages: list[BaseMessage], writer: Writer) -> None:
    place = writer.dice.choice(_places(messages, AIMessage))
    call_id = f"hidden_{writer.fact()}"
    call = writer.dice.choice(
        [
            {"type": "tool_use", "id": call_id, "name": "search", "input": {"query": writer.text(30)}},
            {
                "type": "function_call",
                "call_id": call_id,
                "name": "search",
                "arguments": json.dumps({"q": writer.text(30)}),
            },
        ]
    )
    content = messages[place].content
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) and content else list(content)
    messages[place] = messages[place].model_copy(update={"content": [*blocks, call]})


def _open_end(messages: list[BaseMessage], writer: Writer) -> None:
    writer.messages = messages
    calls = writer.calls(writer.dice.choice([1, 3]))
    for call in calls:
        call["id"] = f"open_{call['id']}"
    message = AIMessage(writer.text(20), tool_calls=calls, id=_other_id(messages[-1], writer))
    messages.append(message)
    writer.results(calls[1:])


def _twin_calls(messages: list[BaseMessage], writer: Writer) -> None:
    place = writer.dice.choice(_calling(messages))
    message = messages[place]
    assert isinstance(message, AIMessage)
    calls = [*message.tool_calls, {**message.tool_calls[0], "args": {"again": writer.text(20)}}]
    messages[place] = message.model_copy(update={"tool_calls": calls})


def _made_up_result(messages: list[BaseMessage], writer: Writer) -> None:
    place = writer.dice.choice(_places(messages, ToolMessage))
    update = {"content": UNKNOWN, "status": "error", "id": _other_id(messages[place], writer)}
    messages.insert(place, messages[place].model_copy(update=update))


def _other_id(message: BaseMessage, writer: Writer) -> str | None:
    """A new id, where messages have one."""
    return None if message.id is None else f"new {writer.fact()}"


Damage = Callable[[list[BaseMessage], Writer], None]
DAMAGES: dict[str, Damage] = {
    "a result removed": _lose_result,
    "the message of a call removed": _lose_call,
    "a second result": _double_result,
    "a message twice": _double_message,
    "a result at the end": _late_result,
    "a result before its call": _early_result,
    "a request between call and result": _interrupted,
    "an unreadable call": _unreadable_call,
    "a call without id": _nameless_call,
    "a call in the content alone": _hidden_call,
    "calls left open at the end": _open_end,
    "two calls of one id": _twin_calls,
    "a made-up result before the real one": _made_up_result,
}


def damaged(seed: int | str, kinds: Sequence[str] | None = None, tokens: int = 20_000) -> Damaged:
    """A valid conversation to which one to four things were done, or these."""
    writer = Writer(f"damage {seed}")
    messages = valid(seed, tokens)
    while not _calling(messages) or not _places(messages, ToolMessage):
        messages = valid(f"{seed} again {writer.fact()}", tokens)
    chosen = list(kinds) if kinds else writer.dice.sample(list(DAMAGES), writer.dice.randint(1, 4))
    if messages[0].id is None:
        chosen = [kind for kind in chosen if kind != "a message twice"] or ["a result removed"]
    # The facts and ids of what is added begin where no conversation of this size gets.
    writer._facts = count(900_000)
    writer._ids = count(900_000)
    for kind in chosen:
        if _calling(messages) and _places(messages, ToolMessage):
            DAMAGES[kind](messages, writer)
    return Damaged(messages, chosen)


def broken(seed: int | str) -> list[BaseMessage]:
    """A conversation that a provider refuses."""
    return damaged(seed).messages


# -- made by hand ----------------------------------------------------------------------------------------------------

PLAIN = Manner(("english",), named=True, reused=False, blocks=0, media=0, style="openai", longest_loop=3, huge=0)

HOPELESS = frozenset({"a system message above every budget"})
"""Names of conversations by hand that nothing can be done about."""


def by_hand() -> dict[str, list[BaseMessage]]:
    """Conversations at the edges of what there is."""
    made: dict[str, list[BaseMessage]] = {}

    def write(name: str, **changes: Any) -> Writer:
        writer = Writer(name, PLAIN._replace(**changes))
        made[name] = writer.messages
        return writer

    write("empty")
    write("only a system message").system()
    it = write("only system messages")
    it.system()
    it.system()
    it = write("a system message above every budget")
    it.add(SystemMessage(it.text(100_000)))
    it.human()
    write("only a request").human()
    write("only an answer").model()
    it = write("only answers")
    for _ in range(60):
        it.add(AIMessage(it.text(2_000)))
    it = write("a giant request alone")
    it.add(HumanMessage(it.text(80_000)))
    it = write("a giant request in Chinese")
    it.add(HumanMessage(it.text(60_000, "chinese")))
    it = write("a giant request of symbols")
    it.add(HumanMessage(it.text(60_000, "symbols")))
    it = write("a giant request in blocks")
    it.system()
    it.add(HumanMessage([{"type": "text", "text": it.text(9_000)} for _ in range(12)]))
    it = write("a giant request, then a small step")
    it.system()
    it.turn()
    it.add(HumanMessage(it.text(72_000)))
    it.step()
    it = write("a giant old request")
    it.add(HumanMessage(it.text(72_000)))
    it.model()
    it.turn()
    it.human()
    it = write("a giant result last")
    it.system()
    it.human()
    calls = it.calls(1)
    it.model(calls)
    it.add(ToolMessage(it.text(80_000), tool_call_id=str(calls[0]["id"])))
    it = write("a giant result in the middle")
    it.human()
    calls = it.calls(1)
    it.model(calls)
    it.add(ToolMessage(it.text(80_000), tool_call_id=str(calls[0]["id"])))
    it.turn()
    it.human()
    it = write("a giant result of one line without spaces")
    it.human()
    calls = it.calls(1)
    it.model(calls)
    it.add(ToolMessage(it.fact() + string.ascii_letters * 1_500, tool_call_id=str(calls[0]["id"])))
    it = write("a giant answer last")
    it.human()
    it.add(AIMessage(it.text(80_000)))
    for number in (20, 200):
        it = write(f"{number} calls at once, last")
        it.human()
        it.step(number)
        it = write(f"{number} calls at once, old")
        it.human()
        it.step(number)
        it.model()
        it.human()
    it = write("500 requests in a row")
    for _ in range(500):
        it.add(HumanMessage(it.text(200)))
    it = write("3,000 tiny messages")
    for _ in range(1_500):
        it.add(HumanMessage(it.fact()))
        it.add(AIMessage(it.fact()))
    it.human()
    it = write("a loop of 150 steps behind one request")
    it.system()
    it.human()
    for _ in range(150):
        it.step()
    it = write("giant arguments, old", huge=1.0)
    for _ in range(4):
        it.turn()
        it.step()
    it.human()
    it = write("giant arguments, last", huge=1.0)
    it.system()
    it.human()
    it.step(2)
    it = write("giant arguments in Anthropic's blocks, last", huge=1.0, style="anthropic")
    it.human()
    it.step(2)
    it = write("arguments of many small parts, last")
    it.human()
    args = {f"key {number}": it.fact() for number in range(3_000)}
    call = ToolCall(name="put", args=args, id="call_many", type="tool_call")
    it.model([call])
    it.results([call])
    it = write("arguments of numbers, last")
    it.human()
    call = ToolCall(name="put", args={"rows": [[0.123456] * 10] * 1_000}, id="call_rows", type="tool_call")
    it.model([call])
    it.results([call])
    it = write("arguments that broke off, last")
    it.human()
    broken: Any = {"name": "put", "args": '{"text": "' + it.text(30_000), "id": "call_broken", "error": None}
    it.add(AIMessage("", invalid_tool_calls=[{**broken, "type": "invalid_tool_call"}]))
    it.add(ToolMessage("The arguments could not be read.", tool_call_id="call_broken"))
    it = write("deep arguments, old and last")
    for _ in range(2):
        it.human()
        deep: Any = it.text(30_000)
        for _ in range(30):
            deep = {"in": [deep]}
        call = ToolCall(name="put", args=deep, id=it.fact(), type="tool_call")
        it.model([call])
        it.results([call])
    it = write("all images")
    for number in range(40):
        url = f"data:image/png;base64,{it.data(PNG)}"
        block = {"type": "image_url", "image_url": {"url": url}}
        it.add(HumanMessage([block, {"type": "text", "text": it.text(20)}] if number % 2 else [block]))
        it.model()
    it.human()
    it = write("images from tools, media last", media=1.0)
    it.system()
    for _ in range(12):
        it.human()
        it.step()
        it.model()
    it.human()
    it.step()
    it = write("a summary at the head")
    it.system()
    summary = HumanMessage(f"Summary so far: {it.text(600)}", additional_kwargs={"lc_source": "summarization"})
    it.add(summary)
    for _ in range(25):
        it.step()
    it.model()
    it.human()
    it = write("a summary at the head and no other request")
    it.add(HumanMessage(f"Summary: {it.text(600)}", additional_kwargs={"lc_source": "summarization"}))
    for _ in range(60):
        it.step()
    it = write("a giant summary at the head")
    it.add(HumanMessage(f"Summary: {it.text(90_000)}", additional_kwargs={"lc_source": "summarization"}))
    it.step()
    it.human()
    it = write("without ids", named=False)
    it.system()
    while it.size < 20_000:
        it.turn()
    it.human()
    it.step()
    it = write("contents that are bare strings", blocks=0)
    it.add(SystemMessage([it.text(60), it.text(60)]))
    for _ in range(30):
        it.add(HumanMessage([it.text(500), {"type": "text", "text": it.text(500)}]))
        it.add(AIMessage([it.text(500), it.text(500)]))
    it.add(HumanMessage([it.text(50)]))
    it = write("empty contents")
    for _ in range(120):
        it.add(HumanMessage(""))
        it.add(HumanMessage([]))
        it.step()
        it.add(AIMessage(""))
        it.add(AIMessage([]))
    it.add(HumanMessage(""))
    it = write("a greeting first")
    it.add(AIMessage(it.text(100)))
    for _ in range(40):
        it.turn()
    it.human()
    it = write("answers in a row")
    it.human()
    for _ in range(80):
        it.add(AIMessage(it.text(900)))
    it = write("unknown blocks only")
    for _ in range(60):
        it.add(HumanMessage([{"type": "widget", "payload": {"text": it.text(700)}}]))
        it.model()
    it.human()
    it = write("every result the same call id", reused=True)
    it.human()
    for _ in range(80):
        it.step(1)
    return made


# -- of recordings ---------------------------------------------------------------------------------------------------


def long_thread(paths: Sequence[Path], messages_target: int) -> list[BaseMessage]:
    """Recorded conversations one after another under one system message, until there are so many messages.

    Messages and calls have ids of their own, also where a recording comes again.
    """
    recordings = [json.loads(line)["messages"] for path in paths for line in path.read_text("utf-8").splitlines()]
    made: list[BaseMessage] = []
    names: dict[str, str] = {}
    """What the calls of the last message of the model are called; recordings use an id again in a later turn."""
    while True:
        for recording in recordings:
            for message in convert_to_messages(recording):
                if isinstance(message, SystemMessage) and made:
                    continue
                message.id = f"m{len(made)}"
                if isinstance(message, AIMessage):
                    message.additional_kwargs.pop("tool_calls", None)
                    names = {str(call["id"]): f"{call['id']}_{len(made)}" for call in message.tool_calls}
                    for call in message.tool_calls:
                        call["id"] = names[str(call["id"])]
                if isinstance(message, ToolMessage):
                    message.tool_call_id = names[message.tool_call_id]
                made.append(message)
                if len(made) >= messages_target and isinstance(message, HumanMessage):
                    return made
