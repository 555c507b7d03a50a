"""Clock: seconds since 1970 that a test moves on."""


class Clock:
    """Seconds that pass only when a test adds them to `now`."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now
