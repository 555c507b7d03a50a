"""Vectors: compare texts by the user's embedding function."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from operator import mul
from typing import Any

from llmtasker.errors import ConfigurationError, snippet

Embed = Callable[[list[str]], Iterable[Iterable[float]]]
"""Texts → one vector of numbers for each, all of the same length."""


def check_embed(embed: object) -> None:
    """Check that an argument is an embedding function; None: it is not given.

    Raises:
        ConfigurationError: it is something else.
    """
    if embed is not None and not callable(embed):
        raise ConfigurationError(f"embed is a function from texts to vectors, not {snippet(repr(embed), 60)}.")


def unit_vectors(embed: Embed, texts: Sequence[str]) -> list[list[float]]:
    """Return the vector of each text, brought to unit length.

    Raises:
        ConfigurationError: the function raises, or does not return a vector of numbers for each text.
    """
    try:
        found: list[Any] = [[float(value) for value in vector] for vector in embed(list(texts))]
    except Exception as error:  # noqa: BLE001 - the function is the user's
        raise ConfigurationError(f"embed raised {type(error).__name__}: {snippet(error)}") from None
    if len(found) != len(texts) or len({len(vector) for vector in found}) > 1:
        raise ConfigurationError(
            f"embed returned {len(found):,} vectors for {len(texts):,} texts: it must return one for each, all of one "
            "length."
        )
    return [_unit_vector(vector) for vector in found]


def cosines(vector: Sequence[float], others: Iterable[Sequence[float]]) -> list[float]:
    """Return the cosine of a unit vector with each of the others.

    Raises:
        ConfigurationError: their lengths differ.
    """
    found = list[float]()
    for other in others:
        if len(other) != len(vector):
            raise ConfigurationError(
                f"embed returned a vector of {len(vector)} numbers, and before one of {len(other)}."
            )
        found.append(sum(map(mul, vector, other)))
    return found


def _unit_vector(vector: list[float]) -> list[float]:
    length = math.sqrt(sum(map(mul, vector, vector)))
    if not math.isfinite(length):
        raise ConfigurationError("embed returned a vector with NaN or infinity.")
    return [value / length for value in vector] if length else vector
