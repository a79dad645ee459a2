"""A thread is looked at page by page: every chunk is decoded once, every name of one is followed.

What is wrong is told once, with all checkpoints that suffer from it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

from langgraph_durable.core.codec import Codec
from langgraph_durable.core.plan import check_ids, check_text
from langgraph_durable.core.reading import Reading
from langgraph_durable.core.records import Checked, Damage, Elements, Found, Inline, Page, Query, Ref
from langgraph_durable.core.requests import FindThreads, Flow, LookForDamage, Session
from langgraph_durable.errors import (
    BusyError,
    ClosedError,
    CorruptDataError,
    InvalidRequestError,
    OpenError,
    StoreError,
)

T = TypeVar("T")


def check_store(session: Session) -> Flow[tuple[list[Damage], list[str]]]:
    """What is wrong with a store apart from its threads, and the threads that there are to look at."""
    damage: list[Damage] = yield LookForDamage(None)
    try:
        thread_ids: list[str] = yield FindThreads()
    except (BusyError, ClosedError):
        raise
    except StoreError as error:
        return [*damage, Damage(None, f"which threads there are cannot be read: {error}")], []
    return damage, thread_ids


def check_thread(session: Session, thread_id: str, *, wanted: bool = False) -> Flow[Checked]:
    """What is wrong with a thread. InvalidRequestError if it was `wanted` and is not there."""
    check_text("the call", thread_id)
    inspection = Inspection(session.codec, thread_id)
    damage: list[Damage] = yield LookForDamage(thread_id)
    query: Query | None = Query(thread_id)
    try:
        while query is not None:
            page: Page = yield query
            inspection.take(page)
            query = query._replace(after=page.cursor) if page.cursor is not None else None
    except (BusyError, ClosedError, OpenError):
        raise
    except Exception as error:  # noqa: BLE001  whatever damaged bytes lead to, it is what there is to tell
        ended = Damage(thread_id, str(error) or type(error).__name__)
        # The rest was not looked at, whatever else was found; who looked for damage may have told just that.
        damage = damage if ended in damage else [*damage, ended]
    checked = inspection.checked(damage)
    if wanted and not checked.threads:
        raise InvalidRequestError(f"there is no thread {thread_id!r}")
    return checked


def chosen(thread_ids: Sequence[str]) -> list[str]:
    """The threads of a call, each once. InvalidRequestError for what is no list of ids."""
    check_ids("thread", thread_ids)
    return list(dict.fromkeys(map(str, thread_ids)))


class Inspection:
    """What is wrong with the checkpoints of one thread, those of the pages taken so far."""

    def __init__(self, codec: Codec, thread_id: str) -> None:
        self._codec = codec
        self._thread_id = thread_id
        self._epoch: int | None = None
        self._checkpoints = 0
        self._opened = False
        self._troubles: dict[str, list[tuple[str, str]]] = {}
        self._looked_at: dict[_Piece, str] = {}

    def take(self, page: Page) -> None:
        """Look at a page."""
        reading = Reading(self._codec, page)
        for found in page.found:
            if found.whole is None and found.epoch != self._epoch:
                # Something was deleted since the last page: keys may mean something else now.
                self._looked_at.clear()
                self._epoch = found.epoch
            self._look_at(reading, page, found)
            self._checkpoints += 1

    def checked(self, stored: Sequence[Damage]) -> Checked:
        """What was found, behind what was found wrong with the bytes as they are stored."""
        troubles = self._troubles.items()
        damage = [Damage(self._thread_id, trouble, tuple(where)) for trouble, where in troubles]
        return Checked(int(bool(self._checkpoints or stored)), self._checkpoints, (*stored, *damage))

    def _look_at(self, reading: Reading, page: Page, found: Found) -> None:
        if "+" in found.head.kind and not self._codec.encrypts and not self._opened:
            raise OpenError(
                f"thread {self._thread_id!r} is encrypted: open it with the serializer that wrote it, as in "
                "SqliteSaver(path, serde=...).check()"
            )
        self._try(found, lambda: reading.metadata(found))
        if found.whole is not None:
            read = self._try(found, lambda: reading.checkpoint_tuple(found))
            if read is not None and read.checkpoint.get("id") != found.id:
                self._note(found, f"the checkpoint itself: it is another one, {read.checkpoint.get('id')!r}")
        else:
            names = self._try(found, lambda: reading.names(found))
            self._opened = self._opened or names is not None
            for name, ref in zip(names or (), found.refs, strict=False):
                self._follow(page, found, f"channel {name!r}", ref)
        for call in found.writes:
            for _, channel, ref in call.entries:
                self._follow(page, found, f"a write of task {call.task_id!r} to channel {channel!r}", ref)

    def _try(self, found: Found, read: Callable[[], T]) -> T | None:
        """What there is to read, if it can be."""
        try:
            return read()
        except CorruptDataError as error:
            where = f"channel {error.channel!r}" if error.channel else "the checkpoint itself"
            self._note(found, f"{where}: {error.__cause__}")
            return None

    def _follow(self, page: Page, found: Found, what: str, ref: Ref) -> None:
        content = page.contents.get(ref)
        if content is None:
            self._note(found, f"{what}: what it consists of cannot be read")
        elif isinstance(content, Inline):
            self._note(found, what, self._trouble(content, 1))
        elif isinstance(content, int):
            self._note(found, what, self._trouble_of(page, _Piece(content, 1)))
        else:
            self._follow_elements(page, found, what, content)

    def _follow_elements(self, page: Page, found: Found, what: str, elements: Elements) -> None:
        place = 0
        for piece in map(_Piece, elements.keys, elements.counts):
            trouble = self._trouble_of(page, piece)
            if trouble:
                self._note(found, f"{what}, element {place}", trouble)
            place += piece.values

    def _trouble_of(self, page: Page, piece: _Piece) -> str:
        """What is wrong with a chunk, "" if nothing is; it is decoded once, however many name it."""
        trouble = self._looked_at.get(piece)
        if trouble is None:
            chunk = page.chunks.get(piece.key)
            if chunk is None:
                trouble = "it is missing"
            else:
                trouble = self._trouble(Inline(chunk.kind, chunk.data), piece.values, chunk.digest)
            self._looked_at[piece] = trouble
        return trouble

    def _trouble(self, sealed: Inline, count: int, digest: bytes | None = None) -> str:
        try:
            stream = self._codec.open(sealed)
            if digest is not None and not self._codec.names(digest, stream):
                return "it was changed after it was stored"
            self._codec.values(stream, count)
        except Exception as error:  # noqa: BLE001  whatever a damaged byte or a class of the user's leads to
            return str(error) or type(error).__name__
        return ""

    def _note(self, found: Found, what: str, trouble: str | None = None) -> None:
        if trouble == "":
            return
        told = what if trouble is None else f"{what}: {trouble}"
        where = self._troubles.setdefault(told, [])
        if (found.ns, found.id) not in where[-1:]:
            where.append((found.ns, found.id))


def together(checked: Sequence[Checked]) -> Checked:
    """Several results as one."""
    damage = tuple(damage for one in checked for damage in one.damage)
    return Checked(sum(one.threads for one in checked), sum(one.checkpoints for one in checked), damage)


class _Piece(NamedTuple):
    """A chunk, by its key, and the number of values that are to be in it."""

    key: int
    values: int
