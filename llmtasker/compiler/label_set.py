"""with_labels: a signature whose output field takes other labels; label_set: the labels of one row."""

from __future__ import annotations

import collections.abc
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Protocol, Union, cast, get_args, get_origin, runtime_checkable

from pydantic import AfterValidator, BeforeValidator
from pydantic.fields import FieldInfo

from llmtasker.errors import ConfigurationError, snippet
from llmtasker.signature.fields import VALIDATORS, OutputField, constraints_of, label_text
from llmtasker.signature.signature import S, Signature
from llmtasker.values.json_values import is_array, is_mapping, is_object, parse_json
from llmtasker.values.set_order import in_order_of_text

LabelSet = tuple[tuple[Any, str], ...]
"""Labels in order, each with its meaning, which may be empty."""

_LISTS: tuple[Any, ...] = (list, set, frozenset, tuple, collections.abc.Sequence, collections.abc.Set)
_KEPT = ("alias", "validation_alias", "serialization_alias", "title", "description", "examples")


@runtime_checkable
class LabelReader(Protocol):
    """A validator that reads labels, with a counterpart for each set of labels."""

    def for_labels(self, labels: Sequence[Any]) -> Any:
        """Return the same validator for other labels."""
        ...


def label_set(value: object, known: Mapping[str, str]) -> LabelSet:
    """Return the labels in a list, in a mapping from label to meaning, or in the JSON text of either.

    `known` are the meanings of labels that the list only names.

    Raises:
        ConfigurationError: the value is something else, is empty, or a label is neither a text, a number nor a boolean,
        or appears twice.

    >>> label_set(["chat", "chien"], {"chat": "un félin"})
    (('chat', 'un félin'), ('chien', ''))
    """
    given = _parsed(value) if isinstance(value, str) else value
    pairs: list[tuple[Any, Any]]
    if is_mapping(given):
        pairs = list(given.items())
    elif isinstance(given, Iterable) and not isinstance(given, str | bytes):
        pairs = [
            (plain, known.get(label_text(plain), ""))
            for plain in map(_plain, _in_order(cast("Iterable[object]", given)))
        ]
    else:
        raise ConfigurationError(f"labels are a list, or a mapping from label to its meaning, not {_shown(value)}.")
    found: dict[Any, str] = {}
    for label, meaning in [(_plain(label), meaning) for label, meaning in pairs]:
        if label in found:
            if type(label) not in [type(other) for other in found if other == label]:
                raise ConfigurationError(f"two labels are equal: {label!r} is given as a number and as a boolean.")
            raise ConfigurationError(f"the label {_shown(label)} appears twice.")
        found[label] = str(meaning or "")
    if not found:
        raise ConfigurationError("the list of labels is empty: give at least one.")
    return tuple(found.items())


def _in_order(labels: Iterable[Any]) -> Iterable[Any]:
    return in_order_of_text(labels) if isinstance(labels, set | frozenset) else labels


def _parsed(text: str) -> object:
    """Return the list in a cell of a text file that has JSON; any other text as it is."""
    try:
        value = parse_json(text)
    except (ValueError, RecursionError):
        return text
    return value if is_array(value) or is_object(value) else text


def _plain(label: Any) -> Any:
    plain = label.value if isinstance(label, Enum) else label
    if type(plain) not in (str, int, bool) and hasattr(plain, "item"):
        plain = plain.item()  # a scalar of numpy
    if not isinstance(plain, str | int) or (isinstance(plain, str) and not plain.strip()):
        raise ConfigurationError(f"a label is a text, a whole number or a boolean, not {_shown(label)}.")
    return plain


def _shown(value: object) -> str:
    return snippet(repr(value), 60)


def labelled_field(signature: type[Signature], name: str, labels: Mapping[str, Sequence[str]]) -> str | None:
    """Return the output field that a name means: the field itself, or for "classes" the only one that has labels.

    `labels` are those of each output field that has some. None: the name does not mean an output field.

    Raises:
        ConfigurationError: "classes" may mean several.
    """
    if name in signature.output_fields:
        return name
    if name != "classes":
        return None
    found = list(labels) or list(signature.output_fields)
    if len(found) > 1:
        raise ConfigurationError(
            f"several output fields may take these labels: name one of {', '.join(found)} instead of 'classes'."
        )
    return found[0]


def with_labels(signature: type[S], sets: Mapping[str, LabelSet]) -> type[S]:
    """Return the signature whose output fields take their values from these labels, in schema and check.

    Raises:
        ConfigurationError: the type of a field can't have labels, or an Enum does not have such a value.
    """
    fields = {name: _relabelled(signature, name, labels) for name, labels in sets.items()}
    return signature.with_fields(**fields)


def fits_labels(example: object, sets: Mapping[str, LabelSet]) -> bool:
    """Return whether an example has only these labels."""
    for name, labels in sets.items():
        value = example.get(name) if is_mapping(example) else getattr(example, name, None)
        given: list[Any] = (
            list(cast("Iterable[Any]", value)) if isinstance(value, list | tuple | set | frozenset) else [value]
        )
        if not {_value_of(one) for one in given if one is not None} <= {label for label, _ in labels}:
            return False
    return True


