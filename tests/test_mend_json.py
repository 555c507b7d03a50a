from __future__ import annotations

import json
from typing import Any

import pytest
from effort import SOON, calls_of
from hypothesis import given
from hypothesis import strategies as st

from llmtasker.parser.loose_json import parse_loose_json
from llmtasker.parser.mend_json import MAX_MENDED, MAX_STEPS, Effort, NotMendableError, mend_json


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": 1,}', {"a": 1}),
        ("{a: 1, b: [true, None,],}", {"a": 1, "b": [True, None]}),
        ("{'nom': 'l\\'été', 'ok': True}", {"nom": "l'été", "ok": True}),
        ('{"a": "x" "b": "y"}', {"a": "x", "b": "y"}),
        ('{"a": true"b": 1.50"c": "2"}', {"a": True, "b": 1.5, "c": "2"}),
        ('{"a": "he said "yes" to me"}', {"a": 'he said "yes" to me'}),
        ('{"a": "size 5\\" wide",}', {"a": 'size 5" wide'}),
        ('{"a": "first\nsecond"}', {"a": "first\nsecond"}),
        ('{ // the answer\n"a": 1, /* and */ "b": 2}', {"a": 1, "b": 2}),
        ("{'url': 'https://example.org/x', 'n': 1}", {"url": "https://example.org/x", "n": 1}),
        ('{"a": [], "b": {},}', {"a": [], "b": {}}),
        ('{"a": "caf\\u00e9",}', {"a": "café"}),
        ('{"a": [{}\n{}]}', {"a": [{}, {}]}),
        ('[{"a": 1}{"a": 2}]', [{"a": 1}, {"a": 2}]),
        ('{"paid" true, "total"-2.5}', {"paid": True, "total": -2.5}),
        ('{"a": {"b,": "c", "d" 1}, "e": "f, "}', {"a": {"b,": "c", "d": 1}, "e": "f, "}),
        (
            '{"point": (1, -2.5), "names": ("Ann", "l\'été"), "nested": ((1, 2), (3,))}',
            {"point": [1, -2.5], "names": ["Ann", "l'été"], "nested": [[1, 2], [3]]},
        ),
        ('{"a": "(1, 2)", "b": "x, \\"y\\" 2",}', {"a": "(1, 2)", "b": 'x, "y" 2'}),
        ('{"a": "wide, "x" 24, y", "b": 1}', {"a": 'wide, "x" 24, y', "b": 1}),
        ("{'page': 'one\ftwo\rthree'}", {"page": "one\ftwo\rthree"}),
        ('{"a"："x，y"，"b"：3}', {"a": "x，y", "b": 3}),
        ("{`a´:`b´}", {"a": "b"}),
        ("{“a”: “b”, “c”: [1]}", {"a": "b", "c": [1]}),
        ("{“a”: “it’s”, ‘b’: ‘l’été’}", {"a": "it’s", "b": "l’été"}),
        ('"a 24" screen"', 'a 24" screen'),
        ('{"a": $3, "b": **4**, "c": 1_000, "d": (5), "e": +6}', {"a": 3, "b": 4, "c": 1000, "d": 5, "e": 6}),
        ("{&quot;a&quot;: &quot;x &amp;amp; y&quot;}", {"a": "x &amp; y"}),
        ('{{"a": {"b": 1}}}', {"a": {"b": 1}}),
        ('{"a" [{"b": 1}], "c" {"d": 2}}', {"a": [{"b": 1}], "c": {"d": 2}}),
    ],
)
def test_mended(text: str, value: Any) -> None:
    mended, notes = mend_json(text)
    assert mended == value
    assert notes
    assert all(note.startswith("fixed JSON: ") for note in notes)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"a": , "b": 2}', "missing"),
        ('{"a": -}', "missing"),
        ('{"a": [1, 2, ...]}', "left out"),
        ('{"a": 1, …}', "left out"),
        ('{"a": NaN,}', "NaN"),
        ('{"a": [-Infinity],}', "Infinity"),
        ('{"a": 1e999,}', "out of range"),
        ('{"a": 1, "a": 2}', "change its words"),
        ('{"a": 007}', "change its words"),
        ('{"a": true, SOMETHING "b": 1}', "change its words"),
        ('{"a":"b,c,"d":"e"}', "strings begin"),
        ('{"a": "x" true}', "change its words"),
        ('["a, "b"]', "strings begin"),
        ('["a"b", 1]', "strings begin"),
        ("{“a”: “1’, ‘b’: ‘2”}", "strings begin"),
        ("{‘a’: ‘x”, “b”: “2’}", "strings begin"),
        ("[“a’, “b”]", "strings begin"),
        ("{“a”: “1’}", "strings begin|words"),
        ("{`l´été´:`b´}", "strings begin|made up|sign"),
        ('{"a": −3}', "sign"),
        ('{"a": –3, "b": 1}', "sign"),
        ("{'a': ~3}", "sign"),
        ("{a: >3}", "sign"),
        ('{"a": ≥ 3}', "sign"),
        ('{"a": 3%}', "sign"),
        ('{"phone": +33612345678}', "sign"),
        ('{"a": 3+}', "sign"),
        ('{"a": 3?}', "sign"),
        ('{"a": (3}', "sign"),
        ('{"a": !true}', "sign"),
        ('{"a": -true}', "sign"),
        ('{"a": ~b}', "sign"),
        ('{"a": <b>}', "sign"),
        ('{"a": (b)}', "sign"),
        ('{"a": $b, "c": _d_}', "sign"),
        ('{"a": «b»}', "sign"),
        ('{"a": [• b]}', "sign"),
        ('{"a": "x\\u00g1",}', "escapes"),
        ('{"a": "x\\\ny",}', "escapes"),
        ("{'a': 'b' + 'c'}", "strings begin"),
        ('{"a": [\nb\nc\n]}', "strings begin"),
        ('{"a": undefined}', "undefined"),
        ("{«a»:«b»,«c»:3}", "made up|sign"),
        ("{「a」:「b」,「c」:3}", "made up|sign"),
        ('{"a" - [{"b": 1}]}', "change its words|made up|strings begin"),
        ('{"a": "b"{}', "lose brackets"),
        ("no JSON", "change its words"),
        ('{"a": "' + "x" * 60_000 + '",}', "too many"),
        ('{"a": ' + "{true)" * 3_000 + "}", "tangled"),
        ('{"a": 1, ' + "/* " * 5_000 + "}", "never end"),
        ("[" * 2_000, "json-repair fails"),
    ],
)
@SOON
def test_not_mended(text: str, reason: str) -> None:
    def mend() -> None:
        with pytest.raises(NotMendableError, match=reason):
            mend_json(text)

    assert len(calls_of(mend)) < 20 * MAX_STEPS


