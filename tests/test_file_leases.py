"""The file that says who runs a thread: whoever dies, whatever is torn, there is one who may write, or nobody."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from langgraph_durable import CorruptDataWarning, StoreError
from langgraph_durable.core.records import (
    Batch,
    DeleteThread,
    EndLease,
    Event,
    Fenced,
    KeepLease,
    Lease,
    Leased,
    LeaseWork,
    Query,
    StopLease,
    Stored,
    TakeLease,
    ThreadQuery,
)
from langgraph_durable.stores.base import Outcome
from langgraph_durable.stores.files import FileStore, disk
from langgraph_durable.stores.files.leases import LeaseFile
from langgraph_durable.stores.files.names import folder_name
from tests.processes import Pipe, child, children, forks
from tests.store_contract_standings import marked, standing, taken
from tests.stores import done, ids, of, opened
from tests.test_power_loss import Event as Asked
from tests.test_power_loss import disks, made, recorded

pytestmark = pytest.mark.usefixtures("closed")


def lease_file(path: Path, thread_id: str = "t") -> Path:
    return path / "checkpoints" / "threads" / folder_name(thread_id) / "lease.json"


def only(store: FileStore, batch: Batch) -> Outcome:
    (outcome,) = store.commit([batch])
    return outcome


def of_lease(store: FileStore, work: LeaseWork, thread_id: str = "t") -> Outcome:
    return only(store, Batch(thread_id, None, (), work))


# -- the file --------------------------------------------------------------------------------------------------------


def test_what_is_in_it(tmp_path: Path) -> None:
    """It is there while there is a lease, for its owner alone, and a person can read it."""
    store = opened(tmp_path)
    token = taken(store, holder='{"who": "me"}')
    assert stat.S_IMODE(lease_file(tmp_path).stat().st_mode) == 0o600
    text = lease_file(tmp_path).read_text()
    assert '"thread":"t"' in text
    assert f'"token":{token}' in text
    assert of_lease(store, EndLease(token, None)) == Leased(None)
    assert not lease_file(tmp_path).exists()
    assert store.threads() == []
    assert store.check(None) == store.check("t") == []
    assert store.stood(ThreadQuery()) == []
    assert not (lease_file(tmp_path).parent / "journal.jsonl").exists()


def test_a_thread_that_is_not_there(tmp_path: Path) -> None:
    """What needs a lease makes no folder."""
    store = opened(tmp_path)
    for work in (KeepLease(1, ""), EndLease(1, Event(1.0, "failed", (), None, "me")), TakeLease("", 1)):
        assert of_lease(store, work) == Fenced(None)
    assert of_lease(store, StopLease()) == Leased(None)
    assert os.listdir(tmp_path / "checkpoints" / "threads") == []


def test_a_thread_that_only_has_a_lease_is_deleted(tmp_path: Path) -> None:
    """Nothing of it is left, and no journal is begun."""
    store = opened(tmp_path)
    taken(store)
    assert only(store, of("t", DeleteThread())) == Stored(0, ())
    assert store.stood(ThreadQuery()) == []
    assert os.listdir(lease_file(tmp_path).parent) == ["lock"]


def damages(data: bytes) -> dict[str, bytes]:
    """What may have become of the file."""
    data = data.rstrip()
    return {
        "empty": b"",
        "torn": data[: len(data) // 2],
        "without its end": data[:-1],
        "another letter": data.replace(b'"stop":false', b'"stop":falsd'),
        "another token": data.replace(b'"token":1', b'"token":2'),
        "something else": b"what",
        "null": b"null",
    }


@pytest.mark.parametrize("how", damages(b""))
def test_a_lease_that_cannot_be_read(how: str, tmp_path: Path) -> None:
    """Nobody writes to a thread of which it is not known who may, and the error says what to do; others go on."""
    store = opened(tmp_path)
    done(store, of("u", marked("1")))
    token = taken(store)
    batch = of("t", marked("1", "a"))._replace(token=token)
    done(store, batch)
    bad = damages(lease_file(tmp_path).read_bytes())[how]
    lease_file(tmp_path).write_bytes(bad)
    for one in (store, opened(tmp_path)):
        for work in (TakeLease("", None), TakeLease("", token), KeepLease(token, ""), EndLease(token, None)):
            outcome = of_lease(one, work)
            assert isinstance(outcome, StoreError), work
            assert "take the file away" in str(outcome)
        for tried in (batch, batch._replace(token=None)):
            assert isinstance(only(one, tried), StoreError)
        assert isinstance(of_lease(one, StopLease()), StoreError)
        with pytest.raises(StoreError, match="cannot be read"):
            one.stood(ThreadQuery("t"))
        with pytest.warns(CorruptDataWarning, match="cannot be read"):
            assert [stood.thread_id for stood in one.stood(ThreadQuery())] == ["u"]
        assert ["lease.json" in damage.trouble for damage in one.check("t")] == [True]
        assert ids(one, Query("t")) == ["1"]
        assert isinstance(only(one, of("u", marked("1"))), Stored)
    assert lease_file(tmp_path).read_bytes() == bad
    lease_file(tmp_path).unlink()
    assert standing(store).status == "busy"
    taken(store)
    lease_file(tmp_path).write_bytes(bad)
    assert only(store, of("t", DeleteThread())) == Stored(0, ())
    assert not lease_file(tmp_path).exists()
    taken(store)


def test_a_lease_of_a_new_thread_that_cannot_be_read(tmp_path: Path) -> None:
    """No journal says whose it is: it is found by who looks for what is of no thread."""
    store = opened(tmp_path)
    taken(store)
    lease_file(tmp_path).write_bytes(b"what")
    assert ["lease.json" in damage.trouble for damage in store.check(None)] == [True]


def test_a_lease_put_in_the_folder_of_another_thread(tmp_path: Path) -> None:
    """It is nobody's there."""
    store = opened(tmp_path)
    taken(store)
    done(store, of("u", marked("1")))
    shutil.copy(lease_file(tmp_path), lease_file(tmp_path, "u"))
    outcome = only(store, of("u", marked("2")))
    assert isinstance(outcome, StoreError)
    assert "put there by hand" in str(outcome)


