"""How the test doubles read a request, and the values that they generate for a schema."""

import json
import re
from datetime import date, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import AnyUrl, BaseModel, Field, TypeAdapter

from llmtasker.testing import answer_for, answer_from_schema, last_user_text, request_schema
from llmtasker.testing.generate import text_for_pattern

SCHEMA = {"type": "object", "properties": {"team": {"enum": ["billing", "delivery"]}}, "required": ["team"]}


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


class Leaf(BaseModel):
    name: str = Field(min_length=30, max_length=40)
    size: Literal["s", "m", "l"]


class Tree(BaseModel):
    leaves: list[Leaf] = Field(min_length=1, max_length=2)
    left: "Tree | None"
    children: list["Tree"]


class Everything(BaseModel):
    word: str
    short: Annotated[str, Field(max_length=2)]
    code: Annotated[str, Field(pattern=r"^[A-Z]{2,3}-\d+$")]
    count: Annotated[int, Field(ge=3, lt=7)]
    negative: Annotated[int, Field(lt=0)]
    above: Annotated[float, Field(gt=1.5)]
    share: Annotated[float, Field(gt=0, lt=1)]
    even: Annotated[int, Field(multiple_of=2, ge=5, le=7)]
    flag: bool
    nothing: None
    maybe: int | None
    kind: Literal["only"]
    when: date
    moment: datetime
    link: AnyUrl
    id: UUID
    pair: tuple[int, str]
    names: set[Literal["a", "b", "c"]] = Field(min_length=2)
    counts: dict[str, int] = Field(min_length=2)
    leaf: Leaf | Tree
    anything: Any


@pytest.mark.parametrize("text", ["", "Where is my parcel?", "ça alors, un œuf 🥚", "\ud800", "a b c " * 5_000])
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("model", [Leaf, Tree, Everything])
def test_a_made_value_fits_its_schema(model: type[BaseModel], text: str, seed: int) -> None:
    value = answer_from_schema(model.model_json_schema(), text, seed=seed)
    model.model_validate_json(json.dumps(value) if text != "\ud800" else json.dumps(value).replace("\\ud800", "x"))
    assert value == answer_from_schema(model.model_json_schema(), text, seed=seed)


def test_values_depend_on_text_and_seed_and_all_labels_occur() -> None:
    teams = [answer_from_schema(SCHEMA, f"row {i}")["team"] for i in range(40)]
    assert set(teams) == {"billing", "delivery"}
    assert teams != [answer_from_schema(SCHEMA, f"row {i}", seed=1)["team"] for i in range(40)]


@given(st.text(min_size=1, max_size=80))
def test_strings_are_words_of_the_text(text: str) -> None:
    value = answer_from_schema({"type": "object", "properties": {"quote": {"type": "string"}}}, text)["quote"]
    assert value in text if re.search(r"\w", text) else value == "word"


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"const": 3}, {3}),
        ({"type": ["integer", "null"], "minimum": 1, "maximum": 1}, {1, None}),
        ({"oneOf": [{"const": "a"}, {"const": "b"}]}, {"a", "b"}),
        ({"properties": {}}, {"{}"}),
        ({"items": {"const": 1}, "maxItems": 0}, {"[]"}),
        ({"type": "array"}, {"[]"}),
        ({"allOf": [{"type": "integer"}, {"minimum": 5, "maximum": 5}]}, {5}),
        ({"type": "integer", "exclusiveMinimum": 4, "exclusiveMaximum": 6}, {5}),
        ({"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 0.01}, {0.005}),
        (
            {"type": "string", "pattern": "(a|b)", "minLength": 4, "maxLength": 4},
            {"row ", "0 wo", "1 wo", "2 wo", "3 wo"},
        ),
        ({"type": "string", "format": "email", "maxLength": 3}, None),
    ],
)
def test_schema_keywords(schema: dict[str, Any], expected: set[Any] | None) -> None:
    made = [answer_from_schema(schema, f"row {i}") for i in range(4)]
    if expected is None:
        assert all(re.fullmatch(r"person\d+\.\d+\.\d+@example\.com", value) for value in made)
    else:
        assert {json.dumps(value) if isinstance(value, dict | list) else value for value in made} <= expected


def test_all_of_merges_properties() -> None:
    schema = {"allOf": [{"properties": {"a": {"const": 1}}}, {"properties": {"b": {"const": 2}}}]}
    assert answer_from_schema(schema, "") == {"a": 1, "b": 2}


