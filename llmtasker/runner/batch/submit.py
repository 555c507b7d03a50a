"""BatchSubmitter: rows → batches at the provider, each recorded before it is started."""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property, partial
from hashlib import blake2b
from itertools import islice
from typing import TYPE_CHECKING, Any, BinaryIO, Generic, TypeVar, cast

from llmtasker.cache import DiskCache, default_directory
from llmtasker.cache.store import CompleteStore
from llmtasker.errors import ConfigurationError, NotFoundError, TransientError
from llmtasker.item import Item
from llmtasker.runner.batch.file_limits import MOST_BYTES, MOST_ROWS
from llmtasker.runner.batch.job_store import JobStore, Part, StoredJob, head_of
from llmtasker.runner.inputs import check_rows, rows_of
from llmtasker.runner.policy import Policy
from llmtasker.runner.row import Row
from llmtasker.runner.steps import read_stored
from llmtasker.signature.signature import S
from llmtasker.values.json_values import canonical_json
from llmtasker.wire.batch_file import BatchInfo, request_line
from llmtasker.wire.completion import Completion
from llmtasker.wire.request import Mode, Request

if TYPE_CHECKING:
    from llmtasker.llm.transports.openai_batches import Batches

T = TypeVar("T")
R = TypeVar("R")

_CHUNK = 256  # rows per cache look-up
_RANDOM = random.Random()  # noqa: S311 - spreads the waits before retries


@dataclass(frozen=True, kw_only=True)
class BatchSubmitter(Generic[S, T]):
    """Puts the rows of a task into batches.

    `store` has the answers; the batches are recorded beside it, or in the user's cache folder.
    """

    policy: Policy[S, T]
    store: CompleteStore
    clock: Callable[[], float] = time.time
    sleep: Callable[[float], object] = time.sleep

    @cached_property
    def provider(self) -> Batches:
        """The batch API of the LLM.

        Raises:
            ConfigurationError: the LLM has no batch API.
        """
        from llmtasker.llm.transports.openai_batches import batches_of

        return batches_of(self.policy.llm.transport)

    @cached_property
    def jobs(self) -> JobStore:
        """The records of submitted jobs."""
        folder = self.store.directory if isinstance(self.store, DiskCache) else default_directory()
        return JobStore(folder / "batches")

    @cached_property
    def asks(self) -> str:
        """A hash of what all requests of the task have in common: the prompt and the schema."""
        program = self.policy.program
        head = program.head(program.first_mode)
        common = canonical_json([head.messages, repr(program.layout.template), head.schema])
        return blake2b(common.encode(), digest_size=8).hexdigest()

    def submit(self, inputs: Any, *, max_rows: int = MOST_ROWS, max_bytes: int = MOST_BYTES) -> StoredJob:
        """Submit the rows that are neither cached nor pending in another job; each distinct row once.

        If all remaining rows are pending in one job, that job is returned.

        Raises:
            ConfigurationError: the LLM has no batch API, or the job store can't be written.
            CallError: the provider refuses. Batches already started are recorded; submit again for the rest.
        """
        provider, settings = self.provider, self.policy.llm.settings
        record = StoredJob(
            id=self.jobs.new_id(self.clock()),
            created=self.clock(),
            task=self.policy.program.signature.__name__,
            endpoint=settings.endpoint,
            model=self.policy.llm.model,
            asks=self.asks,
        )
        under_way, beside, seen = _UnderWay(self), dict[str, None](), set[str]()
        with tempfile.TemporaryFile() as temporary:
            input_file = _InputFile(cast("BinaryIO", temporary), max_rows, max_bytes)
            for row in self._uncached(inputs):
                key = row.key
                if key in seen:
                    continue
                seen.add(key)
                if (other := under_way.job_of(key)) is not None:
                    beside[other] = None
                    continue
                line = request_line(key, provider.url, self.wire(row).content)
                if not input_file.has_room(line):
                    self._send(input_file, record)
                input_file.add(key, line)
            if input_file.keys:
                self._send(input_file, record)
        if not record.parts and len(beside) == 1:
            return self.jobs.load(next(iter(beside)))
        record.beside = list(beside)
        self.jobs.save(record)
        return record

    def find(self, job: str | None = None) -> StoredJob:
        """Return the record of a job by its id; None: the latest job of the task, as it is now, with this LLM.

        Raises:
            ConfigurationError: there is no such job, or it is at another endpoint.
        """
        llm = self.policy.llm
        if job is not None:
            record = self.jobs.load(job)
            if record.endpoint != llm.settings.endpoint:
                raise ConfigurationError(f"the batch job {job} is at {record.endpoint}, not {llm.settings.endpoint}")
            return record
        wanted = (self.policy.program.signature.__name__, llm.settings.endpoint, llm.model)
        named = [one for one in self.jobs.all() if (one.task, one.endpoint, one.model) == wanted]
        # A record of an earlier version doesn't say what its requests ask.
        found = next((one for one in reversed(named) if one.asks in ("", self.asks)), None)
        if found is None:
            other = f"; {named[-1].id} is of a {wanted[0]} with another prompt or schema" if named else ""
            raise ConfigurationError(f"there is no batch job of {wanted[0]} with {llm!r} in {self.jobs.folder}{other}")
        return found

    def _uncached(self, inputs: Any) -> Iterator[Row]:
        for chunk in self.looked_up(inputs):
            for row, completion in chunk:
                # An invalid input is not sent; its result has the error.
                if isinstance(row, Row) and completion is None:
                    yield row

    def looked_up(self, inputs: Any) -> Iterator[list[tuple[Row | Item[T], Completion | None]]]:
        """Yield rows with their cached answers, in chunks; an invalid input is already an item."""
        program = self.policy.program
        given = rows_of(inputs, program.columns)
        check_rows(given, program.signature, program.columns)
        if not isinstance(given, Iterable):
            raise ConfigurationError("a batch takes a list or an iterable of inputs, not an async one.")
        source = iter(given)
        while givens := list(islice(source, _CHUNK)):
            rows = [self.policy.prepare(given) for given in givens]
            keys = {row.key: None for row in rows if isinstance(row, Row)}
            cached = dict(zip(keys, self.store.get_many(list(keys)), strict=True))
            yield [(row, read_stored(cached[row.key] or "") if isinstance(row, Row) else None) for row in rows]

    def wire(self, row: Row) -> Request:
        """Return the request for a row in the mode and form that the endpoint accepts, as far as is known."""
        program, llm = self.policy.program, self.policy.llm

        def render(mode: Mode) -> Request:
            return row.request if mode == program.first_mode else program.render(row.inputs, llm.settings, mode)

        return llm.capabilities.request(render, program.asked)

    def _send(self, input_file: _InputFile, record: StoredJob) -> None:
        """Upload a file and start its batch; recorded before and after, so that no paid batch is lost."""
        name = f"llmtasker-{record.id}-{len(record.parts) + 1}.jsonl"
        file = self.patiently(partial(self.provider.upload, name, input_file.file))
        part = Part(file=file, keys="".join(map(head_of, input_file.keys)))
        input_file.empty()
        record.parts.append(part)
        self.jobs.save(record)
        # If a response was lost, the batch may exist: a second one would be paid for too.
        part.batch = self.patiently(lambda: self.provider.find_by_file(file) or self.provider.start(file, record.id)).id
        self.jobs.save(record)

    def look(self, record: StoredJob, part: Part) -> BatchInfo | None:
        """Return the state of a batch; None: it was never started. A batch that has ended is not fetched again."""
        if part.end is not None:
            return part.end
        batch = part.batch
        info = self.patiently(
            partial(self.provider.find_by_file, part.file) if batch is None else partial(self.provider.find, batch)
        )
        if info is not None and (info.ended or batch is None):
            part.batch, part.end = info.id, info if info.ended else None
            self.jobs.save(record)
        return info

    def patiently(self, call: Callable[[], R]) -> R:
        """Return the result of a call; retry transient failures as the LLM's `Retry` allows."""
        failures = 0
        while True:
            try:
                return call()
            except TransientError as error:
                failures += 1
                delay = self.policy.llm.retry.delay(error, failures, _RANDOM)
                if delay is None:
                    raise
            self.sleep(delay)


