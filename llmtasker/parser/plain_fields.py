"""The intact fields of a JSON text that can't be repaired as a whole: each is judged by itself."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

from llmtasker.parser.answer_schema import AnswerSchema
from llmtasker.parser.labels import scalar_text
from llmtasker.values.folding import without_accents
from llmtasker.values.json_values import as_list, is_object, parse_json_at, parts
from llmtasker.values.lazy_pattern import lazy_pattern

_KEY = lazy_pattern(r"""(["'])((?:(?!\1)[^\\\n]){1,80})\1\s*:\s*""")
_NEXT = lazy_pattern(r"""\s*(?:,?\s*\}|,\s*(?:["'][^"'\n]{1,80}["']|[^\W\d]\w*)\s*:)""")


def plain_fields(text: str, schema: AnswerSchema) -> dict[str, Any] | None:
    """Return the fields of an object whose neighbours are broken, or None if a required one is not plain.

    A field is plain if its key occurs once in the text, directly in the outermost object, with a valid value, and the
    object ends or another key begins directly after it.

    >>> schema = AnswerSchema({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]})
    >>> plain_fields('{"why": "one " too many", "n": 3}', schema)
    {'n': 3}
    """
    if not schema.properties or not text.startswith("{"):
        return None
    names = schema.names(schema.root)
    found: dict[str, Any] = {}
    seen: set[str] = set()
    for match in _KEY.finditer(text):
        name = names.find(match[2])
        if name is None:
            continue
        if name in seen:
            return None  # twice: one of them may be inside a string
        seen.add(name)
        value, end = _value(text, match.end())
        if not _is_outermost(text, match.start()) or end is None or not _NEXT.match(text, end):
            return None
        found[match[2]] = value
    unquoted = re.compile(rf"(?<![\w\"'])(?:{'|'.join(map(re.escape, schema.properties.keys() - seen))})\s*:")
    if not found or not schema.required <= seen or (schema.properties.keys() - seen and unquoted.search(text)):
        return None
    return found


def differs(text: str, value: dict[str, Any], schema: AnswerSchema) -> bool:
    """Return whether a text without JSON states another value for a key of `value`, and states all required keys.

    >>> schema = AnswerSchema({"type": "object", "properties": {"a": {}, "b": {}}, "required": ["a", "b"]})
    >>> differs("a: one, b: 2", {"a": "two", "b": 2}, schema), differs("a: one, b: 2", {"a": "one", "b": 2}, schema)
    (True, False)
    """
    required = schema.required & value.keys()
    quote = "[\"']" if len(required) == 1 else "[\"'*_`]*"  # "summary: …" may be prose
    stated: dict[str, str] = {}
    for key in required:
        found = re.search(
            rf"(?<!\w){quote}{re.escape(key)}{quote}\s*[:=]\s*([^\s,;}}{{\[][^,;}}\n]*)", text, re.IGNORECASE
        )
        if found is None:
            return False
        stated[key] = without_accents(found[1])
    plain = {key: scalar_text(value[key]) for key in stated}
    return any(said is not None and without_accents(said) not in stated[key] for key, said in plain.items())


def _is_outermost(text: str, start: int) -> bool:
    before = text[:start].rstrip()
    return (
        before[-1:] in ("{", ",")
        and before.count("{") - before.count("}") == 1
        and before.count("[") == before.count("]")
    )


def _value(text: str, start: int) -> tuple[Any, int | None]:
    try:
        return parse_json_at(text, start)
    except (ValueError, RecursionError):
        return None, None


def keys_stand_once(value: Any, text: str, schema: AnswerSchema) -> bool:
    """Return whether each requested key occurs as often in a repaired value as in its text; True if it has no other
    keys.

    Beside keys that were not asked for, the repair may have taken one out of a string.
    """
    names = schema.names(schema.root)
    roots = [part for part in as_list(value) if is_object(part)]
    if not schema.properties or all(names.find(key) for root in roots for key in root):
        return True
    counts = Counter(key for part in parts(value) if is_object(part) for key in part)
    for key, count in counts.items():
        if names.find(key) is None:
            continue
        quoted = len(re.findall(rf"[\"']{re.escape(key)}[\"']\s*:", text))
        if count != (quoted or len(re.findall(rf"(?<!\w){re.escape(key)}\s*:", text))):
            return False
    return True