def test_the_pieces_of_an_answer_share_one_effort() -> None:
    text = '{"a": [' + '"it is" "late", ' * 40 + "]}"  # only json-repair can mend it
    effort = Effort()
    for _ in range(3):
        assert mend_json(text, effort)[0] == {"a": ["it is", "late"] * 40}
    effort.characters = len(text) - 1
    with pytest.raises(NotMendableError, match="too many"):
        mend_json(text, effort)
    effort.characters, effort.steps = MAX_MENDED, 100
    with pytest.raises(NotMendableError, match="tangled"):
        mend_json(text, effort)
    assert mend_json(text)[0]


def test_a_text_too_long_to_mend_leaves_the_effort_to_others() -> None:
    effort = Effort()
    with pytest.raises(NotMendableError, match="too many"):
        mend_json("{'a': '" + "x" * MAX_MENDED + "'}", effort)
    assert mend_json("{'a': 1}", effort)[0] == {"a": 1}


def test_a_line_break_before_the_closing_quote_is_layout() -> None:
    assert mend_json('{"a": "one\ntwo\n", "b": "x"}')[0] == {"a": "one\ntwo", "b": "x"}


def test_many_flaws_are_summed_up() -> None:
    value, notes = mend_json('{a: b c, "f": "g" "h": i, j: [\'k\' l, m], n: (1, 2), // x\n o: "p "q" r",}')
    assert value["o"] == 'p "q" r'
    assert len(notes) == 6
    assert notes[-1].endswith("more")


