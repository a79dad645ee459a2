"""What every store promises (`stores.base`), one test a promise; an engine inherits the class."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from langgraph_durable.core.records import (
    Batch,
    CopyThread,
    DeleteCheckpoints,
    DeleteThread,
    Found,
    Fresh,
    Inline,
    Known,
    Many,
    One,
    Part,
    PutCheckpoint,
    Query,
    Ref,
    Span,
    Stale,
    Stored,
    Work,
)
from langgraph_durable.errors import ClosedError, DurableError, InvalidRequestError, ThreadDeletedError
from langgraph_durable.stores.base import Outcome, Store
from tests.store_contract_lists import ListContract
from tests.store_contract_standings import StandingContract
from tests.stores import HEAD, chunk, done, fresh, get, ids, new, of, pages, value, writes, written


class StoreContract(ListContract, StandingContract):
    """Inherit it, and implement `make` and `digests`."""

    # -- a batch ---------------------------------------------------------------------------------------------------

    def test_a_batch_is_there_with_all_its_parts(self, store: Store) -> None:
        """A checkpoint comes back with every field and part as it was stored."""
        parts = (Inline("", b""), Inline("z+x", b"\x00\xff"), One(chunk("one").digest), Many(None, ()))
        many = Many(None, (*fresh("a", "b"), *fresh("bunch", count=7)))
        work = PutCheckpoint(
            "n|s:1", "id ü", "parent", "run", '{"ü": [1, null]}', Inline("z", b"\xfe"), HEAD, (*parts, many)
        )
        done(store, of("thread ü", work, "one", "a", "b", "bunch"))
        found, values = get(store, "thread ü", "id ü", "n|s:1")
        assert found._replace(refs=(), epoch=0) == Found(
            "thread ü", "n|s:1", "id ü", "parent", '{"ü": [1, null]}', Inline("z", b"\xfe"), HEAD, (), (), 0
        )
        assert values == [Inline("", b""), Inline("z+x", b"\x00\xff"), "one", [], [("a", 1), ("b", 1), ("bunch", 7)]]

    def test_what_is_answered_for_a_batch(self, store: Store) -> None:
        """Stored has the epoch that is read, a ref for each part, and one for each chunk."""
        (stored,) = done(store, of("t", new("1", Inline("", b"x"), One(chunk("c").digest)), "c", "unused"))
        found, _ = get(store, "t")
        assert (stored.epoch, stored.refs) == (found.epoch, found.refs)
        assert stored.chunks.keys() == {chunk("c").digest, chunk("unused").digest}

    def test_writes_are_there_in_order(self, store: Store) -> None:
        """Every call of writes comes back whole, oldest first."""
        first = writes("1", One(chunk("w").digest), Inline("", b"1"), Many(None, fresh("x", "y", count=2)))
        done(store, of("t", new("1")), of("t", first, "w", "x", "y"))
        done(store, of("t", writes("1", Inline("", b"2"), task="a", replaces=True)))
        done(store, of("t", writes("1", task="empty")))
        page = store.read(Query("t", "", "1", limit=1))
        assert [(call.task_id, call.task_path, call.replaces) for call in page.found[0].writes] == [
            ("task", "path of task", False),
            ("a", "path of a", True),
            ("empty", "path of empty", False),
        ]
        assert [(index, channel) for index, channel, _ in page.found[0].writes[0].entries] == [
            (0, "channel 0"),
            (1, "channel 1"),
            (2, "channel 2"),
        ]
        assert written(store, "t", "1") == [
            ("task", ["w", Inline("", b"1"), [("x", 2), ("y", 2)]]),
            ("a", [Inline("", b"2")]),
            ("empty", []),
        ]

    def test_writes_before_their_checkpoint(self, store: Store) -> None:
        """Writes of a checkpoint that is not there yet are not seen without it, and are there when it comes."""
        done(store, of("t", writes("2", Inline("", b"early"))), of("t", new("1")))
        assert ids(store, Query("t")) == ["1"]
        done(store, of("t", new("2", Inline("", b"value"))))
        assert ids(store, Query("t")) == ["2", "1"]
        assert written(store, "t", "2") == [("task", [Inline("", b"early")])]

    def test_put_again(self, store: Store) -> None:
        """A checkpoint that is put again has its new contents, its writes and its old place."""
        done(store, of("t", new("1", One(chunk("old").digest)), "old"), of("t", writes("1", Inline("", b"w"))))
        done(store, of("t", new("2")))
        done(store, of("t", new("1", One(chunk("new").digest), metadata='{"a": 1}'), "new"))
        assert ids(store, Query("t")) == ["2", "1"]
        found, values = get(store, "t", "1")
        assert (found.metadata, values) == ('{"a": 1}', ["new"])
        assert written(store, "t", "1") == [("task", [Inline("", b"w")])]

    def test_nothing_is_needed(self, store: Store) -> None:
        """No batches are no work."""
        assert store.commit([]) == []

    # -- refusals --------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("place", [0, 1, 2])
    @pytest.mark.parametrize(
        "kind", ["stale", "deleted parent", "deleted checkpoint", "taken target", "bad text", "bad name"]
    )
    def test_a_refused_batch_leaves_its_neighbours(self, kind: str, place: int, store: Store) -> None:
        """Of the batches of one commit a refused one leaves nothing behind, and the others are stored."""
        done(store, of("gone", new("1")), of("taken", new("1")), of("t", new("0")))
        done(store, of("gone", DeleteThread()))
        refused: dict[str, tuple[Batch, type[Any]]] = {
            "stale": (of("taken", new("2", One(chunk("r").digest)), "r", epoch=-1), Stale),
            "deleted parent": (of("gone", new("2", One(chunk("r").digest), parent="1"), "r"), ThreadDeletedError),
            "deleted checkpoint": (of("gone", writes("1", One(chunk("r").digest)), "r"), ThreadDeletedError),
            "taken target": (of("t", CopyThread("taken")), InvalidRequestError),
            "bad text": (of("taken", new("2", One(chunk("r").digest), metadata='"\ud800"'), "r"), DurableError),
            "bad name": (of("\ud800", new("2", One(chunk("r").digest)), "r"), DurableError),
        }
        batch, outcome = refused[kind]
        batches = [of("t", new("1", One(chunk("n").digest)), "n"), of("other", writes("1", Inline("", b"w")))]
        batches.insert(place, batch)
        outcomes = store.commit(batches)
        assert isinstance(outcomes.pop(place), outcome)
        assert all(isinstance(one, Stored) for one in outcomes)
        assert get(store, "t", "1")[1] == ["n"]
        assert ids(store, Query("taken")) == ["1"]
        assert ids(store, Query("gone")) == []
        done(store, of("other", new("1")))
        assert written(store, "other", "1") == [("task", [Inline("", b"w")])]
        stored = self.digests(store)
        assert stored is None or stored == {"t": [chunk("n").digest]}

    def test_many_refusals_at_once(self, store: Store) -> None:
        """Every batch of a commit has its own outcome, in the order of the batches."""
        done(store, of("t", new("0")))
        batches = [of("t", new(f"{n}"), epoch=-1) if n % 3 == 0 else of("t", new(f"{n}")) for n in range(1, 30)]
        outcomes = store.commit(batches)
        assert [isinstance(outcome, Stale) for outcome in outcomes] == [n % 3 == 0 for n in range(1, 30)]
        assert ids(store, Query("t")) == [f"{n}" for n in range(29, 0, -1) if n % 3] + ["0"]

    # -- order -----------------------------------------------------------------------------------------------------

    def test_newest_is_applied_last(self, store: Store) -> None:
        """Order is that of the batches, whatever the ids."""
        done(store, *(of("t", new(name)) for name in ("m", "z", "a")))
        done(store, of("t", new("k")))
        assert get(store, "t")[0].id == "k"
        assert ids(store, Query("t", "")) == ["k", "a", "z", "m"]

    def test_order_across_threads_and_namespaces(self, store: Store) -> None:
        """A listing of several threads and namespaces is in the order in which all of them were stored."""
        done(store, of("b", new("1")), of("a", new("2", ns="x")), of("b", new("3", ns="x")), of("a", new("4")))
        assert ids(store, Query(None)) == ["4", "3", "2", "1"]
        assert ids(store, Query("a")) == ["4", "2"]
        assert ids(store, Query(None, "x")) == ["3", "2"]
        assert get(store, "b", ns="x")[0].id == "3"
        assert get(store, "b")[0].id == "1"

    def test_order_of_two_stores(self, open_store: Callable[[], Store]) -> None:
        """Newest is what was applied last by any store over the data, also when something went in between."""
        if not self.shared:
            pytest.skip("this engine's data cannot be opened twice")
        one, two = open_store(), open_store()
        order: list[tuple[str, str]] = []

        def put(store: Store, thread_id: str, name: str, *parts: Part) -> None:
            done(store, of(thread_id, new(name, *parts), *(["chunk"] if parts else [])))
            order.append((thread_id, name))

        for turn in range(4):
            put(one, "t", f"{turn} one")
            put(two, "gone", f"{turn}")
            if turn % 2:
                put(two, "gone", f"{turn} too", One(chunk("chunk").digest), Many(None, fresh("chunk")))
            put(two, "t", f"{turn} two")
            put(two, "u", f"{turn} two")
            done(two, of("gone", DeleteThread() if turn < 2 else DeleteCheckpoints((("", f"{turn}"),))))
            order = [key for key in order if key != ("gone", f"{turn}") and (key[0] != "gone" or turn >= 2)]
            put(one, "t", f"{turn} one again")
            put(one, "u", f"{turn} one")
            for store in (one, two):
                assert get(store, "t")[0].id == f"{turn} one again"
                assert get(store, "u")[0].id == f"{turn} one"
        for store in (one, two):
            listed = [found for page in pages(store, Query(None)) for found in page.found]
            assert [(found.thread_id, found.id) for found in listed] == order[::-1]

    def test_the_same_id_elsewhere(self, store: Store) -> None:
        """Threads and namespaces do not see one another's checkpoints and writes."""
        for name, ns in (("a", ""), ("a", "x"), ("b", "")):
            done(store, of(name, new("1", Inline("", f"{name}{ns}".encode()), ns=ns)))
            done(store, of(name, writes("1", Inline("", f"write {name}{ns}".encode()), ns=ns)))
        for name, ns in (("a", ""), ("a", "x"), ("b", "")):
            assert get(store, name, "1", ns)[1] == [Inline("", f"{name}{ns}".encode())]
            assert written(store, name, "1", ns) == [("task", [Inline("", f"write {name}{ns}".encode())])]

    # -- refs and epochs -------------------------------------------------------------------------------------------

    def test_refs_keep_their_meaning(self, open_store: Callable[[], Store]) -> None:
        """A ref can be used again for as long as the epoch is the same, by any store over the data."""
        store = open_store()
        texts = [f"text {n}" for n in range(6)]
        many = Many(None, (*fresh(*texts[:3]), *fresh("bunch", count=4)))
        parts = (Inline("", b"i"), One(chunk("one").digest), many)
        (first,) = done(store, of("t", new("1", *parts), *texts, "one", "bunch"))
        done(store, of("other", new("1", many), *texts, "bunch"))
        done(store, of("t", new("2")), of("t", writes("1", One(chunk("w").digest)), "w"), of("other", DeleteThread()))
        second = open_store() if self.shared else store
        known = tuple(map(Known, first.refs))
        pieces = (Fresh(b"", 1, first.chunks[chunk("text 5").digest]), *fresh("text 6"))
        again = new("3", *known, One(b"", first.chunks[chunk("one").digest]), Many(None, pieces))
        (stored,) = done(second, of("t", again, "text 6", epoch=first.epoch))
        assert stored.epoch == first.epoch
        whole = [("text 0", 1), ("text 1", 1), ("text 2", 1), ("bunch", 4)]
        expected = [Inline("", b"i"), "one", whole, "one", [("text 5", 1), ("text 6", 1)]]
        assert get(store, "t", "3")[1] == get(second, "t", "3")[1] == expected

    def test_a_chunk_that_is_there_already(self, store: Store) -> None:
        """A chunk that comes a second time, in one batch or in two, is stored once and has one ref."""
        (first,) = done(store, of("t", new("1", One(chunk("c").digest), One(chunk("c").digest)), "c", "c"))
        (second,) = done(store, of("t", new("2", Many(None, fresh("c", "c"))), "c"))
        assert first.chunks[chunk("c").digest] == second.chunks[chunk("c").digest]
        assert get(store, "t", "1")[1] == ["c", "c"]
        assert get(store, "t", "2")[1] == [[("c", 1), ("c", 1)]]
        stored = self.digests(store)
        assert stored is None or stored == {"t": [chunk("c").digest]}

    @pytest.mark.parametrize("work", [DeleteThread(), DeleteCheckpoints((("", "1"),))], ids=["thread", "checkpoints"])
    def test_a_deletion_changes_the_epoch(self, work: Work, store: Store) -> None:
        """After something of a thread was taken away a batch that rests on the old epoch is Stale, for ever."""
        (first,) = done(store, of("t", new("1", One(chunk("c").digest)), "c"))
        (second,) = done(store, of("t", new("2")))
        assert second.epoch == first.epoch
        done(store, of("t", work))
        for _ in range(3):
            assert store.commit([of("t", new("3", Known(first.refs[0])), epoch=first.epoch)]) == [Stale()]
            assert store.commit([of("t", writes("2", Known(first.refs[0])), epoch=first.epoch)]) == [Stale()]
            (later,) = done(store, of("t", new("4")))
            assert later.epoch != first.epoch

    def test_an_epoch_of_a_thread_that_is_not_there(self, store: Store) -> None:
        """A batch that rests on an epoch of a thread that was never there is Stale, and makes no thread."""
        assert store.commit([of("t", new("1"), epoch=1), of("t", writes("1"), epoch=1)]) == [Stale(), Stale()]
        assert ids(store, Query(None)) == []

    # -- reading ---------------------------------------------------------------------------------------------------

    def test_pages(self, store: Store) -> None:
        """A long listing comes in pages that end, with nothing twice or left out, also while more is stored."""
        for number in range(0, 200, 20):
            done(store, *(of("t", new(f"{n:03}", Inline("", b"%d" % n))) for n in range(number, number + 20)))
        seen: list[str] = []
        count = 0
        for page in pages(store, Query("t")):
            count += 1
            seen += [found.id for found in page.found]
            done(store, of("t", new(f"new {count}")))
        assert seen == [f"{n:03}" for n in range(199, -1, -1)]
        assert count > 1
        assert ids(store, Query("t", limit=150))[-1] == f"{200 + count - 150:03}"

    def test_pages_before_a_checkpoint(self, store: Store) -> None:
        """What was put before a checkpoint, whatever the ids, is found page after page."""
        names = [f"{n * 37 % 200:03}" for n in range(200)]
        for name in names:
            done(store, of("t", new(name)))
        assert ids(store, Query("t", before=names[180])) == names[179::-1]
        assert ids(store, Query("t", "", before=names[180], limit=100)) == names[179:79:-1]

    def test_what_a_query_finds(self, store: Store) -> None:
        """`before`, `where`, `limit` and the id narrow a query down, alone and together."""
        for n in range(10):
            done(store, of("t", new(f"{n}", ns="x" * (n % 2), metadata=f'{{"n": {n}}}')), of("u", new(f"{n}")))
        assert ids(store, Query("t", before="6")) == ["5", "4", "3", "2", "1", "0"]
        assert ids(store, Query("t", "x", before="6", limit=2)) == ["5", "3"]
        assert ids(store, Query("t", where=lambda metadata: metadata in ('{"n": 3}', '{"n": 8}'))) == ["8", "3"]
        assert ids(store, Query("t", where=lambda metadata: "8" in metadata, limit=1)) == ["8"]
        assert ids(store, Query("t", checkpoint_id="4")) == ["4"]
        assert ids(store, Query(None, checkpoint_id="4")) == ["4", "4"]
        assert ids(store, Query("t", "x", "4", limit=1)) == []
        assert ids(store, Query("nobody")) == []
        assert ids(store, Query("nobody", "", limit=1)) == []

    def test_a_lineage(self, store: Store) -> None:
        """A lineage is the checkpoint and its ancestors, nearest first, without the branches beside it."""
        for n in range(150):
            done(store, of("t", new(f"{n:03}", parent=f"{n - 1:03}" if n else None)))
            if n % 10 == 5:
                done(store, of("t", new(f"branch {n}", parent=f"{n:03}")))
        found: list[str] = []
        start: str | None = "140"
        while start is not None:
            page = store.read(Query("t", "", start, lineage=True, contents="writes"))
            found += [one.id for one in page.found]
            start = page.cursor
        assert found == [f"{n:03}" for n in range(140, -1, -1)]

    def test_contents(self, store: Store) -> None:
        """A page brings the contents that were asked for, and none of those that the caller has."""
        (stored,) = done(store, of("t", new("1", One(chunk("a").digest), Many(None, fresh("b"))), "a", "b"))
        (wrote,) = done(store, of("t", writes("1", One(chunk("w").digest)), "w"))
        query = Query("t", "", "1", limit=1)
        assert store.read(query).contents.keys() == {*stored.refs, *wrote.refs}
        assert store.read(query._replace(contents="writes")).contents.keys() == set(wrote.refs)
        assert store.read(query._replace(contents="none", limit=None)).contents.keys() == set()

        def has(thread_id: str, ns: str, epoch: int, ref: Ref) -> bool:
            assert (thread_id, ns, epoch) == ("t", "", stored.epoch)
            return bool(ref == stored.refs[1])

        page = store.read(query._replace(has=has))
        assert page.contents.keys() == {stored.refs[0], *wrote.refs}
        assert page.found[0].refs == stored.refs

    def test_a_chunk_comes_once_a_page(self, store: Store) -> None:
        """However many checkpoints of a page share a chunk, the page has it once."""
        (stored,) = done(store, of("t", new("0", Many(None, fresh("a", "b"))), "a", "b"))
        for n in range(1, 20):
            part = Many(stored.refs[0], (Span(0, 2), *fresh(f"{n}")))
            done(store, of("t", new(f"{n}", part), f"{n}", epoch=stored.epoch))
        page = store.read(Query("t"))
        assert len(page.found) == 20
        assert sorted(one.data for one in page.chunks.values()) == sorted(
            [b"a", b"b", *(b"%d" % n for n in range(1, 20))]
        )

    def test_a_read_sees_one_moment(self, store: Store) -> None:
        """What is stored and deleted while a read is under way is not part of it, and does not have to wait for it."""
        if not self.shared:
            pytest.skip("this engine reads and writes in turns")
        for n in range(5):
            parts = (One(chunk(f"{n}").digest), Many(None, fresh(f"list {n}")))
            done(store, of("t", new(f"{n}", *parts), f"{n}", f"list {n}"))
            done(store, of("t", writes(f"{n}", Inline("", b"w"))))
        meanwhile: list[list[Outcome]] = []
        with ThreadPoolExecutor(1) as other:

            def where(metadata: str) -> bool:
                if not meanwhile:
                    works: list[Work] = [new("5"), writes("2", Inline("", b"new")), DeleteCheckpoints((("", "1"),))]
                    meanwhile.append(other.submit(store.commit, [of("t", work) for work in works]).result(30))
                    meanwhile.append(other.submit(store.commit, [of("t", DeleteThread())]).result(30))
                return True

            page = store.read(Query("t", where=where))
        assert [len(outcomes) for outcomes in meanwhile] == [3, 1]
        assert [found.id for found in page.found] == ["4", "3", "2", "1", "0"]
        for found in page.found:
            assert [value(page, ref) for ref in found.refs] == [found.id, [(f"list {found.id}", 1)]]
            assert [len(call.entries) for call in found.writes] == [1]
        assert ids(store, Query("t")) == []

    def test_runs(self, store: Store) -> None:
        """The checkpoints of some runs are found wherever they are."""
        done(store, of("a", new("1", run_id="r")), of("a", new("2", run_id="s")), of("b", new("3", ns="x", run_id="r")))
        done(store, of("b", new("4")), of("b", writes("5", Inline("", b"w"))))
        assert sorted(store.runs(["r"])) == [("a", "", "1"), ("b", "x", "3")]
        assert sorted(store.runs(["r", "s", "nobody"])) == [("a", "", "1"), ("a", "", "2"), ("b", "x", "3")]
        assert store.runs([]) == []

    # -- copied from elsewhere -------------------------------------------------------------------------------------

    @pytest.mark.parametrize("work", [DeleteThread(), DeleteCheckpoints((("", "1"),))], ids=["thread", "checkpoints"])
    def test_a_copied_checkpoint_is_no_late_one(self, work: Work, store: Store) -> None:
        """What is copied goes in though its parent, or it itself, was deleted, and takes what goes on from it."""
        done(store, of("t", new("1")), of("t", new("kept")))
        done(store, of("t", work))
        late = new("2", One(chunk("c").digest), parent="1")
        refused = store.commit([of("t", late, "c"), of("t", writes("1"))])
        assert [type(one) for one in refused] == [ThreadDeletedError] * 2
        done(store, of("t", late._replace(copied=True), "c"))
        assert get(store, "t")[1] == ["c"]
        assert get(store, "t")[0].parent == "1"
        done(store, of("t", writes("2", Inline("", b"w"))))
        done(store, of("t", new("1")._replace(copied=True)), of("t", writes("1")), of("t", new("3", parent="1")))
        assert ids(store, Query("t"))[:3] == ["3", "1", "2"]

    def test_a_copied_checkpoint_on_an_old_epoch(self, store: Store) -> None:
        """That a checkpoint is copied does not bring back what it rests on."""
        (first,) = done(store, of("t", new("1", One(chunk("c").digest)), "c"))
        done(store, of("t", DeleteThread()))
        copied = new("2", Known(first.refs[0]), parent="1")._replace(copied=True)
        assert store.commit([of("t", copied, epoch=first.epoch)]) == [Stale()]
        assert ids(store, Query("t")) == []

    # -- the other verbs -------------------------------------------------------------------------------------------

    def test_threads(self, open_store: Callable[[], Store]) -> None:
        """Every thread that has something is told, once, by every store over the data; none that never had anything."""
        store = open_store()
        assert store.threads() == []
        done(store, of("b", new("1")), of("a ü", new("1", ns="x")), of("b", new("2")), of("c", writes("1")))
        assert store.commit([of("stale", new("1"), epoch=1)]) == [Stale()]
        get(store, "b")
        ids(store, Query("nobody"))
        assert sorted(store.threads()) == ["a ü", "b", "c"]
        done(store, of("b", CopyThread("copy")), of("c", DeleteThread()), of("nobody", DeleteThread()))
        for one in (store, open_store()) if self.shared else (store,):
            threads = one.threads()
            assert len(threads) == len(set(threads))
            assert {"a ü", "b", "copy"} <= set(threads) <= {"a ü", "b", "copy", "c"}

    def test_nothing_is_damaged(self, open_store: Callable[[], Store]) -> None:
        """Of what was stored, deleted and copied nothing is damaged, nor of a thread that is not there."""
        store = open_store()
        assert store.check(None) == store.check("t") == []
        large = "large " * 20_000
        many = Many(None, (*fresh("a", "b"), *fresh("bunch", count=7)))
        for name in ("t", "u", "gone"):
            done(store, of(name, new("1", many, One(chunk(large).digest)), "a", "b", "bunch", large))
            done(store, of(name, writes("1", One(chunk("w").digest)), "w"), of(name, new("2", many), "a", "b", "bunch"))
        done(store, of("t", CopyThread("copy")), of("t", DeleteCheckpoints((("", "1"),))), of("gone", DeleteThread()))
        store.secret("a", b"secret")
        store.settle()
        for one in (store, open_store()) if self.shared else (store,):
            assert [one.check(name) for name in (None, "t", "u", "copy", "gone", "nobody")] == [[]] * 6

    def test_a_secret(self, open_store: Callable[[], Store]) -> None:
        """The first secret of a name stays, for every store over the data."""
        store = open_store()
        assert store.secret("a", b"\x00first") == b"\x00first"
        assert store.secret("a", b"second") == b"\x00first"
        assert store.secret("b", b"second") == b"second"
        if self.shared:
            assert open_store().secret("a", b"third") == b"\x00first"

    def test_what_is_stored_stays(self, tmp_path: Path) -> None:
        """A store that is opened after another was closed has what that one stored."""
        if not self.shared:
            pytest.skip("this engine keeps nothing")
        first = self.make(tmp_path)
        done(first, of("t", new("1", Many(None, fresh("a", count=2))), "a"), of("t", writes("1", Inline("", b"w"))))
        first.close()
        second = self.make(tmp_path)
        assert get(second, "t", "1")[1] == [[("a", 2)]]
        assert written(second, "t", "1") == [("task", [Inline("", b"w")])]
        second.close()

    def test_many_threads(self, store: Store) -> None:
        """Every verb may be called from any thread, and all at once."""
        barrier = threading.Barrier(6)

        def run(number: int) -> None:
            barrier.wait(30)
            for n in range(20):
                name = f"{number}"
                done(store, of(name, new(f"{n}", One(chunk(f"{n}").digest)), f"{n}"), of("all", new(f"{number}-{n}")))
                assert get(store, name)[1] == [f"{n}"]
                assert store.secret("name", name.encode()) in {b"%d" % one for one in range(6)}
                if n % 5 == 4:
                    done(store, of(name, DeleteCheckpoints((("", f"{n - 1}"),))))
                    store.settle()
                    assert store.runs(["nobody"]) == []

        with ThreadPoolExecutor(6) as pool:
            for future in [pool.submit(run, number) for number in range(6)]:
                future.result(60)
        assert sorted(ids(store, Query("all"))) == sorted(f"{number}-{n}" for number in range(6) for n in range(20))

    def test_settling(self, store: Store) -> None:
        """Giving room back changes nothing that is stored."""
        for n in range(30):
            done(store, of(f"{n}", new("1", One(chunk(f"{n}" * 3000).digest)), f"{n}" * 3000))
        for n in range(0, 30, 2):
            done(store, of(f"{n}", DeleteThread()))
        store.settle()
        store.settle()
        assert [get(store, f"{n}")[1] for n in range(1, 30, 2)] == [[f"{n}" * 3000] for n in range(1, 30, 2)]

    def test_closing(self, store: Store) -> None:
        """A closed store can be closed again, and does nothing else."""
        done(store, of("t", new("1")))
        store.close()
        store.close()
        verbs: list[Callable[[], Any]] = [
            lambda: store.commit([of("t", new("2"))]),
            lambda: store.read(Query("t")),
            lambda: store.runs(["run"]),
            store.threads,
            lambda: store.check(None),
            lambda: store.secret("a", b"b"),
        ]
        for verb in verbs:
            with pytest.raises(ClosedError):
                verb()
