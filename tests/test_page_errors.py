"""Mistakes on the page: the reason is in the language of the page, without Python terms."""

from __future__ import annotations

import ast
import gzip
import io
import re
import zipfile
from collections.abc import Callable, Iterator
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from test_ui import Page, french_csv

from llmtasker.files import write_rows
from llmtasker.ui.error_words import reason
from llmtasker.ui.page_language import LANGUAGES
from llmtasker.ui.visit import worded

FILES = Path(__file__).parents[1] / "llmtasker" / "files"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with Page(tmp_path_factory.mktemp("errors"), max_rows=50, max_columns=30, max_bytes=2_000_000) as served:
        yield served


def written(ending: str) -> Callable[[Path], bytes]:
    """Return a function that writes a file of one row and returns its bytes."""

    def content(folder: Path) -> bytes:
        write_rows(folder / f"one.{ending}", [{"message": "Mon colis"}])
        return (folder / f"one.{ending}").read_bytes()

    return content


def archive(_: Path) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as file:
        file.writestr("messages.csv", "message\nMon colis\n")
    return packed.getvalue()


WRONG_FILES: list[tuple[str, bytes | Callable[[Path], bytes], str, str]] = [
    ("a.xlsx", b"a;b\n1;2\n", "n’est pas un fichier Excel, ou il est protégé", "is not an Excel file"),
    ("a.xlsx", archive, "est endommagé", "is damaged"),
    ("a.xlsx", lambda to: written("xlsx")(to)[:-300], "n’est pas un fichier Excel", "is not an Excel file"),
    ("a.parquet", b"x", "n’est pas un fichier Parquet", "is not a Parquet file"),
    ("a.parquet", lambda to: written("parquet")(to)[:-8], "est endommagé", "is damaged"),
    ("a.csv", written("xlsx"), "avec l’extension .xlsx", "save it as .xlsx"),
    ("a.csv", archive, "avec l’extension .xlsx", "save it as .xlsx"),
    ("a.csv", written("parquet"), "avec l’extension .parquet", "name it .parquet"),
    ("a.csv", gzip.compress(b"a"), "est compressé", "is compressed"),
    ("a.csv", b"%PDF-1.4", "est un PDF", "is a PDF"),
    ("a.csv", "a;b\nc;d".encode("utf-16-le"), "semble être en UTF-16", "looks like UTF-16"),
    ("a.csv", b'a,"b\n1,2\n', "un guillemet n’y est pas refermé", "a quote in it is not closed"),
    ("a.csv", b"", "n’a pas de colonnes", "has no columns"),
    ("a.csv", b"a;b\n", "n’a pas de lignes", "has no rows"),
    ("a.csv", b"a\n" + b"b\n" * 60, "plus de 50 lignes", "more than 50 rows"),
    ("a.csv", b";".join([b"a"] * 40) + b"\n" + b";".join([b"1"] * 40), "40 colonnes", "40 columns"),
    ("a.csv", b"x\n" * 1_200_000, "dépasse 2 000 000 octets", "larger than 2,000,000 bytes"),
    ("a.json", b"{", "n’est pas du JSON valide", "is not valid JSON"),
    ("a.json", b"[" * 5_000, "n’est pas du JSON valide", "is not valid JSON"),
    ("a.zip", archive, "« .zip » n’est pas pris en charge", "“.zip” is not read"),
    ("a", b"1", "« a » n’est pas pris en charge", "“a” is not read"),
]
WRONG_ROWS = [
    ("a.csv", b"a;b\n1;2\n3\n", "La ligne 3 du fichier a 1 cellule, l’en-tête 2.", "has 1 cell, the header 2."),
    ("a.csv", b"a;b\n1;2\n1;2;3\n", "a 3 cellules, l’en-tête 2.", "has 3 cells, the header 2."),
    ("a.csv", b'a;b\n1;2\n4;"a"b"\n', "un guillemet doit être doublé", "a quote inside a quoted text must be doubled"),
    ("a.json", b'[{"a": 1}, 2]', "La ligne 2 n’est pas un objet JSON", "Row 2 is not an object"),
    ("a.jsonl", b'{"a": 1}\n[1]\n', "La ligne 2 n’est pas un objet JSON", "Row 2 is not an object"),
    ("a.jsonl", b'{"a": 1}\n{"a":\n', "La ligne 2 n’est pas du JSON valide", "Line 2 is not valid JSON"),
]
TWO: dict[str, Any] = {"label": ["a", "b"], "meaning": ["", ""]}
WRONG_FORMS: list[tuple[str, dict[str, Any], str, str]] = [
    ("file", {"encoding": "utf-16"}, "n’est pas lisible en utf-16", "can't be read as utf-16"),
    ("file", {"delimiter": "xx"}, "un seul caractère", "must be one character"),
    ("file", {"header": "900"}, "n’a pas de colonnes", "has no columns"),
    ("file", {"kind": "zebra"}, "n’a plus la tâche « zebra »", "no longer has the task “zebra”"),
    ("task", {}, "pas encore d’étiquette", "no labels yet"),
    ("task", {"label": ["a", "a"], "meaning": ["", ""]}, "« a » figure deux fois", "“a” appears twice"),
    ("task", {"label": [f"l{n}" for n in range(1_200)], "meaning": [""] * 1_200}, "1 000 étiquettes", "1,000 labels"),
    ("task", TWO | {"example_text": "x", "example_answer": "c"}, "Exemple 1 : « c » n’est", "Example 1: “c” is"),
    ("task", TWO | {"example_text": ["x"] * 300, "example_answer": ["a"] * 300}, "200 exemples", "200 examples"),
    ("task", TWO | {"rules": "x" * 30_000}, "20 000 caractères", "20,000 characters"),
    ("task", TWO | {"model": "zebra"}, "« zebra » n’est pas proposé", "“zebra” is not offered"),
    ("task", TWO | {"confidence": "stated", "multi_label": "on"}, "le vote de cinq réponses", "votes of five answers"),
    ("task", TWO | {"confidence": "stated", "open_set": "on"}, "le vote de cinq réponses", "votes of five answers"),
    ("task", {"do": "from_file"}, "Choisissez d’abord un fichier", "Choose a file first"),
    ("task", {"do": "from_column", "source": "zebra"}, "trop de valeurs", "too many values"),
    ("instruction", {}, "pas encore de consigne", "no instructions yet"),
    ("instruction", {"field": "text"}, "s’appeler « text »", "can't be called “text”"),
    ("instruction", {"field": "_x"}, "s’appeler « _x »", "can't be called “_x”"),
    ("instruction", {"field": "copy"}, "s’appeler « copy »", "can't be called “copy”"),
    ("instruction", {"field": "a", "kind": "choices"}, "au moins un", "at least one choice"),
    ("instruction", {"field": [f"a{n}" for n in range(60)], "kind": ["text"] * 60}, "50 champs", "50 fields"),
    ("instruction", {"field": "a", "kind": "integer", "example_answer": "1"}, "en JSON", "as JSON"),
    (
        "instruction",
        {"field": "a", "kind": "integer", "example_answer": '{"a": "z"}'},
        "Exemple 1 : a : « z »",
        "Example 1: a: ",
    ),
]


