"""SampleRun: the first stage of a run, which finds the group size; and Sample, the rows that it asks alone."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

from llmtasker.errors import InputError, ItemError, OutputError
from llmtasker.item import Item
from llmtasker.runner.feed import Feed
from llmtasker.runner.grouping.auto_group import AutoGroup, upper_bound
from llmtasker.runner.grouping.auto_size import Choice, Measured, choose
from llmtasker.runner.grouping.group_limits import GroupLimits
from llmtasker.runner.grouping.group_program import GroupProgram
from llmtasker.runner.grouping.group_worker import GroupWorker, share
from llmtasker.runner.grouping.members import Group, Member, next_group
from llmtasker.runner.grouping.report import Tally
from llmtasker.runner.policy import Policy
from llmtasker.runner.row import Row, Spent
from llmtasker.runner.run import Run
from llmtasker.runner.steps import Keep, Look, Steps
from llmtasker.signature.signature import S
from llmtasker.wire.completion import Completion
from llmtasker.wire.request import Mode, Request

T = TypeVar("T")
R = TypeVar("R")

_ROUNDS = 20  # of collecting a sample among rows that may be cached or alike
_LOG = logging.getLogger("llmtasker")


@dataclass(slots=True, kw_only=True)
class SampledRow(Generic[T]):
    """A row of the sample: its answer when asked alone, and the cost of asking for it in other ways."""

    row: Row
    output: T
    spent: Spent = field(default_factory=Spent)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample(Generic[S, T]):
    """Rows that were asked alone; they are asked again in groups, or alone, with the concurrency of the run."""

    auto: AutoGroup
    program: GroupProgram[S]
    alone: Policy[S, T]
    tally: Tally
    run: Run[T]
    rows: dict[str, SampledRow[T]] = field(default_factory=dict[str, SampledRow[T]])

    def add(self, item: Item[T]) -> bool:
        """Add a row to the sample if it was answered in this run; return whether it was."""
        if item.cached or item.output is None or item.request is None or item.request.key in self.rows:
            return False
        row = self.alone.prepare(item.input)
        if isinstance(row, Row):
            self.rows[item.request.key] = SampledRow(row=row, output=item.output)
        return isinstance(row, Row)

    def charged(self, item: Item[T]) -> Item[T]:
        """Return the item with its share of the cost of the sample."""
        sampled = None if item.cached or item.request is None else self.rows.get(item.request.key)
        if sampled is None or not sampled.spent.calls:
            return item
        spent, usage = sampled.spent, item.usage + sampled.spent.usage
        cost = self.alone.llm.cost(usage) if spent.counted and item.cost is not None else None
        return replace(
            item, usage=usage, cost=cost, attempts=item.attempts + spent.calls, calls=item.requests + spent.share
        )

    async def measure(self, size: int) -> Measured:
        """Return the measurement of groups of a size on the sample."""
        limits = GroupLimits(size, self.program.answer_length, self.alone.llm.settings)
        if limits.most < size:
            return Measured(size=size, rows=0, differing=0)
        show = self.program.program.signature.format_input
        sample = list(self.rows.values())
        members = [Member.of(one.row, show(one.row.inputs.values)) for one in sample]
        waiting = {number: member for number, member in enumerate(members) if member is not None}
        groups: list[dict[int, Member]] = []
        while len(waiting) > 1:
            group = {number: waiting.pop(number) for number in next_group(waiting, size, limits)}
            groups += [group] if len(group) > 1 else []
        worker = GroupWorker(program=self.program, alone=self.alone, limits=limits)  # with a discarded tally
        answered = await self._together(self._outputs(worker, group, sample) for group in groups)
        outputs = {number: output for outputs in answered for number, output in outputs.items()}
        return Measured(
            size=size,
            rows=len(outputs),
            differing=sum(not self.auto.agrees(sample[number].output, output) for number, output in outputs.items()),
            missed=len(sample) - len(outputs),
        )

    def _outputs(
        self, worker: GroupWorker[S, T], members: Mapping[int, Member], sample: list[SampledRow[T]]
    ) -> Steps[dict[int, T]]:
        spent, numbers = Spent(), list(members)
        answers: dict[int, Completion] = {}
        try:
            answers = yield from worker.ask(Group(list(members.values())), spent)
        except ItemError:
            pass  # then none of them has an answer in a group of this size
        finally:
            self._charge(spent, [sample[number] for number in numbers])
        outputs: dict[int, T] = {}
        for place, completion in answers.items():
            number = numbers[place]
            try:
                answer = self.alone.program.parse(completion, sample[number].row.inputs)
            except OutputError:
                continue
            outputs[number] = self.alone.present(answer.record)
        return outputs

    async def repeat(self) -> Measured:
        """Return the measurement of asking the sample alone again."""
        sample = list(self.rows.values())
        agree: list[bool | None] = await self._together(map(self._again, sample))
        compared = [one for one in agree if one is not None]
        return Measured(size=1, rows=len(compared), differing=compared.count(False))

    def _again(self, sampled: SampledRow[T]) -> Steps[bool | None]:
        alone, row, spent = self.alone, sampled.row, Spent()

        def render(mode: Mode) -> Request:
            return alone.program.render(row.inputs, alone.llm.settings, mode)

        try:
            completion = yield from alone.call(render, spent, alone.program.asked)
            answer = alone.program.parse(completion, row.inputs)
        except ItemError:
            return None
        finally:
            self._charge(spent, [sampled])
        return self.auto.agrees(sampled.output, alone.present(answer.record))

    def _charge(self, spent: Spent, sampled: list[SampledRow[T]]) -> None:
        self.tally.made(spent.calls, spent.usage, counted=spent.counted, extra=True)
        share(spent, [one.spent for one in sampled])

    async def _together(self, many: Iterable[Steps[R]]) -> list[R]:
        gate = asyncio.Semaphore(self.run.concurrency)

        async def one(steps: Steps[R]) -> R:
            async with gate:
                result: R = await self.run.drive(steps)
                return result

        tasks = [asyncio.create_task(one(steps)) for steps in many]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()


@dataclass(slots=True, kw_only=True)
class SampleRun(Generic[S, T]):
    """The first rows of a run, asked alone; its result is `tally.choice`, with which the run continues.

    A size that an earlier run chose (`known`, or in the cache) is used as is: then no row is asked here.
    """

    auto: AutoGroup
    program: GroupProgram[S]
    alone: Policy[S, T]
    tally: Tally
    run: Run[T]
    known: Choice | None

    async def batches(self, feed: Feed) -> AsyncGenerator[list[Item[T]]]:
        """Yield the items of the sample, once its cost is known."""
        self.tally.choice = self.known
        if self.known is not None:
            return
        auto, key = self.auto, self._key()
        if self.alone.fresh is not True and auto.same is None:
            self.tally.choice = await self.run.drive(_recall(key))
        if self.tally.choice is None and feed.total is not None and feed.total < 2 * auto.sample:
            reason = f"for {feed.total} rows, a sample of {auto.sample} does not pay off"
            self.tally.choice = Choice(size=1, reason=reason)
        if self.tally.choice is None:
            async with aclosing(self._ask(feed, key)) as batches:
                async for batch in batches:
                    yield batch
        _LOG.info("group_size: %s", self.tally.choice)

    def _key(self) -> str:
        identity = self.program.identity(self.alone.llm.settings)
        return hashlib.sha256(f"{self.auto.key()} {identity}".encode()).hexdigest()

    async def _ask(self, feed: Feed, key: str) -> AsyncGenerator[list[Item[T]]]:
        auto, run = self.auto, replace(self.run, window=None, ordered=True)
        sample: Sample[S, T] = Sample(
            auto=auto,
            program=self.program,
            alone=replace(self.alone, breaker=None),  # its rows are answered already: a failure costs no answer
            tally=self.tally,
            run=run,
        )
        held: list[Item[T]] = []
        rounds = 0
        while (lacking := auto.sample - len(sample.rows)) > 0 and rounds < _ROUNDS:
            taken = await feed.take(lacking)
            items: list[Item[T]] = []
            async with aclosing(run.batches(self.alone, Feed([given for _, given in taken]))) as batches:
                async for batch in batches:
                    items += batch
            for item in items:
                self.tally.asked_alone(item)
            held += items
            new = sum([sample.add(item) for item in items])
            if not sample.rows:
                yield held  # only cached rows so far
                held = []
            rounds += bool(sample.rows)
            if not taken or (not new and any(_failed(item) for item in items)):
                break
        self.tally.choice = choice = await self._choose(sample)
        if choice.measured and auto.same is None:  # a comparison function can't be identified by its name
            await run.drive(_remember(key, choice))
        yield [sample.charged(item) for item in held]

    async def _choose(self, sample: Sample[S, T]) -> Choice:
        if upper_bound(0, len(sample.rows)) >= self.auto.epsilon:
            return Choice(size=1, reason=f"a sample of {len(sample.rows)} answered rows is too small")
        temperature = self.alone.llm.settings.body.get("temperature")
        return await choose(self.auto, sample.measure, None if temperature == 0 else sample.repeat)


def _failed(item: Item[Any]) -> bool:
    return item.error is not None and not isinstance(item.error, InputError)


def _recall(key: str) -> Steps[Choice | None]:
    found: Sequence[Completion | None] = yield Look([key])
    try:
        return Choice.from_json(found[0].text or "") if found[0] else None
    except ValueError:
        return None


def _remember(key: str, choice: Choice) -> Steps[None]:
    yield Keep([(key, Completion(text=choice.to_json(), finish_reason="stop"))])
