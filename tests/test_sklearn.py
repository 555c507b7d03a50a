"""LLMClassifier as an estimator of scikit-learn."""

from __future__ import annotations

import warnings
from collections import Counter
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import check_estimator
from sklearn.utils.validation import check_is_fitted, validate_data

from llmtasker import LLM, Item
from llmtasker.confidence.source import Confidence
from llmtasker.errors import AbstainedError, ConfigurationError, InvalidOutputError
from llmtasker.integrations.sklearn import LLMClassifier
from llmtasker.testing import FakeTransport
from llmtasker.wire.request_reader import last_user_text

TEXTS = [f"it {'barks' if number % 2 else 'meows'} at {number}" for number in range(20)]
LABELS = ["dog" if number % 2 else "cat" for number in range(20)]


def test_it_labels_texts() -> None:
    classifier = LLMClassifier(llm="offline", examples=4).fit(TEXTS, LABELS)
    assert list(classifier.predict(["something barks", "something meows"])) == ["dog", "cat"]
    assert classifier.score(TEXTS, LABELS) == 1.0
    assert list(classifier.classes_) == ["cat", "dog"]


@pytest.mark.parametrize("labels", [[0, 1] * 10, [True, False] * 10, np.array([3, 7] * 10)])
def test_labels_come_back_as_they_were_given(labels: Any) -> None:
    classifier = LLMClassifier(llm="offline").fit(TEXTS, labels)
    found = classifier.predict(TEXTS)
    assert found.dtype == np.asarray(labels).dtype
    assert list(found) == list(labels)


@pytest.mark.parametrize("kind", [list, np.array, pd.Series])
def test_texts_come_in_every_form(kind: Any) -> None:
    classifier = LLMClassifier(llm="offline").fit(kind(TEXTS), kind(LABELS))
    assert list(classifier.predict(kind(TEXTS))) == LABELS


@pytest.mark.parametrize("examples", [0, 1, 5, 100])
def test_examples_are_spread_over_the_labels(examples: int) -> None:
    classifier = LLMClassifier(llm="offline", examples=examples).fit(TEXTS, LABELS)
    shown = Counter(label for _, label in classifier.task_.plan.examples)
    assert shown.total() == min(examples, 20)
    assert max(shown.values(), default=0) - min(shown.values(), default=0) <= 1


def test_the_choice_of_examples_is_seeded() -> None:
    one, other, third = (
        LLMClassifier(llm="offline", examples=4, random_state=state).fit(TEXTS, LABELS).task_.plan.examples
        for state in (1, 1, 2)
    )
    assert one == other != third


def test_it_is_cloned_piped_and_searched() -> None:
    classifier = LLMClassifier(llm="offline", examples=2, random_state=3)
    assert clone(classifier).get_params() == classifier.get_params()
    piped = make_pipeline(FunctionTransformer(lambda texts: [text.lower() for text in texts]), classifier)
    assert list(piped.fit(TEXTS, LABELS).predict(["IT BARKS"])) == ["dog"]
    found = GridSearchCV(classifier, {"examples": [0, 4]}, cv=2).fit(TEXTS, LABELS)
    assert found.best_params_ == {"examples": 4}
    assert cross_val_score(classifier, TEXTS, LABELS, cv=2).mean() == 1.0


def test_a_text_without_a_label_is_never_guessed() -> None:
    llm = LLM(transport=FakeTransport("no idea"), cache=False)
    classifier = LLMClassifier(llm=llm, examples=0).fit(TEXTS, LABELS)
    with pytest.raises(InvalidOutputError, match="20 of 20 texts have no label"):
        classifier.predict(TEXTS)
    assert not hasattr(classifier, "predict_proba")


@pytest.mark.parametrize("labels", [["dog", "cat"], [1, 0], [True, False]])
def test_confidence_becomes_predict_proba(labels: list[Any]) -> None:
    """Five samples each: the fourth has the other label, and the fifth is not readable."""
    said = {str(label): [str(label)] * 3 + [str(other), "no idea"] for label, other in (labels, labels[::-1])}
    counts: Counter[str] = Counter()

    def answer(request: Any) -> Any:
        text = last_user_text(request)
        counts[text] += 1
        label = labels[0] if "barks" in text else labels[1]
        return said[str(label)][counts[text] - 1]

    llm = LLM(transport=FakeTransport(answer), cache=False)
    classifier = LLMClassifier(llm=llm, examples=0, confidence=Confidence(source="votes", samples=5))
    classifier.fit(["it barks", "it meows"], labels)
    classifier.task_ = classifier.task_.with_(attempts=1)
    found = classifier.predict_proba(["he barks", "he meows"])
    assert found.shape == (2, 2)
    assert found.sum(axis=1) == pytest.approx([1.0, 1.0])
    assert [classifier.classes_[at] for at in found.argmax(axis=1)] == labels
    assert found.max(axis=1) == pytest.approx([0.75, 0.75]), "the sample that failed is left out"
    assert clone(classifier).confidence == classifier.confidence


