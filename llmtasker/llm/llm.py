"""LLM: a named endpoint with its settings, cache and limits."""

from __future__ import annotations

import atexit
import inspect
import os
import threading
import weakref
from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn, Self, Unpack

from llmtasker.cache import open_cache
from llmtasker.cache.open_cache import accepted
from llmtasker.cache.single_flight import SingleFlight
from llmtasker.cache.store import CompleteStore
from llmtasker.errors import ConfigurationError, ItemError
from llmtasker.llm.capabilities import Capabilities
from llmtasker.llm.costs import Prices, TokenMeter, listed_cost
from llmtasker.llm.limits import Retry
from llmtasker.llm.names import check_name, local_file, parse_name, without_password
from llmtasker.llm.options import DEFAULT_TIMEOUT, LLMOptions, Portable, check, portable, sent_fields
from llmtasker.llm.rate_limiter import RateLimiter
from llmtasker.llm.stored_limits import load_limits, save_limits
from llmtasker.wire.completion import Usage
from llmtasker.wire.request import Settings, Transport


class LLM:
    """A language model at an endpoint, with the settings that every call has.

    Tasks that share an LLM share its cache, its limits and its connections. A pickled LLM is recreated from its
    arguments, without key and password; the key comes from the environment of the other process.

    Args:
        model: "openai/…", "azure/<deployment>", "ollama/…", "vllm/…", "http://host:port/v1#model", "offline",
            "local/….gguf" or any path to a GGUF file (extra `[local]`: llama.cpp in this process); or only the name of
            the model, if `base_url`, `client` or `transport` determines the endpoint.
        base_url: the endpoint, up to and including "/v1".
        api_key: its key; default: OPENAI_API_KEY, AZURE_OPENAI_API_KEY or LLMTASKER_API_KEY (other endpoints).
        api_version: the version of Azure's API; default: OPENAI_API_VERSION.
        client: an OpenAI, AsyncOpenAI, AzureOpenAI or instructor client to send with.
        transport: any other Transport.
        temperature, top_p, seed, stop: sent unchanged; None: not sent.
        max_tokens: the most tokens of an answer; None: the endpoint's own limit.
        timeout: seconds for a whole call, from the first byte sent to the last byte received; None: those of the
            client, or else 60.
        headers: HTTP headers of every call. They may select the model at a gateway, so all except credentials
            (Authorization, Cookie, X-Api-Key …) are part of the cache key, as a hash.
        extra_body: additional fields of the request body.
        cache: True (the user's cache folder), False, a folder, the URL of a Redis (`redis://` or `rediss://`, extra
            `[redis]`), or a store with `get` and `put`; None: True, except for a transport with `cacheable = False`,
            such as a test double.
        rate_limit: what the endpoint allows per minute; None: learned from its answers.
        max_concurrency: the most calls in flight, over all tasks and threads.
        retry: how transient failures are retried.
        prices: your own prices; None: the list of genai-prices (extra `[prices]`).

    Raises:
        ConfigurationError: the model or its endpoint is ambiguous, a key is missing, or an option is invalid.

    >>> LLM("offline")
    LLM('built-in baseline, no language model')
    """

    def __init__(self, model: str | None = None, **options: Unpack[LLMOptions]) -> None:
        self._set_up(model, options)
        self._model, self._connect = _find(self._named, self._options)
        _llms.add(self)  # last: a fork must not find an incomplete LLM

    def _set_up(self, model: str | None, options: LLMOptions) -> None:
        elsewhere = options.get("client") is not None or options.get("transport") is not None
        default = os.environ.get("LLMTASKER_MODEL") if elsewhere else _default.get() or os.environ.get("LLMTASKER_LLM")
        check_name(model)
        self._named = model or default
        file = None if elsewhere or options.get("base_url") else local_file(self._named)
        if file is not None:
            from llmtasker.llm.transports.llama_cpp import LlamaCppTransport

            in_process = LlamaCppTransport(file)
            self._named, options = in_process.model, options.copy()
            options["transport"] = in_process
        check(options)
        if "cache" in options:
            options = options.copy()
            options["cache"] = accepted(options["cache"])
        self._options = options
        self._needs_key, self._missing = bool(options.get("api_key")), list[str]()
        self._fields = sent_fields(options)
        self.max_tokens = options.get("max_tokens")
        self._lock = threading.Lock()
        self.retry = options.get("retry") or Retry()
        self.rate_limiter = self._new_rate_limiter()
        self.capabilities = Capabilities()
        self.tokens = TokenMeter()
        self.single_flight: SingleFlight[Any] = SingleFlight()

    def _new_rate_limiter(self) -> RateLimiter:
        own = getattr(self._options.get("transport"), "max_concurrency", None)
        most = self._options.get("max_concurrency")
        return RateLimiter(self._options.get("rate_limit"), max_concurrency=own if most is None else most)

    @classmethod
    def of(cls, llm: Any = None, *, model: str | None = None, **options: Unpack[LLMOptions]) -> LLM:
        """Return an LLM for anything that names or is one; `options` as in `LLM(...)`.

        `llm` is an LLM, a name, an OpenAI, AsyncOpenAI, AzureOpenAI or instructor client, a LangChain chat model,
        a Transport, or None for what LLMTASKER_LLM names.

        Raises:
            ConfigurationError: `llm` is something else, or does not determine an endpoint.
        """
        if isinstance(llm, LLM):
            if options or model:
                raise ConfigurationError("this is already an LLM: set its options where it is made.")
            return llm
        if llm is None or isinstance(llm, str):
            if llm and model:
                raise ConfigurationError(f"two names are given: {llm!r} and model={model!r}. Give the one to use.")
            return cls(llm or model, **options)
        if _descends(llm, "langchain_core", "BaseChatModel", "RunnableBindingBase", "RunnableWithFallbacks"):
            from llmtasker.llm.transports.langchain import LangChainTransport

            llm = LangChainTransport(llm)
        options["transport" if isinstance(llm, Transport) else "client"] = llm
        return cls(model, **options)

    def at(self, name: str) -> LLM:
        """Return an LLM with another model and endpoint, named as in `LLM(name)`, and the settings of this one.

        Credentials are not copied: neither the key nor headers that are, or may be, credentials.

        >>> LLM("ollama/qwen3", temperature=0.2, cache=False).at("vllm/org/model").settings.body
        {'model': 'org/model', 'temperature': 0.2}
        """
        options, _ = portable(self._options)
        for place in ("base_url", "api_version", "client", "transport"):
            options.pop(place, None)
        return LLM(name, **options)

    def __reduce__(self) -> tuple[Any, ...]:
        options, headers = portable(self._options)
        if options.pop("client", None) is not None or hasattr(options.get("transport"), "portable"):
            options["transport"] = self.transport.portable()  # type: ignore[attr-defined]
        missing = [*self._missing, *(f"the header {name}" for name in headers)]
        urls = [without_password(url) for url in (self._named, options.get("base_url"))]
        if any(has_password for _, has_password in urls):
            missing.append("the password in its URL")
        name, options["base_url"] = (url for url, _ in urls)
        return _revive, (type(self), name, self._model, options, self._needs_key, missing)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self  # connections and limits, also learned ones, are shared

    @cached_property
    def transport(self) -> Transport:
        """The transport to the endpoint; connected at first use."""
        with self._lock:
            made: Transport | None = vars(self).get("transport")  # another thread may have been faster
            if made is None:
                made = vars(self)["transport"] = self._connect()
        return made

    @cached_property
    def model(self) -> str:
        """The name of the model; if none was given, the only one that the endpoint lists.

        Raises:
            ConfigurationError: the endpoint lists several.
        """
        return self._model or _only_model(self.transport)

    @cached_property
    def settings(self) -> Settings:
        """The settings that every request of this LLM has."""
        if (folder := self._folder) is not None:
            self.rate_limiter.restore(load_limits(folder, self.transport.endpoint, self.model))
        return Settings(
            endpoint=self.transport.endpoint,
            body={"model": self.model, **self._fields},
            limits={} if self.max_tokens is None else {"max_tokens": self.max_tokens},
            timeout=self._options.get("timeout") or getattr(self.transport, "timeout", None) or DEFAULT_TIMEOUT,
        )

    @cached_property
    def store(self) -> CompleteStore | None:
        """The cache; None: answers are not stored."""
        given = self._options.get("cache")
        return open_cache(getattr(self._options.get("transport"), "cacheable", True) if given is None else given)

    @property
    def _folder(self) -> Path | None:
        """The folder of the cache, if there is one."""
        folder = getattr(self.store, "directory", None)
        return folder if isinstance(folder, Path) else None

    def keep_limits(self) -> None:
        """Save what was learned about the limits of the endpoint; this also happens when the process ends."""
        if "settings" in vars(self) and (learned := self.rate_limiter.learned()) and self._folder is not None:
            save_limits(self._folder, self.transport.endpoint, self.model, learned)

    @cached_property
    def _price(self) -> Callable[[Usage], float | None]:
        prices = self._options.get("prices") or (None if self.uses_tokens else Prices(input=0, output=0))
        return prices.cost if prices else listed_cost(self.transport.endpoint, self.model)

    @property
    def uses_tokens(self) -> bool:
        """Whether a call uses tokens: not that of the built-in baseline."""
        return bool(getattr(self.transport, "uses_tokens", True))

    def cost(self, usage: Usage) -> float | None:
        """Return the cost of a usage in US dollars (or in the currency of your own prices); None: unknown."""
        return self._price(usage)

    def close(self) -> None:
        """Close the connections that blocking calls opened."""
        if "transport" in vars(self):
            self.transport.close()

    async def aclose(self) -> None:
        """Close the connections that were opened in the running event loop."""
        if "transport" in vars(self):
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
        # Never the base URL as given: it may contain a password.
        return f"LLM({self._model!r})" if self._model else "LLM(client=…)"


