"""Where in a text an answer may be: strict JSON, and the pieces of prose that look like JSON.

Nothing is repaired here, and the type is not known. All loops are bounded, because a text may be hostile.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from llmtasker.values.json_values import parse_json_at
from llmtasker.values.lazy_pattern import lazy_pattern

MAX_SCANNED = 200_000
"""Characters; a longer text is read only if it is JSON as a whole."""

MAX_DEPTH = 100
"""Nesting of brackets beyond which a text is not searched."""

MAX_PIECES = 200
"""The most bracketed pieces of a text that are examined."""

MAX_MARKS = 200_000
"""The most brackets and quotes to examine in one text, counted each time that they are."""

_STRING = lazy_pattern(r'"[^"\\]*+(?>(?:\\.[^"\\]*+)*)"', re.DOTALL)
_MARK = lazy_pattern(r'[{}\[\]"]')
# Plain strings are skipped together with the text between them.
_LOOSE_MARK = lazy_pattern(
    r"""(?>(?:(?:"[^"\\\n]*+"|(?:(?<=[{\[,:])|(?<=[{\[,:]\s))'[^'\\\n]*+')(?=\s*[:,}\]])[^{}\[\]"']*+)+)|[{}\[\]"']"""
)
_OPENING = lazy_pattern(r"[{\[]")
_LOOSE_END = {quote: lazy_pattern(rf"(?<!\\)(?:\\\\)*{quote}(?=\s*(?:[,:}}\]]|$))") for quote in "\"'"}
_BEFORE_SINGLE = ("{", "[", ",", ":")
_JSON_OPENING = lazy_pattern(r"""\{\s*(?:["'“}]|[^\W\d]\w*["']?\s*:|$)|\[\s*(?:["'“{\[\d\-\]]|true|false|null|$)""")
_FENCE = lazy_pattern(r"^[ \t]*(`{3,6}|~{3,6})[^\n`]*\n(.*?)^[ \t]*\1", re.DOTALL | re.MULTILINE)
_MORE_MEMBERS = lazy_pattern(r'[\s\]}]*,?\s*"[^"\n]*"\s*:|\s*,\s*"')
_CHECK_BOX = lazy_pattern(r"\[[ \t]\][ \t]*\w")  # a box of a Markdown list, not an empty array
_PAIRS = {"{": "}", "[": "]"}


class TooComplexError(ValueError):
    """The text is nested too deep, or has too many pieces, to be searched."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of the text in brackets: `text[start:end]`.

    `value` is its value if it is strict JSON (`parsed`). `fenced` is whether it is inside a closed code fence,
    `closed` whether its first bracket is closed; if not, it reaches to the end of the fence or text.
    """

    start: int
    text: str
    parsed: bool
    closed: bool
    fenced: bool = False
    value: Any = None
    flaw: str = ""


def fenced(text: str) -> list[str]:
    """Return the contents of the closed code fences."""
    return [match[2] for match in _FENCE.finditer(text)]


def open_brackets(text: str) -> str | None:
    """Return the brackets that would close a cut JSON text, or None where it is cut inside a string or is not JSON."""
    expected: list[str] = []
    index = 0
    while mark := _MARK.search(text, index):
        index = mark.end()
        if mark[0] == '"':
            string = _STRING.match(text, mark.start())
            if string is None:
                return None
            index = string.end()
        elif mark[0] in _PAIRS:
            expected.append(_PAIRS[mark[0]])
            if len(expected) > MAX_DEPTH:
                return None
        elif not expected or expected.pop() != mark[0]:
            return None
    return "".join(reversed(expected))


def pieces(text: str) -> Iterator[Piece]:
    """Yield the bracketed pieces of a text in order, the outermost only.

    Raises:
        TooComplexError: there are too many, or they are nested too deep.
    """
    scan = _Scan(text)
    index = 0
    while opening := _OPENING.search(text, index):
        piece = scan.piece(opening.start())
        if piece is None:
            index = opening.end()
        else:
            yield piece
            index = piece.start + len(piece.text)


def without_pieces(text: str, found: Sequence[Piece]) -> str:
    """Return a text with spaces in place of its pieces, so that the rest keeps its places."""
    for piece in found:
        end = piece.start + len(piece.text)
        text = text[: piece.start] + " " * len(piece.text) + text[end:]
    return text


class _Scan:
    """Scans the brackets of one text, with a limit on the work."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.fences = [match.span(2) for match in _FENCE.finditer(text)]
        self.pieces_left = MAX_PIECES
        self.marks_left = MAX_MARKS

    def piece(self, start: int) -> Piece | None:
        """Return the piece that begins with the bracket at `start`, or None if that is just prose."""
        if _CHECK_BOX.match(self.text, start):
            return None
        self.pieces_left -= 1
        if self.pieces_left < 0:
            raise TooComplexError(f"there are more than {MAX_PIECES} pieces in brackets")
        fence_end = next((end for begin, end in self.fences if begin <= start < end), None)
        in_fence = fence_end is not None
        try:
            value, end = parse_json_at(self.text, start)
        except RecursionError:
            raise TooComplexError("brackets are nested too deep") from None
        except json.JSONDecodeError:
            flaw = ""
        except ValueError as error:
            flaw = str(error)
        else:
            if not _MORE_MEMBERS.match(self.text, end):
                return Piece(start, self.text[start:end], parsed=True, closed=True, fenced=in_fence, value=value)
            flaw = ""
        region = self.text if fence_end is None else self.text[:fence_end]
        closing = self.closing(region, start, loose=True) or self.closing(region, start)
        # In prose, '[see above]' is not a list of strings.
        if not _JSON_OPENING.match(region, start) and (closing is None or region[:start].strip()):
            return None
        if closing is not None and not _MORE_MEMBERS.match(region, closing):
            return Piece(start, region[start:closing], parsed=False, closed=True, fenced=in_fence, flaw=flaw)
        # An extra or a missing bracket: up to the end, to be repaired.
        return Piece(
            start, region[start:].rstrip(), parsed=False, closed=closing is not None, fenced=in_fence, flaw=flaw
        )

    def closing(self, text: str, start: int, *, loose: bool = False) -> int | None:
        """Return the index after the bracket that closes the one at `start`, or None.

        Brackets in strings don't count. `loose` also knows single quotes, takes a quote as the end of a string only
        if JSON could continue after it (so quotes inside a string are recognised), and lets a bracket close those
        that were left open inside it.
        """
        expected: list[str] = []
        index = start
        while mark := (_LOOSE_MARK if loose else _MARK).search(text, index):
            self.marks_left -= 1
            if self.marks_left < 0:
                raise TooComplexError("there are too many brackets and quotes")
            char, index = mark[0], mark.end()
            if len(char) > 1 or (char == "'" and not _begins_single(text, mark.start())):
                continue
            if char in _PAIRS:
                expected.append(_PAIRS[char])
                if len(expected) > MAX_DEPTH:
                    raise TooComplexError(f"brackets are nested deeper than {MAX_DEPTH}")
            elif char in "\"'":
                string = _LOOSE_END[char].search(text, index) if loose else _STRING.match(text, mark.start())
                if string is None:
                    return None
                index = string.end()
            elif char in expected and (loose or expected[-1] == char):
                while expected.pop() != char:
                    pass
                if not expected:
                    return index
            elif not loose:
                return None
        return None


def _begins_single(text: str, start: int) -> bool:
    """Return whether a single quote begins a string and is not an apostrophe."""
    return text[max(0, start - 9) : start].rstrip()[-1:] in _BEFORE_SINGLE
