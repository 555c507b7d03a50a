"""Nearest: the labels or examples that are nearest to a text, by character n-grams.

It serves the built-in baseline, the choice of examples and the shortlist of labels; nothing is downloaded.
"""

from __future__ import annotations

import math
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from operator import add
from zlib import crc32

from llmtasker.values.folding import without_accents
from llmtasker.values.lazy_pattern import lazy_pattern

_HEAD, _TAIL = 1_500, 500  # characters to read of a long text
_WORD_LENGTH = 40
_REMEMBERED_NUMBERS = 4_000_000  # of one task: about 16 MB
_REMEMBERED_WORDS = 20_000
_SKETCH = 4_096  # bits: few n-grams of a text share a bit

# Letters and digits, or a pictogram; "_" and a change of case separate the words of a name.
_WORDS = lazy_pattern(r"[^\W_]+|[\u2600-\u27bf\U0001f000-\U0001faff]")
_CAMEL = lazy_pattern(r"(?<=[a-z])(?=[A-Z])")


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighting:
    """The weights of n-grams.

    `shortest` and `longest` are their lengths in characters, where a space marks the edge of a word. The name and
    description of a label count as much as `name` examples. `common` is the remaining weight of an n-gram that all
    texts have; `damping` is an exponent, so that the unusual words of a single example do not dominate.
    """

    shortest: int = 2
    longest: int = 5
    name: float = 2.0
    common: float = 0.1
    damping: float = 0.75


BASELINE = Weighting()
# Measured on Banking77 and CLINC150, see benchmarks/shortlist.py: rare n-grams must not outweigh all others.
SHORTLIST = Weighting(shortest=3, common=2.0)
EXAMPLES = Weighting(shortest=3, common=1.0, name=0.5)


def words(text: str) -> list[str]:
    """Return the distinct words of a text in lower case without accents, in order; of a long text, its two ends.

    >>> words("Où est mon café ? OÙ ?")
    ['ou', 'est', 'mon', 'cafe']
    """
    if len(text) > _HEAD + _TAIL:
        text = f"{text[:_HEAD]} {text[-_TAIL:]}"
    return list(dict.fromkeys(word[:_WORD_LENGTH] for word in _WORDS.findall(without_accents(text))))


def name_words(name: str) -> str:
    """Return the name of a label as text: `cardPayment_fee` is three words."""
    return _CAMEL.sub(" ", name).replace("_", " ")


@lru_cache(maxsize=_REMEMBERED_WORDS)
def _grams(word: str, shortest: int, longest: int) -> tuple[str, ...]:
    text = f" {word} "
    size = len(text)
    grams = [
        text[start : start + length]
        for length in range(shortest, min(longest, size) + 1)
        for start in range(size - length + 1)
    ]
    return (*grams, text) if size > longest else tuple(grams)


class Nearest:
    """Scores labels by what their examples, names and descriptions have in common with a text.

    Each label is one vector: the TF-IDF vectors of its texts (sub-linear counts, unit length), summed, damped and
    brought to unit length again (Rocchio's centroid). A text is a set of words, so its score is a sum over its
    words: what each word adds to each label is computed once and remembered.

    Args:
        names: a text for each label: its name and description; may be empty.
        examples: texts, each with the positions of its labels.
        weighting: how n-grams count.
    """

    def __init__(
        self,
        names: Sequence[str],
        examples: Iterable[tuple[str, Sequence[int]]],
        weighting: Weighting = BASELINE,
    ) -> None:
        self._weighting = weighting
        texts: list[tuple[Counter[str], Sequence[int], float]]
        texts = [(_counts(name, weighting), [at], weighting.name) for at, name in enumerate(names)]
        texts += [(_counts(text, weighting), labels, 1.0) for text, labels in examples]
        seen = Counter(gram for counts, _, _ in texts for gram in counts)
        self._rarity = {
            gram: weighting.common + math.log((1 + len(texts)) / (1 + times)) for gram, times in seen.items()
        }
        sums: list[defaultdict[str, float]] = [defaultdict(float) for _ in names]
        for counts, labels, weight in texts:
            vector = _unit({gram: (1 + math.log(count)) * self._rarity[gram] for gram, count in counts.items()})
            for gram, value in vector.items():
                for label in labels:
                    sums[label][gram] += weight * value
        self._by_gram: defaultdict[str, list[tuple[int, float]]] = defaultdict(list)
        for label, vector in enumerate(sums):
            for gram, value in _unit({gram: value**weighting.damping for gram, value in vector.items()}).items():
                self._by_gram[gram].append((label, value))
        self._size = len(names)
        self._words: dict[str, array[float] | None] = {}
        self._room = min(_REMEMBERED_WORDS, max(100, _REMEMBERED_NUMBERS // max(1, self._size)))

    def scores(self, words: Iterable[str]) -> list[float]:
        """Return a score for each label, 0 if it has nothing in common with the words; higher is nearer."""
        total = [0.0] * self._size
        for word in words:
            given = self._words[word] if word in self._words else self._learn(word)
            if given is not None:
                total = list(map(add, total, given))
        return total

    def _learn(self, word: str) -> array[float] | None:
        """Compute the score that a word adds to each label, None for nothing."""
        given = array("f", bytes(4 * self._size))
        for gram in _grams(word, self._weighting.shortest, self._weighting.longest):
            rarity = self._rarity.get(gram, 0.0)
            for label, value in self._by_gram.get(gram, ()):
                given[label] += rarity * value
        known = given if any(given) else None
        if len(self._words) >= self._room:
            self._words = {}
        self._words[word] = known
        return known


def _counts(text: str, weighting: Weighting) -> Counter[str]:
    return Counter(gram for word in words(text) for gram in _grams(word, weighting.shortest, weighting.longest))


def grams(text: str) -> frozenset[str]:
    """Return the n-grams of a text, to compare it with others."""
    return frozenset(_counts(text, EXAMPLES))


def sketch(text: str) -> int:
    """Return the n-grams of a text as bits of a number, the same in every process: fast to compare, by `alike`."""
    found = 0
    for word in words(text):
        found |= _word_sketch(word)
    return found


def alike(one: int, other: int) -> float:
    """Return how much two sketches have in common, from 0 to 1 (the cosine of their n-grams).

    >>> round(alike(sketch("a parcel is late"), sketch("my parcel was late")), 1)
    0.8
    """
    return (one & other).bit_count() / (math.sqrt(one.bit_count() * other.bit_count()) or 1.0)


@lru_cache(maxsize=4_000)
def _word_sketch(word: str) -> int:
    found = 0
    for gram in _grams(word, EXAMPLES.shortest, EXAMPLES.longest):
        found |= 1 << crc32(gram.encode("utf-8", "replace")) % _SKETCH
    return found


def _unit(vector: dict[str, float]) -> dict[str, float]:
    length = math.sqrt(math.fsum(value * value for value in vector.values())) or 1.0
    return {gram: value / length for gram, value in vector.items()}
