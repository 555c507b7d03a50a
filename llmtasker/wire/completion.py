"""What an endpoint answers: a Completion with its text, function calls and token counts, and how it is stored."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from llmtasker.values.json_values import canonical_json


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens of one or several calls. `input_cached` and `output_reasoning` are parts of `input` and `output`."""

    input: int = 0
    output: int = 0
    input_cached: int = 0
    output_reasoning: int = 0

    @property
    def total(self) -> int:
        """Input and output tokens together."""
        return self.input + self.output

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            input=self.input + other.input,
            output=self.output + other.output,
            input_cached=self.input_cached + other.input_cached,
            output_reasoning=self.output_reasoning + other.output_reasoning,
        )

    def to_dict(self) -> dict[str, int]:
        """Return the counts that are not 0."""
        counts = {
            "input": self.input,
            "output": self.output,
            "input_cached": self.input_cached,
            "output_reasoning": self.output_reasoning,
        }
        return {name: count for name, count in counts.items() if count}


NO_USAGE = Usage()


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A function call as the LLM wrote it; `arguments` is the raw text, valid JSON or not."""

    name: str
    arguments: str
    id: str = ""


_TEXT = frozenset({str})
_COUNT = frozenset({int})
_PAIRS = ([str, float], [str, int])


def _expect(sound: bool, what: str) -> None:
    if not sound:
        raise TypeError(f"its {what} are of another type")


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """The answer of an endpoint, in whatever dialect it was sent.

    `usage` is None if the endpoint does not count. `top_logprobs` are the alternatives of the first token, where they
    were asked for: texts with natural logarithms, the most probable first. `limits` has the `x-ratelimit-*`
    headers of this one response and is never stored.
    """

    text: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    reasoning: str | None = None
    refusal: str | None = None
    finish_reason: str | None = None
    model: str | None = None
    usage: Usage | None = None
    top_logprobs: tuple[tuple[str, float], ...] = ()
    limits: Mapping[str, str] | None = field(default=None, compare=False, repr=False)

    @property
    def raw(self) -> str:
        """The answer as text: the content, or else the arguments of the calls, or else the refusal."""
        if self.tool_calls and not (self.text and self.text.strip()):
            return "\n".join(call.arguments for call in self.tool_calls)
        return self.text or self.refusal or ""

    def to_json(self) -> str:
        """Return the completion as ASCII JSON text, without what is None or empty."""
        data: dict[str, Any] = {
            name: value
            for name in ("text", "reasoning", "refusal", "finish_reason", "model")
            if (value := getattr(self, name)) is not None
        }
        if self.tool_calls:
            data["tool_calls"] = [[call.name, call.arguments, call.id] for call in self.tool_calls]
        if self.usage is not None:
            data["usage"] = self.usage.to_dict()
        if self.top_logprobs:
            data["top_logprobs"] = [list(pair) for pair in self.top_logprobs]
        return canonical_json(data)

    @classmethod
    def from_json(cls, text: str) -> Completion:
        """Return the completion that `to_json` wrote.

        Raises:
            ValueError: the text is not such a completion.
        """
        try:
            data = json.loads(text)
            calls, usage = data.pop("tool_calls", None), data.pop("usage", None)
            logprobs = data.pop("top_logprobs", None)
            # By type, in C: this is done for each row that is found.
            _expect("limits" not in data and _TEXT.issuperset(map(type, data.values())), "texts")
            if calls is not None:
                _expect(all(type(call) is list and _TEXT.issuperset(map(type, call)) for call in calls), "tool_calls")
                data["tool_calls"] = tuple([ToolCall(name=name, arguments=args, id=id_) for name, args, id_ in calls])
            if usage is not None:
                _expect(_COUNT.issuperset(map(type, usage.values())), "usage")
                data["usage"] = Usage(**usage)
            if logprobs is not None:
                _expect(all(list(map(type, pair)) in _PAIRS for pair in logprobs), "top_logprobs")
                data["top_logprobs"] = tuple([(token, float(value)) for token, value in logprobs])
            return cls(**data)
        except (TypeError, AttributeError, ValueError, RecursionError) as error:
            raise ValueError(f"not a stored completion: {error}") from error
