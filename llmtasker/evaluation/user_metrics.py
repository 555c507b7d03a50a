"""applied: the user's metrics on a row → scores, and why some failed, without the words of the row."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from llmtasker.errors import ConfigurationError, describe, snippet
from llmtasker.evaluation.metrics import LABEL_KINDS, Metric, kind_of
from llmtasker.item import Item
from llmtasker.signature.signature import Signature
from llmtasker.values.json_values import is_mapping
from llmtasker.values.lazy_pattern import lazy_pattern

_LARGEST = 1e100
_READ = 100_000  # characters to compare of a message or a value
_RUN = 3  # as many words in sequence can't be chance
_WORD = lazy_pattern(r"\w+")
_IN_QUOTES = lazy_pattern(r"(?<!\w)(['\"`«“]).*?['\"`»”](?!\w)", re.DOTALL)
_GAPS = lazy_pattern(r"…(?:\W*…)+")


def metrics_of(given: object) -> dict[str, Metric]:
    """Return the given metrics by name.

    Raises:
        ConfigurationError: it is not a mapping from names to functions.
    """
    if given is None:
        return {}
    if is_mapping(given) and all(isinstance(name, str) and callable(metric) for name, metric in given.items()):
        return dict(given)
    raise ConfigurationError(
        "metrics is a mapping from name to function, such as {'short': lambda gold, item: len(item.output.text) < 80}, "
        f"not {snippet(repr(given), 60)}."
    )


def is_score(value: float) -> bool:
    """Return whether a number is a score: not NaN, and not so large that sums of its squares are infinite."""
    return abs(value) <= _LARGEST


def applied(metrics: Mapping[str, Metric], gold: Signature, item: Item[Any]) -> tuple[dict[str, float], dict[str, str]]:
    """Return the scores of the user's metrics for a row, and why others gave none.

    A metric that raises or gives NaN has no score for this row; one that gives None does not apply.
    """
    scores, failed = dict[str, float](), dict[str, str]()
    for name, metric in metrics.items():
        try:
            score = metric(gold, item)
            value = None if score is None else float(score)
        except Exception as error:  # noqa: BLE001 - the metric is the user's
            failed[name] = metric_error(error, gold, item)
            continue
        if value is not None and is_score(value):
            scores[name] = value
        elif value is not None:
            failed[name] = f"{value} is not a score"
    return scores, failed


def metric_error(error: Exception, gold: Signature, item: Item[Any]) -> str:
    """Return the type and message of an error that a metric raised for a row; "…" replaces what it repeats of the row.

    That is a whole value, a run of words, a number, a name, or a word in quotes. Labels and field names are kept.
    """
    try:
        message = describe(error) if isinstance(error, ValidationError) else str(error)
    except Exception:  # noqa: BLE001 - its text is the user's too
        message = ""
    kind = type(error).__name__
    text = snippet(_without(message[:_READ], list(_values(gold, item)), type(gold).model_fields.keys()))
    return f"{kind}: {text}" if text else kind


def _values(gold: Signature, item: Item[Any]) -> Iterator[str]:
    """Yield the values of a row that may be private: those that are not labels."""
    signature = type(gold)
    for record in (gold, item.output):
        for name, field in signature.model_fields.items():
            if name in signature.input_fields or kind_of(field.annotation) not in LABEL_KINDS:
                yield str(getattr(record, name, ""))[:_READ]


def _without(message: str, values: list[str], names: Collection[str]) -> str:
    rows = [[word.lower() for word in _WORD.findall(value)] for value in values]
    known = {word for row in rows for word in row} - {name.lower() for name in names}
    runs = {tuple(row[at : at + _RUN]) for row in rows for at in range(len(row) - _RUN + 1)}
    runs |= {tuple(row) for row in rows if 0 < len(row) < _RUN}
    quoted = [match.span() for match in _IN_QUOTES.finditer(message)]
    found = list(_WORD.finditer(message))
    words = [match.group().lower() for match in found]
    cut = set[int]()
    for at, match in enumerate(found):
        for size in range(1, _RUN + 1):
            if tuple(words[at : at + size]) in runs:
                cut.update(range(at, at + size))
        telling = not match.group().islower() or any(start < match.start() < end for start, end in quoted)
        if telling and words[at] in known:
            cut.add(at)
    kept, end = list[str](), 0
    for at in sorted(cut):
        kept += [message[end : found[at].start()], "…"]
        end = found[at].end()
    return _GAPS.sub("…", "".join([*kept, message[end:]]))
