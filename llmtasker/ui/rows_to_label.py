"""Choose the rows of a job that a person should label next: those that would teach the task most."""

from __future__ import annotations

from collections.abc import Iterable

from llmtasker.jobs.job_queue import JobQueue
from llmtasker.jobs.job_state import Job, OpenRow
from llmtasker.similarity.diversified import diversified
from llmtasker.similarity.nearest import alike, sketch
from llmtasker.values.lazy_pattern import lazy_pattern

CHOSEN = 20
"""The number of rows that are proposed at a time."""

_POOL = 200  # rows to read, the most doubtful ones
_COMPARED = 80  # groups of similar rows to compare with each other
_KNOWN = 30  # corrected rows to compare them with
_RARE, _OF_RARE = 10, 6  # labels, rows of each
_SPREAD = 40  # rows from all over the file
_LOOKED_AT = 200  # characters to read of a corrected text
_SAME_KIND = 0.6  # texts with at least this similarity form one group
_NUMBERS = lazy_pattern(r"\d+")
_ANSWERED = frozenset({"abstained", "invalid", "truncated", "refusal", "filtered"})
"""Failures of the task; the others (network, budget) are not its fault."""


def rows_to_label(queue: JobQueue, job: Job, gold: str | None) -> list[int]:
    """Return the numbers of the rows that would teach the task most, best first: doubtful rows, one of each group.

    Doubtful rows are those with the least confidence and those without an answer; if no row has a confidence, also
    repaired ones, those with rare labels, and some from all over the file. Rows that are corrected, resemble a
    corrected one, or have a right answer in the column `gold` are left out. The cost is bounded, and the same rows are
    proposed until something changes.
    """
    doubts = dict[int, tuple[float, OpenRow]]()

    def add(rows: Iterable[OpenRow], doubt: float) -> None:
        """Add rows with their doubt: from their confidence if there is one."""
        for row in rows:
            own = doubt if row.sure is None else 1 - row.sure
            known, _ = doubts.get(row.number, (0.0, row))
            right = row.row.get(gold) if gold else None
            if right is None or not str(right).strip():
                doubts[row.number] = max(known, own), row

    measured = queue.open_rows(job.id, "measured", _POOL)
    add(measured, 1.0)
    failed = queue.open_rows(job.id, "failed", _POOL // 3)
    add((row for row in failed if row.error in _ANSWERED), 1.0)
    if not measured:
        add(queue.open_rows(job.id, "repaired", _POOL // 3), 0.8)
        counts = queue.labels(job.id)
        for label in list(counts)[: -_RARE - 1 : -1]:
            share = counts[label] / sum(counts.values())
            add(queue.open_rows(job.id, "ok", _OF_RARE, label=label), 0.7 * (1 - share))
        numbers = [1 + place * job.rows // _SPREAD for place in range(_SPREAD)]
        add(queue.open_rows(job.id, "ok", _SPREAD, among=numbers), 0.2)
    return _unlike_each_other(doubts, _known(queue, job))


def _known(queue: JobQueue, job: Job) -> list[int]:
    """Return the sketches of some corrected rows."""
    rows = queue.rows(job.id, before=job.rows + 1, limit=_KNOWN, only="corrected")
    return [sketch(" ".join(str(value) for value in row.given.values())[:_LOOKED_AT]) for row in rows]


def _unlike_each_other(doubts: dict[int, tuple[float, OpenRow]], known: list[int]) -> list[int]:
    kinds = dict[str, tuple[float, OpenRow]]()  # texts that differ only in numbers form one group
    for doubt, row in sorted(doubts.values(), key=lambda one: (-one[0], one[1].number)):
        kinds.setdefault(_NUMBERS.sub("0", row.text), (doubt, row))
    compared = list(kinds.values())[:_COMPARED]
    sketches = {row.number: sketch(row.text) for _, row in compared}
    return diversified(
        {row.number: doubt for doubt, row in compared},
        lambda one, other: alike(sketches[one], sketches[other]),
        CHOSEN,
        repeated={number: max((alike(own, one) for one in known), default=0.0) for number, own in sketches.items()},
        most=_SAME_KIND,
    )
