"""Hashes are equal exactly when LangChain's own conversion is, and the quick way to a schema is never another schema.

The oracle is `convert_to_openai_tool`, of a tool that was made once more. `form` is what is compared: data with its
types, lists of required arguments in order, and descriptions without indentation.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from enum import Enum
from typing import Annotated, Any, Dict, List, Literal, Optional, Union, cast  # noqa: UP035  # Both ways have one schema.

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core.tools import BaseTool, InjectedToolArg, StructuredTool
from langchain_core.utils.function_calling import convert_to_openai_tool
from langgraph.prebuilt import ToolRuntime
from pydantic import AliasGenerator, BaseModel, ConfigDict, Field, create_model, field_serializer, field_validator
from pydantic.alias_generators import to_camel

from langgraph_durable.environment.schemas import quick_parameters
from langgraph_durable.environment.tools import definitions
from tests.made_tools import KINDS, NONE, Arg, Spec, structured

many = settings(
    derandomize=True, deadline=None, max_examples=150, database=None, suppress_health_check=[HealthCheck.too_slow]
)


def form(value: Any, key: str = "") -> Any:
    """JSON taken apart into tuples with its types in them."""
    if isinstance(value, dict):
        return ("dict", sorted((name, form(inner, name)) for name, inner in value.items()))
    if isinstance(value, list):
        inner = [form(one) for one in value]
        return ("list", sorted(inner) if key == "required" else inner)
    if isinstance(value, str) and key == "description":
        lines = [line if line.strip() else "" for line in value.expandtabs().split("\n")]
        value = inspect.cleandoc(inspect.cleandoc("\n".join(lines)))
    return (type(value).__name__, repr(value))


def told(made: Any) -> Any:
    """What LangChain's conversion makes of a tool."""
    converted = convert_to_openai_tool(made)
    return form(converted.get("function", {key: value for key, value in converted.items() if key != "type"}))


# -- tools at random ---------------------------------------------------------------------------------------------------

text = st.text(st.sampled_from("ab é検\n \t“"), max_size=6)
plain = st.sampled_from([str, int, float, bool, Any, list, dict, type(None)])
literals = st.lists(st.sampled_from("abé"), min_size=1, max_size=3, unique=True).map(
    lambda found: Literal[tuple(found)]
)


def containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Types that hold others."""
    return st.one_of(
        inner.map(lambda one: list[one]),  # type: ignore[valid-type]  # A type that is made at run time.
        inner.map(lambda one: List[one]),  # type: ignore[valid-type]  # noqa: UP006  # As above, written as of old.
        inner.map(lambda one: dict[str, one]),  # type: ignore[valid-type]  # As above.
        inner.map(lambda one: Dict[str, one]),  # type: ignore[valid-type]  # noqa: UP006  # As above.
        inner.map(lambda one: Optional[one]),  # noqa: UP045  # As above.
        st.tuples(inner, inner).map(lambda two: Union[two]),  # noqa: UP007  # As above.
        inner.filter(lambda one: isinstance(one, type)).map(lambda one: None | one),
    )


simple = st.recursive(plain | literals, containers, max_leaves=3)


class Unit(Enum):
    """It has a schema of its own."""

    KELVIN = "K"


rare = st.sampled_from(
    [Unit, set[str], tuple[int, str], dict[int, str], bytes, Literal[1, "a"], Annotated[int, Field(ge=1)]]
)
defaults = st.one_of(
    st.just(NONE),
    st.none(),
    st.booleans(),
    st.integers(-3, 3) | st.sampled_from([2**63, -(2**70)]),
    st.sampled_from([0.0, 1.0, -0.0, 1e300, 0.1]),
    st.sampled_from(["", "a", "é", "a\n    b", "\ud800"]),
    st.sampled_from([[], ["a"], {}, {"a": 1}, {"title": "a"}, Unit.KELVIN]),
)
names = st.sampled_from(
    [*("a", "b", "title", "description", "required", "default", "properties", "items", "type", "name"), "définition"]
)


called = st.sampled_from(["one", "two", "three"])


def specs(types: st.SearchStrategy[Any], given: st.SearchStrategy[Any] = defaults) -> st.SearchStrategy[Spec]:
    """Descriptions of tools with arguments of these types and defaults."""
    args = st.tuples(names, types, given, text).map(lambda four: Arg(*four))
    listed = st.lists(args, min_size=1, max_size=3, unique_by=lambda arg: arg.name).map(tuple)
    return st.tuples(called, text.map(lambda one: "d" + one), listed).map(lambda three: Spec(*three))


usual = st.one_of(simple, simple, simple, st.sampled_from([Unit, Annotated[int, Field(ge=1)], Literal[1, "a"]]))
usual_defaults = st.one_of(st.just(NONE), st.none(), st.integers(0, 2), st.sampled_from([1.0, True, "a", "é"]))
usual_specs = specs(usual, usual_defaults)
kinds = st.sampled_from(
    ["decorated", "structured", "structured", "base tool", "pydantic", "openai", "openai, flat", "mcp"]
)


@st.composite
def pairs(draw: st.DrawFn) -> tuple[list[tuple[str, Spec]], list[tuple[str, Spec]]]:
    """Two sets of tools, of which the second is often the first with something small changed, or with nothing."""
    first = draw(st.lists(st.tuples(kinds, usual_specs), min_size=1, max_size=3))
    second = list(first)
    for _ in range(draw(st.sampled_from([1, 1, 2, 0]))):
        index = draw(st.integers(0, len(first) - 1))
        kind, spec = second[index]
        change = draw(st.sampled_from(["kind", "order", "name", "description", "arg", "args", "default", "all"]))
        if change == "kind":
            kind = draw(kinds)
        elif change == "order":
            second[index], second[0] = second[0], second[index]
            kind, spec = second[index]
        elif change == "all":
            spec = draw(usual_specs)
        elif change == "args":
            spec = spec._replace(args=spec.args[::-1])
        elif change in ("arg", "default") and spec.args:
            fields = {"default": draw(usual_defaults)} if change == "default" else {"type": draw(usual)}
            spec = spec._replace(args=(spec.args[0]._replace(**fields), *spec.args[1:]))
        elif change == "description":
            spec = spec._replace(description="d" + draw(text))
        else:
            spec = spec._replace(name="four")
        second[index] = (kind, spec)
    return first, second


@many
@given(pairs())
def test_hashes_are_equal_exactly_when_the_definitions_are(two: Any) -> None:
    """Two sets of tools have the same hashes if LangChain makes the same of them, and only then."""
    found, expected = [], []
    for described in two:
        found.append(sorted(one.hash for one in definitions([KINDS[kind](spec) for kind, spec in described]).values()))
        expected.append(sorted(told(KINDS[kind](spec)) for kind, spec in described))
    assert (found[0] == found[1]) == (expected[0] == expected[1])


# -- the quick way -----------------------------------------------------------------------------------------------------


def slow(made: BaseTool) -> Any:
    """The arguments as LangChain's conversion has them."""
    return convert_to_openai_tool(made)["function"]["parameters"]


def exact(value: Any) -> Any:
    """What `form` makes of data, with nothing left aside but the order of keys."""
    if isinstance(value, dict):
        return ("dict", sorted((name, exact(inner)) for name, inner in value.items()))
    return ("list", [exact(one) for one in value]) if isinstance(value, list) else (type(value).__name__, repr(value))


@many
@given(specs(simple | rare), st.sampled_from(["decorated", "structured", "base tool"]))
@pytest.mark.filterwarnings("ignore::pydantic.json_schema.PydanticJsonSchemaWarning")
def test_the_quick_way_never_disagrees(spec: Spec, kind: str) -> None:
    """A schema that is put together is, to the last value, the one that LangChain has pydantic make."""
    quick = quick_parameters(KINDS[kind](spec))
    if quick is not None:
        assert exact(quick) == exact(slow(KINDS[kind](spec)))


@settings(many, max_examples=200)
@given(specs(simple).filter(lambda spec: all(type(arg.default) not in (list, dict, Unit) for arg in spec.args)))
def test_simple_arguments_go_the_quick_way(spec: Spec) -> None:
    """What is simple is not left to the slow way, however many arguments of it there are."""
    usual = [arg for arg in spec.args if arg.default not in (2**63, -(2**70), "\ud800")]
    made = spec._replace(args=tuple(usual))
    assert exact(quick_parameters(structured(made))) == exact(slow(structured(made)))


