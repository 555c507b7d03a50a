"""The identity of a LangChain chat model's endpoint, by its fields, never by its credentials."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence, Set
from enum import Enum
from typing import Any, cast
from urllib.parse import urlsplit

from pydantic import BaseModel

from llmtasker.llm.credentials import is_credential
from llmtasker.values.json_values import canonical_json
from llmtasker.values.lazy_pattern import lazy_pattern

_SECRET = lazy_pattern(
    r"(?i)(?:^|_)(?:(?:api)?keys?|token|secrets?|passw\w*|auth|authorization|credentials?|headers?|cookies?)(?:_|$)"
)
# These do not change a complete answer.
_ASIDE = lazy_pattern(
    r"^(?:max_(?:completion_|output_|new_)?tokens|num_predict|max_retries|timeout|request_timeout|stream_chunk_timeout"
    r"|cache|verbose|callbacks|callback_manager|tags|metadata|name|rate_limiter|custom_get_token_ids|profile"
    r"|disable_streaming|streaming|stream|stream_usage|http_\w*|\w*prox(?:y|ies)|include_response_headers)$"
)


def endpoint_of(chats: Sequence[BaseModel], arguments: Sequence[Any] = ()) -> str:
    """Return the identity of an endpoint: base URL and class of the first chat model, and a hash of all parameters.

    Chat models with different temperatures, deployments, models or headers are different endpoints, and share no
    answers. Credentials are excluded, as are fields that do not change a complete answer: token limit, timeout,
    retries. `arguments` are those that wrappers add to each call; further chat models are fallbacks.
    """
    chat, kind = chats[0], type(chats[0])
    identity = [[*map(_identity, chats)], _plain(list(arguments))]
    digest = hashlib.sha256(canonical_json(identity).encode("ascii")).hexdigest()[:16]
    # URL first: prices are looked up by it.
    return f"{_url(chat)} langchain:{kind.__name__}#{digest}".lstrip()


def _identity(chat: BaseModel) -> list[Any]:
    kind = type(chat)
    return [kind.__module__, kind.__qualname__, _url(chat), _plain(_fields(chat)), _plain(_named(chat))]


def _fields(chat: BaseModel) -> dict[str, Any]:
    # Not by getattr: a deprecated field would warn.
    declared = {name: value for name, value in vars(chat).items() if name in type(chat).model_fields}
    # A chat model around another one may keep it in a private attribute.
    private: Mapping[str, Any] = getattr(chat, "__pydantic_private__", None) or {}
    declared |= {name: value for name, value in private.items() if isinstance(value, BaseModel)}
    return {name: value for name, value in (declared | (chat.model_extra or {})).items() if not _ASIDE.search(name)}


def _named(chat: BaseModel) -> dict[str, Any]:
    """Return the identifying parameters that the chat model itself declares, which may be more than its fields."""
    named = mapping(getattr(chat, "_identifying_params", None))
    return {name: value for name, value in named.items() if not _ASIDE.search(name)}


def _url(chat: BaseModel) -> str:
    """Return the base URL of a chat model, if it has one, without user, password and query."""
    known = vars(chat)
    clients = [known.get(name) for name in ("root_client", "root_async_client", "client", "async_client")]
    places = [getattr(client, "base_url", None) for client in clients]
    places += [value for name, value in known.items() if not _ASIDE.search(name)]
    for place in places:
        text = str(place) if type(place).__name__ == "URL" else place
        if isinstance(text, str) and text.startswith(("http://", "https://")):
            return _place(text)
    return ""


def _place(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}"


def _plain(value: Any) -> Any:
    """Return a value as JSON that is the same in every process, without secrets and object addresses."""
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, str):
        return _place(value) if "://" in value[:10] else value
    if isinstance(value, float):
        return repr(value)
    if value is None or isinstance(value, int):
        return value
    if isinstance(value, BaseModel):
        value = {"": type(value).__qualname__, **vars(value)}
    if isinstance(value, Mapping):
        members = sorted(
            ((str(name), inner) for name, inner in cast("Mapping[object, Any]", value).items()), key=lambda m: m[0]
        )
        kept = {name: _plain(inner) for name, inner in members if not (inner is None or _is_credential(name))}
        return {name: inner for name, inner in kept.items() if inner != {}}
    if isinstance(value, list | tuple):
        return [*map(_plain, cast("Sequence[object]", value))]
    if isinstance(value, set | frozenset):
        return sorted(canonical_json(_plain(part)) for part in cast("Set[object]", value))
    return (value if isinstance(value, type) else type(value)).__qualname__


def model_of(chat: BaseModel) -> str:
    """Return the name of the model or deployment, or else that of the class."""
    names = ("model_name", "model", "model_id", "deployment_name", "azure_deployment", "repo_id")
    found = (getattr(chat, name, None) for name in names)
    return next((name for name in found if isinstance(name, str) and name), type(chat).__name__)


def mapping(value: object) -> Mapping[str, Any]:
    """Return a mapping unchanged, and an empty one for anything else."""
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {}


_CREDENTIAL = lazy_pattern(
    r"(?i)(?:\w+_)?(?:(?:api|access|secret|subscription)_?key(?:_id)?|(?:\w+_)?token|secret|passw(?:or)?d|credentials?)"
)


def _is_credential(name: str) -> bool:
    """Return whether a field or header is a credential, by its exact name."""
    return is_credential(name) or _CREDENTIAL.fullmatch(name.replace("-", "_")) is not None


def is_secret(name: str) -> bool:
    """Return whether a field of this name contains a credential.

    >>> [is_secret(name) for name in ("api-key", "azure_ad_token", "max_tokens", "top_k")]
    [True, True, False, False]
    """
    return _SECRET.search(name.replace("-", "_")) is not None
