"""The contract of a store, kept by plain files, and what only files promise."""

from __future__ import annotations

from pathlib import Path

from langgraph_durable.stores.base import Store
from langgraph_durable.stores.files import FileStore
from langgraph_durable.stores.files.journal import Head, Put, Wrote, read_lines
from tests.store_contract import StoreContract


def stored_digests(folder: Path) -> dict[str, list[bytes]]:
    """The digests of all chunks by thread, read from the journals."""
    found: dict[str, list[bytes]] = {}
    for journal in folder.glob("threads/*/journal.jsonl"):
        thread_id = ""
        for line in read_lines(journal.read_bytes(), None):
            assert line.record is not None, line
            assert line.ended
            if isinstance(line.record, Head):
                thread_id = line.record.thread_id
            elif isinstance(line.record, (Put, Wrote)):
                for _, chunk in line.record.new.chunks:
                    found.setdefault(thread_id, []).append(chunk.digest)
    return found


class TestFiles(StoreContract):
    """Files in a folder."""

    _path: Path

    def make(self, folder: Path) -> Store:
        self._path = folder / "checkpoints"
        return FileStore(str(self._path), busy_timeout=30)

    def digests(self, store: Store) -> dict[str, list[bytes]] | None:
        return stored_digests(self._path)
