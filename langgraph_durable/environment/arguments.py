"""What differs between the parameters of two versions of a tool, argument by argument, however their schemas are built.

References are followed, also where they lead back to themselves. An argument that may be null is told by the one type
that it has otherwise: `int | None` is "integer | null" whichever of JSON Schema's ways says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from langgraph_durable.environment.changes import Change, same

_CHOICES = ("anyOf", "oneOf", "allOf")
_STRUCTURE = frozenset({"type", "properties", "required", "items", "$defs", "definitions", *_CHOICES})
_FIRST = ("default", "enum", "description")


def argument_changes(tool: str, old: Any, new: Any) -> Iterator[Change]:
    """What differs between two JSON schemas for the parameters of a tool."""
    one, other = _settled(old, old), _settled(new, new)
    for aspect in _aspects(one, other):
        # What a schema calls itself is the name and the description of the tool once more.
        if aspect not in ("title", "description"):
            yield Change("tools", "tool", tool, "changed", aspect, one.words.get(aspect), other.words.get(aspect))
    yield from _members(tool, one, other)


class _Schema(NamedTuple):
    """A schema without what only leads to it.

    `refs` are the references that were followed to it, from `root` on; `again` is whether one was followed twice.
    """

    words: Mapping[str, Any]
    nullable: bool
    root: Any
    refs: frozenset[str]
    again: bool

    @property
    def properties(self) -> Mapping[str, Any]:
        found = self.words.get("properties")
        return found if isinstance(found, Mapping) else {}

    def requires(self, name: str) -> bool:
        required = self.words.get("required")
        return isinstance(required, (list, tuple)) and name in required

    def within(self, schema: Any) -> _Schema:
        """A schema that is a part of this one."""
        inner = _settled(schema, self.root)
        again = self.again or not inner.refs.isdisjoint(self.refs)
        return inner._replace(refs=inner.refs | self.refs, again=again)


def _settled(schema: Any, root: Any) -> _Schema:
    """A schema with its reference followed, and with the only choice that it leaves, but for null, made."""
    words: Mapping[str, Any] = schema if isinstance(schema, Mapping) else {}
    nullable = False
    refs: set[str] = set()
    while True:
        ref = words.get("$ref")
        found = _followed(ref, root)
        if found is not None and ref not in refs:
            refs.add(str(ref))
            words = _merged(words, "$ref", found)
            continue
        choice, only, null = _only_choice(words)
        if only is None:
            return _Schema(words, nullable, root, frozenset(refs), False)
        nullable |= null
        words = _merged(words, choice, only)


def _merged(words: Mapping[str, Any], word: str, found: Mapping[str, Any]) -> dict[str, Any]:
    return {**found, **{name: value for name, value in words.items() if name != word}}


def _followed(ref: Any, root: Any) -> Mapping[str, Any] | None:
    """What a reference within a schema refers to."""
    if not isinstance(ref, str) or not ref.startswith("#/"):
        return None
    found = root
    for part in ref[2:].split("/"):
        found = found.get(part.replace("~1", "/").replace("~0", "~")) if isinstance(found, Mapping) else None
    return found if isinstance(found, Mapping) else None


def _only_choice(words: Mapping[str, Any]) -> tuple[str, Mapping[str, Any] | None, bool]:
    """The word for a choice between one schema and null at most, that schema, and whether null can be chosen."""
    for choice in _CHOICES:
        options = _options(words, choice)
        others = [one for one in options if not (isinstance(one, Mapping) and one.get("type") == "null")]
        if len(others) == 1 and isinstance(others[0], Mapping):
            return choice, others[0], len(others) < len(options)
    return "", None, False


def _options(words: Mapping[str, Any], choice: str) -> list[Any]:
    options = words.get(choice)
    return list(options) if isinstance(options, (list, tuple)) else []


def _members(path: str, old: _Schema, new: _Schema) -> Iterator[Change]:
    """What differs in the arguments that a schema has."""
    for name in sorted({*old.properties, *new.properties}):
        inner = f"{path}.{name}"
        if name not in new.properties:
            yield Change("tools", "argument", inner, "removed", "", old.properties[name], None)
        elif name not in old.properties:
            yield Change("tools", "argument", inner, "added", "", None, new.properties[name])
        else:
            one, other = old.within(old.properties[name]), new.within(new.properties[name])
            if old.requires(name) != new.requires(name):
                yield _changed(inner, "required", old.requires(name), new.requires(name))
            yield from _argument(inner, one, other)


def _argument(path: str, old: _Schema, new: _Schema) -> Iterator[Change]:
    """What differs in an argument, and in those within it as long as they are of the same type."""
    types = _type(old), _type(new)
    if types[0] != types[1]:
        yield _changed(path, "type", *types)
    for aspect in _aspects(old, new):
        yield _changed(path, aspect, old.words.get(aspect), new.words.get(aspect))
    if types[0] != types[1]:
        return
    items = old.words.get("items"), new.words.get("items")
    parts = isinstance(items[0], Mapping) and isinstance(items[1], Mapping)
    for aspect in _CHOICES if parts else ("items", *_CHOICES):
        if not _alike(aspect, old, new):
            yield _changed(path, aspect, old.words.get(aspect), new.words.get(aspect))
    if not (old.again and new.again):
        yield from _members(path, old, new)
        if parts:
            yield from _argument(f"{path}[]", old.within(items[0]), new.within(items[1]))


def _changed(path: str, aspect: str, old: Any, new: Any) -> Change:
    return Change("tools", "argument", path, "changed", aspect, old, new)


def _aspects(old: _Schema, new: _Schema) -> list[str]:
    """The words that differ, but for those that say how a schema is built."""
    words = {*old.words, *new.words} - _STRUCTURE
    words = {word for word in words if not _alike(word, old, new)}
    return sorted(words, key=lambda word: (_FIRST.index(word) if word in _FIRST else len(_FIRST), word))


def _type(schema: _Schema) -> str:
    """The type that a schema asks for, in words."""
    kinds = _kinds(schema)
    nullable = schema.nullable or "null" in kinds
    return " | ".join([*sorted(kinds - {"null"}), *(["null"] if nullable else [])]) or "any"


def _kinds(schema: _Schema) -> set[str]:
    kind = schema.words.get("type")
    found = {str(one) for one in (kind if isinstance(kind, (list, tuple)) else [] if kind is None else [kind])}
    if schema.again:
        return found or {"…"}
    items = schema.words.get("items")
    if "array" in found and isinstance(items, Mapping):
        found = found - {"array"} | {f"array of {_in_brackets(_type(schema.within(items)))}"}
    for option in (one for choice in _CHOICES for one in _options(schema.words, choice)):
        inner = schema.within(option)
        found |= _kinds(inner) | ({"null"} if inner.nullable else set())
    return found


def _in_brackets(kind: str) -> str:
    return f"({kind})" if " | " in kind else kind


def _alike(word: str, old: _Schema, new: _Schema) -> bool:
    """Whether a word says the same in two schemas, whatever the definitions that it refers to are called."""
    return _equal(old.words.get(word), new.words.get(word), old.root, new.root, set())


def _equal(one: Any, other: Any, root: Any, other_root: Any, compared: set[tuple[Any, Any]]) -> bool:
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        refs = one.get("$ref"), other.get("$ref")
        found = _followed(refs[0], root), _followed(refs[1], other_root)
        if found[0] is not None or found[1] is not None:
            # What is compared already is the same as far as anybody can tell here.
            pair = (repr(refs[0]), repr(refs[1]))
            if pair in compared:
                return True
            compared.add(pair)
            one = one if found[0] is None else _merged(one, "$ref", found[0])
            other = other if found[1] is None else _merged(other, "$ref", found[1])
            return _equal(one, other, root, other_root, compared)
        return one.keys() == other.keys() and all(
            _equal(value, other[name], root, other_root, compared) for name, value in one.items()
        )
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(
            _equal(value, there, root, other_root, compared) for value, there in zip(one, other, strict=True)
        )
    return same(one, other)