def test_a_bracket_too_many_is_not_a_loss() -> None:
    assert mend_json('{"a": "x"}, "b": "y"}')[0] == {"a": "x", "b": "y"}


words = st.text("abcdé 0123456789.,'-", max_size=12)
flat = st.dictionaries(st.sampled_from(["name", "city", "note"]), words | st.integers() | st.booleans(), min_size=1)


@given(flat, st.sampled_from(["trailing comma", "single quotes", "no commas", "comment"]))
def test_a_mended_value_is_the_one_that_was_broken(value: dict[str, Any], flaw: str) -> None:
    text = json.dumps(value, ensure_ascii=False)
    if flaw == "trailing comma":
        text = text[:-1] + ",}"
    elif flaw == "single quotes":
        text = repr(value)
    elif flaw == "no commas":
        text = "{" + " ".join(f"{json.dumps(k)}: {json.dumps(v, ensure_ascii=False)}" for k, v in value.items()) + "}"
    else:
        text = "{ // so\n" + text[1:]
    try:
        mended, _ = mend_json(text)
    except NotMendableError:
        return
    assert _squeezed(mended) == _squeezed(value)


def _squeezed(value: dict[str, Any]) -> dict[str, Any]:
    return {key: " ".join(item.split()) if isinstance(item, str) else item for key, item in value.items()}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{'name': 'l'été'}", {"name": "l'été"}),
        ("{'name': 'd'accord', 'of': 'it's'}", {"name": "d'accord", "of": "it's"}),
        ("{'name': 'rock 'n' roll'}", {"name": "rock 'n' roll"}),
        ("{'name': '\"so\"', 'none': None}", {"name": '"so"', "none": None}),
        ("['aujourd'hui', \"l'an\"]", ["aujourd'hui", "l'an"]),
    ],
)
def test_an_apostrophe_in_single_quotes_is_kept_and_no_quote_is_gained(text: str, value: Any) -> None:
    assert mend_json(text)[0] == value


@given(
    st.dictionaries(st.sampled_from(["name", "note"]), st.text("abé' .", min_size=1, max_size=12), min_size=1),
    st.sampled_from(["", ","]),
)
def test_a_dict_in_single_quotes_is_read_right_or_refused(value: dict[str, str], comma: str) -> None:
    text = "{" + ", ".join(f"'{key}': '{part}'" for key, part in value.items()) + comma + "}"
    try:
        mended, _ = mend_json(text)
    except NotMendableError:
        return
    assert mended == value


def test_a_quote_that_is_added_does_not_become_text() -> None:
    with pytest.raises(NotMendableError):
        mend_json('{"tool": "a 3/8" ratchet, chromed.", "n": 1}')


def test_the_usual_slips_of_hundreds_of_objects_need_no_json_repair() -> None:
    rows = [{"id": number, "team": "billing", "note": "it's late"} for number in range(400)]
    effort = Effort()
    for text in (repr(rows), json.dumps(rows)[:-1] + ",]", json.dumps(rows).replace('"team"', "team")):
        assert mend_json(text, effort)[0] == rows
        effort.characters = MAX_MENDED
    assert effort.steps == Effort().steps


@pytest.mark.parametrize("part", ['"\\', '\\"', "(,", "(a,", '{"a" 1 ', '{"a" ', "}{"])
@pytest.mark.parametrize("front", ["{", '{"', "("])
@SOON
def test_thousands_of_the_same_slip_take_no_longer_than_other_texts(front: str, part: str) -> None:
    parse_loose_json((front + part * 200_000)[:200_000])  # minutes where each quote is tried up to the end


@pytest.mark.parametrize("text", ["``", '"a", b"', '"a" : b"'])
def test_the_beginning_of_a_code_fence_or_of_a_second_string_is_not_a_string(text: str) -> None:
    assert parse_loose_json(text) is None
