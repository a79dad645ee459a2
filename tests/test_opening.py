"""What cannot be opened is refused in words that say what to do, and is not changed; what can only be read is read."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from langgraph_durable import (
    CorruptDataError,
    DurableError,
    FileSaver,
    NotADatabaseError,
    OpenError,
    ReadOnlyError,
    SchemaVersionError,
    SqliteSaver,
    StoreError,
)
from tests.conftest import Face, checkpoint, saver_at, thread
from tests.processes import Pipe, child, children, forks

NOBODY = 65534


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("text", ["no", "not a database\n", "not a database, and longer than a page\n" * 500])
def test_a_text_file(text: str, tmp_path: Path) -> None:
    """A file that is no database is NotADatabaseError, and is not touched."""
    (tmp_path / "notes.txt").write_text(text)
    with pytest.raises(NotADatabaseError, match="is not an SQLite database"):
        SqliteSaver(tmp_path / "notes.txt")
    assert contents(tmp_path) == {"notes.txt": text.encode()}


def test_a_folder(tmp_path: Path) -> None:
    """A folder is NotADatabaseError, which says that a file is wanted."""
    with pytest.raises(NotADatabaseError, match="not a file"):
        SqliteSaver(tmp_path)
    assert contents(tmp_path) == {}


@forks
def test_a_pipe(tmp_path: Path) -> None:
    """A named pipe or a device is NotADatabaseError, and nobody waits for what may come out of it."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(NotADatabaseError, match="not a file"):
        SqliteSaver(tmp_path / "pipe")
    with pytest.raises(NotADatabaseError, match="not a file"):
        SqliteSaver("/dev/null")


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    """A path into a missing folder is OpenError that asks for the folder, and makes nothing."""
    with pytest.raises(OpenError, match="folder"):
        SqliteSaver(tmp_path / "missing" / "agent.db")
    with pytest.raises(OpenError, match="folder"):
        SqliteSaver(tmp_path / "missing.txt" / "agent.db")
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_way_of_a_folder(tmp_path: Path) -> None:
    """A path through a file is OpenError."""
    (tmp_path / "file").write_text("x")
    with pytest.raises(OpenError):
        SqliteSaver(tmp_path / "file" / "agent.db")


def test_an_empty_file(path: str, loop: Any) -> None:
    """An empty file is a new database."""
    Path(path).touch()
    with SqliteSaver(path) as saver:
        face = Face(saver, loop)
        assert face.values(face.put(thread(), checkpoint(a=1))) == {"a": 1}


def test_odd_names(tmp_path: Path) -> None:
    """A path may have anything in it that a file system takes, and means the file of that name."""
    for name in ["a b.db", "50%25?mode=ro#x.db", "ünï.db", "file:x.db", ":memory:.db", "semi;colon'quote\".db"]:
        with SqliteSaver(tmp_path / name) as saver:
            saver.put(thread(), checkpoint("1"), {}, {})
        with SqliteSaver(str(tmp_path / name)) as saver:
            assert saver.get_tuple(thread()) is not None, name
    assert len(contents(tmp_path)) == 6


def test_a_newer_schema(path: str) -> None:
    """A database of a newer release is SchemaVersionError that says what to upgrade, and is not changed."""
    with SqliteSaver(path) as saver:
        saver.put(thread(), checkpoint("1"), {}, {})
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE durable_meta SET value = '999' WHERE name = 'schema'")
        connection.commit()
    before = contents(Path(path).parent)
    with pytest.raises(SchemaVersionError, match="upgrade"):
        SqliteSaver(path)
    assert contents(Path(path).parent)[Path(path).name] == before[Path(path).name]


def test_a_version_that_is_no_number(path: str) -> None:
    """A database whose version cannot be read is an error of this package."""
    with SqliteSaver(path) as saver:
        saver.put(thread(), checkpoint("1"), {}, {})
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE durable_meta SET value = 'what' WHERE name = 'schema'")
        connection.commit()
    with pytest.raises(DurableError):
        SqliteSaver(path)


