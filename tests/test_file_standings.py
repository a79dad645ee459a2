"""How threads of files are listed: by what their journals say, whatever else is found."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from langgraph_durable import CorruptDataWarning, StoreError
from langgraph_durable.core.records import DeleteCheckpoints, DeleteThread, EndLease, Event, Query, Stood, ThreadQuery
from langgraph_durable.stores.files import FileStore, disk, listing
from langgraph_durable.stores.files.journal import Head, framed
from langgraph_durable.stores.files.names import folder_name
from langgraph_durable.stores.files.thread import ThreadFolder
from tests.store_contract_standings import lease, marked, names, standing, taken, told
from tests.stores import done, ids, new, of, opened

SECRET = "what nobody is to find"


pytestmark = pytest.mark.usefixtures("closed")


def cache(path: Path) -> Path:
    return path / "checkpoints" / "standings.json"


def journal(path: Path, thread_id: str) -> Path:
    return path / "checkpoints" / "threads" / folder_name(thread_id) / "journal.jsonl"


def filled(path: Path) -> FileStore:
    """Threads of every kind."""
    store = opened(path)
    for number in range(4):
        done(store, of(f"t{number}", marked("1", "a", time=float(number), metadata=f'{{"n": {number}}}'), "value"))
    done(store, of("t1", told("1", "raised", "a")), of("t2", marked("2", time=9.0)), of("old", new("1")))
    taken(store, "t3")
    taken(store, "only leased")
    done(store, of("gone", marked("1")), of("gone", DeleteThread()))
    return store


def listed(store: FileStore) -> list[Stood]:
    """All threads; those that are found by their metadata are the same."""
    found = store.stood(ThreadQuery())
    assert len(store.stood(ThreadQuery(where=lambda metadata: isinstance(json.loads(metadata), dict)))) == len(found)
    return found


def anew(path: Path) -> list[Stood]:
    """What the journals say."""
    cache(path).unlink(missing_ok=True)
    store = opened(path)
    found = listed(store)
    store.close()
    cache(path).unlink()
    return found


# -- the cache -------------------------------------------------------------------------------------------------------


def test_journals_are_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither by the same process nor by another, as long as nothing changes; of what changes only that is read."""
    store = filled(tmp_path)
    expected = listed(store)
    assert [one.thread_id for one in expected] == ["only leased", "t2", "t3", "t1", "t0", "old"]
    read: list[str] = []
    real = ThreadFolder.refresh

    def refresh(self: ThreadFolder) -> Any:
        read.append(os.path.basename(self.path))
        return real(self)

    monkeypatch.setattr(ThreadFolder, "refresh", refresh)
    other = opened(tmp_path)
    for one in (store, other):
        assert listed(one) == expected
        assert read == []
    done(store, of("t0", marked("2")))
    taken(store, "t1")
    read.clear()
    assert names(other, status=("idle",))[:1] == ["only leased"]
    assert read == [folder_name("t0")]
    for one in (store, other):
        one.close()


def test_a_cache_that_is_damaged(tmp_path: Path) -> None:
    """Whatever becomes of it, what is listed is so."""
    store = filled(tmp_path)
    expected = listed(store)
    store.close()
    whole = cache(tmp_path).read_bytes()
    body = whole[whole.index(b"\n") + 1 :]

    def signed(data: bytes, version: int = listing.VERSION) -> bytes:
        return b'{"sum":"%08x","version":%d}\n' % (zlib.crc32(data), version) + data

    columns = orjson.loads(body)
    bad = [b"", b"\n", b"what", whole[:-1], whole[1:], body, whole + b"\n", signed(body, 99), signed(b""), signed(b"7")]
    bad += [signed(b"[]"), signed(b"[[]]"), signed(orjson.dumps(columns[:-1])), signed(orjson.dumps([*columns, []]))]
    for place in range(0, len(whole), 41):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << place % 8
        bad.append(bytes(flipped))
    for data in bad:
        cache(tmp_path).write_bytes(data)
        store = opened(tmp_path)
        assert listed(store) == expected
        store.close()
    # Who makes one that looks whole is not answered with an error either.
    values: list[Any] = [None, "what", 7, []]
    for place in range(1, len(columns)):
        for value in values:
            cache(tmp_path).write_bytes(
                signed(orjson.dumps([*columns[:place], [value] * len(columns[0]), *columns[place + 1 :]]))
            )
            store = opened(tmp_path)
            listed(store)
            store.close()
    assert anew(tmp_path) == expected


