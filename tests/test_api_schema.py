"""The REST API against its own schema, as schemathesis reads it: each call with generated and with wrong values."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Literal
from unittest import SkipTest

import hypothesis
import pytest
import schemathesis
from schemathesis.checks import CHECKS
from schemathesis.generation import GenerationMode
from served import ANN, KEYS, Served

from llmtasker import LLM, InputField, OutputField, Signature, Task
from llmtasker.api import ServerSettings, create_app
from llmtasker.testing import FakeTransport

EXCLUDED = {
    "positive_data_acceptance": "a job of a generated id is not there, and generated columns do not fit a task",
    "negative_data_rejection": "one input may be a bare value; a wrong row of a stream is an error of that row",
}

NO_HTTP = b"Invalid HTTP request received."
"""The responses of uvicorn to generated headers that violate HTTP, before any operation is called."""


class Triage(Signature):
    """Route a customer message to a team."""

    message: str = InputField(max_length=200)
    team: Literal["billing", "delivery"] = OutputField()


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    llm = LLM(transport=FakeTransport(lambda _: {"team": "billing", "label": "a"}), cache=False)
    settings = ServerSettings(jobs=tmp_path_factory.mktemp("schema") / "jobs.db", keys=KEYS)
    running = Served(create_app({"triage": Task(Triage, llm=llm)}, settings))
    yield schemathesis.openapi.from_url(f"{running.client.base_url}/openapi.json")
    running.close()


OPERATIONS = [
    *("GET /healthz", "GET /readyz", "GET /metrics", "GET /jobs", "GET /jobs/{id}", "DELETE /jobs/{id}"),
    *(f"POST /jobs/{{id}}/{action}" for action in ("pause", "resume", "cancel", "retry")),
    *("GET /jobs/{id}/items", "GET /jobs/{id}/labels", "PATCH /jobs/{id}/items/{number}", "GET /jobs/{id}/results"),
    *("POST /tasks/triage", "POST /tasks/triage/stream", "POST /tasks/triage/jobs"),
    *("POST /v1/classification", "POST /v1/instruction", "POST /v1/classification/jobs", "POST /v1/instruction/jobs"),
]


def test_every_operation_is_in_the_table(api: Any) -> None:
    assert {result.ok().label for result in api.get_all_operations()} == set(OPERATIONS)


def test_every_reference_has_its_target_and_every_response_its_form(api: Any) -> None:
    document = api.raw_schema
    text = json.dumps(document)
    targets = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert set(re.findall(r'"(#/[^"]+)"', text)) == targets
    assert not [name for name in targets if name.endswith("_")], "equal definitions are shared"
    answers = {
        f"{method.upper()} {path}": content["schema"]
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        for status in {"200", "202"} & operation["responses"].keys()
        for media, content in operation["responses"][status].get("content", {}).items()
        if media == "application/json"
    }
    assert len(answers) == len(OPERATIONS) - 4, "these have text, lines, files or no body"
    open_ = [label for label, schema in answers.items() if not schema.keys() & {"$ref", "properties"}]
    assert set(open_) <= {"GET /healthz", "GET /readyz"}


@pytest.mark.parametrize("mode", GenerationMode)
@pytest.mark.parametrize("label", OPERATIONS)
def test_each_call_keeps_to_the_schema(api: Any, label: str, mode: GenerationMode) -> None:
    operation = api.find_operation_by_label(label)
    excluded = [CHECKS.get_one(name) for name in EXCLUDED]

    @hypothesis.settings(
        max_examples=12,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(operation.as_strategy(generation_mode=mode))
    def call(case: Any) -> None:
        response = case.call(headers=ANN)
        if NO_HTTP not in response.content:
            case.validate_response(response, headers=ANN, excluded_checks=excluded)

    try:
        call()
    except (hypothesis.errors.Unsatisfiable, SkipTest):
        assert mode is GenerationMode.NEGATIVE  # it has no wrong values
