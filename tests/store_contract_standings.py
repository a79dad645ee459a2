"""The part of a store's contract that is about how threads stand, what is next in them, and who may write to them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from langgraph_durable.core import status
from langgraph_durable.core.records import (
    Batch,
    CopyThread,
    DeleteCheckpoints,
    DeleteThread,
    EndLease,
    Event,
    Fenced,
    Inline,
    KeepLease,
    Lease,
    Leased,
    LeaseWork,
    Mark,
    One,
    PutCheckpoint,
    PutWrites,
    Query,
    Standing,
    Stood,
    StopLease,
    Stored,
    Tag,
    TakeLease,
    ThreadQuery,
)
from langgraph_durable.errors import ThreadDeletedError
from langgraph_durable.stores.base import Store
from tests.stores import Opened, chunk, done, ids, new, of, writes

BOOM = Inline("z", b"\x00boom")


def marked(checkpoint_id: str, *following: str, time: float = 1.0, ns: str = "", **more: Any) -> PutCheckpoint:
    """A checkpoint after which these nodes are next."""
    made = Mark(time, "ran" if following else "finished", following, more.pop("step", 0), 2, "me")
    return new(checkpoint_id, ns=ns, **more)._replace(mark=made)


def told(checkpoint_id: str, move: str, *nodes: str, time: float = 2.0, error: Inline | None = None) -> PutWrites:
    """Writes of a task that say something of how the thread stands."""
    return writes(checkpoint_id, Inline("", b"x"), task=f"task {nodes}")._replace(
        event=Event(time, move, nodes, error, "me")
    )


def standing(store: Store, thread_id: str = "t", ns: str = "") -> Standing:
    """How a thread stands."""
    (stood,) = store.stood(ThreadQuery(thread_id, ns))
    assert stood.standing is not None
    return stood.standing


def names(store: Store, **query: Any) -> list[str]:
    """The threads that a query finds."""
    return [stood.thread_id for stood in store.stood(ThreadQuery(**query))]


def lease(store: Store, thread_id: str, work: LeaseWork) -> Leased | Fenced:
    """What became of a change of a lease."""
    (outcome,) = store.commit([Batch(thread_id, None, (), work)])
    assert isinstance(outcome, (Leased, Fenced))
    return outcome


def taken(store: Store, thread_id: str = "t", holder: str = "{}", instead: int | None = None) -> int:
    """The token of a lease that was to be had."""
    outcome = lease(store, thread_id, TakeLease(holder, instead))
    assert isinstance(outcome, Leased)
    assert outcome.lease is not None
    return outcome.lease.token


class StandingContract(Opened):
    """See `store_contract`."""

    # -- how a thread stands -----------------------------------------------------------------------------------------

    def test_a_thread_stands_as_its_newest_checkpoint_says(self, store: Store) -> None:
        """Every field of the standing follows from what was put."""
        done(store, of("t", marked("1", "agent", time=10.0, step=-1), "value"))
        done(store, of("t", marked("2", "tools", "more", time=11.5, step=3, run_id="run"), "other value"))
        found = standing(store)
        assert found._replace(bytes=0) == Standing(
            "busy", "", ("tools", "more"), None, "2", 3, 10.0, 11.5, "run", "me", 2, 2, 0
        )
        assert found.bytes >= len("valueother value")
        done(store, of("t", marked("3", time=12.0)))
        assert standing(store)[:3] == ("idle", "", ())

    def test_standings_are_one_for_all_who_look(self, open_store: Callable[[], Store]) -> None:
        """Stores over the same data go on from one another's standings."""
        one, two = open_store(), open_store()
        done(one, of("t", marked("1", "a")))
        done(two, of("t", marked("2", "b")))
        done(one, of("t", marked("3", "c")), of("t", marked("4", "d")))
        for store in (one, two, open_store()):
            assert (standing(store).nodes, standing(store).checkpoints) == (("d",), 4)

    def test_a_task_that_failed(self, store: Store) -> None:
        """Writes that tell of an error make it one, with the node and what was raised, until there is progress."""
        done(store, of("t", marked("1", "a", "b")), of("t", told("1", "raised", "a", error=BOOM)))
        assert standing(store)[:4] == ("error", "exception", ("a",), BOOM)
        done(store, of("t", writes("1", Inline("", b"of b"), task="b")))
        assert standing(store).status == "error"
        done(store, of("t", marked("2", "c")))
        assert standing(store)[:4] == ("busy", "", ("c",), None)

    def test_what_comes_before_its_checkpoint(self, store: Store) -> None:
        """An event that overtakes its checkpoint counts when that is there, and not for another one."""
        done(store, of("t", marked("1", "a")), of("t", told("2", "asked", "b")))
        assert standing(store).status == "busy"
        done(store, of("t", marked("2", "b")))
        assert standing(store)[:3] == ("interrupted", "node", ("b",))
        done(store, of("t", marked("3", "c")))
        assert standing(store).status == "busy"

    def test_what_comes_before_any_checkpoint(self, store: Store) -> None:
        """An event may be the first that is stored of a thread, which is not there before its checkpoint is."""
        done(store, of("t", told("1", "raised", "a", error=BOOM)))
        assert store.stood(ThreadQuery()) == []
        done(store, of("t", marked("1", "a")))
        assert standing(store).status == "error"

    def test_put_again_counts_once(self, store: Store) -> None:
        """A checkpoint that is put again is no other one."""
        done(store, of("t", marked("1", "a")), of("t", marked("2", "b")))
        done(store, of("t", marked("1", "c")))
        assert (standing(store).nodes, standing(store).checkpoints) == (("b",), 2)
        done(store, of("t", marked("2")))
        assert (standing(store).status, standing(store).checkpoints) == ("idle", 2)

    def test_namespaces_stand_for_themselves(self, store: Store) -> None:
        """Each namespace has a standing, and the counts that are told are of all."""
        done(store, of("t", marked("1", "a")), of("t", marked("1", ns="a:1"), "value"), of("t", marked("2", ns="a:1")))
        assert standing(store).status == "busy"
        assert standing(store, ns="a:1").status == "idle"
        (root,) = store.stood(ThreadQuery("t"))
        assert (root.checkpoints, root.standing and root.standing.checkpoints) == (3, 1)
        assert root.bytes == standing(store).bytes + standing(store, ns="a:1").bytes
        assert len(store.stood(ThreadQuery("t", None))) == 2

    def test_what_was_stored_without_a_mark(self, store: Store) -> None:
        """A thread of which nobody said how it stands is told of as such, after all others."""
        done(store, of("a", new("1")), of("b", marked("1", "x")))
        assert [(one.thread_id, one.standing is None) for one in store.stood(ThreadQuery())] == [
            ("b", False),
            ("a", True),
        ]
        assert names(store, after=store.stood(ThreadQuery(limit=1))[0].place) == ["a"]
        assert names(store, after=store.stood(ThreadQuery())[1].place) == []
        done(store, of("a", marked("2", "y")))
        assert (standing(store, "a").created, standing(store, "a").checkpoints) == (None, 2)

    def test_a_checkpoint_that_says_nothing(self, store: Store) -> None:
        """After one without a mark nobody knows how its thread stands, until the next one says so."""
        done(store, of("t", marked("1", "a")), of("t", told("1", "raised", "a")))
        done(store, of("t", new("2")))
        assert store.stood(ThreadQuery("t"))[0].standing is None
        done(store, of("t", marked("3", "c")))
        assert (standing(store).status, standing(store).checkpoints) == ("busy", 3)

    # -- lists of threads ----------------------------------------------------------------------------------------------

    def test_an_order_a_page_at_a_time(self, store: Store) -> None:
        """Threads come in the order asked for, whatever the size of the pages, each once."""
        for n in range(30):
            thread_id = f"{n * 7 % 30:02}"
            done(store, of(thread_id, marked("1", time=float(n % 10))))
            if n % 3 == 0:
                done(store, of(thread_id, marked("2", time=100.0 + n)))
        order: Any
        for order in ("updated", "created", "id"):
            whole = store.stood(ThreadQuery(order=order))
            assert len(whole) == 30
            paged: list[Stood] = []
            while page := store.stood(ThreadQuery(order=order, limit=7, after=paged[-1].place if paged else None)):
                paged += page
            assert paged == whole
            standings = [one.standing for one in whole if one.standing is not None]
            times = [one.updated if order == "updated" else one.created or 0.0 for one in standings]
            if order == "id":
                assert [one.thread_id for one in whole] == sorted(one.thread_id for one in whole)
            else:
                assert times == sorted(times, reverse=True)

    def test_threads_by_status_and_metadata(self, store: Store) -> None:
        """Only threads come that stand so, and whose newest metadata are wanted."""
        done(store, of("busy", marked("1", "a", metadata='{"k": 1}')), of("idle", marked("1", metadata='{"k": 1}')))
        done(store, of("error", marked("1", "a", metadata='{"k": 2}')), of("error", told("1", "raised", "a")))
        assert set(names(store, status=("busy", "error"))) == {"busy", "error"}
        assert names(store, status=("interrupted",)) == []
        assert set(names(store, where=lambda metadata: '"k": 1' in metadata)) == {"busy", "idle"}
        assert names(store, status=("error",), where=lambda metadata: '"k": 1' in metadata) == []
        assert names(store, thread_id="nobody") == []

    def test_tags(self, store: Store) -> None:
        """A listing is told with each checkpoint what happened at it, and how the newest one stands."""
        done(store, of("t", marked("1", "a")), of("t", told("1", "raised", "a")))
        done(store, of("t", marked("2", "b")), of("t", marked("3")), of("t", marked("4", "d")))
        seen: list[Tag] = []

        def look(metadata: str, tag: Tag) -> bool:
            seen.append(tag)
            return tag.status == "error"

        assert ids(store, Query("t", where=look, tagged=True)) == ["1"]
        assert seen == [
            Tag("t", "", "4", "busy"),
            Tag("t", "", "3", "idle"),
            Tag("t", "", "2", ""),
            Tag("t", "", "1", "error"),
        ]

    def test_the_checkpoint_before_a_node(self, store: Store) -> None:
        """The checkpoints before which a node was next are counted from the first, and back from the last."""
        for n in range(20):
            done(store, of("t", marked(f"{n:02}", "agent" if n % 2 == 0 else "tools", "always")))
        assert [store.node("t", "", "tools", n) for n in (-1, -2, 0, 1, 9, 10, -10, -11)] == [
            *("19", "17", "01", "03", "19", None, "01", None)
        ]
        assert store.node("t", "", "always", 7) == "07"
        assert store.node("t", "x", "tools", -1) is store.node("nobody", "", "tools", -1) is None
        assert store.node("t", "", "", -1) is None

    # -- deletions and copies ------------------------------------------------------------------------------------------

    def test_what_a_deletion_leaves(self, store: Store) -> None:
        """Counts are of what is left, and how a thread stands is what the newest that is left says, or unknown."""
        for n in range(6):
            done(store, of("t", marked(f"{n}", "a" if n % 2 else "b", time=float(n)), f"value {n}"))
        before = standing(store)
        done(store, of("t", DeleteCheckpoints((("", "0"), ("", "1")))))
        after = standing(store)
        assert (after.checkpoints, after.nodes, after.created) == (4, before.nodes, 0.0)
        assert after.bytes < before.bytes
        assert (store.node("t", "", "b", 0), store.node("t", "", "a", -1)) == ("2", "5")
        done(store, of("t", DeleteCheckpoints((("", "5"),))))
        (left,) = store.stood(ThreadQuery("t"))
        assert left.standing is None or left.standing.checkpoint_id == "4"
        done(store, of("t", DeleteThread()))
        assert store.stood(ThreadQuery()) == []
        assert store.node("t", "", "a", -1) is None
        done(store, of("t", marked("new", "a", time=50.0)))
        assert (standing(store).created, standing(store).checkpoints) == (50.0, 1)

    def test_a_copy_is_run_by_nobody(self, store: Store) -> None:
        """A copy stands as the thread did, but it is not busy."""
        done(store, of("t", marked("1", "a")), of("t", marked("2", "b"), "value"))
        done(store, of("t", CopyThread("copy")))
        assert standing(store, "copy")[:3] == ("interrupted", "copy", ("b",))
        assert standing(store, "copy").checkpoints == 2
        assert store.node("copy", "", "a", -1) == "1"
        done(store, of("t", told("2", "raised", "b", error=BOOM)), of("t", CopyThread("other")))
        assert standing(store, "other")[:4] == ("error", "exception", ("b",), BOOM)

    # -- leases ---------------------------------------------------------------------------------------------------

    def test_one_lease_at_a_time(self, open_store: Callable[[], Store]) -> None:
        """A lease is taken by naming the one that it replaces, or none; everybody else is told who has it."""
        one, two = open_store(), open_store()
        token = taken(one, holder='"one"')
        assert lease(two, "t", TakeLease('"two"', None)) == Fenced(Lease(token, '"one"'))
        assert lease(two, "t", TakeLease('"two"', token + 1)) == Fenced(Lease(token, '"one"'))
        other = taken(two, holder='"two"', instead=token)
        assert other > token
        assert lease(one, "t", KeepLease(token, '"still one"')) == Fenced(Lease(other, '"two"'))
        assert lease(one, "t", EndLease(token, None)) == Fenced(Lease(other, '"two"'))
        assert lease(two, "t", KeepLease(other, '"still two"')) == Leased(Lease(other, '"still two"'))
        assert lease(one, "t", TakeLease("{}", None)) == Fenced(Lease(other, '"still two"'))
        assert lease(two, "t", EndLease(other, None)) == Leased(None)
        assert taken(one) > other

    def test_writes_need_the_token(self, open_store: Callable[[], Store]) -> None:
        """What is put with another token than the lease's, or without it, is not stored, whoever puts it first."""
        one, two = open_store(), open_store()
        done(one, of("t", marked("0", "a")))
        done(two, of("t", marked("1", "a")))
        token = taken(two)
        works: tuple[PutCheckpoint | PutWrites, ...] = (marked("2", "b"), writes("1", One(chunk("w").digest)))
        for work in works:
            for store in (one, two):
                for wrong in (None, token + 1, 0):
                    (outcome,) = store.commit([of("t", work, "w")._replace(token=wrong)])
                    assert outcome == Fenced(Lease(token, "{}"))
        assert ids(one, Query("t")) == ["1", "0"]
        for work in works:
            done(one, of("t", work, "w")._replace(token=token))
            done(two, of("t", work, "w")._replace(token=token))
        assert lease(one, "t", EndLease(token, None)) == Leased(None)
        for store in (one, two):
            assert store.commit([of("t", marked("3"))._replace(token=token)]) == [Fenced(None)]
        done(one, of("t", marked("3")))

    def test_neighbours_of_a_fenced_batch(self, store: Store) -> None:
        """Batches of other runs and threads in the same call are stored."""
        token = taken(store)
        outcomes = store.commit(
            [
                of("t", marked("1", "a")),
                of("u", marked("1", "a")),
                of("t", marked("1", "a"))._replace(token=token),
                of("t", marked("2", "a"))._replace(token=token - 1),
            ]
        )
        assert [type(outcome) for outcome in outcomes] == [Fenced, Stored, Stored, Fenced]
        assert ids(store, Query("t")) == ["1"]

    def test_writes_made_whole_keep_their_token(self, store: Store) -> None:
        """A batch of writes that has to bring all it names is stored under its lease."""
        done(store, of("t", marked("1", "a")))
        token = taken(store)
        whole = of("t", writes("1", One(chunk("w").digest)), "w")
        stale = whole._replace(epoch=7, whole=lambda: whole, token=token)
        done(store, stale)

    def test_a_run_that_is_asked_to_end(self, open_store: Callable[[], Store]) -> None:
        """Every write of it is stored, and is told so; the next lease knows nothing of it."""
        one, two = open_store(), open_store()
        assert lease(one, "t", StopLease()) == Leased(None)
        token = taken(one)
        done(one, of("t", marked("1", "a"))._replace(token=token))
        outcome = lease(two, "t", StopLease())
        assert outcome.lease is not None
        assert outcome.lease.token == token
        assert done(one, of("t", marked("2", "b"))._replace(token=token))[0].stop
        assert done(one, of("t", writes("2", Inline("", b"")))._replace(token=token))[0].stop
        kept = lease(one, "t", KeepLease(token, "{}"))
        assert kept.lease is not None
        assert kept.lease.stop
        other = taken(two, instead=token)
        assert not done(one, of("t", marked("3", "c"))._replace(token=other))[0].stop

    def test_who_has_it_is_listed(self, store: Store) -> None:
        """The lease comes with the thread, whatever its status; a thread that has nothing else comes first."""
        done(store, of("idle", marked("1")), of("other", marked("1")))
        token = taken(store, "idle", '"who"')
        new_token = taken(store, "new")
        assert [(one.thread_id, one.lease) for one in store.stood(ThreadQuery(status=("busy",)))] == [
            ("new", Lease(new_token, "{}")),
            ("idle", Lease(token, '"who"')),
        ]
        assert store.stood(ThreadQuery("new"))[0].standing is None
        assert set(names(store, after=store.stood(ThreadQuery(limit=1))[0].place)) == {"idle", "other"}
        lease(store, "new", EndLease(new_token, None))
        assert store.stood(ThreadQuery("new")) == []

    @pytest.mark.parametrize(
        "move", [move for move, to in status.MOVES.items() if to.status in ("interrupted", "error")]
    )
    def test_the_end_of_a_run(self, store: Store, move: str) -> None:
        """How a run ended is how its thread stands, stored with the end of its lease, and tags the checkpoint."""
        token = taken(store)
        done(store, of("t", marked("1", "a"))._replace(token=token))
        lease(store, "t", EndLease(token, Event(9.0, move, (), BOOM, "me")))
        (stood,) = store.stood(ThreadQuery("t"))
        assert stood.lease is None
        to = status.MOVES[move]
        assert stood.standing is not None
        assert (*stood.standing[:4], stood.standing.updated) == (to.status, to.reason, ("a",), BOOM, 9.0)
        done(store, of("t", marked("2", "b")))
        assert ids(store, Query("t", where=lambda _, tag: tag.status == to.status, tagged=True)) == ["1"]

    def test_a_late_end_changes_nothing(self, store: Store) -> None:
        """Who has lost the lease does not say how the thread stands."""
        token = taken(store)
        done(store, of("t", marked("1", "a"))._replace(token=token))
        other = taken(store, instead=token)
        assert lease(store, "t", EndLease(token, Event(9.0, "failed", (), BOOM, "me"))) == Fenced(Lease(other, "{}"))
        assert standing(store).status == "busy"

    def test_a_lease_goes_with_its_thread(self, store: Store) -> None:
        """A thread that is deleted while it is run: its run is told that it was deleted."""
        token = taken(store)
        done(store, of("t", marked("1", "a"))._replace(token=token))
        done(store, of("t", DeleteThread()))
        (outcome,) = store.commit([of("t", marked("2", "b", parent="1"))._replace(token=token)])
        assert isinstance(outcome, ThreadDeletedError)
        assert store.stood(ThreadQuery("t")) == []
        assert taken(store) > token

    def test_a_lease_does_not_go_with_a_copy(self, store: Store) -> None:
        """Who runs a thread does not run its copy, and pruning does not end a run."""
        token = taken(store)
        done(store, of("t", marked("1", "a"))._replace(token=token))
        done(store, of("t", marked("2", "b"))._replace(token=token))
        done(store, of("t", CopyThread("copy")), of("t", DeleteCheckpoints((("", "1"),))))
        done(store, of("copy", marked("3")))
        done(store, of("t", marked("3"))._replace(token=token))
