"""The task that runs here, and the channels of its run, which LangGraph shows in one place only.

That is the function for reading the state, in the config of every task. ToolNode, which is LangGraph's own, takes them
out of it in the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.config import get_config

_READ = "__pregel_read"


def config_here() -> RunnableConfig | None:
    """The config of the task that runs here; None outside of one, and in coroutines before Python 3.11."""
    try:
        return get_config()
    except RuntimeError:
        return None


def channels_here(
    config: RunnableConfig | None, wanted: Callable[[Mapping[str, Any]], bool]
) -> Mapping[str, Any] | None:
    """The channels of the run whose task has this config, if they are `wanted`; {} if not, None outside of a run."""
    read = ((config or {}).get("configurable") or {}).get(_READ)
    if read is None:
        return None
    for part in getattr(read, "args", ()):
        if isinstance(part, Mapping) and wanted(part):
            return part
    return {}
