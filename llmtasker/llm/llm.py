"""LLM: a named endpoint with its settings, cache and pace."""

from __future__ import annotations

import inspect
import math
import os
import re
import threading
import weakref
from collections.abc import Callable, Mapping
from functools import cached_property
from hashlib import sha256
from numbers import Real
from typing import Any, Self

from llmtasker.cache import Store, open_cache
from llmtasker.cache.single_flight import SingleFlight
from llmtasker.errors import ConfigurationError, ItemError
from llmtasker.llm.capabilities import Capabilities
from llmtasker.llm.costs import Prices, TokenMeter, listed_cost
from llmtasker.llm.limits import RateLimit, Retry
from llmtasker.llm.names import parse_name
from llmtasker.llm.rate_limiter import RateLimiter
from llmtasker.values.json_values import canonical_json
from llmtasker.wire.completion import Usage
from llmtasker.wire.request import Settings, Transport


class LLM:
    """A language model at an endpoint, with the settings that every call has.

    Tasks that share an LLM share its cache, its pace and its connections.

    Args:
        model: "openai/…", "azure/<deployment>", "ollama/…", "vllm/…", "http://host:port/v1#model", "offline";
            or the name of the model alone, where `base_url`, `client` or `transport` says where it is.
        base_url: the endpoint, up to and including "/v1".
        api_key: its key; else from OPENAI_API_KEY, AZURE_OPENAI_API_KEY or LLMTASKER_API_KEY (other endpoints).
        client: an OpenAI, AsyncOpenAI, AzureOpenAI or instructor client to send with.
        transport: any other Transport.
        temperature, top_p, seed, stop: sent as they are; None: not sent.
        max_tokens: the most tokens of an answer; None: the endpoint's own limit.
        timeout: seconds for a whole call, from the first byte out to the last byte in.
        headers: HTTP headers of every call. At a gateway they may choose the model: those whose names don't sound like
            credentials (authorization, cookie, …key, …token, …secret) are part of the cache key, as a hash.
        extra_body: more fields of the request body.
        cache: True (the user's cache folder), False, a folder, or a store with `get` and `put`; None: True, but for
            a transport that says `cacheable = False`, as the test doubles do.
        rate_limit: what the endpoint allows per minute; None: learned from its answers.
        max_concurrency: calls in flight at most, over all tasks and threads.
        retry: how calls that failed for now are repeated.
        prices: own prices; None: the list of genai-prices (extra `[prices]`).

    Raises:
        ConfigurationError: the model or its endpoint can't be made out, or a key is missing.

    >>> LLM("offline")
    LLM('built-in baseline, no language model')
    """

    def __init__(
        self,
        model: str | None = None,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        api_version: str | None = None,
        client: Any = None,
        transport: Transport | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
        top_p: float | None = None,
        seed: int | None = None,
        stop: str | list[str] | None = None,
        timeout: float = 60.0,
        headers: Mapping[str, str] | None = None,
        extra_body: Mapping[str, Any] | None = None,
        cache: bool | str | os.PathLike[str] | Store | None = None,
        rate_limit: RateLimit | None = None,
        max_concurrency: int | None = None,
        retry: Retry | None = None,
        prices: Prices | None = None,
    ) -> None:
        _check_timeout(timeout)
        sent = {"temperature": temperature, "top_p": top_p, "seed": seed, "stop": stop}
        self._fields = {name: value for name, value in sent.items() if value is not None}
        self._fields |= dict(sorted((extra_body or {}).items()))
        _check_fields(self._fields)
        self.max_tokens = max_tokens
        self._timeout = timeout
        self._headers = {name: value for name, value in (headers or {}).items() if not _CREDENTIAL.search(name)}
        self._cache_given = cache
        self._cache = getattr(transport, "cacheable", True) if cache is None else cache
        self._prices = prices
        self._lock = threading.Lock()
        self._transport: Transport | None = None
        self.rate_limiter = RateLimiter(rate_limit, max_concurrency=max_concurrency)
        self.retry = retry or Retry()
        self.capabilities = Capabilities()
        self.tokens = TokenMeter()
        self.single_flight: SingleFlight[Any] = SingleFlight()
        if transport is not None:
            self._model: str | None = model or getattr(transport, "model", None) or "default"
            self._connect: Callable[[], Transport] = lambda: transport
        elif client is not None:
            self._model, self._connect = _of_client(model or os.environ.get("LLMTASKER_MODEL"), client)
        else:
            self._model, self._connect = parse_name(
                model or os.environ.get("LLMTASKER_LLM", ""), base_url, api_key, api_version, headers
            )
        _llms.add(self)  # last: a fork meets no half-made one

    @classmethod
    def of(cls, llm: Any = None, **settings: Any) -> LLM:
        """Return an LLM for whatever names or is one; `settings` as in `LLM(...)`.

        `llm` is an LLM, a name, an OpenAI, AsyncOpenAI, AzureOpenAI or instructor client, a LangChain chat model,
        a Transport, or None for what LLMTASKER_LLM names.

        Raises:
            ConfigurationError: it is none of these, or not enough to go by.
        """
        if isinstance(llm, LLM):
            if settings:
                raise ConfigurationError("this is an LLM already: give its settings where it is made.")
            return llm
        if llm is None or isinstance(llm, str):
            return cls(llm, **settings)
        if _descends(llm, "langchain_core", "BaseChatModel"):
            from llmtasker.llm.transports.langchain import LangChainTransport

            return cls(transport=LangChainTransport(llm), **settings)
        if isinstance(llm, Transport):
            return cls(transport=llm, **settings)
        return cls(client=llm, **settings)

    def at(self, name: str) -> LLM:
        """Return an LLM with another model and place, named as in `LLM(name)`, and the settings of this one.

        Credentials stay behind: the key, and headers whose names sound like one.

        >>> LLM("ollama/qwen3", temperature=0.2, cache=False).at("vllm/org/model").settings.body
        {'model': 'org/model', 'temperature': 0.2}
        """
        moved = LLM(
            name,
            max_tokens=self.max_tokens,
            timeout=self._timeout,
            headers=self._headers,
            cache=self._cache_given,
            rate_limit=self.rate_limiter.limit,
            max_concurrency=self.rate_limiter.max_concurrency,
            retry=self.retry,
            prices=self._prices,
        )
        moved._fields = self._fields
        return moved

    @property
    def transport(self) -> Transport:
        """The way to the endpoint; connected at first use."""
        if self._transport is None:
            with self._lock:
                if self._transport is None:  # another thread may have been first
                    self._transport = self._connect()
        return self._transport

    @cached_property
    def model(self) -> str:
        """The name of the model; of a client that was given without one, the only one that its endpoint lists.

        Raises:
            ConfigurationError: the endpoint lists several.
        """
        return self._model or _only_model(self.transport)

    @cached_property
    def settings(self) -> Settings:
        """What every request of this LLM has."""
        return Settings(
            endpoint=self.transport.endpoint + _mark(self._headers),
            body={"model": self.model, **self._fields},
            limits={} if self.max_tokens is None else {"max_tokens": self.max_tokens},
            timeout=self._timeout,
        )

    @cached_property
    def store(self) -> Store | None:
        """The cache; None: there is none."""
        return open_cache(self._cache)

    @cached_property
    def _price(self) -> Callable[[Usage], float | None]:
        return self._prices.cost if self._prices else listed_cost(self.transport.endpoint, self.model)

    def cost(self, usage: Usage) -> float | None:
        """Return what some tokens cost in US dollars (or in the currency of own prices); None: unknown."""
        return self._price(usage)

    def close(self) -> None:
        """Close the connections that blocking calls opened."""
        self.transport.close()

    async def aclose(self) -> None:
        """Close the connections that were opened in the running event loop."""
        await self.transport.aclose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        # Never the base URL as it was given: it may hold a password.
        return f"LLM({self._model!r})" if self._model else "LLM(client=…)"


