"""A task of 120 turns of an agent that is cut off in turn 89 goes on there: nothing of the 88 before is paid twice."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AnyMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import RunnableConfig
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages

from langgraph_durable import durable
from langgraph_durable.runs import DurableGraph
from langgraph_durable.saver import DurableSaver
from tests.conftest import saver_at
from tests.durables import Notes, Stands, called, stands
from tests.processes import Pipe, child, forks

TURNS = 120
CUT = 89

CONFIG: RunnableConfig = {"configurable": {"thread_id": "task"}, "recursion_limit": 2 * TURNS + 5}


class State(TypedDict):
    messages: Annotated[list[AnyMessage], add_messages]


class Scripted(BaseChatModel):
    """A model that calls a tool once a turn, and says when it is done; what it reads costs a token a character."""

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        turn = sum(isinstance(message, AIMessage) for message in messages) + 1
        read = sum(len(message.text) for message in messages)
        usage = UsageMetadata(input_tokens=read, output_tokens=20, total_tokens=read + 20)
        calls: Any = [{"name": "act", "args": {"turn": turn}, "id": f"call-{turn}", "type": "tool_call"}]
        message = AIMessage(
            f"turn {turn} of {TURNS}" if turn <= TURNS else "done",
            tool_calls=calls if turn <= TURNS else [],
            usage_metadata=usage,
        )
        return ChatResult(generations=[ChatGeneration(message=message)])


def agent(saver: DurableSaver, folder: Path, act: Callable[[int], None]) -> DurableGraph:
    """The task: what the model was paid and what the tool did go to files, whatever becomes of the process."""
    spent, done = Notes(folder / "spent"), Notes(folder / "done")
    model = Scripted()

    def think(state: State) -> dict[str, Any]:
        answer = model.invoke(state["messages"])
        assert answer.usage_metadata is not None
        spent.add(str(answer.usage_metadata["total_tokens"]))
        return {"messages": [answer]}

    def tools(state: State) -> dict[str, Any]:
        last = state["messages"][-1]
        assert isinstance(last, AIMessage)
        (call,) = last.tool_calls
        act(call["args"]["turn"])
        done.add(f"turn {call['args']['turn']}")
        return {"messages": [ToolMessage("the result " * 10, tool_call_id=call["id"])]}

    builder = StateGraph(State)
    builder.add_node("think", think)
    builder.add_node("tools", tools)
    builder.add_edge(START, "think")
    builder.add_conditional_edges("think", lambda state: "tools" if state["messages"][-1].tool_calls else END)
    builder.add_edge("tools", "think")
    return durable(builder.compile(checkpointer=saver))


def begins(pipe: Pipe, place: str, form: str) -> None:
    """Run the task up to the turn in which it is cut off."""

    def act(turn: int) -> None:
        if turn == CUT:
            pipe.send("here")
            pipe.recv()

    app = agent(saver_at(place), Path(place).parent, act)
    loop = asyncio.new_event_loop() if form == "async" else None
    called(loop, app, "invoke", {"messages": [HumanMessage("the task")]}, CONFIG)


def goes_on(pipe: Pipe, place: str, form: str, how: str) -> None:
    """Finish the task, and say with how many messages."""
    saver = saver_at(place)
    app = agent(saver, Path(place).parent, lambda turn: None)
    loop = asyncio.new_event_loop() if form == "async" else None
    if how == "recover":
        (recovered,) = called(loop, app, "recover", config=CONFIG)
        assert recovered[:3] == ("task", "idle", 1)
    else:
        called(loop, app, "resume", "task", config=CONFIG)
    found = saver.get_thread("task")
    assert found is not None
    pipe.send(found.messages)


def sums(lines: Sequence[str]) -> int:
    return sum(map(int, lines))


@forks
@pytest.mark.parametrize(("form", "how"), [("sync", "resume"), ("async", "recover")])
def test_a_long_task_that_is_cut_off(
    kept: str, tmp_path: Path, form: str, how: str, record_property: Callable[[str, object], None]
) -> None:
    """Another process finishes it: each turn is done once, and each call of the model is paid once."""
    spent, done = Notes(tmp_path / "spent"), Notes(tmp_path / "done")
    with saver_at(kept) as saver:
        with child(begins, kept, form) as victim:
            assert victim.receive() == "here"
            victim.kill()
            victim.rest()
        assert stands(saver, "task") == Stands("crashed", "owner gone", ("tools",), None)
        assert done.lines() == [f"turn {turn}" for turn in range(1, CUT)]
        before = spent.lines()
        assert len(before) == CUT
        with child(goes_on, kept, form, how) as other:
            assert other.receive() == 2 * TURNS + 2
        assert stands(saver, "task") == Stands("idle", "", (), None)
    # The turn that was cut off had been paid for, and had not been done.
    assert done.lines() == [f"turn {turn}" for turn in range(1, TURNS + 1)]
    assert spent.lines()[:CUT] == before
    assert len(spent.lines()) == TURNS + 1
    whole, resumed = sums(spent.lines()), sums(spent.lines()[CUT:])
    told = f"going on took {resumed:,} tokens, a start from zero takes {whole:,}: {1 - resumed / whole:.0%} saved"
    record_property("tokens", told)
    print(told)
