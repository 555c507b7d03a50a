"""Pipelines over HTTP and on the page: one input, many, jobs that survive the process, options that do not apply."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from html import unescape
from pathlib import Path
from typing import Any, Literal

import httpx2
import pytest
from pydantic import BaseModel, Field
from served import ANN, KEYS, Served
from test_jobs import Clock, ran, state
from test_ui import Page, french_csv

from llmtasker import LLM, ConfigurationError, InputField, OutputField, Prices, Signature, Task, pipeline
from llmtasker.api import ServerSettings, create_app
from llmtasker.cache import MemoryCache
from llmtasker.files import detect, read_rows
from llmtasker.jobs.job_queue import LEASE, JobQueue
from llmtasker.jobs.job_rows import DoneRow
from llmtasker.jobs.job_state import Job
from llmtasker.jobs.pipeline_work import work_on
from llmtasker.pipelines.pipeline import Pipeline
from llmtasker.testing import FakeTransport, last_user_text
from llmtasker.wire.request import Request


class Team(Signature):
    """Say which team takes the message."""

    message: str = InputField()
    team: Literal["billing", "delivery"] = OutputField()


class Ticket(BaseModel):
    message: str = Field(max_length=100)
    urgent: bool = False


class Answer(BaseModel):
    team: Literal["billing", "delivery"]
    words: int


def respond(request: Request) -> Any:
    text = last_user_text(request)
    return "nonsense" if "break" in text else {"team": "billing" if "charged" in text else "delivery"}


def route_with(**options: Any) -> Task[Team]:
    options = {"cache": False, "prices": Prices(input=1.0, output=1.0), **options}
    return Task(Team, llm=LLM(transport=FakeTransport(respond), **options), attempts=1)


route = route_with()


@pipeline
async def answer(ticket: Ticket) -> Answer:
    """Answer a ticket."""
    first = (await route.acall(ticket.message)).value
    return Answer(team=first.team, words=len(ticket.message.split()))


class Line(BaseModel):
    what: str
    price: float | None


class Report(BaseModel):
    team: Literal["billing", "delivery"]
    due: date | None
    subjects: list[str]
    lines: list[Line]
    note: str


@pipeline
async def report(message: str) -> Report:
    """Report what a message is about."""
    first = (await route.acall(message)).value
    lines, note = [Line(what="<b>colis</b>", price=None)], "a long note " * 50
    return Report(team=first.team, due=None, subjects=["a delay", "fees"], lines=lines, note=note)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx2.Client]:
    settings = ServerSettings(jobs=tmp_path_factory.mktemp("api") / "jobs.db", keys=KEYS)
    running = Served(create_app({"answer": answer}, settings))
    running.client.headers.update(ANN)
    vars(running.client)["done"] = running.done
    yield running.client
    running.close()


@pytest.mark.parametrize("more", [{}, {"urgent": True}])
def test_one_input(client: httpx2.Client, more: dict[str, Any]) -> None:
    item = client.post("/tasks/answer", json={"message": "I was charged twice", **more}).json()
    assert item["output"] == {"team": "billing", "words": 4}
    assert (item["error"], item["attempts"]) == (None, 1)
    assert item["cost"] > 0


REFUSED = {
    "a misspelt field": ({"mesage": "x"}, "no input field 'mesage'; the fields are message, urgent"),
    "a missing field": ({"urgent": True}, "message"),
    "too long": ({"message": "x" * 101}, "message"),
    "a list": ([], "does not fit answer"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_an_input_that_does_not_fit_is_refused(client: httpx2.Client, case: str) -> None:
    body, words = REFUSED[case]
    response = client.post("/tasks/answer", json=body)
    assert (response.status_code, response.json()["type"]) == (422, "urn:llmtasker:input")
    assert words in response.json()["detail"]


@pytest.mark.parametrize(("message", "code"), [("break", "invalid"), ("", "input")])
def test_a_step_that_fails_is_an_error_of_the_item(client: httpx2.Client, message: str, code: str) -> None:
    response = client.post("/tasks/answer", json={"message": message})
    assert response.status_code == 200
    error = response.json()["error"]
    assert (error["code"], error["step"], error["task"]) == (code, 1, "route")


def test_many_inputs_come_as_lines(client: httpx2.Client) -> None:
    response = client.post("/tasks/answer/stream", json=[{"message": "charged"}, {"message": "where is it"}])
    found = {line["index"]: line["output"] for line in map(json.loads, response.text.splitlines())}
    assert found == {0: {"team": "billing", "words": 1}, 1: {"team": "delivery", "words": 3}}


def test_the_schema_has_the_classes_of_the_function(client: httpx2.Client) -> None:
    call = client.get("/openapi.json").json()["paths"]["/tasks/answer"]["post"]
    body = call["requestBody"]["content"]["application/json"]["schema"]
    assert (list(body["properties"]), body["required"]) == (["message", "urgent"], ["message"])
    assert body["properties"]["message"]["maxLength"] == 100
    assert "Answer a ticket" in call["description"]
    found = call["responses"]["200"]["content"]["application/json"]["schema"]["properties"]
    assert list(found["output"]["anyOf"][0]["properties"]) == ["team", "words"]
    assert {"step", "task"} < found["error"]["anyOf"][0]["properties"].keys()
    page = client.get("/docs").text
    assert "Answer: application/json" in page
    assert "&quot;words&quot;: {" in page


def test_a_file_as_a_job(client: httpx2.Client) -> None:
    content = b"id,text\n1,I was charged\n2,break\n3,where is it\n"
    fields = {"column": "message=text"}
    job = client.post("/tasks/answer/jobs", files={"file": ("in.csv", content)}, data=fields).json()
    done = vars(client)["done"](job["id"])
    assert (done["state"], done["ok"], done["failed"]) == ("done", 2, 1)
    results = client.get(f"/jobs/{job['id']}/results").text.splitlines()
    assert results[0] == "id,text,team,words,error"
    assert results[1:4:2] == ["1,I was charged,billing,3,", "3,where is it,delivery,3,"]
    assert "invalid: step 1 (route): team" in results[2]
    place = f"/jobs/{job['id']}/items/2"
    right = client.patch(place, json={"output": {"team": "billing"}})
    wrong = client.patch(place, json={"output": {"team": "moon"}})
    assert (right.status_code, wrong.status_code) == (200, 422)


class Invoice(Signature):
    """Read the invoice."""

    text: str = InputField()
    due: date = OutputField()
    total: Decimal = OutputField()
    paid: list[date] = OutputField()


PLAIN = {"due": "2026-03-02", "total": "1.50", "paid": ["2026-03-01"]}
INVOICE = {"due": date(2026, 3, 2), "total": Decimal("1.50"), "paid": [date(2026, 3, 1)]}
read = Task(Invoice, llm=LLM(transport=FakeTransport(lambda _: PLAIN), cache=False))


class Bill(BaseModel):
    due: date
    total: Decimal
    paid: list[date]


@pipeline
async def bill(text: str) -> Bill:
    return Bill.model_validate((await read.acall(text)).value.outputs())


@pytest.mark.parametrize("kind", ["parquet", "xlsx", "jsonl"])
@pytest.mark.parametrize("served", [read, bill])
def test_fields_have_their_types_in_files_that_have_types(tmp_path: Path, served: Any, kind: str) -> None:
    server = Served(create_app({"served": served}, ServerSettings(jobs=tmp_path / "jobs.db", keys=KEYS)))
    server.client.headers.update(ANN)
    job = server.client.post("/tasks/served/jobs", json={"rows": ["a", "b"]}).json()
    server.done(job["id"])
    place = f"/jobs/{job['id']}/items/2"
    assert server.client.patch(place, json={"output": {"due": "2027-01-01"}}).status_code == 200
    path = tmp_path / f"results.{kind}"
    path.write_bytes(server.client.get(f"/jobs/{job['id']}/results?format={kind}").content)
    server.close()
    rows = list(read_rows(path, detect(path)))
    of_excel = {"due": date(2026, 3, 2), "total": "1.50", "paid": '["2026-03-01"]'}
    expected = {"parquet": INVOICE, "xlsx": of_excel, "jsonl": PLAIN}[kind]
    assert {name: rows[0][name] for name in INVOICE} == expected
    assert rows[1]["due"] == ("2027-01-01" if kind == "jsonl" else date(2027, 1, 1))


def test_what_cannot_be_served_is_refused_when_the_app_is_made(tmp_path: Path) -> None:
    @pipeline(explode=True)
    async def words(text: str) -> list[str]:
        return text.split()

    wrong: Any
    for wrong, reason in ((words, "has several outputs for an input"), (len, "a Task or a pipeline, not a builtin")):
        with pytest.raises(ConfigurationError, match=reason):
            create_app({"words": wrong}, ServerSettings(jobs=tmp_path / "jobs.db", keys=KEYS))


# ── jobs and other processes ──


def declared(seen: list[str], version: str | None, task: Task[Team], sign: str = "") -> Pipeline[Any, Any]:
    """The pipeline in a process that loads its code."""

    @pipeline(version=version)
    async def shout(message: str) -> str:
        seen.append(message)
        return f"{(await task.acall(message)).value.team}{sign}"

    return shout


def begun(store: JobQueue, clock: Clock, given: Pipeline[Any, Any], texts: list[str]) -> Job:
    """A job with three rows finished by a process that died."""
    about = {"owner": "ann", "task": "shout", "identity": work_on(given).whole, "outputs": {"output": "output"}}
    job = store.create(about, [({"text": text}, {"message": text}, None) for text in texts], keep=1e6)
    assert store.claim("dead") is not None
    items = [given(text) for text in texts[:3]]
    store.put(job, [DoneRow(number, item, work_on(given).kept(item)) for number, item in enumerate(items, start=1)])
    clock.now += LEASE + 1
    return job


LATER: dict[str, tuple[str | None, str | None, str, bool]] = {
    "the same version goes on": ("1", "1", "done", False),
    "without a version, all rows are run again": (None, None, "done", True),
    "another version does not go on": ("1", "2", "failed", False),
    "nor does one that came later": (None, "1", "failed", False),
}
"""The versions in two processes, the end of the job in the second, and whether finished rows run again there."""


@pytest.mark.parametrize("case", LATER)
def test_a_job_is_resumed_by_another_process(tmp_path: Path, case: str) -> None:
    before, after, end, again = LATER[case]
    task, clock = route_with(cache=MemoryCache()), Clock()
    texts = [f"charged {number}" for number in range(9)]
    seen = list[str]()
    with JobQueue(tmp_path / "jobs.db", clock=clock) as store:
        job = begun(store, clock, declared([], before, task), texts)
        ran(store, declared(seen, after, task, "!"), until=lambda: state(store, job) in {"done", "failed"})
        found = store.get(job.id)
        assert found is not None
        assert found.state == end
        assert sorted(seen) == ([] if end == "failed" else texts if again else texts[3:])
        if end == "failed":
            assert "the task was changed" in str(found.reason)
            return
        outputs = [(row.item or {})["output"]["output"] for row in store.all_rows(job.id)]
        assert outputs == ["billing!" if again else "billing"] * 3 + ["billing!"] * 6
        assert (found.ok, found.calls, found.cached) == (9, 9, 3 if again else 0)
        assert ("no version" in str(found.reason)) == again


def test_a_pipeline_without_a_version_continues_in_its_own_process(tmp_path: Path) -> None:
    seen, clock = list[str](), Clock()
    given = declared(seen, None, route_with())
    with JobQueue(tmp_path / "jobs.db", clock=clock) as store:
        job = begun(store, clock, given, [f"row {number}" for number in range(9)])
        ran(store, given, until=lambda: state(store, job) == "done")
        assert len(seen) == 9


# ── the page ──


@pytest.mark.parametrize("language", ["en", "fr"])
def test_the_page_runs_a_pipeline(tmp_path: Path, language: str) -> None:
    sentences = {
        "en": "The steps of this task are written in Python",
        "fr": "Les étapes de cette tâche sont écrites en Python",
    }
    rows = [("1", "charged twice", "billing"), ("2", "where is it", "billing"), ("3", "break", "")]
    with Page(tmp_path, tasks={"answer": answer}) as served:
        ann = served.browser(language=language)
        project = ann.upload(french_csv(rows))
        ann.send(f"{project}/file", see=f"{project}/file", kind="answer", gold="equipe")
        shown = ann.get(f"{project}/task")
        assert 'name="column_message"' in shown
        assert 'name="column_urgent"' in shown
        assert sentences[language] in shown
        for do in ("try", "run"):
            ann.run(project, do, column_message="message")
        results = ann.get(f"{project}/results")
        assert "billing" in results
        assert "task.json" not in results
        assert ann.get(f"{project}/results?row=1").count("charged twice") >= 1
        assert "50" in ann.get(f"{project}/evaluation")
        assert ann.client.get(f"{project}/task.json").status_code == 404
        assert ann.client.get(f"{project}/task.py").status_code == 404
        table = ann.get(f"{project}/results.csv").splitlines()
        assert table[0] == "id;message;equipe;team;words;error"
        assert table[1] == "1;charged twice;billing;billing;2;"
        assert "invalid: step 1 (route): " in table[3]
        row = ann.get(f"{project}/results?row=3").replace("\N{NO-BREAK SPACE}", " ")
        assert ("Étape 1 : route" if language == "fr" else "Step 1: route") in row


def test_what_is_not_corrected_of_nested_answers_stays(tmp_path: Path) -> None:
    with Page(tmp_path, tasks={"report": report}) as served:
        ann = served.browser()
        project = ann.upload(french_csv([("1", "charged twice", "")]))
        ann.send(f"{project}/file", see=f"{project}/file", kind="report", gold="")
        ann.run(project, "run", column_message="message")
        row = ann.get(f"{project}/results?row=1")
        fields = {
            name: unescape(text) for name, text in re.findall(r'<textarea[^>]* name="(field_\w+)"[^>]*>([^<]*)<', row)
        }
        assert fields["field_subjects"] == "a delay; fees"
        before = json.loads(ann.get(f"{project}/results.jsonl"))
        ann.send(f"{project}/rows/1", see=f"{project}/results", **{**fields, "field_team": "delivery"})
        assert json.loads(ann.get(f"{project}/results.jsonl")) == {**before, "team": "delivery", "corrected": True}
        lines = json.dumps([{"what": "colis", "price": 7}])
        ann.send(f"{project}/rows/1", see=f"{project}/results", **{**fields, "field_lines": lines})
        assert json.loads(ann.get(f"{project}/results.jsonl"))["lines"] == [{"what": "colis", "price": 7}]
        refused = ann.post(f"{project}/rows/1", see=f"{project}/results", **{**fields, "field_lines": "[colis]"})
        assert refused.status_code == 422
