"""Server: what all requests of an app share."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections import Counter
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from fastapi import FastAPI, Request

from llmtasker.api.api_keys import ApiKey, ApiKeys, read_keys
from llmtasker.api.bounded_exchange import BYTES_OF_KEY
from llmtasker.api.problem import Problem
from llmtasker.api.served_tasks import ServedTasks
from llmtasker.api.server_settings import ServerSettings
from llmtasker.api.spending import Spending
from llmtasker.errors import ConfigurationError
from llmtasker.item import Item
from llmtasker.jobs.job_queue import JobQueue
from llmtasker.jobs.job_runner import JobRunner
from llmtasker.jobs.pipeline_work import TaskLike

_LOG = logging.getLogger("llmtasker.server")
_ANYBODY = ApiKey(name="anybody")


class Server:
    """The tasks, keys, jobs and counts of a server; made with the app, active while it is served."""

    def __init__(self, tasks: Mapping[str, TaskLike], settings: ServerSettings) -> None:
        self.settings = settings
        self.tasks = ServedTasks(tasks, settings)
        keys = read_keys(settings.keys)
        if not keys and not settings.open:
            raise ConfigurationError(
                "the server has no keys: give ServerSettings(keys={'name': 'key'}), set LLMTASKER_SERVER_KEYS, "
                "or allow everyone with open=True."
            )
        self.keys = ApiKeys(keys)
        self.queue = JobQueue(settings.jobs)
        self.spending = Spending(self.queue)
        self.counts: Counter[tuple[str, ...]] = Counter()
        self.stopping = False
        self._runner: JobRunner | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @contextlib.asynccontextmanager
    async def lifespan(self, _: FastAPI) -> AsyncGenerator[None]:
        """Work on jobs while the app is served; at the end, let rows in flight finish."""
        self._loop = asyncio.get_running_loop()
        self._runner = JobRunner(
            self.queue,
            self.tasks.of_job,
            jobs_at_once=self.settings.jobs_at_once,
            concurrency=self.settings.concurrency,
        )
        working = asyncio.create_task(self._runner.run())
        try:
            yield
        finally:
            self.stopping = True
            self._runner.stop()
            try:
                await asyncio.wait_for(working, self.settings.shutdown_seconds)
            except TimeoutError:
                _LOG.warning("rows in flight were abandoned; the next start asks them again")
            await self.spending.close()
            self.queue.close()
            for llm in self.tasks.llms:
                await llm.aclose()

    def wake(self) -> None:
        """Look for a job now; may be called from any thread."""
        if self._runner is not None and self._loop is not None:
            self._loop.call_soon_threadsafe(self._runner.wake)

    def caller(self, request: Request) -> ApiKey:
        """Return the key of a request.

        Raises:
            Problem: there is no key, it is unknown, it is used too often, or it has spent too much today.
        """
        if self.settings.open:
            if request.headers.get("sec-fetch-site") in {"cross-site", "same-site"}:
                raise Problem("forbidden", "Pages of other sites can't call a server that asks for no key.")
            return _ANYBODY
        presented = request.headers.get("x-api-key")
        if presented is None:
            scheme, _, token = request.headers.get("authorization", "").partition(" ")
            presented = token.strip() if scheme.lower() == "bearer" else ""
        challenge = {"WWW-Authenticate": "Bearer"}
        if not presented:
            raise Problem("no-key", "Send your key in the header X-API-Key.", headers=challenge)
        key = self.keys.find(presented)
        if key is None:
            raise Problem("unknown-key", "The key in X-API-Key is unknown, or was withdrawn.", headers=challenge)
        if wait := self.keys.wait(key):
            seconds = {"Retry-After": str(math.ceil(wait))}
            raise Problem("rate-limit", f"The key may be used again in {math.ceil(wait)} s.", headers=seconds)
        if key.bytes is not None:
            request.scope[BYTES_OF_KEY] = key.bytes
        return key

    def check_spending(self, key: ApiKey) -> None:
        """Refuse work for a key that has reached its spending limit for today.

        Raises:
            Problem: it has reached its limit.
        """
        if key.cost is not None and self.spending.spent(key.name) >= key.cost:
            raise Problem(
                "spending-limit",
                f"The key has reached its limit of {key.cost:g} a day; it can be used after midnight UTC.",
            )

    def check_rows(self, key: ApiKey, rows: int, most: int) -> None:
        """Refuse more rows than a request with this key may have.

        Raises:
            Problem: there are too many.
        """
        most = most if key.rows is None else min(most, key.rows)
        if rows > most:
            raise Problem("too-many-rows", f"The request has {rows:,} rows; the limit is {most:,}.")

    def served(self, key: ApiKey, task: TaskLike, item: Item[Any]) -> dict[str, Any]:
        """Count an item that was asked for by a request, and return it as JSON values."""
        self.spending.add(key.name, item.cost)
        self.count_item(item)
        return item_json(task, item)

    def count_item(self, item: Item[Any]) -> None:
        """Count an item for the metrics."""
        self.counts["rows", "cached" if item.cached else "ok" if item.ok else "failed"] += 1
        self.counts["tokens", "input"] += item.usage.input
        self.counts["tokens", "output"] += item.usage.output


def item_json(task: TaskLike, item: Item[Any]) -> dict[str, Any]:
    """Return an item as a caller gets it: the output by field, or the error with its code and the step that failed."""
    error = item.error
    return {
        "output": task.answer(item) if item.ok else None,
        "error": None
        if error is None
        else {
            "code": error.code,
            "message": error.message,
            **{name: error.details[name] for name in ("step", "task") if name in error.details},
        },
        "repairs": list(item.repairs),
        "confidence": None if item.confidence is None else dict(item.confidence),
        "cached": item.cached,
        "usage": item.usage.to_dict(),
        "cost": item.cost,
        "latency": round(item.latency, 4),
        "attempts": item.attempts,
    }
