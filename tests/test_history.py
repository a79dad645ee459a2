"""What a thread went through is told step by step: as plain values, as a table, and as a picture that is valid XML."""

from __future__ import annotations

import asyncio
import json
import operator
import re
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from typing import Annotated, Any, TypedDict
from xml.etree import ElementTree

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.func import entrypoint, task
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Send, interrupt

from langgraph_durable import CorruptDataError, InvalidRequestError, SqliteSaver, durable
from langgraph_durable.core.reading import Reading
from langgraph_durable.history import ThreadHistory
from langgraph_durable.threads import ThreadStep
from tests.conftest import Face, checkpoint, thread

NASTY = "a <b>&\"'\x1b[31m\x00\ud800 node"


class Broken:
    """Whether the tool fails."""

    now = True


def tool(state: MessagesState) -> dict[str, Any]:
    if Broken.now:
        raise RuntimeError("no tool")
    return {"messages": [AIMessage("found")]}


def ask(state: MessagesState) -> dict[str, Any]:
    return {"messages": [HumanMessage(interrupt("sure?"))]}


BUILDER = StateGraph(MessagesState).add_node("tool", tool).add_node("ask", ask).add_edge(START, "tool")
BUILDER.add_edge("tool", "ask")


@pytest.fixture
def lived(path: str) -> ThreadHistory:
    """A thread that failed, went on, asked, was answered, and ran once more from a node."""
    Broken.now = True
    with SqliteSaver(path) as saver:
        app = durable(BUILDER.compile(checkpointer=saver))
        with pytest.raises(RuntimeError):
            app.invoke({"messages": [("user", "go")]}, thread())
        Broken.now = False
        app.resume("thread")
        app.resume("thread", resume="yes")
        app.resume("thread", from_node="tool")
        return saver.history("thread")


def drawn(history: ThreadHistory, **kwargs: Any) -> ElementTree.Element:
    """The picture, read by a parser of XML."""
    return ElementTree.fromstring(history.timeline(**kwargs).svg)


def titles(picture: ElementTree.Element) -> list[str]:
    """What a picture says where one points at something."""
    return [str(one.text) for one in picture.iter("{http://www.w3.org/2000/svg}title")]


def made(n: int, *, parent: int | None = None, seconds: float | None = 0.0, **fields: Any) -> ThreadStep:
    """A step of a history that is made up, a second after the one before it."""
    time = None if seconds is None else datetime(2026, 1, 2, tzinfo=timezone.utc) + timedelta(seconds=seconds)
    before = (n - 1 if n else None) if parent is None else parent
    values: dict[str, Any] = {"ran": (), "failed": (), "asked": (), "status": "", "source": "loop", "step": n} | fields
    return ThreadStep(checkpoint_id=f"c{n}", parent=None if before is None else f"c{before}", time=time, **values)


# -- what is told ----------------------------------------------------------------------------------------------------


def test_the_steps_of_a_thread(lived: ThreadHistory) -> None:
    """Each step says what was put, what ran after it, and what happened there; the newest how the thread stands."""
    told = [(step.step, step.source, dict(step.nodes), step.status) for step in lived]
    assert told == [
        (2, "loop", {"ask": "asked"}, "interrupted"),
        (1, "fork", {"tool": "ran"}, ""),
        (2, "loop", {}, "idle"),
        (1, "loop", {"ask": "asked, then ran"}, "interrupted"),
        (0, "loop", {"tool": "failed, then ran"}, "error"),
        (-1, "input", {}, ""),
    ]
    forked, before = lived[1], lived[4]
    assert forked.parent == before.checkpoint_id
    assert lived[-1].parent is None
    times = [step.time for step in lived if step.time is not None]
    assert times == sorted(times, reverse=True)
    assert len(times) == 6
    assert json.loads(json.dumps([step.as_dict() for step in lived]))[0]["asked"] == ["ask"]
    assert lived[:2] == (lived[0], lived[1])
    assert repr(lived) == "<6 steps of thread 'thread'>"


def test_both_forms_tell_the_same(database: str, open_face: Callable[..., Face]) -> None:
    """`history` and `ahistory` agree; a thread that is not there has no steps; an id that is no text is refused."""
    face = open_face(database)
    face.put(thread(), checkpoint(messages=["one"]), {"step": 3, "source": "loop"})
    (step,) = face.call("history", "thread")
    assert (step.step, step.source, step.parent, step.status) == (3, "loop", None, "idle")
    assert list(face.call("history", "nobody")) == []
    with pytest.raises(InvalidRequestError):
        face.call("history", "half \ud800")


