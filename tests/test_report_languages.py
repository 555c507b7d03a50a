"""Reports in French and English: the same figures, in sentences and as pages, with the words of one table."""

from __future__ import annotations

import re
import sys
from html import unescape
from pathlib import Path
from typing import Any, Literal, Protocol

import pytest

from llmtasker import LLM, Classification, InputField, OutputField, Signature, Task
from llmtasker.cli.app import main
from llmtasker.confidence import Calibration
from llmtasker.confidence.calibration_figures import CalibrationPoint
from llmtasker.errors import ConfigurationError
from llmtasker.evaluation import Report, compare, evaluate, shortlist_recall
from llmtasker.evaluation.cascade_run import CascadeReport
from llmtasker.testing import FakeTransport
from llmtasker.wire.request import Request
from llmtasker.wire.request_reader import last_user_text

SCRIPT = "<svg onload=alert(1)>"


class Triage(Signature):
    """Route a message."""

    message: str = InputField()
    team: Literal["billing", "delivery", "other"] = OutputField()


class Told(Protocol):
    def text(self, language: Any = "en") -> str: ...


def report(rights: int, *, rows: int = 1_000, failed: int = 10) -> Report:
    """A report of rows of which the first are right, the last failed, and the others wrong."""

    def answer(request: Request) -> Any:
        number = int(re.findall(r"\d+", last_user_text(request))[-1])
        team = "billing" if number < rights else "other"
        return {"team": team} if number < rows - failed else "no answer"

    gold = [{"message": f"{SCRIPT} {number}", "team": "billing", "channel": "mail"} for number in range(rows)]
    task = Task(Triage, llm=LLM(transport=FakeTransport(answer)), attempts=1)
    return evaluate(task, gold, slices=["channel"], progress=False)


@pytest.fixture(scope="module")
def worse() -> Report:
    return report(700)


@pytest.fixture(scope="module")
def better() -> Report:
    return report(950, failed=0)


def plain(text: str) -> str:
    """The text with ordinary spaces."""
    return text.replace("\u202f", " ").replace("\u00a0", " ")


def calibration() -> Calibration:
    points = tuple(CalibrationPoint(0.9, 0.8, number > 40) for number in range(1_200))
    return Calibration(
        temperature=1.5, floor=0.1, asked="", rows=1_201, failed=1, auroc=(0.9, 0.85, 0.95), points=points,
        threshold=0.75, max_risk=0.05, bound=0.0449,
    )  # fmt: skip


def cascade_report() -> CascadeReport:
    return CascadeReport(
        names=("small", "large"), rows=2_000, answered=(1_200, 700), wrong=(20, 1), to_people=100,
        thresholds=(0.8, 0.5), cost_ratio=0.425, unit="US dollars", max_risk=0.025, certainty=0.9, bound=0.0166,
    )  # fmt: skip


SAID = {
    "report": [
        "team : 70,0 % de réponses justes (de 67,1 à 72,8) sur 1 000 lignes : 700 justes, 290 fausses, 10 en échec ; ",
        "10 en échec ; 71,0 % si toutes les lignes en échec étaient justes",
        "en échec : 10 × la réponse est illisible (invalid)",
        "1 000 lignes envoyées au LLM, 0 depuis le cache",
    ],
    "better": ["B est meilleur que A de 25,0 points (de 22,4 à 27,8) ; 250 lignes gagnées, 0 perdue, p < 0,001."],
    "worse": ["B est moins bon que A de 25,0 points (de 22,4 à 27,8) ; 0 ligne gagnée, 250 perdues, p < 0,001."],
    "equal": ["aucune différence n’est démontrée : +0,0 point (de −0,4 à +0,4)", "d’au moins 0,8 point serait"],
    "calibration": [
        "calibration sur 1 201 lignes : 1 159 justes, 41 fausses, 1 en échec",
        "à partir d’une confiance de 0,750 : 1 200 réponses sur 1 200 lignes (100 %), dont 41 fausses",
        "garanti : au plus 5 % de réponses fausses ; la borne supérieure est 4,5 %, avec une certitude de 90 %",
    ],
    "cascade": [
        "1. small répond à 1 200 lignes sur 2 000 (60 %), dont 20 fausses",
        "2. large répond à 700 lignes sur 2 000 (35 %), dont 1 fausse",
        "100 lignes reviennent à des personnes (5 %)",
        "le coût est 0,42 fois celui de large seul, en dollars américains",
        "au plus 2,5 % de réponses fausses",
    ],
    "shortlist": ["3 étiquettes, 1 ligne :", "les   1 premières : 100,0 % (de 20,7 à 100,0)"],
}


@pytest.mark.parametrize("name", SAID)
def test_what_is_printed_can_be_french(name: str, worse: Report, better: Report) -> None:
    task = Classification(llm="offline", labels=["lost card", "change PIN", "age limit"], shortlist=1)
    told: dict[str, Told] = {
        "report": worse,
        "better": compare(worse, better),
        "worse": compare(better, worse),
        "equal": compare(worse, worse),
        "calibration": calibration(),
        "cascade": cascade_report(),
        "shortlist": shortlist_recall(task, [{"text": "I want another PIN", "label": "change PIN"}]),
    }
    french = told[name].text("fr")
    for sentence in SAID[name]:
        assert sentence in plain(french)
    assert " : " not in french
    assert " %" not in french
    assert told[name].text() == str(told[name]) != french
    with pytest.raises(ConfigurationError, match="language is one of 'en', 'fr', not 'de'"):
        told[name].text("de")


ENGLISH = re.compile(r"(?<![\w<])(rows?|right|wrong|answers?|answered|of|the|failed)\b")


@pytest.mark.parametrize("ending", ["html", "md", "txt"])
def test_pages_are_of_one_language(worse: Report, tmp_path: Path, ending: str) -> None:
    for language in ("en", "fr"):
        worse.write(tmp_path / f"{language}.{ending}", language=language)
    english, french = (unescape((tmp_path / f"{code}.{ending}").read_text("utf-8")) for code in ("en", "fr"))
    assert ENGLISH.search(english)
    assert not ENGLISH.search(re.sub(r"(?s)<style>.*?</style>", "", french))
    assert re.findall(r"\d+", english.replace(",", "")) == re.findall(r"\d+", french.replace("\u202f", ""))
    assert ('<html lang="fr">' in french) == (ending == "html")


def test_a_calibration_page_is_of_one_language(tmp_path: Path) -> None:
    calibration().write(tmp_path / "calibration.html", language="fr")
    french = (tmp_path / "calibration.html").read_text("utf-8")
    assert "<h1>Calibration sur 1\u202f201 lignes étiquetées</h1>" in french
    assert not ENGLISH.search(re.sub(r'(?s)<style>.*?</style>|class="[^"]*"', "", french))


def test_a_text_that_looks_like_a_drawing_is_shown_as_text(worse: Report, tmp_path: Path) -> None:
    worse.write(tmp_path / "a.html")
    page = (tmp_path / "a.html").read_text("utf-8")
    assert SCRIPT not in page
    assert "<td>&lt;svg onload=alert(1)&gt; 70" in page


def test_the_command_line_speaks_french(
    worse: Report,
    better: Report,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    worse.save(tmp_path / "a.json")
    better.save(tmp_path / "b.json")
    paths = [str(tmp_path / name) for name in ("a.json", "b.json")]
    monkeypatch.setattr(sys, "argv", ["llmtasker", "compare", *paths, "--language", "fr"])
    with pytest.raises(SystemExit, match=r"^0$"):
        main()
    assert "B est meilleur que A de 25,0 points" in capsys.readouterr().out
