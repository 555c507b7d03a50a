"""The JSON that endpoints answer with → our Completion or one of our errors; pure functions, no I/O.

"OpenAI-compatible" endpoints differ in nearly every field. What each of them means is decided here,
so that nothing above this file has to know that there is more than one dialect.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Iterator, Mapping
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple, TypeGuard

from llmtasker.completion import Completion, ToolCall, Usage
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

_FINISH_REASONS = {
    **dict.fromkeys(("stop", "eos", "eos_token", "end_turn", "stop_sequence", "complete", "completed"), "stop"),
    **dict.fromkeys(("length", "max_tokens", "max_output_tokens", "model_length", "max_length"), "length"),
    **dict.fromkeys(("tool_calls", "tool_call", "tool_use", "function_call"), "tool_calls"),
    **dict.fromkeys(
        ("content_filter", "content_filtered", "safety", "recitation", "blocklist", "prohibited_content", "spii"),
        "content_filter",
    ),
}


def read_completion(
    payload: bytes | str, *, content_type: str | None = None, headers: Mapping[str, str] | None = None
) -> Completion:
    r"""Return the completion in the body of a 200, whichever dialect it is written in.

    Texts and tool arguments are kept character for character. Of several choices the first counts.
    An event stream that was not asked for is put together. Finish reasons whose meaning is sure are given
    in OpenAI's words (stop, length, tool_calls, content_filter), any other as it came.

    Raises:
        BadResponseError: the body is no chat completion (HTML, empty, cut, no choices …).
        FilteredError: a content filter left nothing of the answer.
        CallError: the body is an error in spite of the 200; the kind depends on what it says.

    >>> read_completion('{"choices": [{"message": {"content": "Bonjour"}, "finish_reason": "eos"}]}').finish_reason
    'stop'
    """
    try:
        try:
            data = json.loads(payload)
        except ValueError:
            data = _join_stream(payload, content_type)
        return _completion(data, rate_limits(headers) if headers else None)
    except RecursionError:
        raise _no_completion("JSON that is nested too deeply to be read", payload[:200]) from None


def _completion(data: Any, limits: Mapping[str, str] | None) -> Completion:
    if _is_array(data) and data:
        data = data[0]  # Some proxies answer with a list of one.
    if not _is_object(data):
        raise _no_completion("JSON that is no object", data)
    choices = data.get("choices")
    choice = choices[0] if _is_array(choices) and choices else None
    if not _is_object(choice):
        choice = data  # Ollama's own format is a choice without the list around it.
    if data.get("error") or choice.get("error"):
        raise _error_in_200(data if data.get("error") else choice)
    finish_reason = _finish_reason(choice.get("finish_reason") or choice.get("done_reason"))
    usage = _usage(data)
    message = choice.get("message")
    if message is None:
        message = choice.get("delta")
    text, reasoning, refusal = _content(message) if _is_object(message) else (choice.get("text"), None, None)
    tool_calls = _tool_calls(message) if _is_object(message) else ()
    if not text and not tool_calls:
        _check_filter(choice, finish_reason, usage)
        if not _is_object(message) and (choice is data or text is None):
            raise _error_in_200(data) if _reason(data).text else _no_completion("JSON without a message", data)
    model = data.get("model")
    return Completion(
        text=text if isinstance(text, str) else None,
        tool_calls=tool_calls,
        reasoning=reasoning,
        refusal=refusal,
        finish_reason=finish_reason,
        model=model if isinstance(model, str) and model else None,
        usage=usage,
        limits=limits,
    )


def _finish_reason(value: Any) -> str | None:
    if not isinstance(value, str) or not value:
        return None
    # Gemini writes capitals and "content_filter: SAFETY".
    return _FINISH_REASONS.get(value) or _FINISH_REASONS.get(value.lower().partition(":")[0], value)


def _check_filter(choice: dict[str, Any], finish_reason: str | None, usage: Usage | None) -> None:
    filters = _filters(choice)
    if filters or finish_reason == "content_filter":
        raise FilteredError(
            f"a content filter of the endpoint left nothing of the answer{_listed(filters)}. "
            "Look at the input, or have the filter of the deployment changed",
            status=200,
            provider_code="content_filter",
            usage=usage.to_dict() if usage else None,
        )


def _content(message: dict[str, Any]) -> tuple[str | None, str | None, str | None]:
    """Return text, reasoning and refusal of a message."""
    content, refusal, reasoning = message.get("content"), message.get("refusal"), ""
    if content is not None and not isinstance(content, str):
        parts: dict[str, list[str]] = {"text": [], "reasoning": [], "refusal": []}
        for part in content if _is_array(content) else [content]:
            _sort_part(part, parts)
        content = "".join(parts["text"]) if parts["text"] else None
        reasoning = "".join(parts["reasoning"])
        refusal = refusal or "".join(parts["refusal"])
    for name in ("reasoning_content", "reasoning", "thinking", "reasoning_details"):
        reasoning = reasoning or _words(message.get(name))
    return content, reasoning or None, refusal if isinstance(refusal, str) and refusal else None


def _sort_part(part: Any, parts: dict[str, list[str]]) -> None:
    kind = part.get("type") if _is_object(part) else None
    if isinstance(part, str):
        parts["text"].append(part)
    elif kind in ("thinking", "reasoning"):
        parts["reasoning"].append(_words(part))
    elif kind == "refusal":
        parts["refusal"].append(_words(part))
    elif kind in ("text", "output_text") or (_is_object(part) and set(part) == {"text"}):
        parts["text"].append(_words(part.get("text")))
    elif kind is None and part is not None:
        # In JSON modes some endpoints send the value itself in place of its text.
        parts["text"].append(_json_text(part))


def _words(value: Any) -> str:
    """Return the words in a value that holds them in one of the known places."""
    if _is_array(value):
        return "".join(map(_words, value))
    if _is_object(value):
        names = ("text", "thinking", "reasoning", "summary", "refusal", "content", "value")
        return next((words for name in names if (words := _words(value.get(name)))), "")
    return value if isinstance(value, str) else ""


def _tool_calls(message: dict[str, Any]) -> tuple[ToolCall, ...]:
    calls = message.get("tool_calls")
    if not calls:
        legacy = message.get("function_call")
        # Some gateways fill in every field of OpenAI's format: a call without a name is none.
        calls = [legacy] if _is_object(legacy) and legacy.get("name") else []
    return tuple(_tool_call(call) for call in _as_list(calls) if _is_object(call))


def _tool_call(call: dict[str, Any]) -> ToolCall:
    function = call.get("function") or call.get("custom")
    if not _is_object(function):
        function = call
    name, arguments, call_id = function.get("name"), function.get("arguments", function.get("input")), call.get("id")
    if not isinstance(arguments, str):
        arguments = "{}" if arguments is None else _json_text(arguments)
    if not isinstance(call_id, str):
        call_id = "" if call_id is None else _json_text(call_id)
    return ToolCall(name=name if isinstance(name, str) else "", arguments=arguments, id=call_id)


def _usage(data: dict[str, Any]) -> Usage | None:
    counts = data.get("usage")
    if not _is_object(counts):
        counts = data  # Ollama's own format
    read = _count(counts, "prompt_tokens", "input_tokens", "prompt_eval_count")
    written = _count(counts, "completion_tokens", "output_tokens", "eval_count")
    total = _count(counts, "total_tokens")
    if not read + written + total:
        return None  # No call takes no tokens: the endpoint doesn't count.
    details = counts.get("completion_tokens_details") or counts.get("output_tokens_details")
    thought = _count(details, "reasoning_tokens") or _count(counts, "reasoning_tokens")
    # A missing count is what the total leaves. So is the thinking that xAI and Gemini leave out of the output.
    read = read or max(total - written, 0)
    written = max(written, total - read)
    details = counts.get("prompt_tokens_details") or counts.get("input_tokens_details")
    cached = _count(details, "cached_tokens") or _count(
        counts, "cached_tokens", "prompt_cache_hit_tokens", "num_cached_tokens"
    )
    return Usage(input=read, output=written, input_cached=min(cached, read), output_reasoning=min(thought, written))


def _count(counts: Any, *names: str) -> int:
    """Return the first count that is not 0 under these names."""
    if _is_object(counts):
        for name in names:
            value = counts.get(name)
            if isinstance(value, float) and value.is_integer():
                value = int(value)
            if type(value) is int and value > 0:
                return value
    return 0


# ── an event stream that was not asked for ──


def _join_stream(payload: bytes | str, content_type: str | None) -> dict[str, Any]:
    """Return a streamed answer as if it had come in one piece."""
    try:
        text = payload if isinstance(payload, str) else payload.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise _no_completion("bytes that are no UTF-8", payload[:200]) from None
    chunks = list(_chunks(text))
    if not chunks:
        kind = "an empty body" if not text.strip() else f"{content_type or 'a body'} that is no JSON"
        raise _no_completion(kind, text)
    whole: dict[str, Any] = {"choices": [{"message": {}}]}
    ended = False
    for chunk in chunks:
        ended = _join_chunk(whole, chunk) or ended
    if not ended and "error" not in whole:
        raise _no_completion("an event stream that broke off", text)
    return whole


def _chunks(text: str) -> Iterator[dict[str, Any]]:
    """Yield the chunks of server-sent events or of JSON lines."""
    # Not splitlines(): a JSON text may hold U+2028 as it is.
    for line in text.replace("\r\n", "\n").split("\n"):
        data = line.removeprefix("data:").strip()
        if data == "[DONE]":
            yield {"done": True}
        elif data.startswith("{"):
            try:
                yield json.loads(data)
            except ValueError:
                raise _no_completion("a body that is no JSON", data) from None


def _join_chunk(whole: dict[str, Any], chunk: dict[str, Any]) -> bool:
    """Add one chunk to what came so far, and return whether it ends the answer."""
    whole.update((name, value) for name, value in chunk.items() if value and name not in ("choices", "message"))
    kept = whole["choices"][0]
    choices = _as_list(chunk.get("choices", chunk))
    for choice in choices:
        if not _is_object(choice) or choice.get("index"):
            continue  # Of several choices the first counts.
        kept.update((n, v) for n, v in choice.items() if v and n not in ("message", "delta"))
        delta = choice.get("delta") or choice.get("message")
        for name, value in delta.items() if _is_object(delta) else ():
            if name == "tool_calls":
                calls = kept["message"].setdefault(name, [])
                for call in filter(_is_object, _as_list(value)):
                    _join_call(calls, call)
            else:
                kept["message"][name] = _join(kept["message"].get(name), value, name)
    return bool(kept.get("finish_reason") or whole.get("done"))


def _join(known: Any, value: Any, name: str) -> Any:
    """Return one field of a message with what a chunk adds to it."""
    if known is None or value is None:
        return known if value is None else value
    if _is_array(known) or _is_array(value):
        return [*_as_list(known), *_as_list(value)]
    if _is_object(known) and _is_object(value):
        return _join_objects(known, value)
    # Roles, names and ids come whole, and with some endpoints more than once.
    if isinstance(known, str) and isinstance(value, str) and name not in ("role", "name", "id", "type"):
        return known + value
    return known or value


def _join_objects(known: dict[str, Any], value: dict[str, Any]) -> dict[str, Any]:
    return {**known, **{name: _join(known.get(name), part, name) for name, part in value.items()}}


def _join_call(calls: list[dict[str, Any]], call: dict[str, Any]) -> None:
    """Add a fragment to the call that it belongs to, or begin a new one."""
    place = call.get("index")
    open_calls = [known for known in calls if place is None or known.get("index") == place]
    function = call.get("function")
    named = _is_object(function) and function.get("name")
    # Gemini numbers all parallel calls 0: another id that comes with a name is another call.
    if not open_calls or (named and call.get("id") != open_calls[-1].get("id")):
        calls.append(call)
    else:
        open_calls[-1].update(_join_objects(open_calls[-1], call))


# ── errors ──

_SAYS: dict[type[ItemError], tuple[str, str]] = {
    AuthenticationError: ("the endpoint refuses the key or the account", "Check the key, its rights and the credit"),
    NotFoundError: ("the endpoint doesn't know the model or the path", "Check model, deployment and base_url"),
    ContextLengthError: ("the request is too long for the LLM", "Shorten the input or the examples"),
    FilteredError: ("a content filter of the endpoint stopped the request", "Look at the input, or change the filter"),
    BadRequestError: ("the endpoint doesn't accept the request", "Check the settings of the LLM"),
    RateLimitError: ("the endpoint has too many requests", "Wait, or ask at a lower rate"),
    CallTimeoutError: ("the endpoint gave up waiting", "Try again, or shorten the input"),
    ServerError: ("the endpoint failed", "Try again later"),
}

_BY_STATUS: dict[int, type[ItemError]] = {
    **dict.fromkeys((401, 402, 403), AuthenticationError),
    **dict.fromkeys((301, 302, 303, 307, 308, 404, 410), NotFoundError),
    **dict.fromkeys((429, 498), RateLimitError),  # 498: the capacity of Groq is used up
    **dict.fromkeys((409, 424, 425), ServerError),
    408: CallTimeoutError,
    413: ContextLengthError,
    501: BadRequestError,  # What is not implemented won't be a minute later.
}

# These say more than the status. An empty purse (insufficient_quota, 429) is no rate limit: waiting does not help
# and no other row will fare better, so the decision is the one about a bad key. Groq sends a 400 when the LLM wrote
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
    r"|inputs? tokens.{0,40}must be|range of input length",
    AuthenticationError: r"insufficient (balance|credit|quota)|credit balance is too low",
}
# Only for an error inside a 200, which has no status of its own.
_BY_GUESS: dict[int, str] = {
    401: r"api.?key|authentication|unauthori|permission",
    429: r"rate.?limit|too.?many.?requests|resource.?exhausted|throttl",
    404: r"not.?found|does not exist",
    400: r"invalid|unsupported|not supported|bad.?request|validation",
}


def read_error(status: int, payload: bytes | str, headers: Mapping[str, str]) -> ItemError:
    """Return the error that a response other than 200 stands for; nothing is raised.

    Its `details` have `status`, `retry_after` (seconds; only where trying again can help), and as far as the
    provider says them `provider_code`, `param` (the field that it dislikes) and `provider_text` (at most 500
    characters, keys blacked out).
    """
    try:
        body = json.loads(payload)
    except (ValueError, RecursionError):
        body = payload if isinstance(payload, str) else payload[:20_000].decode("utf-8", "replace")
    return _error(status, status, body, headers)


def _error_in_200(body: Any) -> ItemError:
    reason = _reason(body)
    status = int(reason.code) if re.fullmatch(r"[45][0-9][0-9]", reason.code) else 0
    said = f"{reason.code} {reason.kind} {reason.text}"
    guesses = (status for status, pattern in _BY_GUESS.items() if re.search(pattern, said, re.IGNORECASE))
    return _error(200, status or next(guesses, 500), body, {})


def _error(status: int, meaning: int, body: Any, headers: Mapping[str, str]) -> ItemError:
    """Return the error for a body that came with `status` and means what `meaning` would."""
    reason = _reason(body)
    filters = _filters(body)
    text = hide_keys(reason.text)
    kind = FilteredError if filters else _kind(meaning, reason)
    what, hint = _SAYS[kind]
    wait = None
    if issubclass(kind, TransientError):
        wait = retry_after(headers, time.time())
        wait = _wait_in_text(text) if wait is None else wait
    # A code such as "400" says nothing that the status doesn't; the type is better.
    codes = (reason.code if not reason.code.isdigit() else "", reason.kind, reason.code)
    return kind(
        f"{what}{_listed(filters)} (HTTP {status}): {snippet(text).rstrip('.') or 'it does not say why'}. {hint}",
        status=status,
        retry_after=wait,
        provider_code=next(filter(None, codes), None),
        param=reason.param or None,
        provider_text=text[:500] or None,
    )


def _kind(status: int, reason: _Reason) -> type[ItemError]:
    for kind, pattern in _BY_CODE.items():
        if re.search(pattern, f"{reason.code} {reason.kind}", re.IGNORECASE):
            return kind
    # A rate limit speaks of "too many tokens" too: of its texts only this one means that it can never pass.
    texts = {ContextLengthError: "request too large"} if status == 429 else _BY_TEXT
    for kind, pattern in texts.items():
        if status in (400, 403, 413, 422, 429, 500) and re.search(pattern, reason.text, re.IGNORECASE):
            return kind
    return _BY_STATUS.get(status, ServerError if status >= 500 else BadRequestError)


class _Reason(NamedTuple):
    """Why the endpoint refused, as far as it says so; each may be empty."""

    text: str = ""
    code: str = ""
    kind: str = ""
    param: str = ""


def _reason(value: Any, depth: int = 6) -> _Reason:
    """Return the reason in an error body: providers nest and name it in a dozen ways."""
    if not depth or value is None:
        return _Reason()
    if isinstance(value, str):
        return _reason_in_text(value.strip(), depth)
    if _is_array(value):
        reasons = [_reason(entry, depth - 1) for entry in value[:8]]
        found = next((reason for reason in reasons if reason.text), _Reason())
        return found._replace(text="; ".join(reason.text for reason in reasons if reason.text))
    if not _is_object(value):
        return _Reason()
    code, kind, param = (_scalar(value.get(name)) for name in ("code", "type", "param"))
    if "loc" in value and "msg" in value:  # what Pydantic says; the rejected value beside it may be private
        places = [str(place) for place in _as_list(value["loc"]) if place != "body"]
        return _Reason(f"{'.'.join(places)}: {value['msg']}", kind, kind, ".".join(places))
    metadata = value.get("metadata")
    routed = metadata.get("raw") if _is_object(metadata) else None  # OpenRouter: the words of the real provider
    names = ("error", "errors", "message", "detail", "msg", "base_resp", "status_msg", "error_msg", "description")
    for inner in (routed, *(value.get(name) for name in names)):
        reason = _reason(inner, depth - 1)
        if reason.text:
            status = _scalar(value.get("status_code"))
            return _Reason(reason.text, reason.code or code or status, reason.kind or kind, reason.param or param)
    return _Reason("", code, kind, param)


def _reason_in_text(text: str, depth: int) -> _Reason:
    if text[:1] in ("{", "["):
        try:
            return _reason(json.loads(text), depth - 1)
        except (ValueError, RecursionError):
            return _Reason(text)
    return _Reason(_plain(text))


def _scalar(value: Any) -> str:
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""


def _filters(body: Any) -> list[str]:
    """Return the names of the content filters that stepped in, with what they say about it."""
    places = [body]
    for name in ("error", "innererror", "metadata"):  # Azure nests them, OpenRouter has them in the metadata.
        places += [place[name] for place in places if _is_object(place) and _is_object(place.get(name))]
    found = list[str]()
    for place in filter(_is_object, places):
        for results in (place.get("content_filter_result"), place.get("content_filter_results")):
            for name, verdict in results.items() if _is_object(results) else ():
                if _is_object(verdict) and verdict.get("filtered") is True:
                    found.append(f"{name} {_scalar(verdict.get('severity'))}".strip())
        if "flagged_input" in place:
            found += [_scalar(reason) for reason in _as_list(place.get("reasons"))]
    return found


def _listed(names: list[str]) -> str:
    return f" ({snippet(', '.join(names), 80)})" if names else ""


def _no_completion(what: str, body: Any) -> BadResponseError:
    text = body.decode("utf-8", "replace") if isinstance(body, bytes) else body
    text = text if isinstance(text, str) else _json_text(text)
    return BadResponseError(
        f"the endpoint answered 200 with {what}: {snippet(hide_keys(_plain(text[:5000]))) or 'nothing in it'}. "
        "Check that base_url names a Chat Completions API (it often ends in /v1)",
        status=200,
    )


def _plain(text: str) -> str:
    """Return a text, or the words of an HTML page."""
    if not text.lstrip("\ufeff \t\r\n").startswith("<"):
        return text
    words = re.sub(r"(?is)<(script|style)\b.*?</\1>|<[^<>]*>", " ", text[:20_000])
    return " ".join(words.split()) or "an empty HTML page"


_KEYS = re.compile(
    r"(?i)(\bbearer\s+|\bapi[-_ ]?key(?:\s+provided)?\s*[:=]\s*['\"]?|\b(?:sk|pk|gsk|xai|hf|nvapi|rpa)[-_])"
    r"[^\s'\",;<>}]*[^\s'\",;<>}.]"
)


def hide_keys(text: str) -> str:
    """Return a text in which whatever looks like a credential is blacked out.

    >>> hide_keys("Incorrect API key provided: sk-abcdef123456.")
    'Incorrect API key provided: ***'
    """
    return _KEYS.sub(r"\1***", text)


# ── rate limits ──


def rate_limits(headers: Mapping[str, str]) -> dict[str, str] | None:
    """Return the rate-limit headers of a response under lower-case names, None where there is none."""
    found = {
        name.lower(): value
        for name, value in headers.items()
        if name[:12].lower() == "x-ratelimit-" or name[:9].lower() == "ratelimit"
    }
    return found or None


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Return how many seconds the endpoint asks to wait; None where it doesn't say or can't be understood.

    `retry-after-ms` goes before `Retry-After` (seconds or an HTTP date, RFC 9110 section 10.2.3), that before the
    `x-ratelimit-reset-*` headers. `now` is the time in seconds since the epoch.

    >>> retry_after({"x-ratelimit-reset-tokens": "6m0s", "x-ratelimit-remaining-tokens": "0"}, now=0)
    360.0
    """
    names = {name.lower(): str(value).strip() for name, value in headers.items()}
    if re.fullmatch(_NUMBER, milliseconds := names.get("retry-after-ms", "")):
        return max(float(milliseconds) / 1000, 0.0)
    if (wait := _wait(names.get("retry-after", ""), now)) is not None:
        return wait
    resets = {name: _wait(value, now) for name, value in names.items() if "ratelimit-reset" in name}
    waits = {name: wait for name, wait in resets.items() if wait is not None}
    # Those that are used up must all be free again; where none says so, the first to be free may be the one.
    empty = [wait for name, wait in waits.items() if names.get(name.replace("-reset", "-remaining")) == "0"]
    return max(empty) if empty else min(waits.values(), default=None)


