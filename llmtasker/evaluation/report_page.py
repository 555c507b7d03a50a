"""A report as one HTML page with its drawings."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterator, Sequence
from html import escape
from typing import Any

from llmtasker.evaluation.figures import Figures, ReportRow, Score
from llmtasker.evaluation.intervals import Interval
from llmtasker.evaluation.label_scores import LabelScore
from llmtasker.evaluation.report_text import (
    LABEL_COLUMNS,
    LABEL_FIGURES,
    both_f1,
    details,
    score_ends,
    score_figure,
    scores_by_label,
    share_ends,
)
from llmtasker.values.language import Locale

_STYLE = """
:root{color-scheme:light dark;--line:light-dark(#e3e0d9,#2d2f34);--soft:light-dark(#514e48,#b5b3ae);
--act:light-dark(#2548a0,#9db8ff);--bg:light-dark(#faf9f6,#131416);--ink:light-dark(#1d1c1a,#eceae6)}
body{margin:0 auto;max-width:960px;padding:24px;background:var(--bg);color:var(--ink);
font:14px/20px -apple-system,BlinkMacSystemFont,"Segoe UI",Roboto,"Noto Sans",sans-serif;
font-variant-numeric:tabular-nums}
h1{font-size:20px;line-height:28px}h2{font-size:14px;margin:32px 0 8px}
.big{font-size:40px;line-height:48px;font-weight:650}
.soft{color:var(--soft)}table{border-collapse:collapse;font-size:13px;display:block;overflow-x:auto}
th,td{padding:4px 12px 4px 0;text-align:left;
border-bottom:1px solid var(--line);vertical-align:top}th{color:var(--soft);font-size:12px}.num{text-align:right}
svg{display:block}line{stroke:var(--act)}circle{fill:var(--act)}rect{fill:var(--line)}
"""
_MOST_CONFUSED, _WORST = 15, 20  # rows of these tables
_TEXT = 160  # characters of an input or a raw answer that are shown


class _Drawing(str):
    """HTML of ours, which a cell shows as it is."""


def report_page(report: Figures, words: Locale) -> str:
    """Return the report as a page, which loads nothing and can be sent as a file."""
    title = words.text("{task}: report", task=report.signature)
    return (
        f'<!doctype html><html lang="{words.code}"><head><meta charset="utf-8"><meta name="viewport" '
        f'content="width=device-width, initial-scale=1"><title>{escape(title)}</title>'
        f"<style>{_STYLE}</style></head><body>{report_body(report, words)}</body></html>"
    )


def report_body(report: Figures, words: Locale) -> str:
    """Return the report as HTML without the frame of a page."""
    return "".join(_body(report, words))


def _body(report: Figures, words: Locale) -> Iterator[str]:
    title = words.text(
        "{task}: {rows} {rows:row|rows} with right answers", task=report.signature, rows=words.count(len(report.rows))
    )
    yield f"<h1>{escape(title)}</h1>"
    for name in report.names:
        yield from _headline(words, name, report.score(name))
    yield f"<h2>{escape(words.text('Besides'))}</h2><ul>"
    yield "".join(f"<li>{escape(line)}</li>" for line in details(report, words))
    yield "</ul>"
    for name in report.kinds:
        if scores := scores_by_label(report, name):
            yield from _by_label(words, name, scores)
            yield from _confusions(words, report, name)
    for name in report.names:
        for column, found in report.slices(name).items():
            yield from _by_slice(words, name, column, found)
    for name in report.kinds:
        yield from _worst(words, report, name)


def _headline(words: Locale, name: str, score: Score) -> Iterator[str]:
    yield f'<h2>{escape(name)}</h2><p><span class="big">{escape(score_figure(words, score))}</span> '
    if not score.rows:
        yield f'</p><p class="soft">{escape(words.text("no row has a score"))}</p>'
        return
    ends = score_ends(words, score)
    if not math.isnan(score.interval.low):
        ends = words.text(
            "{ends}: such a range contains the figure of all rows like these in 95 of 100 cases", ends=ends
        )
    if score.right is not None:
        ends = words.text("of the rows right; {ends}", ends=ends)
    yield f'<span class="soft">{escape(ends)}</span></p>{_whisker(words, score.interval)}'
    yield f'<p class="soft">{escape(_counts(words, score))}</p>'


def _counts(words: Locale, score: Score) -> str:
    rows, failed = words.count(score.rows), words.count(score.failed)
    if score.right is None or score.wrong is None:
        if not score.failed:
            return words.text("mean of {rows} {rows:row|rows}", rows=rows)
        return words.text(
            "mean of {rows} {rows:row|rows}, of which {failed} failed and {failed:counts|count} as 0",
            rows=rows,
            failed=failed,
        )
    right, wrong = words.count(score.right), words.count(score.wrong)
    if not score.failed:
        return words.text("{right} right, {wrong} wrong.", right=right, wrong=wrong)
    line = words.text(
        "{right} right, {wrong} wrong, {failed} failed, which {failed:counts|count} as wrong.",
        right=right,
        wrong=wrong,
        failed=failed,
    )
    best = words.text("At best {best}, if all failed rows were right.", best=words.percent(score.at_best))
    return f"{line} {best}"


def _by_label(words: Locale, name: str, scores: dict[str, LabelScore]) -> Iterator[str]:
    rows = [
        (
            label,
            words.number(score.gold),
            words.percent(score.precision),
            words.percent(score.recall.value) if score.gold else "",
            _whisker(words, score.recall) if score.gold else "",
            words.number(score.f1, 2),
        )
        for label, score in scores.items()
    ]
    header = (*map(words.text, LABEL_COLUMNS), words.text("from 0 to 100 %"), "F1")
    yield _section(words.text("{name}: each label", name=name), header, rows, numbers=(1, 2, 3, 5))
    note = f"{words.text(LABEL_FIGURES)} {words.text('The line shows the interval of the recall.')}"
    yield f'<p>{escape(both_f1(words, scores))}</p><p class="soft">{escape(note)}</p>'


def _confusions(words: Locale, report: Figures, name: str) -> Iterator[str]:
    confused = [(pair, count) for pair, count in report.confusion(name).most_common() if pair[0] != pair[1]]
    if shown := confused[:_MOST_CONFUSED]:
        failed = words.text("failed")
        rows = [(gold, failed if answer is None else answer, words.number(count)) for (gold, answer), count in shown]
        title = words.text("{name}: confused labels", name=name)
        header = (words.text("right answer"), words.text("answered"), words.text("rows"))
        yield _section(title, header, rows, numbers=(2,))
        if len(confused) > len(shown):
            first, count = words.number(len(shown)), words.number(len(confused))
            note = words.text("the {first} most frequent of {count} confusions", first=first, count=count)
            yield f'<p class="soft">{escape(note)}</p>'


def _by_slice(words: Locale, name: str, column: str, found: dict[str, Score]) -> Iterator[str]:
    rows = [
        (
            value or words.text("(empty)"),
            words.number(score.rows),
            score_figure(words, score),
            score_ends(words, score),
            "" if score.right is None else _whisker(words, score.interval),
        )
        for value, score in found.items()
    ]
    title = words.text("{name} by {column}", name=name, column=column)
    header = (column, words.text("rows"), words.text("figure"), words.text("interval"), "")
    yield _section(title, header, rows, numbers=(1, 2))


def _worst(words: Locale, report: Figures, name: str) -> Iterator[str]:
    found = report.worst(name, len(report.rows))
    if worst := found[:_WORST]:
        rows = [_worst_row(words, row, name) for row in worst]
        title = words.text("{name}: rows that are not right", name=name)
        if len(found) > len(worst):
            first, count = words.number(len(worst)), words.number(len(found))
            title = words.text("{title}, the first {first} of {count}", title=title, first=first, count=count)
        header = (words.text("input"), words.text("right answer"), words.text("answered"))
        yield _section(title, (*header, words.text("raw answer"), words.text("repairs")), rows)


def _worst_row(words: Locale, row: ReportRow, name: str) -> tuple[str, ...]:
    given = " · ".join(str(value) for value in row.given.values())
    answered = "" if row.answer is None else _shown(row.answer[name])
    if row.error is not None:
        answered = words.text("{name}: {what}", name=row.error[0], what=row.error[1])
    return _cut(given), _shown(row.gold[name]), _cut(answered), _cut(row.raw or ""), "; ".join(row.repairs)


def _section(title: str, header: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: Collection[int] = ()) -> str:
    """Return a table under its title; `numbers` are the columns to align on the right."""

    def cell(tag: str, at: int, text: str) -> str:
        inside = text if isinstance(text, _Drawing) else escape(text)
        return f"<{tag} class=num>{inside}</{tag}>" if at in numbers else f"<{tag}>{inside}</{tag}>"

    head = "".join(cell("th", at, name) for at, name in enumerate(header))
    body = "".join(f"<tr>{''.join(cell('td', at, text) for at, text in enumerate(row))}</tr>" for row in rows)
    return f"<h2>{escape(title)}</h2><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _whisker(words: Locale, interval: Interval) -> str:
    """Return an interval from 0 to 1 as a drawing, with its numbers for people who can't see it; else an empty text.

    It has its own colours, because a notebook shows it without the style of the page.
    """
    if not all(0 <= part <= 1 for part in interval):
        return ""
    low, value, high = (160 * part for part in (interval.low, interval.value, interval.high))
    return _Drawing(
        f'<svg width="160" height="10" overflow="visible" role="img" aria-label="{share_ends(words, interval)}">'
        f'<rect y="4" width="160" height="2" fill="#ccc"/><line x1="{low:.1f}" x2="{high:.1f}" y1="5" y2="5" '
        f'stroke="#2548a0" stroke-width="2"/><circle cx="{value:.1f}" cy="5" r="3.5" fill="#2548a0"/></svg>'
    )


def _shown(value: Any) -> str:
    return "–" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _cut(text: str) -> str:
    return text if len(text) <= _TEXT else f"{text[:_TEXT]}…"
