"""Which endpoint a LangChain chat model stands for: told from its fields, never from its credentials."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from enum import Enum
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel

from llmtasker.completion import canonical_json

SECRET_NAME = re.compile(
    r"(?i)(?:^|_)(?:(?:api)?keys?|token|secrets?|passw\w*|auth|authorization|credentials?|headers?|cookies?)(?:_|$)"
)
# These change no complete answer.
_ASIDE = re.compile(
    r"^(?:max_(?:completion_|output_|new_)?tokens|num_predict|max_retries|timeout|request_timeout|stream_chunk_timeout"
    r"|cache|verbose|callbacks|callback_manager|tags|metadata|name|rate_limiter|custom_get_token_ids|profile"
    r"|disable_streaming|streaming|stream|stream_usage|http_\w*|include_response_headers)$"
)


def endpoint_of(chat: BaseModel) -> str:
    """Return where the answers of a chat model come from: base URL, class, and a hash of its parameters.

    Two chat models with another temperature, deployment or model have two endpoints, and share no answers.
    Credentials are no part of it, nor what changes no complete answer: token limit, timeout, retries.
    """
    kind = type(chat)
    identity = [
        kind.__module__,
        kind.__qualname__,
        _plain(_fields(chat)),
        _plain(getattr(chat, "_identifying_params", None)),
    ]
    digest = hashlib.sha256(canonical_json(identity).encode("ascii")).hexdigest()[:16]
    # The URL first: prices are looked up by it.
    return f"{_url(chat)} langchain:{kind.__name__}#{digest}".lstrip()


def _fields(chat: BaseModel) -> dict[str, Any]:
    # Not by getattr: a deprecated field would warn.
    declared = {name: value for name, value in vars(chat).items() if name in type(chat).model_fields}
    return {**declared, **(chat.model_extra or {}), "base_url": _url(chat)}


def _url(chat: BaseModel) -> str:
    """Return the base URL of a chat model as far as it shows one, without user, password and query."""
    known = vars(chat)
    clients = [known.get(name) for name in ("root_client", "root_async_client", "client", "async_client")]
    places = [*(getattr(client, "base_url", None) for client in clients), *known.values()]
    for place in places:
        text = str(place) if type(place).__name__ == "URL" else place
        if isinstance(text, str) and text.startswith(("http://", "https://")):
            return _place(text)
    return ""


def _place(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}"


def _plain(value: Any) -> Any:
    """Return a value as JSON that is the same in every process, without secrets and addresses of objects."""
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, str):
        return _place(value) if "://" in value[:10] else value
    if isinstance(value, float):
        return repr(value)
    if value is None or isinstance(value, int):
        return value
    if isinstance(value, BaseModel):
        value = {**vars(value), "": type(value).__qualname__}
    if isinstance(value, Mapping):
        kept = {str(name).replace("-", "_"): inner for name, inner in value.items()}
        names = sorted(name for name in kept if not SECRET_NAME.search(name) and not _ASIDE.search(name))
        return {name: _plain(kept[name]) for name in names if kept[name] is not None}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, set | frozenset):
        return sorted(canonical_json(_plain(part)) for part in value)
    return (value if isinstance(value, type) else type(value)).__qualname__


def model_of(chat: BaseModel) -> str:
    """Return the name of the model or deployment, or else of the class."""
    names = ("model_name", "model", "model_id", "deployment_name", "azure_deployment", "repo_id")
    found = (getattr(chat, name, None) for name in names)
    return next((name for name in found if isinstance(name, str) and name), type(chat).__name__)
