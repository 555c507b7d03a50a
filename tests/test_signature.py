"""A task declared as a record type: its halves, its validators, its errors."""

from __future__ import annotations

import datetime as dt
import math
import sys
import types
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from typing import Annotated, Any, Literal, Self

import pytest
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from llmtasker import InputField, OutputField, Signature
from llmtasker.errors import InputError, SignatureError
from llmtasker.signature.fields import label_descriptions, wire_name
from llmtasker.signature.signature import as_text, describe
from llmtasker.signature.typed_cells import text_cells


class Triage(Signature):
    """Route a customer message
    to the team that can solve it.
    """

    message: str = InputField(description="what the customer wrote", max_length=60)
    channel: Literal["mail", "phone"] = InputField("mail")
    quote: str = OutputField(description="the words that decide it")
    team: Literal["billing", "delivery"] = OutputField(labels={"billing": "money", "delivery": "parcels"})

    @field_validator("message")
    @classmethod
    def not_blank(cls, message: str) -> str:
        if not message.strip():
            raise ValueError("write something")
        return message

    @model_validator(mode="after")
    def quote_is_verbatim(self) -> Self:
        if self.quote not in self.message:
            raise ValueError("quote must be copied from the message")
        return self


RECORD = {"message": "charged twice", "quote": "twice", "team": "billing"}


# ── a record ──


def test_a_record_has_inputs_and_outputs_in_order_and_defaults():
    record = Triage(**RECORD)
    assert record.inputs() == {"message": "charged twice", "channel": "mail"}
    assert record.outputs() == {"quote": "twice", "team": "billing"}
    assert list(Triage.input_fields) == ["message", "channel"]
    assert list(Triage.output_fields) == ["quote", "team"]
    assert list(Triage.model_fields) == ["message", "channel", "quote", "team"]


def test_the_docstring_without_its_indentation_is_the_instructions():
    assert Triage.instructions == "Route a customer message\nto the team that can solve it."


def test_what_labels_mean_is_kept():
    assert label_descriptions(Triage.output_fields["team"]) == {"billing": "money", "delivery": "parcels"}
    assert label_descriptions(Triage.output_fields["quote"]) == {}
    assert label_descriptions(Triage.model_fields["message"]) == {}


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"quote": "thrice"}, "quote must be copied"),
        ({"team": "sales"}, "'billing' or 'delivery'"),
        ({"message": "  ", "quote": ""}, "write something"),
        ({"message": "x" * 61, "quote": ""}, "at most 60"),
    ],
)
def test_a_wrong_record_cannot_be_made(changed, words):
    with pytest.raises(ValidationError, match=words):
        Triage(**{**RECORD, **changed})


def test_an_incomplete_record_cannot_be_made():
    with pytest.raises(ValidationError, match="team"):
        Triage(message="a", quote="a")


def test_the_halves_are_models_of_one_side():
    assert Triage.input_model(message="a").model_dump() == {"message": "a", "channel": "mail"}
    assert list(Triage.output_model.model_fields) == ["quote", "team"]
    schema = Triage.output_model.model_json_schema()
    assert schema["properties"]["quote"]["description"] == "the words that decide it"
    assert schema["required"] == ["quote", "team"]
    with pytest.raises(ValidationError, match="write something"):
        Triage.input_model(message=" ")


def test_every_kind_of_type_makes_a_field():
    class Place(BaseModel):
        city: str
        inside: Place | None = None

    class Level(IntEnum):
        LOW = 1
        HIGH = 2

    class Report(Signature):
        """Extract the report."""

        text: str = InputField()
        places: list[Place] = OutputField(min_length=1)
        level: Level = OutputField()
        when: dt.date | None = OutputField(None)
        shares: dict[str, float] = OutputField(default_factory=dict)
        pair: tuple[int, str] = OutputField((0, ""))
        score: float = OutputField(ge=0, le=1)
        code: Annotated[str, Field(pattern=r"^[A-Z]{2}$")] = OutputField()
        kind: Annotated[str, OutputField(description="annotated only")]

    record = Report(
        text="…", places=[{"city": "Lyon", "inside": {"city": "Bron"}}], level=2, score=0.5, code="FR", kind="x"
    )
    assert record.level is Level.HIGH
    assert record.places[0].inside.city == "Bron"
    assert record.outputs()["when"] is None
    assert set(Report.output_fields) == set(Report.output_model.model_fields)
    for wrong in ({"places": []}, {"level": 3}, {"score": 1.5}, {"code": "fr"}):
        with pytest.raises(ValidationError, match=next(iter(wrong))):
            Report.model_validate({**record.model_dump(), **wrong})


