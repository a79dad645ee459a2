"""What crosses the store port: named tuples of strings, integers and bytes, nothing that needs decoding to be stored.

A *chunk* is one value, or a few small neighbouring elements of a list, as bytes. A *part* is how a checkpoint or a
write names its value: small values inline, others by a chunk, a list by its elements. What a store answers for a
part it has stored is a *ref*: opaque here, immutable, and good for as long as the thread's *epoch* stays the same.
A store changes the epoch whenever it takes something of the thread away.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, TypeAlias

Ref: TypeAlias = Any
"""An opaque, hashable name that a store gave to a part."""


class Chunk(NamedTuple):
    """Bytes with the name they have inside their thread."""

    digest: bytes
    kind: str
    data: bytes


class Inline(NamedTuple):
    """A part too small to be a chunk of its own."""

    kind: str
    data: bytes


class One(NamedTuple):
    """A part that is one chunk: of this batch, by its digest, or one that is stored already, by its ref."""

    digest: bytes
    ref: Ref | None = None


class Known(NamedTuple):
    """A part that the store has already: nothing to store but its name."""

    ref: Ref


class Span(NamedTuple):
    """Elements `start` to `stop` (exclusive) of the list that a `Many` is based on."""

    start: int
    stop: int


class Fresh(NamedTuple):
    """One chunk that holds the next `elements` elements of a list: of this batch, or stored already (`ref`)."""

    digest: bytes
    elements: int
    ref: Ref | None = None


class Many(NamedTuple):
    """A part that is a list: what it keeps of `base`, and what is new, in order."""

    base: Ref | None
    pieces: tuple[Span | Fresh, ...]


Part: TypeAlias = Inline | One | Known | Many


class Mark(NamedTuple):
    """How a thread stands with a checkpoint: which nodes are `next`, and who (`by`, a process) has put it.

    `time` is in seconds since 1970, `move` one of `core.status.MOVES`, `messages` how many messages the state holds.
    """

    time: float
    move: str
    next: tuple[str, ...]
    step: int | None
    messages: int
    by: str


class Event(NamedTuple):
    """What happened to a task, or to a run, that changes how its thread stands; `move` is as in `Mark`.

    `error` is the exception with all there is to tell of it, sealed by the serializer.
    """

    time: float
    move: str
    nodes: tuple[str, ...]
    error: Inline | None
    by: str


class Standing(NamedTuple):
    """How a namespace of a thread stands after all that was stored in it; `core.status` makes one of another.

    `checkpoint_id` is the newest one's. `ahead` is an event of a checkpoint that is not stored yet, with its id.
    `checkpoints`, `messages` and `bytes` are counts; `created` is None where that was before anybody wrote it down.
    """

    status: str
    reason: str
    nodes: tuple[str, ...]
    error: Inline | None
    checkpoint_id: str
    step: int | None
    created: float | None
    updated: float
    run_id: str | None
    by: str
    checkpoints: int
    messages: int
    bytes: int
    ahead: tuple[str, Event] | None = None


class Lease(NamedTuple):
    """Who may write to a thread: whoever carries `token`. `holder` is JSON; `stop` that the run was asked to end."""

    token: int
    holder: str
    stop: bool = False


class PutCheckpoint(NamedTuple):
    """A checkpoint: `parts` are the values of its channels, in the order in which the head names them.

    One that is `copied` from elsewhere is no late write: that its parent was deleted here does not keep it out.
    """

    ns: str
    id: str
    parent: str | None
    run_id: str | None
    metadata: str
    exact_metadata: Inline | None
    head: Inline
    parts: tuple[Part, ...]
    copied: bool = False
    mark: Mark | None = None


class PutWrites(NamedTuple):
    """The writes of one task: `(index, channel, part)` each; `replaces` when the last call wins, else the first."""

    ns: str
    checkpoint_id: str
    task_id: str
    task_path: str
    replaces: bool
    entries: tuple[tuple[int, str, Part], ...]
    event: Event | None = None


class DeleteThread(NamedTuple):
    """Everything of the thread, in every namespace."""


class DeleteCheckpoints(NamedTuple):
    """Some checkpoints of the thread with their writes, and every chunk that nothing names any more."""

    checkpoints: tuple[tuple[str, str], ...]


class CopyThread(NamedTuple):
    """Everything of the thread, to a thread that has nothing yet."""

    target: str


class TakeLease(NamedTuple):
    """The lease of the thread for `holder`, in the place of the one with the token `instead` (None: of none)."""

    holder: str
    instead: int | None


class KeepLease(NamedTuple):
    """Another `holder` for the lease with this token: it was renewed."""

    token: int
    holder: str


class StopLease(NamedTuple):
    """Ask the run that has the lease to end."""


class EndLease(NamedTuple):
    """The end of a run, and of its lease; `event` is how it ended, None that the lease is all that ends."""

    token: int
    event: Event | None
    ns: str = ""


LeaseWork: TypeAlias = TakeLease | KeepLease | StopLease | EndLease
Work: TypeAlias = PutCheckpoint | PutWrites | DeleteThread | DeleteCheckpoints | CopyThread | LeaseWork


class Batch(NamedTuple):
    """One call of the saver: all of it is stored, or none of it.

    `token` is that of the lease under which a checkpoint or writes are put; None under none.

    `epoch` is the thread's as the planner knew it when it used a ref; None when the batch brings all it names. When
    that epoch has passed, `whole` makes the same batch with all that it names: it is stored in its place.
    """

    thread_id: str
    epoch: int | None
    chunks: tuple[Chunk, ...]
    work: Work
    whole: Callable[[], Batch] | None = None
    token: int | None = None


class Stored(NamedTuple):
    """What became of a batch: the thread's epoch, a ref per part in the batch's order, and one per chunk it brought.

    `stop` says that the run that it is of was asked to end.
    """

    epoch: int
    refs: tuple[Ref, ...]
    chunks: Mapping[bytes, Ref] = MappingProxyType({})
    stop: bool = False


class Stale(NamedTuple):
    """The batch rests on something that is gone: plan it again from what is stored now. Nothing was stored."""


class Fenced(NamedTuple):
    """The batch has another token than the thread's `lease` (None: there is none). Nothing was stored."""

    lease: Lease | None


