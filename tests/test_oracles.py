"""Every closed-form number of a report on 500 random tables, compared with scikit-learn, scipy and statsmodels."""

from __future__ import annotations

import warnings
from collections import Counter
from random import Random
from typing import Any

import pytest

from llmtasker.evaluation.compare import compare
from llmtasker.evaluation.evaluation_report import Report
from llmtasker.evaluation.figures import ReportRow
from llmtasker.evaluation.intervals import student
from llmtasker.evaluation.label_scores import macro_f1, micro_f1
from llmtasker.evaluation.metrics import field_score, other_measures
from llmtasker.evaluation.paired_tests import holm, mcnemar

pytestmark = pytest.mark.needs("sklearn", "scipy", "statsmodels")

CLOSE = 1e-9
FAILED = "no answer"


def near(value: Any) -> Any:
    return pytest.approx(value, abs=CLOSE, rel=CLOSE)


def table(random: Random) -> tuple[list[str], list[str], list[str]]:
    """Labels, gold and answers of some rows; a few rows failed, and a label may be missing on either side."""
    labels = "abcdef"[: random.randint(2, 6)]
    rows = random.choice((random.randint(2, 12), random.randint(5, 150)))
    share, failing = random.random(), random.choice((0.0, 0.0, 0.1))
    gold = [random.choice(labels) for _ in range(rows)]
    answers = [
        FAILED if random.random() < failing else truth if random.random() < share else random.choice(labels)
        for truth in gold
    ]
    return sorted({*gold, *answers} - {FAILED}), gold, answers


def report_of(gold: list[str], answers: list[str]) -> Report:
    rows = [
        ReportRow(
            key=str(number),
            given={"text": str(number)},
            gold={"label": truth},
            answer=None if answer == FAILED else {"label": answer},
            error=("invalid", "?") if answer == FAILED else None,
            scores={} if answer == FAILED else {"label": field_score("label", truth, answer)},
        )
        for number, (truth, answer) in enumerate(zip(gold, answers, strict=True))
    ]
    return Report(signature="S", signature_hash="", kinds={"label": "label"}, rows=tuple(rows))


@pytest.mark.parametrize("block", range(10))
def test_labels_accuracy_and_intervals(block: int) -> None:
    from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, precision_recall_fscore_support
    from statsmodels.stats.proportion import proportion_confint

    for seed in range(50 * block, 50 * block + 50):
        labels, gold, answers = table(Random(seed))
        report = report_of(gold, answers)
        score, found = report.score("label"), report.labels("label")
        assert score.interval.value == near(accuracy_score(gold, answers))
        low, high = proportion_confint(score.right, len(gold), method="wilson")
        assert score.interval == near((score.interval.value, low, high))
        failures = answers.count(FAILED)
        assert (score.failed, score.at_best) == (failures, near(score.interval.value + failures / len(gold)))
        assert list(found) == labels
        known: dict[str, Any] = {"labels": labels, "zero_division": 0}
        precision, recall, f1, support = precision_recall_fscore_support(gold, answers, **known)
        for number, one in enumerate(found.values()):
            assert (one.precision, one.f1, one.gold) == (near(precision[number]), near(f1[number]), support[number])
            if one.gold:
                ends = proportion_confint(one.right, one.gold, method="wilson")
                assert one.recall == near((recall[number], *ends))
        assert macro_f1(found) == near(f1_score(gold, answers, average="macro", **known))
        assert micro_f1(found) == near(f1_score(gold, answers, average="micro", **known))
        counted = report.confusion("label")
        matrix = confusion_matrix(gold, answers, labels=[*labels, FAILED])
        for row, truth in enumerate(labels):
            for column, answer in enumerate([*labels, None]):
                assert counted[truth, answer] == matrix[row][column]


def test_student_has_the_quantiles_of_scipy() -> None:
    from scipy.stats import t

    for freedom in (*range(1, 60), 100, 999, 1_999):
        assert student(freedom) == near(t.ppf(0.975, freedom))


def score_ends(gained: int, lost: int, rows: int) -> list[float]:
    """The ends of Tango's interval, by searching the likeliest shares and where the score crosses its quantile."""
    from scipy.optimize import brentq
    from scipy.stats import norm

    quantile, same = norm.ppf(0.975), rows - gained - lost

    def error(difference: float) -> float:
        """The standard error if this is the true difference, at the likeliest share of lost rows."""
        least, most = max(0.0, -difference), (1 - difference) / 2

        def slope(share: float) -> float:
            """The derivative of the likelihood, times the three shares, so that none divides."""
            won, unchanged = share + difference, 1 - 2 * share - difference
            return gained * share * unchanged + lost * won * unchanged - 2 * same * share * won

        inner = least + 1e-14
        share = least if slope(inner) <= 0 else most if slope(most) >= 0 else brentq(slope, inner, most, xtol=1e-16)
        return ((2 * share + difference - difference**2) / rows) ** 0.5

    found, ends = (gained - lost) / rows, list[float]()
    for side in (-1, 1):

        def beyond(difference: float, side: int = side) -> float:
            return side * (difference - found) - quantile * error(difference)

        near_by, wall = found + side * 1e-9, side * (1 - 1e-12)
        ends.append(side if found == side else brentq(beyond, near_by, wall, xtol=1e-14))
    return ends


