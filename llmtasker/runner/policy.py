"""One input's way to an Item: cache → pace → send → parse → repair → re-ask, as a generator without I/O."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Generic, Literal, NamedTuple, TypeVar

from llmtasker.compiler.program import Answer, AskMode, Program, first_mode
from llmtasker.errors import (
    CallTimeoutError,
    InvalidOutputError,
    ItemError,
    OutputError,
    RateLimitError,
    ServerError,
    TransientError,
    TruncatedError,
)
from llmtasker.item import Item
from llmtasker.llm.costs import TokenMeter
from llmtasker.llm.llm import LLM
from llmtasker.llm.rate_limiter import Permit
from llmtasker.runner.budget import Budget, Reservation
from llmtasker.runner.steps import Keep, Lease, Look, Release, Send, Steps, Wait
from llmtasker.signature import Inputs, S
from llmtasker.wire.completion import NO_USAGE, Completion, Usage
from llmtasker.wire.request import Mode, Request

T = TypeVar("T")

_RANDOM = random.Random()  # noqa: S311 - spreads the waits before retries; one for all, for seeding takes its time

Fresh = bool | Literal["invalid"]
"""Whether to ask again what is cached: everything (True), or only answers that no longer fit ("invalid")."""


def _usage_of(error: ItemError) -> Usage | None:
    """Return the tokens of a call that failed, where the endpoint counted them."""
    counts: dict[str, int] | None = error.details.get("usage")
    return None if counts is None else Usage(**counts)


@dataclass(slots=True, kw_only=True)
class Spent:
    """What one item has cost so far, and the last answer to it."""

    calls: int = 0
    answers: int = 0
    usage: Usage = NO_USAGE
    counted: bool = True
    started: float | None = None
    completion: Completion | None = None

    def answered(self, completion: Completion) -> None:
        """Count an answer."""
        self.answers += 1
        self.completion = completion
        self.usage += completion.usage or NO_USAGE
        self.counted = self.counted and completion.usage is not None

    def failed(self, error: ItemError) -> None:
        """Count what a failed call has cost, as far as it is known."""
        if (usage := _usage_of(error)) is not None:
            self.usage += usage
        elif isinstance(error, TransientError) and not isinstance(error, RateLimitError):
            self.counted = False  # it may have been answered, and paid for, all the same


class Row(NamedTuple):
    """One input on its way: what was given, what is asked first, and what that has cost so far."""

    given: object
    inputs: Inputs
    request: Request
    spent: Spent


class Outcome(NamedTuple):
    """What came of a key: an answer that was accepted, or an error and perhaps the answer that caused it."""

    completion: Completion | None
    error: ItemError | None = None

    @classmethod
    def of(cls, row: Row, item: Item[Any]) -> Outcome:
        """Return what those learn who wait for a row; a cached answer each of them judges for itself."""
        return cls(row.spent.completion, None if item.cached else item.error)


@dataclass(slots=True)
class _CallPermit:
    """What a call has that may leave: a ticket of the pace and, with a budget, a share of that."""

    tokens: TokenMeter
    length: int
    ticket: Permit
    share: Reservation | None
    sent: bool = False

    def done(self, completion: Completion) -> None:
        usage = completion.usage
        if usage is not None:
            self.tokens.record(self.length, usage)
        if self.share is not None:
            self.share.settle(usage)
        self.ticket.done(None if usage is None else usage.total, completion.limits)

    def failed(self, error: ItemError) -> None:
        if isinstance(error, RateLimitError):
            self.ticket.refused(error.retry_after)
        else:
            self.ticket.failed(overload=isinstance(error, CallTimeoutError | ServerError))
        if self.share is not None:
            # What broke off in the middle may be paid for all the same; what was refused is not.
            broke_off = isinstance(error, TransientError) and not isinstance(error, RateLimitError)
            self.share.settle(None if broke_off else _usage_of(error) or NO_USAGE)

    def cancel(self) -> None:
        self.ticket.cancel()
        if self.share is not None:
            # A call that was cancelled on its way may be paid for all the same.
            if self.sent:
                self.share.settle(None)
            else:
                self.share.cancel()


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy(Generic[S, T]):
    """How one input of a task becomes an Item; `present` makes of a record the output that users see.

    `attempts` bounds the answers that are asked for, first and re-asked; calls that failed for now are
    repeated besides, as the LLM's `Retry` allows.
    """

    program: Program[S]
    llm: LLM
    present: Callable[[S], T]
    attempts: int = 3
    fresh: Fresh = False
    budget: Budget | None = None
    halted: Callable[[], ItemError | None] = lambda: None
    clock: Callable[[], float] = time.perf_counter
    random: random.Random = _RANDOM

    def steps(self, given: object) -> Steps[Item[T]]:
        """Yield the steps to an Item; nothing that the endpoint or the input does is raised."""
        row = self.prepare(given)
        if isinstance(row, Item):
            return row
        key, flights = self.flight_key(row), self.llm.single_flight
        while (flight := flights.board(key)) is not None:
            outcome = yield Wait(flight)
            if outcome is not None:
                return self.judge(row, outcome)
        outcome = None
        try:
            item = yield from self.look(row)
            if item is None:
                item = yield from self.finish(row)
            outcome = Outcome.of(row, item)
            return item
        finally:
            # Also when this generator is closed in the middle: then one of those who wait takes over.
            flights.land(key, outcome)

    def flight_key(self, row: Row) -> str:
        """Return what makes a row equal to another one that is under way: asked anew is not the same as asked."""
        return f"{row.request.key} anew" if self.fresh is True else row.request.key

    def prepare(self, given: object) -> Row | Item[T]:
        """Return the row of an input, or its item if it does not fit the signature."""
        try:
            inputs = self.program.validate(given)
            return Row(
                given=given, inputs=inputs, request=self.program.render(inputs, self.llm.settings), spent=Spent()
            )
        except ItemError as error:
            return Item(input=given, error=error)

    def look(self, row: Row) -> Steps[Item[T] | None]:
        """Return the item of an answer that is cached, or None if it must be asked for."""
        if self.fresh is True:
            return None
        found: Completion | None = yield Look(row.request.key)
        if found is None:
            return None
        item = self.judge(row, Outcome(found))
        if item.ok or self.fresh != "invalid":
            return item
        row.spent.completion = None
        return None

    def judge(self, row: Row, outcome: Outcome) -> Item[T]:
        """Return the item of what is paid for already; an answer is judged by the signature as it is now."""
        completion, error = outcome.completion, outcome.error
        row.spent.completion = completion
        if error is None:
            if completion is None:
                raise AssertionError("an outcome is an answer or an error")
            try:
                return self.item(row, answer=self.program.parse(completion, row.inputs), cached=True)
            except OutputError as misfit:
                kept = f'{misfit.message} (an earlier answer, kept in the cache; fresh="invalid" asks such rows again)'
                error = type(misfit)(kept, **misfit.details)
        return self.item(row, error=error, cached=True)

    def claim(self, row: Row) -> Steps[bool]:
        """Take the right to ask for a row before other processes; what is asked anew on purpose needs none."""
        return True if self.fresh else (yield Lease(row.request.key))

    def finish(self, row: Row) -> Steps[Item[T]]:
        """Return the item of a row that is not cached: by asking, or from another process that is asking."""
        pause = _FIRST_PAUSE
        while not (yield from self.claim(row)):
            item = yield from self.look(row)
            if item is not None:
                return item
            yield Wait(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
        return (yield from self.settle(row))

    def settle(self, row: Row, failed: tuple[Completion, OutputError] | None = None) -> Steps[Item[T]]:
        """Ask until an answer fits, and keep it; each time the LLM is told why the last one did not.

        `failed` is an answer that did not fit already.
        """
        program = self.program

        def render(mode: Mode) -> Request:
            first = row.request if mode == program.first_mode else program.render(row.inputs, self.llm.settings, mode)
            return first if failed is None else program.reask(first, *failed, mode)

        try:
            while True:
                completion = yield from self.call(render, row.spent, program.asked)
                try:
                    answer = program.parse(completion, row.inputs)
                    break
                except OutputError as error:
                    failed = completion, error
                    if program.asked == "auto" and isinstance(error, InvalidOutputError):
                        self.llm.capabilities.heard_text(completion)
                    if row.spent.answers >= self.attempts or not worth_another(error):
                        raise
            yield Keep(row.request.key, completion)
            return self.item(row, answer=answer)
        except ItemError as error:
            if not self.fresh:
                yield Release(row.request.key)
            return self.item(row, error=error)

    def call(self, render: Callable[[Mode], Request], spent: Spent, asked: AskMode) -> Steps[Completion]:
        """Make one call in a mode and form that the endpoint takes, again as often as it fails for now."""
        llm = self.llm
        refusals = failures = 0
        while True:
            mode = llm.capabilities.mode() if asked == "auto" else first_mode(asked)
            request = llm.capabilities.adapt(render(mode))
            permit = yield from self._permit(len(request.content))
            try:
                spent.started = self.clock() if spent.started is None else spent.started
                spent.calls += 1
                permit.sent = True
                completion: Completion = yield Send(request)
            except ItemError as error:
                permit.failed(error)
                spent.failed(error)
                delay: float | None = 0.0
                if isinstance(error, RateLimitError):
                    refusals += 1
                    delay = llm.retry.delay(error, refusals, self.random, stalled=llm.rate_limiter.stalled)
                elif isinstance(error, TransientError):
                    failures += 1
                    delay = llm.retry.delay(error, failures, self.random)
                elif not llm.capabilities.learn(request, error):
                    delay = None
                if delay is None:
                    raise
            else:
                permit.done(completion)
                spent.answered(completion)
                llm.capabilities.heard_call(completion)
                return completion
            finally:
                permit.cancel()
            if delay:
                yield Wait(delay)

    def _permit(self, length: int) -> Steps[_CallPermit]:
        """Wait for a share of the budget and for the pace; a future is done when another call gives something back."""
        llm = self.llm
        share = yield from self._share(length)
        permit = _CallPermit(llm.tokens, length, llm.rate_limiter.permit(llm.tokens.expected(length).total), share)
        try:
            while (hold := permit.ticket.poll()) is not None:
                yield Wait(hold)
        except BaseException:
            permit.cancel()
            raise
        if (error := self.halted()) is not None:
            permit.cancel()
            raise error
        return permit

    def _share(self, length: int) -> Steps[Reservation | None]:
        if self.budget is None:
            return None
        most = self.llm.tokens.at_most(length, self.llm.max_tokens)
        while isinstance(share := self.budget.reserve(most, self.llm.cost), Future):
            yield Wait(share)
        return share

    def item(
        self, row: Row, *, answer: Answer[S] | None = None, error: ItemError | None = None, cached: bool = False
    ) -> Item[T]:
        """Return the item of a row, with what it has cost."""
        spent, completion = row.spent, row.spent.completion
        return Item(
            input=row.given,
            output=None if answer is None else self.present(answer.record),
            raw=None if completion is None else completion.raw,
            error=error,
            reasoning=(answer.reasoning if answer else None) or (completion.reasoning if completion else None),
            repairs=answer.repairs if answer else (),
            usage=spent.usage,
            cost=self.llm.cost(spent.usage) if spent.counted else None,
            latency=0.0 if spent.started is None else self.clock() - spent.started,
            attempts=spent.calls,
            cached=cached,
            request=row.request,
        )


_FIRST_PAUSE, _LONGEST_PAUSE = 0.02, 1.0  # seconds between two looks for an answer that another process asks for


def worth_another(error: OutputError) -> bool:
    """Return whether another answer may be better than this one."""
    # An answer cut by the token limit would be cut again; a refusal or a filter is not argued with.
    if isinstance(error, TruncatedError):
        return error.details.get("finish_reason") != "length"
    return isinstance(error, InvalidOutputError)
