"""Keys and scalars at every depth: one table for each kind, and one answer through a task."""

from __future__ import annotations

import datetime as dt
import enum
import ipaddress
import json
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, Literal

import pytest
from pydantic import AliasChoices, AliasPath, BaseModel, ConfigDict, Field, Json, TypeAdapter
from typing_extensions import TypedDict

from llmtasker.errors import InvalidOutputError
from llmtasker.parser.answer_schema import AnswerSchema
from llmtasker.parser.coerce import CoercionError, coerce
from llmtasker.parser.read import Reading, read


class Stay(BaseModel):
    guest: str = ""
    room_number: int = 0
    paid_on: dt.date | None = None


class Rate(BaseModel):
    euros: int = Field(alias="€")


@dataclass
class Meal:
    dish_name: str = ""
    price: float = 0.0


class Address(TypedDict, total=False):
    post_code: str


class Sender(BaseModel):
    model_config = ConfigDict(populate_by_name=True)

    name: str = Field(default="", alias="from")
    phone: str = Field(default="", validation_alias=AliasChoices("phone", "tel"))


class Guest(BaseModel):
    model_config = ConfigDict(extra="allow")

    town: str = Field(default="", validation_alias=AliasPath("address", "town"))
    first_line: str = Field(default="", validation_alias=AliasPath("address", "lines", 0))
    loyal_since: int = 0


class Ship(BaseModel):
    kind: Literal["ship"] = "ship"
    deck_count: int = 0


class Train(BaseModel):
    kind: Literal["train"] = "train"
    wagon_count: int = 0


class Season(enum.Enum):
    SUMMER = "été"
    WINTER = "hiver"


class Stars(enum.IntEnum):
    ONE = 1
    TWO = 2


def reading(kind: Any, value: Any, text: str | None = None) -> Reading[Any]:
    """Return the value and the repairs of a type with one field `v`."""
    adapter: TypeAdapter[Any] = TypeAdapter(TypedDict("Only", {"v": kind}))  # type: ignore[operator]
    given = json.dumps({"v": value}) if text is None else text
    return read(given, AnswerSchema.of(adapter._type), lambda found: adapter.validate_python(found)["v"])


@pytest.mark.parametrize(
    ("kind", "value", "wanted", "path"),
    [
        (Stay, {"Guest": "Ann"}, Stay(guest="Ann"), "v.guest"),
        (list[Stay], [{"guest": "Ann", "roomNumber": 7}], [Stay(guest="Ann", room_number=7)], "v.0.room_number"),
        (list[Stay], [{"guest": "Ann", "stars": 3}], [Stay(guest="Ann")], "v.0.stars"),
        (dict[str, Stay], {"may": {"room-number": 7}}, {"may": Stay(room_number=7)}, "v.may.room_number"),
        (tuple[Stay, Meal], [{"Guest": "A"}, {"dishName": "pie"}], (Stay(guest="A"), Meal("pie")), "v.1.dish_name"),
        (list[Meal], [{"Dish name": "pie"}], [Meal("pie")], "v.0.dish_name"),
        (Meal, {"dish_name": "pie", "vegan": True}, Meal("pie"), "v.vegan"),
        (list[Address], [{"postCode": "69001"}], [{"post_code": "69001"}], "v.0.post_code"),
        (Stay | None, {"ROOM_NUMBER": 7}, Stay(room_number=7), "v.room_number"),
        (Sender, {"From": "Ann"}, Sender(name="Ann"), "v.from"),
        (Ship | Train, {"kind": "train", "wagonCount": 9}, Train(wagon_count=9), "v.wagon_count"),
        (Ship | Train, {"kind": "ship", "wagon_count": 9}, Ship(), "v.wagon_count"),
        (
            Annotated[Ship | Train, Field(discriminator="kind")],
            {"kind": "train", "WagonCount": 9},
            Train(wagon_count=9),
            "v.wagon_count",
        ),
        (list[Ship | Train], [{"kind": "ship", "deckCount": 2}], [Ship(deck_count=2)], "v.0.deck_count"),
        (dict[Literal["Prix", "Goût"], int], {"prix": 1}, {"Prix": 1}, "v.Prix"),
        (dict[Season, int], {"SUMMER": 1}, {Season.SUMMER: 1}, "v.été"),
        (dict[int, str], {"07": "x"}, {7: "x"}, "v.7"),
        (bool, 1, True, "v"),
        (bool, "off", False, "v"),
        (bool | int, "1", 1, "v"),
        (dt.date | Literal["unknown"], "Unknown", "unknown", "v"),
        (dt.date | Literal["unknown"], "20260302", dt.date(2026, 3, 2), "v"),
        (int | Literal["n/a"], "N/A", "n/a", "v"),
        (dict[Season, int], {"ÉTÉ": 1, "SUMMER": 1}, {Season.SUMMER: 1}, "v.été"),
    ],
)
def test_each_key_that_is_renamed_or_left_out_is_in_repairs(kind: Any, value: Any, wanted: Any, path: str) -> None:
    got = reading(kind, value)
    assert got.value == wanted
    assert any(note.startswith(f"{path}: ") for note in got.repairs)


