"""Tools whose hashes are on record, and a process that prints them: `python -m tests.tool_samples`."""

from __future__ import annotations

import json
from enum import Enum
from types import SimpleNamespace
from typing import Annotated, Any, Literal, Optional

from langchain_core.tools import BaseTool, InjectedToolArg, InjectedToolCallId, StructuredTool, tool
from langgraph.prebuilt import InjectedState, InjectedStore, ToolRuntime
from langgraph.store.base import BaseStore
from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypedDict

from langgraph_durable.environment.tools import definitions


class Unit(Enum):
    """How temperatures are told."""

    CELSIUS = "celsius"
    FAHRENHEIT = "fahrenheit"


class Address(BaseModel):
    """Where somebody lives.

    As the post office writes it:
        the street first.
    """

    street: str = Field(description="Straße und Hausnummer")
    floors: list[int] = Field(default=[1, 2], max_length=9)


@tool
def plus(a: int, b: int = 1) -> int:
    """Add two numbers."""
    return a + b


@tool
def search(
    query: str,
    limit: int = 10,
    tags: Optional[list[str]] = None,  # noqa: UP045  # Both ways of writing it have to be told alike.
    mode: Literal["exact", "fuzzy"] = "exact",
    weights: dict[str, float] | None = None,
) -> str:
    """Search the index — “all” of it, 検索.

    What is found is told in this order:
        1. what matches exactly,
        2. the rest.

    Nothing else is.
    """
    return query


@tool(parse_docstring=True)
def weather(city: str, unit: Unit = Unit.CELSIUS) -> str:
    """Tell the weather.

    Args:
        city: Where; what is unknown
            is looked up.
        unit: In which unit.
    """
    return city


@tool(
    "move-house",
    description="""Move somebody.
    Both addresses are checked.
""",
)
def move(person: str, to: Address, before: Address | None = None) -> str:
    return person


@tool
def tagged(tags: set[str] = {"c", "a", "b", "ä"}, ids: frozenset[int] | None = frozenset({3, 1, 2})) -> str:  # noqa: B006  # No run changes it.
    """Find what has all of these tags."""
    return str(tags)


@tool
def everything_injected(
    note: str,
    state: Annotated[dict[str, Any], InjectedState],
    store: Annotated[BaseStore, InjectedStore()],
    call_id: Annotated[str, InjectedToolCallId],
    user: Annotated[str, InjectedToolArg],
    runtime: ToolRuntime,
) -> str:
    """Write a note."""
    return note


@tool
def required(required: bool, default: str = "Größe", description: float = 0.1, title: Any = 0) -> str:
    """Take arguments that are called as the words of a schema are."""
    return default


class Book(BaseModel):
    """Book a journey.

    The price is in cents.
    """

    model_config = ConfigDict(extra="forbid")

    to: str = Field(min_length=1, examples=["Łódź"])
    price: int = Field(default=0, ge=0)


# With types that are no text, which not every release of LangChain reads in a TypedDict.
LOOKUP = TypedDict(  # noqa: UP013  # In a class they are text, as all annotations of this module.
    "LOOKUP",
    {"name": Annotated[str, ..., "Who it is"], "exact": Annotated[bool, True, "Whether the name is whole"]},
)
LOOKUP.__doc__ = "Look somebody up."


class Clock(BaseTool):
    """A tool that is a class of its own."""

    name: str = "clock"
    description: str = "Tell the time."

    def _run(self, zone: str = "UTC") -> str:
        return zone


def plain(amount: float, note: str = "") -> str:
    """Send money.

    Args:
        amount: How much, in €.
        note: What for.
    """
    return note


SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"path": {"type": "string", "description": "A path"}, "depth": {"type": "integer", "default": 3}},
    "required": ["path"],
}

TOOLS: dict[str, Any] = {
    "plus": plus,
    "search": search,
    "weather": weather,
    "move": move,
    "tagged": tagged,
    "injected": everything_injected,
    "required": required,
    "pydantic": Book,
    "typed dict": LOOKUP,
    "base tool": Clock(),
    "function": plain,
    "mcp": StructuredTool(name="list_files", description="List files.", args_schema=SCHEMA),
    "raw mcp": SimpleNamespace(name="list_files", description="List files.", inputSchema=SCHEMA),
    "openai": {
        "type": "function",
        "function": {"name": "ls", "description": "List.", "parameters": SCHEMA, "strict": True},
    },
    "anthropic": {"name": "ls", "description": "List.", "input_schema": SCHEMA},
    "built in": {"type": "web_search", "search_context_size": "low"},
}


def hashes() -> dict[str, str]:
    """The hash of each of the tools."""
    return {name: found.hash for name, one in TOOLS.items() for found in definitions([one]).values()}


if __name__ == "__main__":
    print(json.dumps(hashes(), indent=2))
