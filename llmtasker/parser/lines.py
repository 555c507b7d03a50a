"""Answers as lines instead of JSON: `team: billing`, one line for each field that was asked for."""

from __future__ import annotations

from llmtasker.parser.answer_schema import AnswerSchema
from llmtasker.values.folding import without_accents
from llmtasker.values.json_values import parse_json
from llmtasker.values.lazy_pattern import lazy_pattern

MAX_LINED = 5_000
"""Characters; longer texts are not read this way."""

_LINE = lazy_pattern(
    r"\s*(?:[-*+•]\s+|\d{1,2}[.)]\s+|#{1,6}\s+)?[*_`\"']{0,3}([^\W\d][\w \-]{0,60}?)[*_`\"']{0,3}\s*[:=][*_`]{0,3}"
    r"\s*(\S.*?)\s*"
)
_LAYOUT = lazy_pattern(r"\s*(?:-{3,}|\.{3}|`{3,}\w*)?\s*")
_QUOTED = lazy_pattern(r"(\"|'|`|\*\*)((?:(?!\1).|(?<=\w)'(?=\w))*)\1")  # an apostrophe is not a quote
_BLOCK = lazy_pattern(r"[|>][-+]?")  # of YAML: the text comes in the next lines
_SEPARATOR = lazy_pattern(r"[\W_]+")


def lined_fields(text: str, schema: AnswerSchema) -> dict[str, str] | None:
    """Return the fields of a text that is nothing but lines named after them, else None; values are texts.

    A single line is not a list of fields: "answer: all good" may be a sentence.

    >>> schema = AnswerSchema({"type": "object", "properties": {"team": {"type": "string"}, "n": {"type": "integer"}}})
    >>> lined_fields("- **team**: billing\\n- **n**: 3", schema)
    {'team': 'billing', 'n': '3'}
    """
    if not schema.properties or len(text) > MAX_LINED:
        return None
    names = schema.names(schema.root)
    found: dict[str, str] = {}
    lines = [line.rstrip() for line in text.splitlines() if not _LAYOUT.fullmatch(line)]
    separated = len(lines) > 1 and all(line.endswith(",") for line in lines[:-1])
    for line in lines:
        match = _LINE.fullmatch(line.removesuffix(",") if separated else line)
        name = names.find(match[1]) if match else None
        if match is None or name is None or name in found or _BLOCK.fullmatch(match[2]):
            return None
        if names_other_field(match[2], name, schema):
            return None
        found[name] = _unquoted(match[2])
    return found if len(found) > 1 and schema.required <= found.keys() else None


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
    """Return whether a text names a further field, so that it contains more than the value of `field`."""
    words = f" {_SEPARATOR.sub(' ', without_accents(text))} "
    others = (name for name in schema.properties if name != field)
    return any(f" {_SEPARATOR.sub(' ', without_accents(name))} " in words for name in others)
