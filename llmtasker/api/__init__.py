"""The REST API: `create_app` makes an ASGI app of tasks (extra `[api]`); `llmtasker serve` runs it.

asgi_app, server_settings     the app and its settings
http_protocol                 HTTP as uvicorn reads it, with limits
api_keys, problem             who may call, and the error responses
request_body                  how a body is read: limited, strict, early
task_routes, job_routes       what is served; served_tasks: which tasks
job_creation, correction      how a job is created, and how a person corrects its answers; job_json: a job as JSON
job_files, job_results        the rows of an uploaded file; the results of a job as a download; attachment: its name
spending                      what callers spend in a day
status_routes                 health, metrics, the documentation of the API: openapi_schema, reference_page
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llmtasker.api.asgi_app import create_app
    from llmtasker.api.server_settings import ServerSettings

__all__ = ["ServerSettings", "create_app"]


def __getattr__(name: str) -> Any:
    if name == "create_app":
        from llmtasker.api.asgi_app import create_app

        return create_app
    if name == "ServerSettings":
        from llmtasker.api.server_settings import ServerSettings

        return ServerSettings
    raise AttributeError(name)
