"""evaluate: a task over gold rows → a report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Unpack, cast

from llmtasker.errors import ConfigurationError
from llmtasker.evaluation.evaluation_report import Report
from llmtasker.evaluation.gold_rows import Gold, GoldFile, GoldRow, gold_rows, opened
from llmtasker.evaluation.measured_task import Measurable, MeasuredTask, answered
from llmtasker.evaluation.metrics import Metric
from llmtasker.evaluation.own_examples import rows_shown
from llmtasker.evaluation.scorer import ScoredItem, Scorer
from llmtasker.evaluation.user_metrics import metrics_of
from llmtasker.item import Item
from llmtasker.portal import portal
from llmtasker.runner.call_settings import CallSettings
from llmtasker.runner.task_run import RunOptions, places
from llmtasker.task import Task
from llmtasker.values.argument_checks import check_count, check_names


class EvaluationOptions(RunOptions, total=False):
    """The keyword arguments of `evaluate`; see there."""

    metrics: Mapping[str, Metric] | None
    slices: Sequence[str]
    cluster: str | None
    seed: int
    samples: int


def evaluate(task: Measurable, gold: Gold, **options: Unpack[EvaluationOptions]) -> Report:
    """Return the report of a task or pipeline over rows with right answers.

    All rows count; a row that failed, or whose input does not fit, is not right.

    Args:
        gold: a file, a table, records of the signature, or mappings with inputs and right outputs.
        metrics: functions `(gold_record, item) -> float | bool | None`, or a `judge`, in addition to the metrics of
            the fields' types.
        slices: columns; each of their values is also reported separately.
        cluster: a column whose equal values mark dependent rows, such as a customer; intervals allow for it.
        seed: the seed of the resampling.
        samples: how often to ask for each row; the answers are cached separately. The figures are those of the first,
            and `report.flips` counts the rows whose answers differ.
        options: those of `Task.run`; `columns` names the column of an output field too. Cached answers are not asked
            for again.

    Raises:
        ConfigurationError: a right output does not fit the signature, or a column is missing, before any call; or the
            set-up is wrong.

    >>> from llmtasker import Classification
    >>> task = Classification(llm="offline", labels={"cat": "meows, purrs", "dog": "barks, howls"})
    >>> print(evaluate(task, [{"text": "it barks", "label": "dog"}, {"text": "it purrs", "label": "cat"}]))
    label: accuracy 100.0 % (34.2 to 100.0) of 2 rows: 2 right, 0 wrong, 0 failed
    2 rows asked now, 0 from the cache
    """
    return portal().call(aevaluate(task, gold, **options))


async def aevaluate(task: Measurable, gold: Gold, **options: Unpack[EvaluationOptions]) -> Report:
    """Return the report of a task over gold rows, without blocking the event loop; see `evaluate`."""
    check_names("evaluate", options, tuple(EvaluationOptions.__annotations__), places)
    measured = MeasuredTask.of(task)
    signature = measured.signature
    own = metrics_of(options.pop("metrics", None))
    if taken := own.keys() & signature.output_fields.keys():
        raise ConfigurationError(f"metrics: {min(taken)!r} is the name of an output field; choose another.")
    columns, slices = options.pop("columns", None), options.pop("slices", ())
    cluster, seed, samples = options.pop("cluster", None), options.pop("seed", 0), options.pop("samples", 1)
    check_count("samples", samples, "the answers to ask for")
    gold = opened(gold)
    rows, without = gold_rows(signature, gold, columns=columns, slices=slices, cluster=cluster)
    scorer, rounds = Scorer(measured, own, rows), list[list[ScoredItem]]()
    asked = cast("RunOptions", options)
    for number in range(samples):
        run = asked.copy()
        if number:
            run["settings"] = replace(asked.get("settings") or CallSettings(), sample=number)
        rounds.append(await _round(scorer, task, rows, run))
    report = scorer.report(rounds, without_gold=without, clustered=cluster is not None, seed=seed)
    source = str(gold) if isinstance(gold, GoldFile) else ""
    return replace(report, source=source, shown=rows_shown(task, rows) if isinstance(task, Task) else 0)


def evaluated(
    task: Measurable, rows: Sequence[GoldRow], metrics: Mapping[str, Metric], **options: Unpack[RunOptions]
) -> tuple[Report, list[Item[Any]]]:
    """Return the report of a task on gold rows that were read already, and the items of these."""
    return portal().call(_evaluated(task, rows, metrics, options))


async def _evaluated(
    task: Measurable, rows: Sequence[GoldRow], metrics: Mapping[str, Metric], options: RunOptions
) -> tuple[Report, list[Item[Any]]]:
    scorer = Scorer(MeasuredTask.of(task), metrics, rows)
    scored = await _round(scorer, task, rows, options)
    return scorer.report([scored]), [one.item for one in scored]


async def _round(scorer: Scorer, task: Measurable, rows: Sequence[GoldRow], options: RunOptions) -> list[ScoredItem]:
    """Return the answers of a task to gold rows, with all scores."""
    scored = scorer.scored(rows, await answered(task, rows, **options))
    await scorer.judge(scored, concurrency=options.get("concurrency"), progress=options.get("progress"))
    return scored


def report_of(task: Measurable, rows: Sequence[GoldRow], items: Iterable[Item[Any]]) -> Report:
    """Return the report of a task's items on gold rows, in the same order; the LLM is not asked."""
    scorer = Scorer(MeasuredTask.of(task), {}, rows)
    return scorer.report([scorer.scored(rows, items)])
