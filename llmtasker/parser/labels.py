"""Which label of a closed set a text means, regardless of case, accents and punctuation, but never by similarity."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence, Set
from functools import cached_property
from typing import Any, NamedTuple

from llmtasker.parser.prose import CUE, NO_ANSWER, Statement, denies, objection, statement
from llmtasker.values.folding import caseless, letters, without_accents
from llmtasker.values.lazy_pattern import lazy_pattern

MAX_PROSE = 1_000
"""Characters; mentions in a longer text do not count."""

_WRAPPING = " \t\r\n\"'`*_.,;:!?()[]{}<>«»“”‘’„「」『』#|\\"
_BULLET = lazy_pattern(r"(?:[-•*–]\s+|\(?(?:\d{1,2}|\w)[.)]\s+)")
_SEPARATORS = lazy_pattern(r"(?<=\w)[\s_\-‐‑–]+(?=\w)")
_DECIMALS = lazy_pattern(r"\d+(?:\.\d+)?")
_BEFORE_UNIT = lazy_pattern(r"(?<=\d)\s+(?=[%€$£°])")
_SHORT = lazy_pattern(r"\w{1,2}|[\d.]+")
_LETTERS = lazy_pattern(r"[^\W\d]{1,2}")
_CODE = lazy_pattern(r"[^\W\d_]{1,4}[-.]?\d[\d.]*")  # 'P1', 'J45.0', which is not a word by chance
# Words that occur in any sentence without meaning the label with the same name.
_EVERYDAY = lazy_pattern(
    r"all|any|bad|both|each|either|false|general|good|many|n/a|neither|none|normal|not|null|open|others?|some|the|true"
    r"|unknown|yes|autres?|aucune?|faux|non|oui|rien|sans|tout|une|vrai"
)
_SENTENCE = lazy_pattern(r"(?<=[.!?;])[\"'”»)]*\s+|\n+")
_JOINED = lazy_pattern(r"[\s\"'`*)]*(?:[/&]|and|or|et|ou|und|oder)[\s\"'`*(]*(?:(?:the|an?|la|les?) )?")
_NOT_TICKED = lazy_pattern(r"^[ \t]*(?:[-*][ \t]+)?(?:\[ ?\]|\( ?\)|[☐□⬜])[^\n]*\n?", re.MULTILINE)
_TICKED = lazy_pattern(r"^[ \t]*(?:[-*][ \t]+)?(?:[\[(][xX✓✔][\])]|[☑☒✅✓✔])[ \t]*", re.MULTILINE)
_BOUND = lazy_pattern(r"\W*[<>≤≥≈~]\s*\d[^>]*$")
_BOUND_SIGNS = "<>≤≥≈~"
_STRUCK = lazy_pattern(r"^\s*(?:[!~]|¬\s?)\w|[≠≢≉∉∌]")
_BOX = lazy_pattern(r"\[ ?\]|\( ?\)|[☐□⬜]")
_CJK = r"\u3040-\u30ff\u3400-\u9fff"  # written without spaces: 'the answer is B' has none before the B
_BEGINS = rf"(?<![^\W{_CJK}])(?<!\w-)(?<!\d[.,])"
_ENDS = rf"(?![^\W{_CJK}])(?!-\w|[.,]\d)(?![\u200d\U0001f3fb-\U0001f3ff])"
_IDEOGRAPH = lazy_pattern(f"[{_CJK}]")
_PICTURE = r"\u2300-\u27bf\u2b00-\u2bff\u200d\ufe0f\U0001f000-\U0001faff"
_PICTURES = lazy_pattern(rf"^[\s{_PICTURE}]+(?=\w)|(?<=\w)[\s{_PICTURE}]+$")
_ONE_PICTURE = lazy_pattern(r"[\u2600-\u27bf\u2b00-\u2bff\U0001f000-\U0001f3fa\U0001f400-\U0001faff]")
_LETTER = lazy_pattern(r"[^\W\d_]")
_WORD = lazy_pattern(r"\w+")
_SHORTEST_PART = 4  # characters; a shorter part of a label may be anything
_YES_AND_NO = {"yes": True, "oui": True, "vrai": True, "no": False, "non": False, "faux": False}


class LabelError(ValueError):
    """The text names no label, or more than one (`ambiguous`)."""

    def __init__(self, message: str, *, ambiguous: bool = False) -> None:
        super().__init__(message)
        self.ambiguous = ambiguous


class _Mention(NamedTuple):
    """A label's name in a sentence, how clearly that states it as its answer, and whether it may deny it instead."""

    name: str
    stated: Statement
    denied: bool


