"""From a completion to a record: endings, strict models, answers in odd places."""

from __future__ import annotations

import datetime as dt
import enum
import json
from typing import Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field

from llmtasker import InputField, OutputField, Signature
from llmtasker.compiler.answer_parser import Answer, repeated_end
from llmtasker.compiler.program import compile_program
from llmtasker.errors import InvalidOutputError, OutputError, TruncatedError
from llmtasker.wire.completion import Completion, ToolCall


class Ward(enum.Enum):
    NORTH = "north"
    SOUTH = "south"


class Visit(Signature):
    """Take down the visit."""

    note: str = InputField()
    ward: Ward = OutputField()
    day: dt.date = OutputField()


class Named(BaseModel):
    name: str


class Aged(BaseModel):
    name: str
    age: int = Field(default=0, ge=0)


class Met(Signature):
    """Take down who was met."""

    note: str = InputField()
    who: Named | Aged = OutputField()


class StrictVisit(Visit):
    """Take down the visit."""

    model_config = ConfigDict(strict=True)


GOOD = {"ward": "north", "day": "2026-03-02"}
TEXT = json.dumps(GOOD)


def answered(signature: Any, given: Any = "a note", mode: Any = "auto", **completion: Any) -> Answer[Any]:
    program = compile_program(signature, mode=mode)
    if isinstance(completion.get("text"), dict):
        completion["text"] = json.dumps(completion["text"])
    return program.parse(Completion(**completion), program.validate(given))


@pytest.mark.parametrize("signature", [Visit, StrictVisit])
def test_a_strict_signature_reads_what_json_can_hold(signature: Any) -> None:
    record = answered(signature, text=GOOD).record
    assert (record.ward, record.day) == (Ward.NORTH, dt.date(2026, 3, 2))
    with pytest.raises(InvalidOutputError, match="day: "):
        answered(signature, text={**GOOD, "day": 20260302})


@pytest.mark.parametrize(
    "reason",
    [
        "error",
        "abort",
        "ERROR",
        "network_error",
        "cancelled",
        "malformed_function_call",
        "engine_overloaded",
        "UNEXPECTED_TOOL_CALL",
        "pause_turn",
    ],
)
def test_an_answer_that_the_endpoint_broke_off_is_not_accepted(reason: str) -> None:
    with pytest.raises(TruncatedError, match="broke off"):
        answered(Visit, text=TEXT, finish_reason=reason)


def test_a_loop_is_not_a_text_that_is_too_long() -> None:
    with pytest.raises(TruncatedError, match=r"repeated 'so late.' .*max_tokens would not help"):
        answered(Visit, text='{"ward": "It is so late. ' + "so late. " * 200, finish_reason="length")
    with pytest.raises(TruncatedError, match="raise max_tokens"):
        answered(Visit, text=" ".join(map(str, range(500))), finish_reason="length")
    assert repeated_end("0" * 1000) == "0"
    assert repeated_end("so late. " * 5) is None


@pytest.mark.parametrize("age", ["abc", -1, 2.5, None, True])
def test_a_value_that_does_not_fit_is_not_lost_in_another_type_of_a_union(age: Any) -> None:
    """Pydantic alone would choose `Named`, which drops the age."""
    assert answered(Met, text={"who": {"name": "Ann", "age": 7}}).record.who == Aged(name="Ann", age=7)
    with pytest.raises(InvalidOutputError, match="who"):
        answered(Met, text={"who": {"name": "Ann", "age": age}})


@pytest.mark.parametrize(
    "completion",
    [
        Completion(text='{"ward": "south", "day": "2026-03-02"}', tool_calls=(ToolCall(name="Visit", arguments=TEXT),)),
        Completion(text="ward: north\nday: 2026-03-0"),
        Completion(text="<function=Visit><parameter=ward>north</parameter><parameter=day>2026-03-0"),
        Completion(text=f"Example: {TEXT}", finish_reason="stop"),
    ],
)
def test_what_is_contradicted_may_be_cut_or_is_an_example_is_not_an_answer(completion: Completion) -> None:
    program = compile_program(Visit)
    with pytest.raises(OutputError):
        program.parse(completion, program.validate("a note"))


