"""Correction: the right values of a row from a person, checked against the task of its job."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
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
    server: Server, job: Job, row: JobRow | None, output: Mapping[str, Any], *, strict: bool = False
) -> dict[str, Any]:
    """Return a correction with each value as the task reads it, such as a number for its text.

    `row` is the corrected row: fields that were corrected before stay so, and the task's own rules apply if the record
    is complete. `strict` accepts only values that already have their type; by default, a strict task too
    reads values as JSON has them, such as the text of a date.

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
        if row is not None and _is_whole(signature, {**row.answer, **values}, row) and _asked(row):
            values = _by_rules(signature, row, values).model_dump(mode="json", include=set(output))
    except ConfigurationError as error:
        raise Problem("wrong-state", f"A correction can't be checked: {error}") from None
    except ValidationError as error:
        raise Problem("invalid", f"output: {describe(error)}.") from None
    return {**((row and row.correction) or {}), **values}


def _is_whole(signature: type[BaseModel], answer: Mapping[str, Any], row: JobRow) -> bool:
    return signature.model_fields.keys() <= row.given.keys() | answer.keys()


def _asked(row: JobRow) -> bool:
    """Whether the task accepts the inputs of a row: its rules can't be applied to others."""
    error: Mapping[str, Any] = {} if row.item is None else row.item.get("error") or {}
    return error.get("code") != InputError.code


def _by_rules(signature: type[BaseModel], row: JobRow, values: Mapping[str, Any]) -> BaseModel:
    """Return the whole record of a row with corrected values, checked by the validators of its signature.

    Raises:
        ValidationError: one refuses it.
        Problem: one failed.
    """
    try:
        return _record(signature, {**row.given, **row.answer, **values})
    except ValidationError:
        # An earlier correction that breaks a rule, perhaps a newer one, must not block the other fields.
        uncorrected = {**replace(row, correction=None).answer, **values}
        if not row.correction or not _is_whole(signature, uncorrected, row):
            raise
        try:
            _record(signature, {**row.given, **row.answer})
        except ValidationError:
            return _record(signature, {**row.given, **uncorrected})
        raise


def _record(signature: type[BaseModel], record: Mapping[str, Any]) -> BaseModel:
    try:
        return signature.model_validate(record, strict=False)  # its values are JSON: a date is a text
    except ValidationError:
        raise
    except Exception as error:  # noqa: BLE001 - the validators are the user's code
        raise Problem("invalid", f"output: a rule of the task failed with {type(error).__name__}.") from None
