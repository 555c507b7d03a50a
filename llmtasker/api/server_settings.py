"""ServerSettings: the limits of a server, and where it stores its jobs."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from llmtasker.errors import ConfigurationError, snippet
from llmtasker.values.argument_checks import by_name, check_count

_COUNTS = {
    "max_bytes": "bytes of a body",
    "max_rows": "rows of a job",
    "max_columns": "columns of a row",
    "max_sync_rows": "inputs of a request",
    "jobs_at_once": "jobs at once",
}
_SECONDS = ("keep_days", "body_seconds", "shutdown_seconds")


@by_name()
@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """The limits of a server, and where it stores its jobs.

    Args:
        jobs: the file that stores jobs; several worker processes may share it.
        keys: a file of keys, or names with their keys; None: those of LLMTASKER_SERVER_KEYS (`name=key,…`).
        open: answer callers without a key; only for a server on loopback.
        hosts: the host names to which an open server answers, without ports; "*": every name.
        llm: the LLM of `/v1/classification` and `/v1/instruction`; None: that of the first task.
        observers: the observers of tasks that callers describe, there and on the page; other tasks have their own.
        models: names of other LLMs that a caller may choose there, such as "ollama/qwen3".
        max_bytes: the largest body, in bytes.
        max_rows: the most rows of a job.
        max_columns: the most columns of a row.
        max_sync_rows: the most inputs of a request that waits for its answers.
        concurrency: rows of a job that are processed at once; None: as for `Task.run`.
        jobs_at_once: jobs that one process runs at once.
        keep_days: days until a job is deleted with its texts.
        body_seconds: the longest pause within a body, and how far it may fall behind 1,000 bytes a second.
        shutdown_seconds: how long rows in flight may take to finish when the server stops.

    Raises:
        ConfigurationError: a value is out of range.
    """

    jobs: str | os.PathLike[str] = "llmtasker-jobs.db"
    keys: str | os.PathLike[str] | Mapping[str, str] | None = None
    open: bool = False
    hosts: Sequence[str] = ("127.0.0.1", "localhost", "[::1]")
    llm: object = None
    models: Sequence[str] = field(default=())
    observers: Sequence[Callable[[Any], object]] = field(default=())
    max_bytes: int = 100_000_000
    max_rows: int = 1_000_000
    max_columns: int = 1_000
    max_sync_rows: int = 1_000
    concurrency: int | None = None
    jobs_at_once: int = 2
    keep_days: float = 30.0
    body_seconds: float = 30.0
    shutdown_seconds: float = 10.0

    def __post_init__(self) -> None:
        for name, what in _COUNTS.items():
            check_count(name, getattr(self, name), what)
        if self.concurrency is not None:
            check_count("concurrency", self.concurrency, "rows at once")
        for name in _SECONDS:
            value = getattr(self, name)
            if type(value) not in (int, float) or not 0 < value < float("inf"):
                raise ConfigurationError(f"{name} must be a number above 0, not {snippet(repr(value), 40)}.")
        if isinstance(self.models, str):
            raise ConfigurationError("models is a list of names of LLMs.")
        if isinstance(self.hosts, str):
            raise ConfigurationError("hosts is a list of names of this server.")
