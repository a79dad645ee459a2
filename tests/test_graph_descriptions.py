"""A graph is told the same however it was written and wherever it is told, and every change of its shape is told."""

from __future__ import annotations

import collections
import dataclasses
import enum
import functools
import json
import operator
import os
import subprocess
import sys
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypedDict, TypeVar

import pytest
import typing_extensions
from langchain_core import messages
from langchain_core.language_models import BaseChatModel
from langchain_core.language_models.fake_chat_models import FakeListChatModel
from langchain_core.messages import AnyMessage
from langchain_core.runnables import RunnableLambda, RunnableParallel
from langchain_core.tools import tool
from langgraph._internal._config import ensure_config
from langgraph.channels import BinaryOperatorAggregate, EphemeralValue, LastValue, Topic
from langgraph.channels.delta import DeltaChannel
from langgraph.func import entrypoint
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.graph.message import add_messages
from langgraph.managed import RemainingSteps
from langgraph.prebuilt import ToolNode
from langgraph.pregel import NodeBuilder, Pregel
from langgraph.types import Command, Send
from pydantic import BaseModel
from typing_extensions import NotRequired, TypeAliasType

from langgraph_durable import InvalidRequestError
from langgraph_durable.environment.graphs import described_graph, limits_of, tools_in
from langgraph_durable.environment.typenames import callable_name, type_name

T = TypeVar("T")
Graph: typing.TypeAlias = Pregel[Any, Any, Any, Any]


class Color(enum.Enum):
    """What a router may answer."""

    RED = 1


class Point(BaseModel):
    """A class of pydantic."""

    x: int = 0


class Box(BaseModel, Generic[T]):
    """A class of pydantic with a parameter."""

    inside: T


class Plain(Generic[T]):
    """A class with a parameter."""


class Row(TypedDict):
    """A dict with a type."""

    x: int


class Merge:
    """A reducer that is an object."""

    def __call__(self, old: Any, new: Any) -> Any:
        return new

    def method(self, old: Any, new: Any) -> Any:
        return new


def merge(old: Any, new: Any, deep: bool = False) -> Any:
    """A reducer."""
    return new


def fold(old: Any, new: Any) -> Any:
    """A reducer of many values at once."""
    return new


class State(TypedDict, total=False):
    """A state with one channel of each sort."""

    messages: Annotated[list[AnyMessage], add_messages]
    total: Annotated[int, operator.add]
    either: str | int | None
    noted: Annotated[dict[str, Any], "a note"]
    last: NotRequired[Annotated[list[Point], lambda old, new: new]]
    once: Annotated[str, EphemeralValue]
    folded: Annotated[list[str], DeltaChannel(fold)]
    left: RemainingSteps


class Fields(BaseModel):
    """A state of pydantic."""

    name: str = ""
    points: Annotated[list[Point], operator.add] = []


@dataclasses.dataclass
class Record:
    """A state that is a dataclass."""

    name: str | None = None
    points: Annotated[list[Point], operator.add] = dataclasses.field(default_factory=list)


class Log(TypedDict, total=False):
    """A state of one channel."""

    log: Annotated[list[str], operator.add]


def node(state: Any) -> dict[str, Any]:
    """A node that does nothing."""
    return {}


def route(state: Any) -> Literal["b", "c"]:
    """A router that says where it leads."""
    return "b"


def anywhere(state: Any) -> Any:
    """A router that does not."""
    return "b"


def go(state: Any) -> Command[Literal["b", "c"]]:
    """A node that says where it goes on."""
    return Command(goto="b")


@tool
def search(query: str) -> str:
    """Search."""
    return query


@tool
def fetch(url: str) -> str:
    """Fetch."""
    return url


def builder_of(*names: str, state: Any = Log) -> StateGraph[Any, Any, Any, Any]:
    """Nodes in a row."""
    builder: StateGraph[Any, Any, Any, Any] = StateGraph(state)
    for before, name in zip((START, *names), names, strict=False):
        builder.add_node(name, node)
        builder.add_edge(before, name)
    return builder


