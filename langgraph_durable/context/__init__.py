"""A conversation that stays inside its budget, survives, and says what it cost; with any checkpointer.

result = compress_messages(messages, budget=("tokens", 20_000))          # a list of messages in, a valid one out
builder.add_node("context", ContextNode(budget=("tokens", 20_000)))      # a node before the model, or a pre_model_hook
create_agent(model, tools, middleware=[ContextMiddleware(budget=("fraction", 0.7))])
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from langgraph_durable.context.asks import Ask
from langgraph_durable.context.compress import acompress_messages, compress_messages
from langgraph_durable.context.draft import Draft, Entry, Unit
from langgraph_durable.context.history import afull_history, full_history
from langgraph_durable.context.node import ContextNode, ContextState
from langgraph_durable.context.repair import repair_messages
from langgraph_durable.context.results import Compressed, CompressionReport
from langgraph_durable.context.shrink import Shrink
from langgraph_durable.context.sizes import Size
from langgraph_durable.context.stages import ClearToolResults, DropMedia, DropOldest, Stage, TruncateToolArguments
from langgraph_durable.context.summarizing import Summarize
from langgraph_durable.context.tokens import count_tokens
from langgraph_durable.context.usage.ledger import UsageLedger
from langgraph_durable.context.usage.prices import Price
from langgraph_durable.context.usage.totals import UsageReport, athread_usage, thread_usage

if TYPE_CHECKING:
    from langgraph_durable.context.middleware import ContextMiddleware
    from langgraph_durable.context.usage.middleware import UsageMiddleware

__all__ = [
    "Ask",
    "ClearToolResults",
    "Compressed",
    "CompressionReport",
    "ContextMiddleware",
    "ContextNode",
    "ContextState",
    "Draft",
    "DropMedia",
    "DropOldest",
    "Entry",
    "Price",
    "Shrink",
    "Size",
    "Stage",
    "Summarize",
    "TruncateToolArguments",
    "Unit",
    "UsageLedger",
    "UsageMiddleware",
    "UsageReport",
    "acompress_messages",
    "afull_history",
    "athread_usage",
    "compress_messages",
    "count_tokens",
    "full_history",
    "repair_messages",
    "thread_usage",
]

_OF_LANGCHAIN = {"ContextMiddleware": "middleware", "UsageMiddleware": "usage.middleware"}
"""What needs the package langchain, and where it is."""


def __getattr__(name: str) -> Any:
    if name not in _OF_LANGCHAIN:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = import_module(f"{__name__}.{_OF_LANGCHAIN[name]}")
    except ImportError as error:
        raise ImportError(f"{name} needs langchain: pip install 'langgraph-durable[agents]'") from error
    return getattr(module, name)
