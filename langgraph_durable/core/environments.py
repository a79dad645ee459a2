"""What a thread ran with goes along with its checkpoints: a hash in their metadata, and beside their channels a record.

The record is a value like that of a channel: stored once in a thread, named by each checkpoint that was made under it,
copied and sealed as others are, and gone when the last of them goes. It has a name that no channel of a graph has,
comes after all channels, and is not among the values that are given back.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

RECORD_HASH = "env_hash"
"""The key of metadata with the hash of what a run ran with."""

TOOLS, GRAPH, MODEL = "tool_schema_hash", "graph_hash", "model"
FINGERPRINT = (RECORD_HASH, TOOLS, GRAPH, MODEL)
"""The keys of metadata that a fingerprint has, but for what an app adds."""

RECORD = "(env)"
"""The name under which the record is stored that it is the hash of."""


class HashOf(str):
    """The hash of a record, which brings the record along wherever a config goes; equal to the hash, and nothing else.

    Who makes text of it again, or sends it elsewhere, has the hash alone.
    """

    record: str

    def __new__(cls, hash: str, record: str = "") -> HashOf:
        made = super().__new__(cls, hash)
        made.record = record  # a copy is made without, and is given it as it was
        return made


def record_in(metadata: Mapping[str, Any] | None) -> str | None:
    """The record that metadata bring; None where they bring none."""
    return getattr((metadata or {}).get(RECORD_HASH), "record", None) or None
