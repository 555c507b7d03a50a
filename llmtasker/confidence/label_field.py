"""LabelField: the output field whose labels get a confidence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llmtasker.confidence.calibration_figures import sure_of_all
from llmtasker.errors import ConfigurationError
from llmtasker.signature.fields import label_descriptions, label_text, wire_name
from llmtasker.signature.signature import Signature
from llmtasker.values.json_schema import closed_set, offered_labels, resolve

NO_LABEL = ""
"""The text of None, for a field that may have no label: an empty text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelField:
    """An output field with labels: its name here and in requests, and the JSON value of each label by its text.

    `closed` is whether the field takes no other values, `many` whether it takes several labels.
    """

    name: str
    wire: str
    values: Mapping[str, Any]
    meanings: Mapping[str, str]
    closed: bool
    many: bool

    def texts(self, value: Any) -> list[str]:
        """Return the labels in a value of the field, by their texts."""
        if self.many:
            return [label_text(one) for one in value] if value else []
        return [NO_LABEL if value is None else label_text(value)]

    def sure(self, value: Any, found: Mapping[str, float]) -> float:
        """Return the confidence of a value of the field, from that of each label.

        For several labels, it is the confidence that these are right and the others are not, because the surest label
        alone does not show how sure the rest are.
        """
        texts = self.texts(value)
        return sure_of_all(texts, found) if self.many else found.get(texts[0], 0.0)


def label_field(signature: type[Signature], name: str | None, source: str) -> LabelField:
    """Return the field to which a confidence from a source applies.

    Raises:
        ConfigurationError: there is no such field, or more than one, or its labels are not known in advance.
    """
    schema = signature.output_model.model_json_schema()
    found = {one: _read(signature, one, schema) for one in signature.output_fields}
    labelled = [one for one, field in found.items() if field.values]
    if name is not None and name not in found:
        raise ConfigurationError(f"confidence: there is no output field {name!r}; choose {', '.join(found)}.")
    if name is None:
        candidates = labelled or (list(found) if len(found) == 1 else [])
        if len(candidates) != 1:
            which = f"name one of {', '.join(labelled)}" if labelled else "no output field has labels"
            raise ConfigurationError(f"confidence: {which}: Confidence(source={source!r}, field=…).")
        name = candidates[0]
    field = found[name]
    if source != "votes" and (field.many or not field.closed):
        kind = "takes several labels" if field.many else "may have a value that is not among its labels"
        raise ConfigurationError(f'confidence={source!r}: {name} {kind}, so only "votes" can be counted there.')
    return field


def _read(signature: type[Signature], name: str, schema: Mapping[str, Any]) -> LabelField:
    info = signature.output_fields[name]
    wire = wire_name(name, info)
    node = resolve(schema["properties"][wire], schema)
    labels = list(dict.fromkeys(offered_labels(node, schema)))
    many = _array(node, schema)
    closed = closed_set(node if many is None else many.get("items"), schema)
    if closed is not None:
        labels = closed
    empty = many is None and (
        None in labels or any(resolve(part, schema).get("type") == "null" for part in node.get("anyOf", ()))
    )
    values = {label_text(label): label for label in labels if label is not None}
    return LabelField(
        name=name,
        wire=wire,
        values={**values, NO_LABEL: None} if empty and values else values,
        meanings=label_descriptions(info),
        closed=closed is not None,
        many=many is not None,
    )


def _array(node: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the schema of a list in the schema of a field; None: the field takes no list."""
    parts = [resolve(part, schema) for part in (node, *node.get("anyOf", ()))]
    return next((part for part in parts if part.get("type") == "array"), None)
