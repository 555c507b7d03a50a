"""Correction: the right values of a row from a person, checked against the task of its job."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from llmtasker.api.problem import Problem
from llmtasker.api.server import Server
from llmtasker.errors import ConfigurationError, describe
from llmtasker.jobs.job_state import Job


class Correction(BaseModel):
    """The right values of a row; null withdraws a correction."""

    model_config = ConfigDict(extra="forbid")

    output: dict[str, Any] | None


def check_correction(server: Server, job: Job, output: Mapping[str, Any] | None) -> None:
    """Refuse a correction that the task of a job would not accept as an output; None withdraws one.

    Raises:
        Problem: the task does not accept it, or the server no longer has the task.
    """
    if output is None:
        return
    unknown = output.keys() - job.outputs.keys()
    if unknown or not output:
        raise Problem("invalid", f"output: give one of {', '.join(job.outputs)}.")
    try:
        task = server.tasks.of_job(job)
        for name, value in output.items():
            task.signature.__pydantic_validator__.validate_assignment(task.signature.model_construct(), name, value)
    except ConfigurationError as error:
        raise Problem("wrong-state", f"A correction can't be checked: {error}") from None
    except ValidationError as error:
        raise Problem("invalid", f"output: {describe(error)}.") from None
