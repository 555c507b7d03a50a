"""Ray: a task over a Dataset, asked by workers on several machines (extra `[ray]`)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from importlib import import_module
from typing import Any, Unpack
from uuid import uuid4

from llmtasker.errors import ConfigurationError, snippet
from llmtasker.integrations.partitions import PartitionOptions, PartitionTask
from llmtasker.integrations.rate_shares import ANSWER, RateShare, RateShares, part_of
from llmtasker.llm.limits import RateLimit
from llmtasker.llm.rate_limiter import RateLimiter
from llmtasker.result_table import free_name
from llmtasker.task import Task
from llmtasker.threads import call_in_thread
from llmtasker.values.argument_checks import check_count

ROW = "row"
_BLOCKS_AT_ONCE = 3  # per worker: the next block starts while the last rows of one are answered
_BLOCKS: dict[str, int] = {
    "max_concurrent_calls_per_actor": _BLOCKS_AT_ONCE,
    "max_tasks_in_flight_per_actor": _BLOCKS_AT_ONCE + 1,
}


def ask(
    task: Task[Any],
    dataset: Any,
    *,
    workers: int | tuple[int, int] = 4,
    rate_limit: RateLimit | None = None,
    num_cpus: float = 0.25,
    **options: Unpack[PartitionOptions],
) -> Any:
    """Return a Dataset with the answers of a task; like any Dataset, it is computed when it is read or written.

    The columns of `dataset` stay. Added are "row", which follows the order of the rows, so that `sort("row")` restores
    it; one column for each output field; and "error". The key of the LLM is not sent: each worker reads it from its
    environment, and without one, its rows have an error. Cached answers are not asked for again, so run it again to
    resume; a cache for all machines is `LLM(cache="redis://…")`.

    Args:
        task: the task; its class may be defined in a notebook.
        dataset: one of its columns, or the only one, is the input.
        workers: the number of actors, or (least, most).
        rate_limit: what the endpoint allows all workers together; None: the `rate_limit` of the LLM. The workers that
            have rows share it. Without a limit, each worker learns its own from refusals.
        num_cpus: the CPUs that Ray reserves for a worker, which mostly waits for the endpoint.
        options: `concurrency` (calls in flight of one worker), `columns`, `row_variables`, `settings`, `fresh`, as for
            `Task.run`.

    Raises:
        ConfigurationError: Ray is not installed, an argument is wrong, a column is missing, or the task has something
            that can't be sent to another process.
    """
    ray = _ray()
    data, expressions = import_module("ray.data"), import_module("ray.data.expressions")
    least, most = _least_and_most(workers)
    columns: list[str] = dataset.columns() or []
    part = _portable(PartitionTask(task, **options), columns)
    limit = rate_limit or part.llm.rate_limiter.limit
    shares = None if limit is None else ray.remote(num_cpus=0)(RateShares).remote()
    row = free_name(ROW, columns)
    # Blocks small enough that all workers have some, and that few rows wait for a killed worker.
    rows = part.concurrency
    numbered = dataset.with_column(row, expressions.monotonically_increasing_id())
    return numbered.repartition(target_num_rows_per_block=rows).map_batches(
        TaskWorker,
        fn_constructor_args=(part, row, limit, 1 / most, shares),
        batch_size=rows,
        batch_format="pyarrow",
        compute=data.ActorPoolStrategy(min_size=least, max_size=most, **_BLOCKS),
        num_cpus=num_cpus,
        udf_modifying_row_count=False,
    )


class TaskWorker:
    """The work of a Ray actor: answer blocks of rows, several at once."""

    def __init__(self, part: PartitionTask, row: str, limit: RateLimit | None, equal: float, shares: Any) -> None:
        self._part = part
        self._row = row
        # All blocks together have no more calls in flight than one run would have.
        given = part.llm.rate_limiter.max_concurrency
        concurrency = part.concurrency
        first = limit and part_of(limit, equal)
        limiter = RateLimiter(first, max_concurrency=concurrency if given is None else min(given, concurrency))
        part.llm.rate_limiter = limiter
        self._share: contextlib.AbstractContextManager[object] = contextlib.nullcontext()
        if limit is not None:
            self._share = RateShare(limit, limiter, _SharesOfActor(shares), equal)

    async def __call__(self, table: Any) -> Any:
        # In a thread: Ray blocks the event loop of an actor whose results wait to be read.
        return await asyncio.wrap_future(call_in_thread(self._answering(table), "llmtasker block"))

    def _answering(self, table: Any) -> Callable[[], Any]:
        def answer() -> Any:
            with self._share:
                return self._part.arrow(table, without={self._row})

        return answer


class _SharesOfActor:
    """A worker's connection to the shares, which are in a Ray actor."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor
        self._worker = uuid4().hex

    def renew(self, wanted: float, using: float) -> float:
        share: float = _ray().get(self._actor.renew.remote(self._worker, wanted, using), timeout=ANSWER)
        return share

    def leave(self) -> None:
        self._actor.leave.remote(self._worker)


def _least_and_most(workers: int | tuple[int, int]) -> tuple[int, int]:
    least, most = workers if isinstance(workers, tuple) else (workers, workers)
    for count in (least, most):
        check_count("workers", count, "the actors that ask")
    return least, most


def _portable(part: PartitionTask, columns: list[str]) -> PartitionTask:
    """Return the task, checked: the columns have its inputs, and it can be sent to workers."""
    part.check(columns)
    try:
        import_module("ray.cloudpickle").dumps(part)
    except Exception as error:  # noqa: BLE001 - __reduce__ of a foreign object may raise anything
        raise ConfigurationError(
            f"the task can't be sent to workers: {snippet(error)}. "
            "Give it an LLM by its name, and a cache by its folder or URL."
        ) from None
    return part


def _ray() -> Any:
    try:
        return import_module("ray")
    except ModuleNotFoundError:
        raise ConfigurationError('workers on several machines need Ray: pip install "llmtasker[ray]"') from None
