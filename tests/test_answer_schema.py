from __future__ import annotations

from enum import Enum
from typing import Any, Literal

import pytest
from pydantic import BaseModel

from llmtasker.parser.answer_schema import AnswerSchema
from llmtasker.parser.coerce import coerce


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Line(BaseModel):
    item: str
    price: float


class Order(BaseModel):
    colour: Colour
    lines: list[Line] = []
    note: str | None = None
    urgent: bool = False


class Tags(BaseModel):
    tags: list[Literal["chat", "chien"]]


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int


class Dog(BaseModel):
    kind: Literal["dog"]
    legs: int


class Owner(BaseModel):
    pet: Cat | Dog
    size: Literal["S", "M"] | Literal[1, 2] | None = None


ONE = {"item": "a", "price": 5}


def schema(model: type[BaseModel]) -> AnswerSchema:
    return AnswerSchema(model.model_json_schema())


@pytest.mark.parametrize(
    ("model", "value", "coerced"),
    [
        (Order, {"colour": "Red."}, {"colour": "red"}),
        (Order, {"Colour": "BLUE"}, {"colour": "blue"}),
        (Order, {"colour": "red", "lines": ONE}, {"colour": "red", "lines": [ONE]}),
        (Order, {"colour": "red", "lines": [{"Item": "a", "PRICE ": "$ 5"}]}, {"colour": "red", "lines": [ONE]}),
        (Order, {"colour": "red", "lines": '[{"item": "a", "price": 5}]'}, {"colour": "red", "lines": [ONE]}),
        (Order, {"colour": "red", "lines": '{"item": "a", "price": 5}'}, {"colour": "red", "lines": [ONE]}),
        (Line, {"item": 12, "price": 5}, {"item": "12", "price": 5}),
        (Order, {"colour": "red", "urgent": "True."}, {"colour": "red", "urgent": True}),
        (Tags, {"tags": "Chat, chien"}, {"tags": ["chat", "chien"]}),
        (Tags, {"tags": ["CHAT"]}, {"tags": ["chat"]}),
        (Owner, {"pet": {"Kind": "CAT", "lives": 9}}, {"pet": {"kind": "cat", "lives": 9}}),
        (Owner, {"pet": {"kind": "dog", "legs": 4}, "size": "s"}, {"pet": {"kind": "dog", "legs": 4}, "size": "S"}),
        (Owner, {"pet": {"kind": "dog", "legs": 4}, "size": "2"}, {"pet": {"kind": "dog", "legs": 4}, "size": 2}),
    ],
)  # fmt: skip
def test_values_are_coerced_towards_the_type(model: type[BaseModel], value: Any, coerced: Any) -> None:
    got, notes = coerce(value, schema(model))
    assert got == coerced
    assert notes


@pytest.mark.parametrize(
    ("model", "value"),
    [
        (Order, {"colour": "red", "note": "Blue."}),
        (Order, {"colour": "green"}),
        (Order, {"colour": None}),
        (Order, {"colour": 3}),
        (Order, {"colour": "red", "lines": "a: 5"}),
        (Order, {"colour": "red", "lines": "[not JSON"}),
        (Line, {"item": 1.5, "price": 5}),
        (Line, {"item": True, "price": 5}),
        (Tags, {"tags": "chat et souris"}),
        (Tags, {"tags": {"chat": 1}}),
        (Owner, {"pet": {"lives": 9, "legs": 4}}),
        (Owner, {"pet": "cat"}),
        (Order, "red"),
    ],
)
def test_what_is_not_clear_stays(model: type[BaseModel], value: Any) -> None:
    assert coerce(value, schema(model)) == (value, [])


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("€ 5", 5),
        ("1 234", 1234),
        ("1 234.5 €", 1234.5),
        ("1,234,567", 1234567),
        ("1,234.50", 1234.5),
        ("−12", -12),
        ("1.234,50", 1234.5),
        ("-1.234.567,5", -1234567.5),
        ("1,234", "1,234"),
        ("1,5", 1.5),
        ("1 234,5", 1234.5),
        ("1\u202f234,567", 1234.567),
        ("12,50", 12.5),
        ("12,5 €", 12.5),
        ("12,50 euros", 12.5),
        ("0,125", 0.125),
        ("-1234,567", -1234.567),
        ("1,234 €", "1,234 €"),
        ("12,50,3", "12,50,3"),
        ("12 %", "12 %"),
        ("3 or 4", "3 or 4"),
        ("12", "12"),
        ("five", "five"),
    ],
)
def test_numbers_as_people_write_them(text: str, number: Any) -> None:
    got, notes = coerce(text, AnswerSchema({"type": "number"}))
    assert got == number
    assert bool(notes) == (number != text)


