"""What was found becomes LangGraph's checkpoint tuples; a chunk is decoded once, however many tuples it is in.

No two tuples share a value that can be changed. What cannot be read says which thread, checkpoint and channel it is.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, cast

from langgraph.checkpoint.base import Checkpoint, CheckpointMetadata, CheckpointTuple, PendingWrite

from langgraph_durable.core.codec import Codec
from langgraph_durable.core.collector import uncollected
from langgraph_durable.core.delta import Held, assembled, remembered
from langgraph_durable.core.environments import RECORD, RECORD_HASH
from langgraph_durable.core.head import restored
from langgraph_durable.core.memory import Space
from langgraph_durable.core.messages import CLASSES, are_current
from langgraph_durable.core.mirror import NOTHING, copies, extended
from langgraph_durable.core.plan import Address
from langgraph_durable.core.records import Elements, Found, FoundWrites, Inline, Page, Ref
from langgraph_durable.core.superstep import TASKS, before
from langgraph_durable.errors import CorruptDataError, DurableError

T = TypeVar("T")


class Reading:
    """The checkpoints of one page as LangGraph's tuples.

    `held` has lists that are known already, by their refs. `several` says that more than one tuple will be asked
    for: then what the serializer decodes is kept, and copied. `value_codec` is another one for the values alone.
    """

    def __init__(
        self,
        codec: Codec,
        page: Page,
        held: Mapping[Ref, Held] | None = None,
        *,
        several: bool = False,
        value_codec: Codec | None = None,
    ) -> None:
        self._codec = codec
        self._value_codec = value_codec or codec
        self._page = page
        self._held = held or {}
        self._several = several
        self._streams: dict[int, bytes] = {}
        self._foreign: set[int] = set()
        self._decoded: dict[int, list[Any]] = {}
        self._mirror = NOTHING
        self._places: dict[int, int] = {}

    def checkpoint_tuple(self, found: Found) -> CheckpointTuple:
        """The tuple of one checkpoint of the page; CorruptDataError when part of it is missing or unreadable."""
        checkpoint = self._checkpoint(found)
        where = Address(found.thread_id, found.ns, None)
        return CheckpointTuple(
            where.config(found.id),
            checkpoint,
            self.metadata(found),
            where.config(found.parent) if found.parent else None,
            self.writes(found),
        )

    def space(self, found: Found, read: CheckpointTuple) -> Space | None:
        """What the page tells of the namespace of `found`; None where an official saver stored it.

        `read` is its tuple, as it was made here and not given away yet.
        """
        if found.whole is not None:
            return None
        lists: dict[str, Held] = {}
        singles: dict[str, tuple[bytes, Ref]] = {}
        values = read.checkpoint["channel_values"]
        record = None
        if len(found.refs) > len(values):
            record = (str(cast("dict[str, Any]", read.metadata).get(RECORD_HASH)), found.refs[-1])
        for name, ref in zip(values, found.refs, strict=record is None):
            content = self._page.contents.get(ref)
            if ref in self._held:
                lists[name] = self._held[ref]
            elif isinstance(content, Elements):
                streams = [self._streams[key] for key in content.keys]
                lists[name] = remembered(streams, content.counts, ref)
            elif isinstance(content, int):
                singles[name] = (self._page.chunks[content].digest, ref)
        return Space(found.epoch, before(read.checkpoint, read.metadata), lists, singles, record)

    def names(self, found: Found) -> list[str]:
        """What the checkpoint stores a value of, in the order of its refs: its channels, and maybe its record."""
        if found.whole is not None:
            return list(self._whole(found)["channel_values"])
        return self._head(found)[0]

    def record(self, found: Found) -> str | None:
        """What the run ran with that made the checkpoint, as it was recorded; None where that was not."""
        if found.whole is not None or RECORD not in self._head(found)[0]:
            return None
        made = self._guard(found, RECORD, lambda: self._content(found.refs[-1]))
        return made if isinstance(made, str) else None

    def metadata(self, found: Found) -> CheckpointMetadata:
        """The metadata as it was put."""
        if found.exact_metadata is None:
            return cast(CheckpointMetadata, self._guard(found, "(its metadata)", lambda: _object(found.metadata)))
        exact = self._guard(found, "(its metadata)", lambda: self._single(found.exact_metadata or Inline("", b"")))
        return cast(CheckpointMetadata, exact)

    def writes(self, found: Found) -> list[PendingWrite]:
        """The pending writes, in the order in which LangGraph applies them."""
        made: list[tuple[tuple[str, str, int], str, Any]] = []
        for (task_id, index), (path, channel, value) in self._entries(found).items():
            made.append(((path, task_id, index), channel, value))
        made.sort(key=lambda write: write[0])
        return [(key[1], channel, value()) for key, channel, value in made]

    def written(self, found: Found) -> list[tuple[str, str, str]]:
        """(task, task path, channel) of every pending write; what was written is not looked at."""
        return [(task_id, path, channel) for (task_id, _), (path, channel, _) in self._entries(found).items()]

    def sent(self, found: Found) -> tuple[str, ...]:
        """The nodes of the `Send` packets that were written, in the order in which they wait; () where unreadable."""
        try:
            packets = [
                (path, task_id, index, value())
                for (task_id, index), (path, channel, value) in self._entries(found).items()
                if channel == TASKS
            ]
        except CorruptDataError:
            return ()
        packets.sort(key=lambda packet: packet[:3])
        return tuple(str(getattr(packet[3], "node", "")) for packet in packets)

    def _entries(self, found: Found) -> dict[tuple[str, int], tuple[str, str, Callable[[], Any]]]:
        """Which write stands at each (task, index): the first that was stored there, or the last that replaces."""
        entries: dict[tuple[str, int], tuple[str, str, Callable[[], Any]]] = {}
        for task_id, task_path, index, channel, kind, data in found.whole_writes:
            entries[task_id, index] = (task_path, channel, self._official(found, channel, kind, data))
        for call in found.writes:
            for index, channel, ref in call.entries:
                if call.replaces or (call.task_id, index) not in entries:
                    entries[call.task_id, index] = (call.task_path, channel, self._written(found, call, channel, ref))
        return entries

    def _official(self, found: Found, channel: str, kind: str, data: bytes) -> Callable[[], Any]:
        return lambda: self._guard(found, channel, lambda: self._codec.serde.loads_typed((kind, data)))

    def _written(self, found: Found, call: FoundWrites, channel: str, ref: Ref) -> Callable[[], Any]:
        return lambda: self._value(found, f"{channel} (a write of task {call.task_id})", ref)

    def _checkpoint(self, found: Found) -> Checkpoint:
        if found.whole is not None:
            return self._whole(found)
        names, rest = self._head(found)
        if names and names[-1] == RECORD:
            names = names[:-1]
        values = {name: self._value(found, name, ref) for name, ref in zip(names, found.refs, strict=False)}
        return cast(Checkpoint, {"id": found.id, "channel_values": values, **rest})

    def _whole(self, found: Found) -> Checkpoint:
        kind, data = found.whole or ("", b"")

        def opened() -> Any:
            checkpoint = self._codec.serde.loads_typed((kind, data))
            if not isinstance(checkpoint, dict) or "channel_values" not in checkpoint:
                raise ValueError("what is there is no checkpoint")
            return checkpoint

        return cast(Checkpoint, self._guard(found, None, opened))

    def _head(self, found: Found) -> tuple[list[str], dict[str, Any]]:
        def opened() -> tuple[list[str], dict[str, Any]]:
            names, rest = restored(self._single(found.head))
            if len(names) != len(found.refs) or len(set(names)) != len(names):
                raise ValueError(f"it names {len(set(names))} channels and has {len(found.refs)} values")
            return names, rest

        return self._guard(found, None, opened)

    def _value(self, found: Found, channel: str, ref: Ref) -> Any:
        held = self._held.get(ref)
        if held is not None:
            return assembled(self._codec, held)
        return self._guard(found, channel, lambda: self._content(ref))

    def _content(self, ref: Ref) -> Any:
        content = self._page.contents[ref]
        if isinstance(content, Inline):
            return self._value_codec.values(self._codec.open(content), 1)[0]
        if isinstance(content, int):
            return self._elements((content,), (1,))[0]
        return self._elements(content.keys, content.counts)

    def _elements(self, keys: Sequence[int], counts: Sequence[int]) -> list[Any]:
        """The values of neighbouring chunks."""
        missing = [key for key in keys if key not in self._streams]
        if missing:
            self._open(missing)
        if self._several and self._mirrors(keys, counts):
            return list(copies(self._mirror, list(map(self._places.__getitem__, keys))))
        if not self._several or self._foreign.isdisjoint(keys):
            return self._value_codec.values(b"".join(map(self._streams.__getitem__, keys)), sum(counts))
        made: list[Any] = []
        codec = self._value_codec
        for key, count in zip(keys, counts, strict=True):
            made += self._once(key, count) if key in self._foreign else codec.values(self._streams[key], count)
        return made

    def _mirrors(self, keys: Sequence[int], counts: Sequence[int]) -> bool:
        """Whether these are chunks of a message each, that can be copied from the mirror of the page."""
        new = [key for key in keys if key not in self._places]
        if new:
            streams = list(map(self._streams.__getitem__, new))
            if len(keys) != sum(counts) or not all(stream[0] in CLASSES for stream in streams):
                return False
            with uncollected(len(new)):
                codes, fields = self._codec.payloads(b"".join(streams), len(new))
                if not are_current(codes, fields):
                    return False
                start = len(self._mirror.kinds)
                self._mirror = extended(self._mirror, codes, fields)
            self._places.update(zip(new, range(start, start + len(new)), strict=True))
        return bool(keys)

    def _once(self, key: int, count: int) -> list[Any]:
        """The values of a chunk that the serializer has to decode: copies of what it made the first time."""
        if key not in self._decoded:
            self._decoded[key] = self._value_codec.values(self._streams[key], count)
        try:
            return copy.deepcopy(self._decoded[key])
        except Exception:  # noqa: BLE001  whatever a class of the user's does when it is copied: decode again instead
            return self._value_codec.values(self._streams[key], count)

    def _open(self, keys: Sequence[int]) -> None:
        codec = self._codec
        try:
            found = list(map(self._page.chunks.__getitem__, keys))
        except KeyError:
            raise ValueError("a chunk of it is missing") from None
        streams = [codec.open(Inline(kind, data)) if kind else data for _, kind, data in found]
        digests = [chunk.digest for chunk in found]
        if list(map(codec.digest, streams)) != digests and not all(map(codec.names, digests, streams)):
            raise ValueError("a chunk of it was changed after it was stored")
        self._streams.update(zip(keys, streams, strict=True))
        self._foreign.update([key for key, stream in zip(keys, streams, strict=True) if stream[0] == 0])

    def _single(self, sealed: Inline) -> Any:
        return self._codec.values(self._codec.open(sealed), 1)[0]

    def _guard(self, found: Found, channel: str | None, decode: Callable[[], T]) -> T:
        """What `decode` gives; whatever goes wrong in it says which thread, checkpoint and channel it was."""
        try:
            return decode()
        except DurableError:
            raise
        except Exception as error:
            part = f"channel {channel!r} of checkpoint" if channel else "checkpoint"
            raise CorruptDataError(
                f"{part} {found.id!r} (namespace {found.ns!r}) of thread {found.thread_id!r} cannot be read: {error}. "
                "Other checkpoints of the thread are not affected: list them with `saver.list(config)`, continue from "
                "one with its `checkpoint_id` in the config, or restore the database from a backup.",
                thread_id=found.thread_id,
                checkpoint_id=found.id,
                channel=channel,
            ) from error


def _object(text: str) -> dict[str, Any]:
    loaded = json.loads(text)
    if not isinstance(loaded, dict):
        raise ValueError(f"it is {text[:40]}, and no object")
    return loaded
