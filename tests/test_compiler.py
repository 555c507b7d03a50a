"""Signature + prompt + examples + mode → requests, and answers → records."""

import json
import math
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from typing import Any, Literal, Self

import pytest
from pydantic import BaseModel, field_validator, model_validator
from pydantic_core import PydanticCustomError

from llmtasker import ConfigurationError, InputField, OutputField, Signature
from llmtasker.compiler.program import compile_program
from llmtasker.compiler.prompt import Prompt
from llmtasker.errors import FilteredError, InputError, InvalidOutputError, RefusedError, TruncatedError
from llmtasker.wire.completion import Completion, ToolCall
from llmtasker.wire.request import Settings

SETTINGS = Settings(endpoint="test", body={"model": "m"})
MODES = ["auto", "tools", "json_schema", "json", "text"]


class Team(Enum):
    BILLING = "billing"
    DELIVERY = "delivery"


class Place(BaseModel):
    city: str
    inside: "Place | None" = None


class Triage(Signature):
    """Route."""

    message: str = InputField()
    quote: str = OutputField()
    team: Team = OutputField(description="who", labels={"billing": "money", "delivery": "parcels"})

    @model_validator(mode="after")
    def quote_is_verbatim(self) -> Self:
        if self.quote not in self.message:
            raise ValueError("quote must be copied from the message")
        return self


class Extract(Signature):
    """Extract."""

    text: str = InputField()
    place: Place = OutputField()
    tags: list[Literal["a", "b"]] = OutputField(max_length=2)
    score: float = OutputField(ge=0, le=1)
    note: str | None = OutputField(None)
    count: int = OutputField(1)


class Summary(Signature):
    """Summarise."""

    text: str = InputField()
    summary: str = OutputField(min_length=2)


def answered(program, given, answer):
    """Return the result of a program for an answer: a Completion, its text, or the arguments of a call."""
    if not isinstance(answer, Completion):
        if isinstance(answer, str):
            answer = Completion(text=answer)
        else:
            answer = Completion(tool_calls=(ToolCall(name=program.model.__name__, arguments=json.dumps(answer)),))
    return program.parse(answer, program.validate(given))


def properties(program, mode="tools"):
    return program.head(mode).schema["tools"][0]["function"]["parameters"]["properties"]


# ── what a program asks ──


def test_a_program_is_compiled_once_and_renders_each_input():
    program = compile_program(Triage, examples=[Triage(message="charged twice", quote="twice", team="billing")])
    request = program.render(program.validate("where is it?"), SETTINGS)
    assert request.head is program.head("tools")
    assert [message["role"] for message in request.messages] == ["system", "user", "assistant", "user"]
    assert request.messages[-1] == {"role": "user", "content": "where is it?"}
    assert json.loads(request.content) == request.body
    assert request.body["tool_choice"] == "required"


@pytest.mark.parametrize(
    ("asked", "first"),
    [("auto", "tools"), ("tools", "tools"), ("json_schema", "json_schema"), ("json", "json"), ("text", "text")],
)
def test_the_first_mode(asked, first):
    program = compile_program(Triage, mode=asked)
    assert program.first_mode == first
    assert program.render(program.validate("a"), SETTINGS).head is program.head(first)


def test_every_mode_has_one_head_however_many_threads_ask():
    program = compile_program(Triage)
    with ThreadPoolExecutor(8) as pool:
        heads = set(pool.map(lambda _: id(program.head("json")), range(64)))
    assert len(heads) == 1
    assert program.render(program.validate("a"), SETTINGS, "json").head is program.head("json")


def test_the_meanings_of_labels_are_sent_once():
    assert properties(compile_program(Triage))["team"]["description"] == "who\n- billing: money\n- delivery: parcels"
    listed = compile_program(Triage.with_instructions("Route to one of:\n{classes}"))
    assert properties(listed)["team"]["description"] == "who"
    bare = Triage.with_fields(team=(Team, OutputField(labels={"billing": "money"})))
    assert properties(compile_program(bare))["team"]["description"] == "- billing: money"


@pytest.mark.parametrize(
    "example",
    [
        Triage(message="charged twice", quote="twice", team="billing"),
        {"message": "charged twice", "quote": "twice", "team": Team.BILLING},
        Triage.with_instructions("Other words.")(message="charged twice", quote="twice", team="billing"),
        Triage.with_fields(more=(str, OutputField("")))(message="charged twice", quote="twice", team="billing"),
    ],
)
def test_an_example_is_a_record_or_a_mapping(example):
    program = compile_program(Triage, examples=[example])
    (shown,) = program.layout.examples
    assert shown.values == {"message": "charged twice"}
    assert json.loads(shown.answer).items() >= {"quote": "twice", "team": "billing"}.items()


