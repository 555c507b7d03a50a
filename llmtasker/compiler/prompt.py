"""Prompt and PromptLayout: which words have which role.

A variable is replaced where it appears in the instructions. By default, the examples are user and assistant turns, and
the
input is the last user message.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from pydantic_core import PydanticSerializationError

from llmtasker.compiler.examples import Example, as_input, show_examples
from llmtasker.compiler.template import Template, Variable
from llmtasker.errors import ConfigurationError, InputError, nearest, snippet
from llmtasker.signature.conversation import Conversation
from llmtasker.signature.fields import RESERVED, label_descriptions
from llmtasker.signature.signature import Signature, as_text
from llmtasker.wire.offered_labels import POINTER
from llmtasker.wire.request import Message

ExamplesRole = Literal["turns", "system", "user"]
InputRole = Literal["user", "system"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """How the words of a task are arranged: its own variables, and the roles of examples and input.

    `examples_role`: "turns" (answered user messages), "system" or "user" (text in that message); None: where
    `{examples}` appears in the instructions, else turns. `input_role`: the role of the message with the input, whether
    the input is part of the instructions or not.
    """

    variables: Mapping[str, object] = field(default_factory=dict[str, object])
    examples_role: ExamplesRole | None = None
    input_role: InputRole = "user"

    def with_variables(self, variables: Mapping[str, object]) -> Prompt:
        """Return the same prompt with other values for some of its variables.

        Raises:
            ConfigurationError: it has no such variable.
        """
        for name in variables:
            if name not in self.variables:
                raise ConfigurationError(
                    f"the task has no variable {name!r}.{nearest(name, self.variables)} It has "
                    f"{', '.join(self.variables) or 'none'}; give it a value there first: Task(…, variables={{…}})."
                )
        return replace(self, variables={**self.variables, **variables})

    def write(
        self,
        signature: type[Signature],
        examples: Sequence[Example],
        labels: Mapping[str, Sequence[str]],
        classes: str | None = None,
    ) -> PromptLayout:
        """Return the words of a signature, with classes, examples and variables put in.

        `labels` are the labels of each output field that has some; `classes` replaces their list.

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
        values = {name: variable_text(name, value) for name, value in self.variables.items()}
        if "classes" in template.names:
            values["classes"] = classes or show_classes(signature, labels)
        if "examples" in template.names:
            values["examples"] = show_examples(signature, examples) if role == "system" else ""
        return PromptLayout(
            signature=signature,
            template=template.fill(values),
            examples=tuple(examples),
            examples_role=role,
            input_role=self.input_role,
            aside=aside,
            shows_classes="classes" in values,
        )


def variable_text(name: str, value: object) -> str:
    """Return how the value of a variable is shown: text as it is, anything else as JSON.

    Raises:
        ConfigurationError: it has no JSON form.
    """
    try:
        return as_text(value)
    except (PydanticSerializationError, ValueError) as error:
        raise ConfigurationError(f"variables: {name!r} can't be shown as text or JSON: {snippet(error)}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptLayout:
    """Where the words of a task go, whatever the mode.

    `head` gives the messages that all inputs share, `tail` those of one input. `aside` goes in the system message
    beside the instructions, wherever these are. The `offer` is the list of labels shown with one input.
    """

    signature: type[Signature]
    template: Template
    examples: Sequence[Example]
    examples_role: ExamplesRole
    input_role: InputRole
    aside: str = ""
    shows_classes: bool = False
    offer: str = ""

    @property
    def _turns(self) -> Sequence[Example]:
        return self.examples if self.examples_role == "turns" else ()

    @property
    def _one_message(self) -> bool:
        """Whether instructions and input share a message: one contains the other, or both have the same role in a
        row."""
        return bool(self.template.names) or (self.input_role == "system" and not self._turns)

    def head(self, note: str, as_turn: Callable[[str], Message]) -> list[Message]:
        """Return the messages before the input.

        `note` is what a mode adds to the system message, `as_turn` makes the message of an answer.
        """
        instructions = "" if self._one_message else self.template.render({})
        system = "\n\n".join(filter(None, (instructions, self.aside, note)))
        messages: list[Message] = [{"role": "system", "content": system}] if system else []
        for example in self._turns:
            messages += self._shown(example.values)
            messages.append(as_turn(example.answer))
        return messages

    def tail(self, values: Mapping[str, Any]) -> list[Message]:
        """Return the messages with the input.

        Raises:
            InputError: a conversation is the whole input, and its last message is not from the user.
        """
        if self.offer and (pointed := self._pointed()) is not self:
            return pointed.tail(values)
        messages = self._shown(values)
        if self.offer:
            messages[-1] = {**messages[-1], "content": f"{self.offer}{messages[-1]['content']}"}
        if self.examples_role == "user" and self.examples:
            content = f"{show_examples(self.signature, self.examples)}\n\n{messages[-1]['content']}"
            messages[-1] = {**messages[-1], "content": content}
        return messages

    def _pointed(self) -> PromptLayout:
        """Return the layout with the offer where the instructions point to it, if they contain the input too."""
        if not self._one_message or not any(isinstance(part, str) and POINTER in part for part in self.template.parts):
            return self
        parts = [part.replace(POINTER, self.offer) if isinstance(part, str) else part for part in self.template.parts]
        return replace(self, template=Template(tuple(parts)), offer="")

    def history(self, values: Mapping[str, Any]) -> list[str]:
        """Return the names of the conversations among the inputs that are shown as turns."""
        inline = self.template.names
        return [name for name, value in values.items() if isinstance(value, Conversation) and name not in inline]

    def _shown(self, values: Mapping[str, Any]) -> list[Message]:
        """Return the turns of a conversation, if there is one, and the message of the other values."""
        if not (names := self.history(values)):
            return [{"role": self.input_role, "content": self._input(values)}]
        turns = [{"role": turn.role, "content": turn.content} for name in names for turn in values[name]]
        rest = {name: value for name, value in values.items() if name not in names}
        if rest or self._one_message:
            return [*turns, {"role": self.input_role, "content": self._input(rest)}]
        if not turns or turns[-1]["role"] != "user":
            raise InputError("the conversation is the whole input: its last message must be from the user.")
        return turns

    def _input(self, values: Mapping[str, Any]) -> str:
        if not self._one_message:
            return self.signature.format_input(values)
        inline = self.template.names
        shown = {name: self.signature.format_input({name: as_input(values[name])}) for name in inline}
        parts = [self.template.render(shown)]
        if rest := {name: value for name, value in values.items() if name not in inline}:
            parts.append(self.signature.format_input(rest))
        return "\n\n".join(filter(None, parts))


def show_classes(signature: type[Signature], labels: Mapping[str, Sequence[str]]) -> str:
    """Return the labels of a signature as a list, with what they mean; of several fields, each under its name.

    Raises:
        ConfigurationError: no output field has labels.
    """
    if not labels:
        raise ConfigurationError(
            f"the instructions have {{classes}}, but no output field of {signature.__name__} has labels: "
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
    return "\n".join(f"- {label}: {text}" if (text := descriptions.get(label)) else f"- {label}" for label in labels)
