from __future__ import annotations

import contextlib
from typing import Any

import pytest
from effort import SOON
from hypothesis import given
from hypothesis import strategies as st

from llmtasker.parser.answer_schema import AnswerSchema
from llmtasker.parser.coerce import CoercionError, coerce
from llmtasker.parser.labels import MAX_PROSE, LabelError, Labels, scalar_text

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
        ("Sans doute delivery.", "delivery"),
        ("**delivery**\nThe parcel is late.", "delivery"),
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
        ("That is for **Billing**.", "billing"),
        ("This one goes to the billing team.", "billing"),
        ("C’est pour billing.", "billing"),
        ("Das ist für billing.", "billing"),
        ("Sí, es billing.", "billing"),
        ("Sì, è billing.", "billing"),
        ("It isn´t a parcel; so it is billing.", "billing"),
        ("Not a parcel; however, it is about billing.", "billing"),
        ("No parcel is named, therefore billing.", "billing"),
        ("Es geht nicht um ein Paket, sondern um billing.", "billing"),
        ("billing (confidence 0.9)", "billing"),
        ("billing: 9/10", "billing"),
        ("The billing address is missing, so it is about billing.", "billing"),
        ("The billing category is the best fit.", "billing"),
        ("This is a billing issue.", "billing"),
        ("None of the parcels came. It is about delivery.", "delivery"),
        ("Le message porte sur billing, car la facture n'est pas venue.", "billing"),
    ],
)
def test_the_label_that_is_meant(text: str, label: str) -> None:
    assert TEAMS.find(text) == label


@pytest.mark.parametrize(
    "text",
    [
        "",
        "shipping",  # neither translations nor similar words
        "livraison",
        "bill",
        "billings",
        "deliveri",
        "non-billing",
        "billing-related",
        "It is not billing.",
        "That is not for **Billing**.",
        "It is for billing customers.",
        "The word **billing** appears in it.",
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
        'It falls under "delivery/transport".',
        'It is "delivery" or "transport".',
        "It is about delivery or transport.",
        "It is about transport or delivery.",
        "transport / delivery",
        "Soit delivery, soit autre chose ? delivery ou transport",
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
        "The problem is not so billing.",
        "It is not thus billing.",
        "It does not, however, concern billing.",
        "Cela n'est donc pas billing.",
        "Cela ne concerne pas, donc, billing.",
        "Nicht aber billing",
        "Das ist nicht jedoch billing",
        "It does not, it seems, concern billing.",
        "It isn´t billing.",
        "It isn`t billing.",
        "Ce nʼest guère billing.",
        "Nu este billing.",
        "Δεν είναι billing.",
        "To nije billing.",
        "To nesouvisí s billing.",
        "این billing نیست",
        "Das hat nix mit billing zu tun.",
        "Steer clear of billing.",
        "It mentions billing only in passing.",
        "Billing would be a stretch.",
        "It is billing. Refunds or the billing.",
        "It is about billing (!billing)",
        "So !billing",
        "billing ☐",
        "Team: billing [ ]",
        "1. ☐ billing",
        "P(billing)=0.1",
        "billing: 2/10",
        "billing (confidence 0.1)",
        "billing: 12 %",
        "!billing",
        "~billing",
        "billing: off",
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
        "Far from being about billing.",
        "I disagree that this is about billing.",
        "It stopped being about billing.",
        "The opposite of what this is about is billing.",
        "The alternative is billing.",
        "The runner-up is billing.",
        "The message refers to billing in passing.",
        "Allegedly it is about billing.",
        "The user wants me to say that it is about billing.",
        "It would be billing in a different context.",
        "Le client pense que c'est billing.",
        "On croirait que c'est billing.",
        "Der Kunde meint, es ist billing.",
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
        "Billing my foot",
        "Billing, my eye!",
        "Billing, mon œil !",
        "the billing address is missing",
        "The customer's billing address has changed.",
        "My delivery driver was rude.",
        "L'adresse de billing est fausse depuis hier.",
        "Son adresse de billing a changé.",
        "Final answer: none. billing is close",
        "Label: n/a. The text is about billing.",
        "The answer is unknown. It mentions billing.",
        "No label. It is near billing.",
        "None. It is near billing.",
        "Réponse : aucune. C'est proche de billing.",
        "Antwort: keine. Es geht um billing.",
    ],
)
def test_a_label_that_is_doubted_denied_or_only_mentioned_is_an_error(text: str) -> None:
    with pytest.raises(LabelError):
        TEAMS.find(text)


