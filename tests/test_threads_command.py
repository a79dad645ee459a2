"""`threads` and `show` tell how threads stand, in a terminal that obeys nothing of it, and to programs as JSON."""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import interrupt

from langgraph_durable import open_saver
from langgraph_durable.cli import main
from langgraph_durable.cli.show import ROWS
from langgraph_durable.cli.text import aligned, shortened, shown
from langgraph_durable.durability import durable
from tests.conftest import checkpoint, thread

KINDS = ("sqlite:///{}/agent.db", "file:///{}/checkpoints")
"""Where threads are kept in these tests."""

NASTY = "evil\n\x1b[31m\x07\u202e\x9b thread"
ANSWER = "word " * 60


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where threads are, of which there are none yet."""
    made = str(request.param).format(tmp_path)
    open_saver(made).close()
    return made


def model(state: MessagesState) -> dict[str, Any]:
    said = str(state["messages"][-1].content)
    if said == "ask":
        answer = interrupt({"really": "\x1b[2J" + "x" * 400, "price": Decimal("1.5")})
        return {"messages": [AIMessage(str(answer))]}
    if said == "fail":
        raise ValueError("of\nno\x1b[31m use" + "y" * 600)
    call = {"name": "find", "args": {"where": "here"}, "id": "c1", "type": "tool_call"}
    return {"messages": [AIMessage(ANSWER, tool_calls=[call]), ToolMessage("found", tool_call_id="c1", name="find")]}


BUILDER = StateGraph(MessagesState).add_node("model", model).add_edge(START, "model")


def fill(url: str, said: dict[str, str]) -> None:
    """A thread for each, to which that was said."""
    with open_saver(url) as saver:
        app = durable(BUILDER.compile(checkpointer=saver))
        for name, text in said.items():
            try:
                app.invoke({"messages": [("user", text)]}, {**thread(name), "metadata": {"user": name, "n": 3}})
            except ValueError:
                assert text == "fail"


def told(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> str:
    """What a command says that ends with that status, and without a word on stderr unless it could not be done."""
    assert main(arguments) == status
    out, err = capsys.readouterr()
    assert err == "" if status == 0 else err.count("\n") == 1
    assert all(one.isprintable() or one == "\n" for one in out + err)
    return out if status == 0 else err


# -- threads ---------------------------------------------------------------------------------------------------------


def test_the_list(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A row for each thread under aligned heads, the last one updated first, and the counts of statuses in the end."""
    fill(url, {"first": "hi", "second": "ask", "third": "fail"})
    head, *rows, counts = told(capsys, "threads", url).splitlines()
    assert head.split() == ["thread", "status", "nodes", "step", "messages", "checkpoints", "bytes", "updated"]
    assert [row.split()[0] for row in rows] == ["third", "second", "first"]
    assert [row[head.index("status") :].split("  ")[0] for row in rows] == [
        "error (exception)",
        "interrupted (node)",
        "idle",
    ]
    ends = head.index("messages") + len("messages")
    assert [row[:ends].split()[-1] for row in rows] == ["1", "1", "3"]
    assert counts == "3 threads: 1 error, 1 interrupted, 1 idle"


