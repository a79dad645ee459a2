"""The right to write, of one thread of one process at a time: a lock of the file system on a file of its own.

Whoever dies lets go of it. The file is open only while it is locked: whoever shares an open file, as a forked child
does, shares the locks on it.
"""

from __future__ import annotations

import os
import threading
import time
from io import FileIO

import portalocker

from langgraph_durable.errors import BusyError
from langgraph_durable.stores.files import disk

POLL_SECONDS = 0.002

_FLAGS = portalocker.LockFlags.EXCLUSIVE | portalocker.LockFlags.NON_BLOCKING


class FileLock:
    """The lock on the file at `path`, in a folder that `acquire` makes if it has to."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._turn = threading.Lock()
        self._file: FileIO | None = None

    def acquire(self, seconds: float) -> None:
        """Have the lock. BusyError after `seconds`."""
        end = time.monotonic() + seconds
        if not self._turn.acquire(timeout=seconds):
            raise self._busy()
        file = None
        try:
            while self._file is None:
                file = file or self._opened()
                try:
                    portalocker.lock(file, _FLAGS)
                except portalocker.exceptions.LockException as error:
                    if time.monotonic() > end:
                        raise self._busy() from error
                    time.sleep(POLL_SECONDS)
                    continue
                if self._is_there(file):
                    self._file = file
                else:
                    # The folder was deleted, and somebody else may have the lock on what has taken the file's place.
                    file.close()
                    file = None
        except BaseException:
            self._file = None
            if file is not None:
                file.close()
            self._turn.release()
            raise

    def release(self) -> None:
        """Let others have it."""
        file, self._file = self._file, None
        try:
            if file is not None:
                # A child that was forked meanwhile has the file open as well: closing it here would not unlock it.
                portalocker.unlock(file)
        except portalocker.exceptions.LockException:
            pass  # closing it is what is left
        finally:
            if file is not None:
                file.close()
            self._turn.release()

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
