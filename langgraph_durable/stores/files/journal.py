"""A journal is lines of JSON, each of them whole or not there: it begins with its own checksum and length.

    {"sum":"9a3f01c2","size":     183,"type":"checkpoint", ...}

`sum` is the CRC-32 of the `size` bytes that follow the comma after it, up to the brace at the end of the line. The
first line is of type `thread`. A `chunk` is told in the words of `core.readable`, or names the file that it is in; how
the thread stands is told in those of `marks`, of which a journal of version 1 has none. Numbers of chunks and lists are
the journal's own; refs have the journal's `base` added, so that no two journals share one.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import orjson

from langgraph_durable.core.readable import from_bytes, to_bytes, to_text
from langgraph_durable.core.records import Chunk, Event, Found, FoundWrites, Inline, Mark, Ref, Standing
from langgraph_durable.errors import StoreError
from langgraph_durable.stores.files.marks import (
    event_of,
    mark,
    said_event,
    said_mark,
    said_standing,
    standing_of,
    step_of,
)

VERSION = 2
"""The version of the format, in the first line. All that version 1 can say is said the same in version 2."""

PREFIX = 34
"""Bytes that every line begins with, its checksum and length among them; a length of nine digits adds one."""

DEEPEST = 32
"""How deep metadata may nest that are said as an object."""

_PREFIX = re.compile(rb'\{"sum":"([0-9a-f]{8})","size": *([0-9]+),')
_quoted = json.encoder.encode_basestring
_METADATA = json.JSONEncoder(ensure_ascii=False).encode


class Outside(NamedTuple):
    """A chunk in a file of its own: its digest, and the name, the bytes and the checksum of the file."""

    digest: bytes
    file: str
    size: int
    sum: int


class New(NamedTuple):
    """What a record brings: chunks by their numbers, and elements of lists as (list, position, count, chunk)."""

    chunks: Sequence[tuple[int, Chunk | Outside]] = ()
    elements: Sequence[tuple[int, int, int, int]] = ()


class Head(NamedTuple):
    """Whose journal it is. Every journal that takes the place of another has another epoch."""

    thread_id: str
    epoch: int

    @property
    def base(self) -> int:
        """What is added to the journal's numbers in refs."""
        return self.epoch << 32


class Put(NamedTuple):
    """A checkpoint, without its writes, and the run that made it; `order` is its place among those of all threads."""

    order: int
    found: Found
    run_id: str | None
    new: New
    mark: Mark | None = None

    @property
    def refs(self) -> tuple[Ref, ...]:
        """The refs in it."""
        return self.found.refs


class Wrote(NamedTuple):
    """The writes of a task."""

    order: int
    ns: str
    checkpoint_id: str
    call: FoundWrites
    new: New
    event: Event | None = None

    @property
    def refs(self) -> tuple[Ref, ...]:
        """The refs in it."""
        return tuple(ref for _, _, ref in self.call.entries)


class Ended(NamedTuple):
    """The end of a run, told of the checkpoint that was the newest."""

    order: int
    ns: str
    checkpoint_id: str
    event: Event


class Stands(NamedTuple):
    """How a namespace stands (None: that is not known), whatever the records before this one would make of it."""

    ns: str
    standing: Standing | None


class Buried(NamedTuple):
    """Hashes of checkpoints that were deleted, with the day (since 1970) on which they were."""

    names: Mapping[str, int]


Record: TypeAlias = Head | Put | Wrote | Ended | Stands | Buried


class Line(NamedTuple):
    """A line of a journal: the record in it, or why there is none. `end` is where the next one begins.

    `ended` is False for a last line that is whole, and lacks only its end. `torn` is one that breaks off, as a write
    does that never came to its end. `prefix` is what tells a whole line from any other. `by` is who has put the last
    record up to this line that says so, "" for nobody or when one was lost.
    """

    number: int
    end: int
    record: Record | None
    trouble: str = ""
    ended: bool = True
    torn: bool = False
    start: int = 0
    prefix: bytes = b""
    by: str = ""


def framed(body: str) -> bytes:
    """A JSON object as a line. UnicodeEncodeError for half a surrogate pair."""
    data = body[1:].encode()
    return b'{"sum":"%08x","size":%8d,' % (zlib.crc32(data), len(data)) + data + b"\n"


def unframed(data: bytes) -> Any:
    """What the one line in `data` says. ValueError when it is not whole."""
    prefix = _PREFIX.match(data)
    body = data[prefix.end() : prefix.end() + int(prefix[2])] if prefix is not None else b""
    if prefix is None or zlib.crc32(body) != int(prefix[1], 16):
        raise ValueError("its checksum does not match")
    return orjson.loads(b"{" + body)


