"""Examples agree with the schema that is sent, even if a type serializes differently."""

from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal

import pytest
from pydantic import (
    AliasChoices,
    AliasPath,
    BaseModel,
    Field,
    Json,
    PlainSerializer,
    RootModel,
    SecretStr,
    WithJsonSchema,
    computed_field,
    field_serializer,
)
from pydantic.dataclasses import dataclass

from llmtasker import ConfigurationError, InputField, OutputField, Signature
from llmtasker.compiler.program import compile_program
from llmtasker.errors import SignatureError
from llmtasker.values.schema_check import contradiction
from llmtasker.wire.request import Settings


class Colour(Enum):
    RED = "red"


class Box(BaseModel):
    width: int
    height: int = Field(validation_alias="hauteur")
    secret: SecretStr = SecretStr("none")
    packed: dt.date | None = Field(default=None, exclude=True)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def area(self) -> int:
        return self.width * self.height

    @field_serializer("width")
    def in_words(self, width: int) -> str:
        return f"{width} cm"


class Boxes(RootModel[list[Box]]):
    pass


@dataclass
class Parcel:
    box: Box
    weight: Annotated[float, Field(alias="poids")] = 1.0


BOX: dict[str, Any] = {"width": 2, "hauteur": 3, "secret": "x", "packed": "2026-01-02"}
HALVED = Annotated[int, PlainSerializer(lambda value: f"half of {2 * value}")]


def shown(annotation: Any, value: Any, **options: Any) -> Any:
    signature = Signature.make("Pack", instructions="Pack.", outputs={"value": (annotation, OutputField(**options))})
    program = compile_program(signature, examples=[signature(text="a", value=value)])
    return json.loads(program.layout.examples[0].answer)


@pytest.mark.parametrize(
    ("annotation", "value", "answer"),
    [
        (Box, BOX, BOX),
        (list[Box], [BOX], [BOX]),
        (dict[str, Box], {"a": BOX}, {"a": BOX}),
        (Boxes, [BOX], [BOX]),
        (Parcel, {"box": BOX, "poids": 2.5}, {"box": BOX, "poids": 2.5}),
        (Box | None, None, None),
        (SecretStr, "hidden", "hidden"),
        (HALVED, 4, 4),
        (tuple[Colour, HALVED], (Colour.RED, 1), ["red", 1]),
        (set[str], {"b", "a", "c"}, ["a", "b", "c"]),
        (dt.datetime, dt.datetime(2026, 1, 2, 3, 4, tzinfo=dt.UTC), "2026-01-02T03:04:00Z"),
        (Decimal, Decimal("1.50"), "1.50"),
        (dict[Colour, int], {Colour.RED: 1}, {"red": 1}),
        (Any, {"free": [1, None]}, {"free": [1, None]}),
        (Json[list[int]], "[1, 2]", "[1,2]"),
    ],
    ids=str,
)
def test_an_example_has_the_form_that_is_read(annotation: Any, value: Any, answer: Any) -> None:
    assert shown(annotation, value) == {"value": answer}


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"validation_alias": "Wert"}, "Wert"),
        ({"validation_alias": AliasChoices("Wert", "W"), "serialization_alias": "S"}, "Wert"),
        ({"serialization_alias": "S"}, "value"),
        ({"alias": "Wert"}, "Wert"),
    ],
)
def test_the_name_is_that_of_the_schema(options: Any, name: str) -> None:
    signature = Signature.make("Pack", instructions="Pack.", outputs={"value": (int, OutputField(**options))})
    program = compile_program(signature, examples=[{"text": "a", wire_or_name(options): 3}])
    assert json.loads(program.layout.examples[0].answer) == {name: 3}
    assert list(program.model.model_json_schema()["properties"]) == [name]


def wire_or_name(options: Any) -> str:
    return "Wert" if "alias" in options or "validation_alias" in options else "value"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_an_example_that_is_not_json_is_refused(value: float) -> None:
    with pytest.raises(ConfigurationError, match="example 1 can't be written as JSON"):
        shown(list[float], [value])


