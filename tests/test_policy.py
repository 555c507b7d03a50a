"""The policy of one input, driven step by step: no I/O, no clock but a counter, no mocks."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Literal, Self

import pytest
from pydantic import model_validator

from llmtasker import LLM, InputField, Item, OutputField, Prices, RateLimit, Retry, Signature
from llmtasker.compiler.program import compile_program
from llmtasker.errors import (
    AuthenticationError,
    BadRequestError,
    BadResponseError,
    CallTimeoutError,
    FilteredError,
    InputError,
    InvalidOutputError,
    ItemError,
    NetworkError,
    RateLimitError,
    RefusedError,
    ServerError,
    TruncatedError,
)
from llmtasker.llm.rate_limiter import RateLimiter
from llmtasker.runner.policy import Fresh, Policy
from llmtasker.runner.steps import LEASE, Keep, Lease, Look, Release, Send, Step, Steps, Wait
from llmtasker.testing import FakeTransport
from llmtasker.wire.completion import Completion, ToolCall, Usage
from llmtasker.wire.request import AskMode, Request

QUESTION = "Where is my parcel?"
USAGE = Usage(input=10, output=5)


class Route(Signature):
    """Route a customer message to a team."""

    message: str = InputField()
    quote: str = OutputField()
    team: Literal["billing", "delivery", "other"] = OutputField()

    @model_validator(mode="after")
    def quote_is_verbatim(self) -> Self:
        if self.quote not in self.message:
            raise ValueError(f"quote must be copied from the message, and {self.quote!r} is not")
        return self


def said(quote: str = "parcel", team: str = "delivery", **more: Any) -> Completion:
    """An answer as a function call."""
    call = ToolCall(name=Route.__name__, arguments=json.dumps({"quote": quote, "team": team}), id="call_1")
    return Completion(**{"tool_calls": (call,), "finish_reason": "tool_calls", "usage": USAGE, **more})


GOOD = said()
BAD = said(quote="letter")
CUT = Completion(text='{"quote": "par', finish_reason="length", usage=USAGE)
UNSAID_CUT = Completion(text='{"quote": "par', finish_reason="stop", usage=USAGE)
REFUSED = Completion(refusal="I would rather not.", finish_reason="stop", usage=USAGE)
FILTERED = Completion(finish_reason="content_filter", usage=USAGE)


class Clock:
    """Seconds that pass only during a wait or a call."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class HighestJitter(random.Random):
    """The longest waits that are drawn: `Retry` takes nothing off."""

    def random(self) -> float:
        return 0.0


def make_llm(clock: Clock, **settings: Any) -> LLM:
    llm = LLM(transport=FakeTransport(), cache=False, **settings)
    llm.rate_limiter = RateLimiter(clock=clock)
    return llm


def make_executor(llm: LLM, clock: Clock, *, mode: AskMode = "auto", **settings: Any) -> Policy[Route, Route]:
    return Policy(
        program=compile_program(Route, mode=mode),
        llm=llm,
        present=lambda record: record,
        clock=clock,
        random=HighestJitter(),
        **settings,
    )


