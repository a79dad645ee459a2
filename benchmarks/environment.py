"""What a figure depends on besides the code, in one line: the interpreter, SQLite, packages, cores, the disk."""

from __future__ import annotations

import os
import platform
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from importlib import metadata
from pathlib import Path

_PACKAGES = (
    "langgraph-durable",
    "langgraph",
    "langgraph-checkpoint",
    "langgraph-checkpoint-sqlite",
    "langchain-core",
    "pycryptodome",
)


def environment(commits: Sequence[float]) -> str:
    """The line; `commits` are what `commit_seconds` gave during the run, and show whether the disk stayed as it was."""
    parts = [
        f"Python {platform.python_version()}",
        f"SQLite {sqlite3.sqlite_version}",
        *_versions(),
        f"{platform.system()} {platform.machine()}",
        f"{os.cpu_count()} cores",
        f"fsynced commit {' and '.join(f'{seconds * 1e3:.2f}' for seconds in commits)} ms",
    ]
    return ", ".join(parts)


def commit_seconds(size: int = 1000, commits: int = 200) -> float:
    """The median time to commit a row of `size` bytes in the temporary folder, on the disk when it returns."""
    row = bytes(size)
    with (
        tempfile.TemporaryDirectory() as folder,
        closing(sqlite3.connect(Path(folder) / "commits.db", isolation_level=None)) as connection,
    ):
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("CREATE TABLE entries (id INTEGER PRIMARY KEY, entry BLOB NOT NULL)")
        times = []
        for _ in range(commits):
            begin = time.perf_counter()
            # Without an explicit transaction every statement commits by itself.
            connection.execute("INSERT INTO entries (entry) VALUES (?)", (row,))
            times.append(time.perf_counter() - begin)
    return statistics.median(times)


def _versions() -> Iterator[str]:
    for package in _PACKAGES:
        try:
            yield f"{package} {metadata.version(package)}"
        except metadata.PackageNotFoundError:
            # Either it is not needed, or it is this checkout, which runs without being installed.
            continue
