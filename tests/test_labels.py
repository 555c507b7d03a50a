from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmtasker.parser.labels import LabelError, Labels

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
        (
            "It fits none of the categories. It is about a truck, which falls under the category of delivery.",
            "delivery",
        ),
        ('It falls under "delivery/transport".', "delivery"),
        ("It is about delivery or transport.", "delivery"),
        ("It is about transport or delivery.", "delivery"),
        ("Sure, here you go: billing", "billing"),
        ("Final answer: **billing**", "billing"),
        ("I would classify this ticket as billing.", "billing"),
        ("Billing is the right category.", "billing"),
        ("Billing, because the invoice did not come.", "billing"),
        ("They got the wrong invoice, so it is about billing.", "billing"),
        ("Reason: charged twice\nLabel: billing", "billing"),
        ("Charged twice -> billing", "billing"),
        ("Plainly **billing**", "billing"),
        ("They did not pay twice.\n\nbilling", "billing"),
        ("Cela relève de billing.", "billing"),
        ("Le message porte sur billing, car la facture n'est pas venue.", "billing"),
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
    "text",
    [
        "Anything but billing",
        "Far from billing",
        "billing: no",
        "Wrong: billing",
        "Least likely: billing",
        "billing is unlikely",
        "Avoid billing",
        "loin d'être billing",
        "❌ billing",
        "everything apart from billing",
        "The customer mentions billing, however this isn't it.",
        "I am not sure. Maybe billing.",
        "Maybe billing",
        "Perhaps it is billing.",
        "Peut-être billing.",
        "C'est peut-être billing.",
        "Probablement pas billing.",
        "Tout sauf billing.",
        "À part billing, rien.",
        "Il ne s'agit pas de billing.",
        "Éventuellement billing.",
        "Il s'agit éventuellement de billing.",
        "It might be billing.",
        "It could possibly be about billing.",
        "billing, maybe",
        "Billing, peut-être.",
        "billing (not sure)",
        "billing ❌",
        "billing - no",
        "billing: 0 %",
        "billing: low",
        "billing: non",
        "Second choice: billing",
        "Label: not billing",
        "Label: anything but billing",
        "Wrong answer: billing",
        "The least likely label: billing",
        "Not this category: billing",
        "Category to avoid: billing",
        "It is far from billing.",
        "It is everything apart from billing.",
        "C'est tout sauf billing.",
        "C'est loin d'être billing.",
        'The customer says "billing" twice.',
        "Le client parle de facture, billing n'est qu'un mot.",
        "I don't know. It is about billing?",
        "Je ne suis pas sûr. Billing.",
        "Je ne sais pas : billing.",
        "It is about billing? No.",
        "I doubt it is billing.",
        "I doubt that this is about billing.",
        "It is hardly billing",
        "billing was excluded.",
        "billing can be ruled out.",
        "Billing would be wrong.",
        "Billing is the wrong category.",
        "Billing est la mauvaise catégorie.",
        "The worst label is billing.",
        "The last thing it is about is billing.",
        "It used to be billing.",
        "It seems to be about billing, but it isn't.",
        "It is about billing, however that is wrong.",
        "It looks like billing but it is something else.",
        "On pourrait penser à billing.",
        "Si c'est billing, remboursez.",
        "Label : pas billing",
        "Unlikely to be billing",
        "Not billing",
        "Ignore billing",
        "Exclude: billing",
        "~~billing~~",
        "**billing** is ruled out.",
        "I would not say billing.",
        "You could say it is billing.",
        "Some people say it is billing.",
        "It is almost billing.",
        "Anything except billing",
        "less billing",
        "0% billing",
        "Il est exclu que ce soit billing.",
        "Il est improbable que ce soit billing.",
        "Cela m'étonnerait que ce soit billing.",
        "billing? no",
        "Billing. No.",
        "Billing. Or not.",
        "Nothing about billing.",
        "Little about billing.",
        "It is too early to say it is billing.",
        "It isn't about billing.",
        "Nothing here is about billing.",
        "N'est pas concerné : billing",
    ],
)
def test_a_label_that_is_doubted_denied_or_only_mentioned_is_an_error(text: str) -> None:
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


@pytest.mark.parametrize("words", ["is category of ", "is the billing ", "so, ", "about ", "is a/", "x billing, not "])
def test_hostile_prose_is_judged_soon(words: str) -> None:
    text = (words * 1_000)[:980] + " @ delivery"
    started = time.process_time()
    with pytest.raises(LabelError):
        TEAMS.find(text)
    assert time.process_time() - started < 0.5