def row_of(*names: str, state: Any = Log, **options: Any) -> Graph:
    """A graph of nodes in a row."""
    return builder_of(*names, state=state).compile(**options)


def everything() -> Graph:
    """A graph with one of each."""
    builder = builder_of("a", state=State)
    builder.add_node("b", node).add_node("c", node, defer=True).add_node("inner", inner())
    builder.add_node("jump", go).add_node("drawn", node, destinations={"c": "a label", "b": "a label"})
    builder.add_conditional_edges("a", route)
    builder.add_conditional_edges("a", anywhere)
    builder.add_conditional_edges("b", lambda _: [Send("inner", {})], {Color.RED: "inner", True: END, (1, "x"): "c"})
    builder.add_conditional_edges(START, anywhere, ["a", "jump"])
    builder.add_edge(["c", "b"], "jump").add_edge("inner", END).add_edge("jump", END)
    return builder.compile(interrupt_before=["b", "a"], interrupt_after="*")


def inner() -> Graph:
    """A graph with a graph in it."""
    return builder_of("x").add_node("deep", row_of("y")).add_edge("x", "deep").compile(interrupt_after=["x"])


def agent(*, returning: bool = False) -> Graph:
    """A graph of the shape of an agent: a model and its tools."""
    builder = builder_of("model", state=MessagesState).add_node("tools", ToolNode([search, fetch]))
    builder.add_conditional_edges("model", anywhere, ["tools", END])
    builder.add_edge("tools", END if returning else "model")
    return builder.compile()


def channels_of(state: Any) -> dict[str, str]:
    """The channels of a graph with that state."""
    found: dict[str, str] = described_graph(row_of("a", state=state))["channels"]
    return found


# -- graphs ----------------------------------------------------------------------------------------------------------


def test_everything_is_told() -> None:
    """Nodes, edges, joins, routers, Commands, subgraphs, channels and breakpoints are told, and no internals."""
    assert described_graph(everything()) == {
        "nodes": ["a", "b", "c", "drawn", "inner", "inner/deep", "inner/deep/y", "inner/x", "jump"],
        "deferred": ["c"],
        "edges": [
            ["__start__", "a"],
            [["c", "b"], "jump"],
            ["inner", "__end__"],
            ["inner/__start__", "inner/x"],
            ["inner/deep/__start__", "inner/deep/y"],
            ["inner/x", "inner/deep"],
            ["jump", "__end__"],
        ],
        "branches": {
            "__start__": [{"name": "anywhere", "ends": {"a": "a", "jump": "jump"}}],
            "a": [{"name": "anywhere", "ends": None}, {"name": "route", "ends": {"b": "b", "c": "c"}}],
            "b": [{"name": "condition", "ends": {"(1, x)": "c", "Color.RED": "inner", "True": "__end__"}}],
            "drawn": [{"name": "Command", "ends": {"b": "b", "c": "c"}}],
            "jump": [{"name": "Command", "ends": {"b": "b", "c": "c"}}],
        },
        "channels": {
            "either": "LastValue(int | str | None)",
            "folded": "DeltaChannel(list, fold)",
            "inner/deep/log": "BinaryOperatorAggregate(list[str], add)",
            "inner/log": "BinaryOperatorAggregate(list[str], add)",
            "last": "BinaryOperatorAggregate(list[Point], <lambda>)",
            "left": "ManagedValue(RemainingStepsManager)",
            "messages": "BinaryOperatorAggregate(list[AnyMessage], add_messages)",
            "noted": "LastValue(dict[str, Any])",
            "once": "EphemeralValue(str)",
            "total": "BinaryOperatorAggregate(int, add)",
        },
        "breakpoints": {"after": ["*", "inner/x"], "before": ["a", "b"]},
    }


