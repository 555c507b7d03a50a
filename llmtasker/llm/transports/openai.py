"""The only file that imports openai: requests travel through its clients, with its auth, Azure and proxy handling."""

# pyright: reportPrivateUsage=false
# What the SDK has no public name for is read in a few places; tests pin each.

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from functools import cached_property
from ssl import SSLContext
from typing import Any, Generic, Protocol, TypeVar
from urllib.parse import quote
from urllib.request import getproxies, proxy_bypass

import httpx2
import openai

from llmtasker.errors import CallTimeoutError, ItemError, NetworkError, snippet
from llmtasker.llm.transports.http_client import Form, Line, broken, timed_out
from llmtasker.llm.transports.openai_clients import AnyClient, PortableClient, is_plain
from llmtasker.threads import portal
from llmtasker.wire.completion import Completion
from llmtasker.wire.error_response import read_error
from llmtasker.wire.request import Request
from llmtasker.wire.response import read_completion

_LISTING = 5.0  # seconds to wait for an endpoint's list of models


class OpenAITransport:
    """Sends requests as an openai client would, with prepared bytes and without its response models.

    The usual client is asked once what it sends; from then on a `Line` sends the same, straight over aiohttp.
    With credentials that change (a key provider, Azure AD tokens) or a proxy, each call goes through the SDK's
    `post`, over its own aiohttp client. A client that was given with an http client of its own (proxy,
    certificates) is used as it is. Connections are kept for each event loop; blocking calls go through the
    process's portal.

    A blocking client with an http client of its own can't be broken off. Each of its calls has a thread, which is left
    behind at the deadline: it and its connection are held until the server ends its answer or falls silent for the
    length of the timeout. What comes then is thrown away, and the process may end before.
    """

    def __init__(self, client: AnyClient) -> None:
        self.endpoint = endpoint_of(client)
        self._client = client
        self._deployment_in_path = _wants_deployment(client)
        self._own_http = not is_plain(client)
        self._direct = not self._own_http and _is_constant(client) and not _is_proxied(client.base_url)
        self._lines: _PerLoop[Line] = _PerLoop()
        self._clients: _PerLoop[openai.AsyncOpenAI] = _PerLoop()
        # What is open outlives the transport for as long as it takes to close it in its own loop.
        for opened in (self._lines, self._clients):
            weakref.finalize(self, opened.drop).atexit = False

    def portable(self) -> _Portable:
        """Return the transport as data, without its key.

        Raises:
            ConfigurationError: the client has parts that can't be made again.
        """
        return _Portable(PortableClient.of(self._client))

    def send(self, request: Request) -> Completion:
        """Send one request and wait for its answer."""
        if self._own_http and isinstance(self._client, openai.OpenAI):
            timeout = request.settings.timeout
            try:
                sent = _in_own_thread(lambda: self._send_blocking(request))
                return sent.result(min(timeout, threading.TIMEOUT_MAX))
            except TimeoutError:
                raise CallTimeoutError(f"no whole answer came within {timeout:g} s") from None
        return portal().call(self._asend_in_time(request))

    async def _asend_in_time(self, request: Request) -> Completion:
        timeout = request.settings.timeout
        try:
            async with asyncio.timeout(timeout):
                return await self.asend(request)
        except TimeoutError:
            raise CallTimeoutError(f"no whole answer came within {timeout:g} s") from None

    async def asend(self, request: Request) -> Completion:
        """Send one request and await its answer; the caller sets the deadline."""
        if self._direct:
            return await self._send_directly(request)
        if self._own_http and isinstance(self._client, openai.OpenAI):
            return await asyncio.wrap_future(_in_own_thread(lambda: self._send_blocking(request)))
        client = await self._async_client()
        try:
            response = await client.post(
                self._path(request),
                cast_to=httpx2.Response,
                content=request.content,
                options={"timeout": request.settings.timeout, "max_retries": 0},
            )
        except openai.OpenAIError as error:
            raise _mapped(error) from None
        return _read(response)

    async def _send_directly(self, request: Request) -> Completion:
        path, timeout, key = self._path(request), request.settings.timeout, self._client.api_key

        loop = asyncio.get_running_loop()
        line = self._lines.get(loop) or await self._lines.add(loop, Line(self._tls))
        return await line.post((path, timeout, key), lambda: _form(self._client, path, timeout), request.content)

    @cached_property
    def _tls(self) -> SSLContext | None:
        # As the SDK makes it: SSL_CERT_FILE and SSL_CERT_DIR count.
        return httpx2.create_ssl_context() if self._client.base_url.scheme == "https" else None

    def _send_blocking(self, request: Request) -> Completion:
        client = self._client
        assert isinstance(client, openai.OpenAI)  # noqa: S101 - both callers have looked
        try:
            response = client.post(
                self._path(request),
                cast_to=httpx2.Response,
                content=request.content,
                options={"timeout": request.settings.timeout, "max_retries": 0},
            )
        except openai.OpenAIError as error:
            raise _mapped(error) from None
        return _read(response)

    def _path(self, request: Request) -> str:
        # The SDK takes Azure's deployment from a JSON body; with prepared bytes it must stand in the path.
        if self._deployment_in_path:
            return f"/deployments/{quote(str(request.settings.body['model']), safe='')}/chat/completions"
        return "/chat/completions"

    async def _async_client(self) -> openai.AsyncOpenAI:
        client = self._client
        if self._own_http and isinstance(client, openai.AsyncOpenAI):
            return client  # the caller's own: never closed here
        loop = asyncio.get_running_loop()
        return self._clients.get(loop) or await self._clients.add(loop, _async_twin(client, _aiohttp_client()))

    def models(self) -> list[str]:
        """Return the names of the models that the endpoint lists.

        Raises:
            ItemError: it has no such list, or can't be reached.
        """
        return portal().call(self._models())

    async def _models(self) -> list[str]:
        client = self._client
        try:
            if self._own_http and isinstance(client, openai.OpenAI):
                listing = _in_own_thread(client.with_options(timeout=_LISTING, max_retries=0).models.list)
                page = await asyncio.wait_for(asyncio.wrap_future(listing), _LISTING)
                return [model.id for model in page.data]
            ours = (await self._async_client()).with_options(timeout=_LISTING, max_retries=0)
            return [model.id for model in (await ours.models.list()).data]
        except openai.OpenAIError as error:
            raise _mapped(error) from None
        except TimeoutError:
            raise CallTimeoutError(f"no list of models came within {_LISTING:g} s") from None
        except (TypeError, AttributeError) as error:
            raise NetworkError(f"the endpoint's list of models can't be read: {snippet(error)}") from None

    def close(self) -> None:
        """Close the connections that blocking calls opened."""
        portal().call(self.aclose())

    async def aclose(self) -> None:
        """Close the connections that were opened in the running event loop."""
        loop = asyncio.get_running_loop()
        await self._lines.close(loop)
        await self._clients.close(loop)


