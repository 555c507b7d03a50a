"""The cost of a call: its tokens, and their price from the user or from the offline list of genai-prices."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

from llmtasker.errors import ConfigurationError, counted
from llmtasker.values.argument_checks import by_name, is_number
from llmtasker.wire.completion import Usage


@by_name()
@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """The user's own prices, in US dollars (or any one currency) per million tokens.

    `input_cached` is the price of input tokens that the endpoint had in its cache; None: same as `input`.

    Raises:
        ConfigurationError: a price is not a number of at least 0.

    >>> Prices(input=0.40, output=1.60).cost(Usage(input=1000, output=100))
    0.00056
    """

    input: float
    output: float
    input_cached: float | None = None

    def __post_init__(self) -> None:
        for name in ("input", "output", "input_cached"):
            value = getattr(self, name)
            if not (is_number(value) and 0 <= value < math.inf) and not (value is None and name == "input_cached"):
                raise ConfigurationError(f"Prices: {name} must be a number of at least 0, not {value!r}.")

    def cost(self, usage: Usage) -> float:
        """Return the cost of a usage."""
        cached = self.input if self.input_cached is None else self.input_cached
        read_from_cache = min(usage.input_cached, usage.input)
        fresh = usage.input - read_from_cache
        return (fresh * self.input + read_from_cache * cached + usage.output * self.output) / 1e6


def listed_cost(endpoint: str, model: str) -> Callable[[Usage], float | None]:
    """Return a function from tokens to US dollars, by the genai-prices list; it returns None if the price is unknown.

    A model is looked up at the provider of this endpoint, never by its name alone: a model on your own
    server has no listed price. Without the extra `[prices]` all prices are unknown.
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


_CHARACTERS_PER_TOKEN = 4.0  # the usual figure for English prose, until a call is counted
_MOST_PER_CHARACTER = 0.5
_OUTPUT, _MOST_OUTPUT = 60, 1024  # tokens, until a call is counted
_MARGIN = 1.25  # above the highest count so far


class TokenMeter:
    """Predicts the tokens of a request from its length as JSON text, learned from the usage that the endpoint reports.

    Threads may share it.

    >>> meter = TokenMeter()
    >>> meter.record(400, Usage(input=80, output=10))
    >>> meter.expected(800)
    Usage(input=160, output=10, input_cached=0, output_reasoning=0)
    """

    def __init__(self) -> None:
        self.calls = 0
        self._characters = self._input = self._output = self._rows = 0
        self._most_per_character = self._most_output = 0.0
        self._lock = threading.Lock()

    def record(self, characters: int, usage: Usage, rows: int = 1) -> None:
        """Record the usage that the endpoint reported for a request of this length with `rows` rows."""
        with self._lock:
            self.calls += 1
            self._rows += rows
            self._characters += characters
            self._input += usage.input
            self._output += usage.output
            self._most_per_character = max(self._most_per_character, usage.input / max(1, characters))
            self._most_output = max(self._most_output, usage.output)

    @property
    def characters_per_token(self) -> float:
        """Characters of the request per input token, on average."""
        return self._characters / self._input if self._input else _CHARACTERS_PER_TOKEN

    def output_of(self, rows: int, names: int = 0) -> int:
        """Return the expected output tokens of the answers to `rows` rows.

        `names` is the number of characters that groups add to the answers; what was counted may have them already.
        """
        if self._rows:
            return round(self._output / self._rows * rows)
        return round(_OUTPUT * rows + names / _CHARACTERS_PER_TOKEN)

    def expected(self, characters: int) -> Usage:
        """Return the expected usage of a request of this length."""
        output = self._output / self.calls if self.calls else _OUTPUT
        return Usage(input=round(characters / self.characters_per_token), output=round(output))

    def at_most(self, characters: int, max_output: int | None) -> Usage:
        """Return the highest usage of a request of this length; `max_output` is the token limit that it sends."""
        per_character = self._most_per_character * _MARGIN or _MOST_PER_CHARACTER
        output = self._most_output * _MARGIN * (1 + 1 / self.calls) if self.calls else _MOST_OUTPUT
        return Usage(input=round(characters * per_character) + 1, output=max_output or round(output) + 1)

    def __str__(self) -> str:
        ratio = f"{self.characters_per_token:.1f} characters per token"
        if not self.calls:
            return f"{ratio}, a rule of thumb: no call to this LLM has been counted yet"
        answer = f"{self._output / self.calls:.0f} tokens per answer"
        return f"{ratio} and {answer}, as counted by the endpoint in {counted(self.calls, 'call')}"
