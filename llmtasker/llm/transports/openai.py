"""OpenAITransport: requests travel as an openai client would send them, with its auth, Azure and proxy handling."""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from ssl import SSLContext
from typing import Any
from urllib.parse import quote

import httpx2
import openai

from llmtasker.errors import CallTimeoutError, ItemError, NetworkError, snippet
from llmtasker.llm.credentials import hide_values
from llmtasker.llm.transports.blocking_client import BlockingClient
from llmtasker.llm.transports.given_client import GivenClient, prepared
from llmtasker.llm.transports.http_client import HTTPClient, broken
from llmtasker.llm.transports.network import check_certificates, proxy_for
from llmtasker.llm.transports.openai_clients import (
    AnyClient,
    CapturingTransport,
    PortableClient,
    capture,
    constant_keys_of,
    identity_of,
    is_untouched,
    keys_of,
    secrets_of,
    twin,
)
from llmtasker.portal import PerLoop, portal
from llmtasker.threads import call_in_thread
from llmtasker.wire.completion import Completion
from llmtasker.wire.error_response import read_error
from llmtasker.wire.failed_generation import failed_generation
from llmtasker.wire.prompt_request import PromptRequest
from llmtasker.wire.request import Request
from llmtasker.wire.response import read_completion

_LISTING = 5.0  # seconds to wait for an endpoint's list of models
_THREAD = "llmtasker-send"


