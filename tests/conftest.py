"""Every saver test runs in both forms: `face` calls the blocking methods, or awaits the others in a loop of its own.

A test is written once, as plain synchronous code, against `Face`; what it finds wrong in one form and not in the
other is a bug by itself. `place` runs it over a file and over memory where that makes a difference.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
from collections.abc import Callable, Coroutine, Generator, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TypeVar

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import Checkpoint, CheckpointTuple
from langgraph.checkpoint.base.id import uuid6

from langgraph_durable import FileSaver, SqliteSaver
from langgraph_durable.saver import DurableSaver
from tests.stores import close_opened

T = TypeVar("T")

KEPT = ("file", "folder")
"""What holds the runs of durable graphs."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave the cases of sampled tests to the long run, but for some in which every value of each parameter is."""
    tests: dict[str, list[Any]] = {}
    for item in items:
        if item.get_closest_marker("sampled") is not None:
            tests.setdefault(item.nodeid.partition("[")[0], []).append(item)
    for name, cases in tests.items():
        share = cases[0].get_closest_marker("sampled").args[0]
        seen: set[tuple[str, str]] = set()
        for number, case in enumerate(random.Random(name).sample(cases, len(cases))):
            values = {(parameter, repr(value)) for parameter, value in case.callspec.params.items()}
            if number % share and values <= seen:
                case.add_marker(pytest.mark.soak)
            else:
                seen |= values


class Face:
    """A saver through one of its two forms. `loop` is None in the blocking form."""

    def __init__(self, saver: DurableSaver, loop: asyncio.AbstractEventLoop | None) -> None:
        self.saver = saver
        self.loop = loop

    def other(self, saver: DurableSaver) -> Face:
        """Another saver through the same form."""
        return Face(saver, self.loop)

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """What a coroutine returns, run in this face's loop."""
        assert self.loop is not None
        return self.loop.run_until_complete(coroutine)

    def call(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """`saver.NAME(...)`, or `await saver.aNAME(...)`."""
        if self.loop is None:
            return getattr(self.saver, name)(*args, **kwargs)
        return self.run(getattr(self.saver, "a" + name)(*args, **kwargs))

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: Mapping[str, Any] | None = None,
        new_versions: Mapping[str, Any] | None = None,
    ) -> RunnableConfig:
        given = {"source": "loop", "step": 0, "parents": {}} if metadata is None else dict(metadata)
        versions = checkpoint["channel_versions"] if new_versions is None else dict(new_versions)
        saved: RunnableConfig = self.call("put", config, checkpoint, given, versions)
        return saved

    def put_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        self.call("put_writes", config, writes, task_id, task_path)

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        found: CheckpointTuple | None = self.call("get_tuple", config)
        return found

    def list(self, config: RunnableConfig | None, **kwargs: Any) -> list[CheckpointTuple]:
        if self.loop is None:
            return list(self.saver.list(config, **kwargs))

        async def collected() -> list[CheckpointTuple]:
            return [found async for found in self.saver.alist(config, **kwargs)]

        return self.run(collected())

    def values(self, config: RunnableConfig) -> dict[str, Any]:
        """The channel values of a checkpoint that has to be there."""
        found = self.get_tuple(config)
        assert found is not None, f"nothing stored at {config}"
        return found.checkpoint["channel_values"]

    def messages(self, config: RunnableConfig) -> Any:
        """The `messages` channel of a checkpoint that has to be there."""
        return self.values(config)["messages"]


def thread(thread_id: str = "thread", ns: str = "", checkpoint_id: str | None = None) -> RunnableConfig:
    """The config of a thread, a namespace and perhaps a checkpoint."""
    conf = {"thread_id": thread_id, "checkpoint_ns": ns}
    return {"configurable": conf if checkpoint_id is None else {**conf, "checkpoint_id": checkpoint_id}}


