"""A URL decides which saver it is: for settings and command lines, where there is only text."""

from __future__ import annotations

import os
from urllib.parse import unquote

from langgraph.checkpoint.serde.base import SerializerProtocol

from langgraph_durable.errors import InvalidRequestError, OpenError
from langgraph_durable.saver import DurableSaver
from langgraph_durable.savers import FileSaver, SqliteSaver

_SAVERS: dict[str, type[SqliteSaver] | type[FileSaver]] = {"sqlite": SqliteSaver, "file": FileSaver}


def open_saver(
    url: str, *, serde: SerializerProtocol | None = None, busy_timeout: float = 30.0, must_exist: bool = False
) -> DurableSaver:
    """The saver that a URL names; what is not there yet is made, unless it `must_exist` (else OpenError).

    `sqlite:///agent.db` and `file:///checkpoints` are in the working directory, `sqlite:////var/agent.db` is not: what
    follows the third slash is the path, as SQLAlchemy reads it, with `%20` for a space. `sqlite://` is memory.
    InvalidRequestError for any other URL, OpenError and its kinds as from the saver itself.
    """
    scheme, separator, rest = url.partition("://") if isinstance(url, str) else ("", "", "")
    kind = _SAVERS.get(scheme.lower())
    if not separator or kind is None:
        what = f"{url!r} is no URL" if not separator else f"there is no saver for {scheme + '://'!r}"
        raise InvalidRequestError(
            f"{what}: this release knows 'sqlite:///agent.db' and 'file:///checkpoints', and needs nothing else "
            "installed for them. For a database of another kind use the saver of its own package"
        )
    if rest and not rest.startswith("/"):
        raise InvalidRequestError(
            f"{url!r} names a host, {rest.partition('/')[0]!r}, and files are on this one: write three slashes before "
            f"a path in the working directory, as in '{scheme}:///{rest}', and four before one that begins at the root"
        )
    path = unquote(rest[1:])
    if not path and kind is FileSaver:
        raise InvalidRequestError(f"{url!r} names no folder: write 'file:///checkpoints'")
    if must_exist and path:
        there = os.path.join(path, "format.json") if kind is FileSaver else path
        if not os.path.exists(there) or not os.path.getsize(there):
            raise OpenError(f"there is nothing at {path!r}, which {url!r} names; nothing was made there")
    return kind(path, serde=serde, busy_timeout=busy_timeout)
