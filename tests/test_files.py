"""What a thread knows of files travels in its state, and what became of them meanwhile is told and can be undone."""

from __future__ import annotations

import asyncio
import errno
import os
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from operator import add
from pathlib import Path
from typing import Annotated, Any

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.graph import START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Command, Overwrite, RetryPolicy, interrupt
from pydantic import BaseModel
from typing_extensions import TypedDict

from langgraph_durable import InvalidRequestError, SqliteSaver
from langgraph_durable.files import (
    FileChange,
    Stamp,
    TrackedFiles,
    changed_files,
    file_channels,
    merged,
    restore_file,
    track_file,
)
from langgraph_durable.files.contents import find
from langgraph_durable.files.places import KEPT, placed
from langgraph_durable.files.writing import locked, replace
from tests.conftest import thread
from tests.durables import called

Graph = CompiledStateGraph[Any, None, Any, Any]
Loop = asyncio.AbstractEventLoop | None


class State(TypedDict, total=False):
    files: TrackedFiles
    said: Annotated[list[str], add]


class Other(TypedDict, total=False):
    said: Annotated[list[str], add]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "root"
    made.mkdir()
    return made


@pytest.fixture(params=["sqlite", "memory"])
def saver(request: pytest.FixtureRequest, closed: None) -> Iterator[BaseCheckpointSaver[Any]]:
    """A checkpointer of this package, and LangGraph's own."""
    if request.param == "memory":
        yield InMemorySaver()
        return
    with SqliteSaver(":memory:") as made:
        yield made


def graph(
    *nodes: Callable[[Any], Any],
    saver: BaseCheckpointSaver[Any] | None = None,
    loop: Loop = None,
    state: Any = State,
    **options: Any,
) -> Graph:
    """A graph of nodes that run side by side, as coroutines where there is a loop."""
    builder = StateGraph(state)
    for number, node in enumerate(nodes):
        form: Any = coroutine(node) if loop else node
        builder.add_node(f"node {number}", form, **options)
        builder.add_edge(START, f"node {number}")
    return builder.compile(checkpointer=saver)


def coroutine(node: Callable[[Any], Any]) -> Any:
    if sys.version_info < (3, 11):
        pytest.skip("a coroutine finds its run from Python 3.11 on; before, the config is passed")

    async def anode(state: Any) -> Any:
        return node(state)

    return anode


def stamp(path: str = "a.txt", digest: str | None = "0" * 64, *, seen: int = 1, previous: str | None = None) -> Stamp:
    """A stamp that is made up."""
    size = None if digest is None else 4
    return Stamp(path=path, size=size, mtime_ns=size, digest=digest, previous=previous, seen=seen)


def tracked(root: Path, *paths: str) -> Callable[[Any], dict[str, Any]]:
    """A node that tracks files."""

    def node(state: Any) -> dict[str, Any]:
        for path in paths:
            track_file(path, root=root)
        return {"said": ["done"]}

    return node


# -- stamps ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("known", "new", "both"),
    [
        ({}, {"a": stamp("a")}, {"a": stamp("a")}),
        ({"a": stamp("a")}, {"b": stamp("b")}, {"a": stamp("a"), "b": stamp("b")}),
        ({"a": stamp("a")}, {"a": stamp("a", "1" * 64)}, {"a": stamp("a", "1" * 64)}),
        ({"a": stamp("a")}, {"a": stamp("a", seen=2)}, {"a": stamp("a", seen=2)}),
        ({"a": stamp("a", seen=2)}, {"a": stamp("a")}, {"a": stamp("a", seen=2)}),
        ({"a": stamp("a"), "b": stamp("b")}, {"a": None}, {"b": stamp("b")}),
        ({}, {"a": None}, {}),
    ],
)
def test_stamps_are_merged(known: dict[str, Stamp], new: dict[str, Stamp | None], both: dict[str, Stamp]) -> None:
    """A later stamp replaces the one of its path, unless that has been seen since; None takes it away."""
    before = dict(known)
    assert merged(known, new) == both
    assert known == before


