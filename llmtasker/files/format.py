"""Format: how the rows of a file are written, detected in the file or given."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

from llmtasker.errors import ConfigurationError
from llmtasker.files.compressed import COMPRESSED
from llmtasker.files.encoding import check_encoding

Kind = Literal["csv", "jsonl", "json", "parquet", "excel"]

_KINDS: dict[str, Kind] = {
    ".csv": "csv", ".tsv": "csv", ".tab": "csv", ".txt": "csv",
    ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json",
    ".parquet": "parquet", ".pq": "parquet", ".xlsx": "excel", ".xlsm": "excel",
}  # fmt: skip

_KIND_NAMES: dict[Kind, str] = {
    "csv": "CSV", "jsonl": "JSON lines", "json": "JSON", "parquet": "Parquet", "excel": "an Excel workbook",
}  # fmt: skip
_APPLIES: dict[str, frozenset[Kind]] = {
    "delimiter": frozenset({"csv"}),
    "decimal": frozenset({"csv"}),
    "encoding": frozenset({"csv", "jsonl", "json"}),
    "header": frozenset({"csv", "excel"}),
    "sheet": frozenset({"excel"}),
}
"""The kinds of files that an option means something for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """How the rows of a file are written.

    `delimiter`, `quoted`, `decimal`, `newline` and `neutralised` apply to CSV; `encoding` and `odd_bytes` to CSV and
    JSON; `header` to CSV and Excel; `sheet` to Excel; `typed_by` to Parquet.

    Args:
        quoted: quotes enclose cells; False: they are characters of the texts.
        odd_bytes: bytes that are not in the encoding are read as Windows-1252.
        decimal: the decimal mark of numbers that are written; cells that are read stay texts.
        neutralised: an apostrophe precedes texts that a spreadsheet would read as a formula: it is added when
            writing and removed when reading. This can't be detected in a file, only given.
        header: the line (CSV) or row (Excel) with the names of the columns, counted from 1.
        sheet: the name or number of the sheet; None: the first visible one.
        typed_by: a Parquet file whose columns keep their types (decimals, time zones) in the output.
    """

    kind: Kind = "csv"
    delimiter: str = ","
    quoted: bool = True
    encoding: str = "utf-8"
    odd_bytes: bool = False
    decimal: str = "."
    newline: str = "\n"
    neutralised: bool = False
    header: int = 1
    sheet: str | None = None
    typed_by: str | None = None

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ConfigurationError(f"unknown kind of file {self.kind!r}; known kinds are {', '.join(get_args(Kind))}")
        if len(self.delimiter) != 1 or self.delimiter in '"\r\n':
            raise ConfigurationError(f"the delimiter must be one character, such as ';', not {self.delimiter[:20]!r}")
        if self.decimal not in {".", ","}:
            raise ConfigurationError(f"the decimal mark must be '.' or ',', not {self.decimal[:20]!r}")
        if self.header < 1:
            raise ConfigurationError(f"the header is a line counted from 1, not {self.header}")
        check_encoding(self.encoding)

    @property
    def no_rows(self) -> str:
        """What is wrong with a file of this format that has no rows."""
        return "has no rows" + ("" if self.header == 1 else f" below line {self.header}, which is read as its header")

    def __str__(self) -> str:
        if self.kind != "csv":
            return self.kind
        name = {"\t": "tab"}.get(self.delimiter, self.delimiter)
        quotes = "" if self.quoted else ", quotes as characters"
        return f"CSV, {self.encoding}, delimiter {name!r}{quotes}"


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
    """Return the format for an output file: the kind by its name, the rest as given, else as in `like` (the input).

    So the program that wrote the input can open the output. A name without a suffix, such as `/dev/stdout`,
    takes the kind of `like` too. Cells are enclosed in quotes where necessary.

    >>> office = Format(delimiter=";", encoding="cp1252", decimal=",", newline="\\r\\n")
    >>> output_format("out.csv", like=office) == office, output_format("out.jsonl", like=office).encoding
    (True, 'utf-8')

    Raises:
        ConfigurationError: the suffix of the name is unknown, or is that of a compressed file or a workbook with
        macros; or an option does not apply to the kind.
    """
    file = Path(path)
    if file.suffix.lower() in COMPRESSED:
        raise ConfigurationError(f"{file}: outputs are not compressed; leave out {file.suffix}")
    if file.suffix.lower() == ".xlsm":
        raise ConfigurationError(
            f"{file}: macros are not written, and Excel does not open .xlsm files without them; choose .xlsx"
        )
    if kind is None:
        kind = like.kind if like is not None and not file.suffix else kind_of(file, choice=False)
    check_options(file, kind, {"delimiter": delimiter, "encoding": encoding, "decimal": decimal})
    start = like if like is not None and like.kind == kind and kind in {"csv", "parquet"} else Format(kind=kind)
    if file.suffix.lower() in {".tsv", ".tab"}:
        start = replace(start, delimiter="\t")
    return replace(
        start,
        delimiter=typed(delimiter) or start.delimiter,
        encoding=encoding or start.encoding,
        decimal=decimal or start.decimal,
        neutralised=neutralised or start.neutralised,
        quoted=True,
        odd_bytes=False,
        header=1,
    )


def kind_of(file: Path, *, choice: bool = True) -> Kind:
    """Return the kind that the suffix of a name means; for a compressed file, the suffix before `.gz`.

    `choice` is whether the error may advise giving the kind.
    """
    ending = file.suffix.lower()
    if ending in COMPRESSED:
        ending = Path(file.stem).suffix.lower()
    if ending == ".xls":
        raise ConfigurationError(f"{file} is in Excel's old format; save it as .xlsx or .csv")
    if ending not in _KINDS:
        raise ConfigurationError(
            f"the name of {file} does not show its kind; known endings are {', '.join(_KINDS)}.",
            give={"kind": "csv"} if choice else None,
        )
    return _KINDS[ending]


def check_options(file: Path, kind: Kind, given: Mapping[str, object]) -> None:
    """Raise ConfigurationError for an option that means nothing for a kind of file: it may be meant for another."""
    for name, kinds in _APPLIES.items():
        if kind not in kinds and given.get(name) not in {None, 1}:
            raise ConfigurationError(
                f"{file} is {_KIND_NAMES[kind]}, for which {name} means nothing: leave it out, or give another file."
            )


def typed(delimiter: str | None) -> str | None:
    """Return a tab for what can be typed instead of it on a command line."""
    return "\t" if delimiter in {"\\t", "tab"} else delimiter
