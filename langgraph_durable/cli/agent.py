"""The demo's agent: which step comes next depends only on the messages, so any process can go on from the stored ones.

An ordinary LangGraph ReAct agent: a node that asks the model, a node that runs the tools it asks for, and back, until
the model answers. What is added is around the nodes: every start and end of a step goes into the journal, and the
process that is to be killed waits for that inside a step. `main` is what the demo runs in a process of its own.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, SystemMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool, StructuredTool
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.errors import GraphRecursionError
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from langgraph.prebuilt.tool_node import ToolInvocationError

from langgraph_durable import SqliteSaver
from langgraph_durable.cli.folder import Folder
from langgraph_durable.cli.journal import Event, Journal, Kind, Run, as_line
from langgraph_durable.cli.script import ScriptedModel
from langgraph_durable.errors import DurableError, InvalidRequestError

QUESTION = (
    "What is in this folder, how large is it, what is still to do (TODO), and what does its most important file say? "
    "Use the tools; call one at a time. Answer in at most eight lines, with the numbers that the tools gave."
)
SYSTEM = "You look into a folder for its owner. You can only read. Paths are relative to that folder."
MAX_STEPS = 30
MODEL_TIMEOUT_S = 60

Ask = Callable[[list[AnyMessage], RunnableConfig], AIMessage]


class Node(Protocol):
    """What LangGraph runs in a step: the state in, what is to be added to it out."""

    def __call__(self, state: MessagesState, config: RunnableConfig) -> dict[str, list[AnyMessage]]: ...


def build_agent(
    folder: Folder, ask: Ask, checkpointer: BaseCheckpointSaver[Any], around: Callable[[str, Node], Node]
) -> CompiledStateGraph[MessagesState, None, MessagesState, MessagesState]:
    """The agent over `folder`. `ask` is its model; `around` is given each node with its name and says what to run."""

    def agent(state: MessagesState, config: RunnableConfig) -> dict[str, list[AnyMessage]]:
        return {"messages": [ask([SystemMessage(SYSTEM), *state["messages"]], config)]}

    # What the folder refuses is the model's to correct, like arguments that do not fit the tool; the rest is a bug.
    tool_node = ToolNode(tools_over(folder), handle_tool_errors=(InvalidRequestError, ToolInvocationError))

    def tools(state: MessagesState, config: RunnableConfig) -> dict[str, list[AnyMessage]]:
        update: dict[str, list[AnyMessage]] = tool_node.invoke(state, config)
        return update

    builder = StateGraph(MessagesState)
    builder.add_node("agent", around("agent", agent))
    builder.add_node("tools", around("tools", tools))
    builder.add_edge(START, "agent")
    builder.add_conditional_edges("agent", tools_condition)
    builder.add_edge("tools", "agent")
    return builder.compile(checkpointer=checkpointer)


def tools_over(folder: Folder) -> list[BaseTool]:
    """The four tools: list_folder, read_file, search and count, all read-only and confined to `folder`."""
    methods = (folder.list_folder, folder.read_file, folder.search, folder.count)
    return [StructuredTool.from_function(method) for method in methods]


def main(argument: str) -> int:
    """0 when the agent answered, 1 when it failed, which the journal then says; `argument` is a Run as JSON."""
    run = Run(**json.loads(argument))
    journal = _Reporter(run)
    sys.stdout = sys.stderr  # what a library may print is not an event
    folder = Folder(Path(run.folder))
    config: RunnableConfig = {"configurable": {"thread_id": run.thread_id}, "recursion_limit": MAX_STEPS}
    question: MessagesState | None = {"messages": [HumanMessage(QUESTION)]} if run.process == 1 else None
    try:
        with SqliteSaver.from_conn_string(run.database) as saver:
            ask = ScriptedModel().invoke if run.model is None else _live_model(run.model, tools_over(folder))
            graph = build_agent(folder, ask, saver, journal.around)
            graph.invoke(question, config, durability="sync")
    except (DurableError, GraphRecursionError) as error:
        journal.tell("failure", str(error))
        return 1
    return 0


class _Reporter:
    """Tells the journal, and then whoever reads this process's stdout, what the steps of one run do."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._journal = Journal(Path(run.journal))
        self._stdout = sys.stdout

    def around(self, name: str, node: Node) -> Node:
        """`node`, reporting when it starts and when it has finished, and pausing in between when it is its turn."""

        def step(state: MessagesState, config: RunnableConfig) -> dict[str, list[AnyMessage]]:
            number: int = config["metadata"]["langgraph_step"]
            seen = len(state["messages"])
            last = state["messages"][-1]
            self.tell("start", _calls(last), number, name, seen)
            update = node(state, config)
            reply = update["messages"][-1]
            is_answer = isinstance(reply, AIMessage) and not reply.tool_calls
            what = _calls(last) or ("the answer" if is_answer else f"asks for {_calls(reply)}")
            if self._run.pause_at is not None and (number >= self._run.pause_at or is_answer):
                self.tell("pause", what, number, name, seen)
                # The work is done and not recorded: the worst moment. The end of stdin means that whoever was to kill
                # this process is gone; then it must not stay behind.
                sys.stdin.read()
                os._exit(1)
            self.tell("end", what, number, name, seen)
            return update

        return step

    def tell(self, kind: Kind, what: str, step: int = 0, node: str = "", seen: int = 0) -> None:
        """Report an event. A failure is that of the whole run and of no step."""
        event = Event(kind, what, step, node, seen, self._run.process, os.getpid(), time.monotonic())
        self._journal.append(event)
        print(as_line(event), file=self._stdout, flush=True)


def _calls(message: AnyMessage) -> str:
    """The tool calls that the message asks for, as one would write them; empty when it asks for none."""
    calls = message.tool_calls if isinstance(message, AIMessage) else []
    return ", ".join(f"{call['name']}({', '.join(map(str, call['args'].values()))})" for call in calls)


def _live_model(name: str, tools: list[BaseTool]) -> Ask:
    """ChatOpenAI with the tools. Its errors are DurableErrors without the key: LangGraph stores what a node raises."""
    from langchain_openai import ChatOpenAI

    model = ChatOpenAI(model=name, timeout=MODEL_TIMEOUT_S).bind_tools(tools)
    key = os.environ["OPENAI_API_KEY"]

    def ask(messages: list[AnyMessage], config: RunnableConfig) -> AIMessage:
        try:
            return model.invoke(messages, config)
        except Exception as error:  # noqa: BLE001 - whatever a provider's client raises may quote the key
            reason = str(error).replace(key, "***")
        # Not inside `except`, where it would carry the client's own error along.
        raise DurableError(f"the model {name} failed: {reason}")

    return ask
