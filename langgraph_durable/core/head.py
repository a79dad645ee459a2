"""All of a checkpoint but its values, as plain data in which every name and every version is there once.

A head is mostly the same few names and versions again and again. Compressing it would make it as short, at ten times
the cost: zlib lets go of the interpreter, and has to wait for it afterwards. What does not look as LangGraph makes it
is kept as it is.

    [1, names, texts, versions, rest, channel versions, versions seen, updated channels]    a number is a place in
                                     `KNOWN` and `texts` after it, or in `versions`
    [0, names, rest]                 the names of the channels that have values, and all that is neither values nor id
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

KNOWN = (
    *("messages", "__start__", "__input__", "__interrupt__", "__pregel_tasks", "__end__"),
    *("agent", "tools", "model", "branch:to:agent", "branch:to:tools", "branch:to:model"),
)
"""Names that need not be stored. Places in it are in stored bytes: it never changes."""

_PLACES = {name: place for place, name in enumerate(KNOWN)}
_MOST = 2**63


def shortened(names: Sequence[str], rest: Mapping[str, Any]) -> list[Any]:
    """The names of the channels that have values, and the rest of the checkpoint, in short."""
    texts = dict(_PLACES)
    versions: dict[str, int] = {}
    try:
        here = [texts.setdefault(name, len(texts)) for name in names]
        current = _numbered(rest["channel_versions"], texts, versions)
        seen: list[Any] = []
        for node, channels in rest["versions_seen"].items():
            seen += (texts.setdefault(node, len(texts)), _numbered(channels, texts, versions))
        updated = rest.get("updated_channels")
        if updated is not None and type(updated) is not list:
            return spelled_out(names, rest)
        if updated is not None:
            updated = [texts.setdefault(name, len(texts)) for name in updated]
    except (KeyError, TypeError, AttributeError):
        return spelled_out(names, rest)
    if not set(map(type, versions)) <= {str} or not set(map(type, texts)) <= {str}:
        return spelled_out(names, rest)
    other = dict(rest)
    del other["channel_versions"], other["versions_seen"]
    if "updated_channels" in other:
        other["updated_channels"] = None
    new = list(texts)[len(KNOWN) :]
    return [1, here, new, list(map(_short, versions)), other, current, seen, updated]


def spelled_out(names: Sequence[str], rest: Mapping[str, Any]) -> list[Any]:
    """The same as it is, for whoever reads it with his own eyes."""
    return [0, list(names), dict(rest)]


def restored(head: Sequence[Any]) -> tuple[list[str], dict[str, Any]]:
    """The names and the rest, as they were given. ValueError when `head` is not what `shortened` made."""
    if head[0] == 0:
        _, names, rest = head
        return names, rest
    if head[0] != 1:
        raise ValueError(f"this release does not know heads of kind {head[0]!r}")
    _, here, new, versions, rest, current, seen, updated = head
    texts = [*KNOWN, *new]
    whole = list(map(_whole, versions))
    made: dict[str, Any] = {}
    for key, value in rest.items():
        made[key] = [texts[place] for place in updated] if key == "updated_channels" and updated is not None else value
    made["channel_versions"] = _named(current, texts, whole)
    made["versions_seen"] = {
        texts[node]: _named(channels, texts, whole) for node, channels in zip(seen[0::2], seen[1::2], strict=True)
    }
    return [texts[place] for place in here], made


def _numbered(given: Mapping[str, Any], texts: dict[str, int], versions: dict[str, int]) -> list[int]:
    numbers: list[int] = []
    for name, version in given.items():
        numbers += (texts.setdefault(name, len(texts)), versions.setdefault(version, len(versions)))
    return numbers


def _named(numbers: Sequence[int], texts: Sequence[str], versions: Sequence[str]) -> dict[str, str]:
    return {texts[name]: versions[version] for name, version in zip(numbers[0::2], numbers[1::2], strict=True)}


@lru_cache(maxsize=1024)
def _short(version: str) -> Any:
    """A version as `get_next_version` writes it, as the two numbers that it is made of."""
    counter, _, chance = version.partition(".")
    try:
        numbers = int(counter), float(chance)
    except ValueError:
        return version
    return list(numbers) if 0 <= numbers[0] < _MOST and _whole(numbers) == version else version


def _whole(version: Any) -> str:
    if isinstance(version, str):
        return version
    counter, chance = version
    return f"{counter:032}.{chance:016}"
