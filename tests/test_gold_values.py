"""Values of gold rows as people have them: missing ones of pandas, moments in other time zones, JSON in cells."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import pandas  # pyright: ignore[reportMissingTypeStubs]
import pytest
from pydantic import AwareDatetime, BaseModel

from llmtasker import LLM, ConfigurationError, InputField, OutputField, Signature, Task
from llmtasker.evaluation import Report, compare, evaluate, nearest
from llmtasker.testing import FakeTransport

NOON = "2026-03-01T12:00:00Z"
EAST = timezone(timedelta(hours=2))


class Meeting(Signature):
    """Read the date."""

    text: str = InputField()
    at: datetime = OutputField()


class Opening(Signature):
    """Read the time."""

    text: str = InputField()
    at: time | None = OutputField()


class Day(Signature):
    """Read the day."""

    text: str = InputField()
    at: date = OutputField()


class Length(Signature):
    """Read the duration."""

    text: str = InputField()
    at: timedelta | None = OutputField()


class Zoned(Signature):
    """Read the date."""

    text: str = InputField()
    at: AwareDatetime = OutputField()


class Amount(Signature):
    """Read the amount."""

    text: str = InputField()
    amount: float | None = OutputField()


class Person(BaseModel):
    name: str
    age: int | None = None


class Tags(Signature):
    """Choose tags."""

    text: str = InputField()
    tags: list[Literal["a", "b"]] = OutputField()
    person: Person = OutputField()
    words: list[str] = OutputField()


def task_of(signature: type[Signature], **answer: Any) -> Task[Any]:
    return Task(signature, llm=LLM(transport=FakeTransport(answer), cache=False))


MOMENTS: list[tuple[type[Signature], Any, Any, bool]] = [
    (Meeting, NOON, NOON, True),
    (Meeting, NOON, "2026-03-01T14:00:00+02:00", True),
    (Meeting, NOON, datetime(2026, 3, 1, 14, tzinfo=EAST), True),
    (Meeting, NOON, "2026-03-01T14:00:00Z", False),
    (Meeting, NOON, "2026-03-01T12:00:00", False),
    (Meeting, "2026-03-01T12:00:00.000Z", NOON, True),
    (Opening, "09:00:00", "09:00", True),
    (Opening, "09:00:00", "09:01", False),
    (Day, "2026-03-01", date(2026, 3, 1), True),
    (Day, "2026-03-01", "2026-03-02", False),
    (Meeting, "20260302", "20260302", True),
    (Meeting, "2026-03-02", "20260302", True),
    (Day, "2026-03-24", "24/03/2026", True),
    (Day, "2026-03-24", "le 24 mars 2026", True),
    (Opening, "14:00:00", "14h", True),
]


@pytest.mark.parametrize(("signature", "answer", "gold", "right"), MOMENTS)
def test_a_moment_is_right_in_any_time_zone(signature: type[Signature], answer: str, gold: Any, right: bool) -> None:
    report = evaluate(task_of(signature, at=answer), [{"text": "x", "at": gold}], progress=False)
    assert report.score("at").right == right
    assert report.other_measures() == {}, "the words of a date say nothing"


@pytest.mark.parametrize("gold", ["1h30", "PT1H30M", timedelta(minutes=90)])
def test_a_duration_is_read_as_that_of_an_answer(gold: Any) -> None:
    report = evaluate(task_of(Length, at="1.5 hours"), [{"text": "x", "at": gold}], progress=False)
    assert report.score("at").right == 1


@pytest.mark.parametrize(
    ("signature", "gold", "words"),
    [
        (Meeting, 1772409600, "at: a number is not a date-time"),
        (Zoned, "1772409600", "at: a number is not a date-time"),
        (Day, 20260302.0, "at: a number is not a date"),
        (Day, "03/04/2026", "at: Input should be a valid date.*; at is 2026-04-03 or 2026-03-04: write it in ISO 8601"),
        (Opening, "14", "at: a number is not a time"),
        (Opening, "14:30-15:00", "at: it has two readings as a time"),
        (Length, 90, "at: a number is not a duration"),
        (Length, "03:45", "at: it has two readings as a duration"),
    ],
)
def test_a_moment_that_no_answer_could_give_is_refused(signature: type[Signature], gold: Any, words: str) -> None:
    task = task_of(signature)
    with pytest.raises(ConfigurationError, match=f"gold row 1 does not fit {signature.__name__}: {words}"):
        evaluate(task, [{"text": "x", "at": gold}], progress=False)


@pytest.mark.parametrize(
    ("type_", "right", "gold"),
    [
        (float, 34.9, "34,90"),
        (float, 4.5, "4,5"),
        (float | None, 1234.5, "1 234,50"),
        (float, 12.5, "12,50 €"),
        (Decimal, "1234.50", "1 234,50"),
        (int, 1234, "1 234"),
        (int, 4, "4"),
        (int, 4, 4.0),
        (Literal[1, 2], 2, "2"),
        (bool, True, "oui"),
        (bool, True, "VRAI"),
        (bool, False, "non"),
        (bool, True, True),
    ],
)
def test_gold_is_read_as_an_answer_with_the_same_text(type_: Any, right: Any, gold: Any) -> None:
    """A French office writes 34,90 and oui."""
    signature = Signature.make("Read", instructions="Read.", inputs={"text": str}, outputs={"it": type_})
    report = evaluate(task_of(signature, it=right), [{"text": "x", "it": gold}], progress=False)
    assert report.score("it").right == 1
    answered = task_of(signature, it=gold)("x")
    assert answered.output is not None
    assert evaluate(task_of(signature, it=right), [answered.output], progress=False).score("it").right == 1


@pytest.mark.parametrize(
    ("type_", "gold", "words"),
    [
        (float, "1,234", "it: Input should be a valid number"),
        (int, "1.234", "it: whether its dot stands between thousands is not clear"),
        (float, True, "it: a boolean is not a number"),
        (bool, "peut-être", "it: Input should be a valid boolean"),
        (float, "12/03/2026", "it: Input should be a valid number.*number .got '12/03/2026'.[.]$"),
    ],
)
def test_a_number_that_no_answer_could_give_is_refused(type_: Any, gold: Any, words: str) -> None:
    signature = Signature.make("Read", instructions="Read.", inputs={"text": str}, outputs={"it": type_})
    with pytest.raises(ConfigurationError, match=f"gold row 1 does not fit Read: {words}"):
        evaluate(task_of(signature), [{"text": "x", "it": gold}], progress=False)


def noted(type_: Any) -> type[Signature]:
    outputs = {"team": Literal["a", "b"], "note": type_}
    return Signature.make("Noted", instructions="Note.", inputs={"text": str}, outputs=outputs)


@pytest.mark.parametrize(
    ("type_", "gold"),
    [(str, ""), (str | None, ""), (Literal["", "x"], ""), (int | None, None), (Literal["x"] | None, None)],
)
def test_an_empty_cell_beside_a_right_answer_is_empty_text_where_the_field_takes_it(type_: Any, gold: Any) -> None:
    signature = noted(type_)
    task = task_of(signature, team="a", note=gold)
    record = signature.model_validate({"text": "y", "team": "a", "note": gold})
    given: list[Any] = [{"text": "x", "team": "a", "note": ""}, record]
    report = evaluate(task, given, progress=False)
    assert [row.gold["note"] for row in report.rows] == [gold, gold]
    assert (report.score("note").right, report.without_gold) == (2, 0)


@pytest.mark.parametrize("missing", [None, "", float("nan"), pandas.NA, pandas.NaT])
def test_a_row_with_a_missing_right_answer_is_left_out_and_counted(missing: Any) -> None:
    rows = [{"text": "x", "amount": missing}, {"text": "y", "amount": 1}]
    report = evaluate(task_of(Amount, amount=1.0), rows, progress=False)
    assert (len(report.rows), report.without_gold, report.score("amount").right) == (1, 1, 1)


def test_none_in_a_record_is_its_right_answer() -> None:
    rows = [Amount(text="x", amount=None), Amount(text="y", amount=1.0)]
    report = evaluate(task_of(Amount, amount=None), rows, progress=False)
    assert (len(report.rows), report.without_gold, report.score("amount").right) == (2, 0, 1)


@pytest.mark.parametrize("missing", [None, float("nan"), pandas.NA])
def test_a_missing_cell_of_a_slice_or_cluster_is_empty(missing: Any) -> None:
    rows = [{"text": "x", "amount": 1, "site": missing}, {"text": "y", "amount": 1, "site": ""}]
    report = evaluate(task_of(Amount, amount=1.0), rows, slices=["site"], cluster="site", progress=False)
    assert list(report.slices("amount")["site"]) == [""]
    assert {row.cluster for row in report.rows} == {""}


def test_a_file_has_lists_and_objects_as_json_and_the_report_says_how_it_was_read(tmp_path: Path) -> None:
    path = tmp_path / "gold.csv"
    path.write_text(
        "text;tags;person;words\n"
        'x;"[""a""]";"{""name"": ""Ann""}";"[""one"", ""two""]"\n'
        'y;[];"{""name"": ""Bo""}";[]\n',
        encoding="utf-8",
    )
    task = task_of(Tags, tags=["a"], person={"name": "Ann"}, words=["two", "one"])
    report = evaluate(task, path, progress=False)
    assert [row.scores["tags"] for row in report.rows] == [1, 0]
    assert [row.scores["person"] for row in report.rows] == [1, 0.5]
    assert [row.scores["words"] for row in report.rows] == [1, 0]
    assert "gold rows from gold.csv: CSV, utf-8, delimiter ';'" in str(report)
    report.save(tmp_path / "a.json")
    assert Report.load(tmp_path / "a.json") == report


@pytest.mark.parametrize("cells", [("[1", "a"), ('"a"', "a"), ("a", '["b"]')])
def test_a_text_field_and_what_is_no_json_stay_as_they_are(cells: Sequence[str]) -> None:
    class Words(Signature):
        """Repeat."""

        text: str = InputField()
        word: str = OutputField()

    rows = [{"text": str(number), "word": cell} for number, cell in enumerate(cells)]
    report = evaluate(task_of(Words, word="a"), rows, progress=False)
    assert [row.gold["word"] for row in report.rows] == list(cells)


def test_a_score_is_shown_in_a_slice_as_in_the_whole() -> None:
    rows = [{"text": text, "amount": 1, "site": text} for text in "xyz"]

    def points(gold: Any, _: Any) -> float:
        return {"x": 2.0, "y": 1.0, "z": 0.0}[gold.text]

    metrics = {"points": points}
    report = evaluate(task_of(Amount, amount=1.0), rows, metrics=metrics, slices=["site"], progress=False)
    assert report.score("points").right is None
    assert {part.right for part in report.slices("points")["site"].values()} == {None}
    assert compare(report, report, "points").binary is False


class Labelled(Signature):
    """Read the label."""

    text: str = InputField()
    at: Literal["Billing", "delivery", "VAT", "vat"] = OutputField()


class Several(Signature):
    """Read the labels."""

    text: str = InputField()
    at: list[Literal["Billing", "delivery"]] = OutputField()


@pytest.mark.parametrize(
    ("signature", "cell", "read"),
    [
        (Labelled, "Billing", "Billing"),
        *((Labelled, cell, "Billing") for cell in ("billing", "Billing ", "\u00a0BILLING")),
        (Labelled, "vat", "vat"),
        (Labelled, "VAT", "VAT"),
        (Labelled, "Vat", "Input should be 'Billing', 'delivery', 'VAT' or 'vat' (got 'Vat')"),
        (Labelled, "invoices", "(got 'invoices')"),
        (Several, '["billing", "Delivery "]', ["Billing", "delivery"]),
        (Several, ["billing"], ["Billing"]),
    ],
)
def test_a_gold_label_may_differ_in_case_and_spaces(signature: type[Signature], cell: Any, read: Any) -> None:
    """If it has only one reading."""
    task = task_of(signature, at=["Billing"] if signature is Several else "Billing")
    if isinstance(read, str) and "(got" in read:
        with pytest.raises(ConfigurationError) as refused:
            evaluate(task, [{"text": "x", "at": cell}], progress=False)
        assert read in str(refused.value)
    else:
        assert evaluate(task, [{"text": "x", "at": cell}], progress=False).rows[0].gold == {"at": read}


@pytest.mark.parametrize(("examples", "shown"), [((), 0), ((Amount(text="x", amount=1.0),), 2), (("other",), 0)])
def test_rows_that_the_prompt_shows_with_their_answers_are_counted(examples: Sequence[Any], shown: int) -> None:
    given = [Amount(text="z", amount=1.0) if one == "other" else one for one in examples]
    rows = [{"text": text, "amount": 1} for text in "xxy"]
    task = task_of(Amount, amount=1.0).with_(examples=given)
    report = evaluate(task, rows, progress=False)
    assert report.shown == shown
    assert ("are shown as examples" in str(report)) == bool(shown)
    assert evaluate(task.with_(examples=nearest(given, 1)), rows, progress=False).shown == 0 if given else True


@pytest.mark.parametrize(("text", "hardly_differs"), [("My parcel", False), ("my  parcel.", True), ("MY PARCEL", True)])
def test_a_row_that_hardly_differs_from_an_example_is_counted(text: str, hardly_differs: bool) -> None:
    """An example is not chosen for its own input; in other letters, its answer would be shown."""
    pool = [Amount(text="My parcel", amount=1.0), Amount(text="my refund", amount=1.0)]
    task = task_of(Amount, amount=1.0).with_(examples=nearest(pool, 2))
    assert evaluate(task, [{"text": text, "amount": 1}], progress=False).shown == hardly_differs
    assert evaluate(task.with_(examples=pool), [{"text": text, "amount": 1}], progress=False).shown == 1