class OpenAITransport:
    """Sends requests as an openai client would, to a named endpoint or through a given client.

    way       for                                           how
    direct    a name; a client as the SDK makes it          HTTPClient, with the client's own headers and URL
    proxied   the same, if the environment has a proxy      the SDK's `post`, over an http client with that proxy
    own       a client with an http client or hooks         the client's own `post`
    created   a client whose `create` is wrapped            the client's own `chat.completions.create`

    Connections are kept per event loop; blocking calls have their own if they are direct, and otherwise go through the
    process's portal. The calls of a given blocking client can't be interrupted: each has a thread, which is abandoned
    at the deadline and lives until the server ends its answer or is silent for the length of the timeout. Its late
    answer is discarded.
    """

    def __init__(self, client: AnyClient, *, named: bool = False, hooks: Any = None) -> None:
        self.endpoint = identity_of(client)
        self.client = client
        self._given = GivenClient(client, hooks)
        azure = isinstance(client, openai.AzureOpenAI | openai.AsyncAzureOpenAI)
        self._deployment_in_path = azure and "/deployments/" not in str(client.base_url)
        self._named = named
        self._proxy = proxy_for(str(client.base_url)) if named or is_untouched(client) else None
        if named:
            check_certificates(str(client.base_url))
        self._secrets = secrets_of(client)
        self._direct: PerLoop[HTTPClient] = PerLoop()
        self._proxied: PerLoop[openai.AsyncOpenAI] = PerLoop()
        # Open connections outlive the transport until they are closed in their own loop.
        for opened in (self._direct, self._proxied):
            weakref.finalize(self, opened.drop).atexit = False

    @property
    def timeout(self) -> float | None:
        """The seconds that a client was given for a call; None: the SDK's default."""
        given = self.client.timeout
        if self._named or given == openai.DEFAULT_TIMEOUT:
            return None
        seconds = given.read if isinstance(given, openai.Timeout) else given
        return float(seconds) if isinstance(seconds, int | float) else None

    def portable(self) -> _PortableTransport:
        """Return the transport as data, without its key.

        Raises:
            ConfigurationError: the client has parts that can't be recreated.
        """
        return _PortableTransport(PortableClient.of(self.client))

    def _is_own(self) -> bool:
        """Return whether calls go through the given client: it may be wrapped at any time."""
        return not self._named and self._given.is_changed

    def send(self, request: Request) -> Completion:
        """Send one request and wait for its answer."""
        timeout = request.settings.timeout
        if isinstance(self.client, openai.OpenAI) and self._is_own():
            try:
                sent = call_in_thread(partial(self._send_given, self.client, request), _THREAD)
                return sent.result(min(timeout, threading.TIMEOUT_MAX))
            except TimeoutError:
                raise CallTimeoutError(f"no whole answer came within {timeout:g} s") from None
        path, is_direct = self._path(request), self._proxy is None and not self._is_own()
        keys = constant_keys_of(self.client) if is_direct else None
        if keys is None:
            return portal().call(self._asend_in_time(request))
        try:
            response = self._blocking.post(
                (path, timeout, keys),
                lambda: portal().call(capture(self.client, keys, path, timeout)),
                request.content,
                timeout,
            )
        except openai.OpenAIError as error:
            return self._refused(error, request)
        return self._read(response.status, response.body, response.headers, request)

    async def _asend_in_time(self, request: Request) -> Completion:
        timeout = request.settings.timeout
        try:
            async with asyncio.timeout(timeout):
                return await self.asend(request)
        except TimeoutError:
            raise CallTimeoutError(f"no whole answer came within {timeout:g} s") from None

    async def asend(self, request: Request) -> Completion:
        """Send one request and await its answer; the caller sets the deadline."""
        client, is_own = self.client, self._is_own()
        if is_own and isinstance(client, openai.OpenAI):
            return await asyncio.wrap_future(call_in_thread(partial(self._send_given, client, request), _THREAD))
        if self._proxy is None and not is_own:
            return await self._send_directly(request)
        try:
            if is_own and isinstance(client, openai.AsyncOpenAI):
                response = await self._given.asend(client, self._path(request), request)
                return self._read(response.status, response.body, response.headers, request)
            proxied = await (await self.sdk_client()).post(self._path(request), **prepared(request))
        except openai.OpenAIError as error:
            return self._refused(error, request)
        return self._read(proxied.status_code, proxied.content, proxied.headers, request)

    def _send_given(self, client: openai.OpenAI, request: Request) -> Completion:
        try:
            response = self._given.send(client, self._path(request), request)
        except openai.OpenAIError as error:
            return self._refused(error, request)
        return self._read(response.status, response.body, response.headers, request)

    @cached_property
    def _blocking(self) -> BlockingClient:
        client = BlockingClient(self._tls)
        weakref.finalize(self, client.close)
        return client

    async def _send_directly(self, request: Request) -> Completion:
        path, timeout, loop = self._path(request), request.settings.timeout, asyncio.get_running_loop()
        keys = constant_keys_of(self.client) or await keys_of(self.client)
        direct = self._direct.opened.get(loop) or await self._direct.add(loop, HTTPClient(self._tls))
        try:
            response = await direct.post(
                (path, timeout, keys), partial(capture, self.client, keys, path, timeout), request.content
            )
        except openai.OpenAIError as error:
            return self._refused(error, request)
        return self._read(response.status, response.body, response.headers, request)

    @cached_property
    def _tls(self) -> SSLContext | None:
        # As the SDK makes it, with SSL_CERT_FILE and SSL_CERT_DIR.
        return httpx2.create_ssl_context() if self.client.base_url.scheme == "https" else None

    def _path(self, request: Request) -> str:
        if isinstance(request, PromptRequest):
            return "/completions"
        # The SDK takes Azure's deployment from a JSON body; with prepared bytes it must be in the path.
        if self._deployment_in_path:
            return f"/deployments/{quote(str(request.settings.body['model']), safe='')}/chat/completions"
        return "/chat/completions"

    def _read(self, status: int, body: bytes, headers: Mapping[str, str], request: Request) -> Completion:
        try:
            if not 200 <= status < 300:
                if (answer := failed_generation(status, body)) is not None:
                    return answer
                raise read_error(status, body, headers, request)
            kind = headers.get("content-type")
            return read_completion(body, content_type=kind, headers=headers, request=request, status=status)
        except ItemError as error:
            raise hide_values(error, self._secrets) from None

    def _refused(self, error: openai.OpenAIError, request: Request) -> Completion:
        """Return the answer in a refusal; raise our error if there is none."""
        if isinstance(error, openai.APIStatusError):
            answer = failed_generation(error.status_code, error.response.content)
            if answer is not None:
                return answer
        raise self.mapped(error, request) from None

    def mapped(self, error: openai.OpenAIError, request: Request | None = None) -> ItemError:
        """Return our error for an error of the SDK, with little of its text, because that may contain a URL."""
        if isinstance(error, openai.APIStatusError):
            found = read_error(error.status_code, error.response.content, error.response.headers, request)
            return hide_values(found, self._secrets)
        if isinstance(error, openai.APITimeoutError):
            return CallTimeoutError("no whole answer came in time")
        found = broken(error)
        if self._proxy is not None and isinstance(found, NetworkError):
            found = NetworkError(f"{found.message}. The environment names a proxy, which may be the reason")
        return hide_values(found, self._secrets)

    async def sdk_client(self) -> openai.AsyncOpenAI:
        """Return an async client of the SDK for the running loop: the given one, or an equal one."""
        client = self.client
        if isinstance(client, openai.AsyncOpenAI) and self._is_own():
            return client  # the caller's own: never closed here
        loop = asyncio.get_running_loop()
        made = self._proxied.opened.get(loop)
        if made is None:
            # A redirect would send the text elsewhere, along with Azure's key.
            http_client = openai.DefaultAsyncHttpxClient(
                proxy=self._proxy, trust_env=False, verify=self._tls or True, follow_redirects=False
            )
            made = await self._proxied.add(loop, twin(client, await keys_of(client), http_client))
        keys = await keys_of(client)
        made.api_key = keys.api_key
        return made

    def blocking_client(self) -> openai.OpenAI | None:
        """Return the given blocking client, without its own retries, if it is used itself; otherwise None."""
        if isinstance(self.client, openai.OpenAI) and self._is_own():
            return self.client.with_options(max_retries=0)
        return None

    def models(self) -> list[str]:
        """Return the names of the models that the endpoint lists.

        Raises:
            ItemError: the endpoint has no such list, or can't be reached.
        """
        return portal().call(self._models())

    async def _models(self) -> list[str]:
        try:
            if (client := self.blocking_client()) is not None:
                listing = call_in_thread(client.with_options(timeout=_LISTING).models.list, _THREAD)
                page = await asyncio.wait_for(asyncio.wrap_future(listing), _LISTING)
                return [model.id for model in page.data]
            ours = (await self.sdk_client()).with_options(timeout=_LISTING, max_retries=0)
            return [model.id for model in (await ours.models.list()).data]
        except openai.OpenAIError as error:
            raise self.mapped(error) from None
        except TimeoutError:
            raise CallTimeoutError(f"no list of models came within {_LISTING:g} s") from None
        except (TypeError, AttributeError) as error:
            raise NetworkError(f"the endpoint's list of models can't be read: {snippet(error)}") from None

    def close(self) -> None:
        """Close the connections that blocking calls opened."""
        if "_blocking" in vars(self):
            self._blocking.close()
        portal().call(self.aclose())

    async def aclose(self) -> None:
        """Close the connections that were opened in the running event loop."""
        loop = asyncio.get_running_loop()
        await self._direct.close(loop)
        await self._proxied.close(loop)


