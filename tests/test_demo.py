"""The demo's claims hold when somebody else looks: at its output, at its journal, and at the database it leaves."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, Literal, NamedTuple

import pytest
from langchain_core.messages import AIMessage, ToolMessage

import langgraph_durable
from langgraph_durable import SqliteSaver
from langgraph_durable.cli import demo, main
from langgraph_durable.cli.journal import Event, Journal, Run, checks
from langgraph_durable.cli.stored import read_back, report, size_in_official

KEY = "sk-the-secret-of-this-test"
ROW = re.compile(r"^ +(\d+)  (agent|tools): (.+?) +([12]) \(pid (\d+)\) +\+([\d.]+) s  (.+)$", re.MULTILINE)


class Demo(NamedTuple):
    """A demo that ran in a process of its own: what it printed, and what it left in `kept`."""

    status: int
    out: str
    err: str
    kept: Path
    database: Path


def run_demo(place: Path, *arguments: str, **environment: str) -> Demo:
    """The demo run over `place`/folder, with its temporary files in `place`/work."""
    work = place / "work"
    work.mkdir()
    database = place / "agent.db"
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("OPENAI_", "LANGSMITH_"))}
    environment |= {
        "TMPDIR": str(work),
        "TEMP": str(work),
        "NO_PROXY": "127.0.0.1",
        "PYTHONPATH": str(Path(langgraph_durable.__file__).parents[1]),
        # What a user would be warned of, too. Pending deprecations of others are not shown to anybody.
        "PYTHONWARNINGS": "error,ignore::PendingDeprecationWarning",
    }
    command = [sys.executable, "-m", "langgraph_durable", "demo", str(place / "folder")]
    done = subprocess.run(
        [*command, "--database", str(database), *arguments],
        env=inherited | environment,
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    kept = next(work.iterdir(), work)
    # On a busy machine it says that it waits.
    err = re.sub(r"^ +\.\.\. \d+ s: process \d is at work\n", "", done.stderr, flags=re.MULTILINE)
    return Demo(done.returncode, done.stdout, err, kept, database)


def make_folder(root: Path) -> None:
    """A small project: 4 visible text files with 67 lines, TODO in 3 lines of 2 files, an image, and what is hidden."""
    for directory in ("src", "notes", "node_modules", ".git"):
        (root / directory).mkdir(parents=True)
    (root / "README.md").write_text("\n# The tides\n\nWhen the water comes, and how high.\n")
    (root / "src" / "tides.py").write_text("def tide(hour):\n" + "    # TODO: the moon\n" * 2 + "    pass\n" * 47)
    (root / "src" / "moon.py").write_text("PHASES = 8\n" * 10)
    (root / "notes" / "next.txt").write_text("first\nTODO: ask the harbour\nlast")
    (root / "picture.png").write_bytes(b"\x89PNG\0\0TODO\n")
    (root / "node_modules" / "much.js").write_text("// TODO\n" * 500)
    (root / ".git" / "config").write_text("TODO\n")
    (root / ".env").write_text("TODO=secret\n")


@pytest.fixture(scope="module")
def offline(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """The demo as most people run it, with everything kept."""
    place = tmp_path_factory.mktemp("offline")
    make_folder(place / "folder")
    return run_demo(place, "--keep")


def test_it_succeeds_and_says_that_the_model_is_scripted(offline: Demo) -> None:
    """The demo ends with status 0 and says that its model is scripted and offline."""
    assert (offline.status, offline.err) == (0, "")
    assert "Model  scripted and offline: no network" in offline.out


def test_one_process_is_killed_in_a_step_and_another_goes_on(offline: Demo) -> None:
    """One row says KILLED, the same step finishes in a process with another pid, and steps go on to the end there."""
    rows = [
        (int(step), int(process), pid, outcome) for step, _, _, process, pid, _, outcome in ROW.findall(offline.out)
    ]
    assert [row[:2] for row in rows] == [(step, 1) for step in range(1, 9)] + [(step, 2) for step in range(8, 12)]
    assert [row[3] for row in rows] == ["finished"] * 7 + ["KILLED in the middle"] + ["finished after resume"] * 4
    assert len({row[2] for row in rows[:8]}) == len({row[2] for row in rows[8:]}) == 1
    assert rows[0][2] != rows[-1][2]


def test_no_step_that_had_finished_ran_again(offline: Demo) -> None:
    """The journal has one start and one end of every step, but for the start of the step of the kill, which has two."""
    events = [json.loads(line) for line in (offline.kept / "journal.jsonl").read_text().splitlines()]
    starts = Counter(event["step"] for event in events if event["kind"] == "start")
    ends = Counter(event["step"] for event in events if event["kind"] == "end")
    assert starts == {step: 2 if step == 8 else 1 for step in range(1, 12)}
    assert ends == dict.fromkeys(range(1, 12), 1)
    assert [event["step"] for event in events if event["kind"] == "pause"] == [8]
    assert "FAILED" not in offline.out
    assert "none of the 7 steps that had finished before the kill ran again" in offline.out


def test_the_database_has_the_whole_run_once(offline: Demo) -> None:
    """The kept database has one checkpoint a step, every tool call with its result, and the answer shown."""
    with SqliteSaver.from_conn_string(str(offline.database)) as saver:
        history = list(saver.list({"configurable": {"thread_id": "demo"}}))[::-1]
    assert [entry.metadata["step"] for entry in history] == list(range(-1, 12))
    messages = history[-1].checkpoint["channel_values"]["messages"]
    asked = [call["id"] for message in messages if isinstance(message, AIMessage) for call in message.tool_calls]
    assert asked == [message.tool_call_id for message in messages if isinstance(message, ToolMessage)]
    assert len(set(asked)) == len(asked) == 5
    assert [f"  {line}" in offline.out for line in messages[-1].text.split("\n")] == [True] * 5


def test_the_answer_has_the_true_numbers(offline: Demo) -> None:
    """The answer states what is really in the folder, and nothing of what is hidden, installed or binary."""
    answer = offline.out.partition("The answer, as it is stored\n")[2].partition("\n\n")[0]
    assert [line.strip() for line in answer.split("\n")] == [
        "5 files are here; 4 are text, 67 lines in all.",
        "Most lines are in .py: 60 in 2 files.",
        "TODO stands in 3 lines of 2 files.",
        "src/tides.py has 50 lines and begins: def tide(hour):",
        "README.md has 4 lines and begins: # The tides",
    ]


def test_the_comparison_has_the_sizes_of_the_files(offline: Demo) -> None:
    """What is stored is shown as steps, messages and the bytes on disk, beside those of the official saver."""
    official = offline.kept / "official.db"
    figures = {int(number.replace(",", "")) for number in re.findall(r"[\d,]+(?=  )", offline.out.split("stored")[-1])}
    assert figures == {11, 12, offline.database.stat().st_size, official.stat().st_size}
    assert "langgraph-checkpoint-sqlite, the same run" in offline.out


def test_the_official_saver_was_given_the_same_run(offline: Demo) -> None:
    """The official database of the comparison gives back the same checkpoints and writes as ours."""
    sqlite = pytest.importorskip("langgraph.checkpoint.sqlite")
    with sqlite.SqliteSaver.from_conn_string(str(offline.kept / "official.db")) as saver:
        theirs = list(saver.list(None))
    assert theirs == read_back(offline.database, "demo").history[::-1]


def test_without_the_official_saver_one_line_says_what_to_install(
    offline: Demo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where langgraph-checkpoint-sqlite is not installed, the report says how to install it instead of comparing."""
    monkeypatch.setitem(sys.modules, "langgraph.checkpoint.sqlite", None)
    stored = read_back(offline.database, "demo")
    last = report(stored, size_in_official(offline.database, tmp_path)).split("\n")[-1]
    assert last.endswith("pip install langgraph-checkpoint-sqlite")