_NUMBER = r"-?[0-9]{1,15}(?:\.[0-9]{0,9})?"
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"([0-9]{1,15}(?:\.[0-9]{0,9})?)(ns|us|µs|ms|s|m|h|d)")
_IN_TEXT = re.compile(r"(?i)\b(?:again|retry) (?:in|after) ([0-9][0-9.hmsund]*)( minutes?)?")


def _wait(text: str, now: float) -> float | None:
    """Return the seconds to wait in a number, a duration such as 6m0s, a point in time or an HTTP date."""
    if re.fullmatch(_NUMBER, text):
        # Some send the time of the reset in seconds or milliseconds: both are far larger than any wait.
        number = float(text) / 1000 if float(text) > 1e11 else float(text)
        return max(number - now if number > 1e8 else number, 0.0)
    if text and not _DURATION.sub("", text):
        return sum(float(amount) * _UNITS[unit] for amount, unit in _DURATION.findall(text))
    try:
        wait = parsedate_to_datetime(text).timestamp() - now
    except (ValueError, OverflowError, OSError):
        return None
    return max(wait, 0.0) if math.isfinite(wait) else None


def _wait_in_text(text: str) -> float | None:
    found = _IN_TEXT.search(text)
    if found is None:
        return None
    seconds = _wait(found[1].rstrip("."), 0.0)
    return seconds * 60 if seconds is not None and found[2] else seconds


# ── JSON values ──


def _is_object(value: Any) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict)


def _is_array(value: Any) -> TypeGuard[list[Any]]:
    return isinstance(value, list)


def _json_text(value: Any) -> str:
    # NaN is written as it came: it is for the parser of the answer to reject it.
    return json.dumps(value, ensure_ascii=False)


def _as_list(value: Any) -> list[Any]:
    return value if _is_array(value) else [value]