def by_whom(record: Record, before: str) -> str:
    """Who has put a record, or (`before`) the one before it."""
    if isinstance(record, Put):
        return before if record.mark is None else record.mark.by
    if isinstance(record, Wrote):
        return before if record.event is None else record.event.by
    return record.event.by if isinstance(record, Ended) else before


def encoded(record: Record, head: Head, by: str) -> bytes:
    """A record as a line of the journal of `head`, behind one of `by`.

    ValueError or TypeError for what cannot be written.
    """
    if isinstance(record, Head):
        return framed(
            f'{{"type":"thread","version":{VERSION},"id":{_quoted(record.thread_id)},"epoch":{record.epoch}}}'
        )
    if isinstance(record, Buried):
        return framed(f'{{"type":"deleted","names":{to_text(dict(record.names))}}}')
    if isinstance(record, Stands):
        standing = "null" if record.standing is None else said_standing(record.standing)
        return framed(f'{{"type":"standing","ns":{_quoted(record.ns)},"standing":{standing}}}')
    if isinstance(record, Ended):
        said = [f'{{"type":"end","order":{record.order},"ns":{_quoted(record.ns)}']
        said.append(f'"checkpoint":{_quoted(record.checkpoint_id)},"event":{said_event(record.event, by)}}}')
        return framed(",".join(said))
    base = head.base
    if isinstance(record, Put):
        found = record.found
        said = [f'{{"type":"checkpoint","order":{record.order},"ns":{_quoted(found.ns)},"id":{_quoted(found.id)}']
        said.append(f'"parent":{to_text(found.parent)}')
        if record.run_id is not None:
            said.append(f'"run":{_quoted(record.run_id)}')
        metadata, step = _said_metadata(found.metadata)
        if record.mark is not None:
            said += said_mark(record.mark, step, by)
        said.append(metadata)
        if found.exact_metadata is not None:
            said.append(f'"exact":{from_bytes(*found.exact_metadata)}')
        said.append(f'"head":{from_bytes(*found.head)}')
        said += _said_new(record.new)
        said.append(f'"values":[{",".join([_said_ref(ref, base) for ref in found.refs])}]}}')
        return framed(",".join(said))
    call = record.call
    said = [f'{{"type":"writes","order":{record.order},"ns":{_quoted(record.ns)}']
    said.append(f'"checkpoint":{_quoted(record.checkpoint_id)},"task":{_quoted(call.task_id)}')
    said.append(f'"path":{_quoted(call.task_path)},"replaces":{"true" if call.replaces else "false"}')
    if record.event is not None:
        said.append(f'"event":{said_event(record.event, by)}')
    said += _said_new(record.new)
    entries = [f"[{index},{_quoted(channel)},{_said_ref(ref, base)}]" for index, channel, ref in call.entries]
    said.append(f'"entries":[{",".join(entries)}]}}')
    return framed(",".join(said))


def read_lines(data: bytes, head: Head | None, number: int = 1, offset: int = 0, by: str = "") -> Iterator[Line]:
    """The lines of `data`, which begins at byte `offset` of a journal with line `number`, behind one of `by`.

    `head` is the journal's, or None when `data` begins with it.
    """
    start = 0
    while start < len(data):
        prefix = _PREFIX.match(data, start)
        stop = prefix.end() + int(prefix[2]) if prefix is not None else start
        if prefix is not None and stop <= len(data) and zlib.crc32(data[prefix.end() : stop]) == int(prefix[1], 16):
            # Its length says where it ends, whatever became of the byte behind it.
            record, trouble = _read(b"{" + data[prefix.end() : stop], head, by)
            if isinstance(record, Head):
                head = record
            by = "" if record is None else by_whom(record, by)
            begin, start = start, min(stop + 1, len(data))
            ended = stop < len(data)
            yield Line(number, offset + start, record, trouble, ended, start=offset + begin, prefix=prefix[0], by=by)
        else:
            if prefix is None:
                trouble = "it does not begin as a record does"
            elif stop > len(data):
                trouble = f"it should be {stop - start} bytes long, and the file ends before that"
            else:
                trouble = "its checksum does not match"
            newline = data.find(b"\n", start)
            torn = newline < 0 and (len(data) - start < PREFIX if prefix is None else stop > len(data))
            start = len(data) if newline < 0 else newline + 1
            by = ""
            yield Line(number, offset + start, None, trouble, ended=newline >= 0, torn=torn)
        number += 1


