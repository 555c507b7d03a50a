"""Langfuse: an observer that sends rows as traces to its OTLP endpoint, and scores over its API (extra `[langfuse]`).

The SDK of Langfuse is not needed, because its endpoint accepts OpenTelemetry (langfuse.com/docs/opentelemetry). The
attributes
are those that version 5 of the SDK sends.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from llmtasker.errors import ConfigurationError
from llmtasker.integrations.background_sender import BackgroundSender
from llmtasker.integrations.call_attempt import CallAttempt
from llmtasker.integrations.langfuse_client import LangfuseProject
from llmtasker.integrations.langfuse_scores import ScoreQueue, ScoreReceiver, TraceScore
from llmtasker.integrations.otlp_messages import Attributes
from llmtasker.integrations.otlp_receiver import is_disabled
from llmtasker.integrations.span_attributes import Content, SpanAttributes, json_text, output_of
from llmtasker.integrations.tracer import END_SECONDS, Tracer, trace_of_job_row, trace_of_row
from llmtasker.item import Item, jsonable
from llmtasker.runner.corrected_row import CorrectedRow
from llmtasker.runner.events import Event

_PARAMETERS = ("temperature", "top_p", "seed", "max_tokens", "max_completion_tokens", "reasoning_effort")


def traces(
    base_url: str | None = None,
    *,
    public_key: str | None = None,
    secret_key: str | None = None,
    client: Any = None,
    sample: float = 1.0,
    content: Content = "none",
    environment: str | None = None,
) -> LangfuseTracer:
    """Return an observer that sends rows to Langfuse: a trace for each row, a generation for each call, a session for a
    run.

    Args:
        base_url: the URL of Langfuse, such as "https://langfuse.intra"; None: LLMTASKER_LANGFUSE.
        public_key, secret_key: the keys of the project; None: LANGFUSE_PUBLIC_KEY, LANGFUSE_SECRET_KEY.
        client: your `langfuse.Langfuse(…)` instead of these, of the SDK's version 2 or later; its URL, keys,
            HTTP client, environment and mask are used.
        sample: the share of rows that are sent; rows with an error are always sent.
        content: whether prompts and answers are sent: "none", as "hash", or as "text" (then Langfuse
            shows them as input and output).
        environment: Langfuse's `environment`, such as "production".

    With OTEL_SDK_DISABLED=true, or a client that has tracing switched off, no span is sent.

    Raises:
        ConfigurationError: the URL or a key is missing, an argument is wrong, or the extra is missing.
    """
    if client is not None:
        if base_url or public_key or secret_key:
            raise ConfigurationError("a client has its own URL and keys: leave out base_url, public_key, secret_key.")
        project = LangfuseProject.of_client(client)
    else:
        base_url = base_url or os.environ.get("LLMTASKER_LANGFUSE")
        public_key = public_key or os.environ.get("LANGFUSE_PUBLIC_KEY")
        secret_key = secret_key or os.environ.get("LANGFUSE_SECRET_KEY")
        if not base_url:
            raise ConfigurationError("the URL of Langfuse is missing: give base_url=…, or set LLMTASKER_LANGFUSE.")
        if not public_key or not secret_key:
            raise ConfigurationError("Langfuse needs keys: set LANGFUSE_PUBLIC_KEY and LANGFUSE_SECRET_KEY.")
        project = LangfuseProject.of_keys(base_url, public_key, secret_key)
    return LangfuseTracer(project, sample=sample, content=content, environment=environment)


class LangfuseAttributes(SpanAttributes):
    """The attributes for OpenTelemetry, and those of Langfuse."""

    def __init__(self, content: Content, project: LangfuseProject, environment: str | None) -> None:
        super().__init__(content)
        self.environment = environment
        self._project = project

    def of_run(self, run: str, tags: Mapping[str, Any], job: str | None) -> Attributes:
        """Return the attributes of each span of a run; the session is the job, if there is one, or else the run."""
        made = super().of_run(run, tags, job)
        made["session.id"] = run if job is None else job
        made["langfuse.trace.name"] = "row"
        if self.environment:
            made["langfuse.environment"] = self.environment
        if tags:
            made["langfuse.trace.tags"] = [f"{name}={value}" for name, value in tags.items()]
        return made

    def of_settings(self, call: Event) -> Attributes:
        """Return the attributes that all calls with the settings of this one share."""
        made = super().of_settings(call)
        made["langfuse.observation.type"] = "generation"
        if call.request is not None:
            settings = call.request.settings
            if isinstance(model := settings.body.get("model"), str):
                made["langfuse.observation.model.name"] = model
            sent = {**settings.body, **settings.limits}
            if parameters := {name: sent[name] for name in _PARAMETERS if name in sent}:
                made["langfuse.observation.model.parameters"] = json.dumps(parameters, default=str)
        return made

    def of_call(self, event: Event, attempt: CallAttempt) -> Attributes:
        """Return the attributes of a call. Tokens of different prices are separate, because Langfuse adds them up."""
        made = super().of_call(event, attempt)
        if event.completion is not None and (usage := event.completion.usage) is not None:
            counts = {"input": usage.input - usage.input_cached, "output": usage.output - usage.output_reasoning}
            apart = {"input_cached_tokens": usage.input_cached, "output_reasoning_tokens": usage.output_reasoning}
            counts |= {name: count for name, count in apart.items() if count}
            made["langfuse.observation.usage_details"] = json_text(counts)
        if attempt.cost is not None:
            made["langfuse.observation.cost_details"] = json_text({"total": attempt.cost})
        if event.error is not None:
            made["langfuse.observation.level"] = "ERROR"
            made["langfuse.observation.status_message"] = event.error.code
        return made

    def of_row(self, row: int, item: Item[Any]) -> Attributes:
        """Return the attributes of a row; its input and output are also the trace's."""
        made = super().of_row(row, item)
        made["langfuse.observation.type"] = "span"
        made["langfuse.internal.is_app_root"] = True
        if item.error is not None:
            made["langfuse.observation.level"] = "ERROR"
            made["langfuse.observation.status_message"] = item.error.code
        return made

    def texts_of_call(self, event: Event) -> Attributes:
        """Return what was sent and answered: hashes, or texts under Langfuse's own names."""
        if self.content == "hash":
            return super().texts_of_call(event)
        made: Attributes = {}
        if event.request is not None:
            made["langfuse.observation.input"] = self._text(event.request.messages)
        if event.completion is not None:
            made["langfuse.observation.output"] = self._text(event.completion.raw)
        return made

    def texts_of_row(self, item: Item[Any]) -> Attributes:
        """Return the input and output of a row: hashes, or texts under Langfuse's own names."""
        if self.content == "hash":
            return super().texts_of_row(item)
        made: Attributes = {"langfuse.observation.input": self._text(jsonable(item.input))}
        if item.ok:
            made["langfuse.observation.output"] = self._text(output_of(item))
        return made

    def _text(self, value: Any) -> str:
        masked = self._project.masked(value)
        return masked if isinstance(masked, str) else json_text(masked)


