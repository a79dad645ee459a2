"""What is written here is on the disk when the function returns: the file, and the folder when a name in it is new.

A file is only ever appended to, or put in the place of another whole. https://lwn.net/Articles/457667/
"""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from io import FileIO

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]  # asked for one constant, which is then missing

FILE_MODE = 0o600
FOLDER_MODE = 0o700

_FULL: int | None = getattr(fcntl, "F_FULLFSYNC", None)
_BINARY = getattr(os, "O_BINARY", 0)
_sync = getattr(os, "fdatasync", os.fsync)


NO_FILE = ""
"""The stamp of a file that is not there."""


def stamp(path: str) -> str:
    """The stamp of the file at `path`, or `NO_FILE`."""
    try:
        return stamp_of(os.stat(path))
    except (FileNotFoundError, NotADirectoryError):
        return NO_FILE


def stamp_of(found: os.stat_result) -> str:
    """What tells a file from others that were, or will be, in its place."""
    return f"{found.st_ino} {found.st_size} {found.st_mtime_ns}"


def stamped(number: int, size: int, time: int) -> str:
    """The stamp of a file with this number (inode) and size, and that was last changed then."""
    return f"{number} {size} {time}"


def read(path: str) -> bytes:
    """The bytes of a file. FileNotFoundError when it is not there."""
    with open(path, "rb") as file:
        return file.read()


def opened(path: str) -> FileIO:
    """A file that is there, to `append` to."""
    return FileIO(os.open(path, os.O_RDWR | _BINARY), "r+")


def append(file: FileIO, size: int, end: int, data: bytes) -> None:
    """Put `data` behind the first `end` bytes of a file of `size`, and nothing behind it; after an error it ends there.

    Who writes gives the interpreter away at every call of the system, and waits until he has it again: there are
    no more of them here than there must be.
    """
    fd = file.fileno()
    try:
        if size != end:
            os.ftruncate(fd, end)
        _write(fd, data, end)
        _full_sync(fd)
    except BaseException:
        # What was acknowledged ends here. Whether this reaches the disk is not known; what is behind it would be
        # read as stored though the caller was told that it was not.
        with suppress(OSError):
            os.ftruncate(fd, end)
        raise


def replace(path: str, data: bytes, *, safe: bool = True) -> None:
    """Put a file with these bytes in the place of what is at `path`, or make it; on the disk later, if not `safe`."""
    folder, name = os.path.split(path)
    # One name: there is one writer, and what one left who died here is overwritten.
    temporary = os.path.join(folder, f".{name}.tmp")
    try:
        _put(temporary, data, safe=safe)
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise
    if safe:
        sync_folder(folder)


def make(path: str, data: bytes) -> None:
    """A file with these bytes, unless there is one; whoever makes it at the same moment does not come in between."""
    folder, name = os.path.split(path)
    temporary = os.path.join(folder, f".{name}.{os.getpid()}.{threading.get_ident()}.tmp")
    try:
        _put(temporary, data)
        try:
            os.link(temporary, path)
        except FileExistsError:
            pass
        except OSError:  # a file system without links: there somebody may see the file before it is whole
            with suppress(FileExistsError):
                _put(path, data, os.O_EXCL)
    finally:
        remove(temporary)
    sync_folder(folder)


def make_folder(path: str) -> None:
    """A folder that only its owner may enter, with those above it, unless it is there."""
    if not os.path.isdir(path):
        begin_folder(path)
        sync_folder(os.path.dirname(path))


def begin_folder(path: str) -> None:
    """The same, but its own name is not on the disk before the folder that it is in is synced."""
    above = os.path.dirname(path)
    if above != path:
        make_folder(above)
    with suppress(FileExistsError):
        os.mkdir(path, FOLDER_MODE)


def remove(path: str) -> None:
    """Take a file away, if it is there."""
    with suppress(FileNotFoundError):
        os.unlink(path)


def sync_folder(path: str) -> None:
    """See to it that the names in a folder are on the disk; Windows has no way to say that, and needs none."""
    if os.name == "nt":
        return
    fd = os.open(path or ".", os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _put(path: str, data: bytes, how: int = os.O_TRUNC, *, safe: bool = True) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | how | _BINARY, FILE_MODE)
    try:
        _write(fd, data, 0)
        if safe:
            _full_sync(fd)
    finally:
        os.close(fd)


def _write(fd: int, data: bytes, place: int) -> None:
    if not hasattr(os, "pwrite"):  # Windows
        os.lseek(fd, place, os.SEEK_SET)
    left = memoryview(data)
    while left:
        done = os.pwrite(fd, left, place) if hasattr(os, "pwrite") else os.write(fd, left)
        left, place = left[done:], place + done


def _full_sync(fd: int) -> None:
    if _FULL is None:
        _sync(fd)
    else:
        # On macOS fsync leaves the bytes in the drive's own cache.
        fcntl.fcntl(fd, _FULL)
