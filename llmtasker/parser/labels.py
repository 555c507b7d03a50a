"""Which label of a closed set a text means: by case, accents, punctuation, or one plain mention. Never by likeness."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

from llmtasker.parser.prose import affirms, denies, objection

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
        if reason := objection(folded):
            raise LabelError(reason)
        named: dict[str, Any] = {}
        in_passing: set[str] = set()
        affirmed = denied = False
        for place, sentence in enumerate(_SENTENCE.split(folded)):
            for match in self._mention.finditer(sentence):
                name = _words(match[0])
                if _is_everyday(name) and not _stands_alone(match):
                    in_passing.add(name)
                    continue
                named.setdefault(name, self._parts.get(name))
                affirmed = affirmed or affirms(match, first=place == 0)
                denied = denied or denies(match)
        return self._only(named, in_passing, meant=affirmed and not denied)

    def _only(self, named: dict[str, Any], in_passing: set[str], *, meant: bool) -> Any:
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
        if not meant:
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
