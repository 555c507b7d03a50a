"""A calibration as one HTML page with its drawings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from llmtasker.confidence.calibration_figures import CalibrationFigures, reliability
from llmtasker.confidence.calibration_text import calibration_text
from llmtasker.values.language import Locale

_STYLE = """
:root{color-scheme:light dark;--line:light-dark(#e3e0d9,#2d2f34);--soft:light-dark(#514e48,#b5b3ae);
--act:light-dark(#2548a0,#9db8ff);--bg:light-dark(#faf9f6,#131416);--ink:light-dark(#1d1c1a,#eceae6)}
body{margin:0 auto;max-width:760px;padding:24px;background:var(--bg);color:var(--ink);
font:14px/20px -apple-system,BlinkMacSystemFont,"Segoe UI",Roboto,"Noto Sans",sans-serif;
font-variant-numeric:tabular-nums}
h1{font-size:20px;line-height:28px}h2{font-size:14px;margin:32px 0 8px}.soft{color:var(--soft)}
svg{display:block;max-width:100%}svg text{fill:var(--soft);font-size:12px}
.axis{stroke:var(--line)}.ideal{stroke:var(--soft);stroke-dasharray:4 4}
.curve{fill:none;stroke:var(--act);stroke-width:2}.after{fill:var(--act)}.before{fill:none;stroke:var(--soft)}
"""
_DASHED = 'class="ideal" stroke="#666" stroke-dasharray="4 4"'
_SIDE, _LEFT, _TOP = 260, 48, 12  # pixels
_MOST = 400  # points of a curve
_FIGURES = (
    "Expected calibration error: how far confidence and the share of right answers differ on average; 0 is best. "
    "Temperature: above 1, the LLM was too sure; below 1, not sure enough. AUROC: how often a right answer has more "
    "confidence than a wrong one; 0.5 is chance, 1 is always."
)
_PROMISED = "The vertical line is the share of rows that the threshold answers, the horizontal line the promised risk."
_NOT_PROMISED = "No risk was promised, so all rows are answered."
_IS_IT_TRUE = "Are answers with a confidence of 80 % right in 80 of 100 rows?"
_HOW_MANY = "How many rows are answered, and how many of these are wrong?"
_MARKS = (
    "Each mark is the rows in a tenth of the scale: hollow before, full after calibration. On the dashed line, as many "
    "are right as their confidence says; below it, the LLM is too sure."
)


def calibration_page(calibration: CalibrationFigures, words: Locale) -> str:
    """Return the calibration as a page, which loads nothing and can be sent as a file."""
    return (
        f'<!doctype html><html lang="{words.code}"><head><meta charset="utf-8"><meta name="viewport" '
        f'content="width=device-width, initial-scale=1"><title>{escape(words.text("Calibration"))}</title>'
        f"<style>{_STYLE}</style></head><body>{calibration_body(calibration, words)}</body></html>"
    )


def calibration_body(calibration: CalibrationFigures, words: Locale) -> str:
    """Return the calibration as HTML without the frame of a page."""
    lines = "".join(f"<li>{escape(line)}</li>" for line in calibration_text(calibration, words).splitlines())
    title = words.text("Calibration on {rows} labelled {rows:row|rows}", rows=words.count(calibration.rows))
    surest = words.text("The surest rows come first, from the left.")
    note = words.text(_PROMISED if calibration.max_risk is not None else _NOT_PROMISED)
    return (
        f'<h1>{escape(title)}</h1><ul>{lines}</ul><p class="soft">{escape(words.text(_FIGURES))}</p>'
        f"<h2>{escape(words.text(_IS_IT_TRUE))}</h2>{_reliability(calibration, words)}"
        f'<p class="soft">{escape(words.text(_MARKS))}</p>'
        f"<h2>{escape(words.text(_HOW_MANY))}</h2>{_risk_coverage(calibration, words)}"
        f'<p class="soft">{escape(f"{surest} {note}")}</p>'
    )


def _reliability(calibration: CalibrationFigures, words: Locale) -> str:
    marks = list[str]()
    for name, when in (("before", words.text("before")), ("after", words.text("after"))):
        pairs = [(getattr(point, name), point.right) for point in calibration.points]
        for part in reliability(pairs):
            at = f'cx="{_x(part.confidence):.1f}" cy="{_y(part.right):.1f}"'
            shown = words.text(
                "{when}: confidence {confidence}, right {right}, {rows} {rows:row|rows}",
                when=when,
                confidence=words.number(part.confidence, 2),
                right=words.number(part.right, 2),
                rows=words.count(part.rows),
            )
            look = 'fill="none" stroke="#666"' if name == "before" else 'fill="#2548a0"'
            marks.append(f'<circle class="{name}" {look} {at} r="4"><title>{escape(shown)}</title></circle>')
    ideal = f'<line {_DASHED} x1="{_x(0)}" y1="{_y(0)}" x2="{_x(1)}" y2="{_y(1)}"/>'
    before, after = (words.number(error, 3) for error in calibration.ece)
    label = words.text(
        "reliability: expected calibration error {before} before, {after} after", before=before, after=after
    )
    return _plot(words, label, ideal + "".join(marks), words.text("confidence"), words.text("right"), 1.0)


def _risk_coverage(calibration: CalibrationFigures, words: Locale) -> str:
    ordered = sorted(calibration.points, key=lambda point: -point.after)
    errors, curve = 0, list[tuple[float, float]]()
    for rows, point in enumerate(ordered, start=1):
        errors += not point.right
        curve.append((rows / len(ordered), errors / rows))
    most = max((risk for _, risk in curve), default=0.0)
    highest = max(1.2 * max(most, calibration.max_risk or 0.0), 0.04)
    top = min(1.0, math.ceil(25 * highest) / 25)  # so that the four ticks are whole percents
    parts = [f'<polyline class="curve" fill="none" stroke="#2548a0" stroke-width="2" points="{_points(curve, top)}"/>']
    if calibration.max_risk is not None:
        height = f"{_y(calibration.max_risk / top):.1f}"
        parts.append(f'<line {_DASHED} x1="{_x(0)}" x2="{_x(1)}" y1="{height}" y2="{height}"/>')
        at = f"{_x(calibration.answered / max(len(ordered), 1)):.1f}"
        parts.append(f'<line {_DASHED} x1="{at}" x2="{at}" y1="{_y(0)}" y2="{_y(1)}"/>')
    label = words.text(
        "risk by coverage: {answered} of {rows} {rows:row|rows} answered, {wrong} wrong",
        answered=words.number(calibration.answered),
        rows=words.count(len(ordered)),
        wrong=words.count(calibration.wrong),
    )
    return _plot(words, label, "".join(parts), words.text("share of rows answered"), words.text("wrong"), top)


def _points(curve: Sequence[tuple[float, float]], top: float) -> str:
    step = max(1, len(curve) // _MOST)
    shown = [*curve[::step], *curve[-1:]]
    return " ".join(f"{_x(share):.1f},{_y(risk / top):.1f}" for share, risk in shown)


def _plot(words: Locale, label: str, inside: str, across: str, up: str, top: float) -> str:
    width, height = _LEFT + _SIDE + 24, _TOP + _SIDE + 40
    grid = "".join(
        f'<line class="axis" stroke="#ddd" x1="{_x(0)}" x2="{_x(1)}" y1="{_y(part)}" y2="{_y(part)}"/>'
        f'<text x="{_LEFT - 6}" y="{_y(part) + 4}" text-anchor="end">{words.percent(part * top, 0)}</text>'
        f'<text x="{_x(part)}" y="{_y(0) + 18}" text-anchor="middle">{words.percent(part, 0)}</text>'
        for part in (0.0, 0.25, 0.5, 0.75, 1.0)
    )
    names = (
        f'<text x="{_x(0.5)}" y="{_y(0) + 36}" text-anchor="middle">{escape(across)}</text>'
        f'<text x="{_x(0) + 4}" y="{_y(1) + 12}">{escape(up)}</text>'
    )
    return f'<svg width="{width}" height="{height}" role="img" aria-label="{escape(label)}">{grid}{names}{inside}</svg>'


def _x(share: float) -> float:
    return _LEFT + _SIDE * share


def _y(share: float) -> float:
    return _TOP + _SIDE * (1 - share)
