"""What one model call has used, as plain data: of bounded size, None where unknown, and nothing of what was said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypedDict
from uuid import UUID

from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, LLMResult

from langgraph_durable.core.namespaces import beside

NAMESPACE = beside("usage")
"""The namespace of a thread's journal in which its records are."""

MAIN, SUMMARY, RETRY, CACHED = "main", "summary", "retry", "cached"
"""The purposes of calls: "cached" is one that LangChain's own cache has answered, so that no model was called."""

NAMELESS = "unknown"
"""What a model is called that does not say its name."""

_LEFT = "?"
"""What the id of a call ends with in the record that it was left, which counts as long as there is no other of it."""

_TIERS = ("flex", "priority")
"""The service tiers whose names LangChain puts before those of the tokens that were billed in them."""

_NAMES = 64
"""Characters of a name that are kept."""

_PATHS = 128
"""Characters of a path, and of the name of a model, which may be a long resource name."""


class UsageRecord(TypedDict):
    """One model call. Tokens and `cost` are None where nobody knows them, and in a call that failed before it answered.

    `time` is when it began (seconds since 1970), `seconds` how long it took. `cached` and `written` are tokens that
    the provider read from, and wrote to, its prompt cache (`written_1h` those of them that stay there for an hour):
    they are part of `input`, as `reasoning` is of `output`, and `input_audio` and `output_audio` of either.

    `model` is the name that the provider answered with, `asked` the one that was asked for, where it is another. `tier`
    is the service tier that was billed, "flex" or "priority". `path` is the namespace of the task without ids
    ("outer|inner"), `failed` the name of an exception's type, and `broken` says that the provider may have worked
    all the same: the answer was broken off, or nobody waited for it.
    """

    id: str
    thread_id: str
    time: float
    seconds: float
    node: str | None
    path: str | None
    model: str | None
    asked: str | None
    provider: str | None
    tier: str | None
    purpose: str
    input: int | None
    output: int | None
    cached: int | None
    written: int | None
    written_1h: int | None
    reasoning: int | None
    input_audio: int | None
    output_audio: int | None
    cost: float | None
    failed: str | None
    broken: bool


class Call(NamedTuple):
    """A call that is under way; `clock` is what the clock for durations showed.

    `batch` is the number of prompts, `parent` the run of what has made the call, `streams` whether a part of the answer
    is there.
    """

    id: UUID
    thread_id: str
    time: float
    clock: float
    purpose: str
    metadata: Mapping[str, Any]
    batch: int
    parent: UUID | None = None
    streams: bool = False

    @property
    def task(self) -> tuple[str, str]:
        """The task that makes the call."""
        return task_of(self.thread_id, self.metadata)

    def record(self, clock: float) -> UsageRecord:
        """The record of this call at its end, with nothing known of what was used."""
        metadata = self.metadata
        namespace = metadata.get("langgraph_checkpoint_ns")
        return UsageRecord(
            id=str(self.id),
            thread_id=self.thread_id,
            time=self.time,
            seconds=round(max(0.0, clock - self.clock), 6),
            node=_short(metadata.get("langgraph_node"), _NAMES),
            path=_short(path_of(namespace), _PATHS) if isinstance(namespace, str) else None,
            model=_short(metadata.get("ls_model_name"), _PATHS),
            asked=None,
            provider=_short(metadata.get("ls_provider"), _NAMES),
            tier=None,
            purpose=self.purpose,
            input=None,
            output=None,
            cached=None,
            written=None,
            written_1h=None,
            reasoning=None,
            input_audio=None,
            output_audio=None,
            cost=None,
            failed=None,
            broken=False,
        )


def finished(call: Call, response: LLMResult, clock: float) -> UsageRecord:
    """The record of a call that was answered; the cost is for others to add."""
    record = call.record(clock)
    generations = _generations(response)
    first = generations[0].message if generations else None
    output = response.llm_output or {}
    _name(record, first, output)
    if first is not None and _is_hit(call, first, output):
        record["purpose"], record["cost"] = CACHED, 0.0
        record["input"] = record["output"] = record["cached"] = record["written"] = record["reasoning"] = 0
        return record
    if _use(record, generations):
        return record
    counted = output.get("token_usage")
    if isinstance(counted, Mapping) and counted:
        record["input"] = _count(counted.get("prompt_tokens", counted.get("input_tokens")))
        record["output"] = _count(counted.get("completion_tokens", counted.get("output_tokens")))
    elif call.batch > 1 and counted == {}:
        # Of several prompts LangChain tells with the first what all of them have used.
        record["input"] = record["output"] = 0
    return record


def failed(call: Call, error: BaseException, clock: float, response: LLMResult | None = None) -> UsageRecord:
    """The record of a call that failed. What it has used is known if the part of its answer that came tells it."""
    record = call.record(clock)
    record["failed"] = _short(type(error).__name__, _NAMES)
    chunks = [one for one in _generations(response) if isinstance(one, ChatGenerationChunk)]
    # A provider that refuses a call takes nothing for it; whoever breaks one off is not told what it takes.
    record["broken"] = call.streams or bool(chunks) or not isinstance(error, Exception)
    if chunks:
        _name(record, chunks[0].message, {})
        _use(record, chunks)
    return record


