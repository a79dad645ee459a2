"""`check` reads everything that is stored: what it calls sound can be read, what cannot be read it names."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import HumanMessage
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer

from langgraph_durable import (
    CorruptDataError,
    FileSaver,
    InvalidRequestError,
    OpenError,
    SqliteSaver,
    StoreError,
    progress,
)
from langgraph_durable.cli import main
from langgraph_durable.core.records import Checked, Damage
from tests.conftest import Face, checkpoint, saver_at, thread
from tests.test_damage import DAMAGES, VICTIM, stored

IDS = ("1", "2", "3")


def fill(face: Face, *names: str) -> None:
    """Threads with three checkpoints and writes each, one of them in a namespace of its own."""
    for name in names:
        for ns in ("", "sub|graph"):
            saved = thread(name, ns)
            for number in IDS:
                values = {"messages": [HumanMessage(f"{n} of {name} " * 9, id=str(n)) for n in range(int(number))]}
                saved = face.put(saved, checkpoint(number, text=f"{name} {number} " * 20, **values))
                face.put_writes(saved, [("messages", [f"written {number} " * 9]), ("text", number)], "task")


def check(face: Face, *args: Any, **kwargs: Any) -> Checked:
    found = face.call("check", *args, **kwargs)
    assert isinstance(found, Checked)
    return found


def hurt(checked: Checked, name: str = "thread") -> set[tuple[str, str]]:
    """The checkpoints of a thread that something is missing from."""
    return {where for one in checked.damage if one.thread_id == name for where in one.checkpoints}


def unreadable(face: Face, name: str = "thread") -> set[tuple[str, str]]:
    """The checkpoints of `fill` and `stored` that there is an error for."""
    found = set()
    for ns in ("", "sub|graph"):
        for number in IDS:
            try:
                face.get_tuple(thread(name, ns, number))
            except CorruptDataError:
                found.add((ns, number))
    return found


# -- what is sound ---------------------------------------------------------------------------------------------------


def test_what_is_sound(face: Face) -> None:
    """Of a store without damage there is nothing to tell but how much was looked at."""
    assert check(face) == Checked(0, 0, ())
    fill(face, "thread", "other")
    assert check(face) == Checked(2, 12, ())
    assert check(face, ["other", "other"]) == Checked(1, 6, ())
    with pytest.raises(InvalidRequestError, match="no thread 'nobody'"):
        check(face, ["nobody"])
    with pytest.raises(InvalidRequestError, match="list of thread ids"):
        check(face, "other")
    assert check(face).sound


def test_what_was_taken_away(face: Face) -> None:
    """What was pruned, copied or deleted leaves nothing behind that leads nowhere."""
    fill(face, "thread", "other", "third")
    face.call("prune", ["thread"])
    face.call("copy_thread", "thread", "copy")
    face.call("delete_thread", "other")
    assert check(face) == Checked(3, 2 + 2 + 6, ())


def test_what_others_do_meanwhile(shared: str) -> None:
    """Threads that grow, are pruned and deleted while they are looked at are sound."""
    with saver_at(shared) as writer, saver_at(shared) as reader:
        ended = threading.Event()
        failed: list[BaseException] = []

        def write() -> None:
            face = Face(writer, None)
            try:
                for n in range(25):
                    fill(face, "thread", f"other {n % 3}")
                    face.put(thread(), checkpoint("large", text=f"{n} " * 40_000))
                    writer.prune(["thread"])
                    writer.delete_thread(f"other {n % 3}")
            except BaseException as error:  # noqa: BLE001  it is looked at below
                failed.append(error)
            ended.set()

        beside = threading.Thread(target=write)
        beside.start()
        looked = 0
        while not ended.is_set():
            checked = reader.check()
            assert checked.sound, checked.damage
            looked += 1
        beside.join()
        assert not failed
        assert looked > 3


def test_an_official_database(path: str, loop: Any, open_face: Callable[..., Face]) -> None:
    """What an official saver stored is looked at as well, beside what came since."""
    official = pytest.importorskip("langgraph.checkpoint.sqlite")
    with official.SqliteSaver.from_conn_string(path) as theirs:
        saved = theirs.put(thread(), checkpoint("1", messages=["one"]), {"step": 1}, {})
        theirs.put_writes(saved, [("messages", ["a write"])], "task")
        theirs.put(thread("theirs"), checkpoint("1", messages=["one"]), {"step": 1}, {})
    face = open_face(path)
    face.put(saved, checkpoint("2", messages=["one", "two"]))
    assert check(face) == Checked(2, 3, ())
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE checkpoints SET checkpoint = x'c1' WHERE thread_id = 'theirs'")
        connection.commit()
    checked = check(face)
    assert hurt(checked, "theirs") == {("", "1")}
    assert hurt(checked) == set()


def test_an_encrypted_store(shared: str) -> None:
    """Who has the key checks what was encrypted; who has not is told that it is, and not that it is damaged."""
    pytest.importorskip("Crypto")
    serde = EncryptedSerializer.from_pycryptodome_aes(key=b"0123456789abcdef")
    with saver_at(shared, serde=serde) as saver:
        fill(Face(saver, None), "thread")
        assert saver.check() == Checked(1, 6, ())
    with saver_at(shared) as saver, pytest.raises(OpenError, match="encrypted"):
        saver.check()


# -- what is damaged -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_in_a_database(name: str, path: str, open_face: Callable[..., Face]) -> None:
    """Exactly the checkpoints that cannot be read are named, and the channel with them."""
    stored(path)
    sql, channel = DAMAGES[name]
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(sql)
        connection.commit()
    face = open_face(path)
    checked = check(face)
    assert hurt(checked) == unreadable(face) == {("", VICTIM)}
    assert hurt(checked, "neighbour") == set()
    assert checked.checkpoints == 6
    assert any(channel is None or f"channel {channel!r}" in one.trouble for one in checked.damage)


def test_several_damages_in_one_checkpoint(path: str) -> None:
    """One thing that is broken hides no other."""
    stored(path)
    with closing(sqlite3.connect(path)) as connection:
        for name in ("metadata cut", "single gone", "write gone", "message cut"):
            assert connection.execute(DAMAGES[name].sql).rowcount == 1
        connection.commit()
    with SqliteSaver(path) as saver:
        checked = saver.check()
    assert len(checked.damage) == 4
    assert hurt(checked) == {("", VICTIM)}


def test_an_element_that_belongs_to_another_thread(path: str) -> None:
    """What would go when another thread is deleted is told, though it can be read today."""
    stored(path)
    with SqliteSaver(path) as saver:
        saver.put(thread("third"), checkpoint("1", text="x" * 100), {}, {})
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(
            """UPDATE durable_chunks SET thread = (SELECT key FROM durable_threads WHERE id = 'third')
            WHERE key = (SELECT min(chunk) FROM durable_elements)"""
        )
        connection.commit()
    with SqliteSaver(path) as saver:
        assert [one.trouble for one in saver.check().damage] == [
            "1 elements of lists are chunks of other threads, and would go with those"
        ]


def test_rows_that_lead_nowhere(path: str) -> None:
    """Rows that belong to nothing are told, though nobody would ever read them."""
    stored(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DELETE FROM durable_threads WHERE id = 'neighbour'")
        connection.commit()
    with SqliteSaver(path) as saver:
        checked = saver.check()
    assert {one.trouble.split(" ", 1)[1] for one in checked.damage} == {
        f"{what} belong to no thread that is there" for what in ("namespaces", "chunks", "lists")
    }
    assert {one.thread_id for one in checked.damage} == {None}


def test_a_damaged_page_of_a_database(path: str) -> None:
    """What is wrong with the file itself is told in SQLite's words, and the rest is looked at none the less."""
    stored(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        root, size = (
            connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'durable_chunk_digests'").fetchone()[0],
            connection.execute("PRAGMA page_size").fetchone()[0],
        )
    with open(path, "r+b") as file:
        file.seek((root - 1) * size + size - 40)
        file.write(b"damage" * 3)
    with SqliteSaver(path) as saver:
        checked = saver.check()
    assert any(one.thread_id is None and one.trouble.startswith("SQLite: ") for one in checked.damage)
    assert checked.checkpoints == 6


def test_a_flipped_bit_in_a_journal(tmp_path: Path) -> None:
    """Whichever bit of a journal flips, in lines of every kind, the line is named; what is called sound can be read."""
    whole = tmp_path / "whole" / "checkpoints"
    with FileSaver(whole) as saver:
        fill(Face(saver, None), "thread")
        saver.put(thread(), checkpoint("of a run"), {"run_id": "run"}, {})
        saver.delete_for_runs(["run"])
        fill(Face(saver, None), "thread")
    (journal,) = whole.glob("threads/*/journal.jsonl")
    data = journal.read_bytes()
    lines = data.splitlines(keepends=True)
    assert {json.loads(line)["type"] for line in lines} == {*("thread", "deleted", "checkpoint", "writes", "standing")}
    starts = [sum(map(len, lines[:number])) for number in range(len(lines))]
    places = {place for start in starts for place in (start, start + 10, start + 30, start + 40)}
    for place in sorted(places | set(range(0, len(data), 211))):
        bad = bytearray(data)
        bad[place] ^= 1 << (place % 7)
        journal.write_bytes(bad)
        with FileSaver(whole) as saver:
            checked = saver.check()
            line = data.count(b"\n", 0, place) + 1
            if data[place] == ord("\n"):
                continue  # what only ends a line says nothing
            assert not checked.sound, place
            assert any(f"line {line} " in one.trouble or "first line" in one.trouble for one in checked.damage), place
            # Nobody needs to be warned of what was told, and what can be read is what is called sound.
            if line > 1:
                missing = {(ns, number) for ns in ("", "sub|graph") for number in IDS} - {
                    (found.config["configurable"]["checkpoint_ns"], found.checkpoint["id"]) for found in readable(saver)
                }
                assert hurt(checked) == unreadable(Face(saver, None))
                assert missing >= hurt(checked)


def readable(saver: FileSaver) -> list[Any]:
    """The checkpoints that there is no error for."""
    found = []
    for ns in ("", "sub|graph"):
        for number in IDS:
            try:
                one = saver.get_tuple(thread("thread", ns, number))
            except CorruptDataError:
                continue
            if one is not None:
                found.append(one)
    return found


def test_damage_under_a_running_saver(tmp_path: Path) -> None:
    """What is remembered hides nothing: the bytes are read again, and what was lost is not given out a second time."""
    path = tmp_path / "checkpoints"
    with FileSaver(path) as saver:
        face = Face(saver, None)
        fill(face, "thread")
        (journal,) = path.glob("threads/*/journal.jsonl")
        lines = journal.read_bytes().splitlines(keepends=True)
        stamp = os.stat(journal)
        journal.write_bytes(b"".join(lines[:-1]) + lines[-1].replace(b"3", b"4", 1))
        os.utime(journal, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
        checked = saver.check()
        assert f"line {len(lines)} of" in checked.damage[0].trouble
        saved = face.put(thread("thread", "", "3"), checkpoint("4", messages=["new " * 30, "newer " * 30]))
        assert face.values(saved) == {"messages": ["new " * 30, "newer " * 30]}
        assert saver.check().sound  # what was whole is in a journal of its own now
    with FileSaver(path) as saver:
        assert Face(saver, None).values(saved) == {"messages": ["new " * 30, "newer " * 30]}


def test_a_large_value_that_is_lost(tmp_path: Path) -> None:
    """A file that is missing or was changed is named, and so is every checkpoint that it is missing from."""
    path = tmp_path / "checkpoints"
    with FileSaver(path) as saver:
        face = Face(saver, None)
        saved = face.put(thread(), checkpoint("1", text="x" * 100_000, other="y"))
        face.put(saved, checkpoint("2", text="x" * 100_000))
        face.put(saved, checkpoint("3", text="z"))
        (value,) = path.glob("threads/*/values/*.json")
        data = value.read_bytes()
        for bad in (data[:-1], data.replace(b"x", b"y", 1), None):
            if bad is None:
                value.unlink()
            else:
                value.write_bytes(bad)
            checked = saver.check()
            assert hurt(checked) == {("", "1"), ("", "2")}
            assert any(value.name in one.trouble for one in checked.damage)
            assert any("channel 'text'" in one.trouble for one in checked.damage)
        value.write_bytes(data)
        assert saver.check().sound


def test_a_check_that_does_not_get_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That a thread could not be looked at to its end is told beside what else is damaged of it, and only once."""
    path = tmp_path / "checkpoints"
    with FileSaver(path) as saver:
        fill(Face(saver, None), "thread")
    (journal,) = path.glob("threads/*/journal.jsonl")
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([*lines[:-1], lines[-1].replace(b"3", b"4", 1)]))
    with FileSaver(path) as saver:
        (line,) = saver.check().damage

        def fails(query: Any) -> Any:
            raise StoreError("the disk failed")

        monkeypatch.setattr(saver._engine.store, "read", fails)
        assert saver.check().damage == (line, Damage("thread", "the disk failed"))
    journal.write_bytes(b"".join([b"?", *lines]))
    with FileSaver(path) as saver:
        (once,) = saver.check(["thread"]).damage
    assert "first line" in once.trouble


def test_journals_that_do_not_say_whose_they_are(tmp_path: Path) -> None:
    """A journal without its first line, one in a folder that is not its own, a secret that is none: each is told."""
    path = tmp_path / "checkpoints"
    serde = EncryptedSerializer.from_pycryptodome_aes(key=b"0123456789abcdef")
    with FileSaver(path, serde=serde) as saver:
        fill(Face(saver, None), "first", "second", "third")
    first, second, third = sorted(path.glob("threads/*"))
    journal = first / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[1:]))
    shutil.copytree(second, path / "threads" / "a copy by hand")
    (secret,) = path.glob("secrets/*")
    with FileSaver(path, serde=serde) as saver:
        saver.list(None, limit=0)
        saver._session()
        secret.write_bytes(b"?")
        checked = saver.check()
    told = [one.trouble for one in checked.damage if one.thread_id is None]
    assert len(told) == 3
    assert any(str(journal) in one and "first line" in one for one in told)
    assert any("a copy by hand" in one and "'second'" in one for one in told)
    assert any(str(secret) in one for one in told)
    assert third.is_dir()
    assert {one.thread_id for one in checked.damage} <= {None, "second"}


# -- how it is shown -------------------------------------------------------------------------------------------------


def test_a_bar_where_somebody_looks(face: Face, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    """A check that takes its time shows how far it is, if it is wanted or somebody is looking."""
    monkeypatch.setattr(progress, "PATIENCE_SECONDS", 0.0)
    fill(face, "thread")
    check(face)
    check(face, progress=False)
    assert capsys.readouterr().err == ""
    check(face, progress=True)
    assert "checking" in capsys.readouterr().err
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    check(face)
    assert "checking" in capsys.readouterr().err


def test_one_that_is_quick_shows_no_bar(face: Face, capsys: pytest.CaptureFixture[str]) -> None:
    """What is done in less than two seconds needs no bar."""
    fill(face, "thread")
    check(face, progress=True)
    assert capsys.readouterr().err == ""


def test_the_command(shared: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The command tells what is damaged thread by thread and ends with 1; with 0 where all of it can be read."""
    with saver_at(shared) as saver:
        fill(Face(saver, None), "thread", "other")
    url = f"{'file' if shared.endswith('checkpoints') else 'sqlite'}:///{shared}"
    assert main(["check", url]) == 0
    out, err = capsys.readouterr()
    assert (out, err) == ("2 threads with 12 checkpoints: all of it can be read\n", "")
    if shared.endswith("checkpoints"):
        (journal,) = Path(shared).glob("threads/thread-*/journal.jsonl")
        lines = journal.read_bytes().splitlines(keepends=True)
        journal.write_bytes(b"".join([*lines[:1], lines[1].replace(b"thread", b"thr3ad", 1), *lines[2:]]))
    else:
        with closing(sqlite3.connect(shared)) as connection:
            connection.execute("DELETE FROM durable_chunks WHERE instr(data, '0 of thread')")
            connection.commit()
    assert main(["check", url]) == 1
    out, err = capsys.readouterr()
    assert "thread 'thread':\n" in out
    assert "channel 'messages', element 0: it is missing" in out
    assert "other" not in out
    assert out.splitlines()[-1].startswith("2 threads with ")
    assert err == ""
    assert main(["check", url, "--thread", "other"]) == 0


def test_the_command_makes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A path that is not there is an error in one line, and is not there afterwards either."""
    for url in (f"sqlite:///{tmp_path}/no.db", f"file:///{tmp_path}/none"):
        assert main(["check", url]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert "there is nothing at" in err
        assert err.count("\n") == 1
    assert os.listdir(tmp_path) == []


def test_calls_that_mean_nothing(face: Face) -> None:
    """Ids that are no text are refused."""
    with pytest.raises(InvalidRequestError):
        check(face, ["half \ud800"])