def test_it_is_the_same_in_every_process() -> None:
    """What is told is plain JSON, and neither the order in which sets are walked nor a second process changes it."""
    told = json.dumps(described_graph(everything()))
    assert json.loads(told) == described_graph(everything())
    code = "import json, tests.test_graph_descriptions as t; print(json.dumps(t.described_graph(t.everything())))"
    for seed in ("1", "2", "3"):
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONHASHSEED": seed},
            cwd=Path(__file__).parents[1],
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == told


def test_the_order_of_building_does_not_matter() -> None:
    """The same nodes and edges in another order are the same graph."""
    one = StateGraph(Log).add_node("a", node).add_node("b", node).add_edge(START, "a").add_edge("a", "b")
    two = StateGraph(Log).add_node("b", node).add_node("a", node).add_edge("a", "b").add_edge(START, "a")
    assert described_graph(one.compile()) == described_graph(two.compile())


@pytest.mark.parametrize(
    ("other", "part"),
    [
        (lambda: row_of("a", "c"), "nodes"),
        (lambda: builder_of("a", "b").add_edge("b", END).compile(), "edges"),
        (lambda: builder_of("a", "b").add_conditional_edges("b", anywhere, ["a"]).compile(), "branches"),
        (lambda: row_of("a", "b", state=Record), "channels"),
        (lambda: row_of("a", "b", interrupt_before=["b"]), "breakpoints"),
        (lambda: builder_of("a").add_node("b", node, defer=True).add_edge("a", "b").compile(), "deferred"),
    ],
)
def test_each_part_is_told_apart(other: Callable[[], Graph], part: str) -> None:
    """Each part of a description differs when that part of the graph does."""
    assert described_graph(other())[part] != described_graph(row_of("a", "b"))[part]


def test_breakpoints_that_were_set_since() -> None:
    """A breakpoint that was set or taken away after the graph was told is told the next time."""
    graph = row_of("a", "b")
    assert described_graph(graph)["breakpoints"] == {"before": [], "after": []}
    graph.interrupt_before_nodes = ["b"]
    graph.interrupt_after_nodes = "*"
    assert described_graph(graph)["breakpoints"] == {"before": ["b"], "after": ["*"]}


def test_what_a_builder_was_given_since() -> None:
    """A node that was added to the builder of a compiled graph is no part of that graph, nor are its edges."""
    builder = builder_of("a", "b")
    graph = builder.compile()
    told = described_graph(graph)
    builder.add_node("late", go).add_edge("b", "late").add_edge(["a", "late"], "b")
    builder.add_conditional_edges("late", route)
    assert described_graph(graph) == told


def test_a_subgraph_that_a_node_calls() -> None:
    """A graph that a node calls is told under the node, like one that is the node."""
    called = row_of("x")

    def calls(state: Log) -> Any:
        return called.invoke(state)

    told = described_graph(builder_of("a").add_node("outer", calls).add_edge("a", "outer").compile())
    assert told["nodes"] == ["a", "outer", "outer/x"]


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda graph: builder_of("x").compile(checkpointer=False),
        lambda graph: graph.with_retry(),
        lambda graph: RunnableLambda(lambda state: state) | graph,
        lambda graph: graph.with_fallbacks([RunnableLambda(node)]),
    ],
)
def test_a_subgraph_that_is_wrapped(wrapped: Callable[[Any], Any]) -> None:
    """A subgraph that stores nothing, or is a part of what a node runs, is told as well."""
    told = described_graph(builder_of("a").add_node("outer", wrapped(row_of("x"))).add_edge("a", "outer").compile())
    assert told["nodes"] == ["a", "outer", "outer/x"]


def test_a_node_with_steps_of_its_own() -> None:
    """What a runnable of somebody else's calls its steps need not be runnables."""

    class Plan(RunnableLambda[Any, Any]):
        steps = (1, 2)

    graph = builder_of("a").add_node("plan", Plan(node)).add_edge("a", "plan").compile()
    assert described_graph(graph)["nodes"] == ["a", "plan"]
    assert tools_in(graph) == []


