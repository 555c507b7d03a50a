"""Splits a group's answer: each part is assigned to the input that it is about, or to none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from llmtasker.compiler.answer_parser import raise_for_ending
from llmtasker.errors import InvalidOutputError, OutputError, TruncatedError
from llmtasker.parser.answer_schema import AnswerSchema
from llmtasker.parser.calls import answer_text
from llmtasker.parser.marks import after_reasoning
from llmtasker.parser.read import read
from llmtasker.runner.grouping.members import Group, Member
from llmtasker.values.json_values import is_array, is_object, parse_json_at
from llmtasker.values.lazy_pattern import lazy_pattern
from llmtasker.wire.completion import Completion
from llmtasker.wire.group_format import folded

Entry: TypeAlias = dict[str, Any]

_SCHEMA = AnswerSchema(
    {
        "type": "object",
        "properties": {"answers": {"type": "array", "items": {"type": "object"}}},
        "required": ["answers"],
    }
)
_LIST = lazy_pattern(r'"answers"\s*:\s*\[')
_BETWEEN = lazy_pattern(r"[\s,]*")
_LONGEST_ANCHOR = 500  # characters of an anchor to compare


@dataclass(frozen=True, slots=True)
class GroupReading:
    """The content of a group's answer: the unambiguous answers, by the number of the member in the group.

    `entries` is the number of all parts, `length` that of characters; `cut`: the token limit stopped it.
    """

    answers: dict[int, Entry]
    entries: int
    length: int
    cut: bool


def read_answers(completion: Completion, name: str, group: Group) -> GroupReading:
    """Return the unambiguous answers; `name` is the name of the function to be called.

    Raises:
        OutputError: there is no answer at all: refused, filtered, empty.
    """
    cut = False
    try:
        raise_for_ending(completion)
    except TruncatedError:
        cut = True
    text, _ = answer_text("tools", name, completion)
    entries = _entries(text, whole=not cut)
    return GroupReading(attribute(entries, group), len(entries), len(text), cut)


def attribute(entries: Sequence[Entry], group: Group) -> dict[int, Entry]:
    """Return the unambiguous answers, by the number of the member, without their id and anchor.

    An entry claims the input whose id it has, and the one whose first words it has. An input is answered if some
    entry claims it by both, and all entries that claim it agree. Entries that contradict each other, or are swapped
    or shifted, are therefore not answers.
    """
    numbers = {id_: number for number, id_ in enumerate(group.ids)}
    claims: dict[int, list[tuple[Entry, bool]]] = {}
    for entry in entries:
        id_, anchor = entry.get("id"), entry.get("anchor")
        answer = {name: value for name, value in entry.items() if name not in {"id", "anchor"}}
        by_id = numbers.get(id_.strip().lower()) if isinstance(id_, str) else numbers.get(str(id_))
        by_anchor = _named(anchor, group.members) if isinstance(anchor, str) else None
        for number in {by_id, by_anchor}:
            if number is not None:
                claims.setdefault(number, []).append((answer, by_id == by_anchor))
    return {
        number: claimed[0][0]
        for number, claimed in claims.items()
        if any(both for _, both in claimed) and all(answer == claimed[0][0] for answer, _ in claimed)
    }


def _named(anchor: str, members: Sequence[Member]) -> int | None:
    """Return the number of the only member that starts with `anchor`, if that is two thirds of its own anchor."""
    given = folded(anchor[:_LONGEST_ANCHOR])
    found = [number for number, one in enumerate(members) if one.opening.startswith(given)]
    return found[0] if len(found) == 1 and given and 3 * len(given) >= 2 * len(members[found[0]].anchor) else None


def _entries(text: str, *, whole: bool) -> list[Entry]:
    if whole:
        try:
            return read(text, _SCHEMA, _listed).value
        except OutputError:
            pass  # cut or broken: its complete objects are still good
    return list(complete_objects(after_reasoning(text) or ""))


def complete_objects(text: str) -> Iterator[Entry]:
    """Yield the complete objects of each list "answers" in a text that is cut or broken."""
    at = 0
    while start := _LIST.search(text, at):
        at = start.end()
        while (begin := _BETWEEN.match(text, at)) is not None:
            try:
                value, at = parse_json_at(text, begin.end())
            except (ValueError, RecursionError):
                break
            if is_object(value):
                yield value


def _listed(value: Any) -> list[Entry]:
    answers = value.get("answers") if is_object(value) else value
    if not is_array(answers):
        raise InvalidOutputError("there is no list of answers")
    return [entry for entry in answers if is_object(entry)]
