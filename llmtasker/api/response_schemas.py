"""The JSON schemas of responses: an item, a job, its rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from llmtasker.jobs.job_state import State

_TEXT = {"type": "string"}
_COUNT = {"type": "integer"}
_NUMBER = {"type": "number"}


def _or_null(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"anyOf": [schema, {"type": "null"}]}


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": list(properties), "properties": properties}


def _map(values: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": values}


def _list(members: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": members}


_ERROR = {
    "type": "object",
    "required": ["code", "message"],
    "properties": {
        "code": _TEXT,
        "message": _TEXT,
        "step": {**_COUNT, "description": "the step of a pipeline that failed, from 1"},
        "task": {**_TEXT, "description": "the name of this step"},
    },
}


def item_schema(output: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema of an item whose output has a schema."""
    return _object(
        output=_or_null(output),
        error=_or_null(_ERROR),
        repairs=_list(_TEXT),
        confidence={**_or_null(_map(_NUMBER)), "description": "of each label, from 0 to 1"},
        cached={"type": "boolean"},
        usage={**_map(_COUNT), "description": "tokens"},
        cost={**_or_null(_NUMBER), "description": "in US dollars, or the currency of the server's prices"},
        latency={**_NUMBER, "description": "seconds"},
        attempts=_COUNT,
    )


_NAMES = _map(_TEXT)
_COUNTS = ("rows", "done", "ok", "failed", "cached", "repaired", "calls")
_JOB = _object(
    id=_TEXT,
    task=_TEXT,
    name=_TEXT,
    state={"type": "string", "enum": list(get_args(State))},
    reason={**_or_null(_TEXT), "description": "why the job failed or was paused, or why all its rows run again"},
    **dict.fromkeys(_COUNTS, _COUNT),
    cost=_or_null(_NUMBER),
    budget=_or_null(_NUMBER),
    columns={**_NAMES, "description": "the column of each input field"},
    outputs={**_NAMES, "description": "the column of each output field in the results"},
    **{name: {**_NUMBER, "description": "seconds since 1970"} for name in ("created", "updated", "expires")},
)
_ROW = _object(
    number=_COUNT,
    row={"type": "object", "description": "the cells as they came"},
    item=_or_null({"type": "object", "description": "null: not asked yet"}),
    correction=_or_null({"type": "object"}),
)
SHARED = {"Job": _JOB, "Row": _ROW}
"""Schemas to which others refer."""

_OWN = item_schema({"type": "object"})
COMPONENTS = "#/components/schemas/"
"""Where an OpenAPI document has its shared schemas."""
RESPONSES: Mapping[str, Mapping[str, Any]] = {
    "GET /jobs": _object(jobs=_list({"$ref": f"{COMPONENTS}Job"})),
    "GET /jobs/{id}": {"$ref": f"{COMPONENTS}Job"},
    **{f"POST /jobs/{{id}}/{move}": {"$ref": f"{COMPONENTS}Job"} for move in ("pause", "resume", "cancel", "retry")},
    "GET /jobs/{id}/items": _object(
        items=_list({"$ref": f"{COMPONENTS}Row"}),
        after={**_or_null(_COUNT), "description": "the `after` of the next page; null: this is the last"},
    ),
    "GET /jobs/{id}/labels": _object(labels=_map(_COUNT)),
    "PATCH /jobs/{id}/items/{number}": {"$ref": f"{COMPONENTS}Row"},
    **{f"POST /v1/{kind}": _object(items=_list(_OWN)) for kind in ("classification", "instruction")},
}
"""The schema of the successful response of each call; those of a served task follow from its output."""
