"""The result of one input: its error, and its conversion to JSON and back."""

import json
import math
import pickle
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from llmtasker import InputField, Item, OutputField, Signature
from llmtasker.errors import AuthenticationError, ItemError, RateLimitError, TruncatedError
from llmtasker.item import error_line
from llmtasker.wire.completion import Usage
from llmtasker.wire.request import Head, Request, Settings


class Sort(Signature):
    """Sort."""

    text: str = InputField()
    label: str = OutputField()
    score: float = OutputField(0.0)


REQUEST = Request(
    Head({}, [{"role": "system", "content": "Sort."}]),
    [{"role": "user", "content": "a"}],
    Settings(endpoint="e", body={"model": "m"}),
)
GOOD = Item(
    input={"text": "a"},
    output=Sort(text="a", label="b"),
    raw='{"label": "b"}',
    reasoning="so",
    repairs=("case",),
    usage=Usage(input=5, output=2),
    cost=0.25,
    latency=1.5,
    attempts=2,
    request=REQUEST,
)
BAD = Item(input="a", error=RateLimitError("too many", status=429, retry_after=2.0), attempts=1, cost=None)


def test_an_item_has_an_output_or_an_error():
    assert (GOOD.ok, GOOD.repaired, GOOD.error) == (True, True, None)
    assert (BAD.ok, BAD.repaired, BAD.output) == (False, False, None)
    assert GOOD.raise_for_error() is GOOD
    with pytest.raises(RateLimitError, match="too many") as caught:
        BAD.raise_for_error()
    assert caught.value.retry_after == 2.0


def test_an_item_tells_what_was_sent():
    assert [message["content"] for message in GOOD.messages] == ["Sort.", "a"]
    assert BAD.messages == []


def test_an_output_of_nothing_is_an_output():
    assert Item(input="a", output=None).ok


def test_an_item_does_not_change():
    with pytest.raises(AttributeError):
        GOOD.cost = 0.0


@pytest.mark.parametrize(
    ("item", "shown"),
    [
        (GOOD, "Item(input={'text': 'a'}, output=text='a' label='b' score=0.0, repaired)"),
        (BAD, "Item(input='a', error=rate_limit: too many)"),
        (replace(BAD, cached=True), "Item(input='a', error=rate_limit: too many, cached)"),
        (Item(input="x" * 500, output="y" * 500), f"Item(input='{'x' * 58}…, output={'y' * 79}…)"),
    ],
)
def test_an_item_shows_itself_shortly(item, shown):
    assert repr(item) == shown


# ── JSON ──


def test_a_good_item_as_json():
    assert GOOD.to_dict() == {
        "input": {"text": "a"},
        "output": {"text": "a", "label": "b", "score": 0.0},
        "raw": '{"label": "b"}',
        "error": None,
        "reasoning": "so",
        "repairs": ["case"],
        "usage": {"input": 5, "output": 2},
        "cost": 0.25,
        "latency": 1.5,
        "attempts": 2,
        "cached": False,
    }


def test_a_good_item_comes_back():
    again = Item[Sort].from_json(GOOD.to_json(), Sort)
    assert again == GOOD
    assert type(again.output) is Sort
    assert Item[Any].from_json(GOOD.to_json().encode()).output == {"text": "a", "label": "b", "score": 0.0}


def test_a_bad_item_comes_back():
    again = Item[Sort].from_json(BAD.to_json(), Sort)
    assert type(again.error) is RateLimitError
    assert again.error.to_dict() == BAD.error.to_dict()
    assert replace(again, error=BAD.error) == BAD
    with pytest.raises(RateLimitError):
        again.raise_for_error()


@pytest.mark.parametrize("details", [None, {}, {"message": "other"}, {"self": 1, "step": None}])
def test_an_error_with_odd_details_is_read(details: Any):
    stored = {"input": "a", "error": {"code": "invalid", "message": "no label", "details": details}}
    assert (error_line(stored), Item[str].from_dict(stored).error.details) == ("invalid: no label", {})


