"""JobRunner: does the remaining work of a queue of jobs, row by row, until it is stopped."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from typing import Any, cast

from llmtasker.errors import ConfigurationError, LLMTaskerError
from llmtasker.item import Item
from llmtasker.jobs.error_trace import error_trace
from llmtasker.jobs.job_queue import LEASE, JobQueue
from llmtasker.jobs.job_rows import DoneRow
from llmtasker.jobs.job_state import Job, label_of
from llmtasker.jobs.pipeline_work import PipelineWork, TaskLike, work_on
from llmtasker.jobs.row_work import RowWork
from llmtasker.runner.budget import Budget
from llmtasker.runner.numbered_input import NumberedInput
from llmtasker.runner.task_run import StreamOptions

__all__ = ["JobRunner", "NumberedInput"]

_LOG = logging.getLogger("llmtasker")
_LOOK = 1.0  # seconds between checks for a job if nothing wakes the runner
_BEAT = LEASE / 10
_AHEAD = 2_000  # items that may wait to be written
_BREATH = 0.01


class JobRunner:
    """Works on the jobs of a queue, `jobs_at_once` at a time; several processes may share a queue.

    A job of a process that died is resumed after `LEASE` seconds. `task_of(job)` returns the task of a job, and raises
    a ConfigurationError if there is none. Rows are asked as by `Task.astream`; rows that have an item are not asked.
    """

    def __init__(
        self,
        queue: JobQueue,
        task_of: Callable[[Job], TaskLike],
        *,
        jobs_at_once: int = 2,
        concurrency: int | None = None,
    ) -> None:
        self.queue = queue
        self._task_of = task_of
        self._jobs_at_once = jobs_at_once
        self._concurrency = concurrency
        self._worker = f"{os.getpid()}-{secrets.token_hex(4)}"
        self._woken = asyncio.Event()
        self._stopping = False

    def wake(self) -> None:
        """Look for work now; call it in the runner's event loop when a job was created or resumed."""
        self._woken.set()

    async def run(self) -> None:
        """Work until `stop` is called or the task is cancelled; finished rows are kept in any case."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self._jobs_at_once):
                group.create_task(self._work())
            group.create_task(self._expire())

    def stop(self) -> None:
        """Let jobs end after the rows in flight; the rest waits for the next process."""
        self._stopping = True
        self._woken.set()

    async def _expire(self) -> None:
        while not self._stopping:
            try:
                await asyncio.to_thread(self.queue.expire)
            except Exception as error:  # noqa: BLE001 - as in _work
                _LOG.error("jobs could not be removed: %s", error_trace(error))
            await self._pause(60.0)

    async def _work(self) -> None:
        while not self._stopping:
            idle = True
            try:
                job = await asyncio.to_thread(self.queue.claim, self._worker)
                if job is not None:
                    await self._try(job)
                    idle = False
            except Exception as error:  # noqa: BLE001 - a full disk or a locked file must not end the runner
                _LOG.error("the file of jobs failed: %s", error_trace(error))
            if idle:
                await self._pause(_LOOK)

    async def _try(self, job: Job) -> None:
        """Work on a job; if that fails, the job ends with the reason."""
        try:
            await self._do(job)
        except* LLMTaskerError as errors:
            error = errors.exceptions[0]
            _LOG.warning("job %s failed: %s", job.id, error_trace(error))
            await asyncio.to_thread(self.queue.fail, job.id, self._worker, str(error))
        except* Exception as errors:  # noqa: BLE001 - one job must not end the others
            _LOG.error("job %s failed: %s", job.id, error_trace(errors))
            reason = "an internal error; the server's log has the job's id"
            await asyncio.to_thread(self.queue.fail, job.id, self._worker, reason)

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._woken.wait(), seconds)
        if not self._stopping:
            self._woken.clear()

    async def _do(self, job: Job) -> None:
        task = self._task_of(job)
        work = work_on(task)
        if work.whole != job.identity:
            if work.lasting:
                raise ConfigurationError("the task was changed since the job began: create the job again.")
            job = await asyncio.to_thread(self.queue.start_over, job, self._worker, work.whole)
        inputs = _Remaining(self.queue, job, self._worker, lambda: self._stopping)
        writer = _Writer(self.queue, job, work)
        async with asyncio.TaskGroup() as group:
            group.create_task(writer.write())
            try:
                await self._ask(job, task, inputs, writer)
            finally:
                writer.end()
        await asyncio.to_thread(self.queue.leave, job.id, self._worker, done=inputs.ended)

    async def _ask(self, job: Job, task: TaskLike, inputs: _Remaining, writer: _Writer) -> None:
        budget = None if job.budget is None else Budget(cost=max(job.budget - (job.cost or 0.0), 1e-9))
        options: StreamOptions = {"concurrency": self._concurrency, "budget": budget, "progress": False}
        beating: asyncio.Task[None] | None = None
        try:
            async with (
                asyncio.timeout(None) as limit,
                aclosing(cast("AsyncGenerator[Item[Any]]", task.astream(inputs, **options))) as items,
            ):
                beating = asyncio.create_task(self._beat(job, inputs, limit))
                async for item in items:
                    if not isinstance(item.input, NumberedInput):
                        raise ConfigurationError(f"the rows of the job could not be read: {item.error}")
                    await writer.add(item.input.number, item)
        except TimeoutError:
            if not inputs.lost:
                raise
        finally:
            if beating is not None:
                beating.cancel()

    async def _beat(self, job: Job, inputs: _Remaining, limit: asyncio.Timeout) -> None:
        """Renew the lease; if the worker has lost it, stop the work at once."""
        while await asyncio.to_thread(self.queue.beat, job.id, self._worker):  # noqa: ASYNC110 - asked each time
            await asyncio.sleep(_BEAT)
        inputs.lost = True
        limit.reschedule(0)


class _Writer:
    """Writes items in another thread; items that arrive during a write are written together."""

    def __init__(self, queue: JobQueue, job: Job, work: RowWork | PipelineWork) -> None:
        self._queue, self._job, self._work = queue, job, work
        self._came: list[DoneRow] = []
        self._ready = asyncio.Event()
        self._ended = False

    async def add(self, number: int, item: Item[Any]) -> None:
        work = self._work
        label = label_of(work.answer(item)) if item.ok else None
        self._came.append(DoneRow(number, item, work.kept(item), label, work.sure(item)))
        self._ready.set()
        while len(self._came) >= _AHEAD:  # noqa: ASYNC110 - seldom: the disk is slower than the LLM
            await asyncio.sleep(_BREATH)

    def end(self) -> None:
        self._ended = True
        self._ready.set()

    async def write(self) -> None:
        """Write until `end` is called and everything is written."""
        while self._came or not self._ended:
            await self._ready.wait()
            self._ready.clear()
            rows, self._came = self._came, []
            if rows:
                await asyncio.to_thread(self._queue.put, self._job, rows)


class _Remaining:
    """The inputs of the rows without an item, until this worker loses the job or the runner stops.

    `lost`: the job was paused, cancelled, deleted or taken over. `ended`: no row is left.
    """

    def __init__(self, queue: JobQueue, job: Job, worker: str, stopping: Callable[[], bool]) -> None:
        self._queue, self._job, self._worker, self._stopping = queue, job, worker, stopping
        self.lost = False
        self.ended = False

    def __iter__(self) -> Iterator[NumberedInput]:
        for row in self._queue.waiting(self._job.id):
            if self.lost or self._stopping():
                return
            yield NumberedInput(row.given, row.number, self._job.id)
        self.ended = True
