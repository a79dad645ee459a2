"""A handler of LangChain's callbacks that records each model call at its end, in the thread that it was made for.

The record of a call is stored when the call returns, as safely as anything of that checkpointer; where a coroutine
calls a model without awaiting it, and the saver is one for coroutines, before the node ends. What is under way is
counted by no limit: a thread with several calls at once may go over its limit by those.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from typing import Any
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import BaseMessage
from langchain_core.outputs import LLMResult

from langgraph_durable.context.usage.calls import Calls, refused, remember
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


class UsageLedger(BaseCallbackHandler):
    """A ledger of the model calls of all threads that run with it: `graph.with_config(callbacks=[UsageLedger()])`.

    A call is one record in its thread, beside its checkpoints, however often superstep, branch or run fail, are rewound
    or repeated; `thread_usage` sums them. `prices` is a dict of `Price` by the name of the model, alone or as
    "provider:name", a function of a record, or "genai-prices" for the prices in the package of that name.

    With `max_tokens` (input and output) or `max_cost` a call is not made, and UsageLimitError raised, once the thread
    has used as much. They are attributes, which may be set to other limits at any time. The thread is read for it once
    in a superstep, and what this process records is added: what another one records meanwhile counts from the next
    superstep on. Calls of which it is not known what they used, or cost, count nothing; for calls that were answered it
    is logged. A node that catches the error goes on; in an agent, `UsageMiddleware` sees to it that the run ends.

    Where no checkpointer can be found the records are only here, in `records`, and a limit counts those of that thread,
    or of all that is in none. Calls that LangChain's cache answers cost nothing: those of chat models are recorded with
    the purpose "cached", others are not seen at all. A call is a "retry" when the node that makes it is run again; in a
    subgraph that is run again as one node it is "main".
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
        self._calls = Calls()
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

    def on_chain_end(
        self, outputs: dict[str, Any], *, run_id: UUID, parent_run_id: UUID | None = None, **_: Any
    ) -> None:
        """Record the calls that were left, and wait until all of this run are stored."""
        self._leave(self._calls.leave(run_id), asyncio.CancelledError(), run_id)
        self._shelf.settle(run_id, parent_run_id)

    def on_chain_error(
        self, error: BaseException, *, run_id: UUID, parent_run_id: UUID | None = None, **_: Any
    ) -> None:
        """`on_chain_end` of a run that failed."""
        self._leave(self._calls.leave(run_id), error, run_id)
        self._shelf.settle(run_id, parent_run_id)

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

    def on_llm_new_token(self, token: Any, *, run_id: UUID, **_: Any) -> None:
        """Note that a call is being answered."""
        self._calls.streams(run_id)

    def on_stream_event(self, event: Any, *, run_id: UUID, **_: Any) -> None:
        """`on_llm_new_token` of LangChain's streams of events."""
        self._calls.streams(run_id)

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **_: Any) -> None:
        """Record a call that was answered."""
        ended = self._calls.end(run_id)
        if ended is None:
            return
        call, where = ended
        record = finished(call, response, time.perf_counter())
        record["cost"] = self._cost(record)
        if self.max_tokens is not None and record["input"] is None and record["purpose"] != CACHED:
            model = record["model"] or NAMELESS
            self._shelf.say(
                f"the tokens of {model}", f"calls of model {model!r} tell no tokens: max_tokens does not count them"
            )
        self._shelf.put(where, record, call.parent)

    def on_llm_error(self, error: BaseException, *, run_id: UUID, response: LLMResult | None = None, **_: Any) -> None:
        """Record a call that failed, with what the part of its answer that came tells."""
        ended = self._calls.end(run_id)
        if ended is None:
            return
        call, where = ended
        with self._lock:
            self._failed(call)
        record = failed(call, error, time.perf_counter(), response)
        record["cost"] = self._cost(record)
        self._shelf.put(where, record, call.parent)

    # -- a call ------------------------------------------------------------------------------------------------------

    def _begin(self, run_id: UUID, parent: UUID | None, metadata: Mapping[str, Any], batch: int) -> None:
        if run_id in self._calls or run_id in refused:
            return  # this ledger is in the callbacks twice, or after another that has refused the call
        where, watch = self._places.find(metadata), watches.get()
        if watch is not None and watch.ledger is not self:
            watch = None
        if self.max_tokens is not None or self.max_cost is not None:
            try:
                self._check(where)
            except UsageLimitError as error:
                refused.add(run_id)
                if watch is not None:
                    watch.refusal = error
                raise
        call = Call(run_id, where.thread_id, time.time(), time.perf_counter(), MAIN, metadata, batch, parent)
        with self._lock:
            call = call._replace(purpose=self._purpose(call, where))
        self._calls.begin(call, where)
        if watch is not None:
            watch.begun(call)

    def _purpose(self, call: Call, where: Where) -> str:
        if call.metadata.get("lc_source") == "summarization":
            return SUMMARY
        failures = self._failures.pop(call.task, 0)
        if failures > 1:
            self._failures[call.task] = failures - 1
        return RETRY if failures or where.attempt > 1 else MAIN

    def _failed(self, call: Call) -> None:
        if call.purpose != SUMMARY:
            remember(self._failures, call.task, self._failures.get(call.task, 0) + 1, _TASKS)

    def _leave(self, calls: Sequence[tuple[Call, Where]], error: BaseException, run_id: UUID | None) -> None:
        """Record calls that nobody waits for any more; `run_id` is the run that they were left with."""
        with self._lock:
            for call, _ in calls:
                self._failed(call)
        for call, where in calls:
            self._shelf.put(where, left(call, error, time.perf_counter()), run_id)

    # -- what was spent ----------------------------------------------------------------------------------------------

    def _check(self, where: Where) -> None:
        records = self._shelf.of_thread(where)
        if self.max_tokens is not None:
            used = sum((record["input"] or 0) + (record["output"] or 0) for record in records)
            if used >= self.max_tokens:
                raise _limit(where, used, self.max_tokens, "tokens")
        if self.max_cost is not None:
            costs = (self._cost(record) if record["cost"] is None else record["cost"] for record in records)
            spent = sum(cost for cost in costs if cost is not None)
            if spent >= self.max_cost:
                raise _limit(where, spent, self.max_cost, "cost")

    def _cost(self, record: UsageRecord) -> float | None:
        try:
            cost = cost_of(self._price, record)
        except Exception as error:  # noqa: BLE001  an app's function may raise anything, and the call has been paid for
            self._shelf.say("the prices", f"prices failed, and what calls cost stays unknown: {error!r}")
            return None
        if cost is None and (record["failed"] is None or record["input"] is not None) and self.max_cost is not None:
            model = record["model"] or NAMELESS
            self._shelf.say(
                f"the price of {model}", f"calls of model {model!r} have no price: max_cost does not count them"
            )
        return cost