def check(text: str, said: str) -> None:
    text = re.sub("[\u202f\u00a0]", " ", unescape(text))
    assert said in text
    assert "En anglais" not in text
    assert not re.search(r"Give \w+=|kind=|The file .*/tmp", text)


@pytest.mark.parametrize(("name", "content", "french", "english"), WRONG_FILES)
def test_a_file_that_cannot_be_used(
    page: Page, tmp_path: Path, name: str, content: bytes | Callable[[Path], bytes], french: str, english: str
) -> None:
    given = content if isinstance(content, bytes) else content(tmp_path)
    for language, said in (("fr", french), ("en", english)):
        refused = page.browser(language=language).post("/projects", see="/", files={"file": (name, given)})
        assert refused.status_code in {413, 415, 422}
        check(refused.text, said)


@pytest.mark.parametrize(("name", "content", "french", "english"), WRONG_ROWS)
def test_a_row_that_cannot_be_used(page: Page, name: str, content: bytes, french: str, english: str) -> None:
    for language, said in (("fr", french), ("en", english)):
        ann = page.browser(language=language)
        check(ann.get(f"{ann.upload(content, name)}/file"), said)


@pytest.mark.parametrize(("place", "fields", "french", "english"), WRONG_FORMS)
def test_a_form_that_cannot_be_used(page: Page, place: str, fields: dict[str, Any], french: str, english: str) -> None:
    for language, said in (("fr", french), ("en", english)):
        ann = page.browser(language=language)
        project = ann.upload(french_csv())
        form = {"do": "try", "read": "1", "text": "message", **fields}
        if place == "instruction":
            ann.send(f"{project}/file", see=f"{project}/file", text="message", kind="instruction")
            form = {"rules": "" if not fields else "x", "kind": "text", "choices": "", "example_text": "x", **form}
            form["choices"] = [""] * (len(form["field"]) if isinstance(form.get("field"), list) else 1)
        refused = ann.post(f"{project}/{'file' if place == 'file' else 'task'}", see=f"{project}/task", **form)
        assert refused.status_code in {404, 422}
        check(refused.text, said)


