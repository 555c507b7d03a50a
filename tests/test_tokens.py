"""The tokens of a task, compared with the same task written by hand for the openai package.

Counted as `tests/by_hand.json` says: with o200k the contents, calls and the JSON of the schema, and 4 tokens a message.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import pytest
from rs_bpe.bpe import openai

from llmtasker import Classification, InputField, OutputField, Signature
from llmtasker.compiler.program import compile_program
from llmtasker.runner.grouping.group_program import GroupProgram

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


@pytest.mark.parametrize("mode", ["json_schema", "json", "text"])
def test_every_mode_costs_what_it_costs_by_hand(mode: Any) -> None:
    task = Classification(
        llm="offline",
        instructions=BY_HAND["instructions"],
        labels=BY_HAND["labels"],
        examples={example["text"]: example["label"] for example in BY_HAND["examples"]},
        examples_role="system",
        mode=mode,
    )
    assert counted(task.preview(BY_HAND["input"]).request.body) <= 1.05 * TOKENS


GROUPED = {
    "en": [
        "The transfer that I made on Monday has not arrived",
        "How can I change the PIN of my card?",
        "I was charged twice for one parcel",
        "Where is my order?",
        "My invoice names another company",
        "Please send the parcel to my office",
        "Nobody answers the phone",
        "The discount is missing on the bill",
        "Your driver left it at the wrong door",
        "Can I pay in two parts?",
    ],
    "fr": [
        "Le virement que j'ai fait lundi n'est pas arrivé",
        "Comment changer le code de ma carte ?",
        "J'ai été débité deux fois pour un colis",
        "Où est ma commande ?",
        "Ma facture porte le nom d'une autre société",
        "Merci de livrer le colis à mon bureau",
        "Personne ne répond au téléphone",
        "La remise manque sur la note",
        "Votre livreur s'est trompé de porte",
        "Puis-je payer en deux fois ?",
    ],
}


@pytest.mark.parametrize("language", GROUPED)
def test_a_row_of_a_group_of_ten_is_answered_in_18_tokens(language: str) -> None:
    class Route(Signature):
        """Route the message."""

        text: str = InputField()
        team: Literal["billing", "delivery"] = OutputField()

    program = compile_program(Route, examples=[Route(text=text, team="billing") for text in GROUPED[language]])
    answer = GroupProgram(program).head("tools").messages[-1]["content"]
    assert answer.count('"anchor"') == 10
    assert tokens(answer) / 10 <= 18
