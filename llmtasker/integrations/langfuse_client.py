"""LangfuseProject: the URL of Langfuse and the keys of a project; also read from a client of any version of its SDK."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

from llmtasker.errors import ConfigurationError
from llmtasker.integrations.otlp_receiver import OTLPReceiver, checked_url


@dataclass(frozen=True, slots=True, kw_only=True)
class LangfuseProject:
    """A project of Langfuse. Its representation does not show the keys.

    `http` is the HTTP client of the SDK, with its proxies and certificates; None: our own.
    """

    base_url: str
    headers: Mapping[str, str] = field(repr=False)
    environment: str | None = None
    enabled: bool = True
    mask: Any = None
    http: Any = field(default=None, repr=False)

    @classmethod
    def of_keys(cls, base_url: str, public_key: str, secret_key: str) -> LangfuseProject:
        """Return a project by its keys.

        Raises:
            ConfigurationError: the place is not a URL of HTTP.
        """
        token = b64encode(f"{public_key}:{secret_key}".encode()).decode()
        return cls(
            base_url=checked_url(base_url, "the URL of Langfuse (base_url=, LLMTASKER_LANGFUSE)").rstrip("/"),
            headers={"Authorization": f"Basic {token}"},
        )

    @classmethod
    def of_client(cls, client: Any) -> LangfuseProject:
        """Return the project of a client of the SDK, with its keys, HTTP client, environment and mask.

        Raises:
            ConfigurationError: it is something else, or it masks spans in a way that can't be done here.
        """
        resources = getattr(client, "_resources", None)
        try:
            # The part of the SDK that is generated from the API's description has been the same since its major 2.
            wrapper = (getattr(client, "api", None) or client.client)._client_wrapper  # noqa: SLF001
            base_url, sent = str(wrapper.get_base_url()), dict(wrapper.get_headers())
            authorization = sent["Authorization"]
        except (AttributeError, KeyError, TypeError):
            raise ConfigurationError(
                f"client is {type(client).__name__}, from which the URL and keys of Langfuse can't be read: "
                "give base_url=…, public_key=… and secret_key=… instead."
            ) from None
        if getattr(resources, "mask_otel_spans", None) is not None:
            raise ConfigurationError("this client masks finished spans of the SDK (mask_otel_spans): give it mask=….")
        more: Mapping[str, str] = getattr(resources, "additional_headers", None) or {}
        enabled = [getattr(client, name, True) for name in ("enabled", "_tracing_enabled")]
        return cls(
            base_url=checked_url(base_url, "the URL of the client").rstrip("/"),
            headers={**more, "Authorization": authorization},
            environment=getattr(client, "environment", None) or getattr(client, "_environment", None),
            enabled=all(enabled),
            mask=getattr(client, "_mask", None),
            http=getattr(getattr(wrapper, "httpx_client", None), "httpx_client", None),
        )

    @property
    def receiver(self) -> OTLPReceiver | None:
        """The URL for spans; None: tracing is switched off in the client."""
        if not self.enabled:
            return None
        # Version 4 of its ingestion shows spans at once.
        headers = {**self.headers, "x-langfuse-ingestion-version": "4"}
        return OTLPReceiver(
            url=f"{self.base_url}/api/public/otel/v1/traces", headers=headers, gzip=True, http=self.http
        )

    @property
    def api_headers(self) -> dict[str, str]:
        """The headers of a call of the API."""
        return {**self.headers, "Content-Type": "application/json", "User-Agent": f"llmtasker/{version('llmtasker')}"}

    def masked(self, value: Any) -> Any:
        """Return a value after the client's mask; if the mask fails, all of it is hidden."""
        if self.mask is None:
            return value
        try:
            return self.mask(data=value)
        except Exception as error:  # noqa: BLE001 - it is code of the user
            return f"<hidden, because the mask failed: {type(error).__name__}>"
