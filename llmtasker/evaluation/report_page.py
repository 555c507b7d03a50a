"""A report for people: as Markdown text, or as one HTML page with its drawings."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

from llmtasker.errors import counted
from llmtasker.evaluation.figures import Figures, ReportRow, Score, percent, span
from llmtasker.evaluation.intervals import Interval
from llmtasker.evaluation.label_scores import LabelScore, macro_f1, micro_f1
from llmtasker.evaluation.metrics import LABEL_KINDS

_STYLE = """
:root{color-scheme:light dark;--line:light-dark(#e3e0d9,#2d2f34);--soft:light-dark(#514e48,#b5b3ae);
--act:light-dark(#2548a0,#9db8ff);--bg:light-dark(#faf9f6,#131416);--ink:light-dark(#1d1c1a,#eceae6)}
body{margin:0 auto;max-width:960px;padding:24px;background:var(--bg);color:var(--ink);
font:14px/20px -apple-system,BlinkMacSystemFont,"Segoe UI",Roboto,"Noto Sans",sans-serif;
font-variant-numeric:tabular-nums}
h1{font-size:20px;line-height:28px}h2{font-size:14px;margin:32px 0 8px}
.big{font-size:40px;line-height:48px;font-weight:650}
.soft{color:var(--soft)}table{border-collapse:collapse;font-size:13px}th,td{padding:4px 12px 4px 0;text-align:left;
border-bottom:1px solid var(--line);vertical-align:top}th{color:var(--soft);font-size:12px}.num{text-align:right}
svg{display:block}line{stroke:var(--act)}circle{fill:var(--act)}rect{fill:var(--line)}
"""
_LABEL_FIGURES = (
    "Precision: the share of the answers with this label that are right. Recall: the share of the rows with this label "
    "that got it. F1: their harmonic mean, which is high only if both are. Macro F1 is the mean of the labels' F1, in "
    "which rare labels count as much as frequent ones; micro F1 counts all rows alike."
)
_MOST_CONFUSED, _WORST = 15, 20  # rows of these tables
_TEXT = 160  # characters of an input or a raw answer that are shown


def report_text(report: Figures) -> str:
    """Return the report in Markdown."""
    return "\n".join(_text(report)).rstrip() + "\n"


def report_page(report: Figures) -> str:
    """Return the report as a page, which loads nothing and can be sent as a file."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" '
        f'content="width=device-width, initial-scale=1"><title>{escape(report.signature)}: report</title>'
        f"<style>{_STYLE}</style></head><body>{report_body(report)}</body></html>"
    )


def report_body(report: Figures) -> str:
    """Return the report as HTML without the frame of a page."""
    return "".join(_body(report))


# ── as text ──


def _text(report: Figures) -> Iterator[str]:
    yield f"# {report.signature}: report of {counted(len(report.rows), 'row')}\n"
    yield "\n".join(f"- {line}" for line in report.summary()) + "\n"
    for name in report.kinds:
        scores = _label_scores(report, name)
        if scores:
            yield f"## {name}: each label\n\n| label | rows | precision | recall | F1 |\n|---|---|---|---|---|"
            for label, score in scores.items():
                recall = f"{percent(score.recall.value)} ({span(score.recall)})" if score.gold else ""
                shown = label.replace("|", "\\|")
                yield f"| {shown} | {score.gold:,} | {percent(score.precision)} | {recall} | {score.f1:.2f} |"
            yield f"\n{_LABEL_FIGURES}\n"
    for name in report.names:
        for column, found in report.slices(name).items():
            yield f"## {name} by {column}\n\n| {column} | rows | figure |\n|---|---|---|"
            for value, part in found.items():
                shown = value.replace("|", "\\|")
                yield f"| {shown} | {part.rows:,} | {part.figure} ({part.ends}) |"
            yield ""


# ── as HTML ──


def _body(report: Figures) -> Iterator[str]:
    yield f"<h1>{escape(report.signature)}: {counted(len(report.rows), 'row')} with right answers</h1>"
    for name in report.names:
        yield from _headline(name, report.score(name))
    yield "<h2>In words</h2><ul>"
    yield "".join(f"<li>{escape(line)}</li>" for line in report.summary())
    yield "</ul>"
    for name in report.kinds:
        scores = _label_scores(report, name)
        if scores:
            yield from _by_label(name, scores)
            yield from _confusions(report, name)
    for name in report.names:
        for column, found in report.slices(name).items():
            rows = [(value or "(empty)", *_figures(part)) for value, part in found.items()]
            header = (column, "rows", "figure", "interval", "")
            yield f"<h2>{escape(name)} by {escape(column)}</h2>{_table(header, rows)}"
    for name in report.kinds:
        yield from _worst(report, name)


def _headline(name: str, score: Score) -> Iterator[str]:
    interval = score.interval
    yield f'<h2>{escape(name)}</h2><p><span class="big">{score.figure}</span> '
    if not score.rows:
        yield '</p><p class="soft">no row has a score</p>'
        return
    at = (
        ""
        if math.isnan(interval.low)
        else ": such a range contains the figure of all rows like these in 95 of 100 cases"
    )
    yield f'<span class="soft">{score.ends}{at}</span></p>{_whisker(interval)}<p class="soft">'
    if score.right is None:
        yield f"mean of {counted(score.rows, 'row')}"
        yield f", {score.failed:,} of them failed and counted as 0" if score.failed else ""
    else:
        yield f"{score.right:,} right, {score.wrong:,} wrong, {score.failed:,} failed"
        yield " and counted as wrong" if score.failed else ""
    if score.failed:
        yield f"; at best {percent(score.at_best)}, if all failed rows were right" if score.right is not None else ""
    yield "</p>"


def _figures(score: Score) -> tuple[str, str, str, str]:
    drawn = "" if score.right is None else _whisker(score.interval)
    return f"{score.rows:,}", score.figure, score.ends if score.rows else "", drawn


def _by_label(name: str, scores: dict[str, LabelScore]) -> Iterator[str]:
    rows = [
        (
            label,
            f"{score.gold:,}",
            percent(score.precision),
            percent(score.recall.value) if score.gold else "",
            _whisker(score.recall) if score.gold else "",
            f"{score.f1:.2f}",
        )
        for label, score in scores.items()
    ]
    header = ("label", "rows", "precision", "recall", "from 0 to 100 %", "F1")
    yield f"<h2>{escape(name)}: each label</h2>{_table(header, rows)}"
    together = f"Macro F1 {macro_f1(scores):.3f}, micro F1 {micro_f1(scores):.3f}."
    yield f'<p>{together}</p><p class="soft">{_LABEL_FIGURES} The line shows the interval of the recall.</p>'


def _confusions(report: Figures, name: str) -> Iterator[str]:
    found = report.confusion(name)
    kinds = [(pair, count) for pair, count in found.most_common() if pair[0] != pair[1]]
    wrong = kinds[:_MOST_CONFUSED]
    if wrong:
        rows = [(gold, "failed" if answer is None else answer, f"{count:,}") for (gold, answer), count in wrong]
        yield f"<h2>{escape(name)}: confused labels</h2>{_table(('right', 'answered', 'rows'), rows)}"
        if len(kinds) > len(wrong):
            yield f'<p class="soft">the {len(wrong)} most frequent of {len(kinds):,} confusions</p>'


def _worst(report: Figures, name: str) -> Iterator[str]:
    found = report.worst(name, len(report.rows))
    if worst := found[:_WORST]:
        rows = [_worst_row(row, name) for row in worst]
        header = ("input", "right", "answered", "raw answer", "repairs")
        first = f", the first {len(worst)} of {len(found):,}" if len(found) > len(worst) else ""
        yield f"<h2>{escape(name)}: rows that are not right{first}</h2>{_table(header, rows)}"


def _worst_row(row: ReportRow, name: str) -> tuple[str, ...]:
    given = " · ".join(str(value) for value in row.given.values())
    answered = "" if row.answer is None else _shown(row.answer[name])
    if row.error is not None:
        answered = ": ".join(row.error)
    return _cut(given), _shown(row.gold[name]), _cut(answered), _cut(row.raw or ""), "; ".join(row.repairs)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in header)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cell(text: str) -> str:
    if text.startswith("<svg"):
        return f"<td>{text}</td>"
    numeric = text[:1].isdigit() and not text.lstrip("0123456789.,% ")
    return f'<td class="num">{escape(text)}</td>' if numeric else f"<td>{escape(text)}</td>"


def _whisker(interval: Interval) -> str:
    """Return an interval from 0 to 1 as a drawing, with its numbers for people who can't see it; else an empty text.

    It has its own colours, because a notebook shows it without the style of the page.
    """
    if not all(0 <= part <= 1 for part in interval):
        return ""
    low, value, high = (160 * part for part in (interval.low, interval.value, interval.high))
    return (
        f'<svg width="160" height="10" overflow="visible" role="img" aria-label="{span(interval)}">'
        f'<rect y="4" width="160" height="2" fill="#ccc"/><line x1="{low:.1f}" x2="{high:.1f}" y1="5" y2="5" '
        f'stroke="#2548a0" stroke-width="2"/><circle cx="{value:.1f}" cy="5" r="3.5" fill="#2548a0"/></svg>'
    )


def _label_scores(report: Figures, name: str) -> dict[str, LabelScore]:
    return report.labels(name) if report.kinds[name] in LABEL_KINDS else {}


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _cut(text: str) -> str:
    return text if len(text) <= _TEXT else f"{text[:_TEXT]}…"
