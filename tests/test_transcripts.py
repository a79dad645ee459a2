"""Recorded conversations go through a graph, turn by turn, and come back from a process that never saw them."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import BaseMessage, convert_to_messages, messages_to_dict
from langgraph.graph import END, START, MessagesState, StateGraph

import langgraph_durable
from langgraph_durable.saver import DurableSaver
from tests.conftest import saver_at
from tests.graphs import Running

Conversations = dict[str, list[BaseMessage]]

READ_BACK = """
import json, sys
from langchain_core.messages import messages_to_dict
from langgraph_durable import open_saver
with open_saver(sys.argv[1]) as saver:
    for thread_id in json.loads(sys.stdin.read()):
        config = {"configurable": {"thread_id": thread_id}}
        found = saver.get_tuple(config)
        listed = next(saver.list(config, limit=1))
        assert listed.checkpoint == found.checkpoint
        print(json.dumps(messages_to_dict(found.checkpoint["channel_values"]["messages"])))
"""


def recorded(paths: list[Path]) -> Conversations:
    """The messages of each conversation, with ids, by the name of its thread."""
    found: Conversations = {}
    for path in paths:
        for number, line in enumerate(path.read_text("utf-8").splitlines()):
            name = f"{path.stem} {number}"
            found[name] = convert_to_messages(json.loads(line)["messages"])
            for place, message in enumerate(found[name]):
                message.id = f"{name}, {place}"
    return found


def replaying(saver: DurableSaver, conversations: Conversations) -> Any:
    """A graph of an agent and its tools, of which each says what comes next in the conversation that it is in."""

    def script(state: MessagesState) -> list[BaseMessage]:
        return conversations[str(state["messages"][0].id).rsplit(",", 1)[0]]

    def say(state: MessagesState) -> dict[str, Any]:
        return {"messages": [script(state)[len(state["messages"])]]}

    def speaker(state: MessagesState) -> str:
        following = script(state)[len(state["messages"]) :]
        return {"tool": "tools", "ai": "agent"}.get(following[0].type if following else "", END)

    builder = StateGraph(MessagesState)
    for name in ("agent", "tools"):
        builder.add_node(name, say)
    for name in (START, "agent", "tools"):
        builder.add_conditional_edges(name, speaker, ["agent", "tools", END])
    return builder.compile(checkpointer=saver)


def read_back(url: str, names: list[str]) -> list[Any]:
    """The messages of each thread, as a new process finds them."""
    done = subprocess.run(
        [sys.executable, "-c", READ_BACK, url],
        input=json.dumps(names),
        capture_output=True,
        encoding="utf-8",
        check=False,
        env={"PYTHONPATH": str(Path(langgraph_durable.__file__).parents[1]), "PYTHONIOENCODING": "utf-8"},
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("every", [4, pytest.param(1, marks=pytest.mark.soak)])
def test_recorded_conversations(shared: str, transcripts: list[Path], every: int) -> None:
    """Of a conversation, whose turns were run in one form and the other by turns, every message comes back."""
    conversations = dict(list(recorded(transcripts).items())[::every])
    assert conversations
    loop = asyncio.new_event_loop()
    try:
        with saver_at(shared) as saver:
            graph = replaying(saver, conversations)
            for name, script in conversations.items():
                forms = [Running(graph, each, "sync", name) for each in (None, loop)]
                said = 0
                while said < len(script):
                    stop = next(place for place in range(said, len(script)) if script[place].type == "human") + 1
                    said = len(forms[0].invoke({"messages": script[said:stop]})["messages"])
                    forms.reverse()
    finally:
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
    kind = "sqlite" if shared.endswith(".db") else "file"
    found = read_back(f"{kind}:///{shared}", list(conversations))
    for name, ours, script in zip(conversations, found, conversations.values(), strict=True):
        for place, (message, expected) in enumerate(zip(ours, messages_to_dict(script), strict=True)):
            assert message == json.loads(json.dumps(expected)), (name, place)
