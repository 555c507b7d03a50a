"""FormQuestion: a form that ends before the label; the LLM continues it, and the first token is scored."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from llmtasker.compiler.answer_parser import Answer
from llmtasker.compiler.program import Program
from llmtasker.compiler.prompt import PromptLayout
from llmtasker.confidence.code_question import with_the_rest
from llmtasker.confidence.label_field import NO_LABEL, LabelField
from llmtasker.errors import InvalidOutputError
from llmtasker.signature.fields import label_text
from llmtasker.signature.signature import Inputs, as_text
from llmtasker.wire.completion import Completion
from llmtasker.wire.prompt_request import PromptRequest
from llmtasker.wire.request import Head, Mode, Request, Settings

_NONE = "none"
_LIFT = 50.0  # added to the logits of all labels, so that they rank first and their ratios stay
_TOKENS = 8  # the most tokens of a label for which alternatives are requested
_OF_SAMPLING = frozenset({"temperature", "top_p", "seed", "stop"})


class FormQuestion(Program[Any]):
    r"""Asks llama.cpp to continue a form (`Text: …\nTopic:`), and reads the probability of each label's first token.

    The words of the form are the names of the fields. Instructions are left out; examples are forms that are filled in.
    Labels that begin with the same token share its probability.
    """

    def __init__(self, program: Program[Any], field: LabelField) -> None:
        self._field = field
        self._own: tuple[Settings, Settings] | None = None
        super().__init__(replace(program.source, mode="text", examples=(), selection=None))
        self.layout = program.layout

    def worded(self, layout: PromptLayout) -> FormQuestion:
        """Return the question with other words, such as the examples of one input."""
        return cast("FormQuestion", self._reworded(self.source, layout))

    def _prepare(self, mode: Mode) -> Head:
        labels = [_shown(label) for label in self._field.values]
        # llama.cpp: github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md
        return Head({
            "logprobs": len(labels) * _TOKENS,
            "post_sampling_probs": True,
            "samplers": ["temperature"],
            "temperature": 1.0,
            "logit_bias": [[f" {label}", _LIFT] for label in labels],
        })  # fmt: skip

    def render(self, inputs: Inputs, settings: Settings, mode: Mode | None = None) -> Request:
        """Return the request for one input."""
        if self._own is None or self._own[0] is not settings:
            body = {name: value for name, value in settings.body.items() if name not in _OF_SAMPLING}
            self._own = settings, replace(settings, body=body, limits={"max_tokens": 1})
        forms = [
            f"{self._form(example.values)} {_shown(self._label_of(example.answer))}" for example in self.layout.examples
        ]
        prompt = "\n\n".join([*forms, self._form(inputs.values)])
        return PromptRequest(self.head(mode or self.first_mode), [{"role": "user", "content": prompt}], self._own[1])

    def _form(self, values: Mapping[str, Any]) -> str:
        lines = [f"{_title(name)}: {as_text(value)}" for name, value in values.items() if value is not None]
        return "\n".join([*lines, f"{_title(self._field.name)}:"])

    def _label_of(self, answer: str) -> str:
        value = json.loads(answer).get(self._field.wire)
        return NO_LABEL if value is None else label_text(value)

    def parse(self, completion: Completion, inputs: Inputs) -> Answer[Any]:
        """Return the probability of each label, by its text.

        Raises:
            InvalidOutputError: the endpoint returns no probabilities, or none of the tokens begins a label.
        """
        if not completion.top_logprobs:
            raise InvalidOutputError(
                "the endpoint returns no token probabilities: label_scores needs llama.cpp, in the process or as its "
                "server"
            )
        shares = label_shares(completion.top_logprobs, {label: f" {_shown(label)}" for label in self._field.values})
        if shares is None:
            raise InvalidOutputError("no token that the endpoint returned begins a label")
        return Answer(record=shares, reasoning=None, repairs=())


def label_shares(alternatives: Sequence[tuple[str, float]], written: Mapping[str, str]) -> Mapping[str, float] | None:
    """Return the probability of each label, by the longest returned token that begins its text.

    >>> import math
    >>> found = label_shares([(" sports", math.log(0.6)), (" s", math.log(0.1)), (" health", math.log(0.2))],
    ...     {"sports": " sports", "health": " health"})
    >>> {label: round(share, 2) for label, share in found.items()}
    {'sports': 0.75, 'health': 0.25}
    """
    begins = dict[str, tuple[str, float]]()
    for token, logprob in alternatives:
        for label, text in written.items():
            if token.strip() and text.startswith(token) and len(token) > len(begins.get(label, ("", 0.0))[0]):
                begins[label] = token, logprob
    tokens = [token for token, _ in begins.values()]
    found = {label: math.exp(min(logprob, 0.0)) / tokens.count(token) for label, (token, logprob) in begins.items()}
    return with_the_rest(found, list(written), alternatives)


def _title(name: str) -> str:
    return name.replace("_", " ").capitalize()


def _shown(label: str) -> str:
    return _NONE if label == NO_LABEL else label
