"""GroupProgram: how a program asks for several inputs at once."""

from __future__ import annotations

import json
import threading
from typing import Any, Generic
from weakref import WeakKeyDictionary

from llmtasker.compiler.answer_model import as_turn, group_model, prepare
from llmtasker.compiler.examples import Example, show_examples
from llmtasker.compiler.program import Program
from llmtasker.errors import ConfigurationError
from llmtasker.runner.grouping.answers import Entry, GroupReading, read_answers
from llmtasker.runner.grouping.group_limits import answer_length
from llmtasker.runner.grouping.members import Group
from llmtasker.runner.row import Row
from llmtasker.signature.signature import S
from llmtasker.wire.completion import Completion, ToolCall
from llmtasker.wire.group_format import anchor_of, ids_of, write_blocks
from llmtasker.wire.request import FIRST_MODE, AskMode, Head, Message, Mode, Request

_RESERVED = {"id", "anchor"}


class GroupProgram(Generic[S]):
    """How a program asks for several inputs at once. It has no I/O.

    Raises:
        ConfigurationError: the task can't be grouped.
    """

    def __init__(self, program: Program[S]) -> None:
        self.program = program
        layout = program.layout
        if program.picker is not None or program.label_picker is not None:
            what = (
                "examples for all inputs: choose fixed ones"
                if program.picker
                else "labels for all inputs: no shortlist"
            )
            raise ConfigurationError(f"group_size needs the same {what}.")
        if layout.template.names:
            raise ConfigurationError(
                f"group_size needs the inputs in a separate message: take {{{layout.template.names[0]}}} out of "
                "the instructions."
            )
        taken = _RESERVED & program.model.model_fields.keys()
        if taken:
            raise ConfigurationError(f"group_size uses the name {min(taken)!r}: rename that output field.")
        self.asked: AskMode = "auto" if program.asked == "plain" else program.asked
        self.model = group_model(program.model, program.wording)
        self._heads: dict[Mode, Head] = {}
        self._lock = threading.Lock()
        self._variants: WeakKeyDictionary[Program[S], GroupProgram[S]] = WeakKeyDictionary()
        self.answer_length = answer_length(program)
        self.head(FIRST_MODE[self.asked])

    def of(self, row: Row) -> GroupProgram[S]:
        """Return the program for rows that share a row's variables and labels."""
        variant: Program[S] | None = row.inputs.variant
        if variant is None:
            return self
        with self._lock:
            return self._variants.get(variant) or self._variants.setdefault(variant, GroupProgram(variant))

    def head(self, mode: Mode) -> Head:
        """Return the head that all groups share in a mode."""
        with self._lock:
            if mode not in self._heads:
                self._heads[mode] = self._prepare(mode)
            return self._heads[mode]

    def _prepare(self, mode: Mode) -> Head:
        layout, wording = self.program.layout, self.program.wording
        prepared = prepare(self.model, mode, wording)
        parts = (layout.template.render({}), wording.group, prepared.note)
        messages: list[Message] = [{"role": "system", "content": "\n\n".join(filter(None, parts))}]
        if layout.examples and layout.examples_role == "turns":
            shown = [layout.signature.format_input(one.values) for one in layout.examples]
            ids = ids_of(shown)
            answers = [self._answered(*named) for named in zip(ids, shown, layout.examples, strict=True)]
            messages.append({"role": layout.input_role, "content": write_blocks(ids, shown)})
            messages.append(as_turn(mode, f'{{"answers":[{",".join(answers)}]}}'))
        return Head(prepared.fields, messages)

    def _answered(self, id_: str, shown: str, example: Example) -> str:
        # Compact: an LLM copies the form, and each space between parts is a token.
        names = json.dumps({"id": id_, "anchor": anchor_of(shown)}, ensure_ascii=False, separators=(",", ":"))
        return f"{names[:-1]},{self._as_fields(example.answer)[1:]}"

    def _as_fields(self, answer: str) -> str:
        if self.program.asked != "plain":
            return answer
        (name,) = self.program.signature.output_fields
        return json.dumps({name: answer}, ensure_ascii=False)

    def may_hold(self, row: Row) -> bool:
        """Return whether a row may be in a group: a conversation can't, because it has its own messages."""
        return not self.program.layout.history(row.inputs.values)

    def render(self, group: Group, mode: Mode) -> Request:
        """Return the request for a group."""
        layout = self.program.layout
        content = group.blocks()
        if layout.examples_role == "user" and layout.examples:
            content = f"{show_examples(layout.signature, layout.examples)}\n\n{content}"
        settings = group.members[0].row.request.settings
        return Request(self.head(mode), [{"role": layout.input_role, "content": content}], settings)

    def read(self, completion: Completion, group: Group) -> GroupReading:
        """Return the unambiguous answers.

        Raises:
            OutputError: there is no answer at all: refused, filtered, empty.
        """
        return read_answers(completion, self.model.__name__, group)

    def own(self, answer: Entry, completion: Completion) -> Completion:
        """Return a member's part of an answer as if it had been asked alone, which is what the cache stores."""
        program = self.program
        if program.asked == "plain":
            (name,) = program.signature.output_fields
            text = answer.get(name)
            return _stopped(text if isinstance(text, str) else "", completion)
        text = json.dumps(answer, ensure_ascii=False)
        if program.first_mode != "tools":
            return _stopped(text, completion)
        call = ToolCall(name=program.model.__name__, arguments=text)
        return Completion(tool_calls=(call,), finish_reason="tool_calls", model=completion.model)

    def identity(self, settings: Any) -> str:
        """Return a text that is equal as long as groups are asked in the same way, by the same LLM."""
        head = self.head(FIRST_MODE[self.asked])
        return Request(head, [{"role": "user", "content": ""}], settings).key


def _stopped(text: str, completion: Completion) -> Completion:
    return Completion(text=text, finish_reason="stop", model=completion.model)