@dataclass
class Stage:
    """Drives a generator of steps: the answers to Send in order, a dict as the cache, a list for leases."""

    answers: Sequence[Completion | Exception] = ()
    kept: dict[str, Completion] = field(default_factory=dict[str, Completion])
    leases: list[bool] = field(default_factory=list[bool])
    on_wait: Callable[[Wait], None] = lambda _: None
    clock: Clock = field(default_factory=Clock)
    steps: list[Step] = field(default_factory=list[Step])

    def play(self, generator: Steps[Item[Route]], until: type[Any] | None = None) -> Item[Route] | None:
        """Return the item, or None at the first step of the type `until`, which is not performed."""
        answers = iter(self.answers)
        came: Any = None
        advance: Callable[[Any], Step] = generator.send
        try:
            while True:
                step = advance(came)
                advance = generator.send
                self.steps.append(step)
                if until is not None and isinstance(step, until):
                    return None
                came = self._do(step, answers)
                if isinstance(came, Exception):
                    advance = generator.throw
        except StopIteration as end:
            item: Item[Route] = end.value
            return item

    def _do(self, step: Step, answers: Any) -> Any:
        match step:
            case Look(keys):
                return [self.kept.get(key) for key in keys]
            case Keep(entries):
                self.kept.update(entries)
            case Lease(keys):
                return [self.leases.pop(0) if self.leases else True for _ in keys]
            case Wait(hold):
                self.on_wait(step)
                if isinstance(hold, Future):
                    return hold.result(timeout=0)
                self.clock.now += hold
            case Send():
                self.clock.now += 1.0
                return next(answers)
            case Release():
                pass
        return None

    @property
    def kinds(self) -> list[str]:
        return [type(step).__name__ for step in self.steps]

    @property
    def sent(self) -> list[Request]:
        return [step.request for step in self.steps if isinstance(step, Send)]

    @property
    def waits(self) -> list[float]:
        return [step.hold for step in self.steps if isinstance(step, Wait) and not isinstance(step.hold, Future)]


def run(
    *answers: Completion | Exception,
    given: object = QUESTION,
    kept: Mapping[str, Completion] | None = None,
    leases: Sequence[bool] = (),
    llm: LLM | None = None,
    clock: Clock | None = None,
    **settings: Any,
) -> tuple[Item[Route], Stage]:
    clock = clock or Clock()
    llm = llm or make_llm(clock)
    stage = Stage(answers, dict(kept or {}), list(leases), clock=clock)
    item = stage.play(make_executor(llm, clock, **settings).ask(given))
    assert item is not None
    assert (llm.rate_limiter.in_flight, llm.rate_limiter.waiting) == (0, 0)
    if item.request is not None:
        assert llm.single_flight.enter(item.request.key) is None, "nobody leads any more"
        llm.single_flight.finish(item.request.key, None)
    return item, stage


def key_of(given: object = QUESTION) -> str:
    llm = make_llm(Clock())
    program = compile_program(Route)
    return program.render(program.validate(given), llm.settings).key


# ── the cache ──


def test_what_is_not_cached_is_asked_and_kept() -> None:
    clock = Clock()
    llm = make_llm(clock, prices=Prices(input=1.0, output=2.0))
    item, stage = run(GOOD, llm=llm, clock=clock)
    assert stage.kinds == ["Look", "Lease", "Send", "Keep"]
    assert item.output == Route(message=QUESTION, quote="parcel", team="delivery")
    assert (item.attempts, item.cached, item.usage, item.latency) == (1, False, USAGE, 1.0)
    assert item.cost == llm.cost(USAGE)
    assert item.cost
    assert item.raw == GOOD.raw
    assert stage.kept == {key_of(): GOOD}
    assert item.messages == stage.sent[0].messages


def test_what_is_cached_is_not_asked() -> None:
    item, stage = run(kept={key_of(): GOOD})
    assert stage.kinds == ["Look"]
    assert item.output is not None
    assert (item.attempts, item.cached, item.usage.total, item.latency) == (0, True, 0, 0.0)


def test_a_cached_answer_that_no_longer_fits_costs_no_call_and_reports_it() -> None:
    item, stage = run(kept={key_of(): BAD})
    assert stage.kinds == ["Look"]
    assert isinstance(item.error, InvalidOutputError)
    assert 'fresh="invalid"' in item.error.message
    assert "quote must be copied" in item.error.message
    assert (item.output, item.raw, item.attempts, item.cached) == (None, BAD.raw, 0, True)


@pytest.mark.parametrize(
    ("fresh", "cached", "kinds", "calls"),
    [
        pytest.param("invalid", BAD, ["Look", "Send", "Keep"], 1, id="invalid: a misfit is asked again"),
        pytest.param("invalid", GOOD, ["Look"], 0, id="invalid: what fits is not"),
        pytest.param(True, GOOD, ["Send", "Keep"], 1, id="all is asked again"),
        pytest.param(False, GOOD, ["Look"], 0, id="nothing is asked again"),
    ],
)
def test_fresh(fresh: Fresh, cached: Completion, kinds: list[str], calls: int) -> None:
    item, stage = run(said(team="other"), kept={key_of(): cached}, fresh=fresh)
    assert (stage.kinds, item.attempts, item.ok) == (kinds, calls, True)
    assert stage.kept[key_of()] == (said(team="other") if calls else cached)