@dataclass(frozen=True, slots=True)
class _PortableTransport:
    client: PortableClient

    def make(self) -> OpenAITransport:
        return OpenAITransport(self.client.client())


def connect(
    base_url: str, api_key: str, headers: Mapping[str, str] | None, *, is_openai: bool = False
) -> OpenAITransport:
    """Return the transport to an endpoint that speaks the OpenAI protocol; `is_openai` if it was named as OpenAI."""
    sent: dict[str, Any] = dict(headers or {})
    if not is_openai:
        # The SDK takes these from OPENAI_* variables: they are meant for OpenAI only.
        lines = os.environ.get("OPENAI_CUSTOM_HEADERS", "").splitlines()
        names = {"OpenAI-Organization", "OpenAI-Project", *(line.partition(":")[0].strip() for line in lines)}
        sent = {**dict.fromkeys(names - {""}, openai.Omit()), **sent}
    client = openai.AsyncOpenAI(base_url=base_url, api_key=api_key, default_headers=sent, http_client=_unconnected())
    return OpenAITransport(client, named=True)


def connect_azure(
    endpoint: str, api_key: str | None, api_version: str, headers: Mapping[str, str] | None
) -> OpenAITransport:
    """Return the transport to an Azure resource; without a key, the SDK reads the environment."""
    client = openai.AsyncAzureOpenAI(
        azure_endpoint=endpoint,
        api_key=api_key,
        api_version=api_version,
        default_headers=headers,
        http_client=_unconnected(),
    )
    return OpenAITransport(client, named=True)


def _unconnected() -> httpx2.AsyncClient:
    """Return an http client that never connects: the SDK's default would read proxies that don't apply."""
    return httpx2.AsyncClient(transport=CapturingTransport(), trust_env=False)
