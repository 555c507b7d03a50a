"""Examples: checked when the task is made, and shown in the form of real answers or as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticSerializationError, to_json

from llmtasker.compiler.answer_model import REASONING
from llmtasker.errors import ConfigurationError, describe, snippet
from llmtasker.signature.conversation import Conversation
from llmtasker.signature.fields import label_text, wire_name
from llmtasker.signature.signature import S, Signature, as_text
from llmtasker.values.json_values import canonical_json, is_array, parse_json
from llmtasker.values.schema_check import contradiction
from llmtasker.values.set_order import in_order
from llmtasker.values.validation_json import validation_json


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """An example ready to be shown: the values of its input fields, and its answer as JSON text."""

    values: Mapping[str, Any]
    answer: str


def read_example(
    signature: type[S], example: S | Mapping[str, Any], number: int, *, plain: bool, reasoning: bool
) -> Example:
    """Return an example that was given as a record or as a mapping of all its fields.

    Raises:
        ConfigurationError: it does not fit the signature, or has no JSON form.
    """
    extra = {}
    if not isinstance(example, signature):
        if isinstance(example, str):
            raise ConfigurationError(
                f"example {number} is the text {snippet(example, 40)!r}: give records of {signature.__name__}, or "
                "mappings with all its fields. (A mapping from text to label is for Classification.)"
            )
        if reasoning and isinstance(example, Mapping) and isinstance(example.get(REASONING), str):
            extra = {REASONING: example[REASONING]}
        try:
            example = signature.model_validate(example.model_dump() if isinstance(example, Signature) else example)
        except ValidationError as error:
            raise ConfigurationError(f"example {number} does not fit {signature.__name__}: {describe(error)}") from None
    if plain:
        return Example(values=example.inputs(), answer=str(next(iter(example.outputs().values()))))
    text = to_json(_answer(signature, example.outputs(), number)).decode()
    if extra:
        text = f"{as_text(extra)[:-1]},{text[1:]}"
    return Example(values=example.inputs(), answer=text)


def _answer(signature: type[Signature], outputs: Mapping[str, Any], number: int) -> Any:
    """Return the answer of an example as JSON values, as the schema that is sent describes them.

    Raises:
        ConfigurationError: the example has no JSON form, or contradicts the schema.
    """
    model = signature.output_model
    reasons: list[str] = []
    for form in (_as_read, _as_written):
        try:
            answer = form(signature, outputs)
            text = to_json(answer)
            canonical_json(answer)  # refuses NaN
        except (PydanticSerializationError, ValueError, TypeError) as error:
            reasons.append(f"example {number} can't be written as JSON: {snippet(error)}")
            continue
        try:
            model.model_validate_json(text)
        except ValidationError as error:
            reason: str | None = describe(error)
        else:
            schema = _schema_of(model)
            reason = contradiction(answer, schema, schema)
        if reason is None:
            return answer
        reasons.append(
            f"example {number} contradicts the schema that the LLM sees: {reason}. Examples show the values that a "
            "field reads; serializers and computed fields are not part of an answer."
        )
    raise ConfigurationError(reasons[0])


@lru_cache(maxsize=8)  # it takes long with thousands of labels, and there may be thousands of examples
def _schema_of(model: type[BaseModel]) -> Mapping[str, Any]:
    return model.model_json_schema()


def _as_read(signature: type[Signature], outputs: Mapping[str, Any]) -> Any:
    """Return the outputs in the form in which they are read."""
    fields = signature.output_fields
    return {wire_name(name, info): validation_json(outputs[name], wire_name) for name, info in fields.items()}


def _as_written(signature: type[Signature], outputs: Mapping[str, Any]) -> Any:
    """Return the outputs in the form in which Pydantic writes them: some types can be read in no other form."""
    answer = signature.output_model.model_construct(**in_order(dict(outputs)))
    return answer.model_dump(mode="json", by_alias=True, round_trip=True, warnings=False)


def as_input(value: object) -> object:
    """Return a conversation as text, and any other value as it is."""
    return str(value) if isinstance(value, Conversation) else value


def shown_text(signature: type[Signature], values: Mapping[str, Any]) -> str:
    """Return an input as the LLM sees it, a conversation as text."""
    return signature.format_input({name: as_input(value) for name, value in values.items()})


def labels_in_answer(example: Example, name: str) -> list[str]:
    """Return the labels of an example in a field, by the field's name in the request."""
    value = parse_json(example.answer).get(name)
    return sorted(map(label_text, value)) if is_array(value) else [label_text(value)]


def show_examples(signature: type[Signature], examples: Sequence[Example]) -> str:
    """Return examples as text, each in the form that the signature gives it."""
    shown = [{name: as_input(value) for name, value in one.values.items()} for one in examples]
    blocks = (
        signature.format_example(signature.format_input(values), one.answer)
        for values, one in zip(shown, examples, strict=True)
    )
    return "\n".join(blocks).rstrip("\n")