@pytest.mark.parametrize(
    "text",
    [
        "It could be billing.",
        "The billing department is closed.",
        "The billing team has written to them.",
        "Le service de billing a rappelé hier.",
        "They mention a billing mistake",
        "It contains the word billing",
        "It discusses a billing address.",
        "Text: billing",
        "Customer: it is about billing.",
        "The allowed labels are: billing",
        "For example, 'charged twice' -> billing",
        "e.g. billing",
        "Answer: No. billing",
        "No. billing",
        "billing. Actually no.",
        "It is billing. I take that back.",
        "They told us that it is billing.",
        "According to the customer, it is billing.",
        "It was formerly labelled as billing.",
        "One of the options is billing.",
        "It is about billing, though they ask for something else.",
        "This may be about billing",
        "Partly billing",
        "Lack of billing",
        "billing fails to describe it",
        "billing would be a mistake",
        "The customer denies that it is billing",
        "The user claims this is a billing issue",
        "it isnt about billing",
        "Unknown category billing",
        "billing: 0",
        "billing: 0.02",
        "billing (?)",
        "None of these. billing is closest",
        "I cannot classify this; billing is a category.",
        "If the invoice is wrong, the answer is billing",
        "Facturé par erreur, hors billing",
        "Das ist nicht billing",
        "Es geht nicht um billing",
        "Keine billing",
        "Alles außer billing",
        "Vielleicht billing",
        "Es könnte billing sein",
        "Ich bin nicht sicher: billing",
        "Wenn der Betrag falsch ist, billing",
        "billing oder etwas anderes",
        "Nein, billing",
        "No es billing",
        "Tal vez billing",
        "Forse billing",
        "Não é billing",
        "Het is geen billing",
        "Inte billing",
        "Ikke billing",
        "To nie billing",
        "Není to billing",
        "Bu billing değil",
        "Không phải billing",
        "Это не billing",
        "不是 billing",
        "billing ではない",
        "billing 아님",
        "ليس billing",
        "[ ] billing",
        "☐ billing",
        "[ ] billing [x] delivery",
        "card payments",  # another word, and the beginning of a longer label
        "It is about a card that was lost before the payment.",
    ],
)
def test_a_denial_in_any_language_or_form_is_an_error(text: str) -> None:
    with pytest.raises(LabelError):
        TEAMS.find(text)


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("- [ ] billing\n- [x] delivery\n- [ ] other", "delivery"),
        ("☐ billing\n☑ delivery", "delivery"),
        ("[x] billing", "billing"),
        ("Die Kategorie ist billing.", "billing"),
        ("Es geht um billing, weil nichts geliefert wurde", "billing"),
        ("This could be categorized under billing", "billing"),
    ],
)
def test_ticked_boxes_and_other_languages(text: str, label: str) -> None:
    assert TEAMS.find(text) == label


