"""The REST API: a server in this process, called as a client calls it."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import os
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import httpx2
import pytest
from fastapi import FastAPI
from served import ANN, BOB, KEYS, Served

from llmtasker import LLM, Classification, InputField, OutputField, Prices, Signature, Task
from llmtasker.api import ServerSettings, create_app
from llmtasker.api.api_keys import ApiKey, ApiKeys, key_hash, new_key, read_keys
from llmtasker.api.problem import TYPES
from llmtasker.api.spending import Spending
from llmtasker.errors import ConfigurationError
from llmtasker.jobs.job_queue import JobQueue
from llmtasker.testing import FakeTransport
from llmtasker.wire.request import Request
from llmtasker.wire.request_reader import last_user_text


class Triage(Signature):
    """Route a customer message to a team."""

    message: str = InputField(max_length=200)
    team: Literal["billing", "delivery", "other"] = OutputField()


def answer(request: Request) -> Any:
    text = last_user_text(request)
    if "nonsense" in text:
        return "no idea"
    if "summarise" in str(request.messages[0]).lower():
        return f"short: {text[:5]}"
    label = "billing" if "charged" in text else "delivery"
    return {"team": label} if "Triage" in str(request.head.schema) else {"label": label}


def fake(latency: float = 0.0) -> LLM:
    return LLM(transport=FakeTransport(answer, latency=latency), cache=False, prices=Prices(input=1.0, output=1.0))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    settings = ServerSettings(
        jobs=tmp_path_factory.mktemp("api") / "jobs.db",
        keys=KEYS,
        max_bytes=300_000,
        max_rows=500,
        max_sync_rows=20,
        max_columns=50,
    )
    running = Served(create_app({"triage": Task(Triage, llm=fake(), attempts=1)}, settings))
    yield running
    running.close()


@pytest.fixture
def client(served: Served) -> httpx2.Client:
    return served.client


def post(client: httpx2.Client, path: str, body: Any, **headers: str) -> httpx2.Response:
    return client.post(path, json=body, headers={**ANN, **headers})


# ── inputs that wait for their answers ──


@pytest.mark.parametrize("body", [{"message": "I was charged twice"}, "I was charged twice"])
def test_one_input(client: httpx2.Client, body: Any) -> None:
    response = post(client, "/tasks/triage", body)
    assert response.status_code == 200
    item = response.json()
    assert item["output"] == {"team": "billing"}
    assert (item["error"], item["repairs"], item["cached"], item["attempts"]) == (None, [], False, 1)
    assert item["cost"] > 0
    assert item["usage"]["input"] > 0


def test_an_answer_that_does_not_fit_is_an_error_of_the_item(client: httpx2.Client) -> None:
    item = post(client, "/tasks/triage", {"message": "nonsense"}).json()
    assert item["output"] is None
    assert item["error"]["code"] == "invalid"


@pytest.mark.parametrize("lines", [False, True])
def test_many_inputs_come_as_lines(client: httpx2.Client, lines: bool) -> None:
    rows: list[Any] = [{"message": "I was charged"}, "Where is it?", {"message": "x" * 300}]
    if lines:
        content = "\n".join(map(json.dumps, rows)).encode()
        headers = {**ANN, "Content-Type": "application/x-ndjson"}
        response = client.post("/tasks/triage/stream", content=content, headers=headers)
    else:
        response = post(client, "/tasks/triage/stream", rows)
    items = {line["index"]: line for line in map(json.loads, response.text.splitlines())}
    assert sorted(items) == [0, 1, 2]
    assert [items[0]["output"], items[1]["output"]] == [{"team": "billing"}, {"team": "delivery"}]
    assert items[2]["error"]["code"] == "input"


def test_a_classification_that_the_caller_describes(client: httpx2.Client) -> None:
    body = {
        "labels": {"billing": "money", "delivery": "parcels"},
        "examples": [{"text": "paid twice", "label": "billing"}],
        "inputs": ["I was charged", "Where is it?"],
    }
    response = post(client, "/v1/classification", body)
    assert [item["output"] for item in response.json()["items"]] == [{"label": "billing"}, {"label": "delivery"}]


def test_an_instruction_that_the_caller_describes(client: httpx2.Client) -> None:
    response = post(client, "/v1/instruction", {"instructions": "Summarise.", "inputs": ["A parcel is late."]})
    assert response.json()["items"][0]["output"] == {"result": "short: A par"}


# ── jobs ──


def test_a_job_of_rows(served: Served, client: httpx2.Client) -> None:
    rows = [{"id": number, "text": f"charged {number}"} for number in range(30)]
    created = post(client, "/tasks/triage/jobs", {"rows": rows, "columns": ["text"], "name": "October"})
    assert created.status_code == 202
    assert created.headers["location"] == f"/jobs/{created.json()['id']}"
    job = served.done(created.json()["id"])
    assert (job["state"], job["rows"], job["ok"], job["name"]) == ("done", 30, 30, "October")
    assert (job["calls"], type(job["calls"])) == (30, int)
    page = client.get(f"/jobs/{job['id']}/items?limit=10&after=10", headers=ANN).json()
    assert [row["number"] for row in page["items"]] == list(range(11, 21))
    assert page["items"][0]["row"] == {"id": 10, "text": "charged 10"}
    assert page["items"][0]["item"]["output"] == {"team": "billing"}
    assert page["after"] == 20
    assert client.get(f"/jobs/{job['id']}/labels", headers=ANN).json() == {"labels": {"billing": 30}}
    assert job["id"] in [one["id"] for one in client.get("/jobs", headers=ANN).json()["jobs"]]


OFFICE = (
    'id;message;équipe\r\n0017;J’ai été débité (charged);facturation\r\n0018;"Où est-il ; mon colis ?";livraison\r\n'
)


def upload(client: httpx2.Client, content: bytes, name: str = "messages.csv", **fields: Any) -> httpx2.Response:
    return client.post("/tasks/triage/jobs", files={"file": (name, content)}, data=fields, headers=ANN)


@pytest.mark.parametrize("cut", [3, 20, 60])
def test_a_cut_form_is_refused(client: httpx2.Client, cut: int) -> None:
    form = (
        b'--xx\r\nContent-Disposition: form-data; name="file"; filename="a.csv"\r\n\r\nmessage\ncharged\n\r\n--xx--\r\n'
    )
    headers = {**ANN, "Content-Type": "multipart/form-data; boundary=xx"}
    refused = client.post("/tasks/triage/jobs", content=form[:-cut], headers=headers)
    assert (refused.status_code, refused.json()["detail"]) == (400, "The form is cut: its last boundary is missing.")


def test_the_column_is_asked_for_in_the_words_of_the_form(client: httpx2.Client) -> None:
    detail = upload(client, b"id,\n1,x\n").json()["detail"]
    assert detail.endswith("Give message=… as column."), detail


def test_a_job_of_an_office_file(served: Served, client: httpx2.Client) -> None:
    created = upload(client, OFFICE.encode("cp1252"), column="message")
    job = served.done(created.json()["id"])
    assert (job["rows"], job["ok"], job["name"]) == (2, 2, "messages.csv")
    results = client.get(f"/jobs/{job['id']}/results", headers=ANN)
    assert results.headers["content-type"].startswith("text/csv")
    text = results.content.decode("cp1252")
    assert text.splitlines() == [
        "id;message;équipe;team;error",
        "0017;J’ai été débité (charged);facturation;billing;",
        '0018;"Où est-il ; mon colis ?";livraison;delivery;',
    ]


@pytest.mark.parametrize("kind", ["csv", "xlsx", "jsonl", "parquet"])
def test_results_come_in_each_form(served: Served, client: httpx2.Client, kind: str, tmp_path: Path) -> None:
    from llmtasker.files import read_rows

    job = served.done(upload(client, OFFICE.encode(), column="message").json()["id"])
    path = tmp_path / f"results.{kind}"
    path.write_bytes(client.get(f"/jobs/{job['id']}/results?format={kind}", headers=ANN).content)
    rows = list(read_rows(path))
    assert [row["team"] for row in rows] == ["billing", "delivery"]
    assert [row["id"] for row in rows] == ["0017", "0018"]


def test_types_of_an_excel_file_come_out_again(served: Served, client: httpx2.Client, tmp_path: Path) -> None:
    import datetime

    from llmtasker.files import read_rows, write_rows

    path = tmp_path / "in.xlsx"
    write_rows(path, [{"when": datetime.datetime(2026, 10, 4, 8, 12), "message": "charged"}])
    job = served.done(upload(client, path.read_bytes(), "in.xlsx", column="message").json()["id"])
    path.write_bytes(client.get(f"/jobs/{job['id']}/results?format=xlsx", headers=ANN).content)
    assert next(read_rows(path))["when"] == datetime.datetime(2026, 10, 4, 8, 12)


def test_broken_rows_of_a_file_say_so(served: Served, client: httpx2.Client) -> None:
    content = b"id,message\n1,charged\n2\n3,late\n"
    job = served.done(upload(client, content, column="message").json()["id"])
    assert (job["rows"], job["ok"], job["failed"]) == (3, 2, 1)
    rows = client.get(f"/jobs/{job['id']}/items?only=failed", headers=ANN).json()["items"]
    assert [row["number"] for row in rows] == [2]
    results = client.get(f"/jobs/{job['id']}/results", headers=ANN).text
    assert "line 3" in list(csv.DictReader(io.StringIO(results)))[1]["error"]


def test_formulas_are_made_harmless(served: Served, client: httpx2.Client) -> None:
    job = served.done(upload(client, b"message\n=1+1\n", column="message").json()["id"])
    place = f"/jobs/{job['id']}/results"
    assert "'=1+1" in client.get(place, headers=ANN).text
    assert "'=1+1" not in client.get(f"{place}?formulas=keep", headers=ANN).text


def test_a_correction_is_in_the_results(served: Served, client: httpx2.Client) -> None:
    job = served.done(post(client, "/tasks/triage/jobs", {"rows": ["charged", "late"]}).json()["id"])
    place = f"/jobs/{job['id']}"
    right = client.patch(f"{place}/items/2", json={"output": {"team": "other"}}, headers=ANN)
    assert right.json()["correction"] == {"team": "other"}
    rows = list(csv.DictReader(io.StringIO(client.get(f"{place}/results", headers=ANN).text)))
    assert [(row["team"], row["corrected"]) for row in rows] == [("billing", "false"), ("other", "true")]
    for output, status in (({"team": "sales"}, 422), ({"x": 1}, 422), ({}, 422), (None, 200)):
        assert client.patch(f"{place}/items/2", json={"output": output}, headers=ANN).status_code == status
    assert client.patch(f"{place}/items/9", json={"output": {"team": "other"}}, headers=ANN).status_code == 404


def test_a_repeated_request_is_one_job(client: httpx2.Client) -> None:
    same = [post(client, "/tasks/triage/jobs", {"rows": ["a"]}, **{"Idempotency-Key": "k"}).json() for _ in range(2)]
    assert same[0]["id"] == same[1]["id"]


def test_a_job_of_a_described_task(served: Served, client: httpx2.Client) -> None:
    body = {"rows": ["charged"], "definition": {"labels": ["billing", "delivery"]}}
    job = served.done(post(client, "/v1/classification/jobs", body).json()["id"])
    row = client.get(f"/jobs/{job['id']}/items", headers=ANN).json()["items"][0]
    assert row["item"]["output"] == {"label": "billing"}


def test_what_may_be_done_with_a_job(served: Served, client: httpx2.Client) -> None:
    job = served.done(post(client, "/tasks/triage/jobs", {"rows": ["nonsense", "late"]}).json()["id"])
    assert (job["ok"], job["failed"]) == (1, 1)
    assert client.post(f"/jobs/{job['id']}/pause", headers=ANN).status_code == 409
    assert client.post(f"/jobs/{job['id']}/retry", headers=ANN).status_code == 200
    assert served.done(job["id"])["calls"] == 3
    assert client.delete(f"/jobs/{job['id']}", headers=ANN).status_code == 204
    assert client.get(f"/jobs/{job['id']}", headers=ANN).status_code == 404


# ── who may ask ──

PATHS = [
    ("POST", "/tasks/triage"), ("POST", "/tasks/triage/stream"), ("POST", "/tasks/triage/jobs"),
    ("POST", "/v1/classification"), ("POST", "/v1/instruction"), ("POST", "/v1/classification/jobs"),
    ("POST", "/v1/instruction/jobs"), ("GET", "/jobs"), ("GET", "/jobs/x"), ("DELETE", "/jobs/x"),
    ("POST", "/jobs/x/pause"), ("POST", "/jobs/x/resume"), ("POST", "/jobs/x/cancel"), ("POST", "/jobs/x/retry"),
    ("GET", "/jobs/x/items"), ("PATCH", "/jobs/x/items/1"), ("GET", "/jobs/x/labels"), ("GET", "/jobs/x/results"),
    ("GET", "/metrics"),
]  # fmt: skip
FREE = {"/healthz", "/readyz"}


def test_every_path_is_in_the_table(client: httpx2.Client) -> None:
    schema = client.get("/openapi.json").json()
    there = {
        (method.upper(), path.replace("{id}", "x").replace("{number}", "1"))
        for path, methods in schema["paths"].items()
        for method in methods
    }
    assert there == {*PATHS, *(("GET", path) for path in FREE)}


@pytest.mark.parametrize(("method", "path"), PATHS)
@pytest.mark.parametrize(
    ("headers", "kind"),
    [
        ({}, "no-key"),
        ({"X-API-Key": "wrong"}, "unknown-key"),
        ({"Authorization": "Bearer wrong"}, "unknown-key"),
        ({"Authorization": "Basic YTpi"}, "no-key"),
        ({"X-API-Key": "ann"}, "unknown-key"),
    ],
)
def test_nothing_is_served_without_a_key(
    client: httpx2.Client, method: str, path: str, headers: dict[str, str], kind: str
) -> None:
    response = client.request(method, path, headers=headers)
    assert response.status_code == 401
    assert response.json()["type"] == f"urn:llmtasker:{kind}"


@pytest.mark.parametrize(("method", "path"), [pair for pair in PATHS if pair[1].startswith("/jobs/x")])
def test_the_job_of_another_key_is_not_there(served: Served, client: httpx2.Client, method: str, path: str) -> None:
    job = served.done(post(client, "/tasks/triage/jobs", {"rows": ["late"]}).json()["id"])
    body = {"json": {"output": None}} if method == "PATCH" else {}
    response = client.request(method, path.replace("/x", f"/{job['id']}"), headers=BOB, **body)
    assert (response.status_code, response.json()["type"]) == (404, "urn:llmtasker:not-found")
    assert client.get(f"/jobs/{job['id']}", headers=ANN).json()["state"] == "done"
    assert job["id"] not in client.get("/jobs", headers=BOB).text


def test_a_bearer_token_is_a_key(client: httpx2.Client) -> None:
    assert client.get("/jobs", headers={"Authorization": f"Bearer {KEYS['ann']}"}).status_code == 200


# ── wrong requests ──

DEEP = "[" * 100_000
LABELS = {"labels": ["a"], "inputs": ["a"]}
WRONG: list[tuple[str, str, dict[str, Any], int, str]] = [
    ("POST", "/tasks/triage", {"content": b"{"}, 400, "not-json"),
    ("POST", "/tasks/triage", {"content": b"\xff\xfe"}, 400, "not-json"),
    ("POST", "/tasks/triage", {"content": b""}, 400, "not-json"),
    ("POST", "/tasks/triage", {"content": b'{"message": NaN}'}, 400, "not-json"),
    ("POST", "/tasks/triage", {"content": b'{"message": "a", "message": "b"}'}, 400, "not-json"),
    ("POST", "/tasks/triage", {"content": b'{"message": "\\ud800"}'}, 400, "not-json"),
    ("POST", "/tasks/triage", {"content": DEEP.encode()}, 400, "not-json"),
    ("POST", "/tasks/triage", {"content": b"a=b", "headers": {"Content-Type": "text/plain"}}, 415, "media-type"),
    ("POST", "/tasks/triage", {"content": b"\x1f\x8b", "headers": {"Content-Encoding": "gzip"}}, 415, "media-type"),
    ("POST", "/tasks/triage", {"json": {"massage": "a"}}, 422, "input"),
    ("POST", "/tasks/triage", {"json": {}}, 422, "input"),
    ("POST", "/tasks/triage", {"json": {"message": "x" * 201}}, 422, "input"),
    ("POST", "/tasks/triage", {"json": {"message": ""}}, 422, "input"),
    ("POST", "/tasks/triage", {"json": 7}, 422, "input"),
    ("POST", "/tasks/triage", {"content": b" " * 300_001}, 413, "too-large"),
    ("POST", "/tasks/triage/stream", {"json": []}, 422, "invalid"),
    ("POST", "/tasks/triage/stream", {"json": {"message": "a"}}, 422, "invalid"),
    ("POST", "/tasks/triage/stream", {"json": ["a"] * 21}, 422, "too-many-rows"),
    ("POST", "/tasks/other", {"json": {}}, 404, "not-found"),
    *((("POST", f"/tasks/{path}", {"json": {}}, 404, "not-found"))
      for path in ("other/stream", "other/jobs", "triage/nope", "", "a/b/c", "%00", "x" * 5_000, "../tasks/other")),
    ("GET", "/tasks/triage", {}, 405, "method"),
    ("POST", "/v1/classification", {"json": {"inputs": ["a"]}}, 422, "invalid"),
    ("POST", "/v1/classification", {"json": {"labels": [], "inputs": ["a"]}}, 422, "invalid"),
    ("POST", "/v1/classification", {"json": {**LABELS, "base_url": "http://x"}}, 422, "invalid"),
    ("POST", "/v1/classification", {"json": {**LABELS, "model": "http://x/v1#m"}}, 422, "invalid"),
    ("POST", "/v1/classification", {"json": {**LABELS, "model": "local/x.gguf"}}, 422, "invalid"),
    ("POST", "/v1/instruction", {"json": {"instructions": "Use {secret}.", "inputs": ["a"]}}, 422, "invalid"),
    ("POST", "/v1/instruction", {"json": {"instructions": "A", "inputs": []}}, 422, "invalid"),
    ("POST", "/v1/instruction", {"json": {"instructions": "A", "inputs": ["a"], "output": {"a": []}}}, 422, "invalid"),
    ("POST", "/tasks/triage/jobs", {"json": {"rows": []}}, 422, "invalid"),
    ("POST", "/tasks/triage/jobs", {"json": {"rows": [{"text": "a"}]}}, 422, "input"),
    ("POST", "/tasks/triage/jobs", {"json": {"rows": [7]}}, 422, "input"),
    ("POST", "/tasks/triage/jobs", {"json": {"rows": ["a"] * 501}}, 422, "too-many-rows"),
    ("POST", "/tasks/triage/jobs", {"json": {"rows": ["a"], "budget": -1}}, 422, "invalid"),
    ("POST", "/tasks/triage/jobs", {"json": {"rows": [dict.fromkeys(map(str, range(51)), 1)]}}, 422, "input"),
    ("POST", "/tasks/triage/jobs", {"json": {"rows": ["a"], "definition": {}}}, 422, "invalid"),
    ("POST", "/v1/classification/jobs", {"json": {"rows": ["a"]}}, 422, "invalid"),
    ("POST", "/tasks/triage/jobs", {"data": {"column": "a"}, "files": {"other": b"x"}}, 422, "invalid"),
    ("POST", "/tasks/triage/jobs", {"files": {"file": ("a.exe", b"x")}}, 415, "media-type"),
    ("POST", "/tasks/triage/jobs", {"files": {"file": ("../../a.csv\x00.gz", b"x")}}, 415, "media-type"),
    ("POST", "/tasks/triage/jobs", {"files": {"file": ("a.csv", b"")}}, 422, "file"),
    ("POST", "/tasks/triage/jobs", {"files": {"file": ("a.csv", b"id\n1\n")}}, 422, "file"),
    ("POST", "/tasks/triage/jobs", {"files": {"file": ("a.csv", b"message\n")}}, 422, "file"),
    ("POST", "/tasks/triage/jobs", {"files": {"file": ("a.xlsx", b"PK not a zip")}}, 422, "file"),
    ("POST", "/tasks/triage/jobs", {"files": {"file": ("a.csv", b"message\n" + b"a\n" * 501)}}, 422, "too-many-rows"),
    ("POST", "/tasks/triage/jobs", {"files": {"file": ("a.csv", b",".join(b"c%d" % n for n in range(51)) + b"\n1\n")}},
     422, "file"),
    ("POST", "/tasks/triage/jobs", {"files": {"file": ("a.csv", b"message\nx\n")}, "data": {"encoding": "klingon"}},
     422, "file"),
    ("GET", "/jobs/../../etc/passwd", {}, 404, "not-found"),
    ("GET", "/jobs/%00/items", {}, 404, "not-found"),
    ("GET", "/jobs?limit=0", {}, 422, "invalid"),
    ("GET", "/jobs?before=x", {}, 422, "invalid"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path", "more", "status", "kind"), WRONG)
def test_a_wrong_request_is_a_problem(
    client: httpx2.Client, method: str, path: str, more: dict[str, Any], status: int, kind: str
) -> None:
    headers = {**ANN, **({"Content-Type": "application/json"} if "content" in more else {}), **more.get("headers", {})}
    response = client.request(method, path, **{**more, "headers": headers})
    problem = response.json()
    assert (response.status_code, problem["type"]) == (status, f"urn:llmtasker:{kind}"), problem
    assert response.headers["content-type"] == "application/problem+json"
    assert problem["status"] == status
    assert problem["detail"].endswith((".", "…"))
    assert "llmtasker-" not in response.text


def test_a_list_is_answered_with_the_paths_of_lists(client: httpx2.Client) -> None:
    problem = post(client, "/tasks/triage", ["a parcel", "a bill"]).json()
    assert "A list of inputs goes to /tasks/triage/stream or /tasks/triage/jobs." in problem["detail"]


def test_an_unknown_task_is_answered_with_those_that_are_there(client: httpx2.Client) -> None:
    for path in ("nope", "nope/jobs"):
        assert "'nope'; the server has triage." in client.post(f"/tasks/{path}", json={}, headers=ANN).json()["detail"]
    assert "/tasks/triage/jobs" in client.post("/tasks/triage/job", json={}, headers=ANN).json()["detail"]
    assert client.post("/tasks/nope", json={}).status_code == 401
    # Starlette's own answers stay: a slash at the end is ignored, and a GET of such a path is not a wrong method.
    slashed = client.post("/tasks/triage/", json={"message": "my parcel"}, headers=ANN, follow_redirects=True)
    assert slashed.json()["output"] == {"team": "delivery"}
    assert client.get("/tasks/nope", headers=ANN).status_code == 404


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("limit=0", "limit: Input should be greater than or equal to 1 (got '0')."),
        ("before=x", "before: Input should be a valid number, unable to parse string as a number (got 'x')."),
        ("limt=5", "'limt' is not a parameter here. Did you mean 'limit'? It takes before, limit."),
    ],
)
def test_a_wrong_query_is_named_with_its_value(client: httpx2.Client, query: str, words: str) -> None:
    response = client.get(f"/jobs?{query}", headers=ANN)
    assert (response.status_code, response.json()["detail"]) == (422, words)


@pytest.mark.parametrize("path", ["/tasks/triage", "/tasks/triage/stream", "/v1/classification", "/tasks/triage/jobs"])
def test_a_path_without_parameters_takes_none(client: httpx2.Client, path: str) -> None:
    response = client.post(f"{path}?fresh=1", json={"message": "my parcel"}, headers=ANN)
    assert (response.status_code, response.json()["detail"]) == (422, "'fresh' is not a parameter here.")


def test_every_type_of_problem_has_a_client_or_server_status() -> None:
    assert all(400 <= status < 600 and title for status, title in TYPES.values())


def test_an_excel_file_that_unpacks_to_gigabytes_is_refused(client: httpx2.Client) -> None:
    import zipfile

    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/worksheets/sheet1.xml", b"0" * 20_000_000)
    response = upload(client, packed.getvalue(), "bomb.xlsx")
    assert (response.status_code, response.json()["type"]) == (422, "urn:llmtasker:file")


# ── limits of a key, and what the server shows of itself ──


def limited(tmp_path: Path, **limits: Any) -> Served:
    entry = {"name": "ann", "sha256": key_hash(KEYS["ann"]), **limits}
    (tmp_path / "keys.json").write_text(json.dumps([entry]), encoding="utf-8")
    settings = ServerSettings(jobs=tmp_path / "jobs.db", keys=tmp_path / "keys.json")
    return Served(create_app({"triage": Task(Triage, llm=fake())}, settings))


@pytest.mark.parametrize(
    ("limits", "kind"),
    [
        ({"requests_per_minute": 1}, "rate-limit"),
        ({"rows": 2}, "too-many-rows"),
        ({"bytes": 5}, "too-large"),
        ({"cost": 1e-9}, "spending-limit"),
    ],
)
def test_a_key_has_limits(tmp_path: Path, limits: dict[str, Any], kind: str) -> None:
    running = limited(tmp_path, **limits)
    try:
        for _ in range(2):
            response = running.client.post("/tasks/triage/stream", json=["a", "b", "c"], headers=ANN)
            _ = response.content
        assert response.json()["type"] == f"urn:llmtasker:{kind}"
        assert ("retry-after" in response.headers) == (kind == "rate-limit")
    finally:
        running.close()


def test_what_the_server_shows_holds_no_text_and_no_key(client: httpx2.Client) -> None:
    post(client, "/tasks/triage", {"message": "a very private text"})
    metrics = client.get("/metrics", headers=ANN)
    assert 'llmtasker_requests_total{route="/tasks/triage",status="200"}' in metrics.text
    assert 'llmtasker_rows_total{outcome="ok"}' in metrics.text
    for secret in ("private", *KEYS.values()):
        assert secret not in metrics.text


def test_every_answer_has_safe_headers(client: httpx2.Client) -> None:
    for path in ("/docs", "/healthz", "/nowhere", "/docs.css"):
        headers = client.get(path).headers
        assert headers["content-security-policy"].startswith("default-src 'self';")
        assert headers["x-content-type-options"] == "nosniff"
        assert "set-cookie" not in headers
        assert "access-control-allow-origin" not in headers


def test_each_process_has_ids_of_its_own(client: httpx2.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """A forked process too, which begins with the memory of its parent."""
    ids = list[str]()
    for process in (4_000_001, 4_000_002, 4_000_001):
        monkeypatch.setattr(os, "getpid", lambda process=process: process)
        ids += [client.get("/healthz").headers["x-request-id"] for _ in range(2)]
    monkeypatch.undo()
    assert len(set(ids)) == len(ids)
    assert len({one[:8] for one in ids}) == 3


def test_the_reference_shows_every_call_and_fetches_nothing(client: httpx2.Client) -> None:
    page = client.get("/docs").text
    for _, path in PATHS:
        assert f"</span> {path.replace('/x', '/{id}').replace('items/1', 'items/{number}')}</h3>" in page
    assert "<script" not in page
    assert "http://" not in page
    assert "https://" not in page
    assert " style=" not in page


@pytest.mark.parametrize("path", ["/healthz", "/docs", "/jobs", "/nowhere"])
def test_head_is_get_without_a_body(client: httpx2.Client, path: str) -> None:
    whole, head = client.get(path, headers=ANN), client.head(path, headers=ANN)
    assert (head.status_code, head.content) == (whole.status_code, b"")
    assert head.headers["content-length"] == str(len(whole.content))


def test_an_app_below_a_path_names_its_jobs_there(tmp_path: Path) -> None:
    settings, outer = ServerSettings(jobs=tmp_path / "jobs.db", keys=KEYS), FastAPI()
    app = create_app({"triage": Task(Triage, llm=fake())}, settings)
    outer.mount("/llm", app)
    served = Served(outer)
    try:
        asked = served.client.post("/llm/tasks/triage", json={"message": "charged"}, headers=ANN)
        assert asked.json()["output"] == {"team": "billing"}
        created = served.client.post("/llm/tasks/triage/jobs", json={"rows": ["charged"]}, headers=ANN)
        assert served.client.get(created.headers["location"], headers=ANN).json()["id"] == created.json()["id"]
    finally:
        served.close()
        app.state.server.queue.close()


def test_health(client: httpx2.Client) -> None:
    assert client.get("/healthz").json() == client.get("/readyz").json() == {"status": "ok"}


def test_jobs_continue_after_a_restart(tmp_path: Path) -> None:
    settings = ServerSettings(jobs=tmp_path / "jobs.db", keys=KEYS, shutdown_seconds=1)
    running = Served(create_app({"triage": Task(Triage, llm=fake(0.02))}, settings))
    try:
        job = post(running.client, "/tasks/triage/jobs", {"rows": [f"row {n}" for n in range(300)]}).json()
        while running.client.get(f"/jobs/{job['id']}", headers=ANN).json()["done"] < 20:
            time.sleep(0.01)
    finally:
        running.close()
    running = Served(create_app({"triage": Task(Triage, llm=fake())}, settings))
    try:
        ended = running.done(job["id"])
        assert (ended["ok"], ended["rows"]) == (300, 300)
        assert ended["calls"] <= 300
    finally:
        running.close()


# ── set-up ──


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: create_app({}, ServerSettings(jobs=path / "j.db")), "no keys"),
        (lambda path: create_app({"a b": object()}, ServerSettings(jobs=path / "j.db", open=True)), "a b"),
        (lambda path: create_app({}, ServerSettings(jobs=path, open=True)), "for jobs"),
        (lambda path: ServerSettings(max_rows=0), "max_rows"),
        (lambda path: ServerSettings(keep_days=float("nan")), "keep_days"),
        (lambda path: ServerSettings(models="a"), "models"),
        (lambda path: read_keys({"ann": "short"}), "at least 16"),
        (lambda path: read_keys({"ann": "x" * 20, "bob": "x" * 20}), "sha256"),
        (lambda path: read_keys(path / "absent.json"), "can't read the keys"),
    ],
)
def test_a_wrong_set_up_is_reported_at_once(
    tmp_path: Path, make: Any, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LLMTASKER_SERVER_KEYS", raising=False)
    with pytest.raises(ConfigurationError, match=words):
        make(tmp_path)


SOUND = '"name": "a", "sha256": "' + "0" * 64 + '"'


@pytest.mark.parametrize(
    "text",
    [
        *("{}", "[1]", "[", "NaN", '[{"name": "a"}]', '[{"name": "a", "sha256": "00"}]'),
        *(f'[{{{SOUND}, "cost": -1}}]', f'[{{{SOUND}, "colour": 1}}]', f"[{{{SOUND}}}, {{{SOUND}}}]"),
    ],
)
def test_a_wrong_file_of_keys(tmp_path: Path, text: str) -> None:
    (tmp_path / "keys.json").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigurationError, match="key"):
        read_keys(tmp_path / "keys.json")


def test_keys_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMTASKER_SERVER_KEYS", f"ann={KEYS['ann']}, bob={KEYS['bob']}")
    assert [(key.name, key.sha256) for key in read_keys(None)] == [(name, key_hash(key)) for name, key in KEYS.items()]


def test_new_keys_differ() -> None:
    keys = {new_key() for _ in range(100)}
    assert len(keys) == 100
    assert all(key.startswith("lt_") and len(key) == 43 for key in keys)


def test_a_key_is_used_as_often_as_it_may() -> None:
    now = [0.0]
    key = ApiKey(name="a", sha256="", requests_per_minute=2)
    keys = ApiKeys([key], clock=lambda: now[0])
    assert [keys.wait(key) for _ in range(3)] == [0, 0, 30]
    now[0] = 30
    assert [keys.wait(key) for _ in range(2)] == [0, 30]


def test_what_is_spent_counts_at_once_and_is_written_later(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def spend() -> tuple[float, float]:
        spending = Spending(queue, delay=0.01)
        spending.add("ann", None)
        spending.add("ann", 0.5)
        with sqlite3.connect(tmp_path / "jobs.db") as broken:
            broken.execute("ALTER TABLE spending RENAME TO gone")
        while not caplog.messages:  # noqa: ASYNC110 - a log sends no events
            await asyncio.sleep(0.005)
        with sqlite3.connect(tmp_path / "jobs.db") as broken:
            broken.execute("ALTER TABLE gone RENAME TO spending")
        broken.close()
        spending.add("ann", 0.25)
        at_once = spending.spent("ann")
        await spending.close()
        return at_once, queue.spent("ann")

    with JobQueue(tmp_path / "jobs.db") as queue:
        assert asyncio.run(asyncio.wait_for(spend(), 20)) == (0.75, 0.75)
    assert "could not be written yet: OperationalError" in caplog.messages[0]


def test_described_tasks_are_compiled_once(tmp_path: Path) -> None:
    app = create_app(
        {"own": Classification(llm=fake(), labels=["a"])}, ServerSettings(jobs=tmp_path / "j.db", open=True)
    )
    from llmtasker.api.served_tasks import ClassificationDefinition

    tasks = app.state.server.tasks
    one, other = (tasks.described("classification", ClassificationDefinition(labels=["a", "b"])) for _ in range(2))
    assert one is other
    asyncio.run(one.llm.aclose())
