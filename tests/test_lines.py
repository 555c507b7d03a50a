"""Answers as lines instead of JSON, and texts that seem to be one label but contain more."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from pydantic import BaseModel, create_model

from llmtasker.errors import InvalidOutputError
from llmtasker.parser.answer_schema import AnswerSchema
from llmtasker.parser.read import read


class Ticket(BaseModel):
    queue: Literal["sales", "repairs"]
    urgency_level: int = 0
    days_left: int = 0
    summary: str = ""


SCHEMA = AnswerSchema.of(Ticket, function="Ticket")
WANTED = Ticket(queue="sales", urgency_level=1, days_left=3)


def ticket(text: str) -> Ticket:
    return read(text, SCHEMA, Ticket.model_validate).value


@pytest.mark.parametrize(
    "text",
    [
        "queue: sales\nurgency_level: 1\ndays_left: 3",
        "Queue: Sales\nUrgency level: 1\nDays left: 3\n",
        "- queue: sales\n- urgency_level: 1\n- days_left: 3",
        "* **Queue**: sales\n* **Urgency level**: 1\n* **Days left**: 3",
        "**Queue:** sales\n\n**Urgency level:** 1\n\n**Days left:** 3",
        "1. queue: sales\n2. urgency_level: 1\n3. days_left: 3",
        "```yaml\nqueue: sales\nurgency_level: 1\ndays_left: 3\n```",
        "---\nqueue: 'sales'\nurgency_level: 1\ndays_left: 3\n...",
        'queue = "sales"\nurgency_level = 1\ndays_left = 3',
        '"queue": "sales",\n"urgency_level": 1,\n"days_left": 3,',
        "<Ticket><queue>sales</queue><urgency_level>1</urgency_level><days_left>3</days_left></Ticket>",
        "<?xml version='1'?><root><queue>sales</queue><urgency-level>1</urgency-level><days_left>3</days_left></root>",
    ],
)
def test_a_line_or_tag_for_each_field(text: str) -> None:
    assert ticket(text) == WANTED


@pytest.mark.parametrize(
    ("written", "summary"),
    [
        ('"they ask"', "they ask"),
        ("'l'été'", "l'été"),
        ('"Yes" or "No"', '"Yes" or "No"'),
        ("'a' vs 'b'", "'a' vs 'b'"),
        ("see you soon,", "see you soon,"),
        (r'"a \"quoted\" word, café"', 'a "quoted" word, café'),
        ("**bold** and **bold**", "**bold** and **bold**"),
    ],
)
def test_the_text_of_a_line_is_kept_as_it_was_written(written: str, summary: str) -> None:
    assert ticket(f"queue: sales\nsummary: {written}").summary == summary


@pytest.mark.parametrize(
    "text",
    [
        "queue: sales, urgency_level: 1",  # with the label alone, the other field would be lost
        "queue: sales\nqueue: repairs",
        "queue: sales\nsummary: |\n  they ask",
        "days_left: 3\nurgency_level: 1",
        "The queue is sales, and the summary is that they ask.",
        "sales. Days left: 3",
        "| queue | days_left |\n|---|---|\n| sales | 3 |",
        "queue,days_left\nsales,3",
        "## queue\nsales\n## days left\n3",
        "[queue]\nsales\n[days_left]\n3",
        "<invoke><tool_name>Ticket</tool_name><queue>sales</queue><days_left>3</days_left></invoke>",
        "<search><queue>sales</queue><days_left>3</days_left></search>",
    ],
)
def test_a_text_that_names_more_than_the_label_is_not_taken_for_the_label_alone(text: str) -> None:
    with pytest.raises(InvalidOutputError):
        ticket(text)


@pytest.mark.parametrize("text", ["sales", "Queue: sales", "**Sales.**", "It is a question for sales."])
def test_a_text_that_names_the_label_only_is_the_label(text: str) -> None:
    assert ticket(text) == Ticket(queue="sales")


class Line(BaseModel):
    name: str
    quantity: int = 1


class Routed(BaseModel):
    queue: Literal["sales", "repairs"]
    tags: list[str]


def only(kind: Any) -> type[BaseModel]:
    return create_model("Only", v=(kind, ...))


COUNT, AMOUNT, TAGS, QUEUES = only(int), only(float), only(list[str]), only(list[Literal["sales", "repairs"]])
LINES = only(list[Line])
WRAPPED = '{"results": [{"name": "pen"}, {"name": "ink", "Quantity": 3}]}'


@pytest.mark.parametrize(
    ("model", "text", "value"),
    [
        (Routed, "queue: sales\ntags:\n- late\n- paid: twice", {"queue": "sales", "tags": ["late", "paid: twice"]}),
        (Routed, '**Tags:**\n1. late\n2. "new"\n**Queue:** sales', {"queue": "sales", "tags": ["late", "new"]}),
        (Routed, "queue: sales\ntags:\n- late\n- queue: repairs", None),
        (Routed, "queue: sales\ntags:\n- late\nHope this helps!", None),
        (Routed, "queue: sales\ntags:", None),
        (Routed, "queue:\n- sales\ntags:\n- late", None),
        (TAGS, "v:\n  - a\n  - b", {"v": ["a", "b"]}),
        (TAGS, "v: a", None),
        (QUEUES, "v: sales, repairs", {"v": ["sales", "repairs"]}),
        (QUEUES, "v:\n- sales\n- Repairs", {"v": ["sales", "repairs"]}),
        (QUEUES, "v: sales, not repairs", None),
        (COUNT, "v: 42", {"v": 42}),
        (COUNT, "**V:** 42", {"v": 42}),
        (COUNT, "v: 42 or 43", None),
        (COUNT, "The v is 42", None),
        (COUNT, "w: 42", None),
        (AMOUNT, "12,50 €", {"v": 12.5}),
        (AMOUNT, "v: 12,5", {"v": 12.5}),
        (AMOUNT, "12.50 € or 13 €", None),
        (LINES, WRAPPED, {"v": [{"name": "pen", "quantity": 1}, {"name": "ink", "quantity": 3}]}),
        (LINES, '{"results": [{"name": "pen"}, {"colour": "red"}]}', None),
        (LINES, '{"results": []}', None),
        (COUNT, '{"results": 3}', None),
        (Line, '"name": "pen", "quantity": 2}', {"name": "pen", "quantity": 2}),
        (Line, '"name": "pen", "quantity": 2', None),
        (Line, r"{\"name\": \"a \\\"b\\\"\", \"quantity\": 2}", {"name": 'a "b"', "quantity": 2}),
    ],
)
def test_lists_numbers_and_lost_wrappings(model: type[BaseModel], text: str, value: Any) -> None:
    schema = AnswerSchema.of(model)
    try:
        found = read(text, schema, model.model_validate, stopped=True).value.model_dump()
    except InvalidOutputError:
        found = None
    assert found == value
