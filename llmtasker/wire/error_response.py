"""What endpoints send instead of an answer → one of our errors, and how long to wait; pure functions, no I/O.

Providers nest and name their errors in a dozen ways, and send them with any status, 200 among them.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple

from llmtasker.errors import (
    AuthenticationError,
    BadRequestError,
    BadResponseError,
    CallTimeoutError,
    ContextLengthError,
    FilteredError,
    ItemError,
    NotFoundError,
    RateLimitError,
    ServerError,
    TransientError,
    snippet,
)
from llmtasker.values.json_values import as_list, is_array, is_object, json_text
from llmtasker.values.lazy_pattern import lazy_pattern
from llmtasker.wire.echo import without_echo
from llmtasker.wire.request import Request

_WORDING: dict[type[ItemError], tuple[str, str]] = {
    AuthenticationError: ("the endpoint refuses the key or the account", "Check the key, its rights and the credit"),
    NotFoundError: ("the endpoint doesn't know the model or the path", "Check model, deployment and base_url"),
    ContextLengthError: ("the request is too long for the LLM", "Shorten the input or the examples"),
    FilteredError: ("a content filter of the endpoint stopped the request", "Look at the input, or change the filter"),
    BadRequestError: ("the endpoint doesn't accept the request", "Check the settings of the LLM"),
    RateLimitError: ("the endpoint has too many requests", "Wait, or ask at a lower rate"),
    CallTimeoutError: ("the endpoint gave up waiting", "Try again, or shorten the input"),
    ServerError: ("the endpoint failed", "Try again later"),
}

_PROXY = (
    "a proxy on the way to the endpoint wants a user name and a password",
    "Give them in the URL of the proxy (HTTP_PROXY, HTTPS_PROXY), or name the endpoint's host in NO_PROXY",
)

_BY_STATUS: dict[int, type[ItemError]] = {
    **dict.fromkeys((401, 402, 403, 407), AuthenticationError),
    **dict.fromkeys((301, 302, 303, 307, 308, 404, 410), NotFoundError),
    **dict.fromkeys((429, 498), RateLimitError),  # 498: the capacity of Groq is used up
    **dict.fromkeys((409, 424, 425), ServerError),
    408: CallTimeoutError,
    413: ContextLengthError,
    501: BadRequestError,  # Something that is not implemented will not be a minute later.
}

# These mean more than the status. A used-up quota (insufficient_quota, 429) is not a rate limit: waiting does not help
# and other rows would fail too, so it is treated like a bad key. Groq sends a 400 when the LLM wrote
# a bad call (tool_use_failed): the request was right, and another try may do better.
_BY_CODE: dict[type[ItemError], str] = {
    FilteredError: r"content_?filter|content_?policy|responsible_?ai|data_?inspection|moderation",
    ContextLengthError: r"context_(length|size)|too_many_(prompt_)?tokens|string_above_max|input_too_long",
    AuthenticationError: r"insufficient_(quota|balance|credit)|billing",
    ServerError: r"tool_use_failed|json_validate_failed",
}
_BY_TEXT: dict[type[ItemError], str] = {
    FilteredError: r"content management policy|content filter|flagged|usage policy|inappropriate content"
    r"|content exists risk",
    ContextLengthError: r"context (length|window|size)|(prompt|input|messages|messages is)( is| are)? too long"
    r"|too many tokens|reduce the length|request too large|input token count|max_model_len|too large for model"
    r"|inputs?`? tokens.{0,40}must be|range of input length",
    AuthenticationError: r"insufficient (balance|credit|quota)|credit balance is too low",
}
# A 500 with these words is permanent: llama.cpp and template engines refuse a request that way.
_LASTING = r"not supported|unsupported|n[o']t support|roles? must alternate|unexpected role|template|jinja"
# Only for an error inside a success, which lacks its own status.
_BY_GUESS: dict[int, str] = {
    401: r"api.?key|authentication|unauthori|permission",
    429: r"rate.?limit|too.?many.?requests|resource.?exhausted|throttl",
    404: r"not.?found|does not exist",
    400: r"invalid|unsupported|not supported|bad.?request|validation",
}


def read_error(
    status: int, payload: bytes | str, headers: Mapping[str, str], request: Request | None = None
) -> ItemError:
    """Return the error of a response other than a success (2xx); nothing is raised.

    Its `details` have `status`, `retry_after` (seconds; only where trying again can help), and as far as the
    provider sends them `provider_code`, `param` (the field that it refuses) and `provider_text` (at most 500
    characters, keys blacked out). What the response repeats of the `request` is not evidence, and is left out.
    """
    try:
        body = json.loads(payload)
    except (ValueError, RecursionError):
        body = payload if isinstance(payload, str) else payload[:5000].decode("utf-8", "replace")
    return _error(status, status, body, headers, request)


def error_in_success(body: Any, request: Request | None = None, status: int = 200) -> ItemError:
    """Return the error in the body of a success (2xx).

    The kind depends on its words, without what they repeat of the request.
    """
    reason = reason_in(body)
    named = int(reason.code) if re.fullmatch(r"[45][0-9][0-9]", reason.code) else 0
    words = f"{reason.code} {reason.kind} {without_echo(reason.text, request)}"
    guesses = (guess for guess, pattern in _BY_GUESS.items() if re.search(pattern, words, re.IGNORECASE))
    return _error(status, named or next(guesses, 500), body, {}, request)


def _error(
    status: int, meaning: int, body: Any, headers: Mapping[str, str], request: Request | None = None
) -> ItemError:
    """Return the error for a body that came with `status`; its kind is that of the status `meaning`."""
    reason = reason_in(body)
    reason = reason._replace(text=without_echo(reason.text, request))
    filters = filters_in(body)
    text = hide_keys(reason.text)
    kind = FilteredError if filters else _kind(meaning, reason)
    what, hint = _PROXY if status == 407 else _WORDING[kind]
    wait = None
    if issubclass(kind, TransientError):
        now = _now(headers)
        wait = retry_after(headers, now)
        wait = _wait_in_body(body, now) if wait is None else wait
        wait = _wait_in_text(text) if wait is None else wait
    # A code such as "400" adds nothing to the status; the type is better.
    codes = (reason.code if not reason.code.isdigit() else "", reason.kind, reason.code)
    return kind(
        f"{what}{listed(filters)} (HTTP {status}): {snippet(text).rstrip('.') or 'it gives no reason'}. {hint}",
        status=status,
        retry_after=wait,
        provider_code=next(filter(None, codes), None),
        param=reason.param or None,
        provider_text=text[:500] or None,
    )


def _kind(status: int, reason: Reason) -> type[ItemError]:
    for kind, pattern in _BY_CODE.items():
        if re.search(pattern, f"{reason.code} {reason.kind}", re.IGNORECASE):
            return kind
    # A rate limit also mentions "too many tokens": of its texts, only this one is permanent.
    texts = {ContextLengthError: "request too large"} if status == 429 else _BY_TEXT
    for kind, pattern in texts.items():
        if status in (400, 403, 413, 422, 429, 500) and re.search(pattern, reason.text, re.IGNORECASE):
            return kind
    if status == 500 and re.search(_LASTING, reason.text, re.IGNORECASE):
        return BadRequestError
    return _BY_STATUS.get(status, ServerError if status >= 500 else BadRequestError)


class Reason(NamedTuple):
    """The endpoint's reasons for refusing; each may be empty."""

    text: str = ""
    code: str = ""
    kind: str = ""
    param: str = ""


