"""The graphs that do the work: no model is called, and the same input always gives the same messages, byte for byte."""

from __future__ import annotations

import random
import string
from typing import Any

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolMessage
from langgraph.graph import END, START, MessagesState, StateGraph

Graph = StateGraph[MessagesState, None, MessagesState, MessagesState]
Update = dict[str, list[AnyMessage]]

CHECKPOINTS_A_TURN = 5
"""What one turn of `tool_agent` makes a saver put: the input and four supersteps."""

HEARD = ("system", "human")
"""The types of the messages that come from outside."""


def question(thread: str, turn: int) -> HumanMessage:
    """What the person says in the given turn of the given thread."""
    return HumanMessage(_gibberish(random.Random(f"{thread}/{turn}"), 25))


def tool_agent() -> Graph:
    """An agent with one tool and a plain `MessagesState`: each turn calls the tool once and then answers."""

    def agent(state: MessagesState) -> Update:
        rng = _rng(state)
        if isinstance(state["messages"][-1], ToolMessage):
            return {"messages": [AIMessage(_gibberish(rng, 40))]}
        call = {"name": "search", "args": {"query": _gibberish(rng, 5)}, "id": f"call-{len(state['messages'])}"}
        return {"messages": [AIMessage("", tool_calls=[call])]}

    def tools(state: MessagesState) -> Update:
        return {"messages": [ToolMessage(_gibberish(_rng(state), 80), tool_call_id=_called(state))]}

    graph = StateGraph(MessagesState)
    graph.add_node("agent", agent)
    graph.add_node("tools", tools)
    graph.add_edge(START, "agent")
    graph.add_conditional_edges("agent", lambda state: "tools" if _called(state) else END, ["tools", END])
    graph.add_edge("tools", "agent")
    return graph


def scripted_agent(script: list[AnyMessage]) -> Graph:
    """An agent whose every message, the model's and the tools', is the next one of `script`.

    A run ends where the script ends, or goes on with what somebody says to the agent.
    """

    def say(state: MessagesState) -> Update:
        return {"messages": [script[len(state["messages"])]]}

    def next_node(state: MessagesState) -> str:
        said = len(state["messages"])
        if said == len(script):
            return END
        if script[said].type in HEARD:
            return END
        return "tools" if script[said].type == "tool" else "agent"

    graph = StateGraph(MessagesState)
    graph.add_node("agent", say)
    graph.add_node("tools", say)
    for node in (START, "agent", "tools"):
        graph.add_conditional_edges(node, next_node, ["agent", "tools", END])
    return graph


def _rng(state: MessagesState) -> random.Random:
    """Randomness that depends on the last message alone, so that no interleaving of threads can change an answer."""
    last = state["messages"][-1]
    return random.Random(f"{last.content}{_tool_calls(last)}")


def _tool_calls(message: AnyMessage) -> list[Any]:
    return message.tool_calls if isinstance(message, AIMessage) else []


def _called(state: MessagesState) -> str | None:
    calls = _tool_calls(state["messages"][-1])
    return calls[0]["id"] if calls else None


def _gibberish(rng: random.Random, words: int) -> str:
    """Words of random letters: the worst case for a saver that compresses or looks for repetition."""
    return " ".join("".join(rng.choices(string.ascii_lowercase, k=rng.randint(2, 9))) for _ in range(words))
