"""PortableClient: an openai client as data, to be made again in another process."""

# pyright: reportPrivateUsage=false
# The SDK has no public names for what a client was made with; tests pin each.

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import openai

from llmtasker.errors import ConfigurationError
from llmtasker.llm.credentials import may_be_credential

AnyClient = openai.OpenAI | openai.AsyncOpenAI

# The http clients that the SDK makes where none is given.
_DEFAULT_HTTP = frozenset({"SyncHttpxClientWrapper", "AsyncHttpxClientWrapper"})
_PLAIN = {
    kind.__name__: kind for kind in (openai.OpenAI, openai.AsyncOpenAI, openai.AzureOpenAI, openai.AsyncAzureOpenAI)
}


def is_plain(client: AnyClient) -> bool:
    """Return whether an equal client can be made: its class and http client are the SDK's own."""
    return (
        type(client) in _PLAIN.values()
        and type(client._client).__name__ in _DEFAULT_HTTP
        and client.workload_identity is None
        and client._provider is None
    )


@dataclass(frozen=True, slots=True)
class PortableClient:
    """What a client was made with, without its key, which the SDK finds in the environment of the other process."""

    kind: str
    options: Mapping[str, Any]

    @classmethod
    def of(cls, client: AnyClient) -> PortableClient:
        """Return what a client was made with.

        Raises:
            ConfigurationError: it has parts that can't be made again, such as an http client of its own.
        """
        headers = {str(name): value for name, value in client._custom_headers.items()}
        hidden = [name for name, value in headers.items() if may_be_credential(name, str(value))]
        keys = client._api_key_provider or getattr(client, "_azure_ad_token_provider", None)
        if not is_plain(client) or keys or hidden:
            what = "a function for its key" if keys else f"the header {hidden[0]}" if hidden else "parts of its own"
            raise ConfigurationError(
                f"an LLM of this {type(client).__name__} can't go to another process: the client has {what}, which "
                'can\'t be sent. Make the LLM there, or name the endpoint: LLM("openai/…").'
            )
        url = client.base_url.copy_with(userinfo=b"")
        options = {
            "base_url": str(url),
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