_llms: weakref.WeakSet[LLM] = weakref.WeakSet()


def _after_fork() -> None:
    """Let a forked child begin anew: the calls under way, and the locks of those that make them, are its parent's."""
    for llm in list(_llms):
        llm.rate_limiter = RateLimiter(llm.rate_limiter.limit, max_concurrency=llm.rate_limiter.max_concurrency)
        llm.tokens = TokenMeter()
        llm.single_flight = SingleFlight()
        llm.capabilities.after_fork()
        llm._lock = threading.Lock()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - of a class of this file


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


# What names of headers have in them where the value is a credential.
_CREDENTIAL = re.compile("auth|cookie|credential|key|password|secret|token", re.IGNORECASE)


def _mark(headers: Mapping[str, str]) -> str:
    """Return what headers add to the endpoint in the cache key; nothing if there are none, so that no key changes."""
    told = sorted([name.lower(), str(value)] for name, value in headers.items())
    return f" headers:{sha256(canonical_json(told).encode()).hexdigest()[:16]}" if told else ""


def _check_timeout(timeout: object) -> None:
    # Real: also the numbers of numpy.
    if isinstance(timeout, bool) or not isinstance(timeout, Real) or not 0 < float(timeout) < math.inf:
        raise ConfigurationError(f"timeout is a number of seconds above 0, not {timeout!r}")


