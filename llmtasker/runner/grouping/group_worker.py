"""GroupWorker: from the inputs of one group to Items, as a generator without I/O.

Good answers are kept; only missing ones are asked for again, in smaller groups, then alone.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from llmtasker.compiler.answer_parser import Answer
from llmtasker.errors import (
    BadRequestError,
    BadResponseError,
    CallTimeoutError,
    ContextLengthError,
    ItemError,
    OutputError,
    ServerError,
)
from llmtasker.item import Item
from llmtasker.runner.grouping.auto_size import Watch
from llmtasker.runner.grouping.group_limits import GroupLimits
from llmtasker.runner.grouping.group_program import GroupProgram
from llmtasker.runner.grouping.members import Group, Member, next_group
from llmtasker.runner.grouping.report import Tally
from llmtasker.runner.policy import Policy
from llmtasker.runner.row import Outcome, Row, Spent
from llmtasker.runner.steps import Keep, Steps, Wait
from llmtasker.signature.signature import S
from llmtasker.wire.completion import NO_USAGE, Completion, Usage
from llmtasker.wire.request import Mode, Request

T = TypeVar("T")

_LOG = logging.getLogger("llmtasker")


_FRUITLESS = 100  # look-ups in a row without a hit, after which rows are not looked up ahead


@dataclass(slots=True, kw_only=True)
class _Batch(Generic[T]):
    """The rows of one generator, and their items so far."""

    rows: Mapping[int, Row]
    keys: Mapping[int, str]
    items: dict[int, Item[T]]
    waiting: dict[int, Member] = field(default_factory=dict[int, Member])


@dataclass(slots=True, kw_only=True)
class GroupWorker(Generic[S, T]):
    """The worker of a run that asks for several inputs in one message; `alone` asks for those that groups missed.

    An input is in at most one group of each size: `limits.size`, a third of that, and so on down to 2. Inputs that
    are still missing are asked alone, with at most `alone.attempts` answers; so is, immediately, an input whose answer
    in a group is invalid. So n inputs need at most n // 2 groups of each size (about half of n in total, if no two
    start alike) and attempts x n calls alone, not counting retries after transient failures.

    `cached`: rows may be cached, so groups are filled with rows that are not.
    """

    program: GroupProgram[S]
    alone: Policy[S, T]
    limits: GroupLimits
    tally: Tally = field(default_factory=Tally)
    watch: Watch | None = None
    cached: bool = False
    _fruitless: int = 0

    @property
    def size(self) -> int:
        """The most inputs that a message may have now."""
        return self.limits.size

    def look(self, rows: Sequence[object]) -> Steps[list[Any]]:
        """Yield the steps to the item of each invalid or cached input, and to the row of each other input."""
        if not self.cached or self._fruitless > _FRUITLESS:
            return list(rows)  # if nothing is cached, groups are full anyway, and look-ups take time
        found = yield from self.alone.look(rows)
        self._fruitless = 0 if any(isinstance(one, Item) for one in found) else self._fruitless + 1
        return found

    def steps(self, rows: Sequence[object]) -> Steps[list[Item[T]]]:
        """Yield the steps to an item for each input (or row of one), in order."""
        if self.limits.size == 1 and len(rows) == 1 and not isinstance(rows[0], Row):
            item = yield from self.alone.ask(rows[0])
            self.tally.asked_alone(item)
            return [item]
        items: dict[int, Item[T]] = {}
        open_rows: dict[int, Row] = {}
        looked_up = self.alone.fresh != "invalid" and all(isinstance(row, Row) for row in rows)
        for place, given in enumerate(rows):
            row = given if isinstance(given, Row) else self.alone.prepare(given)
            if isinstance(row, Item):
                items[place] = row
            else:
                open_rows[place] = row
                row.spent.places = (place,)
        flights = self.alone.llm.single_flight
        while open_rows:
            # A leader must finish its keys before it waits, or two groups could wait for each other.
            keys = {place: self.alone.flight_key(row) for place, row in open_rows.items()}
            flying = {place: flights.enter(key) for place, key in keys.items()}
            led = {place: row for place, row in open_rows.items() if flying[place] is None}
            yield from self._lead(_Batch(rows=led, keys=keys, items=items), looked_up=looked_up)
            looked_up = False
            for place, flight in flying.items():
                if flight is not None:
                    outcome = yield Wait(flight)
                    if outcome is not None:
                        items[place] = self.alone.from_completion(open_rows[place], outcome)
            open_rows = {place: row for place, row in open_rows.items() if place not in items}
        return [items[place] for place in range(len(rows))]

    def _lead(self, batch: _Batch[T], *, looked_up: bool) -> Steps[None]:
        """Put the item of each row into `batch.items`, and finish its key."""
        alone = self.alone
        try:
            # Rows already looked up are not looked up again: if another process has asked since, the lease is denied.
            cached = [] if looked_up else (yield from alone.from_cache(list(batch.rows.values())))
            for place, item in zip(batch.rows, cached, strict=False):
                if item is not None:
                    self._finish(batch, place, item)
            wanted = {place: row for place, row in batch.rows.items() if place not in batch.items}
            leases = yield from alone.lease(list(wanted.values()))
            missing = {place: row for (place, row), taken in zip(wanted.items(), leases, strict=True) if taken}
            elsewhere = {place: row for place, row in wanted.items() if place not in missing}
            yield from self._groups(batch, missing)
            for place, row in missing.items():
                if place not in batch.items:
                    self._finish(batch, place, (yield from self._counted(row, alone.ask_until_valid(row))))
            for place, row in elsewhere.items():
                self._finish(batch, place, (yield from self._counted(row, alone.wait_or_ask(row))))
        finally:
            # Also when this generator is closed early: then one of the waiters takes over.
            for place in batch.rows:
                if place not in batch.items:
                    alone.llm.single_flight.finish(batch.keys[place], None)

    def _finish(self, batch: _Batch[T], place: int, item: Item[T]) -> None:
        batch.items[place] = item
        row = batch.rows[place]
        self.tally.rows += not item.cached
        outcome = Outcome(row.spent.completion, None if item.cached else item.error)
        self.alone.llm.single_flight.finish(batch.keys[place], outcome)

    def _groups(self, batch: _Batch[T], missing: Mapping[int, Row]) -> Steps[None]:
        """Ask in groups, smaller each time, until at most one groupable input is left."""
        if self.limits.size == 1 or len(missing) == 1:
            return
        show = self.program.program.signature.format_input
        for place, row in missing.items():
            if self.program.may_hold(row) and (member := Member.of(row, show(row.inputs.values))) is not None:
                batch.waiting[place] = member
        size = self.limits.size
        while min(size, self.limits.size) > 1 and len(batch.waiting) > 1:
            untried = dict(batch.waiting)
            while len(untried) > 1 and self.limits.size > 1:
                places = next_group(untried, size, self.limits)
                group = {place: untried.pop(place) for place in places}
                if len(group) > 1:
                    yield from self._ask(batch, group)
            size //= 3

    def _ask(self, batch: _Batch[T], members: Mapping[int, Member]) -> Steps[None]:
        """Ask for one group; inputs that are answered, or can't be grouped, leave `batch.waiting`."""
        group, spent = Group(list(members.values())), Spent(places=tuple(members))
        answers: dict[int, Completion] = {}
        leave = False
        error: ItemError | None = None
        try:
            answers = yield from self.ask(group, spent)
        except (OutputError, BadRequestError):
            pass  # one input may have spoiled it for the others: ask in smaller groups
        except ContextLengthError:
            self.limits.too_long(group.length)
        except (ServerError, BadResponseError, CallTimeoutError):
            leave = True  # retried often enough: now alone, because one input may make the endpoint fail
        except ItemError as failed:
            error = failed
        if not answers:
            self.limits.no_answers()
        self.tally.made(spent.calls, spent.usage, counted=spent.counted, extra=True)
        share(spent, [member.row.spent for member in group.members])
        if error is not None:
            for place, member in members.items():
                self._finish(batch, place, self.alone.item(member.row, error=error))
        else:
            places = list(members)
            yield from self._accept(batch, {places[number]: own for number, own in answers.items()})
            members = members if leave else {places[number]: group.members[number] for number in answers}
        for place in members:
            del batch.waiting[place]

    def ask(self, group: Group, spent: Spent) -> Steps[dict[int, Completion]]:
        """Ask for one group, and return the unambiguous answers, by number, as if each had been asked alone.

        Raises:
            ItemError: there is no answer at all.
        """
        length = 0
        program = self.program.of(group.members[0].row)

        def render(mode: Mode) -> Request:
            nonlocal length
            request = program.render(group, mode)
            length = len(request.content)
            return request

        completion = yield from self.alone.call(render, spent, program.asked, len(group.members))
        reading = program.read(completion, group)
        answers = {number: program.own(answer, completion) for number, answer in reading.answers.items()}
        if reading.cut:
            self.limits.cut(len(answers), len(group.members))
        elif answers:
            self.limits.answered(reading.length, reading.entries)
        elif program.asked == "auto":
            self.alone.llm.capabilities.record_text(completion)
        if completion.usage is not None:
            self.tally.answered(completion.usage, length, reading.length)
        return answers

    def _accept(self, batch: _Batch[T], answers: Mapping[int, Completion]) -> Steps[None]:
        """Finish rows whose answers in a group are valid, and cache all of them at once."""
        fitting: dict[int, Answer[S]] = {}
        for place, completion in answers.items():
            with contextlib.suppress(OutputError):
                fitting[place] = self.alone.program.parse(completion, batch.rows[place].inputs)
        if self.watch is not None and answers and self.watch.due():
            place = list(answers)[self.watch.checked % len(answers)]
            if place in fitting and (item := (yield from self._checked(batch.rows[place], fitting[place]))) is not None:
                self._finish(batch, place, item)
                del fitting[place]
        if fitting:
            yield Keep([(batch.rows[place].key, answers[place]) for place in fitting])
        contents = [batch.rows[place].request.content for place in fitting]
        texts = [answers[place].raw for place in fitting]
        self.tally.took(len(fitting), sum(map(len, contents)), sum(map(len, texts)))
        for place, answer in fitting.items():
            row = batch.rows[place]
            row.spent.completion = answers[place]
            self._finish(batch, place, self.alone.item(row, answer=answer))

    def _checked(self, row: Row, answer: Answer[S]) -> Steps[Item[T] | None]:
        """Ask for a row alone as well, and use that answer, if there is one."""
        watch = self.watch
        item = yield from self._counted(row, self.alone.ask_until_valid(row), extra=True)
        if watch is None or item.output is None:
            return None
        agrees = watch.auto.agrees(self.alone.present(answer.record), item.output)
        if watch.saw(agrees=agrees, size=self.limits.size):
            self.limits.halve()
            _LOG.info("group_size: answers differ from those asked alone; groups of %d from here on", self.limits.size)
        return item

    def _counted(self, row: Row, steps: Steps[Item[T]], *, extra: bool = False) -> Steps[Item[T]]:
        """Ask for a row alone, and count its calls and tokens."""
        calls, usage = row.spent.calls, row.spent.usage
        item = yield from steps
        self.tally.made(row.spent.calls - calls, row.spent.usage, usage, counted=row.spent.counted, extra=extra)
        return item


def share(spent: Spent, among: Sequence[Spent]) -> None:
    """Divide the cost of a group's calls among its members, to the last token."""
    totals, count = spent.usage.to_dict(), len(among)
    least = Usage(**{name: total // count for name, total in totals.items()})
    uneven = max((total % count for total in totals.values()), default=0)
    for number, one in enumerate(among):
        one.calls += spent.calls
        one.share += spent.share / count
        one.counted = one.counted and spent.counted
        one.started = spent.started if one.started is None else one.started
        part = least
        if number < uneven:
            part = Usage(**{name: total // count + (number < total % count) for name, total in totals.items()})
        one.usage = part if one.usage is NO_USAGE else one.usage + part