def test_a_graph_that_calls_itself() -> None:
    """A graph that one of its own nodes calls is told once."""
    graph = row_of("a", "b")
    graph.nodes["b"].subgraphs = [graph]
    assert described_graph(graph)["nodes"] == ["a", "b"]
    assert tools_in(graph) == []


def test_answers_that_read_the_same() -> None:
    """Where two answers of a router read the same, both ends are told; one that tells its address is told by class."""
    answers: dict[Any, str] = {"1": "a", 1: "b", object(): "a"}
    graph = builder_of("a", "b").add_conditional_edges("b", anywhere, answers).compile()
    assert described_graph(graph)["branches"]["b"] == [{"name": "anywhere", "ends": {"1": "a, b", "object": "a"}}]


@pytest.mark.parametrize("state", [Fields, Record])
def test_states_of_other_kinds(state: Any) -> None:
    """The channels of a pydantic class and of a dataclass are told like those of a TypedDict."""
    points = "BinaryOperatorAggregate(list[Point], add)"
    name = "LastValue(str)" if state is Fields else "LastValue(str | None)"
    assert channels_of(state) == {"name": name, "points": points}


def test_a_state_without_fields() -> None:
    """A state that is one value has one channel."""
    assert channels_of(Annotated[list[str], operator.add]) == {"__root__": "BinaryOperatorAggregate(list[str], add)"}


def test_an_entrypoint() -> None:
    """A graph of the functional API is one node between start and end, and what it keeps for the next run."""

    @entrypoint()
    def flow(text: str) -> entrypoint.final[str, int]:
        return entrypoint.final(value=text, save=len(text))

    told = described_graph(flow)
    assert told["nodes"] == ["flow"]
    assert told["edges"] == [["__start__", "flow"], ["flow", "__end__"]]
    assert list(told["channels"]) == ["__previous__"]
    assert told["branches"] == {}


def test_a_graph_of_channels() -> None:
    """Nodes that read and write channels have an edge for each channel that leads from one to another."""
    graph: Graph = Pregel(
        nodes={
            "one": NodeBuilder().subscribe_only("a").do(lambda x: x).write_to("b", "c"),
            "two": NodeBuilder().subscribe_to("b").do(lambda x: x).write_to("d"),
            "three": NodeBuilder().subscribe_to("b", "c").do(lambda x: x),
        },
        channels={
            "a": EphemeralValue(str),
            "b": LastValue(str),
            "c": Topic(str, accumulate=True),
            "d": BinaryOperatorAggregate(list, operator.add),
        },
        input_channels="a",
        output_channels=["a", "d"],
    )
    told = described_graph(graph)
    assert told["edges"] == [["__start__", "one"], ["one", "three"], ["one", "two"], ["two", "__end__"]]
    assert told["channels"] == {
        "a": "EphemeralValue(str)",
        "b": "LastValue(str)",
        "c": "Topic(str, accumulate)",
        "d": "BinaryOperatorAggregate(list, add)",
    }


@pytest.mark.parametrize("other", [StateGraph(Log), None, node, "graph"])
@pytest.mark.parametrize("function", [described_graph, limits_of, tools_in])
def test_what_is_no_graph(function: Callable[[Any], Any], other: Any) -> None:
    """What is not a compiled graph is refused, and the error says what to hand over."""
    with pytest.raises(InvalidRequestError, match=rf"a {type(other).__name__} is not a compiled graph; hand over"):
        function(other)


# -- limits ----------------------------------------------------------------------------------------------------------


def test_limits_that_were_given() -> None:
    """The limits of a graph are told where somebody gave them, those of the call before those of the graph."""
    graph = row_of("a")
    assert limits_of(graph) == {}
    assert limits_of(graph, {"recursion_limit": 7}) == {"recursion_limit": 7}
    bound = graph.with_config({"recursion_limit": 5})
    assert limits_of(bound) == {"recursion_limit": 5}
    assert limits_of(bound, {"configurable": {}}) == {"recursion_limit": 5}
    assert limits_of(bound, {"recursion_limit": 7}) == {"recursion_limit": 7}
    assert limits_of(graph.with_config({"tags": ["x"]})) == {}
    graph.step_timeout = 1.5
    assert limits_of(graph) == {"step_timeout": 1.5}


