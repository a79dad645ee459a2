"""The server that stands for OpenAI's answers its client as that does, counts alone, and refuses what that refuses."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import openai
import pytest
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    AnyMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)
from langchain_core.tools import tool

from tests.openai_server import Answer, Call, Exchange, Fault, OpenAIServer, Totals, chat_model, count, pieces

FORMS = ("invoke", "ainvoke", "stream", "astream")

WEATHER = Call("weather", {"city": "Zürich", "days": [1, 2]}, "call_1")


@tool
def weather(city: str, days: list[int]) -> str:
    """The weather of a city on these days."""
    return f"{city}: rain"


def ask(form: str, url: str, messages: Any, name: str = "gpt-4o", *, bind: bool = False, **options: Any) -> AIMessage:
    """The answer of the model to this, in one of the forms of its client."""
    chat = chat_model(url, name, **options)
    model = chat.bind_tools([weather]) if bind else chat

    async def streamed() -> list[Any]:
        return [chunk async for chunk in model.astream(messages)]

    async def waited() -> AIMessage:
        try:
            return await model.ainvoke(messages) if form == "ainvoke" else added(await streamed())
        finally:
            await chat.root_async_client.close()

    if form in ("ainvoke", "astream"):
        return asyncio.run(waited())
    try:
        return model.invoke(messages) if form == "invoke" else added(list(model.stream(messages)))
    finally:
        chat.root_client.close()


def added(chunks: Sequence[AIMessage]) -> AIMessage:
    """What a stream says in all."""
    assert len(chunks) > 3, "it came in one piece"
    assert isinstance(chunks[0], AIMessageChunk)
    whole = chunks[0]
    for chunk in chunks[1:]:
        assert isinstance(chunk, AIMessageChunk)
        whole += chunk
    return whole


def calls(*ids: str) -> AIMessage:
    return AIMessage("", tool_calls=[{"name": "weather", "args": {"city": one, "days": []}, "id": one} for one in ids])


def result(call: str) -> ToolMessage:
    return ToolMessage("rain", tool_call_id=call)


def hello(request: Exchange) -> Answer:
    return Answer("Hello, you are the one who asked.")


@pytest.fixture
def serving() -> Iterator[Callable[..., OpenAIServer]]:
    """A function that starts a server; all of them end, and so do their threads."""
    before = set(threading.enumerate())
    started: list[OpenAIServer] = []

    def start(policy: Any = hello, **options: Any) -> OpenAIServer:
        started.append(OpenAIServer(policy, **options).__enter__())
        return started[-1]

    yield start
    for server in started:
        server.__exit__(None, None, None)
    ours = [thread for thread in set(threading.enumerate()) - before if "openai server" in thread.name]
    assert not ours


@pytest.fixture(autouse=True)
def no_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Proxies that lead nowhere are set, as they may be where tests run."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)


# -- what it answers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_text(serving: Callable[..., OpenAIServer], form: str) -> None:
    """A text comes whole or in pieces, with what it took, in every form of the client."""
    server = serving()
    answer = ask(form, server.url, [SystemMessage("Be kind."), HumanMessage("hi")])
    assert answer.content == "Hello, you are the one who asked."
    (exchange,) = server.exchanges
    assert exchange.messages == [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "hi"}]
    assert (exchange.status, exchange.stream, exchange.model) == (200, "stream" in form, "gpt-4o")
    usage = answer.usage_metadata
    assert usage is not None
    assert (usage["input_tokens"], usage["output_tokens"]) == (exchange.input, exchange.output)
    assert exchange.input == count(exchange.messages) > 0
    assert answer.response_metadata["model_name"] == "gpt-4o"
    assert answer.response_metadata["finish_reason"] == "stop"


@pytest.mark.parametrize("form", FORMS)
def test_tool_calls(serving: Callable[..., OpenAIServer], form: str) -> None:
    """Several calls come whole or in pieces, beside a text, and their results are taken."""
    other = Call("weather", '{"city": "Basel", "days": []}', "call_2")
    first = Answer("Let me see.", (WEATHER, other))
    server = serving(lambda request: first if len(request.messages) == 1 else hello(request))
    question = HumanMessage("How is the weather?")
    answer = ask(form, server.url, [question], bind=True)
    assert answer.content == "Let me see."
    assert [(call["id"], call["name"], call["args"]) for call in answer.tool_calls] == [
        ("call_1", "weather", {"city": "Zürich", "days": [1, 2]}),
        ("call_2", "weather", {"city": "Basel", "days": []}),
    ]
    assert server.exchanges[0].tools[0]["function"]["name"] == "weather"
    said: list[AnyMessage] = [question, answer, result("call_2"), result("call_1")]
    assert "Hello" in str(ask(form, server.url, said, bind=True).content)
    assert server.exchanges[0].input > count(server.exchanges[0].messages), "tools count as well"


def test_arguments_that_are_no_json(serving: Callable[..., OpenAIServer]) -> None:
    """A call may be as broken as a model makes them."""
    server = serving(lambda request: Answer(calls=(Call("weather", '{"city": "Zür', "call_1"),)))
    answer = ask("invoke", server.url, [HumanMessage("hi")])
    assert [call["args"] for call in answer.invalid_tool_calls] == ['{"city": "Zür']


def test_answers_that_are_cut_off(serving: Callable[..., OpenAIServer]) -> None:
    """An answer is no longer than was asked for, and says so."""
    server = serving()
    answer = ask("invoke", server.url, [HumanMessage("hi")], max_tokens=2)
    assert answer.content == "Hello,"
    assert answer.response_metadata["finish_reason"] == "length"


# -- what it counts --------------------------------------------------------------------------------------------------


def test_pieces() -> None:
    """A token is a word, a part of a long one, up to three digits or signs, or two letters of other scripts."""
    assert pieces("The cat, internationally") == ("The", " cat", ",", " interna", "tionall", "y")
    assert pieces('{"number": 12345}') == ('{"', "number", '":', " ", "123", "45", "}")
    assert pieces("你好吗 🙂\n\n") == ("你好", "吗", " ", "🙂", "\n\n")
    for text in ("", "ab" * 40, "\x00\x07é~ ~\t 7 \ud7ff", json.dumps({"a": [1.5, None]}, indent=2)):
        assert "".join(pieces(text)) == text


def test_pictures_and_calls_count(serving: Callable[..., OpenAIServer]) -> None:
    """A picture is as many tokens as another, and calls count with their arguments."""
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 5000}}
    assert count([{"role": "user", "content": [picture]}]) - count([{"role": "user", "content": ""}]) == 765
    function = {"name": "weather", "arguments": '{"city": "Basel"}'}
    call = {"id": "call_1", "type": "function", "function": function}
    assert count([{"role": "assistant", "content": None, "tool_calls": [call]}]) > count([{"role": "assistant"}]) + 5
    server = serving()
    ask("invoke", server.url, [HumanMessage([picture])])
    assert server.exchanges[0].input > 765


@pytest.mark.parametrize("form", FORMS)
def test_cached_prompts(serving: Callable[..., OpenAIServer], form: str) -> None:
    """What an earlier prompt to the same model began with is cached, in steps of 128 tokens from 1,024 on."""
    server = serving()
    long = " ".join(f"word{number}" for number in range(700))
    first = HumanMessage(long)
    seen: list[int | None] = []
    for messages, name in (
        ([first], "gpt-4o"),
        ([first, AIMessage("yes"), HumanMessage("and now?")], "gpt-4o"),
        ([first], "other"),
        ([HumanMessage("no " + long)], "gpt-4o"),
        ([HumanMessage(long[:2000])], "gpt-4o"),
        ([HumanMessage(long + " and " + long)], "gpt-4o"),
    ):
        usage = ask(form, server.url, messages, name).usage_metadata
        assert usage is not None
        seen.append(usage["input_token_details"]["cache_read"])
    assert seen == [exchange.cached for exchange in server.exchanges]
    whole = count([{"role": "user", "content": long}]) - 7  # without what ends the message and begins the answer
    assert seen == [0, whole // 128 * 128, 0, 0, 0, whole // 128 * 128]


def test_totals(serving: Callable[..., OpenAIServer]) -> None:
    """Totals are of what was answered, by model, and have a price in which cached tokens cost less."""
    server = serving(faults={2: Fault(500)})
    ask("invoke", server.url, "hi")
    ask("invoke", server.url, "hello there", "small")
    with pytest.raises(openai.InternalServerError):
        ask("invoke", server.url, "hi")
    with pytest.raises(openai.BadRequestError):
        ask("invoke", server.url, [result("call_1")])
    first, second = server.exchanges[:2]
    assert server.totals() == Totals(2, first.input + second.input, first.output + second.output, 0)
    assert server.totals("small") == Totals(1, second.input, second.output, 0)
    assert Totals(1, 3_000_000, 1_000_000, 1_000_000).cost(input=2, cached=1, output=8) == 13
    assert [exchange.status for exchange in server.exchanges] == [200, 200, 500, 400]


# -- what it refuses -------------------------------------------------------------------------------------------------

ORPHAN = "messages with role 'tool' must be a response to a preceeding message with 'tool_calls'"
UNANSWERED = "must be followed by tool messages responding to each 'tool_call_id'"

BROKEN: dict[str, tuple[list[AnyMessage], str, str]] = {
    "a result first": ([result("a")], ORPHAN, "messages.[0].role"),
    "a result behind a human": ([HumanMessage("hi"), result("a")], ORPHAN, "messages.[1].role"),
    "a result behind an answer": ([HumanMessage("hi"), AIMessage("yes"), result("a")], ORPHAN, "messages.[2].role"),
    "a result of another call": ([calls("a"), result("b")], "'b' not found in 'tool_calls'", "messages.[1].tool_call_"),
    "a result twice": ([calls("a"), result("a"), result("a")], "messages[1] and messages[2]", "messages.[2].tool_call"),
    "a call at the end": ([HumanMessage("hi"), calls("a")], UNANSWERED, "messages.[1].role"),
    "a call without a result": ([calls("a", "b"), result("b"), HumanMessage("hi")], "messages: a", "messages.[2].role"),
    "a human before the result": ([calls("a"), HumanMessage("hi"), result("a")], UNANSWERED, "messages.[1].role"),
    "no calls any more": ([calls("a"), calls("b"), result("b")], "messages: a", "messages.[1].role"),
    "nothing": ([], "empty array", "messages"),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", list(BROKEN))
def test_broken_conversations(serving: Callable[..., OpenAIServer], name: str, form: str) -> None:
    """Calls and results that do not fit together are a bad request, in OpenAI's words."""
    messages, words, param = BROKEN[name]
    server = serving()
    with pytest.raises(openai.BadRequestError) as caught:
        ask(form, server.url, messages)
    assert words in str(caught.value)
    assert caught.value.type == "invalid_request_error"
    assert str(caught.value.param).startswith(param)
    assert server.refused()
    assert server.totals().calls == 0


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ({"role": "user", "content": None}, "expected a string, got null"),
        ({"role": "assistant", "content": None}, "expected a string, got null"),
        ({"role": "robot", "content": "hi"}, "Invalid value: 'robot'"),
        ({"role": "user", "content": [{"type": "tool_use"}]}, "Invalid value: 'tool_use'"),
        ({"role": "assistant", "content": "", "tool_calls": []}, "empty array"),
        ({"role": "system", "content": [{"type": "image_url", "image_url": {"url": ""}}]}, "Image URLs are only"),
    ],
)
def test_broken_messages(serving: Callable[..., OpenAIServer], message: Any, words: str) -> None:
    """A message that is none is a bad request."""
    server = serving()
    with (
        openai.OpenAI(
            base_url=server.url,
            api_key="sk-local",
            max_retries=0,
            http_client=openai.DefaultHttpxClient(trust_env=False),
        ) as client,
        pytest.raises(openai.BadRequestError, match=words),
    ):
        client.chat.completions.create(model="gpt-4o", messages=[message])


