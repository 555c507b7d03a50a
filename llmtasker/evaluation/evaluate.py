"""evaluate: a task over gold rows → a report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Unpack, cast

from llmtasker.errors import ConfigurationError
from llmtasker.evaluation.evaluation_report import Report
from llmtasker.evaluation.figures import ReportRow
from llmtasker.evaluation.gold_rows import Gold, GoldRow, gold_rows
from llmtasker.evaluation.metrics import FieldKind, Metric, applied, further, kind_of, right
from llmtasker.evaluation.shortlist import shortlist_check
from llmtasker.evaluation.subject import Measurable, Subject
from llmtasker.item import Item
from llmtasker.runner.task_run import RunOptions
from llmtasker.signature.signature_schema import fields_of, labels_of, signature_hash
from llmtasker.threads import portal


class EvaluationOptions(RunOptions, total=False):
    """The keyword arguments of `evaluate`, which describes them."""

    metrics: Mapping[str, Metric] | None
    slices: Sequence[str]
    cluster: str | None
    seed: int


def evaluate(task: Measurable, gold: Gold, **options: Unpack[EvaluationOptions]) -> Report:
    """Return the report of a task or pipeline over rows whose right answers are known.

    All rows count; one that failed is not right.

    Args:
        gold: a file, a table, records of the signature, or mappings with inputs and right outputs.
        metrics: functions `(gold_record, item) -> float | bool | None`, beside those that the types of the fields give.
        slices: columns whose values are reported apart.
        cluster: a column whose equal values belong together, such as a customer: intervals allow for it.
        seed: of the resampling.
        options: beside these, those of `Task.run`; `columns` names the column of an output field too. Answers that are
            cached are not asked again.

    Raises:
        ConfigurationError: gold does not fit the signature, before any call; or the set-up is wrong.

    >>> from llmtasker import Classification
    >>> task = Classification(llm="offline", labels={"cat": "meows, purrs", "dog": "barks, howls"})
    >>> print(evaluate(task, [{"text": "it barks", "label": "dog"}, {"text": "it purrs", "label": "cat"}]))
    label: accuracy 100.0 % (34.2 to 100.0) of 2 rows: 2 right, 0 wrong, 0 failed
    2 rows asked now, 0 from the cache
    """
    return portal().call(aevaluate(task, gold, **options))


async def aevaluate(task: Measurable, gold: Gold, **options: Unpack[EvaluationOptions]) -> Report:
    """Return the report of a task over gold rows, without blocking the event loop; see `evaluate`."""
    subject = Subject.of(task)
    signature = subject.signature
    own = dict(options.pop("metrics", None) or {})
    if taken := own.keys() & signature.output_fields.keys():
        raise ConfigurationError(f"metrics: {min(taken)!r} is the name of an output field; choose another.")
    columns, slices = options.pop("columns", None), options.pop("slices", ())
    cluster, seed = options.pop("cluster", None), options.pop("seed", 0)
    rows, without = gold_rows(signature, gold, columns=columns, slices=slices, cluster=cluster)
    results = await task.arun([dict(row.given) for row in rows], **cast("RunOptions", options))
    return report_of(task, rows, results, metrics=own, without_gold=without, clustered=cluster is not None, seed=seed)


def report_of(
    task: Measurable,
    rows: Sequence[GoldRow],
    items: Iterable[Item[Any]],
    *,
    metrics: Mapping[str, Metric] | None = None,
    without_gold: int = 0,
    clustered: bool = False,
    seed: int = 0,
) -> Report:
    """Return the report of a task's items on gold rows, in the same order; nothing is asked."""
    own = metrics or {}
    subject = Subject.of(task)
    signature = subject.signature
    measured = list(rows[0].gold)
    kinds: dict[str, FieldKind] = {name: kind_of(signature.output_fields[name].annotation) for name in measured}
    in_shortlist = shortlist_check(task)
    made = list[ReportRow]()
    broken = dict[str, int]()
    for row, item in zip(rows, items, strict=True):
        answer = subject.answer(item) if item.ok else None
        scores, failed = applied(own, row.record, item) if item.ok else ({}, [])
        for name in failed:
            broken[name] = broken.get(name, 0) + 1
        if answer is not None:
            for name, kind in kinds.items():
                scores[name] = right(kind, row.gold[name], answer[name])
                found = further(kind, row.gold[name], answer[name])
                scores |= {f"{name}: {what}": value for what, value in found.items()}
        if in_shortlist is not None:
            scores |= in_shortlist(row)
        made.append(_report_row(row, item, answer, scores, subject.cost(item)))
    return Report(
        signature=signature.__name__,
        signature_hash=signature_hash(fields_of(signature), labels_of(signature)),
        kinds=kinds,
        metrics=tuple(own),
        rows=tuple(made),
        without_gold=without_gold,
        broken=broken,
        clustered=clustered,
        seed=seed,
    )


def _report_row(
    row: GoldRow, item: Item[Any], answer: Mapping[str, Any] | None, scores: dict[str, float], cost: float | None
) -> ReportRow:
    usage = item.answer_usage if item.cached else item.usage
    return ReportRow(
        key=row.key,
        given=dict(row.given),
        gold=dict(row.gold),
        answer=None if answer is None else {name: answer[name] for name in row.gold},
        error=None if item.error is None else (item.error.code, item.error.message),
        scores=scores,
        raw=item.raw,
        repairs=item.repairs,
        cached=item.cached,
        attempts=item.attempts,
        tokens=usage.total,
        cost=cost,
        latency=None if item.cached else item.latency,
        slices=dict(row.slices),
        cluster=None if row.cluster is None else str(row.cluster),
    )
