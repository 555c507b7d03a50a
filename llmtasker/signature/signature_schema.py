"""A signature as JSON: its fields and labels, its differences from another one, and a signature made from them."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from pydantic.fields import FieldInfo

from llmtasker.errors import ConfigurationError, snippet
from llmtasker.signature.fields import FieldMarker, InputField, OutputField, label_descriptions, marker_of
from llmtasker.signature.made_class import made_how
from llmtasker.signature.signature import Signature
from llmtasker.signature.type_schema import NotHeldError, Schema, field_arguments, field_schema, schema_type
from llmtasker.values.json_schema import has_reference
from llmtasker.values.json_values import canonical_json, is_object

Fields = Mapping[str, Any]
Meanings = Mapping[str, Any]


def fields_of(signature: type[Signature]) -> dict[str, Schema]:
    """Return each field as a JSON schema with its side: the inputs first, then the outputs."""
    inputs, outputs = signature.input_fields.items(), signature.output_fields.items()
    return {
        **{name: {"side": "input", **_schema(signature, name, info)} for name, info in inputs},
        **{name: {"side": "output", **_schema(signature, name, info)} for name, info in outputs},
    }


def _schema(signature: type[Signature], name: str, info: FieldInfo) -> Schema:
    try:
        return _held(info)
    except NotHeldError:
        return {"json_schema": _full_schema(signature, name, info)}


def _held(info: FieldInfo) -> Schema:
    schema = field_schema(info, ignore=FieldMarker)
    marker = marker_of(info)
    return {**schema, "minLength": 0} if marker is not None and marker.may_be_empty else schema


def _full_schema(signature: type[Signature], name: str, info: FieldInfo) -> Any:
    half = signature.input_model if name in signature.input_fields else signature.output_model
    try:
        whole = half.model_json_schema(by_alias=False)
    except Exception:  # noqa: BLE001 - an input may be of a type that has no schema
        return {"python": snippet(repr(info.annotation), 200)}
    schema = whole["properties"][name]
    return {**schema, "$defs": whole["$defs"]} if has_reference(schema) else schema


def labels_of(signature: type[Signature]) -> dict[str, dict[str, str]]:
    """Return the meanings of each output field's labels, for fields that have some."""
    found = {name: dict(label_descriptions(info)) for name, info in signature.output_fields.items()}
    return {name: meanings for name, meanings in found.items() if meanings}


def signature_hash(fields: Fields, labels: Meanings) -> str:
    """Return the hash of the results of `fields_of` and `labels_of`."""
    return sha256(canonical_json([fields, labels]).encode()).hexdigest()


def why_not_made_again(signature: type[Signature]) -> str | None:
    """Return why `make_signature` can't make a signature from its fields; None: it can."""
    base = signature
    while (made := made_how(base)) is not None:
        base = made.arguments[0]
    if base is not Signature:
        return f"{base.__name__} was written as a class"
    for name, info in signature.model_fields.items():
        try:
            _held(info)
        except NotHeldError as error:
            return f"the field {name!r} has something that can't be stored in a file: {error}"
    return None


def make_signature(name: str, instructions: str, fields: Fields, labels: Meanings) -> type[Signature]:
    """Return a signature made from the results of `fields_of` and `labels_of`.

    Raises:
        ConfigurationError: a field is not described in their form.
        SignatureError: the fields do not make a signature.
    """
    sides: dict[str, dict[str, Any]] = {"input": {}, "output": {}}
    for key, node in fields.items():
        kind, arguments = field_type(node)
        if node["side"] == "output":
            sides["output"][key] = (kind, OutputField(labels=labels.get(key), **arguments))
        else:
            sides["input"][key] = (kind, InputField(**arguments))
    return Signature.make(name, instructions=instructions, inputs=sides["input"], outputs=sides["output"])


def field_type(node: Any) -> tuple[Any, dict[str, Any]]:
    """Return the type of a field that `fields_of` described, and the arguments of its InputField or OutputField.

    Raises:
        ConfigurationError: it is not such a field.
    """
    if not is_object(node) or node.get("side") not in {"input", "output"}:
        raise ConfigurationError(f"{snippet(repr(node), 80)} is neither an input nor an output")
    schema = {name: part for name, part in node.items() if name != "side"}
    arguments = field_arguments(schema)
    if node["side"] == "input" and schema.get("minLength") == 0:
        arguments["min_length"] = schema.pop("minLength")
    return schema_type(schema), arguments


def differences(fields: Fields, labels: Meanings, signature: type[Signature]) -> list[str]:
    """Return how a signature differs from the description of another one, a phrase for each field."""
    own, found = fields_of(signature), list[str]()
    found += [f"{name!r} is not a field of {signature.__name__}" for name in fields if name not in own]
    found += [f"{signature.__name__} has the additional field {name!r}" for name in own if name not in fields]
    for name in [name for name in fields if name in own]:
        known, now = (one if is_object(one) else {} for one in (fields[name], own[name]))
        parts = [part for part in {**known, **now} if known.get(part) != now.get(part)]
        if labels.get(name) != labels_of(signature).get(name):
            parts.append("labels")
        found += [f"{name!r} differs in {', '.join(parts)}"] if parts else []
    return found
