"""plain_number: read numbers as people and LLMs write them; only those with exactly one reading are accepted."""

from __future__ import annotations

import re

from llmtasker.values.lazy_pattern import lazy_pattern

_UNIT = r"(?:[$€£¥]|EUR|USD|GBP|CHF|[Ee]uros?|[Dd]ollars?)?"
_CURRENCY = lazy_pattern(rf"{_UNIT}[ \u00a0\u202f]*([+-]?\d(?:.*\d)?)[ \u00a0\u202f]*{_UNIT}")
_GROUPED = lazy_pattern(r"[+-]?\d{1,3}(?:[ \u00a0\u202f_'’]\d{3})+(?:\.\d+)?")
_COMMA_GROUPS = lazy_pattern(r"[+-]?\d{1,3}(?:,\d{3}){2,}(?:\.\d+)?|[+-]?\d{1,3}(?:,\d{3})+\.\d+")
_DOT_GROUPS = lazy_pattern(r"[+-]?\d{1,3}(?:\.\d{3}){2,}(?:,\d+)?|[+-]?\d{1,3}(?:\.\d{3})+,\d+")
_COMMA_DECIMALS = lazy_pattern(
    r"[+-]?(?:\d{1,3}(?:[ \u00a0\u202f'’]\d{3})+,\d+|0,\d+|\d{4,},\d+|\d+,(?:\d\d|\d{4,}))"
)  # not "1,234", which may be a thousand, nor "3,4", which may be two numbers
_THREE_DECIMALS = lazy_pattern(r"[+-]?[1-9]\d{0,2}\.\d{3}")  # "1.234 €" may be a thousand; a bare 1.234 is JSON's
_ONE_DECIMAL = lazy_pattern(r"[+-]?\d+,\d")
_PLAIN = lazy_pattern(r"[+-]?\d+(?:\.\d+)?")
_WORDS = lazy_pattern(r"[$€£¥]|[^\W\d_]+")
_CURRENCIES = {
    "$": ("$", "usd", "dollar"),
    "€": ("€", "eur", "euro"),
    "£": ("£", "gbp"),
    "¥": ("¥", "yen", "jpy"),
    "CHF": ("chf",),
}
_SIGNS = {word: sign for sign, words in _CURRENCIES.items() for word in words}


def plain_number(text: str, *, alone: bool = False) -> str | None:
    """Return a number as people write it in plain digits, or None unless it has exactly one reading.

    `alone` is whether only one number is possible, so that "3,4" can't be two numbers.

    >>> plain_number("€ 1,234.50"), plain_number("1 234,5"), plain_number("1,234"), plain_number("1.234 €")
    ('1234.50', '1234.5', None, None)
    >>> plain_number("3,4"), plain_number("3,4", alone=True)
    (None, '3.4')
    """
    bare = text.strip().replace("−", "-")
    match = _CURRENCY.fullmatch(bare)
    if match is None:
        return None
    number, alone = match[1], alone or match[1] != bare
    if _GROUPED.fullmatch(number):
        return re.sub(r"[ \u00a0\u202f_'’]", "", number)
    if _COMMA_GROUPS.fullmatch(number):
        return number.replace(",", "")
    if _DOT_GROUPS.fullmatch(number):
        return number.replace(".", "").replace(",", ".")
    if _COMMA_DECIMALS.fullmatch(number) or (alone and _ONE_DECIMAL.fullmatch(number)):
        return re.sub(r"[ \u00a0\u202f'’]", "", number).replace(",", ".")
    if number != bare and may_be_thousands(number):
        return None
    return number if number != text and _PLAIN.fullmatch(number) else None


def currencies(text: str) -> set[str]:
    """Return the signs of the currencies that a text names.

    >>> currencies("12,50 $"), currencies("price_eur, in Euros"), currencies("a price")
    ({'$'}, {'€'}, set())
    """
    words = (word.removesuffix("s") for word in _WORDS.findall(text.lower()))
    return {_SIGNS[word] for word in words if word in _SIGNS}


def may_be_thousands(text: str) -> bool:
    """Return whether a number has either three decimals, or a dot between its thousands.

    >>> may_be_thousands("12.000"), may_be_thousands("12.0")
    (True, False)
    """
    return _THREE_DECIMALS.fullmatch(text.strip()) is not None