class LangfuseTracer(Tracer):
    """The observer that `traces` returns; `score` adds a score to a row's trace."""

    def __init__(self, project: LangfuseProject, *, sample: float, content: Content, environment: str | None) -> None:
        self.content = content
        self._project, self._environment = project, environment or project.environment
        attributes = LangfuseAttributes(content, project, self._environment)
        super().__init__(None if is_disabled() else project.receiver, attributes, sample=sample, trace_per="row")
        self._score_receiver = ScoreReceiver(project, self._environment)
        receiver = self._score_receiver if project.enabled else None
        self._scores = BackgroundSender[Sequence[TraceScore], TraceScore]("scores", ScoreQueue, receiver)

    def __reduce__(self) -> tuple[Any, ...]:
        # Without the keys, which the other process reads from its own environment.
        options: dict[str, Any] = {"sample": self.sample, "content": self.content, "environment": self._environment}
        return partial(traces, self._project.base_url, **options), ()

    def flush(self, seconds: float = END_SECONDS) -> bool:
        """Wait for the spans and scores to be sent, up to some seconds; return whether all were."""
        until = time.monotonic() + seconds
        sent = super().flush(seconds)
        return self._scores.flush(max(0.0, until - time.monotonic())) and sent

    def close(self) -> None:
        """Stop sending; queued spans are dropped, so call `flush` first."""
        super().close()
        self._scores.close()

    def score_correction(self, run: str, row: int, answer: Mapping[str, Any], correction: Mapping[str, Any]) -> None:
        """Add a person's verdict on an answer as scores: `correct` (1 or 0), and the right value of each wrong field.

        Raises what `score` raises.
        """
        for score in _scores(trace_of_row(run, row).hex(), answer, correction):
            self._score_receiver.send(score)

    def score(self, run: str, row: int, name: str, value: float | str, *, comment: str | None = None) -> None:
        """Add a score to the trace of a row, such as a person's correction; `run` and `row` are those of its events.

        Raises:
            ConfigurationError: Langfuse refuses it, or can't be reached within 5 seconds.
        """
        self._score_receiver.send(
            TraceScore(trace=trace_of_row(run, row).hex(), name=name, value=value, comment=comment)
        )

    def take_correction(self, row: CorrectedRow) -> None:
        """Queue a person's correction of a job's row as scores; earlier ones are replaced or withdrawn.

        The right values of label and number fields are sent; those of text fields only with `content="text"`. It
        neither waits nor raises; what can't be sent is logged.
        """
        trace = trace_of_job_row(row.job, row.number)
        session = None if row.failed or self.samples(trace) else row.job

        def shown(correction: Mapping[str, Any] | None) -> dict[str, TraceScore]:
            scores = [] if correction is None else _scores(trace.hex(), row.answer, correction, session=session)
            kept = {f"corrected {name}" for name in row.outputs if self.content == "text" or name in row.closed}
            return {score.name: score for score in scores if score.name in {"correct", *kept}}

        before, now = shown(row.before), shown(row.correction)
        self._scores.put([*now.values(), *(score.withdrawn() for name, score in before.items() if name not in now)])


def _scores(
    trace: str, answer: Mapping[str, Any], correction: Mapping[str, Any], *, session: str | None = None
) -> list[TraceScore]:
    """Return a person's verdict on an answer as scores; of the session, if Langfuse does not have the trace."""
    wrong = {name: value for name, value in correction.items() if answer.get(name) != value}
    right = {
        f"corrected {name}": value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for name, value in wrong.items()
    }
    values: dict[str, float | str] = {"correct": float(not wrong), **right}
    return [TraceScore(trace=trace, session=session, name=name, value=value) for name, value in values.items()]


def trace_id(run: str, row: int) -> str:
    """Return the id of a row's own trace, as 32 hexadecimal digits."""
    return trace_of_row(run, row).hex()
