"""Groups and Bulk: a task's rows in groups, run after run; with "auto", the size is found with the first rows."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any, Generic, Literal, TypeVar

from llmtasker.compiler.program import Program
from llmtasker.errors import ConfigurationError, InputError
from llmtasker.item import Item
from llmtasker.runner.grouping.ask_group import Grouping
from llmtasker.runner.grouping.auto_size import AutoGroup, Choice, Watch, choose, upper_bound
from llmtasker.runner.grouping.auto_trial import Drive, Trial
from llmtasker.runner.grouping.group_program import GroupProgram
from llmtasker.runner.grouping.report import GroupReport, Tally
from llmtasker.runner.grouping.room import Room
from llmtasker.runner.inputs import Inputs
from llmtasker.runner.policy import Policy
from llmtasker.runner.run import Feed, Run
from llmtasker.runner.steps import Keep, Look, Steps
from llmtasker.signature import S
from llmtasker.wire.completion import Completion

T = TypeVar("T")

GroupSize = int | Literal["auto"] | AutoGroup

_ROUNDS = 20  # in which a sample is looked for among rows that are cached, or alike
_FRUITLESS = 100  # look-ups in a row that found nothing cached, after which rows are not looked up ahead
_LOG = logging.getLogger("llmtasker")


class Groups(Generic[S]):
    """How a task asks in groups. What "auto" has chosen holds for all its runs, and is kept in the cache for others.

    Raises:
        ConfigurationError: the size is no number of inputs, or the task can't be grouped.
    """

    def __init__(self, program: Program[S], size: GroupSize) -> None:
        if isinstance(size, str) and size != "auto":
            raise ConfigurationError(f'group_size is a number, "auto" or an AutoGroup, not {size!r}')
        if isinstance(size, int) and size < 1:
            raise ConfigurationError(f"group_size counts the inputs in one message, so at least 1, not {size}")
        self.auto = AutoGroup() if isinstance(size, str) else size if isinstance(size, AutoGroup) else None
        self.largest = self.auto.largest if self.auto else size if isinstance(size, int) else 1
        self.program = GroupProgram(program) if self.largest > 1 else None
        self.choice: Choice | None = None
        self._last: Bulk[S, Any] | None = None

    @property
    def size(self) -> int:
        """The inputs of a message; where "auto" has not chosen yet, 1."""
        if self.auto is None:
            return self.largest
        return self.choice.size if self.choice else 1

    @property
    def report(self) -> GroupReport | None:
        """What grouping did in the run that was begun last, up to now; None: there was none."""
        return self._last.report if self._last else None

    def begin(self, alone: Policy[S, T], drive: Drive, *, cached: bool) -> Bulk[S, T] | None:
        """Return the work of one run, in which rows may be `cached`; None where there is nothing to group."""
        if self.program is None:
            return None
        self._last = bulk = Bulk(self, self.program, alone, drive, cached=cached)
        return bulk


class Bulk(Generic[S, T]):
    """One run in groups: `steps` is its work, `batches` its items.

    `drive` does the steps of a generator; `cached` tells that rows may be cached, and groups are to be filled up.
    """

    def __init__(
        self, groups: Groups[S], program: GroupProgram[S], alone: Policy[S, T], drive: Drive, *, cached: bool
    ) -> None:
        self.groups = groups
        self.program = program
        self.alone = alone
        self._drive = drive
        self._cached = cached and alone.fresh is not True
        self._tally = Tally()
        self._found = self._fruitless = 0
        self._grouping: Grouping[S, T] | None = None
        self.choice: Choice | None = None

    @property
    def report(self) -> GroupReport:
        """What grouping did, up to now."""
        grouping = self._grouping
        size = grouping.room.size if grouping else 1
        return self._tally.report(size, self.choice, grouping.watch if grouping else None)

    def steps(self, givens: Sequence[object]) -> Steps[list[Item[T]]]:
        """Yield the steps to an item for each input: in groups, or alone until the size is known."""
        if self._grouping is not None:
            return (yield from self._grouping.steps(givens))
        items: list[Item[T]] = []
        for given in givens:
            item = yield from self.alone.steps(given)
            self._tally.rows += not item.cached
            self._tally.made(item.attempts, item.usage, counted=bool(item.usage.total) or not item.ok)
            items.append(item)
        return items

    async def batches(self, run: Run[T], inputs: Inputs) -> AsyncGenerator[list[Item[T]]]:
        """Yield the items that are done since the last time, as `run` does; its `work` drives `steps`."""
        feed = Feed(inputs)
        try:
            if self.groups.auto is not None:
                async with aclosing(self._first(self.groups.auto, run, feed)) as first:
                    async for batch in first:
                        yield batch
            grouping = self._grouping = self._start()
            size = grouping.room.size
            run = replace(run, size=size, look=self._look if size > 1 and self._cached else None)
            async with aclosing(run.batches(feed)) as rest:
                async for batch in rest:
                    yield batch
        finally:
            await feed.close()

    def _start(self) -> Grouping[S, T]:
        groups, choice = self.groups, self.choice
        size = choice.size if choice else groups.largest
        watch = Watch(groups.auto, choice) if groups.auto is not None and choice is not None and size > 1 else None
        room = Room(size, self.alone.program, self.alone.llm.settings)
        return Grouping(program=self.program, alone=self.alone, room=room, tally=self._tally, watch=watch)

    async def _look(self, givens: list[Any]) -> list[Any]:
        found_before, self._found = self._found, self._tally.cached
        self._fruitless = self._fruitless + 1 if self._found == found_before else 0
        if self._grouping is None or self._fruitless > _FRUITLESS:
            return givens  # nothing is cached hereabouts: then groups are full anyway, and a look-up takes its time
        found: list[Any] = await self._drive(self._grouping.look(givens))
        return found

    async def _first(self, auto: AutoGroup, run: Run[T], feed: Feed) -> AsyncGenerator[list[Item[T]]]:
        """Find the size: from an earlier run, or with the first rows, which are asked alone."""
        self.choice = self.groups.choice
        if self.choice is not None:
            return
        key = hashlib.sha256(f"{auto.key()} {self.program.identity(self.alone.llm.settings)}".encode()).hexdigest()
        if self.alone.fresh is not True and auto.same is None:
            self.choice = self.groups.choice = await self._drive(_recall(key))
        if self.choice is None and feed.total is not None and feed.total < 2 * auto.sample:
            self.choice = Choice(size=1, reason=f"for {feed.total} rows, a sample of {auto.sample} does not pay")
        if self.choice is None:
            trial = Trial(
                auto=auto,
                program=self.program,
                alone=self.alone,
                tally=self._tally,
                drive=self._drive,
                concurrency=run.concurrency,
            )
            async with aclosing(self._sample(trial, run, feed, key)) as batches:
                async for batch in batches:
                    yield batch
        _LOG.info("group_size: %s", self.choice)

    async def _sample(self, trial: Trial[S, T], run: Run[T], feed: Feed, key: str) -> AsyncGenerator[list[Item[T]]]:
        """Ask the first rows alone until there is a sample, and choose; its items wait for what that costs."""
        auto, alone = trial.auto, replace(run, size=1, window=None, ordered=True)
        held: list[Item[T]] = []
        rounds = 0
        while (lacking := auto.sample - len(trial.sample)) > 0 and rounds < _ROUNDS:
            taken = await feed.take(lacking)
            items: list[Item[T]] = []
            async with aclosing(alone.batches([given for _, given in taken])) as batches:
                async for batch in batches:
                    items += batch
            held += items
            new = sum([trial.saw(item) for item in items])
            if not trial.sample:
                yield held  # nothing but what is cached, so far
                held = []
            rounds += bool(trial.sample)
            if not taken or (not new and any(_failed(item) for item in items)):
                break
        if upper_bound(0, len(trial.sample)) < auto.epsilon:
            temperature = self.alone.llm.settings.body.get("temperature")
            repeat = None if temperature == 0 else trial.repeat
            self.choice = self.groups.choice = await choose(auto, trial.measure, repeat)
            if auto.same is None:  # what another function calls the same is not known by its name
                await self._drive(_remember(key, self.choice))
        else:
            self.choice = Choice(size=1, reason=f"a sample of {len(trial.sample)} answered rows is too small")
        yield [trial.charged(item) for item in held]


def _failed(item: Item[Any]) -> bool:
    return item.error is not None and not isinstance(item.error, InputError)


def _recall(key: str) -> Steps[Choice | None]:
    found: Completion | None = yield Look(key)
    try:
        return Choice.from_json(found.text or "") if found else None
    except ValueError:
        return None


def _remember(key: str, choice: Choice) -> Steps[None]:
    yield Keep(key, Completion(text=choice.to_json(), finish_reason="stop"))
