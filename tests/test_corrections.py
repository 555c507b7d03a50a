"""Corrections of rows: over HTTP, and typed into the fields of the page."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date
from types import SimpleNamespace
from typing import Any, Literal, Self

import pytest
from pydantic import ConfigDict, field_validator, model_validator
from served import ANN
from test_ui import Page

from llmtasker import LLM, InputField, OutputField, Signature, Task
from llmtasker.api.correction import checked_correction
from llmtasker.api.problem import Problem
from llmtasker.jobs.job_state import JobRow
from llmtasker.testing import FakeTransport
from llmtasker.wire.request import Request

ANSWER = {"quote": "late", "count": 1, "team": "other", "points": ["late"], "angry": False, "note": None}


class Complaint(Signature):
    """Read a complaint."""

    message: str = InputField(description="what the customer wrote")
    quote: str = OutputField(description="the words that decide it")
    count: int = OutputField(description="how many parcels")
    team: Literal["billing", "other"] = OutputField(description="who takes it")
    points: list[str] = OutputField(description="what is wrong")
    angry: bool = OutputField(description="whether the customer is angry")
    note: str | None = OutputField(description="anything else")

    @field_validator("count")
    @classmethod
    def count_is_small(cls, value: int) -> int:
        if value > 9:
            raise ValueError("there are at most 9 parcels")
        return value

    @model_validator(mode="after")
    def quote_is_verbatim(self) -> Self:
        if self.quote not in self.message:
            raise ValueError("quote must be copied from the message")
        return self


def answer(request: Request) -> Any:
    return "no idea" if "nonsense" in str(request.messages) else ANSWER


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    task = Task(Complaint, llm=LLM(transport=FakeTransport(answer), cache=False))
    with Page(tmp_path_factory.mktemp("corrections"), tasks={"complaint": task}) as served:
        yield served


@pytest.fixture(scope="module")
def project(page: Page) -> str:
    """Two rows: one with an answer, one that failed."""
    ann = page.browser(language="en")
    project = ann.upload(b"message\nparcel is late\nnonsense parcel\n")
    ann.send(f"{project}/file", see=f"{project}/file", text="message", kind="complaint")
    ann.run(project)
    return project


@pytest.mark.parametrize(
    ("row", "output", "stored"),
    [
        (1, {"count": "2"}, {"count": 2}),  # as the type of the field
        (1, {"quote": "parcel"}, {"quote": "parcel"}),
        (1, {"quote": "it never came"}, "quote must be copied from the message"),
        (1, {"count": 10}, "there are at most 9 parcels"),
        (1, {"points": "late"}, "points: Input should be a valid list"),
        (2, {"team": "billing"}, {"team": "billing"}),  # the record stays incomplete
        (2, {"team": "nobody"}, "team: Input should be 'billing' or 'other'"),
        (2, {**ANSWER, "quote": "late"}, "quote must be copied from the message"),
        (2, {**ANSWER, "quote": "parcel"}, {**ANSWER, "quote": "parcel"}),
        (2, {"colour": "red"}, "output: give one of"),
    ],
)
def test_a_correction_is_checked_by_the_task(
    page: Page, project: str, row: int, output: dict[str, Any], stored: dict[str, Any] | str
) -> None:
    client = page.browser(key=None).client
    job = client.get("/jobs", headers=ANN).json()["jobs"][0]["id"]
    place = f"/jobs/{job}/items/{row}"
    client.patch(place, headers=ANN, json={"output": None})
    response = client.patch(place, headers=ANN, json={"output": output})
    if isinstance(stored, str):
        assert response.status_code == 422
        assert stored in response.json()["detail"]
    else:
        assert response.json()["correction"] == stored


def test_fields_are_corrected_one_after_another(page: Page, project: str) -> None:
    client = page.browser(key=None).client
    job = client.get("/jobs", headers=ANN).json()["jobs"][0]["id"]
    for output in (None, {"count": 3}, {"team": "billing"}):
        response = client.patch(f"/jobs/{job}/items/1", headers=ANN, json={"output": output})
    assert response.json()["correction"] == {"count": 3, "team": "billing"}


class Visit(Signature):
    """Read when somebody comes."""

    model_config = ConfigDict(strict=True)

    message: str = InputField(description="what was written")
    day: date = OutputField(description="when")
    team: Literal["a", "b"] = OutputField(description="who takes it")
    note: str = OutputField(description="the words that say it")
    rank: int = OutputField(description="how soon")

    @model_validator(mode="after")
    def note_is_verbatim(self) -> Self:
        if self.note not in self.message:
            raise ValueError("note must be copied from the message")
        if self.team == "b" and self.rank > 5:
            raise ValueError("b takes no ranks above 5")
        return self


VISIT = {"day": "2026-03-04", "team": "a", "note": "hello", "rank": 1}


@pytest.mark.parametrize(
    ("earlier", "output", "stored"),
    [
        ({}, {"team": "b"}, {"team": "b"}),  # the day is a date of a strict task
        ({}, {"day": "2026-03-05"}, {"day": "2026-03-05"}),
        ({}, {"day": "soon"}, "day: Input should be a valid date"),
        ({"note": "no rule then"}, {"team": "b"}, {"note": "no rule then", "team": "b"}),
        ({"note": "no rule then"}, {"note": "hell"}, {"note": "hell"}),
        ({"note": "no rule then"}, {"note": "moon"}, "note must be copied"),
        ({"rank": 9}, {"team": "b"}, "b takes no ranks above 5"),  # two corrections that don't go together
    ],
)
def test_a_strict_task_and_an_earlier_mistake_allow_corrections(
    earlier: dict[str, Any], output: dict[str, Any], stored: dict[str, Any] | str
) -> None:
    given = {"message": "hello"}
    row = JobRow(number=1, row=given, given=given, item={"output": VISIT, "error": None}, correction=earlier)
    job: Any = SimpleNamespace(outputs={name: name for name in Visit.output_fields})
    server: Any = SimpleNamespace(tasks=SimpleNamespace(of_job=lambda _: SimpleNamespace(signature=Visit)))
    if isinstance(stored, str):
        with pytest.raises(Problem, match=stored):
            checked_correction(server, job, row, output)
    else:
        assert checked_correction(server, job, row, output) == stored


TYPED = {"quote": "parcel", "count": "2", "team": "other", "points": "late; broken", "angry": "yes", "note": ""}


@pytest.mark.parametrize(
    ("typed", "stored"),
    [
        ({}, {"quote": "parcel", "count": 2, "points": ["late", "broken"], "angry": True, "note": None}),
        ({"points": '["late; broken"]'}, {"points": ["late; broken"]}),
        ({"points": "", "note": "12"}, {"points": [], "note": "12"}),
        ({"angry": "1", "count": "1"}, {"angry": True, "count": 1}),
        ({"count": "yes"}, "count: “yes” is not a whole number."),
        ({"angry": "perhaps"}, "angry: “perhaps” is neither yes nor no."),
    ],
)
def test_each_field_of_a_failed_row_can_be_typed(
    page: Page, project: str, typed: dict[str, str], stored: dict[str, Any] | str
) -> None:
    ann = page.browser(language="en")
    place = f"{project}/rows/2"
    ann.send(place, see=f"{project}/results", undo="1")
    fields = {f"field_{name}": text for name, text in {**TYPED, **typed}.items()}
    response = ann.post(place, see=f"{project}/results", **fields)
    if isinstance(stored, str):
        assert response.status_code == 422
        assert stored in response.text
    else:
        row = json.loads(ann.get(f"{project}/results.jsonl").splitlines()[1])
        assert row["corrected"]
        assert {name: row[name] for name in stored} == stored
