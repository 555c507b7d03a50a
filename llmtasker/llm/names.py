"""From the name of an LLM, such as "ollama/qwen3", to its endpoint and how to connect to it."""

from __future__ import annotations

import os
from base64 import b64encode
from collections.abc import Callable, Mapping
from urllib.parse import unquote, urlsplit

from llmtasker.errors import ConfigurationError, snippet
from llmtasker.llm.credentials import check_key, is_credential
from llmtasker.wire.request import Transport

_WAYS = """An LLM is named as one of:
  offline                                        the built-in baseline, not a language model: to try things out
  ollama/qwen3 or http://host:8000/v1#model      an endpoint of your own
  local/qwen3-4b-q4.gguf                         a file that llama.cpp runs in this process
  openai/gpt-4.1-mini or azure/<deployment>      with the key in the environment
The variable LLMTASKER_LLM sets the default."""
_GIVE = {"llm": "offline"}

_AZURE_VERSION = "2024-10-21"  # the newest stable version
_OLLAMA_PORT = 11434
_LOCAL = {"ollama": f"http://localhost:{_OLLAMA_PORT}/v1", "vllm": "http://localhost:8000/v1"}


def parse_name(
    name: str,
    base_url: str | None,
    api_key: str | None,
    api_version: str | None,
    headers: Mapping[str, str] | None,
    *,
    needs_key: bool = False,
) -> tuple[str | None, Callable[[], Transport]]:
    """Return the model in a name (None: the name has only an endpoint), and a function that connects to the endpoint.

    Raises:
        ConfigurationError: the endpoint is ambiguous, or a key is missing; with `needs_key`, also for an endpoint
            that may work without one.
    """
    if not name and base_url is None:
        raise ConfigurationError(f"no LLM is given, and LLMTASKER_LLM is not set. {_WAYS}", give=_GIVE)
    if name == "offline":
        from llmtasker.baseline.transport import MODEL, OfflineTransport

        return MODEL, OfflineTransport
    provider, _, rest = name.partition("/")
    if "://" in name:
        base_url, _, rest = name.partition("#")
        return rest or None, _at_url(base_url, api_key, headers, needs_key=needs_key)
    if provider in _LOCAL and rest:
        return rest, _at_url(base_url or _local_url(provider), api_key, headers, needs_key=needs_key)
    if base_url is not None:
        return name or None, _at_url(base_url, api_key, headers, needs_key=needs_key)
    if provider == "azure" and rest:
        return rest, _at_azure(api_key, api_version, headers)
    if provider == "openai" and rest:
        key = api_key or _key("OPENAI_API_KEY", name)
        openai_url = os.environ.get("OPENAI_BASE_URL") or "https://api.openai.com/v1"
        return rest, _at_url(openai_url, key, headers, is_openai=True)
    raise ConfigurationError(
        f"it is not clear where the model {name!r} is: write its place before it, such as openai/{name} "
        f"(or, in Python, give base_url=…). {_WAYS}"
    )


def local_file(name: str | None) -> str | None:
    """Return the path in a name if it is that of a GGUF file, such as "local/qwen3.gguf" or "/models/qwen3.gguf"."""
    if not name or "://" in name or not name.lower().endswith(".gguf"):
        return None
    return name.removeprefix("local/")


def without_password(name: str | None) -> tuple[str | None, bool]:
    """Return a name or URL without its user and password, and whether it had them."""
    url = urlsplit(name or "")
    user, _, place = url.netloc.rpartition("@")
    return (url._replace(netloc=place).geturl(), True) if user else (name, False)


def _key(variable: str, name: str) -> str:
    key = os.environ.get(variable)
    if not key:
        raise ConfigurationError(f"{name!r} needs a key: set {variable} (or, in Python, give api_key=…). {_WAYS}")
    return check_key(key, variable)


