"""What a thread ran with is recorded with every run, compared before the next one, and what differs decided about."""

from __future__ import annotations

import json
import logging
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from langgraph.types import Command, interrupt

from langgraph_durable import (
    EnvironmentChangedError,
    EnvironmentChangedWarning,
    EnvironmentReport,
    InvalidRequestError,
    acheck_environment,
    check_environment,
    durable,
    fingerprint,
)
from langgraph_durable.core.environments import RECORD_HASH
from langgraph_durable.files import TrackedFiles, track_file
from langgraph_durable.saver import DurableSaver
from tests.conftest import Face, thread
from tests.durables import called
from tests.graphs import Running

SECRET = "sk-this-is-nobodys-business"


@tool
def search(query: str, limit: int = 5) -> str:
    """Search the web."""
    return f"found {query}"


@tool("search")
def wider(query: str, limit: int = 10) -> str:
    """Search the web."""
    return f"found more of {query}"


@tool
def send(to: str) -> str:
    """Send a letter."""
    return f"sent to {to}"


def call(name: str = "search", id: str = "call", **args: Any) -> AIMessage:
    """What a model says that calls a tool."""
    return AIMessage("", tool_calls=[{"name": name, "args": args or {"query": "x"}, "id": id}])


def agent(
    *tools: Any, says: Callable[[Any], AIMessage] | None = None, review: bool = False, **compiled: Any
) -> StateGraph[Any]:
    """An agent that calls a tool once, if a human approves of it, and ends."""

    def model(state: MessagesState) -> Any:
        done = isinstance(state["messages"][-1], ToolMessage)
        return {"messages": [AIMessage("done") if done else (says or (lambda _: call()))(state)]}

    def approval(state: MessagesState) -> Any:
        interrupt("may it?")
        return {}

    builder = StateGraph(MessagesState)
    builder.add_node("agent", model)
    builder.add_node("tools", ToolNode(list(tools)))
    builder.add_edge(START, "agent")
    if review:
        builder.add_node("review", approval)
        builder.add_conditional_edges("agent", lambda state: "review" if state["messages"][-1].tool_calls else END)
        builder.add_edge("review", "tools")
    else:
        builder.add_conditional_edges("agent", tools_condition)
    builder.add_edge("tools", "agent")
    return builder


def app(face: Face, *tools: Any, review: bool = False, **options: Any) -> Any:
    """That agent, made durable."""
    return durable(agent(*tools, review=review).compile(checkpointer=face.saver), **options)


def do(face: Face, graph: Any, name: str, *args: Any, **kwargs: Any) -> Any:
    return called(face.loop, graph, name, *args, **kwargs)


def hello(face: Face, graph: Any, name: str = "thread") -> Any:
    return do(face, graph, "invoke", {"messages": [("user", "hi")]}, thread(name))


def records(saver: DurableSaver, thread_id: str = "thread") -> list[dict[str, Any]]:
    """What was recorded of a thread, whenever it changed."""
    return [one.record or {} for one in saver.environments(thread_id)]


# -- fingerprints ----------------------------------------------------------------------------------------------------


def test_a_fingerprint_is_flat_and_short() -> None:
    """It has a few strings for filters, the hash of all, and what the app adds; 200 bytes hold it."""
    graph = agent(search).compile()
    made = fingerprint(tools=[search, send], model="anthropic:claude-sonnet-4-5-20250929", graph=graph)
    assert set(made) == {"env_hash", "tool_schema_hash", "graph_hash", "model"}
    assert all(isinstance(one, (str, int, float)) for one in made.values())
    assert len(json.dumps(made)) < 200
    assert made["model"] == "anthropic:claude-sonnet-4-5-20250929"
    assert fingerprint(tools=[send, search], model="anthropic:claude-sonnet-4-5-20250929", graph=graph) == made
    assert fingerprint(graph=graph, extra={"prompt": "v2", "beam": 3}).keys() >= {"prompt", "beam"}


