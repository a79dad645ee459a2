"""What differs between two recorded environments, in an order that follows from them alone.

A record is plain JSON data. A part that is null, or missing, was said by nobody, and is not compared; `libraries` never
are. Tools are told by their hashes: where those agree the definitions do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from langgraph_durable.environment.arguments import argument_changes
from langgraph_durable.environment.changes import Change, How, Kind, same


def differences(
    old: Mapping[str, Any], new: Mapping[str, Any], renames: Mapping[str, str] | None = None
) -> tuple[Change, ...]:
    """What differs in `new`; nothing where all that both tell is the same.

    `renames` are nodes of the old graph that have another name in the new one: such a node is told as renamed, once,
    and not in its edges and branches. A name that no node of the graph has is that of a node of a subgraph, and
    "outer/inner" says of which. A rename that does not fit the two graphs is left out.
    """
    found: list[Change] = []
    for part, compared in _PARTS.items():
        one, other = old.get(part), new.get(part)
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            found += compared(one, other, renames or {})
    return tuple(found)


def _tools(old: Mapping[str, Any], new: Mapping[str, Any], _: Mapping[str, str]) -> Iterator[Change]:
    for name in sorted({*old, *new}):
        if name not in new:
            yield Change("tools", "tool", name, "removed", "", old[name], None)
        elif name not in old:
            yield Change("tools", "tool", name, "added", "", None, new[name])
        elif not same(_hash(old[name]), _hash(new[name])):
            yield from list(_tool(name, _mapping(old[name]), _mapping(new[name]))) or [
                Change("tools", "tool", name, "changed", "definition", old[name], new[name])
            ]


def _hash(tool: Any) -> Any:
    return tool.get("hash", tool) if isinstance(tool, Mapping) else tool


def _tool(name: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Change]:
    said = old.get("description"), new.get("description")
    if not same(*said):
        yield Change("tools", "description", name, "changed", "", *said)
    one, other = _mapping(old.get("other")), _mapping(new.get("other"))
    for aspect in sorted({*one, *other}):
        if not same(one.get(aspect), other.get(aspect)):
            yield Change("tools", "tool", name, "changed", aspect, one.get(aspect), other.get(aspect))
    yield from argument_changes(name, old.get("parameters"), new.get("parameters"))


def _model(old: Mapping[str, Any], new: Mapping[str, Any], _: Mapping[str, str]) -> Iterator[Change]:
    yield from _one_model("model", "", old, new)
    fallbacks = [model.get("fallbacks") or [] for model in (old, new)]
    for place in range(max(map(len, fallbacks))):
        name = f"fallbacks[{place}]"
        if place >= len(fallbacks[1]):
            yield Change("model", "model", name, "removed", "", _called(fallbacks[0][place]), None)
        elif place >= len(fallbacks[0]):
            yield Change("model", "model", name, "added", "", None, _called(fallbacks[1][place]))
        else:
            yield from _one_model(name, f"{name}.", fallbacks[0][place], fallbacks[1][place])


def _one_model(name: str, prefix: str, old: Any, new: Any) -> Iterator[Change]:
    called = _called(old), _called(new)
    if called[0] != called[1]:
        yield Change("model", "model", name, "changed", "", *called)
    one, other = _mapping(old), _mapping(new)
    yield from _values("model", "parameter", prefix, _mapping(one.get("parameters")), _mapping(other.get("parameters")))
    for aspect in sorted({*one, *other} - {"provider", "name", "parameters", "fallbacks"}):
        if not same(one.get(aspect), other.get(aspect)):
            yield Change("model", "model", name, "changed", aspect, one.get(aspect), other.get(aspect))


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _called(model: Any) -> str:
    if not isinstance(model, Mapping):
        return str(model)
    return ":".join(str(model[part]) for part in ("provider", "name") if model.get(part))


def _limits(old: Mapping[str, Any], new: Mapping[str, Any], _: Mapping[str, str]) -> Iterator[Change]:
    # One that was not given is whatever the caller of that run had: nobody said that it is gone.
    both = old.keys() & new.keys()
    yield from _values("limits", "limit", "", {name: old[name] for name in both}, {name: new[name] for name in both})


def _extra(old: Mapping[str, Any], new: Mapping[str, Any], _: Mapping[str, str]) -> Iterator[Change]:
    yield from _values("extra", "value", "", old, new)


def _values(
    kind: Kind, subject: str, prefix: str, old: Mapping[str, Any], new: Mapping[str, Any], aspect: str = ""
) -> Iterator[Change]:
    """What differs between two mappings, and in those within them."""
    for name in sorted({*old, *new}):
        one, other = old.get(name), new.get(name)
        if name not in old or name not in new:
            yield Change(kind, subject, prefix + name, "added" if name in new else "removed", "", one, other)
        elif isinstance(one, Mapping) and isinstance(other, Mapping):
            yield from _values(kind, subject, f"{prefix}{name}.", one, other, aspect)
        elif not same(one, other):
            yield Change(kind, subject, prefix + name, "changed", aspect, one, other)


def _graph(old: Mapping[str, Any], new: Mapping[str, Any], renames: Mapping[str, str]) -> Iterator[Change]:
    renamed, known = _renamer(old.get("nodes") or (), new.get("nodes") or (), renames)
    for name in known:
        yield Change("graph", "node", name, "renamed", "", name, renamed(name))
    both = old.keys() & new.keys()
    if "nodes" in both:
        one, other = {renamed(name): name for name in old["nodes"]}, {name: name for name in new["nodes"]}
        yield from _listed("node", one, other)
        if "deferred" in both:
            last, last_now = {renamed(name) for name in old["deferred"]}, {*new["deferred"]}
            for name in sorted((last ^ last_now) & one.keys() & other.keys()):
                yield Change("graph", "node", name, "changed", "defer", name in last, name in last_now)
    if "edges" in both:
        moved = [[_moved(start, renamed), renamed(end)] for start, end in old["edges"]]
        yield from _listed(
            "edge", {_arrow(edge): edge for edge in moved}, {_arrow(edge): edge for edge in new["edges"]}
        )
    if "branches" in both:
        yield from _branches(_routers(old["branches"], renamed), _routers(new["branches"], str))
    if "channels" in both:
        # A channel may have the name of a node: only what comes before it is one.
        channels = {_inside(name, renamed): kind for name, kind in old["channels"].items()}
        yield from _values("graph", "channel", "", channels, new["channels"], "type")
    if "breakpoints" in both:
        for aspect in ("before", "after"):
            stops = {renamed(name) for name in old["breakpoints"].get(aspect) or ()}
            stops_now = new["breakpoints"].get(aspect) or ()
            yield from _listed("breakpoint", dict.fromkeys(stops), dict.fromkeys(stops_now), aspect)


def _listed(subject: str, old: Mapping[str, Any], new: Mapping[str, Any], aspect: str = "") -> Iterator[Change]:
    for name in sorted(old.keys() ^ new.keys()):
        how: How = "added" if name in new else "removed"
        yield Change("graph", subject, name, how, aspect, old.get(name), new.get(name))


def _inside(name: str, renamed: Callable[[str], str]) -> str:
    outer, slash, inner = name.rpartition("/")
    return renamed(outer) + slash + inner if slash else name


def _moved(start: Any, renamed: Callable[[str], str]) -> Any:
    return renamed(start) if isinstance(start, str) else [renamed(one) for one in start]


def _arrow(edge: Any) -> str:
    start, end = edge
    return f"{start} -> {end}" if isinstance(start, str) else f"[{' + '.join(start)}] -> {end}"


def _routers(branches: Mapping[str, Any], renamed: Callable[[str], str]) -> dict[str, Any]:
    """What each router leads to, by its name after that of its node."""
    found: dict[str, Any] = {}
    for node, routers in branches.items():
        for router in routers:
            ends = router.get("ends")
            if ends is not None:
                ends = {_relabelled(label, end, renamed(end)): renamed(end) for label, end in ends.items()}
            name = f"{renamed(node)}.{router.get('name')}"
            while name in found:
                name += "'"
            found[name] = ends
    return found


def _relabelled(label: str, old: str, new: str) -> str:
    """What a router answers: where that is the name of the node, the name that it has now."""
    if label == old:
        return new
    return new.rpartition("/")[2] if old.endswith(f"/{label}") else label


def _branches(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Change]:
    for name in sorted({*old, *new}):
        one, other = old.get(name), new.get(name)
        if name not in old or name not in new:
            yield Change("graph", "branch", name, "added" if name in new else "removed", "", one, other)
        elif not same(one, other):
            yield Change("graph", "branch", name, "changed", "ends", one, other)


def _renamer(
    old: Sequence[str], new: Sequence[str], renames: Mapping[str, str]
) -> tuple[Callable[[str], str], list[str]]:
    """What a node of the old graph is called now, and the nodes that were renamed themselves."""
    known: dict[str, str] = {}
    for name, now in renames.items():
        if name in old:
            known[name] = now
        else:
            known |= {node: node.removesuffix(name) + now for node in old if node.endswith(f"/{name}")}

    def renamed(node: str) -> str:
        now = known.get(node)
        if now is None:
            return _inside(node, renamed)
        outer, slash, _ = node.rpartition("/")
        return renamed(outer) + now[len(outer) :] if slash and now.startswith(f"{outer}/") else now

    while True:
        images = {node: renamed(node) for node in old}
        often = Counter(images.values())
        wrong = [name for name in known if images[name] not in new or often[images[name]] > 1 or known[name] == name]
        if not wrong:
            return renamed, sorted(known)
        for name in wrong:
            del known[name]


_PARTS: dict[str, Callable[[Mapping[str, Any], Mapping[str, Any], Mapping[str, str]], Iterator[Change]]] = {
    "tools": _tools,
    "model": _model,
    "graph": _graph,
    "limits": _limits,
    "extra": _extra,
}