def _relabelled(signature: type[Signature], name: str, labels: LabelSet) -> tuple[Any, Any]:
    info = signature.output_fields[name]
    annotation = _with_set(info.annotation, tuple(label for label, _ in labels))
    if annotation is None:
        raise ConfigurationError(
            f"{signature.__name__}.{name} can't take labels: its type is {info.annotation}, not a text, a Literal, an "
            "Enum, or a list of these."
        )
    described = {label_text(label): meaning for label, meaning in labels if meaning}
    annotation = _annotated(annotation, _kept(info.annotation, constraints_of(info)), [label for label, _ in labels])
    return annotation, OutputField(**_arguments(info), labels=described)


def _arguments(info: FieldInfo) -> dict[str, Any]:
    found = {name: value for name in _KEPT if (value := getattr(info, name)) is not None}
    if not info.is_required():
        found |= {"default_factory": info.default_factory} if info.default_factory else {"default": info.default}
    return found


def _with_set(annotation: Any, labels: tuple[Any, ...]) -> Any:
    """Return a type with its labels replaced; None: it can't have any."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if annotation is str:
        return Literal[labels]
    if origin is Literal:
        return Literal[(*labels, None)] if None in parts else Literal[labels]
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return _part_of(annotation, labels)
    if origin is Annotated:
        inner = _with_set(parts[0], labels)
        return None if inner is None else _annotated(inner, _kept(parts[0], parts[1:]), labels)
    if origin in (Union, UnionType):
        return _union(parts, labels)
    if origin in _LISTS and parts:
        inner = _with_set(parts[0], labels)
        return None if inner is None else origin[(inner, *parts[1:])]
    return None


def without_labels(annotation: Any) -> Any:
    """Return a type whose labels are any texts, numbers or booleans, which is requested if not all are shown."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Literal or (isinstance(annotation, type) and issubclass(annotation, Enum)):
        values: list[Any] = list(parts) if origin is Literal else [member.value for member in annotation]
        return _any_of([type(_value_of(value)) for value in values])
    if origin is Annotated:
        constraints = [part for part in parts[1:] if not isinstance(part, VALIDATORS)]
        return _annotated(without_labels(parts[0]), constraints, ())
    if origin in (Union, UnionType):
        return _any_of([without_labels(part) for part in parts])
    if origin in _LISTS and parts:
        several: Any = origin
        return several[(without_labels(parts[0]), *parts[1:])]
    return cast("Any", annotation)


def _any_of(kinds: Sequence[Any]) -> Any:
    found: Any = None
    for kind in kinds:
        found = kind if found is None else found | kind
    return found


def takes_several(annotation: Any) -> bool:
    """Return whether a type is a list of labels."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated or origin in (Union, UnionType):
        return any(map(takes_several, parts[:1] if origin is Annotated else parts))
    return origin in _LISTS


def _union(parts: Sequence[Any], labels: tuple[Any, ...]) -> Any:
    closed = any(map(_is_closed, parts))
    found: Any = None
    for part in parts:
        new: Any = part
        if part is NoneType:
            pass
        elif closed and not _is_closed(part):
            # In an open set the texts beside the labels stay what they are.
            inner, *metadata = get_args(part) if get_origin(part) is Annotated else (part,)
            new = _annotated(inner, metadata, labels)
        elif (new := _with_set(part, labels)) is None:
            return None
        found = new if found is None else found | new
    return found


def _is_closed(annotation: Any) -> bool:
    if get_origin(annotation) is Annotated:
        return _is_closed(get_args(annotation)[0])
    return get_origin(annotation) is Literal or (isinstance(annotation, type) and issubclass(annotation, Enum))


def _part_of(kind: type[Enum], labels: Sequence[Any]) -> Any:
    """Return the type of some members of an Enum: asked for by their values, as members in the record."""
    try:
        members = [kind(label) for label in labels]
    except ValueError as error:
        raise ConfigurationError(f"{error}: the labels of an Enum are its values.") from None
    values: Any = Literal[tuple(member.value for member in members)]
    return Annotated[values, BeforeValidator(_value_of), AfterValidator(kind)]


def _value_of(member: Any) -> Any:
    return member.value if isinstance(member, Enum) else member


def _kept(annotation: Any, metadata: Iterable[Any]) -> list[Any]:
    """Return the constraints that still apply to labels; those of a text, such as its length, do not."""
    many = get_origin(annotation) in _LISTS
    return [part for part in metadata if many or isinstance(part, VALIDATORS)]


def _annotated(annotation: Any, metadata: Iterable[Any], labels: Sequence[Any]) -> Any:
    for part in metadata:
        reader = part.func if isinstance(part, AfterValidator) else None
        twin = AfterValidator(reader.for_labels(labels)) if isinstance(reader, LabelReader) else part
        annotation = Annotated[annotation, twin]
    return annotation
