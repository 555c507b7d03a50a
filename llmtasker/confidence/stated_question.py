"""StatedQuestion: a task's own prompt, answered with a probability for each label."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, cast

from llmtasker.compiler.answer_parser import Answer
from llmtasker.compiler.examples import show_examples
from llmtasker.compiler.program import Program
from llmtasker.compiler.program_source import ProgramSource
from llmtasker.compiler.prompt import PromptLayout
from llmtasker.confidence.label_field import NO_LABEL, LabelField
from llmtasker.errors import InvalidOutputError
from llmtasker.signature.fields import InputField, OutputField
from llmtasker.signature.signature import Inputs, Signature
from llmtasker.wire.completion import Completion
from llmtasker.wire.request import Mode, Request, Settings

_NOTHING_ELSE = "none of the others"


class StatedQuestion(Program[Any]):
    """Asks for a number for each label instead of a label; the answer is the share of each."""

    def __init__(self, program: Program[Any], field: LabelField) -> None:
        self._fields = {f"label_{number}": label for number, label in enumerate(field.values)}
        outputs = {
            name: (float, OutputField(alias=label or _NOTHING_ELSE, description=field.meanings.get(label), ge=0))
            for name, label in self._fields.items()
        }
        signature = Signature.make(
            "Probabilities",
            instructions="The prompt is that of the task.",
            inputs={"prompt": (str | None, InputField(default=None))},
            outputs=outputs,
        )
        source = program.source
        super().__init__(ProgramSource(signature=signature, mode=source.mode, keep=source.keep))
        self._field = field
        self.layout = self._asking_for_all(program.layout)

    def worded(self, layout: PromptLayout) -> StatedQuestion:
        """Return the question with other words, such as the examples of one input."""
        return cast("StatedQuestion", self._reworded(self.source, self._asking_for_all(layout)))

    def _asking_for_all(self, layout: PromptLayout) -> PromptLayout:
        note = (
            f"Do not give the {self._field.name} itself: give the probability that each of these is the right one, "
            "from 0 to 1, all together 1. Where you are not sure, say so with the numbers."
        )
        turns = layout.examples_role == "turns"
        # Examples as turns, whose answers name one label, would contradict the request.
        shown = show_examples(layout.signature, layout.examples) if turns else ""
        aside = "\n\n".join(filter(None, (layout.aside, shown, note)))
        return replace(layout, aside=aside, examples=() if turns else layout.examples)

    def render(self, inputs: Inputs, settings: Settings, mode: Mode | None = None) -> Request:
        """Return the request for one input.

        Raises:
            InputError: the signature could not show the input.
        """
        return super().render(inputs._replace(variant=None), settings, mode)

    def parse(self, completion: Completion, inputs: Inputs) -> Answer[Any]:
        """Return the share of each label, by its text.

        Raises:
            OutputError: it was refused, filtered or cut, a number is missing, or all are 0.
        """
        answer = self.parser.parse(completion, inputs._replace(variant=None, given={}))
        stated = answer.record.outputs()
        total = math.fsum(stated.values())
        if not math.isfinite(total) or total <= 0:
            raise InvalidOutputError("the probabilities of all labels are 0: their sum must be 1")
        shares = {label or NO_LABEL: stated[name] / total for name, label in self._fields.items()}
        return Answer(record=shares, reasoning=answer.reasoning, repairs=answer.repairs)
