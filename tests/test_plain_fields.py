"""Mended JSON judged per asked field: what stands once, plainly, counts, whatever its neighbours look like."""

from __future__ import annotations

from typing import Literal

import pytest
from pydantic import BaseModel

from llmtasker.errors import OutputError
from llmtasker.parser.answer_schema import AnswerSchema
from llmtasker.parser.read import read


class Grade(BaseModel):
    level: Literal["low", "high"]
    points: int
    note: str = ""


SCHEMA = AnswerSchema.of(Grade)


def graded(text: str) -> Grade:
    got = read(text, SCHEMA, Grade.model_validate)
    assert got.repairs
    return got.value


@pytest.mark.parametrize(
    "text",
    [
        '{"level":"high","points":3,"why":"late",}',
        '{"why":"late","level":"high","points":3,}',
        "{'level': 'high', 'points': 3, 'why': 'it's late'}",
        "{level: 'high', points: 3, why: 'late'}",
        '{"level":"high","points":3,"why":"he said "no" twice"}',
        '{"level":"high","points":3,"why":"one " too many"}',
        '{"why":"one " too many","level":"high","points":3}',
        '{"why": , "level":"high","points":3}',
        '{"why":NaN,"level":"high","points":3}',
        '{"level":"high","points":3,"steps":["a","b",...]}',
        '{"level":"high","points":3,"why":"a","why":"b"}',
        '{"level":"high","points":3,"why":"a" "b"}',
        'Here:\n```json\n{"level":"high","points":3,"why":"late",}\n```',
        '{"level":"high", // sure\n"points":3, "why":"late"}',
        '{"level":"high", /* sure */ "points":3, "why":undefined}',
        '{"level":"high","points":3,"why":"late"},"confidence":1}',
        '{"Level":"High","points":3,"why":"one " too many"}',
    ],
)
def test_sound_fields_beside_broken_ones_count(text: str) -> None:
    assert graded(text) == Grade(level="high", points=3)


@pytest.mark.parametrize(
    "text",
    [
        '{"level":"high","why":"one " too many"}',  # a field is absent
        '{"why":"it has "level": "low" in it","level":"high","points":3}',  # twice
        '{"why":"it has "level": "low", say","points":3}',  # only inside a string
        '{"why":"a " b","about":{"level":"high","points":3}}',  # of another object
        '{"level":"high","points":3,"note":"one " too many"}',  # the broken field is requested
        '{"level":"high","points":,"why":"a"}',
        '{"level":"high","points":3 or 4,"why":"one " two"}',
        '{"level":"high","points":...,"why":"a"}',
        '{"level":"high","level":"low","points":3,"why":"one " two"}',
        '{"level":"high","points":3,"why":"one " two, "note":',  # cut
    ],
)
def test_a_field_that_is_absent_or_not_plain_is_an_error(text: str) -> None:
    with pytest.raises(OutputError):
        graded(text)


@pytest.mark.parametrize(
    ("text", "stopped", "right"),
    [
        ('{"level":"high","note":"","points":3', True, True),
        ('{"level":"high","note":"","points":3', False, False),
        ('{"level":"high","points":3', True, False),  # the note may follow
        ('{"level":"high","points":3,"note":"so', True, False),
        ('{"level":"high","note":"","points":', True, False),
    ],
)
def test_the_last_brace_may_lack_behind_a_number_where_the_llm_stopped_by_itself(
    text: str, stopped: bool, right: bool
) -> None:
    try:
        got = read(text, SCHEMA, Grade.model_validate, stopped=stopped)
    except OutputError:
        assert not right
    else:
        assert right
        assert got.value.points == 3
        assert got.repairs == ("fixed JSON: added the missing '}'",)
