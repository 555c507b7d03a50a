"""The meaning of errors raised by a LangChain chat model.

Many packages implement chat models, each over its own SDK. Their errors are recognised by their attributes (a status,
a response, a name), never by their classes, because none of those packages is a dependency.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from llmtasker.errors import (
    BadRequestError,
    BadResponseError,
    CallError,
    CallTimeoutError,
    FilteredError,
    ItemError,
    NetworkError,
    snippet,
)
from llmtasker.llm.transports.langchain_identity import is_secret, mapping
from llmtasker.values.json_values import is_object
from llmtasker.values.lazy_pattern import lazy_pattern
from llmtasker.wire.completion import Completion
from llmtasker.wire.echo import without_echo
from llmtasker.wire.error_response import hide_keys, read_error
from llmtasker.wire.failed_generation import failed_generation
from llmtasker.wire.request import Request
from llmtasker.wire.response import read_completion

_STATUS_OF = {
    "ModelAuthenticationError": 401,
    "ModelPermissionDeniedError": 403,
    "ModelInvalidRequestError": 400,
    "ModelNotFoundError": 404,
    "ContextOverflowError": 413,
    "ModelRateLimitError": 429,
    "ModelAPIError": 500,
}
_NETWORK = lazy_pattern(
    r"Connect(?:ion)?Error|Network|(?:Protocol|Transport|Read|Write|SSL|Proxy)Error|gaierror|Disconnected"
)
_UNEXPECTED = lazy_pattern(r"unexpected keyword argument '(\w+)'")
_NO_ANSWER = lazy_pattern(r"choices|response type|generations|candidates", re.IGNORECASE)


def unsupported(name: str, what: str = "this chat model") -> BadRequestError:
    """Return the error that an endpoint would give, so that Capabilities can learn from it."""
    text = f"{name} not supported by {what}"
    return BadRequestError(text, provider_code="unsupported_parameter", param=name, provider_text=text)


def recovered(error: Exception, request: Request, chat: BaseModel) -> Completion:
    """Return the answer in an error of a chat model that could not parse it, or raise our error.

    Raises:
        CallError: the endpoint, or the chat model itself, reported an error.
        FilteredError: a content filter stopped the request or the answer.
    """
    hide = _Hide(chat, request)
    for each in _chain(error):
        found = _told(each, request, hide)
        if isinstance(found, ItemError):
            raise found from None
        if found is not None:
            return found
    raise CallError(f"the chat model failed: {type(error).__name__}: {_words(error, hide)}") from None


_URL = lazy_pattern(r"[A-Za-z][\w+.-]*://[^\s\"'<>\\)]*")


class _Hide:
    """Removes the secrets of a chat model, and all URLs, from a text; JSON remains JSON."""

    def __init__(self, chat: BaseModel, request: Request) -> None:
        self._request = request
        found = [_revealed(name, value) for name, value in vars(chat).items()]
        self._secrets = [secret for secret in found if len(secret) >= _SECRET_LENGTH]

    def __call__(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return _URL.sub("<url>", text)

    def message(self, text: str) -> str:
        """Return the message of an error, also without what it repeats of the request: that is not evidence."""
        return self(without_echo(text, self._request))


_SECRET_LENGTH = 8  # a shorter one is a placeholder, and may be part of any word


def _revealed(name: str, value: Any) -> str:
    reveal = getattr(value, "get_secret_value", None)
    secret = reveal() if callable(reveal) else value if is_secret(name) else ""
    return secret if isinstance(secret, str) else ""


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and those it was raised from, newest first: packages wrap the errors of their SDK."""
    seen: set[int] = set()
    each: BaseException | None = error
    while each is not None and id(each) not in seen:
        seen.add(id(each))
        yield each
        each = each.__cause__ or each.__context__


