"""llmtasker serve: a real process, killed and started again."""

from __future__ import annotations

import json
import os
import re
import selectors
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import httpx2
import programs
import pytest

from llmtasker.testing import Delay, FaultyServer

TASK = '''
from typing import Literal
from llmtasker import InputField, OutputField, Signature, Task, pipeline

class Triage(Signature):
    """Say which team takes the message."""

    message: str = InputField()
    team: Literal["billing", "delivery"] = OutputField()

triage = Task(Triage)

@pipeline
async def routed(message: str) -> str:
    return "to " + (await triage.acall(message)).value.team

versioned = pipeline(version="1")(routed.__wrapped__)
'''
SECONDS = 40.0


@pytest.mark.parametrize(
    ("host", "words"),
    [
        ("127.0.0.1", "is taken by another program: choose another with --port"),
        ("localhost", "is taken by another program: choose another with --port"),
        ("no.such.host.invalid", "there is no such host"),
        ("192.0.2.1", "this machine does not have that address"),
    ],
)
def test_an_address_that_cannot_be_had_is_a_mistake_of_the_command(tmp_path: Path, host: str, words: str) -> None:
    (tmp_path / "triage.py").write_text(TASK, encoding="utf-8")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        command = ("serve", "triage.py:triage", "--llm", "offline", "--host", host, "--port", port)
        done = programs.run("-m", "llmtasker", *command, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("llmtasker: ")
    assert words in done.stderr
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.glob("*.db"))


@pytest.mark.parametrize(
    ("arguments", "environment", "words"),
    [
        (("--prefix", "triage/"), {}, "--prefix 'triage/' is not a path such as /triage"),
        ((), {"SSL_CERT_FILE": "/no/such.pem"}, "SSL_CERT_FILE names '/no/such.pem', and there is no such file"),
    ],
)
def test_a_wrong_setting_is_told_before_anything_is_served(
    tmp_path: Path, arguments: tuple[str, ...], environment: dict[str, str], words: str
) -> None:
    (tmp_path / "triage.py").write_text(TASK, encoding="utf-8")
    command = ("serve", "triage.py:triage", "--llm", "openai/gpt-4.1-mini", "--port", "0", *arguments)
    variables = {**os.environ, "OPENAI_API_KEY": "sk-1", **environment}
    done = programs.run("-m", "llmtasker", *command, cwd=tmp_path, env=variables)
    assert done.returncode == 2
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


class Serving:
    """The command in a separate process; leaving the context kills it."""

    def __init__(self, folder: Path, *arguments: str, **environment: str) -> None:
        (folder / "triage.py").write_text(TASK, encoding="utf-8")
        variables = {"PATH": "/usr/bin", "HOME": str(folder), **environment}
        command = ("-m", "llmtasker", "serve", "--port", "0", *arguments)
        self._running = programs.started(*command, cwd=folder, stderr=subprocess.PIPE, env=variables)
        self.process = self._running.__enter__()
        line = self._announced()
        found = re.search(r"API +(http://\S+)/docs(?: +key +(lt_\w+))?", line)
        assert found, line
        self.client = httpx2.Client(base_url=found[1], headers={"X-API-Key": found[2] or ""}, timeout=20)

    def _announced(self) -> str:
        """Return the output of the command up to the address of its API."""
        stderr, said = self.process.stderr, ""
        assert stderr is not None
        with selectors.DefaultSelector() as selector:
            selector.register(stderr, selectors.EVENT_READ)
            while not re.search(r"API +http.*\n", said):
                if not selector.select(SECONDS):
                    raise TimeoutError(f"the server did not say where it is: {said}")
                part = os.read(stderr.fileno(), 4096).decode()
                assert part, said
                said += part
        return said

    def job(self, id_: str) -> dict[str, Any]:
        job: dict[str, Any] = self.client.get(f"/jobs/{id_}").json()
        return job

    def __enter__(self) -> Serving:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self._running.__exit__(None, None, None)


def until(condition: Any) -> None:
    ended = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < ended, "it took too long"
        time.sleep(0.02)


