"""What an error message repeats of the request: the words of a row are not evidence about the endpoint."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from llmtasker.values.json_values import as_list, is_object
from llmtasker.values.lazy_pattern import lazy_pattern
from llmtasker.wire.request import Request

_READ = 100_000  # characters of a message that are compared; an error message repeats its beginning
_WORD = lazy_pattern(r"\w+")
_RUN_OF_INPUT, _RUN = 3, 5  # words in sequence that can't be chance: of the input; of instructions and examples
_PIECES = lazy_pattern(r"\n|<[^<>]*>|:\s|\"")  # these separate the values of input fields
_IN_QUOTES = lazy_pattern(r"(?<!\w)['\"`«“](?=\w)[^'\"`»”\n]{3,}['\"`»”](?!\w)")


def without_echo(text: str, request: Request | None) -> str:
    """Return an error message without the words that it repeats of the request.

    Repeated is a whole value of the input, a run of words, or words in quotes.

    >>> from llmtasker.wire.request import Head, Settings
    >>> row = {"role": "user", "content": "My card has insufficient credit, what now?"}
    >>> without_echo("can't read 'insufficient credit'", Request(Head({}), [row], Settings(endpoint="e")))
    "can't read '…'"
    """
    if request is None or not text:
        return text
    inputs = [words for message in request.tail for words in _values(message)]
    others = [words for message in request.head.messages for words in _values(message)]
    known = {words for words in inputs if words}
    for values, size in ((inputs, _RUN_OF_INPUT), (others, _RUN)):
        for words in values:
            known.update(zip(*(words[start:] for start in range(size)), strict=False))
    found = [(match.start(), match.end(), match.group().lower()) for match in _WORD.finditer(text)]
    sequence = tuple(word for _, _, word in found)
    spans = [
        (found[start][0], found[start + size - 1][1])
        for size in {_RUN, _RUN_OF_INPUT, *(len(words) for words in known if len(words) < _RUN)}
        for start in range(len(sequence) - size + 1)
        if sequence[start : start + size] in known
    ]
    whole = f" {' '.join(' '.join(words) for words in inputs)} "
    for match in _IN_QUOTES.finditer(text):
        inside = [word.lower() for word in _WORD.findall(match.group())]
        if len(inside) > 1 and f" {' '.join(inside)} " in whole:
            spans.append((match.start() + 1, match.end() - 1))
    return _cut(text, spans)


def _values(message: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    parts = [part.get("text") if is_object(part) else part for part in as_list(message.get("content"))]
    for part in parts:
        for value in _PIECES.split(part[:_READ]) if isinstance(part, str) else ():
            yield tuple(word.lower() for word in _WORD.findall(value))


def _cut(text: str, spans: list[tuple[int, int]]) -> str:
    kept, at = list[str](), 0
    for start, end in sorted(spans):
        if start >= at:
            kept += [text[at:start], "…"]
        at = max(at, end)
    return "".join([*kept, text[at:]])
