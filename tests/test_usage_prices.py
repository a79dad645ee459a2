"""What calls cost: exactly what the prices say, by the kind of token, and unknown, never nothing, without a price."""

from __future__ import annotations

import math
import sys
from typing import Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler, CallbackManager
from langchain_core.messages import AIMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGeneration, LLMResult
from langgraph.checkpoint.memory import InMemorySaver

from langgraph_durable import InvalidRequestError
from langgraph_durable.context import Price, UsageLedger
from langgraph_durable.context.usage.prices import Prices, cost_of, pricing
from langgraph_durable.context.usage.records import UsageRecord
from tests.paid_models import INPUT, Answer, PaidModel, asking, record, running, usage


def cost(prices: Prices, **fields: Any) -> float | None:
    """What a call costs at prices."""
    return cost_of(pricing(prices), record(**fields))


def test_kinds_of_tokens_are_priced_apart() -> None:
    """Tokens of the prompt cache are part of the input; without prices of their own they cost as much as others."""
    full = {"gpt-4o": Price(2, 8, cached=0.5, written=3)}
    assert cost(full) == pytest.approx((1000 * 2 + 100 * 8) / 1e6)
    assert cost(full, cached=600, written=300) == pytest.approx((100 * 2 + 600 * 0.5 + 300 * 3 + 100 * 8) / 1e6)
    assert cost({"gpt-4o": Price(2, 8)}, cached=600, written=300) == cost(full)
    assert cost({"gpt-4o": {"input": 2, "output": 8, "cached": 0}}, cached=1000) == pytest.approx(800 / 1e6)
    assert cost(full, cached=1500) == pytest.approx((1500 * 0.5 + 100 * 8) / 1e6)
    assert cost({"gpt-4o": Price(0, 0)}) == 0


def test_a_price_is_found_by_the_exact_name() -> None:
    """The name with its provider comes before the name alone; another name has no price."""
    prices = {"gpt-4o": Price(1, 1), "openai:gpt-4o": Price(2, 2), "azure:gpt-4o": Price(3, 3)}
    assert cost(prices) == pytest.approx(2200 / 1e6)
    assert cost(prices, provider="azure") == pytest.approx(3300 / 1e6)
    assert cost(prices, provider=None) == pytest.approx(1100 / 1e6)
    assert cost(prices, model="gpt-4o-mini") is None
    assert cost(prices, model=None) is None


@pytest.mark.parametrize("model", ["gpt-4o-2024-08-06", "gpt-4o-20240806", "gpt-4o@20240806"])
def test_a_price_is_found_without_the_day_of_a_version(model: str) -> None:
    """What a provider answers as has the price of what was asked, unless that version has one of its own."""
    assert cost({"gpt-4o": Price(1, 1)}, model=model) == pytest.approx(1100 / 1e6)
    assert cost({"gpt-4o": Price(1, 1), model: Price(2, 2)}, model=model) == pytest.approx(2200 / 1e6)
    assert cost({"gpt": Price(1, 1), "gpt-4o-2024": Price(2, 2)}, model=model) is None


def test_what_has_no_count_has_no_cost() -> None:
    """A cost is unknown where the tokens are, the call failed or there is no price; a cache of LangChain is free."""
    for prices in ({"gpt-4o": Price(1, 1)}, "genai-prices"):
        if prices == "genai-prices":
            pytest.importorskip("genai_prices")
        assert cost(prices, input=None) is None
        assert cost(prices, output=None) is None
        assert cost(prices, failed="Outage", input=None, output=None) is None
        assert cost(prices, purpose="cached", input=0, output=0) == 0
    assert cost(None) is None


def test_a_function_tells_prices() -> None:
    """A function gets a record of its own; what it cannot tell is unknown, what is no price is refused."""

    def free(one: UsageRecord) -> float | None:
        one["model"] = "changed"
        return 0.25 if one["node"] == "ask" else None

    given = record()
    assert cost_of(pricing(free), given) == 0.25
    assert given["model"] == "gpt-4o"
    assert cost(free, node="other") is None
    for bad in (-1.0, math.nan, math.inf, "1"):
        with pytest.raises(InvalidRequestError, match="cost"):
            cost(lambda _, bad=bad: bad)  # type: ignore[misc]  # mypy does not know what such a lambda returns


def test_a_function_that_fails_takes_nothing_with_it(caplog: pytest.LogCaptureFixture) -> None:
    """When prices fail, a call that was paid for is recorded without its cost, and one warning says so."""
    saver = InMemorySaver()
    run = running(asking(PaidModel(), saver), UsageLedger(prices=lambda one: 1 / 0))
    run.invoke(INPUT)
    run.invoke(INPUT)
    assert (usage(saver).calls, usage(saver).cost) == (2, None)
    assert ["prices failed" in one.getMessage() for one in caplog.records] == [True]


