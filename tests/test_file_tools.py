"""What a model does to files through the tools: it writes what it has seen, and is told what to do where it cannot."""

from __future__ import annotations

import asyncio
import errno
import os
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool, tool
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.prebuilt import ToolNode
from langgraph.types import Command, Send, interrupt

from langgraph_durable import InvalidRequestError, SqliteSaver, durable
from langgraph_durable.files import TrackedFiles, changed_files, file_tools, restore_file, track_file, writing
from langgraph_durable.files import tools as tools_module
from langgraph_durable.files.contents import MAX_BYTES, read_text
from langgraph_durable.files.places import KEPT
from tests.conftest import thread
from tests.durables import called

Graph = CompiledStateGraph[Any, None, Any, Any]
Loop = asyncio.AbstractEventLoop | None


class State(MessagesState):
    files: TrackedFiles


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


class Agent:
    """A graph whose model is the test: `call` is what it asks for, and what it gets is the answer."""

    def __init__(
        self,
        root: Path,
        saver: BaseCheckpointSaver[Any] | None = None,
        *,
        split: bool = False,
        loop: Loop = None,
        more: list[BaseTool] | None = None,
        wrapped: bool = False,
    ) -> None:
        self.loop = loop
        builder = StateGraph(State)
        builder.add_node("tools", ToolNode([*file_tools(root), *(more or [])]))
        if split:
            builder.add_conditional_edges(START, sent, ["tools"])
        else:
            builder.add_edge(START, "tools")
        graph = builder.compile(checkpointer=saver or InMemorySaver())
        self.graph: Any = durable(graph, on_change={"files": "ignore"}) if wrapped else graph

    def calls(self, *asked: tuple[str, dict[str, Any]], thread_id: str = "thread") -> list[ToolMessage]:
        """The results of calls that are made at once."""
        made: Any = [
            {"name": name, "args": args, "id": f"call {number}", "type": "tool_call"}
            for number, (name, args) in enumerate(asked)
        ]
        return self.go({"messages": [AIMessage("", tool_calls=made)]}, thread_id)

    def call(self, name: str, /, thread: str = "thread", **args: Any) -> ToolMessage:
        """The result of one call."""
        return self.calls((name, args), thread_id=thread)[-1]

    def go(self, given: Any, thread_id: str = "thread") -> list[ToolMessage]:
        """The results at the end after a run."""
        found = called(self.loop, self.graph, "invoke", given, thread(thread_id))["messages"]
        if self.loop is not None:
            # In a loop ToolNode does not wait for the calls beside one that asks somebody.
            self.loop.run_until_complete(settled())
        last = max(at for at, message in enumerate(found) if isinstance(message, AIMessage))
        return list(found[last + 1 :])

    def files(self, thread_id: str = "thread") -> dict[str, Any]:
        """The stamps in the state."""
        values = called(self.loop, self.graph, "get_state", thread(thread_id)).values
        return dict(values["files"])


async def settled() -> None:
    """All that goes on in this loop has ended."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    await asyncio.gather(*others, return_exceptions=True)


def sent(state: State) -> list[Send]:
    message = state["messages"][-1]
    assert isinstance(message, AIMessage)
    return [Send("tools", [call]) for call in message.tool_calls]


def temporary(root: Path) -> list[str]:
    """What is left of writes that did not come to their end."""
    return [name for _, _, names in os.walk(root) for name in names if name.endswith(".tmp")]


# -- reading and writing ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", [False, True])
def test_a_model_works_on_files(
    root: Path,
    saver: BaseCheckpointSaver[Any],
    loop: Loop,
    split: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It creates, reads, replaces and edits files; the state has the last stamp of each, as the file is."""
    agent = Agent(root, saver, split=split, loop=loop)
    assert agent.call("write_file", path="src/new.txt", content="one\n").status == "success"
    assert agent.call("read_file", path="src/new.txt").content == "one\n"
    agent.call("write_file", path="src/new.txt", content="two\r\nthree\n")
    assert agent.call("edit_file", path="src/new.txt", old="two\r\n", new="2\r\n").status == "success"
    assert (root / "src" / "new.txt").read_bytes() == b"2\r\nthree\n"
    assert changed_files(agent.files(), root) == []
    (stamp,) = agent.files().values()
    assert (stamp["path"], stamp["size"]) == ("src/new.txt", 9)
    assert stamp["mtime_ns"] == (root / "src" / "new.txt").stat().st_mtime_ns
    assert [type(agent.files()), type(stamp)] == [dict, dict]
    assert caplog.records == []
    assert temporary(root) == []


