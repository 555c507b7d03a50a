"""How people and LLMs write "nothing", and which texts Pydantic would take for a number."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation

from llmtasker.values.folding import caseless
from llmtasker.values.lazy_pattern import lazy_pattern
from llmtasker.values.plain_number import plain_number

LONGEST_FLOAT = 16
"""Characters of a number that a float represents exactly; longer numbers may have lost digits for a Decimal."""

_LONGEST_KEY = 300  # digits: with more, Python's number types differ

_NOT_FINITE = lazy_pattern(r"\s*[+-]?(?:nan|inf|infinity)\s*", re.IGNORECASE)
_EXPONENT = lazy_pattern(r"\s*[+-]?\d+(?:\.\d*)?e[+-]?\d{3,}\s*", re.IGNORECASE)
_LOST_BACKSLASH = lazy_pattern(r"[\b\f][a-z]")
_NULL_TEXTS = frozenset({"null", "none", "nil", "n/a"})
_NULLS = _NULL_TEXTS | {"", "na", "-"}


def means_null(text: str, *, in_text_field: bool) -> bool:
    """Return whether a text means "no value"; a field of free text may be empty, or 'NA' (Namibia).

    >>> means_null("None", in_text_field=True), means_null("", in_text_field=True), means_null("", in_text_field=False)
    (True, False, True)
    """
    return len(text) <= 6 and caseless(text.strip()) in (_NULL_TEXTS if in_text_field else _NULLS)


def number_key(text: str) -> str | None:
    """Return the one form in which a number is compared as a key, however it is written; None: it is not a number.

    >>> number_key("07"), number_key("7.0"), number_key("7e0"), number_key("1,50"), number_key("seven")
    ('7', '7', '7', '1.5', None)
    """
    try:
        number = Decimal(plain_number(f" {text}") or text)
    except InvalidOperation:
        return None
    if not number.is_finite() or abs(number.adjusted()) > _LONGEST_KEY:
        return None
    return str(int(number)) if number == int(number) else repr(float(number))


def is_address(format_: object) -> bool:
    """Return whether a format is that of a network address, which Pydantic would also make from a number."""
    return isinstance(format_, str) and format_.startswith("ipv")


def lost_backslash(text: str) -> bool:
    """Return whether a text read from JSON has lost a backslash: '\\beta' became a backspace and 'eta'.

    >>> lost_backslash("\beta"), lost_backslash("beta")
    (True, False)
    """
    return ("\b" in text or "\f" in text) and _LOST_BACKSLASH.search(text) is not None


def is_finite(text: str) -> bool:
    """Return whether a text that Pydantic might read as a number is a finite one."""
    return _NOT_FINITE.fullmatch(text) is None and _EXPONENT.fullmatch(text) is None
