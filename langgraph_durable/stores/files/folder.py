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
- `end` says why a run ended that did not come to its end, `standing` what was known of the thread when its journal was
  made anew.
- `deleted` keeps deleted checkpoints from coming back, as hashes.

How a thread stands is said with these: `at` is when it was put, in seconds since 1970, `by` which process has put it
(host/boot/namespace/pid/start; not said again in the next line if it is the same), `next` which nodes are next (not
said where none is), `move` what happened if that does not say it, and `messages` how many there are. An `event` is of
one task, or of the run: it failed, was interrupted, was cancelled.

`sum` and `size` at the start of a line are its checksum and length. What is larger than 64 KB is in `values/`.

`lease.json` is there while somebody runs the thread: only who has its `token` can write to it. `lock` is held by the
process that writes at the moment. `standings.json`, beside this file, is how all threads stood when they were last
listed: it is made anew if it is missing, and no thread is believed to stand so whose files have changed since.
"""


_FORM = json.dumps({"version": VERSION, "written by": "langgraph-durable"}).encode() + b"\n"


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
    if version is not None and version not in range(1, VERSION + 1):
        raise SchemaVersionError(
            f"the folder {name!r} has format version {version!r}, and this release knows {VERSION}: a newer "
            "langgraph-durable wrote it, upgrade with `pip install -U langgraph-durable`"
        )
    if version is not None:
        writable = os.access(path, os.W_OK)
        if version < VERSION and writable:
            # Earlier releases know nothing of leases, and must not write beside one.
            for file, data in ((os.path.join(path, "README.md"), _README.encode()), (form, _FORM)):
                temporary = f"{file}.{os.getpid()}.tmp"
                disk.make(temporary, data)
                os.replace(temporary, file)
            disk.sync_folder(path)
        return writable
    if os.path.isdir(path) and not _is_in_the_making(path):
        raise NotADatabaseError(
            f"the folder {name!r} has files in it, and is no folder of checkpoints; it was not touched. Give "
            "the path of an empty folder, or of one that does not exist"
        )
    disk.make_folder(os.path.join(path, THREADS))
    disk.make(os.path.join(path, "README.md"), _README.encode())
    if not shareable:
        disk.make(os.path.join(path, ".gitignore"), b"# Checkpoints hold whatever the agent was told.\n*\n")
    disk.make(form, _FORM)
    return True


def _is_in_the_making(path: str) -> bool:
    """Whether the folder is empty, or has what somebody puts there who makes it at this moment or died doing so."""
    names = os.listdir(path)
    ours = {"threads", "README.md", ".gitignore", "format.json"}
    return not names or ("threads" in names and all(name in ours or name.endswith(".tmp") for name in names))