# -- damage --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A database with 30 checkpoints of two threads."""
    path = tmp_path_factory.mktemp("whole") / "agent.db"
    with SqliteSaver(path) as saver:
        for name in ("one", "two"):
            saved = thread(name)
            for number in range(15):
                saved = saver.put(saved, checkpoint(f"{number:02}", **state(name, number)), {}, {})
                saver.put_writes(saved, [("history", [f"{name} {number} " * 30]), ("last", "y" * 500)], "task")
    return path.read_bytes()


def state(name: str, number: int) -> dict[str, Any]:
    """What is stored of a checkpoint of `whole`."""
    return {"history": [f"{name} {step} " * 30 for step in range(number)], "last": "z" * number * 300}


def everything(path: str, loop: Any) -> None:
    """Use a database in every way; raises the first error there is."""
    with SqliteSaver(path) as saver:
        face = Face(saver, loop)
        assert len(face.list(None)) == 30
        for name in ("one", "two"):
            for number in range(15):
                assert face.values(thread(name, checkpoint_id=f"{number:02}")) == state(name, number)
        saved = face.put(thread("one", checkpoint_id="14"), checkpoint("15", history=["new" * 40]))
        face.put_writes(saved, [("history", ["new" * 40])], "task")
        face.call("copy_thread", "one", "three")
        assert face.values(thread("three")) == {"history": ["new" * 40]}
        face.call("prune", ["one"])
        face.call("delete_thread", "two")


def test_a_whole_database(whole: bytes, path: str, loop: Any) -> None:
    """What the next tests damage works when it is not damaged."""
    Path(path).write_bytes(whole)
    everything(path, loop)