@pytest.mark.parametrize("form", FORMS)
def test_prompts_that_are_too_long(serving: Callable[..., OpenAIServer], form: str) -> None:
    """A prompt of as many tokens as fit is answered, and one more is refused, with tools and the answer in the sum."""
    messages = [HumanMessage("word " * 500)]
    length = count([{"role": "user", "content": "word " * 500}])
    server = serving(context_length=length)
    ask(form, server.url, messages)
    server.context_length = length - 1
    told = f"maximum context length is {length - 1} tokens. However, your messages resulted in {length} tokens"
    with pytest.raises(openai.BadRequestError, match=told) as caught:
        ask(form, server.url, messages)
    assert caught.value.code == "context_length_exceeded"
    server.context_length = length + 10
    with pytest.raises(openai.BadRequestError, match=rf"\({length} in the messages, \d+ in the functions\)"):
        ask(form, server.url, messages, bind=True)
    with pytest.raises(openai.BadRequestError, match=rf"\({length} in the messages, 11 in the completion\)"):
        ask(form, server.url, messages, max_tokens=11)
    ask(form, server.url, messages, max_tokens=10)


@pytest.mark.parametrize("form", FORMS)
def test_keys(serving: Callable[..., OpenAIServer], form: str) -> None:
    """Without the key there is no answer, and what was asked is not kept."""
    server = serving()
    with pytest.raises(openai.AuthenticationError, match="Incorrect API key") as caught:
        ask(form, server.url, "hi", key="sk-other")
    assert caught.value.code == "invalid_api_key"
    with pytest.raises(openai.AuthenticationError, match="You didn't provide an API key"):
        ask(form, server.url, "hi", default_headers={"Authorization": "Bearer"})
    assert server.exchanges == []


