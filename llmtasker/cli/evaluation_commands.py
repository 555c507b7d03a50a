"""llmtasker evaluate | compare: measure a task on gold rows, and test whether another one is better."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from llmtasker.cli.parameters import (
    ColumnOption,
    Concurrency,
    Delimiter,
    Encoding,
    GoldColumn,
    HeaderLine,
    KindOption,
    Model,
    Sheet,
    TaskName,
    format_options,
    gold_columns,
    say,
)
from llmtasker.values.language import Code

_WORSE = 1
ReportLanguage = Annotated[Code, typer.Option("--language", help="The language of the report.")]
_REPORTS = (".json", ".html", ".md", ".txt")


def evaluate(
    task_name: TaskName,
    gold: Annotated[Path, typer.Argument(metavar="GOLD", help="A file of rows with their right answers.")],
    column: ColumnOption = None,
    gold_column: GoldColumn = None,
    by: Annotated[list[str] | None, typer.Option("--by", help="Show the figures for each value of a column.")] = None,
    cluster: Annotated[str | None, typer.Option(help="A column whose equal values mark dependent rows.")] = None,
    out: Annotated[
        list[Path] | None, typer.Option("--out", "-o", help="Write the report: .json, .html, .md or .txt; repeatable.")
    ] = None,
    samples: Annotated[int, typer.Option(min=1, help="How often to ask each row, to see which answers change.")] = 1,
    language: ReportLanguage = "en",
    concurrency: Concurrency = None,
    llm: Model = None,
    kind: KindOption = None,
    delimiter: Delimiter = None,
    encoding: Encoding = None,
    header: HeaderLine = 1,
    sheet: Sheet = None,
) -> None:
    """Measure a task or a pipeline on rows with right answers; cached answers are not asked for again."""
    from llmtasker.cli.load_task import load_measurable
    from llmtasker.cli.output_file import check_output
    from llmtasker.evaluation.evaluate import evaluate as measure
    from llmtasker.evaluation.gold_rows import GoldFile
    from llmtasker.files import detect

    for path in out or []:
        check_output(path, "a report", _REPORTS, [gold])
    task = load_measurable(task_name, llm)
    columns = gold_columns(task.signature, column, gold_column)
    options: dict[str, Any] = {"concurrency": concurrency, "columns": columns or None}
    rows = GoldFile(gold, detect(gold, **format_options(kind, delimiter, encoding, header, sheet)))
    report = measure(task, rows, slices=tuple(by or ()), cluster=cluster, samples=samples, **options)
    typer.echo(report.text(language))
    for path in out or []:
        if path.suffix.lower() == ".json":
            report.save(path)
        else:
            report.write(path, language=language)
        say(f"written to {path}")


def compare(
    a: Annotated[Path, typer.Argument(metavar="A", help="The earlier report, as JSON.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="The later report, as JSON.")],
    metric: Annotated[str | None, typer.Option(help="The field or metric; default: the first that both have.")] = None,
    exact: Annotated[bool, typer.Option("--exact", help="Use the exact form of McNemar's test.")] = False,
    language: ReportLanguage = "en",
) -> None:
    """Compare two reports of the same rows; the exit code is 1 if B is shown to be worse."""
    from llmtasker.evaluation.compare import compare as compared
    from llmtasker.evaluation.evaluation_report import Report

    found = compared(Report.load(a), Report.load(b), metric, exact=exact)
    typer.echo(found.text(language))
    if found.worse:
        raise typer.Exit(_WORSE)