def test_an_example_is_written_in_full_and_in_the_words_of_the_wire():
    class Named(Signature):
        """Name."""

        text: str = InputField()
        label: str = OutputField(alias="Étiquette")
        place: Place = OutputField()

    record = Named(text="a", label="é", place={"city": "Lyon"})
    program = compile_program(Named, examples=[record])
    assert program.layout.examples[0].answer == '{"Étiquette":"é","place":{"city":"Lyon","inside":null}}'
    assert answered(program, "a", {"Étiquette": "é", "place": {"city": "Lyon"}}).record == record
    assert list(properties(program)) == ["Étiquette", "place"]


@pytest.mark.parametrize(
    ("example", "words"),
    [
        ({"message": "a", "quote": "b", "team": "billing"}, "example 2 does not fit Triage: quote must be"),
        ({"message": "a", "quote": "a", "team": "sales"}, "team: Input should be 'billing' or 'delivery'"),
        ({"message": "a", "quote": "a"}, "team: Field required"),
        (("a", "billing"), "Input should be a valid dictionary"),
        ({"message": "\ud800", "quote": "\ud800", "team": "billing"}, "example 2 can't be written as JSON"),
    ],
)
def test_a_wrong_example_is_refused_with_its_number(example, words):
    right = Triage(message="a", quote="a", team="billing")
    with pytest.raises(ConfigurationError) as caught:
        compile_program(Triage, examples=[right, example])
    assert words in str(caught.value)


class Undecided(Signature):
    """Decide."""

    text: str = InputField()
    reasoning: str = OutputField()
    label: str = OutputField()


@pytest.mark.parametrize(
    ("signature", "options", "words"),
    [
        (Undecided, {"reasoning": True}, "has a field 'reasoning' already"),
        (Triage, {"mode": "plain"}, "one output field, of type str"),
        (Summary.with_fields(summary=(Literal["a"], OutputField())), {"mode": "plain"}, "of type str"),
        (Summary, {"mode": "plain", "reasoning": True}, "does not support reasoning"),
        (Summary.with_instructions("{txt}"), {}, "Did you mean {text}?"),
    ],
)
def test_what_cannot_be_compiled(signature, options, words):
    with pytest.raises(ConfigurationError) as caught:
        compile_program(signature, **options)
    assert words in str(caught.value)


def test_an_input_that_cannot_be_shown_is_an_input_error():
    class Hidden(Summary):
        @classmethod
        def format_input(cls, inputs):
            raise ZeroDivisionError("cannot show")

    program = compile_program(Hidden)
    with pytest.raises(InputError, match="could not be shown: ZeroDivisionError: cannot show"):
        program.render(program.validate("a"), SETTINGS)

    program = compile_program(Summary.with_fields(text=(Any, InputField())))
    with pytest.raises(InputError, match=r"bytes that are not UTF-8 text.*image"):
        program.render(program.validate({"text": b"\xff"}), SETTINGS)
    for value in (object(), [math.nan, {"a": object()}]):
        with pytest.raises(InputError, match="could not be shown"):
            program.render(program.validate({"text": value}), SETTINGS)


# ── what a program makes of answers ──


@pytest.mark.parametrize("mode", MODES)
def test_an_answer_becomes_a_record(mode):
    program = compile_program(Triage, mode=mode)
    answer = '{"quote": "twice", "team": "billing"}'
    found = answered(program, "charged twice", f"```json\n{answer}\n```" if mode == "text" else answer)
    assert found.record == Triage(message="charged twice", quote="twice", team=Team.BILLING)
    assert type(found.record) is Triage
    assert found.reasoning is None


@pytest.mark.parametrize("mode", MODES)
def test_a_call_is_welcome_in_every_mode_and_said_where_it_was_not_asked_for(mode):
    program = compile_program(Triage, mode=mode)
    found = answered(program, "charged twice", {"quote": "twice", "team": "billing"})
    assert found.record.team is Team.BILLING
    assert found.repairs == (() if mode in {"auto", "tools"} else ("answered by a function call, not in text",))