@dataclass(frozen=True, slots=True)
class _Portable:
    client: PortableClient

    def make(self) -> OpenAITransport:
        return OpenAITransport(self.client.client())


R = TypeVar("R")


def _in_own_thread(call: Callable[[], R]) -> Future[R]:
    """Begin a call that can't be broken off in a thread of its own.

    In a pool, those that were given up would take the places of others, and the process would wait for them to end.
    """
    future: Future[R] = Future()
    future.set_running_or_notify_cancel()  # from here on whoever waits may leave, and nothing else changes
    context = contextvars.copy_context()

    def work() -> None:
        try:
            result = context.run(call)
        except BaseException as error:  # noqa: BLE001 - for whoever waits, as a pool does it
            future.set_exception(error)
        else:
            future.set_result(result)

    threading.Thread(target=work, name="llmtasker-send", daemon=True).start()
    return future


class _Closable(Protocol):
    async def close(self) -> None: ...


C = TypeVar("C", bound=_Closable)


class _PerLoop(Generic[C]):
    """One of a kind for each event loop, closed in its loop when that shuts down or nobody needs it any more."""

    def __init__(self) -> None:
        self._open: dict[asyncio.AbstractEventLoop, tuple[C, AsyncGenerator[None]]] = {}

    def get(self, loop: asyncio.AbstractEventLoop) -> C | None:
        found = self._open.get(loop)
        return found[0] if found else None

    async def add(self, loop: asyncio.AbstractEventLoop, opened: C) -> C:
        keeper = self._keep(loop, opened)
        self._open[loop] = opened, keeper
        await anext(keeper)
        return opened

    async def _keep(self, loop: asyncio.AbstractEventLoop, opened: C) -> AsyncGenerator[None]:
        # asyncio ends every open async generator before it closes a loop: so this one hears of it in time.
        try:
            yield
        finally:
            self._open.pop(loop, None)
            await opened.close()

    async def close(self, loop: asyncio.AbstractEventLoop) -> None:
        if loop in self._open:
            await self._open[loop][1].aclose()

    def drop(self) -> None:
        for loop, (_, keeper) in list(self._open.items()):
            if not loop.is_closed():
                asyncio.run_coroutine_threadsafe(keeper.aclose(), loop)


def _read(response: httpx2.Response) -> Completion:
    return read_completion(
        response.content, content_type=response.headers.get("content-type"), headers=response.headers
    )


def _mapped(error: openai.OpenAIError) -> ItemError:
    """Return our error for one of the SDK's; the text of an exception may hold a URL, so little of it is taken."""
    if isinstance(error, openai.APIStatusError):
        return read_error(error.status_code, error.response.content, error.response.headers)
    if isinstance(error, openai.APITimeoutError) and timed_out(error):
        return CallTimeoutError("no whole answer came in time")
    return broken(error)


