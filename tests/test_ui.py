"""The web page, requested as by a browser without scripts: forms, redirects, cookies."""

from __future__ import annotations

import ast
import csv
import io
import json
import re
import runpy
import threading
import time
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from html import unescape
from pathlib import Path
from typing import Any

import httpx2
import pytest
import uvicorn
from effort import calls_of
from hypothesis import given
from hypothesis import strategies as st

from llmtasker import LLM, Classification, Instruction, Prices
from llmtasker.api import ServerSettings, create_app
from llmtasker.api.http_protocol import HTTPProtocol
from llmtasker.api.problem import TYPES
from llmtasker.errors import ItemError
from llmtasker.evaluation.report_text import LABEL_COLUMNS, OTHER_MEASURES
from llmtasker.files import read_rows, write_rows
from llmtasker.jobs.project_store import ProjectStore
from llmtasker.testing import FakeTransport
from llmtasker.ui import add_pages
from llmtasker.ui.error_words import ADVICE, SENTENCES, explained
from llmtasker.ui.page_language import LANGUAGES, preferred
from llmtasker.ui.table_facts import table_facts, text_column
from llmtasker.ui.visit import marked
from llmtasker.values.error_causes import CAUSES
from llmtasker.values.language import french, typeset
from llmtasker.wire.request import Request
from llmtasker.wire.request_reader import last_user_text

KEYS = {"ann": "ann-has-this-very-key", "bob": "bob-has-another-key-x"}
SCRIPT = "<script>alert(1)</script>"
ROWS = [
    ("001", "Vous m’avez prélevé deux fois 34,90 €", "facturation"),
    ("002", "Mon colis n’est jamais arrivé", "livraison"),
    ("003", f"Le livreur a écrit {SCRIPT}", "livraison"),
    ("004", "=1+1 est une formule", "facturation"),
    ("005", "nonsense", ""),
]
LABELS = {"livraison": "colis, livreur", "facturation": "prélèvement"}


def answer(request: Request) -> Any:
    text = last_user_text(request)
    if "nonsense" in str(request.messages):
        return "no idea"
    if "amount" in str(request.messages[0]["content"]):
        return {"amount": 34, "paid": True}
    label = "facturation" if "prélevé" in text or "formule" in text else "livraison"
    return (
        {"labels": [label]}
        if "plusieurs" in str(request.messages[0]) or "toutes" in str(request.messages[0])
        else {"label": label}
    )


def fake() -> LLM:
    return LLM(transport=FakeTransport(answer), cache=False, prices=Prices(input=1.0, output=1.0))


