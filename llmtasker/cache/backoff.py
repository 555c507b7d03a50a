"""Backoff: a store that failed is not used for a while, which doubles; each kind of failure is reported once."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable

from llmtasker.cache.store import CacheWarning

_FIRST, _LONGEST = 10.0, 600.0  # seconds


class Backoff:
    """Whether a store is left alone after a failure, and until when.

    `tolerated` failures in a row have no consequence: a store may fail for one key and work for the others.
    No pause is longer than `longest` seconds. `clock` is monotonic, in seconds.

    >>> now = 0.0
    >>> backoff = Backoff("The cache in /tmp/x", clock=lambda: now)
    >>> backoff.failed()
    >>> backoff.lasts
    True
    >>> now = 11.0
    >>> backoff.lasts
    False
    """

    def __init__(
        self,
        name: str,
        *,
        tolerated: int = 0,
        longest: float = _LONGEST,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.failures = 0
        """How many failures there were since the store last worked."""
        self._tolerated = tolerated
        self._longest = longest
        self._clock = clock
        self._pause = self._until = 0.0
        self._reported: set[str] = set()

    @property
    def lasts(self) -> bool:
        """Whether the store must not be used now."""
        return self._until > 0.0 and self._clock() < self._until

    @property
    def over(self) -> bool:
        """Whether a pause is over, and the store has not worked since."""
        return 0.0 < self._until <= self._clock()

    def failed(self, *, tolerable: bool = True) -> None:
        """Start a pause if this failure is not tolerated; it lasts twice as long as the previous one."""
        self.failures += 1
        if self.failures > self._tolerated or not tolerable:
            self._pause = min(max(2.0 * self._pause, _FIRST), self._longest)
            self._until = self._clock() + self._pause

    def worked(self) -> None:
        """Record that the store works again."""
        self.failures = 0
        self._pause = self._until = 0.0

    def report(self, kind: str, text: str) -> None:
        """Warn about the store, once for each kind."""
        if kind not in self._reported:
            self._reported.add(kind)
            warnings.warn(f"{self.name} {text}", CacheWarning, stacklevel=2)