@pytest.mark.parametrize(
    "text",
    [
        "Hau ez da billing.",
        "Hau ez da **billing**.",
        'Hii siyo "billing".',
        "Kjo nuk është billing.",
        "Þetta snýst ekki um billing.",
        "Níl an teachtaireacht faoi billing.",
        "Dyw hwn ddim yn billing.",
        "Il-messaġġ mhux dwar billing.",
        "Sa a se pa billing.",
        "Es nedomāju, ka tas ir billing.",
        "Tai nėra billing.",
        "Text se netýká billing.",
        "Wątpię, czy to billing.",
        "Bu mesaj billing konusunu içermiyor.",
        "Bu bir billing değildir.",
        "Bul billing emes.",
        "En usko, että kyse on billing.",
        "Mesajul n-are legătură cu billing.",
        "Ez sem billing.",
        "Ito ay hindi billing.",
        "Yeh message billing ke baare mein nahi hai.",
        "Das isch kei billing.",
        "Chẳng phải billing.",
        "Iki dudu billing.",
        "এটি billing নয়",
        "இது billing அல்ல",
        "ይህ billing አይደለም",
        "არ არის billing",
        "Энэ billing биш",
        "هذا مو billing",
        "یہ billing نہیں",
        "これはbillingではなかった",
        "这怎么会是billing呢",
        "Вряд ли это billing.",
        "Ik betwijfel of het billing is.",
        "Dubito che sia billing.",
        "billing: ez",
        "(billing) ez da",
        "billing. Hobeto: delivery da.",
        "Category ≠ billing",
        "One could argue for billing",
        "It's a toss-up: billing",
        "billing 0.2",
        "I was told to answer billing but that is false",
        "No label applies; billing is the closest",
        "≠ billing",
        "¬billing",
        "Das ist net billing.",
        "Das is nit billing.",
        "Das ist mitnichten billing.",
        "Das ist keineswegs billing.",
        "Das ist alles andere als billing.",
        "This is scarcely billing.",
        "It is any but billing.",
        "This rarely concerns billing.",
        "Het is allesbehalve billing.",
        "Questo è tutt'altro che billing.",
        "Si tratta tutt’al più di billing.",
        "Il s'agit à peine de billing.",
        "Esto está lejos de ser billing.",
        "Está longe de ser billing.",
        "これはbillingとは異なります",
        "这是billing的反面",
        "这是假的billing",
        "이것은 billing과 다릅니다",
        "Hau ez da billing, issue hau",
        "Hau ez da billing, the issue hau",
        "billing, ez da",
        "Hau ez da billing (customer)",
        "Kategorie hau ez da best billing",
    ],
)
def test_a_denial_in_a_language_that_is_not_listed_is_an_error(text: str) -> None:
    with pytest.raises(LabelError):
        TEAMS.find(text)


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("Kategória: billing", "billing"),
        ("Category — billing", "billing"),
        ("The label is « billing ».", "billing"),
        ("正解は「billing」です。", "billing"),
        ("Il messaggio riguarda billing.", "billing"),
        ("La categoria è billing.", "billing"),
        ("Dit gaat over billing.", "billing"),
        ("Diese Nachricht gehört zur Kategorie billing.", "billing"),
        ("هذه الرسالة عن billing", "billing"),
        ("Ce message peut être classé comme billing.", "billing"),
        ("Route it to billing.", "billing"),
        ("Danh mục: « billing »", "billing"),
        ("หมวดหมู่: billing", "billing"),
        ("类别：billing", "billing"),
        ("**billing**\n\nHau fakturari buruzkoa da.", "billing"),
        ("billing.\n\nAz ügyfél kétszer fizetett.", "billing"),
        ("Sans aucun doute billing", "billing"),
        ("The message about SEM campaigns concerns billing.", "billing"),
        ("This is about the net amount, which concerns billing.", "billing"),
        ("The question about Hindi belongs to billing.", "billing"),
        ("billing issue", "billing"),
        ("Billing, confidence 0.9", "billing"),
        ("Это billing.", "billing"),
        ("이 메시지는 billing 입니다.", "billing"),
    ],
)
def test_a_label_that_stands_apart_counts_in_every_language(text: str, label: str) -> None:
    assert TEAMS.find(text) == label


def test_an_option_that_is_quoted_with_its_text_counts_in_every_language() -> None:
    assert CHOICES.find("B) réz") == "B"
    with pytest.raises(LabelError):
        CHOICES.find("Hau ez da (B).")


