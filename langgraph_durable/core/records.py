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


class PutWrites(NamedTuple):
    """The writes of one task: `(index, channel, part)` each; `replaces` when the last call wins, else the first."""

    ns: str
    checkpoint_id: str
    task_id: str
    task_path: str
    replaces: bool
    entries: tuple[tuple[int, str, Part], ...]


class DeleteThread(NamedTuple):
    """Everything of the thread, in every namespace."""


class DeleteCheckpoints(NamedTuple):
    """Some checkpoints of the thread with their writes, and every chunk that nothing names any more."""

    checkpoints: tuple[tuple[str, str], ...]


class CopyThread(NamedTuple):
    """Everything of the thread, to a thread that has nothing yet."""

    target: str


Work: TypeAlias = PutCheckpoint | PutWrites | DeleteThread | DeleteCheckpoints | CopyThread


class Batch(NamedTuple):
    """One call of the saver: all of it is stored, or none of it.

    `epoch` is the thread's as the planner knew it when it used a ref; None when the batch brings all it names. When
    that epoch has passed, `whole` makes the same batch with all that it names: it is stored in its place.
    """

    thread_id: str
    epoch: int | None
    chunks: tuple[Chunk, ...]
    work: Work
    whole: Callable[[], Batch] | None = None


class Stored(NamedTuple):
    """What became of a batch: the thread's epoch, a ref per part in the batch's order, and one per chunk it brought."""

    epoch: int
    refs: tuple[Ref, ...]
    chunks: Mapping[bytes, Ref] = MappingProxyType({})


class Stale(NamedTuple):
    """The batch rests on something that is gone: plan it again from what is stored now. Nothing was stored."""


class Query(NamedTuple):
    """Which checkpoints to read, newest first in order of insertion.

    `ns` None means every namespace, `thread_id` None every thread. `where` sees the JSON of the metadata. `after`
    continues a page (its `Page.cursor`). `lineage` reads `checkpoint_id` and its ancestors instead, nearest first.
    `contents` is whose contents come with the page: channels' and writes', writes' alone, or none. `has` says of
    (thread, namespace, epoch, ref) that the caller needs none for it.
    """

    thread_id: str | None
    ns: str | None = None
    checkpoint_id: str | None = None
    before: str | None = None
    where: Callable[[str], bool] | None = None
    limit: int | None = None
    after: Any = None
    lineage: bool = False
    contents: Literal["all", "writes", "none"] = "all"
    has: Callable[[str, str, int, Ref], bool] | None = None


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
