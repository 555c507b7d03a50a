"""JSON with common mistakes, rewritten as valid JSON; other mistakes are left to json-repair, which is slow.

Common are single quotes, keys without quotes, extra or missing commas, a missing colon, comments, Python's constants
and tuples, raw line breaks and unescaped quotes in strings. A quote ends a string only if JSON could continue after it.
"""

from __future__ import annotations

import re
from typing import Any

from llmtasker.values.json_values import parse_json
from llmtasker.values.lazy_pattern import lazy_pattern

_END = r"(?=\s*(?:[:,}\]：，｝]|\Z))"
_NO_END = r"(?!\s*(?:[:,}\]：，｝]|\Z))"
# A quote after a backslash does not begin a string; trying each of thousands would take seconds.
_STRICT_PART = r'(?<!\\)"[^"\\\n]*+(?>(?:\\.[^"\\\n]*+)*)"'
_STRICT_STRING = rf'(?<!\\)"[^"\\]*+(?>(?:\\.[^"\\]*+)*)"{_END}'
_STRING = lazy_pattern(
    rf'({_STRICT_STRING}|"(?>(?:[^"\\]++|\\.|"{_NO_END}){{0,200}})"{_END}'
    rf"|(?<![^\s{{\[,:(])'(?>(?:[^'\\]++|\\.|'{_NO_END}){{0,200}})'{_END})",
    re.DOTALL,
)
_COMMENT = lazy_pattern(rf"({_STRICT_STRING})|//[^\n]*|/\*.*?\*/|(?<![^\s,{{\[])#[^\n]*", re.DOTALL)
_PLACE = "\x00"  # replaces a string while the text between the strings is rewritten
_SLIPS: tuple[tuple[str, re.Pattern[str], str], ...] = (
    ("full-width punctuation", lazy_pattern(r"："), ":"),
    ("full-width punctuation", lazy_pattern(r"，"), ","),
    ("a trailing comma", lazy_pattern(r",(?=\s*[}\]])"), ""),
    ("a missing comma", lazy_pattern(r"(?<=[\x00\w}\]])\s*\x00(?=\s*:)"), f", {_PLACE}"),
    ("a missing comma", lazy_pattern(r"(?<=\})\s*(?=\{)"), ", "),
    ("keys without quotes", lazy_pattern(r"(?<=[{,\s])([^\W\d][\w$-]*)(?=\s*:)"), r'"\1"'),
    # A pattern that begins with its letters is looked for ten times as fast as one that begins with "\b".
    ("a constant of Python", lazy_pattern(r"True(?<!\wTrue)\b"), "true"),
    ("a constant of Python", lazy_pattern(r"False(?<!\wFalse)\b"), "false"),
    ("a constant of Python", lazy_pattern(r"None(?<!\wNone)\b"), "null"),
)
# A string in typographic quotes, closed by the kind that opened it; inside, only an apostrophe between letters.
_CURLY_INNER = r"((?>(?:[^“”‘’`´\\]|\\.|(?<=\w)’(?=\w))*))"
_CURLY_STRING = lazy_pattern(rf"[“”]{_CURLY_INNER}[“”]|[‘’]{_CURLY_INNER}[‘’]|[`´]{_CURLY_INNER}[`´]", re.DOTALL)
_STRAY_QUOTE = lazy_pattern(r'"([^"\n\\]*[^"\s,:\\])"(?! and | or )([^"\n\\]*)"')  # 'a 24" screen', in quotes
_BEGINS_STRING = lazy_pattern(r"\s*[,:]")
_INNER_QUOTE = lazy_pattern(r'(\\.)|"', re.DOTALL)
_JUNCTION = lazy_pattern(r"""["']\s*\+?\s*["']""")
_CONCATENATED = lazy_pattern(rf"({_STRICT_PART})\s*\+\s*(?={_STRICT_PART})")
_NO_COLON = lazy_pattern(
    rf"([{{,]\s*{_STRICT_PART})\s*(?=(?:true|false|null|-?\d[\d.]*)\s*[,}}]|[\[{{])|{_STRICT_PART}", re.DOTALL
)
_PERHAPS_NO_COLON = lazy_pattern(r'"\s*(?:true|false|null|-?\d|[\[{])')
_TUPLE = lazy_pattern(r"(?<![\w.\x00\])])\(([^()]*+)\)")
_TUPLE_COMMA = lazy_pattern(r",(?!\d)")  # "(1,234)" may be a negative amount
_MAX_TUPLES = 5  # levels
_NO_ESCAPE = lazy_pattern(r'(\\["\\/bfnrt]|\\u[0-9a-fA-F]{4})|\\(?=[dswDSW.()\[\]*+?|^$-])')  # as in a regex
_PERHAPS_ESCAPED = lazy_pattern(r"(?<!\\)\\[bfnrt][a-zA-Z]")
_CONTROL = lazy_pattern(r"[\x00-\x1f]")
_PLAIN_STRING = lazy_pattern(r"""(?:"[^"\\\x00-\x1f]*"|('[^'"\\\x00-\x1f]*'))""")


class _CannotRewriteError(Exception):
    """A string has two readings."""


