"""How several inputs are put in one message: each between tags with an id; its answer repeats id and anchor.

The anchor is the first words of the input. This file defines the format for writing such a message, answering it and
reading the answers.
"""

from __future__ import annotations

import hashlib
import re
from base64 import b32encode
from collections.abc import Sequence

from llmtasker.values.folding import caseless, letters
from llmtasker.values.json_schema import JsonSchema, expand
from llmtasker.values.lazy_pattern import lazy_pattern

ANCHOR_WORDS = 3
"""Each costs a token of the answer. Rows that start with the same ones are asked in different groups."""

ROW_TAGS, ROW_NAMES = 35, 45
"""Characters that a group adds for each row, as JSON text: to its message, and to its answer (id and anchor)."""

# Scripts that put no spaces between words: Thai, Lao, Burmese, Khmer, Chinese, Japanese.
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u9fff\uf900-\ufaff\U0001b000-\U0001b2ff\U00020000-\U0003ffff"
)
_WORD = lazy_pattern(rf"[{_UNSPACED}]{{1,2}}|[^\s{_UNSPACED}]+")
_LONGEST_WORD = 40
_OPENING = 600  # characters of an input in which an anchor is searched
_TAG = lazy_pattern(r"</?\w+>")
_BLOCK = lazy_pattern(r'<input id="([^"\n]*)">\n')
_BLOCK_END = "\n</input>"
_LIKE_A_BLOCK = lazy_pattern(r"<\s*/\s*input|<\s*input\s+id\s*=", re.IGNORECASE)


def write_blocks(ids: Sequence[str], shown: Sequence[str]) -> str:
    """Return inputs as one text, each between tags with its id."""
    return "\n".join(f'<input id="{id_}">\n{text}{_BLOCK_END}' for id_, text in zip(ids, shown, strict=True))


def read_blocks(text: str) -> dict[str, str]:
    """Return the inputs of a message by id; the first of two with the same id.

    >>> read_blocks(write_blocks(["i6na", "2uxx"], ["Bonjour", "Bonsoir"]))
    {'i6na': 'Bonjour', '2uxx': 'Bonsoir'}
    """
    found = list(_BLOCK.finditer(text))
    ends = [*(match.start() for match in found[1:]), len(text)]
    inputs: dict[str, str] = {}
    for match, end in zip(found, ends, strict=False):
        inside = text[match.end() : end]
        # The last closing tag is ours: an earlier one is part of the input.
        before, closed, _ = inside.rpartition(_BLOCK_END)
        inputs.setdefault(match[1], before if closed else inside)
    return inputs


def looks_like_blocks(text: str) -> bool:
    """Return whether a text contains the tags that divide the inputs of a group, or something that looks like them."""
    return "<" in text and _LIKE_A_BLOCK.search(text) is not None


def grouped_answers(schema: JsonSchema) -> tuple[str, JsonSchema] | None:
    """Return the field with the answers of a group, and the schema of one answer; None if there is none."""
    for name, node in expand(schema, schema).get("properties", {}).items():
        answer = expand(expand(node, schema).get("items"), schema)
        if "id" in answer.get("properties", {}):
            return name, answer
    return None


def ids_of(shown: Sequence[str]) -> list[str]:
    """Return an id for each text of a group: short, unique, and not a running number that could slip by one.

    They depend on all the texts of the group together, so that a text can't contain an id of its own group;
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
    'Where is my'
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
    """Return the letters and digits of a text, without case: the part that an LLM must copy unchanged."""
    return letters(caseless(text))


def _without_tags(shown: str) -> str:
    # Several fields are shown between tags with their names, and an LLM may copy these or not.
    opening = shown[:_OPENING]
    return _TAG.sub(" ", opening) if "<" in opening else opening
