"""Function calls: as an endpoint returns them, and written in a text in the notation of an LLM's template."""

from __future__ import annotations

import json
from typing import Any, Literal

import pytest
from pydantic import BaseModel

from llmtasker.errors import InvalidOutputError
from llmtasker.parser.answer_schema import AnswerSchema
from llmtasker.parser.calls import is_offered, one_call, written_calls
from llmtasker.parser.read import read


class Sort(BaseModel):
    bin: Literal["paper", "glass", "other"]
    why: str = ""
    weight: int = 0


GLASS = {"bin": "glass", "why": 'it says "verre"', "weight": 3}
TEXT = json.dumps(GLASS)
SCHEMA = AnswerSchema.of(Sort, function="Sort")


def sorted_as(text: str) -> dict[str, Any]:
    return read(text, SCHEMA, Sort.model_validate).value.model_dump()


NOTATIONS = [
    '<tool_call>\n{"name": "NAME", "arguments": ARGS}\n</tool_call>',
    '<tool_call>[{"name": "NAME", "arguments": ARGS}]</tool_call>',
    "<function=NAME>ARGS</function>",
    '[TOOL_CALLS][{"name": "NAME", "arguments": ARGS}]',
    "[TOOL_CALLS]NAME[ARGS]ARGUMENTS</s>",
    '<|python_tag|>{"name": "NAME", "parameters": ARGS}<|eom_id|>',
    "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>NAME\n```json\nARGS\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
    "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>NAME<｜tool▁sep｜>ARGS<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
    (
        "<|tool_calls_section_begin|><|tool_call_begin|>functions.NAME:0<|tool_call_argument_begin|>ARGS<|tool_call_end|>"
        "<|tool_calls_section_end|>"
    ),
    (
        "<|channel|>analysis<|message|>Paper?<|end|><|start|>assistant<|channel|>commentary to=functions.NAME "
        "<|constrain|>json<|message|>ARGS<|call|>"
    ),
    "<|start|>assistant to=functions.NAME<|channel|>commentary json<|message|>ARGS<|call|>",
    '<|START_ACTION|>[{"tool_call_id": "0", "tool_name": "NAME", "parameters": ARGS}]<|END_ACTION|>',
    "Thought: it is glass.\nAction: NAME\nAction Input: ARGS\nObservation: none",
    '{"name": "NAME", "arguments": ARGS}',
    '{"name": "functions.NAME", "parameters": ARGS}',
    '{"function": "NAME", "arguments": ARGS}',
    '{"function": {"name": "NAME", "arguments": ARGS}, "type": "function", "id": "c1"}',
    '{"tool": "NAME", "parameters": ARGS}',
    '{"action": "NAME", "action_input": ARGS}',
    '{"recipient_name": "functions.NAME", "parameters": ARGS}',
    '{"tool_uses": [{"recipient_name": "functions.NAME", "parameters": ARGS}]}',
    '{"function_call": {"name": "NAME", "arguments": ARGS}}',
    '{"tool_calls": [{"id": "c1", "type": "function", "function": {"name": "NAME", "arguments": ARGS}}]}',
    '[{"name": "NAME", "arguments": ARGS}]',
]


def written(notation: str, name: str, arguments: str) -> str:
    return notation.replace("NAME", name).replace("ARGUMENTS", arguments).replace("ARGS}", arguments + "}").replace(
        "ARGS<", arguments + "<"
    ).replace("ARGS\n", arguments + "\n")  # fmt: skip


@pytest.mark.parametrize("notation", NOTATIONS)
def test_a_call_that_is_written_in_a_text(notation: str) -> None:
    assert sorted_as(written(notation, "Sort", TEXT)) == GLASS
    with pytest.raises(InvalidOutputError, match="was called, which was not offered"):
        sorted_as(written(notation, "Search", TEXT))


@pytest.mark.parametrize("notation", [n for n in NOTATIONS if n.startswith(("<tool_call>\n", "<function", "{"))])
def test_arguments_may_be_text_inside_json(notation: str) -> None:
    assert sorted_as(written(notation, "Sort", json.dumps(TEXT))) == GLASS


@pytest.mark.parametrize(
    "text",
    [
        "<tool_call>\n<function=Sort>\n<parameter=bin>\nglass\n</parameter>\n<parameter=weight>\n3\n</parameter>\n</function>",
        '<invoke name="Sort"><parameter name="bin">glass</parameter><parameter name="weight">3</parameter></invoke>',
        (
            "<tool_call>Sort\n<arg_key>bin</arg_key>\n<arg_value>glass</arg_value>\n<arg_key>weight</arg_key>\n"
            "<arg_value>3</arg_value>\n</tool_call>"
        ),
        "<tool_call>Sort<arg_key>bin</arg_key>glass</arg_value><arg_key>weight</arg_key>3</arg_value></tool_call>",
        '<|tool_call>call:Sort{bin:<|"|>glass<|"|>,weight:3}<tool_call|>',
        '[Sort(bin="glass", weight=3)]',
        "```tool_code\nprint(default_api.Sort(bin='glass', weight=3))\n```",
    ],
)
def test_a_call_whose_parameters_are_not_json(text: str) -> None:
    assert sorted_as(text) == {"bin": "glass", "why": "", "weight": 3}