def test_each_part_has_a_hash_of_its_own() -> None:
    """A change of one part changes its hash and the hash of all, and no other."""
    graph = agent(search).compile()
    first = fingerprint(tools=[search], model="a:b", graph=graph)
    for changed, keys in (
        (fingerprint(tools=[wider], model="a:b", graph=graph), {"tool_schema_hash"}),
        (fingerprint(tools=[search], model="a:c", graph=graph), {"model"}),
        (fingerprint(tools=[search], model="a:b", graph=agent(search, review=True).compile()), {"graph_hash"}),
        (fingerprint(tools=[search], model="a:b", graph=graph, extra={"p": 1}), {"p"}),
        (fingerprint(tools=[search], model="a:b", graph=graph, config={"recursion_limit": 7}), set()),
    ):
        assert {key for key in {*first, *changed} if first.get(key) != changed.get(key)} == {*keys, "env_hash"}


def test_tools_are_found_in_the_graph() -> None:
    """Without tools those of the graph's ToolNodes are told, also that there are none; without a graph nothing is."""
    graph = agent(search, send).compile()
    assert fingerprint(graph=graph) == fingerprint(graph=graph, tools=[search, send])
    builder = StateGraph(MessagesState)
    builder.add_node("a", lambda state: {})
    builder.add_edge(START, "a")
    assert fingerprint(graph=builder.compile()) == fingerprint(graph=builder.compile(), tools=[])
    assert "tool_schema_hash" not in fingerprint(model="a:b")


def test_breakpoints_that_are_changed() -> None:
    """A graph that is told again is told as it is: its breakpoints may have been changed."""
    graph = agent(search).compile()
    first = fingerprint(graph=graph)
    assert fingerprint(graph=graph) == first
    graph.interrupt_before_nodes = ["tools"]
    assert fingerprint(graph=graph)["graph_hash"] != first["graph_hash"]
    graph.interrupt_before_nodes = []
    assert fingerprint(graph=graph) == first


@pytest.mark.parametrize("key", ["env_hash", "model", "step", "source", "thread_id", "__x", "run_id"])
def test_keys_that_mean_something(key: str) -> None:
    """What metadata have already cannot be among what the app adds."""
    with pytest.raises(InvalidRequestError, match="rename it"):
        fingerprint(extra={key: "x"})


def test_values_that_metadata_do_not_keep() -> None:
    """What the app adds has to be text, numbers or booleans: LangGraph drops anything else."""
    with pytest.raises(InvalidRequestError, match=r"extra\['prompt'\] is a list"):
        fingerprint(extra={"prompt": ["a"]})  # type: ignore[dict-item]  # that is the point


# -- with a plain graph ----------------------------------------------------------------------------------------------


def plain(saver: Any, *tools: Any, **options: Any) -> Any:
    """That agent, with its fingerprint in its metadata."""
    graph = agent(*tools, review=options.pop("review", False)).compile(checkpointer=saver)
    return graph.with_config(metadata=fingerprint(graph=graph, **options))


def checked(face: Face, current: Any, **kwargs: Any) -> EnvironmentReport:
    if face.loop is None:
        return check_environment(face.saver, thread(), current, **kwargs)
    return face.run(acheck_environment(face.saver, thread(), current, **kwargs))


def test_a_plain_graph_is_compared(face: Face) -> None:
    """With a saver of this package each difference is told, and nothing where there is none."""
    Running(plain(face.saver, search, send, model="openai:gpt-4o"), face.loop).invoke({"messages": [("user", "hi")]})
    graph = agent(wider).compile()
    same = checked(face, fingerprint(tools=[search, send], graph=agent(search, send).compile(), model="openai:gpt-4o"))
    assert not same
    assert same.known
    report = checked(face, fingerprint(graph=graph, model="openai:gpt-4o-mini"), on_change="ignore")
    default, removed, model = report.changes
    assert default == ("tools", "argument", "search.limit", "changed", "default", 5, 10)
    assert removed[:4] == ("tools", "tool", "send", "removed")
    assert model == ("model", "model", "model", "changed", "", "openai:gpt-4o", "openai:gpt-4o-mini")
    assert report.kinds == {"tools", "model"}


