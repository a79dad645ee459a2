"""The threads of a folder, those used last kept in memory; and what the file system says when it refuses."""

from __future__ import annotations

import errno
import os
import threading
import warnings
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import suppress
from types import TracebackType

from langgraph_durable.errors import CorruptDataWarning, DurableError, OpenError, ReadOnlyError, StoreError
from langgraph_durable.stores.files.leases import LeaseFile
from langgraph_durable.stores.files.names import folder_name
from langgraph_durable.stores.files.thread import ThreadFolder, whose

REMEMBERED = 64 * 2**20
"""Bytes of threads that are kept in memory; the one that is in use always is."""

OFTEN = 32
"""Of how many new threads one is the occasion to forget old ones."""


class Threads:
    """The threads in the folder at `path`."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._folders: OrderedDict[str, ThreadFolder] = OrderedDict()

    def folder(self, thread_id: str) -> ThreadFolder:
        """The folder of a thread, which need not be there. UnicodeEncodeError for half a surrogate pair."""
        return self._known(folder_name(thread_id), thread_id)

    def _known(self, name: str, thread_id: str | None) -> ThreadFolder:
        with self._lock:
            folder = self._folders.get(name)
            if folder is None:
                folder = self._folders[name] = ThreadFolder(os.path.join(self._path, name), thread_id)
                self._forget_old()
            self._folders.move_to_end(name)
            return folder

    def _forget_old(self) -> None:
        if len(self._folders) > OFTEN and len(self._folders) % OFTEN:
            return  # adding them up takes as long as there are threads
        used = sum(folder.contents.size + 4096 for folder in self._folders.values())
        while used > REMEMBERED and len(self._folders) > 1:
            _, folder = self._folders.popitem(last=False)
            used -= folder.contents.size + 4096

    def ids(self) -> Iterator[str]:
        """The ids of the threads whose journals say which they are; nothing else of them is read."""
        for name in self.names():
            with suppress(StoreError, OSError):
                yield whose(os.path.join(self._path, name))

    def troubles(self) -> Iterator[str]:
        """What is wrong with journals that do not say whose they are, or are not where they belong."""
        for name in self.names():
            path = os.path.join(self._path, name)
            try:
                thread_id = whose(path)
            except (FileNotFoundError, NotADirectoryError):
                # Nothing was stored there yet, or somebody deletes it; there may be a lease.
                try:
                    LeaseFile(path).find()
                except (StoreError, OSError) as error:
                    yield str(error)
            except (StoreError, OSError) as error:
                yield str(error)
            else:
                if name != folder_name(thread_id):
                    yield (
                        f"the folder {path!r} holds thread {thread_id!r}, which belongs in {folder_name(thread_id)!r}, "
                        "and is not found there: it was moved or copied by hand; move it back, or take it away"
                    )

    def names(self) -> list[str]:
        """The names of the folders, in their own order."""
        try:
            return sorted(os.listdir(self._path))
        except FileNotFoundError:
            return []

    def named(self, name: str, *, remember: bool) -> ThreadFolder:
        """The folder of that name. One that is not in memory is kept there only to `remember` it."""
        with self._lock:
            known = self._folders.get(name)
        if known is not None or remember:
            return known or self._known(name, None)
        return ThreadFolder(self.path(name), None)

    def path(self, name: str) -> str:
        """The path of the folder of that name."""
        return f"{self._path}{os.sep}{name}"

    def all(self) -> Iterator[ThreadFolder]:
        """The folders of all threads; of one that cannot be read at all there is a warning."""
        for name in self.names():
            folder = self._known(name, None)
            try:
                folder.refresh()
            except DurableError as error:
                warnings.warn(str(error), CorruptDataWarning, stacklevel=2)
                continue
            yield folder


class translated:
    """`with` it: errors of the file system as this package's, with what to do about them."""

    def __init__(self, path: str, kind: type[OpenError] | type[StoreError] = StoreError) -> None:
        self._path = path
        self._kind = kind

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not isinstance(error, OSError) or isinstance(error, DurableError):
            return
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            refused = ReadOnlyError if self._kind is StoreError else OpenError
            raise refused(
                f"{error.filename or self._path!r} cannot be written or read ({error.strerror}); nothing was stored. "
                "Check the owner and mode of the folder"
            ) from error
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise self._kind(f"no room left for {self._path!r}; nothing was stored ({error.strerror})") from error
        raise self._kind(f"the file system failed on {self._path!r}; nothing was stored ({error})") from error
