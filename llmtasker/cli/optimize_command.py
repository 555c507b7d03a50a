"""llmtasker optimize: search for a better task, and keep it if rows that the search never saw prove it better."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llmtasker.cli.parameters import ColumnOption, Concurrency, GoldColumn, Model, TaskName, gold_columns, say

if TYPE_CHECKING:
    from llmtasker.optimizers.search import Optimizer
    from llmtasker.runner.budget import Budget

_NOT_SHOWN = 1


class SearchKind(StrEnum):
    """What the search changes."""

    EXAMPLES = "examples"
    BOOTSTRAP = "bootstrap"
    INSTRUCTIONS = "instructions"
    LABELS = "labels"
    GEPA = "gepa"


def optimize(
    task_name: TaskName,
    train: Annotated[Path, typer.Option(help="Rows with right answers to learn from.")],
    test: Annotated[Path, typer.Option(help="Other rows, for the final test.")],
    val: Annotated[Path | None, typer.Option(help="Rows to choose by; default: half of --train.")] = None,
    searched: Annotated[
        SearchKind, typer.Option("--with", help="What to search for; labels: their descriptions.")
    ] = SearchKind.EXAMPLES,
    proposer: Annotated[str | None, typer.Option(help="The LLM that proposes or teaches; default: the task's.")] = None,
    step: Annotated[str | None, typer.Option(help="The task of a pipeline to improve; default: the only one.")] = None,
    column: ColumnOption = None,
    gold: GoldColumn = None,
    metric: Annotated[str | None, typer.Option(help="The output field to improve; default: the first.")] = None,
    calls: Annotated[int | None, typer.Option(min=1, help="The most calls.")] = None,
    tokens: Annotated[int | None, typer.Option(min=1, help="The most tokens.")] = None,
    cost: Annotated[float | None, typer.Option(min=0.0, help="The most US dollars.")] = None,
    seed: Annotated[int, typer.Option(help="The seed of all random choices.")] = 0,
    concurrency: Concurrency = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write the better task here, as JSON.")] = None,
    llm: Model = None,
) -> None:
    """Search for a better task, or a better step of a pipeline; the exit code is 1 if none is shown to be better.

    Run it again to resume.
    """
    from llmtasker.cli.load_task import load_runnable
    from llmtasker.cli.output_file import check_output
    from llmtasker.optimizers.optimize import aim_of
    from llmtasker.optimizers.optimize import optimize as search

    if out is not None:
        check_output(out, "a task", [".json"], [train, test, val])
    task, optimizer = load_runnable(task_name, llm), _optimizer(searched, proposer)
    if out is not None:
        changed = aim_of(task, optimizer, step).task
        changed.plan.document(type(changed).__name__)  # what can't be saved is refused before anything is paid for
    found = search(
        task,
        optimizer,
        train=train,
        test=test,
        val=val,
        budget=_budget(calls, tokens, cost),
        step=step,
        metric=metric,
        columns=gold_columns(task.signature, column, gold) or None,
        seed=seed,
        concurrency=concurrency,
        progress=say,
    )
    typer.echo(str(found.report))
    if not found.better:
        raise typer.Exit(_NOT_SHOWN)
    if out is not None:
        found.step.save(out)
        say(f"written to {out}")


def _budget(calls: int | None, tokens: int | None, cost: float | None) -> Budget | None:
    from llmtasker.runner.budget import Budget

    if calls is None and tokens is None and cost is None:
        return None
    return Budget(calls=calls, tokens=tokens, cost=cost)


def _optimizer(kind: SearchKind, proposer: str | None) -> Optimizer:
    from llmtasker.errors import ConfigurationError
    from llmtasker.optimizers import GEPA, BootstrapFewShot, InstructionSearch, LabelDescriptions, LabeledFewShot

    match kind:
        case SearchKind.EXAMPLES:
            if proposer is not None:
                raise ConfigurationError("--proposer: examples come from --train, so no LLM proposes them.")
            return LabeledFewShot()
        case SearchKind.BOOTSTRAP:
            return BootstrapFewShot(teacher=proposer)
        case SearchKind.INSTRUCTIONS:
            return InstructionSearch(llm=proposer)
        case SearchKind.LABELS:
            return LabelDescriptions(llm=proposer)
        case SearchKind.GEPA:
            return GEPA(llm=proposer)
