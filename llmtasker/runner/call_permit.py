"""CallPermit: what one call needs before it is sent, and gives back after it."""

from __future__ import annotations

from dataclasses import dataclass

from llmtasker.errors import (
    BadResponseError,
    CallTimeoutError,
    ItemError,
    NetworkError,
    RateLimitError,
    ServerError,
    snippet,
)
from llmtasker.llm.costs import TokenMeter
from llmtasker.llm.rate_limiter import Permit
from llmtasker.llm.schema_trials import SchemaProbe
from llmtasker.runner.budget import Reservation
from llmtasker.runner.row import may_be_paid, usage_of
from llmtasker.wire.completion import NO_USAGE, Completion

_UNAVAILABLE = frozenset({502, 503, 504, 520, 521, 522, 523, 524, 529})  # of a gateway, regardless of the row


@dataclass(slots=True)
class CallPermit:
    """What a call needs before it starts: a permit of the rate limiter, perhaps a probe, and a share of a budget."""

    tokens: TokenMeter
    length: int
    permit: Permit
    probe: SchemaProbe | None
    share: Reservation | None = None
    sent: bool = False

    def leave(self) -> None:
        if self.probe is not None:
            self.probe.leave()

    def done(self, completion: Completion, rows: int) -> None:
        usage = completion.usage
        if usage is not None:
            self.tokens.record(self.length, usage, rows)
        if self.share is not None:
            self.share.settle(usage, len(completion.raw))
        self.permit.done(None if usage is None else usage.input + usage.output, completion.limits)

    def failed(self, error: ItemError, *, wait: float | None, pause: bool, new_row: bool) -> None:
        """End a call that failed: after a refusal all calls wait, and if `pause`, in an outage too."""
        if isinstance(error, RateLimitError):
            self.permit.refused(wait, snippet(error))
        elif isinstance(error, CallTimeoutError | ServerError | NetworkError):
            sure = isinstance(error, NetworkError) or error.status in _UNAVAILABLE
            self.permit.failed(overload=True, new_row=pause and new_row, sure=pause and sure, reason=snippet(error))
        elif isinstance(error, BadResponseError):
            self.permit.cancel()
        else:
            self.permit.failed()
        if self.share is not None:
            self.share.settle(None if may_be_paid(error) else usage_of(error) or NO_USAGE)

    def cancel(self) -> None:
        self.leave()
        self.permit.cancel()
        if self.share is not None:
            # A call that was cancelled in flight may still be paid for.
            if self.sent:
                self.share.settle(None)
            else:
                self.share.cancel()
