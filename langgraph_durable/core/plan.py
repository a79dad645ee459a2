"""LangGraph's calls become batches and queries; what was found becomes checkpoint tuples.

Nothing here waits, stores or remembers: every function answers what is to be done, and is given what is known. A
plan carries what will be known once the store has acknowledged it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    Checkpoint,
    CheckpointMetadata,
    get_checkpoint_metadata,
)

from langgraph_durable.core.codec import Codec
from langgraph_durable.core.delta import Held, bunched, changed
from langgraph_durable.core.head import shortened, spelled_out
from langgraph_durable.core.memory import Space
from langgraph_durable.core.records import (
    Batch,
    Chunk,
    Event,
    Found,
    Fresh,
    Inline,
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
    Tag,
)
from langgraph_durable.core.superstep import Before, before
from langgraph_durable.errors import InvalidRequestError, UnserializableError

INLINE = 64
"""Bytes of a stream up to which a single value is stored beside its name instead of as a chunk."""

_SCALARS = frozenset({str, int, float, bool, type(None)})
_TEXT = frozenset({str})
_JSON = json.JSONEncoder(ensure_ascii=False)


class Address(NamedTuple):
    """Where a call goes; `checkpoint_id` None is the newest checkpoint, or no parent."""

    thread_id: str
    ns: str
    checkpoint_id: str | None

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

    def space(self, stored: Stored) -> Space:
        """What the namespace holds after `stored`."""
        lists: dict[str, Held] = {}
        singles: dict[str, tuple[bytes, Ref]] = {}
        for name, ref in zip(self.names, stored.refs, strict=True):
            held = self.lists.get(name)
            if held is not None:
                lists[name] = Held(held.streams, held.counts, ref, held.mirror, held.size)
            elif name in self.singles:
                singles[name] = (self.singles[name], ref)
        return Space(stored.epoch, self.before, lists, singles)


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
) -> PutPlan:
    """The batch that stores a checkpoint at `where`, given what is known of its namespace (None: nothing).

    `stored` has the refs of chunks that are known to be stored; it and `space` speak for `epoch`. `made` and
    `copied` are as in `PutCheckpoint` (`made` its mark).
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
    head = codec.seal(
        codec.stream((spelled_out if codec.readable else shortened)(names, rest), "(the checkpoint itself)")
    )
    text, exact = _metadata(codec, merged)
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
    return PutPlan(batch, before(checkpoint, merged), tuple(names), lists, singles)


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


def where(filter: Mapping[str, Any] | None) -> Callable[..., bool] | None:
    """A test for the metadata of a checkpoint, as JSON: each key has to be there with an equal value.

    A key with dots means the key of that name or, where there is none, the way into nested metadata. None matches
    None and a key that is not there. Booleans equal 0 and 1, as in Python and in SQLite. Where the metadata have no
    "status" of their own it means the tag, or what is `current` of it, by (thread, namespace, checkpoint).
    """
    if not filter:
        return None
    wanted = list(filter.items())

    def matches(
        metadata: str, tag: Tag | None = None, *, current: Mapping[tuple[str, str, str], str] | None = None
    ) -> bool:
        found = loaded(metadata)
        if found is None:
            return True  # what cannot be read is let through, to whoever reads it and is told so
        if tag is not None and "status" not in found:
            found["status"] = (current or {}).get(tag[:3], tag.status)
        return all(_at(found, key) == value for key, value in wanted)

    return matches


def loaded(metadata: str) -> dict[str, Any] | None:
    """Metadata from its JSON; None when it is damaged."""
    try:
        found = json.loads(metadata)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


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


def _metadata(codec: Codec, metadata: Mapping[str, Any]) -> tuple[str, Inline | None]:
    """The metadata as JSON, and, where JSON would not give it back, exactly as well."""
    text = None
    try:
        text = _JSON.encode(metadata)
        if not text.isascii() and not _is_unicode(text):
            text = json.dumps(metadata)  # half a surrogate pair can only be written as an escape
        if _is_json(metadata):
            return text, None
    except RecursionError:
        text = None
    except (TypeError, ValueError):
        pass
    try:
        exact = codec.seal(codec.stream(dict(metadata), "(the metadata)"))
    except UnserializableError:
        if text is None:
            raise
        return text, None  # what an official saver would give back: tuples as lists, keys as text
    return json.dumps(_plain(metadata)), exact


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_json(value: Any) -> bool:
    """Whether JSON, as Python writes it, gives back the same: `value` is acyclic, since it has been written."""
    kind = type(value)
    if kind is dict:
        if not _TEXT.issuperset(map(type, value)):
            return False
        return _SCALARS.issuperset(map(type, value.values())) or all(map(_is_json, value.values()))
    if kind is list:
        return all(map(_is_json, value))
    return kind in _SCALARS


def _plain(value: Any, depth: int = 0) -> Any:
    """What of `value` JSON can say, for filters; the rest as text."""
    if depth < 16:
        if isinstance(value, Mapping):
            return {str(key): _plain(part, depth + 1) for key, part in value.items()}
        if isinstance(value, (list, tuple)):
            return [_plain(part, depth + 1) for part in value]
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float) and value == value and value not in (float("inf"), float("-inf")):
        return value
    return str(value)


def _at(metadata: Any, key: str) -> Any:
    if key in metadata or "." not in key:
        return metadata.get(key)
    for step in key.split("."):
        if not isinstance(metadata, dict) or step not in metadata:
            return None
        metadata = metadata[step]
    return metadata