@pytest.mark.parametrize("block", range(10))
def test_comparisons(block: int) -> None:
    import numpy
    from scipy.stats import binom, binomtest
    from statsmodels.stats.contingency_tables import mcnemar as of_statsmodels
    from statsmodels.stats.multitest import multipletests

    for seed in range(50 * block, 50 * block + 50):
        random = Random(seed)
        _, gold, answers = table(random)
        others = [truth if random.random() < 0.6 else answer for truth, answer in zip(gold, answers, strict=True)]
        found = compare(report_of(gold, answers), report_of(gold, others))
        exact = compare(report_of(gold, answers), report_of(gold, others), exact=True)
        before = numpy.array([truth == answer for truth, answer in zip(gold, answers, strict=True)], dtype=float)
        after = numpy.array([truth == answer for truth, answer in zip(gold, others, strict=True)], dtype=float)
        change = after - before
        gained, lost = int((change > 0).sum()), int((change < 0).sum())
        assert (len(found.gained), len(found.lost)) == (gained, lost)
        cells = [[0, gained], [lost, 0]]
        assert exact.p == near(of_statsmodels(cells, exact=True).pvalue)
        if gained + lost:
            assert exact.p == near(binomtest(gained, gained + lost).pvalue)
            few, count = min(gained, lost), gained + lost
            mid = 2 * binom.cdf(few, count, 0.5) - binom.pmf(few, count, 0.5)
            assert found.p == near(min(1.0, mid))
        assert list(found.difference) == near([change.mean(), *score_ends(gained, lost, len(change))])
        by_label = {
            label: mcnemar(*(int((change[[truth == label for truth in gold]] == sign).sum()) for sign in (1, -1)))
            for label in sorted(set(gold))
        }
        corrected = multipletests(list(by_label.values()), method="holm")[1]
        assert holm(by_label) == near(dict(zip(by_label, corrected, strict=True)))
        assert {label: p for label, (_, p) in found.labels.items()} == near(dict(zip(by_label, corrected, strict=True)))


@pytest.mark.parametrize("block", range(5))
def test_several_labels_numbers_and_texts(block: int) -> None:
    from sklearn.metrics import accuracy_score, hamming_loss, jaccard_score, mean_absolute_error
    from sklearn.preprocessing import MultiLabelBinarizer

    for seed in range(100 * block, 100 * block + 100):
        random = Random(seed)
        labels, rows = "abcde", random.randint(2, 60)
        pairs = [[random.sample(labels, random.randint(0, 5)) for _ in range(rows)] for _ in range(2)]
        gold, answers = (MultiLabelBinarizer(classes=list(labels)).fit_transform(side) for side in pairs)
        scores = [other_measures("labels", one, two, len(labels)) for one, two in zip(*pairs, strict=True)]
        whole = [field_score("labels", one, two) for one, two in zip(*pairs, strict=True)]
        assert sum(whole) / rows == near(accuracy_score(gold, answers))
        assert sum(one["Hamming loss"] for one in scores) / rows == near(hamming_loss(gold, answers))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            jaccard = jaccard_score(gold, answers, average="samples", zero_division=1)
        assert sum(one["Jaccard"] for one in scores) / rows == near(jaccard)
        numbers = [[round(random.gauss(0, 100), 3) for _ in range(rows)] for _ in range(2)]
        errors = [other_measures("number", one, two)["absolute error"] for one, two in zip(*numbers, strict=True)]
        assert sum(errors) / rows == near(mean_absolute_error(*numbers))


def test_the_tables_are_of_all_kinds() -> None:
    """Otherwise the figures above would be compared on tables where nothing can differ."""
    kinds = Counter[str]()
    for seed in range(500):
        labels, gold, answers = table(Random(seed))
        kinds["failures"] += FAILED in answers
        kinds["a label that is never answered"] += bool(set(gold) - set(answers))
        kinds["a label that no row has"] += bool(set(answers) - {FAILED} - set(gold))
        kinds["many labels"] += len(labels) > 4
    assert min(kinds.values()) > 10
