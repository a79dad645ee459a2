"""A server on this machine that speaks OpenAI's chat completions protocol, and refuses what the real one refuses.

A `policy` says what each request is answered with. Every request is kept as an `Exchange`, with tokens that are counted
here by pieces of words, so that nothing is right only because two sides count alike. Prompts are cached as OpenAI's
are: the longest beginning that an earlier request to that model had, from 1,024 tokens on, in steps of 128.

    with OpenAIServer(lambda request: Answer("hello")) as server:
        chat_model(server.url).invoke("hi")
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from socketserver import TCPServer, ThreadingMixIn
from types import TracebackType
from typing import Any, ClassVar, NamedTuple, TypeAlias

import openai
from langchain_openai import ChatOpenAI
from pydantic import SecretStr

KEY = "sk-local"
"""The only API key that a server takes."""

CACHED_FROM = 1024
CACHED_STEP = 128

Json: TypeAlias = dict[str, Any]

# -- what a server says ----------------------------------------------------------------------------------------------


class Call(NamedTuple):
    """A tool call of an answer; `args` as they are, or as the JSON that the model wrote."""

    name: str
    args: Json | str
    id: str


class Answer(NamedTuple):
    """What the model says."""

    text: str = ""
    calls: tuple[Call, ...] = ()


class Fault(NamedTuple):
    """What goes wrong: it answers `after` so many seconds, with this status (200: as it should).

    `cut` ends the connection in the middle of the answer.
    """

    status: int = 500
    after: float = 0.0
    cut: bool = False


@dataclass
class Exchange:
    """A request, by its number, and what came of it: `status` is None as long as it is not answered.

    `input` counts all of the prompt, `cached` what of it had been seen before; both are 0 of what was refused. `prompt`
    are its tokens, until it is answered.
    """

    number: int
    model: str
    messages: list[Json]
    tools: list[Json]
    stream: bool
    tokens: int
    status: int | None = None
    input: int = 0
    output: int = 0
    cached: int = 0
    refusal: str = ""
    answer: Answer | None = None
    given: Json = field(default_factory=dict, repr=False)
    prompt: list[str] = field(default_factory=list, repr=False)


Policy: TypeAlias = Callable[[Exchange], "Answer | Fault"]


class Totals(NamedTuple):
    """What answered requests took, in tokens."""

    calls: int
    input: int
    output: int
    cached: int

    def cost(self, *, input: float, cached: float, output: float) -> float:
        """Their price, at prices per million tokens."""
        return (input * (self.input - self.cached) + cached * self.cached + output * self.output) / 1e6


class Refusal(Exception):
    """An answer that is an error in OpenAI's words."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"error": {"message": message, "type": kind, "param": param, "code": code}}


# -- tokens ----------------------------------------------------------------------------------------------------------

PIECE = re.compile(r" ?[A-Za-z]{1,7}|\d{1,3}| ?[!-/:-@\[-`{-~]{1,3}|\s+|[^\x00-\x7f]{1,2}|.", re.DOTALL)

IMAGE = 765
"""Tokens of a picture, of whatever size."""


@functools.lru_cache(maxsize=4096)
def pieces(text: str) -> tuple[str, ...]:
    """A text in tokens."""
    return tuple(PIECE.findall(text))


def prompt_tokens(messages: Sequence[Json], tools: Sequence[Json] = ()) -> list[str]:
    """A prompt in tokens, the tools before the messages."""
    tokens: list[str] = []
    for tool in tools:
        tokens.extend(pieces(json.dumps(tool, sort_keys=True)))
    for message in messages:
        tokens += ["<start>", str(message.get("role")), "<text>"]
        tokens.extend(_content_tokens(message.get("content")))
        for call in message.get("tool_calls") or ():
            tokens.append("<call>")
            tokens.extend(pieces(call["function"]["name"]))
            tokens.extend(pieces(call["function"]["arguments"]))
        tokens.append("<end>")
    return [*tokens, "<start>", "assistant", "<text>"]


def count(messages: Sequence[Json], tools: Sequence[Json] = ()) -> int:
    """How many tokens a prompt has."""
    return len(prompt_tokens(messages, tools))


