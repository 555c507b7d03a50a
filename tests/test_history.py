"""A conversation as an input becomes chat turns."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llmtasker import LLM, History, InputField, OutputField, Signature, Task
from llmtasker.compiler.program import compile_program
from llmtasker.compiler.prompt import Prompt
from llmtasker.errors import InputError
from llmtasker.testing import FakeTransport
from llmtasker.wire.request import Settings

SETTINGS = Settings(endpoint="test", body={"model": "m"})
TURNS = [{"role": "user", "content": "Bonjour {x}"}, {"role": "assistant", "content": "Oui ?"}]


class Reply(Signature):
    """Answer the customer."""

    history: History = InputField()
    message: str = InputField()
    reply: str = OutputField()


class Chat(Signature):
    """Answer the last message."""

    history: History = InputField()
    reply: str = OutputField()


class Late(Reply):
    history: History | None = InputField(default=None)


EXAMPLE = {"history": TURNS, "message": "Where is it?", "reply": "On its way."}


def messages(signature: type[Signature], given: Any, examples: Any = (), **prompt: Any) -> list[tuple[str, Any]]:
    program = compile_program(signature, Prompt(**prompt), examples, "json_schema")
    found = program.render(program.validate(given), SETTINGS).messages
    return [(message["role"], message["content"]) for message in found]


SYSTEM = ("system", "Answer the customer.")
SPOKEN = [("user", "Bonjour {x}"), ("assistant", "Oui ?")]


@pytest.mark.parametrize(
    ("signature", "given", "shown"),
    [
        (Reply, {"history": TURNS, "message": "Late!"}, [SYSTEM, *SPOKEN, ("user", "Late!")]),
        (Reply, {"history": [], "message": "Late!"}, [SYSTEM, ("user", "Late!")]),
        (Late, {"message": "Late!"}, [SYSTEM, ("user", "Late!")]),
        (Late, "Late!", [SYSTEM, ("user", "Late!")]),
        (Late, {"history": History.model_validate(TURNS), "message": "L"}, [SYSTEM, *SPOKEN, ("user", "L")]),
        (Chat, TURNS[:1], [("system", "Answer the last message."), *SPOKEN[:1]]),
        (Chat, {"history": [*TURNS, TURNS[0]]}, [("system", "Answer the last message."), *SPOKEN, SPOKEN[0]]),
        (
            Reply.with_instructions("So far:\n{history}\nAnswer."),
            {"history": TURNS, "message": "Late!"},
            [("user", "So far:\nuser: Bonjour {x}\nassistant: Oui ?\nAnswer.\n\nLate!")],
        ),
    ],
)
def test_a_conversation_becomes_turns(signature: type[Signature], given: Any, shown: Any) -> None:
    assert messages(signature, given) == shown


def test_an_example_has_its_turns_too() -> None:
    shown = messages(Reply, {"history": TURNS[:1], "message": "Late!"}, [EXAMPLE])
    answer = ("assistant", '{"reply":"On its way."}')
    assert shown == [SYSTEM, *SPOKEN, ("user", "Where is it?"), answer, SPOKEN[0], ("user", "Late!")]


@pytest.mark.parametrize("role", ["system", "user"])
def test_an_example_that_is_text_has_its_turns_as_text(role: Any) -> None:
    shown = dict(messages(Reply, {"history": TURNS, "message": "Late!"}, [EXAMPLE], examples_role=role))
    assert "user: Bonjour {x}\nassistant: Oui ?" in shown[role]
    assert shown["assistant"] == "Oui ?"


@pytest.mark.parametrize(
    ("history", "words"),
    [
        ([{"role": "system", "content": "Obey"}], "history.0.role: Input should be 'user' or 'assistant'"),
        ([{"role": "user"}], "history.0.content: Field required"),
        ([{"role": "user", "content": "a", "name": "Eve"}], "history.0.name: Extra inputs are not permitted"),
        ([{"role": "user", "content": None}], "history.0.content: Input should be a valid string"),
        ("Bonjour", "history: Input should be a valid tuple"),
        (None, "history: Input should be a valid tuple"),
    ],
)
def test_what_is_not_a_conversation(history: Any, words: str) -> None:
    with pytest.raises(InputError) as caught:
        messages(Reply, {"history": history, "message": "a"})
    assert words in str(caught.value)


@pytest.mark.parametrize("history", [[], TURNS])
def test_a_conversation_that_is_the_whole_input_ends_with_the_user(history: Any) -> None:
    with pytest.raises(InputError, match="its last message must be from the user"):
        messages(Chat, {"history": history})


def test_the_conversation_is_part_of_the_key() -> None:
    program = compile_program(Reply)
    keys = {
        program.render(program.validate({"history": history, "message": "a"}), SETTINGS).key
        for history in ([], TURNS, TURNS[:1])
    }
    assert len(keys) == 3


def test_rows_with_a_conversation_share_no_message() -> None:
    fake = FakeTransport({"reply": "ok"})
    rows = [{"history": TURNS, "message": f"number {number} is here"} for number in range(4)]
    results = Task(Reply, llm=LLM(transport=fake, cache=False), group_size=2).run(rows)
    assert [item.ok for item in results] == [True] * 4
    assert fake.calls == 4
    assert [message["content"] for message in json.loads(fake.requests[0].content)["messages"][1:3]] == [
        "Bonjour {x}",
        "Oui ?",
    ]
