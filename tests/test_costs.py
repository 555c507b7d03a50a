"""The cost of calls: by given prices, or by the list of genai-prices."""

import programs
import pytest

from llmtasker import Prices
from llmtasker.llm.costs import listed_cost
from llmtasker.wire.completion import Usage

USAGE = Usage(input=1_000_000, output=100_000, input_cached=400_000, output_reasoning=50_000)


@pytest.mark.parametrize(
    ("prices", "cost"),
    [
        (Prices(input=2, output=10), 3.0),
        (Prices(input=2, output=10, input_cached=0.5), 2.4),
        (Prices(input=2, output=10, input_cached=0), 2.2),
        (Prices(input=0, output=0), 0.0),
    ],
)
def test_own_prices_are_per_million_tokens(prices, cost):
    assert prices.cost(USAGE) == pytest.approx(cost)
    assert prices.cost(Usage()) == 0.0


def test_an_endpoint_that_counts_more_cached_tokens_than_tokens_costs_no_less_than_nothing():
    odd = Usage(input=10, input_cached=1_000_000)
    assert Prices(input=1, output=1, input_cached=0.1).cost(odd) == pytest.approx(1e-6)
    assert listed_cost("https://api.openai.com/v1", "gpt-4.1-mini")(odd) > 0


def test_listed_prices_are_those_of_the_provider():
    cost = listed_cost("https://api.openai.com/v1", "gpt-4.1-mini")
    # 0.40 and 1.60 dollars per million tokens, 0.10 for cached ones: https://openai.com/api/pricing, April 2025
    assert cost(Usage(input=1_000_000)) == pytest.approx(0.4)
    assert cost(Usage(output=1_000_000)) == pytest.approx(1.6)
    assert cost(Usage(input=1_000_000, input_cached=1_000_000)) == pytest.approx(0.1)
    assert cost(Usage()) == 0.0
    # Reasoning is part of the output, and is not paid twice.
    assert cost(Usage(output=1000, output_reasoning=900)) == cost(Usage(output=1000))


@pytest.mark.parametrize(
    ("endpoint", "model"),
    [
        ("https://api.openai.com/v1", "a-model-that-nobody-has"),
        ("http://localhost:8000/v1", "gpt-4.1-mini"),
        ("http://api.openai.com.example.org/v1", "gpt-4.1-mini"),
        ("fake", "gpt-4.1-mini"),
        ("", ""),
    ],
)
def test_an_unknown_price_is_none_and_never_0(endpoint, model):
    cost = listed_cost(endpoint, model)
    assert cost(USAGE) is None
    assert cost(USAGE) is None
    assert cost(Usage()) is None


def test_without_the_list_all_prices_are_unknown():
    # In a separate process: an import finder without genai_prices.
    program = """
import importlib.abc, sys

class Without(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "genai_prices":
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Without())
import importlib.util
spec = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name == "genai_prices" else spec(name, package)
from llmtasker.wire.completion import Usage
from llmtasker.llm.costs import listed_cost
print(listed_cost("https://api.openai.com/v1", "gpt-4.1-mini")(Usage(input=5)))
"""
    result = programs.run("-c", program, check=True)
    assert result.stdout == "None\n"
