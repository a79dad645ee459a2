"""What was left out stays out, and nothing else: whatever the app has done to its messages since."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.messages import AIMessage, AnyMessage, BaseMessage, HumanMessage, RemoveMessage, SystemMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.graph.message import add_messages

from langgraph_durable.context import (
    Compressed,
    ContextNode,
    ContextState,
    DropOldest,
    Shrink,
    Stage,
    Summarize,
    compress_messages,
)
from tests.conftest import thread
from tests.talks import Scripted, ids, raising, says, turns
from tests.test_context_node import State, graph_of
from tests.validity import problems

TOLD = "The user is called Ada."
STAGES: list[Stage] = [Summarize(says(TOLD)), DropOldest(), Shrink()]
CHEAP: list[Stage] = [DropOldest(), Shrink()]


def summed(given: Sequence[BaseMessage], state: Any = None, stages: Sequence[Stage] = STAGES) -> Compressed:
    """Compressed to a summary and what is newest."""
    return compress_messages(given, budget=("tokens", 1000), stages=stages, state=state)


def shown(given: Sequence[BaseMessage], made: Compressed) -> list[BaseMessage]:
    """What is sent of messages by the state of another compression, with all the room there is; it has JSON's form."""
    state = json.loads(json.dumps(made.state))
    again = compress_messages(given, budget=("tokens", 100_000), stages=[Summarize(raising(ValueError()))], state=state)
    assert not again.report.compressed
    return again.messages


GIVEN = turns(20, system=None)
EDITED = [HumanMessage("[taken out]", id="human 0"), *GIVEN[1:]]
CHANGES = {
    "edited": EDITED,
    "removed": GIVEN[1:],
    "several removed": GIVEN[6:],
    "edited, and the second removed": [EDITED[0], *GIVEN[2:]],
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_summary_outlives_the_message_whose_id_it_has(change: str) -> None:
    """It stands for many: when the app edits or removes the first of them nothing comes back, and nothing is lost."""
    made = summed(GIVEN)
    assert TOLD in made.messages[0].text
    new = HumanMessage("And now?", id="new")
    assert shown([*CHANGES[change], new], made) == [*made.messages, new]


@pytest.mark.parametrize("change", CHANGES)
def test_a_summary_outlives_it_in_later_compressions(change: str) -> None:
    """So it does when more is dropped behind it."""
    more = [*CHANGES[change], *turns(40, system=None)[80:]]
    later = summed(more, summed(GIVEN).state, CHEAP)
    assert later.report.dropped
    assert TOLD in later.messages[0].text
    assert shown(more, later) == later.messages


def test_a_summary_in_a_state() -> None:
    """In a graph as well, where the messages stay and a summary is in the private field alone."""
    model = says("Fine.")
    graph = graph_of(ContextNode(budget=("tokens", 1000), stages=STAGES, persist="view"), State, InMemorySaver(), model)
    graph.invoke({"messages": GIVEN}, thread())
    assert TOLD in model.told[-1][0].text
    graph.update_state(thread(), {"messages": [RemoveMessage(id="human 0")]})
    graph.invoke({"messages": [HumanMessage("And now?")]}, thread())
    assert TOLD in model.told[-1][0].text
    assert len(model.told[-1]) < 20


def test_what_is_put_before_the_others_is_sent() -> None:
    """Instructions and memories that come in later, before what was left out, are new."""
    system = SystemMessage("Old rules.", id="old")
    given = [system, *GIVEN]
    for stages in (STAGES, CHEAP):
        made = summed(given, stages=stages)
        rules = SystemMessage("New rules.", id="new")
        assert shown([rules, *GIVEN], made) == [rules, *made.messages[1:]]
        assert shown([system, rules, *GIVEN], made) == [system, rules, *made.messages[1:]]
        memory = HumanMessage("A memory.", id="memory")
        assert shown([system, memory, *GIVEN], made) == [system, memory, *made.messages[1:]]
        # What stood first when it was left out may be gone.
        assert memory in shown([system, memory, *GIVEN[3:]], made)[:3]


def test_a_memory_that_is_another_in_every_call() -> None:
    """Whether the one before was left out or not."""
    state: Any = None
    for turn in range(30):
        memory = HumanMessage(f"Memory {turn} " * 20, id=f"memory {turn}")
        made = summed([memory, *GIVEN[: 20 + 2 * turn]], state, CHEAP)
        state = made.state
        assert made.report.compressed or made.messages[0] == memory


def test_another_request_than_the_last() -> None:
    """When the app takes the request back the one before it is what is worked on, though it was left out."""
    asked = HumanMessage("Book it.", id="asked")
    work = [message for message in turns(20, system=None) if message.type != "human"]
    given = [HumanMessage("Look.", id="looked"), *work, asked]
    made = summed(given, stages=CHEAP)
    assert "looked" not in ids(made.messages)
    left = shown([*given[:-1], AIMessage("Done.", id="done")], made)
    assert left[0].id == "looked"
    assert problems(left) == []


def test_a_summary_is_not_put_into_another_history() -> None:
    """Where nothing is known of what was left out all is sent as it is."""
    other = [message.model_copy(update={"id": f"other {message.id}"}) for message in GIVEN]
    assert shown(other, summed(GIVEN)) == other


@pytest.mark.parametrize(
    "view", ["text", {"edits": [1]}, {"edits": {"human 0": 3}}, {"upto": "human 5", "kept": 7}, {"first": "human 0"}]
)
def test_a_view_that_is_none(view: Any) -> None:
    """What a damaged state says is no reason to leave something out, or to fail."""
    state = {**summed(GIVEN).state, "view": view}
    assert compress_messages(GIVEN, budget=("tokens", 100_000), state=state).messages == GIVEN


class Two(TypedDict):
    """A state with two conversations."""

    one: Annotated[list[AnyMessage], add_messages]
    other: Annotated[list[AnyMessage], add_messages]
    context_state: ContextState
    llm_input_messages: list[AnyMessage]


def test_two_conversations_in_one_state() -> None:
    """Each is compressed once, and goes on from what was left out of it."""
    models = {name: Scripted(answer=lambda messages: AIMessage(TOLD)) for name in ("one", "other")}
    builder = StateGraph(Two)
    for name, model in models.items():
        stages: list[Stage] = [Summarize(model), DropOldest(), Shrink()]
        node = ContextNode(budget=("tokens", 1000), stages=stages, persist="view", messages_key=name)
        builder.add_node(f"context of {name}", node)
    builder.add_edge(START, "context of one").add_edge("context of one", "context of other")
    graph: Any = builder.compile(checkpointer=InMemorySaver())
    for turn in range(5):
        new = [HumanMessage(f"Question {turn}", id=f"question {turn}")]
        begun = {"one": GIVEN, "other": turns(20, size=500)} if not turn else {"one": [], "other": []}
        graph.invoke({name: [*given, *new] for name, given in begun.items()}, thread())
    assert {name: len(model.told) for name, model in models.items()} == {"one": 1, "other": 1}
    assert set(graph.get_state(thread()).values["context_state"]) == {"one", "other"}
