"""How a conversation is measured: in estimated tokens, in those of a counter of the user's, or in messages."""

from __future__ import annotations

from collections.abc import Sequence

from langchain_core.messages import BaseMessage

from langgraph_durable.context.calibration import Calibration
from langgraph_durable.context.draft import Draft, Pin
from langgraph_durable.context.sizes import Limits
from langgraph_durable.context.survey import survey
from langgraph_durable.context.tokens import TokenCounter, count_tokens, tokens_of
from langgraph_durable.errors import ContextBudgetError, InvalidRequestError

MARGIN = 0.15
"""The share by which what came after the last call may be more than its estimate: results full of digits are."""


class Ruler:
    """The measure of one compression: `begin` is where it begins, `most` what may be left, both as it measures."""

    def __init__(
        self, counter: TokenCounter, sizes: Limits, calibration: Calibration, beside: int, uncounted: int
    ) -> None:
        self._counter = counter if counter is not count_tokens else None
        self._messages = sizes.unit == "messages"
        self._calibration = calibration
        self._beside = beside
        self._budget = sizes.budget
        self.most = calibration.within(sizes.budget)
        # What nobody has counted yet may be more than it seems, so it is begun sooner. What is left may be all of the
        # budget: what is uncounted may be what is left out.
        self.begin = self.most - int(MARGIN * uncounted)
        self.target = min(calibration.within(sizes.target), self.most)

    def whole(self, messages: Sequence[BaseMessage], costs: Sequence[int] | None) -> int:
        """The size of a conversation; `costs` are those of its messages where they are known."""
        if self._messages:
            return len(messages)
        if self._counter is not None:
            return self._counted(messages) + self._beside
        return sum(costs if costs is not None else survey(messages).costs) + self._beside

    def after(self, messages: Sequence[BaseMessage], draft: Draft) -> int:
        """The size of what is left of a draft: counted anew only where the whole may be more than its parts."""
        return draft.tokens if self._counter is None else self.whole(messages, None)

    def one(self, message: BaseMessage) -> int:
        """The size of one message."""
        if self._messages:
            return 1
        return self._counted([message]) if self._counter is not None else tokens_of(message)

    def _counted(self, messages: Sequence[BaseMessage]) -> int:
        count = self._counter(messages) if self._counter is not None else 0
        if not isinstance(count, int):
            raise InvalidRequestError(f"token_counter returns a whole number of tokens, and it was {count!r}")
        return count

    def draft(
        self, messages: Sequence[BaseMessage], costs: Sequence[int] | None, whole: int, pin: Pin, *, shrinks: bool
    ) -> Draft:
        """The conversation in units; what the whole is more than its parts goes with none of them."""
        if costs is None or self._messages or self._counter is not None:
            costs = [self.one(message) for message in messages]
        return Draft(
            messages,
            costs,
            budget=self.most,
            target=self.target,
            pin=pin,
            cost_of=self.one,
            beside=whole - sum(costs),
            unit="messages" if self._messages else "tokens",
            shrinks=shrinks,
        )

    def told(self, size: int) -> int:
        """A size as the provider will count it."""
        return self._calibration.counted(size)

    def overrun(self, size: int) -> str | None:
        """What to say of a size that is above the budget all the same: it has to be told, and never refused.

        A provider that counts several calls as one would stop the thread for ever.
        """
        if self._messages or self.told(size) <= self._budget:
            return None
        return (
            f"about {self.told(size)} tokens are sent, which is above the budget of {self._budget}: the provider has "
            f"counted some {int(self._calibration.overhead)} beside the messages, such as tools. Give a larger budget"
        )

    def refusal(self, size: int) -> ContextBudgetError:
        """What to say when no stage can help."""
        unit = "messages" if self._messages else "tokens"
        beside = f", {self._beside} of them for the system prompt and the tools" if self._beside else ""
        return ContextBudgetError(
            f"the conversation has {self.told(size)} {unit}{beside}, and its budget is {self._budget}: left are system "
            "messages, what is pinned, the current request, the newest message, and what no stage may touch. Give a "
            "larger budget, pin less, or add DropOldest() and Shrink() to the stages",
            tokens=self.told(size),
            budget=self._budget,
        )