def checkpoint(checkpoint_id: str | None = None, /, **values: Any) -> Checkpoint:
    """A checkpoint with these channel values, each at version 1."""
    return Checkpoint(
        v=4,
        id=checkpoint_id or str(uuid6()),
        ts=datetime.now(timezone.utc).isoformat(),
        channel_values=values,
        channel_versions=dict.fromkeys(values, f"{1:032}.0.5"),
        versions_seen={},
        updated_channels=None,
    )


@pytest.fixture(params=["sync", "async"])
def loop(request: pytest.FixtureRequest) -> Iterator[asyncio.AbstractEventLoop | None]:
    """None for the blocking form of a saver, an event loop for the other."""
    if request.param == "sync":
        yield None
        return
    made = asyncio.new_event_loop()
    try:
        yield made
    finally:
        made.run_until_complete(made.shutdown_asyncgens())
        made.run_until_complete(made.shutdown_default_executor())
        made.close()


def saver_at(place: str, **options: Any) -> DurableSaver:
    """A saver over what is at a place: a folder if that is called `checkpoints`, else a database."""
    return FileSaver(place, **options) if place.endswith("checkpoints") else SqliteSaver(place, **options)


@pytest.fixture(params=["file", "memory", "folder"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a saver keeps what it stores."""
    return {"memory": ":memory:", "file": str(tmp_path / "agent.db"), "folder": str(tmp_path / "checkpoints")}[
        request.param
    ]


@pytest.fixture(params=["file", "memory"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where an SQLite database is."""
    return ":memory:" if request.param == "memory" else str(tmp_path / "agent.db")


@pytest.fixture(params=["file", "folder"])
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where several processes keep what they store."""
    return str(tmp_path / ("checkpoints" if request.param == "folder" else "agent.db"))


@pytest.fixture(params=KEPT)
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where the runs of several processes keep what they store."""
    return str(tmp_path / ("checkpoints" if request.param == "folder" else "agent.db"))


@pytest.fixture
def face(place: str, loop: asyncio.AbstractEventLoop | None) -> Iterator[Face]:
    """A new saver, over a file, over memory and over a folder, in both forms."""
    with saver_at(place) as saver:
        yield Face(saver, loop)


@pytest.fixture
def path(tmp_path: Path) -> str:
    """Where a database file can be made."""
    return str(tmp_path / "agent.db")


@pytest.fixture
def closed() -> Iterator[None]:
    """Close every store that a test has opened, when it ends."""
    yield
    close_opened()


@pytest.fixture
def open_face(loop: asyncio.AbstractEventLoop | None) -> Iterator[Callable[..., Face]]:
    """A function that opens another saver in this test's form; all are closed at the end."""
    opened: list[DurableSaver] = []

    def make(place: Any, **kwargs: Any) -> Face:
        opened.append(saver_at(place, **kwargs) if isinstance(place, str) else SqliteSaver(place, **kwargs))
        return Face(opened[-1], loop)

    yield make
    for saver in opened:
        saver.close()


@pytest.fixture(scope="session")
def transcripts() -> list[Path]:
    """Files of recorded conversations (JSON lines, `messages` in OpenAI's format); skips where there are none."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "transcripts"
    folder = Path(os.environ.get("LANGGRAPH_DURABLE_TRANSCRIPTS", beside))
    found = sorted(folder.glob("*.jsonl"))
    if not found:
        pytest.skip("no recorded conversations: set LANGGRAPH_DURABLE_TRANSCRIPTS to a folder of them")
    return found


# -- what an old Python cannot do ------------------------------------------------------------------------------------


def _unless_too_old(error: RuntimeError) -> None:
    """Skip where LangGraph's `interrupt` needs the context of a task, which a coroutine has from Python 3.11 on."""
    if sys.version_info < (3, 11) and "outside of a runnable context" in str(error):
        pytest.skip("LangGraph's interrupt() in a coroutine needs Python 3.11")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup() -> Generator[None, None, None]:
    try:
        yield
    except RuntimeError as error:
        _unless_too_old(error)
        raise


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, None, None]:
    try:
        yield
    except RuntimeError as error:
        _unless_too_old(error)
        raise
