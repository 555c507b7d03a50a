"""Downtime: whether an endpoint is down, and when a single call may probe whether it is back.

up ──failures of several rows, no answer between──▶ down ──pause──▶ one call ──an answer──▶ up
                                                     ▲                  │
                                                     └──── failed ──────┘  (longer pause)
"""

from __future__ import annotations

ROWS, SURE = 4, 2
"""Failures in a row that make an outage: of this many different rows; or of any, if the rows can't be the reason."""
LEAST, SHARE = 1.0, 0.5
"""Seconds between single calls to an endpoint that is down: a share of the length of the outage."""


class Downtime:
    """Counts failures that no answer interrupts; calls are numbered in the order of sending. It has no clock."""

    def __init__(self, now: float) -> None:
        self.since: float | None = None
        self.suspected = False
        """Whether a call has failed since the last response."""
        self._failed_rows = self._failed_surely = 0
        self._probe_at = now
        self._probe: int | None = None
        self._back_at = 0

    def wait(self, now: float) -> float | None:
        """Return the seconds until a call may probe; None: not before the present probe ends."""
        return None if self._probe is not None else self.pause(now)

    def pause(self, now: float) -> float:
        """Return the seconds until the next probe."""
        return max(0.0, self._probe_at - now)

    def sent(self, number: int) -> None:
        """Count a call that leaves while the endpoint is down: it is a probe."""
        self._probe = number

    def ended(self, now: float, number: int) -> None:
        """Count a call that has ended while the endpoint is down, with any result."""
        if number == self._probe and self.since is not None:
            self._probe = None
            self._probe_at = now + max(LEAST, SHARE * (now - self.since))

    def answered(self, latest: int) -> bool:
        """Count a response of any kind; `latest` is the latest call. Return whether it ends an outage."""
        self._failed_rows = self._failed_surely = 0
        self.suspected = False
        if self.since is None:
            return False
        self.since = self._probe = None
        self._back_at = latest
        return True

    def failed(self, now: float, number: int, *, new_row: bool, sure: bool) -> bool:
        """Count a failed call; return whether it begins an outage.

        `new_row`: it was the first call for its row; `sure`: the row can't be the reason.
        """
        if number > self._back_at:  # else it was sent before the last outage ended
            self._failed_rows += new_row
            self._failed_surely += sure
            self.suspected = True
        if self.since is not None or (self._failed_rows < ROWS and self._failed_surely < SURE):
            return False
        self.since, self._probe_at = now, now + LEAST
        return True
