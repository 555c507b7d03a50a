"""Instruction: your own instruction, with a dict, an object or plain text as output."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Any, Literal

import openai
import pytest
from pydantic import BaseModel, Field
from typing_extensions import TypedDict  # Pydantic does not accept that of `typing` before Python 3.12

from llmtasker import LLM, ConfigurationError, OutputField
from llmtasker.errors import FilteredError, InvalidOutputError, TruncatedError
from llmtasker.portal import portal
from llmtasker.tasks.instruction import Instruction
from llmtasker.testing import FakeTransport, FaultyServer, last_user_text
from llmtasker.wire.completion import Completion


class Person(BaseModel):
    name: str
    age: int | None = None


class Mood(Enum):
    GLAD = "glad"


@dataclass
class Sized:
    width: int


class Named(TypedDict):
    name: str


def saying(*answers: Any) -> LLM:
    return LLM(transport=FakeTransport(list(answers)), cache=False)


def calls(task: Instruction) -> int:
    transport = task.llm.transport
    assert isinstance(transport, FakeTransport)
    return transport.calls


# ── plain text ──


def test_plain_text_comes_as_it_is() -> None:
    text = 'Here is "it":\n\n```json\n{"a": 1}\n```\n<b>é</b>'
    task = Instruction(llm=saying(text), instructions="Summarise.")
    item = task("a long text")
    assert item.output == text
    assert item.repairs == ()
    body = task.preview("a long text").body
    assert not {"tools", "response_format"} & body.keys()
    assert [message["role"] for message in body["messages"]] == ["system", "user"]
    assert body["messages"][0]["content"] == "Summarise."


@pytest.mark.parametrize("answer", ["", "  \n ", Completion(finish_reason="stop")])
def test_an_empty_answer_is_asked_again(answer: Any) -> None:
    task = Instruction(llm=saying(answer, "Voilà."), instructions="Résume.")
    item = task("x")
    assert (item.output, item.attempts) == ("Voilà.", 2)
    given_up = Instruction(llm=saying(answer, answer), instructions="Résume.", attempts=2)("x")
    assert isinstance(given_up.error, InvalidOutputError)


@pytest.mark.parametrize(("finish", "error"), [("length", TruncatedError), ("content_filter", FilteredError)])
def test_half_a_text_is_not_an_answer(finish: str, error: type[Exception]) -> None:
    task = Instruction(llm=saying(Completion(text="Half of", finish_reason=finish)), instructions="Summarise.")
    item = task("x")
    assert isinstance(item.error, error)
    assert item.output is None
    assert calls(task) == 1


def test_examples_of_plain_text_are_turns_of_plain_text() -> None:
    task = Instruction(llm=saying(), instructions="Shorten.", examples={"a long text": "short"})
    messages = task.preview("x").messages
    assert [(message["role"], message["content"]) for message in messages[1:3]] == [
        ("user", "a long text"),
        ("assistant", "short"),
    ]


def test_the_input_stands_where_it_is_named() -> None:
    task = Instruction(
        llm=saying(), instructions="Translate into {language}: «{text}»", variables={"language": "French"}
    )
    assert task.preview("{language}?").messages[-1]["content"] == "Translate into French: «{language}?»"


# ── a dict ──


def test_any_json_object() -> None:
    task = Instruction(
        llm=saying({"result": {"deep": [1, {"x": None}]}}), instructions="List what is there.", output=dict
    )
    assert task("x").output == {"deep": [1, {"x": None}]}


def test_a_bare_object_is_taken_for_the_dict() -> None:
    item = Instruction(llm=saying('{"who": "Ann"}'), instructions="Who?", output=dict, mode="json")("x")
    assert item.output == {"who": "Ann"}
    assert item.repaired


NAMES: dict[str, Any] = {"name": str, "age": int, "mood": Literal["glad", "angry"]}


def test_a_dict_with_names_and_types() -> None:
    task = Instruction(
        llm=saying({"name": "Ann", "age": "41", "mood": "Glad"}),
        instructions="Who is it?",
        output=NAMES,
        examples=[("Bob, 7, furious", {"name": "Bob", "age": 7, "mood": "angry"})],
    )
    item = task("Ann, 41, smiling")
    assert item.output == {"name": "Ann", "age": 41, "mood": "glad"}
    assert list(item.output) == list(NAMES)
    schema = json.dumps(task.preview("x").schema)
    assert all(name in schema for name in NAMES)
    assert "Bob" in json.dumps(task.preview("x").messages)


def test_a_dict_with_described_fields() -> None:
    output = {"city": (str, OutputField(description="without the country", min_length=2))}
    task = Instruction(llm=saying({"city": "X"}, {"city": "Lyon"}), instructions="Where?", output=output)
    assert "without the country" in json.dumps(task.preview("x").schema)
    item = task("Lyon, France")
    assert (item.output, item.attempts) == ({"city": "Lyon"}, 2)


# ── an object ──


def test_an_object() -> None:
    task = Instruction(
        llm=saying({"result": {"name": "Ann", "age": 41}}),
        instructions="Who?",
        output=Person,
        examples={"Bob": Person(name="Bob", age=7)},
    )
    output = task("Ann, 41").output
    assert output == Person(name="Ann", age=41)
    assert type(output) is Person


def test_an_object_without_its_wrapping() -> None:
    item = Instruction(llm=saying('```json\n{"name": "Ann"}\n```'), instructions="Who?", output=Person, mode="text")(
        "x"
    )
    assert item.output == Person(name="Ann")


def test_an_object_that_does_not_fit_is_asked_again_with_the_reason() -> None:
    class Strict(BaseModel):
        age: int = Field(ge=0, le=120)

    llm = saying({"result": {"age": 400}}, {"result": {"age": 40}})
    task = Instruction(llm=llm, instructions="How old?", output=Strict)
    item = task("x")
    assert (item.output, item.attempts) == (Strict(age=40), 2)
    transport = llm.transport
    assert isinstance(transport, FakeTransport)
    assert "120" in json.dumps(transport.requests[1].messages[-1])


@pytest.mark.parametrize(
    ("mode", "form"),
    [
        ("tools", "tools"),
        ("json_schema", "response_format"),
        ("json", "response_format"),
        ("text", None),
        ("auto", "tools"),
    ],
)
def test_modes(mode: Any, form: str | None) -> None:
    answer: Any = (
        '{"result": {"name": "Ann"}}' if mode in {"json", "text", "json_schema"} else {"result": {"name": "Ann"}}
    )
    task = Instruction(llm=saying(answer), instructions="Who?", output=Person, mode=mode)
    assert task("x").output == Person(name="Ann")
    body = task.preview("x").body
    assert {"tools", "response_format"} & body.keys() == ({form} if form else set())


def test_text_in_json_mode() -> None:
    task = Instruction(llm=saying('{"result": "short"}'), instructions="Shorten. Answer in JSON.", mode="json")
    assert task("x").output == "short"


def test_reasoning() -> None:
    task = Instruction(llm=saying({"reasoning": "first …", "result": "short"}), instructions="Shorten.", reasoning=True)
    item = task("x")
    assert (item.output, item.reasoning) == ("short", "first …")


# ── mistakes ──


@pytest.mark.parametrize(
    ("output", "answer", "value"),
    [
        (int, 3, 3),
        (bool, True, True),
        (list, [1, "a"], [1, "a"]),
        (list[str], ["a"], ["a"]),
        (dict[str, int], {"a": 1}, {"a": 1}),
        (str | None, None, None),
        (Literal["a", "b"], "b", "b"),
        (Mood, "glad", Mood.GLAD),
        (dt.date, "2026-03-02", dt.date(2026, 3, 2)),
        (Annotated[list[Person], Field(min_length=1)], [{"name": "Ann"}], [Person(name="Ann")]),
        (Sized, {"width": 2}, Sized(width=2)),
        (Named, {"name": "Ann"}, {"name": "Ann"}),
    ],
    ids=str,
)
def test_an_output_of_any_type(output: Any, answer: Any, value: Any) -> None:
    task = Instruction(llm=saying({"result": answer}), instructions="Do it.", output=output, examples={"x": value})
    item = task("a")
    assert (item.output, item.error) == (value, None)
    assert type(item.output) is type(value)


@pytest.mark.parametrize("output", [{}, None, "str", 3, Person(name="Ann"), print, lambda: 1, ["a"]])
def test_an_output_that_is_not_one(output: Any) -> None:
    with pytest.raises(ConfigurationError, match="output"):
        Instruction(llm=saying(), instructions="Do it.", output=output)


@pytest.mark.parametrize(
    ("output", "examples"),
    [
        (Person, {"x": {"age": "old"}}),
        (NAMES, [("x", {"name": "Ann"})]),
        (NAMES, [("x", "Ann")]),
        (NAMES, [("x", 7)]),
        (str, [("x",)]),
        (str, {"x": 7}),
    ],
)
def test_examples_that_do_not_fit(output: Any, examples: Any) -> None:
    with pytest.raises(ConfigurationError, match="example 1"):
        Instruction(llm=saying(), instructions="Do it.", output=output, examples=examples)


def test_an_unknown_variable() -> None:
    with pytest.raises(ConfigurationError, match="texte"):
        Instruction(llm=saying(), instructions="Summarise {texte}.")


# ── over endpoints, and many ──


@pytest.mark.parametrize("form", ["openai", "langchain"])
def test_over_other_peoples_clients(form: str) -> None:
    def answer(body: Any) -> Any:
        text = last_user_text(body)
        return {"name": text, "age": len(text), "mood": "glad"} if body.get("tools") else f"short: {text}"

    with FaultyServer(answer) as server:
        client: Any
        blocking, awaiting = openai.DefaultHttpxClient(), openai.DefaultAsyncHttpxClient()
        if form == "openai":
            client = openai.OpenAI(base_url=server.base_url, api_key="none", http_client=blocking)
        else:
            from langchain_openai import ChatOpenAI
            from pydantic import SecretStr

            client = ChatOpenAI(
                model="m",
                base_url=server.base_url,
                api_key=SecretStr("none"),
                http_client=blocking,
                http_async_client=awaiting,
            )
        as_text = Instruction(llm=client, instructions="Shorten.")
        as_dict = Instruction(llm=client, instructions="Who?", output=NAMES)
        assert [item.output for item in as_text.run(["a", "b"])] == ["short: a", "short: b"]
        assert [item.output for item in as_dict.run(["a", "bb"])] == [
            {"name": "a", "age": 1, "mood": "glad"},
            {"name": "bb", "age": 2, "mood": "glad"},
        ]
        assert server.counters.requests == 4
        blocking.close()
        portal().call(awaiting.aclose())


@pytest.mark.parametrize("output", [str, NAMES, Person])
def test_groups(output: Any) -> None:
    texts = [f"number {number} comes here today" for number in range(20)]
    with FaultyServer() as server:
        task = Instruction(
            llm=LLM(f"{server.base_url}#m", cache=False), instructions="Do.", output=output, group_size=5
        )
        results = task.run(texts)
        assert server.counters.requests < 20
    assert [item.ok for item in results] == [True] * 20
    kind: Any = dict if output is NAMES else output
    assert {type(item.output) for item in results} == {kind}