@pytest.mark.parametrize(
    "text",
    [
        "Old label: billing",
        "The label is partly billing",
        "The label is usually billing",
        "The label is originally billing",
        "The label is close to billing",
        "It is only loosely related to billing",
        "It is unrelated to billing",
        "It is as billing",
        "It could also be classified as billing",
        "billing is a label",
        "billing is the correct label only for invoices",
        "I labelled this as billing",
        "Q: billing",
        "Team A: billing",
        "billing (by default)",
        "billing (second choice)",
        "The old label is billing.",
        "Customer's label: billing",
        "Backup label: billing",
        "Discarded: billing",
        "Keyword: billing",
        "Subject: billing",
        "Other than: billing",
        "Mislabelled as: billing",
        "Label in the example: billing",
        "Please choose billing.",
        "You should choose billing",
        "Choose billing",
        "To choose billing, press 1",
        "What about billing",
        "The agent tagged it as billing.",
        "The customer believes it is billing.",
        "The default label is billing.",
        "Another label is billing.",
        "When the invoice is wrong, the label is billing.",
        "For invoices, the label is billing.",
        "In other cases the answer is billing.",
        "Questions about invoices belong to billing.",
        "The label is billing only if the invoice is wrong.",
        "It was about billing.",
        "This is billing as usual.",
        "The billing section",
        "billing. Hmm, maybe not.",
        "billing (old)",
        "billing (previous label)",
        "billing (crossed out)",
        "billing (if charged twice)",
        "( ) billing",
        "-billing",
        "🚫 billing",
        "Catégorie précédente : billing",
        "Étiquette rejetée : billing",
        "Par défaut : billing",
        "Alte Kategorie: billing",
        "Bisher: billing",
        "Bitte wählen Sie billing",
        "Etiqueta anterior: billing",
        "It fits none of the categories. It is about a truck, which falls under the category of delivery.",
    ],
)
def test_a_label_that_another_statement_holds_is_an_error(text: str) -> None:
    with pytest.raises(LabelError):
        TEAMS.find(text)


@pytest.mark.parametrize(
    "text",
    [
        "billing (charged twice)",
        "**billing** (double charge on the invoice)",
        "billing (doppelt bezahlt)",
        "billing (payé deux fois)",
        "billing, 95 % sure",
        "billing: yes",
        "billing (high confidence)",
        "💳 billing",
        "billing 💳",
        "**Final Answer:** `billing`",
        "The predicted label is billing.",
        "Selected category: billing",
        "The best label for this message is billing.",
        "The most appropriate category is billing.",
        "After reading the message, the answer is billing.",
        "Given the text, I would classify it as billing.",
        "Thus, billing.",
        "Voici ma réponse : billing",
        "La bonne catégorie est billing.",
        "Il s’agit d’une question de billing.",
        "| team |\n|---|\n| billing |",
        "Everyone expects a parcel, but it is billing.",
        "I would say: billing",
        "It is closely related to billing",
        "billing is the correct label.",
    ],
)
def test_plain_statements_with_a_reason_a_frame_or_an_emoji(text: str) -> None:
    assert TEAMS.find(text) == "billing"


@pytest.mark.parametrize(
    ("text", "label"), [("4/5", 4), ("Rating: 4 out of 5", 4), ("4 sur 5", 4), ("4/10", None), ("4 of 10", None)]
)
def test_a_number_of_a_scale(text: str, label: int | None) -> None:
    if label is None:
        with pytest.raises(LabelError):
            STARS.find(text)
    else:
        assert STARS.find(text) == label


@pytest.mark.parametrize(
    ("field", "text", "label"),
    [
        ("urgency", "The urgency is high.", "high"),
        ("urgency_level", "Urgency level: high", "high"),
        ("urgency", "Old urgency: high", None),
        ("", "The urgency is high.", None),
    ],
)
def test_the_name_of_the_field_heads_its_label(field: str, text: str, label: str | None) -> None:
    labels = Labels(["high", "low"])
    if label is None:
        with pytest.raises(LabelError):
            labels.find(text, field)
    else:
        assert labels.find(text, field) == label


LANGUAGES = ["C", "C++", "C#", ".NET", "Go"]
RANGES = ["<5", ">5", "5"]
WEATHER = ["🔥 hot", "❄️ cold"]


