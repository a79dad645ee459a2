"""How threads stand now: what was written down, and whether who runs them is still there.

A thread of which nothing was written down (an official saver stored it, or an early release) is read, and judged by
the same table.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple, cast

from langgraph_durable.core import marks, status
from langgraph_durable.core.flows import get_tuple
from langgraph_durable.core.leases import Holder, held_by
from langgraph_durable.core.metadata import where
from langgraph_durable.core.plan import check_text
from langgraph_durable.core.records import Event, Standing, Stood, ThreadQuery
from langgraph_durable.core.requests import FindNode, Flow, LookAfter, Session
from langgraph_durable.errors import BusyError, ClosedError, InvalidRequestError

MOST = 2**31 - 1

PAGE = 256
"""Threads that are asked for at once where some of them may not be wanted."""


class Thread(NamedTuple):
    """How a thread stands now, with the failure that `standing` has sealed, and who runs it."""

    stood: Stood
    standing: Standing | None
    seen: status.Seen
    failure: marks.Failure | None
    holder: Holder | None


def find_threads(
    session: Session,
    *,
    wanted: Sequence[str] | None,
    metadata: Mapping[str, Any] | None,
    order: str,
    limit: int | None,
    after: str | None,
) -> Flow[tuple[list[Thread], str | None]]:
    """Threads, and where to go on; None where those were all, for which one more than `limit` is looked for."""
    if limit is not None and not 0 <= limit <= MOST:
        raise InvalidRequestError(f"limit must be 0 to {MOST}, and it is {limit}; None means no limit")
    if order not in ("updated", "created", "id"):
        raise InvalidRequestError(f"order must be 'updated', 'created' or 'id', and it is {order!r}")
    for one in wanted or ():
        if one not in status.STATUSES:
            raise InvalidRequestError(f"status must be one of {', '.join(status.STATUSES)}, and it is {one!r}")
    found: list[Thread] = []
    # Who is gone is stored as busy.
    stored = None if wanted is None else tuple({"busy" if one == "crashed" else one for one in wanted})
    query = ThreadQuery(
        None,
        "",
        stored,
        where(metadata),
        cast(Any, order),
        None,
        _opened(after),
    )
    while limit != 0:
        size = None if limit is None else (PAGE if wanted or metadata else limit + 1 - len(found))
        page: list[Stood] = yield query._replace(limit=size)
        for thread in (yield from _looked_at(session, page)):
            query = query._replace(after=thread.stood.place)
            if wanted is not None and thread.seen.status not in wanted:
                continue
            if len(found) == limit:
                return found, _sealed(found[-1].stood.place)
            found.append(thread)
        if size is None or len(page) < size:
            break
    return found, None


def find_thread(session: Session, thread_id: str, ns: str = "") -> Flow[Thread | None]:
    """How one thread stands; None where there is none."""
    check_text("the call", thread_id, ns)
    page: list[Stood] = yield ThreadQuery(thread_id, ns)
    threads = yield from _looked_at(session, page)
    return threads[0] if threads else None


def currently(session: Session, thread_id: str | None, ns: str | None) -> Flow[dict[tuple[str, str, str], str]]:
    """The status of those newest checkpoints that it is not written down of: who is busy may be gone."""
    namespaces: list[Stood] = yield ThreadQuery(thread_id, ns, ("busy",))
    return {
        (thread.stood.thread_id, thread.stood.ns, thread.standing.checkpoint_id): thread.seen.status
        for thread in (yield from _looked_at(session, [one for one in namespaces if one.standing is not None]))
        if thread.standing is not None
    }


def before_node(session: Session, thread_id: str, node: str, occurrence: int, ns: str = "") -> Flow[str]:
    """The id of the checkpoint before a node ran. InvalidRequestError when it never was next."""
    check_text("the call", thread_id, node, ns)
    if not -MOST <= occurrence <= MOST:
        raise InvalidRequestError(f"occurrence must be {-MOST} to {MOST}, and it is {occurrence}")
    found: str | None = yield FindNode(thread_id, ns, node, occurrence)
    if found is None:
        some: str | None = yield FindNode(thread_id, ns, node, -1)
        times = "not that often" if some is not None else "never"
        raise InvalidRequestError(
            f"node {node!r} was {times} next in thread {thread_id!r} (occurrence {occurrence}, counted from 0 for the "
            "first and from -1 back from the last); `langgraph-durable show` lists its steps"
        )
    return found


def _looked_at(session: Session, page: Sequence[Stood]) -> Flow[list[Thread]]:
    """What is seen of threads now."""
    now = session.here.clock()
    holders = [None if one.lease is None else held_by(one.lease) for one in page]
    found: list[Standing | None] = []
    troubles: list[Exception | None] = []
    for one in page:
        standing = one.standing
        trouble: Exception | None = None
        if standing is None and one.place[0] != 0:
            try:
                standing = yield from _judged(session, one.thread_id, one.ns)
            except (BusyError, ClosedError):
                raise
            except Exception as error:  # noqa: BLE001  one thread that cannot be read must not hide the others
                trouble = error
        found.append(standing)
        troubles.append(trouble)
    processes = {holder.by for holder in holders if holder is not None}
    processes |= {standing.by for standing in found if standing is not None and standing.status == "busy"}
    alive: Mapping[str, bool | None] = (yield LookAfter(tuple(processes - {""}))) if processes - {""} else {}
    threads = []
    for one, standing, holder, trouble in zip(page, found, holders, troubles, strict=True):
        by = holder.by if holder is not None else standing.by if standing is not None else ""
        seen = status.seen(standing, expires=holder and holder.expires, alive=alive.get(by), now=now)
        failure = None
        if trouble is not None:
            seen, failure = status.Seen("error", "unreadable"), marks.failure(trouble)
        elif standing is not None and standing.error is not None:
            try:
                failure = marks.opened_failure(session.codec, standing.error)
            except Exception as error:  # noqa: BLE001  it was sealed with another key, or is damaged
                failure = marks.Failure("", f"(what it was cannot be read: {error})", "")
        threads.append(Thread(one, standing, seen, failure, holder))
    return threads


def _judged(session: Session, thread_id: str, ns: str) -> Flow[Standing | None]:
    """The standing of a thread of which it is not written down."""
    found = yield from get_tuple(session, {"configurable": {"thread_id": thread_id, "checkpoint_ns": ns}})
    if found is None:
        return None
    time = _seconds(found.checkpoint.get("ts"))
    made = marks.mark(found.checkpoint, found.metadata, time=time, by="", copied=True)
    run_id = found.metadata.get("run_id")
    standing = status.put(None, made, found.checkpoint["id"], None, run_id and str(run_id), 0, again=False)
    standing = standing._replace(created=None, reason="unknown" if standing.reason == "copy" else standing.reason)
    calls: dict[str, list[tuple[str, Any]]] = {}
    for task_id, channel, value in found.pending_writes or ():
        calls.setdefault(task_id, []).append((channel, value))
    for writes in calls.values():
        said = marks.happened(writes, "", None)
        if said is not None and said.move != "answered":
            error = marks.sealed_failure(session.codec, said.error) if said.error is not None else None
            told = status.wrote(standing, Event(time, said.move, (), error, ""), found.checkpoint["id"], 0)
            assert told is not None
            standing = told
    return standing


def _seconds(ts: Any) -> float:
    try:
        return datetime.fromisoformat(str(ts)).timestamp()
    except ValueError:
        return 0.0


def _sealed(place: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(place).encode()).decode()


def _opened(cursor: str | None) -> Any:
    if cursor is None:
        return None
    try:
        rank, value, thread_id = json.loads(base64.urlsafe_b64decode(cursor.encode()))
        if type(rank) is int and isinstance(value, (float, int, type(None))) and type(thread_id) is str:
            return rank, value, thread_id
    except (ValueError, TypeError, AttributeError):
        pass
    raise InvalidRequestError(f"cursor must be the one of an earlier page, and it is {cursor!r}")