def test_a_set_that_cannot_be_filled_stays_short() -> None:
    assert answer_from_schema({"type": "array", "uniqueItems": True, "minItems": 3, "items": {"const": 1}}, "") == [1]


ROW = {"id": {"type": "string"}, "anchor": {"type": "string"}, "team": {"enum": ["billing", "delivery"]}}
GROUP = {
    "type": "object",
    "properties": {"note": {"const": "n"}, "answers": {"type": "array", "items": {"$ref": "#/$defs/Row"}}},
    "$defs": {"Row": {"type": "object", "properties": ROW}},
}


def test_a_grouped_request_gets_one_answer_per_input_as_if_asked_alone() -> None:
    inputs = {"a1": "I was charged twice\nfor one single parcel", "b7": "Late", "c": ""}
    text = "\n\n".join(f'<input id="{id_}">\n{text}\n</input>' for id_, text in inputs.items())
    answer = answer_from_schema(GROUP, text)
    assert [row["id"] for row in answer["answers"]] == list(inputs)
    assert [row["anchor"] for row in answer["answers"]] == ["I was charged", "Late", ""]
    assert [row["team"] for row in answer["answers"]] == [
        answer_from_schema(SCHEMA, text)["team"] for text in inputs.values()
    ]
    assert answer["note"] == "n"


def test_input_blocks_without_a_grouped_schema_are_plain_text() -> None:
    assert answer_from_schema(SCHEMA, '<input id="a">\nx\n</input>')["team"] in {"billing", "delivery"}


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([], ""),
        ([{"role": "system", "content": "s"}], ""),
        ([user("a"), {"role": "assistant", "content": "b"}], "a"),
        ([user("a"), user("b")], "b"),
        ([user("a"), user("Return the correct JSON response within a ```json codeblock. not …")], "a"),
        ([{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url"}, "?"]}], "a\n"),
        ([{"role": "user", "content": None}], ""),
    ],
)
def test_last_user_text(messages: list[dict[str, Any]], expected: str) -> None:
    assert last_user_text({"messages": messages}) == expected


TOLD = 'Answer with JSON like {this} that fits {"a": 1} and\n' + json.dumps(SCHEMA, indent=2) + "\nand no {more"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"messages": [user("a")]}, None),
        ({"messages": [user(TOLD)]}, None),
        ({"messages": [user(TOLD)], "response_format": {"type": "json_object"}}, SCHEMA),
        ({"messages": [{"role": "system", "content": TOLD}, user("a {")]}, SCHEMA),
        ({"messages": [{"role": "developer", "content": "{" * 20_000}, user("a")]}, None),
        ({"tools": [{"type": "function", "function": {"name": "f", "parameters": SCHEMA}}]}, SCHEMA),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, {}),
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": SCHEMA}}}, SCHEMA),
    ],
)
def test_request_schema(body: dict[str, Any], expected: dict[str, Any] | None) -> None:
    assert request_schema(body) == expected


def test_answer_for_follows_the_schema_or_says_a_short_text() -> None:
    assert answer_for({"messages": [user("x" * 100)]}) == "answer: " + "x" * 60
    assert set(answer_for({"messages": [{"role": "system", "content": TOLD}, user("a")]})) == {"team"}


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("^[A-Z]{2}-[0-9]+$", "AA-0"),
        (r"\d{4}/\d{2}", "0000/00"),
        ("a?b*c+", "abc"),
        ("x{2,}y{1,3}", "xxy"),
        ("[^a-z]", "0"),
        (r"\.\w", ".a"),
        ("(a|b)", None),
        ("a|b", None),
        ("a$b", None),
        ("[", None),
        (r"[\x00]", None),
    ],
)
def test_text_for_pattern(pattern: str, expected: str | None) -> None:
    assert text_for_pattern(pattern) == expected


def test_text_for_pattern_grows_to_a_minimal_length() -> None:
    assert text_for_pattern("^a[0-9]{1,9}$", 5) == "a00000"
    assert text_for_pattern("^a+$", 5) == "aaaaa"
    assert text_for_pattern("^a{2,}$", 5) == "aaaaa"
    assert text_for_pattern("^ab$", 5) is None


def test_a_recursive_schema_ends() -> None:
    value = answer_from_schema(TypeAdapter(Tree).json_schema(), "deep", seed=3)
    assert len(json.dumps(value)) < 1_000_000
