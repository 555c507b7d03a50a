"""Failing metrics of the user: the report shows the reason once, without the words of a row."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import TypeAdapter

from llmtasker import LLM, InputField, Item, OutputField, Signature, Task
from llmtasker.errors import ConfigurationError
from llmtasker.evaluation import Report, assert_no_regression, compare, evaluate
from llmtasker.testing import FakeTransport

MESSAGE = "Dr Dupont was charged 4711 euros for a parcel that never came, says anna@example.org"
SUMMARY = "Madame Lefebvre wants her money back"
ROW = {"message": MESSAGE, "team": "billing", "summary": SUMMARY}
PRIVATE = ("dupont", "4711", "anna", "lefebvre", "was charged", "never came", "her money back", "dr")


class Triage(Signature):
    """Route a customer message."""

    message: str = InputField()
    team: Literal["billing", "delivery"] = OutputField()
    summary: str = OutputField()


class UntellableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError(MESSAGE)


def raising(error: Callable[[Any, Item[Any]], Exception]) -> Callable[[Any, Item[Any]], float]:
    def metric(gold: Any, item: Item[Any]) -> float:
        raise error(gold, item)

    return metric


def report_of(metric: Any, rows: int = 3) -> Report:
    llm = LLM(transport=FakeTransport(lambda _: {"team": "billing", "summary": SUMMARY}), cache=False)
    return evaluate(Task(Triage, llm=llm), [ROW] * rows, metrics={"own": metric}, progress=False)


@pytest.mark.parametrize(
    ("metric", "said"),
    [
        (lambda gold, item: item.output.teem, "AttributeError: 'Triage' object has no attribute 'teem'"),
        (lambda gold, item: {"delivery": 1}[gold.team], "KeyError: 'billing'"),
        (lambda gold, item: 1 / 0, "ZeroDivisionError: division by zero"),
        (lambda gold, item: float("nan"), "nan is not a score"),
        (lambda gold, item: float("inf"), "inf is not a score"),
        (lambda gold, item: [], "TypeError: float() argument must be a string or a real number, not 'list'"),
        (lambda gold, item: float(gold.message), "ValueError: could not convert string to float: '…'"),
        (lambda gold, item: {}[gold.message.split()[1]], "KeyError: '…'"),
        (lambda gold, item: int(gold.message.split()[-1]), "ValueError: invalid literal for int() with base 10: '…'"),
        (raising(lambda gold, _: ValueError(f"no match in {gold.message}")), "ValueError: no match in …"),
        (raising(lambda gold, _: ValueError(f"no match in {gold.message[:40]}")), "ValueError: no match in …"),
        (raising(lambda gold, _: ValueError(f"who is {gold.message.split()[1]}?")), "ValueError: who is …?"),
        (raising(lambda gold, _: ValueError(f"{gold.message.split()[4]} is too much")), "ValueError: … is too much"),
        (raising(lambda _, item: ValueError(f"not alike: {item.output.summary}")), "ValueError: not alike: …"),
        (raising(lambda _, item: ValueError(f"not JSON: {item.raw}")), 'ValueError: not JSON: {"team": '),
        (raising(lambda *_: ValueError("a\n  b")), "ValueError: a b"),
        (raising(lambda *_: ValueError()), "ValueError"),
        (raising(lambda *_: UntellableError()), "UntellableError"),
        (raising(lambda *_: ValueError("<b>&")), "ValueError: <b>&"),
        (lambda gold, item: TypeAdapter(int).validate_python(gold.message), "ValidationError: Input should be a valid"),
    ],
)
def test_a_report_says_once_why_a_metric_failed(metric: Any, said: str, tmp_path: Path) -> None:
    report = report_of(metric)
    assert report.broken == {"own": 3}
    assert report.errors["own"].startswith(said)
    assert not any(private in report.errors["own"].lower() for private in PRIVATE)
    assert str(report).count(f"own could not be computed for 3 rows; the first time: {report.errors['own']}") == 1
    report.save(tmp_path / "report.json")
    assert Report.load(tmp_path / "report.json").errors == report.errors
    for ending in ("md", "html"):
        report.write(tmp_path / f"report.{ending}")
        text = (tmp_path / f"report.{ending}").read_text(encoding="utf-8")
        assert text.count("could not be computed for 3 rows; the first time: ") == 1
        assert "<b>&" not in text or ending == "md"


def test_the_first_reason_of_several_is_shown() -> None:
    calls = list[int]()

    def metric(gold: Any, item: Item[Any]) -> float:
        calls.append(1)
        if len(calls) == 1:
            return 1.0
        raise ValueError(f"call {len(calls)}")

    report = report_of(metric)
    assert (report.broken, report.errors) == ({"own": 2}, {"own": "ValueError: call 2"})


@pytest.mark.parametrize("other", [None, "report.json", 3, {"rows": []}])
@pytest.mark.parametrize("call", [compare, assert_no_regression])
def test_what_is_not_a_report_is_not_compared(call: Any, other: Any) -> None:
    report = report_of(lambda gold, item: 1.0)
    given = "None" if other is None else f"of type {type(other).__name__}"
    for which, pair in (("A", (other, report)), ("B", (report, other))):
        with pytest.raises(
            ConfigurationError, match=rf"^{which} is {given}, not a report: give what `evaluate` returned"
        ):
            call(*pair)