@pytest.mark.parametrize(
    ("kind", "value", "words"),
    [
        (list[Stay], [{"hotel": "Ritz"}], "v.0: none of the keys guest, room_number, paid_on"),
        (dict[str, Meal], {"noon": {"soup": 1}}, "v.noon: none of the keys"),
        (Address, {"zip": "69001"}, "v: none of the keys post_code"),
        (Stay, {"guest": "Ann", "Guest": "Bob"}, "v.guest: the keys guest, Guest have different values"),
        (Stay, {"room number": 1, "roomNumber": 2}, "v.room_number: the keys room number, roomNumber"),
        (dict[Literal["billing"], int], {"billing": 1, "Billing": 2}, "v.billing: the keys billing, Billing have diff"),
        (dict[Season, int], {"ÉTÉ": 1, "SUMMER": 2}, "v.été: the keys ÉTÉ, SUMMER have different values"),
        (dict[int, str], {"7": "x", "07": "y"}, "v.7: the keys 7, 07 have different values"),
        (dict[float, int], {"1.5": 1, "1,50": 2}, "v.1.5: the keys 1.5, 1,50 have different values"),
        (dict[int, str], {"7": "x", "7.0": "y"}, "v.7: the keys 7, 7.0 have different values"),
        (dict[int, str], {"10": "x", "1_0": "y"}, "v.10: the keys 10, 1_0 have different values"),
        (dict[float, int], {"1": 1, "1e0": 2}, "v.1: the keys 1, 1e0 have different values"),
        (dict[int, str], {"9" * 5_000: "x"}, "v.999"),
        (Sender, {"phone": "1", "tel": "2"}, "v.phone: the keys phone, tel have different values"),
        (Sender, {"from": "Ann", "name": "Bob"}, "v.from: the keys from, name have different values"),
        (Meal | Stay, {}, "v: an empty object may be any of several types"),
        (Rate, {"$": 3}, "v: none of the keys €"),
        (Stay, "Ann", "v: "),
        (dict[str, float], 3, "v: "),
        (dict[str, float], None, "v: "),
        (dict[str, float], {"price": "dear"}, "v.price: "),
        (dict[Literal["Prix"], int], {"prix": "dear"}, "v.Prix: the key was written 'prix'"),
    ],
)
def test_an_error_of_keys_has_the_path_as_it_was_answered(kind: Any, value: Any, words: str) -> None:
    with pytest.raises(InvalidOutputError) as caught:
        reading(kind, value)
    assert words in str(caught.value).partition("; the answer was")[0]


def test_keys_that_pydantic_takes_are_not_noted() -> None:
    for value in ({"from": "Ann"}, {"name": "Ann"}, {"from": "Ann", "tel": "12"}, {}):
        assert reading(Sender, value).repairs == ()
    assert reading(dict[str, Any], {"any": {"thing": 1}}).repairs == ()


