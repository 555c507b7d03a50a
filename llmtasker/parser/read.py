"""From a text to the value that it states, with the list of repairs; or an error, never a guess.

As it is → without reasoning and marks → calls → bracketed pieces, strictly → repaired if none parses. Each value is
unwrapped and coerced towards the type, then validated. A cut text is never completed into a value.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Generic, NamedTuple, TypeVar

from llmtasker.errors import InvalidOutputError, TruncatedError, describe, snippet
from llmtasker.parser import extract
from llmtasker.parser.answer_schema import AnswerSchema
from llmtasker.parser.calls import ends_open, one_call, written_calls
from llmtasker.parser.coerce import RENAMED, CoercionError, coerce, is_scalar_in_list
from llmtasker.parser.extract import Piece
from llmtasker.parser.lines import lined_fields, names_other_field
from llmtasker.parser.loose_json import parse_loose_json, without_comments
from llmtasker.parser.marks import after_reasoning, without_marks
from llmtasker.parser.mend_json import Effort, NotMendableError, mend_json, mend_whole
from llmtasker.parser.plain_fields import differs, keys_stand_once, plain_fields
from llmtasker.parser.tagged import tagged_fields
from llmtasker.parser.unwrap import unwrap
from llmtasker.values.json_values import is_array, is_object, parse_json
from llmtasker.values.lazy_pattern import lazy_pattern

T = TypeVar("T")

MAX_MENDED_PIECES = 5
"""The most broken pieces of a text that are examined, from its end."""

_NOT_WORDS = lazy_pattern(r"`{3,}\w*|(?:[^\w`]|_|`(?!``))+")  # the language of a fence is not a word either
FROM_FENCE = "taken from a code block"
"""The note for an answer in a code fence."""

_CORRECTION = lazy_pattern(
    r"\b(?:no|wait|actually|rather|instead|correct\w*|sorry|oops|final\w*|revis\w*|mistake\w*|better|but|however"
    r"|amend\w*|second thought|the (?:\w+ )?(?:answer|result|output)"
    r"|l[ae] (?:\w+ )?(?:r[ée]ponse|r[ée]sultat)|mais|plut[oô]t|en fait|non|corrig\w*|pardon|erreur|r[ée]vis\w*"
    r"|mieux)\b",
    re.IGNORECASE,
)
_CALLED = lazy_pattern(r"^[A-Za-z_$][\w.$]*\((.*)\)\s*;?$", re.DOTALL)  # JSON that is passed to a function
_LONGEST_SCALAR = 1_000  # characters of a number or string that is repaired
_DRAFT = lazy_pattern(r"\b(?:draft|initially|attempt|guess|brouillon|essai)$", re.IGNORECASE)
_FIRST = lazy_pattern(r"\b(?:first|d'abord|premi[eè]re?)$", re.IGNORECASE)  # a draft, or one of two answers
_EXAMPLE = lazy_pattern(
    r"\b(?:(?:example|sample|exemple)(?: \w+)?|e g|for instance|z B|Beispiel|ejemplo"
    r"|not|never|instead of|rather than|pas|nicht)$",
    re.IGNORECASE,
)


class Reading(NamedTuple, Generic[T]):
    """What an answer states: the validated value, each repair made to get there, and the reasoning before it."""

    value: T
    repairs: tuple[str, ...] = ()
    reasoning: str | None = None


class _NotValidError(Exception):
    """A value does not fit the type; `related` is whether it was meant for this type at all."""

    def __init__(self, message: str, *, related: bool) -> None:
        super().__init__(message)
        self.related = related


@dataclass(frozen=True, slots=True, kw_only=True)
class _Candidate(Generic[T]):
    """A piece of the text that is meant as the answer, with its reading, or the reason why it has none."""

    piece: Piece
    json: Any = None
    reading: Reading[T] | None = None
    error: Exception | None = None


def read(
    text: str,
    schema: AnswerSchema,
    validate: Callable[[Any], T],
    *,
    stopped: bool | None = None,
    given: Callable[[], str] = str,
) -> Reading[T]:
    """Return what the text states, as the type that `validate` makes of a JSON value.

    `validate` may raise anything for a value that is not valid. `stopped` is whether the endpoint reported that the LLM
    ended by itself (None: not known); `given` returns the text of the input, whose marks are not control marks.

    Raises:
        InvalidOutputError: there is no valid value, or it is not clear which one is meant.
        TruncatedError: the text was cut.

    >>> team = {"enum": ["billing", "other"]}
    >>> schema = AnswerSchema({"type": "object", "properties": {"team": team}, "required": ["team"]})
    >>> def validate(value):
    ...     return {"billing": "B", "other": "O"}[value["team"]]
    >>> read('{"team": "billing"}', schema, validate)
    Reading(value='B', repairs=(), reasoning=None)
    >>> read('Sure: {"team": "Billing."}', schema, validate).repairs
    ('taken from the text around it', "team: 'Billing.' read as 'billing'")
    """
    try:
        value = parse_json(text)
    except (ValueError, RecursionError):
        return _Reader(schema, validate, stopped=stopped).text(text, given)
    if schema.is_plain(value):
        try:
            return Reading(value=validate(value))
        except Exception:  # noqa: BLE001, S110 - a validator is the user's code; what it raises is reported below
            pass
    return _Reader(schema, validate, stopped=stopped).whole(value, text)


class _Reader(Generic[T]):
    """Reads one text that is not a valid answer as it is."""

    def __init__(self, schema: AnswerSchema, validate: Callable[[Any], T], *, stopped: bool | None) -> None:
        self.schema = schema
        self.validate = validate
        self.stopped = stopped
        self.effort = Effort()

    def whole(self, value: Any, text: str) -> Reading[T]:
        """Read a text that is JSON, but not valid as it is."""
        if self.schema.is_text:
            return Reading(value=self._validated(text, text), repairs=("taken as plain text",))
        try:
            return self._accept(value)[1]
        except _NotValidError as error:
            raise _invalid(error, text) from error.__cause__

    def text(self, text: str, given: Callable[[], str]) -> Reading[T]:
        """Read a text that is not JSON as a whole."""
        if not text.strip():
            raise InvalidOutputError("the answer is empty")
        if len(text) > extract.MAX_SCANNED:
            raise InvalidOutputError(f"the answer has {len(text)} characters and is not JSON: {snippet(text)!r}")
        if fields := tagged_fields(after_reasoning(text) or "", self.schema):
            reading = self.whole(fields, text)
            return Reading(reading.value, ("taken from tags", *reading.repairs))
        front = without_marks(text, given)
        reading = self._unmarked(front.text)
        return Reading(reading.value, (*front.repairs, *reading.repairs), front.reasoning)

    def _unmarked(self, answer: str) -> Reading[T]:
        if not self.schema.is_text and (calls := written_calls(answer, self.schema.function)):
            if self.stopped is False and ends_open(answer):
                raise TruncatedError(f"the answer is cut after {snippet(answer[-60:])!r}")
            arguments, repairs = one_call(calls, self.schema.function)
            reading = self._arguments(arguments)
            return Reading(reading.value, ("taken from a call written as text", *repairs, *reading.repairs))
        return self._bracketed(answer)

    def _bracketed(self, answer: str) -> Reading[T]:
        if self.schema.properties and (whole := mend_whole(answer.strip())) is not None:
            reading = self.whole(whole[0], answer)
            return Reading(reading.value, (*whole[1], *reading.repairs))
        try:
            pieces = list(extract.pieces(answer))
        except extract.TooComplexError as error:
            raise InvalidOutputError(f"the answer can't be read, {error}: {snippet(answer)!r}") from error
        if self.schema.is_text:
            return Reading(value=self._validated(answer, answer), repairs=("taken as plain text",))
        return self._pieces(answer, pieces) if pieces else self._without_brackets(answer)

    def _arguments(self, text: str) -> Reading[T]:
        """Read the arguments of a written call; a further call inside them is not looked for."""
        try:
            value = parse_json(text)
        except (ValueError, RecursionError):
            return self._bracketed(text)
        return self.whole(value, text)

    def _accept(self, value: Any, notes: tuple[str, ...] = ()) -> tuple[Any, Reading[T]]:
        """Return the JSON value that is valid, unwrapped and coerced, and its reading."""
        failure: Exception | None = None
        renamed: list[str] = []
        for variant, unwrapped in unwrap(value, self.schema):
            if not self.schema.is_answer(variant):
                continue
            try:
                if self.schema.is_plain(variant):
                    return variant, Reading(self.validate(variant), (*notes, *unwrapped))
            except Exception as error:  # noqa: BLE001 - a validator is the user's code and may raise anything
                failure = failure or error
            changes: list[str] = []
            try:
                coerced, changes = coerce(variant, self.schema)
                return coerced, Reading(self.validate(coerced), (*notes, *unwrapped, *changes))
            except Exception as error:  # noqa: BLE001 - a validator is the user's code and may raise anything
                failure, renamed = failure or error, renamed or [note for note in changes if RENAMED in note]
        if failure is None:
            raise _NotValidError(self.schema.expectation, related=False)
        # A list in prose, '[1]', is hardly meant as the object asked for.
        single = value[0] if is_array(value) and len(value) == 1 else value
        reason = str(failure) if isinstance(failure, CoercionError) else "; ".join([describe(failure), *renamed])
        raise _NotValidError(reason, related=self.schema.kind != "object" or is_object(single)) from failure

    def _without_brackets(self, answer: str) -> Reading[T]:
        """Read a number, a quoted string, or a bare label."""
        contents = extract.fenced(answer)
        bare = contents[0].strip() if len(contents) == 1 else answer.strip()
        try:
            value = parse_json(bare)
        except (ValueError, RecursionError):
            short = len(bare) <= _LONGEST_SCALAR
            loose = parse_loose_json(_CALLED.sub(r"\1", bare).rstrip(", ;")) if short else None
            if loose is None:
                return self._bare(bare)
            value = loose[0]
            if self.schema.kind == "any":
                return Reading(self._validated(value, answer), ("fixed JSON: wrong punctuation",))
        return self.whole(value, answer)

    def _bare(self, text: str) -> Reading[T]:
        """Read a label without JSON around it. A free text field is never filled with prose."""
        if text.startswith('"') and text.count('"') == 1:
            raise TruncatedError(f"the answer is cut inside a string: {snippet(text[-60:])!r}")
        if fields := lined_fields(text, self.schema):
            self._check_whole(next(reversed(fields)))
            reading = self.whole(fields, text)
            return Reading(reading.value, ("taken from lines", *reading.repairs))
        field = self.schema.label_field or self.schema.format_field
        if field is None and self.schema.labels(self.schema.root) is None:
            raise _invalid(self.schema.expectation, text)
        if field is not None and names_other_field(text, field, self.schema):
            raise _invalid(f"it says more than {field!r}, but not as JSON", text)
        if field is not None:
            self._check_whole(field)
        try:
            value, notes = coerce(text if field is None else {field: text}, self.schema)
        except CoercionError as error:
            raise _invalid(error, text) from None
        return Reading(value=self._validated(value, text), repairs=(*notes,) or ("taken without JSON around it",))

    def _check_whole(self, last: str) -> None:
        """Raise TruncatedError if the text may be cut within the value of its last field."""
        if self.stopped is False and self.schema.may_go_on(last):
            raise TruncatedError(f"{last!r} may be cut: the endpoint does not report whether the answer is complete")

    def _validated(self, value: Any, text: str) -> T:
        try:
            return self.validate(value)
        except Exception as error:  # a validator is the user's code
            raise _invalid(describe(error), text) from error

    # ── pieces in brackets ──

    def _pieces(self, answer: str, pieces: list[Piece]) -> Reading[T]:
        if self.schema.kind == "array" and (rows := _rows(answer, pieces)):
            reading = self.whole(rows, answer)
            return Reading(value=reading.value, repairs=("JSON lines taken as a list", *reading.repairs))
        all_pieces, pieces = pieces, [piece for piece in pieces if not _is_example(answer, piece)]
        candidates = (self._candidate(answer, piece, piece.value) for piece in pieces if piece.parsed)
        found = [candidate for candidate in candidates if candidate]
        last_start = found[-1].piece.start if found else -1
        broken = [p for p in pieces if not p.parsed and p.start > last_start]
        if found:
            # After a valid answer, only a piece that is clearly another answer counts.
            broken = [piece for piece in broken if self.schema.mentions_key(piece.text)]
        for piece in broken[-MAX_MENDED_PIECES:]:
            if mended := self._broken(answer, piece, alone=not found):
                found.append(mended)
        if not found:
            return self._unrelated(answer, pieces)
        return self._choose(answer, all_pieces, found)

    def _broken(self, answer: str, piece: Piece, *, alone: bool) -> _Candidate[T] | None:
        try:
            value, notes = self._mended(piece)
        except NotMendableError as error:
            related = self.schema.mentions_key(piece.text) or (self.schema.kind == "any" and alone)
            return _Candidate(piece=piece, error=error) if related else None
        return self._candidate(answer, piece, value, notes)

    def _candidate(self, answer: str, piece: Piece, value: Any, notes: tuple[str, ...] = ()) -> _Candidate[T] | None:
        """Return the piece with the reading of its value; None if it is not meant as the answer."""
        if self._is_word_in_prose(value, answer, piece):
            return None
        try:
            json, reading = self._accept(value, (*_place(answer, piece), *notes))
        except _NotValidError as error:
            return _Candidate(piece=piece, error=error) if error.related else None
        return _Candidate(piece=piece, json=json, reading=reading)

    def _is_word_in_prose(self, value: Any, answer: str, piece: Piece) -> bool:
        """Return whether a list of one scalar is only a word in brackets, which belongs to the words around it."""
        alone = not _NOT_WORDS.sub("", answer[: piece.start] + answer[piece.start + len(piece.text) :])
        field = self.schema.properties.get(self.schema.only_field or "")
        return bool(field) and not self.schema.takes_list(field) and is_scalar_in_list(value) and not alone

    def _mended(self, piece: Piece) -> tuple[Any, tuple[str, ...]]:
        if not piece.closed and not piece.flaw:
            lacking = extract.open_brackets(piece.text)
            if lacking:
                with contextlib.suppress(ValueError, RecursionError):  # more than the brackets is wrong
                    value = parse_json(piece.text + lacking)
                    ended = self.stopped or _ended(piece.text)
                    if piece.fenced or (ended and self.schema.nothing_can_follow(value, lacking)):
                        return value, (f"fixed JSON: added the missing {lacking!r}",)
            if not piece.fenced or piece.text.endswith((",", ":")):
                raise TruncatedError(f"the answer is cut after {snippet(piece.text[-60:])!r}")
        try:
            value, notes = mend_json(piece.text, self.effort, flaw=piece.flaw)
        except NotMendableError:
            if not piece.closed or not (fields := plain_fields(without_comments(piece.text), self.schema)):
                raise
            return fields, ("fixed JSON: only the fields asked for were read",)
        if not keys_stand_once(value, piece.text, self.schema):
            raise NotMendableError("a key that was asked for may stand inside a string")
        return value, notes

    def _choose(self, answer: str, all_pieces: Sequence[Piece], found: Sequence[_Candidate[T]]) -> Reading[T]:
        if len(found) > 1:
            found = [one for one in found if one.json not in ({}, [])] or found  # empty ones do not state anything
        last = found[-1]
        if last.reading is None:
            raise _invalid(last.error, last.piece.text) from last.error
        self._check_beside(answer, all_pieces, last)
        others = [other for other in found[:-1] if other.reading is not None and other.json != last.json]
        if not others:
            return last.reading
        if not last.piece.parsed and others[-1].piece.parsed:
            raise InvalidOutputError(f"there are two different answers, the last one broken: {snippet(answer)!r}")
        if self.schema.kind == "array" and is_object(last.piece.value):
            raise InvalidOutputError(f"there are several objects, but no array around them: {snippet(answer)!r}")
        if not _is_corrected(answer, others[-1].piece, last.piece):
            raise InvalidOutputError(f"there are several different answers: {snippet(answer)!r}")
        note = "several different answers: the last one taken"
        return Reading(value=last.reading.value, repairs=(note, *last.reading.repairs))

    def _check_beside(self, answer: str, pieces: Sequence[Piece], chosen: _Candidate[T]) -> None:
        """Raise InvalidOutputError if the words around an answer state other values of its keys, uncorrected."""
        prose, start = extract.without_pieces(answer, pieces), chosen.piece.start
        before = "" if _CORRECTION.search(prose[:start]) else prose[:start]
        if is_object(chosen.json) and any(differs(part, chosen.json, self.schema) for part in (before, prose[start:])):
            raise InvalidOutputError(f"there are several different answers: {snippet(answer)!r}")

    def _unrelated(self, answer: str, pieces: list[Piece]) -> Reading[T]:
        """Read a text with brackets, but no answer in them."""
        if any(piece.parsed and is_object(piece.value) for piece in pieces):
            raise _invalid(self.schema.expectation, answer)
        return self._bare(answer.strip())


def _words_before(answer: str, piece: Piece) -> str:
    return _NOT_WORDS.sub(" ", answer[max(0, piece.start - 40) : piece.start]).rstrip()


def _is_example(answer: str, piece: Piece) -> bool:
    """Return whether the words right before a piece announce an example, or deny it."""
    return _EXAMPLE.search(_words_before(answer, piece)) is not None


def _rows(answer: str, pieces: list[Piece]) -> list[Any]:
    """Return the objects of a list that was written as JSON lines, without the array around them."""
    if len(pieces) < 2 or not all(piece.parsed and is_object(piece.value) for piece in pieces):
        return []
    if any(_words_between(answer, one, other) for one, other in pairwise(pieces)):
        return []
    return [piece.value for piece in pieces]


def _words_between(answer: str, one: Piece, other: Piece) -> str:
    return _NOT_WORDS.sub(" ", answer[one.start + len(one.text) : other.start]).strip()


def _is_corrected(answer: str, one: Piece, other: Piece) -> bool:
    """Return whether the words between two answers correct the first one, or those before it announce a draft."""
    before, between = _words_before(answer, one), _words_between(answer, one, other)
    return bool(_CORRECTION.search(between) or _DRAFT.search(before) or (_FIRST.search(before) and not between))


def _place(answer: str, piece: Piece) -> tuple[str, ...]:
    if piece.fenced:
        return (FROM_FENCE,)
    return ("taken from the text around it",) if len(piece.text) < len(answer.strip()) else ()


def _ended(text: str) -> bool:
    """Return whether the last value of a cut text is whole; a number might have more digits."""
    return text[-1] in '"}]' or text.endswith(("true", "false", "null"))


def _invalid(reason: object, text: str) -> InvalidOutputError:
    return InvalidOutputError(f"{reason}; the answer was {snippet(text)!r}")