def damages(whole: bytes) -> Iterator[tuple[str, bytes]]:
    """The same database cut short, and with each of its pages but the first made garbage."""
    size = int.from_bytes(whole[16:18], "big")
    pages = len(whole) // size
    for kept in (1, pages // 3, pages // 2, pages - 1):
        yield f"{kept} of {pages} pages", whole[: kept * size + 100]
    for page in range(1, pages):
        garbage = bytes((17 * page + 31 * place) % 251 + 1 for place in range(size))
        yield f"garbage in page {page}", whole[: page * size] + garbage + whole[(page + 1) * size :]


def struck(path: str, loop: Any, whole: bytes) -> dict[str, DurableError]:
    """The errors that come of every damage there is."""
    errors: dict[str, DurableError] = {}
    for name, damaged in damages(whole):
        for suffix in ("-wal", "-shm"):
            Path(path + suffix).unlink(missing_ok=True)
        Path(path).write_bytes(damaged)
        try:
            everything(path, loop)
        except DurableError as error:
            errors[name] = error
    return errors


def test_any_damaged_page(whole: bytes, path: str, loop: Any) -> None:
    """Wherever the file is damaged, it is read rightly or refused with an error of this package."""
    errors = struck(path, loop, whole)
    assert len(errors) > 10
    assert {type(error) for error in errors.values()} <= {StoreError, OpenError, CorruptDataError, NotADatabaseError}


def test_the_way_out_of_damage(whole: bytes, path: str) -> None:
    """An error that comes of a damaged file says what to do about it."""
    errors = struck(path, None, whole)
    unhelpful = {name: str(error) for name, error in errors.items() if not re.search("backup|recover", str(error))}
    assert unhelpful == {}


# -- permissions ---------------------------------------------------------------------------------------------------


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that other users can look into."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o700)
    shutil.rmtree(folder)


def as_nobody(pipe: Pipe, path: str) -> None:
    """Say, as a user who owns nothing, how opening, reading and writing go."""
    if os.getuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    said: dict[str, Any] = {}

    def attempt(name: str, call: Callable[[], Any]) -> Any:
        try:
            result = call()
        except DurableError as error:
            said[name] = error
            return None
        said[name] = "done"
        return result

    saver = attempt("open", lambda: saver_at(path, busy_timeout=1))
    if saver is not None:
        found = attempt("get", lambda: saver.get_tuple(thread()))
        said["found"] = found and found.checkpoint["channel_values"]
        attempt("list", lambda: list(saver.list(None)))
        attempt("put", lambda: saver.put(thread(), checkpoint("2"), {}, {}))
        attempt("put_writes", lambda: saver.put_writes(thread(checkpoint_id="1"), [("a", 1)], "task"))
        attempt("delete", lambda: saver.delete_thread("thread"))
        attempt("copy", lambda: saver.copy_thread("thread", "copy"))
        attempt("get again", lambda: saver.get_tuple(thread()))
        saver.close()
    pipe.send(said)


READABLE = {"open": "done", "get": "done", "list": "done", "get again": "done", "found": {"a": "stored"}}


@pytest.fixture
def stored(public: Path) -> Path:
    """A database that others may read."""
    path = public / "agent.db"
    with SqliteSaver(path) as saver:
        saver.put(thread(), checkpoint("1", a="stored"), {}, {})
    path.chmod(0o644)
    return path


@forks
def test_a_file_that_may_only_be_read(stored: Path) -> None:
    """In a folder where one may write, a read-only file is read, and every write to it is ReadOnlyError."""
    stored.parent.chmod(0o777)
    stored.chmod(0o444)
    before = stored.read_bytes()
    with child(as_nobody, str(stored)) as nobody:
        said = nobody.receive()
    assert {name: said[name] for name in READABLE} == READABLE
    for name in ("put", "put_writes", "delete", "copy"):
        assert isinstance(said[name], ReadOnlyError), name
        assert "owner and mode" in str(said[name])
    assert stored.read_bytes() == before


@forks
def test_a_read_only_file_that_somebody_writes(stored: Path) -> None:
    """Who may only read sees what another process has stored up to now."""
    stored.parent.chmod(0o777)
    with SqliteSaver(stored) as saver:
        saver.put(thread(), checkpoint("1b", a="stored"), {}, {})
        for path in stored.parent.iterdir():
            path.chmod(0o644)
        with child(as_nobody, str(stored)) as nobody:
            said = nobody.receive()
        assert {name: said[name] for name in READABLE} == READABLE
        assert isinstance(said["put"], ReadOnlyError)
        saver.put(thread(), checkpoint("2"), {}, {})


@forks
@pytest.mark.parametrize("mode", [0o444, 0o666], ids=oct)
def test_a_folder_that_may_only_be_read(mode: int, stored: Path) -> None:
    """In a folder where one may not write, a database is read, or refused with what to change; nothing is written."""
    stored.chmod(mode)
    stored.parent.chmod(0o555)
    before = contents(stored.parent)
    with child(as_nobody, str(stored)) as nobody:
        said = nobody.receive()
    assert contents(stored.parent) == before
    if said["open"] == "done":
        assert {name: said[name] for name in READABLE} == READABLE
        assert isinstance(said["put"], ReadOnlyError)
    else:
        assert isinstance(said["open"], OpenError)
        assert "folder" in str(said["open"])
        assert "write" in str(said["open"])


@forks
def test_a_new_file_in_a_folder_that_may_only_be_read(public: Path) -> None:
    """Where no file can be made, opening a new database says so."""
    public.chmod(0o555)
    with child(as_nobody, str(public / "agent.db")) as nobody:
        said = nobody.receive()
    assert isinstance(said["open"], OpenError)
    assert "folder" in str(said["open"])


@forks
def test_a_file_that_may_not_be_read(stored: Path) -> None:
    """A file of somebody else's is OpenError, and keeps its contents."""
    stored.chmod(0o600)
    before = contents(stored.parent)
    with child(as_nobody, str(stored)) as nobody:
        said = nobody.receive()
    assert isinstance(said["open"], OpenError)
    assert contents(stored.parent) == before


@forks
def test_an_empty_read_only_file(public: Path) -> None:
    """A read-only file in which nothing was stored is refused at the opening."""
    (public / "agent.db").touch()
    (public / "agent.db").chmod(0o444)
    with child(as_nobody, str(public / "agent.db")) as nobody:
        said = nobody.receive()
    assert isinstance(said["open"], OpenError)


# -- many at once --------------------------------------------------------------------------------------------------


def opens(pipe: Pipe, path: str, name: str) -> None:
    """Open a database when told to, and put something."""
    pipe.send("ready")
    pipe.recv()
    with SqliteSaver(path) as saver:
        saver.put(thread(f"{name} {os.getpid()}"), checkpoint("1"), {}, {})
    pipe.send("done")


@forks
def test_a_new_database_that_many_open_at_once(tmp_path: Path) -> None:
    """Processes that open the same new file at the same moment all get a saver that works."""
    for attempt in range(8):
        path = str(tmp_path / f"{attempt}.db")
        with children(6, opens, path, "thread") as those:
            assert [one.receive() for one in those] == ["ready"] * 6
            for one in those:
                one.send("go")
            assert [one.receive() for one in those] == ["done"] * 6
        with SqliteSaver(path) as saver:
            assert len(list(saver.list(None))) == 6


@forks
@pytest.mark.parametrize("mine", [True, False], ids=["read by its owner's friends", "closed to others"])
def test_a_folder_of_files_that_may_only_be_read(mine: bool, public: Path) -> None:
    """Checkpoints in plain files that one may only read are read; every write is ReadOnlyError, and changes nothing."""
    path = public / "checkpoints"
    with FileSaver(path) as saver:
        saver.put(thread(), checkpoint("1", a="stored", large="x" * 100_000), {}, {})
    if mine:
        for one in [path, *path.rglob("*")]:
            one.chmod(0o755 if one.is_dir() else 0o644)
    before = contents(path)
    with child(as_nobody, str(path)) as nobody:
        said = nobody.receive()
    assert contents(path) == before
    if not mine:
        assert isinstance(said["open"], OpenError)
        assert "owner and mode" in str(said["open"])
        return
    said["found"] = {"a": said["found"]["a"]}
    assert {name: said[name] for name in READABLE} == READABLE
    for name in ("put", "put_writes", "delete", "copy"):
        assert isinstance(said[name], ReadOnlyError), name
        assert "owner and mode" in str(said[name])


def fills_up(pipe: Pipe, path: str) -> None:
    """Store until the system refuses, as a full disk does in the midst of a write; go on when there is room again."""
    import resource

    stored: list[str] = []
    refused: list[DurableError] = []
    with saver_at(path) as saver:
        saved = saver.put(thread(), checkpoint("0"), {}, {})
        _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
        size = max(file.stat().st_size for file in Path(path).rglob("*") if file.is_file())
        for room in range(size, size + 30_000, 499):
            resource.setrlimit(resource.RLIMIT_FSIZE, (room, most))
            try:
                saved = saver.put(saved, checkpoint(f"{room:09}", text=f"{room} " * 90), {}, {})
                stored.append(f"{room:09}")
            except DurableError as error:
                refused.append(error)
            resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
            assert [one.checkpoint["id"] for one in saver.list(thread())] == [*stored[::-1], "0"]
        saver.put(saved, checkpoint("the last"), {}, {})
    pipe.send((stored, refused))


@forks
def test_files_on_a_disk_that_is_full(tmp_path: Path) -> None:
    """What finds no room is refused as a whole, with a part of it written; what was stored stays, and more can be."""
    path = tmp_path / "checkpoints"
    with child(fills_up, str(path)) as other:
        stored, refused = other.receive()
    assert len(stored) > 3
    assert len(refused) > 3
    assert {type(error) for error in refused} == {StoreError}
    with FileSaver(path) as saver:
        assert [one.checkpoint["id"] for one in saver.list(thread())] == ["the last", *stored[::-1], "0"]
        assert saver.check().damage == ()
