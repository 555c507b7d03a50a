"""Examples: checked when the task is made, and shown in the form of real answers or as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from pydantic_core import PydanticSerializationError

from llmtasker.compiler.answer_model import REASONING
from llmtasker.errors import ConfigurationError, describe, snippet
from llmtasker.history import History
from llmtasker.signature import S, Signature, as_text
from llmtasker.values.set_order import in_order


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
    answer = signature.output_model.model_construct(**in_order(example.outputs()))
    try:
        text = answer.model_dump_json(by_alias=True, warnings=False)
    except PydanticSerializationError as error:
        raise ConfigurationError(f"example {number} can't be written as JSON: {snippet(error)}") from None
    if extra:
        text = f"{as_text(extra)[:-1]},{text[1:]}"
    return Example(values=example.inputs(), answer=text)


def as_input(value: object) -> object:
    """Return a conversation as text, and any other value as it is."""
    return str(value) if isinstance(value, History) else value


def show_examples(signature: type[Signature], examples: Sequence[Example]) -> str:
    """Return examples as text, each in the form that the signature gives it."""
    shown = [{name: as_input(value) for name, value in one.values.items()} for one in examples]
    return "\n".join(
        signature.format_example(signature.format_input(values), one.answer)
        for values, one in zip(shown, examples, strict=True)
    )
