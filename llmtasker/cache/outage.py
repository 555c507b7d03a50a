"""Outage: a store that failed is not used for a while, which doubles; each kind of failure is reported once."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable

from llmtasker.cache.store import CacheWarning

_FIRST, _LONGEST = 10.0, 600.0  # seconds


class Outage:
    """Whether a store is out of use, and until when.

    `tolerated` failures in a row cause no outage: a store may fail for one key and work for the others.
    `clock` is monotonic, in seconds.

    >>> now = 0.0
    >>> outage = Outage("The cache in /tmp/x", clock=lambda: now)
    >>> outage.failed()
    >>> outage.lasts
    True
    >>> now = 11.0
    >>> outage.lasts
    False
    """

    def __init__(self, name: str, *, tolerated: int = 0, clock: Callable[[], float] = time.monotonic) -> None:
        self.name = name
        self._tolerated = tolerated
        self._clock = clock
        self._failures = 0
        self._pause = self._until = 0.0
        self._reported: set[str] = set()

    @property
    def lasts(self) -> bool:
        """Whether the store must not be used now."""
        return self._until > 0.0 and self._clock() < self._until

    def failed(self, *, tolerable: bool = True) -> None:
        """Start an outage if this failure is not tolerated; it lasts twice as long as the previous one."""
        self._failures += 1
        if self._failures > self._tolerated or not tolerable:
            self._pause = min(max(2.0 * self._pause, _FIRST), _LONGEST)
            self._until = self._clock() + self._pause

    def worked(self) -> None:
        """Record that the store works again."""
        self._failures = 0
        self._pause = self._until = 0.0

    def report(self, kind: str, text: str) -> None:
        """Warn about the store, once for each kind."""
        if kind not in self._reported:
            self._reported.add(kind)
            warnings.warn(f"{self.name} {text}", CacheWarning, stacklevel=2)