def scalar_text(value: Any) -> str | None:
    """Return the text of a JSON scalar as JSON writes it, or None if it is not a scalar."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value) if isinstance(value, str | int | float) else None


def _plain(text: str) -> str:
    return " ".join(caseless(text).split())


def _unaccented(text: str) -> str:
    return " ".join(without_accents(text).split())


def fold_key(text: str) -> str:
    """Return the letters and digits of a key in one case, without accents: how two keys are compared."""
    return letters(without_accents(text))


def _separated(text: str) -> str:
    return _BEFORE_UNIT.sub("", _SEPARATORS.sub(" ", _unaccented(text)))


def _words(text: str) -> str:
    return _separated(text).strip(_WRAPPING)


class Labels:
    """The labels that a field may have; `find` returns the one that a text means.

    `names` are other names of labels, such as those of an Enum's members.

    >>> Labels(["billing", "delivery"]).find('**Billing.**')
    'billing'
    """

    def __init__(self, values: Sequence[Any], names: Mapping[str, Any] | None = None) -> None:
        distinct: dict[tuple[type, Any], Any] = {(type(value), value): value for value in values if value is not None}
        self.values = tuple(distinct.values())
        self._exact: dict[str, Any] = {}
        for value in self.values:
            text = scalar_text(value)
            self._exact.setdefault(str(value) if text is None else text, value)
        others = dict(names or {})
        if {type(value) for value in self.values} == {bool}:
            others |= {word: truth for word, truth in _YES_AND_NO.items() if truth in self.values}
        for name, value in others.items():
            self._exact.setdefault(name, value)

    @cached_property
    def _wrappings(self) -> tuple[str, str]:
        """Return the characters that can be stripped from the beginning and the end of a text and keep labels distinct.

        "C#" and "C" differ in their end, "<5" and ">5" in their beginning; 10 is not "<10".
        """
        groups: dict[str, list[tuple[str, str]]] = {}
        for name in self._exact:
            letters = _PICTURES.sub("", name).strip(_WRAPPING)
            before, _, after = name.partition(letters) if letters else (name, "", "")
            groups.setdefault(_words(letters), []).append((before, after))
        lone = [ends for several in groups.values() for ends in several if len(several) == 1]
        alike = [ends for several in groups.values() for ends in several if len(several) > 1]
        bounds = [(before, "") for words, several in groups.items() if words[:1].isdigit() for before, _ in several]
        alike += [ends for ends in bounds if ends[0].strip(_BOUND_SIGNS) != ends[0]]
        left, right = (
            {*_WRAPPING, *(char for ends in lone for char in ends[side] if not CUE.match(char))}
            - {char for ends in alike for char in ends[side] if not char.isspace()}
            for side in (0, 1)
        )
        return "".join(left), "".join(right)

    def _bare(self, text: str) -> str:
        left, right = self._wrappings
        return text.lstrip(left).rstrip(right)

    def _words(self, text: str) -> str:
        return self._bare(_separated(text))

    def _levels(self) -> tuple[Callable[[str], str], ...]:
        return (_plain, _unaccented, self._words)

    def __contains__(self, value: object) -> bool:
        return any(value == label and type(value) is type(label) for label in self.values)

    @cached_property
    def _by_level(self) -> list[dict[str, list[Any]]]:
        tables: list[dict[str, list[Any]]] = []
        for level in self._levels():
            table: dict[str, list[Any]] = {}
            for name, value in self._exact.items():
                found = table.setdefault(level(name), [])
                if value not in found:
                    found.append(value)
            tables.append(table)
        return tables

    @cached_property
    def _parts(self) -> dict[str, Any]:
        """The parts of labels such as 'science/technology', each with its label; a part of two labels is left out."""
        wholes = {self._words(name) for name in self._exact}
        found: dict[str, list[Any]] = {}
        for name, value in self._exact.items():
            for part in {self._words(part) for part in name.split("/")} - wholes if "/" in name else ():
                found.setdefault(part, []).append(value)
        return {part: values[0] for part, values in found.items() if len(values) == 1 and len(part) >= _SHORTEST_PART}

    @cached_property
    def _pictures(self) -> dict[str, list[Any]]:
        """The emoji in the names of labels, each with the labels that have it."""
        found: dict[str, list[Any]] = {}
        for name, value in self._exact.items():
            for char in filter(_ONE_PICTURE.match, name):
                found.setdefault(char, []).append(value)
        return found

    def _without_decoration(self, text: str) -> str:
        """Return a text without the emoji that labels have beside their words."""
        lone = {char for char in self._pictures if any(char in name for name in self._exact if not _WORD.search(name))}
        kept = (char for char in text if char not in self._pictures or char in lone)
        return "".join(kept) if self._pictures else text

    @cached_property
    def _mention(self) -> re.Pattern[str]:
        # The longest first: 'card payment' does not mention 'card'.
        names = sorted({*map(self._words, self._exact), *self._parts} - {""}, key=len, reverse=True)
        choices = [re.escape(name).replace(r"\ ", r"[\s_\-‐–]+") for name in names]
        # A label in such a script may be a part of another word.
        choices = [rf"(?<!\w){name}(?!\w)" if _IDEOGRAPH.search(name) else name for name in choices]
        begins, ends = _BEGINS, _ENDS
        if kept := re.escape("".join(set(_WRAPPING) - set(self._wrappings[0]))):
            begins += rf"(?<![{kept}])(?<![{kept}]\s)"
        if kept := re.escape("".join(set(_WRAPPING) - set(self._wrappings[1]))):
            ends += rf"(?!\s?[{kept}])"
        return re.compile(rf"{begins}(?:{'|'.join(choices)}){ends}") if names else re.compile(r"(?!)")

    @cached_property
    def _split_names(self) -> dict[str, set[str]]:
        return {name: words for name in self._by_level[-1] if len(words := set(name.split())) > 1}

    def find(self, text: str, field: str = "") -> Any:
        """Return the one label that the text means as the value of a field.

        Raises:
            LabelError: it names none, or several.
        """
        text = self._without_scale(text)
        try:
            found = self.find_exact(text)
        except LabelError as error:
            if error.ambiguous:
                raise
            if len(text) > MAX_PROSE:
                raise LabelError("it is too long to be a label") from None
            found = self._mentioned(text, field)
        if any(found not in self._pictures.get(char, (found,)) for char in text):
            raise LabelError("its emoji belongs to another label", ambiguous=True)
        return found

    def _without_scale(self, text: str) -> str:
        """Return a text in which a number of a scale stands alone: '4/5' and '4 out of 5' are 4 on a scale up to 5."""
        if len(self.values) < 2 or any(type(value) is not int for value in self.values):
            return text
        return re.sub(rf"(?<=\d)(?: ?/ ?| out of | sur | von ){max(self.values)}(?![\w.,/])", "", text)

    def find_beside(self, text: str, name: str) -> Any:
        """Return the label that stands beside the name of its field and nothing else, such as '4 stars'.

        Raises:
            LabelError: it is not one, or such words may also deny one ('no answer').

        >>> Labels([1, 2, 3]).find_beside("3 stars", "stars")
        3
        """
        if not name or len(text) > MAX_PROSE:
            raise LabelError("it stands beside no name")
        own = re.escape(name.removesuffix("s")).replace("_", r"[\s_-]") + "s?"
        if headed := re.fullmatch(rf"[*_\s]*{own}[*_\s]*[=:](?!=)\s*(.+)", text, re.IGNORECASE | re.DOTALL):
            return self.find_exact(headed[1])
        beside = re.fullmatch(
            rf"{own}\s+(.+)|(?:(?:the|la|le) |l['’])?(.+?)[\s_-]+{own}[\s.!]*", text, re.IGNORECASE | re.DOTALL
        )
        found = beside and (beside[1] or beside[2])
        is_word = not found or _EVERYDAY.fullmatch(_words(found)) or CUE.search(_unaccented(found))
        if not found or is_word or (beside and _LETTERS.fullmatch(beside[2] or "")):
            raise LabelError(f"{text[:60]!r} is not a label")
        return self.find_exact(found)

    def equal_to(self, number: float) -> list[str]:
        """Return the labels that are texts of a number: JSON does not distinguish 3.1 from 3.10."""
        return [name for name in self._exact if _DECIMALS.fullmatch(name) and float(name) == number]

    def find_exact(self, text: str) -> Any:
        """Return the label that equals the text, apart from case, accents, separators, a bullet or punctuation around
        it.

        Raises:
            LabelError: it is not a label, or it may be two.
        """
        if text in self._exact:
            return self._exact[text]
        if len(text) > MAX_PROSE:
            raise LabelError("it is too long to be a label")
        if "?" in text and not any("?" in name for name in self._exact):
            raise LabelError("it is a question")
        import html  # it loads all named characters, and is needed for odd answers only

        text = _ticked(html.unescape(text)).replace("\u2212", "-")
        if _STRUCK.search(text) and not any(_STRUCK.search(name) for name in self._exact):
            raise LabelError("it is struck out", ambiguous=True)
        if _BOUND.match(text) and text.strip(" *_`\"'.") not in self._exact:
            raise LabelError("it is a bound, not a number", ambiguous=True)
        bullet = _BULLET.match(text.strip())
        listed = bullet is not None and self._words(bullet[0]) not in self._by_level[-1]
        without_bullet = text.strip()[bullet.end() :] if bullet and listed else text
        for form in dict.fromkeys((text, self._bare(text), without_bullet, self._bare(without_bullet))):
            for level, table in zip(self._levels(), self._by_level, strict=True):
                if found := table.get(level(form)):
                    if len(found) == 1:
                        return found[0]
                    raise LabelError(f"{text[:60]!r} may be {found[0]!r} or {found[1]!r}", ambiguous=True)
        raise LabelError(f"{text[:60]!r} is not a label")

    def _mentioned(self, text: str, field: str) -> Any:
        lines = (_unaccented(line).replace("« ", "«").replace(" »", "»") for line in _ticked(text).splitlines())
        folded = self._without_decoration("\n".join(lines))
        # The name of the field means "label", unless a label has it.
        if len(own := self._words(field.replace("_", " "))) > 1 and not any(own in name for name in self._by_level[-1]):
            folded = re.sub(rf"(?<!\w){'[ _-]'.join(map(re.escape, own.split()))}(?!\w)", "label", folded)
        if reason := objection(folded):
            raise LabelError(reason)
        if (answer := NO_ANSWER.search(folded)) and self._words(answer["word"]) not in self._by_level[-1]:
            raise LabelError("it says that no label fits")
        mentions = [
            mention
            for place, sentence in enumerate(_SENTENCE.split(folded))
            for mention in self._mentions(sentence, first=place == 0)
        ]
        if not _LETTER.search(self._mention.sub("", folded)):
            self._values(mentions)  # nothing but labels: they have to be one
        if not mentions:
            raise LabelError("it names no label")
        clearest = max(one.stated for one in mentions)
        if not clearest:
            raise LabelError(f"it names {mentions[0].name!r}, but not as the answer")
        # A short name or an everyday word counts only where it is stated.
        counted = [one for one in mentions if one.stated == clearest or not _is_ordinary(one.name)]
        if clearest < Statement.ANSWER and all(_is_ordinary(one.name) for one in counted):
            counted += [one for one in mentions if _EVERYDAY.fullmatch(one.name) and not one.stated]
        return self._only(counted, folded)

    def _mentions(self, sentence: str, *, first: bool) -> list[_Mention]:
        spans: list[tuple[str, int, int]] = []
        for match in self._mention.finditer(sentence):
            name, (start, end) = self._words(match[0]), match.span()
            joined = spans and _JOINED.fullmatch(sentence, spans[-1][2], start)
            if joined and self._value(spans[-1][0]) == self._value(name):
                spans[-1] = (name, spans[-1][1], end)  # 'science or technology' is one label
            else:
                spans.append((name, start, end))
        found: list[_Mention] = []
        for name, start, end in spans:
            stated = statement(sentence, start, end, short=_is_short(name), first=first)
            if found and _JOINED.fullmatch(sentence, spans[len(found) - 1][2], start):
                stated = max(stated, found[-1].stated)  # 'the answer is A and B'
            found.append(_Mention(name, stated, not stated and denies(sentence, start)))
        return found

    def _value(self, name: str) -> list[Any]:
        return [self._parts[name]] if name in self._parts else self._by_level[-1][name]

    def _only(self, mentions: Sequence[_Mention], folded: str) -> Any:
        values = self._values(mentions)
        if any(one.denied for one in mentions):
            raise LabelError(f"it names {mentions[0].name!r}, but not as the answer")
        if (longer := self._longer({one.name for one in mentions}, folded)) is not None:
            raise LabelError(f"it may also mean {longer[:60]!r}")
        return values[0]

    def _values(self, mentions: Sequence[_Mention]) -> list[Any]:
        values: list[Any] = []
        for one in mentions:
            values += [value for value in self._value(one.name) if value not in values]
        if len(values) > 1:
            raise LabelError(f"it names several labels: {', '.join(dict.fromkeys(one.name for one in mentions))[:80]}")
        return values

    def _longer(self, named: Set[str], folded: str) -> str | None:
        """Return a label whose words are those of a named label and more, if the text has all of them."""
        words = _WORD.findall(folded)
        for shorter in (set(name.split()) for name in named):
            for name, parts in self._split_names.items():
                if shorter < parts and all(_begins_one(part, words) for part in parts - shorter):
                    return name
        return None


def _begins_one(part: str, words: Sequence[str]) -> bool:
    return any(word.startswith(part) for word in words)


def _ticked(text: str) -> str:
    """Return the ticked lines of a list of boxes, without the boxes; any other text unchanged.

    Raises:
        LabelError: no box is ticked, or a line has several boxes.
    """
    if "[" not in text and "(" not in text and text.isascii():
        return text
    without = _TICKED.sub("", _NOT_TICKED.sub("", text))
    if _BOX.search(without) or (not without.strip() and text.strip()):
        raise LabelError("it is not clear which box is ticked")
    return without


def _is_short(name: str) -> bool:
    return bool(_SHORT.fullmatch(name) or _CODE.fullmatch(name) or _EVERYDAY.fullmatch(name))


def _is_ordinary(name: str) -> bool:
    return bool(_SHORT.fullmatch(name) or _EVERYDAY.fullmatch(name)) and not _CODE.fullmatch(name)
