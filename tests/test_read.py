from __future__ import annotations

import contextlib
import json
from typing import Any, Literal

import pytest
from effort import SOON, calls_of
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter, field_validator

from llmtasker.errors import InvalidOutputError, OutputError, TruncatedError
from llmtasker.parser.answer_schema import AnswerSchema
from llmtasker.parser.read import Reading, read


class Route(BaseModel):
    team: Literal["billing", "delivery", "other"]


class Permit(BaseModel):
    quote: str
    team: Literal["billing", "delivery", "other"]
    urgent: bool = False


class Reply(BaseModel):
    answer: str


class Options(BaseModel):
    limit: int = 10
    note: str = ""


class Tags(BaseModel):
    tags: list[Literal["chat", "chien", "autre"]]


class Line(BaseModel):
    item: str
    price: float


class Invoice(BaseModel):
    number: int
    lines: list[Line]
    client: Line | None = None


def reading(text: str, model: type[BaseModel]) -> Reading[BaseModel]:
    return read(text, AnswerSchema(model.model_json_schema()), model.model_validate)


def value(text: str, model: type[BaseModel]) -> dict[str, Any]:
    return reading(text, model).value.model_dump(exclude_unset=True)


BILLING = {"team": "billing"}
TICKET = {"quote": "two {times}", "team": "billing", "urgent": True}
TICKET_TEXT = json.dumps(TICKET)


def test_a_right_answer_is_read_as_it_is() -> None:
    assert reading(TICKET_TEXT, Permit) == Reading(value=Permit(quote="two {times}", team="billing", urgent=True))


@pytest.mark.parametrize(
    "text",
    [
        f"```json\n{TICKET_TEXT}\n```",
        f"Bien sûr ! Voici :\n{TICKET_TEXT}\nBonne journée.",
        f"<think>perhaps {{}}? No.</think>{TICKET_TEXT}",
        f"\ufeff{TICKET_TEXT}",
        f"[{TICKET_TEXT}]",
        json.dumps(TICKET_TEXT),
        json.dumps({"properties": TICKET}),
        json.dumps({"ticket": TICKET}),
        json.dumps({"name": "Permit", "arguments": TICKET}),
        json.dumps({"name": "Permit", "parameters": TICKET_TEXT}),
        json.dumps({"type": "function", "function": {"name": "Permit", "arguments": TICKET_TEXT}}),
        f'<tool_call>\n{{"name": "Permit", "arguments": {TICKET_TEXT}}}\n</tool_call>',
        f"The form is {{field: value}}, so: {TICKET_TEXT}",
        f"{TICKET_TEXT}}}",
        f"{TICKET_TEXT} (see [1])",
        TICKET_TEXT[:-1],
        TICKET_TEXT[:-1] + "\n",
        f"```json\n{TICKET_TEXT[:-1]}\n```\nDone.",
        TICKET_TEXT[:-1] + ",}",
        repr(TICKET),
        '{quote: "two {times}", team: "billing", urgent: true}',
        '{"Quote": "two {times}", "TEAM": "Billing.", "urgent": "True"}',
        f'Draft:\n```json\n{{"quote": "two", "team": "other"}}\n```\nFinal:\n```json\n{TICKET_TEXT}\n```',
        f"Twice the same: {TICKET_TEXT} and {TICKET_TEXT}",
    ],
)
def test_the_answer_is_found_and_each_repair_named(text: str) -> None:
    got = reading(text, Permit)
    assert got.value.model_dump() == TICKET
    assert got.repairs or text == f"\ufeff{TICKET_TEXT}"
    assert all(isinstance(note, str) and note for note in got.repairs)


def test_two_different_answers_are_flagged() -> None:
    got = reading(f'First {{"quote": "x", "team": "other"}}, but rather {TICKET_TEXT}', Permit)
    assert got.value.model_dump() == TICKET
    assert got.repairs[0] == "several different answers: the last one taken"


@pytest.mark.parametrize(
    "text",
    [
        '{"team": "billing"}\n{"team": "other"}',
        '[{"team": "billing"}, {"team": "other"}]',
        '{"team": "billing", "team": "other"}',
        '{"team": "billing"} in the form {"team": label}',
        'Draft {"team": "billing"}, final {"team": "unknown"}',
        'Draft {"team": "billing"}, final {"team": }',
        '{"color": "billing", "size": "M"}',
        '{"team": null}',
        '{"team": ["billing", "other"]}',
        '"{not JSON}"',
        '```json\n{"team": "billing" "other"\n```',
        '{"team": NaN}',
        '{"team": "bil"}',
        '{"team": "facturation"}',
        '{"team": "It is not billing"}',
        "[1]",
        "12",
        "true",
        "I'm sorry, but I can't help with that.",
        "Je ne peux pas vous aider.",
        "I can't say [sorry].",
        "",
        " \n",
        "x" * 300_000,
    ],
)
def test_no_answer_or_no_clear_one_is_an_error(text: str) -> None:
    with pytest.raises(InvalidOutputError):
        reading(text, Route)