# -- what goes wrong -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_faults(serving: Callable[..., OpenAIServer], form: str) -> None:
    """The chosen requests fail, and the others are answered."""
    server = serving(faults={0: Fault(500), 1: Fault(429), 3: Fault(503)})
    for error in (openai.InternalServerError, openai.RateLimitError, None, openai.InternalServerError, None):
        if error is None:
            ask(form, server.url, "hi")
        else:
            with pytest.raises(error):
                ask(form, server.url, "hi")
    assert [exchange.status for exchange in server.exchanges] == [500, 429, 200, 503, 200]


@pytest.mark.parametrize("form", FORMS)
def test_answers_that_come_too_late(serving: Callable[..., OpenAIServer], form: str) -> None:
    """A client that does not wait so long gives up; the server ends at once, though it would still have waited."""
    server = serving(faults={0: Fault(200, after=600)})
    with pytest.raises(openai.APITimeoutError):
        ask(form, server.url, "hi", timeout=0.2)
    assert ask(form, server.url, "hi").content


@pytest.mark.parametrize("form", FORMS)
def test_connections_that_break(serving: Callable[..., OpenAIServer], form: str) -> None:
    """An answer that ends in the middle is an error of the connection."""
    server = serving(faults={0: Fault(200, cut=True)})
    with pytest.raises(Exception, match=r"peer closed|Connection error|closed connection"):
        ask(form, server.url, "hi")