def test_nested_types_defaults_and_constraints():
    program = compile_program(Extract)
    answer = {"place": {"city": "Bron", "inside": {"city": "Lyon"}}, "tags": ["a"], "score": 0.5}
    record = answered(program, "t", answer).record
    assert record.place.inside == Place(city="Lyon")
    assert (record.note, record.count) == (None, 1)
    for wrong, words in [
        ({"score": 2}, "score"),
        ({"tags": ["a", "b", "a"]}, "tags"),
        ({"place": {"inside": None}}, "place.city"),
        ({"count": "many"}, "count"),
    ]:
        with pytest.raises(InvalidOutputError, match=words):
            answered(program, "t", {**answer, **wrong})


def test_a_validator_sees_inputs_and_outputs_together():
    program = compile_program(Triage)
    assert answered(program, "twice", {"quote": "twice", "team": "billing"}).record.inputs() == {"message": "twice"}
    with pytest.raises(InvalidOutputError, match="quote must be copied from the message"):
        answered(program, "twice", {"quote": "thrice", "team": "billing"})


def test_columns_of_the_row_do_not_stand_in_for_missing_outputs():
    program = compile_program(Summary)
    row = {"text": "long", "summary": "gold label", "reasoning": "of the row", "id": 7}
    with pytest.raises(InvalidOutputError, match="summary"):
        answered(program, row, {})
    assert answered(program, row, {"summary": "short"}).record.outputs() == {"summary": "short"}


def test_an_answer_cannot_change_its_input():
    record = answered(compile_program(Summary), "long", {"summary": "short", "text": "other"}).record
    assert record.inputs() == {"text": "long"}


def test_input_validators_do_not_run_on_what_they_changed():
    class Doubled(Summary):
        @field_validator("text")
        @classmethod
        def double(cls, text: str) -> str:
            return text * 2

    program = compile_program(Doubled)
    inputs = program.validate("ab")
    assert program.render(inputs, SETTINGS).messages[-1]["content"] == "abab"
    assert answered(program, "ab", {"summary": "xx"}).record.text == "abab"


class OddError(Exception):
    """An unexpected error."""


