"""A folder of checkpoints: made, or recognised as one; nothing is put into a folder of any other kind."""

from __future__ import annotations

import json
import os

from langgraph_durable.errors import NotADatabaseError, SchemaVersionError
from langgraph_durable.stores.files import disk
from langgraph_durable.stores.files.journal import VERSION

THREADS = "threads"

_README = """# Checkpoints

This folder is written by [langgraph-durable](https://pypi.org/project/langgraph-durable/): it holds what a LangGraph
agent remembers. Read whatever you like; change nothing while something runs, and nothing by hand if it is to be read
again: every line carries its own checksum.

Each folder in `threads/` is a thread (a conversation). Its `journal.jsonl` has a JSON object a line, oldest first:

- `thread` says whose journal it is.
- `checkpoint` is a state of the graph after a step. `metadata` says which step, `new` is what the step added: messages
  with their `role` and `content`, or any other value. `values` names what the state consists of, by the numbers of
  what was added so far: `[list, from, to]` are elements of a list, as `elements` put them there.
- `writes` is what one task of a step returned.
- `deleted` keeps deleted checkpoints from coming back, as hashes.

`sum` and `size` at the start of a line are its checksum and length. What is larger than 64 KB is in `values/`.
"""


def opened(path: str, name: str, shareable: bool) -> bool:
    """Whether the folder at `path`, which is made if need be, can be written to; `name` is what its user calls it."""
    if os.path.exists(path) and not os.path.isdir(path):
        raise NotADatabaseError(f"{name!r} is a file; give the path of a folder, such as 'checkpoints/'")
    form = os.path.join(path, "format.json")
    try:
        version = json.loads(disk.read(form))["version"]
    except FileNotFoundError:
        version = None
    except (ValueError, KeyError, TypeError) as error:
        raise NotADatabaseError(f"{form!r} does not say what this folder is ({error}); it was not touched") from error
    if version is not None and version != VERSION:
        raise SchemaVersionError(
            f"the folder {name!r} has format version {version!r}, and this release knows {VERSION}: a newer "
            "langgraph-durable wrote it, upgrade with `pip install -U langgraph-durable`"
        )
    if version is not None:
        return os.access(path, os.W_OK)
    if os.path.isdir(path) and not _is_in_the_making(path):
        raise NotADatabaseError(
            f"the folder {name!r} has files in it, and is no folder of checkpoints; it was not touched. Give "
            "the path of an empty folder, or of one that does not exist"
        )
    disk.make_folder(os.path.join(path, THREADS))
    disk.make(os.path.join(path, "README.md"), _README.encode())
    if not shareable:
        disk.make(os.path.join(path, ".gitignore"), b"# Checkpoints hold whatever the agent was told.\n*\n")
    disk.make(form, json.dumps({"version": VERSION, "written by": "langgraph-durable"}).encode() + b"\n")
    return True


def _is_in_the_making(path: str) -> bool:
    """Whether the folder is empty, or has what somebody puts there who makes it at this moment or died doing so."""
    names = os.listdir(path)
    ours = {"threads", "README.md", ".gitignore", "format.json"}
    return not names or ("threads" in names and all(name in ours or name.endswith(".tmp") for name in names))
