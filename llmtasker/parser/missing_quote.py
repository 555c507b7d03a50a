"""JSON in which one double quote is missing: read if exactly one place for it makes the text valid."""

from __future__ import annotations

from typing import Any

from llmtasker.parser.loose_json import parse_loose_json
from llmtasker.values.lazy_pattern import lazy_pattern

MAX_LENGTH = 1_000
"""Characters; longer texts are not read this way."""

MAX_PLACES = 40
"""Places for a quote that are tried."""

UNESCAPED_QUOTE = lazy_pattern(r'(?<!\\)(?:\\\\)*"')
_OPENS = lazy_pattern(r'[{,:]\s*(?=[^\s"{\[\]},:\d-][^",{}\[\]]*"\s*[:,}])')
_CLOSES = lazy_pattern(r'(?<=")([^",{}\[\]]+)(?=\s*(?::|,\s*"[^",]*"\s*:|\}\s*$))')
_INSIDE = lazy_pattern(r'(?<=[^\s{\[,:\\"])"(?=[^\s,:}\]"])')


def with_missing_quote(text: str) -> Any:
    """Return the value of an object that lacks one quote, or None unless there is exactly one reading.

    Only a quote beside a key counts, around text without a comma; a quote that may be inside a string is a reading
    too.

    >>> with_missing_quote('{"a":"b,"c":1}'), with_missing_quote('{"a":"b"c"}'), with_missing_quote('["a, "b"]')
    ({'a': 'b', 'c': 1}, None, None)
    """
    if len(text) > MAX_LENGTH or not text.startswith("{") or len(UNESCAPED_QUOTE.findall(text)) % 2 == 0:
        return None
    places = [*(match.end() for match in _OPENS.finditer(text)), *(match.end() for match in _CLOSES.finditer(text))]
    if not places or len(places) > MAX_PLACES or _INSIDE.search(text):
        return None
    readings: list[Any] = []
    for at in places:
        found = parse_loose_json(f'{text[:at]}"{text[at:]}')
        if found is not None and "quotes inside a string" not in found[1] and found[0] not in readings:
            readings.append(found[0])
    return readings[0] if len(readings) == 1 else None