def test_requests_are_logged_as_json_below_the_path_of_a_proxy(tmp_path: Path) -> None:
    with Serving(tmp_path, "triage.py:triage", "--llm", "offline", "--log", "--prefix", "/triage") as serving:
        schema = serving.client.get("/openapi.json").json()
        assert schema["servers"] == [{"url": "/triage"}]
        assert serving.client.get("/jobs/a-private-id").status_code == 404
        assert serving.process.stderr is not None
        lines = [json.loads(serving.process.stderr.readline()) for _ in range(2)]
    assert [(line["method"], line["route"], line["status"]) for line in lines] == [
        ("GET", "/openapi.json", 200),
        ("GET", "/jobs/{id}", 404),
    ]


def test_the_llm_of_the_environment_answers_what_callers_describe(tmp_path: Path) -> None:
    """The LLM of a served task answers only for that task."""
    with FaultyServer() as llm:
        served = "named.py:named"
        (tmp_path / "named.py").write_text(
            'from llmtasker import Classification\nnamed = Classification(llm="offline", labels=["a", "b"])\n'
        )
        with Serving(tmp_path, served, LLMTASKER_LLM=f"{llm.base_url}#m") as serving:
            assert serving.client.post("/tasks/named", json="a").json()["error"] is None
            assert llm.counters.requests == 0
            described = {"labels": ["a", "b"], "inputs": ["a"]}
            assert serving.client.post("/v1/classification", json=described).status_code == 200
            assert llm.counters.requests == 1


@pytest.mark.parametrize("name", ["triage", "routed", "versioned"])
def test_a_killed_server_loses_no_row_and_asks_few_again(tmp_path: Path, name: str) -> None:
    with FaultyServer(faults=[Delay(0.02)]) as llm:
        arguments = (f"triage.py:{name}", "--jobs", str(tmp_path / "jobs.db"))
        keys = {
            "LLMTASKER_SERVER_KEYS": "ann=ann-has-this-very-key",
            "LLMTASKER_CACHE_DIR": str(tmp_path / "cache"),
            "LLMTASKER_LLM": f"{llm.base_url}#m",
        }
        with Serving(tmp_path, *arguments, **keys) as serving:
            serving.client.headers["X-API-Key"] = "ann-has-this-very-key"
            rows = [f"message {number}" for number in range(600)]
            job = serving.client.post(f"/tasks/{name}/jobs", json={"rows": rows}).json()
            until(lambda: serving.job(job["id"])["done"] >= 300)
            serving.process.send_signal(signal.SIGKILL)
            serving.process.wait(20)
        with Serving(tmp_path, *arguments, **keys) as serving:
            serving.client.headers["X-API-Key"] = "ann-has-this-very-key"
            until(lambda: serving.job(job["id"])["state"] == "done")
            done = serving.job(job["id"])
            assert (done["rows"], done["ok"], done["failed"]) == (600, 600, 0)
            assert len(llm.bodies) <= 600 + 32


def test_several_processes_share_the_jobs(tmp_path: Path) -> None:
    with FaultyServer(faults=[Delay(0.01)]) as llm:
        arguments = ("triage.py:triage", "--llm", f"{llm.base_url}#m", "--jobs", str(tmp_path / "jobs.db"))
        keys = {"LLMTASKER_SERVER_KEYS": "ann=ann-has-this-very-key", "LLMTASKER_CACHE_DIR": str(tmp_path / "cache")}
        with Serving(tmp_path, *arguments, **keys) as one, Serving(tmp_path, *arguments, **keys) as other:
            one.client.headers["X-API-Key"] = other.client.headers["X-API-Key"] = "ann-has-this-very-key"
            made = list[str]()
            for number in range(6):
                rows = [f"message {number} {row}" for row in range(50)]
                response = (one, other)[number % 2].client.post("/tasks/triage/jobs", json={"rows": rows})
                made.append(response.json()["id"])
            until(lambda: all(other.job(id_)["state"] == "done" for id_ in made))
            assert [(one.job(id_)["ok"], one.job(id_)["failed"]) for id_ in made] == [(50, 0)] * 6
        assert len(llm.bodies) == 300