def _told(error: BaseException, request: Request, hide: _Hide) -> Completion | ItemError | None:
    """Return the meaning of one error of a chain; None if it adds no information."""
    if isinstance(error, ItemError):
        return error
    response = _response(error)
    if response is not None:
        status, payload, headers = response
        if status >= 300:
            return failed_generation(status, payload) or read_error(status, hide(payload), headers, request)
        return _read(payload, headers, request, status)
    kinds = " ".join(kind.__name__ for kind in type(error).__mro__)
    what = f"{type(error).__name__}: {_words(error, hide)}"
    if "Timeout" in kinds:
        return CallTimeoutError(f"the chat model gave up waiting: {type(error).__name__}")
    if _NETWORK.search(kinds) or "Event loop is closed" in what:
        return NetworkError(f"the connection failed: {what}")
    if isinstance(error, UnicodeError):
        return BadRequestError("the request has characters that can't be sent, such as half a surrogate pair")
    if isinstance(error, NotImplementedError):
        return unsupported("tools" if "tools" in request.head.schema else "response_format")
    if isinstance(error, TypeError) and (name := _UNEXPECTED.search(what)):
        return unsupported(name[1], "the client of this chat model")
    if isinstance(error, ValueError) and error.args and is_object(error.args[0]):
        return _read(json.dumps({"error": error.args[0]}, default=str), {}, request)  # an error inside a 200
    if isinstance(error, ValueError) and "content filter" in what:
        return FilteredError("a content filter stopped the answer", provider_code="content_filter")
    unread = isinstance(error, ValidationError | LookupError | AttributeError | json.JSONDecodeError)
    if unread or (isinstance(error, TypeError | ValueError) and _NO_ANSWER.search(what)):
        return BadResponseError(f"LangChain could not read the answer of the endpoint: {what}")
    return None


def _read(payload: str, headers: Mapping[str, str], request: Request, status: int = 200) -> Completion | ItemError:
    kind = headers.get("content-type")
    try:
        return read_completion(payload, content_type=kind, headers=headers, request=request, status=status)
    except ItemError as error:
        return error


def _words(error: BaseException, hide: _Hide) -> str:
    """Return the message of an error, never the text of an object, which may contain a key or a private text."""
    if isinstance(error, ValidationError):
        found = error.errors(include_url=False, include_input=False, include_context=False)
        return snippet("; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in found))
    text = next((text for text in error.args if isinstance(text, str)), "")
    return snippet(hide_keys(hide.message(text[:2_000]))) or "it gives no reason"


def _response(error: BaseException) -> tuple[int, str, Mapping[str, str]] | None:
    """Return status, body and headers of the HTTP response in an SDK's error."""
    response: Any = getattr(error, "response", None)
    if is_object(response):  # botocore
        meta = mapping(response.get("ResponseMetadata"))
        code: Any = meta.get("HTTPStatusCode")
        fields = {str(name).lower(): value for name, value in mapping(response.get("Error")).items()}
        return (code, _json({"error": fields}), mapping(meta.get("HTTPHeaders"))) if _is_status(code) else None
    names = ("status_code", "http_status", "status", "code")
    statuses = [getattr(thing, name, None) for thing in (response, error) for name in names]
    statuses += [_STATUS_OF.get(kind.__name__) for kind in type(error).__mro__]
    status = next(filter(_is_status, statuses), None)
    if status is None:
        return None
    content = _content(response)
    if status < 300 and not content:
        return None
    return int(status), content or _body(error), mapping(getattr(response, "headers", None))


def _is_status(value: Any) -> bool:
    return isinstance(value, int) and (200 <= value < 300 or 400 <= value < 600)


def _content(response: Any) -> str:
    try:
        content = getattr(response, "content", None)
    except Exception:  # noqa: BLE001 - httpx raises if a stream was not read; other clients have their own errors
        return ""
    return content.decode("utf-8", "replace") if isinstance(content, bytes) else ""


def _body(error: BaseException) -> str:
    body = getattr(error, "body", None)
    if isinstance(body, dict | str) and body:
        return _json(body)
    message = next((text for text in (getattr(error, "message", None), *error.args) if isinstance(text, str)), "")
    codes = (getattr(error, name, None) for name in ("code", "status"))
    return _json({"error": {"message": message, "code": next((code for code in codes if isinstance(code, str)), None)}})


def _json(value: Any) -> str:
    return json.dumps(value, default=lambda _: None)
