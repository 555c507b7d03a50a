"""OTLPReceiver: where and how spans or metrics are posted, from the arguments or OpenTelemetry's variables."""

from __future__ import annotations

import gzip
import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol
from urllib.parse import unquote, urlsplit

from llmtasker.errors import ConfigurationError, snippet
from llmtasker.integrations.background_sender import PostResult
from llmtasker.integrations.otlp_messages import rejected

Signal = Literal["traces", "metrics"]

_LEVEL = 1  # of gzip: spans are repetitive, so this level finds most of what slower levels find
_POST = 5.0  # seconds that a post may take
_LATER = frozenset({408, 429, 502, 503, 504})  # statuses after which the same may be sent again


class OTLPPost(Protocol):
    """The content of a post."""

    @property
    def body(self) -> bytes:
        """The encoded message."""
        ...


class OTLPVariable(NamedTuple):
    """An environment variable that is set."""

    name: str
    value: str


class Certificates(NamedTuple):
    """The variables that name PEM files: the trusted authorities, and the client's certificate and key."""

    trusted: OTLPVariable | None
    shown: OTLPVariable | None
    key: OTLPVariable | None

    def context(self) -> ssl.SSLContext:
        """Return the settings of TLS.

        Raises:
            ConfigurationError: a file can't be read, or does not contain what its variable requires.
        """
        for variable in filter(None, self):
            try:
                with Path(variable.value).open("rb"):
                    pass
            except OSError as error:
                raise _unusable(variable, error.strerror or type(error).__name__) from None
        try:
            context = ssl.create_default_context(cafile=None if self.trusted is None else self.trusted.value)
        except OSError:
            assert self.trusted is not None  # noqa: S101 - without one, no file is read
            raise _unusable(self.trusted, "it has no certificates") from None
        if self.shown is not None:
            try:
                key = None if self.key is None else self.key.value
                # Without the empty password, a key with a password would prompt in the terminal, and block.
                context.load_cert_chain(self.shown.value, key, password="")
            except OSError:
                fault = "it is not a certificate with its key (without a password)"
                raise _unusable(self.shown, fault if self.key is None else f"{fault} in {self.key.name}") from None
        return context