@pytest.mark.parametrize("split", [False, True])
def test_calls_at_once(root: Path, saver: BaseCheckpointSaver[Any], loop: Loop, split: bool) -> None:
    """Calls that are made at once, in one task or each in its own, all leave their stamp."""
    agent = Agent(root, saver, split=split, loop=loop)
    names = [f"{number}.txt" for number in range(8)]
    made = agent.calls(*(("write_file", {"path": name, "content": name}) for name in names))
    assert {message.status for message in made} == {"success"}
    assert sorted(agent.files()) == names
    read = agent.calls(*(("read_file", {"path": name}) for name in names))
    assert [message.content for message in read] == names
    assert {stamp["seen"] for stamp in agent.files().values()} == {2}


@pytest.mark.parametrize("split", [False, True])
def test_a_file_that_was_never_read(root: Path, loop: Loop, split: bool) -> None:
    """A file that is there is not written before it was read, and the model is told so."""
    (root / "a.txt").write_text("theirs")
    agent = Agent(root, split=split, loop=loop)
    for name, args in (("write_file", {"content": "mine"}), ("edit_file", {"old": "theirs", "new": "mine"})):
        answer = agent.call(name, path="a.txt", **args)
        assert answer.status == "error"
        assert "'a.txt' was not written: it exists, and you have not read it. Read it first" in str(answer.content)
    assert (root / "a.txt").read_text() == "theirs"
    assert agent.files() == {}


@pytest.mark.parametrize("after", ["changed", "deleted", "new"])
def test_a_conflict(root: Path, saver: BaseCheckpointSaver[Any], loop: Loop, after: str) -> None:
    """A file that has changed since it was seen is left as it is until it is read again."""
    file = root / "a.txt"
    agent = Agent(root, saver, loop=loop)
    if after != "new":
        file.write_text("known")
    assert agent.call("read_file", path="a.txt").status == ("error" if after == "new" else "success")
    if after == "deleted":
        file.unlink()
    else:
        file.write_text("other")
    answer = agent.call("write_file", path="a.txt", content="mine")
    assert answer.status == "error"
    assert "it has changed since you last saw it" in str(answer.content)
    assert "Read it again first" in str(answer.content)
    assert ("no file" in str(answer.content)) == (after != "changed")
    assert file.exists() == (after != "deleted")
    assert not file.exists() or file.read_text() == "other"
    agent.call("read_file", path="a.txt")
    assert agent.call("write_file", path="a.txt", content="mine").status == "success"
    assert file.read_text() == "mine"


def test_an_edit_of_the_same_time_and_size(root: Path) -> None:
    """A change that left size and time as they were is a conflict as well."""
    file = root / "a.txt"
    file.write_text("one")
    agent = Agent(root)
    agent.call("read_file", path="a.txt")
    before = file.stat()
    file.write_text("two")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert agent.call("edit_file", path="a.txt", old="two", new="2").status == "error"
    (change,) = changed_files(agent.files(), root)
    assert (change.change, change.known["size"], change.known["mtime_ns"]) == ("changed", 3, before.st_mtime_ns)
    assert change.current is not None
    assert change.current["mtime_ns"] == before.st_mtime_ns


@pytest.mark.parametrize(
    "text", ["", "a", "a\nb\r\nc\rd", "no end\n\n", "\ufeffmark\n", "\x0c\u2028\x85\n", "ü" * 1000]
)
def test_texts_stay_as_they_are(root: Path, loop: Loop, text: str) -> None:
    """What is written is what is read, and what the file holds, to the byte."""
    agent = Agent(root, loop=loop)
    agent.call("write_file", path="a.txt", content=text)
    assert agent.call("read_file", path="a.txt").content == text
    assert (root / "a.txt").read_bytes() == text.encode()


@pytest.mark.parametrize(
    ("args", "shown"),
    [
        ({"offset": 2}, "b\x0cb\r\nc\nd"),
        ({"limit": 1}, "a\n\n[lines 1 to 1 of 4]"),
        ({"offset": 2, "limit": 2}, "b\x0cb\r\nc\n\n[lines 2 to 3 of 4]"),
        ({"offset": 4, "limit": 9}, "d"),
    ],
)
def test_some_of_the_lines(root: Path, args: dict[str, Any], shown: str) -> None:
    """A model reads the lines that it asks for, and is told where there are more."""
    (root / "a.txt").write_bytes(b"a\nb\x0cb\r\nc\nd")
    assert Agent(root).call("read_file", path="a.txt", **args).content == shown