class Leased(NamedTuple):
    """The lease as it is now; None where there is none any more."""

    lease: Lease | None


class Tag(NamedTuple):
    """Where a checkpoint is, and what happened at it: a status of `core.status`, "" for nothing worth a tag."""

    thread_id: str
    ns: str
    id: str
    status: str


class ThreadQuery(NamedTuple):
    """Which threads to tell about.

    `status` leaves out those that stand otherwise, but for who holds a lease, or of whom it is not known. `where` sees
    the JSON of the newest metadata. `order` is "updated" or "created", the last first, or "id"; `after` continues a
    page (the `place` of its last one).
    """

    thread_id: str | None = None
    ns: str | None = ""
    status: tuple[str, ...] | None = None
    where: Callable[[str], bool] | None = None
    order: Literal["updated", "created", "id"] = "updated"
    limit: int | None = None
    after: Any = None


class Stood(NamedTuple):
    """How a thread stands; `standing` is None where nobody has written that down. `place` is where it is in the order.

    `checkpoints` and `bytes` are of all its namespaces.
    """

    thread_id: str
    ns: str
    standing: Standing | None
    lease: Lease | None
    checkpoints: int
    bytes: int
    place: Any


class Query(NamedTuple):
    """Which checkpoints to read, newest first in order of insertion.

    `ns` None means every namespace, `thread_id` None every thread. `where` sees the JSON of the metadata
    and, if it is `tagged`, a `Tag` as well. `after` continues a page (its `Page.cursor`). `lineage`
    reads `checkpoint_id` and its ancestors instead, nearest first. `contents` is whose contents come with the page:
    channels' and writes', writes' alone, or none. `has` says of (thread, namespace, epoch, ref) that the caller needs
    none for it.
    """

    thread_id: str | None
    ns: str | None = None
    checkpoint_id: str | None = None
    before: str | None = None
    where: Callable[..., bool] | None = None
    limit: int | None = None
    after: Any = None
    lineage: bool = False
    contents: Literal["all", "writes", "none"] = "all"
    has: Callable[[str, str, int, Ref], bool] | None = None
    tagged: bool = False


class FoundWrites(NamedTuple):
    """One `PutWrites` as it was stored, oldest first among its checkpoint's."""

    task_id: str
    task_path: str
    replaces: bool
    entries: tuple[tuple[int, str, Ref], ...]


class Found(NamedTuple):
    """A stored checkpoint. `whole` is set, and head and refs are empty, where an official saver stored it."""

    thread_id: str
    ns: str
    id: str
    parent: str | None
    metadata: str
    exact_metadata: Inline | None
    head: Inline
    refs: tuple[Ref, ...]
    writes: tuple[FoundWrites, ...]
    epoch: int
    whole: tuple[str, bytes] | None = None
    whole_writes: tuple[tuple[str, str, int, str, str, bytes], ...] = ()


class Elements(NamedTuple):
    """What a ref of a list stands for: the keys of its chunks, and the number of elements in each."""

    keys: tuple[int, ...]
    counts: tuple[int, ...]


class Page(NamedTuple):
    """Checkpoints, and the contents of what they name.

    `contents[ref]` is what a part is: `Inline`, the key of one chunk, or the `Elements` of a list. `chunks[key]` is
    a chunk, once per page however many checkpoints name it; a key that is missing is missing in the store. `cursor`
    continues the reading; None at its end.
    """

    found: tuple[Found, ...]
    contents: Mapping[Ref, Inline | int | Elements]
    chunks: Mapping[int, Chunk]
    cursor: Any


class Damage(NamedTuple):
    """Something stored that cannot be read as it was put.

    `thread_id` is None for what is of no thread, `checkpoints` are the (namespace, id) of those that it is missing
    from, newest first; empty where that cannot be told.
    """

    thread_id: str | None
    trouble: str
    checkpoints: tuple[tuple[str, str], ...] = ()


class Checked(NamedTuple):
    """What was looked at, and what of it is damaged, thread by thread."""

    threads: int
    checkpoints: int
    damage: tuple[Damage, ...]

    @property
    def sound(self) -> bool:
        """Whether all of it can be read."""
        return not self.damage
