"""Classification: a text gets one label, or several, of a closed or open set."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import Any, Self, Unpack, cast

from llmtasker.compiler.chosen_examples import ChosenExamples
from llmtasker.compiler.label_picker import Shortlist
from llmtasker.compiler.program import Program
from llmtasker.errors import ConfigurationError, snippet
from llmtasker.llm.llm import LLM
from llmtasker.plan import Plan, TaskChanges, TaskOptions
from llmtasker.signature.fields import InputField, OutputField, label_text
from llmtasker.signature.signature import Signature
from llmtasker.task import Task
from llmtasker.task_file import Document
from llmtasker.tasks.label_type import LabelSpec, label_type, labels_in_order, meanings_of, plain_label
from llmtasker.tasks.prompts import prompt_text
from llmtasker.values.argument_checks import by_name
from llmtasker.values.json_values import is_array
from llmtasker.values.lazy_pattern import lazy_pattern
from llmtasker.values.list_argument import copied
from llmtasker.wire.wording import WORDINGS, Language

__all__ = ["Classification", "Shortlist"]

Examples = Mapping[str, Any] | Iterable[Any] | ChosenExamples


_CLASSES = lazy_pattern(r"(?<!\{)\{classes\}(?!\})")
_MOST_OFFERED = 100  # labels that were found so far; each costs tokens in every call
_SETTINGS = ("multi_label", "open_set", "allow_none")


class ClassificationChanges(TaskChanges, total=False):
    """The keyword arguments of `Classification.with_`."""

    labels: LabelSpec
    multi_label: bool
    open_set: bool
    allow_none: bool
    shortlist: int | Shortlist | None


@dataclass(frozen=True, kw_only=True)
class ClassificationPlan(Plan):
    """What a `Classification` is made from."""

    labels: LabelSpec | None = None
    instructions: str | None = None
    multi_label: bool = False
    open_set: bool = False
    allow_none: bool = False
    shortlist: int | Shortlist | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (self.labels is None or isinstance(self.labels, type | str)):
            self._set("labels", copied("labels", self.labels))
        self._set("shortlist", Shortlist.of(self.shortlist))
        self._set("signature", self._signature())

    @cached_property
    def sent(self) -> dict[Any, Any]:
        """The labels as they are sent, in order, each with the label as the user gave it."""
        return labels_in_order(self.labels, open_set=self.open_set)

    @cached_property
    def described(self) -> dict[str, str]:
        """The meaning of each label, in order."""
        return meanings_of(self.labels, self.sent)

    @property
    def answer(self) -> str:
        """The name of the output field."""
        return "labels" if self.multi_label else "label"

    def records_of(self, examples: Any) -> Sequence[Any]:
        """Return examples as mappings with all fields of the signature."""
        return [{"text": text, self.answer: self._sent(label)} for text, label in pairs(examples, self.answer)]

    def _sent(self, label: Any) -> Any:
        if isinstance(self.labels, type):
            return label
        return (
            [plain_label(one) for one in cast("Iterable[object]", label)]
            if isinstance(label, list | tuple)
            else plain_label(label)
        )

    def needs(self) -> dict[str, str]:
        """Return the labels, if they are an Enum."""
        if isinstance(self.labels, type):
            return {"labels": f"the labels are the Enum {self.labels.__name__}, whose members are the outputs"}
        if any(isinstance(label, Enum) for label in self.sent.values()):
            return {"labels": "the labels are members of an Enum, which are the outputs"}
        return {}

    def own_settings(self) -> dict[str, Any]:
        """Return the settings of a classification, with its labels: as pairs, so that numbers stay numbers."""
        pairs = [[label, self.described[label_text(label)]] for label in self.sent]
        own = {name: getattr(self, name) for name in _SETTINGS}
        if self.shortened is not None:
            own["shortlist"] = self.shortened.document()
        return {**own, "labels": pairs}

    @property
    def shortened(self) -> Shortlist | None:
        """How many labels are shown with a text; None: all are."""
        return Shortlist.of(self.shortlist)

    @classmethod
    def own_arguments(cls, document: Document, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return labels, instructions, examples and settings."""
        settings = document["settings"]
        labels = given.get("labels")
        if labels is None:
            labels = dict(settings["labels"])
        own = {**{name: settings[name] for name in _SETTINGS}, "shortlist": settings.get("shortlist")}
        return {**own, "labels": labels, "instructions": document["instructions"], "examples": document["examples"]}

    def _signature(self) -> type[Signature]:
        instructions = self.instructions
        if instructions is None:
            instructions = generic_instructions(
                language=self.language,
                multi_label=self.multi_label,
                open_set=self.open_set,
                allow_none=self.allow_none,
                with_labels=bool(self.sent),
            )
        if not self.sent:
            instructions = _CLASSES.sub(WORDINGS[self.language].no_labels, instructions)
        kind = label_type(
            self.labels,
            list(self.sent),
            multi_label=self.multi_label,
            open_set=self.open_set,
            allow_none=self.allow_none,
        )
        return Signature.make(
            "Classification",
            instructions=instructions,
            inputs={"text": (str, InputField())},
            outputs={self.answer: (kind, OutputField(labels=self.described))},
        )


