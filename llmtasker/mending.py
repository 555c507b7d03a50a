"""The only file that imports json_repair: broken JSON is mended, if what comes out says all that went in and nothing else."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from llmtasker.candidates import parse
from llmtasker.errors import snippet

MAX_MENDED = 50_000
"""Characters; longer texts are not mended, for json-repair may need a second for them."""

MAX_NOTES = 5

_STRING = r'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_SINGLE = r"(?<=[\s{\[,:(])'[^'\\\n]*+(?:\\.[^'\\\n]*+)*+'"
_COMMENT = re.compile(rf"({_STRING}|{_SINGLE})|(?<![a-z]:)//[^\n]*|/\*.*?\*/|(?<=[\s,{{\[])\#[^\n]*", re.DOTALL)
_QUOTED = re.compile(rf"{_STRING}|{_SINGLE}", re.DOTALL)
_MISSING_COMMA = re.compile(
    rf"({_STRING})|([:\[,]\s*(?:true|false|null|-?\d[\d.eE+-]*))(?=\"[^\"\n]*\"\s*:)", re.DOTALL | re.IGNORECASE
)
_EMPTY = re.compile(r"\{\s*\}|\[\s*\]")
_NO_VALUE = re.compile(r":\s*(?:[,}\]]|$)|:\s*-\s*[,}\]]")
_ELIDED = re.compile(r"(?:^|[\[{,:])\s*(?:\.\.\.|…)")
_NOT_FINITE = re.compile(r"[:\[,]\s*[+-]?(?:nan|inf|infinity)\s*[,}\]]", re.IGNORECASE)
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|.)", re.DOTALL)
_WORD = re.compile(r"\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|[^\W\d_]+")
_CONSTANTS = {"none": "null", "undefined": "null"}


class NotMendableError(ValueError):
    """The text can't be mended without leaving out or making up something."""


def mend(text: str) -> tuple[Any, tuple[str, ...]]:
    """Return the JSON value that a broken JSON text says, and what was wrong with it.

    The text must be whole: a cut one is not for mending. A mended value is given only if it has the same letters and
    digits in the same order as the text (comments aside), so nothing is left out and nothing is made up.

    Raises:
        NotMendableError: there is no such value.
    """
    if (plain := _with_raw_breaks(text)) is not None:
        return plain, ("mended JSON: raw line breaks in a string",)
    if len(text) > MAX_MENDED:
        raise NotMendableError(f"{len(text)} characters are too many to mend")
    # json-repair reads {"a": true"b": 1} as a string 'true' and a stray quote.
    text = _MISSING_COMMA.sub(lambda match: match[1] or f"{match[2]},", text)
    bare = _QUOTED.sub('""', _COMMENT.sub(lambda match: match[1] or "", text))
    for pattern, reason in ((_NO_VALUE, "a value is missing"), (_ELIDED, "something is left out ('...')")):
        if pattern.search(bare):
            raise NotMendableError(reason)
    if _NOT_FINITE.search(bare):
        raise NotMendableError("NaN and Infinity are no JSON numbers")
    value, log = _repair(text)
    without_comments = _COMMENT.sub(lambda match: match[1] or "", text)
    if _words_of(value) not in (_words(text), _words(without_comments)):
        raise NotMendableError("mending it would change what it says")
    if any(_has_stray_quote(string, text) for string in _strings(value)):
        raise NotMendableError("where its strings end is not clear")
    if len(_EMPTY.findall(bare)) != _empties(value):
        raise NotMendableError("mending it would lose an empty object or list")
    return value, tuple(_notes(log))


def _with_raw_breaks(text: str) -> Any:
    """The value, if line breaks within strings are all that is wrong; None if not."""
    if any(match[0][:-1] != match[0][:-1].rstrip("\r\n") for match in re.finditer(_STRING, text, re.DOTALL)):
        return None  # a break before the closing quote is layout: json-repair drops it
    try:
        return parse(text, raw_controls=True)
    except (ValueError, RecursionError):
        return None


def _has_stray_quote(string: str, text: str) -> bool:
    """Tell whether a mended string has a quote too many, which was rather the end of another string."""
    if '"' not in string and "'" not in string[:1] + string[-1:]:
        return False
    if json.dumps(string, ensure_ascii=False) in text or json.dumps(string) in text:
        return False
    odd_single = string.count("'") % 2 == 1 and "'" in string[:1] + string[-1:]
    return string.count('"') % 2 == 1 or odd_single


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield str(key)
            yield from _strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)
    elif isinstance(value, str):
        yield value


def _empties(value: Any) -> int:
    if isinstance(value, dict | list) and not value:
        return 1
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return sum(_empties(item) for item in items)


def _repair(text: str) -> tuple[Any, list[dict[str, str]]]:
    import json_repair

    try:
        repaired: Any = json_repair.repair_json(text, return_objects=True, skip_json_loads=True, logging=True)
    except Exception as error:  # noqa: BLE001 - a third-party parser on hostile text; also RecursionError
        raise NotMendableError(f"json-repair fails: {snippet(error, 80)}") from error
    value, log = repaired
    return value, log


def _notes(log: list[dict[str, str]]) -> Iterator[str]:
    texts = list(dict.fromkeys(entry.get("text", "") for entry in log)) or ["wrong punctuation"]
    for text in texts[:MAX_NOTES]:
        yield f"mended JSON: {snippet(text, 120)}"
    if len(texts) > MAX_NOTES:
        yield f"mended JSON: {len(texts) - MAX_NOTES} more"


def _words(text: str) -> str:
    """The letters and digits of a text, in one case, with numbers in one notation."""
    plain = _ESCAPE.sub(lambda match: chr(int(match[1], 16)) if match[1] else _unescaped(match[0][1]), text)
    return "".join(_word(match[0]) for match in _WORD.finditer(plain))


def _unescaped(char: str) -> str:
    return " " if char in "nrtbf" else char


def _word(word: str) -> str:
    if word[0].isdigit():
        return repr(float(word)) if "." in word or "e" in word.lower() else word
    folded = word.casefold()
    return _CONSTANTS.get(folded, folded)


def _words_of(value: Any) -> str:
    if isinstance(value, dict):
        return "".join(_words(str(key)) + _words_of(item) for key, item in value.items())
    if isinstance(value, list):
        return "".join(_words_of(item) for item in value)
    if isinstance(value, str):
        return _words(value)
    return _words("null" if value is None else repr(value))
