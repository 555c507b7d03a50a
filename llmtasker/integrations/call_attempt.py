"""CallAttempt: a call among those of its row: the first, a retry, or asked again because of its answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from llmtasker.errors import OutputError
from llmtasker.item import Item
from llmtasker.runner.events import Event

Cause = Literal["retry", "asked_again"]
"""Why a call was made after another one of its row: that call failed, or its answer was not accepted."""


class CallAttempt(NamedTuple):
    """A call within its row: its number, why it was made, whether its answer was rejected, and its cost."""

    number: int = 1
    cause: Cause | None = None
    is_rejected: bool = False
    cost: float | None = None


def attempts_of(calls: Sequence[Event], item: Item[Any]) -> list[CallAttempt]:
    """Return the attempt of each call of a row, in order.

    A row of a pipeline has calls of several steps, and each step has a first call. The cost is known only of a call
    that was the only one.
    """
    if len(calls) == 1:
        (only,) = calls
        alone = len(only.rows) == 1
        rejected = alone and only.error is None and isinstance(item.error, OutputError)
        return [CallAttempt(is_rejected=rejected, cost=item.cost if alone and only.error is None else None)]
    causes: list[Cause | None] = []
    rejected_calls: set[int] = set()
    for number, call in enumerate(calls):
        before = next((other for other in range(number - 1, -1, -1) if _is_for_the_same(calls[other], call)), None)
        if before is None:
            causes.append(None)
        elif calls[before].error is not None:
            causes.append("retry")
        elif _is_longer(calls[before], call):
            causes.append("asked_again")
            rejected_calls.add(before)
        else:
            causes.append(None)  # such as several answers to one question
    if isinstance(item.error, OutputError) and calls[-1].error is None:
        rejected_calls.add(len(calls) - 1)
    return [
        CallAttempt(number + 1, cause, is_rejected=number in rejected_calls and len(calls[number].rows) == 1)
        for number, cause in enumerate(causes)
    ]


def _is_for_the_same(before: Event, call: Event) -> bool:
    """Return whether two calls were about the same input: alone after a group, or with the same first own message."""
    if len(before.rows) > 1:
        return True
    if before.request is None or call.request is None:
        return before.request is call.request
    return bool(before.request.tail[0] == call.request.tail[0])


def _is_longer(before: Event, call: Event) -> bool:
    """Return whether a call adds the reason for a rejection to the one before, or is about fewer rows."""
    if len(before.rows) > len(call.rows):
        return True
    return before.request is not None and call.request is not None and len(call.request.tail) > len(before.request.tail)