CHANGES: dict[str, Callable[[FileStore], object]] = {
    "a put": lambda store: done(store, of("t0", marked("2", time=50.0))),
    "an event": lambda store: done(store, of("t0", told("1", "asked", "a"))),
    "a deletion": lambda store: done(store, of("t1", DeleteThread())),
    "a new thread": lambda store: done(store, of("new", marked("1"))),
    "a lease": lambda store: taken(store, "t0"),
    "another lease": lambda store: taken(store, "t3", instead=store.stood(ThreadQuery("t3"))[0].lease.token),  # type: ignore[union-attr]  # it is there
    "an end": lambda store: lease(
        store,
        "t3",
        EndLease(store.stood(ThreadQuery("t3"))[0].lease.token, Event(5.0, "failed", (), None, "me")),  # type: ignore[union-attr]  # it is there
    ),
}


@pytest.mark.parametrize("how", CHANGES)
def test_a_cache_that_is_old(how: str, tmp_path: Path) -> None:
    """A file of yesterday says nothing of what has changed since."""
    store = filled(tmp_path)
    before = listed(store)
    old = cache(tmp_path).read_bytes()
    CHANGES[how](store)
    store.close()
    cache(tmp_path).write_bytes(old)
    other = opened(tmp_path)
    found = listed(other)
    other.close()
    assert found == anew(tmp_path) != before


@pytest.mark.parametrize("how", [DeleteThread(), DeleteCheckpoints((("", "1"),))])
def test_what_was_deleted_is_nowhere(how: Any, tmp_path: Path) -> None:
    """Nor is it in the cache, also when others have it in memory and list at the same time."""
    store, other = filled(tmp_path), opened(tmp_path)
    done(store, of("t", marked("1", "a", metadata=f'{{"secret": "{SECRET}"}}')), of("t", marked("2", parent="1")))
    done(store, of("t", marked("1", "a", metadata=f'{{"secret": "{SECRET}"}}')))
    done(store, of("u", marked("1", "a", metadata=f'{{"secret": "{SECRET}"}}')))
    for _ in range(2):
        listed(store)
        listed(other)
    assert SECRET in cache(tmp_path).read_text()
    for thread_id in "tu":
        done(store, of(thread_id, how))
    assert [one for one in tmp_path.rglob("*") if one.is_file() and SECRET.encode() in one.read_bytes()] == []
    listed(other)
    other.close()
    store.close()
    assert cache(tmp_path).exists()
    assert [one for one in tmp_path.rglob("*") if one.is_file() and SECRET.encode() in one.read_bytes()] == []
    assert "t2" in cache(tmp_path).read_text()


