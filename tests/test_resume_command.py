"""`resume` goes on with a thread by the app's own graph, and its exit status says what came of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import langgraph_durable
from langgraph_durable import open_saver
from langgraph_durable.cli import main
from langgraph_durable.cli.graphs import graph_of
from langgraph_durable.durability import durable
from tests.conftest import thread

APP = """
import asyncio
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import interrupt
from langgraph_durable import SqliteSaver, durable


@dataclass
class Point:
    x: int


class State(MessagesState):
    point: Point


def log(what):
    with open("ran.txt", "a") as file:
        print(what, file=file)


def tool(state):
    log("tool")
    if not Path("mended").exists():
        raise RuntimeError("no tool\\x1b[31m today")
    if Path("slow").exists():
        log("sleeps")
        time.sleep(60)
    return {"messages": [("ai", "found")], "point": Point(1)}


def ask(state):
    assert type(state["point"]) is Point
    answer = interrupt("sure?")
    log(f"answer {answer!r}")
    return {"messages": [("ai", str(answer))]}


async def awaited(state):
    log("awaited")
    return {}


builder = StateGraph(State).add_node("tool", tool).add_node("ask", ask)
builder.add_edge(START, "tool").add_edge("tool", "ask")
graph = builder.compile()
kept = durable(builder.compile(checkpointer=SqliteSaver(":memory:")), owner="the app")
other = StateGraph(State).add_node("tool", tool).add_node("ask", ask).add_node("awaited", awaited)
awaiting = other.add_edge(START, "tool").add_edge("tool", "awaited").add_edge("awaited", "ask").compile()


class inside:
    make = staticmethod(lambda checkpointer: builder.compile(checkpointer=checkpointer))


def forgetful(checkpointer):
    return builder.compile()


def breaks(checkpointer):
    raise KeyError("breaks")


def nothing(checkpointer):
    return None


number = 7
"""

GRAPHS = ("graph", "kept", "inside.make", "forgetful", "awaiting")


@pytest.fixture(params=["sqlite:///agent.db", "file:///checkpoints"])
def url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Where a thread is that failed in its tool, with the app's module in the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [one for one in sys.path if one != ""])
    (tmp_path / "an_app.py").write_text(APP)
    (tmp_path / "a_broken_app.py").write_text("import an_app\n1 / 0\n")
    (tmp_path / "an_app_without.py").write_text("import not_installed_anywhere\n")
    yield str(request.param)
    for name in ("an_app", "a_broken_app", "an_app_without"):
        sys.modules.pop(name, None)


@pytest.fixture
def failed(url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The same, with a thread that failed in its tool."""
    monkeypatch.syspath_prepend(os.getcwd())
    import an_app  # type: ignore[import-not-found]

    with open_saver(url) as saver:
        app = durable(an_app.builder.compile(checkpointer=saver))
        with pytest.raises(RuntimeError):
            app.invoke({"messages": [("user", "go")]}, thread("t"))
    sys.modules.pop("an_app")
    return url


def resumed(capsys: pytest.CaptureFixture[str], status: int, url: str, *arguments: str) -> tuple[str, str]:
    """What the command says on stdout and on stderr when it ends with that status."""
    assert main(["resume", url, "t", *arguments]) == status, capsys.readouterr().err
    out, err = capsys.readouterr()
    assert all(one.isprintable() or one == "\n" for one in out + err)
    return out, err


def ran() -> list[str]:
    """What the nodes said of themselves, in order."""
    return Path("ran.txt").read_text().splitlines()


@pytest.mark.parametrize("name", GRAPHS)
def test_a_thread_goes_on(failed: str, capsys: pytest.CaptureFixture[str], name: str) -> None:
    """A thread is run on by whatever the app calls its graph, on the saver of the URL, and how it stands is printed."""
    graph = ("--graph", f"an_app:{name}")
    out, err = resumed(capsys, 1, failed, *graph)
    assert "status   error (exception)" in out
    assert "error: RuntimeError: no tool\\x1b[31m today" in out
    assert "Traceback" not in out
    assert "Traceback (most recent call last):" in err
    assert "thread 't' goes on from checkpoint " in err
    assert ("graph: node 'awaited' added" in err) == (name == "awaiting")
    Path("mended").touch()
    out, err = resumed(capsys, 0, failed, *graph)
    assert "status   interrupted (node)" in out
    assert "waits for an answer" in out
    assert '"sure?"' in out
    assert "goes on from" in err
    out, err = resumed(capsys, 2, failed, *graph)
    assert out == ""
    assert "pass --answer" in err
    assert "sure?" not in err
    out, err = resumed(capsys, 0, failed, *graph, "--answer", "yes")
    assert "status   idle" in out
    out, err = resumed(capsys, 2, failed, *graph)
    assert "nothing left to do" in err
    with open_saver(failed) as saver:
        info = saver.get_thread("t")
        assert info is not None
        assert info.status == "idle"
    between = ["awaited"] if name == "awaiting" else []
    assert ran() == ["tool", "tool", "tool", *between, "answer 'yes'"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("yes", "'yes'"),
        ('"yes"', "'yes'"),
        ("4", "4"),
        ('{"a": [true]}', "{'a': [True]}"),
        ("null", "None"),
        ("NaN", "'NaN'"),
        ("", "''"),
    ],
)
def test_an_answer(failed: str, capsys: pytest.CaptureFixture[str], text: str, value: str) -> None:
    """An answer is what it is as JSON, and where it is none the text itself."""
    Path("mended").touch()
    resumed(capsys, 0, failed, "--graph", "an_app:graph")
    resumed(capsys, 0, failed, "--graph", "an_app:graph", "--answer", text)
    assert ran()[-1] == f"answer {value}"