def test_an_empty_folder_is_killed_in_the_answer(tmp_path: Path) -> None:
    """A run shorter than the step of the kill is killed in the step of the answer; nothing but the database is left."""
    (tmp_path / "folder").mkdir()
    done = run_demo(tmp_path)
    assert (done.status, "FAILED" in done.out) == (0, False)
    assert [(int(row[0]), row[6]) for row in ROW.findall(done.out)][-2:] == [
        (7, "KILLED in the middle"),
        (7, "finished after resume"),
    ]
    assert "0 files are here" in done.out
    assert list((tmp_path / "work").iterdir()) == list((tmp_path / "folder").iterdir()) == []


class Provider(ThreadingHTTPServer):
    """An OpenAI-compatible chat provider that calls count, then search, then answers; it refuses every other key."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Completions)
        self.asked: list[dict[str, Any]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class _Completions(BaseHTTPRequestHandler):
    server: Provider

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        key = self.headers["Authorization"].removeprefix("Bearer ")
        if self.path != "/v1/chat/completions" or key != KEY:
            self._reply(401, {"error": {"message": f"no such key: {key}", "type": "invalid_request_error"}})
            return
        self.server.asked.append(request)
        results = [message["content"] for message in request["messages"] if message["role"] == "tool"]
        calls = [("count", {}), ("search", {"text": "TODO"})]
        message: dict[str, Any] = {"role": "assistant", "content": None}
        if len(results) < len(calls):
            name, arguments = calls[len(results)]
            function = {"name": name, "arguments": json.dumps(arguments)}
            message["tool_calls"] = [{"id": f"live_{len(results)}", "type": "function", "function": function}]
        else:
            message["content"] = f"Live: {results[-1].splitlines()[0]}"
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        model = request["model"]
        self._reply(
            200,
            {"id": "1", "object": "chat.completion", "created": 1, "model": model, "choices": [choice], "usage": usage},
        )

    def _reply(self, status: int, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def provider() -> Iterator[Provider]:
    """A provider on this machine."""
    with Provider() as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_live_asks_the_provider_and_never_twice_for_a_finished_step(provider: Provider, tmp_path: Path) -> None:
    """With --live a provider behind OPENAI_BASE_URL is asked once for each step of the model, kill and all."""
    make_folder(tmp_path / "folder")
    arguments = ("--live", "--model", "some-model", "--keep")
    done = run_demo(tmp_path, *arguments, OPENAI_API_KEY=KEY, OPENAI_BASE_URL=provider.url)
    assert (done.status, "FAILED" in done.out) == (0, False)
    assert "Model  some-model at 127.0.0.1, which is sent what the tools read" in done.out
    assert "Live: 'TODO' is in 3 lines of 2 files:" in done.out
    assert [request["model"] for request in provider.asked] == ["some-model"] * 3
    assert {tool["function"]["name"] for tool in provider.asked[0]["tools"]} == {
        "list_folder",
        "read_file",
        "search",
        "count",
    }
    assert [(int(row[0]), row[6]) for row in ROW.findall(done.out) if "KILLED" in row[6]] == [
        (4, "KILLED in the middle")
    ]
    _assert_nowhere(KEY, done)


def test_a_key_that_the_provider_quotes_is_neither_shown_nor_stored(provider: Provider, tmp_path: Path) -> None:
    """When the provider refuses, the demo says so with status 2, and the key that was refused is nowhere."""
    (tmp_path / "folder").mkdir()
    wrong = f"{KEY}-wrong"
    done = run_demo(tmp_path, "--live", "--keep", OPENAI_API_KEY=wrong, OPENAI_BASE_URL=provider.url)
    assert done.status == 2
    assert "no such key: ***" in done.err
    assert "Traceback" not in done.err
    _assert_nowhere(wrong, done)


def _assert_nowhere(key: str, done: Demo) -> None:
    files = [*done.kept.iterdir(), *done.database.parent.glob("agent.db*")]
    assert len(files) >= 2
    contents = [done.out.encode(), done.err.encode(), *(file.read_bytes() for file in files)]
    assert not any(key.encode() in content for content in contents)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--live"], "--live needs OPENAI_API_KEY"),
        (["--model", "some-model"], "add --live"),
        (["no-such-folder"], "is not a folder"),
        (["--database", "taken.db"], "takes a new file"),
        (["--database", "no-such-folder/agent.db"], "in one that exists"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    arguments: list[str],
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A demo that cannot start says why in one line, with status 2, and leaves everything as it was."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    Path("taken.db").write_text("somebody's")
    assert main(["demo", *arguments, "--keep"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert expected in err
    assert err.count("\n") == 1
    assert Path("taken.db").read_text() == "somebody's"


@pytest.mark.parametrize(
    ("module", "package"), [("langgraph.graph", "langgraph"), ("langchain_openai", "langchain-openai")]
)
def test_a_missing_package_is_named_with_how_to_install_it(
    module: str, package: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without langgraph, or langchain-openai for --live, one line names it and the pip command, with status 2."""
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    assert main(["demo", "--live"]) == 2
    assert capsys.readouterr().err.endswith(f"the demo needs {package}: pip install 'langgraph-durable[demo]'\n")


