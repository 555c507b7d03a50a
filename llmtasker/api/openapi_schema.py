"""The OpenAPI schema of an app: FastAPI's schema with the key of callers and the common form of problems."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from llmtasker.api.problem import MEDIA_TYPE

_OPEN = ("/healthz", "/readyz")
_PROBLEM = {
    "title": "Problem",
    "description": "RFC 9457",
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string", "description": "urn:llmtasker:…; its meaning never changes"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "which value was wrong, and what to try"},
    },
}
_RESPONSE = {"description": "A problem", "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}}


def api_schema(app: FastAPI) -> dict[str, Any]:
    """Return the schema of all calls."""
    schema = app.openapi()
    if "Problem" in schema.setdefault("components", {}).setdefault("schemas", {}):
        return schema  # FastAPI keeps it
    schema["components"]["schemas"] = {"Problem": _PROBLEM}  # FastAPI's own schemas describe its form of errors
    schema["components"]["securitySchemes"] = {"key": {"type": "apiKey", "in": "header", "name": "X-API-Key"}}
    for path, methods in schema["paths"].items():
        for operation in methods.values():
            operation["responses"].pop("422", None)
            operation["responses"] |= {"4XX": _RESPONSE, "503": _RESPONSE}
            if path not in _OPEN:
                operation["security"] = [{"key": []}]
    return schema
