from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmtasker.repair.labels import LabelError, Labels

TEAMS = Labels(["billing", "delivery", "Réclamation", "card payment", "card", "other"])


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("billing", "billing"),
        ("BILLING", "billing"),
        (' "Billing." ', "billing"),
        ("**Billing**", "billing"),
        ("reclamation", "Réclamation"),
        ("RÉCLAMATION !", "Réclamation"),
        ("card_payment", "card payment"),
        ("Card-Payment", "card payment"),
        ("2. billing", "billing"),
        ("b) delivery", "delivery"),
        ("- delivery", "delivery"),
        ("Other.", "other"),
        ("Team: other", "other"),
        ("Équipe : « other »", "other"),
        ("The team is billing.", "billing"),
        ("This is about a card payment, I would say.", "card payment"),
        ("La catégorie est delivery, car le colis manque.", "delivery"),
        ("C’est une réclamation.", "Réclamation"),
        ("It does not mention a product. It is about delivery.", "delivery"),
        ("Ce n'est pas clair, mais je dirais delivery.", "delivery"),
        ("Not only is this billing, it is urgent.", "billing"),
        ("Sans doute delivery.", "delivery"),
        ("**delivery**\nThe parcel is late.", "delivery"),
        ('It is "delivery" or "transport".', "delivery"),
        ('It falls under "delivery/transport".', "delivery"),
        ("It is about delivery or transport.", "delivery"),
        ("It is about transport or delivery.", "delivery"),
    ],
)
def test_the_label_that_is_meant(text: str, label: str) -> None:
    assert TEAMS.find(text) == label


@pytest.mark.parametrize(
    "text",
    [
        "",
        "shipping",  # no translation, no likeness
        "livraison",
        "bill",
        "billings",
        "deliveri",
        "non-billing",
        "billing-related",
        "It is not billing.",
        "This does not appear to be about delivery.",
        "It isn't delivery",
        "Ce n’est pas billing.",
        "Cela ne relève ni du prix ni de delivery.",
        "Billing ne convient pas.",
        "Delivery is not what they ask for.",
        "Anything rather than billing.",
        "Autre chose plutôt que delivery.",
        "Au lieu de delivery, un remboursement.",
        "I can't say whether it is billing.",
        "billing?",
        "Is it billing?",
        "billing or delivery",
        "billing, not delivery",
        "billing et delivery",
        "billing/delivery",
        "It is about delivery/transport.",
        "None of the given categories fits. It mentions a card.",
        "Aucune des catégories ne convient, peut-être delivery.",
        "It is about some other thing.",
        "on the other hand",
        "billing " + "x" * 1_000,
    ],
)
def test_no_label_or_more_than_one_is_an_error(text: str) -> None:
    with pytest.raises(LabelError):
        TEAMS.find(text)


@pytest.mark.parametrize(
    ("labels", "text", "label"),
    [
        (["Cat", "cat"], "cat", "cat"),
        (["C", "C++", "C#"], "c++", "C++"),
        ([1, 2, 3], "2", 2),
        ([1, 2, 3], "Rating: 3", 3),
        ([True, False], "True.", True),
        ([True, False], "Answer: **false**", False),
        (["yes", "no"], "No, it is late.", "no"),
        (["A", "B"], "(B)", "B"),
        (["A", "B"], "Answer: B", "B"),
        (["card lost?", "card"], "Card lost", "card lost?"),
        ([None, "a"], "A", "a"),
    ],
)
def test_unusual_labels(labels: list[Any], text: str, label: Any) -> None:
    found = Labels(labels).find(text)
    assert found == label
    assert type(found) is type(label)


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("It is about technology.", "science/technology"),
        ("This is science, and technology too.", "science/technology"),
        ("science/technology, that is: technology", "science/technology"),
        ("Il s'agit de sport.", "sport"),
    ],
)
def test_a_part_of_a_label_with_a_slash_names_it(text: str, label: str) -> None:
    assert Labels(["science/technology", "arts/culture", "sport"]).find(text) == label


@pytest.mark.parametrize(
    "text", ["It is about technology and sport.", "It is not technology.", "culture of technology"]
)
def test_a_part_of_a_label_does_not_outdo_another_label(text: str) -> None:
    with pytest.raises(LabelError):
        Labels(["science/technology", "arts/culture", "sport"]).find(text)


def test_a_part_of_two_labels_names_neither() -> None:
    with pytest.raises(LabelError):
        Labels(["card/payment", "card/delivery"]).find("It is about a card.")


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        (["Cat", "cat"], "CAT"),
        (["a b", "a_b"], "A-B"),
        ([1, 2, 3], "There are 3 reasons."),
        ([1, 2, 3], "3. because of that"),
        (["1", "2"], "-1"),
        (["yes", "no"], "There is no way to tell."),
        ([True, False], "False. It does not hold true."),
        (["A", "B"], "A customer is angry."),
        ([], "x"),
        ([""], "x"),
    ],
)
def test_unusual_errors(labels: list[Any], text: str) -> None:
    with pytest.raises(LabelError):
        Labels(labels).find(text)


def test_only_the_label_itself_is_exact() -> None:
    assert TEAMS.find_exact("- Billing!") == "billing"
    with pytest.raises(LabelError):
        TEAMS.find_exact("it is billing")


@given(st.lists(st.text(min_size=1), min_size=1, max_size=8, unique=True), st.data())
def test_each_label_is_itself(labels: list[str], data: st.DataObject) -> None:
    label = data.draw(st.sampled_from(labels))
    assert Labels(labels).find(label) == label


@given(st.lists(st.text(min_size=1, max_size=6), min_size=1, max_size=6, unique=True), st.text(max_size=60))
def test_a_found_label_is_always_named(labels: list[str], text: str) -> None:
    known = Labels(labels)
    try:
        found = known.find(text)
    except LabelError:
        return
    # Every level folds the same on both sides, so the label's letters must stand in the text.
    letters = [char for char in found.casefold() if char.isascii() and char.isalnum()]
    assert all(char in text.casefold() or not text.isascii() for char in letters)


def test_a_thousand_labels() -> None:
    many = Labels([f"intent {number:04}" for number in range(1000)])
    assert many.find("I think it is Intent_0421.") == "intent 0421"
