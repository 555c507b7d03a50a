"""Function calls: the answer in the calls of a completion, and calls written in a text.

The rule for several calls: a function that was not offered is an error, different calls are an error, equal calls
count as one, and a call without arguments beside a complete one does not count.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Sequence
from typing import Any

from llmtasker.errors import InvalidOutputError, snippet
from llmtasker.parser.labels import fold_key
from llmtasker.values.json_values import is_object, parse_json
from llmtasker.values.lazy_pattern import lazy_pattern
from llmtasker.wire.completion import Completion, ToolCall
from llmtasker.wire.request import Mode

MAX_WRITTEN = 20_000
"""Characters; longer texts are not searched for calls, because the end of each beginning has to be searched for."""

MAX_PYTHON = 5_000
"""Characters of a call in Python notation; longer ones are ignored."""

FORMS = ("answered by a function call, not in text", "answered in text, not by a function call")
"""Repairs of the form alone, which are not reported if any form is accepted."""

_DECORATION = lazy_pattern(
    r"^(?:(?:functions?|tools?|default_api|assistant|multi_tool_use)[./])+|(?:[:#]\d+|\(\)|\.call|<\|.*)$"
)
_XML_CALL = lazy_pattern(
    r"<function=[\"']?([\w.\-]+)[\"']?>(.*?)(?:</function>|\Z)|<invoke\s+name=[\"']([^\"']+)[\"']>(.*?)</invoke>",
    re.DOTALL,
)
_XML_PARAMETER = lazy_pattern(
    r"<parameter(?:=|\s+name=)[\"']?([^\"'>]+?)[\"']?>\n?(.*?)\n?\s*(?:</parameter>|(?=<parameter)|\Z)", re.DOTALL
)
_KEYED_CALL = lazy_pattern(
    r"<tool_call>\s*([\w.\-]+)\s*\n?((?:\s*<arg_key>.*?</arg_value>)+)\s*</tool_call>", re.DOTALL
)
_KEYED_PARAMETER = lazy_pattern(r"<arg_key>([^<>]*)</arg_key>\s*(?:<arg_value>)?(.*?)</arg_value>", re.DOTALL)
_QUOTED_CALL = lazy_pattern(r"<\|tool_call>\s*call:([\w.\-]+)\s*(\{.*?\})\s*<tool_call\|>", re.DOTALL)
_QUOTED = lazy_pattern(r"<\|\"\|>(.*?)<\|\"\|>", re.DOTALL)
_MARKED_CALL = lazy_pattern(
    r"<[|｜]tool[_▁]call[_▁]begin[|｜]>(?:function<[|｜]tool[_▁]sep[|｜]>)?\s*([\w.\-:]+)\s*"
    r"(?:<[|｜]tool[_▁](?:sep|call[_▁]argument[_▁]begin)[|｜]>)?\s*(.*?)\s*<[|｜]tool[_▁]call[_▁]end[|｜]>",
    re.DOTALL,
)
_MISTRAL_CALL = lazy_pattern(
    r"\[TOOL_CALLS\]\s*([\w.\-]+)\s*(?:\[CALL_ID\]\w+)?(?:\[ARGS\])?\s*(?=\{)(.*?)(?=\[TOOL_CALLS\]|\Z)", re.DOTALL
)
_REACT_CALL = lazy_pattern(
    r"^[ \t]*Action:[ \t]*`?([\w.\-]+)`?[ \t]*\n\s*Action Input:\s*(.*?)\s*"
    r"(?=^[ \t]*(?:Observation|Thought|Action|Final Answer):|\Z)",
    re.DOTALL | re.MULTILINE,
)
_PYTHON_CALL = lazy_pattern(r"\s*\[?\s*(?:print\()?\s*[\w.]+\(.*\)\s*\]?\s*", re.DOTALL)
# `Search({"q": 1})`, `[Search(q=1)]`; but not calls that often wrap JSON, such as `print({…})` and `callback({…});`
_NAMED_CALL = lazy_pattern(r"\[?\s*([^\W\d][\w.]*)\(\s*(?:\{.*\}|\w+\s*=.*)\s*\)\s*\]?\s*;?", re.DOTALL)
_WRAPPERS = lazy_pattern(
    r"(?:.*\.)?(?:print|callback|cb|dict|loads?|parse|dumps|stringify|log|eval|return|answer|result|response|output|json"
    r"|object)",
    re.IGNORECASE,
)
_FENCE = lazy_pattern(r"^```\w*\n(.*)\n```$", re.DOTALL)


def is_offered(name: str, function: str) -> bool:
    """Return whether a called name is the offered function, perhaps decorated (`functions.Route`, `Route:0`).

    >>> is_offered("functions.Route", "Route"), is_offered("Search", "Route")
    (True, False)
    """
    return not function or name in ("", function) or fold_key(_DECORATION.sub("", name.strip())) == fold_key(function)


def check_offered(name: str, function: str) -> None:
    """Raise InvalidOutputError if a function was called that was not offered."""
    if not is_offered(name, function):
        raise InvalidOutputError(
            f"the function {snippet(name, 60)!r} was called, which was not offered; {function!r} was"
        )


def is_empty(call: ToolCall) -> bool:
    """Return whether a call has no arguments."""
    return call.arguments.strip() in ("", "{}", "null", '""')


def one_call(calls: Sequence[ToolCall], function: str) -> tuple[str, tuple[str, ...]]:
    """Return the arguments that the calls agree on, and the repairs.

    Raises:
        InvalidOutputError: another function was called, or the calls differ.
    """
    for call in calls:
        check_offered(call.name, function)
    stated = [call for call in calls if not is_empty(call)] or list(calls)
    if any(_value(call.arguments) != _value(stated[0].arguments) for call in stated[1:]):
        raise InvalidOutputError(f"the LLM made {len(stated)} different calls, and one was asked for")
    repairs = () if stated[0].name else ("the call names no function",)
    several = (f"{len(stated)} equal calls taken as one",) if len(stated) > 1 else ()
    return stated[0].arguments or "{}", (*repairs, *several)


def _value(arguments: str) -> Any:
    try:
        value = parse_json(arguments)
        return parse_json(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        return arguments


def _contradicts(text: str, arguments: str) -> bool:
    """Return whether a text beside a call is an object with the same keys and other values."""
    called, said = _value(arguments), _value(_FENCE.sub(r"\1", text.strip()))
    return is_object(called) and is_object(said) and called.keys() == said.keys() and called != said


def answer_text(mode: Mode, function: str, completion: Completion) -> tuple[str, tuple[str, ...]]:
    """Return the text to read the answer from, and the repairs made to find it.

    Raises:
        InvalidOutputError: another function was called, or calls differ, or there is no answer at all.
    """
    calls, text = completion.tool_calls, completion.text or ""
    if calls:
        arguments, repairs = one_call(calls, function)
        if text and _contradicts(text, arguments):
            raise InvalidOutputError(f"the call and the text beside it differ: {snippet(text)!r}")
        return arguments, repairs if mode == "tools" else (FORMS[0], *repairs)
    if text.strip():
        return text, (FORMS[1],) if mode == "tools" else ()
    if (thought := (completion.reasoning or "").strip()) and is_object(_value(_FENCE.sub(r"\1", thought))):
        return thought, ("taken from the reasoning, which was only the answer",)
    raise InvalidOutputError("the answer is empty")


def written_calls(text: str, function: str) -> list[ToolCall]:
    """Return the calls in a text that is written in the notation of an LLM's template, if there are any.

    Calls that are JSON as a whole (`{"name": …, "arguments": …}`) are not looked for here.

    >>> written_calls("<function=Route><parameter=team>billing</parameter></function>", "Route")[0].arguments
    '{"team": "billing"}'
    """
    if len(text) > MAX_WRITTEN:
        return []
    calls = [_xml_call(found[1] or found[3], found[2] if found[1] else found[4]) for found in _XML_CALL.finditer(text)]
    for found in _KEYED_CALL.finditer(text):
        parameters = {key.strip(): value for key, value in _KEYED_PARAMETER.findall(found[2])}
        calls.append(ToolCall(name=found[1], arguments=json.dumps(parameters)))
    calls += [
        ToolCall(name=found[1], arguments=_QUOTED.sub(lambda text: json.dumps(text[1]), found[2]))
        for found in _QUOTED_CALL.finditer(text)
    ]
    for pattern in (_MARKED_CALL, _MISTRAL_CALL, _REACT_CALL):
        calls += [ToolCall(name=found[1], arguments=_FENCE.sub(r"\1", found[2])) for found in pattern.finditer(text)]
    return calls or _python_calls(text, function)


def ends_open(text: str) -> bool:
    """Return whether the last parameter of a written call is not closed, so that it may be cut."""
    return "</" not in text[text.rfind("<parameter") :] and "<parameter" in text


def _xml_call(name: str, body: str) -> ToolCall:
    parameters = dict(_XML_PARAMETER.findall(body))
    return ToolCall(name=name, arguments=json.dumps(parameters) if parameters else body.strip())


def _python_calls(text: str, function: str) -> list[ToolCall]:
    """Return the calls of a text that has only Python calls: `[Route(team="billing")]`."""
    bare = _FENCE.sub(r"\1", text.strip())
    if not function or len(bare) > MAX_PYTHON or not _PYTHON_CALL.fullmatch(bare):
        return []
    named = _NAMED_CALL.fullmatch(bare)
    if named and not _WRAPPERS.fullmatch(named[1]) and not is_offered(named[1], function):
        return [ToolCall(name=named[1], arguments="{}")]
    if function not in bare:
        return []
    try:
        body = ast.parse(bare.strip(), mode="eval").body
        nodes = body.elts if isinstance(body, ast.List) else [body]
        return [_python_call(node) for node in nodes]
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []


def _python_call(node: ast.expr) -> ToolCall:
    if not isinstance(node, ast.Call):
        raise ValueError("not a call")  # noqa: TRY004 - read like the errors of ast
    if ast.unparse(node.func) == "print" and len(node.args) == 1:
        return _python_call(node.args[0])
    if node.args:
        raise ValueError("arguments without names")
    parameters = {word.arg: ast.literal_eval(word.value) for word in node.keywords if word.arg}
    return ToolCall(name=ast.unparse(node.func), arguments=json.dumps(parameters))


def differing(values: Sequence[Any]) -> list[Any]:
    """Return the values that are not empty, each once.

    >>> differing([{"a": 1, "b": 2}, {}, {"b": 2, "a": 1}])
    [{'a': 1, 'b': 2}]
    """
    found: list[Any] = []
    for value in values:
        if value not in ({}, [], None, "") and value not in found:
            found.append(value)
    return found or list(values[:1])
