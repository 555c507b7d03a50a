"""CodeQuestion: a task's own prompt, answered with the code of a label: one token, whose probabilities are read."""

from __future__ import annotations

import json
import math
import string
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from llmtasker.compiler.answer_parser import Answer
from llmtasker.compiler.program import Program
from llmtasker.compiler.prompt import PromptLayout
from llmtasker.confidence.label_field import NO_LABEL, LabelField
from llmtasker.errors import ConfigurationError, InvalidOutputError, snippet
from llmtasker.signature.fields import label_text
from llmtasker.signature.signature import Inputs
from llmtasker.wire.completion import Completion
from llmtasker.wire.request import Head, Message, Mode, Request, Settings

CODES = string.ascii_uppercase + string.ascii_lowercase
"""Texts that are one token in the vocabulary of nearly every LLM."""

_TOP = 20  # alternatives of a token to request; OpenAI and vLLM return no more
_SPACES = " \t\r\n▁Ġ"  # also as some servers show a space in a token


class CodeQuestion(Program[Any]):
    """Asks for the code of a label alone, without reasoning; the answer is the probability of each label.

    Raises:
        ConfigurationError: there are more labels than codes.
    """

    def __init__(self, program: Program[Any], field: LabelField) -> None:
        if len(field.values) > len(CODES):
            raise ConfigurationError(
                f'confidence="logprobs" has a code of one token for {len(CODES)} labels at most, and {field.name} has '
                f'{len(field.values)}: use "votes" or "stated".'
            )
        self._field = field
        self._codes = dict(zip(field.values, CODES, strict=False))
        self._own: tuple[Settings, Settings] | None = None
        super().__init__(replace(program.source, mode="text", examples=(), selection=None))
        self.layout = program.layout

    def worded(self, layout: PromptLayout) -> CodeQuestion:
        """Return the question with other words, such as the examples of one input."""
        return cast("CodeQuestion", self._reworded(self.source, layout))

    def _prepare(self, mode: Mode) -> Head:
        lines = [f"{code}: {self._described(label)}" for label, code in self._codes.items()]
        note = f"Answer with the code of the {self._field.name}, one letter, and nothing else:\n" + "\n".join(lines)
        return Head({"logprobs": True, "top_logprobs": _TOP}, self.layout.head(note, self._as_turn))

    def _described(self, label: str) -> str:
        meaning = self._field.meanings.get(label)
        shown = "none of the others" if label == NO_LABEL else label
        return shown if not meaning or self.layout.shows_classes else f"{shown} ({meaning})"

    def _as_turn(self, answer: str) -> Message:
        value = json.loads(answer).get(self._field.wire)
        return {"role": "assistant", "content": self._codes[NO_LABEL if value is None else label_text(value)]}

    def render(self, inputs: Inputs, settings: Settings, mode: Mode | None = None) -> Request:
        """Return the request for one input, whose answer is one token.

        Raises:
            InputError: the signature could not show the input.
        """
        if self._own is None or self._own[0] is not settings:
            self._own = settings, replace(settings, limits={"max_tokens": 1})
        return super().render(inputs._replace(variant=None), self._own[1], mode)

    def parse(self, completion: Completion, inputs: Inputs) -> Answer[Any]:
        """Return the probability of each label, by its text.

        Raises:
            InvalidOutputError: the endpoint returns no probabilities, or none of the first tokens is a code.
        """
        if not completion.top_logprobs:
            raise InvalidOutputError(
                'the endpoint returns no token probabilities (logprobs): use confidence="votes" or "stated"'
            )
        shares = code_shares(completion.top_logprobs, list(self._codes.values()))
        if shares is None:
            tokens = snippet(", ".join(repr(token) for token, _ in completion.top_logprobs[:5]), 80)
            raise InvalidOutputError(f"none of the likely first tokens is the code of a label: {tokens}")
        return Answer(record={label: shares[code] for label, code in self._codes.items()}, reasoning=None, repairs=())


def code_shares(alternatives: Sequence[tuple[str, float]], codes: Sequence[str]) -> Mapping[str, float] | None:
    """Return the probability of each code, with a sum of 1; None: no code is among the alternatives.

    For other codes, see `with_the_rest`.

    >>> shares = code_shares([("A", math.log(0.6)), ("B", math.log(0.2)), (" A", math.log(0.1))], ["A", "B", "C"])
    >>> {code: round(share, 3) for code, share in shares.items()}
    {'A': 0.7, 'B': 0.2, 'C': 0.1}
    """
    found = dict[str, float]()
    for token, logprob in alternatives:
        if (code := token.strip(_SPACES)) in codes:
            found[code] = found.get(code, 0.0) + math.exp(min(logprob, 0.0))
    return with_the_rest(found, codes, alternatives)


def with_the_rest(
    found: Mapping[str, float], wanted: Sequence[str], alternatives: Sequence[tuple[str, float]]
) -> Mapping[str, float] | None:
    """Return the probability of each wanted code, with a sum of 1; None: nothing was found.

    Codes that were not found share what the alternatives leave over; each can have at most the probability of the
    least probable alternative.
    """
    if not math.fsum(found.values()):
        return None
    known = [math.exp(min(logprob, 0.0)) for _, logprob in alternatives]
    missing = len(wanted) - len(found)
    rest = min(max(0.0, 1.0 - math.fsum(known)) / missing, *known) if missing else 0.0
    shares = {name: found.get(name, rest) for name in wanted}
    total = math.fsum(shares.values())
    return {name: share / total for name, share in shares.items()}
