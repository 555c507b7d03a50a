"""attachment: the header that names a download."""

from __future__ import annotations

import re
from urllib.parse import quote

from llmtasker.values.folding import ascii_letters, composed
from llmtasker.values.lazy_pattern import lazy_pattern

_LONGEST = 100
_NOT_A_WORD = lazy_pattern(r"[^\w .()°’«»€,-]+")


def attachment(name: str, ending: str) -> dict[str, str]:
    """Return the headers of a download with a name and an ending.

    The name keeps its accents (RFC 5987: `filename*`); a client that does not know that form gets ASCII letters.
    Characters with a meaning in file systems or shells become hyphens.

    >>> print(attachment("Été : 10/26", "csv")["Content-Disposition"])
    attachment; filename="Ete - 10-26.csv"; filename*=UTF-8''%C3%89t%C3%A9%20-%2010-26.csv
    """
    kept = _NOT_A_WORD.sub("-", composed(name))[:_LONGEST].strip(" .-")
    plain = re.sub(" +", " ", ascii_letters(kept.replace("’", "'"))).strip(" .-")
    full, short = f"{kept or 'llmtasker'}.{ending}", f"{plain or 'llmtasker'}.{ending}"
    coded = "" if full == short else f"; filename*=UTF-8''{quote(full, safe='')}"
    return {"Content-Disposition": f'attachment; filename="{short}"{coded}'}