@dataclass
class _InputFile:
    """The lines of one batch's input file."""

    file: BinaryIO
    max_rows: int
    max_bytes: int
    keys: list[str] = field(default_factory=list[str])
    size: int = 0

    def has_room(self, line: bytes) -> bool:
        return not self.keys or (len(self.keys) < self.max_rows and self.size + len(line) <= self.max_bytes)

    def add(self, key: str, line: bytes) -> None:
        self.keys.append(key)
        self.size += self.file.write(line)

    def empty(self) -> None:
        self.keys, self.size = [], 0
        self.file.seek(0)
        self.file.truncate()


class _UnderWay:
    """The rows in batches that are not fetched yet: asking for them again would be paid twice."""

    def __init__(self, submitter: BatchSubmitter[Any, Any]) -> None:
        self._submitter = submitter
        self._homes: dict[str, tuple[StoredJob, Part]] = {}
        self._alive: dict[int, bool] = {}
        for record in submitter.jobs.all():
            if record.endpoint == submitter.policy.llm.settings.endpoint:
                for part in record.parts:
                    if not part.fetched:
                        self._homes |= dict.fromkeys(part.heads(), (record, part))

    def job_of(self, key: str) -> str | None:
        """Return the job that has, or will have, an answer to a row."""
        home = self._homes.get(head_of(key))
        if home is None:
            return None
        record, part = home
        if id(part) not in self._alive:
            self._alive[id(part)] = self._is_alive(record, part)
        return record.id if self._alive[id(part)] else None

    def _is_alive(self, record: StoredJob, part: Part) -> bool:
        try:
            info = self._submitter.look(record, part)
        except NotFoundError:
            return False  # deleted, or in another account
        return info is not None and not info.barren
