"""Completion → record: what an endpoint returned, read as an answer to one input of a signature."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, Generic, NamedTuple, cast

from pydantic import ValidationError
from pydantic_core import to_json

from llmtasker.compiler.answer_model import REASONING
from llmtasker.errors import (
    FilteredError,
    InvalidOutputError,
    OutputError,
    RefusedError,
    TruncatedError,
    describe,
    snippet,
)
from llmtasker.parser.answer_schema import AnswerSchema
from llmtasker.parser.calls import FORMS, answer_text
from llmtasker.parser.marks import begins_with_call, without_marks
from llmtasker.parser.read import FROM_FENCE, read
from llmtasker.signature.fields import wire_name
from llmtasker.signature.signature import Inputs, S, as_text
from llmtasker.values.json_values import is_object
from llmtasker.values.lazy_pattern import lazy_pattern
from llmtasker.wire.completion import Completion
from llmtasker.wire.request import Mode

_WHOLE = (None, "stop", "tool_calls")  # finish reasons that do not prove that a text is complete
_BROKEN_OFF = lazy_pattern(
    r"error|abort|cancel|interrupt|fail|time_?out|overload|preempt|insufficient|malformed|unexpected|too_many|incomplete"
    r"|truncat|exceed|pause",
    re.IGNORECASE,
)
_LOOP_LOOKED_AT, _LONGEST_PERIOD = 600, 120  # characters


class Answer(NamedTuple, Generic[S]):
    """A valid answer: the record, the reasoning if there was any, and the repairs made."""

    record: S
    reasoning: str | None
    repairs: tuple[str, ...]


class AnswerParser(Generic[S]):
    """Reads completions as records of a signature; `function` is the name of the function that is offered.

    `whole_text` is whether the text as it is, without JSON, is the only output; `any_form` whether both calls and texts
    are accepted.
    """

    def __init__(
        self, signature: type[S], function: str, mode: Mode, *, reasoning: bool, whole_text: bool, any_form: bool
    ) -> None:
        self.signature = signature
        self.mode: Mode = mode
        self.reasons = reasoning
        self.whole_text = whole_text
        self.any_form = any_form
        self.schema = AnswerSchema.of(
            signature.output_model, function=function, also={REASONING} if reasoning else frozenset()
        )
        outputs, inputs = signature.output_fields.items(), signature.input_fields.items()
        self._output_names = {n for name, info in outputs for n in (name, wire_name(name, info))}
        self._input_names = {n for name, info in inputs for n in (name, wire_name(name, info))}

    def parse(self, completion: Completion, inputs: Inputs) -> Answer[S]:
        """Return the answer in a completion, repaired where that is safe.

        Raises:
            OutputError: it was refused, filtered or cut, or it does not fit the signature.
        """
        raise_for_ending(completion)
        if self.whole_text:
            return self._parse_text(completion, inputs)
        validate = self._validator(inputs)
        text, found = answer_text(self.mode, self.schema.function, completion)
        if text == "{}" and completion.tool_calls and (completion.text or "").strip():
            # A call without arguments, beside a text that may be the answer.
            with contextlib.suppress(OutputError):
                return self.parse(replace(completion, tool_calls=()), inputs)
        stopped = completion.finish_reason in ("stop", "tool_calls")
        reading = read(text, self.schema, validate, stopped=stopped, given=lambda: _given(inputs))
        record, reasoning = reading.value
        if self.any_form:
            found = tuple(note for note in found if note not in FORMS)
        # The prompt of text mode asks for a code fence.
        repairs = tuple(note for note in reading.repairs if note != FROM_FENCE or self.mode != "text")
        return Answer(record=record, reasoning=reasoning or reading.reasoning, repairs=(*found, *repairs))

    def _parse_text(self, completion: Completion, inputs: Inputs) -> Answer[S]:
        (name,) = self.signature.output_fields
        if completion.finish_reason not in _WHOLE:
            raise TruncatedError(f"the answer may not be whole: it ended with {completion.finish_reason!r}")
        front = without_marks((completion.text or "").strip(), lambda: _given(inputs))
        text = front.text.strip()
        if not text:
            raise InvalidOutputError("the answer is empty")
        if (begins_with_call(text) or begins_with_call(completion.text or "")) and text[:10] not in _given(inputs):
            raise InvalidOutputError(
                f"the answer is a function call, where a text was asked for: {snippet(text, 60)!r}"
            )
        try:
            record, _ = self._validator(inputs)({name: text})
        except ValidationError as error:
            raise InvalidOutputError(f"the answer does not fit {self.signature.__name__}: {describe(error)}") from None
        except Exception as error:  # noqa: BLE001 - a validator may raise anything
            raise InvalidOutputError(f"the answer does not fit: {type(error).__name__}: {snippet(error)}") from None
        return Answer(record=record, reasoning=front.reasoning, repairs=front.repairs)

    def _validator(self, inputs: Inputs) -> Callable[[Any], tuple[S, str | None]]:
        # A column of the row that has the name of an output must not replace a missing answer.
        given = {name: value for name, value in inputs.given.items() if name in self._input_names}

        def validate(value: Any) -> tuple[S, str | None]:
            try:
                outputs = {name: part for name, part in value.items() if name in self._output_names}
            except AttributeError:
                raise TypeError(f"expected a JSON object, not {snippet(value, 40)}") from None
            reasoning = _text_or_none(value.get(REASONING)) if self.reasons else None
            if self.schema.has_choices:
                # Where a value does not fit, Pydantic takes another type of the union that leaves its key out.
                self.signature.output_model.model_validate(outputs, extra="forbid")
            try:
                return self.signature.model_validate({**given, **outputs}), reasoning
            except ValidationError:
                if not self._is_strict:
                    raise
                return self.signature.model_validate({**given, **self._from_json(outputs)}), reasoning

        return validate

    @cached_property
    def _is_strict(self) -> bool:
        return _is_strict(self.signature.output_model.__pydantic_core_schema__)

    def _from_json(self, outputs: dict[str, Any]) -> dict[str, Any]:
        """Return the outputs as Python values: a strict model accepts the text of a date only from JSON."""
        half = self.signature.output_model.model_validate_json(to_json(outputs))
        return {name: getattr(half, name) for name in half.model_fields_set}


def raise_for_ending(completion: Completion) -> None:
    """Raise if the completion itself reports that it is not a complete answer."""
    if completion.refusal:
        raise RefusedError(
            f"the LLM declined: {snippet(completion.refusal)}", provider_text=snippet(completion.refusal, 500)
        )
    if completion.finish_reason == "content_filter":
        raise FilteredError("a content filter stopped the answer")
    if completion.finish_reason == "length":
        length = f"{len(completion.raw):,}"
        if (repeated := repeated_end(completion.raw)) is not None:
            raise TruncatedError(
                f"the LLM repeated {snippet(repeated, 40)!r} until the token limit cut the answer after {length} "
                "characters; more max_tokens would not help, a frequency_penalty or another LLM may",
                finish_reason="length",
            )
        raise TruncatedError(
            f"the answer was cut by the token limit after {length} characters; raise max_tokens",
            finish_reason="length",
        )
    if completion.finish_reason and _BROKEN_OFF.search(completion.finish_reason):
        raise TruncatedError(f"the endpoint broke off the answer: it ended with {completion.finish_reason!r}")


def repeated_end(text: str) -> str | None:
    """Return what a text repeats at its end, over hundreds of characters, or None.

    >>> repeated_end("It is late. " + "So late. " * 100)
    'So late. '
    """
    end = text[-_LOOP_LOOKED_AT:]
    if len(end) < _LOOP_LOOKED_AT:
        return None
    period = next((size for size in range(1, _LONGEST_PERIOD + 1) if end[size:] == end[:-size]), None)
    return None if period is None else end[-period:]


def _is_strict(schema: Any) -> bool:
    if is_object(schema):
        return schema.get("strict") is True or any(map(_is_strict, schema.values()))
    return isinstance(schema, list | tuple) and any(map(_is_strict, cast("Sequence[Any]", schema)))


def _given(inputs: Inputs) -> str:
    """Return the text of an input, to look for marks in it."""
    return "\n".join(as_text(value) for value in inputs.values.values())


def _text_or_none(value: Any) -> str | None:
    return value if isinstance(value, str) and value.strip() else None
