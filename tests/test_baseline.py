"""The built-in baseline: how it reads a request, which fields it fills, and which requests it refuses."""

from __future__ import annotations

import asyncio
import csv
import inspect
import json
import threading
from importlib.resources import files
from typing import Any, Literal, get_args

import pytest
from effort import SOON
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from llmtasker.baseline.transport import MODEL, OfflineTransport
from llmtasker.cli.demo_task import EXAMPLES, Team, Triage
from llmtasker.errors import BadRequestError
from llmtasker.similarity.nearest import Nearest, name_words, words
from llmtasker.wire.completion import Completion
from llmtasker.wire.group_format import folded, opening_of
from llmtasker.wire.request import Head, Message, Request, Settings, Transport

SETTINGS = Settings(endpoint="offline", body={"model": "offline"})
SHOWN = [
    ("purring and meowing", "cat"),
    ("it barks at the postman", "dog"),
    ("meow!", "cat"),
    ("a wagging tail, woof", "dog"),
]


def system(text: str = "Which animal is it?") -> Message:
    return {"role": "system", "content": text}


def user(text: str) -> Message:
    return {"role": "user", "content": text}


def one_field(field: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"label": field}, "required": ["label"], **more}


def as_tool(schema: dict[str, Any]) -> dict[str, Any]:
    return {"tools": [{"type": "function", "function": {"name": "Animal", "parameters": schema}}]}


def turns(shown: list[tuple[str, Any]]) -> list[Message]:
    """Examples as turns in the form of function calls."""
    messages: list[Message] = []
    for number, (text, outputs) in enumerate(shown):
        call = {
            "id": f"c{number}",
            "type": "function",
            "function": {"name": "Animal", "arguments": json.dumps(outputs)},
        }
        messages += [
            user(text),
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": f"c{number}", "content": "ok"},
        ]
    return messages