@pytest.mark.parametrize(
    "prices",
    [
        {"m": Price(-1, 1)},
        {"m": Price(1, math.nan)},
        {"m": Price(1, math.inf)},
        {"m": Price(1, 1, cached=-0.1)},
        {"m": {"input": 1}},
        {"m": {"input": 1, "output": 1, "inptu": 1}},
        {"m": {"input": 1, "output": None}},
        {"m": {"input": True, "output": 1}},
        {"m": 3},
        {3: Price(1, 1)},
        "prices.json",
        7,
    ],
)
def test_prices_that_mean_nothing(prices: Any) -> None:
    """What cannot be a price is refused when the ledger is made, and where usage is asked for."""
    with pytest.raises(InvalidRequestError, match="price"):
        UsageLedger(prices=prices)
    with pytest.raises(InvalidRequestError, match="price"):
        usage(InMemorySaver(), prices=prices)


def test_prices_of_the_package() -> None:
    """`genai-prices` has the prices of known models at the time of the call, by LangChain's names of providers."""
    pytest.importorskip("genai_prices")
    assert cost("genai-prices") == pytest.approx((1000 * 2.5 + 100 * 10) / 1e6)
    assert cost("genai-prices", cached=400) == pytest.approx((600 * 2.5 + 400 * 1.25 + 100 * 10) / 1e6)
    assert cost("genai-prices", model="gemini-2.5-flash", provider="google_genai") == pytest.approx(
        (1000 * 0.3 + 100 * 2.5) / 1e6
    )
    assert cost("genai-prices", model="claude-3-5-haiku-20241022", provider="anthropic", written=1000) == pytest.approx(
        (1000 * 1 + 100 * 4) / 1e6
    )
    assert cost("genai-prices", provider="somebody") is None
    assert cost("genai-prices", model="nobody-1") is None
    assert cost("genai-prices", cached=2000) is None


def test_a_price_is_found_by_what_was_asked_for() -> None:
    """What has no price by the name that the provider answers with has that of the name that was asked for."""
    package = "genai-prices"
    for asked, told in (("gpt-4", "gpt-4-0613"), ("deployment", "gpt-4o-2024-08-06")):
        assert cost({asked: Price(1, 1)}, model=told, asked=asked) == pytest.approx(1100 / 1e6)
        assert cost({asked: Price(1, 1), told: Price(2, 2)}, model=told, asked=asked) == pytest.approx(2200 / 1e6)
        assert cost({"other": Price(1, 1)}, model=told, asked=asked) is None
    pytest.importorskip("genai_prices")
    assert cost(package, model="deployment", asked="gpt-4o") == cost(package, model="gpt-4o", asked="deployment")
    assert cost(package, model="nobody-1", asked="nobody-2") is None


@pytest.mark.parametrize(
    ("provider", "model"), [("mistral", "voxtral-mini-2602"), ("mistral", "mistral-ocr-2512"), ("openai", "whisper-1")]
)
def test_what_is_not_priced_by_tokens_has_no_cost(provider: str, model: str) -> None:
    """A model whose price is by the page or the hour has not cost nothing; one that is free has."""
    pytest.importorskip("genai_prices")
    assert cost("genai-prices", provider=provider, model=model) is None
    assert cost("genai-prices", provider="openrouter", model="deepseek/deepseek-r1:free") == 0


def test_kinds_of_tokens_that_only_the_package_prices() -> None:
    """Tokens that stay in the cache for an hour, and those of sound, have their own prices; the package has them."""
    genai = pytest.importorskip("genai_prices")

    def told(model: str, provider: str, **used: int) -> float:
        found = genai.calc_price(genai.Usage(input_tokens=1000, output_tokens=100, **used), model, provider_id=provider)
        return float(found.total_price)

    claude, sound = ("claude-sonnet-4-5", "anthropic"), ("gpt-audio", "openai")
    one = {"model": claude[0], "provider": claude[1], "written": 900}
    assert cost("genai-prices", **one) == pytest.approx(told(*claude, cache_write_tokens=900))
    hour = told(*claude, cache_write_tokens=900, cache_write_1h_tokens=600)
    assert cost("genai-prices", **one, written_1h=600) == pytest.approx(hour)
    spoken = told(*sound, input_audio_tokens=800, output_audio_tokens=70)
    heard = cost("genai-prices", model=sound[0], provider=sound[1], input_audio=800, output_audio=70)
    assert heard == pytest.approx(spoken)
    assert len({hour, told(*claude, cache_write_tokens=900), told(*claude)}) == 3
    assert spoken > told(*sound)


