"""Bucket: an allowance that fills with time."""

from __future__ import annotations


class Bucket:
    """What is left of an allowance of `rate` per second."""

    def __init__(self, *, rate: float, size: float | None = None, window: float | None = None) -> None:
        self.rate = rate
        self.window = window
        self.size = rate * window if window else max(1.0, rate) if size is None else size
        self.level = self.size
        self._since: float | None = None

    def wait_for(self, cost: float, now: float) -> float:
        """Return the seconds until `cost` is there, 0 if it is; more than fits waits for a full bucket."""
        since = now if self._since is None else self._since
        if self.window:
            started = since + (now - since) // self.window * self.window
            if started > since:
                self.level = self.size
            self._since = started
        else:
            self.level = min(self.size, self.level + (now - since) * self.rate)
            self._since = now
        missing = min(cost, self.size) - self.level
        # A millionth is rounding, not a missing request.
        if missing <= 1e-6:
            return 0.0
        return self._since + self.window - now if self.window else missing / self.rate
