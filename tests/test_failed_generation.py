"""The answer that an endpoint returns inside a refusal, because it could not read it itself (Groq)."""

from __future__ import annotations

import json
from typing import Any, Literal

import openai
import pytest

from llmtasker import LLM, InputField, OutputField, Signature, Task
from llmtasker.testing import FaultyServer
from llmtasker.wire.failed_generation import failed_generation


class Sort(Signature):
    """Sort the waste."""

    waste: str = InputField()
    bin: Literal["paper", "glass"] = OutputField()


def refusal(generation: Any) -> str:
    error = {"message": "Failed to call a function.", "code": "tool_use_failed", "failed_generation": generation}
    return json.dumps({"error": error})


@pytest.mark.parametrize("handed_over", [False, True])
@pytest.mark.parametrize(
    "generation", ['<function=Sort>{"bin": "glass"}</function>', '{"bin": "glass",}', '[Sort(bin="glass")]']
)
def test_the_answer_inside_a_refusal_is_read(generation: str, handed_over: bool) -> None:
    def refuse(_: Any, reply: Any) -> None:
        reply.status, reply.raw, reply.content_type = 400, refusal(generation).encode(), "application/json"

    with FaultyServer(faults=[refuse]) as server:
        client = openai.OpenAI(base_url=server.base_url, api_key="k", max_retries=0)
        llm = LLM.of(client, model="m", cache=False) if handed_over else LLM("m", base_url=server.base_url, cache=False)
        item = Task(Sort, llm=llm, mode="tools", attempts=1)("a bottle")
        assert (item.ok, item.attempts) == (True, 1), item.error
        assert item.output.bin == "glass"


@pytest.mark.parametrize(
    ("status", "payload"),
    [
        (500, refusal("x")),
        (400, refusal("")),
        (400, refusal(None)),
        (400, "failed_generation"),
        (400, b"\xff"),
        (400, ""),
    ],
)
def test_a_refusal_without_an_answer(status: int, payload: bytes | str) -> None:
    assert failed_generation(status, payload) is None
