"""A handler of LangChain's callbacks that records each model call at its end, in the thread that it was made for.

The record of a call is stored when the call returns, as safely as anything of that checkpointer. What is under way is
counted by no limit: a thread with several calls at once may go over its limit by those.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import BaseMessage
from langchain_core.outputs import LLMResult

from langgraph_durable.context.usage.places import Places, Where
from langgraph_durable.context.usage.prices import Prices, Pricing, checked, cost_of, pricing
from langgraph_durable.context.usage.records import (
    CACHED,
    MAIN,
    NAMELESS,
    RETRY,
    SUMMARY,
    Call,
    UsageRecord,
    failed,
    finished,
    left,
)
from langgraph_durable.context.usage.shelf import Shelf
from langgraph_durable.errors import InvalidRequestError, UsageLimitError

_TASKS = 4096
"""Of how many tasks it is remembered that their calls failed."""

_CALLS = 16_384
"""How many calls are remembered that have not ended."""


class UsageLedger(BaseCallbackHandler):
    """A ledger of the model calls of all threads that run with it: `graph.with_config(callbacks=[UsageLedger()])`.

    A call is one record in its thread, in the namespace "usage", however often superstep, branch or run fail, are
    rewound or repeated; `thread_usage` sums them. `prices` is a dict of `Price` by the name of the model, alone or as
    "provider:name", a function of a record, or "genai-prices" for the prices in the package of that name.

    With `max_tokens` (input and output) or `max_cost` a call is not made, and UsageLimitError raised, once the thread
    has used as much; the journal of the thread is read for it before each call. They are attributes, which may be set
    to other limits at any time. Calls of which it is not known what
    they cost count nothing against `max_cost`; it is logged.

    Where no checkpointer can be found the records are only here, in `records`. Calls that LangChain's cache answers
    cost nothing: those of chat models are recorded with the purpose "cached", others are not seen at all.
    """

    raise_error = True

    def __init__(self, *, prices: Prices = None, max_tokens: int | None = None, max_cost: float | None = None) -> None:
        super().__init__()
        self._price: Pricing | None = pricing(prices)
        for name, limit in (("max_tokens", max_tokens), ("max_cost", max_cost)):
            if limit is not None:
                checked(limit, name)
        if max_cost is not None and self._price is None:
            raise InvalidRequestError('max_cost needs prices: UsageLedger(prices="genai-prices", max_cost=...)')
        self.max_tokens = max_tokens
        self.max_cost = max_cost
        self._places = Places()
        self._shelf = Shelf()
        self._lock = threading.Lock()
        self._calls: OrderedDict[UUID, tuple[Call, Where]] = OrderedDict()
        self._failures: OrderedDict[tuple[str, str], int] = OrderedDict()

    @property
    def records(self) -> list[UsageRecord]:
        """The records that are in no thread, the oldest call first: of calls without a checkpointer, or not stored."""
        return self._shelf.records()

    # -- what LangChain calls ----------------------------------------------------------------------------------------

    ignore_agent = ignore_retriever = ignore_retry = ignore_custom_event = True

    def on_chain_start(
        self, serialized: dict[str, Any], inputs: dict[str, Any], *, metadata: dict[str, Any] | None = None, **_: Any
    ) -> None:
        """Note which task runs here."""
        self._places.note(metadata or {})

    def on_chain_end(self, outputs: dict[str, Any], *, run_id: UUID, **_: Any) -> None:
        """Record the calls that were left."""
        self._leave(run_id, asyncio.CancelledError())

    def on_chain_error(self, error: BaseException, *, run_id: UUID, **_: Any) -> None:
        """Record the calls that were left."""
        self._leave(run_id, error)

    def on_chat_model_start(
        self,
        serialized: dict[str, Any],
        messages: list[list[BaseMessage]],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        metadata: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        """Note that a call begins. UsageLimitError when the thread has used what it may."""
        self._begin(run_id, parent_run_id, metadata or {}, 1)

    def on_llm_start(
        self,
        serialized: dict[str, Any],
        prompts: list[str],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        metadata: dict[str, Any] | None = None,
        batch_size: int = 1,
        **_: Any,
    ) -> None:
        """`on_chat_model_start` of a model that is no chat model."""
        self._begin(run_id, parent_run_id, metadata or {}, batch_size)

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **_: Any) -> None:
        """Record a call that was answered."""
        with self._lock:
            call, where = self._calls.pop(run_id, _NO_CALL)
        if call is None:
            return
        record = finished(call, response, time.perf_counter())
        record["cost"] = self._cost(record)
        if self.max_tokens is not None and record["input"] is None and record["purpose"] != CACHED:
            model = record["model"] or NAMELESS
            self._shelf.say(
                f"the tokens of {model}", f"calls of model {model!r} tell no tokens: max_tokens does not count them"
            )
        self._shelf.put(where, record)

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **_: Any) -> None:
        """Record a call that failed."""
        with self._lock:
            call, where = self._calls.pop(run_id, _NO_CALL)
            if call is None:
                return
            self._failed(call)
        self._shelf.put(where, failed(call, error, time.perf_counter()))

    # -- a call ------------------------------------------------------------------------------------------------------

    def _begin(self, run_id: UUID, parent: UUID | None, metadata: Mapping[str, Any], batch: int) -> None:
        with self._lock:
            if run_id in self._calls:
                return  # this ledger is in the callbacks twice
        where = self._places.find(metadata)
        if self.max_tokens is not None or self.max_cost is not None:
            self._check(where)
        call = Call(run_id, where.thread_id, time.time(), time.perf_counter(), MAIN, metadata, batch, parent)
        with self._lock:
            call = call._replace(purpose=self._purpose(call, where))
            _remember(self._calls, run_id, (call, where), _CALLS)

    def _purpose(self, call: Call, where: Where) -> str:
        if call.metadata.get("lc_source") == "summarization":
            return SUMMARY
        failures = self._failures.pop(call.task, 0)
        if failures > 1:
            self._failures[call.task] = failures - 1
        return RETRY if failures or where.attempt > 1 else MAIN

    def _failed(self, call: Call) -> None:
        if call.purpose != SUMMARY:
            _remember(self._failures, call.task, self._failures.get(call.task, 0) + 1, _TASKS)

    def _leave(self, parent: UUID, error: BaseException) -> None:
        """Record the calls of a run that has ended before them: LangChain does not tell when a call is cancelled."""
        with self._lock:
            calls = [(call, where) for call, where in self._calls.values() if call.parent == parent]
            for call, where in calls:
                self._failed(call)
                self._calls[call.id] = call._replace(parent=None), where
        for call, where in calls:
            self._shelf.put(where, left(call, error, time.perf_counter()))

    # -- what was spent ----------------------------------------------------------------------------------------------

    def _check(self, where: Where) -> None:
        records = self._shelf.of_thread(where)
        if self.max_tokens is not None:
            used = sum((record["input"] or 0) + (record["output"] or 0) for record in records)
            if used >= self.max_tokens:
                raise _limit(where.thread_id, used, self.max_tokens, "tokens")
        if self.max_cost is not None:
            costs = (self._cost(record) if record["cost"] is None else record["cost"] for record in records)
            spent = sum(cost for cost in costs if cost is not None)
            if spent >= self.max_cost:
                raise _limit(where.thread_id, spent, self.max_cost, "cost")

    def _cost(self, record: UsageRecord) -> float | None:
        try:
            cost = cost_of(self._price, record)
        except Exception as error:  # noqa: BLE001  an app's function may raise anything, and the call has been paid for
            self._shelf.say("the prices", f"prices failed, and what calls cost stays unknown: {error!r}")
            return None
        if cost is None and record["failed"] is None and self.max_cost is not None:
            model = record["model"] or NAMELESS
            self._shelf.say(
                f"the price of {model}", f"calls of model {model!r} have no price: max_cost does not count them"
            )
        return cost


_NO_CALL: tuple[None, Where] = (None, Where("", None, True))


def _limit(thread_id: str, spent: float, limit: float, unit: str) -> UsageLimitError:
    told = f"{spent} of max_tokens={limit}" if unit == "tokens" else f"{spent:.6g} of max_cost={limit:.6g}"
    return UsageLimitError(
        f"the model calls of thread {thread_id!r} have used {told}; the next was not made. Raise the limit "
        f"(ledger.max_{unit} = ...) and go on from here: graph.invoke(None, config)",
        thread_id=thread_id,
        spent=spent,
        limit=limit,
        unit=unit,
    )


def _remember(known: OrderedDict[Any, Any], key: Any, value: Any, most: int) -> None:
    known[key] = value
    known.move_to_end(key)
    while len(known) > most:
        known.popitem(last=False)
