"""One input's way to an Item, as a generator without I/O, and the two drivers that do what it asks.

The generator yields steps (look up, keep, wait, send), is sent what came of each or thrown an error, and
returns an Item. So the policy is written once, and blocking and awaiting callers cannot drift apart.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Generator
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

from llmtasker.compiler import Answer, Program
from llmtasker.completion import NO_USAGE, Completion, Request, Usage
from llmtasker.door import door
from llmtasker.errors import (
    CallError,
    CallTimeoutError,
    InvalidOutputError,
    ItemError,
    OutputError,
    RateLimitError,
    TransientError,
    TruncatedError,
    snippet,
)
from llmtasker.item import Item
from llmtasker.llm import LLM
from llmtasker.signature import Inputs, S
from llmtasker.store import Guard, Store

R = TypeVar("R")
T = TypeVar("T")

Fresh = bool | Literal["invalid"]
"""Whether to ask again what is cached: everything (True), or only answers that no longer fit ("invalid")."""


@dataclass(frozen=True, slots=True)
class Look:
    """Ask the cache for a key; sent back: a Completion or None."""

    key: str


@dataclass(frozen=True, slots=True)
class Keep:
    """Store a completion."""

    key: str
    completion: Completion


@dataclass(frozen=True, slots=True)
class Wait:
    """Wait for some seconds, or until a future is done; sent back: the future's result."""

    hold: float | Future[Any]


