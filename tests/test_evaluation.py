"""Evaluation: figures against scikit-learn's and scipy's definitions, reports, comparisons."""

from __future__ import annotations

import asyncio
import contextlib
import cProfile
import io
import json
import math
import re
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from enum import Enum
from fractions import Fraction
from pathlib import Path
from random import Random
from typing import Any, Literal, Self

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, field_validator, model_validator

from llmtasker import LLM, Classification, InputField, Instruction, Item, OutputField, Prices, Retry, Signature, Task
from llmtasker.cli.app import main
from llmtasker.errors import ConfigurationError
from llmtasker.evaluation import Report, aevaluate, assert_no_regression, compare, evaluate, judge
from llmtasker.evaluation.intervals import Interval, wilson
from llmtasker.evaluation.label_scores import label_scores, macro_f1, micro_f1
from llmtasker.evaluation.metrics import field_score, kind_of
from llmtasker.evaluation.paired_tests import (
    detectable,
    holm,
    mcnemar,
    share_difference,
    sign_flips,
)
from llmtasker.testing import FakeTransport
from llmtasker.wire.request import Request
from llmtasker.wire.request_reader import last_user_text


class Triage(Signature):
    """Route a customer message."""

    message: str = InputField()
    team: Literal["billing", "delivery", "other"] = OutputField()


def task_of(answers: Mapping[str, Any], **options: Any) -> Task[Triage]:
    """A task with given answers; a text without an answer fails."""

    def answer(request: Request) -> Any:
        text = last_user_text(request)
        return {"team": answers[text]} if text in answers else "nonsense"

    options = {"cache": False, "prices": Prices(input=1.0, output=1.0), **options}
    return Task(Triage, llm=LLM(transport=FakeTransport(answer), **options), attempts=1)


def gold(count: int, team: str = "billing") -> list[dict[str, str]]:
    return [{"message": f"message {number}", "team": team} for number in range(count)]


def answered(rights: int, wrongs: int) -> dict[str, str]:
    return {f"message {number}": "billing" if number < rights else "other" for number in range(rights + wrongs)}


# ── the figures of a report ──


def test_all_rows_count_and_failures_stand_apart() -> None:
    report = evaluate(task_of(answered(6, 3)), gold(10), progress=False)
    score = report.score("team")
    assert (score.rows, score.right, score.wrong, score.failed) == (10, 6, 3, 1)
    assert score.interval == wilson(6, 10)
    assert score.at_best == pytest.approx(0.7)
    assert report.failures == {"invalid": 1}
    text = str(report)
    assert "team: accuracy 60.0 % (31.3 to 83.2) of 10 rows: 6 right, 3 wrong, 1 failed; 70.0 % if all" in text
    assert "10 rows asked now, 0 from the cache" in text


def test_scoring_again_asks_nothing_and_knows_the_cost(tmp_path: Path) -> None:
    task = task_of(answered(5, 0), cache=str(tmp_path))
    first, second = (evaluate(task, gold(5), progress=False) for _ in range(2))
    assert (first.asked, second.asked) == (5, 0)
    assert first.cost == second.cost != 0
    assert first.tokens == second.tokens > 0