def _content_tokens(content: Any) -> Iterator[str]:
    if isinstance(content, str):
        yield from pieces(content)
        return
    for part in content or ():
        if part.get("type") == "text":
            yield from pieces(part["text"])
        else:
            yield from (json.dumps(part, sort_keys=True), *("<image>",) * (IMAGE - 1))


def _beginnings(tokens: Sequence[str]) -> list[bytes]:
    """Digests of the beginnings that a cache could hold, shortest first."""
    digest, found = hashlib.blake2b(digest_size=16), []
    for end in range(CACHED_STEP, len(tokens) + 1, CACHED_STEP):
        digest.update("\0".join(tokens[end - CACHED_STEP : end]).encode("utf-8", "surrogatepass") + b"\0")
        if end >= CACHED_FROM:
            found.append(digest.digest())
    return found


# -- what is refused -------------------------------------------------------------------------------------------------


def check_conversation(messages: Sequence[Json]) -> None:
    """Refuse a list of messages that OpenAI does not take."""
    if not messages:
        raise Refusal(
            400,
            "Invalid 'messages': empty array. Expected an array with minimum length 1, but got an empty array instead.",
            param="messages",
            code="empty_array",
        )
    open_calls: list[str] = []
    answered: dict[str, int] = {}
    behind_calls = False
    for place, message in enumerate(messages):
        role = message.get("role")
        _check_content(place, message)
        if role == "tool":
            _check_result(place, message, behind_calls, open_calls, answered)
            continue
        _check_all_answered(place, open_calls, answered)
        calls = message.get("tool_calls")
        if calls == []:
            raise Refusal(
                400,
                f"Invalid 'messages[{place}].tool_calls': empty array. Expected an array with minimum length 1, but "
                "got an empty array instead.",
                param=f"messages[{place}].tool_calls",
                code="empty_array",
            )
        open_calls, answered = [call["id"] for call in calls or ()], {}
        behind_calls = bool(calls)
    _check_all_answered(len(messages) - 1, open_calls, answered)


def _check_content(place: int, message: Json) -> None:
    role, content = message.get("role"), message.get("content")
    if role not in ("system", "developer", "user", "assistant", "tool"):
        raise Refusal(
            400,
            f"Invalid value: '{role}'. Supported values are: 'system', 'assistant', 'user', 'function', 'tool', and "
            "'developer'.",
            param=f"messages[{place}].role",
            code="invalid_value",
        )
    if content is None and not message.get("tool_calls"):
        raise Refusal(
            400, "Invalid value for 'content': expected a string, got null.", param=f"messages.[{place}].content"
        )
    for number, part in enumerate(content if isinstance(content, list) else ()):
        where = f"messages[{place}].content[{number}]"
        if part.get("type") not in ("text", "image_url", "input_audio", "refusal", "file"):
            raise Refusal(
                400,
                f"Invalid value: '{part.get('type')}'. Supported values are: 'text', 'image_url', 'input_audio', "
                "'refusal', and 'file'.",
                param=f"{where}.type",
                code="invalid_value",
            )
        if part["type"] == "image_url" and role != "user":
            raise Refusal(
                400,
                f"Invalid 'messages[{place}]'. Image URLs are only allowed for messages with role 'user', but this "
                f"message with role '{role}' contains an image URL.",
                param=f"messages[{place}]",
                code="invalid_value",
            )


def _check_result(
    place: int, message: Json, behind_calls: bool, open_calls: Sequence[str], answered: dict[str, int]
) -> None:
    if not behind_calls:
        raise Refusal(
            400,
            "Invalid parameter: messages with role 'tool' must be a response to a preceeding message with "
            "'tool_calls'.",
            param=f"messages.[{place}].role",
        )
    call = str(message.get("tool_call_id"))
    if call not in open_calls:
        raise Refusal(
            400,
            f"Invalid parameter: 'tool_call_id' of '{call}' not found in 'tool_calls' of previous message.",
            param=f"messages.[{place}].tool_call_id",
        )
    if call in answered:
        raise Refusal(
            400,
            f"Invalid parameter: Duplicate value for 'tool_call_id' of '{call}', in messages[{answered[call]}] and "
            f"messages[{place}].",
            param=f"messages.[{place}].tool_call_id",
        )
    answered[call] = place