def test_a_stamp_is_small(root: Path) -> None:
    """A stamp in a checkpoint is a few hundred bytes, and comes back as it was, with the strictest serializer."""
    (root / "a.txt").write_text("text")
    value = {"a.txt": {**find(placed("a.txt", str(root))).stamp("a.txt"), "previous": "0" * 64}}
    serde = JsonPlusSerializer(allowed_msgpack_modules=None)
    kind, data = serde.dumps_typed(value)
    assert serde.loads_typed((kind, data)) == value
    assert len(data) < 300


def test_a_state_of_pydantic(root: Path) -> None:
    """The field may be one of a pydantic model, and the graph has a schema of JSON."""

    class Model(BaseModel):
        files: TrackedFiles = {}
        said: Annotated[list[str], add] = []

    (root / "a.txt").write_text("text")
    built = graph(tracked(root, "a.txt"), state=Model)
    assert file_channels(built) == ["files"]
    assert list(built.invoke({"files": {}})["files"]) == ["a.txt"]
    assert "digest" in str(graph(tracked(root)).get_input_jsonschema())


def test_the_channels_of_a_graph(root: Path) -> None:
    """The channels that hold stamps are found by their type."""
    assert file_channels(graph(tracked(root))) == ["files"]
    assert file_channels(graph(tracked(root), state=Other)) == []


# -- track_file ------------------------------------------------------------------------------------------------------


def test_a_node_tracks_files(
    root: Path, saver: BaseCheckpointSaver[Any], loop: Loop, caplog: pytest.LogCaptureFixture
) -> None:
    """What a node tracked is in the state after it and after the checkpointer, as plain data, also of no file."""
    (root / "folder").mkdir()
    (root / "folder" / "a.txt").write_text("text")
    (root / "link").symlink_to("folder/a.txt")
    made: list[Stamp] = []

    def node(state: State) -> dict[str, Any]:
        made.extend([track_file(root / "folder" / "a.txt", root=root), track_file("none", root=root)])
        assert track_file("link", root=root)["seen"] == 2
        return {"said": ["done"]}

    built = graph(node, saver=saver, loop=loop)
    called(loop, built, "invoke", {}, thread())
    files = called(loop, built, "get_state", thread()).values["files"]
    assert files == {"folder/a.txt": {**made[0], "seen": 2}, "none": made[1]}
    assert made[1] == stamp("none", None)
    assert (made[0]["size"], made[0]["mtime_ns"]) == (4, (root / "link").stat().st_mtime_ns)
    assert {type(value) for one in files.values() for value in one.values()} == {str, int, type(None)}
    assert caplog.records == []


def test_a_node_that_writes_nothing_else(root: Path, saver: BaseCheckpointSaver[Any], loop: Loop) -> None:
    """What it tracked is in the state, also where it begins that anew."""

    def tracks(state: State) -> None:
        track_file("a.txt", root=root)

    def anew(state: State) -> dict[str, Any]:
        track_file("b.txt", root=root)
        return {"files": Overwrite({})}

    for node, found in ((tracks, ["a.txt"]), (anew, ["b.txt"])):
        built = graph(node, saver=saver, loop=loop)
        called(loop, built, "invoke", {"said": []}, thread())
        assert list(called(loop, built, "get_state", thread()).values["files"]) == found


def test_nodes_side_by_side(root: Path, saver: BaseCheckpointSaver[Any], loop: Loop) -> None:
    """Nodes that run side by side leave their stamps in the same state."""
    built = graph(*(tracked(root, f"{n}.txt", "shared") for n in range(5)), saver=saver, loop=loop)
    called(loop, built, "invoke", {}, thread())
    files = called(loop, built, "get_state", thread()).values["files"]
    assert sorted(files) == [*(f"{n}.txt" for n in range(5)), "shared"]
    assert files["shared"]["seen"] == 1


