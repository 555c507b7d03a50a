"""Output types ⇄ the requests that ask for them; and the facts about instructor that we rely on."""

import json
import logging
from enum import Enum, IntEnum
from importlib.metadata import version
from types import SimpleNamespace
from typing import Annotated, Any, Literal

import pytest
from pydantic import AliasPath, BaseModel, Field, create_model

from llmtasker.compiler.answer_model import (
    as_turn,
    group_model,
    labels_of,
    prepare,
    reask_messages,
    wire_model,
)
from llmtasker.errors import InvalidOutputError
from llmtasker.parser.calls import answer_text
from llmtasker.wire.completion import Completion, ToolCall
from llmtasker.wire.wording import WORDINGS

MODES = ["tools", "json_schema", "json", "text"]


class Team(Enum):
    BILLING = "billing"
    DELIVERY = "delivery"


class Sort(BaseModel):
    team: Team = Field(description="who takes it")
    urgent: bool = False


PARAMETERS = {
    "$defs": {"Team": {"enum": ["billing", "delivery"], "type": "string"}},
    "properties": {
        "team": {"anyOf": [{"$ref": "#/$defs/Team"}], "description": "who takes it"},
        "urgent": {"type": "boolean"},
    },
    "required": ["team", "urgent"],
    "type": "object",
    "additionalProperties": False,
}


def parameters(annotation=str, **field):
    model = create_model("Model", value=(annotation, Field(**field)))
    return prepare(wire_model(model), "tools").fields["tools"][0]["function"]


# ── what is asked for ──


@pytest.mark.parametrize("mode", ["tools", "json_schema"])
def test_fields_are_required_in_their_order(mode):
    model = create_model("Model", why=(str, ...), team=(Team, ...), amount=(int, ...))
    fields = prepare(wire_model(model), mode, keep=False).fields
    schema = (
        fields["tools"][0]["function"]["parameters"]
        if mode == "tools"
        else fields["response_format"]["json_schema"]["schema"]
    )
    assert schema["required"] == list(schema["properties"]) == ["why", "team", "amount"]


def test_tools_mode_offers_one_function_and_insists_on_it():
    fields = prepare(wire_model(Sort), "tools").fields
    assert fields["tool_choice"] == "required"
    assert fields["parallel_tool_calls"] is False
    (tool,) = fields["tools"]
    assert tool["type"] == "function"
    assert tool["function"]["name"] == "Sort"
    assert tool["function"]["strict"] is True
    assert tool["function"]["parameters"] == PARAMETERS
    assert fields.keys() == {"tools", "tool_choice", "parallel_tool_calls"}


def test_json_schema_mode_sends_the_schema_as_response_format():
    fields = prepare(wire_model(Sort), "json_schema").fields
    form = {"name": "Sort", "schema": PARAMETERS, "strict": True}
    assert fields == {"response_format": {"type": "json_schema", "json_schema": form}}


@pytest.mark.parametrize("mode", ["json", "text"])
def test_json_and_text_mode_tell_the_schema_in_words(mode):
    prepared = prepare(wire_model(Sort), mode)
    assert prepared.fields == ({"response_format": {"type": "json_object"}} if mode == "json" else {})
    start, end = prepared.note.index("{"), prepared.note.rindex("}") + 1
    assert json.loads(prepared.note[start:end]) == PARAMETERS
    assert ("```json" in prepared.note) is (mode == "text")
    assert not any(line.startswith(" ") for line in prepared.note[:start].splitlines())


@pytest.mark.parametrize("mode", MODES[:2])
def test_modes_with_a_schema_of_their_own_have_nothing_to_say(mode):
    assert prepare(wire_model(Sort), mode).note == ""


@pytest.mark.parametrize("mode", ["json", "text"])
def test_a_note_costs_few_tokens_besides_the_schema(mode):
    for wording in WORDINGS.values():
        words, _, schema = prepare(wire_model(Sort), mode, wording).note.partition("\n")
        assert len(words.split()) <= 14
        assert schema == json.dumps(json.loads(schema), ensure_ascii=False, separators=(",", ":"))


@pytest.mark.parametrize("mode", MODES)
def test_a_schema_is_prepared_without_traces_in_the_type(mode):
    model = wire_model(Sort)
    assert prepare(model, mode) == prepare(model, mode)
    assert Sort.model_json_schema()["title"] == "Sort"


class Node(BaseModel):
    title: str
    children: list["Node"] = []


class Cat(BaseModel):
    kind: Literal["cat"]


class Dog(BaseModel):
    kind: Literal["dog"]


