"""LimitEvidence: whether refusals are due to a rate limit, or scattered among answers by a busy endpoint.

| refusals | what they look like | what is done |
|---|---|---|
| of a limit, while no rate is known | most calls after the first one are refused | a rate is guessed |
| of a limit, at a learned rate | a call sent at once after a refusal is refused too: nothing is left | slower |
| scattered | a few in a hundred, at any rate; a call sent at once after one is answered | only these calls wait |
"""

from __future__ import annotations

import math
from bisect import insort

BUSY, LIMITED = 0.06, 0.2
"""The share of calls that a busy endpoint may refuse at any rate, and the least that an exceeded limit refuses."""
IN_A_ROW, EARLY, EARLY_IN_A_ROW = 8, 64, 6
"""Calls refused one after the other that show a limit (more, if some are answered between), and the number of them
among the first calls, where chance has had less time."""
KEPT = 32
"""The latest refusals that are considered."""
TRUSTED = 4
"""Refusals at a learned rate that count without a test, until the first test; after each test, twice as many."""
TESTS = 5
"""Calls of a test; most of them decide."""
UNDECIDED = 20
"""Calls after which another test is made, because calls of the test failed or are not answered yet."""
ACQUITTALS = 2
"""Tests one after the other, without another result between, that show that the learned rate is not the reason."""

_REFUSED, _ANSWERED = math.log(LIMITED / BUSY), math.log((1 - BUSY) / (1 - LIMITED))


class LimitEvidence:
    """Judges refusals by the numbers of their calls, in the order in which these were sent; without a clock."""

    def __init__(self) -> None:
        self._refused: list[int] = []
        self._trusted = self._trust = TRUSTED
        self._acquitted = 0
        self._first: int | None = None  # number of the first call of a test that is under way
        self._for, self._against = 0, 0

    def restart(self) -> None:
        """Forget the refusals so far: they have been acted upon."""
        self._refused.clear()
        self._first = None

    def distrust(self) -> None:
        """Test the next refusal: the rate was learned by another process."""
        self._trusted = 0

    def trust_more(self) -> None:
        """Count more refusals without a test than before: a test showed a limit, or another was wrong."""
        self._trust *= 2
        self._trusted = self._trust

    def shows_limit(self, number: int) -> bool:
        """Count a refused call while no rate is known; return whether a limit is the reason.

        This is a CUSUM test (Page 1954) of one share of refused calls against another. The order is that of sending,
        because a refusal arrives sooner than the answers to the calls before it.
        """
        insort(self._refused, number)
        del self._refused[:-KEPT]
        score, last = 0.0, self._refused[0]
        for refused in self._refused:
            score = max(0.0, score - _ANSWERED * (refused - last - 1)) + _REFUSED
            if score > ((EARLY_IN_A_ROW if refused <= EARLY else IN_A_ROW) - 0.5) * _REFUSED:
                return True
            last = refused
        return False

    def counts(self, number: int, sent: int) -> bool | None:
        """Return whether a learned rate caused a refusal; None: unknown, so TESTS calls should be sent now.

        `sent` is the number of the latest call.
        """
        if self._first is not None and number < self._first + UNDECIDED:
            if not self._first <= number < self._first + TESTS:
                return False
            self._against += 1
            if self._against <= TESTS // 2:
                return False
            self._first, self._acquitted = None, 0
            self.trust_more()
            return True
        if self._trusted > 0:
            self._trusted -= 1
            return True
        self._first, self._for, self._against = sent + 1, 0, 0
        return None

    def acquits(self, number: int) -> bool:
        """Count an answered call; return whether it shows that the refusals do not depend on the learned rate."""
        if self._first is None or not self._first <= number < self._first + TESTS:
            return False
        self._for += 1
        if self._for <= TESTS // 2:
            return False
        self._first = None
        self._acquitted += 1
        if self._acquitted < ACQUITTALS:
            return False
        self._acquitted = 0
        return True