_default: ContextVar[str | None] = ContextVar("default LLM", default=None)


@contextmanager
def default_llm(name: str | None) -> Generator[None]:
    """Let the code in the block that makes an LLM without a name get this one, before what LLMTASKER_LLM names."""
    token = _default.set(name or _default.get())
    try:
        yield
    finally:
        _default.reset(token)


_llms: weakref.WeakSet[LLM] = weakref.WeakSet()


def _after_fork() -> None:
    """Give the LLMs of a forked child new locks and no calls in flight: the parent's calls stay with the parent."""
    for llm in list(_llms):
        llm.rate_limiter = llm._new_rate_limiter()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        llm.tokens = TokenMeter()
        llm.single_flight = SingleFlight()
        llm.capabilities.after_fork()
        llm._lock = threading.Lock()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - of a class of this file


@atexit.register
def _at_exit() -> None:
    for llm in list(_llms):
        llm.keep_limits()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _revive(
    kind: type[LLM], named: str | None, model: str | None, options: LLMOptions, needs_key: bool, missing: list[str]
) -> LLM:
    """Return the LLM of a pickle. Anything missing here raises at its first use, not while it is loaded."""
    llm = kind.__new__(kind)
    llm._set_up(named, options)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    llm._needs_key, llm._missing = needs_key, missing  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    if missing:
        what = ", ".join(missing)
        error = ConfigurationError(
            f"this LLM was made in another process, and {what} can't be transferred: make the LLM here."
        )
        llm._model, llm._connect = model, _refuse(error)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    else:
        try:
            llm._model, llm._connect = _find(llm._named, options, needs_key=needs_key)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        except ConfigurationError as error:
            llm._model, llm._connect = model, _refuse(error)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    _llms.add(llm)
    return llm


