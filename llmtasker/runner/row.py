"""Row: one input on its way to an Item, with what it has cost so far."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from llmtasker.errors import ItemError, RateLimitError, TransientError
from llmtasker.signature import Inputs
from llmtasker.wire.completion import NO_USAGE, Completion, Usage
from llmtasker.wire.request import Request


def usage_of(error: ItemError) -> Usage | None:
    """Return the tokens of a call that failed, where the endpoint counted them."""
    counts: dict[str, int] | None = error.details.get("usage")
    return None if counts is None else Usage(**counts)


def may_be_paid(error: ItemError) -> bool:
    """Return whether a call that failed may have been answered, and paid for, all the same."""
    return isinstance(error, TransientError) and not isinstance(error, RateLimitError)


@dataclass(slots=True, kw_only=True)
class Spent:
    """What one item has cost so far, and the last answer to it.

    `calls` counts all calls that the item took part in; `share` counts of those for a group only the item's part.
    """

    calls: int = 0
    share: float = 0.0
    answers: int = 0
    usage: Usage = NO_USAGE
    counted: bool = True
    started: float | None = None
    completion: Completion | None = None

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
        """Count what a failed call has cost, as far as it is known."""
        if (usage := usage_of(error)) is not None:
            self.usage += usage
        elif may_be_paid(error):
            self.counted = False


@dataclass(slots=True, kw_only=True)
class Row:
    """One input on its way: what was given, the request that is sent first and its key, and the cost so far."""

    given: object
    inputs: Inputs
    request: Request
    key: str
    spent: Spent = field(default_factory=Spent)


class Outcome(NamedTuple):
    """The result for a key: an answer that was accepted, or an error and perhaps the answer that caused it."""

    completion: Completion | None
    error: ItemError | None = None
