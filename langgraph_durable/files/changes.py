"""What became of the files that a thread knows is found by reading them: neither size nor time is believed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from langgraph_durable.errors import InvalidRequestError
from langgraph_durable.files.contents import find
from langgraph_durable.files.places import placed, rooted
from langgraph_durable.files.stamps import Stamp


class FileChange(NamedTuple):
    """A file that is not as a thread knows it; `known` is what it knows, `current` what is there.

    "new" is one that was not there before. "refused" was not read: the path leads out of the root, there is something
    else than a file by now, or it cannot be read; `reason` says which, and `current` is None. `current`, put into the
    state (`graph.update_state(config, {"files": {change.path: change.current}})`), is taken for seen by the thread.
    """

    path: str
    change: Literal["changed", "deleted", "new", "refused"]
    known: Stamp
    current: Stamp | None
    reason: str = ""


def changed_files(stamps: Mapping[str, Any], root: str | os.PathLike[str] = ".") -> list[FileChange]:
    """The files that are not as these stamps say, sorted by path; for when a thread is gone on with.

    `stamps` is the value of a channel of TrackedFiles. Each file is read as a whole. InvalidRequestError when the root
    is no folder; what is wrong with a single path or stamp is told as "refused".
    """
    real = rooted(root)
    found = (_change(str(path), stamps[path], real) for path in sorted(stamps, key=str))
    return [change for change in found if change is not None]


def _change(path: str, known: Any, root: str) -> FileChange | None:
    if not isinstance(known, Mapping) or not isinstance(known.get("digest", 0), (str, type(None))):
        return FileChange(path, "refused", known, None, "what the thread knows of it is no stamp")
    stamp: Any = known
    try:
        place = placed(path, root)
        now = find(place)
    except (InvalidRequestError, OSError) as error:
        return FileChange(path, "refused", stamp, None, str(error))
    if now.digest == known["digest"]:
        return None
    seen = known.get("seen")
    current = now.stamp(place.path, seen=seen + 1 if isinstance(seen, int) else 1, previous=known.get("previous"))
    kind: Literal["changed", "deleted", "new"] = "changed"
    if known["digest"] is None:
        kind = "new"
    elif now.digest is None:
        kind = "deleted"
    return FileChange(path, kind, stamp, current)