@pytest.mark.parametrize(
    "given",
    [pytest.param(given, id=str(number)) for number, given in enumerate([None, {}, {"massage": "x"}, 7, [QUESTION]])],
)
def test_an_input_that_does_not_fit_costs_no_step(given: object) -> None:
    item, stage = run(given=given)
    assert isinstance(item.error, InputError)
    assert stage.steps == []
    assert (item.input, item.messages) == (given, [])


def test_what_has_failed_is_not_kept_and_its_lease_is_given_back() -> None:
    item, stage = run(AuthenticationError("no such key", status=401))
    assert stage.kinds == ["Look", "Lease", "Send", "Release"]
    assert isinstance(item.error, AuthenticationError)
    assert (item.attempts, item.raw) == (1, None)


# ── asked again ──


def test_an_answer_that_does_not_fit_is_asked_again_with_the_reason() -> None:
    item, stage = run(BAD, GOOD)
    assert stage.kinds == ["Look", "Lease", "Send", "Send", "Keep"]
    first, second = stage.sent
    assert second.messages[: len(first.messages)] == first.messages
    more = json.dumps(second.messages[len(first.messages) :])
    assert "letter" in more
    assert "quote must be copied" in more
    assert (item.ok, item.attempts, item.usage) == (True, 2, USAGE + USAGE)
    assert stage.kept == {first.key: GOOD}, "kept under the key of the first request"


def test_only_the_last_failure_stays_in_the_conversation() -> None:
    _, stage = run(said(quote="first try"), said(quote="second try"), GOOD)
    first, second, third = (json.dumps(request.messages) for request in stage.sent)
    assert "try" not in first
    assert "first try" in second
    assert "second try" in third
    assert "first try" not in third
    assert len(stage.sent[1].messages) == len(stage.sent[2].messages)


@pytest.mark.parametrize(("temperature", "calls"), [(0, 2), (0.7, 3), (None, 3)])
def test_an_answer_that_repeats_itself_at_temperature_0_is_not_asked_a_third_time(
    temperature: float | None, calls: int
) -> None:
    clock = Clock()
    llm = make_llm(clock) if temperature is None else make_llm(clock, temperature=temperature)
    _, stage = run(*[BAD] * 9, llm=llm, clock=clock, attempts=3)
    assert len(stage.sent) == calls


@pytest.mark.parametrize("attempts", [1, 2, 5])
def test_attempts_bound_the_answers(attempts: int) -> None:
    item, stage = run(*[BAD] * 9, attempts=attempts)
    assert isinstance(item.error, InvalidOutputError)
    assert len(stage.sent) == item.attempts == attempts
    assert item.usage.total == attempts * USAGE.total
    assert stage.kinds[-1] == "Release"
    assert stage.kept == {}
    assert item.raw == BAD.raw


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        pytest.param(CUT, TruncatedError, id="cut by the token limit"),
        pytest.param(REFUSED, RefusedError, id="refused"),
        pytest.param(FILTERED, FilteredError, id="filtered"),
        pytest.param(FilteredError("filtered", status=400), FilteredError, id="filtered before it was answered"),
    ],
)
def test_some_answers_are_not_argued_with(answer: Completion | Exception, error: type[ItemError]) -> None:
    item, stage = run(answer, GOOD)
    assert type(item.error) is error
    assert (item.attempts, len(stage.sent), stage.kept) == (1, 1, {})


def test_an_answer_cut_without_saying_so_is_asked_again() -> None:
    item, stage = run(UNSAID_CUT, GOOD)
    assert item.ok
    assert len(stage.sent) == 2


