"""Measure how good a task is on rows with right answers, and whether another task is better.

evaluate, gold_rows      a task over gold rows → a report; gold_cells: right answers as tables and files have them;
                         own_examples: gold rows that the prompt shows
metrics, label_scores    what counts as right, by the type of a field; precision, recall, confusion
judge                    an LLM as a metric
figures                  the measurements, row by row, and the figures that follow from them
shortlist                how often the right label is among those shown
evaluation_report        the figures with their file; report_text, report_page: in words, and as an HTML page
compare                  two reports of the same rows → a comparison: which is better, and how sure that is
calibrate                a confidence → a probability, and a threshold that keeps a promised risk
cascade                  tasks in order of price (cascade_run, cascade_stage, cascade_thresholds)
calibration_fit          the fit to answered rows, for one label or several
confidence_fit           the temperature, and how well a confidence separates right from wrong
risk_control             the threshold, and the bounds on which it is based
intervals, paired_tests  the statistics, with their sources
"""

from __future__ import annotations

from llmtasker.compiler.chosen_examples import balanced, diverse, fixed, nearest, random_
from llmtasker.evaluation.calibrate import acalibrate, calibrate
from llmtasker.evaluation.cascade import acascade, cascade
from llmtasker.evaluation.cascade_run import Cascade
from llmtasker.evaluation.compare import assert_no_regression, compare
from llmtasker.evaluation.comparison import Comparison
from llmtasker.evaluation.evaluate import aevaluate, evaluate
from llmtasker.evaluation.evaluation_report import Report
from llmtasker.evaluation.judge import judge
from llmtasker.evaluation.shortlist import ShortlistRecall, shortlist_recall

__all__ = [
    "Cascade",
    "Comparison",
    "Report",
    "ShortlistRecall",
    "acalibrate",
    "acascade",
    "aevaluate",
    "assert_no_regression",
    "balanced",
    "calibrate",
    "cascade",
    "compare",
    "diverse",
    "evaluate",
    "fixed",
    "judge",
    "nearest",
    "random_",
    "shortlist_recall",
]