@pytest.mark.parametrize(
    ("annotation", "schema"),
    [
        (str, {"type": "string"}),
        (str | None, {"anyOf": [{"type": "string"}, {"type": "null"}]}),
        (Literal["a", "b"], {"enum": ["a", "b"], "type": "string"}),
        (list[Literal["a"]], {"items": {"const": "a", "type": "string"}, "type": "array"}),
        (Annotated[int, Field(ge=0, le=9)], {"maximum": 9, "minimum": 0, "type": "integer"}),
        (Team, {"$ref": "#/$defs/Team"}),
        (list[Team], {"items": {"$ref": "#/$defs/Team"}, "type": "array"}),
        (Cat | Dog, {"anyOf": [{"$ref": "#/$defs/Cat"}, {"$ref": "#/$defs/Dog"}]}),
    ],
)
def test_what_strict_mode_can_say_is_strict(annotation, schema):
    function = parameters(annotation)
    assert function["strict"] is True
    assert function["parameters"]["properties"]["value"] == schema
    assert function["parameters"]["required"] == ["value"]


@pytest.mark.parametrize(
    "annotation",
    [
        dict[str, int],
        dict,
        Any,
        list[Any],
        list,
        set[str],
        tuple[int, str],
        Annotated[Cat | Dog, Field(discriminator="kind")],
        create_model("Free", __config__={"extra": "allow"}, a=str),
        create_model("Empty"),
        Literal["a"] | Annotated[dict[str, str], Field(description="or all")],
    ],
)
def test_what_strict_mode_cannot_say_is_not(annotation):
    function = parameters(annotation)
    assert "strict" not in function
    model = create_model("Model", value=(annotation, ...))
    assert "strict" not in json.dumps(prepare(wire_model(model), "json_schema").fields)


def test_defaults_stay_where_the_schema_is_not_strict():
    class Loose(BaseModel):
        notes: dict[str, str] = {}
        urgent: bool = False

    schema = prepare(wire_model(Loose), "tools").fields["tools"][0]["function"]["parameters"]
    assert schema["properties"]["urgent"] == {"type": "boolean", "default": False}
    assert not schema["required"]


def test_titles_go_but_a_field_of_that_name_stays():
    schema = prepare(wire_model(create_model("Tree", root=Node)), "tools").fields["tools"][0]["function"]["parameters"]
    assert schema["$defs"]["Node"] == {
        "properties": {
            "title": {"type": "string"},
            "children": {"items": {"$ref": "#/$defs/Node"}, "type": "array"},
        },
        "required": ["title", "children"],
        "type": "object",
        "additionalProperties": False,
    }


def test_words_inside_values_are_left_alone():
    schema = parameters(Literal["title", "default"], description="a title", examples=["title"])["parameters"]
    assert schema["properties"]["value"] == {
        "description": "a title",
        "examples": ["title"],
        "enum": ["title", "default"],
        "type": "string",
    }


def test_reasoning_comes_first():
    model = wire_model(Sort, reasoning="Think.")
    assert list(model.model_fields) == ["reasoning", "team", "urgent"]
    assert model.model_json_schema()["properties"]["reasoning"]["description"] == "Think."


def test_descriptions_can_be_replaced():
    model = wire_model(Sort, descriptions={"team": "- billing: money"})
    assert model.model_json_schema()["properties"]["team"]["description"] == "- billing: money"
    assert Sort.model_fields["team"].description == "who takes it"
    nested = group_model(model, WORDINGS["en"]).model_json_schema()["$defs"]["SortAnswer"]
    assert nested["properties"]["team"]["description"] == "- billing: money"
    named = create_model("Named", team=(str, Field(alias="Équipe")))
    properties = wire_model(named, descriptions={"team": "who"}).model_json_schema()["properties"]
    assert properties == {"Équipe": {"description": "who", "type": "string"}}


@pytest.mark.parametrize(
    ("name", "wire"), [("Triage", "Triage"), ("mon tri à moi", "mon_tri___moi"), ("x" * 90, "x" * 64)]
)
def test_the_name_of_the_function_is_one_that_endpoints_take(name, wire):
    assert wire_model(create_model(name, a=str)).__name__ == wire


def test_a_group_asks_for_id_and_anchor_before_each_answer():
    schema = group_model(wire_model(Sort), WORDINGS["en"]).model_json_schema()
    assert list(schema["$defs"]["SortAnswer"]["properties"]) == ["id", "anchor", "team", "urgent"]
    assert schema["$defs"]["SortAnswer"]["properties"]["anchor"]["description"] == WORDINGS["en"].anchor
    assert schema["properties"]["answers"]["items"] == {"$ref": "#/$defs/SortAnswer"}


# ── labels ──


class Level(IntEnum):
    LOW = 1
    HIGH = 2


