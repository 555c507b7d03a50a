"""Classification: a text gets one label, or several, of a closed or open set."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from typing import Annotated, Any, Literal, cast

from pydantic import AfterValidator, Field, StringConstraints

from llmtasker.cache.store import Store
from llmtasker.compiler.program import AskMode
from llmtasker.compiler.prompt import ExamplesRole, InputRole
from llmtasker.errors import ConfigurationError, snippet
from llmtasker.runner.grouping.group_plan import GroupSize
from llmtasker.signature import InputField, OutputField, Signature
from llmtasker.task import Task
from llmtasker.tasks.prompts import Language, prompt_text
from llmtasker.values.folding import without_accents

Labels = Sequence[str] | Mapping[str, str] | type[Enum]
Examples = Mapping[str, Any] | Iterable[Any]


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
        variables: Mapping[str, object] | None = None,
        examples_role: ExamplesRole | None = None,
        input_role: InputRole = "user",
        mode: AskMode = "auto",
        reasoning: bool = False,
        attempts: int = 3,
        cache: bool | str | os.PathLike[str] | Store | None = None,
        group_size: GroupSize = 1,
    ) -> None:
        described = _described(labels)
        self._field = "labels" if multi_label else "label"
        kind = _kind(labels, described, multi_label=multi_label, open_set=open_set, allow_none=allow_none)
        if instructions is None:
            parts = ["classification.multi" if multi_label else "classification.single"]
            parts += ["classification.open"] * open_set + ["classification.none"] * allow_none
            instructions = "\n\n".join(prompt_text(part, language) for part in parts)
        signature = Signature.make(
            "Classification",
            instructions=instructions,
            inputs={"text": (str, InputField())},
            outputs={self._field: (kind, OutputField(labels=described))},
        )
        super().__init__(
            signature,
            llm=llm,
            examples=[{"text": text, self._field: label} for text, label in pairs(examples, self._field)],
            variables=variables,
            examples_role=examples_role,
            input_role=input_role,
            mode=mode,
            reasoning=reasoning,
            attempts=attempts,
            cache=cache,
            group_size=group_size,
        )
        self.labels = list(described)

    def _present(self, record: Any) -> Any:
        return getattr(record, self._field)

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