def _check_all_answered(place: int, open_calls: Sequence[str], answered: Mapping[str, int]) -> None:
    left = [call for call in open_calls if call not in answered]
    if left:
        raise Refusal(
            400,
            "An assistant message with 'tool_calls' must be followed by tool messages responding to each "
            f"'tool_call_id'. The following tool_call_ids did not have response messages: {', '.join(left)}",
            param=f"messages.[{place}].role",
        )


def check_length(in_messages: int, in_tools: int, completion: int, context_length: int) -> None:
    """Refuse a prompt that does not fit, with the answer that was asked for."""
    total = in_messages + in_tools + completion
    if total <= context_length:
        return
    parts = {"messages": in_messages, "functions": in_tools, "completion": completion}
    told = {name: number for name, number in parts.items() if number}
    inside = f" ({', '.join(f'{number} in the {name}' for name, number in told.items())})" if len(told) > 1 else ""
    verb = "you requested" if completion else "your messages resulted in"
    raise Refusal(
        400,
        f"This model's maximum context length is {context_length} tokens. However, {verb} {total} tokens{inside}. "
        f"Please reduce the length of the {' or '.join(told)}.",
        param="messages",
        code="context_length_exceeded",
    )


def _check_key(header: str | None) -> None:
    if header is None or not header.removeprefix("Bearer").strip():
        raise Refusal(
            401,
            "You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer "
            "auth (i.e. Authorization: Bearer YOUR_KEY), or as the password field (with blank username) if you're "
            "accessing the API from your browser and are prompted for a username and password. You can obtain an API "
            "key from https://platform.openai.com/account/api-keys.",
        )
    if header != f"Bearer {KEY}":
        raise Refusal(
            401,
            "Incorrect API key provided. You can find your API key at https://platform.openai.com/account/api-keys.",
            code="invalid_api_key",
        )


def _fault(status: int, model: str) -> Refusal:
    if status == 429:
        return Refusal(
            429,
            f"Rate limit reached for {model} in organization org-local on tokens per min (TPM): Limit 30000, Used "
            "29000, Requested 2000. Please try again in 2s.",
            kind="tokens",
            code="rate_limit_exceeded",
        )
    return Refusal(
        status, "The server had an error while processing your request. Sorry about that!", kind="server_error"
    )


# -- the server ------------------------------------------------------------------------------------------------------