def test_a_folder_that_can_only_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads are listed, and nothing is written; so they are when the cache cannot be."""
    store = filled(tmp_path)
    expected = listed(store)
    store.close()
    cache(tmp_path).unlink()
    access = os.access
    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda path, mode: mode != os.W_OK and access(path, mode))
        reader = opened(tmp_path)
        assert listed(reader) == expected
        reader.close()
    assert not cache(tmp_path).exists()

    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(disk, "_write", full)
        reader = opened(tmp_path)
        assert listed(reader) == expected
        reader.close()
    assert not cache(tmp_path).exists()
    assert sorted(os.listdir(tmp_path / "checkpoints")) == [".gitignore", "README.md", "format.json", "threads"]


def test_journals_that_are_damaged(tmp_path: Path) -> None:
    """Of a thread that cannot be read there is a warning, in every process, and the others are listed."""
    store = filled(tmp_path)
    listed(store)
    store.close()
    journal(tmp_path, "t0").write_bytes(b"what\n")
    data = journal(tmp_path, "t2").read_bytes()
    journal(tmp_path, "t2").write_bytes(data.replace(b'"at":9.0', b'"at":8.0'))
    for _ in range(2):
        store = opened(tmp_path)
        with pytest.warns(CorruptDataWarning) as caught:
            found = [one.thread_id for one in store.stood(ThreadQuery())]
        assert found == ["only leased", "t3", "t1", "t2", "old"]
        assert {"t0" in str(one.message) or "t2" in str(one.message) for one in caught} == {True}
        with pytest.raises(StoreError):
            store.stood(ThreadQuery("t0"))
        store.close()


# -- journals --------------------------------------------------------------------------------------------------------


def test_a_folder_of_an_earlier_release(tmp_path: Path) -> None:
    """Its journals say nothing of how they stand: they are read, listed last, and gone on from."""
    store = opened(tmp_path)
    for name in ("1", "2"):
        done(store, of("t", new(name), f"value {name}"))
    store.close()
    head, *lines = journal(tmp_path, "t").read_bytes().splitlines(keepends=True)
    epoch = json.loads(head)["epoch"]
    journal(tmp_path, "t").write_bytes(
        framed(f'{{"type":"thread","version":1,"id":"t","epoch":{epoch}}}') + b"".join(lines)
    )
    form = tmp_path / "checkpoints" / "format.json"
    form.write_text('{"version": 1}')
    (tmp_path / "checkpoints" / "README.md").write_text("old")
    store = opened(tmp_path)
    assert json.loads(form.read_bytes())["version"] == 2
    assert "lease.json" in (tmp_path / "checkpoints" / "README.md").read_text()
    assert sorted(os.listdir(tmp_path / "checkpoints")) == [".gitignore", "README.md", "format.json", "threads"]
    (stood,) = store.stood(ThreadQuery())
    assert (stood.standing, stood.checkpoints) == (None, 2)
    assert ids(store, Query("t")) == ["2", "1"]
    done(store, of("t", marked("3", "a", time=5.0)))
    for one in (store, opened(tmp_path)):
        found = standing(one)
        assert (found.created, found.checkpoints, found.nodes) == (None, 3, ("a",))
        assert found.bytes > len("value 1value 2")
        one.close()


def test_what_a_line_grows_by(tmp_path: Path) -> None:
    """How a thread stands takes some fifty bytes of a line, and who has put it is said once."""
    store = opened(tmp_path)
    by = "host/4a6b0c2e-1f2a/4026531836/12345/67890123"
    metadata = '{"source": "loop", "step": 7, "parents": {}}'
    for number in range(20):
        work = marked(f"{number:02}", "agent", time=1763752368.123456, step=7, metadata=metadata)
        assert work.mark is not None
        done(store, of("t", work._replace(mark=work.mark._replace(by=by, messages=123)), f"{number:02}"))
        done(store, of("u", work._replace(mark=None), f"{number:02}"))
    sizes = [
        [len(line) for line in journal(tmp_path, name).read_bytes().splitlines() if b'"type":"checkpoint"' in line]
        for name in "tu"
    ]
    more = [one - other for one, other in zip(*sizes, strict=True)]
    assert max(more[1:]) < 60
    assert more[0] < 120
    assert journal(tmp_path, "t").read_bytes().count(by.encode()) == 1
    found = standing(store)
    assert (found.by, found.updated, found.step, found.messages) == (by, 1763752368.123, 7, 123)
    store.close()
    anew_store = opened(tmp_path)
    assert standing(anew_store) == found
    anew_store.close()


def test_who_has_put_what_follows_a_lost_line(tmp_path: Path) -> None:
    """It is not known, and is taken for nobody else."""
    store = opened(tmp_path)
    for number, by in enumerate(["one", "two", "two"]):
        work = marked(f"{number}", "a")
        assert work.mark is not None
        done(store, of("t", work._replace(mark=work.mark._replace(by=by))))
    assert standing(store).by == "two"
    store.close()
    data = journal(tmp_path, "t").read_bytes()
    journal(tmp_path, "t").write_bytes(data.replace(b'"by":"two"', b'"by":"too"'))
    store = opened(tmp_path)
    with pytest.warns(CorruptDataWarning):
        assert standing(store).by == ""
    work = marked("4", "a")
    assert work.mark is not None
    done(store, of("t", work._replace(mark=work.mark._replace(by="two"))))
    assert standing(store).by == "two"
    store.close()


def test_a_head_alone(tmp_path: Path) -> None:
    """A journal that says whose it is, and no more, is of no thread that is listed."""
    store = opened(tmp_path)
    path = journal(tmp_path, "t")
    path.parent.mkdir()
    head = Head("t", 7)
    path.write_bytes(framed(f'{{"type":"thread","version":2,"id":"{head.thread_id}","epoch":{head.epoch}}}'))
    for _ in range(2):
        assert store.stood(ThreadQuery()) == store.stood(ThreadQuery("t")) == []
    store.close()
