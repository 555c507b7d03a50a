"""openai clients: whether they are as the SDK makes them, what they send, and how to recreate them."""

# pyright: reportPrivateUsage=false
# The SDK has no public names for a client's arguments; tests pin each private one.

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from hashlib import sha256
from types import FunctionType, MethodType
from typing import Any, NamedTuple, cast

import httpx2
import openai

from llmtasker.errors import ConfigurationError
from llmtasker.llm.credentials import is_credential, is_credential_parameter, may_be_credential
from llmtasker.llm.transports.http_client import RequestTemplate
from llmtasker.values.json_values import canonical_json
from llmtasker.values.lazy_pattern import lazy_pattern

AnyClient = openai.OpenAI | openai.AsyncOpenAI

# The http clients that the SDK creates by default.
_DEFAULT_HTTP = frozenset({"SyncHttpxClientWrapper", "AsyncHttpxClientWrapper"})
_KINDS = (openai.OpenAI, openai.AsyncOpenAI, openai.AzureOpenAI, openai.AsyncAzureOpenAI)
_PLAIN: dict[str, type[AnyClient]] = {kind.__name__: kind for kind in _KINDS}
# Headers that describe the SDK and the connection, not the request.
_INCIDENTAL = lazy_pattern(
    r"accept(?:-encoding)?|connection|content-type|host|user-agent|idempotency-key|x-stainless-.*"
)


def is_plain(client: AnyClient) -> bool:
    """Return whether an equal client can be created: its class and http client are the SDK's own."""
    return (
        type(client) in _KINDS
        and type(client._client).__name__ in _DEFAULT_HTTP
        and client.workload_identity is None
        and client._provider is None
    )


def is_untouched(client: AnyClient) -> bool:
    """Return whether a client sends what the SDK sends: no hooks, and no method of it or of its classes is replaced."""
    hooks = client._client.event_hooks
    return is_plain(client) and not any(hooks.values()) and creates_itself(client) and not any(_replaced(client))


def creates_itself(client: AnyClient) -> bool:
    """Return whether `chat.completions.create` is the SDK's own function, not a wrapper around it."""
    return _is_of(client.chat.completions, "create", "openai")


_OWN = ("post", "request", "_request", "_prepare_options", "_prepare_request", "_build_request")


def _replaced(client: AnyClient) -> Iterator[bool]:
    yield from (not _is_of(client, name, "openai") for name in _OWN)
    yield from (not _is_of(client._client, name, "httpx2") for name in ("send", "request", "build_request"))


def _is_of(thing: object, name: str, package: str) -> bool:
    """Return whether a method is defined in a package; wrappers may copy everything of a function but type and code."""
    method = getattr(thing, name, None)
    if not isinstance(method, MethodType) or type(method.__func__) is not FunctionType:
        return method is None
    return f"/{package}/" in method.__func__.__code__.co_filename.replace("\\", "/")


def endpoint_of(client: AnyClient) -> str:
    """Return scheme, host and path of a client's base URL: no user name, password or query."""
    url = client.base_url
    port = f":{url.port}" if url.port else ""
    host = f"[{url.host}]" if ":" in url.host else url.host
    return f"{url.scheme}://{host}{port}{url.path.rstrip('/')}"


def identity_of(client: AnyClient) -> str:
    """Return the endpoint with a hash of everything else that is sent with each call and can change the answer.

    These are the headers and the query, of the client and of its http client, without credentials.
    """
    headers: dict[str, str] = {}
    query: dict[str, str] = {}
    for found in (client._client.headers, client.default_headers):
        headers |= {name.lower(): value for name, value in found.items() if isinstance(value, str)}
    for pairs in (client.base_url.params, client._client.params, client.default_query):
        query |= {str(name): str(value) for name, value in dict(pairs).items()}
    sent = [
        sorted(
            [name, value]
            for name, value in headers.items()
            if not _INCIDENTAL.fullmatch(name) and not is_credential(name)
        ),
        sorted([name, value] for name, value in query.items() if not is_credential_parameter(name)),
    ]
    mark = f" sent:{sha256(canonical_json(sent).encode()).hexdigest()[:16]}" if any(sent) else ""
    return endpoint_of(client) + mark


def secrets_of(client: AnyClient) -> list[str]:
    """Return the values that must not be shown: keys, credential headers and parameters, and the password."""
    given = cast("Mapping[str, object]", client._custom_headers)  # an omitted one is a marker object of the SDK
    headers = {name: value for name, value in given.items() if isinstance(value, str)}
    found = [client.api_key, getattr(client, "_azure_ad_token", None), client.base_url.password]
    found += [value for name, value in headers.items() if may_be_credential(name, value)]
    found += [str(value) for name, value in client._custom_query.items() if is_credential_parameter(name)]
    found += [value for name, value in client.base_url.params.items() if is_credential_parameter(name)]
    return [secret for secret in found if secret]


# ── what a client sends ──


class Keys(NamedTuple):
    """The credentials of one call: the key and, for Azure, possibly a token."""

    api_key: str
    ad_token: str | None

    def __repr__(self) -> str:
        return "Keys()"


def constant_keys_of(client: AnyClient) -> Keys | None:
    """Return the credentials of every call; None: the client has a function that returns them."""
    if client._api_key_provider is not None or getattr(client, "_azure_ad_token_provider", None) is not None:
        return None
    return Keys(client.api_key, getattr(client, "_azure_ad_token", None))