class OpenAIServer:
    """The server, while its `with` lasts. `policy` is called in a thread of the request; what it raises fails the test.

    `faults` are by the number of the request, counted from 0.
    """

    def __init__(
        self, policy: Policy, *, context_length: int = 128_000, faults: Mapping[int, Fault] | None = None
    ) -> None:
        self.policy = policy
        self.context_length = context_length
        self.faults = dict(faults or {})
        self.exchanges: list[Exchange] = []
        self.closing = threading.Event()
        self.errors: list[BaseException] = []
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._cached: dict[str, set[bytes]] = {}
        self._listener = _Listener(self)
        self._thread = threading.Thread(target=self._listener.serve_forever, args=(0.02,), name="openai server")
        self.url = f"http://127.0.0.1:{self._listener.server_address[1]}/v1"

    def __enter__(self) -> OpenAIServer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closing.set()
        self._listener.shutdown()
        self._listener.server_close()  # it waits for the threads of requests
        self._thread.join()
        if error is None and self.errors:
            raise self.errors[0]

    def sent_to(self, model: str) -> list[Exchange]:
        """The requests to a model, in the order in which they came."""
        return [exchange for exchange in self.exchanges if exchange.model == model]

    def refused(self) -> list[str]:
        """What was refused, in the words that the client was told."""
        return [exchange.refusal for exchange in self.exchanges if exchange.refusal]

    def totals(self, *models: str) -> Totals:
        """What these models, or all of them, took."""
        paid = [
            exchange
            for exchange in self.exchanges
            if exchange.status == 200 and (not models or exchange.model in models)
        ]
        return Totals(
            len(paid),
            sum(exchange.input for exchange in paid),
            sum(exchange.output for exchange in paid),
            sum(exchange.cached for exchange in paid),
        )

    # What follows is for the threads of requests.

    def log(self, given: Json) -> Exchange:
        """A request that has come."""
        messages, tools = given.get("messages") or [], given.get("tools") or []
        prompt = prompt_tokens(messages, tools)
        with self._lock:
            exchange = Exchange(
                next(self._numbers),
                str(given.get("model")),
                messages,
                tools,
                bool(given.get("stream")),
                len(prompt),
                given=given,
                prompt=prompt,
            )
            self.exchanges.append(exchange)
        return exchange

    def answer(self, exchange: Exchange) -> tuple[Answer, Fault]:
        """What a request is answered with; raises `Refusal`."""
        check_conversation(exchange.messages)
        fault = self.faults.get(exchange.number, Fault(200))
        self.closing.wait(fault.after)
        if fault.status != 200:
            raise _fault(fault.status, exchange.model)
        asked = exchange.given.get("max_completion_tokens") or exchange.given.get("max_tokens") or 0
        in_tools = count((), exchange.tools) - count(())
        check_length(exchange.tokens - in_tools, in_tools, asked, self.context_length)
        try:
            said = self.policy(exchange)
        except BaseException as error:
            self.errors.append(error)
            raise _fault(500, exchange.model) from error
        if isinstance(said, Fault):
            self.closing.wait(said.after)
            if said.status == 200:
                self.errors.append(ValueError(f"{said} of a policy says no answer"))
            raise _fault(said.status, exchange.model)
        if asked:
            said = said._replace(text="".join(pieces(said.text)[:asked]))
        exchange.answer = said
        exchange.input = exchange.tokens
        exchange.output = 3 + len(pieces(said.text))
        exchange.output += sum(3 + len(pieces(call.name)) + len(pieces(_arguments(call))) for call in said.calls)
        exchange.cached = self._lookup(exchange)
        return said, fault

    def _lookup(self, exchange: Exchange) -> int:
        """How many tokens of a prompt are cached; from now on all of them are."""
        found = _beginnings(exchange.prompt)
        exchange.prompt = []
        with self._lock:
            held = self._cached.setdefault(exchange.model, set())
            known = sum(1 for _ in itertools.takewhile(held.__contains__, found))
            held.update(found)
        return CACHED_FROM + (known - 1) * CACHED_STEP if known else 0