def connect(
    base_url: str, api_key: str, headers: Mapping[str, str] | None, *, is_openai: bool = False
) -> OpenAITransport:
    """Return the transport to an endpoint that speaks the OpenAI protocol; `is_openai` if it was named as OpenAI."""
    sent: dict[str, Any] = dict(headers or {})
    if not is_openai:
        # The SDK takes these from OPENAI_* variables: they are meant for OpenAI, and told to nobody else.
        lines = os.environ.get("OPENAI_CUSTOM_HEADERS", "").splitlines()
        names = {"OpenAI-Organization", "OpenAI-Project", *(line.partition(":")[0].strip() for line in lines)}
        sent = {**dict.fromkeys(names - {""}, openai.Omit()), **sent}
    return OpenAITransport(openai.AsyncOpenAI(base_url=base_url, api_key=api_key, default_headers=sent))


def connect_azure(
    endpoint: str, api_key: str | None, api_version: str, headers: Mapping[str, str] | None
) -> OpenAITransport:
    """Return the transport to an Azure resource; without a key, the SDK looks in the environment."""
    return OpenAITransport(
        openai.AsyncAzureOpenAI(
            azure_endpoint=endpoint, api_key=api_key, api_version=api_version, default_headers=headers
        )
    )


def _is_constant(client: AnyClient) -> bool:
    """Return whether all calls have the same credentials."""
    return client._api_key_provider is None and getattr(client, "_azure_ad_token_provider", None) is None


def _is_proxied(url: httpx2.URL) -> bool:
    """Return whether the environment names a proxy for this URL."""
    proxies = getproxies()
    if not (proxies.get(url.scheme) or proxies.get("all")):
        return False
    return not proxy_bypass(url.host if url.port is None else f"{url.host}:{url.port}")


def _wants_deployment(client: AnyClient) -> bool:
    azure = isinstance(client, openai.AzureOpenAI | openai.AsyncAzureOpenAI)
    return azure and "/deployments/" not in str(client.base_url)


def _aiohttp_client() -> httpx2.AsyncClient:
    # A redirect would take the text elsewhere, and the key of Azure with it.
    return openai.DefaultAioHttpClient(follow_redirects=False)


def _async_twin(client: AnyClient, http_client: httpx2.AsyncClient) -> openai.AsyncOpenAI:
    """Return an async client with the same endpoint and credentials, over another http client."""
    if isinstance(client, openai.AsyncOpenAI):
        return client.copy(http_client=http_client)
    shared: dict[str, Any] = {
        "base_url": client.base_url,
        "organization": client.organization,
        "project": client.project,
        "default_headers": client._custom_headers,
        "default_query": client._custom_query,
        "http_client": http_client,
    }
    key = client.api_key if client._api_key_provider is None else _in_a_thread(client._api_key_provider)
    if not isinstance(client, openai.AzureOpenAI):
        return openai.AsyncOpenAI(api_key=key, **shared)
    return openai.AsyncAzureOpenAI(
        api_key=key,
        api_version=client._api_version,
        azure_ad_token=client._azure_ad_token,
        azure_ad_token_provider=_in_a_thread(tokens) if (tokens := client._azure_ad_token_provider) else None,
        **shared,
    )


class _Witness(httpx2.AsyncBaseTransport):
    """Sends nothing and keeps the request, as the SDK has built it."""

    request: httpx2.Request

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self.request = request
        return httpx2.Response(200, json={})


async def _form(client: AnyClient, path: str, timeout: float) -> Form:  # noqa: ASYNC109 - nothing is waited for
    """Return what a client sends with each call to a path: its twin makes one, and nothing leaves."""
    witness = _Witness()
    async with httpx2.AsyncClient(transport=witness) as http_client:
        try:
            await _async_twin(client, http_client).post(
                path, cast_to=httpx2.Response, content=b"", options={"timeout": timeout, "max_retries": 0}
            )
        except openai.OpenAIError as error:
            raise _mapped(error) from None
        # What httpx2 says of itself, unless the caller says it: aiohttp has its own to say.
        said = {("content-length", "0")} | {
            (name, http_client.headers[name]) for name in ("accept-encoding", "connection")
        }
    return Form(
        # aiohttp takes no user name in a URL besides the header that came of it.
        url=str(witness.request.url.copy_with(userinfo=b"")),
        headers=[(name, value) for name, value in witness.request.headers.multi_items() if (name, value) not in said],
        server_name=witness.request.extensions.get("sni_hostname"),
        timeout=timeout,
    )


def _in_a_thread(provider: Callable[[], str]) -> Callable[[], Awaitable[str]]:
    """Return the async form of a function that may take its time to fetch a key."""

    async def fetch() -> str:
        return await asyncio.to_thread(provider)

    return fetch


def endpoint_of(client: AnyClient) -> str:
    """Return scheme, host and path of a client's base URL: no user name, password or query."""
    url = client.base_url
    port = f":{url.port}" if url.port else ""
    return f"{url.scheme}://{url.host}{port}{url.path.rstrip('/')}"