async def keys_of(client: AnyClient) -> Keys:
    """Return the credentials of the next call, from the client's functions for them, if any."""
    key, token = client.api_key, getattr(client, "_azure_ad_token", None)
    if client._api_key_provider is not None:
        key = await _call(client._api_key_provider)
    if (provider := getattr(client, "_azure_ad_token_provider", None)) is not None:
        token = await _call(provider)
    return Keys(key, token)


async def _call(provider: Callable[[], Any]) -> str:
    # Fetching a key may be slow, so it runs in a thread; an async function runs in the loop.
    value = provider() if inspect.iscoroutinefunction(provider) else await asyncio.to_thread(provider)
    return str(await value if inspect.isawaitable(value) else value)


def twin(client: AnyClient, keys: Keys, http_client: httpx2.AsyncClient) -> openai.AsyncOpenAI:
    """Return an async client for the same endpoint with these credentials, over another http client."""
    shared: dict[str, Any] = {
        "base_url": client.base_url,
        "organization": client.organization,
        "project": client.project,
        "default_headers": client._custom_headers,
        "default_query": client._custom_query,
        "http_client": http_client,
        "max_retries": 0,
    }
    if not isinstance(client, openai.AzureOpenAI | openai.AsyncAzureOpenAI):
        return openai.AsyncOpenAI(api_key=keys.api_key, **shared)
    return openai.AsyncAzureOpenAI(
        api_key=keys.api_key, api_version=client._api_version, azure_ad_token=keys.ad_token, **shared
    )


_is_capturing: ContextVar[bool] = ContextVar("_is_capturing", default=False)


def _was_sent(record: logging.LogRecord) -> bool:
    """Return whether a logged request was sent: a captured one has a URL whose query may contain a credential."""
    return not _is_capturing.get()


for _name in ("httpx2", "openai._base_client"):
    logging.getLogger(_name).addFilter(_was_sent)


class CapturingTransport(httpx2.AsyncBaseTransport):
    """Sends nothing and keeps the request as the SDK built it."""

    request: httpx2.Request

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Keep the request, and respond with an empty object."""
        self.request = request
        return httpx2.Response(200, json={})


async def capture(client: AnyClient, keys: Keys, path: str, timeout: float) -> RequestTemplate:  # noqa: ASYNC109 - nothing is waited for
    """Return the template of a client's calls to a path: its twin makes one call, and nothing is sent.

    Raises:
        openai.OpenAIError: the client can't make a request.
    """
    capturing = CapturingTransport()
    async with httpx2.AsyncClient(transport=capturing, trust_env=False) as http_client:
        _is_capturing.set(True)
        try:
            await twin(client, keys, http_client).post(
                path, cast_to=httpx2.Response, content=b"", options={"timeout": timeout, "max_retries": 0}
            )
        finally:
            _is_capturing.set(False)
        # Headers that httpx2 adds about itself, unless the caller sets them.
        own = {(name, http_client.headers[name]) for name in ("accept-encoding", "connection")}
        added = {("content-length", "0"), *own}
    return RequestTemplate(
        url=str(capturing.request.url.copy_with(userinfo=b"")),
        headers=[pair for pair in capturing.request.headers.multi_items() if pair not in added],
        server_name=capturing.request.extensions.get("sni_hostname"),
        timeout=timeout,
    )


# ── to other processes ──


@dataclass(frozen=True, slots=True)
class PortableClient:
    """The arguments of a client, without its key, which the SDK reads from the environment of the other process."""

    kind: str
    options: Mapping[str, Any]

    @classmethod
    def of(cls, client: AnyClient) -> PortableClient:
        """Return the arguments of a client.

        Raises:
            ConfigurationError: it has parts that can't be recreated, such as its own http client.
        """
        headers = {str(name): value for name, value in client._custom_headers.items()}
        hidden = [name for name, value in headers.items() if may_be_credential(name, str(value))]
        hidden += [name for name in (*client._custom_query, *client.base_url.params) if is_credential_parameter(name)]
        keys = client._api_key_provider or getattr(client, "_azure_ad_token_provider", None)
        if not is_untouched(client) or keys or hidden:
            what = "a function for its key" if keys else f"the credential {hidden[0]}" if hidden else "parts of its own"
            raise ConfigurationError(
                f"an LLM of this {type(client).__name__} can't go to another process: the client has {what}, which "
                'can\'t be sent. Make the LLM there, or name the endpoint: LLM("openai/…").'
            )
        options = {
            "base_url": str(client.base_url.copy_with(userinfo=b"")),
            "organization": client.organization,
            "project": client.project,
            "timeout": client.timeout,
            "max_retries": client.max_retries,
            "default_headers": headers,
            "default_query": dict(client._custom_query),
        }
        if isinstance(client, openai.AzureOpenAI | openai.AsyncAzureOpenAI):
            options["api_version"] = client._api_version
        return cls(type(client).__name__, options)

    def client(self) -> AnyClient:
        """Return a new client.

        Raises:
            ConfigurationError: the environment has no key.
        """
        try:
            return _PLAIN[self.kind](**self.options)
        except openai.OpenAIError as error:
            raise ConfigurationError(f"the client can't be made in this process: {error}") from None
