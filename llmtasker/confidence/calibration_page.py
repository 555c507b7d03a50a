"""A calibration as one HTML page with its drawings."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from llmtasker.confidence.calibration_figures import CalibrationFigures, reliability
from llmtasker.errors import counted

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
_LINES = "The vertical line is the share of rows that the threshold answers, the horizontal line the promised risk."


def calibration_page(calibration: CalibrationFigures) -> str:
    """Return the calibration as a page, which loads nothing and can be sent as a file."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" '
        'content="width=device-width, initial-scale=1"><title>Calibration</title>'
        f"<style>{_STYLE}</style></head><body>{calibration_body(calibration)}</body></html>"
    )


def calibration_body(calibration: CalibrationFigures) -> str:
    """Return the calibration as HTML without the frame of a page."""
    lines = "".join(f"<li>{escape(line)}</li>" for line in str(calibration).splitlines())
    return (
        f"<h1>Calibration on {counted(calibration.rows, 'labelled row')}</h1><ul>{lines}</ul>"
        f'<p class="soft">{_FIGURES}</p>'
        "<h2>Are answers with a confidence of 80 % right in 80 of 100 rows?</h2>"
        f"{_reliability(calibration)}"
        '<p class="soft">Each mark is the rows in a tenth of the scale: hollow before, full after calibration. On the '
        "dashed line, as many are right as their confidence says; below it, the LLM is too sure.</p>"
        "<h2>How many rows are answered, and how many of these are wrong?</h2>"
        f"{_risk_coverage(calibration)}"
        '<p class="soft">The surest rows come first, from the left. '
        f"{_LINES if calibration.max_risk is not None else 'No risk was promised, so all rows are answered.'}</p>"
    )


def _reliability(calibration: CalibrationFigures) -> str:
    marks = list[str]()
    for name in ("before", "after"):
        pairs = [(getattr(point, name), point.right) for point in calibration.points]
        for part in reliability(pairs):
            at = f'cx="{_x(part.confidence):.1f}" cy="{_y(part.right):.1f}"'
            shown = f"{name}: confidence {part.confidence:.2f}, right {part.right:.2f}, {counted(part.rows, 'row')}"
            look = 'fill="none" stroke="#666"' if name == "before" else 'fill="#2548a0"'
            marks.append(f'<circle class="{name}" {look} {at} r="4"><title>{escape(shown)}</title></circle>')
    ideal = f'<line {_DASHED} x1="{_x(0)}" y1="{_y(0)}" x2="{_x(1)}" y2="{_y(1)}"/>'
    before, after = calibration.ece
    label = f"reliability: expected calibration error {before:.3f} before, {after:.3f} after"
    return _plot(label, ideal + "".join(marks), "confidence", "right", 1.0)


def _risk_coverage(calibration: CalibrationFigures) -> str:
    ordered = sorted(calibration.points, key=lambda point: -point.after)
    errors, curve = 0, list[tuple[float, float]]()
    for rows, point in enumerate(ordered, start=1):
        errors += not point.right
        curve.append((rows / len(ordered), errors / rows))
    most = max((risk for _, risk in curve), default=0.0)
    top = min(1.0, max(1.2 * max(most, calibration.max_risk or 0.0), 0.05))
    parts = [f'<polyline class="curve" fill="none" stroke="#2548a0" stroke-width="2" points="{_points(curve, top)}"/>']
    if calibration.max_risk is not None:
        height = f"{_y(calibration.max_risk / top):.1f}"
        parts.append(f'<line {_DASHED} x1="{_x(0)}" x2="{_x(1)}" y1="{height}" y2="{height}"/>')
        at = f"{_x(calibration.answered / max(len(ordered), 1)):.1f}"
        parts.append(f'<line {_DASHED} x1="{at}" x2="{at}" y1="{_y(0)}" y2="{_y(1)}"/>')
    judged = counted(len(ordered), "row")
    label = f"risk by coverage: {calibration.answered:,} of {judged} answered, {calibration.wrong:,} wrong"
    return _plot(label, "".join(parts), "share of rows answered", "wrong", top)


def _points(curve: Sequence[tuple[float, float]], top: float) -> str:
    step = max(1, len(curve) // _MOST)
    shown = [*curve[::step], *curve[-1:]]
    return " ".join(f"{_x(share):.1f},{_y(risk / top):.1f}" for share, risk in shown)


def _plot(label: str, inside: str, across: str, up: str, top: float) -> str:
    width, height = _LEFT + _SIDE + 24, _TOP + _SIDE + 40
    grid = "".join(
        f'<line class="axis" stroke="#ddd" x1="{_x(0)}" x2="{_x(1)}" y1="{_y(part)}" y2="{_y(part)}"/>'
        f'<text x="{_LEFT - 6}" y="{_y(part) + 4}" text-anchor="end">{100 * part * top:.3g} %</text>'
        f'<text x="{_x(part)}" y="{_y(0) + 18}" text-anchor="middle">{100 * part:.0f} %</text>'
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
