"""Several inputs in one message, each answer back to its own input.

Each input has an id and an anchor, its own first words, and an answer must give both: so an answer that is
dropped, doubled, made up, shuffled or shifted is seen. Good answers are kept; only what is missing is asked
again, in smaller groups, then alone. The cache knows rows, not groups.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import unicodedata
from base64 import b32encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from llmtasker.compiler import AskMode, Program, first_mode, raise_for_ending
from llmtasker.completion import Completion, Head, Message, Mode, Request, ToolCall, Usage
from llmtasker.errors import (
    BadRequestError,
    ConfigurationError,
    ContextLengthError,
    FilteredError,
    InvalidOutputError,
    ItemError,
    OutputError,
    TruncatedError,
)
from llmtasker.executor import Executor, Outcome, Row, Spent
from llmtasker.item import Item
from llmtasker.prompt import Example, show_examples
from llmtasker.repair import read
from llmtasker.repair.shape import Shape
from llmtasker.schema import answer_text, answer_turn, group_model, prepare
from llmtasker.signature import S
from llmtasker.steps import Keep, Steps, Wait

T = TypeVar("T")

ANCHOR_WORDS = 6
_ANCHOR_LENGTH = 60  # characters, for scripts that put no spaces between words
_NOTE = (
    'The message holds several inputs, each between <input id="…"> and </input>. Treat each one by itself, as if it '
    "were the only one. Answer every input exactly once: give its id, as anchor its first "
    f"{ANCHOR_WORDS} words copied verbatim, and then its own answer."
)
_RESERVED = {"id", "anchor"}
_ANSWERS: dict[str, Any] = {
    "type": "object",
    "properties": {"answers": {"type": "array", "items": {"type": "object"}}},
    "required": ["answers"],
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One input of a group: its row, how it is shown, and what its answer must name."""

    row: Row
    shown: str
    id: str
    anchor: str


class GroupProgram(Generic[S]):
    """How a program asks for several inputs at once.

    Raises:
        ConfigurationError: the task can't be grouped.
    """

    def __init__(self, program: Program[S]) -> None:
        self.program = program
        script = program.script
        if script.template.names:
            raise ConfigurationError(
                f"group_size needs the inputs in a message of their own: take {{{script.template.names[0]}}} out of "
                "the instructions."
            )
        taken = _RESERVED & program.model.model_fields.keys()
        if taken:
            raise ConfigurationError(f"group_size needs the name {min(taken)!r} for itself: rename that output field.")
        self.asked: AskMode = "auto" if program.asked == "plain" else program.asked
        self.model = group_model(program.model, f"the first {ANCHOR_WORDS} words of the input, verbatim")
        self._heads: dict[Mode, Head] = {}
        self._lock = threading.Lock()
        self.head(first_mode(self.asked))

    def head(self, mode: Mode) -> Head:
        """Return what all groups share in a mode."""
        with self._lock:
            if mode not in self._heads:
                self._heads[mode] = self._prepare(mode)
            return self._heads[mode]

    def _prepare(self, mode: Mode) -> Head:
        prepared, script = prepare(self.model, mode), self.program.script
        parts = (script.template.render({}), _NOTE, prepared.note)
        messages: list[Message] = [{"role": "system", "content": "\n\n".join(filter(None, parts))}]
        if script.examples and script.examples_role == "turns":
            shown = [script.signature.format_input(one.values) for one in script.examples]
            ids = ids_of(shown)
            answers = [self._answered(*named) for named in zip(ids, shown, script.examples, strict=True)]
            messages.append({"role": "user", "content": blocks(ids, shown)})
            messages += answer_turn(mode, self.model.__name__, f'{{"answers":[{",".join(answers)}]}}', 1)
        return Head(prepared.fields, messages)

    def _answered(self, id_: str, shown: str, example: Example) -> str:
        names = json.dumps({"id": id_, "anchor": anchor_of(shown)}, ensure_ascii=False)
        return f"{names[:-1]},{self._as_fields(example.answer)[1:]}"

    def _as_fields(self, answer: str) -> str:
        if self.program.asked != "plain":
            return answer
        (name,) = self.program.signature.output_fields
        return json.dumps({name: answer}, ensure_ascii=False)

    def render(self, members: Sequence[Member], mode: Mode) -> Request:
        """Return the request for a group."""
        script = self.program.script
        content = blocks([member.id for member in members], [member.shown for member in members])
        if script.examples_role == "user" and script.examples:
            content = f"{show_examples(script.signature, script.examples)}\n\n{content}"
        return Request(
            self.head(mode), [{"role": script.input_role, "content": content}], members[0].row.request.settings
        )

    def parse(self, completion: Completion, members: Sequence[Member]) -> dict[str, Completion]:
        """Return the answers that are beyond doubt, by the id of their member, each as a completion of its own.

        Raises:
            OutputError: there is nothing of an answer: refused, filtered, empty.
        """
        try:
            raise_for_ending(completion)
            entries = self._entries(completion, whole=True)
        except TruncatedError:
            entries = self._entries(completion, whole=False)
        by_id = {member.id: member for member in members}
        found: dict[str, list[dict[str, Any]]] = {}
        for entry in entries:
            member = by_id.get(str(entry.pop("id", "")))
            anchor = entry.pop("anchor", "")
            if member is not None and isinstance(anchor, str) and says(anchor, member, members):
                found.setdefault(member.id, []).append(entry)
        # An input that is answered twice is answered by neither, unless both say the same.
        return {
            id_: self._own(said[0], completion) for id_, said in found.items() if all(one == said[0] for one in said)
        }

    def _entries(self, completion: Completion, *, whole: bool) -> list[dict[str, Any]]:
        text, _ = answer_text("tools", self.model.__name__, completion)
        if whole:
            try:
                return read(text, _SHAPE, _listed).value
            except OutputError:
                pass  # cut or broken: what is complete in it is still good
        return list(complete_objects(text))

    def _own(self, entry: Mapping[str, Any], completion: Completion) -> Completion:
        """Return a member's part of an answer as if it had been asked alone: that is what the cache keeps."""
        program = self.program
        if program.asked == "plain":
            (name,) = program.signature.output_fields
            return Completion(text=str(entry.get(name, "")), finish_reason="stop", model=completion.model)
        text = json.dumps(entry, ensure_ascii=False)
        if program.first_mode != "tools":
            return Completion(text=text, finish_reason="stop", model=completion.model)
        call = ToolCall(name=program.model.__name__, arguments=text)
        return Completion(tool_calls=(call,), finish_reason="tool_calls", model=completion.model)