def reason_in(value: Any, depth: int = 6) -> Reason:
    """Return the reason in an error body: providers nest and name it in a dozen ways."""
    if not depth or value is None:
        return Reason()
    if isinstance(value, str):
        return _reason_in_text(value.strip(), depth)
    if is_array(value):
        reasons = [reason_in(entry, depth - 1) for entry in value[:8]]
        found = next((reason for reason in reasons if reason.text), Reason())
        return found._replace(text="; ".join(reason.text for reason in reasons if reason.text))
    if not is_object(value):
        return Reason()
    code, kind, param = (_scalar(value.get(name)) for name in ("code", "type", "param"))
    if "loc" in value and "msg" in value:  # the form of Pydantic; the rejected value beside it may be private
        places = [str(place) for place in as_list(value["loc"]) if place != "body"]
        return Reason(f"{'.'.join(places)}: {value['msg']}", kind, kind, ".".join(places))
    metadata = value.get("metadata")
    routed = metadata.get("raw") if is_object(metadata) else None  # OpenRouter: the words of the real provider
    names = ("error", "errors", "message", "detail", "msg", "base_resp", "status_msg", "error_msg")
    for inner in (routed, *(value.get(name) for name in (*names, "errorMessage", "description"))):
        reason = reason_in(inner, depth - 1)
        if reason.text:
            status = _scalar(value.get("status_code"))
            return Reason(reason.text, reason.code or code or status, reason.kind or kind, reason.param or param)
    return Reason("", code, kind, param)


def _reason_in_text(text: str, depth: int) -> Reason:
    if text[:1] in ("{", "["):
        # Some texts only begin like JSON, or are JSON that was cut.
        with contextlib.suppress(ValueError, RecursionError):
            return reason_in(json.loads(text), depth - 1)
    return Reason(_plain(text[:5000]))