def test_types_that_stand_beside_a_signature_in_a_function_are_found():
    # The annotations of this file are texts: Pydantic must look up the names where the class is defined.
    class Team(Enum):
        BILLING = "billing"

    class Local(Signature):
        """Route."""

        text: str = InputField()
        team: Team = OutputField()

    assert Local(text="a", team="billing").team is Team.BILLING
    assert Local.output_model(team="billing").team is Team.BILLING


def test_a_type_may_be_declared_after_the_signature():
    module = types.ModuleType("declared_later")
    sys.modules[module.__name__] = module
    source = """
from __future__ import annotations
from llmtasker import InputField, OutputField, Signature
from llmtasker.compiler.program import compile_program
from pydantic import BaseModel

class Sort(Signature):
    "Sort."
    text: str = InputField()
    place: Place = OutputField()

class Place(BaseModel):
    city: str
"""
    try:
        exec(source, module.__dict__)  # noqa: S102 - a module of its own is the subject
        record = module.Sort(text="a", place={"city": "Lyon"})
        assert record.outputs() == {"place": module.Place(city="Lyon")}
        program = module.compile_program(module.Sort)
        properties = program.head("tools").schema["tools"][0]["function"]["parameters"]["$defs"]["Place"]["properties"]
        assert properties == {"city": {"type": "string"}}
    finally:
        del sys.modules[module.__name__]


# ── signatures derived from another ──


def test_with_instructions_gives_the_same_task_in_other_words():
    french = Triage.with_instructions("Oriente le message.")
    assert french.instructions == "Oriente le message."
    assert issubclass(french, Triage)
    assert french(**RECORD).outputs() == Triage(**RECORD).outputs()
    with pytest.raises(ValidationError, match="quote must be copied"):
        french(**{**RECORD, "quote": "no"})
    assert Triage.instructions.startswith("Route")


def test_with_fields_adds_fields_and_declares_them_again():
    wider = Triage.with_fields(
        team=(Literal["billing", "delivery", "sales"], OutputField()), urgent=(bool, OutputField(False))
    )
    assert wider(**{**RECORD, "team": "sales"}).outputs() == {"quote": "twice", "team": "sales", "urgent": False}
    assert list(wider.output_fields) == ["quote", "team", "urgent"]
    assert label_descriptions(wider.output_fields["team"]) == {}
    assert wider.instructions == Triage.instructions
    assert list(Triage.output_fields) == ["quote", "team"]


def test_a_field_can_change_sides():
    turned = Triage.with_fields(channel=(str, OutputField()))
    assert list(turned.input_fields) == ["message"]
    assert list(turned.output_fields) == ["channel", "quote", "team"]


def test_make_takes_names_and_types():
    made = Signature.make(
        "Sort",
        instructions="Sort.",
        inputs={"title": str, "body": (str, InputField(""))},
        outputs={"label": Literal["a", "b"], "score": (float, OutputField(ge=0))},
    )
    assert made(title="t", label="a", score=1).outputs() == {"label": "a", "score": 1.0}
    assert list(made.input_fields) == ["title", "body"]
    with pytest.raises(ValidationError, match="score"):
        made(title="t", label="a", score=-1)


def test_make_has_one_text_as_input_if_nothing_else_is_given():
    assert list(Signature.make("Sort", instructions="Sort.", outputs={"label": str}).input_fields) == ["text"]