@dataclass(frozen=True, slots=True, kw_only=True)
class Grouping(Generic[S, T]):
    """How the inputs of one group become Items; `alone` asks what groups leave over."""

    program: GroupProgram[S]
    alone: Executor[S, T]

    def steps(self, givens: Sequence[object]) -> Steps[list[Item[T]]]:
        """Yield the steps to an item for each input, in order."""
        items: dict[int, Item[T]] = {}
        rows: dict[int, Row] = {}
        for place, given in enumerate(givens):
            row = self.alone.prepare(given)
            if isinstance(row, Item):
                items[place] = row
            else:
                rows[place] = row
        flights = self.alone.llm.flights
        while rows:
            # Who leads must land before waiting for anybody, or two groups could wait for each other.
            flying = {place: flights.board(row.request.key) for place, row in rows.items()}
            led = {place: rows[place] for place, flight in flying.items() if flight is None}
            yield from self._lead(led, items)
            for place, flight in flying.items():
                if flight is not None:
                    outcome = yield Wait(flight)
                    if outcome is not None:
                        items[place] = self.alone.judge(rows[place], outcome)
            rows = {place: row for place, row in rows.items() if place not in items}
        return [items[place] for place in range(len(givens))]

    def _lead(self, rows: Mapping[int, Row], items: dict[int, Item[T]]) -> Steps[None]:
        """Put the item of each row into `items`, and land its key."""
        alone = self.alone

        def settled(place: int, item: Item[T]) -> None:
            items[place] = item
            row = rows[place]
            alone.llm.flights.land(
                row.request.key, Outcome(row.spent.completion, item.error if item.attempts else None)
            )

        try:
            missing = {}
            for place, row in rows.items():
                item = yield from alone.look(row)
                if item is None:
                    missing[place] = row
                else:
                    settled(place, item)
            elsewhere = {}
            for place, row in list(missing.items()):
                if not (yield from alone.claim(row)):
                    elsewhere[place] = missing.pop(place)
            size = len(missing)
            while size > 1 and len(missing) > 1:
                for group in pack(missing, size, self.program.program.signature.format_input):
                    yield from self._ask(group, missing, settled)
                size //= 3
            for place, row in missing.items():
                settled(place, (yield from alone.settle(row)))
            for place, row in elsewhere.items():
                settled(place, (yield from alone.finish(row)))
        finally:
            for place, row in rows.items():
                if place not in items:
                    alone.llm.flights.land(row.request.key, None)

    def _ask(
        self, group: Mapping[int, Member], missing: dict[int, Row], settled: Callable[[int, Item[T]], None]
    ) -> Steps[None]:
        """Ask for one group; rows that are answered, or can't be, leave `missing`."""
        members = list(group.values())
        spent = Spent()
        error: ItemError | None = None
        answers: dict[str, Completion] = {}
        try:
            completion = yield from self.alone.call(
                lambda mode: self.program.render(members, mode), spent, self.program.asked
            )
            answers = self.program.parse(completion, members)
        except (OutputError, BadRequestError, ContextLengthError, FilteredError):
            pass  # perhaps one of them spoils it for the others: they are asked in smaller groups
        except ItemError as failed:
            error = failed
        share(spent, [member.row.spent for member in members])
        for place, member in group.items():
            item = None if error is None else self.alone.item(member.row, error=error)
            if (own := answers.get(member.id)) is not None:
                item = yield from self._accept(member.row, own)
            if item is not None:
                del missing[place]
                settled(place, item)

    def _accept(self, row: Row, completion: Completion) -> Steps[Item[T] | None]:
        """Return the item of a member's answer, or None if it does not fit."""
        try:
            answer = self.alone.program.parse(completion, row.inputs)
        except OutputError:
            return None
        row.spent.completion = completion
        yield Keep(row.request.key, completion)
        return self.alone.item(row, answer=answer)


