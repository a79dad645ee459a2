"""What may import what, read from the source; and what the package shows to the outside."""

from __future__ import annotations

import ast
import asyncio
import graphlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import langgraph_durable
from langgraph_durable import context, errors, files

PACKAGE = Path(langgraph_durable.__file__).parent
README = PACKAGE.parent / "README.md"

DRIVERS = {"sqlite3", "aiosqlite"}

PURE = {
    *("__future__", "base64", "bisect", "collections", "contextlib", "copy", "functools", "hashlib", "itertools"),
    *("json", "operator", "re", "traceback", "types", "typing", "typing_extensions", "uuid", "zlib"),
    # What the core works on: LangGraph's data and serializers, messages, and the formats of bytes.
    *("langchain_core", "langgraph.checkpoint.base", "langgraph.checkpoint.serde", "orjson", "ormsgpack", "pydantic"),
}
"""What the core may import: nothing of it can reach a file, a socket, a clock, chance, a thread or an event loop."""

PURE_BUT = {
    "core.collector": {"gc"},
    "core.memory": {"threading"},
    "core.leases": {"datetime"},
    "core.standings": {"datetime"},
}
"""Exceptions: decoding holds the garbage collector back, what savers of one database share has a lock, and times that
were passed in are read and told."""

LAYERS: dict[str, set[str]] = {
    "errors": set(),
    "core": {"core", "errors"},
    "stores": {"stores", "core.collector", "core.readable", "core.records", "core.status", "errors"},
    "processes": set(),
    "arrivals": {"core"},
    "sources": {"errors", "stores"},
    "engine": {"arrivals", "core", "errors", "processes", "sources", "stores.base", "stores.lane"},
    "progress": set(),
    "saver": {"core", "engine", "errors", "history", "processes", "progress", "threads"},
    "savers": {"engine", "saver", "sources"},
    "threads": {"core", "processes"},
    "timeline": {"threads"},
    "history": {"threads", "timeline"},
    "copying": {"core", "errors", "progress", "saver"},
    "heartbeat": set(),
    "signals": set(),
    "environment": {"core.canonical", "core.conversation", "core.environments", "environment", "errors", "threads"},
    "channels": set(),
    "files": {"channels", "errors", "files"},
    "context": {
        "channels",
        "context",
        "core.collector",
        "core.conversation",
        "core.driving",
        "core.messages",
        "core.namespaces",
        "environment.tools",
        "errors",
    },
    "asking": {"core", "environment.policy", "saver"},
    "renaming": {"asking", "core"},
    "comparing": {"asking", "core", "environment", "errors", "files", "renaming", "saver"},
    "resuming": {"asking", "comparing", "context.repair", "core", "environment.policy", "errors", "renaming", "saver"},
    "recovering": {"asking", "comparing", "core", "errors", "resuming"},
    "holding": {"asking", "core", "errors", "heartbeat", "processes", "saver", "signals"},
    "runs": {
        *("asking", "comparing", "core", "environment", "errors", "holding", "progress", "recovering", "resuming"),
        "saver",
    },
    "durability": {"asking", "core.superstep", "environment", "errors", "files", "runs", "saver"},
    "urls": {"errors", "saver", "savers"},
    "": {"comparing", "copying", "durability", "environment", "errors", "savers", "threads", "urls"},
    "cli": {
        *("", "cli", "core.environments", "core.recordings", "core.records", "environment", "errors", "history"),
        *("runs", "saver", "threads", "urls"),
    },
    "__main__": {"cli"},
}
"""What each part of the package may import of it; "" is the package as its users see it."""


class Import(NamedTuple):
    """A module that is imported, as `a.b` or, for a part of this package, as its name inside of it."""

    name: str
    own: bool


def module_name(path: Path) -> str:
    """The name of a module inside the package; "" is the package itself."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").removesuffix(".")


MODULES = {module_name(path): ast.parse(path.read_text(encoding="utf-8")) for path in sorted(PACKAGE.rglob("*.py"))}


def inside(name: str, *parts: str) -> bool:
    """Whether a module is one of `parts`, or in one of them."""
    return any(name == part or (part != "" and name.startswith(part + ".")) for part in parts)


def imports(module: str) -> Iterator[Import]:
    """Everything that a module imports, wherever in it."""
    for node in ast.walk(MODULES[module]):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"a relative import in {module!r}"
            assert node.module is not None
            # `from package import module` means the module.
            within = [f"{node.module}.{alias.name}" for alias in node.names]
            found = [name if own_name(name) in MODULES else node.module for name in within]
        else:
            continue
        for name in found:
            own = own_name(name)
            yield Import(name, False) if own is None else Import(own, True)


def own_name(name: str) -> str | None:
    """The name inside this package, None outside of it."""
    if name != PACKAGE.name and not name.startswith(PACKAGE.name + "."):
        return None
    return name.removeprefix(PACKAGE.name).removeprefix(".")


def part_of(module: str) -> str:
    """The key in `LAYERS` of the part that a module belongs to."""
    return module.split(".")[0]


def test_every_module_is_in_a_layer() -> None:
    """There is no module for which no rule says what it may import."""
    assert {part_of(module) for module in MODULES} == set(LAYERS)


@pytest.mark.parametrize("module", MODULES)
def test_arrows_point_down(module: str) -> None:
    """A module imports of the package only what its layer may."""
    allowed = LAYERS[part_of(module)]
    assert [name for name, own in imports(module) if own and not inside(name, *allowed)] == []


def test_no_module_imports_itself_in_a_circle() -> None:
    """The modules can be put in an order in which each imports only those before it."""
    sorter = graphlib.TopologicalSorter({module: {name for name, own in imports(module) if own} for module in MODULES})
    assert set(sorter.static_order()) == set(MODULES)


@pytest.mark.parametrize("module", [module for module in MODULES if inside(module, "core")])
def test_the_core_is_pure(module: str) -> None:
    """The core imports nothing that does input or output, waits, or knows the time, and calls no such built-in."""
    allowed = PURE | PURE_BUT.get(module, set())
    assert [name for name, own in imports(module) if not own and not inside(name, *allowed)] == []
    called = {
        node.func.id
        for node in ast.walk(MODULES[module])
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert called & {"__import__", "breakpoint", "eval", "exec", "input", "open", "print"} == set()


def test_the_core_has_locks_and_no_threads() -> None:
    """Of `threading` the core's memory uses the lock alone."""
    assert attributes("core.memory", "threading") == {"Lock"}


