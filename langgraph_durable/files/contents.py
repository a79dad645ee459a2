"""A file is read through one descriptor, which is a regular file, from its beginning to its end."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from langgraph_durable.errors import InvalidRequestError
from langgraph_durable.files.places import FLAGS, Folder, Place, folder_of, refusing
from langgraph_durable.files.stamps import Stamp

MAX_BYTES = 1_000_000
"""The largest file that is read as text: four times what most models can take in at once."""

_CHUNK = 1 << 20


class Found(NamedTuple):
    """What is at a place: all None where there is no file."""

    size: int | None
    mtime_ns: int | None
    digest: str | None
    mode: int | None

    def stamp(self, path: str, *, seen: int = 1, previous: str | None = None) -> Stamp:
        """As a stamp."""
        return Stamp(
            path=path, size=self.size, mtime_ns=self.mtime_ns, digest=self.digest, previous=previous, seen=seen
        )


NOTHING = Found(None, None, None, None)
"""What is where no file is."""


def find(place: Place, sink: Callable[[bytes], object] | None = None) -> Found:
    """What is at a place now, read as a whole; `sink` gets the content, in pieces.

    InvalidRequestError when it is no regular file, or cannot be read.
    """
    with refusing(place):
        try:
            with folder_of(place) as folder:
                return find_in(folder, place, sink)
        except FileNotFoundError:
            return NOTHING


def find_in(folder: Folder, place: Place, sink: Callable[[bytes], object] | None = None) -> Found:
    """The same in a folder that is open."""
    size, sha = 0, hashlib.sha256()
    try:
        with regular(folder, place) as fd:
            about = os.fstat(fd)
            for piece in pieces(fd):
                size += len(piece)
                sha.update(piece)
                if sink is not None:
                    sink(piece)
    except FileNotFoundError:
        return NOTHING
    return Found(size, about.st_mtime_ns, sha.hexdigest(), stat.S_IMODE(about.st_mode))


def read_text(place: Place) -> tuple[str, Found]:
    """The text at a place, with its line ends as they are, and "" where there is no file.

    InvalidRequestError when it is larger than `MAX_BYTES`, or not UTF-8.
    """
    pieces: list[bytes] = []

    def take(piece: bytes) -> None:
        pieces.append(piece)
        if sum(map(len, pieces)) > MAX_BYTES:
            raise InvalidRequestError(
                f"{place.path!r} is larger than {MAX_BYTES} bytes, and cannot be read or edited here; "
                "work on a smaller file, or ask somebody to split it"
            )

    found = find(place, take)
    try:
        return b"".join(pieces).decode(), found
    except UnicodeDecodeError as error:
        raise InvalidRequestError(
            f"{place.path!r} is not text in UTF-8 (byte {error.start}), and cannot be read or edited here"
        ) from error


@contextmanager
def regular(folder: Folder, place: Place) -> Iterator[int]:
    """A descriptor of a regular file. It does not wait for who writes to a FIFO: that is refused."""
    fd = os.open(folder.at(place.name), os.O_RDONLY | FLAGS | getattr(os, "O_NONBLOCK", 0), dir_fd=folder.fd)
    try:
        mode = os.fstat(fd).st_mode
        if not stat.S_ISREG(mode):
            kind = "a folder" if stat.S_ISDIR(mode) else "not a regular file"
            raise InvalidRequestError(f"{place.path!r} is {kind}; give the path of a file")
        yield fd
    finally:
        os.close(fd)


def pieces(fd: int) -> Iterator[bytes]:
    """What a descriptor has from where it is, in pieces."""
    while piece := os.read(fd, _CHUNK):
        yield piece
