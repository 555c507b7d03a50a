"""The language of a page: words as HTML, and the choice of the language by the browser."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup, escape

from llmtasker.values.language import CODES, Code, Count, Locale


@dataclass(frozen=True)
class PageLanguage(Locale):
    """A language whose words are HTML."""

    def text(self, words: str, **values: Any) -> Markup:
        """Return words of the page in this language as HTML; the values in it are escaped."""
        safe = {name: one if isinstance(one, Count) else escape(one) for name, one in values.items()}
        return Markup(super().text(words, **safe))  # noqa: S704 - own words


LANGUAGES: Mapping[str, PageLanguage] = {code: PageLanguage(code) for code in CODES}


def preferred(header: str) -> Code:
    """Return the language that a browser prefers (Accept-Language, RFC 9110), English if it names neither.

    >>> preferred("de, fr;q=0.8, en;q=0.5")
    'fr'
    """
    best: tuple[float, Code] = (0.0, "en")
    for part in header.split(",")[:20]:
        name, _, weight = part.strip().partition(";")
        found: Code | None = next((code for code in CODES if name.lower().partition("-")[0] == code), None)
        try:
            value = float(weight.strip().removeprefix("q=") or 1)
        except ValueError:
            value = 0.0
        if found is not None and value > best[0]:
            best = value, found
    return best[1]