def test_metadata_are_found_again(face: Face) -> None:
    """Checkpoints can be looked for by what they were made with."""
    made = fingerprint(graph=agent(search).compile(), model="openai:gpt-4o")
    Running(plain(face.saver, search, model="openai:gpt-4o"), face.loop).invoke({"messages": [("user", "hi")]})
    every = len(face.list(None))
    assert every > 3
    for key in ("tool_schema_hash", "graph_hash", "model"):
        assert len(face.list(None, filter={key: made[key]})) == every
        assert face.list(None, filter={key: "another"}) == []
    assert [one.thread_id for one in face.call("list_threads", metadata={"model": "openai:gpt-4o"})] == ["thread"]


@pytest.mark.parametrize("form", ["sync", "async"])
async def test_another_saver(form: str) -> None:
    """A checkpointer that knows nothing of this package keeps the hashes, which tell which part differs."""
    saver = InMemorySaver()
    await plain(saver, search, model="a:b").ainvoke({"messages": [("user", "hi")]}, thread())
    config = thread()

    async def check(current: Any, **kwargs: Any) -> EnvironmentReport:
        if form == "sync":
            return check_environment(saver, config, current, **kwargs)
        return await acheck_environment(saver, config, current, **kwargs)

    assert not await check(fingerprint(graph=agent(search).compile(), model="a:b"))
    report = await check(fingerprint(graph=agent(wider).compile(), model="a:c"), on_change="ignore")
    assert report.kinds == {"tools", "model"}
    with pytest.warns(EnvironmentChangedWarning, match="model"):
        await check(fingerprint(graph=agent(search).compile(), model="a:c"))


async def test_what_another_saver_does_not_keep() -> None:
    """Of what was given besides each value is compared; of limits it is said that something differs."""
    saver = InMemorySaver()
    graph = agent(search).compile(checkpointer=saver)
    made = fingerprint(graph=graph, extra={"prompt": "v1", "beam": 3})
    graph.with_config(metadata=made).invoke({"messages": [("user", "hi")]}, thread())

    def told(**kwargs: Any) -> list[str]:
        current = fingerprint(**{"graph": graph, "extra": {"prompt": "v1", "beam": 3}, **kwargs})
        return [str(one) for one in check_environment(saver, thread(), current, on_change="ignore").changes]

    assert told() == []
    assert told(extra={"prompt": "v2", "beam": 3}) == ['extra: prompt "v1" -> "v2"']
    assert "something differs" in told(config={"recursion_limit": 7})[0]
    assert "tools: something differs" in told(graph=None, tools=[wider])[0]


@pytest.mark.parametrize("lost", ["saver", "record"])
def test_a_call_that_waits_where_tools_were_not_kept(face: Face, lost: str) -> None:
    """Where only the hash of the tools was kept and differs, the call that waits is taken for one of a changed tool."""
    saver: Any = InMemorySaver() if lost == "saver" else face.saver
    graph = agent(search, review=True).compile(checkpointer=saver)
    made: Any = fingerprint(graph=graph)
    if lost == "record":
        made = json.loads(json.dumps(made))
    Running(graph.with_config(metadata=made), face.loop).invoke({"messages": [("user", "hi")]})
    for now, change in ((wider, "changed"), (send, "removed")):
        with pytest.raises(EnvironmentChangedError) as raised:
            check_environment(saver, thread(), fingerprint(graph=agent(now, review=True).compile()))
        (told,) = raised.value.report.of("pending")  # type: ignore[attr-defined]  # errors do not import reports
        assert (told.subject, told.name, told.change) == ("call", "search", change)
    assert not check_environment(saver, thread(), fingerprint(graph=graph))


def test_a_thread_that_is_not_there(face: Face) -> None:
    """There is nothing to compare with, which the report says, and of a thread that recorded nothing as well."""
    report = checked(face, fingerprint(tools=[search]))
    assert not report
    assert not report.known
    Running(agent(search).compile(checkpointer=face.saver), face.loop).invoke({"messages": [("user", "hi")]})
    assert not checked(face, fingerprint(tools=[search])).known


def test_what_is_no_fingerprint(face: Face) -> None:
    """What has no hash of all, or is no saver, is refused."""
    with pytest.raises(InvalidRequestError, match="what fingerprint"):
        check_environment(face.saver, thread(), {"model": "x"})
    with pytest.raises(InvalidRequestError, match="takes a saver"):
        check_environment("agent.db", thread(), fingerprint(tools=[]))  # type: ignore[arg-type]  # that is the point


