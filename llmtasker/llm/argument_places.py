"""Where the arguments of runs and tasks belong, for the error of a function that was given one and lacks it."""

from __future__ import annotations

RUN_ARGUMENTS = ("budget", "columns", "concurrency", "fresh", "progress", "row_variables", "settings")
"""The arguments of a run."""
TASK_ARGUMENTS = (
    "attempts",
    "cache",
    "confidence",
    "examples_role",
    "group_size",
    "input_role",
    "language",
    "mode",
    "observers",
    "reasoning",
)
"""The arguments of every kind of task that a run or a call does not take."""

OF_RUNS = {
    **{name: f"it belongs in run(inputs, {name}=…)" for name in RUN_ARGUMENTS},
    "ordered": "it belongs in stream(inputs, ordered=…)",
}
OF_TASKS = {name: f"it belongs in Task(…, {name}=…)" for name in TASK_ARGUMENTS}
