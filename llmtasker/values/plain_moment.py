"""plain_moment: read days, times and durations as people write them; only those with one reading are accepted."""

from __future__ import annotations

import datetime
import re
from numbers import Number

from llmtasker.values.folding import without_accents
from llmtasker.values.lazy_pattern import lazy_pattern

MOMENTS = frozenset({"date", "date-time", "time", "duration"})
"""Formats of texts that Pydantic would also make from a number, as a count of seconds."""

# In English, French and German, without accents; a name may be shortened to what only one month begins with.
_MONTHS = (
    "january janvier januar", "february fevrier februar", "march mars marz", "april avril", "may mai", "june juin juni",
    "july juillet juli", "august aout", "september septembre", "october octobre oktober", "november novembre",
    "december decembre dezember",
)  # fmt: skip
_WEEKDAYS = (
    "monday lundi montag", "tuesday mardi dienstag", "wednesday mercredi mittwoch", "thursday jeudi donnerstag",
    "friday vendredi freitag", "saturday samedi samstag", "sunday dimanche sonntag",
)  # fmt: skip
_SHORTEST_NAME = 3
_LONGEST = 100  # characters

_BEFORE = r"(?:(?:le|the|on|am) )?(?:([a-z]{3,})\.?,? (?:the )?)?"  # 'le', 'Tuesday, '
_YEAR_FIRST = lazy_pattern(r"(\d{4})([-/.])(\d{1,2})\2(\d{1,2})")
_YEAR_LAST = lazy_pattern(r"(\d{1,2})([-/.])(\d{1,2})\2(\d{4})")
_COMPACT = lazy_pattern(r"((?:19|20)\d\d)([01]\d)([0-3]\d)")
_DAY_FIRST = lazy_pattern(
    rf"{_BEFORE}(?P<day>\d{{1,2}})(?:er|st|nd|rd|th|\.)?[ -](?:of )?(?P<month>[a-z]+)\.?,?[ -](?P<year>\d{{4}})"
)
_MONTH_FIRST = lazy_pattern(rf"{_BEFORE}(?P<month>[a-z]+)\.? (?P<day>\d{{1,2}})(?:st|nd|rd|th)?,? (?P<year>\d{{4}})")
_TIME = r"\d{1,2}(?: ?[h:] ?\d\d(?:[:m]\d\d)?| ?h)?(?: ?[ap]\.?m)?"
_CLOCK = lazy_pattern(r"(\d{1,2})(?: ?([h:]) ?(\d\d)?(?:[:m](\d\d))?)?(?: ?([ap])\.?m)?")
_DAY_AND_TIME = lazy_pattern(rf"(.*?\d),? (?:(?:a|at|um) )?({_TIME})")
_ISO = lazy_pattern(r"\d{4}-\d\d-\d\d(?:[T ]\d\d:[^APap]*)?|\d\d:\d\d(?::[^APap]*)?")
_N, _NEXT = r"(\d+(?:[.,]\d\d?)?) ?", r"(?:,? (?:(?:and|et|und) )?)?"
_DURATION = lazy_pattern(
    rf"(?:{_N}(?:weeks?|semaines?|wochen?))?{_NEXT}(?:{_N}(?:days?|jours?|tage?|[dj]))?{_NEXT}"
    rf"(?:{_N}(?:hours?|heures?|stunden?|hrs?|std|h)(?:{_NEXT}(\d+)m?(?![\w.,]| ?[a-z]))?)?{_NEXT}"
    rf"(?:{_N}(?:minutes?|minuten|mins?|mn))?{_NEXT}(?:{_N}(?:secondes?|seconds?|sekunden?|secs?|s))?"
)
_SECONDS = (604_800, 86_400, 3_600, 60, 60, 1)  # of the groups above
_NUMERIC = lazy_pattern(r"\s*[+-]?(?:\d[\d_]*\.?\d*|\.\d+)(?:e[+-]?\d+)?\s*", re.IGNORECASE)
# What Pydantic reads in one of its two readings: a range of times, as an offset; 3 min 45 s, as 3 h 45 min.
_UNCLEAR = {
    "time": lazy_pattern(r"[Tt]?\d\d:\d\d-\d\d:\d\d"),
    # No place has other offsets to the west than these.
    "date-time": lazy_pattern(r".* \d\d:\d\d-\d\d:\d\d|.*\d-(?!(?:0\d|1[01]):00|0[2349]:30)\d\d:\d\d"),
    "duration": lazy_pattern(r"\d\d:\d\d"),
}


_TWO_TIMES = lazy_pattern(r"[^:\d](\d\d:\d\d)-(\d\d:\d\d)$")


def plain_moment(text: str, kind: str) -> str | None:
    """Return a text of the format `kind` ("date", "date-time", "time", "duration") in ISO 8601, or None.

    >>> plain_moment("le 3 mars 2026", "date"), plain_moment("24/03/2026", "date"), plain_moment("03/04/2026", "date")
    ('2026-03-03', '2026-03-24', None)
    >>> plain_moment("March 24, 2026 at 2:30 PM", "date-time"), plain_moment("14h", "time")
    ('2026-03-24T14:30', '14:00')
    >>> plain_moment("1h30", "duration"), plain_moment("3m", "duration")
    ('PT5400S', None)
    """
    if len(text) > _LONGEST:
        return None
    bare = text.strip(" \t\r\n*_`\"'.")
    if _ISO.fullmatch(bare):
        return None if is_unclear(bare, kind) else bare
    bare = " ".join(without_accents(bare).split())
    if kind == "duration":
        return _length(bare)
    if kind == "time":
        return _time(bare)
    if kind == "date-time" and (both := _DAY_AND_TIME.fullmatch(bare)):
        day, time = _day(both[1]), _time(both[2])
        return f"{day}T{time}" if day and time else _day(bare)
    return _day(bare)


