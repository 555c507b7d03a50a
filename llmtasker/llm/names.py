"""From the name of an LLM, such as "ollama/qwen3", to its endpoint and how to connect to it."""

from __future__ import annotations

import os
from base64 import b64encode
from collections.abc import Callable, Mapping
from urllib.parse import unquote, urlsplit

from llmtasker.errors import ConfigurationError, closest, snippet
from llmtasker.llm.credentials import check_key, is_credential
from llmtasker.values.lazy_pattern import lazy_pattern
from llmtasker.wire.request import Transport

_WAYS = """An LLM is named as one of:
  offline                                        the built-in baseline, not a language model: to try things out
  ollama/qwen3 or http://host:8000/v1#model      your own endpoint
  local/qwen3-4b-q4.gguf                         a file that llama.cpp runs in this process
  openai/gpt-4.1-mini or azure/<deployment>      with the key in the environment
The variable LLMTASKER_LLM sets the default."""
_GIVE = {"llm": "offline"}

_CALL = lazy_pattern(r"((/openai/deployments/[^/]+)?/chat/completions)/*$")
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
    name = name.strip()
    if not name and base_url is None:
        raise ConfigurationError(f"no LLM is given, and LLMTASKER_LLM is not set. {_WAYS}", give=_GIVE)
    if name == "offline":
        from llmtasker.baseline.transport import MODEL, OfflineTransport

        return MODEL, OfflineTransport
    provider, _, rest = name.partition("/")
    if "://" in name:
        base_url, _, rest = name.partition("#")
        return rest.strip() or None, _at_url(base_url, api_key, headers, needs_key=needs_key)
    if provider in _LOCAL and rest:
        return rest, _at_url(base_url or _local_url(provider), api_key, headers, needs_key=needs_key)
    if base_url is not None:
        return name or None, _at_url(base_url, api_key, headers, needs_key=needs_key)
    if provider == "azure" and rest:
        return rest, _at_azure(api_key, api_version, headers)
    if provider == "openai" and rest:
        key = api_key or _key("OPENAI_API_KEY", name)
        openai_url = os.environ.get("OPENAI_BASE_URL")
        checked = _checked_url(openai_url, "OPENAI_BASE_URL") if openai_url else "https://api.openai.com/v1"
        return rest, _at_url(checked, key, headers, is_openai=True)
    raise ConfigurationError(f"{_unclear(name, provider, rest)} {_WAYS}")


def _unclear(name: str, provider: str, rest: str) -> str:
    """Return why a name does not lead to an endpoint, and a suggestion."""
    places = ["openai", "azure", "local", *_LOCAL]
    if provider in places:
        return f"{name!r} lacks the name of a model behind the slash."
    if "/" in name and (near := closest(provider, places)):
        return f"there is no place {provider!r} for LLMs. Did you mean {near}/{rest}?"
    if closest(name, ["offline"]):
        return f"{name!r} is not an LLM. Did you mean offline?"
    if provider and rest:
        return (
            f"it is not clear where the model {name!r} is: give the URL of its endpoint, such as https://…/v1#{rest}, "
            "and its key in LLMTASKER_API_KEY (in Python, base_url=… and api_key=…)."
        )
    return (
        f"it is not clear where the model {name!r} is: write the provider before it, such as openai/{name} "
        "(or, in Python, give base_url=…)."
    )


def check_name(name: object) -> None:
    """Raise ConfigurationError if something else was given as the name of an LLM."""
    if name is not None and not isinstance(name, str):
        raise ConfigurationError(
            f"LLM takes the name of a model first, not a {type(name).__name__}: LLM.of takes a client, a chat model, a "
            "transport or an LLM."
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
    shown = snippet(host.rpartition("@")[2], 60)
    refused = ConfigurationError(
        f"OLLAMA_HOST is {shown!r}, which is not a host, host:port, :port (from 1 to 65535) or http:// URL."
    )
    try:
        scheme, _, place = host.rpartition("://")
        url = urlsplit(f"{scheme or 'http'}://{_in_brackets(place)}")
        # As Ollama reads it: without a scheme, the port is Ollama's own unless given.
        port = url.port or ("" if scheme else _OLLAMA_PORT)
        name = url.hostname or ""
        if url.port == 0 or name.isdigit() or url.query or url.fragment:
            raise refused
        name = {"": "localhost", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(name, name)  # noqa: S104
        user = f"{url.netloc.rpartition('@')[0]}@" if "@" in url.netloc else ""
        path = url.path.rstrip("/").removesuffix("/v1")
        return _checked_url(f"{url.scheme}://{user}{_in_brackets(name)}{f':{port}' if port else ''}{path}/v1")
    except ValueError:
        raise refused from None


def _in_brackets(host: str) -> str:
    """Return a host, perhaps with a path, with brackets around an IPv6 address that has none."""
    address, slash, path = host.partition("/")
    return f"[{address}]{slash}{path}" if address.count(":") > 1 and not {*"]@"} & {*address} else host


def _checked_url(given: str, source: str = "") -> str:
    """Return the URL of an endpoint without spaces around it; it may have a password, and is not shown.

    Raises:
        ConfigurationError: a request can't be sent there; it names the `source`, if that is a variable.
    """
    text, owner = given.strip(), f"{source}, the URL of an endpoint," if source else "the URL of an endpoint"
    try:
        url, port = urlsplit(text), urlsplit(text).port
    except ValueError:
        raise ConfigurationError(
            f"{owner} can't be read: a port is a number up to 65535, and an IPv6 address must be in brackets."
        ) from None
    if url.scheme not in {"http", "https"}:
        raise ConfigurationError(
            f'{owner} must begin with "http://" or "https://", such as "http://localhost:8000/v1".'
        )
    if not url.hostname or port == 0:
        raise ConfigurationError(f"{owner} has {'port 0' if url.hostname else 'no host'}.")
    if call := _CALL.search(url.path):
        raise ConfigurationError(f"{owner} must end before {call[1]}, which each call adds.")
    if any(char.isspace() or not char.isprintable() for char in text):
        raise ConfigurationError(f"{owner} has a space or line break in it.")
    if url.query:
        raise ConfigurationError(
            f"{owner} can't have a query (?…); in Python, give client=OpenAI(…, default_query={{…}})."
        )
    return text


def _at_url(
    base_url: str,
    api_key: str | None,
    headers: Mapping[str, str] | None,
    *,
    is_openai: bool = False,
    needs_key: bool = False,
) -> Callable[[], Transport]:
    base_url = _checked_url(base_url)
    url = urlsplit(base_url)
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
    endpoint = _checked_url(endpoint, "AZURE_OPENAI_ENDPOINT")
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
