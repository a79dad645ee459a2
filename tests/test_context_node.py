"""Compression as a node, a hook and a middleware: what each does to a state, and what it needs of one."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Sequence
from operator import add
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.exceptions import ContextOverflowError
from langchain_core.messages import AIMessage, AnyMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import Send
from pydantic import BaseModel

from langgraph_durable import InvalidRequestError, SqliteSaver
from langgraph_durable.context import (
    ClearToolResults,
    ContextNode,
    ContextState,
    DropOldest,
    Shrink,
    Stage,
    Summarize,
    compress_messages,
    count_tokens,
    repair_messages,
)
from langgraph_durable.context.journal import Journal, journal_here
from langgraph_durable.context.node import Persist
from langgraph_durable.core.conversation import UNKNOWN
from tests.conftest import Face, thread
from tests.durables import called
from tests.talks import Scripted, calling, ids, raising, result, says, turns

Loop = asyncio.AbstractEventLoop | None


class State(MessagesState):
    """What a graph with a context node has."""

    context_state: ContextState
    llm_input_messages: list[AnyMessage]


def graph_of(node: Any, state: Any = State, saver: Any = None, model: Any = None) -> Any:
    """The node, and one that calls a model with what it says."""
    builder = StateGraph(state)
    builder.add_node("context", node)
    builder.add_edge(START, "context")
    if model is not None:

        def ask(state: Any) -> Any:
            return {"messages": [model.invoke(state.get("llm_input_messages") or state["messages"])]}

        builder.add_node("model", ask)
        builder.add_edge("context", "model")
    return builder.compile(checkpointer=saver)


def invoked(loop: Loop, graph: Any, given: Sequence[BaseMessage], config: Any = None) -> Any:
    return called(loop, graph, "invoke", {"messages": list(given)}, config)


@pytest.mark.parametrize("persist", ["replace", "view"])
def test_what_the_state_becomes(persist: Persist, loop: Loop) -> None:
    """With "replace" the messages are those that are sent; with "view" they stay, and what is sent is beside them."""
    given = turns(30)
    ended = invoked(loop, graph_of(ContextNode(budget=("tokens", 900), persist=persist)), given)
    sent = ended["messages"] if persist == "replace" else ended["llm_input_messages"]
    assert count_tokens(sent) <= 450
    assert ended["messages"] == (sent if persist == "replace" else given)
    assert ("view" in ended["context_state"]["messages"]) == (persist == "view")


@pytest.mark.parametrize("persist", ["replace", "view"])
def test_within_the_budget(persist: Persist, loop: Loop) -> None:
    """Nothing is written to the messages where nothing is done, and all are sent."""
    given = turns(2)
    node = ContextNode(budget=("tokens", 9000), persist=persist)
    update = called(loop, node, "invoke", {"messages": given})
    assert set(update) == ({"context_state"} if persist == "replace" else {"context_state", "llm_input_messages"})
    assert update.get("llm_input_messages", given) == given


class OnlyMessages(MessagesState):
    """A state without a place for what was left out."""


def test_a_view_needs_its_fields(loop: Loop) -> None:
    """What was left out has to be kept: a state without the fields for it is refused, with how to add them."""
    node = ContextNode(budget=("tokens", 900), persist="view")
    with pytest.raises(InvalidRequestError, match="no context_state and no llm_input_messages: add `context_state:"):
        invoked(loop, graph_of(node, OnlyMessages), turns(3))
    replaced = invoked(loop, graph_of(ContextNode(budget=("tokens", 900)), OnlyMessages), turns(30))
    assert count_tokens(replaced["messages"]) <= 450


class Unnamed(TypedDict):
    """A state whose messages get no ids."""

    messages: Annotated[list[AnyMessage], lambda old, new: [*old, *new]]
    context_state: ContextState
    llm_input_messages: list[AnyMessage]


@pytest.mark.parametrize("persist", ["replace", "view"])
def test_a_state_without_ids(persist: Persist, loop: Loop) -> None:
    """Where messages have no ids nothing can be kept, and that is said rather than paid for at every call."""
    given = [message.model_copy(update={"id": None}) for message in turns(30)]
    graph = graph_of(ContextNode(budget=("tokens", 900), persist=persist), Unnamed)
    with pytest.raises(InvalidRequestError, match="add_messages"):
        invoked(loop, graph, given)
    assert invoked(loop, graph, given[:4])["messages"] == given[:4]


class Appended(TypedDict):
    """A state that appends what is written."""

    messages: Annotated[list[AnyMessage], add]


class Plain(TypedDict):
    """A state that has what was written last."""

    messages: list[AnyMessage]
    context_state: ContextState


class Taken(MessagesState):
    """A state of an app that has a field of this name."""

    context_state: str


class Misnamed(MessagesState):
    """A state with the field under another name."""

    context: ContextState


def test_states_that_cannot_be_replaced_in(loop: Loop) -> None:
    """Nothing is written over or appended that was to replace something: a field that takes whole values gets them."""
    node = ContextNode(budget=("tokens", 900))
    with pytest.raises(InvalidRequestError, match="add_messages"):
        invoked(loop, graph_of(node, Appended), turns(30))
    with pytest.raises(InvalidRequestError, match="another type"):
        invoked(loop, graph_of(node, Taken), turns(3))
    with pytest.raises(InvalidRequestError, match="field context of the state"):
        invoked(loop, graph_of(node, Misnamed), turns(3))
    ended = invoked(loop, graph_of(node, Plain), turns(30))
    assert ended["messages"] == compress_messages(turns(30), budget=("tokens", 900)).messages
    assert invoked(loop, graph_of(node, Plain), turns(3))["messages"] == turns(3)


def test_a_message_that_only_this_node_was_sent() -> None:
    """What a Send gives a node and the state does not have is not taken out of the state."""
    builder = StateGraph(State)
    builder.add_node("context", ContextNode(budget=("tokens", 900)))
    payload = {"messages": [message.model_copy(update={"id": f"sent {message.id}"}) for message in turns(30)]}
    builder.add_conditional_edges(START, lambda state: [Send("context", payload)], ["context"])
    graph: Any = builder.compile()
    assert graph.invoke({"messages": turns(2)})["messages"] == turns(2)


@pytest.mark.parametrize(
    "sent",
    [
        [HumanMessage("Do.", id="h"), calling("c")],
        [
            HumanMessage("Do.", id="h"),
            calling("c"),
            HumanMessage("Well?", id="w"),
            result("c"),
            AIMessage("So.", id="s"),
        ],
    ],
    ids=["a result is missing", "a result is late"],
)
def test_a_broken_conversation_that_only_this_node_was_sent(sent: list[BaseMessage]) -> None:
    """What it takes to put it in order is nothing that the state has to know, but for messages that it has."""
    builder = StateGraph(State)
    builder.add_node("context", ContextNode(budget=("tokens", 900)))
    builder.add_conditional_edges(START, lambda state: [Send("context", {"messages": sent})], ["context"])
    graph: Any = builder.compile()
    assert graph.invoke({"messages": turns(2)})["messages"] == turns(2)
    assert graph.invoke({"messages": [*turns(2), *sent]})["messages"] == [*turns(2), *repair_messages(sent)]


def test_a_list_without_a_reducer_that_only_this_node_was_sent() -> None:
    """It would take the place of the state's."""
    builder = StateGraph(Plain)
    builder.add_node("context", ContextNode(budget=("tokens", 900)))
    builder.add_conditional_edges(START, lambda state: [Send("context", {"messages": turns(30)})], ["context"])
    graph: Any = builder.compile()
    with pytest.raises(InvalidRequestError, match="overwrite"):
        graph.invoke({"messages": turns(2)})