def test_policies_that_say_faults(serving: Callable[..., OpenAIServer]) -> None:
    """A policy may say what goes wrong, by the model for example."""
    server = serving(lambda request: Fault(429) if request.model == "small" else hello(request))
    with pytest.raises(openai.RateLimitError, match="Rate limit reached for small"):
        ask("invoke", server.url, "hi", "small")
    assert ask("invoke", server.url, "hi").content


def test_policies_that_fail() -> None:
    """What a policy raises comes out at the end of the server."""

    def policy(request: Exchange) -> Answer:
        raise LookupError("nothing to say")

    server = OpenAIServer(policy).__enter__()
    with pytest.raises(openai.InternalServerError):
        ask("invoke", server.url, "hi")
    assert server.exchanges[0].status == 500
    with pytest.raises(LookupError, match="nothing to say"):
        server.__exit__(None, None, None)


def test_many_at_once(serving: Callable[..., OpenAIServer]) -> None:
    """Requests that come together are answered together, each with a number of its own."""
    together = threading.Barrier(8)

    def policy(request: Exchange) -> Answer:
        together.wait(30)
        return Answer(f"to {request.messages[0]['content']}")

    server = serving(policy)
    chat = chat_model(server.url)

    async def all_of_them() -> list[Any]:
        try:
            return await asyncio.gather(*(chat.ainvoke(f"{number}") for number in range(8)))
        finally:
            await chat.root_async_client.close()

    said = asyncio.run(all_of_them())
    assert [answer.content for answer in said] == [f"to {number}" for number in range(8)]
    assert sorted(exchange.number for exchange in server.exchanges) == list(range(8))
