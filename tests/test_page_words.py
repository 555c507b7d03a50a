"""The words of the page for numbers: one row and several, the rate of a run, the names of downloads."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, time
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from test_ui import LABELS, Page, french_csv
from typeset_site import typeset_html

from llmtasker.api.attachment import attachment
from llmtasker.files import read_rows, write_rows
from llmtasker.jobs.job_state import Job
from llmtasker.ui.page_language import LANGUAGES
from llmtasker.ui.run_pages import pace
from llmtasker.values.language import french

NOW = 1_700_000_000.0 - 1_700_000_000.0 % 60 + 40  # 40 s after a minute began


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with Page(tmp_path_factory.mktemp("words")) as served:
        yield served


def job(*, age: float, rows: int = 1_000, done: int = 100) -> Job:
    return Job(id="a", owner="ann", task="t", rows=rows, ok=done, created=NOW - age)


@pytest.mark.parametrize(
    ("minutes", "age", "rate", "left"),
    [
        ([0, 0, 0, 100], 20, 5.0, 180.0),  # it began 20 s ago, not at the start of the minute
        ([0, 0, 60, 40], 50, 2.0, 450.0),  # 50 s ago, in the minute before
        ([0, 0, 0, 100], 4, None, None),  # too early
        ([0, 0, 0, 3], 30, 0.1, None),  # too few rows for a guess of the rest
        ([0, 0, 0, 100], 9_000, None, None),  # asked again, or resumed: it is not known when in this minute
        ([0, 0, 7, 80], 9_000, 2.0, 450.0),  # the minute in which it was resumed does not count
        ([90, 120, 120, 80], 9_000, 2.0, 450.0),
        ([0, 0, 0, 0], 9_000, None, None),
        ([0, 0, 0, 0], 10, 0.0, None),
    ],
)
def test_the_time_that_is_left_is_measured_or_not_said(
    minutes: list[int], age: float, rate: float | None, left: float | None
) -> None:
    found = pace(minutes, job(age=age), NOW)
    assert found.rate == (None if rate is None else pytest.approx(rate))
    assert found.left == (None if left is None else pytest.approx(left))


def test_words_follow_their_number() -> None:
    """All texts of the page with a choice of forms, in both languages: with one and with several, no braces remain."""
    choosing = [words for words in french() if "|" in words]
    assert len(choosing) > 10
    for language in LANGUAGES.values():
        for words in choosing:
            for number in (0, 1, 2, 1_234):
                values = {name: language.count(number) for name in re.findall(r"\{(\w+)", words)}
                said = language.text(words, **values)
                assert not re.search(r"[{}|]", said), said


@pytest.mark.parametrize(
    ("code", "number", "said"),
    [
        *(("en", 0, "0 rows tried"), ("en", 1, "1 row tried"), ("en", 2, "2 rows tried")),
        *(("fr", 0, "0 ligne essayée"), ("fr", 1, "1 ligne essayée"), ("fr", 2_000, "2\u202f000 lignes essayées")),
    ],
)
def test_one_row_is_a_row(code: Any, number: int, said: str) -> None:
    language = LANGUAGES[code]
    assert language.text("{count} {count:row|rows} tried", count=language.count(number)) == said
    assert language.rows(number).split("\u00a0")[1] == said.split(" ")[1]


def test_a_file_of_one_row(page: Page) -> None:
    ann = page.browser(language="en")
    project = ann.described(french_csv([("1", "Toujours rien reçu de mon colis", "livraison")]))
    assert "Run 1 row" in ann.get(f"{project}/task")
    ran = unescape(ann.run(project))
    assert "1 row finished" in ran
    assert "1 answer, 0 failed" in ran
    for step in ("file", "task", "run", "results", "evaluation"):
        text = re.sub(r"<[^>]+>", "", unescape(ann.get(f"{project}/{step}")))
        assert not re.search(r"(?<![.,])\b1[ \u00a0](rows|answers|values|characters|days)\b", text), step


@pytest.mark.parametrize(
    ("value", "english", "french"),
    [
        (date(2026, 3, 1), "1 March 2026", "01/03/2026"),
        (date(987, 12, 31), "31 December 987", "31/12/0987"),
        (datetime(2026, 3, 1, 14, 30), "1 March 2026, 14:30", "01/03/2026 14:30"),
        (datetime(2026, 3, 1), "1 March 2026, 00:00", "01/03/2026 00:00"),
        (datetime(2026, 3, 1, 4, 5, 6), "1 March 2026, 04:05:06", "01/03/2026 04:05:06"),
        (datetime(2026, 3, 1, 14, 30, tzinfo=UTC), "1 March 2026, 14:30+00:00", "01/03/2026 14:30+00:00"),
        (time(9, 5), "09:05", "09:05"),
        ("2026-03-01", "2026-03-01", "2026-03-01"),  # a text, which is shown unchanged
        (1.5, "1.5", "1.5"),
        (True, "True", "True"),
    ],
)
def test_a_date_is_written_as_the_language_does(value: Any, english: str, french: str) -> None:
    assert [LANGUAGES[code].cell(value) for code in ("en", "fr")] == [english, french]


@pytest.mark.parametrize(("language", "said"), [("fr", "01/03/2026 14:30"), ("en", "1 March 2026, 14:30")])
@pytest.mark.parametrize("ending", ["xlsx", "parquet"])
def test_the_dates_of_a_file_are_shown_in_the_language_of_the_page(
    page: Page, tmp_path: Path, language: str, said: str, ending: str
) -> None:
    row = {"message": "Mon colis", "vu": datetime(2026, 3, 1, 14, 30), "note": "2026-03-01"}
    write_rows(tmp_path / f"came.{ending}", [row])
    ann = page.browser(language=language)
    project = ann.upload((tmp_path / f"came.{ending}").read_bytes(), f"messages.{ending}")
    shown = ann.get(f"{project}/file")
    assert f">{said}</td>" in shown
    assert ">2026-03-01</td>" in shown
    assert "2026-03-01T" not in shown
    ann.run(project, "run", label=list(LABELS), meaning=["", ""])
    path = tmp_path / f"results.{ending}"
    path.write_bytes(ann.client.get(f"{project}/results.{ending}").content)
    assert next(iter(read_rows(path)))["vu"] == row["vu"]


def test_a_column_of_a_workbook_with_empty_cells_keeps_its_type_in_parquet(page: Page, tmp_path: Path) -> None:
    rows = [{"message": "Mon colis", "montant": 34.9}, {"message": "Ma facture", "montant": None}]
    write_rows(tmp_path / "came.xlsx", rows)
    ann = page.browser()
    project = ann.upload((tmp_path / "came.xlsx").read_bytes(), "messages.xlsx")
    ann.run(project, "run", label=list(LABELS), meaning=["", ""])
    path = tmp_path / "results.parquet"
    path.write_bytes(ann.client.get(f"{project}/results.parquet").content)
    assert [row["montant"] for row in read_rows(path)] == [34.9, None]


@pytest.mark.parametrize(
    ("name", "short", "full"),
    [
        ("messages", "messages.csv", None),
        ("Réclamations été", "Reclamations ete.csv", "Réclamations été.csv"),
        ("re\u0301sume\u0301", "resume.csv", "résumé.csv"),
        ("客户", "llmtasker.csv", "客户.csv"),
        ("L’été n° 3", "L'ete n 3.csv", "L’été n° 3.csv"),
        ("../../etc/passwd", "etc-passwd.csv", None),
        ('a"b\\c;d\r\nX-Evil: 1', "a-b-c-d-X-Evil- 1.csv", None),
        ("a\u202egnp", "a-gnp.csv", None),
        ("  .. ", "llmtasker.csv", None),
        ("", "llmtasker.csv", None),
        ("é" * 500, "e" * 100 + ".csv", "é" * 100 + ".csv"),
    ],
)
def test_a_download_keeps_its_name(name: str, short: str, full: str | None) -> None:
    header = attachment(name, "csv")["Content-Disposition"]
    found = re.fullmatch(r"attachment; filename=\"([ -~]+)\"(?:; filename\*=UTF-8''([A-Za-z0-9%.~_-]+))?", header)
    assert found is not None, header
    assert (found[1], found[2] and unquote(found[2])) == (short, full)


def test_downloads_are_called_like_the_task(page: Page) -> None:
    ann = page.browser()
    project = ann.described(french_csv())
    ann.send(f"{project}/file", see=f"{project}/file", text="message", kind="classification", name="Été n° 3.5")
    ann.run(project)
    for ending, content in (
        ("results.csv", "réponses"),
        ("results.xlsx", "réponses"),
        ("task.json", "tâche"),
        ("task.py", "tâche"),
        ("report.html", "rapport"),
    ):
        header = ann.client.get(f"{project}/{ending}").headers["content-disposition"]
        assert unquote(header).endswith(f"UTF-8''Été n° 3.5 - {content}.{ending.partition('.')[2]}")
        ann.send(f"{project}/file", see=f"{project}/file", gold="equipe")  # for the report


@pytest.mark.parametrize("said", [True, False])
def test_a_file_that_is_too_large_is_refused_on_a_page(tmp_path: Path, said: bool) -> None:
    """Before it is read if its length is declared, and in the language of the page."""
    with Page(tmp_path, max_bytes=100_000) as served:
        ann = served.browser()
        csrf = ann.token("/")
        part = '--b\r\nContent-Disposition: form-data; name="csrf"\r\n\r\n' + csrf + "\r\n--b\r\n"
        part += (
            'Content-Disposition: form-data; name="file"; filename="a.csv"\r\n\r\n' + "x\n" * 60_000 + "\r\n--b--\r\n"
        )
        body: Any = part.encode() if said else iter([part[:90_000].encode(), part[90_000:].encode()])
        headers = {"Content-Type": "multipart/form-data; boundary=b"}
        refused = ann.client.post("/projects", content=body, headers=headers)
        assert refused.status_code == 413
        assert '<html lang="fr"' in refused.text
        assert "Le fichier dépasse 100\u202f000 octets" in unescape(refused.text)


@pytest.mark.parametrize(
    ("gold", "title"), [("facturation", "Sur 1"), ("zebra", "avec la référence est impossible"), ("", "Aucune ligne")]
)
def test_the_title_of_an_evaluation_says_what_is_there(tmp_path: Path, gold: str, title: str) -> None:
    with Page(tmp_path) as served:
        ann = served.browser()
        project = ann.described(french_csv([("1", "prélevé", gold), ("2", "reçu", "")]))
        ann.send(f"{project}/file", see=f"{project}/file", text="message", kind="classification", gold="equipe")
        ann.run(project)
        (found,) = re.findall(r"<h1>(.*?)</h1>", unescape(ann.get(f"{project}/evaluation")))
        assert title in found


def test_the_french_site_is_typeset_outside_code() -> None:
    apart = "<head><title>l'a : b</title></head><pre>x ;</pre><code>a : 'b'</code>"
    text = "<p>L'appel : « non » ; 40 000 tokens, 5 % !</p>"
    said = "<p>L’appel\u00a0: «\u00a0non\u00a0»\u202f; 40\u202f000 tokens, 5\u202f%\u202f!</p>"
    assert typeset_html(apart + text) == apart + said