class Page:
    """An app with the page on a free port of loopback, and browsers without scripts."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        given: dict[str, Any] = {"keys": KEYS, "llm": fake(), **settings}
        tasks = given.pop("tasks", {})
        self.app = create_app(tasks, ServerSettings(jobs=folder / "jobs.db", **given))
        add_pages(self.app)
        config = uvicorn.Config(self.app, port=0, log_level="error", access_log=False, http=HTTPProtocol, ws="none")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run)
        self._browsers: list[httpx2.Client] = []

    def __enter__(self) -> Page:
        self._thread.start()
        for _ in range(2_000):
            if self._server.started:
                break
            time.sleep(0.005)
        assert self._server.started
        self.url = "http://127.0.0.1:%d" % self._server.servers[0].sockets[0].getsockname()[1]  # noqa: UP031
        return self

    def __exit__(self, *_: object) -> None:
        for browser in self._browsers:
            browser.close()
        self._server.should_exit = True
        self._thread.join(20)
        assert not self._thread.is_alive()

    def browser(self, key: str | None = "ann", language: str = "fr") -> Browser:
        client = httpx2.Client(
            base_url=self.url, headers={"Accept-Language": language}, follow_redirects=True, timeout=20
        )
        self._browsers.append(client)
        browser = Browser(client)
        if key is not None:
            browser.send("/sign-in", key=KEYS[key])
        return browser


class Browser:
    """The pages that a person sees, and the forms that they send."""

    def __init__(self, client: httpx2.Client) -> None:
        self.client = client

    def get(self, path: str, status: int = 200, **more: Any) -> str:
        response = self.client.get(path, **more)
        assert response.status_code == status, response.text
        return response.text

    def token(self, path: str) -> str:
        found = re.search(r'name="csrf" value="([0-9a-f]+)"', self.client.get(path).text)
        assert found is not None, path
        return found[1]

    def post(self, path: str, *, files: Any = None, see: str | None = None, **fields: Any) -> httpx2.Response:
        data = {"csrf": self.token(see or "/sign-in"), **fields}
        return self.client.post(path, data=data, files=files)

    def send(self, path: str, *, status: int = 200, **fields: Any) -> httpx2.Response:
        response = self.post(path, **fields)
        assert response.status_code == status, response.text
        return response

    def upload(self, content: bytes, name: str = "messages.csv") -> str:
        """Upload a file, and return the path of its project."""
        response = self.send("/projects", see="/", files={"file": (name, content)})
        path = response.url.path
        assert path.endswith("/file"), path
        return path.removesuffix("/file")

    def described(self, content: bytes | None = None, **more: Any) -> str:
        """Upload messages and describe their labels; return the path of the project."""
        project = self.upload(french_csv() if content is None else content)
        fields: dict[str, Any] = {"label": list(LABELS), "meaning": list(LABELS.values()), "do": "save", **more}
        self.send(f"{project}/task", see=f"{project}/task", **fields)
        return project

    def run(self, project: str, do: str = "run", **fields: Any) -> str:
        """Start a run, wait for its end, and return its page."""
        path = f"{project}/task" if do in {"try", "run"} else f"{project}/run"
        form: dict[str, Any] = fields or {"label": list(LABELS), "meaning": list(LABELS.values())}
        self.send(path, see=f"{project}/task", do=do, **form)
        return self.ended(project)

    def ended(self, project: str) -> str:
        for _ in range(400):
            page = self.get(f"{project}/run")
            if "data-hx-get" not in page.partition('id="progress"')[2][:200]:
                return page
            time.sleep(0.02)
        raise AssertionError("the run did not end")


def french_csv(rows: Any = ROWS, encoding: str = "cp1252") -> bytes:
    file = io.StringIO(newline="")
    writer = csv.writer(file, delimiter=";", lineterminator="\r\n")
    writer.writerow(["id", "message", "equipe"])
    writer.writerows(rows)
    return file.getvalue().encode(encoding)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with Page(tmp_path_factory.mktemp("ui")) as served:
        yield served


# ── the way of a business user ──


def test_from_a_file_to_checked_answers(page: Page, tmp_path: Path) -> None:
    ann = page.browser()
    project = ann.upload(french_csv())
    shown = ann.get(f"{project}/file")
    assert "5\u00a0lignes" in shown
    assert '<option value="message" selected>' in shown
    assert '<option value="equipe" selected>' in shown  # the name of a column of labels
    assert '<option value="cp1252" selected>' in shown
    assert '<option value=";" selected>' in shown
    ann.send(
        f"{project}/file", see=f"{project}/file", text="message", gold="equipe", kind="classification", name="Octobre"
    )
    described = ann.send(f"{project}/task", see=f"{project}/task", do="from_column", source="equipe").text
    assert 'value="livraison"' in described
    labels: dict[str, Any] = {"label": list(LABELS), "meaning": list(LABELS.values())}
    rules = "Un {supplément} est une facturation."
    asked = ann.send(f"{project}/prompt", see=f"{project}/task", rules=rules, **labels).text
    assert "<mark>- livraison: colis, livreur</mark>" in asked
    assert "<mark>Un {supplément} est une facturation.</mark>" in asked
    assert "Classe le texte" in asked
    tried = ann.run(project, "try", rules=rules, **labels)
    assert "5 lignes essayées" in tried
    assert "4 réponses, 1 en échec" in unescape(tried), tried
    ran = ann.run(project, "run", rules=rules, **labels)
    assert "5 lignes terminées" in ran
    assert "La réponse est illisible" in ran
    results = ann.get(f"{project}/results")
    assert results.count("<tr data-row=") == 5
    assert SCRIPT not in results
    assert "&lt;script&gt;" in results
    assert ann.get(f"{project}/results?f=failed").count("<tr data-row=") == 1
    assert ann.get(f"{project}/results?q=COLIS").count("<tr data-row=") == 1
    assert ann.get(f"{project}/results?label=livraison").count("<tr data-row=") == 2
    assert "Aucune ligne ne correspond" in ann.get(f"{project}/results?q=zebra")
    corrected = ann.send(f"{project}/rows/5", see=f"{project}/results", label="livraison", as_example="on").text
    assert "Votre choix devient la référence" in unescape(corrected)
    assert ann.get(f"{project}/results?f=corrected").count("<tr data-row=") == 1
    assert "nonsense</textarea>" in ann.get(f"{project}/task")
    evaluation = unescape(ann.get(f"{project}/evaluation"))
    assert "5 lignes avec référence".replace(" ", "\u00a0", 1) in evaluation
    assert "80,0\u202f%" in evaluation  # the failed row counts as wrong, though it was corrected
    assert "Confusions" in evaluation
    assert "<html" in ann.get(f"{project}/report.html")
    text = ann.client.get(f"{project}/results.csv").content.decode("cp1252")
    rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=";"))
    assert rows[0][:4] == ["id", "message", "equipe", "label"]
    assert [row[0] for row in rows[1:]] == ["001", "002", "003", "004", "005"]
    assert [row[3] for row in rows[1:]] == ["facturation", "livraison", "livraison", "facturation", "livraison"]
    assert rows[4][1].startswith("'=1+1")
    code = tmp_path / "task.py"
    code.write_text(ann.get(f"{project}/task.py"), encoding="utf-8")
    (tmp_path / "task.json").write_text(ann.get(f"{project}/task.json"), encoding="utf-8")
    loaded = Classification.load(tmp_path / "task.json", llm=LLM(transport=FakeTransport({"label": "facturation"})))
    assert loaded("prélevé").output == "facturation"
    assert loaded.labels == list(LABELS)


def test_the_code_of_a_task_runs(page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ann = page.browser()
    monkeypatch.setenv("LLMTASKER_LLM", "offline")
    project = ann.described(
        example_text=['il a dit "non"\\'], example_answer=["livraison"], rules='"""', allow_none="on"
    )
    code = tmp_path / "task.py"
    code.write_text(ann.get(f"{project}/task.py"), encoding="utf-8")
    task = runpy.run_path(str(code))["task"]
    assert task.labels == list(LABELS)
    assert task.plan.allow_none
    ann.send(f"{project}/file", see=f"{project}/file", kind="instruction")
    fields: dict[str, Any] = {
        "field": ["amount", "mood"],
        "kind": ["integer", "choices"],
        "choices": ["", "calm; angry"],
    }
    ann.send(f"{project}/task", see=f"{project}/task", do="save", rules="Give the {amount}.", **fields)
    code.write_text(ann.get(f"{project}/task.py"), encoding="utf-8")
    made = runpy.run_path(str(code))["task"]
    assert isinstance(made, Instruction)
    assert list(made.signature.output_fields) == ["amount", "mood"]