class Fields(BaseModel):
    """A state that is a pydantic model."""

    talk: Annotated[list[AnyMessage], add_messages]
    context_state: ContextState = {}


@dataclasses.dataclass
class Data:
    """A state that is a dataclass."""

    talk: Annotated[list[AnyMessage], add_messages]
    context_state: ContextState = dataclasses.field(default_factory=dict)


@pytest.mark.parametrize("state", [Fields, Data])
def test_states_of_other_kinds(state: Any, loop: Loop) -> None:
    """Messages may be in a field of another name, of a state of any kind."""
    graph = graph_of(ContextNode(budget=("tokens", 900), messages_key="talk"), state)
    assert count_tokens(called(loop, graph, "invoke", {"talk": turns(30)})["talk"]) <= 450
    with pytest.raises(InvalidRequestError, match="messages_key"):
        called(loop, graph_of(ContextNode(budget=("tokens", 900)), state), "invoke", {"talk": turns(3)})


def deltas() -> Any:
    """A state whose messages are in a DeltaChannel, where LangGraph has that."""
    delta = pytest.importorskip("langgraph.channels.delta")
    message = pytest.importorskip("langgraph.graph.message")
    messages = Annotated[list[AnyMessage], delta.DeltaChannel(message._messages_delta_reducer)]
    make: Any = TypedDict
    return make("Deltas", {"messages": messages, "context_state": ContextState})


