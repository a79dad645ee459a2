"""Threads are listed page by page, and a page says whether there is another one."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.conftest import Face, checkpoint, thread


@pytest.mark.parametrize("status", [None, "idle"])
def test_whether_there_are_more(database: str, open_face: Callable[..., Face], status: str | None) -> None:
    """The cursor of a page leads to the next one, and is None where there is none, also after a page that is full."""
    face = open_face(database)
    for n in range(6):
        face.put(thread(f"{n}"), checkpoint(n=n))
    for limit in range(1, 8):
        seen: list[str] = []
        cursor = None
        pages = 0
        while pages == 0 or cursor is not None:
            found = face.call("list_threads", status=status, order="id", limit=limit, cursor=cursor)
            seen += [one.thread_id for one in found]
            cursor = found.cursor
            pages += 1
        assert seen == ["0", "1", "2", "3", "4", "5"]
        assert pages == -(-6 // limit)
    assert face.call("list_threads", limit=6).cursor is None
    assert repr(face.call("list_threads", limit=6)) == "<6 threads>"
    assert repr(face.call("list_threads", limit=5)) == "<5 threads, and more>"
    assert len(face.call("list_threads", limit=0)) == 0
