"""The right to write, of one thread of one process at a time: a lock of the file system on a file of its own.

Whoever dies lets go of it. The file is open only while it is locked: whoever shares an open file, as a forked child
does, shares the locks on it.
"""

from __future__ import annotations

import errno
import os
import time
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

    def acquire(self, seconds: float) -> None:
        """Have the lock. BusyError after `seconds`, OSError where the file system has no locks."""
        end = time.monotonic() + seconds
        # Whoever had it here and was interrupted before he let it go left it to the next.
        while self._file is None:
            file = self._opened()
            try:
                if self._has(file, end) and self._is_there(file):
                    self._file = file
            finally:
                # The folder may have been deleted, and somebody else have the lock on what took the file's place.
                if self._file is None:
                    file.close()

    def release(self) -> None:
        """Let others have it."""
        file = self._file
        if file is None:
            return
        try:
            # A child that was forked meanwhile has the file open as well: closing it here would not unlock it.
            portalocker.unlock(file)
        except portalocker.exceptions.LockException:
            pass  # closing it is what is left
        finally:
            self._file = None
            file.close()

    def _has(self, file: FileIO, end: float) -> bool:
        """True once it is locked."""
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
                return True

    def _opened(self) -> FileIO:
        flags = os.O_RDWR | os.O_CREAT
        try:
            fd = os.open(self._path, flags, disk.FILE_MODE)
        except FileNotFoundError:
            disk.make_folder(os.path.dirname(self._path))
            fd = os.open(self._path, flags, disk.FILE_MODE)
        return FileIO(fd, "r+")

    def _is_there(self, file: FileIO) -> bool:
        try:
            return os.path.samestat(os.fstat(file.fileno()), os.stat(self._path))
        except FileNotFoundError:
            return False

    def _busy(self) -> BusyError:
        return BusyError(
            f"somebody else has been writing beside {self._path!r} for too long; nothing was stored. Find out who "
            "writes for that long, or raise `busy_timeout`"
        )