@pytest.mark.parametrize(
    ("text", "model"),
    [
        ('{"team": "bill', Route),
        ('{"team": ', Route),
        ("{", Route),
        ('"bill', Route),
        ('[{"team": "billing"}', Route),
        ('{"quote": "a", "team": "billing"', Permit),  # 'urgent' might follow
        ('{"number": 12', Invoice),
        ('{"number": 1, "lines": [{"item": "a", "price": 1}', Invoice),
        ('```json\n{"team": "billing', Route),
        ('First {"team": "other"}, then {"team": "bil', Route),
        ("<think>it might be billing", Route),
    ],
)
def test_a_cut_answer_is_never_completed(text: str, model: type[BaseModel]) -> None:
    with pytest.raises(TruncatedError):
        reading(text, model)


ONE, OTHER = '"item": "Lamp", "price": 2}', '{"item": "Chair", "price": 3}'


@pytest.mark.parametrize(
    "text",
    [
        f"{ONE} {OTHER}",
        f"{ONE},{OTHER}",
        f"{ONE[:-1]}\n\n{OTHER}",
        f"item: Lamp\nprice: 2\n\n{OTHER}",
        f"{OTHER}\n\n**item**: Lamp\n**price**: 2",
        f"item='Lamp', price=2 {OTHER}",
        f"One: {OTHER}, or {ONE}",
        f"Not {OTHER}",
        f"Rather than {OTHER}",
    ],
)
def test_another_answer_beside_the_json_is_not_passed_over(text: str) -> None:
    with pytest.raises(InvalidOutputError):
        reading(text, Line)


@pytest.mark.parametrize(
    "text",
    [
        f"Example: {{{ONE}\nAnswer: {OTHER}",
        f"item: Chair, for which the price: 3 is fixed\n\n{OTHER}",
        f"item: Lamp\nprice: 2\nNo, that is wrong.\n{OTHER}",
        f"The item: a chair.\n{OTHER}",
    ],
)
def test_words_beside_the_json_that_agree_or_are_corrected(text: str) -> None:
    assert value(text, Line) == {"item": "Chair", "price": 3.0}


class Note(BaseModel):
    text: str


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (r"C:\dir\new", None),
        (r"D:\Data\file.txt", None),
        (r"$\alpha + \theta$", None),
        (r"$\beta$", None),  # valid JSON: a backspace, and "eta"
        (r"a \frac{1}{2}", None),
        (r"the pattern \d+", r"the pattern \d+"),
        (r"the pattern \d+\n- a list", "the pattern \\d+\n- a list"),
        (r"C:\\dir\\new", r"C:\dir\new"),
        (r"one page\f\fTwo", "one page\f\fTwo"),
    ],
)
def test_a_backslash_that_may_not_begin_an_escape(content: str, text: str | None) -> None:
    answer = f'{{"text": "{content}"}}'
    if text is None:
        with pytest.raises(InvalidOutputError):
            reading(answer, Note)
    else:
        assert value(answer, Note) == {"text": text}


def test_objects_without_the_array_around_them_are_not_a_clear_list() -> None:
    many = TypeAdapter(list[Line])
    text = 'One: {"item": "a", "price": 1}, two: {"item": "b", "price": 2}'
    with pytest.raises(InvalidOutputError, match="no array around"):
        read(text, AnswerSchema(many.json_schema()), many.validate_python)


def test_json_lines_are_a_list() -> None:
    many = TypeAdapter(list[Line])
    text = '{"item": "a", "price": 1}\n{"item": "b", "price": 2}'
    got = read(text, AnswerSchema(many.json_schema()), many.validate_python)
    assert [line.item for line in got.value] == ["a", "b"]
    assert got.repairs == ("JSON lines taken as a list",)


class Words(BaseModel):
    words: list[str]


def test_brackets_in_prose_are_not_a_list() -> None:
    with pytest.raises(InvalidOutputError):
        reading("I can't say [sorry].", Words)


@pytest.mark.parametrize(
    ("text", "model", "expected"),
    [
        ("Billing.", Route, BILLING),
        ("billing", Route, BILLING),
        ("```\nbilling\n```", Route, BILLING),
        ('"Billing"', Route, BILLING),
        ('["billing"]', Route, BILLING),
        ('{"label": "Billing"}', Route, BILLING),
        ('{"team": "billing", "reason": "late",}', Route, BILLING),
        ("The right team is **billing** [see above].", Route, BILLING),
        ("chat, chien", Tags, {"tags": ["chat", "chien"]}),
        ('["CHAT"]', Tags, {"tags": ["chat"]}),
        ('"all good"', Reply, {"answer": "all good"}),
        ("```\n7\n```", TypeAdapter(int), 7),
    ],
)
def test_bare_answers(text: str, model: Any, expected: Any) -> None:
    if isinstance(model, TypeAdapter):
        assert read(text, AnswerSchema(model.json_schema()), model.validate_python).value == expected
    else:
        assert value(text, model) == expected


