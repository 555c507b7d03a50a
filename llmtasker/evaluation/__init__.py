"""Measure: how good a task is on rows whose answers are known, and whether another one is better.

evaluate, gold_rows      a task over gold rows → a report
metrics, label_scores    what counts as right, by the type of a field; precision, recall, confusion
figures                  what was measured, row by row, and what follows from it
evaluation_report        the figures with their file; report_page: as text and as a page of HTML
compare                  two reports of the same rows → which is better, and how sure that is
intervals, paired_tests  the statistics, with their sources
"""

from __future__ import annotations

from llmtasker.compiler.chosen_examples import balanced, diverse, fixed, nearest, random_
from llmtasker.evaluation.compare import Comparison, assert_no_regression, compare
from llmtasker.evaluation.evaluate import aevaluate, evaluate
from llmtasker.evaluation.evaluation_report import Report

__all__ = [
    "Comparison",
    "Report",
    "aevaluate",
    "assert_no_regression",
    "balanced",
    "compare",
    "diverse",
    "evaluate",
    "fixed",
    "nearest",
    "random_",
]
