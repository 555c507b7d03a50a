"""Row: one input in progress, with its cost so far."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import NamedTuple

from llmtasker.errors import ItemError, RateLimitError, TransientError
from llmtasker.signature.signature import Inputs
from llmtasker.wire.completion import NO_USAGE, Completion, Usage
from llmtasker.wire.request import Request


def usage_of(error: ItemError) -> Usage | None:
    """Return the tokens of a call that failed, if the endpoint reported them."""
    counts: dict[str, int] | None = error.details.get("usage")
    return None if counts is None else Usage(**counts)


def may_be_paid(error: ItemError) -> bool:
    """Return whether a call that failed may still have been answered, and paid for."""
    return isinstance(error, TransientError) and not isinstance(error, RateLimitError)


@dataclass(slots=True, kw_only=True)
class Spent:
    """The cost of one item so far, and its last answer.

    `calls` counts all calls that included the item; `share` counts only the item's part of calls for a group. `places`
    are those of its inputs in the generator that asks; None: all of them.
    """

    calls: int = 0
    share: float = 0.0
    answers: int = 0
    usage: Usage = NO_USAGE
    counted: bool = True
    started: float | None = None
    completion: Completion | None = None
    places: tuple[int, ...] | None = None

    def answered(self, completion: Completion) -> None:
        """Count an answer."""
        self.answers += 1
        self.completion = completion
        usage = completion.usage
        if usage is None:
            self.counted = False
        else:
            self.usage = usage if self.usage is NO_USAGE else self.usage + usage

    def failed(self, error: ItemError) -> None:
        """Count the cost of a failed call, as far as it is known."""
        if (usage := usage_of(error)) is not None:
            self.usage += usage
        elif may_be_paid(error):
            self.counted = False


@dataclass(slots=True, kw_only=True)
class Row:
    """One input in progress: the value given, its first request and the key of that, and the cost so far."""

    given: object
    inputs: Inputs
    request: Request
    key: str
    spent: Spent = field(default_factory=Spent)

    def sample(self, number: int) -> Row:
        """Return the row of one of several equal requests, from 0, which cache and single flight keep apart."""
        if not number:
            return self
        key = sha256(f"{self.key} sample {number}".encode()).hexdigest()
        return replace(self, key=key, spent=Spent())


class Outcome(NamedTuple):
    """The result for a key: a valid answer, or an error and possibly the answer that caused it."""

    completion: Completion | None
    error: ItemError | None = None
