"""The observers that environment variables configure, for the command line and the server."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from llmtasker.task import Task

T = TypeVar("T", bound="Task[Any]")


def observers() -> list[Any]:
    """Return Langfuse's observer if LLMTASKER_LANGFUSE is set, and those of OpenTelemetry's variables.

    Raises:
        ConfigurationError: a variable is wrong, or a key or an extra is missing.
    """
    found: list[Any] = []
    if os.environ.get("LLMTASKER_LANGFUSE"):
        from llmtasker.integrations import langfuse

        found.append(langfuse.traces())
    # Without a variable, the integration is not loaded.
    if any(name.startswith("OTEL_EXPORTER_OTLP_") and name.endswith("ENDPOINT") for name in os.environ):
        from llmtasker.integrations import opentelemetry

        found += opentelemetry.from_environment()
    return found


def traced(task: T, found: list[Any] | None = None) -> T:
    """Return the task with these observers, or with those that the environment configures.

    Raises what `observers` raises.
    """
    found = observers() if found is None else found
    return task.with_(observers=[*task.plan.observers, *found]) if found else task
