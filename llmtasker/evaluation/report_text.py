"""A report in words: in sentences, and as Markdown."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import chain

from llmtasker.evaluation.figures import Figures, Score
from llmtasker.evaluation.intervals import Interval
from llmtasker.evaluation.label_scores import LabelScore, macro_f1, micro_f1
from llmtasker.evaluation.metrics import ABSOLUTE_ERROR, IN_SHORTLIST, LABEL_KINDS
from llmtasker.values.error_causes import CAUSES
from llmtasker.values.language import Locale

OTHER_MEASURES = (ABSOLUTE_ERROR, "token F1", "Jaccard", "Hamming loss", IN_SHORTLIST)
LABEL_COLUMNS = ("label", "rows", "precision", "recall")
LABEL_FIGURES = (
    "Precision: the share of the answers with this label that are right. Recall: the share of the rows with this label "
    "that got it. F1: their harmonic mean, which is high only if both are. Macro F1 is the mean of the labels' F1, in "
    "which rare labels count as much as frequent ones; micro F1 counts all rows alike."
)
_FEW_CLUSTERS = 10
_SLICES = 30  # the most values of a column to print; a report file shows all


def report_text(report: Figures, words: Locale) -> str:
    """Return the report in sentences, with those of its slices."""
    by = (
        _slice_lines(words, name, column, found)
        for name in report.names
        for column, found in report.slices(name).items()
    )
    return "\n".join([*summary(report, words), *chain.from_iterable(by)])


def report_markdown(report: Figures, words: Locale) -> str:
    """Return the report in Markdown."""
    return "\n".join(_markdown(report, words)).rstrip() + "\n"


def summary(report: Figures, words: Locale) -> Iterator[str]:
    """Yield the figures over all rows, in sentences."""
    for name in report.names:
        yield _line(words, name, report.score(name))
    yield from details(report, words)


def details(report: Figures, words: Locale) -> Iterator[str]:
    """Yield what is to be said besides the scores."""
    for name in report.kinds:
        if len(scores := scores_by_label(report, name)) > 2:
            yield words.text("{name}: {what}", name=name, what=both_f1(words, scores))
    for name, interval in report.other_measures().items():
        yield _measure_line(report, words, name, interval)
    for name in (*report.metrics, *report.other_measures()):
        if report.nearly_equal(name):
            yield words.text(
                "{name}: nearly all rows have the same value, so the interval does not show how much rare others would "
                "change the mean",
                name=_measure(words, name),
            )
    for name in report.names:
        if flips := report.flips(name):
            yield _flip_line(report, words, name, flips)
    if report.failures:
        causes = [_cause(words, code, count) for code, count in report.failures.items()]
        yield words.text("failed: {causes}", causes=", ".join(causes))
    for name, count in report.broken.items():
        yield _broken_line(report, words, name, count)
    for name in report.judged:
        yield _judge_line(report, words, name)
    yield _spent_line(report, words)
    yield from _warnings(report, words)


def _line(words: Locale, name: str, score: Score) -> str:
    if not score.rows:
        return words.text("{name}: no row has a score", name=name)
    rows, failed = words.count(score.rows), words.count(score.failed)
    figure, ends = score_figure(words, score), score_ends(words, score)
    if score.right is None or score.wrong is None:
        line = words.text(
            "{name}: {figure} ({ends}) of {rows} {rows:row|rows}", name=name, figure=figure, ends=ends, rows=rows
        )
        return words.text("{line}, {failed} failed and count as 0", line=line, failed=failed) if score.failed else line
    line = words.text(
        "{name}: accuracy {figure} ({ends}) of {rows} {rows:row|rows}: {right} right, {wrong} wrong, {failed} failed",
        name=name,
        figure=figure,
        ends=ends,
        rows=rows,
        right=words.count(score.right),
        wrong=words.count(score.wrong),
        failed=failed,
    )
    best = words.percent(score.at_best)
    return words.text("{line}; {best} if all failed rows were right", line=line, best=best) if score.failed else line


def _measure(words: Locale, name: str) -> str:
    """Return the name of a further figure, such as "amount: absolute error"."""
    field, _, what = name.rpartition(": ")
    return words.text("{name}: {what}", name=field, what=words.text(what)) if what in OTHER_MEASURES else name


def _measure_line(report: Figures, words: Locale, name: str, interval: Interval) -> str:
    rows = sum(name in row.scores for row in report.rows)
    if name.endswith(IN_SHORTLIST):
        figure, ends = words.percent(interval.value), share_ends(words, interval)
    else:
        figure, ends = words.number(interval.value, 3), number_ends(words, interval)
    line = words.text("{name} {figure} ({ends})", name=_measure(words, name), figure=figure, ends=ends)
    if rows == len(report.rows):
        return line
    return words.text("{line} of {rows} {rows:row|rows}", line=line, rows=words.count(rows))


def _flip_line(report: Figures, words: Locale, name: str, flips: Interval) -> str:
    rounds = report.by_sample(name)

    def figure(value: float) -> str:
        return words.number(value, 3) if report.score(name).right is None else words.percent(value)

    return words.text(
        "{name}: {share} ({ends}) of rows get different answers when asked {count} times; the figure ranges from {low} "
        "to {high}",
        name=name,
        share=words.percent(flips.value),
        ends=share_ends(words, flips),
        count=words.count(len(rounds)),
        low=figure(min(rounds)),
        high=figure(max(rounds)),
    )


def _cause(words: Locale, code: str, count: int) -> str:
    if code not in CAUSES:
        return f"{words.number(count)} × {code}"
    cause = words.text(CAUSES[code])
    return f"{words.number(count)} × {cause[:1].lower()}{cause[1:]} ({code})"


def _broken_line(report: Figures, words: Locale, name: str, count: int) -> str:
    line = words.text("{name} could not be computed for {rows} {rows:row|rows}", name=name, rows=words.count(count))
    if name not in report.errors:
        return line
    return words.text("{line}; the first time: {error}", line=line, error=report.errors[name])


def _judge_line(report: Figures, words: Locale, name: str) -> str:
    judged = report.judged[name]
    line = words.text(
        "{name}: judged in {calls} {calls:call|calls}, {tokens} {tokens:token|tokens}",
        name=name,
        calls=words.count(judged.calls),
        tokens=words.count(judged.tokens),
    )
    return f"{line}, {words.money(judged.cost)}" if judged.cost else line


def _spent_line(report: Figures, words: Locale) -> str:
    cached = words.number(sum(row.cached for row in report.rows))
    parts = [
        words.text(
            "{rows} {rows:row|rows} asked now, {cached} from the cache", rows=words.count(report.asked), cached=cached
        )
    ]
    if report.tokens:
        parts.append(words.text("{tokens} {tokens:token|tokens}", tokens=words.count(report.tokens)))
    if report.cost:
        parts.append(words.money(report.cost))
    rounds = 1 + max((len(row.samples) for row in report.rows), default=0)
    line = ", ".join(parts)
    return line if rounds == 1 else words.text("{line}, for the first of {count} rounds", line=line, count=rounds)


def _warnings(report: Figures, words: Locale) -> Iterator[str]:
    if report.clustered and (count := len({row.cluster for row in report.rows})) < _FEW_CLUSTERS:
        yield words.text(
            "{count} {count:cluster|clusters} only: intervals are wide, because so few say little about others, "
            "however many rows they have",
            count=words.count(count),
        )
    if report.source:
        yield words.text("gold rows from {source}", source=report.source)
    if report.shown:
        yield words.text(
            "{rows} {rows:row is|rows are} shown as examples, with the right answers: the figures are too good; "
            "measure on other rows",
            rows=words.count(report.shown),
        )
    if report.without_gold:
        yield words.text("{rows} {rows:row|rows} without gold left out", rows=words.count(report.without_gold))


def _slice_lines(words: Locale, name: str, column: str, found: dict[str, Score]) -> Iterator[str]:
    for value, score in list(found.items())[:_SLICES]:
        yield f"{column} {value or words.text('(empty)')}, {_line(words, name, score)}"
    if len(found) > _SLICES:
        more = words.count(len(found) - _SLICES)
        yield words.text("{column}: {count} more {count:value|values}", column=column, count=more)


def _markdown(report: Figures, words: Locale) -> Iterator[str]:
    title = words.text(
        "{task}: report of {rows} {rows:row|rows}", task=report.signature, rows=words.count(len(report.rows))
    )
    yield f"# {title}\n"
    yield "\n".join(f"- {line}" for line in summary(report, words)) + "\n"
    for name in report.kinds:
        if scores := scores_by_label(report, name):
            yield f"## {words.text('{name}: each label', name=name)}\n"
            yield _row(*map(words.text, LABEL_COLUMNS), "F1")
            yield "|---|---|---|---|---|"
            for label, score in scores.items():
                recall = f"{words.percent(score.recall.value)} ({share_ends(words, score.recall)})"
                cells = (words.number(score.gold), words.percent(score.precision), recall if score.gold else "")
                yield _row(label, *cells, words.number(score.f1, 2))
            yield f"\n{words.text(LABEL_FIGURES)}\n"
    for name in report.names:
        for column, found in report.slices(name).items():
            yield f"## {words.text('{name} by {column}', name=name, column=column)}\n"
            yield f"{_row(column, words.text('rows'), words.text('figure'))}\n|---|---|---|"
            for value, part in found.items():
                yield _row(value, words.number(part.rows), f"{score_figure(words, part)} ({score_ends(words, part)})")
            yield ""


def _row(*cells: str) -> str:
    escaped = " | ".join(cell.replace("|", "\\|") for cell in cells)
    return f"| {escaped} |"


# ── figures ──


def scores_by_label(report: Figures, name: str) -> dict[str, LabelScore]:
    """Return the score of each label of a field; empty: its values are not labels."""
    return report.labels(name) if report.kinds[name] in LABEL_KINDS else {}


def both_f1(words: Locale, scores: dict[str, LabelScore]) -> str:
    """Return the F1 over all labels."""
    macro, micro = words.number(macro_f1(scores), 3), words.number(micro_f1(scores), 3)
    return words.text("macro F1 {macro}, micro F1 {micro}", macro=macro, micro=micro)


def score_figure(words: Locale, score: Score) -> str:
    """Return a score as a share in percent, or as the number that it is."""
    if not score.rows:
        return "–"
    return words.number(score.interval.value, 3) if score.right is None else words.percent(score.interval.value)


def score_ends(words: Locale, score: Score) -> str:
    """Return the ends of a score's interval; empty if no row has a score."""
    if not score.rows:
        return ""
    return number_ends(words, score.interval) if score.right is None else share_ends(words, score.interval)


def share_ends(words: Locale, interval: Interval) -> str:
    """Return the ends of an interval of shares, in percent."""
    return _ends(words, 100 * interval.low, 100 * interval.high, 1)


def number_ends(words: Locale, interval: Interval) -> str:
    """Return the ends of an interval of numbers, as they are."""
    return _ends(words, interval.low, interval.high, 3)


def _ends(words: Locale, low: float, high: float, digits: int) -> str:
    if math.isnan(low):
        return words.text("no interval from one row or cluster")
    return words.text("{low} to {high}", low=words.number(low, digits), high=words.number(high, digits))
