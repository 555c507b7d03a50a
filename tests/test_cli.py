"""The command line, as users type it: real files, and real processes where signals matter."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import pickle
import re
import runpy
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import programs
import pytest

from llmtasker.cli.app import main
from llmtasker.errors import ConfigurationError
from llmtasker.files import Journal, read_rows, write_rows
from llmtasker.tasks.classification import Classification
from llmtasker.testing import FaultyServer, Status

TRIAGE = '''
from typing import Literal
from llmtasker import InputField, OutputField, Signature, Task

class Triage(Signature):
    """Say which team takes the message."""

    message: str = InputField()
    team: Literal["billing", "delivery"] = OutputField()

class Compare(Signature):
    """Say whether both say the same."""

    left: str = InputField()
    right: str = InputField()
    same: bool = OutputField()

EXAMPLES = [
    Triage(message="the invoice is wrong", team="billing"),
    Triage(message="the parcel is late", team="delivery"),
]
triage = Task(Triage, examples=EXAMPLES)
compare = Task(Compare)
'''
FIXED = TRIAGE.replace("triage = Task(Triage,", 'fixed = Task(Triage, llm="offline",').replace(
    "compare = Task(Compare)", "nothing = None"
)


class Said:
    """The result of a command."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


class Shell:
    """Runs commands in a folder, in this process."""

    def __init__(self, folder: Path, capture: pytest.CaptureFixture[str], patch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self._capture = capture
        self._patch = patch

    def __call__(self, *arguments: str) -> Said:
        with self._patch.context() as patch, warnings.catch_warnings():
            warnings.simplefilter("default")
            patch.chdir(self.folder)
            patch.setattr(sys, "argv", ["llmtasker", *arguments])
            patch.setattr(sys, "path", list(sys.path))
            patch.setitem(os.environ, "COLUMNS", "200")
            self._capture.readouterr()
            code: Any = 0
            before = dict(os.environ)
            modules = set(sys.modules)
            try:
                main()
            except SystemExit as end:
                code = end.code or 0
            finally:
                os.environ.clear()
                os.environ.update(before)
                for name in set(sys.modules) - modules:
                    if getattr(sys.modules[name], "__file__", None) and str(self.folder) in str(
                        sys.modules[name].__file__
                    ):
                        del sys.modules[name]
            out, err = self._capture.readouterr()
        assert "Traceback" not in out + err
        return Said(code, out, err)


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    (tmp_path / "triage.py").write_text(TRIAGE, "utf-8")
    (tmp_path / "fixed.py").write_text(FIXED, "utf-8")
    rows = [
        f"{number:02},the invoice {number}" if number % 2 else f"{number:02},the parcel {number}"
        for number in range(20)
    ]
    (tmp_path / "in.csv").write_text("id,message\n" + "\n".join(rows) + "\n", "utf-8")
    return Shell(tmp_path, capsys, monkeypatch)


def save_tasks(folder: Path) -> None:
    """Write two task files: one whose signature is a class, and one that contains its signature."""
    fixed = runpy.run_path(str(folder / "fixed.py"))["fixed"]
    fixed.with_(instructions="Say who pays.").save(folder / "saved.json")
    labels = {"billing": "the invoice", "delivery": "the parcel"}
    Classification(labels=labels, llm="offline").save(folder / "plain.json")


def cells(path: Path, encoding: str = "utf-8", delimiter: str = ",") -> list[dict[str, str]]:
    with path.open(encoding=encoding, newline="") as file:
        return list(csv.DictReader(file, delimiter=delimiter))


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


# ── run ──


def test_run(shell: Shell) -> None:
    said = shell("run", "triage.py:triage", "in.csv", "--llm", "offline", "-o", "out.csv")
    assert (said.code, said.out) == (0, "")
    assert said.err.splitlines() == [
        "in.csv: CSV, utf-8, delimiter ',', 20 rows",
        "20 rows: 20 ok, 0 failed, 0 from the cache, 20 calls. out.csv",
    ]
    rows = cells(shell.folder / "out.csv")
    assert [row["id"] for row in rows] == [f"{number:02}" for number in range(20)]
    assert {(row["message"].split()[1], row["team"]) for row in rows} == {
        ("invoice", "billing"),
        ("parcel", "delivery"),
    }
    again = shell("run", "triage.py:triage", "in.csv", "--llm", "offline", "-o", "out.csv")
    assert "20 rows: all done before. out.csv" in again.err


def test_one_is_not_several(shell: Shell) -> None:
    (shell.folder / "one.csv").write_text("message,team\nthe invoice,billing\n")
    said = shell("run", "fixed.py:fixed", "one.csv", "-o", "out.csv")
    assert said.err.splitlines() == [
        "one.csv: CSV, utf-8, delimiter ',', 1 row",
        "1 row: 1 ok, 0 failed, 0 from the cache, 1 call. out.csv",
    ]
    shell("evaluate", "fixed.py:fixed", "one.csv", "-o", "a.md")
    assert "report of 1 row\n" in (shell.folder / "a.md").read_text()
    assert shell("cache", "clear", "--yes").out == "1 entry removed\n"


@pytest.mark.parametrize("source", ["-", "in.csv.gz"])
def test_a_run_over_a_copy_of_its_input_is_resumed(shell: Shell, monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    """Standard input and compressed files are copied, to another place each time."""
    content = (shell.folder / "in.csv").read_bytes()
    (shell.folder / "in.csv.gz").write_bytes(gzip.compress(content))
    for done in ("20 calls", "20 rows: all done before"):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
        command = ("run", "triage.py:triage", source, "--kind", "csv", "--llm", "offline", "-o", "out.csv")
        said = shell(*command)
        assert said.code == 0, said.err
        assert said.err.splitlines()[0].startswith("standard input: CSV" if source == "-" else "in.csv.gz: CSV")
        assert done in said.err


@pytest.mark.parametrize("source", ["-", "in.csv.gz"])
def test_an_error_in_a_copy_of_the_input_names_the_input(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    content = b"message\n"
    (shell.folder / "in.csv.gz").write_bytes(gzip.compress(content))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    said = shell("run", "triage.py:triage", source, "--kind", "csv", "--llm", "offline", "-o", "out.csv")
    name = "standard input" if source == "-" else source
    assert said.err == f"llmtasker: {name} has no rows.\n"


def test_run_continues_in_its_own_output(shell: Shell) -> None:
    first = shell("run", "triage.py:triage", "in.csv", "--llm", "offline", "-o", "out.jsonl", "--limit", "5")
    assert "5 rows: 5 ok" in first.err
    second = shell("run", "triage.py:triage", "in.csv", "--llm", "offline", "-o", "out.jsonl")
    assert "20 rows: 5 done before, 15 ok, 0 failed, 0 from the cache, 15 calls. out.jsonl" in second.err
    assert len(lines(shell.folder / "out.jsonl")) == 20


def test_equal_rows_of_a_first_run_were_not_done_before(shell: Shell) -> None:
    """The others are read after the first one is in the journal, or while it is asked."""
    (shell.folder / "equal.csv").write_text("message\n" + "the invoice\n" * 3000 + "the parcel\n", "utf-8")
    command = ("run", "triage.py:triage", "equal.csv", "--llm", "offline", "-o", "out.csv", "--limit")
    first = shell(*command, "3000")
    assert "3,000 rows: 3,000 ok, 0 failed, 2,999 from the cache or an equal row, 1 call. out.csv" in first.err
    second = shell(*command, "3001", "--fresh")
    assert "out.csv.journal has those done before. Delete it to ask them again." in second.err
    assert "3,001 rows: 3,000 done before, 1 ok, 0 failed, 0 from the cache, 1 call. out.csv" in second.err


def test_a_changed_task_does_not_replace_the_output_of_another(shell: Shell) -> None:
    shell("run", "triage.py:triage", "in.csv", "--llm", "offline", "-o", "out.jsonl")
    text = TRIAGE.replace("which team takes", "who takes")
    (shell.folder / "triage.py").write_text(text, "utf-8")
    said = shell("run", "triage.py:triage", "in.csv", "--llm", "offline", "-o", "out.jsonl")
    assert (said.code, len(said.err.splitlines())) == (2, 1)
    assert "differs in its instructions or examples" in said.err
    said = shell("run", "triage.py:triage", "in.csv", "--llm", "offline", "-o", "out.jsonl", "--overwrite")
    assert "20 calls. out.jsonl" in said.err


def test_the_output_has_a_name_by_itself(shell: Shell) -> None:
    said = shell("run", "triage.py:triage", "in.csv", "--llm", "offline", "--concurrency", "2")
    assert said.err.rstrip().endswith("in.answers.csv")
    assert len(cells(shell.folder / "in.answers.csv")) == 20


def test_a_file_as_french_offices_write_it(shell: Shell) -> None:
    text = (
        'code;"message";team\r\n01234;"où est mon colis ; il est en retard";NA\r\n00007;"la facture à 12,50 €";NULL\r\n'
    )
    (shell.folder / "in.csv").write_bytes(text.encode("cp1252"))
    said = shell("run", "triage.py:triage", "in.csv", "--llm", "offline", "-o", "out.csv")
    assert said.code == 0
    rows = cells(shell.folder / "out.csv", "cp1252", ";")
    assert [row["code"] for row in rows] == ["01234", "00007"]
    assert [row["team"] for row in rows] == ["NA", "NULL"]
    assert rows[1]["message"] == "la facture à 12,50 €"
    assert {row["llm_team"] for row in rows} <= {"billing", "delivery"}


def test_columns_delimiter_and_encoding(shell: Shell) -> None:
    (shell.folder / "in.txt").write_bytes("texte|x\nça va|1\n".encode("latin-1"))
    options = ("--column", "texte", "--delimiter", "|", "--encoding", "latin-1", "--llm", "offline")
    said = shell("run", "triage.py:triage", "in.txt", *options, "-o", "out.jsonl")
    assert said.code == 0
    assert lines(shell.folder / "out.jsonl")[0]["texte"] == "ça va"
    (shell.folder / "two.jsonl").write_text('{"a": "x", "b": "y"}\n')
    chosen = shell("preview", "triage.py:compare", "two.jsonl", "-c", "left=a", "-c", "right=b", "--llm", "offline")
    assert chosen.code == 0
    assert "left" in chosen.out


def test_the_llm_of_the_command_line_wins(shell: Shell) -> None:
    with FaultyServer(lambda _: {"team": "billing"}) as server:
        said = shell("run", "fixed.py:fixed", "in.csv", "--llm", f"{server.base_url}#m", "-o", "out.csv")
        assert said.code == 0
        assert server.counters.requests == 20
    assert {row["team"] for row in cells(shell.folder / "out.csv")} == {"billing"}


def test_the_settings_of_the_files_llm_hold_for_that_of_the_command_line(shell: Shell) -> None:
    made = 'llm=LLM("offline", cache=False, temperature=0.25, max_tokens=77, headers={"X-Team": "data"})'
    text = FIXED.replace('llm="offline"', made).replace("import InputField", "import LLM, InputField")
    (shell.folder / "fixed.py").write_text(text, "utf-8")
    with FaultyServer(lambda _: {"team": "billing"}) as server:
        for _ in range(2):
            command = ("run", "fixed.py:fixed", "in.csv", "--llm", f"{server.base_url}#m", "--limit", "1")
            assert shell(*command, "-o", "out.csv").code == 0
            (shell.folder / "out.csv").unlink()
            for path in shell.folder.glob("out.csv.*"):
                path.unlink()
        assert server.counters.requests == 2  # not from a cache
        body, headers = server.bodies[-1], server.headers[-1]
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("m", 0.25, 77)
    assert headers["x-team"] == "data"


def test_failed_rows_are_reported_and_asked_again(shell: Shell) -> None:
    with FaultyServer(lambda _: {"team": "billing"}, faults=[Status(400, "odd text", when="parcel")]) as server:
        command = ("run", "triage.py:triage", "in.csv", "--llm", f"{server.base_url}#m", "-o", "out.csv")
        first = shell(*command)
        assert first.code == 1
        assert "20 rows: 10 ok, 10 failed, 0 from the cache, 20 calls. out.csv" in first.err
        assert (
            "failed: 10 bad_request; the column 'error' has the reasons. The same command asks them again." in first.err
        )
        assert server.counters.requests == 20
        kept = shell(*command, "--no-retry-errors")
        assert (kept.code, server.counters.requests) == (0, 20)
        server.faults.clear()
        last = shell(*command, "--retry-errors")
        assert (last.code, server.counters.requests) == (0, 30)
        assert "20 rows: 10 done before, 10 ok, 0 failed, 0 from the cache, 10 calls" in last.err
    assert all(row["error"] == "" for row in cells(shell.folder / "out.csv"))


# ── preview ──


def test_preview_of_a_file_and_of_a_text(shell: Shell) -> None:
    of_file = shell("preview", "triage.py:triage", "in.csv", "--llm", "offline")
    of_text = shell("preview", "triage.py:triage", "--text", "the parcel 0", "--llm", "offline")
    assert (of_file.code, of_text.code) == (0, 0)
    assert of_file.out == of_text.out
    for part in (
        "Say which team takes the message.",
        "the invoice is wrong",
        "── user ──\nthe parcel 0",
        '"team"',
        '"model"',
    ):
        assert part in of_file.out


def test_preview_shows_what_no_terminal_can(shell: Shell) -> None:
    (shell.folder / "in.jsonl").write_text('{"message": "odd \\ud800 text"}\n')
    program = ["-m", "llmtasker", "preview", "triage.py:triage", "in.jsonl", "--llm", "offline"]
    for encoding in ("utf-8", "ascii"):
        environment = {**os.environ, "PYTHONIOENCODING": encoding}
        done = programs.run(*program, cwd=shell.folder, env=environment, text=False)
        assert (done.stderr, done.returncode) == (b"", 0)
        shown = rb"odd \ud800 text" if encoding == "utf-8" else b"odd ? text"
        assert shown in done.stdout


def test_options_keep_their_accents_in_the_c_locale(shell: Shell) -> None:
    (shell.folder / "in.csv").write_text("réclamation\nla facture\n", "utf-8")
    options = ["in.csv", "-c", "réclamation", "-l", "payé", "-l", "livré", "-o", "out.csv", "--llm", "offline"]
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0"}
    done = programs.run("-m", "llmtasker", "classify", *options, cwd=shell.folder, env=environment)
    assert done.returncode == 0, done.stderr
    assert "la facture,livré," in (shell.folder / "out.csv").read_text("utf-8")


@pytest.mark.skipif(sys.platform == "win32", reason="it has no /dev/stdout")
@pytest.mark.parametrize(
    ("before", "mode"), [(None, "w"), ("earlier\n", "a")], ids=["as with > and |", "as with >> to a file that is there"]
)
def test_rows_go_to_standard_output_wherever_it_leads(shell: Shell, before: str | None, mode: str) -> None:
    (shell.folder / "few.csv").write_text("message\nthe invoice\n", "utf-8")
    command = ["-m", "llmtasker", "run", "fixed.py:fixed", "few.csv", "-o", "-"]
    rows = "message,team,error\nthe invoice,billing,\n"
    assert programs.run(*command, cwd=shell.folder).stdout == rows
    place = shell.folder / "out.txt"
    if before is not None:
        place.write_text(before)
    with place.open(mode) as out:
        programs.run(*command, check=True, cwd=shell.folder, stdout=out)
    assert place.read_text() == (before or "") + rows


def test_a_missing_column_may_stand_on_another_sheet(shell: Shell) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    book.active.append(["Export CRM"])
    book.active.append(["of March"])
    book.create_sheet("data").append(["message"])
    book.save(shell.folder / "in.xlsx")
    said = shell("run", "triage.py:triage", "in.xlsx", "-o", "out.xlsx", "--llm", "offline")
    assert said.code == 2
    assert said.err.endswith(
        "which column holds 'message'? Columns: Export CRM. Their names may stand further down, such as in line 3. "
        "The sheet 'Sheet' is read, not 'data'. Give --column message=… or --header 3 or --sheet data.\n"
    )


def test_gold_is_read_with_the_options_of_a_run(shell: Shell) -> None:
    """An office's file: titles, another separator and encoding than its first line shows."""
    text = "Réclamations, mars\n\nmessage;équipe\nthe invoice;billing\n"
    (shell.folder / "gold.txt").write_bytes(text.encode("cp1252"))
    said = shell("evaluate", "fixed.py:fixed", "gold.txt", "--header", "3", "--gold", "équipe", "--encoding", "cp1252")
    assert "accuracy 100.0 %" in said.out
    assert said.out.endswith("gold rows from gold.txt: CSV, cp1252, delimiter ';'\n")


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet", "xlsx"])
def test_gold_of_every_format_is_read_as_in_python(shell: Shell, ending: str) -> None:
    write_rows(shell.folder / f"gold.{ending}", [{"message": 75011, "team": "billing"}])
    said = shell("evaluate", "fixed.py:fixed", f"gold.{ending}")
    assert "1 right, 0 wrong, 0 failed" in said.out
    assert f"gold rows from gold.{ending}: " in said.out


def test_a_task_file_is_named_where_a_task_is(shell: Shell) -> None:
    save_tasks(shell.folder)
    (shell.folder / "gold.csv").write_text("message,team\nthe invoice,billing\n")
    saved = "fixed.py:fixed+saved.json"
    for part in ("Say who pays.", "the parcel is late"):
        assert part in shell("preview", saved, "--text", "the parcel").out
    assert "accuracy 100.0 %" in shell("evaluate", saved, "gold.csv").out
    assert shell("run", saved, "in.csv", "-o", "out.csv").code == 0
    plain = shell("run", "plain.json", "in.csv", "-c", "message", "-o", "plain.csv", "--llm", "offline")
    assert plain.code == 0, plain.err
    teams = [row["team"] for row in cells(shell.folder / "out.csv")]
    assert teams == [row["label"] for row in cells(shell.folder / "plain.csv")] == ["delivery", "billing"] * 10


# ── mistakes ──

SEARCH = ["optimize", "fixed.py:fixed", "--train", "gold.jsonl", "--test", "in.csv"]
MISTAKES: dict[str, tuple[list[str], str]] = {
    "no task named": (["run", "triage.py", "in.csv"], "triage.py:TASK"),
    "no file named": (["run", ":triage", "in.csv"], "write FILE.py:TASK"),
    "no file and no name": (["run", "triage", "in.csv"], "write FILE.py:TASK"),
    "the file before the task": (["run", "in.csv", "fixed.py:fixed"], "the task comes first, then the file"),
    "gold before the task": (["evaluate", "in.csv", "fixed.py:fixed"], "the task comes first, then the file"),
    "a batch before its task": (["batch", "submit", "in.csv", "fixed.py:fixed"], "the task comes first"),
    "a page to compare": (["compare", "page.html", "page.html"], "give the .json file that `evaluate` wrote"),
    "rows to compare": (["compare", "notes.jsonl", "notes.jsonl"], "give the .json file that `evaluate` wrote"),
    "no report to compare": (["compare", "no.json", "no.json"], "can't read no.json: No such file"),
    "no such file": (["run", "nowhere.py:triage", "in.csv"], "there is no file nowhere.py"),
    "no such task": (["run", "fixed.py:fixe", "in.csv"], "it has fixed"),
    "no task": (["run", "fixed.py:nothing", "in.csv"], "has no task or pipeline 'nothing'"),
    "not Python": (["run", "in.csv:x", "in.csv"], "not a Python file"),
    "no tasks": (["run", "empty.py:x", "in.csv"], "it has none"),
    "a pipeline to preview": (
        ["preview", "chained.py:shout", "in.csv"],
        "chained.py:shout is a pipeline, and this command takes a task; llmtasker run, serve and evaluate take it.",
    ),
    "an LLM for a pipeline": (
        ["evaluate", "chained.py:shout", "in.csv", "--llm", "offline"],
        "--llm offline: the tasks of a pipeline have their own LLMs: set them in chained.py, or set LLMTASKER_LLM",
    ),
    "several outputs to measure": (["evaluate", "chained.py:words", "in.csv"], "measure it without explode=True"),
    "a function to measure": (["evaluate", "chained.py:plain", "in.csv"], "Write @pipeline above async def plain."),
    "nothing to measure": (["evaluate", "chained.py:x", "in.csv"], "no task or pipeline 'x'; it has shout, words.\n"),
    "a pipeline without gold": (["evaluate", "chained.py:shout", "short.csv"], "Give --column output=….\n"),
    "no such field of a pipeline": (
        ["evaluate", "chained.py:shout", "in.csv", "--gold", "loud=text"],
        "--gold loud=text: give field=column, where field is one of output.",
    ),
    "a report of an unknown kind": (
        ["evaluate", "fixed.py:fixed", "gold.jsonl", "-o", "a.json", "-o", "r.docx"],
        "--out r.docx: a report is written as .json, .html, .md or .txt.",
    ),
    "a report in no folder": (
        ["evaluate", "fixed.py:fixed", "gold.jsonl", "-o", "no/r.json"],
        "--out no/r.json: there is no folder no.",
    ),
    "a report that is a folder": (["evaluate", "fixed.py:fixed", "gold.jsonl", "-o", "folder.json"], "is a folder"),
    "a report over its gold": (["evaluate", "fixed.py:fixed", "gold.json", "-o", "./gold.json"], "choose another name"),
    "a task of an unknown kind": ([*SEARCH, "-o", "better.yaml"], "--out better.yaml: a task is written as .json."),
    "a task in no folder": ([*SEARCH, "-o", "no/x.json"], "--out no/x.json: there is no folder no."),
    "a task over its rows": ([*SEARCH, "--val", "gold.json", "-o", "gold.json"], "--out gold.json: that is an input"),
    "a task that no file holds": (
        [*SEARCH[:1], "unsaved.py:fixed", *SEARCH[2:], "-o", "better.json"],
        "AutoGroup(same=…) is a function, which can't be stored in a file",
    ),
    "rows as a task": (["run", "gold.json", "fixed.py:fixed"], "the task comes first, then the file of rows"),
    "a file that needs a class": (
        ["run", "saved.json", "in.csv"],
        "put the Python task that it was made from before it, as in FILE.py:TASK+saved.json",
    ),
    "a file of another task": (["evaluate", "other.py:other+saved.json", "in.csv"], "example 1 does not fit Triage"),
    "no task file": (["run", "fixed.py:fixed+no.json", "in.csv"], "no.json: can't be read: No such file"),
    "an empty name": (["run", "fixed.py:fixed", ""], ". is a folder; give a file"),
    "no LLM for a task file": (["run", "plain.json", "in.csv"], "Give --llm offline."),
    "a syntax error": (["run", "syntax.py:x", "in.csv"], "syntax.py, line 2: SyntaxError"),
    "an error on import": (["run", "broken.py:x", "in.csv"], "broken.py, line 3: ZeroDivisionError"),
    "a missing package": (["run", "missing.py:x", "in.csv"], "missing.py, line 1: ModuleNotFoundError"),
    "a wrong signature": (["run", "signature.py:x", "in.csv"], "has no output field"),
    "no LLM": (["run", "triage.py:triage", "in.csv"], "triage.py, line "),
    "an unknown LLM": (["run", "triage.py:triage", "in.csv", "--llm", "gpt"], "such as openai/gpt"),
    "no key": (["run", "triage.py:triage", "in.csv", "--llm", "openai/gpt-4.1"], "OPENAI_API_KEY"),
    "no input": (["run", "fixed.py:fixed", "nowhere.csv"], "nowhere.csv"),
    "an input of an unknown kind": (["run", "fixed.py:fixed", "in.pdf"], "in.pdf"),
    "a folder as input": (["run", "fixed.py:fixed", "folder.csv"], "folder.csv"),
    "no rows": (["run", "fixed.py:fixed", "empty.csv"], "empty.csv has no rows"),
    "no such column": (["run", "fixed.py:fixed", "in.csv", "-c", "text"], "there is no column 'text'"),
    "a column of no field": (["run", "fixed.py:fixed", "in.csv", "-c", "text=id"], "field is one of message"),
    "no column that fits": (["run", "fixed.py:fixed", "other.csv"], "--column message="),
    "a wrong delimiter": (["run", "fixed.py:fixed", "in.csv", "--delimiter", ";;"], "delimiter"),
    "a header past the end": (
        ["run", "fixed.py:fixed", "in.csv", "--header", "99"],
        "in.csv has no rows below line 99, which is read as its header.",
    ),
    "a column that is near": (["run", "fixed.py:fixed", "in.csv", "-c", "mesage"], "Did you mean 'message'? Columns: "),
    "a label that stands twice": (
        ["classify", "in.csv", "-l", "a=x", "-l", "a", "--llm", "offline"],
        "--label a is given twice.",
    ),
    "a budget below 0": (["run", "fixed.py:fixed", "in.csv", "--budget", "-1"], "--budget -1: give a cost above 0"),
    "a served LLM that is none": (["serve", "--llm", "gpt", "--no-key"], "such as openai/gpt"),
    "an offered LLM that is none": (["serve", "--llm", "offline", "--model", "gpt", "--no-key"], "such as openai/gpt"),
    "an unknown encoding": (["run", "fixed.py:fixed", "in.csv", "--encoding", "utf-9"], "utf-9"),
    "an output of an unknown kind": (["run", "fixed.py:fixed", "in.csv", "-o", "out.pdf"], "out.pdf"),
    "an output in no folder": (
        ["run", "fixed.py:fixed", "in.csv", "-o", "no/out.csv"],
        "can't write no/out.csv: there is no folder no.",
    ),
    "an output that is the input": (["run", "fixed.py:fixed", "in.csv", "-o", "in.csv"], "the input itself"),
    "an output that is something else": (["run", "fixed.py:fixed", "in.csv", "-o", "notes.jsonl"], "notes.jsonl"),
    "nothing to preview": (["preview", "fixed.py:fixed"], "give either a file or --text"),
    "too much to preview": (["preview", "fixed.py:fixed", "in.csv", "--text", "x"], "give either a file or --text"),
    "a text without its option": (
        ["preview", "fixed.py:fixed", "hello"],
        "there is no file 'hello'; if it is a text, write --text before it.",
    ),
    "an empty file to preview": (["preview", "fixed.py:fixed", "empty.jsonl"], "has no rows"),
    "a text for two fields": (["preview", "triage.py:compare", "--text", "x", "--llm", "offline"], "left"),
    "a demo with no LLM": (["demo", "--llm", "gpt"], "such as openai/gpt"),
    "a demo into nowhere": (["demo", "-o", "no/such/out.csv"], "no/such"),
    "a copy from nowhere": (["cache", "copy", "none", "cache"], "there is no cache in"),
    "a copy to another kind of place": (["cache", "copy", "s3://a/b", "none"], "is not a folder"),
    "nothing to prune": (["cache", "prune"], "--older-than"),
    "no age": (["cache", "prune", "--older-than", "soon"], "'soon' is not an amount"),
    "an age of no unit": (["cache", "prune", "--older-than", "30"], "one of h, d, w"),
    "no size": (["cache", "prune", "--max-size", "3 parsecs"], "one of kb, mb, gb"),
}
FILES = {
    "empty.py": "",
    "empty.csv": "",
    "empty.jsonl": "",
    "syntax.py": "x = 1\ny = = 2\n",
    "broken.py": "x = 0\ndef f():\n    return 1 / x\nf()\n",
    "chained.py": (
        "from llmtasker import pipeline\n@pipeline\nasync def shout(text: str) -> str:\n    return text.upper()\n"
        "@pipeline(explode=True)\nasync def words(text: str) -> list[str]:\n    return text.split()\n"
        "async def plain(text: str) -> str:\n    return text\n"
    ),
    "missing.py": "import no_such_package_anywhere\n",
    "signature.py": "from llmtasker import *\nclass X(Signature):\n    'X.'\n    a: str = InputField()\n",
    "unsaved.py": "from operator import eq\nfrom llmtasker import AutoGroup\n"
    + FIXED.replace('llm="offline"', 'llm="offline", group_size=AutoGroup(same=eq)'),
    "other.py": FIXED.replace("fixed =", "other =").replace("billing", "invoices"),
    "gold.jsonl": '{"message": "the invoice", "team": "billing"}\n',
    "gold.json": '[{"message": "the parcel", "team": "delivery"}]',
    "in.pdf": "%PDF-1.4",
    "in.dat": "message\nx\n",
    "wide.csv": "PAR1",
    "page.html": "<!doctype html>",
    "short.csv": "text\nx\n",
    "other.csv": "a,b\n1,2\n",
    "notes.jsonl": '{"id": 1}\n',
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_reported_in_a_line_and_nothing_is_written(shell: Shell, mistake: str) -> None:
    for name, content in FILES.items():
        (shell.folder / name).write_text(content)
    for name in ("folder.csv", "folder.json"):
        (shell.folder / name).mkdir()
    save_tasks(shell.folder)
    before = {path.name: path.read_bytes() for path in shell.folder.iterdir() if path.is_file()}
    arguments, words = MISTAKES[mistake]
    said = shell(*arguments)
    assert said.code == 2
    assert words in said.err
    assert said.err.startswith("llmtasker: ")
    assert said.err.count("\n") == 1 or "An LLM is named as one of" in said.err
    assert said.out == ""
    after = {path.name: path.read_bytes() for path in shell.folder.iterdir() if path.is_file()}
    after.pop("out.csv.journal.jsonl", None)
    assert after == before


ADVICE: dict[str, tuple[list[str], str, str]] = {
    "no LLM": (["run", "triage.py:triage", "in.csv"], "Give --llm offline.", "llm='offline'"),
    "no LLM to preview": (["preview", "triage.py:triage", "in.csv"], "Give --llm offline.", "llm='offline'"),
    "an unknown ending": (["run", "fixed.py:fixed", "in.dat"], "Give --kind csv.", "kind='csv'"),
    "Parquet by another name": (["classify", "wide.csv", "-l", "a"], "Give --kind parquet.", "kind="),
    "gold with an unknown ending": (["evaluate", "fixed.py:fixed", "in.dat"], "Give --kind csv.", "kind='csv'"),
    "no gold": (["evaluate", "fixed.py:fixed", "in.csv"], "Give --column team=….", "columns={"),
    "no input in gold": (["evaluate", "fixed.py:fixed", "other.csv"], "Give --column message=….", "columns={"),
    "an option that the command lacks": (
        ["optimize", "fixed.py:fixed", "--train", "in.dat", "--test", "in.csv"],
        ".xlsm.\n",
        "Give",
    ),
}
"""Commands with the options that their error names, and the same error in Python."""


@pytest.mark.parametrize("case", ADVICE)
def test_advice_is_in_the_words_of_the_command_line(shell: Shell, case: str) -> None:
    arguments, option, python = ADVICE[case]
    for name, content in FILES.items():
        (shell.folder / name).write_text(content)
    said = shell(*arguments, *(["--llm", "offline"] if arguments[0] == "classify" else []))
    assert said.code == 2
    assert option in said.err
    assert python not in said.err


def declare_fake(shell: Shell, before: str) -> None:
    """Write fake.py: its task `fake` is answered in the process, after the lines `before`."""
    code = FIXED + (
        "import sys\nfrom llmtasker import LLM\nfrom llmtasker.errors import BadRequestError\n"
        "from llmtasker.testing import FakeTransport\n"
        f"def answer(request):\n{before}    return {{'team': 'billing'}}\n"
        "fake = fixed.with_(llm=LLM(transport=FakeTransport(answer)))\n"
    )
    (shell.folder / "fake.py").write_text(code)


@pytest.mark.parametrize(
    ("rows", "advice"),
    [
        ("\nx\n", "failed: 1 input; the column 'error' has the reasons. Nothing was sent: correct these rows"),
        (
            "\nwhere\n",
            "failed: 1 input, 1 bad_request; the column 'error' has the reasons. The same command asks 1 ",
        ),
    ],
)
def test_rows_that_were_never_asked_are_not_asked_again(shell: Shell, rows: str, advice: str) -> None:
    declare_fake(shell, "    if 'where' in str(request.tail):\n        raise BadRequestError('no')\n")
    (shell.folder / "some.jsonl").write_text(
        "".join(json.dumps({"message": text}) + "\n" for text in rows.removesuffix("\n").split("\n"))
    )
    said = shell("run", "fake.py:fake", "some.jsonl", "-o", "out.jsonl")
    assert said.code == 1
    assert advice in said.err


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--concurrency", "0", "1"),
        ("--limit", "-3", "1"),
        ("--limit", "many", "integer"),
        ("--header", "0", "1"),
    ],
)
def test_an_option_that_cannot_be_read_is_named_with_its_value(
    shell: Shell, option: str, value: str, words: str
) -> None:
    said = shell("run", "fixed.py:fixed", "in.csv", option, value)
    assert said.code == 2
    for part in (option, value, words):
        assert part in said.err


@pytest.mark.parametrize(
    ("command", "option", "ours"),
    [
        ("run", "--model", "--llm"),
        ("classify", "--workers", "--concurrency"),
        ("run", "--force", "--overwrite"),
        ("preview", "--sep", "--delimiter"),
    ],
)
def test_an_option_of_other_programs_is_translated(shell: Shell, command: str, option: str, ours: str) -> None:
    said = shell(command, "fixed.py:fixed", "in.csv", option, "x")
    assert said.code == 2
    assert f"No such option: {option} (Possible options: {ours})" in said.err


def test_how_the_file_is_read_is_shown_before_the_first_call(shell: Shell) -> None:
    declare_fake(shell, "    print('asked', file=sys.stderr)\n")
    said = shell("run", "fake.py:fake", "in.csv", "-o", "out.csv", "--limit", "1")
    assert said.code == 0
    assert [line.split(":")[0] for line in said.err.splitlines()] == ["in.csv", "asked", "1 row"]


def test_an_estimate_counts_what_a_run_would_ask(shell: Shell) -> None:
    run = ("run", "fixed.py:fixed", "in.csv", "-o", "out.csv")
    assert shell(*run, "--limit", "1").code == 0
    said = shell(*run, "--estimate")
    rows = len(Path(shell.folder / "in.csv").read_text("utf-8").splitlines()) - 1
    assert f"rows    {rows - 1}, " in said.out
    assert "1 row done before, not in the estimate" in said.err
    assert shell(*run).code == 0
    fresh = shell(*run[:3], "-o", "again.csv", "--estimate", "--fresh")
    assert f"rows    {rows}, {rows} distinct, 0 cached" in fresh.out
    assert f"calls   {rows}" in fresh.out


def test_the_same_advice_is_in_python_where_python_asks(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"Give kind='csv'\.$") as caught:
        read_rows(tmp_path / "in.dat")
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_columns_of_gold_are_named_by_either_option(shell: Shell) -> None:
    (shell.folder / "gold.csv").write_text("text,right,site\nthe invoice,billing,A\nthe parcel,delivery,\n")
    command = ("evaluate", "fixed.py:fixed", "gold.csv", "--by", "site")
    first = shell(*command, "-c", "text", "-g", "right")
    second = shell(*command, "-c", "message=text", "-c", "team=right")
    assert first.code == second.code == 0
    for printed in (first.out, second.out):
        assert "site A, team: accuracy 100.0 % (20.7 to 100.0) of 1 row: 1 right" in printed
        assert "site (empty), team: accuracy" in printed


def test_a_pipeline_is_measured_like_a_task(shell: Shell) -> None:
    code = FIXED + (
        "from llmtasker import pipeline\n"
        "@pipeline\n"
        "async def answer(message: str) -> str:\n"
        "    return 'to ' + (await fixed.acall(message)).value.team\n"
    )
    (shell.folder / "flow.py").write_text(code)
    (shell.folder / "gold.csv").write_text(
        "text,reply,site\nthe invoice,to billing,A\nthe parcel,to delivery,A\nan invoice,to delivery,B\n"
    )
    options = ("-c", "text", "--gold", "reply", "--by", "site", "-o", "a.json", "-o", "a.html")
    said = shell("evaluate", "flow.py:answer", "gold.csv", *options)
    assert (said.code, said.err) == (0, "written to a.json\nwritten to a.html\n")
    assert "output: accuracy 66.7 % (20.8 to 93.9) of 3 rows: 2 right, 1 wrong, 0 failed" in said.out
    assert "site B, output: accuracy 0.0 %" in said.out
    assert "answer" in (shell.folder / "a.html").read_text("utf-8")
    assert "3 from the cache" in shell("evaluate", "flow.py:answer", "gold.csv", "-c", "text", "-g", "reply").out
    assert shell("compare", "a.json", "a.json").code == 0


def test_rows_piped_into_a_command_that_stops_reading(shell: Shell) -> None:
    read, write = os.pipe()
    os.close(read)
    command = ("-m", "llmtasker", "run", "fixed.py:fixed", "in.csv", "-o", "-")
    with os.fdopen(write, "wb") as closed:
        done = programs.run(*command, cwd=shell.folder, stdout=closed)
    assert (done.stderr, done.returncode) == ("in.csv: CSV, utf-8, delimiter ',', 20 rows\n", 1)


@pytest.mark.parametrize(
    "arguments",
    [
        ["walk"],
        ["run"],
        ["run", "fixed.py:fixed"],
        ["run", "fixed.py:fixed", "in.csv", "--concurrency", "0"],
        ["run", "fixed.py:fixed", "in.csv", "--limit", "many"],
        ["run", "fixed.py:fixed", "in.csv", "--colour", "x"],
        ["cache", "burn"],
    ],
    ids=" ".join,
)
def test_a_wrong_command_shows_its_usage(shell: Shell, arguments: list[str]) -> None:
    said = shell(*arguments)
    assert said.code == 2
    assert "Usage:" in said.err


@pytest.mark.parametrize("name", ["json.py", "openai.py", "typing.py"])
def test_a_file_may_have_the_name_of_a_module(shell: Shell, name: str) -> None:
    (shell.folder / name).write_text(FIXED, "utf-8")
    module = sys.modules.get(name[:-3])
    said = shell("run", f"{name}:fixed", "in.csv", "-o", "out.jsonl")
    assert said.code == 0
    assert module is None or sys.modules[name[:-3]] is module
    (shell.folder / name).unlink()


def test_a_task_file_may_import_its_neighbours(shell: Shell) -> None:
    (shell.folder / "mine.py").write_text("from fixed import fixed as task\n")
    assert shell("run", "mine.py:task", "in.csv", "-o", "out.csv").code == 0


# ── the cache ──


def test_the_cache_can_be_looked_into_pruned_and_cleared(shell: Shell) -> None:
    assert "entries  0" in shell("cache", "info").out
    shell("run", "fixed.py:fixed", "in.csv", "-o", "out.csv")
    info = shell("cache", "info")
    assert "entries  20" in info.out
    assert f"folder   {os.environ['LLMTASKER_CACHE_DIR']}" in info.out
    assert "state" not in info.out
    assert "0 entries removed" in shell("cache", "prune", "--older-than", "1h", "--max-size", "1GB").out
    assert "20 entries removed" in shell("cache", "prune", "--max-size", "0kb").out
    shell("run", "fixed.py:fixed", "in.csv", "-o", "again.csv")
    assert "20 entries removed" in shell("cache", "clear", "--yes").out
    assert "entries  0" in shell("cache", "info").out
    other = shell.folder / "elsewhere"
    for command in ("info", "prune --max-size 1GB", "clear --yes"):
        mistyped = shell("cache", *command.split(), "--directory", str(other))
        assert (mistyped.code, "there is no such folder" in mistyped.err, other.exists()) == (2, True, False)
    other.mkdir()
    assert "elsewhere" in shell("cache", "info", "--directory", str(other)).out


@pytest.mark.parametrize(("answer", "left"), [("n\n", 20), ("y\n", 0)])
def test_clearing_asks_first(shell: Shell, answer: str, left: int) -> None:
    shell("run", "fixed.py:fixed", "in.csv", "-o", "out.csv")
    done = programs.run("-m", "llmtasker", "cache", "clear", input=answer)
    assert "Remove 20 answers from" in done.stdout
    assert "Traceback" not in done.stderr
    assert (done.returncode == 0) is (left == 0)
    assert f"entries  {left}" in shell("cache", "info").out


def test_a_cache_that_cannot_be_read_is_reported(shell: Shell) -> None:
    (shell.folder / "file").write_text("no folder")
    said = shell("cache", "info", "--directory", str(shell.folder / "file"))
    assert "not readable" in said.out
    assert said.code == 0


def test_a_run_without_a_cache_that_works_reports_it_once(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    (shell.folder / "file").write_text("no folder")
    monkeypatch.setenv("LLMTASKER_CACHE_DIR", str(shell.folder / "file"))
    said = shell("run", "fixed.py:fixed", "in.csv", "-o", "out.csv")
    assert said.code == 0
    assert said.err.count("llmtasker: warning: ") == 1
    assert "20 ok" in said.err


# ── demo ──


def test_demo_twice(shell: Shell) -> None:
    first = shell("demo", "-o", "demo.csv")
    assert first.code == 0
    assert "built-in baseline, no language model" in first.out
    assert "cache      0 of 120 answered from the cache, 120 calls" in first.out
    assert "120 ok, 0 failed" in first.out
    rows = cells(shell.folder / "demo.csv")
    assert len(rows) == 120
    right = sum(row["team"] == row["by_hand"] for row in rows)
    assert f"({right} of 120 agree with a person's label)" in first.out
    assert right > 60
    second = shell("demo", "-o", "demo.csv")
    assert "cache      120 of 120 answered from the cache, 0 calls" in second.out
    assert cells(shell.folder / "demo.csv") == rows
    assert re.search(r"by team    \w+ \d+/20", first.out)
    # The same answers over a failing server: none is lost or changed.
    assert "answered   120 of 120, 120 as above" in first.out
    assert re.search(r"recovered  \d+ refused calls repeated, \d+ answers repaired, such as: ", first.out)
    fresh = shell("demo", "-o", "demo.csv", "--fresh")
    assert "cache      0 of 120 answered from the cache, 120 calls" in fresh.out


def test_demo_with_an_llm_that_fails_now_and_then(shell: Shell) -> None:
    with FaultyServer(lambda _: {"team": "billing"}, faults=[Status(400, "odd text", when="parcel")]) as server:
        said = shell("demo", "-o", "demo.csv", "--llm", f"{server.base_url}#m")
    assert said.code == 0
    assert "failed" in said.out
    assert "built-in baseline gave these answers" not in said.out
    errors = [row["error"] for row in cells(shell.folder / "demo.csv") if row["error"]]
    assert errors
    assert all(error.startswith("bad_request: ") for error in errors)


# ── signals ──


@pytest.fixture
def server() -> Iterator[FaultyServer]:
    with FaultyServer(lambda _: {"team": "billing"}, latency=0.02) as listening:
        yield listening


ROWS = 300
AT_ONCE = 8


@contextmanager
def started(folder: Path, server: FaultyServer, target: str) -> Iterator[subprocess.Popen[str]]:
    """Start a run over ROWS rows, and continue when half of them were asked."""
    rows = "\n".join(f'{{"id": {number}, "message": "message {number}"}}' for number in range(ROWS))
    (folder / "many.jsonl").write_text(rows + "\n")
    with programs.started(*command(server, target), cwd=folder, stderr=subprocess.PIPE) as process:
        deadline = time.monotonic() + 60
        while server.counters.ok < ROWS // 2:
            assert process.poll() is None, process.communicate(timeout=30)
            assert time.monotonic() < deadline
            time.sleep(0.005)
        yield process


def command(server: FaultyServer, target: str) -> list[str]:
    options = ["--llm", f"{server.base_url}#m", "-o", target, "--concurrency", str(AT_ONCE)]
    return ["-m", "llmtasker", "run", "triage.py:triage", "many.jsonl", *options]


def finish(folder: Path, server: FaultyServer, target: str) -> str:
    done = programs.run(*command(server, target), cwd=folder)
    assert done.returncode == 0, done.stderr
    rows = lines(folder / target) if target.endswith("jsonl") else cells(folder / target)
    assert [row["message"] for row in rows] == [f"message {number}" for number in range(ROWS)]
    assert {row["team"] for row in rows} == {"billing"}
    assert not list(folder.glob("*.journal.jsonl"))
    return done.stderr


def test_a_killed_run_continues_where_it_was(shell: Shell, server: FaultyServer) -> None:
    target = "out.jsonl"
    with started(shell.folder, server, target) as process:
        process.kill()
        process.communicate(timeout=30)
    asked = server.counters.requests
    assert asked < ROWS
    finish(shell.folder, server, target)
    assert server.counters.requests <= ROWS + AT_ONCE
    calls = server.counters.requests
    rows = [{"id": number, "message": f"message {number}"} for number in range(ROWS)]
    rows.reverse()
    (shell.folder / "many.jsonl").write_text("\n".join(json.dumps(row) for row in [*rows, {"message": "new"}]) + "\n")
    done = programs.run(*command(server, target), cwd=shell.folder)
    assert done.returncode == 0, done.stderr
    assert server.counters.requests == calls + 1, "shuffled: no call; a row more: one"


@pytest.mark.parametrize(("sent", "target"), [(signal.SIGINT, "out.jsonl"), (signal.SIGTERM, "out.csv")])
def test_a_stopped_run_keeps_what_is_finished_and_says_how_to_continue(
    shell: Shell, server: FaultyServer, sent: signal.Signals, target: str
) -> None:
    with started(shell.folder, server, target) as process:
        process.send_signal(sent)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    shown, stopped = err.splitlines()
    assert shown == "many.jsonl: jsonl, 300 rows"
    assert stopped.startswith("llmtasker: stopped; ")
    assert "The same command resumes from there." in err
    with Journal(shell.folder / f"{target}.journal") as journal:
        kept = len(journal)
    assert f"stopped; {kept} rows kept in {target}.journal." in err
    assert kept >= ROWS // 2 - 4 * AT_ONCE
    finish(shell.folder, server, target)
    assert server.counters.requests <= ROWS + AT_ONCE


def test_control_c_in_the_demo(shell: Shell, server: FaultyServer) -> None:
    program = ["-m", "llmtasker", "demo", "--llm", f"{server.base_url}#m"]
    with programs.started(*program, cwd=shell.folder, stderr=subprocess.PIPE) as process:
        deadline = time.monotonic() + 60
        while server.counters.ok < 20:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in err
