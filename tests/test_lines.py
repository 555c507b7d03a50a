"""Answers as lines instead of JSON, and texts that say more than the one label that they seem to be."""

from __future__ import annotations

from typing import Literal

import pytest
from pydantic import BaseModel

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
        "queue: sales, urgency_level: 1",  # the label alone would lose the other
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