def test_slices_and_clusters() -> None:
    rows = [
        {**row, "channel": "web" if number % 2 else "mail", "customer": number // 5}
        for number, row in enumerate(gold(20))
    ]
    report = evaluate(task_of(answered(10, 10)), rows, slices=["channel"], cluster="customer", progress=False)
    slices = report.slices("team")["channel"]
    assert {name: score.rows for name, score in slices.items()} == {"mail": 10, "web": 10}
    plain = evaluate(task_of(answered(10, 10)), rows, progress=False).score("team").interval
    assert report.labels("team")["billing"].recall == report.score("team").interval, "all rows have this label"
    clustered = report.score("team").interval
    assert clustered.high - clustered.low > plain.high - plain.low


def test_metrics_of_the_user() -> None:
    def length(gold: Any, item: Item[Any]) -> float:
        return len(item.output.team) / 10

    def fails(gold: Any, item: Item[Any]) -> float:
        raise ValueError("no")

    def not_there(gold: Any, item: Item[Any]) -> None:
        return None

    metrics = {"length": length, "fails": fails, "not there": not_there, "nan": lambda gold, item: math.nan}
    report = evaluate(task_of(answered(4, 0)), gold(4), metrics=metrics, progress=False)
    assert report.score("length").interval.value == pytest.approx(0.7)
    assert report.broken == {"fails": 4, "nan": 4}
    assert report.errors == {"fails": "ValueError: no", "nan": "nan is not a score"}
    assert "fails could not be computed for 4 rows; the first time: ValueError: no" in str(report)


class Colour(Enum):
    RED = "red"


class Place(BaseModel):
    city: str
    floor: int


@pytest.mark.parametrize(
    ("annotation", "kind"),
    [
        (Literal["a"], "label"), (bool, "label"), (Colour, "label"), (Colour | None, "label"),
        (list[Literal["a"]], "labels"), (set[Colour], "labels"), (list[str], "list"), (list[Place], "list"),
        (int, "number"), (float | None, "number"), (str, "text"), (Place, "nested"), (dict[str, int], "nested"),
    ],
)  # fmt: skip
def test_the_type_of_a_field_chooses_its_metric(annotation: Any, kind: str) -> None:
    assert kind_of(annotation) == kind


@pytest.mark.parametrize(
    ("kind", "gold", "answer", "score"),
    [
        ("label", "a", "a", 1), ("label", "a", "A", 0), ("label", True, True, 1), ("label", None, None, 1),
        ("labels", ["a", "b"], ["b", "a"], 1), ("labels", ["a"], ["a", "b"], 0), ("labels", [], None, 1),
        ("number", 3, 3.0, 1), ("number", "1.50", 1.5, 1), ("number", 3, None, 0), ("number", None, None, 1),
        ("text", "Paris.", " paris ", 1), ("text", "Paris", "Lyon", 0), ("text", "ＦＡＣＴＵＲＥ", "facture", 1),
        ("nested", {"city": "Paris", "floor": 2}, {"city": "Paris", "floor": 3}, 0.5),
        ("nested", {"a": [1, 2]}, {"a": [1]}, 0.5), ("nested", {}, {}, 1),
        ("list", ["a", "b"], ["a"], 2 / 3), ("list", [], [], 1), ("list", ["a", "a"], ["a"], 2 / 3),
    ],
)  # fmt: skip
def test_what_counts_as_right(kind: Any, gold: Any, answer: Any, score: float) -> None:
    assert field_score(kind, gold, answer) == pytest.approx(score)


# ── closed forms ──

LABELS = st.sampled_from("abcd")


@given(st.lists(st.tuples(LABELS, LABELS), min_size=1, max_size=60))
def test_label_scores_are_those_of_the_definitions(rows: list[tuple[str, str]]) -> None:
    scores = label_scores([(frozenset([gold]), frozenset([answer])) for gold, answer in rows])
    for label, score in scores.items():
        right = sum(gold == answer == label for gold, answer in rows)
        given_, true = (sum(row[side] == label for row in rows) for side in (1, 0))
        assert score.precision == (right / given_ if given_ else 0)
        assert not true or score.recall.value == pytest.approx(right / true)
        assert score.f1 == pytest.approx(2 * right / (given_ + true))
    assert micro_f1(scores) == pytest.approx(sum(gold == answer for gold, answer in rows) / len(rows))
    assert macro_f1(scores) == pytest.approx(sum(score.f1 for score in scores.values()) / len(scores))


@given(st.integers(0, 400), st.integers(0, 400))
def test_wilson_solves_its_equation(hits: int, misses: int) -> None:
    count = hits + misses
    interval = wilson(hits, count)
    if not count:
        assert math.isnan(interval.value)
        return
    assert 0 <= interval.low <= interval.value <= interval.high <= 1
    for end in (interval.low, interval.high):
        if 0 < end < 1:  # |share - end| is just z standard errors of `end`
            error = math.sqrt(end * (1 - end) / count)
            assert abs(interval.value - end) / error == pytest.approx(1.959963985, abs=1e-6)


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_is_the_binomial_test(gained: int, lost: int) -> None:
    count = gained + lost
    chances = [Fraction(math.comb(count, number), 2**count) for number in range(count + 1)]
    as_rare = sum(
        (chance for number, chance in enumerate(chances) if abs(2 * number - count) >= abs(gained - lost)), Fraction(0)
    )
    assert mcnemar(gained, lost, exact=True) == pytest.approx(float(min(as_rare, Fraction(1))), abs=1e-9)
    at = float(chances[min(gained, lost)]) if count else 0.0
    mid = float(as_rare) - at if gained != lost else 1 - at
    assert mcnemar(gained, lost) == pytest.approx(min(mid, 1.0) if count else 1.0, abs=1e-9)
    assert mcnemar(gained, lost) == mcnemar(lost, gained)


@given(st.dictionaries(st.text(max_size=3), st.floats(0, 1), max_size=8))
def test_holm_corrects_step_by_step(values: dict[str, float]) -> None:
    corrected = holm(values)
    assert list(corrected) == list(values)
    ordered = sorted(values, key=values.__getitem__)
    for rank, name in enumerate(ordered):
        bound = max(min(1.0, values[one] * (len(values) - at)) for at, one in enumerate(ordered[: rank + 1]))
        assert corrected[name] == pytest.approx(bound)


# ── comparing ──


def report_of(rights: int, wrongs: int, rows: int | None = None) -> Report:
    return evaluate(task_of(answered(rights, wrongs)), gold(rows or rights + wrongs), progress=False)


def test_a_better_task_is_called_better() -> None:
    found = compare(report_of(60, 40), report_of(80, 20))
    assert (len(found.gained), len(found.lost), found.better, found.worse) == (20, 0, True, False)
    assert found.difference == share_difference(20, 0, 100)
    assert str(found).startswith("B is better by 20.0 points (13.3 to 28.9): 20 rows gained, 0 lost, p < 0.001.")
    assert found.labels["billing"][0] == pytest.approx(0.2)


def test_no_difference_reports_it_and_what_could_have_been_shown() -> None:
    found = compare(report_of(60, 40), report_of(61, 39))
    assert not found.shown
    assert str(found).startswith("no difference is shown: +1.0 points (-2.7 to +5.4): 1 row gained, 0 lost, p = 0.50.")
    assert f"{100 * detectable(1, 100):.1f} points or more" in str(found)


def test_an_interval_that_contradicts_p_is_named() -> None:
    found = compare(report_of(60, 40), report_of(64, 36))
    assert (found.shown, round(found.p, 4)) == (False, 0.0625)
    assert str(found).startswith("no difference is shown: +4.0 points (+0.2 to +9.8): 4 rows gained, 0 lost, p = 0.06.")
    assert "p = 0.06. The interval and p are two calculations, and only one of them rules out chance here" in str(found)
    other = replace(found, p=0.046, difference=Interval(0.04, -0.001, 0.1))
    assert not other.shown
    assert "p = 0.046. The interval and p are two calculations, and only one of them" in str(other)
    for rights in (61, 80):
        assert "two calculations" not in str(compare(report_of(60, 40), report_of(rights, 100 - rights)))


def test_the_interval_and_p_seldom_contradict() -> None:
    for count in range(1, 120):
        for lost in range(count // 2 + 1):
            sure = share_difference(count - lost, lost, 5_000).low > 0
            p = mcnemar(count - lost, lost)
            assert sure or p >= 0.05, "what the test finds, the interval does not deny"
            assert not sure or p < 0.065


def test_rows_are_paired_by_content_repeats_in_order_and_none_is_dropped_silently() -> None:
    rows = [*gold(3), *gold(1)]
    one = evaluate(task_of(answered(3, 0)), rows, progress=False)
    other = evaluate(task_of(answered(3, 0)), [*reversed(gold(4))], progress=False)
    found = compare(one, other)
    assert (found.rows, len(found.only_a), len(found.only_b)) == (3, 1, 1)
    assert "Left out: 1 row that only A has, 1 that only B has." in str(found)


def test_rows_of_a_cluster_change_together_and_show_less() -> None:
    rows = [{**row, "customer": str(number // 10)} for number, row in enumerate(gold(100))]
    before, after = (
        evaluate(task_of(answered(rights, 100 - rights)), rows, cluster="customer", progress=False)
        for rights in (60, 80)
    )
    found, alone = compare(before, after), compare(report_of(60, 40), report_of(80, 20))
    assert found.difference.value == alone.difference.value
    assert found.difference.high - found.difference.low > 2 * (alone.difference.high - alone.difference.low)
    assert alone.shown
    assert not found.shown  # 20 rows changed, but of two customers only: two coins fall alike every second time
    assert found.p == pytest.approx(0.5, abs=0.05)
    assert found.labels["billing"] == pytest.approx((0.2, found.p))
    assert found.detectable > 2 * alone.detectable


@pytest.mark.parametrize(("count", "shown"), [(1, False), (2, False), (5, False), (6, True)])
def test_few_clusters_show_nothing_and_the_sentence_says_so(count: int, shown: bool) -> None:
    rows = [{**row, "customer": str(number % count)} for number, row in enumerate(gold(60))]
    before, after = (
        evaluate(task_of(answered(rights, 60 - rights)), rows, cluster="customer", progress=False) for rights in (0, 30)
    )
    found = compare(before, after)
    assert found.shown == shown
    assert found.p == pytest.approx(2 ** (1 - count))
    few = f"From {count} cluster{'' if count == 1 else 's'}, no difference can be shown, however large it is"
    assert (few in str(found)) != shown
    assert f"{count} cluster{'' if count == 1 else 's'} only: intervals are wide" in str(before)


def test_clusters_that_are_alike_are_seldom_told_apart() -> None:
    random, told = Random(5), 0
    for number in range(100):
        customers = [random.choice((-1.0, 0.0, 0.0, 1.0)) for _ in range(40)]
        changes = [change for change in customers for _ in range(5)]
        told += sign_flips(changes, number, [at // 5 for at in range(200)]) < 0.05
    assert told <= 10  # 33 if each row counts as a sample of its own


def test_a_row_without_a_score_is_left_out_of_the_comparison_and_counted() -> None:
    def of_later_rows(record: Any, item: Item[Any]) -> bool:
        if record.message == "message 0":
            raise ValueError("no score")
        return bool(item.output.team == record.team)

    one, two = (
        evaluate(task_of(answered(rights, 5 - rights)), gold(5), metrics=metrics, progress=False)
        for rights, metrics in ((5, {"own": of_later_rows}), (4, {"own": lambda record, item: True}))
    )
    found = compare(one, two, "own")
    assert (found.rows, len(found.unscored), len(found.gained), len(found.lost)) == (4, 1, 0, 0)
    assert "Left out: 1 row for which own gave no score." in str(found)


def test_a_field_that_was_measured_in_another_way_is_not_compared() -> None:
    report = report_of(3, 0)
    with pytest.raises(ConfigurationError, match="team is label in A and text in B"):
        compare(report, replace(report, kinds={"team": "text"}))


def test_a_regression_fails_a_test() -> None:
    assert_no_regression(report_of(60, 40), report_of(62, 38))
    with pytest.raises(AssertionError, match=r"B is worse by 20\.0 points"):
        assert_no_regression(report_of(80, 20), report_of(60, 40))
    assert_no_regression(report_of(80, 20), report_of(60, 40), by=0.3)


def test_reports_that_cannot_be_compared() -> None:
    other = evaluate(task_of(answered(3, 0)), [{"message": "another", "team": "other"}], progress=False)
    with pytest.raises(ConfigurationError, match="no row in common"):
        compare(report_of(3, 0), other)
    with pytest.raises(ConfigurationError, match="'colour' is not in both"):
        compare(report_of(3, 0), report_of(3, 0), "colour")
    relabelled = evaluate(task_of(answered(3, 0)), gold(3, "other"), progress=False)
    with pytest.raises(ConfigurationError, match="different right answers"):
        compare(report_of(3, 0), relabelled)


# ── gold ──


@pytest.mark.parametrize(
    ("rows", "options", "words"),
    [
        ([], {}, "no gold rows"),
        ([{"message": "a", "team": ""}], {}, "1 row without gold"),
        ([{"message": "a", "team": "sales"}], {}, "gold row 1 does not fit Triage: team"),
        ([{"text": "a", "team": "other"}], {}, "no column 'message'"),
        ([{"message": "a"}], {}, "no column has right answers"),
        ([{"message": "a", "team": "other"}], {"columns": {"colour": "x"}}, "no field 'colour'"),
        ([{"message": "a", "team": "other"}], {"columns": {"team": "x"}}, "no column 'x'"),
        ([{"message": "a", "team": "other"}], {"slices": ["x"]}, "no column 'x'"),
        ([{"message": "a", "team": "other"}], {"cluster": "x"}, "no column 'x'"),
        ([{"message": "a", "team": "other"}], {"metrics": {"team": len}}, "'team' is the name of an output field"),
        (["a"], {}, "gold row 1 is 'a'"),
        ("absent.csv", {}, "absent"),
    ],
)
def test_wrong_gold_is_refused_before_any_call(rows: Any, options: dict[str, Any], words: str) -> None:
    task = task_of({})
    with pytest.raises(ConfigurationError, match=re.escape(words)):
        evaluate(task, rows, **options)
    assert task.llm.transport.calls == 0  # type: ignore[attr-defined]


def test_gold_comes_from_a_file_records_or_a_table(tmp_path: Path) -> None:
    import pandas

    (tmp_path / "gold.csv").write_text("texte;équipe\nmessage 0;billing\nmessage 1;\n", encoding="utf-8")
    columns = {"message": "texte", "team": "équipe"}
    report = evaluate(task_of(answered(1, 0)), tmp_path / "gold.csv", columns=columns, progress=False)
    assert (report.score("team").right, report.without_gold) == (1, 1)
    for rows in ([Triage(message="message 0", team="billing")], pandas.DataFrame(gold(1))):
        assert evaluate(task_of(answered(1, 0)), rows, progress=False).score("team").right == 1


def test_a_classification_is_measured_by_its_labels() -> None:
    task = Classification(llm="offline", labels={"cat": "meows", "dog": "barks"}, multi_label=True)
    rows = [{"text": "it barks", "labels": ["dog"]}, {"text": "it meows", "labels": ["cat", "dog"]}]
    report = evaluate(task, rows, progress=False)
    assert report.kinds == {"labels": "labels"}
    assert report.other_measures()["labels: Jaccard"].value == pytest.approx(0.75)
    assert report.labels("labels")["dog"].gold == 2


# ── the file and the page ──


def test_a_report_comes_back_from_its_file(tmp_path: Path) -> None:
    report = evaluate(task_of(answered(6, 3)), gold(10), progress=False)
    report.save(tmp_path / "a.json")
    assert Report.load(tmp_path / "a.json") == report


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "can't be read"), ("{", "can't be read"), ("[]", "not a report"), ('{"kind": "x"}', "not a report"),
        ('{"kind": "llmtasker report", "version": 2}', "version 2"),
        ('{"kind": "llmtasker report", "version": 1}', "not a complete report"),
        ("[" * 100_000, "can't be read"), ('{"a": 1, "a": 2}', "can't be read"),
    ],
)  # fmt: skip
def test_a_forged_report_is_refused(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "a.json").write_text(content, encoding="utf-8")
    with pytest.raises(ConfigurationError, match=words):
        Report.load(tmp_path / "a.json")


def test_a_report_that_was_cut_or_changed_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    report_of(2, 1).save(path)
    data = json.loads(path.read_text(encoding="utf-8"))
    for wrong in ({**data, "rows": [{}]}, {**data, "kinds": {"team": "x"}}, {**data, "rows": 7}):
        path.write_text(json.dumps(wrong), encoding="utf-8")
        with pytest.raises(ConfigurationError, match="not a complete report"):
            Report.load(path)


@pytest.mark.parametrize("ending", ["html", "md", "txt"])
def test_a_report_is_written_for_people(tmp_path: Path, ending: str) -> None:
    rows = [{**row, "channel": "<b>web</b>"} for row in gold(10)]
    report = evaluate(task_of(answered(6, 3)), rows, slices=["channel"], progress=False)
    path = tmp_path / f"a.{ending}"
    report.write(path)
    text = path.read_text(encoding="utf-8")
    assert "60.0 %" in text
    assert "billing" in text
    if ending == "html":
        assert "<b>web</b>" not in text
        assert "http" not in text
        assert "<script" not in text
    with pytest.raises(ConfigurationError, match=r"\.pdf"):
        report.write(tmp_path / "a.pdf")


def test_confusions_are_counted() -> None:
    report = evaluate(task_of(answered(6, 3)), gold(10), progress=False)
    assert report.confusion("team") == Counter(
        {("billing", "billing"): 6, ("billing", "other"): 3, ("billing", None): 1}
    )
    assert [row.error is None for row in report.worst("team")] == [True, True, True, False]


# ── on the command line ──

FILE = """
from llmtasker import Classification
task = Classification(llm="offline", labels={"cat": "meows, purrs", "dog": "barks, howls"}, examples=EXAMPLES)
"""


def command(*arguments: str, code: int = 0) -> str:
    sys.argv = ["llmtasker", *arguments]
    with contextlib.redirect_stdout(io.StringIO()) as out, pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == code, out.getvalue()
    return out.getvalue()


def test_the_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [
        f"it {'barks' if number % 2 else 'meows'} {number};{'dog' if number % 2 else 'cat'}" for number in range(20)
    ]
    Path("gold.csv").write_text("texte;animal\n" + "\n".join(rows), encoding="utf-8")
    right, wrong = '{"barks": "dog", "meows": "cat"}', '{"barks": "cat", "meows": "dog"}'
    Path("a.py").write_text(FILE.replace("EXAMPLES", right), encoding="utf-8")
    Path("b.py").write_text(FILE.replace("EXAMPLES", wrong).replace("meows, purrs", "").replace("barks, howls", ""))
    for name in ("a", "b"):
        arguments = ("--column", "texte", "--gold", "animal", "-o", f"{name}.json", "-o", f"{name}.html")
        assert "label: accuracy" in command("evaluate", f"{name}.py:task", "gold.csv", *arguments)
    assert "accuracy 100.0 %" in str(Report.load("a.json"))
    assert "B is worse by" in command("compare", "a.json", "b.json", code=1)
    assert "B is better by" in command("compare", "b.json", "a.json")
    command("compare", "a.json", "absent.json", code=2)
    command("evaluate", "a.py:task", "gold.csv", "--gold", "x=y", code=2)


# ── asked several times; judged by an LLM ──


def test_rows_that_flip_by_themselves_are_counted(tmp_path: Path) -> None:
    asked = Counter[str]()

    def answer(request: Request) -> Any:
        text = last_user_text(request)
        asked[text] += 1
        flips, number = text == "message 3", int(text.removeprefix("message "))
        return "nonsense" if number == 4 else {"team": "other" if flips and asked[text] == 2 else "billing"}

    task = Task(Triage, llm=LLM(transport=FakeTransport(answer), cache=str(tmp_path)), attempts=1)
    report = evaluate(task, gold(5), samples=3, progress=False)
    assert set(asked.values()) == {3}
    flips = report.flips("team")
    assert flips == wilson(1, 5)
    assert report.by_sample("team") == [0.8, 0.6, 0.8]
    assert "team: 20.0 % (3.6 to 62.4) of rows get different answers when asked 3 times; the figure" in str(report)
    assert "5 rows asked now, 0 from the cache" in str(report)
    assert str(report).endswith(", for the first of 3 rounds")
    report.save(tmp_path / "a.json")
    assert Report.load(tmp_path / "a.json") == report
    again = evaluate(task, gold(4), samples=3, progress=False)
    assert sum(asked.values()) == 15
    assert again.flips("team") == wilson(1, 4)
    assert evaluate(task, gold(4), progress=False).flips("team") is None
    with pytest.raises(ConfigurationError, match="the answers to ask for"):
        evaluate(task, gold(4), samples=0)


class Verdict(Signature):
    """Say whether the team is a good choice."""

    message: str = InputField()
    team: str = InputField()
    right_team: str = InputField()
    good: bool = OutputField()


def test_a_judge_is_a_task_that_scores() -> None:
    def verdict(request: Request) -> Any:
        text = last_user_text(request)
        if "message 2" in text:
            raise ConnectionError("gone")
        return {"good": text.count("billing") == 2}

    judging = Task(Verdict, llm=LLM(transport=FakeTransport(verdict), cache=False, retry=Retry(attempts=1)))
    own = judge(judging)
    report = evaluate(task_of(answered(6, 3)), gold(10), metrics={"good": own}, progress=False)
    score = report.score("good")
    assert (score.right, score.wrong, score.failed, score.rows) == (5, 3, 1, 9)
    assert (report.broken, report.errors) == ({"good": 1}, {"good": "CallError"})
    assert report.judged["good"].calls == 9
    assert "good: judged in 9 calls" in str(report)
    people = [
        {"message": "m", "team": "billing", "right_team": "billing", "good": True},
        {"message": "n", "team": "other", "right_team": "billing", "good": True},
    ]
    assert evaluate(judging, people, progress=False).score("good").right == 1
    item = task_of({"message 0": "billing"})("message 0")
    record = Triage(message="message 0", team="billing")
    assert own(record, item) == 1.0


def test_a_judge_needs_a_score_and_fields_that_are_there() -> None:
    class Grade(Signature):
        """Grade it."""

        reply: str = InputField()
        grade: Literal["good", "bad"] = OutputField()
        why: str = OutputField()

    task = Task(Grade, llm=LLM(transport=FakeTransport({"grade": "bad", "why": "?"}), cache=False))
    with pytest.raises(ConfigurationError, match="labels need points"):
        judge(task)
    with pytest.raises(ConfigurationError, match="no output 'x'"):
        judge(task, output="x")
    with pytest.raises(ConfigurationError, match="why is neither a number"):
        judge(task, output="why")
    points = {"good": 1, "bad": 0.25}
    with pytest.raises(ConfigurationError, match="the judge needs 'reply'; known: message, team, right_team"):
        evaluate(task_of(answered(2, 0)), gold(2), metrics={"g": judge(task, points=points)}, progress=False)
    asked = judge(task, points=points, inputs=lambda gold, item: {"reply": item.output.team})
    report = evaluate(task_of(answered(2, 0)), gold(2), metrics={"g": asked}, progress=False)
    assert report.score("g").interval.value == 0.25


def test_several_labels_have_a_hamming_loss() -> None:
    class Topics(Signature):
        """Name the topics."""

        text: str = InputField()
        topics: list[Literal["a", "b", "c", "d"]] = OutputField()

    task = Task(Topics, llm=LLM(transport=FakeTransport({"topics": ["a", "b"]}), cache=False))
    report = evaluate(task, [{"text": "1", "topics": ["a", "c"]}, {"text": "2", "topics": ["b", "a"]}], progress=False)
    assert report.other_measures()["topics: Hamming loss"].value == pytest.approx(0.25)
    assert report.other_measures()["topics: Jaccard"].value == pytest.approx(2 / 3)


def test_the_exact_form_of_the_test_can_be_asked_for() -> None:
    before, after = report_of(60, 40), report_of(68, 32)
    assert compare(before, after).p == mcnemar(8, 0)
    assert compare(before, after, exact=True).p == mcnemar(8, 0, exact=True)
    assert mcnemar(8, 0, exact=True) == pytest.approx(2 / 2**8)


class Quoted(Triage):
    """Route a customer message."""

    quote: str = OutputField()

    @model_validator(mode="after")
    def quote_is_verbatim(self) -> Self:
        if self.quote not in self.message:
            raise ValueError("quote must be copied from the message")
        return self

    @field_validator("quote")
    @classmethod
    def without_spaces(cls, value: str) -> str:
        return value.strip()


def test_gold_of_a_signature_that_checks_the_whole_record() -> None:
    llm = LLM(transport=FakeTransport({"team": "billing", "quote": "sage"}), cache=False)
    task = Task(Quoted, llm=llm)
    assert evaluate(task, gold(2), progress=False).score("team").right == 2  # the quote is not measured
    whole = [{**row, "quote": " message "} for row in gold(2)]
    assert evaluate(task, whole, progress=False).rows[0].gold == {"team": "billing", "quote": "message"}
    with pytest.raises(ConfigurationError, match="gold row 1 does not fit Quoted: quote must be copied"):
        evaluate(task, [{**gold(1)[0], "quote": "parcel"}])
    alone = [{"message": "a b", "quote": " a "}]
    assert evaluate(task.with_(llm=llm), alone, progress=False).rows[0].gold == {"quote": "a"}


def test_an_evaluation_of_cached_rows_does_little_more_than_a_run(tmp_path: Path) -> None:
    """Counted in calls of functions, short ones like long ones; `benchmarks/evaluation.py` measures the CPU: 1.3."""
    rows = gold(400)
    task = task_of({row["message"]: "billing" for row in rows}, cache=str(tmp_path))
    inputs = [{"message": row["message"]} for row in rows]
    evaluate(task, rows, progress=False)

    async def done(work: Any) -> None:
        await work

    def calls(work: Any) -> int:
        profile = cProfile.Profile()
        profile.runcall(asyncio.run, done(work))
        return sum(entry.callcount for entry in profile.getstats())

    calls(task.arun(inputs, progress=False))
    run, evaluation = calls(task.arun(inputs, progress=False)), calls(aevaluate(task, rows, progress=False))
    assert evaluation <= 1.5 * run


def test_a_report_shows_no_text_of_a_row_by_itself() -> None:
    """Its `repr` appears in notebooks and tracebacks, which are passed on."""
    report = evaluate(task_of(answered(6, 3)), gold(10), progress=False)
    texts = {row.given["message"] for row in report.rows}
    shown = repr(report) + repr(report.rows) + repr(compare(report, report))
    assert not [text for text in texts if text in shown]
    assert len(repr(report)) < 400


@pytest.mark.parametrize("answer", [{"amount": 7}, {"amount": 7, "tone": "calm"}], ids=["one field", "two"])
def test_an_instruction_with_named_fields_is_measured_field_by_field(answer: dict[str, Any]) -> None:
    kinds: dict[str, type] = {"amount": int, "tone": str}
    llm = LLM(transport=FakeTransport(lambda _: answer), cache=False)
    task = Instruction(llm=llm, instructions="Read it.", output={name: kinds[name] for name in answer})
    assert task.answer(task("34 euros")) == answer
    report = evaluate(task, [{"text": "34 euros", **answer}])
    assert [report.score(name).right for name in answer] == [1] * len(answer)


@pytest.mark.parametrize("message", ["", "  ", None, 7.5, ["a"]])
def test_an_input_that_does_not_fit_is_a_failed_row(message: Any) -> None:
    rows = [*gold(2), {"message": message, "team": "billing"}]
    task = task_of({"message 0": "billing", "message 1": "billing"})
    report = evaluate(task, rows, progress=False)
    assert [row.error and row.error[0] for row in report.rows] == [None, None, "input"]
    assert "of 3 rows: 2 right, 0 wrong, 1 failed" in str(report)
    found = compare(report, report)
    assert (found.rows, found.only_a, found.only_b) == (3, (), ())


def test_inputs_of_which_none_fits_are_failed_rows_too() -> None:
    report = evaluate(task_of({}), [{"message": "", "team": "other"}], progress=False)
    assert [row.error and row.error[0] for row in report.rows] == ["input"]


@pytest.mark.parametrize(
    ("text", "failed", "without"),
    [
        ("team,message\nbilling,message 0,more\nbilling,message 0\n", 1, 0),  # the first row, whose gold can be read
        ("message,team\nmessage 0,billing\nmessage 0, and more,billing\n", 0, 1),  # its gold is in the wrong column
    ],
)
def test_a_broken_row_of_a_file_does_not_stop_the_others(tmp_path: Path, text: str, failed: int, without: int) -> None:
    path = tmp_path / "gold.csv"
    path.write_text(text, encoding="utf-8")
    report = evaluate(task_of({"message 0": "billing"}), path, progress=False)
    assert sum(row.error is not None and row.error[0] == "input" for row in report.rows) == failed
    assert (len(report.rows), report.without_gold) == (1 + failed, without)


def test_bad_gold_beside_a_bad_input_is_an_error() -> None:
    with pytest.raises(ConfigurationError, match="gold row 1 does not fit Triage: team"):
        evaluate(task_of({}), [{"message": "", "team": "sales"}], progress=False)


def _changed(data: dict[str, Any], part: str, value: Any) -> dict[str, Any]:
    first, *others = data["rows"]
    return {**data, "rows": [{**first, part: value}, *others]}


@pytest.mark.parametrize(
    ("part", "value", "message"),
    [
        ("gold", {}, "row 1 lacks a field"),
        ("answer", {}, "row 1 lacks a field"),
        ("answer", None, "neither an answer nor an error"),
        ("error", ["invalid", "x"], "both an answer and an error"),
        ("slices", {"a": "b"}, "other slices than the first"),
        ("scores", {"letter": 7}, "row 1 has a score of a field that is not between 0 and 1"),
        ("samples", [{"answer": {"letter": "a"}, "scores": {"letter": -1}}], "not between 0 and 1"),
        ("samples", [{"answer": {}, "scores": {}}], "row 1 lacks a field"),
        ("samples", [{"answer": {"letter": "a"}, "scores": {}}], "row 2 was asked more or less often"),
        ("scores", {"letter": 1.0, "own": 1e300}, "row 1 has a score that is too large"),
        ("tokens", -1, "row 1 has tokens, calls, cost or latency below 0"),
    ],
)
def test_a_report_whose_parts_do_not_fit_is_refused(part: str, value: Any, message: str, tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    evaluate(_always("a"), _letters("ab")).save(file)
    file.write_text(json.dumps(_changed(json.loads(file.read_text()), part, value)))
    with pytest.raises(ConfigurationError, match=message):
        Report.load(file)


class _Letter(Signature):
    """Name the letter."""

    text: str = InputField()
    letter: Literal["a", "b"] = OutputField()


def _always(letter: str) -> Task[_Letter]:
    return Task(_Letter, llm=LLM(transport=FakeTransport({"letter": letter}), cache=False))


def _letters(letters: str) -> list[dict[str, Any]]:
    return [{"text": f"{at}", "letter": letter, "k": "one"} for at, letter in enumerate(letters)]


def test_figures_that_cannot_be_had_are_reported_in_words(tmp_path: Path) -> None:
    metrics: dict[str, Any] = {"none": lambda _gold, _item: None, "words": lambda _gold, _item: 42.5}
    report = evaluate(_always("a"), _letters("aab"), metrics=metrics, cluster="k")
    text = str(report)
    assert "letter: accuracy 66.7 % (no interval from one row or cluster) of 3 rows" in text
    assert "none: no row has a score" in text
    alone = replace(report, rows=(replace(report.rows[0], scores={"letter: error": 2.0}),), metrics=())
    assert "letter: error 2.000 (no interval from one row or cluster)" in str(alone)
    report.write(tmp_path / "report.md")
    evaluate(_always("a"), _letters("bb")).write(tmp_path / "none.md")
    text += (tmp_path / "report.md").read_text() + (tmp_path / "none.md").read_text()
    report.write(tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert '<span class="big">42.500</span>' in page, "a number that is no share is not in percent"
    assert "nan" not in text + page + str(compare(report, report))