@pytest.mark.parametrize("text", ["Sort(open('x'))", "Sort(bin=secret)", "Sort(" * 900])
def test_python_that_is_not_a_plain_call_is_not_read(text: str) -> None:
    with pytest.raises(InvalidOutputError):
        sorted_as(text)


PAPER = json.dumps({"bin": "paper"})
TURNED = json.dumps(dict(reversed(GLASS.items())))


@pytest.mark.parametrize(
    "text",
    [
        f"{TEXT}\n{TURNED}",
        f"{TEXT} {{}}",
        f"{{}} and {TEXT}",
        f"[{TEXT}, {TURNED}]",
        f"[{{}}, {TEXT}]",
        f"<function=Sort>{TEXT}</function><function=Sort>{TURNED}</function><function=Sort>{{}}</function>",
        f"{PAPER} No, wait: {TEXT}",
        f"{PAPER}. Correction: {TEXT}",
        f"First: {PAPER}\nThe final answer is {TEXT}",
        f"Brouillon :\n{PAPER}\nFinalement :\n{TEXT}",
        f"For example {PAPER}\nAnswer: {TEXT}",
    ],
)
def test_equal_answers_are_one_and_a_corrected_one_counts(text: str) -> None:
    assert sorted_as(text) == GLASS


@pytest.mark.parametrize(
    "text",
    [
        f"{PAPER}\n{TEXT}",
        f"{PAPER} or {TEXT}",
        f"One is {PAPER}, another is {TEXT}",
        f"{PAPER} then {TEXT}",
        f"[{PAPER}, {TEXT}]",
        "It is not [glass].",
        '["glass"]: false',
        f"<function=Sort>{PAPER}</function><function=Sort>{TEXT}</function>",
        (
            f'<tool_call>{{"name": "Sort", "arguments": {PAPER}}}</tool_call>'
            f'<tool_call>{{"name": "Sort", "arguments": {TEXT}}}</tool_call>'
        ),
        f'[{{"name": "Sort", "arguments": {PAPER}}}, {{"name": "Sort", "arguments": {TEXT}}}]',
    ],
)
def test_answers_that_differ_are_an_error(text: str) -> None:
    with pytest.raises(InvalidOutputError):
        sorted_as(text)


@pytest.mark.parametrize(
    "name", ["Sort", "functions.Sort", "sort", "Sort:0", "default_api.Sort", "Sort<|channel|>x", ""]
)
def test_known_decorations_of_a_name(name: str) -> None:
    assert is_offered(name, "Sort")


@pytest.mark.parametrize("name", ["Search", "Sort2", "unsort", "functions.Search", "Sort.Search"])
def test_other_names_are_not_offered(name: str) -> None:
    assert not is_offered(name, "Sort")


def test_the_schema_around_the_values() -> None:
    assert sorted_as(json.dumps({"type": "object", "properties": GLASS, "required": ["bin"]})) == GLASS
    assert sorted_as(json.dumps({"title": "Sort", "properties": GLASS})) == GLASS


@pytest.mark.parametrize(
    "text",
    [
        'Search({"team": "billing"})',
        "[Search(team='billing')]",
        "Search(team='billing')",
        '```python\nSearch(q="Route")\n```',
    ],
)
def test_a_function_that_was_not_offered_is_an_error_in_text_too(text: str) -> None:
    calls = written_calls(text, "Route")
    with pytest.raises(InvalidOutputError, match="'Search' was called, which was not offered"):
        one_call(calls, "Route")


@pytest.mark.parametrize(
    "text", ['print({"team": "billing"})', 'callback({"team": "billing"});', 'JSON.parse({"a": 1})']
)
def test_what_json_is_put_into_is_not_a_call(text: str) -> None:
    assert written_calls(text, "Route") == []


def test_of_a_first_and_a_second_answer_none_is_taken() -> None:
    other = json.dumps({**GLASS, "bin": "paper"})
    with pytest.raises(InvalidOutputError, match="several different answers"):
        sorted_as(f"First: {other}\nThen: {TEXT}")
    assert sorted_as(f"First draft: {other}\nThen: {TEXT}") == GLASS
