"""Langfuse: an observer that sends each row as a trace to its OTLP endpoint, scores over its API (extra `[langfuse]`).

The SDK of Langfuse is not needed: its endpoint takes OpenTelemetry (langfuse.com/docs/opentelemetry).
"""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Mapping
from functools import partial
from typing import Any

from llmtasker.errors import ConfigurationError, snippet
from llmtasker.integrations.opentelemetry import Content, Tracer, checked_url, trace_id
from llmtasker.integrations.span_sender import Attributes
from llmtasker.runner.events import Event

_SECONDS = 5.0


def traces(
    base_url: str | None = None,
    *,
    public_key: str | None = None,
    secret_key: str | None = None,
    sample: float = 1.0,
    content: Content = "none",
    environment: str | None = None,
) -> LangfuseTracer:
    """Return an observer that sends rows to Langfuse: a trace a row, a generation a call, a session a run.

    Args:
        base_url: where Langfuse is, such as "https://langfuse.intra"; None: LLMTASKER_LANGFUSE. There is no default.
        public_key, secret_key: the keys of the project; None: LANGFUSE_PUBLIC_KEY, LANGFUSE_SECRET_KEY.
        sample: the share of rows that are sent; rows with an error are always sent.
        content: whether prompts and answers are sent: "none", as "hash", or as "text" (then Langfuse
            shows them as input and output).
        environment: what Langfuse calls so, such as "production".

    Raises:
        ConfigurationError: the place or a key is missing, an argument is wrong, or the extra is missing.
    """
    base_url = base_url or os.environ.get("LLMTASKER_LANGFUSE")
    public_key = public_key or os.environ.get("LANGFUSE_PUBLIC_KEY")
    secret_key = secret_key or os.environ.get("LANGFUSE_SECRET_KEY")
    if not base_url:
        raise ConfigurationError("where is Langfuse? Give base_url=…, or set LLMTASKER_LANGFUSE.")
    if not public_key or not secret_key:
        raise ConfigurationError("Langfuse needs keys: set LANGFUSE_PUBLIC_KEY and LANGFUSE_SECRET_KEY.")
    token = b64encode(f"{public_key}:{secret_key}".encode()).decode()
    return LangfuseTracer(
        checked_url(base_url).rstrip("/"), f"Basic {token}", sample=sample, content=content, environment=environment
    )


class LangfuseTracer(Tracer):
    """The observer that `traces` returns; `score` adds a score to a row's trace."""

    def __init__(
        self, base_url: str, authorization: str, *, sample: float, content: Content, environment: str | None
    ) -> None:
        self._base_url, self._authorization, self._environment = base_url, authorization, environment
        super().__init__(
            f"{base_url}/api/public/otel/v1/traces",
            headers={"Authorization": authorization},
            sample=sample,
            content=content,
            trace_per="row",
            extra=self._attributes,
        )

    def __reduce__(self) -> tuple[Any, ...]:
        # Without the keys: the other process has its own in its environment.
        options: dict[str, Any] = {"sample": self.sample, "content": self.content, "environment": self._environment}
        return partial(traces, self._base_url, **options), ()

    def _attributes(self, event: Event) -> Attributes:
        made: Attributes = {"langfuse.session.id": event.run}
        if self._environment:
            made["langfuse.environment"] = self._environment
        if event.tags:
            made["langfuse.trace.tags"] = [f"{name}={value}" for name, value in event.tags.items()]
        if event.what == "call_ended":
            made["langfuse.observation.type"] = "generation"
            if self.content == "text" and event.request is not None:
                made["langfuse.observation.input"] = json.dumps(event.request.messages, ensure_ascii=False, default=str)
            if self.content == "text" and event.completion is not None:
                made["langfuse.observation.output"] = event.completion.raw
        elif event.item is not None:
            made["langfuse.trace.name"] = "row"
            if self.content == "text":
                data = event.item.to_dict()
                made["langfuse.trace.input"] = json.dumps(data["input"], ensure_ascii=False)
                made["langfuse.trace.output"] = json.dumps(data["output"], ensure_ascii=False)
            if event.error is not None:
                made["langfuse.observation.level"] = "ERROR"
                made["langfuse.observation.status_message"] = event.error.code
        return made

    def score_correction(self, run: str, row: int, answer: Mapping[str, Any], correction: Mapping[str, Any]) -> None:
        """Add what a person said of an answer as scores: `correct`, 1 or 0, and for each field what is right instead.

        Raises what `score` raises.
        """
        wrong = {name: value for name, value in correction.items() if answer.get(name) != value}
        self.score(run, row, "correct", float(not wrong))
        for name, value in wrong.items():
            right = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            self.score(run, row, f"corrected {name}", right)

    def score(self, run: str, row: int, name: str, value: float | str, *, comment: str | None = None) -> None:
        """Add a score to the trace of a row, such as a correction of a person; `run` and `row` are those of its events.

        Raises:
            ConfigurationError: Langfuse does not take it, or can't be reached within 5 seconds.
        """
        body: dict[str, Any] = {"traceId": trace_id(run, row), "name": name, "value": value, "comment": comment}
        body["dataType"] = "CATEGORICAL" if isinstance(value, str) else "NUMERIC"
        headers = {"Content-Type": "application/json", "Authorization": self._authorization}
        request = urllib.request.Request(f"{self._base_url}/api/public/scores", json.dumps(body).encode(), headers)  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=_SECONDS):  # noqa: S310 - checked_url allows http only
                return
        except (urllib.error.URLError, OSError) as error:
            raise ConfigurationError(f"Langfuse did not take the score: {snippet(error, 100)}.") from None
