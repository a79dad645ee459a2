"""Namespaces of a thread: its own, those of subgraphs, and those of what is kept beside its checkpoints.

No subgraph has one of the last kind: in the name of a node there is no colon, and after it LangGraph puts the id of a
task.
"""

from __future__ import annotations

_BESIDE = "durable:"


def beside(kind: str) -> str:
    """The namespace of what is kept of a kind beside the checkpoints of a thread."""
    return _BESIDE + kind


def is_beside(ns: str) -> bool:
    """Whether a namespace is no subgraph's."""
    return ns.startswith(_BESIDE)