def _scalar(value: Any) -> str:
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""


def filters_in(body: Any) -> list[str]:
    """Return the names of the content filters that intervened, with the severity."""
    places = [body]
    for name in ("error", "innererror", "metadata"):  # Azure nests them, OpenRouter has them in the metadata.
        places += [place[name] for place in places if is_object(place) and is_object(place.get(name))]
    found = list[str]()
    for place in filter(is_object, places):
        for results in (place.get("content_filter_result"), place.get("content_filter_results")):
            for name, verdict in results.items() if is_object(results) else ():
                if is_object(verdict) and verdict.get("filtered") is True:
                    found.append(f"{name} {_scalar(verdict.get('severity'))}".strip())
        if "flagged_input" in place:
            found += [_scalar(reason) for reason in as_list(place.get("reasons"))]
    return found


def listed(names: list[str]) -> str:
    """Return names between parentheses, for a message; empty if there are none."""
    return f" ({snippet(', '.join(names), 80)})" if names else ""


def no_completion(what: str, body: Any, status: int = 200) -> BadResponseError:
    """Return the error of a success (2xx) whose body is `what` in place of a chat completion."""
    text = body.decode("utf-8", "replace") if isinstance(body, bytes) else body
    text = text if isinstance(text, str) else json_text(text)
    return BadResponseError(
        f"the endpoint answered {status} with {what}: {snippet(hide_keys(_plain(text[:5000]))) or 'nothing in it'}. "
        "Check that base_url names a Chat Completions API (it often ends in /v1)",
        status=status,
    )


def _plain(text: str) -> str:
    """Return a text, or the words of an HTML page."""
    if not text.lstrip("\ufeff \t\r\n").startswith("<"):
        return text
    words = re.sub(r"(?is)<(script|style)\b.*?</\1>|<[^<>]*>", " ", text)
    return " ".join(words.split()) or "an empty HTML page"


_KEYS = lazy_pattern(
    r"(?i)(\bapi[-_ ]?key(?:\s+provided)?\s*[:=]\s*['\"]?(?:(?:bearer|basic)\s+)?|\bbearer\s+"
    r"|\bbasic\s+(?=[a-z0-9+/]*[0-9=])|\b(?:sk|pk|gsk|xai|hf|nvapi|rpa)[-_])"
    r"[^\s'\",;<>}]*[^\s'\",;<>}.]"
)


def hide_keys(text: str) -> str:
    """Return a text in which whatever looks like a credential is blacked out.

    >>> hide_keys("Incorrect API key provided: sk-abcdef123456.")
    'Incorrect API key provided: ***.'
    """
    return _KEYS.sub(r"\1***", text)


# ── rate limits ──


