"""A journal takes the place of another whole: to delete, to copy, or to get rid of what is not certain in it."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Set

from langgraph_durable.core.records import Chunk, DeleteCheckpoints, DeleteThread, Fenced, Stored
from langgraph_durable.core.status import copied
from langgraph_durable.errors import InvalidRequestError, StoreError
from langgraph_durable.stores.base import Outcome, fences
from langgraph_durable.stores.files.contents import Contents, buried
from langgraph_durable.stores.files.journal import Ended, Head, Outside, Put, Wrote
from langgraph_durable.stores.files.thread import ThreadFolder


def delete(folder: ThreadFolder, thread_id: str, work: DeleteThread | DeleteCheckpoints) -> Outcome:
    """Take something of a thread away, or all of it, with its lock held."""
    whole = isinstance(work, DeleteThread)
    try:
        contents = folder.refresh()
    except StoreError:
        if not whole:
            raise
        contents = Contents()  # what cannot be read can be thrown away
    if not folder.is_there():
        if whole:
            folder.lease.remove()
        return Stored(0, ())
    ids = {*contents.puts, *contents.writes}
    gone = set(work.checkpoints) if isinstance(work, DeleteCheckpoints) else ids
    if folder.damage and not whole:
        raise StoreError(
            f"line {folder.damage[0].number} of the journal of thread {thread_id!r} is damaged, and what it "
            "said may be needed by what would stay: nothing was deleted. Copy the thread, which takes along "
            "what is whole, and delete this one; or restore the journal from a backup"
        )
    head = Head(thread_id, new_epoch())
    was = {} if whole else contents.standings.of
    records = _whole(folder, contents, gone, head)
    folder.rewrite(head, records, buried(contents, today(), gone=gone), was, forget=whole)
    if ids - gone:
        return Stored(head.epoch, ())
    folder.lease.remove()
    return Stored(0, ())


def fill(
    folder: ThreadFolder,
    thread_id: str,
    source: ThreadFolder,
    source_id: str,
    token: int | None,
    orders: Callable[[int], range],
) -> Outcome:
    """Copy a thread into the folder of another, with the lock of that held; `orders` gives places in the order."""
    lease = folder.lease.find()
    if fences(lease, token):
        return Fenced(lease)
    contents = folder.refresh()
    if contents.epoch is not None:
        return InvalidRequestError(
            f"cannot copy thread {source_id!r} to {thread_id!r}: that thread has checkpoints already. "
            "Choose another id, or delete it first"
        )
    head = Head(thread_id, new_epoch())
    with source.reading() as found:
        if found.epoch is None:
            return Stored(0, ())
        records = list(_whole(source, found, set(), head))
        was = {ns: copied(standing) for ns, standing in found.standings.of.items()}
    copies: list[Put | Wrote | Ended] = []
    for order, record in zip(orders(len(records)), records, strict=True):
        if isinstance(record, Ended):
            copies.append(record._replace(order=order))
            continue
        chunks: list[tuple[int, Chunk | Outside]] = []
        for number, chunk in record.new.chunks:
            # Files of large values are the source's own.
            loaded = source.load(found, number) if isinstance(chunk, Outside) else chunk
            if loaded is None:
                raise StoreError(
                    f"a value of thread {source_id!r} is missing or was deleted while it was copied; nothing was stored"
                )
            chunks.append((number, loaded))
        copies.append(record._replace(order=order, new=record.new._replace(chunks=chunks)))
    back = {*found.puts, *found.writes}
    folder.rewrite(head, copies, buried(contents, today(), back=back), was)
    return Stored(head.epoch, ())


def steady(folder: ThreadFolder) -> Contents:
    """The contents of a thread that can be appended to, with its lock held."""
    contents = folder.refresh()
    if folder.shaken and contents.head is not None:
        head = Head(contents.head.thread_id, new_epoch())
        records = _whole(folder, contents, set(), head)
        folder.rewrite(head, records, buried(contents, today()), contents.standings.of)
    return folder.contents


def new_epoch() -> int:
    """An epoch that no journal has."""
    return secrets.randbits(62) + 1


def today() -> int:
    """The day, since 1970."""
    return int(time.time()) // 86_400


def _whole(
    folder: ThreadFolder, contents: Contents, gone: Set[tuple[str, str]], head: Head
) -> Iterator[Put | Wrote | Ended]:
    """The records of a thread that stay, for another journal; of one that is damaged those that are whole."""
    puts = [put for where in contents.puts if where not in gone and (put := contents.put(*where)) is not None]
    if folder.damage:
        puts = [put for put in puts if contents.whole(put.found)]
    others: list[Wrote | Ended] = []
    for where in contents.writes.keys() - gone:
        others += contents.wrote(*where)
    for where in contents.ends.keys() - gone:
        others += contents.ended(*where)
    return contents.records(puts, others, head)
