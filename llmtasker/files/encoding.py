"""Detect the encoding of a text file."""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from llmtasker.errors import ConfigurationError
from llmtasker.values.lazy_pattern import lazy_pattern

_BLOCK = 1 << 20
_HALF = "\udc0d"
_BOMS = (
    # UTF-32 first: its mark begins like that of UTF-16.
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_OUTSIDE_ASCII = bytes(range(0x80, 0x100))
_RUN = lazy_pattern(rb"[\x80-\xff]{3,}")
_ODD_BYTES = "llmtasker.windows-1252"


@dataclass(frozen=True, slots=True)
class SeenEncoding:
    """The encoding of a file, and the lines that are not valid in it: their invalid bytes are read as Windows-1252.

    `doubtful` is whether the text looks strange in it, as Japanese, Chinese or Russian texts do in Windows-1252.
    """

    name: str
    odd_lines: int = 0
    first_odd_line: int = 0
    doubtful: bool = False


def seen_encoding(path: Path) -> SeenEncoding:
    """Return the encoding of a file: by its byte order mark, else UTF-8, Windows-1252 or Latin-1.

    The whole file is checked (0.1 s for 100 MB): a file that is ASCII on its first thousand pages may have its first
    é on the next. If some lines are UTF-8 and fewer are not, as after a copy from another program, the file is UTF-8
    with odd bytes. Latin-1 accepts any byte, so there is always a result.
    """
    with path.open("rb") as file:
        head = file.read(4)
    for mark, encoding in _BOMS:
        if head.startswith(mark):
            return SeenEncoding(encoding)
    accented, odd, first = _lines_outside_ascii(path)
    if odd == 0 or accented > odd:
        return SeenEncoding("utf-8", odd, first)
    western = decodes(path, "cp1252")
    return SeenEncoding("cp1252" if western else "latin-1", doubtful=not western or _mostly_in_runs(path))


def _lines_outside_ascii(path: Path) -> tuple[int, int, int]:
    """Count the lines with UTF-8 characters outside ASCII, and the lines that are not UTF-8, with the first of
    these."""
    accented = odd = first = number = 0
    with path.open("rb") as file:
        while lines := file.readlines(_BLOCK):
            block = b"".join(lines)
            if not block.isascii():
                for place, line in enumerate(lines, start=number + 1):
                    if line.isascii():
                        continue
                    try:
                        line.decode()
                        accented += 1
                    except UnicodeDecodeError:
                        odd += 1
                        first = first or place
            number += len(lines)
    return accented, odd, first


def _mostly_in_runs(path: Path) -> bool:
    """Return whether most bytes outside ASCII follow each other; in Western texts, accented letters are isolated."""
    outside = in_runs = 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            outside += len(block) - len(block.translate(None, _OUTSIDE_ASCII))
            in_runs += sum(map(len, _RUN.findall(block)))
    return in_runs * 2 > outside


def decodes(path: Path, encoding: str) -> bool:
    """Return whether every byte of a file is valid in an encoding."""
    decoder = codecs.getincrementaldecoder(encoding)("strict")
    with path.open("rb") as file:
        try:
            while block := file.read(_BLOCK):
                decoder.decode(block)
            decoder.decode(b"", final=True)
        except UnicodeError:
            return False
    return True


def open_text(path: Path, encoding: str, newline: str, *, odd_bytes: bool = False) -> TextIO:
    """Open a file after its byte order mark, which not every name of an encoding skips.

    Bytes that are not in the encoding become U+FFFD; with `odd_bytes`, they are read as Windows-1252.

    Raises:
        ConfigurationError: the file can't be read in this encoding at all, such as UTF-16 without its mark.
    """
    text = path.open(encoding=encoding, errors=_ODD_BYTES if odd_bytes else "replace", newline=newline)
    try:
        if text.read(1) != "\ufeff":
            text.seek(0)
    except UnicodeError as error:
        text.close()
        raise ConfigurationError(f"{path} can't be read as {encoding}: {error}") from None
    return text


def _as_windows_1252(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    odd = error.object[error.start : error.end]
    # The five bytes that Windows-1252 does not define are read as the control characters of Latin-1.
    text = "".join(bytes([byte]).decode("cp1252", "replace").replace("\ufffd", chr(byte)) for byte in odd)
    return text, error.end


codecs.register_error(_ODD_BYTES, _as_windows_1252)


def check_encoding(encoding: str) -> None:
    """Raise ConfigurationError for a name that is not a text encoding, or is one that can represent half characters."""
    try:
        # Not codecs.lookup: `zip` and `rot13` are codecs too.
        _HALF.encode(encoding)
    except LookupError as error:
        raise ConfigurationError(f"unknown encoding {encoding[:40]!r}; try 'utf-8', 'cp1252' or 'utf-16'") from error
    except UnicodeError:  # as it should be
        return
    raise ConfigurationError(
        f"{encoding[:40]} can represent half characters, which rows can't; save the file as 'utf-8'"
    )
