"""Which label of a closed set a text means: by case, accents, punctuation, or one clear mention. Never by likeness."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

MAX_PROSE = 1_000
"""Characters; in a longer text a mention says nothing."""

_WRAPPING = " \t\r\n\"'`*_.,;:!?()[]{}<>«»“”‘’„#|\\"
_BULLET = re.compile(r"(?:[-•*–]\s+|\(?\w{1,2}[.):]\s+)")
_SEPARATORS = re.compile(r"(?<=\w)[\s_\-‐‑–]+(?=\w)")
# Words that stand in any sentence without meaning the label that has their name.
_EVERYDAY = re.compile(
    r"all|any|bad|both|each|either|false|general|good|many|n/a|neither|none|normal|not|null|open|others?|some|the|true|unknown"
    r"|yes|autres?|aucune?|faux|non|oui|rien|sans|tout|une|vrai|\w{1,2}|[\d.]+"
)
_NEGATION = re.compile(
    r"\b(?:not(?! (?:only|just|merely)\b)|no(?! doubt\b)|nor|neither|never|none|without|cannot|rather than|instead of"
    r"|other than|except|excluding|unlike|unable|impossible|unclear|unsure|uncertain|difficult|whether|hardly|barely"
    r"|ne|pas|ni|aucune?|jamais|sans(?! (?:aucun )?doute\b)|sauf|hormis|plutot que|au lieu de|non(?! seulement\b)"
    r"|difficile|incertaine?)\b|n't\b|\bn'"
)
_TURN = re.compile(
    r"\b(?:but|however|mais|cependant|toutefois|instead(?! of)|rather(?! than)|plutot(?! que)|therefore|donc)\b"
    r"|, (?:it|this|c'est|il s'agit|elle|cela)\b"
)
_DENIED_AFTER = re.compile(
    r"[\"'`*»”)\s]*(?:\w+\s+){0,2}?(?:(?:is|are|was|does|do|did|would|can|could|should|seems?)\s*(?:n't|not\b)|cannot\b|n'|ne\b"
    r"|(?:est|is|can be|peut etre) (?:excluded|ruled out|wrong|exclue?|faux|fausse))"
)
_NONE_FITS = re.compile(
    r"(?:\b(?:not|no|cannot|ne|none)\b|n't\b|\bn')[^.!?\n]{0,60}"
    r"\b(?:any|aucune?|of the|des|specific)\b[^.!?\n]{0,40}\b(?:categor|label|class|topic|option|theme|etiquette)"
)
# 'travel/music' with one of them no label: not decided. In quotes a name is meant as one, and only one exists.
_UNDECIDED = re.compile(r"[*]*/\w")
_UNDECIDED_BEFORE = re.compile(r"\w/$")
_QUOTED_BEFORE = re.compile(r"[\"'`«“](?:[\w ]+/)?\s*$")
_SENTENCE = re.compile(r"(?<=[.!?;])[\"'”»)]*\s+|\n+")


_SHORT = 3  # characters; a shorter part of a label may be anything


class LabelError(ValueError):
    """The text names no label, or more than one (`ambiguous`)."""

    def __init__(self, message: str, *, ambiguous: bool = False) -> None:
        super().__init__(message)
        self.ambiguous = ambiguous


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


def _without_accents(text: str) -> str:
    decomposed = unicodedata.normalize("NFKD", text.replace("’", "'"))
    return _plain("".join(char for char in decomposed if not unicodedata.combining(char)))


def _words(text: str) -> str:
    return _SEPARATORS.sub(" ", _without_accents(text)).strip(_WRAPPING)


_LEVELS: tuple[Callable[[str], str], ...] = (_plain, _without_accents, _words)


class Labels:
    """The labels that a field may have; `find` says which one a text means.

    >>> Labels(["billing", "delivery"]).find('**Billing.**')
    'billing'
    """

    def __init__(self, values: Sequence[Any]) -> None:
        self.values = tuple(dict.fromkeys(value for value in values if value is not None))
        self._exact = {str(value): value for value in self.values if not isinstance(value, bool)}
        self._exact.update({str(value).lower(): value for value in self.values if isinstance(value, bool)})

    @cached_property
    def _by_level(self) -> list[dict[str, list[Any]]]:
        tables: list[dict[str, list[Any]]] = []
        for level in _LEVELS:
            table: dict[str, list[Any]] = {}
            for name, value in self._exact.items():
                table.setdefault(level(name), []).append(value)
            tables.append(table)
        return tables

    @cached_property
    def _parts(self) -> dict[str, Any]:
        """The parts of labels such as 'science/technology', each with its label; a part of two labels is none."""
        wholes = {_words(name) for name in self._exact}
        found: dict[str, list[Any]] = {}
        for name, value in self._exact.items():
            for part in {_words(part) for part in name.split("/")} - wholes if "/" in name else ():
                found.setdefault(part, []).append(value)
        return {part: values[0] for part, values in found.items() if len(values) == 1 and len(part) > _SHORT}

    @cached_property
    def _mention(self) -> re.Pattern[str]:
        # The longest first: 'card payment' is no mention of 'card'.
        names = sorted({*map(_words, self._exact), *self._parts} - {""}, key=len, reverse=True)
        choices = "|".join(re.escape(name).replace(r"\ ", r"[\s_\-]+") for name in names)
        return re.compile(rf"(?<![\w])(?<!\w-)(?:{choices})(?![\w])(?!-\w)") if names else re.compile(r"(?!)")

    def find(self, text: str) -> Any:
        """Return the one label that the text means.

        Raises:
            LabelError: it names none, or several.
        """
        try:
            return self.find_exact(text)
        except LabelError as error:
            if error.ambiguous:
                raise
        if len(text) > MAX_PROSE:
            raise LabelError("it is too long to be a label")
        return self._mentioned(text)

    def find_exact(self, text: str) -> Any:
        """Return the label that the text is, but for case, accents, separators, punctuation around it or a bullet.

        Raises:
            LabelError: it is none, or it may be two.
        """
        if text in self._exact:
            return self._exact[text]
        if len(text) > MAX_PROSE:
            raise LabelError("it is too long to be a label")
        if "?" in text and not any("?" in name for name in self._exact):
            raise LabelError("it asks")
        bare = text.strip(_WRAPPING)
        without_bullet = _BULLET.sub("", text.strip(), count=1)
        for form in (text, bare, without_bullet, without_bullet.strip(_WRAPPING)):
            for level, table in zip(_LEVELS, self._by_level, strict=True):
                if found := table.get(level(form)):
                    if len(found) == 1:
                        return found[0]
                    raise LabelError(f"{text[:60]!r} may be {found[0]!r} or {found[1]!r}", ambiguous=True)
        raise LabelError(f"{text[:60]!r} is no label")

    def _mentioned(self, text: str) -> Any:
        folded = "\n".join(_without_accents(line) for line in text.splitlines())
        if _NONE_FITS.search(folded):
            raise LabelError("it says that no label fits")
        named: dict[str, Any] = {}
        in_passing: set[str] = set()
        denied = False
        for sentence in _SENTENCE.split(folded):
            for match in self._mention.finditer(sentence):
                name = _words(match[0])
                if _is_everyday(name) and not _stands_alone(match):
                    in_passing.add(name)
                    continue
                named.setdefault(name, self._parts.get(name))
                denied = denied or _is_denied(match)
        return self._only(named, in_passing, denied=denied)

    def _only(self, named: dict[str, Any], in_passing: set[str], *, denied: bool) -> Any:
        if not named:
            raise LabelError("it names no label")
        # Beside its whole label, or the other part of it, a part says nothing more.
        wholes = [value for name in named if name not in self._parts for value in self._by_level[-1][name]]
        name, *others = [name for i, name in enumerate(named) if not _repeats(named, i, wholes)]
        values = [self._parts[name]] if name in self._parts else self._by_level[-1][name]
        if _is_everyday(name):
            others += in_passing - {name}
        if others or len(values) > 1:
            raise LabelError(f"it names several labels: {', '.join([name, *others][:4])}")
        if denied:
            raise LabelError(f"it names {name!r}, but not as the answer")
        return values[0]


def _repeats(named: dict[str, Any], place: int, wholes: list[Any]) -> bool:
    values = list(named.values())
    return values[place] is not None and (values[place] in wholes or values[place] in values[:place])


def _is_everyday(name: str) -> bool:
    return _EVERYDAY.fullmatch(name) is not None


def _stands_alone(match: re.Match[str]) -> bool:
    """Tell whether the word is set off like an answer: first or behind a colon or quote, and followed by a stop."""
    before, after = match.string[: match.start()].rstrip(" "), match.string[match.end() :].lstrip(" ")
    if match[0].isdigit() and after[:1] in (".", ":", ","):
        return False
    return (not before or before[-1] in ":=\"'`*([«“") and (not after or after[0] in ".,;:!\"'`*)]»”")


def _is_denied(match: re.Match[str]) -> bool:
    sentence = match.string
    before, after = sentence[: match.start()], sentence[match.end() :]
    if sentence.rstrip().endswith("?") or _DENIED_AFTER.match(after):
        return True
    if not _QUOTED_BEFORE.search(before) and (_UNDECIDED.match(after) or _UNDECIDED_BEFORE.search(before)):
        return True
    cues = list(_NEGATION.finditer(before))
    return bool(cues) and not _TURN.search(before, cues[-1].end())
