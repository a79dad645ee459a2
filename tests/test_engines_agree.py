"""How threads stand is one thing: both engines tell it the same after whatever was done, and so does who reads anew."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import pytest

from langgraph_durable.core.records import (
    Batch,
    CopyThread,
    DeleteCheckpoints,
    DeleteThread,
    EndLease,
    Event,
    Inline,
    Leased,
    Mark,
    Query,
    Stood,
    StopLease,
    Tag,
    TakeLease,
    ThreadQuery,
)
from langgraph_durable.core.status import MOVES
from langgraph_durable.stores.base import Outcome, Store
from langgraph_durable.stores.files import FileStore
from langgraph_durable.stores.sqlite import SqliteStore
from tests.stores import new, of, pages, writes

NODES = ("agent", "tools", "more")
TASK_MOVES = ("raised", "router", "asked", "answered", "cancelled")
RUN_MOVES = ("breakpoint", "ctrl-c", "sigterm", "cancelled", "failed", "gave up")
ERROR = Inline("z", b"\x00boom")


class Engines:
    """Stores of different engines to which the same is done."""

    def __init__(self, stores: Sequence[Store], dice: random.Random) -> None:
        self._stores = stores
        self._dice = dice
        self._tokens: list[dict[str, int]] = [{} for _ in stores]
        self._ids: dict[tuple[str, str], list[str]] = {}
        self._known: set[tuple[str, str]] = set()
        self._count = 0

    def step(self) -> None:
        """Do something."""
        self._count += 1
        thread_id = self._dice.choice("abc")
        (work,) = self._dice.choices(
            [self._put, self._write, self._take, self._end, self._stop, self._delete, self._copy],
            [50, 25, 8, 8, 2, 5, 4],
        )
        work(thread_id)

    def begin(self) -> None:
        """Store checkpoints as releases did that had nothing to say of how a thread stands."""
        for thread_id in ("a", "b", "b"):
            self._count += 1
            self._commit(of(thread_id, new(f"{self._count:04}"), f"{self._count}"))
            self._ids.setdefault((thread_id, ""), []).append(f"{self._count:04}")

    def _commit(self, batch: Batch) -> list[Outcome]:
        outcomes = []
        for store, tokens in zip(self._stores, self._tokens, strict=True):
            token = tokens.get(batch.thread_id)
            (outcome,) = store.commit([batch._replace(token=token)])
            outcomes.append(outcome)
        assert len({type(outcome) for outcome in outcomes}) == 1, outcomes
        return outcomes

    def _time(self) -> float:
        return 1_700_000_000.0 + self._count // 2 + 0.125

    def _where(self, thread_id: str) -> tuple[str, list[str]]:
        ns = self._dice.choice(["", "", "x:1"])
        return ns, self._ids.setdefault((thread_id, ns), [])

    def _put(self, thread_id: str) -> None:
        ns, ids = self._where(thread_id)
        again = (thread_id, ns) in self._known and self._dice.random() < 0.1
        name = self._dice.choice(ids) if again else f"{self._count:04}"
        following = tuple(self._dice.sample(NODES, self._dice.randrange(3)))
        moves = ("ran", "ran", "updated", "copied") if following else ("finished",)
        step = self._dice.choice([None, self._count])
        mark = Mark(
            self._time(), self._dice.choice(moves), following, step, self._count % 4, self._dice.choice(["me", "you"])
        )
        parent = self._dice.choice([None, ids[-1]]) if ids and not again else None
        work = new(
            name, ns=ns, parent=parent, run_id=self._dice.choice([None, "run"]), metadata=f'{{"step": {step or 0}}}'
        )
        self._commit(of(thread_id, work._replace(mark=mark), f"{self._count}"))
        if not again:
            ids.append(name)
        self._known.add((thread_id, ns))

    def _write(self, thread_id: str) -> None:
        ns, ids = self._where(thread_id)
        if not ids:
            return
        name = self._dice.choice([*ids[-2:], *ids[-1:], f"{self._count + 1:04}"])
        event = Event(self._time(), self._dice.choice(TASK_MOVES), (self._dice.choice(NODES),), None, "me")
        if event.move in ("raised", "router"):
            event = event._replace(error=ERROR)
        work = writes(name, Inline("", b"x"), task=f"{self._count}", ns=ns)
        self._commit(of(thread_id, work._replace(event=event if self._dice.random() < 0.7 else None)))

    def _take(self, thread_id: str) -> None:
        for store, tokens in zip(self._stores, self._tokens, strict=True):
            (outcome,) = store.commit([Batch(thread_id, None, (), TakeLease('"who"', tokens.get(thread_id)))])
            assert isinstance(outcome, Leased)
            assert outcome.lease is not None
            tokens[thread_id] = outcome.lease.token

    def _end(self, thread_id: str) -> None:
        move = self._dice.choice([*RUN_MOVES, ""])
        assert move in ("", *MOVES)
        event = Event(self._time(), move, (), self._dice.choice([None, ERROR]), "me") if move else None
        for store, tokens in zip(self._stores, self._tokens, strict=True):
            if thread_id in tokens:
                (outcome,) = store.commit([Batch(thread_id, None, (), EndLease(tokens.pop(thread_id), event))])
                assert outcome == Leased(None)

    def _stop(self, thread_id: str) -> None:
        self._commit(Batch(thread_id, None, (), StopLease()))

    def _delete(self, thread_id: str) -> None:
        if self._dice.random() < 0.3:
            self._commit(of(thread_id, DeleteThread()))
            self._gone(thread_id)
            return
        ids = [(ns, name) for (of_thread, ns), names in self._ids.items() if of_thread == thread_id for name in names]
        gone = self._dice.sample(ids, len(ids) // 2)
        if not gone:
            return
        self._commit(of(thread_id, DeleteCheckpoints(tuple(gone))))
        self._known -= {(thread_id, ""), (thread_id, "x:1")}
        for ns, name in gone:
            self._ids[thread_id, ns].remove(name)
        if not any(names for (of_thread, _), names in self._ids.items() if of_thread == thread_id):
            self._gone(thread_id)

    def _gone(self, thread_id: str) -> None:
        for where in [where for where in self._ids if where[0] == thread_id]:
            del self._ids[where]
        self._known -= {(thread_id, ""), (thread_id, "x:1")}
        for tokens in self._tokens:
            tokens.pop(thread_id, None)

    def _copy(self, thread_id: str) -> None:
        if not any(names for (of_thread, _), names in self._ids.items() if of_thread == thread_id):
            return
        target = f"{thread_id} {self._count}"
        self._commit(of(thread_id, CopyThread(target)))


def told(store: Store) -> dict[str, object]:
    """Everything that a store tells of how threads stand, but for what is an engine's own."""

    # Whether a thread is listed as one without checkpoints yet while its first is on the way is an engine's own.
    def stood(query: ThreadQuery) -> list[object]:
        return [plain(one) for one in store.stood(query) if one.place[0] != 0]

    orders: tuple[Literal["updated", "created", "id"], ...] = ("updated", "created", "id")
    found: dict[str, object] = {order: stood(ThreadQuery(order=order)) for order in orders}
    namespaces = store.stood(ThreadQuery(ns=None))
    found["namespaces"] = sorted(str(plain(one)) for one in namespaces if one.standing is not None)
    found["busy"] = stood(ThreadQuery(status=("busy",)))
    for thread_id in "abc":
        found[thread_id] = stood(ThreadQuery(thread_id))
        for node in NODES:
            found[f"{thread_id} {node}"] = [store.node(thread_id, "", node, place) for place in (-2, -1, 0, 1, 2)]
    tags: list[str] = []

    def look(metadata: str, tag: Tag) -> bool:
        tags.append(str(tag))
        return True

    for _ in pages(store, Query(None, where=look, tagged=True)):
        pass
    found["tags"] = sorted(tags)
    return found


