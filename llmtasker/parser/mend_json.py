"""The only file that imports json_repair: broken JSON, repaired if no letter or digit changes."""

from __future__ import annotations

import contextlib
import json
import math
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, SupportsIndex

from llmtasker.errors import snippet
from llmtasker.parser.loose_json import parse_loose_json
from llmtasker.parser.missing_quote import UNESCAPED_QUOTE, with_missing_quote
from llmtasker.values.folding import caseless
from llmtasker.values.json_values import is_array, is_object, parse_json, parts
from llmtasker.values.lazy_pattern import lazy_pattern

MAX_MENDED = 50_000
"""Characters of one answer, over all its pieces; a longer one is not repaired. 25,000 take 5 ms."""

MAX_STEPS = 12_000
"""Characters of one answer that json-repair may read, counted again each time that it reads them; they take 5 ms."""

MAX_NOTES = 5
MAX_OPEN_COMMENTS = 20  # each is looked for up to the end of the text

_STRING = r'"[^"\\]*+(?>(?:\\.[^"\\]*+)*)"'
_SINGLE = r"(?<=[\s{\[,:(])'[^'\\\n]*+(?>(?:\\.[^'\\\n]*+)*)'"
_COMMENT = lazy_pattern(rf"({_STRING}|{_SINGLE})|(?<![a-z]:)//[^\n]*|/\*.*?\*/|(?<=[\s,{{\[])\#[^\n]*", re.DOTALL)
_QUOTED = lazy_pattern(rf"{_STRING}|{_SINGLE}", re.DOTALL)
_MISSING_COMMA = lazy_pattern(
    rf"({_STRING})|([:\[,]\s*(?:true|false|null|-?\d[\d.eE+-]*))(?=\"[^\"\n]*\"\s*:)", re.DOTALL | re.IGNORECASE
)
_DOUBLED = lazy_pattern(r"\{\s*(\{.*\})\s*\}", re.DOTALL)  # as in a Python template
_ESCAPED_KEY = lazy_pattern(r'[\[\s]*\{(?:\s|\\n)*\\"')
_SINGLE_KEY = lazy_pattern(r"[{,]\s*'[^'\n]*'\s*:")
_QUOTES = "\"'`´‘’“”"
_NO_KEY = lazy_pattern(rf"[{_QUOTES}«»„「」＂″{{}}\[\]:]")
_JOINED = lazy_pattern(rf"[\"']\s*\+\s*[\"']|[{_QUOTES}]\s*[,:]\s*[{_QUOTES}]")
_EMPTY = lazy_pattern(r"\{\s*\}|\[\s*\]")
_NO_VALUE = lazy_pattern(r":\s*(?:[,}\]]|$)|:\s*-\s*[,}\]]")
_ELIDED = lazy_pattern(r"(?:^|[\[{,:])\s*(?:\.\.\.|…)")
_NO_JSON_VALUE = lazy_pattern(r"[:\[,]\s*[+-]?(?:nan|inf|infinity|undefined)\s*[,}\]]", re.IGNORECASE)
_BEYOND_MENDING = (
    (_NO_VALUE, "a value is missing"),
    (lazy_pattern("```"), "a code fence stands inside it"),
    (_ELIDED, "something is left out ('...')"),
    (_NO_JSON_VALUE, "NaN, Infinity and undefined are not JSON values"),
)
# Not the marks of JSON, comments, quotes and bold, nor a currency before a number, nor what can't be seen.
_SIGNS = lazy_pattern(
    rf"[^\w\s{{}}\[\]:,.;{_QUOTES}„\\*/#=$€£¥°\u180e\u200b-\u200f\u2060\ufeff]|(?<!\d)_|_(?!\d)|\$(?=[^\W\d])"
)
# Of an exponent, and "+3", but not the "+" of a telephone number.
_NO_SIGN = lazy_pattern(r"[eE][+-](?=\d)|(?<=[:\[,])\s*\+(?=[\d.]{1,7}(?![\d.]))")
_NO_ESCAPE = lazy_pattern(r"(?<!\\)\\(?:\n|u(?=[0-9a-fA-F])(?![0-9a-fA-F]{4}))")  # part of one, or a line that goes on
_STRAY_ESCAPE = lazy_pattern(r"(?<!\\)(?:\\\\)*\\[^\"\\/bfnrtu']")
_PERHAPS_ESCAPED = lazy_pattern(r"(?<!\\)(?:\\\\)*\\[bfnrt][a-zA-Z]")
_ESCAPE = lazy_pattern(r"\\(?:u([0-9a-fA-F]{4})|.)", re.DOTALL)
_WORD = lazy_pattern(r"\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|[^\W\d_]+")


class NotMendableError(ValueError):
    """The text can't be repaired without leaving out or inventing something."""


