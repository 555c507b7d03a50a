"""optimize, aoptimize: search for a better task, and take it only if rows that the search never saw prove it better."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from threading import Event
from typing import Any, Generic, TypedDict, TypeVar, Unpack, cast

from llmtasker.errors import ConfigurationError, counted, snippet
from llmtasker.evaluation.compare import compare
from llmtasker.evaluation.gold_rows import Gold, GoldRow, gold_rows
from llmtasker.evaluation.measured_task import Measurable
from llmtasker.evaluation.metrics import Metric
from llmtasker.evaluation.user_metrics import metrics_of
from llmtasker.optimizers.search import (
    Optimizer,
    Search,
    SearchEnded,
    Trial,
    judged_only,
    was_judged,
    why_not_judged,
)
from llmtasker.optimizers.search_budget import SearchBudget
from llmtasker.optimizers.search_report import SearchEstimate, SearchReport
from llmtasker.pipelines.pipeline import Pipeline
from llmtasker.runner.budget import Budget
from llmtasker.runner.task_run import check_budget
from llmtasker.task import Task
from llmtasker.values.argument_checks import check_count, check_names

_SPARE = 1.25  # times the estimate of the test is reserved, because answers that do not fit are asked again
_ENOUGH = 0.9  # of the test rows must have been judged in both
_NO_LIMIT = 10**12


M = TypeVar("M", bound=Task[Any] | Pipeline[Any, Any])


class SearchOptions(TypedDict, total=False):
    """The keyword arguments of `optimize` beside its rows and budget; see there."""

    step: str | None
    metric: str | None
    metrics: Mapping[str, Metric] | None
    columns: Mapping[str, str] | None
    seed: int
    concurrency: int | None
    progress: Callable[[str], None] | None


@dataclass(frozen=True, kw_only=True)
class Optimized(Generic[M]):
    """The result of `optimize`: the task or pipeline that was found, or without proof the original one, and the report.

    `step` is the task that was changed: `task` itself, or the step of the pipeline.
    """

    task: M
    step: Task[Any] = field(repr=False)
    report: SearchReport = field(repr=False)

    @property
    def better(self) -> bool:
        """Whether the task is a new one, shown to be better on the test rows."""
        return self.report.better


@dataclass(frozen=True, kw_only=True)
class _SearchRows:
    train: list[GoldRow]
    val: list[GoldRow]
    test: list[GoldRow]


@dataclass(frozen=True)
class Aim:
    """What is improved: a task, and the pipeline that is measured with it, if it is a step of one."""

    task: Task[Any]
    name: str = ""
    pipeline: Pipeline[Any, Any] | None = None

    def whole(self, task: Task[Any]) -> Measurable:
        """Return what is measured of a candidate."""
        return task if self.pipeline is None else self.pipeline.with_tasks(**{self.name: task})


def optimize(
    task: M,
    optimizer: Optimizer,
    *,
    train: Gold,
    test: Gold,
    val: Gold | None = None,
    budget: Budget | None = None,
    **options: Unpack[SearchOptions],
) -> Optimized[M]:
    """Search for a better task, and return it if one test on the test rows shows that it is better.

    Args:
        task: the task to improve, or a pipeline, of which one step is improved. Rows of a pipeline have the right
            results of the whole, which decide; `LabeledFewShot` and `LabelDescriptions` need those of a task.
        optimizer: the method: `LabeledFewShot`, `BootstrapFewShot`, `InstructionSearch`, `LabelDescriptions`, `GEPA`.
        train: rows with right answers to learn from, as for `evaluate`; their answers may be shown in prompts.
        test: rows that the search does not see; 300 can show a difference of about 6 points.
        val: rows to choose candidates by; None: half of train.
        budget: a hard limit on the cost of all calls; the cost of the test is reserved.
        options: `step` is the name in `pipeline.tasks` of the task to improve (default: the only one); `metric` is
            the field or metric that counts (default: the first); `metrics`, `columns` and
            `concurrency` as for `evaluate`; `seed` of all random choices; `progress` is called with a line for
            the estimate, before the first call, and for each candidate.

    All calls go through the cache: the same search, run again after a stop or with a larger budget, makes only the
    missing calls. Rows whose call failed do not count against a candidate.

    Raises:
        ConfigurationError: rows do not fit, rows of train or val are in test, or the budget does not cover the test.
    """
    return _optimized(task, optimizer, (train, val, test), budget, options)


async def aoptimize(
    task: M,
    optimizer: Optimizer,
    *,
    train: Gold,
    test: Gold,
    val: Gold | None = None,
    budget: Budget | None = None,
    **options: Unpack[SearchOptions],
) -> Optimized[M]:
    """Search for a better task without blocking the event loop; see `optimize`.

    The search runs in a thread, in which `progress` is called. When this is cancelled, the search ends with the rows
    that it is measuring.
    """
    cancelled = Event()
    try:
        return await asyncio.to_thread(_optimized, task, optimizer, (train, val, test), budget, options, cancelled)
    finally:
        cancelled.set()


def _optimized(
    task: M,
    optimizer: Optimizer,
    gold: tuple[Gold, Gold | None, Gold],
    budget: Budget | None,
    options: SearchOptions,
    cancelled: Event | None = None,
) -> Optimized[M]:
    check_names("optimize", options, ("train", "test", "val", "budget", *SearchOptions.__annotations__))
    aim = aim_of(task, optimizer, options.get("step"))
    check_budget(budget)
    rows = _rows(task, *gold, options.get("columns"), options.get("seed", 0))
    optimizer.check(aim.task, rows.train)
    estimate = _estimate(aim, optimizer, rows)
    whole = budget or Budget(calls=_NO_LIMIT)
    before = dict(whole.spent)
    search = _search(aim, rows, SearchBudget(whole, _held(estimate, whole)), options, cancelled)
    if (progress := options.get("progress")) is not None:
        progress(str(estimate))
    ended: str | None = None
    try:
        search.begin()
        optimizer.search(search)
    except SearchEnded as end:
        ended = str(end)
    judged = _judge(search, rows.test, whole)
    spent = {name: whole.spent[name] - before[name] for name in whole.spent}
    report = SearchReport(trials=tuple(search.trials), estimate=estimate, spent=spent, ended=ended, **judged)
    if not report.better:
        return Optimized(task=task, step=aim.task, report=report)
    return Optimized(task=cast("M", aim.whole(report.candidate)), step=report.candidate, report=report)


def _search(
    aim: Aim, rows: _SearchRows, budget: SearchBudget, options: SearchOptions, cancelled: Event | None
) -> Search:
    metrics = metrics_of(options.get("metrics"))
    gold = rows.test[0].gold
    name = options.get("metric") or next(iter((*gold, *metrics)))
    if name not in gold and name not in metrics:
        raise ConfigurationError(f"metric: {name!r} is not measured; choose {', '.join((*gold, *metrics))}.")
    if (concurrency := options.get("concurrency")) is not None:
        check_count("concurrency", concurrency, "the rows to process at once")
    return Search(
        aim.task,
        aim.whole,
        rows.train,
        rows.val,
        name=name,
        budget=budget,
        seed=options.get("seed", 0),
        concurrency=concurrency,
        metrics=metrics,
        progress=options.get("progress"),
        cancelled=cancelled,
    )


def _held(estimate: SearchEstimate, whole: Budget) -> dict[str, float]:
    """Return the part of the budget that is reserved for the test."""
    share = _SPARE * estimate.test_calls / estimate.calls
    # Not more calls, because cached rows of the test leave some for answers that are asked again.
    held = {"calls": float(estimate.test_calls)}
    if estimate.tokens is None:  # of a pipeline, whose tokens are not known before it runs
        return held | {name: (whole.limits.get(name, 0.0) - whole.spent[name]) / 2 for name in ("tokens", "cost")}
    return held | {"tokens": share * estimate.tokens, "cost": share * (estimate.cost or 0.0)}


def estimate_search(
    task: Task[Any] | Pipeline[Any, Any],
    optimizer: Optimizer,
    *,
    train: Gold,
    test: Gold,
    val: Gold | None = None,
    columns: Mapping[str, str] | None = None,
    step: str | None = None,
) -> SearchEstimate:
    """Return the most that `optimize` with the same arguments may cost; nothing is sent.

    The estimate for a pipeline assumes that each row calls each task in its code once.

    Raises:
        ConfigurationError: see `optimize`.
    """
    aim = aim_of(task, optimizer, step)
    rows = _rows(task, train, val, test, columns, seed=0)
    optimizer.check(aim.task, rows.train)
    return _estimate(aim, optimizer, rows)


def aim_of(task: Task[Any] | Pipeline[Any, Any], optimizer: Optimizer, step: str | None) -> Aim:
    """Return what is improved.

    Raises:
        ConfigurationError: it can't be improved, or not by this optimizer.
    """
    _check_optimizer(optimizer)
    given = cast("object", task)  # at run time it may be anything
    if isinstance(given, Task):
        if step is not None:
            raise ConfigurationError(f"step is for pipelines, and {task!r} is a task: leave it out.")
        return Aim(cast("Task[Any]", task))
    if not isinstance(task, Pipeline):
        raise ConfigurationError(f"a task or a pipeline can be optimized, not {snippet(repr(task), 60)}.")
    tasks: dict[str, Task[Any]] = {name: one for name, one in task.tasks.items() if isinstance(one, Task)}
    name = next(iter(tasks)) if step is None and len(tasks) == 1 else step
    if name not in tasks:
        wrong = "is not given" if step is None else f"{step!r} is not in the code of {task!r}"
        raise ConfigurationError(f"step {wrong}: give one of its tasks: {', '.join(tasks) or 'it has none'}.")
    if not getattr(optimizer, "of_steps", False):
        raise ConfigurationError(
            f"{type(optimizer).__name__} needs right answers of {name}, and rows of a pipeline have only those of the "
            "whole: use BootstrapFewShot, InstructionSearch or GEPA, or optimize the task with rows of its own."
        )
    return Aim(tasks[name], name, task)


def _check_optimizer(optimizer: object) -> None:
    if isinstance(optimizer, type):
        raise ConfigurationError(f"the optimizer is the class {optimizer.__name__}: give {optimizer.__name__}().")
    if not all(hasattr(optimizer, name) for name in ("check", "most_calls", "search")):
        raise ConfigurationError(
            "the optimizer is one of LabeledFewShot(), BootstrapFewShot(), InstructionSearch(), LabelDescriptions(), "
            f"GEPA(), not {snippet(repr(optimizer), 60)}."
        )


def _rows(
    task: Task[Any] | Pipeline[Any, Any],
    train: Gold,
    val: Gold | None,
    test: Gold,
    columns: Mapping[str, str] | None,
    seed: int,
) -> _SearchRows:
    """Return all rows, checked; no row is in two sets."""

    def read(name: str, gold: Gold) -> list[GoldRow]:
        try:
            return gold_rows(task.signature, gold, columns=columns)[0]
        except ConfigurationError as error:
            raise ConfigurationError(f"{name}: {error.args[0]}", give=error.give) from None

    # A row that can't be asked teaches nothing; in the other sets it counts as failed.
    learned = [row for row in read("train", train) if row.error is None]
    sets = {"train": learned, "test": read("test", test)}
    if val is not None:
        sets["val"] = read("val", val)
    _check_apart("train", "test", sets)
    if val is not None:
        _check_apart("val", "test", sets)
        _check_apart("train", "val", sets)
        return _SearchRows(**sets)
    shuffled = list({row.key: row for row in sets["train"]}.values())
    if len(shuffled) < 2:
        raise ConfigurationError("train has one row: give at least two, or give val.")
    Random(seed).shuffle(shuffled)  # noqa: S311 - a draw, not a secret
    half = len(shuffled) // 2
    return _SearchRows(train=shuffled[half:], val=shuffled[:half], test=sets["test"])


def _check_apart(one: str, other: str, sets: Mapping[str, Sequence[GoldRow]]) -> None:
    known = {row.key for row in sets[one]}
    if shared := [row for row in sets[other] if row.key in known]:
        first = ", ".join(str(value) for value in shared[0].given.values())
        raise ConfigurationError(
            f"{len(shared):,} of {counted(len(sets[other]), 'row')} of {other} {'is' if len(shared) == 1 else 'are'} "
            f"in {one} too, the first with {snippet(first, 60)!r}: a task can't be tested on rows that it learned "
            f"from. Remove the shared rows from {one}."
        )


def _estimate(aim: Aim, optimizer: Optimizer, rows: _SearchRows) -> SearchEstimate:
    search_calls = len(rows.val) + optimizer.most_calls(aim.task, len(rows.train), len(rows.val))
    test_calls = 2 * len(rows.test)
    if aim.pipeline is not None:
        steps = len(set(aim.pipeline.tasks.values()))
        return SearchEstimate(search_calls=steps * search_calls, test_calls=steps * test_calls, tokens=None, cost=None)
    test = aim.task.with_(cache=False).estimate([dict(row.given) for row in rows.test if row.error is None])
    share = (search_calls + test_calls) / max(1, test.calls)
    cost = None if test.cost is None else share * test.cost
    return SearchEstimate(
        search_calls=search_calls, test_calls=test_calls, tokens=round(share * test.usage.total), cost=cost
    )


def _judge(search: Search, test: Sequence[GoldRow], whole: Budget) -> dict[str, Any]:
    """Return the part of the report about the best candidate, tested once on the test rows."""
    nothing: dict[str, Any] = {"better": False, "comparison": None, "before": None, "after": None}
    if not search.trials:
        return {**nothing, "candidate": search.task, "reason": "Nothing was measured: the original task is kept."}
    best: Trial = search.best
    if best.task is search.task:
        reason = "No candidate was better on the rows of the search: the original task is kept."
        return {**nothing, "candidate": search.task, "reason": reason}
    before, after = (search.evaluate(task, test, whole)[0] for task in (search.task, best.task))
    found = {**nothing, "candidate": best.task, "before": before, "after": after}
    in_both = {row.key for row in before.rows if was_judged(row)} & {row.key for row in after.rows if was_judged(row)}
    if len(in_both) < _ENOUGH * len({row.key for row in test}):
        failed = next(report for report in (before, after) if not all(map(was_judged, report.rows)))
        return {**found, "reason": f"Too few test rows could be judged: {why_not_judged(failed)}. The task is kept."}
    comparison = compare(judged_only(before), judged_only(after), search.name, seed=search.seed)
    rows = counted(comparison.rows, "test row")
    result = f"On {rows}, with A as the original task and B as the best candidate: {comparison}"
    if comparison.better:
        return {**found, "better": True, "comparison": comparison, "reason": result}
    reason = f"{result} That does not prove B better, so the original task is kept."
    return {**found, "comparison": comparison, "reason": reason}