def test_a_job_waits_for_an_llm_that_is_down(tmp_path: Path) -> None:
    with FaultyServer() as found:
        place, port = found.base_url, int(re.findall(r":(\d+)", found.base_url)[0])
    arguments = ("triage.py:triage", "--llm", f"{place}#m", "--jobs", str(tmp_path / "jobs.db"), "--no-key")
    with Serving(tmp_path, *arguments, LLMTASKER_CACHE_DIR=str(tmp_path / "cache")) as serving:
        rows = [f"message {number}" for number in range(20)]
        id_ = serving.client.post("/tasks/triage/jobs", json={"rows": rows}).json()["id"]
        until(lambda: serving.job(id_)["state"] == "running")
        with FaultyServer(port=port) as llm:
            until(lambda: serving.job(id_)["state"] == "done")
            if serving.job(id_)["failed"]:
                serving.client.post(f"/jobs/{id_}/retry")
                until(lambda: serving.job(id_)["state"] == "done")
            assert (serving.job(id_)["ok"], len(llm.bodies)) == (20, 20)


def test_a_key_is_made_where_none_is_given(tmp_path: Path) -> None:
    with Serving(tmp_path, "triage.py:triage", "--llm", "offline") as serving:
        item = serving.client.post("/tasks/triage", json={"message": "Where is it?"}).json()
        assert item["output"]["team"] in {"billing", "delivery"}
        assert serving.client.get("/jobs", headers={"X-API-Key": "lt_wrong"}).status_code == 401
        serving.process.send_signal(signal.SIGTERM)
        assert serving.process.wait(20) in {0, -signal.SIGTERM}


@pytest.mark.parametrize("begin", [b"GET /", b"GET / HTTP/1.1\r\nX-Long: ", b"GET / HTTP/1.1\r\n"])
def test_the_head_of_a_request_is_bounded(tmp_path: Path, begin: bytes) -> None:
    """Before a key is checked, nothing large is read into memory."""
    part = b"".join(b"X-%d: %s\r\n" % (number, b"a" * 40) for number in range(1_000))
    part = part if begin.endswith(b"1\r\n") else b"a" * len(part)
    with Serving(tmp_path, "triage.py:triage", "--llm", "offline") as serving:
        address = (serving.client.base_url.host, serving.client.base_url.port)
        with socket.create_connection(address, timeout=20) as client:
            sent = 0
            try:
                client.sendall(begin)
                while sent < 50_000_000:
                    client.sendall(part)
                    sent += len(part)
                answer = client.recv(100)
            except OSError:  # it disconnects a client that continues
                answer = b""
        assert sent < 50_000_000
        assert answer == b""
        assert serving.client.get("/healthz").status_code == 200


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--no-key", "--host", "192.0.2.1"], "--no-key is for 127.0.0.1 only"),
        (["absent.py:triage"], "there is no file absent.py"),
        (["triage.py:triage", "triage.py:triage", "--llm", "offline"], "two tasks have the name 'triage'"),
        (["--keys", "absent.json"], "can't read the keys"),
        (["triage.py:routed", "--llm", "offline"], "the tasks of a pipeline have their own LLMs"),
    ],
)
def test_a_wrong_command_ends_at_once(tmp_path: Path, arguments: list[str], words: str) -> None:
    (tmp_path / "triage.py").write_text(TASK, encoding="utf-8")
    ended = programs.run("-m", "llmtasker", "serve", *arguments, cwd=tmp_path)
    assert ended.returncode == 2
    assert words in ended.stderr


def test_a_new_key_is_shown_with_its_line(tmp_path: Path) -> None:
    ended = programs.run("-m", "llmtasker", "serve", "--new-key", cwd=tmp_path)
    assert re.search(r"lt_[a-z0-9]{40}\n", ended.stdout)
    assert '"sha256": "' in ended.stdout
