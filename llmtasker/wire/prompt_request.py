"""PromptRequest: one call of a completions endpoint, which continues a text; no chat template is applied."""

from __future__ import annotations

import hashlib
from typing import Any

from llmtasker.values.json_values import canonical_json
from llmtasker.wire.request import KEY_VERSION, Request


class PromptRequest(Request):
    """A request whose last message is a text to be continued.

    >>> from llmtasker.wire.request import Head, Settings
    >>> settings = Settings(endpoint="http://localhost/v1", body={"model": "m"}, limits={"max_tokens": 1})
    >>> PromptRequest(Head({"logprobs": 5}), [{"role": "user", "content": "Topic:"}], settings).content
    b'{"logprobs":5,"model":"m","prompt":"Topic:","max_tokens":1}'
    """

    __slots__ = ()

    @property
    def body(self) -> dict[str, Any]:
        """The wire body as JSON values."""
        return {**self._lasting, **self.settings.limits}

    @property
    def _lasting(self) -> dict[str, Any]:
        return {**self.head.schema, **self.settings.body, "prompt": self.tail[-1]["content"]}

    @property
    def content(self) -> bytes:
        """The wire body as ASCII JSON."""
        return canonical_json(self.body).encode("ascii")

    @property
    def key(self) -> str:
        """The cache key: 64 hexadecimal digits."""
        asked = canonical_json([KEY_VERSION, self.settings.endpoint, "completions", self._lasting])
        return hashlib.sha256(asked.encode("ascii")).hexdigest()