@pytest.mark.parametrize("args", [{"offset": 0}, {"limit": 0}, {"offset": -1, "limit": 5}, {"offset": 5}])
def test_lines_that_cannot_be(root: Path, args: dict[str, Any]) -> None:
    """Lines that cannot be there are refused, and the file does not count as read."""
    (root / "a.txt").write_text("a\nb\nc\nd")
    agent = Agent(root)
    assert agent.call("read_file", path="a.txt", **args).status == "error"
    assert agent.files() == {}


@pytest.mark.parametrize(
    ("content", "said"), [(b"\xff\xfe", "not text in UTF-8"), (b"x" * (MAX_BYTES + 1), "is larger than")]
)
def test_what_is_no_text(root: Path, content: bytes, said: str) -> None:
    """A file that is no text, or too large, is not read, and so not written over either."""
    (root / "a.bin").write_bytes(content)
    agent = Agent(root)
    for name, args in (("read_file", {}), ("edit_file", {"old": "a", "new": "b"})):
        answer = agent.call(name, path="a.bin", **args)
        assert answer.status == "error"
        assert said in str(answer.content)
    assert agent.call("write_file", path="a.bin", content="mine").status == "error"
    assert (root / "a.bin").read_bytes() == content


def test_half_a_character(root: Path) -> None:
    """Text that has no form in UTF-8 is refused before anything is written."""
    made = file_tools(root)[1]
    answers: list[Any] = []

    def node(state: State) -> dict[str, Any]:
        call = {"name": "write_file", "args": {"path": "a", "content": "\ud800"}, "id": "1", "type": "tool_call"}
        answers.append(made.invoke(call))
        return {}

    built: Graph = StateGraph(State).add_node("node", node).add_edge(START, "node").compile()
    built.invoke({"messages": []})
    assert answers[0].status == "error"
    assert "half of a character" in answers[0].content
    assert list(root.iterdir()) == []


# -- edits -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "args", "said"),
    [
        ("abc", {"old": "x", "new": "y"}, "old is there 0 times"),
        ("x x x", {"old": "x", "new": "y"}, "old is there 3 times"),
        ("aaa", {"old": "aa", "new": "b"}, "old is there 2 times"),
        ("abc", {"old": "", "new": "y"}, "old is empty"),
        ("abc", {"old": "b", "new": "b"}, "nothing would change"),
        ("a\r\nb", {"old": "a\nb", "new": "c"}, "its lines end with \\r\\n"),
        ("abc", {"old": "x", "new": "y", "replace_all": True}, "old is there 0 times"),
    ],
)
def test_edits_that_are_refused(root: Path, loop: Loop, text: str, args: dict[str, Any], said: str) -> None:
    """An edit that is not clear leaves the file as it is, and the model is told how often the text is there."""
    (root / "a.txt").write_bytes(text.encode())
    agent = Agent(root, loop=loop)
    agent.call("read_file", path="a.txt")
    answer = agent.call("edit_file", path="a.txt", **args)
    assert answer.status == "error"
    assert said in str(answer.content)
    assert (root / "a.txt").read_bytes() == text.encode()
    assert not (root / KEPT).exists()


def test_an_edit_everywhere(root: Path) -> None:
    """`replace_all` replaces every occurrence, and one edit follows another without reading in between."""
    (root / "a.txt").write_text("x x x")
    agent = Agent(root)
    agent.call("read_file", path="a.txt")
    assert agent.call("edit_file", path="a.txt", old="x", new="y", replace_all=True).status == "success"
    assert agent.call("edit_file", path="a.txt", old="y y", new="z").status == "error"
    assert agent.call("edit_file", path="a.txt", old="y y y", new="z").status == "success"
    assert (root / "a.txt").read_text() == "z"
    assert agent.call("edit_file", path="none.txt", old="y", new="z").status == "error"