def test_an_endpoint_that_does_not_count_gives_no_cost() -> None:
    clock = Clock()
    llm = make_llm(clock, prices=Prices(input=1.0, output=2.0))
    item, _ = run(BAD, said(usage=None), llm=llm, clock=clock)
    assert (item.cost, item.usage) == (None, USAGE), "one of two calls is not counted: the cost is not known"


# ── temporary failures ──


@pytest.mark.parametrize("error", [NetworkError, ServerError, CallTimeoutError, BadResponseError])
def test_a_call_that_failed_for_now_is_repeated_after_the_waits_of_retry(error: type[ItemError]) -> None:
    clock = Clock()
    llm = make_llm(clock, retry=Retry(attempts=4, backoff=0.5, cap=30.0))
    item, stage = run(*[error("broken")] * 3, GOOD, llm=llm, clock=clock)
    assert (item.ok, item.attempts) == (True, 4)
    assert stage.waits == [0.5, 1.0, 2.0]
    assert item.latency == pytest.approx(4 * 1.0 + 3.5)
    assert {request.key for request in stage.sent} == {key_of()}


def test_patience_with_a_call_that_fails_has_an_end() -> None:
    clock = Clock()
    item, stage = run(*[NetworkError("broken")] * 9, llm=make_llm(clock, retry=Retry(attempts=3)), clock=clock)
    assert isinstance(item.error, NetworkError)
    assert (item.attempts, stage.kinds[-1]) == (3, "Release")


def test_what_the_endpoint_asks_for_is_waited() -> None:
    clock = Clock()
    item, stage = run(RateLimitError("slow down", retry_after=180.0), GOOD, llm=make_llm(clock), clock=clock)
    assert item.ok
    assert sum(stage.waits) >= 180.0
    assert item.attempts == 2


def test_refused_for_ever_ends() -> None:
    clock = Clock()
    llm = make_llm(clock, retry=Retry(refusals=4))
    item, _ = run(*[RateLimitError("slow down", retry_after=1.0)] * 9, llm=llm, clock=clock)
    assert isinstance(item.error, RateLimitError)
    assert item.attempts == 4


def test_failures_for_now_do_not_use_up_the_attempts() -> None:
    item, _ = run(NetworkError("broken"), BAD, ServerError("broken"), BAD, GOOD, attempts=3)
    assert (item.ok, item.attempts, item.usage) == (True, 5, USAGE + USAGE + USAGE)


@pytest.mark.parametrize(
    "error",
    [AuthenticationError("no", status=401), BadRequestError("no", status=400, provider_text="messages must be a list")],
)
def test_what_is_rejected_is_not_repeated(error: ItemError) -> None:
    item, stage = run(error, GOOD)
    assert item.error is error
    assert len(stage.sent) == 1


# ── the dialect of the endpoint ──


def refused(text: str) -> BadRequestError:
    return BadRequestError(text, status=400, provider_text=text)


def test_a_field_that_is_not_accepted_is_left_out_from_then_on() -> None:
    clock = Clock()
    llm = make_llm(clock, temperature=0.5)
    error = refused("Unsupported parameter: 'temperature' is not supported with this model.")
    item, stage = run(error, GOOD, llm=llm, clock=clock, attempts=1)
    assert (item.ok, item.attempts) == (True, 2)
    assert [request.body.get("temperature") for request in stage.sent] == [0.5, None]
    assert not stage.waits
    _, later = run(GOOD, llm=llm, clock=clock, given="Another parcel")
    assert "temperature" not in later.sent[0].body
    kept = [key for step in stage.steps if isinstance(step, Keep) for key, _ in step.entries]
    assert kept == [item.request.key if item.request else ""]


def test_auto_falls_back_to_what_the_endpoint_can() -> None:
    clock = Clock()
    llm = make_llm(clock)
    text = Completion(text='```json\n{"quote": "parcel", "team": "delivery"}\n```', finish_reason="stop")
    errors = [refused("tools are not supported"), refused("response_format is not supported by this model")]
    item, stage = run(*errors, text, text, llm=llm, clock=clock)
    forms = [sorted({"tools", "response_format"} & request.body.keys()) for request in stage.sent]
    assert forms[:2] == [["tools"], ["response_format"]]
    assert item.ok
    again, later = run(text, llm=llm, clock=clock, given="Another parcel")
    assert again.ok
    assert "tools" not in later.sent[0].body
    assert stage.kept.keys() == {key_of()}, "whatever form was asked for in the end"