@pytest.mark.parametrize(
    ("labels", "text", "label"),
    [
        (LANGUAGES, "`C#`", "C#"),
        (LANGUAGES, "C.", "C"),
        (LANGUAGES, "(C)", "C"),
        (LANGUAGES, "Answer: C", "C"),
        (LANGUAGES, "**C++**", "C++"),
        (LANGUAGES, "net", ".NET"),
        (LANGUAGES, "I would go with C", "C"),
        (RANGES, "Answer: <5", "<5"),
        (RANGES, "**>5**", ">5"),
        (RANGES, "&lt;5", "<5"),
        (RANGES, "≥5", None),
        (RANGES, "> 5", None),
        (["-1", "1"], "−1", "-1"),
        (["+", "-", "0"], "- 0", None),
        (WEATHER, "hot", "🔥 hot"),
        (WEATHER, "The answer is ❄ cold.", "❄️ cold"),
        (["👍", "👎"], "👍🏽", None),
        (["👍", "👎"], "👍🏽 👎", None),
        (WEATHER, "❄️ hot", None),
        (WEATHER, "hot 🔥", "🔥 hot"),
        (WEATHER, "The answer is hot ❄️.", None),
        (["billing?", "billing"], "billing?", "billing?"),
    ],
)
def test_labels_that_differ_in_their_signs(labels: list[str], text: str, label: str | None) -> None:
    if label is None:
        with pytest.raises(LabelError):
            Labels(labels).find(text)
        return
    assert Labels(labels).find(text) == label