def test_an_id_that_tells_no_time(path: str, open_face: Callable[..., Face]) -> None:
    """Where the id of a checkpoint is not of LangGraph's kind there is no time, and all else is told."""
    face = open_face(path)
    face.put(thread(), checkpoint("1", n=1))
    (step,) = face.call("history", "thread")
    assert (step.checkpoint_id, step.time) == ("1", None)
    assert drawn(ThreadHistory("thread", [step])) is not None


class Parts(TypedDict):
    parts: Annotated[list[Any], operator.add]


def spread(path: str, failing: set[int]) -> ThreadHistory:
    """A thread that sends to two nodes, and goes back to one of them."""

    def plan(state: Parts) -> dict[str, Any]:
        return {}

    def work(part: int) -> dict[str, Any]:
        if part in failing:
            failing.discard(part)
            raise ValueError(part)
        return {"parts": [part]}

    one: Any = work  # what is sent to a node is no state
    builder = StateGraph(Parts).add_node("plan", plan).add_node("one", one).add_node("two", one)
    builder.add_edge(START, "plan")
    builder.add_conditional_edges("plan", lambda _: [Send("one", 1), Send("two", 2), Send("two", 3)], ["one", "two"])
    with SqliteSaver(path) as saver:
        app = durable(builder.compile(checkpointer=saver))
        try:
            app.invoke({"parts": []}, thread())
        except ValueError:
            app.resume("thread")
        app.fork("thread", from_node="two")
        app.resume("thread", from_node="one", occurrence=0)
        return saver.history("thread")


def test_what_was_sent_to_nodes(path: str) -> None:
    """A node that ran because something was sent to it is told by its name, also where a branch ran it again."""
    told = [(step.source, dict(step.nodes)) for step in spread(path, {3})]
    assert told == [
        ("loop", {}),
        ("fork", {"one": "ran", "two": "ran"}),
        ("fork", {}),
        ("loop", {}),
        ("loop", {"two": "failed, then ran", "one": "ran"}),
        ("loop", {"plan": "ran"}),
        ("input", {}),
    ]


