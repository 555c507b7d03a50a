"""The rows of a pipeline's run, a bounded number at a time; each becomes an Item with the items of its steps."""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping, Sized
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from types import FunctionType
from typing import Any, cast

from llmtasker.errors import InputError, ItemError, LLMTaskerError, PipelineError, snippet
from llmtasker.item import Item, cost_of, together
from llmtasker.llm.llm import LLM
from llmtasker.pipelines.arguments import Arguments
from llmtasker.pipelines.returned import Returned
from llmtasker.pipelines.used_values import used_name
from llmtasker.runner.feed import Feed, WaitingRow
from llmtasker.runner.inputs import InputRows, rows_of
from llmtasker.runner.observers import Observers
from llmtasker.runner.progress import reporting
from llmtasker.runner.row_run import READ_AHEAD, RowRun
from llmtasker.runner.row_scope import RunScope
from llmtasker.runner.slots import Rest
from llmtasker.runner.task_run import RunSettings, rows_at_once


@dataclass(frozen=True, slots=True, kw_only=True)
class RowWorker:
    """Calls the function of a pipeline for one input at a time."""

    function: FunctionType
    arguments: Arguments
    returned: Returned
    timeout: float
    scope: RunScope
    columns: Mapping[str, str] = field(default_factory=dict[str, str])
    tags: Mapping[str, Any] = field(default_factory=dict[str, Any])
    replaced: Mapping[str, Any] = field(default_factory=dict[str, Any])
    size: int = field(default=1, init=False)

    async def item(self, number: int, given: Any) -> Item[Any]:
        """Return the item of the input of a row.

        Raises:
            LLMTaskerError: a step is set up wrongly, which affects all rows.
        """
        try:
            arguments = self.arguments.values(given, self.columns)
        except InputError as unfit:
            return Item(input=given, error=unfit, tags=self.tags)
        started = time.perf_counter()
        output: Any = None
        error: ItemError | None = None
        with self.scope.row(number) as row:
            try:
                output = self.returned.checked(await self._called(arguments))
            except ItemError as failure:
                at = next((at for at, (_, step) in enumerate(row.steps) if step.error is failure), None)
                error = failure.with_traceback(None)
                if at is not None:
                    step = used_name(self.function, self.replaced, row.steps[at][0])  # pyright: ignore[reportArgumentType]
                    error = error.at_step(at + 1, step)
        steps = row.items
        cached = bool(steps) and all(step.cached for step in steps)
        item = Item(
            input=given,
            output=output,
            raw=next((step.raw for step in reversed(steps) if step.raw is not None), None),
            error=error,
            repairs=tuple(repair for step in steps for repair in step.repairs),
            steps=steps,
            tags=self.tags,
        )
        # Steps may run at the same time, so their times do not add up.
        took = 0.0 if cached else time.perf_counter() - started
        return replace(together(item, steps), cost=cost_of(steps), latency=took, cached=cached)

    async def _called(self, arguments: Mapping[str, Any]) -> Any:
        """Return the result of the function.

        Raises:
            ItemError: its exception, as the error of a row.
        """
        deadline = asyncio.timeout(self.timeout)
        try:
            async with deadline:
                return await self.function(**arguments)
        except LLMTaskerError:
            raise  # of a step: an ItemError is that of the row; a wrong set-up affects all rows
        except asyncio.CancelledError as error:
            if (task := asyncio.current_task()) is None or task.cancelling():
                raise
            reason = self._reason(error)  # this task was not cancelled: the function raised it
        except (Exception, SystemExit) as error:  # noqa: BLE001 - the function is user code, and may even exit
            if (of_step := _of_step(error)) is not None:
                raise of_step from None
            reason = f" did not end within {self.timeout:g} s" if deadline.expired() else self._reason(error)
        # Raised here, so that it does not keep the frames of the function.
        raise PipelineError(f"{self.function.__name__}{reason}")

    def _reason(self, error: BaseException) -> str:
        file = self.function.__code__.co_filename
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
        where = f", line {lines[-1]}" if lines else ""
        return f"{where}: {type(error).__name__}: {snippet(error)}"


def _of_step(error: BaseException) -> LLMTaskerError | None:
    """Return the error of a step in an `asyncio.TaskGroup`, a wrong set-up first, if there is no other error."""
    errors = list(_members(error))
    known = [one for one in errors if isinstance(one, LLMTaskerError)]
    return min(known, key=lambda one: isinstance(one, ItemError)) if len(known) == len(errors) else None


def _members(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for one in cast("BaseExceptionGroup[BaseException]", error).exceptions:
            yield from _members(one)
    else:
        yield error


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineRun(RowRun[Any, RowWorker]):
    """Calls the function of a pipeline for many inputs."""

    async def items(self, worker: RowWorker, rows: list[WaitingRow], rest: Rest) -> list[Item[Any]]:
        """Return the item of the one row."""
        ((number, given, _),) = rows
        return [await worker.item(number, given)]


class _StepLimits:
    """The limits on the calls of all steps: the rate limiters of the LLMs used so far."""

    def __init__(self, scope: RunScope) -> None:
        self._scope = scope

    @property
    def in_flight(self) -> int:
        """Calls that were sent and have not ended."""
        return sum(llm.rate_limiter.in_flight for llm in list(self._scope.llms))

    @property
    def waiting(self) -> int:
        """Calls that wait for a permit."""
        return sum(llm.rate_limiter.waiting for llm in list(self._scope.llms))

    @property
    def held(self) -> float:
        """Seconds until the next call may start, at the endpoint with the longest wait."""
        return max((llm.rate_limiter.held for llm in list(self._scope.llms)), default=0.0)

    @property
    def stalled(self) -> float:
        """The longest time in seconds for which an endpoint has refused or failed everything."""
        return max((llm.rate_limiter.stalled for llm in list(self._scope.llms)), default=0.0)

    @property
    def down(self) -> bool:
        """Whether an endpoint fails, rather than refuses."""
        return any(llm.rate_limiter.down for llm in list(self._scope.llms))

    @property
    def reason(self) -> str:
        """The last error of the endpoint with the longest wait."""
        return max(
            ((llm.rate_limiter.held, llm.rate_limiter.reason) for llm in list(self._scope.llms)), default=(0, "")
        )[1]


async def run_rows(
    inputs: InputRows, settings: RunSettings, worker: RowWorker, observers: Observers, llms: Iterable[LLM]
) -> AsyncGenerator[list[Item[Any]]]:
    """Yield the items of a pipeline's run as they finish."""
    events = worker.scope.events = observers.begin(worker.tags, worker.function.__name__)
    concurrency = rows_at_once(settings.concurrency, llms)
    run = PipelineRun(
        concurrency=concurrency,
        window=READ_AHEAD * concurrency if settings.stream else None,
        ordered=settings.ordered,
        events=events,
        tags=worker.tags,
    )
    total = len(inputs) if isinstance(inputs, Sized) else None
    with reporting(settings.progress, _StepLimits(worker.scope), total) as reporter:
        feed = Feed(rows_of(inputs))
        if events is not None:
            events.started()
        try:
            async with aclosing(run.batches(worker, feed)) as batches:
                async for batch in batches:
                    if reporter is not None:
                        for item in batch:
                            reporter.count(item)
                    yield batch
        finally:
            await feed.close()
            if events is not None:
                events.ended()
                await asyncio.to_thread(observers.flush)
