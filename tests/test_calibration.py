"""calibrate: temperature, refusal, thresholds that keep a promised risk, and their statistics."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import accumulate
from pathlib import Path
from random import Random
from typing import Any, Literal

import pytest
from scipy.optimize import minimize_scalar
from scipy.stats import beta, binom
from sklearn.metrics import roc_auc_score

from llmtasker import LLM, Classification, InputField, OutputField, Signature, Task
from llmtasker.confidence import Calibration, Confidence
from llmtasker.confidence.calibration_figures import CalibrationPoint, calibrated, calibration_error
from llmtasker.errors import AbstainedError, ConfigurationError
from llmtasker.evaluation import calibrate, cascade, evaluate
from llmtasker.evaluation.calibration_fit import ScoredRow, fit_calibration, with_threshold
from llmtasker.evaluation.confidence_fit import auroc, fit_temperature, logistic_fit
from llmtasker.evaluation.risk_control import (
    at_most,
    first_rows,
    first_trial,
    keep_risk,
    least_rows,
    most_errors,
    risk_trials,
    rows_needed,
    upper_bound,
)
from llmtasker.testing import FakeTransport
from llmtasker.wire.completion import Completion
from llmtasker.wire.request import Request
from llmtasker.wire.request_reader import last_user_text

Points = list[tuple[float, bool]]

# ── closed forms, against scipy and scikit-learn ──


@pytest.mark.parametrize("seed", range(40))
def test_bounds_are_those_of_scipy(seed: int) -> None:
    random = Random(seed)
    rows = random.randint(1, 3_000)
    errors, certainty, risk = random.randint(0, rows), random.uniform(0.5, 0.99), random.uniform(0.005, 0.4)
    if errors < rows:
        assert upper_bound(errors, rows, certainty) == pytest.approx(
            beta.ppf(certainty, errors + 1, rows - errors), abs=1e-9
        )
    assert at_most(errors, rows, risk) == pytest.approx(binom.cdf(errors, rows, risk), abs=1e-9)
    most = most_errors(rows, risk, certainty)
    assert most == -1 or binom.cdf(most, rows, risk) <= 1 - certainty
    assert most + 1 >= rows or binom.cdf(most + 1, rows, risk) > 1 - certainty
    least = least_rows(risk, certainty)
    assert upper_bound(0, least, certainty) <= risk < upper_bound(0, max(least - 1, 0), certainty) + 1e-12


@pytest.mark.parametrize("seed", range(20))
def test_the_area_is_that_of_scikit_learn(seed: int) -> None:
    random = Random(seed)
    points = [(round(random.random(), 1), random.random() < 0.7) for _ in range(random.randint(5, 300))]
    points += [(0.5, True), (0.5, False)]
    area = auroc(points)
    assert area is not None
    assert area.value == pytest.approx(
        roc_auc_score([hit for _, hit in points], [value for value, _ in points]), abs=1e-9
    )
    assert area.low <= area.value <= area.high
    assert auroc([(0.5, True)]) is None


@pytest.mark.parametrize("seed", range(10))
def test_the_temperature_is_the_best_one(seed: int) -> None:
    random = Random(seed)
    rows = []
    for _ in range(200):
        weights = [random.random() ** 4 + 1e-6 for _ in range(4)]
        shares = {label: weight / sum(weights) for label, weight in zip("abcd", weights, strict=True)}
        rows.append((shares, random.choices("abcd", [share**0.4 for share in shares.values()])[0]))

    def loss(log_temperature: float) -> float:
        temperature = math.exp(log_temperature)
        made = [calibrated(shares, temperature=temperature, floor=0, priors={})[right] for shares, right in rows]
        return -sum(map(math.log, made))

    best = minimize_scalar(loss, bounds=(-3, 3), method="bounded", options={"xatol": 1e-9}).x
    assert math.log(fit_temperature(rows, 0, {})) == pytest.approx(best, abs=1e-4)


def test_the_curve_is_that_of_maximum_likelihood() -> None:
    random = Random(1)
    values = [random.gauss(0, 2) for _ in range(5_000)]
    right = [random.random() < 1 / (1 + math.exp(-(0.5 + 1.2 * value))) for value in values]
    assert logistic_fit(values, right) == pytest.approx((0.5, 1.2), abs=0.1)
    assert all(map(math.isfinite, logistic_fit([1.0, 2.0, 3.0], [False, True, True]))), "separable"


def test_the_error_of_a_calibration_is_the_mean_gap_over_bins() -> None:
    assert calibration_error([(1.0, True), (1.0, False), (0.05, False), (0.0, False)]) == pytest.approx(
        0.5 * 0.5 + 0.5 * 0.025
    )
    assert calibration_error([]) == 0


# ── simulated LLMs ──


def calibrated_rows(random: Random, count: int, a: float, b: float) -> list[ScoredRow]:
    """Rows of an LLM that is right as often as its confidence says."""
    found = []
    for _ in range(count):
        sure = random.betavariate(a, b)
        shares = {"yes": sure, "no": 1 - sure}
        found.append(ScoredRow(shares, "yes" if random.random() < sure else "no", "yes"))
    return found


def normal_rows(random: Random, count: int, accuracy: float, distance: float) -> list[ScoredRow]:
    """Rows of an LLM whose confidence is a score, not a probability."""
    found = []
    for _ in range(count):
        right = random.random() < accuracy
        sure = 1 / (1 + math.exp(-random.gauss(distance * right, 1)))
        found.append(ScoredRow({"yes": sure, "no": 1 - sure}, "yes" if right else "no", "yes"))
    return found


def plateau_rows(random: Random, count: int) -> list[ScoredRow]:
    """Rows whose surer half is wrong in slightly more than 5 % of cases, at any confidence."""
    found = []
    for _ in range(count):
        sure = random.random()
        right = random.random() < (0.945 if sure > 0.4 else 0.5)
        found.append(ScoredRow({"yes": sure, "no": 1 - sure}, "yes" if right else "no", "yes"))
    return found


Rows = Callable[[Random, int], list[ScoredRow]]
POPULATIONS: dict[str, Rows] = {
    "70 % right, calibrated": lambda random, count: calibrated_rows(random, count, 2, 0.86),
    "92 % right, calibrated": lambda random, count: calibrated_rows(random, count, 5, 0.43),
    "80 % right, a score": lambda random, count: normal_rows(random, count, 0.8, 1.5),
    "90 % right, a weak score": lambda random, count: normal_rows(random, count, 0.9, 1.0),
    "a plateau at 5.5 %": plateau_rows,
}
SURE = Confidence(source="logprobs")


def points_of(rows: list[ScoredRow]) -> Points:
    return [(row.shares["yes"], row.right == "yes") for row in rows]


class Population:
    """Many rows, which show the true risk above a threshold."""

    def __init__(self, draw: Rows) -> None:
        points = sorted(points_of(draw(Random(98), 50_000)), key=lambda point: -point[0])
        self.confidences = [-confidence for confidence, _ in points]
        self.errors = list(accumulate(not right for _, right in points))

    def above(self, threshold: float) -> tuple[float, float]:
        """The share of rows that are answered, and of these the share of errors."""
        count = bisect_right(self.confidences, -threshold)
        return count / len(self.errors), self.errors[count - 1] / count if count else 0.0

    def oracle(self, risk: float) -> float:
        return max((n for n, errors in enumerate(self.errors, 1) if errors <= risk * n), default=0) / len(self.errors)


@pytest.mark.parametrize("name", POPULATIONS)
def test_a_promised_risk_is_kept(name: str) -> None:
    """Seldom broken on 200 slices of 500 rows; benchmarks/confidence.py has 2,000 of each."""
    draw, slices = POPULATIONS[name], 200
    population, broken, answered = Population(draw), 0, list[float]()
    for number in range(slices):
        kept = keep_risk(points_of(draw(Random(number), 500)), 0.05, 0.9)
        share, risk = (0.0, 0.0) if kept is None else population.above(kept.threshold)
        answered.append(share)
        broken += risk > 0.05
    assert broken <= 0.1 * slices
    # Of the weak score no valid rule answers half of an oracle's rows in clearly more than half of the slices (53 %).
    if population.oracle(0.05) > 0.5 and name != "90 % right, a weak score":
        assert sorted(answered)[slices // 2] >= 0.5 * population.oracle(0.05)


PLATEAUS: dict[str, Callable[[Random], float]] = {
    "any confidence": lambda random: random.random(),
    "two values": lambda random: 0.9 if random.random() < 0.6 else 0.05,
    "votes out of 5": lambda random: random.choices([1.0, 0.8, 0.6, 0.05], [5, 2, 2, 1])[0],
}


@pytest.mark.parametrize("name", PLATEAUS)
def test_a_promise_is_kept_where_confidence_says_nothing_among_the_surest(name: str) -> None:
    """The surest rows are wrong in just over 5 %, at any confidence: every threshold there breaks the promise.

    Only the confidences are drawn; how likely the first threshold passes, given these, is computed.
    """
    chances, slices = list[float](), 100
    for number in range(slices):
        random, points = Random(number), Points()
        for _ in range(500):
            sure = PLATEAUS[name](random)
            points.append((sure, random.random() >= (0.0501 if sure > 0.1 else 0.2)))
        ordered = sorted(points, key=lambda point: -point[0])
        trials = risk_trials(ordered, 0.05, 0.9)
        first = first_trial(trials, 500, 0.05, 0.9)
        assert first is not None
        rows, errors, allowed = trials[first]
        assert ordered[rows - 1][0] > 0.1, "it is on the plateau"
        assert errors == sum(not right for _, right in ordered[:rows])
        assert (keep_risk(points, 0.05, 0.9) is None) == (errors > allowed)
        chances.append(at_most(allowed, rows, 0.0501))
    assert 0.05 <= sum(chances) / slices <= 0.1


def test_the_first_threshold_does_not_depend_on_errors() -> None:
    assert first_rows(500, 0.05, 0.9) == 158, "four errors are allowed among so many"
    points: Points = [(1 - n / 1000, n != 0) for n in range(500)]
    kept = keep_risk(points, 0.05, 0.9)
    assert kept is not None
    assert kept.rows == 500
    assert keep_risk([(1 - n / 1000, n % 20 != 0 or n >= 200) for n in range(500)], 0.05, 0.9) is None


def test_a_threshold_as_seen_would_break_it() -> None:
    """Why the bound is needed: the lowest threshold with 5 % observed errors breaks the promise half of the time."""
    draw = POPULATIONS["70 % right, calibrated"]
    population, broken = Population(draw), 0
    for number in range(100):
        points = sorted(points_of(draw(Random(number), 500)), key=lambda point: -point[0])
        errors, lowest = 0, 1.0
        for count, (sure, right) in enumerate(points, start=1):
            errors += not right
            lowest = sure if errors <= 0.05 * count else lowest
        broken += population.above(lowest)[1] > 0.05
    assert broken > 40


def test_a_confidence_without_information_is_refused() -> None:
    random, refused = Random(0), 0
    for _ in range(40):
        rows = []
        for _ in range(200):
            sure = random.uniform(0.5, 1)
            rows.append(ScoredRow({"yes": sure, "no": 1 - sure}, "yes" if random.random() < 0.7 else "no", "yes"))
        try:
            fit_calibration(rows, SURE)
        except ConfigurationError as error:
            refused += "does not separate right from wrong answers" in str(error)
    assert refused >= 37


def test_a_confidence_that_is_lower_for_right_answers_is_refused() -> None:
    rows = [ScoredRow({"yes": 0.6, "no": 0.4}, "yes", "yes")] * 50 + [
        ScoredRow({"yes": 0.9, "no": 0.1}, "no", "yes")
    ] * 50
    with pytest.raises(ConfigurationError, match=r"AUROC 0\.00"):
        fit_calibration(rows, SURE)


# ── too few rows ──


def test_how_many_rows_are_needed_is_reported() -> None:
    rows = calibrated_rows(Random(3), 30, 5, 0.43)
    with pytest.raises(ConfigurationError, match="at least 45 answered rows without an error, and there are 30"):
        with_threshold(fit_calibration(rows, SURE), 0.05, 0.9)
    points: Points = [(0.5 + n / 400, n % 25 != 0) for n in range(200)]
    with pytest.raises(ConfigurationError, match=r"200 answered rows are too few\. About [0-9,]+ may be enough"):
        with_threshold(calibration(points), 0.045, 0.99)
    with pytest.raises(ConfigurationError, match="wrong too often"):
        with_threshold(calibration([(0.5 + n / 400, n % 3 != 0) for n in range(200)]), 0.05, 0.9)


def calibration(points: Points) -> Calibration:
    return Calibration(
        temperature=1,
        floor=0,
        asked="",
        rows=len(points),
        points=tuple(CalibrationPoint(p, p, hit) for p, hit in points),
    )


def test_as_many_rows_as_are_said_to_be_needed_do() -> None:
    points: Points = [(row.shares["yes"], row.right == "yes") for row in calibrated_rows(Random(2), 100, 5, 0.43)]
    needed = rows_needed(points, 0.03, 0.9)
    assert needed is not None
    kept = 0
    for number in range(40):
        rows = calibrated_rows(Random(number), needed, 5, 0.43)
        kept += keep_risk([(row.shares["yes"], row.right == "yes") for row in rows], 0.03, 0.9) is not None
    assert kept >= 20


def test_without_an_error_all_rows_are_answered() -> None:
    points: Points = [(0.5 + n / 200, True) for n in range(60)]
    kept = keep_risk(points, 0.05, 0.9)
    assert kept is not None
    assert (kept.rows, kept.errors, kept.threshold) == (60, 0, 0.5)
    assert keep_risk([], 0.05, 0.9) is None


# ── a task ──

LABELS = ["billing", "delivery", "other"]


def answers(request: Request) -> Completion:
    """An LLM that is too sure: where it gives 99 %, 80 % are right, and where it gives 60 %, half."""
    number = int(last_user_text(request).split()[-1])
    first = 0.99 if number % 2 else 0.6
    top = [("A", first), ("B", (1 - first) * 0.7), ("C", (1 - first) * 0.3)]
    return Completion(text="A", top_logprobs=tuple((token, math.log(share)) for token, share in top))


def labelled(count: int) -> list[dict[str, str]]:
    """Rows of which the sure half has 4 % errors."""
    rows = []
    for number in range(count):
        wrong = number % 50 == 1 if number % 2 else number % 4 == 0
        rows.append({"text": f"message {number}", "label": "delivery" if wrong else "billing"})
    return rows


class Numbers(Signature):
    """Count."""

    text: str = InputField()
    one: int = OutputField()
    two: int = OutputField()


@pytest.fixture
def task() -> Classification:
    return Classification(llm=LLM("fake", transport=FakeTransport(answers)), labels=LABELS, confidence="logprobs")


def test_a_calibrated_task_keeps_its_promise_and_says_what_it_is(task: Classification, tmp_path: Path) -> None:
    sure = calibrate(task, labelled(400), max_risk=0.1)
    assert isinstance(sure, Classification)
    item, other = sure("message 3"), sure("message 2")
    assert item.confidence_source == "logprobs, calibrated"
    assert item.confidence is not None
    assert item.confidence["billing"] == pytest.approx(0.96, abs=0.03)
    assert isinstance(other.error, AbstainedError)
    assert other.error.guess == "billing"
    fitted = sure.calibration
    assert fitted is not None
    assert (fitted.answered, fitted.wrong, fitted.rows) == (200, 8, 400)
    before, after = fitted.ece
    assert after < before
    assert str(fitted).splitlines()[-1].startswith("promised: at most 10 % of the answers wrong; the upper bound is ")
    sure.save(tmp_path / "sure.json")
    assert Classification.load(tmp_path / "sure.json", llm=task.llm).calibration == fitted
    report = evaluate(sure, labelled(100))
    assert report.failures == {"abstained": 50}


def test_the_page_of_a_calibration_is_one_file_with_its_drawings(task: Classification, tmp_path: Path) -> None:
    fitted = calibrate(task, labelled(400), max_risk=0.1).calibration
    assert fitted is not None
    fitted.write(tmp_path / "calibration.html")
    page = (tmp_path / "calibration.html").read_text()
    assert page.count("<svg") == 2
    assert "reliability: expected calibration error" in page
    assert "risk by coverage: 200 of 400 rows answered, 8 wrong" in page
    assert "http" not in page, "nothing is fetched"


def test_calibrating_needs_no_confidence_beforehand() -> None:
    count = iter(range(10_000))

    def vote(request: Request) -> dict[str, str]:
        number = int(last_user_text(request).split()[-1])
        return {"label": LABELS[0] if number % 2 else LABELS[next(count) % 2]}

    plain = Classification(llm=LLM("fake", transport=FakeTransport(vote)), labels=LABELS)
    sure = calibrate(plain, labelled(100))
    assert sure("message 1").confidence_source == "votes, calibrated"
    assert plain.calibration is None


class Tags(Signature):
    """Name all that the message is about."""

    text: str = InputField()
    tags: list[Literal["price", "delay", "praise"]] = OutputField()
    note: str = OutputField()


def _tagged(request: Request) -> dict[str, Any]:
    """Votes for praise are too rare, and votes for delay too many; the number of a message determines the truth."""
    number = int(last_user_text(request).split()[-1])
    votes = _ASKED[number] = _ASKED[number] + 1
    tags = ["price"] if number % 2 else []
    tags += ["praise"] if number % 3 == 0 and votes % 4 == 0 else []
    tags += ["delay"] if number % 5 == 0 or votes % 2 == 0 else []
    return {"tags": tags, "note": "as written"}


_ASKED = Counter[int]()


def _rows_with_tags(numbers: Iterable[int]) -> list[dict[str, Any]]:
    kinds = {"price": 2, "praise": 3, "delay": 5}
    right = {"price": 1, "praise": 0, "delay": 0}
    return [
        {"text": f"message {n}", "tags": [tag for tag, by in kinds.items() if n % by == right[tag]], "note": "x"}
        for n in numbers
    ]


def test_each_of_several_labels_has_a_threshold(tmp_path: Path) -> None:
    llm = LLM("fake", transport=FakeTransport(_tagged), cache=tmp_path / "cache")
    task = Task(Tags, llm=llm, confidence=Confidence(source="votes", samples=8))
    before = evaluate(task, _rows_with_tags(range(300, 400))).score("tags").interval.value
    sure = calibrate(task, _rows_with_tags(range(200)))
    fitted = sure.calibration
    assert fitted is not None
    assert fitted.least_shares["praise"] < 0.3, "the votes for it are few"
    assert fitted.least_shares["delay"] > 0.7, "the votes for it are many"
    assert "a label is given from this share of the votes: price 50 %" in str(fitted)
    after = evaluate(sure, _rows_with_tags(range(300, 400))).score("tags").interval.value
    assert before < 0.7
    assert after > 0.85
    item = sure("message 330")
    assert item.output is not None
    assert (sorted(item.output.tags), item.output.note) == (["delay", "praise"], "as written")
    sure.save(tmp_path / "sure.json")
    assert Task.load(tmp_path / "sure.json", llm=llm, signature=Tags).calibration == fitted


def test_several_labels_are_promised_together() -> None:
    random = Random(5)

    def vote(request: Request) -> dict[str, Any]:
        hard = int(last_user_text(request).split()[-1]) % 4 == 0
        return {"tags": ["price"] if not hard or random.random() < 0.5 else ["delay"], "note": ""}

    task = Task(Tags, llm=LLM("fake", transport=FakeTransport(vote), cache=False), confidence="votes")
    rows = [{"text": f"message {n}", "tags": ["price"], "note": ""} for n in range(200)]
    sure = calibrate(task, rows, max_risk=0.05)
    assert sure("message 3").ok
    abstained = [sure(f"message {4 * n}") for n in range(20)]
    assert any(isinstance(item.error, AbstainedError) for item in abstained)


def test_what_several_labels_do_not_take_is_refused() -> None:
    task = Task(Tags, llm=LLM("fake", transport=FakeTransport(_tagged)), confidence="votes")
    with pytest.raises(ConfigurationError, match="is only for a field with one label"):
        calibrate(task, _rows_with_tags(range(40)), method="batch")
    with pytest.raises(ConfigurationError, match="a cascade answers a field with one label"):
        cascade([task, task], _rows_with_tags(range(40)), max_risk=0.1)


def test_columns_have_their_own_names(task: Classification) -> None:
    rows = [{"body": row["text"], "team": row["label"]} for row in labelled(100)]
    assert calibrate(task, rows, columns={"text": "body", "label": "team"}).calibration is not None


def test_batch_calibration_corrects_an_llm_that_prefers_a_label() -> None:
    def prefers(request: Request) -> Completion:
        number = int(last_user_text(request).split()[-1])
        b = (0.45 if number % 7 else 0.2) if number % 2 else (0.1 if number % 5 else 0.3)
        return Completion(text="A", top_logprobs=(("A", math.log(1 - b)), ("B", math.log(b))))

    rows = [{"text": f"message {n}", "label": "billing" if n % 2 == 0 else "delivery"} for n in range(100)]
    task = Classification(llm=LLM("fake", transport=FakeTransport(prefers)), labels=LABELS[:2], confidence="logprobs")
    assert evaluate(task, rows).score("label").interval.value == 0.5
    better = calibrate(task, rows, method="batch")
    assert evaluate(better, rows).score("label").interval.value > 0.8
    assert better.calibration is not None
    assert better.calibration.priors


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_risk": 5}, "max_risk is a share"),
        ({"certainty": 1}, "certainty is a share"),
        ({"method": "platt"}, "method is one of"),
        ({"slices": ["a"]}, "no argument 'slices'"),
        ({"max_risk": 0.001}, "at least 2,302 answered rows"),
    ],
)
def test_wrong_arguments_are_refused(task: Classification, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        calibrate(task, labelled(50), **options)


def test_rows_that_cannot_be_used_are_refused(task: Classification) -> None:
    with pytest.raises(ConfigurationError, match="no gold rows"):
        calibrate(task, [])
    with pytest.raises(ConfigurationError, match="no output field has labels"):
        calibrate(Task(Numbers, llm=task.llm), [{"text": "a", "one": 1, "two": 2}])
    silent = task.with_(llm=LLM("fake", transport=FakeTransport("A")))
    with pytest.raises(ConfigurationError, match="the first error is: the endpoint returns no token probabilities"):
        calibrate(silent, labelled(4))