def test_a_limit_that_langgraph_fills_in() -> None:
    """The default that LangGraph puts into a config was given by nobody, whatever number it is."""
    filled = ensure_config()
    assert "recursion_limit" in filled
    assert limits_of(row_of("a"), filled) == {}
    assert limits_of(row_of("a"), {"recursion_limit": int(filled["recursion_limit"])}) != {}


# -- tools -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda tools: tools,
        lambda tools: tools.with_config({"tags": ["x"]}),
        lambda tools: RunnableLambda(lambda state: state) | tools,
        lambda tools: RunnableLambda(node) | RunnableParallel(one=tools.with_retry()),
        lambda tools: RunnableLambda(node).with_fallbacks([tools]),
    ],
)
def test_tools_of_a_node(wrapped: Callable[[Any], Any]) -> None:
    """The tools of a ToolNode are found, also where it is a part of what the node runs."""
    builder = builder_of("a", state=MessagesState).add_node("tools", wrapped(ToolNode([search, fetch])))
    assert tools_in(builder.add_edge("a", "tools").compile()) == [search, fetch]


def test_tools_of_subgraphs() -> None:
    """The tools of subgraphs are found as well, each once; a graph without a ToolNode has none."""
    builder = builder_of("a", state=MessagesState).add_node("agent", agent()).add_edge("a", "agent")
    graph = builder.add_node("again", ToolNode([fetch])).add_edge("agent", "again").compile()
    assert tools_in(graph) == [fetch, search]
    assert tools_in(row_of("a")) == []


class Talker(FakeListChatModel):
    """A model that takes tools."""

    def bind_tools(self, *args: Any, **kwargs: Any) -> Any:
        return self


@pytest.mark.filterwarnings("ignore:create_react_agent has been moved")
def test_an_agent_of_langgraph() -> None:
    """LangGraph's own agent is told, with its tools."""
    from langgraph.prebuilt import create_react_agent

    model: BaseChatModel = Talker(responses=["done"])
    graph = create_react_agent(model, [search, fetch], interrupt_before=["tools"])
    told = described_graph(graph)
    assert told["nodes"] == ["agent", "tools"]
    assert told["edges"] == [["__start__", "agent"], ["tools", "agent"]]
    assert told["branches"] == {
        "agent": [{"name": "should_continue", "ends": {"tools": "tools", "__end__": "__end__"}}]
    }
    assert told["channels"]["messages"] == "BinaryOperatorAggregate(Sequence[BaseMessage], add_messages)"
    assert told["channels"]["remaining_steps"] == "ManagedValue(RemainingStepsManager)"
    assert told["breakpoints"] == {"before": ["tools"], "after": []}
    assert tools_in(graph) == [search, fetch]


def test_an_agent_of_this_shape() -> None:
    """An agent that goes from its tools to its end, and not back to the model, is told apart."""
    assert tools_in(agent()) == [search, fetch]
    assert described_graph(agent())["edges"] != described_graph(agent(returning=True))["edges"]


# -- types and functions ---------------------------------------------------------------------------------------------

