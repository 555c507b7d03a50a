"""BatchJob: many inputs through the provider's batch API, cheaper and within a day; found again after a restart."""

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
)
from llmtasker.item import Item
from llmtasker.llm.costs import Prices
from llmtasker.results import Results
from llmtasker.runner.batch.job_store import Record
from llmtasker.runner.batch.output_files import Harvest
from llmtasker.runner.batch.submit import Dispatch
from llmtasker.runner.policy import worth_another
from llmtasker.runner.row import Outcome, Row, Spent
from llmtasker.runner.steps import run_awaiting
from llmtasker.threads import portal
from llmtasker.wire.batch_file import ENDED
from llmtasker.wire.completion import NO_USAGE, Completion

T = TypeVar("T")

_MISSED = 10  # polls in a row that may fail before waiting is given up
_NOT_STARTED = "not started"


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchStatus:
    """Where a job stands, as the provider counts: of the `rows` in its batches, those `done` and `failed`.

    `batches` counts them by status: validating, in_progress, finalizing, completed, expired, failed, cancelling,
    cancelled, not started. `reasons` is why whole batches failed.
    """

    rows: int
    done: int
    failed: int
    batches: Mapping[str, int]
    reasons: tuple[str, ...] = ()

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        return self.batches.keys() <= {*ENDED, _NOT_STARTED}

    def __str__(self) -> str:
        states = ", ".join(f"{count} {status}" for status, count in self.batches.items()) or "none needed"
        said = f"{self.rows:,} rows: {self.done:,} done, {self.failed:,} failed; batches: {states}"
        return "; ".join([said, *self.reasons])


