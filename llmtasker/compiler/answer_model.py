"""The only file that imports instructor: output type ⇄ what goes over the wire to ask for it.

Instructor's mode handlers prepare a request once per task and word the re-ask; `instructor.patch`
would rebuild model and schema on every call.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from types import SimpleNamespace
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler, create_model
from pydantic_core import CoreSchema

from llmtasker.compiler.prepared import Prepared, prepared_once
from llmtasker.signature.fields import label_text, wire_name
from llmtasker.values.json_schema import lone_reference, offered_labels
from llmtasker.values.json_values import is_array, is_object
from llmtasker.values.lazy_pattern import lazy_pattern
from llmtasker.values.set_order import in_order_of_text
from llmtasker.wire.completion import Completion
from llmtasker.wire.request import Message, Mode
from llmtasker.wire.wording import WORDINGS, Wording

REASONING = "reasoning"

# What strict function schemas can't express (platform.openai.com, "Structured Outputs", supported schemas).
_NOT_STRICT = frozenset(
    {"patternProperties", "prefixItems", "uniqueItems", "allOf", "not", "if", "oneOf", "propertyNames"}
)
_RECALLED_ANSWER = 4_000  # characters of a failed answer that a re-ask shows to the LLM


class _Lean(BaseModel):
    """A model whose JSON schema has no titles: instructor shows it to the LLM, and titles cost tokens.

    `descriptions` are those of fields, by their names on the wire; they replace the fields' own.
    """

    model_config = ConfigDict(defer_build=True)

    __descriptions__: ClassVar[Mapping[str, str]] = {}

    def __init_subclass__(cls, *, descriptions: Mapping[str, str] | None = None, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if descriptions is not None:  # a subclass, such as those of instructor, inherits them
            cls.__descriptions__ = descriptions

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        # Not by copies of the fields, because versions of Pydantic differ in which parts of a copy they use.
        made = handler.resolve_ref_schema(handler(schema))
        for name, description in cls.__descriptions__.items():
            made["properties"][name]["description"] = description
        return made

    @classmethod
    def model_json_schema(cls, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Return the schema without titles, and as strict mode requires it if possible."""
        schema = super().model_json_schema(*args, **kwargs)
        lean = {name: _without_titles(value) for name, value in schema.items()}
        return lean if _is_free(lean) else _strict(lean)


def wire_model(
    output_model: type[BaseModel],
    *,
    reasoning: str | None = None,
    descriptions: Mapping[str, str] | None = None,
    annotations: Mapping[str, Any] | None = None,
) -> type[BaseModel]:
    """Return the model that the LLM is asked to fill: the output half, and before it, if described, a `reasoning`.

    `descriptions` and `annotations` replace those of fields.
    """
    fields: dict[str, Any] = {}
    if reasoning is not None:
        fields[REASONING] = (str, Field(description=reasoning))
    kinds = annotations or {}
    fields |= {name: (kinds.get(name, info.annotation), info) for name, info in output_model.model_fields.items()}
    on_wire = {wire_name(name, output_model.model_fields[name]): text for name, text in (descriptions or {}).items()}
    name = re.sub(r"\W", "_", output_model.__name__, flags=re.ASCII)[:64]
    return create_model(
        name, __base__=(_Lean,), __module__=output_model.__module__, __cls_kwargs__={"descriptions": on_wire}, **fields
    )


def group_model(model: type[BaseModel], wording: Wording) -> type[BaseModel]:
    """Return the model of several answers; each names its input, and gives its anchor."""
    # They come first: the LLM writes in this order, and must know which input an answer is about.
    fields: dict[str, Any] = {
        "id": (str, Field(description=wording.id)),
        "anchor": (str, Field(description=wording.anchor)),
    }
    fields |= {name: (info.annotation, info) for name, info in model.model_fields.items()}
    given: dict[str, Any] = {"descriptions": model.__descriptions__ if issubclass(model, _Lean) else {}}
    answer = create_model(
        f"{model.__name__}Answer"[:64], __base__=(_Lean,), __module__=model.__module__, __cls_kwargs__=given, **fields
    )
    answers: dict[str, Any] = {"answers": (list[answer], Field(description=wording.answers))}  # type: ignore[valid-type]
    return create_model(f"{model.__name__}Group"[:64], __base__=(_Lean,), __module__=model.__module__, **answers)


