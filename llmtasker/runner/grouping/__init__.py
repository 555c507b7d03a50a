"""Several inputs in one message, with each answer assigned to its own input.

Each input has an id and an anchor, its own first words, and an answer must repeat both. This detects answers that are
dropped, duplicated, made up, shuffled or shifted. Good answers are kept; only missing ones are asked for again, in
smaller groups, then alone. The cache stores rows, not groups.

    members        which inputs go into one message
    group_limits   the limits of one group
    group_program  how a program asks for several inputs at once
    answers        a group's answer, split into those of its members
    group_worker   one group → Items, without I/O
    auto_group     the options of group_size="auto"
    auto_size      which size is good enough, and whether it remains so
    sample_run     a sample, asked alone and in groups
    group_plan     how a task asks in groups, over several runs
    report         what grouping has saved
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmtasker.runner.grouping.auto_group import AutoGroup

if TYPE_CHECKING:  # loaded only for tasks that group
    from llmtasker.runner.grouping.auto_size import Choice as Choice
    from llmtasker.runner.grouping.auto_size import Measured as Measured
    from llmtasker.runner.grouping.report import GroupReport as GroupReport

__all__ = ["AutoGroup", "Choice", "GroupReport", "Measured"]


def __getattr__(name: str) -> Any:
    if name == "GroupReport":
        from llmtasker.runner.grouping import report

        return report.GroupReport
    if name in __all__:
        from llmtasker.runner.grouping import auto_size

        return getattr(auto_size, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
