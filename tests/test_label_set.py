"""A signature whose output field takes its value from other labels, in schema and check."""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Any, Literal

import numpy as np
import pytest
from pydantic import AfterValidator, Field, StringConstraints, ValidationError

from llmtasker import ConfigurationError, InputField, OutputField, Signature
from llmtasker.compiler.label_set import fits_labels, label_set, labelled_field, with_labels
from llmtasker.signature.fields import label_descriptions


class Team(Enum):
    BILLING = "billing"
    DELIVERY = "delivery"
    SALES = "sales"


def sort_of(annotation: Any, **options: Any) -> type[Signature]:
    return Signature.make("Sort", instructions="Sort.", outputs={"team": (annotation, OutputField(**options))})


LABELS = ["billing", "delivery"]


@pytest.mark.parametrize(
    ("annotation", "options", "value", "wrong", "schema"),
    [
        (str, {}, "billing", "sales", {"enum": LABELS, "type": "string"}),
        (str, {"max_length": 3}, "billing", "sales", {"enum": LABELS, "type": "string"}),
        (Literal["x", "y"], {}, "billing", "x", {"enum": LABELS, "type": "string"}),
        (Team, {}, Team.BILLING, "sales", {"enum": LABELS, "type": "string"}),
        (Annotated[str, StringConstraints(pattern="^x")], {}, "billing", "x", {"enum": LABELS, "type": "string"}),
        (
            Literal["x"] | None,
            {"default": None},
            None,
            "x",
            {"anyOf": [{"enum": LABELS, "type": "string"}, {"type": "null"}], "default": None},
        ),
        (Literal["x", None], {}, None, "x", {"enum": [*LABELS, None]}),
        (Team | None, {}, Team.DELIVERY, "x", {"anyOf": [{"enum": LABELS, "type": "string"}, {"type": "null"}]}),
        (
            list[Team],
            {"max_length": 2},
            [Team.DELIVERY],
            ["sales"],
            {"items": {"enum": LABELS, "type": "string"}, "maxItems": 2, "type": "array"},
        ),
        (
            list[str],
            {"min_length": 1},
            ["billing"],
            [],
            {"items": {"enum": LABELS, "type": "string"}, "minItems": 1, "type": "array"},
        ),
        (tuple[str, ...], {}, ("billing",), ("x",), {"items": {"enum": LABELS, "type": "string"}, "type": "array"}),
        (
            Literal["x"] | Annotated[str, StringConstraints(min_length=2)],
            {},
            "new",
            "n",
            {"anyOf": [{"enum": LABELS, "type": "string"}, {"minLength": 2, "type": "string"}]},
        ),
    ],
    ids=str,
)
def test_a_field_takes_other_labels(annotation: Any, options: Any, value: Any, wrong: Any, schema: Any) -> None:
    signature = with_labels(sort_of(annotation, **options), {"team": label_set(LABELS, {})})
    found = signature.output_model.model_json_schema()["properties"]["team"]
    assert {name: part for name, part in found.items() if name != "title"} == schema
    assert signature.model_validate({"text": "t", "team": value}).team == value  # type: ignore[attr-defined]
    plain = value.value if isinstance(value, Enum) else value
    assert signature.model_validate({"text": "t", "team": plain}).team == value  # type: ignore[attr-defined]
    with pytest.raises(ValidationError):
        signature.model_validate({"text": "t", "team": wrong})


def test_the_rest_of_the_field_stays() -> None:
    signature = sort_of(str, description="who", alias="Équipe", labels={"billing": "money", "x": "gone"})
    made = with_labels(signature, {"team": label_set(["billing"], {"billing": "money"})})
    info = made.output_fields["team"]
    assert (info.description, info.alias, dict(label_descriptions(info))) == ("who", "Équipe", {"billing": "money"})
    assert issubclass(made, signature)
    assert isinstance(made.model_validate({"text": "t", "team": "billing"}), signature)


