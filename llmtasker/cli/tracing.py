"""traced: a task with the observers that the environment asks for."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from llmtasker.task import Task

T = TypeVar("T", bound="Task[Any]")


def traced(task: T) -> T:
    """Return the task, observed by Langfuse if LLMTASKER_LANGFUSE names one, and by OTEL_EXPORTER_OTLP_ENDPOINT.

    Raises:
        ConfigurationError: a variable is wrong, or a key or an extra is missing.
    """
    observers: list[Any] = []
    if os.environ.get("LLMTASKER_LANGFUSE"):
        from llmtasker.integrations import langfuse

        observers.append(langfuse.traces())
    if os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT"):
        from llmtasker.integrations import opentelemetry

        observers.append(opentelemetry.traces())
    return task.with_(observers=[*task.plan.observers, *observers]) if observers else task
