"""Answers as lines instead of JSON: `team: billing`, one line for each field that was asked for."""

from __future__ import annotations

from collections.abc import Mapping

from llmtasker.parser.answer_schema import AnswerSchema
from llmtasker.values.folding import without_accents
from llmtasker.values.json_schema import kind_of_node
from llmtasker.values.json_values import parse_json
from llmtasker.values.lazy_pattern import lazy_pattern

MAX_LINED = 5_000
"""Characters; longer texts are not read this way."""

_LINE = lazy_pattern(
    r"\s*(?:[-*+•]\s+|\d{1,2}[.)]\s+|#{1,6}\s+)?[*_`\"']{0,3}([^\W\d][\w \-]{0,60}?)[*_`\"']{0,3}\s*[:=][*_`]{0,3}"
    r"\s*(\S.*?)\s*"
)
_NAME_ALONE = lazy_pattern(r"[*_`\"']{0,3}([^\W\d][\w \-]{0,60}?)[*_`\"']{0,3}\s*:[*_`]{0,3}")
_ITEM = lazy_pattern(r"\s*(?:[-*+•]|\d{1,2}[.)])\s+(\S.*?)")
_LAYOUT = lazy_pattern(r"\s*(?:-{3,}|\.{3}|`{3,}\w*)?\s*")
_QUOTED = lazy_pattern(r"(\"|'|`|\*\*)((?:(?!\1).|(?<=\w)'(?=\w))*)\1")  # an apostrophe is not a quote
_BLOCK = lazy_pattern(r"[|>][-+]?")  # of YAML: the text comes in the next lines
_SEPARATOR = lazy_pattern(r"[\W_]+")


def lined_fields(text: str, schema: AnswerSchema) -> dict[str, str | list[str]] | None:
    """Return the fields of a text that consists only of lines named after them; else None. Values are texts.

    A single line is not a list of fields: "answer: all good" may be a sentence, but not where a number is asked for.

    >>> schema = AnswerSchema({"type": "object", "properties": {"team": {"type": "string"}, "n": {"type": "integer"}}})
    >>> lined_fields("- **team**: billing\\n- **n**: 3", schema)
    {'team': 'billing', 'n': '3'}
    """
    if not schema.properties or len(text) > MAX_LINED:
        return None
    names = schema.names(schema.root)
    found: dict[str, str | list[str]] = {}
    items: list[str] | None = None
    lines = [line.rstrip() for line in text.splitlines() if not _LAYOUT.fullmatch(line)]
    separated = len(lines) > 1 and all(line.endswith(",") for line in lines[:-1])
    for line in lines:
        match = _LINE.fullmatch(line.removesuffix(",") if separated else line)
        name = names.find(match[1]) if match else None
        if name is None and items is not None and (item := _ITEM.fullmatch(line)):
            items.append(_unquoted(item[1]))
            continue
        items = None
        if (alone := _NAME_ALONE.fullmatch(line)) and (name := names.find(alone[1])) and name not in found:
            if not _is_list(name, schema):
                return None
            found[name] = items = []
            continue
        if match is None or name is None or name in found or _BLOCK.fullmatch(match[2]):
            return None
        if names_other_field(match[2], name, schema):
            return None
        found[name] = _unquoted(match[2])
    complete = schema.required <= found.keys() and [] not in found.values()
    return found if complete and (len(found) > 1 or _is_never_prose(found, schema)) else None


def _is_never_prose(found: Mapping[str, object], schema: AnswerSchema) -> bool:
    """Return whether the field of a single line is a list, or has a form that no sentence has."""
    return any(name == schema.format_field or _is_list(name, schema) for name in found)


def _is_list(name: str, schema: AnswerSchema) -> bool:
    return kind_of_node(schema.resolve(schema.properties[name])) == "array"


def _unquoted(text: str) -> str:
    """Return a text without the quotes around all of it; one with escapes is read as JSON."""
    if text.startswith('"'):
        try:
            whole = parse_json(text)
        except ValueError:
            whole = None
        if isinstance(whole, str):
            return whole
    quoted = _QUOTED.fullmatch(text)
    return quoted[2] if quoted else text


def names_other_field(text: str, field: str, schema: AnswerSchema) -> bool:
    """Return whether a text names another field, so that it contains more than the value of `field`."""
    words = f" {_SEPARATOR.sub(' ', without_accents(text))} "
    others = (name for name in schema.properties if name != field)
    return any(f" {_SEPARATOR.sub(' ', without_accents(name))} " in words for name in others)
