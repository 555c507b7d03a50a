"""Instruction: any instruction on a text; the output is a dict, a Pydantic object or plain text."""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self, Unpack, cast

from pydantic import PydanticInvalidForJsonSchema, PydanticSchemaGenerationError, PydanticUserError, TypeAdapter

from llmtasker.errors import ConfigurationError, snippet
from llmtasker.llm.llm import LLM
from llmtasker.plan import Plan, TaskChanges, TaskOptions
from llmtasker.signature.fields import InputField, OutputField
from llmtasker.signature.signature import Signature
from llmtasker.signature.signature_schema import field_type, why_not_made_again
from llmtasker.task import Task
from llmtasker.task_file import Document
from llmtasker.tasks.classification import Examples, pairs
from llmtasker.values.argument_checks import by_name
from llmtasker.wire.request import AskMode

__all__ = ["Instruction"]

_FIELD = "result"


class InstructionChanges(TaskChanges, total=False):
    """The keyword arguments of `Instruction.with_`."""

    output: Any


@dataclass(frozen=True, kw_only=True)
class InstructionPlan(Plan):
    """What an `Instruction` is made from."""

    instructions: str
    output: Any = str

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.as_dict:
            self._set("output", dict(self.output))
        outputs = _outputs(self.output)
        inputs = {"text": (str, InputField())}
        self._set(
            "signature", Signature.make("Instruction", instructions=self.instructions, inputs=inputs, outputs=outputs)
        )

    @property
    def as_dict(self) -> bool:
        """Whether an output is a dict with a key for each output field."""
        return issubclass(type(self.output), Mapping)

    @property
    def asked(self) -> AskMode:
        """The mode; by default "plain" if the output is a text, else "auto"."""
        return self.mode or ("plain" if self.output is str and not self.reasoning else "auto")

    def records_of(self, examples: Any) -> Sequence[Any]:
        """Return examples as mappings with all fields of the signature."""
        answered = enumerate(pairs(examples, _FIELD), start=1)
        return [{"text": text, **self._answer(answer, number)} for number, (text, answer) in answered]

    def shown_examples(self) -> Sequence[Any]:
        """Return the examples with the keys "text" and "result"."""
        return [{"text": text, _FIELD: answer} for text, answer in pairs(self.pool, _FIELD)]

    def needs(self) -> dict[str, str]:
        """Return the output, unless it can be made from the file."""
        reason = None if self.output is str or self.output is dict else why_not_made_again(self.signature)
        return {} if reason is None else {"output": reason}

    def own_settings(self) -> dict[str, Any]:
        """Return the form of the output."""
        form = (
            "fields" if self.as_dict else "text" if self.output is str else "object" if self.output is dict else "value"
        )
        return {"output": form}

    @classmethod
    def own_arguments(cls, document: Document, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return instructions, output and examples."""
        output = given.get("output")
        if output is None:
            output = _output(document)
        return {"instructions": document["instructions"], "output": output, "examples": document["examples"]}

    def _answer(self, answer: Any, number: int) -> Mapping[str, Any]:
        if not self.as_dict:
            return {_FIELD: answer}
        if not isinstance(answer, Mapping):
            raise ConfigurationError(f"example {number} needs a mapping as answer, not {snippet(repr(answer), 60)}.")
        return cast("Mapping[str, Any]", answer)


@by_name(InstructionPlan.places, tuple(TaskOptions.__annotations__))
class Instruction(Task[Any]):
    """Applies your own instructions to each text.

    Args:
        instructions: with {examples}, {text} and your own variables.
        output: `str` (the answer's text, as it is), `dict` (any JSON object), a mapping from names to types
            (a dict with these keys), or any type that a field can have: a Pydantic model, `list[str]`, an
            Enum, `bool` …
        examples: a mapping from text to output, or (text, output) pairs.
        mode: "auto" (function calling, or what the endpoint supports), "tools", "json_schema", "json" or "text".

    The other arguments are those of `Task`.

    Raises:
        ConfigurationError: the output is of another type, or an example does not fit it.

    >>> from llmtasker import LLM
    >>> from llmtasker.testing import FakeTransport
    >>> fake = LLM(transport=FakeTransport("A parcel is late."), cache=False)
    >>> Instruction(llm=fake, instructions="Summarise in one sentence.")("Where is my parcel? …").output
    'A parcel is late.'
    """

    _plan_class = InstructionPlan

    def __init__(
        self,
        *,
        llm: Any = None,
        instructions: str,
        output: Any = str,
        examples: Examples = (),
        **options: Unpack[TaskOptions],
    ) -> None:
        own = {"instructions": instructions, "output": output, "examples": examples}
        self._build(InstructionPlan.of(type(self).__name__, {**own, **options}), LLM.of(llm))

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, output: Any = None, llm: Any = None) -> Self:  # type: ignore[override]
        """Return the instruction that `save` wrote; pass the class as `output` if it was made with one.

        Raises:
            ConfigurationError: see `Task.load`.
        """
        return cls._load(path, llm, {"output": output})

    @property
    def plan(self) -> InstructionPlan:
        """What the task was made from, apart from its LLM."""
        return cast("InstructionPlan", self._plan)

    def with_(self, **changes: Unpack[InstructionChanges]) -> Self:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return a new task with other arguments; see `Task.with_`."""
        return super().with_(**changes)  # type: ignore[misc]

    def _present(self, record: Any) -> Any:
        return record.outputs() if self.plan.as_dict else getattr(record, _FIELD)


def _output(document: Document) -> Any:
    """Return the output that a document describes."""
    fields = {name: field_type(node) for name, node in document["fields"].items() if node.get("side") == "output"}
    match document["settings"].get("output"):
        case "text":
            return str
        case "object":
            return dict
        case "fields":
            return {name: (kind, OutputField(**arguments)) for name, (kind, arguments) in fields.items()}
        case "value" if _FIELD in fields:
            return fields[_FIELD][0]
        case other:
            raise ConfigurationError(f"the output has the unknown form {other!r}.")


def _outputs(output: Any) -> dict[str, Any]:
    if issubclass(type(output), Mapping):
        if not output:
            raise ConfigurationError("output is an empty mapping: name at least one field, or give dict.")
        return {str(name): kind if isinstance(kind, tuple) else (kind, OutputField()) for name, kind in output.items()}
    if output is str:
        return {_FIELD: (str, OutputField())}
    if output is dict:
        return {_FIELD: (dict[str, Any], OutputField(description="a JSON object with the keys that are asked for"))}
    if output is None or isinstance(output, str) or inspect.isroutine(output) or not _has_schema(output):
        raise ConfigurationError(
            f"output is a type, such as str, dict, list[str], an Enum or a Pydantic model, or a mapping from names to "
            f"types, not {snippet(repr(output), 60)}."
        )
    return {_FIELD: (output, OutputField())}


def _has_schema(output: Any) -> bool:
    try:
        TypeAdapter(output).json_schema()
    except (PydanticUserError, PydanticSchemaGenerationError, PydanticInvalidForJsonSchema):
        return False
    return True