def test_from_a_node(failed: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A thread goes back to before a node, of which it can be asked first what that means."""
    Path("mended").touch()
    graph = ("--graph", "an_app:graph")
    resumed(capsys, 0, failed, *graph)
    before = ran()
    out, err = resumed(capsys, 0, failed, *graph, "--from-node", "tool", "--dry-run")
    assert out.startswith("thread 't' goes on from checkpoint ")
    assert "tool runs; had run after it: tool" in out
    assert err == ""
    assert ran() == before
    resumed(capsys, 0, failed, *graph, "--from-node", "tool", "--occurrence", "0")
    assert ran() == [*before, "tool"]
    for wrong in (("--from-node", "nowhere"), ("--from-node", "tool", "--occurrence", "5")):
        out, err = resumed(capsys, 2, failed, *graph, *wrong)
        assert (out, err.count("\n")) == ("", 1)
    assert "waits for an answer" in resumed(capsys, 2, failed, *graph, "--dry-run")[1]


def test_settings_of_the_app(failed: str) -> None:
    """A graph that is durable already keeps the settings that it has."""
    with open_saver(failed) as saver:
        assert graph_of("an_app:kept", saver, "--graph")._settings.owner == "the app"


def test_in_an_event_loop(failed: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A graph is awaited where that is asked for."""
    Path("mended").touch()
    assert "interrupted (node)" in resumed(capsys, 0, failed, "--graph", "an_app:graph", "--async")[0]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (None, "pass --graph module:attribute"),
        ("an_app", "must be module:attribute"),
        (":graph", "must be module:attribute"),
        ("an_app:", "must be module:attribute"),
        ("nowhere.at_all:graph", "no module 'nowhere'"),
        ("an_app:nothing_of_this", "has no 'nothing_of_this'"),
        ("an_app:inside.nothing", "has no 'inside.nothing'"),
        ("an_app:number", "of type int"),
        ("an_app:builder", "of type StateGraph"),
        ("an_app:nothing", "of type NoneType"),
        ("an_app:breaks", "raised KeyError when it was called"),
        ("a_broken_app:graph", "raised ZeroDivisionError when it was imported"),
        ("an_app_without:graph", "No module named 'not_installed_anywhere'"),
    ],
)
def test_what_is_no_graph(failed: str, capsys: pytest.CaptureFixture[str], name: str | None, said: str) -> None:
    """What is no graph is refused with what would be one, after the traceback of what the app itself raised."""
    out, err = resumed(capsys, 2, failed, *(("--graph", name) if name is not None else ()))
    assert out == ""
    assert said in err.splitlines()[-1]
    own = "raised" in said or "not_installed" in said
    assert ("Traceback" in err) == own
    assert own or err.count("\n") == 1


def test_what_is_not_there(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A store that is not there is not made, and of a thread that is not there nothing can go on."""
    assert "there is nothing at" in resumed(capsys, 2, url, "--graph", "an_app:graph")[1]
    assert not Path("agent.db").exists()
    open_saver(url).close()
    assert "no thread 't'" in resumed(capsys, 2, url, "--graph", "an_app:graph")[1]


def in_a_process(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    """The command in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "langgraph_durable", *arguments],
        env={**os.environ, "PYTHONPATH": str(Path(langgraph_durable.__file__).parents[1]), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )


def test_ctrl_c(failed: str) -> None:
    """Ctrl-C ends the run, and the thread says so."""
    Path("mended").touch()
    Path("slow").touch()
    process = in_a_process("resume", failed, "t", "--graph", "an_app:graph")
    patience = time.monotonic() + 30
    while "sleeps" not in ran():
        assert time.monotonic() < patience, process.communicate()
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (130, "")
    assert err.splitlines()[-1] == "langgraph-durable: interrupted"
    with open_saver(failed) as saver:
        info = saver.get_thread("t")
        assert info is not None
        assert (info.status, info.reason) == ("interrupted", "ctrl-c")


def test_classes_of_a_strict_app(failed: str) -> None:
    """Where LangGraph makes only what a state declares, the graph's own classes are made again."""
    Path("mended").touch()
    for arguments in ((), ("--answer", "yes")):
        process = in_a_process(
            "resume", failed, "t", "--graph", "an_app:graph", *arguments, LANGGRAPH_STRICT_MSGPACK="true"
        )
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
    assert "status   idle" in out