@pytest.mark.parametrize(
    ("annotation", "labels"),
    [
        (Literal["a", "b"], ["a", "b"]),
        (Literal["a"], ["a"]),
        (Literal["a", "b"] | None, ["a", "b"]),
        (Literal["a", None], ["a"]),
        (Literal[1, 2], ["1", "2"]),
        (Literal[True, False], ["true", "false"]),
        (Team, ["billing", "delivery"]),
        (Team | None, ["billing", "delivery"]),
        (Level, ["1", "2"]),
        (list[Team], ["billing", "delivery"]),
        (set[Literal["é", "日"]], ["é", "日"]),
        (Literal["a"] | Literal["b"], ["a", "b"]),
        (str, None),
        (list[str], None),
        (dict[Literal["a"], str], None),
        (Cat, None),
    ],
)
def test_the_labels_of_a_closed_set(annotation, labels):
    found = labels_of(create_model("Model", value=(annotation, ...)))
    assert found == ({} if labels is None else {"value": labels})


@pytest.mark.parametrize("alias", ["Equipe", AliasPath("Equipe", 0)])
def test_labels_are_listed_by_field_whatever_its_alias(alias):
    assert labels_of(create_model("Model", team=(Literal["a"], Field(validation_alias=alias)))) == {"team": ["a"]}


# ── answers ──

ALONE = "taken from the reasoning, which was only the answer"


def called(*arguments, name="Sort", text=None):
    return Completion(text=text, tool_calls=tuple(ToolCall(name=name, arguments=one, id="c1") for one in arguments))


@pytest.mark.parametrize(
    ("mode", "completion", "text", "repairs"),
    [
        ("tools", called("{}"), "{}", ()),
        ("tools", called(""), "{}", ()),
        ("tools", called("{}", text="Let me think."), "{}", ()),
        ("tools", called("{}", name=""), "{}", ("the call names no function",)),
        ("tools", called("{}", "{}"), "{}", ("2 equal calls taken as one",)),
        ("tools", called("{}", '{"a":1}', ""), '{"a":1}', ()),
        ("tools", called('{"a":1,"b":2}', '{"b": 2, "a": 1}'), '{"a":1,"b":2}', ("2 equal calls taken as one",)),
        ("tools", called('{"a":1}', name="functions.Sort"), '{"a":1}', ()),
        ("json", Completion(text="", reasoning=' {"a":1}'), '{"a":1}', (ALONE,)),
        ("json", Completion(reasoning='```json\n{"a":1}\n```'), '```json\n{"a":1}\n```', (ALONE,)),
        ("tools", Completion(text="{}"), "{}", ("answered in text, not by a function call",)),
        ("json", called("{}"), "{}", ("answered by a function call, not in text",)),
        ("json", Completion(text=" {} "), " {} ", ()),
    ],
)
def test_the_text_of_an_answer(mode, completion, text, repairs):
    assert answer_text(mode, "Sort", completion) == (text, repairs)


@pytest.mark.parametrize(
    ("completion", "words"),
    [
        (Completion(), "empty"),
        (Completion(text=" \n"), "empty"),
        (Completion(text="", reasoning='perhaps {"a":1}?'), "empty"),
        (called("{}", name="Other"), "'Other' was called, which was not offered; 'Sort' was"),
        (called("{}", name="x" * 500), "not offered"),
        (called('{"a":2}', '{"a":1}'), "2 different calls"),
        (called('{"a":1}', '{"a":1,"b":2}', "{}"), "2 different calls"),
    ],
)
@pytest.mark.parametrize("mode", MODES)
def test_an_answer_that_is_not_one(mode, completion, words):
    with pytest.raises(InvalidOutputError) as caught:
        answer_text(mode, "Sort", completion)
    assert words in str(caught.value)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("mode", "answer", "shown"),
    [
        ("tools", '{"team":"billing"}', "billing"),
        ("tools", '{"team":"a {brace}"}', '{"team":"a {brace}"}'),
        ("tools", '{"team":" "}', '{"team":" "}'),
        ("tools", '{"team":["billing"]}', '{"team":["billing"]}'),
        ("tools", '{"team":null}', '{"team":null}'),
        ("tools", '{"score":4}', '{"score":4}'),
        ("tools", '{"team":"billing","score":4}', '{"team":"billing","score":4}'),
        ("tools", "{}", "{}"),
        ("text", '{"team":"billing"}', '```json\n{"team":"billing"}\n```'),
        ("json", '{"team":"billing"}', '{"team":"billing"}'),
        ("json_schema", '{"team":"billing"}', '{"team":"billing"}'),
    ],
)
def test_an_example_is_a_text_turn(mode, answer, shown):
    assert as_turn(mode, answer) == {"role": "assistant", "content": shown}


# ── re-asking ──


@pytest.mark.parametrize("id_", ["c1", ""])
def test_a_call_is_answered_with_the_reason(id_):
    completion = Completion(tool_calls=(ToolCall(name="Sort", arguments='{"team":1}', id=id_),))
    call, result = reask_messages("tools", completion, "team: no such team")
    assert call == {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {
                "id": id_ or "reask0001",
                "type": "function",
                "function": {"name": "Sort", "arguments": '{"team":1}'},
            }
        ],
    }
    assert result["role"] == "tool"
    assert result["tool_call_id"] == (id_ or "reask0001")
    assert "team: no such team" in result["content"]


