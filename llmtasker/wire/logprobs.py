"""The probabilities of the first token of an answer, in whatever dialect they were sent."""

from __future__ import annotations

import math
from typing import Any

from llmtasker.values.json_values import is_array, is_object

Alternatives = tuple[tuple[str, float], ...]
"""Tokens that could have come first, each with the natural logarithm of its probability, the most probable first."""


def first_alternatives(choice: dict[Any, Any]) -> Alternatives:
    """Return the alternatives of the first token; empty if the endpoint gives none.

    Chat Completions (OpenAI, vLLM, llama.cpp) have `logprobs.content[0].top_logprobs`, a list; the older Completions
    have `logprobs.top_logprobs[0]`, an object; llama.cpp's own form is `completion_probabilities[0].top_logprobs`, and
    after sampling it has `top_probs` there, with `prob`.
    """
    logprobs = choice.get("logprobs")
    places: Any = logprobs.get("content") or logprobs.get("top_logprobs") if is_object(logprobs) else None
    first = next(iter(places), None) if is_array(places or (places := choice.get("completion_probabilities"))) else None
    if not is_object(first):
        return ()
    top: Any = first.get("top_logprobs") or first.get("top_probs") or ([first] if "logprob" in first else first)
    pairs: list[tuple[Any, Any]]
    if is_object(top):
        pairs = list(top.items())
    else:
        pairs = [(one.get("token"), _logprob(one)) for one in top if is_object(one)] if is_array(top) else []
    read = [(token, float(value)) for token, value in pairs if isinstance(token, str) and type(value) in (int, float)]
    return tuple(sorted((pair for pair in read if math.isfinite(pair[1])), key=lambda pair: -pair[1]))


def _logprob(alternative: dict[str, Any]) -> Any:
    probability: Any = alternative.get("prob")
    if type(probability) in (int, float):
        return math.log(probability) if probability > 0 else None
    return alternative.get("logprob")
