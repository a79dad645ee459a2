"""The right to write, of one thread of one process at a time: a lock of the file system on a file of its own.

Whoever dies lets go of it. Whoever shares an open file, as a forked child does, shares the locks on it, and has to
`close` it before anything else.
"""

from __future__ import annotations

import errno
import os
import time
from contextlib import suppress
from io import FileIO

import portalocker

from langgraph_durable.errors import BusyError
from langgraph_durable.stores.files import disk

POLL_SECONDS = 0.002

_FLAGS = portalocker.LockFlags.EXCLUSIVE | portalocker.LockFlags.NON_BLOCKING

_TAKEN = (errno.EAGAIN, errno.EACCES, errno.EWOULDBLOCK)
"""What a file system says when somebody else has the lock."""


class FileLock:
    """The lock on the file at `path`, in a folder that `acquire` makes if it has to; for one thread at a time."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._file: FileIO | None = None
        self._is = (0, 0)

    def acquire(self, seconds: float) -> None:
        """Have the lock. BusyError after `seconds`, OSError where the file system has no locks.

        Whoever is interrupted, here or later, has to `release` it; so may who does not have it.
        """
        end = time.monotonic() + seconds
        while True:
            file = self._file = self._file or self._opened()
            self._take(file, end)
            if self._is_there():
                return
            # The file was deleted or moved away, and somebody else may have the lock on what took its place.
            self.close()

    def release(self) -> None:
        """Let others have it."""
        if self._file is not None:
            # A child that was forked meanwhile has the file open as well: closing it here would not unlock it.
            with suppress(portalocker.exceptions.LockException):
                portalocker.unlock(self._file)

    def close(self) -> None:
        """Have no file open; a lock that nobody else shares is let go of."""
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def _take(self, file: FileIO, end: float) -> None:
        while True:
            try:
                portalocker.lock(file, _FLAGS)
            except portalocker.exceptions.LockException as error:
                cause = error.args[0] if error.args else None
                if isinstance(cause, OSError) and cause.errno not in _TAKEN:
                    raise cause from error
                if time.monotonic() > end:
                    raise self._busy() from error
                time.sleep(POLL_SECONDS)
            else:
                return

    def _opened(self) -> FileIO:
        flags = os.O_RDWR | os.O_CREAT
        try:
            fd = os.open(self._path, flags, disk.FILE_MODE)
        except FileNotFoundError:
            disk.begin_folder(os.path.dirname(self._path))
            fd = os.open(self._path, flags, disk.FILE_MODE)
        file = FileIO(fd, "r+")
        found = os.fstat(fd)
        self._is = (found.st_dev, found.st_ino)
        return file

    def _is_there(self) -> bool:
        try:
            found = os.stat(self._path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return (found.st_dev, found.st_ino) == self._is

    def _busy(self) -> BusyError:
        return BusyError(
            f"somebody else has been writing beside {self._path!r} for too long; nothing was stored. Find out who "
            "writes for that long, or raise `busy_timeout`"
        )
