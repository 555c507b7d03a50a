"""Answers in tags, and texts that lack one quote: read where there is one reading."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from pydantic import BaseModel

from llmtasker.errors import InvalidOutputError
from llmtasker.parser.answer_schema import AnswerSchema
from llmtasker.parser.mend_json import NotMendableError, mend_json
from llmtasker.parser.read import read


class Guest(BaseModel):
    name: str
    nights: int = 1


class Booking(BaseModel):
    answer: Literal["yes", "no"]
    guests: list[Guest] = []
    notes: list[str] = []


SCHEMA = AnswerSchema.of(Booking)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("<answer>yes</answer>", {}),
        ("<Answer><answer>yes</answer><notes>late</notes></Answer>", {"notes": ["late"]}),
        ("\n<Answer>Yes.</Answer>\n<notes />\n", {}),
        ("<think>yes?</think><answer>yes</answer><notes>late</notes>", {"notes": ["late"]}),
        ("<answer>yes</answer><notes>late</notes><notes>a &amp; b</notes>", {"notes": ["late", "a & b"]}),
        (
            "<answer>yes</answer>\n<guests><name>Ann</name><nights>2</nights></guests><guests><name>Bob</name></guests>",
            {"guests": [Guest(name="Ann", nights=2), Guest(name="Bob")]},
        ),
        ('<answer>yes</answer><guests>[{"name": "Ann"}]</guests>', {"guests": [Guest(name="Ann")]}),
        ("<answer>yes</answer><notes><note>a</note><note>b</note></notes>", {"notes": ["a", "b"]}),
        (
            "<answer>yes</answer><guests><guest><name>Ann</name></guest>\n<guest><name>Bob</name></guest></guests>",
            {"guests": [Guest(name="Ann"), Guest(name="Bob")]},
        ),
        ("<answer>yes</answer><notes><![CDATA[a < b &amp; c]]></notes>", {"notes": ["a < b &amp; c"]}),
    ],
)
def test_fields_in_tags(text: str, wanted: dict[str, Any]) -> None:
    got = read(text, SCHEMA, Booking.model_validate)
    assert got.value == Booking(answer="yes", **wanted)
    assert got.repairs[0] == "taken from tags"


@pytest.mark.parametrize(
    "text",
    [
        "<answer>yes</answer><answer>no</answer>",
        "<answer>perhaps</answer>",
        "<answer>yes</answer><guests><name>Ann",
        "<reply>yes, no</reply>",
        "<answer>yes</answer><hotel>Ritz</hotel><notes>no</notes>",
        "<answer><answer>",
        "<answer>yes</answer><notes><first>a</first><second>b</second></notes>",
    ],
)
def test_tags_that_are_not_a_clear_answer(text: str) -> None:
    with pytest.raises(InvalidOutputError):
        read(text, SCHEMA, Booking.model_validate)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"city":"Lyon,"nights":2}', {"city": "Lyon", "nights": 2}),
        ('{"city":"Lyon",nights":2}', {"city": "Lyon", "nights": 2}),
        ('{"city":Lyon","nights":2}', {"city": "Lyon", "nights": 2}),
        ('{"city": "Lyon" + " 2e",}', {"city": "Lyon 2e"}),
        ('{"pattern": "^\\d+\\.\\s",}', {"pattern": "^\\d+\\.\\s"}),
        ('{\\"city\\": \\"Lyon\\"}', {"city": "Lyon"}),
    ],
)
def test_one_slip_of_a_string(text: str, value: Any) -> None:
    assert mend_json(text)[0] == value


@pytest.mark.parametrize(
    "text",
    [
        '{"city":"Lyon, 2e,"nights":2}',
        '{"city":"Ly"on","nights":2}',
        '["Lyon, "Nice"]',
        '{"city":"Lyon","note":"a " b"}',
        '[```\n{"city":"Lyon"}\n```]',
        '{"cities": [\nLyon\nNice\n]}',
    ],
)
def test_a_slip_with_two_readings_is_refused(text: str) -> None:
    with pytest.raises(NotMendableError):
        mend_json(text)
