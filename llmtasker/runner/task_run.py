"""run_task: a task's run over many inputs, from the arguments to batches of Items."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sized
from contextlib import aclosing
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Self, TypeVar

from llmtasker.cache.async_store import AsyncStore
from llmtasker.compiler.program import Program
from llmtasker.errors import ConfigurationError, snippet
from llmtasker.item import Item
from llmtasker.llm.llm import LLM
from llmtasker.runner.budget import Budget
from llmtasker.runner.call_settings import CallSettings, InputOptions, places_beside_calls
from llmtasker.runner.circuit_breaker import CircuitBreaker
from llmtasker.runner.feed import Feed
from llmtasker.runner.grouping.group_plan import GroupPlan
from llmtasker.runner.inputs import InputRows, check_rows, rows_of
from llmtasker.runner.observers import Observers
from llmtasker.runner.policy import Fresh, Policy
from llmtasker.runner.progress import OnProgress, reporting
from llmtasker.runner.row_run import READ_AHEAD
from llmtasker.runner.run import Run
from llmtasker.values.argument_checks import check_choice, check_count, check_names

if TYPE_CHECKING:
    from llmtasker.runner.grouping.group_program import GroupProgram

T = TypeVar("T")

DEFAULT_CONCURRENCY = 32


class RunOptions(InputOptions, total=False):
    """The keyword arguments of `run` and `arun`; `Task.run` describes them."""

    concurrency: int | None
    progress: bool | OnProgress | None
    fresh: Fresh
    budget: Budget | None


class StreamOptions(RunOptions, total=False):
    """The keyword arguments of `stream` and `astream`."""

    ordered: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """The settings of a run; a `stream` reads a bounded number of rows ahead.

    Raises:
        ConfigurationError: a setting is out of range.
    """

    concurrency: int | None = None
    progress: bool | OnProgress | None = None
    fresh: Fresh = False
    budget: Budget | None = None
    columns: Mapping[str, str] | None = None
    row_variables: Mapping[str, str] | None = None
    settings: CallSettings | None = None
    ordered: bool = True
    stream: bool = False

    @classmethod
    def of_run(cls, options: Mapping[str, Any]) -> Self:
        """Return the settings of `run(**options)`.

        Raises:
            ConfigurationError: `run` has no such argument, or its value is not allowed.
        """
        return cls._of("run", RunOptions, options)

    @classmethod
    def of_stream(cls, options: Mapping[str, Any]) -> Self:
        """Return the settings of `stream(**options)`; see `of_run`."""
        return replace(cls._of("stream", StreamOptions, {"ordered": False, **options}), stream=True)

    @classmethod
    def _of(cls, call: str, known: type, options: Mapping[str, Any]) -> Self:
        check_names(call, options, tuple(known.__annotations__), places)
        if (concurrency := options.get("concurrency")) is not None:
            check_count("concurrency", concurrency, "the inputs to process at once")
        check_choice("fresh", options.get("fresh", False), (False, True, "invalid"))
        progress = options.get("progress")
        if not (progress is None or isinstance(progress, bool) or callable(progress)):
            raise ConfigurationError(f"progress is True, False, None or a function, not {snippet(repr(progress), 60)}.")
        check_budget(options.get("budget"))
        return cls(**options)


def rows_at_once(given: int | None, llms: Iterable[LLM]) -> int:
    """Return how many rows are processed at once: as many as are given; else 32, or as many as the LLMs may have in
    flight together by their `max_concurrency`, if these are more.

    >>> rows_at_once(None, [LLM("offline", max_concurrency=1000)]), rows_at_once(None, [LLM("offline")])
    (1000, 32)
    """
    if given is not None:
        return given
    # Each row has mostly one call in flight, so it takes the rows of all LLMs to keep them all busy.
    return max(DEFAULT_CONCURRENCY, sum(llm.rate_limiter.max_concurrency or 0 for llm in set(llms)))


def check_budget(budget: object) -> None:
    """Check that an argument is a budget.

    Raises:
        ConfigurationError: it is something else, such as a number.
    """
    if not (budget is None or hasattr(budget, "reserve")):
        raise ConfigurationError(f"budget takes a Budget, such as Budget(calls=1000), not {snippet(repr(budget), 60)}.")


def places() -> dict[str, str]:
    """Return where each argument of an LLM, a run or a call belongs, for the error of a function without it."""
    of_calls = {each.name: f"it belongs in settings=CallSettings({each.name}=…)" for each in fields(CallSettings)}
    return {**of_calls, **places_beside_calls()}


async def run_task(
    inputs: InputRows,
    settings: RunSettings,
    policy: Policy[Any, T],
    plan: GroupPlan[Any],
    store_of: Callable[[LLM], AsyncStore | None],
    observers: Observers | None = None,
) -> AsyncGenerator[list[Item[T]]]:
    """Yield the items of a run as they finish; `policy` asks for one input, `plan` for several in one message."""
    llm = policy.llm
    concurrency = rows_at_once(settings.concurrency, [llm])
    store = await prepare(llm, policy.program, store_of)
    breaker = CircuitBreaker()
    policy = replace(policy, breaker=breaker)
    run: Run[T] = Run(
        transport=llm.transport,
        store=store,
        concurrency=concurrency,
        window=READ_AHEAD * concurrency * plan.largest if settings.stream else None,
        ordered=settings.ordered,
        breaker=breaker,
        events=None if observers is None else observers.begin(policy.tags, policy.program.signature),
        tags=policy.tags,
    )
    total = len(inputs) if isinstance(inputs, Sized) else None
    with reporting(settings.progress, llm.rate_limiter, total) as reporter:
        rows = rows_of(inputs, policy.program.columns)
        check_rows(rows, policy.program.signature, policy.program.columns)
        feed = Feed(rows, bare=policy.program.columns is None)
        if run.events is not None:
            run.events.started()
        try:
            if plan.program is None:
                batches = run.batches(policy, feed)
            else:
                batches = _grouped(run, feed, policy, plan, plan.program, cached=store is not None)
            async with aclosing(batches):
                async for batch in batches:
                    if reporter is not None:
                        for item in batch:
                            reporter.count(item)
                    yield batch
        finally:
            await feed.close()
            if run.events is not None and observers is not None:
                run.events.ended()
                await asyncio.to_thread(observers.flush)


async def _grouped(
    run: Run[T], feed: Feed, alone: Policy[Any, T], plan: GroupPlan[Any], program: GroupProgram[Any], *, cached: bool
) -> AsyncGenerator[list[Item[T]]]:
    from llmtasker.runner.grouping.report import Tally

    tally = plan.tally = Tally()
    if plan.auto is not None:
        from llmtasker.runner.grouping.sample_run import SampleRun

        first = SampleRun(auto=plan.auto, program=program, alone=alone, tally=tally, run=run, known=plan.choice)
        async with aclosing(first.batches(feed)) as batches:
            async for batch in batches:
                yield batch
        if tally.choice is not None and tally.choice.measured:
            plan.choice = tally.choice
    worker = plan.worker(program, alone, tally, cached=cached)
    async with aclosing(run.batches(worker, feed)) as batches:
        async for batch in batches:
            yield batch


async def prepare(llm: LLM, program: Program[Any], store_of: Callable[[LLM], AsyncStore | None]) -> AsyncStore | None:
    """Do the one-time work that would block the event loop, in a thread; return the store of a run.

    If no model was named, the endpoint is asked for it; modules that prepare requests are loaded; a Redis is checked.

    Raises:
        ConfigurationError: there is no asyncio event loop.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        raise ConfigurationError(
            "acall, arun and astream need a running asyncio event loop, and there is none: other async libraries, such "
            "as trio, can use the blocking forms in a thread"
        ) from None
    ready = "settings" in vars(llm) and program.ready
    if "settings" not in vars(llm):
        await asyncio.to_thread(getattr, llm, "settings")
    if not program.ready:
        await asyncio.to_thread(program.warm_up)
    return store_of(llm) if ready else await asyncio.to_thread(store_of, llm)