def left(call: Call, error: BaseException, clock: float) -> UsageRecord:
    """The record of a call that nobody waits for any more: it was cancelled, or goes on by itself and will end."""
    record = failed(call, error, clock)
    record["id"] += _LEFT
    record["broken"] = True
    return record


def is_unknown(record: UsageRecord) -> bool:
    """Whether a call was answered, also in part, and how many tokens it has used was not told."""
    return may_cost(record) and (record["input"] is None or record["output"] is None)


def may_cost(record: UsageRecord) -> bool:
    """Whether a call costs something: it was answered, or broken off."""
    return record["failed"] is None or record["broken"]


def of_thread(thread_id: str, entries: Mapping[str, Any]) -> dict[str, UsageRecord]:
    """The records of a thread, by their ids: not those that came along when another thread was copied to it."""
    return settled({key: record for key, record in entries.items() if record["thread_id"] == thread_id})


def settled(records: Mapping[str, UsageRecord]) -> dict[str, UsageRecord]:
    """The records, without those of calls that were left and ended all the same."""
    return {key: one for key, one in records.items() if not key.endswith(_LEFT) or key[: -len(_LEFT)] not in records}


def task_of(thread_id: str, metadata: Mapping[str, Any]) -> tuple[str, str]:
    """What tells a task from all others."""
    return thread_id, str(metadata.get("langgraph_checkpoint_ns") or "")


def path_of(namespace: str) -> str:
    """A namespace without the ids of its tasks."""
    return "|".join(part.split(":")[0] for part in namespace.split("|") if not part.isdigit())


def _generations(response: LLMResult | None) -> list[ChatGeneration]:
    several = response.generations if response is not None else []
    return [one for generations in several for one in generations if isinstance(one, ChatGeneration)]


def _name(record: UsageRecord, answer: BaseMessage | None, output: Mapping[str, Any]) -> None:
    """Add to a record what the provider calls the model, and itself."""
    said = {**output, **(answer.response_metadata if answer is not None else {})}
    model = _short(said.get("model_name") or said.get("model"), _PATHS)
    if model is not None and model != record["model"]:
        record["model"], record["asked"] = model, record["model"]
    record["provider"] = record["provider"] or _short(said.get("model_provider"), _NAMES)


def _use(record: UsageRecord, generations: Sequence[ChatGeneration]) -> bool:
    """Add to a record what the provider says that the call has used, if it does."""
    usage = _usage(generations)
    if usage is None:
        return False
    read, made = _details(usage.get("input_token_details")), _details(usage.get("output_token_details"))
    record["input"] = _count(usage.get("input_tokens"))
    record["output"] = _count(usage.get("output_tokens"))
    record["cached"] = _sum(read, "cache_read")
    record["written"] = _sum(read, "cache_creation", "ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens")
    record["written_1h"] = _sum(read, "ephemeral_1h_input_tokens")
    record["reasoning"] = _sum(made, "reasoning")
    record["input_audio"], record["output_audio"] = _sum(read, "audio"), _sum(made, "audio")
    names = [*read, *made]
    record["tier"] = next((tier for tier in _TIERS if any(f"{name}_".startswith(f"{tier}_") for name in names)), None)
    return True


def _usage(generations: Sequence[ChatGeneration]) -> Mapping[str, Any] | None:
    """What the provider says that a call has used: with each of several answers it says the same."""
    for generation in generations:
        usage = getattr(generation.message, "usage_metadata", None)
        if isinstance(usage, Mapping) and "input_tokens" in usage:
            return usage
    return None


def _is_hit(call: Call, message: BaseMessage, output: Mapping[str, Any]) -> bool:
    """Whether LangChain's cache has answered, which marks the message with a total cost of 0.

    An answer that was paid for has the mark as well, when another call finds it in the cache before its own end is
    told. But then it has the id of this call, or came with an output of the model, which the cache does not keep.
    """
    usage = getattr(message, "usage_metadata", None) or {}
    return usage.get("total_cost") == 0 and not output and str(call.id) not in (message.id or "")


def _details(details: object) -> Mapping[str, Any]:
    return details if isinstance(details, Mapping) else {}


def _sum(details: Mapping[str, Any], *names: str) -> int | None:
    """The tokens of these names, also where the name of a service tier stands before them ("flex_cache_read")."""
    endings = tuple(f"_{name}" for name in names)
    counts = [_count(value) for key, value in details.items() if key in names or key.endswith(endings)]
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _short(value: object, length: int) -> str | None:
    if not isinstance(value, str) or not value:
        return None
    return value if len(value) <= length else f"{value[: length - 1]}…"
