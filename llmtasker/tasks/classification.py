"""Classification: a text gets one label, or several, of a closed or open set."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import Annotated, Any, Literal, Self, Unpack, cast, get_args

from pydantic import AfterValidator, Field, StringConstraints

from llmtasker.errors import ConfigurationError, check_choice, snippet
from llmtasker.fields import InputField, OutputField
from llmtasker.llm.llm import LLM
from llmtasker.plan import Plan, TaskChanges, TaskOptions, copied
from llmtasker.signature import Signature
from llmtasker.task import Task
from llmtasker.task_file import Document, read_document
from llmtasker.tasks.prompts import Language, prompt_text
from llmtasker.values.folding import without_accents

__all__ = ["Classification"]

Labels = Sequence[str] | Mapping[str, str] | type[Enum]
Examples = Mapping[str, Any] | Iterable[Any]


_SETTINGS = ("multi_label", "open_set", "allow_none", "language")


class ClassificationChanges(TaskChanges, total=False):
    """The keyword arguments of `Classification.with_`."""

    labels: Labels
    multi_label: bool
    open_set: bool
    allow_none: bool
    language: Language


@dataclass(frozen=True, kw_only=True)
class ClassificationPlan(Plan):
    """What a `Classification` is made from."""

    labels: Labels
    instructions: str | None = None
    multi_label: bool = False
    open_set: bool = False
    allow_none: bool = False
    language: Language = "en"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.labels, type | str):
            self._set("labels", copied("labels", self.labels))
        check_choice("language", self.language, get_args(Language))
        self._set("signature", self._signature())

    @cached_property
    def described(self) -> dict[str, str]:
        """What each label means, in order."""
        return _described(self.labels)

    @property
    def answer(self) -> str:
        """The name of the output field."""
        return "labels" if self.multi_label else "label"

    def records_of(self, examples: Any) -> Sequence[Any]:
        """Return examples as mappings with all fields of the signature."""
        return [{"text": text, self.answer: label} for text, label in pairs(examples, self.answer)]

    def needs(self) -> dict[str, str]:
        """Return the labels, if they are an Enum."""
        if isinstance(self.labels, type):
            return {"labels": f"the labels are the Enum {self.labels.__name__}, whose members are the outputs"}
        return {}

    def own_settings(self) -> dict[str, Any]:
        """Return the settings of a classification, with its labels: as pairs, so that numbers stay numbers."""
        pairs = [[label, meaning] for label, meaning in self.described.items()]
        return {**{name: getattr(self, name) for name in _SETTINGS}, "labels": pairs}

    @classmethod
    def own_arguments(cls, document: Document, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return labels, instructions, examples and settings."""
        settings = document["settings"]
        labels = given.get("labels")
        if labels is None:
            labels = dict(settings["labels"])
        own = {name: settings[name] for name in _SETTINGS}
        return {**own, "labels": labels, "instructions": document["instructions"], "examples": document["examples"]}

    def _signature(self) -> type[Signature]:
        instructions = self.instructions
        if instructions is None:
            parts = ["classification.multi" if self.multi_label else "classification.single"]
            parts += ["classification.open"] * self.open_set + ["classification.none"] * self.allow_none
            instructions = "\n\n".join(prompt_text(part, self.language) for part in parts)
        kind = _kind(
            self.labels,
            self.described,
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


class Classification(Task[Any]):
    """Gives each text a label; `item.output` is the label, or the list of labels.

    Args:
        labels: a list, a mapping from label to what it means, or an Enum (then outputs are its members).
        instructions: with {classes}, {examples}, {text} and own variables; None: generic ones in `language`.
        examples: a mapping from text to label(s), or (text, label) pairs.
        multi_label: a text may have several labels.
        open_set: the LLM may name a new label where none fits.
        allow_none: a text may have no label; its output is None, or an empty list.
        language: of the generic instructions, "en" or "fr".

    The other arguments are those of `Task`.

    Raises:
        ConfigurationError: there are no labels, one stands twice, or an example has another.

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
        labels: Labels,
        instructions: str | None = None,
        examples: Examples = (),
        multi_label: bool = False,
        open_set: bool = False,
        allow_none: bool = False,
        language: Language = "en",
        **options: Unpack[TaskOptions],
    ) -> None:
        own = {
            "labels": labels,
            "instructions": instructions,
            "examples": examples,
            "multi_label": multi_label,
            "open_set": open_set,
            "allow_none": allow_none,
            "language": language,
        }
        self._build(ClassificationPlan.of(type(self).__name__, {**own, **options}), LLM.of(llm))

    @classmethod
    def load(  # type: ignore[override]
        cls, path: str | os.PathLike[str], *, labels: type[Enum] | None = None, llm: Any = None
    ) -> Self:
        """Return the classification that `save` wrote; `labels` is the Enum that it was made with, if it was one.

        Raises:
            ConfigurationError: see `Task.load`.
        """
        return cls._load(path, read_document(path), llm, {"labels": labels})

    @property
    def plan(self) -> ClassificationPlan:
        """What the task was made from, apart from its LLM."""
        return cast("ClassificationPlan", self._plan)

    def with_(self, **changes: Unpack[ClassificationChanges]) -> Self:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return a new task with other arguments; see `Task.with_`."""
        return super().with_(**changes)  # type: ignore[misc]

    @property
    def labels(self) -> list[str]:
        """The labels, in order."""
        return list(self.plan.described)

    def _present(self, record: Any) -> Any:
        return getattr(record, self.plan.answer)

    @staticmethod
    def build_labels_from_list(labels: Iterable[str]) -> dict[str, str]:
        """Return labels without descriptions, in order.

        >>> Classification.build_labels_from_list(["chat", "chien"])
        {'chat': '', 'chien': ''}
        """
        return _described(list(labels))

    @staticmethod
    def build_labels_from_dict(labels: Mapping[str, str]) -> dict[str, str]:
        """Return labels with what each means, in order."""
        return _described(labels)

    @staticmethod
    def build_labels_from_enum(labels: type[Enum]) -> dict[str, str]:
        """Return the values of an Enum as labels; give the Enum itself to get its members as outputs."""
        return _described(labels)


def pairs(examples: Examples, answer: str) -> list[tuple[str, Any]]:
    """Return examples as (text, answer) pairs, from a mapping, pairs, or mappings with the keys "text" and `answer`.

    Raises:
        ConfigurationError: an example is none of these.
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
                f"example {number} is no (text, {answer}) pair: {snippet(repr(one), 60)}. "
                f"Give a mapping from text to {answer}, or a list of pairs."
            )
    return found


def _described(labels: Labels) -> dict[str, str]:
    named: list[tuple[Any, str]]
    if isinstance(labels, type):
        named = [(str(member.value), "") for member in labels]
    elif isinstance(labels, Mapping):
        named = [(label, meaning or "") for label, meaning in labels.items()]
    elif isinstance(labels, str):
        raise ConfigurationError(f"labels is one text, {snippet(labels, 40)!r}: give a list of labels.")
    else:
        named = [(label, "") for label in labels]
    if not named:
        raise ConfigurationError("there are no labels: give at least one.")
    for label, _ in named:
        if not isinstance(label, str) or not label.strip():
            raise ConfigurationError(f"a label is a text that is not empty, not {label!r}.")
    described = dict(named)
    if len(described) < len(named):
        twice = next(label for label, _ in named if [other for other, _ in named].count(label) > 1)
        raise ConfigurationError(f"the label {twice!r} stands twice.")
    return described


def _kind(labels: Labels, described: Mapping[str, str], *, multi_label: bool, open_set: bool, allow_none: bool) -> Any:
    """Return the type of the output field."""
    one: Any = labels if isinstance(labels, type) else Literal[tuple(described)]
    if open_set:
        if isinstance(labels, type):
            raise ConfigurationError("an Enum is a closed set: give its labels as a list for open_set=True.")
        text = StringConstraints(strip_whitespace=True, min_length=1)
        one = one | Annotated[str, text, AfterValidator(_Known(described))]
    if not multi_label:
        return one | None if allow_none else one
    return Annotated[list[one], Field(min_length=0 if allow_none else 1), AfterValidator(_once)]


class _Known:
    """Reads a label of an open set as the existing one that it is but for case, accents and spaces."""

    def __init__(self, labels: Iterable[str]) -> None:
        self._labels: dict[str, str] = {}
        for label in labels:
            self._labels.setdefault(self._folded(label), label)

    def __call__(self, label: str) -> str:
        return self._labels.get(self._folded(label), label)

    @staticmethod
    def _folded(label: str) -> str:
        return " ".join(without_accents(label).split())


def _once(labels: list[Any]) -> list[Any]:
    return list(dict.fromkeys(labels))