def _now(headers: Mapping[str, str]) -> float:
    """Return the time by the clock of the server, if it sends it: a date is meant by that clock."""
    date = next((value for name, value in headers.items() if name.lower() == "date"), "")
    try:
        return parsedate_to_datetime(date).timestamp()
    except (ValueError, TypeError, OverflowError, OSError):
        return time.time()


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Return how many seconds the endpoint asks to wait; None if it names no time that can be read.

    `retry-after-ms` takes precedence over `Retry-After` (seconds or an HTTP date, RFC 9110 section 10.2.3), and that
    over the reset of a rate limit, as OpenAI, Azure, Groq, Anthropic, Mistral or the IETF's draft name it. `now` is the
    time in seconds since the epoch.

    >>> retry_after({"x-ratelimit-reset-tokens": "6m0s", "x-ratelimit-remaining-tokens": "0"}, now=0)
    360.0
    """
    names = {name.lower(): str(value).strip() for name, value in headers.items()}
    with contextlib.suppress(ValueError, OverflowError, OSError):
        # A point in time is one on the clock of the server, which may differ from ours.
        now = parsedate_to_datetime(names["date"]).timestamp() if "date" in names else now
    for name in ("retry-after-ms", "x-ms-retry-after-ms"):
        if re.fullmatch(_NUMBER, milliseconds := names.get(name, "")):
            return max(float(milliseconds) / 1000, 0.0)
    for name in _WAITS:
        given = names.get(name, "").partition(";")[0]
        asked = [given] if ":" in given else given.split(",")  # a header that was sent twice is joined
        if found := [wait for text in asked if (wait := seconds_until(text.strip(' "'), now)) is not None]:
            return max(found)
    resets = {name: seconds_until(value, now) for name, value in names.items() if _RESET.search(name)}
    waits = {name: wait for name, wait in resets.items() if wait is not None}
    if policies := _IN_RATELIMIT.findall(names.get("ratelimit", "")):
        waits["ratelimit"] = max(map(float, policies))
    # All limits that are used up must be free again; if none is named, the first to be free may be the reason.
    empty = [wait for name, wait in waits.items() if names.get(name.replace("-reset", "-remaining")) == "0"]
    return max(empty) if empty else min(waits.values(), default=None)


_WAITS = ("retry-after", "x-retry-after", "x-ratelimit-retry-after", "retry-after-seconds")
_RESET = lazy_pattern(r"rate-?limit.*-reset")
_IN_RATELIMIT = lazy_pattern(r"\b(?:t|reset)=([0-9]{1,15})\b")
_NUMBER = r"[-+]?[0-9]{1,15}(?:\.[0-9]{0,9})?"
_CLOCK = lazy_pattern(
    r"(?:([0-9]{1,5})\.)?([0-9]{1,3}):([0-5][0-9]):([0-5][0-9](?:\.[0-9]{0,9})?)"
)  # 00:00:30, as .NET
_ISO = lazy_pattern(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:")
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_AMOUNT = r"[0-9]{1,15}(?:\.[0-9]{0,9})?"
_UNIT = r"(?:ns|us|µs|ms|milliseconds?|s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?|d|days?)(?![a-zµ])"
_BETWEEN = r"[\s,]*(?:and\s+)?"
_DURATION = lazy_pattern(rf"({_AMOUNT})\s*({_UNIT}){_BETWEEN}", re.IGNORECASE)
_ISO_DURATION = lazy_pattern(r"P([0-9]{1,9}D)?(?:T([0-9.HMS]+))?")
_IN_TEXT = lazy_pattern(
    r"(?i)\b(?:(?:again|retry|available|resets?) (?:in|after)|wait(?: for)?"
    r"|retry[-_ ]?(?:after|delay)[\"']?\s*[:=])\s*[\"']?"
    rf"(?:about |approximately |another |~)?((?:{_AMOUNT}\s*{_UNIT}{_BETWEEN})+|{_AMOUNT}(?!\w))"
)


def seconds_until(text: str, now: float) -> float | None:
    """Return the seconds until what a text names: a number, a duration (6m0s, 00:06:00), a point in time, an HTTP date.

    None: the text is something else. `now` is the time in seconds since the epoch.

    >>> seconds_until("6m0.5s", 0), seconds_until("12ms", 0), seconds_until("2", 0), seconds_until("soon", 0)
    (360.5, 0.012, 2.0, None)
    """
    if re.fullmatch(_NUMBER, text):
        # Some send the time of the reset in seconds or milliseconds: both are far larger than any wait.
        number = float(text) / 1000 if float(text) > 1e11 else float(text)
        return max(number - now if number > 1e8 else number, 0.0)
    if text[:1] in ("P", "p") and (iso := _ISO_DURATION.fullmatch(text.upper())):
        text = f"{iso[1] or ''}{iso[2] or ''}"
    if text and not _DURATION.sub("", text):
        return sum(float(amount) * _unit(unit.lower()) for amount, unit in _DURATION.findall(text))
    if clock := _CLOCK.fullmatch(text):
        days, hours, minutes, seconds = (float(part or 0) for part in clock.groups())
        return days * 86400.0 + hours * 3600.0 + minutes * 60.0 + seconds
    try:
        moment = datetime.fromisoformat(text) if _ISO.match(text) else parsedate_to_datetime(text)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        wait = moment.timestamp() - now
    except (ValueError, OverflowError, OSError):
        return None
    return max(wait, 0.0) if math.isfinite(wait) else None


def _unit(name: str) -> float:
    """Return the seconds of a unit, which may be written out."""
    return _UNITS["ms" if name.startswith("mil") else name if name in _UNITS else name[0]]


def _wait_in_text(text: str) -> float | None:
    found = _IN_TEXT.search(text)
    return None if found is None else seconds_until(found[1].strip(" ,").rstrip("."), 0.0)


_IN_BODY = frozenset({"retryafter", "retrydelay", "retryafterseconds"})


def _wait_in_body(body: Any, now: float, depth: int = 6) -> float | None:
    """Return the seconds to wait that a field of an error body names, as with Gemini; None: there is no such field.

    OpenRouter repeats the headers of the real provider there.
    """
    inner = body.items() if is_object(body) else [("", entry) for entry in as_list(body)[:8]]
    for name, value in inner if depth else ():
        if str(name).replace("_", "").replace("-", "").lower() in _IN_BODY:
            wait = seconds_until(_scalar(value) or (str(value) if isinstance(value, float) else ""), now)
        elif name == "headers" and is_object(value):
            wait = retry_after(value, now)
        else:
            wait = _wait_in_body(value, now, depth - 1)
        if wait is not None:
            return wait
    return None