def _read(body: bytes, head: Head | None, by: str) -> tuple[Record | None, str]:
    try:
        return _record(orjson.loads(body), head, by), ""
    except RecursionError as error:
        raise StoreError("a record cannot be read from so deep in calls; read it from further up") from error
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        return None, f"it is whole, and this release cannot read it ({type(error).__name__}: {error})"


def _record(said: dict[str, Any], head: Head | None, by: str) -> Record:
    kind = said["type"]
    if head is None:
        if kind != "thread":
            raise ValueError("the line that says whose journal this is has to be read first")
        if said["version"] not in range(1, VERSION + 1):
            raise ValueError(f"its format has version {said['version']!r}, and this release knows {VERSION}")
        return Head(said["id"], said["epoch"])
    if kind == "checkpoint":
        exact = said.get("exact")
        found = Found(
            thread_id=head.thread_id,
            ns=said["ns"],
            id=said["id"],
            parent=said["parent"],
            metadata=_metadata(said),
            exact_metadata=None if exact is None else Inline(*to_bytes(exact)),
            head=Inline(*to_bytes(said["head"])),
            refs=tuple(_ref(ref, head.base) for ref in said["values"]),
            writes=(),
            epoch=head.epoch,
        )
        return Put(said["order"], found, said.get("run"), _new(said), mark(said, by))
    if kind == "writes":
        entries = tuple((index, channel, _ref(ref, head.base)) for index, channel, ref in said["entries"])
        call = FoundWrites(said["task"], said["path"], said["replaces"], entries)
        event = event_of(said["event"], by) if "event" in said else None
        return Wrote(said["order"], said["ns"], said["checkpoint"], call, _new(said), event)
    if kind == "end":
        return Ended(said["order"], said["ns"], said["checkpoint"], event_of(said["event"], by))
    if kind == "standing":
        return Stands(said["ns"], None if said["standing"] is None else standing_of(said["standing"]))
    if kind == "deleted":
        return Buried(said["names"])
    raise ValueError(f"records of type {kind!r} are not known")


def _said_metadata(metadata: str) -> tuple[str, int | None]:
    """Metadata as an object where its exact text can be told from that, else as text; and the step that it says."""
    try:
        value = orjson.loads(metadata)
        # Whoever reads it may be deep in calls himself, and writing it again takes one for each level.
        flat = metadata.count("{") + metadata.count("[") < DEEPEST
        if flat and isinstance(value, dict) and _METADATA(value) == metadata and "\n" not in metadata:
            return f'"metadata":{metadata}', step_of(value)
    except ValueError:
        pass
    return f'"metadata_text":{to_text(metadata)}', None


def _metadata(said: Mapping[str, Any]) -> str:
    if "metadata_text" in said:
        return str(said["metadata_text"])
    return _METADATA(said["metadata"])


def _said_new(new: New) -> list[str]:
    said = []
    if new.chunks:
        chunks = [f'{{"chunk":{number},{_said_chunk(chunk)}}}' for number, chunk in new.chunks]
        said.append(f'"new":[{",".join(chunks)}]')
    if new.elements:
        said.append(f'"elements":{to_text(new.elements)}')
    return said


def _said_chunk(chunk: Chunk | Outside) -> str:
    if isinstance(chunk, Outside):
        return f'"digest":"{chunk.digest.hex()}","file":{to_text(chunk.file)},"bytes":{chunk.size},"crc":{chunk.sum}'
    return f'"digest":"{chunk.digest.hex()}","is":{from_bytes(chunk.kind, chunk.data)}'


def _new(said: Mapping[str, Any]) -> New:
    chunks: list[tuple[int, Chunk | Outside]] = []
    for one in said.get("new", ()):
        digest = bytes.fromhex(one["digest"])
        if "file" in one:
            chunks.append((one["chunk"], Outside(digest, one["file"], one["bytes"], one["crc"])))
        else:
            chunks.append((one["chunk"], Chunk(digest, *to_bytes(one["is"]))))
    return New(chunks, [(key, position, count, chunk) for key, position, count, chunk in said.get("elements", ())])


def _said_ref(ref: Ref, base: int) -> str:
    if isinstance(ref, int):
        return str(ref - base)
    if ref and isinstance(ref[0], str):
        return from_bytes(*ref)
    if ref and isinstance(ref[0], int):
        return to_text([number if place % 2 else number - base for place, number in enumerate(ref)])
    return to_text([(key - base, start, stop) for key, start, stop in ref])


def _ref(said: Any, base: int) -> Ref:
    if isinstance(said, int):
        return said + base
    if isinstance(said, dict):
        return to_bytes(said)
    if said and isinstance(said[0], int):
        return tuple(number if place % 2 else number + base for place, number in enumerate(said))
    return tuple((key + base, start, stop) for key, start, stop in said)
