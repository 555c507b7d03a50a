"""SpanAttributes: the attributes of spans of runs, rows and calls, in the conventions for generative AI.

Attributes that the conventions lack are named `llmtasker.*`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any, Literal, get_args
from urllib.parse import urlsplit

from pydantic_core import to_json

from llmtasker.errors import ItemError
from llmtasker.integrations.call_attempt import CallAttempt
from llmtasker.integrations.gen_ai_messages import input_messages, output_messages
from llmtasker.integrations.otlp_messages import Attributes
from llmtasker.item import Item, jsonable
from llmtasker.runner.events import Event
from llmtasker.runner.numbered_input import NumberedInput
from llmtasker.signature.signature import Signature
from llmtasker.values.argument_checks import check_choice

Content = Literal["none", "hash", "text"]
"""What is sent of prompts and answers."""

_REQUEST = {"model": "model", "temperature": "temperature", "top_p": "top_p", "seed": "seed"}
_PROVIDERS = {"openai.azure.com": "azure.ai.openai", "openai.com": "openai", "mistral.ai": "mistral_ai"}


class SpanAttributes:
    """The attributes for OpenTelemetry; texts only if `content` asks for them.

    Raises:
        ConfigurationError: `content` has an unknown value.
    """

    def __init__(self, content: Content) -> None:
        check_choice("content", content, get_args(Content))
        self.content: Content = content

    def of_run(self, run: str, tags: Mapping[str, Any], job: str | None) -> Attributes:
        """Return the attributes of each span of a run; `job` is the id of the job, if there is one."""
        attributes = {
            f"llmtasker.tag.{name}": value if isinstance(value, str | int | float | bool) else str(value)
            for name, value in tags.items()
        }
        return {"llmtasker.run": run, **({} if job is None else {"llmtasker.job": job}), **attributes}

    def of_settings(self, call: Event) -> Attributes:
        """Return the attributes that a call shares with others that have the same LLM settings."""
        made: Attributes = {"gen_ai.operation.name": "chat"}
        if call.request is not None:
            body = call.request.settings.body
            made |= endpoint_attributes(call.request.settings.endpoint)
            named = {f"gen_ai.request.{other}": body.get(name) for name, other in _REQUEST.items()}
            made |= {name: value for name, value in named.items() if isinstance(value, str | int | float)}
        return made

    def of_call(self, event: Event, attempt: CallAttempt) -> Attributes:
        """Return the attributes of a call."""
        made: Attributes = {"llmtasker.attempt": attempt.number}
        if len(event.rows) != 1:
            made["llmtasker.rows"] = list(event.rows)
        if event.call is not None:
            made["llmtasker.call"] = event.call
        if attempt.cause is not None:
            made["llmtasker.cause"] = attempt.cause
        if attempt.is_rejected:
            made["llmtasker.rejected"] = True
        if attempt.cost is not None:
            made["llmtasker.cost"] = attempt.cost
        if (completion := event.completion) is not None:
            if completion.model:
                made["gen_ai.response.model"] = completion.model
            if completion.finish_reason:
                made["gen_ai.response.finish_reasons"] = [completion.finish_reason]
            if (usage := completion.usage) is not None:
                made["gen_ai.usage.input_tokens"] = usage.input
                made["gen_ai.usage.output_tokens"] = usage.output
        if event.error is not None:
            made |= self._failure(event.error)
        if self.content != "none":
            made |= self.texts_of_call(event)
        return made

    def of_row(self, row: int, item: Item[Any]) -> Attributes:
        """Return the attributes of a row."""
        made: Attributes = {
            "llmtasker.row": row,
            "llmtasker.cached": item.cached,
            "llmtasker.attempts": item.attempts,
            "llmtasker.retries": max(0, item.attempts - 1),
            "gen_ai.usage.input_tokens": item.usage.input,
            "gen_ai.usage.output_tokens": item.usage.output,
        }
        if isinstance(item.input, NumberedInput) and item.input.job is not None:
            made["llmtasker.job.row"] = item.input.number
        if item.cost is not None:
            made["llmtasker.cost"] = item.cost
        if item.calls is not None:
            made["llmtasker.calls"] = item.calls  # its share of calls for several rows
        if item.repairs:
            made["llmtasker.repairs"] = len(item.repairs)
        if item.error is not None:
            made |= self._failure(item.error)
        if self.content != "none":
            made |= self.texts_of_row(item)
        return made

    def texts_of_call(self, event: Event) -> Attributes:
        """Return the prompt and the answer, as texts or hashes."""
        request, completion = event.request, event.completion
        made = {} if request is None else self._shown("gen_ai.input.messages", input_messages(request.messages))
        if completion is not None:
            made |= self._shown("gen_ai.output.messages", output_messages(event))
        return made

    def texts_of_row(self, item: Item[Any]) -> Attributes:
        """Return the input and output of a row, as texts or hashes."""
        made = self._shown("llmtasker.repairs.made", list(item.repairs)) if item.repairs else {}
        return made | self._shown("llmtasker.output", output_of(item))

    def _shown(self, name: str, value: Any) -> Attributes:
        if self.content == "hash":
            text = json.dumps(value, ensure_ascii=False, default=str)
            return {f"{name}.hash": blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()}
        return {name: json_text(value)}

    def _failure(self, error: ItemError) -> Attributes:
        """Return the attributes of an error; its message may contain users' texts."""
        made: Attributes = {"error.type": error.code}
        if error.status is not None:
            made["http.response.status_code"] = error.status
        if (wait := error.details.get("retry_after")) is not None:
            made["llmtasker.retry_after"] = float(wait)
        if self.content == "text":
            made["exception.message"] = error.message
        return made


def json_text(value: Any) -> str:
    """Return a value as JSON; values without a JSON form become texts."""
    try:
        return to_json(value, fallback=str).decode()  # a tenth of the time of the standard library
    except ValueError:  # a lone surrogate
        return json.dumps(value, ensure_ascii=False, default=str)


def output_of(item: Item[Any]) -> Any:
    """Return the output of an item as JSON values; for a record, its output fields."""
    output = jsonable(item.output)
    if isinstance(item.output, Signature):
        return {name: output[name] for name in type(item.output).output_fields}
    return output


def endpoint_attributes(endpoint: str) -> Attributes:
    """Return the attributes of an endpoint: provider, address, port."""
    host = urlsplit(endpoint).hostname
    made: Attributes = {"gen_ai.provider.name": _provider(host or endpoint)}
    if host:
        made["server.address"] = host
        port = _port(endpoint)
        if port is not None:
            made["server.port"] = port
    return made


def _port(url: str) -> int | None:
    try:
        return urlsplit(url).port
    except ValueError:
        return None


def _provider(host: str) -> str:
    """Return the well-known name of a provider, as the conventions list it; else the host."""
    return next((name for ending, name in _PROVIDERS.items() if host.endswith(ending)), host)
