"""`env` shows what a thread ran with, what changed on the way, and what differs from the code as it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode

from langgraph_durable import durable, open_saver
from langgraph_durable.cli import main
from tests.conftest import thread

APP = """
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode


@tool
def search(query: str, limit: int = {limit}) -> str:
    '''Search the web.\\x1b[31m'''
    return ""


builder = StateGraph(MessagesState).add_node("quiet", lambda state: {{}}).add_node("tools", ToolNode([search]))
graph = builder.add_edge(START, "quiet").compile()
"""


@tool
def search(query: str, limit: int = 5) -> str:
    """Search the web.\x1b[31m"""
    return ""


@tool
def send(to: str) -> str:
    """Send a letter."""
    return ""


@pytest.fixture(params=["sqlite:///agent.db", "file:///checkpoints"])
def stored(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a saver with a thread that ran with two sets of tools."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    for limit in (5, 6):
        (tmp_path / f"app_{request.param[:4]}_{limit}.py").write_text(APP.format(limit=limit))
    url = str(request.param)
    with open_saver(url) as saver:
        for tools in ([search, send], [search]):
            builder = StateGraph(MessagesState).add_node("quiet", lambda state: {})
            builder.add_node("tools", ToolNode(tools)).add_edge(START, "quiet")
            app = durable(builder.compile(checkpointer=saver), model="openai:gpt-4o", on_change="ignore")
            app.invoke({"messages": [("user", "hi")]}, thread("t"))
        plain: Any = builder.compile(checkpointer=saver)
        plain.invoke({"messages": [("user", "hi")]}, thread("plain"))
    return url


def printed(capsys: pytest.CaptureFixture[str], status: int, *arguments: str) -> str:
    """What the command prints, after it ended like that."""
    assert main(["env", *arguments]) == status
    return capsys.readouterr().out


def test_what_it_ran_with(stored: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each fingerprint has a row, what changed between two is told, and the newest is shown in full."""
    out = printed(capsys, 0, stored, "t")
    assert out.count("openai:gpt-4o") == 3
    assert "changed at step 2:\n  tools: 'send' removed\n" in out
    assert '  limit: {"default": 5, "type": "integer"}' in out
    assert "nodes       quiet, tools" in out
    assert "Search the web.\\x1b[31m" in out
    assert "\x1b" not in out


def test_for_programs(stored: str, capsys: pytest.CaptureFixture[str]) -> None:
    """As JSON there is the whole history, with the records, and the report of a comparison."""
    found = json.loads(printed(capsys, 0, stored, "t", "--json"))
    assert [sorted(one["record"]["tools"]) for one in found["history"]] == [["search", "send"], ["search"]]
    assert found["history"][0]["fingerprint"]["model"] == "openai:gpt-4o"
    assert found["against"] is None
    found = json.loads(printed(capsys, 1, stored, "t", "--json", "--against", f"app_{stored[:4]}_6:graph"))
    (change,) = found["against"]["changes"]
    assert (change["name"], change["aspect"], change["old"], change["new"]) == ("search.limit", "default", 5, 6)


def test_against_the_code(stored: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The exit status says whether anything differs from the code, and the last lines what."""
    out = printed(capsys, 0, stored, "t", "--against", f"app_{stored[:4]}_5:graph")
    assert out.splitlines()[-1].endswith("no changes of what it runs with")
    out = printed(capsys, 1, stored, "t", "--against", f"app_{stored[:4]}_6:graph")
    assert out.splitlines()[-1] == "  tools: argument search.limit: default 5 -> 6"


def test_a_thread_that_recorded_nothing(stored: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It is said that nothing was recorded; who asks whether anything differs is not told that nothing does."""
    assert "recorded nothing" in printed(capsys, 0, stored, "plain")
    assert "was not recorded" in printed(capsys, 1, stored, "plain", "--against", f"app_{stored[:4]}_6:graph")


def test_what_is_not_there(stored: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A thread, a store or a graph that is not there is said to be not there, and nothing is made."""
    for arguments, said in (
        ((stored, "nobody"), "there is no thread 'nobody'"),
        (("sqlite:///nothing.db", "t"), "there is nothing at"),
        ((stored, "t", "--against", "nothing:graph"), "which --against names"),
        ((stored, "t", "--against", "graph"), "--against must be module:attribute"),
    ):
        assert main(["env", *arguments]) == 2
        assert said in capsys.readouterr().err