def test_an_old_or_unknown_record_is_read_as_far_as_it_goes():
    assert Item[str].from_dict({"input": "a", "error": {"code": "of the future"}}).error.code == ItemError.code
    assert Item[str].from_dict({"input": "a"}) == Item(input="a")
    with pytest.raises(ValidationError, match="label"):
        Item[Sort].from_dict({"input": "a", "output": {"text": "a"}}, Sort)


class Colour(StrEnum):
    RED = "red"


class Free(BaseModel):
    value: Any


class Rude:
    def __repr__(self) -> str:
        raise RuntimeError("no")

    def __str__(self) -> str:
        raise RuntimeError("no")


class Rules(dict[str, Any]):
    def items(self) -> Any:
        raise RuntimeError("no")


circle: list[Any] = []
circle.append(circle)


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (math.nan, "NaN"),
        (math.inf, "Infinity"),
        (-math.inf, "-Infinity"),
        ([1.5, {"a": math.nan}], [1.5, {"a": "NaN"}]),
        (10**5000, "1" + "0" * 5000),
        (2**70, 2**70),
        (b"ab", "ab"),
        (b"\xff", "/w=="),
        ("\ud800", "\ud800"),
        ({"\ud800": ["\ud800"]}, {"\ud800": ["\ud800"]}),
        ({1: "a", None: "b"}, {"1": "a", "None": "b"}),
        ({"good": "kept", "bad": b"\xff", "odd": Rude()}, {"good": "kept", "bad": "/w==", "odd": "a Rude"}),
        (Colour.RED, "red"),
        ({Colour.RED: 1}, {"red": 1}),
        (Path("a/b"), "a/b"),
        ({3}, [3]),
        (Rude(), "a Rude"),
        (circle, "[[...]]"),
        (Free(value=math.nan), {"value": None}),
        (Free(value=Rude()), {"value": "a Rude"}),
        (Free(value=b"\xff"), {"value": "/w=="}),
        ({(b"\xff", 1)}, [["/w==", 1]]),
        (Sort(text="a", label="b"), {"text": "a", "label": "b", "score": 0.0}),
        (True, True),
        (None, None),
    ],
    ids=lambda value: type(value).__name__,
)
def test_any_input_and_output_can_be_written(value, written):
    item = Item(input=value, output=value)
    assert item.to_dict()["input"] == written
    assert item.to_dict()["output"] == written
    text = item.to_json()
    assert "\n" not in text
    text.encode()
    assert json.loads(text, parse_constant=pytest.fail)["input"] == written
    assert repr(item).startswith("Item(input=")


def test_a_mapping_that_fails_is_still_an_item():
    item = Item(input=Rules(a=1), output="x")
    assert json.loads(item.to_json())["input"] == {"a": 1}


def test_not_a_number_comes_back_as_one():
    item = Item(input="a", output=Sort.model_construct(text="a", label="b", score=math.inf))
    assert Item[Sort].from_json(item.to_json(), Sort).output.score == math.inf


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
texts = st.text(st.characters())


@given(json_values, json_values, st.none() | texts, st.lists(texts, max_size=2), st.none() | st.floats(0, 9))
def test_json_values_come_back_unchanged(value, output, raw, repairs, cost):
    item = Item(input=value, output=output, raw=raw, repairs=tuple(repairs), cost=cost, latency=0.5, cached=True)
    assert Item[Any].from_json(item.to_json()) == item


@pytest.mark.parametrize("item", [GOOD, BAD, Item(input="a", error=TruncatedError("cut", finish_reason="length"))])
def test_items_can_be_pickled(item):
    again = pickle.loads(pickle.dumps(item))
    assert again.to_dict() == item.to_dict()
    assert again.messages == item.messages
    if item.error:
        assert type(again.error) is type(item.error)


def test_an_error_from_json_is_raised_like_the_first():
    error = AuthenticationError("no key", status=401)
    again = ItemError.from_dict(json.loads(json.dumps(error.to_dict())))
    assert (type(again), str(again), again.status) == (AuthenticationError, "no key", 401)
