"""What the demo's tools read is inside of the folder, visible, and bounded, whatever the model asks for."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver

from langgraph_durable.cli import folder
from langgraph_durable.cli.agent import build_agent
from langgraph_durable.cli.folder import Folder
from langgraph_durable.errors import InvalidRequestError


@pytest.fixture
def confined(tmp_path: Path) -> Folder:
    """A Folder with an outside to reach for: by name, by link, and by what is hidden inside."""
    root, outside = tmp_path / "folder", tmp_path / "outside"
    for directory in (root / "src", root / ".git", root / "node_modules", outside, tmp_path / "folder-2"):
        directory.mkdir(parents=True)
    (outside / "secret.txt").write_text("TODO secret\n")
    for hidden in (".env", ".git/config", "node_modules/much.js"):
        (root / hidden).write_text("TODO secret\n")
    (root / "src" / "tides.py").write_text("# TODO\n" * 7)
    (root / "picture.png").write_bytes(b"\x89PNG\0\0TODO secret\n")
    (root / "out").symlink_to(outside, target_is_directory=True)
    (root / "out.txt").symlink_to(outside / "secret.txt")
    (root / "env.txt").symlink_to(root / ".env")
    (root / "circle").symlink_to(root / "circle")
    return Folder(root)


OUTSIDE = ["..", "../outside", "../outside/secret.txt", "src/../../outside", "../folder-2", "/", "/etc/passwd"]
BY_LINK = ["out", "out/secret.txt", "out.txt", "src/../out.txt", "circle", "env.txt"]
HIDDEN = [".env", ".git", ".git/config", "node_modules", "node_modules/much.js", "src/../.env", "\0", "x" * 5_000]


@pytest.mark.parametrize("path", OUTSIDE + BY_LINK + HIDDEN)
def test_no_tool_leaves_the_folder(path: str, confined: Folder) -> None:
    """A path that leads outside, also by link, or to what is hidden, is refused by every tool."""
    for tool in (confined.list_folder, confined.read_file, confined.count):
        with pytest.raises(InvalidRequestError):
            tool(path)
    with pytest.raises(InvalidRequestError):
        confined.search("TODO", path)


def test_links_are_not_followed_by_a_scan(confined: Folder) -> None:
    """Listing, counting and searching the whole folder shows nothing of what its links lead to."""
    assert "out" not in confined.list_folder()
    assert confined.count().startswith("2 files, of which 1 are text with 7 lines in all")
    assert "secret" not in confined.search("TODO")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
def test_a_named_pipe_is_not_waited_for(tmp_path: Path) -> None:
    """A named pipe, whose reader would wait for ever, is neither read nor counted."""
    os.mkfifo(tmp_path / "pipe.txt")
    assert Folder(tmp_path).count().startswith("0 files")
    with pytest.raises(InvalidRequestError):
        Folder(tmp_path).read_file("pipe.txt")


@pytest.mark.skipif(sys.platform != "linux", reason="file names are Unicode here")
def test_a_name_that_is_not_unicode_can_be_stored(tmp_path: Path) -> None:
    """A file name that is not UTF-8 is shown as text that any serializer takes."""
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/a\xff.txt")).write_text("TODO")
    for text in (Folder(tmp_path).list_folder(), Folder(tmp_path).search("TODO"), Folder(tmp_path).count()):
        assert text.encode("utf-8")
        assert "a?.txt" in text


def test_every_answer_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tool's answer stops at its bound and says that there is more."""
    monkeypatch.setattr(folder, "MAX_FILES", 20)
    for number in range(300):
        (tmp_path / f"file_{number:03}.txt").write_text("TODO\n" * 3)
    (tmp_path / "long.txt").write_text("x" * 10_000)
    (tmp_path / "huge.txt").write_text("x" * 1_000_001)
    tools = Folder(tmp_path)
    assert tools.list_folder().endswith("... (102 more entries)")
    assert tools.read_file("long.txt").endswith("... (4,000 more characters)")
    assert tools.search("TODO").endswith("... (20 more matches)\n(only the first 20 files were looked at)")
    assert tools.count().endswith("(only the first 20 files were looked at)")
    with pytest.raises(InvalidRequestError, match="larger than"):
        tools.read_file("huge.txt")


def test_a_refusal_is_the_models_to_correct(tmp_path: Path) -> None:
    """A call that the folder refuses, or that has wrong arguments, gives the model an error, and the run goes on."""
    wanted: list[tuple[str, dict[str, Any]]] = [("read_file", {"path": "../x"}), ("search", {}), ("count", {})]

    def ask(messages: list[AnyMessage], config: RunnableConfig) -> AIMessage:
        done = sum(isinstance(message, ToolMessage) for message in messages)
        if done == len(wanted):
            return AIMessage("done")
        name, arguments = wanted[done]
        return AIMessage("", tool_calls=[{"name": name, "args": arguments, "id": f"call_{done}"}])

    graph = build_agent(Folder(tmp_path), ask, InMemorySaver(), lambda name, node: node)
    config: RunnableConfig = {"configurable": {"thread_id": "1"}}
    messages = graph.invoke({"messages": [HumanMessage("go")]}, config)["messages"]
    results = [message for message in messages if isinstance(message, ToolMessage)]
    assert [message.status for message in results] == ["error", "error", "success"]
    assert "outside of the folder" in str(results[0].content)
    assert messages[-1].content == "done"
