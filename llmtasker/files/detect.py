"""detect: the format of a file, checked against the whole file."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TypedDict, Unpack

from llmtasker.errors import ConfigurationError
from llmtasker.files import dialect
from llmtasker.files.compressed import unpacked
from llmtasker.files.encoding import SeenEncoding, decodes, open_text, seen_encoding
from llmtasker.files.format import Format, Kind, check_options, kind_of, typed
from llmtasker.values.json_values import is_object, parse_json
from llmtasker.values.lazy_pattern import lazy_pattern

_SAMPLE = 1 << 18
_SAMPLE_LINES = 1_000
_MAGIC: dict[bytes, tuple[str, Kind | None]] = {
    b"PK\x03\x04": ("an Excel or zip file", "excel"),
    b"PAR1": ("a Parquet file", "parquet"),
    b"\x1f\x8b": ("a gzip file without .gz in its name", None),
    b"%PDF": ("a PDF", None),
}
"""How files of other formats begin, and the format that reads them."""
_WHOLE = lazy_pattern(r"\[\s*(?:\{|$)|\{$")


class FormatOptions(TypedDict, total=False):
    """The parts of a format that may be given; the rest is detected in the file. The names are those of `Format`."""

    kind: Kind | None
    delimiter: str | None
    encoding: str | None
    decimal: str | None
    neutralised: bool
    header: int
    sheet: str | None


def detect(path: str | os.PathLike[str], **given: Unpack[FormatOptions]) -> Format:
    """Return the format of an existing file: the given parts, and the detected rest.

    The kind is detected by the extension; the encoding, and whether quotes enclose cells, from the whole file;
    delimiter (`;` `,` tab `|`), decimal mark and line end from its first 256 KB. Warns about unusual content: bytes of
    another encoding, quotes that are characters.

    Raises:
        ConfigurationError: the file can't be read, has another format than its name, or one for which an option means
            nothing.
    """
    file = Path(path)
    kind, encoding = given.get("kind"), given.get("encoding")
    seen = Format(
        kind=kind or kind_of(file),
        neutralised=given.get("neutralised", False),
        header=given.get("header", 1),
        sheet=given.get("sheet"),
    )
    check_readable(file)
    check_options(file, seen.kind, given)
    with unpacked(file) as place:
        _check_kind(file, seen.kind, check_readable(place))
        if seen.kind in {"parquet", "excel"}:
            return replace(seen, typed_by=str(file)) if seen.kind == "parquet" and place == file else seen
        found = SeenEncoding(encoding) if encoding else seen_encoding(place)
        seen = replace(seen, encoding=found.name, odd_bytes=found.odd_lines > 0)
        if encoding and not decodes(place, encoding):
            _warn_of_encoding(file, encoding, seen_encoding(place))
        if found.odd_lines:
            _warn_of_odd_bytes(file, found)
        if found.doubtful:
            warnings.warn(
                f"{file} is read as {found.name}, but its letters look strange in it; give its encoding if that is "
                "wrong, such as shift-jis, gb18030, cp1251 or mac-roman",
                stacklevel=2,
            )
        lines = _sample(place, seen)
        if seen.kind != "csv":
            return replace(seen, kind=kind or _json_kind(lines, seen.kind))
        seen = replace(seen, delimiter=typed(given.get("delimiter")) or dialect.seen_delimiter(lines))
        seen = replace(seen, newline=dialect.seen_newline(lines), quoted=_quoted(place, seen))
        if not seen.quoted:
            warnings.warn(f"{file}: quotes are read as characters: each line is a row without them", stacklevel=2)
        return replace(seen, decimal=given.get("decimal") or dialect.seen_decimal(lines, seen.delimiter))


def check_readable(file: Path) -> bytes:
    """Return the first bytes of a file.

    Raises:
        ConfigurationError: it does not exist, or it is a pipe, which can't be read twice.
    """
    try:
        if file.exists() and not file.is_file():
            raise ConfigurationError(f"{file} is a folder or a pipe; give a file")
        with file.open("rb") as opened:
            return opened.read(16)
    except OSError as error:
        raise ConfigurationError(f"can't read {file}: {error.strerror or error}") from error


def _warn_of_encoding(file: Path, given: str, seen: SeenEncoding) -> None:
    odd = " with some bytes of Windows-1252" if seen.odd_lines else ""
    warnings.warn(
        f"{file} is not all {given}, and rows with other bytes become errors; it looks like {seen.name}{odd}: omit "
        "the encoding to read it in that one",
        stacklevel=3,
    )


def _warn_of_odd_bytes(file: Path, found: SeenEncoding) -> None:
    lines = "line" if found.odd_lines == 1 else "lines"
    first = f"line {found.first_odd_line}" if found.odd_lines == 1 else f"the first is line {found.first_odd_line}"
    warnings.warn(
        f"{file} is {found.name}, but {found.odd_lines:,} {lines} ({first}) have other bytes, "
        "which are read as Windows-1252; give the encoding if that is wrong",
        stacklevel=3,
    )


def _check_kind(file: Path, kind: Kind, head: bytes) -> None:
    """Recognise a compressed file, or another format, before it becomes a thousand strange rows."""
    name, expected = {"excel": ("an Excel", b"PK\x03\x04"), "parquet": ("a Parquet", b"PAR1")}.get(kind, ("", b""))
    if not head.startswith(expected):
        raise ConfigurationError(f"{file} is not {name} file, in spite of its name, or it has a password")
    for start, (name, right) in _MAGIC.items():
        if start != expected and head.startswith(start):
            raise ConfigurationError(f"{file} is {name}, not {kind}.", give={"kind": right} if right else None)


def _sample(file: Path, seen: Format) -> list[str]:
    """Return the first lines from the header on, without one that the sample cuts."""
    lines: list[str] = []
    left = _SAMPLE
    newline = "\n" if _has_line_feed(file, seen) else ""
    with open_text(file, seen.encoding, newline=newline, odd_bytes=seen.odd_bytes) as text:
        while left > 0 and len(lines) < _SAMPLE_LINES and (line := text.readline(left)):
            lines.append(dialect.masked(line) if newline else line)
            left -= len(line)
    whole = lines[:-1] if left <= 0 and len(lines) > 1 else lines
    return whole[seen.header - 1 :]


def _has_line_feed(file: Path, seen: Format) -> bool:
    """Return whether the first line ends with a line feed, so that a carriage return in a line is part of a text."""
    with open_text(file, seen.encoding, newline="", odd_bytes=seen.odd_bytes) as text:
        return text.readline(_SAMPLE).endswith("\n")


def _quoted(file: Path, seen: Format) -> bool:
    newline = "" if seen.newline == "\r" else "\n"

    def lines() -> Iterable[str]:
        with open_text(file, seen.encoding, newline=newline, odd_bytes=seen.odd_bytes) as text:
            for number, line in enumerate(text, start=1):
                if number >= seen.header and not (number == seen.header and dialect.separator_line(line)):
                    yield line

    return dialect.seen_quotes(lines, seen.delimiter)


def _json_kind(lines: list[str], named: Kind) -> Kind:
    """Return the real format of a JSON file: many `.json` files contain JSON lines, and vice versa."""
    full = [line.strip() for line in lines if line.strip()]
    if named == "jsonl" and full:
        # No line of JSON lines begins like that: it is an array, or an object over several lines.
        return "json" if _WHOLE.match(full[0]) else "jsonl"
    try:
        return "jsonl" if len(full) > 1 and is_object(parse_json(full[0])) else named
    except (ValueError, RecursionError):
        return named