def test_a_service_tier_has_its_own_price() -> None:
    """What a tier cost is what the package says of that tier; where it knows of none, nobody knows."""
    pytest.importorskip("genai_prices")
    usual, flex, priority = (
        cost("genai-prices", model="gpt-5", tier=tier, time=1.795e9) for tier in (None, "flex", "priority")
    )
    assert usual is not None
    assert flex is not None
    assert priority is not None
    assert flex < usual < priority
    assert cost("genai-prices", model="gpt-4", tier="flex", time=1.795e9) is None
    assert cost({"gpt-4": Price(1, 1)}, model="gpt-4", tier="flex") == pytest.approx(1100 / 1e6)


def test_the_package_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asks for the prices of a package that is not installed is told what to install."""
    monkeypatch.setitem(sys.modules, "genai_prices", None)
    with pytest.raises(InvalidRequestError, match="pip install genai-prices"):
        UsageLedger(prices="genai-prices")


def recorded(message: AIMessage) -> UsageRecord:
    """What a ledger makes of an answer."""
    ledger = UsageLedger()
    handlers: list[BaseCallbackHandler] = [ledger]
    (manager,) = CallbackManager.configure(handlers).on_chat_model_start({}, [[message]])
    manager.on_llm_end(LLMResult(generations=[[ChatGeneration(message=message)]]))
    return ledger.records[0]


def test_usage_as_anthropic_tells_it() -> None:
    """Tokens written to the cache are found under the names of how long they stay there; all are in the input."""
    # As langchain_anthropic has it where Anthropic tells how long; importing that takes longer than all tests here.
    details: Any = {
        "cache_read": 200,
        "cache_creation": 0,
        "ephemeral_5m_input_tokens": 30,
        "ephemeral_1h_input_tokens": 20,
    }
    told = UsageMetadata(input_tokens=260, output_tokens=4, total_tokens=264, input_token_details=details)
    one = recorded(AIMessage("x", usage_metadata=told))
    assert (one["input"], one["output"], one["cached"], one["written"], one["written_1h"]) == (260, 4, 200, 50, 20)
    told["input_token_details"] = {"cache_read": 0, "cache_creation": 50}
    assert recorded(AIMessage("x", usage_metadata=told))["written"] == 50
    told["input_token_details"] = {}
    assert recorded(AIMessage("x", usage_metadata=told))["written"] is None


@pytest.mark.parametrize("tier", [None, "priority", "flex"])
def test_usage_as_openai_tells_it(tier: str | None) -> None:
    """Cached and reasoning tokens are found under the names that a service tier gives them."""
    base = pytest.importorskip("langchain_openai.chat_models.base")
    told = {
        "prompt_tokens": 1000,
        "completion_tokens": 50,
        "total_tokens": 1050,
        "prompt_tokens_details": {"cached_tokens": 384, "audio_tokens": 12},
        "completion_tokens_details": {"reasoning_tokens": 32, "audio_tokens": 3},
    }
    one = recorded(AIMessage("x", usage_metadata=base._create_usage_metadata(told, tier)))
    assert (one["input"], one["output"], one["cached"], one["reasoning"]) == (1000, 50, 384, 32)
    assert (one["input_audio"], one["output_audio"], one["tier"]) == (12, 3, tier)


def test_the_name_that_was_asked_for_is_recorded() -> None:
    """A record has the name that the provider answers with, and the one that was asked for where it is another."""

    class Dated(PaidModel):
        """A model that answers with its version."""

        def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> Any:
            return {**super()._get_ls_params(stop=stop, **kwargs), "ls_model_name": "asked"}

    for told, names in (("asked-0613", ("asked-0613", "asked")), ("asked", ("asked", None))):
        saver = InMemorySaver()
        running(asking(Dated(model_name=told), saver), UsageLedger()).invoke(INPUT)
        (one,) = usage(saver).records
        assert (one["model"], one["asked"]) == names


def test_costs_can_be_told_anew() -> None:
    """With other prices costs are computed again, and what was recorded stays as it was."""
    saver = InMemorySaver()
    run = running(asking(PaidModel(answers=[Answer(100, 10)]), saver), UsageLedger(prices={"paid-1": Price(1, 1)}))
    run.invoke(INPUT)
    assert usage(saver).cost == pytest.approx(110 / 1e6)
    assert usage(saver, prices={"tests:paid-1": Price(2, 10)}).cost == pytest.approx(300 / 1e6)
    assert usage(saver, prices={"other": Price(2, 10)}).cost is None
    assert usage(saver).cost == pytest.approx(110 / 1e6)
