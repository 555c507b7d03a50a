"""The rows that wait for a person on the page: those on which a task abstained, and those that would teach it most."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from test_ui import KEYS, LABELS, Page, french_csv

from llmtasker import LLM, Classification
from llmtasker.evaluation import calibrate
from llmtasker.jobs.job_queue import JobQueue
from llmtasker.testing import FakeTransport
from llmtasker.ui.corrections import typed_value
from llmtasker.ui.rows_to_label import CHOSEN, rows_to_label
from llmtasker.ui.shown_answers import written
from llmtasker.wire.completion import Completion, Usage
from llmtasker.wire.request import Request
from llmtasker.wire.request_reader import last_user_text

TEAMS = ("facturation", "livraison", "autre")


def torn(request: Request) -> Completion:
    """Answer the first label, with a confidence that follows from the text."""
    sure = Random(last_user_text(request)).betavariate(2, 0.86)
    codes = (("A", sure), ("B", (1 - sure) * 0.8), ("C", (1 - sure) * 0.2))
    top = tuple((code, math.log(max(share, 1e-9))) for code, share in codes)
    return Completion(text="A", top_logprobs=top, usage=Usage(input=200, output=1))


def careful() -> Any:
    """A task that abstains if it is not sure."""
    llm = LLM("torn", transport=FakeTransport(torn), cache=False)
    task = Classification(llm=llm, labels=list(TEAMS), confidence="logprobs")
    rows = list[dict[str, Any]]()
    for number in range(400):
        text = f"message {number}"
        item = task(text)
        assert item.confidence is not None
        right = Random(number).random() < item.confidence["facturation"]
        rows.append({"text": text, "label": "facturation" if right else "livraison"})
    return calibrate(task, rows, max_risk=0.1)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with Page(tmp_path_factory.mktemp("queue"), tasks={"tri": careful()}) as served:
        yield served


def numbers(html: str) -> list[int]:
    return [int(number) for number in re.findall(r'<tr data-row="(\d+)"', html)]


def beside(html: str) -> list[dict[str, list[str]]]:
    """Return the addresses of the rows before and after the open one."""
    links = re.findall(r'data-go="-?1" href="[^"]*results\?([^"]+)#row"', html)
    return [parse_qs(one.replace("&amp;", "&")) for one in links]


def asked(page: Page, count: int = 120) -> tuple[Any, str]:
    """Return a browser and the path of a project whose rows were asked with the careful task."""
    ann = page.browser()
    project = ann.upload(french_csv([(str(n), f"note {n}", "") for n in range(count)]))
    ann.send(f"{project}/file", see=f"{project}/file", kind="tri")
    ann.run(project, column_text="message")
    return ann, project


def test_abstained_rows_wait_for_a_person(page: Page) -> None:
    ann, project = asked(page)
    first = ann.get(f"{project}/results?f=abstained")
    waiting = numbers(first)
    assert 3 < len(waiting) < 120
    assert "À trancher <b>" in first
    opened = first.partition('id="row"')[2]
    assert '<input type="radio" name="label" value="facturation" checked>' in opened  # the best guess
    assert "La meilleure hypothèse est choisie" in opened
    assert "La confiance de la réponse est de 0," in opened
    assert "Meilleure hypothèse" in first
    then = re.findall(r'name="then" value="([^"]*)"', first)
    assert parse_qs(then[-1]) == {"f": ["abstained"]}
    after = ann.send(
        f"{project}/rows/{waiting[0]}", see=f"{project}/results", then="f=abstained", label="facturation", accept="1"
    )
    assert urlsplit(str(after.url)).query == "f=abstained"
    assert numbers(after.text)[0] == waiting[1]  # the next one that waits is open
    assert f'id="row" aria-label="Ligne ouverte" tabindex="-1" data-number="{waiting[1]}"' in after.text
    exported = [json.loads(line) for line in ann.get(f"{project}/results.jsonl").splitlines()]
    assert (exported[waiting[0] - 1]["label"], exported[waiting[0] - 1]["error"]) == ("facturation", None)
    refused = ann.post(f"{project}/rows/{waiting[1]}", see=f"{project}/results", label="zebra")
    assert refused.status_code == 422
    ann.send(f"{project}/rows/{waiting[0]}", see=f"{project}/results", undo="1")
    assert numbers(ann.get(f"{project}/results?f=abstained"))[0] == waiting[0]
    job = page.app.state.server.queue.jobs("ann")[0]
    items = ann.client.get(f"/jobs/{job.id}/items?only=abstained&limit=500", headers={"X-API-Key": KEYS["ann"]})
    assert [row["number"] for row in items.json()["items"]][: len(waiting)] == waiting


def test_a_queue_that_was_worked_through_reports_it(page: Page) -> None:
    ann, project = asked(page, 30)
    while waiting := numbers(ann.get(f"{project}/results?f=abstained")):
        fields: dict[str, Any] = {"picked": list(map(str, waiting)), "do": "label", "label": "autre"}
        ann.send(f"{project}/rows", see=f"{project}/results", **fields)
    assert "Aucune ligne n’attend de décision." in ann.get(f"{project}/results?f=abstained")
    assert "À trancher <b>0</b>" in ann.get(f"{project}/results")


@pytest.mark.parametrize(
    "then", ["//evil.example", "f=abstained&next=//evil.example", "%00", "f=" + "x" * 5_000, "row=9"]
)
def test_a_correction_leads_back_to_the_results_only(page: Page, then: str) -> None:
    ann, project = asked(page, 3)
    form = {"csrf": ann.token(f"{project}/results"), "then": then, "label": "autre"}
    sent = ann.client.post(f"{project}/rows/1", data=form, follow_redirects=False)
    target = urlsplit(str(sent.headers["location"]))
    assert (target.netloc, target.path) == ("", f"{project}/results")
    assert parse_qs(target.query).keys() <= {"f", "row"}


def test_the_page_of_a_row_keeps_its_place(tmp_path: Path) -> None:
    with Page(tmp_path) as served:
        ann = served.browser()
        project = ann.described(french_csv([(str(n), f"colis {n}", "") for n in range(130)]))
        ann.run(project)
        middle = ann.get(f"{project}/results?after=50")
        assert numbers(middle) == list(range(51, 101))
        opened = re.search(r'href="([^"]+row=53[^"]*)#row"', middle)
        assert opened is not None
        again = ann.get(opened[1].replace("&amp;", "&"))
        assert numbers(again) == numbers(middle)
        beside = re.findall(r'data-go="-?1" href="[^"]*results\?([^"]+)#row"', again)
        assert [parse_qs(one.replace("&amp;", "&")) for one in beside] == [
            {"row": ["52"], "after": ["50"]},
            {"row": ["54"], "after": ["50"]},
        ]
        end = ann.get(f"{project}/results?after=50&row=100")
        assert [
            parse_qs(one.replace("&amp;", "&")) for one in re.findall(r'data-go="1" href="[^"]*results\?([^"]+)#', end)
        ] == [{"after": ["100"]}]
        back = ann.get(f"{project}/results?before=51&open=last")
        assert numbers(back) == list(range(1, 51))
        assert 'data-number="50"' in back
        assert 'rel="prev"' not in back
        assert numbers(ann.get(f"{project}/results?before=1")) == list(range(1, 51))  # nothing is before it
        corrected = ann.send(f"{project}/rows/53", see=f"{project}/results", then="after=50", label="facturation")
        assert numbers(corrected.text) == numbers(middle)


# ── which rows teach most ──

KINDS = (
    "Mon colis n’est jamais arrivé",
    "Vous avez prélevé deux fois",
    "Le livreur était impoli",
    "Où est la notice ?",
)


def test_rows_to_label_are_doubtful_and_of_one_kind_each(page: Page) -> None:
    ann = page.browser()
    project = ann.upload(french_csv([(str(n), f"{KINDS[n % 4]} {n}", "") for n in range(200)]))
    ann.send(f"{project}/file", see=f"{project}/file", kind="tri")
    ann.run(project, column_text="message")
    html = ann.get(f"{project}/results?f=next")
    proposed = numbers(html)
    assert sorted((number - 1) % 4 for number in proposed) == [0, 1, 2, 3]  # one of each kind
    assert numbers(ann.get(f"{project}/results?f=next")) == proposed
    queue: JobQueue = page.app.state.server.queue
    job = queue.jobs("ann")[0]
    least = queue.open_rows(job.id, "measured", 1)[0]
    assert proposed[0] == least.number  # the least sure one first
    ann.send(f"{project}/rows/{proposed[0]}", see=f"{project}/results", then="f=next", label="autre")
    left = numbers(ann.get(f"{project}/results?f=next"))
    assert all((number - 1) % 4 != (proposed[0] - 1) % 4 for number in left)  # its kind is known now
    assert len(left) == 3


@pytest.mark.parametrize(
    ("typed", "value"),
    [
        ("12,5", "12.5"),
        ("0,125", "0.125"),
        ("-3,1415", "-3.1415"),
        ("1,234", "1,234"),
        ("1,2,3", "1,2,3"),
        ("7", "7"),
        ("3,4", "3.4"),
        ("1 234,5", "1234.5"),
        ("1\u202f234", "1234"),
        ("12,50 €", "12.50"),
        ("douze", "douze"),
        ("", ""),
    ],
)
def test_a_comma_is_read_where_it_has_one_meaning(typed: str, value: str) -> None:
    assert typed_value(typed, 1200.0) == value


@pytest.mark.parametrize(
    "value",
    [
        *(
            [],
            ["a"],
            ["a", "b c"],
            ["a; b"],
            [" a"],
            ["[a]"],
            [""],
            ["a\nb"],
            [1, 2.5],
            [None],
            [[1], [2]],
            [{"a": None}],
        ),
        *({}, {"a": {"b": [None, True]}}, None, "", "x\ny", "\nx ", "a; b", "12,5", "[1]", 12.5, 1e20, 7, True, False),
    ],
)
def test_a_field_that_is_not_typed_over_stays(value: Any) -> None:
    sent = written(value).removeprefix("\n").replace("\n", "\r\n")  # as a browser does
    assert json.dumps(typed_value(sent, value)) == json.dumps(value)


@pytest.mark.parametrize(
    ("before", "typed", "value"),
    [
        (["a", "b"], "a; c ;", ["a", "c"]),
        (["[a]"], "[a]; b", ["[a]", "b"]),
        (["a; b"], '["x", "y"]', ["x", "y"]),
        ({"a": 1}, '{"a": null}', {"a": None}),
        ({"a": 1}, "{a}", "{a}"),
        ({"a": 1}, '{"a": NaN}', '{"a": NaN}'),
        ([[1]], "[" * 90_000, "[" * 90_000),
        (None, "x", "x"),
        ("x", "", ""),
    ],
)
def test_a_list_and_an_object_are_corrected_as_they_are_written(before: Any, typed: str, value: Any) -> None:
    assert typed_value(typed, before) == value


def test_without_confidence_failed_repaired_and_rare_rows_come_first(tmp_path: Path) -> None:
    def answer(request: Request) -> Any:
        text = str(request.messages)
        if "nonsense" in text:
            return "no idea"
        if "fence" in text:
            return '```json\n{"label": "livraison",}\n```'
        return {"label": "facturation" if "rare" in text else "livraison"}

    rows = [(str(n), f"un colis bleu numéro {n}", "") for n in range(300)]
    rows[250] = ("250", "nonsense et encore", "")
    rows[260] = ("260", "fence autour de la réponse", "")
    rows[270] = ("270", "rare demande de facture", "")
    rows[280] = ("280", "nonsense, mais sa référence est connue", "livraison")
    with Page(tmp_path, llm=LLM(transport=FakeTransport(answer), cache=False)) as served:
        ann = served.browser()
        project = ann.upload(french_csv(rows))
        ann.send(f"{project}/file", see=f"{project}/file", text="message", gold="equipe", kind="classification")
        ann.run(project, label=list(LABELS), meaning=["", ""])
        proposed = numbers(ann.get(f"{project}/results?f=next"))
        assert proposed[:3] == [251, 261, 271]
        assert 281 not in proposed
        assert len(proposed) == 4  # and one of all similar rows
        accepted: dict[str, Any] = {"label": "facturation", "accept": "1", "as_example": "on", "then": "f=next"}
        ann.send(f"{project}/rows/271", see=f"{project}/results", **accepted)
        assert "rare demande de facture</textarea>" in ann.get(f"{project}/task")
        assert 271 not in numbers(ann.get(f"{project}/results?f=next"))
        queue: JobQueue = served.app.state.server.queue
        assert len(rows_to_label(queue, queue.jobs("ann")[0], None)) <= CHOSEN
