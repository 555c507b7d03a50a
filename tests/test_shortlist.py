"""A shortlist of labels: which ones are shown, the part that all inputs share, answers with other labels."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Any, Literal

import pytest

from llmtasker import LLM, CallSettings, Classification, ConfigurationError
from llmtasker.compiler.label_set import without_labels
from llmtasker.evaluation import evaluate, nearest, shortlist_recall
from llmtasker.tasks.classification import Shortlist
from llmtasker.testing import FakeTransport
from llmtasker.wire.request import Request
from llmtasker.wire.request_reader import last_user_text

LABELS = {
    "lost_card": "a card is lost or stolen",
    "change_pin": "wants another PIN",
    "charged_twice": "the same payment was taken two times",
    "age_limit": "how old one must be",
    "exchange_rate": "what foreign money costs",
}
EXAMPLES = {"my purse was stolen on a train": "lost_card", "it took my money two times": "charged_twice"}
TEXT = "someone stole my card"


def task_of(answers: Any = None, **options: Any) -> tuple[Classification, FakeTransport]:
    fake = FakeTransport(answers if answers is not None else {"label": "lost_card"})
    options = {"labels": LABELS, "shortlist": 2, **options}
    return Classification(llm=LLM(transport=fake, cache=False), **options), fake


def offered(text: str) -> list[str]:
    inside = text.partition("<labels>\n")[2].partition("\n</labels>")[0]
    return [line.removeprefix("- ").partition(":")[0] for line in inside.splitlines()]


def test_the_likely_labels_stand_before_the_text_with_their_meanings() -> None:
    task, _ = task_of()
    content = task.preview(TEXT).messages[-1]["content"]
    assert content.startswith("<labels>\n- lost_card: a card is lost or stolen\n- ")
    assert content.endswith(f"\n</labels>\n{TEXT}")
    assert len(offered(content)) == 2


def test_nothing_else_differs_between_inputs() -> None:
    task, _ = task_of(examples=EXAMPLES)
    one, other = (task.preview(text).body for text in (TEXT, "what is the exchange rate of the yen"))
    assert one["messages"][:-1] == other["messages"][:-1]
    assert one["tools"] == other["tools"]
    assert not any(label in str(one["tools"]) + str(one["messages"][0]) for label in LABELS)


def test_examples_help_to_find_labels() -> None:
    text = "the train took my purse"
    assert "lost_card" not in offered(task_of(shortlist=1)[0].preview(text).messages[-1]["content"])
    assert offered(task_of(shortlist=1, examples=EXAMPLES)[0].preview(text).messages[-1]["content"]) == ["lost_card"]


def test_a_label_outside_the_list_can_be_answered() -> None:
    task, fake = task_of({"label": "Exchange rate"})
    assert "exchange_rate" not in offered(task.preview(TEXT).messages[-1]["content"])
    item = task(TEXT)
    assert (item.output, item.attempts, fake.calls) == ("exchange_rate", 1, 1)


def test_an_llm_that_finds_none_is_shown_the_others() -> None:
    task, fake = task_of([{"label": "?"}, {"label": "age_limit"}])
    item = task(TEXT)
    assert (item.output, item.attempts) == ("age_limit", 2)
    first = offered(last_user_text(fake.requests[0]))
    again = str(fake.requests[1].messages[-1]["content"])
    assert all((f"- {label}: " in again) != (label in first) for label in LABELS)


def test_a_label_that_does_not_exist_is_an_error() -> None:
    item = task_of({"label": "tiger"}, attempts=1)[0](TEXT)
    assert item.error is not None
    assert item.error.code == "invalid"


@pytest.mark.parametrize(
    ("options", "answer", "output"),
    [
        ({"multi_label": True}, {"labels": ["lost_card", "age_limit"]}, ["lost_card", "age_limit"]),
        ({"allow_none": True}, {"label": None}, None),
        ({"open_set": True}, {"label": "a new one"}, "a new one"),
        ({"open_set": True}, {"label": "AGE_LIMIT"}, "age_limit"),
        ({"labels": [1, 2, 3]}, {"label": 3}, 3),
        ({"reasoning": True}, {"reasoning": "so", "label": "change_pin"}, "change_pin"),
    ],
)
def test_all_kinds_of_labels(options: dict[str, Any], answer: dict[str, Any], output: object) -> None:
    task, _ = task_of(answer, **options)
    assert task(TEXT).output == output
    again = Classification(
        llm="offline", cache=False, **{"labels": LABELS, "shortlist": 2, **options, "reasoning": False}
    )
    assert again(TEXT).error is None  # the baseline reads the list
    generated = LLM(transport=FakeTransport(), cache=False)
    assert task.with_(llm=generated)(TEXT).error is None


def test_an_enum_gives_its_members() -> None:
    class Team(Enum):
        CARD = "card"
        PIN = "pin"
        RATE = "rate"

    task, _ = task_of({"label": "pin"}, labels=Team)
    assert task("the card").output is Team.PIN
    assert Classification(llm="offline", labels=Team, shortlist=1, cache=False)("the rate").output is Team.RATE


def test_instructions_that_hold_the_text_hold_the_labels_where_they_say() -> None:
    task, _ = task_of(instructions="Sort {text} into:\n{classes}\nNow.", examples=EXAMPLES)
    messages = task.preview(TEXT).messages
    assert messages[-1]["content"].startswith(f"Sort {TEXT} into:\n<labels>\n- lost_card")
    assert task.preview("the exchange rate").messages[:-1] == messages[:-1]


def test_few_labels_are_all_shown() -> None:
    task, _ = task_of(shortlist=len(LABELS))
    assert task.preview(TEXT).body == task_of(shortlist=None)[0].preview(TEXT).body


def test_with_chosen_examples() -> None:
    task, _ = task_of(examples=nearest(EXAMPLES, 1))
    messages = task.preview("my purse was stolen").messages
    assert messages[1]["content"] == "my purse was stolen on a train"
    assert "lost_card" in offered(messages[-1]["content"])


def test_the_labels_of_a_row_have_their_own_list() -> None:
    task, _ = task_of()
    settings = CallSettings(variables={"label": ["a card", "a house", "a tree"]})
    assert "a card" in offered(task.preview(TEXT, settings=settings).messages[-1]["content"])


def test_an_embedding_function_can_be_given() -> None:
    def embed(texts: list[str]) -> list[list[float]]:
        return [[float("PIN" in text), float("card" in text), 0.1] for text in texts]

    task, _ = task_of(shortlist=Shortlist(count=1, embed=embed))
    assert offered(task.preview("a new PIN").messages[-1]["content"]) == ["change_pin"]
    broken, _ = task_of(shortlist=Shortlist(count=1, embed=lambda texts: []))
    with pytest.raises(ConfigurationError, match="embed"):
        broken.run([TEXT], progress=False)


def test_a_saved_task_has_the_same_list(tmp_path: Path) -> None:
    task, _ = task_of(examples=EXAMPLES)
    task.save(tmp_path / "task.json")
    again = Classification.load(tmp_path / "task.json", llm=task.llm)
    assert again.preview(TEXT).request.key == task.preview(TEXT).request.key
    assert again.with_(shortlist=None).preview(TEXT).body != task.preview(TEXT).body


@pytest.mark.parametrize("wrong", [0, -1, "20", 2.5, True, {"count": 2, "size": 3}])
def test_a_wrong_number_is_named(wrong: Any) -> None:
    with pytest.raises(ConfigurationError):
        task_of(shortlist=wrong)


def test_what_does_not_go_together_is_named() -> None:
    with pytest.raises(ConfigurationError, match="group_size"):
        task_of(group_size=3)
    with pytest.raises(ConfigurationError, match="labels"):
        Classification(llm="offline", labels=None, open_set=True, shortlist=3)


GOLD = [
    {"text": "my card is lost", "label": "lost_card"},
    {"text": "the card", "label": "age_limit"},
    {"text": "another PIN please", "label": "change_pin"},
    {"text": "my purse was stolen on a train", "label": "lost_card"},
]


def test_its_recall_is_measured_without_a_call_and_without_its_own_examples() -> None:
    task, fake = task_of(examples=EXAMPLES)
    recall = shortlist_recall(task, GOLD)
    assert (recall.rows, recall.own, recall.labels, recall.count) == (3, 1, 5, 2)
    assert recall.at[2].value == pytest.approx(2 / 3)
    assert "first   2:  66.7 %" in str(recall)
    assert fake.calls == 0
    with pytest.raises(ConfigurationError, match="all its labels"):
        shortlist_recall(task_of(shortlist=None)[0], GOLD)
    with pytest.raises(ConfigurationError, match="examples of the task"):
        shortlist_recall(task, GOLD[3:])


def test_a_report_shows_it() -> None:
    def answer(request: Request) -> dict[str, str]:
        return {"label": offered(last_user_text(request))[0]}

    report = evaluate(task_of(answer)[0], GOLD[:3])
    assert report.other_measures()["label: in the shortlist"].value == pytest.approx(2 / 3)
    assert "label: in the shortlist 66.7 % (20.8 to 93.9)" in str(report)


def test_a_type_without_its_labels() -> None:
    assert without_labels(Literal["a", "b"]) is str
    assert without_labels(Literal[1, 2] | None) == int | None
    assert without_labels(list[Literal["a"]]) == list[str]
    assert without_labels(float) is float