def test_subgraphs(root: Path, saver: BaseCheckpointSaver[Any], loop: Loop) -> None:
    """A subgraph with the field records there; an older copy in one beside it does not replace what was seen since."""
    file = root / "a.txt"
    file.write_text("old")

    def first(state: State) -> dict[str, Any]:
        file.write_text("new")
        track_file("a.txt", root=root)
        return {"said": ["done"]}

    for nodes in ((first, tracked(root, "b.txt")), (tracked(root, "b.txt"), first)):
        before: Any = tracked(root, "a.txt")
        builder = StateGraph(State).add_node("before", before).add_edge(START, "before")
        for number, node in enumerate(nodes):
            builder.add_node(f"sub {number}", graph(node, loop=loop)).add_edge("before", f"sub {number}")
        built: Graph = builder.compile(checkpointer=saver)
        file.write_text("old")
        thread_id = str(nodes.index(first))
        files = called(loop, built, "invoke", {}, thread(thread_id))["files"]
        assert sorted(files) == ["a.txt", "b.txt"]
        assert changed_files(files, root) == []


def test_a_thread_of_ones_own(root: Path) -> None:
    """Where the run cannot be found its config is passed."""

    def node(state: State, config: RunnableConfig) -> dict[str, Any]:
        failed: list[BaseException] = []

        def work(*given: RunnableConfig) -> None:
            try:
                track_file("a.txt", root=root, config=given[0] if given else None)
            except InvalidRequestError as error:
                failed.append(error)

        for given in ((), (config,)):
            running = threading.Thread(target=work, args=given)
            running.start()
            running.join()
        assert ["config=config" in str(error) for error in failed] == [True]
        return {"said": ["done"]}

    built: Graph = StateGraph(State).add_node("node", node).add_edge(START, "node").compile()
    assert list(built.invoke({})["files"]) == ["a.txt"]


class Two(TypedDict):
    files: TrackedFiles
    more: TrackedFiles


def test_where_nothing_can_be_tracked(root: Path, loop: Loop) -> None:
    """Outside of a run, without the field, with two of them, and for a path outside: the error says what to do."""
    with pytest.raises(InvalidRequestError, match="inside of a run"):
        track_file("a.txt", root=root)
    with pytest.raises(InvalidRequestError, match="add `files: TrackedFiles`"):
        called(loop, graph(tracked(root, "a.txt"), state=Other, loop=loop), "invoke", {"said": []})
    with pytest.raises(InvalidRequestError, match=r"more than one field of TrackedFiles \(files, more\)"):
        called(loop, graph(tracked(root, "a.txt"), state=Two, loop=loop), "invoke", {"files": {}})
    with pytest.raises(InvalidRequestError, match="leads out of the root"):
        called(loop, graph(tracked(root, "../a.txt"), loop=loop), "invoke", {"said": []})
    with pytest.raises(InvalidRequestError, match="is no folder"):
        called(loop, graph(tracked(root / "none", "a.txt"), loop=loop), "invoke", {"said": []})


def test_a_node_that_fails(root: Path, saver: BaseCheckpointSaver[Any], loop: Loop) -> None:
    """A node that tracked a file and then failed runs again, and what it sees then is what is recorded."""
    times: list[str] = []

    def node(state: State) -> dict[str, Any]:
        track_file("a.txt", root=root)
        times.append("ran")
        if len(times) == 1:
            raise ConnectionError("try again")
        return {"said": ["done"]}

    built = graph(node, saver=saver, loop=loop)
    with pytest.raises(ConnectionError):
        called(loop, built, "invoke", {}, thread())
    (root / "a.txt").write_text("text")
    done = called(loop, built, "invoke", None, thread())
    assert (done["said"], changed_files(done["files"], root)) == (["done"], [])
    assert times == ["ran", "ran"]


def test_a_node_that_is_tried_again(root: Path, loop: Loop) -> None:
    """What the last attempt saw is what is recorded."""
    times: list[str] = []

    def node(state: State) -> dict[str, Any]:
        (root / "a.txt").write_text("text" * len(times))
        track_file("a.txt", root=root)
        times.append("ran")
        if len(times) < 3:
            raise ConnectionError("try again")
        return {"said": ["done"]}

    policy = RetryPolicy(initial_interval=0, backoff_factor=0, max_interval=0, jitter=False)
    done = called(loop, graph(node, loop=loop, retry_policy=policy), "invoke", {})
    assert (len(times), done["files"]["a.txt"]["size"]) == (3, 8)


