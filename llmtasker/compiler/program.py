"""compile_program: signature + prompt + examples + mode → Program. No I/O."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, Literal, NamedTuple, get_origin

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError

from llmtasker.compiler.answer_model import (
    REASONING,
    answer_text,
    answer_turn,
    labels_of,
    prepare,
    reask_messages,
    wire_model,
)
from llmtasker.compiler.prompt import Example, Prompt, Script
from llmtasker.errors import (
    ConfigurationError,
    FilteredError,
    InputError,
    InvalidOutputError,
    OutputError,
    RefusedError,
    TruncatedError,
    snippet,
)
from llmtasker.misfit import describe
from llmtasker.parser.answer_schema import AnswerSchema
from llmtasker.parser.extract import after_reasoning
from llmtasker.parser.read import Reading, read
from llmtasker.signature import Inputs, S, Signature, as_text, label_descriptions, wire_name
from llmtasker.values.json_values import is_object
from llmtasker.wire.completion import Completion
from llmtasker.wire.request import Head, Mode, Request, Settings

AskMode = Literal["auto", "tools", "json_schema", "json", "text", "plain"]
"""How a task asks: a Mode; "auto" (tools, or what the endpoint can); "plain": the whole text is the one output."""


_WHOLE = (None, "stop", "tool_calls")  # endings of a text of which nothing else says that it is whole


def first_mode(asked: AskMode) -> Mode:
    """Return the mode that is tried first."""
    return "tools" if asked == "auto" else "text" if asked == "plain" else asked


class Answer(NamedTuple, Generic[S]):
    """A completion that fits: the record, the reasoning if there was any, and the repairs made."""

    record: S
    reasoning: str | None
    repairs: tuple[str, ...]


class Program(Generic[S]):
    """A compiled task. It is immutable and has no I/O; what does not depend on the input is computed once.

    One head a mode is kept: with "auto", an endpoint that has no function calls is asked in another mode.
    """

    def __init__(self, signature: type[S], script: Script, mode: AskMode, *, reasoning: bool) -> None:
        self.signature = signature
        self.script = script
        self.asked: AskMode = mode
        self.first_mode: Mode = first_mode(mode)
        self.model = _wire(signature, script, reasoning=reasoning)
        self._reasons = reasoning
        self._schema = AnswerSchema(signature.output_model.model_json_schema())
        outputs = signature.output_fields.items()
        self._output_names = {n for name, info in outputs for n in (name, wire_name(name, info))}
        self._input_names = {n for name, info in signature.input_fields.items() for n in (name, wire_name(name, info))}
        self._bare = _bare_object(signature)
        self._heads: dict[Mode, Head] = {}
        self._lock = threading.Lock()
        self.head(self.first_mode)

    def head(self, mode: Mode) -> Head:
        """Return what all requests in a mode share."""
        head = self._heads.get(mode)
        if head is None:
            with self._lock:
                head = self._heads.setdefault(mode, self._prepare(mode))
        return head

    def _prepare(self, mode: Mode) -> Head:
        if self.asked == "plain":
            return Head({}, self.script.head("", lambda answer, _: [{"role": "assistant", "content": answer}]))
        prepared = prepare(self.model, mode)
        name = self.model.__name__
        messages = self.script.head(prepared.note, lambda answer, number: answer_turn(mode, name, answer, number))
        return Head(prepared.fields, messages)

    def validate(self, given: object) -> Inputs:
        """Return the validated input; see `Signature.validate_input`."""
        return self.signature.validate_input(given)

    def render(self, inputs: Inputs, settings: Settings, mode: Mode | None = None) -> Request:
        """Return the request for one input.

        Raises:
            InputError: the signature could not show the input.
        """
        try:
            tail = self.script.tail(inputs.values)
        except Exception as error:  # noqa: BLE001 - format_input is the user's, and the values may be anything
            raise InputError(f"the input could not be shown: {type(error).__name__}: {snippet(error)}") from None
        return Request(self.head(mode or self.first_mode), tail, settings)

    def parse(self, completion: Completion, inputs: Inputs) -> Answer[S]:
        """Return the answer that a completion holds, mended where that is safe.

        Raises:
            OutputError: refused, filtered, cut, or or it does not fit the signature.
        """
        raise_for_ending(completion)
        if self.asked == "plain":
            return self._parse_plain(completion, inputs)
        text, found = answer_text(self.first_mode, self.model.__name__, completion)
        validate = self._validator(inputs)
        try:
            reading = read(text, self._schema, validate)
        except InvalidOutputError:
            if self._bare is None:
                raise
            reading = self._read_bare(text, validate, *self._bare)
        record, reasoning = reading.value
        if self.asked == "auto":
            found = ()  # any form is welcome
        return Answer(record=record, reasoning=reasoning, repairs=(*found, *reading.repairs))

    def _read_bare(
        self, text: str, validate: Callable[[Any], tuple[S, str | None]], name: str, schema: AnswerSchema
    ) -> Reading[tuple[S, str | None]]:
        """Read an answer that is the one object asked for, without the field that should hold it."""
        reading = read(text, schema, lambda value: validate({name: value}))
        return Reading(value=reading.value, repairs=(f"taken as {name!r}, which was not named", *reading.repairs))

    def _validator(self, inputs: Inputs) -> Callable[[Any], tuple[S, str | None]]:
        # A column of the row that has the name of an output must not stand in for a missing answer.
        given = {name: value for name, value in inputs.given.items() if name in self._input_names}

        def validate(value: Any) -> tuple[S, str | None]:
            if not is_object(value):
                raise TypeError(f"a JSON object is wanted, not {snippet(value, 40)}")
            outputs = {name: part for name, part in value.items() if name in self._output_names}
            reasoning = _text_or_none(value.get(REASONING)) if self._reasons else None
            return self.signature.model_validate({**given, **outputs}), reasoning

        return validate

    def _parse_plain(self, completion: Completion, inputs: Inputs) -> Answer[S]:
        (name,) = self.signature.output_fields
        whole = (completion.text or "").strip()
        text = after_reasoning(whole)
        if text is None:
            raise TruncatedError("the answer stops inside its reasoning")
        if completion.finish_reason not in _WHOLE:
            raise TruncatedError(f"the answer may not be whole: it ended with {completion.finish_reason!r}")
        thought = whole[: len(whole) - len(text)].strip()
        text = text.strip()
        if not text:
            raise InvalidOutputError("the answer is empty")
        try:
            record, _ = self._validator(inputs)({name: text})
        except ValidationError as error:
            raise InvalidOutputError(f"the answer does not fit {self.signature.__name__}: {describe(error)}") from None
        except Exception as error:  # noqa: BLE001 - a validator may raise anything
            raise InvalidOutputError(f"the answer does not fit: {type(error).__name__}: {snippet(error)}") from None
        repairs = ("taken from behind the reasoning",) if thought else ()
        return Answer(record=record, reasoning=thought or None, repairs=repairs)

    def reask(self, request: Request, completion: Completion, error: OutputError, mode: Mode) -> Request:
        """Return the request that shows the LLM its last answer and why it does not fit.

        `request` is the first one: earlier failures leave the conversation.
        """
        messages = reask_messages("text" if self.asked == "plain" else mode, completion, error.message)
        return Request(request.head, [*request.tail, *messages], request.settings)


def compile_program(
    signature: type[S],
    prompt: Prompt | None = None,
    examples: Iterable[S | Mapping[str, Any]] = (),
    mode: AskMode = "auto",
    *,
    reasoning: bool = False,
) -> Program[S]:
    """Return the program of a signature: schema, prompt, examples and key prefix are prepared here, once.

    An example is a record, or a mapping of all its fields (with "reasoning", where that is asked for).

    Raises:
        ConfigurationError: an example does not fit, a variable is unknown, or the mode can't serve the signature.
    """
    if reasoning and REASONING in signature.model_fields:
        raise ConfigurationError(f"{signature.__name__} has a field {REASONING!r} already: leave reasoning=True away.")
    if mode == "plain" and [info.annotation for info in signature.output_fields.values()] != [str]:
        raise ConfigurationError('mode="plain" needs a signature with one output field, of type str.')
    if mode == "plain" and reasoning:
        raise ConfigurationError('mode="plain" has no place for reasoning.')
    shown = [
        _example(signature, example, number, mode, reasoning=reasoning)
        for number, example in enumerate(examples, start=1)
    ]
    script = (prompt or Prompt()).write(signature, shown, labels_of(signature.output_model))
    return Program(signature, script, mode, reasoning=reasoning)


def _wire(signature: type[Signature], script: Script, *, reasoning: bool) -> type[BaseModel]:
    """Return the model to be filled; what labels mean is told by it, unless the instructions list them."""
    told: dict[str, str] = {}
    for name, info in signature.output_fields.items():
        meanings = label_descriptions(info)
        if meanings and not script.shows_classes:
            lines = [f"- {label}: {meaning}" for label, meaning in meanings.items()]
            told[name] = "\n".join([*([info.description] if info.description else []), *lines])
    return wire_model(signature.output_model, reasoning=reasoning, descriptions=told)


def _example(
    signature: type[S], example: S | Mapping[str, Any], number: int, mode: AskMode, *, reasoning: bool
) -> Example:
    extra = {}
    if not isinstance(example, signature):
        if isinstance(example, str):
            raise ConfigurationError(
                f"example {number} is the text {snippet(example, 40)!r}: give records of {signature.__name__}, or "
                "mappings with all its fields. (A mapping from text to label is for Classification.)"
            )
        if reasoning and isinstance(example, Mapping) and isinstance(example.get(REASONING), str):
            extra = {REASONING: example[REASONING]}
        try:
            example = signature.model_validate(example.model_dump() if isinstance(example, Signature) else example)
        except ValidationError as error:
            raise ConfigurationError(f"example {number} does not fit {signature.__name__}: {describe(error)}") from None
    if mode == "plain":
        return Example(values=example.inputs(), answer=str(next(iter(example.outputs().values()))))
    answer = signature.output_model.model_construct(**example.outputs())
    try:
        text = answer.model_dump_json(by_alias=True, warnings=False)
    except PydanticSerializationError as error:
        raise ConfigurationError(f"example {number} can't be written as JSON: {snippet(error)}") from None
    if extra:
        text = f"{as_text(extra)[:-1]},{text[1:]}"
    return Example(values=example.inputs(), answer=text)


def _bare_object(signature: type[Signature]) -> tuple[str, AnswerSchema] | None:
    """Return name and schema of the only output field, if it is an object: an answer may come without its name."""
    if len(signature.output_fields) > 1:
        return None
    ((name, info),) = signature.output_fields.items()
    annotation: Any = info.annotation
    kind = get_origin(annotation) or annotation
    if not (isinstance(kind, type) and issubclass(kind, dict | BaseModel)):
        return None
    return name, AnswerSchema(TypeAdapter(annotation).json_schema())


def raise_for_ending(completion: Completion) -> None:
    """Raise if the completion says of itself that it is no whole answer."""
    if completion.refusal:
        raise RefusedError(
            f"the LLM declined: {snippet(completion.refusal)}", provider_text=snippet(completion.refusal, 500)
        )
    if completion.finish_reason == "content_filter":
        raise FilteredError("a content filter stopped the answer")
    if completion.finish_reason == "length":
        raise TruncatedError(
            f"the answer was cut by the token limit after {len(completion.raw):,} characters; raise max_tokens",
            finish_reason="length",
        )


def _text_or_none(value: Any) -> str | None:
    return value if isinstance(value, str) and value.strip() else None
