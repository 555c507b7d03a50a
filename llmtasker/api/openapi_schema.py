"""The OpenAPI schema of an app: FastAPI's schema with the key of callers and the common form of problems."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from fastapi import FastAPI

from llmtasker.api.problem import MEDIA_TYPE
from llmtasker.api.response_schemas import COMPONENTS, RESPONSES, SHARED, item_schema
from llmtasker.api.served_tasks import KINDS
from llmtasker.api.server import Server
from llmtasker.files.header import free_column
from llmtasker.values.json_values import is_array, is_object

_DEFS = "#/$defs/"
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
_RESPONSE = {"description": "A problem", "content": {MEDIA_TYPE: {"schema": {"$ref": f"{COMPONENTS}Problem"}}}}


def api_schema(app: FastAPI) -> dict[str, Any]:
    """Return the schema of all calls."""
    schema = app.openapi()
    if "Problem" in schema.setdefault("components", {}).setdefault("schemas", {}):
        return schema  # FastAPI keeps it
    shared = {"Problem": _PROBLEM, **SHARED}  # FastAPI's own schemas describe its form of errors
    schema["components"]["securitySchemes"] = {"key": {"type": "apiKey", "in": "header", "name": "X-API-Key"}}
    responses = _responses(app.state.server)
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            operation["responses"].pop("422", None)
            if (answer := responses.get(f"{method.upper()} {path}")) is not None:
                successes: list[dict[str, Any]] = [operation["responses"].get(one, {}) for one in ("200", "202")]
                for response in successes:
                    for content in response.get("content", {}).values():
                        content["schema"] = answer
            operation["responses"] |= {"4XX": _RESPONSE, "503": _RESPONSE}
            if path not in _OPEN:
                operation["security"] = [{"key": []}]
    schema["paths"] = _SharedDefs(shared).moved(schema["paths"])
    schema["components"]["schemas"] = shared
    return schema


def _responses(server: Server) -> dict[str, Any]:
    """Return the schema of each successful response, by method and path."""
    found: dict[str, Any] = dict(RESPONSES)
    for name, task in server.tasks.by_name.items():
        found[f"POST /tasks/{name}"] = item_schema(task.signature.output_model.model_json_schema(mode="serialization"))
    creations = (*(f"/tasks/{name}" for name in server.tasks.by_name), *(f"/v1/{kind}" for kind in KINDS))
    return found | {f"POST {path}/jobs": RESPONSES["GET /jobs/{id}"] for path in creations}


class _SharedDefs:
    """Moves `$defs` to the shared schemas of the document, in which `#/$defs/…` would mean its own root."""

    def __init__(self, schemas: dict[str, Any]) -> None:
        self.schemas = schemas
        self._names = dict[str, dict[str, str]]()

    def moved(self, node: Any, names: Mapping[str, str] = MappingProxyType({})) -> Any:
        """Return a part of the document; `names` are the shared names of the definitions around it."""
        if isinstance(node, str) and node.startswith(_DEFS):
            return COMPONENTS + names.get(node.removeprefix(_DEFS), "")
        if is_array(node):
            return [self.moved(one, names) for one in node]
        if not is_object(node):
            return node
        if "$defs" in node:
            names = self._shared(node["$defs"])
        return {name: self.moved(one, names) for name, one in node.items() if name != "$defs"}

    def _shared(self, defs: Mapping[str, Any]) -> Mapping[str, str]:
        """Share definitions, equal ones once, and return their names."""
        key = json.dumps(defs, sort_keys=True)
        if (names := self._names.get(key)) is None:
            names = self._names[key] = {name: free_column(name, self.schemas) for name in defs}
            self.schemas |= dict.fromkeys(names.values())
            for name, one in defs.items():
                self.schemas[names[name]] = self.moved(one, names)
        return names