def test_some_of_them(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Threads are chosen by status and by metadata, ordered, and no more than asked for, which is said."""
    fill(url, {"first": "hi", "second": "ask", "third": "fail"})

    def names(*arguments: str) -> list[str]:
        found = json.loads(told(capsys, "threads", url, "--json", *arguments))
        return [one["thread_id"] for one in found]

    assert names("--order", "id") == ["first", "second", "third"]
    assert names("--status", "idle") == ["first"]
    assert sorted(names("--status", "idle", "--status", "error")) == ["first", "third"]
    assert names("--metadata", "user=second") == ["second"]
    assert names("--metadata", "user=second", "--metadata", "n=3") == ["second"]
    assert names("--metadata", 'n="3"') == []
    assert names("--metadata", "n=NaN") == []
    assert told(capsys, "threads", url, "--limit", "2").splitlines()[-1] == (
        "2 threads: 1 error, 1 interrupted; there are more: --limit"
    )
    assert told(capsys, "threads", url, "--limit", "1", "--status", "idle").splitlines()[-1] == "1 thread: 1 idle"
    assert main(["threads", url, "--limit", "2", "--json"]) == 0
    out, err = capsys.readouterr()
    assert len(json.loads(out)) == 2
    assert "there are more" in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--status", "lost"], "status must be one of"),
        (["--metadata", "user"], "KEY=VALUE"),
        (["--metadata", "=x"], "KEY=VALUE"),
        (["--limit", "0"], "--limit must be 1 or more"),
    ],
)
def test_what_means_nothing(url: str, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str) -> None:
    """Arguments that cannot mean anything are refused in a line that says what would."""
    assert said in told(capsys, "threads", url, *arguments, status=2)


def test_the_list_as_json(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Programs get what `ThreadInfo.as_dict` has, whatever it holds; people get it in a form that can be seen."""
    fill(url, {NASTY: "fail", "other": "hi"})
    assert f"\n{shown(NASTY)}  error (exception)" in told(capsys, "threads", url)
    found = json.loads(told(capsys, "threads", url, "--json", "--order", "id"))
    with open_saver(url) as saver:
        assert found == json.loads(json.dumps([one.as_dict() for one in saver.list_threads(order="id")]))
    assert [one["thread_id"] for one in found] == [NASTY, "other"]
    assert found[0]["error"]["type"] == "ValueError"


def test_an_empty_store(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a store without threads there is nothing to list, and one that is not there is not made."""
    assert told(capsys, "threads", url) == "no threads\n"
    assert json.loads(told(capsys, "threads", url, "--json")) == []
    gone = url.replace("agent", "no").replace("checkpoints", "no")
    for command in (["threads", gone], ["show", gone, "x"]):
        assert "there is nothing at" in told(capsys, *command, status=2)
    assert not any(name.startswith("no") for name in os.listdir(Path(url.partition(":///")[2]).parent))


def test_an_official_database(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Threads that an official saver stored are listed and shown as well, and stay as they are in its tables."""
    official = pytest.importorskip("langgraph.checkpoint.sqlite")
    with official.SqliteSaver.from_conn_string(path) as theirs:
        app: Any = BUILDER.compile(checkpointer=theirs)
        for name in ("hi", "ask"):
            app.invoke({"messages": [("user", name)]}, thread(name))

    def rows() -> list[Any]:
        with closing(sqlite3.connect(path)) as connection:
            return [connection.execute(f"SELECT * FROM {name}").fetchall() for name in ("checkpoints", "writes")]

    before = rows()
    lines = told(capsys, "threads", f"sqlite:///{path}").splitlines()
    assert {line.split()[0]: line.split()[1] for line in lines[1:-1]} == {"hi": "idle", "ask": "interrupted"}
    said = told(capsys, "show", f"sqlite:///{path}", "ask")
    assert "waits for an answer" in said
    assert "model (asked)" in said
    assert json.loads(told(capsys, "show", f"sqlite:///{path}", "ask", "--json"))["steps"][0]["status"] == "interrupted"
    assert rows() == before


# -- show ------------------------------------------------------------------------------------------------------------


def test_a_thread(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A thread is shown with how it stands, its steps, its messages in a line each, shortened unless all is wanted."""
    fill(url, {"first": "hi"})
    lines = told(capsys, "show", url, "first").splitlines()
    assert lines[:2] == ["thread 'first'", "  status   idle"]
    assert any(line.startswith("  stored   3 checkpoints, 3 messages, ") for line in lines)
    (head,) = (number for number, line in enumerate(lines) if line == "steps, the newest first")
    assert lines[head + 1].split() == ["step", "time", "source", "nodes", "status", "checkpoint"]
    assert [line.split()[0] for line in lines[head + 2 : head + 5]] == ["1", "0", "-1"]
    (head,) = (number for number, line in enumerate(lines) if line == "messages")
    assert lines[head + 1 :] == [
        "  human    hi",
        f"  ai       {('word ' * 20).strip()}... (200 more characters)",
        "           calls find",
        "  tool find found",
    ]
    full = told(capsys, "show", url, "first", "--full")
    assert f"  ai       {ANSWER.strip()}\n" in full
    assert 'calls find({"where": "here"})' in full


def test_messages_that_would_steer_a_terminal(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What somebody said is shown, and not obeyed."""
    fill(url, {"first": "\x1b]0;title\x07 go\r"})
    assert "  human    \\x1b]0;title\\x07 go\n" in told(capsys, "show", url, "first")
    told(capsys, "show", url, "first", "--full")


def test_a_thread_that_asks(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What a thread waits for is shown with the id that its answer goes to, shortened, and obeyed by no terminal."""
    fill(url, {NASTY: "ask"})
    said = told(capsys, "show", url, NASTY)
    assert said.splitlines()[0] == f"thread {NASTY!r}"
    with open_saver(url) as saver:
        app = BUILDER.compile(checkpointer=saver)
        (asked,) = app.get_state(thread(NASTY)).interrupts
    assert f'  {asked.id}  {{"really": "\\u001b[2J' in said
    assert "more characters)" in said
    assert "x" * 400 in told(capsys, "show", url, NASTY, "--full")


def test_a_thread_that_failed(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """An error is shown with its traceback, and a message of several lines is one line."""
    fill(url, {"third": "fail"})
    said = told(capsys, "show", url, "third")
    assert "\nerror: ValueError: of no\\x1b[31m useyyy" in said
    assert "more characters)" in said
    assert "  Traceback (most recent call last):\n" in said
    assert "model (failed)" in said
    assert ", 1 message, " in said
    with open_saver(url) as saver:
        assert "Traceback" not in repr(saver.get_thread("third"))


def test_a_thread_as_json(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Programs get all of it: the thread, its steps, what it asks, and its messages."""
    fill(url, {"first": "hi", NASTY: "ask"})
    found = json.loads(told(capsys, "show", url, "first", "--json"))
    assert found["thread"]["status"] == "idle"
    assert [step["ran"] for step in found["steps"]] == [[], ["model"], []]
    assert found["interrupts"] == []
    assert [one["role"] for one in found["messages"]["messages"]] == ["human", "ai", "tool"]
    assert found["messages"]["messages"][1]["text"] == ANSWER
    assert found["messages"]["messages"][1]["tool_calls"][0]["args"] == {"where": "here"}
    (asked,) = json.loads(told(capsys, "show", url, NASTY, "--json"))["interrupts"]
    assert asked["value"]["really"].startswith("\x1b[2Jxxx")
    assert asked["value"]["price"] == "Decimal('1.5')"


def test_a_thread_that_is_not_there(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It is told in one line which thread is not there, and where they are listed."""
    said = told(capsys, "show", url, NASTY, status=2)
    assert f"no thread {NASTY!r}" in said
    assert "langgraph-durable threads" in said


def test_odd_states(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Messages of several parts, several channels of messages, a long history, and no messages at all are shown."""
    parts: list[str | dict[str, Any]] = [
        "see ",
        {"type": "text", "text": "this"},
        {"type": "image_url", "image_url": {"url": "data:" + "A" * 500}},
        {"type": "tool_use", "name": "find"},
    ]
    with open_saver(url) as saver:
        config = thread("odd")
        for n in range(ROWS + 5):
            said = [HumanMessage(parts), *(AIMessage(f"{m}") for m in range(n))]
            state = checkpoint(said=said, other=[HumanMessage("\u3000\u5b57 e\u0301")], empty=[], text="x")
            config = saver.put(config, state, {"step": n, "source": "loop"}, {})
        saver.put(thread("none"), checkpoint(n=1), {}, {})
    lines = told(capsys, "show", url, "odd").splitlines()
    assert lines.count("  ... 5 earlier: --full") == 2
    assert "  human    \u5b57 e\u0301" in lines
    assert "  human    see  this [image_url]" in told(capsys, "show", url, "odd", "--full").splitlines()
    assert "messages" not in told(capsys, "show", url, "none").splitlines()


def test_what_several_tasks_ask(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What was asked by a task that has come to its end since, or is about to with an answer, is not waited for."""
    value = [{"value": "sure?", "id": "i"}]
    with open_saver(url) as saver:
        config = saver.put(thread(), checkpoint(n=1), {}, {})
        saver.put_writes(config, [("__interrupt__", value)], "one", "~__pregel_pull, one")
        saver.put_writes(config, [("n", 2)], "one", "~__pregel_pull, one")
        saver.put_writes(config, [("__interrupt__", "not a list")], "two", "~__pregel_pull, two")
    (asked,) = json.loads(told(capsys, "show", url, "thread", "--json"))["interrupts"]
    assert asked == {"id": "", "value": "not a list"}
    with open_saver(url) as saver:
        saver.put_writes(config, [("__resume__", ["yes"])], "two", "~__pregel_pull, two")
    assert json.loads(told(capsys, "show", url, "thread", "--json"))["interrupts"] == []


# -- text ------------------------------------------------------------------------------------------------------------


def test_text_in_a_line() -> None:
    """What is not there to be seen is written as Python writes it, and spaces of all kinds are spaces."""
    assert shown("a\x1b[31m\n\t\x7f\x9b\u202e\ud800\u00a0b") == r"a\x1b[31m\n\t\x7f\x9b\u202e\ud800 b"
    assert shown('it\'s "so" \\ \u00fc \u5b57') == 'it\'s "so" \\ \u00fc \u5b57'
    assert shortened("a\n b" * 3, None) == "a ba ba b"
    assert shortened("abcdef" * 300, 3) == "abc... (1,797 more characters)"


def test_columns() -> None:
    """Columns begin together, numbers end together, wide letters count twice, and what is empty is left out."""
    rows = [("\u5b57", "-1", "", "x"), ("e\u0301longer", "1,000", "", "")]
    assert list(aligned(("name", "n", "none", "last"), rows)) == [
        "name         n  last",
        "\u5b57          -1  x",
        "e\u0301longer  1,000",
    ]