def test_a_plain_graph_with_a_changed_tool_that_waits(face: Face) -> None:
    """A call that waits of a tool that changed raises in any case, unless that is allowed by its own name."""
    graph = plain(face.saver, search, review=True)
    Running(graph, face.loop).invoke({"messages": [("user", "hi")]})
    current = fingerprint(graph=agent(wider, review=True).compile())
    for on_change in ("warn", "ignore", {"tools": "ignore"}):
        with pytest.raises(EnvironmentChangedError, match="'search'"):
            checked(face, current, on_change=on_change)
    assert checked(face, current, on_change={"tools": "ignore", "pending": "ignore"}).of("pending")


# -- files ----------------------------------------------------------------------------------------------------------


class Working(MessagesState):
    """A state that knows files."""

    files: TrackedFiles


def reader(face: Face, root: Path, **options: Any) -> Any:
    """A durable graph that looks at three files, one of which is not there."""

    def look(state: Working) -> Any:
        for name in ("kept.md", "edited.md", "gone.md", "new.md"):
            track_file(name, root=root)
        return {"messages": [AIMessage("seen")]}

    async def alook(state: Working, config: RunnableConfig) -> Any:
        for name in ("kept.md", "edited.md", "gone.md", "new.md"):
            track_file(name, root=root, config=config)
        return {"messages": [AIMessage("seen")]}

    builder = StateGraph(Working)
    builder.add_node("look", look if face.loop is None else alook)
    builder.add_edge(START, "look")
    return durable(builder.compile(checkpointer=face.saver), root=root, **options)


def test_files_that_changed(face: Face, tmp_path: Path) -> None:
    """The report has the files that were edited, at the same time and size too, that are gone, and that are new."""
    for name in ("kept.md", "edited.md", "gone.md"):
        (tmp_path / name).write_text("one")
    graph = reader(face, tmp_path)
    hello(face, graph)
    assert not do(face, graph, "environment", "thread")
    before = (tmp_path / "edited.md").stat()
    (tmp_path / "edited.md").write_text("two")
    os.utime(tmp_path / "edited.md", ns=(before.st_atime_ns, before.st_mtime_ns))
    (tmp_path / "gone.md").unlink()
    (tmp_path / "new.md").write_text("new")
    report = do(face, graph, "environment", "thread")
    assert [(one.kind, one.name, one.change) for one in report.changes] == [
        ("files", "edited.md", "changed"),
        ("files", "gone.md", "removed"),
        ("files", "new.md", "added"),
    ]
    assert json.loads(json.dumps(report.as_dict()))["changes"][0]["old"]["size"] == 3
    assert "3 bytes" in str(report)
    for root, count in ((None, 0), (tmp_path, 3)):
        kept = checked(face, graph.fingerprint(), on_change="ignore", root=root)
        assert len(kept.of("files")) == count
    with pytest.warns(EnvironmentChangedWarning, match=r"gone\.md"):
        hello(face, graph)
    hello(face, graph)
    (tmp_path / "kept.md").write_text("other")
    with pytest.raises(EnvironmentChangedError, match=r"kept\.md"):
        hello(face, reader(face, tmp_path, on_change={"files": "raise"}))


# -- durable ---------------------------------------------------------------------------------------------------------


def test_a_run_records_what_it_ran_with(face: Face) -> None:
    """Every run of a durable graph says so in its metadata, and in full once for each thing that it ran with."""
    first, second = app(face, search), app(face, search, send, on_change="ignore")
    for one in (first, first, second, second):
        hello(face, one)
    assert [sorted(one["tools"]) for one in records(face.saver)] == [["search"], ["search", "send"]]
    assert {one.metadata.get("tool_schema_hash") for one in face.list(thread())} == {
        first.fingerprint()["tool_schema_hash"],
        second.fingerprint()["tool_schema_hash"],
    }
    (record, _) = records(face.saver)
    assert record["tools"]["search"]["parameters"]["properties"]["limit"]["default"] == 5
    assert set(record["libraries"]) >= {"langgraph", "python"}


