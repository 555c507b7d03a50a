"""Format: how the rows of a file are written, as it was seen in the file or given."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

from llmtasker.errors import ConfigurationError
from llmtasker.files import dialect
from llmtasker.files.encoding import check_encoding, open_text, seen_encoding
from llmtasker.values.json_values import parse_json

Kind = Literal["csv", "jsonl", "json", "parquet", "excel"]

_KINDS: dict[str, Kind] = {
    ".csv": "csv", ".tsv": "csv", ".tab": "csv", ".txt": "csv",
    ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json",
    ".parquet": "parquet", ".pq": "parquet", ".xlsx": "excel", ".xlsm": "excel",
}  # fmt: skip
_SAMPLE = 1 << 18
_SAMPLE_LINES = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """How the rows of a file are written.

    `delimiter`, `decimal`, `newline` and `neutralised` are of CSV only, `encoding` of CSV and JSON.
    `decimal` is the mark in the numbers that are written; what is read stays text as it stands.
    `neutralised` says that an apostrophe stands before what a spreadsheet would take for a formula: it is put
    there when writing and taken away when reading. No file tells this by itself: it is never seen, only given.
    """

    kind: Kind = "csv"
    delimiter: str = ","
    encoding: str = "utf-8"
    decimal: str = "."
    newline: str = "\n"
    neutralised: bool = False

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ConfigurationError(f"unknown kind of file {self.kind!r}; there are {', '.join(get_args(Kind))}")
        if len(self.delimiter) != 1 or self.delimiter in '"\r\n':
            raise ConfigurationError(f"the delimiter must be one character, as ';', not {self.delimiter[:20]!r}")
        if self.decimal not in {".", ","}:
            raise ConfigurationError(f"the decimal mark must be '.' or ',', not {self.decimal[:20]!r}")
        check_encoding(self.encoding)


def detect(
    path: str | os.PathLike[str],
    *,
    kind: Kind | None = None,
    delimiter: str | None = None,
    encoding: str | None = None,
    decimal: str | None = None,
    neutralised: bool = False,
) -> Format:
    """Return the format of a file that is there: what is given, and for the rest what is seen in it.

    The kind is seen from the ending of the name; the encoding from all bytes; delimiter (`;` `,` tab `|`),
    decimal mark and line end from the first 256 KB.

    Raises ConfigurationError when the file can't be read, or is not of its kind.
    """
    file = Path(path)
    seen = Format(kind=kind or _kind(file), neutralised=neutralised)
    _check_kind(file, seen.kind, check_readable(file))
    if seen.kind in {"parquet", "excel"}:
        return seen
    seen = replace(seen, encoding=encoding or seen_encoding(file))
    lines = _sample(file, seen.encoding)
    if seen.kind != "csv":
        return replace(seen, kind=kind or _json_kind(lines, seen.kind))
    seen = replace(seen, delimiter=_named(delimiter) or dialect.seen_delimiter(lines))
    decimal = decimal or dialect.seen_decimal(lines, seen.delimiter)
    return replace(seen, decimal=decimal, newline=dialect.seen_newline(lines))


def output_format(
    path: str | os.PathLike[str],
    like: Format | None = None,
    *,
    kind: Kind | None = None,
    delimiter: str | None = None,
    encoding: str | None = None,
    decimal: str | None = None,
    neutralised: bool = False,
) -> Format:
    """Return the format for a file to be written: kind by its name, the rest as given, else as in `like` (the input).

    So what came in as an office wrote it goes out as that office reads it.

    >>> office = Format(delimiter=";", encoding="cp1252", decimal=",", newline="\\r\\n")
    >>> output_format("out.csv", like=office) == office, output_format("out.jsonl", like=office).encoding
    (True, 'utf-8')

    Raises ConfigurationError for a name whose ending tells no kind.
    """
    file = Path(path)
    kind = kind or _kind(file)
    start = like if like is not None and like.kind == kind == "csv" else Format(kind=kind)
    if file.suffix.lower() in {".tsv", ".tab"}:
        start = replace(start, delimiter="\t")
    return replace(
        start,
        delimiter=_named(delimiter) or start.delimiter,
        encoding=encoding or start.encoding,
        decimal=decimal or start.decimal,
        neutralised=neutralised or start.neutralised,
    )


def check_readable(file: Path) -> bytes:
    """Return the first bytes of a file.

    Raises ConfigurationError where there is none, and for a pipe, which can't be read twice.
    """
    try:
        if file.exists() and not file.is_file():
            raise ConfigurationError(f"{file} is a folder or a pipe; give a file")
        with file.open("rb") as opened:
            return opened.read(16)
    except OSError as error:
        raise ConfigurationError(f"can't read {file}: {error.strerror or error}") from error


def _json_kind(lines: list[str], named: Kind) -> Kind:
    """Return what a JSON file is in truth: many a `.json` holds JSON lines, and the other way round."""
    full = [line.strip() for line in lines if line.strip()]
    if named == "jsonl" and full:
        return "json" if full[0] in {"[", "[{"} else "jsonl"
    try:
        return "jsonl" if len(full) > 1 and isinstance(parse_json(full[0]), dict) else named
    except (ValueError, RecursionError):
        return named


def _kind(file: Path) -> Kind:
    ending = file.suffix.lower()
    if ending == ".xls":
        raise ConfigurationError(f"{file} is in Excel's old format; save it as .xlsx or .csv")
    if ending not in _KINDS:
        raise ConfigurationError(
            f"can't tell what {file} is from its name; known are {', '.join(_KINDS)}, or give the kind: kind='csv'"
        )
    return _KINDS[ending]


def _check_kind(file: Path, kind: Kind, head: bytes) -> None:
    """Tell a packed file from a text file now, not as a thousand strange rows."""
    magic = {"excel": b"PK\x03\x04", "parquet": b"PAR1"}
    expected = magic.get(kind)
    if expected and not head.startswith(expected):
        raise ConfigurationError(f"{file} is no {kind} file, whatever its name says (or has a password)")
    names = {
        b"PK\x03\x04": "an Excel or zip file",
        b"PAR1": "a Parquet file",
        b"\x1f\x8b": "a gzip file",
        b"%PDF": "a PDF",
    }
    for start, name in names.items():
        if start != expected and head.startswith(start):
            raise ConfigurationError(f"{file} is {name}, not {kind}; unpack it, or give the right kind")


def _sample(file: Path, encoding: str) -> list[str]:
    """Return the first lines, without one that the sample cuts."""
    lines: list[str] = []
    left = _SAMPLE
    with open_text(file, encoding, newline="") as text:
        while left > 0 and len(lines) < _SAMPLE_LINES and (line := text.readline(left)):
            lines.append(line)
            left -= len(line)
    return lines[:-1] if left <= 0 and len(lines) > 1 else lines


def _named(delimiter: str | None) -> str | None:
    """Return a tab for what can be typed in its place on a command line."""
    return "\t" if delimiter in {"\\t", "tab"} else delimiter