def _check_fields(fields: Mapping[str, Any]) -> None:
    if own := fields.keys() & {"messages", "model", "stream", "tools", "tool_choice", "response_format"}:
        raise ConfigurationError(f"extra_body: {min(own)!r} is not yours to set; it comes from the task or the LLM.")
    for name, value in fields.items():
        try:
            canonical_json(value)
        except (TypeError, ValueError) as error:
            raise ConfigurationError(f"{name} can't be sent, it is no JSON value: {error}") from None


def _descends(thing: object, package: str, *names: str) -> bool:
    """Return whether an object is of one of these classes, without importing their package."""
    return any(kind.__name__ in names and kind.__module__.split(".")[0] == package for kind in type(thing).__mro__)


def _of_client(model: str | None, client: Any) -> tuple[str | None, Callable[[], Transport]]:
    if _descends(client, "instructor", "Instructor", "AsyncInstructor"):
        model = model or _model_of_instructor(client)
        client = client.client
    if not _descends(client, "openai", "OpenAI", "AsyncOpenAI"):
        raise ConfigurationError(
            f"a {type(client).__module__}.{type(client).__name__} is no LLM: give a name such as "
            '"openai/gpt-4.1-mini", an OpenAI or instructor client, a LangChain chat model, or a Transport.'
        )
    # An Azure client that was made for one deployment has it in its URL.
    model = model or getattr(client, "_azure_deployment", None)

    def connect() -> Transport:
        from llmtasker.llm.transports.openai import OpenAITransport

        return OpenAITransport(client)

    return model, connect


def _model_of_instructor(client: Any) -> str | None:
    model = client.kwargs.get("model")
    if model is None and inspect.isfunction(client.create_fn):
        # Where the model was given to from_openai or from_provider, it stands nowhere else.
        model = inspect.getclosurevars(client.create_fn).nonlocals.get("default_model")
    return model if isinstance(model, str) else None


def _only_model(transport: Transport) -> str:
    listed = getattr(transport, "models", None)
    try:
        names: list[str] = listed() if listed else []
    except ItemError:
        names = []  # many servers of one model have no list, and take any name
    if len(names) > 1:
        raise ConfigurationError(
            f"which model? The endpoint has {len(names)}, such as {', '.join(names[:5])}: give "
            "LLM.of(client, model=…) or set LLMTASKER_MODEL."
        )
    return names[0] if names else "default"