def test_fields_that_a_bare_answer_can_fill() -> None:
    assert schema(Tags).label_field == "tags"
    assert schema(Tags).only_field == "tags"
    assert schema(Order).label_field is None  # two label fields
    assert schema(Owner).label_field is None  # another field is required
    assert AnswerSchema({"type": "object", "properties": {"a": {"type": "string"}}}).only_field == "a"
    assert AnswerSchema({"enum": ["a"]}).label_field is None


@pytest.mark.parametrize(
    ("model", "value", "loosely", "exactly"),
    [
        (Order, {"colour": "red"}, True, True),
        (Order, {"colour": "red", "Note": ""}, True, False),
        (Order, {"x": 1}, False, False),
        (Order, {}, False, True),
        (Order, [], False, False),
        (Order, {"colour": 1, "lines": 1, "note": 1, "urgent": 1, "more": 1}, True, False),
    ],
)
def test_what_is_an_answer_at_all(model: type[BaseModel], value: Any, loosely: bool, exactly: bool) -> None:
    assert schema(model).is_answer(value) is loosely
    assert schema(model).is_plain(value) is exactly


def test_shapes_without_properties() -> None:
    anything = AnswerSchema({})
    assert anything.is_answer([1])
    assert not anything.is_answer("text")
    assert AnswerSchema({"type": "object"}).is_answer({"x": 1})
    assert AnswerSchema({"type": "object"}).is_plain({"x": 1})
    assert AnswerSchema({"type": "array"}).is_answer([])
    assert AnswerSchema({"type": ["object", "array"]}).is_answer([])
    assert AnswerSchema({"type": ["string", "null"]}).is_text
    assert not AnswerSchema({"enum": ["a"]}).is_text


def test_mention_of_a_key() -> None:
    assert schema(Order).mentions_key('{"colour": ')
    assert not schema(Order).mentions_key('{"color": "colour"')


@pytest.mark.parametrize(
    ("model", "value", "brackets", "complete"),
    [
        (Tags, {"tags": ["chat"]}, "}", True),
        (Tags, {"tags": ["chat"]}, "]}", False),
        (Order, {"colour": "red"}, "}", False),
        (Order, {"colour": "red", "lines": [], "urgent": True, "note": ""}, "}", True),
        (Order, {"colour": "red", "urgent": True, "note": "", "lines": [{"item": "a", "price": 1}]}, "}]}", False),
        (Cat, ["x"], "}", False),
    ],
)
def test_nothing_can_follow(model: type[BaseModel], value: Any, brackets: str, complete: bool) -> None:
    assert schema(model).nothing_can_follow(value, brackets) is complete


def test_more_can_follow_where_more_keys_are_allowed() -> None:
    schema = {"type": "object", "properties": {"a": {}}, "additionalProperties": {"type": "string"}}
    assert not AnswerSchema(schema).nothing_can_follow({"a": 1}, "}")


def test_references() -> None:
    schema = {
        "$defs": {
            "a/b": {"type": "object", "properties": {"x": {"$ref": "#/$defs/loop"}}},
            "loop": {"$ref": "#/$defs/loop"},
        },
        "allOf": [{"$ref": "#/$defs/a~1b"}],
    }
    found = AnswerSchema(schema)
    assert found.kind == "object"
    assert found.resolve(found.properties["x"]) == {}
    assert found.resolve({"$ref": "#/$defs/missing"}) == {}
    assert found.resolve(True) == {}


def test_expectation_names_the_fields() -> None:
    assert "tags" in schema(Tags).expectation
    assert "array" in AnswerSchema({"type": "array"}).expectation
    assert "JSON" in AnswerSchema({}).expectation
