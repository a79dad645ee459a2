"""A model without a network: what it says follows from the messages alone, and every number in it came from a tool."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, ToolCall, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult

WANTED = "TODO"
Planned = tuple[str, dict[str, str]]
_COUNTED = re.compile(r"(?P<files>[\d,]+) files, of which (?P<texts>[\d,]+) are text with (?P<lines>[\d,]+) lines")
_LONGEST = re.compile(r"; the longest is (?P<name>.+) with [\d,]+ lines:$", re.MULTILINE)
_SUFFIX = re.compile(r"^(?P<suffix>\S+|\(no suffix\)): (?P<files>[\d,]+) files, (?P<lines>[\d,]+) lines$", re.MULTILINE)
_FOUND = re.compile(r" is in (?P<lines>[\d,]+) lines of (?P<files>[\d,]+) files:")
_README = re.compile(r"^(?P<name>readme\S*) \([\d,]+ bytes\)$", re.MULTILINE | re.IGNORECASE)
_READ = re.compile(r"(?P<name>.+) has (?P<lines>[\d,]+) lines and (?P<bytes>[\d,]+) bytes:\n(?P<text>.*)", re.DOTALL)


class ScriptedModel(BaseChatModel):
    """Lists the folder, counts, searches, reads the longest file and the README, and sums up what it was told."""

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
        results = [str(message.content) for message in messages if isinstance(message, ToolMessage)]
        plan = _plan(results)
        if len(results) < len(plan):
            name, arguments = plan[len(results)]
            call = ToolCall(name=name, args=arguments, id=f"call_{len(results) + 1}", type="tool_call")
            reply = AIMessage("", tool_calls=[call])
        else:
            reply = AIMessage(_answer(results))
        return ChatResult(generations=[ChatGeneration(message=reply)])


def _plan(results: Sequence[str]) -> list[Planned]:
    """The tool calls of the whole run, as far as the results so far tell; what was asked already never changes."""
    plan: list[Planned] = [("list_folder", {"path": "."}), ("count", {}), ("search", {"text": WANTED})]
    if len(results) >= len(plan):
        listed, counted = results[0], results[1]
        named = [match["name"] for match in (_LONGEST.search(counted), _README.search(listed)) if match]
        plan += [("read_file", {"path": name}) for name in dict.fromkeys(named)]
    return plan


def _answer(results: Sequence[str]) -> str:
    counted, searched = results[1], results[2]
    said: list[str] = []
    if match := _COUNTED.search(counted):
        said.append(f"{match['files']} files are here; {match['texts']} are text, {match['lines']} lines in all.")
    if match := _SUFFIX.search(counted):
        said.append(f"Most lines are in {match['suffix']}: {match['lines']} in {match['files']} files.")
    if match := _FOUND.search(searched):
        said.append(f"{WANTED} stands in {match['lines']} lines of {match['files']} files.")
    for result in results[3:]:
        if match := _READ.match(result):
            said.append(f"{match['name']} has {match['lines']} lines and begins: {_beginning(match['text'])}")
    return "\n".join(said) or "The tools could not read anything here."


def _beginning(text: str) -> str:
    """The first line that says something, cut to what fits a line of a terminal."""
    first = next((line.strip() for line in text.split("\n") if re.search(r"\w", line)), "(nothing)")
    return first if len(first) <= 60 else f"{first[:57]}..."
