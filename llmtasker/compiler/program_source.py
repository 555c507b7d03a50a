"""ProgramSource: what a program is compiled from, and its words, examples and schema."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic

from pydantic import BaseModel

from llmtasker.compiler.answer_model import REASONING, labels_of, wire_model
from llmtasker.compiler.chosen_examples import Selection
from llmtasker.compiler.examples import Example, labels_in_answer, read_example, shown_text
from llmtasker.compiler.label_set import takes_several, without_labels
from llmtasker.compiler.prompt import Prompt, PromptLayout
from llmtasker.errors import ConfigurationError
from llmtasker.signature.fields import holds_text, label_descriptions, wire_name
from llmtasker.signature.signature import S
from llmtasker.wire.offered_labels import POINTER, describe_offer
from llmtasker.wire.request import AskMode
from llmtasker.wire.wording import WORDINGS, Language

if TYPE_CHECKING:
    from llmtasker.compiler.example_picker import ExamplePicker
    from llmtasker.compiler.label_picker import LabelPicker, Shortlist


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramSource(Generic[S]):
    """What a program is compiled from; `keep` is whether the prepared parts may be stored on disk.

    With a `selection`, the examples are the pool from which those of an input are chosen. With a `shortlist`, an input
    is shown with the labels that are likely for it.
    """

    signature: type[S]
    prompt: Prompt = field(default_factory=Prompt)
    examples: Sequence[Any] = ()
    mode: AskMode = "auto"
    reasoning: bool = False
    language: Language = "en"
    keep: bool = True
    selection: Selection | None = None
    shortlist: Shortlist | None = None

    def check(self) -> None:
        """Raise a ConfigurationError if the mode does not suit the signature."""
        outputs = [info.annotation for info in self.signature.output_fields.values()]
        if self.reasoning and REASONING in self.signature.model_fields:
            raise ConfigurationError(
                f"{self.signature.__name__} has a field {REASONING!r} already: leave out reasoning=True."
            )
        if self.mode == "plain" and outputs != [str]:
            raise ConfigurationError('mode="plain" needs a signature with one output field, of type str.')
        if self.mode == "plain" and self.reasoning:
            raise ConfigurationError('mode="plain" does not support reasoning.')

    def read_examples(self) -> list[Example]:
        """Return the examples, checked."""
        return [
            read_example(self.signature, example, number, plain=self.mode == "plain", reasoning=self.reasoning)
            for number, example in enumerate(self.examples, start=1)
        ]

    def layout(self, examples: Sequence[Example]) -> PromptLayout:
        """Return the words, with these examples put in; those that are chosen for an input come with it."""
        shown = examples if self.selection is None else ()
        return self.write(shown, labels_of(self.signature.output_model))

    def write(self, examples: Sequence[Example], labels: Mapping[str, Sequence[str]]) -> PromptLayout:
        """Return the words, with these examples and labels put in, or a pointer to those that come with an input."""
        pointer = POINTER if self.shortened(labels) else None
        return self.prompt.write(self.signature, examples, labels, pointer)

    def shortened(self, labels: Mapping[str, Sequence[str]]) -> str | None:
        """Return the output field whose labels are not all shown; None: there is none.

        Raises:
            ConfigurationError: there is a shortlist, but not exactly one output field has labels.
        """
        if self.shortlist is None:
            return None
        if len(labels) != 1:
            raise ConfigurationError(
                f"a shortlist needs one output field with labels; the task has {', '.join(labels) or 'none'}."
            )
        ((name, known),) = labels.items()
        return name if len(known) > self.shortlist.count else None

    def label_picker(self, examples: Sequence[Example]) -> LabelPicker | None:
        """Return what chooses the labels that are shown with an input; None: all are shown."""
        labels = labels_of(self.signature.output_model)
        name = self.shortened(labels)
        if name is None or self.shortlist is None:
            return None
        from llmtasker.compiler.label_picker import LabelPicker

        info = self.signature.output_fields[name]
        meanings = label_descriptions(info)
        texts = [
            (shown_text(self.signature, one.values), labels_in_answer(one, wire_name(name, info))) for one in examples
        ]
        return LabelPicker(name, {label: meanings.get(label, "") for label in labels[name]}, texts, self.shortlist)

    def picker(self, pool: Sequence[Example]) -> ExamplePicker | None:
        """Return what chooses the examples of an input; None: they are the same for all."""
        if self.selection is None:
            return None
        from llmtasker.compiler.example_picker import ExamplePicker

        return ExamplePicker(self.signature, self.selection, pool, labels_of(self.signature.output_model))


def shown_model(source: ProgramSource[Any], layout: PromptLayout, shortened: str | None) -> type[BaseModel]:
    """Return the model to be filled; it describes the labels, unless the instructions list them.

    The field that is `shortened` takes any label, because not all of them are shown.
    """
    signature, wording = source.signature, WORDINGS[source.language]
    reasoning = wording.reasoning if source.reasoning else None
    descriptions, annotations = dict[str, str](), dict[str, Any]()
    for name, info in signature.output_fields.items():
        meanings = label_descriptions(info)
        if name == shortened:
            annotations[name] = without_labels(info.annotation)
            is_open = holds_text(info.annotation)
            descriptions[name] = describe_offer(wording, many=takes_several(info.annotation), open_set=is_open)
            continue
        if meanings and not layout.shows_classes:
            lines = [f"- {label}: {meaning}" for label, meaning in meanings.items()]
            descriptions[name] = "\n".join([*([info.description] if info.description else []), *lines])
    return wire_model(signature.output_model, reasoning=reasoning, descriptions=descriptions, annotations=annotations)
