"""What was recorded of the environments of a thread, read without its state."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from langgraph_durable.core.environments import FINGERPRINT, RECORD_HASH, HashOf
from langgraph_durable.core.metadata import loaded
from langgraph_durable.core.namespaces import is_beside
from langgraph_durable.core.reading import Reading
from langgraph_durable.core.records import Found, Page, Query
from langgraph_durable.core.requests import Flow, Session
from langgraph_durable.core.steps import time_of


class Recorded(NamedTuple):
    """What was recorded with a checkpoint, the first one that was made under it.

    `metadata` are the checkpoint's, which have the fingerprint among them. `record` is what its hash is of: `tools` by
    name, `model`, `graph`, `limits`, `extra` and `libraries`, None for what was not told; it is None itself where only
    the fingerprint was kept. `time` is in seconds since 1970, None where the id of the checkpoint tells none.
    """

    checkpoint_id: str
    step: int | None
    time: float | None
    metadata: Mapping[str, Any]
    record: dict[str, Any] | None


def recorded(
    session: Session, thread_id: str, checkpoint_id: str | None = None, known: str | None = None
) -> Flow[Recorded | None]:
    """What was recorded last on the way to a checkpoint (None: to the newest); None where nothing was.

    The record with the hash `known` is not read.
    """
    following = checkpoint_id
    if following is None:
        newest: Page = yield Query(thread_id, "", limit=1, contents="none")
        following = newest.found[0].id if newest.found else None
    passed: set[str] = set()
    while following is not None:
        page: Page = yield Query(thread_id, "", following, lineage=True, contents="none")
        for found in page.found:
            if (named := _hash(found)) is not None:
                return (yield from _with_record(session, found, wanted=named != known))
        following = page.cursor if page.cursor not in passed else None
        passed.add(following or "")
    return None


def history(session: Session, thread_id: str) -> Flow[list[Recorded]]:
    """What was recorded in a thread, whenever that changed: the first checkpoint of each, the oldest first."""
    found: list[Found] = []
    query: Query | None = Query(thread_id, "", contents="none")
    while query is not None:
        page: Page = yield query
        found += [one for one in page.found if _hash(one) is not None]
        query = query._replace(after=page.cursor) if page.cursor is not None else None
    made: list[Recorded] = []
    for place, one in enumerate(reversed(found)):
        if place == 0 or _hash(one) != _hash(found[-place]):
            made.append((yield from _with_record(session, one)))
    return made


def fingerprint_of(found: Recorded) -> dict[str, Any]:
    """What was recorded as metadata say it, the record with the hash."""
    made = {key: found.metadata[key] for key in FINGERPRINT if key in found.metadata}
    if found.record is not None:
        text = json.dumps(found.record, sort_keys=True, separators=(",", ":"))
        made[RECORD_HASH] = HashOf(found.metadata[RECORD_HASH], text)
    return made


def inside(session: Session, thread_id: str, checkpoint_id: str) -> Flow[list[str]]:
    """The namespaces of subgraphs that have begun at a checkpoint of the thread's own."""

    def begun(metadata: str) -> bool:
        return checkpoint_id in metadata and ((loaded(metadata) or {}).get("parents") or {}).get("") == checkpoint_id

    found: dict[str, None] = {}
    query: Query | None = Query(thread_id, contents="none", where=begun)
    while query is not None:
        page: Page = yield query
        found.update((one.ns, None) for one in page.found if one.ns and not is_beside(one.ns))
        query = query._replace(after=page.cursor) if page.cursor is not None else None
    return list(found)


def _hash(found: Found) -> str | None:
    named = (loaded(found.metadata) or {}).get(RECORD_HASH)
    return named if isinstance(named, str) else None


def _with_record(session: Session, found: Found, *, wanted: bool = True) -> Flow[Recorded]:
    metadata = loaded(found.metadata) or {}
    step = metadata.get("step")
    record = None
    if wanted:
        # Its state may be long, and is not asked for.
        last = found.refs[-1:]
        page: Page = yield Query(
            found.thread_id, found.ns, found.id, limit=1, has=lambda thread_id, ns, epoch, ref: ref not in last
        )
        text = Reading(session.codec, page).record(page.found[0]) if page.found else None
        record = None if text is None else json.loads(text)
    return Recorded(found.id, step if type(step) is int else None, time_of(found.id), metadata, record)
