"""The form of a task: its content as JSON, and the definition that it makes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, Self, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError
from starlette.datastructures import FormData

from llmtasker.api.problem import Problem
from llmtasker.api.served_tasks import (
    ClassificationDefinition,
    InstructionDefinition,
    InstructionExample,
    LabelExample,
)
from llmtasker.errors import describe, snippet
from llmtasker.tasks.classification import generic_instructions
from llmtasker.values.json_values import is_object, parse_json
from llmtasker.values.language import Code

SEPARATOR = ";"
"""Separates the labels of an example with several, and the choices of a field."""

INSTRUCTION = "instruction"
"""The key of the form of an instruction, so that neither form is lost when the user tries the other one."""

FIELD_KINDS = ("text", "integer", "number", "boolean", "choices")

TextPair = tuple[str, str]
M = TypeVar("M", bound=BaseModel)
D = TypeVar("D", bound="dict[str, Any]")


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelForm:
    """The form of a classification: labels with their meanings, examples with their labels, rules, and choices."""

    labels: tuple[TextPair, ...] = ()
    examples: tuple[TextPair, ...] = ()
    rules: str = ""
    multi_label: bool = False
    open_set: bool = False
    allow_none: bool = False
    language: Code = "en"
    confidence: Literal["", "stated", "votes", "logprobs", "label_scores"] = ""
    model: str = ""

    @classmethod
    def of(cls, kept: Mapping[str, Any], language: Code) -> Self:
        """Return the stored form; a new one has the language of the page."""
        own = {name: value for name, value in kept.items() if name != INSTRUCTION}
        return TypeAdapter(cls).validate_python({"language": language, **own})

    @classmethod
    def sent(cls, form: FormData, before: LabelForm) -> LabelForm:
        """Return the form as a browser sent it."""
        language = _text(form, "language")
        return replace(
            before,
            labels=_pairs(form, "label", "meaning"),
            examples=_pairs(form, "example_text", "example_answer"),
            rules=_text(form, "rules"),
            multi_label=_text(form, "multi_label") == "on",
            open_set="open_set" in form,
            allow_none="allow_none" in form,
            confidence=_source(_text(form, "confidence")),
            language="fr" if language == "fr" else "en" if language == "en" else before.language,
            model=_text(form, "model"),
        )

    def kept(self) -> dict[str, Any]:
        """Return the form as JSON values."""
        return asdict(self)

    @property
    def names(self) -> list[str]:
        """The labels, in order."""
        return [name for name, _ in self.labels if name]

    def definition(self) -> ClassificationDefinition:
        """Return the definition of the task; rules follow the generic instructions.

        Raises:
            Problem: the form is not a valid task.
        """
        instructions = None
        if self.rules.strip():
            generic = generic_instructions(
                language=self.language,
                multi_label=self.multi_label,
                open_set=self.open_set,
                allow_none=self.allow_none,
                with_labels=bool(self.names),
            )
            instructions = f"{generic}\n\n{_verbatim(self.rules)}"
        examples = [
            LabelExample(text=text, label=_split(answer) if self.multi_label else answer)
            for text, answer in self.examples
            if text.strip() and (answer or self.allow_none)
        ]
        values = {name: getattr(self, name) for name in ("multi_label", "open_set", "allow_none", "language")}
        return _made(
            ClassificationDefinition,
            labels=_once({name: meaning for name, meaning in self.labels if name}, self.names),
            instructions=instructions,
            examples=examples,
            confidence=self.confidence or None,
            model=self.model or None,
            **values,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldForm:
    """The form of a custom instruction: the instruction, its output fields (name, kind, choices), examples."""

    rules: str = ""
    fields: tuple[tuple[str, str, str], ...] = ()
    examples: tuple[TextPair, ...] = ()
    model: str = ""

    @classmethod
    def of(cls, kept: Mapping[str, Any]) -> Self:
        """Return the stored form."""
        return TypeAdapter(cls).validate_python(kept.get(INSTRUCTION, {}))

    @classmethod
    def sent(cls, form: FormData, before: FieldForm) -> FieldForm:
        """Return the form as a browser sent it."""
        rows = zip(_texts(form, "field"), _texts(form, "kind"), _texts(form, "choices"), strict=False)
        return replace(
            before,
            rules=_text(form, "rules"),
            fields=tuple((name.strip(), kind, choices) for name, kind, choices in rows if name.strip() or choices),
            examples=_pairs(form, "example_text", "example_answer"),
            model=_text(form, "model"),
        )

    def kept(self) -> dict[str, Any]:
        """Return the form as JSON values."""
        return {INSTRUCTION: asdict(self)}

    def definition(self) -> InstructionDefinition:
        """Return the definition of the task.

        Raises:
            Problem: the form is not a valid task.
        """
        output: dict[str, Any] = {
            name: _split(choices) if kind == "choices" else kind for name, kind, choices in self.fields if name
        }
        _once(output, [name for name, _, _ in self.fields if name])
        examples = [
            InstructionExample(text=text, output=_answer(answer, bool(output)))
            for text, answer in self.examples
            if text.strip() and answer.strip()
        ]
        return _made(
            InstructionDefinition,
            instructions=_verbatim(self.rules),
            output=output or None,
            examples=examples,
            model=self.model or None,
        )


TaskForm = LabelForm | FieldForm


def _made(kind: type[M], **values: Any) -> M:
    try:
        return kind(**values)
    except ValidationError as error:
        raise Problem("invalid", f"{describe(error)}.") from None


def _once(made: D, names: list[str]) -> D:
    """Return the values if no name appears twice.

    Raises:
        Problem: a name appears twice.
    """
    if len(made) < len(names):
        twice = next(name for place, name in enumerate(names) if name in names[:place])
        raise Problem("invalid", f"{snippet(twice, 60)!r} appears twice.")
    return made


def _source(text: str) -> Literal["", "stated", "votes", "logprobs", "label_scores"]:
    return text if text in {"stated", "votes", "logprobs", "label_scores"} else ""  # type: ignore[return-value]


def _verbatim(text: str) -> str:
    """Return a text as instructions in which braces are ordinary characters."""
    return text.strip().replace("\r\n", "\n").replace("{", "{{").replace("}", "}}")


def _answer(text: str, fields: bool) -> str | dict[str, Any]:
    if not fields:
        return text
    try:
        value = parse_json(text)
    except (ValueError, RecursionError):
        value = None
    if not is_object(value):
        raise Problem("invalid", 'An example has one value for each field, as JSON: {"name": "…"}.')
    return value


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(SEPARATOR) if part.strip()]


def _text(form: FormData, name: str) -> str:
    value = form.get(name)
    return value if isinstance(value, str) else ""


def _texts(form: FormData, name: str) -> list[str]:
    return [value if isinstance(value, str) else "" for value in form.getlist(name)]


def _pairs(form: FormData, first: str, second: str) -> tuple[TextPair, ...]:
    pairs = [(a.strip(), b.strip()) for a, b in zip(_texts(form, first), _texts(form, second), strict=False)]
    return tuple(pair for pair in pairs if any(pair))
