"""A store keeps batches whole and in order; it knows bytes, and nothing of LangGraph.

What every engine promises, and what the contract tests check of each:

- `commit` answers after everything it answers `Stored` for would survive a power cut, and each batch is there with
  all its parts or not at all. A batch that is refused leaves its neighbours in the same call untouched.
- Batches are applied in the order given. "Newest" means applied last; no clock is asked, but by plain files for which
  comes first of threads that different stores wrote to.
- A ref stays good, and means the same, until the epoch of its thread changes. A batch that rests on an epoch that has
  passed is `Stale`, unless it can be made `whole`.
- `read` sees one moment: no part of what `commit` does meanwhile. It takes no lock that a writer needs.
- A thread that was deleted stays deleted: what names a deleted checkpoint as its own or as its parent is refused.
- A checkpoint or writes are `Fenced` unless they carry the token of the thread's lease, or none where there is none. It
  is compared in the transaction that stores them. A token is given once, and every later one is greater.
- How a namespace stands is kept with what is stored in it, in the same transaction, and is found without reading that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeAlias

from langgraph_durable.core.records import (
    Batch,
    Damage,
    Fenced,
    Lease,
    Leased,
    Page,
    Query,
    Stale,
    Stood,
    Stored,
    ThreadQuery,
)
from langgraph_durable.errors import DurableError

Outcome: TypeAlias = Stored | Stale | Fenced | Leased | DurableError
"""What became of one batch; an error means that the batch itself was refused, and nothing of it stored."""


def fences(lease: Lease | None, token: int | None) -> bool:
    """Whether the lease of a thread (None: there is none) keeps out what carries this token."""
    return token != (None if lease is None else lease.token)


class Store(Protocol):
    """The verbs of an engine. All are synchronous, and may be called from any thread."""

    def commit(self, batches: Sequence[Batch]) -> list[Outcome]:
        """Store the batches in one transaction. StoreError: none was stored."""

    def read(self, query: Query) -> Page:
        """The checkpoints that `query` asks for, in pages of a bounded size."""

    def runs(self, run_ids: Sequence[str]) -> list[tuple[str, str, str]]:
        """(thread, namespace, checkpoint id) of every checkpoint that those runs made."""

    def stood(self, query: ThreadQuery) -> list[Stood]:
        """How threads stand, in the order asked for; those of whom that is not written down come last.

        One with a lease that has no checkpoints yet comes first.
        """

    def node(self, thread_id: str, ns: str, node: str, occurrence: int) -> str | None:
        """The id of the checkpoint before which a node was next for the `occurrence`-th time, -1 being the last."""

    def threads(self) -> list[str]:
        """The ids of all threads; of some nothing may be left but what keeps them deleted."""

    def check(self, thread_id: str | None) -> list[Damage]:
        """What is wrong with the bytes of a thread as they are stored now or, for None, with what is of no thread.

        Every byte is read, whatever is remembered. What a reader finds by itself, chunks that are missing or changed,
        need not be told.
        """

    def secret(self, name: str, make: bytes) -> bytes:
        """The bytes kept under `name`; `make`, stored now, when there were none."""

    def settle(self) -> None:
        """Give back the room of what was deleted, as far as that is quick; never an error."""

    def close(self) -> None:
        """Let go of everything. Harmless to call again; any other verb is ClosedError from then on."""

    def forked(self) -> None:
        """Called in the child of a fork: use nothing that the parent uses."""
