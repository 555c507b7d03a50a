"""Calibration: the fit that turns a confidence into a probability, and the promise that rests on it."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from llmtasker.confidence.calibration_figures import CalibrationFigures
from llmtasker.confidence.calibration_page import calibration_body, calibration_page
from llmtasker.confidence.calibration_text import calibration_text
from llmtasker.errors import ConfigurationError, describe
from llmtasker.values.language import Code, locale_of


@dataclass(frozen=True, kw_only=True)
class Calibration(CalibrationFigures):
    """The result of `calibrate` on `rows` labelled rows, of which `failed` had no answer; `print` shows it.

    Args:
        temperature: probabilities are raised to the power of 1 / temperature: above 1, the LLM was too sure.
        priors: the mean share of each label, by which shares are divided first (method "batch"); empty: not done.
        curves: for a field that takes several labels, offset and slope of the log odds of each.
        thresholds: for a field that takes several labels, the probability from which each is given.
        floor: the least probability of a label before that, because 0 could not be corrected.
        threshold: the task abstains from answers with less confidence; None: no risk was promised.
        max_risk, certainty: the promise: at most this share of the answers given is wrong; at least this share of such
            promises is kept.
        bound: the upper bound of that share, from the labelled rows.
        repeated: how many of the rows have the input of an earlier one.
        auroc: how well confidence separates right from wrong answers (0.5: not at all), with its 95 % interval.
        asked: a hash of LLM, prompt and settings; the numbers are valid only for these.
        points: the answered rows.
    """

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Calibration:
        """Return the calibration of a task file.

        Raises:
            ConfigurationError: it is not a calibration.
        """
        try:
            made = TypeAdapter(cls).validate_python(dict(data))
        except ValidationError as error:
            raise ConfigurationError(f"the calibration of the file is incomplete: {describe(error)}.") from None
        if not (made.temperature > 0 and made.floor >= 0 and math.isfinite(made.temperature)):
            raise ConfigurationError(f"the calibration of the file has the temperature {made.temperature}.")
        offsets = [offset for offset, slope in made.curves.values() if slope > 0]
        numbers = (*made.thresholds.values(), *offsets)
        whole = made.thresholds.keys() == made.curves.keys() and len(offsets) == len(made.curves)
        if not (whole and all(map(math.isfinite, numbers))):
            raise ConfigurationError("the calibration of the file lacks a curve or a threshold for a label.")
        return made

    def __str__(self) -> str:
        return self.text()

    def text(self, language: Code = "en") -> str:
        """Return the calibration in sentences, as `print` shows it; `language` is "en" or "fr"."""
        return calibration_text(self, locale_of(language))

    def write(self, path: str | os.PathLike[str], *, language: Code = "en") -> None:
        """Write the calibration as one HTML page with its drawings: reliability, and risk by coverage."""
        page = calibration_page(self, locale_of(language))
        Path(path).write_text(page, encoding="utf-8")

    def _repr_html_(self) -> str:
        return calibration_body(self, locale_of("en"))
