"""What is told of a model is its name and how it is set, and never what gives access to it or tells where it is.

Parameters are those on a list: a setting that nobody has looked at may be a key.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from langchain_core.language_models import BaseLanguageModel
from langchain_core.runnables import Runnable, RunnableParallel, RunnableSequence, RunnableWithFallbacks
from langchain_core.runnables.base import RunnableBindingBase
from langchain_core.runnables.configurable import DynamicRunnable
from langchain_core.runnables.passthrough import RunnableAssign
from pydantic import SecretBytes, SecretStr

from langgraph_durable.errors import InvalidRequestError

PARAMETERS = frozenset(
    {
        # How the next token is chosen, under the names of several providers.
        *("temperature", "top_p", "top_k", "min_p", "typical_p", "seed", "n", "candidate_count", "logit_bias"),
        *("presence_penalty", "frequency_penalty", "repetition_penalty", "repeat_penalty", "repeat_last_n"),
        *("mirostat", "mirostat_eta", "mirostat_tau", "tfs_z"),
        # How much is read and said.
        *("max_tokens", "max_completion_tokens", "max_output_tokens", "max_new_tokens", "num_predict", "num_ctx"),
        *("stop", "stop_sequences", "truncation", "verbosity"),
        # How much is thought.
        *("reasoning", "reasoning_effort", "reasoning_format", "thinking", "thinking_budget", "thinking_level"),
        *("effort", "include_thoughts"),
        # What an answer may be.
        *("response_format", "response_mime_type", "response_schema", "format", "modalities"),
        *("tool_choice", "parallel_tool_calls", "safety_settings", "safe_prompt"),
    }
)
"""What changes an answer. What changes its price or speed alone (`service_tier`, `streaming`, caches) is not here."""

_WITHIN = ("model_kwargs", "extra_body")
"""Settings that are passed on to the provider as they are."""
_NAMES = ("model_name", "model", "model_id", "deployment_name", "repo_id")
_DEEPEST = 30


def described_model(model: Any) -> dict[str, Any] | None:
    """The provider, name and parameters of a chat model, of what wraps one, or of a string such as `openai:gpt-4o`.

    Bound parameters count, and models to fall back to are under `fallbacks`. `provider` is empty where it is not known.
    The model of a chain is its last. None for None, InvalidRequestError where there is no model.
    """
    if model is None:
        return None
    if isinstance(model, str):
        return _named(model)
    found = _find(model, {}, 0)
    if found is None:
        raise InvalidRequestError(
            f"there is no model to be found in a {type(model).__name__}: give a chat model, what wraps one, or a "
            'string such as "openai:gpt-4o"'
        )
    return found


def model_name(description: Mapping[str, Any]) -> str:
    """The provider and the name, such as `openai:gpt-4o`; the name alone where no provider is known."""
    return ":".join(part for part in (description["provider"], description["name"]) if part)


def _named(model: str) -> dict[str, Any]:
    provider, name = model.split(":", 1) if ":" in model else ("", model)
    if not name or "://" in model:
        raise InvalidRequestError('the string names no model: give its name, or provider and name: "openai:gpt-4o"')
    return {"provider": provider, "name": name, "parameters": {}}


# -- which model -------------------------------------------------------------------------------------------------------


def _find(thing: Any, bound: Mapping[str, Any], depth: int) -> dict[str, Any] | None:
    """The model in something, called with what was bound to that; None where there is none."""
    if isinstance(thing, BaseLanguageModel):
        return _described(thing, bound)
    if depth > _DEEPEST:
        return None
    if isinstance(thing, RunnableBindingBase):
        # What is bound further out is given later, and wins.
        return _find(thing.bound, {**thing.kwargs, **bound}, depth + 1)
    if isinstance(thing, RunnableWithFallbacks):
        found = _find(thing.runnable, bound, depth + 1)
        others = [other for one in thing.fallbacks if (other := _find(one, bound, depth + 1)) is not None]
        return {**found, "fallbacks": [*found.get("fallbacks", ()), *others]} if found is not None else None
    for part, given in _parts(thing, bound):
        if (found := _find(part, given, depth + 1)) is not None:
            return found
    return None


def _parts(thing: Any, bound: Mapping[str, Any]) -> Iterator[tuple[Runnable[Any, Any], Mapping[str, Any]]]:
    """What a model may be in, the last first, and what it is called with."""
    if isinstance(thing, RunnableSequence):
        # A sequence hands what is bound to it to its first step alone, and what runs side by side to none.
        for index in range(len(thing.steps) - 1, -1, -1):
            yield thing.steps[index], bound if index == 0 else {}
    elif isinstance(thing, RunnableParallel):
        yield from ((one, {}) for one in reversed([*thing.steps__.values()]))
    elif isinstance(thing, RunnableAssign):
        yield thing.mapper, {}
    elif isinstance(thing, DynamicRunnable):
        yield thing.default, bound


class _Who(NamedTuple):
    provider: str
    name: str


def _described(model: BaseLanguageModel[Any], bound: Mapping[str, Any]) -> dict[str, Any]:
    who = _who(model, bound)
    given: dict[str, Any] = {}
    for source in (_fields(model, PARAMETERS), _fields(model, _WITHIN), bound):
        for settings in (*(source.get(name) for name in _WITHIN), source):
            given |= _chosen(settings)
    parameters = {name: _plain(value, 0) for name, value in sorted(given.items()) if not _is_secret(value)}
    return {"provider": who.provider, "name": who.name, "parameters": parameters}


def _who(model: BaseLanguageModel[Any], bound: Mapping[str, Any]) -> _Who:
    told: Mapping[str, Any] = {}
    if (tell := getattr(model, "_get_ls_params", None)) is not None:
        try:
            told = tell()
        except Exception:  # noqa: BLE001  # Whatever a provider's class does there, its model has a name.
            told = {}
    names = [bound.get("model"), told.get("ls_model_name"), *_fields(model, _NAMES).values()]
    for name in names:
        if isinstance(name, str) and name and "://" not in name:
            return _Who(str(told.get("ls_provider") or ""), name)
    # LangChain makes a provider of the class's name, which says nothing more than that.
    return _Who("", type(model).__name__)


def _fields(model: BaseLanguageModel[Any], names: Any) -> dict[str, Any]:
    """The fields of a model with these names, as far as it has them."""
    return {name: getattr(model, name, None) for name in names if name in type(model).model_fields}


def _chosen(settings: Any) -> dict[str, Any]:
    if not isinstance(settings, Mapping):
        return {}
    return {name: value for name, value in settings.items() if name in PARAMETERS and value is not None}


# -- what may be told --------------------------------------------------------------------------------------------------


def _is_secret(value: Any) -> bool:
    return isinstance(value, (SecretStr, SecretBytes))


def _plain(value: Any, depth: int) -> Any:
    """A value as JSON; what is none is told by the name of its type, and a class by its own."""
    if value is None or type(value) in (str, int, bool) or (type(value) is float and math.isfinite(value)):
        return value
    if isinstance(value, Mapping) and depth < _DEEPEST:
        return {str(key): _plain(inner, depth + 1) for key, inner in value.items() if not _is_secret(inner)}
    if isinstance(value, (list, tuple)) and depth < _DEEPEST:
        return [_plain(inner, depth + 1) for inner in value if not _is_secret(inner)]
    return value.__name__ if isinstance(value, type) else type(value).__name__