def test_there_is_no_probability_without_a_confidence() -> None:
    classifier = LLMClassifier(llm="offline").fit(TEXTS, LABELS)
    with pytest.raises(AttributeError) as caught:
        classifier.predict_proba(TEXTS)
    assert 'give LLMClassifier(…, confidence="votes")' in str(caught.value)


def test_an_answer_that_is_not_sure_enough_is_an_error_not_a_label(monkeypatch: pytest.MonkeyPatch) -> None:
    classifier = LLMClassifier(llm="offline", examples=0).fit(TEXTS, LABELS)
    unsure = AbstainedError("not sure enough", guess="cat", confidence=0.4)
    items: list[Item[Any]] = [Item(input="a", output="cat"), Item(input="b", error=unsure)]
    monkeypatch.setattr(classifier, "task_", SimpleNamespace(run=lambda *_, **__: items))
    with pytest.raises(AbstainedError, match="1 of 2 texts have no label") as caught:
        classifier.predict(["a", "b"])
    assert caught.value.guess == "cat"


@pytest.mark.parametrize(
    ("texts", "labels", "words"),
    [
        ("one text", LABELS, "one text"),
        (TEXTS, LABELS[:3], "3 labels"),
        ([1, 2], ["a", "b"], "row 1 is a int"),
        (["x", float("nan")], ["a", "b"], "row 2 is missing; each row must be a text"),
        (np.zeros((2, 2)), ["a", "b"], "not a table of 2 columns"),
        (pd.DataFrame({"a": TEXTS, "b": TEXTS}), LABELS, "not a table of 2 columns"),
        (TEXTS, None, "y"),
    ],
)
def test_what_is_not_texts_and_labels(texts: Any, labels: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        LLMClassifier(llm="offline").fit(texts, labels)


def test_a_wrong_parameter() -> None:
    with pytest.raises(ConfigurationError, match="examples"):
        LLMClassifier(llm="offline", examples=-1).fit(TEXTS, LABELS)


class RowsAsTexts(LLMClassifier):
    """The estimator for rows of numbers, each written as a text, so that all checks of scikit-learn apply.

    Only few of them know estimators of texts: `check_estimator` leaves all but one out.
    """

    def fit(self, X: Any, y: Any) -> Any:  # noqa: N803
        if y is None:
            return super().fit(["a text"], y)
        rows, labels = validate_data(self, X, y)
        return super().fit(self._written(rows), labels)

    def predict(self, X: Any) -> Any:  # noqa: N803
        check_is_fitted(self, "task_")
        return super().predict(self._written(validate_data(self, X, reset=False)))

    def _written(self, rows: Any) -> list[str]:
        # As words that are similar for numbers that are close, because the offline baseline compares words.
        return [" ".join(f"f{n}v{round(10 * x)} f{n}w{round(x)}" for n, x in enumerate(row)) for row in rows]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = tags.input_tags.one_d_array = tags.no_validation = False
        tags.input_tags.two_d_array = True
        return tags


EXPECTED_TO_FAIL: dict[str, str] = {}
"""By the name of the check, the reason; none at present, from scikit-learn 1.6.0 to 1.9.1."""


def test_the_checks_of_scikit_learn() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = check_estimator(
            RowsAsTexts(llm="offline", examples=1_000),
            expected_failed_checks=EXPECTED_TO_FAIL,
            on_fail=None,
            on_skip=None,
        )
    assert {one["check_name"]: one["exception"] for one in found if one["status"] == "failed"} == {}
    skipped = {one["check_name"] for one in found if one["status"] == "skipped"}
    assert skipped <= {"check_array_api_input"}, "which needs SCIPY_ARRAY_API=1 before scipy is imported"
    assert {one["check_name"] for one in found if one["status"] == "xfail"} == set(EXPECTED_TO_FAIL)
    assert len(found) > 50


def test_it_takes_what_set_output_makes_of_texts() -> None:
    """After `set_output`, a transformer returns a table, with one column if it returned texts."""
    lower = FunctionTransformer(lambda texts: pd.DataFrame({"text": [text.lower() for text in texts]}))
    piped = make_pipeline(lower, LLMClassifier(llm="offline")).set_output(transform="pandas")
    assert list(piped.fit(TEXTS, LABELS).predict(["IT BARKS"])) == ["dog"]
    one_column = np.array(TEXTS, dtype=object).reshape(-1, 1)
    assert list(LLMClassifier(llm="offline").fit(one_column, LABELS).predict(one_column)) == LABELS