@pytest.mark.parametrize(
    "error",
    [
        ValueError("the reason"),
        AssertionError("the reason"),
        PydanticCustomError("odd", "the reason"),
        KeyError("the reason"),
        ZeroDivisionError("the reason"),
        RecursionError("the reason"),
        StopIteration("the reason"),
        OddError("the reason"),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("mode", ["tools", "plain"])
def test_a_validator_may_raise_anything(error, mode):
    class Breaks(Summary):
        @field_validator("summary")
        @classmethod
        def fail(cls, summary: str) -> str:
            raise error

    program = compile_program(Breaks, mode=mode)
    answer = "short" if mode == "plain" else {"summary": "short"}
    with pytest.raises(InvalidOutputError, match="the reason"):
        answered(program, "a", answer)


def test_a_type_that_no_answer_can_fill_gives_an_error_for_the_item():
    class Endless(BaseModel):
        inner: "Endless"

    program = compile_program(Summary.with_fields(summary=(Endless, OutputField())))
    deep: Any = {}
    for _ in range(60):
        deep = {"inner": deep}
    for answer in ({"summary": {}}, {"summary": deep}, "none", "{" * 20_000, "[" * 9_000):
        with pytest.raises((InvalidOutputError, TruncatedError)):
            answered(program, "a", answer)


@pytest.mark.parametrize(
    ("completion", "kind", "words"),
    [
        (Completion(refusal="I can't help"), RefusedError, "the LLM declined: I can't help"),
        (Completion(text='{"summary":"ok"}', refusal="no"), RefusedError, "declined"),
        (Completion(finish_reason="content_filter"), FilteredError, "content filter"),
        (Completion(text='{"summary":"ok"}', finish_reason="content_filter"), FilteredError, "content filter"),
        (
            Completion(text='{"summary":"ok"}', finish_reason="length"),
            TruncatedError,
            "16 characters; raise max_tokens",
        ),
        (Completion(), InvalidOutputError, "empty"),
    ],
)
@pytest.mark.parametrize("mode", ["auto", "json", "plain"])
def test_an_answer_that_is_not_one_whatever_its_text(completion, kind, words, mode):
    with pytest.raises(kind) as caught:
        answered(compile_program(Summary, mode=mode), "a", completion)
    assert words in str(caught.value)


def test_details_of_endings():
    program = compile_program(Summary)
    with pytest.raises(RefusedError) as caught:
        answered(program, "a", Completion(refusal="no " * 1000))
    assert len(caught.value.details["provider_text"]) <= 500
    with pytest.raises(TruncatedError) as caught:
        answered(program, "a", Completion(text="x", finish_reason="length"))
    assert caught.value.details == {"finish_reason": "length"}


# ── reasoning ──


def test_reasoning_is_asked_for_first_and_given_apart():
    example = {"text": "t", "summary": "ss", "reasoning": "because é"}
    program = compile_program(Summary, examples=[example], reasoning=True)
    assert list(properties(program)) == ["reasoning", "summary"]
    assert program.layout.examples[0].answer == '{"reasoning":"because é","summary":"ss"}'
    found = answered(program, "a", {"reasoning": "it is so", "summary": "short"})
    assert (found.reasoning, found.record.outputs()) == ("it is so", {"summary": "short"})


@pytest.mark.parametrize("reasoning", [None, "", "  "])
def test_reasoning_that_says_nothing_is_none(reasoning):
    program = compile_program(Summary, reasoning=True)
    assert answered(program, "a", {"reasoning": reasoning, "summary": "short"}).reasoning is None


def test_reasoning_is_shown_only_where_it_is_asked_for():
    example = {"text": "t", "summary": "ss", "reasoning": "because"}
    assert compile_program(Summary, examples=[example]).layout.examples[0].answer == '{"summary":"ss"}'
    own = {"text": "t", "label": "x", "reasoning": "because"}
    assert compile_program(Undecided, examples=[own]).layout.examples[0].answer == '{"reasoning":"because","label":"x"}'


# ── plain text ──


def test_plain_mode_takes_the_text_as_it_is():
    program = compile_program(Summary, examples=[Summary(text="t", summary="ss")], mode="plain")
    assert program.head("text").schema == {}
    assert program.head("text").messages[2] == {"role": "assistant", "content": "ss"}
    text = '```json\n{"not": "parsed"}\n```'
    assert answered(program, "a", f"\n{text} ").record.summary == text
    with pytest.raises(InvalidOutputError, match=r"does not fit Summary: summary: .* at least 2"):
        answered(program, "a", "x")


# ── one object ──


@pytest.mark.parametrize("kind", [Place, dict[str, Any], dict])
def test_an_object_that_is_the_only_output_may_come_without_its_name(kind):
    program = compile_program(Summary.with_fields(summary=(kind, OutputField())))
    named = answered(program, "a", {"summary": {"city": "Lyon"}})
    bare = answered(program, "a", {"city": "Lyon"})
    assert named.record.summary == bare.record.summary
    assert named.repairs == ()
    assert bare.repairs[0] == "taken as 'summary', which was not named"


# ── re-asking ──


@pytest.mark.parametrize("mode", ["tools", "json_schema", "json", "text"])
def test_only_the_last_failure_stays_in_the_conversation(mode):
    program = compile_program(Summary, mode=mode)
    first = program.render(program.validate("a"), SETTINGS)
    second = program.reask(first, Completion(text="no"), InvalidOutputError("reason one"), mode)
    third = program.reask(first, Completion(text="still no"), InvalidOutputError("reason two"), mode)
    assert second.messages[:-2] == first.messages
    assert third.messages[:-2] == first.messages
    assert "reason two" in third.messages[-1]["content"]
    assert "reason one" not in str(third.messages)
    assert third.messages[-2] == {"role": "assistant", "content": "still no"}
    assert len({first.key, second.key, third.key}) == 3


def test_plain_mode_asks_again_in_words():
    program = compile_program(Summary, mode="plain")
    first = program.render(program.validate("a"), SETTINGS)
    again = program.reask(first, Completion(text="x"), InvalidOutputError("too short"), "text")
    assert [message["role"] for message in again.messages] == ["system", "user", "assistant", "user"]


def test_programs_of_equal_tasks_have_equal_keys():
    def key(signature=Triage, **options):
        program = compile_program(signature, **options)
        return program.render(program.validate("a"), SETTINGS).key

    example = Triage(message="a", quote="a", team="billing")
    other = Triage(message="a", quote="a", team="delivery")
    described = Triage.with_fields(quote=(str, OutputField(description="words")))
    keys = [
        key(),
        key(Triage.with_instructions("Route!")),
        key(described),
        key(examples=[example]),
        key(examples=[other]),
        key(examples=[example, other]),
        key(examples=[other, example]),
        key(prompt=Prompt(examples_role="user"), examples=[example]),
        key(prompt=Prompt(input_role="system")),
        key(mode="json"),
        key(mode="text"),
        key(mode="json_schema"),
        key(reasoning=True),
    ]
    assert len(set(keys)) == len(keys)
    assert key() == keys[0] == key(mode="tools")
    assert key(examples=(one for one in [example])) == keys[3]
