"""OTLPReceiver: where spans or metrics are posted, and how, as the arguments or OpenTelemetry's variables say."""

from __future__ import annotations

import gzip
import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, Literal, Protocol
from urllib.parse import unquote, urlsplit

from llmtasker.errors import ConfigurationError, snippet
from llmtasker.integrations.background_sender import PostResult
from llmtasker.integrations.otlp_messages import rejected

Signal = Literal["traces", "metrics"]

_LEVEL = 1  # of gzip: spans repeat themselves, so that it finds most of what the slower levels find
_POST = 5.0  # seconds that a post may take
_LATER = frozenset({408, 429, 502, 503, 504})  # statuses after which the same may be sent again


class OTLPPost(Protocol):
    """What is posted at once."""

    @property
    def body(self) -> bytes:
        """Its message, encoded."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class OTLPReceiver:
    """A receiver of one signal. Its representation does not show the headers, which may hold a key."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    gzip: bool = False
    certificate: str | None = None
    client_certificate: str | None = None
    client_key: str | None = None
    http: Any = field(default=None, repr=False)
    """A client of httpx that is used instead of an own one."""

    @classmethod
    def of(
        cls, signal: Signal, endpoint: str | None = None, headers: Mapping[str, str] | None = None
    ) -> OTLPReceiver | None:
        """Return the receiver that is given, or that the environment names; None: it does not name any.

        Raises:
            ConfigurationError: the endpoint is not a URL of HTTP, or a variable is wrong.
        """
        if endpoint:
            url = f"{checked_url(endpoint).rstrip('/')}/v1/{signal}"
        elif own := os.environ.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT"):
            url = checked_url(own)
        elif shared := os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT"):
            url = f"{checked_url(shared).rstrip('/')}/v1/{signal}"
        else:
            return None
        protocol = _variable(signal, "PROTOCOL")
        if not endpoint and protocol not in {None, "http/protobuf"}:
            raise ConfigurationError(
                f"OTEL_EXPORTER_OTLP_PROTOCOL is {snippet(protocol or '', 20)!r}; {signal} are sent as http/protobuf: "
                f"set OTEL_EXPORTER_OTLP_{signal.upper()}_PROTOCOL=http/protobuf, and the endpoint of HTTP (port 4318)."
            )
        return cls.at(url, signal, headers)

    @classmethod
    def at(cls, url: str, signal: Signal, headers: Mapping[str, str] | None = None) -> OTLPReceiver:
        """Return the receiver at a URL, with the headers that are given, and else as the environment says.

        Raises:
            ConfigurationError: a variable is wrong.
        """
        return cls(
            url=url,
            headers=_pairs(_variable(signal, "HEADERS"), "OTEL_EXPORTER_OTLP_HEADERS") if headers is None else headers,
            gzip=_variable(signal, "COMPRESSION") == "gzip",
            certificate=_variable(signal, "CERTIFICATE"),
            client_certificate=_variable(signal, "CLIENT_CERTIFICATE"),
            client_key=_variable(signal, "CLIENT_KEY"),
        )

    @property
    def place(self) -> str:
        """The host, for the log."""
        return urlsplit(self.url).hostname or ""

    def client(self) -> Any:
        """Return a client whose connection is kept between posts.

        Raises:
            ConfigurationError: a certificate can't be read.
        """
        import httpx2

        verify: ssl.SSLContext | bool = self.url.startswith("https:")  # certificates take 20 ms to load
        if self.certificate or self.client_certificate:
            try:
                verify = ssl.create_default_context(cafile=self.certificate)
                if self.client_certificate:
                    verify.load_cert_chain(self.client_certificate, self.client_key)
            except (OSError, ssl.SSLError) as error:
                raise ConfigurationError(f"a certificate of OTEL_EXPORTER_OTLP_… can't be read: {error}") from None
        return httpx2.Client(verify=verify)

    def post(self, client: Any, batch: OTLPPost) -> PostResult:
        """Post with a client; raises what the client raises."""
        headers = {"Content-Type": "application/x-protobuf", "User-Agent": f"llmtasker/{version('llmtasker')}"}
        headers |= {**self.headers, **({"Content-Encoding": "gzip"} if self.gzip else {})}
        content = gzip.compress(batch.body, _LEVEL) if self.gzip else batch.body
        response = client.post(self.url, content=content, headers=headers, timeout=_POST)
        if 200 <= response.status_code < 300:
            lost, reason = rejected(response.content)
            return PostResult(taken=True, lost=lost, reason=reason)
        after = str(response.headers.get("retry-after", ""))
        wait = float(after) if after.isascii() and after.isdigit() else None  # a date is left to our own pauses
        status = response.status_code
        return PostResult(taken=False, again=status in _LATER, reason=f"status {status}", wait=wait)


def checked_url(url: str) -> str:
    """Return a URL of a receiver.

    Raises:
        ConfigurationError: it is not one of HTTP.
    """
    if urlsplit(url).scheme not in {"http", "https"} or not urlsplit(url).hostname:
        raise ConfigurationError("the receiver of traces must be a URL that begins with http:// or https://.")
    return url


def is_off(signal: Signal) -> bool:
    """Return whether the environment says that nothing of this signal is sent over OTLP."""
    exporters = os.environ.get(f"OTEL_{signal.upper()}_EXPORTER", "").strip() or "otlp"
    return is_disabled() or "otlp" not in [name.strip() for name in exporters.split(",")]


def is_disabled() -> bool:
    """Return whether OTEL_SDK_DISABLED switches all of it off."""
    return os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"


def resource_of(service_name: str | None) -> dict[str, str]:
    """Return what spans and metrics say of this process, as OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME have it.

    Raises:
        ConfigurationError: OTEL_RESOURCE_ATTRIBUTES can't be read.
    """
    given = _pairs(os.environ.get("OTEL_RESOURCE_ATTRIBUTES"), "OTEL_RESOURCE_ATTRIBUTES")
    name = service_name or os.environ.get("OTEL_SERVICE_NAME") or given.get("service.name") or "llmtasker"
    about = {"telemetry.sdk.name": "llmtasker", "telemetry.sdk.language": "python"}
    return {**about, "telemetry.sdk.version": version("llmtasker"), **given, "service.name": name}


def _variable(signal: Signal, what: str) -> str | None:
    """Return a variable of the signal, else of all signals."""
    own = os.environ.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_{what}")
    return own or os.environ.get(f"OTEL_EXPORTER_OTLP_{what}") or None


def _pairs(text: str | None, variable: str) -> dict[str, str]:
    """Return `name=value,name=value` with percent-encoded values.

    Raises:
        ConfigurationError: a part is not a pair; its text is not shown, as it may be a key.
    """
    pairs: dict[str, str] = {}
    for number, part in enumerate((text or "").split(","), start=1):
        name, equals, value = part.partition("=")
        if equals and name.strip():
            pairs[unquote(name.strip())] = unquote(value.strip())
        elif part.strip():
            raise ConfigurationError(f"{variable}: part {number} is not name=value.")
    return pairs