def plain(stood: Stood) -> object:
    """What is told of a thread: how many bytes something takes is an engine's own, and so is what a token is."""
    standing = stood.standing
    if standing is not None and standing.ahead is not None and standing.ahead[0] <= standing.checkpoint_id:
        standing = standing._replace(ahead=None)
    return (
        stood.thread_id,
        stood.ns,
        None if standing is None else standing._replace(bytes=0),
        None if stood.lease is None else (stood.lease.holder, stood.lease.stop),
        stood.checkpoints if standing is not None else 0,
    )


@pytest.mark.parametrize("seed", range(6))
def test_whatever_is_done(seed: int, tmp_path: Path) -> None:
    """SQLite, files, a store of files that reads every journal anew, and one that has a cache, tell the same."""
    dice = random.Random(seed)
    path = str(tmp_path / "checkpoints")
    database, files = SqliteStore(str(tmp_path / "db"), busy_timeout=5), FileStore(path, busy_timeout=5)
    engines = Engines([database, files], dice)
    engines.begin()
    for number in range(150):
        engines.step()
        if number % 10 == 9:
            expected = told(database)
            assert told(files) == expected
            for _ in range(2):
                anew = FileStore(path, busy_timeout=5)
                assert told(anew) == expected
                anew.close()
            (tmp_path / "checkpoints" / "standings.json").unlink()
    database.close()
    files.close()
