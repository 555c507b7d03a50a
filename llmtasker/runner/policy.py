"""Policy, from one input to an Item: cache → rate limit → send → parse → repair → re-ask; a generator without I/O."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from llmtasker.compiler.program import Program
from llmtasker.errors import (
    CallError,
    InvalidOutputError,
    ItemError,
    OutputError,
    RateLimitError,
    RejectedError,
    TransientError,
    TruncatedError,
)
from llmtasker.item import Item
from llmtasker.llm.llm import LLM
from llmtasker.llm.refusal_reader import about_schema
from llmtasker.runner.budget import Budget, Reservation
from llmtasker.runner.call_permit import CallPermit
from llmtasker.runner.circuit_breaker import CircuitBreaker
from llmtasker.runner.row import Outcome, Row, Spent
from llmtasker.runner.steps import LEASE, Keep, Lease, Look, Release, Send, Steps, Wait
from llmtasker.signature.signature import S
from llmtasker.wire.completion import NO_USAGE, Completion
from llmtasker.wire.request import AskMode, Mode, Request

if TYPE_CHECKING:
    from llmtasker.compiler.answer_parser import Answer

T = TypeVar("T")

_logger = logging.getLogger(__name__)
_RANDOM = random.Random()  # noqa: S311 - spreads the waits before retries; shared, because seeding is slow

Fresh = bool | Literal["invalid"]
"""Which cached answers to ask for again: all (True), or only those that are no longer valid ("invalid")."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy(Generic[S, T]):
    """How one input of a task becomes an Item, and the worker of a run that asks for one input at a time.

    `present` converts a record to the output that users see. `attempts` limits the answers asked for, including
    re-asks; retries of transient failures are not counted, and limited by the LLM's `Retry`. Every item gets the
    `tags`. Answers with another `sample` are cached separately. When the `breaker` opens, no further call is made.
    """

    program: Program[S]
    llm: LLM
    present: Callable[[S], T]
    attempts: int = 3
    fresh: Fresh = False
    budget: Budget | None = None
    tags: Mapping[str, Any] = field(default_factory=dict[str, Any])
    sample: int = 0
    breaker: CircuitBreaker | None = None
    clock: Callable[[], float] = time.perf_counter
    random: random.Random = _RANDOM
    size: int = field(default=1, init=False)

    def look(self, rows: Sequence[object]) -> Steps[list[Item[T] | Row]]:
        """Yield the steps to the item of each invalid or cached input, and to the row of each other input."""
        prepared = [self.prepare(given) for given in rows]
        cached = iter((yield from self.from_cache([row for row in prepared if isinstance(row, Row)])))
        return [row if isinstance(row, Item) else next(cached) or row for row in prepared]

    def steps(self, rows: Sequence[object]) -> Steps[list[Item[T]]]:
        """Yield the steps to the item of the one input."""
        (given,) = rows
        return [(yield from self.ask(given))]

    def ask(self, given: object) -> Steps[Item[T]]:
        """Yield the steps to the item of one input; errors of the endpoint or the input are not raised."""
        row = self.prepare(given)
        return row if isinstance(row, Item) else (yield from self.ask_row(row))

    def ask_row(self, row: Row) -> Steps[Item[T]]:
        """Yield the steps to the item of a row; rows with one key that are in flight are asked once."""
        key, flights = self.flight_key(row), self.llm.single_flight
        while (flight := flights.enter(key)) is not None:
            outcome = yield Wait(flight)
            if outcome is not None:
                return self.from_completion(row, outcome)
        outcome = None
        try:
            (item,) = yield from self.from_cache([row])
            if item is None:
                item = yield from self.wait_or_ask(row)
            # Each waiter validates a cached answer itself.
            outcome = Outcome(row.spent.completion, None if item.cached else item.error)
            return item
        finally:
            # Also when this generator is closed early: then one of the waiters takes over.
            flights.finish(key, outcome)

    def rows(self, given: object) -> list[Row]:
        """Return the rows that are asked for one input: one, or none if the input is invalid."""
        row = self.prepare(given)
        return [] if isinstance(row, Item) else [row]

    def flight_key(self, row: Row) -> str:
        """Return the key that equal rows in flight share; a deliberate re-ask has another key."""
        return f"{row.key} fresh" if self.fresh is True else row.key

    def prepare(self, given: object) -> Row | Item[T]:
        """Return the row of an input, or its item if it is invalid."""
        program = self.program
        try:
            inputs = program.validate(given)
            request = program.render(inputs, self.llm.settings)
            row = Row(given=given, inputs=inputs, request=request, key=request.key)
            return row.sample(self.sample) if self.sample else row
        except ItemError as error:
            return Item(input=given, error=error, tags=self.tags)

    def from_cache(self, rows: Sequence[Row]) -> Steps[list[Item[T] | None]]:
        """Return the item of each row's cached answer, or None if it must be asked for."""
        if self.fresh is True or not rows:
            return [None] * len(rows)
        found: Sequence[Completion | None] = yield Look([row.key for row in rows])
        return [one if one is None else self._cached(row, one) for row, one in zip(rows, found, strict=True)]

    def _cached(self, row: Row, completion: Completion) -> Item[T] | None:
        item = self.from_completion(row, Outcome(completion))
        if item.ok or self.fresh != "invalid":
            return item
        row.spent.completion = None
        return None

    def from_completion(self, row: Row, outcome: Outcome) -> Item[T]:
        """Return the item of an outcome already paid for; an answer is validated by the current signature."""
        completion, error = outcome.completion, outcome.error
        row.spent.completion = completion
        if error is None:
            if completion is None:
                raise AssertionError("an outcome is an answer or an error")
            try:
                return self.item(row, answer=self.program.parse(completion, row.inputs), cached=True)
            except OutputError as invalid:
                kept = f'{invalid.message} (an earlier answer, kept in the cache; fresh="invalid" asks such rows again)'
                error = type(invalid)(kept, **invalid.details)
            return self.item(row, error=error, cached=True)
        return self.item(row, error=error)  # an equal row has failed just now: errors are not kept

    def lease(self, rows: Sequence[Row]) -> Steps[Sequence[bool]]:
        """Lease the rows, so that other processes do not ask for them; deliberate re-asks need no lease."""
        return [True] * len(rows) if self.fresh else (yield Lease([row.key for row in rows]))

    def wait_or_ask(self, row: Row) -> Steps[Item[T]]:
        """Return the item of a row that is not cached: ask, or wait for another process that is asking.

        No lease lasts longer than LEASE seconds: after that time, a store's refusal is ignored.
        """
        waited, pause = 0.0, _FIRST_PAUSE
        while waited < LEASE and (yield from self.lease([row])) != [True]:
            (item,) = yield from self.from_cache([row])
            if item is not None:
                return item
            if waited < _PATIENCE <= waited + pause:
                _logger.info("a row has waited %.0f s for the answer that another process is asking for", _PATIENCE)
            yield Wait(pause)
            waited, pause = waited + pause, min(2 * pause, _LONGEST_PAUSE)
        return (yield from self.ask_until_valid(row))

    def ask_until_valid(self, row: Row, failed: tuple[Completion, OutputError] | None = None) -> Steps[Item[T]]:
        """Ask until an answer is valid, and cache it; each re-ask shows the LLM why the last answer was not.

        `failed` is an earlier invalid answer.
        """
        program = self.program

        def render(mode: Mode) -> Request:
            first = row.request if mode == program.first_mode else program.render(row.inputs, self.llm.settings, mode)
            return first if failed is None else program.reask(first, *failed, mode, row.inputs)

        try:
            while True:
                completion = yield from self.call(render, row.spent, program.asked)
                try:
                    answer = program.parse(completion, row.inputs)
                    break
                except OutputError as error:
                    repeats = failed is not None and failed[0].raw == completion.raw
                    certain = row.request.settings.body.get("temperature") == 0
                    failed = completion, error
                    if program.asked == "auto" and isinstance(error, InvalidOutputError):
                        self.llm.capabilities.record_text(completion)
                    if row.spent.answers >= self.attempts or (repeats and certain) or not worth_another(error):
                        raise self._explained(error, completion) from error.__cause__
            yield Keep([(row.key, completion)])
            return self.item(row, answer=answer)
        except ItemError as error:
            if not self.fresh:
                yield Release([row.key])
            return self.item(row, error=error)

    def _explained(self, error: OutputError, completion: Completion) -> OutputError:
        """Return the error of an answer; with the way out where the endpoint may drop the tools of `mode="tools"`."""
        if self.program.asked != "tools" or not isinstance(error, InvalidOutputError):
            return error
        if not self.llm.capabilities.ignores_tools(completion):
            return error
        hint = (
            "The endpoint has answered in text where a function call was required, and has never made one, so it may "
            'not show the tools to the LLM: use mode="json_schema", or leave out mode'
        )
        return InvalidOutputError(f"{error.message}. {hint}", **error.details)

    def call(self, render: Callable[[Mode], Request], spent: Spent, asked: AskMode, rows: int = 1) -> Steps[Completion]:
        """Make one call for some rows, in a mode and form that the endpoint accepts; retry transient failures."""
        llm = self.llm
        failed = {"refused": 0, "failed": 0}
        refused: tuple[Request, ItemError] | None = None
        while True:
            request, permit = yield from self._permit(render, asked)
            if refused is not None and isinstance(refused[1], RejectedError) and _same_form(request, refused[0]):
                # What was learned from the refusal was withdrawn since: no other form is accepted either.
                permit.cancel()
                if self.breaker is not None:
                    self.breaker.failed(refused[1], rows=rows)
                raise refused[1]
            try:
                spent.started = self.clock() if spent.started is None else spent.started
                spent.calls += 1
                spent.share += 1
                permit.sent = True
                completion: Completion = yield Send(request, spent.places)
            except ItemError as error:
                wait = llm.retry.wait_asked_by(error) if isinstance(error, RateLimitError) else None
                permit.failed(error, wait=wait, pause=self._pauses, new_row=not failed["failed"])
                spent.failed(error)
                try:
                    delay = self._delay(error, request, failed, rows)
                finally:
                    permit.leave()
                if delay is None:
                    raise
                refused = request, error
            except BaseException:
                permit.cancel()
                raise
            else:
                permit.done(completion, rows)
                completion = llm.capabilities.read(request, completion)
                spent.answered(completion)
                if self.breaker is not None:
                    self.breaker.answered()
                return completion
            if delay:
                yield Wait(delay, rests=not llm.rate_limiter.held)

    def _delay(self, error: ItemError, request: Request, failed: dict[str, int], rows: int) -> float | None:
        """Return the seconds until a call is retried, None if it is not; `failed` counts its failures so far."""
        llm, breaker = self.llm, self.breaker
        delay: float | None = None
        if isinstance(error, RateLimitError):
            failed["refused"] += 1
            delay = llm.retry.delay(error, failed["refused"], self.random, stalled=llm.rate_limiter.stalled)
            if delay and failed["refused"] == 1 and error.retry_after is None and not llm.rate_limiter.held:
                delay = min(delay, _ONE_OF_MANY)
            if breaker is not None and (error.retry_after or 0.0) > llm.retry.give_up_after:
                breaker.failed(error, rows=rows)
            return delay
        if llm.capabilities.record_error(request, error):
            return 0.0
        lasted = False
        if isinstance(error, TransientError):
            failed["failed"] += 1
            if self._pauses and llm.rate_limiter.down:
                lasted = llm.rate_limiter.stalled >= self._patience
                delay = None if lasted else 0.0  # the rate limiter makes it wait
            else:
                delay = llm.retry.delay(error, failed["failed"], self.random)
        if breaker is not None and delay is None:
            if isinstance(error, CallError):
                breaker.failed(error, rows=rows, lasted=lasted, sure=about_schema(request, error))
            else:
                breaker.answered()  # it was: by a content filter
        return delay

    @property
    def _pauses(self) -> bool:
        """Whether to wait for an endpoint that fails for all rows: in a run, unless `Retry` has no waits."""
        retry = self.llm.retry
        return self.breaker is not None and retry.attempts > 1 and retry.cap > 0

    @property
    def _patience(self) -> float:
        """Seconds after which to give up on an endpoint that is down; fewer if it never answered."""
        most = self.llm.retry.give_up_after
        return most if self.llm.rate_limiter.answered else min(most, _NEVER_ANSWERED)

    def _permit(self, render: Callable[[Mode], Request], asked: AskMode) -> Steps[tuple[Request, CallPermit]]:
        """Return a request in the form that the endpoint accepts, and its permit, once it may leave.

        Waits for a probe if the schema is on trial, for a share of the budget, and for the rate limit; a future is done
        when another call ends.
        """
        llm = self.llm
        while True:
            state = llm.capabilities.state
            request = llm.capabilities.request(render, asked)
            probe = llm.capabilities.probe(request)
            if isinstance(probe, Future):
                yield Wait(probe)
                self._raise_if_stopped()
                continue
            length = len(request.content)
            expected = llm.tokens.expected(length)
            permit = CallPermit(llm.tokens, length, llm.rate_limiter.permit(expected.input + expected.output), probe)
            try:
                permit.share = None if self.budget is None else (yield from self._share(self.budget, length))
                while (hold := permit.permit.poll()) is not None:
                    yield Wait(hold)
                    self._raise_if_stopped()
                self._raise_if_stopped()
            except BaseException:
                permit.cancel()
                raise
            if llm.capabilities.state is state:
                return request, permit
            permit.cancel()  # while it waited, another call was refused in this form

    def _raise_if_stopped(self) -> None:
        if self.breaker is not None and self.breaker.error is not None:
            raise self.breaker.error.with_traceback(None)  # one error for all rows

    def _share(self, budget: Budget, length: int) -> Steps[Reservation]:
        llm = self.llm
        while True:
            # Again after each wait: longer answers may have arrived since.
            most = llm.tokens.at_most(length, llm.max_tokens) if llm.uses_tokens else NO_USAGE
            share = budget.reserve(most, llm.cost, sure=llm.max_tokens is not None or not llm.uses_tokens)
            if not isinstance(share, Future):
                return share
            yield Wait(share)

    def item(
        self, row: Row, *, answer: Answer[S] | None = None, error: ItemError | None = None, cached: bool = False
    ) -> Item[T]:
        """Return the item of a row, with its cost."""
        spent, completion = row.spent, row.spent.completion
        cost = self.llm.cost(spent.usage) if spent.calls and spent.counted else None
        return Item(
            input=row.given,
            output=None if answer is None else self.present(answer.record),
            raw=None if completion is None else completion.raw,
            error=error,
            reasoning=(answer.reasoning if answer else None) or (completion.reasoning if completion else None),
            repairs=answer.repairs if answer else (),
            usage=spent.usage,
            cost=cost if spent.calls else 0.0,  # without loading the price list, which is slow
            latency=0.0 if spent.started is None else self.clock() - spent.started,
            attempts=spent.calls,
            calls=None if spent.share == spent.calls else spent.share,
            cached=cached,
            answer_usage=(completion.usage or NO_USAGE) if completion else NO_USAGE,
            tags=self.tags,
            request=row.request,
        )


def _same_form(request: Request, other: Request) -> bool:
    return request.head is other.head and request.settings is other.settings


_ONE_OF_MANY = 0.05  # seconds until the retry of a call that was refused while others were not
_NEVER_ANSWERED = 60.0  # seconds
_FIRST_PAUSE, _LONGEST_PAUSE = 0.02, 1.0  # seconds between look-ups of an answer that another process asks for
_PATIENCE = 30.0  # seconds of such waiting until it is logged


def worth_another(error: OutputError) -> bool:
    """Return whether a re-ask may give a better answer."""
    # An answer cut by the token limit would be cut again; refusals and filters are final.
    if isinstance(error, TruncatedError):
        return error.details.get("finish_reason") != "length"
    return isinstance(error, InvalidOutputError)