def test_a_node_beside_one_that_asks(root: Path, saver: BaseCheckpointSaver[Any]) -> None:
    """A node that has finished does not run again: the stamp that it returned is kept, one that it did not is not."""
    times: list[str] = []

    def finishes(state: State) -> dict[str, Any]:
        times.append("finished")
        track_file("b.txt", root=root)
        made = track_file("a.txt", root=root)
        return {"files": {made["path"]: made}}

    def asks(state: State) -> dict[str, Any]:
        return {"said": [interrupt("May I?")]}

    builder = StateGraph(State).add_node("finishes", finishes).add_node("asks", asks)
    builder.add_edge(START, "finishes").add_edge(START, "asks")
    built: Graph = builder.compile(checkpointer=saver)
    built.invoke({}, thread())
    assert list(built.get_state(thread()).values["files"]) == ["a.txt"]
    done = built.invoke(Command(resume="yes"), thread())
    assert (done["said"], list(done["files"]), times) == (["yes"], ["a.txt"], ["finished"])


def test_an_update_by_hand(root: Path, saver: BaseCheckpointSaver[Any], loop: Loop) -> None:
    """Somebody can take a path away, accept a change, and begin anew."""
    built = graph(tracked(root, "a.txt", "b.txt"), saver=saver, loop=loop)
    called(loop, built, "invoke", {}, thread())

    def files(update: Any) -> dict[str, Stamp]:
        called(loop, built, "update_state", thread(), {"files": update})
        return dict(called(loop, built, "get_state", thread()).values["files"])

    assert list(files({"a.txt": None})) == ["b.txt"]
    (root / "b.txt").write_text("text")
    (change,) = changed_files(files({}), root)
    assert changed_files(files({change.path: change.current}), root) == []
    assert files(Overwrite({})) == {}


# -- what changed ----------------------------------------------------------------------------------------------------


def test_what_changed(root: Path) -> None:
    """Files that changed, came and went are told, sorted; those of which only the time has changed are not."""
    for name in ("z.txt", "gone.txt", "same.txt", "folder"):
        (root / name).write_text("text")
    known = {
        path: find(placed(path, str(root))).stamp(path, seen=3, previous="1" * 64)
        for path in ("z.txt", "gone.txt", "same.txt", "new.txt", "none.txt", "folder")
    }
    (root / "z.txt").write_text("TEXT")
    (root / "gone.txt").unlink()
    (root / "new.txt").write_text("text")
    (root / "folder").unlink()
    (root / "folder").mkdir()
    os.utime(root / "same.txt", (1, 1))
    changes = changed_files(known, root)
    assert [(one.path, one.change) for one in changes] == [
        ("folder", "refused"),
        ("gone.txt", "deleted"),
        ("new.txt", "new"),
        ("z.txt", "changed"),
    ]
    current = {one.path: one.current for one in changes}
    assert current["gone.txt"] == stamp("gone.txt", None, seen=4, previous="1" * 64)
    assert current["folder"] is None
    assert "is a folder" in changes[0].reason
    assert all(isinstance(one, FileChange) and one.known == known[one.path] for one in changes)
    assert changed_files({}, root) == []