class Effort:
    """The effort that is left for one answer: repairing is slow Python, and would block an event loop."""

    def __init__(self) -> None:
        self.characters = MAX_MENDED
        self.steps = MAX_STEPS

    def begin(self, text: str) -> None:
        """Spend the characters of a text; nothing is spent if there are too few."""
        if len(text) > self.characters:
            raise NotMendableError(f"{len(text)} characters are too many to mend")
        self.characters -= len(text)

    def step(self) -> None:
        """Take one step of json-repair."""
        self.steps -= 1
        if self.steps < 0:
            raise NotMendableError("its brackets and quotes are too tangled")


def mend_json(text: str, effort: Effort | None = None, *, flaw: str = "") -> tuple[Any, tuple[str, ...]]:
    """Return the JSON value of a broken JSON text, and what was wrong with it.

    The text must be complete, not cut. A value is returned only if it has the same letters and digits in the same order
    as the text (apart from comments), so nothing is left out and nothing is invented. The pieces of one answer share
    one `effort`; a `flaw` that is known in advance can't be repaired.

    Raises:
        NotMendableError: there is no such value.
    """
    if flaw:
        raise NotMendableError(flaw)
    if (plain := _with_raw_breaks(text)) is not None:
        return plain, ("fixed JSON: raw line breaks in a string",)
    if (doubled := _DOUBLED.fullmatch(text)) is not None:
        with contextlib.suppress(ValueError, RecursionError):
            return parse_json(doubled[1]), ("fixed JSON: doubled braces",)
    if '"' not in text and "&quot;" in text:
        import html  # it loads all named characters

        with contextlib.suppress(ValueError, RecursionError):
            return parse_json(html.unescape(text)), ("fixed JSON: quotes escaped as in HTML",)
    if (whole := mend_whole(text)) is not None:
        return whole
    effort = effort or Effort()
    effort.begin(text)
    if text.count("/*", text.rfind("*/") + 1) > MAX_OPEN_COMMENTS:
        raise NotMendableError("its comments never end")
    if (loose := parse_loose_json(text)) is not None:
        return loose[0], tuple(f"fixed JSON: {slip}" for slip in loose[1])
    if (quoted := with_missing_quote(text)) is not None:
        return quoted, ("fixed JSON: a missing quote",)
    return _by_json_repair(text, effort)


def mend_whole(text: str) -> tuple[Any, tuple[str, ...]] | None:
    """Return the value of JSON in which brackets can't be found: written as in a string, or without its first brace.

    >>> mend_whole('"a": 1}')
    ({'a': 1}, ("fixed JSON: added the missing '{'",))
    """
    if (unescaped := _unescaped_once(text)) is not None:
        return unescaped, ("fixed JSON: quotes escaped as in a string",)
    if text.startswith('"') and text.endswith("}"):
        with contextlib.suppress(ValueError, RecursionError):
            return parse_json(f"{{{text}"), ("fixed JSON: added the missing '{'",)
    return None


def _by_json_repair(text: str, effort: Effort) -> tuple[Any, tuple[str, ...]]:
    # json-repair reads {"a": true"b": 1} as a string 'true' and a stray quote.
    text = _MISSING_COMMA.sub(lambda match: match[1] or f"{match[2]},", text)
    without_comments = _COMMENT.sub(lambda match: match[1] or "", text)
    bare = _QUOTED.sub('""', without_comments)
    for pattern, reason in _BEYOND_MENDING:
        if pattern.search(bare):
            raise NotMendableError(reason)
    value, log = _repair(text, effort)
    if (difference := _difference(value, text, without_comments, bare)) is not None:
        raise NotMendableError(difference)
    return value, tuple(_notes(log))


def _difference(value: Any, text: str, without_comments: str, bare: str) -> str | None:
    """Return what a repaired value adds to its text or lacks of it; None: nothing."""
    inside = list(parts(value))
    objects = [part for part in inside if is_object(part)]
    keys = [str(key) for one in objects for key in one]
    strings = [*keys, *(part for part in inside if isinstance(part, str))]
    if any(isinstance(part, float) and not math.isfinite(part) for part in inside):
        return "a number is out of range"
    if _words_of(value) not in (_words(text), _words(without_comments)):
        return "mending it would change its words"
    if _NO_ESCAPE.search(text) or (_STRAY_ESCAPE.search(text) and _PERHAPS_ESCAPED.search(text)):
        return "what a backslash escapes is not clear"
    if _lost_signs(value, without_comments):
        return "a sign beside a value would be lost"
    if _has_odd_quotes(text, strings) or any(_is_doubtful(string, text) for string in strings):
        return "where its strings begin and end is not clear"
    if any(_is_made_up(key, text) for key in keys):
        return "a key would be made up"
    containers = {"{}": len(objects), "[]": sum(map(is_array, inside))}
    empties = sum(part in ({}, []) for part in inside)
    if len(_EMPTY.findall(bare)) > empties or _lost_brackets(without_comments, containers, "".join(strings)):
        return "mending it would lose brackets"
    return None


def _with_raw_breaks(text: str) -> Any:
    """Return the value if line breaks within strings are all that is wrong, else None."""
    try:
        value = parse_json(text, raw_controls=True)
    except (ValueError, RecursionError):
        return None  # something else is wrong as well
    # A break before the closing quote is layout: json-repair drops it.
    strings = re.finditer(_STRING, text, re.DOTALL)
    return None if any(match[0][:-1] != match[0][:-1].rstrip("\r\n") for match in strings) else value


