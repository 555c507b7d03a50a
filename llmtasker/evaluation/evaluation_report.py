"""Report: the figures of a task on gold rows, with their file and their page."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from pydantic import TypeAdapter, ValidationError

from llmtasker.errors import ConfigurationError, describe
from llmtasker.evaluation.figures import Figures
from llmtasker.evaluation.report_page import report_body, report_page
from llmtasker.evaluation.report_text import report_markdown, report_text
from llmtasker.evaluation.user_metrics import is_score
from llmtasker.files.atomic import replacing
from llmtasker.files.cells import cell_json
from llmtasker.values.json_values import is_object, parse_json
from llmtasker.values.language import Code, locale_of

KIND, VERSION = "llmtasker report", 1
_SAVED = "give the .json file that `evaluate` wrote; its .html, .md and .txt files are only for reading."
_MOST_BYTES = 500_000_000


@dataclass(frozen=True, kw_only=True)
class Report(Figures):
    """The result of `evaluate`; `print(report)` shows it, `save` and `load` keep it, `write` makes a page of it."""

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the whole report as JSON, for `Report.load` and `compare`. It contains the texts of the rows."""
        with replacing(path) as file:
            file.write(cell_json({"kind": KIND, "version": VERSION, **asdict(self)}).encode())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Report:
        """Return the report that `save` wrote; nothing in the file is run.

        Raises:
            ConfigurationError: the file is not a complete report, or has a later version.
        """
        file = Path(path)
        try:
            if file.stat().st_size > _MOST_BYTES:
                raise ConfigurationError(f"{file} has more than {_MOST_BYTES:,} bytes, so it is not a report.")
            data = parse_json(file.read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigurationError(f"can't read {file}: {error.strerror or error}.") from None
        except (ValueError, RecursionError):
            raise ConfigurationError(f"{file} can't be read as JSON: {_SAVED}") from None
        if not is_object(data) or data.pop("kind", None) != KIND:
            raise ConfigurationError(f"{file} is JSON, but not a report: {_SAVED}")
        if (version := data.pop("version", None)) != VERSION:
            raise ConfigurationError(f"{file} has version {version!r} of the format; this version reads {VERSION}.")
        try:
            report = cast("Report", _REPORT.validate_python(data))
        except ValidationError as error:
            raise ConfigurationError(f"{file} is not a complete report: {describe(error)}.") from None
        if (lack := next(_lacks(report), None)) is not None:
            raise ConfigurationError(f"{file} is not a complete report: {lack}.")
        return report

    def __str__(self) -> str:
        return self.text()

    def text(self, language: Code = "en") -> str:
        """Return the report in sentences, as `print` shows it; `language` is "en" or "fr"."""
        return report_text(self, locale_of(language))

    def write(self, path: str | os.PathLike[str], *, language: Code = "en") -> None:
        """Write the report for people: `.html` (one page, which loads nothing), `.md` or `.txt`.

        Raises:
            ConfigurationError: the name has another suffix, or there is no such language.
        """
        ending, words = Path(path).suffix.lower(), locale_of(language)
        if ending not in {".html", ".md", ".txt"}:
            raise ConfigurationError(f"{path}: a report is written as .html, .md or .txt; `save` writes JSON.")
        page = report_page(self, words) if ending == ".html" else report_markdown(self, words)
        with replacing(path) as file:
            file.write(page.encode("utf-8", "replace"))

    def _repr_html_(self) -> str:
        return report_body(self, locale_of("en"))


def _lacks(report: Report) -> Iterator[str]:
    """Yield the contradictions in a report that was read, because of which its figures can't be computed."""
    fields, first = report.kinds.keys(), report.rows[0] if report.rows else None
    if twice := fields & set(report.metrics):
        yield f"{min(twice)!r} is both a field and a metric"
    if min(report.shown, report.without_gold, *report.broken.values()) < 0:
        yield "it counts fewer than 0 rows"
    for number, row in enumerate(report.rows, start=1):
        answers = [answer for answer in (row.answer, *(one.answer for one in row.samples)) if answer is not None]
        if any(fields - found.keys() for found in (row.gold, *answers)):
            yield f"row {number} lacks a field that is measured"
        scored = (row.scores, *(one.scores for one in row.samples))
        if any(not 0 <= scores.get(name, 0) <= 1 for scores in scored for name in fields):
            yield f"row {number} has a score of a field that is not between 0 and 1"
        if not all(is_score(value) for scores in scored for value in scores.values()):
            yield f"row {number} has a score that is too large"
        if (row.answer is None) == (row.error is None):
            yield f"row {number} has {'neither an answer nor' if row.error is None else 'both an answer and'} an error"
        if min(row.tokens, row.attempts, row.cost or 0, row.latency or 0) < 0:
            yield f"row {number} has tokens, calls, cost or latency below 0"
        if first is not None and row.slices.keys() != first.slices.keys():
            yield f"row {number} has other slices than the first"
        if first is not None and len(row.samples) != len(first.samples):
            yield f"row {number} was asked more or less often than the first"


_REPORT: TypeAdapter[Any] = TypeAdapter(Report)
