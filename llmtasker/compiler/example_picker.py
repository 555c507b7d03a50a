"""ExamplePicker: chooses the examples that are shown for one input."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from random import Random

from llmtasker.compiler.chosen_examples import Selection
from llmtasker.compiler.examples import Example, labels_in_answer, shown_text
from llmtasker.errors import ConfigurationError, InputError
from llmtasker.signature.fields import wire_name
from llmtasker.signature.signature import Signature
from llmtasker.similarity.diversified import diversified
from llmtasker.similarity.nearest import EXAMPLES, Nearest, grams, name_words, words
from llmtasker.similarity.vectors import cosines, unit_vectors

_CANDIDATES = 4  # times the examples that are shown; "diverse" chooses unlike ones among these


class ExamplePicker:
    """Chooses examples from a pool, the same for the same input in every process. Its only I/O is the user's `embed`.

    `label_fields` are the output fields that have labels.

    Raises:
        ConfigurationError: the selection needs labels, and no output field has any.
    """

    def __init__(
        self, signature: type[Signature], selection: Selection, pool: Sequence[Example], label_fields: Iterable[str]
    ) -> None:
        self._signature = signature
        self._selection = selection
        self._pool = pool
        self._label_fields = [wire_name(name, signature.output_fields[name]) for name in label_fields]
        if selection.method == "balanced" and not self._label_fields:
            raise ConfigurationError(
                f"balanced examples need an output field with labels, which {signature.__name__} does not have: "
                "use nearest or diverse."
            )

    @cached_property
    def _texts(self) -> list[str]:
        return [shown_text(self._signature, example.values) for example in self._pool]

    @cached_property
    def _labels(self) -> list[tuple[str, ...]]:
        """The labels of each example; none for an example without a JSON answer."""
        return [
            tuple(label for name in self._label_fields for label in labels_in_answer(example, name))
            for example in self._pool
        ]

    @cached_property
    def _index(self) -> Nearest:
        names = [" ".join(map(name_words, labels)) for labels in self._labels]
        return Nearest(names, [(text, [at]) for at, text in enumerate(self._texts)], EXAMPLES)

    @cached_property
    def _vectors(self) -> list[list[float]]:
        assert self._selection.embed is not None  # noqa: S101 - for the type checker
        return unit_vectors(self._selection.embed, self._texts)

    def warm_up(self) -> None:
        """Read the whole pool, which can take a second.

        Raises:
            ConfigurationError: the embedding function fails for it.
        """
        if self._selection.method != "random":
            _ = self._index if self._selection.embed is None else self._vectors

    def choose(self, shown: str) -> list[Example]:
        """Return the examples for an input as the LLM sees it, the nearest first.

        Raises:
            InputError: the embedding function fails for it.
        """
        others = [at for at, text in enumerate(self._texts) if text != shown]
        count = self._selection.count
        if self._selection.method == "random":
            random = Random(f"{self._selection.seed} {shown}")  # noqa: S311 - a draw, not a secret
            return [self._pool[at] for at in random.sample(others, min(count, len(others)))]
        scores = self._scores(shown)
        if self._selection.method == "nearest":
            order = heapq.nlargest(count, others, key=scores.__getitem__)
        elif self._selection.method == "diverse":
            near = heapq.nlargest(_CANDIDATES * count, others, key=scores.__getitem__)
            best = max((scores[at] for at in near), default=0.0) or 1.0
            order = diversified({at: scores[at] / best for at in near}, self._likeness(), count)
        else:
            order = self._one_a_label(sorted(others, key=scores.__getitem__, reverse=True))[:count]
        return [self._pool[at] for at in order]

    def _scores(self, shown: str) -> list[float]:
        embed = self._selection.embed
        if embed is None:
            return self._index.scores(words(shown))
        vectors = self._vectors
        try:
            return cosines(unit_vectors(embed, [shown])[0], vectors)
        except ConfigurationError as error:
            raise InputError(f"no examples could be chosen: {error}") from None

    def _one_a_label(self, order: Sequence[int]) -> list[int]:
        """Return the nearest example of each label, then the second one of each, and so on."""
        seen = Counter[tuple[str, ...]]()
        rounds: list[tuple[int, int]] = []
        for at in order:
            rounds.append((seen[self._labels[at]], at))
            seen[self._labels[at]] += 1
        return [at for _, at in sorted(rounds, key=lambda one: one[0])]

    def _likeness(self) -> Callable[[int, int], float]:
        """Return how similar two examples of the pool are, from 0 to 1."""
        if self._selection.embed is not None:
            vectors = self._vectors
            return lambda one, other: cosines(vectors[one], [vectors[other]])[0]
        texts, read = self._texts, dict[int, frozenset[str]]()

        def grams_of(at: int) -> frozenset[str]:
            if at not in read:
                read[at] = grams(texts[at])
            return read[at]

        def dice(one: int, other: int) -> float:
            mine, its = grams_of(one), grams_of(other)
            return 2 * len(mine & its) / ((len(mine) + len(its)) or 1)

        return dice