def test_a_re_ask_is_made_in_the_form_that_works() -> None:
    bad, good = (
        Completion(text=json.dumps({"quote": quote, "team": "other"}), finish_reason="stop") for quote in ("x y", "is")
    )
    item, stage = run(refused("tools are not supported"), bad, good)
    assert item.ok
    assert "tools" not in stage.sent[-1].body
    assert "tool_calls" not in json.dumps(stage.sent[-1].messages)
    assert "x y" in json.dumps(stage.sent[-1].messages)


def test_a_mode_that_was_chosen_is_kept_to() -> None:
    item, stage = run(*[refused("tools are not supported")] * 9, mode="tools")
    assert isinstance(item.error, BadRequestError)
    assert len(stage.sent) <= 2


# ── the rate limit ──


def test_a_call_waits_for_its_turn() -> None:
    clock = Clock()
    llm = make_llm(clock)
    llm.rate_limiter = RateLimiter(RateLimit(requests=60), clock=clock)
    run(GOOD, llm=llm, clock=clock)
    began = clock.now = 200.0
    for number in range(3):
        item, _ = run(GOOD, llm=llm, clock=clock, given=f"parcel {number}")
        assert item.ok
    assert clock.now - began > 2.0


@pytest.mark.parametrize(
    "until", [Look, Lease, Send, Keep, Wait], ids=["looking", "leasing", "sending", "keeping", "waiting for its turn"]
)
def test_a_row_that_is_given_up_leaves_nothing_behind(until: type[Any]) -> None:
    clock = Clock()
    llm = make_llm(clock)
    llm.rate_limiter = RateLimiter(max_concurrency=1, clock=clock)
    blocker = llm.rate_limiter.permit() if until is Wait else None
    if blocker is not None:
        assert blocker.poll() is None
    generator = make_executor(llm, clock).ask(QUESTION)
    assert Stage([GOOD], clock=clock).play(generator, until=until) is None
    waiter = llm.single_flight.enter(key_of())
    assert waiter is not None
    generator.close()
    if blocker is not None:
        blocker.done()
    assert (llm.rate_limiter.in_flight, llm.rate_limiter.waiting) == (0, 0)
    assert waiter.result(timeout=0) is None, "those who wait are told that the leader gave up"
    assert llm.single_flight.enter(key_of()) is None, "somebody else may lead"


@pytest.mark.parametrize("thrown", [KeyboardInterrupt, SystemExit, ZeroDivisionError])
def test_what_is_not_an_item_error_passes_and_leaves_nothing_behind(thrown: type[BaseException]) -> None:
    clock = Clock()
    llm = make_llm(clock)
    generator = make_executor(llm, clock).ask(QUESTION)
    Stage(clock=clock).play(generator, until=Send)
    with pytest.raises(thrown):
        generator.throw(thrown())
    assert llm.rate_limiter.in_flight == 0
    assert llm.single_flight.enter(key_of()) is None


def test_a_call_that_was_given_up_after_a_failure_leaves_nothing_behind() -> None:
    clock = Clock()
    llm = make_llm(clock)
    generator = make_executor(llm, clock).ask(QUESTION)
    Stage([NetworkError("broken")], clock=clock).play(generator, until=Wait)
    generator.close()
    assert (llm.rate_limiter.in_flight, llm.rate_limiter.waiting) == (0, 0)


# ── several equal rows ──