@pytest.mark.parametrize(
    "text", ["All good, thank you.", "['all good'] is what I would say", "answer: all good", "[1]"]
)
def test_free_text_fields_are_never_filled_with_prose(text: str) -> None:
    with pytest.raises(InvalidOutputError):
        reading(text, Reply)


@pytest.mark.parametrize(
    ("schema", "text", "expected"),
    [
        ({"enum": ["red", "blue"]}, "It is red.", "red"),
        ({"type": "boolean"}, "Answer: True", True),
        ({"type": "string"}, "<think>hm</think>Bonjour {name} !", "Bonjour {name} !"),
        ({"type": "string"}, '"Bonjour"', "Bonjour"),
        ({"type": "string"}, '{"a": 1}', '{"a": 1}'),
        ({"type": "array", "items": {"type": "object"}}, '{"a": 1}', [{"a": 1}]),
        ({"type": "array", "items": {"type": "integer"}}, "So: [1, 2,]", [1, 2]),
        ({}, "So: {'a': 1}", {"a": 1}),
        ({"type": "object"}, '[1] and {"x": [2]}', {"x": [2]}),
    ],
)
def test_shapes_that_are_not_a_model(schema: dict[str, Any], text: str, expected: Any) -> None:
    kinds: dict[Any, Any] = {"array": list, "object": dict, "boolean": bool, "string": str}
    adapter: TypeAdapter[Any] = TypeAdapter(kinds.get(schema.get("type"), Any))
    assert read(text, AnswerSchema(schema), adapter.validate_python).value == expected


def test_a_model_of_defaults_does_not_take_any_object() -> None:
    assert value("{}", Options) == {}
    assert value('{"Limit": 5}', Options) == {"limit": 5}
    assert value('Draft {"x": 1}, final {"limit": 2}', Options) == {"limit": 2}
    with pytest.raises(InvalidOutputError, match="limit, note"):
        reading('{"x": 1}', Options)


class Person(BaseModel):
    name: str
    city: str = ""


@pytest.mark.parametrize("arguments", [{"name": "Ann"}, '{"name": "Ann"}'])
def test_a_call_is_not_taken_for_its_own_arguments(arguments: Any) -> None:
    assert value(json.dumps({"name": "Person", "arguments": arguments}), Person) == {"name": "Ann"}


def test_keys_that_were_not_asked_for_are_left_out() -> None:
    assert value('{"name": "Ann", "age": 5}', Person) == {"name": "Ann"}


class Boom(BaseModel):
    team: str

    @field_validator("team")
    @classmethod
    def explode(cls, value: str) -> str:
        if value == "recursion":
            raise RecursionError("too deep")
        if value == "key":
            raise KeyError(value)
        return value


@pytest.mark.parametrize("text", ['{"team": "recursion"}', '{"team": "key"}', "{'team': 'key'}", 'So: {"team": "key"}'])
def test_whatever_a_validator_raises_is_an_error_of_the_answer(text: str) -> None:
    with pytest.raises(InvalidOutputError, match=r"RecursionError|KeyError"):
        reading(text, Boom)


def test_the_message_says_which_field_is_wrong_and_shows_a_snippet_only() -> None:
    text = json.dumps({"quote": None, "team": "x" * 500, "urgent": "perhaps"})
    with pytest.raises(InvalidOutputError) as caught:
        reading(text, Permit)
    message = str(caught.value)
    assert all(f"{name}: " in message for name in ("quote", "team", "urgent"))
    assert "https://" not in message
    assert len(message) < 700


def test_the_message_names_only_the_first_fields() -> None:
    many = TypeAdapter(list[int])
    with pytest.raises(InvalidOutputError, match="and 5 more"):
        read(json.dumps(["x"] * 10), AnswerSchema(many.json_schema()), many.validate_python)


"""Seconds of CPU for a hostile text: a tenth of that is usual, coverage takes five times as long."""


def identity(value: Any) -> Any:
    return value


ANYTHING = AnswerSchema({})