def test_a_difference_is_told_once_a_run(face: Face, caplog: pytest.LogCaptureFixture) -> None:
    """One warning and one log record, whatever the run does; the next run has nothing to tell."""
    hello(face, app(face, search))
    new = app(face, wider)
    with pytest.warns(EnvironmentChangedWarning) as told, caplog.at_level(logging.WARNING, "langgraph_durable"):
        hello(face, new)
    assert len(told) == 1
    assert isinstance(told[0].message, EnvironmentChangedWarning)
    report = told[0].message.report
    assert isinstance(report, EnvironmentReport)
    assert "5 -> 10" in str(report)
    assert len([one for one in caplog.records if "5 -> 10" in one.getMessage()]) == 1
    hello(face, new)
    hello(face, app(face, wider), "another")


def test_what_would_be_told(face: Face) -> None:
    """`environment` tells the difference, and neither warns nor runs."""
    hello(face, app(face, search))
    before = face.list(None)
    report = do(face, app(face, wider, on_change="raise"), "environment", "thread")
    assert [one.name for one in report.changes] == ["search.limit"]
    assert face.list(None) == before
    assert not do(face, app(face, search), "environment", "thread")
    assert not do(face, app(face, search), "environment", "nobody").known


def refuses(report: EnvironmentReport) -> Any:
    raise KeyError(f"{len(report.changes)} changes")


@pytest.mark.parametrize(
    ("on_change", "outcome"),
    [
        ("warn", EnvironmentChangedWarning),
        ("raise", EnvironmentChangedError),
        ("ignore", None),
        ({"tools": "raise"}, EnvironmentChangedError),
        ({"model": "raise"}, EnvironmentChangedWarning),
        ({"model": "raise", "tools": "ignore"}, None),
        (lambda report: None, None),
        (lambda report: "warn", EnvironmentChangedWarning),
        (lambda report: "raise", EnvironmentChangedError),
        ({"tools": lambda report: "raise" if report.of("tools") else None}, EnvironmentChangedError),
        (refuses, KeyError),
        (lambda report: "perhaps", InvalidRequestError),
    ],
)
def test_what_is_done_about_it(face: Face, on_change: Any, outcome: Any) -> None:
    """A policy is for all kinds or for each, a word or a function; what is refused changes nothing."""
    hello(face, app(face, search))
    before = face.list(None)
    new = app(face, wider, on_change=on_change)
    with warnings.catch_warnings():
        if outcome is None:
            hello(face, new)
        elif outcome is EnvironmentChangedWarning:
            with pytest.warns(EnvironmentChangedWarning):
                hello(face, new)
        else:
            with pytest.raises(outcome):
                hello(face, new)
            assert face.list(None) == before
            info = face.call("get_thread", "thread")
            assert (info.status, info.owner) == ("idle", None)


@pytest.mark.parametrize("on_change", ["perhaps", {"tool": "warn"}, {"tools": "perhaps"}, 3])
def test_policies_that_mean_nothing(face: Face, on_change: Any) -> None:
    """What is no policy is refused when the graph is made durable."""
    with pytest.raises(InvalidRequestError, match="on_change"):
        app(face, search, on_change=on_change)


def test_tools_that_are_counted_once(face: Face) -> None:
    """An iterator of tools is read once, and every run has them all."""
    graph = app(face, search, tools=(one for one in (search, send)))
    for _ in range(3):
        hello(face, graph)
    (record,) = records(face.saver)
    assert set(record["tools"]) == {"search", "send"}


@pytest.mark.parametrize("root", [3, "nowhere"])
def test_a_root_that_is_none(face: Face, root: Any) -> None:
    """What is no folder is refused when the graph is made durable."""
    with pytest.raises(InvalidRequestError, match="root"):
        app(face, search, root=root)


def test_tools_that_are_none(face: Face) -> None:
    """What is no tool is refused when the graph is made durable, and not in the middle of the night."""
    with pytest.raises(InvalidRequestError):
        app(face, search, tools=[search, 3])


APPROVALS: dict[str, Callable[[Face, Any], Any]] = {
    "resume": lambda face, graph: do(face, graph, "resume", "thread", resume="yes"),
    "invoke": lambda face, graph: do(face, graph, "invoke", Command(resume="yes"), thread()),
}