def test_a_file_like_the_one_before(tmp_path: Path) -> None:
    """No two that follow each other have the same length: number and time can be those of one that was there before."""
    store = opened(tmp_path)
    token = taken(store)
    sizes = [lease_file(tmp_path).stat().st_size]
    for number in range(120):
        if number % 3:
            token = taken(store, instead=token)
        else:
            of_lease(store, KeepLease(token, "{}"))
        sizes.append(lease_file(tmp_path).stat().st_size)
    assert len(set(sizes)) == len(sizes)


def test_a_look_is_one_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lease that did not change is not read again for a write."""
    store = opened(tmp_path)
    token = taken(store)
    done(store, of("t", marked("1", "a"))._replace(token=token))
    monkeypatch.setattr(LeaseFile, "_read", None)
    done(store, of("t", marked("2", "a"))._replace(token=token))


# -- who dies --------------------------------------------------------------------------------------------------------


def holds(pipe: Pipe, path: Path) -> None:
    """Take the lease and write under it until somebody puts an end to that."""
    store = opened(path)
    token = taken(store, holder='"who will die"')
    pipe.send(token)
    for number in range(10**6):
        done(store, of("t", marked(f"{number:05}", "a"), f"{number}")._replace(token=token))
        pipe.send(f"{number:05}")


@forks
def test_who_is_killed_while_he_holds_it(tmp_path: Path) -> None:
    """The lease is there, with the name of the dead; who takes it over finds all that was stored, and is alone."""
    with child(holds, tmp_path) as victim:
        token = victim.receive()
        for _ in range(20):
            victim.receive()
        store = opened(tmp_path)
        assert only(store, of("t", marked("mine"))) == Fenced(Lease(token, '"who will die"'))
        victim.kill()
        said = [one for one in victim.rest() if isinstance(one, str)]
    (stood,) = store.stood(ThreadQuery(status=("idle",)))
    assert stood.lease == Lease(token, '"who will die"')
    assert stood.standing is not None
    assert stood.standing.status == "busy"
    other = taken(store, instead=token)
    assert other > token
    assert only(store, of("t", marked("late"))._replace(token=token)) == Fenced(Lease(other, "{}"))
    done(store, of("t", marked("next"))._replace(token=other))
    listed = ids(store, Query("t"))
    assert listed[0] == "next"
    assert set(said) <= set(listed)
    assert len(listed) <= 20 + len(said) + 2


def grabs(pipe: Pipe, path: Path) -> None:
    """Take the lease, in the place of the one that is named, when told so."""
    store = opened(path)
    while True:
        instead = pipe.recv()
        outcome = of_lease(store, TakeLease(f'"{os.getpid()}"', instead))
        token = outcome.lease.token if isinstance(outcome, Leased) and outcome.lease is not None else None
        stored = only(store, of("t", marked(f"{os.getpid()} {instead}", "a"))._replace(token=token))
        pipe.send((token, isinstance(stored, Stored)))


@forks
def test_who_come_at_once(tmp_path: Path) -> None:
    """Of several that take it in the place of the same one has it, and is the only one who can write."""
    opened(tmp_path).close()
    with children(4, grabs, tmp_path) as those:
        token, tokens = None, []
        for _ in range(15):
            for one in those:
                one.send(token)
            answers = [one.receive() for one in those]
            (won,) = [got for got, stored in answers if got is not None and stored]
            assert [stored for got, stored in answers if got is None] == [False] * 3
            tokens.append(won)
            token = won
    assert tokens == sorted(set(tokens))


def test_who_dies_between_the_end_and_the_lease(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """How the run ended is written down, and the lease is there for who takes it over."""
    store = opened(tmp_path)
    token = taken(store)
    done(store, of("t", marked("1", "a"))._replace(token=token))

    def dies(self: LeaseFile) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(LeaseFile, "remove", dies)
        with pytest.raises(KeyboardInterrupt):
            of_lease(store, EndLease(token, Event(9.0, "failed", (), None, "me")))
    store = opened(tmp_path)
    (stood,) = store.stood(ThreadQuery("t"))
    assert stood.lease is not None
    assert stood.standing is not None
    assert (stood.standing.status, stood.standing.reason) == ("error", "exception")
    assert of_lease(store, EndLease(token, Event(10.0, "ctrl-c", (), None, "me"))) == Leased(None)
    assert standing(store).reason == "ctrl-c"


@pytest.mark.parametrize("name", ["replace", "sync_folder", "_full_sync"])
def test_a_disk_that_refuses(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lease that was not given is not there."""
    store = opened(tmp_path)
    done(store, of("t", marked("1")))

    def failing(*args: Any, **kwargs: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(disk, name, failing)
        assert isinstance(of_lease(store, TakeLease("", None)), StoreError)
    assert not lease_file(tmp_path).exists()
    assert sorted(os.listdir(lease_file(tmp_path).parent)) == ["journal.jsonl", "lock"]
    taken(store)


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="it asks Linux which file a number means")
def test_a_power_cut(tmp_path: Path) -> None:
    """On every disk that a power cut can leave, a lease is whole, and what was answered of it is still so."""
    events: list[Asked] = []
    answered: list[tuple[int, Lease | None, bool]] = []

    def now(lease: Lease | None, *, ended: bool = False) -> None:
        answered.append((len(events), lease, ended))

    with recorded(events):
        store = FileStore(str(tmp_path / "run" / "checkpoints"), busy_timeout=5)
        now(None)
        steps: list[Callable[[Lease], LeaseWork]] = [
            lambda lease: TakeLease('"two"', lease.token),
            lambda lease: KeepLease(lease.token, '"kept"'),
            lambda lease: StopLease(),
        ]
        outcome = of_lease(store, TakeLease('"one"', None))
        for step in [*steps, *steps[:2]]:
            assert isinstance(outcome, Leased)
            assert outcome.lease is not None
            now(outcome.lease)
            outcome = of_lease(store, step(outcome.lease))
        assert isinstance(outcome, Leased)
        assert outcome.lease is not None
        now(outcome.lease)
        done(store, of("t", marked("1", "a"))._replace(token=outcome.lease.token))
        of_lease(store, EndLease(outcome.lease.token, Event(9.0, "failed", (), None, "me")))
        now(None, ended=True)
        store.close()
    leases = [lease for _, lease, _ in answered]
    count = 0
    for end in range(answered[0][0], len(events) + 1):
        place = max(number for number, (at, _, _) in enumerate(answered) if at <= end)
        for found in disks(events[:end]):
            made(found, str(tmp_path / "run"), tmp_path / "cut")
            left = FileStore(str(tmp_path / "cut" / "checkpoints"), busy_timeout=5)
            stood = left.stood(ThreadQuery("t"))
            lease = stood[0].lease if stood else None
            assert lease in leases[place : place + 2], (end, lease)
            if answered[place][2]:
                assert standing(left).reason == "exception"
            left.close()
            count += 1
    assert count > 50
