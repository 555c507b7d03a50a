"""Tables of offices on the page: titles above the names of columns, and columns of a served task."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from html import unescape
from typing import Any, Literal

import pytest
from test_ui import Page

from llmtasker import LLM, InputField, OutputField, Signature, Task
from llmtasker.testing import FakeTransport


class Triage(Signature):
    """Route a message."""

    message: str = InputField(description="what the customer wrote")
    country: str | None = InputField(None, description="where")
    team: Literal["billing", "delivery"] = OutputField(description="who takes it")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    task = Task(Triage, llm=LLM(transport=FakeTransport(lambda _: {"team": "billing"}), cache=False))
    with Page(tmp_path_factory.mktemp("tables"), tasks={"triage": task}) as served:
        yield served


ROWS = "n;Réclamation;équipe\n1;Où est mon colis ?;livraison\n2;Deux prélèvements;facturation\n"
NAMES = ["n", "Réclamation", "équipe"]


def header_of(page: str) -> int:
    """Return the line that the page proposes as the one with the names of the columns."""
    found = re.search(r'<option value="([0-9]+)" selected', page.partition('name="header"')[2])
    assert found is not None
    return int(found[1])


def workbook(rows: list[list[Any]]) -> bytes:
    import openpyxl

    book, file = openpyxl.Workbook(), io.BytesIO()
    sheet: Any = book.active
    for row in rows:
        sheet.append(row)
    book.save(file)
    return file.getvalue()


@pytest.mark.parametrize(
    ("text", "line", "names"),
    [
        (ROWS, 1, NAMES),
        ("Réclamations du service client\n" + ROWS, 2, NAMES),
        ("Réclamations;;\n;;\n" + ROWS, 3, NAMES),  # as Excel writes it
        ("Réclamations\nOctobre\n\n" + ROWS, 4, NAMES),  # the line that is shown, below an empty one
        ("Réclamations, octobre\nService client\n" + ROWS, 3, NAMES),
        ("Réclamations du service client\n" + ROWS + "3;Colis abîmé\n", 2, NAMES),  # a broken row
        ("Réclamations\nn;Réclamation\n1;Colis\n2;Deux;trois\n3;Rien\n", 2, NAMES[:2]),
        ("Réclamation\nOù est mon colis ?\nDeux prélèvements\n", 1, ["Réclamation"]),
        ("Réclamation\nOù est mon colis ?;1\nDeux prélèvements;;4\n", 1, ["Réclamation"]),  # a row is no header
        ("Réclamation\nOù est, mon colis ?\nDeux, prélèvements\n", 1, ["Réclamation"]),
    ],
)
@pytest.mark.parametrize("kind", ["csv", "xlsx"])
def test_the_line_of_the_names_is_found(page: Page, text: str, line: int, names: list[str], kind: str) -> None:
    content = text.encode()
    if kind == "xlsx":
        content = workbook([[cell or None for cell in one.split(";")] for one in text.splitlines()])
    shown = page.browser().get(page.browser().upload(content, f"réclamations.{kind}") + "/file")
    assert header_of(shown) == line
    assert [
        unescape(name) for name in re.findall(r'<option value="([^"]+)"[^>]*>[^<]* · ', shown.partition('id="gold"')[0])
    ] == names + (["column_2", "column_3"] if kind == "xlsx" and ";1;2\n" in text else [])  # cells of most rows
    assert ("Les lignes au-dessus ne sont pas lues." in shown) == (line > 1)


@pytest.mark.parametrize(
    "texts",
    [
        ["Parfait", "Parfait", "Rapide;conforme", *["Déçu;abîmé"] * 40, "Parfait"],  # a late row has one cell
        ["Rapide ; conforme", *["Déçu; abîmé"] * 40],  # each row has two
        ["Parfait", "Rapide;conforme", *["Déçu;abîmé"] * 3, "Bien"],
    ],
)
def test_texts_of_one_column_are_not_split(page: Page, texts: list[str]) -> None:
    ann = page.browser()
    project = ann.upload("\n".join(["avis", *texts, ""]).encode())
    assert header_of(ann.get(f"{project}/file")) == 1
    ann.send(f"{project}/file", see=f"{project}/file", text="avis", kind="triage")
    ann.run(project, column_message="avis")
    rows = map(json.loads, ann.get(f"{project}/results.jsonl").splitlines())
    assert [row["avis"] for row in rows] == texts


@pytest.mark.parametrize(
    ("content", "name", "language", "begin"),
    [
        (ROWS.encode("cp1252"), "a.csv", "fr", "n;Réclamation;équipe;".encode("cp1252")),  # as it came
        (workbook([NAMES, [1, "où ?", "x"]]), "a.xlsx", "fr", "\ufeffn;Réclamation;équipe;".encode()),
        (workbook([NAMES, [1, "où ?", "x"]]), "a.xlsx", "en", "\ufeffn,Réclamation,équipe,".encode()),
    ],
)
@pytest.mark.parametrize("do", ["try", "run"])
def test_a_csv_opens_in_the_spreadsheet_of_the_office(
    page: Page, content: bytes, name: str, language: str, begin: bytes, do: str
) -> None:
    person = page.browser(language=language)
    project = person.upload(content, name)
    person.send(f"{project}/file", see=f"{project}/file", text="Réclamation", kind="triage")
    person.run(project, do, column_message="Réclamation")
    assert person.client.get(f"{project}/results.csv").content.startswith(begin)


@pytest.mark.parametrize("kind", ["csv", "xlsx"])
def test_the_line_of_the_names_is_chosen_among_the_first_lines(page: Page, kind: str) -> None:
    """Each line is shown with its beginning; the separator of a title is not kept for the names below it."""
    lines = ["Avis, réclamations", "", "Avis;note", "Bien", "Bien;2;3", "Nul;1"]
    content = "\n".join(lines).encode()
    if kind == "xlsx":
        content = workbook([[cell or None for cell in re.split("[;,] ?", one)] for one in lines])
    ann = page.browser()
    project = ann.upload(content, f"avis.{kind}")
    shown = ann.get(f"{project}/file")
    options = re.findall(r'<option value="(\d)"[^>]*>\d · ([^<]*)', shown.partition('name="header"')[2])
    assert [int(number) for number, _ in options] == [1, 3, 4, 5, 6]
    assert [re.split(r"[;,|] ?", line)[0].strip() for _, line in options] == ["Avis", "Avis", "Bien", "Bien", "Nul"]
    before = re.search(r'name="delimiter">.*<option value="(.)" selected', shown)
    delimiter = {"delimiter": before[1]} if before else {}
    ann.send(f"{project}/file", see=f"{project}/file", header="3", read="1", **delimiter)
    again = ann.get(f"{project}/file")
    assert header_of(again) == 3
    assert re.findall(r'<th scope="col"[^>]*>([^<·]*\w)', again)[:2] == ["Avis", "note"]


def test_a_file_without_a_readable_row_is_not_run(page: Page) -> None:
    ann = page.browser()
    project = ann.upload(workbook([["a"], [1, 2], [3, None, 4]]), "a.xlsx")
    refused = ann.post(f"{project}/file", see=f"{project}/file", text="a")
    assert refused.status_code == 422
    assert "Aucune ligne n’est lisible" in refused.text


def test_a_served_task_reads_the_column_of_the_texts(page: Page) -> None:
    ann = page.browser()
    project = ann.upload(ROWS.encode())
    task = ann.send(f"{project}/file", see=f"{project}/file", text="Réclamation", kind="triage").text
    chosen = r'name="column_message"><option>n</option><option selected>Réclamation</option>'
    assert chosen in task
    assert 'name="column_country"><option value="" selected>' in task
    ann.run(project, column_message="Réclamation", column_country="")
    assert ann.get(f"{project}/results.csv").count(";billing;") == 2


def test_columns_are_chosen_where_none_fits(page: Page) -> None:
    ann = page.browser()
    project = ann.upload("message;Réclamation\nb;Où est mon colis ?\n".encode())
    ann.send(f"{project}/file", see=f"{project}/file", text="Réclamation", kind="triage")
    task = ann.get(f"{project}/task")
    assert 'name="column_message"><option selected>message</option>' in task, "a column of its name is proposed"
