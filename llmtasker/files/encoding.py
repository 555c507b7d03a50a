"""Which encoding the bytes of a text file are in."""

from __future__ import annotations

import codecs
from pathlib import Path
from typing import TextIO

from llmtasker.errors import ConfigurationError

_BLOCK = 1 << 20
_BOMS = (
    # UTF-32 first: its mark begins like that of UTF-16.
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def seen_encoding(path: Path) -> str:
    """Return the encoding of a file: as its byte order mark says, else UTF-8, Windows-1252 or Latin-1.

    The whole file is checked (0.1 s for 100 MB), for a file that is ASCII on its first thousand pages
    may hold its first é on the next. Latin-1 takes any byte, so there is always an answer.
    """
    with path.open("rb") as file:
        head = file.read(4)
    for mark, encoding in _BOMS:
        if head.startswith(mark):
            return encoding
    return next(encoding for encoding in ("utf-8", "cp1252", "latin-1") if decodes(path, encoding))


def decodes(path: Path, encoding: str) -> bool:
    """Tell whether every byte of a file is valid in an encoding."""
    decoder = codecs.getincrementaldecoder(encoding)("strict")
    with path.open("rb") as file:
        try:
            while block := file.read(_BLOCK):
                decoder.decode(block)
            decoder.decode(b"", final=True)
        except UnicodeError:
            return False
    return True


def open_text(path: Path, encoding: str, newline: str) -> TextIO:
    """Open a file after its byte order mark, which not every name of an encoding skips; odd bytes become U+FFFD."""
    text = path.open(encoding=encoding, errors="replace", newline=newline)
    if text.read(1) != "\ufeff":
        text.seek(0)
    return text


def check_encoding(encoding: str) -> None:
    """Raise ConfigurationError for a name that is no encoding of text."""
    try:
        # Not codecs.lookup: `zip` and `rot13` are codecs too.
        "".encode(encoding)
    except LookupError as error:
        raise ConfigurationError(f"unknown encoding {encoding[:40]!r}; try 'utf-8', 'cp1252' or 'utf-16'") from error
