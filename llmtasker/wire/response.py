"""From the JSON of an endpoint's response to a Completion or an error; pure functions, no I/O.

"OpenAI-compatible" endpoints differ in nearly every field. Their differences are handled
here, so that no other file has to know that there is more than one dialect.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from llmtasker.errors import BadResponseError, FilteredError
from llmtasker.values.json_values import as_list, is_array, is_object, json_text
from llmtasker.wire.completion import Completion, ToolCall, Usage
from llmtasker.wire.echo import without_echo
from llmtasker.wire.error_response import error_in_success, filters_in, listed, no_completion, reason_in
from llmtasker.wire.logprobs import first_alternatives
from llmtasker.wire.request import Request

_FINISH_REASONS = {
    **dict.fromkeys(("stop", "eos", "eos_token", "end_turn", "stop_sequence", "complete", "completed"), "stop"),
    **dict.fromkeys(("length", "max_tokens", "max_output_tokens", "max_new_tokens", "max_length"), "length"),
    **dict.fromkeys(("model_length", "token_limit", "model_context_window_exceeded"), "length"),
    **dict.fromkeys(("tool_calls", "tool_call", "tool_use", "function_call"), "tool_calls"),
    **dict.fromkeys(("content_filter", "content_filtered", "guardrail_intervened"), "content_filter"),
    "refusal": "refusal",
    **dict.fromkeys(("safety", "image_safety", "recitation", "blocklist", "sensitive"), "content_filter"),
    **dict.fromkeys(("prohibited_content", "spii"), "content_filter"),
}


class _NoCompletionError(Exception):
    """A body is `what` in place of a chat completion."""

    def __init__(self, what: str, body: Any) -> None:
        super().__init__(what)
        self.what = what
        self.body = body


def read_completion(
    payload: bytes | str,
    *,
    content_type: str | None = None,
    headers: Mapping[str, str] | None = None,
    request: Request | None = None,
    status: int = 200,
) -> Completion:
    r"""Return the completion in the body of a success (2xx), in whatever dialect it is written.

    Texts and tool arguments are kept character for character. Of several choices the first counts.
    An event stream that was not asked for is joined. Finish reasons whose meaning is sure are given
    in OpenAI's words (stop, length, tool_calls, content_filter) or as "refusal", any other is unchanged. What an error
    repeats of the `request` is not evidence, and is removed.

    Raises:
        BadResponseError: the body is not a chat completion (HTML, empty, cut, no choices …).
        FilteredError: a content filter left nothing of the answer.
        CallError: the body is an error despite the status; the kind depends on its text.

    >>> read_completion('{"choices": [{"message": {"content": "Bonjour"}, "finish_reason": "eos"}]}').finish_reason
    'stop'
    """
    try:
        try:
            data = json.loads(payload)
        except ValueError:
            data = _join_stream(payload, content_type)
        return _completion(data, rate_limits(headers) if headers else None, request, status)
    except RecursionError:
        bad = no_completion("JSON that is nested too deeply to be read", payload[:200], status)
    except _NoCompletionError as error:
        bad = no_completion(error.what, error.body, status)
    raise BadResponseError(without_echo(bad.message, request), **bad.details)


def rate_limits(headers: Mapping[str, str]) -> dict[str, str] | None:
    """Return the rate-limit headers of a response under lower-case names; None if there are none."""
    found = {
        name.lower(): value
        for name, value in headers.items()
        if name[:12].lower() == "x-ratelimit-" or name[:9].lower() == "ratelimit"
    }
    return found or None


def _completion(value: Any, limits: Mapping[str, str] | None, request: Request | None, status: int) -> Completion:
    match value:
        case {**data} | [{**data}, *_]:  # Some proxies answer with a list of one.
            pass
        case _:
            raise _NoCompletionError("JSON that is not an object", value)
    choice: dict[Any, Any] = data  # Ollama's own format is a choice without the list around it.
    match data.get("choices"):
        case [{**first}, *_]:
            choice = first
        case _:
            pass
    if data.get("error") or choice.get("error"):
        raise error_in_success(data if data.get("error") else choice, request, status)
    finish_reason = _finish_reason(choice.get("finish_reason") or choice.get("done_reason"))
    usage = _usage(data)
    message = choice.get("delta") if choice.get("message") is None else choice["message"]
    match message:
        case {**parts}:
            (text, reasoning, refusal), tool_calls = _content(parts), _tool_calls(parts)
        case _:
            message, text, reasoning, refusal, tool_calls = None, choice.get("text"), None, None, ()
    if finish_reason == "refusal" and not refusal:
        refusal = text if text and isinstance(text, str) else "it gives no reason"
    if not text and not tool_calls:
        _check_filter(choice, finish_reason, usage, status)
        if message is None and (choice is data or text is None):
            raise (
                error_in_success(data, request, status)
                if reason_in(data).text
                else _NoCompletionError("JSON without a message", data)
            )
    model = data.get("model")
    return Completion(
        text=text if isinstance(text, str) else None,
        tool_calls=tool_calls,
        reasoning=reasoning,
        refusal=refusal,
        finish_reason=finish_reason,
        model=model if isinstance(model, str) and model else None,
        usage=usage,
        top_logprobs=first_alternatives(choice)
        if choice.get("logprobs") or choice.get("completion_probabilities")
        else (),
        limits=limits,
    )


def _finish_reason(value: Any) -> str | None:
    if not isinstance(value, str) or not value:
        return None
    # Gemini writes capitals and "content_filter: SAFETY".
    return _FINISH_REASONS.get(value) or _FINISH_REASONS.get(value.lower().partition(":")[0], value)


def _check_filter(choice: dict[Any, Any], finish_reason: str | None, usage: Usage | None, status: int) -> None:
    filters = filters_in(choice)
    if filters or finish_reason == "content_filter":
        raise FilteredError(
            f"a content filter of the endpoint left nothing of the answer{listed(filters)}. "
            "Look at the input, or have the filter of the deployment changed",
            status=status,
            provider_code="content_filter",
            usage=usage.to_dict() if usage else None,
        )


def _content(message: dict[Any, Any]) -> tuple[str | None, str | None, str | None]:
    """Return text, reasoning and refusal of a message."""
    content, refusal, reasoning = message.get("content"), message.get("refusal"), ""
    if content is not None and not isinstance(content, str):
        parts: dict[str, list[str]] = {"text": [], "reasoning": [], "refusal": []}
        for part in content if is_array(content) else [content]:
            _sort_part(part, parts)
        content = "".join(parts["text"]) if parts["text"] else None
        reasoning = "".join(parts["reasoning"])
        refusal = refusal or "".join(parts["refusal"])
    for name in ("reasoning_content", "reasoning", "thinking", "reasoning_details"):
        reasoning = reasoning or _words(message.get(name))
    return content, reasoning or None, refusal if isinstance(refusal, str) and refusal else None


def _sort_part(part: Any, parts: dict[str, list[str]]) -> None:
    kind = part.get("type") if is_object(part) else None
    if isinstance(part, str):
        parts["text"].append(part)
    elif kind in ("thinking", "reasoning"):
        parts["reasoning"].append(_words(part))
    elif kind == "refusal":
        parts["refusal"].append(_words(part))
    elif kind in ("text", "output_text") or (is_object(part) and set(part) == {"text"}):
        parts["text"].append(_words(part.get("text")))
    elif kind is None and part is not None:
        # In JSON modes some endpoints send the value itself in place of its text.
        parts["text"].append(json_text(part))


def _words(value: Any) -> str:
    """Return the words in a value that has them in one of the known places."""
    if value is None:
        return ""
    if is_array(value):
        return "".join(map(_words, value))
    if is_object(value):
        names = ("text", "thinking", "reasoning", "summary", "refusal", "content", "value")
        return next((words for name in names if (words := _words(value.get(name)))), "")
    return value if isinstance(value, str) else ""


def _tool_calls(message: dict[Any, Any]) -> tuple[ToolCall, ...]:
    match message.get("tool_calls") or message.get("function_call"):
        case [*calls]:
            return tuple(filter(None, map(_tool_call, calls)))
        # Some gateways fill in every field of OpenAI's format: a call without a name is not a call.
        case {**call} if message.get("tool_calls") or call.get("name"):
            return tuple(filter(None, [_tool_call(call)]))
        case _:
            return ()


def _tool_call(value: Any) -> ToolCall | None:
    match value:
        case {"function": {**function}} | {"custom": {**function}} | {**function}:
            name, call_id = function.get("name"), value.get("id")
            arguments = function.get("arguments", function.get("input"))
        case _:
            return None
    if not isinstance(arguments, str):
        arguments = "{}" if arguments is None else json_text(arguments)
    if not isinstance(call_id, str):
        call_id = "" if call_id is None else json_text(call_id)
    return ToolCall(name=name if isinstance(name, str) else "", arguments=arguments, id=call_id)


def _usage(data: dict[Any, Any]) -> Usage | None:
    counts = data  # Ollama's own format
    match data.get("usage"):
        case {**usage}:
            counts = usage
        case _:
            pass
    read = _count(counts, "prompt_tokens", "input_tokens", "prompt_eval_count")
    written = _count(counts, "completion_tokens", "output_tokens", "eval_count")
    total = _count(counts, "total_tokens")
    if not read + written + total:
        return None  # No call takes no tokens: the endpoint doesn't count.
    details = _part(counts, "completion_tokens_details", "output_tokens_details")
    thought = _count(details, "reasoning_tokens") or _count(counts, "reasoning_tokens")
    # A missing count is the rest of the total. So are the thinking tokens that xAI and Gemini leave out of the output.
    read = read or max(total - written, 0)
    written = max(written, total - read)
    details = _part(counts, "prompt_tokens_details", "input_tokens_details")
    cached = _count(details, "cached_tokens") or _count(
        counts, "cached_tokens", "prompt_cache_hit_tokens", "num_cached_tokens"
    )
    return Usage(input=read, output=written, input_cached=min(cached, read), output_reasoning=min(thought, written))


def _part(counts: dict[Any, Any], *names: str) -> dict[Any, Any]:
    """Return the first object under these names; an empty one if there is none."""
    for name in names:
        match counts.get(name):
            case {**part} if part:
                return part
            case _:
                continue
    return {}


def _count(counts: dict[Any, Any], *names: str) -> int:
    """Return the first count that is not 0 under these names."""
    for name in names:
        value = counts.get(name)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if type(value) is int and value > 0:
            return value
    return 0


# ── an event stream that was not asked for ──


def _join_stream(payload: bytes | str, content_type: str | None) -> dict[Any, Any]:
    """Return a streamed answer as if it had arrived whole."""
    try:
        text = payload if isinstance(payload, str) else payload.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise _NoCompletionError("bytes that are not UTF-8", payload[:200]) from None
    chunks = list(_chunks(text))
    if not chunks:
        kind = "an empty body" if not text.strip() else f"{content_type or 'a body'} that is not JSON"
        raise _NoCompletionError(kind, text)
    whole: dict[Any, Any] = {"choices": [{"message": {}}]}
    ended = False
    answers = [chunk for chunk in chunks if _is_answer(chunk)]
    if answers:
        # A whole answer in one line. Sent again, it is the same; another one may belong to another row.
        if any(answer.get("choices") != answers[0].get("choices") for answer in answers):
            raise _NoCompletionError("several answers", text)
        chunks = answers[:1]
    for chunk in chunks:
        ended = _join_chunk(whole, chunk) or ended
    if "error" not in whole and (not ended or whole["choices"] == [{"message": {}}]):
        raise _NoCompletionError("an event stream without a whole answer", text)
    return whole


def _is_answer(chunk: dict[Any, Any]) -> bool:
    """Return whether a line is a whole answer, not a part of one."""
    choices = as_list(chunk.get("choices"))
    first = choices[0] if choices else None
    if not is_object(first) or not is_object(first.get("message")) or is_object(first.get("delta")):
        return False
    return bool(first.get("finish_reason") and (first["message"].get("content") or first["message"].get("tool_calls")))


def _chunks(text: str) -> Iterator[dict[Any, Any]]:
    """Yield the chunks of server-sent events or of JSON lines."""
    # Not splitlines(), because a JSON text may contain U+2028.
    for line in text.replace("\r\n", "\n").split("\n"):
        data = line.removeprefix("data:").strip()
        if data == "[DONE]":
            yield {"done": True, "choices": []}
            return  # nothing belongs to this answer after that
        elif data.startswith("{"):
            try:
                yield json.loads(data)
            except ValueError:
                raise _NoCompletionError("a body that is not JSON", data) from None


def _join_chunk(whole: dict[Any, Any], chunk: dict[Any, Any]) -> bool:
    """Add one chunk to the earlier ones, and return whether it ends the answer."""
    whole.update((name, value) for name, value in chunk.items() if value and name not in ("choices", "message"))
    kept = whole["choices"][0]
    choices = as_list(chunk.get("choices", chunk))
    for choice in choices:
        if not is_object(choice) or choice.get("index"):
            continue  # Of several choices the first counts.
        kept.update((n, v) for n, v in choice.items() if v and n not in ("message", "delta"))
        delta = choice.get("delta") or choice.get("message")
        for name, value in delta.items() if is_object(delta) else ():
            if name == "tool_calls":
                calls = kept["message"].setdefault(name, [])
                for call in filter(is_object, as_list(value)):
                    _join_call(calls, call)
            else:
                kept["message"][name] = _join(kept["message"].get(name), value, name)
    return bool(kept.get("finish_reason") or whole.get("done"))


def _join(known: Any, value: Any, name: str) -> Any:
    """Return one field of a message with what a chunk adds to it."""
    if known is None or value is None:
        return known if value is None else value
    if is_array(known) or is_array(value):
        return [*as_list(known), *as_list(value)]
    if is_object(known) and is_object(value):
        return _join_objects(known, value)
    # Roles, names and ids are sent whole, by some endpoints more than once.
    if isinstance(known, str) and isinstance(value, str) and name not in ("role", "name", "id", "type"):
        return known + value
    return known or value


def _join_objects(known: dict[Any, Any], value: dict[Any, Any]) -> dict[Any, Any]:
    return {**known, **{name: _join(known.get(name), part, name) for name, part in value.items()}}


def _join_call(calls: list[dict[Any, Any]], call: dict[Any, Any]) -> None:
    """Add a fragment to the call that it belongs to, or begin a new one."""
    place = call.get("index")
    open_calls = [known for known in calls if place is None or known.get("index") == place]
    function = call.get("function")
    named = is_object(function) and function.get("name")
    # Gemini numbers all parallel calls 0: another id that comes with a name is another call.
    if not open_calls or (named and call.get("id") != open_calls[-1].get("id")):
        calls.append(call)
    else:
        open_calls[-1].update(_join_objects(open_calls[-1], call))
