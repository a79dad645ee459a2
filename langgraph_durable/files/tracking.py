"""The files that a running task knows: found through the config that LangGraph gives it, and never by a name."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple

from langchain_core.runnables import RunnableConfig

from langgraph_durable.channels import channels_here, config_here
from langgraph_durable.errors import InvalidRequestError
from langgraph_durable.files.contents import Found, find
from langgraph_durable.files.places import Place, placed, rooted
from langgraph_durable.files.stamps import FilesChannel, Stamp, channels_in
from langgraph_durable.files.writing import locked


def track_file(
    path: str | os.PathLike[str], *, root: str | os.PathLike[str] = ".", config: RunnableConfig | None = None
) -> Stamp:
    """Record what a file is now in the state of the running graph, and get that stamp; in a node or in a tool.

    The state needs a field `files: TrackedFiles`. This task knows the stamp at once; it is in the state when the
    superstep is complete. A task that fails has recorded nothing. A node does well to return the stamp as well,
    `{"files": {stamp["path"]: stamp}}`, where nodes beside it may fail or ask somebody, since the record of a superstep
    that is left incomplete is lost, and where it is the last one and writes nothing else, since `invoke` and a subgraph
    give back no more than was written.

    `path` is relative to `root`, or absolute inside of it; a file that is not there has a stamp as well. The file is
    read as a whole, whatever its size; in a coroutine call it with `asyncio.to_thread`. `config` is that of the node or
    tool, for where it cannot be found: in a thread of one's own, and in coroutines before Python 3.11.

    InvalidRequestError outside of a run, when the state has no such field, and when the path leads out of the root.
    """
    tracked = tracking(config)
    place = placed(path, rooted(root))
    with locked(place):
        return tracked.record(place, find(place))


class Tracking(NamedTuple):
    """What the running task knows of files. `name` is that of the channel."""

    channel: FilesChannel
    name: str
    task: str

    def known(self, place: Place) -> Stamp | None:
        """The last stamp of a file; None when this thread has never seen it."""
        stamp = self.channel.known(self.task, place.path)
        return stamp if isinstance(stamp, Mapping) else None

    def record(self, place: Place, found: Found, *, wrote: bool = False, over: str | None = None) -> Stamp:
        """Record what a file is; `wrote` tells that this thread has just written it, `over` what had that digest."""
        known = self.known(place)
        seen = known.get("seen", 0) if known is not None else 0
        previous = over if wrote or known is None else known.get("previous")
        stamp = found.stamp(place.path, seen=seen + 1, previous=previous)
        self.channel.record(self.task, stamp)
        return stamp


def tracking(config: RunnableConfig | None = None) -> Tracking:
    """What the task that runs here knows. InvalidRequestError where none does, or its state has no place for it."""
    config = config or config_here()
    channels = channels_here(config, lambda part: bool(channels_in(part)))
    if channels is None:
        raise InvalidRequestError(
            "files are tracked inside of a run of a graph, in a node or in a tool, and here is none; where there is, "
            "pass its config: track_file(path, config=config)"
        )
    names = channels_in(channels)
    if len(names) != 1:
        raise InvalidRequestError(
            "the state of this graph has no place for what it knows of files: add `files: TrackedFiles` to it"
            if not names
            else f"the state of this graph has more than one field of TrackedFiles ({', '.join(names)}): keep one"
        )
    ns = ((config or {}).get("configurable") or {}).get("checkpoint_ns", "")
    return Tracking(channels[names[0]], names[0], str(ns))