def test_validators_stay_and_a_reader_of_labels_gets_the_new_ones() -> None:
    class Reader:
        def __init__(self, labels: Any) -> None:
            self.labels = labels

        def __call__(self, value: str) -> str:
            return f"{value} of {len(self.labels)}"

        def for_labels(self, labels: Any) -> Any:
            return Reader(labels)

    signature = sort_of(Annotated[list[Literal["x"]], AfterValidator(Reader("xyz"))])
    made = with_labels(signature, {"team": label_set(LABELS, {})})
    assert made.model_validate({"text": "t", "team": ["billing"]}).team == "['billing'] of 2"  # type: ignore[attr-defined]


@pytest.mark.parametrize("annotation", [int, dict[str, str], list[int], float | None, list])
def test_a_field_without_a_place_for_labels(annotation: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"Sort\.team can't take labels"):
        with_labels(sort_of(annotation), {"team": label_set(LABELS, {})})


def test_an_enum_has_no_labels_but_its_values() -> None:
    with pytest.raises(ConfigurationError, match="'moon' is not a valid Team: the labels of an Enum are its values"):
        with_labels(sort_of(Team), {"team": label_set(["moon"], {})})


@pytest.mark.parametrize(
    ("given", "labels"),
    [
        (["a", "b"], (("a", "known"), ("b", ""))),
        (("b", "a"), (("b", ""), ("a", "known"))),
        ({"a": "own", "b": None}, (("a", "own"), ("b", ""))),
        (np.array(["a"]), (("a", "known"),)),
        (np.array([0, 1]), ((0, ""), (1, ""))),
        ([True, False], ((True, ""), (False, ""))),
        ([Team.SALES], (("sales", ""),)),
        ('["a"]', (("a", "known"),)),
        ('{"a": "own"}', (("a", "own"),)),
        ((label for label in "ab"), (("a", "known"), ("b", ""))),
    ],
    ids=str,
)
def test_a_set_of_labels(given: Any, labels: Any) -> None:
    found = label_set(given, {"a": "known"})
    assert found == labels
    assert [type(label) for label, _ in found] == [type(label) for label, _ in labels]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([], "the list of labels is empty"),
        ("", "not ''"),
        ("a, b", "not 'a, b'"),
        (None, "not None"),
        (3, "not 3"),
        ([""], "a label is a text"),
        ([None], "not None"),
        ([["a"]], r"not \['a'\]"),
        ([1, True], "two labels are equal"),
        (["a", "b", "a"], "the label 'a' appears twice"),
        ('["a", "a"]', "the label 'a' appears twice"),
        ([1, 1], "the label 1 appears twice"),
        ([0.5], "a whole number or a boolean, not 0.5"),
    ],
)
def test_what_is_not_a_set_of_labels(given: Any, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        label_set(given, {})


def test_the_field_that_a_name_stands_for() -> None:
    class Two(Signature):
        """Sort."""

        text: str = InputField()
        team: Literal["a"] = OutputField()
        mood: Literal["b"] = OutputField()
        why: str = OutputField()

    both = {"team": ["a"], "mood": ["b"]}
    assert labelled_field(Two, "why", both) == "why"
    assert labelled_field(Two, "text", both) is None
    assert labelled_field(Two, "classes", {"mood": ["b"]}) == "mood"
    assert labelled_field(sort_of(str), "classes", {}) == "team"
    with pytest.raises(ConfigurationError, match="name one of team, mood instead of 'classes'"):
        labelled_field(Two, "classes", both)


@pytest.mark.parametrize(
    ("value", "fits"),
    [("a", True), ("b", False), (["a"], True), (["a", "b"], False), (None, True), (Team.SALES, False), ((), True)],
)
def test_examples_that_fit_the_labels(value: Any, fits: bool) -> None:
    sets = {"team": label_set(["a"], {})}
    assert fits_labels({"text": "t", "team": value}, sets) is fits
    record = sort_of(Annotated[Any, Field()])(text="t", team=value)
    assert fits_labels(record, sets) is fits