def model(**config: Any) -> Callable[[], type[BaseModel]]:
    """A class of arguments with a config."""
    given = cast("ConfigDict", config)
    return lambda: create_model("Args", __config__=given, two_words=(str, "a"), b=(int, ...))


def field(annotation: Any = str, **given: Any) -> Callable[[], type[BaseModel]]:
    """A class with one argument."""
    config = ConfigDict(arbitrary_types_allowed=True)
    return lambda: create_model("Args", __config__=config, a=(annotation, Field(**given)))


ODD_NAMES: dict[str, Any] = {"with space": (int, 1), "class": (int, 2), "data": (int, 3), "self": (int, 4)}


class Inner(BaseModel):
    """A model in a model."""

    deep: int


class Built(BaseModel):
    """A class that takes its arguments in another way."""

    a: int
    b: int = 1

    def __init__(self, a: int) -> None:
        super().__init__(a=a)


class Derived(Inner):
    """A class with an argument of another."""

    own: str = "a"


class Decorated(BaseModel):
    """A class with functions that pydantic calls."""

    a: str = "a"

    @field_validator("a", mode="before")
    @classmethod
    def _read(cls, value: Any) -> str:
        return str(value)

    @field_serializer("a")
    def _write(self, value: str) -> int:
        return len(value)


class Own(BaseModel):
    """A class that says itself what its schema is."""

    a: str = "a"

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: Any, handler: Any) -> Any:
        return {**handler(schema), "minProperties": 1}


@pytest.mark.parametrize(
    "made",
    [
        model(title="Other"),
        model(extra="allow"),
        model(extra="forbid"),
        model(json_schema_extra={"examples": [1]}),
        model(alias_generator=to_camel),
        model(alias_generator=AliasGenerator(validation_alias=to_camel)),
        model(use_attribute_docstrings=True, frozen=True, str_min_length=2, strict=True),
        field(alias="other"),
        field(validation_alias="other"),
        field(serialization_alias="other"),
        field(title="Other"),
        field(examples=["a"]),
        field(json_schema_extra={"format": "uri"}),
        field(min_length=1),
        field(pattern="^a"),
        field(deprecated=True),
        field(exclude=True, frozen=True, repr=False),
        field(default="a", validate_default=True),
        field(default_factory=str),
        field(description=""),
        field(Annotated[str, "for people"]),
        field(Annotated[str, InjectedToolArg]),
        field(Annotated[str, InjectedToolArg()]),
        field(Annotated[str, "for people", InjectedToolArg]),
        field(ToolRuntime),
        field(Inner),
        field(Inner | None, default=None),
        field(list[Inner]),
        field(list[Annotated[int, Field(ge=1)]]),
        field(Annotated[int | None, Field(ge=1)]),
        field(int, default="no number"),
        field(Literal["a"], default=None),
        lambda: Built,
        lambda: Derived,
        lambda: Decorated,
        lambda: Own,
        lambda: Inner,
        lambda: create_model("Args", **ODD_NAMES),
        lambda: create_model("Args", __doc__="Told where the tool tells nothing.", a=(int, ...)),
    ],
)
@pytest.mark.parametrize("description", ["d", ""])
def test_what_is_not_simple_is_told_as_ever(made: Callable[[], type[BaseModel]], description: str) -> None:
    """Whatever a class of arguments adds to its fields, a tool is told as LangChain tells it."""
    name = "one"
    expected = form(
        convert_to_openai_tool(StructuredTool(name=name, description=description, args_schema=made()))["function"]
    )
    (found,) = definitions([StructuredTool(name=name, description=description, args_schema=made())]).values()
    assert form({"name": name, "description": found.description, "parameters": found.parameters}) == expected
    quick = quick_parameters(StructuredTool(name=name, description=description, args_schema=made()))
    assert quick is None or exact(quick) == exact(
        slow(StructuredTool(name=name, description=description, args_schema=made()))
    )


def test_types_that_compare_equal_are_told_apart() -> None:
    """`int | str` equals `str | int`, and the model is told something else."""
    found = []
    for one in (int | str, str | int, Union[int, str], Union[str, int]):  # noqa: UP007  # Both ways of writing it.
        quick = quick_parameters(structured(Spec("one", "d", (Arg("a", one),))))
        assert quick == slow(structured(Spec("one", "d", (Arg("a", one),))))
        found.append(quick)
    assert found[0] == found[2] != found[1] == found[3]