@pytest.mark.parametrize("how", APPROVALS)
@pytest.mark.parametrize(("now", "change"), [((wider,), "changed"), ((send,), "removed")])
def test_a_tool_that_was_approved(face: Face, how: str, now: Any, change: str) -> None:
    """The tool that a human approved of is the tool that runs, or nothing is."""
    hello(face, app(face, search, review=True))
    new = app(face, *now, review=True, on_change="ignore")
    with pytest.raises(EnvironmentChangedError, match="search") as raised:
        APPROVALS[how](face, new)
    (told,) = raised.value.report.of("pending")  # type: ignore[attr-defined]  # errors do not import reports
    assert (told.subject, told.name, told.change) == ("call", "search", change)
    ended = do(face, app(face, search, review=True), "resume", "thread", resume="yes")
    assert ended["messages"][-2].content == "found x"


@pytest.mark.parametrize(("now", "change"), [((wider,), "changed"), ((send,), "removed")])
def test_a_tool_of_a_subgraph_that_was_approved(face: Face, now: Any, change: str) -> None:
    """A call that waits inside of a subgraph is one as well."""

    def made(*tools: Any, **options: Any) -> Any:
        builder = StateGraph(MessagesState)
        builder.add_node("crew", agent(*tools, review=True).compile())
        builder.add_edge(START, "crew")
        return durable(builder.compile(checkpointer=face.saver), **options)

    hello(face, made(search))
    with pytest.raises(EnvironmentChangedError, match="search") as raised:
        do(face, made(*now, on_change="ignore"), "resume", "thread", resume="yes")
    (told,) = raised.value.report.of("pending")  # type: ignore[attr-defined]  # errors do not import reports
    assert (told.name, told.change) == ("search", change)
    assert do(face, made(search), "resume", "thread", resume="yes")["messages"][-2].content == "found x"


def test_what_a_refusal_says(face: Face) -> None:
    """It tells what about the tool is another, and what to write to let it pass."""
    hello(face, app(face, search, review=True))
    with pytest.raises(EnvironmentChangedError) as raised:
        do(face, app(face, wider, review=True, on_change="ignore"), "resume", "thread", resume="yes")
    said = str(raised.value)
    assert "argument search.limit: default 5 -> 10" in said
    assert 'on_change={"pending": "warn"}' in said
    assert repr(raised.value.report).startswith("thread 'thread' at checkpoint ")


def test_where_a_warning_points_to(face: Face) -> None:
    """The warning is of the line that calls the graph, or the event loop that runs it, and of none in between."""
    hello(face, app(face, search))
    with pytest.warns(EnvironmentChangedWarning) as told:
        hello(face, app(face, wider))
    assert Path(told[0].filename).name == "durables.py"


def test_a_policy_that_has_to_be_awaited(face: Face) -> None:
    """A coroutine function cannot decide, and is refused when the graph is made durable."""

    async def decide(report: EnvironmentReport) -> None:
        """Nothing."""

    with pytest.raises(InvalidRequestError, match="plain function"):
        app(face, search, on_change=decide)


def test_a_config_is_no_thread(face: Face) -> None:
    """Who passes a config where the id of a thread is asked for is told so."""
    with pytest.raises(InvalidRequestError, match="not a config"):
        do(face, app(face, search), "environment", thread())


def test_a_tool_that_was_approved_and_may_change(face: Face) -> None:
    """Who says so may go on with another tool than the one that was approved."""
    hello(face, app(face, search, review=True))
    new = app(face, wider, review=True, on_change={"tools": "ignore", "pending": "warn"})
    with pytest.warns(EnvironmentChangedWarning, match="search"):
        ended = do(face, new, "resume", "thread", resume="yes")
    assert ended["messages"][-2].content == "found more of x"


def test_a_change_that_does_not_touch_the_call(face: Face) -> None:
    """A tool that nobody is about to call may change: that is told, and the run goes on."""
    hello(face, app(face, search, send, review=True))
    with pytest.warns(EnvironmentChangedWarning, match="send"):
        ended = do(face, app(face, search, review=True), "resume", "thread", resume="yes")
    assert ended["messages"][-1].content == "done"