@dataclass(frozen=True, slots=True)
class Send:
    """Make a call; sent back: the Completion."""

    request: Request


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a key: an answer that was accepted, or an error and perhaps the answer that caused it."""

    completion: Completion | None
    error: ItemError | None = None


Step = Look | Keep | Wait | Send
Steps = Generator[Step, Any, R]


@dataclass(slots=True, kw_only=True)
class _Spent:
    """What one item has cost so far, and the last answer to it."""

    calls: int = 0
    answers: int = 0
    usage: Usage = NO_USAGE
    counted: bool = True
    started: float | None = None
    completion: Completion | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Executor(Generic[S, T]):
    """How one input of a task becomes an Item; `present` makes of a record the output that users see.

    `attempts` bounds the answers that are asked for, first and re-asked; calls that failed for now are
    repeated besides, as the LLM's `Retry` allows.
    """

    program: Program[S]
    llm: LLM
    present: Callable[[S], T]
    attempts: int = 3
    fresh: Fresh = False
    clock: Callable[[], float] = time.perf_counter
    random: random.Random = field(default_factory=random.Random)

    def steps(self, given: object) -> Steps[Item[T]]:
        """Yield the steps to an Item; nothing that the endpoint or the input does is raised."""
        spent = _Spent()
        request = None
        try:
            inputs = self.program.validate(given)
            request = self.program.render(inputs, self.llm.settings)
            return (yield from self._answer(given, inputs, request, spent))
        except ItemError as error:
            return self._item(given, request, spent, error=error)

    def _answer(self, given: object, inputs: Inputs, request: Request, spent: _Spent) -> Steps[Item[T]]:
        key, flights = request.key, self.llm.flights
        while (flight := flights.board(key)) is not None:
            outcome = yield Wait(flight)
            if outcome is not None:
                return self._judge(given, inputs, request, outcome)
        outcome = None
        try:
            found = None if self.fresh is True else (yield Look(key))
            if found is not None:
                item = self._judge(given, inputs, request, Outcome(found))
                if item.ok or self.fresh != "invalid":
                    outcome = Outcome(found)
                    return item
            answer, completion = yield from self._ask(inputs, request, spent)
            outcome = Outcome(completion)
            yield Keep(key, completion)
            return self._item(given, request, spent, answer=answer)
        except ItemError as error:
            outcome = Outcome(spent.completion, error)
            raise
        finally:
            # Also when this generator is closed in the middle: then one of those who wait takes over.
            flights.land(key, outcome)

    def _judge(self, given: object, inputs: Inputs, request: Request, outcome: Outcome) -> Item[T]:
        """Return the item of what is paid for already; an answer is judged by the signature as it is now."""
        spent = _Spent(completion=outcome.completion)
        error = outcome.error
        if error is None and outcome.completion is not None:
            try:
                answer = self.program.parse(outcome.completion, inputs)
                return self._item(given, request, spent, answer=answer, cached=True)
            except OutputError as misfit:
                message = (
                    f'{misfit.message} (an earlier answer, kept in the cache; fresh="invalid" asks such rows again)'
                )
                error = type(misfit)(message, **misfit.details)
        return self._item(given, request, spent, error=error, cached=True)

    def _ask(self, inputs: Inputs, request: Request, spent: _Spent) -> Steps[tuple[Answer[S], Completion]]:
        """Ask until an answer fits; each time the LLM is told why the last one did not."""
        failed: tuple[Completion, OutputError] | None = None
        while True:
            completion = yield from self._call(inputs, request, failed, spent)
            try:
                return self.program.parse(completion, inputs), completion
            except OutputError as error:
                failed = completion, error
                if spent.answers >= self.attempts or not _worth_another(error):
                    raise

    def _call(
        self, inputs: Inputs, request: Request, failed: tuple[Completion, OutputError] | None, spent: _Spent
    ) -> Steps[Completion]:
        """Make one call, in a form that the endpoint takes, as often as it fails for now."""
        llm, program = self.llm, self.program
        failures = 0
        while True:
            mode = llm.dialect.mode(program.first_mode) if program.asked == "auto" else program.first_mode
            base = request if mode == program.first_mode else program.render(inputs, llm.settings, mode)
            asked = base if failed is None else program.reask(base, *failed, mode)
            sent = llm.dialect.adapt(asked)
            ticket = llm.pace.ticket(len(sent.content) // CHARACTERS_PER_TOKEN)
            try:
                while (hold := ticket.poll()) is not None:
                    yield Wait(hold)
                if spent.started is None:
                    spent.started = self.clock()
                spent.calls += 1
                completion = yield Send(sent)
                ticket.done(completion.usage.total if completion.usage else 0, completion.limits)
            except TransientError as error:
                failures += 1
                if isinstance(error, RateLimitError):
                    ticket.refused(error.retry_after)
                else:
                    ticket.failed()
                delay = llm.retry.delay(error, failures, self.random, stalled=llm.pace.stalled)
                if delay is None:
                    raise
                yield Wait(delay)
            except ItemError as error:
                ticket.failed()
                if not llm.dialect.learn(sent, error):
                    raise
            else:
                spent.answers += 1
                spent.completion = completion
                spent.usage += completion.usage or NO_USAGE
                spent.counted = spent.counted and completion.usage is not None
                return completion
            finally:
                ticket.cancel()

    def _item(
        self,
        given: object,
        request: Request | None,
        spent: _Spent,
        *,
        answer: Answer[S] | None = None,
        error: ItemError | None = None,
        cached: bool = False,
    ) -> Item[T]:
        completion = spent.completion
        return Item(
            input=given,
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
            request=request,
        )


CHARACTERS_PER_TOKEN = 4
"""A first guess for what a call will use; the pace corrects it by what calls really used."""


def _worth_another(error: OutputError) -> bool:
    # An answer cut by the token limit would be cut again; a refusal or a filter is not argued with.
    if isinstance(error, TruncatedError):
        return error.details.get("finish_reason") != "length"
    return isinstance(error, InvalidOutputError)


def run_blocking(steps: Steps[R], llm: LLM, store: Store | None, sleep: Callable[[float], object] = time.sleep) -> R:
    """Drive a generator of steps in this thread and return its result."""
    guard = None if store is None else Guard(store)
    advance: Callable[[Any], Step] = steps.send
    came: Any = None
    try:
        while True:
            step = advance(came)
            advance = steps.send
            if type(step) is Send:
                try:
                    came = llm.transport.send(step.request)
                except Exception as error:  # noqa: BLE001 - a transport may be anybody's
                    advance, came = steps.throw, _as_item_error(error)
            elif type(step) is Wait:
                came = sleep(step.hold) if isinstance(step.hold, float | int) else step.hold.result()
            elif type(step) is Look:
                came = _completion(guard.get(step.key)) if guard else None
            elif type(step) is Keep:
                came = guard.put(step.key, step.completion.to_json()) if guard else None
    except StopIteration as end:
        result: R = end.value
        return result
    finally:
        steps.close()


async def run_awaiting(steps: Steps[R], llm: LLM, store: Store | None) -> R:
    """Drive a generator of steps in the running event loop and return its result."""
    disk = None if store is None else door(store)
    advance: Callable[[Any], Step] = steps.send
    came: Any = None
    try:
        while True:
            step = advance(came)
            advance = steps.send
            if type(step) is Send:
                try:
                    async with asyncio.timeout(step.request.settings.timeout):
                        came = await llm.transport.asend(step.request)
                except TimeoutError:
                    late = CallTimeoutError(f"no whole answer came within {step.request.settings.timeout:g} s")
                    advance, came = steps.throw, late
                except Exception as error:  # noqa: BLE001 - a transport may be anybody's
                    advance, came = steps.throw, _as_item_error(error)
            elif type(step) is Wait:
                waiting = (
                    asyncio.sleep(step.hold) if isinstance(step.hold, float | int) else asyncio.wrap_future(step.hold)
                )
                came = await waiting
            elif type(step) is Look:
                came = _completion(await disk.get(step.key)) if disk else None
            elif type(step) is Keep:
                came = await disk.put(step.key, step.completion.to_json()) if disk else None
    except StopIteration as end:
        result: R = end.value
        return result
    finally:
        steps.close()


def _completion(text: str | None) -> Completion | None:
    try:
        return None if text is None else Completion.from_json(text)
    except ValueError:
        return None  # written by something else: a miss, and soon written anew


def _as_item_error(error: Exception) -> ItemError:
    if isinstance(error, ItemError):
        return error
    return CallError(f"the transport failed: {type(error).__name__}: {snippet(error)}")
