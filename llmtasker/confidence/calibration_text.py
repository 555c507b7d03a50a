"""A calibration in sentences."""

from __future__ import annotations

from llmtasker.confidence.calibration_figures import CalibrationFigures
from llmtasker.values.language import Locale


def calibration_text(found: CalibrationFigures, words: Locale) -> str:
    """Return the calibration in sentences."""
    count, right = len(found.points), sum(point.right for point in found.points)
    lines = [
        words.text(
            "calibrated on {rows} {rows:row|rows}: {right} right, {wrong} wrong, {failed} failed",
            rows=words.count(found.rows),
            right=words.count(right),
            wrong=words.count(count - right),
            failed=words.count(found.failed),
        ),
        _error(found, words),
    ]
    if found.repeated:
        lines.append(repeated_rows(words, found.repeated))
    if found.auroc is not None:
        value, low, high = (words.number(part, 2) for part in found.auroc)
        lines.append(
            words.text(
                "labels of a row are more probable than others: AUROC {value} ({low} to {high})",
                value=value,
                low=low,
                high=high,
            )
            if found.curves
            else words.text(
                "right answers have more confidence than wrong ones: AUROC {value} ({low} to {high})",
                value=value,
                low=low,
                high=high,
            )
        )
    if found.thresholds:
        shares = ", ".join(f"{label} {words.percent(share, 0)}" for label, share in found.least_shares.items())
        lines.append(words.text("a label is given from this share of the votes: {shares}", shares=shares))
    if found.threshold is not None and found.bound is not None and found.max_risk is not None:
        lines.append(
            words.text(
                "with a confidence of {threshold} or more: {answered} of {rows} {rows:row|rows} ({share}) answered, "
                "{wrong} of them wrong",
                threshold=words.number(found.threshold, 3),
                answered=words.number(found.answered),
                rows=words.count(count),
                share=words.percent(found.answered / max(count, 1), 0),
                wrong=words.count(found.wrong),
            )
        )
        lines.append(promise(words, found.max_risk, found.bound, found.certainty))
    return "\n".join(lines)


def _error(found: CalibrationFigures, words: Locale) -> str:
    before, after = (words.number(error, 3) for error in found.ece)
    how = (
        words.text("a curve for each label")
        if found.curves
        else words.text("temperature {value}", value=words.number(found.temperature, 2))
    )
    return words.text(
        "expected calibration error {before} before, {after} after ({how})", before=before, after=after, how=how
    )


def repeated_rows(words: Locale, repeated: int) -> str:
    """Return what copies of rows mean for a promise."""
    return words.text(
        "{rows} {rows:row has|rows have} the input of an earlier one: figures and promises hold only if inputs repeat "
        "as often in your data",
        rows=words.count(repeated),
    )


def promise(words: Locale, max_risk: float, bound: float, certainty: float) -> str:
    """Return what is promised of the answers."""
    return words.text(
        "promised: at most {risk} of the answers wrong; the upper bound is {bound}, at a certainty of {certainty}",
        risk=_as_given(words, max_risk),
        bound=words.percent(bound),
        certainty=_as_given(words, certainty),
    )


def _as_given(words: Locale, share: float) -> str:
    """Return a share in percent, with as many digits as it was given."""
    return words.percent(share, len(f"{100 * share:g}".partition(".")[2]))
