"""A URL opens the saver that it names, or says what it could have been."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from langgraph_durable import FileSaver, InvalidRequestError, SqliteSaver, open_saver
from tests.conftest import checkpoint, thread


@pytest.mark.parametrize(("scheme", "kind"), [("sqlite", SqliteSaver), ("file", FileSaver), ("FILE", FileSaver)])
@pytest.mark.parametrize("absolute", [False, True])
def test_where_a_url_leads(
    scheme: str, kind: type, absolute: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three slashes begin a path in the working directory, four one at the root; `%20` is a space."""
    monkeypatch.chdir(tmp_path)
    url = f"{scheme}:///{tmp_path if absolute else ''}{os.sep if absolute else ''}my%20data"
    saver = open_saver(url)
    assert type(saver) is kind
    saver.put(thread(), checkpoint("1", n=1), {}, {})
    saver.close()
    assert (tmp_path / "my data").is_dir() == (kind is FileSaver)
    with open_saver(url, busy_timeout=1.0) as again:
        assert [found.checkpoint["id"] for found in again.list(None)] == ["1"]


def test_memory_has_a_url() -> None:
    """Without a path an SQLite database is in memory."""
    with open_saver("sqlite://") as saver:
        saver.put(thread(), checkpoint("1"), {}, {})
        assert saver.get_tuple(thread()) is not None


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("agent.db", "is no URL"),
        ("postgresql://host/name", "there is no saver for 'postgresql://'"),
        ("://x", "there is no saver"),
        ("sqlite://agent.db", "three slashes"),
        ("file://host/share", "'host'"),
        ("file://", "names no folder"),
        ("file:///", "names no folder"),
        (None, "is no URL"),
    ],
)
def test_what_is_no_url_of_a_saver(url: str, said: str) -> None:
    """Anything else is refused, with what would have been right."""
    with pytest.raises(InvalidRequestError, match=said) as caught:
        open_saver(url)
    assert "file:///" in str(caught.value) or "sqlite:///" in str(caught.value)
