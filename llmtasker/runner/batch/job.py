"""BatchJob: many inputs through the provider's batch API, cheaper and within a day; jobs survive a restart."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Generic, TypeVar

from llmtasker.cache.async_store import async_store
from llmtasker.errors import (
    BadRequestError,
    ConfigurationError,
    ItemError,
    NotRunError,
    OutputError,
    ServerError,
    TransientError,
    counted,
)
from llmtasker.item import Item
from llmtasker.llm.costs import Prices
from llmtasker.portal import portal
from llmtasker.results import Results
from llmtasker.runner.awaiting import run_awaiting
from llmtasker.runner.batch.job_store import StoredJob
from llmtasker.runner.batch.output_files import OutputFiles
from llmtasker.runner.batch.submit import BatchSubmitter
from llmtasker.runner.policy import worth_another
from llmtasker.runner.row import Outcome, Row, Spent
from llmtasker.wire.batch_file import ENDED
from llmtasker.wire.completion import NO_USAGE, Completion

T = TypeVar("T")

_MISSED = 10  # consecutive failed polls after which `wait` gives up
_NOT_STARTED = "not started"


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchStatus:
    """The state of a job, as counted by the provider: the `rows` in its batches, and how many are `done` and `failed`.

    `batches` counts them by status: validating, in_progress, finalizing, completed, expired, failed, cancelling,
    cancelled, not started. `reasons` names why whole batches failed.
    """

    rows: int
    done: int
    failed: int
    batches: Mapping[str, int]
    reasons: tuple[str, ...] = ()

    @property
    def ended(self) -> bool:
        """Whether all batches have ended."""
        return self.batches.keys() <= {*ENDED, _NOT_STARTED}

    def __str__(self) -> str:
        states = ", ".join(f"{count} {status}" for status, count in self.batches.items()) or "none needed"
        text = f"{counted(self.rows, 'row')}: {self.done:,} done, {self.failed:,} failed; batches: {states}"
        return "; ".join([text, *self.reasons])


class BatchJob(Generic[T]):
    """Rows that a provider's batch API answers; created by `task.submit(inputs)`, reopened by `task.batch(id)`."""

    def __init__(self, submitter: BatchSubmitter[Any, T], record: StoredJob) -> None:
        self._submitter = submitter
        # A job that was deleted since is not needed: its answers are in the cache.
        beside = [one for one in submitter.jobs.all() if one.id in record.beside] if record.beside else []
        self._records = [record, *beside]

    @property
    def id(self) -> str:
        """The id that `task.batch` takes to reopen the job."""
        return self._records[0].id

    def __repr__(self) -> str:
        record = self._records[0]
        return f"BatchJob({self.id!r}, {record.size})"

    def status(self) -> BatchStatus:
        """Ask the provider for the state of the job, with one short call for each batch that has not ended.

        Raises:
            CallError: the provider can't be reached, or refuses.
        """
        states, reasons, counts = Counter[str](), dict[str, None](), Counter[str]()
        for record in self._records:
            for part in record.parts:
                info = self._submitter.look(record, part)
                states[info.status if info else _NOT_STARTED] += 1
                counts += Counter(done=info.completed, failed=info.failed) if info else Counter()
                reasons |= dict.fromkeys(info.reasons if info else ())
        rows = sum(record.rows for record in self._records)
        return BatchStatus(
            rows=rows, done=counts["done"], failed=counts["failed"], batches=dict(states), reasons=tuple(reasons)
        )

    def wait(
        self,
        *,
        poll: float = 60.0,
        timeout: float | None = None,
        on_status: Callable[[BatchStatus], object] | None = None,
        sleep: Callable[[float], object] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> BatchStatus:
        """Poll every `poll` seconds until the job has ended or `timeout` seconds have passed; return its status.

        An interrupt does not stop the job at the provider. `on_status` receives each status.

        Raises:
            CallError: ten consecutive polls failed, or the provider refuses.
        """
        until = None if timeout is None else clock() + timeout
        missed = 0
        while True:
            try:
                status = self.status()
                missed = 0
                if on_status is not None:
                    on_status(status)
                if status.ended or (until is not None and clock() + poll > until):
                    return status
            except TransientError:
                missed += 1
                if missed >= _MISSED or (until is not None and clock() + poll > until):
                    raise
            sleep(poll)

    def cancel(self) -> BatchStatus:
        """Stop the batches of the job; answers received so far can be fetched. Batches of other jobs are not stopped.

        Raises:
            CallError: the provider can't be reached, or refuses.
        """
        record = self._records[0]
        for part in record.parts:
            info = self._submitter.look(record, part)
            if info is not None and not info.ended:
                self._stop(info.id)
        return self.status()

    def _stop(self, batch: str) -> None:
        # The batch may have ended since its status was fetched.
        with suppress(BadRequestError, ServerError):
            self._submitter.patiently(partial(self._submitter.provider.cancel, batch))

    def results(self, inputs: Any, *, reask: bool = False, prices: Prices | None = None) -> Results[T]:
        """Return an item for each input, in order; see `stream`."""
        return Results(self.stream(inputs, reask=reask, prices=prices))

    def stream(self, inputs: Any, *, reask: bool = False, prices: Prices | None = None) -> Iterator[Item[T]]:
        """Yield an item for each input, in order: from the cache, or else from the provider's files.

        The inputs may be those that were submitted, or others: answers are found by content. Valid answers are
        stored in the cache, so that `run` finds them too. A row that has no answer (yet) has a NotRunError.

        `reask=True` asks again for invalid answers one by one, at the usual price, each with the validation error.
        `prices` are those of the batch API; without them the cost of its answers is None.

        Raises:
            CallError: the provider can't be reached, or refuses.
            ConfigurationError: the configuration is wrong.
        """
        submitter = self._submitter
        homes = {id(part): record for record in self._records for part in record.parts}
        files = OutputFiles(
            [part for record in reversed(self._records) for part in record.parts],  # the job's own are the latest
            provider=lambda: submitter.provider,
            look=lambda part: submitter.look(homes[id(part)], part),
            patiently=submitter.patiently,
            folder=submitter.jobs.folder,
        )
        with files:
            reading = _JobReading(submitter=submitter, files=files, reask=reask, prices=prices)
            for chunk in submitter.looked_up(inputs):
                yield from reading.items(chunk)
            for part in files.finished():
                if not part.fetched:
                    part.fetched = True
                    submitter.jobs.save(homes[id(part)])

    def delete(self) -> None:
        """Delete the job's files at the provider, requests and answers, and the record of the job.

        Answers that were fetched stay in the cache.

        Raises:
            ConfigurationError: a batch has not ended.
            CallError: the provider can't be reached, or refuses.
        """
        record = self._records[0]
        infos = [self._submitter.look(record, part) for part in record.parts]
        if running := [info.id for info in infos if info and not info.ended]:
            raise ConfigurationError(f"the batch {running[0]} has not ended: cancel the job first, or wait for it")
        for part, info in zip(record.parts, infos, strict=True):
            names = (part.file, info.output, info.errors) if info else (part.file,)
            for name in filter(None, names):
                self._submitter.patiently(partial(self._submitter.provider.delete, name))
        self._submitter.jobs.remove(record.id)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Unfit:
    """A row with an invalid answer; `place` is its index in its chunk."""

    place: int
    row: Row
    completion: Completion
    error: OutputError


@dataclass(frozen=True, slots=True, kw_only=True)
class _JobReading(Generic[T]):
    """Answers → items, parsed and validated as in any other run."""

    submitter: BatchSubmitter[Any, T]
    files: OutputFiles
    reask: bool
    prices: Prices | None

    def items(self, chunk: list[tuple[Row | Item[T], Completion | None]]) -> list[Item[T]]:
        """Return the items of some rows; store valid answers in the cache."""
        items: list[Item[T]] = []
        kept: list[tuple[str, str]] = []
        unfit: list[_Unfit] = []
        for place, (row, cached) in enumerate(chunk):
            items.append(row if isinstance(row, Item) else self._item(place, row, cached, kept, unfit))
        if kept:
            self.submitter.store.put_many(kept)
        if unfit:
            for row_unfit, item in zip(unfit, portal().call(self._ask_again(unfit)), strict=True):
                items[row_unfit.place] = item
        return items

    def _item(
        self, place: int, row: Row, cached: Completion | None, kept: list[tuple[str, str]], unfit: list[_Unfit]
    ) -> Item[T]:
        policy, key = self.submitter.policy, row.key
        first = self.files.saw(key)
        if cached is not None:
            return policy.from_completion(row, Outcome(cached))
        came = self.files.take(key, row.request)
        if isinstance(came, ItemError):
            row.spent.calls = row.spent.share = int(first and not isinstance(came, NotRunError))
            # The next submission of the rows leaves out what the endpoint does not support.
            policy.llm.capabilities.record_error(self.submitter.wire(row), came)
            return policy.item(row, error=came)
        if not first:
            return policy.from_completion(row, Outcome(came))
        row.spent.calls = row.spent.share = 1
        row.spent.answered(came)
        try:
            answer = policy.program.parse(came, row.inputs)
        except OutputError as error:
            if self.reask and policy.attempts > 1 and worth_another(error):
                unfit.append(_Unfit(place=place, row=row, completion=came, error=error))
            return replace(policy.item(row, error=error), cost=self._cost(came))
        kept.append((key, came.to_json()))
        return replace(policy.item(row, answer=answer), cost=self._cost(came))

    def _cost(self, completion: Completion) -> float | None:
        return self.prices.cost(completion.usage) if self.prices and completion.usage else None

    async def _ask_again(self, unfit: list[_Unfit]) -> list[Item[T]]:
        # The LLM's rate limiter bounds how many calls are made at once.
        return await asyncio.gather(*map(self._asked_again, unfit))

    async def _asked_again(self, row_unfit: _Unfit) -> Item[T]:
        policy, first = self.submitter.policy, row_unfit.row
        row = Row(given=first.given, inputs=first.inputs, request=first.request, key=first.key, spent=Spent(answers=1))
        steps = policy.ask_until_valid(row, (row_unfit.completion, row_unfit.error))
        item = await run_awaiting(steps, policy.llm.transport, async_store(self.submitter.store))
        cost = self._cost(row_unfit.completion)
        return replace(
            item,
            raw=row_unfit.completion.raw if item.raw is None else item.raw,
            usage=item.usage + (row_unfit.completion.usage or NO_USAGE),
            cost=None if item.cost is None or cost is None else item.cost + cost,
            attempts=item.attempts + 1,
        )
