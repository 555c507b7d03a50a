"""What an answer in a group must name, so that it can be told whose it is: an id, and the first words of its input."""

from __future__ import annotations

import hashlib
import re
from base64 import b32encode
from collections.abc import Sequence

from llmtasker.values.folding import caseless, letters

ANCHOR_WORDS = 6

# Scripts that put no spaces between words: Thai, Lao, Burmese, Khmer, Chinese, Japanese.
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u9fff\uf900-\ufaff\U0001b000-\U0001b2ff\U00020000-\U0003ffff"
)
_WORD = re.compile(rf"[{_UNSPACED}]{{1,2}}|[^\s{_UNSPACED}]+")
_LONGEST_WORD = 40
_OPENING = 600  # characters of an input in which an anchor is looked for
_TAG = re.compile(r"</?\w+>")


def ids_of(shown: Sequence[str]) -> list[str]:
    """Return an id for each text of a group: short, none twice, no count that could slip by one.

    They depend on all the texts of the group together, so that no text can hold an id that its group will have;
    the same group has the same ids in every run.

    >>> ids_of(["Bonjour", "Bonsoir"])
    ['i6na', '2uxx']
    """
    texts = "\0".join(shown).encode("utf-8", "surrogatepass")
    letters = b32encode(hashlib.shake_128(texts).digest(5 * (len(shown) + 8))).decode().lower()
    ids = dict.fromkeys(letters[at : at + 4] for at in range(0, len(letters), 4))
    return list(ids)[: len(shown)]


def anchor_of(shown: str) -> str:
    """Return the first words of a text, without tags; two letters count as a word where no spaces are written.

    >>> anchor_of("<message>Where is my parcel? I have waited for it</message>")
    'Where is my parcel? I have'
    """
    opening = _without_tags(shown)
    if opening.isascii():
        return " ".join(word[:_LONGEST_WORD] for word in opening.split(None, ANCHOR_WORDS)[:ANCHOR_WORDS])
    end = 0
    for number, word in enumerate(_WORD.finditer(opening)):
        if number == ANCHOR_WORDS:
            break
        end = min(word.end(), word.start() + _LONGEST_WORD)
    return opening[:end].strip()


def opening_of(shown: str) -> str:
    """Return the letters and digits of the beginning of a text: every anchor of it is a beginning of this."""
    return folded(_without_tags(shown))


def folded(text: str) -> str:
    """Return the letters and digits of a text, without case: what an LLM that copies may not change."""
    return letters(caseless(text))


def _without_tags(shown: str) -> str:
    # Several fields are shown between tags with their names, and an LLM may copy these or not.
    opening = shown[:_OPENING]
    return _TAG.sub(" ", opening) if "<" in opening else opening