def parse_loose_json(text: str) -> tuple[Any, tuple[str, ...]] | None:
    """Return the value of a text with common mistakes and their names, or None if there is another mistake.

    >>> parse_loose_json("{'a': 'l'été', b: True,}")
    ({'a': "l'été", 'b': True}, ('a trailing comma', 'keys without quotes', 'a constant of Python', 'single quotes'))
    """
    if _PLACE in text:
        return None
    if (unusual := _with_unusual_quotes(text)) is not None:
        return unusual
    slips: dict[str, None] = {}
    if (bare := without_comments(text)) != text:
        text = bare
        if "/*" in text:
            return None
    text = _concatenated(text, slips) if "+" in text else text
    text = _with_colons(text, slips)
    parts = _STRING.split(text)
    between = _without_tuples(_PLACE.join(parts[::2]), slips)
    for name, pattern, good in _SLIPS:
        between, count = pattern.subn(good, between)
        if count:
            slips[name] = None
    plain_string = _PLAIN_STRING.fullmatch
    try:
        for at in range(1, len(parts), 2):
            if (plain := plain_string(parts[at])) is None:
                parts[at] = _rewritten(parts[at], slips, is_key=parts[at + 1].lstrip().startswith(":"))
            elif plain[1] is not None:
                parts[at] = f'"{plain[1][1:-1]}"'
                slips["single quotes"] = None
        parts[::2] = between.split(_PLACE)
        return parse_json("".join(parts)), tuple(slips) or ("comments",)
    except (_CannotRewriteError, ValueError, RecursionError):
        return None


def _with_unusual_quotes(text: str) -> tuple[Any, tuple[str, ...]] | None:
    """Return the value of a text with typographic quotes only, or of a lone string with one quote inside."""
    if (stray := _STRAY_QUOTE.fullmatch(text)) is not None and not _BEGINS_STRING.match(stray[2]):
        return f'{stray[1]}"{stray[2]}', ("quotes inside a string",)
    if '"' in text or "'" in text or "``" in text or (text.isascii() and "`" not in text):
        return None  # "``" is the beginning of a code fence
    straight = _CURLY_STRING.sub(lambda match: f'"{match[match.lastindex or 0]}"', text)
    try:
        return (parse_json(straight), ("typographic quotes",)) if straight != text else None
    except (ValueError, RecursionError):
        return None  # something else is wrong as well, or such quotes do not pair


def without_comments(text: str) -> str:
    """Return a JSON text without comments, each replaced by a space."""
    if "//" in text or "/*" in text or "#" in text:
        return _COMMENT.sub(lambda match: match[1] or " ", text)
    return text


def _concatenated(text: str, slips: dict[str, None]) -> str:
    """Return a text in which strings that are joined with `+` are one string."""
    joined, count = _CONCATENATED.subn(lambda match: match[1][:-1] + "\x00", text)
    if count:
        slips["strings put together with +"] = None
    return joined.replace('\x00"', "")


def _with_colons(text: str, slips: dict[str, None]) -> str:
    """Return a text with a colon after each key right before a number, constant or bracket.

    A key follows a bracket or comma outside strings; in an array, the colon makes the text invalid.
    """
    if _PERHAPS_NO_COLON.search(text) is None:
        return text
    mended = _NO_COLON.sub(lambda match: f"{match[1]}: " if match[1] else match[0], text)
    if mended != text:
        slips["a missing colon"] = None
    return mended


def _without_tuples(between: str, slips: dict[str, None]) -> str:
    """Return the text between strings with Python's tuples as arrays, from the inside outwards."""
    for _ in range(_MAX_TUPLES if "(" in between else 0):
        arrays = _TUPLE.sub(lambda match: f"[{match[1]}]" if _TUPLE_COMMA.search(match[1]) else match[0], between)
        if arrays == between:
            break
        between = arrays
        slips["a tuple of Python"] = None
    return between


def _rewritten(string: str, slips: dict[str, None], *, is_key: bool) -> str:
    """Return a string as JSON, with its inner quotes and line breaks escaped; a key with quotes is two strings."""
    content = string[1:-1].replace("\\'", "'")
    if _JUNCTION.search(content) or "\\\n" in content:
        raise _CannotRewriteError  # two strings, with something between them, or a line that is continued
    if "\\" in content and _NO_ESCAPE.search(content):
        escaped = _NO_ESCAPE.sub(_doubled, content)
        if escaped != content:
            if _PERHAPS_ESCAPED.search(content):
                raise _CannotRewriteError  # in "C:\dir\new", "\n" may not be meant as a line break
            slips["a backslash that escapes nothing"] = None
            content = escaped
    if _CONTROL.search(content):
        slips["raw line breaks in a string" if "\n" in content else "raw control characters in a string"] = None
        content = content.rstrip("\r\n") if "\n" in content else content  # a break before the closing quote is layout
        content = _CONTROL.sub(lambda match: f"\\u{ord(match[0]):04x}", content)
    if string[0] == "'":
        slips["single quotes"] = None
    inner = sum(match[1] is None for match in _INNER_QUOTE.finditer(content)) if '"' in content else 0
    if inner and string[0] == '"':
        if inner % 2 or is_key or '\\\\"' in content:
            raise _CannotRewriteError  # an extra quote, or one escaped twice
        slips["quotes inside a string"] = None
    return f'"{_INNER_QUOTE.sub(_escaped, content)}"' if inner else f'"{content}"'


def _doubled(match: re.Match[str]) -> str:
    return str(match[1] or "\\\\")


def _escaped(match: re.Match[str]) -> str:
    return str(match[1] or '\\"')