# -- paths -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def guarded(root: Path) -> Path:
    """A root with an outside to reach for, by name and by link, and with what is no file."""
    outside = root.parent / "outside"
    outside.mkdir()
    (outside / "secret.txt").write_text("secret")
    (root / "folder").mkdir()
    (root / "out").symlink_to(outside, target_is_directory=True)
    (root / "out.txt").symlink_to(outside / "secret.txt")
    (root / "relative").symlink_to("../outside/secret.txt")
    (root / "dangling").symlink_to(outside / "new.txt")
    (root / "circle").symlink_to("circle")
    (root / "chain").symlink_to("out")
    os.mkfifo(root / "fifo")
    (root / KEPT).mkdir()
    (root / KEPT / "secret").write_text("secret")
    (root / "kept").symlink_to(KEPT)
    (root / "plain").write_text("plain")
    return root


PATHS = [
    *("", " ", ".", "..", "../outside/secret.txt", "folder/../../outside/secret.txt", "/etc/passwd", "/", "a\0b"),
    *("out/secret.txt", "out/new.txt", "out.txt", "relative", "dangling", "circle", "chain/secret.txt", "fifo"),
    *("folder", "folder/", "plain/below", f"{KEPT}/secret", "kept/secret", f"{KEPT.upper()}/secret", KEPT),
    *("x" * 300, "/".join(["d" * 200] * 30), "root/../../root-2/x"),
]


@pytest.mark.parametrize("path", PATHS)
def test_no_tool_leaves_the_root(guarded: Path, path: str) -> None:
    """A path that leads out, or to what is no file, is refused by every tool, and nothing outside is touched."""
    agent = Agent(guarded)
    answers = agent.calls(
        ("read_file", {"path": path}),
        ("write_file", {"path": path, "content": "mine"}),
        ("edit_file", {"path": path, "old": "secret", "new": "mine"}),
    )
    assert {answer.status for answer in answers} == {"error"}
    assert not any("secret" in str(answer.content).replace(path, "") for answer in answers)
    outside = guarded.parent / "outside"
    assert [(file.name, file.read_text()) for file in outside.iterdir()] == [("secret.txt", "secret")]
    assert agent.files() == {}


def test_paths_that_cannot_be_stored(root: Path) -> None:
    """A path that is not text, also behind a link, is refused: its stamp could not be stored."""
    (root / "link").symlink_to(os.fsdecode(b"\xff.txt"))
    assert Agent(root).call("write_file", path="link", content="mine").status == "error"
    assert [file.name for file in root.iterdir()] == ["link"]


def test_a_link_inside_of_the_root(root: Path) -> None:
    """A file is one file under all of its paths, and its stamp has the real one."""
    (root / "folder").mkdir()
    (root / "folder" / "real.txt").write_text("one")
    (root / "link.txt").symlink_to("folder/real.txt")
    (root / "later.txt").symlink_to("folder/later.txt")
    agent = Agent(root)
    agent.call("read_file", path="link.txt")
    assert agent.call("write_file", path=str(root / "folder" / ".." / "folder" / "real.txt"), content="two").content
    assert agent.call("write_file", path="later.txt", content="new").status == "success"
    assert sorted(agent.files()) == ["folder/later.txt", "folder/real.txt"]
    assert (root / "link.txt").is_symlink()
    assert (root / "folder" / "real.txt").read_text() == "two"
    assert (root / "folder" / "later.txt").read_text() == "new"


# -- writers that meet -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", [False, True])
def test_two_writers_with_the_same_stamp(root: Path, loop: Loop, split: bool) -> None:
    """Of tasks that write to one file at once exactly one does; within one task they follow each other."""
    agent = Agent(root, split=split, loop=loop)
    agent.call("write_file", path="a.txt", content="start")
    answers = agent.calls(*(("write_file", {"path": "a.txt", "content": f"by {n}"}) for n in range(6)))
    won = [n for n, answer in enumerate(answers) if answer.status == "success"]
    assert len(won) == (1 if split else 6)
    assert (root / "a.txt").read_text() in {f"by {n}" for n in won}
    assert changed_files(agent.files(), root) == []