Number = typing.NewType("Number", int)
Json = TypeAliasType("Json", "str | list[Json]")
Params = typing.ParamSpec("Params")


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("int", "int"),
        ("None", "None"),
        ("type(None)", "None"),
        ("Any", "Any"),
        ("Ellipsis", "..."),
        ("Optional[int]", "int | None"),
        ("Union[int, None]", "int | None"),
        ("Union[None, int]", "int | None"),
        ("int | None", "int | None"),
        ("None | int", "int | None"),
        ("Union[str, int]", "int | str"),
        ("int | str | None", "int | str | None"),
        ('Optional[Annotated[Union[int, str], "note"]]', "int | str | None"),
        ("list", "list"),
        ("List", "list"),
        ("List[int]", "list[int]"),
        ("list[int]", "list[int]"),
        ("List[Union[int, str]]", "list[int | str]"),
        ("List[Union[str, int]]", "list[int | str]"),
        ("list[Optional[str]]", "list[str | None]"),
        ("Dict[str, Any]", "dict[str, Any]"),
        ("Tuple[int, ...]", "tuple[int, ...]"),
        ("tuple", "tuple"),
        ("tuple[()]", "tuple[()]"),
        ("Tuple[()]", "tuple[()]"),
        ("Sequence[int]", "Sequence[int]"),
        ("abc.Sequence[int]", "Sequence[int]"),
        ("collections.deque[int]", "deque[int]"),
        ("type[int]", "type[int]"),
        ("Callable[[int, str], bool]", "Callable[[int, str], bool]"),
        ("Callable[..., bool]", "Callable[..., bool]"),
        ("Callable[[], None]", "Callable[[], None]"),
        ("Callable[Params, int]", "Callable[Params, int]"),
        ('Annotated[int, "note"]', "int"),
        ("Required[int]", "int"),
        ("NotRequired[Annotated[int, 1]]", "int"),
        ("ReadOnly[list[Annotated[int, 1]]]", "list[int]"),
        ("ClassVar[int]", "int"),
        ('Literal["b", 1, None, b"x", True, Color.RED]', "Literal['b', 1, Color.RED, None, True, b'x']"),
        ('list[Literal["b", "a"]]', "list[Literal['a', 'b']]"),
        ("T", "T"),
        ("list[T]", "list[T]"),
        ('"Some[int]"', "Some[int]"),
        ('ForwardRef("Other")', "Other"),
        ('list["Other"]', "list[Other]"),
        ("Point", "Point"),
        ("Row", "Row"),
        ("Box[Optional[int]]", "Box[int | None]"),
        ("Box", "Box"),
        ("Plain[str]", "Plain[str]"),
        ("Number", "Number"),
        ("Json", "Json"),
        ("NoReturn", "NoReturn"),
        ("5", "int"),
        ("AnyMessage", "AnyMessage"),
        ("list[AnyMessage]", "list[AnyMessage]"),
        ("Optional[AnyMessage]", "AnyMessage | None"),
        ("Union[AnyMessage, str]", "AnyMessage | str"),
        ("AIMessage | HumanMessage", "AIMessage | HumanMessage"),
        ("list[BaseMessage]", "list[BaseMessage]"),
    ],
)
def test_types(written: str, name: str) -> None:
    """A type has one name, however it is written, and no module or address in it."""
    names = vars(typing) | vars(typing_extensions) | vars(collections) | vars(messages) | globals()
    assert type_name(eval(written, names)) == name


def test_types_that_a_function_makes() -> None:
    """A class that is made in a function is told by its own name, also as the parameter of another."""

    class Local(BaseModel):
        pass

    class Made(TypedDict):
        x: int

    assert type_name(Local) == "Local"
    assert type_name(Box[Local]) == "Box[Local]"
    assert type_name(list[Made]) == "list[Made]"


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (add_messages, "add_messages"),
        (functools.partial(add_messages), "partial(add_messages)"),
        (operator.add, "add"),
        (set.union, "set.union"),
        (merge, "merge"),
        (lambda old, new: new, "<lambda>"),
        (functools.partial(merge, deep=True), "partial(merge)"),
        (functools.partial(functools.partial(merge), deep=True), "partial(merge)"),
        (Merge(), "Merge"),
        (functools.partial(Merge()), "partial(Merge)"),
        (Merge().method, "Merge.method"),
    ],
)
def test_reducers(function: Any, name: str) -> None:
    """A function has a name without its module and its address."""
    assert callable_name(function) == name