def test_a_custom_instruction_with_fields(page: Page) -> None:
    ann = page.browser()
    project = ann.upload(french_csv(ROWS[:2]))
    ann.send(f"{project}/file", see=f"{project}/file", text="message", kind="instruction", gold="")
    fields: dict[str, Any] = {
        "rules": "Give the amount.",
        "field": ["amount", "paid"],
        "kind": ["integer", "boolean"],
        "choices": ["", ""],
    }
    ran = ann.run(project, **fields)
    assert "2 lignes terminées" in ran
    assert "34 · true" in ann.get(f"{project}/results")
    ann.send(f"{project}/rows/1", see=f"{project}/results", field_amount="35", field_paid="non")
    exported = [json.loads(line) for line in ann.get(f"{project}/results.jsonl").splitlines()]
    assert (exported[0]["amount"], exported[0]["paid"]) in {(35, False), ("35", False)}
    refused = ann.post(f"{project}/rows/1", see=f"{project}/results", field_amount="many", field_paid="oui")
    assert refused.status_code == 422


def test_a_custom_instruction_with_one_field(page: Page) -> None:
    ann = page.browser()
    project = ann.upload(french_csv(ROWS[:2]))
    ann.send(f"{project}/file", see=f"{project}/file", text="message", kind="instruction", gold="")
    ann.run(project, rules="Give the amount.", field=["amount"], kind=["integer"], choices=[""])
    assert '<span class="clip-in">34</span>' in ann.get(f"{project}/results")
    exported = [json.loads(line) for line in ann.get(f"{project}/results.jsonl").splitlines()]
    assert [row["amount"] for row in exported] == [34, 34]


@pytest.mark.parametrize(
    ("amounts", "listed"), [(range(30), False), ([5] * 10 + [7] * 20, True), (list(range(12)) * 3, True)]
)
def test_values_are_counted_where_they_recur(tmp_path: Path, amounts: Any, listed: bool) -> None:
    """A bar for each of thirty different amounts would say nothing."""
    llm = LLM(transport=FakeTransport(lambda request: {"amount": int(last_user_text(request))}), cache=False)
    with Page(tmp_path, llm=llm) as served:
        ann = served.browser()
        project = ann.upload(french_csv([(n, amount, "") for n, amount in enumerate(amounts)]))
        ann.send(f"{project}/file", see=f"{project}/file", text="message", kind="instruction", gold="")
        ran = ann.run(project, rules="Give the amount.", field=["amount"], kind=["integer"], choices=[""])
        for shown in (ran, ann.get(f"{project}/results")):
            assert ('class="dist"' in shown) == listed
            assert ("Presque toutes les réponses diffèrent" in shown) != listed


def test_rows_that_no_answer_can_help_are_not_offered_again(page: Page) -> None:
    """An empty text fails without a call, however often it is asked."""
    ann = page.browser()
    project = ann.described(french_csv([*ROWS, ("006", "", ""), ("007", "", "")]))
    assert "Relancer 1 ligne" in ann.run(project).replace("1 ligne", "1 ligne")
    assert "Relancer 1 ligne" in ann.get(f"{project}/results").replace(" ", " ")
    project = ann.described(french_csv([*ROWS[:2], ("006", "", "")]))
    assert "Relancer" not in ann.run(project)
    assert "Relancer" not in ann.get(f"{project}/results")


def test_a_row_that_was_not_asked_shows_what_would_be_sent(tmp_path: Path) -> None:
    slow = LLM(transport=FakeTransport({"label": "livraison"}, latency=30), cache=False)
    with Page(tmp_path, llm=slow) as served:
        ann = served.browser()
        project = ann.described()
        ann.send(f"{project}/task", see=f"{project}/task", do="run", label=list(LABELS), meaning=["", ""])
        ann.send(f"{project}/run", see=f"{project}/run", do="cancel")
        shown = ann.get(f"{project}/results?row=1")
        assert "Messages à envoyer" in shown
        assert "Messages envoyés" not in shown


