"""What a model call costs: a number where its price is known, and None, never 0, where it is not.

Nothing is looked up over the network.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, cast

from langgraph_durable.context.usage.records import CACHED, UsageRecord
from langgraph_durable.errors import InvalidRequestError

if TYPE_CHECKING:
    from genai_prices.types import PriceCalculation

PACKAGE = "genai-prices"

_MILLION = 1_000_000

_KINDS = {
    "cache_read_tokens": "cached",
    "cache_write_tokens": "written",
    "cache_write_1h_tokens": "written_1h",
    "input_audio_tokens": "input_audio",
    "output_audio_tokens": "output_audio",
}
"""Kinds of tokens that the package may have a price of their own for, and the fields of a record with their number."""


class Price(NamedTuple):
    """What a million tokens of a model cost. What is not given for tokens of the prompt cache is as for `input`.

    It is the same for tokens of every kind that is not here, and in every service tier.
    """

    input: float
    output: float
    cached: float | None = None
    written: float | None = None

    def of(self, record: UsageRecord) -> float | None:
        """What a call costs at this price; None where it was not told how many tokens it used."""
        if record["input"] is None or record["output"] is None:
            return None
        cached, written = record["cached"] or 0, record["written"] or 0
        fresh = max(0, record["input"] - cached - written)
        read = self.input if self.cached is None else self.cached
        wrote = self.input if self.written is None else self.written
        parts = (fresh * self.input, cached * read, written * wrote, record["output"] * self.output)
        return math.fsum(parts) / _MILLION


Pricing: TypeAlias = Callable[[UsageRecord], float | None]
"""What a call costs, by its record."""

Prices: TypeAlias = "Mapping[str, Price | Mapping[str, float]] | Pricing | str | None"
"""What `prices` may be."""


def pricing(prices: Prices) -> Pricing | None:
    """The function that tells the cost of a call; None where there are no prices. InvalidRequestError for bad ones."""
    if prices is None:
        return None
    if prices == PACKAGE:
        return _by_package()
    if isinstance(prices, Mapping):
        return _by_name({name: _price(name, given) for name, given in prices.items()})
    if callable(prices):
        return prices
    raise InvalidRequestError(
        f'prices is a dict of Price by the name of the model, a function of a record, or "{PACKAGE}", '
        f"and not {prices!r}"
    )


_DATED = re.compile(r"[-@](?:20\d\d-\d\d-\d\d|20\d{6})$")


def cost_of(price: Pricing | None, record: UsageRecord) -> float | None:
    """What a call costs; None where nobody knows, as of one that failed and does not tell what it has used.

    What a cache of LangChain answers is free.
    """
    if record["purpose"] == CACHED:
        return 0.0
    if price is None or (record["failed"] is not None and record["input"] is None):
        return None
    cost = price(cast(UsageRecord, dict(record)))
    return None if cost is None else checked(cost, "the cost of a call")


def checked(number: Any, what: str) -> float:
    """A number that may be a price or a limit. InvalidRequestError for any other."""
    try:
        value = math.nan if isinstance(number, (bool, str, bytes)) else float(number)
    except (TypeError, ValueError, OverflowError):
        value = math.nan
    if not math.isfinite(value) or value < 0:
        raise InvalidRequestError(f"{what} has to be a number that is not negative, and it is {number!r}")
    return value


def _price(name: str, given: Any) -> Price:
    if not isinstance(name, str):
        raise InvalidRequestError(f"prices are by the name of a model, and {name!r} is none")
    numbers = given._asdict() if isinstance(given, Price) else given
    if not isinstance(numbers, Mapping) or not {"input", "output"} <= set(numbers) <= set(Price._fields):
        raise InvalidRequestError(
            f"the price of {name!r} has to be a Price, or a dict with input, output and perhaps cached and written, "
            f"and it is {given!r}"
        )
    known = {key: number for key, number in numbers.items() if number is not None or key in ("input", "output")}
    return Price(**{key: checked(number, f"the price of {name!r} ({key})") for key, number in known.items()})


def _by_name(prices: Mapping[str, Price]) -> Pricing:
    def cost(record: UsageRecord) -> float | None:
        for name in _names(record):
            price = prices.get(f"{record['provider']}:{name}") or prices.get(name)
            if price is not None:
                return price.of(record)
        return None

    return cost


def _names(record: UsageRecord) -> list[str]:
    """What a model may be called in prices: as it answered before what was asked for, and first as it is.

    Providers answer with the version that they used, "gpt-4o-2024-08-06" where "gpt-4o" was asked.
    """
    told = [name for name in (record["model"], record["asked"]) if name is not None]
    return list(dict.fromkeys(name for one in told for name in (one, _DATED.sub("", one))))


def _by_package() -> Pricing:
    """Prices of the package of that name, as they were at the time of the call and are known to that release of it."""
    try:
        from genai_prices import Usage, calc_price
    except ImportError as error:
        raise InvalidRequestError(
            f'prices="{PACKAGE}" needs the package of that name: pip install {PACKAGE}'
        ) from error

    def cost(record: UsageRecord) -> float | None:
        if record["input"] is None or record["output"] is None:
            return None
        counts = cast("Mapping[str, int | None]", record)
        used = {name: counts[field] for name, field in _KINDS.items() if counts[field]}
        begun = datetime.fromtimestamp(record["time"], timezone.utc)
        for name in _names(record):
            try:
                usage = Usage(input_tokens=record["input"], output_tokens=record["output"], **used)
                find = partial(calc_price, usage, name, provider_id=record["provider"], genai_request_timestamp=begun)
                found = find()
                if record["tier"] is not None:
                    usual, found = found, find(price_context={"service_tier": record["tier"]})
                    if vars(found.model_price) == vars(usual.model_price):
                        return None
            except LookupError:
                continue  # it does not know the model by this name
            except (TypeError, ValueError):
                return None  # a release that does not know these kinds of tokens, or takes the numbers for impossible
            return float(found.total_price) if _has_price(found) else None
        return None

    return cost


def _has_price(found: PriceCalculation) -> bool:
    """Whether tokens have a price: where not, pages or hours have, and that tokens add up to 0 means nothing."""
    price = vars(found.model_price)
    return any(price.get(f"{way}_mtok") is not None for way in ("input", "output")) or found.model.id.endswith(":free")
