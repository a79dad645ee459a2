"""Texts that were paid for: remembered in this process, and in the thread, before anything else is done with them."""

from __future__ import annotations

from collections import OrderedDict

from langchain_core.runnables import RunnableConfig

from langgraph_durable.context.journal import Journal, journal_here
from langgraph_durable.core.namespaces import beside

NAMESPACE = beside("summaries")

MOST = 64
"""Texts that are remembered in the process, for where there is no checkpointer."""


class Paid:
    """The texts that one node or middleware has paid for, in this process."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, str] = OrderedDict()

    def of(self, config: RunnableConfig | None) -> Remembered:
        """Those, and those of the thread that the running task belongs to."""
        return Remembered(self, journal_here(NAMESPACE, config))

    def get(self, key: str) -> str | None:
        """The text under a key, which is a digest of all that it depends on."""
        return self._kept.get(key)

    def keep(self, key: str, text: str) -> None:
        """Remember one."""
        self._kept[key] = text
        while len(self._kept) > MOST:
            self._kept.popitem(last=False)


class Remembered:
    """What is remembered for the task that is running."""

    def __init__(self, paid: Paid, journal: Journal | None) -> None:
        self._paid = paid
        self._journal = journal

    def recall(self, key: str) -> str | None:
        """The text under a key, if this process or the thread has it."""
        found = self._paid.get(key)
        if found is None and self._journal is not None:
            found = self._journal.entries().get(key)
        return found

    async def arecall(self, key: str) -> str | None:
        """`recall` for a coroutine."""
        found = self._paid.get(key)
        if found is None and self._journal is not None:
            found = (await self._journal.aentries()).get(key)
        return found

    def remember(self, key: str, text: str) -> None:
        """Keep a text: it is stored when this returns."""
        self._paid.keep(key, text)
        if self._journal is not None:
            self._journal.add(key, text)

    async def aremember(self, key: str, text: str) -> None:
        """`remember` for a coroutine."""
        self._paid.keep(key, text)
        if self._journal is not None:
            await self._journal.aadd(key, text)
