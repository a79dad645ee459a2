"""A path that leads out of its root is refused before anything is opened, and nothing is opened through a link.

Links are resolved first, then each folder on the way is opened inside of the one before it, without following links: a
folder that somebody exchanges for a link meanwhile is refused as well. Where the system cannot open what is in an open
folder (Windows), the first check is the only one.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import NamedTuple

from langgraph_durable.errors import InvalidRequestError

KEPT = ".langgraph-durable-files"
"""The folder under a root that holds what files were before they were written."""

FLAGS = sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_BINARY", "O_CLOEXEC"))
"""How everything is opened: no links, no translation, not for child processes."""

_DIRECTORY = getattr(os, "O_DIRECTORY", 0)
_LONGEST = 4000
"""About what systems take in one call, in bytes: folders that are opened one by one would make any length possible."""

_RELATIVE = os.open in os.supports_dir_fd and _DIRECTORY != 0
_REFUSALS = {
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG),
    *(errno.ENXIO, errno.EINVAL, errno.ENODEV),
}


class Place(NamedTuple):
    """A file, there or not: the real path of the root, and the real path below it, with `/`."""

    root: str
    path: str

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]


class Folder(NamedTuple):
    """A folder that is open, or its path where that is not possible."""

    fd: int | None
    path: str

    def at(self, name: str) -> str:
        """How a file in it is called, along with `dir_fd=folder.fd`."""
        return name if self.fd is not None else os.path.join(self.path, name)

    def sync(self) -> None:
        """Put the names in it on the disk, where the system can do that."""
        if self.fd is not None:
            try:
                os.fsync(self.fd)
            except OSError as error:
                if error.errno != errno.EINVAL:  # what some network file systems say of every folder
                    raise


def rooted(root: str | os.PathLike[str]) -> str:
    """The real path of a root. InvalidRequestError when there is no such folder."""
    if not isinstance(root, (str, os.PathLike)):
        raise InvalidRequestError(f"the root must be the path of a folder, and it is {root!r}")
    real = os.path.realpath(root)
    if not os.path.isdir(real):
        raise InvalidRequestError(f"the root {os.fspath(root)!r} is no folder; create it, or name another as root")
    return real


def placed(path: str | os.PathLike[str], root: str) -> Place:
    """Where a path, relative or absolute, leads below a real root; links are followed as far as they stay inside.

    InvalidRequestError when it leads out of the root, or to where no file can be.
    """
    asked = os.fspath(path)
    if not asked.strip() or "\0" in asked or not _sayable(asked):
        raise InvalidRequestError(f"{asked!r} is not the path of a file; give one relative to the root")
    if len(root) + len(os.fsencode(asked)) > _LONGEST:
        raise InvalidRequestError(f"the path is longer than {_LONGEST} bytes; give the path of another file")
    real = os.path.realpath(os.path.join(root, asked))
    parts = _below(real, root)
    if parts is None:
        raise InvalidRequestError(f"{asked!r} leads out of the root folder; give the path of a file inside of it")
    if not parts:
        raise InvalidRequestError(f"{asked!r} is the root folder; give the path of a file inside of it")
    if any(part.casefold() == KEPT for part in parts):
        raise InvalidRequestError(f"{asked!r} is in {KEPT}, which is not for use; give the path of another file")
    found = "/".join(parts)
    if not _sayable(found) or (os.name == "nt" and ":" in found):
        raise InvalidRequestError(f"{asked!r} has characters that cannot be stored; give the path of another file")
    return Place(root, found)


@contextmanager
def folder_of(place: Place, *, make: bool = False) -> Iterator[Folder]:
    """The folder of a file; `make` makes those that are missing. FileNotFoundError when one is."""
    with ExitStack() as stack:
        here = _open(place.root, None, stack)
        for name in place.path.split("/")[:-1]:
            if make:
                with suppress(FileExistsError):
                    os.mkdir(here.at(name), 0o700 if name == KEPT else 0o777, dir_fd=here.fd)
                    here.sync()
            here = _open(name, here, stack)
        yield here


@contextmanager
def refusing(place: Place) -> Iterator[None]:
    """What the system refuses about a file is an InvalidRequestError; a full or broken disk stays an OSError."""
    try:
        yield
    except OSError as error:
        if error.errno not in _REFUSALS:
            raise
        raise InvalidRequestError(
            f"{place.path!r} cannot be used: {error.strerror}. Choose another file, or ask somebody to change that"
        ) from error


def _open(name: str, within: Folder | None, stack: ExitStack) -> Folder:
    path = name if within is None else os.path.join(within.path, name)
    if not _RELATIVE:
        return Folder(None, path)
    # The root is a real path already; what is below it may not be a link by now.
    flags = os.O_RDONLY | _DIRECTORY | (FLAGS if within is not None else 0)
    fd = os.open(name, flags, dir_fd=within.fd if within is not None else None)
    stack.callback(os.close, fd)
    return Folder(fd, path)


def _below(real: str, root: str) -> list[str] | None:
    """The parts of a real path below a root; None when it is not below it."""
    try:
        if os.path.commonpath([real, root]) != root:
            return None
    except ValueError:
        return None
    relative = os.path.relpath(real, root)
    return [] if relative == os.curdir else relative.split(os.sep)


def _sayable(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True
