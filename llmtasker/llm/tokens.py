"""TokenMeter: what a request will take in tokens, learned from what the endpoint counted."""

from __future__ import annotations

import threading

from llmtasker.wire.completion import Usage

CHARACTERS_PER_TOKEN = 4.0  # until something was counted: a usual figure for English prose
_MOST_PER_CHARACTER = 0.5
_OUTPUT, _MOST_OUTPUT = 60, 1024
_MARGIN = 1.25  # above the highest that was ever seen


class TokenMeter:
    """How many tokens the requests of one LLM have, by their length as JSON text. Shared by threads.

    >>> meter = TokenMeter()
    >>> meter.saw(400, Usage(input=80, output=10))
    >>> meter.expected(800)
    Usage(input=160, output=10, input_cached=0, output_reasoning=0)
    """

    def __init__(self) -> None:
        self.calls = 0
        self._characters = self._input = self._output = 0
        self._most_per_character = self._most_output = 0.0
        self._lock = threading.Lock()

    def saw(self, characters: int, usage: Usage) -> None:
        """Take note of what the endpoint counted for a request of this length."""
        with self._lock:
            self.calls += 1
            self._characters += characters
            self._input += usage.input
            self._output += usage.output
            self._most_per_character = max(self._most_per_character, usage.input / max(1, characters))
            self._most_output = max(self._most_output, usage.output)

    @property
    def characters_per_token(self) -> float:
        """Characters of the request for one input token, on average."""
        return self._characters / self._input if self._input else CHARACTERS_PER_TOKEN

    def expected(self, characters: int) -> Usage:
        """Return what a request of this length will probably take."""
        output = self._output / self.calls if self.calls else _OUTPUT
        return Usage(input=round(characters / self.characters_per_token), output=round(output))

    def at_most(self, characters: int, max_output: int | None) -> Usage:
        """Return what a request of this length may take; `max_output` is the token limit that it sends."""
        per_character = self._most_per_character * _MARGIN or _MOST_PER_CHARACTER
        output = self._most_output * _MARGIN * 2 if self.calls else _MOST_OUTPUT
        return Usage(input=round(characters * per_character) + 1, output=max_output or round(output) + 1)

    def __str__(self) -> str:
        said = f"{self.characters_per_token:.1f} characters a token"
        if not self.calls:
            return f"{said}, a rule of thumb: no call to this LLM has been counted yet"
        answer = f"{self._output / self.calls:.0f} tokens an answer"
        return f"{said} and {answer}, as counted by the endpoint in {self.calls:,} calls"