@pytest.mark.parametrize(
    "completion",
    [
        Completion(text="", reasoning=f"\n{TEXT}"),
        Completion(reasoning=f"```json\n{TEXT}\n```", finish_reason="stop"),
        Completion(text=TEXT, tool_calls=(ToolCall(name="Visit", arguments="{}"),)),
        Completion(text=f"Here: {TEXT}", tool_calls=(ToolCall(name="Visit", arguments=""),)),
        Completion(tool_calls=(ToolCall(name="functions.Visit", arguments=TEXT),)),
        Completion(tool_calls=(ToolCall(name="Visit", arguments=TEXT), ToolCall(name="Visit", arguments="{}"))),
        Completion(text=TEXT[:-1] + "<|im_end|>", finish_reason="stop"),
        Completion(text=f"<function=Visit>{TEXT}</function>"),
    ],
)
def test_the_answer_in_an_odd_place(completion: Completion) -> None:
    program = compile_program(Visit)
    assert program.parse(completion, program.validate("a note")).record.ward is Ward.NORTH


def test_reasoning_before_json_is_kept() -> None:
    assert "easy" in (answered(Visit, text=f"<think>easy</think>{TEXT}").reasoning or "")


class Translation(Signature):
    """Translate."""

    source: str = InputField()
    target: str = OutputField()


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("[THINK]a greeting[/THINK]Good evening", "Good evening"),
        ("Good evening<|im_end|>", "Good evening"),
        ('{"a": 1}', '{"a": 1}'),
    ],
)
def test_plain_texts_go_through_the_same_front_end(text: str, target: str) -> None:
    assert answered(Translation, mode="plain", text=text).record.target == target


@pytest.mark.parametrize(
    "text", ["[TOOL_CALLS][]", "<|python_tag|>say()", '<tool_call>{"name": "x"}</tool_call>', "<|mystery|>Good", ""]
)
def test_a_call_or_an_unknown_mark_is_not_a_text(text: str) -> None:
    with pytest.raises(OutputError):
        answered(Translation, mode="plain", text=text)


def test_marks_of_the_input_are_text() -> None:
    said = "The mark <|im_end|>"
    assert answered(Translation, given="What is <|im_end|>?", mode="plain", text=said).record.target == said


class Due(Signature):
    """When is it due?"""

    note: str = InputField()
    day: dt.date = OutputField()


def test_a_lone_value_that_no_prose_looks_like_needs_no_json() -> None:
    assert answered(Due, text="2026-03-02", finish_reason="stop").record.day == dt.date(2026, 3, 2)
    for text, finish in (("on 2026-03-02", "stop"), ("2026", "stop"), ("I can't say", "stop"), ("2026-03-02", None)):
        with pytest.raises(OutputError):
            answered(Due, text=text, finish_reason=finish)


class Verdict(Signature):
    """Judge."""

    claim: str = InputField()
    verdict: Literal["true", "false"] = OutputField()


@pytest.mark.parametrize("text", ["true", "True", '{"verdict": true}', "Answer: true", "**True**", '"true"', "[true]"])
def test_labels_that_are_json(text: str) -> None:
    assert answered(Verdict, text=text).record.verdict == "true"


@pytest.mark.parametrize(("mode", "repairs"), [("text", ()), ("json", ("taken from a code block",))])
def test_a_code_fence_is_a_repair_only_where_the_prompt_does_not_ask_for_it(mode: Any, repairs: Any) -> None:
    answer = answered(Visit, mode=mode, text=f"```json\n{TEXT}\n```", finish_reason="stop")
    assert (answer.record.ward, answer.repairs) == (Ward.NORTH, repairs)
