"""A broken answer becomes the value that it says, with the list of repairs; or an error, never a guess.

As it is → pieces of the text, strictly → json-repair where none parses → coercion towards the type. The type
decides between extract. What was cut is never completed into a value.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Generic, NamedTuple, TypeVar

from llmtasker.errors import InvalidOutputError, TruncatedError, snippet
from llmtasker.misfit import describe
from llmtasker.parser import extract
from llmtasker.parser.answer_schema import AnswerSchema
from llmtasker.parser.coerce import coerce
from llmtasker.parser.extract import Piece
from llmtasker.parser.mend_json import Effort, NotMendableError, mend_json
from llmtasker.parser.unwrap import is_single, unwrap
from llmtasker.values.json_values import is_object, parse_json

T = TypeVar("T")


MAX_MENDED_PIECES = 5
"""Broken pieces of one text that are looked at, from its end."""

_NOT_WORDS = re.compile(r"`{3,}\w*|[\W_]+")


class Reading(NamedTuple, Generic[T]):
    """What an answer says: the validated value, and each repair made to get there, in plain words."""

    value: T
    repairs: tuple[str, ...] = ()


class _NotValidError(Exception):
    """A value does not fit; `related` tells whether it was meant for this type at all."""

    def __init__(self, message: str, *, related: bool) -> None:
        super().__init__(message)
        self.related = related


@dataclass(frozen=True, slots=True, kw_only=True)
class _Candidate(Generic[T]):
    """A piece of the text that is meant as the answer, and what came of it."""

    piece: Piece
    json: Any = None
    reading: Reading[T] | None = None
    invalid: Exception | None = None


def read(text: str, schema: AnswerSchema, validate: Callable[[Any], T]) -> Reading[T]:
    """Return what the text says, as the type that `validate` makes of a JSON value.

    `validate` may raise anything for a value that does not fit.

    Raises:
        InvalidOutputError: no value that fits is there, or which one is meant is not clear.
        TruncatedError: the text was cut.

    >>> team = {"enum": ["billing", "other"]}
    >>> schema = AnswerSchema({"type": "object", "properties": {"team": team}, "required": ["team"]})
    >>> def validate(value):
    ...     return {"billing": "B", "other": "O"}[value["team"]]
    >>> read('{"team": "billing"}', schema, validate)
    Reading(value='B', repairs=())
    >>> read('Sure: {"team": "Billing."}', schema, validate).repairs
    ('taken out of the text around it', "team: 'Billing.' read as 'billing'")
    """
    try:
        value = parse_json(text)
    except (ValueError, RecursionError):
        return _Reader(schema, validate).text(text)
    if schema.is_exact(value):
        try:
            return Reading(value=validate(value))
        except Exception:  # noqa: BLE001, S110 - a validator is the user's code; what it raises is reported below
            pass
    return _Reader(schema, validate).whole(value, text)


class _Reader(Generic[T]):
    """Reads one text that is not plainly right."""

    def __init__(self, schema: AnswerSchema, validate: Callable[[Any], T]) -> None:
        self.schema = schema
        self.validate = validate
        self.effort = Effort()

    def whole(self, value: Any, text: str) -> Reading[T]:
        """The text is JSON, but does not fit as it stands."""
        if self.schema.is_text:
            return Reading(value=self._validated(text, text), repairs=("taken as it stands",))
        try:
            return self._accept(value)[1]
        except _NotValidError as invalid:
            raise _invalid(invalid, text) from invalid.__cause__

    def text(self, text: str) -> Reading[T]:
        """The text as a whole is no JSON."""
        if not text.strip():
            raise InvalidOutputError("the answer is empty")
        if len(text) > extract.MAX_SCANNED:
            raise InvalidOutputError(f"the answer has {len(text)} characters and is no JSON: {snippet(text)!r}")
        start = text.lstrip("\ufeff")
        answer = extract.after_reasoning(start)
        if answer is None:
            raise TruncatedError(f"the answer stops inside its reasoning: {snippet(text[-60:])!r}")
        try:
            pieces = list(extract.pieces(answer))
        except extract.TooComplexError as error:
            raise InvalidOutputError(f"the answer can't be read, {error}: {snippet(text)!r}") from error
        if self.schema.is_text:
            return Reading(value=self._validated(answer, text), repairs=("taken as it stands",))
        reading = self._pieces(answer, pieces) if pieces else self._without_brackets(answer)
        if len(answer) < len(start):
            return Reading(value=reading.value, repairs=("taken from behind the reasoning", *reading.repairs))
        return reading

    def _accept(self, value: Any, notes: tuple[str, ...] = ()) -> tuple[Any, Reading[T]]:
        """Return the JSON value that fits, as it is or unwrapped and coerced, and its reading."""
        failure: Exception | None = None
        for variant, unwrapped in unwrap(value, self.schema):
            for form, changes in self._forms(variant):
                if not self.schema.is_answer(form):
                    continue
                try:
                    return form, Reading(value=self.validate(form), repairs=(*notes, *unwrapped, *changes))
                except Exception as error:  # noqa: BLE001 - a validator is the user's code; any error is a invalid
                    failure = failure or error
        if failure is not None:
            # A list in prose, '[1]', is hardly meant as the object asked for.
            related = self.schema.kind != "object" or is_object(value[0] if is_single(value) else value)
            raise _NotValidError(describe(failure), related=related) from failure
        raise _NotValidError(self.schema.expectation, related=False)

    def _forms(self, value: Any) -> Iterator[tuple[Any, tuple[str, ...]]]:
        exactly = self.schema.is_exact(value)
        if exactly:
            yield value, ()
        coerced, changes = coerce(value, self.schema)
        if changes:
            yield coerced, tuple(changes)
        if not exactly:
            yield value, ()

    def _without_brackets(self, answer: str) -> Reading[T]:
        """A number, a quoted string, or a bare label."""
        contents = extract.fenced(answer)
        bare = contents[0].strip() if len(contents) == 1 else answer.strip()
        try:
            value = parse_json(bare)
        except (ValueError, RecursionError):
            return self._bare(bare)
        return self.whole(value, answer)

    def _bare(self, text: str) -> Reading[T]:
        """A label without JSON around it. A free text field is never filled with prose."""
        if text.startswith('"') and text.count('"') == 1:
            raise TruncatedError(f"the answer is cut inside a string: {snippet(text[-60:])!r}")
        field = self.schema.label_field
        if field is None and self.schema.labels(self.schema.root) is None:
            raise _invalid(self.schema.expectation, text)
        value, notes = coerce(text if field is None else {field: text}, self.schema)
        return Reading(value=self._validated(value, text), repairs=(*notes,) or ("taken without JSON around it",))

    def _validated(self, value: Any, text: str) -> T:
        try:
            return self.validate(value)
        except Exception as error:  # a validator is the user's code
            raise _invalid(describe(error), text) from error

    def _pieces(self, answer: str, pieces: list[Piece]) -> Reading[T]:
        if self.schema.kind == "array" and (rows := _rows(answer, pieces)):
            reading = self.whole(rows, answer)
            return Reading(value=reading.value, repairs=("JSON lines taken as a list", *reading.repairs))
        found = [found for piece in pieces if piece.parsed and (found := self._strict(answer, piece))]
        last_start = found[-1].piece.start if found else -1
        broken = [p for p in pieces if not p.parsed and p.start > last_start]
        if found:
            # Behind an answer that fits, only a piece that plainly is another answer counts.
            broken = [piece for piece in broken if self.schema.mentions_key(piece.text)]
        for piece in broken[-MAX_MENDED_PIECES:]:
            if mended := self._broken(answer, piece, alone=not found):
                found.append(mended)
        if not found:
            return self._unrelated(answer, pieces)
        return self._choose(answer, found)

    def _strict(self, answer: str, piece: Piece) -> _Candidate[T] | None:
        try:
            json, reading = self._accept(piece.value, _place(answer, piece))
        except _NotValidError as invalid:
            return _Candidate(piece=piece, invalid=invalid) if invalid.related else None
        return _Candidate(piece=piece, json=json, reading=reading)

    def _broken(self, answer: str, piece: Piece, *, alone: bool) -> _Candidate[T] | None:
        try:
            value, notes = self._mended(piece)
        except NotMendableError as error:
            related = self.schema.mentions_key(piece.text) or (self.schema.kind == "any" and alone)
            return _Candidate(piece=piece, invalid=error) if related else None
        try:
            json, reading = self._accept(value, (*_place(answer, piece), *notes))
        except _NotValidError as invalid:
            return _Candidate(piece=piece, invalid=invalid) if invalid.related else None
        if not self.schema.knows_all(json):
            unknown = _NotValidError("mended, it has keys that were not asked for", related=True)
            return _Candidate(piece=piece, invalid=unknown)
        return _Candidate(piece=piece, json=json, reading=reading)

    def _mended(self, piece: Piece) -> tuple[Any, tuple[str, ...]]:
        if piece.flaw:
            raise NotMendableError(piece.flaw)
        if piece.closed:
            return mend_json(piece.text, self.effort)
        lacking = extract.open_brackets(piece.text)
        if lacking:
            with contextlib.suppress(ValueError, RecursionError):  # more is wrong than brackets
                value = parse_json(piece.text + lacking)
                if piece.fenced or (_ended(piece.text) and self.schema.nothing_can_follow(value, lacking)):
                    return value, (f"mended JSON: added the missing {lacking!r}",)
        if piece.fenced:
            return mend_json(piece.text, self.effort)
        raise TruncatedError(f"the answer is cut after {snippet(piece.text[-60:])!r}")

    def _choose(self, answer: str, found: Sequence[_Candidate[T]]) -> Reading[T]:
        last = found[-1]
        if last.reading is None:
            raise _invalid(last.invalid, last.piece.text) from last.invalid
        others = [other for other in found[:-1] if other.reading is not None and other.json != last.json]
        if not others:
            return last.reading
        if not last.piece.parsed and others[-1].piece.parsed:
            raise InvalidOutputError(f"there are two different answers, the last one broken: {snippet(answer)!r}")
        if self.schema.kind == "array" and is_object(last.piece.value):
            raise InvalidOutputError(f"there are several objects, but no array around them: {snippet(answer)!r}")
        if not _has_words_between(answer, others[-1].piece, last.piece):
            raise InvalidOutputError(f"there are several different answers: {snippet(answer)!r}")
        note = "several different answers: the last one taken"
        return Reading(value=last.reading.value, repairs=(note, *last.reading.repairs))

    def _unrelated(self, answer: str, pieces: list[Piece]) -> Reading[T]:
        """There are brackets, but no answer in them."""
        if any(piece.parsed and is_object(piece.value) for piece in pieces):
            raise _invalid(self.schema.expectation, answer)
        return self._bare(answer.strip())


def _rows(answer: str, pieces: list[Piece]) -> list[Any]:
    """The objects of a list that was written as JSON lines, without the array around them."""
    if len(pieces) < 2 or not all(piece.parsed and is_object(piece.value) for piece in pieces):
        return []
    if any(_has_words_between(answer, one, other) for one, other in pairwise(pieces)):
        return []
    return [piece.value for piece in pieces]


def _has_words_between(answer: str, one: Piece, other: Piece) -> bool:
    return bool(_NOT_WORDS.sub("", answer[one.start + len(one.text) : other.start]))


def _place(answer: str, piece: Piece) -> tuple[str, ...]:
    if piece.fenced:
        return ("taken from a code fence",)
    return ("taken out of the text around it",) if len(piece.text) < len(answer.strip()) else ()


def _ended(text: str) -> bool:
    """Tell whether the last value of a cut text is whole; digits might go on."""
    return text[-1] in '"}]' or text.endswith(("true", "false", "null"))


def _invalid(reason: object, text: str) -> InvalidOutputError:
    return InvalidOutputError(f"{reason}; the answer was {snippet(text)!r}")
