"""Make texts comparable (without case, without accents, letters only) and encodable."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from llmtasker.values.lazy_pattern import lazy_pattern

_NOT_LETTERS = lazy_pattern(r"[\W_]+")
_BACKTICK = lazy_pattern(r"(?<=[^\W\d_])`(?=[^\W\d_])")
_APOSTROPHE = lazy_pattern("[’‘´ʼ＇′]")
_BEYOND_ASCII = lazy_pattern(r"[^\x00-\x7f]+")


def caseless(text: str) -> str:
    """Return a text without the difference between upper and lower case, and between forms of one letter.

    >>> caseless("ＦＡＣＴＵＲＥ Réglée")
    'facture réglée'
    """
    return text.lower() if text.isascii() else unicodedata.normalize("NFKC", text).casefold()


def without_accents(text: str) -> str:
    """Return a text without case and without accents; all forms of an apostrophe become a plain one.

    >>> without_accents("L’Été")
    "l'ete"
    """
    text = _BACKTICK.sub("'", text.lower())
    return text if text.isascii() else _BEYOND_ASCII.sub(_folded, text)


def _folded(run: re.Match[str]) -> str:
    return _fold_short(run[0]) if len(run[0]) <= _SHORT else _fold(run[0])


def _fold(text: str) -> str:
    text = unicodedata.normalize("NFKD", _APOSTROPHE.sub("'", text))
    # Computed once for each distinct letter, not for each character.
    marks = {ord(char): None for char in set(text) if unicodedata.combining(char)}
    return text.translate(marks).casefold()


_SHORT = 4  # characters: a language has few runs this short
_fold_short = lru_cache(4096)(_fold)


def composed(text: str) -> str:
    """Return a text whose accented letters are one character each, however they were typed; case stays."""
    return unicodedata.normalize("NFC", text)


def ascii_letters(text: str) -> str:
    """Return the ASCII part of a text, with accents removed; case stays.

    >>> ascii_letters("Équipe № 1")
    'Equipe No 1'
    """
    return unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()


def letters(text: str) -> str:
    """Return only the letters and digits of a text.

    >>> letters("unit-price_2")
    'unitprice2'
    """
    return _NOT_LETTERS.sub("", text)


def encodable(text: str) -> str:
    """Return a text as UTF-8 can store and send it: with a question mark for each lone surrogate.

    >>> encodable("a\\ud800")
    'a?'
    """
    return text.encode("utf-8", "replace").decode()