def test_several_labels(page: Page) -> None:
    ann = page.browser()
    project = ann.upload(french_csv(ROWS[:2]))
    labels: dict[str, Any] = {"label": list(LABELS), "meaning": list(LABELS.values()), "multi_label": "on"}
    ann.run(project, **labels)
    results = ann.get(f"{project}/results?row=1")
    assert 'type="checkbox" name="label"' in results
    ann.send(f"{project}/rows/1", see=f"{project}/results", label=["livraison", "facturation"])
    assert "livraison · facturation" in ann.get(f"{project}/results")


def test_rows_are_filtered_by_their_confidence(tmp_path: Path) -> None:
    calls = iter(range(1_000))

    def torn(request: Request) -> Any:
        if "prélevé" in last_user_text(request):
            return {"label": [*LABELS, "autre"][next(calls) % 3]}  # 2 of 5 agree at most
        return {"label": "livraison"}

    with Page(tmp_path, llm=LLM(transport=FakeTransport(torn), cache=False)) as served:
        ann = served.browser()
        project = ann.upload(french_csv(ROWS[:2]))
        labels: dict[str, Any] = {"label": [*LABELS, "autre"], "meaning": ["", "", ""], "confidence": "votes"}
        ann.run(project, **labels)
        assert "Confiance" in ann.get(f"{project}/results")
        unsure = ann.get(f"{project}/results?f=unsure")
        assert re.findall(r'<tr data-row="(\d+)"', unsure) == ["1"]
        assert "1,00" in ann.get(f"{project}/results?row=2")


def test_a_task_of_the_server(tmp_path: Path) -> None:
    from test_api import Triage

    from llmtasker import Task

    llm = LLM(transport=FakeTransport(lambda _: {"team": "billing"}), cache=False)
    with Page(tmp_path, tasks={"triage": Task(Triage, llm=llm)}) as served:
        ann = served.browser()
        project = ann.upload(french_csv(ROWS[:2]))
        ann.send(f"{project}/file", see=f"{project}/file", kind="triage")
        assert 'name="column_message"' in ann.get(f"{project}/task")
        ran = ann.run(project, column_message="message")
        assert "2 lignes terminées" in ran
        assert "billing" in ann.get(f"{project}/results")
        assert ann.client.get(f"{project}/task.py").status_code == 404


def test_pasted_lines_an_example_and_broken_rows(page: Page) -> None:
    ann = page.browser(language="en")
    pasted = ann.send("/projects", see="/", lines="first\n\n  second\n")
    assert "2\u00a0rows" in pasted.text
    sample = ann.send("/projects", see="/", sample="1")
    assert "messages" in sample.text
    broken = ann.upload(b"id;message\n1;fine\n2;a;b\n3;fine\n")
    assert "Broken:" in ann.get(f"{broken}/file")
    assert "Choose a file" in ann.send("/projects", see="/", status=422, lines=" ").text


def test_a_file_is_read_again_in_another_way(page: Page) -> None:
    ann = page.browser()
    project = ann.upload(french_csv())
    ann.send(f"{project}/file", see=f"{project}/file", encoding="cp850", delimiter=";", read="1")
    shown = ann.get(f"{project}/file")
    assert '<option value="cp850" selected>' in shown
    assert "prélevé" not in shown


def test_labels_come_from_a_file(page: Page) -> None:
    ann = page.browser()
    project = ann.upload(french_csv())
    files = {"label_file": ("labels.csv", "nom;sens\nretour;renvoi d’un article\nautre;\n".encode())}
    shown = ann.send(f"{project}/task", see=f"{project}/task", do="from_file", files=files).text
    assert 'value="retour"' in shown
    assert "renvoi d’un article" in shown
    files = {"label_file": ("labels.txt", b"sinistre\n\nautre\n")}
    assert 'value="sinistre"' in ann.send(f"{project}/task", see=f"{project}/task", do="from_file", files=files).text


def test_the_evaluation_follows_a_correction_that_is_changed(page: Page) -> None:
    ann = page.browser()
    project = ann.described(french_csv(ROWS[:2]))
    ann.run(project)
    shares = list[str]()
    for label in ("facturation", "livraison"):
        ann.send(f"{project}/rows/1", see=f"{project}/results", label=label)
        shares.append("100,0" if "100,0\u202f%" in ann.get(f"{project}/evaluation") else "0,0")
    assert shares == ["100,0", "0,0"]


def test_a_wrong_address_is_a_page(page: Page) -> None:
    ann = page.browser()
    project = ann.described()
    assert "Cette page n’existe pas." in ann.get(f"{project}/nothing", 404)
    assert ann.client.get("/nothing").headers["content-type"] == "application/problem+json"


