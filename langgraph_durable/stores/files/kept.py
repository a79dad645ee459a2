"""What has to be the same for all who use a folder: a file each, made once and never changed."""

from __future__ import annotations

import os
from base64 import b64decode, b64encode
from collections.abc import Iterator

from langgraph_durable.errors import StoreError
from langgraph_durable.stores.files import disk
from langgraph_durable.stores.files.names import folder_name


class Kept:
    """The files in the folder at `path`, which need not be there."""

    def __init__(self, path: str) -> None:
        self._path = path

    def find(self, name: str) -> bytes | None:
        """The bytes kept under a name."""
        path = self._of(name)
        try:
            return _decoded(disk.read(path), path)
        except FileNotFoundError:
            return None

    def make(self, name: str, data: bytes) -> bytes:
        """The bytes kept under a name; `data`, stored now, when there were none."""
        found = self.find(name)
        if found is not None:
            return found
        path = self._of(name)
        disk.make_folder(self._path)
        disk.make(path, b64encode(data))
        return _decoded(disk.read(path), path)

    def troubles(self) -> Iterator[str]:
        """What is wrong with the files."""
        for name in sorted(os.listdir(self._path)) if os.path.isdir(self._path) else ():
            if name.startswith("."):
                continue
            path = os.path.join(self._path, name)
            try:
                _decoded(disk.read(path), path)
            except (StoreError, OSError) as error:
                yield str(error)

    def _of(self, name: str) -> str:
        return os.path.join(self._path, folder_name(name))


def _decoded(data: bytes, path: str) -> bytes:
    try:
        found = b64decode(data, validate=True)
    except ValueError as error:
        raise StoreError(f"{path!r} is damaged ({error}); restore it from a backup") from error
    if not found:
        raise StoreError(f"{path!r} is empty; restore it from a backup")
    return found
