"""What the tests of a store are written with: batches of texts, and what is read as texts again.

Nothing here knows what a ref or an epoch looks like. A list is written as its pieces: (text, number of elements) each.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import pytest

from langgraph_durable.core.records import (
    Batch,
    Chunk,
    CopyThread,
    DeleteCheckpoints,
    DeleteThread,
    Elements,
    Found,
    Fresh,
    Inline,
    Known,
    Many,
    One,
    Page,
    Part,
    PutCheckpoint,
    PutWrites,
    Query,
    Ref,
    Span,
    Stale,
    Stored,
    Work,
)
from langgraph_durable.stores.base import Store
from langgraph_durable.stores.files import FileStore

Pieces: TypeAlias = "list[tuple[str, int]]"

HEAD = Inline("z", b"\x00head\xff")


def chunk(text: str) -> Chunk:
    """A chunk of this text."""
    return Chunk(blake2b(text.encode(), digest_size=16).digest(), "+kind", text.encode())


def fresh(*texts: str, count: int = 1) -> tuple[Fresh, ...]:
    """New pieces of a list, one a text, of `count` elements each."""
    return tuple(Fresh(chunk(text).digest, count) for text in texts)


def of(thread_id: str, work: Work, *texts: str, epoch: int | None = None) -> Batch:
    """A batch that brings a chunk for each text."""
    return Batch(thread_id, epoch, tuple(map(chunk, texts)), work)


def new(
    checkpoint_id: str,
    *parts: Part,
    ns: str = "",
    parent: str | None = None,
    run_id: str | None = None,
    metadata: str = "{}",
) -> PutCheckpoint:
    """The work of putting a checkpoint."""
    return PutCheckpoint(ns, checkpoint_id, parent, run_id, metadata, None, HEAD, parts)


def writes(checkpoint_id: str, *parts: Part, task: str = "task", ns: str = "", replaces: bool = False) -> PutWrites:
    """The work of putting writes, one to a channel."""
    entries = tuple((index, f"channel {index}", part) for index, part in enumerate(parts))
    return PutWrites(ns, checkpoint_id, task, f"path of {task}", replaces, entries)


_opened: list[FileStore] = []


def opened(path: Path) -> FileStore:
    """A store over the folder `checkpoints` in this one; the fixture `closed` closes it after the test."""
    _opened.append(FileStore(str(path / "checkpoints"), busy_timeout=20))
    return _opened[-1]


def close_opened() -> None:
    """Close every store that a test has opened."""
    while _opened:
        _opened.pop().close()


def done(store: Store, *batches: Batch) -> list[Stored]:
    """What became of batches that have to be stored."""
    outcomes = store.commit(batches)
    stored = [outcome for outcome in outcomes if isinstance(outcome, Stored)]
    assert len(stored) == len(batches), outcomes
    return stored


def value(page: Page, ref: Ref) -> Any:
    """What a ref stands for: an `Inline`, the text of a chunk, or the pieces of a list."""
    content = page.contents[ref]
    if isinstance(content, Inline):
        return content
    if isinstance(content, Elements):
        assert len(content.keys) == len(content.counts)
        return [
            (page.chunks[key].data.decode(), count) for key, count in zip(content.keys, content.counts, strict=True)
        ]
    assert page.chunks[content].kind == "+kind"
    return page.chunks[content].data.decode()


def pages(store: Store, query: Query) -> Iterator[Page]:
    """Every page of a query."""
    while True:
        page = store.read(query)
        yield page
        if page.cursor is None:
            return
        left = None if query.limit is None else query.limit - len(page.found)
        if left == 0:
            return
        query = query._replace(after=page.cursor, limit=left)


def ids(store: Store, query: Query) -> list[str]:
    """The ids of what a query finds, in order."""
    return [found.id for page in pages(store, query) for found in page.found]


def get(store: Store, thread_id: str, checkpoint_id: str | None = None, ns: str = "") -> tuple[Found, list[Any]]:
    """A checkpoint that has to be there, and the values of its parts."""
    page = store.read(Query(thread_id, ns, checkpoint_id, limit=1))
    (found,) = page.found
    return found, [value(page, ref) for ref in found.refs]


def written(store: Store, thread_id: str, checkpoint_id: str, ns: str = "") -> list[tuple[str, list[Any]]]:
    """(task, values) of each call of writes to a checkpoint."""
    page = store.read(Query(thread_id, ns, checkpoint_id, limit=1))
    return [(call.task_id, [value(page, ref) for _, _, ref in call.entries]) for call in page.found[0].writes]


class Opened:
    """How an engine's data is opened, for the contract's tests."""

    shared = True
    """Whether the data can be opened again while it is open, and be read while it is written."""

    def make(self, folder: Path) -> Store:
        """A store over the data in `folder`, which is empty at first."""
        raise NotImplementedError

    def digests(self, store: Store) -> dict[str, list[bytes]] | None:
        """The digest of every chunk that is stored, by thread; None where it cannot be told."""
        raise NotImplementedError

    @pytest.fixture
    def open_store(self, tmp_path: Path) -> Iterator[Callable[[], Store]]:
        """A function that opens the same data; everything is closed at the end."""
        opened: list[Store] = []

        def make() -> Store:
            if opened and not self.shared:
                pytest.skip("this engine's data cannot be opened twice")
            opened.append(self.make(tmp_path))
            return opened[-1]

        yield make
        for store in opened:
            store.close()

    @pytest.fixture
    def store(self, open_store: Callable[[], Store]) -> Store:
        """An empty store."""
        return open_store()


class Kept(NamedTuple):
    """A checkpoint as it has to be read: its values, the refs they had, and its calls of writes."""

    values: list[Any]
    refs: tuple[Ref, ...]
    writes: list[tuple[str, list[Any]]]


class Model:
    """What two stores over the same data have to hold, while anything is done to it in any order."""

    def __init__(self, dice: random.Random, one: Store, two: Store) -> None:
        self._dice = dice
        self._stores = (one, two)
        self._kept: dict[tuple[str, str, str], Kept] = {}
        self._epochs: dict[str, int] = {}
        self._count = 0

    def step(self) -> None:
        """Do something."""
        works: list[Callable[[str], None]] = [self._put, self._write, self._delete, self._delete_thread, self._copy]
        (work,) = self._dice.choices(works, [60, 20, 12, 3, 5])
        work(self._dice.choice(["a", "b", "c"]))

    def check(self, digests: Sequence[dict[str, list[bytes]] | None]) -> None:
        """Everything is there, as both stores see it, and nothing else; `digests` are the chunks that are stored."""
        for store in self._stores:
            read = [
                (
                    (found.thread_id, found.ns, found.id),
                    [value(page, ref) for ref in found.refs],
                    [(call.task_id, [value(page, ref) for _, _, ref in call.entries]) for call in found.writes],
                )
                for page in pages(store, Query(None))
                for found in page.found
            ]
            assert read[::-1] == [(key, kept.values, kept.writes) for key, kept in self._kept.items()]
        wanted: dict[str, set[bytes]] = {}
        for (thread_id, _, _), kept in self._kept.items():
            named = wanted.setdefault(thread_id, set())
            for one in [*kept.values, *(one for _, values in kept.writes for one in values)]:
                texts = [one] if isinstance(one, str) else [text for text, _ in one] if isinstance(one, list) else []
                named |= {chunk(text).digest for text in texts}
        for stored in digests:
            assert stored is None or {name: set(those) for name, those in stored.items()} == {
                name: those for name, those in wanted.items() if those
            }

    def _commit(self, batch: Batch) -> Stored:
        return done(self._dice.choice(self._stores), batch)[0]

    def _of(self, thread_id: str) -> list[tuple[str, str, str]]:
        return [key for key in self._kept if key[0] == thread_id]

    def _text(self) -> str:
        # Some texts come again and again: a chunk that is there already, or was and is gone.
        return f"text {self._dice.randrange(12) if self._dice.random() < 0.4 else self._dice.randrange(10**9)}"

    def _part(self, texts: list[str]) -> tuple[Part, Any]:
        """A part that needs nothing stored before, and its value."""
        kind = self._dice.randrange(3)
        if kind == 0:
            data = self._text().encode()
            return Inline("", data), Inline("", data)
        chosen = [self._text() for _ in range(self._dice.randrange(4) if kind == 2 else 1)]
        texts += chosen
        if kind == 1:
            return One(chunk(chosen[0]).digest), chosen[0]
        return Many(None, tuple(piece for text in chosen for piece in fresh(text, count=size(text)))), [
            (text, size(text)) for text in chosen
        ]

    def _list(self, base: Pieces, ref: Ref | None, texts: list[str]) -> tuple[Part, Pieces]:
        """A version of a list that keeps some of its base."""
        if ref is not None and self._dice.random() < 0.1:
            return Known(ref), base
        pieces: list[Span | Fresh] = []
        result: Pieces = []
        place = element = 0
        while place < len(base):
            take = self._dice.randrange(1, len(base) - place + 1)
            length = sum(count for _, count in base[place : place + take])
            if self._dice.random() < 0.8:
                pieces.append(Span(element, element + length))
                result += base[place : place + take]
            place, element = place + take, element + length
            if self._dice.random() < 0.3:
                self._add(pieces, result, texts)
        self._add(pieces, result, texts)
        return Many(ref, tuple(pieces)), result

    def _add(self, pieces: list[Span | Fresh], result: Pieces, texts: list[str]) -> None:
        for _ in range(self._dice.randrange(3)):
            text = self._text()
            texts.append(text)
            pieces += fresh(text, count=size(text))
            result.append((text, size(text)))

    def _put(self, thread_id: str) -> None:
        self._count += 1
        ns = self._dice.choice(["", "x"])
        those = self._of(thread_id)
        base = self._dice.choice([*those[-2:], *those[-2:], *those]) if those else None
        texts: list[str] = []
        parts = []
        values: list[Any] = []
        if base is not None:
            kept = self._kept[base]
            part, pieces = self._list(kept.values[0], kept.refs[0], texts)
        else:
            part, pieces = self._list([], None, texts)
        parts.append(part)
        values.append(pieces)
        for _ in range(self._dice.randrange(3)):
            part, one = self._part(texts)
            parts.append(part)
            values.append(one)
        if base is not None and self._dice.random() < 0.3:
            parts += [Known(ref) for ref in self._kept[base].refs[1:]]
            values += self._kept[base].values[1:]
        name = f"{self._dice.randrange(100)} {self._count}"
        parent = base[2] if base is not None and base[1] == ns else None
        batch = of(thread_id, new(name, *parts, ns=ns, parent=parent), *texts, epoch=self._epochs.get(thread_id))
        if self._dice.random() < 0.1:
            assert self._stores[0].commit([batch._replace(epoch=7)]) == [Stale()]
        stored = self._commit(batch)
        self._epochs[thread_id] = stored.epoch
        self._kept[thread_id, ns, name] = Kept(values, stored.refs, [])

    def _write(self, thread_id: str) -> None:
        those = self._of(thread_id)
        if not those:
            return
        key = self._dice.choice(those)
        texts: list[str] = []
        made = [self._part(texts) for _ in range(self._dice.randrange(4))]
        self._count += 1
        work = writes(key[2], *(part for part, _ in made), task=f"{self._count}", ns=key[1])
        self._commit(of(thread_id, work, *texts, epoch=self._epochs[thread_id]))
        self._kept[key].writes.append((f"{self._count}", [one for _, one in made]))

    def _delete(self, thread_id: str) -> None:
        those = self._of(thread_id)
        gone = self._dice.sample(those, min(len(those), self._dice.randrange(4)))
        self._commit(of(thread_id, DeleteCheckpoints(tuple((ns, name) for _, ns, name in gone))))
        for key in gone:
            del self._kept[key]
        self._read_again(thread_id)

    def _delete_thread(self, thread_id: str) -> None:
        self._commit(of(thread_id, DeleteThread()))
        for key in self._of(thread_id):
            del self._kept[key]
        self._read_again(thread_id)

    def _copy(self, thread_id: str) -> None:
        self._count += 1
        target = f"{thread_id} {self._count}"
        self._commit(of(thread_id, CopyThread(target)))
        for _, ns, name in self._of(thread_id):
            kept = self._kept[thread_id, ns, name]
            self._kept[target, ns, name] = kept._replace(writes=list(kept.writes))

    def _read_again(self, thread_id: str) -> None:
        """What was known of refs is void with the epoch."""
        self._epochs.pop(thread_id, None)
        for page in pages(self._stores[0], Query(thread_id)):
            for found in page.found:
                key = (thread_id, found.ns, found.id)
                self._kept[key] = self._kept[key]._replace(refs=found.refs)
                self._epochs[thread_id] = found.epoch


def size(text: str) -> int:
    """How many elements the chunk of a text has."""
    return len(text) % 3 + 1
