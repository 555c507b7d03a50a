"""GroupPlan: how a task asks in groups, over several runs."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Generic, Literal, TypeVar

from llmtasker.compiler.program import Program
from llmtasker.errors import ConfigurationError
from llmtasker.runner.grouping.auto_group import AutoGroup
from llmtasker.runner.policy import Policy
from llmtasker.signature.signature import S

if TYPE_CHECKING:  # loaded only for tasks that group
    from llmtasker.runner.grouping.auto_size import Choice
    from llmtasker.runner.grouping.group_program import GroupProgram
    from llmtasker.runner.grouping.group_worker import GroupWorker
    from llmtasker.runner.grouping.report import GroupReport, Tally

T = TypeVar("T")

GroupSize = int | Literal["auto"] | AutoGroup


class GroupPlan(Generic[S]):
    """How a task asks in groups. The `choice` of "auto" applies to all its runs, and is cached for other processes.

    `program` is None if there is nothing to group.

    Raises:
        ConfigurationError: the size is not a number of inputs, or the task can't be grouped.
    """

    def __init__(self, program: Program[S], size: GroupSize) -> None:
        if isinstance(size, str) and size != "auto":
            raise ConfigurationError(f'group_size is a number, "auto" or an AutoGroup, not {size!r}')
        if isinstance(size, int) and size < 1:
            raise ConfigurationError(
                f"group_size (the inputs in one message) must be a whole number of at least 1, not {size}"
            )
        self.auto = AutoGroup() if isinstance(size, str) else size if isinstance(size, AutoGroup) else None
        self.largest = self.auto.largest if self.auto else size if isinstance(size, int) else 1
        self.program = _grouped(program) if self.largest > 1 else None
        self.choice: Choice | None = None
        self._tallies: list[Tally] = []

    @property
    def size(self) -> int:
        """The inputs per message; 1 if "auto" has not chosen yet."""
        if self.auto is None:
            return self.largest
        return self.choice.size if self.choice else 1

    @property
    def tally(self) -> Tally | None:
        """The counts of the latest run, even if it had another prompt; None: there was none."""
        return self._tallies[-1] if self._tallies else None

    @tally.setter
    def tally(self, tally: Tally) -> None:
        self._tallies[:] = [tally]

    def of(self, program: Program[S]) -> GroupPlan[S]:
        """Return the plan for runs of the task with another prompt."""
        if self.program is None:
            return self
        plan = copy.copy(self)
        plan.program, plan.choice = _grouped(program), None
        return plan

    @property
    def report(self) -> GroupReport | None:
        """Return what grouping did in the latest run, up to now; None: there was none."""
        return self.tally.report() if self.tally else None

    def worker(self, program: GroupProgram[S], alone: Policy[S, T], tally: Tally, *, cached: bool) -> GroupWorker[S, T]:
        """Return the worker for a run (with "auto", for the rest of it), in which rows may be `cached`."""
        from llmtasker.runner.grouping.auto_size import Watch
        from llmtasker.runner.grouping.group_limits import GroupLimits
        from llmtasker.runner.grouping.group_worker import GroupWorker

        choice = tally.choice
        size = choice.size if choice else self.largest
        tally.limits = limits = GroupLimits(size, program.answer_length, alone.llm.settings)
        if self.auto is not None and choice is not None and size > 1:
            tally.watch = Watch(self.auto, choice)
        return GroupWorker(
            program=program,
            alone=alone,
            limits=limits,
            tally=tally,
            watch=tally.watch,
            cached=cached and alone.fresh is not True,
        )


def _grouped(program: Program[S]) -> GroupProgram[S]:
    from llmtasker.runner.grouping.group_program import GroupProgram

    return GroupProgram(program)
