"""RowWork: the work of a task on one row: its identity, and its item as stored and read again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property
from hashlib import blake2b
from typing import Any

from llmtasker.errors import ItemError
from llmtasker.files.cells import cell_json
from llmtasker.item import Item
from llmtasker.signature.signature import Signature
from llmtasker.task import Task
from llmtasker.values.json_values import parse_json


class RowWork:
    """The results of a task for rows, in the form in which they are stored.

    A row is done if an item is stored under its identity: the values of its inputs, and its request. A stored answer
    is validated again by the current signature.

    `asked` is the task or pipeline; it gives one item for each row. `lasting`: another process recognises the finished
    rows.
    """

    def __init__(self, task: Task[Any]) -> None:
        self.task = self.asked = task
        self.lasting = True
        sure = task.plan.confidence_settings
        self._sure = "" if sure is None else cell_json(sure.to_dict())

    def identity(self, given: Mapping[str, Any]) -> bytes:
        """Return the identity of the work on an input, 16 bytes."""
        try:
            inputs = self.task.program.validate(dict(given))
            key = self.task.program.render(inputs, self.task.llm.settings).key
        except ItemError:
            key = ""  # nothing is sent
        return row_identity(f"{key}{self._sure}", given)

    @cached_property
    def parts(self) -> dict[str, Any]:
        """What all answers depend on, by the name of what a person may change."""
        return task_parts(self.task)

    @cached_property
    def whole(self) -> str:
        """The identity of what all answers depend on, as a short text."""
        return identity_of(self.parts)

    def answer(self, item: Item[Any]) -> dict[str, Any]:
        """Return the output of an item by field, as JSON."""
        return self.task.answer(item)

    def cells(self, item: Item[Any]) -> list[Mapping[str, Any]]:
        """Return the output of an item by field: one for each row that is written for it."""
        if not item.ok:
            return [{}]
        return [item.output.outputs() if isinstance(item.output, Signature) else self.answer(item)]

    def sure(self, item: Item[Any]) -> float | None:
        """Return the confidence of an item's answer, or of its best guess if the task abstained; None: unknown."""
        if item.error is not None:
            found: object = item.error.details.get("confidence")
            return float(found) if isinstance(found, int | float) else None
        if self._of_answers is None or not item.confidence:
            return None
        return self._of_answers(self.answer(item), item.confidence)

    @cached_property
    def _of_answers(self) -> Callable[[Mapping[str, Any], Mapping[str, float]], float] | None:
        sure = self.task.plan.confidence_settings
        return None if sure is None else sure.of_answers(self.task.signature)

    def kept(self, item: Item[Any]) -> str:
        """Return the whole item as JSON, except its input, which is stored with the row."""
        return without_input(item, self.answer(item) if item.ok else None)

    def read(self, text: str, given: Mapping[str, Any]) -> Item[Any] | None:
        """Return the item that `kept` wrote, its output as a record; None if the signature no longer accepts it."""
        data = parse_json(text)
        if data["error"] is not None:
            return Item[Any].from_dict({**data, "input": given})
        try:
            inputs = self.task.program.validate(dict(given)).given
            record = _record(self.task.signature, {**inputs, **data["output"]})
        except (ItemError, ValueError):
            return None
        return Item(input=given, output=record)

    def item(self, kept: Mapping[str, Any], given: Mapping[str, Any]) -> Item[Any]:
        """Return the whole item of a row, its output as a record; the output is None if the signature refuses it
        now."""
        read = self.read(cell_json(dict(kept)), given)
        item = Item[Any].from_dict({**kept, "output": None, "input": dict(given)})
        return item if read is None or not read.ok else replace(item, output=read.output)


def without_input(item: Item[Any], answer: Any = None, **more: Any) -> str:
    """Return an item as JSON, except its input, with its answer by field; a failed item has no answer."""
    data = item.to_dict()
    del data["input"]
    return cell_json({**data, "output": answer, **more})


def task_parts(task: Task[Any]) -> dict[str, Any]:
    """Return what the answers of a task depend on, by the words for what a person may change."""
    program, settings = task.program, task.llm.settings
    head = program.head(program.first_mode)
    return {
        "instructions or examples": [head.messages, program.layout.template],
        "output fields": head.schema,
        "LLM or settings": [settings.endpoint, dict(settings.body)],
    }


def identity_of(parts: Any) -> str:
    """Return the identity of everything that the answers of a task depend on, as a short text."""
    return _hash(cell_json(parts)).hex()


def row_identity(whole: str, given: Mapping[str, Any]) -> bytes:
    """Return the identity of the work on an input, 16 bytes; `whole` is everything else that its answer depends on."""
    return _hash(f"{whole} {cell_json(dict(given))}")


def _hash(text: str) -> bytes:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _record(signature: type[Signature], values: Mapping[str, Any]) -> Signature:
    """Return the record of inputs and of outputs as JSON; a text that JSON can't represent is validated as it is."""
    try:
        return signature.model_validate_json(cell_json(values))
    except ValueError:
        return signature.model_validate(dict(values))