@dataclass(frozen=True, slots=True, kw_only=True)
class OTLPReceiver:
    """A receiver of one signal. Its representation does not show the headers, which may contain a key."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    gzip: bool = False
    certificates: Certificates | None = None
    http: Any = field(default=None, repr=False)
    """A client of httpx to use instead of our own."""

    @classmethod
    def of(
        cls, signal: Signal, endpoint: str | None = None, headers: Mapping[str, str] | None = None
    ) -> OTLPReceiver | None:
        """Return the receiver that is given, or that the environment names; None: there is none.

        Raises:
            ConfigurationError: the endpoint is not a URL of HTTP, or a variable is wrong or names an unusable file.
        """
        if endpoint:
            url = f"{checked_url(endpoint, 'the endpoint').rstrip('/')}/v1/{signal}"
        elif own := os.environ.get(name := f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT"):
            url = checked_url(own, name)
        elif shared := os.environ.get(name := "OTEL_EXPORTER_OTLP_ENDPOINT"):
            url = f"{checked_url(shared, name).rstrip('/')}/v1/{signal}"
        else:
            return None
        protocol = _variable(signal, "PROTOCOL")
        if not endpoint and protocol is not None and protocol.value != "http/protobuf":
            raise ConfigurationError(
                f"{protocol.name} is {snippet(protocol.value, 20)!r}; {signal} are sent as http/protobuf: "
                f"set OTEL_EXPORTER_OTLP_{signal.upper()}_PROTOCOL=http/protobuf, and the HTTP endpoint (port 4318)."
            )
        return cls.at(url, signal, headers)

    @classmethod
    def at(cls, url: str, signal: Signal, headers: Mapping[str, str] | None = None) -> OTLPReceiver:
        """Return the receiver at a URL, with the given headers, and otherwise as the environment configures it.

        Raises:
            ConfigurationError: a variable is wrong, or names a file that can't be used.
        """
        certificates: Certificates | None = None
        if urlsplit(url).scheme == "https":
            names = ("CERTIFICATE", "CLIENT_CERTIFICATE", "CLIENT_KEY")
            certificates = Certificates(*(_variable(signal, name) for name in names))
            if any(certificates):
                certificates.context()  # reports mistakes now; each client reads renewed ones
            else:
                certificates = None
        headers_set, compression = _variable(signal, "HEADERS"), _variable(signal, "COMPRESSION")
        return cls(
            url=url,
            headers=_pairs(headers_set) if headers is None else headers,
            gzip=compression is not None and compression.value == "gzip",
            certificates=certificates,
        )

    @property
    def place(self) -> str:
        """The host and port, for the log."""
        return host_of(self.url)

    def client(self) -> Any:
        """Return a client whose connection is kept between posts.

        Raises:
            ConfigurationError: a certificate can't be read.
        """
        import httpx2

        if self.certificates is not None:
            return httpx2.Client(verify=self.certificates.context())
        return httpx2.Client(verify=urlsplit(self.url).scheme == "https")  # certificates take 20 ms to load

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
        wait = float(after) if after.isascii() and after.isdigit() else None  # for a date, our own pauses apply
        status = response.status_code
        return PostResult(taken=False, again=status in _LATER, reason=f"status {status}", wait=wait)


def checked_url(url: str, name: str) -> str:
    """Return a URL of a receiver, which `name` was set to.

    Raises:
        ConfigurationError: it is not one of HTTP; it is not shown, because it may contain a password.
    """
    try:
        host_of(url)
        known = urlsplit(url).scheme in {"http", "https"} and urlsplit(url).hostname
    except ValueError:  # a port that is not a number
        known = False
    if not known:
        raise ConfigurationError(
            f"{name} must be a URL that begins with http:// or https://, such as http://host:4318."
        )
    return url


def host_of(url: str) -> str:
    """Return the host of a URL with its port, without a user or password."""
    parts = urlsplit(url)
    return f"{parts.hostname or ''}{f':{parts.port}' if parts.port else ''}"


def is_off(signal: Signal) -> bool:
    """Return whether the environment switches off this signal over OTLP."""
    exporters = os.environ.get(f"OTEL_{signal.upper()}_EXPORTER", "").strip() or "otlp"
    return is_disabled() or "otlp" not in [name.strip() for name in exporters.split(",")]


def is_disabled() -> bool:
    """Return whether OTEL_SDK_DISABLED switches everything off."""
    return os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"


def resource_of(service_name: str | None) -> dict[str, str]:
    """Return the attributes of this process, from OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME.

    Raises:
        ConfigurationError: OTEL_RESOURCE_ATTRIBUTES can't be read.
    """
    given = _pairs(_set_variable("OTEL_RESOURCE_ATTRIBUTES"))
    name = service_name or os.environ.get("OTEL_SERVICE_NAME") or given.get("service.name") or "llmtasker"
    about = {"telemetry.sdk.name": "llmtasker", "telemetry.sdk.language": "python"}
    return {**about, "telemetry.sdk.version": version("llmtasker"), **given, "service.name": name}


def _variable(signal: Signal, what: str) -> OTLPVariable | None:
    """Return a variable of the signal, or else the common one of all signals."""
    return _set_variable(f"OTEL_EXPORTER_OTLP_{signal.upper()}_{what}", f"OTEL_EXPORTER_OTLP_{what}")


def _set_variable(*names: str) -> OTLPVariable | None:
    return next((OTLPVariable(name, value) for name in names if (value := os.environ.get(name))), None)


def _unusable(file: OTLPVariable, fault: str) -> ConfigurationError:
    value = "a text instead of a file" if "-----" in file.value else snippet(repr(file.value), 100)  # not a key itself
    return ConfigurationError(f"{file.name} names {value}, which can't be used: {fault}. Name a PEM file, or unset it.")


def _pairs(variable: OTLPVariable | None) -> dict[str, str]:
    """Return `name=value,name=value` with percent-encoded values.

    Raises:
        ConfigurationError: a part is not a pair; its text is not shown, because it may be a key.
    """
    pairs: dict[str, str] = {}
    for number, part in enumerate(("" if variable is None else variable.value).split(","), start=1):
        name, equals, value = part.partition("=")
        if equals and name.strip():
            pairs[unquote(name.strip())] = unquote(value.strip())
        elif variable is not None and part.strip():
            raise ConfigurationError(f"{variable.name}: part {number} is not name=value.")
    return pairs
