"""Several inputs in one message, each answer back to its own input.

Each input has an id and an anchor, its own first words, and an answer must give both: so an answer that is dropped,
doubled, made up, shuffled or shifted is seen. Good answers are kept; only what is missing is asked again, in smaller
groups, then alone. The cache knows rows, not groups.

    anchor    what an answer must name
    room      how much one group may hold
    member    which inputs go into one message
    answers   a group's answer, taken apart
    program   how a program asks for several inputs at once
    auto      group_size="auto": which size is good enough, and whether it stays so
    report    what grouping has saved
    asking    one group on its way to Items, without I/O
    trial     a sample, asked alone and in groups
    bulk      a whole run
"""

from llmtasker.runner.grouping.auto_size import AutoGroup, Choice, Measured
from llmtasker.runner.grouping.report import GroupReport

__all__ = ["AutoGroup", "Choice", "GroupReport", "Measured"]