def _unescaped_once(text: str) -> Any:
    """Return the value of JSON that is escaped as if it were in a JSON string, or None."""
    if _ESCAPED_KEY.match(text) is None:
        return None
    try:
        return parse_json(parse_json(f'"{text}"', raw_controls=True), raw_controls=True)
    except (ValueError, RecursionError, TypeError):
        return None


def _has_odd_quotes(text: str, strings: list[str]) -> bool:
    """Return whether a quote is missing or extra: then there are two readings."""
    if _SINGLE_KEY.search(text) is None:
        return len(UNESCAPED_QUOTE.findall(text)) % 2 == 1
    around = sum(f"'{string}'" in text or repr(string) in text for string in strings)
    return text.count("'") - sum(string.count("'") for string in strings) != 2 * around


def _is_doubtful(string: str, text: str) -> bool:
    """Return whether a repaired string may also be read as another one, as two, or not as a string."""
    if _is_quoted(string, text):
        return False
    ends = string[:1] + string[-1:]
    if any(quote in ends for quote in _QUOTES) or _JOINED.search(string) or string.count('"') % 2 == 1:
        return True
    start = string[:20].partition("\n")[0]
    return "\n" in string and not any(f"{quote}{start}\n" in text for quote in "\"'")


def _is_quoted(string: str, text: str) -> bool:
    """Return whether a text has a string as JSON writes it."""
    return any(json.dumps(string, ensure_ascii=ascii_only) in text for ascii_only in (True, False))


def _lost_brackets(text: str, made: dict[str, int], content: str) -> bool:
    """Return whether brackets of the text are neither structure nor in a string; an extra one is not a loss."""
    for pair, number in made.items():
        for char, other in zip(pair, reversed(pair), strict=True):
            too_many = max(0, text.count(char) - text.count(other))
            if text.count(char) - too_many > content.count(char) + number:
                return True
    return False


def _lost_signs(value: Any, text: str) -> bool:
    """Return whether the values lack a sign of the text: '−3', '~3' and '<3' are not 3, '!true' is not true.

    Brackets around a value may be lost, both of them.
    """
    signs = Counter(_SIGNS.findall(_NO_SIGN.sub("", text)))
    if signs:
        signs -= Counter(_SIGNS.findall(_NO_SIGN.sub("", json.dumps(value, ensure_ascii=False))))
    return signs.pop("(", 0) != signs.pop(")", 0) or bool(signs)


def _is_made_up(key: str, text: str) -> bool:
    """Return whether the text lacks a repaired key: the key was joined across quotes, or no colon follows it."""
    if _NO_KEY.search(key) and not _is_quoted(key, text):
        return True
    return "\\" not in text and re.search(rf"{re.escape(key)}[{_QUOTES}]*\s*:", text) is None


class _Bounded(str):
    """A text that can be examined a limited number of times."""

    __slots__ = ("effort",)
    effort: Effort

    def __getitem__(self, key: SupportsIndex | slice) -> str:
        self.effort.step()
        return str.__getitem__(self, key)


def _repair(text: str, effort: Effort) -> tuple[Any, list[dict[str, str]]]:
    import json_repair

    bounded = _Bounded(text)
    bounded.effort = effort
    try:
        repaired: Any = json_repair.repair_json(bounded, return_objects=True, skip_json_loads=True, logging=True)
    except NotMendableError:
        raise
    except Exception as error:  # a third-party parser on a hostile text; RecursionError is one
        raise NotMendableError(f"json-repair fails: {snippet(error, 80)}") from error
    value, log = repaired
    return value, log


def _notes(log: list[dict[str, str]]) -> Iterator[str]:
    texts = list(dict.fromkeys(entry.get("text", "") for entry in log)) or ["wrong punctuation"]
    for text in texts[:MAX_NOTES]:
        yield f"fixed JSON: {snippet(text, 120)}"
    if len(texts) > MAX_NOTES:
        yield f"fixed JSON: {len(texts) - MAX_NOTES} more"


def _words(text: str) -> str:
    """Return the letters and digits of a text, in one case, with numbers in one notation."""
    plain = _ESCAPE.sub(lambda match: chr(int(match[1], 16)) if match[1] else _unescaped(match[0][1]), text)
    return "".join(_word(match[0]) for match in _WORD.finditer(plain))


def _unescaped(char: str) -> str:
    return " " if char in "nrtbf" else char


def _word(word: str) -> str:
    if word[0].isdigit():
        return repr(float(word)) if "." in word or "e" in word.lower() else word
    folded = caseless(word)
    return "null" if folded == "none" else folded


def _words_of(value: Any) -> str:
    if is_object(value):
        return "".join(_words(str(key)) + _words_of(item) for key, item in value.items())
    if is_array(value):
        return "".join(_words_of(item) for item in value)
    if isinstance(value, str):
        return _words(value)
    return _words("null" if value is None else repr(value))