@pytest.mark.parametrize(
    "text",
    [
        "[" * 9_000,
        "{" * 20_000,
        "[" * 1_000_000,
        "word " * 200_000,
        '"' * 190_000,
        "{a} " * 49_000,
        '{"a":' * 30_000,
        "{ x '" * 40_000,
        '{"team": "' + '\\"' * 20_000 + '",}',
        '{"team": ' + "{true)" * 8_000 + "}",
        "[" + '{"a" 1 ' * 400 + "]",
        "<think></think>" * 13_000,
        "<function=Route>" * 12_000,
        "<function=Route>" * 1_200,
        "<parameter=team>" * 1_200,
        "<s>" * 60_000,
        "<|channel|>" * 17_000,
        "```\n" * 49_000,
        '{"team": ' + "9" * 5_000 + "}",
        "billing or " * 18_000,
        repr({"team": ["it's late"] * 14_000}),
        " and ".join([repr({"team": ["it's late"] * 1_400})] * 9),
    ],
)
@pytest.mark.parametrize("model", [Route, Reply, None])
@SOON
def test_hostile_texts_end_soon(text: str, model: type[BaseModel] | None) -> None:
    def try_to_read() -> None:
        if model is None:
            with contextlib.suppress(OutputError):
                read(text, ANYTHING, identity)
        else:
            with pytest.raises(OutputError):
                reading(text, model)

    assert len(calls_of(try_to_read)) < 200_000


@pytest.mark.parametrize("answer", ["\ud800", "\x00", "\u2028", "é\u0301"])
def test_odd_characters_are_kept(answer: str) -> None:
    assert value(json.dumps({"answer": answer}), Reply) == {"answer": answer}
    assert value("So: " + json.dumps({"answer": answer}), Reply) == {"answer": answer}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
containers = json_values.filter(lambda value: isinstance(value, dict | list))


@given(containers, st.sampled_from(["{}", "```json\n{}\n```", "Voici : {} Voilà.", "<think>[0]</think>{}"]))
def test_any_json_comes_back_out_of_what_is_around_it(value: Any, around: str) -> None:
    text = around.replace("{}", json.dumps(value, indent=1))
    assert read(text, ANYTHING, identity).value == value


@given(containers, st.booleans(), st.data())
def test_any_json_that_is_cut_is_an_error(value: Any, pretty: bool, data: st.DataObject) -> None:
    whole = json.dumps(value, indent=2 if pretty else None, ensure_ascii=pretty)
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]
    with pytest.raises(OutputError):
        read(cut, ANYTHING, identity)


lines = st.builds(Line, item=st.text(max_size=12), price=st.floats(allow_nan=False, allow_infinity=False))
invoices = st.builds(
    Invoice, number=st.integers(), lines=st.lists(lines, max_size=3), client=st.one_of(st.none(), lines)
)
answers = st.one_of(
    invoices,
    st.builds(Permit, quote=st.text(), team=st.sampled_from(["billing", "delivery", "other"]), urgent=st.booleans()),
    st.builds(Tags, tags=st.lists(st.sampled_from(["chat", "chien", "autre"]))),
    st.builds(Reply, answer=st.text()),
)


@settings(deadline=None, max_examples=60)
@given(answers, st.sampled_from(["", "Voici :\n", "```json\n"]), st.sampled_from([None, 2]), st.booleans())
def test_a_cut_answer_is_an_error_or_what_the_whole_says(
    answer: BaseModel, before: str, indent: int | None, unset: bool
) -> None:
    whole = before + json.dumps(answer.model_dump(exclude_defaults=unset), indent=indent)
    schema = AnswerSchema(type(answer).model_json_schema())
    for end in range(len(whole)):
        try:
            got = read(whole[:end], schema, type(answer).model_validate)
        except OutputError:
            continue
        assert got.value == answer
        assert got.repairs
        assert not whole[end:].strip("}\n ")


@pytest.mark.parametrize(
    "text",
    [
        '{"number": 1, "lines" [{"item": "pen", "price": 2}], "client": null}',
        '{"number": 1, "lines": ["item": "pen", "price": 2}], "client": {"item": "x", "price": 1}}',
        '{"number": 1, "lines": [{"item": "pen", "price": 2}}], "client": {"item": "x", "price": 1}}',
        '```json\n{"number": 1, "lines": [{"item": "pen", "price": 2},\n```',
        '```json\n{"number": 1, "lines": [],\n```',
    ],
)
def test_a_slip_of_brackets_loses_nothing(text: str) -> None:
    with contextlib.suppress(OutputError):
        found = value(text, Invoice)
        assert found["lines"] == [{"item": "pen", "price": 2}]
        assert found.get("client") == (None if "null" in text else {"item": "x", "price": 1})


@pytest.mark.parametrize("text", ["- [x] chat\n- [ ] chien", "- [ ] chat\n- [ ] chien", "[ ] chat"])
def test_an_empty_check_box_is_not_an_empty_list(text: str) -> None:
    with pytest.raises(InvalidOutputError):
        value(text, Tags)


def test_json_within_json_within_json() -> None:
    assert value(json.dumps(json.dumps(TICKET_TEXT)), Permit) == TICKET