@pytest.mark.parametrize(
    ("kind", "text", "wanted"),
    [
        (Stay, '{"guest": "Ann"}', Stay(guest="Ann")),
        (Stay, '{"roomNumber": 3}', Stay(room_number=3)),
        (dict[str, float], '{"a": 1.5}', {"a": 1.5}),
        (dict[str, float], '{"result": {"a": 1.5}}', {"a": 1.5}),
    ],
)
def test_the_value_of_the_only_field_may_come_without_its_name(kind: Any, text: str, wanted: Any) -> None:
    got = reading(kind, None, text)
    assert got.value == wanted
    assert "taken as 'v', which was not named" in got.repairs


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (dt.date, 20260302),
        (int, "12.000"),
        (int, "1.234"),
        (list[int], ["5.000"]),
        (dt.date, "2026"),
        (dt.date, "20261341"),
        (dt.datetime, 1_700_000_000),
        (dt.datetime, "1700000000.5"),
        (dt.time, 1430),
        (dt.timedelta, 90),
        (dt.date | None, 2026),
        (dt.date | str, 2026),
        (list[dt.date], ["2026-03-02", 20260303]),
        (dict[str, dt.datetime], {"begin": 0}),
        (Stay, {"paid_on": 20260302}),
        (int, True),
        (float, False),
        (Decimal, True),
        (int | None, True),
        (int | str, True),
        (int | float, False),
        (Literal[0, 1], True),
        (Stars, True),
        (list[int], [1, True]),
        (tuple[int, bool], [True, True]),
        (Stay, {"room_number": True}),
        (float, "NaN"),
        (float, "-inf"),
        (float, "1e999"),
        (int | float, "Infinity"),
        (float | None, "nan"),
        (Decimal, "Infinity"),
        (list[float], ["1", "nan"]),
        (Decimal, 0.12345678901234567),
    ],
)
def test_what_pydantic_would_take_for_something_else_is_refused(kind: Any, value: Any) -> None:
    with pytest.raises(InvalidOutputError, match=r"v[.\w]*: .*\(got "):
        reading(kind, value)


@pytest.mark.parametrize(
    ("kind", "value", "wanted"),
    [
        (dt.date, "20260302", dt.date(2026, 3, 2)),
        (dt.datetime, "20260302", dt.datetime(2026, 3, 2)),
        (list[dt.date], ["20260302"], [dt.date(2026, 3, 2)]),
        (dt.date, ["2026-03-02"], dt.date(2026, 3, 2)),
        (Decimal, "1,234.50", Decimal("1234.50")),
        (Decimal, "€ 12.50", Decimal("12.50")),
        (Decimal, "12.50 EUR", Decimal("12.50")),
        (Decimal, "1 234", Decimal(1234)),
        (list[Decimal], ["1.234,50"], [Decimal("1234.50")]),
        (float | None, "1,234.50", 1234.5),
        (int, ["3"], 3),
        (bool, "oui", True),
        (bool, "Non.", False),
        (bool, "vrai", True),
        (list[bool], ["Yes", "faux"], [True, False]),
        (Literal["1", "2"], 2, "2"),
        (Literal["1", "2"], 2.0, "2"),
        (Literal[1, 2], "2", 2),
        (list[Literal["1", "2"]], [1, 2], ["1", "2"]),
        (Literal["true", "false"], True, "true"),
        (Literal["null", "zero"], None, "null"),
        (Literal["a", "b"], ["B"], "b"),
        (Season, "WINTER", Season.WINTER),
        (Season, "winter", Season.WINTER),
        (Season, ["Hiver"], Season.WINTER),
        (list[Season], ["SUMMER", "hiver"], [Season.SUMMER, Season.WINTER]),
        (Stars, "TWO", Stars.TWO),
        (Stars, "2", Stars.TWO),
        (str | None, "null", None),
        (str | None, "None", None),
        (int | None, "N/A", None),
        (int | None, "", None),
        (dt.date | None, "", None),
        (Literal["a", "b"] | None, "null", None),
        (Stay | None, "null", None),
        (list[int | None], [1, "null"], [1, None]),
        (tuple[int, Season], ["1 000", "SUMMER"], (1000, Season.SUMMER)),
    ],
)
def test_what_has_one_meaning_is_read_and_noted(kind: Any, value: Any, wanted: Any) -> None:
    got = reading(kind, value)
    assert got.value == wanted
    assert type(got.value) is type(wanted)
    assert got.repairs


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (str, "null"),
        (str | None, ""),
        (str | None, "NA"),
        (Literal["none", "mild"] | None, "none"),
        (float, 1e300),
        (Decimal, 1.1),
        (Decimal, "0.123456789012345678"),
        (dt.date, "2026-03-02"),
        (dt.time, "14:30"),
        (bool, True),
        (bool | int, True),
        (int | str, "12"),
        (str | dt.date, "2026"),
        (Any, {"x": [True, 1, "NaN"]}),
    ],
)
def test_what_is_right_is_left_alone(kind: Any, value: Any) -> None:
    got = reading(kind, value)
    assert got.value == TypeAdapter(kind).validate_python(value)
    assert got.repairs == ()


def test_an_optional_field_without_default_may_be_absent_unless_a_key_is_left_over() -> None:
    class Person(BaseModel):
        sex: Literal["m", "f"]
        age: int | None

    schema = AnswerSchema.of(Person)
    got = read('{"sex": "m"}', schema, Person.model_validate)
    assert got == Reading(Person(sex="m", age=None), ("age: missing, read as null",))
    with pytest.raises(InvalidOutputError, match="age: Field required"):
        read('{"sex": "m", "years": 30}', schema, Person.model_validate)