def test_new_input_after_a_call_that_waits(face: Face) -> None:
    """New input closes the call, and nothing runs that was approved: the change is told, and that is all."""
    hello(face, app(face, search, review=True))
    with pytest.warns(EnvironmentChangedWarning, match="5 -> 10"):
        hello(face, app(face, wider, review=True))


def test_metadata_of_the_app(face: Face) -> None:
    """What the app says in its metadata under a name of ours stays what it says, and is no difference."""
    graph = agent(search).compile(checkpointer=face.saver).with_config(metadata={"model": "the app's", "own": 1})
    for _ in range(2):
        hello(face, durable(graph, model="openai:gpt-4o"))
    assert {one.metadata.get("model") for one in face.list(thread())} == {"the app's"}
    assert {one.metadata.get("own") for one in face.list(thread())} == {1}
    with pytest.warns(EnvironmentChangedWarning, match="gpt-4o -> openai:gpt-5"):
        hello(face, durable(graph, model="openai:gpt-5"))


def test_updates_record_nothing(face: Face) -> None:
    """Who updates a state runs nothing: a call that waits is still one of the tool that was approved."""
    hello(face, app(face, search, review=True))
    new = app(face, wider, review=True)
    do(face, new, "update_state", thread(), {"messages": []}, "review")
    with pytest.raises(EnvironmentChangedError, match="search"):
        do(face, new, "resume", "thread")


def test_a_run_inside_of_another(face: Face) -> None:
    """A durable graph that is a node of another is told with it, once, and runs."""
    inner = app(face, search)
    outer = StateGraph(MessagesState)
    outer.add_node("inner", inner)
    outer.add_edge(START, "inner")
    hello(face, durable(outer.compile(checkpointer=face.saver)))
    (record,) = records(face.saver)
    assert set(record["tools"]) == {"search"}


def test_limits_of_a_run(face: Face) -> None:
    """A recursion limit that a run was given is compared with that of the run before."""
    graph = app(face, search)
    do(face, graph, "invoke", {"messages": [("user", "hi")]}, {**thread(), "recursion_limit": 20})
    with pytest.warns(EnvironmentChangedWarning, match="20 -> 30"):
        do(face, graph, "invoke", {"messages": [("user", "hi")]}, {**thread(), "recursion_limit": 30})


def test_no_secret_is_stored(face: Face, place: str) -> None:
    """Of a configured model nothing but its name and what changes its answers is in any file."""
    openai = pytest.importorskip("langchain_openai")
    model = openai.ChatOpenAI(
        model="gpt-4o-mini",
        temperature=0.25,
        api_key=SECRET,
        base_url=f"https://user:{SECRET}@example.org/v1?key={SECRET}",
        default_headers={"Authorization": f"Bearer {SECRET}"},
        organization=SECRET,
    )
    hello(face, app(face, search, model=model.bind_tools([search])))
    (record,) = records(face.saver)
    assert record["model"]["name"] == "gpt-4o-mini"
    assert record["model"]["parameters"]["temperature"] == 0.25
    assert SECRET not in json.dumps(record)
    assert face.list(thread())[0].metadata.get("model") == "openai:gpt-4o-mini"
    if place != ":memory:":
        files = [one for one in Path(place).parent.rglob("*") if one.is_file()]
        assert files
        assert not any(SECRET.encode() in one.read_bytes() for one in files)


def test_a_thread_from_before_fingerprints(face: Face) -> None:
    """A thread that recorded nothing goes on, and records from then on."""
    Running(agent(search).compile(checkpointer=face.saver), face.loop).invoke({"messages": [("user", "hi")]})
    hello(face, app(face, wider))
    assert len(records(face.saver)) == 1
    assert RECORD_HASH not in face.list(thread())[-1].metadata


def test_an_error_of_a_change_is_carried() -> None:
    """The error and its report reach another process as they are."""
    import pickle

    report = EnvironmentReport("t", "c", (), known=True)
    error = pickle.loads(pickle.dumps(EnvironmentChangedError("no", report=report)))
    assert (str(error), error.report) == ("no", report)
