"""A simulated LLM that obeys rules in its instructions, and one that proposes rules; shared by tests and benchmarks."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

from llmtasker.testing import FakeTransport
from llmtasker.wire.request import Request
from llmtasker.wire.request_reader import last_user_text

RULES = {"invoice": "billing", "parcel": "delivery", "password": "access"}
LABELS = [*RULES.values(), "other"]


def rows(count: int, seed: int) -> list[dict[str, str]]:
    """Rows of which four in five need one of the rules; the others are "other"."""
    random = Random(seed)
    made = []
    for number in range(count):
        word = random.choice([*RULES, *RULES, "weather"])
        made.append({"text": f"message {seed}-{number} about the {word}", "label": RULES.get(word, "other")})
    return made


def write_sets(sets: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    """Write the rows of a search as files into the current folder, and return the options that name them."""
    for name, made in sets.items():
        Path(f"{name}.jsonl").write_text("\n".join(map(json.dumps, made)))
    return [part for name in sets for part in (f"--{name}", f"{name}.jsonl")]


def obey(request: Request) -> dict[str, str]:
    """The answer of an LLM that knows only the rules of its instructions."""
    instructions = str(request.messages[0]["content"])
    text = last_user_text(request)
    word = text.rpartition(" ")[2]
    return {"label": RULES[word] if word in RULES and f"{word} -> " in instructions else "other"}


def propose(request: Request) -> dict[str, Any]:
    """A proposer that reads the first mistake only, and adds its rule."""
    text = last_user_text(request)
    current = text.partition("<current>\n")[2].partition("\n</current>")[0]
    found = re.search(r"about the (\w+)\nAnswer: .*\nRight answer: .*\"(\w+)\"", text)
    assert found is not None, text
    return {"improved": f"{current}\n{found[1]} -> {found[2]}"}


def reflect(text: str) -> str:
    """The same, asked by gepa: the instructions and the answer stand between fences."""
    current = text.partition("```\n")[2].partition("\n```")[0]
    found = next(
        one for one in re.finditer(r"about the (\w+)\nAnswer: (.*)\nRight answer: (.*)", text) if one[2] != one[3]
    )
    label = re.findall(r'"(\w+)"', found[3])[-1]
    return f"```\n{current}\n{found[1]} -> {label}\n```"


def both(request: Request) -> Any:
    """One LLM that answers, and writes proposals."""
    text = last_user_text(request)
    if "Right answer:" not in text:
        return obey(request)
    return propose(request) if "<mistakes>" in text else reflect(text)


def transport() -> FakeTransport:
    """The LLM of a search."""
    return FakeTransport(both)