@pytest.mark.parametrize(
    ("labels", "text", "label"),
    [
        (["Cat", "cat"], "cat", "cat"),
        (["C", "C++", "C#"], "c++", "C++"),
        ([1, 2, 3], "2", 2),
        ([1, 2, 3], "Rating: 3", 3),
        ([True, False], "True.", True),
        (["none", "mild"], "Final answer: none. It is not severe.", "none"),
        (["none", "mild"], "The answer is none.", "none"),
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
        ([1, 2, 3], "<3"),
        ([1, 2, 3], "≥ 3"),
        (["yes", "no"], "No. Yes."),
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
    # Every level folds both sides in the same way, so the text must contain the label's letters.
    letters = [char for char in found.casefold() if char.isascii() and char.isalnum()]
    assert all(char in text.casefold() or not text.isascii() for char in letters)


def test_a_thousand_labels() -> None:
    many = Labels([f"intent {number:04}" for number in range(1000)])
    assert many.find("I think it is Intent_0421.") == "intent 0421"


@pytest.mark.parametrize("words", ["is category of ", "is the billing ", "so, ", "about ", "is a/", "x billing, not "])
@SOON
def test_hostile_prose_is_judged_soon(words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a text four times as long as one that is read: the cost grows with its square, not with more."""
    monkeypatch.setattr("llmtasker.parser.labels.MAX_PROSE", 4 * MAX_PROSE)
    text = (words * MAX_PROSE)[: 4 * MAX_PROSE - 20] + " @ delivery"
    with contextlib.suppress(LabelError):
        TEAMS.find(text)


CHOICES = Labels(["A", "B", "C", "D", "E"])


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("E", "E"),
        ("e.", "E"),
        ("(D)", "D"),
        ("**C**", "C"),
        ("B) a loan", "B"),
        ("B. A loan is what they want.", "B"),
        ("B: a loan", "B"),
        ("It is a bank. The answer is (E).", "E"),
        ("A loan is a debt, so the answer is **C**.", "C"),
        ("Answer: D", "D"),
        ("Answer: D) a bank", "D"),
        ("The correct answer is B because a loan costs money.", "B"),
        ("The correct choice is option C.", "C"),
        ("The best answer would be: (C) a loan", "C"),
        ("Option B is correct.", "B"),
        ("Option B", "B"),
        ("Réponse C.", "C"),
        ("Letter D, because a loan costs money.", "D"),
        ("**Choice (E)**", "E"),
        ("Option A, they would say. The answer is B.", "B"),
        ("(B) is the right answer.", "B"),
        ("I would choose D.", "D"),
        ("$\\boxed{C}$", "C"),
        ("\\boxed{\\text{C}}", "C"),
        ("Let me see.\n(A) is not a loan.\n(B) is a loan, but too small.\nAnswer: (C)", "C"),
        ("It isn't a gift, so the answer is D.", "D"),
        ("As it does not cost anything, the answer is D.", "D"),
        ("A gift is not a loan.\n\n**Answer: B**", "B"),
        ("La réponse est B.", "B"),
        ("La bonne réponse est la lettre C, car c'est un prêt.", "C"),
        ("Réponse : D", "D"),
        ("#### B", "B"),
        ("Die Antwort ist B.", "B"),
        ("Ich wähle C.", "C"),
        ("La respuesta es B.", "B"),
        ("答案是B", "B"),
        ("答案：B。", "B"),
        ("The answer must be B", "B"),
        ("B ✅", "B"),
        ("Everyone thinks the answer is B, but it is C", "C"),
    ],
)
def test_labels_of_one_letter_count_where_they_are_framed(text: str, label: str) -> None:
    assert CHOICES.find(text) == label


@pytest.mark.parametrize(
    "text",
    [
        "It is a bank.",
        "Option A and B",
        "Option A is too small",
        "A loan is a debt.",
        "a",  # but for the label itself
        "Plan B failed, and vitamin C helps.",
        "The answer is a loan.",
        "Answer: not B",
        "The answer is not B.",
        "The answer is (A) or (B).",
        "The answer is A/B.",
        "The answer is A and B.",
        "The answer is A. No, the answer is B.",
        "(A) and (B) are both right.",
        "Either (C) or (D).",
        "The wrong answer is B.",
        "I'm not sure. The answer is B?",
        "Option B is the wrong answer.",
        "A, B",
        "A.\nB.",
        "A = B",
        "B -> C",
        "A: 0.2, B: 0.8",
        "C'est une erreur",
        "E.g. copper",
        "°C",
        "The second best answer is B",
        "If it is a bank, the answer is B",
        "B ❌",
    ],
)
def test_a_letter_that_is_not_framed_or_one_of_several_is_an_error(text: str) -> None:
    if text == "a":
        assert CHOICES.find(text) == "A"
        return
    with pytest.raises(LabelError):
        CHOICES.find(text)


@pytest.mark.parametrize(
    ("labels", "value", "label"),
    [
        (["1", "2", "4"], 4, "4"),
        (["1", "2", "4"], 4.0, "4"),
        ([1, 2, 4], "4", 4),
        ([0.5, 1], "0.5", 0.5),
        (["true", "false"], True, "true"),
        (["True", "False"], False, "False"),
        (["null", "zero"], None, "null"),
        ([True, False], "Oui", True),
        ([True, False], "Non.", False),
        ([True, False], "vrai", True),
        ([True, False], "The statement is false.", False),
        ([True, False], "True. A loan is a debt.", True),
        ([True, False], "Yes, it is a loan.", True),
    ],
)
def test_a_scalar_is_matched_to_labels_by_its_text(labels: list[Any], value: Any, label: Any) -> None:
    text = scalar_text(value)
    assert text is not None
    found = Labels(labels).find(text)
    assert (found, type(found)) == (label, type(label))


@pytest.mark.parametrize(
    ("labels", "value"), [([1, 0], True), ([True, False], 1), (["1", "2"], True), (["none", "mild"], None)]
)
def test_a_scalar_of_another_type_does_not_equal_a_label(labels: list[Any], value: Any) -> None:
    known = Labels(labels)
    assert value not in known
    with pytest.raises(LabelError):
        known.find(scalar_text(value) or "")


def test_an_enum_is_found_by_the_name_of_its_member() -> None:
    labels = Labels(["facturation", "livraison"], {"BILLING": "facturation", "DELIVERY": "livraison"})
    assert labels.find("BILLING") == "facturation"
    assert labels.find("delivery") == "livraison"


CODES = Labels(["J45", "J45.0", "E11"])
SIZES = Labels(["<10", "10-49", "50+"])
SHARES = Labels(["25%", "50%", "100%"])
SECTIONS = Labels(["3.1", "3.10", "3.2"])
STARS, LEVELS, SPAM = Labels([1, 2, 3, 4, 5]), Labels(["A1", "A2", "B1", "B2"]), Labels([True, False])
SERVICES = Labels(["Facturation", "Service après-vente", "Autre"])
MOODS = Labels(["positive", "negative", "neutral"])
ANSWERS = Labels(["yes", "no"])


@pytest.mark.parametrize(
    ("labels", "text", "label"),
    [
        (TEAMS, "This should be handled by billing.", "billing"),
        (TEAMS, "Billing should handle this.", "billing"),
        (TEAMS, "They paid twice, so the billing team should handle this request.", "billing"),
        (TEAMS, "The request must be processed by billing.", "billing"),
        (TEAMS, "The billing team should handle this, because they paid twice.", "billing"),
        (TEAMS, "The message was handled by billing.", None),
        (TEAMS, "The message reads: the billing team must process this.", None),
        (TEAMS, "User: the billing team should handle this", None),
        (TEAMS, "User: I paid twice, so the billing team should handle this", None),
        (TEAMS, "The rule says: the billing team should handle this", None),
        (TEAMS, "By default, the billing team must handle this", None),
        (TEAMS, "The billing team should handle this, which is unlikely.", None),
        (TEAMS, "The billing team should handle this, or maybe not", None),
        (TEAMS, "The billing team should handle this, they say", None),
        (TEAMS, "Refunds will be handled by billing.", None),
        (TEAMS, "A refund should be handled by billing.", None),
        (TEAMS, "The user expresses billing", None),
        (TEAMS, "the answer is billing; I doubt it", None),
        (TEAMS, "An example would be billing", None),
        (TEAMS, "A common error would be billing", None),
        (TEAMS, "Opposite: billing", None),
        (TEAMS, "Before: billing", None),
        (TEAMS, "Billing should not handle this.", None),
        (TEAMS, "Billing should handle this better.", None),
        (TEAMS, "Someone other than billing should handle this.", None),
        (TEAMS, "A common error is billing", None),
        (TEAMS, "A common answer is billing.", None),
        (TEAMS, "It is about billing (just kidding)", None),
        (SERVICES, "Ce message doit être traité par la facturation.", "Facturation"),
        (SERVICES, "Il doit être transmis au service après‑vente.", "Service après-vente"),
        (SERVICES, "Il s'agit d'une demande concernant la facturation.", "Facturation"),
        (SERVICES, "Il ne doit pas être traité par la facturation.", None),
        (SERVICES, "Une erreur fréquente est la facturation.", None),
        (MOODS, "This is a negative review.", "negative"),
        (MOODS, "The text conveys positive sentiment.", "positive"),
        (MOODS, "Negative sentiment", "negative"),
        (MOODS, "It replies to a negative review.", None),
        (MOODS, "It is hardly a positive review.", None),
        (LEVELS, "It is a B2 text.", "B2"),
        (LEVELS, "B2 (upper intermediate)", "B2"),
        (LEVELS, "B1+", None),
        (LEVELS, "It is B1+.", None),
        (LEVELS, "The form B1 is asked for.", None),
        (SPAM, "No, this is not spam.", False),
        (SPAM, "Non, ce message n'est pas un spam.", False),
        (SPAM, "No, it is not false.", None),
        (SPAM, "Yes, it is not spam.", None),
        (ANSWERS, "No, the text isn't relevant.", "no"),
        (ANSWERS, "No, it is not wrong.", None),
        (ANSWERS, "No, this is not a complaint, because nothing is asked.", "no"),
        (ANSWERS, "No, I can't say.", None),
        (ANSWERS, "No, it is not known.", None),
        (ANSWERS, "No, it isn't clear from the text.", None),
        (ANSWERS, "No, the text doesn't say.", None),
        (ANSWERS, "No, it is not in the text.", None),
        (ANSWERS, "No, it's not spam.", "no"),
        (ANSWERS, "No, that is not yet decided.", None),
        (SPAM, "Non, ce n'est pas un spam.", False),
        (SPAM, "Non, ce n'est pas clair.", None),
        (Labels(["ja", "nein"]), "Nein, das ist kein Spam.", "nein"),
        (CODES, "J45 - asthma", "J45"),
        (CODES, "J45.0: allergic asthma", "J45.0"),
        (CODES, "The code is J45.0.", "J45.0"),
        (CODES, "The code is E11.", "E11"),
        (CODES, "J45.9", None),
        (CODES, "The code is E11.9.", None),
        (CODES, "E112", None),
        (CODES, "E11+", None),
        (CODES, "E11 - no", None),
        (SIZES, "The size is <10.", "<10"),
        (SIZES, "**<10**", "<10"),
        (SIZES, "10", None),
        (SIZES, "The size is 10.", None),
        (SIZES, "10.5", None),
        (SHARES, "50 %", "50%"),
        (SHARES, "The share is 50%.", "50%"),
        (SHARES, "-50%", None),
        (SHARES, "+50 %", None),
        (SHARES, "about 50%", None),
        (TEAMS, "the billing", "billing"),
        (TEAMS, "A billing issue", "billing"),
        (TEAMS, "I'm going with billing.", "billing"),
        (TEAMS, "A billing address", None),
        (TEAMS, "Imagine it is billing.", None),
        (TEAMS, "Had he paid, it would be billing.", None),
        (TEAMS, "Candidates: billing", None),
        (TEAMS, "It is billing, I'm joking", None),
        (SERVICES, "Il s'agit bien de la facturation.", "Facturation"),
        (SERVICES, "Catégories possibles : Facturation", None),
        (SERVICES, "Ancienne catégorie : Facturation", None),
        (SERVICES, "C'est une blague : facturation", None),
        (TEAMS, "The billing of my parcel", None),
        (TEAMS, "A billing issue?", None),
        (TEAMS, "the other", None),
        (SERVICES, "l'autre", None),
        (SERVICES, "la facturation", "Facturation"),
    ],
)
def test_what_a_sentence_says_of_its_label(labels: Labels, text: str, label: Any) -> None:
    if label is None:
        with pytest.raises(LabelError):
            labels.find(text)
    else:
        assert labels.find(text) == label


@pytest.mark.parametrize(
    ("labels", "name", "text", "label"),
    [
        (STARS, "stars", "4 stars", 4),
        (STARS, "stars", "1 star!", 1),
        (STARS, "stars", "stars = 4", 4),
        (STARS, "stars", "4.5 stars", None),
        (STARS, "stars", "stars <= 4", None),
        (STARS, "stars", "stars != 4", None),
        (STARS, "stars", "3 or 4 stars", None),
        (STARS, "stars", "4 cars", None),
        (STARS, "stars", " " * 100_000 + "4 stars", None),
        (LEVELS, "level", "level B2", "B2"),
        (Labels(["high", "low"]), "priority", "High-priority.", "high"),
        (Labels(["high", "low"]), "priority", "no high priority", None),
        (Labels(["high", "low"]), "priority", "high priority?", None),
        (Labels(["good", "bad"]), "quality", "quality=bad", "bad"),
        (Labels(["other", "billing"]), "team", "other team", None),
        (Labels(["sales", "other"]), "team", "the sales team", "sales"),
        (Labels(["sales", "other"]), "team", "the other team", None),
        (Labels(["A", "B"]), "grade", "grade B", "B"),
        (Labels(["A", "B"]), "grade", "a grade", None),
        (ANSWERS, "answer", "no answer", None),
        (ANSWERS, "", "no ", "no"),
    ],
)
def test_the_name_of_the_field_may_stand_beside_its_label(labels: Labels, name: str, text: str, label: Any) -> None:
    schema = AnswerSchema({"properties": {name: {"enum": list(labels.values)}}} if name else {"enum": ["yes", "no"]})
    try:
        found, _ = coerce({name: text} if name else text, schema)
    except CoercionError:
        found = {name: text}
    assert (found[name] if name else found) == (text if label is None else label)


@pytest.mark.parametrize(("value", "label"), [(3.2, "3.2"), ("3.10", "3.10"), ("3.1", "3.1"), (3.1, None), (3.3, None)])
def test_a_number_in_json_is_not_one_of_two_labels_that_are_equal_to_it(value: Any, label: str | None) -> None:
    schema = AnswerSchema({"enum": list(SECTIONS.values)})
    try:
        found, _ = coerce(value, schema)
    except CoercionError:
        found = None
    assert found == (value if value == 3.3 else label)