def test_a_subclass_inherits_fields_validators_and_instructions():
    class Urgent(Triage):
        urgent: bool = OutputField()

    assert Urgent.instructions == Triage.instructions
    assert list(Urgent.output_fields) == ["quote", "team", "urgent"]
    with pytest.raises(ValidationError, match="quote must be copied"):
        Urgent(**{**RECORD, "quote": "no"}, urgent=True)


def test_a_subclass_has_its_own_docstring_or_class_argument():
    class Documented(Triage):
        """Other words."""

    class Argued(Triage, instructions="  Words of an argument.\n"):
        """A docstring for readers of the code."""

    assert Documented.instructions == "Other words."
    assert Argued.instructions == "Words of an argument."


def test_an_abstract_base_need_not_be_a_whole_task():
    class FromMail(Signature, abstract=True):
        mail: str = InputField()

    class Summary(FromMail):
        """Summarise."""

        summary: str = OutputField()

    assert Summary(mail="a", summary="b").inputs() == {"mail": "a"}


# ── what is refused ──


def unmarked():
    class Wrong(Signature):
        """Do."""

        text: str = InputField()
        label: str


def marked_by_pydantic():
    class Wrong(Signature):
        """Do."""

        text: str = InputField()
        label: str = Field()


def no_output():
    class Wrong(Signature):
        """Do."""

        text: str = InputField()


def no_input():
    class Wrong(Signature):
        """Do."""

        label: str = OutputField()


def no_instructions():
    class Wrong(Signature):
        text: str = InputField()
        label: str = OutputField()


def blank_instructions():
    class Wrong(Signature, instructions=" \n"):
        """Do."""

        text: str = InputField()
        label: str = OutputField()


def named(name):
    return lambda: Signature.make("Wrong", instructions="Do.", outputs={name: str})


def hides_a_method():
    class Wrong(Signature):
        """Do."""

        text: str = InputField()
        json: str = OutputField()


def hides_instructions():
    class Wrong(Signature):
        """Do."""

        instructions: str = InputField()
        label: str = OutputField()


@pytest.mark.parametrize(
    ("declare", "words"),
    [
        (unmarked, r"Wrong\.label is neither input nor output: write label: … = InputField\(\)"),
        (marked_by_pydantic, "neither input nor output"),
        (no_output, "no output field"),
        (no_input, "no input field"),
        (no_instructions, "no instructions"),
        (blank_instructions, "no instructions"),
        (named("classes"), "'classes' has a special meaning"),
        (named("examples"), "choose another, such as examples_text"),
        (named("model_dump"), "special meaning"),
        (named("_hidden"), "can't begin with an underscore"),
        (hides_a_method, "'json' has a special meaning"),
        (hides_instructions, "'instructions' has a special meaning"),
        (lambda: Triage.with_fields(team=Literal["a"]), r"Triage\.team: give \(type, InputField"),
        (lambda: Triage.with_fields(more=(str, Field())), "more is neither input nor output"),
        (lambda: Triage.with_instructions(""), "no instructions"),
    ],
)
def test_a_wrong_declaration_is_refused_at_once(declare, words):
    with pytest.raises(SignatureError, match=words):
        declare()


# ── inputs ──


class One(Signature):
    """Do."""

    text: str = InputField()
    label: str = OutputField()


class Exactly(Signature):
    """Do."""

    model_config = ConfigDict(strict=True)
    text: str = InputField()
    label: str = OutputField()


class Record(Signature):
    """Do."""

    row: dict[str, int] = InputField()
    label: str = OutputField()


class Letter(Signature):
    """Do."""

    subject: str = InputField()
    body: str = InputField()
    label: str = OutputField()


class Described(Record):
    note: str | None = InputField(default=None)


class Blank(Signature):
    """Do."""

    text: str = InputField(min_length=0)
    body: str | None = InputField(default=None)
    label: str = OutputField()


class Plain:
    """Says nothing of itself."""

    def __repr__(self) -> str:
        raise RuntimeError("no words")

    def __contains__(self, item: object) -> bool:
        raise RuntimeError("no items")


