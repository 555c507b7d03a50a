"""Shortlist and LabelPicker: choose the labels that are shown with an input if a task has too many to show them all."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from operator import add
from typing import Any

from llmtasker.compiler.prompt import show_labels
from llmtasker.errors import ConfigurationError, InputError
from llmtasker.similarity.nearest import SHORTLIST, Nearest, name_words, words
from llmtasker.similarity.vectors import Embed, check_embed, cosines, unit_vectors
from llmtasker.values.argument_checks import by_name, check_count
from llmtasker.values.json_values import is_mapping
from llmtasker.wire.offered_labels import write_offer

_MOST_MORE = 200  # labels that a re-ask shows beyond the shortlist


@by_name()
@dataclass(frozen=True, slots=True, kw_only=True)
class Shortlist:
    """How many labels are shown with an input, and how texts are compared; `shortlist=20` is `Shortlist(count=20)`.

    `embed` is a function from a list of texts to a vector for each; None: character n-grams are compared.

    Raises:
        ConfigurationError: a value is out of range.
    """

    count: int
    embed: Embed | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        check_count("shortlist", self.count, "the labels to show")
        check_embed(self.embed)

    @classmethod
    def of(cls, given: object) -> Shortlist | None:
        """Return the shortlist that a number, a Shortlist or its JSON form means; None: all labels are shown.

        Raises:
            ConfigurationError: it is something else.
        """
        if given is None or isinstance(given, Shortlist):
            return given
        if is_mapping(given):
            return cls(**given)
        return cls(count=given)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

    def document(self) -> dict[str, Any]:
        """Return the shortlist as JSON values.

        Raises:
            ConfigurationError: it has an embedding function.
        """
        if self.embed is not None:
            raise ConfigurationError(
                "embed is a function, which can't be stored in a file: use with_(shortlist=…) after loading."
            )
        return {"count": self.count}


class LabelPicker:
    """Ranks the labels of an output field for an input. Its only I/O is the user's `embed`.

    Args:
        name: the output field.
        labels: the texts of its labels, with their meanings.
        examples: texts, each with its labels.
        shortlist: how many are shown, and how texts are compared.
    """

    def __init__(
        self,
        name: str,
        labels: Mapping[str, str],
        examples: Iterable[tuple[str, Sequence[str]]],
        shortlist: Shortlist,
    ) -> None:
        self.name = name
        self.count = shortlist.count
        self.size = len(labels)
        self._embed = shortlist.embed
        self._labels = labels
        self._names = list(labels)
        places = {label: at for at, label in enumerate(labels)}
        self._examples = [(text, [places[label] for label in given if label in places]) for text, given in examples]

    @cached_property
    def _own(self) -> frozenset[str]:
        return frozenset(text for text, _ in self._examples)

    def knows(self, shown: str) -> bool:
        """Return whether a text is one of the examples."""
        return shown in self._own

    @cached_property
    def _index(self) -> Nearest:
        names = [f"{name_words(label)} {meaning}" for label, meaning in self._labels.items()]
        return Nearest(names, self._examples, SHORTLIST)

    @cached_property
    def _vectors(self) -> list[list[float]]:
        """The mean of the vectors of each label's texts, brought to unit length."""
        assert self._embed is not None  # noqa: S101 - for the type checker
        names = [": ".join(filter(None, (name_words(label), meaning))) for label, meaning in self._labels.items()]
        found = unit_vectors(self._embed, [*names, *(text for text, _ in self._examples)])
        sums = found[: len(names)]
        for vector, (_, places) in zip(found[len(names) :], self._examples, strict=True):
            for at in places:
                sums[at] = list(map(add, sums[at], vector))
        lengths = [math.hypot(*vector) or 1.0 for vector in sums]
        return [[value / length for value in vector] for vector, length in zip(sums, lengths, strict=True)]

    def warm_up(self) -> None:
        """Read all labels and examples, which can take a second.

        Raises:
            ConfigurationError: the embedding function fails for them.
        """
        _ = self._index if self._embed is None else self._vectors

    def ranked(self, shown: str, count: int) -> list[str]:
        """Return the labels that are nearest to a text, nearest first.

        Raises:
            InputError: the embedding function fails for it.
        """
        if self._embed is None:
            scores = self._index.scores(words(shown))
        else:
            vectors = self._vectors
            try:
                scores = cosines(unit_vectors(self._embed, [shown])[0], vectors)
            except ConfigurationError as error:
                raise InputError(f"no labels could be chosen: {error}") from None
        return [self._names[at] for at in heapq.nlargest(count, range(len(scores)), key=scores.__getitem__)]

    def offer(self, shown: str) -> str:
        """Return the block of likely labels that comes before an input."""
        return write_offer(show_labels(self.ranked(shown, self.count), self._labels))

    def others(self, shown: str) -> str:
        """Return the labels that follow, for an LLM that finds none of the first ones right."""
        following = self.ranked(shown, self.count + _MOST_MORE)[self.count :]
        return f"The other labels, the likely ones first:\n{show_labels(following, self._labels)}"