def test_a_type_that_contains_itself() -> None:
    got = reading(Tree, {"name": "a", "parts": [{"Name": "b", "parts": [{"name": "c", "size": 1}]}]})
    assert got.value.parts[0].parts[0].name == "c"
    assert [note.partition(":")[0] for note in got.repairs] == ["v.parts.0.name", "v.parts.0.parts.0.size"]


class Tree(BaseModel):
    name: str
    parts: list[Tree] = []


def test_all_refusals_are_named_at_once() -> None:
    with pytest.raises(CoercionError) as caught:
        coerce({"paid_on": 5, "RoomNumber": True}, AnswerSchema.of(Stay))
    assert all(words in str(caught.value) for words in ("paid_on: ", "room_number: a boolean", "was written"))


@pytest.mark.parametrize(
    ("kind", "value", "wanted"),
    [
        (Guest, {"town": "Lyon"}, {"town": "Lyon", "first_line": ""}),
        (list[Guest], [{"first_line": "1 quai", "town": "Lyon"}], [{"town": "Lyon", "first_line": "1 quai"}]),
        (Guest, {"loyalSince": 3}, {"loyal_since": 3}),
        (Guest, {"loyal_since": 3, "loyalSince": 4}, {"loyal_since": 3, "loyalSince": 4}),
        (Json[list[int]], "[1, 2]", [1, 2]),
        (Json[Stay], '{"roomNumber": 7}', {"room_number": 7}),
        (Json[Stay], {"room_number": 7}, {"room_number": 7}),
        (dict[dt.date, str], {"2026-03-02": "x"}, {dt.date(2026, 3, 2): "x"}),
        (dict[dt.date, str], {"20260302": "x"}, {dt.date(2026, 3, 2): "x"}),
    ],
)
def test_what_json_schema_does_not_say_is_read_as_it_is_shown(kind: Any, value: Any, wanted: Any) -> None:
    found = reading(kind, value).value
    several, expected = (found, wanted) if isinstance(found, list) else ([found], [wanted])
    for one, other in zip(several, expected, strict=True):
        if not isinstance(one, BaseModel):
            assert one == other
            continue
        assert {name: getattr(one, name) for name in other} == other


@pytest.mark.parametrize(
    ("kind", "value", "why"),
    [
        (Json[list[int]], "[1, true]", "a boolean is not a number"),
        (Json[Stay], '{"paid_on": 3}', "a number is not a date"),
        (dict[dt.date, str], {"3600": "x"}, "a number is not a date"),
        (dict[dt.time, str], {"10": "x"}, "a number is not a time"),
        (ipaddress.IPv4Address, True, "a boolean is not an address"),
        (ipaddress.IPv4Address, 12345, "IPv4"),
        (list[ipaddress.IPv6Address], [1], "IPv6"),
        (float, "100.000 €", "valid number"),
        (Decimal, "$1.234", "valid decimal"),
    ],
)
def test_inner_json_keys_and_addresses_are_checked_too(kind: Any, value: Any, why: str) -> None:
    with pytest.raises(InvalidOutputError, match=why):
        reading(kind, value)


@pytest.mark.parametrize(
    ("field", "about", "written", "read"),
    [
        ("price", None, "12,50 $", 12.5),
        ("price", "in euros", "12,50 €", 12.5),
        ("price", "in euros", "EUR 12.50", 12.5),
        ("price", "in euros", "12,50", 12.5),
        ("price", "in euros or dollars", "$12.50", 12.5),
        ("price", "in euros", "12,50 $", None),
        ("price", "US dollars", "12,50 €", None),
        ("price_eur", None, "12 USD", None),
        ("price_usd", "what it costs", "12 USD", 12),
    ],
)
@pytest.mark.parametrize("optional", [False, True])
def test_an_amount_in_another_currency_than_is_asked_for_is_refused(
    field: str, about: str | None, written: str, read: float | None, optional: bool
) -> None:
    number: dict[str, Any] = {"type": "number"}
    node = {"anyOf": [number, {"type": "null"}]} if optional else number
    about_it = {"description": about} if about else {}
    schema = AnswerSchema({"type": "object", "properties": {field: {**node, **about_it}}})
    if read is not None:
        assert coerce({field: written}, schema)[0] == {field: read}
        return
    with pytest.raises(CoercionError, match=f"{field}: an amount in .* is asked for"):
        coerce({field: written}, schema)