@pytest.mark.parametrize("alias", [AliasPath("a", "b"), AliasChoices(AliasPath("a", 0), "b")])
def test_an_output_that_is_read_from_another_place_than_the_schema_names_is_refused(alias: Any) -> None:
    with pytest.raises(SignatureError, match=r"Pack\.value: an AliasPath leads into an object"):
        shown(int, 3, validation_alias=alias)


@pytest.mark.parametrize(
    ("annotation", "options", "value", "words"),
    [
        (Annotated[str, WithJsonSchema({"enum": ["a", "b"]})], {}, "c", "'c' is not one of"),
        (int, {"json_schema_extra": {"enum": [1, 2]}}, 3, "3 is not one of"),
        (Annotated[str, WithJsonSchema({"type": "integer"})], {}, "c", "'c' is not of the type integer"),
    ],
)
def test_an_example_that_contradicts_the_schema_is_refused(
    annotation: Any, options: Any, value: Any, words: str
) -> None:
    with pytest.raises(ConfigurationError, match=f"example 1 contradicts the schema that the LLM sees: value: {words}"):
        shown(annotation, value, **options)


def test_a_secret_input_is_sent() -> None:
    class Login(BaseModel):
        name: str
        code: SecretStr

    class Check(Signature):
        """Check the login."""

        code: SecretStr = InputField()
        login: Login = InputField()
        all_codes: dict[str, SecretStr] = InputField()
        fine: bool = OutputField()

    given = {"code": "s1", "login": {"name": "Ann", "code": "s2"}, "all_codes": {"a": "s3"}}
    program = compile_program(Check)
    request = program.render(program.validate(given), Settings(endpoint="test"))
    content = request.messages[-1]["content"]
    assert "*" not in content
    assert content.split() == [
        "<code>", "s1", "</code>", "<login>", '{"name":"Ann","code":"s2"}', "</login>",
        "<all_codes>", '{"a":"s3"}', "</all_codes>",
    ]  # fmt: skip
    assert "s1" not in repr(program.validate(given).values["code"])


SCHEMA: dict[str, Any] = {
    "$defs": {"Item": {"properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": False}},
    "properties": {
        "items": {"type": "array", "items": {"$ref": "#/$defs/Item"}},
        "kind": {"anyOf": [{"const": "a"}, {"type": "null"}]},
        "free": {"type": "object", "additionalProperties": {"type": "number"}},
    },
    "required": ["items"],
}


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ({"items": []}, None),
        ({"items": [{"n": 1}], "kind": "a", "free": {"x": 1, "y": 0.5}}, None),
        ({"items": [], "kind": None}, None),
        ({}, "items: it is missing"),
        ({"items": [{"n": 1}, {"n": "1"}]}, "items.1.n: '1' is not of the type integer"),
        ({"items": [{"n": 1, "m": 2}]}, "items.0.m: there is no such field"),
        ({"items": [{}]}, "items.0.n: it is missing"),
        ({"items": [], "kind": "b"}, "kind: 'b' is not one of ['a']"),
        ({"items": [], "free": {"x": True}}, "free.x: True is not of the type number"),
        ({"items": [], "more": 1}, "more: there is no such field"),
        ([], "the answer: [] is not of the type object"),
    ],
)
def test_where_a_value_contradicts_a_schema(value: Any, found: str | None) -> None:
    assert contradiction(value, SCHEMA, SCHEMA) == found


def test_a_boolean_is_not_the_number_that_it_equals() -> None:
    schema = {"enum": [1, 0]}
    assert contradiction(True, schema, schema) == "the answer: True is not one of [1, 0]"
    assert contradiction(1, schema, schema) is None


def test_labels_that_are_numbers_stay_numbers() -> None:
    assert shown(Literal[1, 2], 2) == {"value": 2}