def test_a_sheet_that_is_not_there_and_an_address_with_a_wrong_value(page: Page, tmp_path: Path) -> None:
    ann = page.browser()
    project = ann.upload(written("xlsx")(tmp_path), "a.xlsx")
    refused = ann.post(f"{project}/file", see=f"{project}/file", read="1", sheet="zebra")
    check(refused.text, "n’a pas de feuille « zebra » ; ses feuilles : « rows ».")
    check(ann.get(f"{project}/task?line=zebra", status=422), "une valeur incorrecte : « line »")
    check(ann.get("/static/zebra", status=404), "Cette page n’existe pas.")


NOT_OF_THE_PAGE = {
    "journal.py", "compressed.py", "format.py", "excel_output.py", "csv_output.py", "atomic.py", "cells.py",
}  # fmt: skip
"""Files whose errors nobody can cause on the page: it writes no journal, and takes no packed file."""

OTHERS = {
    "the file is a folder or a pipe; give a file",
    "can't read the file: 1",
    "the file is 1, not 1.",  # in the table above
    "the file is not 1 file, in spite of its name, or it has a password",  # in the table above
    "unknown encoding 'x'; try 'utf-8', 'cp1252' or 'utf-16'",  # one is chosen from a list
    "1 can represent half characters, which rows can't; save the file as 'utf-8'",
    'Excel files need openpyxl: pip install "llmtasker[data]"',
    'Parquet files need pyarrow: pip install "llmtasker[data]"',
}


def messages() -> Iterator[tuple[str, str]]:
    """Yield the messages of the errors that reading a file raises, each with a value in its places."""
    for path in sorted(FILES.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in {"ConfigurationError", "InputError"}:
                parts = node.args[0].values if isinstance(node.args[0], ast.JoinedStr) else [node.args[0]]
                if path.name not in NOT_OF_THE_PAGE:
                    yield path.name, "".join(map(_filled, parts))


def _filled(part: ast.expr) -> str:
    if isinstance(part, ast.Constant):
        return str(part.value)
    if isinstance(part, ast.FormattedValue):
        if getattr(part.value, "id", "") in {"path", "file"}:
            return "the file"
        return "line 1" if getattr(part.value, "id", "") == "place" else "'x'" if part.conversion == 114 else "1"
    return ""


def test_every_error_of_reading_a_file_has_a_sentence() -> None:
    found = list(messages())
    without = {message for _, message in found if message and reason(message, LANGUAGES["fr"]) is None}
    assert len(found) > 20
    assert without == OTHERS


def test_what_has_no_sentence_is_introduced() -> None:
    assert worded("of a later version", LANGUAGES["fr"]) == "C’est impossible. En anglais\u00a0: of a later version"
    assert worded("of a later version", LANGUAGES["en"]) == "of a later version"