def pack(rows: Mapping[int, Row], size: int, show: Callable[[Mapping[str, Any]], str]) -> Iterator[dict[int, Member]]:
    """Yield groups of at most `size` rows, none with two of the same anchor: a mix-up of these could not be seen.

    Rows whose anchor says nothing, and those that are left over by themselves, are in no group.
    """
    shown = {place: show(row.inputs.values) for place, row in rows.items()}
    waiting = [place for place in rows if folded(anchor_of(shown[place]))]
    while waiting:
        group: list[int] = []
        anchors: list[str] = []
        for place in waiting:
            anchor = folded(anchor_of(shown[place]))
            alike = any(anchor.startswith(other) or other.startswith(anchor) for other in anchors)
            if len(group) < size and not alike:
                group.append(place)
                anchors.append(anchor)
        waiting = [place for place in waiting if place not in group]
        if len(group) > 1:
            ids = ids_of([shown[place] for place in group])
            yield {
                place: Member(row=rows[place], shown=shown[place], id=id_, anchor=folded(anchor_of(shown[place])))
                for place, id_ in zip(group, ids, strict=True)
            }


def share(spent: Spent, among: Sequence[Spent]) -> None:
    """Divide what a group's calls have cost among its members, to the last token."""
    usage, count = spent.usage, len(among)
    for number, one in enumerate(among):
        one.calls += spent.calls
        one.counted = one.counted and spent.counted
        one.started = spent.started if one.started is None else one.started
        part = {name: total // count + (number < total % count) for name, total in usage.to_dict().items()}
        one.usage += Usage(**part)


def blocks(ids: Sequence[str], shown: Sequence[str]) -> str:
    """Return inputs as one text, each between tags with its id."""
    return "\n".join(f'<input id="{id_}">\n{text}\n</input>' for id_, text in zip(ids, shown, strict=True))


def ids_of(shown: Sequence[str]) -> list[str]:
    """Return an id for each text: short, none twice, the same in every run, and no count that could slip by one.

    >>> ids_of(["Bonjour", "Bonsoir"])
    ['h3tl', 'vw6e']
    """
    ids: list[str] = []
    for number, text in enumerate(shown):
        digest = b32encode(hashlib.sha256(f"{number}:{text}".encode("utf-8", "replace")).digest()).decode().lower()
        ids.append(next(digest[at : at + 4] for at in range(48) if digest[at : at + 4] not in ids))
    return ids


def anchor_of(shown: str) -> str:
    """Return the first words of a text."""
    return " ".join(shown[: _ANCHOR_LENGTH * 8].split()[:ANCHOR_WORDS])[:_ANCHOR_LENGTH]


def folded(text: str) -> str:
    """Return the letters and digits of a text, without case: what an LLM that copies may not change."""
    return "".join(char for char in unicodedata.normalize("NFKC", text).casefold() if char.isalnum())


def says(anchor: str, member: Member, members: Sequence[Member]) -> bool:
    """Return whether an anchor, as the LLM copied it, is that of this member and of no other."""

    def matches(expected: str) -> bool:
        return said.startswith(expected) or (expected.startswith(said) and 2 * len(said) >= len(expected))

    said = folded(anchor)
    return bool(said) and [other.id for other in members if matches(other.anchor)] == [member.id]


def complete_objects(text: str) -> Iterator[dict[str, Any]]:
    """Yield the complete objects of the list "answers" in a text that is cut or broken somewhere."""
    start = re.search(r'"answers"\s*:\s*\[', text)
    at = start.end() if start else len(text)
    decoder = json.JSONDecoder(object_pairs_hook=_once)
    while at < len(text):
        at += len(text[at:]) - len(text[at:].lstrip(" \t\r\n,"))
        try:
            value, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            return
        if isinstance(value, dict):
            yield value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        raise ValueError("a key stands twice")
    return value


def _listed(value: Any) -> list[dict[str, Any]]:
    answers = value.get("answers") if isinstance(value, dict) else value
    if not isinstance(answers, list):
        raise InvalidOutputError("there is no list of answers")
    return [dict(entry) for entry in answers if isinstance(entry, dict)]


_SHAPE = Shape(_ANSWERS)
