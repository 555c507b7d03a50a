"""copied: the task's own copy of a list from a caller."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel

from llmtasker.errors import ConfigurationError, snippet
from llmtasker.values.json_values import is_mapping
from llmtasker.values.lazy_pattern import lazy_pattern
from llmtasker.values.set_order import in_order_of_text

_FILE_NAME = lazy_pattern(
    r"\S[^\n]{0,250}\.(csv|tsv|tab|txt|jsonl?|ndjson|parquet|xls[xm])(\.(gz|bz2|xz|zip))?", re.IGNORECASE
)


def copied(name: str, given: Any) -> Any:
    """Return a copy of a list or mapping, so that later changes by the caller do not change the task.

    Raises:
        ConfigurationError: it is something else, such as a text, the name of a file, a data frame or one record.
    """
    if is_mapping(given):
        return dict(given)
    table = hasattr(given, "columns") and hasattr(given, "shape")
    if table or isinstance(given, str | bytes | BaseModel) or not hasattr(given, "__iter__"):
        raise ConfigurationError(f"{name} is a list, not {_shown(given, table=table)}")
    return tuple(in_order_of_text(cast("Iterable[object]", given)) if isinstance(given, set | frozenset) else given)


def _shown(given: object, *, table: bool) -> str:
    """Return what was given, and how to write it as a list."""
    if table:
        kind, rows = type(given).__name__, "to_dicts()" if hasattr(given, "to_dicts") else 'to_dict("records")'
        return f"a {kind}: give its rows, such as frame.{rows}."
    shown = snippet(repr(given), 60)
    if isinstance(given, BaseModel):
        return f"one {type(given).__name__}: write [{shown}]."
    return f"{shown}: {reads}." if (reads := how_to_read(given)) else f"{shown}."


def how_to_read(given: object) -> str | None:
    """Return the code that reads the rows of a file, if a path or the name of a file was given where rows belong."""
    if isinstance(given, Path) or (isinstance(given, str) and _FILE_NAME.fullmatch(given)):
        return f"`read_rows` of llmtasker.files returns the rows of a file: read_rows({snippet(str(given), 60)!r})"
    return None
