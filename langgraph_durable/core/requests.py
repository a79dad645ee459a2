"""What a flow asks for, and what it is given: nothing here does anything.

A flow is a generator. What it yields is a request, what comes back is its answer, and an error of the store is raised
at the yield.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, NamedTuple, TypeAlias, TypeVar

from langgraph_durable.core.codec import Codec
from langgraph_durable.core.memory import Memory
from langgraph_durable.core.plan import Address
from langgraph_durable.core.records import Batch, Query, ThreadQuery
from langgraph_durable.core.superstep import Ran
from langgraph_durable.errors import LeaseLostError

T = TypeVar("T")


class AwaitWrites(NamedTuple):
    """Wait, for a bounded time, until the writes of what `ran` at this checkpoint are stored. Answer: None."""

    where: Address
    ran: Ran


class WritesArrived(NamedTuple):
    """Say that the writes of these tasks are stored, or are about to be, or never will be. Answer: None."""

    where: Address
    task_paths: tuple[str, ...]


class CommitWrites(NamedTuple):
    """Store the writes of a finished task, saying so as soon as no later batch can be stored before them.

    They are in no hurry: the checkpoint that ends the superstep may take them along. Answer: as for the batch.
    """

    batch: Batch
    arrived: WritesArrived


class FindRuns(NamedTuple):
    """Find the checkpoints of runs. Answer: (thread, namespace, id) of each."""

    run_ids: tuple[str, ...]


class Settle(NamedTuple):
    """Give back the room of what was deleted. Answer: None."""


class FindThreads(NamedTuple):
    """Find all threads. Answer: their ids."""


class LookForDamage(NamedTuple):
    """Read all that is stored of a thread, or (None) what is of no thread. Answer: what is damaged, as a list."""

    thread_id: str | None


class Pause(NamedTuple):
    """Wait for so many seconds. Answer: None."""

    seconds: float


class LookAfter(NamedTuple):
    """Ask which processes are alive. Answer: True, False or (of another machine) None by process."""

    processes: tuple[str, ...]


class FindNode(NamedTuple):
    """Find the checkpoints before which a node was next. Answer: the id of the `occurrence`-th, or None.

    Occurrences count from 0 for the first and from -1 back from the last.
    """

    thread_id: str
    ns: str
    node: str
    occurrence: int


Question: TypeAlias = Query | ThreadQuery | FindRuns | FindThreads | FindNode | LookForDamage | LookAfter | Settle
Request: TypeAlias = Question | Batch | CommitWrites | AwaitWrites | WritesArrived | Pause
Flow: TypeAlias = Generator[Request, Any, T]


class Here(NamedTuple):
    """Who writes, and the time, in seconds since 1970."""

    by: str
    clock: Callable[[], float]


class Fence:
    """The lease under which a run writes: `lost` is set once another has it, `stopped` once the run is to end.

    It is good in the process `by`. `metadata` go into every checkpoint that is put under it. `said` is what
    tasks said of themselves in this run, as (move, path), by namespace and checkpoint.
    """

    def __init__(self, token: int, by: str) -> None:
        self.token = token
        self.by = by
        self.said: dict[tuple[str, str], tuple[tuple[str, str], ...]] = {}
        self.metadata: dict[str, Any] = {}
        self.lost: LeaseLostError | None = None
        self.stopped = False


class Session(NamedTuple):
    """How values are coded, what is known to be stored, and who writes."""

    codec: Codec
    memory: Memory
    here: Here
    fence: Fence | None = None