class Watch:
    """What a ledger sees while one call of an agent's model is under way: for the middleware, in the variable below.

    `refusal` is the error with which the ledger refused a call, unless it allowed one after it.
    """

    def __init__(self, ledger: UsageLedger) -> None:
        self.ledger = ledger
        self.refusal: UsageLimitError | None = None
        self._calls: dict[UUID, UUID | None] = {}

    def begun(self, call: Call) -> None:
        """A call begins, which the ledger allows."""
        self.refusal = None
        self._calls[call.id] = call.parent

    def end(self, error: BaseException) -> None:
        """Record the calls that have not ended, and wait until all are stored."""
        ledger = self.ledger
        ledger._leave(ledger._calls.leave_these(self._calls), error, None)
        for parent in {parent for parent in self._calls.values() if parent is not None}:
            ledger._shelf.settle(parent, None)


watches: ContextVar[Watch | None] = ContextVar("langgraph_durable_usage_watch", default=None)


def _limit(where: Where, spent: float, limit: float, unit: str) -> UsageLimitError:
    told = f"{spent} of max_tokens={limit}" if unit == "tokens" else f"{spent:.6g} of max_cost={limit:.6g}"
    of = f"of thread {where.thread_id!r}" if where.thread_id else "that this ledger has seen outside of threads"
    goes_on = where.journal is not None or not where.known
    return UsageLimitError(
        f"the model calls {of} have used {told}; the next was not made. Raise the limit (ledger.max_{unit} = ...) and "
        + ("go on from here: graph.invoke(None, config)" if goes_on else "call again: no checkpointer keeps this run"),
        thread_id=where.thread_id,
        spent=spent,
        limit=limit,
        unit=unit,
    )