@pytest.mark.parametrize(
    ("mode", "completion", "content"),
    [
        ("tools", called('{"team":'), '{"team":'),
        ("tools", called("[1]"), "[1]"),
        ("tools", called("[" * 100_000), "[" * 4000),
        ("tools", called("{}", name=""), "{}"),
        ("tools", Completion(text="I think so"), "I think so"),
        ("tools", Completion(), "(no answer)"),
        ("json_schema", called("{}"), "{}"),
        ("json", Completion(text="{"), "{"),
        ("text", Completion(text="x" * 5000), "x" * 4000),
        ("text", called("{}"), "{}"),
    ],
)
def test_what_is_not_a_proper_call_goes_back_as_text(mode, completion, content):
    answer, request = reask_messages(mode, completion, "REASON")
    assert answer == {"role": "assistant", "content": content}
    assert request["role"] == "user"
    assert "REASON" in request["content"]


@pytest.mark.parametrize("mode", MODES)
def test_the_reason_is_passed_on_as_it_is(mode):
    reason = "{x} {{y}} %s </example> é \U0001d11e \\n"
    messages = reask_messages(mode, called("{}"), reason)
    assert reason in messages[-1]["content"]
    json.dumps(messages)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("content", ["<<reason>> <<id>>", "\\1 \\g<0> {x}", "é\n\U0001d11e"])
def test_the_kept_wording_is_that_of_instructor(mode, content):
    from types import SimpleNamespace as Some

    reason = f"<<content>> {content}"
    function = {"name": "Sort", "arguments": json.dumps({"team": content})}
    calls = [Some(id="c1", function=Some(**function))] if mode == "tools" else None
    body = {"tool_calls": [{"id": "c1", "type": "function", "function": function}]}
    message = Some(role="assistant", content=content, tool_calls=calls, model_dump=lambda: body)
    response = Some(choices=[Some(message=message, finish_reason="stop")])
    modes = {"tools": "TOOLS", "json_schema": "JSON_SCHEMA", "json": "JSON", "text": "MD_JSON"}
    expected = handlers(modes[mode]).reask_handler({"messages": []}, response, reason)["messages"]
    called_ = (ToolCall(id="c1", **function),) if calls else ()
    assert reask_messages(mode, Completion(text=content, tool_calls=called_), reason) == expected


# ── facts about instructor that we rely on ──


def handlers(mode="TOOLS"):
    from instructor.v2.core.mode import Mode
    from instructor.v2.core.providers import Provider
    from instructor.v2.core.registry import mode_registry

    return mode_registry.get_handlers(Provider.OPENAI, Mode[mode])


@pytest.mark.parametrize("mode", ["TOOLS", "JSON_SCHEMA", "JSON", "MD_JSON"])
def test_instructor_has_handlers_for_each_mode(mode):
    found = handlers(mode)
    assert callable(found.request_handler), version("instructor")
    assert callable(found.reask_handler)
    assert callable(found.response_parser)


@pytest.mark.parametrize("mode", ["TOOLS", "JSON_SCHEMA", "JSON", "MD_JSON"])
def test_instructor_prepares_a_request_from_model_and_messages_alone(mode):
    model, kwargs = handlers(mode).request_handler(Sort, {"messages": []})
    assert issubclass(model, Sort)
    assert isinstance(kwargs["messages"], list)
    assert kwargs.keys() <= {"messages", "tools", "tool_choice", "response_format"}


def test_instructor_takes_the_schema_from_the_model():
    class Own(Sort):
        @classmethod
        def model_json_schema(cls, *args: Any, **kwargs: Any) -> dict[str, Any]:
            return {"title": "Own", "type": "object", "properties": {"here": {"type": "string"}}, "required": ["here"]}

    _, kwargs = handlers().request_handler(Own, {"messages": []})
    assert kwargs["tools"][0]["function"]["parameters"]["properties"] == {"here": {"type": "string"}}


def test_instructor_asks_again_with_the_last_answer_and_the_reason_only(caplog):
    caplog.set_level(logging.DEBUG)
    message = SimpleNamespace(role="assistant", content="no", tool_calls=None, model_dump=dict)
    response = SimpleNamespace(choices=[SimpleNamespace(message=message, finish_reason="stop")])
    for mode in ("TOOLS", "JSON_SCHEMA", "JSON", "MD_JSON"):
        kwargs = handlers(mode).reask_handler({"messages": []}, response, "REASON")
        roles = [one["role"] for one in kwargs["messages"]]
        assert roles == ["assistant", "user"]
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
