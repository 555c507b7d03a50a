"""Give the French pages of the documentation site the apostrophes and no-break spaces of French, as the web page has.

Usage: python tests/typeset_site.py site/fr
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from llmtasker.values.language import typeset

_APART = re.compile(
    r"(<(?:pre|code|script|style|head)\b.*?</(?:pre|code|script|style|head)>|<[^>]*>|&#?\w+;)", re.DOTALL
)
"""What is left as it is: code, the head of the page, tags, entities."""
_THOUSANDS = re.compile(r"(?<=\d) (?=\d{3}\b)")


def typeset_html(html: str) -> str:
    """Return a page with its texts set as French is."""
    pieces = _APART.split(html)
    return "".join(
        piece if place % 2 else _THOUSANDS.sub("\u202f", typeset(piece)) for place, piece in enumerate(pieces)
    )


if __name__ == "__main__":
    for path in Path(sys.argv[1]).rglob("*.html"):
        path.write_text(typeset_html(path.read_text(encoding="utf-8")), encoding="utf-8")
