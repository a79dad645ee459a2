"""A model writes to a file only what it has seen: a file that has changed since is left as it is, and the model told.

What a model can do something about comes back to it as an error, and the run goes on: a path, a file, a conflict. A
full disk, or a graph whose state has no place for stamps, ends the run: there somebody else has to help.
"""

from __future__ import annotations

import asyncio
import inspect
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from io import StringIO
from typing import Annotated, Any

from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool, InjectedToolArg, StructuredTool, ToolException
from langgraph.prebuilt import ToolRuntime
from langgraph.types import Command

from langgraph_durable.errors import InvalidRequestError
from langgraph_durable.files.contents import MAX_BYTES, Found, find, read_text
from langgraph_durable.files.places import Place, placed, rooted
from langgraph_durable.files.stamps import Stamp, told
from langgraph_durable.files.tracking import Tracking, tracking
from langgraph_durable.files.writing import digest_of, kept_text, locked, replace

_Runtime = Annotated[Any, InjectedToolArg()]
"""What ToolNode gives to a parameter of the name `runtime`; everybody else leaves it out."""

_SENT = "__pregel_push"


MAX_SHOWN = 100_000
"""How many characters of a file are given to a model at once; it reads on with an offset."""


def file_tools(root: str | os.PathLike[str] = ".") -> list[BaseTool]:
    """Tools for a model: `read_file`, `write_file` and `edit_file`, for text files below `root`, sync and async.

    The state of the graph needs a field `files: TrackedFiles`. What is read is recorded there, and a write to an
    existing file is refused unless its content is what was recorded last. A write that was made already, by a run that
    crashed or was asked something before it could store that, is not made twice and is no conflict. Old contents are
    kept for `restore_file`. InvalidRequestError when `root` is no folder, and, when a tool is called, outside of a run
    or without such a field.
    """
    real = rooted(root)

    def read_file(
        path: Annotated[str, "The file, relative to the working folder."],
        offset: Annotated[int, "The first line to read, counted from 1."] = 1,
        limit: Annotated[int | None, "How many lines to read; all that follow when left out."] = None,
        *,
        config: RunnableConfig,
        runtime: _Runtime = None,
    ) -> Any:
        """Read a text file. Read a file before you write to it, and again when you are told that it has changed."""
        tracked = tracking(config)
        with _told():
            if offset < 1 or (limit is not None and limit < 1):
                raise InvalidRequestError(f"offset is {offset} and limit is {limit}; both are 1 or more")
            place = placed(path, real)
            with locked(place):
                text, found = read_text(place)
                shown = _lines(place, text, offset, limit) if found.digest is not None else ""
                stamp = tracked.record(place, found)
            if found.digest is None:
                raise _missing(place)
            return _result(shown, tracked, stamp, runtime)

    def write_file(
        path: Annotated[str, "The file, relative to the working folder. Missing folders are made."],
        content: Annotated[str, "All of the new content of the file."],
        *,
        config: RunnableConfig,
        runtime: _Runtime = None,
    ) -> Any:
        """Write a whole text file: create it, or replace all of its content. An existing file has to be read first.

        To change a part of a file use edit_file.
        """
        tracked = tracking(config)
        with _told():
            place, data = placed(path, real), _encoded(content)
            with locked(place):
                known, now = tracked.known(place), find(place)
                if now.digest == digest_of(data):
                    stamp = tracked.record(place, now, wrote=True, over=_over(place, known, now))
                else:
                    _compare(place, known, now)
                    stamp = tracked.record(place, replace(place, [data], now), wrote=True, over=now.digest)
            return _result(f"Wrote {len(data)} bytes to {place.path!r}", tracked, stamp, runtime)

    def edit_file(
        path: Annotated[str, "The file, relative to the working folder."],
        old: Annotated[str, "The text to replace, exactly as it is in the file, with enough around it to be unique."],
        new: Annotated[str, "The text to put in its place."],
        replace_all: Annotated[bool, "Replace the text wherever it is, not only where it is once."] = False,
        *,
        config: RunnableConfig,
        runtime: _Runtime = None,
    ) -> Any:
        """Replace a piece of text in a text file that you have read. The text has to be there exactly once."""
        tracked = tracking(config)
        with _told():
            place = placed(path, real)

            def edited(text: str) -> bytes:
                return _encoded(_edit(place, text, old, new, replace_all))

            with locked(place):
                known = tracked.known(place)
                text, now = read_text(place)
                if now.digest is None:
                    raise _missing(place)
                if _edited_already(place, known, now, edited):
                    stamp = tracked.record(place, now, wrote=True, over=_over(place, known, now))
                else:
                    _compare(place, known, now)
                    stamp = tracked.record(place, replace(place, [edited(text)], now), wrote=True, over=now.digest)
            return _result(f"Edited {place.path!r}", tracked, stamp, runtime)

    return [_tool(one, real) for one in (read_file, write_file, edit_file)]


def root_of(tools: Iterable[object]) -> str | None:
    """The folder that the first of these that is one of `file_tools` works below; None where there is none."""
    return next((one.root for one in tools if isinstance(one, FileTool)), None)


class FileTool(StructuredTool):
    """A tool that reads or writes below `root`, which a model is not told."""

    root: str


