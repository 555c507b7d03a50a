"""Days, times and durations as people write them: read if they have one reading, refused if they have two."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from pydantic import TypeAdapter

from llmtasker.errors import InvalidOutputError
from llmtasker.parser.answer_schema import AnswerSchema
from llmtasker.parser.read import read

DAY, NOON = dt.date(2026, 3, 24), dt.datetime(2026, 3, 24, 14, 30)
FORMS = {
    dt.date: {
        DAY: "2026-03-24|20260324|2026/3/24|2026.03.24|24/03/2026|03/24/2026|24-03-2026|24.3.2026|24-Mar-2026"
        "|24 mars 2026|le 24 mars 2026|mardi 24 mars 2026|Tuesday, March 24, 2026|March 24th, 2026|24th of March 2026"
        "|Mar. 24, 2026|24 MARCH, 2026|24. März 2026|Dienstag, 24. März 2026|**24 mars 2026**|24 mars 2026.",
        dt.date(2026, 4, 4): "04/04/2026|4.4.2026",
        dt.date(2026, 8, 1): "1er août 2026|1 aout 2026|Aug 1st, 2026",
        dt.date(2026, 7, 24): "24 juil. 2026|24 Jul 2026",
        None: "03/04/2026|03.04.2026|31/02/2026|13/13/2026|24/03/26|24/03|03/2026|2026-24-03|2026-03"
        "|30 février 2026|24 jui 2026|24 ma 2026|24 marsh 2026|24 mars|mercredi 24 mars 2026|avant 24 mars 2026"
        "|vers le 24 mars 2026|24-25 mars 2026|24 mars 2026 ou 25 mars 2026|1774362600",
    },
    dt.datetime: {
        NOON: "2026-03-24T14:30|24/03/2026 14:30|24 mars 2026 à 14h30|le 24 mars 2026, 14 h 30"
        "|March 24, 2026 at 2:30 PM|03/24/2026 2:30 p.m.|2026-03-24 02:30 PM",
        dt.datetime(2026, 3, 24): "2026-03-24|24/03/2026|24 mars 2026",
        dt.datetime(2026, 3, 24, 14, 30, tzinfo=dt.timezone(-dt.timedelta(hours=5))): "2026-03-24T14:30-05:00"
        "|2026-03-24T14:30:00-05:00|2026-03-24 14:30:00-05:00|2026-03-24T14:30:00.000-05:00",
        dt.datetime(2026, 3, 24, 14, 30, tzinfo=dt.timezone(-dt.timedelta(hours=3.5))): "2026-03-24T14:30-03:30",
        None: "2026-03-24T09:00-12:00|2026-03-24T10:00-11:00|2026-03-24t03:00-05:00"
        "|2026-03-24T10:00-10:45|2026-03-24T14:30:00-13:00"
        "|03/04/2026 14:30|24/03/2026 25:00|2026-03-24 14:30-15:30|2026-03-24T14:30-16:00|24 mars 2026 14",
    },
    dt.time: {
        dt.time(14, 30): "14:30|14h30|14 h 30|2:30 PM|02:30 p.m.|14h30m00",
        dt.time(14): "14h|2 PM|14:00:00",
        dt.time(9, 5): "9:05|9h05|9:05 am",
        dt.time(0, 30): "12:30 AM",
        None: "14|25:00|13:30 PM|14:30-15:00|09:00-12:00|T10:00-11:00|9h - 17h|vers 14h|14:3|0 pm",
    },
    dt.timedelta: {
        dt.timedelta(minutes=90): "PT1H30M|01:30:00|1h30|1 h 30 min|1h30m|90 min|90 minutes|1,5 heure|1.5 hours"
        "|1 hour and 30 minutes|1 Stunde 30",
        dt.timedelta(days=10): "10 days|10 jours|1 week, 3 days|10 j",
        dt.timedelta(seconds=45.5): "45.5 s|45,5 secondes",
        None: "90|01:30|3:45|3 months|3m|2 or 3 hours|1-2 h|1h30 km|1.500 hours| h",
    },
}  # fmt: skip


def cases() -> list[Any]:
    return [
        pytest.param(kind, text, value, id=f"{kind.__name__}: {text}")
        for kind, readings in FORMS.items()
        for value, forms in readings.items()
        for text in forms.split("|")
    ]


@pytest.mark.parametrize(("kind", "text", "value"), cases())
def test_only_one_reading_is_read(kind: Any, text: str, value: Any) -> None:
    node: Any = TypeAdapter(kind).json_schema()
    schema = AnswerSchema({"type": "object", "properties": {"v": node}, "required": ["v"]})
    validate = TypeAdapter[Any](kind).validate_python
    try:
        reading = read(f'{{"v": "{text}"}}', schema, lambda answer: validate(answer["v"]))
    except InvalidOutputError:
        assert value is None
        return
    assert reading.value == value
    assert value is not None
