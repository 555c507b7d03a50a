"""Trial: a sample of rows that were asked alone, and what groups make of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

from llmtasker.errors import ItemError, OutputError
from llmtasker.item import Item
from llmtasker.runner.grouping.ask_group import Grouping, share
from llmtasker.runner.grouping.auto_size import AutoGroup, Measured
from llmtasker.runner.grouping.group_program import GroupProgram
from llmtasker.runner.grouping.members import Group, Member, next_group
from llmtasker.runner.grouping.report import Tally
from llmtasker.runner.grouping.room import Room
from llmtasker.runner.policy import Policy, Row, Spent
from llmtasker.runner.steps import Steps
from llmtasker.signature import S
from llmtasker.wire.completion import Completion
from llmtasker.wire.request import Mode, Request

T = TypeVar("T")
R = TypeVar("R")

Drive = Callable[[Steps[Any]], Awaitable[Any]]


@dataclass(slots=True, kw_only=True)
class Sampled(Generic[T]):
    """A row of the sample: what it is answered alone, and what it has cost to ask for it in other ways."""

    row: Row
    output: T
    spent: Spent = field(default_factory=Spent)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial(Generic[S, T]):
    """Asks a sample again: in groups of a size, or alone a second time; at most `concurrency` calls at once."""

    auto: AutoGroup
    program: GroupProgram[S]
    alone: Policy[S, T]
    tally: Tally
    drive: Drive
    concurrency: int
    sample: dict[str, Sampled[T]] = field(default_factory=dict[str, Sampled[T]])

    def saw(self, item: Item[T]) -> bool:
        """Take a row into the sample if it was answered just now; return whether it was."""
        if item.cached or item.output is None or item.request is None or item.request.key in self.sample:
            return False
        row = self.alone.prepare(item.input)
        if isinstance(row, Row):
            self.sample[item.request.key] = Sampled(row=row, output=item.output)
        return isinstance(row, Row)

    def charged(self, item: Item[T]) -> Item[T]:
        """Return the item with its share of what the trial has cost."""
        sampled = None if item.cached or item.request is None else self.sample.get(item.request.key)
        if sampled is None or not sampled.spent.calls:
            return item
        spent, usage = sampled.spent, item.usage + sampled.spent.usage
        cost = self.alone.llm.cost(usage) if spent.counted and item.cost is not None else None
        return replace(item, usage=usage, cost=cost, attempts=item.attempts + spent.calls)

    async def measure(self, size: int) -> Measured:
        """Return how groups of a size answer the sample."""
        room = Room(size, self.alone.program, self.alone.llm.settings)
        if room.most < size:
            return Measured(size=size, rows=0, differing=0)
        show = self.program.program.signature.format_input
        sample = list(self.sample.values())
        members = [Member.of(one.row, show(one.row.inputs.values)) for one in sample]
        waiting = {number: member for number, member in enumerate(members) if member is not None}
        groups: list[dict[int, Member]] = []
        while len(waiting) > 1:
            group = {number: waiting.pop(number) for number in next_group(waiting, size, room)}
            groups += [group] if len(group) > 1 else []
        grouping = Grouping(program=self.program, alone=self.alone, room=room)  # with a tally that is thrown away
        answered = await self._together(self._outputs(grouping, group, sample) for group in groups)
        outputs = {number: output for outputs in answered for number, output in outputs.items()}
        return Measured(
            size=size,
            rows=len(outputs),
            differing=sum(not self.auto.agrees(sample[number].output, output) for number, output in outputs.items()),
            missed=len(sample) - len(outputs),
        )

    def _outputs(
        self, grouping: Grouping[S, T], members: Mapping[int, Member], sample: list[Sampled[T]]
    ) -> Steps[dict[int, T]]:
        spent, numbers = Spent(), list(members)
        answers: dict[int, Completion] = {}
        try:
            answers = yield from grouping.ask(Group(list(members.values())), spent)
        except ItemError:
            pass  # then none of them is answered in a group of this size
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
        """Return how the LLM answers the sample when it is asked alone again."""
        sample = list(self.sample.values())
        agree: list[bool | None] = await self._together(map(self._again, sample))
        compared = [one for one in agree if one is not None]
        return Measured(size=1, rows=len(compared), differing=compared.count(False))

    def _again(self, sampled: Sampled[T]) -> Steps[bool | None]:
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

    def _charge(self, spent: Spent, sampled: list[Sampled[T]]) -> None:
        self.tally.made(spent.calls, spent.usage, counted=spent.counted, extra=True)
        share(spent, [one.spent for one in sampled])

    async def _together(self, many: Iterable[Steps[R]]) -> list[R]:
        gate = asyncio.Semaphore(self.concurrency)

        async def one(steps: Steps[R]) -> R:
            async with gate:
                result: R = await self.drive(steps)
                return result

        tasks = [asyncio.create_task(one(steps)) for steps in many]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