class _Listener(ThreadingMixIn, TCPServer):
    """No `HTTPServer`, which would look for the name of this machine."""

    allow_reuse_address = True
    daemon_threads = False
    request_queue_size = 64

    def __init__(self, server: OpenAIServer) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.of = server

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that has gone is no error; anything else fails the test."""
        error = sys.exc_info()[1]
        if error is not None and not isinstance(error, ConnectionError):
            self.of.errors.append(error)


class _Handler(BaseHTTPRequestHandler):
    """One request: every connection is closed behind its answer, so that nothing of it outlives a test."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Listener

    STREAMED: ClassVar[int] = 24
    """Characters in a piece of a streamed answer."""

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing on the terminal."""

    def do_POST(self) -> None:
        of = self.server.of
        given: Json = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        exchange: Exchange | None = None
        try:
            _check_key(self.headers.get("Authorization"))
            if self.path != "/v1/chat/completions":
                raise Refusal(404, f"Invalid URL (POST {self.path})")
            exchange = of.log(given)
            said, fault = of.answer(exchange)
        except Refusal as refusal:
            if exchange is not None:
                exchange.status, exchange.refusal = refusal.status, str(refusal)
            self._send(refusal.status, refusal.body)
            return
        exchange.status = 200
        if exchange.stream:
            self._stream(exchange, said, cut=fault.cut)
        else:
            self._send(200, _completion(exchange, said), cut=fault.cut)

    def _send(self, status: int, body: Json, *, cut: bool = False) -> None:
        sent = json.dumps(body).encode()
        self._head(status, "application/json", {"Content-Length": str(len(sent))})
        self.wfile.write(sent[: len(sent) // 2] if cut else sent)

    def _stream(self, exchange: Exchange, said: Answer, *, cut: bool) -> None:
        self._head(200, "text/event-stream; charset=utf-8", {"Transfer-Encoding": "chunked"})
        events = [json.dumps(chunk) for chunk in _chunks(exchange, said, self.STREAMED)]
        if cut:
            events = events[: len(events) // 2]
        else:
            events.append("[DONE]")
        for event in events:
            line = f"data: {event}\n\n".encode()
            self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
        if not cut:
            self.wfile.write(b"0\r\n\r\n")

    def _head(self, status: int, kind: str, more: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Connection": "close", **more}.items():
            self.send_header(name, value)
        self.end_headers()


def _arguments(call: Call) -> str:
    return call.args if isinstance(call.args, str) else json.dumps(call.args)


def _finish(exchange: Exchange, said: Answer) -> str:
    if said.calls:
        return "tool_calls"
    asked = exchange.given.get("max_completion_tokens") or exchange.given.get("max_tokens")
    return "length" if asked and len(pieces(said.text)) >= asked else "stop"


def _head_of(exchange: Exchange, kind: str) -> Json:
    return {
        "id": f"chatcmpl-{exchange.number}",
        "object": kind,
        "created": int(time.time()),
        "model": exchange.model,
        "system_fingerprint": "fp_local",
    }


def _usage(exchange: Exchange) -> Json:
    return {
        "prompt_tokens": exchange.input,
        "completion_tokens": exchange.output,
        "total_tokens": exchange.input + exchange.output,
        "prompt_tokens_details": {"cached_tokens": exchange.cached, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    }


def _completion(exchange: Exchange, said: Answer) -> Json:
    message: Json = {"role": "assistant", "content": said.text or None, "refusal": None}
    if said.calls:
        message["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": _arguments(call)}}
            for call in said.calls
        ]
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _finish(exchange, said)}
    return {**_head_of(exchange, "chat.completion"), "choices": [choice], "usage": _usage(exchange)}


def _chunks(exchange: Exchange, said: Answer, length: int) -> Iterator[Json]:
    head = _head_of(exchange, "chat.completion.chunk")
    asked = (exchange.given.get("stream_options") or {}).get("include_usage")
    if asked:
        head["usage"] = None

    def chunk(delta: Json, finish: str | None = None) -> Json:
        return {**head, "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]}

    yield chunk({"role": "assistant", "content": None if said.calls and not said.text else "", "refusal": None})
    for start in range(0, len(said.text), length):
        yield chunk({"content": said.text[start : start + length]})
    for index, call in enumerate(said.calls):
        function = {"name": call.name, "arguments": ""}
        yield chunk({"tool_calls": [{"index": index, "id": call.id, "type": "function", "function": function}]})
        arguments = _arguments(call)
        for start in range(0, len(arguments), length):
            part = {"index": index, "function": {"arguments": arguments[start : start + length]}}
            yield chunk({"tool_calls": [part]})
    yield chunk({}, _finish(exchange, said))
    if asked:
        yield {**head, "choices": [], "usage": _usage(exchange)}


# -- its client ------------------------------------------------------------------------------------------------------


def chat_model(url: str, name: str = "gpt-4o", *, key: str = KEY, **options: Any) -> ChatOpenAI:
    """The model of that name at a server: it goes there directly, whatever proxies are set, and asks once."""
    # It speaks no TLS, and reading the certificates of authorities would be most of what a test takes.
    direct: Json = {"trust_env": False, "verify": False}
    return ChatOpenAI(
        model=name,
        base_url=url,
        api_key=SecretStr(key),
        http_client=openai.DefaultHttpxClient(**direct),
        http_async_client=openai.DefaultAsyncHttpxClient(**direct),
        **{"max_retries": 0, "stream_usage": True, **options},
    )
