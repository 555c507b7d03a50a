"""`llmtasker demo`: classify the bundled messages, show the answers, measure the accuracy."""

from __future__ import annotations

from collections import Counter
from importlib.resources import as_file, files
from pathlib import Path
from time import perf_counter
from typing import Any

from rich.console import Console
from rich.table import Table

from llmtasker.cli.demo_faults import BROKEN, REFUSED, run_over_faults
from llmtasker.cli.demo_task import EXAMPLES, Triage
from llmtasker.errors import ConfigurationError, counted
from llmtasker.files import read_rows, write_rows
from llmtasker.item import Item, error_line
from llmtasker.llm.llm import LLM
from llmtasker.results import Results
from llmtasker.task import Task

_SHOWN = 12
BASELINE = "offline"


def show(*, llm: str, out: Path, fresh: bool) -> None:
    """Run the demo and print its report."""
    if not out.resolve().parent.is_dir():
        raise ConfigurationError(f"there is no folder {out.parent} to write the results in.")
    console = Console()
    with as_file(files("llmtasker.cli").joinpath("messages.csv")) as path:
        rows = list(read_rows(path))
    task = Task(Triage, llm=LLM(llm), examples=EXAMPLES)
    console.print(f"Classifying {len(rows)} customer messages, French and English, with: [bold]{task.llm.model}[/]")
    started = perf_counter()
    results = task.run(rows, fresh=fresh)
    seconds = perf_counter() - started
    console.print(_table(rows, results))
    right = sum(
        item.output is not None and item.output.team == row["team"] for row, item in zip(rows, results, strict=True)
    )
    answered = [_answered(row, item) for row, item in zip(rows, results, strict=True)]
    write_rows(out, answered)
    counts = results.counts
    console.print(f"accuracy   {right / len(rows):.1%} ({right} of {len(rows)} agree with a person's label)")
    console.print(f"by team    {_by_team(rows, results)}")
    console.print(f"answered   {counts.get('ok', 0)} ok, {len(results.errors)} failed, in {seconds:.1f} s")
    calls = counted(results.attempts, "call")
    console.print(f"cache      {counts.get('cached', 0)} of {len(rows)} answered from the cache, {calls}")
    console.print(f"results    {out}")
    if llm == BASELINE:
        _show_healing(console, rows, results)
        console.print(
            "\nThe built-in baseline gave these answers: it compares words and parts of words, "
            "and is not a language model.\n"
            'To use an LLM: llmtasker demo --llm "openai/gpt-4.1-mini" (or "ollama/…", "http://host:8000/v1#model").'
        )


def _by_team(rows: list[dict[str, Any]], results: Results[Triage]) -> str:
    total: Counter[str] = Counter(row["team"] for row in rows)
    right = Counter(
        row["team"]
        for row, item in zip(rows, results, strict=True)
        if item.output is not None and item.output.team == row["team"]
    )
    return ", ".join(f"{team} {right[team]}/{count}" for team, count in total.items())


def _show_healing(console: Console, rows: list[dict[str, Any]], results: Results[Triage]) -> None:
    """Run the messages again over a failing server, and show what that cost."""
    answers = {row["message"]: item.output.team for row, item in zip(rows, results, strict=True) if item.output}
    healed = run_over_faults(rows, answers)
    same = sum(
        item.output is not None and item.output.team == answers[row["message"]]
        for row, item in zip(rows, healed.results, strict=True)
    )
    mended = next(item.repairs[0] for item in healed.results if item.repairs)
    console.print(
        f"\nThe same messages over a server that refuses {REFUSED:.0%} of the calls and breaks {BROKEN:.0%} of the "
        f"answers, stopped after {counted(healed.stopped_after, 'row')} and started again:"
    )
    console.print(f"answered   {len(healed.results) - len(healed.results.errors)} of {len(rows)}, {same} as above")
    refused, repaired = counted(healed.refused, "refused call"), counted(healed.results.counts["repaired"], "answer")
    console.print(f"recovered  {refused} repeated, {repaired} repaired, such as: {mended}")
    console.print(f"resumed    {healed.asked_again} asked again: not repairable, or in flight when the run was stopped")


def _table(rows: list[dict[str, Any]], results: Results[Triage]) -> Table:
    """Return the first rows as a table, with wrong answers marked."""
    table = Table(title=f"the first {_SHOWN} of {len(rows)}", title_justify="left", expand=False)
    for name in ("id", "message", "team", "by hand", ""):
        table.add_column(
            name, overflow="ellipsis", no_wrap=name != "message", max_width=60 if name == "message" else None
        )
    for row, item in zip(rows[:_SHOWN], results, strict=False):
        found = item.output.team if item.output else f"[red]{item.error.code if item.error else ''}[/]"
        sign = "[green]✓[/]" if found == row["team"] else "[red]✗[/]"
        table.add_row(row["id"], " ".join(row["message"].split())[:120], found, row["team"], sign)
    return table


def _answered(row: dict[str, Any], item: Item[Triage]) -> dict[str, Any]:
    return {
        "id": row["id"],
        "message": row["message"],
        "by_hand": row["team"],
        "team": item.output.team if item.output else None,
        "error": None if item.error is None else error_line(item.to_dict()),
    }
