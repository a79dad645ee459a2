"""The part of a store's contract that is about lists, their versions, deletions and copies."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from langgraph_durable.core.records import (
    CopyThread,
    DeleteCheckpoints,
    DeleteThread,
    Fresh,
    Inline,
    Many,
    One,
    Page,
    Query,
    Ref,
    Span,
)
from langgraph_durable.errors import InvalidRequestError, ThreadDeletedError
from langgraph_durable.stores.base import Store
from tests.stores import Model, Opened, Pieces, chunk, done, fresh, get, ids, new, of, pages, value, writes, written


class ListContract(Opened):
    """See `store_contract`."""

    # -- versions of a list ----------------------------------------------------------------------------------------

    def test_versions_of_a_list(self, store: Store) -> None:
        """A version is what it keeps of its base and what is new, in any order, and leaves the base as it was."""
        texts = [f"{n}" for n in range(6)]
        (base,) = done(store, of("t", new("base", Many(None, fresh(*texts, count=2))), *texts))
        old: Pieces = [(text, 2) for text in texts]
        versions: dict[str, tuple[Sequence[Span | Fresh], Pieces]] = {
            "longer": ((Span(0, 12), *fresh("x", count=3)), [*old, ("x", 3)]),
            "shorter": ((Span(0, 4),), old[:2]),
            "the end": ((Span(8, 12),), old[4:]),
            "middle gone": ((Span(0, 4), Span(8, 12)), old[:2] + old[4:]),
            "middle replaced": ((Span(0, 4), *fresh("x", "y"), Span(6, 12)), [*old[:2], ("x", 1), ("y", 1), *old[3:]]),
            "in front": ((*fresh("x"), Span(0, 12)), [("x", 1), *old]),
            "moved": ((Span(6, 12), Span(0, 6)), old[3:] + old[:3]),
            "twice": ((Span(0, 4), Span(0, 4)), old[:2] * 2),
            "all new": (fresh("x"), [("x", 1)]),
            "the same": ((Span(0, 12),), old),
            "nothing": ((), []),
        }
        refs = {}
        for name, (pieces, _) in versions.items():
            (stored,) = done(store, of("t", new(name, Many(base.refs[0], tuple(pieces))), "x", "y", epoch=base.epoch))
            refs[name] = stored.refs[0]
        for name, (_, expected) in versions.items():
            assert get(store, "t", name)[1] == [expected], name
            longer = Many(refs[name], (Span(0, sum(count for _, count in expected)), *fresh("on top")))
            done(store, of("t", new(f"{name}, on", longer), "on top", epoch=base.epoch))
        for name, (_, expected) in versions.items():
            assert get(store, "t", f"{name}, on")[1] == [[*expected, ("on top", 1)]], name
            assert get(store, "t", name)[1] == [expected], name
        assert get(store, "t", "base")[1] == [old]

    def test_two_writers_extend_one_version(self, open_store: Callable[[], Store]) -> None:
        """Writers that go on from the same version, in one commit, in two, or in two stores, do not meet."""
        one = open_store()
        two = open_store() if self.shared else one
        (base,) = done(one, of("t", new("base", Many(None, fresh("a", "b", count=5))), "a", "b"))
        tips: dict[str, tuple[Ref, Pieces]] = {"base": (base.refs[0], [("a", 5), ("b", 5)])}
        dice = random.Random(3)
        for number in range(40):
            # Each turn two batches extend the same version, most often the newest one.
            name = list(tips)[-1] if dice.random() < 0.6 else dice.choice(list(tips))
            ref, pieces = tips[name]
            length = sum(count for _, count in pieces)
            batches = []
            for text in (f"{number} left", f"{number} right"):
                longer = Many(ref, (Span(0, length), *fresh(text, count=number % 3 + 1)))
                batches.append(of("t", new(text, longer), text, epoch=base.epoch))
            stored = done(one, *batches) if number % 2 else done(one, batches[0]) + done(two, batches[1])
            for text, outcome in zip((f"{number} left", f"{number} right"), stored, strict=True):
                tips[text] = (outcome.refs[0], [*pieces, (text, number % 3 + 1)])
        for text, (_, pieces) in tips.items():
            assert get(one, "t", text)[1] == get(two, "t", text)[1] == [pieces]
        listed = {found.id: value(page, found.refs[0]) for page in pages(one, Query("t")) for found in page.found}
        assert listed == {text: pieces for text, (_, pieces) in tips.items()}

    def test_a_version_in_very_many_pieces(self, store: Store) -> None:
        """A version that consists of hundreds of runs of its base reads like any other, and can be extended."""
        texts = [f"{n}" for n in range(400)]
        (stored,) = done(store, of("t", new("0", Many(None, fresh(*texts, count=3))), *texts))
        first = stored.refs[0]
        pieces: list[Span | Fresh] = []
        expected: Pieces = []
        for n in range(0, 400, 2):
            pieces.append(Span(3 * n, 3 * n + 3))
            expected.append((f"{n}", 3))
            if n % 50 == 0:
                pieces += fresh(f"new {n}", count=2)
                expected.append((f"new {n}", 2))
        new_texts = [f"new {n}" for n in range(0, 400, 50)]
        (stored,) = done(store, of("t", new("1", Many(first, tuple(pieces))), *new_texts, epoch=stored.epoch))
        assert get(store, "t")[1] == [expected]
        for n in range(2, 100):
            # A hole and something new each time: one more run.
            length = sum(count for _, count in expected)
            gone = expected[n]
            before = sum(count for _, count in expected[:n])
            change = Many(stored.refs[0], (Span(0, before), Span(before + gone[1], length), *fresh(f"more {n}")))
            expected = [*expected[:n], *expected[n + 1 :], (f"more {n}", 1)]
            (stored,) = done(store, of("t", new(f"{n}", change), f"more {n}", epoch=stored.epoch))
            assert get(store, "t")[1] == [expected]
        assert get(store, "t", "0")[1] == [[(text, 3) for text in texts]]

    # -- deleting and copying --------------------------------------------------------------------------------------

    def test_a_deleted_thread_stays_deleted(self, open_store: Callable[[], Store]) -> None:
        """What goes on from a deleted checkpoint is refused by every store over the data; a new beginning is not."""
        store = open_store()
        done(store, of("t", new("1")), of("t", new("2", ns="x")), of("t", writes("3", Inline("", b"w"))))
        done(store, of("t", DeleteThread()))
        for one in (store, open_store() if self.shared else store):
            for work in (
                new("4", parent="1"),
                new("2", parent="1"),
                new("4", parent="2", ns="x"),
                writes("1"),
                writes("2", ns="x"),
                writes("3", replaces=True),
            ):
                assert isinstance(one.commit([of("t", work)])[0], ThreadDeletedError), work
            assert ids(one, Query(None)) == []
        done(store, of("t", new("new")), of("t", new("newer", parent="new")), of("t", writes("new", Inline("", b"w"))))
        assert ids(store, Query("t")) == ["newer", "new"]
        assert isinstance(store.commit([of("t", writes("1"))])[0], ThreadDeletedError)

    def test_deleted_checkpoints(self, store: Store) -> None:
        """Checkpoints go with their writes, in the namespaces named, and nothing else goes."""
        for name in ("1", "2", "3"):
            for ns in ("", "x"):
                done(store, of("t", new(name, One(chunk(name + ns).digest), ns=ns), name + ns))
                done(store, of("t", writes(name, One(chunk(f"w{name}{ns}").digest), ns=ns), f"w{name}{ns}"))
        done(store, of("t", DeleteCheckpoints((("", "2"), ("x", "3"), ("", "nobody"), ("nowhere", "1")))))
        assert ids(store, Query("t", "")) == ["3", "1"]
        assert ids(store, Query("t", "x")) == ["2", "1"]
        for name, ns in (("1", ""), ("3", ""), ("1", "x"), ("2", "x")):
            assert get(store, "t", name, ns)[1] == [name + ns]
            assert written(store, "t", name, ns) == [("task", [f"w{name}{ns}"])]
        assert isinstance(store.commit([of("t", new("4", parent="2"))])[0], ThreadDeletedError)
        stored = self.digests(store)
        left = {chunk(text).digest for name in ("1", "3", "1x", "2x") for text in (name, f"w{name}")}
        assert stored is None or set(stored["t"]) == left
        done(store, of("t", DeleteCheckpoints((("", "1"), ("", "3"), ("x", "1"), ("x", "2")))))
        assert ids(store, Query(None)) == []
        assert (self.digests(store) or {}) == {}

    def test_a_copy(self, store: Store) -> None:
        """A copy has every checkpoint and write of its source in the same order, and lives on without it."""
        (one,) = done(store, of("t", new("b", Many(None, fresh("x", "y", count=2))), "x", "y"))
        done(store, of("t", new("a", Many(one.refs[0], (Span(0, 2), *fresh("z")))), "z", epoch=one.epoch))
        done(store, of("t", new("c", One(chunk("c").digest), ns="n", run_id="run"), "c"))
        done(store, of("t", writes("a", One(chunk("w").digest), Many(None, fresh("x", "v"))), "w", "x", "v"))
        done(store, of("t", CopyThread("copy")))
        source = list(pages(store, Query("t")))
        copy = list(pages(store, Query("copy")))

        def plain(found_pages: list[Page]) -> list[Any]:
            return [
                (
                    found._replace(thread_id="", refs=(), writes=(), epoch=0),
                    [value(page, ref) for ref in found.refs],
                    [
                        (call._replace(entries=()), [(n, name, value(page, ref)) for n, name, ref in call.entries])
                        for call in found.writes
                    ],
                )
                for page in found_pages
                for found in page.found
            ]

        before = plain(source)
        assert plain(copy) == before
        assert sorted(store.runs(["run"])) == [("copy", "n", "c"), ("t", "n", "c")]
        done(store, of("t", DeleteThread()))
        assert plain(list(pages(store, Query("copy")))) == before
        found, _ = get(store, "copy", "a")
        longer = Many(found.refs[0], (Span(0, 3), *fresh("on")))
        done(store, of("copy", new("d", longer, parent="a"), "on", epoch=found.epoch))
        assert get(store, "copy", "d")[1] == [[("x", 2), ("z", 1), ("on", 1)]]

    def test_copies_that_cannot_be(self, store: Store) -> None:
        """A thread that has something is not copied onto, and a thread that has nothing gives nothing."""
        done(store, of("a", new("1")), of("b", new("2")))
        for source, target in (("a", "b"), ("a", "a"), ("nobody", "a")):
            assert isinstance(store.commit([of(source, CopyThread(target))])[0], InvalidRequestError)
        done(store, of("nobody", CopyThread("new")))
        assert ids(store, Query(None)) == ["2", "1"]

    @pytest.mark.parametrize("seed", range(6))
    def test_anything_in_any_order(self, seed: int, open_store: Callable[[], Store]) -> None:
        """After any sequence of works what is stored is what was put and not deleted, down to the last chunk."""
        store = open_store()
        other = open_store() if self.shared else store
        model = Model(random.Random(seed), store, other)
        for step in range(90):
            model.step()
            if step % 15 == 14:
                model.check([self.digests(store)])
