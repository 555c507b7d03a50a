"""Prompt and Script: which words go under which role.

Where a variable stands in the instructions is where it goes. What stands nowhere has a place of its own:
the examples are user and assistant turns, the input is the last user message.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic_core import PydanticSerializationError

from llmtasker.compiler.template import Template, Variable
from llmtasker.errors import ConfigurationError, snippet
from llmtasker.signature import RESERVED, Signature, as_text, label_descriptions
from llmtasker.wire.request import Message

ExamplesRole = Literal["turns", "system", "user"]
InputRole = Literal["user", "system"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """An example ready to be shown: the values of its input fields, and its answer as JSON text."""

    values: Mapping[str, Any]
    answer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """How a task wants its words set: its own variables, and the roles of examples and input.

    `examples_role`: "turns" (answered user messages), "system" or "user" (text in that message); None: where
    `{examples}` stands in the instructions, else turns. `input_role`: the role of a message that holds the
    input, whether the input stands in the instructions or by itself.
    """

    variables: Mapping[str, object] = field(default_factory=dict[str, object])
    examples_role: ExamplesRole | None = None
    input_role: InputRole = "user"

    def write(
        self, signature: type[Signature], examples: Sequence[Example], labels: Mapping[str, Sequence[str]]
    ) -> Script:
        """Return the words of a signature, with classes, examples and variables put in.

        `labels` are the labels of each output field that has some.

        Raises:
            ConfigurationError: a variable is unknown, hides another, or has nothing to show.
        """
        if taken := self.variables.keys() & {*signature.input_fields, *RESERVED}:
            raise ConfigurationError(f"variables: {min(taken)!r} already has a meaning in the instructions.")
        template = Template.parse(signature.instructions, {*signature.input_fields, *RESERVED, *self.variables})
        role = self.examples_role or ("system" if "examples" in template.names else "turns")
        if role == "user" and self.input_role == "system":
            role = "system"  # there is no user message
        aside = ""
        if role == "system" and examples and "examples" not in template.names:
            if self.input_role == "user" and signature.input_fields.keys() & set(template.names):
                aside = show_examples(signature, examples)  # the instructions go where their input goes
            else:
                template = Template((*template.parts, "\n\n", Variable("examples")))
        values = {name: _as_text(name, value) for name, value in self.variables.items()}
        if "classes" in template.names:
            values["classes"] = show_classes(signature, labels)
        if "examples" in template.names:
            values["examples"] = show_examples(signature, examples) if role == "system" else ""
        return Script(
            signature=signature,
            template=template.fill(values),
            examples=tuple(examples),
            examples_role=role,
            input_role=self.input_role,
            aside=aside,
            shows_classes="classes" in values,
        )


def _as_text(name: str, value: object) -> str:
    try:
        return as_text(value)
    except (PydanticSerializationError, ValueError) as error:
        raise ConfigurationError(f"variables: {name!r} can't be shown as text or JSON: {snippet(error)}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """The words of a task, before they are cast in the form of one mode.

    `head` gives the messages that all inputs share, `tail` those of one input. `aside` stands in the system
    message beside the instructions, wherever these are.
    """

    signature: type[Signature]
    template: Template
    examples: Sequence[Example]
    examples_role: ExamplesRole
    input_role: InputRole
    aside: str = ""
    shows_classes: bool = False

    @property
    def _turns(self) -> Sequence[Example]:
        return self.examples if self.examples_role == "turns" else ()

    @property
    def _one_message(self) -> bool:
        """Whether instructions and input make one message: the one holds the other, or both have one role in a row."""
        return bool(self.template.names) or (self.input_role == "system" and not self._turns)

    def head(self, note: str, answer_turn: Callable[[str, int], list[Message]]) -> list[Message]:
        """Return the messages before the input.

        `note` is what a mode has to say in the system message, `answer_turn(answer, number)` its form of an answer.
        """
        instructions = "" if self._one_message else self.template.render({})
        system = "\n\n".join(filter(None, (instructions, self.aside, note)))
        messages: list[Message] = [{"role": "system", "content": system}] if system else []
        for number, example in enumerate(self._turns, start=1):
            messages.append({"role": self.input_role, "content": self._input(example.values)})
            messages += answer_turn(example.answer, number)
        return messages

    def tail(self, values: Mapping[str, Any]) -> list[Message]:
        """Return the messages that hold the input."""
        shown = self._input(values)
        if self.examples_role == "user" and self.examples:
            shown = f"{show_examples(self.signature, self.examples)}\n\n{shown}"
        return [{"role": self.input_role, "content": shown}]

    def _input(self, values: Mapping[str, Any]) -> str:
        if not self._one_message:
            return self.signature.format_input(values)
        inline = self.template.names
        shown = {name: self.signature.format_input({name: values[name]}) for name in inline}
        parts = [self.template.render(shown)]
        if rest := {name: value for name, value in values.items() if name not in inline}:
            parts.append(self.signature.format_input(rest))
        return "\n\n".join(parts)


def show_classes(signature: type[Signature], labels: Mapping[str, Sequence[str]]) -> str:
    """Return the labels of a signature as a list, with what they mean; of several fields, each under its name.

    Raises:
        ConfigurationError: no output field has labels.
    """
    if not labels:
        raise ConfigurationError(
            f"{{classes}} stands in the instructions, but no output field of {signature.__name__} has labels: "
            "give one the type Literal[…], an Enum, or a list of these."
        )
    lists = {
        name: show_labels(found, label_descriptions(signature.output_fields[name])) for name, found in labels.items()
    }
    return (
        next(iter(lists.values())) if len(lists) == 1 else "\n".join(f"{name}:\n{text}" for name, text in lists.items())
    )


def show_labels(labels: Sequence[str], descriptions: Mapping[str, str]) -> str:
    """Return labels as a list of lines, each with its description if it has one.

    >>> print(show_labels(["chat", "chien"], {"chat": "un félin"}))
    - chat: un félin
    - chien
    """
    return "\n".join(f"- {label}: {told}" if (told := descriptions.get(label)) else f"- {label}" for label in labels)


def show_examples(signature: type[Signature], examples: Sequence[Example]) -> str:
    """Return examples as text, each in the form that the signature gives it."""
    return "\n".join(signature.format_example(signature.format_input(one.values), one.answer) for one in examples)