def _local_url(provider: str) -> str:
    host = os.environ.get("OLLAMA_HOST", "").strip().strip("\"'") if provider == "ollama" else ""
    if not host:
        return _LOCAL[provider]
    try:
        url = urlsplit(host if "://" in host else f"http://{host}")
        # As Ollama reads it: without a scheme, the port is Ollama's own unless given.
        port = url.port or ("" if "://" in host else _OLLAMA_PORT)
        name = {"": "localhost", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(url.hostname or "", url.hostname)  # noqa: S104
    except ValueError:
        raise ConfigurationError(f"OLLAMA_HOST is {snippet(host, 60)!r}, which is not a host or URL.") from None
    netloc = f"[{name}]" if name and ":" in name else name
    path = url.path.rstrip("/").removesuffix("/v1")
    return f"{url.scheme}://{netloc}{f':{port}' if port else ''}{path}/v1"


def _at_url(
    base_url: str,
    api_key: str | None,
    headers: Mapping[str, str] | None,
    *,
    is_openai: bool = False,
    needs_key: bool = False,
) -> Callable[[], Transport]:
    url = urlsplit(base_url)
    if url.scheme not in {"http", "https"}:
        raise ConfigurationError(
            'the URL of an endpoint must begin with "http://" or "https://", such as "http://localhost:8000/v1".'
        )
    if url.query:
        raise ConfigurationError(
            "the URL of an endpoint can't have a query (?…); in Python, give client=OpenAI(…, default_query={…})."
        )
    # The OpenAI key is sent only to OpenAI, never to another host.
    is_openai = is_openai or (url.hostname or "").endswith(".openai.com")
    variable = "OPENAI_API_KEY" if is_openai else "LLMTASKER_API_KEY"
    key = api_key or check_key(os.environ.get(variable, ""), variable) or "none"
    if needs_key and key == "none":
        raise ConfigurationError(f"the endpoint {url.hostname} needs a key, and this process has none: set {variable}.")
    named, _, place = url.netloc.rpartition("@")
    if named:
        # As a header: the SDK writes URLs to its log.
        base_url = url._replace(netloc=place).geturl()
        headers = {"Authorization": f"Basic {b64encode(unquote(named).encode()).decode()}", **(headers or {})}

    def connect() -> Transport:
        from llmtasker.llm.transports.openai import connect

        return connect(base_url, key, headers, is_openai=is_openai)

    def defer() -> Transport:
        from llmtasker.llm.transports.deferred import deferred

        sent = {name: value for name, value in (headers or {}).items() if not is_credential(name)}
        own = {name: os.environ.get(name) for name in ("OPENAI_ORG_ID", "OPENAI_PROJECT_ID")} if is_openai else {}
        return deferred(base_url, {"headers": sent, "own": own}, connect)

    # The SDK reads headers from it, any of which may be a credential.
    return connect if os.environ.get("OPENAI_CUSTOM_HEADERS") else defer


def _at_azure(
    api_key: str | None, api_version: str | None, headers: Mapping[str, str] | None
) -> Callable[[], Transport]:
    endpoint = os.environ.get("AZURE_OPENAI_ENDPOINT")
    if not endpoint:
        raise ConfigurationError(
            '"azure/…" needs the variable AZURE_OPENAI_ENDPOINT (https://<resource>.openai.azure.com).'
        )
    if not (api_key or os.environ.get("AZURE_OPENAI_API_KEY") or os.environ.get("AZURE_OPENAI_AD_TOKEN")):
        raise ConfigurationError(
            '"azure/…" needs a key: set AZURE_OPENAI_API_KEY (or, in Python, give api_key=… or client=AzureOpenAI(…)).'
        )
    if not api_key:
        check_key(os.environ.get("AZURE_OPENAI_API_KEY", ""), "AZURE_OPENAI_API_KEY")
    named = os.environ.get("OPENAI_API_VERSION") or os.environ.get("AZURE_OPENAI_API_VERSION")

    def connect() -> Transport:
        from llmtasker.llm.transports.openai import connect_azure

        return connect_azure(endpoint, api_key, api_version or named or _AZURE_VERSION, headers)

    return connect
