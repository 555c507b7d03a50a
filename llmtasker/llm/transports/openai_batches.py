"""Batches: the files and batches of a provider, through the SDK's client of a transport, with its auth and proxies."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, BinaryIO

import httpx2
import openai

from llmtasker.errors import BadResponseError, ConfigurationError, NotFoundError, RejectedError, snippet
from llmtasker.llm.transports.deferred import DeferredTransport
from llmtasker.llm.transports.http_client import broken
from llmtasker.llm.transports.openai import OpenAITransport
from llmtasker.portal import portal
from llmtasker.values.json_values import as_list, is_object
from llmtasker.wire.batch_file import BatchInfo, read_batch
from llmtasker.wire.error_response import hide_keys
from llmtasker.wire.request import Transport

WINDOW = "24h"  # the only one that providers offer
_LISTED = 100  # the latest batches of an account that are searched
_CHUNK = 1 << 16


def batches_of(transport: Transport) -> Batches:
    """Return the batch API of a transport's endpoint.

    Raises:
        ConfigurationError: it is not a transport of an OpenAI or Azure client.
    """
    transport = transport.connected if isinstance(transport, DeferredTransport) else transport
    if isinstance(transport, OpenAITransport):
        return Batches(transport)
    raise ConfigurationError(
        f"{type(transport).__name__} has no batch API: it needs OpenAI, Azure OpenAI or an endpoint that "
        'does the same ("openai/…", "azure/…", or an openai client). `run` works with every LLM.'
    )


class Batches:
    """The batch API of an endpoint. Every call blocks, and is not retried.

    `url` is the path that the lines of a file name.
    Calls raise a CallError, those to an endpoint without a batch API a ConfigurationError.
    """

    def __init__(self, transport: OpenAITransport) -> None:
        self._transport = transport
        client = transport.client
        azure = isinstance(client, openai.AzureOpenAI | openai.AsyncAzureOpenAI)
        azure = azure or client.base_url.host.endswith(".azure.com")
        self.url = "/chat/completions" if azure else "/v1/chat/completions"

    def upload(self, name: str, file: BinaryIO) -> str:
        """Upload a file of requests, from its start, and return its id at the provider."""

        def call(client: Any) -> Any:
            file.seek(0)
            return client.files.with_raw_response.create(file=(name, file), purpose="batch")

        try:
            return str(self._json(call)["id"])
        except NotFoundError as error:
            raise ConfigurationError(
                f"the endpoint {self._transport.endpoint} has no batch API: {error.message}. `run` works."
            ) from None

    def start(self, file: str, job: str) -> BatchInfo:
        """Start a batch of the requests in a file; `job` is its metadata, shown in the provider's console."""
        return read_batch(
            self._json(
                lambda client: client.batches.with_raw_response.create(
                    input_file_id=file, endpoint=self.url, completion_window=WINDOW, metadata={"llmtasker": job}
                )
            )
        )

    def find(self, batch: str) -> BatchInfo:
        """Return the provider's state of a batch."""
        return read_batch(self._json(lambda client: client.batches.with_raw_response.retrieve(batch)))

    def find_by_file(self, file: str) -> BatchInfo | None:
        """Return the batch of a file; None if it is not among the latest."""
        try:
            listed = self._json(lambda client: client.batches.with_raw_response.list(limit=_LISTED), "data")["data"]
        except RejectedError:
            return None  # not every endpoint has the list
        made = (read_batch(one) for one in as_list(listed) if is_object(one) and one.get("input_file_id") == file)
        return next(made, None)

    def cancel(self, batch: str) -> BatchInfo:
        """Cancel a batch; answers received so far are kept."""
        return read_batch(self._json(lambda client: client.batches.with_raw_response.cancel(batch)))

    def delete(self, file: str) -> None:
        """Delete a file; a missing file is not an error."""
        try:
            self._json(lambda client: client.files.with_raw_response.delete(file))
        except NotFoundError:
            return

    def download(self, file: str, into: BinaryIO) -> None:
        """Write the content of a file, in chunks as they arrive."""
        client = self._transport.blocking_client()
        try:
            if client is None:
                portal().call(self._adownload(file, into))
                return
            with client.files.with_streaming_response.content(file) as response:
                into.writelines(response.iter_bytes(_CHUNK))
        except openai.OpenAIError as error:
            raise self._transport.mapped(error) from None
        except httpx2.HTTPError as error:  # while the body is read, the SDK maps nothing
            raise broken(error) from None

    async def _adownload(self, file: str, into: BinaryIO) -> None:
        client = (await self._transport.sdk_client()).with_options(max_retries=0)
        async with client.files.with_streaming_response.content(file) as response:
            async for piece in response.iter_bytes(_CHUNK):
                into.write(piece)

    def _json(self, call: Callable[[Any], Any], wanted: str = "id") -> dict[str, Any]:
        """Return the JSON object in the response to a call; it has the field `wanted`."""
        client = self._transport.blocking_client()
        try:
            content = (call(client) if client is not None else portal().call(self._acall(call))).content
        except openai.OpenAIError as error:
            raise self._transport.mapped(error) from None
        try:
            data = json.loads(content)
        except ValueError:
            data = None
        if not is_object(data) or wanted not in data:
            words = snippet(hide_keys(content[:1000].decode("utf-8", "replace")))
            raise BadResponseError(f"the endpoint has no batch API like OpenAI's, or failed; it answered: {words}")
        return data

    async def _acall(self, call: Callable[[Any], Any]) -> Any:
        return await call((await self._transport.sdk_client()).with_options(max_retries=0))