class BatchJob(Generic[T]):
    """Rows that a provider's batch API answers; made by `task.submit(inputs)`, found again by `task.batch(id)`."""

    def __init__(self, dispatch: Dispatch[Any, T], record: Record) -> None:
        self._dispatch = dispatch
        # One that was deleted since is not missed: what it had is in the cache.
        beside = [one for one in dispatch.ledger.all() if one.id in record.beside] if record.beside else []
        self._records = [record, *beside]

    @property
    def id(self) -> str:
        """The name by which the job is found again."""
        return self._records[0].id

    def __repr__(self) -> str:
        record = self._records[0]
        return f"BatchJob({self.id!r}, {record.size})"

    def status(self) -> BatchStatus:
        """Ask the provider where the job stands, one short call for each batch that has not ended.

        Raises:
            CallError: it can't be asked.
        """
        states, reasons, counts = Counter[str](), dict[str, None](), Counter[str]()
        for record in self._records:
            for part in record.parts:
                info = self._dispatch.look(record, part)
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
        """Ask every `poll` seconds until the job has ended or `timeout` seconds are over; return where it stands.

        It may be interrupted: the job goes on at the provider. `on_status` is given each status.

        Raises:
            CallError: the provider could not be asked ten times in a row, or refuses.
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
        """Have the job's batches stopped; what is answered by then can be fetched. Those of other jobs go on.

        Raises:
            CallError: the provider can't be asked.
        """
        record = self._records[0]
        for part in record.parts:
            info = self._dispatch.look(record, part)
            if info is not None and not info.ended:
                self._stop(info.id)
        return self.status()

    def _stop(self, batch: str) -> None:
        # It may have ended between the look and this.
        with suppress(BadRequestError, ServerError):
            self._dispatch.patiently(partial(self._dispatch.provider.cancel, batch))

    def results(self, inputs: Any, *, reask: bool = False, prices: Prices | None = None) -> Results[T]:
        """Return an item for each input, in order; see `stream`."""
        return Results(self.stream(inputs, reask=reask, prices=prices))

    def stream(self, inputs: Any, *, reask: bool = False, prices: Prices | None = None) -> Iterator[Item[T]]:
        """Yield an item for each input, in order: from the cache, else from the provider's files.

        The inputs are those that were submitted, or others: the answers are found by content. Answers that fit are
        kept in the cache, so that `run` finds them as well. A row that has no answer (yet) has a NotRunError.

        `reask=True` has answers that do not fit asked again one by one, at the usual price, each with the reason.
        `prices` are those of the batch API; without them the cost of its answers is None.

        Raises:
            CallError: the provider can't be asked.
            ConfigurationError: the set-up is wrong.
        """
        dispatch = self._dispatch
        homes = {id(part): record for record in self._records for part in record.parts}
        harvest = Harvest(
            [part for record in reversed(self._records) for part in record.parts],  # the job's own are the latest
            provider=lambda: dispatch.provider,
            look=lambda part: dispatch.look(homes[id(part)], part),
            patiently=dispatch.patiently,
            folder=dispatch.ledger.folder,
        )
        with harvest:
            reading = _Reading(dispatch=dispatch, harvest=harvest, reask=reask, prices=prices)
            for chunk in dispatch.looked_up(inputs):
                yield from reading.items(chunk)
            for part in harvest.finished():
                if not part.fetched:
                    part.fetched = True
                    dispatch.ledger.save(homes[id(part)])

    def delete(self) -> None:
        """Delete the job's files at the provider, questions and answers, and forget the job.

        What was fetched stays in the cache.

        Raises:
            ConfigurationError: a batch has not ended.
            CallError: the provider can't be asked.
        """
        record = self._records[0]
        infos = [self._dispatch.look(record, part) for part in record.parts]
        if running := [info.id for info in infos if info and not info.ended]:
            raise ConfigurationError(f"the batch {running[0]} has not ended: cancel the job first, or wait for it")
        for part, info in zip(record.parts, infos, strict=True):
            names = (part.file, info.output, info.errors) if info else (part.file,)
            for name in filter(None, names):
                self._dispatch.patiently(partial(self._dispatch.provider.delete, name))
        self._dispatch.ledger.remove(record.id)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Misfit:
    """A row whose answer does not fit; `place` is that in its chunk."""

    place: int
    row: Row
    completion: Completion
    error: OutputError


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reading(Generic[T]):
    """What came of rows → their items, judged as in any other run."""

    dispatch: Dispatch[Any, T]
    harvest: Harvest
    reask: bool
    prices: Prices | None

    def items(self, chunk: list[tuple[Row | Item[T], Completion | None]]) -> list[Item[T]]:
        """Return the items of some rows; answers that fit are kept in the cache."""
        items: list[Item[T]] = []
        kept: list[tuple[str, str]] = []
        misfits: list[_Misfit] = []
        for place, (row, cached) in enumerate(chunk):
            items.append(row if isinstance(row, Item) else self._item(place, row, cached, kept, misfits))
        if kept:
            self.dispatch.store.put_many(kept)
        if misfits:
            for misfit, item in zip(misfits, portal().call(self._ask_again(misfits)), strict=True):
                items[misfit.place] = item
        return items

    def _item(
        self, place: int, row: Row, cached: Completion | None, kept: list[tuple[str, str]], misfits: list[_Misfit]
    ) -> Item[T]:
        policy, key = self.dispatch.policy, row.key
        first = self.harvest.saw(key)
        if cached is not None:
            return policy.from_completion(row, Outcome(cached))
        came = self.harvest.take(key)
        if isinstance(came, ItemError):
            row.spent.calls = int(first and not isinstance(came, NotRunError))
            # What the endpoint can't do is left out when the rows are submitted again.
            policy.llm.capabilities.record_error(self.dispatch.wire(row), came)
            return policy.item(row, error=came)
        if not first:
            return policy.from_completion(row, Outcome(came))
        row.spent.calls = 1
        row.spent.answered(came)
        try:
            answer = policy.program.parse(came, row.inputs)
        except OutputError as error:
            if self.reask and policy.attempts > 1 and worth_another(error):
                misfits.append(_Misfit(place=place, row=row, completion=came, error=error))
            return replace(policy.item(row, error=error), cost=self._cost(came))
        kept.append((key, came.to_json()))
        return replace(policy.item(row, answer=answer), cost=self._cost(came))

    def _cost(self, completion: Completion) -> float | None:
        return self.prices.cost(completion.usage) if self.prices and completion.usage else None

    async def _ask_again(self, misfits: list[_Misfit]) -> list[Item[T]]:
        # The pace of the LLM says how many calls leave at once.
        return await asyncio.gather(*map(self._asked_again, misfits))

    async def _asked_again(self, misfit: _Misfit) -> Item[T]:
        policy, first = self.dispatch.policy, misfit.row
        row = Row(given=first.given, inputs=first.inputs, request=first.request, key=first.key, spent=Spent(answers=1))
        steps = policy.ask_until_valid(row, (misfit.completion, misfit.error))
        item = await run_awaiting(steps, policy.llm.transport, async_store(self.dispatch.store))
        cost = self._cost(misfit.completion)
        return replace(
            item,
            raw=misfit.completion.raw if item.raw is None else item.raw,
            usage=item.usage + (misfit.completion.usage or NO_USAGE),
            cost=None if item.cost is None or cost is None else item.cost + cost,
            attempts=item.attempts + 1,
        )
