"""The files that an agent works on, as it knows them: told when they changed, and never written over unseen.

A state gets a field of its own, and the agent tools:

    class State(MessagesState):
        files: TrackedFiles

    tools = file_tools("project")

When a thread is gone on with, what changed meanwhile is `changed_files(state["files"], "project")`. It works with any
checkpointer: a stamp is plain data.
"""

from langgraph_durable.files.changes import FileChange, changed_files
from langgraph_durable.files.stamps import Stamp, TrackedFiles, file_channels, merged
from langgraph_durable.files.tools import file_tools, root_of
from langgraph_durable.files.tracking import track_file
from langgraph_durable.files.writing import restore_file

__all__ = [
    "FileChange",
    "Stamp",
    "TrackedFiles",
    "changed_files",
    "file_channels",
    "file_tools",
    "merged",
    "restore_file",
    "root_of",
    "track_file",
]