def test_what_was_sent_and_cannot_be_read(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was sent and is damaged is told as something that was sent."""
    written = Reading._written

    def damaged(self: Any, found: Any, call: Any, channel: str, ref: Any) -> Callable[[], Any]:
        def raises() -> Any:
            raise CorruptDataError("gone", thread_id="thread", checkpoint_id=found.id, channel=channel)

        return raises if channel == "__pregel_tasks" else written(self, found, call, channel, ref)

    monkeypatch.setattr(Reading, "_written", damaged)
    assert {"(send)": "ran"} in [dict(step.nodes) for step in spread(path, set())]


def test_tasks_that_are_called(path: str) -> None:
    """Of LangGraph's functional form the entrypoint is told by its name, and its tasks as calls."""

    @task
    def add(n: int) -> int:
        return n + 1

    with SqliteSaver(path) as saver:

        @entrypoint(checkpointer=saver)
        def flow(n: int) -> int:
            found: int = add(n).result()
            return found

        flow.invoke(1, thread())
        told = [set(step.nodes) for step in saver.history("thread")]
    assert told == [set(), {"(call)", "flow"}]


# -- the table -------------------------------------------------------------------------------------------------------


def test_the_table(lived: ThreadHistory) -> None:
    """A notebook shows a row for each step; where a step is of another branch it names the one that it comes from."""
    shown = lived._repr_html_()
    assert shown.count("<tr>") == 7
    assert "<td>tool (failed, then ran)</td>" in shown
    branches = [row[-1] for row in lived.rows()]
    assert branches == ["", lived[4].checkpoint_id, "", "", "", ""]


def test_the_table_is_escaped() -> None:
    """Names are text in a table, whatever is in them."""
    shown = ThreadHistory("<i>", [made(0, ran=("<script>",))])._repr_html_()
    assert "<script>" not in shown
    assert "&lt;script&gt;" in shown


# -- the picture -----------------------------------------------------------------------------------------------------


def test_the_picture(lived: ThreadHistory) -> None:
    """Every node has a lane, every step a mark that says what it is, branches rows of their own, failures a sign."""
    picture = drawn(lived)
    said = titles(picture)
    assert said[0] == "Timeline of thread thread: 6 steps, interrupted"
    assert picture.get("role") == "img"
    assert picture.get("aria-label") == said[0]
    assert sum(one.startswith("step ") for one in said) == 6
    assert {"tool", "ask"} < set(said)
    assert any(one.startswith("tool: failed, then ran. step 0; loop; ") for one in said)
    texts = [str(one.text) for one in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert texts.count("\N{MULTIPLICATION SIGN}") == 2  # once in its lane, once in the legend
    assert texts.count("?") == 3
    lines = [str(one.get("d")) for one in picture.iter("{http://www.w3.org/2000/svg}path") if one.get("fill") == "none"]
    assert sum("C" in line for line in lines) == 1
    assert sum("C" not in line for line in lines) == 4
    assert "prefers-color-scheme: dark" in lived.timeline().svg
    assert repr(lived.timeline()) == "<timeline of thread 'thread'>"
    assert lived.timeline()._repr_svg_() == lived.timeline().svg


def test_the_picture_is_escaped() -> None:
    """Whatever a thread, a node or a status is called, the picture is valid XML and has no elements of theirs."""
    steps = [made(0, ran=(NASTY,), status="<x/>", source="<y/>"), made(1, failed=(NASTY,))]
    picture = drawn(ThreadHistory(NASTY, steps[::-1]))
    assert {one.tag.rpartition("}")[2] for one in picture.iter()} <= {
        *("svg", "title", "style", "rect", "text", "g", "path", "circle")
    }
    assert any("a <b>&\"'" in one for one in titles(picture))
    assert "\x1b" not in "".join(titles(picture))


def test_a_picture_of_nothing() -> None:
    """A thread without steps has a picture that says so."""
    assert titles(drawn(ThreadHistory("none", []))) == ["Timeline of thread none: 0 steps"]


def test_the_newest_steps() -> None:
    """A long thread is drawn as far as there is room, and the title says how much that is."""
    history = ThreadHistory("long", [made(n, seconds=n, ran=("node",)) for n in range(500)][::-1])
    said = titles(drawn(history))
    assert said[0] == "Timeline of thread long: the newest 50 of 500 steps"
    assert sum(one.startswith("step ") for one in said) == 50
    whole = drawn(history, steps=None)
    assert sum(one.startswith("step ") for one in titles(whole)) == 500
    assert float(whole.get("width", 0)) > 8000
    assert titles(drawn(history, steps=0))[0] == "Timeline of thread long: the newest 0 of 500 steps"


def test_pauses() -> None:
    """A pause that is much longer than the others is cut, and says how long it was; steps keep apart and in order."""
    seconds = [0, 1, 2, 2, 3, 3 + 7200, 7204, 7203, None]
    history = ThreadHistory("slow", [made(n, seconds=one) for n, one in enumerate(seconds)][::-1])
    picture = drawn(history)
    assert "2 h later" in [one.text for one in picture.iter("{http://www.w3.org/2000/svg}text")]
    circles = [one for one in picture.iter("{http://www.w3.org/2000/svg}circle") if one.get("r") == "5"]
    places = [float(one.get("cx", 0)) for one in circles[: len(seconds)]]
    assert all(two - one >= 15.9 for one, two in pairwise(places))


@pytest.mark.parametrize(("seconds", "form"), [(5, r"00:00:05\.000"), (4000, "01:06:40"), (200_000, "01-04 07:33")])
def test_times(seconds: int, form: str) -> None:
    """Times are told as exactly as the span of the picture needs."""
    picture = drawn(ThreadHistory("t", [made(1, seconds=seconds), made(0)]))
    assert any(re.fullmatch(form, str(one.text)) for one in picture.iter("{http://www.w3.org/2000/svg}text"))


def test_rows_of_branches() -> None:
    """A branch has a row of its own, which the next may have once it has ended; a circle of parents is no trap."""
    steps = [made(0), made(1), made(2, parent=0), made(3, parent=2), made(4, parent=1), made(5, parent=4)]
    picture = drawn(ThreadHistory("t", steps[::-1]))
    circles = [one for one in picture.iter("{http://www.w3.org/2000/svg}circle") if one.get("r") == "5"]
    heights = [float(one.get("cy", 0)) for one in circles[:6]]
    assert heights[0] == heights[1] == heights[4] == heights[5]
    assert heights[2] == heights[3] != heights[0]
    circle = [made(0, parent=1), made(1, parent=0), made(2, parent=2)]
    assert drawn(ThreadHistory("t", circle)) is not None


@pytest.mark.parametrize("source", ["loop", "fork"])
def test_how_long_a_node_ran(source: str) -> None:
    """The bar of a node ends with the next step of the graph; a copy that was made of its checkpoint later is none."""
    picture = drawn(ThreadHistory("t", [made(1, seconds=9, source=source), made(0, ran=("node",))]))
    (bar,) = (one for one in picture.iter("{http://www.w3.org/2000/svg}rect") if one.get("height") == "14")
    assert (float(bar.get("width", 0)) > 500) == (source == "loop")


def test_a_long_thread_is_drawn_in_no_time(loop: asyncio.AbstractEventLoop | None) -> None:
    """A picture of thousands of steps with many branches is there within seconds."""
    steps = [made(n, parent=max(n - 1 - (n % 7 == 0) * 5, 0), seconds=n, ran=("node",)) for n in range(1, 3000)]
    assert drawn(ThreadHistory("t", steps[::-1]), steps=None) is not None