@pytest.mark.parametrize("path", ["../secret", "/etc/passwd", "out", "fifo", "", "a\0b", f"{KEPT}/x", "x" * 5000])
def test_a_path_that_leads_out(root: Path, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a state that somebody has tampered with nothing outside is read: the path is told as refused."""
    (root.parent / "secret").write_text("secret")
    (root / "out").symlink_to(root.parent / "secret")
    os.mkfifo(root / "fifo")
    read: list[Any] = []
    monkeypatch.setattr(os, "read", lambda *args: read.append(args))
    (change,) = changed_files({path: stamp(path)}, root)
    assert (change.path, change.change, change.current) == (path, "refused", None)
    assert change.reason
    assert read == []


@pytest.mark.parametrize("known", [None, 3, [], {"digest": 3}, {}])
def test_what_is_no_stamp(root: Path, known: Any) -> None:
    """What is no stamp is told, and the others are told as well."""
    (root / "b.txt").write_text("text")
    assert [one.change for one in changed_files({"a.txt": known, "b.txt": stamp("b.txt")}, root)] == [
        "refused",
        "changed",
    ]


def test_a_folder_that_becomes_a_link(root: Path) -> None:
    """A folder that is exchanged for a link after the path was looked at is not followed."""
    outside = root.parent / "outside"
    outside.mkdir()
    (outside / "a.txt").write_text("secret")
    (root / "folder").mkdir()
    (root / "folder" / "a.txt").write_text("text")
    place = placed("folder/a.txt", str(root))
    now = find(place)
    (root / "folder").rename(root / "moved")
    (root / "folder").symlink_to(outside, target_is_directory=True)
    with pytest.raises(InvalidRequestError, match="cannot be used"):
        find(place)
    with pytest.raises(InvalidRequestError, match="cannot be used"):
        replace(place, [b"mine"], now)
    assert [file.read_text() for file in outside.iterdir()] == ["secret"]


# -- going back ------------------------------------------------------------------------------------------------------


def written(root: Path, path: str, content: bytes) -> Stamp:
    """What a thread knows of a file that it has just written."""
    place = placed(path, str(root))
    now = find(place)
    return replace(place, [content], now).stamp(place.path, previous=now.digest)


@pytest.mark.parametrize("content", [b"old\r\n", b"", b"\xff\0" * 100_000, b"x" * 3_000_000])
def test_what_was_there_before(root: Path, content: bytes) -> None:
    """What a write replaced can be put back, to the byte, with its mode; and that can be undone."""
    file = root / "a.bin"
    file.write_bytes(content)
    file.chmod(0o640)
    mine = written(root, "a.bin", b"new")
    back = restore_file(mine, root=root)
    assert file.read_bytes() == content
    assert file.stat().st_mode & 0o777 == 0o640
    assert (back["digest"], back["previous"], back["seen"]) == (mine["previous"], mine["digest"], mine["seen"] + 1)
    assert back["mtime_ns"] == file.stat().st_mtime_ns
    assert changed_files({"a.bin": back}, root) == []
    assert restore_file(back, root=root)["digest"] == mine["digest"]
    assert file.read_bytes() == b"new"
    file.unlink()
    assert restore_file("a.bin", mine["previous"], root=root)["previous"] is None
    assert file.read_bytes() == content


def test_a_content_is_kept_once(root: Path) -> None:
    """The same content is kept once, whatever file it was in, and what is there already is not written again."""
    for name in ("a.txt", "b.txt"):
        (root / name).write_text("same")
        written(root, name, b"new")
        written(root, name, b"same")
    kept = {file.name for file in (root / KEPT).iterdir()}
    assert len(kept) == 3
    assert ".gitignore" in kept
    before = (root / "a.txt").stat()
    found = find(placed("a.txt", str(root)))
    assert restore_file("a.txt", found.digest, root=root)["digest"] == found.digest
    assert (root / "a.txt").stat().st_ino == before.st_ino


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("a.txt",), "there is nothing to put back"),
        ((stamp(),), "there is nothing to put back"),
        (({},), "there is nothing to put back"),
        (("a.txt", "2" * 64), "was kept in"),
        (("a.txt", "../a.txt"), "is not the digest"),
        (("a.txt", "0" * 63 + "\n"), "is not the digest"),
        (("../a.txt", "0" * 64), "leads out of the root"),
        ((stamp("../a.txt", previous="0" * 64),), "leads out of the root"),
        ((f"{KEPT}/x", "0" * 64), "is not for use"),
    ],
)
def test_what_cannot_be_put_back(root: Path, given: tuple[Any, ...], said: str) -> None:
    """Without a content, or a path for it, nothing is touched, and the error says what to give."""
    (root / "a.txt").write_text("text")
    with pytest.raises(InvalidRequestError, match=said):
        restore_file(*given, root=root)
    assert (root / "a.txt").read_text() == "text"
    assert [path.name for path in root.parent.iterdir()] == ["root"]


def test_a_kept_content_that_is_damaged(root: Path) -> None:
    """A content that is not what it was is not put back; the file stays as it is, and nothing is left beside it."""
    (root / "a.txt").write_text("old")
    mine = written(root, "a.txt", b"new")
    (root / KEPT / str(mine["previous"])).write_text("OLD")
    with pytest.raises(InvalidRequestError, match="is damaged"):
        restore_file(mine, root=root)
    assert (root / "a.txt").read_text() == "new"
    assert sorted(path.name for path in root.iterdir()) == [KEPT, "a.txt"]
    (root / "a.txt").write_text("old")
    written(root, "a.txt", b"newer")
    assert (root / KEPT / str(mine["previous"])).read_text() == "old"


def test_a_folder_of_kept_contents_that_leads_out(root: Path) -> None:
    """Where somebody has put a link in the place of the folder nothing is kept there, and nothing is written."""
    (root.parent / "outside").mkdir()
    (root / KEPT).symlink_to(root.parent / "outside", target_is_directory=True)
    (root / "a.txt").write_text("old")
    with pytest.raises(InvalidRequestError, match="cannot be used"):
        written(root, "a.txt", b"new")
    assert (root / "a.txt").read_text() == "old"
    assert list((root.parent / "outside").iterdir()) == []


@pytest.mark.parametrize("function", ["replace", "fsync"])
@pytest.mark.parametrize("nth", [1, 2, 3])
def test_a_disk_that_is_full(root: Path, monkeypatch: pytest.MonkeyPatch, function: str, nth: int) -> None:
    """Wherever a disk fails, the file has one content or the other, whole, and nothing is left beside it."""
    (root / "a.txt").write_text("old")
    original, times = getattr(os, function), []

    def fails(*args: Any, **kwargs: Any) -> Any:
        times.append(args)
        if len(times) == nth:
            raise OSError(errno.ENOSPC, "No space left on device")
        return original(*args, **kwargs)

    monkeypatch.setattr(os, function, fails)
    failed = False
    try:
        written(root, "a.txt", b"new")
    except OSError as error:
        failed = error.errno == errno.ENOSPC
    assert failed == (len(times) >= nth)
    assert (root / "a.txt").read_text() == ("old" if failed else "new")
    assert [name for _, _, names in os.walk(root) for name in names if name.endswith(".tmp")] == []


def test_a_write_is_on_the_disk(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The content is on the disk before it has its name, and the name before the write is acknowledged."""
    (root / "a.txt").write_text("old")
    done: list[str] = []
    sync, exchange = os.fsync, os.replace

    def synced(fd: int) -> None:
        sync(fd)
        done.append("folder" if stat.S_ISDIR(os.fstat(fd).st_mode) else "content")

    def exchanged(*args: Any, **kwargs: Any) -> None:
        exchange(*args, **kwargs)
        done.append("name")

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", exchanged)
    written(root, "a.txt", b"new")
    assert done == ["folder", *["content", "name", "folder"] * 2]


def test_a_system_without_open_folders(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where folders cannot be opened files are found, written and put back by their paths."""
    monkeypatch.setattr("langgraph_durable.files.places._RELATIVE", False)
    (root / "folder").mkdir()
    (root / "folder" / "a.txt").write_text("old")
    mine = written(root, "folder/a.txt", b"new")
    assert (root / "folder" / "a.txt").read_text() == "new"
    assert restore_file(mine, root=root)["digest"] == mine["previous"]
    written(root, "more/b.txt", b"b")
    assert sorted(path.name for path in root.iterdir()) == [KEPT, "folder", "more"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_fork_in_the_middle_of_a_write(root: Path) -> None:
    """A process that was forked while a file was written does not wait for who wrote it."""
    (root / "a.txt").write_text("old")
    mine = written(root, "a.txt", b"new")

    def content() -> Iterator[bytes]:
        child = os.fork()
        if child == 0:
            try:
                restore_file(mine, root=root)
            finally:
                os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        yield b"newer"

    place = placed("a.txt", str(root))
    with locked(place), pytest.raises(InvalidRequestError, match="at the same moment"):
        replace(place, content(), find(place))
    assert (root / "a.txt").read_text() == "old"