@pytest.mark.parametrize(
    ("signature", "given", "values"),
    [
        (Triage, {"message": "a"}, {"message": "a", "channel": "mail"}),
        (Triage, {"message": "a", "quote": 7, "id": 1}, {"message": "a", "channel": "mail"}),
        (Triage, "a", {"message": "a", "channel": "mail"}),
        (Described, {"a": 1}, {"row": {"a": 1}, "note": None}),
        (Described, {"row": {"a": 1}, "note": "n"}, {"row": {"a": 1}, "note": "n"}),
        (Described, {"row": {"a": 1}, "note": ""}, {"row": {"a": 1}, "note": ""}),
        (Blank, "", {"text": "", "body": None}),
        (Blank, {"text": " ", "body": " "}, {"text": " ", "body": " "}),
        (Triage, Triage(**RECORD), {"message": "charged twice", "channel": "mail"}),
        (Triage, Triage.input_model(message="a", channel="phone"), {"message": "a", "channel": "phone"}),
        (One, "a", {"text": "a"}),
        (One, {"text": "a", "label": "kept out"}, {"text": "a"}),
        (One, "{text}", {"text": "{text}"}),
        (One, One(text="a", label="b"), {"text": "a"}),
        (Record, {"a": 1}, {"row": {"a": 1}}),
        (Record, {"row": {"a": 1}}, {"row": {"a": 1}}),
    ],
)
def test_an_input_is_given_in_several_ways(signature, given, values):
    assert signature.validate_input(given).values == values


@pytest.mark.parametrize(
    ("signature", "given", "words"),
    [
        (Triage, {}, "message: Field required"),
        (Triage, {"message": " "}, "message: write something (got ' ')"),
        (Triage, {"message": "a", "channel": "fax"}, "channel: Input should be 'mail' or 'phone' (got 'fax')"),
        (Letter, "a", "Letter has 2 input fields (subject, body); got one str"),
        (Letter, None, "got one NoneType"),
        (Triage, None, "message: Input should be a valid string (got None)"),
        (One, "", "text: the text is empty, and the task needs one"),
        (One, {"text": " \n"}, "text: the text is empty"),
        (Letter, {"subject": "", "body": "b"}, "subject: the text is empty"),
        (Letter, {"subject": "a", "body": None}, "body: Input should be a valid string"),
        (One, None, "text: Input should be a valid string (got None)"),
        (One, math.nan, "(got nan)"),
        (One, {"txt": "a"}, "has no 'text'; it has txt"),
        (One, Plain(), "(got a Plain)"),
        (One, One.model_construct(label="a"), "text: Field required"),
        (Record, {"a": "b"}, "row.a: Input should be a valid integer"),
    ],
)
def test_an_input_that_does_not_fit_says_why(signature, given, words):
    with pytest.raises(InputError) as caught:
        signature.validate_input(given)
    assert words in str(caught.value)


def test_a_validator_or_an_input_may_raise_anything():
    class Odd(Signature):
        """Do."""

        text: str = InputField()
        label: str = OutputField()

        @field_validator("text")
        @classmethod
        def breaks(cls, text: str) -> str:
            raise KeyError(text)

    with pytest.raises(InputError, match="could not be read: KeyError: 'a'"):
        Odd.validate_input("a")

    class Wicked(dict[str, Any]):
        def __contains__(self, key: object) -> bool:
            raise RuntimeError("no keys")

    with pytest.raises(InputError, match="RuntimeError: no keys"):
        One.validate_input(Wicked())


def test_validators_run_on_what_was_given():
    class Halved(Signature):
        """Do."""

        model_config = ConfigDict(str_strip_whitespace=True)
        amount: float = InputField()
        text: str = InputField(alias="Text")
        label: str = OutputField()

        @field_validator("amount")
        @classmethod
        def halve(cls, amount: float) -> float:
            return amount / 2

    inputs = Halved.validate_input({"amount": "8", "Text": " a "})
    assert inputs.values == {"amount": 4.0, "text": "a"}
    # Otherwise the record would have a value that was halved twice.
    assert inputs.given == {"amount": "8", "Text": " a "}
    assert Halved(**inputs.given, label="x").inputs() == inputs.values


