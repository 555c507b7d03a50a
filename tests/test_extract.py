from __future__ import annotations

import json

import pytest
from effort import SOON, calls_of
from hypothesis import given
from hypothesis import strategies as st

from llmtasker.parser.extract import (
    MAX_DEPTH,
    MAX_MARKS,
    MAX_PIECES,
    TooComplexError,
    fenced,
    open_brackets,
    pieces,
)
from llmtasker.parser.marks import after_reasoning
from llmtasker.values.json_values import NotStrictError, parse_json

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(json_values)
def test_parse_reads_what_json_writes(value: object) -> None:
    assert parse_json(json.dumps(value)) == value


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1, "a": 2}',
        '{"a": 1, "a": true}',
        '[{"b": {"a": 1, "a": null}}]',
        "NaN",
        "[-Infinity]",
        "1e999",
        "[-1e400]",
    ],
)
def test_parse_refuses_what_is_not_to_be_trusted(text: str) -> None:
    with pytest.raises(NotStrictError):
        parse_json(text)


def test_parse_takes_a_key_twice_with_the_same_value() -> None:
    assert parse_json('{"a": [1], "a": [1]}') == {"a": [1]}


def test_parse_refuses_integers_of_thousands_of_digits() -> None:
    with pytest.raises(ValueError, match="digits"):
        parse_json("9" * 5000)


def test_parse_takes_raw_line_breaks_only_if_asked() -> None:
    with pytest.raises(ValueError, match="control character"):
        parse_json('"a\nb"')
    assert parse_json('"a\nb"', raw_controls=True) == "a\nb"


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("<think>one or two?</think>\ntwo", "\ntwo"),
        ("  <Thinking>{}</thinking>{}", "{}"),
        ("<think>a</think><think>b</think>c", "c"),
        ("no tag opened it {1} </think> c", " c"),
        ("first idea: {1} </think> then {2}", " then {2}"),
        ('{"a": "the tag </think> ends it"}', '{"a": "the tag </think> ends it"}'),
        ("nothing here", "nothing here"),
        ("<think>never ends", None),
        ("<think></think><think>still thinking {}", None),
    ],
)
def test_reasoning_is_not_an_answer(text: str, rest: str | None) -> None:
    assert after_reasoning(text) == rest


def test_fenced_contents() -> None:
    assert fenced("a\n```json\n{}\n```\nb\n~~~\nx\n~~~\n```\nopen") == ["{}\n", "x\n"]


def strict(text: str) -> list[object]:
    return [piece.value for piece in pieces(text) if piece.parsed]


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ('Voici : {"a": 1}. Bonne journée !', [{"a": 1}]),
        ("[1] and [2]", [[1], [2]]),
        ('{"a": "}"} {"b": "[{"}', [{"a": "}"}, {"b": "[{"}]),
        ('{"a": "```x```"}', [{"a": "```x```"}]),
        ("use {braces} for {this: [1]}", []),
        ('a ] stray } then {"a": 1}}', [{"a": 1}]),
        ("a smile :-{ is no JSON [1]", [[1]]),
        ('{"a": 1}, "b": 2}', []),
        ('{"a": 1}, "b" 2}', []),
        ("", []),
    ],
)
def test_strict_pieces(text: str, values: list[object]) -> None:
    assert strict(text) == values


@given(
    json_values.filter(lambda value: isinstance(value, dict | list)), st.text("abc .,:!?\n'"), st.text("abc .,:!\n'")
)
def test_json_is_found_in_any_prose(value: object, before: str, after: str) -> None:
    assert strict(f"{before} {json.dumps(value)} so {after}") == [value]


@pytest.mark.parametrize(
    ("text", "closed", "fenced_in"),
    [
        ('{"a": 1,}', True, False),
        ('{"a": "he said "yes" to me"}', True, False),
        ("{'a': 'x}', 'b': [1}", True, False),
        ('{"a": 1', False, False),
        ('{"a": "x}', False, False),
        ('{"a": {"b": 1}', False, False),
        ('```\n{"a": 1\n```', False, True),
        ('{"a": 1]', False, False),
        ("{", False, False),
    ],
)
def test_broken_pieces_are_closed_or_not(text: str, closed: bool, fenced_in: bool) -> None:
    (piece,) = pieces(text)
    assert (piece.parsed, piece.closed, piece.fenced) == (False, closed, fenced_in)


def test_a_broken_piece_ends_where_its_bracket_closes() -> None:
    (piece,) = pieces('Here: {"a": 1,} Done.')
    assert piece.text == '{"a": 1,}'


@pytest.mark.parametrize("text", ['{"a": NaN}', '{"a": 1, "a": 2}', f'{{"a": {"9" * 5000}}}'])
def test_a_piece_with_a_flaw_reports_it(text: str) -> None:
    (piece,) = pieces(text)
    assert piece.flaw
    assert not piece.parsed


@pytest.mark.parametrize(
    ("text", "closers"),
    [('{"a": [1', "]}"), ('{"a": "x"', "}"), ('{"a": "x', None), ("[1]", ""), ("1]", None), ("[{]", None)],
)
def test_open_brackets(text: str, closers: str | None) -> None:
    assert open_brackets(text) == closers


def test_open_brackets_has_a_limit() -> None:
    assert open_brackets("[" * (MAX_DEPTH + 1)) is None


@pytest.mark.parametrize(
    "text",
    [
        "[" * 9_000,
        "{" * 20_000,
        "[" * 5_000 + "]" * 5_000,
        "{x} " * (MAX_PIECES + 1),
        '{x "" ' * 150 + '""' * 100_000,
        "{ x '" * 40_000,
    ],
)
@SOON
def test_hostile_texts_are_given_up_soon(text: str) -> None:
    def search() -> None:
        with pytest.raises(TooComplexError):
            list(pieces(text))

    assert len(calls_of(search)) < 8 * MAX_MARKS
