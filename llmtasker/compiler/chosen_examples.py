"""ChosenExamples: a pool of examples, and how the examples of an input are chosen from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from llmtasker.errors import ConfigurationError, snippet
from llmtasker.similarity.vectors import Embed, check_embed
from llmtasker.values.argument_checks import check_choice, check_count

Method = Literal["fixed", "random", "nearest", "diverse", "balanced"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """How `count` examples are chosen for an input.

    Raises:
        ConfigurationError: a value is out of range.
    """

    method: Method
    count: int
    seed: int = 0
    embed: Embed | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        check_choice("the method of chosen examples", self.method, get_args(Method))
        check_count("k", self.count, "the examples to show")
        check_embed(self.embed)

    def document(self) -> dict[str, Any]:
        """Return the selection as JSON values.

        Raises:
            ConfigurationError: it has an embedding function.
        """
        if self.embed is not None:
            raise ConfigurationError(
                "embed is a function, which can't be stored in a file: choose the examples again after loading."
            )
        return {"method": self.method, "count": self.count, "seed": self.seed}

    @classmethod
    def read(cls, given: Any) -> Selection:
        """Return the selection that `document` wrote.

        Raises:
            ConfigurationError: it is something else.
        """
        try:
            return cls(**given)
        except TypeError:
            raise ConfigurationError(f"the selection of examples is not {snippet(repr(given), 60)}.") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenExamples:
    """A pool of examples, in the form that the task takes, with the selection from it; give it as `examples=`.

    An input gets the same examples in every run. An example is not shown for its own input, so that a
    task can be measured on rows of the pool. Instructions always come first in the prompt, then
    the examples, then the input.
    """

    pool: Any = field(repr=False)
    selection: Selection

    def __post_init__(self) -> None:
        if isinstance(self.pool, str | bytes) or not hasattr(self.pool, "__iter__"):
            raise ConfigurationError(f"the pool of examples is a list, not {snippet(repr(self.pool), 60)}.")
        if not hasattr(self.pool, "__len__"):
            object.__setattr__(self, "pool", tuple(self.pool))
        if not len(self.pool):
            raise ConfigurationError("the pool of examples is empty: give at least one.")

    def __len__(self) -> int:
        return len(self.pool)


def fixed(pool: Any, k: int) -> ChosenExamples:
    """Return the first `k` examples of a pool, the same for all inputs."""
    return ChosenExamples(pool=pool, selection=Selection(method="fixed", count=k))


def random_(pool: Any, k: int, *, seed: int = 0) -> ChosenExamples:
    """Return `k` examples drawn for each input; the same input gets the same ones in every run."""
    return ChosenExamples(pool=pool, selection=Selection(method="random", count=k, seed=seed))


def nearest(pool: Any, k: int, *, embed: Embed | None = None) -> ChosenExamples:
    """Return the `k` examples that are most similar to each input, nearest first.

    Texts are compared by their character n-grams, and by the names of their labels; or by the vectors that `embed`
    returns for a list of texts.

    >>> from llmtasker import Classification
    >>> pool = {"the card was stolen": "card", "where is my parcel": "parcel", "my card does not work": "card"}
    >>> task = Classification(llm="offline", labels=["card", "parcel"], examples=nearest(pool, 1))
    >>> print(task.preview("is the parcel late?").messages[1].get("content"))
    where is my parcel
    """
    return ChosenExamples(pool=pool, selection=Selection(method="nearest", count=k, embed=embed))


def diverse(pool: Any, k: int, *, embed: Embed | None = None) -> ChosenExamples:
    """Return `k` examples that are similar to each input but unlike each other.

    This is maximal marginal relevance (Carbonell and Goldstein 1998) with equal weights.
    """
    return ChosenExamples(pool=pool, selection=Selection(method="diverse", count=k, embed=embed))


def balanced(pool: Any, k: int, *, embed: Embed | None = None) -> ChosenExamples:
    """Return `k` examples for each input: the nearest one of each label, nearest first; then the second nearest ones.

    The task needs an output field with labels.
    """
    return ChosenExamples(pool=pool, selection=Selection(method="balanced", count=k, embed=embed))
