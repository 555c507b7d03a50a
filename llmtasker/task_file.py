"""Task files: a task as a readable JSON file, and what is checked before such a file is used."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmtasker.errors import ConfigurationError, snippet
from llmtasker.values.json_values import is_object, parse_json

VERSION = 1
"""The version of the format; a file of a later version is refused."""

_MOST_BYTES = 20_000_000
_PARTS: dict[str, type] = {
    "kind": str,
    "version": int,
    "signature": str,
    "hash": str,
    "needs": dict,
    "instructions": str,
    "fields": dict,
    "labels": dict,
    "examples": list,
    "variables": dict,
    "settings": dict,
}

Document = Mapping[str, Any]
"""The content of a task file: the parts above."""


def document_text(document: Document) -> str:
    """Return a document as JSON text that people can read and compare."""
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def write_document(path: str | os.PathLike[str], document: Document) -> None:
    """Write a document to a file, which appears when it is complete.

    Raises:
        ConfigurationError: it is too large, is not JSON, or the file can't be written.
    """
    from llmtasker.files.atomic import replacing

    try:
        text = document_text(document).encode()
    except (ValueError, TypeError, RecursionError) as error:
        raise ConfigurationError(f"{path}: the task can't be written as JSON: {snippet(error)}") from None
    if len(text) > _MOST_BYTES:
        raise ConfigurationError(
            f"{path}: the task takes {len(text):,} bytes; a task file has at most {_MOST_BYTES:,}. Give fewer examples."
        )
    try:
        with replacing(path) as file:
            file.write(text)
    except OSError as error:
        raise ConfigurationError(f"{path}: can't be written: {error.strerror or error}") from None


def read_document(path: str | os.PathLike[str]) -> Document:
    """Return the document of a file. Nothing in it is run or imported.

    Raises:
        ConfigurationError: there is no such file, or it is not a task file that this version can read.
    """
    try:
        with Path(path).open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path}: can't be read: {getattr(error, 'strerror', None) or error}") from None
    if len(data) > _MOST_BYTES:
        raise ConfigurationError(f"{path} is not a task file: it is larger than {_MOST_BYTES:,} bytes.")
    try:
        document = parse_json(data.decode())
    except RecursionError:
        raise ConfigurationError(f"{path} is not a task file: it is nested too deep.") from None
    except ValueError as error:
        raise ConfigurationError(f"{path} is not a complete task file: {snippet(error)}") from None
    try:
        return _checked(document)
    except ConfigurationError as error:
        raise ConfigurationError(f"{path} {error}") from None


def _checked(document: Any) -> Document:
    if not is_object(document) or not isinstance(document.get("kind"), str):
        raise ConfigurationError("is not a task file: it is not an object with a kind.")
    version = document.get("version")
    if type(version) is not int or version < 1:
        raise ConfigurationError(f"is not a task file: its version is {snippet(repr(version), 40)}.")
    if version > VERSION:
        raise ConfigurationError(f"was written by a later version of llmtasker (format {version}): update llmtasker.")
    for name, kind in _PARTS.items():
        if type(document.get(name)) is not kind:
            raise ConfigurationError(f"is not a complete task file: {name!r} is missing or not {_A[kind]}.")
    if unknown := document.keys() - _PARTS.keys():
        raise ConfigurationError(f"is not a task file of this version: {snippet(repr(min(unknown)), 40)} is unknown.")
    return document


_A = {str: "a text", int: "a number", dict: "an object", list: "a list"}