def prepare(model: type[BaseModel], mode: Mode, wording: Wording = WORDINGS["en"], *, keep: bool = True) -> Prepared:
    """Return the request fields that ask for `model` in a mode, prepared by instructor's handler.

    If a mode has no field for the schema, the note for the system message contains it, in our words; those of
    instructor cost three times the tokens.

    instructor is loaded only if no process has prepared the same before; `keep=False` does not touch the disk.
    """
    words = {"json": wording.json, "text": wording.text}.get(mode, "")
    if not keep:
        return _prepared(model, mode, words)
    _wording(mode, False)  # so that the first invalid answer does not load modules in an event loop
    _wording(mode, mode == "tools")
    schema = model.model_json_schema()
    source = {"schema": schema, "name": model.__name__, "doc": model.__doc__, "mode": mode, "words": words}
    return prepared_once(source, __file__, lambda: _prepared(model, mode, words))


def _prepared(model: type[BaseModel], mode: Mode, words: str) -> Prepared:
    _, kwargs = _handlers(mode).request_handler(model, {"messages": []})
    del kwargs["messages"]
    note = ""
    if mode == "tools":
        function = kwargs["tools"][0]["function"]
        if not model.__doc__:
            function.pop("description", None)  # instructor's own adds nothing, and costs tokens in each call
        # instructor sorts them by name.
        function["parameters"]["required"] = model.model_json_schema().get("required", [])
        if not _is_free(function["parameters"]):
            function = {**function, "strict": True}
        # One tool is offered, so "required" is enough; llama.cpp ignores a forced function object.
        kwargs = {
            "tools": [{"type": "function", "function": function}],
            "tool_choice": "required",
            "parallel_tool_calls": False,
        }
    elif mode == "json_schema":
        asked = kwargs["response_format"]["json_schema"]
        asked["schema"].pop("title", None)
        if not _is_free(asked["schema"]):
            kwargs["response_format"]["json_schema"] = {**asked, "strict": True}
    else:
        lean = {name: value for name, value in model.model_json_schema().items() if name != "title"}
        schema = json.dumps(lean, ensure_ascii=False, separators=(",", ":"))
        note = f"{words}\n{schema}"
    return Prepared(fields=kwargs, note=note)


@cache
def _handlers(mode: Mode) -> Any:
    from instructor.v2.core.mode import Mode as InstructorMode
    from instructor.v2.core.providers import Provider
    from instructor.v2.core.registry import mode_registry

    modes = {
        "tools": InstructorMode.TOOLS,
        "json_schema": InstructorMode.JSON_SCHEMA,
        "json": InstructorMode.JSON,
        "text": InstructorMode.MD_JSON,
    }
    return mode_registry.get_handlers(Provider.OPENAI, modes[mode])


def as_turn(mode: Mode, answer: str) -> Message:
    """Return the message of an answered example.

    With function calls it is a text too, because a call and its result take three times the tokens: the
    only value if that is a text, else the arguments. The other modes show the form that they ask for.
    """
    if mode == "tools":
        (value, *others) = json.loads(answer).values() or [None]
        # A brace could be read as the beginning of the arguments.
        answer = value if isinstance(value, str) and not others and value.strip() and "{" not in value else answer
    return {"role": "assistant", "content": f"```json\n{answer}\n```" if mode == "text" else answer}


def reask_messages(mode: Mode, completion: Completion, reason: str) -> list[Message]:
    """Return the failed answer and the request to correct it, worded by instructor for this mode."""
    # Arguments that are not JSON go back as text: several servers parse the calls in a conversation, and fail.
    # So do calls in other modes, because no tool message would answer them, which most endpoints require.
    called = completion.tool_calls[:1] if mode == "tools" else ()
    call = next((call for call in called if call.name and _is_json(call.arguments)), None)
    values = {_REASON: reason}
    if call is None:
        values[_CONTENT] = completion.raw[:_RECALLED_ANSWER] or "(no answer)"
    else:
        values |= {_CONTENT: completion.text or "", _NAME: call.name, _ARGUMENTS: call.arguments}
        values[_ID] = call.id or _CALL_ID
    messages: list[Message] = _filled(_wording(mode, call is not None)["messages"], values)
    # Beside a call, null means that there is no content, because some endpoints refuse an empty text.
    return [{**message, "content": message["content"] or None} for message in messages]


