"""LangGraph's calls become batches and queries; what was found becomes checkpoint tuples.

Nothing here waits, stores or remembers: every function answers what is to be done, and is given what is known. A
plan carries what will be known once the store has acknowledged it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, cast

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    Checkpoint,
    CheckpointMetadata,
    get_checkpoint_metadata,
)

from langgraph_durable.core.codec import Codec
from langgraph_durable.core.delta import Held, bunched, changed
from langgraph_durable.core.environments import RECORD, RECORD_HASH
from langgraph_durable.core.head import shortened, spelled_out
from langgraph_durable.core.memory import Space
from langgraph_durable.core.metadata import loaded, written
from langgraph_durable.core.records import (
    Batch,
    Chunk,
    Event,
    Found,
    Fresh,
    Known,
    Many,
    Mark,
    One,
    Part,
    PutCheckpoint,
    PutWrites,
    Ref,
    Span,
    Stored,
)
from langgraph_durable.core.superstep import Before, before
from langgraph_durable.errors import InvalidRequestError

INLINE = 64
"""Bytes of a stream up to which a single value is stored beside its name instead of as a chunk."""


class Address(NamedTuple):
    """Where a call goes; `checkpoint_id` None is the newest checkpoint, or no parent."""

    thread_id: str
    ns: str
    checkpoint_id: str | None

    def newest(self) -> RunnableConfig:
        """The config that leads to the newest checkpoint of this namespace."""
        return {"configurable": {"thread_id": self.thread_id, "checkpoint_ns": self.ns}}

    def config(self, checkpoint_id: str) -> RunnableConfig:
        """The config that leads to one checkpoint of this namespace."""
        return {"configurable": {"thread_id": self.thread_id, "checkpoint_ns": self.ns, "checkpoint_id": checkpoint_id}}


class PutPlan(NamedTuple):
    """A checkpoint to store, and what is known of its namespace once that is done."""

    batch: Batch
    before: Before
    names: tuple[str, ...]
    lists: dict[str, Held]
    singles: dict[str, bytes]
    record: str | None

    def space(self, stored: Stored) -> Space:
        """What the namespace holds after `stored`."""
        lists: dict[str, Held] = {}
        singles: dict[str, tuple[bytes, Ref]] = {}
        record = None if self.record is None else (self.record, stored.refs[-1])
        for name, ref in zip(self.names, stored.refs, strict=self.record is None):
            held = self.lists.get(name)
            if held is not None:
                lists[name] = Held(held.streams, held.counts, ref, held.mirror, held.size)
            elif name in self.singles:
                singles[name] = (self.singles[name], ref)
        return Space(stored.epoch, self.before, lists, singles, record)


def address(config: RunnableConfig) -> Address:
    """Where `config` points; InvalidRequestError when it names no thread."""
    conf = config.get("configurable") or {}
    thread_id = conf.get("thread_id")
    if thread_id is None:
        raise InvalidRequestError(
            'the config names no thread: pass {"configurable": {"thread_id": "..."}} to the graph or the saver'
        )
    where = Address(str(thread_id), conf.get("checkpoint_ns") or "", conf.get("checkpoint_id") or None)
    check_text("the config", *where)
    return where


def check_text(what: str, *names: str | None) -> None:
    """InvalidRequestError for a name that no database can keep: one that is not text, or half a surrogate pair."""
    for name in names:
        if name is None:
            continue
        try:
            name.encode()
        except (AttributeError, UnicodeEncodeError) as error:
            raise InvalidRequestError(f"{what} has a name that is not valid text: {name!r} ({error})") from error


def check_ids(what: str, ids: Sequence[str]) -> None:
    """InvalidRequestError for one id where a list of them is asked for: its letters would be taken for ids."""
    if isinstance(ids, str):
        raise InvalidRequestError(f"{what}_ids must be a list of {what} ids; did you mean [{ids!r}]?")


def plan_put(
    codec: Codec,
    space: Space | None,
    epoch: int | None,
    stored: Mapping[bytes, Ref],
    where: Address,
    config: RunnableConfig,
    checkpoint: Checkpoint,
    metadata: CheckpointMetadata,
    *,
    made: Mark | None = None,
    copied: bool = False,
    record: str | None = None,
) -> PutPlan:
    """The batch that stores a checkpoint at `where`, given what is known of its namespace (None: nothing).

    `stored` has the refs of chunks that are known to be stored; it and `space` speak for `epoch`. `made` and
    `copied` are as in `PutCheckpoint` (`made` its mark), `record` is what the hash in the metadata is of.
    """
    check_text("the checkpoint", checkpoint["id"])
    merged = get_checkpoint_metadata(config, metadata)
    parts: list[Part] = []
    chunks: list[Chunk] = []
    lists: dict[str, Held] = {}
    singles: dict[str, bytes] = {}
    values = checkpoint["channel_values"]
    for name, value in values.items():
        if type(value) is list:
            held = space.lists.get(name) if space else None
            change = changed(codec, value, held, name)
            lists[name] = change.held
            if change.pieces is None:
                parts.append(Known(change.held.ref))
            else:
                parts.append(_many(codec, change.base, change.pieces, stored, chunks))
            continue
        stream = codec.stream(value, name)
        if len(stream) <= INLINE:
            parts.append(codec.seal(stream))
            continue
        digest = codec.digest(stream)
        singles[name] = digest
        old = space.singles.get(name) if space else None
        if old is not None and old[0] == digest:
            parts.append(Known(old[1]))
        else:
            parts.append(_one(codec, stream, digest, stored, chunks))
    rest = {key: part for key, part in checkpoint.items() if key not in ("channel_values", "id")}
    names = list(values)
    hashed = cast("dict[str, Any]", merged).get(RECORD_HASH)
    if RECORD in values:
        raise InvalidRequestError(
            f"a channel cannot be called {RECORD!r}: that is the name of what is stored with them"
        )
    # Subgraphs run with what the graph runs with.
    recorded = None if where.ns else _record(codec, space, stored, hashed, record, chunks)
    if recorded is not None:
        parts.append(recorded)
        names.append(RECORD)
    head = codec.seal(
        codec.stream((spelled_out if codec.readable else shortened)(names, rest), "(the checkpoint itself)")
    )
    text, exact = written(codec, merged)
    # Half a surrogate pair cannot be looked for, but it must not fail the put.
    run_id = str(merged["run_id"]).encode(errors="replace").decode() if merged.get("run_id") is not None else None
    work = PutCheckpoint(
        where.ns,
        checkpoint["id"],
        where.checkpoint_id,
        run_id,
        text,
        exact,
        head,
        tuple(parts),
        copied,
        made,
    )
    batch = Batch(where.thread_id, epoch, tuple(chunks), work)
    known = None if recorded is None else hashed
    return PutPlan(batch, before(checkpoint, merged), tuple(values), lists, singles, known)


def plan_writes(
    codec: Codec,
    epoch: int | None,
    stored: Mapping[bytes, Ref],
    where: Address,
    writes: Sequence[tuple[str, Any]],
    task_id: str,
    task_path: str,
    event: Event | None = None,
) -> Batch:
    """The batch that stores the writes of one task; `stored` is as for `plan_put`, `event` what they tell.

    It is never stale: a checkpoint may be waiting for it, and must not overtake a second attempt.
    """
    if where.checkpoint_id is None:
        raise InvalidRequestError(
            f"writes belong to a checkpoint, and the config of thread {where.thread_id!r} names none: "
            'pass the config that `put` returned, with its "checkpoint_id"'
        )
    check_text("the task", task_id, task_path, *(channel for channel, _ in writes))
    coded: list[tuple[int, str, list[tuple[bytes, int]] | bytes]] = []
    for index, (channel, value) in enumerate(writes):
        place = WRITES_IDX_MAP.get(channel, index)
        if type(value) is list:
            coded.append((place, channel, bunched(codec.streams(value, channel))))
        else:
            coded.append((place, channel, codec.stream(value, channel)))
    replaces = all(channel in WRITES_IDX_MAP for channel, _ in writes)
    work = PutWrites(where.ns, where.checkpoint_id, task_id, task_path, replaces, (), event)
    # Of what was packed, and not of the values again: somebody may have changed those by then.
    whole = None if epoch is None else partial(_writes, codec, where.thread_id, work, coded, None, {})
    return _writes(codec, where.thread_id, work, coded, epoch, stored, whole)


def _writes(
    codec: Codec,
    thread_id: str,
    work: PutWrites,
    coded: Sequence[tuple[int, str, list[tuple[bytes, int]] | bytes]],
    epoch: int | None,
    stored: Mapping[bytes, Ref],
    whole: Callable[[], Batch] | None = None,
) -> Batch:
    """The batch of `work` with these entries: (index, channel, runs of a list or the stream of a value) each."""
    chunks: list[Chunk] = []
    entries: list[tuple[int, str, Part]] = []
    for index, channel, streams in coded:
        if isinstance(streams, list):
            part: Part = _many(codec, None, streams, stored, chunks)
        elif len(streams) <= INLINE:
            part = codec.seal(streams)
        else:
            part = _one(codec, streams, codec.digest(streams), stored, chunks)
        entries.append((index, channel, part))
    return Batch(thread_id, epoch, tuple(chunks), work._replace(entries=tuple(entries)), whole)


def keep_latest(
    newest_first: Sequence[Found], stored: Mapping[tuple[str, str], frozenset[str]]
) -> list[tuple[str, str]]:
    """Which (namespace, id) of a thread `prune` may take away: all but the newest of each namespace.

    Ancestors from which a `DeltaChannel` of the newest is rebuilt stay as well: the counters in its metadata say
    which channels those are. `stored` has the channels that a checkpoint stores a value of, by (namespace, id), for
    those with counters.
    """
    needs: dict[str, tuple[str | None, set[str]]] = {}
    gone: list[tuple[str, str]] = []
    for found in newest_first:
        if found.ns not in needs:
            channels = set((loaded(found.metadata) or {}).get("counters_since_delta_snapshot") or ())
        elif needs[found.ns][1] and found.id == needs[found.ns][0]:
            channels = needs[found.ns][1]
        else:
            gone.append((found.ns, found.id))
            continue
        needs[found.ns] = (found.parent, channels - stored.get((found.ns, found.id), frozenset()))
    return gone


def _one(
    codec: Codec,
    stream: bytes,
    digest: bytes,
    stored: Mapping[bytes, Ref],
    chunks: list[Chunk],
) -> One:
    ref = stored.get(digest)
    if ref is None:
        chunks.append(codec.chunk(stream, digest))
    return One(digest, ref)


def _record(
    codec: Codec,
    space: Space | None,
    stored: Mapping[bytes, Ref],
    hashed: Any,
    record: str | None,
    chunks: list[Chunk],
) -> Part | None:
    """The record with this hash: the one that the last checkpoint had, or `record`; None where there is neither."""
    if not isinstance(hashed, str):
        return None
    if space is not None and space.record is not None and space.record[0] == hashed:
        return Known(space.record[1])
    if record is None:
        return None
    stream = codec.stream(record, RECORD)
    return _one(codec, stream, codec.digest(stream), stored, chunks)


def _many(
    codec: Codec,
    base: Ref | None,
    pieces: Sequence[Span | tuple[bytes, int]],
    stored: Mapping[bytes, Ref],
    chunks: list[Chunk],
) -> Many:
    """A list of runs of `base` and of new chunks, each with its element count; those not stored are sent along."""
    made: list[Span | Fresh] = []
    for piece in pieces:
        if isinstance(piece, Span):
            made.append(piece)
            continue
        stream, count = piece
        digest = codec.digest(stream)
        ref = stored.get(digest)
        if ref is None:
            chunks.append(codec.chunk(stream, digest))
        made.append(Fresh(digest, count, ref))
    return Many(base, tuple(made))
