"""{variable} substitution: variables, texts that stay, and inserted values that are not parsed again."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmtasker import ConfigurationError
from llmtasker.compiler.template import Template, Variable

KNOWN = {"text", "classes", "été"}


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", ()),
        ("no variable", ("no variable",)),
        ("{text}", (Variable("text"),)),
        ("a{text}b{classes}", ("a", Variable("text"), "b", Variable("classes"))),
        ("{text}{text}", (Variable("text"), Variable("text"))),
        ("{été}", (Variable("été"),)),
        # a literal name between braces
        ("{{text}}", ("{text}",)),
        ("{{unknown}}", ("{unknown}",)),
        # braces that are not a variable stay as they are
        *(
            (text, (text,))
            for text in (
                '{"label": "…"}',
                '{"a": {"b": 1}}',
                "{}",
                "{ text }",
                "{0}",
                "{text.__class__}",
                "{text!r}",
                "{text:>10}",
                "{text[0]}",
                "{{7*7}}",
                "{% if text %}",
                "{{ other }}",
                "{text",
                "text}",
                "{te xt}",
                "{te-xt}",
                "\\frac{1}{2}",
            )
        ),
    ],
)
def test_what_is_a_variable_and_what_stays(text, parts):
    assert Template.parse(text, KNOWN).parts == parts


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{txet}", "{txet}, which is unknown. Did you mean {text}? Known: {classes}, {text}, {été}."),
        ("{label}", "Pass others as variables={'label': …}; for the text {label} itself write {{label}}."),
        ("{{ text }}", "'{{ text }}' in the instructions is not a variable: write {text}."),
        ("{{ text | upper }}", "is not a variable: write {text}."),
    ],
)
def test_an_unknown_variable_is_refused_with_a_way_out(text, words):
    with pytest.raises(ConfigurationError, match=re.escape(words)):
        Template.parse(text, KNOWN)


def test_no_suggestion_where_nothing_is_near():
    with pytest.raises(ConfigurationError) as caught:
        Template.parse("{zzz}", KNOWN)
    assert "Did you mean" not in str(caught.value)


def test_names_in_order_of_first_appearance():
    assert Template.parse("{text} {classes} {text}", KNOWN).names == ("text", "classes")


def test_filling_in_steps_gives_the_same_text():
    template = Template.parse("<{text}{classes}>{text}", KNOWN)
    half = template.fill({"classes": "{text}"})
    assert half.parts == ("<", Variable("text"), "{text}>", Variable("text"))
    assert half.fill({"text": "a"}).parts == ("<a{text}>a",)
    assert half.render({"text": "a"}) == template.render({"text": "a", "classes": "{text}"}) == "<a{text}>a"


@given(st.text(), st.text())
def test_values_go_in_byte_for_byte(value, other):
    template = Template.parse("[{text}|{classes}]", KNOWN)
    assert template.render({"text": value, "classes": other}) == f"[{value}|{other}]"
    assert template.fill({"text": value}).fill({"classes": other}).parts == (f"[{value}|{other}]",)


@given(st.text(st.sampled_from('{}tex "0.')))
def test_any_text_is_parsed_or_refused_and_loses_nothing(text):
    try:
        template = Template.parse(text, {"text"})
    except ConfigurationError:
        assert re.search(r"\{\w+\}|\{\{\s+text", text)
        return
    shown = template.render({"text": "\0"})
    # Only the double braces around a name become single ones.
    assert len(shown) == len(text) - 5 * shown.count("\0") - 2 * len(re.findall(r"\{\{[^\W\d]\w*\}\}", text))