_CALL_ID = "reask0001"
_CONTENT, _REASON, _ID, _NAME, _ARGUMENTS = (f"<<{word}>>" for word in ("content", "reason", "id", "name", "arguments"))
_BLANKS = lazy_pattern("|".join((_CONTENT, _REASON, _ID, _NAME, _ARGUMENTS)))


@cache
def _wording(mode: Mode, called: bool) -> Mapping[str, Any]:
    """Return the messages of a re-ask with blanks; kept on disk, as what `prepare` returns."""
    return prepared_once({"reask": mode, "called": called}, __file__, lambda: _reask(mode, called)).fields


def _reask(mode: Mode, called: bool) -> Prepared:
    function = {"name": _NAME, "arguments": _ARGUMENTS}
    body = {"tool_calls": [{"id": _ID, "type": "function", "function": function}]}
    message = SimpleNamespace(
        role="assistant",
        content=_CONTENT,
        tool_calls=[SimpleNamespace(id=_ID, function=SimpleNamespace(**function))] if called else None,
        model_dump=lambda: body,
    )
    response = SimpleNamespace(choices=[SimpleNamespace(message=message, finish_reason="stop")])
    return Prepared(fields=_handlers(mode).reask_handler({"messages": []}, response, _REASON))


def _filled(value: Any, values: Mapping[str, str]) -> Any:
    """Return a JSON value whose texts have their blanks filled in."""
    if isinstance(value, str):
        return _BLANKS.sub(lambda blank: values[blank[0]], value)
    if is_array(value):
        return [_filled(part, values) for part in value]
    return {key: _filled(part, values) for key, part in value.items()} if is_object(value) else value


def _is_json(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def labels_of(model: type[BaseModel]) -> dict[str, list[str]]:
    """Return the labels of each field that takes its value, or its list of values, from a closed set."""
    schema = model.model_json_schema()
    properties = schema.get("properties", {})
    fields = {name: properties[wire_name(name, info)] for name, info in model.model_fields.items()}
    found = {
        name: [label_text(value) for value in offered_labels(node, schema) if value is not None]
        for name, node in fields.items()
    }
    return {name: labels for name, labels in found.items() if labels}


def _without_titles(schema: Any) -> Any:
    """Drop the titles that Pydantic derives from field names; a property named "title" stays."""
    if is_array(schema):
        return [_without_titles(part) for part in schema]
    if not is_object(schema):
        return schema
    lean: dict[str, Any] = {}
    for name, value in schema.items():
        if name in {"properties", "$defs"}:
            lean[name] = {key: _without_titles(part) for key, part in value.items()}
        elif name == "default" and is_array(value) and _is_set(schema):
            lean[name] = in_order_of_text(value)
        elif name in {"enum", "const", "default", "examples"}:
            lean[name] = value
        elif name != "title":
            lean[name] = _without_titles(value)
    return lean


def _is_set(schema: Mapping[str, Any]) -> bool:
    return "uniqueItems" in schema or any("uniqueItems" in part for part in schema.get("anyOf", ()))


def _is_free(schema: Any) -> bool:
    """Return whether a schema has parts that strict mode does not support: free keys, tuples, unique items."""
    if not is_object(schema):
        return False
    if _NOT_STRICT & schema.keys() or schema.get("additionalProperties") not in (None, False):
        return True
    if schema.get("type") == "object" and not schema.get("properties"):
        return True
    return any(_is_free(part) for part in _parts(schema)) or not (schema.keys() - {"description", "default"})


def _parts(schema: Mapping[str, Any]) -> Sequence[Any]:
    return [
        *schema.get("properties", {}).values(),
        *schema.get("$defs", {}).values(),
        *schema.get("anyOf", ()),
        *([schema["items"]] if "items" in schema else ()),
    ]


def _strict(schema: Any) -> Any:
    """Return the schema as strict mode requires it: every property required, no others allowed, no defaults."""
    if is_array(schema):
        return [_strict(part) for part in schema]
    if not is_object(schema):
        return schema
    strict: dict[str, Any] = {}
    for name, value in schema.items():
        if name in {"properties", "$defs"}:
            strict[name] = {key: _strict(part) for key, part in value.items()}
        elif name in {"items", "anyOf"}:
            strict[name] = _strict(value)
        elif name != "default":
            strict[name] = value
    strict = lone_reference(strict)
    if "properties" in strict:
        strict["required"] = list(strict["properties"])
        strict["additionalProperties"] = False
    return strict
