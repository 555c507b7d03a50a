"""What a call costs: by own prices, or by the price list of genai-prices, which is read offline."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

from llmtasker.wire.completion import Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """Own prices, in US dollars (or any one currency) per million tokens.

    `input_cached` is the price of input tokens that the endpoint had in its cache; None: as `input`.

    >>> Prices(input=0.40, output=1.60).cost(Usage(input=1000, output=100))
    0.00056
    """

    input: float
    output: float
    input_cached: float | None = None

    def cost(self, usage: Usage) -> float:
        """Return what some tokens cost."""
        cached = self.input if self.input_cached is None else self.input_cached
        read_from_cache = min(usage.input_cached, usage.input)
        fresh = usage.input - read_from_cache
        return (fresh * self.input + read_from_cache * cached + usage.output * self.output) / 1e6


def listed_cost(endpoint: str, model: str) -> Callable[[Usage], float | None]:
    """Return what turns tokens into US dollars by the list of genai-prices: None where the price is unknown.

    A model is looked up at the provider that has this endpoint, never by its name alone: a model that
    somebody serves himself has no listed price. Without the extra `[prices]` all prices are unknown.
    """
    if find_spec("genai_prices") is None:
        return lambda usage: None
    unknown = False

    def cost(usage: Usage) -> float | None:
        nonlocal unknown
        if unknown:
            return None
        import genai_prices

        counts = genai_prices.Usage(
            input_tokens=usage.input,
            output_tokens=usage.output,
            cache_read_tokens=min(usage.input_cached, usage.input),
        )
        try:
            return float(genai_prices.calc_price(counts, model, provider_api_url=endpoint).total_price)
        except LookupError:
            unknown = True
            return None

    return cost
