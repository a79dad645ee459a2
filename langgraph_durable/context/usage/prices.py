"""What a model call costs: a number where its price is known, and None, never 0, where it is not.

Nothing is looked up over the network.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from typing import Any, NamedTuple, TypeAlias, cast

from langgraph_durable.context.usage.records import CACHED, UsageRecord
from langgraph_durable.errors import InvalidRequestError

PACKAGE = "genai-prices"

_MILLION = 1_000_000


class Price(NamedTuple):
    """What a million tokens of a model cost. What is not given for tokens of the prompt cache is as for `input`."""

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
    """What a call costs; None where nobody knows, as of one that failed. What a cache of LangChain answers is free."""
    if record["purpose"] == CACHED:
        return 0.0
    if record["failed"] is not None or price is None:
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
        model = record["model"]
        if model is None:
            return None
        # Providers answer with the day of the version that they used, "gpt-4o-2024-08-06" where "gpt-4o" was asked.
        for name in dict.fromkeys((model, _DATED.sub("", model))):
            price = prices.get(f"{record['provider']}:{name}") or prices.get(name)
            if price is not None:
                return price.of(record)
        return None

    return cost


def _by_package() -> Pricing:
    """Prices of the package of that name, as they were at the time of the call and are known to that release of it."""
    try:
        from genai_prices import Usage, calc_price
    except ImportError as error:
        raise InvalidRequestError(
            f'prices="{PACKAGE}" needs the package of that name: pip install {PACKAGE}'
        ) from error

    def cost(record: UsageRecord) -> float | None:
        if record["model"] is None or record["input"] is None or record["output"] is None:
            return None
        usage = Usage(
            input_tokens=record["input"],
            output_tokens=record["output"],
            cache_read_tokens=record["cached"] or None,
            cache_write_tokens=record["written"] or None,
        )
        try:
            found = calc_price(
                usage,
                record["model"],
                provider_id=record["provider"],
                genai_request_timestamp=datetime.fromtimestamp(record["time"], timezone.utc),
            )
        except (LookupError, ValueError):
            # It does not know the model, or takes these numbers for impossible.
            return None
        return float(found.total_price)

    return cost
