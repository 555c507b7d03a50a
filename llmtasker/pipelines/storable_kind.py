"""Types that files and requests can hold, as the fields of a pipeline need them."""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter
from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError

from llmtasker.errors import SignatureError, snippet
from llmtasker.values.json_schema import nodes

_BYTES = ("binary", "base64", "base64url")  # formats of JSON schemas


def check_kind(owner: str, name: str, kind: Any) -> None:
    """Refuse a type that has no JSON schema.

    Raises:
        SignatureError: it has none.
    """
    try:
        TypeAdapter(kind).json_schema()
    except (PydanticSchemaGenerationError, PydanticUserError):
        raise SignatureError(
            f"{owner}: files and requests can't hold the type of {name}, {snippet(repr(kind), 60)}: use a Pydantic "
            "model, a dataclass or a plain type."
        ) from None


def check_no_bytes(owner: str, name: str, kind: Any) -> None:
    """Refuse bytes in outputs: JSON has none, and what is read again would be other bytes.

    Raises:
        SignatureError: there are some.
    """
    if any(node.get("format") in _BYTES for node in nodes(TypeAdapter(kind).json_schema())):
        raise SignatureError(
            f"{owner}: files and requests can't hold the bytes in {name}: return a text, such as their Base64."
        )
