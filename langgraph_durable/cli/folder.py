"""Everything here only reads, and only below one folder: a path that leads out of it, also through a link, is refused.

- What is hidden (`.git`, `.venv`, `.env`) or installed (`node_modules`) does not exist here, named or found.
- Every answer is bounded, in characters and in the work it takes, and says so when the bound was reached.
- The same folder gives the same answer: entries are sorted, and no bound depends on the clock.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from langgraph_durable.errors import InvalidRequestError

INSTALLED = frozenset({"__pycache__", "node_modules", "site-packages", "venv"})
MAX_ENTRIES = 200
MAX_FILES = 2_000
MAX_FILE_BYTES = 1_000_000
MAX_SCANNED_BYTES = 32_000_000
MAX_MATCHES = 40
MAX_LINE = 160
MAX_SHOWN = 6_000
MAX_SUFFIXES = 30


class Folder:
    """What can be read below `root`. Each public method is a tool: its docstring is what the model is told about it."""

    def __init__(self, root: Path) -> None:
        self._root = root.resolve(strict=True)

    def list_folder(self, path: str = ".") -> str:
        """The folders and files directly in the folder `path`, with the size of each file."""
        folder = self._resolved(path)
        if not os.path.isdir(folder):
            raise InvalidRequestError(f"{path!r} is not a folder; read_file reads a file")
        try:
            with os.scandir(folder) as found:
                visible = (entry for entry in found if not _is_skipped(entry.name))
                entries = sorted(visible, key=lambda entry: entry.name)
            folders = [f"{_text(entry.name)}/" for entry in entries if entry.is_dir(follow_symlinks=False)]
            files = [
                f"{_text(entry.name)} ({entry.stat().st_size:,} bytes)"
                for entry in entries
                if entry.is_file(follow_symlinks=False)
            ]
        except OSError as error:
            raise InvalidRequestError(f"{path!r} cannot be listed: {error.strerror}") from error
        lines = [f"{self._name(folder)} holds {len(folders):,} folders and {len(files):,} files:", *folders, *files]
        return "\n".join(_bounded(lines, MAX_ENTRIES + 1, "entries"))

    def read_file(self, path: str) -> str:
        """The text of the file `path`: how many lines and bytes it has, then its beginning (up to 6,000 characters)."""
        file = self._resolved(path)
        if not os.path.isfile(file):
            raise InvalidRequestError(f"there is no file {path!r}; list_folder shows what there is")
        try:
            text = _read(file)
            size = file.stat().st_size
        except OSError as error:
            raise InvalidRequestError(f"{path!r} cannot be read: {error.strerror}") from error
        if text is None:
            raise InvalidRequestError(f"{path!r} is not text, or larger than {MAX_FILE_BYTES:,} bytes")
        more = f"\n... ({len(text) - MAX_SHOWN:,} more characters)" if len(text) > MAX_SHOWN else ""
        return f"{self._name(file)} has {_lines(text):,} lines and {size:,} bytes:\n{text[:MAX_SHOWN]}{more}"

    def search(self, text: str, path: str = ".") -> str:
        """Every line below the folder `path` that contains `text` literally, as `file:line: what it says`."""
        if not text.strip():
            raise InvalidRequestError("there is nothing to search for; give the text that the lines contain")
        scan = self._scan(path)
        matches: list[str] = []
        files = 0
        for file in scan.texts:
            found = [
                f"{file.name}:{number}: {line.strip()[:MAX_LINE]}"
                for number, line in enumerate(file.text.split("\n"), start=1)
                if text in line
            ]
            files += bool(found)
            matches += found
        lines = [f"{text!r} is in {len(matches):,} lines of {files:,} files:", *matches]
        return "\n".join([*_bounded(lines, MAX_MATCHES + 1, "matches"), *scan.caveats])

    def count(self, path: str = ".") -> str:
        """How many files and lines there are below the folder `path`, by suffix, and which file is the longest."""
        scan = self._scan(path)
        files = Counter(scan.suffixes)
        lines = Counter[str]()
        longest = max(scan.texts, key=lambda file: _lines(file.text), default=None)
        for file in scan.texts:
            lines[_suffix(file.name)] += _lines(file.text)
        head = f"{files.total():,} files, of which {len(scan.texts):,} are text with {lines.total():,} lines in all"
        if longest is not None:
            head += f"; the longest is {longest.name} with {_lines(longest.text):,} lines"
        order = sorted(files, key=lambda suffix: (-lines[suffix], -files[suffix], suffix))
        rows = [f"{suffix}: {files[suffix]:,} files, {lines[suffix]:,} lines" for suffix in order]
        return "\n".join([*_bounded([f"{head}:", *rows], MAX_SUFFIXES + 1, "suffixes"), *scan.caveats])

    def _resolved(self, path: str) -> Path:
        """The real place that `path` means, or InvalidRequestError when that is not visible below the root."""
        try:
            # Links are followed first and judged by where they lead: a name says nothing.
            place = (self._root / path).resolve()
        except (OSError, RuntimeError, ValueError) as error:  # too long, links in a circle, a zero byte
            raise InvalidRequestError(f"{path!r} is not a path") from error
        if not place.is_relative_to(self._root):
            raise InvalidRequestError(f"{path!r} is outside of the folder; only what is inside can be read")
        if any(_is_skipped(part) for part in place.relative_to(self._root).parts):
            raise InvalidRequestError(f"{path!r} is hidden or installed; such files are not read")
        return place

    def _name(self, place: Path) -> str:
        return _text(place.relative_to(self._root).as_posix())

    def _scan(self, path: str) -> _Scan:
        folder = self._resolved(path)
        if not os.path.isdir(folder):
            raise InvalidRequestError(f"{path!r} is not a folder")
        suffixes: list[str] = []
        texts: list[_TextFile] = []
        scanned = 0
        for file in _files(folder):
            if len(suffixes) == MAX_FILES or scanned > MAX_SCANNED_BYTES:
                return _Scan(suffixes, texts, [f"(only the first {len(suffixes):,} files were looked at)"])
            suffixes.append(_suffix(file.name))
            try:
                text = _read(file)
            except OSError:
                continue  # counted as a file; what cannot be opened is not text
            if text is not None:
                scanned += len(text)
                texts.append(_TextFile(self._name(file), text))
        return _Scan(suffixes, texts, [])


class _TextFile(NamedTuple):
    name: str
    text: str


class _Scan(NamedTuple):
    """What is below a folder: the suffix of every file, the text files, and what the reader must know."""

    suffixes: list[str]
    texts: list[_TextFile]
    caveats: list[str]


def _files(folder: Path) -> Iterator[Path]:
    """The regular files below `folder`, a folder's own before those of its folders; links are not followed."""
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not _is_skipped(name))
        for name in sorted(names):
            file = Path(parent, name)
            if not _is_skipped(name) and _is_own_file(file):
                yield file


def _is_skipped(name: str) -> bool:
    return name.startswith(".") or name in INSTALLED


def _is_own_file(file: Path) -> bool:
    """Whether it is a regular file: opening a pipe would wait for ever, and a link may lead anywhere."""
    return os.path.isfile(file) and not os.path.islink(file)  # those of Path raise where a folder may not be entered


def _read(file: Path) -> str | None:
    """The file's text; None when it is binary or too large to look into."""
    if file.stat().st_size > MAX_FILE_BYTES:
        return None
    with file.open("rb") as opened:
        content = opened.read(MAX_FILE_BYTES)  # it may have grown since
    return None if b"\0" in content else _text(content.decode("utf-8", "replace").replace("\r\n", "\n"))


def _text(text: str) -> str:
    """The text without lone surrogates (a file name that is not UTF-8 has them): no serializer takes those."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _lines(text: str) -> int:
    return text.count("\n") + (not text.endswith("\n") and text != "")


def _suffix(name: str) -> str:
    return _text(Path(name).suffix) or "(no suffix)"


def _bounded(lines: list[str], limit: int, noun: str) -> list[str]:
    return lines if len(lines) <= limit else [*lines[:limit], f"... ({len(lines) - limit:,} more {noun})"]