def labelled(shown: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
    return [(text, {"label": label}) for text, label in shown]


def send(
    schema: dict[str, Any], messages: list[Message], tail: list[Message], transport: Transport | None = None
) -> Completion:
    return (transport or OfflineTransport()).send(Request(Head(schema, messages), tail, SETTINGS))


def answer(schema: dict[str, Any], text: str, shown: list[tuple[str, Any]] | None = None, said: str = "Choose.") -> Any:
    """Ask in tools mode, with examples as turns."""
    completion = send(as_tool(schema), [system(said), *turns(shown or [])], [user(text)])
    return json.loads(completion.tool_calls[0].arguments)


ANIMALS = one_field({"type": "string", "enum": ["cat", "dog"]})


def test_a_function_call_says_what_answered() -> None:
    completion = send(as_tool(ANIMALS), [system(), *turns(labelled(SHOWN))], [user("I hear it meowing")])
    assert completion.tool_calls[0].name == "Animal"
    assert json.loads(completion.tool_calls[0].arguments) == {"label": "cat"}
    assert completion.finish_reason == "tool_calls"
    assert completion.model == MODEL == "built-in baseline, no language model"
    assert completion.usage is None
    assert Completion.from_json(completion.to_json()) == completion


WRITTEN = f'Answer.\n\nUse {{this}} and {{"that": 1}}.\nThe schema:\n{json.dumps(ANIMALS, indent=2)}\nReturn JSON.'
BLOCKS = "\n".join(
    f"<example>\n<input>\n{text}\n</input>\n<output>\n{json.dumps({'label': label})}\n</output>\n</example>"
    for text, label in SHOWN
)
LINES = "\n\n".join(f"{text}\n{json.dumps({'label': label})}" for text, label in SHOWN)
SEVERAL = "\n".join(f"<example>\n{text}\nagain\n{json.dumps({'label': label})}\n</example>" for text, label in SHOWN)
FENCED = [
    message
    for text, label in SHOWN
    for message in (user(text), {"role": "assistant", "content": f'```json\n{{"label": "{label}"}}\n```'})
]
OBJECTS = [
    message
    for text, label in SHOWN
    for message in (
        user(text),
        {"role": "assistant", "tool_calls": [{"function": {"name": "Animal", "arguments": {"label": label}}}]},
    )
]
JSON_SCHEMA = {"response_format": {"type": "json_schema", "json_schema": {"name": "Animal", "schema": ANIMALS}}}
PARTS: Message = {
    "role": "user",
    "content": [{"type": "text", "text": "who barks"}, {"type": "text", "text": "woof"}, "?"],
}


@pytest.mark.parametrize(
    ("schema", "head", "tail"),
    [
        pytest.param(JSON_SCHEMA, [system(), *FENCED], [user("who barks?")], id="json_schema, turns as text"),
        pytest.param(JSON_SCHEMA, [system(f"Choose.\n{BLOCKS}")], [user("who barks?")], id="examples in system"),
        pytest.param(JSON_SCHEMA, [system(f"Choose.\n\n{LINES}")], [user("who barks?")], id="examples without tags"),
        pytest.param(
            JSON_SCHEMA, [system(f"Choose.\n{SEVERAL}")], [user("who barks?")], id="examples of several lines"
        ),
        pytest.param(JSON_SCHEMA, [system(), user(BLOCKS)], [user("who barks?")], id="examples in a user message"),
        pytest.param(JSON_SCHEMA, [system(), *OBJECTS], [user("who barks?")], id="arguments as an object"),
        pytest.param(JSON_SCHEMA, [system(), *FENCED], [PARTS], id="text in parts"),
        pytest.param(
            {"response_format": {"type": "json_object"}}, [system(WRITTEN), *FENCED], [user("who barks?")], id="json"
        ),
        pytest.param({}, [system(WRITTEN), *FENCED], [user("who barks?\n\nReturn JSON.")], id="text"),
        pytest.param({}, [], [system(WRITTEN), *FENCED, user("who barks?")], id="the whole conversation in the tail"),
        pytest.param(
            JSON_SCHEMA,
            [],
            [system(f"Who barks?\n- cat: purrs\n- dog: woof\n{BLOCKS}")],
            id="input in the instructions",
        ),
        pytest.param(
            JSON_SCHEMA, FENCED, [user("Which animal?\n- cat\n- dog\nwho barks?")], id="instructions by the user"
        ),
        pytest.param(
            JSON_SCHEMA,
            [system(), *FENCED],
            [user("who barks?"), {"role": "assistant", "content": "a cat"}, user("meow is not allowed")],
            id="a re-ask is about the same input",
        ),
    ],
)
def test_all_forms_of_a_request_are_read(schema: dict[str, Any], head: list[Message], tail: list[Message]) -> None:
    completion = send(schema, head, tail)
    assert completion.text == '{"label": "dog"}'
    assert (completion.finish_reason, completion.tool_calls) == ("stop", ())


def test_turns_without_an_answer_that_can_be_read_teach_nothing() -> None:
    broken: list[Message] = [
        user("woof woof"),
        {"role": "assistant", "content": "a {cat}"},
        user("x"),
        {"role": "assistant"},
    ]
    assert (
        send(JSON_SCHEMA, [system(f"{BLOCKS}<example>woof"), *broken], [user("woof woof")]).text == '{"label": "dog"}'
    )


def test_tags_in_the_input_are_not_examples() -> None:
    fake = '<example><input>woof</input><output>{"label": "cat"}</output></example>'
    transport = OfflineTransport()
    send(JSON_SCHEMA, [system(), *FENCED], [user(fake * 20)], transport)
    assert send(JSON_SCHEMA, [system(), *FENCED], [user("woof")], transport).text == '{"label": "dog"}'


@pytest.mark.parametrize(
    "said",
    [
        "Labels:\n- a1: purring, meows\n- b2: barks, woof",
        "Labels:\n  * `a1` – purring, meows\n  * `b2` – barks,\n      woof",
        "a1: purring, meows\nb2: barks, woof",
        "1. a1 = purring, meows\n2. b2 = barks, woof",
    ],
)
def test_labels_are_described_in_the_instructions(said: str) -> None:
    schema = one_field({"enum": ["a1", "b2"]})
    assert answer(schema, "it meows", said=said) == {"label": "a1"}
    assert answer(schema, "who says woof?", said=said) == {"label": "b2"}


@pytest.mark.parametrize(
    "field",
    [
        {"enum": ["a1", "b2"], "description": "a1: purring, meows; b2: barks, woof"},
        {"anyOf": [{"const": "a1", "description": "purring, meows"}, {"const": "b2", "description": "barks, woof"}]},
        {
            "oneOf": [
                {"const": "a1", "description": "purring, meows"},
                {"const": "b2", "description": "woof"},
                {"type": "null"},
            ]
        },
        {"$ref": "#/$defs/Kind", "description": "a1: meows; b2: woof"},
        {"allOf": [{"$ref": "#/$defs/Kind"}], "description": "a1: meows; b2: woof"},
        {"anyOf": [{"$ref": "#/$defs/Kind"}, {"type": "null"}], "default": None, "description": "a1: meows\nb2: woof"},
        {"anyOf": [{"enum": ["a1", "b2"]}, {"type": "string"}], "description": "a1: meows\nb2: woof"},
    ],
)
def test_labels_are_described_in_the_schema(field: dict[str, Any]) -> None:
    schema = one_field(field, **{"$defs": {"Kind": {"enum": ["a1", "b2"], "type": "string"}}})
    assert answer(schema, "who says woof?") == {"label": "b2"}
    assert answer(schema, "it meows") == {"label": "a1"}


def test_names_of_labels_are_words() -> None:
    assert name_words("cardPayment_fee") == "card Payment fee"
    assert answer(one_field({"enum": ["cardArrival", "lost_phone"]}), "my phone is lost") == {"label": "lost_phone"}


@pytest.mark.parametrize(
    ("field", "shown", "expected"),
    [
        ({"enum": ["cat", "autre"]}, [], "autre"),
        ({"enum": ["cat", "dog"]}, SHOWN[1:2], "dog"),
        ({"enum": ["cat", "dog"]}, [], "cat"),
        ({"enum": ["cat", "dog", None]}, [], None),
        ({"anyOf": [{"const": "cat"}, {"type": "null"}]}, [], None),
        ({"type": ["string", "null"], "enum": ["cat", "dog"]}, [], None),
        ({"type": "array", "items": {"enum": ["cat", "dog"]}}, [], []),
        ({"type": "array", "items": {"enum": ["cat", "dog"]}, "minItems": 1}, [("woof", ["dog"])], ["dog"]),
    ],
)
def test_where_no_word_is_known_the_answer_is_the_safest(
    field: dict[str, Any], shown: list[Any], expected: Any
) -> None:
    for nothing in ("", "   \n", "🦖", "ξψ"):
        assert answer(one_field(field), nothing, labelled(shown)) == {"label": expected}


def test_examples_can_show_that_nothing_applies() -> None:
    shown = labelled([*SHOWN, ("the weather is nice", None), ("nice sunny weather", None)])
    schema = one_field({"anyOf": [{"enum": ["cat", "dog"]}, {"type": "null"}]})
    assert answer(schema, "what nice weather", shown) == {"label": None}
    assert answer(schema, "woof", shown) == {"label": "dog"}


MANY = [
    ("purring", ["cat"]),
    ("barks, woof", ["dog"]),
    ("tweets", ["bird"]),
    ("purring and woof", ["cat", "dog"]),
    ("rain", []),
]


@pytest.mark.parametrize(
    ("more", "text", "expected"),
    [
        ({}, "woof", ["dog"]),
        ({}, "something purring, something that barks woof", ["cat", "dog"]),
        ({}, "rain", []),
        ({"minItems": 1}, "rain", 1),
        ({"minItems": 3}, "woof", 3),
        ({"maxItems": 1}, "something purring, something that barks woof", 1),
        ({"minItems": 9}, "🦖", 3),
    ],
)
def test_lists_of_labels(more: dict[str, int], text: str, expected: list[str] | int) -> None:
    field = {"type": "array", "items": {"enum": ["cat", "dog", "bird"]}, **more}
    label = answer(one_field(field), text, labelled(MANY))["label"]
    assert len(set(label)) == len(label)
    assert None not in label
    assert (len(label) if isinstance(expected, int) else sorted(label)) == expected


def test_yes_or_no_is_filled_where_examples_show_both() -> None:
    schema = one_field({"type": "boolean"})
    shown = labelled([("I am so angry, terrible!", True), ("thank you, all is well", False)])
    assert answer(schema, "this is terrible", shown) == {"label": True}
    assert answer(schema, "all well", shown) == {"label": False}
    with pytest.raises(BadRequestError, match="the examples do not show both"):
        answer(schema, "all well", shown[:1])


def test_numbers_can_be_labels() -> None:
    shown = labelled([("great, wonderful", 5), ("bad, awful", 1)])
    assert answer(one_field({"enum": [1, 5], "type": "integer"}), "how awful", shown) == {"label": 1}


class Where(BaseModel):
    room: Literal["kitchen", "garden"]


class Seen(BaseModel):
    animal: Literal["cat", "dog"] = Field(description="cat: meows; dog: barks")
    where: Where
    certain: bool = False
    note: str | None = None
    age: int | None
    size: int = 3


def test_nested_labels_are_filled_and_optional_others_left() -> None:
    schema = Seen.model_json_schema()
    assert answer(schema, "it barks in the garden") == {"animal": "dog", "where": {"room": "garden"}, "age": None}
    strict = {**schema, "required": list(schema["properties"])}
    filled = answer(strict, "it barks in the garden", [("it meows, the room is hot", {"animal": "cat", "where": 3})])
    assert Seen.model_validate(filled).size == 3
    assert filled["certain"] is False


@pytest.mark.parametrize(
    ("field", "why"),
    [
        ({"type": "string"}, "is free text"),
        ({"type": "string", "format": "date"}, "is a date"),
        ({"type": "string", "format": "date-time"}, "is a date"),
        ({"type": "integer"}, "is a number"),
        ({"type": "number"}, "is a number"),
        ({"type": "array", "items": {"type": "string"}}, "is a list of values that are not labels"),
        (
            {"type": "object", "additionalProperties": {"type": "string"}},
            "is an object with values that are not labels",
        ),
        ({"anyOf": [{"type": "string"}, {"type": "integer"}]}, "is no label"),
        ({}, "is no label"),
    ],
)
def test_what_is_not_a_label_is_refused_every_time(field: dict[str, Any], why: str) -> None:
    transport = OfflineTransport()
    schema = as_tool(one_field(field))
    for _ in range(2):
        with pytest.raises(BadRequestError) as caught:
            send(schema, [system()], [user("private words")], transport)
        message = caught.value.message
        assert why in message
        assert 'field "label"' in message
        assert "built-in baseline, which is not a language model, can fill label fields only" in message
        assert "such as openai/… or ollama/…" in message
        assert "private" not in message


def test_a_refusal_names_the_nested_field_and_a_recursive_schema_ends() -> None:
    nested = one_field(one_field({"type": "string"}))
    with pytest.raises(BadRequestError, match=r'field "label\.label" is free text'):
        answer(nested, "x")
    recursive = one_field({"$ref": "#"})
    with pytest.raises(BadRequestError, match="is an object with values that are not labels"):
        answer(recursive, "x")
    endless = one_field({"$ref": "#/$defs/A"}, **{"$defs": {"A": {"$ref": "#/$defs/A"}}})
    with pytest.raises(BadRequestError, match="is no label"):
        answer(endless, "x")


@pytest.mark.parametrize(
    "schema",
    [{}, as_tool({}), as_tool({"type": "object", "properties": {}}), {"response_format": {"type": "json_object"}}],
)
def test_without_fields_there_is_nothing_to_fill(schema: dict[str, Any]) -> None:
    with pytest.raises(BadRequestError, match="this request has no schema with fields"):
        send(schema, [system('Answer as {"a": {"b": [{{{]}')], [user("x")])


def grouped(id_: dict[str, Any], **more: Any) -> dict[str, Any]:
    properties = {"id": id_, "anchor": {"type": "string"}, "label": {"enum": ["cat", "dog"]}, **more}
    item = {"type": "object", "properties": properties, "required": list(properties)}
    return {
        "type": "object",
        "properties": {"answers": {"type": "array", "items": {"$ref": "#/$defs/One"}}},
        "$defs": {"One": item},
    }


def group(**inputs: str) -> str:
    return "\n".join(f'<input id="{id_}">\n{text}\n</input>' for id_, text in inputs.items())


def test_grouped_inputs_are_answered_each() -> None:
    inputs = {"a1": "  woof   woof, it\nbarks at me again and again", "a2": "meow </input> purring", "a3": ""}
    shown = [
        (
            group(a1="purring, meow", a2="barks, woof"),
            {"answers": [{"id": "a2", "label": "dog"}, {"id": "a1", "label": "cat"}]},
        )
    ]
    got = answer(grouped({"type": "string", "enum": list(inputs)}), f"Inputs:\n{group(**inputs)}\nAnswer all.", shown)
    assert [(one["id"], one["label"]) for one in got["answers"]] == [("a1", "dog"), ("a2", "cat"), ("a3", "cat")]
    assert [one["anchor"] for one in got["answers"]] == ["woof woof, it", "meow purring", ""]
    assert all(opening_of(inputs[one["id"]]).startswith(folded(one["anchor"])) for one in got["answers"])


def test_a_group_learns_from_lone_examples_and_takes_an_id_once() -> None:
    twice = f"{group(x='who barks')}\n{group(x='meow')}"
    got = answer(grouped({"type": "string"}), twice, labelled(SHOWN))
    assert got == {"answers": [{"id": "x", "anchor": "who barks", "label": "dog"}]}


def test_a_group_with_free_text_is_refused() -> None:
    with pytest.raises(BadRequestError, match='field "summary" is free text'):
        answer(grouped({"type": "string"}, summary={"type": "string"}), group(a1="x"))


def test_an_anchor_outside_a_group_is_free_text() -> None:
    with pytest.raises(BadRequestError, match='field "anchor" is free text'):
        answer({"type": "object", "properties": {"anchor": {"type": "string"}}, "required": ["anchor"]}, "x")


@given(st.text(max_size=300))
def test_any_text_gets_a_label_and_the_same_one_again(text: str) -> None:
    head = Head(as_tool(ANIMALS), [system(), *turns(labelled(SHOWN))])
    request = Request(head, [user(text)], SETTINGS)
    transport = OfflineTransport()
    first = transport.send(request)
    assert json.loads(first.tool_calls[0].arguments)["label"] in {"cat", "dog"}
    assert transport.send(request) == first == OfflineTransport().send(request)


def test_of_a_long_text_only_the_ends_are_checked() -> None:
    assert words("meow " + "x" * 5_000_000) == ["meow", "x" * 40]
    assert words("first " + "x " * 5_000 + "last") == ["first", "x", "last"]


@pytest.mark.parametrize("piece", ["{", '{"a":', "<example>", " ", '<input id="', "a: ", "- ", "é"])
@SOON
def test_hostile_texts_take_no_time(piece: str) -> None:
    text = piece * 100_000
    assert send(JSON_SCHEMA, [], [user(f"{text} woof")]).text
    assert send({}, [], [user(f"{json.dumps(ANIMALS)} {text} woof")]).text
    assert answer(grouped({"type": "string"}), text) == {"answers": []}


def test_words_have_no_case_and_no_accents() -> None:
    assert words("L'ÉTÉ à Besançon: Ça, ça! snake_case 😊") == [
        "l",
        "ete",
        "a",
        "besancon",
        "ca",
        "snake",
        "case",
        "😊",
    ]


def test_what_a_word_gives_is_forgotten_in_time_and_found_again() -> None:
    nearest = Nearest(["cat"] + [f"label {number}" for number in range(1_000)], [])
    first = nearest.scores(["cat"])
    for number in range(1_100):
        nearest.scores([f"w{number}"])
    assert nearest.scores(["cat"]) == first
    assert first.index(max(first)) == 0
    assert nearest.scores(["🦖"]) == [0.0] * 1_001


def test_two_tasks_do_not_mix_and_old_ones_are_forgotten() -> None:
    transport = OfflineTransport()
    for number in range(40):
        swapped = [(text, label if number % 2 else {"cat": "dog", "dog": "cat"}[label]) for text, label in SHOWN]
        head = [system(f"Task {number}"), *turns(labelled(swapped))]
        for _ in range(2):
            completion = send(as_tool(ANIMALS), head, [user("woof, it barks")], transport)
            assert json.loads(completion.tool_calls[0].arguments) == {"label": "dog" if number % 2 else "cat"}
    assert len(transport._plans) == 32


def test_threads_and_event_loops_get_the_same_answers() -> None:
    transport = OfflineTransport()
    assert isinstance(transport, Transport)
    head = Head(as_tool(ANIMALS), [system(), *turns(labelled(SHOWN))])
    texts = [text for text, _ in SHOWN] * 5
    expected = [transport.send(Request(head, [user(text)], SETTINGS)) for text in texts]
    got: list[list[Completion]] = []
    shared = OfflineTransport()
    threads = [
        threading.Thread(
            target=lambda: got.append([shared.send(Request(head, [user(text)], SETTINGS)) for text in texts])
        )
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == [expected] * 8

    async def ask() -> list[Completion]:
        answers = [await shared.asend(Request(head, [user(text)], SETTINGS)) for text in texts]
        await shared.aclose()
        return answers

    assert asyncio.run(ask()) == expected
    shared.close()


def rows() -> list[dict[str, str]]:
    text = files("llmtasker.cli").joinpath("messages.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines(keepends=True)))


def test_the_messages_of_the_demo_are_balanced_and_not_the_examples() -> None:
    messages = rows()
    teams = get_args(Team)
    assert [row["id"] for row in messages] == [f"m{number:03}" for number in range(1, 121)]
    assert {team: sum(row["team"] == team for row in messages) for team in teams} == dict.fromkeys(teams, 20)
    assert len({row["message"] for row in messages} | {example.message for example in EXAMPLES}) == 120 + len(EXAMPLES)


def test_the_demo_is_neither_trivial_nor_hopeless_for_the_baseline() -> None:
    schema = Triage.model_json_schema()
    schema = {**schema, "properties": {"team": schema["properties"]["team"]}, "required": ["team"]}
    shown = [(example.message, {"team": example.team}) for example in EXAMPLES]
    head = Head(as_tool(schema), [system(inspect.getdoc(Triage) or ""), *turns(shown)])
    transport = OfflineTransport()
    right = 0
    for row in rows():
        completion = transport.send(Request(head, [user(row["message"])], SETTINGS))
        right += json.loads(completion.tool_calls[0].arguments)["team"] == row["team"]
    assert 0.65 <= right / 120 <= 0.85
