"""What a task costs in tokens, beside the same task written by hand for the openai package.

Counted as `tests/by_hand.json` says: with o200k the contents, calls and the JSON of the schema, and 4 tokens a message.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from rs_bpe.bpe import openai

from llmtasker import Classification

BY_HAND = json.loads(Path(__file__).with_name("by_hand.json").read_text(encoding="utf-8"))
TOKENS = 396
"""Those of `BY_HAND["body"]`."""


def tokens(*texts: str) -> int:
    return sum(len(openai.o200k_base().encode(text)) for text in texts)


def counted(body: dict[str, Any]) -> int:
    contents = [message["content"] or "" for message in body["messages"]]
    calls = [call["function"] for message in body["messages"] for call in message.get("tool_calls", ())]
    schema = [json.dumps(body[name], separators=(",", ":")) for name in ("tools", "response_format") if name in body]
    return tokens(*contents, *schema, *(f"{call['name']}{call['arguments']}" for call in calls)) + 4 * len(contents)


def test_the_count_is_right_to_a_token() -> None:
    assert abs(counted(BY_HAND["body"]) - TOKENS) <= 1


@pytest.mark.parametrize(("role", "most"), [("system", 1.0), ("turns", 1.1)])
def test_a_call_costs_what_it_costs_by_hand(role: Any, most: float) -> None:
    task = Classification(
        llm="offline",
        instructions=BY_HAND["instructions"],
        labels=BY_HAND["labels"],
        examples={example["text"]: example["label"] for example in BY_HAND["examples"]},
        examples_role=role,
    )
    assert counted(task.preview(BY_HAND["input"]).request.body) <= most * TOKENS
