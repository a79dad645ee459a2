"""Where the records of a model call belong: found through the config of the task that makes it, as LangGraph gives it.

A task has its config in the context, but in a node that is a sequence (`prompt | model`): there LangGraph lets only the
first part of it know of its task. What that part knew is remembered for the others.
"""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, NamedTuple

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver

from langgraph_durable.channels import config_here
from langgraph_durable.context.journal import Journal, journal_here
from langgraph_durable.context.usage.records import NAMESPACE

_TASKS = 4096
"""How many tasks are remembered."""


class Where(NamedTuple):
    """Where a record goes: into the journal, else nowhere, and whether it is `known` that there is none.

    `attempt` is how often the task was begun in this run.
    """

    thread_id: str
    journal: Journal | None
    known: bool
    attempt: int = 1


class Places:
    """The places of tasks, by what LangChain tells of a call: its metadata."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: OrderedDict[tuple[str, str], Place] = OrderedDict()

    def note(self, metadata: Mapping[str, Any]) -> None:
        """Remember the task that runs here, if it is that of the metadata."""
        config, task = config_here(), _task(metadata)
        if config is None or not all(task) or task[1] != _namespace(config.get("metadata")):
            return
        with self._lock:
            self._known[task] = Place.of(_where(config))
            self._known.move_to_end(task)
            while len(self._known) > _TASKS:
                self._known.popitem(last=False)

    def find(self, metadata: Mapping[str, Any]) -> Where:
        """Where a call with these metadata belongs. What is around it may be another task, that of an outer graph."""
        config, task = config_here(), _task(metadata)
        here = _where(config) if config is not None else None
        if here is not None and config is not None and task[1] in ("", _namespace(config.get("metadata"))):
            return here
        with self._lock:
            place = self._known.get(task)
        if place is not None:
            return place.where()
        if here is not None and here.thread_id == task[0]:
            return here
        return Where(task[0], None, not all(task))


class Place(NamedTuple):
    """A `Where` that does not keep its saver: `rest` is all else of its journal."""

    found: Where
    saver: weakref.ref[BaseCheckpointSaver[Any]] | None
    rest: tuple[Any, ...]

    @classmethod
    def of(cls, found: Where) -> Place:
        """The place of what was found."""
        journal = found.journal
        if journal is None:
            return cls(found, None, ())
        return cls(found._replace(journal=None), weakref.ref(journal.saver), tuple(journal)[1:])

    def where(self) -> Where:
        """What was found, as long as anybody else has its saver."""
        if self.saver is None:
            return self.found
        saver = self.saver()
        journal = Journal(saver, *self.rest) if saver is not None else None
        return self.found._replace(journal=journal, known=journal is not None)


def _where(config: RunnableConfig) -> Where:
    given: Mapping[str, Any] = config.get("configurable") or {}
    runtime = given.get("__pregel_runtime")
    attempt = getattr(getattr(runtime, "execution_info", None), "node_attempt", 1)
    journal = journal_here(NAMESPACE, config)
    return Where(_thread(given), journal, True, attempt if isinstance(attempt, int) else 1)


def _task(metadata: Mapping[str, Any]) -> tuple[str, str]:
    return _thread(metadata), _namespace(metadata)


def _thread(given: Mapping[str, Any]) -> str:
    thread_id = given.get("thread_id")
    return "" if thread_id is None else str(thread_id)


def _namespace(metadata: Mapping[str, Any] | None) -> str:
    return str((metadata or {}).get("langgraph_checkpoint_ns") or "")
