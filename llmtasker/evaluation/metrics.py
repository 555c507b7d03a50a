"""What counts as right: a metric for each type of field, and the user's metrics."""

from __future__ import annotations

import types
from collections import Counter
from collections.abc import Callable
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

from llmtasker.item import Item
from llmtasker.signature.fields import label_text
from llmtasker.values.folding import caseless
from llmtasker.values.json_values import is_array, is_object
from llmtasker.values.lazy_pattern import lazy_pattern

Metric = Callable[[Any, Item[Any]], "float | bool | None"]
"""A user's metric: the gold record and the item → a score, True or False, or None (does not apply)."""

FieldKind = Literal["label", "labels", "number", "time", "text", "nested", "list"]

LABEL_KINDS: frozenset[FieldKind] = frozenset({"label", "labels"})

ABSOLUTE_ERROR = "absolute error"
IN_SHORTLIST = "in the shortlist"

_WORDS = lazy_pattern(r"\w+")


def kind_of(annotation: Any) -> FieldKind:
    """Return the kind of metric for a type.

    >>> kind_of(Literal["a", "b"]), kind_of(list[Literal["a"]]), kind_of(float), kind_of(str | None)
    ('label', 'labels', 'number', 'text')
    """
    annotation = _bare(annotation)
    if get_origin(annotation) is Literal or annotation is bool or _is(annotation, Enum):
        return "label"
    if get_origin(annotation) in (list, set, frozenset, tuple):
        inner = {kind_of(part) for part in get_args(annotation) if part is not Ellipsis}
        return "labels" if inner == {"label"} else "list"
    if _is(annotation, int, float, Decimal):
        return "number"
    if _is(annotation, date, time):
        return "time"
    if _is(annotation, BaseModel) or annotation is dict or get_origin(annotation) is dict:
        return "nested"
    return "text"


def _bare(annotation: Any) -> Any:
    """Return a type without Annotated and without None."""
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) in (Union, types.UnionType):
        parts = [part for part in get_args(annotation) if part is not type(None)]
        if len(parts) == 1:
            return _bare(parts[0])
    return annotation


def _is(annotation: Any, *kinds: type) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, kinds)


def field_score(kind: FieldKind, gold: Any, answer: Any) -> float:
    """Return the score of a field from 0 to 1, both values as JSON.

    Labels, numbers, times and texts are right or wrong (times at the same moment; texts without case, spaces and
    punctuation at the ends); several labels must be the same set; nested values get the share of equal parts, other
    lists the F1 of their members.
    """
    if kind == "labels":
        return float(labels_in(gold) == labels_in(answer))
    if kind == "number":
        return float(_number(gold) == _number(answer))
    if kind == "time":
        return float(_moment(gold) == _moment(answer))
    if kind == "text":
        return float(normalised(gold) == normalised(answer))
    if kind == "nested":
        mine, other = dict(_leaves(gold, "")), dict(_leaves(answer, ""))
        places = mine.keys() | other.keys()
        return sum(mine.get(at) == other.get(at) for at in places) / len(places) if places else 1.0
    if kind == "list":
        return _f1(Counter(map(_shown, _members(gold))), Counter(map(_shown, _members(answer))))
    return float(_shown(gold) == _shown(answer))


def labels_of_type(annotation: Any) -> list[Any]:
    """Return the labels that a field of a type can have, one or several of them; empty: unknown.

    >>> labels_of_type(list[Literal["a", "b"]]), labels_of_type(bool | None), labels_of_type(str)
    (['a', 'b'], [False, True], [])
    """
    annotation = _bare(annotation)
    if get_origin(annotation) in (list, set, frozenset, tuple):
        (annotation,) = {_bare(part) for part in get_args(annotation) if part is not Ellipsis} or {None}
    if annotation is bool:
        return [False, True]
    if _is(annotation, Enum):
        return [member.value for member in annotation]
    return list(dict.fromkeys(get_args(annotation))) if get_origin(annotation) is Literal else []


def other_measures(kind: FieldKind, gold: Any, answer: Any, labels: int = 0) -> dict[str, float]:
    """Return what else is measured for an answered field: error of numbers, overlap of texts and of label sets.

    `labels` is how many the field can have: the Hamming loss is the share of these that are wrong or missing.
    """
    if kind == "number":
        known, given = _number(gold), _number(answer)
        return {} if known is None or given is None else {ABSOLUTE_ERROR: abs(float(known - given))}
    if kind == "text":
        words = [Counter(_WORDS.findall(caseless(str(value or "")))) for value in (gold, answer)]
        return {"token F1": _f1(*words)}
    if kind == "labels":
        mine, other = labels_in(gold), labels_in(answer)
        union = mine | other
        jaccard = len(mine & other) / len(union) if union else 1.0
        return {"Jaccard": jaccard, **({"Hamming loss": len(mine ^ other) / labels} if labels else {})}
    return {}


def labels_in(value: Any) -> frozenset[str]:
    """Return the labels in a value: one, several, or none."""
    return frozenset() if value is None else frozenset(map(_shown, _members(value)))


def normalised(value: Any) -> str:
    """Return a text in lower case, with single spaces, without punctuation at its ends."""
    return " ".join(caseless(str("" if value is None else value)).split()).strip(" .,;:!?\"'«»“”’")


def _members(value: Any) -> list[Any]:
    return value if is_array(value) else [] if value is None else [value]


def _shown(value: Any) -> str:
    return label_text(value)


def _number(value: Any) -> Decimal | None:
    try:
        number = Decimal(str(value))
    except ArithmeticError:
        return None
    return number if number.is_finite() else None


def _moment(value: Any) -> Any:
    """Return a date or time from its text, so that a moment is equal to itself in another time zone."""
    for kind in (datetime, time):
        try:
            return kind.fromisoformat(str(value))
        except ValueError:
            continue
    return value


def _leaves(value: Any, path: str) -> list[tuple[str, str]]:
    """Return the parts of a nested value: the path of each, and its text."""
    if is_object(value):
        return [leaf for name, part in value.items() for leaf in _leaves(part, f"{path}.{name}")]
    if is_array(value):
        return [leaf for at, part in enumerate(value) for leaf in _leaves(part, f"{path}[{at}]")]
    return [(path, _shown(value))]


def _f1(mine: Counter[str], other: Counter[str]) -> float:
    total = mine.total() + other.total()
    return 2 * (mine & other).total() / total if total else 1.0