@pytest.mark.parametrize(
    ("answers", "error"),
    [
        pytest.param([GOOD], None, id="an answer"),
        pytest.param([BAD] * 3, InvalidOutputError, id="an answer that does not fit"),
        pytest.param([AuthenticationError("no", status=401)], AuthenticationError, id="an error"),
    ],
)
def test_who_comes_second_is_given_what_the_first_one_gets(
    answers: list[Completion | Exception], error: type[ItemError] | None
) -> None:
    clock = Clock()
    llm = make_llm(clock)
    policy = make_executor(llm, clock)
    leader, follower = policy.ask(QUESTION), policy.ask({"message": QUESTION})
    leading, following = Stage(answers, clock=clock), Stage(clock=clock)
    leading.play(leader, until=Send)
    step = next(follower)
    assert isinstance(step, Wait)
    assert isinstance(step.hold, Future)
    assert not step.hold.done()
    following.answers = ()
    # The first step after Send shows its result.
    first = answers[0]
    advance = leader.throw if isinstance(first, Exception) else leader.send
    leading.answers = answers[1:]
    led = _resume(leading, leader, lambda: advance(first))
    followed = _resume(following, follower, lambda: follower.send(step.hold.result(timeout=0)))
    assert following.sent == []
    assert (followed.cached, followed.attempts, followed.usage.total) == (led.ok, 0, 0)
    assert followed.output == led.output
    assert followed.raw == led.raw
    assert type(followed.error) is type(led.error) is (error or type(None))
    assert followed.input == {"message": QUESTION}


def _resume(stage: Stage, generator: Steps[Item[Route]], advance: Callable[[], Step]) -> Item[Route]:
    """Continue a generator that was left at a step, with the result of `advance`."""

    def whole() -> Steps[Item[Route]]:
        try:
            step = advance()
        except StopIteration as end:
            result: Item[Route] = end.value
            return result
        while True:
            try:
                came = yield step
            except ItemError as error:
                step = generator.throw(error)
                continue
            try:
                step = generator.send(came)
            except StopIteration as end:
                ended: Item[Route] = end.value
                return ended

    item = stage.play(whole())
    assert item is not None
    return item


def test_when_the_first_one_gives_up_the_second_takes_over() -> None:
    clock = Clock()
    llm = make_llm(clock)
    policy = make_executor(llm, clock)
    leader, follower = policy.ask(QUESTION), policy.ask(QUESTION)
    Stage(clock=clock).play(leader, until=Send)
    step = next(follower)
    assert isinstance(step, Wait)
    leader.close()
    stage = Stage([GOOD], clock=clock)
    item = _resume(stage, follower, lambda: follower.send(step.hold.result(timeout=0)))  # type: ignore[union-attr]
    assert (item.ok, item.cached, item.attempts) == (True, False, 1)
    assert stage.kinds == ["Look", "Lease", "Send", "Keep"]


# ── other processes ──


def test_what_another_process_asks_for_is_waited_for() -> None:
    stage = Stage(leases=[False] * 4, clock=Clock())

    def appears(_: Wait) -> None:
        if len(stage.waits) == 3:
            stage.kept[key_of()] = GOOD

    stage.on_wait = appears
    item = stage.play(make_executor(make_llm(stage.clock), stage.clock).ask(QUESTION))
    assert item is not None
    assert (item.ok, item.cached, item.attempts) == (True, True, 0)
    assert stage.sent == []
    assert stage.waits == sorted(stage.waits)
    assert "Release" not in stage.kinds, "the lease is the other's"


def test_when_the_other_process_fails_this_one_asks_and_looks_now_and_then_only() -> None:
    item, stage = run(GOOD, leases=[False] * 12 + [True])
    assert (item.ok, item.attempts) == (True, 1)
    assert stage.waits[:4] == [0.02, 0.04, 0.08, 0.16]
    assert max(stage.waits) == 1.0
    assert stage.kinds[-3:] == ["Lease", "Send", "Keep"]


def test_a_lease_that_is_refused_for_ever_is_not_waited_for_for_ever() -> None:
    item, stage = run(GOOD, leases=[False] * 10_000)
    assert (item.ok, item.attempts) == (True, 1)
    assert LEASE <= sum(stage.waits) < LEASE + 2


def test_what_is_asked_anew_on_purpose_waits_for_nobody() -> None:
    item, stage = run(BAD, BAD, BAD, leases=[False], fresh=True)
    assert not item.ok
    assert stage.kinds == ["Send"] * 3