def events_of(*steps: tuple[Literal["start", "end"], int, int]) -> list[Event]:
    """Events of a journal, each given as its kind, its step and its process."""
    return [Event(kind, "", step, "agent", step, process, process, 0.0) for kind, step, process in steps]


GOOD = events_of(("start", 1, 1), ("end", 1, 1), ("start", 2, 1), ("start", 2, 2), ("end", 2, 2))


@pytest.mark.parametrize(
    ("events", "failing"),
    [
        (GOOD, []),
        (GOOD + events_of(("start", 1, 2), ("end", 1, 2)), [1, 3]),  # a finished step ran twice
        (GOOD + events_of(("start", 1, 2)), [1]),  # and was cut
        (GOOD[:3], [2, 3]),  # nobody went on
        (GOOD[:2], [0, 2]),  # the kill hit no step
        # The wrong checkpoint was used, so that the finished step ran again under another number.
        (GOOD + [event._replace(step=3, process=2) for event in GOOD[:2]], [1, 3]),
    ],
)
def test_the_journal_convicts_a_run_that_is_not_as_claimed(events: list[Event], failing: list[int]) -> None:
    """Each way in which a run can go wrong fails its own checks, and a good run fails none."""
    assert [number for number, check in enumerate(checks(events)) if not check.holds] == failing


def test_a_failed_check_is_the_exit_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run that could not go on, and whose database lacks steps of the journal, says FAILED and has status 1."""

    def forgetful(run: Run, began: float) -> int:
        journal = Journal(Path(run.journal))
        for event in GOOD:
            if event.process == run.process:
                journal.append(event)
        return demo.KILLED if run.process == 1 else 1

    monkeypatch.setattr(demo, "_run_process", forgetful)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert main(["demo", str(tmp_path)]) == 1
    assert [line for line in capsys.readouterr().out.split("\n") if "FAILED" in line] == [
        "  FAILED  process 2 went on from what was stored, and came to the end",
        "  FAILED  the database has one checkpoint for each of the 2 steps",
    ]