def test_two_threads_that_race(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two runs that have read the same, and write at the same moment, one wins and the other is told."""
    (root / "a.txt").write_text("start")
    agent, barrier, entered = Agent(root), threading.Barrier(2), writing.locked
    for name in ("one", "two"):
        agent.call("read_file", thread=name, path="a.txt")

    def together(place: Any) -> Any:
        barrier.wait(60)
        return entered(place)

    monkeypatch.setattr(tools_module, "locked", together)
    with ThreadPoolExecutor(2) as pool:
        each = [pool.submit(agent.call, "write_file", name, path="a.txt", content=name) for name in ("one", "two")]
        answers = {name: one.result(60) for name, one in zip(("one", "two"), each, strict=True)}
    (won,) = (name for name, answer in answers.items() if answer.status == "success")
    assert (root / "a.txt").read_text() == won
    assert temporary(root) == []


@pytest.mark.parametrize("there", [True, False])
def test_somebody_writes_in_between(root: Path, monkeypatch: pytest.MonkeyPatch, there: bool) -> None:
    """What another process writes while the new content is being written is found, and stays."""
    file = root / "a.txt"
    agent = Agent(root)
    if there:
        agent.call("write_file", path="a.txt", content="start")
    sync = os.fsync

    def slow(fd: int) -> None:
        sync(fd)
        file.write_text("theirs")

    monkeypatch.setattr(os, "fsync", slow)
    answer = agent.call("write_file", path="a.txt", content="mine")
    assert answer.status == "error"
    assert "at the same moment" in str(answer.content)
    assert file.read_text() == "theirs"
    assert temporary(root) == []


# -- failures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", ["replace", "fsync"])
@pytest.mark.parametrize("nth", [1, 2])
def test_a_disk_that_is_full(root: Path, loop: Loop, monkeypatch: pytest.MonkeyPatch, function: str, nth: int) -> None:
    """A write that fails ends the run, with the old content in place and nothing beside it; the thread goes on."""
    agent = Agent(root, loop=loop)
    agent.call("write_file", path="a.txt", content="old")
    agent.call("read_file", path="a.txt")
    original, times = getattr(os, function), []

    def fails(*args: Any, **kwargs: Any) -> Any:
        times.append(args)
        if len(times) >= nth:
            raise OSError(errno.ENOSPC, "No space left on device")
        return original(*args, **kwargs)

    monkeypatch.setattr(os, function, fails)
    with pytest.raises(OSError, match="No space left"):
        agent.call("write_file", path="a.txt", content="new")
    assert len(times) == nth
    assert (root / "a.txt").read_text() == "old"
    assert temporary(root) == []
    monkeypatch.undo()
    assert agent.go(None)[-1].status == "success"
    assert (root / "a.txt").read_text() == "new"


@pytest.mark.parametrize("mode", [0o644, 0o600, 0o755, 0o4755])
def test_the_mode_of_a_file(root: Path, mode: int) -> None:
    """A file keeps its mode when it is written, but does not run as somebody else any more."""
    file = root / "run.sh"
    file.write_text("old")
    file.chmod(mode)
    agent = Agent(root)
    agent.call("read_file", path="run.sh")
    agent.call("write_file", path="run.sh", content="new")
    assert file.stat().st_mode & 0o7777 == mode & 0o777


def test_the_mode_of_a_new_file(root: Path) -> None:
    """A new file has the mode that the process gives to new files; kept contents are for their owner alone."""
    before = os.umask(0o027)
    try:
        agent = Agent(root)
        agent.call("write_file", path="new/a.txt", content="one")
        agent.call("write_file", path="new/a.txt", content="two")
    finally:
        os.umask(before)
    assert (root / "new" / "a.txt").stat().st_mode & 0o777 == 0o640
    assert (root / "new").stat().st_mode & 0o777 == 0o750
    assert (root / KEPT).stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in (root / KEPT).iterdir()} == {0o600}
    assert (root / KEPT / ".gitignore").read_text() == "*\n"


def test_a_file_that_is_read_only(root: Path) -> None:
    """A file that nobody may write to is not written to, though its folder would allow to exchange it."""
    file = root / "a.txt"
    file.write_text("old")
    file.chmod(0o444)
    agent = Agent(root)
    agent.call("read_file", path="a.txt")
    answer = agent.call("write_file", path="a.txt", content="new")
    assert (answer.status, file.read_text()) == ("error", "old")
    assert "read-only" in str(answer.content)


def test_tools_without_a_run(root: Path) -> None:
    """Outside of a run, and where the state has no place for stamps, the tools raise: no model can help that."""
    (root / "a.txt").write_text("text")
    read = file_tools(root)[0]
    with pytest.raises(InvalidRequestError, match="inside of a run"):
        read.invoke({"path": "a.txt"})
    builder = StateGraph(MessagesState).add_node("tools", ToolNode([read])).add_edge(START, "tools")
    call: Any = {"name": "read_file", "args": {"path": "a.txt"}, "id": "1", "type": "tool_call"}
    with pytest.raises(InvalidRequestError, match="add `files: TrackedFiles`"):
        builder.compile().invoke({"messages": [AIMessage("", tool_calls=[call])]})
    with pytest.raises(InvalidRequestError, match="no folder"):
        file_tools(root / "a.txt")


def test_tools_in_a_node_of_ones_own(root: Path, loop: Loop) -> None:
    """A node that calls the tools itself gets messages from them, and the state the stamps."""
    (root / "a.txt").write_text("text")
    read = file_tools(root)[0]
    call: Any = {"name": "read_file", "args": {"path": "a.txt"}, "id": "1", "type": "tool_call"}

    def node(state: State, config: RunnableConfig) -> dict[str, Any]:
        return {"messages": [AIMessage("", tool_calls=[call]), read.invoke(call)]}

    async def anode(state: State, config: RunnableConfig) -> dict[str, Any]:
        return {"messages": [AIMessage("", tool_calls=[call]), await read.ainvoke(call, config)]}

    built: Graph = StateGraph(State).add_node("node", anode if loop else node).add_edge(START, "node").compile()
    done = called(loop, built, "invoke", {"messages": []})
    assert (done["messages"][-1].content, list(done["files"])) == ("text", ["a.txt"])


def test_the_async_form_reads_in_a_thread(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a loop the file is read by another thread, and the loop goes on."""
    (root / "a.txt").write_text("text")
    threads: list[int] = []

    def told(place: Any) -> Any:
        threads.append(threading.get_ident())
        return read_text(place)

    monkeypatch.setattr(tools_module, "read_text", told)
    made = asyncio.new_event_loop()
    try:
        assert Agent(root, loop=made).call("read_file", path="a.txt").content == "text"
        made.run_until_complete(made.shutdown_default_executor())
    finally:
        made.close()
    assert threads
    assert threading.get_ident() not in threads


def test_a_call_that_is_cancelled(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that is cancelled ends when the thread that works on a file has: nothing is written after that."""
    begun, go_on = threading.Event(), threading.Event()

    def slow(*args: Any) -> Any:
        begun.set()
        assert go_on.wait(60)
        return writing.replace(*args)

    monkeypatch.setattr(tools_module, "replace", slow)
    agent = Agent(root)
    call: Any = {"name": "write_file", "args": {"path": "a.txt", "content": "new"}, "id": "1", "type": "tool_call"}

    async def cancelled() -> None:
        given = {"messages": [AIMessage("", tool_calls=[call])]}
        running = asyncio.ensure_future(agent.graph.ainvoke(given, thread()))
        await asyncio.to_thread(begun.wait, 60)
        running.cancel()
        for _ in range(100):
            await asyncio.sleep(0)
        assert not (root / "a.txt").exists()
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert (root / "a.txt").read_text() == "new"

    asyncio.run(cancelled())


def test_what_the_model_sees() -> None:
    """A model is shown what the tools do and what their arguments mean, and nothing of how they are run."""
    shown = {made.name: made.tool_call_schema.model_json_schema()["properties"] for made in file_tools()}  # type: ignore[union-attr]  # a class of pydantic's, and no dict
    assert {name: list(args) for name, args in shown.items()} == {
        "read_file": ["path", "offset", "limit"],
        "write_file": ["path", "content"],
        "edit_file": ["path", "old", "new", "replace_all"],
    }
    assert all(arg["description"] for args in shown.values() for arg in args.values())


# -- going on --------------------------------------------------------------------------------------------------------


@tool
def ask() -> str:
    """It asks somebody."""
    return str(interrupt("May I?"))


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("split", [False, True])
def test_a_thread_that_is_gone_on_with(
    root: Path, loop: Loop, closed: None, split: bool, wrapped: bool, tmp_path: Path
) -> None:
    """A thread that waits for somebody has the stamps of what it saw, also in the step that asked; changes are told."""
    (root / "a.txt").write_text("a")
    (root / "b.txt").write_text("b")
    database = str(tmp_path / "agent.db")
    with SqliteSaver(database) as saver:
        agent = Agent(root, saver, split=split, loop=loop, more=[ask], wrapped=wrapped)
        agent.call("read_file", path="a.txt")
        agent.calls(("read_file", {"path": "b.txt"}), ("ask", {}))
    (root / "a.txt").write_text("A")
    (root / "b.txt").write_text("B")
    with SqliteSaver(database) as saver:
        agent = Agent(root, saver, split=split, loop=loop, more=[ask], wrapped=wrapped)
        # What had a task of its own has finished; what had not is made again, and sees the change.
        expected = ["a.txt", "b.txt"] if split else ["a.txt"]
        assert [change.path for change in changed_files(agent.files(), root)] == expected
        answers = agent.go(Command(resume="yes"))
        assert [answer.content for answer in answers] == ["b" if split else "B", "yes"]
        assert [change.path for change in changed_files(agent.files(), root)] == expected
        assert agent.call("write_file", path="a.txt", content="mine").status == "error"


@pytest.mark.parametrize(
    ("name", "args"), [("write_file", {"content": "new"}), ("edit_file", {"old": "old", "new": "new"})]
)
def test_a_write_that_was_made_already(root: Path, loop: Loop, name: str, args: dict[str, str]) -> None:
    """A call that is made again, since its task had asked somebody before it was stored, finds its work done."""
    (root / "a.txt").write_text("old")
    agent = Agent(root, loop=loop, more=[ask])
    agent.call("read_file", path="a.txt")
    agent.calls((name, {"path": "a.txt", **args}), ("ask", {}))
    assert (root / "a.txt").read_text() == "new"
    before = agent.files()["a.txt"]
    answers = agent.go(Command(resume="yes"))
    assert [answer.status for answer in answers] == ["success", "success"]
    stamp = agent.files()["a.txt"]
    assert stamp["previous"] == before["digest"]
    restore_file(stamp, root=root)
    assert (root / "a.txt").read_text() == "old"


def test_a_task_that_fails_beside_a_tool(root: Path, loop: Loop) -> None:
    """A node in which one call read a file and another failed runs again, as it would without any files."""
    (root / "a.txt").write_text("text")
    times: list[str] = []

    @tool
    def fails() -> str:
        """It fails at first."""
        times.append("fails")
        if len(times) == 1:
            raise ConnectionError("try again")
        return "done"

    agent = Agent(root, loop=loop, more=[fails])
    with pytest.raises(ConnectionError):
        agent.calls(("read_file", {"path": "a.txt"}), ("fails", {}))
    assert agent.files() == {}
    assert [answer.content for answer in agent.go(None)] == ["text", "done"]
    assert list(agent.files()) == ["a.txt"]


def test_a_tool_of_ones_own(root: Path, saver: BaseCheckpointSaver[Any], loop: Loop) -> None:
    """A tool that tracks a file itself is known to the tools, in the same step and in later ones."""
    if loop is not None and sys.version_info < (3, 11):
        pytest.skip("what runs in a loop finds its run from Python 3.11 on; before, the config is passed")
    (root / "a.txt").write_text("text")

    @tool
    def look() -> str:
        """It looks at a file."""
        return str(track_file("a.txt", root=root)["size"])

    agent = Agent(root, saver, loop=loop, more=[look])
    assert agent.call("look").content == "4"
    assert agent.call("write_file", path="a.txt", content="mine").status == "success"
    assert agent.files()["a.txt"]["seen"] == 2


def test_a_file_that_is_long(root: Path, saver: BaseCheckpointSaver[Any], loop: Loop) -> None:
    """A model gets as much as it can take, and is told where to read on; a line that is longer than that is cut."""
    text = "".join(f"line {number:06}\n" for number in range(1, 20_001))
    (root / "long.txt").write_text(text)
    (root / "line.txt").write_text("first\n" + "x" * 150_000 + "\nlast\n")
    agent = Agent(root, saver, loop=loop)
    read, offset = "", 1
    while offset <= 20_000:
        shown, _, rest = str(agent.call("read_file", path="long.txt", offset=offset).content).partition("\n[lines ")
        assert len(shown) <= 100_000
        read += shown
        offset = int(rest.partition("offset ")[2].rstrip("]")) if rest else 20_001
    assert read == text
    assert agent.call("read_file", path="line.txt").content == "first\n\n[lines 1 to 1 of 3; read on with offset 2]"
    cut = str(agent.call("read_file", path="line.txt", offset=2).content)
    assert cut.startswith("x" * 100_000 + "\n[line 2 of 3 goes on")
    assert agent.call("read_file", path="line.txt", offset=3).content == "last\n"