def test_input_validators_of_all_fields_and_modes_run_on_the_input_half():
    class Folded(Signature):
        """Do."""

        first: str = InputField()
        second: str = InputField()
        label: str = OutputField()

        @field_validator("*", mode="before")
        @classmethod
        def lower(cls, value: Any) -> Any:
            return value.lower()

        @field_validator("second", "label")
        @classmethod
        def differs(cls, value: str, info: Any) -> str:
            if value == info.data["first"]:
                raise ValueError("same as first")
            return value

    assert Folded.validate_input({"first": "A", "second": "B"}).values == {"first": "a", "second": "b"}
    with pytest.raises(InputError, match="second: same as first"):
        Folded.validate_input({"first": "A", "second": "a"})
    with pytest.raises(ValidationError, match="same as first"):
        Folded(first="a", second="b", label="A")


@pytest.mark.parametrize(
    ("options", "wire"),
    [
        ({}, "text"),
        ({"alias": "Text"}, "Text"),
        ({"validation_alias": "Text"}, "Text"),
        ({"validation_alias": AliasChoices("Text", "body")}, "Text"),
    ],
)
def test_an_alias_is_the_name_on_the_wire(options, wire):
    made = Signature.make(
        "Sort", instructions="Sort.", inputs={"text": (str, InputField(**options))}, outputs={"a": str}
    )
    assert wire_name("text", made.input_fields["text"]) == wire
    assert made.validate_input({wire: "x"}).values == made.validate_input({"text": "x"}).values == {"text": "x"}


# ── words ──


class Colour(StrEnum):
    RED = "red"


class Size(Enum):
    BIG = "big"
    NUMBER = 7


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("{a} <b>\n", "{a} <b>\n"),
        (Colour.RED, "red"),
        (Size.BIG, "big"),
        (Size.NUMBER, "7"),
        (3, "3"),
        (None, "null"),
        (dt.date(2026, 1, 2), "2026-01-02"),
        (["é", 1], '["é",1]'),
        ({"a": Size.BIG}, '{"a":"big"}'),
        (One(text="a", label="b"), '{"text":"a","label":"b"}'),
    ],
)
def test_text_is_shown_as_it_is_and_the_rest_as_json(value, text):
    assert as_text(value) == text


def test_one_input_is_shown_bare_and_several_under_their_names():
    assert One.format_input({"text": "</text> {text}"}) == "</text> {text}"
    assert One.format_input({}) == ""
    assert Triage.format_input({"message": "a\nb", "n": 1}) == "<message>\na\nb\n</message>\n<n>\n1\n</n>"


@pytest.mark.parametrize(
    ("signature", "given", "shown"),
    [
        (Blank, {"text": "a"}, "a"),
        (Blank, {"text": "a", "body": None}, "a"),
        (Blank, {"text": "a", "body": "b"}, "<text>\na\n</text>\n<body>\nb\n</body>"),
        (Triage, {"message": "a"}, "<message>\na\n</message>\n<channel>\nmail\n</channel>"),
        (
            Letter.with_fields(body=(str | None, InputField())),
            {"subject": "a", "body": None},
            "<subject>\na\n</subject>\n<body>\nnull\n</body>",
        ),
        (Blank.with_fields(text=(str | None, InputField(None))), {"body": "b"}, "<body>\nb\n</body>"),
    ],
)
def test_an_optional_input_that_is_not_given_is_left_out(signature, given, shown):
    assert signature.format_input(signature.validate_input(given).values) == shown


def test_an_optional_input_that_is_in_the_instructions_is_empty_where_it_is_not_given():
    assert Blank.format_input({"body": None}) == ""


@pytest.mark.parametrize(
    ("shown", "answer", "expected"),
    [
        ("a", '{"label":"b"}', 'a\n{"label":"b"}\n'),
        ("a\nb", '{"label":"b"}', '<example>\na\nb\n{"label":"b"}\n</example>'),
        ("a", "b", "<example>\n<input>\na\n</input>\n<output>\nb\n</output>\n</example>"),
    ],
)
def test_an_example_has_tags_only_where_they_are_needed(shown, answer, expected):
    assert One.format_example(shown, answer) == expected


