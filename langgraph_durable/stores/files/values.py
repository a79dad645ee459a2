"""Values too large for a line: each in a file of its own, which is named by its digest and never changes."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable
from contextlib import suppress

import orjson

from langgraph_durable.core.readable import from_bytes, to_bytes
from langgraph_durable.core.records import Chunk
from langgraph_durable.stores.files import disk
from langgraph_durable.stores.files.journal import New, Outside

VALUES = "values"

LARGE = 64 * 1024
"""Bytes of a chunk from which on it has a file of its own."""


def outside(path: str, new: New) -> New:
    """What a record brings, with its large chunks in files in the thread's folder."""
    chunks: list[tuple[int, Chunk | Outside]] = []
    for number, chunk in new.chunks:
        if isinstance(chunk, Outside) or len(chunk.data) < LARGE:
            chunks.append((number, chunk))
            continue
        data = from_bytes(chunk.kind, chunk.data).encode()
        name = f"{chunk.digest.hex()}.json"
        folder = os.path.join(path, VALUES)
        disk.make_folder(folder)
        disk.replace(os.path.join(folder, name), data)
        chunks.append((number, Outside(chunk.digest, f"{VALUES}/{name}", len(data), zlib.crc32(data))))
    return New(chunks, new.elements)


def load(path: str, chunk: Outside) -> Chunk | None:
    """A chunk from its file; None when it is missing or damaged."""
    try:
        data = disk.read(os.path.join(path, VALUES, os.path.basename(chunk.file)))
    except OSError:
        return None
    if len(data) != chunk.size or zlib.crc32(data) != chunk.sum:
        return None
    return Chunk(chunk.digest, *to_bytes(orjson.loads(data)))


def drop(path: str, still: Iterable[Outside]) -> None:
    """Take away the files of chunks that nothing names any more."""
    kept = {os.path.basename(chunk.file) for chunk in still}
    with suppress(FileNotFoundError):
        for name in os.listdir(os.path.join(path, VALUES)):
            if name not in kept:
                disk.remove(os.path.join(path, VALUES, name))
