"""A model is told by its provider, its name and how it is set; what lets somebody use it is told nowhere."""

from __future__ import annotations

import json
from typing import Any

import pytest
from langchain_core.language_models.fake_chat_models import FakeListChatModel, GenericFakeChatModel, ParrotFakeChatModel
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import (
    ConfigurableField,
    RunnableBinding,
    RunnableLambda,
    RunnableParallel,
    RunnablePassthrough,
)
from langchain_openai import AzureChatOpenAI, ChatOpenAI
from pydantic import BaseModel, SecretStr

from langgraph_durable import InvalidRequestError
from langgraph_durable.environment.models import described_model, model_name

HIDDEN = "hidden"
"""It is in every setting that is nobody's business."""


class Answer(BaseModel):
    """An answer."""

    text: str


class Named(FakeListChatModel):
    """A model of somebody's own."""

    responses: list[str] = []  # noqa: RUF012  # pydantic copies it.
    model_name: str = "own-1"
    temperature: float | None = None
    top_k: Any = None


def openai(**given: Any) -> Any:
    """A model with a secret in every setting that can have one."""
    return ChatOpenAI(
        model="gpt-4o-mini",
        api_key=SecretStr(f"sk-{HIDDEN}"),
        base_url=f"https://{HIDDEN}:{HIDDEN}@{HIDDEN}.example/v1",
        organization=f"org-{HIDDEN}",
        default_headers={"Authorization": f"Bearer {HIDDEN}"},
        default_query={"key": HIDDEN},
        metadata={"note": HIDDEN},
        model_kwargs={"user": HIDDEN, "repetition_penalty": 0.5, **given.pop("model_kwargs", {})},
        extra_body={"key": HIDDEN, "min_p": 0.1, "extra_headers": {"X-Key": HIDDEN}},
        **given,
    )


def azure() -> Any:
    """The same, of Azure."""
    return AzureChatOpenAI(
        azure_deployment="ours",
        azure_endpoint=f"https://{HIDDEN}.example",
        api_key=SecretStr(HIDDEN),
        azure_ad_token=SecretStr(HIDDEN),
        api_version="2024-06-01",
        max_completion_tokens=7,
    )


ALWAYS = {"min_p": 0.1, "repetition_penalty": 0.5}
"""What is set in every `openai()`."""


def described(model: Any) -> dict[str, Any]:
    """The description of a model, which has no secret in it and is plain JSON."""
    found = described_model(model)
    assert found is not None
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert HIDDEN not in json.dumps(found)
    return found


def test_a_model_is_told_by_provider_name_and_parameters() -> None:
    """What is set about a model is told, whether it is a setting of the class or passed on; what is not set is not."""
    found = described(openai(temperature=0.2, seed=3, stop=["."], reasoning_effort=None, model_kwargs={"top_k": 4}))
    assert (found["provider"], found["name"]) == ("openai", "gpt-4o-mini")
    assert found["parameters"] == {**ALWAYS, "temperature": 0.2, "seed": 3, "stop": ["."], "top_k": 4}
    assert described(azure()) == {"provider": "azure", "name": "ours", "parameters": {"max_tokens": 7}}


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("openai:gpt-4o", ("openai", "gpt-4o")),
        ("gpt-4o", ("", "gpt-4o")),
        ("ollama:llama3:8b", ("ollama", "llama3:8b")),
        (FakeListChatModel(responses=[]), ("", "FakeListChatModel")),
        (GenericFakeChatModel(messages=iter(())), ("", "GenericFakeChatModel")),
        (ParrotFakeChatModel(), ("", "ParrotFakeChatModel")),
        (Named(), ("named", "own-1")),
        (Named(model_name=f"https://{HIDDEN}.example/model"), ("", "Named")),
    ],
)
def test_a_model_has_a_name(model: Any, expected: tuple[str, str]) -> None:
    """A string is split at its first colon, and a model without a name is told by its class."""
    found = described(model)
    assert (found["provider"], found["name"], found["parameters"]) == (*expected, {})
    assert model_name(found) == ":".join(part for part in expected if part)


def test_a_name_is_that_and_nothing_else() -> None:
    """The name of a model has its provider before it, where that is known."""
    assert model_name(described(openai(temperature=1.0))) == "openai:gpt-4o-mini"