def test_a_second_run_keeps_corrections_and_is_compared(page: Page) -> None:
    ann = page.browser()
    many = [(str(number), f"{ROWS[number % 2][1]} {number}", ROWS[number % 2][2]) for number in range(40)]
    project = ann.upload(french_csv(many))
    ann.run(project)
    ann.send(f"{project}/rows", see=f"{project}/results", picked=["1", "2"], do="label", label="livraison")
    swapped: dict[str, Any] = {"label": list(LABELS), "meaning": ["", ""], "rules": "Autrement."}
    ann.run(project, **swapped)
    assert ann.get(f"{project}/results?f=corrected").count("<tr data-row=") == 2
    assert "Aucune différence démontrée" in unescape(ann.get(f"{project}/evaluation"))


def test_a_run_can_be_cancelled_and_asked_again(tmp_path: Path) -> None:
    slow = LLM(transport=FakeTransport(answer, latency=0.2), cache=False)
    with Page(tmp_path, llm=slow, concurrency=1) as served:
        ann = served.browser()
        project = ann.described()
        ann.send(f"{project}/task", see=f"{project}/task", do="run", label=list(LABELS), meaning=["", ""])
        paused = ann.send(f"{project}/run", see=f"{project}/task", do="pause").text
        assert "En pause" in paused
        assert ann.post(f"{project}/run", see=f"{project}/task", do="pause").status_code == 409
        ann.send(f"{project}/run", see=f"{project}/task", do="resume")
        ann.send(f"{project}/run", see=f"{project}/task", do="cancel")
        assert "Annulée" in ann.ended(project)
        assert "pas encore envoyée" in ann.get(f"{project}/results?f=waiting")


# ── access ──


def test_nobody_sees_anything_without_a_key(page: Page) -> None:
    ann, nobody = page.browser(), page.browser(None)
    project = ann.described()
    for path in ("/", f"{project}/file", f"{project}/task", f"{project}/results", f"{project}/results.csv"):
        assert 'name="key"' in nobody.get(path), path
    assert nobody.send("/sign-in", status=401, key="lt_wrong").url.path == "/sign-in"
    assert SCRIPT not in nobody.send("/sign-in", status=401, key=SCRIPT).text


def test_nobody_sees_what_is_anothers(page: Page) -> None:
    ann, bob = page.browser(), page.browser("bob")
    project = ann.described()
    ann.run(project)
    shown = ("file", "task", "run", "results", "evaluation", "report.html", "results.csv", "results.xlsx", "task.json")
    for path in (*shown, "task.py", "rows/1", "delete", "progress"):
        bob.get(f"{project}/{path}", 404)
    for path in ("file", "task", "prompt", "run", "rows", "rows/1", "delete"):
        bob.send(f"{project}/{path}", status=404, do="run", label="livraison")
    assert "messages.csv" not in bob.get("/")
    assert "messages.csv" in ann.get("/")


def test_a_form_from_elsewhere_is_refused(page: Page) -> None:
    ann, bob = page.browser(), page.browser("bob")
    project = ann.described()
    for token in ("", "0" * 40, bob.token("/"), "é"):
        for path in ("/projects", f"{project}/task", f"{project}/file", f"{project}/delete", "/theme", "/sign-out"):
            refused = ann.client.post(path, data={"csrf": token, "lines": "x", "do": "run"})
            assert refused.status_code == 403, (path, token)
    assert ann.client.post(f"{project}/delete").status_code == 403
    assert "messages.csv" in ann.get("/")


def test_a_session_is_a_random_number_that_ends(page: Page) -> None:
    ann = page.browser()
    cookie = next(one for one in ann.client.cookies.jar if one.name == "llmtasker_session")
    assert KEYS["ann"] not in str(cookie.value)
    header = page.browser(None).client.post(
        "/sign-in", data={"csrf": page.browser(None).token("/sign-in"), "key": KEYS["ann"]}, follow_redirects=False
    )
    said = header.headers["set-cookie"].lower()
    assert "httponly" in said
    assert "samesite=strict" in said
    assert "max-age" not in said  # it is gone when the browser is closed
    ann.send("/sign-out", see="/")
    assert 'name="key"' in ann.get("/")
    ann.client.cookies.set("llmtasker_session", str(cookie.value))
    assert 'name="key"' in ann.get("/")  # the number is not valid any more


@pytest.mark.parametrize("then", ["//evil.example", "https://evil.example", "/\\evil.example", "/a\r\nSet-Cookie: x=1"])
def test_signing_in_leads_nowhere_else(page: Page, then: str) -> None:
    nobody = page.browser(None)
    data = {"csrf": nobody.token("/sign-in"), "key": KEYS["ann"], "then": then}
    answered = nobody.client.post("/sign-in", data=data, follow_redirects=False)
    assert answered.headers["location"] == "/"


def test_every_answer_has_the_policy(page: Page) -> None:
    ann = page.browser()
    project = ann.described()
    for path in ("/", f"{project}/task", "/p/none/file", "/static/page.js", "/static/../visit.py", "/nothing"):
        response = ann.client.get(path)
        assert response.headers["content-security-policy"].startswith("default-src 'self';"), path
        assert response.headers["x-content-type-options"] == "nosniff"
        text = response.text
        if "html" in response.headers["content-type"]:
            assert not re.search(r"<style|style=|\son\w+=|javascript:|https?://", text), path
            assert not re.search(r"<script(?![^>]*\ssrc=)", text), path
    assert ann.client.get("/static/..%2Fvisit.py").status_code == 404
    assert ann.client.get("/static/visit.py").status_code == 404