def damaged() -> list[BaseMessage]:
    """A call without a result, and a result behind a request, both in the middle."""
    given = turns(4)
    late = given.pop(3)
    del given[6]
    return [*given[:4], late, *given[4:]]


@pytest.mark.parametrize("reducer", ["add_messages", "delta"])
def test_a_broken_conversation_is_mended_in_the_state(reducer: str, loop: Loop) -> None:
    """Results are put where they belong in the state itself, whatever reducer it has, and once."""
    state: Any = State
    if reducer == "delta":
        state = deltas()
    given = damaged()
    assert repair_messages(given) != given
    graph = graph_of(ContextNode(budget=("tokens", 9000)), state, InMemorySaver())
    ended = invoked(loop, graph, given, thread())
    assert ended["messages"] == repair_messages(given)
    assert [str(message.content) for message in ended["messages"] if message.content == UNKNOWN] == [UNKNOWN]
    again = invoked(loop, graph, [HumanMessage("And?", id="new")], thread())
    assert again["messages"] == [*ended["messages"], HumanMessage("And?", id="new")]


def test_two_nodes_in_one_superstep() -> None:
    """Two that look at one state side by side do not get in each other's way where there is nothing to do."""
    builder = StateGraph(State)
    for name in ("one", "other"):
        builder.add_node(name, ContextNode(budget=("tokens", 9000)))
        builder.add_edge(START, name)
    graph: Any = builder.compile()
    assert graph.invoke({"messages": turns(3)})["messages"] == turns(3)


# -- what the provider counted -----------------------------------------------------------------------------------------


def usage(tokens: int) -> Any:
    """What a provider says of a call."""
    return {"input_tokens": tokens, "output_tokens": 9, "total_tokens": tokens + 9}


class Counting(Scripted):
    """A model of a provider that counts a third more than the estimate, and tokens of tools."""

    beside: int = 300

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> Any:
        made = super()._generate(messages, *args, **kwargs)
        answer: Any = made.generations[0].message
        counted = self.counted(messages)
        answer.usage_metadata = usage(counted)
        return made

    def counted(self, messages: Sequence[BaseMessage]) -> int:
        return count_tokens(messages) * 4 // 3 + self.beside


@pytest.mark.parametrize("persist", ["replace", "view"])
def test_the_budget_is_kept_as_the_provider_counts(persist: Persist, loop: Loop) -> None:
    """After a few calls no prompt is above the budget as the provider counts it, tools and all."""
    model = Counting(answer=lambda messages: AIMessage("Yes. " * 20))
    graph = graph_of(ContextNode(budget=("tokens", 2000), persist=persist), State, InMemorySaver(), model)
    for turn in range(40):
        invoked(loop, graph, [HumanMessage(f"Question {turn} " + "w" * 200)], thread())
    counted = [model.counted(told) for told in model.told]
    assert max(counted) <= 2000
    assert max(counted) > 1700
    assert graph.get_state(thread()).values["context_state"]["messages"]["calibration"][0] == pytest.approx(
        4 / 3, rel=0.05
    )


def test_much_at_once(loop: Loop) -> None:
    """Results that come in together are within the budget, as much of them as fits, and the request is whole."""
    calls: Any = [{"name": "look", "args": {}, "id": f"c{number}", "type": "tool_call"} for number in range(20)]
    node = ContextNode(budget=("tokens", 4000))
    request = HumanMessage("Do all of this. " * 70, id="request")
    asked = AIMessage("", id="ai", tool_calls=calls, usage_metadata=usage(400))
    first = called(loop, node, "invoke", {"messages": [request]})
    found = [result(f"c{number}", f"{number} " * 3000) for number in range(20)]
    state = {"messages": [request, asked, *found], "context_state": first["context_state"]}
    update = called(loop, node, "invoke", state)
    edited = {message.id: message for message in update["messages"]}
    assert "request" not in edited
    assert 3500 < count_tokens([request, asked, *(edited[one.id] for one in found)]) <= 4000


