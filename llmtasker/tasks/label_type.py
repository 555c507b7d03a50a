"""Labels as users give them: lists, mappings and Enums of texts, numbers and booleans, and the type of an answer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, StringConstraints

from llmtasker.errors import ConfigurationError, snippet
from llmtasker.signature.fields import label_text
from llmtasker.values.folding import without_accents

LabelSpec = Sequence[Any] | Mapping[Any, str] | type[Enum]


def plain_label(label: Any) -> Any:
    """Return a label as it is sent: the value of an Enum's member, and a number of numpy as one of Python."""
    plain = label.value if isinstance(label, Enum) else label
    return plain.item() if type(plain) not in (str, bool, int, float) and hasattr(plain, "item") else plain


def labels_in_order(labels: LabelSpec | None, *, open_set: bool) -> dict[Any, Any]:
    """Return the labels as they are sent, each with the label as the user gave it.

    Raises:
        ConfigurationError: there are no labels, or one is empty, of another type, or a duplicate.
    """
    if isinstance(labels, str):
        raise ConfigurationError(f"labels is one text, {snippet(labels, 40)!r}: give a list of labels.")
    if isinstance(labels, type) and open_set:
        raise ConfigurationError("an Enum is a closed set: give its labels as a list for open_set=True.")
    given: list[Any]
    if isinstance(labels, type):
        given = [str(member.value) for member in labels]  # Pydantic makes the members of an Enum class
    else:
        given = [] if labels is None else list(labels)
    if not given and not open_set:
        raise ConfigurationError("there are no labels: give at least one.")
    found: dict[Any, Any] = {}
    for label in given:
        plain = plain_label(label)
        _check_label(label, plain, list(found), open_set=open_set)
        found[plain] = label
    return found


def _check_label(label: Any, plain: Any, before: list[Any], *, open_set: bool) -> None:
    texts = isinstance(before[0], str) if before else isinstance(plain, str) or open_set
    if isinstance(plain, str):
        fits = texts and bool(plain.strip())
    else:
        fits = not texts and isinstance(plain, bool | int | float) and plain == plain
    if not fits:
        kind = "a text that is not empty" if texts else "a number or a boolean"
        if not (texts or before):
            kind = "a text, a number or a boolean"
        raise ConfigurationError(f"a label is {kind}{', as the others are' if before else ''}, not {label!r:.60}.")
    if plain in before:
        raise ConfigurationError(f"the label {label!r} appears twice.")


def meanings_of(labels: LabelSpec | None, sent: Mapping[Any, Any]) -> dict[str, str]:
    """Return the meaning of each label, by its text."""
    given: Mapping[Any, str] = labels if isinstance(labels, Mapping) else {}
    return {label_text(plain): given.get(label) or "" for plain, label in sent.items()}


def label_type(
    labels: LabelSpec | None, sent: Sequence[Any], *, multi_label: bool, open_set: bool, allow_none: bool
) -> Any:
    """Return the type of the output field."""
    one: Any = labels if isinstance(labels, type) else Literal[tuple(sent)] if sent else None
    if open_set:
        text = StringConstraints(strip_whitespace=True, min_length=1)
        new = Annotated[str, text, AfterValidator(KnownLabels(sent))]
        one = new if one is None else one | new
    if not multi_label:
        return one | None if allow_none else one
    return Annotated[list[one], Field(min_length=0 if allow_none else 1), AfterValidator(_once)]


class KnownLabels:
    """Reads a label of an open set as an existing label if it differs only in case, accents and spaces."""

    def __init__(self, labels: Iterable[str]) -> None:
        self._labels: dict[str, str] = {}
        for label in labels:
            self._labels.setdefault(self._folded(label), label)

    def __call__(self, label: str) -> str:
        return self._labels.get(self._folded(label), label)

    def for_labels(self, labels: Sequence[str]) -> KnownLabels:
        """Return the same validator for the labels of one row."""
        return KnownLabels(labels)

    @staticmethod
    def _folded(label: str) -> str:
        return " ".join(without_accents(label).split())


def _once(labels: list[Any]) -> list[Any]:
    return list(dict.fromkeys(labels))