def test_names_of_files_are_only_words(page: Page) -> None:
    ann = page.browser()
    for name in ("../../etc/passwd.csv", "a\u202egnp.csv", f"{SCRIPT}.csv", "x" * 500 + ".csv", "C:\\temp\\b.csv"):
        project = ann.upload(french_csv(), name)
        shown = ann.get(f"{project}/file")
        assert SCRIPT not in shown
        assert "etc/" not in shown
        assert len(shown) < 40_000
    refused = ann.send("/projects", see="/", status=415, files={"file": ("run.exe", b"MZ")})
    assert "Ce type de fichier" in refused.text


def test_what_is_deleted_is_gone(tmp_path: Path) -> None:
    with Page(tmp_path) as served:
        ann = served.browser()
        project = ann.described()
        ann.run(project)
        assert ann.send(f"{project}/delete", see=f"{project}/delete").url.path == "/"
        ann.get(f"{project}/results", 404)
        served.app.state.server.queue.file.read("PRAGMA wal_checkpoint(TRUNCATE)")
        content = (tmp_path / "jobs.db").read_bytes()
        assert "jamais arrivé".encode() not in content
        assert KEYS["ann"].encode() not in content


def test_without_an_llm_every_page_reports_it(tmp_path: Path) -> None:
    with Page(tmp_path, llm="offline", open=True, keys=None) as served:
        anybody = served.browser(None)
        project = anybody.described()
        for path in ("/", f"{project}/file", f"{project}/task"):
            assert "baseline intégrée" in anybody.get(path)
        foreign = {"Sec-Fetch-Site": "cross-site"}
        assert anybody.client.get("/jobs", headers=foreign).status_code == 403


def test_the_first_page_is_small(page: Page) -> None:
    ann = page.browser()
    first = ann.get("/")
    urls = {url.partition("#")[0] for url in re.findall(r'(?:href|src)="(/static/[^"]+)"', first)}
    sizes = [len(ann.client.get(url).content) for url in urls]
    assert len(urls) + 1 <= 5
    assert sum(sizes) + len(first.encode()) <= 90_000
    again = ann.client.get(
        "/static/page.js", headers={"If-None-Match": ann.client.get("/static/page.js").headers["etag"]}
    )
    assert again.status_code == 304


# ── language ──


def test_the_language_is_the_browsers_until_one_is_chosen(page: Page) -> None:
    ann = page.browser(language="de, en;q=0.8, fr;q=0.2")
    assert '<html lang="en"' in ann.get("/")
    assert '<html lang="fr"' in ann.get("/?lang=fr")
    assert '<html lang="fr"' in ann.get("/")
    assert '<html lang="fr" data-theme="dark"' in ann.send("/theme", see="/", theme="dark", then="/").text


def test_french_has_all_words_of_the_page() -> None:
    package = Path(__file__).parents[1] / "llmtasker"
    templates = _sources(package / "ui" / "templates", "*.html")
    found = {text for _, text in re.findall(r"""\b_\((["'])(.*?)\1[,)]""", templates)}
    found |= {text for path in package.rglob("*.py") for text in _words_in(ast.parse(path.read_text("utf-8")))}
    found |= {*OTHER_MEASURES, *LABEL_COLUMNS}
    found |= {*CAUSES.values(), *ADVICE.values(), *(sentence for _, sentence in SENTENCES)}
    found |= {title for _, title in TYPES.values()}
    assert found == french().keys()
    for english, said in french().items():
        assert set(re.findall(r"\{(\w+)", english)) == set(re.findall(r"\{(\w+)", said)), english


@pytest.mark.parametrize(
    ("code", "message", "why"),
    [
        ("invalid", "the answer is empty", "Le LLM a envoyé une réponse vide."),
        (
            "invalid",
            "label: Input should be 'a' or 'b' (got 'z'); the answer was '{}'",
            "Le LLM a répondu «\u00a0z\u00a0», qui n’est pas une des étiquettes.",
        ),
        (
            "input",
            "the input does not fit S: n: Input should be a valid integer, unable … (got 'b')",
            "n\u00a0: «\u00a0b\u00a0» n’est",
        ),
        ("invalid", "amount: Input should be greater than or equal to 1 (got 0); the …", "0 est trop petit"),
        ("invalid", "date: Field required; mood: Field required; the answer was", "date\u00a0: la valeur est absente."),
        ("input", "text: the text is empty, and the task needs one", "Le texte est vide (text)"),
        ("input", "line 1,234 has 1 cell, the header has 2", "1\u202f234 du fichier a 1 cellule, l’en-tête 2."),
        (
            "abstained",
            "its confidence is 0.312, and the threshold is 0.900",
            "0,31, en dessous du seuil de 0,90 fixé",
        ),
        ("timeout", "no whole answer came within 30 s", "en 30 s."),
        ("truncated", 'the answer is cut after \'{"label": "li\'', "coupée avant la fin."),
        ("rate_limit", "anything else", "Le LLM a imposé une attente trop longue."),
        ("of a later version", "<script>", "L’appel a échoué."),
        ("invalid", "x: Input should be 'a' (got '<script>')", "&lt;script&gt;"),
    ],
)
def test_errors_are_reported_in_french(code: str, message: str, why: str) -> None:
    said, advice = explained({"code": code, "message": message}, LANGUAGES["fr"])
    assert why in said
    assert (advice is None) == (code not in ADVICE)
    assert "<script>" not in said