def _refuse(error: ConfigurationError) -> Callable[[], NoReturn]:
    def refuse() -> NoReturn:
        raise error

    return refuse


def _find(
    model: str | None, options: LLMOptions, *, needs_key: bool = False
) -> tuple[str | None, Callable[[], Transport]]:
    """Return the name of the model (None: ask the endpoint for it), and a function that connects."""
    transport, client = options.get("transport"), options.get("client")
    if isinstance(transport, Portable):
        return model, transport.make
    if transport is not None:
        return model or getattr(transport, "model", None) or "default", lambda: transport
    if client is not None:
        return _of_client(model, client)
    names = ("base_url", "api_key", "api_version", "headers")
    return parse_name(model or "", *(options.get(name) for name in names), needs_key=needs_key)  # type: ignore[arg-type]


def _descends(thing: object, package: str, *names: str) -> bool:
    """Return whether an object is an instance of one of these classes, without importing their package."""
    return any(kind.__name__ in names and kind.__module__.split(".")[0] == package for kind in type(thing).__mro__)


def _openai_client(client: Any) -> Any:
    """Return the openai client inside an instructor client, and any other object unchanged."""
    return client.client if _descends(client, "instructor", "Instructor", "AsyncInstructor") else client


def _of_client(model: str | None, given: Any) -> tuple[str | None, Callable[[], Transport]]:
    client, hooks = _openai_client(given), None
    if client is not given:
        model, hooks = model or _model_of_instructor(given), getattr(given, "hooks", None)
    if not _descends(client, "openai", "OpenAI", "AsyncOpenAI"):
        raise ConfigurationError(
            f"a value of type {_type_name(client)} is not an LLM: give a name such as "
            '"openai/gpt-4.1-mini", an OpenAI or instructor client, a LangChain chat model, or a Transport.'
        )
    # An Azure client for one deployment has the deployment in its URL.
    model = model or getattr(client, "_azure_deployment", None)

    def connect() -> Transport:
        from llmtasker.llm.transports.openai import OpenAITransport

        return OpenAITransport(client, hooks=hooks)

    return model, connect


def _model_of_instructor(client: Any) -> str | None:
    model = client.kwargs.get("model")
    if model is None and inspect.isfunction(client.create_fn):
        # A model given to from_openai or from_provider is stored nowhere else.
        model = inspect.getclosurevars(client.create_fn).nonlocals.get("default_model")
    return model if isinstance(model, str) else None


def _only_model(transport: Transport) -> str:
    listed = getattr(transport, "models", None)
    try:
        names: list[str] = listed() if listed else []
    except ItemError:
        names = []  # many servers of one model have no list, and accept any name
    if len(names) > 1:
        raise ConfigurationError(
            f"which model? The endpoint has {len(names)}, such as {', '.join(names[:5])}: give "
            "LLM.of(client, model=…) or set LLMTASKER_MODEL."
        )
    return names[0] if names else "default"


def _type_name(value: object) -> str:
    kind = type(value)
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"
