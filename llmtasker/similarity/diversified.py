"""diversified: choose things with high scores that are unlike those chosen before."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping


def diversified(
    scores: Mapping[int, float],
    likeness: Callable[[int, int], float],
    count: int,
    *,
    repeated: Mapping[int, float] | None = None,
    most: float = math.inf,
) -> list[int]:
    """Return at most `count` of the keys, best first; a score counts less the more similar a chosen one is.

    Scores and similarities are from 0 to 1. `repeated` is how similar each is to what is already known; things that are
    similar by `most` or more are not taken.

    >>> diversified({1: 0.9, 2: 0.8, 3: 0.5}, lambda one, other: 1.0 if one + other == 3 else 0.0, 2)
    [1, 3]
    """
    left = {key: (repeated or {}).get(key, 0.0) for key in scores}
    taken = list[int]()
    while len(taken) < count:
        left = {key: alike for key, alike in left.items() if alike < most}
        if not left:
            break
        chosen = max(left, key=lambda key: scores[key] - left[key])
        del left[chosen]
        taken.append(chosen)
        for key, alike in left.items():
            left[key] = max(alike, likeness(key, chosen))
    return taken
