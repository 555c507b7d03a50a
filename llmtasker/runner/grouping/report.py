"""GroupReport: what grouping saved in a run, and what it cost."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from llmtasker.errors import counted
from llmtasker.item import Item
from llmtasker.runner.grouping.auto_size import Choice, Watch
from llmtasker.runner.grouping.group_limits import GroupLimits
from llmtasker.wire.completion import NO_USAGE, Usage

_COUNTS = [field.name for field in fields(Usage)]


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupReport:
    """What grouping did in a run, compared with one call per row.

    `rows` were asked for, not counting cached ones; `grouped` of them were answered in groups. `calls` counts all
    calls: groups, rows asked again alone, the sample of "auto", checks. `tokens_saved` is an estimate: the tokens that
    the grouped rows would have used alone, from the tokens per character that the endpoint reported, minus those of all
    groups and checks; None if the endpoint reports no usage. `size` is the size at the end of the run; `choice`
    explains it. Of `checked` rows, asked alone too, `differing` were answered differently.
    """

    size: int
    rows: int
    grouped: int
    calls: int
    usage: Usage
    tokens_saved: int | None
    choice: Choice | None = None
    checked: int = 0
    differing: int = 0

    @property
    def calls_saved(self) -> int:
        """How many more calls one call per row would have made; below 0: grouping made more."""
        return self.rows - self.calls

    def __str__(self) -> str:
        tokens = (
            "tokens not counted" if self.tokens_saved is None else f"about {counted(self.tokens_saved, 'token')} saved"
        )
        saved = f"{counted(self.calls_saved, 'call')} and {tokens}"
        first = f"{counted(self.rows, 'row')} in {counted(self.calls, 'call')}: {saved}"
        lines = [f"{first}; {counted(self.grouped, 'row')} answered in groups of up to {self.size}"]
        lines += [f"auto: {self.choice}"] if self.choice else []
        lines += [f"checked alone: {self.checked:,}, {self.differing:,} differ"] if self.checked else []
        return "\n".join(lines)


class Tally:
    """The counts for the report of one run; `limits` and `watch` are those of its groups, if there are any."""

    def __init__(self) -> None:
        self.limits: GroupLimits | None = None
        self.choice: Choice | None = None
        self.watch: Watch | None = None
        self.rows = self.grouped = self.calls = 0
        self.usage = NO_USAGE
        self._extra = 0  # tokens that would not have been used without grouping
        self._counted = True
        self._answered = NO_USAGE
        self._asked = self._answer = self._alone_asked = self._alone_answer = 0  # characters

    def made(self, calls: int, usage: Usage, before: Usage = NO_USAGE, *, counted: bool, extra: bool = False) -> None:
        """Count calls and their usage above `before`; `extra` calls would not have been made without grouping."""
        self.calls += calls
        took = {name: getattr(usage, name) - getattr(before, name) for name in _COUNTS}
        self.usage += Usage(**took)
        self._extra += usage.total - before.total if extra else 0
        self._counted = self._counted and counted

    def asked_alone(self, item: Item[Any]) -> None:
        """Count a row that was asked alone from the start."""
        self.rows += not item.cached
        self.made(item.attempts, item.usage, counted=bool(item.usage.total) or not item.ok)

    def answered(self, usage: Usage, asked: int, answer: int) -> None:
        """Count the characters that correspond to the tokens of a group's call."""
        self._answered += usage
        self._asked += asked
        self._answer += answer

    def took(self, rows: int, asked: int, answer: int) -> None:
        """Count rows that were answered in a group, with the characters that they would have taken alone."""
        self.grouped += rows
        self._alone_asked += asked
        self._alone_answer += answer

    @property
    def tokens_saved(self) -> int | None:
        """Tokens that the grouped rows would have used alone, minus those that groups used; None: not counted."""
        if not self._counted:
            return None
        alone = self._answered.input * self._alone_asked / max(1, self._asked)
        alone += self._answered.output * self._alone_answer / max(1, self._answer)
        return round(alone) - self._extra

    def report(self) -> GroupReport:
        """Return the current report."""
        return GroupReport(
            size=self.limits.size if self.limits else 1,
            rows=self.rows,
            grouped=self.grouped,
            calls=self.calls,
            usage=self.usage,
            tokens_saved=self.tokens_saved,
            choice=self.choice,
            checked=self.watch.checked if self.watch else 0,
            differing=self.watch.differing if self.watch else 0,
        )
