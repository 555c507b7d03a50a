"""scikit-learn: a classification as an estimator (extra `[sklearn]`)."""

# scikit-learn has no types.
# pyright: reportMissingTypeStubs=false, reportUnknownVariableType=false, reportUnknownMemberType=false

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from llmtasker.errors import ConfigurationError, InvalidOutputError, ItemError
from llmtasker.signature.fields import label_text
from llmtasker.tasks.classification import Classification
from llmtasker.values.same_value import known_value

try:
    import numpy as np
    from sklearn.base import BaseEstimator, ClassifierMixin  # type: ignore[import-untyped]
    from sklearn.utils.multiclass import check_classification_targets  # type: ignore[import-untyped]
    from sklearn.utils.validation import check_is_fitted  # type: ignore[import-untyped]
except ModuleNotFoundError:
    raise ConfigurationError('an estimator needs scikit-learn: pip install "llmtasker[sklearn]"') from None


class LLMClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Labels texts with an LLM; `fit` takes the labels and a few examples from the data, and trains nothing.

    Args:
        llm: as for `Classification`.
        examples: how many texts of `fit` the LLM sees, spread evenly over the labels; 0: none.
        labels: the meaning of each label; None: the labels of `fit`, without meanings.
        instructions: what to do; None: a generic prompt.
        concurrency: texts that are processed at once; None: as for `Task.run`.
        random_state: an integer that chooses the examples; None: the first of each label.
        confidence: how the confidence is determined, as for `Classification`; None: not at all, so there is no
            `predict_proba`, because an LLM's choice comes without a probability.

    If the LLM can't label a text, or is not sure enough of it (a calibrated confidence with a threshold), `predict`
    raises an error with the number of such texts: a label is never guessed.

    >>> classifier = LLMClassifier(llm="offline", examples=2).fit(["it barks", "it meows"], ["dog", "cat"])
    >>> print(*classifier.predict(["he barks loudly"]))
    dog
    """

    def __init__(
        self,
        llm: Any = None,
        *,
        examples: int = 8,
        labels: Mapping[Any, str] | None = None,
        instructions: str | None = None,
        concurrency: int | None = None,
        random_state: int | None = None,
        confidence: Any = None,
    ) -> None:
        self.llm = llm
        self.examples = examples
        self.labels = labels
        self.instructions = instructions
        self.concurrency = concurrency
        self.random_state = random_state
        self.confidence = confidence

    def fit(self, X: Any, y: Any) -> LLMClassifier:  # noqa: N803 - the words of scikit-learn
        """Store the labels, and choose the examples.

        Raises:
            ValueError: X is not a list of texts, or not as long as y.
            ConfigurationError: a parameter is wrong.
        """
        texts = _texts(X)
        if y is None:
            raise ValueError("requires y to be passed, but the target y is None")
        check_classification_targets(y)
        answers = np.asarray(y)
        if len(texts) != len(answers):
            raise ValueError(f"X has {len(texts):,} texts, y has {len(answers):,} labels.")
        if type(self.examples) is not int or self.examples < 0:
            raise ConfigurationError(f"examples must be a whole number from 0, not {self.examples!r}.")
        self.classes_ = np.unique(answers)
        chosen = self._chosen(answers)
        names = {label: (self.labels or {}).get(label, "") for label in self.classes_.tolist()}
        self.task_ = Classification(
            llm=self.llm,
            labels=names,
            instructions=self.instructions,
            confidence=self.confidence,
            examples=[
                (texts[at], answers[at].item() if hasattr(answers[at], "item") else answers[at]) for at in chosen
            ],
        )
        return self

    def predict(self, X: Any) -> Any:  # noqa: N803
        """Return the label of each text.

        Raises:
            ValueError: X is not a list of texts.
            ItemError: texts could not be labelled; the first error, with their number.
        """
        items = self._items(X)
        _raise_first([item.error for item in items], "label")
        at = {label: number for number, label in enumerate(self.classes_.tolist())}
        return self.classes_[[at[item.output] for item in items]]

    @property
    def predict_proba(self) -> Callable[[Any], Any]:
        """A function from texts to the confidence of each label; only with `confidence=`.

        Raises:
            AttributeError: the classifier has no confidence.
        """
        if self.confidence is None:
            raise AttributeError(
                'predict_proba needs a confidence: give LLMClassifier(…, confidence="votes"), or another source.'
            )
        return self._shares

    def _shares(self, X: Any) -> Any:  # noqa: N803
        """Return the confidence of each label of `classes_`, as an array of (texts, labels) whose rows add up to 1.

        They are the confidences of the items, divided by their sum. Without a calibration they are not probabilities.

        Raises:
            ValueError: X is not a list of texts.
            ItemError: texts have no confidence; the first error, with their number.
        """
        items = self._items(X)
        _raise_first([_unsure(item) for item in items], "confidence")
        names = [label_text(label) for label in self.classes_.tolist()]
        shares = np.array([[item.confidence[name] for name in names] for item in items])
        return shares / shares.sum(axis=1, keepdims=True)

    def _items(self, texts: Any) -> Any:
        check_is_fitted(self, "task_")
        return self.task_.run(_texts(texts), concurrency=self.concurrency, progress=False)

    def _chosen(self, answers: Any) -> list[int]:
        """Return which rows are examples: round after round, one of each label."""
        order = np.arange(len(answers))
        if self.random_state is not None:
            order = np.random.default_rng(self.random_state).permutation(order)
        of_label = [order[answers[order] == label].tolist() for label in self.classes_]
        rounds = [rows[turn] for turn in range(max(map(len, of_label))) for rows in of_label if turn < len(rows)]
        return [int(at) for at in rounds[: self.examples]]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.one_d_array = True
        tags.input_tags.two_d_array = False
        tags.no_validation = True
        return tags


def _unsure(item: Any) -> ItemError | None:
    """Return why an item has no confidences; None: it has, even if it abstained."""
    if item.confidence:
        return None if any(item.confidence.values()) else InvalidOutputError("the confidence of each label is 0")
    return cast("ItemError", item.error)


def _raise_first(errors: Sequence[ItemError | None], what: str) -> None:
    failed = [error for error in errors if error is not None]
    if failed:
        first = failed[0]
        message = f"{len(failed):,} of {len(errors):,} texts have no {what}; the first: {first.message}"
        raise type(first)(message, **first.details)


def _texts(values: Any) -> list[str]:
    """Return texts as a list.

    Raises:
        ValueError: they are a single text, a table, or contain something else.
    """
    if isinstance(values, str):
        raise ValueError("give a list of texts, not one text.")  # noqa: TRY004 - what scikit-learn raises
    shape: tuple[int, ...] = getattr(values, "shape", (0,))
    if len(shape) == 2 and shape[1] == 1:  # a table of one column, such as a transformer gives after set_output
        values = np.asarray(values)[:, 0]
    elif len(shape) != 1:
        raise ValueError(f"give one text for each row, not a table of {shape[-1] if shape else 0} columns.")
    texts: Sequence[Any] = list(values)
    for number, text in enumerate(texts, start=1):
        if not isinstance(text, str):
            kind = "missing" if known_value(text) is None else f"a {type(text).__name__}"
            raise ValueError(f"row {number} is {kind}; each row must be a text.")  # noqa: TRY004
    return [str(text) for text in texts]