def test_a_misfit_is_described_shortly_and_without_the_whole_record():
    class Many(BaseModel):
        numbers: list[int]
        text: str

    with pytest.raises(ValidationError) as caught:
        Many.model_validate({"numbers": ["x"] * 7, "text": ["long " * 100]})
    said = describe(caught.value)
    assert said.startswith(
        "numbers.0: Input should be a valid integer, unable to parse string as an integer (got 'x');"
    )
    assert said.endswith("; and 3 more")
    with pytest.raises(ValidationError) as caught:
        Triage(**{**RECORD, "quote": "no"})
    assert describe(caught.value) == "quote must be copied from the message"
    with pytest.raises(ValidationError) as caught:
        One(text="x" * 5000, label=["y" * 5000])
    assert len(describe(caught.value)) < 200


@pytest.mark.parametrize(
    ("kind", "constraint"),
    [
        (str, {"ge": 1}),
        (str | None, {"lt": 3}),
        (list[int], {"ge": 1}),
        (str, {"multiple_of": 3}),
        (str, {"max_digits": 3}),
        (int, {"min_length": 2}),
        (int | float, {"max_length": 2}),
        (dt.date, {"pattern": "2026"}),
    ],
)
@pytest.mark.parametrize("field", [InputField, OutputField])
def test_a_constraint_that_a_type_cannot_have_is_an_error_at_the_declaration(
    field: Any, kind: Any, constraint: dict[str, Any]
) -> None:
    with pytest.raises(SignatureError, match=f"Wrong.value: {next(iter(constraint))}="):
        Signature.make(
            "Wrong",
            instructions="Count.",
            inputs={"text": str, **({"value": (kind, field(**constraint))} if field is InputField else {})},
            outputs={"n": int, **({"value": (kind, field(**constraint))} if field is OutputField else {})},
        )


@pytest.mark.parametrize(
    ("kind", "constraint"),
    [
        (int | None, {"ge": 1}),
        (int | str, {"ge": 1}),
        (dt.date, {"ge": dt.date(2020, 1, 1)}),
        (str, {"ge": "a"}),
        (list[str], {"min_length": 1}),
        (str, {"pattern": "a", "max_length": 3}),
        (Any, {"ge": 1}),
    ],
)
def test_a_constraint_that_a_type_can_have_is_accepted(kind: Any, constraint: dict[str, Any]) -> None:
    made = Signature.make("Right", instructions="Count.", outputs={"value": (kind, OutputField(**constraint))})
    assert list(made.output_fields) == ["value"]


@pytest.mark.parametrize(
    ("signature", "cells", "texts"),
    [
        (One, {"text": 75011}, {"text": "75011"}),
        (One, {"text": 75011.0}, {"text": "75011"}),
        (One, {"text": 3.5}, {"text": "3.5"}),
        (One, {"text": -(2**70)}, {"text": str(-(2**70))}),
        (One, {"text": 1e300}, {"text": "1e+300"}),
        (One, {"text": Decimal("1.50")}, {"text": "1.50"}),
        (One, {"text": Decimal("1E+3")}, {"text": "1000"}),
        (One, {"text": dt.date(2026, 3, 1)}, {"text": "2026-03-01"}),
        (One, {"text": dt.datetime(2026, 3, 1, 8)}, {"text": "2026-03-01T08:00:00"}),
        (Letter, {"subject": 1, "body": 2.0}, {"subject": "1", "body": "2"}),
        *((One, {"text": cell}, {"text": cell}) for cell in ("a", True, math.inf, Decimal("Infinity"), ["a", 1], None)),
        (Exactly, {"text": 7}, {"text": 7}),
        (One, {"txt": 7}, {"txt": 7}),
    ],
)
def test_numbers_and_dates_in_files_are_texts_where_the_task_takes_texts(signature, cells, texts):
    assert repr(text_cells(signature, cells)) == repr(texts)
