"""Rows that the prompt of a task shows as examples, with their right answers: no measure of other rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from llmtasker.compiler.examples import shown_text
from llmtasker.evaluation.gold_rows import GoldRow
from llmtasker.evaluation.metrics import normalised
from llmtasker.task import Task


def rows_shown(task: Task[Any], rows: Sequence[GoldRow]) -> int:
    """Return how many rows are examples of the task, apart from case, spaces, and punctuation at the ends.

    Examples that are chosen for each input do not include the input itself, but those that hardly differ from it.
    """
    examples = defaultdict[str, set[str]](set)
    for example in task.program.source.read_examples():
        shown = shown_text(task.signature, example.values)
        examples[normalised(shown)].add(shown)
    if not examples:
        return 0
    own_too = task.program.picker is None
    count = 0
    for row in rows:
        if row.error is None:
            shown = shown_text(task.signature, row.record.inputs())
            found = examples.get(normalised(shown), set())
            count += bool(found if own_too else found - {shown})
    return count
