"""A text that matches a simple regular expression."""

from __future__ import annotations

import re

_ATOM = re.compile(
    r"(?P<set>\[\^?\]?(?:\\.|[^\]\\])*\])|(?P<escape>\\.)|(?P<anchor>[\^$])|(?P<group>[()|])|(?P<plain>.)", re.DOTALL
)
_TIMES = re.compile(r"(?P<sign>[*+?])|\{(?P<low>\d+)(?P<comma>,(?P<high>\d*))?\}")
_CANDIDATES = "a0A_- .,:/@#é" + "".join(map(chr, range(33, 127)))


def text_for_pattern(pattern: str, min_length: int = 0) -> str | None:
    """Return a text that the pattern matches, or None where the pattern is too rich to say.

    Sets, escapes and counts are followed; groups, alternatives and look-arounds are not.

    >>> text_for_pattern("^[A-Z]{2}-[0-9]+$")
    'AA-0'
    """
    try:
        re.compile(pattern)
    except re.error:
        # JSON schemas speak another dialect, where other things are allowed.
        return None
    for repeats in (1, max(1, min_length)):
        text = _expand(pattern, repeats)
        if text is not None and len(text) >= min_length and re.search(pattern, text):
            return text
    return None


def _expand(pattern: str, repeats: int) -> str | None:
    """Write each atom out as often as it must stand; open-ended ones `repeats` times."""
    parts: list[str] = []
    position = 0
    while position < len(pattern):
        atom = _ATOM.match(pattern, position)
        if atom is None or atom["group"]:
            return None
        position = atom.end()
        if atom["anchor"]:
            continue
        times = _TIMES.match(pattern, position)
        count = 1
        if times:
            position = times.end()
            count = _count(times, repeats)
        character = next((c for c in _CANDIDATES if re.fullmatch(atom[0], c)), None)
        if character is None:
            return None
        parts.append(character * count)
    return "".join(parts)


def _count(times: re.Match[str], repeats: int) -> int:
    if times["sign"]:
        return repeats if times["sign"] in "*+" else 1
    low = int(times["low"])
    if times["comma"] is None:
        return low
    return max(low, min(repeats, int(times["high"]))) if times["high"] else max(low, repeats)
