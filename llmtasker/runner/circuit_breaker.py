"""CircuitBreaker: stops a run that can't succeed."""

from __future__ import annotations

import re

from llmtasker.errors import (
    AuthenticationError,
    BadResponseError,
    CallError,
    ContextLengthError,
    NetworkError,
    NotFoundError,
    NotRunError,
    RateLimitError,
    RejectedError,
)

_SCHEMA = 3  # equal failures in a row that open it if they are about the schema, which all rows share
_SURE = 5  # equal failures in a row, without an answer between, that open it if the rows can't be the reason
_LIKELY = 16  # … and if they might be


class CircuitBreaker:
    """Stops a run that can't succeed: wrong key, unknown model, or no request of this kind is accepted.

    It opens after several calls in a row that failed in the same way, and stays open; every row after that gets its
    `error`, without a call.

    | failure | failures in a row that open it |
    |---|---|
    | of the key, the account, the model (401, 402, 403, 404) | 5 |
    | no connection, or responses that are not an LLM's; only before the first answer | 5 |
    | a rate limit with a longer wait than `Retry` allows | 5 |
    | a schema that the endpoint refuses in every form | 3 |
    | inputs that are too long; only before the first answer | 16 |
    | any other rejection (4xx) | 16 |
    | any that lasted as long as `Retry` allows | 1 |
    """

    def __init__(self) -> None:
        self.open = False
        self.error: NotRunError | None = None
        self._last: tuple[type[CallError], str] | None = None
        self._count = 0
        self._answered = False

    def answered(self) -> None:
        """Count an answer; the failures before it affected single rows only."""
        self._answered, self._count = True, 0

    def failed(self, error: CallError, *, rows: int = 1, lasted: bool = False, sure: bool = False) -> None:
        """Count a call for `rows` rows that failed for good; `lasted`: after the longest wait for the endpoint.

        `sure` means that the error is about the schema, so the rows can't be the reason.

        A call for several rows does not count if the rows may be the reason: each of them is asked again alone.
        """
        most = 1 if lasted else _SCHEMA if sure else self._most(error)
        if most is None or self.open or (rows > 1 and most == _LIKELY):
            return
        alike = type(error), _gist(error.message)
        self._count = self._count + 1 if alike == self._last else 1
        self._last = alike
        if self._count >= most:
            calls = "the endpoint did not recover" if lasted else f"{self._count} calls in a row failed in the same way"
            self.error = NotRunError(f"not asked: {calls}: {error.message}")
            self.open = True

    def _most(self, error: CallError) -> int | None:
        """Return how many such failures in a row open it; None: they affect single rows."""
        if isinstance(error, AuthenticationError | NotFoundError | RateLimitError):
            return _SURE
        if isinstance(error, BadResponseError | NetworkError):
            # These were retried: after a first answer, they don't indicate a wrong configuration.
            return None if self._answered else _SURE
        if isinstance(error, ContextLengthError) and self._answered:
            return None
        return _LIKELY if isinstance(error, RejectedError) else None


def _gist(message: str) -> str:
    """Return the part that equal refusals share: many endpoints include a time or a request id."""
    return re.sub(r"\S*\d\S*", "", message)