def test_what_is_beside_the_messages_counts(loop: Loop) -> None:
    """Tools that take most of the budget leave the messages the rest, as the provider counts it."""
    model = Counting(answer=lambda messages: AIMessage("Yes. " * 20), beside=2600)
    graph = graph_of(ContextNode(budget=("tokens", 4000)), State, InMemorySaver(), model)
    for turn in range(30):
        invoked(loop, graph, [HumanMessage(f"Question {turn} " + "w" * 200)], thread())
    assert all(model.counted(told) <= 4000 for told in model.told[2:])


def test_more_beside_the_messages_than_the_budget(loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    """It goes on, with little of the conversation, and says so: the provider may have counted several calls as one."""
    model = Counting(answer=lambda messages: AIMessage("Yes. " * 20), beside=4500)
    graph = graph_of(ContextNode(budget=("tokens", 4000)), State, InMemorySaver(), model)
    for turn in range(10):
        invoked(loop, graph, [HumanMessage(f"Question {turn} " + "w" * 200)], thread())
    assert "above the budget of 4000" in caplog.text
    assert max(map(count_tokens, model.told)) < 1000


# -- a summary is paid for once ----------------------------------------------------------------------------------------


def stages(model: Any) -> list[Stage]:
    return [Summarize(model), DropOldest(), Shrink()]


class Breaking(Scripted):
    """A model that fails once."""

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> Any:
        if not self.told:
            self.told.append(messages)
            raise ConnectionError("gone")
        return super()._generate(messages, *args, **kwargs)


@pytest.mark.parametrize("persist", ["replace", "view"])
def test_a_node_that_is_run_again(face: Face, persist: Persist) -> None:
    """A summary that was paid for is there when its node has to run again, in another process too."""
    summarizer = says("S.")

    def failing(state: Any) -> Any:
        raise ValueError("not now")

    def made(model: Any, after: Any = None) -> Any:
        node = ContextNode(budget=("tokens", 900), stages=stages(model), persist=persist)

        def step(state: Any, config: RunnableConfig) -> Any:
            update = node.invoke(state, config)
            if after is not None:
                after(state)
            return update

        return graph_of(step, State, face.saver)

    with pytest.raises(ValueError, match="not now"):
        made(summarizer, failing).invoke({"messages": turns(30)}, thread())
    assert len(summarizer.told) == 1
    ended = made(raising(AssertionError("paid again"))).invoke(None, thread())
    sent = ended["messages"] if persist == "replace" else ended["llm_input_messages"]
    assert "S." in str(sent[1].content)


def test_a_node_without_a_checkpointer(loop: Loop) -> None:
    """In one process a summary is remembered by the node itself."""
    summarizer = says("S.")
    graph = graph_of(ContextNode(budget=("tokens", 900), stages=stages(summarizer)))
    assert invoked(loop, graph, turns(30))["messages"] == invoked(loop, graph, turns(30))["messages"]
    assert len(summarizer.told) == 1


def test_a_journal_keeps_what_is_put(face: Face) -> None:
    """An entry is there once it was added, whatever becomes of the superstep, and goes with its thread."""

    def node(state: Any, config: RunnableConfig) -> Any:
        for number in range(3):
            journal = journal_here("notes", config)
            assert journal is not None
            journal.add(f"{number}", {"number": number})
            journal.add(f"{number}", "another")
        raise ValueError("not now")

    graph = graph_of(node, State, face.saver)
    for _ in range(2):
        with pytest.raises(ValueError, match="not now"):
            graph.invoke({"messages": turns(1)}, thread())
    found = Journal(face.saver, "thread", "notes")
    expected = {f"{number}": {"number": number} for number in range(3)}
    assert found.entries() == expected
    face.call("prune", ["thread"])
    assert found.entries() == expected
    face.call("copy_thread", "thread", "copy")
    assert Journal(face.saver, "copy", "notes").entries() == expected
    face.call("delete_thread", "thread")
    assert found.entries() == {}
    assert journal_here("notes") is None


# -- the middleware ----------------------------------------------------------------------------------------------------


def agent(model: Any, saver: Any = None, tools: Any = (), **options: Any) -> Any:
    """An agent with the middleware."""
    agents = pytest.importorskip("langchain.agents")
    from langgraph_durable.context import ContextMiddleware

    middleware = [ContextMiddleware(**{"budget": ("tokens", 900), **options})]
    return agents.create_agent(model, tools, system_prompt="Be nice.", middleware=middleware, checkpointer=saver)


@pytest.mark.parametrize("persist", ["replace", "view"])
def test_an_agent(persist: Persist, loop: Loop) -> None:
    """The model gets what fits, with the system prompt; no checkpoint is added, and no private field comes out."""
    model = says("Fine.")
    saver = InMemorySaver()
    given = turns(30, system=None)
    ended = invoked(loop, agent(model, saver, persist=persist), given, thread())
    assert count_tokens(model.told[0]) <= 900
    assert model.told[0][0].content == "Be nice."
    assert len(ended["messages"]) == (len(model.told[0]) if persist == "replace" else len(given) + 1)
    assert "context_state" not in ended
    assert len(list(saver.list(thread()))) == 3


def test_a_prompt_that_is_refused_as_too_long(loop: Loop) -> None:
    """Where the provider says that it is too long after all, half of it is sent; a second refusal is raised."""
    refusals = [1]

    def answer(messages: Sequence[BaseMessage]) -> AIMessage:
        if refusals:
            refusals.pop()
            raise ContextOverflowError("too long")
        return AIMessage("Fine.")

    model = Scripted(answer=answer)
    ended = invoked(loop, agent(model, budget=("tokens", 9000)), turns(30, system=None))
    first, second = model.told
    assert count_tokens(second) <= count_tokens(first) / 2
    assert ended["messages"][-1].content == "Fine."
    refusals += [1, 1]
    with pytest.raises(ContextOverflowError):
        invoked(loop, agent(model, budget=("tokens", 9000)), turns(30, system=None))


def test_calls_that_could_not_be_parsed(loop: Loop) -> None:
    """An agent's own results for such calls are kept as the agent keeps them, and nothing is refused."""
    invalid: Any = {"name": "look", "args": "{", "id": "bad", "error": None, "type": "invalid_tool_call"}
    given = [*turns(30, system=None), AIMessage("", id="cut", invalid_tool_calls=[invalid]), HumanMessage("?", id="q")]
    for persist in ("replace", "view"):
        model = says("Fine.")
        ended = invoked(loop, agent(model, persist=persist), given)
        told = model.told[0]
        assert repair_messages(told) == told
        assert ended["messages"][-1].content == "Fine."


class Remembering:
    """What makes a middleware that puts messages in for one call, with and without an id."""

    @staticmethod
    def made() -> Any:
        middleware = pytest.importorskip("langchain.agents.middleware")

        class Memories(middleware.AgentMiddleware):  # type: ignore[misc,name-defined]  # imported where it is needed
            def wrap_model_call(self, request: Any, handler: Any) -> Any:
                memories = [HumanMessage("Memory A. " * 40, id="memory"), HumanMessage("Memory B.")]
                return handler(request.override(messages=[*memories, *request.messages]))

        return Memories()


@pytest.mark.parametrize("persist", ["replace", "view"])
def test_messages_of_other_middleware(persist: Persist) -> None:
    """What another middleware puts in for a call is in that call, and never in the state."""
    agents = pytest.importorskip("langchain.agents")
    from langgraph_durable.context import ContextMiddleware

    model = says("Fine.")
    own = ContextMiddleware(budget=("tokens", 900), persist=persist)
    graph = agents.create_agent(model, [], middleware=[Remembering.made(), own], checkpointer=InMemorySaver())
    for turn in range(12):
        ended = graph.invoke({"messages": [HumanMessage(f"Question {turn} ".ljust(400, "x"), id=f"q{turn}")]}, thread())
        assert "memory" not in ids(ended["messages"])
    assert all(count_tokens(told) <= 900 for told in model.told)
    assert all("Memory B." in [message.content for message in told] for told in model.told[:4])


def test_a_repair_is_not_left_behind_the_answer(loop: Loop) -> None:
    """An answer is the last message of a run, also where a call before it had no result."""
    given = [HumanMessage("Look", id="h"), calling("open"), HumanMessage("And?", id="q")]
    for persist in ("replace", "view"):
        model = says("Fine.")
        ended = invoked(loop, agent(model, persist=persist), given)
        assert repair_messages(model.told[0]) == model.told[0]
        assert ended["messages"][-1].content == "Fine."


def test_tools_count(loop: Loop) -> None:
    """What is sent beside the messages is a part of the budget."""
    tools = pytest.importorskip("langchain_core.tools")

    def wide(text: str) -> str:
        return text

    wide.__doc__ = "It reads. " * 100
    model = says("Fine.")
    invoked(loop, agent(model, tools=[tools.tool(wide)], target=1.0), turns(30, system=None))
    assert count_tokens(model.told[0]) < 900 - 230


def test_a_fraction_of_the_agents_model(loop: Loop) -> None:
    """A fraction is one of what the agent's model takes in; of one that does not say, it is refused."""
    model = says("Fine.")
    model.profile = {"max_input_tokens": 2000}
    invoked(loop, agent(model, budget=("fraction", 0.5)), turns(30, system=None))
    assert count_tokens(model.told[0]) <= 1000
    with pytest.raises(InvalidRequestError, match="max_input_tokens"):
        invoked(loop, agent(says("Fine."), budget=("fraction", 0.5)), turns(3, system=None))


def test_persist_is_checked() -> None:
    """There are two ways to keep a compression."""
    with pytest.raises(InvalidRequestError, match="persist"):
        ContextNode(budget=("tokens", 900), persist="both")  # type: ignore[arg-type]  # what is checked


def test_a_deep_agent(path: str) -> None:
    """The same in an agent of deepagents, which brings middleware and tools of its own."""
    deepagents = pytest.importorskip("deepagents")
    from langgraph_durable.context import ContextMiddleware, UsageLedger, UsageMiddleware, full_history, thread_usage

    model = Counting(answer=lambda messages: AIMessage("Fine."), beside=3000)
    own = ContextMiddleware(budget=("tokens", 12_000), stages=stages(says("S.")))
    with SqliteSaver(path) as saver:
        middleware = [UsageMiddleware(UsageLedger()), own]
        graph = deepagents.create_deep_agent(model=model, tools=[], middleware=middleware, checkpointer=saver)
        asked = [HumanMessage(f"Question {turn} " + "word " * 400, id=f"q{turn}") for turn in range(30)]
        for one in asked:
            ended = graph.invoke({"messages": [one]}, thread())
        assert len(ended["messages"]) < 60
        assert [one for one in full_history(graph, thread()) if one.type == "human"] == asked
        assert thread_usage(graph, "thread").by_purpose["main"].input == sum(map(model.counted, model.told))
    assert all(model.counted(told) <= 12_000 for told in model.told)


def test_what_a_placeholder_costs_the_state() -> None:
    """Clearing keeps the messages, so that an app which shows them shows all turns."""
    given = turns(6)
    node = ContextNode(budget=("tokens", 600), target=1.0, stages=[ClearToolResults(keep=1)])
    ended = graph_of(node).invoke({"messages": given})
    assert ids(ended["messages"]) == ids(given)
    cleared = [one for one in ended["messages"] if isinstance(one, ToolMessage) and "cleared" in str(one.content)]
    assert cleared


def test_an_agents_loop_over_a_file(path: str, loop: Loop) -> None:
    """A loop of many calls behind one request goes on within the budget, and keeps the request in every prompt."""
    steps = iter(range(200))

    def answer(messages: Sequence[BaseMessage]) -> AIMessage:
        number = next(steps)
        return AIMessage("Done.") if number == 60 else calling(f"{number}")

    model = Scripted(answer=answer)
    builder = StateGraph(State)
    builder.add_node("context", ContextNode(budget=("tokens", 1200)))
    builder.add_node("model", lambda state: {"messages": [model.invoke(state["messages"])]})
    builder.add_node(
        "tools", lambda state: {"messages": [result(state["messages"][-1].tool_calls[0]["id"], "x" * 400)]}
    )
    builder.add_edge(START, "context")
    builder.add_edge("context", "model")
    builder.add_conditional_edges("model", lambda state: "tools" if state["messages"][-1].tool_calls else END)
    builder.add_edge("tools", "context")
    with SqliteSaver(path) as saver:
        graph = builder.compile(checkpointer=saver)
        called(
            loop,
            graph,
            "invoke",
            {"messages": [HumanMessage("The task", id="task")]},
            {**thread(), "recursion_limit": 500},
        )
    assert len(model.told) == 61
    assert all("task" in ids(told) and count_tokens(told) <= 1200 for told in model.told)