WRAPPED: dict[str, tuple[Any, dict[str, Any]]] = {
    "bind": (openai().bind(stop=["x"], user=HIDDEN, extra_headers={"X-Key": HIDDEN}), {"stop": ["x"]}),
    "bind what is set": (openai(temperature=0.1).bind(temperature=0.9), {"temperature": 0.9}),
    "bind twice": (openai().bind(seed=1, n=2).bind(seed=3), {"seed": 3, "n": 2}),
    "bind further out": (RunnableBinding(bound=openai().bind(seed=1, n=2), kwargs={"seed": 3}), {"seed": 3, "n": 2}),
    "bind in what is passed on": (openai().bind(extra_body={"top_k": 9, "key": HIDDEN}), {"top_k": 9}),
    "bind_tools": (openai().bind_tools([Answer], tool_choice="any"), {"tool_choice": "required"}),
    "with_config": (openai().with_config(tags=["a"], metadata={"key": HIDDEN}), {}),
    "with_retry": (openai().bind(seed=1).with_retry(), {"seed": 1}),
    "with_structured_output": (openai().with_structured_output(Answer), {"response_format": "Answer"}),
    "with raw": (
        openai().with_structured_output(Answer, method="json_mode", include_raw=True),
        {"response_format": {"type": "json_object"}},
    ),
    "prompt": (ChatPromptTemplate.from_messages([("user", "{x}")]) | openai().bind(n=2) | StrOutputParser(), {"n": 2}),
    "assign": (RunnablePassthrough.assign(answer=openai()) | RunnableLambda(str), {}),
    "parallel": (RunnableParallel(raw=RunnablePassthrough(), answer=openai()).bind(seed=1), {}),
    "configurable": (
        openai(temperature=0.3).configurable_fields(temperature=ConfigurableField("t")),
        {"temperature": 0.3},
    ),
    "two models": (Named() | RunnableLambda(str) | openai(), {}),
    "a prompt that is bound": ((ChatPromptTemplate.from_messages([("user", "{x}")]) | openai()).bind(seed=1), {}),
    "a sequence that is bound": ((openai() | StrOutputParser()).bind(seed=1), {"seed": 1}),
}
"""What wraps a model, and what is told of it besides what always is."""


@pytest.mark.parametrize("wrapped", WRAPPED)
def test_what_wraps_a_model_tells_of_it(wrapped: str) -> None:
    """The model in something is found, with what it will be called with; that of a chain is the last."""
    model, more = WRAPPED[wrapped]
    assert described(model) == {"provider": "openai", "name": "gpt-4o-mini", "parameters": {**ALWAYS, **more}}


def test_another_model_that_is_bound_is_the_one_called() -> None:
    """`bind(model=...)` is what the provider is asked for."""
    assert model_name(described(openai().bind(model="gpt-5"))) == "openai:gpt-5"


def test_models_to_fall_back_to_are_told() -> None:
    """Each has parameters of its own, what is bound to all counts for all, and what is no model is left out."""
    model = openai().with_fallbacks([azure(), RunnableLambda(str), Named().with_fallbacks([Named(model_name="own-2")])])
    found = described(model.bind(seed=3))
    assert found["parameters"] == {**ALWAYS, "seed": 3}
    assert [model_name(one) for one in found["fallbacks"]] == ["azure:ours", "named:own-1"]
    assert [one["parameters"] for one in found["fallbacks"]] == [{"max_tokens": 7, "seed": 3}, {"seed": 3}]
    assert [model_name(one) for one in found["fallbacks"][1]["fallbacks"]] == ["named:own-2"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"type": "object", 5: (1, None)}, {"type": "object", "5": [1, None]}),
        (float("nan"), "float"),
        (
            {"a": {1}, "b": Answer, "c": Answer(text=HIDDEN), "d": b""},
            {"a": "set", "b": "Answer", "c": "Answer", "d": "bytes"},
        ),
        ([SecretStr(HIDDEN), "a"], ["a"]),
        ({"a": SecretStr(HIDDEN)}, {}),
    ],
)
def test_a_value_that_is_no_json_is_told_by_its_type(value: Any, expected: Any) -> None:
    """What is set to something odd is told as far as it is plain, and a secret is not told at all."""
    assert described(Named(top_k=value))["parameters"] == {"top_k": expected}
    assert described(Named().bind(top_k=value))["parameters"] == {"top_k": expected}


def test_a_secret_is_no_parameter() -> None:
    """A secret under the name of a parameter is left out."""
    assert described(Named(top_k=SecretStr(HIDDEN)))["parameters"] == {}


def test_a_value_in_itself_comes_to_an_end() -> None:
    """A setting that holds itself is told as far down as anybody reads."""
    value: dict[str, Any] = {}
    value["again"] = value
    assert "dict" in json.dumps(described(Named(top_k=value)))


def test_a_model_that_cannot_tell_of_itself_has_its_name() -> None:
    """What a provider's class raises where it is asked for tracing does not get in the way."""

    class Failing(Named):
        def _get_ls_params(self, *args: Any, **kwargs: Any) -> Any:
            raise RuntimeError("no tracing")

    assert model_name(described(Failing())) == "own-1"


def test_no_model_is_told_as_none() -> None:
    """Where nobody said which model, nothing is told."""
    assert described_model(None) is None


@pytest.mark.parametrize(
    ("given", "wrong"),
    [
        (5, "in a int"),
        (len, "in a builtin_function_or_method"),
        (RunnableLambda(str), "in a RunnableLambda"),
        (RunnableLambda(str).with_fallbacks([openai()]), "in a RunnableWithFallbacks"),
        (StrOutputParser() | RunnableLambda(str), "in a RunnableSequence"),
        (FakeListChatModel, "in a ModelMetaclass"),
        ("", "names no model"),
        ("openai:", "names no model"),
        (f"https://{HIDDEN}.example/v1", "names no model"),
    ],
)
def test_what_has_no_model_is_refused(given: Any, wrong: str) -> None:
    """Where there is no model the type of what was given is told, and nothing that is in it."""
    with pytest.raises(InvalidRequestError, match=wrong) as refused:
        described_model(given)
    assert HIDDEN not in str(refused.value)