def _tool(func: Callable[..., Any], root: str) -> BaseTool:
    async def run(*args: Any, config: RunnableConfig, **kwargs: Any) -> Any:
        working = asyncio.ensure_future(asyncio.to_thread(func, *args, config=config, **kwargs))
        try:
            return await asyncio.shield(working)
        except asyncio.CancelledError:
            # A thread cannot be cancelled, and a run that has ended is not to write to files.
            await asyncio.wait([working])
            if not working.cancelled():
                working.exception()
            raise

    description = inspect.getdoc(func)
    return FileTool.from_function(func, run, description=description, handle_tool_error=True, root=root)


def _result(text: str, tracked: Tracking, stamp: Stamp, runtime: object) -> str | Command[Any]:
    """What a call answers: text, and the stamp as well where ToolNode has been sent the call as a task of its own.

    That task may be the only one of its superstep to finish before the process ends, and its output is then what is
    kept; see `track_file`.
    """
    if not isinstance(runtime, ToolRuntime) or not isinstance(runtime.state, Mapping):
        return text
    path = runtime.config.get("metadata", {}).get("langgraph_path") or [""]
    messages = [name for name, value in runtime.state.items() if _has_call(value, runtime.tool_call_id)]
    if path[0] != _SENT or not messages:
        return text
    answer = ToolMessage(text, tool_call_id=runtime.tool_call_id)
    return Command(update={messages[0]: [answer], tracked.name: {stamp["path"]: stamp}})


def _has_call(value: object, tool_call_id: str | None) -> bool:
    return isinstance(value, list) and any(
        isinstance(message, AIMessage) and any(call["id"] == tool_call_id for call in message.tool_calls)
        for message in reversed(value)
    )


@contextmanager
def _told() -> Iterator[None]:
    """Tell the model what it can do something about."""
    try:
        yield
    except InvalidRequestError as error:
        raise ToolException(str(error)) from error


def _compare(place: Place, known: Stamp | None, now: Found) -> None:
    """Refuse to write to a file that is not as this thread knows it."""
    if known is None:
        if now.digest is not None:
            raise InvalidRequestError(
                f"{place.path!r} was not written: it exists, and you have not read it. Read it first"
            )
    elif known.get("digest") != now.digest:
        raise InvalidRequestError(
            f"{place.path!r} was not written: it has changed since you last saw it (then "
            f"{told(known.get('size'), known.get('digest'))}; now {told(now.size, now.digest)}). Read it again first"
        )


def _missing(place: Place) -> InvalidRequestError:
    return InvalidRequestError(f"there is no file {place.path!r}; check the path, or create it with write_file")


def _over(place: Place, known: Stamp | None, now: Found) -> str | None:
    """What was written over, of a file that is found as it was to become."""
    if known is None:
        return None
    before = known.get("digest")
    if before is not None and before != now.digest and kept_text(place, before) is not None:
        return before
    return known.get("previous")


def _edited_already(place: Place, known: Stamp | None, now: Found, edited: Callable[[str], bytes]) -> bool:
    """Whether a file is what an edit makes of what this thread knows: then that was made, and not stored, before."""
    if known is None or known.get("digest") in (None, now.digest) or (known.get("size") or 0) > MAX_BYTES:
        return False
    before = kept_text(place, str(known.get("digest")))
    try:
        return before is not None and digest_of(edited(before)) == now.digest
    except InvalidRequestError:
        return False


def _edit(place: Place, text: str, old: str, new: str, replace_all: bool) -> str:
    if old == "":
        raise InvalidRequestError("old is empty; give the text to replace, or use write_file for the whole file")
    if old == new:
        raise InvalidRequestError("old and new are the same; nothing would change")
    times = text.count(old)
    if times == 1 and text.find(old, text.find(old) + 1) >= 0:
        times = 2  # it overlaps itself
    if times == 0:
        hint = "; its lines end with \\r\\n" if "\r\n" in text and "\n" in old and "\r\n" not in old else ""
        raise InvalidRequestError(
            f"{place.path!r} was not edited: old is there 0 times{hint}. Read it again, and give the text as it is"
        )
    if times > 1 and not replace_all:
        raise InvalidRequestError(
            f"{place.path!r} was not edited: old is there {times} times. Give more of what is around it, or replace_all"
        )
    return text.replace(old, new)


def _encoded(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise InvalidRequestError(
            f"the text cannot be written in UTF-8: it has half of a character at {error.start}. Nothing was written"
        ) from error


def _lines(place: Place, text: str, offset: int, limit: int | None) -> str:
    if offset == 1 and limit is None and len(text) <= MAX_SHOWN:
        return text
    # As an editor counts them: other separators do not end a line.
    lines = StringIO(text, newline="").readlines()
    if offset > max(len(lines), 1):
        raise InvalidRequestError(f"{place.path!r} has {len(lines)} lines, and offset is {offset}")
    last = len(lines) if limit is None else min(offset - 1 + limit, len(lines))
    end, size = offset - 1, 0
    while end < last and size + len(lines[end]) <= MAX_SHOWN:
        size += len(lines[end])
        end += 1
    shown = "".join(lines[offset - 1 : end])
    if end == offset - 1 < last:
        end += 1
        return f"{lines[end - 1][:MAX_SHOWN]}\n[line {end} of {len(lines)} goes on: it is too long to be shown]"
    if end < last:
        return f"{shown}\n[lines {offset} to {end} of {len(lines)}; read on with offset {end + 1}]"
    return shown + (f"\n[lines {offset} to {end} of {len(lines)}]" if end < len(lines) else "")
