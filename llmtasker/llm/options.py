"""LLMOptions: the arguments of an LLM, and their validation."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypedDict, cast, runtime_checkable

from llmtasker.cache.store import Store
from llmtasker.errors import ConfigurationError, closest, snippet
from llmtasker.llm.argument_places import OF_RUNS, OF_TASKS
from llmtasker.llm.costs import Prices
from llmtasker.llm.credentials import check_key, may_be_credential
from llmtasker.llm.limits import RateLimit, Retry
from llmtasker.values.argument_checks import is_number
from llmtasker.values.json_values import canonical_json, is_mapping
from llmtasker.values.lazy_pattern import lazy_pattern
from llmtasker.wire.request import Transport

_FROM_TASK = frozenset({"messages", "model", "stream", "stream_options", "tools", "tool_choice", "response_format"})


@runtime_checkable
class Portable(Protocol):
    """A transport as data, to be recreated in another process."""

    def make(self) -> Transport:
        """Return the transport.

        Raises:
            ConfigurationError: this process lacks something, such as the key.
        """
        ...


DEFAULT_TIMEOUT = 60.0
"""Seconds for a whole call if neither the LLM nor its client has a timeout."""


class LLMOptions(TypedDict, total=False):
    """The keyword arguments of `LLM`, which describes them."""

    base_url: str | None
    api_key: str | None
    api_version: str | None
    client: Any
    transport: Transport | Portable | None
    temperature: float | None
    max_tokens: int | None
    top_p: float | None
    seed: int | None
    stop: str | list[str] | None
    timeout: float | None
    headers: Mapping[str, str] | None
    extra_body: Mapping[str, Any] | None
    cache: bool | str | os.PathLike[str] | Store | None
    rate_limit: RateLimit | None
    max_concurrency: int | None
    retry: Retry | None
    prices: Prices | None


def _is_real(value: Any) -> bool:
    return is_number(value) and math.isfinite(value)


def _is_integer(value: Any) -> bool:
    return _is_real(value) and float(value) == int(value)


def _is_stop(value: object) -> bool:
    texts = cast("Sequence[object]", [value] if isinstance(value, str) else value)
    return isinstance(texts, list | tuple) and len(texts) > 0 and all(isinstance(one, str) and one for one in texts)


def _is_headers(value: object) -> bool:
    return is_mapping(value) and all(isinstance(part, str) for pair in value.items() for part in pair)


_HEADER_NAME = lazy_pattern(r"[-!#$%&'*+.^_`|~0-9A-Za-z]+")  # RFC 9110 section 5.6.2
_OF_TRANSPORT = frozenset({"connection", "content-length", "expect", "te", "trailer", "transfer-encoding", "upgrade"})


def _check_headers(headers: Mapping[str, str]) -> None:
    """Check that headers can be sent; a value may be a credential, and is not shown."""
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name):
            raise ConfigurationError(f"headers: {snippet(name, 60)!r} can't be the name of a header.")
        if name.lower() in _OF_TRANSPORT:
            raise ConfigurationError(f"headers: {name!r} belongs to the connection, and can't be set here.")
        if not (value.isascii() and value.replace("\t", " ").isprintable()):
            raise ConfigurationError(
                f"headers: the value of {name!r} has a line break, an accent or another character that can't be sent."
            )


_OF_BODY = (
    "chat_template_kwargs",
    "frequency_penalty",
    "logit_bias",
    "metadata",
    "min_p",
    "presence_penalty",
    "reasoning_effort",
    "repetition_penalty",
    "service_tier",
    "top_k",
    "user",
)
_ELSEWHERE = {
    **OF_RUNS,
    **OF_TASKS,
    **{name: f"it belongs in Task(…, {name}=…)" for name in ("examples", "variables")},
    **{name: f"it belongs in extra_body={{{name!r}: …}}" for name in _OF_BODY},
    **{
        name: f"it belongs in client=OpenAI(…, {name}=…)"
        for name in ("default_query", "http_client", "organization", "project")
    },
    **dict.fromkeys(("api_base", "azure_endpoint", "endpoint", "url"), "write base_url=…"),
    **dict.fromkeys(("default_headers", "extra_headers"), "write headers={…}"),
    **dict.fromkeys(("max_retries", "num_retries", "retries"), "write retry=Retry(attempts=…)"),
    **dict.fromkeys(("requests_per_minute", "rpm"), "write rate_limit=RateLimit(requests=…)"),
    **dict.fromkeys(("tokens_per_minute", "tpm"), "write rate_limit=RateLimit(tokens=…)"),
    **dict.fromkeys(("max_completion_tokens", "max_output_tokens"), "write max_tokens=…"),
}
"""Where arguments belong that an LLM does not take; several are those of other libraries."""


_SECRET = frozenset({"api_key", "base_url", "headers"})  # their values are not shown
_CHECKS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "base_url": (lambda value: isinstance(value, str), 'a URL such as "http://localhost:8000/v1"'),
    "api_key": (lambda value: isinstance(value, str), "a text"),
    "api_version": (lambda value: isinstance(value, str), 'a text such as "2024-10-21"'),
    "temperature": (_is_real, "a number"),
    "max_tokens": (lambda value: _is_integer(value) and value >= 1, "a whole number from 1"),
    "top_p": (lambda value: _is_real(value) and 0 <= value <= 1, "a number from 0 to 1"),
    "seed": (_is_integer, "a whole number"),
    "stop": (_is_stop, "a text or a list of texts, none of them empty"),
    "headers": (_is_headers, 'a mapping such as {"X-Team": "data"}'),
    "extra_body": (lambda value: isinstance(value, Mapping), 'a mapping such as {"top_k": 5}'),
    "rate_limit": (lambda value: isinstance(value, RateLimit), "a RateLimit, such as RateLimit(requests=600)"),
    "retry": (lambda value: isinstance(value, Retry), "a Retry, such as Retry(attempts=4)"),
    "prices": (lambda value: isinstance(value, Prices), "a Prices, such as Prices(input=0.4, output=1.6)"),
}


def check(options: Mapping[str, Any]) -> None:
    """Check the keyword arguments of an LLM.

    Raises:
        ConfigurationError: one is unknown, or its value is invalid.
    """
    for name, value in options.items():
        if name not in LLMOptions.__annotations__:
            near = closest(name, LLMOptions.__annotations__, cutoff=0.5)
            hint = f"did you mean {near}?" if near else "a field of the request body goes into extra_body={…}."
            hint = f"{_ELSEWHERE[name]}." if name in _ELSEWHERE else hint
            raise ConfigurationError(f"LLM has no option {name!r}: {hint}")
        if value is not None and name in _CHECKS and not _CHECKS[name][0](value):
            shown = f"a {type(value).__name__}" if name in _SECRET else snippet(repr(value), 60)
            raise ConfigurationError(f"{name} must be {_CHECKS[name][1]}, not {shown}.")
    if options.get("api_key"):
        check_key(options["api_key"], "api_key")
    _check_headers(options.get("headers") or {})
    timeout = options.get("timeout")
    if timeout is not None and not (_is_real(timeout) and timeout > 0):
        raise ConfigurationError(f"timeout is a number of seconds above 0, not {timeout!r}")
    for made in ("client", "transport"):
        if options.get(made) is not None:
            for name in ("base_url", "api_key", "api_version", "headers"):
                if options.get(name) is not None:
                    raise ConfigurationError(f"{name} belongs to the given {made}: set it where that is made.")


def sent_fields(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of the request body that can change an answer, except for the model.

    Raises:
        ConfigurationError: a field is set by the task, or its value is not JSON.
    """
    names = ("temperature", "top_p", "seed", "stop")
    fields = {name: options[name] for name in names if options.get(name) is not None}
    more: Mapping[str, Any] = options.get("extra_body") or {}
    for name in more:
        if not isinstance(cast("object", name), str):
            raise ConfigurationError(f"extra_body: {name!r} is not the name of a field, which is a text.")
        if name in fields or (name == "max_tokens" and options.get("max_tokens") is not None):
            raise ConfigurationError(f"{name} is given twice: as an argument and in extra_body. Give it once.")
    fields |= dict(sorted(more.items()))
    for name, value in fields.items():
        if name in _FROM_TASK:
            raise ConfigurationError(f"extra_body: {name!r} is set by the task or the LLM, not here.")
        if name == "n" and value != 1:
            raise ConfigurationError(f"extra_body: n={value!r} asks for several answers, of which only one is used.")
        try:
            canonical_json(value)
        except (TypeError, ValueError) as error:
            raise ConfigurationError(f"{name} can't be sent, because it is not a JSON value: {error}") from None
    return fields


def portable(options: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the options without credentials, which may be stored, and the names of those left out."""
    kept = {name: value for name, value in options.items() if name != "api_key"}
    headers: Mapping[str, str] = options.get("headers") or {}
    hidden = [name for name, value in headers.items() if may_be_credential(name, value)]
    if hidden:
        kept["headers"] = {name: value for name, value in headers.items() if name not in hidden}
    return kept, hidden