def is_numeric(text: str) -> bool:
    """Return whether a text is a number, which Pydantic would take for a count of seconds."""
    return _NUMERIC.fullmatch(text) is not None


def is_unclear(text: str, kind: str) -> bool:
    """Return whether a text has two readings, one of which Pydantic takes.

    >>> is_unclear("14:30-15:00", "time"), is_unclear("14:30:00-05:00", "time"), is_unclear("03:45", "duration")
    (True, False, True)
    """
    pattern = _UNCLEAR.get(kind)
    if pattern is None:
        return False
    # After "03:00", "-05:00" may be an offset or the end; after "10:00", it is no end.
    both = _TWO_TIMES.search(text) if kind == "date-time" else None
    return pattern.fullmatch(text) is not None or (both is not None and both[2] > both[1])


def refused_moment(value: object, kind: str) -> str | None:
    """Return why a value that `plain_moment` does not read is not of the format, and what to write; None: it may be.

    >>> refused_moment(20260302, "date"), refused_moment("soon", "date")
    ('a number is not a date; write it as text in ISO 8601', None)
    >>> refused_moment("14:30-15:00", "time")
    'it has two readings as a time; write it in ISO 8601'
    >>> refused_moment("12/03/2026", "date")
    'it is 2026-03-12 or 2026-12-03; write it in ISO 8601'
    """
    if isinstance(value, Number):
        return f"a number is not a {kind}; write it as text in ISO 8601"
    if not isinstance(value, str):
        return None
    if is_numeric(value):
        return f"a number is not a {kind}; write it in ISO 8601"
    if kind != "time" and len(days := two_days(value)) > 1:
        return f"it is {days[0]} or {days[1]}; write it in ISO 8601"
    return f"it has two readings as a {kind}; write it in ISO 8601" if is_unclear(value.strip(), kind) else None


def two_days(text: str) -> list[str]:
    """Return the days that a text may be, as day and month or the other way round; none where only one fits.

    >>> two_days("12/03/2026 14:30"), two_days("24/03/2026"), two_days("03/03/2026")
    (['2026-03-12', '2026-12-03'], [], [])
    """
    match = _YEAR_LAST.match(text.strip()) if len(text) <= _LONGEST else None
    days = _year_last(match) if match else []
    return days if len(days) > 1 else []


def _year_last(match: re.Match[str]) -> list[str]:
    days = (_iso(match[4], match[3], match[1]), _iso(match[4], match[1], match[3]))
    return [day for day in dict.fromkeys(days) if day]


def _named(word: str, names: tuple[str, ...]) -> int | None:
    """Return the place of the only name that a word is, or begins."""
    found = [place for place, several in enumerate(names) if any(one.startswith(word) for one in several.split())]
    return found[0] if len(word) >= _SHORTEST_NAME and len(found) == 1 else None


def _day(text: str) -> str | None:
    if (match := _COMPACT.fullmatch(text)) is not None:
        return _iso(match[1], match[2], match[3])
    if (match := _YEAR_FIRST.fullmatch(text)) is not None:
        return _iso(match[1], match[3], match[4])
    if (match := _YEAR_LAST.fullmatch(text)) is not None:
        days = _year_last(match)
        return days[0] if len(days) == 1 else None  # whether the day or the month comes first
    match = _DAY_FIRST.fullmatch(text) or _MONTH_FIRST.fullmatch(text)
    month = _named(match["month"], _MONTHS) if match else None
    if match is None or month is None:
        return None
    day = _iso(match["year"], month + 1, match["day"])
    if day and match[1] and datetime.date.fromisoformat(day).weekday() != _named(match[1], _WEEKDAYS):
        return None
    return day


def _iso(year: str, month: str | int, day: str) -> str | None:
    try:
        return datetime.date(int(year), int(month), int(day)).isoformat()
    except ValueError:
        return None


def _time(text: str) -> str | None:
    match = _CLOCK.fullmatch(text)
    if match is None or not (match[2] or match[5]) or (match[2] == ":" and not match[3]):
        return None
    hour = int(match[1])
    if match[5]:
        if not 1 <= hour <= 12:
            return None
        hour = hour % 12 + (12 if match[5] == "p" else 0)
    if hour > 23 or int(match[3] or 0) > 59 or int(match[4] or 0) > 59:
        return None
    return f"{hour:02}:{match[3] or '00'}" + (f":{match[4]}" if match[4] else "")


def _length(text: str) -> str | None:
    match = _DURATION.fullmatch(text)
    if match is None or not any(match.groups()):
        return None
    parts = [float(part.replace(",", ".")) if part else 0.0 for part in match.groups()]
    seconds = round(sum(part * each for part, each in zip(parts, _SECONDS, strict=True)), 3)
    return f"PT{seconds:.10g}S"
