"""BatchJob: many inputs through the provider's batch API, cheaper and within a day; found again after a restart."""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any, BinaryIO, Generic, TypeVar, cast

from llmtasker.cache import DiskCache, default_directory
from llmtasker.compiler import first_mode
from llmtasker.completion import NO_USAGE, Completion, Request
from llmtasker.errors import (
    ConfigurationError,
    ItemError,
    NotFoundError,
    NotRunError,
    OutputError,
    RejectedError,
    TransientError,
)
from llmtasker.executor import Executor, Outcome, Row, Spent, worth_another
from llmtasker.harvest import Harvest
from llmtasker.item import Item
from llmtasker.ledger import ENDED, BatchInfo, Ledger, Part, Record, head_of
from llmtasker.portal import portal
from llmtasker.prices import Prices
from llmtasker.results import Results
from llmtasker.signature import S
from llmtasker.steps import run_awaiting
from llmtasker.store import Guard, Store
from llmtasker.transports.batch_lines import request_line

if TYPE_CHECKING:
    from llmtasker.transports.batches import Batches

T = TypeVar("T")
R = TypeVar("R")

MOST_ROWS = 50_000
MOST_BYTES = 200_000_000
"""What OpenAI takes in one file; more rows become several batches of one job."""

_CHUNK = 256  # rows that are looked up in the cache at once
_MISSED = 10  # polls in a row that may fail before waiting is given up
_RANDOM = random.Random()  # noqa: S311 - spreads the waits before retries
_NOT_STARTED = "not started"


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchStatus:
    """Where a job stands, as the provider counts: `rows` in its batches, of which `done` have an answer and `failed` none.

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

    def __init__(self, desk: BatchDesk[Any, T], record: Record) -> None:
        self._desk = desk
        self._records = [record, *map(desk.ledger.load, record.beside)]

    @property
    def id(self) -> str:
        """The name by which the job is found again."""
        return self._records[0].id

    def __repr__(self) -> str:
        record = self._records[0]
        return f"BatchJob({self.id!r}, {record.rows:,} rows in {len(record.parts)} batches)"

    def status(self) -> BatchStatus:
        """Ask the provider where the job stands, one short call for each batch that has not ended.

        Raises:
            CallError: it can't be asked.
        """
        states, reasons, counts = Counter[str](), dict[str, None](), Counter[str]()
        for record in self._records:
            for part in record.parts:
                info = self._desk.look(record, part)
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
            info = self._desk.look(record, part)
            if info is not None and not info.ended:
                self._desk.cancel(record, part, info.id)
        return self.status()

    def results(self, inputs: Iterable[Any], *, reask: bool = False, prices: Prices | None = None) -> Results[T]:
        """Return an item for each input, in order; see `stream`."""
        return Results(self.stream(inputs, reask=reask, prices=prices))

    def stream(self, inputs: Iterable[Any], *, reask: bool = False, prices: Prices | None = None) -> Iterator[Item[T]]:
        """Yield an item for each input, in order: from the cache, else from the provider's files.

        The inputs are those that were submitted, or others: the answers are found by content. Answers that fit are
        kept in the cache, so that `run` finds them as well. A row that has no answer (yet) has a NotRunError.

        `reask=True` has answers that do not fit asked again one by one, at the usual price, each with the reason.
        `prices` are those of the batch API; without them the cost of its answers is None.

        Raises:
            CallError: the provider can't be asked.
            ConfigurationError: the set-up is wrong.
        """
        parts = [(record, part) for record in self._records for part in record.parts]
        homes = {id(part): record for record, part in parts}
        desk = self._desk
        harvest = Harvest(
            [part for _, part in parts],
            provider=lambda: desk.provider,
            look=lambda part: desk.look(homes[id(part)], part),
            patiently=desk.patiently,
            folder=desk.ledger.folder,
        )
        with harvest:
            for chunk in desk.looked_up(inputs):
                yield from _Reading(desk=desk, harvest=harvest, reask=reask, prices=prices).items(chunk)
            for part in harvest.finished():
                if not part.fetched:
                    part.fetched = True
                    desk.ledger.save(homes[id(part)])

    def delete(self) -> None:
        """Delete the job's files at the provider, questions and answers, and forget the job.

        What was fetched stays in the cache.

        Raises:
            ConfigurationError: a batch has not ended.
            CallError: the provider can't be asked.
        """
        record = self._records[0]
        infos = [self._desk.look(record, part) for part in record.parts]
        if running := [info.id for info in infos if info and not info.ended]:
            raise ConfigurationError(f"the batch {running[0]} has not ended: cancel the job first, or wait for it")
        for part, info in zip(record.parts, infos, strict=True):
            for name in filter(None, (part.file, info and info.output, info and info.errors)):
                self._desk.patiently(lambda name=name: self._desk.provider.delete(name))
        self._desk.ledger.remove(record.id)
