"""GroupLimits: the limits of one group; lowered when the endpoint refuses or cuts a group."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from llmtasker.compiler.program import Program
from llmtasker.values.json_schema import JsonSchema, resolve
from llmtasker.wire.request import Settings

LONGEST_INPUT = 12_000
"""Characters of the inputs of one group, as JSON text: about 3,000 tokens. Above, grouping saves almost nothing."""

DEFAULT_OUTPUT = 4_096
"""Tokens that an answer may have if the LLM has no `max_tokens`: many servers allow as many."""

_CHARACTERS_PER_TOKEN = 3  # of JSON; prose has more
_NAMES = 90  # characters of an answer's id and anchor
_NO_ANSWERS = 8  # groups in a row without a usable answer, after which grouping stops

_LOG = logging.getLogger("llmtasker")


class GroupLimits:
    """The most inputs, and the most characters of input, of one group; one object per run.

    `size` is the most inputs requested. The answers must fit the token limit: `answer` is the expected length of one
    (see `answer_length`), used until three groups have been measured.
    """

    def __init__(self, size: int, answer: int, settings: Settings) -> None:
        self.size = size
        self.input = LONGEST_INPUT
        tokens = next((limit for limit in map(_limits(settings).get, _LIMITS) if limit), None)
        self._output = _CHARACTERS_PER_TOKEN * (tokens or DEFAULT_OUTPUT)
        self._answer = _NAMES + answer
        self._answers = size  # how many fit one message, as learned from cut ones
        self._longest = 0.0
        self._seen = self._without = 0

    @property
    def most(self) -> int:
        """The most inputs that a group may have now."""
        answer = 1.25 * self._longest if self._seen >= 3 else self._answer
        return max(1, min(self.size, self._answers, int(self._output / answer)))

    def answered(self, length: int, answers: int) -> None:
        """Record a group's complete answer, of `length` characters."""
        self._without = 0
        self._seen += 1
        self._longest = max(self._longest, length / answers)

    def cut(self, answers: int, asked: int) -> None:
        """Record that only `answers` of those `asked` for arrived before the token limit."""
        self._answers = max(1, min(self._answers, answers or asked // 2))

    def too_long(self, length: int) -> None:
        """Record that inputs of `length` characters in total are too long for the context."""
        self.input = min(self.input, length // 2)

    def no_answers(self) -> None:
        """Record a group without a usable answer; after several in a row, the other rows are asked one by one."""
        self._without += 1
        if self._without == _NO_ANSWERS and self.size > 1:
            _LOG.warning("%d groups in a row gave no usable answer: asking one input at a time now", _NO_ANSWERS)
            self.size = 1

    def halve(self) -> None:
        """Halve the size of groups."""
        self.size = max(1, min(self.size, self.most) // 2)


_LIMITS = ("max_tokens", "max_completion_tokens")


def _limits(settings: Settings) -> Mapping[str, Any]:
    return {**settings.body, **settings.limits}


def answer_length(program: Program[Any]) -> int:
    """Return the expected characters of an answer: those of the longest example, or else by the types of its fields."""
    if program.layout.examples:
        return max(len(example.answer) for example in program.layout.examples)
    schema = program.model.model_json_schema()
    return _length(schema, schema)


def _length(node: Any, root: JsonSchema, depth: int = 0) -> int:
    if depth > 5:
        return 0
    node = resolve(node, root)
    if "enum" in node:
        return max(len(str(value)) for value in node["enum"]) + 2
    if properties := node.get("properties"):
        return sum(len(name) + 5 + _length(part, root, depth + 1) for name, part in properties.items())
    if "items" in node:
        return 4 * (2 + _length(node["items"], root, depth + 1))
    parts = [_length(part, root, depth + 1) for part in node.get("anyOf", ())]
    return max(parts, default={"string": 160, "object": 400, "array": 400}.get(node.get("type", ""), 12))