def test_every_kind_of_error_has_words() -> None:
    kinds = {kind.code for kind in _kinds(ItemError)}
    assert kinds == CAUSES.keys()
    assert CAUSES.keys() - ADVICE.keys() == {"error", "abstained"}


def _kinds(kind: type[ItemError]) -> Iterator[type[ItemError]]:
    yield kind
    for one in kind.__subclasses__():
        yield from _kinds(one)


def _words_in(tree: ast.Module) -> Iterator[str]:
    """Yield the words in calls such as `words.text("…")`, also through a constant of the file."""
    constants = {
        node.targets[0].id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "text":
            for given in node.args[:1]:
                for part in (given.body, given.orelse) if isinstance(given, ast.IfExp) else (given,):
                    value = constants.get(part.id) if isinstance(part, ast.Name) else part
                    if isinstance(value, ast.Constant) and isinstance(value.value, str):
                        yield value.value


def _sources(folder: Path, pattern: str) -> str:
    return "\n".join(path.read_text(encoding="utf-8") for path in sorted(folder.glob(pattern)))


@pytest.mark.parametrize(
    ("english", "said", "way", "value"),
    [
        ("9,412", "9\u202f412", "number", 9412),
        ("84.3 %", "84,3\u202f%", "percent", 0.843),
        ("$1.41", "1,41\u00a0$", "money", 1.414),
        ("$0.000163", "0,000163\u00a0$", "money", 0.000163),
        ("price unknown", "prix inconnu", "money", None),
        ("2.1\u00a0MB", "2,1\u00a0Mo", "bytes", 2_100_000),
        ("1\u00a0row", "1\u00a0ligne", "rows", 1),
        ("0\u00a0rows", "0\u00a0ligne", "rows", 0),
        ("2\u00a0h\u00a005", "2\u00a0h\u00a005", "time_span", 7_500),
    ],
)
def test_numbers_are_written_as_each_language_does(english: str, said: str, way: str, value: float | None) -> None:
    assert getattr(LANGUAGES["en"], way)(value) == english
    assert getattr(LANGUAGES["fr"], way)(value) == said


@given(st.text())
def test_any_header_and_text_is_taken(text: str) -> None:
    assert preferred(text) in LANGUAGES
    assert typeset(typeset(text)) == typeset(text)
    assert unescape(str(marked(text, [text[:3]], [text[2:]])).replace("<mark>", "").replace("</mark>", "")) == unescape(
        str(marked(text, [], []))
    )


# ── found by new users ──


def test_one_run_at_a_time_and_nothing_left_of_what_is_deleted(tmp_path: Path) -> None:
    slow = LLM(transport=FakeTransport(answer, latency=0.3), cache=False)
    with Page(tmp_path, llm=slow, concurrency=1) as served:
        ann = served.browser()
        project = ann.described()
        form: dict[str, Any] = {"label": list(LABELS), "meaning": ["", ""]}
        ann.send(f"{project}/task", see=f"{project}/task", do="try", **form)
        for do in ("try", "run"):
            assert ann.post(f"{project}/task", see=f"{project}/task", do=do, **form).status_code == 409
        ann.send(f"{project}/run", see=f"{project}/task", do="cancel")
        ann.send(f"{project}/task", see=f"{project}/task", do="run", **form)
        ann.send(f"{project}/run", see=f"{project}/task", do="cancel")
        ann.send(f"{project}/file", see=f"{project}/file", encoding="cp850", read="1")
        ann.send(f"{project}/delete", see=f"{project}/delete")
        queue = served.app.state.server.queue
        for table in ("jobs", "rows", "uploads", "projects"):
            assert queue.file.read(f"SELECT count(*) FROM {table}") == [(0,)], table  # noqa: S608


def test_two_people_change_different_things(page: Page) -> None:
    ann = page.browser()
    project = ann.described()
    projects = ProjectStore(page.app.state.server.queue.file)
    stale = projects.get(project.rpartition("/")[2], "ann")
    assert stale is not None
    ann.send(f"{project}/file", see=f"{project}/file", name="Renamed")
    projects.change(stale, gold="equipe")
    shown = ann.get(f"{project}/file")
    assert "Renamed" in shown
    assert '<option value="equipe" selected>' in shown


@pytest.mark.parametrize("headers", [{"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}])
def test_nobody_is_signed_in_by_another_site(page: Page, headers: dict[str, str]) -> None:
    nobody = page.browser(None)
    data = {"csrf": nobody.token("/sign-in"), "key": KEYS["bob"]}
    refused = nobody.client.post("/sign-in", data=data, headers=headers)
    assert refused.status_code == 403
    assert "llmtasker_session" not in nobody.client.cookies


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("file", {"encoding": "utf-16", "read": "1"}),
        ("file", {"encoding": "punycode", "read": "1"}),
        ("file", {"header": "²", "read": "1"}),
        ("file", {"header": "9" * 5_000, "read": "1"}),
        ("rows", {"picked": ["²", "9" * 30], "do": "label", "label": "livraison"}),
        ("rows/" + "9" * 30, {"label": "livraison"}),
        ("rows/0", {"label": "livraison"}),
        ("task", {"label": ["a", "a"], "meaning": ["", ""], "do": "try"}),
        ("task", {"do": "from_file"}),
    ],
)
def test_odd_values_are_refused_on_a_page(page: Page, path: str, fields: dict[str, Any]) -> None:
    ann = page.browser()
    project = ann.described()
    ann.run(project)
    response = ann.post(f"{project}/{path}", see=f"{project}/task", **fields)
    assert response.status_code < 500, response.text
    assert "<html" in response.text


def test_no_form_breaks_the_pages_of_a_key(page: Page) -> None:
    ann = page.browser()
    project = ann.described()
    body = f'--b\r\nContent-Disposition: form-data; name="csrf"\r\n\r\n{ann.token("/")}\r\n--b\r\n'
    body += 'Content-Disposition: form-data; name="name"\r\n\r\n+2AA-\r\n--b--\r\n'
    headers = {"Content-Type": "multipart/form-data; boundary=b; charset=utf-7"}
    refused = ann.client.post(f"{project}/file", content=body.encode(), headers=headers)
    assert refused.status_code == 422
    ann.get("/")


def test_what_is_half_described_is_kept(page: Page) -> None:
    ann = page.browser()
    project = ann.upload(french_csv())
    half: dict[str, Any] = {"label": ["", "autre"], "meaning": ["un sens sans nom", ""]}
    assert "un sens sans nom" in ann.send(f"{project}/task", see=f"{project}/task", do="save", **half).text
    nobody = page.browser(None)
    assert nobody.client.get(f"{project}/progress").url.params["then"] == f"{project}/run"
    assert nobody.client.get(f"{project}/results?f=failed").url.params["then"] == f"{project}/results?f=failed"


def test_the_trial_is_judged_as_the_evaluation_is(page: Page) -> None:
    ann = page.browser()
    many = [(str(n), f"{ROWS[n % 2][1]} {n}", "livraison; facturation" if n % 2 else "facturation") for n in range(20)]
    project = ann.upload(french_csv(many))
    ann.send(f"{project}/file", see=f"{project}/file", text="message", gold="equipe", kind="classification")
    labels: dict[str, Any] = {"label": list(LABELS), "meaning": ["", ""], "multi_label": "on", "language": "fr"}
    assert "10 justes sur les 20 lignes" in unescape(ann.run(project, "try", **labels))


def test_dates_are_not_proposed_as_texts() -> None:
    rows = [{"when": "2026-11-26T10:00:00+01:00", "text": f"court {n}"} for n in range(9)]
    assert text_column(table_facts(("when", "text"), rows).columns) == "text"


@pytest.mark.parametrize("ending", ["xlsx", "parquet"])
def test_the_trial_is_exported_with_its_dates(page: Page, tmp_path: Path, ending: str) -> None:
    days = [date(2026, 1, 1) + timedelta(days=number) for number in range(60)]
    rows = [
        {"message": f"Mon colis {n}", "le": day, "vu": datetime(2026, 1, 1, n % 24, 30)} for n, day in enumerate(days)
    ]
    rows[0]["le"] = "inconnu" if ending == "xlsx" else days[0]  # a sheet may have both
    write_rows(tmp_path / f"came.{ending}", rows)
    ann = page.browser()
    project = ann.upload((tmp_path / f"came.{ending}").read_bytes(), f"messages.{ending}")
    labels: dict[str, Any] = {"label": list(LABELS), "meaning": ["", ""]}
    exported = list[list[dict[str, Any]]]()
    for do in ("try", "run"):
        ann.run(project, do, **labels)
        path = tmp_path / f"{do}.{ending}"
        path.write_bytes(ann.client.get(f"{project}/results.{ending}").content)
        exported.append(list(read_rows(path)))
    tried, ran = exported
    assert len(tried) == 20
    assert all(row in ran for row in tried)
    assert all(isinstance(row["vu"], datetime) for row in tried)


def test_many_long_examples_are_marked_at_once() -> None:
    """Examples that are not in a message are not in its pattern: that took 13 ms a message for each 100 examples."""
    own = [f"{number} " + "les mots d’un long exemple " * 180 for number in range(400)]
    text = own[7]
    assert marked(text, own, []) == f"<mark>{text}</mark>"
    assert len(calls_of(lambda: marked(text, own, []))) < len(own)