def generic_instructions(
    *, language: Language, multi_label: bool, open_set: bool, allow_none: bool, with_labels: bool
) -> str:
    """Return the default instructions of a classification, with {classes} if it has labels."""
    parts = ["classification.multi" if multi_label else "classification.single"]
    if not with_labels:
        parts = [f"{parts[0]}.new"]
    elif open_set:
        parts.append("classification.open")
    parts += ["classification.none"] * allow_none
    return "\n\n".join(prompt_text(part, language) for part in parts)


@by_name(ClassificationPlan.places, tuple(TaskOptions.__annotations__))
class Classification(Task[Any]):
    """Gives each text a label; `item.output` is the label, or the list of labels.

    Args:
        labels: a list, a mapping from label to meaning, or an Enum (then outputs are its members). A label is a text, a
            number (also of numpy) or a boolean, and is returned as you gave it. None with `open_set=True`: the labels
            that this task found in earlier calls and runs are offered, 100 at most.
        instructions: with {classes}, {examples}, {text} and your own variables; None: generic ones.
        examples: a mapping from text to label(s), or (text, label) pairs.
        multi_label: a text may have several labels.
        open_set: the LLM may name a new label if none fits.
        allow_none: a text may have no label; its output is None, or an empty list.
        shortlist: how many labels are shown with each text: the most likely ones by their names, meanings and
            examples. The LLM can still answer with another, or ask for more. A `Shortlist` takes an embedding function.

    The other arguments are those of `Task`.

    Raises:
        ConfigurationError: there are no labels, one is a duplicate, or an example has an unknown label.

    >>> from llmtasker import LLM
    >>> task = Classification(
    ...     llm=LLM("offline", cache=False),
    ...     labels={"chat": "un félin qui miaule", "chien": "aboie et remue la queue"},
    ...     examples={"un regard perçant": "chat", "leurs queues remuent": "chien"},
    ... )
    >>> task("il aboie").output
    'chien'
    """

    _plan_class = ClassificationPlan

    def __init__(
        self,
        *,
        llm: Any = None,
        labels: LabelSpec | None = None,
        instructions: str | None = None,
        examples: Examples = (),
        multi_label: bool = False,
        open_set: bool = False,
        allow_none: bool = False,
        shortlist: int | Shortlist | None = None,
        **options: Unpack[TaskOptions],
    ) -> None:
        own = {
            "labels": labels,
            "instructions": instructions,
            "examples": examples,
            "multi_label": multi_label,
            "open_set": open_set,
            "allow_none": allow_none,
            "shortlist": shortlist,
        }
        self._build(ClassificationPlan.of(type(self).__name__, {**own, **options}), LLM.of(llm))

    @classmethod
    def load(  # type: ignore[override]
        cls, path: str | os.PathLike[str], *, labels: type[Enum] | None = None, llm: Any = None
    ) -> Self:
        """Return the classification that `save` wrote; pass the Enum as `labels` if it was made with one.

        Raises:
            ConfigurationError: see `Task.load`.
        """
        return cls._load(path, llm, {"labels": labels})

    @property
    def plan(self) -> ClassificationPlan:
        """What the task was made from, apart from its LLM."""
        return cast("ClassificationPlan", self._plan)

    def with_(self, **changes: Unpack[ClassificationChanges]) -> Self:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return a new task with other arguments; see `Task.with_`."""
        return super().with_(**changes)  # type: ignore[misc]

    @property
    def labels(self) -> list[Any]:
        """The labels, in order, as you gave them; for an open set without a list, those found so far."""
        return list(self.plan.sent.values() or self._found)

    def _added(self) -> dict[str, Any]:
        # A copy finds its labels itself.
        return {name: value for name, value in super()._added().items() if name not in {"_found_labels", "_offering"}}

    @property
    def _found(self) -> dict[str, None]:
        found: dict[str, None] = vars(self).setdefault("_found_labels", {})
        return found

    def _current_program(self) -> Program[Any]:
        """Return the program; without a list of labels, it offers those found so far."""
        offered = tuple(self._found)[:_MOST_OFFERED]
        if self.plan.sent or not offered:
            return self.program
        last: tuple[tuple[str, ...], Program[Any]] | None = vars(self).get("_offering")
        if last is None or last[0] != offered:
            last = offered, self.plan.changed(type(self).__name__, {"labels": offered}).compile()
            vars(self)["_offering"] = last
        return last[1]

    def _present(self, record: Any) -> Any:
        answer, given = getattr(record, self.plan.answer), self.plan.sent
        if self.plan.open_set and not given:
            self._found.update(dict.fromkeys(answer if is_array(answer) else filter(None, [answer])))
        if is_array(answer):
            return [given.get(label, label) for label in answer]
        return answer if isinstance(answer, Enum) else given.get(answer, answer)

    @staticmethod
    def build_labels_from_list(labels: Iterable[Any]) -> dict[Any, str]:
        """Return labels without descriptions, in order.

        >>> Classification.build_labels_from_list(["chat", "chien"])
        {'chat': '', 'chien': ''}
        """
        return dict.fromkeys(labels_in_order(list(labels), open_set=False).values(), "")

    @staticmethod
    def build_labels_from_dict(labels: Mapping[Any, str]) -> dict[Any, str]:
        """Return labels with their meanings, in order."""
        return {label: labels[label] or "" for label in labels_in_order(labels, open_set=False).values()}

    @staticmethod
    def build_labels_from_enum(labels: type[Enum]) -> dict[str, str]:
        """Return the values of an Enum as labels; give the Enum itself to get its members as outputs."""
        return dict.fromkeys(labels_in_order(labels, open_set=False).values(), "")


def pairs(examples: Examples, answer: str) -> list[tuple[str, Any]]:
    """Return examples as (text, answer) pairs, from a mapping, pairs, or mappings with the keys "text" and `answer`.

    Raises:
        ConfigurationError: an example has another form.
    """
    given = cast("Iterable[Any]", examples.items() if isinstance(examples, Mapping) else examples)
    found: list[tuple[str, Any]] = []
    for number, one in enumerate(given, start=1):
        if issubclass(type(one), Mapping) and {"text", answer} <= one.keys():
            found.append((one["text"], one[answer]))
        elif issubclass(type(one), Sequence) and not isinstance(one, str) and len(one) == 2:
            found.append((one[0], one[1]))
        else:
            raise ConfigurationError(
                f"example {number} is not a (text, {answer}) pair: {snippet(repr(one), 60)}. "
                f"Give a mapping from text to {answer}, or a list of pairs."
            )
    return found