@pytest.mark.parametrize("module", MODULES)
def test_drivers_stay_in_their_store(module: str) -> None:
    """A database driver is imported by its store only, and by what is given connections, to tell them by their type."""
    drivers = {name.split(".")[0] for name, own in imports(module) if not own} & DRIVERS
    if module in ("sources", "savers"):
        assert {attribute for driver in drivers for attribute in attributes(module, driver)} <= {"Connection"}
    elif not inside(module, "stores.sqlite"):
        assert drivers == set()


def attributes(module: str, name: str) -> set[str]:
    """What is used of something that a module imports as a whole."""
    taken = [node for node in ast.walk(MODULES[module]) if isinstance(node, ast.ImportFrom) and node.module == name]
    assert not taken, f"{module} takes names out of {name}"
    return {
        node.attr
        for node in ast.walk(MODULES[module])
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == name
    }


# -- what is shown to the outside ------------------------------------------------------------------------------------


def test_the_public_names_are_in_order() -> None:
    """`__all__` is sorted and names nothing twice."""
    assert sorted(set(langgraph_durable.__all__)) == langgraph_durable.__all__


@pytest.mark.parametrize("package", [context, files], ids=lambda package: package.__name__.rpartition(".")[2])
def test_the_names_of_a_part_are_in_order(package: Any) -> None:
    """`__all__` of what is imported by its own name is sorted as well, and what it names is there."""
    assert sorted(set(package.__all__)) == package.__all__
    assert [name for name in package.__all__ if not hasattr(package, name)] == []
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        _ = package.nothing_of_the_kind


PUBLIC = [
    *((langgraph_durable, name) for name in langgraph_durable.__all__),
    # Aliases of types say what they are where they are defined.
    *((context, name) for name in context.__all__ if name not in ("ContextState", "Size")),
    *((files, name) for name in files.__all__ if name != "TrackedFiles"),
]


@pytest.mark.parametrize(("package", "name"), PUBLIC, ids=[name for _, name in PUBLIC])
def test_a_public_name_says_what_it_is(package: Any, name: str) -> None:
    """Every public name can be imported, and what it names has a docstring of its own, as have its public methods."""
    public = getattr(package, name)
    assert (vars(public)["__doc__"] if inspect.isclass(public) else public.__doc__).strip()
    methods = [(label, part) for label, part in inspect.getmembers(public, inspect.isfunction) if label[0] != "_"]
    own = [(label, part) for label, part in methods if part.__module__.startswith(PACKAGE.name)]
    assert [label for label, part in own if not (part.__doc__ or "").strip()] == []


def test_every_error_is_public_and_in_the_tree() -> None:
    """Every exception of the package can be imported from it, and is drawn in the docstring of `errors`."""
    defined = {name for name, part in vars(errors).items() if isinstance(part, type) and issubclass(part, Exception)}
    assert defined == {name for name in langgraph_durable.__all__ if name.endswith(("Error", "Warning"))}
    drawn = set(re.findall(r"\b\w+(?:Error|Warning)\b", errors.__doc__ or ""))
    assert drawn - {"TypeError", "ValueError", "UserWarning"} == defined


class Block(NamedTuple):
    """A block of Python in the README, and the number of its first line there."""

    line: int
    source: str


def blocks() -> list[Block]:
    """The blocks that are meant to run: all but those after a line that says `<!-- no test -->`."""
    found = []
    lines = README.read_text(encoding="utf-8").splitlines() if README.exists() else []
    for number, line in enumerate(lines):
        if line.strip() == "```python" and (number == 0 or lines[number - 1].strip() != "<!-- no test -->"):
            end = lines.index("```", number)
            found.append(Block(number + 2, "\n".join(lines[number + 1 : end])))
    return found


@pytest.mark.parametrize("block", blocks(), ids=lambda block: f"line {block.line}")
def test_the_readmes_python_runs(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the README shows runs as it stands, in an empty folder, also where it awaits."""
    monkeypatch.chdir(tmp_path)
    # Without what this file imports from `__future__`: in a README's block annotations are what they say.
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    tree = compile("\n" * (block.line - 1) + block.source, README, "exec", flags=flags, dont_inherit=True)
    namespace: dict[str, Any] = {"__name__": "__main__"}
    running = eval(tree, namespace)
    if inspect.iscoroutine(running):
        asyncio.run(running)
