"""The language of a page or a report: its words, and its format of numbers, amounts, times and dates."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from functools import cache
from importlib.resources import files
from typing import Any, Literal, Self

from llmtasker.values.argument_checks import check_choice
from llmtasker.values.json_values import parse_json

Code = Literal["en", "fr"]
CODES: tuple[Code, ...] = ("en", "fr")

_NARROW, _WIDE = "\u202f", "\u00a0"  # no break: before ; ! ? % and in thousands; before : and inside « »
_ENGLISH_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip
_FRENCH_MONTHS = (
    "janvier", "février", "mars", "avril", "mai", "juin", "juillet", "août", "septembre", "octobre", "novembre",
    "décembre",
)  # fmt: skip


class Count(str):
    """A number in the format of a language; within words it chooses between two forms: `{count:row|rows}`."""

    single: bool

    def __new__(cls, text: str, *, single: bool) -> Self:
        made = super().__new__(cls, text)
        made.single = single
        return made

    def __format__(self, spec: str) -> str:
        one, chosen, many = spec.partition("|")
        return str(self) if not chosen else one if self.single else many


@dataclass(frozen=True)
class Locale:
    """The words and formats of one of the two languages. Users' texts are never passed through it."""

    code: Code
    _set: dict[str, str] = field(default_factory=dict[str, str], compare=False)

    def text(self, words: str, **values: Any) -> str:
        """Return words in this language; `{name}` is replaced by a value.

        `{name:row|rows}` is replaced by the first word if the value is a `count` of one, else by the second.

        Raises:
            KeyError: French has no such words.
        """
        text = self._set.get(words)
        if text is None:
            text = self._set[words] = words if self.code == "en" else typeset(french()[words])
        return text.format_map(values)

    def number(self, value: float, digits: int = 0, *, sign: bool = False) -> str:
        """Return a number with its thousands apart: 9,412 or 9 412; with `sign`, also a plus.

        >>> Locale("en").number(9412.5, 1), Locale("fr").number(9412.5, 1)
        ('9,412.5', '9\\u202f412,5')
        """
        text = f"{value:{'+' if sign else ''},.{digits}f}"
        return text if self.code == "en" else text.replace(",", _NARROW).replace(".", ",").replace("-", "−")

    def count(self, number: float, digits: int = 0, *, sign: bool = False) -> Count:
        """Return a number of things, for words that follow it; English has "1 row", but "1.0 rows".

        >>> for count in (1, 1234):
        ...     "{count} {count:row|rows}".format(count=Locale("en").count(count))
        '1 row'
        '1,234 rows'
        """
        single = number == 1 and not digits if self.code == "en" else abs(round(number, digits)) < 2
        return Count(self.number(number, digits, sign=sign), single=single)

    def percent(self, share: float, digits: int = 1) -> str:
        """Return a share in percent: 84.3 % or 84,3 %."""
        return f"{self.number(100 * share, digits)}{' ' if self.code == 'en' else _NARROW}%"

    def money(self, cost: float | None) -> str:
        """Return US dollars with the significant digits: $1.41 or 1,41 $; "price unknown" for None."""
        if cost is None:
            return self.text("price unknown")
        digits = 2 if cost >= 0.1 or cost == 0 else 4 if cost >= 0.001 else 6
        return f"${self.number(cost, digits)}" if self.code == "en" else f"{self.number(cost, digits)}{_WIDE}$"

    def bytes(self, size: int) -> str:
        """Return a size: 2.1 MB or 2,1 Mo."""
        for unit, scale in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
            if size >= scale:
                digits = 0 if size % scale == 0 else 1
                return f"{self.number(size / scale, digits)}{_WIDE}{unit}{'B' if self.code == 'en' else 'o'}"
        return f"{self.number(size)}{_WIDE}{'bytes' if self.code == 'en' else 'octets'}"

    def rows(self, count: int) -> str:
        """Return a number of rows with its noun."""
        words = "{0}\u00a0{0:row|rows}" if self.code == "en" else "{0}\u00a0{0:ligne|lignes}"
        return words.format(self.count(count))

    def time_span(self, seconds: float) -> str:
        """Return a duration in everyday form: 40 s, 9 min, 2 h 05."""
        if seconds < 60:
            return f"{self.number(max(1, round(seconds)))}{_WIDE}s"
        minutes = round(seconds / 60)
        if minutes < 60:
            return f"{minutes}{_WIDE}min"
        hours, minutes = divmod(minutes, 60)
        return f"{self.number(hours)}{_WIDE}h{_WIDE}{minutes:02d}"

    def clock(self, seconds: float) -> str:
        """Return the time of day of a time since 1970, where the server is."""
        return datetime.fromtimestamp(seconds).astimezone().strftime("%H:%M")

    def when(self, seconds: float, now: float) -> str:
        """Return the day of a time, with its hour if it was today or yesterday."""
        then, today = datetime.fromtimestamp(seconds).astimezone(), datetime.fromtimestamp(now).astimezone().date()
        hour = then.strftime("%H:%M")
        if then.date() == today:
            return self.text("today, {hour}", hour=hour)
        if then.date() == today - timedelta(days=1):
            return self.text("yesterday, {hour}", hour=hour)
        if self.code == "en":
            return f"{then.day}{_WIDE}{_ENGLISH_MONTHS[then.month - 1]}"
        return f"{'1er' if then.day == 1 else then.day}{_WIDE}{_FRENCH_MONTHS[then.month - 1]}"

    def cell(self, value: Any) -> str:
        """Return a cell of a file as this language writes it: a date, a time, or a moment; others as they are.

        >>> for language in map(locale_of, CODES):
        ...     language.cell(datetime(2026, 3, 1, 14, 30)), language.cell(date(2026, 3, 1))
        ('1 March 2026, 14:30', '1 March 2026')
        ('01/03/2026 14:30', '01/03/2026')
        """
        if isinstance(value, datetime):
            return f"{self._day(value)}{', ' if self.code == 'en' else ' '}{_hour(value.timetz())}"
        if isinstance(value, date):
            return self._day(value)
        return _hour(value) if isinstance(value, time) else str(value)

    def _day(self, day: date) -> str:
        # In English the order of numbers differs from one country to the next.
        if self.code == "en":
            return f"{day.day} {_ENGLISH_MONTHS[day.month - 1]} {day.year}"
        return f"{day.day:02d}/{day.month:02d}/{day.year:04d}"


def _hour(moment: time) -> str:
    """Return a time of day with the parts that it has: seconds, fractions, its offset from UTC."""
    return moment.isoformat("auto" if moment.second or moment.microsecond else "minutes")


@cache
def french() -> Mapping[str, str]:
    """Return the words in French; spaces before signs are ordinary there, and are typeset later."""
    words: dict[str, str] = parse_json(files("llmtasker.values").joinpath("french.json").read_text(encoding="utf-8"))
    return words


def typeset(text: str) -> str:
    """Return a French text with the spaces that its punctuation requires.

    >>> typeset("Vrai ? « oui » : 3 %")
    'Vrai\\u202f? «\\xa0oui\\xa0»\\xa0: 3\\u202f%'
    """
    text = re.sub(r" ([;!?%])", _NARROW + r"\1", text)
    return re.sub(r" ([:»])", _WIDE + r"\1", text).replace("« ", f"«{_WIDE}").replace("'", "’")


def locale_of(code: str) -> Locale:
    """Return a language by its code.

    Raises:
        ConfigurationError: there is no such language.
    """
    check_choice("language", code, CODES)
    return _LOCALES[code]


_LOCALES: Mapping[str, Locale] = {code: Locale(code) for code in CODES}
