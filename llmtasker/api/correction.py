"""Correction: the right values of a row from a person, checked against the task of its job."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from llmtasker.api.problem import Problem
from llmtasker.api.server import Server
from llmtasker.errors import ConfigurationError, InputError, describe
from llmtasker.jobs.job_state import Job, JobRow


class Correction(BaseModel):
    """The right values of a row; null withdraws a correction."""

    model_config = ConfigDict(extra="forbid")

    output: dict[str, Any] | None


def checked_correction(
    server: Server, job: Job, row: JobRow | None, output: Mapping[str, Any], *, strict: bool | None = None
) -> dict[str, Any]:
    """Return a correction with each value as the task reads it, such as a number for its text.

    `row` is the corrected row: fields that were corrected before stay so, and the task's own rules apply if the record
    is complete. `strict` accepts only values that already have their type; None: as the task decides.

    Raises:
        Problem: the task does not accept it, or the server no longer has the task.
    """
    unknown = output.keys() - job.outputs.keys()
    if unknown or not output:
        raise Problem("invalid", f"output: give one of {', '.join(job.outputs)}.")
    try:
        signature = server.tasks.of_job(job).signature
        made = signature.output_model.model_construct()
        for name, value in output.items():
            signature.output_model.__pydantic_validator__.validate_assignment(made, name, value, strict=strict)
        values = made.model_dump(mode="json", include=set(output))
        record = {} if row is None else {**row.given, **row.answer, **values}
        if signature.model_fields.keys() <= record.keys() and _asked(row):
            values = _by_rules(signature, record).model_dump(mode="json", include=set(output))
    except ConfigurationError as error:
        raise Problem("wrong-state", f"A correction can't be checked: {error}") from None
    except ValidationError as error:
        raise Problem("invalid", f"output: {describe(error)}.") from None
    return {**((row and row.correction) or {}), **values}


def _asked(row: JobRow | None) -> bool:
    """Whether the task accepts the inputs of a row: its rules can't be applied to others."""
    error: Mapping[str, Any] = {} if row is None or row.item is None else row.item.get("error") or {}
    return error.get("code") != InputError.code


def _by_rules(signature: type[BaseModel], record: Mapping[str, Any]) -> BaseModel:
    """Return a whole record, checked by the validators of its signature.

    Raises:
        ValidationError: one refuses it.
        Problem: one failed.
    """
    try:
        return signature.model_validate(record)
    except ValidationError:
        raise
    except Exception as error:  # noqa: BLE001 - the validators are the user's code
        raise Problem("invalid", f"output: a rule of the task failed with {type(error).__name__}.") from None
